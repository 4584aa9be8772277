//! A runtime's fields: what a user may write, checked into a [`RuntimeConfig`] and written out again.
//!
//! [`fields`] is the one table; parsing, did-you-mean, JSON, the command line's flags and the schema of `check` are
//! derived from its rows. Must not know: who asks, where it is kept, what runs.

mod backends;
mod behind;
mod bounds;
mod commands;
mod disk;
pub mod fields;
mod later;
mod proxied;
mod row;
mod secure;
mod sockets;
mod times;
mod values;
mod web;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Map, Value, json};

pub use fields::{FIELDS, Field, Flag, ValueType};

use super::{
    Access, Framing, HttpConfig, Mode, Protocol, RuntimeConfig, RuntimeKind, Strategy, WorkerCount,
};
use crate::error::OperatorError;
use crate::limits::NAME_BYTES_MAX;
use crate::net::tls::Tls;
use crate::store::eviction::Policy;
use crate::suggest::did_you_mean;

/// A field that is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field as the user wrote it.
    pub field: String,
    /// What is wrong, without the field's name.
    pub message: String,
    /// What to write instead, if that is known.
    pub hint: Option<String>,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl FieldError {
    fn new(field: &str, message: impl Into<String>) -> FieldError {
        FieldError { field: field.to_owned(), message: message.into(), hint: None }
    }

    /// One error for the operator out of several: all messages, the first hint.
    pub fn into_operator_error(
        kind: RuntimeKind,
        name: &str,
        errors: &[FieldError],
    ) -> OperatorError {
        let list: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        let mut error = OperatorError::usage(format!("{kind} \"{name}\": {}", list.join("; ")));
        error.hint = errors.iter().find_map(|error| error.hint.clone());
        error
    }
}

impl RuntimeConfig {
    /// A runtime with every field at its default.
    pub fn new(kind: RuntimeKind, name: &str) -> RuntimeConfig {
        RuntimeConfig {
            name: name.to_owned(),
            kind,
            listen: default_port(kind)
                .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()),
            socket: crate::net::listener::SocketOptions::default(),
            udp: false,
            amplification: 1,
            send_queue_bytes: 0,
            master_password: None,
            master_forward: false,
            mode: Mode::InOut,
            framing: Framing::Lines,
            protocol: match kind {
                RuntimeKind::Server => Protocol::Auto,
                RuntimeKind::Proxy => Protocol::Http,
                RuntimeKind::Client | RuntimeKind::Cache => Protocol::Messages,
            },
            detect_ms: crate::limits::DETECT_MS,
            http: HttpConfig::default(),
            backlog_bytes_max: crate::limits::OUTBOX_MAX_BYTES,
            drops_oldest: false,
            websocket: super::WebSocketSettings::default(),
            max_connections: 0,
            target: (kind == RuntimeKind::Client).then(|| DEFAULT_TARGET.to_owned()),
            reconnect: Some(0),
            group: None,
            backends: Vec::new(),
            strategy: Strategy::RoundRobin,
            proxy: super::proxy::Settings::default(),
            access: Access::ReadWrite,
            password: None,
            commands: [].into(),
            write_behind: super::cache::hooks::WriteBehind::default(),
            replicate: None,
            maxmemory: 0,
            eviction: Policy::NoEviction,
            persist: crate::store::persistence::Persist::None,
            appendfsync: crate::store::persistence::Sync::EverySecond,
            limits: super::limiter::Limits::default(),
            proxy_protocol: Vec::new(),
            tls: crate::net::tls::Settings::default(),
            workers: WorkerCount::Default,
            lua: None,
            autostart: None,
        }
    }

    /// Checks `fields` as a user wrote them, in a file or as flags.
    ///
    /// # Errors
    /// Every field that is unknown, of a wrong type or value, or missing.
    pub fn parse(
        kind: RuntimeKind,
        name: &str,
        fields: &Map<String, Value>,
    ) -> Result<RuntimeConfig, Vec<FieldError>> {
        let mut config = RuntimeConfig::new(kind, name);
        let mut errors = config.set_all(fields);
        errors.extend(contradiction(fields, &config));
        errors.extend(nameless(&config));
        errors.extend(hostless(&config));
        if config.proxy.send_proxy.is_some() && config.tls.to_backends {
            let message = "can't come before TLS to backends in this version".to_owned();
            errors.push(FieldError { field: "send_proxy".to_owned(), message, hint: None });
        }
        errors.extend(config.settle());
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// A copy with `fields` changed; what isn't named stays.
    ///
    /// # Errors
    /// As [`RuntimeConfig::parse`], but nothing can be missing.
    pub fn edited(&self, fields: &Map<String, Value>) -> Result<RuntimeConfig, Vec<FieldError>> {
        let mut config = self.clone();
        let mut errors = config.set_all(fields);
        errors.extend(config.settle());
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// The seconds of silence after which its connections end; 0 for never. Peers of UDP servers always end.
    pub fn idle_s(&self) -> u64 {
        match self.limits.idle_s {
            0 if self.udp && self.kind == RuntimeKind::Server => crate::limits::UDP_PEER_IDLE_S,
            idle_s => idle_s,
        }
    }

    /// The fields that aren't at their default, as [`RuntimeConfig::parse`] takes them.
    pub fn to_fields(&self) -> Map<String, Value> {
        let default = RuntimeConfig::new(self.kind, &self.name);
        fields_of(self.kind)
            .filter_map(|field| Some((field, (field.read)(self)?)))
            .filter(|(field, value)| {
                field.required || (field.read)(&default).as_ref() != Some(value)
            })
            .map(|(field, value)| (field.name.to_owned(), value))
            .collect()
    }

    /// Reads the files that TLS needs; a running runtime's tickets stay good.
    ///
    /// # Errors
    /// One of them is missing or wrong, or a field lacks another.
    pub fn load_tls(&self, previous: Option<&Tls>) -> Result<Tls, OperatorError> {
        self.tls.load(self.kind == RuntimeKind::Client, previous)
    }

    /// The names of the fields whose values differ and that can't change while the runtime runs.
    pub fn needs_stop(&self, other: &RuntimeConfig) -> Vec<&'static str> {
        fields_of(self.kind)
            .filter(|field| !field.live && (field.read)(self) != (field.read)(other))
            .map(|field| field.name)
            .collect()
    }

    fn set_all(&mut self, fields: &Map<String, Value>) -> Vec<FieldError> {
        fields.iter().filter_map(|(name, value)| self.set(name, value).err()).collect()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), FieldError> {
        let field = find(self.kind, name).map_err(|error| *error)?;
        (field.write)(self, value).map_err(|message| FieldError::new(name, message))
    }
}

