//! TLS judged by openssl and redis-cli: what is encrypted, who is let in, what is refused.

use std::io::Write;
use std::process::Command;

use crate::support::{Daemon, Folder, Peer, Process, has_judge, run, until};

/// A folder with certificates of one authority: localhost and b.test.
fn daemon_with_certificates() -> Daemon {
    let daemon = Daemon::start();
    daemon.cli("cert localhost 127.0.0.1").ok();
    daemon.cli("cert b.test").ok();
    daemon
}

const CERTIFICATE: &str = "--tls --cert localhost.pem --key localhost.key";

/// `openssl s_client` with these options, talking to a port.
fn s_client(folder: &Folder, port: u16, options: &str) -> Process {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-CAfile", "ca.pem"]);
    command.args(options.split_whitespace()).current_dir(folder.path());
    Process::spawn(command)
}

/// A session that says something and waits for all of `answers`.
fn converse(folder: &Folder, port: u16, said: &str, answers: &[&str]) {
    let mut process = s_client(folder, port, "-quiet");
    let mut input = process.input();
    input.write_all(said.as_bytes()).unwrap();
    answers.iter().for_each(|answer| process.until_printed(answer));
}

fn redis_cli(daemon: &Daemon, port: u16, words: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words.split_whitespace());
    command.current_dir(daemon.folder.path());
    let ended = run(command, "");
    (ended.out + &ended.err).trim_end().to_owned()
}

/// The original took --tls and spoke plain text.
#[test]
fn nothing_goes_in_the_clear_and_plain_clients_get_nowhere() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.folder.write("echo.lua", "function on_message(m) self.broadcast('echo ' .. m) end");
    daemon.cli(&format!("create server s -p 0 {CERTIFICATE} --lua echo.lua -s")).ok();
    let port = daemon.port("s");
    let mut talk =
        s_client(&daemon.folder, port, "-verify_return_error -verify_hostname localhost");
    talk.until_printed("Verification: OK");
    let mut input = talk.input();
    input.write_all(b"hello\n").unwrap();
    talk.until_printed("echo hello");
    let mut plain = Peer::connect(port);
    plain.try_send(b"hello\nhello\n");
    let answer = plain.rest();
    assert!(!answer.contains("hello"), "in the clear: {answer:?}");
    let stats = daemon.cli("stats s --format json").ok();
    assert!(stats.contains("\"handshake_errors\": 1"), "{stats}");
    input.write_all(b"still here\n").unwrap();
    talk.until_printed("echo still here");
}

#[test]
fn redis_cli_speaks_tls_with_a_cache_and_shows_its_certificate() {
    if !has_judge("redis-cli") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.cli(&format!("create cache db -p 0 {CERTIFICATE} -s")).ok();
    daemon.cli(&format!("create cache own -p 0 {CERTIFICATE} --ca ca.pem -s")).ok();
    let (db, own) = (daemon.port("db"), daemon.port("own"));
    let trust = "--tls --cacert ca.pem";
    assert_eq!(redis_cli(&daemon, db, &format!("{trust} SET k v")), "OK");
    assert_eq!(redis_cli(&daemon, db, &format!("{trust} GET k")), "v");
    assert_ne!(redis_cli(&daemon, db, "GET k"), "v");
    assert_ne!(redis_cli(&daemon, own, &format!("{trust} PING")), "PONG");
    let shown = format!("{trust} --cert b.test.pem --key b.test.key PING");
    assert_eq!(redis_cli(&daemon, own, &shown), "PONG");
}

#[test]
fn redis_benchmark_pipelines_over_tls() {
    if !has_judge("redis-benchmark") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.cli(&format!("create cache db -p 0 {CERTIFICATE} -s")).ok();
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &daemon.port("db").to_string(), "--tls", "--cacert", "ca.pem"]);
    command.args(["-t", "set,get,lrange_300", "-P", "20", "-c", "10", "-n", "400", "--csv"]);
    command.args(["-d", "2000"]).current_dir(daemon.folder.path());
    let table = run(command, "").ok();
    assert!(table.contains("\"SET\",") && table.contains("LRANGE_300"), "{table}");
}

