//! The fields of HTTP proxies: rows of the one table of fields, and their values.
//!
//! Must not know: how requests are passed on.

use serde_json::{Map, Value, json};

use super::bounds;
use super::fields::{Field, Flag, ValueType};
use super::row::{Read, Write};
use super::values as v;
use crate::id::RuntimeKind::{self, Proxy};
use crate::limits::{PROXY_HEADER_CHANGES_MAX, PROXY_HOSTS_MAX, PROXY_TIME_MS_MAX};
use crate::proto::http1::{is_token, is_value};
use crate::proto::proxy_protocol::Version;
use crate::runtime::proxy::settings::{Check, Forwarded, HashKey, HeaderChange, Host, Hosts};

const PROXY: &[RuntimeKind] = &[Proxy];

const FORWARDED: &[(&str, Forwarded)] = &[
    ("x", Forwarded { common: true, standard: false }),
    ("standard", Forwarded { common: false, standard: true }),
    ("both", Forwarded { common: true, standard: true }),
    ("none", Forwarded { common: false, standard: false }),
];

const SENDS: &[(&str, Option<Version>)] =
    &[("none", None), ("v1", Some(Version::One)), ("v2", Some(Version::Two))];

/// What all rows of proxies have in common: they may change while the runtime runs.
const fn row(
    name: &'static str,
    value: ValueType,
    default: &'static str,
    help: &'static str,
    write: Write,
    read: Read,
) -> Field {
    Field { default, ..Field::live(name, PROXY, value, help, write, read) }
}

