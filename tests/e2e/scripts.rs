//! Scripts in a real daemon, judged by redis-cli: what they answer, and that one without end ends.

use std::process::Command;

use crate::support::{Daemon, Process, degraded, has_judge, run, until};

fn redis_cli(port: u16, words: &[&str]) -> String {
    run(command(port, words), "").ok().trim_end().to_owned()
}

fn command(port: u16, words: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words);
    command
}

fn a_cache(workers: &str) -> (Daemon, u16) {
    let daemon = Daemon::with(&["--workers", workers]);
    daemon.cli("create cache db -p 0 --resp -s").ok();
    let port = daemon.port("db");
    (daemon, port)
}

#[test]
fn scripts_and_functions() {
    if !has_judge("redis-cli") {
        return;
    }
    let (_daemon, port) = a_cache("2");
    let library = "#!lua name=visits\nredis.register_function('visit', function(keys) return redis.call('incr', \
                   keys[1]) end)";
    let cases: &[(&[&str], &str)] = &[
        (&["EVAL", "return {KEYS[1], ARGV[1]}", "1", "key", "argument"], "key\nargument"),
        (&["EVAL", "return redis.call('set', KEYS[1], cjson.encode({1, 2}))", "1", "json"], "OK"),
        (&["GET", "json"], "[1,2]"),
        (&["SCRIPT", "LOAD", "return 1"], "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
        (&["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"], "1"),
        (&["FUNCTION", "LOAD", library], "visits"),
        (&["FCALL", "visit", "1", "page"], "1"),
        (&["FCALL", "visit", "1", "page"], "2"),
        (&["-3", "EVAL", "redis.setresp(3) return {map={a=true}}", "0"], "a (true)"),
    ];
    for (words, answer) in cases {
        assert_eq!(redis_cli(port, words), *answer, "{words:?}");
    }
}

/// One worker: who would kill the script comes to the worker that runs it.
#[test]
fn a_script_without_end_is_killed_whatever_the_number_of_workers() {
    if !has_judge("redis-cli") {
        return;
    }
    for workers in ["1", "2"] {
        let (daemon, port) = a_cache(workers);
        redis_cli(port, &["CONFIG", "SET", "busy-reply-threshold", "100"]);
        redis_cli(port, &["SET", "key", "value"]);
        let endless = Process::spawn(command(port, &["EVAL", "while true do end", "0"]));
        until("the script is busy", || {
            redis_cli(port, &["GET", "key"]).starts_with("BUSY Redis is busy").then_some(())
        });
        // Everything else goes on.
        daemon.cli("ls").ok();
        daemon.cli("create server beside -p 0 -s").ok();
        assert!(redis_cli(port, &["FUNCTION", "KILL"]).starts_with("BUSY "));
        assert_eq!(redis_cli(port, &["SCRIPT", "KILL"]), "OK");
        let said = endless.wait().ok();
        assert!(said.contains("Script killed by user with SCRIPT KILL"), "{said}");
        assert_eq!(redis_cli(port, &["GET", "key"]), "value");
    }
}

#[test]
fn what_has_written_runs_to_its_end() {
    if !has_judge("redis-cli") {
        return;
    }
    let (_daemon, port) = a_cache("1");
    redis_cli(port, &["CONFIG", "SET", "busy-reply-threshold", "1"]);
    let script = "redis.call('set', 'done', 'no') local x = 0 for i = 1, 2e9 do x = x + 1 end redis.call('set', \
                  'done', 'yes')";
    let writer = Process::spawn(command(port, &["EVAL", script, "0"]));
    until("it can't be killed", || {
        redis_cli(port, &["SCRIPT", "KILL"]).starts_with("UNKILLABLE ").then_some(())
    });
    writer.wait().ok();
    assert_eq!(redis_cli(port, &["GET", "done"]), "yes");
}

const APP: &str = r#"
local prefix = "user:"
cache "db" {
  port = 0,
  commands = {
    ["USER.TOUCH"] = { keys = 1, flags = "write", summary = "counts a visit",
      run = function(db, name) db:hincrby(prefix .. name, "n", 1) return db:hget(prefix .. name, "n") end },
    version = function() return "one" end,
    stuck = function() while true do end end,
  },
}
"#;

/// A command written in Lua is one like any other, and a saved file changes it while it is used.
#[test]
fn commands_of_a_definition() {
    if !has_judge("redis-cli") {
        return;
    }
    let daemon = Daemon::start();
    daemon.folder.write("app.lua", APP);
    daemon.cli("apply app.lua").ok();
    let port = daemon.port("db");
    assert_eq!(redis_cli(port, &["USER.TOUCH", "ann"]), "1");
    assert_eq!(redis_cli(port, &["user.touch", "ann"]), "2");
    assert_eq!(redis_cli(port, &["HGET", "user:ann", "n"]), "2");
    assert_eq!(
        redis_cli(port, &["COMMAND", "LIST", "FILTERBY", "PATTERN", "user.*"]),
        "user.touch"
    );
    let arity = "ERR wrong number of arguments for 'user.touch' command";
    assert_eq!(redis_cli(port, &["USER.TOUCH"]), arity);
    assert!(
        redis_cli(port, &["STUCK"]).starts_with("ERR the script ran longer than its time budget")
    );
    assert_eq!(daemon.cli_words(&["eval", "--app", "app", "cache.db:version()"]).code, 0);
    let words = ["-p", &port.to_string(), "-r", "-1", "-i", "0.001", "VERSION"].map(str::to_owned);
    let mut command = Command::new("redis-cli");
    command.args(words);
    let mut caller = Process::spawn(command);
    caller.until_printed("one");
    daemon.folder.write("app.lua", &APP.replace("\"one\"", "\"two\""));
    caller.until_printed("two");
    let printed = caller.out();
    assert!(printed.lines().all(|line| line == "one" || line == "two"), "{printed}");
    daemon.folder.write("app.lua", "cache 'db' { port = 0, commands = { version = 5 } }");
    daemon.until_row("db", |row| degraded(row).contains("version"));
    redis_cli(port, &["USER.TOUCH", "ann"]);
    assert_eq!(redis_cli(port, &["VERSION"]), "two");
    daemon.cli("restart db").ok();
    assert_eq!(redis_cli(daemon.port("db"), &["VERSION"]), "two");
}
