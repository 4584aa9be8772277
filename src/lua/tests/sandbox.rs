//! What scripts can't reach.

use super::*;

/// Expressions that must be nil in both profiles: with any of them a script could break memory safety or the sandbox.
const CLOSED: &[&str] = &[
    "ffi",
    "package.loaded.ffi",
    "pcall(require, 'ffi') and 1 or nil",
    "package.preload.ffi",
    "package.loadlib",
    "jit.util",
    "jit.attach",
    "jit.opt",
    "jit.off",
    "debug.getupvalue",
    "debug.getregistry",
    "debug.sethook",
    "debug.setmetatable",
    "debug.getinfo(print).func",
    "getfenv",
    "setfenv",
    "newproxy",
    "string.dump",
    "os.exit",
    "require('string.buffer').new().ref",
    "require('string.buffer').new().set",
    "require('string.buffer').new().reserve",
    "require('string.buffer').new().commit",
    "(load('\\27LJ\\2'))",
    "(load('\\27LJ\\2', 'x', 'b'))",
    "(loadstring('\\27LJ\\2'))",
    "(load((function() local n = 0 return function() n = n + 1 return n == 1 and '\\27LJ\\2' or nil end end)()))",
    "('').dump",
    "getmetatable('').dump",
    "getmetatable(_G).__index(_G, 'ffi')",
    "getmetatable(print)",
    "rawget(_G, 'getfenv')",
    "load('return getfenv')()",
    "load('return setfenv', 'x', 't', _G)()",
    "coroutine.wrap(function() return debug.sethook end)()",
    "select(2, pcall(load, 'return ffi'))()",
    "select(2, pcall(require, 'socketley')).ffi",
    "package.loaded._G.getfenv",
    "package.loaded['jit.util']",
    "pcall(require, 'jit.util') and 1 or nil",
    "pcall(require, 'jit.profile') and 1 or nil",
    "pcall(require, 'jit.opt') and 1 or nil",
    "pcall(require, 'sk') and 1 or nil",
    "package.loaders",
    "package.searchers",
    "package.searchpath",
    "package.seeall",
    "module",
    "jit.on",
    "jit.flush",
    "debug.debug",
    "debug.getlocal",
    "debug.setlocal",
    "debug.setupvalue",
    "debug.upvalueid",
    "debug.upvaluejoin",
    "debug.getmetatable",
    "debug.getfenv",
    "debug.setfenv",
    "debug.gethook",
    "debug.getinfo(1, 'f').func",
    "debug.getinfo(1, 'fL').activelines",
    "os.setlocale",
];

#[test]
fn what_breaks_memory_safety_is_closed_in_both_profiles() {
    for restricted in [false, true] {
        for code in CLOSED {
            let limits = VmLimits { restricted, ..source("").limits };
            let text = format!("assert(({code}) == nil, 'reachable')");
            let result = load(AppSource { limits, ..source(&text) }).0;
            assert!(result.is_ok(), "{code}: {}", result.err().unwrap());
        }
    }
}

#[test]
fn files_and_processes_are_for_trusted_apps() {
    for code in [
        "io",
        "os.execute",
        "os.getenv",
        "os.remove",
        "os.rename",
        "os.tmpname",
        "loadfile",
        "dofile",
        "package.loaded.io",
        "package.loaded.os.execute",
        "(pcall(require, 'io') and 1 or nil)",
        "(package.path ~= '' or nil)",
    ] {
        for restricted in [false, true] {
            let limits = VmLimits { restricted, ..source("").limits };
            let text = format!("assert(({code} == nil) == {restricted})");
            assert!(load(AppSource { limits, ..source(&text) }).0.is_ok(), "{code} {restricted}");
        }
    }
}

#[test]
fn the_dispatcher_survives_what_scripts_do_to_their_globals() {
    let mut host = TestHost::new(
        r#"
server "s" {
  on_message = function(conn, msg)
    if msg == "string" then for name in pairs(string) do string[name] = nil end end
    if msg == "globals" then local all = _G for name in pairs(all) do all[name] = nil end end
    conn:send(msg)
  end,
  on_disconnect = function(conn) error("seen") end,
}
"#,
    );
    host.open(1);
    for text in ["string", "globals", "after"] {
        host.message(1, text);
    }
    host.close(1);
    host.turn();
    let seen = host.take();
    assert_eq!(seen[..3], ["send 1 string", "send 1 globals", "send 1 after"]);
    assert!(seen[4].contains("on_disconnect"), "{seen:?}");
}

