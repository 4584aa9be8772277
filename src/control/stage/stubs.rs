//! HTTP servers that aren't there: addresses that a test gives answers for.
//!
//! Each host gets an address of its own in the simulated network. An answer is chosen by the longest address that the
//! request begins with. Must not know: who asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::ring::sim::{PeerId, Sim};

/// What is answered, and what was asked.
#[derive(Default)]
pub(super) struct Stubs {
    hosts: BTreeMap<String, IpAddr>,
    served: Vec<(SocketAddr, String)>,
    answers: Vec<(String, Value)>,
    open: Vec<Open>,
    requests: Vec<Value>,
}

struct Open {
    peer: PeerId,
    /// `host` or `host:port`.
    authority: String,
    received: Vec<u8>,
}

/// `http://host:port/path` as host, port and the rest.
fn parts(address: &str) -> Option<(String, u16, String)> {
    let rest = address.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 80),
    };
    (!host.is_empty()).then(|| (host.to_owned(), port, path.to_owned()))
}

impl Stubs {
    /// Adds an answer; a name that is new gets an address.
    pub(super) fn add(
        &mut self,
        sim: &Sim,
        arguments: &Value,
    ) -> Result<Option<(String, IpAddr)>, String> {
        let address = arguments["address"].as_str().unwrap_or_default();
        let (host, port, path) = parts(address).ok_or_else(|| {
            format!("{address}: a stub stands for an address such as http://host/path")
        })?;
        let literal: Option<IpAddr> = host.parse().ok();
        let count = self.hosts.len() as u8;
        let ip = literal.unwrap_or_else(|| {
            *self.hosts.entry(host.clone()).or_insert(IpAddr::from([10, 99, 0, count + 1]))
        });
        let place = SocketAddr::new(ip, port);
        let authority = if port == 80 { host.clone() } else { format!("{host}:{port}") };
        if !self.served.iter().any(|(known, _)| *known == place) {
            sim.serve(place);
            self.served.push((place, authority.clone()));
        }
        self.answers.push((format!("{authority}{path}"), arguments.clone()));
        Ok(literal.is_none().then_some((host, ip)))
    }

    /// What was asked, in order.
    pub(super) fn requests(&self) -> Value {
        Value::Array(self.requests.clone())
    }

    /// Another app begins.
    pub(super) fn forget_requests(&mut self) {
        self.requests.clear();
    }

    /// Answers what has come.
    pub(super) fn serve(&mut self, sim: &Sim) {
        for (place, authority) in &self.served {
            while let Some(peer) = sim.accepted(*place) {
                let authority = authority.clone();
                self.open.push(Open { peer, authority, received: Vec::new() });
            }
        }
        for open in &mut self.open {
            open.received.extend(sim.peer_received(open.peer));
            while let Some((request, len)) = whole_request(&open.received) {
                open.received.drain(..len);
                let target =
                    format!("{}{}", open.authority, request["path"].as_str().unwrap_or_default());
                let found =
                    self.answers.iter().rev().filter(|(begin, _)| target.starts_with(begin));
                let answer = found.max_by_key(|(begin, _)| begin.len()).map(|(_, answer)| answer);
                if let Some(raw) = answer.and_then(|answer| answer["raw"].as_str()) {
                    sim.peer_send(open.peer, raw.as_bytes());
                    sim.peer_shutdown(open.peer);
                } else {
                    sim.peer_send(open.peer, &response(answer, request["method"] == "HEAD"));
                }
                let mut request = request;
                request["host"] = open.authority.clone().into();
                self.requests.push(request);
            }
        }
        self.open.retain(|open| {
            let over = sim.peer_has_ended(open.peer) || sim.peer_is_reset(open.peer);
            if over {
                sim.peer_shutdown(open.peer);
            }
            !over
        });
    }
}

/// A request that has come whole, and its length.
fn whole_request(bytes: &[u8]) -> Option<(Value, usize)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let (body, len) = if fields.contains_key("transfer-encoding") {
        dechunked(&bytes[end..])?
    } else {
        let count = fields.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        (bytes.get(end..end + count)?.to_vec(), count)
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Some((json!({ "method": method, "path": path, "headers": fields, "body": body }), end + len))
}

fn dechunked(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (all, mut body) = (bytes.len(), Vec::new());
    loop {
        let end = memchr::memmem::find(bytes, b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[..end]).ok()?;
        let count = usize::from_str_radix(digits, 16).ok()?;
        let piece = bytes.get(end + 2..end + 2 + count)?;
        bytes = bytes.get(end + 4 + count..)?;
        if count == 0 {
            return Some((body, all - bytes.len()));
        }
        body.extend_from_slice(piece);
    }
}

fn response(answer: Option<&Value>, is_head: bool) -> Vec<u8> {
    let absent = json!({ "status": 404, "headers": {}, "body": "no stub stands for this" });
    let answer = answer.unwrap_or(&absent);
    let body = answer["body"].as_str().unwrap_or_default();
    let mut text = format!(
        "HTTP/1.1 {} Stub\r\nContent-Length: {}\r\n",
        answer["status"].as_u64().unwrap_or(200),
        body.len()
    );
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        text.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap_or_default()));
    }
    text.push_str("\r\n");
    if !is_head {
        text.push_str(body);
    }
    text.into_bytes()
}
