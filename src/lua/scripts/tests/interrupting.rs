//! Scripts that run too long: slices, kills, budgets.

use super::Client;
use crate::lua::Watchdog;
use crate::store::clients::{Client as Row, Delivery};

/// A client with a connection, which may wait.
fn connected(client: &mut Client) {
    let row = Row { connection: 1, ..Row::default() };
    client.session = client.store.instance.clients.add(row);
}

fn resume_to_the_end(client: &mut Client) -> (usize, String) {
    let mut slices = 1;
    while client.store.resume_script() {
        slices += 1;
        assert!(slices < 10_000);
    }
    let replies = client.store.instance.clients.take_deliveries();
    let reply = replies.into_iter().find_map(|delivery| match delivery {
        Delivery::Resume { reply, .. } if !reply.is_empty() => Some(reply),
        _ => None,
    });
    let reply = String::from_utf8(reply.unwrap_or_default()).unwrap();
    client.session.end_wait();
    (slices, reply.replace("\r\n", " ").trim_end().to_owned())
}

#[test]
fn a_long_script_pauses_and_ends_as_if_it_had_not() {
    let watchdog = Watchdog::start();
    let _slot = watchdog.register();
    for script in [
        "local x = 0 for i = 1, 3e8 do x = x + 1 end return tostring(x)",
        "local x = 0 for i = 1, 3e6 do x = x + #tostring(i) end return tostring(3e8)",
        "local co = coroutine.wrap(function() local x = 0 for i = 1, 3e8 do x = x + 1 end coroutine.yield(x) end) \
         return tostring(co())",
        "local ok, x = pcall(function() local x = 0 for i = 1, 3e8 do x = x + 1 end return x end) return tostring(x)",
        "for i = 1, 3e5 do redis.call('set', 'k', i) end return '300000000'",
    ] {
        let mut client = Client::new();
        connected(&mut client);
        assert_eq!(client.eval(script), "", "{script}");
        let (slices, reply) = resume_to_the_end(&mut client);
        assert_eq!((slices > 0, reply.as_str()), (true, "$9 300000000"), "{script}");
        assert_eq!(client.eval("return 5"), ":5");
    }
}

#[test]
fn others_wait_and_are_then_told_that_it_is_busy() {
    let watchdog = Watchdog::start();
    let _slot = watchdog.register();
    let mut client = Client::new();
    connected(&mut client);
    assert_eq!(client.eval("while true do end"), "");
    let first = client.session.clone();
    connected(&mut client);
    assert_eq!(client.run(&["PING"]), "");
    assert!(
        client
            .session
            .wait
            .is_some_and(|ticket| ticket.postponed && ticket.timeout_ms == Some(5000))
    );
    client.session.end_wait();
    client.now_ms += 5000;
    let busy =
        "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    for (words, expected) in [
        (&["PING"][..], busy),
        (&["GET", "k"], busy),
        (&["MULTI"], "+OK"),
        (&["GET", "k"], busy),
        (
            &["EXEC"],
            "-EXECABORT Transaction discarded because of: BUSY Redis is busy running a script. You can only call \
          SCRIPT KILL or SHUTDOWN NOSAVE.",
        ),
        (&["FUNCTION", "KILL"], busy),
        (&["SCRIPT", "KILL"], "+OK"),
    ] {
        assert_eq!(client.run(words), expected, "{words:?}");
    }
    client.session = first;
    let (_, reply) = resume_to_the_end(&mut client);
    assert!(
        reply.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "),
        "{reply}"
    );
    assert_eq!(client.run(&["PING"]), "+PONG");
}

#[test]
fn every_endless_loop_is_killed() {
    let watchdog = Watchdog::start();
    let _slot = watchdog.register();
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do end end) co()",
        "while true do coroutine.wrap(function() end)() end",
        "while true do redis.call('get', 'x') end",
        "while true do redis.pcall('nosuch') end",
        "local t = {} while true do t[#t % 100 + 1] = tostring(#t) end",
    ] {
        let mut client = Client::new();
        connected(&mut client);
        assert_eq!(client.eval(script), "", "{script}");
        let first = client.session.clone();
        connected(&mut client);
        assert_eq!(client.run(&["SCRIPT", "KILL"]), "+OK", "{script}");
        client.session = first;
        let (_, reply) = resume_to_the_end(&mut client);
        assert!(reply.starts_with("-ERR Script killed by user"), "{script}: {reply}");
        assert_eq!(client.eval("return 5"), ":5", "{script}");
    }
}

#[test]
fn what_has_written_is_not_killed() {
    let watchdog = Watchdog::start();
    let _slot = watchdog.register();
    let mut client = Client::new();
    connected(&mut client);
    assert_eq!(
        client
            .eval("redis.call('set', 'a', 1) local x = 0 for i = 1, 3e8 do x = x + 1 end return x"),
        ""
    );
    let first = client.session.clone();
    connected(&mut client);
    assert!(client.run(&["SCRIPT", "KILL"]).starts_with("-UNKILLABLE "));
    client.session = first;
    assert_eq!(resume_to_the_end(&mut client).1, ":300000000");
}

#[test]
fn where_nothing_can_pause_it_ends_at_the_threshold() {
    let watchdog = Watchdog::start();
    let _slot = watchdog.register();
    let mut client = Client::new();
    client.run(&["CONFIG", "SET", "busy-reply-threshold", "60"]);
    // In process: there is no connection that could wait.
    let reply = client.eval("while true do end");
    assert!(
        reply.starts_with("-ERR the script ran longer than its time budget of 60 ms"),
        "{reply}"
    );
    connected(&mut client);
    let reply = client.eval("string.gsub('x', 'x', function() while true do end end)");
    assert!(reply.starts_with("-ERR the script ran longer than its time budget"), "{reply}");
    client.run(&["MULTI"]);
    client.run(&["EVAL", "while true do end", "0"]);
    client.run(&["EVAL", "return 1", "0"]);
    let reply = client.run(&["EXEC"]);
    assert!(reply.starts_with("*2 -ERR the script ran longer") && reply.ends_with(":1"), "{reply}");
    let reply = client.run(&["FUNCTION", "LOAD", "#!lua name=c\nwhile 1 do end"]);
    assert_eq!(reply, "-ERR Error registering functions: ERR FUNCTION LOAD timeout");
}
