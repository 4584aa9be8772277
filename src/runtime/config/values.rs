//! Values of fields as users write them: from Lua, JSON or a flag's text, checked; and written out again.
//!
//! Each reader says what it expected and what it got. Must not know the fields that use it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::net::dial::Target;
use crate::net::listener::parse_address;
use crate::runtime::{
    Access, Address, Framing, Mode, Protocol, RuntimeConfig, Strategy, WorkerCount,
};
use crate::store::number::memory_size;
use crate::suggest::did_you_mean;

type Read<T> = Result<T, String>;

pub const MODES: &[(&str, Mode)] = &[
    ("inout", Mode::InOut),
    ("in", Mode::In),
    ("out", Mode::Out),
    ("echo", Mode::Echo),
    ("master", Mode::Master),
];

pub const STRATEGIES: &[(&str, Strategy)] = &[
    ("round-robin", Strategy::RoundRobin),
    ("random", Strategy::Random),
    ("two-choices", Strategy::TwoChoices),
    ("least-conn", Strategy::LeastConnections),
    ("hash", Strategy::Hash),
    ("latency", Strategy::Latency),
    ("lua", Strategy::Lua),
];

pub const PROXIED: &[(&str, Protocol)] = &[("http", Protocol::Http), ("tcp", Protocol::Messages)];

pub const ACCESSES: &[(&str, Access)] =
    &[("readonly", Access::ReadOnly), ("readwrite", Access::ReadWrite), ("admin", Access::Admin)];

pub const BACKPRESSURE: &[(&str, bool)] = &[("close", false), ("drop", true)];

const FRAMINGS: &[(&str, Framing)] = &[
    ("lines", Framing::Lines),
    ("raw", Framing::Raw),
    ("length", Framing::Length(4)),
    ("length1", Framing::Length(1)),
    ("length2", Framing::Length(2)),
    ("length4", Framing::Length(4)),
];

pub fn text(value: &Value) -> Read<&str> {
    value.as_str().ok_or_else(|| expected("a text", value))
}

/// A whole number; flags bring it as text, Lua as a float.
pub fn integer(value: &Value, min: u64, max: u64) -> Read<u64> {
    let number = match value {
        Value::Number(number) => whole(number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| expected(&format!("a whole number from {min} to {max}"), value))
}

fn whole(number: &serde_json::Number) -> Option<u64> {
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
    })
}

/// Bytes as a number or as text with a unit, as redis.conf has them: k, m, g are powers of 1000, kb, mb, gb of 1024.
pub fn bytes(value: &Value) -> Read<u64> {
    let wrong = || expected("bytes, like 1073741824, 256mb or 1gb", value);
    match value {
        Value::Number(number) => whole(number).ok_or_else(wrong),
        Value::String(text) => memory_size(text.as_bytes()).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// The shortest text that [`bytes`] reads as that.
pub fn bytes_out(bytes: u64) -> String {
    for (unit, factor) in [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

pub fn boolean(value: &Value) -> Read<bool> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(expected("true or false", value)),
    }
}

/// One word of a list of words; `_` and `-` are the same.
pub fn choice<T: Copy>(value: &Value, words: &[(&str, T)]) -> Read<T> {
    let word = text(value)?.replace('_', "-");
    if let Some((_, meaning)) = words.iter().find(|(known, _)| *known == word) {
        return Ok(*meaning);
    }
    let list: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
    let message = expected(&list.join(", "), value);
    let suggestion = did_you_mean(&word, list.iter().copied());
    Err(suggestion.map_or(message.clone(), |suggestion| format!("{message}; {suggestion}")))
}

/// The word of a value of [`choice`].
pub fn word<T: PartialEq>(value: T, words: &[(&str, T)]) -> Option<Value> {
    words.iter().find(|(_, meaning)| *meaning == value).map(|(word, _)| json!(word))
}

/// An address for datagrams says that it is UDP.
pub fn set_listen(config: &mut RuntimeConfig, value: &Value) -> Read<()> {
    let address = address(value)?;
    config.udp |= address.is_udp();
    config.listen = Some(address);
    Ok(())
}

fn address(value: &Value) -> Read<Address> {
    const WANTED: &str = "a port (0 to 65535), \"HOST:PORT\" or \"unix:/PATH\"";
    match value {
        Value::Number(_) => {
            let port = integer(value, 0, 65535).map_err(|_| expected(WANTED, value))?;
            Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port as u16).into())
        }
        Value::String(text) => parse_address(text).map_err(|error| match error.hint {
            Some(hint) => format!("{} ({hint})", error.message),
            None => error.message,
        }),
        _ => Err(expected(WANTED, value)),
    }
}

/// A number if that says it all.
pub fn address_out(address: &Address) -> Value {
    match address {
        Address::Ip(ip) | Address::Udp(ip) if ip.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) => {
            json!(ip.port())
        }
        Address::Udp(ip) => json!(ip.to_string()),
        address => json!(address.to_string()),
    }
}

