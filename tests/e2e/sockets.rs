//! Sockets beside TCP: UDP and Unix sockets, and who may speak, judged by programs that others wrote.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Daemon, Peer, has_judge, run, until};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

fn hear(socket: &UdpSocket) -> String {
    let mut bytes = [0; 65_536];
    let count = socket.recv(&mut bytes).expect("a datagram comes in time");
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

const UDP_APP: &str = r#"
server "echo" {
  port = 0,
  udp = true,
  on_connect = function(peer) socketley.log("met " .. peer.ip) end,
  on_message = function(peer, data)
    if data == "wait" then sleep(0.05) end
    peer:verify()
    peer:send(data:upper())
  end,
}
"#;

#[test]
fn a_udp_server_answers_nc_and_python() {
    if !has_judge("nc") || !has_judge("python3") {
        return;
    }
    let mut daemon = Daemon::start();
    daemon.folder.write("echo.lua", UDP_APP);
    daemon.cli("apply echo.lua").ok();
    let port = daemon.port("echo");
    let mut nc = Command::new("nc");
    // It ends after a second without a datagram.
    nc.args(["-u", "-w", "1", "127.0.0.1", &port.to_string()]);
    assert_eq!(run(nc, "hello").out, "HELLO");
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n\
         s.sendto(b'wait', ('127.0.0.1', {port})); s.sendto(b'', ('127.0.0.1', {port}))\n\
         s.sendto(b'x' * 16000, ('127.0.0.1', {port}))\n\
         print([len(s.recv(65536)) for _ in range(3)])\n"
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]);
    assert_eq!(run(python, "").out, "[4, 0, 16000]\n");
    daemon.until_logged("met 127.0.0.1");
    daemon.cli("stop echo").ok();
    UdpSocket::bind(("127.0.0.1", port)).expect("the port is free again");
}

#[test]
fn udp_peers_hear_each_other_and_commands_reach_them() {
    let daemon = Daemon::start();
    daemon.cli("create server chat --udp -p [::1]:0 -s").ok();
    daemon.cli("create server more -p udp:0 -s").ok();
    let port = daemon.port("chat");
    let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("[::1]:0").unwrap()).collect();
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.connect(("::1", port)).unwrap();
    }
    for (index, socket) in sockets.iter().enumerate() {
        socket.send(format!("I am {index}").as_bytes()).unwrap();
        daemon.until_row("chat", |row| row["connections"] == index + 1);
    }
    assert_eq!((hear(&sockets[0]), hear(&sockets[0])), ("I am 1".into(), "I am 2".into()));
    assert_eq!(hear(&sockets[1]), "I am 2");
    daemon.cli("send chat all of you").ok();
    for socket in &sockets {
        assert_eq!(hear(socket), "all of you");
    }
    assert!(daemon.row("more")["listen"].as_str().unwrap().starts_with("udp:127.0.0.1:"));
    daemon.cli("create server bad --udp --tls -p 0").fails(2, &["TLS over UDP"]);
    daemon.cli("create server bad --udp -p unix:/nowhere/x").fails(2, &["Unix socket"]);
    daemon.cli("create server bad --udp --mode master --master-pw x -p 0").fails(2, &["forge"]);
}

const UDP_CLIENT: &str = r#"
client "probe" {
  target = "udp:127.0.0.1:PORT",
  on_connect = function(conn) conn:send("here I am") end,
  on_message = function(conn, data) conn:send("heard " .. data) end,
}
"#;

