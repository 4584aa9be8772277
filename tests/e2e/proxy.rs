//! HTTP proxies of a real daemon: the conformance suite, which plays clients and a hostile backend, and curl.

use std::process::Command;

use crate::support::{Daemon, Peer, free_port, has_judge, project, run, until};

fn curl(words: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--path-as-is"]).args(words);
    run(command, "").ok()
}

/// The original answered 503 after five good requests, knew one path only and broke WebSockets. HAProxy 2.6 passes 245 of
/// these cases and nginx 1.22 246.
#[test]
fn the_conformance_suite_finds_nothing() {
    if !has_judge("python3") {
        return;
    }
    let daemon = Daemon::start();
    let backend = free_port();
    daemon.cli(&format!("create proxy gw -p 0 --backend 127.0.0.1:{backend} -s")).ok();
    let mut suite = Command::new("python3");
    suite
        .arg(project("tests/e2e/http1_proxy_conformance.py"))
        .args(["127.0.0.1", &daemon.port("gw").to_string()])
        .args(["--backend-port", &backend.to_string(), "--jobs", "16", "--timeout", "20"]);
    let judged = run(suite, "");
    let last = judged.out.lines().last().unwrap_or_default();
    assert_eq!(last, "254 passed, 0 failed, 2 skipped", "{}{}", judged.out, judged.err);
}

const ECHO: &str = r#"
local far = server "far" {
  port = 0, protocol = "http",
  on_http_request = function(req)
    local lines = { req.method .. " " .. req.path .. (req.query_string ~= "" and "?" .. req.query_string or "") }
    for name, value in pairs(req.headers) do lines[#lines + 1] = name .. ": " .. value end
    table.sort(lines)
    return { body = table.concat(lines, "\n"), headers = { Server = "far", ["X-Own"] = "1" } }
  end,
}
proxy "gw" {
  port = 0, backends = { far }, access_log = true,
  strip_prefix = "/api", add_prefix = "/v1", via = "edge", forwarded = "both", trusted_proxies = { "127.0.0.0/8" },
  request_headers = { ["X-Added"] = "yes", ["User-Agent"] = false },
  response_headers = { Server = false, ["X-Answer"] = "changed" },
}
"#;

#[test]
fn heads_are_changed_as_the_fields_say() {
    if !has_judge("curl") {
        return;
    }
    let mut daemon = Daemon::start();
    daemon.folder.write("gw.lua", ECHO);
    daemon.cli("apply gw.lua").ok();
    let url = format!("http://127.0.0.1:{}", daemon.port("gw"));
    let before = "X-Forwarded-For: 203.0.113.9";
    let seen = curl(&["-i", "-H", before, "-H", "Host: shop.example", &format!("{url}/api/a?b=c")]);
    for line in [
        "HTTP/1.1 200 OK",
        "X-Answer: changed",
        "X-Own: 1",
        "GET /v1/a?b=c",
        "host: shop.example",
        "x-forwarded-for: 203.0.113.9, 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example",
        "forwarded: for=127.0.0.1;host=\"shop.example\";proto=http",
        "via: 1.1 edge",
        "x-added: yes",
    ] {
        assert!(seen.lines().any(|it| it.trim_end() == line), "no {line} in {seen}");
    }
    assert!(!seen.contains("Server:") && !seen.contains("user-agent"), "{seen}");
    // A path that only begins like the prefix isn't below it.
    let seen = curl(&[&format!("{url}/apis")]);
    assert!(seen.contains("GET /v1/apis"), "{seen}");
    daemon.until_logged("\"GET /api/a?b=c HTTP/1.1\" 200");
}

/// Client → proxy that ends TLS → TLS to the backend, which wants to see a certificate.
#[test]
fn tls_ends_and_begins_again() {
    if !has_judge("curl") {
        return;
    }
    let daemon = Daemon::start();
    daemon.cli("cert").ok();
    let text = r#"
      server "far" {
        port = 0, protocol = "http", tls = true, cert = "localhost.pem", key = "localhost.key", ca = "ca.pem",
        on_http_request = function(req) return req.method .. " " .. req:header "x-forwarded-proto" .. " " .. req.scheme end,
      }
    "#;
    daemon.folder.write("far.lua", text);
    daemon.cli("apply far.lua").ok();
    let pair = "--cert localhost.pem --key localhost.key";
    let shown = "--client-cert localhost.pem --client-key localhost.key";
    let backend = format!("--backend localhost:{} --backend-tls", daemon.port("far"));
    daemon
        .cli(&format!("create proxy gw -p 0 --tls {pair} {backend} --client-ca ca.pem {shown} -s"))
        .ok();
    let (port, ca) = (daemon.port("gw"), daemon.folder.join("ca.pem"));
    let url = format!("https://localhost:{port}/");
    let ca = ca.to_str().unwrap();
    // Twice over one connection, the second with a body.
    let seen = curl(&["--cacert", ca, &url, "--next", "-sS", "--cacert", ca, "-d", "x", &url]);
    assert_eq!(seen, "GET https httpsPOST https https");
    // A backend that can't be trusted isn't asked.
    daemon.cli(&format!("create proxy doubt -p 0 {backend} -s")).ok();
    let url = format!("http://127.0.0.1:{}/", daemon.port("doubt"));
    assert!(curl(&["-i", &url]).starts_with("HTTP/1.1 502 "));
    assert!(daemon.cli("logs doubt").ok().contains("UnknownIssuer"));
}

/// TLS that isn't ended goes where its name says, and HTTP where its Host says.
#[test]
fn names_say_where_to_go() {
    if !has_judge("curl") {
        return;
    }
    let daemon = Daemon::start();
    daemon.cli("cert a.test b.test").ok();
    let text = r#"
      local function far(name)
        return server(name) {
          port = 0, protocol = "http", tls = "optional", cert = "a.test.pem", key = "a.test.key",
          on_http_request = function(req) return name .. " " .. req.host .. " " .. req.scheme end,
        }
      end
      local a, b = far "a", far "b"
      proxy "pass" { port = 0, protocol = "tcp", backends = { a, b },
        hosts = { ["a.test"] = "a", ["*.b.test"] = "b" } }
      proxy "gw" { port = 0, backends = { a, b }, hosts = { ["a.test"] = "a", ["*"] = "b" } }
      proxy "only" { port = 0, backends = { a, b }, hosts = { ["a.test"] = "a" } }
    "#;
    daemon.folder.write("names.lua", text);
    daemon.cli("apply names.lua").ok();
    let pass = daemon.port("pass");
    let ask = |host: &str| {
        let to = format!("{host}:443:127.0.0.1:{pass}");
        curl(&["-k", "--connect-to", &to, &format!("https://{host}/")])
    };
    assert_eq!(ask("a.test"), "a a.test https");
    assert_eq!(ask("x.b.test"), "b x.b.test https");
    for host in ["c.test", "localhost"] {
        let mut command = Command::new("curl");
        let to = format!("{host}:443:127.0.0.1:{pass}");
        command.args(["-sk", "--max-time", "20", "--connect-to", &to, &format!("https://{host}/")]);
        assert_ne!(run(command, "").code, 0, "{host}");
    }
    let url = format!("http://127.0.0.1:{}/", daemon.port("gw"));
    assert_eq!(curl(&["-H", "Host: A.test:80", &url]), "a A.test:80 http");
    assert_eq!(curl(&["-H", "Host: other", &url]), "b other http");
    let url = format!("http://127.0.0.1:{}/", daemon.port("only"));
    assert!(curl(&["-i", "-H", "Host: other", &url]).starts_with("HTTP/1.1 421 "));
}

/// `@web` is all runtimes of that group that run now.
#[test]
fn a_group_grows_and_shrinks() {
    if !has_judge("curl") {
        return;
    }
    let daemon = Daemon::with(&["--workers", "1"]);
    let text = |name: &str| {
        format!(
            r#"server "{name}" {{ port = 0, protocol = "http", group = "web",
              on_http_request = function() return "{name} " end }}"#
        )
    };
    daemon.folder.write("one.lua", &text("one"));
    daemon.cli("apply one.lua").ok();
    daemon.cli("create proxy gw -p 0 --backend @web -s").ok();
    let url = format!("http://127.0.0.1:{}/", daemon.port("gw"));
    let four = || {
        let mut seen: Vec<String> = (0..4).map(|_| curl(&[&url])).collect();
        seen.sort();
        seen.concat()
    };
    assert_eq!(four(), "one one one one ");
    daemon.folder.write("two.lua", &text("two"));
    daemon.cli("apply two.lua").ok();
    until("both", || (four() == "one one two two ").then_some(()));
    daemon.cli("stop one").ok();
    until("the other", || (four() == "two two two two ").then_some(()));
}

