//! Writes replies in RESP2 or RESP3 straight into a connection's outgoing bytes; no value tree in between.
//!
//! Shapes that differ between the protocols (maps, sets, doubles, nulls, pushes) are chosen here, so that a command
//! says what it means once. Source: the RESP specification and Redis 7.4's `networking.c`.

/// A reply under construction.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    resp3: bool,
}

impl<'a> Reply<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, resp3: bool) -> Reply<'a> {
        Reply { out, resp3 }
    }

    /// The same reply for someone else to write on.
    pub fn reborrow(&mut self) -> Reply<'_> {
        Reply { out: self.out, resp3: self.resp3 }
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// Changes the protocol for the rest of this reply (HELLO).
    pub fn set_resp3(&mut self, resp3: bool) {
        self.resp3 = resp3;
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status line; `text` has no line end.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// A status line of any bytes; line ends inside become spaces.
    pub fn status(&mut self, text: &[u8]) {
        self.out.push(b'+');
        self.out.extend(text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer of any length by its digits; a byte string in RESP2.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.resp3 {
            self.out.push(b'(');
        } else {
            self.header(b'$', digits.len() as i64);
        }
        self.out.extend(digits.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        self.out.extend_from_slice(b"\r\n");
    }

    /// An error line with its code first (`ERR ...`, `WRONGTYPE ...`). Line ends inside become spaces, at the end they
    /// are cut off.
    pub fn error(&mut self, mut text: &[u8]) {
        while let [rest @ .., b'\r' | b'\n'] = text {
            text = rest;
        }
        self.out.push(b'-');
        self.out.extend(text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        self.out.extend_from_slice(b"\r\n");
    }

    /// `:N`
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// A byte string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a byte string.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut text = itoa::Buffer::new();
        self.bulk(text.format(value).as_bytes());
    }

    /// No value where a byte string would stand.
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No value where an array would stand.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// Starts an array of `len` items, which the caller then writes.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// Starts a map of `pairs` keys and values; a flat array in RESP2.
    pub fn map(&mut self, pairs: usize) {
        if self.resp3 {
            self.header(b'%', pairs as i64);
        } else {
            self.header(b'*', pairs as i64 * 2);
        }
    }

    /// Starts a set of `len` items; an array in RESP2.
    pub fn set(&mut self, len: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, len as i64);
    }

    /// Starts an out-of-band message of `len` items; an array in RESP2.
    pub fn push(&mut self, len: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, len as i64);
    }

    /// A boolean; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        if self.resp3 {
            self.out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.integer(i64::from(value));
        }
    }

    /// A double; its text as a byte string in RESP2.
    pub fn double(&mut self, value: f64) {
        match whole(value) {
            Some(integer) if self.resp3 => return self.header(b',', integer),
            Some(integer) => return self.bulk_integer(integer),
            None => {}
        }
        self.double_text(&format_double(value));
    }

    /// A double in a text of its own; a byte string in RESP2.
    pub fn double_text(&mut self, text: &str) {
        if self.resp3 {
            self.out.push(b',');
            self.out.extend_from_slice(text.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// Text with a three-letter format in RESP3 (`txt`, `mkd`), a byte string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4);
        self.out.extend_from_slice(format.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Bytes that are RESP already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A place to come back to with [`Reply::rewind`] or [`Reply::splice`].
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// What was written after `mark`.
    pub fn written_since(&self, mark: usize) -> &[u8] {
        &self.out[mark..]
    }

    /// Forgets all that was written after `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    /// Writes an array header for `len` items in front of what was written after `mark`, for when the length is known last.
    pub fn array_at(&mut self, mark: usize, len: usize) {
        let tail = self.out.split_off(mark);
        self.array(len);
        self.out.extend_from_slice(&tail);
    }

    /// Puts what `write` writes in front of what was written after `mark`.
    pub fn prefix(&mut self, mark: usize, write: impl FnOnce(&mut Reply<'_>)) {
        let tail = self.out.split_off(mark);
        write(self);
        self.out.extend_from_slice(&tail);
    }

    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        // Short ones, nearly all, are put together in one word: kind, up to three digits, line end.
        let line = match value {
            0..10 => [kind, b'0' + value as u8, b'\r', b'\n', 0, 0],
            10..100 => {
                [kind, b'0' + (value / 10) as u8, b'0' + (value % 10) as u8, b'\r', b'\n', 0]
            }
            100..1000 => {
                let (high, low) = (value / 100, value % 100);
                let digits = [high, low / 10, low % 10].map(|digit| b'0' + digit as u8);
                [kind, digits[0], digits[1], digits[2], b'\r', b'\n']
            }
            _ => return self.long_header(kind, value),
        };
        let unused = usize::from(value < 10) + usize::from(value < 100);
        self.out.extend_from_slice(&line);
        self.out.truncate(self.out.len() - unused);
    }

    fn long_header(&mut self, kind: u8, value: i64) {
        let mut text = itoa::Buffer::new();
        self.out.push(kind);
        self.out.extend_from_slice(text.format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

/// A double as Redis 7.4 prints scores (`d2string`, `fpconv_dtoa`): whole numbers as integers, else the shortest digits
/// that read back equal, with an exponent where there would be many zeros or decimals; `inf`, `-inf`, `nan`.
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    match whole(value) {
        Some(integer) => integer.to_string(),
        None if value == 0.0 => "-0".to_owned(),
        None => shortest(value),
    }
}

/// The integer that a double is, if Redis prints it as one.
fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = (i64::MAX / 2) as f64;
    let negative_zero = value == 0.0 && value.is_sign_negative();
    (value == value.trunc() && value.abs() <= LIMIT && !negative_zero).then_some(value as i64)
}

fn shortest(value: f64) -> String {
    // The most digits that stand before an exponent; a sign takes one's place.
    const DIGITS_MAX: usize = 18;
    let sign = if value < 0.0 { "-" } else { "" };
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let digits = mantissa.replace('.', "");
    let count = digits.len() as i32;
    // The value is `digits * 10^scale`.
    let scale = exponent - count + 1;
    if scale >= 0 && exponent < count + 7 {
        return format!("{sign}{digits}{}", "0".repeat(scale as usize));
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        return match count + scale {
            point @ 1.. => {
                let (integer, fraction) = digits.split_at(point as usize);
                format!("{sign}{integer}.{fraction}")
            }
            zeros => format!("{sign}0.{}{digits}", "0".repeat(zeros.unsigned_abs() as usize)),
        };
    }
    let (first, rest) = digits.split_at(1);
    let rest = &rest[..rest.len().min(DIGITS_MAX - 1 - sign.len())];
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}e{exponent:+}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_read_as_redis_prints_them() {
        for (value, text) in [
            (0.1, "0.1"),
            (3.0, "3"),
            (-0.0, "-0"),
            (1e30, "1e+30"),
            (1.5e-7, "1.5e-7"),
            (1e18, "1000000000000000000"),
            (-1e19, "-1e+19"),
            (123e19, "1.23e+21"),
            (0.00001, "0.00001"),
            (-0.000012, "-0.000012"),
            (0.0000012345, "1.2345e-6"),
            (3.25, "3.25"),
            (-1234.5678, "-1234.5678"),
            (123.456789012, "123.456789012"),
            (12345.678901234, "1.2345678901234e+4"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }

    #[test]
    fn numbers_of_every_length() {
        for value in [0, 9, 10, 99, 100, 999, 1000, 123_456, -1, -10, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            Reply::new(&mut out, false).integer(value);
            assert_eq!(out, format!(":{value}\r\n").as_bytes());
        }
    }

    #[test]
    fn shapes_follow_the_protocol() {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, true);
        reply.map(1);
        reply.null();
        reply.boolean(true);
        assert_eq!(out, b"%1\r\n_\r\n#t\r\n");
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, false);
        reply.map(1);
        reply.null();
        reply.boolean(true);
        assert_eq!(out, b"*2\r\n$-1\r\n:1\r\n");
    }
}