#[test]
fn tricks_are_refused() {
    for (code, expected) in [
        ("coroutine.yield()", "a handler can't yield"),
        ("error(select(2, coroutine.resume(coroutine.running())))", "can't be resumed"),
        ("getmetatable(conn).__index = 1", "attempt to index"),
        ("setmetatable(conn, {})", "cannot change a protected metatable"),
        ("getmetatable('').__index = 1", "attempt to index"),
        ("setmetatable('', {})", "table expected"),
        ("getmetatable(channel(1)).__index.send = 1 error('reached')", "attempt to index"),
        ("pcall(function() while true do end end) error('went on')", "time budget"),
        ("pcall(pcall, function() while true do end end) error('went on')", "time budget"),
        (
            "coroutine.resume(coroutine.create(function() while true do end end)) error('on')",
            "time budget",
        ),
        ("coroutine.wrap(function() error('out') end)()", "out"),
        ("fs.read('/etc/hostname')", "the restricted profile opens no files"),
        (
            "pcall(fs.write, '/tmp/x', 'x') fs.write('/tmp/x', 'x')",
            "the restricted profile opens no files",
        ),
        ("fs.append('/tmp/x', 'x')", "the restricted profile opens no files"),
        ("fs.list('/')", "the restricted profile opens no files"),
        ("fs.stat('/')", "the restricted profile opens no files"),
        ("fs.exists('/')", "the restricted profile opens no files"),
        ("fs.remove('/tmp/x')", "the restricted profile opens no files"),
        ("fs.rename('/tmp/x', '/tmp/y')", "the restricted profile opens no files"),
        ("fs.mkdir('/tmp/x')", "the restricted profile opens no files"),
        ("tcp.connect('127.0.0.1', 1, { tls = true, ca = '/etc/hostname' })", "name files"),
        ("require('socketley.env').get('HOME')", "sees no environment"),
        ("require '/etc/hostname'", "not found"),
        ("require '../../etc/hostname'", "not found"),
        ("package.path = '/etc/?' require 'hostname'", "not found"),
        ("package.cpath = '/usr/lib/?.so' require 'libc'", "not found"),
        ("local so = package.cpath package.loadlib('libc.so.6', 'system')", "attempt to call"),
        ("collectgarbage('stop')", "only \"collect\" and \"count\""),
        ("load('while true do end', '=[sk x')() ", "time budget"),
        ("conn.id = 5 server.s:send(conn, 'mine') error('sent')", "sent"),
        (
            "for _, id in ipairs { 0/0, 1e300, -5, 2^53, 1.5 } do assert(server.s:send(id, 'x') == nil) end error('none')",
            "none",
        ),
    ] {
        let limits = VmLimits { budget_ms: 30, memory_bytes: 64 << 20, restricted: true };
        let text = format!("server 's' {{ on_message = function(conn, msg) {code} end }}");
        let mut host = TestHost::with(AppSource { limits, ..source(&text) });
        host.open(1);
        host.message(1, "go");
        host.turn();
        let seen = host.take();
        assert!(seen.last().unwrap().contains(expected), "{code}: {seen:?}");
    }
}

#[test]
fn time_is_the_hosts_and_chance_is_seeded() {
    let lines = logs_of(
        "log.info('%d %s', os.time(), os.date('!%Y')) log.info('%.0f', math.random(1, 1e9))",
    );
    assert_eq!(lines[0], "log 1700000000 2023");
    let again = logs_of(
        "log.info('%d %s', os.time(), os.date('!%Y')) log.info('%.0f', math.random(1, 1e9))",
    );
    assert_eq!(lines, again);
}

#[test]
fn the_stdlib_loads_without_privileges() {
    let limits = VmLimits { restricted: true, ..source("").limits };
    let text = "assert(require 'socketley.inspect' ({ 1 }) == '{ 1 }') assert(require 'socketley' == socketley)";
    let result = load(AppSource { limits, ..source(text) }).0;
    assert!(result.is_ok(), "{}", result.err().unwrap());
}
