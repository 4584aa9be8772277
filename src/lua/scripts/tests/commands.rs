//! Commands of a definition: what they see, what they may do, what callers get.

use super::Client;
use crate::lua::Watchdog;
use crate::store::scripting::commands::{CommandFile, CommandSpec};

const APP: &str = r#"
local http = require "socketley.http"
local greeting = require("words").greeting
local prefix = "user:"
local function key_of(name) return prefix .. name end
local chat = server "chat" { port = 9000, on_message = function(conn, msg) chat:broadcast(msg) end }
every("30s", function() chat:broadcast("tick") end)
local other = cache "other" { port = 1 }
cache "db" {
  port = 6379,
  commands = {
    ["USER.TOUCH"] = { keys = 1, flags = "write", summary = "counts a visit",
      run = function(db, key) db:hincrby(key_of(key), "n", 1) db:expire(key_of(key), 60) return db:hget(key_of(key), "n") end },
    count = function(db, ...) return select('#', ...) end,
    greet = function(db, who) return greeting .. ", " .. (who or "world") end,
    all = { keys = 1, flags = "readonly", run = function(db, key) local t = db:hgetall(key) return { t.a, t.b, tostring(t.c) } end },
    wrong = function(db, key) return db:incr(key) end,
    bug = function(db) local t = nil return t.x end,
    away = function(db) return other:get("x") end,
    far = function(db) return chat:broadcast("x") end,
    web = function(db) return http.get("http://x") end,
    any = function(db) return cache.other:get("x") end,
    loop = function(db) db:set("looped", 1) while true do end end,
    cheat = { flags = "readonly", run = function(db) return db:set("a", 1) end },
    tables = function(db) return { { 1, 2 }, "x", { ok = "fine" }, true } end,
    values = function(db) db:zadd("z", 1.5, "m") return { tostring(db:get("none")), db:zscore("z", "m") * 2, db:set("a", 1) } end,
    refused = function(db) local ok, err = pcall(db.incr, db, "text") return err end,
  },
}
"#;

fn install(
    client: &mut Client,
    generation: u32,
    text: &str,
    names: &[(&str, u16, bool)],
) -> Result<(), String> {
    let specs: Vec<CommandSpec> = names
        .iter()
        .map(|(name, keys, read_only)| CommandSpec {
            name: (*name).to_owned(),
            keys: *keys,
            arity: -1 - *keys as i16,
            read_only: *read_only,
            fast: false,
            summary: "a command".to_owned(),
        })
        .collect();
    let words = "return { greeting = 'hello' }".to_owned();
    let file = CommandFile {
        generation,
        cache: "db".to_owned(),
        files: vec![("app.lua".to_owned(), text.to_owned()), ("/x/words.lua".to_owned(), words)],
    };
    client.store.install_commands(&file, &specs)
}

const NAMES: &[(&str, u16, bool)] = &[
    ("USER.TOUCH", 1, false),
    ("greet", 0, false),
    ("count", 0, false),
    ("all", 1, true),
    ("wrong", 1, false),
    ("bug", 0, false),
    ("away", 0, false),
    ("far", 0, false),
    ("web", 0, false),
    ("any", 0, false),
    ("loop", 0, false),
    ("cheat", 0, true),
    ("tables", 0, false),
    ("values", 0, false),
    ("refused", 0, false),
];

