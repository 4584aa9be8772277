//! What the commands of lists, sets, hashes and sorted sets share: their rows' shape, finding the value at the key,
//! numbers and ranges in arguments, elements in replies.

use super::{Command, Flags, Keys};
use crate::limits::{RANDOM_REPEATS_MAX, STORE_PREFETCH_COMMANDS};
use crate::store::call::{Call, CommandError, CommandResult};
use crate::store::database::Database;
use crate::store::element::Element;
use crate::store::number::parse_integer;
use crate::store::thresholds::Thresholds;
use crate::store::{Args, Reply};

/// Reads, in constant or logarithmic time.
pub const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
/// Reads.
pub const READ: Flags = Flags::READONLY;
/// Writes, in constant or logarithmic time, and may need memory.
pub const WRITE_FAST: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);
/// Writes and may need memory.
pub const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
/// Writes, in constant or logarithmic time, and needs no memory.
pub const REMOVE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
/// Writes and needs no memory.
pub const REMOVE: Flags = Flags::WRITE;

/// What a command's function looks like.
pub type Run = fn(&mut Call<'_>) -> CommandResult;

/// A row: name and arity, what it does, its keys, since when and what for, and the function.
pub const fn row(
    group: &'static str,
    (name, arity): (&'static str, i16),
    flags: Flags,
    keys: Keys,
    (since, summary): (&'static str, &'static str),
    run: Run,
) -> Command {
    Command { name, arity, flags, keys, group, summary, since, run, subcommands: &[] }
}

/// An accessor of [`Database`] for one type.
pub type Find<T> =
    for<'d> fn(&'d mut Database, &[u8], u64, u64) -> Result<Option<&'d mut T>, CommandError>;

/// The same, but it makes what isn't there.
pub type FindOrCreate<T> =
    for<'d> fn(&'d mut Database, &[u8], u64, u64) -> Result<&'d mut T, CommandError>;

/// The value at the first key, the arguments and the reply.
#[inline]
pub fn found<'c, 'a, T>(
    call: &'c mut Call<'a>,
    find: Find<T>,
) -> Result<(Option<&'c mut T>, Args<'a>, &'c mut Reply<'a>), CommandError> {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let value = find(keyspace.database(session.database), args.at(1), *hash, *now_ms)?;
    Ok((value, *args, reply))
}

/// As [`found`], for commands that change how the value is packed.
#[inline]
pub fn found_within<'c, 'a, T>(
    call: &'c mut Call<'a>,
    find: Find<T>,
) -> Result<(Option<&'c mut T>, Args<'a>, &'c mut Reply<'a>, &'c Thresholds), CommandError> {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (database, limits) = keyspace.database_within(session.database);
    Ok((find(database, args.at(1), *hash, *now_ms)?, *args, reply, limits))
}

/// As [`created`], for commands that change how the value is packed.
#[inline]
pub fn created_within<'c, 'a, T>(
    call: &'c mut Call<'a>,
    find: FindOrCreate<T>,
) -> Result<(&'c mut T, Args<'a>, &'c mut Reply<'a>, &'c Thresholds), CommandError> {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (database, limits) = keyspace.database_within(session.database);
    Ok((find(database, args.at(1), *hash, *now_ms)?, *args, reply, limits))
}

/// The value at some key, if there is one, and the reply.
pub fn found_at<'c, 'a, T>(
    call: &'c mut Call<'a>,
    key: &[u8],
    find: Find<T>,
) -> Result<Option<(&'c mut T, &'c mut Reply<'a>)>, CommandError> {
    let Call { keyspace, session, now_ms, reply, .. } = call;
    let hash = keyspace.hash(key);
    let value = find(keyspace.database(session.database), key, hash, *now_ms)?;
    Ok(value.map(|value| (value, reply)))
}

/// The value at the first key, made if there is none; it must not be left empty.
#[inline]
pub fn created<'c, 'a, T>(
    call: &'c mut Call<'a>,
    find: FindOrCreate<T>,
) -> Result<(&'c mut T, Args<'a>, &'c mut Reply<'a>), CommandError> {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let value = find(keyspace.database(session.database), args.at(1), *hash, *now_ms)?;
    Ok((value, *args, reply))
}

