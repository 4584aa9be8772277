//! What rows of the table of fields have in common, so that each is written with what it has of its own.
//!
//! Must not know: which fields there are.

use serde_json::Value;

use super::fields::{Field, Flag, ValueType};
use crate::id::RuntimeKind;
use crate::runtime::RuntimeConfig;

/// See [`Field::write`].
pub type Write = fn(&mut RuntimeConfig, &Value) -> Result<(), String>;

/// See [`Field::read`].
pub type Read = fn(&RuntimeConfig) -> Option<Value>;

impl Field {
    /// A row that has no flag, is unset at first, and may change while the runtime runs.
    pub const fn live(
        name: &'static str,
        kinds: &'static [RuntimeKind],
        value: ValueType,
        help: &'static str,
        write: Write,
        read: Read,
    ) -> Field {
        let (default, flag, live, required) = ("none", None, true, false);
        Field { name, aliases: &[], kinds, value, default, flag, help, live, required, write, read }
    }
}

impl Flag {
    /// One that has no other forms.
    pub const fn long(long: &'static str) -> Option<Flag> {
        Some(Flag { long, short: None, aliases: &[] })
    }
}
