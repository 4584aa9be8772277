//! The fields that say what kind of sockets a runtime has, and who is the master of a server: rows of the one table.
//!
//! Must not know: how sockets are made.

use serde_json::{Value, json};

use super::FieldError;
use super::fields::{Field, Flag, ValueType};
use super::values as v;
use crate::id::RuntimeKind::{Cache, Client, Proxy, Server};
use crate::limits::{AMPLIFICATION_MAX, BACKLOG_BYTES_LIMIT, MULTICAST_GROUPS_MAX};
use crate::net::listener::SocketOptions;
use crate::net::multicast::Group;
use crate::net::tls;
use crate::ring::Address;
use crate::runtime::{Framing, Mode, Protocol, RuntimeConfig};

const fn flag(long: &'static str) -> Option<Flag> {
    Some(Flag { long, short: None, aliases: &[] })
}

/// The rows.
pub static FIELDS: &[Field] = &[
    Field {
        name: "socket_mode",
        aliases: &[],
        kinds: &[Server, Proxy, Cache],
        value: ValueType::Text,
        default: "0600",
        flag: flag("socket-mode"),
        help: "the file mode of a Unix socket, such as 0660: who may write to it may connect",
        live: false,
        required: false,
        write: |config, value| v::file_mode(value).map(|mode| config.socket.mode = mode),
        read: |config| Some(json!(format!("{:04o}", config.socket.mode))),
    },
    Field {
        name: "udp",
        aliases: &[],
        kinds: &[Server, Client],
        value: ValueType::Boolean,
        default: "false",
        flag: flag("udp"),
        help: "datagrams instead of streams: each is a message as it is; peers end after idle_timeout (60 s)",
        live: false,
        required: false,
        write: |config, value| v::boolean(value).map(|udp| config.udp = udp),
        read: |config| Some(json!(config.udp)),
    },
    Field {
        name: "amplification",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::Integer,
        default: "1",
        flag: flag("amplification"),
        help: "UDP: a peer elsewhere that conn:verify() hasn't named is sent at most so many times what it has sent; 0 for no limit, on networks whose addresses can be trusted",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, 0, AMPLIFICATION_MAX).map(|n| config.amplification = n as u32)
        },
        read: |config| Some(json!(config.amplification)),
    },
    Field {
        name: "multicast",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::List,
        default: "none",
        flag: flag("multicast"),
        help: "UDP: groups to join, such as 239.1.2.3 (%OWN-ADDRESS names the interface) or ff02::1234%eth0",
        live: false,
        required: false,
        write: |config, value| groups(value).map(|groups| config.socket.groups = groups),
        read: |config| {
            let list: Vec<String> = config.socket.groups.iter().map(Group::to_string).collect();
            v::list_out(&list)
        },
    },
    Field {
        name: "send_queue",
        aliases: &[],
        kinds: &[Client],
        value: ValueType::Integer,
        default: "0: what is sent while nobody is connected is refused",
        flag: flag("send-queue"),
        help: "bytes of messages that are kept while nobody is connected; beyond, the oldest are dropped",
        live: true,
        required: false,
        write: |config, value| {
            v::integer(value, 0, BACKLOG_BYTES_LIMIT).map(|n| config.send_queue_bytes = n as usize)
        },
        read: |config| Some(json!(config.send_queue_bytes)),
    },
    Field {
        name: "master_pw",
        aliases: &["master_password"],
        kinds: &[Server],
        value: ValueType::Text,
        default: "none",
        flag: flag("master-pw"),
        help: "mode master: what a client says after \"master \" to become the master",
        live: true,
        required: false,
        write: |config, value| v::password(value).map(|password| config.master_password = password),
        read: |config| config.master_password.as_ref().map(|password| json!(password)),
    },
    Field {
        name: "master_forward",
        aliases: &[],
        kinds: &[Server],
        value: ValueType::Boolean,
        default: "false",
        flag: flag("master-forward"),
        help: "mode master: what other clients say goes to the master, as \"[ID] MESSAGE\"",
        live: true,
        required: false,
        write: |config, value| v::boolean(value).map(|on| config.master_forward = on),
        read: |config| Some(json!(config.master_forward)),
    },
];

fn groups(value: &Value) -> Result<Vec<Group>, String> {
    let list = v::texts(value)?;
    if list.len() > MULTICAST_GROUPS_MAX {
        return Err(format!("at most {MULTICAST_GROUPS_MAX} are possible, got {}", list.len()));
    }
    list.iter().map(|text| text.parse()).collect()
}

impl RuntimeConfig {
    /// After all fields are set: the address follows `udp`, and what can't be is refused.
    pub(super) fn settle(&mut self) -> Option<FieldError> {
        match (&self.listen, self.udp) {
            (Some(Address::Ip(address)), true) => self.listen = Some(Address::Udp(*address)),
            (Some(Address::Udp(address)), false) => self.listen = Some(Address::Ip(*address)),
            _ => {}
        }
        let error = |field: &str, message: &str| Some(FieldError::new(field, message));
        let is_path = matches!(self.listen, Some(Address::Unix(_)))
            || self.target.as_ref().is_some_and(|it| it.starts_with(crate::ring::address::UNIX));
        let speaks_more = !matches!(self.protocol, Protocol::Auto | Protocol::Messages);
        if self.udp && self.kind != Server && self.kind != Client {
            return error("port", "only servers and clients speak UDP");
        } else if self.udp && is_path {
            return error("udp", "a Unix socket is a stream here; name a port");
        } else if self.udp && self.tls.mode != tls::Mode::Off {
            return error("udp", "there is no TLS over UDP here; leave one of them out");
        } else if self.udp && speaks_more {
            return error("udp", "HTTP and WebSocket are streams; leave the protocol out");
        } else if self.udp && matches!(self.framing, Framing::Length(_)) {
            return error("framing", "a datagram is a message; leave the framing out");
        } else if self.udp && self.mode == Mode::Master {
            return error("mode", "anyone can forge the address of a datagram: no master over UDP");
        } else if self.kind == Client && self.mode == Mode::Master {
            return error("mode", "a client has one peer; inout, in and out are for it");
        }
        self.check_groups()
    }

    fn check_groups(&self) -> Option<FieldError> {
        let SocketOptions { groups, .. } = &self.socket;
        let bound = self.listen.as_ref().and_then(Address::ip);
        if groups.is_empty()
            || (self.udp && bound.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast()))
        {
            return None;
        }
        Some(FieldError {
            field: "multicast".to_owned(),
            message: "only a UDP server on all addresses receives what is sent to groups"
                .to_owned(),
            hint: Some("use --udp -p *:PORT (in a file: udp = true, port = \"*:PORT\")".to_owned()),
        })
    }
}
