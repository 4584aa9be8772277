//! Hostile bytes for every parser that reads what strangers send: RESP requests, RDB values and files, packed blobs.
//!
//! Each target is a plain function of bytes; a run mutates the seeds of its corpus a bounded number of times. What must hold:
//! no panic, no endless loop, and no more memory than the bytes account for. The seed of the run is printed;
//! `SOCKETLEY_FUZZ_SEED` repeats it and `SOCKETLEY_FUZZ_RUNS` makes it longer. `cargo fuzz` can call the same functions.

mod corpus;

use socketley::persist::rdb::{Item, Reader};
use socketley::proto::resp::{Parsed, ReplyReader, RequestParser};
use socketley::store::packed::Packed;
use socketley::store::random::Random;
use socketley::store::rdb::{self, Builder, Input};
use socketley::store::{Hasher, thresholds};
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

fn builder() -> Builder<'static> {
    Builder { hasher: Hasher::seeded(1), thresholds: &thresholds::REDIS }
}

/// Requests in pieces, as a socket brings them.
fn requests(bytes: &[u8]) {
    let (mut parser, mut spans, mut at) = (RequestParser::default(), Vec::new(), 0);
    let piece = 1 + bytes.first().map_or(0, |byte| usize::from(*byte) % 64);
    for end in (piece..bytes.len() + piece).step_by(piece).map(|end| end.min(bytes.len())) {
        loop {
            spans.clear();
            match parser.parse(&bytes[at..end], &mut spans) {
                Ok(Parsed::Command { consumed, rewritten }) => {
                    let limit = if rewritten { parser.rewritten().len() } else { consumed };
                    for span in &spans {
                        assert!(span.start as usize + span.len as usize <= limit, "{span:?}");
                    }
                    assert!(consumed > 0 && at + consumed <= end);
                    at += consumed;
                }
                Ok(Parsed::Skip { consumed }) => {
                    assert!(consumed > 0);
                    at += consumed;
                }
                Ok(Parsed::Incomplete) => break,
                Err(_) => return,
            }
        }
    }
}

fn replies(bytes: &[u8]) {
    if let Ok(Some((_, len))) = ReplyReader::default().read(bytes) {
        assert!(len <= bytes.len());
    }
}

/// One value; what is read can be written and read again.
fn value(bytes: &[u8]) {
    if let Ok(value) = rdb::read_value(&mut Input::new(bytes), &builder()) {
        let payload = rdb::dump(value.view());
        let back = rdb::restore(&payload, &builder()).expect("what was read is well made");
        assert_eq!(rdb::dump(back.view()).len(), payload.len());
    }
}

fn file(bytes: &[u8]) {
    let mut reader = Reader::new();
    for piece in bytes.chunks(100) {
        reader.feed(piece);
        while let Ok(Some(item)) = reader.next(&builder()) {
            if matches!(item, Item::End) {
                return;
            }
        }
    }
    reader.complete();
    // Whatever comes of it is an answer.
    drop(reader.next(&builder()));
}

/// A blob of somebody's making can be walked and changed, or is refused.
fn blob(bytes: &[u8]) {
    let Some(mut packed) = Packed::from_bytes(bytes.to_vec()) else { return };
    assert_eq!(packed.iter().count(), packed.len());
    assert_eq!(packed.iter().rev().count(), packed.len());
    while packed.pop_front(|_| ()).is_some() && packed.pop_back(|_| ()).is_some() {}
    assert!(packed.len() <= 1);
}

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
fn run(name: &str, target: fn(&[u8]), seeds: Vec<Vec<u8>>) {
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

#[test]
fn requests_of_strangers() {
    run("requests", requests, corpus::requests());
    run("replies", replies, corpus::requests());
}

#[test]
fn values_of_strangers() {
    run("values", value, corpus::values());
}

#[test]
fn files_of_strangers() {
    run("files", file, corpus::files());
}

#[test]
fn blobs_of_strangers() {
    run("blobs", blob, corpus::blobs());
}
