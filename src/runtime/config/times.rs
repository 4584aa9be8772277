//! How long HTTP peers may take: rows of the one table of fields.
//!
//! Must not know: how times are kept.

use serde_json::{Value, json};

use super::fields::{Field, Flag, ValueType};
use super::row::{Read, Write};
use super::values as v;
use crate::id::RuntimeKind::Server;
use crate::runtime::{HttpTimes, RuntimeConfig};

/// An hour.
const MOST_S: u64 = 3600;

/// A row of a number of seconds.
const fn row(
    name: &'static str,
    long: &'static str,
    default: &'static str,
    help: &'static str,
    write: Write,
    read: Read,
) -> Field {
    let field = Field::live(name, &[Server], ValueType::Integer, help, write, read);
    Field { default, flag: Flag::long(long), ..field }
}

fn set(
    config: &mut RuntimeConfig,
    value: &Value,
    field: fn(&mut HttpTimes) -> &mut u64,
) -> Result<(), String> {
    v::integer(value, 1, MOST_S).map(|s| *field(&mut config.http.times) = s * 1000)
}

fn seconds(ms: u64) -> Option<Value> {
    Some(json!(ms / 1000))
}

/// The rows.
pub static FIELDS: &[Field] = &[
    row(
        "header_timeout",
        "header-timeout",
        "10",
        "HTTP: seconds in which the head of a request must come; else 408",
        |config, value| set(config, value, |times| &mut times.head_ms),
        |config| seconds(config.http.times.head_ms),
    ),
    row(
        "body_timeout",
        "body-timeout",
        "10",
        "HTTP: seconds in which at least 10 kB of a request's body, or its end, must come; else 408",
        |config, value| set(config, value, |times| &mut times.body_ms),
        |config| seconds(config.http.times.body_ms),
    ),
    row(
        "keep_alive_timeout",
        "keep-alive-timeout",
        "60",
        "HTTP: seconds that a connection may wait for its next request",
        |config, value| set(config, value, |times| &mut times.idle_ms),
        |config| seconds(config.http.times.idle_ms),
    ),
    row(
        "write_timeout",
        "write-timeout",
        "30",
        "HTTP: seconds in which a peer must take some of its answer; else it is closed",
        |config, value| set(config, value, |times| &mut times.write_ms),
        |config| seconds(config.http.times.write_ms),
    ),
];
