//! A cache's hooks and channels in a real daemon, judged by redis-cli and a WebSocket client.

use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, Process, has_judge, run, until};

fn redis_cli(port: u16, words: &[&str]) -> String {
    run(command(port, words), "").ok().trim_end().to_owned()
}

fn command(port: u16, words: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words);
    command
}

fn stats(daemon: &Daemon, name: &str) -> Value {
    let text = daemon.cli_words(&["stats", name, "--format", "json"]).ok();
    let value: Value = serde_json::from_str(&text).unwrap();
    value.as_array().map_or(value.clone(), |rows| rows[0].clone())
}

/// The app is at home on one worker, the cache is served by all three.
fn daemon(text: &str) -> (Daemon, u16) {
    let daemon = Daemon::with(&["--workers", "3"]);
    daemon.folder.write("app.lua", text);
    daemon.cli("apply app.lua").ok();
    let port = daemon.port("db");
    (daemon, port)
}

const HOOKS: &str = r#"
cache "db" {
  port = 0, maxmemory = "0",
  on_expire = function(key, value) log.info("v1 expire %s=%s", key, type(value) == "table" and value.f or value) end,
  on_evict = function(key, value) log.info("v1 evict %s=%s", key, value) end,
  on_write = function(key, value, ttl, command) log.info("v1 write %s=%s %s %s", key, tostring(value), tostring(ttl), command) end,
  on_delete = function(key) log.info("v1 delete %s", key) end,
}
local ticks = 0
every("20ms", function()
  ticks = ticks + 1
  cache.db:set("ticks", ticks)
end)
"#;

