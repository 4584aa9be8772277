//! DUMP on one side, RESTORE on the other: values of all types and sizes move both ways between the store and
//! redis-server, unchanged.

use crate::judge::{Judge, Ours};

/// Elements of the collections: packed, at the threshold, far beyond.
const SIZES: &[usize] = &[1, 10, 128, 129, 3000];

/// A way to make a value of so many elements, and to read it whole.
struct Case {
    make: fn(usize) -> Vec<Vec<Vec<u8>>>,
    read: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { make: |count| vec![words("SET k", vec![blob(count)])], read: &["GET", "k"] },
    Case { make: |count| vec![words("SET k", vec![number(count)])], read: &["GET", "k"] },
    Case {
        make: |count| pushes("RPUSH k", count, |i| vec![text(i)]),
        read: &["LRANGE", "k", "0", "-1"],
    },
    Case {
        make: |count| pushes("RPUSH k", count.min(50), |i| vec![blob(i * 300)]),
        read: &["LRANGE", "k", "0", "-1"],
    },
    Case { make: |count| pushes("SADD k", count, |i| vec![number(i)]), read: &["SMEMBERS", "k"] },
    Case { make: |count| pushes("SADD k", count, |i| vec![text(i)]), read: &["SMEMBERS", "k"] },
    Case {
        make: |count| pushes("HSET k", count, |i| vec![text(i), blob(i % 70)]),
        read: &["HGETALL", "k"],
    },
    Case {
        make: |count| {
            pushes("ZADD k", count, |i| vec![format!("{}", i as f64 * 0.5).into(), text(i)])
        },
        read: &["ZRANGE", "k", "0", "-1", "WITHSCORES"],
    },
    Case {
        make: |count| {
            let mut all = pushes("XADD k", count, |i| {
                let field = if i.is_multiple_of(9) { text(i) } else { b"field".to_vec() };
                vec![format!("{}-1", i + 1).into(), field, blob(i % 70)]
            });
            all.extend(
                ["XGROUP CREATE k g 0 ENTRIESREAD 3", "XREADGROUP GROUP g me COUNT 5 STREAMS k >"]
                    .map(|line| words(line, vec![])),
            );
            all.extend(
                ["XDEL k 1-1 50-1 51-1", "XGROUP CREATE k h $"].map(|line| words(line, vec![])),
            );
            all
        },
        read: &["XRANGE", "k", "-", "+"],
    },
    Case {
        make: |_| vec![words("XGROUP CREATE k g $ MKSTREAM", vec![])],
        read: &["XINFO", "STREAM", "k"],
    },
    Case {
        make: |count| {
            let mut all =
                pushes("XADD k", count, |i| vec![format!("{}-1", i + 1).into(), text(i), text(i)]);
            all.extend(
                [
                    "XGROUP CREATE k g 0",
                    "XREADGROUP GROUP g me COUNT 5 STREAMS k >",
                    "XCLAIM k g you 0 2-1 JUSTID",
                ]
                .map(|line| words(line, vec![])),
            );
            all
        },
        read: &["XPENDING", "k", "g"],
    },
];

fn words(start: &str, rest: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    start.split(' ').map(|word| word.as_bytes().to_vec()).chain(rest).collect()
}

fn pushes(start: &str, count: usize, one: fn(usize) -> Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    (0..count).map(|index| words(start, one(index))).collect()
}

fn text(index: usize) -> Vec<u8> {
    if index.is_multiple_of(7) { number(index) } else { format!("text-{index}").into_bytes() }
}

fn number(index: usize) -> Vec<u8> {
    (index as i64 * 1_000_003 * if index.is_multiple_of(2) { 1 } else { -1 })
        .to_string()
        .into_bytes()
}

fn blob(len: usize) -> Vec<u8> {
    (0..len).map(|index| b"abcab\r\n\0\xff"[index * index % 9]).collect()
}

#[test]
fn values_move_both_ways() {
    let Some(mut judge) = Judge::start() else { return };
    let mut ours = Ours::new(1);
    for case in CASES {
        for &size in SIZES {
            ours.flush();
            judge.run(&words("FLUSHALL", vec![]));
            for command in (case.make)(size) {
                assert_eq!(ours.run(&command).first(), judge.run(&command).first());
            }
            let read = words(&case.read.join(" "), vec![]);
            let expected = sorted(&judge.run(&read));
            assert_eq!(sorted(&ours.run(&read)), expected, "before the move");
            let what = format!("{} of {size}", case.read[0]);
            let dump = words("DUMP k", vec![]);
            let (mine, theirs) = (bulk(ours.run(&dump)), bulk(judge.run(&dump)));
            let restore = |payload| words("RESTORE k 0", vec![payload, b"REPLACE".to_vec()]);
            assert_eq!(judge.run(&restore(mine)), b"+OK\r\n", "{what}, ours to redis-server");
            assert_eq!(ours.run(&restore(theirs)), b"+OK\r\n", "{what}, redis-server's to us");
            assert_eq!(sorted(&judge.run(&read)), expected, "{what} in redis-server");
            assert_eq!(sorted(&ours.run(&read)), expected, "{what} here");
        }
    }
}

/// The bytes of a byte string reply.
fn bulk(reply: Vec<u8>) -> Vec<u8> {
    let start = reply.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    reply[start..reply.len() - 2].to_vec()
}

/// A reply's lines without their order, which sets and hashes don't promise.
fn sorted(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = reply.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    lines
}

#[test]
fn files_move_both_ways() {
    let Some(mut judge) = Judge::start() else { return };
    let mut ours = Ours::new(1);
    let key = |index: usize| format!("key-{index}").into_bytes();
    let renamed = |index: usize, mut command: Vec<Vec<u8>>| {
        command[1] = key(index);
        command
    };
    for (index, case) in CASES.iter().enumerate() {
        for command in (case.make)(200) {
            ours.run(&renamed(index, command.clone()));
            judge.run(&renamed(index, command));
        }
    }
    let expiry = renamed(0, words("PEXPIREAT k 99999999999999", vec![]));
    assert_eq!(ours.run(&expiry), judge.run(&expiry));
    let (mine, theirs) = (ours.file(), judge.file());
    let mut reader = Judge::start_with(Some(&mine)).expect("a second redis-server");
    ours.flush();
    ours.load(&theirs);
    for (index, case) in CASES.iter().enumerate() {
        let read = renamed(index, words(&case.read.join(" "), vec![]));
        let expected = sorted(&judge.run(&read));
        assert_eq!(sorted(&reader.run(&read)), expected, "our file in redis-server: {index}");
        assert_eq!(sorted(&ours.run(&read)), expected, "redis-server's file here: {index}");
    }
    let expires = renamed(0, words("PEXPIRETIME k", vec![]));
    assert_eq!(reader.run(&expires), b":99999999999999\r\n");
    assert_eq!(ours.run(&expires), b":99999999999999\r\n");
}
