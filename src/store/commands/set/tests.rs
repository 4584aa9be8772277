//! Set commands as tables; replies are Redis's.

use super::super::testing::{Client, check, check_resp3};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_POSITIVE: &str = "-ERR value is out of range, must be positive";
const SYNTAX: &str = "-ERR syntax error";

#[test]
fn members() {
    check(&[
        ("SADD s 3 1 2 2", ":3"),
        ("SADD s 1 4", ":1"),
        ("SMEMBERS s", "*4 $1 1 $1 2 $1 3 $1 4"),
        ("SISMEMBER s 1", ":1"),
        ("SISMEMBER s 01", ":0"),
        ("SISMEMBER missing 1", ":0"),
        ("SMISMEMBER s 1 9 x", "*3 :1 :0 :0"),
        ("SMISMEMBER missing 1 9", "*2 :0 :0"),
        ("SCARD s", ":4"),
        ("SCARD missing", ":0"),
        ("SREM s 1 9 2", ":2"),
        ("SREM missing 1", ":0"),
        ("SREM s 3 4", ":2"),
        ("SCARD s", ":0"),
        ("SMEMBERS s", "*0"),
        ("SADD s", "-ERR wrong number of arguments for 'sadd' command"),
    ]);
    check_resp3(&[
        ("SADD s 1 2", ":2"),
        ("SMEMBERS s", "~2 $1 1 $1 2"),
        ("SMEMBERS missing", "~0"),
        ("SINTER s s", "~2 $1 1 $1 2"),
        ("SPOP s 2", "~2 $1 1 $1 2"),
        ("SPOP s", "_"),
    ]);
}

#[test]
fn random_members() {
    check(&[
        ("SADD s 1", ":1"),
        ("SRANDMEMBER s", "$1 1"),
        ("SRANDMEMBER s 5", "*1 $1 1"),
        ("SRANDMEMBER s -3", "*3 $1 1 $1 1 $1 1"),
        ("SRANDMEMBER s 0", "*0"),
        ("SRANDMEMBER s x", "-ERR value is not an integer or out of range"),
        ("SRANDMEMBER s 1 2", SYNTAX),
        ("SRANDMEMBER missing", "$-1"),
        ("SRANDMEMBER missing 3", "*0"),
        ("SPOP s 0", "*0"),
        ("SPOP s -1", NOT_POSITIVE),
        ("SPOP s x", NOT_POSITIVE),
        ("SPOP s 1 2", SYNTAX),
        ("SPOP s", "$1 1"),
        ("SPOP s", "$-1"),
        ("SPOP s 3", "*0"),
        ("SADD s 1 2", ":2"),
        ("SPOP s 3", "*2 $1 1 $1 2"),
        ("SCARD s", ":0"),
    ]);
}

#[test]
fn random_members_are_distinct_and_really_there() {
    for count in [10, 100, 400, 700] {
        let mut client = Client::resp2();
        for number in 0..1000 {
            client.run(&format!("SADD s m{number}"));
        }
        let reply = client.run(&format!("SRANDMEMBER s {count}"));
        let members: std::collections::BTreeSet<&str> =
            reply.split(' ').filter(|word| word.starts_with('m')).collect();
        assert_eq!(members.len(), count);
        let popped = client.run(&format!("SPOP s {count}"));
        assert!(popped.starts_with(&format!("*{count} ")));
        assert_eq!(client.run("SCARD s"), format!(":{}", 1000 - count));
        for member in popped.split(' ').filter(|word| word.starts_with('m')) {
            assert_eq!(client.run(&format!("SISMEMBER s {member}")), ":0");
        }
    }
}

#[test]
fn moves() {
    check(&[
        ("SADD a 1 2", ":2"),
        ("SADD b x", ":1"),
        ("SMOVE a b 1", ":1"),
        ("SMOVE a b 1", ":0"),
        ("SMOVE missing b 1", ":0"),
        ("SMOVE a a 2", ":1"),
        ("SMOVE a a 1", ":0"),
        ("SMOVE a new 2", ":1"),
        ("SCARD a", ":0"),
        ("SMEMBERS new", "*1 $1 2"),
        ("SMEMBERS b", "*2 $1 x $1 1"),
    ]);
}

