//! INCRBYFLOAT's arithmetic: x87 extended precision, as Redis gets it from C's `long double` on x86-64.
//!
//! A value is a 64-bit mantissa and a power of two. Reading and printing go through exact big integers, so that the
//! results are those of `strtold`, `+` and `%.17Lf`: `3.0 + 0.1` must print the digits that Redis prints. Precise and
//! slow (a microsecond); nothing but INCRBYFLOAT and HINCRBYFLOAT uses it.

/// Bytes of text that may be a number (Redis's `MAX_LONG_DOUBLE_CHARS`).
const TEXT_BYTES_MAX: usize = 5 * 1024;
/// Digits behind the point when printed.
const PLACES: u32 = 17;
/// Values from 2 to this power are infinite.
const EXPONENT_MAX: i64 = 16384;
/// Values below 2 to this power vanish.
const EXPONENT_MIN: i64 = -16445;

/// A finite number: `mantissa * 2^exponent`, the mantissa's top bit set unless it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i64,
}

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Finite(LongDouble),
    /// `inf` in one of its spellings.
    Infinite,
}

impl LongDouble {
    /// Reads a whole text, as `strtold` does in the C locale; not NaN, not hexadecimal, no spaces.
    pub fn parse(text: &[u8]) -> Option<Parsed> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(Parsed::Infinite);
        }
        let (digits, power) = decimal(unsigned)?;
        let value = if power >= 0 {
            LongDouble::round(negative, digits.times_power_of_ten(power as u32), 0, false)
        } else {
            LongDouble::divide(negative, digits, Big::from(1).times_power_of_ten(-power as u32))
        };
        value.filter(|value| value.mantissa != 0 || !has_digit(unsigned)).map(Parsed::Finite)
    }

    /// The sum, rounded once; `None` if it is infinite.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let exponent = self.exponent.min(other.exponent);
        let align = |value: LongDouble| {
            Big::from(value.mantissa).shifted_left((value.exponent - exponent) as u32)
        };
        let (left, right) = (align(self), align(other));
        if self.negative == other.negative {
            return LongDouble::round(self.negative, left.plus(&right), exponent, false);
        }
        let (negative, sum) = match left.compare(&right) {
            std::cmp::Ordering::Less => (other.negative, right.minus(&left)),
            _ => (self.negative, left.minus(&right)),
        };
        LongDouble::round(negative, sum, exponent, false)
    }

    /// As `%.17Lf` prints it, without trailing zeros.
    pub fn text(self) -> String {
        let scaled = Big::from(self.mantissa).times_power_of_ten(PLACES);
        let scaled = match self.exponent {
            0.. => scaled.shifted_left(self.exponent as u32),
            _ => scaled.shifted_right(self.exponent.unsigned_abs() as u32, false),
        };
        let digits = scaled.decimal();
        let digits = format!("{digits:0>width$}", width = PLACES as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - PLACES as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        let sign = if self.negative && (whole != "0" || point == ".") { "-" } else { "" };
        format!("{sign}{whole}{point}{fraction}")
    }

    /// `big * 2^exponent` to the nearest mantissa, ties to even; `sticky`: there was more behind the last bit.
    fn round(negative: bool, big: Big, exponent: i64, sticky: bool) -> Option<LongDouble> {
        let bits = big.bits();
        if bits == 0 {
            return Some(LongDouble { negative: false, mantissa: 0, exponent: 0 });
        }
        let dropped = i64::from(bits) - 64;
        if dropped <= 0 {
            let mantissa = big.low_word() << -dropped;
            return LongDouble { negative, mantissa, exponent: exponent + dropped }.checked();
        }
        let rounded = big.shifted_right(dropped as u32, sticky);
        let carried = i64::from(rounded.bits()) - 64;
        let mantissa = if carried > 0 { 1 << 63 } else { rounded.low_word() };
        LongDouble { negative, mantissa, exponent: exponent + dropped + carried }.checked()
    }

    /// A quotient, rounded once: 66 bits of it by long division, and whether there is a rest.
    fn divide(negative: bool, dividend: Big, divisor: Big) -> Option<LongDouble> {
        const BITS: i64 = 66;
        if dividend.bits() == 0 {
            return LongDouble::round(false, dividend, 0, false);
        }
        let shift = BITS + i64::from(divisor.bits()) - i64::from(dividend.bits());
        let (mut rest, divisor) = match shift {
            0.. => (dividend.shifted_left(shift as u32), divisor),
            _ => (dividend, divisor.shifted_left(shift.unsigned_abs() as u32)),
        };
        let mut quotient = Big::from(0);
        for place in (0..=BITS as u32).rev() {
            let part = divisor.shifted_left(place);
            if rest.compare(&part).is_ge() {
                rest = rest.minus(&part);
                quotient = quotient.plus(&Big::from(1).shifted_left(place));
            }
        }
        LongDouble::round(negative, quotient, -shift, rest.bits() > 0)
    }

    fn checked(self) -> Option<LongDouble> {
        let top = self.exponent + 64;
        (EXPONENT_MIN < top && top <= EXPONENT_MAX).then_some(self)
    }
}

