//! Bytes of memory per key, or per element of one big collection: how much a process's resident memory grows by 500,000
//! keys after a warm-up. Each row has a process of its own, so that no row finds another's freed memory.
//!
//! `cargo bench --bench memory` for all rows; `-- 100000` for another number of keys, `-- hash` for the rows with that word.
//! Where redis-server is installed, the same rows are measured against it, over a Unix socket, and compared: strings may
//! take 118 bytes, an expiry 8 more, and small collections no more than Redis's packed forms.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use socketley::store::{Session, Settings, SharedStore};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: usize = 500_000;
/// Elements of one collection in the rows of big ones.
const BIG: usize = 500_000;
const WARM_UP: usize = 20_000;
const NOW_MS: u64 = 1_700_000_000_000;
const PAGE_BYTES: usize = 4096;

/// The words of the command that makes item `number`.
type Make = fn(usize) -> Vec<String>;

struct Row {
    name: &'static str,
    make: Make,
    /// The most it may take, if that is a figure.
    bar: Option<f64>,
    /// Redis may not take less.
    against_redis: bool,
}

const ROWS: &[Row] = &[
    row("16 B key, 64 B string", Some(118.0), |n| words(&["SET", &key(n), &text(64, n)])),
    row("the same with an expiry", Some(126.0), |n| {
        words(&["SET", &key(n), &text(64, n), "EX", "100000"])
    }),
    row("16 B key, 8 B string", None, |n| words(&["SET", &key(n), &text(8, n)])),
    row("16 B key, integer", None, |n| words(&["SET", &key(n), &n.to_string()])),
    packed("hash, 10 fields of 5 + 8 B", |n| {
        ten("HSET", n, |i| vec![format!("fld-{i}"), text(8, n + i)])
    }),
    packed("list, 10 of 8 B", |n| ten("RPUSH", n, |i| vec![text(8, n + i)])),
    packed("set, 10 of 8 B", |n| ten("SADD", n, |i| vec![text(8, n * 10 + i)])),
    packed("set, 10 integers", |n| ten("SADD", n, |i| vec![(n % 1000 * 10 + i).to_string()])),
    packed("sorted set, 10 of 8 B", |n| {
        ten("ZADD", n, |i| vec![i.to_string(), text(8, n * 10 + i)])
    }),
    row("big hash, per field 8 + 16 B", None, |n| {
        words(&["HSET", "big", &text(8, n), &text(16, n)])
    }),
    row("big set, per member of 16 B", None, |n| words(&["SADD", "big", &key(n)])),
    row("big sorted set, per member of 16 B", None, |n| {
        words(&["ZADD", "big", &n.to_string(), &key(n)])
    }),
    row("big list, per element of 16 B", None, |n| words(&["RPUSH", "big", &key(n)])),
];

const fn row(name: &'static str, bar: Option<f64>, make: Make) -> Row {
    Row { name, make, bar, against_redis: false }
}

