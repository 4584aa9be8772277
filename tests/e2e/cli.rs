//! The command line with bad input: each mistake gets a message that names it and a way out, and nothing is lost.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, Folder, Peer, SOCKETLEY, free_port, in_home, run};

/// Words of a command line, the exit code, what standard error must say.
type Mistake<'a> = (&'a str, i32, &'a [&'a str]);

const MISTAKES: &[Mistake] = &[
    ("strat chat", 2, &["strat", "start"]),
    ("create", 2, &["<type>"]),
    ("create sever x", 2, &["sever", "server"]),
    ("create server", 2, &["<name>"]),
    ("create server chat --prot 9", 2, &["--prot", "--port"]),
    ("create server chat -p 70000", 2, &["port", "70000"]),
    ("create server chat -p nine", 2, &["nine"]),
    ("create server ../x", 2, &["../x", "letters"]),
    ("create server .hidden", 2, &[".hidden"]),
    ("create server up", 1, &["\"up\" is taken", "show up"]),
    ("create server x --mode sideways", 2, &["sideways", "inout"]),
    ("create server x --backend 127.0.0.1:1", 2, &["backend", "proxy"]),
    ("create proxy gw -p 0 --protocol udp --backend 127.0.0.1:1", 2, &["http, tcp", "udp"]),
    ("create proxy gw -p 0 --strip-prefix /a?b --backend 127.0.0.1:1", 2, &["strip_prefix"]),
    ("create proxy gw -p 0 --protocol tcp", 2, &["backend"]),
    ("create server x -p 0 --lua absent.lua", 1, &["absent.lua", "no such file"]),
    ("create server x -p 0 --lua broken.lua", 1, &["broken.lua:3", "'='"]),
    ("apply absent.lua", 1, &["absent.lua"]),
    ("apply broken.lua", 1, &["broken.lua:3"]),
    ("apply field.lua", 1, &["field.lua:1", "prot", "port"]),
    ("start upp", 1, &["no such runtime: upp", "up"]),
    ("stop x-*", 1, &["x-*"]),
    ("remove nobody", 1, &["nobody"]),
    ("show nobody", 1, &["nobody"]),
    ("stats nobody", 1, &["nobody"]),
    ("reload nobody", 1, &["nobody"]),
    ("reload-lua nobody", 1, &["nobody"]),
    ("reload-lua up", 1, &["up", "Lua"]),
    ("send nobody hello", 1, &["nobody"]),
    ("edit up --port x", 2, &["port"]),
    ("edit up -p 1", 1, &["port", "stop"]),
    ("ls --format xml", 2, &["xml", "json"]),
    ("rollback nobody", 1, &["nobody"]),
    ("eval syntax error here", 1, &["syntax"]),
];