/// Digits and the power of ten they are multiplied by.
fn decimal(text: &[u8]) -> Option<(Big, i32)> {
    let end = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let exponent = match &text[end..] {
        [] => 0,
        [_, exponent @ ..] => exponent_of(exponent)?,
    };
    let mantissa = &text[..end];
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let places = point.map_or(0, |point| mantissa.len() - point - 1);
    let mut digits = mantissa.to_vec();
    point.map(|point| digits.remove(point));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.chunks(9).fold(Big::from(0), |big, group| {
        let number = group.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        big.times_small(10u32.pow(group.len() as u32), number)
    });
    // `places` is below `TEXT_BYTES_MAX`, the exponent below its own bound.
    Some((value, exponent - places as i32))
}

/// An exponent; far beyond any number's range it is cut, which changes nothing.
fn exponent_of(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fold = |sum: i32, digit: &u8| (sum * 10 + i32::from(digit - b'0')).min(20_000);
    let magnitude = digits.iter().fold(0, fold);
    Some(if negative { -magnitude } else { magnitude })
}

/// Whether the mantissa has a digit other than 0.
fn has_digit(text: &[u8]) -> bool {
    let mantissa = text.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A natural number of any size: 32-bit words, lowest first, the last one not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Big(Vec<u32>);

impl Big {
    fn from(value: u64) -> Big {
        Big(vec![value as u32, (value >> 32) as u32]).trimmed()
    }

    fn trimmed(mut self) -> Big {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn bits(&self) -> u32 {
        self.0.last().map_or(0, |top| self.0.len() as u32 * 32 - top.leading_zeros())
    }

    /// The lowest 64 bits.
    fn low_word(&self) -> u64 {
        let word = |index: usize| u64::from(self.0.get(index).copied().unwrap_or(0));
        word(0) | word(1) << 32
    }

    fn times_small(mut self, factor: u32, add: u32) -> Big {
        let mut carry = u64::from(add);
        for word in &mut self.0 {
            carry += u64::from(*word) * u64::from(factor);
            *word = carry as u32;
            carry >>= 32;
        }
        self.0.push(carry as u32);
        self.trimmed()
    }

    fn times_power_of_ten(self, power: u32) -> Big {
        let nines = (0..power / 9).fold(self, |big, _| big.times_small(1_000_000_000, 0));
        nines.times_small(10u32.pow(power % 9), 0)
    }

    fn shifted_left(&self, bits: u32) -> Big {
        let mut words = vec![0; (bits / 32) as usize];
        let mut carry = 0;
        for word in &self.0 {
            let wide = u64::from(*word) << (bits % 32) | carry;
            words.push(wide as u32);
            carry = wide >> 32;
        }
        words.push(carry as u32);
        Big(words).trimmed()
    }

    /// Divided by a power of two, to the nearest, ties to even. `sticky`: there was more behind the last bit.
    fn shifted_right(&self, bits: u32, sticky: bool) -> Big {
        if bits == 0 {
            return self.clone();
        }
        let skipped = self.0.len().min((bits / 32) as usize);
        let (below, words) = self.0.split_at(skipped);
        let next = words.iter().skip(1).chain([&0]);
        let pairs =
            words.iter().zip(next).map(|(low, high)| u64::from(*low) | u64::from(*high) << 32);
        let kept = Big(pairs.map(|pair| (pair >> (bits % 32)) as u32).collect()).trimmed();
        let half = bits - 1;
        let half_word = self.0.get((half / 32) as usize).copied().unwrap_or(0);
        let first_cut = words.first().map_or(0, |word| word & ((1 << (bits % 32)) - 1));
        let cut_below_half = match bits % 32 {
            0 => {
                let (last, rest) = below.split_last().unwrap_or((&0, &[]));
                last & !(1 << 31) != 0 || rest.iter().any(|word| *word != 0)
            }
            rest => first_cut & !(1 << (rest - 1)) != 0 || below.iter().any(|word| *word != 0),
        };
        let is_half = half_word >> (half % 32) & 1 == 1;
        let up = is_half && (sticky || cut_below_half || kept.low_word() & 1 == 1);
        if up { kept.plus(&Big::from(1)) } else { kept }
    }

    fn plus(&self, other: &Big) -> Big {
        let len = self.0.len().max(other.0.len());
        let word = |big: &Big, index: usize| u64::from(big.0.get(index).copied().unwrap_or(0));
        let mut words = Vec::with_capacity(len + 1);
        let mut carry = 0;
        for index in 0..len {
            carry += word(self, index) + word(other, index);
            words.push(carry as u32);
            carry >>= 32;
        }
        words.push(carry as u32);
        Big(words).trimmed()
    }

    /// The difference; `other` isn't larger.
    fn minus(&self, other: &Big) -> Big {
        let mut borrow = false;
        let words = self.0.iter().enumerate().map(|(index, word)| {
            let (value, first) = word.overflowing_sub(other.0.get(index).copied().unwrap_or(0));
            let (value, second) = value.overflowing_sub(u32::from(borrow));
            borrow = first || second;
            value
        });
        Big(words.collect()).trimmed()
    }

    fn compare(&self, other: &Big) -> std::cmp::Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    fn decimal(mut self) -> String {
        let mut groups = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0;
            for word in self.0.iter_mut().rev() {
                let wide = rest << 32 | u64::from(*word);
                *word = (wide / 1_000_000_000) as u32;
                rest = wide % 1_000_000_000;
            }
            groups.push(rest);
            self = self.trimmed();
        }
        let Some(top) = groups.pop() else { return "0".to_owned() };
        groups.iter().rev().fold(top.to_string(), |text, group| format!("{text}{group:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finite(text: &str) -> LongDouble {
        match LongDouble::parse(text.as_bytes()) {
            Some(Parsed::Finite(value)) => value,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Checked against C: `long double a = strtold(..), b = strtold(..); printf("%.17Lf", a + b)`, zeros trimmed.
    #[test]
    fn sums_print_as_redis_prints_them() {
        for (left, right, sum) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3.0", "1.1", "4.1"),
            ("0", "0.1", "0.1"),
            ("-0.1", "0.1", "0"),
            ("1", "-1.000000000000000001", "0"),
            ("0.1", "0.2", "0.3"),
            ("1e17", "0.5", "100000000000000000.5"),
            ("1e20", "0.1", "100000000000000000000"),
            ("-3", "0.25", "-2.75"),
            ("1e-17", "0", "0.00000000000000001"),
            ("9007199254740993", "0", "9007199254740993"),
            ("1e30", "0", "1000000000000000000024696061952"),
            ("18446744073709551615", "1", "18446744073709551616"),
        ] {
            let text = finite(left).checked_add(finite(right)).expect("finite").text();
            assert_eq!(text, sum, "{left} + {right}");
        }
    }

    #[test]
    fn only_whole_numbers_are_read() {
        for text in [
            "", "-", ".", "e5", "1e", "1 ", " 1", "0x10", "nan", "1..2", "1e99999", "1e-9999",
            "--1",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["inf", "-INF", "+infinity"] {
            assert_eq!(LongDouble::parse(text.as_bytes()), Some(Parsed::Infinite));
        }
        for text in ["0", "-0.0", "0e99999", "1e4932", "+.5", "5."] {
            assert!(
                matches!(LongDouble::parse(text.as_bytes()), Some(Parsed::Finite(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_sum_beyond_the_range_is_refused() {
        let large = finite("1.1e4932");
        assert_eq!(large.checked_add(large), None);
    }
}
