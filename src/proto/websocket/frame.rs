//! Frames (RFC 6455 5.2): the header's bytes, the mask, and writing whole frames.
//!
//! Must not know: messages, what fragments mean.

use super::{CloseCode, Kind, Side, Violation};

/// The longest header: two bytes, a length of eight, a mask of four.
pub const HEADER_BYTES_MAX: usize = 14;
/// A control frame's payload.
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV23: u8 = 0x30;
const MASKED: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a fragmented message.
    Continuation,
    /// The first frame of a message.
    Data(Kind),
    /// The sender has nothing more to say.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Opcode, Violation> {
        match bits {
            0 => Ok(Opcode::Continuation),
            1 => Ok(Opcode::Data(Kind::Text)),
            2 => Ok(Opcode::Data(Kind::Binary)),
            8 => Ok(Opcode::Close),
            9 => Ok(Opcode::Ping),
            10 => Ok(Opcode::Pong),
            _ => Err(Violation::Opcode),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Data(Kind::Text) => 1,
            Opcode::Data(Kind::Binary) => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    /// Whether it is a close, ping or pong.
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// The first reserved bit: compressed.
    pub rsv1: bool,
    /// What it is.
    pub opcode: Opcode,
    /// What its payload is masked with; zeros for an unmasked one.
    pub mask: [u8; 4],
    /// The payload's bytes.
    pub length: u64,
    /// The header's bytes.
    pub bytes: usize,
}

impl Header {
    /// The header at the front of `bytes`; nothing if it isn't complete. `side` is ours.
    ///
    /// # Errors
    /// What RFC 6455 forbids of a single header. That of a reserved first bit depends on the message; the reader judges.
    pub fn parse(bytes: &[u8], side: Side) -> Result<Option<Header>, Violation> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        if first & RSV23 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f)?;
        let (fin, short) = (first & FIN != 0, second & !MASKED);
        if opcode.is_control() && (!fin || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(Violation::Control);
        }
        if (second & MASKED != 0) != (side == Side::Server) {
            return Err(Violation::Mask);
        }
        let mask_at = match short {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let end = if side == Side::Server { mask_at + 4 } else { mask_at };
        if bytes.len() < end {
            return Ok(None);
        }
        let (length, least) = match short {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 126),
            127 => {
                let wide =
                    bytes[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
                (wide, 1 << 16)
            }
            _ => (u64::from(short), 0),
        };
        if length < least || length >> 63 != 0 {
            return Err(Violation::Length);
        }
        let mut mask = [0; 4];
        mask[..end - mask_at].copy_from_slice(&bytes[mask_at..end]);
        let rsv1 = first & RSV1 != 0;
        Ok(Some(Header { fin, rsv1, opcode, mask, length, bytes: end }))
    }
}

/// Masks or unmasks a payload in place, eight bytes at a time (the compiler makes wider words of it).
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// The key for what follows the first `count` bytes of a payload.
pub fn advance_key(mut key: [u8; 4], count: usize) -> [u8; 4] {
    key.rotate_left(count % 4);
    key
}

/// Appends one whole frame. `key`: a client's mask; a server has none.
pub fn write(
    out: &mut Vec<u8>,
    opcode: Opcode,
    compressed: bool,
    payload: &[u8],
    key: Option<[u8; 4]>,
) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = FIN | opcode.bits() | if compressed { RSV1 } else { 0 };
    let masked = if key.is_some() { MASKED } else { 0 };
    let length = payload.len();
    let mut end = match length {
        0..126 => {
            header[1] = masked | length as u8;
            2
        }
        126..0x1_0000 => {
            header[1] = masked | 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = masked | 127;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    if let Some(key) = key {
        header[end..end + 4].copy_from_slice(&key);
        end += 4;
    }
    out.reserve(end + length);
    out.extend_from_slice(&header[..end]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Appends a Close frame. A reason that doesn't fit is cut at a character; a code that may not be sent isn't.
pub fn write_close(out: &mut Vec<u8>, code: CloseCode, reason: &str, key: Option<[u8; 4]>) {
    let mut payload = Vec::with_capacity(2 + reason.len().min(CONTROL_BYTES_MAX));
    if code.may_be_sent() {
        payload.extend_from_slice(&code.0.to_be_bytes());
        let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
        payload.extend_from_slice(&reason.as_bytes()[..end]);
    }
    write(out, Opcode::Close, false, &payload, key);
}
