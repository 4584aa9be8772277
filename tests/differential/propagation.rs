//! The feed against the store it comes from: after random commands, an empty store that is given the feed holds the same.
//!
//! Time passes, so keys and members end, by the commands that meet them and by the cycle. `SOCKETLEY_DIFFERENTIAL_SEED`
//! repeats a run, `SOCKETLEY_DIFFERENTIAL_COMMANDS` makes it longer. No redis-server is needed.

use std::sync::Arc;

use socketley::store::entry::Entry;
use socketley::store::feed::Subscription;
use socketley::store::replay::Replay;
use socketley::store::value::ValueRef;
use socketley::store::{Hasher, Session, Settings, SharedStore};

use super::generate::Generator;

const COMMANDS: usize = 40_000;
/// Commands between two comparisons.
const ROUND: usize = 100;

/// What redis-server doesn't have, or what the comparison with it can't bear.
const MORE: &[&str] = &[
    "SET {k} {v} PX {c}",
    "PSETEX {k} {c} {v}",
    "PEXPIRE {k} {c}",
    "GETEX {k} PX {c}",
    "MSETEX 2 {k} {v} {k} {v} PX {c}",
    "INCREX {k} BYINT {n} PX {c}",
    "DELEX {k}",
    "SET {k} {v} IFEQ {v}",
    "CL.THROTTLE {k} 5 10 1",
    "GCRA {k} 5 10 1",
    "HPEXPIRE {h} {c} FIELDS 2 {v} {v}",
    "HEXPIREAT {h} {at} FIELDS 1 {v}",
    "HPERSIST {h} FIELDS 1 {v}",
    "HSETEX {h} [FNX] PX {c} FIELDS 2 {v} {v} {v} {v}",
    "HSETEX {h} KEEPTTL FIELDS 1 {v} {v}",
    "HGETEX {h} (PX {c}|PERSIST) FIELDS 2 {v} {v}",
    "HGETDEL {h} FIELDS 2 {v} {v}",
    "SPEXPIRE {s} {c} MEMBERS 2 {v} {v}",
    "SPERSIST {s} MEMBERS 1 {v}",
    "ZPEXPIRE {z} {c} MEMBERS 2 {v} {v}",
    "EXPIREMEMBER {s} {v} {c} ms",
    "BLPOP {l} {l} 1",
    "BRPOP {l} {l} 1",
    "BLMOVE {l} {l} LEFT RIGHT 1",
    "BRPOPLPUSH {l} {l} 1",
    "BLMPOP 1 2 {l} {l} (LEFT|RIGHT) COUNT {c}",
    "BZPOPMIN {z} {z} 1",
    "BZPOPMAX {z} {z} 1",
    "BZMPOP 1 2 {z} {z} (MIN|MAX) COUNT {c}",
    "XREADGROUP GROUP {g} {g} [NOACK] BLOCK 1 STREAMS {t} >",
    "XADD {t} [MAXLEN ~ {c}] * {v} {v}",
    "MOVE {k} (0|1|2)",
    "COPY {k} {k} DB (0|1|2) REPLACE",
    "FLUSHALL",
];

/// A store, who follows it, and a copy made from what is heard.
struct Pair {
    original: Arc<SharedStore>,
    subscription: Arc<Subscription>,
    copy: Arc<SharedStore>,
    replay: Replay,
    session: Session,
    now_ms: u64,
    end: u64,
}

fn store(seed: u64) -> Arc<SharedStore> {
    SharedStore::new(&Settings {
        name: "db".to_owned(),
        hasher: Some(Hasher::seeded(seed)),
        seed,
        now_ms: 1_000_000,
        ..Settings::default()
    })
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let original = store(seed);
        let subscription = original.subscribe(1 << 30, Box::new(|| {}), 1_000_000);
        let session = original.session(1_000_000);
        let (copy, replay) = (store(seed + 1), Replay::default());
        Pair { original, subscription, copy, replay, session, now_ms: 1_000_000, end: 0 }
    }

    fn run(&mut self, command: &[Vec<u8>]) -> Vec<u8> {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        self.original.call(&mut self.session, &words, self.now_ms, &mut out);
        out
    }

    /// Gives the copy what there is.
    fn follow(&mut self) {
        for piece in self.subscription.take() {
            assert_eq!(piece.offset, self.end, "pieces follow each other");
            self.end += piece.bytes.len() as u64;
            let mut held = self.copy.lock(self.now_ms);
            let applied = self.replay.apply(&mut held, &piece.bytes, usize::MAX);
            // A panic under the lock would end the process before it is seen.
            drop(held);
            let shown = String::from_utf8_lossy(&piece.bytes).into_owned();
            assert_eq!(applied, Ok((piece.bytes.len(), false)), "{shown}");
            assert!(!self.replay.in_transaction(), "a piece is whole: {shown}");
        }
        assert_eq!(self.replay.applied(), self.end);
        let offset = self.original.lock(self.now_ms).instance.feed.offset();
        assert_eq!(offset, self.end);
    }
}

