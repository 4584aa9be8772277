//! Values from RDB bytes of any age. Knows nothing of keys.

use super::input::Input;
use super::packs::{Elements, intset, listpack, ziplist, zipmap};
use super::stream::read_stream;
use super::{Damage, kind};
use crate::store::Hasher;
use crate::store::element::Element;
use crate::store::hash::Hash;
use crate::store::list::{End, List};
use crate::store::set::Set;
use crate::store::small::MEMBER_DEADLINE_MAX;
use crate::store::sorted_set::{Change, SortedSet};
use crate::store::thresholds::Thresholds;
use crate::store::value::Value;

/// In a list's node: one element as it is, or a listpack.
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

const TWICE: Damage = Damage::Malformed("a member twice");
const ODD: Damage = Damage::Malformed("a member without its value");
const DEADLINE: Damage = Damage::Malformed("a deadline out of range");
const SCORE: Damage = Damage::Malformed("a score that is no number");

/// What building values takes.
#[derive(Clone, Copy)]
pub struct Builder<'a> {
    /// The hash function of the store they are for.
    pub hasher: Hasher,
    /// When collections leave their packed form.
    pub thresholds: &'a Thresholds,
}

/// A value behind its type; an empty collection is refused.
pub fn read_value(input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Value, Damage> {
    let kind = input.byte()?;
    read_value_of(kind, input, builder)
}

/// A value whose type has been read already.
pub fn read_value_of(
    kind: u8,
    input: &mut Input<'_>,
    builder: &Builder<'_>,
) -> Result<Value, Damage> {
    let value = match kind {
        kind::STRING => Value::String(input.string()?.into_owned()),
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_ZIPLISTS | kind::LIST_LISTPACKS => {
            Value::List(Box::new(list(kind, input, builder)?))
        }
        kind::SET | kind::SET_INTEGERS | kind::SET_LISTPACK => {
            Value::Set(Box::new(set(kind, input, builder)?))
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            Value::Hash(Box::new(hash(kind, input, builder)?))
        }
        kind::SORTED_SET_TEXT
        | kind::SORTED_SET
        | kind::SORTED_SET_ZIPLIST
        | kind::SORTED_SET_LISTPACK => {
            Value::SortedSet(Box::new(sorted_set(kind, input, builder)?))
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => {
            Value::Stream(Box::new(read_stream(kind, input)?))
        }
        kind::HASH_TIMED
        | kind::HASH_TIMED_EARLY
        | kind::HASH_LISTPACK_TIMED
        | kind::HASH_LISTPACK_TIMED_EARLY => {
            Value::Hash(Box::new(timed_hash(kind, input, builder)?))
        }
        kind::MEMBERS_TIMED => timed_members(input, builder)?,
        unknown => return Err(Damage::UnknownType(unknown)),
    };
    if value.is_empty() { Err(Damage::Malformed("an empty collection")) } else { Ok(value) }
}

fn list(kind: u8, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<List, Damage> {
    let mut list = List::new();
    if kind == kind::LIST_ZIPLIST {
        push_all(&mut list, ziplist(&input.string()?)?, builder);
        return Ok(list);
    }
    for _ in 0..input.count()? {
        let container = match kind {
            kind::LIST => NODE_PLAIN,
            kind::LIST_LISTPACKS => input.number()?,
            _ => NODE_PACKED,
        };
        let node = input.string()?;
        match container {
            NODE_PLAIN => push(&mut list, &node, builder),
            NODE_PACKED if kind == kind::LIST_ZIPLISTS => {
                push_all(&mut list, ziplist(&node)?, builder);
            }
            NODE_PACKED => push_all(&mut list, listpack(&node)?, builder),
            _ => return Err(Damage::Malformed("a list's node of no known form")),
        }
    }
    Ok(list)
}

fn push_all(list: &mut List, elements: Elements<'_>, builder: &Builder<'_>) {
    for element in elements {
        push(list, element.text(&mut itoa::Buffer::new()), builder);
    }
}

fn push(list: &mut List, text: &[u8], builder: &Builder<'_>) {
    list.expect(text.len(), builder.thresholds);
    list.push(End::Back, text, builder.thresholds);
}

fn set(kind: u8, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Set, Damage> {
    let mut set = Set::new();
    let mut add = |member: Element<'_>| {
        let mut digits = itoa::Buffer::new();
        let is_new = set.insert(member.text(&mut digits), builder.hasher, builder.thresholds);
        if is_new { Ok(()) } else { Err(TWICE) }
    };
    match kind {
        kind::SET_INTEGERS => {
            let members = intset(&input.string()?)?;
            members.into_iter().try_for_each(|member| add(Element::Integer(member)))?;
        }
        kind::SET_LISTPACK => listpack(&input.string()?)?.into_iter().try_for_each(add)?,
        _ => {
            for _ in 0..input.count()? {
                add(Element::Bytes(&input.string()?))?;
            }
        }
    }
    Ok(set)
}

fn hash(kind: u8, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Hash, Damage> {
    let mut hash = Hash::new();
    let mut add = |field: &[u8], value: &[u8]| {
        let is_new = hash.set(field, value, builder.hasher, builder.thresholds);
        if is_new { Ok(()) } else { Err(TWICE) }
    };
    if kind == kind::HASH {
        for _ in 0..input.count()? {
            add(&input.string()?, &input.string()?)?;
        }
        return Ok(hash);
    }
    let blob = input.string()?;
    let elements = match kind {
        kind::HASH_ZIPMAP => zipmap(&blob)?,
        kind::HASH_ZIPLIST => ziplist(&blob)?,
        _ => listpack(&blob)?,
    };
    for (field, value) in pairs(&elements)? {
        let (mut digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        add(field.text(&mut digits), value.text(&mut value_digits))?;
    }
    Ok(hash)
}

fn timed_hash(kind: u8, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Hash, Damage> {
    let mut hash = Hash::new();
    let mut add = |field: &[u8], value: &[u8], at_ms: u64| {
        if !hash.set(field, value, builder.hasher, builder.thresholds) {
            return Err(TWICE);
        }
        if at_ms > 0 {
            hash.set_deadline(field, Some(in_range(at_ms)?));
        }
        Ok(())
    };
    let has_earliest = matches!(kind, kind::HASH_TIMED | kind::HASH_LISTPACK_TIMED);
    let earliest_ms = if has_earliest { input.milliseconds()? } else { 1 };
    if matches!(kind, kind::HASH_TIMED | kind::HASH_TIMED_EARLY) {
        for _ in 0..input.count()? {
            let at_ms = match input.number()? {
                0 => 0,
                later => in_range(earliest_ms)?.saturating_add(later) - 1,
            };
            add(&input.string()?, &input.string()?, at_ms)?;
        }
        return Ok(hash);
    }
    let blob = input.string()?;
    let elements = listpack(&blob)?;
    let (triples, rest) = elements.as_chunks::<3>();
    if !rest.is_empty() {
        return Err(ODD);
    }
    for [field, value, at_ms] in triples {
        let (mut digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let at_ms = at_ms.integer().and_then(|at_ms| u64::try_from(at_ms).ok()).ok_or(DEADLINE)?;
        add(field.text(&mut digits), value.text(&mut value_digits), at_ms)?;
    }
    Ok(hash)
}

fn in_range(at_ms: u64) -> Result<u64, Damage> {
    if at_ms <= MEMBER_DEADLINE_MAX { Ok(at_ms) } else { Err(DEADLINE) }
}

fn timed_members(input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Value, Damage> {
    let kind = input.byte()?;
    let mut value = match kind {
        kind::SET | kind::SET_INTEGERS => Value::Set(Box::new(set(kind, input, builder)?)),
        kind::SORTED_SET | kind::SORTED_SET_LISTPACK => {
            Value::SortedSet(Box::new(sorted_set(kind, input, builder)?))
        }
        unknown => return Err(Damage::UnknownType(unknown)),
    };
    for _ in 0..input.count()? {
        let member = input.string()?;
        let at_ms = Some(in_range(input.milliseconds()?)?);
        let known = match &mut value {
            Value::Set(set) if set.contains(&member) => {
                set.set_deadline(&member, at_ms, builder.hasher, builder.thresholds);
                true
            }
            Value::SortedSet(set) if set.score(&member).is_some() => {
                set.set_deadline(&member, at_ms);
                true
            }
            _ => false,
        };
        if !known {
            return Err(Damage::Malformed("a deadline of no member"));
        }
    }
    Ok(value)
}

fn sorted_set(kind: u8, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<SortedSet, Damage> {
    let mut set = SortedSet::new();
    let mut add = |member: &[u8], score: f64| {
        if score.is_nan() {
            return Err(SCORE);
        }
        match set.insert(member, score, builder.hasher, builder.thresholds) {
            Change::Added => Ok(()),
            Change::Moved | Change::Same => Err(TWICE),
        }
    };
    if matches!(kind, kind::SORTED_SET | kind::SORTED_SET_TEXT) {
        for _ in 0..input.count()? {
            let member = input.string()?;
            let is_text = kind == kind::SORTED_SET_TEXT;
            add(&member, if is_text { input.double_text()? } else { input.double()? })?;
        }
        return Ok(set);
    }
    let blob = input.string()?;
    let elements =
        if kind == kind::SORTED_SET_ZIPLIST { ziplist(&blob)? } else { listpack(&blob)? };
    for (member, score) in pairs(&elements)? {
        add(member.text(&mut itoa::Buffer::new()), score_of(score).ok_or(SCORE)?)?;
    }
    Ok(set)
}

fn score_of(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Integer(value) => Some(value as f64),
        Element::Bytes(text) => crate::store::number::parse_double(text),
    }
}

fn pairs<'a>(
    elements: &'a [Element<'a>],
) -> Result<impl Iterator<Item = (Element<'a>, Element<'a>)>, Damage> {
    let (pairs, rest) = elements.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|[left, right]| (*left, *right))) } else { Err(ODD) }
}
