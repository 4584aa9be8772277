//! The packed blobs inside of RDB strings: listpacks and intsets of today, ziplists and zipmaps of Redis before 7. Each
//! is walked whole before anything is made of it. Knows nothing of the values they become.

use super::Damage;
use super::input::Input;
use super::output::LISTPACK_END;
use crate::store::element::{Element, decode, decode_back};

/// The elements of a blob, in its order.
pub type Elements<'a> = Vec<Element<'a>>;

/// In a header's count: more than it can say.
const UNCOUNTED: usize = u16::MAX as usize;
/// An element of a blob has at least that many bytes.
const ELEMENT_BYTES_MIN: usize = 2;

/// `bytes u32 | count u16 | elements | 255`
pub fn listpack(blob: &[u8]) -> Result<Elements<'_>, Damage> {
    const BAD: Damage = Damage::Malformed("a damaged listpack");
    let mut input = Input::new(blob);
    let bytes = u32::from_le_bytes(input.array().map_err(|_| BAD)?);
    let count = usize::from(u16::from_le_bytes(input.array().map_err(|_| BAD)?));
    let elements = blob[6..].strip_suffix(&[LISTPACK_END]).ok_or(BAD)?;
    if bytes as usize != blob.len() {
        return Err(BAD);
    }
    let mut found = Vec::with_capacity(count.min(elements.len() / ELEMENT_BYTES_MIN));
    let mut at = 0;
    while at < elements.len() {
        let (element, after) = decode(elements, at).ok_or(BAD)?;
        if decode_back(elements, after) != Some(at) {
            return Err(BAD);
        }
        found.push(element);
        at = after;
    }
    if count != UNCOUNTED && count != found.len() {
        return Err(BAD);
    }
    Ok(found)
}

/// `width u32 | count u32 | integers in order`
pub fn intset(blob: &[u8]) -> Result<Vec<i64>, Damage> {
    const BAD: Damage = Damage::Malformed("a damaged set of integers");
    let mut input = Input::new(blob);
    let width = u32::from_le_bytes(input.array().map_err(|_| BAD)?) as usize;
    let count = u32::from_le_bytes(input.array().map_err(|_| BAD)?) as usize;
    if !matches!(width, 2 | 4 | 8) || Some(input.left()) != count.checked_mul(width) {
        return Err(BAD);
    }
    let mut integers: Vec<i64> = Vec::with_capacity(count);
    for bytes in blob[8..].chunks_exact(width) {
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(bytes);
        let value = i64::from_le_bytes(wide) >> (64 - 8 * width);
        if integers.last().is_some_and(|last| *last >= value) {
            return Err(BAD);
        }
        integers.push(value);
    }
    Ok(integers)
}

/// `bytes u32 | offset of the last u32 | count u16 | entries | 255`; an entry is its predecessor's length (1 byte, or 254
/// and four), its encoding and its content.
pub fn ziplist(blob: &[u8]) -> Result<Elements<'_>, Damage> {
    walk_ziplist(blob).map_err(|_| Damage::Malformed("a damaged ziplist"))
}

fn walk_ziplist(blob: &[u8]) -> Result<Elements<'_>, Damage> {
    const BAD: Damage = Damage::Malformed("a damaged ziplist");
    let mut input = Input::new(blob);
    let bytes = u32::from_le_bytes(input.array()?) as usize;
    let tail = u32::from_le_bytes(input.array()?) as usize;
    let count = usize::from(u16::from_le_bytes(input.array()?));
    if bytes != blob.len() {
        return Err(BAD);
    }
    let mut found = Vec::with_capacity(count.min(blob.len() / ELEMENT_BYTES_MIN));
    let (mut before, mut last) = (0, input.left());
    loop {
        let left = input.left();
        let first = input.byte()?;
        if first == 255 {
            break;
        }
        let said = if first == 254 {
            u32::from_le_bytes(input.array()?) as usize
        } else {
            usize::from(first)
        };
        if said != before {
            return Err(BAD);
        }
        found.push(ziplist_element(&mut input)?);
        (before, last) = (left - input.left(), left);
    }
    let is_whole = input.left() == 0 && (count == UNCOUNTED || count == found.len());
    if is_whole && tail == blob.len() - last { Ok(found) } else { Err(BAD) }
}

fn ziplist_element<'a>(input: &mut Input<'a>) -> Result<Element<'a>, Damage> {
    let tag = input.byte()?;
    let integer = match tag {
        0x00..=0x3f => return ziplist_string(input, usize::from(tag)),
        0x40..=0x7f => {
            let len = usize::from(tag & 0x3f) << 8 | usize::from(input.byte()?);
            return ziplist_string(input, len);
        }
        0x80 => {
            let len = u32::from_be_bytes(input.array()?) as usize;
            return ziplist_string(input, len);
        }
        0xc0 => i64::from(i16::from_le_bytes(input.array()?)),
        0xd0 => i64::from(i32::from_le_bytes(input.array()?)),
        0xe0 => i64::from_le_bytes(input.array()?),
        0xf0 => {
            let [low, middle, high] = input.array()?;
            i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
        }
        0xfe => i64::from(i8::from_le_bytes(input.array()?)),
        0xf1..=0xfd => i64::from(tag & 0x0f) - 1,
        _ => return Err(Damage::Malformed("a damaged ziplist")),
    };
    Ok(Element::Integer(integer))
}

fn ziplist_string<'a>(input: &mut Input<'a>, len: usize) -> Result<Element<'a>, Damage> {
    input.bytes(len).map(Element::Bytes)
}

/// `count u8 | (length, field, length, free u8, value, free bytes) ... | 255`; a length is a byte below 254, or 254 and
/// four bytes.
pub fn zipmap(blob: &[u8]) -> Result<Elements<'_>, Damage> {
    walk_zipmap(blob).map_err(|_| Damage::Malformed("a damaged zipmap"))
}

fn walk_zipmap(blob: &[u8]) -> Result<Elements<'_>, Damage> {
    const BAD: Damage = Damage::Malformed("a damaged zipmap");
    let mut input = Input::new(blob);
    let count = usize::from(input.byte()?);
    let mut found = Vec::new();
    while let Some(len) = zipmap_length(&mut input)? {
        found.push(Element::Bytes(input.bytes(len)?));
        let len = zipmap_length(&mut input)?.ok_or(BAD)?;
        let free = usize::from(input.byte()?);
        found.push(Element::Bytes(input.bytes(len)?));
        input.bytes(free)?;
    }
    let counted = count >= 254 || count * 2 == found.len();
    if counted && input.left() == 0 { Ok(found) } else { Err(BAD) }
}

fn zipmap_length(input: &mut Input<'_>) -> Result<Option<usize>, Damage> {
    Ok(match input.byte()? {
        255 => None,
        254 => Some(u32::from_le_bytes(input.array()?) as usize),
        len => Some(usize::from(len)),
    })
}
