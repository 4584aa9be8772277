//! Tests of DUMP and RESTORE as commands.

use crate::store::commands::testing::Client;

fn dump(client: &mut Client, key: &str) -> Vec<u8> {
    let reply = client.run_words(&[b"dump", key.as_bytes()]);
    let start = reply.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    reply[start..reply.len() - 2].to_vec()
}

fn restore(client: &mut Client, words: &[&[u8]]) -> String {
    let reply = client.run_words(&[&[&b"restore"[..]], words].concat());
    String::from_utf8(reply).expect("replies are text").trim_end().to_owned()
}

#[test]
fn every_type_moves_to_another_key() {
    let mut client = Client::resp2();
    client.check(&[
        ("set s text", "+OK"),
        ("rpush l a 1 b", ":3"),
        ("sadd t a b", ":2"),
        ("hset h f v", ":1"),
        ("zadd z 1.5 a 2 b", ":2"),
        ("dump missing", "$-1"),
    ]);
    for (key, look, shown) in [
        ("s", "get n", "$4 text"),
        ("l", "lrange n 0 -1", "*3 $1 a $1 1 $1 b"),
        ("t", "smembers n", "*2 $1 a $1 b"),
        ("h", "hgetall n", "*2 $1 f $1 v"),
        ("z", "zrange n 0 -1 withscores", "*4 $1 a $3 1.5 $1 b $1 2"),
    ] {
        let payload = dump(&mut client, key);
        assert_eq!(restore(&mut client, &[b"n", b"0", &payload, b"replace"]), "+OK");
        client.check(&[(look, shown), ("ttl n", ":-1")]);
    }
}

#[test]
fn options_say_what_becomes_of_key_and_expiry() {
    let mut client = Client::resp2();
    client.check(&[("set k v", "+OK")]);
    let payload = dump(&mut client, "k");
    for (words, reply) in [
        (&["k", "0"][..], "-BUSYKEY Target key name already exists."),
        (&["k", "-1", "replace"], "-ERR Invalid TTL value, must be >= 0"),
        (&["k", "x", "replace"], "-ERR value is not an integer or out of range"),
        (&["k", "0", "replace", "idletime", "-1"], "-ERR Invalid IDLETIME value, must be >= 0"),
        (&["k", "0", "freq", "256"], "-ERR Invalid FREQ value, must be >= 0 and <= 255"),
        (&["k", "0", "freq", "1", "idletime", "1"], "-ERR syntax error"),
        (&["k", "0", "what"], "-ERR syntax error"),
        (&["k", "5000", "replace", "idletime", "30"], "+OK"),
    ] {
        let mut words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        words.insert(2, &payload);
        assert_eq!(restore(&mut client, &words), reply);
    }
    client.check(&[("pttl k", ":5000"), ("object idletime k", ":30")]);
    assert_eq!(restore(&mut client, &[b"k", b"2000000", &payload, b"absttl", b"replace"]), "+OK");
    client.check(&[("pexpiretime k", ":2000000")]);
    assert_eq!(restore(&mut client, &[b"k", b"999999", &payload, b"absttl", b"replace"]), "+OK");
    client.check(&[("exists k", ":0")]);
}

#[test]
fn what_is_no_payload_is_refused() {
    let mut client = Client::resp2();
    client.check(&[
        ("restore k 0 abc", "-ERR DUMP payload version or checksum are wrong"),
        ("set k v", "+OK"),
    ]);
    let mut payload = dump(&mut client, "k");
    payload[2] ^= 1;
    let refused = "-ERR DUMP payload version or checksum are wrong";
    assert_eq!(restore(&mut client, &[b"k", b"0", &payload, b"replace"]), refused);
    client.check(&[("get k", "$1 v")]);
}

#[test]
fn a_restored_key_has_the_frequency_it_is_given() {
    let mut client = Client::resp2();
    client.check(&[("config set maxmemory-policy allkeys-lfu", "+OK"), ("set k v", "+OK")]);
    let payload = dump(&mut client, "k");
    assert_eq!(restore(&mut client, &[b"n", b"0", &payload, b"freq", b"77"]), "+OK");
    client.check(&[("object freq n", ":77")]);
    assert_eq!(restore(&mut client, &[b"m", b"0", &payload, b"idletime", b"9"]), "+OK");
    client.check(&[("object freq m", ":5")]);
}
