//! A proxy's backends: routed by Lua, told apart, drained, killed and frozen under load.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Daemon, until};

/// A client that keeps its connection.
struct Client {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(port: u16) -> Client {
        Client { port, stream: None }
    }

    /// The answer to a request: status, head and body. Nothing if the connection broke.
    fn try_ask(&mut self, request: &str) -> Option<(u16, String, String)> {
        let port = self.port;
        let stream = self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            BufReader::new(stream)
        });
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                self.stream = None;
                return None;
            }
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).ok()?;
        if head.contains("Connection: close") {
            self.stream = None;
        }
        Some((status, head, String::from_utf8(body).unwrap()))
    }

    fn ask(&mut self, request: &str) -> (u16, String, String) {
        self.try_ask(request).expect("an answer")
    }

    /// The body of a path.
    fn get(&mut self, path: &str) -> String {
        self.ask(&get(path)).2
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")
}

/// `count` bodies of a path, sorted, and how often each came.
fn spread(client: &mut Client, path: &str, count: usize) -> Vec<(String, usize)> {
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..count {
        *seen.entry(client.get(path)).or_insert(0) += 1;
    }
    seen.into_iter().collect()
}

const ROUTED: &str = r#"
local function backend(name)
  return server(name) {
    port = 0, protocol = "http",
    on_http_request = function(req)
      return { body = name .. " " .. req.path .. " " .. tostring(req:header "x-user") }
    end,
  }
end
local red, blue, web = backend "red", backend "blue", backend "web"
proxy "gw" {
  port = 0,
  upstreams = { api = { red, blue, strategy = "least-conn" }, web = web },
  on_route = function(req)
    if req.path:starts "/api/" then return "api" end
    if req.path == "/user" then
      sleep(0.01)
      return { upstream = "web", path = "/seen?x=1", headers = { ["X-User"] = "ada" } }
    end
    if req.path == "/red" then return red end
    if req.path == "/login" then return { redirect = "/user" } end
    if req.path == "/no" then return { status = 403, body = "no" } end
    if req.path == "/fails" then error "meant" end
    if req.path == "/nowhere" then return "elsewhere" end
    return "web"
  end,
}
proxy "sticky" { port = 0, backends = { red, blue }, sticky = "b" }
proxy "alike" { port = 0, backends = { red, blue }, strategy = "hash", hash_on = "header:X-Key" }
proxy "heavy" { port = 0, backends = { { red, weight = 3 }, blue } }
proxy "spare" { port = 0, backends = { red, { blue, backup = true } } }
"#;

#[test]
fn lua_says_where_a_request_goes() {
    let daemon = Daemon::start();
    daemon.folder.write("gw.lua", ROUTED);
    daemon.cli("apply gw.lua").ok();
    let mut client = Client::new(daemon.port("gw"));
    let spread = spread(&mut client, "/api/x", 20);
    let names: Vec<&str> = spread.iter().map(|(body, _)| body.as_str()).collect();
    assert_eq!(names, ["blue /api/x nil", "red /api/x nil"]);
    assert_eq!(client.get("/"), "web / nil");
    assert_eq!(client.get("/user"), "web /seen ada");
    assert_eq!(client.get("/red"), "red /red nil");
    let (status, head, _) = client.ask(&get("/login"));
    assert!(status == 302 && head.contains("Location: /user"), "{head}");
    assert_eq!(client.ask(&get("/no")).0, 403);
    for path in ["/fails", "/nowhere"] {
        assert_eq!(client.ask(&get(path)).0, 500, "{path}");
    }
    assert_eq!(client.get("/"), "web / nil", "and the connection goes on");
}

#[test]
fn backends_are_chosen_as_the_fields_say() {
    let daemon = Daemon::with(&["--workers", "1"]);
    daemon.folder.write("gw.lua", ROUTED);
    daemon.cli("apply gw.lua").ok();
    let mut heavy = Client::new(daemon.port("heavy"));
    let counts: Vec<usize> = spread(&mut heavy, "/", 40).into_iter().map(|it| it.1).collect();
    assert_eq!(counts, [10, 30]);
    // A cookie keeps a client where it is.
    let mut client = Client::new(daemon.port("sticky"));
    let (_, head, first) = client.ask(&get("/"));
    let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    for _ in 0..5 {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=y; {cookie}\r\n\r\n");
        let (_, head, body) = client.ask(&request);
        assert_eq!(body, first);
        assert!(!head.contains("Set-Cookie"), "{head}");
    }
    // So does what is hashed.
    let mut client = Client::new(daemon.port("alike"));
    let mut at = |key: usize| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: k{key}\r\n\r\n");
        client.ask(&request).2
    };
    let places: Vec<String> = (0..30).map(&mut at).collect();
    assert_eq!(places, (0..30).map(&mut at).collect::<Vec<_>>());
    assert!(places.iter().any(|it| *it != places[0]), "{places:?}");
    // Backups wait until they are needed; what an operator says takes effect at once.
    let mut spare = Client::new(daemon.port("spare"));
    assert_eq!(spread(&mut spare, "/", 4), [("red / nil".to_owned(), 4)]);
    daemon.cli("backend spare red maintenance").ok();
    assert_eq!(spread(&mut spare, "/", 4), [("blue / nil".to_owned(), 4)]);
    daemon.cli("backend spare red up").ok();
    assert_eq!(spread(&mut spare, "/", 4), [("red / nil".to_owned(), 4)]);
}

