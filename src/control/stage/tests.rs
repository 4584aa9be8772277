//! The bundled modules' own tests, and the stage's.

mod snippets;

use std::path::{Path, PathBuf};

use super::*;

fn watchdog() -> Watchdog {
    Watchdog::start()
}

/// How many cases a file has, and what failed of them.
pub(super) fn failures(file: &Path) -> Result<(usize, Vec<String>), OperatorError> {
    let cases = run(file, None, &watchdog())?;
    let failed = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, case.failure.as_ref()?)))
        .collect();
    Ok((cases.len(), failed))
}

/// Every module of the library that scripts get is tested in Lua, as scripts load it: without privileges.
#[test]
fn the_modules_of_the_library_pass_their_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lua");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with("_test.lua"));
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    let mut problems = Vec::new();
    for file in files {
        let (count, failed) = failures(&file).unwrap_or_else(|error| panic!("{error}"));
        assert!(count > 0, "{} has no cases", file.display());
        problems.extend(failed.into_iter().map(|text| format!("{}: {text}", file.display())));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str, files: &[(&str, &str)]) -> Folder {
        let path =
            std::env::temp_dir().join(format!("socketley-stage-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

const CHAT: &str = r#"
local chat = server "chat" {
  port = 9000,
  on_connect = function(conn) conn:send "hi" end,
  on_message = function(conn, msg)
    if msg == "bye" then return conn:close() end
    if msg == "who" then return conn:send(http.get("http://names.example/who").body) end
    cache.db:incr "lines"
    chat:broadcast(msg, { except = conn })
  end,
}
cache "db" { port = 6379 }
every("30s", function() chat:broadcast "tick" end)
"#;

const CHAT_TEST: &str = r#"
local t = require "socketley.test"
t.load "chat.lua"
t.describe("chat", function()
  t.it("greets and relays", function()
    local ann, bob = t.connect "chat", t.connect "chat"
    t.expect(ann:receive()):equals "hi"
    t.expect(bob:receive()):equals "hi"
    ann:send "hello"
    t.expect(bob:receive()):equals "hello"
    t.expect(ann:receive()):is_nil()
    local db = redis.connect "redis://127.0.0.1:6379"
    t.expect(db:get "lines"):equals "1"
  end)
  t.it("begins anew, ticks, and closes", function()
    local ann = t.connect "chat"
    ann:receive()
    t.advance "65s"
    t.expect(ann:messages()):equals { "tick", "tick" }
    t.expect(ann:is_closed()):equals(false)
    ann:send "bye"
    t.expect(ann:is_closed()):equals(true)
    t.expect(redis.connect():get "lines"):is_nil()
  end)
  t.it("asks a stub", function()
    t.stub("http://names.example/", { body = "ada" })
    local ann = t.connect "chat"
    ann:receive()
    ann:send "who"
    t.expect(ann:receive()):equals "ada"
    t.expect(t.requests()[1].path):equals "/who"
  end)
  t.it("fails on purpose", function() t.expect(1, "one"):equals(2) end)
end)
"#;

#[test]
fn an_app_is_tested_in_virtual_time_and_failures_are_told() {
    let folder = Folder::new("chat", &[("chat.lua", CHAT), ("chat_test.lua", CHAT_TEST)]);
    let cases = run(&folder.0.join("chat_test.lua"), None, &watchdog()).unwrap();
    let failed: Vec<&Case> = cases.iter().filter(|case| case.failure.is_some()).collect();
    assert_eq!(cases.len(), 4);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].name, "chat fails on purpose");
    let text = failed[0].failure.as_deref().unwrap();
    assert!(text.contains("one: expected 2, got 1") && text.contains("chat_test.lua:"), "{text}");
    let some = run(&folder.0.join("chat_test.lua"), Some("greets"), &watchdog()).unwrap();
    assert_eq!(some.len(), 1);
}

#[test]
fn what_cant_be_tested_says_why() {
    let folder = Folder::new(
        "wrong",
        &[
            ("syntax_test.lua", "local = 1"),
            (
                "missing_test.lua",
                "local t = require 'socketley.test' t.load 'no.lua' t.it('x', function() end)",
            ),
            (
                "endless_test.lua",
                "require('socketley.test').it('x', function() channel():receive() end)",
            ),
            ("defines_test.lua", "server 's' { port = 9000 }"),
        ],
    );
    for (file, words) in [
        ("syntax_test.lua", "syntax_test.lua:1"),
        ("endless_test.lua", "something that never comes"),
        ("defines_test.lua", "defines no runtimes"),
    ] {
        let error = run(&folder.0.join(file), None, &watchdog()).unwrap_err();
        assert!(error.to_string().contains(words), "{file}: {error}");
    }
    let cases = run(&folder.0.join("missing_test.lua"), None, &watchdog()).unwrap();
    assert!(cases[0].failure.as_deref().unwrap().contains("no.lua"), "{cases:?}");
}
