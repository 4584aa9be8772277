//! One element of a packed collection: integers in 1 to 9 bytes, strings behind their length, and its own length again
//! at the end so that a walk can go backwards. The encoding is that of Redis's listpack entries (`listpack.c`), so that
//! snapshots and DUMP can hand blobs over as they are. Knows nothing of collections.
//!
//! ```text
//! 0xxxxxxx                     integer 0..127         11110001 + 2 bytes   16-bit integer
//! 10xxxxxx  string             up to 63 bytes         11110010 + 3 bytes   24-bit integer
//! 110xxxxx + 1 byte            13-bit integer         11110011 + 4 bytes   32-bit integer
//! 1110xxxx + 1 byte, string    up to 4095 bytes       11110100 + 8 bytes   64-bit integer
//! 11110000 + 4 bytes, string   longer
//! ```
//! Then the length of all that, 7 bits a byte, most significant first, all bytes but the first with the top bit set.
//!
//! Text that is a canonical integer is always stored as one: so equal elements have equal bytes, and a search compares
//! encoded bytes without decoding. Decoding is safe on any bytes: what makes no sense is `None`.

use super::number::{INTEGER_TEXT_MAX, parse_integer};

/// The longest head of an encoded element: a tag and eight bytes.
const HEAD_BYTES_MAX: usize = 9;

/// What an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// Any bytes but the canonical text of an integer.
    Bytes(&'a [u8]),
    /// An integer; its text is its decimal form.
    Integer(i64),
}

impl<'a> Element<'a> {
    /// The element whose text is `text`.
    pub fn of(text: &'a [u8]) -> Element<'a> {
        match text {
            // Decided by the first byte for nearly every string.
            [b'0'..=b'9' | b'-', ..] if text.len() <= INTEGER_TEXT_MAX => {
                parse_integer(text).map_or(Element::Bytes(text), Element::Integer)
            }
            _ => Element::Bytes(text),
        }
    }

    /// The element's text; integers are written to `buffer`.
    pub fn text<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Element::Bytes(bytes) => bytes,
            Element::Integer(value) => buffer.format(value).as_bytes(),
        }
    }

    /// The integer that the text is.
    pub fn integer(&self) -> Option<i64> {
        match *self {
            Element::Bytes(text) => parse_integer(text),
            Element::Integer(value) => Some(value),
        }
    }

    /// The element's text as bytes of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }

    /// Bytes of the element's text.
    pub fn text_bytes(&self) -> usize {
        self.text(&mut itoa::Buffer::new()).len()
    }
}

/// An element ready to be written or searched for.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Encodes `element`.
    pub fn new(element: Element<'a>) -> Encoded<'a> {
        let mut encoded = Encoded { head: [0; HEAD_BYTES_MAX], head_bytes: 0, body: &[] };
        match element {
            Element::Bytes(bytes) => {
                encoded.body = bytes;
                encoded.string_head(bytes.len());
            }
            Element::Integer(value) => encoded.integer_head(value),
        }
        encoded
    }

    /// Bytes of the element in a blob, its back length included.
    pub fn total(&self) -> usize {
        let front = self.front();
        front + back_bytes(front)
    }

    /// Writes the element; `out` is exactly [`Encoded::total`] long.
    pub fn write(&self, out: &mut [u8]) {
        let (front, back) = out.split_at_mut(self.front());
        // Nearly every head is one or two bytes: plain stores, where a copy of so few bytes would be a call.
        let body = match (&self.head[..usize::from(self.head_bytes)], front) {
            ([first], [out, body @ ..]) => {
                *out = *first;
                body
            }
            ([first, second], [out, next, body @ ..]) => {
                (*out, *next) = (*first, *second);
                body
            }
            (head, out) => {
                let (out, body) = out.split_at_mut(head.len());
                out.copy_from_slice(head);
                body
            }
        };
        body.copy_from_slice(self.body);
        write_back_length(self.front(), back);
    }

    /// Whether `blob` begins with this element.
    pub fn matches(&self, blob: &[u8]) -> bool {
        let head = &self.head[..usize::from(self.head_bytes)];
        blob.strip_prefix(head).is_some_and(|rest| rest.starts_with(self.body))
    }

    fn front(&self) -> usize {
        usize::from(self.head_bytes) + self.body.len()
    }

    fn string_head(&mut self, bytes: usize) {
        match bytes {
            0..64 => self.set_head(&[0x80 | bytes as u8]),
            64..4096 => self.set_head(&[0xE0 | (bytes >> 8) as u8, bytes as u8]),
            _ => {
                let bytes = u32::try_from(bytes).expect("a bulk is at most 512 MB");
                self.head[0] = 0xF0;
                self.head[1..5].copy_from_slice(&bytes.to_le_bytes());
                self.head_bytes = 5;
            }
        }
    }

    fn integer_head(&mut self, value: i64) {
        let bytes = value.to_le_bytes();
        match value {
            0..128 => self.set_head(&[value as u8]),
            -4096..4096 => self.set_head(&[0xC0 | (value >> 8) as u8 & 0x1F, value as u8]),
            -0x8000..0x8000 => self.set_tagged(0xF1, &bytes[..2]),
            -0x80_0000..0x80_0000 => self.set_tagged(0xF2, &bytes[..3]),
            -0x8000_0000..0x8000_0000 => self.set_tagged(0xF3, &bytes[..4]),
            _ => self.set_tagged(0xF4, &bytes),
        }
    }

    fn set_head(&mut self, head: &[u8]) {
        self.head[..head.len()].copy_from_slice(head);
        self.head_bytes = head.len() as u8;
    }

    fn set_tagged(&mut self, tag: u8, rest: &[u8]) {
        self.head[0] = tag;
        self.head[1..=rest.len()].copy_from_slice(rest);
        self.head_bytes = rest.len() as u8 + 1;
    }
}

