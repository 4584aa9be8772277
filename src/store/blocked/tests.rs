//! Who waits, who is served, and with what.

use crate::store::crowd::{Crowd, check};

#[test]
fn the_longest_waiting_is_served_first() {
    check(&[
        ("a blpop k 0", "", ""),
        ("b brpop k 0", "", ""),
        ("c rpush k 1 2 3", ":3", "a: *2 $1 k $1 1 / b: *2 $1 k $1 3"),
        ("c lrange k 0 -1", "*1 $1 2", ""),
        ("a blpop none k 0", "*2 $1 k $1 2", ""),
        ("c exists k", ":0", ""),
        ("a blpop x y 0", "", ""),
        ("b blpop y x 0", "", ""),
        ("c rpush y 1", ":1", "a: *2 $1 y $1 1"),
        ("c rpush y 2", ":1", "b: *2 $1 y $1 2"),
    ]);
}

#[test]
fn any_way_of_making_a_key_wakes() {
    for (before, make) in [
        ("rpush o e", "rename o k"),
        ("rpush o e", "renamenx o k"),
        ("rpush o e", "copy o k"),
        ("rpush o e", "lmove o k left left"),
        ("rpush o e", "rpoplpush o k"),
        ("ping", "lpush k e"),
    ] {
        let mut crowd = Crowd::new(3);
        crowd.run(0, "blpop k 0");
        crowd.run(1, before);
        assert!(crowd.heard().is_empty());
        crowd.run(1, make);
        assert_eq!(crowd.heard(), ["a: *2 $1 k $1 e"], "{make}");
    }
    check(&[
        ("a select 1", "+OK", ""),
        ("a blpop k 0", "", ""),
        ("b lpush k e", ":1", ""),
        ("b move k 1", ":1", "a: *2 $1 k $1 e"),
        ("a blpop k 0", "", ""),
        ("b lpush k e", ":1", ""),
        ("b swapdb 0 1", "+OK", "a: *2 $1 k $1 e"),
    ]);
}

#[test]
fn served_after_the_whole_command_or_transaction() {
    check(&[
        ("a blpop k 0", "", ""),
        ("b multi", "+OK", ""),
        ("b lpush k x", "+QUEUED", ""),
        ("b del k", "+QUEUED", ""),
        ("b exec", "*2 :1 :1", ""),
        ("b multi", "+OK", ""),
        ("b lpush k x", "+QUEUED", ""),
        ("b set k s", "+QUEUED", ""),
        ("b exec", "*2 :1 +OK", ""),
        ("b del k", ":1", ""),
        ("b multi", "+OK", ""),
        ("b lpush k x", "+QUEUED", ""),
        ("b lpush k y", "+QUEUED", ""),
        ("b exec", "*2 :1 :2", "a: *2 $1 k $1 y"),
    ]);
}

#[test]
fn other_types_serve_nobody_and_are_refused_at_first() {
    check(&[
        ("a blpop k 0", "", ""),
        ("b set k v", "+OK", ""),
        ("c blpop k 0", "-WRONGTYPE Operation against a key holding the wrong kind of value", ""),
        ("b del k", ":1", ""),
        ("c bzpopmin k 0", "", ""),
        ("b zadd k 1 m", ":1", "c: *3 $1 k $1 m $1 1"),
        ("b rpush k e", ":1", "a: *2 $1 k $1 e"),
    ]);
}

