//! cjson for scripts: the settings, limits and error texts of lua-cjson 2.1 as Redis carries it.
//!
//! Numbers are printed with 14 digits unless told otherwise; a table is an array if its keys are positive integers that
//! aren't too sparse. Must not know: commands.
#![allow(unsafe_code, reason = "C functions that Lua calls")]

use std::ffi::{CStr, c_char, c_int};

use mlua_sys::lua_State;

use super::machine::{JsonSettings, Machine, NUMBER_BYTES, general};
use super::stack::{Function, Kind, Stack};

/// The functions by name.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[("encode", encode), ("decode", decode)];

/// Why a value can't be encoded or a text not decoded; `Copy`, because an error unwinds without destructors.
#[derive(Clone, Copy)]
enum Problem {
    Serialise { kind: &'static CStr, why: &'static str },
    Sparse,
    EncodeDepth(usize),
    DecodeDepth(usize),
    Expected { what: &'static str, found: &'static str, at: usize },
    Memory,
}

impl Problem {
    fn write(self, text: &mut Vec<u8>) {
        text.clear();
        let message = match self {
            Problem::Serialise { kind, why } => {
                format!("Cannot serialise {}: {why}", kind.to_string_lossy())
            }
            Problem::Sparse => "Cannot serialise table: excessively sparse array".to_owned(),
            Problem::EncodeDepth(depth) => {
                format!("Cannot serialise, excessive nesting ({depth})")
            }
            Problem::DecodeDepth(depth) => {
                format!("Found too many nested data structures ({depth})")
            }
            Problem::Expected { what, found, at } => {
                format!("Expected {what} but found {found} at character {}", at + 1)
            }
            Problem::Memory => "not enough memory".to_owned(),
        };
        text.extend_from_slice(message.as_bytes());
    }
}

/// # Safety
/// `state` is what Lua passed to a function with a machine as its upvalue.
pub(super) unsafe fn enter<'a>(state: *mut lua_State) -> (Stack, &'a mut Machine) {
    // SAFETY: the caller's promise.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: the upvalue is the machine, which outlives its VM; nothing else uses it while a C function runs.
    let machine = unsafe { &mut *stack.upvalue().cast::<Machine>() };
    (stack, machine)
}

fn fail(stack: Stack, machine: &mut Machine, problem: Problem) -> ! {
    problem.write(&mut machine.scratch);
    stack.raise_text(&machine.scratch)
}

unsafe extern "C-unwind" fn encode(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if stack.top() != 1 {
        stack.raise_argument(1, c"expected 1 argument");
    }
    machine.scratch.clear();
    let (settings, out) = (machine.json, &mut machine.scratch);
    match encode_value(stack, settings, out, 0) {
        Ok(()) => {
            stack.push_bytes(&machine.scratch);
            1
        }
        Err(problem) => fail(stack, machine, problem),
    }
}

/// Appends the value on top, which stays.
fn encode_value(
    stack: Stack,
    settings: JsonSettings,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Problem> {
    match stack.kind(-1) {
        Kind::String => encode_string(stack.text(-1), out),
        Kind::Number => encode_number(stack.number(-1), settings, out)?,
        Kind::Boolean => out.extend_from_slice(if stack.boolean(-1) { b"true" } else { b"false" }),
        Kind::Nil => out.extend_from_slice(b"null"),
        Kind::Light if stack.pointer(-1).is_null() => out.extend_from_slice(b"null"),
        Kind::Table => {
            let depth = depth + 1;
            if depth > settings.encode_depth || !stack.reserve(4) {
                return Err(Problem::EncodeDepth(depth));
            }
            match array_length(stack, settings)? {
                Some(length) => encode_array(stack, settings, out, depth, length)?,
                None => encode_object(stack, settings, out, depth)?,
            }
        }
        _ => {
            let why = "type not supported";
            return Err(Problem::Serialise { kind: stack.type_name(-1), why });
        }
    }
    Ok(())
}

/// The length of an array, nothing for an object.
fn array_length(stack: Stack, settings: JsonSettings) -> Result<Option<usize>, Problem> {
    let table = stack.top();
    let (mut longest, mut count) = (0_usize, 0_usize);
    stack.push_nil();
    while stack.next(table) {
        let key = if stack.kind(-2) == Kind::Number { stack.number(-2) } else { 0.0 };
        if key < 1.0 || key != key.floor() {
            stack.set_top(table);
            return Ok(None);
        }
        longest = longest.max(key as usize);
        count += 1;
        stack.pop(1);
    }
    let sparse = settings.sparse_ratio > 0
        && longest > count.saturating_mul(settings.sparse_ratio)
        && longest > settings.sparse_safe;
    if sparse {
        return if settings.sparse_convert { Ok(None) } else { Err(Problem::Sparse) };
    }
    Ok((longest > 0).then_some(longest))
}

fn encode_array(
    stack: Stack,
    settings: JsonSettings,
    out: &mut Vec<u8>,
    depth: usize,
    length: usize,
) -> Result<(), Problem> {
    out.push(b'[');
    for item in 1..=length {
        if item > 1 {
            out.push(b',');
        }
        stack.raw_get_index(-1, item as c_int);
        encode_value(stack, settings, out, depth)?;
        stack.pop(1);
    }
    out.push(b']');
    Ok(())
}

fn encode_object(
    stack: Stack,
    settings: JsonSettings,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Problem> {
    let table = stack.top();
    out.push(b'{');
    let mut first = true;
    stack.push_nil();
    while stack.next(table) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match stack.kind(-2) {
            Kind::String => encode_string(stack.text(-2), out),
            Kind::Number => {
                out.push(b'"');
                encode_number(stack.number(-2), settings, out)?;
                out.push(b'"');
            }
            _ => {
                let why = "table key must be a number or string";
                return Err(Problem::Serialise { kind: stack.type_name(-2), why });
            }
        }
        out.push(b':');
        encode_value(stack, settings, out, depth)?;
        stack.pop(1);
    }
    out.push(b'}');
    Ok(())
}

fn encode_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        let escape = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'/' => b"\\/",
            8 => b"\\b",
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            12 => b"\\f",
            b'\r' => b"\\r",
            0..32 | 127 => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let digit = |nibble: u8| DIGITS[usize::from(nibble)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                continue;
            }
            _ => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(escape);
    }
    out.push(b'"');
}

