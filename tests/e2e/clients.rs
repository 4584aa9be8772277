//! A cache judged by the clients that people use, unpatched: redis-py, ioredis, node-redis, BullMQ, redis-cli in all its
//! modes, redis-benchmark, and the exporter for Prometheus.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use crate::support::{
    Daemon, Process, free_port, has_judge, node_with_clients, project, python_with_clients, run,
    until,
};

fn a_cache() -> (Daemon, u16) {
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 --resp -s").ok();
    let port = daemon.port("db");
    (daemon, port)
}

/// Lets a driver play its stories, and answers the last word of each line that it prints.
fn stories(mut command: Command, driver: &str, port: u16) -> Vec<String> {
    command.arg(project(&format!("tests/e2e/clients/{driver}"))).arg(port.to_string());
    let told = run(command, "").ok();
    told.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn redis_py_plays_all_its_stories() {
    let Some(python) = python_with_clients() else { return };
    let (_daemon, port) = a_cache();
    let told = stories(python, "redis_client.py", port);
    let twice = told.len() / 2;
    assert_eq!(told[..twice], told[twice..], "RESP2 and RESP3");
    for story in ["transactions", "channels", "scripts", "streams", "locks", "caching", "asyncio"] {
        assert!(told.iter().any(|told| told == story), "{story} in {told:?}");
    }
}

#[test]
fn ioredis_and_node_redis_play_all_their_stories() {
    let Some(node) = node_with_clients() else { return };
    let (_daemon, port) = a_cache();
    let told = stories(node, "node_clients.cjs", port);
    assert_eq!(told.len(), 28, "{told:?}");
}

#[test]
fn bullmq_runs_its_queues() {
    let Some(node) = node_with_clients() else { return };
    let (_daemon, port) = a_cache();
    let mut told = stories(node, "bullmq.cjs", port);
    told.sort();
    let all =
        ["delays", "failures", "flows", "limits", "priorities", "progress", "repeats", "work"];
    assert_eq!(told, all);
}

fn redis_cli(port: u16, words: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words);
    command
}

/// What [`filled`] leaves.
const KEYS: usize = 311;

/// Keys of every type, some with a time to live.
fn filled(port: u16) {
    let mut lines = String::new();
    for n in 0..300 {
        lines.push_str(&format!(
            "SET string:{n} {} EX 1000\nRPUSH list:{} {n}\n",
            "x".repeat(n + 1),
            n % 7
        ));
        lines.push_str(&format!(
            "SADD set {n}\nZADD zset {n} m{n}\nHSET hash f{n} {n}\nXADD stream * f {n}\n"
        ));
    }
    lines.push_str("GET string:1\nGET nothing\nNOSUCH\nSET short x\nPEXPIRE short 0\nINCR hash\n");
    run(redis_cli(port, &[]), &lines).ok();
}

#[test]
fn redis_cli_finds_big_keys_and_shows_statistics() {
    if !has_judge("redis-cli") || !has_judge("script") {
        return;
    }
    let (_daemon, port) = a_cache();
    filled(port);
    let found = run(redis_cli(port, &["--bigkeys"]), "").ok();
    for line in [
        "Biggest string found '\"string:299\"' has 300 bytes",
        "Biggest   hash found '\"hash\"' has 300 fields",
        "Biggest stream found '\"stream\"' has 300 entries",
        "Biggest    set found '\"set\"' has 300 members",
        "Biggest   zset found '\"zset\"' has 300 members",
        "has 43 items",
    ] {
        assert!(found.contains(line), "no {line:?} in {found}");
    }
    assert!(run(redis_cli(port, &["--memkeys"]), "").ok().contains("Biggest stream found"));
    // Without a terminal redis-cli keeps its lines to itself.
    let mut statistics = Command::new("script");
    statistics.args(["-qec", &format!("redis-cli -p {port} -i 0.05 --stat"), "/dev/null"]);
    let mut statistics = Process::spawn(statistics);
    statistics.until_printed("------- data ------");
    until("three lines of figures", || {
        let printed = statistics.out();
        let lines = printed.lines().filter(|line| line.starts_with(&format!("{KEYS} "))).count();
        (lines >= 3).then_some(())
    });
}

#[test]
fn redis_cli_talks_on_a_terminal() {
    if !has_judge("redis-cli") || !has_judge("script") {
        return;
    }
    let (_daemon, port) = a_cache();
    let mut command = Command::new("script");
    // Of a terminal without a width redis-cli asks where the cursor is, and nobody answers.
    let line = format!("stty cols 80; redis-cli -p {port}");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let mut terminal = Process::spawn(command);
    let mut input = terminal.input();
    let prompt = format!("127.0.0.1:{port}");
    terminal.until_printed(&prompt);
    let mut seen = 0;
    for (line, answer) in [
        ("set k 'a b'", "OK"),
        ("get k", "\"a b\""),
        ("hello 3", "1# \"server\" => \"redis\""),
        ("multi", "OK"),
        ("incr n", "QUEUED"),
        ("exec", "(integer) 1"),
        ("help xadd", "Appends a"),
        ("subscribe news", "\"subscribe\""),
    ] {
        input.write_all(format!("{line}\r").as_bytes()).unwrap();
        // What is typed before the next prompt is dropped.
        until(&format!("the answer to {line} and a prompt"), || {
            let printed = terminal.out();
            let at = seen + printed[seen..].find(answer)? + answer.len();
            let end =
                if line.starts_with("subscribe") { 0 } else { printed[at..].find(&prompt)? };
            seen = at + end;
            Some(())
        });
    }
}

