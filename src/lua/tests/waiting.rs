//! Handlers that wait: order, hand-off, closing, cancelling.

use super::*;

const ECHO: &str = r#"
server "s" {
  on_message = function(conn, msg)
    local ms = msg:match("^sleep (%d+)")
    if ms then assert(sleep(ms / 1000)) end
    conn:send("did " .. msg)
  end,
}
"#;

#[test]
fn others_go_on_and_the_waiting_connection_keeps_its_order() {
    let mut host = TestHost::new(ECHO);
    host.open(1);
    host.open(2);
    for (number, text) in [(1, "sleep 10"), (1, "b"), (2, "c"), (1, "sleep 5"), (1, "d"), (2, "e")]
    {
        host.message(number, text);
    }
    host.turn();
    assert_eq!(host.seen, ["park 1", "send 2 did c", "send 2 did e"]);
    host.seen.clear();
    host.pass(100);
    assert_eq!(
        host.seen,
        ["send 1 did sleep 10", "send 1 did b", "send 1 did sleep 5", "send 1 did d", "unpark 1"]
    );
    assert_eq!(host.vm.waiting(), 0);
}

#[test]
fn two_hundred_sleep_at_once() {
    let mut host = TestHost::new(ECHO);
    for number in 0..200 {
        host.open(number);
        host.message(number, "sleep 50");
    }
    host.turn();
    assert_eq!(host.vm.waiting(), 200);
    host.take();
    host.pass(49);
    assert_eq!(host.take(), Vec::<String>::new());
    host.pass(1);
    assert_eq!(host.take().len(), 200);
    assert_eq!(host.vm.waiting(), 0);
    // And once more, in pooled coroutines.
    for number in 0..200 {
        host.message(number, "sleep 5");
        host.message(number, "x");
    }
    host.turn();
    host.pass(5);
    assert_eq!(host.take().len(), 400);
}

#[test]
fn waits_work_in_every_place_that_can_yield() {
    for code in [
        "sleep(0.001)",
        "pcall(function() sleep(0.001) end)",
        "xpcall(function() sleep(0.001) end, print)",
        "coroutine.wrap(function() sleep(0.001) end)()",
        "local co = coroutine.create(function() sleep(0.001) sleep(0.001) end) assert(coroutine.resume(co))",
        "local t = setmetatable({}, { __index = function() sleep(0.001) return 1 end }) assert(t.x == 1)",
        "for _ in (function() sleep(0.001) end) do end",
        "local f = coroutine.wrap(function() coroutine.yield(1) sleep(0.001) coroutine.yield(2) end) assert(f() == 1 and f() == 2)",
    ] {
        let mut host = TestHost::new(&format!(
            "server 's' {{ on_message = function(conn, msg) {code} conn:send('done') end }}"
        ));
        host.open(1);
        host.message(1, "go");
        host.turn();
        assert_eq!(host.take(), Vec::<String>::new(), "{code}");
        host.pass(10);
        assert_eq!(host.take(), ["send 1 done"], "{code}");
    }
}

#[test]
fn a_wait_below_a_c_function_is_refused_and_nothing_is_lost() {
    for code in [
        "string.gsub('abc', 'b', function() sleep(1) end)",
        "table.sort({ 3, 1, 2 }, function(a, b) sleep(1) return a < b end)",
        "string.gsub('abc', 'b', function() coroutine.wrap(function() sleep(1) end)() end)",
    ] {
        let lines = logs_of(&format!(
            "local ok, err = pcall(function() {code} end) log.info(err) conn:send('on')"
        ));
        assert!(lines[0].contains("can't wait inside a callback"), "{code}: {lines:?}");
        assert_eq!(lines[1], "send 1 on", "{code}");
    }
}

