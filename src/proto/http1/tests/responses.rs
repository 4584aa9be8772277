//! Responses as proxies and clients read them.

use crate::proto::http1::{
    Body, Field, HeadScan, ResponseBody, ResponseError, Version, parse_response,
};

fn read(text: &str, to_head: bool) -> Result<Option<String>, ResponseError> {
    let mut fields: Vec<Field> = Vec::new();
    let mut scan = HeadScan::default();
    let bytes = text.as_bytes();
    // What is cut is no response yet, and no error that the whole isn't.
    for cut in 0..bytes.len() {
        let early = parse_response(&bytes[..cut], &mut scan, to_head, &mut fields);
        if !matches!(early, Ok(None)) {
            break;
        }
    }
    let mut scan = HeadScan::default();
    let found = parse_response(bytes, &mut scan, to_head, &mut fields)?;
    Ok(found.map(|(response, end)| {
        let version = if response.version == Version::Http11 { "1.1" } else { "1.0" };
        let body = match response.body {
            ResponseBody::UntilClose => "until close".to_owned(),
            ResponseBody::Framed(Body::None) => "none".to_owned(),
            ResponseBody::Framed(Body::Length(length)) => length.to_string(),
            ResponseBody::Framed(Body::Chunked(_)) => "chunked".to_owned(),
        };
        let reason = String::from_utf8_lossy(response.reason.of(&bytes[..end])).into_owned();
        let more = if response.keep_alive { "keep" } else { "close" };
        let upgrade = if response.upgrade { " upgrade" } else { "" };
        format!("{version} {} [{reason}] {body} {more}{upgrade}", response.status)
    }))
}

#[test]
fn heads() {
    let good = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "1.1 200 [OK] 5 keep"),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "1.1 200 [] none keep"),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "1.1 200 [] none keep"),
        ("HTTP/1.1 200 OK\r\n\r\n", "1.1 200 [OK] until close close"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "1.0 200 [OK] 1 close"),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
            "1.0 200 [OK] 1 keep",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n",
            "1.1 200 [OK] 1 close",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1.1 200 [OK] chunked keep"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", "1.1 204 [No Content] none keep"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "1.1 304 [Not Modified] none keep"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "1.1 100 [Continue] none keep"),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "1.1 103 [Early Hints] none keep"),
        (
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "1.1 101 [x] none keep upgrade",
        ),
        ("HTTP/1.1 404 caf\u{e9}\r\nContent-Length: 0\r\n\r\n", "1.1 404 [caf\u{e9}] none keep"),
    ];
    for (text, expected) in good {
        assert_eq!(read(text, false).unwrap().as_deref(), Some(expected), "{text:?}");
    }
    let to_head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(read(to_head, true).unwrap().unwrap(), "1.1 200 [OK] none keep");
}

#[test]
fn what_is_no_response_is_refused() {
    for text in [
        "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 200 O\u{0}K\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 304 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "HTTP/1.1 101 x\r\n\r\n",
    ] {
        assert_eq!(read(text, false), Err(ResponseError::Malformed), "{text:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(read(&long, false), Err(ResponseError::TooLarge));
}