#[test]
fn an_app_hears_what_happens_to_keys_across_a_reload() {
    if !has_judge("redis-cli") {
        return;
    }
    let (mut daemon, port) = daemon(HOOKS);
    // Timers run in an app that is nothing but a cache.
    until("the timer", || {
        (redis_cli(port, &["GET", "ticks"]).parse::<u64>().ok()? > 2).then_some(())
    });
    for _ in 0..4 {
        // Each on a connection of its own, so on one worker or another.
        redis_cli(port, &["SET", "k", "v"]);
    }
    redis_cli(port, &["SET", "short", "lived", "PX", "1"]);
    redis_cli(port, &["HSET", "h", "f", "field"]);
    redis_cli(port, &["PEXPIRE", "h", "1"]);
    redis_cli(port, &["DEL", "k"]);
    for line in [
        "v1 write k=v nil set",
        "v1 write h=nil nil hset",
        "v1 expire short=lived",
        "v1 expire h=field",
        "v1 delete k",
    ] {
        daemon.until_logged(line);
    }
    assert_eq!(daemon.log().matches("v1 write k=v nil set").count(), 4);
    redis_cli(port, &["SET", "victim", "value"]);
    redis_cli(port, &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    redis_cli(port, &["CONFIG", "SET", "maxmemory", "1"]);
    redis_cli(port, &["PING"]);
    daemon.until_logged("v1 evict victim=value");
    redis_cli(port, &["CONFIG", "SET", "maxmemory", "0"]);
    daemon.folder.write("app.lua", &HOOKS.replace("v1", "v2"));
    until("the new version", || {
        redis_cli(port, &["SET", "k", "v"]);
        daemon.log().contains("v2 write k=v").then_some(())
    });
    daemon.cli("restart db").ok();
    redis_cli(daemon.port("db"), &["SET", "after", "restart"]);
    daemon.until_logged("v2 write after=restart");
    daemon.folder.write("app.lua", "cache 'db' { port = 0 }");
    until("a version without hooks", || {
        stats(&daemon, "db").get("hooks_told").is_none().then_some(())
    });
}

const MISSES: &str = r#"
cache "db" {
  port = 0,
  on_miss = function(key)
    log.info("asked for %s", key)
    if key == "wait" then sleep "300ms" end
    if key == "fails" then error "no database" end
    if key == "none" then return nil end
    if key == "hash" then return { f = "field" }, "1m" end
    return "value of " .. key, 60
  end,
}
server "front" { port = 0, on_message = function(conn, key)
  local value, err = cache.db:get(key)
  conn:send(tostring(value) .. " " .. (err and err.code or "-"))
end }
"#;

#[test]
fn missing_keys_are_read_through_once() {
    if !has_judge("redis-cli") {
        return;
    }
    let (daemon, port) = daemon(MISSES);
    let waiting: Vec<Process> =
        (0..6).map(|_| Process::spawn(command(port, &["GET", "wait"]))).collect();
    let mut front = crate::support::Peer::connect(daemon.port("front"));
    front.say("wait");
    for process in waiting {
        assert_eq!(process.wait().ok().trim_end(), "value of wait");
    }
    front.hears(&["value of wait -"]);
    assert_eq!(daemon.log().matches("asked for wait").count(), 1);
    assert_eq!(redis_cli(port, &["TTL", "wait"]), "60");
    assert_eq!(redis_cli(port, &["MGET", "a", "none", "b"]), "value of a\n\nvalue of b");
    assert_eq!(redis_cli(port, &["HGETALL", "hash"]), "f\nfield");
    let failed = "ERR on_miss failed: the log of the cache says why";
    assert_eq!(redis_cli(port, &["GET", "fails"]), failed);
    front.say("fails");
    front.say("front");
    front.hears(&["nil ERR", "value of front -"]);
    let run = run(
        command(port, &[]),
        "MULTI\nGET multi\nEXEC\nEVAL \"return redis.call('get', 'script')\" 0\n",
    );
    assert_eq!(run.ok().trim_end(), "OK\nQUEUED");
    let log = daemon.log();
    assert!(!log.contains("for multi") && !log.contains("for script"), "nobody asks there: {log}");
    let stats = stats(&daemon, "db");
    assert_eq!((&stats["misses_asked"], stats.get("misses_asking")), (&Value::from(8), None));
}

const BEHIND: &str = r#"
local path = "written"
local fails = true
cache "db" { port = 0, write_behind = { every = "100ms", max = 50, run = function(batch)
  if fails then fails = false error "the disk is full" end
  local file = assert(io.open(path, "a"))
  for _, row in ipairs(batch) do
    local value = row.deleted and "deleted" or type(row.value) == "table" and row.value.f or row.value
    file:write(row.key, " ", value, "\n")
  end
  file:close()
end } }
"#;

#[test]
fn changes_are_written_behind_also_at_the_end() {
    if !has_judge("redis-cli") {
        return;
    }
    let mut daemon = Daemon::with(&["--workers", "2"]);
    let path = daemon.folder.join("written");
    let text = BEHIND.replace("\"written\"", &format!("{path:?}"));
    daemon.folder.write("app.lua", &text);
    daemon.cli("apply app.lua").ok();
    let port = daemon.port("db");
    redis_cli(port, &["SET", "a", "1"]);
    redis_cli(port, &["SET", "a", "2"]);
    redis_cli(port, &["HSET", "h", "f", "field"]);
    redis_cli(port, &["DEL", "h"]);
    daemon.until_logged("the disk is full");
    daemon.until_logged("write_behind failed: 2 changed keys wait 100 ms for the next try");
    let written = || std::fs::read_to_string(&path).unwrap_or_default();
    until("the second try", || (written() == "a 2\nh deleted\n").then_some(()));
    let stats = stats(&daemon, "db");
    assert_eq!((&stats["behind_written"], &stats["behind_retried"]), (&2.into(), &1.into()));
    // What waits when the daemon ends is written before it has.
    daemon
        .folder
        .write("app.lua", &text.replace("100ms", "60s").replace("fails = true", "fails = false"));
    until("the new version", || daemon.log().contains("generation 2 runs").then_some(()));
    redis_cli(port, &["SET", "last", "words"]);
    let stopped = daemon.stop();
    assert_eq!(stopped.run.code, 0);
    assert_eq!(written(), "a 2\nh deleted\nlast words\n");
}

/// The original's style: a script beside a cache that the command line made.
#[test]
fn callbacks_of_the_original() {
    if !has_judge("redis-cli") {
        return;
    }
    let mut daemon = Daemon::start();
    let script = "tick_ms = 20
        local pending = {}
        function on_miss(key) return 'row of ' .. key, 300 end
        function on_write(key, value, ttl) pending[#pending + 1] = key .. '=' .. value .. ' ' .. ttl end
        function on_delete(key) socketley.log('deleted ' .. key) end
        function on_expire(key) socketley.log('expired ' .. key) end
        function on_tick()
          for _, line in ipairs(pending) do socketley.log('flushed ' .. line) end
          pending = {}
        end
        function on_start()
          socketley.subscribe('db', 'news', function(message) socketley.log('heard ' .. message) end)
        end";
    daemon.folder.write("backend.lua", script);
    daemon.cli("create cache db -p 0 --lua backend.lua -s").ok();
    let port = daemon.port("db");
    assert_eq!(redis_cli(port, &["GET", "k"]), "row of k");
    assert_eq!(redis_cli(port, &["TTL", "k"]), "300");
    redis_cli(port, &["SET", "a", "1", "EX", "100"]);
    redis_cli(port, &["SET", "b", "2"]);
    redis_cli(port, &["DEL", "b"]);
    redis_cli(port, &["SET", "c", "3", "PX", "1"]);
    until("somebody listens", || (redis_cli(port, &["PUBLISH", "news", "m"]) == "1").then_some(()));
    for line in ["flushed a=1 100", "flushed b=2 0", "deleted b", "expired c", "heard m"] {
        daemon.until_logged(line);
    }
}

const CHANNELS: &str = r#"
cache "db" { port = 0 }
server "lines" { port = 0, workers = "all", on_message = function(conn, message)
  conn:send("heard by " .. publish("out", message))
end }
pubsub.on("in:*", function(message, channel) lines:broadcast("ONE " .. channel .. " " .. message) end)
"#;

/// An app on several workers: its clients get a message once, wherever they are, and a new version takes over.
#[test]
fn channels_both_ways_with_several_workers() {
    if !has_judge("redis-cli") {
        return;
    }
    let (daemon, port) = daemon(CHANNELS);
    let mut peers: Vec<_> =
        (0..6).map(|_| crate::support::Peer::connect(daemon.port("lines"))).collect();
    let mut subscriber = Process::spawn(command(port, &["SUBSCRIBE", "out"]));
    subscriber.until_printed("subscribe");
    for peer in &mut peers {
        peer.say("hello");
        peer.hears(&["heard by 1"]);
    }
    subscriber.until_printed("hello");
    assert_eq!(redis_cli(port, &["PUBLISH", "in:1", "first"]), "1");
    assert_eq!(redis_cli(port, &["PUBSUB", "NUMPAT"]), "1");
    for peer in &mut peers {
        peer.hears(&["ONE in:1 first"]);
    }
    daemon.folder.write("app.lua", &CHANNELS.replace("ONE", "TWO"));
    until("the new version", || daemon.log().contains("generation 2 runs").then_some(()));
    assert_eq!(redis_cli(port, &["PUBLISH", "in:1", "second"]), "1", "the old one has left");
    for peer in &mut peers {
        peer.hears(&["TWO in:1 second"]);
    }
    daemon.cli("restart db").ok();
    let port = daemon.port("db");
    assert_eq!(redis_cli(port, &["PUBLISH", "in:2", "third"]), "1", "joined again");
    peers[0].hears(&["TWO in:2 third"]);
}
