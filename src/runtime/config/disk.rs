//! The fields of caches that are kept on disk.

use super::fields::{Field, Flag, ValueType};
use super::values as v;
use crate::id::RuntimeKind::Cache;
use crate::store::persistence::{Persist, Sync};

/// They follow the fields of caches in general.
pub static FIELDS: &[Field] = &[
    Field {
        name: "persist",
        aliases: &["persistent"],
        kinds: &[Cache],
        value: ValueType::Choice(&["none", "snapshot", "aof"]),
        default: "none",
        flag: Some(Flag { long: "persist", short: None, aliases: &[] }),
        help: "how the keys survive: snapshot (a file now and then and at the end), aof (a log of all changes)",
        live: false,
        required: false,
        write: |config, value| {
            v::choice(value, &Persist::NAMES).map(|persist| config.persist = persist)
        },
        read: |config| v::word(config.persist, &Persist::NAMES),
    },
    Field {
        name: "appendfsync",
        aliases: &[],
        kinds: &[Cache],
        value: ValueType::Choice(&["everysec", "always", "no"]),
        default: "everysec",
        flag: Some(Flag { long: "appendfsync", short: None, aliases: &[] }),
        help: "when an append log is forced to the disk; with always a reply leaves when its change is there",
        live: false,
        required: false,
        write: |config, value| v::choice(value, &Sync::WORDS).map(|sync| config.appendfsync = sync),
        read: |config| v::word(config.appendfsync, &Sync::WORDS),
    },
];
