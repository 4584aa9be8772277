//! The head of a message: where it ends, and its fields.
//!
//! [`HeadScan`] finds the end while bytes come in, refusing wrong line ends and too long lines at once; the fields are
//! read when the head is whole. Must not know what the fields mean.

use super::{is_token, is_value};
use crate::limits::{HTTP_FIELDS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_LINE_BYTES_MAX};

/// A piece of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub start: u32,
    /// How many bytes.
    pub len: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: (end - start) as u32 }
    }

    /// Its bytes in the head that it was found in.
    pub fn of(self, head: &[u8]) -> &[u8] {
        &head[self.start as usize..(self.start + self.len) as usize]
    }
}

/// A field line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// As it was sent: letters of both cases.
    pub name: Span,
    /// Without the blanks around it.
    pub value: Span,
}

/// Why a head can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// A line that doesn't end with CRLF, a name that is none, a byte that may not be there.
    Malformed,
    /// The first line is too long.
    FirstLineTooLong,
    /// Another line, all of them together or their number is beyond the limits.
    TooLarge,
}

/// Empty lines before a request that are skipped (RFC 9112 section 2.2): what old clients send behind a body.
const EMPTY_LINES_MAX: u8 = 2;

/// How far the search for a head's end has come. Starts with the message's first byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes that were looked at.
    scanned: u32,
    /// Where the line begins that isn't complete yet.
    line_start: u32,
    /// Empty lines before the first line.
    empty_lines: u8,
    /// The first line is complete.
    in_fields: bool,
}

impl HeadScan {
    /// Where the head begins and ends in `bytes`, which are all bytes since the message's first; nothing if the end
    /// hasn't come.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, HeadError> {
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.scanned as usize..]) {
            let newline = self.scanned as usize + at;
            let line = &bytes[self.line_start as usize..newline];
            let Some((b'\r', line)) = line.split_last() else { return Err(HeadError::Malformed) };
            self.check_length(line.len(), newline)?;
            (self.scanned, self.line_start) = (newline as u32 + 1, newline as u32 + 1);
            if !line.is_empty() {
                self.in_fields = true;
            } else if self.in_fields {
                let start = 2 * usize::from(self.empty_lines);
                return Ok(Some((start, newline + 1)));
            } else {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES_MAX {
                    return Err(HeadError::Malformed);
                }
            }
        }
        self.scanned = bytes.len() as u32;
        self.check_length(bytes.len() - self.line_start as usize, bytes.len())?;
        Ok(None)
    }

    fn check_length(&self, line: usize, head: usize) -> Result<(), HeadError> {
        if line > HTTP_LINE_BYTES_MAX {
            let first = !self.in_fields;
            return Err(if first { HeadError::FirstLineTooLong } else { HeadError::TooLarge });
        }
        if head > HTTP_HEAD_BYTES_MAX { Err(HeadError::TooLarge) } else { Ok(()) }
    }

    /// Whether some of a head has come.
    pub fn has_begun(&self) -> bool {
        self.scanned > 0
    }
}

/// The end of the line that begins at `start`, without its CRLF; the head is whole, so there is one.
pub(super) fn line_end(head: &[u8], start: usize) -> Result<usize, HeadError> {
    let newline = memchr::memchr(b'\n', &head[start..]).ok_or(HeadError::Malformed)? + start;
    Ok(newline - 1)
}

/// Reads the field lines from `start` to the head's end, and shows each as it comes: name and value.
pub(super) fn read_fields<E: From<HeadError>>(
    head: &[u8],
    mut start: usize,
    fields: &mut Vec<Field>,
    mut see: impl FnMut(&[u8], &[u8], Span) -> Result<(), E>,
) -> Result<(), E> {
    fields.clear();
    while start + 2 < head.len() {
        let end = line_end(head, start)?;
        let field = read_field(head, start, end)?;
        if fields.len() == HTTP_FIELDS_MAX {
            return Err(HeadError::TooLarge.into());
        }
        fields.push(field);
        see(field.name.of(head), field.value.of(head), field.value)?;
        start = end + 2;
    }
    Ok(())
}

fn read_field(head: &[u8], start: usize, end: usize) -> Result<Field, HeadError> {
    let name = head[start..end].iter().take_while(|byte| is_token(**byte)).count();
    let colon = start + name;
    if name == 0 || head[colon] != b':' {
        return Err(HeadError::Malformed);
    }
    let mut value = colon + 1..end;
    while value.start < value.end && is_blank(head[value.start]) {
        value.start += 1;
    }
    while value.end > value.start && is_blank(head[value.end - 1]) {
        value.end -= 1;
    }
    if !head[value.clone()].iter().all(|byte| is_value(*byte)) {
        return Err(HeadError::Malformed);
    }
    Ok(Field { name: Span::new(start, colon), value: Span::new(value.start, value.end) })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The members of a list field (RFC 9110 section 5.6.1), without the blanks around them.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// What framing and connection fields say; the same for requests and responses.
#[derive(Default)]
pub(super) struct Framing {
    pub(super) content_length: Option<u64>,
    pub(super) transfer_encoding: TransferEncoding,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// `Connection` names `Upgrade`.
    pub(super) connection_upgrade: bool,
    /// There is an `Upgrade` field.
    pub(super) upgrade: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum TransferEncoding {
    #[default]
    None,
    Chunked,
    /// A coding that isn't spoken here.
    Other,
}

impl Framing {
    /// Takes a field in. An error: its value is wrong, or it is there twice.
    pub(super) fn see(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.see_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.content_length.is_some() {
                    return Err(HeadError::Malformed);
                }
                self.content_length = Some(read_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.transfer_encoding != TransferEncoding::None {
                    return Err(HeadError::Malformed);
                }
                self.transfer_encoding = read_coding(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn see_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            match option.len() {
                5 => self.close |= option.eq_ignore_ascii_case(b"close"),
                7 => self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade"),
                10 => self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive"),
                _ => {}
            }
        }
    }
}

/// Digits only, and no more than 63 bits can count.
fn read_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Malformed);
    }
    let length = value.iter().fold(0u64, |length, byte| length * 10 + u64::from(byte - b'0'));
    if length > i64::MAX as u64 { Err(HeadError::Malformed) } else { Ok(length) }
}

/// Exactly `chunked`; another coding's name is one that isn't spoken, anything else is an attempt to confuse.
fn read_coding(value: &[u8]) -> Result<TransferEncoding, HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(TransferEncoding::Chunked);
    }
    let before = value.strip_suffix(b", chunked").unwrap_or(value);
    let is_name = !before.is_empty() && before.iter().all(|byte| is_token(*byte));
    if is_name && !before.windows(7).any(|part| part.eq_ignore_ascii_case(b"chunked")) {
        return Ok(TransferEncoding::Other);
    }
    Err(HeadError::Malformed)
}
