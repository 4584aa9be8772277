//! A server's side: whether a request becomes a WebSocket, and the answer to it.

use super::{accept_value, has_item, is_key, items};
use crate::proto::websocket::Compression;

/// What a server agrees to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Subprotocols it speaks, the dearest first.
    pub subprotocols: Vec<String>,
    /// Pages that may connect (`https://example.org`); empty for all. A client that names none isn't a browser and may.
    pub origins: Vec<String>,
    /// Whether to agree on compression.
    pub compression: bool,
}

/// Why a request doesn't become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It isn't a GET.
    Method,
    /// It is older than HTTP/1.1.
    HttpVersion,
    /// No Host, or several.
    Host,
    /// It has a body.
    Body,
    /// It doesn't ask for an upgrade to WebSocket.
    NoUpgrade,
    /// The key is missing, or isn't 16 bytes in base64.
    Key,
    /// Another version than 13.
    Version,
    /// The page isn't among those that may connect.
    Origin,
}

/// An upgrade that is agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    accept: String,
    /// The subprotocol chosen.
    pub subprotocol: Option<String>,
    /// The compression agreed on.
    pub compression: Option<Compression>,
}

/// The fields that matter, each as often as it came.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    has_body: bool,
    upgrades: bool,
    connects: bool,
    keys: Vec<&'a str>,
    versions: Vec<&'a str>,
    origins: Vec<&'a str>,
    subprotocols: Vec<&'a str>,
    extensions: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    fn collect(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Fields<'a> {
        let mut fields = Fields::default();
        for (name, value) in headers {
            // A value that isn't text is none of those that are compared.
            let value = std::str::from_utf8(value).unwrap_or("\0").trim_matches([' ', '\t']);
            match name.to_ascii_lowercase().as_slice() {
                b"host" => fields.hosts += 1,
                b"content-length" => fields.has_body |= value != "0",
                b"transfer-encoding" => fields.has_body = true,
                b"upgrade" => fields.upgrades |= has_item(value, "websocket"),
                b"connection" => fields.connects |= has_item(value, "upgrade"),
                b"sec-websocket-key" => fields.keys.push(value),
                b"sec-websocket-version" => fields.versions.push(value),
                b"origin" => fields.origins.push(value),
                b"sec-websocket-protocol" => fields.subprotocols.push(value),
                b"sec-websocket-extensions" => fields.extensions.push(value),
                _ => {}
            }
        }
        fields
    }
}

/// Judges an upgrade request.
///
/// # Errors
/// Why it doesn't become a WebSocket; the answer to send says so.
pub fn accept<'a>(
    method: &[u8],
    is_http_1_1: bool,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    policy: &Policy,
) -> Result<Accepted, Refusal> {
    let fields = Fields::collect(headers);
    if fields.hosts != 1 {
        return Err(Refusal::Host);
    } else if !is_http_1_1 {
        return Err(Refusal::HttpVersion);
    } else if !fields.upgrades || !fields.connects {
        return Err(Refusal::NoUpgrade);
    } else if method != b"GET" {
        return Err(Refusal::Method);
    } else if fields.has_body {
        return Err(Refusal::Body);
    } else if fields.versions != ["13"] {
        return Err(Refusal::Version);
    }
    let &[key] = &fields.keys[..] else { return Err(Refusal::Key) };
    if !is_key(key) {
        return Err(Refusal::Key);
    }
    let may = |origin: &&str| policy.origins.iter().any(|known| known.eq_ignore_ascii_case(origin));
    if !policy.origins.is_empty() && !fields.origins.iter().all(may) {
        return Err(Refusal::Origin);
    }
    let offered = |known: &&String| {
        fields.subprotocols.iter().any(|line| items(line).any(|item| item == known.as_str()))
    };
    let choose = || fields.extensions.iter().find_map(|line| Compression::choose(line));
    Ok(Accepted {
        accept: accept_value(key),
        subprotocol: policy.subprotocols.iter().find(offered).cloned(),
        compression: policy.compression.then(choose).flatten(),
    })
}

impl Accepted {
    /// The answer that makes the connection a WebSocket.
    pub fn answer(&self) -> String {
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        if let Some(subprotocol) = &self.subprotocol {
            answer.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        if let Some(compression) = self.compression {
            answer.push_str(&format!("Sec-WebSocket-Extensions: {}\r\n", compression.answer()));
        }
        answer + "\r\n"
    }
}

impl Refusal {
    /// The answer; the connection is closed after it.
    pub fn answer(self) -> String {
        let (status, more, text) = match self {
            Refusal::Method => {
                ("405 Method Not Allowed", "Allow: GET\r\n", "a WebSocket begins with GET")
            }
            Refusal::HttpVersion => ("400 Bad Request", "", "a WebSocket needs HTTP/1.1"),
            Refusal::Host => ("400 Bad Request", "", "exactly one Host field is needed"),
            Refusal::Body => ("400 Bad Request", "", "an upgrade request has no body"),
            Refusal::NoUpgrade => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\n",
                "this port speaks WebSocket: Connection: Upgrade and Upgrade: websocket are needed",
            ),
            Refusal::Key => ("400 Bad Request", "", "Sec-WebSocket-Key must be 16 bytes in base64"),
            Refusal::Version => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "WebSocket version 13 is needed",
            ),
            Refusal::Origin => ("403 Forbidden", "", "this page may not connect"),
        };
        let connection = if more.starts_with("Upgrade") { "Upgrade, close" } else { "close" };
        format!(
            "HTTP/1.1 {status}\r\n{more}Connection: {connection}\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{text}\n",
            text.len() + 1
        )
    }
}
