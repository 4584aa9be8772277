//! Time budget and memory limit: the guilty handler ends, everything else goes on.

use super::*;

fn limited(text: &str, budget_ms: u32, memory_bytes: usize) -> TestHost {
    let limits = VmLimits { budget_ms, memory_bytes, restricted: false };
    TestHost::with(AppSource { limits, ..source(text) })
}

#[test]
fn endless_loops_die_wherever_they_hide() {
    for code in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "xpcall(error, function() while true do end end)",
        "while true do coroutine.wrap(function() while true do end end)() end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "local t = {} while true do t[#t % 100 + 1] = {} end",
        "local s = '' while true do s = ('x'):rep(#s % 1000) end",
        "sleep(0.001) while true do end",
        "local function f() return f() end f()",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "table.sort({ 3, 1, 2 }, function() while true do end end)",
        "load(function() return ' ' end)",
    ] {
        let text = format!(
            "server 's' {{ on_message = function(conn, msg) if msg == 'bad' then {code} end conn:send(msg) end }}"
        );
        let mut host = limited(&text, 20, 64 << 20);
        host.open(1);
        host.message(1, "bad");
        host.message(1, "good");
        host.turn();
        host.pass(5);
        let seen = host.take();
        let failed = seen.iter().position(|line| line.starts_with("failed"));
        assert!(failed.is_some(), "{code}: {seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("send 1 good"), "{code}: {seen:?}");
    }
}

#[test]
fn a_kill_names_the_line_and_hits_no_other_vm() {
    let mut bad = limited(
        "server 's' {\n  on_message = function(conn, msg)\n    while true do end\n  end }",
        20,
        64 << 20,
    );
    let mut good =
        limited("server 's' { on_message = function(conn, msg) conn:send(msg) end }", 20, 64 << 20);
    for host in [&mut bad, &mut good] {
        host.open(1);
        host.message(1, "x");
        host.turn();
    }
    let seen = bad.take();
    assert!(seen[1].contains("app.lua:3: ran longer than its time budget of 20 ms"), "{}", seen[1]);
    assert!(seen[1].contains("> 3 |     while true do end"), "{}", seen[1]);
    assert_eq!(good.take(), ["send 1 x"]);
}

#[test]
fn a_file_that_never_ends_does_not_load() {
    let limits = VmLimits { budget_ms: 20, memory_bytes: 64 << 20, restricted: false };
    let error = load(AppSource { limits, ..source("local x\nwhile true do end") }).0.err().unwrap();
    assert_eq!(error.line, 2);
    assert!(error.message.contains("time budget"), "{error}");
}

#[test]
fn memory_is_limited_and_comes_back() {
    for code in [
        "local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end",
        "pcall(function() local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end end) error('after')",
        "return ('x'):rep(1e9)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "sleep(0.001) return ('x'):rep(1e9)",
        "local list = {} while true do list = { list } end",
    ] {
        let text = format!(
            "server 's' {{ on_message = function(conn, msg) if msg == 'bad' then {code} end conn:send(msg) end }}"
        );
        let mut host = limited(&text, 5000, 8 << 20);
        host.open(1);
        for _ in 0..3 {
            host.message(1, "bad");
            host.message(1, "good");
        }
        host.turn();
        host.pass(5);
        host.pass(5);
        host.pass(5);
        let seen = host.take();
        assert_eq!(
            seen.iter().filter(|line| line.starts_with("failed")).count(),
            3,
            "{code}: {seen:?}"
        );
        assert_eq!(
            seen.iter().filter(|line| *line == "send 1 good").count(),
            3,
            "{code}: {seen:?}"
        );
        assert!(host.vm.memory_bytes() <= 9 << 20, "{code}: {}", host.vm.memory_bytes());
    }
}

#[test]
fn a_script_that_keeps_all_memory_fails_and_the_host_survives() {
    let mut host = limited(
        "kept = {} server 's' { on_message = function(conn, msg)
           while true do kept[#kept + 1] = ('x'):rep(100) .. #kept end end }",
        5000,
        4 << 20,
    );
    host.open(1);
    for turn in 0..50 {
        for number in 0..20 {
            host.message(1, &format!("message {turn} {number} that is a new string"));
        }
        host.turn();
    }
    let failed = host.take().iter().filter(|line| line.starts_with("failed")).count();
    assert!(failed >= 50, "{failed}");
    assert_eq!(host.vm.waiting(), 0);
}
