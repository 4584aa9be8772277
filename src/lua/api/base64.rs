//! `base64` and `hex` for Lua. Must not know: what the bytes are.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use mlua::{Lua, LuaString, Table};

use super::problem;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT.with_encode_padding(false));

/// `base64.encode`, `decode`, `encode_url`, `decode_url`.
pub fn module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (suffix, engine) in [("", STANDARD), ("_url", URL)] {
        let decoder = engine.clone();
        let encode = move |_: &Lua, bytes: LuaString| Ok(engine.encode(&*bytes.as_bytes()));
        table.raw_set(format!("encode{suffix}"), lua.create_function(encode)?)?;
        let decode = move |lua: &Lua, text: LuaString| match decoder.decode(&*text.as_bytes()) {
            Ok(bytes) => Ok((Some(lua.create_string(bytes)?), None)),
            Err(error) => Ok((None, Some(problem(lua, "invalid", &format!("base64: {error}"))?))),
        };
        table.raw_set(format!("decode{suffix}"), lua.create_function(decode)?)?;
    }
    Ok(table)
}

/// `hex.encode`, `hex.decode`.
pub fn hex_module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let encode = |_: &Lua, bytes: LuaString| Ok(hex(&bytes.as_bytes()));
    table.raw_set("encode", lua.create_function(encode)?)?;
    let decode = |lua: &Lua, text: LuaString| match unhex(&text.as_bytes()) {
        Some(bytes) => Ok((Some(lua.create_string(bytes)?), None)),
        None => {
            let text = "hex: expected pairs of the digits 0 to 9 and a to f";
            Ok((None, Some(problem(lua, "invalid", text)?)))
        }
    };
    table.raw_set("decode", lua.create_function(decode)?)?;
    Ok(table)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}
