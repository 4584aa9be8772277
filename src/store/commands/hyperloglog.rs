//! Commands that estimate how many different elements there were.

use super::collection::{READ, Run, WRITE, WRITE_FAST, is, row};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::hyperloglog::{self as hll, Corrupt};
use crate::store::{Expiry, Text};

const fn row_of(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("hyperloglog", usage, flags, keys, about, run)
}

const ADMIN_WRITE: Flags = WRITE.and(Flags::ADMIN);
const SECOND: Keys = Keys { first: 2, last: 2, step: 1 };

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row_of(("pfadd", -2), WRITE_FAST, Keys::ONE, ("2.8.9", "Adds elements to a HyperLogLog"), pfadd),
    row_of(("pfcount", -2), READ, Keys::ALL, ("2.8.9", "Estimates how many different elements HyperLogLogs have seen"), pfcount),
    row_of(("pfmerge", -2), WRITE, Keys::ALL, ("2.8.9", "Merges HyperLogLogs into the first one"), pfmerge),
    row_of(("pfdebug", 3), ADMIN_WRITE, SECOND, ("2.8.9", "Shows how a HyperLogLog is kept"), pfdebug),
    row_of(("pfselftest", 1), Flags::ADMIN, Keys::NONE, ("2.8.9", "Tests HyperLogLogs"), pfselftest),
];

const NOT_ONE: CommandError =
    CommandError::Text("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupt> for CommandError {
    fn from(_: Corrupt) -> CommandError {
        CommandError::Text("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The HyperLogLog at a key, looked at.
fn look<'d>(
    database: &'d mut Database,
    key: &[u8],
    hash: u64,
    now_ms: u64,
) -> Result<Option<Text<'d>>, CommandError> {
    match database.string(key, hash, now_ms)? {
        Some(value) if !hll::is_valid(&value) => Err(NOT_ONE),
        found => Ok(found),
    }
}

/// Puts a HyperLogLog back, with the expiry that the key has.
fn put(database: &mut Database, key: &[u8], hash: u64, value: &[u8], now_ms: u64) {
    database.set_string(key, hash, value, Expiry::Keep);
    // Redis keeps these strings apart from their keys, which OBJECT ENCODING shows.
    if let Ok(Some(mut entry)) = database.string_mut(key, hash, now_ms) {
        entry.grow(0);
    }
}

fn pfadd(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, .. } = call;
    let (key, hash, now_ms) = (args.at(1), *hash, *now_ms);
    let elements = args.from(2);
    let database = keyspace.database(session.database);
    let found = look(database, key, hash, now_ms)?;
    let is_new = found.is_none();
    let changed = if found.as_ref().is_some_and(|value| hll::is_dense(value)) {
        let mut raised = 0;
        if let Some(mut entry) = database.string_mut(key, hash, now_ms)? {
            let value = entry.grow(0);
            for element in elements.iter() {
                let (index, count) = hll::position(element);
                raised += u64::from(hll::raise_dense(value, index, count));
            }
            if raised > 0 {
                hll::invalidate(value);
            }
        }
        raised
    } else {
        let mut value = found.map_or_else(hll::empty, |value| value.to_vec());
        let mut raised = u64::from(is_new);
        for element in elements.iter() {
            let (index, count) = hll::position(element);
            raised += u64::from(hll::raise(&mut value, index, count)?);
        }
        if raised > 0 {
            hll::invalidate(&mut value);
            put(database, key, hash, &value, now_ms);
        }
        raised
    };
    keyspace.dirty += changed;
    call.reply.integer(i64::from(changed > 0));
    Ok(())
}

fn pfcount(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 2 {
        return count_union(call);
    }
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (key, hash, now_ms) = (args.at(1), *hash, *now_ms);
    let database = keyspace.database(session.database);
    let Some(value) = look(database, key, hash, now_ms)? else {
        reply.integer(0);
        return Ok(());
    };
    if let Some(kept) = hll::kept_estimate(&value) {
        reply.integer(kept as i64);
        return Ok(());
    }
    let mut registers = hll::no_registers();
    hll::merge(&mut registers, &value)?;
    let estimate = hll::estimate(&registers);
    if let Some(mut entry) = database.string_mut(key, hash, now_ms)? {
        hll::keep_estimate(entry.grow(0), estimate);
    }
    reply.integer(estimate as i64);
    keyspace.dirty += 1;
    // The estimate is in the value, so it has changed.
    let written = [(session.database, key.to_vec())];
    call.instance.watches.on_write(keyspace, &written, now_ms);
    Ok(())
}

fn count_union(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    let hasher = keyspace.hasher();
    let database = keyspace.database(session.database);
    let mut registers = hll::no_registers();
    for key in args.from(1).iter() {
        if let Some(value) = look(database, key, hasher.hash(key), *now_ms)? {
            hll::merge(&mut registers, &value)?;
        }
    }
    reply.integer(hll::estimate(&registers) as i64);
    Ok(())
}

