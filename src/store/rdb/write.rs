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

/// The lowest RDB version that has the value's layout.
pub fn version_of(_value: ValueRef<'_>) -> u16 {
    VERSION
}

/// The byte that says how [`write_value`] lays the value out.
pub fn type_of(value: ValueRef<'_>) -> u8 {
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