#[test]
fn a_copy_made_from_the_feed_is_equal() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SOCKETLEY_DIFFERENTIAL_SEED").unwrap_or(20_261_130);
    let commands = number("SOCKETLEY_DIFFERENTIAL_COMMANDS").map_or(COMMANDS, |it| it as usize);
    let mut pair = Pair::new(seed);
    let knows = |name: &str| socketley::store::table().lookup(name.as_bytes()).is_some();
    let mut generator = Generator::new(seed, &knows);
    let mut recent: Vec<String> = Vec::new();
    for index in 0..commands {
        let command = match generator.chance(MORE.len() * 4) {
            at if at < MORE.len() => generator.fill(MORE[at]),
            _ => generator.next(),
        };
        // These make the rest fail, or differ on purpose.
        if matches!(command[0].as_slice(), b"HELLO" | b"AUTH" | b"CLIENT" | b"CONFIG") {
            continue;
        }
        recent.push(show(&command));
        let reply = pair.run(&command);
        recent.push(format!("    {}", String::from_utf8_lossy(&reply).replace("\r\n", " ")));
        pair.now_ms += generator.chance(30) as u64;
        if index % 500 == 499 {
            pair.original.maintain(pair.now_ms, None, &[]);
        }
        if index % ROUND == ROUND - 1 {
            pair.follow();
            let (ours, theirs) = (contents(&pair.original), contents(&pair.copy));
            let differences: Vec<_> =
                ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).take(3).collect();
            assert!(
                ours == theirs,
                "seed {seed}, {index} commands: {} and {} keys\n{differences:#?}\nafter\n{}",
                ours.len(),
                theirs.len(),
                recent.join("\n"),
            );
            recent.clear();
        }
    }
    assert!(pair.end > commands as u64, "the feed says something");
}

fn show(command: &[Vec<u8>]) -> String {
    let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
    words.join(" ")
}

/// All keys with all that belongs to them, whatever order tables keep them in.
fn contents(store: &SharedStore) -> Vec<String> {
    let held = store.lock(0);
    let mut all = Vec::new();
    for (number, database) in held.keyspace.databases().iter().enumerate() {
        database.scan(0, usize::MAX, |entry| all.push(format!("{number} {}", content(entry))));
    }
    all.sort();
    all
}

fn content(entry: Entry<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut parts = Vec::new();
    match entry.value() {
        ValueRef::List(list) => {
            let elements = list.iter().map(|element| text(&element.to_vec()));
            return format!("{} {:?}", text(entry.key()), elements.collect::<Vec<_>>());
        }
        ValueRef::Set(set) => parts.extend(set.iter().map(|member| {
            let member = member.to_vec();
            format!("{} until {:?}", text(&member), set.deadline(&member))
        })),
        ValueRef::Hash(hash) => parts.extend(hash.iter().map(|(field, value)| {
            let field = field.to_vec();
            let until = hash.deadline(&field);
            format!("{} = {} until {until:?}", text(&field), text(&value.to_vec()))
        })),
        ValueRef::SortedSet(set) => set.for_each(|member, score| {
            let member = member.to_vec();
            parts.push(format!("{} {score} until {:?}", text(&member), set.deadline(&member)));
        }),
        ValueRef::Stream(stream) => {
            parts.extend(stream.iter().map(|entry| {
                let pairs = entry.pairs().map(|(field, value)| (field.to_vec(), value.to_vec()));
                format!("{:?} {:?}", entry.id, pairs.collect::<Vec<_>>())
            }));
            parts.push(format!(
                "z {:?} {:?} {}",
                stream.last_id, stream.max_deleted_id, stream.entries_added
            ));
            for (name, group) in &stream.groups {
                let consumers = group.consumers.iter().map(|(name, it)| (name, &it.pending));
                let consumers: Vec<_> = consumers.collect();
                let read = (group.last_id, group.entries_read, &group.pending);
                parts.push(format!("z {} {read:?} {consumers:?}", text(name)));
            }
        }
        other => parts.extend(other.text().map(|value| text(&value))),
    }
    parts.sort();
    format!("{} until {:?}: {parts:?}", text(entry.key()), entry.expires_ms())
}
