//! Dialling: targets as people write them, name lookup, and the pauses between attempts.
//!
//! Must not know: what is spoken once connected. Connecting itself is [`crate::ring::Op::Connect`].

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::listener::{parse_address, parse_ip, parse_port};
use crate::error::OperatorError;
use crate::ring::address::UNIX;
use crate::ring::random::Random;
use crate::ring::{Address, UnixPath};

/// `host:port` or `unix:/path`: where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// A name, an IPv4 address, or an IPv6 address without brackets; `unix` for a path.
    pub host: String,
    /// Never 0, but of a path.
    pub port: u16,
    /// A Unix socket's.
    pub path: Option<UnixPath>,
}

impl Target {
    /// The address, if the host is a literal one (or `localhost`, 127.0.0.1): no lookup is needed.
    pub fn literal(&self) -> Option<Address> {
        if let Some(path) = &self.path {
            return Some(Address::Unix(path.clone()));
        }
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port).into())
    }

    /// All addresses of the host, in the system's order of preference.
    ///
    /// **Blocks** in `getaddrinfo(3)`, for seconds when a name server is silent: for the control thread or a thread of
    /// its own, never for a worker. Literal addresses return at once.
    ///
    /// # Errors
    /// The name isn't known or no name server answers.
    pub fn resolve(&self) -> Result<Vec<Address>, OperatorError> {
        if let Some(address) = self.literal() {
            return Ok(vec![address]);
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| {
            OperatorError::failed(format!("can't find the address of {}: {error}", self.host))
                .hint(format!("`getent hosts {}` asks the same resolver", self.host))
        })?;
        Ok(found.map(Address::Ip).collect())
    }
}

impl FromStr for Target {
    type Err = OperatorError;

    fn from_str(text: &str) -> Result<Target, OperatorError> {
        if text.trim().starts_with(UNIX) {
            let Address::Unix(path) = parse_address(text)? else { unreachable!("it says so") };
            return Ok(Target { host: "unix".to_owned(), port: 0, path: Some(path) });
        }
        let wrong = || {
            OperatorError::usage(format!("\"{text}\" is not an address to connect to")).hint(
                "write HOST:PORT, [IPV6]:PORT or unix:/PATH, for example 127.0.0.1:9000 or db.example.org:6379",
            )
        };
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let port = parse_port(port).filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = match parse_ip(host) {
            Some(ip) => ip.to_string(),
            None if is_host_name(host) => host.to_string(),
            None => return Err(wrong()),
        };
        Ok(Target { host, port, path: None })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{UNIX}{}", path.path().display())
        } else if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// RFC 1123 names, and underscores, which container networks use.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // All digits and dots: a mistyped IPv4 address, not a name.
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= 253 && !numeric && name.split('.').all(label)
}

/// Pauses between attempts to reconnect: the bound doubles, the pause is anywhere between the minimum and the bound, so
/// that many clients don't return in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    bound_ms: u64,
}

impl Backoff {
    /// Pauses from `min_ms` to `max_ms`.
    pub fn new(min_ms: u64, max_ms: u64) -> Backoff {
        let min_ms = min_ms.max(1);
        Backoff { min_ms, max_ms: max_ms.max(min_ms), bound_ms: min_ms }
    }

    /// How long to wait before the next attempt.
    pub fn next_ms(&mut self, random: &mut Random) -> u64 {
        let pause_ms = self.min_ms + random.below(self.bound_ms - self.min_ms + 1);
        self.bound_ms = self.bound_ms.saturating_mul(2).min(self.max_ms);
        pause_ms
    }

    /// A connection stood: the next failure starts from the minimum.
    pub fn reset(&mut self) {
        self.bound_ms = self.min_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        let cases = [
            ("127.0.0.1:9000", Some(("127.0.0.1:9000", Some("127.0.0.1:9000")))),
            ("unix:/run/a.sock", Some(("unix:/run/a.sock", Some("unix:/run/a.sock")))),
            ("localhost:1", Some(("localhost:1", Some("127.0.0.1:1")))),
            ("[::1]:80", Some(("[::1]:80", Some("[::1]:80")))),
            ("db.example.org:6379", Some(("db.example.org:6379", None))),
            ("my_app-1:80", Some(("my_app-1:80", None))),
            ("host.:80", Some(("host.:80", None))),
            ("9000", None),
            (":9000", None),
            ("host:", None),
            ("host:0", None),
            ("host:70000", None),
            ("::1:80", None),
            ("1.2.3:80", None),
            ("300.1.1.1:80", None),
            ("a..b:80", None),
            ("http://host:80", None),
            ("ho st:80", None),
        ];
        for (text, expected) in cases {
            let outcome = text.parse::<Target>();
            let Some((shown, literal)) = expected else {
                let error = outcome.expect_err(text);
                assert!(error.message.contains(text) && error.exit_code == 2, "{error}");
                continue;
            };
            let target = outcome.expect(text);
            assert_eq!(target.to_string(), shown);
            assert_eq!(target.literal().map(|address| address.to_string()).as_deref(), literal);
        }
    }

    #[test]
    fn literal_addresses_resolve_without_a_lookup() {
        let target: Target = "[::1]:80".parse().unwrap();
        assert_eq!(target.resolve().unwrap(), ["[::1]:80".parse().unwrap()]);
    }

    #[test]
    fn an_unknown_name_is_named() {
        let target: Target = "no-such-host.invalid:80".parse().unwrap();
        let error = target.resolve().unwrap_err();
        assert!(error.message.contains("no-such-host.invalid"), "{error}");
    }

    #[test]
    fn pauses_grow_to_their_bound_and_start_again() {
        let mut random = Random::new(1);
        let mut backoff = Backoff::new(100, 5_000);
        assert_eq!(backoff.next_ms(&mut random), 100);
        let pauses: Vec<u64> = (0..200).map(|_| backoff.next_ms(&mut random)).collect();
        assert!(pauses.iter().all(|pause| (100..=5_000).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause > 4_000), "{pauses:?}");
        backoff.reset();
        assert_eq!(backoff.next_ms(&mut random), 100);
        assert_eq!(Backoff::new(0, 0).next_ms(&mut random), 1);
    }
}
