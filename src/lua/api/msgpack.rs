//! `msgpack` for Lua: values to MessagePack and back, straight between Lua and bytes.
//!
//! Tables as JSON has them (`super::json`): a sequence is an array, string keys make a map; other keys are kept as they
//! are. Strings are bytes and are written as `str`, as the format's older readers expect; numbers without a fraction become integers.
//! Must not know: who speaks it.

use mlua::{Lua, LuaString, Table, Value};

use super::problem;
use crate::limits::JSON_DEPTH_MAX;

/// `msgpack.encode(value)`, `msgpack.decode(bytes)`, `msgpack.null`.
pub fn module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("null", Value::NULL)?;
    let encode = |lua: &Lua, value: Value| {
        let mut out = Vec::new();
        match write(&mut out, &value, 0) {
            Ok(()) => lua.create_string(out),
            Err(text) => Err(mlua::Error::runtime(format!("msgpack.encode: {text}"))),
        }
    };
    table.raw_set("encode", lua.create_function(encode)?)?;
    // A value, and where the next one would begin; or nil and an error.
    let decode = |lua: &Lua, (bytes, init): (LuaString, Option<usize>)| {
        let bytes = bytes.as_bytes();
        let start = init.unwrap_or(1).saturating_sub(1).min(bytes.len());
        let mut reader = Reader { bytes: &bytes, at: start };
        match reader.value(lua, 0)? {
            Ok(value) => Ok((value, Value::Number(reader.at as f64 + 1.0))),
            Err(text) => {
                let error = problem(lua, "invalid", &format!("msgpack.decode: {text}"))?;
                Ok((Value::Nil, Value::Table(error)))
            }
        }
    };
    table.raw_set("decode", lua.create_function(decode)?)?;
    Ok(table)
}

