//! struct for scripts: the format letters and error texts of Lua's struct library 0.2 as Redis carries it.
//!
//! Must not know: commands.
#![allow(unsafe_code, reason = "C functions that Lua calls")]

use std::ffi::{CStr, c_int};

use mlua_sys::lua_State;

use super::machine::Machine;
use super::stack::{Function, Kind, Stack};

/// The functions by name.
pub(super) const FUNCTIONS: &[(&str, Function)] =
    &[("pack", pack), ("unpack", unpack), ("size", size)];

/// Bytes of the widest integer.
const INTEGER_BYTES_MAX: usize = 32;

/// A format being read.
struct Format<'a> {
    stack: Stack,
    text: &'a [u8],
    at: usize,
    little: bool,
    align: usize,
}

/// One letter of a format that stands for bytes.
#[derive(Clone, Copy)]
struct Item {
    letter: u8,
    size: usize,
}

impl<'a> Format<'a> {
    fn new(stack: Stack, text: &'a [u8]) -> Format<'a> {
        Format { stack, text, at: 0, little: true, align: 1 }
    }

    /// The next item; letters that only change how the next ones are read are obeyed.
    fn next(&mut self) -> Option<Item> {
        loop {
            let letter = *self.text.get(self.at)?;
            self.at += 1;
            let size = match letter {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'f' => 4,
                b'l' | b'L' | b'T' | b'd' => 8,
                b's' => 0,
                b'c' => self.digits().unwrap_or(1),
                b'i' | b'I' => self.integer_size(),
                _ => {
                    self.control(letter);
                    continue;
                }
            };
            return Some(Item { letter, size });
        }
    }

    fn digits(&mut self) -> Option<usize> {
        let rest = &self.text[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = &rest[..count];
        self.at += count;
        let value = digits.iter().fold(0_usize, |sum, digit| {
            sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        });
        if value > i32::MAX as usize {
            self.stack.raise_text(b"integral size overflow");
        }
        (count > 0).then_some(value)
    }

    fn integer_size(&mut self) -> usize {
        let size = self.digits().unwrap_or(4);
        if size > INTEGER_BYTES_MAX {
            self.complain(&format_args!("integral size {size} is larger than limit of 32"));
        }
        size
    }

    fn control(&mut self, letter: u8) {
        match letter {
            b' ' => {}
            b'<' => self.little = true,
            b'>' => self.little = false,
            b'!' => {
                let align = self.digits().unwrap_or(8);
                if !align.is_power_of_two() {
                    self.complain(&format_args!("alignment {align} is not a power of 2"));
                }
                self.align = align;
            }
            _ => {
                let mut text = *b"invalid format option ' '\0";
                text[23] = letter;
                let text = CStr::from_bytes_until_nul(&text).unwrap_or(c"invalid format option");
                self.stack.raise_argument(1, text);
            }
        }
    }

    /// Raises a text through a buffer on the stack: an error runs no destructors.
    fn complain(&self, text: &std::fmt::Arguments<'_>) -> ! {
        use std::io::Write;
        let mut buffer = [0_u8; 96];
        let mut rest = &mut buffer[..];
        drop(rest.write_fmt(*text));
        let left = rest.len();
        let len = buffer.len() - left;
        self.stack.raise_text(&buffer[..len])
    }

    /// Bytes to leave out before an item at `position`.
    fn padding(&self, position: usize, item: Item) -> usize {
        let size = item.size.min(self.align);
        if item.letter == b'c' || size <= 1 {
            return 0;
        }
        let mask = size - 1;
        (size - (position & mask)) & mask
    }
}

unsafe extern "C-unwind" fn pack(state: *mut lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: the upvalue is the machine, which outlives its VM; nothing else uses it while a C function runs.
    let machine = unsafe { &mut *stack.upvalue().cast::<Machine>() };
    let out = &mut machine.scratch;
    out.clear();
    let mut format = Format::new(stack, stack.check_bytes(1));
    let mut argument = 2;
    while let Some(item) = format.next() {
        let padding = format.padding(out.len(), item);
        out.resize(out.len() + padding, 0);
        if item.letter == b'x' {
            out.push(0);
            continue;
        }
        pack_item(stack, &format, item, argument, out);
        argument += 1;
    }
    stack.push_bytes(out);
    1
}

fn pack_item(stack: Stack, format: &Format<'_>, item: Item, argument: c_int, out: &mut Vec<u8>) {
    let start = out.len();
    match item.letter {
        b'c' | b's' => {
            let text = stack.check_bytes(argument);
            let size = if item.size == 0 { text.len() } else { item.size };
            if text.len() < size {
                stack.raise_argument(argument, c"string too short");
            }
            out.extend_from_slice(&text[..size]);
            if item.letter == b's' {
                out.push(0);
            }
            return;
        }
        b'f' => out.extend_from_slice(&(stack.check_number(argument) as f32).to_le_bytes()),
        b'd' => out.extend_from_slice(&stack.check_number(argument).to_le_bytes()),
        _ => {
            let value = stack.check_number(argument);
            let bits = if value < 0.0 { value as i64 as u64 } else { value as u64 };
            let bytes = bits.to_le_bytes();
            let known = item.size.min(8);
            out.extend_from_slice(&bytes[..known]);
            out.resize(start + item.size, 0);
        }
    }
    if !format.little {
        out[start..].reverse();
    }
}

unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    let mut format = Format::new(stack, stack.check_bytes(1));
    let bytes = stack.check_bytes(2);
    let from = if stack.kind(3) == Kind::Nil { 1.0 } else { stack.check_number(3) };
    if from == 0.0 {
        stack.raise_argument(3, c"offset must be 1 or greater");
    }
    // A negative one is past the end, as it is as a size in C.
    let mut at = if from < 0.0 { usize::MAX } else { from as usize - 1 };
    stack.set_top(2);
    let mut count = 0;
    while let Some(item) = format.next() {
        at = at.saturating_add(format.padding(at, item));
        let mut size = item.size;
        need(stack, bytes, at, size);
        if !stack.reserve(4) {
            stack.raise_text(b"too many results");
        }
        if item.letter == b'c' && size == 0 {
            if count == 0 || stack.kind(-1) != Kind::Number {
                stack.raise_text(b"format 'c0' needs a previous size");
            }
            size = stack.number(-1).max(0.0) as usize;
            stack.pop(1);
            count -= 1;
            need(stack, bytes, at, size);
        }
        if item.letter == b's' {
            let Some(len) = memchr::memchr(0, &bytes[at..]) else {
                stack.raise_text(b"unfinished string in data");
            };
            stack.push_bytes(&bytes[at..at + len]);
            size = len + 1;
            count += 1;
        } else if item.letter != b'x' {
            unpack_item(stack, &format, item.letter, &bytes[at..at + size]);
            count += 1;
        }
        at += size;
    }
    stack.push_number(at.wrapping_add(1) as f64);
    count + 1
}

fn need(stack: Stack, bytes: &[u8], at: usize, size: usize) {
    if size > bytes.len() || at > bytes.len() - size {
        stack.raise_argument(2, c"data string too short");
    }
}

fn unpack_item(stack: Stack, format: &Format<'_>, letter: u8, bytes: &[u8]) {
    if letter == b'c' {
        return stack.push_bytes(bytes);
    }
    let mut word = [0_u8; 8];
    for (index, place) in word.iter_mut().enumerate().take(bytes.len()) {
        *place = if format.little { bytes[index] } else { bytes[bytes.len() - 1 - index] };
    }
    let bits = u64::from_le_bytes(word);
    match letter {
        b'f' => stack.push_number(canonical(f64::from(f32::from_bits(bits as u32)))),
        b'd' => stack.push_number(canonical(f64::from_bits(bits))),
        _ if letter.is_ascii_uppercase() || bytes.is_empty() => stack.push_number(bits as f64),
        _ => {
            let shift = 64 - 8 * bytes.len().min(8) as u32;
            stack.push_number(((bits << shift) as i64 >> shift) as f64);
        }
    }
}

/// LuaJIT keeps its values' types in the bits of NaNs: a foreign NaN must not reach it.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

unsafe extern "C-unwind" fn size(state: *mut lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    let mut format = Format::new(stack, stack.check_bytes(1));
    let mut at = 0_usize;
    while let Some(item) = format.next() {
        if item.letter == b's' {
            stack.raise_argument(1, c"option 's' has no fixed size");
        } else if item.letter == b'c' && item.size == 0 {
            stack.raise_argument(1, c"option 'c0' has no fixed size");
        }
        at += format.padding(at, item) + item.size;
    }
    stack.push_number(at as f64);
    1
}