/// A file's mode as chmod(1) takes it.
pub fn file_mode(value: &Value) -> Read<u32> {
    let wrong = || expected("a file mode such as \"0660\"", value);
    let digits = match value {
        Value::String(text) => text.clone(),
        _ => return Err(wrong()),
    };
    let mode = u32::from_str_radix(&digits, 8).map_err(|_| wrong())?;
    (mode <= 0o777).then_some(mode).ok_or_else(wrong)
}

pub fn framing(value: &Value) -> Read<Framing> {
    match value {
        Value::String(_) => choice(value, FRAMINGS),
        Value::Object(table) if table.len() == 1 && table.contains_key("length") => {
            length(&table["length"])
        }
        Value::Array(list) if list.len() == 1 => length(&list[0]),
        _ => Err(expected("\"lines\", \"raw\" or { length = 1, 2 or 4 }", value)),
    }
}

fn length(value: &Value) -> Read<Framing> {
    match integer(value, 1, 4) {
        Ok(bytes @ (1 | 2 | 4)) => Ok(Framing::Length(bytes as u8)),
        _ => Err(expected("a length of 1, 2 or 4 bytes", value)),
    }
}

pub fn framing_out(framing: Framing) -> Value {
    match framing {
        Framing::Lines => json!("lines"),
        Framing::Raw => json!("raw"),
        Framing::Length(bytes) => json!({ "length": bytes }),
    }
}

/// A framing other than lines is only for messages.
pub fn set_framing(config: &mut RuntimeConfig, value: &Value) -> Read<()> {
    config.framing = framing(value)?;
    if config.framing != Framing::Lines {
        config.protocol = Protocol::Messages;
    }
    Ok(())
}

/// `lines` and `raw` are messages with that framing; the others speak lines where they speak messages.
pub fn set_protocol(config: &mut RuntimeConfig, value: &Value) -> Read<()> {
    let (protocol, framing) = match text(value)? {
        "auto" => (Protocol::Auto, Framing::Lines),
        "lines" | "tcp" => (Protocol::Messages, Framing::Lines),
        "raw" => (Protocol::Messages, Framing::Raw),
        "http" => (Protocol::Http, Framing::Lines),
        "websocket" => (Protocol::WebSocket, Framing::Lines),
        later @ ("tls" | "udp") => {
            return Err(format!(
                "\"{later}\" isn't in this version yet; auto, lines, raw, http and websocket are"
            ));
        }
        _ => {
            const WANTED: &str = "\"auto\", \"lines\", \"raw\", \"http\" or \"websocket\"";
            return Err(expected(WANTED, value));
        }
    };
    (config.protocol, config.framing) = (protocol, framing);
    Ok(())
}

/// Nothing where the framing says it.
pub fn protocol_out(config: &RuntimeConfig) -> Option<Value> {
    match (config.protocol, config.framing) {
        (Protocol::Auto, _) => Some(json!("auto")),
        (Protocol::Http, _) => Some(json!("http")),
        (Protocol::WebSocket, _) => Some(json!("websocket")),
        (Protocol::Messages, Framing::Lines) => Some(json!("lines")),
        (Protocol::Messages, _) => None,
    }
}

/// `true` is short for the protocol.
pub fn set_websocket(config: &mut RuntimeConfig, value: &Value) -> Read<()> {
    if boolean(value)? {
        config.protocol = Protocol::WebSocket;
    }
    Ok(())
}

/// Texts, as a list or separated by commas.
pub fn texts(value: &Value) -> Read<Vec<String>> {
    let list: Vec<&str> = match value {
        Value::String(list) => {
            list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
        }
        Value::Array(list) => list.iter().map(text).collect::<Read<_>>()?,
        _ => return Err(expected("a list of texts", value)),
    };
    Ok(list.into_iter().map(str::to_owned).collect())
}

/// Names that may stand in a header's list.
pub fn tokens(value: &Value) -> Read<Vec<String>> {
    let list = texts(value)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match list.iter().find(|name| name.is_empty() || !name.bytes().all(is_token)) {
        Some(name) => {
            Err(format!("\"{name}\" is not a name: letters, digits and !#$%&'*+-.^_`|~ are"))
        }
        None => Ok(list),
    }
}

/// Pages as browsers name them: scheme, host, and the port if it isn't the scheme's own.
pub fn origins(value: &Value) -> Read<Vec<String>> {
    let list = texts(value)?;
    let is_origin = |origin: &String| {
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        origin == "null" || !host.is_empty() && !host.contains(['/', ' ', '*'])
    };
    match list.iter().find(|origin| !is_origin(origin)) {
        Some(origin) => Err(format!("\"{origin}\" is not an origin: write https://example.org")),
        None => Ok(list),
    }
}

/// Nothing for an empty list.
pub fn list_out(list: &[String]) -> Option<Value> {
    (!list.is_empty()).then(|| json!(list))
}

