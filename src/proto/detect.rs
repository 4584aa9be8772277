//! Which protocol a client speaks, told from its first bytes.
//!
//! A closed set: TLS, HTTP/1, or messages. What can't be one of the first two any more is messages at once; an answer
//! never waits for bytes that it doesn't need. A line that has the shape of an HTTP request line is HTTP whatever its
//! method, so that a browser never reaches a line protocol. Knows nothing of sockets, clocks or what is configured.

use crate::limits::{DETECT_METHOD_BYTES_MAX, HTTP_LINE_BYTES_MAX};
use crate::proto::http1::is_token;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Not enough yet.
    Unknown,
    /// A TLS record of a handshake.
    Tls,
    /// The beginning of an HTTP/1 request line (or of HTTP/2's preface, which looks like one).
    Http,
    /// Anything else: messages in the runtime's framing.
    Messages,
}

/// Looks at everything a client has sent so far.
pub fn detect(bytes: &[u8]) -> Detected {
    match bytes {
        [] | [0x16] => Detected::Unknown,
        [0x16, 0x03, ..] => Detected::Tls,
        _ => detect_request_line(bytes),
    }
}

/// `METHOD SP TARGET SP HTTP/`: each part is either complete, cut off at the end of the bytes, or wrong.
fn detect_request_line(bytes: &[u8]) -> Detected {
    let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
    if method == bytes.len() && method <= DETECT_METHOD_BYTES_MAX {
        return Detected::Unknown;
    }
    if method == 0 || method > DETECT_METHOD_BYTES_MAX || bytes[method] != b' ' {
        return Detected::Messages;
    }
    let rest = &bytes[method + 1..];
    let target = rest.iter().take_while(|byte| **byte > b' ' && **byte != 0x7f).count();
    if target > HTTP_LINE_BYTES_MAX {
        // Too long for either; only a browser's would be dangerous as a message.
        let is_path = matches!(rest[0], b'/' | b'h' | b'*');
        return if is_path { Detected::Http } else { Detected::Messages };
    }
    if target == rest.len() {
        return Detected::Unknown;
    }
    if target == 0 || rest[target] != b' ' {
        return Detected::Messages;
    }
    let version = &rest[target + 1..];
    const WANTED: &[u8] = b"HTTP/";
    let seen = version.len().min(WANTED.len());
    match version[..seen] == WANTED[..seen] {
        true if seen == WANTED.len() => Detected::Http,
        true => Detected::Unknown,
        false => Detected::Messages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        use Detected::{Http, Messages, Tls, Unknown};
        let long_path = [b"GET /", &[b'a'; HTTP_LINE_BYTES_MAX + 1][..]].concat();
        let long_line = [b"say x", &[b'a'; HTTP_LINE_BYTES_MAX + 1][..]].concat();
        let cases: &[(&[u8], Detected)] = &[
            (b"", Unknown),
            (b"\x16", Unknown),
            (b"\x16\x03", Tls),
            (b"\x16\x03\x01\x02\x00", Tls),
            (b"\x16x", Messages),
            (b"G", Unknown),
            (b"GET", Unknown),
            (b"GET ", Unknown),
            (b"GET /", Unknown),
            (b"GET / ", Unknown),
            (b"GET / HTT", Unknown),
            (b"GET / HTTP/", Http),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Http),
            (b"brew pot HTTP/9", Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http),
            (b"CONNECT a:443 HTTP/1.1\r\n", Http),
            (b"GET /\r\n", Messages),
            (b"GET / FTP", Messages),
            (b"GET  / HTTP/1.1", Messages),
            (b"GET / http/1.1", Messages),
            (b"\r\nGET / HTTP/1.1\r\n", Messages),
            (b"\n", Messages),
            (b" ", Messages),
            (b"hello\n", Messages),
            (b"hello world\n", Messages),
            (b"hello world how are you", Messages),
            (b"{\"a\":1}", Messages),
            (b"*1\r\n$4\r\nPING\r\n", Messages),
            (b"PING\r\n", Messages),
            (b"\x00\x01", Messages),
            (b"GET /\x7f HTTP/1.1", Messages),
            (&[b'A'; DETECT_METHOD_BYTES_MAX], Unknown),
            (&[b'A'; DETECT_METHOD_BYTES_MAX + 1], Messages),
            (&long_path, Http),
            (&long_line, Messages),
        ];
        for (bytes, expected) in cases {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
            assert_eq!(detect(bytes), *expected, "{shown:?}");
        }
    }

    /// What is said of a beginning holds for the whole, and nothing but the missing bytes is waited for.
    #[test]
    fn a_verdict_never_changes_with_more_bytes() {
        for text in
            ["GET /a/b?c HTTP/1.1\r\n", "\x16\x03\x01", "hello there\n", "PUT x\n", "a b c d"]
        {
            let whole = detect(text.as_bytes());
            assert_ne!(whole, Detected::Unknown, "{text:?}");
            for cut in 0..text.len() {
                let part = detect(&text.as_bytes()[..cut]);
                assert!(
                    part == Detected::Unknown || part == whole,
                    "{text:?} cut at {cut}: {part:?}"
                );
            }
        }
    }
}
