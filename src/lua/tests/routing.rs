//! Proxied requests: what `on_route` sees of them, and what becomes of its answers.

use super::*;
use crate::proto::http1::parse_request;

const HEAD: &str = "GET /api/x?y=1 HTTP/1.1\r\nHost: shop\r\nX-User: ada\r\n\r\n";

fn ask(host: &mut TestHost) -> Vec<String> {
    let mut fields = Vec::new();
    let request = parse_request(HEAD.as_bytes(), 0, &mut fields).expect("a request");
    let event = HttpRequest {
        number: 0,
        route: None,
        head: HEAD.as_bytes(),
        request: &request,
        fields: &fields,
        parameters: &[],
        body: &[],
        tls: true,
    };
    host.vm.on_open(runtime(0), connection(1), &peer(1));
    host.vm.on_route_request(runtime(0), connection(1), &event);
    host.turn();
    host.take()
}

/// What the code of an `on_route` leads to.
fn routes(code: &str) -> Vec<String> {
    let text = format!("proxy 's' {{ on_route = function(req) {code} end }} server 'web' {{}}");
    ask(&mut TestHost::new(&text))
}

#[test]
fn requests_are_seen_and_answers_understood() {
    let changes = |what: &str| format!("route 1 Changes(RouteChanges {{ {what} }})");
    let default = "route 1 Default".to_owned();
    let cases = [
        ("return nil", vec![default.clone()]),
        ("return 1", vec!["route 1 Index(1)".to_owned()]),
        (
            "return req.path:starts '/api' and 'api' or 'web'",
            vec!["route 1 Name(\"api\")".to_owned()],
        ),
        ("return server.web", vec!["route 1 Name(\"web\")".to_owned()]),
        (
            "return req.method .. req.host .. req:header 'x-user' .. req.ip .. req.scheme .. req.query.y",
            vec!["route 1 Name(\"GETshopada10.0.0.1https1\")".to_owned()],
        ),
        (
            "return { upstream = 'api', path = '/v2?z=1', timeout = '2s', headers = { ['X-A'] = 1 } }",
            vec![
                changes(
                    "path: Some(\"/v2?z=1\"), headers: [(\"X-A\", Some(\"1\"))], timeout_ms: Some(2000)",
                ),
                "route 1 Name(\"api\")".to_owned(),
            ],
        ),
        (
            "return { headers = { Cookie = false } }",
            vec![
                changes("path: None, headers: [(\"Cookie\", None)], timeout_ms: None"),
                default.clone(),
            ],
        ),
        ("return { redirect = '/login' }", vec!["http 1 0 302 [Location: /login\r\n] ".to_owned()]),
        (
            "return { status = 403, body = 'no' }",
            vec!["http 1 0 403 [Content-Type: text/plain; charset=utf-8\r\n] no".to_owned()],
        ),
        ("sleep(0.01) return 0", vec![]),
    ];
    for (code, expected) in cases {
        assert_eq!(routes(code), expected, "{code}");
    }
}

/// A script that fails must not let anybody through.
#[test]
fn errors_fail_closed() {
    for (code, problem) in [
        ("error 'meant'", "meant"),
        ("return true", "expected a backend's index, a name, a table or nil, got boolean"),
        ("return -1", "got number"),
        ("return { path = 'x' }", "path: expected a path such as"),
        ("return { path = '/a\\r\\nb' }", "path: expected a path such as"),
        ("return { upstream = {} }", "upstream: expected"),
        ("return { timeout = 'soon' }", "timeout: expected a time"),
        ("return { headers = { ['X-A'] = 'a\\r\\nX-B: c' } }", "line end"),
        ("return { headers = { Host = 'x' } }", "the proxy's own business"),
        ("return { status = 99 }", "status: expected 200 to 599"),
    ] {
        let seen = routes(code);
        assert_eq!(seen.last().map(String::as_str), Some("route 1 Refused"), "{code}: {seen:?}");
        assert!(seen.concat().contains(problem), "{code}: {seen:?}");
    }
}

#[test]
fn the_way_may_be_waited_for() {
    let text = "proxy 's' { on_route = function(req) sleep(0.01) return 2 end }";
    let mut host = TestHost::new(text);
    assert_eq!(ask(&mut host), Vec::<String>::new());
    host.pass(20);
    assert_eq!(host.take(), ["route 1 Index(2)"]);
}

/// The original's scripts get the method and the path.
#[test]
fn the_original_asks_by_method_and_path() {
    let text = "function on_route(method, path) return method == 'GET' and path == '/api/x' and 1 or 0 end";
    let mut host = TestHost::original(RuntimeKind::Proxy, text);
    assert_eq!(ask(&mut host), ["route 1 Index(1)"]);
}
