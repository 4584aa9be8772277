//! Both ways of writing: definitions and the original's callbacks.

use super::*;

#[test]
fn the_original_example_runs_unchanged() {
    let mut host = TestHost::original(
        RuntimeKind::Server,
        r#"
-- example.lua
function on_start()
    socketley.log("Server started on port " .. self.port)
end

function on_message(msg)
    socketley.log("Received: " .. msg)
    self.broadcast("Echo: " .. msg)
end

function on_connect(client_id)
    self.send(client_id, "Welcome!")
end
"#,
    );
    host.open(3);
    host.message(3, "hello");
    host.turn();
    assert_eq!(
        host.take(),
        [
            "log Server started on port 9000",
            "send 3 Welcome!",
            "log Received: hello",
            "broadcast 100 Echo: hello"
        ]
    );
}

/// `self:broadcast(text)` once took `self` for the message: `self` stands for the runtime and isn't its object.
#[test]
fn what_stands_for_the_runtime_takes_dot_and_colon() {
    let mut host = TestHost::new(
        r#"
server "chat" {
  port = 9000,
  on_message = function(conn, msg)
    self:broadcast("a " .. msg)
    self.broadcast("b " .. msg)
    server:broadcast("c " .. msg)
  end,
}
"#,
    );
    host.open(1);
    host.message(1, "x");
    host.turn();
    assert_eq!(host.take(), ["broadcast 100 a x", "broadcast 100 b x", "broadcast 100 c x"]);
}

