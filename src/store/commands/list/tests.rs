//! List commands as tables; replies are Redis's.

use super::super::testing::{Client, check, check_resp3};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";
const NOT_POSITIVE: &str = "-ERR value is out of range, must be positive";
const SYNTAX: &str = "-ERR syntax error";

#[test]
fn pushes_and_pops() {
    check(&[
        ("LPUSH l a b c", ":3"),
        ("RPUSH l d", ":4"),
        ("LPUSHX missing x", ":0"),
        ("RPUSHX l e f", ":6"),
        ("LPUSHX l z", ":7"),
        ("LRANGE l 0 -1", "*7 $1 z $1 c $1 b $1 a $1 d $1 e $1 f"),
        ("LPOP l", "$1 z"),
        ("RPOP l", "$1 f"),
        ("LPOP l 2", "*2 $1 c $1 b"),
        ("RPOP l 2", "*2 $1 e $1 d"),
        ("LPOP l 0", "*0"),
        ("LPOP l 10", "*1 $1 a"),
        ("LLEN l", ":0"),
        ("LPOP l", "$-1"),
        ("LPOP l 2", "*-1"),
        ("LPOP l 0", "*-1"),
        ("LPOP l -1", NOT_POSITIVE),
        ("LPOP l x", NOT_POSITIVE),
        ("LPOP l 1 2", "-ERR wrong number of arguments for 'lpop' command"),
        ("RPOP l 1 2", "-ERR wrong number of arguments for 'rpop' command"),
        ("LPUSH l", "-ERR wrong number of arguments for 'lpush' command"),
    ]);
    check_resp3(&[("LPOP l", "_"), ("LPOP l 2", "_"), ("LPOS l x", "_"), ("LMPOP 1 l LEFT", "_")]);
}

#[test]
fn elements_by_index() {
    check(&[
        ("RPUSH l 10 -5 word 40000 99999999999", ":5"),
        ("LINDEX l 0", "$2 10"),
        ("LINDEX l -1", "$11 99999999999"),
        ("LINDEX l 5", "$-1"),
        ("LINDEX l -6", "$-1"),
        ("LINDEX l x", NOT_INTEGER),
        ("LINDEX missing x", "$-1"),
        ("LSET l 1 changed", "+OK"),
        ("LSET l -1 last", "+OK"),
        ("LSET l 5 x", "-ERR index out of range"),
        ("LSET l -6 x", "-ERR index out of range"),
        ("LSET l one x", NOT_INTEGER),
        ("LSET missing 0 x", "-ERR no such key"),
        ("LRANGE l 1 2", "*2 $7 changed $4 word"),
        ("LRANGE l -2 -1", "*2 $5 40000 $4 last"),
        ("LRANGE l 3 1", "*0"),
        ("LRANGE l 0 x", NOT_INTEGER),
        ("LRANGE missing 0 -1", "*0"),
        (
            "LRANGE l -9223372036854775808 9223372036854775807",
            "*5 $2 10 $7 changed $4 word $5 40000 $4 last",
        ),
        ("LTRIM l 1 -2", "+OK"),
        ("LRANGE l 0 -1", "*3 $7 changed $4 word $5 40000"),
        ("LTRIM l 5 9", "+OK"),
        ("LLEN l", ":0"),
        ("LTRIM missing 0 1", "+OK"),
    ]);
}

#[test]
fn elements_by_value() {
    check(&[
        ("RPUSH l a b a c a 1 1 01", ":8"),
        ("LREM l 1 a", ":1"),
        ("LREM l -1 a", ":1"),
        ("LRANGE l 0 -1", "*6 $1 b $1 a $1 c $1 1 $1 1 $2 01"),
        ("LREM l 0 1", ":2"),
        ("LREM l x 1", NOT_INTEGER),
        ("LREM missing 0 1", ":0"),
        ("LINSERT l BEFORE a x", ":5"),
        ("LINSERT l after 01 y", ":6"),
        ("LINSERT l AFTER nope y", ":-1"),
        ("LINSERT missing AFTER nope y", ":0"),
        ("LINSERT l BETWEEN a y", SYNTAX),
        ("LRANGE l 0 -1", "*6 $1 b $1 x $1 a $1 c $2 01 $1 y"),
        ("RPUSH gone a a", ":2"),
        ("LREM gone 0 a", ":2"),
        ("LPUSHX gone b", ":0"),
    ]);
}

