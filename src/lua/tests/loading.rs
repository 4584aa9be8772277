//! Loading a file: what it defines, modules, mistakes.

use super::*;

fn error_of(text: &str) -> ScriptError {
    load(source(text)).0.err().expect("the file doesn't load")
}

#[test]
fn definitions_come_out_as_data() {
    let text = r#"
server "chat" {
  port = 9000, max_connections = 10, state = { f = print },
  on_message = function() end, on_nonsense = function() end,
}
proxy "gw" { upstreams = { web = server.chat, api = { "127.0.0.1:1", strategy = "least-conn" } }, on_route = print }
command "kick" { summary = "drop a user", args = { "user" }, run = function() end }
"#;
    let vm = load(source(text)).0.unwrap();
    let Definitions { runtimes, commands } = vm.definitions();
    assert_eq!(runtimes[0].name, "chat");
    assert_eq!((runtimes[0].file.to_str().unwrap(), runtimes[0].line), ("/nowhere/app.lua", 2));
    assert_eq!(runtimes[0].handlers, ["on_message", "on_nonsense"]);
    let fields = serde_json::json!({ "port": 9000, "max_connections": 10 });
    assert_eq!(serde_json::Value::Object(runtimes[0].fields.clone()), fields);
    assert_eq!(runtimes[1].kind, RuntimeKind::Proxy);
    assert_eq!(runtimes[1].line, 6);
    assert_eq!(runtimes[1].fields["upstreams"]["web"], "chat");
    assert_eq!(commands[0]["name"], "kick");
    assert_eq!(commands[0]["args"], serde_json::json!(["user"]));
    assert!(commands[0].get("run").is_none());
}

#[test]
fn mistakes_name_file_and_line() {
    for (text, line, expected) in [
        ("local x =\n\nfor", 3, "unexpected symbol near 'for'"),
        ("x = 1\nerror('oops')", 2, "oops"),
        ("\nserver(5)", 2, "server: expected a name (string), got number"),
        ("\nserver 'a' 'b'", 2, "server \"a\": expected a table of fields, got string"),
        ("server 'a' {}\nserver 'a' {}", 2, "server \"a\" is defined twice, first in line 1"),
        ("server 'a' { state = 5 }", 1, "server \"a\": state: expected a table, got number"),
        ("cache 'get' {}", 0, ""),
        ("server 'broadcast' {}", 1, "server \"broadcast\": a runtime can't be called so"),
        ("sleep(1)", 1, "sleep can't wait while the file loads"),
        ("command 'x' {}", 1, "command \"x\": run: expected a function, got nil"),
        ("require 'nope'", 1, "module 'nope' not found"),
        ("require '../x'", 1, "a name is words with dots between"),
    ] {
        if expected.is_empty() {
            continue;
        }
        let error = error_of(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(
            error.message.starts_with(expected) || error.message.contains(expected),
            "{text}: {error}"
        );
        assert_eq!(error.file, "app.lua", "{text}");
    }
}

#[test]
fn nothing_starts_before_the_commit() {
    let text = r#"
every(0.01, function() log.info("tick") end)
spawn(function() log.info("task") end)
socketley.send("other", "hello")
local s = server "s" { port = 1 }
s:broadcast("nobody is there yet")
"#;
    let mut host = TestHost::over(load(source(text)).0.unwrap());
    assert!(host.vm.take_actions().is_empty());
    host.commit(None);
    host.pass(15);
    let seen = host.take();
    assert!(seen[0].starts_with("daemon 2 send"), "{seen:?}");
    assert_eq!(seen[1..], ["log task", "log tick"]);
}

#[test]
fn modules_are_found_beside_the_file_and_watched_also_on_errors() {
    let folder = std::env::temp_dir().join(format!("socketley-modules-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("lib")).unwrap();
    std::fs::write(
        folder.join("lib/util.lua"),
        "#!shebang\nlocal name = ...\nreturn { name = name }",
    )
    .unwrap();
    std::fs::write(folder.join("bad.lua"), "local x = nil\nreturn x.y").unwrap();
    std::fs::write(folder.join("loop.lua"), "return require 'loop'").unwrap();
    let in_folder = |text: &str| AppSource { path: folder.join("app.lua"), ..source(text) };
    let (vm, files) = load(in_folder(
        "local util = require 'lib.util' assert(require('lib.util') == util) log(util.name)",
    ));
    let vm = vm.unwrap();
    assert_eq!(files, [folder.join("app.lua"), folder.join("lib/util.lua")]);
    assert_eq!(vm.sources()[1].1, "#!shebang\nlocal name = ...\nreturn { name = name }");
    let (vm, files) = load(in_folder("require 'bad'"));
    let error = vm.err().unwrap();
    assert_eq!((error.file.as_str(), error.line), ("bad.lua", 2));
    assert!(error.excerpt.contains("> 2 | return x.y"), "{error}");
    assert_eq!(files, [folder.join("app.lua"), folder.join("bad.lua")]);
    let error = load(in_folder("require 'loop'")).0.err().unwrap();
    assert!(error.message.contains("'loop' requires itself"), "{error}");
    // The texts of the last good source win over what is on disk.
    let modules = vec![(folder.join("bad.lua"), "return 'good'".to_owned())];
    let restarted = AppSource { modules, ..in_folder("assert(require 'bad' == 'good')") };
    assert!(load(restarted).0.is_ok());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_module_may_wait_when_a_handler_requires_it() {
    let module = PathBuf::from("/nowhere/slow.lua");
    let modules = vec![(module, "sleep(0.01) return 'there'".to_owned())];
    let text = "server 's' { on_message = function(conn) conn:send(require 'slow') end }";
    let mut host = TestHost::with(AppSource { modules, ..source(text) });
    host.open(1);
    host.message(1, "go");
    host.turn();
    host.pass(10);
    assert_eq!(host.take(), ["send 1 there"]);
}

#[test]
fn handlers_are_told_by_runtime() {
    let host = TestHost::new(
        "server 'a' { on_connect = print, on_tick = print } proxy 'b' { on_route = print } cache 'c' {}",
    );
    let expected = Handlers::ON_CONNECT.with(Handlers::ON_START).with(Handlers::ON_STOP);
    assert_eq!(host.vm.handlers(runtime(0)), expected);
    assert_eq!(host.vm.handlers(runtime(1)), Handlers::ON_ROUTE);
    assert!(host.vm.handlers(runtime(2)).is_empty());
}

#[test]
fn stray_global_callbacks_are_told() {
    let mut host = TestHost::new("server 's' {} function on_message() end");
    let seen = host.take();
    assert!(seen[0].starts_with("log Warn on_message is a global function here"), "{seen:?}");
}
