//! Requests: arrays of byte strings, or inline lines; parsed into places in the buffer, nothing copied.
//!
//! A whole, well-formed array takes the fast path: one pass, numbers read by hand. All else, including every half
//! command, takes the careful path, which remembers where it was: a large argument that arrives in pieces isn't
//! scanned again. Both accept exactly what Redis's `processMultibulkBuffer` and `processInlineBuffer` accept, with one
//! difference: a zero byte in a length's line is an error at once, where C's `strchr` waits for more.

use std::fmt;

use memchr::{memchr, memchr2};

use super::{Span, inline, strict_integer};
use crate::limits::{
    RESP_BULK_BYTES_MAX, RESP_LINE_BYTES_MAX, RESP_REQUEST_BYTES_MAX,
    RESP_UNAUTHENTICATED_ARGUMENTS_MAX, RESP_UNAUTHENTICATED_BULK_BYTES_MAX,
};

/// Spans that a parser keeps room for between half commands.
const PARTIAL_SPANS_KEPT: usize = 1024;

/// The state of one connection's request stream; small, and empty between commands.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// The peer hasn't authenticated: stricter limits.
    pub unauthenticated: bool,
    /// Arguments of the half command still to come; 0 when its first line isn't read yet.
    left: u32,
    /// Offset of the next byte to read, from the command's first byte.
    position: usize,
    /// Bytes from `position` on that hold no line end.
    searched: usize,
    /// Length of the argument at `position`, once its line is read.
    bulk: Option<usize>,
    /// The half command's arguments so far.
    partial: Vec<Span>,
    /// The words of the last inline command that had quotes.
    rewritten: Vec<u8>,
}

/// What the bytes held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A command; its arguments were appended to `spans`.
    Command {
        /// Its length in bytes.
        consumed: usize,
        /// The spans are places in [`RequestParser::rewritten`], not in the bytes.
        rewritten: bool,
    },
    /// Nothing to execute: an empty line, `*0`, `*-1`.
    Skip {
        /// Its length in bytes.
        consumed: usize,
    },
    /// Part of a command. Call again with the same bytes and more behind them.
    Incomplete,
}

/// What the peer did wrong; it gets this as an error and its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A line without an end.
    TooBigInline,
    /// A quote without its partner.
    UnbalancedQuotes,
    /// `*` with something that is no count.
    InvalidMultibulkLength,
    /// More arguments than a stranger may send.
    UnauthenticatedMultibulkLength,
    /// `*` with a line without an end.
    TooBigMultibulkCount,
    /// Something else where `$` had to stand.
    ExpectedDollar(u8),
    /// `$` with something that is no length, or too long.
    InvalidBulkLength,
    /// A longer argument than a stranger may send.
    UnauthenticatedBulkLength,
    /// `$` with a line without an end.
    TooBigBulkCount,
    /// All arguments together are too long; Redis closes without a word there.
    TooBigRequest,
}

impl RequestParser {
    /// Reads one command from `bytes`, which start at the first unconsumed byte, and appends its arguments to `spans`.
    ///
    /// After an error the stream is lost: answer it and close.
    pub fn parse(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
        let first = spans.len();
        if self.position == 0 && self.searched == 0 && !self.unauthenticated {
            if let Some(consumed) = well_formed(bytes, spans) {
                return Ok(Parsed::Command { consumed, rewritten: false });
            }
            spans.truncate(first);
        }
        let parsed = match bytes.first() {
            None => Ok(Parsed::Incomplete),
            Some(b'*') => self.multibulk(bytes, spans),
            Some(_) => self.inline(bytes, spans),
        };
        if !matches!(parsed, Ok(Parsed::Incomplete)) {
            self.restart();
        }
        parsed
    }

    /// The words of the last command whose `rewritten` was true.
    pub fn rewritten(&self) -> &[u8] {
        &self.rewritten
    }

