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

/// RFC 6455 and RFC 7692 by 1077 cases of a client of its own, also where the standard leaves a choice. Skipped is what the
/// words leave out, and one case about a context that this server doesn't keep.
fn conforms(daemon: &Daemon, runtime: &str, words: &[&str], expected: &str) {
    let mut suite = Command::new("python3");
    suite
        .arg(project("tests/e2e/ws_conformance.py"))
        .args(["127.0.0.1", &daemon.port(runtime).to_string(), "--strict", "--timeout", "30"])
        .args(words);
    let judged = run(suite, "");
    let last = judged.out.lines().last().unwrap_or_default();
    assert_eq!(last, expected, "{runtime}: {}{}", judged.out, judged.err);
}

/// Servers that echo, compressing or not.
fn conforming(tls: &str) -> Daemon {
    let daemon = Daemon::start();
    daemon.cli("cert localhost 127.0.0.1").ok();
    let server = |name: &str, deflate: bool| {
        format!(
            "server \"{name}\" {{ port = 0, protocol = \"websocket\", deflate = {deflate}, {tls}\n\
             max_message = 16 * 1024 * 1024, max_backlog = 64 * 1024 * 1024,\n\
             on_message = function(conn, message) conn:send(message) end }}\n"
        )
    };
    daemon.folder.write("echo.lua", &(server("deflate", true) + &server("plain", false)));
    daemon.cli("apply echo.lua").ok();
    daemon
}

#[test]
fn the_conformance_suite_finds_nothing_strictly() {
    if !has_judge("python3") {
        return;
    }
    let daemon = conforming("");
    conforms(&daemon, "deflate", &[], "1076 passed, 0 failed, 1 skipped");
    conforms(
        &daemon,
        "plain",
        &["--no-deflate", "--max-mib", "2"],
        "873 passed, 0 failed, 204 skipped",
    );
}

#[test]
fn the_conformance_suite_finds_nothing_over_tls_either() {
    if !has_judge("python3") {
        return;
    }
    let daemon = conforming("tls = true, cert = \"localhost.pem\", key = \"localhost.key\",");
    conforms(&daemon, "deflate", &["--tls", "--max-mib", "2"], "1064 passed, 0 failed, 13 skipped");
    conforms(
        &daemon,
        "plain",
        &["--tls", "--no-deflate", "--max-mib", "2"],
        "873 passed, 0 failed, 204 skipped",
    );
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

/// Our client against our server: connected means agreed, kinds are kept, a closed connection comes back.
#[test]
fn a_client_runtime_speaks_it_too() {
    let mut daemon = Daemon::start();
    let server = r#"
      server "far" {
        port = 0,
        on_websocket = function(conn, headers, request)
          conn:send("welcome " .. request.query .. " " .. tostring(request.subprotocol))
        end,
        on_message = function(conn, message, binary)
          if message == "leave" then conn:close(4000, "as you wish") else conn:send(message) end
        end,
      }
    "#;
    daemon.folder.write("far.lua", server);
    daemon.cli("apply far.lua").ok();
    let client = r#"
      local met = 0
      client "near" {
        target = "ws://127.0.0.1:PORT/room?name=ada", subprotocols = { "chat" },
        on_connect = function(conn)
          met = met + 1
          log.info("met %d", met)
          if met == 1 then
            conn:send("text")
            conn:send("\xff\0", { binary = true })
            conn:send(("x"):rep(100000))
            conn:send("leave")
          end
        end,
        on_message = function(conn, message, binary)
          log.info("heard %s %s", #message < 30 and (message:gsub("[^%w%p ]", ".")) or #message, tostring(binary))
        end,
        on_disconnect = function(conn, code, reason) log.info("lost %d %s", code, reason) end,
      }
    "#;
    daemon.folder.write("near.lua", &client.replace("PORT", &daemon.port("far").to_string()));
    daemon.cli("apply near.lua").ok();
    for line in [
        "met 1",
        "heard welcome name=ada nil false",
        "heard text false",
        "heard .. true",
        "heard 100000 false",
        "lost 4000 as you wish",
        "met 2",
    ] {
        daemon.until_logged(line);
    }
    assert_eq!(daemon.fields("near")["protocol"], "websocket");
    // What isn't a WebSocket is a failed dial.
    let plain = "server \"plain\" { port = 0, protocol = \"http\" }";
    daemon.folder.write("plain.lua", plain);
    daemon.cli("apply plain.lua").ok();
    let target = format!("ws://127.0.0.1:{}/", daemon.port("plain"));
    daemon.cli_words(&["create", "client", "lost", "-t", &target, "-s"]).ok();
    daemon.until_logged("it refuses the WebSocket with status 404");
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
