//! Values to RDB bytes, in the layouts that Redis 7.0 reads. Knows nothing of keys.

use super::kind;
use super::output::{listpack, number, string};
use super::stream::write_stream;
use crate::store::element::Element;
use crate::store::hash::Hash;
use crate::store::list::List;
use crate::store::packed::Packed;
use crate::store::reply::format_double;
use crate::store::set::Set;
use crate::store::sorted_set::SortedSet;
use crate::store::value::ValueRef;

/// The version that Redis 7.0 writes.
const VERSION: u16 = 10;

/// In a list's node: a listpack follows.
const NODE_PACKED: u64 = 2;

/// The version of Redis 7.4, with deadlines of fields.
const VERSION_TIMED: u16 = 12;

/// The lowest RDB version that has the value's layout.
pub fn version_of(value: ValueRef<'_>) -> u16 {
    if is_timed(value) { VERSION_TIMED } else { VERSION }
}

fn is_timed(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Set(set) => set.is_timed(),
        ValueRef::Hash(hash) => hash.is_timed(),
        ValueRef::SortedSet(set) => set.is_timed(),
        _ => false,
    }
}

/// The byte that says how [`write_value`] lays the value out.
pub fn type_of(value: ValueRef<'_>) -> u8 {
    match value {
        ValueRef::Hash(hash) if hash.is_timed() => kind::HASH_TIMED,
        value if is_timed(value) => kind::MEMBERS_TIMED,
        value => plain_type_of(value),
    }
}

fn plain_type_of(value: ValueRef<'_>) -> u8 {
    match value {
        ValueRef::Nothing | ValueRef::String(_) | ValueRef::Integer(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_LISTPACKS,
        ValueRef::Set(set) if set.integers().is_some() => kind::SET_INTEGERS,
        ValueRef::Set(_) => kind::SET,
        ValueRef::Hash(hash) if hash.packed().is_some() => kind::HASH_LISTPACK,
        ValueRef::Hash(_) => kind::HASH,
        ValueRef::SortedSet(set) if set.is_packed() => kind::SORTED_SET_LISTPACK,
        ValueRef::SortedSet(_) => kind::SORTED_SET,
        ValueRef::Stream(_) => kind::STREAM_2,
    }
}

/// A value without its type.
pub fn write_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Hash(hash) if hash.is_timed() => write_timed_hash(out, hash),
        ValueRef::Set(set) if set.is_timed() => {
            out.push(plain_type_of(value));
            write_set(out, set);
            let deadline = |member: &[u8]| set.deadline(member).flatten();
            write_deadlines(out, set.iter().map(|member| member.to_vec()), deadline);
        }
        ValueRef::SortedSet(set) if set.is_timed() => {
            out.push(plain_type_of(value));
            write_sorted_set(out, set);
            let deadline = |member: &[u8]| set.deadline(member).flatten();
            let members = set.range(0, usize::MAX, false).into_iter().map(|(member, _)| member);
            write_deadlines(out, members, deadline);
        }
        value => write_plain(out, value),
    }
}

fn write_plain(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Nothing => string(out, b""),
        ValueRef::String(text) => string(out, text),
        ValueRef::Integer(integer) => element(out, Element::Integer(integer)),
        ValueRef::List(list) => write_list(out, list),
        ValueRef::Set(set) => write_set(out, set),
        ValueRef::Hash(hash) => write_hash(out, hash),
        ValueRef::SortedSet(set) => write_sorted_set(out, set),
        ValueRef::Stream(stream) => write_stream(out, stream),
    }
}

fn element(out: &mut Vec<u8>, element: Element<'_>) {
    string(out, element.text(&mut itoa::Buffer::new()));
}

fn write_list(out: &mut Vec<u8>, list: &List) {
    let (first, second) = list.blobs();
    number(out, (first.len() + second.len()) as u64);
    for node in first.iter().chain(second) {
        number(out, NODE_PACKED);
        listpack(out, node);
    }
}

fn write_set(out: &mut Vec<u8>, set: &Set) {
    if let Some(integers) = set.integers() {
        return string(out, &integers.to_intset());
    }
    number(out, set.len() as u64);
    set.iter().for_each(|member| element(out, member));
}

fn write_hash(out: &mut Vec<u8>, hash: &Hash) {
    if let Some(packed) = hash.packed() {
        return listpack(out, packed);
    }
    number(out, hash.len() as u64);
    for (field, value) in hash.iter() {
        element(out, field);
        element(out, value);
    }
}

fn write_sorted_set(out: &mut Vec<u8>, set: &SortedSet) {
    if set.is_packed() {
        let mut packed = Packed::new();
        set.for_each(|member, score| {
            packed.push_back(member);
            packed.push_back(Element::of(format_double(score).as_bytes()));
        });
        return listpack(out, &packed);
    }
    number(out, set.len() as u64);
    set.for_each(|member, score| {
        element(out, member);
        out.extend_from_slice(&score.to_le_bytes());
    });
}

/// The earliest deadline; for each field its deadline from there on, plus one, or 0; the field; its value.
fn write_timed_hash(out: &mut Vec<u8>, hash: &Hash) {
    let deadline = |field: Element<'_>| {
        let mut digits = itoa::Buffer::new();
        hash.deadline(field.text(&mut digits)).flatten()
    };
    let earliest_ms = hash.iter().filter_map(|(field, _)| deadline(field)).min().unwrap_or(0);
    out.extend_from_slice(&earliest_ms.to_le_bytes());
    number(out, hash.len() as u64);
    for (field, value) in hash.iter() {
        number(out, deadline(field).map_or(0, |at_ms| at_ms - earliest_ms + 1));
        element(out, field);
        element(out, value);
    }
}

fn write_deadlines(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = Vec<u8>>,
    deadline: impl Fn(&[u8]) -> Option<u64>,
) {
    let timed: Vec<(Vec<u8>, u64)> =
        members.filter_map(|member| deadline(&member).map(|at_ms| (member, at_ms))).collect();
    number(out, timed.len() as u64);
    for (member, at_ms) in timed {
        string(out, &member);
        out.extend_from_slice(&at_ms.to_le_bytes());
    }
}