fn encode_number(value: f64, settings: JsonSettings, out: &mut Vec<u8>) -> Result<(), Problem> {
    if !value.is_finite() {
        match settings.encode_invalid {
            2 => {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            0 => {
                let why = "must not be NaN or Inf";
                return Err(Problem::Serialise { kind: c"number", why });
            }
            _ => {}
        }
    }
    let whole = value.trunc() == value && value.abs() < 1e14;
    if whole && settings.precision >= 14 && (value != 0.0 || value.is_sign_positive()) {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        let mut text = [0; NUMBER_BYTES];
        out.extend_from_slice(general(value, settings.precision, &mut text));
    }
    Ok(())
}

unsafe extern "C-unwind" fn decode(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if stack.top() != 1 {
        stack.raise_argument(1, c"expected 1 argument");
    }
    let bytes = stack.check_bytes(1);
    let settings = machine.json;
    let mut reader =
        Reader { stack, bytes, at: 0, depth: 0, settings, scratch: &mut machine.scratch };
    let read = reader.document();
    match read {
        Ok(()) => 1,
        Err(problem) => fail(stack, machine, problem),
    }
}

/// One token; strings and numbers are pushed when they are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    String,
    Number,
    Boolean,
    Null,
    End,
    Error(&'static str),
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::String => "T_STRING",
            Token::Number => "T_NUMBER",
            Token::Boolean => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::End => "T_END",
            Token::Error(text) => text,
        }
    }
}