#[test]
fn every_mistake_is_named_and_nothing_is_lost() {
    let daemon = Daemon::start();
    daemon.folder.write("broken.lua", "-- one\n-- two\nlocal function = 5\n");
    daemon.folder.write("field.lua", "server \"typo\" { prot = 9 }\n");
    daemon.cli("create server up -p 0 -s").ok();
    let mut peer = Peer::connect(daemon.port("up"));
    let before = daemon.fields("up");
    let mut wrong = Vec::new();
    for (line, code, words) in MISTAKES {
        let run = daemon.cli(line);
        let missing: Vec<_> = words.iter().filter(|word| !run.err.contains(**word)).collect();
        if run.code != *code || !missing.is_empty() {
            wrong.push(format!(
                "{line}\n  exit {} (not {code}), lacks {missing:?}\n  {}{}",
                run.code, run.out, run.err
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(daemon.names(), ["up"]);
    assert_eq!(daemon.fields("up"), before);
    daemon.cli("send up still here").ok();
    peer.hears(&["still here"]);
}

#[test]
fn a_port_in_use_is_named() {
    let daemon = Daemon::start();
    daemon.cli("create server first -p 0 -s").ok();
    let port = daemon.port("first").to_string();
    let said =
        daemon.cli_words(&["create", "server", "second", "-p", &port, "-s"]).fails(1, &[&port]);
    assert!(said.contains("first") || said.contains("in use"), "{said}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = listener.local_addr().unwrap().port().to_string();
    daemon
        .cli_words(&["create", "server", "third", "-p", &foreign, "-s"])
        .fails(1, &[&foreign, "in use"]);
    Peer::connect(daemon.port("first"));
}

#[test]
fn what_docker_has_people_type_works() {
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 -s").ok();
    daemon.cli("create server web -p 0").ok();
    assert_eq!(daemon.cli("ps -q").ok(), "db\n");
    assert_eq!(daemon.cli("ps -a -q").ok(), "db\nweb\n");
    assert_eq!(daemon.cli("list -q").ok(), "db\nweb\n");
    assert_eq!(daemon.cli("inspect web").ok(), daemon.cli("show web").ok());
    daemon.cli("rm -f nothing web").ok();
    assert_eq!(daemon.names(), ["db"]);
    daemon.cli("rm nothing").fails(1, &["no such runtime: nothing"]);
}

#[test]
fn top_shows_what_runs_as_often_as_asked() {
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 -s").ok();
    daemon.cli("create server off -p 0").ok();
    let lines = daemon.cli("top -n 2 -i 100ms --format jsonl").ok();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{lines}");
    for row in &rows {
        assert_eq!((row["name"].as_str(), row["connections"].as_u64()), (Some("db"), Some(0)));
    }
    let between = rows[1]["uptime_ms"].as_u64().unwrap() - rows[0]["uptime_ms"].as_u64().unwrap();
    // The wait goes by one clock, what is shown by another: each is rounded to a millisecond.
    assert!(between >= 98, "{lines}");
    assert!(daemon.cli("top db -n 1").ok().starts_with("NAME"));
    daemon.cli("top --format json").fails(2, &["goes on", "-n 1"]);
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let folder = Folder::new();
    let daemon = Daemon::start();
    let pages = folder.path().join("man1");
    daemon.cli_words(&["man", pages.to_str().unwrap()]).ok();
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("socketley.1").contains("socketley\\-create(1)"), "{}", page("socketley.1"));
    assert!(page("socketley-create.1").contains("\\-\\-maxmemory"));
}

#[test]
fn several_names_act_on_all_of_them() {
    let daemon = Daemon::start();
    for name in ["api-1", "api-2", "web"] {
        daemon.cli(&format!("create server {name} -p 0 -s")).ok();
    }
    daemon.cli("stop api-*").ok();
    let status = |name: &str| daemon.row(name)["status"].as_str().unwrap().to_owned();
    assert_eq!(
        [status("api-1"), status("api-2"), status("web")],
        ["stopped", "stopped", "running"]
    );
    let run = daemon.cli("start nobody api-2");
    assert_eq!((run.code, status("api-2").as_str()), (1, "running"), "{}", run.err);
    assert!(run.err.contains("nobody"), "{}", run.err);
    assert_eq!(daemon.cli("ls -q").ok(), "api-1\napi-2\nweb\n");
    assert_eq!(daemon.cli("ps -q").ok(), "api-2\nweb\n");
    daemon.cli("rm api-1 web").ok();
    assert_eq!(daemon.names(), ["api-2"]);
}

#[test]
fn without_a_daemon_the_way_out_is_named() {
    let folder = Folder::new();
    let socketley = |words: &[&str]| {
        let mut command = in_home(&folder);
        command.args(words);
        run(command, "")
    };
    for words in [&["ls"][..], &["create", "server", "x"], &["send", "x", "y"], &["ping"]] {
        let run = socketley(words);
        assert_ne!(run.code, 0, "{words:?}");
        assert!(run.err.contains("socketley daemon"), "{words:?}: {}", run.err);
    }
    for words in [
        &["--help"][..],
        &["help"],
        &["help", "create"],
        &["create", "--help"],
        &["completion", "bash"],
    ] {
        assert!(!socketley(words).ok().is_empty(), "{words:?}");
    }
    assert!(socketley(&["--version"]).ok().contains(env!("CARGO_PKG_VERSION")));
    assert!(socketley(&["version"]).ok().contains(env!("CARGO_PKG_VERSION")));
    assert!(socketley(&[]).err.contains("socketley") || socketley(&[]).out.contains("socketley"));
}

#[test]
fn check_finds_what_is_wrong_without_a_daemon() {
    let folder = Folder::new();
    let check = |text: &str| {
        let path = folder.write("app.lua", text);
        let mut command = in_home(&folder);
        command.args(["check", &path]);
        run(command, "")
    };
    check("server \"a\" { port = 0 }\n").ok();
    let cases: &[(&str, &[&str])] = &[
        ("server \"a\" {\n  port = 0,\n  x x\n}\n", &["app.lua:3"]),
        ("\nserver \"a\" { prot = 0 }\n", &["app.lua:2", "prot", "port"]),
        ("server \"a\" { port = true }\n", &["app.lua:1", "port", "true"]),
        ("server \"a\" { port = 0, on_mesage = function() end }\n", &["on_mesage", "on_message"]),
        ("server \"a\" { port = 0 }\nserver \"a\" { port = 0 }\n", &["app.lua:2", "twice"]),
        ("nosuch.thing = 1\n", &["app.lua:1", "nosuch"]),
    ];
    for (text, words) in cases {
        let run = check(text);
        let said = run.out.clone() + &run.err;
        assert_eq!(run.code, 1, "{text}: {said}");
        for word in *words {
            assert!(said.contains(word), "{text}: no {word:?} in {said}");
        }
    }
}

#[test]
fn messages_arrive_as_they_were_typed() {
    let daemon = Daemon::start();
    daemon.cli("create server chat -p 0 -s").ok();
    let mut peer = Peer::connect(daemon.port("chat"));
    daemon.until_row("chat", |row| row["connections"] == 1);
    let words = (0..10_000).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
    for message in
        ["  blanks   and\ttabs  ", "\"quotes\" 'and' $things `here`", "--not-a-flag", &words]
    {
        daemon.cli_words(&["send", "chat", "--", message]).ok();
        peer.hears(&[message]);
    }
    daemon.cli_words(&["send", "chat", "one\ntwo\nthree"]).ok();
    peer.hears(&["one", "two", "three"]);
    run(daemon.command(&["send", "chat"]), "from\nstandard input\n").ok();
    peer.hears(&["from", "standard input"]);
}

#[test]
fn garbage_on_sockets_ends_that_connection_only() {
    let daemon = Daemon::start();
    daemon.cli("create server chat -p 0 -s").ok();
    daemon.cli("create cache db -p 0 -s").ok();
    daemon.cli("create proxy gw -p 0 --protocol tcp --backend chat -s").ok();
    let mut witness = Peer::connect(daemon.port("chat"));
    let garbage: Vec<u8> =
        (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for name in ["chat", "db", "gw"] {
        let mut peer = Peer::connect(daemon.port(name));
        // The other side may have closed by the time that all of it is written.
        peer.try_send(&garbage);
    }
    let mut cache = Peer::connect(daemon.port("db"));
    cache.send(b"*1\r\n$nine\r\n");
    assert!(cache.rest().starts_with("-ERR Protocol error"));
    let mut cache = Peer::connect(daemon.port("db"));
    cache.send(b"PING\r\n");
    assert_eq!(cache.hear(), "+PONG\r");
    witness.say("nobody is hurt");
    daemon.cli("send chat fine").ok();
    assert!((0..garbage.len()).any(|_| witness.hear_bytes().ends_with(b"fine")));
}

#[test]
fn garbage_on_the_control_socket_is_answered() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let cases: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "frame"),
        (b"\xff\xff\xff\xff", "frame"),
        (b"\0\0\0\x05hello", "JSON"),
        (b"\0\0\0\x02[]", "request"),
        (b"\0\0\0\x19{\"v\":99,\"command\":\"ping\"}", "version"),
    ];
    for (bytes, word) in cases {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // It closes: a stream that isn't made of frames can't go on.
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(word), "{bytes:?}: {answer:?}");
    }
    let half = UnixStream::connect(&socket).unwrap();
    (&half).write_all(b"\0\0").unwrap();
    daemon.cli("ping").ok();
}

#[test]
fn the_control_socket_is_the_owners() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn a_second_daemon_in_the_same_folder_says_that_one_runs() {
    let daemon = Daemon::start();
    let second = run(daemon.command(&["daemon"]), "");
    assert_ne!(second.code, 0);
    assert!(second.err.contains("runs") || second.err.contains("running"), "{}", second.err);
    daemon.cli("ping").ok();
}

#[test]
fn socket_names_another_daemon() {
    let daemon = Daemon::start();
    daemon.cli("create server here -p 0").ok();
    let elsewhere = Folder::new();
    let mut command = Command::new(SOCKETLEY);
    command
        .env("SOCKETLEY_HOME", elsewhere.path())
        .args(["--socket"])
        .arg(daemon.socket())
        .args(["ls", "-q"]);
    assert_eq!(run(command, "").ok(), "here\n");
}

#[test]
fn edit_changes_what_it_names() {
    let daemon = Daemon::start();
    daemon.cli("create server chat -p 0 -s").ok();
    let port = free_port().to_string();
    daemon.cli("edit chat --max-connections 7").ok();
    assert!(daemon.cli("show chat").ok().contains("\"max_connections\": 7"));
    daemon.cli("stop chat").ok();
    daemon.cli_words(&["edit", "chat", "-p", &port]).ok();
    daemon.cli("start chat").ok();
    assert_eq!(daemon.port("chat").to_string(), port);
}

/// What `init` writes passes its own test, whatever the file is called, and nothing is overwritten.
#[test]
fn an_app_of_init_passes_its_test() {
    let folder = Folder::new();
    let cli = |words: &[&str]| {
        let mut command = in_home(&folder);
        command.args(words);
        run(command, "")
    };
    for name in ["app", "talk"] {
        let file = format!("{name}.lua");
        let said = cli(&["init", &file]).ok();
        assert!(said.contains(&format!("{name}_test.lua")), "{said}");
        cli(&["check", &file]).ok();
    }
    let said = cli(&["test"]).ok();
    assert!(said.contains("2 passed, 0 failed"), "{said}");
    cli(&["init", "talk.lua"]).fails(1, &["is there already"]);
    folder.write("new_test.lua", "mine");
    let said = cli(&["init", "new.lua"]).ok();
    assert!(said.contains("new_test.lua was there already"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("new_test.lua")).unwrap(), "mine");
}
