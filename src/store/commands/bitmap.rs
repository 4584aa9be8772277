//! Commands on the bits of a string; bit 0 is the highest of the first byte.

use super::collection::{READ, READ_FAST, Run, WRITE, integer, is, row};
use super::{Call, Command, CommandResult, Flags, Keys, string_edit};
use crate::limits::STRING_BYTES_MAX;
use crate::store::number::parse_integer;
use crate::store::{Args, CommandError, Expiry};

const fn bitmap(
    usage: (&'static str, i16),
    flags: Flags,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("bitmap", usage, flags, Keys::ONE, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    bitmap(("setbit", 4), WRITE, ("2.2.0", "Sets or clears a bit of a string, made long enough"), setbit),
    bitmap(("getbit", 3), READ_FAST, ("2.2.0", "Returns a bit of a string"), getbit),
    bitmap(("bitcount", -2), READ, ("2.6.0", "Counts the bits that are set"), bitcount),
    bitmap(("bitpos", -3), READ, ("2.8.7", "Finds the first bit that is set or clear"), bitpos),
    row("bitmap", ("bitop", -4), WRITE, FROM_SECOND, ("2.6.0", "Combines strings bit by bit and keeps the result"), bitop),
];

const FROM_SECOND: Keys = Keys { first: 2, last: -1, step: 1 };

/// Byte and mask of a bit offset.
fn bit_at(text: &[u8]) -> Result<(usize, u8), CommandError> {
    limited_offset(parse_integer(text)).map(|offset| (offset / 8, 0x80 >> (offset % 8)))
}

/// A bit offset that a string can have.
pub(super) fn limited_offset(offset: Option<i64>) -> Result<usize, CommandError> {
    offset
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| offset / 8 < STRING_BYTES_MAX)
        .ok_or(CommandError::Text("ERR bit offset is not an integer or out of range"))
}

fn setbit(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (byte, mask) = bit_at(args.at(2))?;
    let on = match args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(CommandError::Text("ERR bit is not an integer or out of range")),
    };
    string_edit::check_length(byte + 1)?;
    let database = keyspace.database(session.database);
    let len = database.string(args.at(1), *hash, *now_ms)?.map(|text| text.len());
    if len.is_none() {
        database.set_string(args.at(1), *hash, b"", Expiry::Clear);
    }
    let mut before = false;
    if let Some(mut entry) = database.string_mut(args.at(1), *hash, *now_ms)? {
        let byte = &mut entry.grow(byte + 1)[byte];
        before = *byte & mask != 0;
        *byte = if on { *byte | mask } else { *byte & !mask };
    }
    let grew = len.is_none_or(|len| len <= byte);
    keyspace.dirty += u64::from(grew || before != on);
    reply.integer(i64::from(before));
    Ok(())
}

fn getbit(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (byte, mask) = bit_at(args.at(2))?;
    let text = keyspace.database(session.database).string(args.at(1), *hash, *now_ms)?;
    let byte = text.and_then(|text| text.get(byte).copied()).unwrap_or(0);
    reply.integer(i64::from(byte & mask != 0));
    Ok(())
}

/// A range of bytes or bits as arguments give it; what is missing means all.
struct Range {
    start: i64,
    end: Option<i64>,
    in_bits: bool,
}

impl Range {
    fn parse(args: Args<'_>) -> Result<Range, CommandError> {
        let start = args.get(0).map_or(Ok(0), integer)?;
        let end = args.get(1).map(integer).transpose()?;
        let in_bits = match args.get(2) {
            None => false,
            Some(unit) if is(unit, "bit") => true,
            Some(unit) if is(unit, "byte") => false,
            Some(_) => return Err(CommandError::Syntax),
        };
        if args.len() > 3 {
            return Err(CommandError::Syntax);
        }
        Ok(Range { start, end, in_bits })
    }

    /// Whether both ends count from the string's end and are the wrong way round.
    fn is_reversed(&self) -> bool {
        self.start < 0 && self.end.is_some_and(|end| end < 0 && self.start > end)
    }

    /// The first bit and the one behind the last in a string of so many bytes, if there are any.
    fn bits(&self, bytes: usize) -> Option<(usize, usize)> {
        let unit = if self.in_bits { 1 } else { 8 };
        let total = (bytes * 8 / unit) as i64;
        let end = self.end.unwrap_or(-1);
        let from_end =
            |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
        let (start, end) = (from_end(self.start), from_end(end).min(total - 1));
        (start <= end).then(|| (start as usize * unit, (end as usize + 1) * unit))
    }
}

