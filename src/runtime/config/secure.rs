//! The fields of TLS: rows of the one table of fields, and their values.
//!
//! Must not know: what the files hold.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::fields::{Field, Flag, ValueType};
use super::row::{Read, Write};
use super::values as v;
use crate::id::RuntimeKind::{self, Client, Proxy};
use crate::limits::CERTIFICATES_MAX;
use crate::net::tls::Mode;

const ALL: &[RuntimeKind] = &RuntimeKind::ALL;
const DIALLING: &[RuntimeKind] = &[Client, Proxy];
const PROXY: &[RuntimeKind] = &[Proxy];

const MODES: &[(&str, Mode)] =
    &[("true", Mode::On), ("false", Mode::Off), ("optional", Mode::Optional)];

/// What all rows of TLS have in common: they may change while the runtime runs, for the connections to come.
const fn row(
    name: &'static str,
    kinds: &'static [RuntimeKind],
    value: ValueType,
    long: &'static str,
    help: &'static str,
    write: Write,
    read: Read,
) -> Field {
    Field { flag: Flag::long(long), ..Field::live(name, kinds, value, help, write, read) }
}

/// The rows, after the others.
pub static FIELDS: &[Field] = &[
    Field {
        default: "false",
        ..row(
            "tls",
            ALL,
            ValueType::Switch(&["true", "false", "optional"]),
            "tls",
            "speak TLS (needs cert and key where connections are accepted); optional takes plain clients too",
            |config, value| mode(config.kind, value).map(|mode| config.tls.mode = mode),
            |config| mode_out(config.tls.mode),
        )
    },
    row(
        "cert",
        ALL,
        ValueType::Files,
        "cert",
        "certificate chains in PEM, one file each; clients choose by the name they ask for, else the first",
        |config, value| paths(value).map(|paths| config.tls.files.certificates = paths),
        |config| paths_out(&config.tls.files.certificates),
    ),
    row(
        "key",
        ALL,
        ValueType::Files,
        "key",
        "their private keys, in the same order; without it each is in its certificate's file",
        |config, value| paths(value).map(|paths| config.tls.files.keys = paths),
        |config| paths_out(&config.tls.files.keys),
    ),
    row(
        "ca",
        ALL,
        ValueType::File,
        "ca",
        "authorities to trust: accepted clients must show a certificate of theirs; a client trusts only them",
        |config, value| path(value).map(|path| config.tls.files.authorities = path),
        |config| config.tls.files.authorities.as_ref().map(|path| json!(path)),
    ),
    row(
        "alpn",
        ALL,
        ValueType::List,
        "alpn",
        "application protocols to agree on in TLS, best first",
        |config, value| protocols(value).map(|names| config.tls.protocols = names),
        |config| (!config.tls.protocols.is_empty()).then(|| json!(config.tls.protocols)),
    ),
    row(
        "server_name",
        DIALLING,
        ValueType::Text,
        "server-name",
        "the name that the dialled server's certificate must have, if it isn't the dialled one",
        |config, value| text(value).map(|name| config.tls.server_name = name),
        |config| config.tls.server_name.as_ref().map(|name| json!(name)),
    ),
    Field {
        default: "false",
        ..row(
            "tls_insecure",
            DIALLING,
            ValueType::Boolean,
            "tls-insecure",
            "don't verify whom TLS dials: anyone in between can read and change everything",
            |config, value| v::boolean(value).map(|truth| config.tls.insecure = truth),
            |config| config.tls.insecure.then_some(json!(true)),
        )
    },
    Field {
        default: "false",
        ..row(
            "backend_tls",
            PROXY,
            ValueType::Boolean,
            "backend-tls",
            "speak TLS to the backends",
            |config, value| v::boolean(value).map(|truth| config.tls.to_backends = truth),
            |config| config.tls.to_backends.then_some(json!(true)),
        )
    },
    row(
        "client_cert",
        PROXY,
        ValueType::File,
        "client-cert",
        "the certificate chain to show to backends, in PEM",
        |config, value| one(value).map(|path| config.tls.backend_files.certificates = path),
        |config| config.tls.backend_files.certificates.first().map(|path| json!(path)),
    ),
    row(
        "client_key",
        PROXY,
        ValueType::File,
        "client-key",
        "its private key; without it, it is in the certificate's file",
        |config, value| one(value).map(|path| config.tls.backend_files.keys = path),
        |config| config.tls.backend_files.keys.first().map(|path| json!(path)),
    ),
    row(
        "client_ca",
        PROXY,
        ValueType::File,
        "client-ca",
        "authorities to trust for backends instead of the machine's",
        |config, value| path(value).map(|path| config.tls.backend_files.authorities = path),
        |config| config.tls.backend_files.authorities.as_ref().map(|path| json!(path)),
    ),
];

fn mode(kind: RuntimeKind, value: &Value) -> Result<Mode, String> {
    let mode = match value {
        Value::Bool(true) => Mode::On,
        Value::Bool(false) => Mode::Off,
        _ => v::choice(value, MODES)?,
    };
    if kind == Client && mode == Mode::Optional {
        return Err("a client knows whether its target speaks TLS: true or false".to_owned());
    }
    Ok(mode)
}

fn mode_out(mode: Mode) -> Option<Value> {
    match mode {
        Mode::Off => None,
        Mode::On => Some(json!(true)),
        Mode::Optional => Some(json!("optional")),
    }
}

/// An empty text is none, so that a field can be taken back.
fn text(value: &Value) -> Result<Option<String>, String> {
    v::text(value).map(|text| (!text.is_empty()).then(|| text.to_owned()))
}

fn path(value: &Value) -> Result<Option<PathBuf>, String> {
    text(value).map(|text| text.map(PathBuf::from))
}

fn one(value: &Value) -> Result<Vec<PathBuf>, String> {
    path(value).map(|path| path.into_iter().collect())
}

fn paths(value: &Value) -> Result<Vec<PathBuf>, String> {
    let list: Vec<PathBuf> = match value {
        Value::Array(list) => {
            list.iter().map(|entry| v::text(entry).map(PathBuf::from)).collect::<Result<_, _>>()?
        }
        _ => v::text(value)?.split(',').map(|text| PathBuf::from(text.trim())).collect(),
    };
    let list: Vec<PathBuf> = list.into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
    if list.len() > CERTIFICATES_MAX {
        return Err(format!("at most {CERTIFICATES_MAX} files are possible, got {}", list.len()));
    }
    Ok(list)
}

fn paths_out(paths: &[PathBuf]) -> Option<Value> {
    match paths {
        [] => None,
        [one] => Some(json!(one)),
        more => Some(json!(more)),
    }
}

fn protocols(value: &Value) -> Result<Vec<String>, String> {
    let list: Vec<String> = match value {
        Value::Array(list) => {
            list.iter().map(|entry| v::text(entry).map(str::to_owned)).collect::<Result<_, _>>()?
        }
        _ => v::text(value)?.split(',').map(|text| text.trim().to_owned()).collect(),
    };
    let list: Vec<String> = list.into_iter().filter(|name| !name.is_empty()).collect();
    match list.iter().find(|name| name.len() > 255) {
        Some(_) => Err("a protocol's name has at most 255 bytes".to_owned()),
        None => Ok(list),
    }
}
