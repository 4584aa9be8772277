//! Limits hold, the right keys go, and a store's bytes are the allocator's.

use super::*;
use crate::store::commands::testing::Client;
use crate::store::{Session, Settings, SharedStore};

/// Sets the limit without a command, which might meet it.
fn limit(client: &mut Client, maxmemory: u64) {
    let Store { keyspace, instance, .. } = &mut client.store;
    instance.config.maxmemory = maxmemory;
    instance.apply_config(keyspace);
}

fn client(policy: &str, maxmemory: u64) -> Client {
    let mut client = Client::resp2();
    client.check(&[(&format!("CONFIG SET maxmemory-policy {policy}"), "+OK")]);
    client.check(&[(&format!("CONFIG SET maxmemory {maxmemory}"), "+OK")]);
    client
}

fn used(client: &Client) -> u64 {
    client.store.instance.meter.bytes()
}

/// Writes `count` keys of a kilobyte, the `n`-th `n` seconds after the start; every second one expires sometime.
fn fill(client: &mut Client, keys: std::ops::Range<u64>) {
    let value = "x".repeat(1000);
    for number in keys {
        client.now_ms += 1000;
        let expiry =
            if number % 2 == 0 { format!(" EX {}", 1_000_000 + number) } else { String::new() };
        assert_eq!(client.run(&format!("SET key:{number} {value}{expiry}")), "+OK", "{number}");
    }
}

#[test]
fn every_policy_keeps_the_limit() {
    for (name, policy) in Policy::NAMES.iter().filter(|(_, policy)| *policy != Policy::NoEviction) {
        let limit = used(&Client::resp2()) + 4_500_000;
        let mut client = client(name, limit);
        fill(&mut client, 0..6000);
        client.run("PING");
        assert!(used(&client) <= limit, "{name}: {} of {limit}", used(&client));
        assert!(used(&client) > limit - 100_000, "{name}: {} of {limit}", used(&client));
        let kept = client.store.keyspace.databases()[0].len();
        let evicted = client.store.keyspace.statistics().evicted as usize;
        assert_eq!(kept + evicted, 6000, "{name}");
        if policy.is_volatile() {
            assert!(
                (1..6000).step_by(2).all(|n| client.run(&format!("EXISTS key:{n}")) == ":1"),
                "{name}"
            );
        }
    }
}

#[test]
fn without_candidates_only_what_needs_memory_is_refused() {
    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        let mut client = client(policy, 1);
        client.check(&[
            ("SET a b", OOM),
            ("LPUSH l x", OOM),
            ("GET a", "$-1"),
            ("DEL a", ":0"),
            ("PING", "+PONG"),
            ("MULTI", "+OK"),
            ("GET a", "+QUEUED"),
            ("EXEC", "*1 $-1"),
            ("MULTI", "+OK"),
            ("SET a b", OOM),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
            ("CONFIG SET maxmemory 0", "+OK"),
            ("SET a b", "+OK"),
            ("MULTI", "+OK"),
            ("SET a c", "+QUEUED"),
        ]);
        limit(&mut client, 1);
        let refused = client.run("EXEC");
        assert!(
            refused.starts_with("-EXECABORT Transaction discarded because of: OOM"),
            "{refused}"
        );
    }
}

/// Redis's own measure: read the first half again and again while writing; how much of it survives.
#[test]
fn lru_keeps_what_is_used_also_after_days() {
    for pause_s in [1, 3600, 4 * 86_400] {
        let mut client = client("allkeys-lru", 0);
        client.now_ms = 1_790_000_000_000;
        let value = "x".repeat(100);
        let advance = |client: &mut Client, ms: u64| {
            client.now_ms += ms;
            let now_ms = client.now_ms;
            client.store.keyspace.for_each_clock(|clock| clock.set_time(now_ms));
        };
        for number in 0..2000 {
            client.run(&format!("SET old:{number} {value}"));
        }
        advance(&mut client, pause_s * 1000);
        for number in 0..1000 {
            client.run(&format!("GET old:{number}"));
        }
        advance(&mut client, pause_s * 1000);
        let limit = used(&client);
        client.check(&[(&format!("CONFIG SET maxmemory {limit}"), "+OK")]);
        for number in 0..700 {
            assert_eq!(client.run(&format!("SET new:{number} {value}")), "+OK");
        }
        let count = |client: &mut Client, range: std::ops::Range<u64>| {
            range.filter(|n| client.run(&format!("EXISTS old:{n}")) == ":1").count()
        };
        let (used_again, unused) = (count(&mut client, 0..1000), count(&mut client, 1000..2000));
        assert!(
            used_again > 950 && unused < 400,
            "{used_again} {unused} with pauses of {pause_s} s"
        );
    }
}

