//! RESP, Redis's protocol: requests in, replies out (replies are written by the store) and a reader of replies.

/// Where one argument lies in the bytes it was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}
