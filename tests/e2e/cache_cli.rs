//! A cache judged by Redis's own tools.

use std::process::Command;

use crate::support::{Daemon, has_judge, run};

fn redis_cli(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words);
    run(command, "").ok().trim_end().to_owned()
}

fn a_cache() -> (Daemon, u16) {
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 --resp -s").ok();
    let port = daemon.port("db");
    (daemon, port)
}

#[test]
fn redis_cli_reads_what_it_wrote() {
    if !has_judge("redis-cli") {
        return;
    }
    let (_daemon, port) = a_cache();
    let cases: &[(&[&str], &str)] = &[
        (&["PING"], "PONG"),
        (&["SET", "greeting", "two\nlines and ünïcode"], "OK"),
        (&["GET", "greeting"], "two\nlines and ünïcode"),
        (&["GET", "nothing"], ""),
        (&["INCR", "visits"], "1"),
        (&["RPUSH", "list", "a", "b", "c"], "3"),
        (&["LRANGE", "list", "0", "-1"], "a\nb\nc"),
        (&["SADD", "set", "x", "y", "x"], "2"),
        (&["HSET", "hash", "field", "value", "other", "1"], "2"),
        (&["HGET", "hash", "field"], "value"),
        (&["-3", "HGETALL", "hash"], "field value\nother 1"),
        (&["EXPIRE", "greeting", "100"], "1"),
        (&["TYPE", "hash"], "hash"),
        (&["DBSIZE"], "5"),
        (&["SELECT", "3"], "OK"),
        (&["-n", "3", "DBSIZE"], "0"),
        (&["FLUSHALL"], "OK"),
        (&["DBSIZE"], "0"),
    ];
    for (words, answer) in cases {
        assert_eq!(redis_cli(port, words), *answer, "{words:?}");
    }
}

#[test]
fn redis_cli_gets_redis_words_for_what_is_wrong() {
    if !has_judge("redis-cli") {
        return;
    }
    let (_daemon, port) = a_cache();
    redis_cli(port, &["SET", "text", "abc"]);
    let cases: &[(&[&str], &str)] = &[
        (&["NOSUCH", "a"], "ERR unknown command 'NOSUCH', with args beginning with: 'a'"),
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (&["INCR", "text"], "ERR value is not an integer or out of range"),
        (
            &["LPUSH", "text", "a"],
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        (&["SELECT", "16"], "ERR DB index is out of range"),
    ];
    for (words, answer) in cases {
        assert!(redis_cli(port, words).contains(answer), "{words:?}: {}", redis_cli(port, words));
    }
}

#[test]
fn redis_cli_walks_all_keys_and_pipes_them_in() {
    if !has_judge("redis-cli") {
        return;
    }
    let (_daemon, port) = a_cache();
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string(), "--pipe"]);
    let commands: String = (0..5000).map(|n| format!("SET key:{n} {n}\r\n")).collect();
    let answer = run(command, &commands).ok();
    assert!(answer.contains("errors: 0, replies: 5000"), "{answer}");
    let mut keys: Vec<String> =
        redis_cli(port, &["--scan", "--pattern", "key:*"]).lines().map(str::to_owned).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5000);
}

#[test]
fn redis_benchmark_runs_without_an_error() {
    if !has_judge("redis-benchmark") {
        return;
    }
    let (daemon, port) = a_cache();
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "-t", "set,get,incr,lpush,lpop,sadd,hset"]);
    command.args(["-P", "100", "-c", "50", "-n", "20000", "-r", "1000", "--csv"]);
    let run = run(command, "");
    assert_eq!(run.err.replace("WARNING: Could not fetch server CONFIG\n", ""), "");
    let table = run.ok();
    for name in ["SET", "GET", "INCR", "LPUSH", "LPOP", "SADD", "HSET"] {
        assert!(table.contains(&format!("\"{name}\",")), "no {name} in {table}");
    }
    let keys: u64 = redis_cli(port, &["DBSIZE"]).parse().unwrap();
    assert!(keys > 1000, "{keys} keys");
    assert_eq!(daemon.row("db")["status"], "running");
}
