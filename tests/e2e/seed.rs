//! The story that the original tells of itself, with its commands and its script as they stand there.

use crate::support::{Daemon, Folder, Peer, has_judge, tell};

const QUICK_START: &str = r#"
# Start daemon
socketley daemon &

# Create and start a server
socketley create server myapp -p 9000 -s

# Send a message (broadcasts to all connected clients)
socketley send myapp "Hello, world!"

# Create a cache (Redis-compatible)
socketley create cache db -p 6379 --resp -s
redis-cli -p 6379 SET mykey myval
redis-cli -p 6379 GET mykey

# Create a reverse proxy
socketley create proxy gw -p 8080 --protocol tcp --backend 127.0.0.1:9000 -s
"#;

const LOOK: &str = r#"
# List all runtimes
socketley ls

# View stats
socketley stats myapp
"#;

const SCRIPT: &str = r#"
socketley stop myapp
socketley create server echo -p 9000 --lua example.lua -s
printf 'hello\n' | nc -N 127.0.0.1 9000
printf 'through the proxy\n' | nc -N 127.0.0.1 8080
"#;

#[test]
fn the_quick_start_runs_word_for_word() {
    if !has_judge("redis-cli") || !has_judge("nc") {
        return;
    }
    let folder = Folder::new();
    folder.copy("examples/example.lua");
    let Some(printed) = tell(&folder, &[QUICK_START, LOOK, SCRIPT]) else { return };
    assert!(printed[0].contains("OK\nmyval\n"), "{}", printed[0]);
    for word in [
        "myapp",
        "server",
        "127.0.0.1:9000",
        "db",
        "cache",
        "127.0.0.1:6379",
        "gw",
        "proxy",
        "running",
    ] {
        assert!(printed[1].contains(word), "no {word} in {}", printed[1]);
    }
    assert!(printed[2].contains("Welcome!\nEcho: hello\n"), "{}", printed[2]);
    assert!(printed[2].contains("Welcome!\nEcho: through the proxy\n"), "{}", printed[2]);
}

#[test]
fn the_script_logs_welcomes_and_echoes_to_all() {
    let daemon = Daemon::start();
    daemon.folder.copy("examples/example.lua");
    daemon.cli("create server echo -p 0 --lua example.lua -s").ok();
    let port = daemon.port("echo");
    let (mut ada, mut ben) = (Peer::connect(port), Peer::connect(port));
    ada.hears(&["Welcome!"]);
    ben.hears(&["Welcome!"]);
    ada.say("hello");
    ada.hears(&["Echo: hello"]);
    ben.hears(&["Echo: hello"]);
    let logs = daemon.cli("logs echo").ok();
    assert!(logs.contains(&format!("Server started on port {port}")), "{logs}");
    assert!(logs.contains("Received: hello"), "{logs}");
}

#[test]
fn without_a_script_a_server_relays() {
    let daemon = Daemon::start();
    daemon.cli("create server chat -p 0 -s").ok();
    let port = daemon.port("chat");
    let (mut ada, mut ben) = (Peer::connect(port), Peer::connect(port));
    daemon.until_row("chat", |row| row["connections"] == 2);
    ada.say("to the others");
    ben.hears(&["to the others"]);
    ben.say("not to myself");
    ada.hears(&["not to myself"]);
    daemon.cli("send chat from the daemon").ok();
    ada.hears(&["from the daemon"]);
    ben.hears(&["from the daemon"]);
    let stats = daemon.cli("stats chat").ok();
    assert!(stats.contains("connections"), "{stats}");
}

#[test]
fn a_proxy_carries_a_half_close() {
    let daemon = Daemon::start();
    daemon.folder.copy("examples/example.lua");
    daemon.cli("create server echo -p 0 --lua example.lua -s").ok();
    let backend = format!("127.0.0.1:{}", daemon.port("echo"));
    daemon
        .cli_words(&[
            "create",
            "proxy",
            "gw",
            "-p",
            "0",
            "--protocol",
            "tcp",
            "--backend",
            &backend,
            "-s",
        ])
        .ok();
    let mut peer = Peer::connect(daemon.port("gw"));
    peer.say("last words");
    peer.finish();
    assert_eq!(peer.rest(), "Welcome!\nEcho: last words\n");
}

#[test]
fn a_client_reconnects_to_a_server_that_comes_back() {
    let daemon = Daemon::start();
    daemon.cli("create server hub -p 0 -s").ok();
    let port = daemon.port("hub");
    daemon.cli("stop hub").ok();
    daemon.cli_words(&["edit", "hub", "-p", &port.to_string()]).ok();
    daemon.cli_words(&["create", "client", "up", "-t", &format!("127.0.0.1:{port}"), "-s"]).ok();
    assert_eq!(daemon.row("up")["connections"], 0);
    daemon.cli("start hub").ok();
    daemon.until_row("up", |row| row["connections"] == 1);
    let mut peer = Peer::connect(port);
    daemon.until_row("hub", |row| row["connections"] == 2);
    daemon.cli("send up hello from the client").ok();
    peer.hears(&["hello from the client"]);
}