fn bitcount(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    if args.len() == 3 {
        return Err(CommandError::Syntax);
    }
    let range = Range::parse(args.from(2))?;
    let text = keyspace.database(session.database).string(args.at(1), *hash, *now_ms)?;
    let text = text.filter(|_| !range.is_reversed());
    let count = text.map_or(0, |text| {
        range.bits(text.len()).map_or(0, |(start, end)| count_bits(&text, start, end))
    });
    reply.integer(count as i64);
    Ok(())
}

/// The bits set from `start` to before `end`.
fn count_bits(bytes: &[u8], start: usize, end: usize) -> usize {
    let part = &bytes[start / 8..end.div_ceil(8)];
    let chunks = part.chunks_exact(8);
    let tail: u32 = chunks.remainder().iter().map(|byte| byte.count_ones()).sum();
    let words = chunks.map(|chunk| {
        let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        word.count_ones() as usize
    });
    let all = words.sum::<usize>() + tail as usize;
    let before = bytes[start / 8] & !(0xff >> (start % 8));
    let after = if end.is_multiple_of(8) { 0 } else { bytes[end / 8] & (0xff >> (end % 8)) };
    all - (before.count_ones() + after.count_ones()) as usize
}

fn bitpos(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let wanted = match integer(args.at(2))? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::Text("ERR The bit argument must be 1 or 0.")),
    };
    let range = Range::parse(args.from(3))?;
    let text = keyspace.database(session.database).string(args.at(1), *hash, *now_ms)?;
    let Some(text) = text else {
        reply.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let found = match range.bits(text.len()) {
        // Behind the end there are zeros, unless an end was given.
        Some((start, end)) => find_bit(&text, start, end, wanted)
            .or_else(|| (!wanted && range.end.is_none()).then_some(text.len() * 8)),
        None => None,
    };
    reply.integer(found.map_or(-1, |found| found as i64));
    Ok(())
}

/// The first such bit from `start` to before `end`.
fn find_bit(bytes: &[u8], start: usize, end: usize, wanted: bool) -> Option<usize> {
    let flip = if wanted { 0 } else { 0xff };
    let part = bytes.iter().enumerate().take(end.div_ceil(8)).skip(start / 8);
    let candidates = part.map(|(index, byte)| {
        let from = if index == start / 8 { 0xff >> (start % 8) } else { 0xff };
        (index, (byte ^ flip) & from)
    });
    let (index, byte) = candidates.into_iter().find(|(_, byte)| *byte != 0)?;
    Some(index * 8 + byte.leading_zeros() as usize).filter(|found| *found < end)
}