#[test]
fn redis_benchmark_runs_its_whole_list() {
    if !has_judge("redis-benchmark") {
        return;
    }
    let (_daemon, port) = a_cache();
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "-n", "1000", "-r", "100", "--csv"]);
    let table = run(command, "").ok();
    for name in [
        "PING_INLINE",
        "PING_MBULK",
        "SET",
        "GET",
        "INCR",
        "LPUSH",
        "RPUSH",
        "LPOP",
        "RPOP",
        "SADD",
        "HSET",
        "SPOP",
        "ZADD",
        "ZPOPMIN",
        "LPUSH (needed to benchmark LRANGE)",
        "LRANGE_100 (first 100 elements)",
        "LRANGE_600 (first 600 elements)",
        "MSET (10 keys)",
    ] {
        assert!(table.contains(&format!("\"{name}\",")), "no {name} in {table}");
    }
}

/// The exporter's figures of a server, by name; those with labels summed up.
fn exported(port: u16) -> BTreeMap<String, f64> {
    let web = free_port();
    let mut command = Command::new("prometheus-redis-exporter");
    command.arg(format!("-web.listen-address=127.0.0.1:{web}"));
    command.arg(format!("-redis.addr=redis://127.0.0.1:{port}"));
    command.args(["-export-client-list", "-check-keys=db0=s*", "-count-keys=db0=s*"]);
    command.args(["-check-streams=db0=stream", "-include-system-metrics"]);
    let _exporter = Process::spawn(command);
    let figures = until("the exporter's figures", || {
        let mut command = Command::new("curl");
        command.args(["-sf", &format!("http://127.0.0.1:{web}/metrics")]);
        let printed = run(command, "");
        (printed.code == 0).then_some(printed.out)
    });
    let mut sums = BTreeMap::new();
    for line in figures.lines().filter(|line| line.starts_with("redis_")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.split('{').next().unwrap();
        *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap().abs();
    }
    sums
}

/// What the exporter tells of a redis-server and what it tells of a cache after the same commands.
#[test]
fn the_exporter_fills_every_gauge_that_redis_fills() {
    let judges = ["prometheus-redis-exporter", "redis-server", "redis-cli", "curl"];
    if !judges.iter().all(|judge| has_judge(judge)) {
        return;
    }
    /// Figures that may be 0 here and not there, and why.
    const EMPTY: &[(&str, &str)] = &[
        ("redis_expired_stale_percentage", "expired keys are found by their time, not by sampling"),
        ("redis_expire_cycle_cpu_time_ms_total", "the cycle is part of a turn and isn't timed"),
        ("redis_client_recent_max_input_buffer_bytes", "reads go into buffers that all share"),
        ("redis_uptime_in_seconds", "the test may be done within the first"),
        ("redis_instantaneous_ops_per_sec", "a figure of the last second"),
        ("redis_instantaneous_input_kbps", "a figure of the last second"),
        ("redis_instantaneous_output_kbps", "a figure of the last second"),
        ("redis_exporter_last_scrape_duration_seconds", "a figure of the exporter's own"),
    ];
    let (_daemon, ours) = a_cache();
    let theirs = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &theirs.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    let _redis = Process::spawn(command);
    until("redis-server", || (run(redis_cli(theirs, &["PING"]), "").code == 0).then_some(()));
    for port in [ours, theirs] {
        filled(port);
        run(redis_cli(port, &["EVAL", "return redis.call('GET', KEYS[1])", "1", "string:1"]), "")
            .ok();
    }
    // The kernel divides a thread's time into its own and the program's by ticks: a few hundred commands may see none.
    until("time in the kernel", || {
        let cpu = run(redis_cli(ours, &["-r", "100", "INFO", "cpu"]), "").ok();
        let last = cpu.lines().rfind(|line| line.starts_with("used_cpu_sys_main_thread:"))?;
        (!last.trim_end().ends_with(":0.000000")).then_some(())
    });
    let (mine, wanted) = (exported(ours), exported(theirs));
    assert!(wanted.len() > 100, "{wanted:?}");
    for (name, value) in &wanted {
        let Some(own) = mine.get(name) else { panic!("{name} isn't told of a cache") };
        let may_be_empty = EMPTY.iter().any(|(empty, _)| empty == name);
        assert!(*own != 0.0 || *value == 0.0 || may_be_empty, "{name} is 0 here, {value} there");
    }
    assert_eq!(mine["redis_up"], 1.0);
    assert_eq!(mine["redis_db_keys"], KEYS as f64);
    assert_eq!(mine["redis_stream_length"], 300.0);
}
