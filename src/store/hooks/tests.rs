//! Hooks without an app: the test takes what the app would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::crowd::Crowd;
use super::*;
use crate::limits::{BEHIND_KEYS_MAX, MISS_FLIGHT_MS, MISS_FLIGHTS_MAX, MISS_WAIT_MS};
use crate::proto::resp::ReplyReader;

const ALL: Wanted = Wanted::EXPIRE.with(Wanted::EVICT).with(Wanted::WRITE).with(Wanted::DELETE);

fn crowd(wanted: Wanted) -> Crowd {
    let mut crowd = Crowd::new(4);
    crowd.store.attach_hooks(0, wanted, 3, Arc::new(|| {}));
    crowd
}

fn events(crowd: &mut Crowd) -> Vec<String> {
    let taken = crowd.store.take_hooks(0, usize::MAX).events;
    taken.iter().map(shown).collect()
}

fn shown(event: &HookEvent) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\r\n", " ");
    let value = match &event.value {
        HookValue::Absent => "-".to_owned(),
        HookValue::Text(value) => text(value),
        HookValue::Collection(value) => text(value).trim_end().to_owned(),
        HookValue::TooLarge => "too large".to_owned(),
    };
    let ttl = event.ttl_ms.map_or(String::new(), |ttl_ms| format!(" {ttl_ms}ms"));
    let (kind, database, key) = (event.kind, event.database, text(&event.key));
    format!("{kind:?} {database} {key} {value}{ttl} {}", event.command).trim_end().to_owned()
}

#[test]
fn what_commands_do_to_keys_is_told_with_values() {
    let mut crowd = crowd(ALL);
    for (line, expected) in [
        ("set k v", &["Written 0 k v set"][..]),
        ("set k 5 px 700", &["Written 0 k 5 700ms set"]),
        ("get k", &[]),
        ("set k x nx", &[]),
        ("incr k", &["Written 0 k 6 700ms incr"]),
        ("persist k", &["Written 0 k 6 persist"]),
        ("hset h f 1", &["Written 0 h - hset"]),
        ("mset a 1 b 2", &["Written 0 a 1 mset", "Written 0 b 2 mset"]),
        ("rename a c", &["Deleted 0 a - rename", "Written 0 c 1 rename"]),
        ("del b none c", &["Deleted 0 b - del", "Deleted 0 c - del"]),
        ("rpush l x", &["Written 0 l - rpush"]),
        ("lpop l", &["Deleted 0 l - lpop"]),
        ("select 3", &[]),
        ("set k other", &["Written 3 k other set"]),
        ("select 0", &[]),
        ("multi", &[]),
        ("set k in", &[]),
        ("exec", &["Written 0 k in set"]),
        ("getdel k", &["Deleted 0 k - getdel"]),
    ] {
        crowd.run(0, line);
        assert_eq!(events(&mut crowd), expected, "{line}");
    }
    crowd.store.detach_hooks(0);
    crowd.run(0, "set k v");
    assert!(events(&mut crowd).is_empty());
    assert!(crowd.store.instance.attention.is_empty(), "nobody hears: nothing is looked at");
}

/// Redis tells that a key has expired when its value is gone already.
#[test]
fn keys_that_go_by_themselves_are_told_with_what_they_held() {
    let mut crowd = crowd(ALL);
    for line in [
        "set s text px 100",
        "rpush l a 7",
        "pexpire l 100",
        "hset h f v",
        "pexpire h 100",
        "sadd t m",
        "pexpire t 100",
        "zadd z 1.5 m",
        "pexpire z 100",
    ] {
        crowd.run(0, line);
    }
    events(&mut crowd);
    crowd.now_ms += 100;
    for (key, expected) in [
        ("s", "Expired 0 s text"),
        ("l", "Expired 0 l *2 $1 a $1 7"),
        ("h", "Expired 0 h %1 $1 f $1 v"),
        ("t", "Expired 0 t ~1 $1 m"),
        ("z", "Expired 0 z %1 $1 m ,1.5"),
    ] {
        crowd.run(0, &format!("exists {key}"));
        assert_eq!(events(&mut crowd), [expected], "{key}");
    }
    crowd.store.detach_hooks(0);
    crowd.store.attach_hooks(0, Wanted::EVICT, 0, Arc::new(|| {}));
    crowd.run(0, "set big xxxxxxxxxxxxxxxx");
    crowd.run(0, "config set maxmemory-policy allkeys-random");
    crowd.run(0, "config set maxmemory 1");
    crowd.run(0, "ping");
    if crate::store::meter::balance() != 0 {
        assert_eq!(events(&mut crowd), ["Evicted 0 big xxxxxxxxxxxxxxxx"]);
    }
}