/// The element at `at` and the place after it, if the bytes hold a whole one there.
#[inline]
pub fn decode(blob: &[u8], at: usize) -> Option<(Element<'_>, usize)> {
    let rest = blob.get(at..)?;
    let (element, front) = decode_front(rest)?;
    let total = front + back_bytes(front);
    (total <= rest.len()).then_some((element, at + total))
}

/// Where the element that ends at `end` begins.
#[inline]
pub fn decode_back(blob: &[u8], end: usize) -> Option<usize> {
    let mut front = 0usize;
    // Five bytes carry 35 bits, more than any length.
    for (index, byte) in blob.get(..end)?.iter().rev().take(5).enumerate() {
        front |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // A zero length would make a backward walk stand still.
            return end.checked_sub(front + index + 1).filter(|_| front > 0);
        }
    }
    None
}

#[inline]
fn decode_front(rest: &[u8]) -> Option<(Element<'_>, usize)> {
    let tag = *rest.first()?;
    match tag {
        0x00..=0x7F => Some((Element::Integer(i64::from(tag)), 1)),
        0x80..=0xBF => string(rest, 1, usize::from(tag & 0x3F)),
        0xC0..=0xDF => {
            let value = u16::from(tag & 0x1F) << 8 | u16::from(*rest.get(1)?);
            Some((Element::Integer(i64::from((value << 3) as i16 >> 3)), 2))
        }
        0xE0..=0xEF => string(rest, 2, usize::from(tag & 0x0F) << 8 | usize::from(*rest.get(1)?)),
        0xF0 => {
            let bytes = rest.get(1..5)?.try_into().ok()?;
            string(rest, 5, u32::from_le_bytes(bytes) as usize)
        }
        0xF1 => integer(rest, 2),
        0xF2 => integer(rest, 3),
        0xF3 => integer(rest, 4),
        0xF4 => integer(rest, 8),
        _ => None,
    }
}

fn string(rest: &[u8], head_bytes: usize, bytes: usize) -> Option<(Element<'_>, usize)> {
    let end = head_bytes.checked_add(bytes)?;
    Some((Element::Bytes(rest.get(head_bytes..end)?), end))
}

fn integer(rest: &[u8], bytes: usize) -> Option<(Element<'_>, usize)> {
    let mut wide = [0; 8];
    wide[8 - bytes..].copy_from_slice(rest.get(1..=bytes)?);
    // Read into the high end, then shifted down: the sign comes along.
    let value = i64::from_le_bytes(wide) >> (8 * (8 - bytes));
    Some((Element::Integer(value), bytes + 1))
}

/// Bytes of the back length of an element whose other bytes are `front`.
fn back_bytes(front: usize) -> usize {
    match front {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

fn write_back_length(front: usize, out: &mut [u8]) {
    if let [only] = out {
        *only = front as u8 & 0x7F;
        return;
    }
    let mut rest = front;
    for index in (0..out.len()).rev() {
        let more = if index == 0 { 0 } else { 0x80 };
        out[index] = (rest & 0x7F) as u8 | more;
        rest >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(element: Element<'_>) -> Vec<u8> {
        let encoded = Encoded::new(element);
        let mut out = vec![0xAA; encoded.total()];
        encoded.write(&mut out);
        assert!(encoded.matches(&out));
        out
    }

    #[test]
    fn integers_take_the_bytes_their_size_needs_and_come_back() {
        for (value, total) in [
            (0, 2),
            (127, 2),
            (128, 3),
            (-1, 3),
            (4095, 3),
            (-4096, 3),
            (4096, 4),
            (-4097, 4),
            (32767, 4),
            (32768, 5),
            (8_388_607, 5),
            (-8_388_609, 6),
            (i64::from(i32::MIN), 6),
            (i64::from(i32::MAX) + 1, 10),
            (i64::MAX, 10),
            (i64::MIN, 10),
        ] {
            let blob = encode(Element::Integer(value));
            assert_eq!(blob.len(), total, "{value}");
            assert_eq!(decode(&blob, 0), Some((Element::Integer(value), total)));
            assert_eq!(decode_back(&blob, total), Some(0));
        }
    }

    #[test]
    fn strings_of_every_length_class_come_back() {
        for bytes in [0, 1, 63, 64, 125, 126, 127, 128, 4095, 4096, 16_400, 2_100_000] {
            let text = vec![b'x'; bytes];
            let blob = encode(Element::of(&text));
            assert_eq!(decode(&blob, 0), Some((Element::Bytes(&text), blob.len())), "{bytes}");
            assert_eq!(decode_back(&blob, blob.len()), Some(0), "{bytes}");
        }
    }

    #[test]
    fn every_cut_of_an_element_is_no_element() {
        for text in [&b"hello"[..], &[b'x'; 300], b"123456789012"] {
            let blob = encode(Element::of(text));
            for end in 0..blob.len() {
                assert_eq!(decode(&blob[..end], 0), None, "{end}");
            }
        }
    }

    #[test]
    fn only_canonical_integers_are_integers() {
        assert_eq!(Element::of(b"12"), Element::Integer(12));
        for text in [&b"012"[..], b"+1", b"-0", b"1.0", b"", b"99999999999999999999"] {
            assert_eq!(Element::of(text), Element::Bytes(text));
        }
    }
}