#[test]
fn errors_before_and_after_a_wait_leave_the_rest_alone() {
    let mut host = TestHost::new(
        r#"
server "s" {
  on_message = function(conn, msg)
    if msg == "before" then error("early") end
    if msg == "after" then sleep(0.01) error("late") end
    conn:send(msg)
  end,
}
"#,
    );
    host.open(1);
    for text in ["before", "a", "after", "b"] {
        host.message(1, text);
    }
    host.turn();
    host.pass(10);
    let seen = host.take();
    assert_eq!(seen[0], "failed Some(100)");
    assert!(seen[1].contains("early"));
    assert_eq!(seen[2], "send 1 a");
    assert_eq!(seen[3], "failed Some(100)");
    assert!(seen[4].contains("late") && seen[4].contains("on_message"), "{}", seen[4]);
    assert_eq!(seen[5..], ["send 1 b"]);
    assert_eq!(host.seen, Vec::<String>::new());
    assert_eq!(host.vm.waiting(), 0);
}

#[test]
fn a_connection_that_closes_ends_the_wait_then_disconnects() {
    let mut host = TestHost::new(
        r#"
server "s" {
  on_message = function(conn, msg)
    local ok, err = sleep(10)
    log.info("woken %s %s", tostring(ok), err.code)
    log.info("sent %s", tostring(conn:send("x")))
    sleep(1)
    log.info("never")
  end,
  on_disconnect = function(conn) sleep(0.001) log.info("left " .. conn.id % 1) end,
}
"#,
    );
    for number in 0..1000 {
        host.open(number);
        host.message(number, "go");
    }
    host.turn();
    assert_eq!(host.vm.waiting(), 1000);
    (0..1000).step_by(2).for_each(|number| host.close(number));
    host.turn();
    host.pass(5);
    let seen = host.take();
    assert_eq!(seen.iter().filter(|line| *line == "log woken nil closed").count(), 500);
    assert_eq!(seen.iter().filter(|line| *line == "log sent nil").count(), 500);
    assert_eq!(seen.iter().filter(|line| *line == "log left 0").count(), 500);
    assert_eq!(seen.len(), 1500);
    assert_eq!(host.vm.waiting(), 500);
}

#[test]
fn tasks_join_and_cancel() {
    let mut host = TestHost::new(
        r#"
server "s" {
  on_message = function(conn, msg)
    local good = spawn(function(a, b) sleep(0.01) return a + b end, 2, 3)
    local bad = spawn(function() error("boom", 0) end)
    local slow = spawn(function() sleep(100) log.info("never") end)
    slow:cancel()
    conn:send(tostring(good:join()))
    conn:send(tostring(select(2, bad:join())))
    conn:send(select(2, slow:join()).code)
    conn:send(tostring(good:join()))
    local waiting = spawn(function() sleep(100) end)
    sleep(0.001)
    waiting:cancel()
    conn:send(select(2, waiting:join()).code)
  end,
}
"#,
    );
    host.open(1);
    host.message(1, "go");
    host.turn();
    host.pass(50);
    let sent: Vec<String> =
        host.take().into_iter().filter(|line| line.starts_with("send")).collect();
    assert_eq!(
        sent,
        ["send 1 5", "send 1 boom", "send 1 cancelled", "send 1 5", "send 1 cancelled"]
    );
    assert_eq!(host.vm.waiting(), 0);
}

#[test]
fn a_task_that_spawns_itself_leaves_turns_to_others() {
    let mut host = TestHost::over(
        load(source("local function again() spawn(again) end spawn(again)")).0.unwrap(),
    );
    host.vm.commit(&[], None, START).unwrap();
    for _ in 0..3 {
        assert!(host.vm.has_work());
        host.vm.run(START);
    }
}

#[test]
fn a_full_event_array_runs_by_itself() {
    let mut host = TestHost::new(ECHO);
    host.open(1);
    for number in 0..5000 {
        host.message(1, &number.to_string());
    }
    host.turn();
    let sent = host.take();
    assert_eq!(sent.len(), 5000);
    assert_eq!(sent[4999], "send 1 did 4999");
}

#[test]
fn intervals_skip_a_turn_that_still_runs() {
    let mut host = TestHost::new(
        "server 's' {} every(0.01, function() log.info('in') sleep(0.025) log.info('out') end)",
    );
    host.pass(50);
    assert_eq!(host.take(), ["log in", "log out", "log in"]);
}