/// The fields that runtimes of this type have, in the table's order.
pub fn fields_of(kind: RuntimeKind) -> impl Iterator<Item = &'static Field> {
    every_field().filter(move |field| field.kinds.contains(&kind))
}

/// All rows of the table.
pub fn every_field() -> impl Iterator<Item = &'static Field> {
    FIELDS
        .iter()
        .chain(sockets::FIELDS)
        .chain(times::FIELDS)
        .chain(disk::FIELDS)
        .chain(bounds::FIELDS)
        .chain(secure::FIELDS)
        .chain(proxied::FIELDS)
        .chain(web::FIELDS)
}

/// The port of a runtime that names none; a client has none.
pub fn default_port(kind: RuntimeKind) -> Option<u16> {
    match kind {
        RuntimeKind::Server => Some(8000),
        RuntimeKind::Proxy => Some(8080),
        RuntimeKind::Cache => Some(9000),
        RuntimeKind::Client => None,
    }
}

const DEFAULT_TARGET: &str = "127.0.0.1:8000";

/// Checks a runtime's or app's name: letters, digits, dot, underscore, hyphen; no leading dot.
///
/// # Errors
/// Says which rule the name breaks.
pub fn check_name(name: &str) -> Result<(), OperatorError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let problem = if name.is_empty() {
        "a name is missing".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("a name has at most {NAME_BYTES_MAX} characters, this one has {}", name.len())
    } else if name.starts_with('.') {
        format!("\"{name}\" is not a name: it begins with a dot")
    } else if name.starts_with('-') {
        format!("\"{name}\" is not a name: it begins like a flag")
    } else if !name.bytes().all(allowed) {
        format!("\"{name}\" is not a name")
    } else {
        return Ok(());
    };
    Err(OperatorError::usage(problem)
        .hint("names are letters, digits, dots, underscores and hyphens"))
}