#[test]
fn positions() {
    check(&[
        ("RPUSH l a b c 1 2 3 c c", ":8"),
        ("LPOS l c", ":2"),
        ("LPOS l c RANK 2", ":6"),
        ("LPOS l c RANK -1", ":7"),
        ("LPOS l c COUNT 2", "*2 :2 :6"),
        ("LPOS l c COUNT 0", "*3 :2 :6 :7"),
        ("LPOS l c RANK -1 COUNT 2", "*2 :7 :6"),
        ("LPOS l c RANK -1 MAXLEN 2 COUNT 0", "*2 :7 :6"),
        ("LPOS l c MAXLEN 2", "$-1"),
        ("LPOS l c MAXLEN 2 COUNT 0", "*0"),
        ("LPOS l nope", "$-1"),
        ("LPOS l nope COUNT 1", "*0"),
        ("LPOS missing x COUNT 1", "*0"),
        (
            "LPOS l c RANK 0",
            "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        ),
        ("LPOS l c COUNT -1", "-ERR COUNT can't be negative"),
        ("LPOS l c MAXLEN -1", "-ERR MAXLEN can't be negative"),
        ("LPOS l c COUNT", SYNTAX),
        ("LPOS l c SIZE 1", SYNTAX),
    ]);
}

#[test]
fn moves_between_lists() {
    check(&[
        ("RPUSH a 1 2 3", ":3"),
        ("LMOVE a b LEFT RIGHT", "$1 1"),
        ("LMOVE a b right left", "$1 3"),
        ("RPOPLPUSH a b", "$1 2"),
        ("LLEN a", ":0"),
        ("LRANGE b 0 -1", "*3 $1 2 $1 3 $1 1"),
        ("RPOPLPUSH b b", "$1 1"),
        ("LMOVE b b LEFT RIGHT", "$1 1"),
        ("LRANGE b 0 -1", "*3 $1 2 $1 3 $1 1"),
        ("LMOVE a b LEFT RIGHT", "$-1"),
        ("LMOVE b a UP RIGHT", SYNTAX),
        ("RPUSH one x", ":1"),
        ("LMOVE one one LEFT LEFT", "$1 x"),
        ("LLEN one", ":1"),
        ("LMPOP 2 none b LEFT", "*2 $1 b *1 $1 2"),
        ("LMPOP 2 none b RIGHT COUNT 5", "*2 $1 b *2 $1 1 $1 3"),
        ("LMPOP 2 none b RIGHT", "*-1"),
        ("LMPOP 0 b LEFT", "-ERR numkeys should be greater than 0"),
        ("LMPOP x b LEFT", "-ERR numkeys should be greater than 0"),
        ("LMPOP 1 b LEFT COUNT 0", "-ERR count should be greater than 0"),
        ("LMPOP 3 b LEFT COUNT", SYNTAX),
        ("LMPOP 9223372036854775807 b LEFT", SYNTAX),
        ("LMPOP 1 b UP", SYNTAX),
        ("LMPOP 1 b LEFT COUNT 1 COUNT 2", SYNTAX),
    ]);
}

#[test]
fn other_types_are_refused_and_left_alone() {
    let mut client = Client::resp2();
    let database = client.store.keyspace.database(0);
    let hash = crate::store::Hasher::seeded(1).hash(b"s");
    database.set_string(b"s", hash, b"text", crate::store::Expiry::Clear);
    for line in [
        "LPUSH s a",
        "LPUSHX s a",
        "RPOP s",
        "LPOP s 1",
        "LLEN s",
        "LRANGE s 0 1",
        "LINDEX s 0",
        "LSET s 0 x",
        "LREM s 0 x",
        "LTRIM s 0 1",
        "LINSERT s BEFORE a b",
        "LPOS s a",
        "LMOVE s l LEFT LEFT",
        "RPOPLPUSH l s",
        "LMPOP 2 none s LEFT",
    ] {
        client.run("RPUSH l a");
        assert_eq!(client.run(line), WRONG_TYPE, "{line}");
    }
    assert_eq!(client.run("LPOP l"), "$1 a");
}
