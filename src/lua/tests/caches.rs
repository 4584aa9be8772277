//! In-process stores.

use super::*;

#[test]
fn commands_answer_naturally() {
    for (code, expected) in [
        ("return c:set('k', 'v')", "OK"),
        ("c:set('k', 5) return c:get('k') .. type(c:get('k'))", "5string"),
        ("return tostring(c:get('nothing'))", "nil"),
        ("c:set('n', 1) return c:incr('n') + 1", "3"),
        ("return c.get('nothing') == nil and c.set('d', 'dot') and c.get('d')", "dot"),
        (
            "c:rpush('l', 'a', 'b', 'c', 'd', 'e', 'f') return table.concat(c:lrange('l', 0, -1))",
            "abcdef",
        ),
        ("c:hset('h', 'f', 1, 'g', 'x') local h = c:hgetall('h') return h.f .. h.g", "1x"),
        (
            "c:set('a', 1) local r = c:mget('a', 'none', 'a') return r.n .. r[1] .. tostring(r[2]) .. r[3]",
            "31nil1",
        ),
        ("c:set('b', '\\0\\255') return #c:get('b')", "2"),
        ("c:set('f', 1.5) return c:get('f')", "1.5"),
        ("c:set('i', 1e15) return c:get('i')", "1000000000000000"),
    ] {
        let lines = logs_of(&format!(
            "local c = cache.db local function f() {code} end log.info('%s', f())"
        ));
        assert_eq!(lines, [format!("log {expected}")], "{code}");
    }
}

#[test]
fn the_store_says_no_and_the_script_is_wrong() {
    for (code, expected) in [
        (
            "c:set('k', 'v') local ok, err = c:lpush('k', 1) return tostring(ok) .. err.code .. tostring(err):sub(1, 9)",
            "nilWRONGTYPEWRONGTYPE",
        ),
        (
            "return select(2, pcall(function() c:gett('k') end))",
            "app.lua:1: cache.db:gett: the store has no such command",
        ),
        (
            "return select(2, pcall(function() c:get() end))",
            "app.lua:1: cache.db:get: wrong number of arguments",
        ),
        (
            "return select(2, pcall(function() c:set('k', {}) end))",
            "app.lua:1: set: argument 2: expected a string or number, got table",
        ),
        (
            "return select(2, pcall(function() cache.dbb:get('k') end))",
            "app.lua:1: no cache called \"dbb\" runs here; did you mean \"db\"?",
        ),
        // What was pushed before the mistake must not reach the next command.
        ("pcall(function() c:set('k', {}) end) return c:set('k', 'fine')", "OK"),
    ] {
        let lines = logs_of(&format!(
            "local c = cache.db local function f() {code} end log.info('%s', f())"
        ));
        assert_eq!(lines, [format!("log {expected}")], "{code}");
    }
}

#[test]
fn the_owner_cache_has_its_commands_on_itself() {
    let owner = Some(Owner { kind: RuntimeKind::Cache, name: "db".to_owned(), port: 0 });
    let text = "function on_start() self.set('k', 'v') log.info('%s %s', self.get('k'), cache.get('k')) log.info(self.name) end";
    let mut host = TestHost::with(AppSource { owner, ..source(text) });
    assert_eq!(host.take(), ["log v v", "log db"]);
}