struct Reader<'a> {
    stack: Stack,
    /// Followed by a zero byte, as all of Lua's strings.
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    settings: JsonSettings,
    scratch: &'a mut Vec<u8>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), Problem> {
        let (token, at) = self.token();
        self.value(token, at)?;
        match self.token() {
            (Token::End, _) => Ok(()),
            (found, at) => Err(expected("the end", found, at)),
        }
    }

    /// Pushes the value that begins with `token`.
    fn value(&mut self, token: Token, at: usize) -> Result<(), Problem> {
        match token {
            Token::String | Token::Number | Token::Boolean => Ok(()),
            Token::Null => {
                self.stack.push_null();
                Ok(())
            }
            Token::ObjectBegin => self.object(),
            Token::ArrayBegin => self.array(),
            found => Err(expected("value", found, at)),
        }
    }

    fn descend(&mut self) -> Result<(), Problem> {
        self.depth += 1;
        if self.depth > self.settings.decode_depth {
            return Err(Problem::DecodeDepth(self.depth));
        }
        if self.stack.reserve(6) { Ok(()) } else { Err(Problem::Memory) }
    }

    fn object(&mut self) -> Result<(), Problem> {
        self.descend()?;
        self.stack.create_table(0, 0);
        let (mut token, mut at) = self.token();
        if token == Token::ObjectEnd {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            if token != Token::String {
                return Err(expected("object key string", token, at));
            }
            (token, at) = self.token();
            if token != Token::Colon {
                return Err(expected("colon", token, at));
            }
            (token, at) = self.token();
            self.value(token, at)?;
            self.stack.raw_set(-3);
            (token, at) = self.token();
            match token {
                Token::ObjectEnd => break,
                Token::Comma => (token, at) = self.token(),
                found => return Err(expected("comma or object end", found, at)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Problem> {
        self.descend()?;
        self.stack.create_table(0, 0);
        let (mut token, mut at) = self.token();
        if token == Token::ArrayEnd {
            self.depth -= 1;
            return Ok(());
        }
        for item in 1.. {
            self.value(token, at)?;
            self.stack.raw_set_index(-2, item);
            (token, at) = self.token();
            match token {
                Token::ArrayEnd => break,
                Token::Comma => (token, at) = self.token(),
                found => return Err(expected("comma or array end", found, at)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The next token and where it (or its error) is.
    fn token(&mut self) -> (Token, usize) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        let at = self.at;
        let Some(&byte) = self.bytes.get(at) else { return (Token::End, at) };
        let single = match byte {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string(),
            _ => return (self.word(byte), at),
        };
        self.at += 1;
        (single, at)
    }

    fn word(&mut self, byte: u8) -> Token {
        let rest = &self.bytes[self.at..];
        if byte == b'-' || byte.is_ascii_digit() {
            if !self.settings.decode_invalid && is_invalid_number(rest) {
                return Token::Error("invalid number");
            }
            return self.number();
        }
        for (text, token) in
            [(&b"true"[..], Token::Boolean), (b"false", Token::Boolean), (b"null", Token::Null)]
        {
            if rest.starts_with(text) {
                self.at += text.len();
                if token == Token::Boolean {
                    self.stack.push_boolean(byte == b't');
                }
                return token;
            }
        }
        if self.settings.decode_invalid && is_invalid_number(rest) {
            return self.number();
        }
        Token::Error("invalid token")
    }

    fn number(&mut self) -> Token {
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let plain = !matches!(rest.get(digits), Some(b'.' | b'e' | b'E' | b'x' | b'X'));
        if (1..=15).contains(&digits) && plain {
            let value =
                rest[..digits].iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            self.stack.push_number(value as f64);
            self.at += digits;
            return Token::Number;
        }
        let start: *const c_char = rest.as_ptr().cast();
        let mut end: *mut c_char = std::ptr::null_mut();
        // SAFETY: the text is a Lua string's, so a zero byte ends it.
        let value = unsafe { libc::strtod(start, &mut end) };
        let read = end.addr() - start.addr();
        if read == 0 {
            return Token::Error("invalid number");
        }
        self.stack.push_number(value);
        self.at += read;
        Token::Number
    }

    /// Pushes the string that begins here.
    fn string(&mut self) -> (Token, usize) {
        let start = self.at;
        self.at += 1;
        let rest = &self.bytes[self.at..];
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        if let Some(len) = plain.filter(|len| rest[*len] == b'"') {
            self.stack.push_bytes(&rest[..len]);
            self.at += len + 1;
            return (Token::String, start);
        }
        self.scratch.clear();
        loop {
            match self.bytes.get(self.at) {
                None => return (Token::Error("unexpected end of string"), self.at),
                Some(b'"') => break,
                Some(b'\\') => {
                    if let Err(text) = self.escape() {
                        return (Token::Error(text), self.at);
                    }
                }
                Some(byte) => {
                    self.scratch.push(*byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        self.stack.push_bytes(self.scratch);
        (Token::String, start)
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        let byte = match self.bytes.get(self.at + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            Some(b'u') => return self.unicode(),
            _ => return Err("invalid escape code"),
        };
        self.scratch.push(byte);
        self.at += 2;
        Ok(())
    }

    fn unicode(&mut self) -> Result<(), &'static str> {
        const WRONG: &str = "invalid unicode escape code";
        let first = self.code_unit(self.at).ok_or(WRONG)?;
        let mut len = 6;
        let code = match first {
            0xDC00..0xE000 => return Err(WRONG),
            0xD800..0xDC00 => {
                let second = self.code_unit(self.at + 6).ok_or(WRONG)?;
                if !(0xDC00..0xE000).contains(&second) {
                    return Err(WRONG);
                }
                len = 12;
                0x10000 + ((first & 0x3FF) << 10 | second & 0x3FF)
            }
            code => code,
        };
        let character = char::from_u32(code).ok_or(WRONG)?;
        let mut text = [0; 4];
        self.scratch.extend_from_slice(character.encode_utf8(&mut text).as_bytes());
        self.at += len;
        Ok(())
    }

    /// The code unit that is escaped at `at`.
    fn code_unit(&self, at: usize) -> Option<u32> {
        let escape = self.bytes.get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
    }
}

fn expected(what: &'static str, found: Token, at: usize) -> Problem {
    Problem::Expected { what, found: found.name(), at }
}

/// What strtod would read and JSON doesn't know: infinities, NaN, hexadecimals, leading zeros.
fn is_invalid_number(text: &[u8]) -> bool {
    let text = match text {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    match text {
        [b'0', next, ..] => matches!(next, b'x' | b'X' | b'0'..=b'9'),
        [b'1'..=b'9', ..] => false,
        _ => {
            let starts =
                |word: &[u8]| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word));
            starts(b"inf") || starts(b"nan")
        }
    }
}
