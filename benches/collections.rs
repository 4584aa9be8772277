//! Collections through the store's one way in: nanoseconds per command, and bytes of memory per key or element.
//!
//! `cargo bench --bench collections`; `-- l` runs only the commands whose names begin so. One command at a time, without parsing and prefetching (`serve` has those); replies
//! are written. Keys have 16 bytes. Figures are the thread's CPU time, and what jemalloc says is allocated.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;

use socketley::store::random::Random;
use socketley::store::{Args, Session, Settings, Span, Store, table};
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Elements of a big collection.
const ELEMENTS: usize = 500_000;
/// Keys of small collections, of ten elements each.
const KEYS: usize = 50_000;
const NOW_MS: u64 = 1_700_000_000_000;

struct Bench {
    store: Store,
    session: Session,
    random: Random,
    out: Vec<u8>,
}

fn main() {
    println!("{:<12} {:>8}", "command", "ns");
    let mut bench = Bench::new();
    let member = |number: usize| format!("member:{number:09}");
    bench.time("lpush", |_| vec!["LPUSH".into(), "list".into(), "a-list's-element".into()]);
    bench.time("llen", |_| vec!["LLEN".into(), "list".into()]);
    bench.time("lpop", |_| vec!["LPOP".into(), "list".into()]);
    bench.time("rpush", |_| vec!["RPUSH".into(), "list".into(), "a-list's-element".into()]);
    bench.time("sadd new", |number| vec!["SADD".into(), "set".into(), member(number)]);
    bench.time("sadd again", |number| vec!["SADD".into(), "set".into(), member(number)]);
    bench.time("sismember", |number| vec!["SISMEMBER".into(), "set".into(), member(number)]);
    bench.time("hset new", |number| hset("hash".into(), number));
    bench.time("hset again", |number| hset("hash".into(), number));
    bench.time("hget", |number| vec!["HGET".into(), "hash".into(), member(number)]);
    bench.time("hset small", |number| hset(format!("key:{:012}", number % KEYS), number / KEYS));
    bench.time("zadd rising", |number| zadd("rising", number, number));
    bench.time("zadd new", |number| zadd("sorted", number * 7919 % ELEMENTS, number));
    bench.time("zadd move", |number| zadd("sorted", number * 104_729 % ELEMENTS, number));
    bench.time("zscore", |number| vec!["ZSCORE".into(), "sorted".into(), member(number)]);
    bench.time("zrank", |number| vec!["ZRANK".into(), "sorted".into(), member(number)]);
    if std::env::args().skip(1).any(|wish| !wish.starts_with('-')) {
        return;
    }
    println!("\n{:<32} {:>8}", "bytes per", "");
    small_memory();
    big_memory();
}

fn hset(key: String, number: usize) -> Vec<String> {
    vec!["HSET".into(), key, format!("member:{number:09}"), "a-value-16-bytes".into()]
}

fn zadd(key: &str, score: usize, number: usize) -> Vec<String> {
    vec!["ZADD".into(), key.into(), score.to_string(), format!("member:{number:09}")]
}

/// Keys with ten elements, in the forms of the table in Redis's own measurements.
fn small_memory() {
    let word = |index: usize| format!("elem-{index:03}");
    measure_memory("list of 10 x 8 bytes", KEYS, 10, |index| vec!["RPUSH".into(), word(index)]);
    measure_memory("set of 10 x 8 bytes", KEYS, 10, |index| vec!["SADD".into(), word(index)]);
    measure_memory("set of 10 integers", KEYS, 10, |index| vec!["SADD".into(), index.to_string()]);
    measure_memory("hash of 10 fields, 5 + 8 bytes", KEYS, 10, |index| {
        vec!["HSET".into(), format!("fld{index:02}"), word(index)]
    });
    measure_memory("sorted set of 10 x 8 bytes", KEYS, 10, |index| {
        vec!["ZADD".into(), index.to_string(), word(index)]
    });
}

