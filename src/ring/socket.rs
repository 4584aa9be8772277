//! Socket calls that io_uring has no operation for, as small safe functions.
//!
//! Must not know: connections, protocols, rings.

#![allow(unsafe_code, reason = "system calls on raw descriptors")]

use std::fs::{File, Permissions};
use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use super::{Address, Errno, Fd, UnixPath};

/// A listening Unix socket with the file mode `mode`, close-on-exec. Nobody can connect before it has that mode.
///
/// # Errors
/// What `socket`, `bind`, `chmod` or `listen` said; `AddrInUse` if the file is there already.
pub fn listen_unix(path: &UnixPath, mode: u32, backlog: i32) -> io::Result<UnixListener> {
    let socket = unix_socket(0)?;
    let raw = RawAddress::from(&Address::Unix(path.clone()));
    let (address, bytes) = raw.as_raw();
    // SAFETY: `raw` holds that many bytes of an address and lives over the call.
    if unsafe { libc::bind(socket.as_raw_fd(), address, bytes) } < 0 {
        return Err(io::Error::last_os_error());
    }
    std::fs::set_permissions(path.path(), Permissions::from_mode(mode))?;
    // SAFETY: the descriptor is open, `socket` owns it.
    if unsafe { libc::listen(socket.as_raw_fd(), backlog) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(UnixListener::from(socket))
}

/// Whether somebody listens at a path. Never blocks.
///
/// # Errors
/// It can't be told: no permission, no socket, ...
pub fn is_live(path: &UnixPath) -> io::Result<bool> {
    let socket = unix_socket(libc::SOCK_NONBLOCK)?;
    let raw = RawAddress::from(&Address::Unix(path.clone()));
    let (address, bytes) = raw.as_raw();
    // SAFETY: `raw` holds that many bytes of an address and lives over the call.
    if unsafe { libc::connect(socket.as_raw_fd(), address, bytes) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Its queue is full.
        Some(libc::EAGAIN) => Ok(true),
        Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(false),
        _ => Err(error),
    }
}

fn unix_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: plain integers, no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) has just made `fd`; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A listening stream socket: SO_REUSEADDR, no SO_REUSEPORT, close-on-exec, blocking (as the ring wants it).
///
/// # Errors
/// What `socket`, `bind` or `listen` said.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // SAFETY: the descriptor is open, `listener` owns it; a second listen(2) only changes the backlog.
    if unsafe { libc::listen(listener.as_raw_fd(), backlog) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(listener)
}

/// A stream socket for [`super::Op::Connect`]: TCP_NODELAY, close-on-exec, blocking.
pub(super) fn stream_for(address: &Address) -> Result<OwnedFd, Errno> {
    let domain = match address.ip() {
        Some(IpAddr::V4(_)) => libc::AF_INET,
        Some(IpAddr::V6(_)) => libc::AF_INET6,
        None => libc::AF_UNIX,
    };
    // SAFETY: plain integers, no memory is involved.
    let fd = unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: socket(2) has just made `fd`; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_nodelay(Fd(fd));
    Ok(socket)
}

/// A datagram socket that receives at `address`: close-on-exec, blocking (as the ring wants it).
///
/// # Errors
/// What `socket` or `bind` said.
pub fn bind_datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address)
}

/// A socket for [`super::Op::Datagram`].
pub(super) fn datagram_for(
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
) -> Result<OwnedFd, Errno> {
    let any: SocketAddr = match peer {
        Some(SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
    };
    let made = bind_datagram(local.unwrap_or(any)).and_then(|socket| {
        peer.map_or(Ok(()), |peer| socket.connect(peer))?;
        Ok(socket.into())
    });
    made.map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// TCP_NODELAY; a socket that has no such option stays as it is.
pub(super) fn set_nodelay(fd: Fd) {
    // Failing means: not a TCP socket. Then there is nothing to set.
    with_stream(fd, |stream| stream.set_nodelay(true)).unwrap_or(());
}

/// `getpeername(2)` of an IP socket; of a Unix socket the path that it came by.
pub(super) fn peer(fd: Fd) -> Result<Address, Errno> {
    let other = |error: io::Error| match error.raw_os_error() {
        Some(errno) => Err(Errno(errno)),
        None => unix_path(fd).ok_or(Errno(libc::EAFNOSUPPORT)),
    };
    with_stream(fd, TcpStream::peer_addr).map(Address::Ip).or_else(other)
}

fn unix_path(fd: Fd) -> Option<Address> {
    // SAFETY: as in `with_stream`.
    let stream = ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(fd.0) });
    let local = stream.local_addr().ok()?;
    UnixPath::new(local.as_pathname()?).map(Address::Unix)
}

/// `getsockname(2)` of an IP socket.
pub(super) fn local(fd: Fd) -> Result<SocketAddr, Errno> {
    with_stream(fd, TcpStream::local_addr)
        .map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EAFNOSUPPORT)))
}

/// A new eventfd, close-on-exec and non-blocking.
pub(super) fn event() -> io::Result<File> {
    // SAFETY: plain integers, no memory is involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: eventfd(2) has just made `fd`; nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// `close(2)` of a descriptor that the driver made and nobody has seen yet.
pub(super) fn close(fd: Fd) {
    // SAFETY: the caller has just got `fd` from the kernel and gives it to nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(fd.0) });
}

fn with_stream<T>(fd: Fd, call: impl FnOnce(&TcpStream) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the stream is only lent to `call` and never dropped, so it doesn't close what it doesn't own; on a
    // descriptor that isn't a socket the calls fail with an error.
    let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd.0) });
    call(&stream)
}

fn last_errno() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// An address in the kernel's form.
pub(super) enum RawAddress {
    /// `AF_INET`
    V4(libc::sockaddr_in),
    /// `AF_INET6`
    V6(libc::sockaddr_in6),
    /// `AF_UNIX`
    Unix(libc::sockaddr_un),
}

impl RawAddress {
    /// The first byte and the length of the kernel's form, valid as long as `self` stays where it is.
    pub(super) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            RawAddress::V4(raw) => ((&raw const *raw).cast(), size_of_val(raw) as libc::socklen_t),
            RawAddress::V6(raw) => ((&raw const *raw).cast(), size_of_val(raw) as libc::socklen_t),
            RawAddress::Unix(raw) => {
                ((&raw const *raw).cast(), size_of_val(raw) as libc::socklen_t)
            }
        }
    }
}

impl From<&Address> for RawAddress {
    fn from(address: &Address) -> RawAddress {
        let path = match address {
            Address::Ip(address) | Address::Udp(address) => return address.into(),
            Address::Unix(path) => path.path().as_os_str().as_bytes(),
        };
        let mut raw = libc::sockaddr_un {
            sun_family: libc::AF_UNIX as libc::sa_family_t,
            sun_path: [0; 108],
        };
        // A path is shorter than that by a zero byte at least: see `UnixPath::new`.
        for (to, byte) in raw.sun_path.iter_mut().zip(path) {
            *to = *byte as libc::c_char;
        }
        RawAddress::Unix(raw)
    }
}

impl From<&SocketAddr> for RawAddress {
    fn from(address: &SocketAddr) -> RawAddress {
        match address {
            SocketAddr::V4(v4) => RawAddress::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => RawAddress::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }
}
