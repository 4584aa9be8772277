//! Console lines, completions and CLI commands in an app's VM.

use super::*;

fn evaluate(host: &mut TestHost, code: &str) -> Vec<String> {
    host.vm.evaluate(7, code);
    host.turn();
    host.take()
}

#[test]
fn console_lines_answer_and_locals_persist() {
    let mut host = TestHost::new("counter = 41 server 's' {}");
    for (code, expected) in [
        ("1 + 1", "evaluated 7 {\"text\":\"2\"}"),
        ("counter", "evaluated 7 {\"text\":\"41\"}"),
        ("local x = 5", "evaluated 7 {\"text\":\"\"}"),
        ("x * 2", "evaluated 7 {\"text\":\"10\"}"),
        ("counter = counter + 1", "evaluated 7 {\"text\":\"\"}"),
        ("{ b = 1, a = 'x' }", "evaluated 7 {\"text\":\"{ a = \\\"x\\\", b = 1 }\"}"),
    ] {
        assert_eq!(evaluate(&mut host, code), [expected], "{code}");
    }
    let more = evaluate(&mut host, "for i = 1, 2 do");
    assert!(more[0].contains("\"incomplete\":true"), "{more:?}");
    let printed = evaluate(&mut host, "print('hi', counter)");
    assert!(
        printed[0].starts_with("output 7 ") && printed[0].contains(r#""hi\t42""#),
        "{printed:?}"
    );
    let refused = evaluate(&mut host, "nothing.x");
    assert!(refused[0].starts_with("refused 7 console:"), "{refused:?}");
    assert!(!refused[0].contains("[sk "), "{refused:?}");
}

#[test]
fn a_console_line_may_wait_be_cancelled_and_is_budgeted() {
    let mut host = TestHost::new("server 's' {}");
    assert_eq!(evaluate(&mut host, "sleep(0.01) or 1"), Vec::<String>::new());
    host.pass(10);
    assert_eq!(host.take(), ["evaluated 7 {\"text\":\"true\"}"]);
    assert_eq!(evaluate(&mut host, "sleep(1000)"), Vec::<String>::new());
    host.vm.cancel(7);
    host.turn();
    assert_eq!(host.take(), ["refused 7 cancelled"]);
    assert_eq!(host.vm.waiting(), 0);
    let killed = evaluate(&mut host, "while true do end");
    assert!(
        killed[0].starts_with("refused 7 console:1: ran longer than its time budget"),
        "{killed:?}"
    );
    assert_eq!(evaluate(&mut host, "1"), ["evaluated 7 {\"text\":\"1\"}"]);
}

#[test]
fn completion_runs_nothing() {
    let mut host = TestHost::new(
        "trap = setmetatable({ safe = 1 }, { __index = function() error('ran') end }) server 'chat' {}",
    );
    for (line, expected) in [
        ("chat:broad", "[\"chat:broadcast\"]"),
        ("x = trap.s", "[\"trap.safe\"]"),
        ("string.gm", "[\"string.gmatch\"]"),
        ("sock", "[\"socketley\"]"),
        ("trap.none.", "[]"),
    ] {
        host.vm.complete(3, line);
        host.turn();
        assert_eq!(host.take(), [format!("evaluated 3 {expected}")], "{line}");
    }
}

#[test]
fn commands_print_and_answer() {
    let mut host = TestHost::new(
        r#"
command "kick" { args = { "user" }, run = function(a, out)
  out:print("kicked " .. a.user .. " " .. a.reason)
  out:table({ { name = a.user } })
  if a.user == "nobody" then out:error("no such user") end
  if a.user == "bug" then error("oops") end
end }
"#,
    );
    let mut run = |user: &str| {
        host.vm.command(9, "kick", serde_json::json!({ "user": user, "reason": "bye" }));
        host.turn();
        host.take()
    };
    let seen = run("ann");
    assert!(seen[0].contains("\"text\":\"kicked ann bye\""), "{seen:?}");
    assert!(seen[1].contains("\"rows\":[[\"ann\"]]"), "{seen:?}");
    assert_eq!(seen[2], "evaluated 9 {\"code\":0}");
    assert_eq!(run("nobody").last().unwrap(), "evaluated 9 {\"code\":1}");
    let seen = run("bug");
    assert!(seen.last().unwrap().starts_with("refused 9 app.lua:6: oops"), "{seen:?}");
    host.vm.command(9, "nope", serde_json::json!({}));
    host.turn();
    assert_eq!(host.take(), ["refused 9 this app has no command \"nope\""]);
}
