//! Hostile bytes for every parser that reads what strangers send: RESP, RDB values and files, packed blobs, HTTP/1,
//! WebSocket, the PROXY protocol, control frames.
//!
//! Each target is a plain function of bytes (`targets.rs`); a run mutates the seeds of its corpus a bounded number of times:
//! those written here (`corpus.rs`) and those that a run guided by coverage has found and kept (`corpus/TARGET.hex`). What
//! must hold: no panic, no endless loop, and no more memory than the bytes account for. The seed of the run is printed;
//! `SOCKETLEY_FUZZ_SEED` repeats it and `SOCKETLEY_FUZZ_RUNS` makes it longer. `coverage/` is the crate for `cargo fuzz`,
//! which calls the same functions; how it is run stands there.

mod corpus;
mod restored;
mod targets;

use socketley::store::random::Random;
use tikv_jemalloc_ctl::thread;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Mutations of each target in the ordinary test.
const RUNS: usize = 20_000;
/// Seeds grow no further than this.
const BYTES_MAX: usize = 4096;
/// What a parser may allocate in all, freed or not, for nothing, and for each byte it got. A byte of LZF can stand for 88,
/// a member of two bytes becomes an entry of 16 in a table that doubled on its way.
const ALLOCATED_MIN: u64 = 256 * 1024;
const ALLOCATED_PER_BYTE: u64 = 1024;

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    const EDGES: [u8; 12] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc3, 0xfe, 0xff, b'$', b'*'];
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
            2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes.insert(at, EDGES[random.below(EDGES.len())]),
            4 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(8)))),
            5 => {
                let piece = bytes[at..bytes.len().min(at + 1 + random.below(64))].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            6 => {
                let other = &others[random.below(others.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes.truncate(BYTES_MAX);
}

#[allow(clippy::print_stdout, reason = "the seed of a failed run has to be known")]
fn run(name: &str, target: targets::Target, seeds: Vec<Vec<u8>>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SOCKETLEY_FUZZ_SEED").unwrap_or(20_261_122);
    let runs = number("SOCKETLEY_FUZZ_RUNS").map_or(RUNS, |runs| runs as usize);
    println!("{name}: seed {seed}, {runs} mutations of {} seeds", seeds.len());
    let allocated = thread::allocatedp::read().expect("jemalloc counts for each thread");
    let mut random = Random::new(seed);
    let mut pool = seeds.clone();
    for index in 0..runs {
        let chosen = random.below(pool.len());
        let mut bytes =
            if index < seeds.len() { seeds[index].clone() } else { pool[chosen].clone() };
        if index >= seeds.len() {
            mutate(&mut bytes, &seeds, &mut random);
        }
        let before = allocated.get();
        if std::panic::catch_unwind(|| target(&bytes)).is_err() {
            panic!("{name}, seed {seed}, run {index}: panics on {}", bytes.escape_ascii());
        }
        let taken = allocated.get() - before;
        let most = ALLOCATED_MIN + ALLOCATED_PER_BYTE * bytes.len() as u64;
        assert!(
            taken <= most,
            "{name}, seed {seed}, run {index}: {taken} bytes for {}",
            bytes.escape_ascii()
        );
        // Mutants of mutants go deeper; the oldest make room.
        if random.below(4) == 0 {
            if pool.len() < 200 { pool.push(bytes) } else { pool[chosen] = bytes }
        }
    }
}

/// The target of this name, on the seeds written by hand and those kept.
fn run_named(name: &str) {
    let seeds = corpus::of(name).into_iter().chain(corpus::kept(name)).collect();
    run(name, targets::named(name), seeds);
}

#[test]
fn requests_of_strangers() {
    run_named("requests");
    run_named("replies");
}

#[test]
fn values_of_strangers() {
    run_named("values");
}

#[test]
fn restored_values_of_strangers() {
    run_named("restored");
}

#[test]
fn files_of_strangers() {
    run_named("files");
    run_named("manifests");
}

#[test]
fn blobs_of_strangers() {
    run_named("blobs");
}

#[test]
fn http_of_strangers() {
    run_named("http_requests");
    run_named("http_responses");
}

#[test]
fn websockets_of_strangers() {
    run_named("websocket_frames");
    run_named("websocket_handshakes");
}

#[test]
fn first_bytes_of_strangers() {
    run_named("proxy_headers");
    run_named("control_frames");
    run_named("streams");
}
