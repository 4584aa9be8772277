//! Counters with bounds and expiry (INCREX, Redis 8.8), and several strings with one expiry (MSETEX, Redis 8.4). Rows are
//! in `string.rs`.

use super::collection::{integer, is};
use super::expire_time::expire_unit;
use super::{Call, CommandResult};
use crate::store::database::Expiry;
use crate::store::number::{parse_double, parse_integer};
use crate::store::reply::format_double;
use crate::store::{Args, CommandError};

pub(super) fn msetex(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    const COUNT: CommandError = CommandError::Text("ERR invalid numkeys value");
    let count = parse_integer(args.at(1)).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count > 0).ok_or(COUNT)?;
    let words = count.checked_mul(2).filter(|words| *words <= args.len() - 2);
    let words = words.ok_or(CommandError::Text("ERR wrong number of key-value pairs"))?;
    let (pairs, options) = (args.from(2).first(words), args.from(2 + words));
    let (if_there, expiry) = shared_options(options, *now_ms)?;
    let hasher = keyspace.hasher();
    let database = keyspace.database(session.database);
    let mut keys = pairs.iter().step_by(2);
    let holds = if_there.is_none_or(|wanted| {
        keys.all(|key| database.contains(key, hasher.hash(key), *now_ms) == wanted)
    });
    if holds {
        for (key, value) in pairs.iter().step_by(2).zip(pairs.iter().skip(1).step_by(2)) {
            let hash = hasher.hash(key);
            // An expired key that is in the way has no expiry to keep.
            database.contains(key, hash, *now_ms);
            database.set_string(key, hash, value, expiry);
        }
        keyspace.dirty += count as u64;
    }
    reply.integer(i64::from(holds));
    Ok(())
}

/// NX or XX (whether all keys must be there), and what becomes of their expiry.
fn shared_options(options: Args<'_>, now_ms: u64) -> Result<(Option<bool>, Expiry), CommandError> {
    let (mut if_there, mut expiry) = (None, None);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if if_there.is_none() && (is(option, "nx") || is(option, "xx")) {
            if_there = Some(is(option, "xx"));
        } else if expiry.is_none() && is(option, "keepttl") {
            expiry = Some(Expiry::Keep);
        } else if let Some(unit) = expire_unit(option).filter(|_| expiry.is_none()) {
            let text = rest.next().ok_or(CommandError::Syntax)?;
            expiry = Some(Expiry::At(unit.positive(text, now_ms, "msetex")?));
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok((if_there, expiry.unwrap_or(Expiry::Clear)))
}

/// INCREX's numbers: integers, or doubles after BYFLOAT.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Integer(i64),
    Float(f64),
}

/// INCREX's options; bounds and step are of one kind.
struct Options<'a> {
    step: Amount,
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
    saturate: bool,
    expiry: Expiry,
    if_none: bool,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, now_ms: u64) -> Result<Options<'a>, CommandError> {
        let (mut step, mut expiry) = (None, None);
        let (mut low, mut high, mut saturate, mut if_none) = (None, None, false, false);
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            if is(option, "saturate") {
                saturate = true;
            } else if is(option, "enx") {
                if_none = true;
            } else if is(option, "persist") && expiry.is_none() {
                expiry = Some(Expiry::Clear);
            } else {
                let value = rest.next().ok_or(CommandError::Syntax)?;
                if is(option, "byint") && step.is_none() {
                    step = Some(Amount::Integer(integer(value)?));
                } else if is(option, "byfloat") && step.is_none() {
                    step = Some(Amount::Float(parse_double(value).ok_or(CommandError::NotFloat)?));
                } else if is(option, "lbound") && low.is_none() {
                    low = Some(value);
                } else if is(option, "ubound") && high.is_none() {
                    high = Some(value);
                } else {
                    let unit = expire_unit(option).filter(|_| expiry.is_none());
                    let unit = unit.ok_or(CommandError::Syntax)?;
                    expiry = Some(Expiry::At(unit.positive(value, now_ms, "increx")?));
                }
            }
        }
        if if_none && !matches!(expiry, Some(Expiry::At(_))) {
            return Err(CommandError::Text("ERR ENX needs one of EX, PX, EXAT and PXAT"));
        }
        let (step, expiry) = (step.unwrap_or(Amount::Integer(1)), expiry.unwrap_or(Expiry::Keep));
        Ok(Options { step, low, high, saturate, expiry, if_none })
    }
}