#[test]
fn versions_names_and_protocols_are_agreed_on_as_configured() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    let certificates = "--tls --cert localhost.pem,b.test.pem --key localhost.key,b.test.key";
    daemon.cli(&format!("create server s -p 0 {certificates} --alpn chat,http/1.1 -s")).ok();
    let port = daemon.port("s");
    for (options, expected) in [
        ("-tls1_3", "TLSv1.3, Cipher is"),
        ("-tls1_2", "TLSv1.2, Cipher is"),
        ("-servername localhost", "subject=CN = localhost"),
        ("-servername b.test", "subject=CN = b.test"),
        ("-servername other.test", "subject=CN = localhost"),
        ("-noservername", "subject=CN = localhost"),
        ("-alpn http/1.1", "ALPN protocol: http/1.1"),
        ("-alpn h2,chat", "ALPN protocol: chat"),
    ] {
        let ended = s_client(&daemon.folder, port, options).wait();
        assert!(ended.out.contains(expected), "{options}: {}{}", ended.out, ended.err);
    }
    for options in ["-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher AES128-SHA", "-alpn h2"] {
        let ended = s_client(&daemon.folder, port, options).wait();
        let refused = ended.out.contains("no peer certificate available");
        assert!(refused, "{options}: {}", ended.out);
    }
}

#[test]
fn sessions_are_resumed() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.cli(&format!("create server s -p 0 --mode in {CERTIFICATE} -s")).ok();
    let port = daemon.port("s");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = format!("session{version}");
        let mut first = s_client(&daemon.folder, port, &format!("{version} -sess_out {file}"));
        until("a ticket", || std::fs::metadata(daemon.folder.join(&file)).is_ok().then_some(()));
        drop(first.input());
        assert!(first.wait().out.contains("New, TLSv1."));
        let again = s_client(&daemon.folder, port, &format!("{version} -sess_in {file}")).wait();
        assert!(again.out.contains("Reused, TLSv1."), "{version}: {}", again.out);
    }
}

#[test]
fn plain_and_tls_share_a_port_if_asked() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.folder.write(
        "both.lua",
        "function on_connect(id) self.send(id, 'welcome') end
         function on_message(m) self.broadcast('echo ' .. m) end",
    );
    let fields = "--tls=optional --cert localhost.pem --key localhost.key";
    daemon.cli(&format!("create server s -p 0 {fields} --lua both.lua -s")).ok();
    let port = daemon.port("s");
    // One that only listens is plain, after a moment.
    Peer::connect(port).hears(&["welcome"]);
    let mut plain = Peer::connect(port);
    plain.say("in the clear");
    plain.hears(&["welcome", "echo in the clear"]);
    converse(&daemon.folder, port, "in secret\n", &["welcome", "echo in secret"]);
}

/// Client → proxy that terminates TLS → proxy that speaks TLS to its backend → server with TLS.
#[test]
fn a_proxy_ends_tls_and_begins_it_again() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.folder.write("echo.lua", "function on_message(m) self.broadcast('echo ' .. m) end");
    daemon.cli(&format!("create server s -p 0 {CERTIFICATE} --ca ca.pem --lua echo.lua -s")).ok();
    let backend = format!("--protocol tcp --backend localhost:{}", daemon.port("s"));
    let shown = "--client-ca ca.pem --client-cert b.test.pem --client-key b.test.key";
    daemon
        .cli(&format!("create proxy p -p 0 {CERTIFICATE} {backend} --backend-tls {shown} -s"))
        .ok();
    converse(&daemon.folder, daemon.port("p"), "hello\n", &["echo hello"]);
    // A backend that can't be trusted isn't spoken to: the client is closed, and the log says why.
    daemon.cli(&format!("create proxy q -p 0 {backend} --backend-tls -s")).ok();
    let mut client = Peer::connect(daemon.port("q"));
    client.say("hello");
    assert_eq!(client.rest(), "");
    let logs = daemon.cli("logs q").ok();
    assert!(logs.contains("invalid peer certificate: UnknownIssuer"), "{logs}");
}

