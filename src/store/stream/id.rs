//! The id of a stream's entry: a time in milliseconds and a sequence, in the texts that Redis reads and writes.

use crate::store::number::parse_integer;

/// The longest text that is looked at.
const TEXT_BYTES_MAX: usize = 127;

/// An entry's id; ids order entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds since the epoch, unless a client says otherwise.
    pub ms: u64,
    /// Among those of the same millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Below all others; no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// Above all others.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The id after this one.
    pub fn next(self) -> Option<StreamId> {
        match (self.ms, self.seq.checked_add(1)) {
            (ms, Some(seq)) => Some(StreamId { ms, seq }),
            (ms, None) => Some(StreamId { ms: ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The id before this one.
    pub fn previous(self) -> Option<StreamId> {
        match (self.ms, self.seq.checked_sub(1)) {
            (ms, Some(seq)) => Some(StreamId { ms, seq }),
            (ms, None) => Some(StreamId { ms: ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// Both numbers, highest byte first: sorts as the id does.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// The id of which these are the bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let number = u128::from_be_bytes(bytes);
        StreamId { ms: (number >> 64) as u64, seq: number as u64 }
    }

    /// Reads `ms-seq` or `ms`, whose sequence is `missing` then.
    pub fn parse(text: &[u8], missing: u64) -> Option<StreamId> {
        let (id, sequence) = StreamId::parse_parts(text)?;
        Some(StreamId { seq: sequence.unwrap_or(missing), ..id })
    }

    /// Reads what [`StreamId::parse`] does and `ms-*`, which has no sequence: `None` in the second place.
    pub fn parse_new(text: &[u8]) -> Option<(u64, Option<u64>)> {
        if let Some(ms) = c_text(text)?.strip_suffix(b"-*")
            && !ms.contains(&b'-')
        {
            return Some((parse_unsigned(ms)?, None));
        }
        let (id, sequence) = StreamId::parse_parts(text)?;
        Some((id.ms, Some(sequence.unwrap_or(0))))
    }

    fn parse_parts(text: &[u8]) -> Option<(StreamId, Option<u64>)> {
        let text = c_text(text)?;
        let Some(dash) = memchr::memchr(b'-', text) else {
            return Some((StreamId { ms: parse_unsigned(text)?, seq: 0 }, None));
        };
        let ms = parse_unsigned(&text[..dash])?;
        Some((StreamId { ms, seq: 0 }, Some(parse_unsigned(&text[dash + 1..])?)))
    }

    /// Its text at the front of an array, and how long that is.
    pub fn text(self) -> ([u8; 41], usize) {
        let mut text = [0; 41];
        let mut len = 0;
        for (number, follows) in [(self.ms, true), (self.seq, false)] {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(number).as_bytes();
            text[len..len + digits.len()].copy_from_slice(digits);
            len += digits.len();
            if follows {
                text[len] = b'-';
                len += 1;
            }
        }
        (text, len)
    }
}

/// What C sees of a text, unless that is too long for an id.
fn c_text(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    (text.len() <= TEXT_BYTES_MAX).then(|| &text[..end])
}

/// A number as Redis's `string2ull` reads it: canonical ones up to 63 bits, all others by C's `strtoull`, which takes
/// spaces, signs and zeros in front.
fn parse_unsigned(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_integer(text) {
        return u64::try_from(value).ok();
    }
    let digits = text.trim_ascii_start();
    let digits = if let [0x0b, rest @ ..] = digits { rest } else { digits };
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, id) in [
            ("0", Some((0, 7))),
            ("5-3", Some((5, 3))),
            ("18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
            ("18446744073709551616", None),
            ("+1-01", Some((1, 1))),
            (" 1- 2", Some((1, 2))),
            ("1--05", Some((1, u64::MAX - 4))),
            ("1--5", None),
            ("-", None),
            ("-1", None),
            ("1-", None),
            ("", None),
            ("1-*", None),
            ("a", None),
            ("1-2\0junk", Some((1, 2))),
        ] {
            let read = StreamId::parse(text.as_bytes(), 7).map(|id| (id.ms, id.seq));
            assert_eq!(read, id, "{text:?}");
        }
        assert_eq!(StreamId::parse_new(b"4-*"), Some((4, None)));
        assert_eq!(StreamId::parse_new(b"4"), Some((4, Some(0))));
        assert_eq!(StreamId::parse_new(b"4--*"), None);
        let (text, len) = StreamId::MAX.text();
        assert_eq!(&text[..len], b"18446744073709551615-18446744073709551615");
    }

    #[test]
    fn neighbours() {
        let end = StreamId { ms: 1, seq: u64::MAX };
        assert_eq!(end.next(), Some(StreamId { ms: 2, seq: 0 }));
        assert_eq!(end.next().and_then(StreamId::previous), Some(end));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.previous()), (None, None));
    }
}