fn big_memory() {
    let member = |number: usize| format!("member:{number:09}");
    measure_memory("big list's element, 16 bytes", 1, ELEMENTS, |index| {
        vec!["RPUSH".into(), member(index)]
    });
    measure_memory("big set's member, 16 bytes", 1, ELEMENTS, |index| {
        vec!["SADD".into(), member(index)]
    });
    measure_memory("big hash's field, 8 + 16 bytes", 1, ELEMENTS, |index| {
        vec!["HSET".into(), format!("{index:08}x"), member(index)]
    });
    measure_memory("big sorted set's member, 16 bytes", 1, ELEMENTS, |index| {
        vec!["ZADD".into(), (index * 7919 % ELEMENTS).to_string(), member(index)]
    });
}

/// Bytes per key, or per element of the one key. `command` is without its key.
fn measure_memory(
    name: &str,
    keys: usize,
    elements: usize,
    command: impl Fn(usize) -> Vec<String>,
) {
    let mut bench = Bench::new();
    let before = allocated();
    for key in 0..keys {
        for index in 0..elements {
            let mut words = command(index);
            words.insert(1, format!("key:{key:012}"));
            bench.run(&words);
        }
    }
    let count = if keys == 1 { elements } else { keys };
    println!("{name:<34} {:>6.1}", (allocated() - before) as f64 / count as f64);
}

impl Bench {
    fn new() -> Bench {
        Bench {
            store: Store::new(&Settings { seed: 1, ..Settings::default() }),
            session: Session::new(1),
            random: Random::new(1),
            out: Vec::with_capacity(1024 * 1024),
        }
    }

    /// Runs the command for every number below [`ELEMENTS`] in random order.
    fn time(&mut self, name: &str, command: impl Fn(usize) -> Vec<String>) {
        // Cargo adds an option of its own.
        if std::env::args().skip(1).any(|wish| !wish.starts_with('-') && !name.starts_with(&wish)) {
            return;
        }
        let mut numbers: Vec<usize> = (0..ELEMENTS).collect();
        for index in (1..ELEMENTS).rev() {
            numbers.swap(index, self.random.below(index + 1));
        }
        if name == "zadd rising" {
            numbers.sort_unstable();
        }
        let mut base = Vec::new();
        let mut ends = Vec::new();
        for number in numbers {
            for word in command(number) {
                base.extend_from_slice(word.as_bytes());
                ends.push(base.len());
            }
        }
        let words = command(0).len();
        let mut start = 0;
        let mut spans: Vec<Span> = Vec::with_capacity(ends.len());
        for end in ends {
            spans.push(Span { start: start as u32, len: (end - start) as u32 });
            start = end;
        }
        let begin = cpu_ns();
        spans.chunks(words).for_each(|spans| self.execute(Args::new(&base, spans)));
        println!("{name:<12} {:>8.1}", (cpu_ns() - begin) as f64 / ELEMENTS as f64);
    }

    fn run(&mut self, words: &[String]) {
        let mut base = Vec::new();
        let mut spans = Vec::new();
        for word in words {
            spans.push(Span { start: base.len() as u32, len: word.len() as u32 });
            base.extend_from_slice(word.as_bytes());
        }
        self.execute(Args::new(&base, &spans));
    }

    fn execute(&mut self, args: Args<'_>) {
        let id = table().resolve(args);
        let hash = table().key_hash(id, args, &self.store.keyspace.hasher());
        self.out.clear();
        self.store.execute(&mut self.session, id, args, hash, NOW_MS, &mut self.out);
        assert!(self.out.first() != Some(&b'-'), "{}", self.out.escape_ascii());
        black_box(&self.out);
    }
}

fn allocated() -> usize {
    epoch::advance().expect("jemalloc keeps statistics");
    stats::allocated::read().expect("jemalloc keeps statistics")
}

/// The thread's CPU time so far; the kernel brings it up to date at each tick, so measure tens of milliseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with procfs");
    let first = text.split(' ').next().and_then(|number| number.parse().ok());
    first.expect("schedstat begins with the CPU time")
}
