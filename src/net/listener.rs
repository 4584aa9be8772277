//! Listening sockets: addresses as people write them, and binding with errors that name the way out.
//!
//! Must not know: who accepts, what is spoken.

mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use super::holder;
use super::multicast::Group;
use crate::error::OperatorError;
use crate::limits::LISTEN_BACKLOG;
use crate::ring::address::{UDP, UNIX};
use crate::ring::{Address, Fd, socket};

/// What beside its address makes a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The file mode of a Unix socket.
    pub mode: u32,
    /// Groups whose datagrams it receives.
    pub groups: Vec<Group>,
}

impl Default for SocketOptions {
    /// A Unix socket is its owner's.
    fn default() -> SocketOptions {
        SocketOptions { mode: 0o600, groups: Vec::new() }
    }
}

/// A bound socket that listens, or receives datagrams. Dropping it closes it and removes its file: cancel its accepts
/// first.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: Address,
    /// A Unix socket's.
    _file: Option<unix::SocketFile>,
}

impl Listener {
    /// Binds `address`; port 0 picks a free port.
    ///
    /// # Errors
    /// The address is in use, reserved for root, or not one of this machine; a group can't be joined.
    pub fn bind(address: &Address, options: &SocketOptions) -> Result<Listener, OperatorError> {
        let bound = match address {
            Address::Unix(path) => {
                let (socket, file) = unix::bind(path, options.mode)?;
                return Ok(Listener { socket, address: address.clone(), _file: Some(file) });
            }
            Address::Ip(ip) => socket::listen(*ip, LISTEN_BACKLOG)
                .and_then(|socket| Ok((Address::Ip(socket.local_addr()?), socket.into()))),
            Address::Udp(ip) => match socket::bind_datagram(*ip) {
                Ok(socket) => {
                    join(&socket, options)?;
                    socket.local_addr().map(|bound| (Address::Udp(bound), socket.into()))
                }
                Err(error) => Err(error),
            },
        };
        match bound {
            Ok((address, socket)) => Ok(Listener { socket, address, _file: None }),
            Err(error) => Err(bind_error(address, &error)),
        }
    }

    /// The address with its real port.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// For [`crate::ring::Op::Accept`] or [`crate::ring::Op::ReceiveFrom`]; valid while the listener lives.
    pub fn fd(&self) -> Fd {
        Fd(self.socket.as_raw_fd())
    }
}

/// Reads `9000` (then 127.0.0.1), `0.0.0.0:9000`, `[::1]:9000`, `localhost:9000`, `*:9000` (all IPv4 addresses),
/// `udp:9000` or `unix:/run/app.sock`.
///
/// # Errors
/// Anything else, with an example.
pub fn parse_address(text: &str) -> Result<Address, OperatorError> {
    let text = text.trim();
    if text.starts_with(UNIX) {
        return unix::parse(text);
    }
    match text.strip_prefix(UDP) {
        Some(rest) => parse_socket(rest).map(Address::Udp),
        None => parse_socket(text).map(Address::Ip),
    }
}

fn join(socket: &UdpSocket, options: &SocketOptions) -> Result<(), OperatorError> {
    for group in &options.groups {
        group.join(socket).map_err(|error| {
            OperatorError::failed(format!("can't join the multicast group {group}: {error}"))
                .hint("`ip maddress` and `ip address` show what the machine's interfaces are")
        })?;
    }
    Ok(())
}

fn parse_socket(text: &str) -> Result<SocketAddr, OperatorError> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let address = if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(OperatorError::usage(format!("\"{text}\" has no port"))
            .hint(format!("write an IPv6 address in brackets: [{text}]:9000")));
    } else {
        match host {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            host => parse_ip(host),
        }
    };
    let Some(ip) = address else {
        return Err(OperatorError::usage(format!("\"{text}\" is not an address to listen on"))
            .hint("write PORT, IP:PORT, [IPV6]:PORT, *:PORT or unix:/PATH, for example 9000 or 0.0.0.0:9000"));
    };
    let Some(port) = parse_port(port) else {
        return Err(OperatorError::usage(format!("\"{port}\" is not a port"))
            .hint("ports are numbers up to 65535; 0 picks a free one"));
    };
    Ok(SocketAddr::new(ip, port))
}