fn pfmerge(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let hasher = keyspace.hasher();
    let database = keyspace.database(session.database);
    let mut registers = hll::no_registers();
    let mut dense = false;
    for key in args.from(1).iter() {
        if let Some(value) = look(database, key, hasher.hash(key), *now_ms)? {
            dense |= hll::is_dense(&value);
            hll::merge(&mut registers, &value)?;
        }
    }
    let (key, hash) = (args.at(1), *hash);
    let target = look(database, key, hash, *now_ms)?;
    let mut value = target.map_or_else(hll::empty, |value| value.to_vec());
    if dense {
        hll::make_dense(&mut value)?;
    }
    for (index, count) in registers.iter().enumerate().filter(|(_, count)| **count > 0) {
        hll::raise(&mut value, index, *count)?;
    }
    hll::invalidate(&mut value);
    put(database, key, hash, &value, *now_ms);
    keyspace.dirty += 1;
    reply.ok();
    Ok(())
}

fn pfdebug(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (what, key) = (args.at(1), args.at(2));
    let database = keyspace.database(session.database);
    let value = look(database, key, *hash, *now_ms)?
        .ok_or(CommandError::Text("ERR The specified key does not exist"))?;
    let dense = hll::is_dense(&value);
    if is(what, "decode") {
        if dense {
            return Err(CommandError::Text("ERR HLL encoding is not sparse"));
        }
        reply.bulk(decoded(&value).as_bytes());
    } else if is(what, "encoding") {
        reply.simple(if dense { "dense" } else { "sparse" });
    } else if is(what, "getreg") || is(what, "todense") {
        let mut registers = hll::no_registers();
        hll::merge(&mut registers, &value)?;
        let mut value = value.to_vec();
        hll::make_dense(&mut value)?;
        if !dense {
            put(database, key, *hash, &value, *now_ms);
            keyspace.dirty += 1;
        }
        if is(what, "todense") {
            reply.integer(i64::from(!dense));
            return Ok(());
        }
        reply.array(registers.len());
        registers.iter().for_each(|register| reply.integer(i64::from(*register)));
    } else {
        let name = crate::store::execute::until_nul(what, what.len());
        let parts: [&[u8]; 3] = [b"ERR Unknown PFDEBUG subcommand '", name, b"'"];
        return Err(CommandError::Owned(parts.concat()));
    }
    Ok(())
}

/// The runs of sparse registers: `z:` and `Z:` are zeros in one byte and two, `v:` value and length.
fn decoded(value: &[u8]) -> String {
    let runs = hll::runs(value).map(|run| match (run.count, run.bytes) {
        (0, 1) => format!("z:{}", run.len),
        (0, _) => format!("Z:{}", run.len),
        (count, _) => format!("v:{count},{}", run.len),
    });
    runs.collect::<Vec<String>>().join(" ")
}

/// Sparse and dense registers must agree, and the estimate must be near.
fn pfselftest(call: &mut Call<'_>) -> CommandResult {
    const ELEMENTS: u64 = 20_000;
    let (mut sparse, mut dense) = (hll::empty(), hll::empty());
    hll::make_dense(&mut dense)?;
    for number in 0..ELEMENTS {
        let (index, count) = hll::position(&number.to_le_bytes());
        hll::raise(&mut sparse, index, count)?;
        hll::raise_dense(&mut dense, index, count);
    }
    let mut registers = [hll::no_registers(), hll::no_registers()];
    hll::merge(&mut registers[0], &sparse)?;
    hll::merge(&mut registers[1], &dense)?;
    if registers[0] != registers[1] {
        return Err(CommandError::Text("ERR TESTFAILED dense/sparse disagree"));
    }
    if hll::estimate(&registers[0]).abs_diff(ELEMENTS) > ELEMENTS / 20 {
        return Err(CommandError::Text("ERR TESTFAILED Too big error"));
    }
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn estimates() {
        check(&[
            ("pfadd h", ":1"),
            ("pfadd h", ":0"),
            ("pfcount h", ":0"),
            ("pfadd h a b c", ":1"),
            ("pfadd h a", ":0"),
            ("object encoding h", "$3 raw"),
            ("pfcount h", ":3"),
            ("pfdebug decode h", "$44 Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"),
            ("pfadd i c d", ":1"),
            ("pfcount h i none", ":4"),
            ("pfmerge j h i", "+OK"),
            ("pfcount j", ":4"),
            ("pfdebug encoding j", "+sparse"),
            ("pfdebug todense j", ":1"),
            ("pfmerge h j", "+OK"),
            ("pfdebug encoding h", "+dense"),
            ("pfadd h e", ":1"),
            ("pfcount h", ":5"),
            ("pfdebug decode h", "-ERR HLL encoding is not sparse"),
            ("pfdebug getreg none", "-ERR The specified key does not exist"),
            ("pfselftest", "+OK"),
            ("set s text", "+OK"),
            ("pfadd s a", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("rpush l a", ":1"),
            ("pfcount l h", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("setrange h 4 x", ":12304"),
            ("pfcount h", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
        ]);
    }

    #[test]
    fn hostile_values_are_refused() {
        let corrupt = b"-INVALIDOBJ Corrupted HLL object detected\r\n";
        for registers in [&b""[..], b"\x7f", b"\x7f\xff\x00", b"\x00\x84", b"\xff\xff\xff"] {
            let mut client = Client::resp2();
            let value = [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", registers].concat();
            client.run_words(&[b"SET", b"h", &value]);
            assert_eq!(client.run_words(&[b"PFCOUNT", b"h"]), corrupt, "{registers:x?}");
            assert_eq!(client.run_words(&[b"PFMERGE", b"o", b"h"]), corrupt);
            assert_eq!(client.run_words(&[b"PFDEBUG", b"GETREG", b"h"]), corrupt);
        }
    }
}
