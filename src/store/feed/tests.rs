//! What is told of which command, who is told, and what a cut or damaged feed does to a copy.

use super::super::commands::testing::Client;
use super::super::crowd::Crowd;
use super::super::replay::{Fault, Replay};
use super::*;

/// The feed's bytes as words, commands apart.
fn words(bytes: &[u8]) -> String {
    let mut shown: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(bytes).split_terminator("\r\n") {
        match line.as_bytes() {
            [b'*', ..] => shown.push(String::new()),
            [b'$', ..] => {}
            _ => {
                let command = shown.last_mut().expect("a command begins with its length");
                if !command.is_empty() {
                    command.push(' ');
                }
                command.push_str(line);
            }
        }
    }
    shown.join(" / ")
}

fn heard(feed: &mut Feed, subscription: &Subscription) -> String {
    feed.seal();
    let pieces = subscription.take();
    words(&pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect::<Vec<u8>>())
}

/// A client runs all lines; after each of them that has an expectation, the feed is what is expected.
fn check(lines: &[(&str, &str)]) {
    let mut client = Client::resp2();
    let subscription = client.store.subscribe(1 << 20, Box::new(|| {}));
    client.run("set first x");
    heard(&mut client.store.instance.feed, &subscription);
    for (line, expected) in lines {
        match line.strip_prefix('+') {
            Some(ms) => client.now_ms += ms.parse::<u64>().expect("milliseconds"),
            None => drop(client.run(line)),
        }
        assert_eq!(heard(&mut client.store.instance.feed, &subscription), *expected, "{line}");
    }
}

#[test]
fn changes_are_told_as_they_came_and_what_changes_nothing_is_not() {
    check(&[
        ("set k v", "set k v"),
        ("get k", ""),
        ("setnx k w", ""),
        ("incr n", "incr n"),
        ("incr k", ""),
        ("del k nothing", "del k nothing"),
        ("del nothing", ""),
        ("select 3", ""),
        ("rpush l a b", "SELECT 3 / rpush l a b"),
        ("lpop l", "lpop l"),
        ("select 0", ""),
        ("hset h f v", "SELECT 0 / hset h f v"),
        ("flushall", "flushall"),
        ("flushall", "flushall"),
        ("flushdb wrong", ""),
    ]);
}

#[test]
fn what_depends_on_the_clock_says_when() {
    check(&[
        ("set k v ex 10 nx", "SET k v PXAT 1010000"),
        ("set k w keepttl get", "SET k w PXAT 1010000"),
        ("psetex k 5 v", "SET k v PXAT 1000005"),
        ("expire k 7", "PEXPIREAT k 1007000"),
        ("getex k px 9", "PEXPIREAT k 1000009"),
        ("getex k persist", "PERSIST k"),
        ("expire k -1", "DEL k"),
        ("incrbyfloat f 1.5", "SET f 1.5 KEEPTTL"),
        ("hincrbyfloat h f 2.5", "HSET h f 2.5"),
        (
            "hpexpire h 20 fields 2 f none",
            "MULTI / HPEXPIREAT h 1000020 FIELDS 1 f / HDEL h none / EXEC",
        ),
        ("sadd s m", "sadd s m"),
        ("sexpire s 1 members 1 m", "SPEXPIREAT s 1001000 MEMBERS 1 m"),
        ("xadd t maxlen ~ 100 * a b", "XADD t MAXLEN = 1 1000000-0 a b"),
        ("xadd t nomkstream 1000001-* a b", "XADD t 1000001-0 a b"),
        ("cl.throttle r 5 1 1", "SET r 1001000000000 PXAT 1001000"),
    ]);
}

#[test]
fn what_depends_on_chance_says_what_came_out() {
    check(&[
        ("sadd s a", "sadd s a"),
        ("spop s", "DEL s"),
        ("sadd s 1 2", "sadd s 1 2"),
        ("spop s 2", "DEL s"),
        ("rpush l c", "rpush l c"),
        ("lmpop 2 none l right count 5", "RPOP l 1"),
        ("zadd z 1 m", "zadd z 1 m"),
        ("bzpopmin none z 0", "ZPOPMIN z"),
        ("zadd z 1 m 2 n", "zadd z 1 m 2 n"),
        ("zmpop 1 z max count 2", "ZPOPMAX z 2"),
        ("set k v", "set k v"),
        ("getdel k", "DEL k"),
    ]);
}

#[test]
fn the_end_of_keys_and_members_comes_before_what_met_it() {
    check(&[
        ("set k v px 5", "SET k v PXAT 1000005"),
        ("+5", ""),
        ("get k", "DEL k"),
        ("get k", ""),
        ("set k v px 5", "SET k v PXAT 1000010"),
        ("+5", ""),
        ("rpush k a", "DEL k / rpush k a"),
        ("zadd z 1 m 2 n", "zadd z 1 m 2 n"),
        ("zpexpire z 5 members 1 m", "ZPEXPIREAT z 1000015 MEMBERS 1 m"),
        ("+5", ""),
        ("zcard z", "ZREM z m"),
    ]);
}

