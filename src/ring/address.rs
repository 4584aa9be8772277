//! Where a socket is: an IP address with its port, for streams or datagrams, or a path in the file system.
//!
//! Must not know: who listens or dials there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// What a path's text begins with.
pub const UNIX: &str = "unix:";

/// What the text of an address for datagrams begins with.
pub const UDP: &str = "udp:";

/// The longest path that the kernel takes: `sun_path` with its zero byte is 108 bytes.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// An address to listen on, to dial, or of the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Ip(SocketAddr),
    /// UDP over IPv4 or IPv6.
    Udp(SocketAddr),
    /// A Unix socket. Clients have no address of their own: a peer's is the path it came by.
    Unix(UnixPath),
}

/// An absolute path that fits the kernel's form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixPath(Arc<Path>);

impl UnixPath {
    /// Nothing if it isn't absolute, too long, or has a zero byte.
    pub fn new(path: &Path) -> Option<UnixPath> {
        let bytes = path.as_os_str().as_bytes();
        let fits = path.is_absolute() && bytes.len() <= UNIX_PATH_BYTES_MAX && !bytes.contains(&0);
        fits.then(|| UnixPath(path.into()))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Address {
    /// The IP address, unless it is a path.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }

    /// The IP address; who comes by a path is on this machine.
    pub fn ip_or_local(&self) -> IpAddr {
        self.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The IP address with its port, unless it is a path.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) | Address::Udp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The port; 0 for a path.
    pub fn port(&self) -> u16 {
        self.socket().map_or(0, |address| address.port())
    }

    /// The IP address as text, or `unix`.
    pub fn host(&self) -> String {
        self.ip().map_or_else(|| "unix".to_owned(), |ip| ip.to_string())
    }

    /// Whether it is for datagrams.
    pub fn is_udp(&self) -> bool {
        matches!(self, Address::Udp(_))
    }

    /// Whether both can't be listened on at the same time.
    pub fn overlaps(&self, other: &Address) -> bool {
        let (Some(one), Some(two)) = (self.socket(), other.socket()) else { return self == other };
        self.is_udp() == other.is_udp()
            && one.port() != 0
            && one.port() == two.port()
            && (one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified())
    }

    /// Whether only this machine can be there.
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Udp(address) => write!(f, "{UDP}{address}"),
            Address::Unix(path) => write!(f, "{UNIX}{}", path.path().display()),
        }
    }
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

/// As it is displayed.
impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Address, NoAddress> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return UnixPath::new(Path::new(path)).map(Address::Unix).ok_or(NoAddress);
        }
        match text.strip_prefix(UDP) {
            Some(address) => address.parse().map(Address::Udp),
            None => text.parse().map(Address::Ip),
        }
        .map_err(|_| NoAddress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["127.0.0.1:80", "[::1]:80", "udp:[::1]:80", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        for text in ["127.0.0.1", "unix:a.sock", "unix:", "/run/a.sock", "unix:/a\0b", &long] {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn a_path_is_of_this_machine() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        assert!(address("0.0.0.0:53").overlaps(&address("127.0.0.1:53")));
        assert!(!address("0.0.0.0:53").overlaps(&address("udp:127.0.0.1:53")));
        assert!(!address("127.0.0.1:0").overlaps(&address("127.0.0.1:0")));
        assert!(address("unix:/a").overlaps(&address("unix:/a")));
        let is_local = |text: &str| text.parse::<Address>().unwrap().is_local();
        assert!(is_local("unix:/run/a") && is_local("[::ffff:127.0.0.1]:1") && is_local("[::1]:1"));
        assert!(!is_local("192.0.2.1:1"));
    }
}
