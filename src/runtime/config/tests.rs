//! Fields as users write them, and what comes of it.

use serde_json::{Map, Value, json};

use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("the test gives a table").clone()
}

fn parse(kind: RuntimeKind, fields: Value) -> Result<RuntimeConfig, String> {
    RuntimeConfig::parse(kind, "x", &object(fields)).map_err(|errors| {
        let texts: Vec<String> = errors
            .iter()
            .map(|error| format!("{error} {}", error.hint.as_deref().unwrap_or_default()))
            .collect();
        texts.join("; ")
    })
}

#[test]
fn good_fields_are_written_out_as_they_came() {
    use RuntimeKind::*;
    let cases = [
        (Server, json!({"port": 9000})),
        (Server, json!({"port": "0.0.0.0:9000", "mode": "in", "max_connections": 5})),
        (Server, json!({"port": 8000, "framing": {"length": 2}, "workers": "all"})),
        (Server, json!({"port": "[::1]:0", "framing": "raw", "lua": "a.lua", "autostart": true})),
        (Server, json!({"port": 1, "protocol": "lines", "detect_ms": 5})),
        (Server, json!({"port": 1, "protocol": "http"})),
        (Server, json!({"port": 1, "protocol": "websocket", "subprotocols": ["v2", "v1"]})),
        (Server, json!({"port": 1, "origins": ["https://a.org"], "deflate": false, "ping_ms": 0})),
        (
            Server,
            json!({"port": 1, "static": "/srv", "routes": {"GET /": "x"}, "max_body": 5, "access_log": true}),
        ),
        (
            Server,
            json!({"port": 1, "static": {"prefix": "/a/", "index": "i", "max_age": 5, "gzip": false, "path": "b"}}),
        ),
        (Client, json!({"target": "db.example.org:80", "reconnect": -1})),
        (Client, json!({"target": "127.0.0.1:8000", "reconnect": 7})),
        (
            Proxy,
            json!({"port": 8080, "protocol": "tcp", "backends": ["a:1", "chat"], "strategy": "random"}),
        ),
        (
            Proxy,
            json!({
                "port": 1, "protocol": "http", "backends": ["a:1"], "host": "backend", "forwarded": "both",
                "trusted_proxies": ["10.0.0.0/8"], "via": "edge", "strip_prefix": "/api", "add_prefix": "/v1",
                "request_headers": {"X-A": "1", "X-B": false}, "response_headers": {"Server": false},
                "connect_timeout_ms": 5, "response_timeout_ms": 6, "stall_timeout_ms": 7,
                "request_timeout_ms": 8, "access_log": true, "strategy": "hash", "hash_on": "cookie:id",
                "hosts": {"a.example": "a:1", "*": "a:1"}, "group": "edge",
                "sticky": "backend", "retry": 1, "retry_all": true, "circuit_threshold": 9, "circuit_timeout": 4,
                "slow_start": 3, "backend_limit": 100, "queue_ms": 50, "health_check": "http",
                "health_path": "/up", "health_status": "200-204", "health_body": "ok", "health_interval": 1,
                "health_timeout_ms": 5, "health_threshold": 4, "health_rise": 5,
            }),
        ),
        (Cache, json!({"port": 6379, "mode": "readonly", "password": "s3cret"})),
    ];
    for (kind, fields) in cases {
        let config = parse(kind, fields.clone()).unwrap();
        assert_eq!(Value::Object(config.to_fields()), fields);
    }
}

