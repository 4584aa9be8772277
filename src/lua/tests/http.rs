//! Requests through a VM: what handlers see and what becomes of their answers.

use super::*;
use crate::proto::http1::parse_request;

/// Hands a request's head and body to the first runtime, as its number.
fn request(host: &mut TestHost, number: u32, route: Option<u32>, head: &str, body: &str) {
    let mut fields = Vec::new();
    let parsed = parse_request(head.as_bytes(), 0, &mut fields).expect("a request");
    let path = parsed.path_and_query.of(head.as_bytes());
    let last = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0) + 1;
    let parameters = [(last as u16, (path.len() - last) as u16)];
    let event = HttpRequest {
        number,
        route,
        head: head.as_bytes(),
        request: &parsed,
        fields: &fields,
        parameters: &parameters,
        body: body.as_bytes(),
        tls: false,
    };
    host.vm.on_request(runtime(0), connection(1), &event);
}

/// What a handler's code answers, as lines of what was seen.
fn answers(code: &str, head: &str, body: &str) -> Vec<String> {
    let text = format!("server 's' {{ on_http_request = function(req, res) {code} end }}");
    let mut host = TestHost::new(&text);
    host.vm.on_visit(runtime(0), connection(1), &peer(1));
    request(&mut host, 7, None, head, body);
    host.turn();
    host.take()
}

const GET: &str = "GET /a/b%20c?x=1&y=%26&z HTTP/1.1\r\nHost: h:80\r\nX-One: 1\r\nx-one: 2\r\nCookie: a=b; c=d\r\n\r\n";

#[test]
fn a_request_shows_what_was_sent() {
    for (expression, expected) in [
        ("req.method", "GET"),
        ("req.path", "/a/b%20c"),
        ("req.query_string", "x=1&y=%26&z"),
        ("req.query.x .. req.query.y .. '[' .. req.query.z .. ']'", "1&[]"),
        ("req.version", "1.1"),
        ("req.host", "h:80"),
        ("req:header 'X-ONE'", "1"),
        ("req.headers['x-one']", "1, 2"),
        ("tostring(req:header 'x-two')", "nil"),
        ("req.cookies.a .. req.cookies.c", "bd"),
        ("req.ip .. ' ' .. req.port", "10.0.0.1 4000"),
        ("req.body", "the body"),
        ("req:read() .. tostring(req:read())", "the bodynil"),
        ("tostring(req)", "GET /a/b%20c"),
        ("tostring(req.nothing)", "nil"),
    ] {
        let seen = answers(&format!("socketley.log({expression})"), GET, "the body");
        assert_eq!(seen[0], format!("log {expected}"), "{expression}");
    }
}