#[test]
fn a_client_dials_tls_and_tells_whom_it_does_not_trust() {
    let daemon = daemon_with_certificates();
    daemon.cli(&format!("create server s -p 0 {CERTIFICATE} -s")).ok();
    let port = daemon.port("s");
    daemon.folder.write("greet.lua", "function on_connect() self.send('hello') end");
    daemon
        .cli(&format!("create client c -t localhost:{port} --tls --ca ca.pem --lua greet.lua -s"))
        .ok();
    daemon.until_row("c", |row| row["connections"] == 1);
    until("its greeting", || {
        daemon.cli("stats s --format json").ok().contains("\"messages\": 1").then_some(())
    });
    daemon.cli(&format!("create client d -t localhost:{port} --tls --reconnect 0 -s")).ok();
    until("a word about the authority", || {
        daemon.cli("logs d").ok().contains("UnknownIssuer").then_some(())
    });
    assert_eq!(daemon.row("d")["connections"], 0);
    daemon.cli(&format!("create client f -t localhost:{port} --tls --tls-insecure -s")).ok();
    daemon.until_row("f", |row| row["connections"] == 1);
}

#[test]
fn wrong_files_are_refused_where_they_are_named() {
    let daemon = daemon_with_certificates();
    for (fields, words) in [
        ("--tls", &["tls needs a certificate", "socketley cert"][..]),
        ("--tls --cert none.pem --key localhost.key", &["none.pem: No such file"]),
        ("--tls --cert localhost.pem --key b.test.key", &["doesn't belong to"]),
        ("--tls --cert localhost.key --key localhost.key", &["holds no certificate"]),
        ("--cert localhost.pem --key localhost.key", &["TLS, which is off", "--tls"]),
        ("--tls=sometimes", &["expected true, false, optional"]),
    ] {
        let ended = daemon.cli(&format!("create server s -p 0 {fields}"));
        assert!(matches!(ended.code, 1 | 2), "{fields}: {ended:?}");
        let code = ended.code;
        ended.fails(code, words);
    }
    assert!(daemon.names().is_empty());
    daemon
        .folder
        .write("app.lua", "server 's' { port = 0, tls = true, cert = 'no.pem', key = 'no.key' }");
    daemon.cli("check app.lua").fails(1, &["app.lua:1", "no.pem: No such file"]);
    daemon.cli("apply app.lua").fails(1, &["app.lua:1", "no.pem: No such file"]);
    // From the file's folder.
    let fields = "port = 0, tls = true, cert = '../localhost.pem', key = '../localhost.key'";
    std::fs::create_dir(daemon.folder.join("sub")).unwrap();
    daemon.folder.write("sub/app.lua", &format!("server 's' {{ {fields} }}"));
    daemon.cli("apply sub/app.lua").ok();
    assert_eq!(daemon.row("s")["status"], "running");
}

#[test]
fn renewed_certificates_are_used_and_nobody_is_disconnected() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.folder.write("echo.lua", "function on_message(m) self.broadcast('echo ' .. m) end");
    let fields = "--tls --cert live.pem --key live.key";
    let copy = |from: &str| {
        for end in ["pem", "key"] {
            let (from, to) = (format!("{from}.{end}"), format!("live.{end}"));
            std::fs::copy(daemon.folder.join(&from), daemon.folder.join(&to)).unwrap();
        }
    };
    copy("localhost");
    daemon.cli(&format!("create server s -p 0 {fields} --lua echo.lua -s")).ok();
    let port = daemon.port("s");
    let mut old = s_client(&daemon.folder, port, "");
    old.until_printed("subject=CN = localhost");
    let mut input = old.input();
    let subject = || s_client(&daemon.folder, port, "").wait().out;
    copy("b.test");
    daemon.cli("reload-lua s").ok();
    assert!(subject().contains("subject=CN = b.test"));
    // And without being told, when the files change.
    copy("localhost");
    until("the new certificate", || subject().contains("subject=CN = localhost").then_some(()));
    // What can't be used changes nothing.
    daemon.folder.write("live.pem", "torn");
    until("a word about it", || {
        daemon.cli("logs s").ok().contains("the old certificates stay in use").then_some(())
    });
    daemon.cli("create server t -p 0 --tls --cert live.pem --key live.key").fails(1, &["live.pem"]);
    assert!(subject().contains("subject=CN = localhost"));
    input.write_all(b"still here\n").unwrap();
    old.until_printed("echo still here");
}