#[test]
fn backends_are_looked_at_and_changed_live() {
    let daemon = Daemon::with(&["--workers", "1"]);
    daemon.folder.write("gw.lua", ROUTED);
    daemon.cli("apply gw.lua").ok();
    let red = format!("127.0.0.1:{}", daemon.port("red"));
    let blue = format!("127.0.0.1:{}", daemon.port("blue"));
    daemon.cli(&format!("create proxy live -p 0 --backend {red},{blue} -s")).ok();
    let mut client = Client::new(daemon.port("live"));
    assert_eq!(spread(&mut client, "/", 10).len(), 2);
    let rows = || -> Vec<serde_json::Value> {
        serde_json::from_str(&daemon.cli("backends live --format json").ok()).unwrap()
    };
    let before = rows();
    assert_eq!(before[0]["address"], red);
    assert_eq!((&before[0]["state"], &before[0]["requests"]), (&"up".into(), &5.into()));
    assert_eq!(daemon.cli(&format!("backend live {red} drain")).ok(), format!("{red}\n"));
    assert_eq!(spread(&mut client, "/", 4), [("blue / nil".to_owned(), 4)]);
    assert_eq!(rows()[0]["state"], "drain");
    daemon.cli(&format!("backend live {red} up --weight 3")).ok();
    let counts: Vec<usize> = spread(&mut client, "/", 40).into_iter().map(|it| it.1).collect();
    assert_eq!(counts, [10, 30]);
    // One is taken off the list, and added again, under the same connection.
    daemon.cli(&format!("edit live --backend {blue}")).ok();
    assert_eq!(spread(&mut client, "/", 4), [("blue / nil".to_owned(), 4)]);
    daemon.cli(&format!("edit live --backend {blue},{red}")).ok();
    assert_eq!(spread(&mut client, "/", 8).len(), 2);
    let code =
        "local rows = socketley.backend('live', BLUE, { state = 'drain' }) return rows[1].state";
    let drained = daemon.cli_words(&["eval", &code.replace("BLUE", &format!("'{blue}'"))]).ok();
    assert!(drained.contains("drain"), "{drained}");
    assert_eq!(spread(&mut client, "/", 4), [("red / nil".to_owned(), 4)]);
    daemon.cli("backend live nobody up").fails(1, &["no backend \"nobody\"", "backends live"]);
    daemon.cli("backend red x up").fails(1, &["\"red\" is a server"]);
    daemon.cli(&format!("backend live {red} sideways")).fails(2, &["sideways", "maintenance"]);
}

#[test]
fn a_sick_backend_is_left_alone_until_it_is_well() {
    let mut daemon = Daemon::with(&["--workers", "1"]);
    let text = r#"
      local well = true
      local a = server "a" {
        port = 0, protocol = "http",
        on_http_request = function(req)
          if req.path == "/fall" then well = false elseif req.path == "/rise" then well = true end
          if req.path == "/health" then return { status = well and 200 or 503, body = "ready" } end
          return "a"
        end,
      }
      local b = server "b" { port = 0, protocol = "http",
        on_http_request = function(req) return req.path == "/health" and "ready" or "b" end }
      proxy "gw" { port = 0, backends = { a, b }, health_check = "http", health_body = "ready",
        health_interval = 1, health_threshold = 1, health_rise = 1 }
    "#;
    daemon.folder.write("gw.lua", text);
    daemon.cli("apply gw.lua").ok();
    let mut client = Client::new(daemon.port("gw"));
    let mut direct = Client::new(daemon.port("a"));
    assert_eq!(spread(&mut client, "/", 10).len(), 2);
    direct.get("/fall");
    daemon.until_logged("backend a is down: it answers 503");
    assert_eq!(spread(&mut client, "/", 6), [("b".to_owned(), 6)]);
    direct.get("/rise");
    daemon.until_logged("backend a is up again");
    assert_eq!(spread(&mut client, "/", 10).len(), 2);
}

