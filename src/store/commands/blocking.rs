//! Commands that wait until a list or sorted set has something for them, and WAIT and WAITAOF.
//!
//! Each does what its namesake without B does; one that finds nothing says so with [`Call::wait`] and is run again when
//! one of its keys has become what it wants.

use super::super::copies::{wait, waitaof};
use super::collection::{Run, at_least, found_at, row};
use super::list::{end, move_one, pop_from_first};
use super::{Call, Command, CommandResult, Flags, Keys, sorted_set};
use crate::store::blocked::Waiting;
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::list::End;
use crate::store::number::{parse_double, parse_integer};
use crate::store::{Args, Kind, Reply};

const WAITS: Flags = Flags::WRITE.and(Flags::BLOCKING);
const WAITS_FAST: Flags = WAITS.and(Flags::FAST);
const MOVES: Flags = WAITS.and(Flags::DENYOOM);
const ASKS: Flags = Flags::BLOCKING;
/// All arguments but the last.
const ALL_BUT_LAST: Keys = Keys { first: 1, last: -2, step: 1 };

const fn list(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("list", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    list(("blpop", -3), WAITS, ALL_BUT_LAST, ("2.0.0", "Removes and returns the first element of a list, or waits for one"), blpop),
    list(("brpop", -3), WAITS, ALL_BUT_LAST, ("2.0.0", "Removes and returns the last element of a list, or waits for one"), brpop),
    list(("blmove", 6), MOVES, Keys::TWO, ("6.2.0", "Moves an element between lists, or waits for one"), blmove),
    list(("brpoplpush", 4), MOVES, Keys::TWO, ("2.2.0", "Moves a list's last element to the front of another, or waits for one"), brpoplpush),
    list(("blmpop", -5), WAITS, Keys::NONE, ("7.0.0", "Removes and returns elements of the first list that isn't empty, or waits for one"), blmpop),
    row("sorted-set", ("bzpopmin", -3), WAITS_FAST, ALL_BUT_LAST, ("5.0.0", "Removes and returns the member with the lowest score, or waits for one"), bzpopmin),
    row("sorted-set", ("bzpopmax", -3), WAITS_FAST, ALL_BUT_LAST, ("5.0.0", "Removes and returns the member with the highest score, or waits for one"), bzpopmax),
    row("sorted-set", ("bzmpop", -5), WAITS, Keys::NONE, ("7.0.0", "Removes and returns members of the first sorted set that isn't empty, or waits for one"), bzmpop),
    row("generic", ("wait", 3), ASKS, Keys::NONE, ("3.0.0", "Waits until replicas have the writes of this connection"), wait),
    row("generic", ("waitaof", 4), ASKS, Keys::NONE, ("7.2.0", "Waits until the writes of this connection are on disk"), waitaof),
];

/// How long a command waits: seconds with a fraction; 0 is for ever.
pub(super) fn timeout(text: &[u8]) -> Result<Option<u64>, CommandError> {
    let seconds = parse_double(text)
        .ok_or(CommandError::Text("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    if ms > i64::MAX as f64 {
        return Err(CommandError::Text("ERR timeout is out of range"));
    }
    bounded(ms as i64)
}

pub(in crate::store) fn milliseconds(text: &[u8]) -> Result<Option<u64>, CommandError> {
    bounded(
        parse_integer(text)
            .ok_or(CommandError::Text("ERR timeout is not an integer or out of range"))?,
    )
}

/// The timer wheel and the store's clock can both add it to now.
fn bounded(ms: i64) -> Result<Option<u64>, CommandError> {
    const MS_MAX: u64 = i64::MAX as u64 / 2;
    let ms = u64::try_from(ms).map_err(|_| CommandError::Text("ERR timeout is negative"))?;
    if ms > MS_MAX {
        return Err(CommandError::Text("ERR timeout is out of range"));
    }
    Ok(Some(ms).filter(|ms| *ms > 0))
}

/// Waits for keys of a type; where that isn't possible there is no array.
fn wait_for(
    call: &mut Call<'_>,
    keys: Args<'_>,
    kind: Kind,
    timeout_ms: Option<u64>,
    at_once: fn(&mut Reply<'_>),
) -> CommandResult {
    let waiting = Waiting {
        keys,
        kind: Some(kind),
        or_gone: false,
        timeout_ms,
        at_once,
        too_late: |reply| reply.null_array(),
        again: None,
    };
    call.wait(waiting)
}

fn blpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, End::Front)
}

fn brpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, End::Back)
}

