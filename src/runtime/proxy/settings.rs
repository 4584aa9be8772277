//! What a proxy is told beside its backends: how requests and answers are changed, and how long things may take.
//!
//! Values only, checked by `runtime::config`. Must not know: connections, who reads them.

use crate::limits;
use crate::proto::proxy_protocol;
use crate::runtime::limiter::Network;

/// The name that a backend is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Host {
    /// The one that the client asked for.
    #[default]
    Kept,
    /// The backend's own, as it is written in the proxy's fields.
    Backend,
    /// This one.
    Fixed(String),
}

/// In which fields a backend is told whom a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host.
    pub common: bool,
    /// RFC 7239's Forwarded.
    pub standard: bool,
}

/// When a backend that fails isn't asked any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Failures in a row that open it; 0 for never.
    pub failures: u32,
    /// How long it stays open before one request tries again, in milliseconds.
    pub open_ms: u64,
}

/// What requests that shall meet the same backend have in common.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum HashKey {
    /// The client's address.
    #[default]
    Address,
    /// A field of the request.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The path.
    Path,
}

/// How backends are asked whether they are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// They aren't.
    None,
    /// A connection is enough.
    Tcp,
    /// By a request.
    Http,
}

/// What a check asks and how its answers count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path to ask for.
    pub path: String,
    /// The statuses that are well, both included.
    pub status: (u16, u16),
    /// What the body must hold.
    pub body: Option<String>,
    /// How often, in milliseconds.
    pub interval_ms: u64,
    /// How long a check may take, in milliseconds.
    pub timeout_ms: u64,
    /// Good checks in a row that bring a backend back.
    pub rise: u32,
    /// Bad checks in a row that take it out.
    pub fall: u32,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            path: "/health".to_owned(),
            status: (200, 299),
            body: None,
            interval_ms: 5000,
            timeout_ms: 2000,
            rise: 2,
            fall: 3,
        }
    }
}

/// Which upstream serves a host: by its exact name, by the longest `*.name` that fits, by `*`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hosts(pub Vec<(String, String)>);

impl Hosts {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The upstream for a host, which may come with its port, and in letters of both cases.
    pub fn find(&self, host: &[u8]) -> Option<&str> {
        let host = match host {
            [b'[', ..] => host.split(|byte| *byte == b']').next().unwrap_or_default(),
            _ => host.split(|byte| *byte == b':').next().unwrap_or_default(),
        };
        let fits = |pattern: &str| match pattern.strip_prefix('*') {
            Some(suffix) => {
                let suffix = suffix.as_bytes();
                let start = host.len().checked_sub(suffix.len());
                start.is_some_and(|start| host[start..].eq_ignore_ascii_case(suffix))
            }
            None => host.eq_ignore_ascii_case(pattern.as_bytes()),
        };
        // The longest pattern says most; an exact one all.
        let rank = |pattern: &str| (!pattern.starts_with('*'), pattern.len());
        let fitting = self.0.iter().filter(|(pattern, _)| fits(pattern));
        fitting.max_by_key(|(pattern, _)| rank(pattern)).map(|(_, upstream)| upstream.as_str())
    }
}

/// A field to set, or to leave out if it has no value.
pub type HeaderChange = (String, Option<String>);

/// How a proxy passes HTTP on.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The Host field.
    pub host: Host,
    /// Who the client is, for the backend.
    pub forwarded: Forwarded,
    /// The proxies before this one that are believed about that.
    pub trusted: Vec<Network>,
    /// What this proxy calls itself in Via; nothing for no such field.
    pub via: Option<String>,
    /// The PROXY header that backends' connections begin with; nothing for none.
    pub send_proxy: Option<proxy_protocol::Version>,
    /// Taken off the front of paths; begins with a slash and doesn't end with one.
    pub strip_prefix: Option<String>,
    /// Put before paths, after that.
    pub add_prefix: Option<String>,
    /// Changes to requests' fields.
    pub request_headers: Vec<HeaderChange>,
    /// Changes to answers' fields.
    pub response_headers: Vec<HeaderChange>,
    /// Which upstream serves a host.
    pub hosts: Hosts,
    /// What strategy `hash` looks at.
    pub hash: HashKey,
    /// The cookie by which clients stick to their backend; nothing for none.
    pub sticky: Option<String>,
    /// How often a request that failed is sent to another backend.
    pub retries: u32,
    /// Also requests that aren't safe to repeat, unless something of their body has gone.
    pub retry_all: bool,
    /// When a backend that fails isn't asked any more.
    pub circuit: Circuit,
    /// How long a backend that is back is spared, in milliseconds.
    pub slow_start_ms: u64,
    /// Requests at one backend at a time; 0 for no limit.
    pub most: u32,
    /// How long a request waits for a place at a backend, in milliseconds.
    pub queue_ms: u64,
    /// How backends are asked whether they are well.
    pub check: Check,
    /// The details of that.
    pub health: Health,
    /// How long a dial may take, in milliseconds.
    pub connect_ms: u64,
    /// How long a backend may take until its answer begins, in milliseconds.
    pub response_ms: u64,
    /// How long neither side may move within a request, in milliseconds.
    pub idle_ms: u64,
    /// How long a request may take in all, in milliseconds; 0 for no limit.
    pub total_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            host: Host::Kept,
            forwarded: Forwarded { common: true, standard: false },
            trusted: Vec::new(),
            via: None,
            send_proxy: None,
            strip_prefix: None,
            add_prefix: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            hosts: Hosts::default(),
            hash: HashKey::Address,
            sticky: None,
            retries: 2,
            retry_all: false,
            circuit: Circuit { failures: 5, open_ms: 30_000 },
            slow_start_ms: 0,
            most: 0,
            queue_ms: limits::PROXY_QUEUE_MS,
            check: Check::None,
            health: Health::default(),
            connect_ms: limits::DIAL_TIMEOUT_MS,
            response_ms: limits::PROXY_RESPONSE_MS,
            idle_ms: limits::PROXY_IDLE_MS,
            total_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_name_decides() {
        let pairs =
            [("a.example", "exact"), ("*.example", "wide"), ("*.b.example", "near"), ("*", "rest")];
        let hosts = Hosts(pairs.map(|(host, up)| (host.to_owned(), up.to_owned())).to_vec());
        for (host, expected) in [
            ("a.example", "exact"),
            ("A.Example:8080", "exact"),
            ("c.example", "wide"),
            ("x.b.example", "near"),
            ("b.example", "wide"),
            ("example", "rest"),
            ("[::1]:80", "rest"),
            ("", "rest"),
        ] {
            assert_eq!(hosts.find(host.as_bytes()), Some(expected), "{host}");
        }
        assert_eq!(Hosts(vec![("a".to_owned(), "x".to_owned())]).find(b"b"), None);
    }
}
