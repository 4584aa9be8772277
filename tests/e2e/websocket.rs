//! WebSockets of a real daemon, judged by a client of Python's standard library alone.

use std::process::Command;

use crate::support::{Daemon, has_judge, project, run};

/// Plays `steps` (see `websocket.py`) and answers what the client printed.
fn play(port: u16, steps: &[&str]) -> String {
    let mut command = Command::new("python3");
    command.arg(project("tests/e2e/websocket.py")).arg(port.to_string());
    run(command, &steps.join("\n")).ok()
}

const ECHO: &str = r#"
server "echo" {
  port = 0, websocket = true, origins = { "https://good.example" },
  on_message = function(conn, message) conn:send(message) end,
}
server "plain" {
  port = 0, protocol = "websocket", deflate = false,
  on_message = function(conn, message) conn:send(message) end,
}
server "relay" { port = 0, websocket = true }
"#;

fn daemon() -> Daemon {
    let daemon = Daemon::start();
    daemon.folder.write("echo.lua", ECHO);
    daemon.cli("apply echo.lua").ok();
    daemon
}

/// The original's WebSocket overwrote the beginning of each payload of more than six bytes, and sent bytes as text.
#[test]
fn payloads_come_back_whole_and_in_their_kind() {
    if !has_judge("python3") {
        return;
    }
    let daemon = daemon();
    let long = "Hello WebSocket world, ".repeat(4000);
    let steps = [
        r#"["open", "a", "/", {"deflate": DEFLATE}]"#.to_owned(),
        r#"["text", "a", "Hello WebSocket world, this is 42 bytes ok"]"#.to_owned(),
        r#"["hear", "a"]"#.to_owned(),
        r#"["binary", "a", "00ff80"]"#.to_owned(),
        r#"["ping", "a", "p"]"#.to_owned(),
        r#"["hear", "a"]"#.to_owned(),
        r#"["hear", "a"]"#.to_owned(),
        r#"["fragments", "a", ["h\u00e9", "", "llo"]]"#.to_owned(),
        r#"["hear", "a"]"#.to_owned(),
        format!(r#"["text", "a", "{long}"]"#),
        r#"["hear", "a"]"#.to_owned(),
        r#"["close", "a", 4000]"#.to_owned(),
        r#"["hear", "a"]"#.to_owned(),
        r#"["hear", "a"]"#.to_owned(),
    ];
    for (runtime, offer, agreed) in [
        ("echo", "{\"deflate\": true}", "101 deflate"),
        ("echo", "{}", "101"),
        ("plain", "{\"deflate\": true}", "101"),
    ] {
        let steps: Vec<String> =
            steps.iter().map(|step| step.replace("{\"deflate\": DEFLATE}", offer)).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let mut heard: Vec<String> =
            play(daemon.port(runtime), &steps).lines().map(str::to_owned).collect();
        // The pong may come before the answer of the handler.
        heard[2..4].sort();
        let wanted = [
            format!("a {agreed}"),
            "a text Hello WebSocket world, this is 42 bytes ok".to_owned(),
            "a binary 00ff80".to_owned(),
            "a pong 70".to_owned(),
            "a text héllo".to_owned(),
            format!("a text {long}"),
            "a close 4000 ".to_owned(),
            "a end".to_owned(),
        ];
        assert_eq!(heard, wanted, "{runtime} {offer}");
    }
}

/// A runtime without handlers passes messages on to the others, of both workers, as they came.
#[test]
fn messages_reach_the_others_in_their_kind() {
    if !has_judge("python3") {
        return;
    }
    let daemon = daemon();
    let mut steps = Vec::new();
    for name in ["a", "b", "c"] {
        steps.push(format!(r#"["open", "{name}", "/", {{}}]"#));
    }
    let more = [
        r#"["text", "a", "to all"]"#,
        r#"["hear", "b"]"#,
        r#"["hear", "c"]"#,
        r#"["binary", "b", "c3"]"#,
        r#"["hear", "a"]"#,
        r#"["hear", "c"]"#,
    ];
    let steps: Vec<&str> = steps.iter().map(String::as_str).chain(more).collect();
    let heard = play(daemon.port("relay"), &steps);
    let wanted = "a 101\nb 101\nc 101\nb text to all\nc text to all\na binary c3\nc binary c3\n";
    assert_eq!(heard, wanted);
}

#[test]
fn only_pages_of_the_listed_origins_connect() {
    if !has_judge("python3") {
        return;
    }
    let daemon = daemon();
    let steps = [
        r#"["open", "good", "/", {"origin": "https://good.example"}]"#,
        r#"["open", "bad", "/", {"origin": "https://evil.example"}]"#,
        r#"["open", "none", "/", {}]"#,
    ];
    assert_eq!(play(daemon.port("echo"), &steps), "good 101\nbad 403\nnone 101\n");
}

#[test]
fn a_stop_says_goodbye() {
    if !has_judge("python3") {
        return;
    }
    let daemon = daemon();
    let mut command = Command::new("python3");
    command.arg(project("tests/e2e/websocket.py")).arg(daemon.port("echo").to_string());
    let steps = "[\"open\", \"a\", \"/\", {}]\n[\"hear\", \"a\"]\n[\"hear\", \"a\"]\n";
    let judge = std::thread::spawn(move || run(command, steps).ok());
    daemon.until_row("echo", |row| row["connections"] == 1);
    daemon.cli("stop echo").ok();
    assert_eq!(judge.join().unwrap(), "a 101\na close 1001 \na end\n");
}
