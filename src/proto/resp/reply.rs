//! Reads replies of RESP2 and RESP3 into values: for scripts, proxies and tests, not for the hot path.
//!
//! Incremental: the reader remembers the finished parts of a half reply. Depth and size are bounded, whatever the peer
//! sends. Attributes are read and dropped; streamed strings and aggregates (`$?`, `*?`) are refused, no server sends them.

use memchr::memchr;

use super::strict_integer;
use crate::limits::{RESP_LINE_BYTES_MAX, RESP_REPLY_BYTES_MAX, RESP_REPLY_DEPTH_MAX};

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`
    Simple(Vec<u8>),
    /// `-` and `!`
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `_`, and RESP2's `$-1` and `*-1`
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`, out of band
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `(`, its digits
    BigNumber(Vec<u8>),
    /// `=`
    Verbatim {
        /// Three letters, `txt` or `mkd`.
        format: [u8; 3],
        /// The text behind the colon.
        text: Vec<u8>,
    },
}

/// Why a stream of replies can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not a type of RESP.
    UnknownType(u8),
    /// A length, number or line that isn't well-formed.
    Malformed,
    /// Values inside values beyond the limit.
    TooDeep,
    /// Longer than the limit.
    TooLong,
}

/// The state of one stream of replies.
#[derive(Debug, Default)]
pub struct ReplyReader {
    open: Vec<Aggregate>,
    /// Offset of the next byte to read, from the reply's first byte.
    position: usize,
}

/// An array, map, set, push or attribute whose items aren't all there.
#[derive(Debug)]
struct Aggregate {
    kind: u8,
    left: u64,
    items: Vec<Value>,
}

/// The start of an item: a whole value, or an aggregate of so many values.
enum Item {
    Value(Value),
    Open { kind: u8, count: u64 },
}

impl ReplyReader {
    /// Reads one reply from `bytes`, which start at the first unconsumed byte: the value and its length in bytes, or
    /// nothing if it isn't all there (call again with the same bytes and more behind them).
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
        loop {
            let Some((item, end)) = item(bytes, self.position)? else {
                return Ok(None);
            };
            if end > RESP_REPLY_BYTES_MAX {
                return Err(ReplyError::TooLong);
            }
            self.position = end;
            let finished = match item {
                Item::Value(value) => self.place(value),
                Item::Open { kind, count } => self.open(kind, count)?,
            };
            if let Some(value) = finished {
                self.position = 0;
                return Ok(Some((value, end)));
            }
        }
    }

    fn open(&mut self, kind: u8, count: u64) -> Result<Option<Value>, ReplyError> {
        if self.open.len() == RESP_REPLY_DEPTH_MAX {
            return Err(ReplyError::TooDeep);
        }
        self.open.push(Aggregate { kind, left: count, items: Vec::new() });
        Ok(self.close_full())
    }

    /// Puts a value where it belongs; gives it back if it is the reply itself or completes it.
    fn place(&mut self, value: Value) -> Option<Value> {
        match self.open.last_mut() {
            None => return Some(value),
            Some(parent) => {
                parent.items.push(value);
                parent.left -= 1;
            }
        }
        self.close_full()
    }

    /// Turns aggregates that have all their items into values.
    fn close_full(&mut self) -> Option<Value> {
        while self.open.last().is_some_and(|aggregate| aggregate.left == 0) {
            let aggregate = self.open.pop()?;
            let Some(value) = aggregate.into_value() else {
                // An attribute: what it describes follows.
                return None;
            };
            match self.open.last_mut() {
                None => return Some(value),
                Some(parent) => {
                    parent.items.push(value);
                    parent.left -= 1;
                }
            }
        }
        None
    }
}

