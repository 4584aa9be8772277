//! Commands that change a string: counters, APPEND, SETRANGE. All keep the key's expiry. Rows are in `string.rs`.

use super::collection::integer;
use super::{Call, CommandResult};
use crate::limits::STRING_BYTES_MAX;
use crate::store::long_double::{LongDouble, Parsed};
use crate::store::number::parse_integer;
use crate::store::value::ValueRef;
use crate::store::{CommandError, Expiry, Value};

/// A string would become too long.
const TOO_LONG: CommandError =
    CommandError::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

#[inline]
pub(super) fn incr(call: &mut Call<'_>) -> CommandResult {
    increment(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> CommandResult {
    increment(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> CommandResult {
    let by = integer(call.args.at(2))?;
    increment(call, by)
}

pub(super) fn decrby(call: &mut Call<'_>) -> CommandResult {
    let by = integer(call.args.at(2))?;
    let by = by.checked_neg().ok_or(CommandError::Text("ERR decrement would overflow"))?;
    increment(call, by)
}

fn increment(call: &mut Call<'_>, by: i64) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let value = match database.string_mut(args.at(1), *hash, *now_ms)? {
        Some(mut entry) => {
            let value = match entry.view().value() {
                ValueRef::Integer(value) => Some(value),
                ValueRef::String(text) => parse_integer(text),
                _ => None,
            };
            let value = value.ok_or(CommandError::NotInteger)?;
            let value = value.checked_add(by).ok_or(CommandError::Overflow)?;
            drop(entry.set_integer(value));
            value
        }
        None => {
            database.insert_value(args.at(1), *hash, Value::Integer(by), Expiry::Clear);
            by
        }
    };
    keyspace.dirty += 1;
    reply.integer(value);
    Ok(())
}

pub(super) fn incrbyfloat(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let (key, hash) = (args.at(1), *hash);
    let before = match database.string_mut(key, hash, *now_ms)? {
        Some(entry) => entry.view().text().and_then(|text| LongDouble::parse(&text)),
        None => LongDouble::parse(b"0"),
    };
    let before = before.ok_or(CommandError::NotFloat)?;
    let by = LongDouble::parse(args.at(2)).ok_or(CommandError::NotFloat)?;
    let sum = match (before, by) {
        (Parsed::Finite(before), Parsed::Finite(by)) => before.checked_add(by),
        _ => None,
    };
    let sum = sum.ok_or(CommandError::Text("ERR increment would produce NaN or Infinity"))?.text();
    database.set_string(key, hash, sum.as_bytes(), Expiry::Keep);
    if let Some(mut entry) = database.string_mut(key, hash, *now_ms)? {
        entry.mark_float();
    }
    keyspace.dirty += 1;
    reply.bulk(sum.as_bytes());
    Ok(())
}

pub(super) fn append(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let tail = args.at(2);
    let len = match database.string_mut(args.at(1), *hash, *now_ms)? {
        Some(mut entry) => {
            let before = entry.view().text().map_or(0, |text| text.len());
            check_length(before + tail.len())?;
            entry.grow(before + tail.len())[before..].copy_from_slice(tail);
            before + tail.len()
        }
        None => {
            database.set_string(args.at(1), *hash, tail, Expiry::Clear);
            tail.len()
        }
    };
    keyspace.dirty += 1;
    reply.integer(len as i64);
    Ok(())
}

pub(super) fn setrange(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let offset = usize::try_from(integer(args.at(2))?)
        .map_err(|_| CommandError::Text("ERR offset is out of range"))?;
    let (key, value) = (args.at(1), args.at(3));
    let database = keyspace.database(session.database);
    let before = match database.string_mut(key, *hash, *now_ms)? {
        Some(entry) => entry.view().text().map(|text| text.len()),
        None => None,
    };
    if value.is_empty() {
        reply.integer(before.unwrap_or(0) as i64);
        return Ok(());
    }
    let end = offset.saturating_add(value.len());
    check_length(end)?;
    if before.is_none() {
        database.set_string(key, *hash, b"", Expiry::Clear);
    }
    let mut len = 0;
    if let Some(mut entry) = database.string_mut(key, *hash, *now_ms)? {
        let bytes = entry.grow(end);
        bytes[offset..end].copy_from_slice(value);
        len = bytes.len();
    }
    keyspace.dirty += 1;
    reply.integer(len as i64);
    Ok(())
}

/// Whether a string may be that long.
pub(super) fn check_length(len: usize) -> CommandResult {
    if len > STRING_BYTES_MAX { Err(TOO_LONG) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn counters() {
        check(&[
            ("incr k", ":1"),
            ("incrby k 41", ":42"),
            ("decr k", ":41"),
            ("decrby k 50", ":-9"),
            ("get k", "$2 -9"),
            ("strlen k", ":2"),
            ("set k 9223372036854775806", "+OK"),
            ("incr k", ":9223372036854775807"),
            ("incr k", "-ERR increment or decrement would overflow"),
            ("get k", "$19 9223372036854775807"),
            ("decrby k -9223372036854775808", "-ERR decrement would overflow"),
            ("incrby k x", "-ERR value is not an integer or out of range"),
            ("set k 01", "+OK"),
            ("incr k", "-ERR value is not an integer or out of range"),
            ("rpush l a", ":1"),
            ("incr l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("set k 1 ex 10", "+OK"),
            ("incr k", ":2"),
            ("ttl k", ":10"),
        ]);
    }

    #[test]
    fn floats() {
        check(&[
            ("incrbyfloat k 0.1", "$3 0.1"),
            ("incrbyfloat k 3", "$3 3.1"),
            ("incrbyfloat k -3.1", "$1 0"),
            ("incr k", ":1"),
            ("incrbyfloat k 5.0e3", "$4 5001"),
            ("incrbyfloat k inf", "-ERR increment would produce NaN or Infinity"),
            ("incrbyfloat k x", "-ERR value is not a valid float"),
            ("set k x", "+OK"),
            ("incrbyfloat k 1", "-ERR value is not a valid float"),
            ("rpush l a", ":1"),
            (
                "incrbyfloat l 1",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
            ("set k 1 ex 10", "+OK"),
            ("incrbyfloat k 1.5", "$3 2.5"),
            ("ttl k", ":10"),
        ]);
    }

    #[test]
    fn append_and_setrange() {
        check(&[
            ("append k abc", ":3"),
            ("append k def", ":6"),
            ("get k", "$6 abcdef"),
            ("setrange k 1 XY", ":6"),
            ("get k", "$6 aXYdef"),
            ("setrange k 5 123", ":8"),
            ("get k", "$8 aXYde123"),
            ("setrange none 5 \"\"", ":0"),
            ("exists none", ":0"),
            ("setrange k -1 x", "-ERR offset is out of range"),
            (
                "setrange k 536870911 xx",
                "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            ),
            ("incr n", ":1"),
            ("append n 0", ":2"),
            ("incr n", ":11"),
            ("set k v ex 9", "+OK"),
            ("append k w", ":2"),
            ("ttl k", ":9"),
        ]);
        let mut client = Client::resp2();
        client.check(&[("setrange z 3 x", ":4")]);
        assert_eq!(client.run_words(&[&b"get"[..], b"z"]), b"$4\r\n\0\0\0x\r\n");
    }

    #[test]
    fn a_string_grows_over_all_its_forms() {
        let mut client = Client::resp2();
        let mut expected = String::new();
        for round in 0..300 {
            let piece = format!("{round:-<40}");
            expected.push_str(&piece);
            assert_eq!(client.run(&format!("append k {piece}")), format!(":{}", expected.len()));
        }
        assert_eq!(client.bulk("get k"), expected);
    }
}
