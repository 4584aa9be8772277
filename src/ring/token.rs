//! What a completion belongs to: the kind of op and its owner, in the 64 bits the kernel hands back.
//!
//! Never a pointer: a completion that arrives after its owner is gone must be recognisable and harmless.

/// What was asked of the kernel; the top byte of a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpKind {
    /// [`super::Op::Accept`]
    Accept = 1,
    /// [`super::Op::Connect`]
    Connect = 2,
    /// [`super::Op::Receive`]
    Receive = 3,
    /// [`super::Op::Send`]
    Send = 4,
    /// [`super::Op::Shutdown`]
    Shutdown = 5,
    /// [`super::Op::Close`]
    Close = 6,
    /// [`super::Op::Cancel`]
    Cancel = 7,
    /// [`super::Op::Watch`]
    Watch = 8,
    /// [`super::Op::ReceiveFrom`]
    ReceiveFrom = 9,
    /// [`super::Op::SendTo`]
    SendTo = 10,
    /// [`super::Op::Datagram`]
    Datagram = 11,
}

/// The name of one op in flight: `kind` (8 bits) and `owner` (56 bits, usually a connection id).
///
/// A driver may rely on `owner`'s bits 24..44 being a slot that is unique among sends in flight
/// (the layout of [`crate::net::ConnectionId`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

const OWNER_BITS: u32 = 56;
const OWNER_MASK: u64 = (1 << OWNER_BITS) - 1;

impl Token {
    /// A token for `kind` and an owner of at most 56 bits.
    pub fn new(kind: OpKind, owner: u64) -> Token {
        assert!(owner <= OWNER_MASK, "an op's owner has at most 56 bits");
        Token((kind as u64) << OWNER_BITS | owner)
    }

    /// The kind, or nothing if these bits were never a token.
    pub fn kind(self) -> Option<OpKind> {
        use OpKind::*;
        [
            Accept,
            Connect,
            Receive,
            Send,
            Shutdown,
            Close,
            Cancel,
            Watch,
            ReceiveFrom,
            SendTo,
            Datagram,
        ]
        .into_iter()
        .find(|kind| *kind as u64 == self.0 >> OWNER_BITS)
    }

    /// The owner's bits.
    pub fn owner(self) -> u64 {
        self.0 & OWNER_MASK
    }

    /// All 64 bits, as `user_data`.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The reverse of [`Token::bits`].
    pub fn from_bits(bits: u64) -> Token {
        Token(bits)
    }
}
