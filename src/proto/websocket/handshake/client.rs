//! A client's side: the request, and whether the answer to it is one.

use super::{accept_value, base64, has_item};
use crate::limits::WEBSOCKET_ANSWER_BYTES_MAX;
use crate::proto::websocket::{Compression, extension};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    key: String,
    subprotocols: Vec<String>,
    compression: bool,
}

/// A connection that a server has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// The subprotocol chosen.
    pub subprotocol: Option<String>,
    /// The compression agreed on.
    pub compression: Option<Compression>,
    /// The bytes of the answer; frames follow.
    pub bytes: usize,
}

/// Why a server's answer doesn't make a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadAnswer {
    /// It isn't HTTP/1.1, or too long.
    NotHttp,
    /// Another status than 101.
    Status(u16),
    /// A field is missing, wrong, or answers what wasn't asked.
    Field(&'static str),
}

impl std::fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadAnswer::NotHttp => f.write_str("its answer isn't HTTP/1.1"),
            BadAnswer::Status(status) => write!(f, "it refuses the WebSocket with status {status}"),
            BadAnswer::Field(field) => write!(f, "its answer's {field} is missing or wrong"),
        }
    }
}

impl Offer {
    /// With 16 random bytes.
    pub fn new(random: [u8; 16], subprotocols: &[String], compression: bool) -> Offer {
        Offer { key: base64(&random), subprotocols: subprotocols.to_vec(), compression }
    }

    /// The request's head.
    pub fn request(&self, host: &str, path: &str) -> String {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n",
            self.key
        );
        if !self.subprotocols.is_empty() {
            let list = self.subprotocols.join(", ");
            request.push_str(&format!("Sec-WebSocket-Protocol: {list}\r\n"));
        }
        if self.compression {
            request.push_str(&format!("Sec-WebSocket-Extensions: {}\r\n", extension::OFFER));
        }
        request + "\r\n"
    }

    /// Judges the answer at the front of `bytes`; nothing if it isn't complete.
    ///
    /// # Errors
    /// Why there is no WebSocket.
    pub fn judge(&self, bytes: &[u8]) -> Result<Option<Established>, BadAnswer> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            let begins = bytes.iter().zip(b"HTTP/1.1 ").all(|(byte, wanted)| byte == wanted);
            let fits = begins && bytes.len() <= WEBSOCKET_ANSWER_BYTES_MAX;
            return if fits { Ok(None) } else { Err(BadAnswer::NotHttp) };
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| BadAnswer::NotHttp)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(status_of).ok_or(BadAnswer::NotHttp)?;
        if status != 101 {
            return Err(BadAnswer::Status(status));
        }
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(BadAnswer::NotHttp)?;
            fields.push((name, value.trim_matches([' ', '\t'])));
        }
        self.established(&fields, end + 4).map(Some)
    }

    fn established(&self, fields: &[(&str, &str)], bytes: usize) -> Result<Established, BadAnswer> {
        let named = |name: &'static str| {
            let same = move |field: &&(&str, &str)| field.0.eq_ignore_ascii_case(name);
            fields.iter().filter(same).map(|field| field.1)
        };
        let only = |name| {
            let mut values = named(name);
            let value = values.next();
            if values.next().is_some() { Err(BadAnswer::Field(name)) } else { Ok(value) }
        };
        let check = |fits: bool, name| if fits { Ok(()) } else { Err(BadAnswer::Field(name)) };
        check(named("Upgrade").any(|value| value.eq_ignore_ascii_case("websocket")), "Upgrade")?;
        check(named("Connection").any(|value| has_item(value, "upgrade")), "Connection")?;
        let accept = only("Sec-WebSocket-Accept")?;
        check(accept == Some(&accept_value(&self.key)), "Sec-WebSocket-Accept")?;
        let subprotocol = only("Sec-WebSocket-Protocol")?;
        let asked = |name: &str| self.subprotocols.iter().any(|known| known == name);
        check(subprotocol.is_none_or(asked), "Sec-WebSocket-Protocol")?;
        let compression = match only("Sec-WebSocket-Extensions")? {
            None => None,
            Some(answer) => {
                let agreed = Compression::of_answer(answer).filter(|_| self.compression);
                check(agreed.is_some(), "Sec-WebSocket-Extensions")?;
                agreed
            }
        };
        Ok(Established { subprotocol: subprotocol.map(str::to_owned), compression, bytes })
    }
}

fn status_of(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    let digits = rest.split(' ').next().filter(|digits| digits.len() == 3)?;
    digits.parse().ok()
}