#[test]
fn commands_run_on_their_store() {
    let watchdog = Watchdog::start();
    let _slot = watchdog.register();
    let mut client = Client::new();
    install(&mut client, 1, APP, NAMES).unwrap();
    let own = "-ERR app.lua:";
    for (words, expected) in [
        (&["USER.TOUCH", "ann"][..], "$1 1"),
        (&["user.touch", "ann"], "$1 2"),
        (&["TTL", "user:ann"], ":60"),
        (&["USER.TOUCH"], "-ERR wrong number of arguments for 'user.touch' command"),
        (&["greet"], "$12 hello, world"),
        (&["GREET", "ann"], "$10 hello, ann"),
        (&["HSET", "h", "a", "1", "b", "2"], ":2"),
        (&["all", "h"], "*3 $1 1 $1 2 $3 nil"),
        (&["SET", "text", "x"], "+OK"),
        (&["wrong", "text"], "-ERR value is not an integer or out of range"),
        (&["refused"], "$43 ERR value is not an integer or out of range"),
        (&["tables"], "*4 *2 :1 :2 $1 x +fine :1"),
        (&["values"], "*3 $3 nil :3 $2 OK"),
        (&["cheat"], "-ERR Write commands are not allowed from read-only scripts."),
        (&["MULTI"], "+OK"),
        (&["USER.TOUCH", "ann"], "+QUEUED"),
        (&["EXEC"], "*1 $1 3"),
        (&["COMMAND", "COUNT"], &format!(":{}", shown(15))),
    ] {
        assert_eq!(client.run(words), *expected, "{words:?}");
    }
    for count in 0..9 {
        let words: Vec<&str> =
            std::iter::once("count").chain(["a", "b", "c", "d", "e", "f", "g", "h", "i"]).collect();
        // Often enough to be compiled.
        for _ in 0..200 {
            assert_eq!(client.run(&words[..=count]), format!(":{count}"));
        }
    }
    let many = vec!["greet"; crate::limits::LUA_COMMAND_ARGUMENTS_MAX + 2];
    assert!(client.run(&many).starts_with("-ERR too many arguments for a command in Lua"));
    assert_eq!(client.run(&many[1..]), "$12 hello, greet");
    for name in ["bug", "away", "far", "web", "any"] {
        let reply = client.run(&[name]);
        let text = if name == "bug" {
            "attempt to index local 't'"
        } else {
            "a command may touch only its own cache"
        };
        assert!(reply.starts_with(own) && reply.contains(text), "{name}: {reply}");
    }
    assert!(
        client
            .run(&["loop"])
            .starts_with("-ERR the script ran longer than its time budget of 50 ms")
    );
    assert_eq!(client.run(&["GET", "looped"]), "$1 1");
    let logged = &client.store.instance.scripting.logs;
    assert!(
        logged
            .iter()
            .any(|(_, text)| text.contains("command bug: ERR app.lua:")
                && text.contains("(app.lua:")),
        "{logged:?}"
    );
    let found = client.store.instance.scripting.commands.find(b"user.touch").unwrap();
    assert_eq!((found.counter.calls, found.counter.failed), (3, 0));
}

/// How many commands clients see with so many of a definition.
fn shown(own: usize) -> usize {
    let mut client = Client::new();
    let count = client.run(&["COMMAND", "COUNT"]);
    count[1..].parse::<usize>().unwrap() + own
}

#[test]
fn they_are_described_like_others() {
    let mut client = Client::new();
    install(&mut client, 1, APP, &[("USER.TOUCH", 1, false), ("all", 1, true)]).unwrap();
    let info = client.run(&["COMMAND", "INFO", "user.touch"]);
    assert!(
        info.starts_with("*1 *10 $10 user.touch :-2 *3 +write +denyoom +noscript :1 :1 :1 *"),
        "{info}"
    );
    assert_eq!(
        client.run(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "user*"]),
        "*1 $10 user.touch"
    );
    assert!(client.run(&["COMMAND", "DOCS", "USER.TOUCH"]).contains("$9 a command"));
    assert_eq!(client.run(&["COMMAND", "INFO", "lua command"]), "*1 *-1");
    assert!(client.run(&["lua command"]).starts_with("-ERR unknown command"));
}

#[test]
fn a_new_version_replaces_them_and_a_broken_one_does_not() {
    let mut client = Client::new();
    install(&mut client, 1, APP, &[("greet", 0, false)]).unwrap();
    let broken = "cache 'db' { commands = { greet = function() return 1 end } } error('no')";
    assert!(
        install(&mut client, 2, broken, &[("greet", 0, false)])
            .unwrap_err()
            .contains("app.lua:1: no")
    );
    assert_eq!(client.run(&["greet"]), "$12 hello, world");
    let taken = install(&mut client, 2, APP, &[("get", 0, false)]).unwrap_err();
    assert_eq!(taken, "commands: \"get\" is a command already");
    let new = "cache 'db' { commands = { greet = function() return 'new' end } }";
    install(&mut client, 2, new, &[("greet", 0, false)]).unwrap();
    assert_eq!(client.run(&["greet"]), "$3 new");
    install(&mut client, 3, "", &[]).unwrap();
    assert!(client.run(&["greet"]).starts_with("-ERR unknown command 'greet'"));
}