/// The rows, after the others.
pub static FIELDS: &[Field] = &[
    Field {
        flag: Flag::long("host"),
        ..row(
            "host",
            ValueType::Text,
            "keep",
            "HTTP: the Host that backends see: keep (the client's), backend (their own), or a name",
            |config, value| host(value).map(|host| config.proxy.host = host),
            |config| host_out(&config.proxy.host),
        )
    },
    row(
        "hosts",
        ValueType::Table,
        "none",
        "which upstream serves a host: [\"a.example\"] = \"NAME\", [\"*.b.example\"], [\"*\"]; TLS that passes through by its SNI",
        |config, value| hosts(value).map(|hosts| config.proxy.hosts = hosts),
        |config| hosts_out(&config.proxy.hosts),
    ),
    Field {
        flag: Flag::long("forwarded"),
        ..row(
            "forwarded",
            ValueType::Choice(&["x", "standard", "both", "none"]),
            "x",
            "HTTP: how backends hear of the client: X-Forwarded-For, -Proto, -Host (x), Forwarded (standard), both, none",
            |config, value| v::choice(value, FORWARDED).map(|how| config.proxy.forwarded = how),
            |config| v::word(config.proxy.forwarded, FORWARDED),
        )
    },
    Field {
        aliases: &["real_ip_from"],
        flag: Flag::long("trusted-proxies"),
        ..row(
            "trusted_proxies",
            ValueType::List,
            "none",
            "HTTP: addresses and networks of proxies before this one, whose X-Forwarded-* are believed and added to",
            |config, value| bounds::networks(value).map(|list| config.proxy.trusted = list),
            |config| bounds::networks_out(&config.proxy.trusted),
        )
    },
    Field {
        flag: Flag::long("via"),
        ..row(
            "via",
            ValueType::Text,
            "none",
            "HTTP: this proxy's name in a Via header",
            |config, value| via(value).map(|via| config.proxy.via = via),
            |config| config.proxy.via.as_ref().map(|via| json!(via)),
        )
    },
    Field {
        flag: Flag::long("send-proxy"),
        ..row(
            "send_proxy",
            ValueType::Choice(&["none", "v1", "v2"]),
            "none",
            "backends' connections begin with a PROXY header about the client; HTTP keeps none of them then",
            |config, value| v::choice(value, SENDS).map(|it| config.proxy.send_proxy = it),
            |config| v::word(config.proxy.send_proxy, SENDS),
        )
    },
    Field {
        flag: Flag::long("strip-prefix"),
        ..row(
            "strip_prefix",
            ValueType::Text,
            "none",
            "HTTP: taken off the front of paths before a backend sees them, such as /api",
            |config, value| prefix(value).map(|prefix| config.proxy.strip_prefix = prefix),
            |config| config.proxy.strip_prefix.as_ref().map(|prefix| json!(prefix)),
        )
    },
    Field {
        flag: Flag::long("add-prefix"),
        ..row(
            "add_prefix",
            ValueType::Text,
            "none",
            "HTTP: put before paths, after strip_prefix",
            |config, value| prefix(value).map(|prefix| config.proxy.add_prefix = prefix),
            |config| config.proxy.add_prefix.as_ref().map(|prefix| json!(prefix)),
        )
    },
    row(
        "request_headers",
        ValueType::Table,
        "none",
        "HTTP: headers set on requests, by name; false leaves one out",
        |config, value| changes(value).map(|list| config.proxy.request_headers = list),
        |config| changes_out(&config.proxy.request_headers),
    ),
    row(
        "response_headers",
        ValueType::Table,
        "none",
        "HTTP: headers set on answers, by name; false leaves one out",
        |config, value| changes(value).map(|list| config.proxy.response_headers = list),
        |config| changes_out(&config.proxy.response_headers),
    ),
    Field {
        aliases: &["hash"],
        flag: Flag::long("hash-on"),
        ..row(
            "hash_on",
            ValueType::Text,
            "address",
            "strategy hash: what meets the same backend again: address, path, header:NAME or cookie:NAME",
            |config, value| hash_key(value).map(|key| config.proxy.hash = key),
            |config| hash_key_out(&config.proxy.hash),
        )
    },
    Field {
        flag: Flag::long("sticky"),
        ..row(
            "sticky",
            ValueType::Text,
            "none",
            "HTTP: the name of a cookie by which clients stick to their backend",
            |config, value| cookie(value).map(|name| config.proxy.sticky = name),
            |config| config.proxy.sticky.as_ref().map(|name| json!(name)),
        )
    },
    Field {
        aliases: &["retries"],
        flag: Flag::long("retry"),
        ..row(
            "retry",
            ValueType::Integer,
            "2",
            "HTTP: how often a failed request that is safe to repeat goes to another backend",
            |config, value| v::integer(value, 0, 100).map(|n| config.proxy.retries = n as u32),
            |config| Some(json!(config.proxy.retries)),
        )
    },
    Field {
        flag: Flag::long("retry-all"),
        ..row(
            "retry_all",
            ValueType::Boolean,
            "false",
            "HTTP: also requests that aren't safe to repeat, unless some of their body has gone",
            |config, value| v::boolean(value).map(|all| config.proxy.retry_all = all),
            |config| config.proxy.retry_all.then_some(json!(true)),
        )
    },
    Field {
        flag: Flag::long("circuit-threshold"),
        ..row(
            "circuit_threshold",
            ValueType::Integer,
            "5",
            "failures in a row after which a backend isn't asked for a while; 0 for never",
            |config, value| {
                v::integer(value, 0, 1_000_000).map(|n| config.proxy.circuit.failures = n as u32)
            },
            |config| Some(json!(config.proxy.circuit.failures)),
        )
    },
    Field {
        flag: Flag::long("circuit-timeout"),
        ..row(
            "circuit_timeout",
            ValueType::Integer,
            "30",
            "seconds of that while; then one request tries it again",
            |config, value| {
                v::integer(value, 1, 86_400).map(|s| config.proxy.circuit.open_ms = s * 1000)
            },
            |config| Some(json!(config.proxy.circuit.open_ms / 1000)),
        )
    },
    Field {
        flag: Flag::long("slow-start"),
        ..row(
            "slow_start",
            ValueType::Integer,
            "0",
            "seconds in which a backend that is back gets its share by and by",
            |config, value| {
                v::integer(value, 0, 86_400).map(|s| config.proxy.slow_start_ms = s * 1000)
            },
            |config| Some(json!(config.proxy.slow_start_ms / 1000)),
        )
    },
    Field {
        flag: Flag::long("backend-limit"),
        ..row(
            "backend_limit",
            ValueType::Integer,
            "0: no limit",
            "requests or streams at one backend at a time; HTTP requests beyond wait for queue_ms",
            |config, value| v::integer(value, 0, 1_000_000).map(|n| config.proxy.most = n as u32),
            |config| Some(json!(config.proxy.most)),
        )
    },
    Field {
        flag: Flag::long("queue-ms"),
        ..row(
            "queue_ms",
            ValueType::Integer,
            "5000",
            "HTTP: how long a request waits for a place at a backend; then 503",
            |config, value| time(value, 0).map(|ms| config.proxy.queue_ms = ms),
            |config| Some(json!(config.proxy.queue_ms)),
        )
    },
    Field {
        flag: Flag::long("health-check"),
        ..row(
            "health_check",
            ValueType::Choice(&["none", "tcp", "http"]),
            "none",
            "how backends are asked whether they are well: by a connection, or a request for health_path",
            |config, value| check(value).map(|kind| config.proxy.check = kind),
            |config| v::word(config.proxy.check, CHECKS),
        )
    },
    Field {
        flag: Flag::long("health-path"),
        ..row(
            "health_path",
            ValueType::Text,
            "/health",
            "the path of a health check over HTTP",
            |config, value| v::path(value).map(|path| config.proxy.health.path = path),
            |config| Some(json!(config.proxy.health.path)),
        )
    },
    row(
        "health_status",
        ValueType::Text,
        "200-299",
        "the statuses that are well: one, or two with a hyphen",
        |config, value| statuses(value).map(|range| config.proxy.health.status = range),
        |config| {
            let (from, to) = config.proxy.health.status;
            Some(if from == to { json!(from) } else { json!(format!("{from}-{to}")) })
        },
    ),
    row(
        "health_body",
        ValueType::Text,
        "none",
        "what the body of a health check's answer must hold",
        |config, value| {
            let text = v::text(value)?;
            config.proxy.health.body = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
        |config| config.proxy.health.body.as_ref().map(|text| json!(text)),
    ),
    Field {
        flag: Flag::long("health-interval"),
        ..row(
            "health_interval",
            ValueType::Integer,
            "5",
            "seconds between health checks",
            |config, value| {
                v::integer(value, 1, 86_400).map(|s| config.proxy.health.interval_ms = s * 1000)
            },
            |config| Some(json!(config.proxy.health.interval_ms / 1000)),
        )
    },
    Field {
        flag: Flag::long("health-timeout-ms"),
        ..row(
            "health_timeout_ms",
            ValueType::Integer,
            "2000",
            "how long a health check may take",
            |config, value| time(value, 1).map(|ms| config.proxy.health.timeout_ms = ms),
            |config| Some(json!(config.proxy.health.timeout_ms)),
        )
    },
    Field {
        aliases: &["health_fall"],
        flag: Flag::long("health-threshold"),
        ..row(
            "health_threshold",
            ValueType::Integer,
            "3",
            "bad health checks in a row that take a backend out",
            |config, value| v::integer(value, 1, 1000).map(|n| config.proxy.health.fall = n as u32),
            |config| Some(json!(config.proxy.health.fall)),
        )
    },
    Field {
        flag: Flag::long("health-rise"),
        ..row(
            "health_rise",
            ValueType::Integer,
            "2",
            "good health checks in a row that bring it back",
            |config, value| v::integer(value, 1, 1000).map(|n| config.proxy.health.rise = n as u32),
            |config| Some(json!(config.proxy.health.rise)),
        )
    },
    Field {
        flag: Flag::long("connect-timeout-ms"),
        ..row(
            "connect_timeout_ms",
            ValueType::Integer,
            "5000",
            "how long a dial to a backend may take",
            |config, value| time(value, 1).map(|ms| config.proxy.connect_ms = ms),
            |config| Some(json!(config.proxy.connect_ms)),
        )
    },
    Field {
        flag: Flag::long("response-timeout-ms"),
        ..row(
            "response_timeout_ms",
            ValueType::Integer,
            "60000",
            "HTTP: how long a backend may take until its answer begins; then 504",
            |config, value| time(value, 1).map(|ms| config.proxy.response_ms = ms),
            |config| Some(json!(config.proxy.response_ms)),
        )
    },
    Field {
        flag: Flag::long("stall-timeout-ms"),
        ..row(
            "stall_timeout_ms",
            ValueType::Integer,
            "60000",
            "HTTP: how long a body may stand still, in either direction",
            |config, value| time(value, 1).map(|ms| config.proxy.idle_ms = ms),
            |config| Some(json!(config.proxy.idle_ms)),
        )
    },
    Field {
        flag: Flag::long("request-timeout-ms"),
        ..row(
            "request_timeout_ms",
            ValueType::Integer,
            "0: no limit",
            "HTTP: how long a request may take in all, its answer included",
            |config, value| time(value, 0).map(|ms| config.proxy.total_ms = ms),
            |config| Some(json!(config.proxy.total_ms)),
        )
    },
];

fn hosts(value: &Value) -> Result<Hosts, String> {
    let table = match value {
        Value::Object(table) => table,
        Value::Array(list) if list.is_empty() => return Ok(Hosts::default()),
        _ => return Err("expected a table of upstreams by host".to_owned()),
    };
    if table.len() > PROXY_HOSTS_MAX {
        return Err(format!("at most {PROXY_HOSTS_MAX} are possible"));
    }
    let mut list = Vec::new();
    for (host, upstream) in table {
        let name = host.strip_prefix("*.").or_else(|| host.strip_prefix('*')).unwrap_or(host);
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[:]".contains(&byte);
        let is_wild = host.starts_with('*') && host != "*" && !host.starts_with("*.");
        if is_wild || host.is_empty() || !name.bytes().all(is_fit) {
            return Err(format!("\"{host}\" is not a host: write a.example, *.a.example or *"));
        }
        let upstream = upstream
            .as_str()
            .ok_or_else(|| format!("{host}: expected the name of an upstream or backend"))?;
        list.push((host.clone(), upstream.to_owned()));
    }
    Ok(Hosts(list))
}

fn hosts_out(hosts: &Hosts) -> Option<Value> {
    let table: Map<String, Value> =
        hosts.0.iter().map(|(host, upstream)| (host.clone(), json!(upstream))).collect();
    (!table.is_empty()).then_some(Value::Object(table))
}

const CHECKS: &[(&str, Check)] =
    &[("none", Check::None), ("tcp", Check::Tcp), ("http", Check::Http)];

/// A path alone would be a good guess, but a wrong one for half of those who write it.
fn check(value: &Value) -> Result<Check, String> {
    match value {
        Value::Bool(false) => Ok(Check::None),
        _ => v::choice(value, CHECKS),
    }
}

fn hash_key(value: &Value) -> Result<HashKey, String> {
    let text = v::text(value)?;
    let named = |name: &str| {
        let is_fit = !name.is_empty() && name.bytes().all(is_token);
        is_fit.then(|| name.to_owned()).ok_or_else(|| format!("\"{name}\" is not a name"))
    };
    match text.split_once(':') {
        Some(("header", name)) => named(name).map(HashKey::Header),
        Some(("cookie", name)) => named(name).map(HashKey::Cookie),
        None if text == "address" || text == "ip" => Ok(HashKey::Address),
        None if text == "path" => Ok(HashKey::Path),
        _ => Err(format!("expected address, path, header:NAME or cookie:NAME, got \"{text}\"")),
    }
}

fn hash_key_out(key: &HashKey) -> Option<Value> {
    match key {
        HashKey::Address => None,
        HashKey::Path => Some(json!("path")),
        HashKey::Header(name) => Some(json!(format!("header:{name}"))),
        HashKey::Cookie(name) => Some(json!(format!("cookie:{name}"))),
    }
}

fn cookie(value: &Value) -> Result<Option<String>, String> {
    let name = v::text(value)?;
    if !name.bytes().all(is_token) {
        return Err(format!("\"{name}\" is not a cookie's name"));
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

fn statuses(value: &Value) -> Result<(u16, u16), String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        _ => v::text(value)?.to_owned(),
    };
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    let status = |text: &str| text.trim().parse().ok().filter(|s| (100..600).contains(s));
    status(from)
        .zip(status(to))
        .filter(|(from, to)| from <= to)
        .ok_or_else(|| format!("expected a status such as 200, or 200-299, got \"{text}\""))
}

fn time(value: &Value, least: u64) -> Result<u64, String> {
    v::integer(value, least, PROXY_TIME_MS_MAX)
}

/// An empty text is the default, so that a field can be taken back.
fn host(value: &Value) -> Result<Host, String> {
    let name = v::text(value)?;
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match name {
        "" | "keep" => Ok(Host::Kept),
        "backend" => Ok(Host::Backend),
        name if name.bytes().all(is_fit) => Ok(Host::Fixed(name.to_owned())),
        _ => Err(format!("expected keep, backend or a host's name, got \"{name}\"")),
    }
}

fn host_out(host: &Host) -> Option<Value> {
    match host {
        Host::Kept => None,
        Host::Backend => Some(json!("backend")),
        Host::Fixed(name) => Some(json!(name)),
    }
}

fn via(value: &Value) -> Result<Option<String>, String> {
    let name = v::text(value)?;
    let is_fit = |byte: u8| is_token(byte) || byte == b':';
    if !name.bytes().all(is_fit) {
        return Err(format!("expected a name without blanks, got \"{name}\""));
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// With a slash in front and none behind.
fn prefix(value: &Value) -> Result<Option<String>, String> {
    let text = v::text(value)?;
    let inner = text.trim_matches('/');
    if inner.is_empty() {
        return Ok(None);
    }
    let path = v::path(&json!(format!("/{inner}")))?;
    if path.contains('?') {
        return Err(format!("expected a path without a query, got \"{text}\""));
    }
    Ok(Some(path))
}

/// Names of the fields that say where a message ends or whose the connection is: the proxy's own business.
const OWN: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn changes(value: &Value) -> Result<Vec<HeaderChange>, String> {
    let table = match value {
        Value::Object(table) => table,
        Value::Array(list) if list.is_empty() => return Ok(Vec::new()),
        _ => return Err("expected a table of headers by name".to_owned()),
    };
    if table.len() > PROXY_HEADER_CHANGES_MAX {
        return Err(format!("at most {PROXY_HEADER_CHANGES_MAX} are possible"));
    }
    table.iter().map(|(name, value)| change(name, value)).collect()
}

fn change(name: &str, value: &Value) -> Result<HeaderChange, String> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("\"{name}\" is not a header's name"));
    }
    if OWN.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{name} is the proxy's own business"));
    }
    let value = match value {
        Value::Bool(false) => None,
        Value::String(text) if text.bytes().all(is_value) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => return Err(format!("{name}: expected a text of one line, or false to leave it out")),
    };
    Ok((name.to_owned(), value))
}

fn changes_out(changes: &[HeaderChange]) -> Option<Value> {
    let table: Map<String, Value> = changes
        .iter()
        .map(|(name, value)| (name.clone(), value.as_ref().map_or(json!(false), |v| json!(v))))
        .collect();
    (!table.is_empty()).then_some(Value::Object(table))
}
