//! The PROXY protocol: the header in which a proxy tells whom it speaks for, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Must not know: sockets, who may send such a header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A header that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes.
    pub consumed: usize,
    /// The client's address; nothing where the proxy speaks for itself or for one without an IP address.
    pub source: Option<SocketAddr>,
}

/// What doesn't follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The first line of version 1 ends here at the latest, CR and LF included (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;
/// Addresses and further fields of version 2; nobody sends more than a few hundred bytes.
const FIELD_BYTES_MAX: usize = 4096;

/// Bytes of the longest header.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + FIELD_BYTES_MAX;

/// The versions of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    One,
    /// Bytes.
    Two,
}

/// Writes the header of a stream from `source` that came in at `destination`.
pub fn write(out: &mut Vec<u8>, version: Version, source: SocketAddr, destination: SocketAddr) {
    let (ips, is_v4) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ((IpAddr::V4(from), IpAddr::V4(to)), true),
        (from, to) => ((wide(from), wide(to)), false),
    };
    let (from, to) = (source.port(), destination.port());
    match version {
        Version::One => {
            let family = if is_v4 { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {} {} {from} {to}\r\n", ips.0, ips.1);
            out.extend_from_slice(line.as_bytes());
        }
        Version::Two => {
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(&[0x21, if is_v4 { 0x11 } else { 0x21 }]);
            let length: u16 = if is_v4 { 12 } else { 36 };
            out.extend_from_slice(&length.to_be_bytes());
            for ip in [ips.0, ips.1] {
                match ip {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            for port in [from, to] {
                out.extend_from_slice(&port.to_be_bytes());
            }
        }
    }
}

/// An address as IPv6 has it.
fn wide(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        wide @ IpAddr::V6(_) => wide,
    }
}

/// Reads a header at the beginning of a stream; nothing while it isn't whole.
///
/// # Errors
/// The stream doesn't begin with one.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_line(bytes),
        Some(b'\r') => parse_binary(bytes),
        Some(_) => Err(Malformed),
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let start = b"PROXY ";
    let known = bytes.len().min(start.len());
    if bytes[..known] != start[..known] {
        return Err(Malformed);
    }
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Malformed) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, port, to_port] => {
            let address = |text: &str| text.parse::<IpAddr>().map_err(|_| Malformed);
            let (source, destination) = (address(source)?, address(destination)?);
            let fits = |ip: IpAddr| ip.is_ipv4() == (*family == "TCP4");
            if !fits(source) || !fits(destination) {
                return Err(Malformed);
            }
            parse_port(to_port)?;
            Some(SocketAddr::new(source, parse_port(port)?))
        }
        _ => return Err(Malformed),
    };
    Ok(Some(Header { consumed: end + 1, source }))
}

