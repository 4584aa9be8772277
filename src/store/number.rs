//! Numbers in text as Redis reads them: strict 64-bit integers and C doubles. Knows nothing of keys or replies.

/// The longest text of an `i64`: a sign and 19 digits.
pub const INTEGER_TEXT_MAX: usize = 20;

/// An integer in its only canonical text: no spaces, no `+`, no leading zeros, no `-0` (Redis's `string2ll`).
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < INTEGER_TEXT_MAX => {}
        _ => return None,
    }
    let mut value = 0u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits stay below 10^19, which fits 64 unsigned bits.
        value = value * 10 + u64::from(digit);
    }
    match negative {
        false => i64::try_from(value).ok(),
        true => 0i64.checked_sub_unsigned(value),
    }
}

/// A double as C's `strtod` reads it, the whole text or nothing: no leading space, not NaN, no overflow, no underflow
/// to zero. Infinities are allowed (`inf`, `+inf`, `-infinity`). Hexadecimal floats aren't read.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    parse_digits(text).or_else(|| parse_any_double(text))
}

/// Digits alone, of a number that a double holds exactly: nearly every score.
fn parse_digits(text: &[u8]) -> Option<f64> {
    const DIGITS_MAX: usize = 15;
    if !(1..=DIGITS_MAX).contains(&text.len()) {
        return None;
    }
    let mut value = 0_u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value as f64)
}

fn parse_any_double(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let named = text.iter().any(|byte| matches!(byte, b'i' | b'I'));
    if value.is_nan() || (value.is_infinite() && !named) {
        return None;
    }
    let mantissa = text.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    let vanished = value == 0.0 && mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
    (!vanished).then_some(value)
}

/// Bytes with a unit as redis.conf has them: `k`, `m`, `g` are powers of 1000, `kb`, `mb`, `gb` of 1024.
pub fn memory_size(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number: u64 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let factor = match text[digits..].to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("123", Some(123)),
            ("1k", Some(1000)),
            ("1Kb", Some(1024)),
            ("256mb", Some(256 << 20)),
            ("1G", Some(1_000_000_000)),
            ("2gb", Some(2 << 30)),
            ("", None),
            ("mb", None),
            ("-1", None),
            ("1.5gb", None),
            ("1tb", None),
            ("99999999999gb", None),
        ] {
            assert_eq!(memory_size(text.as_bytes()), bytes, "{text:?}");
        }
    }

    #[test]
    fn integers_have_one_text() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1x", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn doubles_are_read_whole_or_not_at_all() {
        for (text, value) in [
            ("1.5", Some(1.5)),
            ("0", Some(0.0)),
            ("000000012345", Some(12345.0)),
            ("999999999999999", Some(999_999_999_999_999.0)),
            ("9007199254740993", Some(9_007_199_254_740_992.0)),
            ("+3", Some(3.0)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("+Infinity", Some(f64::INFINITY)),
            ("0e-999", Some(0.0)),
            ("1e999", None),
            ("1e-999", None),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(parse_double(text.as_bytes()), value, "{text:?}");
        }
    }
}