/// An IPv4 address, or an IPv6 address in brackets.
pub(super) fn parse_ip(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Decimal digits only: `u16::from_str` would take "+80" too.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn bind_error(address: &Address, error: &io::Error) -> OperatorError {
    let port = address.port();
    let (table, options) = if address.is_udp() { ("udp", "-lnup") } else { ("tcp", "-lntp") };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let error =
                OperatorError::failed(format!("can't listen on {address}: the address is in use"));
            error.hint(match holder::of_port(table, port) {
                Some((name, process)) => format!(
                    "{name} (process {process}) has port {port}; stop it or choose another port"
                ),
                None => format!(
                    "another process has port {port} (ss {options} 'sport = :{port}' shows it); stop it or choose another port"
                ),
            })
        }
        io::ErrorKind::PermissionDenied if port < 1024 => OperatorError::failed(format!(
            "can't listen on {address}: ports below 1024 need a privilege"
        ))
        .hint("choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep, or AmbientCapabilities= in systemd)"),
        io::ErrorKind::AddrNotAvailable => OperatorError::failed(format!(
            "can't listen on {address}: this machine has no such address"
        ))
        .hint(format!("`ip address` lists the ones it has; 0.0.0.0:{port} listens on all of them")),
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            OperatorError::failed(format!("can't listen on {address}: this machine has no IPv6"))
                .hint(format!("use an IPv4 address: 0.0.0.0:{port}"))
        }
        _ => OperatorError::failed(format!("can't listen on {address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let cases = [
            ("9000", Ok("127.0.0.1:9000")),
            (" 9000 ", Ok("127.0.0.1:9000")),
            ("0", Ok("127.0.0.1:0")),
            ("0.0.0.0:9000", Ok("0.0.0.0:9000")),
            ("*:65535", Ok("0.0.0.0:65535")),
            ("localhost:80", Ok("127.0.0.1:80")),
            ("[::1]:9000", Ok("[::1]:9000")),
            ("[::]:0", Ok("[::]:0")),
            ("udp:9000", Ok("udp:127.0.0.1:9000")),
            ("udp:*:53", Ok("udp:0.0.0.0:53")),
            ("unix:/run/app.sock", Ok("unix:/run/app.sock")),
            ("unix:///run/app.sock", Ok("unix:/run/app.sock")),
            ("unix:app.sock", Err("\"app.sock\" is not an absolute path")),
            ("unix:", Err("\"\" is not an absolute path")),
            ("65536", Err("\"65536\" is not a port")),
            ("+80", Err("\"+80\" is not a port")),
            ("0.0.0.0:", Err("\"\" is not a port")),
            ("", Err("\"\" is not a port")),
            ("http", Err("\"http\" is not a port")),
            (":9000", Err("\":9000\" is not an address to listen on")),
            ("example.org:9000", Err("\"example.org:9000\" is not an address to listen on")),
            ("::1", Err("\"::1\" has no port")),
            ("[127.0.0.1]:1", Err("\"[127.0.0.1]:1\" is not an address to listen on")),
            ("1.2.3.4", Err("\"1.2.3.4\" is not a port")),
        ];
        for (text, expected) in cases {
            let outcome = parse_address(text);
            match expected {
                Ok(address) => assert_eq!(outcome.unwrap().to_string(), address, "{text}"),
                Err(message) => {
                    let error = outcome.unwrap_err();
                    assert_eq!((error.message.as_str(), error.exit_code), (message, 2), "{text}");
                    assert!(error.hint.is_some(), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_port_in_use_names_the_address_and_the_way_out() {
        let first =
            Listener::bind(&parse_address("0").unwrap(), &SocketOptions::default()).unwrap();
        let error = Listener::bind(&first.address(), &SocketOptions::default()).unwrap_err();
        assert!(error.message.contains(&first.address().to_string()), "{error}");
        let process = format!("(process {})", std::process::id());
        assert!(error.hint.as_ref().unwrap().contains(&process), "{error}");
        drop(first);
    }

    /// TCP and UDP have ports of their own.
    #[test]
    fn a_port_for_datagrams_in_use_names_its_holder_too() {
        let first =
            Listener::bind(&parse_address("udp:0").unwrap(), &SocketOptions::default()).unwrap();
        let error = Listener::bind(&first.address(), &SocketOptions::default()).unwrap_err();
        let process = format!("(process {})", std::process::id());
        assert!(error.message.contains(&first.address().to_string()), "{error}");
        assert!(error.hint.as_ref().unwrap().contains(&process), "{error}");
        let socket = first.address().socket().unwrap();
        Listener::bind(&Address::Ip(socket), &SocketOptions::default()).unwrap();
    }

    #[test]
    fn other_bind_errors_are_told_apart() {
        let elsewhere: Address = "192.0.2.1:9000".parse().unwrap();
        assert!(
            Listener::bind(&elsewhere, &SocketOptions::default())
                .unwrap_err()
                .message
                .contains("no such address")
        );
        let low: Address = "127.0.0.1:80".parse().unwrap();
        let denied = bind_error(&low, &io::Error::from_raw_os_error(libc::EACCES));
        assert!(denied.hint.unwrap().contains("CAP_NET_BIND_SERVICE"));
    }
}