/// Digits without leading zeros.
fn parse_port(text: &str) -> Result<u16, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Malformed)
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Malformed);
    }
    // Refused as soon as it is seen: nothing after it can make it good.
    let is_local = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Malformed),
    };
    let (Some(family), Some(length)) = (bytes.get(13), bytes.get(14..FIXED_BYTES)) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > FIELD_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(fields) = bytes.get(FIXED_BYTES..FIXED_BYTES + length) else { return Ok(None) };
    let source = match family {
        _ if is_local => None,
        // TCP or UDP over IPv4: source, destination, their ports.
        0x11 | 0x12 => {
            let fields: &[u8; 12] = fields.first_chunk().ok_or(Malformed)?;
            let ip = Ipv4Addr::new(fields[0], fields[1], fields[2], fields[3]);
            Some(SocketAddr::new(ip.into(), u16::from_be_bytes([fields[8], fields[9]])))
        }
        0x21 | 0x22 => {
            let fields: &[u8; 36] = fields.first_chunk().ok_or(Malformed)?;
            let ip: &[u8; 16] = fields.first_chunk().ok_or(Malformed)?;
            let port = u16::from_be_bytes([fields[32], fields[33]]);
            Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), port))
        }
        // Unix sockets and what nobody has named yet.
        _ => None,
    };
    Ok(Some(Header { consumed: FIXED_BYTES + length, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let cases = [
            ("10.0.0.7:4000", "127.0.0.1:80"),
            ("[2001:db8::7]:4000", "[::1]:80"),
            ("[::ffff:10.0.0.7]:9", "127.0.0.1:80"),
            ("[2001:db8::7]:4000", "127.0.0.1:80"),
        ];
        for (source, destination) in cases {
            let source: SocketAddr = source.parse().unwrap();
            for version in [Version::One, Version::Two] {
                let mut out = Vec::new();
                write(&mut out, version, source, destination.parse().unwrap());
                let header = parse(&out).unwrap().unwrap();
                assert_eq!(header.consumed, out.len());
                let read = header.source.unwrap();
                assert_eq!(read.ip().to_canonical(), source.ip().to_canonical());
                assert_eq!(read.port(), source.port());
            }
        }
    }

    fn binary(command: u8, family: u8, fields: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[command, family]);
        bytes.extend_from_slice(&(fields.len() as u16).to_be_bytes());
        bytes.extend_from_slice(fields);
        bytes
    }

    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let line = |text: &str| format!("{text}\r\n").into_bytes();
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let v6: Vec<u8> = [[0x20u8; 16].as_slice(), &[1; 16], &[0x12, 0x34, 0, 80]].concat();
        let with_more = [v4.as_slice(), &[3, 0, 4, 1, 2, 3, 4]].concat();
        let longest = format!("PROXY UNKNOWN {}", "f".repeat(91));
        vec![
            (line("PROXY TCP4 192.0.2.7 10.0.0.1 4660 80"), Some("192.0.2.7:4660")),
            (line("PROXY TCP6 2001:db8::7 ::1 65535 1"), Some("[2001:db8::7]:65535")),
            (line("PROXY UNKNOWN"), None),
            (line("PROXY UNKNOWN ffff::1 ffff::2 65535 65535"), None),
            (line(&longest), None),
            (binary(0x21, 0x11, &v4), Some("192.0.2.7:4660")),
            (binary(0x21, 0x11, &with_more), Some("192.0.2.7:4660")),
            (binary(0x21, 0x21, &v6), Some("[2020:2020:2020:2020:2020:2020:2020:2020]:4660")),
            (binary(0x20, 0x11, &v4), None),
            (binary(0x20, 0, &[]), None),
            (binary(0x21, 0, &[]), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
        ]
    }

    #[test]
    fn headers_are_read_at_every_split_and_leave_what_follows() {
        for (header, source) in good() {
            let source = source.map(|text| text.parse().unwrap());
            for split in 0..header.len() {
                assert_eq!(parse(&header[..split]), Ok(None), "{split} of {header:?}");
            }
            let expected = Ok(Some(Header { consumed: header.len(), source }));
            assert_eq!(parse(&header), expected, "{header:?}");
            assert_eq!(parse(&[header.as_slice(), b"PROXY \r\n"].concat()), expected);
        }
    }

    #[test]
    fn what_is_none_is_refused_as_soon_as_it_shows() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let lines = [
            "GET / HTTP/1.1\r\n",
            "PROXYTCP4",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4660 80 1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\n",
            "PROXY TCP4  192.0.2.7 10.0.0.1 4660 80\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 1\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 01 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 80\r\n",
            "PROXY tcp4 192.0.2.7 10.0.0.1 1 80\r\n",
            "PROXY\r\n",
        ];
        let mut wrong: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        wrong.push(format!("PROXY UNKNOWN {}", "f".repeat(200)).into_bytes());
        wrong.push(b"\r\n\r\n\0\r\nQUIT\r".to_vec());
        wrong.push(binary(0x11, 0x11, &v4));
        wrong.push(binary(0x22, 0x11, &v4));
        wrong.push(binary(0x21, 0x11, &v4[..11]));
        wrong.push(binary(0x21, 0x21, &v4));
        wrong.push(binary(0x21, 0x11, &[0; FIELD_BYTES_MAX + 1]));
        for bytes in wrong {
            assert_eq!(parse(&bytes), Err(Malformed), "{:?}", String::from_utf8_lossy(&bytes));
        }
        assert!(good().iter().all(|(header, _)| header.len() <= HEADER_BYTES_MAX));
    }
}
