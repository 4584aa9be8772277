//! Caches that survive: kill -9 under load, a stop, and the way of the files to Redis and back.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Daemon, Folder, free_port, has_judge, until};

/// Rounds of the crash test; `SOCKETLEY_CRASHES` makes it longer.
const CRASHES: u32 = 6;

/// A line's answer, once the cache serves.
fn ask(port: u16, line: &str) -> String {
    until(line, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next()?.ok()?;
        match first.as_bytes() {
            [b'-', b'L', ..] => None,
            [b'$', b'0'..=b'9', ..] => lines.next()?.ok(),
            _ => Some(first),
        }
    })
}

fn number(port: u16, key: &str) -> u64 {
    ask(port, &format!("GET {key}")).parse().unwrap_or(0)
}

/// Whoever got an answer before the process was killed finds its change afterwards.
#[test]
fn nothing_acknowledged_is_missing_after_kill_9() {
    let rounds = std::env::var("SOCKETLEY_CRASHES").ok().and_then(|it| it.parse().ok());
    let mut daemon = Daemon::start();
    let port = free_port();
    daemon.cli(&format!("create cache db -p {port} --persist aof --appendfsync always -s")).ok();
    let mut known = [0_u64; 4];
    for round in 0..rounds.unwrap_or(CRASHES) {
        for (key, least) in known.iter().enumerate() {
            let found = number(port, &format!("k{key}"));
            assert!(found >= *least, "round {round}: {found} of {least}");
        }
        if round % 2 == 1 {
            ask(port, "BGREWRITEAOF");
        }
        let process = daemon.id();
        let writers: Vec<_> = (0..known.len())
            .map(|key| std::thread::spawn(move || write_until_cut(port, key)))
            .collect();
        let soon = 20 + u64::from(round * 37 % 200);
        until("some writes", || (number(port, "k0") > known[0] + soon).then_some(()));
        assert_eq!(process, daemon.id());
        daemon = daemon.kill9().restart();
        for (known, writer) in known.iter_mut().zip(writers) {
            *known = (*known).max(writer.join().expect("a writer only writes"));
        }
    }
    for (key, least) in known.iter().enumerate() {
        assert!(number(port, &format!("k{key}")) >= *least);
    }
}

/// Counts up until the connection breaks; the last number that was acknowledged.
fn write_until_cut(port: u16, key: usize) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let line = format!("INCR k{key}\r\n");
    let (mut last, mut unread) = (0, Vec::new());
    let mut buffer = [0; 4096];
    loop {
        // Several at a time, so that many wait for one fsync.
        if stream.write_all(line.repeat(4).as_bytes()).is_err() {
            return last;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return last,
            Ok(count) => unread.extend_from_slice(&buffer[..count]),
        }
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let answer: Vec<u8> = unread.drain(..=end).collect();
            let answer = String::from_utf8_lossy(&answer).trim().to_owned();
            last = answer.strip_prefix(':').and_then(|it| it.parse().ok()).unwrap_or(last);
        }
    }
}

#[test]
fn a_snapshot_survives_a_stop_and_a_restart() {
    let daemon = Daemon::start();
    let port = free_port();
    daemon.cli(&format!("create cache db -p {port} --persist snapshot -s")).ok();
    ask(port, "SET a kept");
    daemon.cli("stop db").ok();
    daemon.cli("start db").ok();
    assert_eq!(ask(port, "GET a"), "kept");
    ask(port, "SET a again");
    let daemon = daemon.stop().restart();
    assert_eq!(ask(port, "GET a"), "again");
    ask(port, "SET a saved");
    assert_eq!(ask(port, "SAVE"), "+OK");
    let daemon = daemon.kill9().restart();
    assert_eq!(ask(port, "GET a"), "saved");
    let stats = daemon.cli("stats db").ok();
    assert!(stats.contains("disk"), "{stats}");
    // One that isn't kept says so.
    let other = free_port();
    daemon.cli(&format!("create cache fleeting -p {other} -s")).ok();
    assert!(ask(other, "SAVE").starts_with("-ERR this cache isn't kept on disk"));
}

/// A redis-server in a folder; it ends with this value.
struct Redis(Child);

