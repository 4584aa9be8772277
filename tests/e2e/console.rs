//! The console: lines from a pipe, from a terminal, one piece by `eval`.

use std::io::Write;
use std::process::Command;

use crate::support::{Daemon, Process, SOCKETLEY, has_judge, run};

const APP: &str = r#"
greeting = "hello"
server "chat" { port = 0, state = { rooms = { "kitchen" } } }
"#;

fn a_daemon() -> Daemon {
    let daemon = Daemon::start();
    daemon.folder.write("chat.lua", APP);
    daemon.cli("apply chat.lua").ok();
    daemon
}

#[test]
fn eval_prints_what_the_code_comes_to() {
    let daemon = a_daemon();
    let cases: &[(&[&str], &str)] = &[
        (&["1 + 1"], "2\n"),
        (&["'a' .. 'b', nil, true"], "\"ab\"\tnil\ttrue\n"),
        (&["local x = 20; return x * 2"], "40\n"),
        (&["local nothing"], ""),
        (&["{ b = 1, a = { 2, 3 } }"], "{ a = { 2, 3 }, b = 1 }\n"),
        (&["#socketley.list()"], "1\n"),
        (&["socketley.get('chat').name"], "\"chat\"\n"),
        (&["--app", "chat", "greeting"], "\"hello\"\n"),
        (&["--app", "chat", "server.chat.state.rooms[1]"], "\"kitchen\"\n"),
    ];
    for (words, printed) in cases {
        let mut line = vec!["eval"];
        line.extend(*words);
        assert_eq!(daemon.cli_words(&line).ok(), *printed, "{words:?}");
    }
    assert_eq!(run(daemon.command(&["eval"]), "6 * 7\n").ok(), "42\n");
}

#[test]
fn eval_says_what_is_wrong() {
    let daemon = a_daemon();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["1 +"], 2, &["complete"]),
        (&["x = = 1"], 1, &["'='"]),
        (&["error('no such luck')"], 1, &["no such luck"]),
        (&["local function deep() error('down here') end deep()"], 1, &["down here", "deep"]),
        (&["nothing.at.all"], 1, &["nothing"]),
        (&["--app", "nobody", "1"], 1, &["nobody"]),
        (&["--app", "chat", "greeting:nosuch()"], 1, &["nosuch"]),
    ];
    for (words, code, said) in cases {
        let mut line = vec!["eval"];
        line.extend(*words);
        daemon.cli_words(&line).fails(*code, said);
    }
}

#[test]
fn a_console_takes_lines_from_a_pipe() {
    let daemon = a_daemon();
    let lines = "local x = 20\nx * 2\nfunction double(n)\n  return n * 2\nend\ndouble(21)\nprint('printed')\n";
    assert_eq!(run(daemon.command(&["console"]), lines).ok(), "40\n42\nprinted\n");
    let lines = "greeting\ngreeting = 'changed'\n";
    assert_eq!(run(daemon.command(&["console", "chat"]), lines).ok(), "\"hello\"\n");
    assert_eq!(run(daemon.command(&["repl", "chat"]), "greeting\n").ok(), "\"changed\"\n");
}

#[test]
fn a_mistake_in_a_pipe_is_told_and_fails_the_run() {
    let daemon = a_daemon();
    let run = run(daemon.command(&["console"]), "1\nerror('oh')\n2\n");
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.out.starts_with("1\n"), "{run:?}");
    assert!(run.err.contains("oh"), "{run:?}");
}

#[test]
fn a_terminal_gets_prompt_completion_and_cancel() {
    if !has_judge("script") {
        return;
    }
    let daemon = a_daemon();
    let mut command = Command::new("script");
    command
        .args(["-qefc", &format!("exec {SOCKETLEY} console chat"), "/dev/null"])
        .current_dir(daemon.folder.path());
    command
        .env("SOCKETLEY_HOME", daemon.folder.join("home"))
        .env("HOME", daemon.folder.path())
        .env("TERM", "xterm");
    let mut terminal = Process::spawn(command);
    let mut keys = terminal.input();
    let mut press = |text: &str| {
        keys.write_all(text.as_bytes()).unwrap();
        keys.flush().unwrap();
    };
    terminal.until_printed("chat");
    press("6 * 7\r");
    terminal.until_printed("42");
    press("greet\t\r");
    terminal.until_printed("hello");
    // Ctrl-C is for what runs once it runs; before that it is a key of the line editor.
    press("print('as' .. 'leep') sleep('1h')\r");
    terminal.until_printed("asleep");
    press("\x03");
    press("'still ' .. 'here'\r");
    terminal.until_printed("still here");
    press("\x04");
    terminal.wait().ok();
}