/// Backends learn whom a stream or a request comes from before anything else.
#[test]
fn backends_are_told_of_clients_by_the_proxy_protocol() {
    if !has_judge("curl") {
        return;
    }
    let daemon = Daemon::start();
    let text = r#"
      local far = server "far" {
        port = 0, proxy_protocol = { "127.0.0.1" },
        on_http_request = function(req) return req.ip end,
        on_message = function(conn) conn:send(conn.ip) end,
      }
      proxy "last" { port = 0, backends = { far }, send_proxy = "v2", proxy_protocol = { "127.0.0.1" } }
      proxy "first" { port = 0, backends = { "last" }, send_proxy = "v1", proxy_protocol = { "127.0.0.1" } }
      proxy "lines" { port = 0, protocol = "tcp", backends = { far }, send_proxy = "v2", proxy_protocol = { "127.0.0.1" } }
    "#;
    daemon.folder.write("chain.lua", text);
    daemon.cli("apply chain.lua").ok();
    let mut client = Peer::connect(daemon.port("lines"));
    client.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 5 6\r\nwho\n");
    client.hears(&["203.0.113.9"]);
    let mut client = Peer::connect(daemon.port("first"));
    client.send(b"PROXY TCP4 203.0.113.8 127.0.0.1 5 6\r\nGET / HTTP/1.0\r\n\r\n");
    let answer = client.rest();
    assert!(answer.contains("203.0.113.8"), "{answer}");
}