const CROSSED: CommandError = CommandError::Text("ERR LBOUND can't be greater than UBOUND");

pub(super) fn increx(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let options = Options::parse(args.from(2), *now_ms)?;
    let (key, hash) = (args.at(1), *hash);
    let database = keyspace.database(session.database);
    let before = database.string(key, hash, *now_ms)?.map(|text| text.to_vec());
    let before = before.as_deref().unwrap_or(b"0");
    let result = match options.step {
        Amount::Integer(step) => add_integer(before, step, &options)?,
        Amount::Float(step) => add_float(before, step, &options)?,
    };
    reply.array(2);
    let mut show = |amount: Amount| match amount {
        Amount::Integer(value) => reply.integer(value),
        Amount::Float(value) => reply.double(value),
    };
    show(result.after);
    show(result.applied);
    if !result.is_change {
        return Ok(());
    }
    let expires_ms = database.peek(key, hash, *now_ms).and_then(|entry| entry.expires_ms());
    let keep = options.if_none && expires_ms.is_some();
    let text = match result.after {
        Amount::Integer(value) => value.to_string(),
        Amount::Float(value) => format_double(value),
    };
    let expiry = if keep { Expiry::Keep } else { options.expiry };
    database.set_string(key, hash, text.as_bytes(), expiry);
    keyspace.dirty += 1;
    Ok(())
}

/// What INCREX answers, and whether anything is to be stored.
struct Increased {
    after: Amount,
    applied: Amount,
    is_change: bool,
}

fn add_integer(before: &[u8], step: i64, options: &Options<'_>) -> Result<Increased, CommandError> {
    let bound = |text: Option<&[u8]>, none| text.map_or(Ok(none), integer);
    let (low, high) = (bound(options.low, i64::MIN)?, bound(options.high, i64::MAX)?);
    if low > high {
        return Err(CROSSED);
    }
    let before = parse_integer(before).ok_or(CommandError::NotInteger)?;
    let sum = i128::from(before) + i128::from(step);
    let within = sum.clamp(i128::from(low), i128::from(high));
    if within != sum && !options.saturate {
        let (after, applied) = (Amount::Integer(before), Amount::Integer(0));
        return Ok(Increased { after, applied, is_change: false });
    }
    let applied = i64::try_from(within - i128::from(before)).map_err(|_| CommandError::Overflow)?;
    let after = Amount::Integer(within as i64);
    Ok(Increased { after, applied: Amount::Integer(applied), is_change: true })
}