#[test]
fn moves_wake_the_next() {
    check(&[
        ("a blmove k l right left 0", "", ""),
        ("b brpoplpush l m 0", "", ""),
        ("c blpop m 0", "", ""),
        ("d lpush k e", ":1", "a: $1 e / b: $1 e / c: *2 $1 m $1 e"),
        ("a blmove k s left left 0", "", ""),
        ("d set s v", "+OK", ""),
        (
            "d rpush k 1",
            ":1",
            "a: -WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("d llen k", ":1", ""),
    ]);
}

#[test]
fn members_and_counts() {
    check(&[
        ("a bzpopmax z 0", "", ""),
        ("b bzmpop 0 2 y z min count 2", "", ""),
        (
            "c zadd z 1 one 2 two 3 three",
            ":3",
            "a: *3 $1 z $5 three $1 3 / b: *2 $1 z *2 *2 $3 one $1 1 *2 $3 two $1 2",
        ),
        ("a blmpop 0 2 x l right count 2", "", ""),
        ("c rpush l 1 2 3", ":3", "a: *2 $1 l *2 $1 3 $1 2"),
        (
            "a hello 3",
            "%7 $6 server $5 redis $7 version $5 7.4.0 $5 proto :3 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0",
            "",
        ),
        ("a bzpopmin z 0", "", ""),
        ("c zadd z 1.5 m", ":1", "a: *3 $1 z $1 m ,1.5"),
    ]);
}

#[test]
fn nothing_waits_where_it_may_not() {
    check(&[
        ("a multi", "+OK", ""),
        ("a blpop k 0", "+QUEUED", ""),
        ("a blmove k l left left 0", "+QUEUED", ""),
        ("a bzpopmin k 0", "+QUEUED", ""),
        ("a wait 1 0", "+QUEUED", ""),
        ("a exec", "*4 *-1 $-1 *-1 :0", ""),
        ("a blpop k 0", "", ""),
    ]);
    let mut crowd = Crowd::new(1);
    crowd.sessions.push(crate::store::Session::new(9));
    assert_eq!(crowd.run(1, "blpop k 0"), "*-1");
}

#[test]
fn time_ends_a_wait() {
    check(&[
        ("a blpop k 0.25", "", ""),
        ("b blmove k l left left 0.25", "", ""),
        ("c wait 1 250", "", ""),
        ("d waitaof 0 1 250", "", ""),
        ("+249", "", ""),
        ("+250", "", "a: *-1 / b: *-1 / c: :0 / d: *2 :0 :0"),
        ("a rpush k 1", ":1", ""),
        ("a wait 0 10", ":0", ""),
    ]);
}

#[test]
fn time_outs_are_checked() {
    check(&[
        ("a blpop k x", "-ERR timeout is not a float or out of range", ""),
        ("a blpop k -1", "-ERR timeout is negative", ""),
        ("a blpop k 1e300", "-ERR timeout is out of range", ""),
        ("a blpop k inf", "-ERR timeout is out of range", ""),
        ("a bzpopmin k -0.1", "-ERR timeout is negative", ""),
        ("a blmpop -1 1 k left", "-ERR timeout is negative", ""),
        ("a blmpop 1 0 k left", "-ERR numkeys should be greater than 0", ""),
        ("a blmpop 1 1 k middle", "-ERR syntax error", ""),
        ("a wait x 1", "-ERR value is not an integer or out of range", ""),
        ("a wait 1 -1", "-ERR timeout is negative", ""),
        ("a waitaof 2 0 0", "-ERR value is out of range, must be between 0 and 1", ""),
        (
            "a waitaof 1 0 0",
            "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            "",
        ),
    ]);
}

#[test]
fn waits_are_ended_by_others() {
    check(&[
        ("a blpop k 0", "", ""),
        ("b client unblock 1", ":1", "a: *-1"),
        ("a blpop k 0", "", ""),
        ("b client unblock 1 error", ":1", "a: -UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        ("b client unblock 1", ":0", ""),
        ("b client unblock 99", ":0", ""),
        ("b client unblock x", "-ERR value is not an integer or out of range", ""),
        ("b client unblock 1 what", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR", ""),
    ]);
}

#[test]
fn a_client_that_goes_leaves_its_element_to_the_next() {
    let mut crowd = Crowd::new(3);
    crowd.check(&[("a blpop k l 0", "", ""), ("b blpop k 0", "", "")]);
    let mut gone = crowd.sessions[0].clone();
    crowd.store.abandon(&mut gone);
    crowd.check(&[("c rpush k 1", ":1", "b: *2 $1 k $1 1")]);
    assert!(crowd.store.instance.blocked.is_empty());
    assert_eq!(crowd.store.instance.blocked.key_count(), 0);
    assert!(crowd.store.instance.attention.is_empty());
}

#[test]
fn replies_that_nobody_wants_take_the_element_all_the_same() {
    check(&[
        ("a client reply skip", "", ""),
        ("a blpop k 0", "", ""),
        ("b rpush k 1 2", ":2", "a:"),
        ("a blpop k 0", "*2 $1 k $1 2", ""),
    ]);
}

#[test]
fn a_pause_holds_commands_until_it_ends() {
    check(&[
        ("b client pause 100 write", "+OK", ""),
        ("a get k", "$-1", ""),
        ("a set k v", "", ""),
        ("c multi", "+OK", ""),
        ("c get k", "+QUEUED", ""),
        ("c exec", "*1 $-1", ""),
        ("b client unpause", "+OK", "a:"),
        ("a set k v", "+OK", ""),
        ("b client pause 100", "+OK", ""),
        ("a get k", "", ""),
        ("b get k", "", ""),
        ("+100", "", "a: / b:"),
        ("a get k", "$1 v", ""),
        ("b client pause -1", "-ERR timeout is negative", ""),
        ("b client pause x", "-ERR timeout is not an integer or out of range", ""),
        ("b client pause 1 some", "-ERR syntax error", ""),
    ]);
}

#[test]
fn a_transaction_that_writes_waits_for_the_pause() {
    check(&[
        ("a multi", "+OK", ""),
        ("a set k v", "+QUEUED", ""),
        ("b client pause 100 write", "+OK", ""),
        ("a exec", "", ""),
        ("b client unblock 1", ":0", ""),
        ("+100", "", "a:"),
        ("a exec", "*1 +OK", ""),
    ]);
}

#[test]
fn readers_of_streams() {
    check(&[
        ("a xread block 0 streams s $", "", ""),
        ("b xread block 0 count 1 streams t s 0 0", "", ""),
        (
            "c xadd s 1-1 f v",
            "$3 1-1",
            "a: *1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v / b: *1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v",
        ),
        ("a xread block 0 streams s $", "", ""),
        ("c xread block 0 streams s 9", "", ""),
        ("b xadd s 2-1 f w", "$3 2-1", "a: *1 *2 $1 s *1 *2 $3 2-1 *2 $1 f $1 w"),
        ("b del s", ":1", ""),
        ("b xadd s 9-1 f x", "$3 9-1", "c: *1 *2 $1 s *1 *2 $3 9-1 *2 $1 f $1 x"),
        ("a xread block x streams s $", "-ERR timeout is not an integer or out of range", ""),
        ("a xread block -1 streams s $", "-ERR timeout is negative", ""),
        ("a multi", "+OK", ""),
        ("a xread block 0 streams s $", "+QUEUED", ""),
        ("a exec", "*1 *-1", ""),
    ]);
}

#[test]
fn consumers_of_groups() {
    let no_group = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    check(&[
        ("c xgroup create s g $ mkstream", "+OK", ""),
        ("a xreadgroup group g me block 0 streams s >", "", ""),
        ("b xreadgroup group g you block 0 streams s >", "", ""),
        ("c xadd s 1-1 f v", "$3 1-1", "a: *1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v"),
        ("c xadd s 2-1 f w", "$3 2-1", "b: *1 *2 $1 s *1 *2 $3 2-1 *2 $1 f $1 w"),
        ("c xpending s g - + 9 you", "*1 *4 $3 2-1 $3 you :0 :1", ""),
        ("a xreadgroup group g me block 0 streams s 0", "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 f $1 v", ""),
        ("a xreadgroup group g me block 0 streams s >", "", ""),
        ("c xgroup destroy s g", ":1", &format!("a: {no_group}")),
        ("c xgroup create s g $", "+OK", ""),
        ("a xreadgroup group g me block 0 streams s >", "", ""),
        ("c del s", ":1", &format!("a: {no_group}")),
        ("c xgroup create s g $ mkstream", "+OK", ""),
        ("a xreadgroup group g me block 0 streams s >", "", ""),
        (
            "c set s v",
            "+OK",
            "a: -WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ]);
}

/// A client of a primary that became a replica waited for ever: nobody can write there any more.
#[test]
fn nobody_waits_at_a_store_that_becomes_a_replica() {
    let ended = "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
    let mut crowd = Crowd::new(3);
    crowd.check(&[
        ("a blpop l 0", "", ""),
        ("b wait 1 0", "", ""),
        ("c replicaof 127.0.0.1 1", "+OK", &format!("a: {ended} / b: {ended}")),
        ("a get k", "$-1", ""),
        ("c slaveof no one", "+OK", ""),
        ("b rpush l x", ":1", ""),
        ("a blpop l 0", "*2 $1 l $1 x", ""),
    ]);
}