#[test]
fn a_full_queue_drops_the_newest_and_counts() {
    let mut crowd = crowd(Wanted::WRITE);
    for number in 0..HOOK_EVENTS_MAX + 5 {
        crowd.run(0, &format!("set k {number}"));
    }
    let figures = crowd.store.instance.hooks.figures().expect("an app has hooks");
    assert_eq!((figures.queued, figures.dropped), (HOOK_EVENTS_MAX as u64, 5));
    let taken = crowd.store.take_hooks(0, 2);
    assert_eq!((taken.events.len(), taken.dropped), (2, (5, 0)));
    assert_eq!(shown(&taken.events[0]), "Written 0 k 0 set");
    crowd.run(0, "set k more");
    let figures = crowd.store.instance.hooks.figures().expect("an app has hooks");
    assert_eq!((figures.queued, figures.told), (HOOK_EVENTS_MAX as u64 - 1, 2));
    let value = "x".repeat(HOOK_QUEUE_BYTES_MAX / 40);
    crowd.store.take_hooks(0, usize::MAX);
    (0..60).for_each(|_| drop(crowd.run(0, &format!("set k {value}"))));
    let figures = crowd.store.instance.hooks.figures().expect("an app has hooks");
    assert!(figures.queued < 40 && figures.dropped > 5 + 20, "bytes are bounded: {figures:?}");
}

#[test]
fn the_consumer_is_told_once_until_it_takes() {
    let told = Arc::new(AtomicUsize::new(0));
    let mut crowd = Crowd::new(1);
    let count = Arc::clone(&told);
    let tell = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    crowd.store.attach_hooks(0, Wanted::WRITE, 0, tell);
    let release = |crowd: &mut Crowd| {
        let nudges = std::mem::take(&mut crowd.store.instance.nudges);
        nudges.into_iter().for_each(|nudge| nudge());
        told.swap(0, Ordering::Relaxed)
    };
    assert_eq!(release(&mut crowd), 1, "there may be something from before");
    crowd.store.take_hooks(0, 9);
    (0..3).for_each(|_| drop(crowd.run(0, "set k v")));
    assert_eq!(release(&mut crowd), 1);
    assert_eq!(crowd.store.take_hooks(0, 1).events.len(), 1);
    crowd.run(0, "set k v");
    assert_eq!(release(&mut crowd), 0, "whoever leaves events comes back by itself");
    assert_eq!(crowd.store.take_hooks(0, 9).events.len(), 3);
    crowd.run(0, "set k v");
    assert_eq!(release(&mut crowd), 1);
}

fn asked(crowd: &mut Crowd) -> Vec<(u64, String)> {
    let asked = crowd.store.take_hooks(0, 0).asked.into_iter();
    asked.map(|asked| (asked.number, String::from_utf8_lossy(&asked.key).into_owned())).collect()
}

fn land(crowd: &mut Crowd, number: u64, landing: Landing, ttl_ms: Option<u64>) -> Vec<String> {
    crowd.store.now_ms = crowd.now_ms;
    crowd.store.land(number, landing, ttl_ms);
    crowd.heard()
}

fn text(value: &str) -> Landing {
    Landing::Text(value.as_bytes().to_vec())
}

#[test]
fn a_missing_key_is_asked_for_once_and_all_who_wait_get_it() {
    let mut crowd = crowd(Wanted::MISS.with(Wanted::WRITE));
    crowd.run(3, "hello 3");
    for (client, line) in [(0, "get k"), (1, "getex k px 500"), (3, "get k")] {
        assert_eq!(crowd.run(client, line), "", "{line} waits");
    }
    let flights = asked(&mut crowd);
    assert_eq!(flights.len(), 1, "one flight for three clients");
    assert!(asked(&mut crowd).is_empty());
    let heard = land(&mut crowd, flights[0].0, text("v"), Some(60_000));
    assert_eq!(heard, ["a: $1 v", "b: $1 v", "d: $1 v"]);
    assert_eq!(crowd.run(0, "pttl k"), ":500", "GETEX ran as itself");
    assert!(events(&mut crowd).iter().all(|event| event.ends_with("getex")), "no write of ours");
    assert_eq!(crowd.run(0, "get k"), "$1 v");
    let snapshot = crowd.store.instance.hooks.figures().expect("an app has hooks");
    assert_eq!((snapshot.asked, snapshot.asking), (1, 0));
}