#[test]
fn lfu_keeps_what_is_used_often() {
    let mut client = client("allkeys-lfu", 0);
    let value = "x".repeat(100);
    for number in 0..1000 {
        client.run(&format!("SET key:{number} {value}"));
    }
    for _ in 0..50 {
        for number in 0..100 {
            client.run(&format!("GET key:{number}"));
        }
    }
    let limit = used(&client);
    client.check(&[(&format!("CONFIG SET maxmemory {limit}"), "+OK")]);
    for number in 0..800 {
        assert_eq!(client.run(&format!("SET new:{number} {value}")), "+OK");
    }
    let kept = (0..100).filter(|n| client.run(&format!("EXISTS key:{n}")) == ":1").count();
    assert!(kept >= 97, "{kept}");
    assert!(
        client.run("OBJECT FREQ key:1").trim_start_matches(':').parse::<u32>().is_ok_and(|n| n > 7)
    );
    assert!(client.run("OBJECT IDLETIME key:1").starts_with("-ERR An LFU maxmemory policy"));
}

#[test]
fn the_next_to_expire_go_first() {
    let mut client = client("volatile-ttl", 0);
    let value = "x".repeat(100);
    for number in 0..1000 {
        client.run(&format!("SET key:{number} {value} EX {}", 1000 + number));
    }
    let limit = used(&client);
    client.check(&[(&format!("CONFIG SET maxmemory {limit}"), "+OK")]);
    for number in 0..500 {
        client.run(&format!("SET new:{number} {value}"));
    }
    let kept = |client: &mut Client, range: std::ops::Range<u64>| {
        range.filter(|n| client.run(&format!("EXISTS key:{n}")) == ":1").count()
    };
    let (early, late) = (kept(&mut client, 0..300), kept(&mut client, 700..1000));
    assert!(early < 30 && late > 280, "{early} {late}");
}

#[test]
fn a_watched_key_that_is_evicted_aborts() {
    let mut client = client("allkeys-random", 0);
    client.check(&[("SET a b", "+OK"), ("WATCH a", "+OK")]);
    limit(&mut client, 1);
    client.run("PING");
    limit(&mut client, 0);
    client.check(&[("EXISTS a", ":0"), ("MULTI", "+OK"), ("EXEC", "*-1")]);
}

/// All kinds of values come and go on several threads; what remains of an empty store is what it began with.
#[test]
fn bytes_are_the_allocators_and_come_back() {
    let settings =
        Settings { hasher: Some(crate::store::Hasher::seeded(1)), ..Settings::default() };
    let store = SharedStore::new(&settings);
    let bytes = || store.snapshot(1_000).memory_bytes;
    let run = |lines: &(dyn Fn(u64) -> String + Sync), count: u64| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut session, mut out) = (Session::new(7), Vec::new());
                for number in 0..count {
                    let line = lines(number);
                    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                    out.clear();
                    store.call(&mut session, &words, 1_000, &mut out);
                    assert!(!out.starts_with(b"-"), "{line}: {}", String::from_utf8_lossy(&out));
                }
            });
        });
    };
    run(&|_| "GET a".to_owned(), 1);
    let start = bytes();
    run(&|n| format!("SET key:{n} {}", "v".repeat(n as usize % 5000)), 3000);
    let grown = bytes() - start;
    let payload: u64 = (0..3000).map(|n| n % 5000 + 8).sum();
    assert!(grown > payload && grown < payload * 14 / 10, "{grown} for {payload}");
    run(&|n| format!("RPUSH list:{} {}", n % 7, "v".repeat(n as usize % 300)), 3000);
    run(&|n| format!("SADD set:{} member:{n}", n % 3), 3000);
    run(&|n| format!("HSET hash:{} field:{n} {}", n % 3, "v".repeat(n as usize % 100)), 3000);
    run(&|n| format!("ZADD sorted:{} {n} member:{n}", n % 3), 3000);
    run(&|n| format!("LPOP list:{}", n % 6), 1000);
    assert!(bytes() > start + grown);
    run(&|_| "FLUSHALL".to_owned(), 1);
    while store.maintain(2_000, None, &[]) != crate::store::shared::Upkeep::Done {}
    let rest = bytes() as i64 - start as i64;
    assert!(rest.abs() < 8_000, "{rest} bytes are left of {grown}");
}

#[test]
fn a_client_that_leaves_no_trace_leaves_none() {
    let mut client = Client::resp2();
    let pass = |client: &mut Client, ms: u64| {
        client.now_ms += ms;
        let now_ms = client.now_ms;
        client.store.keyspace.for_each_clock(|clock| clock.set_time(now_ms));
    };
    pass(&mut client, 0);
    client.check(&[("SET key value", "+OK"), ("CLIENT NO-TOUCH ON", "+OK")]);
    pass(&mut client, 100_000);
    client.check(&[("GET key", "$5 value"), ("OBJECT IDLETIME key", ":100")]);
    client.check(&[("TOUCH key", ":1"), ("OBJECT IDLETIME key", ":0")]);
    pass(&mut client, 50_000);
    client.check(&[("CLIENT NO-TOUCH OFF", "+OK"), ("OBJECT IDLETIME key", ":50")]);
    client.check(&[("GET key", "$5 value"), ("OBJECT IDLETIME key", ":0")]);
}
