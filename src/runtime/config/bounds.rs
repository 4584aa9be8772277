//! The fields that limit what peers may do, and whose PROXY headers are believed: rows of the one table of fields.
//!
//! Must not know: how limits are kept.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::fields::{Field, Flag, ValueType};
use super::row::{Read, Write};
use super::values as v;
use crate::id::RuntimeKind::{self, Cache, Client, Proxy, Server};
use crate::limits::PROXY_SOURCES_MAX;
use crate::runtime::limiter::Network;

const ALL: &[RuntimeKind] = &RuntimeKind::ALL;
const LISTENING: &[RuntimeKind] = &[Server, Proxy, Cache];
const SPEAKING: &[RuntimeKind] = &[Server, Client, Cache];

/// Rates and times beyond this are a mistake.
const MOST: u64 = 1_000_000_000_000;

/// A row of a number whose 0 is no limit.
const fn row(
    name: &'static str,
    kinds: &'static [RuntimeKind],
    long: &'static str,
    help: &'static str,
    write: Write,
    read: Read,
) -> Field {
    let field = Field::live(name, kinds, ValueType::Integer, help, write, read);
    Field { default: "0: no limit", flag: Flag::long(long), ..field }
}

fn some(number: u64) -> Option<Value> {
    (number > 0).then(|| json!(number))
}

/// The rows, after the others.
pub static FIELDS: &[Field] = &[
    row(
        "rate_limit",
        SPEAKING,
        "rate-limit",
        "messages or commands of one connection a second; who sends more is read more slowly",
        |config, value| v::integer(value, 0, MOST).map(|n| config.limits.messages = n),
        |config| some(config.limits.messages),
    ),
    row(
        "global_rate_limit",
        SPEAKING,
        "global-rate-limit",
        "the same for all connections together",
        |config, value| v::integer(value, 0, MOST).map(|n| config.limits.messages_total = n),
        |config| some(config.limits.messages_total),
    ),
    row(
        "rate_limit_bytes",
        ALL,
        "rate-limit-bytes",
        "bytes read of one connection a second; who sends more is read more slowly",
        |config, value| v::integer(value, 0, MOST).map(|n| config.limits.bytes = n),
        |config| some(config.limits.bytes),
    ),
    row(
        "idle_timeout",
        ALL,
        "idle-timeout",
        "seconds after which a connection on which nothing comes or goes is closed",
        |config, value| v::integer(value, 0, IDLE_S_MAX).map(|n| config.limits.idle_s = n),
        |config| some(config.limits.idle_s),
    ),
    row(
        "max_connections_per_ip",
        LISTENING,
        "max-connections-per-ip",
        "connections from one address at a time",
        |config, value| {
            v::integer(value, 0, u64::from(u32::MAX)).map(|n| config.limits.per_address = n as u32)
        },
        |config| some(u64::from(config.limits.per_address)),
    ),
    Field {
        name: "group",
        aliases: &[],
        kinds: LISTENING,
        value: ValueType::Text,
        default: "none",
        flag: Some(Flag { long: "group", short: None, aliases: &[] }),
        help: "a name for several runtimes: a proxy's backend @NAME is all of them that run",
        live: true,
        required: false,
        write: |config, value| v::group(value).map(|group| config.group = group),
        read: |config| config.group.as_ref().map(|group| json!(group)),
    },
    Field {
        name: "proxy_protocol",
        aliases: &["proxy_protocol_from"],
        kinds: LISTENING,
        value: ValueType::List,
        default: "none",
        flag: Some(Flag { long: "proxy-protocol", short: None, aliases: &[] }),
        help: "addresses and networks whose connections begin with a PROXY header (version 1 or 2) that is believed",
        live: true,
        required: false,
        write: |config, value| networks(value).map(|list| config.proxy_protocol = list),
        read: |config| networks_out(&config.proxy_protocol),
    },
];

/// A year.
const IDLE_S_MAX: u64 = 366 * 86_400;

pub(super) fn networks_out(networks: &[Network]) -> Option<Value> {
    let list: Vec<String> = networks.iter().map(Network::to_string).collect();
    (!list.is_empty()).then(|| json!(list))
}

pub(super) fn networks(value: &Value) -> Result<Vec<Network>, String> {
    let entries: Vec<&str> = match value {
        Value::Array(list) => list.iter().map(v::text).collect::<Result<_, _>>()?,
        _ => v::text(value)?.split(',').map(str::trim).collect(),
    };
    let entries: Vec<&str> = entries.into_iter().filter(|entry| !entry.is_empty()).collect();
    if entries.len() > PROXY_SOURCES_MAX {
        return Err(format!("at most {PROXY_SOURCES_MAX} are possible, got {}", entries.len()));
    }
    entries.into_iter().map(network).collect()
}

fn network(text: &str) -> Result<Network, String> {
    let wrong = || format!("expected addresses like 10.0.0.7 or 10.0.0.0/8, got \"{text}\"");
    let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, n)| (ip, Some(n)));
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(text) => text.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(wrong)?,
    };
    Ok(Network { ip, prefix })
}
