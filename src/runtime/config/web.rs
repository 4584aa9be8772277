//! The fields of HTTP: rows of the one table of fields, and their values.
//!
//! Must not know: how requests are answered.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fields::{Field, Flag, ValueType};
use super::row::{Read, Write};
use super::values as v;
use crate::id::RuntimeKind::{self, Proxy, Server};
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::runtime::server::http::files::StaticFiles;
use crate::runtime::server::http::routes::Routes;

const SERVER: &[RuntimeKind] = &[Server];
const ANSWERING: &[RuntimeKind] = &[Server, Proxy];
const INDEX: &str = "index.html";
/// A year: what clients take for ever.
const MAX_AGE_S_MAX: u64 = 31_536_000;

/// What all rows of HTTP have in common: they may change while the runtime runs.
const fn row(
    name: &'static str,
    value: ValueType,
    default: &'static str,
    help: &'static str,
    write: Write,
    read: Read,
) -> Field {
    Field { default, ..Field::live(name, SERVER, value, help, write, read) }
}

const fn flag(long: &'static str, aliases: &'static [&'static str]) -> Option<Flag> {
    Some(Flag { long, short: None, aliases })
}

/// The rows, after the others.
pub static FIELDS: &[Field] = &[
    Field {
        aliases: &["http"],
        flag: flag("http", &["static"]),
        ..row(
            "static",
            ValueType::File,
            "none",
            "a folder of files to serve over HTTP; in a file also { path, prefix, index, max_age, gzip }",
            |config, value| files(value).map(|files| config.http.files = files),
            |config| config.http.files.as_ref().map(files_out),
        )
    },
    row(
        "routes",
        ValueType::Table,
        "none",
        "what answers HTTP requests: [\"GET /path/:name\"] = a function, a text or { status, headers, body }",
        |config, value| routes(value).map(|routes| config.http.routes = routes),
        |config| config.http.routes.as_ref().map(|routes| json!(routes.source())),
    ),
    row(
        "middleware",
        ValueType::Table,
        "none",
        "functions (req, res, next) round all HTTP handlers, the first one outermost",
        |config, value| middleware(value).map(|count| config.http.middleware = count > 0),
        |config| config.http.middleware.then(|| json!(["<function>"])),
    ),
    Field {
        flag: flag("max-body", &[]),
        ..row(
            "max_body",
            ValueType::Text,
            "1mb",
            "the largest HTTP request body that is collected: bytes, or with kb, mb; streaming routes have no limit",
            |config, value| size(value).map(|bytes| config.http.max_body_bytes = bytes),
            |config| Some(json!(config.http.max_body_bytes)),
        )
    },
    Field {
        kinds: ANSWERING,
        flag: flag("access-log", &[]),
        ..row(
            "access_log",
            ValueType::Boolean,
            "false",
            "a log line for each HTTP request: address, request, status, bytes, time",
            |config, value| v::boolean(value).map(|on| config.http.access_log = on),
            |config| Some(json!(config.http.access_log)),
        )
    },
];

/// A folder's path, or a table with `path`; an empty text takes it back.
fn files(value: &Value) -> Result<Option<StaticFiles>, String> {
    let plain = |folder: &str| StaticFiles {
        folder: PathBuf::from(folder),
        prefix: "/".to_owned(),
        index: INDEX.to_owned(),
        max_age: None,
        gzip: true,
    };
    match value {
        Value::String(path) if path.is_empty() => Ok(None),
        Value::String(path) => Ok(Some(plain(path))),
        Value::Object(table) => {
            let path =
                table.get("path").and_then(Value::as_str).ok_or("path: a text is missing")?;
            let mut files = plain(path);
            for (key, value) in table {
                set_option(&mut files, key, value)
                    .map_err(|problem| format!("{key}: {problem}"))?;
            }
            Ok(Some(files))
        }
        _ => Err("expected a folder's path, or a table with path".to_owned()),
    }
}

fn set_option(files: &mut StaticFiles, key: &str, value: &Value) -> Result<(), String> {
    match key {
        "path" => {}
        "prefix" => {
            let prefix = v::text(value)?.trim_matches('/');
            files.prefix = if prefix.is_empty() { "/".to_owned() } else { format!("/{prefix}/") };
        }
        "index" => {
            let name = v::text(value)?;
            if name.is_empty() || name.contains('/') {
                return Err("expected a file's name".to_owned());
            }
            files.index = name.to_owned();
        }
        "max_age" => files.max_age = Some(v::integer(value, 0, MAX_AGE_S_MAX)?),
        "gzip" => files.gzip = v::boolean(value)?,
        _ => {
            return Err(
                "there is no such option; path, prefix, index, max_age, gzip are".to_owned()
            );
        }
    }
    Ok(())
}

fn files_out(files: &StaticFiles) -> Value {
    let mut table = Map::new();
    let plain = json!(files.folder);
    if files.prefix != "/" {
        table.insert("prefix".to_owned(), json!(files.prefix));
    }
    if files.index != INDEX {
        table.insert("index".to_owned(), json!(files.index));
    }
    if let Some(max_age) = files.max_age {
        table.insert("max_age".to_owned(), json!(max_age));
    }
    if !files.gzip {
        table.insert("gzip".to_owned(), json!(false));
    }
    if table.is_empty() {
        return plain;
    }
    table.insert("path".to_owned(), plain);
    Value::Object(table)
}

/// The table of patterns and answers; an empty one is none.
fn routes(value: &Value) -> Result<Option<Arc<Routes>>, String> {
    match value {
        Value::Object(table) if table.is_empty() => Ok(None),
        Value::Object(table) => Routes::parse(table).map(|routes| Some(Arc::new(routes))),
        _ => Err("expected a table of patterns such as \"GET /path\"".to_owned()),
    }
}

/// How many functions there are.
fn middleware(value: &Value) -> Result<usize, String> {
    match value {
        Value::Array(list) if list.iter().all(|it| it == "<function>") => Ok(list.len()),
        Value::Object(table) if table.is_empty() => Ok(0),
        _ => Err("expected a list of functions".to_owned()),
    }
}

/// A number of bytes, as a number or a text such as `64kb`.
fn size(value: &Value) -> Result<usize, String> {
    let problem = || {
        format!("expected bytes, or a text such as \"64kb\" or \"10mb\", up to 1024mb, got {value}")
    };
    let (number, unit) = match value {
        Value::String(text) => {
            let text = text.trim();
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
                "" | "b" => 1,
                "k" | "kb" => 1024,
                "m" | "mb" => 1024 * 1024,
                _ => return Err(problem()),
            };
            (json!(text[..digits]), unit)
        }
        other => (other.clone(), 1),
    };
    let max = (HTTP_BODY_BYTES_MAX / unit) as u64;
    let number = v::integer(&number, 0, max).map_err(|_| problem())?;
    Ok(number as usize * unit)
}