#[test]
fn a_udp_client_speaks_to_its_target() {
    let daemon = Daemon::start();
    let target = socket();
    let port = target.local_addr().unwrap().port().to_string();
    daemon.folder.write("probe.lua", &UDP_CLIENT.replace("PORT", &port));
    daemon.cli("apply probe.lua").ok();
    let mut bytes = [0; 100];
    let (count, from) = target.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"here I am");
    target.send_to(b"you", from).unwrap();
    assert_eq!(hear(&target), "heard you");
    // Nobody there for a while: the client goes on as soon as somebody is.
    let address = target.local_addr().unwrap();
    drop(target);
    daemon.cli("send probe lost").ok();
    let target = UdpSocket::bind(address).unwrap();
    target.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    until("a datagram after the silence", || {
        daemon.cli("send probe again").ok();
        target.set_nonblocking(true).unwrap();
        target.recv(&mut [0; 100]).ok()
    });
}

#[test]
fn a_multicast_group_is_joined_on_request() {
    if !has_judge("python3") {
        return;
    }
    let daemon = Daemon::start();
    let group = "239.77.66.55";
    daemon.cli(&format!("create server m --udp -p 0 --multicast {group}")).fails(2, &["*:PORT"]);
    daemon.cli(&format!("create server m --udp -p *:0 --multicast {group}%127.0.0.1 -s")).ok();
    let port = daemon.port("m");
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))\n\
         s.sendto(b'to the group', ('{group}', {port}))\n"
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]);
    run(python, "").ok();
    daemon.until_row("m", |row| row["connections"] == 1);
}

fn path(daemon: &Daemon, name: &str) -> String {
    daemon.folder.join(name).display().to_string()
}

#[test]
fn a_cache_on_a_unix_socket_serves_redis_cli() {
    if !has_judge("redis-cli") {
        return;
    }
    let daemon = Daemon::start();
    let path = path(&daemon, "db.sock");
    daemon.cli(&format!("create cache db -p unix:{path} --socket-mode 0660 -s")).ok();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let redis = |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-s", &path]).args(words);
        run(command, "").ok()
    };
    assert_eq!(redis(&["SET", "k", "v"]), "OK\n");
    assert_eq!(redis(&["GET", "k"]), "v\n");
    assert!(redis(&["CLIENT", "LIST"]).contains(&format!("addr={path}:0 laddr={path}:0")));
    // Another runtime, another daemon: each is told who has it.
    daemon.cli(&format!("create server s -p unix:{path} -s")).fails(1, &["db"]);
    let other = Daemon::start();
    other
        .cli(&format!("create server s -p unix:{path} -s"))
        .fails(1, &["in use", &format!("process {}", daemon.id())]);
    assert_eq!(redis(&["GET", "k"]), "v\n");
    daemon.cli("stop db").ok();
    assert!(!Path::new(&path).exists(), "its file stays behind");
    // One that was killed leaves its file: whoever comes next replaces it.
    daemon.cli("start db").ok();
    let _dead = daemon.kill9();
    assert!(Path::new(&path).exists());
    other.cli(&format!("create server s -p unix:{path} -s")).ok();
    assert_eq!(other.row("s")["listen"], format!("unix:{path}"));
}

const LOCAL_APP: &str = r#"
server "inner" {
  port = "unix:FOLDER/inner.sock",
  on_connect = function(conn) conn:send("from " .. conn.ip .. " " .. conn.port) end,
  on_message = function(conn, line) conn:send("inner: " .. line) end,
}
proxy "front" { port = "unix:FOLDER/front.sock", protocol = "tcp", backends = { "inner" } }
proxy "named" { port = 0, protocol = "tcp", backends = { "unix:FOLDER/front.sock" } }
client "c" {
  target = "unix:FOLDER/inner.sock",
  on_message = function(conn, line) socketley.log("client heard " .. line) end,
}
"#;