#[test]
fn algebra() {
    check(&[
        ("SADD a 1 2 3 4", ":4"),
        ("SADD b 3 4 5", ":3"),
        ("SADD c 4 6", ":2"),
        ("SADD words 4 word", ":2"),
        ("SINTER a b", "*2 $1 3 $1 4"),
        ("SINTER a b c words", "*1 $1 4"),
        ("SINTER a missing", "*0"),
        ("SUNION a b missing", "*5 $1 1 $1 2 $1 3 $1 4 $1 5"),
        ("SDIFF a b c", "*2 $1 1 $1 2"),
        ("SDIFF a a", "*0"),
        ("SDIFF missing a", "*0"),
        ("SDIFF a words missing", "*3 $1 1 $1 2 $1 3"),
        ("SINTERCARD 2 a b", ":2"),
        ("SINTERCARD 2 a b LIMIT 1", ":1"),
        ("SINTERCARD 2 a b LIMIT 0", ":2"),
        ("SINTERCARD 2 a missing", ":0"),
        ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0"),
        ("SINTERCARD x a", "-ERR numkeys should be greater than 0"),
        ("SINTERCARD 3 a b", "-ERR Number of keys can't be greater than number of args"),
        ("SINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative"),
        ("SINTERCARD 1 a LIMIT", SYNTAX),
        ("SINTERCARD 1 a b", SYNTAX),
        ("SINTERSTORE d a b", ":2"),
        ("SMEMBERS d", "*2 $1 3 $1 4"),
        ("SUNIONSTORE d a b", ":5"),
        ("SDIFFSTORE d d b", ":2"),
        ("SMEMBERS d", "*2 $1 1 $1 2"),
        ("SINTERSTORE d a missing", ":0"),
        ("SCARD d", ":0"),
        ("RPUSH l x", ":1"),
        ("SINTERSTORE d a l", WRONG_TYPE),
        ("SINTER missing l", WRONG_TYPE),
        ("SUNIONSTORE l a", ":4"),
        ("SCARD l", ":4"),
    ]);
}

#[test]
fn scans() {
    check(&[
        ("SADD s 1 2 13", ":3"),
        ("SSCAN s 0", "*2 $1 0 *3 $1 1 $1 2 $2 13"),
        ("SSCAN s 0 MATCH 1* COUNT 1", "*2 $1 0 *2 $1 1 $2 13"),
        ("SSCAN missing 0", "*2 $1 0 *0"),
        ("SSCAN missing 0 NOPE", "*2 $1 0 *0"),
        ("SSCAN s x", "-ERR invalid cursor"),
        ("SSCAN s -1", "-ERR invalid cursor"),
        ("SSCAN s 0 COUNT 0", SYNTAX),
        ("SSCAN s 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("SSCAN s 0 MATCH", SYNTAX),
        ("SSCAN s 0 NOVALUES", SYNTAX),
    ]);
}

#[test]
fn a_scan_of_a_big_set_shows_each_member_once() {
    let mut client = Client::resp2();
    for number in 0..2000 {
        client.run(&format!("SADD s m{number}"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.run(&format!("SSCAN s {cursor} COUNT 50"));
        let words: Vec<&str> = reply.split(' ').collect();
        assert!(
            words
                .iter()
                .filter(|word| word.starts_with('m'))
                .all(|word| seen.insert((*word).to_owned()))
        );
        cursor = words[2].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 2000);
}

#[test]
fn other_types_are_refused_and_left_alone() {
    let mut client = Client::resp2();
    client.check(&[("RPUSH l x", ":1"), ("SADD s a", ":1")]);
    for line in [
        "SADD l a",
        "SREM l a",
        "SISMEMBER l a",
        "SMISMEMBER l a",
        "SCARD l",
        "SMEMBERS l",
        "SPOP l",
        "SPOP l 2",
        "SRANDMEMBER l",
        "SMOVE s l a",
        "SMOVE l s a",
        "SUNION s l",
        "SDIFF s l",
        "SINTERCARD 2 s l",
        "SSCAN l 0",
    ] {
        assert_eq!(client.run(line), WRONG_TYPE, "{line}");
    }
    client.check(&[("LLEN l", ":1"), ("SMEMBERS s", "*1 $1 a")]);
}

#[test]
fn unions_and_differences_are_counted() {
    check(&[
        ("sadd a 1 2 3", ":3"),
        ("sadd b 3 4", ":2"),
        ("sunioncard 2 a b", ":4"),
        ("sunioncard 2 a b limit 3", ":3"),
        ("sdiffcard 2 a b", ":2"),
        ("sdiffcard 3 a b missing limit 1", ":1"),
        ("sdiffcard 2 missing a", ":0"),
        ("sunioncard 3 a b", "-ERR Number of keys can't be greater than number of args"),
    ]);
}