/// Clients that ask on and on; how many answers were good, and how many requests failed.
struct Load {
    is_over: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    bad: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

const CLIENTS: usize = 8;

impl Load {
    fn start(port: u16) -> Load {
        let (is_over, good, bad) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Load { is_over, good, bad, threads: Vec::new() };
        for client in 0..CLIENTS {
            let (is_over, good, bad) =
                (Arc::clone(&load.is_over), Arc::clone(&load.good), Arc::clone(&load.bad));
            load.threads.push(std::thread::spawn(move || {
                let mut own = Client::new(port);
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let path = format!("/c{client}-{number}");
                    match own.try_ask(&get(&path)) {
                        Some((200, _, body)) => {
                            assert_eq!(body, path, "an answer to someone else");
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        Some((502..=504, ..)) | None => {
                            bad.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(other) => panic!("{path}: {other:?}"),
                    }
                }
            }));
        }
        load
    }

    /// Waits for so many more good answers.
    fn until_more(&self, count: usize) {
        let wanted = self.good.load(Ordering::Relaxed) + count;
        until("more answers", || (self.good.load(Ordering::Relaxed) >= wanted).then_some(()));
    }

    /// How many requests have failed.
    fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.bad.load(Ordering::Relaxed)
    }
}

fn echo_daemon() -> (Daemon, u16) {
    let daemon = Daemon::with(&["--workers", "1"]);
    let text = r#"server "echo" { port = 0, protocol = "http", on_http_request = function(req) return req.path end }"#;
    daemon.folder.write("echo.lua", text);
    daemon.cli("apply echo.lua").ok();
    let port = daemon.port("echo");
    (daemon, port)
}

/// What was under way at a backend that dies is asked elsewhere; what is at one that hangs is given up, and no more
/// than that.
#[test]
fn a_backend_that_dies_or_hangs_costs_at_most_what_it_had() {
    let daemon = Daemon::start();
    let (first, one) = echo_daemon();
    let (second, two) = echo_daemon();
    let words = format!(
        "create proxy gw -p 0 --backend 127.0.0.1:{one},127.0.0.1:{two} --response-timeout-ms 700 -s"
    );
    daemon.cli(&words).ok();
    let load = Load::start(daemon.port("gw"));
    load.until_more(200);
    let stopped = first.kill9();
    load.until_more(200);
    let failed = load.bad.load(Ordering::Relaxed);
    assert!(failed <= CLIENTS, "{failed} requests failed with the backend that was killed");
    drop(stopped);
    let (third, three) = echo_daemon();
    daemon.cli(&format!("edit gw --backend 127.0.0.1:{three},127.0.0.1:{two}")).ok();
    load.until_more(200);
    let before = load.bad.load(Ordering::Relaxed);
    second.signal("STOP");
    load.until_more(400);
    let failed = load.bad.load(Ordering::Relaxed) - before;
    second.signal("CONT");
    assert!(failed <= CLIENTS, "{failed} requests failed with the backend that hung");
    assert!(load.end() <= 2 * CLIENTS);
    drop((second, third));
}

/// Backends change, and the file with them, while requests come: nobody notices.
#[test]
fn changes_fail_no_request() {
    let daemon = Daemon::start();
    let text = |backends: &str, more: &str| {
        format!(
            r#"
              local function echo(name)
                return server(name) {{ port = 0, protocol = "http", on_http_request = function(req) return req.path end }}
              end
              local a, b, c = echo "a", echo "b", echo "c"
              proxy "gw" {{ port = 0, backends = {{ {backends} }}, {more} }}
            "#
        )
    };
    daemon.folder.write("gw.lua", &text("a, b", ""));
    daemon.cli("apply gw.lua").ok();
    let port = daemon.port("gw");
    until("both workers know the servers' ports", || {
        let is_good = |_| Client::new(port).try_ask(&get("/")).is_some_and(|it| it.0 == 200);
        (0..CLIENTS).all(is_good).then_some(())
    });
    let load = Load::start(daemon.port("gw"));
    load.until_more(100);
    for round in 0..4 {
        let (backends, more) = [
            ("a, c", "strategy = 'least-conn'"),
            ("{ a, weight = 2 }, b, c", "on_route = function(req) return 1 end"),
            ("c", "via = 'x'"),
            ("a, b", "request_headers = { ['X-A'] = 'b' }"),
        ][round];
        daemon.folder.write("gw.lua", &text(backends, more));
        daemon.cli("apply gw.lua").ok();
        load.until_more(50);
        daemon.cli("backend gw a drain --weight 2");
        load.until_more(50);
        daemon.cli("backend gw a up");
        load.until_more(50);
    }
    assert_eq!(load.end(), 0, "{}", daemon.log());
}

/// A proxy that gets its first handler moves to one worker; clients of the other whose next request was on its way were
/// cut off.
#[test]
fn clients_of_a_worker_that_a_proxy_leaves_lose_nothing() {
    let daemon = Daemon::with(&["--workers", "2"]);
    let text = |more: &str| {
        format!(
            r#"
              local a = server "a" {{ port = 0, protocol = "http", on_http_request = function(req) return req.path end }}
              proxy "gw" {{ port = 0, backends = {{ a }}, {more} }}
            "#
        )
    };
    daemon.folder.write("gw.lua", &text(""));
    daemon.cli("apply gw.lua").ok();
    let port = daemon.port("gw");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(port)).collect();
    let mut told = 0;
    for round in 0..4 {
        for client in &mut clients {
            let (status, head, body) = client.ask(&get("/x"));
            assert_eq!((status, body.as_str()), (200, "/x"), "in round {round}");
            told += usize::from(head.contains("Connection: close"));
        }
        let more = if round % 2 == 0 { "on_route = function(req) return 0 end" } else { "" };
        daemon.folder.write("gw.lua", &text(more));
        daemon.cli("apply gw.lua").ok();
    }
    assert!(told > 0, "the proxy has left a worker that had clients");
}
