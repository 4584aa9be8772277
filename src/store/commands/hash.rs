//! Commands on hashes.

use super::collection::{
    READ, READ_FAST, REMOVE_FAST, Run, WRITE_FAST, bulk, created, created_within, found, integer,
    is, random_count, row, wrote,
};
use super::element_scan::Scan;
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::Reply;
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::element::Element;
use crate::store::hash::Hash;
use crate::store::long_double::{LongDouble, Parsed};

const fn hash(
    usage: (&'static str, i16),
    flags: Flags,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("hash", usage, flags, Keys::ONE, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    hash(("hset", -4), WRITE_FAST, ("2.0.0", "Sets fields to values"), hset),
    hash(("hmset", -4), WRITE_FAST, ("2.0.0", "Sets fields to values; HSET does the same"), hmset),
    hash(("hsetnx", 4), WRITE_FAST, ("2.0.0", "Sets a field if it isn't there"), hsetnx),
    hash(("hget", 3), READ_FAST, ("2.0.0", "Returns the value of a field"), hget),
    hash(("hmget", -3), READ_FAST, ("2.0.0", "Returns the values of fields"), hmget),
    hash(("hgetall", 2), READ, ("2.0.0", "Returns all fields and values"), hgetall),
    hash(("hdel", -3), REMOVE_FAST, ("2.0.0", "Removes fields"), hdel),
    hash(("hexists", 3), READ_FAST, ("2.0.0", "Tells whether a field is there"), hexists),
    hash(("hlen", 2), READ_FAST, ("2.0.0", "Returns the number of fields"), hlen),
    hash(("hkeys", 2), READ, ("2.0.0", "Returns all fields"), hkeys),
    hash(("hvals", 2), READ, ("2.0.0", "Returns all values"), hvals),
    hash(("hstrlen", 3), READ_FAST, ("3.2.0", "Returns the length of a field's value"), hstrlen),
    hash(("hincrby", 4), WRITE_FAST, ("2.0.0", "Adds an integer to a field"), hincrby),
    hash(("hincrbyfloat", 4), WRITE_FAST, ("2.6.0", "Adds a float to a field"), hincrbyfloat),
    hash(("hrandfield", -2), READ, ("6.2.0", "Returns random fields"), hrandfield),
    hash(("hscan", -3), READ, ("2.8.0", "Iterates over fields and values"), hscan),
];

fn hset(call: &mut Call<'_>) -> CommandResult {
    let added = set_all(call, "hset")?;
    call.reply.integer(added as i64);
    Ok(())
}

fn hmset(call: &mut Call<'_>) -> CommandResult {
    set_all(call, "hmset")?;
    call.reply.ok();
    Ok(())
}

/// Sets the pairs from argument 2 on; how many fields are new.
#[inline]
fn set_all(call: &mut Call<'_>, name: &str) -> Result<usize, CommandError> {
    if call.args.len() % 2 == 1 {
        let text = format!("ERR wrong number of arguments for '{name}' command");
        return Err(CommandError::Owned(text.into_bytes()));
    }
    let hasher = call.keyspace.hasher();
    let (hash, args, _, limits) = created_within(call, Database::hash_or_create)?;
    let mut added = 0;
    for index in (2..args.len()).step_by(2) {
        let new = hash.set(args.at(index), args.at(index + 1), hasher, limits);
        added += usize::from(new);
    }
    wrote(call, args.len() / 2 - 1, false);
    Ok(added)
}

fn hsetnx(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let hasher = call.keyspace.hasher();
    let (hash, args, reply) = created(call, Database::hash_or_create)?;
    let new = hash.at(args.at(2)).is_none();
    if new {
        hash.set(args.at(2), args.at(3), hasher, &limits);
    }
    reply.integer(i64::from(new));
    wrote(call, usize::from(new), false);
    Ok(())
}

fn value(reply: &mut Reply<'_>, value: Option<Element<'_>>) {
    match value {
        Some(value) => bulk(reply, value),
        None => reply.null(),
    }
}

fn hget(call: &mut Call<'_>) -> CommandResult {
    let (hash, args, reply) = found(call, Database::hash)?;
    value(reply, hash.and_then(|hash| hash.at(args.at(2))));
    Ok(())
}

fn hmget(call: &mut Call<'_>) -> CommandResult {
    let (hash, args, reply) = found(call, Database::hash)?;
    let fields = args.from(2);
    reply.array(fields.len());
    for field in fields.iter() {
        value(reply, hash.as_ref().and_then(|hash| hash.at(field)));
    }
    Ok(())
}

fn hgetall(call: &mut Call<'_>) -> CommandResult {
    let (hash, _, reply) = found(call, Database::hash)?;
    let Some(hash) = hash else {
        reply.map(0);
        return Ok(());
    };
    reply.map(hash.len());
    for (field, value) in hash.iter() {
        bulk(reply, field);
        bulk(reply, value);
    }
    Ok(())
}

fn hdel(call: &mut Call<'_>) -> CommandResult {
    let (hash, args, reply) = found(call, Database::hash)?;
    let Some(hash) = hash else {
        reply.integer(0);
        return Ok(());
    };
    let removed = args.from(2).iter().filter(|field| hash.remove(field)).count();
    reply.integer(removed as i64);
    let empty = hash.is_empty();
    wrote(call, removed, empty);
    Ok(())
}

fn hexists(call: &mut Call<'_>) -> CommandResult {
    let (hash, args, reply) = found(call, Database::hash)?;
    reply.integer(i64::from(hash.is_some_and(|hash| hash.at(args.at(2)).is_some())));
    Ok(())
}

fn hlen(call: &mut Call<'_>) -> CommandResult {
    let (hash, _, reply) = found(call, Database::hash)?;
    reply.integer(hash.map_or(0, |hash| hash.len()) as i64);
    Ok(())
}

fn hkeys(call: &mut Call<'_>) -> CommandResult {
    column(call, |(field, _)| field)
}

fn hvals(call: &mut Call<'_>) -> CommandResult {
    column(call, |(_, value)| value)
}

fn column(
    call: &mut Call<'_>,
    choose: for<'h> fn((Element<'h>, Element<'h>)) -> Element<'h>,
) -> CommandResult {
    let (hash, _, reply) = found(call, Database::hash)?;
    let Some(hash) = hash else {
        reply.array(0);
        return Ok(());
    };
    reply.array(hash.len());
    hash.iter().map(choose).for_each(|element| bulk(reply, element));
    Ok(())
}

fn hstrlen(call: &mut Call<'_>) -> CommandResult {
    let (hash, args, reply) = found(call, Database::hash)?;
    let value = hash.and_then(|hash| hash.at(args.at(2)));
    reply.integer(value.map_or(0, |value| value.text_bytes()) as i64);
    Ok(())
}

fn hincrby(call: &mut Call<'_>) -> CommandResult {
    let increment = integer(call.args.at(3))?;
    increase(call, |before| {
        let not_integer = CommandError::Text("ERR hash value is not an integer");
        let before = before.map_or(Ok(0), |value| value.integer().ok_or(not_integer))?;
        let sum = before.checked_add(increment).ok_or(CommandError::Overflow)?;
        Ok(sum.to_string())
    })?;
    let (hash, args, reply) = found(call, Database::hash)?;
    let sum = hash.and_then(|hash| hash.at(args.at(2))).and_then(|value| value.integer());
    reply.integer(sum.expect("an integer was stored there"));
    Ok(())
}

fn hincrbyfloat(call: &mut Call<'_>) -> CommandResult {
    let increment = match LongDouble::parse(call.args.at(3)).ok_or(CommandError::NotFloat)? {
        Parsed::Finite(value) => value,
        Parsed::Infinite => return Err(CommandError::Text("ERR value is NaN or Infinity")),
    };
    const INFINITE: CommandError =
        CommandError::Text("ERR increment would produce NaN or Infinity");
    increase(call, |before| {
        let sum = match before {
            None => Some(increment),
            Some(before) => {
                let mut digits = itoa::Buffer::new();
                match LongDouble::parse(before.text(&mut digits)) {
                    Some(Parsed::Finite(before)) => before.checked_add(increment),
                    Some(Parsed::Infinite) => None,
                    None => return Err(CommandError::Text("ERR hash value is not a float")),
                }
            }
        };
        Ok(sum.ok_or(INFINITE)?.text())
    })?;
    let (hash, args, reply) = found(call, Database::hash)?;
    value(reply, hash.and_then(|hash| hash.at(args.at(2))));
    Ok(())
}

/// Stores what `sum` makes of the field's value; a refusal changes nothing.
fn increase(
    call: &mut Call<'_>,
    sum: impl FnOnce(Option<Element<'_>>) -> Result<String, CommandError>,
) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let hasher = call.keyspace.hasher();
    let field = call.args.at(2);
    let (hash, _, _) = found(call, Database::hash)?;
    let text = sum(hash.as_ref().and_then(|hash| hash.at(field)))?;
    let (hash, _, _) = created(call, Database::hash_or_create)?;
    hash.update(field, text.as_bytes(), hasher, &limits);
    wrote(call, 1, false);
    Ok(())
}

fn hrandfield(call: &mut Call<'_>) -> CommandResult {
    let mut random = call.keyspace.random();
    let args = call.args;
    let (count, values) = match args.len() {
        2 => (None, false),
        3 => (Some(random_count(args.at(2))?), false),
        4 if is(args.at(3), "withvalues") => (Some(random_count(args.at(2))?), true),
        _ => return Err(CommandError::Syntax),
    };
    if values && count.is_some_and(|count| count > i64::MAX / 2) {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    let (hash, _, reply) = found(call, Database::hash)?;
    match (hash, count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(hash), None) => value(reply, hash.random(&mut random).map(|(field, _)| field)),
        (Some(hash), Some(count)) if count < 0 => {
            let count = count.unsigned_abs() as usize;
            pairs_header(reply, count, values);
            for _ in 0..count {
                let pair = hash.random(&mut random).expect("a stored hash isn't empty");
                write_pair(reply, pair, values);
            }
        }
        (Some(hash), Some(count)) => {
            let pairs = hash.sample(count as usize, &mut random);
            pairs_header(reply, pairs.len(), values);
            pairs.into_iter().for_each(|pair| write_pair(reply, pair, values));
        }
    }
    Ok(())
}

/// Pairs are arrays of their own in RESP3, flat in RESP2.
fn pairs_header(reply: &mut Reply<'_>, count: usize, values: bool) {
    reply.array(if values && !reply.is_resp3() { count * 2 } else { count });
}

fn write_pair(reply: &mut Reply<'_>, (field, value): (Element<'_>, Element<'_>), values: bool) {
    if values && reply.is_resp3() {
        reply.array(2);
    }
    bulk(reply, field);
    if values {
        bulk(reply, value);
    }
}

fn hscan(call: &mut Call<'_>) -> CommandResult {
    Scan::cursor(call.args.at(2))?;
    let (hash, args, reply) = found(call, Database::hash)?;
    let Some(hash) = hash else {
        Scan::nothing(reply);
        return Ok(());
    };
    let scan = Scan::parse(args, true)?;
    Scan::answer(reply, |reply| scan_pairs(hash, &scan, reply));
    Ok(())
}

fn scan_pairs(hash: &Hash, scan: &Scan<'_>, reply: &mut Reply<'_>) -> (u64, usize) {
    let mut shown = 0;
    let next = hash.scan(scan.cursor, scan.count, |field, value| {
        if !scan.wants(field) {
            return;
        }
        bulk(reply, field);
        shown += 1;
        if !scan.no_values {
            bulk(reply, value);
            shown += 1;
        }
    });
    (next, shown)
}

#[cfg(test)]
mod tests;