impl Aggregate {
    fn into_value(self) -> Option<Value> {
        match self.kind {
            b'*' => Some(Value::Array(self.items)),
            b'~' => Some(Value::Set(self.items)),
            b'>' => Some(Value::Push(self.items)),
            b'%' => {
                let mut pairs = Vec::with_capacity(self.items.len() / 2);
                let mut items = self.items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Some(Value::Map(pairs))
            }
            _ => None,
        }
    }
}

/// The item at `at` and the offset behind it, if it is all there.
fn item(bytes: &[u8], at: usize) -> Result<Option<(Item, usize)>, ReplyError> {
    let rest = &bytes[at.min(bytes.len())..];
    let Some(kind) = rest.first().copied() else {
        return Ok(None);
    };
    let lengths = matches!(kind, b'$' | b'!' | b'=');
    let aggregates = matches!(kind, b'*' | b'~' | b'>' | b'%' | b'|');
    if !lengths && !aggregates && !matches!(kind, b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(') {
        return Err(ReplyError::UnknownType(kind));
    }
    let Some(end) = memchr(b'\r', rest).filter(|end| end + 1 < rest.len()) else {
        return if rest.len() > RESP_LINE_BYTES_MAX { Err(ReplyError::TooLong) } else { Ok(None) };
    };
    if rest[end + 1] != b'\n' {
        return Err(ReplyError::Malformed);
    }
    let (line, next) = (&rest[1..end], at + end + 2);
    if lengths {
        return string(kind, line, bytes, next);
    }
    let item = if aggregates { aggregate(kind, line)? } else { Item::Value(scalar(kind, line)?) };
    Ok(Some((item, next)))
}

fn aggregate(kind: u8, line: &[u8]) -> Result<Item, ReplyError> {
    let count = strict_integer(line).ok_or(ReplyError::Malformed)?;
    if count == -1 && kind == b'*' {
        return Ok(Item::Value(Value::Null));
    }
    let count = u64::try_from(count).map_err(|_| ReplyError::Malformed)?;
    let values = if matches!(kind, b'%' | b'|') { count.checked_mul(2) } else { Some(count) };
    Ok(Item::Open { kind, count: values.ok_or(ReplyError::TooLong)? })
}

/// `$`, `!` and `=`: a length, so many bytes and a line end.
fn string(
    kind: u8,
    line: &[u8],
    bytes: &[u8],
    start: usize,
) -> Result<Option<(Item, usize)>, ReplyError> {
    let len = strict_integer(line).ok_or(ReplyError::Malformed)?;
    if len == -1 && kind == b'$' {
        return Ok(Some((Item::Value(Value::Null), start)));
    }
    let len = usize::try_from(len).map_err(|_| ReplyError::Malformed)?;
    if len > RESP_REPLY_BYTES_MAX {
        return Err(ReplyError::TooLong);
    }
    let end = start + len;
    let Some(tail) = bytes.get(end..end + 2) else {
        return Ok(None);
    };
    if tail != b"\r\n" {
        return Err(ReplyError::Malformed);
    }
    let text = &bytes[start..end];
    let value = match kind {
        b'$' => Value::Bulk(text.to_vec()),
        b'!' => Value::Error(text.to_vec()),
        _ => match text {
            [a, b, c, b':', text @ ..] => {
                Value::Verbatim { format: [*a, *b, *c], text: text.to_vec() }
            }
            _ => return Err(ReplyError::Malformed),
        },
    };
    Ok(Some((Item::Value(value), end + 2)))
}

fn scalar(kind: u8, line: &[u8]) -> Result<Value, ReplyError> {
    Ok(match kind {
        b'+' => Value::Simple(line.to_vec()),
        b'-' => Value::Error(line.to_vec()),
        b':' => {
            let digits = line.strip_prefix(b"+").unwrap_or(line);
            Value::Integer(strict_integer(digits).ok_or(ReplyError::Malformed)?)
        }
        b'_' if line.is_empty() => Value::Null,
        b'#' if line == b"t" => Value::Boolean(true),
        b'#' if line == b"f" => Value::Boolean(false),
        b',' => {
            let text = std::str::from_utf8(line).map_err(|_| ReplyError::Malformed)?;
            Value::Double(text.parse().map_err(|_| ReplyError::Malformed)?)
        }
        b'(' => Value::BigNumber(line.to_vec()),
        _ => return Err(ReplyError::Malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all replies of `input` cut at `cut`.
    fn feed(input: &[u8], cut: usize) -> (Vec<Value>, Option<ReplyError>) {
        let (mut reader, mut values, mut done) = (ReplyReader::default(), Vec::new(), 0);
        for end in [cut, input.len()] {
            loop {
                match reader.read(&input[done..end]) {
                    Ok(Some((value, consumed))) => {
                        values.push(value);
                        done += consumed;
                    }
                    Ok(None) => break,
                    Err(error) => return (values, Some(error)),
                }
            }
        }
        (values, None)
    }

    fn check(input: &str) -> (Vec<Value>, Option<ReplyError>) {
        let whole = feed(input.as_bytes(), 0);
        for cut in 0..=input.len() {
            assert_eq!(feed(input.as_bytes(), cut), whole, "{input:?} cut at {cut}");
        }
        whole
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn values() {
        let text = || Value::Verbatim { format: *b"txt", text: b"hi".to_vec() };
        for (input, expected) in [
            ("+OK\r\n", vec![Value::Simple(b"OK".to_vec())]),
            ("-ERR x\r\n", vec![Value::Error(b"ERR x".to_vec())]),
            ("!5\r\nERR\r\n\r\n", vec![Value::Error(b"ERR\r\n".to_vec())]),
            (":-7\r\n:+7\r\n", vec![Value::Integer(-7), Value::Integer(7)]),
            ("$3\r\na\r\n\r\n$-1\r\n$0\r\n\r\n", vec![bulk("a\r\n"), Value::Null, bulk("")]),
            ("*-1\r\n*0\r\n_\r\n", vec![Value::Null, Value::Array(vec![]), Value::Null]),
            (
                "*2\r\n*1\r\n:1\r\n*0\r\n",
                vec![Value::Array(vec![
                    Value::Array(vec![Value::Integer(1)]),
                    Value::Array(vec![]),
                ])],
            ),
            (
                "%1\r\n$1\r\na\r\n~1\r\n#t\r\n",
                vec![Value::Map(vec![(bulk("a"), Value::Set(vec![Value::Boolean(true)]))])],
            ),
            (">1\r\n,1.5\r\n", vec![Value::Push(vec![Value::Double(1.5)])]),
            (
                ",-inf\r\n(123\r\n",
                vec![Value::Double(f64::NEG_INFINITY), Value::BigNumber(b"123".to_vec())],
            ),
            ("=6\r\ntxt:hi\r\n", vec![text()]),
            (
                "|1\r\n+a\r\n:1\r\n*1\r\n|1\r\n+b\r\n*0\r\n:2\r\n",
                vec![Value::Array(vec![Value::Integer(2)])],
            ),
        ] {
            assert_eq!(check(input), (expected, None), "{input:?}");
        }
    }

    #[test]
    fn errors() {
        use ReplyError::*;
        let deep = "*1\r\n".repeat(RESP_REPLY_DEPTH_MAX + 1);
        for (input, error) in [
            ("?\r\n", UnknownType(b'?')),
            (":x\r\n", Malformed),
            ("$-2\r\n", Malformed),
            ("$1\r\nabc", Malformed),
            ("*-2\r\n", Malformed),
            ("*?\r\n", Malformed),
            ("#x\r\n", Malformed),
            (",x\r\n", Malformed),
            ("+a\rb\r\n", Malformed),
            ("=2\r\nab\r\n", Malformed),
            ("$9999999999\r\n", TooLong),
            (deep.as_str(), TooDeep),
        ] {
            assert_eq!(check(input).1, Some(error), "{input:?}");
        }
    }
}
