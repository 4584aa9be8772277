//! Between RESP and Lua values, as Redis's scripts do it.
//!
//! A status is `{ok = text}`, an error `{err = text}`, nothing is `false` (`nil` in RESP3), a map `{map = {...}}`, a set
//! `{set = {[member] = true}}`, a double `{double = n}`. The other way a table without such a field is an array up to
//! its first nil, and a number loses its fraction. Must not know: who asks.

use std::ffi::c_int;

use super::stack::{Kind, Stack};
use crate::store::Reply;

/// Levels of tables in a reply; Redis ends where Lua's stack does.
const DEPTH_MAX: usize = 1000;
/// Errors in one reply that are counted.
const ERRORS_MAX: usize = 64;

/// Errors that a script answers with of its own accord, for the statistics.
pub(super) type Errors = Vec<Vec<u8>>;

/// How replies look to who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A script's, by default.
    Resp2,
    /// A script's after `redis.setresp(3)`.
    Resp3,
    /// A definition's command's: plain values, as in process.
    Plain,
}

/// Registry references of the fields' names: looking one up then needs no memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    err: c_int,
    ok: c_int,
    double: c_int,
    map: c_int,
    set: c_int,
    big_number: c_int,
    verbatim_string: c_int,
    string: c_int,
    format: c_int,
    /// Set in errors that were counted when a command failed.
    counted: c_int,
}

impl Names {
    /// May raise.
    pub(super) fn new(stack: Stack) -> Names {
        let name = |text: &str| {
            stack.push_bytes(text.as_bytes());
            stack.reference()
        };
        Names {
            err: name("err"),
            ok: name("ok"),
            double: name("double"),
            map: name("map"),
            set: name("set"),
            big_number: name("big_number"),
            verbatim_string: name("verbatim_string"),
            string: name("string"),
            format: name("format"),
            counted: name("ignore_error_stats_update"),
        }
    }
}

/// Writes the value on top and takes it off.
pub(super) fn write(
    stack: Stack,
    (names, errors): (&Names, &mut Errors),
    reply: &mut Reply<'_>,
    resp3: bool,
    depth: usize,
) {
    match stack.kind(-1) {
        Kind::String => reply.bulk(stack.text(-1)),
        Kind::Number => reply.integer(truncated(stack.number(-1))),
        Kind::Boolean if resp3 => reply.boolean(stack.boolean(-1)),
        Kind::Boolean if stack.boolean(-1) => reply.integer(1),
        Kind::Table => write_table(stack, (names, errors), reply, resp3, depth),
        _ => reply.null(),
    }
    stack.pop(1);
}

/// What C makes of `(long long)number` on x86: what doesn't fit becomes the smallest.
fn truncated(number: f64) -> i64 {
    if number.is_nan() || number.abs() >= 9_223_372_036_854_775_808.0 {
        return i64::MIN;
    }
    number as i64
}

/// Pushes a field of the table at `table`, above which nothing stays.
fn field(stack: Stack, table: c_int, name: c_int) -> Kind {
    stack.set_top(table);
    stack.push_reference(name);
    stack.raw_get(table);
    stack.kind(-1)
}

fn write_table(
    stack: Stack,
    (names, errors): (&Names, &mut Errors),
    reply: &mut Reply<'_>,
    resp3: bool,
    depth: usize,
) {
    if depth >= DEPTH_MAX || !stack.reserve(6) {
        return reply.error(b"ERR reached lua stack limit");
    }
    let base = stack.top();
    if field(stack, base, names.err) == Kind::String {
        let text = stack.text(-1);
        reply.error(text);
        let counted = field(stack, base, names.counted);
        if counted != Kind::Boolean && errors.len() < ERRORS_MAX {
            errors.push(text.to_vec());
        }
    } else if field(stack, base, names.ok) == Kind::String {
        let text = stack.text(-1);
        reply.status(text);
    } else if field(stack, base, names.double) == Kind::Number {
        reply.double(stack.number(-1));
    } else if field(stack, base, names.map) == Kind::Table {
        write_pairs(stack, (names, errors), reply, resp3, depth, true);
    } else if field(stack, base, names.set) == Kind::Table {
        write_pairs(stack, (names, errors), reply, resp3, depth, false);
    } else if field(stack, base, names.big_number) == Kind::String {
        reply.big_number(stack.text(-1));
    } else if field(stack, base, names.verbatim_string) == Kind::Table {
        write_verbatim(stack, names, reply);
    } else {
        stack.set_top(base);
        write_array(stack, (names, errors), reply, resp3, depth);
    }
    stack.set_top(base);
}

/// The pairs (or the keys) of the table on top.
fn write_pairs(
    stack: Stack,
    (names, errors): (&Names, &mut Errors),
    reply: &mut Reply<'_>,
    resp3: bool,
    depth: usize,
    values: bool,
) {
    let table = stack.top();
    let mut count = 0;
    stack.push_nil();
    while stack.next(table) {
        count += 1;
        stack.pop(1);
    }
    if values {
        reply.map(count)
    } else {
        reply.set(count)
    }
    stack.push_nil();
    while stack.next(table) {
        stack.push_value(-2);
        write(stack, (names, errors), reply, resp3, depth + 1);
        if values {
            write(stack, (names, errors), reply, resp3, depth + 1);
        } else {
            stack.pop(1);
        }
    }
}

fn write_verbatim(stack: Stack, names: &Names, reply: &mut Reply<'_>) {
    let table = stack.top();
    stack.push_reference(names.string);
    stack.raw_get(table);
    stack.push_reference(names.format);
    stack.raw_get(table);
    match (stack.bytes(-2), stack.bytes(-1)) {
        (Some(text), Some(format)) if format.len() == 3 => {
            reply.verbatim(std::str::from_utf8(format).unwrap_or("txt"), text);
        }
        _ => reply.null(),
    }
}

