//! Reload: `state` moves over, connections are adopted, the old generation ends.

use super::*;

const APP: &str = r#"
local chat = server "chat" {
  state = { rooms = {}, count = 0, flag = true },
  on_message = function(conn, msg)
    local s = chat.state
    s.count = s.count + 1
    s.rooms[msg] = s.rooms[msg] or { members = {} }
    s.rooms[msg].members[conn.id] = conn
    s.last = s.rooms[msg]
    s.self = s
    s["\255"] = 0.5
  end,
}
local rooms = chat.state.rooms
function show(conn)
  local s = chat.state
  local room = s.rooms.lobby
  conn:send(table.concat({ s.count, tostring(s.flag), tostring(s.last == room), tostring(s.self == s),
    tostring(s["\255"]), tostring(rooms == s.rooms), tostring(room.members[conn.id] == conn), tostring(s.new) }, " "))
end
"#;

#[test]
fn state_and_connections_move_to_the_next_generation() {
    let mut old = TestHost::new(APP);
    old.open(1);
    old.message(1, "lobby");
    old.turn();
    let snapshot = old.vm.export_state().unwrap();
    let next = APP.replace("count = 0", "count = 0, new = 'fresh'").replace(
        "on_message = function(conn, msg)",
        "on_message = function(conn, msg) if msg == 'show' then return show(conn) end",
    );
    let mut new = TestHost::over(load(source(&next)).0.unwrap());
    new.commit(Some(snapshot));
    new.vm.on_adopt(runtime(0), connection(1), &peer(1));
    new.message(1, "show");
    new.turn();
    assert_eq!(new.take(), ["send 1 1 true true true 0.5 true true fresh"]);
}

#[test]
fn what_cannot_move_is_named_by_its_path() {
    for (value, expected) in [
        (
            "{ list = { 1, { f = print } } }",
            "s.state.list[2].f: expected nil, boolean, number, string, table or connection, got function",
        ),
        ("{ [print] = 1 }", "s.state[function] (the key): expected"),
        (
            "{ o = setmetatable({}, {}) }",
            "s.state.o: a table with a metatable can't be carried over",
        ),
        (
            "{ c = coroutine.create(print) }",
            "s.state.c: expected nil, boolean, number, string, table or connection, got thread",
        ),
        ("{ n = 1LL }", "s.state.n: expected"),
    ] {
        let mut host = TestHost::new(&format!("server 's' {{ state = {value} }}"));
        let error = host.vm.export_state().unwrap_err();
        assert!(error.message.starts_with(expected), "{value}: {error}");
    }
}

#[test]
fn a_retired_generation_finishes_what_waits_and_starts_nothing() {
    let mut host = TestHost::new(
        r#"
server "s" { on_message = function(conn, msg)
  sleep(0.05)
  every(0.01, function() log.info("never") end)
  conn:send("finished " .. msg)
end }
every(0.01, function() log.info("tick") end)
"#,
    );
    host.open(1);
    host.message(1, "a");
    host.message(1, "b");
    host.turn();
    host.pass(10);
    host.vm.retire();
    host.turn();
    host.pass(200);
    assert_eq!(host.take(), ["log tick", "send 1 finished a", "send 1 finished b"]);
    assert_eq!(host.vm.waiting(), 0);
    assert!(!host.vm.has_work());
}

#[test]
fn a_long_list_is_carried_over() {
    let mut host = TestHost::new(
        "server 's' { state = { list = (function() local l for i = 1, 1e5 do l = { next = l } end return l end)() } }",
    );
    let snapshot = host.vm.export_state().unwrap();
    assert_eq!(snapshot.tables.len(), 100_001);
    let mut next = TestHost::over(load(source("server 's' {}")).0.unwrap());
    next.commit(Some(snapshot.clone()));
    assert_eq!(next.vm.export_state().unwrap().tables.len(), snapshot.tables.len());
}
