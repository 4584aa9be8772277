//! What listeners to keyspace events hear.

use super::Classes;
use crate::store::crowd::Crowd;

#[test]
fn flags_are_read_and_shown() {
    for (text, shown) in [
        ("KEA", Some("AKE")),
        ("KEg$lshzxetd", Some("AKE")),
        ("Kx", Some("xK")),
        ("AKEmn", Some("AnKEm")),
        ("", Some("")),
        ("q", None),
    ] {
        let read = Classes::parse(text.as_bytes()).map(Classes::text);
        assert_eq!(read.as_deref(), shown.map(str::as_bytes), "{text}");
    }
}

/// The events of a line, after others; `name key` each.
fn events(before: &[&str], line: &str) -> String {
    let mut crowd = Crowd::new(2);
    crowd.run(0, "psubscribe __keyevent@*");
    for line in before {
        crowd.run(1, line);
    }
    crowd.run(1, "config set notify-keyspace-events EAn");
    crowd.run(1, line);
    let told = crowd.heard();
    let named = told.iter().map(|message| {
        let words: Vec<&str> = message.split(' ').collect();
        let event = words[words.len() - 3].rsplit("__:").next().unwrap_or_default();
        format!("{event} {}", words[words.len() - 1])
    });
    named.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_change_is_told() {
    for (before, line, told) in [
        (&[][..], "set k v", "new k, set k"),
        (&[], "set k v ex 10", "new k, set k, expire k"),
        (&["set k v"], "setex k 10 v", "set k, expire k"),
        (&["set k v"], "set k w", "set k"),
        (&["set k v"], "setnx k w", ""),
        (&[], "mset a 1 b 2", "new a, set a, new b, set b"),
        (&["set k v"], "append k w", "append k"),
        (&[], "incr n", "new n, incrby n"),
        (&[], "decrby n 3", "new n, incrby n"),
        (&["set k v"], "getdel k", "del k"),
        (&["set k v"], "getex k ex 5", "expire k"),
        (&["set k v ex 9"], "getex k persist", "persist k"),
        (&["set a 1", "set c 1"], "del a b c", "del a, del c"),
        (&["set k v"], "expire k 10", "expire k"),
        (&["set k v"], "expire k -1", "del k"),
        (&["set k v ex 9"], "persist k", "persist k"),
        (&["set a 1"], "rename a b", "rename_from a, new b, rename_to b"),
        (&["set a 1"], "move a 3", "move_from a, new a, move_to a"),
        (&["set a 1"], "copy a b", "new b, copy_to b"),
        (&[], "lpush l a b", "new l, lpush l"),
        (&["rpush l a"], "rpushx l b", "rpush l"),
        (&["rpush l a b"], "lpop l", "lpop l"),
        (&["rpush l a"], "rpop l", "rpop l, del l"),
        (&["rpush l a"], "blpop x l 0", "lpop l, del l"),
        (&["rpush l a"], "lmpop 2 x l left", "lpop l, del l"),
        (&["rpush l a"], "lmove l m left right", "new m, rpush m, lpop l, del l"),
        (&["rpush l a b"], "rpoplpush l m", "new m, lpush m, rpop l"),
        (&["rpush l a"], "lrem l 0 a", "lrem l, del l"),
        (&["sadd s a"], "spop s", "spop s, del s"),
        (&["sadd s a"], "srem s b", ""),
        (&["sadd s a"], "smove s t a", "srem s, del s, new t, sadd t"),
        (&["sadd s a", "sadd t a"], "sinterstore u s t", "new u, sinterstore u"),
        (&["sadd s a", "sadd u a"], "sinterstore u s none", "del u"),
        (&[], "hset h f v", "new h, hset h"),
        (&["hset h f v"], "hdel h f", "hdel h, del h"),
        (&[], "hincrby h f 1", "new h, hincrby h"),
        (&[], "zadd z 1 a", "new z, zadd z"),
        (&[], "zincrby z 1 a", "new z, zincr z"),
        (&["zadd z 1 a"], "zpopmin z", "zpopmin z, del z"),
        (&["zadd z 1 a 2 b"], "bzmpop 0 2 y z max", "zpopmax z"),
        (&["zadd z 1 a"], "zremrangebyscore z 0 9", "zremrangebyscore z, del z"),
        (&[], "xadd s 1-1 f v", "new s, xadd s"),
        (&["xadd s 1-1 f v"], "xgroup create s g $", "xgroup-create s"),
        (&[], "get k", ""),
    ] {
        assert_eq!(events(before, line), told, "{before:?} {line}");
    }
}

#[test]
fn both_channels_and_their_classes() {
    let mut crowd = Crowd::new(2);
    crowd.run(0, "psubscribe *");
    crowd.check(&[
        ("b config set notify-keyspace-events Kl", "+OK", ""),
        ("b set k v", "+OK", ""),
        ("b lpush l v", ":1", "a: *4 $8 pmessage $1 * $16 __keyspace@0__:l $5 lpush"),
        ("b select 2", "+OK", ""),
        ("b lpush l v", ":1", "a: *4 $8 pmessage $1 * $16 __keyspace@2__:l $5 lpush"),
        ("b config set notify-keyspace-events Em", "+OK", ""),
        ("b get none", "$-1", "a: *4 $8 pmessage $1 * $22 __keyevent@2__:keymiss $4 none"),
        ("b config set notify-keyspace-events K", "+OK", ""),
        ("b lpush l v", ":2", ""),
    ]);
    assert!(crowd.store.instance.attention.is_empty());
}

#[test]
fn fields_that_end_are_told_once_a_hash() {
    let mut crowd = Crowd::new(3);
    crowd.run(0, "psubscribe __keyevent@0__:*");
    crowd.check(&[
        ("b hset h f v g w k x", ":3", ""),
        ("b hpexpire h 10 fields 2 f g", "*2 :1 :1", ""),
        ("b config set notify-keyspace-events KEAg", "+OK", ""),
        ("+11", "", ""),
        (
            "b hlen h",
            ":1",
            "a: *4 $8 pmessage $16 __keyevent@0__:* $23 __keyevent@0__:hexpired $1 h",
        ),
        (
            "b hpexpire h 10 fields 1 k",
            "*1 :1",
            "a: *4 $8 pmessage $16 __keyevent@0__:* $22 __keyevent@0__:hexpire $1 h",
        ),
        ("+11", "", ""),
        (
            "b hlen h",
            ":0",
            "a: *4 $8 pmessage $16 __keyevent@0__:* $23 __keyevent@0__:hexpired $1 h / a: *4 $8 pmessage $16 \
             __keyevent@0__:* $18 __keyevent@0__:del $1 h",
        ),
    ]);
}

#[test]
fn keys_that_expire_are_told_when_they_go() {
    let mut crowd = Crowd::new(2);
    crowd.run(0, "subscribe __keyevent@0__:expired");
    crowd.check(&[
        ("b config set notify-keyspace-events Ex", "+OK", ""),
        ("b psetex k 10 v", "+OK", ""),
        ("+11", "", ""),
        ("b get k", "$-1", "a: *3 $7 message $22 __keyevent@0__:expired $1 k"),
    ]);
}

#[test]
fn waiting_clients_and_transactions_are_told_too() {
    let mut crowd = Crowd::new(3);
    crowd.run(0, "psubscribe __keyevent*");
    crowd.check(&[
        ("b config set notify-keyspace-events El", "+OK", ""),
        ("c blpop l 0", "", ""),
        (
            "b rpush l x",
            ":1",
            "a: *4 $8 pmessage $11 __keyevent* $20 __keyevent@0__:rpush $1 l / a: *4 $8 pmessage $11 __keyevent* $19 \
             __keyevent@0__:lpop $1 l / c: *2 $1 l $1 x",
        ),
    ]);
}
