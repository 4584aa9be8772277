//! The cache's path without the kernel: requests parsed into a batch and executed, one client's pipeline of 100 a batch.
//!
//! `cargo bench --bench batch [-- NAME...]` prints nanoseconds of CPU time per command, the median of 9 rounds, and what
//! parsing alone takes. What a server adds to this is the socket's cost. Compare runs on one quiet machine; for exact
//! comparisons count instructions: `valgrind --tool=callgrind target/release/deps/batch-* get`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;

use socketley::proto::resp::RequestParser;
use socketley::store::batch::{Batch, Clients, Stop, Turn};
use socketley::store::clients::Delivery;
use socketley::store::random::Random;
use socketley::store::{Hasher, Session, Settings, SharedStore};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PIPELINE: usize = 100;
const PIPELINES: usize = 1000;
/// Of all pipelines in a round.
const PASSES: usize = 4;
const ROUNDS: usize = 9;
const NOW_MS: u64 = 1_700_000_000_000;
const VALUE: &str = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv";

/// A command line; `KEY` is one of 100,000 keys, `FIELD` one of 100,000 names, `VALUE` 64 bytes.
const CASES: &[(&str, &str)] = &[
    ("ping", "PING"),
    ("set", "SET KEY VALUE"),
    ("get", "GET KEY"),
    ("incr", "INCR counter:KEY"),
    ("lpush", "LPUSH mylist VALUE"),
    ("lpop", "LPOP mylist"),
    ("sadd", "SADD myset element:FIELD"),
    ("hset", "HSET myhash element:FIELD VALUE"),
    ("zadd", "ZADD myzset FIELD element:FIELD"),
    ("mset", "MSET KEY VALUE KEY VALUE KEY VALUE KEY VALUE KEY VALUE"),
    ("expire", "EXPIRE KEY 1000"),
];

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    println!("{:>8} {:>8} {:>8}   ns per command", "", "parse", "all");
    for (name, line) in CASES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run(name, line);
        }
    }
}

fn run(name: &str, line: &str) {
    let store = SharedStore::new(&Settings { now_ms: NOW_MS, seed: 1, ..Settings::default() });
    let mut client =
        One { session: store.session(NOW_MS), out: Vec::with_capacity(1 << 20), bytes: Vec::new() };
    let pipelines = pipelines(line);
    let hasher = store.hasher();
    let mut batch = Batch::default();
    let mut parser = RequestParser::default();
    let (mut parse, mut all) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let start_ns = cpu_ns();
        each_pass(&pipelines, &mut client, |client| {
            parse_one(&mut batch, &mut parser, client, &hasher);
            batch.clear();
        });
        let parsed_ns = cpu_ns();
        each_pass(&pipelines, &mut client, |client| {
            parse_one(&mut batch, &mut parser, client, &hasher);
            let mut held = store.lock(NOW_MS);
            while !batch.run(&mut held, client) {}
            batch.account(&mut held, 1);
            drop(held);
            batch.clear();
            black_box(&client.out);
        });
        // The first round fills the keyspace.
        if round > 0 {
            parse.push(parsed_ns - start_ns);
            all.push(cpu_ns() - parsed_ns);
        }
    }
    println!("{name:>8} {:>8.1} {:>8.1}", per_command(parse), per_command(all));
}

/// Gives the client each pipeline, several times: the clock moves by ticks.
fn each_pass(pipelines: &[Vec<u8>], client: &mut One, mut take: impl FnMut(&mut One)) {
    for bytes in (0..PASSES).flat_map(|_| pipelines) {
        client.bytes.clone_from(bytes);
        client.out.clear();
        take(client);
    }
}

fn parse_one(batch: &mut Batch, parser: &mut RequestParser, client: &One, hasher: &Hasher) {
    let progress = batch.parse(parser, &client.bytes, (0, 0), &client.session, hasher);
    assert_eq!(progress.consumed, client.bytes.len());
}

fn pipelines(line: &str) -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    let mut pipeline = || {
        let mut bytes = Vec::new();
        for _ in 0..PIPELINE {
            let words: Vec<String> = line
                .split(' ')
                .map(|word| {
                    let number = format!("{:012}", random.below(100_000));
                    word.replace("KEY", &format!("key:{number}"))
                        .replace("FIELD", &number)
                        .replace("VALUE", VALUE)
                })
                .collect();
            bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        bytes
    };
    (0..PIPELINES).map(|_| pipeline()).collect()
}

/// The thread's CPU time, as of the scheduler's last tick: others on the machine don't count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with procfs");
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.expect("schedstat begins with the CPU time")
}

fn per_command(mut rounds: Vec<u64>) -> f64 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2] as f64 / (PIPELINE * PIPELINES * PASSES) as f64
}

/// The one client.
struct One {
    session: Session,
    out: Vec<u8>,
    bytes: Vec<u8>,
}

impl Clients for One {
    fn client(&mut self, _: u32, _: u32) -> Turn<'_> {
        Turn {
            session: &mut self.session,
            out: &mut self.out,
            out_bytes_max: usize::MAX,
            bytes: &self.bytes,
        }
    }

    fn deliver(&mut self, _: Delivery) -> Option<Delivery> {
        unreachable!("there is nobody else");
    }

    fn stop(&mut self, _: u32, _: Stop) {
        unreachable!("nothing here fails");
    }
}
