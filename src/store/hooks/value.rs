//! A key's value on its way to a hook: a string's bytes, or a collection as a RESP3 reply.

use super::super::value::ValueRef;
use super::super::{Keyspace, Reply};
use crate::limits::HOOK_VALUE_BYTES_MAX;

/// What a hook is told of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HookValue {
    /// Nothing: there is none, or it isn't told.
    #[default]
    Absent,
    /// A string.
    Text(Vec<u8>),
    /// A collection, as RESP3: an array, a set, or a map of fields or scores.
    Collection(Vec<u8>),
    /// More than a hook is told.
    TooLarge,
}

impl HookValue {
    /// A copy of a value that a key holds. A stream is too large to be told.
    pub fn of(value: ValueRef<'_>) -> HookValue {
        if let Some(text) = value.text() {
            return match text.len() <= HOOK_VALUE_BYTES_MAX {
                true => HookValue::Text(text.to_vec()),
                false => HookValue::TooLarge,
            };
        }
        if value.memory_bytes() > HOOK_VALUE_BYTES_MAX || matches!(value, ValueRef::Stream(_)) {
            return HookValue::TooLarge;
        }
        let mut out = Vec::new();
        write_collection(value, &mut Reply::new(&mut out, true));
        // Exact, so that its bytes are known.
        out.shrink_to_fit();
        HookValue::Collection(out)
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        match self {
            HookValue::Text(bytes) | HookValue::Collection(bytes) => bytes.len(),
            HookValue::Absent | HookValue::TooLarge => 0,
        }
    }
}

fn write_collection(value: ValueRef<'_>, reply: &mut Reply<'_>) {
    let mut buffer = itoa::Buffer::new();
    match value {
        ValueRef::List(list) => {
            reply.array(list.len());
            list.iter().for_each(|element| reply.bulk(element.text(&mut buffer)));
        }
        ValueRef::Set(set) => {
            reply.set(set.len());
            set.iter().for_each(|element| reply.bulk(element.text(&mut buffer)));
        }
        ValueRef::Hash(hash) => {
            reply.map(hash.len());
            for (field, value) in hash.iter() {
                reply.bulk(field.text(&mut buffer));
                reply.bulk(value.text(&mut buffer));
            }
        }
        ValueRef::SortedSet(set) => {
            reply.map(set.len());
            set.for_each(|member, score| {
                reply.bulk(member.text(&mut buffer));
                reply.double(score);
            });
        }
        _ => reply.null(),
    }
}

/// The string at a key and what is left of its time; of a collection only the latter.
pub(super) fn of_string(
    keyspace: &mut Keyspace,
    database: u8,
    key: &[u8],
    now_ms: u64,
) -> (HookValue, Option<u64>) {
    let hash = keyspace.hash(key);
    let Some(entry) = keyspace.database(database).peek(key, hash, now_ms) else {
        return (HookValue::Absent, None);
    };
    let ttl_ms = entry.expires_ms().map(|at_ms| at_ms.saturating_sub(now_ms));
    match entry.text() {
        Some(_) => (HookValue::of(entry.value()), ttl_ms),
        None => (HookValue::Absent, ttl_ms),
    }
}
