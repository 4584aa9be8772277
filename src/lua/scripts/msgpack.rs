//! cmsgpack for scripts: MessagePack with the choices and error texts of lua-cmsgpack 0.4 as Redis carries it.
//!
//! Whole numbers take the shortest integer, others a float if that is exact; a table whose keys are 1 to its size is an
//! array; what is nested deeper than 16 is nil. Must not know: commands.
#![allow(unsafe_code, reason = "C functions that Lua calls")]

use std::ffi::c_int;

use mlua_sys::lua_State;

use super::machine::Machine;
use super::stack::{Function, Kind, Stack};

/// The functions by name.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("pack", pack),
    ("unpack", unpack),
    ("unpack_one", unpack_one),
    ("unpack_limit", unpack_limit),
];

/// Levels of tables that are packed.
const NESTING_MAX: usize = 16;
/// Levels of tables that are unpacked: hostile bytes nest one level a byte.
const UNPACK_NESTING_MAX: usize = 1000;

/// Why bytes can't be unpacked.
#[derive(Clone, Copy)]
enum Problem {
    Missing,
    Format,
}

/// # Safety
/// `state` is what Lua passed to a function with a machine as its upvalue.
unsafe fn enter<'a>(state: *mut lua_State) -> (Stack, &'a mut Machine) {
    // SAFETY: the caller's promise.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: the upvalue is the machine, which outlives its VM; nothing else uses it while a C function runs.
    let machine = unsafe { &mut *stack.upvalue().cast::<Machine>() };
    (stack, machine)
}

unsafe extern "C-unwind" fn pack(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    let count = stack.top();
    if count == 0 {
        stack.raise_argument(0, c"MessagePack pack needs input.");
    }
    machine.scratch.clear();
    for argument in 1..=count {
        stack.push_value(argument);
        pack_value(stack, &mut machine.scratch, 0);
        stack.pop(1);
    }
    stack.push_bytes(&machine.scratch);
    1
}

/// Appends the value on top, which stays.
fn pack_value(stack: Stack, out: &mut Vec<u8>, depth: usize) {
    match stack.kind(-1) {
        Kind::String => pack_string(stack.text(-1), out),
        Kind::Number => pack_number(stack.number(-1), out),
        Kind::Boolean => out.push(0xc2 + u8::from(stack.boolean(-1))),
        Kind::Table if depth < NESTING_MAX && stack.reserve(4) => pack_table(stack, out, depth),
        _ => out.push(0xc0),
    }
}

