//! HTTP as clients see it: curl and wrk as judges, and bytes that no good client sends.

use std::process::Command;

use crate::support::{Daemon, Peer, free_port, has_judge, run};

fn serve(text: &str) -> (Daemon, u16) {
    let daemon = Daemon::start();
    let port = free_port();
    let path = daemon.folder.write("web.lua", &text.replace("PORT", &port.to_string()));
    daemon.cli_words(&["apply", &path]).ok();
    (daemon, port)
}

/// One answer of a connection that is kept: its head and its body, by its Content-Length.
fn answer(peer: &mut Peer) -> (String, String) {
    let mut head = String::new();
    loop {
        let line = peer.hear();
        if line == "\r" {
            break;
        }
        head.push_str(line.trim_end());
        head.push('\n');
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    let body = peer.hear_exactly(length);
    (head, String::from_utf8(body).unwrap())
}

fn curl(words: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--path-as-is"]).args(words);
    run(command, "").ok()
}

const APP: &str = r#"
server "web" {
  port = PORT,
  max_body = "64kb",
  on_http_request = function(req, res)
    if req.path == "/slow" then sleep(0.05) return "slow" end
    if req.path == "/form" then return { json = { form = req:form(), query = req.query } } end
    if req.path == "/headers" then
      return { status = 203, headers = { ["X-Seen"] = req:header("x-ask"), ["Set-Cookie"] = { "a=1", "b=2" } },
        body = req.cookies.c }
    end
    if req.path == "/bad" then return { headers = { ["X-A"] = "x\r\nX-B: injected" } } end
    if req.path == "/pieces" then for i = 1, 3 do res:write(i .. "\n") sleep(0.01) end return end
    if req.path == "/large" then for i = 1, 64 do res:write(string.rep("x", 65536)) end return end
    if req.path == "/pass" then return nil end
    return { redirect = "/elsewhere" }
  end,
  routes = {
    ["GET /constant"] = "constant",
    ["GET /users/:id"] = function(req) return "user " .. req.params.id end,
    ["PUT /upload"] = { stream = true, handler = function(req)
      local bytes = 0
      for piece in req:chunks() do bytes = bytes + #piece end
      return "took " .. bytes
    end },
  },
}
"#;

/// The original answered the first request and ignored the rest.
#[test]
fn a_pipeline_is_answered_in_its_order() {
    let (daemon, port) = serve(APP);
    let mut peer = Peer::connect(port);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let paths = ["/slow", "/constant", "/users/a%20b", "/pass", "/slow", "/bad", "/constant"];
    peer.send(paths.map(get).concat().as_bytes());
    let expected = [
        "slow",
        "constant",
        "user a b",
        "404 Not Found\n",
        "slow",
        "500 Internal Server Error\n",
        "constant",
    ];
    for body in expected {
        assert_eq!(answer(&mut peer).1, body);
    }
    peer.send(b"HEAD /constant HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let rest = peer.rest();
    assert!(
        rest.contains("Content-Length: 8\r\n") && rest.ends_with("Connection: close\r\n\r\n"),
        "{rest}"
    );
    assert!(daemon.log().contains("control character"), "{}", daemon.log());
    assert_eq!(daemon.row("web")["connections"], 0);
}

/// What could be understood in two ways is refused, and the refusal arrives.
#[test]
fn doubtful_requests_are_refused_and_closed() {
    let (daemon, port) = serve(APP);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\nHost: a\n\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
    ] {
        let mut peer = Peer::connect(port);
        peer.send(request.as_bytes());
        peer.try_send(&[b'x'; 100_000]);
        let text = peer.rest();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {text}");
    }
    daemon.until_row("web", |row| row["connections"] == 0);
}

#[test]
fn curl_gets_what_handlers_answer() {
    if !has_judge("curl") {
        return;
    }
    let (_daemon, port) = serve(APP);
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(curl(&[&at("/constant"), &at("/users/7")]), "constantuser 7");
    let form = curl(&["-d", "a=1+2&b=%26", &at("/form?q=x%20y")]);
    assert_eq!(form, r#"{"form":{"a":"1 2","b":"&"},"query":{"q":"x y"}}"#);
    let seen = curl(&["-i", "-H", "X-Ask: me", "-H", "Cookie: b=1; c=two", &at("/headers")]);
    for part in [
        "203 Non-Auth",
        "X-Seen: me\r\n",
        "Set-Cookie: a=1\r\n",
        "Set-Cookie: b=2\r\n",
        "\r\n\r\ntwo",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    assert_eq!(curl(&[&at("/pieces")]), "1\n2\n3\n");
    assert_eq!(curl(&["-0", &at("/pieces")]), "1\n2\n3\n");
    assert_eq!(curl(&[&at("/large")]).len(), 64 * 65536);
    assert!(curl(&["-i", &at("/x")]).contains("302 Found\r\n"));
    let big = "b".repeat(300_000);
    for framing in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "-T", "-"]).args(framing).arg(at("/upload"));
        assert_eq!(run(command, &big).ok(), "took 300000");
    }
    let refused = curl(&["-i", "-X", "DELETE", &at("/constant")]);
    assert!(refused.contains("302 Found"), "the handler sees what no route takes: {refused}");
}