#[test]
fn several_spellings_mean_the_same() {
    use RuntimeKind::*;
    let cases = [
        (Server, json!({"listen": "9000"}), json!({"port": 9000.0})),
        (Server, json!({"port": 1, "max-conn": "5"}), json!({"port": 1, "max_connections": 5})),
        (Server, json!({"protocol": "raw"}), json!({"framing": "raw"})),
        (Client, json!({"reconnect": true}), json!({"reconnect": 0})),
        (
            Proxy,
            json!({"protocol": "tcp", "backend": "127.0.0.1:1, b=chat"}),
            json!({"protocol": "tcp", "upstreams": ["127.0.0.1:1", "b=chat"]}),
        ),
        (
            Proxy,
            json!({"protocol": "tcp", "upstreams": {"api": ["127.0.0.1:1"], "web": "chat"}}),
            json!({"protocol": "tcp", "backends": "api=127.0.0.1:1,web=chat"}),
        ),
        (Proxy, json!({"protocol": "tcp", "strategy": "round_robin"}), json!({"protocol": "tcp"})),
        (Proxy, json!({"strategy": "p2c"}), json!({"strategy": "two-choices"})),
        (
            Proxy,
            json!({"upstreams": {"api": {"1": "a:1", "2": {"1": "b:1", "weight": 3}, "strategy": "least_conn"}, "w": "c"}}),
            json!({"backends": "api=a:1 strategy=least-conn, api=b:1 weight=3, w=c"}),
        ),
        (
            Proxy,
            json!({"backends": ["a:1", {"1": "b:1", "weight": 1, "backup": true}]}),
            json!({"backends": "a:1,b:1  backup"}),
        ),
        (Cache, json!({"access": "admin", "resp": true}), json!({"mode": "admin"})),
    ];
    for (kind, left, right) in cases {
        assert_eq!(parse(kind, left).unwrap(), parse(kind, right).unwrap());
    }
}

#[test]
fn a_websockets_address_says_it_all() {
    for (address, target, path, secure) in [
        ("ws://example.org", "example.org:80", "/", false),
        ("wss://example.org/a/b?c=d", "example.org:443", "/a/b?c=d", true),
        ("ws://[::1]:9000?x", "[::1]:9000", "/?x", false),
        ("ws://[::1]/", "[::1]:80", "/", false),
    ] {
        let config = parse(RuntimeKind::Client, json!({"target": address})).unwrap();
        assert_eq!(config.target.as_deref(), Some(target), "{address}");
        assert_eq!(config.websocket.path, path, "{address}");
        assert_eq!(config.protocol, Protocol::WebSocket);
        assert_eq!(config.tls.mode == crate::net::tls::Mode::On, secure, "{address}");
        let fields = config.to_fields();
        assert_eq!(RuntimeConfig::parse(RuntimeKind::Client, "x", &fields).unwrap(), config);
    }
}

#[test]
fn a_wrong_address_of_a_websocket_says_what_was_expected() {
    for (fields, message) in [
        (json!({"target": "ws://"}), "is not an address to connect to"),
        (json!({"path": "chat"}), "expected a path such as"),
    ] {
        let error = parse(RuntimeKind::Client, fields.clone()).unwrap_err();
        assert!(error.contains(message), "{fields}: {error}");
    }
}

#[test]
fn wrong_fields_of_websockets_say_what_was_expected() {
    let cases = [
        (json!({"websocket": true, "framing": "raw", "protocol": "raw"}), "websocket: contradicts"),
        (json!({"websocket": false, "protocol": "websocket"}), "websocket: contradicts"),
        (json!({"origins": "example.org"}), "\"example.org\" is not an origin"),
        (json!({"subprotocols": ["a b"]}), "\"a b\" is not a name"),
        (json!({"max_message": 0}), "expected a whole number from 1 to"),
    ];
    for (fields, message) in cases {
        let error = parse(RuntimeKind::Server, fields.clone()).unwrap_err();
        assert!(error.contains(message), "{fields}: {error}");
    }
}

#[test]
fn wrong_fields_of_http_say_what_was_expected() {
    use RuntimeKind::Server;
    let cases = [
        (Server, json!({"max_body": "1gb"}), "expected bytes, or a text such as \"64kb\""),
        (Server, json!({"routes": {"GET": "x"}}), "routes: \"GET\": expected \"METHOD /path\""),
        (Server, json!({"middleware": ["x"]}), "middleware: expected a list of functions"),
        (Server, json!({"static": {"index": "x"}}), "static: path: a text is missing"),
        (Server, json!({"static": {"path": "x", "idx": 1}}), "idx: there is no such option"),
    ];
    for (kind, fields, expected) in cases {
        let problem = parse(kind, fields.clone()).unwrap_err();
        assert!(problem.contains(expected), "{fields}: {problem}");
    }
}