fn bitop(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (operation, sources) = (args.at(1), args.from(3));
    let combine: fn(u8, u8) -> u8 = match operation {
        _ if is(operation, "and") => |left, right| left & right,
        _ if is(operation, "or") => |left, right| left | right,
        _ if is(operation, "xor") => |left, right| left ^ right,
        _ if is(operation, "not") => |left, _| !left,
        _ => return Err(CommandError::Syntax),
    };
    if is(operation, "not") && sources.len() != 1 {
        return Err(CommandError::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let hasher = keyspace.hasher();
    let database = keyspace.database(session.database);
    let mut result: Option<Vec<u8>> = None;
    for key in sources.iter() {
        let text = database.string(key, hasher.hash(key), *now_ms)?;
        let bytes = text.as_deref().unwrap_or_default();
        result = Some(match result {
            None => bytes.to_vec(),
            Some(result) => combined(result, bytes, combine),
        });
    }
    let mut result = result.unwrap_or_default();
    if is(operation, "not") {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let (target, len) = (args.at(2), result.len());
    if result.is_empty() {
        keyspace.dirty += u64::from(database.delete(target, *hash, *now_ms));
    } else {
        database.set_string(target, *hash, b"", Expiry::Clear);
        if let Some(mut entry) = database.string_mut(target, *hash, *now_ms)? {
            entry.grow(len).copy_from_slice(&result);
        }
        keyspace.dirty += 1;
    }
    reply.integer(len as i64);
    Ok(())
}

/// The shorter one goes on with zeros.
fn combined(mut left: Vec<u8>, right: &[u8], combine: fn(u8, u8) -> u8) -> Vec<u8> {
    left.resize(left.len().max(right.len()), 0);
    let rest = right.iter().copied().chain(std::iter::repeat(0));
    left.iter_mut().zip(rest).for_each(|(left, right)| *left = combine(*left, right));
    left
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};
    use super::*;

    #[test]
    fn single_bits() {
        check(&[
            ("setbit k 7 1", ":0"),
            ("setbit k 7 1", ":1"),
            ("strlen k", ":1"),
            ("getbit k 7", ":1"),
            ("getbit k 6", ":0"),
            ("getbit k 1000", ":0"),
            ("getbit none 0", ":0"),
            ("setbit k 100 0", ":0"),
            ("strlen k", ":13"),
            ("set n 1", "+OK"),
            ("setbit n 6 1", ":0"),
            ("get n", "$1 3"),
            ("setbit k -1 1", "-ERR bit offset is not an integer or out of range"),
            ("setbit k 4294967296 1", "-ERR bit offset is not an integer or out of range"),
            ("setbit k 0 2", "-ERR bit is not an integer or out of range"),
            ("rpush l a", ":1"),
            ("getbit l 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn operations() {
        let mut client = Client::resp2();
        client.run_words(&[&b"mset"[..], b"a", b"\xf0\x0f", b"b", b"\xff"]);
        for (operation, result) in [
            ("and d a b", &b"\xf0\x00"[..]),
            ("or d a b", b"\xff\x0f"),
            ("xor d a b", b"\x0f\x0f"),
            ("xor d a b none", b"\x0f\x0f"),
            ("not d a", b"\x0f\xf0"),
            ("or a a", b"\xf0\x0f"),
        ] {
            assert_eq!(client.run(&format!("bitop {operation}")), ":2", "{operation}");
            let target = operation.split(' ').nth(1).expect("a target");
            let reply = client.run_words(&[b"get", target.as_bytes()]);
            assert_eq!(reply, [b"$2\r\n", result, b"\r\n"].concat(), "{operation}");
        }
        client.check(&[
            ("bitop or d none", ":0"),
            ("exists d", ":0"),
            ("bitop not d a b", "-ERR BITOP NOT must be called with a single source key."),
            ("bitop what d a b", "-ERR syntax error"),
            ("rpush l x", ":1"),
            ("bitop or d l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn counts() {
        check(&[
            ("set k foobar", "+OK"),
            ("bitcount k", ":26"),
            ("bitcount k 0 0", ":4"),
            ("bitcount k 1 1", ":6"),
            ("bitcount k 1 1 byte", ":6"),
            ("bitcount k 5 30 bit", ":17"),
            ("bitcount k -2 -1", ":7"),
            ("bitcount k -1 -2", ":0"),
            ("bitcount k 10 20", ":0"),
            ("bitcount none", ":0"),
            ("bitcount k 1", "-ERR syntax error"),
            ("bitcount k 0 1 what", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn positions() {
        let mut client = Client::resp2();
        client.run_words(&[&b"set"[..], b"k", b"\xff\xf0\x00"]);
        client.run_words(&[&b"set"[..], b"ones", b"\xff\xff"]);
        client.check(&[
            ("bitpos k 0", ":12"),
            ("bitpos k 1", ":0"),
            ("bitpos k 1 2", ":-1"),
            ("bitpos k 0 0 0", ":-1"),
            ("bitpos k 0 2", ":16"),
            ("bitpos k 1 7 15 bit", ":7"),
            ("bitpos k 0 8 11 bit", ":-1"),
            ("bitpos ones 0", ":16"),
            ("bitpos ones 0 0 -1", ":-1"),
            ("bitpos ones 0 0", ":16"),
            ("bitpos ones 1 -3 -5", ":0"),
            ("bitpos none 0", ":0"),
            ("bitpos none 1", ":-1"),
            ("bitpos k 2", "-ERR The bit argument must be 1 or 0."),
            ("bitpos k x", "-ERR value is not an integer or out of range"),
        ]);
    }

    /// Against a walk over all bits.
    #[test]
    fn every_range_of_a_few_bytes() {
        let bytes = [0x00, 0xa5, 0xff, 0x10, 0x00, 0xff, 0x7e, 0x01, 0xff, 0x80];
        let bit = |index: usize| bytes[index / 8] >> (7 - index % 8) & 1 == 1;
        for start in 0..80 {
            for end in start + 1..=80 {
                let count = (start..end).filter(|index| bit(*index)).count();
                assert_eq!(count_bits(&bytes, start, end), count, "{start}..{end}");
                for wanted in [false, true] {
                    let first = (start..end).find(|index| bit(*index) == wanted);
                    assert_eq!(find_bit(&bytes, start, end, wanted), first, "{start}..{end}");
                }
            }
        }
    }
}