pub use backends::{backend_of, backend_parts};

/// The flags of `create` and `edit` as the command line's specs have them: `{field, long, short, aliases, type,
/// choices, kinds, default, help, live}`.
pub fn flag_specs() -> Value {
    every_field().filter_map(flag_spec).collect()
}

fn flag_spec(field: &Field) -> Option<Value> {
    let flag = field.flag.as_ref()?;
    let kinds: Vec<&str> = field.kinds.iter().map(|kind| kind.name()).collect();
    Some(json!({
        "field": field.name, "long": flag.long, "short": flag.short, "aliases": flag.aliases,
        "type": field.value.name(), "choices": field.value.choices(), "kinds": kinds,
        "default": field.default, "help": field.help, "live": field.live,
    }))
}

/// Every field with its type, for the schema of definition files: `{name, aliases, kinds, type, choices, default,
/// help}`.
pub fn schema() -> Value {
    let row = |field: &Field| {
        let kinds: Vec<&str> = field.kinds.iter().map(|kind| kind.name()).collect();
        json!({
            "name": field.name, "aliases": field.aliases, "kinds": kinds, "type": field.value.name(),
            "choices": field.value.choices(), "default": field.default, "help": field.help,
        })
    };
    every_field().map(row).collect()
}

fn find(kind: RuntimeKind, name: &str) -> Result<&'static Field, Box<FieldError>> {
    let name_normal = name.replace('-', "_");
    if let Some(field) = fields_of(kind).find(|field| field.is_named(&name_normal)) {
        return Ok(field);
    }
    let mut error = FieldError::new(name, format!("a {kind} has no such field"));
    if let Some(reason) = later::later(&name_normal) {
        error.message = reason.to_owned();
    } else if let Some(field) = every_field().find(|field| field.is_named(&name_normal)) {
        let kinds: Vec<&str> = field.kinds.iter().map(|kind| kind.name()).collect();
        error.message = format!("a {kind} has no such field; it is for: {}", kinds.join(", "));
    } else {
        let known = fields_of(kind).flat_map(|field| [&[field.name], field.aliases].concat());
        error.hint = did_you_mean(&name_normal, known);
    }
    Err(Box::new(error))
}

/// A stream's host is what its TLS asks for, and that is read only where the TLS isn't ended.
fn nameless(config: &RuntimeConfig) -> Option<FieldError> {
    let ends_tls = config.tls.mode != crate::net::tls::Mode::Off;
    let is_stream = config.kind == RuntimeKind::Proxy && config.protocol == Protocol::Messages;
    (is_stream && ends_tls && !config.proxy.hosts.is_empty()).then(|| FieldError {
        field: "hosts".to_owned(),
        message: "of streams go by the name that TLS asks for, which passes through".to_owned(),
        hint: Some("leave tls out, or use protocol = \"http\"".to_owned()),
    })
}

/// Hosts are served by upstreams that there are.
fn hostless(config: &RuntimeConfig) -> Option<FieldError> {
    let is_known = |name: &str| {
        let mut parts = config.backends.iter().map(|backend| backend_parts(backend));
        parts.any(|(own, address)| own == name || address == name)
    };
    let (host, name) = config.proxy.hosts.0.iter().find(|(_, name)| !is_known(name))?;
    let message = format!("{host}: there is no upstream or backend \"{name}\"");
    Some(FieldError::new("hosts", message))
}

/// `framing`, `websocket` and `protocol` may say the same, not different things.
fn contradiction(fields: &Map<String, Value>, config: &RuntimeConfig) -> Option<FieldError> {
    let is_websocket = config.protocol == Protocol::WebSocket;
    if let Some(value) = fields.get("websocket")
        && values::boolean(value).is_ok_and(|wanted| wanted != is_websocket)
    {
        return Some(FieldError::new("websocket", "contradicts protocol or framing"));
    }
    let wanted = values::framing(fields.get("framing")?).ok()?;
    let protocol = fields.get("protocol")?;
    (wanted != config.framing).then(|| {
        let framing = values::framing_out(wanted);
        FieldError::new("protocol", format!("doesn't go with framing {framing}, got {protocol}"))
    })
}

#[cfg(test)]
mod tests;
