//! Hash commands as tables; replies are Redis's.

use super::super::testing::{Client, check, check_resp3};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";
const SYNTAX: &str = "-ERR syntax error";

#[test]
fn fields() {
    check(&[
        ("HSET h a 1 b two", ":2"),
        ("HSET h a 3 c 4", ":1"),
        ("HGET h a", "$1 3"),
        ("HGET h x", "$-1"),
        ("HGET missing x", "$-1"),
        ("HMGET h a x c", "*3 $1 3 $-1 $1 4"),
        ("HMGET missing a b", "*2 $-1 $-1"),
        ("HGETALL h", "*6 $1 a $1 3 $1 b $3 two $1 c $1 4"),
        ("HGETALL missing", "*0"),
        ("HKEYS h", "*3 $1 a $1 b $1 c"),
        ("HVALS h", "*3 $1 3 $3 two $1 4"),
        ("HKEYS missing", "*0"),
        ("HVALS missing", "*0"),
        ("HLEN h", ":3"),
        ("HLEN missing", ":0"),
        ("HEXISTS h a", ":1"),
        ("HEXISTS h x", ":0"),
        ("HEXISTS missing x", ":0"),
        ("HSTRLEN h b", ":3"),
        ("HSTRLEN h a", ":1"),
        ("HSTRLEN h x", ":0"),
        ("HSTRLEN missing x", ":0"),
        ("HSETNX h a 9", ":0"),
        ("HSETNX h d 9", ":1"),
        ("HMSET h e 1 f 2", "+OK"),
        ("HDEL h a x b", ":2"),
        ("HDEL missing a", ":0"),
        ("HDEL h c d e f", ":4"),
        ("HLEN h", ":0"),
        ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
        ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
        ("HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
        ("HSETNX new a 1", ":1"),
    ]);
    check_resp3(&[
        ("HSET h a 1 b 2", ":2"),
        ("HGETALL h", "%2 $1 a $1 1 $1 b $1 2"),
        ("HGETALL missing", "%0"),
        ("HGET h x", "_"),
        ("HMGET h x a", "*2 _ $1 1"),
        ("HKEYS h", "*2 $1 a $1 b"),
    ]);
}

#[test]
fn integers_grow_within_their_bits() {
    check(&[
        ("HINCRBY h n 5", ":5"),
        ("HINCRBY h n -8", ":-3"),
        ("HGET h n", "$2 -3"),
        ("HINCRBY h n x", NOT_INTEGER),
        ("HINCRBY missing n 1.5", NOT_INTEGER),
        ("HLEN missing", ":0"),
        ("HSET h word abc max 9223372036854775807 zero 00", ":3"),
        ("HINCRBY h word 1", "-ERR hash value is not an integer"),
        ("HINCRBY h zero 1", "-ERR hash value is not an integer"),
        ("HINCRBY h max 1", "-ERR increment or decrement would overflow"),
        ("HGET h max", "$19 9223372036854775807"),
        ("HSET h min -9223372036854775808", ":1"),
        ("HINCRBY h min -1", "-ERR increment or decrement would overflow"),
    ]);
}

#[test]
fn floats_add_as_long_doubles() {
    check(&[
        ("HINCRBYFLOAT h f 10.5", "$4 10.5"),
        ("HINCRBYFLOAT h f 0.1", "$4 10.6"),
        ("HINCRBYFLOAT h f -5", "$3 5.6"),
        ("HSET h e 5.0e3", ":1"),
        ("HINCRBYFLOAT h e 2.0e2", "$4 5200"),
        ("HSET h three 3.0", ":1"),
        ("HINCRBYFLOAT h three 0.1", "$3 3.1"),
        ("HINCRBYFLOAT h f abc", "-ERR value is not a valid float"),
        ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
        ("HINCRBYFLOAT missing f nan", "-ERR value is not a valid float"),
        ("HLEN missing", ":0"),
        ("HSET h word abc", ":1"),
        ("HINCRBYFLOAT h word 1", "-ERR hash value is not a float"),
        ("HSET h i inf", ":1"),
        ("HINCRBYFLOAT h i 1", "-ERR increment would produce NaN or Infinity"),
    ]);
}

#[test]
fn random_fields() {
    check(&[
        ("HSET h a 1", ":1"),
        ("HRANDFIELD h", "$1 a"),
        ("HRANDFIELD h 3", "*1 $1 a"),
        ("HRANDFIELD h 3 WITHVALUES", "*2 $1 a $1 1"),
        ("HRANDFIELD h -2", "*2 $1 a $1 a"),
        ("HRANDFIELD h -2 withvalues", "*4 $1 a $1 1 $1 a $1 1"),
        ("HRANDFIELD h 0", "*0"),
        ("HRANDFIELD h 0 WITHVALUES", "*0"),
        ("HRANDFIELD h x", NOT_INTEGER),
        ("HRANDFIELD h 1 VALUES", SYNTAX),
        ("HRANDFIELD h 1 WITHVALUES x", SYNTAX),
        ("HRANDFIELD h 9223372036854775807 WITHVALUES", "-ERR value is out of range"),
        ("HRANDFIELD missing", "$-1"),
        ("HRANDFIELD missing 3", "*0"),
    ]);
    check_resp3(&[
        ("HSET h a 1", ":1"),
        ("HRANDFIELD h 1 WITHVALUES", "*1 *2 $1 a $1 1"),
        ("HRANDFIELD h -1", "*1 $1 a"),
    ]);
}

#[test]
fn scans() {
    check(&[
        ("HSET h a 1 b 2", ":2"),
        ("HSCAN h 0", "*2 $1 0 *4 $1 a $1 1 $1 b $1 2"),
        ("HSCAN h 0 MATCH b", "*2 $1 0 *2 $1 b $1 2"),
        ("HSCAN missing 0", "*2 $1 0 *0"),
        ("HSCAN h x", "-ERR invalid cursor"),
        ("HSCAN h 0 COUNT", SYNTAX),
    ]);
    // Redis 7.4's.
    let mut client = Client::resp2();
    client.run("HSET h a 1 b 2");
    assert_eq!(client.run("HSCAN h 0 NOVALUES COUNT 5"), "*2 $1 0 *2 $1 a $1 b");
}

#[test]
fn a_big_hash_scans_and_samples_each_field_once() {
    let mut client = Client::resp2();
    for number in 0..1500 {
        client.run(&format!("HSET h f{number} v{number}"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.run(&format!("HSCAN h {cursor} NOVALUES COUNT 100"));
        let words: Vec<&str> = reply.split(' ').collect();
        assert!(words.iter().filter(|w| w.starts_with('f')).all(|w| seen.insert((*w).to_owned())));
        cursor = words[2].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1500);
    for count in [5, 1000] {
        let reply = client.run(&format!("HRANDFIELD h {count}"));
        let fields: std::collections::BTreeSet<&str> =
            reply.split(' ').filter(|word| word.starts_with('f')).collect();
        assert_eq!(fields.len(), count);
    }
    assert_eq!(client.run("HGET h f77"), "$3 v77");
}

#[test]
fn other_types_are_refused_and_left_alone() {
    let mut client = Client::resp2();
    client.check(&[("RPUSH l x", ":1")]);
    for line in [
        "HSET l a 1",
        "HMSET l a 1",
        "HSETNX l a 1",
        "HGET l a",
        "HMGET l a",
        "HGETALL l",
        "HDEL l a",
        "HEXISTS l a",
        "HLEN l",
        "HKEYS l",
        "HVALS l",
        "HSTRLEN l a",
        "HINCRBY l a 1",
        "HINCRBYFLOAT l a 1",
        "HRANDFIELD l",
        "HRANDFIELD l 2",
        "HSCAN l 0",
    ] {
        assert_eq!(client.run(line), WRONG_TYPE, "{line}");
    }
    assert_eq!(client.run("LLEN l"), ":1");
}