fn pop(call: &mut Call<'_>, end: End) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let (args, last) = (call.args, call.args.len() - 1);
    let timeout_ms = timeout(args.at(last))?;
    let keys = args.from(1).first(last - 1);
    for key in keys.iter() {
        let Some((list, reply)) = found_at(call, key, Database::list)? else { continue };
        reply.array(2);
        reply.bulk(key);
        list.pop(end, |element| super::collection::bulk(reply, element));
        list.settle(&limits);
        popped(call, key, 1);
        return Ok(());
    }
    wait_for(call, keys, Kind::List, timeout_ms, |reply| reply.null_array())
}

/// After elements of the value at a key were removed.
fn popped(call: &mut Call<'_>, key: &[u8], count: usize) {
    let hash = call.keyspace.hash(key);
    call.keyspace.database(call.session.database).remove_if_empty(key, hash);
    call.keyspace.dirty += count as u64;
}

fn blmove(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (end(call.args.at(3))?, end(call.args.at(4))?);
    move_or_wait(call, from, to)
}

fn brpoplpush(call: &mut Call<'_>) -> CommandResult {
    move_or_wait(call, End::Back, End::Front)
}

fn move_or_wait(call: &mut Call<'_>, from: End, to: End) -> CommandResult {
    let args = call.args;
    let timeout_ms = timeout(args.at(args.len() - 1))?;
    if move_one(call, from, to)? {
        return Ok(());
    }
    wait_for(call, args.from(1).first(1), Kind::List, timeout_ms, |reply| reply.null())
}

fn blmpop(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let timeout_ms = timeout(args.at(1))?;
    if pop_from_first(call, args.from(1))? {
        return Ok(());
    }
    wait_for(call, counted_keys(args)?, Kind::List, timeout_ms, |reply| reply.null_array())
}

fn bzmpop(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let timeout_ms = timeout(args.at(1))?;
    if sorted_set::pop_from_first(call, args.from(1))? {
        return Ok(());
    }
    wait_for(call, counted_keys(args)?, Kind::SortedSet, timeout_ms, |reply| reply.null_array())
}

/// The keys behind their number, which has been checked.
fn counted_keys<'a>(args: Args<'a>) -> Result<Args<'a>, CommandError> {
    let count = at_least(args.get(2), 1, "ERR numkeys should be greater than 0")?;
    Ok(args.from(3).first(count))
}

fn bzpopmin(call: &mut Call<'_>) -> CommandResult {
    pop_member(call, false)
}

fn bzpopmax(call: &mut Call<'_>) -> CommandResult {
    pop_member(call, true)
}

fn pop_member(call: &mut Call<'_>, highest: bool) -> CommandResult {
    let (args, last) = (call.args, call.args.len() - 1);
    let timeout_ms = timeout(args.at(last))?;
    let keys = args.from(1).first(last - 1);
    for key in keys.iter() {
        let Some((set, reply)) = found_at(call, key, Database::sorted_set)? else { continue };
        let pairs = sorted_set::take(set, 1, highest);
        reply.array(3);
        reply.bulk(key);
        sorted_set::write_pairs(reply, &pairs, false);
        popped(call, key, 1);
        return Ok(());
    }
    wait_for(call, keys, Kind::SortedSet, timeout_ms, |reply| reply.null_array())
}
