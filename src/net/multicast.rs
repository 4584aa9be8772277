//! Multicast groups: as people write them, and joining them.
//!
//! Must not know: who receives.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::str::FromStr;

/// `239.1.2.3`, or `239.1.2.3%192.168.1.5` on the interface with that address; `ff02::1234%eth0` on that interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    ip: IpAddr,
    /// Empty: the system chooses.
    interface: String,
}

impl Group {
    /// Receives what is sent to the group.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn join(&self, socket: &UdpSocket) -> io::Result<()> {
        match self.ip {
            IpAddr::V4(group) => {
                let own = if self.interface.is_empty() {
                    Ok(Ipv4Addr::UNSPECIFIED)
                } else {
                    self.interface.parse()
                };
                socket.join_multicast_v4(&group, &own.map_err(io::Error::other)?)
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, self.index()?),
        }
    }

    /// The interface's number; 0 lets the system choose.
    fn index(&self) -> io::Result<u32> {
        if self.interface.is_empty() {
            return Ok(0);
        }
        if let Ok(index) = self.interface.parse() {
            return Ok(index);
        }
        let text = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", self.interface))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)?;
        if self.interface.is_empty() { Ok(()) } else { write!(f, "%{}", self.interface) }
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Group, String> {
        let (ip, interface) = text.trim().split_once('%').unwrap_or((text.trim(), ""));
        let wrong =
            || format!("expected a group such as 239.1.2.3 or ff02::1234%eth0, got \"{text}\"");
        let ip: IpAddr = ip.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !ip.is_multicast() || !interface.bytes().all(is_name) || interface.starts_with('.') {
            return Err(wrong());
        }
        if ip.is_ipv4() && !interface.is_empty() && interface.parse::<Ipv4Addr>().is_err() {
            return Err(format!(
                "name the interface of \"{ip}\" by its own address, such as {ip}%192.168.1.5"
            ));
        }
        Ok(Group { ip, interface: interface.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_they_are_shown() {
        for text in ["239.1.2.3", "239.1.2.3%127.0.0.1", "ff02::1234", "ff02::1234%eth0"] {
            assert_eq!(text.parse::<Group>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.1", "239.1.2", "239.1.2.3%eth0", "ff02::1%../x", "ff02::1%..", ""] {
            assert!(text.parse::<Group>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_interface_that_isnt_there_is_an_error() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let group: Group = "ff02::1234%nowhere0".parse().unwrap();
        assert_eq!(group.join(&socket).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