const fn packed(name: &'static str, make: Make) -> Row {
    Row { name, make, bar: None, against_redis: true }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn key(number: usize) -> String {
    format!("key:{number:012}")
}

/// Letters that differ from number to number.
fn text(bytes: usize, number: usize) -> String {
    let digits = format!("{number:x}");
    "v".repeat(bytes - digits.len().min(bytes)) + &digits[digits.len().saturating_sub(bytes)..]
}

fn ten(name: &str, number: usize, item: impl Fn(usize) -> Vec<String>) -> Vec<String> {
    words(&[name, &key(number)]).into_iter().chain((0..10).flat_map(item)).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, index, count] = &arguments[..]
        && mode == "--row"
    {
        let (index, count): (usize, usize) = (number(index), number(count));
        println!("{}", measure_ours(&ROWS[index], count));
        return;
    }
    let count = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-') && argument.parse::<usize>().is_err())
        .collect();
    println!("bytes of resident memory per key, {count} keys\n");
    println!("{:<36} {:>10} {:>12} {:>7}", "", "socketley", "redis-server", "ratio");
    for (index, row) in ROWS.iter().enumerate() {
        if wanted.iter().all(|word| row.name.contains(word.as_str())) {
            report(index, row, count);
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn report(index: usize, row: &Row, count: usize) {
    let count = if row.name.starts_with("big") { count.min(BIG) } else { count };
    let program = std::env::current_exe().expect("a program has a path");
    let child =
        Command::new(program).args(["--row", &index.to_string(), &count.to_string()]).output();
    let output = child.expect("the same program starts again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a figure");
    let theirs = Redis::start().map(|mut redis| redis.measure(row, count));
    let shown =
        |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
    let ratio = theirs.map_or("-".to_owned(), |theirs| format!("{:.2}", ours / theirs));
    let over = row.bar.is_some_and(|bar| ours > bar)
        || row.against_redis && theirs.is_some_and(|theirs| ours > theirs);
    let verdict = if over { "  over the bar" } else { "" };
    println!("{:<36} {ours:>10.1} {:>12} {ratio:>7}{verdict}", row.name, shown(theirs));
}

/// Resident bytes of a process.
fn resident(process: &str) -> usize {
    let path = format!("/proc/{process}/statm");
    let text = std::fs::read_to_string(path).expect("Linux with procfs");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm");
    pages * PAGE_BYTES
}

fn measure_ours(row: &Row, count: usize) -> f64 {
    let store = SharedStore::new(&Settings { now_ms: NOW_MS, ..Settings::default() });
    let mut session = store.session(NOW_MS);
    let mut out = Vec::new();
    let mut run = |words: &[String], session: &mut Session| {
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        out.clear();
        store.call(session, &words, NOW_MS, &mut out);
        assert!(!out.starts_with(b"-"), "{}", String::from_utf8_lossy(&out));
    };
    (0..WARM_UP).for_each(|number| run(&(row.make)(number), &mut session));
    run(&words(&["FLUSHALL"]), &mut session);
    store.free_garbage();
    (0..WARM_UP).for_each(|number| run(&(row.make)(number), &mut session));
    let before = resident("self");
    (WARM_UP..count).for_each(|number| run(&(row.make)(number), &mut session));
    (resident("self") - before) as f64 / (count - WARM_UP) as f64
}

/// A redis-server of this benchmark's own; it ends with this value.
struct Redis {
    process: Child,
    folder: std::path::PathBuf,
    socket: UnixStream,
}

impl Redis {
    fn start() -> Option<Redis> {
        let folder = std::env::temp_dir().join(format!("socketley-memory-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(&folder);
        command.arg("--unixsocket").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().ok()?;
        let socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(_) => std::thread::yield_now(),
            }
        };
        Some(Redis { process, folder, socket })
    }

    fn measure(&mut self, row: &Row, count: usize) -> f64 {
        let process = self.process.id().to_string();
        self.run(row.make, 0..WARM_UP);
        self.run(|_| words(&["FLUSHALL"]), 0..1);
        self.run(row.make, 0..WARM_UP);
        let before = resident(&process);
        self.run(row.make, WARM_UP..count);
        (resident(&process) - before) as f64 / (count - WARM_UP) as f64
    }

    /// Sends commands in pipelines; every reply is one line.
    fn run(&mut self, make: Make, numbers: std::ops::Range<usize>) {
        const PIPELINE: usize = 200;
        let numbers: Vec<usize> = numbers.collect();
        let mut chunk = vec![0; 64 * 1024];
        for group in numbers.chunks(PIPELINE) {
            let mut request = Vec::new();
            for number in group {
                let words = make(*number);
                request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
                for word in words {
                    request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
                }
            }
            self.socket.write_all(&request).expect("redis-server reads");
            let mut lines = 0;
            while lines < group.len() {
                let len = self.socket.read(&mut chunk).expect("redis-server answers");
                assert!(len > 0 && chunk[0] != b'-', "redis-server refuses");
                lines += chunk[..len].iter().filter(|byte| **byte == b'\n').count();
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().expect("our own child can be killed");
        self.process.wait().expect("our own child can be waited for");
        std::fs::remove_dir_all(&self.folder).expect("our own folder can be removed");
    }
}