fn add_float(before: &[u8], step: f64, options: &Options<'_>) -> Result<Increased, CommandError> {
    let bound = |text: Option<&[u8]>, none| {
        text.map_or(Ok(none), |text| parse_double(text).ok_or(CommandError::NotFloat))
    };
    let (low, high) = (bound(options.low, -f64::MAX)?, bound(options.high, f64::MAX)?);
    if low > high {
        return Err(CROSSED);
    }
    let before = parse_double(before).ok_or(CommandError::NotFloat)?;
    let sum = before + step;
    const INFINITE: CommandError =
        CommandError::Text("ERR increment would produce NaN or Infinity");
    if sum.is_nan() {
        return Err(INFINITE);
    }
    let within = sum.clamp(low, high);
    if within != sum && !options.saturate {
        let (after, applied) = (Amount::Float(before), Amount::Float(0.0));
        return Ok(Increased { after, applied, is_change: false });
    }
    let applied = if within == sum { step } else { within - before };
    if !within.is_finite() || !applied.is_finite() {
        return Err(INFINITE);
    }
    Ok(Increased { after: Amount::Float(within), applied: Amount::Float(applied), is_change: true })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn several_strings_get_one_expiry() {
        let mut client = Client::resp2();
        client.check(&[
            ("msetex 2 a 1 b 2 ex 10", ":1"),
            ("ttl b", ":10"),
            ("msetex 2 a 3 c 3 nx", ":0"),
            ("msetex 2 a 3 c 3 xx", ":0"),
            ("exists c", ":0"),
            ("msetex 2 a 3 b 3 xx keepttl", ":1"),
            ("mget a b", "*2 $1 3 $1 3"),
            ("ttl a", ":10"),
            ("msetex 1 a 4", ":1"),
            ("ttl a", ":-1"),
            ("msetex 1 d 4 px 500 nx", ":1"),
            ("pttl d", ":500"),
            ("msetex 0 a 1", "-ERR invalid numkeys value"),
            ("msetex x a 1", "-ERR invalid numkeys value"),
            ("msetex 2 a 1 b", "-ERR wrong number of key-value pairs"),
            ("msetex 1 a 1 b", "-ERR syntax error"),
            ("msetex 1 a 1 ex 1 px 1", "-ERR syntax error"),
            ("msetex 1 a 1 ex 0", "-ERR invalid expire time in 'msetex' command"),
            ("command getkeys msetex 2 a 1 b 2 ex 10", "*2 $1 a $1 b"),
        ]);
        client.now_ms += 10_000;
        client.check(&[("msetex 2 b 1 d 1 keepttl", ":1"), ("ttl b", ":-1")]);
    }

    #[test]
    fn counters_stay_in_their_bounds() {
        check(&[
            ("increx k", "*2 :1 :1"),
            ("increx k byint -5", "*2 :-4 :-5"),
            ("increx k byint 10 ubound 5", "*2 :-4 :0"),
            ("increx k byint 10 ubound 5 saturate", "*2 :5 :9"),
            ("increx k byint -10 lbound 0 saturate", "*2 :0 :-5"),
            ("increx k ex 10 enx", "*2 :1 :1"),
            ("increx k ex 20 enx", "*2 :2 :1"),
            ("ttl k", ":10"),
            ("increx k px 500", "*2 :3 :1"),
            ("pttl k", ":500"),
            ("increx k", "*2 :4 :1"),
            ("pttl k", ":500"),
            ("increx k persist", "*2 :5 :1"),
            ("ttl k", ":-1"),
            ("set k 9223372036854775807", "+OK"),
            ("increx k", "*2 :9223372036854775807 :0"),
            ("increx k lbound 5 ubound 4", "-ERR LBOUND can't be greater than UBOUND"),
            ("increx k enx", "-ERR ENX needs one of EX, PX, EXAT and PXAT"),
            ("increx k byint 1 byfloat 1", "-ERR syntax error"),
            ("increx k byint x", "-ERR value is not an integer or out of range"),
            ("set k text", "+OK"),
            ("increx k", "-ERR value is not an integer or out of range"),
            ("increx k byfloat 1", "-ERR value is not a valid float"),
            ("rpush l a", ":1"),
            ("increx l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn floats_are_counted_too() {
        check(&[
            ("set k 1.5", "+OK"),
            ("increx k byfloat 0.25", "*2 $4 1.75 $4 0.25"),
            ("increx k byfloat 10 ubound 2.5", "*2 $4 1.75 $1 0"),
            ("increx k byfloat 10 ubound 2.5 saturate", "*2 $3 2.5 $4 0.75"),
            ("get k", "$3 2.5"),
            ("increx k byfloat inf", "*2 $3 2.5 $1 0"),
            ("increx k", "-ERR value is not an integer or out of range"),
        ]);
    }
}