#[test]
fn servers_proxies_and_clients_meet_on_unix_sockets() {
    if !has_judge("nc") {
        return;
    }
    let mut daemon = Daemon::start();
    let folder = daemon.folder.join("").display().to_string();
    daemon.folder.write("local.lua", &LOCAL_APP.replace("FOLDER", folder.trim_end_matches('/')));
    daemon.cli("apply local.lua").ok();
    daemon.until_logged("client heard from unix 0");
    let mut nc = Command::new("nc");
    nc.args(["-N", "-U", &path(&daemon, "front.sock")]);
    assert_eq!(run(nc, "hello\n").out, "from unix 0\ninner: hello\n");
    let mut peer = Peer::connect(daemon.port("named"));
    peer.say("through both");
    peer.hears(&["from unix 0", "inner: through both"]);
    let wrong = daemon.cli("create server bad -p unix:here.sock");
    wrong.fails(2, &["not an absolute path", "unix:/run/app.sock"]);
}

#[test]
fn a_master_over_lines_survives_restarts_and_is_hidden() {
    let daemon = Daemon::start();
    daemon.cli("create server m --mode master -p 0").fails(2, &["--master-pw"]);
    daemon.cli("create server m --mode master --master-pw secret --master-forward -p 0 -s").ok();
    assert_eq!(daemon.fields("m")["master_pw"], "(hidden)");
    for _ in 0..2 {
        let (mut master, mut other) =
            (Peer::connect(daemon.port("m")), Peer::connect(daemon.port("m")));
        daemon.until_row("m", |row| row["connections"] == 2);
        master.say("master wrong");
        master.hears(&["master: denied"]);
        master.say("master secret");
        master.hears(&["master: ok"]);
        master.say("orders");
        other.hears(&["orders"]);
        other.say("aye");
        assert!(master.hear().ends_with("] aye"));
        drop((master, other));
        daemon.cli("restart m").ok();
    }
}

const MASTER_APP: &str = r#"
server "m" {
  port = 0,
  mode = "master",
  on_master_auth = function(conn, password)
    sleep(0.02)
    return password == "from Lua"
  end,
}
"#;

#[test]
fn a_handler_decides_who_is_master_and_may_wait() {
    let daemon = Daemon::start();
    daemon.folder.write("m.lua", MASTER_APP);
    daemon.cli("apply m.lua").ok();
    let (mut master, mut other) =
        (Peer::connect(daemon.port("m")), Peer::connect(daemon.port("m")));
    daemon.until_row("m", |row| row["connections"] == 2);
    // All at once: what follows the password waits for the decision.
    master.send(b"dropped\nmaster nonsense\nmaster from Lua\nI speak\n");
    master.hears(&["master: denied", "master: ok"]);
    other.hears(&["I speak"]);
    daemon
        .folder
        .write("callback.lua", "function on_master_auth(id, pw) return pw == tostring(id) end");
    daemon.cli("create server old --mode master --lua callback.lua -p 0 -s").ok();
    let mut peer = Peer::connect(daemon.port("old"));
    peer.say("master 1");
    peer.hears(&["master: denied"]);
}

#[test]
fn http_and_websocket_ports_that_are_full_say_so() {
    let daemon = Daemon::start();
    for protocol in ["http", "websocket"] {
        daemon
            .cli(&format!(
                "create server {protocol} --protocol {protocol} --max-connections 1 -p 0 -s"
            ))
            .ok();
        let _first = Peer::connect(daemon.port(protocol));
        daemon.until_row(protocol, |row| row["connections"] == 1);
        let answer = Peer::connect(daemon.port(protocol)).rest();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    }
}

#[test]
fn slow_http_peers_have_the_time_that_their_server_gives() {
    let daemon = Daemon::start();
    daemon
        .cli("create server h --protocol http --header-timeout 1 --keep-alive-timeout 1 -p 0 -s")
        .ok();
    let mut slow = Peer::connect(daemon.port("h"));
    slow.send(b"GET / HTTP/1.1\r\nHos");
    assert!(slow.rest().starts_with("HTTP/1.1 408 "));
    assert_eq!(Peer::connect(daemon.port("h")).rest(), "", "an idle one is closed");
    daemon.cli("create server x --header-timeout 0 -p 0").fails(2, &["from 1 to 3600"]);
}