fn write(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), String> {
    match value {
        Value::Nil => out.push(0xc0),
        Value::Boolean(flag) => out.push(0xc2 + u8::from(*flag)),
        Value::Integer(number) => write_integer(out, *number),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9.1e15 => {
            write_integer(out, *number as i64);
        }
        Value::Number(number) => {
            out.push(0xcb);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::String(text) => {
            let bytes = text.as_bytes();
            write_len(out, bytes.len(), [(32, 0xa0)], [0xd9, 0xda, 0xdb]);
            out.extend_from_slice(&bytes);
        }
        Value::LightUserData(light) if light.0.is_null() => out.push(0xc0),
        Value::Table(table) => return write_table(out, table, depth),
        other => return Err(format!("a {} can't be packed", other.type_name())),
    }
    Ok(())
}

fn write_integer(out: &mut Vec<u8>, number: i64) {
    match number {
        0..=0x7f => out.push(number as u8),
        -32..=-1 => out.push(number as i8 as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&(number as u64).to_be_bytes());
        }
        -128..=-33 => out.extend_from_slice(&[0xd0, number as i8 as u8]),
        -32_768..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(number as i16).to_be_bytes());
        }
        -2_147_483_648..=-32_769 => {
            out.push(0xd2);
            out.extend_from_slice(&(number as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// A length: in the first byte below a bound, else after a byte for 8, 16 or 32 bits (0: there is no such form).
fn write_len(out: &mut Vec<u8>, len: usize, small: [(usize, u8); 1], forms: [u8; 3]) {
    let [(bound, base)] = small;
    if len < bound {
        out.push(base | len as u8);
    } else if len <= 0xff && forms[0] != 0 {
        out.extend_from_slice(&[forms[0], len as u8]);
    } else if len <= 0xffff {
        out.push(forms[1]);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(forms[2]);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn write_table(out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<(), String> {
    if depth == JSON_DEPTH_MAX {
        return Err("tables nested too deep, or a cycle".to_owned());
    }
    let mut pairs = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        pairs.push(pair.map_err(|error| error.to_string())?);
    }
    let len = table.raw_len();
    if len > 0 && pairs.len() == len {
        write_len(out, len, [(16, 0x90)], [0, 0xdc, 0xdd]);
        for index in 1..=len {
            let item: Value = table.raw_get(index).map_err(|error| error.to_string())?;
            write(out, &item, depth + 1)?;
        }
        return Ok(());
    }
    write_len(out, pairs.len(), [(16, 0x80)], [0, 0xde, 0xdf]);
    for (key, item) in &pairs {
        write(out, key, depth + 1)?;
        write(out, item, depth + 1)?;
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, &'static str>;
const CUT: &str = "it is cut off";

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or(CUT)?;
        self.at += count;
        Ok(taken)
    }

    fn uint(&mut self, bytes: usize) -> Read<u64> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn int(&mut self, bytes: usize) -> Read<f64> {
        let unused = 64 - 8 * bytes as u32;
        Ok(((self.uint(bytes)? << unused) as i64 >> unused) as f64)
    }

    /// Out of memory is the outer error, wrong bytes the inner one.
    fn value(&mut self, lua: &Lua, depth: usize) -> mlua::Result<Read<Value>> {
        if depth > JSON_DEPTH_MAX {
            return Ok(Err("it is nested too deep"));
        }
        let byte = match self.take(1) {
            Ok(byte) => byte[0],
            Err(error) => return Ok(Err(error)),
        };
        let number = |number: Read<f64>| Ok(number.map(Value::Number));
        match byte {
            0..=0x7f => Ok(Ok(Value::Number(f64::from(byte)))),
            0xe0..=0xff => Ok(Ok(Value::Number(f64::from(byte as i8)))),
            0x80..=0x8f => self.map(lua, u64::from(byte & 15), depth),
            0x90..=0x9f => self.array(lua, u64::from(byte & 15), depth),
            0xa0..=0xbf => self.text(lua, u64::from(byte & 31)),
            0xc0 => Ok(Ok(Value::Nil)),
            0xc2 | 0xc3 => Ok(Ok(Value::Boolean(byte == 0xc3))),
            0xc4..=0xc6 | 0xd9..=0xdb => {
                let width = 1 << ((byte & 3) - u8::from(byte >= 0xd9));
                match self.uint(width) {
                    Ok(len) => self.text(lua, len),
                    Err(error) => Ok(Err(error)),
                }
            }
            0xca => number(self.uint(4).map(|bits| f64::from(f32::from_bits(bits as u32)))),
            0xcb => number(self.uint(8).map(f64::from_bits)),
            0xcc..=0xcf => number(self.uint(1 << (byte - 0xcc)).map(|number| number as f64)),
            0xd0..=0xd3 => number(self.int(1 << (byte - 0xd0))),
            0xdc | 0xdd => match self.uint(if byte == 0xdc { 2 } else { 4 }) {
                Ok(count) => self.array(lua, count, depth),
                Err(error) => Ok(Err(error)),
            },
            0xde | 0xdf => match self.uint(if byte == 0xde { 2 } else { 4 }) {
                Ok(count) => self.map(lua, count, depth),
                Err(error) => Ok(Err(error)),
            },
            _ => Ok(Err("it has a type that Lua has no value for")),
        }
    }

    fn text(&mut self, lua: &Lua, len: u64) -> mlua::Result<Read<Value>> {
        match self.take(len as usize) {
            Ok(bytes) => Ok(Ok(Value::String(lua.create_string(bytes)?))),
            Err(error) => Ok(Err(error)),
        }
    }

    fn array(&mut self, lua: &Lua, count: u64, depth: usize) -> mlua::Result<Read<Value>> {
        let table = lua.create_table()?;
        for index in 1..=count {
            match self.value(lua, depth + 1)? {
                Ok(Value::Nil) => table.raw_set(index as f64, Value::NULL)?,
                Ok(item) => table.raw_set(index as f64, item)?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(Value::Table(table)))
    }

    fn map(&mut self, lua: &Lua, count: u64, depth: usize) -> mlua::Result<Read<Value>> {
        let table = lua.create_table()?;
        for _ in 0..count {
            let key = match self.value(lua, depth + 1)? {
                Ok(key) => key,
                Err(error) => return Ok(Err(error)),
            };
            let item = match self.value(lua, depth + 1)? {
                Ok(item) => item,
                Err(error) => return Ok(Err(error)),
            };
            let is_key = match &key {
                Value::Nil => false,
                Value::Number(number) => !number.is_nan(),
                _ => true,
            };
            if !is_key {
                return Ok(Err("a map has a key that Lua can't have"));
            }
            table.raw_set(key, item)?;
        }
        Ok(Ok(Value::Table(table)))
    }
}
