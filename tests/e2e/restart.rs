//! What ran before runs again: after kill -9, with a damaged state file, with a script that has been broken meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Daemon, Folder, Peer, degraded, free_port, until};

const APP: &str = r#"
cache "memory" { port = 0 }
server "greeter" {
  port = PORT,
  on_message = function(conn, line) conn:send("hello " .. line .. " " .. cache.memory:incr("n")) end,
}
"#;

fn greets(port: u16) {
    let mut peer = Peer::connect(port);
    peer.say("you");
    assert!(peer.hear().starts_with("hello you "));
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// The state file of a runtime that the command line made.
fn state_file(folder: &Folder, name: &str) -> PathBuf {
    let files = files_below(&folder.join("home"));
    let wanted = format!("{name}.json");
    let found = files.iter().find(|path| path.ends_with(&wanted));
    found.unwrap_or_else(|| panic!("no {wanted} in {files:?}")).clone()
}

#[test]
fn after_kill_9_what_ran_runs_again() {
    let daemon = Daemon::start();
    let ports = [free_port(), free_port(), free_port()];
    daemon.cli(&format!("create server chat -p {} -s --max-connections 9", ports[0])).ok();
    daemon.cli(&format!("create cache db -p {}", ports[1])).ok();
    daemon
        .cli(&format!("create proxy gw -p 0 --protocol tcp --backend 127.0.0.1:{} -s", ports[0]))
        .ok();
    daemon.cli("create server gone -p 0 -s").ok();
    daemon.cli("stop gw").ok();
    daemon.cli("remove gone").ok();
    daemon.folder.write("app.lua", &APP.replace("PORT", &ports[2].to_string()));
    daemon.cli("apply app.lua").ok();
    let shown = ["chat", "db", "gw"].map(|name| daemon.fields(name));
    greets(ports[2]);

    let daemon = daemon.kill9().restart();
    daemon.until_row("greeter", |row| row["status"] == "running");
    let status = |name: &str| daemon.row(name)["status"].as_str().unwrap_or("absent").to_owned();
    let statuses = ["chat", "db", "gw", "gone", "memory", "greeter"].map(status);
    assert_eq!(statuses[0], "running");
    assert_ne!(statuses[1], "running");
    assert_ne!(statuses[2], "running");
    assert_eq!(statuses[3], "absent");
    assert_eq!(statuses[4..], ["running", "running"]);
    assert_eq!(["chat", "db", "gw"].map(|name| daemon.fields(name)), shown);
    greets(ports[2]);
    Peer::connect(ports[0]);

    // The file is watched again.
    daemon
        .folder
        .write("app.lua", &APP.replace("PORT", &ports[2].to_string()).replace("hello", "welcome"));
    until("the new version", || {
        let mut peer = Peer::connect(ports[2]);
        peer.say("you");
        peer.hear().starts_with("welcome").then_some(())
    });
}

#[test]
fn a_damaged_state_file_is_set_aside() {
    let daemon = Daemon::start();
    for name in ["good", "bad", "empty"] {
        daemon.cli(&format!("create server {name} -p 0 -s")).ok();
    }
    let stopped = daemon.kill9();
    let bad = state_file(&stopped.folder, "bad");
    fs::write(&bad, "{\"name\": \"bad\", \"ty").unwrap();
    fs::write(state_file(&stopped.folder, "empty"), "").unwrap();
    let daemon = stopped.restart();
    daemon.until_row("good", |row| row["status"] == "running");
    assert_eq!(daemon.names(), ["good"]);
    let log = daemon.log();
    assert!(log.contains("bad.json") && log.contains("empty.json"), "{log}");
    let kept = files_below(&daemon.folder.join("home"))
        .into_iter()
        .any(|path| fs::read_to_string(&path).is_ok_and(|text| text == "{\"name\": \"bad\", \"ty"));
    assert!(kept, "the damaged file is lost");
    daemon.cli("create server bad -p 0 -s").ok();
    let daemon = daemon.stop().restart();
    assert_eq!(daemon.names(), ["bad", "good"]);
}

#[test]
fn a_script_broken_meanwhile_is_served_from_its_last_good_source() {
    let daemon = Daemon::start();
    let port = free_port();
    let text = APP.replace("PORT", &port.to_string());
    daemon.folder.write("app.lua", &text);
    daemon.cli("apply app.lua").ok();
    let stopped = daemon.kill9();
    stopped.folder.write("app.lua", &text.replace("conn:send", "conn:send = "));
    let daemon = stopped.restart();
    let is_served = |row: &serde_json::Value| row["status"] == "degraded";
    let row = daemon.until_row("greeter", is_served);
    greets(port);
    assert!(degraded(&row).contains("app.lua:5"), "{row}");
    daemon.folder.write("app.lua", &text);
    daemon.until_row("greeter", |row| degraded(row).is_empty());
    greets(port);
}

#[test]
fn a_script_that_is_gone_is_served_from_its_last_good_source() {
    let daemon = Daemon::start();
    daemon.folder.copy("examples/example.lua");
    let port = free_port();
    daemon.cli(&format!("create server echo -p {port} --lua example.lua -s")).ok();
    let stopped = daemon.stop();
    fs::remove_file(stopped.folder.join("example.lua")).unwrap();
    let daemon = stopped.restart();
    let is_served = |row: &serde_json::Value| row["status"] == "degraded";
    let row = daemon.until_row("echo", is_served);
    let mut peer = Peer::connect(port);
    peer.say("still there?");
    peer.hears(&["Welcome!", "Echo: still there?"]);
    assert!(degraded(&row).contains("example.lua"), "{row}");
}

#[test]
fn sigterm_drains_and_ends_with_success() {
    let daemon = Daemon::start();
    daemon.cli("create server chat -p 0 -s").ok();
    let mut peer = Peer::connect(daemon.port("chat"));
    daemon.until_row("chat", |row| row["connections"] == 1);
    let socket = daemon.socket();
    let stopped = daemon.stop();
    assert_eq!(stopped.run.code, 0, "{}", stopped.run.err);
    assert_eq!(peer.rest(), "");
    assert!(!socket.exists());
    let daemon = stopped.restart();
    daemon.until_row("chat", |row| row["status"] == "running");
    let run = daemon.cli("daemon stop");
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(daemon.ended().run.code, 0);
}

#[test]
fn a_supervised_daemon_comes_back_by_itself() {
    fn serving(daemon: &Daemon) -> Option<u64> {
        let run = daemon.cli("info --format json");
        let info: serde_json::Value = serde_json::from_str(&run.out).ok()?;
        (run.code == 0).then(|| info["pid"].as_u64().expect("a daemon has a pid"))
    }
    let daemon = Daemon::with(&["--supervise", "--workers", "1"]);
    daemon.cli("create server chat -p 0 -s").ok();
    let first = serving(&daemon).expect("it answers");
    assert_ne!(first, u64::from(daemon.id()), "the one that serves is a child");
    daemon.signal_to(first, "KILL");
    let second =
        until("another process that serves", || serving(&daemon).filter(|pid| *pid != first));
    daemon.until_row("chat", |row| row["status"] == "running");
    Peer::connect(daemon.port("chat"));
    let stopped = daemon.stop();
    assert_eq!(stopped.run.code, 0, "{}", stopped.run.err);
    assert!(!Path::new(&format!("/proc/{second}")).exists(), "the child outlived its supervisor");
}
