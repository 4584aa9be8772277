//! RDB's primitives, written: lengths, strings in their shortest encoding, listpacks. Knows no type of value.

use super::input::{INT8, INT16, INT32, LZF};
use super::lzf;
use crate::store::number::{INTEGER_TEXT_MAX, parse_integer};
use crate::store::packed::Packed;

/// Strings from this length on are tried to be compressed, as Redis does.
const COMPRESS_BYTES_MIN: usize = 21;
/// A listpack's header: its bytes and its number of elements.
const LISTPACK_HEADER: usize = 6;
pub const LISTPACK_END: u8 = 0xff;

/// A length or number.
pub fn number(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&[0x40 | (value >> 8) as u8, value as u8]),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// A string.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= INTEGER_TEXT_MAX
        && let Some(value) = parse_integer(text).and_then(|value| i32::try_from(value).ok())
    {
        return integer(out, value);
    }
    if text.len() >= COMPRESS_BYTES_MIN
        && let Some(packed) = lzf::compress(text)
    {
        out.push(0xc0 | LZF);
        number(out, packed.len() as u64);
        number(out, text.len() as u64);
        out.extend_from_slice(&packed);
        return;
    }
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn integer(out: &mut Vec<u8>, value: i32) {
    if let Ok(value) = i8::try_from(value) {
        out.push(0xc0 | INT8);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xc0 | INT16);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        out.push(0xc0 | INT32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Packed elements as a string that is a listpack.
pub fn listpack(out: &mut Vec<u8>, packed: &Packed) {
    let bytes = LISTPACK_HEADER + packed.bytes() + 1;
    let mut blob = Vec::with_capacity(bytes);
    blob.extend_from_slice(&(bytes as u32).to_le_bytes());
    // All ones: more than the field can say, count them.
    blob.extend_from_slice(&u16::try_from(packed.len()).unwrap_or(u16::MAX).to_le_bytes());
    blob.extend_from_slice(packed.as_bytes());
    blob.push(LISTPACK_END);
    string(out, &blob);
}
