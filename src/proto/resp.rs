//! RESP, Redis's protocol: a parser of requests and a reader of replies, both incremental over a borrowed buffer.
//!
//! Replies are written by the store's `Reply`. Source: the RESP specification; for what it leaves open, the behaviour
//! of Redis 7.4 (`networking.c`).

mod inline;
mod reply;
mod request;

pub use reply::{ReplyError, ReplyReader, Value};
pub use request::{Parsed, ProtocolError, RequestParser};

/// Where one argument lies in the bytes it was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A 64-bit integer exactly as Redis's `string2ll` takes it: no spaces, no `+`, no leading zeros.
pub fn strict_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0', _, ..] => return None,
        [b'0'] if negative => return None,
        _ => {}
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Summed below zero, where the range is one larger.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_strict() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("00", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            (":", None),
        ] {
            assert_eq!(strict_integer(text.as_bytes()), expected, "{text:?}");
        }
    }
}