fn pack_string(text: &[u8], out: &mut Vec<u8>) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..256 => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 256..65536 => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn pack_number(value: f64, out: &mut Vec<u8>) {
    let whole = value as i64;
    // 2^63 would saturate and look whole.
    if whole as f64 == value && value < 9_223_372_036_854_775_808.0 {
        return pack_integer(whole, out);
    }
    let float = value as f32;
    if f64::from(float) == value {
        out.push(0xca);
        out.extend_from_slice(&float.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn pack_integer(value: i64, out: &mut Vec<u8>) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        0..128 => tagged(value as u8, &[]),
        128..256 => tagged(0xcc, &[value as u8]),
        256..65536 => tagged(0xcd, &(value as u16).to_be_bytes()),
        65536..4_294_967_296 => tagged(0xce, &(value as u32).to_be_bytes()),
        4_294_967_296.. => tagged(0xcf, &value.to_be_bytes()),
        -32..0 => tagged(value as u8, &[]),
        -128..-32 => tagged(0xd0, &[value as u8]),
        -32768..-128 => tagged(0xd1, &(value as i16).to_be_bytes()),
        -2_147_483_648..-32768 => tagged(0xd2, &(value as i32).to_be_bytes()),
        _ => tagged(0xd3, &value.to_be_bytes()),
    }
}

fn pack_table(stack: Stack, out: &mut Vec<u8>, depth: usize) {
    let table = stack.top();
    let (mut count, mut longest, mut array) = (0_usize, 0.0_f64, true);
    stack.push_nil();
    while stack.next(table) {
        let key = if stack.kind(-2) == Kind::Number { stack.number(-2) } else { 0.0 };
        array &= key >= 1.0 && key == key.floor();
        longest = longest.max(key);
        count += 1;
        stack.pop(1);
    }
    if array && longest == count as f64 {
        pack_count(count, 0x90, 0xdc, out);
        for item in 1..=count {
            stack.raw_get_index(table, item as c_int);
            pack_value(stack, out, depth + 1);
            stack.pop(1);
        }
        return;
    }
    pack_count(count, 0x80, 0xde, out);
    stack.push_nil();
    while stack.next(table) {
        stack.push_value(-2);
        pack_value(stack, out, depth + 1);
        stack.pop(1);
        pack_value(stack, out, depth + 1);
        stack.pop(1);
    }
}

fn pack_count(count: usize, fixed: u8, wide: u8, out: &mut Vec<u8>) {
    match count {
        0..16 => out.push(fixed | count as u8),
        16..65536 => {
            out.push(wide);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        _ => {
            out.push(wide + 1);
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    unpack_from(stack, machine, 0.0, 0.0)
}

unsafe extern "C-unwind" fn unpack_one(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    let offset = if stack.kind(2) == Kind::Nil { 0.0 } else { stack.check_number(2) };
    stack.set_top(1);
    unpack_from(stack, machine, 1.0, offset)
}

unsafe extern "C-unwind" fn unpack_limit(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    let limit = stack.check_number(2);
    let offset = if stack.kind(3) == Kind::Nil { 0.0 } else { stack.check_number(3) };
    stack.set_top(1);
    unpack_from(stack, machine, limit, offset)
}

/// Pushes values until the limit or the end; before them, unless all were asked for, where to go on (-1: at the end).
fn unpack_from(stack: Stack, machine: &mut Machine, limit: f64, offset: f64) -> c_int {
    let bytes = stack.check_bytes(1);
    let complain = |machine: &mut Machine, text: String| -> ! {
        machine.scratch.clear();
        machine.scratch.extend_from_slice(text.as_bytes());
        drop(text);
        stack.raise_text(&machine.scratch)
    };
    if limit < 0.0 || offset < 0.0 {
        let (offset, len) = (offset as i64, bytes.len());
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        complain(machine, text);
    }
    if offset > bytes.len() as f64 {
        let (offset, len) = (offset as i64, bytes.len());
        complain(machine, format!("Start offset {offset} greater than input length {len}."));
    }
    let all = limit < 1.0 && offset < 1.0;
    let limit = if all { usize::MAX } else { limit as usize };
    let mut reader = Reader { stack, bytes, at: offset as usize };
    let mut count = 0;
    while count < limit && reader.at < bytes.len() {
        let read = if stack.reserve(8) { reader.value(0) } else { Err(Problem::Format) };
        match read {
            Ok(()) => count += 1,
            Err(Problem::Missing) => stack.raise_text(b"Missing bytes in input."),
            Err(Problem::Format) => stack.raise_text(b"Bad data format in input."),
        }
    }
    if all {
        return count as c_int;
    }
    stack.push_number(if reader.at == bytes.len() { -1.0 } else { reader.at as f64 });
    stack.insert(2);
    count as c_int + 1
}

struct Reader<'a> {
    stack: Stack,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        self.at += count;
        taken.ok_or(Problem::Missing)
    }

    fn unsigned(&mut self, count: usize) -> Result<u64, Problem> {
        Ok(self.take(count)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, count: usize) -> Result<i64, Problem> {
        let shift = 64 - 8 * count as u32;
        Ok((self.unsigned(count)? << shift) as i64 >> shift)
    }

    fn text(&mut self, count: usize) -> Result<(), Problem> {
        let text = self.take(count)?;
        self.stack.push_bytes(text);
        Ok(())
    }

    /// Pushes the next value.
    fn value(&mut self, depth: usize) -> Result<(), Problem> {
        let tag = self.take(1)?[0];
        match tag {
            0..0x80 => self.stack.push_number(f64::from(tag)),
            0x80..0x90 => return self.map(usize::from(tag & 15), depth),
            0x90..0xa0 => return self.array(usize::from(tag & 15), depth),
            0xa0..0xc0 => return self.text(usize::from(tag & 31)),
            0xc0 => self.stack.push_nil(),
            0xc2 | 0xc3 => self.stack.push_boolean(tag == 0xc3),
            0xc4..=0xc6 | 0xd9..=0xdb => {
                let width = 1 << if tag < 0xd0 { tag - 0xc4 } else { tag - 0xd9 };
                let count = self.unsigned(width)? as usize;
                return self.text(count);
            }
            0xca => {
                let bits = self.unsigned(4)? as u32;
                self.stack.push_number(canonical(f64::from(f32::from_bits(bits))));
            }
            0xcb => {
                let bits = self.unsigned(8)?;
                self.stack.push_number(canonical(f64::from_bits(bits)));
            }
            0xcc..=0xcf => {
                let value = self.unsigned(1 << (tag - 0xcc))?;
                self.stack.push_number(value as f64);
            }
            0xd0..=0xd3 => {
                let value = self.signed(1 << (tag - 0xd0))?;
                self.stack.push_number(value as f64);
            }
            0xdc | 0xdd => {
                let count = self.unsigned(2 << (tag - 0xdc))? as usize;
                return self.array(count, depth);
            }
            0xde | 0xdf => {
                let count = self.unsigned(2 << (tag - 0xde))? as usize;
                return self.map(count, depth);
            }
            0xe0.. => self.stack.push_number(f64::from(tag as i8)),
            _ => return Err(Problem::Format),
        }
        Ok(())
    }

    fn descend(&mut self, depth: usize) -> Result<(), Problem> {
        let fits = depth < UNPACK_NESTING_MAX && self.stack.reserve(6);
        if fits { Ok(()) } else { Err(Problem::Format) }
    }

    fn array(&mut self, count: usize, depth: usize) -> Result<(), Problem> {
        self.descend(depth)?;
        self.stack.create_table(0, 0);
        for item in 1..=count {
            self.value(depth + 1)?;
            self.stack.raw_set_index(-2, item as c_int);
        }
        Ok(())
    }

    fn map(&mut self, count: usize, depth: usize) -> Result<(), Problem> {
        self.descend(depth)?;
        self.stack.create_table(0, 0);
        for _ in 0..count {
            self.value(depth + 1)?;
            let unusable = match self.stack.kind(-1) {
                Kind::Nil => true,
                Kind::Number => self.stack.number(-1).is_nan(),
                _ => false,
            };
            if unusable {
                return Err(Problem::Format);
            }
            self.value(depth + 1)?;
            self.stack.raw_set(-3);
        }
        Ok(())
    }
}

/// LuaJIT keeps its values' types in the bits of NaNs: a foreign NaN must not reach it.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
