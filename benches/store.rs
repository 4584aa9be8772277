//! The keyspace by itself: nanoseconds per GET and SET, one at a time and in groups of 32 with prefetching as a batch
//! does it, bytes per key, and the longest insert while growing.
//!
//! `cargo bench --bench store -- growth` proves that no insert takes a millisecond while growing to 10,000,000 keys.
//! `cargo bench --bench store` for 100,000 and 1,000,000 keys; `cargo bench --bench store -- 10000000` for other numbers.
//! Keys have 16 bytes, values 64, in random order; hashing and writing RESP replies are included. Figures are the thread's
//! CPU time, medians of 5 rounds; only the inserts are timed one by one with the wall clock, so that the longest ones are
//! often other processes' doing. Neighbours also slow memory down: compare runs on one quiet machine.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::Instant;

use socketley::store::entry::Entry;
use socketley::store::random::Random;
use socketley::store::value::ValueRef;
use socketley::store::{Database, Expiry, Hasher, Keyspace, Reply};
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEY_BYTES: usize = 16;
const VALUE: [u8; 64] = [b'v'; 64];
const GROUP: usize = 32;
const ROUNDS: usize = 5;
const NOW_MS: u64 = 1_700_000_000_000;

type Key = [u8; KEY_BYTES];

fn main() {
    let numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let mut counts: Vec<usize> = numbers.collect();
    if std::env::args().any(|argument| argument == "growth") {
        return prove_growth(counts.pop().unwrap_or(10_000_000));
    }
    if counts.is_empty() {
        counts = vec![100_000, 1_000_000];
    }
    println!(
        "{:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}   insert us: p50 p99 p99.99 max",
        "keys", "get", "set", "get b32", "set b32", "miss b32", "B/key"
    );
    counts.into_iter().for_each(measure);
}

/// No insert may take longer, however large the table is.
const INSERT_MAX_US: f64 = 1000.0;
const GROWTHS: usize = 3;

/// The longest insert while growing to `count` keys. The table grows the same way each time, so each insert's least time
/// of several growths is its own: what interrupts it, it meets elsewhere the next time.
fn prove_growth(count: usize) {
    let keys: Vec<Key> = (0..count).map(key).collect();
    let mut least: Vec<u64> = vec![u64::MAX; count];
    for _ in 0..GROWTHS {
        let mut keyspace = Keyspace::new(Hasher::seeded(1), 1);
        for (least, time) in least.iter_mut().zip(fill(&mut keyspace, &keys)) {
            *least = (*least).min(time);
        }
    }
    least.sort_unstable();
    let at = |share: f64| least[((count - 1) as f64 * share) as usize] as f64 / 1000.0;
    let (usual, rare, longest) = (at(0.5), at(0.9999), at(1.0));
    println!(
        "{count:>10} inserts, least of {GROWTHS}: us p50 {usual:.2} p99.99 {rare:.1} max {longest:.1}"
    );
    assert!(longest < INSERT_MAX_US, "an insert took {longest} us");
}

fn measure(count: usize) {
    let mut random = Random::new(1);
    let mut keys: Vec<Key> = (0..count).map(key).collect();
    shuffle(&mut keys, &mut random);
    let before = allocated();
    let mut keyspace = Keyspace::new(Hasher::random(), 1);
    let mut inserts = fill(&mut keyspace, &keys);
    let bytes = allocated() - before - inserts.capacity() * size_of::<u64>();
    shuffle(&mut keys, &mut random);
    let absent: Vec<Key> = (count..2 * count).map(key).collect();
    let figures = [
        median(|| one_by_one(&mut keyspace, &keys, get)),
        median(|| one_by_one(&mut keyspace, &keys, set)),
        median(|| in_groups(&mut keyspace, &keys, get)),
        median(|| in_groups(&mut keyspace, &keys, set)),
        median(|| in_groups(&mut keyspace, &absent, get)),
    ];
    inserts.sort_unstable();
    let at = |share: f64| inserts[((count - 1) as f64 * share) as usize] as f64 / 1000.0;
    print!("{count:>10}");
    figures.iter().for_each(|figure| print!(" {figure:>8.1}"));
    print!(" {:>8.1}   ", bytes as f64 / count as f64);
    println!("{:.2} {:.2} {:.1} {:.1}", at(0.5), at(0.99), at(0.9999), at(1.0));
}

