//! The README's first command: one file in the foreground.

use crate::support::{Daemon, Folder, Peer, Process, free_port, in_home, run};

/// The quick start with ports that are free here.
fn quickstart(folder: &Folder) -> (String, [u16; 3]) {
    let text = std::fs::read_to_string(crate::support::project("examples/quickstart.lua")).unwrap();
    let ports = [free_port(), free_port(), free_port()];
    let moved = text
        .replace("port = 9000", &format!("port = {}", ports[0]))
        .replace("port = 6379", &format!("port = {}", ports[1]))
        .replace("port = 8080", &format!("port = {}", ports[2]));
    (folder.write("quickstart.lua", &moved), ports)
}

fn run_in_foreground(folder: &Folder, path: &str) -> Process {
    let mut command = in_home(folder);
    command.args(["run", path]);
    Process::spawn(command)
}

#[test]
fn it_chats_remembers_and_ends_on_ctrl_c() {
    let folder = Folder::new();
    let (path, [chat, cache, proxy]) = quickstart(&folder);
    let mut process = run_in_foreground(&folder, &path);
    for port in [chat, cache, proxy] {
        process.until_printed(&format!("127.0.0.1:{port}"));
    }
    let mut ada = Peer::connect(chat);
    ada.hears(&["Welcome, guest1! Say something, or /name YOURS."]);
    ada.say("/name ada");
    ada.hears(&["You are ada."]);
    ada.say("first");
    ada.hears(&["ada: first"]);
    let mut ben = Peer::connect(proxy);
    ben.hears(&["Welcome, guest2! Say something, or /name YOURS.", "ada: first"]);
    ben.say("through the proxy");
    ada.hears(&["guest2: through the proxy"]);
    ben.hears(&["guest2: through the proxy"]);
    let mut redis = Peer::connect(cache);
    redis.send(b"LRANGE chat:history 0 -1\r\n");
    redis.hears(&["*2\r", "$10\r", "ada: first\r", "$25\r", "guest2: through the proxy\r"]);

    // A saved change is live for those who are connected.
    let text = std::fs::read_to_string(&path).unwrap();
    folder.write("quickstart.lua", &text.replace("You are ", "From now on you are "));
    let changed = crate::support::until_within(std::time::Duration::from_secs(30), || {
        ada.say("/name lovelace");
        (ada.hear() == "From now on you are lovelace.").then_some(())
    });
    assert!(changed.is_some(), "{}", process.err());

    process.signal("INT");
    assert_eq!(ada.rest(), "");
    let ended = process.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn the_command_line_reaches_it_while_it_runs() {
    let folder = Folder::new();
    let (path, [chat, ..]) = quickstart(&folder);
    let mut process = run_in_foreground(&folder, &path);
    process.until_printed(&format!("127.0.0.1:{chat}"));
    let mut command = in_home(&folder);
    command.args(["ls", "-q"]);
    let mut names: Vec<String> = run(command, "").ok().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["chat", "db", "gw"]);
    process.signal("TERM");
    assert_eq!(process.wait().code, 0);
    // Nothing of it is kept.
    let mut command = in_home(&folder);
    command.arg("daemon");
    let mut daemon = Process::spawn(command);
    let listed = crate::support::until("a daemon", || {
        assert!(daemon.ended().is_none(), "{}", daemon.err());
        let mut command = in_home(&folder);
        command.args(["ls", "-q"]);
        let listed = run(command, "");
        (listed.code == 0).then_some(listed.out)
    });
    assert_eq!(listed, "");
}

#[test]
fn a_file_that_cant_run_ends_with_the_reason() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    folder.write("syntax.lua", "\nserver \"x\" { port = }\n");
    folder.write("field.lua", "server \"x\" { prot = 1 }\n");
    folder.write("port.lua", &format!("server \"x\" {{ port = {port} }}\n"));
    folder.write("fails.lua", "server \"x\" { port = 0 }\nerror \"not today\"\n");
    let port = port.to_string();
    let cases: &[(&str, &[&str])] = &[
        ("absent.lua", &["absent.lua"]),
        ("syntax.lua", &["syntax.lua:2"]),
        ("field.lua", &["field.lua:1", "prot", "port"]),
        ("port.lua", &[&port, "in use"]),
        ("fails.lua", &["fails.lua:2", "not today"]),
    ];
    for (file, words) in cases {
        let mut command = in_home(&folder);
        command.args(["run", file]);
        let run = run(command, "");
        assert_ne!(run.code, 0, "{file}: {run:?}");
        for word in *words {
            assert!(run.err.contains(word), "{file}: no {word:?} in {}", run.err);
        }
    }
}

#[test]
fn a_running_daemon_is_not_disturbed() {
    let daemon = Daemon::start();
    let (path, _) = quickstart(&daemon.folder);
    let run = run(daemon.command(&["run", &path]), "");
    assert_ne!(run.code, 0);
    assert!(run.err.contains("apply"), "no way out in: {}", run.err);
    daemon.cli("ping").ok();
}
