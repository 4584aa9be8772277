//! A real browser: a page from our own static server chats over a WebSocket of the same port.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Daemon, Process, has_judge, until_within};

const PAGE: &str = include_str!("browser.html");

const CHAT: &str = r#"
local chat
chat = server "chat" {
  port = 0, static = "public", state = { report = "" },
  routes = { ["POST /report"] = function(req) chat.state.report = req.body return 204 end },
  on_websocket = function(conn) conn:send("welcome") end,
  on_message = function(conn, message) chat:broadcast(message, { except = conn }) end,
}
command "report" { summary = "what the page found", run = function(_, out) out:print(chat.state.report) end }
"#;

/// Pages are served with their types, are let in by their own origin, and text and bytes arrive as what they were sent.
#[test]
fn a_page_chats_in_chromium() {
    if !has_judge("chromium") {
        return;
    }
    let daemon = Daemon::start();
    std::fs::create_dir(daemon.folder.join("public")).unwrap();
    daemon.folder.write("public/index.html", PAGE);
    daemon.folder.write("public/chat.js", include_str!("browser.js"));
    daemon.folder.write("chat.lua", CHAT);
    daemon.cli("apply chat.lua").ok();
    let mut command = Command::new("chromium");
    let profile = format!("--user-data-dir={}", daemon.folder.join("profile").display());
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", &profile]);
    // A page stays only while somebody holds a connection to the browser's debugger, or asks for its picture.
    command.arg("--remote-debugging-port=0");
    command.arg(format!("http://127.0.0.1:{}/", daemon.port("chat")));
    let browser = Process::spawn(command);
    let report = until_within(std::time::Duration::from_secs(90), || {
        let report = daemon.cli("report").out;
        (!report.trim().is_empty()).then_some(report)
    });
    let report = report.unwrap_or_else(|| panic!("no report: {}{}", browser.err(), daemon.log()));
    let found: Value = serde_json::from_str(&report).unwrap();
    let wanted = json!({
        "ada": ["text welcome", "text hi ada, \u{e9}\u{1f600}"],
        "bob": ["text welcome", "text hello bob", "bytes 0,255,128", "length 100000"],
        "type": "text/html; charset=utf-8",
        "closed": 1000,
    });
    assert_eq!(found, wanted);
}
