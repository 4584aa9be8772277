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
    #[inline]
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
    /// The head's first byte.
    tag: u8,
    /// Of `rest`, as many as belong to the head.
    rest_bytes: u8,
    /// The head's other bytes, the lowest first: one word, for what is written in pieces is slow to read back whole.
    rest: u64,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Encodes `element`.
    #[inline]
    pub fn new(element: Element<'a>) -> Encoded<'a> {
        match element {
            Element::Bytes(body) => {
                let (tag, rest, rest_bytes) = string_head(body.len());
                Encoded { tag, rest_bytes, rest, body }
            }
            Element::Integer(value) => {
                let (tag, rest, rest_bytes) = integer_head(value);
                Encoded { tag, rest_bytes, rest, body: &[] }
            }
        }
    }

    /// Bytes of the element in a blob, its back length included.
    #[inline]
    pub fn total(&self) -> usize {
        let front = self.front();
        front + back_bytes(front)
    }

    /// Writes the element; `out` is exactly [`Encoded::total`] long.
    #[inline]
    pub fn write(&self, out: &mut [u8]) {
        let (front, back) = out.split_at_mut(self.front());
        front[0] = self.tag;
        // Nearly every head is one or two bytes: plain stores, where a copy of so few bytes would be a call.
        let body = match self.rest_bytes {
            0 => &mut front[1..],
            1 => {
                front[1] = self.rest as u8;
                &mut front[2..]
            }
            more => {
                let (rest, body) = front[1..].split_at_mut(usize::from(more));
                rest.copy_from_slice(&self.rest.to_le_bytes()[..usize::from(more)]);
                body
            }
        };
        body.copy_from_slice(self.body);
        write_back_length(self.front(), back);
    }

    /// Whether `blob` begins with this element.
    pub fn matches(&self, blob: &[u8]) -> bool {
        let Some((tag, blob)) = blob.split_first() else { return false };
        let rest = &self.rest.to_le_bytes()[..usize::from(self.rest_bytes)];
        *tag == self.tag && blob.strip_prefix(rest).is_some_and(|blob| blob.starts_with(self.body))
    }

    #[inline]
    fn front(&self) -> usize {
        1 + usize::from(self.rest_bytes) + self.body.len()
    }
}

/// The head of a string of so many bytes: its first byte, the others, and how many they are.
#[inline]
fn string_head(bytes: usize) -> (u8, u64, u8) {
    match bytes {
        0..64 => (0x80 | bytes as u8, 0, 0),
        64..4096 => (0xE0 | (bytes >> 8) as u8, bytes as u64 & 0xFF, 1),
        _ => (0xF0, u64::from(u32::try_from(bytes).expect("a bulk is at most 512 MB")), 4),
    }
}

/// The same of an integer.
fn integer_head(value: i64) -> (u8, u64, u8) {
    let word = value as u64;
    match value {
        0..128 => (word as u8, 0, 0),
        -4096..4096 => (0xC0 | (value >> 8) as u8 & 0x1F, word & 0xFF, 1),
        -0x8000..0x8000 => (0xF1, word, 2),
        -0x80_0000..0x80_0000 => (0xF2, word, 3),
        -0x8000_0000..0x8000_0000 => (0xF3, word, 4),
        _ => (0xF4, word, 8),
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
    // Strings below 4 KB, nearly all elements.
    match (tag, rest.get(1)) {
        (0x80..=0xBF, _) => string(rest, 1, usize::from(tag & 0x3F)),
        (0xE0..=0xEF, Some(low)) => {
            string(rest, 2, usize::from(tag & 0x0F) << 8 | usize::from(*low))
        }
        _ => decode_uncommon(rest, tag),
    }
}

fn decode_uncommon(rest: &[u8], tag: u8) -> Option<(Element<'_>, usize)> {
    match tag {
        0x00..=0x7F => Some((Element::Integer(i64::from(tag)), 1)),
        0xC0..=0xDF => {
            let value = u16::from(tag & 0x1F) << 8 | u16::from(*rest.get(1)?);
            Some((Element::Integer(i64::from((value << 3) as i16 >> 3)), 2))
        }
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

#[inline]
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
#[inline]
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