#[test]
fn definitions_get_the_connection_first() {
    let mut host = TestHost::new(
        r#"
local chat = server "chat" {
  port = 9000,
  on_connect = function(conn) conn:send("hi " .. conn.ip) end,
  on_disconnect = function(conn) chat_gone = conn.id log.info("left %s", conn.ip) end,
  on_message = function(conn, msg)
    chat:broadcast(msg, { except = conn })
    chat.broadcast(#chat:clients() .. " of " .. chat.name .. " on " .. chat.port)
    chat:send(conn.id, "by id")
    chat.send(conn, "by object")
    if msg == "bye" then conn:close() end
  end,
}
"#,
    );
    host.open(1);
    host.message(1, "bye");
    host.close(1);
    host.turn();
    assert_eq!(
        host.take(),
        [
            "send 1 hi 10.0.0.1",
            "broadcast 100 but 1 bye",
            "broadcast 100 1 of chat on 9000",
            "send 1 by id",
            "send 1 by object",
            "close 1",
            "log left 10.0.0.1"
        ]
    );
}

#[test]
fn a_client_sends_to_its_peer_and_learns_that_there_is_none() {
    let mut host = TestHost::original(
        RuntimeKind::Client,
        r#"
function on_start() log.info("%s", tostring(select(2, self.send("early")))) end
function on_connect() self.send("hello") end
function on_message(msg) client.send(msg .. "!") end
"#,
    );
    host.open(2);
    host.message(2, "ping");
    host.turn();
    assert_eq!(host.take(), ["log the connection is closed", "send 2 hello", "send 2 ping!"]);
}

#[test]
fn a_late_send_reaches_nobody() {
    let mut host = TestHost::new(
        r#"
local old
server "s" {
  on_connect = function(conn) old = old or conn end,
  on_message = function(conn, msg)
    local ok, err = old:send("x")
    log.info("%s %s %s", tostring(ok), err.code, tostring(err))
    log.info("%s", tostring(server.s:send(old.id, "x")))
  end,
}
"#,
    );
    host.open(1);
    host.close(1);
    // The same slot, its next use.
    let next = ConnectionId::new(0, 1, 8);
    host.vm.on_open(runtime(0), next, &peer(9));
    host.vm.on_message(runtime(0), next, b"go", false);
    host.turn();
    assert_eq!(host.take(), ["log nil closed the connection is closed", "log nil"]);
}

#[test]
fn several_runtimes_of_one_app_keep_apart() {
    let mut host = TestHost::new(
        r#"
local function handlers(name)
  return { on_message = function(conn, msg) log.info(name .. " " .. self.name .. " " .. msg) end,
           on_stop = function(rt) log.info("stop " .. rt.name) end }
end
server "a" (handlers("1"))
server "b" (handlers("2"))
"#,
    );
    for (index, text) in ["x", "y", "z"].iter().enumerate() {
        let id = connection(10 + index as u32);
        host.vm.on_open(runtime(index % 2), id, &peer(1));
        host.vm.on_message(runtime(index % 2), id, text.as_bytes(), false);
    }
    host.vm.on_stop(runtime(1));
    host.turn();
    assert_eq!(host.take(), ["log 1 a x", "log 2 b y", "log 1 a z", "log stop b", "stopped 101"]);
}

#[test]
fn routes_answer_in_every_form() {
    for (code, expected) in [
        ("return 1", "route 5 Index(1)"),
        ("return 'api'", "route 5 Name(\"api\")"),
        ("return { upstream = 'web' }", "route 5 Name(\"web\")"),
        ("return nil", "route 5 Default"),
        ("return req.ip .. req.local_port", "route 5 Name(\"10.0.0.58080\")"),
        ("sleep(0.01) return 'late'", "route 5 Name(\"late\")"),
        ("return -1", "route 5 Refused"),
        ("return true", "route 5 Refused"),
        ("error('no')", "route 5 Refused"),
    ] {
        let mut host =
            TestHost::new(&format!("proxy 'gw' {{ on_route = function(req) {code} end }}"));
        let local = SocketAddr::from(([127, 0, 0, 1], 8080)).into();
        host.vm.on_route(runtime(0), connection(5), &peer(5), &local);
        host.turn();
        host.pass(20);
        let routes: Vec<String> =
            host.take().into_iter().filter(|line| line.starts_with("route")).collect();
        assert_eq!(routes, [expected], "{code}");
    }
}

#[test]
fn timers_tick_and_end() {
    let mut host = TestHost::original(
        RuntimeKind::Server,
        r#"
tick_ms = 50
local ticks = 0
function on_tick(passed) ticks = ticks + 1 log.info("tick " .. passed) if ticks == 2 then socketley.stop("echo") end end
local id = socketley.set_interval(20, function() log.info("never") end)
socketley.clear_interval(id)
socketley.set_timeout(30, function() log.info("once") end)
local timer timer = every("40ms", function() log.info("every") timer:cancel() end)
after(0.045, function() log.info("after " .. self.name) end)
"#,
    );
    host.pass(200);
    let expected = ["log once", "log every", "log after echo", "log tick 50", "log tick 50"];
    assert_eq!(host.take()[..5], expected);
}

#[test]
fn a_stopped_runtime_ticks_no_more() {
    let mut host =
        TestHost::original(RuntimeKind::Server, "function on_tick() log.info('tick') end");
    host.pass(100);
    host.vm.on_stop(runtime(0));
    host.turn();
    host.pass(1000);
    assert_eq!(host.take(), ["log tick", "stopped 100"]);
}

#[test]
fn wrong_use_says_where_and_what() {
    for (code, expected) in [
        ("conn:send({})", "app.lua:1: message: expected a string, got table"),
        (
            "conn.send('x')",
            "app.lua:1: conn:send: expected a connection before the colon, got string",
        ),
        ("server.s:broadcast(nil)", "app.lua:1: broadcast: expected a string, got nil"),
        (
            "server.s:broadcast('x', 5)",
            "app.lua:1: broadcast: options: expected a table, got number",
        ),
        ("server.s:send('x', 'y')", "app.lua:1: send: expected a connection or its id, got string"),
        ("server.s:send(conn)", "app.lua:1: send: message: expected a string, got nil"),
        (
            "sleep({})",
            "app.lua:1: sleep: expected seconds or a duration such as \"500ms\" or \"30s\", got table",
        ),
        (
            "every('5x', print)",
            "app.lua:1: every: expected seconds or a duration such as \"500ms\" or \"30s\", got \"5x\"",
        ),
        ("after(1)", "app.lua:1: after: expected a function, got nil"),
        ("spawn(5)", "app.lua:1: spawn: expected a function, got number"),
        ("server 'late' {}", "app.lua:1: server: runtimes are defined while the file loads"),
        (
            "socketley.set_timeout('x', print)",
            "app.lua:1: set_timeout: expected milliseconds, got \"x\"",
        ),
    ] {
        let text =
            logs_of(&format!("local ok, err = pcall(function() {code} end) log.info('%s', err)"));
        assert!(text[0].starts_with(&format!("log {expected}")), "{code}: {text:?}");
    }
}

#[test]
fn questions_to_the_daemon_wait_for_their_answer() {
    let mut host = TestHost::new(
        r#"
server "s" {
  on_message = function(conn, msg)
    local made, err = socketley.create("server", "x", { port = 1 })
    conn:send(tostring(made) .. " " .. tostring(err))
  end,
}
"#,
    );
    host.open(1);
    let mut sent = Vec::new();
    for answer in [Ok(serde_json::json!(true)), Err("the port is taken".to_owned())] {
        host.message(1, "go");
        host.turn();
        let asked: Vec<String> =
            host.take().into_iter().filter(|line| line.starts_with("daemon")).collect();
        let task = asked[0].split(' ').nth(1).unwrap().parse().unwrap();
        assert!(asked[0].contains("create") && asked[0].contains("\"port\":1"), "{asked:?}");
        host.vm.on_answer(task, answer);
        host.turn();
        sent.extend(host.take());
    }
    assert_eq!(sent, ["send 1 true nil", "send 1 nil the port is taken"]);
}