#[test]
fn wrong_fields_say_what_was_expected() {
    use RuntimeKind::*;
    let cases = [
        (Server, json!({"prot": 9000}), "prot: a server has no such field did you mean \"port\"?"),
        (
            Server,
            json!({"port": 70000}),
            "port: expected a port (0 to 65535), \"HOST:PORT\" or \"unix:/PATH\", got 70000",
        ),
        (Server, json!({"port": "abc"}), "\"abc\" is not a port"),
        (Server, json!({"port": true}), "got true"),
        (
            Server,
            json!({"mode": "inn"}),
            "mode: expected inout, in, out, echo, master, got \"inn\"; did you mean \"in\"?",
        ),
        (
            Server,
            json!({"framing": {"length": 3}}),
            "framing: expected a length of 1, 2 or 4 bytes, got 3",
        ),
        (
            Server,
            json!({"max_connections": -1}),
            "expected a whole number from 0 to 4294967295, got -1",
        ),
        (Server, json!({"max_connections": 1.5}), "got 1.5"),
        (Server, json!({"backends": ["a:1"]}), "it is for: proxy"),
        (
            Server,
            json!({"protocol": "htpp"}),
            "expected \"auto\", \"lines\", \"raw\", \"http\" or \"websocket\"",
        ),
        (
            Server,
            json!({"framing": "raw", "protocol": "http"}),
            "protocol: doesn't go with framing \"raw\"",
        ),
        (Server, json!({"detect_ms": 100_000}), "expected a whole number from 0 to 60000"),
        (Client, json!({"protocol": "http"}), "\"http\" isn't in this version yet"),
        (Server, json!({"tls": "maybe"}), "expected true, false, optional, got \"maybe\""),
        (Server, json!({"workers": 0}), "got 0, or \"all\""),
        (Client, json!({"target": "nowhere"}), "\"nowhere\" is not an address to connect to"),
        (Cache, json!({"maxmemory": "1tb"}), "expected bytes, like 1073741824, 256mb or 1gb"),
        (Cache, json!({"eviction": "lru"}), "volatile-lru, volatile-lfu"),
        (Cache, json!({"persist": "rdb"}), "expected none, snapshot, aof"),
        (Cache, json!({"resp": false}), "every cache speaks RESP"),
        (Cache, json!({"mode": "in"}), "mode: expected readonly, readwrite, admin"),
    ];
    for (kind, fields, message) in cases {
        let error = parse(kind, fields.clone()).unwrap_err();
        assert!(error.contains(message), "{fields}: {error}");
    }
}