/// What a handler's answer becomes: the act, its status, its fields and its body.
#[test]
fn answers_take_many_forms() {
    let text = "Content-Type: text/plain; charset=utf-8\r\n";
    let cases = [
        ("return 'hi'", format!("200 [{text}] hi")),
        ("return 204", "204 [] ".to_owned()),
        ("return { body = 'b', status = 201 }", format!("201 [{text}] b")),
        ("return { json = { 1, 2 } }", "200 [Content-Type: application/json\r\n] [1,2]".to_owned()),
        (
            "return { headers = { ['Content-Type'] = 'x/y' }, body = 'b' }",
            "200 [Content-Type: x/y\r\n] b".to_owned(),
        ),
        ("return { headers = { ['Content-Length'] = '99' } }", "200 [] ".to_owned()),
        ("return { redirect = '/x' }", "302 [Location: /x\r\n] ".to_owned()),
        ("res:status(202):header('X-A', 1):send('b')", format!("202 [X-A: 1\r\n{text}] b")),
        (
            "return res:json { a = 1 }",
            "200 [Content-Type: application/json\r\n] {\"a\":1}".to_owned(),
        ),
        (
            "return res:html('<p>')",
            "200 [Content-Type: text/html; charset=utf-8\r\n] <p>".to_owned(),
        ),
        // What was set before holds for an answer by value: middleware sets headers and then answers next().
        ("res:header('X-A', 1) return 'b'", format!("200 [X-A: 1\r\n{text}] b")),
        ("res:status(201):header('X-A', 1) return 'b'", format!("201 [X-A: 1\r\n{text}] b")),
        ("res:header('X-A', 1) return 204", "204 [X-A: 1\r\n] ".to_owned()),
        (
            "res:header('X-A', 1) return { headers = { ['X-B'] = 2 }, body = 'b' }",
            format!("200 [X-A: 1\r\nX-B: 2\r\n{text}] b"),
        ),
        (
            "res:header('Content-Type', 'x/y') return 'b'",
            "200 [Content-Type: x/y\r\n] b".to_owned(),
        ),
        ("res:status(201) return { redirect = '/x' }", "302 [Location: /x\r\n] ".to_owned()),
        ("return nil", "Pass".to_owned()),
        ("error('x')", "Fail".to_owned()),
        ("return true", "Fail".to_owned()),
        ("return { status = 99 }", "Fail".to_owned()),
        ("return { headers = { ['X'] = 'a\\r\\nY: b' } }", "Fail".to_owned()),
        ("return { headers = { ['X Y'] = 'a' } }", "Fail".to_owned()),
        ("return { headers = { [{}] = {} } }", "Fail".to_owned()),
        ("return { json = 0/0 }", "Fail".to_owned()),
        ("return { html = setmetatable({}, { __tostring = error }) }", "Fail".to_owned()),
        ("res:send('a') res:send('b')", format!("200 [{text}] a")),
        ("res:status(600)", "Fail".to_owned()),
    ];
    for (code, expected) in cases {
        let seen = answers(code, GET, "");
        let acts: Vec<&String> = seen.iter().filter(|line| line.starts_with("http ")).collect();
        assert_eq!(acts.len(), 1, "{code}: {seen:?}");
        assert_eq!(*acts[0], format!("http 1 7 {expected}"), "{code}");
        let has_failed = seen.iter().any(|line| line.starts_with("failed"));
        assert_eq!(
            has_failed,
            expected == "Fail" || code.contains("res:send('b')"),
            "{code}: {seen:?}"
        );
    }
}

#[test]
fn middleware_stands_round_routes_constants_and_the_rest() {
    let text = "server 's' { middleware = {
        function(req, res, next) socketley.log('one') local answer = next() socketley.log('after') return answer end,
        function(req, res, next) if req.path == '/no/x' then return 403 end return next() end,
      },
      routes = { ['GET /c/:n'] = 'constant', ['GET /f/:n'] = function(req) return 'n ' .. req.params.n end } }";
    let mut host = TestHost::new(text);
    host.vm.on_visit(runtime(0), connection(1), &peer(1));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    for (number, route, path, expected) in [
        (1, Some(0), "/c/1", "constant"),
        (2, Some(1), "/f/a%20b", "n a b"),
        (3, None, "/no/x", "403"),
        (4, None, "/other/x", "Pass"),
    ] {
        request(&mut host, number, route, &get(path), "");
        host.turn();
        let seen = host.take();
        assert_eq!(seen.first().map(String::as_str), Some("log one"), "{path}");
        let act = seen.iter().find(|line| line.starts_with("http ")).expect("an answer");
        assert!(act.contains(expected), "{path}: {act}");
    }
}

/// A request that comes while another's handler waits is served after it.
#[test]
fn requests_of_one_connection_are_served_in_order() {
    let text = "server 's' { on_http_request = function(req) if req.path == '/slow' then sleep(0.1) end return req.path end }";
    let mut host = TestHost::new(text);
    host.vm.on_visit(runtime(0), connection(1), &peer(1));
    for (number, path) in [(1, "/slow"), (2, "/fast")] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        request(&mut host, number, None, &head, "");
    }
    host.turn();
    assert!(host.take().is_empty());
    host.pass(100);
    let seen = host.take();
    let paths: Vec<&str> = seen.iter().map(|line| line.rsplit(' ').next().unwrap_or("")).collect();
    assert_eq!(paths, ["/slow", "/fast"]);
}