#[test]
fn several_changes_of_a_transaction_stand_together() {
    check(&[
        ("multi", ""),
        ("set a 1", ""),
        ("select 1", ""),
        ("set b 2", ""),
        ("get b", ""),
        ("exec", "MULTI / set a 1 / SELECT 1 / set b 2 / EXEC"),
        ("multi", ""),
        ("set a 1", ""),
        ("exec", "set a 1"),
        ("multi", ""),
        ("get a", ""),
        ("exec", ""),
    ]);
}

#[test]
fn groups_say_who_got_what() {
    check(&[
        ("xadd t 1-1 a b", "XADD t 1-1 a b"),
        ("xgroup create t g 0", "xgroup create t g 0"),
        (
            "xreadgroup group g c streams t >",
            "MULTI / XGROUP CREATECONSUMER t g c / \
             XCLAIM t g c 0 1-1 TIME 1000000 RETRYCOUNT 1 FORCE JUSTID / \
             XGROUP SETID t g 1-1 ENTRIESREAD 1 / EXEC",
        ),
        ("+7", ""),
        (
            "xclaim t g d 0 1-1",
            "MULTI / XGROUP CREATECONSUMER t g d / \
             XCLAIM t g d 0 1-1 TIME 1000007 RETRYCOUNT 2 FORCE JUSTID / EXEC",
        ),
        ("xack t g 1-1", "xack t g 1-1"),
    ]);
}

/// A client that waits gets its element after the command that brings it, and that is what the feed says.
#[test]
fn a_blocked_pop_is_a_pop_when_it_happens() {
    let mut crowd = Crowd::new(2);
    let subscription = crowd.store.subscribe(1 << 20, Box::new(|| {}));
    crowd.check(&[("a blpop l 0", "", ""), ("b rpush l x y", ":2", "a: *2 $1 l $1 x")]);
    let told = heard(&mut crowd.store.instance.feed, &subscription);
    assert_eq!(told, "SELECT 0 / rpush l x y / LPOP l");
}

#[test]
fn a_consumer_that_takes_nothing_is_overrun() {
    let mut client = Client::resp2();
    let slow = client.store.subscribe(100, Box::new(|| {}));
    let quick = client.store.subscribe(1 << 20, Box::new(|| {}));
    for round in 0..3 {
        client.run("set k 0123456789");
        // Whoever is overrun is told of that once.
        assert_eq!(client.store.instance.feed.seal().len(), [2, 1, 1][round], "round {round}");
        assert_eq!((quick.take().len(), slow.is_overrun()), (1, round == 2));
    }
    client.run("set k v");
    assert_eq!(client.store.instance.feed.seal().len(), 1);
    assert!(slow.is_overrun() && !quick.is_overrun());
    assert_eq!(slow.waiting_bytes(), 0);
    client.store.unsubscribe(&slow);
    client.store.unsubscribe(&quick);
    client.run("set k v");
    assert!(client.store.instance.feed.seal().is_empty(), "nobody wants to know");
}

/// A feed cut anywhere is a copy as of the last whole command or transaction.
#[test]
fn a_cut_feed_leaves_nothing_half_done() {
    let whole = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n\
        *2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n";
    for cut in 0..=whole.len() {
        let mut client = Client::resp2();
        let mut replay = Replay::default();
        let (used, more) = replay.apply(&mut client.store, &whole[..cut], 100).expect("no damage");
        assert!(used <= cut && !more);
        let expected = match replay.applied() {
            0 => "$-1",
            27 => "$1 1",
            _ => "$1 3",
        };
        assert_eq!(client.run("get a"), expected, "cut at {cut}");
        assert_eq!(replay.applied() == whole.len() as u64, cut == whole.len());
    }
}

#[test]
fn damage_is_told_with_its_place() {
    for (bytes, reason) in [
        (&b"hello\r\n"[..], "no command begins here"),
        (b"*1\r\n$4\r\nNOPE\r\n", "unknown command 'NOPE'"),
        (b"*1\r\n$3\r\nGET\r\n", "wrong number of arguments for 'GET'"),
        (b"*1\r\n$4\r\nEXEC\r\n", "EXEC without MULTI"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length"),
        (
            b"*3\r\n$5\r\nRPUSH\r\n$1\r\na\r\n$1\r\nx\r\n",
            "RPUSH: WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ] {
        let mut client = Client::resp2();
        let good = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
        let applied = Replay::default().apply(&mut client.store, &[good, bytes].concat(), 100);
        let fault = Fault { offset: good.len() as u64, reason: reason.to_owned() };
        assert_eq!(applied, Err(fault));
    }
}
