//! Errors as people see them.

use super::*;

#[test]
fn one_block_says_where_what_and_how() {
    let mut host = TestHost::new(
        "local function bad(t)\n  return t.x.y\nend\nserver 'chat' {\n  on_message = function(conn, msg)\n    bad({})\n  end,\n}\n",
    );
    host.open(1);
    host.message(1, "go");
    host.turn();
    let seen = host.take();
    assert_eq!(seen[0], "failed Some(100)");
    let expected = "log Error error in on_message of server \"chat\" (connection 16777223, 10.0.0.1), generation 1\n\
                    app.lua:2: attempt to index field 'x' (a nil value)\n    \
                    1 | local function bad(t)\n  \
                    > 2 |   return t.x.y\n    \
                    3 | end\n  \
                    app.lua:2: in function 'bad'\n  \
                    app.lua:6: in function <app.lua:5>";
    assert_eq!(seen[1], expected);
}

#[test]
fn repeats_are_counted() {
    let mut host = TestHost::new("server 's' { on_message = function() error('no') end }");
    host.open(1);
    (0..100).for_each(|_| host.message(1, "x"));
    host.turn();
    host.pass(11_000);
    let seen = host.take();
    assert_eq!(seen.iter().filter(|line| line.starts_with("failed")).count(), 100);
    let told: Vec<&String> = seen.iter().filter(|line| line.starts_with("log")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1], "log Error app.lua:1: the same error 99 times more");
}

#[test]
fn error_values_become_text() {
    for (code, expected) in [
        ("error({ code = 1 })", "table: 0x"),
        ("error(setmetatable({}, { __tostring = function() return 'mine' end }))", "mine"),
        (
            "error(setmetatable({}, { __tostring = function() error('x') end }))",
            "(an error value of type table)",
        ),
        ("error(nil)", "nil"),
        ("error(sleep)", "function: 0x"),
        ("require('socketley.inspect').nope()", "attempt to call field 'nope'"),
    ] {
        let mut host =
            TestHost::new(&format!("server 's' {{ on_message = function() {code} end }}"));
        host.open(1);
        host.message(1, "go");
        host.turn();
        let seen = host.take();
        assert!(seen[1].contains(expected), "{code}: {}", seen[1]);
        assert!(seen[1].contains("app.lua:1:"), "{code}: {}", seen[1]);
        assert!(!seen[1].contains("[sk "), "{code}: {}", seen[1]);
    }
}
