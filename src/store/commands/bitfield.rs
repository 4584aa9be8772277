//! BITFIELD: a string as an array of integers of any width. Source of the semantics: Redis's `bitops.c`.

use super::bitmap::limited_offset;
use super::collection::{READ_FAST, WRITE, integer, is, row};
use super::{Call, Command, CommandResult, Keys, string_edit};
use crate::store::number::parse_integer;
use crate::store::{Args, CommandError, Expiry};

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row("bitmap", ("bitfield", -2), WRITE, Keys::ONE, ("3.2.0", "Reads and changes integers of any width in a string"), bitfield),
    row("bitmap", ("bitfield_ro", -2), READ_FAST, Keys::ONE, ("6.0.0", "Reads integers of any width in a string"), bitfield_ro),
];

/// Where an integer lies and how wide it is.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    /// 1 to 64, unsigned to 63.
    bits: u32,
    /// Of its highest bit; bit 0 is the highest of the first byte.
    offset: usize,
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Step {
    Get,
    Set(i64, Overflow),
    Increment(i64, Overflow),
}

fn bitfield(call: &mut Call<'_>) -> CommandResult {
    let steps = parse(call.args)?;
    run(call, &steps)
}

fn bitfield_ro(call: &mut Call<'_>) -> CommandResult {
    let steps = parse(call.args)?;
    if steps.iter().any(|(_, step)| !matches!(step, Step::Get)) {
        return Err(CommandError::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    run(call, &steps)
}

fn parse(args: Args<'_>) -> Result<Vec<(Field, Step)>, CommandError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while let Some(word) = args.get(at) {
        let left = args.len() - at - 1;
        if is(word, "overflow") && left >= 1 {
            overflow = Overflow::parse(args.at(at + 1))?;
            at += 2;
            continue;
        }
        let value = || integer(args.at(at + 3));
        let (takes, step) = match word {
            word if is(word, "get") && left >= 2 => (3, None),
            word if is(word, "set") && left >= 3 => (4, Some(true)),
            word if is(word, "incrby") && left >= 3 => (4, Some(false)),
            _ => return Err(CommandError::Syntax),
        };
        let field = Field::parse(args.at(at + 1), args.at(at + 2))?;
        let step = match step {
            None => Step::Get,
            Some(true) => Step::Set(value()?, overflow),
            Some(false) => Step::Increment(value()?, overflow),
        };
        steps.push((field, step));
        at += takes;
    }
    Ok(steps)
}

fn run(call: &mut Call<'_>, steps: &[(Field, Step)]) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let key = args.at(1);
    let written = steps.iter().filter(|(_, step)| !matches!(step, Step::Get));
    let Some(end) = written.map(|(field, _)| field.end_byte()).max() else {
        let text = database.string(key, *hash, *now_ms)?;
        reply.array(steps.len());
        for (field, _) in steps {
            reply.integer(field.value(field.read(text.as_deref().unwrap_or_default())));
        }
        return Ok(());
    };
    string_edit::check_length(end)?;
    let len = database.string(key, *hash, *now_ms)?.map(|text| text.len());
    if len.is_none() {
        database.set_string(key, *hash, b"", Expiry::Clear);
    }
    let Some(mut entry) = database.string_mut(key, *hash, *now_ms)? else { return Ok(()) };
    let bytes = entry.grow(end);
    // SET changes nothing where the number is there already.
    let mut changes = 0;
    reply.array(steps.len());
    for (field, step) in steps {
        let before = field.value(field.read(bytes));
        let (wanted, overflow) = match *step {
            Step::Get => {
                reply.integer(before);
                continue;
            }
            Step::Set(value, overflow) if field.signed => (i128::from(value), overflow),
            // A negative number is a huge unsigned one.
            Step::Set(value, overflow) => (i128::from(value as u64), overflow),
            Step::Increment(by, overflow) => (i128::from(before) + i128::from(by), overflow),
        };
        let Some(after) = field.fit(wanted, overflow) else {
            reply.null();
            continue;
        };
        field.write(bytes, after as u64);
        let same = matches!(step, Step::Set(..)) && before == field.value(field.read(bytes));
        changes += u64::from(!same);
        reply.integer(if matches!(step, Step::Set(..)) { before } else { after });
    }
    keyspace.dirty += changes.max(u64::from(len.is_none_or(|len| len < end)));
    Ok(())
}

impl Overflow {
    fn parse(word: &[u8]) -> Result<Overflow, CommandError> {
        match word {
            word if is(word, "wrap") => Ok(Overflow::Wrap),
            word if is(word, "sat") => Ok(Overflow::Saturate),
            word if is(word, "fail") => Ok(Overflow::Fail),
            _ => Err(CommandError::Text("ERR Invalid OVERFLOW type specified")),
        }
    }
}

impl Field {
    fn parse(kind: &[u8], offset: &[u8]) -> Result<Field, CommandError> {
        let (signed, digits) = match kind {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => (true, &[][..]),
        };
        let widest = if signed { 64 } else { 63 };
        let bits = parse_integer(digits)
            .filter(|bits| (1..=widest).contains(bits))
            .ok_or(CommandError::Text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))? as u32;
        let (digits, unit) = match offset {
            [b'#', digits @ ..] => (digits, i64::from(bits)),
            _ => (offset, 1),
        };
        let offset = parse_integer(digits).and_then(|index| index.checked_mul(unit));
        Ok(Field { signed, bits, offset: limited_offset(offset)? })
    }

    /// The byte behind the field.
    fn end_byte(self) -> usize {
        (self.offset + self.bits as usize).div_ceil(8)
    }

    /// Bits of the field's last byte that lie behind it.
    fn bits_behind(self) -> usize {
        self.end_byte() * 8 - self.offset - self.bits as usize
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }

    /// Its bits; what lies behind the string's end is 0.
    fn read(self, bytes: &[u8]) -> u64 {
        let all = (self.offset / 8..self.end_byte())
            .fold(0u128, |all, at| all << 8 | u128::from(bytes.get(at).copied().unwrap_or(0)));
        (all >> self.bits_behind() & self.mask()) as u64
    }

    /// Overwrites its bits, which must lie inside.
    fn write(self, bytes: &mut [u8], value: u64) {
        let place = self.mask() << self.bits_behind();
        let value = (u128::from(value) & self.mask()) << self.bits_behind();
        let (first, end) = (self.offset / 8, self.end_byte());
        for (index, byte) in bytes[first..end].iter_mut().rev().enumerate() {
            let (place, value) = ((place >> (8 * index)) as u8, (value >> (8 * index)) as u8);
            *byte = *byte & !place | value;
        }
    }

    /// The number that its bits mean.
    fn value(self, bits: u64) -> i64 {
        let above = 64 - self.bits;
        if self.signed { (bits << above) as i64 >> above } else { bits as i64 }
    }

    /// What is stored for a number that may not fit; nothing if that is to fail.
    fn fit(self, wanted: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = if self.signed {
            (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, self.mask() as i128)
        };
        if (least..=most).contains(&wanted) {
            return Some(wanted as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.value((wanted as u128 & self.mask()) as u64)),
            Overflow::Saturate => Some(wanted.clamp(least, most) as i64),
            Overflow::Fail => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::{Client, check};

    #[test]
    fn integers_of_any_width_are_read_and_written() {
        check(&[
            ("BITFIELD b SET u8 0 255 GET u8 0 GET i8 0", "*3 :0 :255 :-1"),
            ("BITFIELD b SET i5 3 -16 GET i5 3 GET u4 4", "*3 :-1 :-16 :0"),
            ("BITFIELD b SET u8 #2 9 GET u8 16 GET u63 900", "*3 :0 :9 :0"),
            ("BITFIELD c SET i64 1 -2 GET i64 1 GET u63 2", "*3 :0 :-2 :9223372036854775806"),
            ("BITFIELD d INCRBY u2 0 3 INCRBY u2 0 1", "*2 :3 :0"),
            ("BITFIELD d OVERFLOW SAT INCRBY i4 8 100 INCRBY i4 8 -100", "*2 :7 :-8"),
            ("BITFIELD d OVERFLOW FAIL INCRBY i4 8 -1 SET u4 8 -1 GET i4 8", "*3 $-1 $-1 :-8"),
            ("BITFIELD d SET u4 8 -1 OVERFLOW SAT SET u4 8 99", "*2 :8 :15"),
            ("BITFIELD none GET u8 0", "*1 :0"),
            ("EXISTS none", ":0"),
            ("BITFIELD none", "*0"),
            ("BITFIELD_RO b GET u8 16", "*1 :9"),
            ("BITFIELD_RO b SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
            ("BITFIELD b GET u8", "-ERR syntax error"),
            ("BITFIELD b OVERFLOW more", "-ERR Invalid OVERFLOW type specified"),
            ("BITFIELD b GET u8 -1", "-ERR bit offset is not an integer or out of range"),
            (
                "BITFIELD b GET u8 #9223372036854775807",
                "-ERR bit offset is not an integer or out of range",
            ),
        ]);
        let mut client = Client::resp2();
        for kind in ["u64", "i65", "u0", "x8", "i", "i08"] {
            let reply = client.run(&format!("BITFIELD b GET {kind} 0"));
            assert!(reply.starts_with("-ERR Invalid bitfield type"), "{kind}: {reply}");
        }
    }
}