fn key(number: usize) -> Key {
    let text = format!("key:{number:012}");
    text.as_bytes().try_into().expect("4 and 12 bytes")
}

fn shuffle(keys: &mut [Key], random: &mut Random) {
    for index in (1..keys.len()).rev() {
        keys.swap(index, random.below(index + 1));
    }
}

fn allocated() -> usize {
    epoch::advance().expect("jemalloc keeps statistics");
    stats::allocated::read().expect("jemalloc keeps statistics")
}

/// Inserts all keys; the nanoseconds of each insert.
fn fill(keyspace: &mut Keyspace, keys: &[Key]) -> Vec<u64> {
    let hasher = keyspace.hasher();
    let database = keyspace.database(0);
    let mut times = Vec::with_capacity(keys.len());
    for key in keys {
        let hash = hasher.hash(key);
        let start = Instant::now();
        database.set_string(key, hash, &VALUE, Expiry::Clear);
        times.push(start.elapsed().as_nanos() as u64);
    }
    times
}

type Operation = fn(&mut Database, &Key, u64, &mut Vec<u8>);

#[inline(always)]
fn get(database: &mut Database, key: &Key, hash: u64, out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, false);
    match database.find(key, hash, NOW_MS).map(Entry::value) {
        Some(ValueRef::String(bytes)) => reply.bulk(bytes),
        _ => reply.null(),
    }
}

#[inline(always)]
fn set(database: &mut Database, key: &Key, hash: u64, out: &mut Vec<u8>) {
    database.set_string(key, hash, &VALUE, Expiry::Clear);
    Reply::new(out, false).ok();
}

/// The thread's CPU time so far; the kernel brings it up to date at each tick, so measure tens of milliseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with procfs");
    let first = text.split(' ').next().and_then(|number| number.parse().ok());
    first.expect("schedstat begins with the CPU time")
}

/// Nanoseconds per operation.
fn one_by_one(keyspace: &mut Keyspace, keys: &[Key], operation: Operation) -> f64 {
    let hasher = keyspace.hasher();
    let database = keyspace.database(0);
    let mut out = Vec::with_capacity(64 * 1024);
    let start = cpu_ns();
    for group in passes(keys) {
        out.clear();
        for key in group {
            operation(database, key, hasher.hash(key), &mut out);
        }
        black_box(&out);
    }
    (cpu_ns() - start) as f64 / (keys.len() * passes_of(keys)) as f64
}

fn in_groups(keyspace: &mut Keyspace, keys: &[Key], operation: Operation) -> f64 {
    let hasher = keyspace.hasher();
    let database = keyspace.database(0);
    let mut out = Vec::with_capacity(64 * 1024);
    let mut hashes = [0; GROUP];
    let start = cpu_ns();
    for group in passes(keys) {
        out.clear();
        for (key, hash) in group.iter().zip(&mut hashes) {
            *hash = hasher.hash(key);
            database.table().prefetch_bucket(*hash);
        }
        hashes[..group.len()].iter().for_each(|hash| database.table().prefetch_entry(*hash));
        for (key, hash) in group.iter().zip(&hashes) {
            operation(database, key, *hash, &mut out);
        }
        black_box(&out);
    }
    (cpu_ns() - start) as f64 / (keys.len() * passes_of(keys)) as f64
}

/// All keys in groups, as many times as fill some 50 milliseconds.
fn passes(keys: &[Key]) -> impl Iterator<Item = &[Key]> {
    std::iter::repeat_n(keys, passes_of(keys)).flat_map(|keys| keys.chunks(GROUP))
}

fn passes_of(keys: &[Key]) -> usize {
    (1_500_000 / keys.len()).max(1)
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut figures: Vec<f64> = (0..ROUNDS).map(|_| run()).collect();
    figures.sort_by(f64::total_cmp);
    figures[ROUNDS / 2]
}
