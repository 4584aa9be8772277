//! WebSocket as bytes and values: RFC 6455 and permessage-deflate (RFC 7692), for both sides.
//!
//! - [`handshake`] answers an upgrade request, or makes one and checks its answer.
//! - [`Reader`] turns received bytes into messages and control frames, split anywhere.
//! - [`frame`] reads and writes frames; [`Deflate`] compresses and inflates whole messages.
//!
//! One [`Workspace`] serves all connections of a worker: no context is taken over from one message to the next (both
//! directions say so in the handshake), so an idle connection holds no compressor and no buffer.
//! Must not know: sockets, clocks, runtimes, where random numbers come from.

mod deflate;
mod extension;
pub mod frame;
pub mod handshake;
mod reader;
#[cfg(test)]
mod tests;
mod utf8;

pub use deflate::Deflate;
pub use extension::Compression;
pub use reader::{Event, Reader};

/// Which end of a connection we are: clients mask what they send, servers don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We accepted the upgrade.
    Server,
    /// We asked for it.
    Client,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// Text if the bytes are UTF-8: what a message is whose sender doesn't say.
    pub fn of(message: &[u8]) -> Kind {
        if std::str::from_utf8(message).is_ok() { Kind::Text } else { Kind::Binary }
    }
}

/// Buffers and compressors that the connections of a worker share.
#[derive(Default)]
pub struct Workspace {
    /// The message that was read last; valid until the next is read.
    scratch: Vec<u8>,
    /// Compresses and inflates.
    pub deflate: Deflate,
}

/// A close code (RFC 6455 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server stops, or the page is left.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: CloseCode = CloseCode(1002);
    /// Never sent: the peer's Close frame had no code.
    pub const NONE: CloseCode = CloseCode(1005);
    /// Never sent: the connection ended without a Close frame.
    pub const ABNORMAL: CloseCode = CloseCode(1006);
    /// A message isn't what its kind says.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// A rule of the application's.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// A message over the limit.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// The server failed.
    pub const INTERNAL: CloseCode = CloseCode(1011);

    /// Whether it may stand in a Close frame.
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// How a peer broke the protocol: the connection is failed with [`Violation::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A reserved bit that no extension explains.
    ReservedBits,
    /// An opcode that doesn't exist.
    Opcode,
    /// A client's frame without a mask, or a server's with one.
    Mask,
    /// A length in more bytes than it needs, or with its first bit set.
    Length,
    /// A control frame of more than 125 bytes, or in fragments.
    Control,
    /// A continuation of nothing.
    Continuation,
    /// A new message inside a fragmented one.
    Interrupted,
    /// A Close frame with one byte or a code that may not be sent.
    CloseCode,
    /// Text, or a reason, that isn't UTF-8.
    Utf8,
    /// Bytes that don't inflate.
    Deflate,
    /// A message over the limit, or one that inflates to more.
    TooBig,
}

impl Violation {
    /// The code to close with.
    pub fn code(self) -> CloseCode {
        match self {
            Violation::Utf8 | Violation::Deflate => CloseCode::INVALID_DATA,
            Violation::TooBig => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL,
        }
    }

    /// What was wrong, for the Close frame and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Violation::ReservedBits => "reserved bits are set",
            Violation::Opcode => "unknown opcode",
            Violation::Mask => "wrong masking",
            Violation::Length => "bad length",
            Violation::Control => "bad control frame",
            Violation::Continuation => "continuation of nothing",
            Violation::Interrupted => "message inside a message",
            Violation::CloseCode => "bad close code",
            Violation::Utf8 => "invalid UTF-8",
            Violation::Deflate => "invalid compressed data",
            Violation::TooBig => "message too big",
        }
    }
}
