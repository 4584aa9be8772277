//! Handshakes as tables: what makes a WebSocket, and what is answered to what doesn't.

use super::*;

const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A request that is right but for `changes`: a field's name and its new value, or nothing to leave it out.
fn request<'a>(changes: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a [u8], &'a [u8])> {
    let mut fields = vec![
        ("Host", "h"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", SAMPLE_KEY),
        ("Sec-WebSocket-Version", "13"),
    ];
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.extend(value.map(|value| (*name, value)));
    }
    fields.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn judge(changes: &[(&str, Option<&str>)], policy: &Policy) -> Result<Accepted, Refusal> {
    accept(b"GET", true, request(changes).into_iter(), policy)
}

#[test]
fn the_sample_of_the_rfc() {
    assert_eq!(accept_value(SAMPLE_KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let answer = judge(&[], &Policy::default()).map(|accepted| accepted.answer());
    assert_eq!(
        answer.as_deref(),
        Ok("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    );
}

#[test]
fn base64_of_each_length() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}

#[test]
fn what_does_not_become_a_websocket() {
    type Case = (&'static str, Option<&'static str>, Refusal, &'static str);
    let cases: &[Case] = &[
        ("Host", None, Refusal::Host, "HTTP/1.1 400 "),
        ("Upgrade", None, Refusal::NoUpgrade, "HTTP/1.1 426 "),
        ("Upgrade", Some("h2c"), Refusal::NoUpgrade, "HTTP/1.1 426 "),
        ("Connection", None, Refusal::NoUpgrade, "HTTP/1.1 426 "),
        ("Connection", Some("close"), Refusal::NoUpgrade, "HTTP/1.1 426 "),
        ("Sec-WebSocket-Key", None, Refusal::Key, "HTTP/1.1 400 "),
        ("Sec-WebSocket-Key", Some(""), Refusal::Key, "HTTP/1.1 400 "),
        ("Sec-WebSocket-Key", Some("AAAA"), Refusal::Key, "HTTP/1.1 400 "),
        ("Sec-WebSocket-Key", Some("!!!!!!!!!!!!!!!!!!!!!!=="), Refusal::Key, "HTTP/1.1 400 "),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZR=="), Refusal::Key, "HTTP/1.1 400 "),
        ("Sec-WebSocket-Version", None, Refusal::Version, "HTTP/1.1 426 "),
        ("Sec-WebSocket-Version", Some("8"), Refusal::Version, "HTTP/1.1 426 "),
        ("Sec-WebSocket-Version", Some("99"), Refusal::Version, "HTTP/1.1 426 "),
        ("Content-Length", Some("5"), Refusal::Body, "HTTP/1.1 400 "),
        ("Transfer-Encoding", Some("chunked"), Refusal::Body, "HTTP/1.1 400 "),
    ];
    for (name, value, wanted, status) in cases {
        assert_eq!(judge(&[(name, *value)], &Policy::default()), Err(*wanted), "{name} {value:?}");
        let answer = wanted.answer();
        assert!(answer.starts_with(status), "{answer}");
        let names_version = answer.contains("\r\nSec-WebSocket-Version: 13\r\n");
        assert_eq!(names_version, *wanted == Refusal::Version, "{answer}");
    }
    let (headers, policy) = (request(&[]), Policy::default());
    let judged = |method, is_1_1| accept(method, is_1_1, headers.iter().copied(), &policy);
    assert_eq!(judged(b"POST", true), Err(Refusal::Method));
    assert_eq!(judged(b"GET", false), Err(Refusal::HttpVersion));
    let twice = headers.iter().chain(&headers[..1]).copied();
    assert_eq!(accept(b"GET", true, twice, &policy), Err(Refusal::Host));
}

#[test]
fn names_and_tokens_in_any_case() {
    for changes in [
        [("Upgrade", Some("WebSocket"))],
        [("Connection", Some("UPGRADE"))],
        [("Content-Length", Some("0"))],
    ] {
        assert!(judge(&changes, &Policy::default()).is_ok(), "{changes:?}");
    }
}

#[test]
fn subprotocols_are_chosen_in_the_servers_order_and_only_if_asked_for() {
    let policy = Policy { subprotocols: vec!["v2".into(), "v1".into()], ..Policy::default() };
    for (asked, chosen) in [
        (None, None),
        (Some("v1"), Some("v1")),
        (Some("v0, v1 ,v2"), Some("v2")),
        (Some("V2"), None),
    ] {
        let changes: Vec<_> =
            asked.map(|asked| ("Sec-WebSocket-Protocol", Some(asked))).into_iter().collect();
        let accepted = judge(&changes, &policy).expect("a right request");
        assert_eq!(accepted.subprotocol.as_deref(), chosen, "{asked:?}");
        assert_eq!(accepted.answer().contains("Sec-WebSocket-Protocol: "), chosen.is_some());
    }
}

#[test]
fn only_pages_that_may_connect() {
    let policy = Policy { origins: vec!["https://example.org".into()], ..Policy::default() };
    for (origin, wanted) in [
        (None, true),
        (Some("https://example.org"), true),
        (Some("HTTPS://Example.Org"), true),
        (Some("https://example.org.evil.net"), false),
        (Some("null"), false),
    ] {
        let changes: Vec<_> = origin.map(|origin| ("Origin", Some(origin))).into_iter().collect();
        assert_eq!(judge(&changes, &policy).is_ok(), wanted, "{origin:?}");
    }
}

#[test]
fn both_sides_agree() {
    for (compression, subprotocols) in [(false, vec![]), (true, vec!["chat".to_owned()])] {
        let offer = Offer::new([7; 16], &subprotocols, compression);
        let request = offer.request("example.org:80", "/a?b=c");
        let mut lines = request.split("\r\n");
        assert_eq!(lines.next(), Some("GET /a?b=c HTTP/1.1"));
        let fields: Vec<(&[u8], &[u8])> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let policy =
            Policy { subprotocols: subprotocols.clone(), compression, ..Policy::default() };
        let accepted = accept(b"GET", true, fields.into_iter(), &policy).expect("a right request");
        let answer = accepted.answer();
        for cut in 0..answer.len() {
            assert_eq!(offer.judge(&answer.as_bytes()[..cut]), Ok(None), "cut at {cut}");
        }
        let established =
            offer.judge(format!("{answer}frames").as_bytes()).expect("a right answer");
        let established = established.expect("a whole answer");
        assert_eq!(established.bytes, answer.len());
        assert_eq!(established.subprotocol.as_ref(), subprotocols.first());
        assert_eq!(established.compression.is_some(), compression);
    }
}

#[test]
fn answers_that_make_no_websocket() {
    let offer = Offer::new([7; 16], &["chat".to_owned()], false);
    let request = offer.request("h", "/");
    let key =
        request.split("Key: ").nth(1).and_then(|rest| rest.split('\r').next()).expect("a key");
    let right = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_value(key)
    );
    assert!(matches!(offer.judge(right.as_bytes()), Ok(Some(_))));
    let field = BadAnswer::Field;
    for (from, to, wanted) in [
        ("101", "404", BadAnswer::Status(404)),
        ("HTTP/1.1", "HTTP/1.0", BadAnswer::NotHttp),
        ("Upgrade: websocket", "Upgrade: h2c", field("Upgrade")),
        ("Connection: Upgrade", "Connection: close", field("Connection")),
        ("Accept: ", "Accept: x", field("Sec-WebSocket-Accept")),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: other\r\n\r\n", field("Sec-WebSocket-Protocol")),
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: x-foo\r\n\r\n",
            field("Sec-WebSocket-Extensions"),
        ),
    ] {
        assert_eq!(offer.judge(right.replace(from, to).as_bytes()), Err(wanted), "{to}");
    }
    let endless =
        format!("HTTP/1.1 101 x\r\n{}", "a".repeat(crate::limits::WEBSOCKET_ANSWER_BYTES_MAX));
    assert_eq!(offer.judge(endless.as_bytes()), Err(BadAnswer::NotHttp));
    assert_eq!(offer.judge(b"SSH-2.0-x"), Err(BadAnswer::NotHttp));
}
