//! Datagrams as ops carry them: where from or where to, and their bytes.
//!
//! Must not know: sockets of the kernel, peers, who sends.

use std::net::SocketAddr;

use super::{Chunk, Received};

/// One datagram to send.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The receiver; nothing on a socket that has a fixed peer.
    pub to: Option<SocketAddr>,
    /// Its payload, at most [`crate::limits::DATAGRAM_BYTES_MAX`].
    pub bytes: Chunk,
}

/// One datagram that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Who sent it.
    pub source: SocketAddr,
    /// Its payload; nothing if it is empty.
    pub received: Option<Received>,
    /// It was larger than a receive buffer takes: its end is lost.
    pub is_cut: bool,
}

/// How a batch of datagrams went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The batch, for its memory.
    pub datagrams: Vec<Datagram>,
    /// How many were sent.
    pub sent: usize,
    /// Their payloads together.
    pub bytes: u64,
    /// Why the last of the others wasn't.
    pub error: Option<super::Errno>,
}
