//! Saving a file changes what runs: connections and state stay, and a mistake leaves the old version serving.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::{Daemon, Peer, degraded};

const CONNECTIONS: usize = 40;

fn counting_app(version: u32) -> String {
    format!(
        r#"
server "counter" {{
  port = 0,
  state = {{ count = 0 }},
  on_message = function(conn, line)
    self.state.count = self.state.count + 1
    conn:send("{version} " .. line)
  end,
}}
command "total" {{ summary = "messages so far", run = function(_, out) out:print(server.counter.state.count) end }}
"#
    )
}

fn apply(daemon: &Daemon, name: &str, text: &str) {
    let path = daemon.folder.write(name, text);
    daemon.cli_words(&["apply", &path]).ok();
}

fn until_generation(daemon: &Daemon, runtime: &str, generation: u64) {
    daemon.until_row(runtime, |row| row["generation"] == generation);
}

/// Asks until the answer begins with `wanted`.
fn until_answer(peer: &mut Peer, wanted: &str) {
    let found = crate::support::until_within(std::time::Duration::from_secs(30), || {
        peer.say("?");
        peer.hear().starts_with(wanted).then_some(())
    });
    assert!(found.is_some(), "no answer begins with {wanted:?}");
}

/// Talks on one connection until told to stop: every message is answered, in order, by one version after another.
fn talk(port: u16, stop: &AtomicBool, count: &AtomicU64) {
    let mut peer = Peer::connect(port);
    let mut last_version = 0;
    for number in 0.. {
        peer.say(&number.to_string());
        let answer = peer.hear();
        let (version, echoed) = answer.split_once(' ').expect("a version and the number");
        let version: u32 = version.parse().unwrap();
        assert_eq!(echoed, number.to_string());
        assert!(version >= last_version, "{version} after {last_version}");
        last_version = version;
        count.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            assert_eq!(peer_is_quiet(&mut peer), "");
            return;
        }
    }
}

/// What comes after this side's end: nothing but the other side's.
fn peer_is_quiet(peer: &mut Peer) -> String {
    peer.finish();
    peer.rest()
}

#[test]
fn saving_under_traffic_drops_nothing_and_keeps_the_state() {
    let daemon = Daemon::start();
    apply(&daemon, "traffic.lua", &counting_app(1));
    let port = daemon.port("counter");
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let talkers: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| talk(port, &stop, &count))).collect();
        daemon.until_row("counter", |row| row["connections"] == CONNECTIONS);
        for version in 2..=6 {
            let before = count.load(Ordering::Relaxed);
            daemon.folder.write("traffic.lua", &counting_app(version));
            until_generation(&daemon, "counter", u64::from(version));
            crate::support::until("traffic after a reload", || {
                (count.load(Ordering::Relaxed) > before + CONNECTIONS as u64).then_some(())
            });
            assert_eq!(daemon.row("counter")["connections"], CONNECTIONS);
        }
        stop.store(true, Ordering::Relaxed);
        for talker in talkers {
            talker.join().expect("no connection was dropped");
        }
    });
    let total = daemon.cli("total").ok();
    assert_eq!(total.trim(), count.load(Ordering::Relaxed).to_string());
}

#[test]
fn a_broken_edit_leaves_the_old_version_serving_and_is_loud() {
    let mut daemon = Daemon::start();
    apply(&daemon, "loud.lua", &counting_app(1));
    let mut peer = Peer::connect(daemon.port("counter"));
    until_answer(&mut peer, "1");
    daemon.folder.write("loud.lua", &(counting_app(2) + "\nlocal x = = 5\n"));
    let row = daemon.until_row("counter", |row| !degraded(row).is_empty());
    assert!(degraded(&row).contains("loud.lua:12"), "{row}");
    until_answer(&mut peer, "1");
    let shown = daemon.cli("ls");
    assert!((shown.out.clone() + &shown.err).contains("loud.lua:12"), "{shown:?}");
    daemon.until_logged("loud.lua:12");
    let logs = daemon.cli("logs loud").ok();
    assert!(logs.contains("loud.lua:12") && logs.contains("local x = = 5"), "{logs}");
    daemon.cli("reload-lua counter").fails(1, &["loud.lua:12"]);
    daemon.folder.write("loud.lua", &counting_app(3));
    daemon.until_row("counter", |row| degraded(row).is_empty());
    until_answer(&mut peer, "3");
}