/// After a write to the first key: counts the changes, and removes the key if its value is `empty` now.
#[inline]
pub fn wrote(call: &mut Call<'_>, changes: usize, empty: bool) {
    call.keyspace.dirty += changes as u64;
    if empty {
        let key = call.args.at(1);
        call.keyspace.database(call.session.database).remove_if_empty(key, call.hash);
    }
}

/// Runs `each` for every `step`-th of `words`, which are keys, with its index and hash. In groups: the buckets of a group
/// are asked for first, then its entries, then `each` runs, so that a command of many keys waits for memory about once a
/// group and not twice a key.
#[inline]
pub fn for_each_key(
    database: &mut Database,
    words: Args<'_>,
    step: usize,
    mut each: impl FnMut(&mut Database, usize, u64),
) {
    let hasher = database.table().hasher();
    let mut hashes = [0; STORE_PREFETCH_COMMANDS];
    for start in (0..words.len()).step_by(step * STORE_PREFETCH_COMMANDS) {
        let end = words.len().min(start + step * STORE_PREFETCH_COMMANDS);
        let indexes = (start..end).step_by(step);
        for (hash, index) in hashes.iter_mut().zip(indexes.clone()) {
            *hash = hasher.hash(words.at(index));
            database.table().prefetch_bucket(*hash);
        }
        for hash in &hashes[..indexes.len()] {
            database.table().prefetch_entry(*hash);
        }
        for (index, hash) in indexes.zip(hashes) {
            each(database, index, hash);
        }
    }
}

/// The database of the call's session.
pub fn database<'c>(call: &'c mut Call<'_>) -> &'c mut Database {
    call.keyspace.database(call.session.database)
}

/// An integer argument.
pub fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_integer(text).ok_or(CommandError::NotInteger)
}

/// A count that can't be negative.
pub fn positive(text: &[u8]) -> Result<usize, CommandError> {
    parse_integer(text)
        .and_then(|value| usize::try_from(value).ok())
        .ok_or(CommandError::Text("ERR value is out of range, must be positive"))
}

/// A count whose sign means something; its magnitude is representable.
pub fn signed_count(text: &[u8]) -> Result<i64, CommandError> {
    match integer(text)? {
        i64::MIN => Err(CommandError::Text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        value => Ok(value),
    }
}

/// How many random elements to show; negative: with repeats, and then bounded, as the reply would be endless.
pub fn random_count(text: &[u8]) -> Result<i64, CommandError> {
    let count = signed_count(text)?;
    if count < -(RANDOM_REPEATS_MAX as i64) {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    Ok(count)
}

/// An argument that must be an integer of at least `least`, or else `refusal`.
pub fn at_least(
    text: Option<&[u8]>,
    least: i64,
    refusal: &'static str,
) -> Result<usize, CommandError> {
    let value = parse_integer(text.ok_or(CommandError::Syntax)?);
    value
        .filter(|value| *value >= least)
        .and_then(|value| usize::try_from(value).ok())
        .ok_or(CommandError::Text(refusal))
}

/// First index and length of what `start..=stop` means in something of `len` elements; negative ones count from the end.
pub fn span(start: i64, stop: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    (start <= stop && start < len).then(|| (start as usize, (stop - start + 1) as usize))
}

/// The index that `index` means in something of `len` elements, if it is inside.
pub fn inside(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.saturating_add(len as i64) } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// Writes an element as a byte string.
#[inline]
pub fn bulk(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Integer(value) => reply.bulk_integer(value),
    }
}

/// Whether an argument is that option, in any case.
pub fn is(argument: &[u8], name: &str) -> bool {
    argument.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        for (start, stop, len, expected) in [
            (0, -1, 3, Some((0, 3))),
            (-2, -1, 3, Some((1, 2))),
            (-100, 100, 3, Some((0, 3))),
            (2, 1, 3, None),
            (3, 5, 3, None),
            (0, 0, 0, None),
            (i64::MIN, i64::MAX, 2, Some((0, 2))),
            (0, -4, 3, None),
        ] {
            assert_eq!(span(start, stop, len), expected, "{start} {stop} of {len}");
        }
    }

    #[test]
    fn an_index_from_the_end_is_inside_or_nothing() {
        assert_eq!(
            (inside(-1, 3), inside(-4, 3), inside(2, 3), inside(3, 3)),
            (Some(2), None, Some(2), None)
        );
    }
}
