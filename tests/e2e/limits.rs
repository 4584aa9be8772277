//! Scripts that don't end or want all memory: they are stopped, everyone else goes on.

use crate::support::{Daemon, Peer};

const QUIET: &str = r#"
server "quiet" { port = 0, on_message = function(conn, line) conn:send(line) end }
"#;

#[test]
fn a_runaway_file_is_refused() {
    let daemon = Daemon::start();
    daemon.folder.write("never.lua", "\nwhile true do end\n");
    daemon.cli("apply never.lua").fails(1, &["never.lua:2", "time"]);
    daemon.folder.write("much.lua", "local big = (\"x\"):rep(2 ^ 30)\n");
    daemon.cli("apply much.lua").fails(1, &["memory"]);
    daemon.cli("create server next -p 0 -s").ok();
    Peer::connect(daemon.port("next"));
}

#[test]
fn a_runaway_line_of_the_console_is_stopped() {
    let daemon = Daemon::start();
    daemon.folder.write("quiet.lua", QUIET);
    daemon.cli("apply quiet.lua").ok();
    daemon.cli_words(&["eval", "while true do end"]).fails(1, &["time budget"]);
    let pattern = "('a'):rep(30):find(('a*'):rep(30) .. 'b')";
    daemon.cli_words(&["eval", pattern]).fails(1, &["time budget"]);
    let words = ["eval", "--app", "quiet", "while true do end"];
    daemon.cli_words(&words).fails(1, &["time budget"]);
    let mut peer = Peer::connect(daemon.port("quiet"));
    peer.say("hello");
    peer.hears(&["hello"]);
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let daemon = Daemon::start();
    daemon.cli("create server small -p 0 --max-connections 2 -s").ok();
    let port = daemon.port("small");
    let (_first, second) = (Peer::connect(port), Peer::connect(port));
    daemon.until_row("small", |row| row["connections"] == 2);
    assert_eq!(Peer::connect(port).rest(), "");
    drop(second);
    daemon.until_row("small", |row| row["connections"] == 1);
    let mut third = Peer::connect(port);
    daemon.until_row("small", |row| row["connections"] == 2);
    daemon.cli("send small hello").ok();
    third.hears(&["hello"]);
}

#[test]
fn a_line_without_an_end_closes_its_connection() {
    let daemon = Daemon::start();
    daemon.cli("create server lines -p 0 -s").ok();
    let mut endless = Peer::connect(daemon.port("lines"));
    endless.try_send(&vec![b'x'; 2 * 1024 * 1024]);
    assert_eq!(endless.rest(), "");
    let logs = daemon.cli("logs lines").ok();
    assert!(logs.contains("line") || daemon.cli("stats lines").ok().contains("error"), "{logs}");
}

#[test]
fn limits_of_a_cache_are_told_in_redis_words_and_counted() {
    use crate::support::{has_judge, run};
    if !has_judge("redis-cli") {
        return;
    }
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 --max-connections 2 --rate-limit 50 -s").ok();
    daemon.cli("create cache per -p 0 --max-connections-per-ip 1 -s").ok();
    let (db, per) = (daemon.port("db"), daemon.port("per"));
    let mut first = Peer::connect(db);
    let mut second = Peer::connect(db);
    for peer in [&mut first, &mut second] {
        peer.say("PING");
        peer.hears(&["+PONG\r"]);
    }
    let mut command = std::process::Command::new("redis-cli");
    command.args(["-p", &db.to_string(), "PING"]);
    let told = run(command, "");
    let told = told.out + &told.err;
    assert!(told.contains("ERR max number of clients reached"), "{told}");
    // Faster than allowed: all is answered, later.
    first.send("PING\r\n".repeat(120).as_bytes());
    (0..120).for_each(|_| first.hears(&["+PONG\r"]));
    first.say("PING");
    first.hears(&["+PONG\r"]);
    let stats = daemon.cli("stats db --format json").ok();
    assert!(stats.contains("\"refused\": 1") && !stats.contains("\"throttled\": 0"), "{stats}");
    let mut only = Peer::connect(per);
    only.say("PING");
    only.hears(&["+PONG\r"]);
    assert!(Peer::connect(per).rest().contains("max number of clients"));
    daemon
        .cli("create proxy p --protocol tcp --backend db --rate-limit 5")
        .fails(2, &["rate_limit"]);
}