impl Redis {
    fn start(folder: &Path, port: u16, options: &[&str]) -> Redis {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--dir"]).arg(folder).args(options);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("redis-server", || TcpStream::connect(("127.0.0.1", port)).ok());
        Redis(child)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Some of everything that Redis 7.0 knows.
const DATA: &[&str] = &[
    "SET text hello",
    "SET number 42",
    "SET later x PXAT 4000000000000",
    "RPUSH list a b c",
    "SADD set 1 2 3",
    "SADD words a b c",
    "HSET hash f v g w",
    "ZADD zset 1.5 a -2 b",
    "XADD stream 5-1 f v",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group me COUNT 1 STREAMS stream >",
    "SELECT 3",
    "SET elsewhere here",
    "SELECT 0",
    "SPOP words",
    "INCRBYFLOAT number 0.5",
    "EXPIRE text 100000",
];

/// What tells whether all of it is there.
const QUESTIONS: &[&str] = &[
    "GET text",
    "GET number",
    "PEXPIRETIME later",
    "LRANGE list 0 -1",
    "SCARD set",
    "SCARD words",
    "HGET hash g",
    "ZRANGE zset 0 -1 WITHSCORES",
    "XRANGE stream - +",
    "XPENDING stream group",
    "DBSIZE",
    "TYPE text",
];

/// Everything that is answered to all lines.
fn answers(port: u16, lines: &[&str]) -> String {
    try_answers(port, lines).unwrap_or_else(|| panic!("nobody answers {lines:?}"))
}

fn try_answers(port: u16, lines: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(format!("{}\r\n", lines.join("\r\n")).as_bytes()).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).ok()?;
    (!all.is_empty()).then_some(all)
}

fn checks(program: &str, file: &Path) {
    let checked = Command::new(program).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{program}: {said}");
}

#[test]
fn files_move_to_redis_and_back() {
    if !["redis-server", "redis-check-aof", "redis-check-rdb"].into_iter().all(has_judge) {
        return;
    }
    let daemon = Daemon::start();
    let port = free_port();
    daemon.cli(&format!("create cache db -p {port} --persist aof -s")).ok();
    ask(port, "PING");
    let said = answers(port, DATA);
    assert!(!said.contains("\r\n-"), "{said}");
    let ours = answers(port, QUESTIONS);
    let daemon = daemon.stop();
    let home = daemon.folder.join("home");
    let cache = home.join("caches").join("db");
    checks("redis-check-aof", &cache.join("appendonlydir").join("appendonly.aof.manifest"));

    // Redis goes on with our log, rewrites it and leaves a snapshot, too.
    let judge = free_port();
    let redis = Redis::start(&cache, judge, &["--appendonly", "yes", "--save", ""]);
    until("the load", || (!ask(judge, "PING").starts_with("-LOADING")).then_some(()));
    assert_eq!(answers(judge, QUESTIONS), ours);
    answers(judge, &["SET more from-redis", "BGREWRITEAOF"]);
    until("the rewrite", || {
        let info = answers(judge, &["INFO persistence"]);
        info.contains("aof_rewrite_in_progress:0").then_some(())
    });
    assert_eq!(ask(judge, "SAVE"), "+OK");
    drop(redis);

    // We go on with Redis's log.
    let daemon = daemon.restart();
    assert_eq!(ask(port, "GET more"), "from-redis");
    assert_eq!(answers(port, &["DEL more"]), ":1\r\n");
    assert_eq!(answers(port, QUESTIONS), ours);
    let daemon = daemon.stop();

    // And with its snapshot, of which we write one that Redis reads.
    fs::remove_dir_all(cache.join("appendonlydir")).unwrap();
    let daemon = daemon.restart();
    assert_eq!(ask(port, "GET more"), "from-redis");
    answers(port, &["DEL more"]);
    assert_eq!(ask(port, "SAVE"), "+OK");
    checks("redis-check-rdb", &cache.join("dump.rdb"));
    let folder = Folder::new();
    fs::copy(cache.join("dump.rdb"), folder.join("dump.rdb")).unwrap();
    let judge = free_port();
    let redis = Redis::start(folder.path(), judge, &["--appendonly", "no"]);
    until("the load", || (!ask(judge, "PING").starts_with("-LOADING")).then_some(()));
    assert_eq!(answers(judge, QUESTIONS), ours);
    drop((redis, daemon));
}