#[test]
fn several_keys_land_one_by_one() {
    let mut crowd = crowd(Wanted::MISS);
    crowd.run(0, "set there 1");
    assert_eq!(crowd.run(0, "mget a there b a"), "");
    let flights = asked(&mut crowd);
    assert_eq!(flights.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(crowd.run(1, "get b"), "", "b has one flight");
    assert!(land(&mut crowd, flights[0].0, text("A"), None).is_empty());
    let heard = land(&mut crowd, flights[1].0, Landing::Nothing, None);
    assert_eq!(heard, ["a: *4 $1 A $1 1 $-1 $1 A", "b: $-1"]);
    assert_eq!(crowd.run(2, "hgetall h"), "");
    let flights = asked(&mut crowd);
    let pairs = ["f", "1", "g", "2"].map(|word| word.as_bytes().to_vec()).to_vec();
    let heard = land(&mut crowd, flights[0].0, Landing::Hash(pairs), Some(9_000));
    assert_eq!(heard, ["c: *4 $1 f $1 1 $1 g $1 2"]);
    assert_eq!(crowd.run(0, "pttl h"), ":9000");
    assert_eq!(crowd.run(0, "ttl a"), ":-1");
}

#[test]
fn what_is_written_meanwhile_wins() {
    let mut crowd = crowd(Wanted::MISS);
    crowd.run(0, "get k");
    let flights = asked(&mut crowd);
    crowd.run(1, "set k newer");
    assert_eq!(land(&mut crowd, flights[0].0, text("older"), None), ["a: $5 newer"]);
}

#[test]
fn transactions_and_commands_that_dont_read_through_never_ask() {
    let mut crowd = crowd(Wanted::MISS);
    for (line, reply) in [
        ("multi", "+OK"),
        ("get k", "+QUEUED"),
        ("mget k l", "+QUEUED"),
        ("exec", "*2 $-1 *2 $-1 $-1"),
        ("exists k", ":0"),
        ("hget k f", "$-1"),
        ("strlen k", ":0"),
    ] {
        assert_eq!(crowd.run(0, line), reply, "{line}");
    }
    assert!(asked(&mut crowd).is_empty());
}

#[test]
fn waits_are_timed_and_failures_are_told() {
    let mut crowd = crowd(Wanted::MISS);
    crowd.run(0, "get slow");
    let flights = asked(&mut crowd);
    crowd.check(&[(&format!("+{MISS_WAIT_MS}"), "", "a: -TIMEOUT on_miss took too long")]);
    crowd.run(0, "get slow");
    assert!(asked(&mut crowd).is_empty(), "it is still on its way");
    assert_eq!(land(&mut crowd, flights[0].0, text("late"), None), ["a: $4 late"]);
    crowd.run(0, "mget x y");
    let flights = asked(&mut crowd);
    let failed = Landing::Failed(b"ERR no database".to_vec());
    assert_eq!(land(&mut crowd, flights[0].0, failed, None), ["a: -ERR no database"]);
    assert!(land(&mut crowd, flights[1].0, text("y"), None).is_empty());
    assert_eq!(crowd.run(0, "get y"), "$1 y", "what landed stays");
    crowd.run(1, "get stuck");
    crowd.run(2, "get stuck");
    let flights = asked(&mut crowd);
    crowd.store.abandon(&mut crowd.sessions[2]);
    crowd.sessions[2].end_wait();
    crowd.now_ms += MISS_FLIGHT_MS;
    crowd.store.now_ms = crowd.now_ms;
    crowd.run(0, "get stuck");
    assert_eq!(crowd.heard(), ["b: -ERR on_miss took too long"], "c has gone");
    assert_eq!(asked(&mut crowd).len(), 1, "asked again");
    assert!(land(&mut crowd, flights[0].0, text("old"), None).is_empty(), "of the old flight");
}

#[test]
fn flights_are_bounded() {
    let mut crowd = crowd(Wanted::MISS);
    let keys: Vec<String> = (0..MISS_FLIGHTS_MAX).map(|key| format!("k{key}")).collect();
    assert_eq!(crowd.run(0, &format!("mget {}", keys.join(" "))), "");
    let refused = "-ERR on_miss has too much to do: too many keys are asked for; try again";
    assert_eq!(crowd.run(1, "get one-more"), refused);
    assert_eq!(crowd.run(1, "get k0"), "", "a key that is asked for already can be waited for");
    assert_eq!(crowd.store.instance.hooks.figures().map(|figures| figures.refused), Some(1));
    assert_eq!(asked(&mut crowd).len(), MISS_FLIGHTS_MAX);
    crowd.store.detach_hooks(0);
    let heard = crowd.heard();
    assert_eq!((heard.len(), heard[0].as_str()), (2, "b: $-1"), "nobody answers any more");
}

fn rows(batch: &Batch) -> Vec<String> {
    use crate::proto::resp::Value;
    let read = ReplyReader::default().read(&batch.rows).expect("well-formed").expect("whole");
    let Value::Array(rows) = read.0 else { panic!("{:?}", read.0) };
    assert_eq!(rows.len(), batch.keys);
    let shown = |value: &Value| match value {
        Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    };
    let row = |row: &Value| {
        let Value::Map(pairs) = row else { panic!("{row:?}") };
        let pairs = pairs.iter().map(|(key, value)| format!("{}={}", shown(key), shown(value)));
        pairs.collect::<Vec<_>>().join(" ")
    };
    rows.iter().map(row).collect()
}

#[test]
fn changes_are_written_once_with_the_last_value() {
    let mut crowd = crowd(Wanted::BEHIND);
    for line in ["set a 1", "set a 2 px 1500", "set b 1", "del b", "set c 1"] {
        crowd.run(0, line);
    }
    assert_eq!(crowd.store.take_hooks(0, 9).behind, Some(true), "three keys are a batch here");
    crowd.run(0, "set d 1");
    let batch = crowd.store.start_behind().expect("there are changes");
    assert_eq!(
        rows(&batch),
        [
            "key=a database=Integer(0) ttl=Double(1.5) value=2",
            "key=b database=Integer(0) deleted=Boolean(true)",
            "key=c database=Integer(0) value=1"
        ]
    );
    assert!(crowd.store.start_behind().is_none(), "one batch at a time");
    crowd.run(0, "set c 2");
    assert_eq!(crowd.store.finish_behind(false), 4);
    let batch = crowd.store.start_behind().expect("there are changes");
    let keys: Vec<String> = rows(&batch).iter().map(|row| row[4..5].to_owned()).collect();
    assert_eq!(keys, ["a", "b", "d"], "what failed comes first, c changed again since");
    assert_eq!(crowd.store.finish_behind(true), 1);
    let batch = crowd.store.start_behind().expect("there are changes");
    assert_eq!(rows(&batch), ["key=c database=Integer(0) value=2"]);
    assert_eq!(crowd.store.finish_behind(true), 0);
    let figures = crowd.store.instance.hooks.figures().expect("an app has hooks");
    assert_eq!((figures.written, figures.retried, figures.behind), (4, 1, 0));
}

/// A value that expired or was evicted before its batch would be lost.
#[test]
fn what_goes_by_itself_is_written_all_the_same() {
    let mut crowd = crowd(Wanted::BEHIND);
    crowd.run(0, "set a precious px 100");
    crowd.now_ms += 100;
    crowd.run(0, "exists a");
    let batch = crowd.store.start_behind().expect("there are changes");
    assert_eq!(rows(&batch), ["key=a database=Integer(0) value=precious"]);
    crowd.store.finish_behind(false);
    let batch = crowd.store.start_behind().expect("there are changes");
    assert_eq!(rows(&batch), ["key=a database=Integer(0) value=precious"], "again");
}

#[test]
fn changed_keys_are_bounded() {
    let mut crowd = crowd(Wanted::BEHIND);
    for number in 0..BEHIND_KEYS_MAX + 2 {
        crowd.run(0, &format!("set k{number} v"));
    }
    crowd.run(0, "set k0 again");
    let figures = crowd.store.instance.hooks.figures().expect("an app has hooks");
    assert_eq!((figures.behind, figures.lost), (BEHIND_KEYS_MAX as u64, 2));
    assert_eq!(crowd.store.take_hooks(0, 0).dropped, (0, 2));
}

/// Events that an app had taken counted as the store's memory for ever, so that a limited cache evicted more and more.
#[test]
fn what_the_app_takes_is_not_the_stores() {
    use crate::store::{Settings, SharedStore};
    let store = SharedStore::new(&Settings { seed: 1, ..Settings::default() });
    store.lock(0).attach_hooks(0, ALL.with(Wanted::MISS), 0, Arc::new(|| {}));
    let mut session = store.session(0);
    let value = "v".repeat(3000);
    let mut now_ms = 1_000;
    let mut round = || {
        let mut out = Vec::with_capacity(64);
        for words in [
            &["SET", "text", &value, "PX", "1"][..],
            &["RPUSH", "list", &value, "x"],
            &["PEXPIRE", "list", "1"],
        ] {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            store.call(&mut session, &words, now_ms, &mut out);
        }
        now_ms += 5;
        store.call(&mut session, &[b"EXISTS", b"text", b"list"], now_ms, &mut out);
        drop(store.lock(now_ms).take_hooks(0, usize::MAX));
        store.free_garbage();
        store.snapshot(now_ms).memory_bytes as i64
    };
    for _ in 0..10 {
        round();
    }
    let before = round();
    for _ in 0..100 {
        round();
    }
    let grown = round() - before;
    assert!(grown.abs() < 4_000, "{grown} bytes more after 100 rounds of 12 KB");
}
