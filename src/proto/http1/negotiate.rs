//! What a client asks of a known thing: a part of it, a newer one, a compressed one (RFC 9110 sections 12 to 14).

use super::head::list;

/// A range of bytes: first and last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

/// What a Range field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The whole thing: there is no such field, it isn't understood, or it asks for several parts, which are more work
    /// than the whole.
    Whole,
    /// One part.
    One(ByteRange),
    /// A part that isn't there.
    Unsatisfiable,
}

/// Reads a Range field's value for a thing of `length` bytes.
pub fn parse_ranges(value: &[u8], length: u64) -> Ranges {
    let Some(spec) = value.strip_prefix(b"bytes=") else { return Ranges::Whole };
    let Some(dash) = spec.iter().position(|byte| *byte == b'-') else { return Ranges::Whole };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Ranges::Whole,
        (Some(first), _) if first >= length && is_number_or_empty(last) => Ranges::Unsatisfiable,
        (Some(first), Some(last)) => Ranges::One(ByteRange { first, last: last.min(length - 1) }),
        (Some(first), None) if last.is_empty() => {
            Ranges::One(ByteRange { first, last: length - 1 })
        }
        (None, Some(count)) if first.is_empty() => {
            if count == 0 || length == 0 {
                return Ranges::Unsatisfiable;
            }
            Ranges::One(ByteRange { first: length.saturating_sub(count), last: length - 1 })
        }
        _ => Ranges::Whole,
    }
}

fn is_number_or_empty(text: &[u8]) -> bool {
    text.is_empty() || number(text).is_some()
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter()
        .try_fold(0u64, |number, byte| number.checked_mul(10)?.checked_add(u64::from(byte - b'0')))
}

/// How a client's list of tags compares to a thing's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtagMatch {
    /// The same, byte for byte.
    Strong,
    /// The same in meaning.
    Weak,
    /// None of them.
    None,
}

/// Compares a list of entity tags, or `*`, with `tag` (quotes included, `W/` if it is weak).
pub fn match_etag(value: &[u8], tag: &[u8]) -> EtagMatch {
    if value == b"*" {
        return EtagMatch::Strong;
    }
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let wanted = opaque(tag);
    let mut found = EtagMatch::None;
    for member in list(value) {
        if member == tag && !tag.starts_with(b"W/") {
            return EtagMatch::Strong;
        } else if opaque(member) == wanted {
            found = EtagMatch::Weak;
        }
    }
    found
}

/// Whether an Accept-Encoding field takes gzip.
pub fn accepts_gzip(value: &[u8]) -> bool {
    let mut any = None;
    for member in list(value) {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(is_zero_quality);
        if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            return !refused;
        } else if name == b"*" {
            any = Some(!refused);
        }
    }
    any.unwrap_or(false)
}

fn is_zero_quality(parameter: &[u8]) -> bool {
    let Some([b'q' | b'Q', b'=', quality @ ..]) = Some(parameter) else { return false };
    quality.first() == Some(&b'0') && quality.iter().all(|byte| matches!(byte, b'0' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let one = |first, last| Ranges::One(ByteRange { first, last });
        for (value, length, expected) in [
            ("bytes=0-4", 10, one(0, 4)),
            ("bytes=5-", 10, one(5, 9)),
            ("bytes=-3", 10, one(7, 9)),
            ("bytes=-30", 10, one(0, 9)),
            ("bytes=0-99", 10, one(0, 9)),
            ("bytes=9-9", 10, one(9, 9)),
            ("bytes=10-", 10, Ranges::Unsatisfiable),
            ("bytes=10-20", 10, Ranges::Unsatisfiable),
            ("bytes=-0", 10, Ranges::Unsatisfiable),
            ("bytes=0-", 0, Ranges::Unsatisfiable),
            ("bytes=-1", 0, Ranges::Unsatisfiable),
            ("bytes=4-2", 10, Ranges::Whole),
            ("bytes=0-1,3-4", 10, Ranges::Whole),
            ("bytes=", 10, Ranges::Whole),
            ("bytes=-", 10, Ranges::Whole),
            ("bytes=a-b", 10, Ranges::Whole),
            ("bytes=1-x", 10, Ranges::Whole),
            ("lines=0-4", 10, Ranges::Whole),
            ("bytes=0-99999999999999999999", 10, Ranges::Whole),
        ] {
            assert_eq!(parse_ranges(value.as_bytes(), length), expected, "{value} of {length}");
        }
    }

    #[test]
    fn tags() {
        for (value, tag, expected) in [
            ("*", "\"a\"", EtagMatch::Strong),
            ("\"a\"", "\"a\"", EtagMatch::Strong),
            ("\"b\", \"a\"", "\"a\"", EtagMatch::Strong),
            ("W/\"a\"", "\"a\"", EtagMatch::Weak),
            ("\"a\"", "W/\"a\"", EtagMatch::Weak),
            ("W/\"a\"", "W/\"a\"", EtagMatch::Weak),
            ("\"b\"", "\"a\"", EtagMatch::None),
            ("a", "\"a\"", EtagMatch::None),
        ] {
            assert_eq!(match_etag(value.as_bytes(), tag.as_bytes()), expected, "{value} {tag}");
        }
    }

    #[test]
    fn codings() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("GZIP", true),
            ("*", true),
            ("br;q=1, *;q=0.1", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("", false),
            ("gzipped", false),
        ] {
            assert_eq!(accepts_gzip(value.as_bytes()), expected, "{value}");
        }
    }
}