pub fn set_client_protocol(config: &mut RuntimeConfig, value: &Value) -> Read<()> {
    (config.protocol, config.framing) = match text(value)? {
        "lines" | "tcp" => (Protocol::Messages, Framing::Lines),
        "raw" => (Protocol::Messages, Framing::Raw),
        "websocket" => (Protocol::WebSocket, Framing::Lines),
        later @ ("http" | "tls" | "udp") => {
            return Err(format!(
                "\"{later}\" isn't in this version yet; lines, raw and websocket are"
            ));
        }
        _ => return Err(expected("\"lines\", \"raw\" or \"websocket\"", value)),
    };
    Ok(())
}

/// Names that others use for the same are taken too.
pub fn strategy(value: &Value) -> Read<Strategy> {
    let word = text(value)?.replace('_', "-");
    match word.as_str() {
        "weighted" => Ok(Strategy::RoundRobin),
        "least-connections" => Ok(Strategy::LeastConnections),
        "p2c" => Ok(Strategy::TwoChoices),
        "ip-hash" | "consistent-hash" => Ok(Strategy::Hash),
        "ewma" => Ok(Strategy::Latency),
        _ => choice(value, STRATEGIES),
    }
}

/// `HOST:PORT`, or a WebSocket's address, which says all there is to say.
pub fn set_target(config: &mut RuntimeConfig, value: &Value) -> Read<()> {
    let mut address = text(value)?;
    if let Some(rest) = address.strip_prefix(crate::ring::address::UDP) {
        config.udp = true;
        address = rest;
    }
    let (rest, port) = match (address.strip_prefix("ws://"), address.strip_prefix("wss://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        _ => {
            config.target = Some(target(address)?);
            return Ok(());
        }
    };
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
    config.target = Some(target(&host)?);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    config.websocket.path = self::path(&json!(path))?;
    config.protocol = Protocol::WebSocket;
    if port == 443 {
        config.tls.mode = crate::net::tls::Mode::On;
    }
    Ok(())
}

/// What may stand in a request's first line.
pub fn path(value: &Value) -> Read<String> {
    let path = text(value)?;
    let is_fit = path.starts_with('/') && path.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    let plain = is_fit && !path.contains('#');
    plain.then(|| path.to_owned()).ok_or_else(|| expected("a path such as \"/chat?room=1\"", value))
}

fn target(text: &str) -> Read<String> {
    let target: Target = text.parse().map_err(|error: crate::error::OperatorError| {
        format!("{}; write HOST:PORT or unix:/PATH", error.message)
    })?;
    Ok(target.to_string())
}

/// -1 for never, 0 for ever; a bare flag or `true` means for ever, `false` never.
pub fn reconnect(value: &Value) -> Read<Option<u32>> {
    match value {
        Value::Bool(truth) => Ok(truth.then_some(0)),
        Value::Number(number) if number.as_f64() == Some(-1.0) => Ok(None),
        Value::String(text) if text == "-1" => Ok(None),
        Value::String(text) if text.is_empty() => Ok(Some(0)),
        _ => integer(value, 0, u64::from(u32::MAX)).map(|tries| Some(tries as u32)),
    }
}

pub fn resp(value: &Value) -> Read<()> {
    if boolean(value)? {
        Ok(())
    } else {
        Err("the text protocol isn't in this version yet: every cache speaks RESP".to_owned())
    }
}

/// Where a replica's primary is; names aren't looked up again when they move, so an address is asked for.
pub fn primary(value: &Value) -> Read<Option<(String, u16)>> {
    let text = text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let target: crate::net::dial::Target =
        text.parse().map_err(|error: crate::error::OperatorError| error.to_string())?;
    match target.literal() {
        Some(Address::Ip(_)) => Ok(Some((target.host, target.port))),
        _ => Err(format!("expected an IP address or localhost and a port, got {text}")),
    }
}

/// As [`primary`] reads it.
pub fn primary_out(primary: Option<&(String, u16)>) -> Option<Value> {
    let (host, port) = primary?.clone();
    Some(Value::from(crate::net::dial::Target { host, port, path: None }.to_string()))
}

/// An empty password is none.
pub fn password(value: &Value) -> Read<Option<String>> {
    text(value).map(|text| (!text.is_empty()).then(|| text.to_owned()))
}

/// A name; an empty text is none.
pub fn group(value: &Value) -> Read<Option<String>> {
    let name = text(value)?;
    if !name.is_empty() {
        super::check_name(name).map_err(|error| error.message)?;
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

pub fn workers(value: &Value) -> Read<WorkerCount> {
    if value.as_str() == Some("all") {
        return Ok(WorkerCount::All);
    }
    integer(value, 1, crate::limits::WORKERS_MAX as u64)
        .map(|count| WorkerCount::Count(count as u16))
        .map_err(|message| format!("{message}, or \"all\""))
}

fn expected(what: &str, value: &Value) -> String {
    format!("expected {what}, got {}", describe(value))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(truth) => format!("{truth}"),
        Value::Number(number) => format!("{number}"),
        Value::String(text) => format!("\"{}\"", text.chars().take(80).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}
