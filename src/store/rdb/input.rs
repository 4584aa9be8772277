//! RDB's primitives, read from bytes that nobody vouches for: lengths, strings, numbers. Knows no type of value.
//!
//! Nothing is read beyond the bytes, and nothing is allocated because a length says so: only strings that are there are
//! copied.

use std::borrow::Cow;

use super::{Damage, lzf};

/// Bytes and how far they have been read.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

/// What a length's place can hold.
pub enum Length {
    Count(u64),
    /// A string in that encoding follows.
    Encoded(u8),
}

/// Encodings of strings: integers of 1, 2 and 4 bytes, and LZF.
pub const INT8: u8 = 0;
pub const INT16: u8 = 1;
pub const INT32: u8 = 2;
pub const LZF: u8 = 3;

impl<'a> Input<'a> {
    /// From the first byte on.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Damage::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Damage::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    /// A length, or the encoding of the string that follows.
    pub fn length_or_encoding(&mut self) -> Result<Length, Damage> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        Ok(match (first >> 6, first) {
            (0, _) => Length::Count(low),
            (1, _) => Length::Count(low << 8 | u64::from(self.byte()?)),
            (_, 0x80) => Length::Count(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Length::Count(u64::from_be_bytes(self.array()?)),
            (3, _) => Length::Encoded(low as u8),
            _ => return Err(Damage::Malformed("a length of no known form")),
        })
    }

    /// A length or number.
    pub fn number(&mut self) -> Result<u64, Damage> {
        match self.length_or_encoding()? {
            Length::Count(count) => Ok(count),
            Length::Encoded(_) => Err(Damage::Malformed("a string where a length should be")),
        }
    }

    /// How many items follow, each of at least one byte.
    pub fn count(&mut self) -> Result<usize, Damage> {
        let count = usize::try_from(self.number()?).map_err(|_| Damage::Truncated)?;
        if count > self.left() { Err(Damage::Truncated) } else { Ok(count) }
    }

    /// A string in any encoding.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Damage> {
        let integer = match self.length_or_encoding()? {
            Length::Count(count) => {
                let count = usize::try_from(count).map_err(|_| Damage::Truncated)?;
                return self.bytes(count).map(Cow::Borrowed);
            }
            Length::Encoded(INT8) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Encoded(INT16) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Encoded(INT32) => i32::from_le_bytes(self.array()?),
            Length::Encoded(LZF) => return self.packed_string(),
            Length::Encoded(_) => return Err(Damage::Malformed("a string of no known encoding")),
        };
        Ok(Cow::Owned(integer.to_string().into_bytes()))
    }

    fn packed_string(&mut self) -> Result<Cow<'a, [u8]>, Damage> {
        let packed_len = self.count()?;
        let len = usize::try_from(self.number()?).map_err(|_| Damage::Truncated)?;
        let packed = self.bytes(packed_len)?;
        lzf::decompress(packed, len)
            .map(Cow::Owned)
            .ok_or(Damage::Malformed("a compressed string that doesn't unpack"))
    }

    /// A double in its eight bytes.
    pub fn double(&mut self) -> Result<f64, Damage> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A double as text behind its length, three lengths being names.
    pub fn double_text(&mut self) -> Result<f64, Damage> {
        match self.byte()? {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => {
                let text = self.bytes(usize::from(len))?;
                crate::store::number::parse_double(text)
                    .ok_or(Damage::Malformed("a score that is no number"))
            }
        }
    }

    /// Milliseconds in eight bytes.
    pub fn milliseconds(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