/// Without TLS's own end a stream may have been cut: half a line is none.
#[test]
fn a_stream_that_is_cut_off_is_not_taken_for_whole() {
    if !has_judge("openssl") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.cli(&format!("create server s -p 0 --mode in {CERTIFICATE} -s")).ok();
    let port = daemon.port("s");
    let messages = || {
        let stats = daemon.cli("stats s --format json").ok();
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        let stats = stats.as_array().map_or(stats.clone(), |list| list[0].clone());
        (stats["messages"].as_u64().unwrap(), stats["connections"].as_u64().unwrap())
    };
    // An end that is said: the last line needs no newline.
    let mut whole = s_client(&daemon.folder, port, "-quiet -no_ign_eof");
    whole.input().write_all(b"one\ntwo").unwrap();
    whole.wait();
    until("both lines", || (messages() == (2, 0)).then_some(()));
    let mut cut = s_client(&daemon.folder, port, "-quiet");
    cut.input().write_all(b"three\nfo").unwrap();
    until("the whole line", || (messages() == (3, 1)).then_some(()));
    cut.signal("KILL");
    until("the end", || (messages().1 == 0).then_some(()));
    assert_eq!(messages().0, 3, "half a line was taken for a message");
}

/// Speaks TLS in memory and changes a byte of a record before it is sent; prints the alert that comes back.
const FORGER: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile="ca.pem")
into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(into, out, server_hostname="localhost")
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
while True:
    try:
        tls.do_handshake()
        break
    except ssl.SSLWantReadError:
        peer.sendall(out.read())
        into.write(peer.recv(65536))
peer.sendall(out.read())
tls.write(b"echo me\n")
record = bytearray(out.read())
record[int(sys.argv[2])] ^= 1
peer.sendall(record)
into.write(b"".join(iter(lambda: peer.recv(65536), b"")))
try:
    print("read", tls.read())
except ssl.SSLError as error:
    print(error.reason)
"#;

#[test]
fn bad_records_end_their_connection_with_an_alert_and_no_other() {
    if !has_judge("openssl") || !has_judge("python3") {
        return;
    }
    let daemon = daemon_with_certificates();
    daemon.cli(&format!("create server s -p 0 --mode echo {CERTIFICATE} -s")).ok();
    let port = daemon.port("s");
    let mut good = s_client(&daemon.folder, port, "-quiet");
    let mut input = good.input();
    input.write_all(b"before\n").unwrap();
    good.until_printed("before");
    for (what, bytes) in [
        ("an unknown type", &[99, 3, 3, 0, 1, 0][..]),
        ("data before the handshake", &[23, 3, 3, 0, 1, 0]),
        ("SSL 2", &[128, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16]),
        ("a record that is too long", &[22, 3, 1, 255, 255, 1]),
        ("an empty handshake record", &[22, 3, 1, 0, 0, 22, 3, 1, 0, 0]),
        ("a message that isn't a hello", &[22, 3, 1, 0, 4, 2, 0, 0, 0]),
        ("a hello that is cut short", &[22, 3, 1, 0, 4, 1, 0, 0, 0]),
    ] {
        let mut peer = Peer::connect(port);
        peer.try_send(bytes);
        let answer = peer.rest();
        assert!(answer.is_empty() || answer.starts_with('\u{15}'), "{what}: {answer:?}");
    }
    // At the beginning, in the middle, in the tag.
    for place in ["5", "9", "-1"] {
        let mut forger = Command::new("python3");
        forger.args(["-c", FORGER, &port.to_string(), place]).current_dir(daemon.folder.path());
        let told = run(forger, "").ok();
        assert!(told.contains("BAD_RECORD_MAC"), "byte {place}: {told}");
    }
    input.write_all(b"after\n").unwrap();
    good.until_printed("after");
    daemon.until_row("s", |row| row["connections"] == 1);
}