#[test]
fn wrong_fields_of_a_proxy_say_what_was_expected() {
    use RuntimeKind::*;
    let cases = [
        (Proxy, json!({"protocol": "udp"}), "protocol: expected http, tcp, got \"udp\""),
        (
            Proxy,
            json!({"backends": ["a:1"], "hosts": {"b": "c"}}),
            "hosts: b: there is no upstream or backend \"c\"",
        ),
        (Proxy, json!({"hosts": {"*a": "b"}}), "\"*a\" is not a host: write a.example"),
        (
            Proxy,
            json!({"protocol": "tcp", "tls": true, "backends": ["b"], "hosts": {"a": "b"}}),
            "of streams go by the name that TLS asks for",
        ),
        (Server, json!({"group": "a b"}), "\"a b\" is not a name"),
        (Proxy, json!({"forwarded": "all"}), "expected x, standard, both, none"),
        (Proxy, json!({"trusted_proxies": "here"}), "expected addresses like 10.0.0.7"),
        (Proxy, json!({"host": "a b"}), "expected keep, backend or a host's name"),
        (Proxy, json!({"strip_prefix": "/a?b"}), "expected a path without a query"),
        (Proxy, json!({"request_headers": {"Host": "x"}}), "Host is the proxy's own business"),
        (Proxy, json!({"request_headers": {"X-A": "a\r\nb"}}), "X-A: expected a text of one line"),
        (Proxy, json!({"response_headers": {"X A": "b"}}), "\"X A\" is not a header's name"),
        (Proxy, json!({"connect_timeout_ms": 0}), "expected a whole number from 1"),
        (Proxy, json!({"protocol": "tcp", "backends": []}), "backends: a proxy needs at least one"),
        (
            Proxy,
            json!({"protocol": "tcp", "backends": "a b"}),
            "expected HOST:PORT or a runtime's name",
        ),
        (Proxy, json!({"strategy": "lest-conn"}), "did you mean"),
        (Proxy, json!({"backends": "a:1 weight=0"}), "a:1: weight: expected 1 to 1000, got \"0\""),
        (Proxy, json!({"backends": "a:1 heavy"}), "then weight=N or backup, got \"heavy\""),
        (Proxy, json!({"backends": [{"1": "a:1", "wait": 2}]}), "wait: there is no such option"),
        (
            Proxy,
            json!({"upstreams": {"a": {"1": "b:1", "2": "c:1", "weight": 2}}}),
            "a: weight isn't an option of several backends",
        ),
        (Proxy, json!({"hash_on": "colour"}), "expected address, path, header:NAME or cookie:NAME"),
        (Proxy, json!({"health_check": "ping"}), "expected none, tcp, http"),
        (Proxy, json!({"health_status": "300-200"}), "expected a status such as 200"),
        (Proxy, json!({"sticky": "a b"}), "is not a cookie's name"),
    ];
    for (kind, fields, message) in cases {
        let error = parse(kind, fields.clone()).unwrap_err();
        assert!(error.contains(message), "{fields}: {error}");
    }
}

#[test]
fn all_wrong_fields_are_named_at_once() {
    let error = parse(RuntimeKind::Server, json!({"prot": 1, "mode": 5, "port": "x"})).unwrap_err();
    for field in ["prot: ", "mode: ", "port: "] {
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn some_fields_need_a_stop() {
    let base = parse(RuntimeKind::Server, json!({"port": 1})).unwrap();
    let cases = [
        (json!({"max_connections": 4, "mode": "out"}), vec![]),
        (json!({"port": 2, "framing": "raw", "mode": "out"}), vec!["port", "framing", "protocol"]),
    ];
    for (change, expected) in cases {
        let edited = base.edited(&object(change)).unwrap();
        assert_eq!(base.needs_stop(&edited), expected);
    }
}

#[test]
fn names() {
    let long = "n".repeat(NAME_BYTES_MAX);
    let longer = "n".repeat(NAME_BYTES_MAX + 1);
    let cases = [
        ("chat", true),
        ("api-1.prod_2", true),
        (&long, true),
        ("", false),
        (".hidden", false),
        ("-s", false),
        ("a b", false),
        ("a/b", false),
        ("ü", false),
        (&longer, false),
    ];
    for (name, good) in cases {
        assert_eq!(check_name(name).is_ok(), good, "{name}");
    }
}

#[test]
fn every_row_is_whole() {
    let fields: Vec<&Field> = every_field().collect();
    for (index, field) in fields.iter().enumerate() {
        assert!(!field.help.is_empty() && !field.kinds.is_empty(), "{}", field.name);
        assert!(
            super::later::later(field.name).is_none(),
            "{} is both known and refused",
            field.name
        );
        for kind in field.kinds {
            let names = |other: &Field| field.is_named(other.name) && other.kinds.contains(kind);
            assert_eq!(
                fields.iter().filter(|other| names(other)).count(),
                1,
                "{} of {kind}",
                field.name
            );
            let config = RuntimeConfig::new(*kind, "x");
            if let Some(value) = (field.read)(&config) {
                let mut copy = config.clone();
                (field.write)(&mut copy, &value).unwrap();
                assert_eq!(copy, config, "{} of {kind}: its default reads back", field.name);
            }
        }
        let same_flag = |other: &&&Field| match (&field.flag, &other.flag) {
            (Some(a), Some(b)) => a.short.is_some() && a.short == b.short,
            _ => false,
        };
        assert!(!fields[index + 1..].iter().any(|other| same_flag(&other)), "{}", field.name);
    }
}