    /// Whether a command has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.position > 0 || self.searched > 0
    }

    /// How long the buffer must at least become for the half command at its start, as far as known: room to reserve.
    pub fn bytes_expected(&self) -> usize {
        self.position + self.bulk.map_or(0, |len| len + 2)
    }

    fn restart(&mut self) {
        self.left = 0;
        self.position = 0;
        self.searched = 0;
        self.bulk = None;
        self.partial.clear();
        self.partial.shrink_to(PARTIAL_SPANS_KEPT);
    }

    fn multibulk(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
        if self.left == 0 {
            let Some(end) = self.line_end(bytes, b'\r', ProtocolError::TooBigMultibulkCount)?
            else {
                return Ok(Parsed::Incomplete);
            };
            let count = strict_integer(&bytes[1..end])
                .filter(|count| *count <= i64::from(i32::MAX))
                .ok_or(ProtocolError::InvalidMultibulkLength)?;
            if self.unauthenticated && count > RESP_UNAUTHENTICATED_ARGUMENTS_MAX as i64 {
                return Err(ProtocolError::UnauthenticatedMultibulkLength);
            }
            self.advance(end + 2);
            if count <= 0 {
                return Ok(Parsed::Skip { consumed: end + 2 });
            }
            self.left = count as u32;
        }
        while self.left > 0 {
            if !self.argument(bytes)? {
                return Ok(Parsed::Incomplete);
            }
        }
        spans.extend_from_slice(&self.partial);
        Ok(Parsed::Command { consumed: self.position, rewritten: false })
    }

    /// Reads one argument into `partial`; false if it isn't all there.
    fn argument(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        let len = match self.bulk {
            Some(len) => len,
            None => match self.bulk_line(bytes)? {
                Some(len) => len,
                None => return Ok(false),
            },
        };
        if bytes.len() < self.position + len + 2 {
            return Ok(false);
        }
        self.partial.push(Span { start: self.position as u32, len: len as u32 });
        self.bulk = None;
        self.left -= 1;
        self.advance(self.position + len + 2);
        Ok(true)
    }

    /// Reads `$LENGTH`.
    fn bulk_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(end) = self.line_end(bytes, b'\r', ProtocolError::TooBigBulkCount)? else {
            return Ok(None);
        };
        if bytes[self.position] != b'$' {
            return Err(ProtocolError::ExpectedDollar(bytes[self.position]));
        }
        // An empty line has its `\r` where `$` should stand, so there is a byte before `end` here.
        let len = strict_integer(&bytes[self.position + 1..end])
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len <= RESP_BULK_BYTES_MAX)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if self.unauthenticated && len > RESP_UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        if end + 2 + len > RESP_REQUEST_BYTES_MAX {
            return Err(ProtocolError::TooBigRequest);
        }
        self.advance(end + 2);
        self.bulk = Some(len);
        Ok(self.bulk)
    }

    fn inline(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
        let Some(end) = self.line_end(bytes, b'\n', ProtocolError::TooBigInline)? else {
            return Ok(Parsed::Incomplete);
        };
        let line = &bytes[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let consumed = end + 1;
        let first = spans.len();
        let rewritten = memchr2(b'"', b'\'', line).is_some();
        if rewritten {
            inline::split_quoted(line, &mut self.rewritten, spans)
                .map_err(|_| ProtocolError::UnbalancedQuotes)?;
        } else {
            inline::split_plain(line, 0, spans);
        }
        Ok(if spans.len() == first {
            Parsed::Skip { consumed }
        } else {
            Parsed::Command { consumed, rewritten }
        })
    }

    /// Where the line that starts at `position` ends: the offset of `end`. For `\r` one byte must follow.
    fn line_end(
        &mut self,
        bytes: &[u8],
        end: u8,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let limit = bytes.len().min(self.position + RESP_LINE_BYTES_MAX + 1);
        let from = (self.position + self.searched).min(limit);
        let Some(found) = memchr(end, &bytes[from..limit]).map(|found| from + found) else {
            if bytes.len() - self.position > RESP_LINE_BYTES_MAX {
                return Err(too_long);
            }
            self.searched = limit - self.position;
            return Ok(None);
        };
        self.searched = found - self.position;
        Ok((end != b'\r' || found + 1 < bytes.len()).then_some(found))
    }

    fn advance(&mut self, position: usize) {
        self.position = position;
        self.searched = 0;
    }
}

/// The fast path: the length of a whole, well-formed array at the start of `bytes`. Nothing is said about why not.
fn well_formed(bytes: &[u8], spans: &mut Vec<Span>) -> Option<usize> {
    if *bytes.first()? != b'*' {
        return None;
    }
    let (count, mut at) = number_line(bytes, 1)?;
    if count == 0 {
        return None;
    }
    for _ in 0..count {
        if *bytes.get(at)? != b'$' {
            return None;
        }
        let (len, start) = number_line(bytes, at + 1)?;
        at = start + len + 2;
        if at > bytes.len() || len > RESP_BULK_BYTES_MAX || at > RESP_REQUEST_BYTES_MAX {
            return None;
        }
        spans.push(Span { start: start as u32, len: len as u32 });
    }
    Some(at)
}

/// A number of up to nine digits without leading zeros and its `\r` and one byte more, from `at`: the number and the
/// offset behind it.
#[inline(always)]
fn number_line(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    // Nearly all have one digit or two.
    if let Some(&[first, second, third, _]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let (first, digit) = (first.wrapping_sub(b'0'), second.wrapping_sub(b'0'));
        if second == b'\r' && first <= 9 {
            return Some((usize::from(first), at + 3));
        }
        if third == b'\r' && digit <= 9 && (1..=9).contains(&first) {
            return Some((usize::from(first) * 10 + usize::from(digit), at + 4));
        }
    }
    any_number_line(bytes, at)
}

#[inline(never)]
fn any_number_line(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = bytes.get(at)?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = usize::from(first);
    for offset in 1..10 {
        let byte = *bytes.get(at + offset)?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let whole = byte == b'\r' && at + offset + 1 < bytes.len();
            return whole.then_some((value, at + offset + 2));
        }
        if value == 0 {
            return None;
        }
        value = value * 10 + usize::from(digit);
    }
    None
}

impl ProtocolError {
    /// Appends the error reply.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("-ERR Protocol error: {self}\r\n").as_bytes());
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProtocolError::TooBigInline => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::InvalidMultibulkLength => "invalid multibulk length",
            ProtocolError::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            ProtocolError::TooBigMultibulkCount => "too big mbulk count string",
            ProtocolError::InvalidBulkLength => "invalid bulk length",
            ProtocolError::UnauthenticatedBulkLength => "unauthenticated bulk length",
            ProtocolError::TooBigBulkCount => "too big bulk count string",
            ProtocolError::TooBigRequest => "too big request",
            ProtocolError::ExpectedDollar(got) => {
                let shown = if matches!(got, b'\r' | b'\n') { ' ' } else { char::from(*got) };
                return write!(f, "expected '$', got '{shown}'");
            }
        })
    }
}

#[cfg(test)]
mod tests;