fn write_array(
    stack: Stack,
    (names, errors): (&Names, &mut Errors),
    reply: &mut Reply<'_>,
    resp3: bool,
    depth: usize,
) {
    let table = stack.top();
    let mut count = 0;
    loop {
        stack.raw_get_index(table, count + 1);
        let ended = stack.kind(-1) == Kind::Nil;
        stack.pop(1);
        if ended {
            break;
        }
        count += 1;
    }
    reply.array(count as usize);
    for item in 1..=count {
        stack.raw_get_index(table, item);
        write(stack, (names, errors), reply, resp3, depth + 1);
    }
}

/// Pushes the value of a reply; answers its length. The reply is the store's own, so it is well-formed. May raise.
pub(super) fn push(stack: Stack, reply: &[u8], style: Style) -> usize {
    let line_end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
    let line = reply.get(1..line_end).unwrap_or_default();
    let rest = line_end + 2;
    let count = || decimal(line);
    match reply.first() {
        Some(b'$') if line != b"-1" => {
            let end = rest + count();
            stack.push_bytes(&reply[rest..end]);
            return end + 2;
        }
        Some(b':') => stack.push_number(number(line)),
        Some(b'+' | b'(') if style == Style::Plain => stack.push_bytes(line),
        Some(b',') if style == Style::Plain => stack.push_number(number(line)),
        Some(b'=') if style == Style::Plain => {
            let end = rest + count();
            stack.push_bytes(&reply[rest + 4..end]);
            return end + 2;
        }
        Some(b'~') if style == Style::Plain => {
            return push_array(stack, reply, rest, count(), style);
        }
        Some(b'%') if style == Style::Plain => {
            return push_pairs(stack, reply, rest, count(), style);
        }
        // What a reply says about itself, name by name, and then the reply.
        Some(b'|') => {
            let mut at = rest;
            for _ in 0..2 * count() {
                at += push(stack, &reply[at..], style);
                stack.pop(1);
            }
            return at + push(stack, &reply[at..], style);
        }
        Some(b'+') => push_field(stack, b"ok", line),
        Some(b'-') => push_field(stack, b"err", line),
        Some(b'*' | b'>') if line != b"-1" => {
            return push_array(stack, reply, rest, count(), style);
        }
        Some(b'%') => return push_map(stack, reply, rest, count(), style),
        Some(b'~') => return push_set(stack, reply, rest, count(), style),
        Some(b'#') => stack.push_boolean(line == b"t"),
        Some(b',') => {
            stack.create_table(0, 1);
            stack.push_bytes(b"double");
            stack.push_number(number(line));
            stack.raw_set(-3);
        }
        Some(b'(') => push_field(stack, b"big_number", line),
        Some(b'=') => {
            let end = rest + count();
            push_verbatim(stack, &reply[rest..end]);
            return end + 2;
        }
        Some(b'_') => stack.push_nil(),
        _ if style != Style::Resp2 => stack.push_nil(),
        _ => stack.push_boolean(false),
    }
    rest
}

fn decimal(line: &[u8]) -> usize {
    line.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit.wrapping_sub(b'0')))
}

fn number(line: &[u8]) -> f64 {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn push_field(stack: Stack, name: &[u8], text: &[u8]) {
    stack.create_table(0, 1);
    stack.push_bytes(name);
    stack.push_bytes(text);
    stack.raw_set(-3);
}

fn push_verbatim(stack: Stack, text: &[u8]) {
    stack.create_table(0, 1);
    stack.push_bytes(b"verbatim_string");
    stack.create_table(0, 2);
    stack.push_bytes(b"string");
    stack.push_bytes(text.get(4..).unwrap_or_default());
    stack.raw_set(-3);
    stack.push_bytes(b"format");
    stack.push_bytes(text.get(..3).unwrap_or_default());
    stack.raw_set(-3);
    stack.raw_set(-3);
}

fn deep(stack: Stack) {
    if !stack.reserve(8) {
        stack.push_bytes(b"reached lua stack limit");
        stack.raise();
    }
}

fn push_array(stack: Stack, reply: &[u8], mut at: usize, count: usize, style: Style) -> usize {
    deep(stack);
    stack.create_table(count, 0);
    for item in 1..=count {
        at += push(stack, &reply[at..], style);
        stack.raw_set_index(-2, item as c_int);
    }
    at
}

fn push_map(stack: Stack, reply: &[u8], at: usize, count: usize, style: Style) -> usize {
    deep(stack);
    stack.create_table(0, 1);
    stack.push_bytes(b"map");
    let at = push_pairs(stack, reply, at, count, style);
    stack.raw_set(-3);
    at
}

fn push_pairs(stack: Stack, reply: &[u8], mut at: usize, count: usize, style: Style) -> usize {
    deep(stack);
    stack.create_table(0, count);
    for _ in 0..count {
        at += push(stack, &reply[at..], style);
        at += push(stack, &reply[at..], style);
        stack.raw_set(-3);
    }
    at
}

fn push_set(stack: Stack, reply: &[u8], mut at: usize, count: usize, style: Style) -> usize {
    deep(stack);
    stack.create_table(0, 1);
    stack.push_bytes(b"set");
    stack.create_table(0, count);
    for _ in 0..count {
        at += push(stack, &reply[at..], style);
        stack.push_boolean(true);
        stack.raw_set(-3);
    }
    stack.raw_set(-3);
    at
}
