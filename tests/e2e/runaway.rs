//! Handlers without end or measure, of every kind that Lua has: each is stopped with a report that names it, while
//! another app on the same worker goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Daemon, Peer, until};

const TIME: &str = "ran longer than its time budget of 50 ms";
const MEMORY: &str = "not enough memory: the app's VM may have 256 MB";
const TASKS: &str = "65536 tasks of the app run or wait already";
/// How fast a bomb grows decides which bound it meets first.
const EITHER: &str = "time or memory";

/// Name, body of a function, how it ends.
const WAYS: &[(&str, &str, &str)] = &[
    ("while_loop", "while true do end", TIME),
    ("repeat_loop", "repeat until false", TIME),
    ("goto_loop", "::again:: goto again", TIME),
    ("for_loop", "for _ = 1, math.huge do end", TIME),
    ("iterator", "for _ in function() return 1 end do end", TIME),
    ("pcalls", "while true do pcall(function() while true do end end) end", TIME),
    ("xpcalls", "local function f() while true do end end while true do xpcall(f, f) end", TIME),
    ("tail_calls", "local function f() return f() end f()", TIME),
    ("recursion", "local function f() return 1 + f() end f()", "stack overflow"),
    ("caught_recursion", "local function f() pcall(f) return 1 + f() end f()", TIME),
    (
        "index",
        "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) \
         while true do pcall(function() return t[1] end) end",
        TIME,
    ),
    ("newindex", "setmetatable({}, { __newindex = function() while true do end end }).x = 1", TIME),
    (
        "concatenation",
        "local t = setmetatable({}, { __concat = function(a, b) return a .. b end }) local _ = t .. t",
        "stack overflow",
    ),
    ("call", "local t = setmetatable({}, { __call = function(t) return t() end }) t()", TIME),
    (
        "equality",
        "local m = { __eq = function() while true do end end } \
         local _ = setmetatable({}, m) == setmetatable({}, m)",
        TIME,
    ),
    (
        "error_value",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "(an error value of type table)",
    ),
    ("coroutines", "while true do coroutine.wrap(function() while true do end end)() end", TIME),
    (
        "yields",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) \
         while true do co() end",
        TIME,
    ),
    ("sort", "table.sort({ 3, 1, 2 }, function() while true do end end)", TIME),
    ("gsub", "local _ = ('x'):gsub('.', function() while true do end end)", TIME),
    ("gsub_bomb", "local _ = ('x'):rep(1e6):gsub('.', ('y'):rep(1e6))", EITHER),
    ("find", "local _ = ('a'):rep(30):find(('a*'):rep(30) .. 'b')", TIME),
    ("gmatch", "for _ in ('a'):rep(30):gmatch(('a-'):rep(30) .. 'b') do end", TIME),
    ("rep", "local _ = ('x'):rep(2 ^ 30)", MEMORY),
    ("rep_again", "while true do local _ = ('x'):rep(1e6) end", TIME),
    ("doubling", "local s = 'x' while true do s = s .. s end", EITHER),
    ("format", "local s = '' while true do s = ('%s%99s'):format(s, s) end", EITHER),
    ("join", "local t = {} for i = 1, 1e5 do t[i] = ('x'):rep(1e4) end table.concat(t)", EITHER),
    ("list", "local t = {} for i = 1, 1e12 do t[i] = i end", EITHER),
    ("nested", "local t = {} while true do t = { t } end", EITHER),
    ("keys", "local t = {} while true do t[{}] = true end", EITHER),
    ("closures", "local t = {} while true do t[#t + 1] = function() return t end end", EITHER),
    ("threads", "local t = {} while true do t[#t + 1] = coroutine.create(print) end", EITHER),
    (
        "buffer",
        "local b = require 'string.buffer'.new() while true do b:put(('x'):rep(1000)) end",
        EITHER,
    ),
    ("loaded", "load 'while true do end' ()", TIME),
    ("requires", "while true do pcall(require, 'no.such.module') end", TIME),
    (
        "collections",
        "local t = {} for i = 1, 1e5 do t[i] = {} end while true do collectgarbage() end",
        TIME,
    ),
    ("timers", "while true do after('1h', print) end", EITHER),
    ("sends", "while true do conn:send(('x'):rep(1e4)) end", EITHER),
    // The last ones: what they have made stays.
    ("tasks", "while true do spawn(function() sleep '1h' end) end", TASKS),
    ("tree", "local function f() spawn(f) spawn(f) end f()", TASKS),
];

const SERVER: &str = r#"
server "wild" {
  port = 0,
  on_message = function(conn, line)
    if ways[line] then ways[line](conn) end
    conn:send("fine: " .. line)
  end,
}
"#;

const QUIET: &str = r#"
server "quiet" { port = 0, on_message = function(conn, line) conn:send(line) end }
"#;

/// The line of the file that has a way's body.
fn line_of(name: &str) -> usize {
    WAYS.iter().position(|(way, ..)| *way == name).expect("a way of the table") + 2
}

fn wild() -> String {
    let ways = WAYS.iter().map(|(name, code, _)| format!("{name} = function(conn) {code} end,\n"));
    format!("local ways = {{\n{}}}\n{SERVER}", ways.collect::<String>())
}

/// Whether the log tells of a way's end.
fn is_told(log: &str, name: &str, end: &str) -> bool {
    let here = format!("wild.lua:{}: ", line_of(name));
    let at_its_line =
        |end: &str| log.lines().any(|line| line.contains(&here) && line.contains(end));
    match end {
        EITHER => at_its_line(TIME) || log.contains(MEMORY),
        // An error without a place, and one told with it.
        MEMORY | "stack overflow" => log.contains(end),
        _ => at_its_line(end),
    }
}

/// Asks the neighbour again and again; answers how often it was answered.
fn asking(port: u16, enough: Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut peer = Peer::connect(port);
        let mut answers = 0;
        while !enough.load(Ordering::Relaxed) {
            peer.say("still there?");
            peer.hears(&["still there?"]);
            answers += 1;
        }
        answers
    })
}

#[test]
fn runaways_of_every_kind_are_stopped_and_told_while_a_neighbour_answers() {
    // One worker: what holds it up holds up everyone.
    let daemon = Daemon::with(&["--workers", "1"]);
    daemon.folder.write("wild.lua", &wild());
    daemon.folder.write("quiet.lua", QUIET);
    daemon.cli("apply wild.lua quiet.lua").ok();
    let enough = Arc::new(AtomicBool::new(false));
    let neighbour = asking(daemon.port("quiet"), Arc::clone(&enough));
    let port = daemon.port("wild");
    for (name, _, end) in WAYS {
        let mut runaway = Peer::connect(port);
        runaway.say(name);
        // Its own answer never comes; the app lives and answers others.
        let mut next = Peer::connect(port);
        next.say("and now?");
        assert_eq!(next.hear(), "fine: and now?", "after {name}");
        until(&format!("a report of {name}: {end}"), || {
            let told = is_told(&daemon.log(), name, end);
            // So many tasks take more than one budget to make on a slow machine.
            if !told && end == &TASKS {
                next.say(name);
                next.say("again");
                while next.hear() != "fine: again" {}
            }
            told.then_some(())
        });
    }
    enough.store(true, Ordering::Relaxed);
    let answers = neighbour.join().expect("the neighbour was answered every time");
    assert!(answers > WAYS.len(), "only {answers} answers");
    assert_eq!(daemon.row("quiet")["status"], "running");
    assert_eq!(daemon.row("wild")["status"], "running");
}
