//! What makes a message on a plain byte stream: lines, a length in front, or whatever a read brings.
//!
//! Knows nothing of sockets; works on a borrowed buffer and copies nothing.

use std::ops::Range;

use crate::limits;

/// Which bytes make a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Ends with a newline; a carriage return before it is dropped.
    Lines,
    /// Whatever one read brings.
    Raw,
    /// A big-endian length of this many bytes (1, 2 or 4), then that many bytes.
    Length(u8),
}

/// A message that a peer may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A line without end, or an announced length, over [`limits::LINE_BYTES_MAX`].
    TooLong,
}

/// One message found at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where the message is.
    pub message: Range<usize>,
    /// How many bytes it and its framing take.
    pub consumed: usize,
}

impl Framing {
    /// The first message of `bytes`, or nothing if it isn't complete. `searched` is how many bytes of `bytes` an earlier
    /// call has seen without finding an end.
    ///
    /// # Errors
    /// The message is too long; the connection can't go on.
    pub fn next(self, bytes: &[u8], searched: usize) -> Result<Option<Frame>, FrameError> {
        match self {
            Framing::Lines => next_line(bytes, searched),
            Framing::Raw => {
                let frame = Frame { message: 0..bytes.len(), consumed: bytes.len() };
                Ok((!bytes.is_empty()).then_some(frame))
            }
            Framing::Length(width) => next_counted(bytes, usize::from(width)),
        }
    }

    /// Writes a message as this framing wants it: a newline is added if it is missing, a length is put in front.
    /// A message over the length's range isn't written: `false`.
    pub fn write(self, message: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Framing::Lines => {
                out.extend_from_slice(message);
                if message.last() != Some(&b'\n') {
                    out.push(b'\n');
                }
            }
            Framing::Raw => out.extend_from_slice(message),
            Framing::Length(width) => {
                let width = usize::from(width);
                let length = (message.len() as u64).to_be_bytes();
                if length[..8 - width].iter().any(|byte| *byte != 0) {
                    return false;
                }
                out.extend_from_slice(&length[8 - width..]);
                out.extend_from_slice(message);
            }
        }
        true
    }
}

fn next_line(bytes: &[u8], searched: usize) -> Result<Option<Frame>, FrameError> {
    let from = searched.min(bytes.len());
    let Some(end) = memchr::memchr(b'\n', &bytes[from..]).map(|at| at + from) else {
        let too_long = bytes.len() > limits::LINE_BYTES_MAX;
        return if too_long { Err(FrameError::TooLong) } else { Ok(None) };
    };
    if end > limits::LINE_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    let text = if end > 0 && bytes[end - 1] == b'\r' { end - 1 } else { end };
    Ok(Some(Frame { message: 0..text, consumed: end + 1 }))
}

fn next_counted(bytes: &[u8], width: usize) -> Result<Option<Frame>, FrameError> {
    let Some(head) = bytes.get(..width) else { return Ok(None) };
    let length = head.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    if length > limits::LINE_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    let consumed = width + length;
    Ok((bytes.len() >= consumed).then_some(Frame { message: width..consumed, consumed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(framing: Framing, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while let Some(frame) = framing.next(rest, 0).expect("the input is well-formed") {
            found.push(rest[frame.message].to_vec());
            rest = &rest[frame.consumed..];
        }
        found
    }

    #[test]
    fn lines_end_with_a_newline_and_lose_their_carriage_return() {
        assert_eq!(messages(Framing::Lines, b"a\r\n\nb c\nrest"), [&b"a"[..], b"", b"b c"]);
    }

    #[test]
    fn a_length_counts_the_bytes_behind_it() {
        assert_eq!(messages(Framing::Length(2), b"\0\x03abc\0\0\0\x05ab"), [&b"abc"[..], b""]);
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        let long = vec![b'x'; limits::LINE_BYTES_MAX + 1];
        assert_eq!(Framing::Lines.next(&long, 0), Err(FrameError::TooLong));
        assert_eq!(Framing::Length(4).next(&[0xff; 4], 0), Err(FrameError::TooLong));
    }

    #[test]
    fn what_is_written_reads_back() {
        for framing in [Framing::Lines, Framing::Length(1), Framing::Length(4)] {
            let mut out = Vec::new();
            assert!(framing.write(b"hello", &mut out));
            assert!(framing.write(b"", &mut out));
            assert_eq!(messages(framing, &out), [&b"hello"[..], b""]);
        }
        assert!(!Framing::Length(1).write(&[0; 256], &mut Vec::new()));
    }
}