#[test]
fn curl_gets_files_and_parts_of_them() {
    if !has_judge("curl") {
        return;
    }
    let daemon = Daemon::start();
    let port = free_port();
    let style = "body { color: red }\n".repeat(1000);
    daemon.folder.write("site/index.html", "<h1>home</h1>");
    daemon.folder.write("site/sub/index.html", "sub");
    daemon.folder.write("site/style.css", &style);
    daemon.folder.write("site/large.bin", &"0123456789".repeat(100_000));
    daemon.folder.write("site/.env", "secret");
    daemon.folder.write("outside", "outside");
    std::os::unix::fs::symlink("../outside", daemon.folder.join("site/link")).unwrap();
    let text = format!("server 'web' {{ port = {port}, static = 'site' }}");
    let path = daemon.folder.write("web.lua", &text);
    daemon.cli_words(&["apply", &path]).ok();
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(curl(&[&at("/")]), "<h1>home</h1>");
    assert_eq!(curl(&["-L", &at("/sub")]), "sub");
    assert_eq!(curl(&["--compressed", &at("/style.css")]), style);
    let packed = curl(&["-I", "-H", "Accept-Encoding: gzip", &at("/style.css")]);
    assert!(packed.contains("Content-Encoding: gzip") && packed.contains("text/css"), "{packed}");
    assert_eq!(curl(&[&at("/large.bin")]).len(), 1_000_000);
    assert_eq!(curl(&["-r", "999995-", &at("/large.bin")]), "56789");
    assert_eq!(curl(&["-r", "-3", &at("/style.css")]), " }\n");
    let head = curl(&["-I", &at("/large.bin")]);
    let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().trim();
    let same = format!("If-None-Match: {tag}");
    assert!(curl(&["-i", "-H", &same, &at("/large.bin")]).starts_with("HTTP/1.1 304 "));
    let other = format!("If-Match: {}x\"", tag.trim_end_matches('"'));
    assert!(curl(&["-i", "-H", &other, &at("/large.bin")]).starts_with("HTTP/1.1 412 "));
    for path in [
        "/.env",
        "/link",
        "/../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/sub/../../outside",
        "/none",
    ] {
        let answer = curl(&["-i", &at(path)]);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    let refused = curl(&["-i", "-X", "POST", &at("/")]);
    assert!(
        refused.starts_with("HTTP/1.1 405 ") && refused.contains("Allow: GET, HEAD"),
        "{refused}"
    );
    daemon.folder.write("site/index.html", "<h1>changed</h1>");
    crate::support::until("the changed file", || {
        (curl(&[&at("/")]) == "<h1>changed</h1>").then_some(())
    });
    daemon.folder.write("web.lua", &text.replace("'site'", "'nowhere'"));
    let problem = daemon.cli_words(&["check", &path]);
    problem.fails(1, &["static", "nowhere"]);
}

#[test]
fn wrk_finds_no_error() {
    if !has_judge("wrk") {
        return;
    }
    let (_daemon, port) = serve(APP);
    for path in ["/constant", "/users/7", "/slow"] {
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c16", "-d1s", &format!("http://127.0.0.1:{port}{path}")]);
        let text = run(command, "").ok();
        assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{path}: {text}");
        assert!(!text.contains(" 0 requests in"), "{path}: {text}");
    }
}

/// A script in the original's style: a global function, a plain table in, a plain table out.
#[test]
fn the_originals_on_http_request_works() {
    let daemon = Daemon::start();
    let script = daemon.folder.write(
        "old.lua",
        "function on_http_request(req)\n  return { status = 202, headers = { ['X-Method'] = req.method },\n    \
         body = req.path .. ' ' .. req.query .. ' ' .. req.body .. ' ' .. req.headers.host }\nend\n",
    );
    daemon.cli_words(&["create", "server", "old", "-p", "0", "--lua", &script, "-s"]).ok();
    let mut peer = Peer::connect(daemon.port("old"));
    peer.send(b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
    let (head, body) = answer(&mut peer);
    assert!(
        head.starts_with("HTTP/1.1 202 Accepted\n") && head.contains("X-Method: POST"),
        "{head}"
    );
    assert_eq!(body, "/a b=c hi h");
}
