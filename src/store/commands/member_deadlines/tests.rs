//! Tests of deadlines on members: what the commands answer, and a model through all forms of all three types.

use std::collections::BTreeMap;

use crate::store::commands::testing::{Client, check};
use crate::store::random::Random;

#[test]
fn fields_get_deadlines_under_conditions() {
    check(&[
        ("hexpire h 10 fields 2 a b", "*2 :-2 :-2"),
        ("hset h a 1 b 2", ":2"),
        ("hexpire h 10 fields 3 a b c", "*3 :1 :1 :-2"),
        ("httl h fields 3 a b c", "*3 :10 :10 :-2"),
        ("hpttl h fields 1 a", "*1 :10000"),
        ("hexpiretime h fields 1 a", "*1 :1010"),
        ("hpexpiretime h fields 1 a", "*1 :1010000"),
        ("hexpire h 20 nx fields 1 a", "*1 :0"),
        ("hexpire h 5 gt fields 1 a", "*1 :0"),
        ("hexpire h 20 gt fields 1 a", "*1 :1"),
        ("hexpire h 30 lt fields 1 a", "*1 :0"),
        ("hpexpire h 1500 xx fields 1 a", "*1 :1"),
        ("httl h fields 1 a", "*1 :2"),
        ("object encoding h", "$10 listpackex"),
        ("hpersist h fields 3 a c a", "*3 :1 :-2 :-1"),
        ("hset h b 3", ":0"),
        ("httl h fields 2 a b", "*2 :-1 :-1"),
        ("hexpireat h 1001 fields 1 b", "*1 :1"),
        ("hincrby h b 4", ":7"),
        ("hpttl h fields 1 b", "*1 :1000"),
        ("hexpireat h 1000 fields 1 b", "*1 :2"),
        ("hpexpireat h 0 fields 1 a", "*1 :2"),
        ("exists h", ":0"),
    ]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(&[
        ("set s v", "+OK"),
        (
            "hexpire s x fields 1 f",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("httl s fields 1 f", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("hexpire h x fields 1 f", "-ERR value is not an integer or out of range"),
        ("hexpire h -1 fields 1 f", "-ERR invalid expire time, must be >= 0"),
        ("hexpire h 999999999999 fields 1 f", "-ERR invalid expire time in 'hexpire' command"),
        (
            "hexpire h 1 what fields 1 f",
            "-ERR Mandatory argument FIELDS is missing or not at the right position",
        ),
        (
            "hexpire h 1 nx gt fields 1 f",
            "-ERR Mandatory argument FIELDS is missing or not at the right position",
        ),
        (
            "httl h what 1 f",
            "-ERR Mandatory argument FIELDS is missing or not at the right position",
        ),
        ("hexpire h 1 fields 0 f", "-ERR Parameter `numFields` should be greater than 0"),
        ("httl h fields 0 f", "-ERR Number of fields must be a positive integer"),
        ("httl h fields 2 f", "-ERR The `numfields` parameter must match the number of arguments"),
        (
            "sexpire t 1 fields 1 f",
            "-ERR Mandatory argument MEMBERS is missing or not at the right position",
        ),
        (
            "expiremember s f 1",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("expiremember t f 1 hours", "-ERR syntax error"),
    ]);
}

#[test]
fn fields_that_ended_are_gone_for_every_command() {
    let mut client = Client::resp2();
    client.check(&[
        ("hset h a 1 b 2 c 3", ":3"),
        ("hpexpire h 100 fields 1 a", "*1 :1"),
        ("hpexpire h 200 fields 1 b", "*1 :1"),
        ("copy h i", ":1"),
        ("rename i j", "+OK"),
    ]);
    client.now_ms += 100;
    client.check(&[
        ("hget h a", "$-1"),
        ("hlen h", ":2"),
        ("hgetall j", "*4 $1 b $1 2 $1 c $1 3"),
        ("hscan h 0 novalues", "*2 $1 0 *2 $1 b $1 c"),
        ("hdel h a c", ":1"),
        ("hset j a 9", ":1"),
    ]);
    client.now_ms += 100;
    client.check(&[
        ("exists h", ":0"),
        ("type h", "+none"),
        ("hgetall j", "*4 $1 c $1 3 $1 a $1 9"),
        ("object encoding j", "$8 listpack"),
    ]);
    assert_eq!(client.store.keyspace.statistics().expired_members, 4);
}

#[test]
fn sets_and_sorted_sets_have_them_too() {
    let mut client = Client::resp2();
    client.check(&[
        ("sadd t 1 2 x", ":3"),
        ("sadd n 1 2", ":2"),
        ("zadd z 1 a 2 b", ":2"),
        ("sexpire t 1 members 2 1 q", "*2 :1 :-2"),
        ("spexpire n 1000 members 1 2", "*1 :1"),
        ("object encoding n", "$8 listpack"),
        ("zexpire z 1 nx members 1 b", "*1 :1"),
        ("zadd z 5 b", ":0"),
        ("sadd t 1", ":0"),
        ("spttl t members 2 1 x", "*2 :1000 :-1"),
        ("zpexpiretime z members 1 b", "*1 :1001000"),
        ("expiremember z a 500 ms", ":1"),
        ("expiremember z nobody 5", ":0"),
        ("expiremember nothing m 5", ":0"),
        ("zttl z members 1 a", "*1 :1"),
        ("zpersist z members 1 a", "*1 :1"),
    ]);
    client.now_ms += 1000;
    client.check(&[
        ("smembers t", "*2 $1 2 $1 x"),
        ("smembers n", "*1 $1 1"),
        ("zrange z 0 -1 withscores", "*2 $1 a $1 1"),
        ("zcard z", ":1"),
    ]);
}

#[test]
fn fields_are_read_and_set_with_their_deadlines() {
    let mut client = Client::resp2();
    client.check(&[
        ("hgetex h fields 1 a", "*1 $-1"),
        ("hsetex h ex 10 fields 2 a 1 b 2", ":1"),
        ("hgetex h fields 2 a c", "*2 $1 1 $-1"),
        ("httl h fields 2 a b", "*2 :10 :10"),
        ("hsetex h fnx fields 2 b 3 c 3", ":0"),
        ("hsetex h fxx fields 2 b 3 c 3", ":0"),
        ("hsetex h fxx keepttl fields 1 b 3", ":1"),
        ("hsetex h fnx px 500 fields 1 c 3", ":1"),
        ("hpttl h fields 3 a b c", "*3 :10000 :10000 :500"),
        ("hsetex h fields 1 a 4", ":1"),
        ("httl h fields 1 a", "*1 :-1"),
        ("hgetex h px 700 fields 1 a", "*1 $1 4"),
        ("hgetex h persist fields 1 b", "*1 $1 3"),
        ("hpttl h fields 2 a b", "*2 :700 :-1"),
        ("hgetex h exat 1 fields 1 a", "*1 $1 4"),
        ("hexists h a", ":0"),
        ("hgetdel h fields 2 b a", "*2 $1 3 $-1"),
        ("hgetdel h fields 1 c", "*1 $1 3"),
        ("exists h", ":0"),
        ("hsetex h ex 1 px 1 fields 1 a 1", "-ERR syntax error"),
        (
            "hsetex h fields 2 a 1",
            "-ERR The `numfields` parameter must match the number of arguments",
        ),
        ("hsetex h exat 1 fields 1 a 1", ":1"),
        ("exists h", ":0"),
    ]);
}

#[test]
fn the_cycle_finds_what_ended_and_nothing_is_left_behind() {
    let mut client = Client::resp2();
    for number in 0..200 {
        for member in 0..3 {
            client.run(&format!("sadd s{number} m{member}"));
            client.run(&format!("spexpire s{number} {} members 1 m{member}", 100 + number));
        }
    }
    for number in 0..1000 {
        client.run(&format!("hset big f{number} v"));
        client.run(&format!("hpexpire big {} fields 1 f{number}", 50 + number % 100));
    }
    client.run("del s5 s6");
    client.run("set s7 text");
    let now_ms = client.now_ms;
    let database = client.store.keyspace.database(0);
    assert_eq!((database.len(), database.timed_collections()), (199, 198));
    let mut steps = 0;
    while database.expire_step(now_ms + 100, 50) {
        steps += 1;
    }
    assert!(steps > 2, "{steps} steps: the budget bounds each");
    client.check(&[("hlen big", ":490"), ("exists s0", ":0"), ("exists s1", ":1")]);
    let database = client.store.keyspace.database(0);
    while database.expire_step(now_ms + 1000, 50) {}
    assert_eq!((database.len(), database.timed_collections()), (1, 0));
}

/// What a collection is, by name: members with the time they end.
type Model = BTreeMap<String, BTreeMap<String, Option<u64>>>;

fn prune(model: &mut Model, now_ms: u64) {
    for members in model.values_mut() {
        members.retain(|_, at_ms| at_ms.is_none_or(|at_ms| at_ms > now_ms));
    }
    model.retain(|_, members| !members.is_empty());
}

/// One random command on a client and on the model; `letter` is the type's: h, s or z.
fn step(client: &mut Client, model: &mut Model, random: &mut Random, letter: &str, spread: usize) {
    let key = format!("{letter}{}", random.below(3));
    let member = format!("{}{}", ["m", ""][random.below(2)], random.below(spread));
    let word = if letter == "h" { "fields" } else { "members" };
    let members = model.entry(key.clone()).or_default();
    match random.below(10) {
        0..4 => {
            let add = match letter {
                "h" => format!("hset {key} {member} v"),
                "s" => format!("sadd {key} {member}"),
                _ => format!("zadd {key} {} {member}", random.below(9)),
            };
            client.run(&add);
            let kept = members.get(&member).copied().flatten().filter(|_| letter != "h");
            members.insert(member, kept);
        }
        4 => {
            client.run(&format!(
                "{letter}{} {key} {member}",
                if letter == "h" { "del" } else { "rem" }
            ));
            members.remove(&member);
        }
        5..8 => {
            let at_ms = client.now_ms + random.below(60) as u64;
            client.run(&format!("{letter}pexpireat {key} {at_ms} {word} 1 {member}"));
            members.entry(member).and_modify(|before| *before = Some(at_ms));
        }
        8 => {
            client.run(&format!("{letter}persist {key} {word} 1 {member}"));
            members.entry(member).and_modify(|before| *before = None);
        }
        _ => {
            let (from, to) = (members.clone(), format!("{letter}{}", random.below(3)));
            if from.is_empty() || to == key {
                return;
            }
            if random.below(2) == 0 {
                client.run(&format!("copy {key} {to} replace"));
            } else {
                client.run(&format!("rename {key} {to}"));
                model.remove(&key);
            }
            model.insert(to, from);
        }
    }
}

#[test]
fn random_commands_agree_with_a_model_through_all_forms() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut client, mut model) = (Client::resp2(), Model::new());
        let letter = ["h", "s", "z"][seed as usize % 3];
        let spread = [6, 40, 700][seed as usize / 3 % 3];
        for index in 0..1500 {
            step(&mut client, &mut model, &mut random, letter, spread);
            client.now_ms += random.below(4) as u64;
            if random.below(40) == 0 {
                client.store.keyspace.expire_step(client.now_ms, 5);
            }
            prune(&mut model, client.now_ms);
            if index % 10 == 0 {
                compare(&mut client, &model, letter, seed);
            }
        }
        client.run("flushall");
        assert_eq!(client.store.keyspace.database(0).timed_collections(), 0);
    }
}

fn compare(client: &mut Client, model: &Model, letter: &str, seed: u64) {
    let word = if letter == "h" { "fields" } else { "members" };
    let empty = BTreeMap::new();
    for number in 0..3 {
        let key = format!("{letter}{number}");
        let members = model.get(&key).unwrap_or(&empty);
        let count = client.run(&format!(
            "{} {key}",
            if letter == "h" {
                "hlen"
            } else if letter == "s" {
                "scard"
            } else {
                "zcard"
            }
        ));
        assert_eq!(count, format!(":{}", members.len()), "seed {seed}, {key}");
        if let Some((member, at_ms)) = members.iter().nth(members.len() / 2) {
            let shown = client.run(&format!("{letter}pexpiretime {key} {word} 1 {member}"));
            let expected = at_ms.map_or(-1, |at_ms| at_ms as i64);
            assert_eq!(shown, format!("*1 :{expected}"), "seed {seed}, {key} {member}");
        }
    }
}