#[test]
fn every_kind_of_mistake_leaves_the_old_version_serving() {
    let daemon = Daemon::start();
    apply(&daemon, "many.lua", &counting_app(1));
    let mut peer = Peer::connect(daemon.port("counter"));
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap().port();
    let good = counting_app(9);
    let cases = [
        ("error(\"at load time\")\n".to_owned() + &good, "at load time"),
        (good.replace("port = 0", "prot = 0"), "prot"),
        (good.replace("on_message", "on_mesage"), "on_mesage"),
        (good.clone() + "require \"nowhere\"\n", "nowhere"),
        (good.clone() + &format!("server \"more\" {{ port = {taken} }}\n"), "in use"),
        ("while true do end\n".to_owned() + &good, "time"),
    ];
    for (text, word) in cases {
        daemon.folder.write("many.lua", &text);
        let row = daemon.until_row("counter", |row| degraded(row).contains(word));
        assert_eq!(row["generation"], 1, "{row}");
        until_answer(&mut peer, "1");
        daemon.folder.write("many.lua", &counting_app(1));
        daemon.until_row("counter", |row| degraded(row).is_empty());
    }
    assert_eq!(daemon.names(), ["counter"]);
}

#[test]
fn state_that_cant_be_carried_over_refuses_the_reload_and_names_the_path() {
    let daemon = Daemon::start();
    let first = counting_app(1).replace("count = 0", "count = 0, deep = { list = {} }");
    let first = first.replace("conn:send(", "self.state.deep.list[1] = function() end conn:send(");
    apply(&daemon, "stubborn.lua", &first);
    let mut peer = Peer::connect(daemon.port("counter"));
    until_answer(&mut peer, "1");
    daemon.folder.write("stubborn.lua", &counting_app(2));
    let row = daemon.until_row("counter", |row| !degraded(row).is_empty());
    let why = degraded(&row);
    assert!(why.contains("deep.list") && why.contains("function"), "{why}");
    until_answer(&mut peer, "1");
}

#[test]
fn rollback_goes_back_a_generation() {
    let daemon = Daemon::start();
    apply(&daemon, "back.lua", &counting_app(1));
    let mut peer = Peer::connect(daemon.port("counter"));
    daemon.folder.write("back.lua", &counting_app(2));
    until_answer(&mut peer, "2");
    daemon.cli("rollback back").ok();
    until_answer(&mut peer, "1");
}

#[test]
fn a_required_module_is_watched_too() {
    let daemon = Daemon::start();
    daemon.folder.write("words.lua", "return { hello = \"one\" }\n");
    let app = "local words = require \"words\"\n\
        server \"greeter\" { port = 0, on_message = function(conn) conn:send(words.hello) end }\n";
    apply(&daemon, "greeter.lua", app);
    let mut peer = Peer::connect(daemon.port("greeter"));
    until_answer(&mut peer, "one");
    daemon.folder.write("words.lua", "return { hello = \"two\" }\n");
    until_answer(&mut peer, "two");
}

#[test]
fn scripts_in_the_original_style_reload_by_name_and_by_signal() {
    let daemon = Daemon::start();
    let script = |version: u32| {
        format!("function on_message(msg) self.broadcast(\"{version} \" .. msg) end\n")
    };
    daemon.folder.write("old.lua", &script(1));
    daemon.cli("create server old -p 0 --lua old.lua -s").ok();
    let mut peer = Peer::connect(daemon.port("old"));
    until_answer(&mut peer, "1");
    daemon.folder.write("old.lua", &script(2));
    daemon.cli("reload-lua old").ok();
    until_answer(&mut peer, "2");
    daemon.folder.write("old.lua", &script(3));
    daemon.signal("HUP");
    until_answer(&mut peer, "3");
}

#[test]
fn definitions_come_and_go_with_the_file() {
    let daemon = Daemon::start();
    let one = "server \"one\" { port = 0, on_message = function(conn) conn:send \"one\" end }\n";
    let two = "server \"two\" { port = 0 }\n";
    apply(&daemon, "several.lua", one);
    let mut peer = Peer::connect(daemon.port("one"));
    daemon.folder.write("several.lua", &(one.to_owned() + two));
    daemon.until_row("two", |row| row["status"] == "running");
    Peer::connect(daemon.port("two"));
    until_answer(&mut peer, "one");
    daemon.folder.write("several.lua", two);
    daemon.until_row("one", serde_json::Value::is_null);
    assert_eq!(peer.rest(), "");
    assert_eq!(daemon.names(), ["two"]);
}

#[test]
fn what_a_file_defines_is_edited_in_the_file() {
    let daemon = Daemon::start();
    apply(&daemon, "owner.lua", &counting_app(1));
    for command in ["edit counter --max-connections 3", "remove counter"] {
        daemon.cli(command).fails(1, &["owner.lua:2"]);
    }
    assert_eq!(daemon.names(), ["counter"]);
}
