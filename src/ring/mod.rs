//! The kernel door: operations go in as data, completions come out as data.
//!
//! A [`Driver`] is a small batch interface: one [`Driver::turn`] submits every pending [`Op`], waits, and hands back
//! [`Completion`]s. `uring` is the real one; `sim` is a seeded, single-threaded network with virtual time.
//! Memory is lent by moving it: the chunks of a send travel inside the op and come back inside its completion, so
//! nothing above this module needs `unsafe` and no buffer can be freed while the kernel reads it.
//!
//! Must not know: protocols, runtimes, Lua, stores. It is the only reader of clocks.

pub mod address;
mod buffers;
pub mod clock;
pub mod datagram;
pub mod disk;
pub mod features;
pub mod folder;
mod lent;
mod lent_datagrams;
pub mod process;
pub mod random;
mod setup;
pub mod sim;
pub mod socket;
pub mod timers;
pub mod token;
mod uring;
mod wake;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use address::{Address, UnixPath};
pub use datagram::{Arrived, Datagram, Outcome};
pub use features::Features;
pub use setup::Options;
pub use token::{OpKind, Token};
pub use uring::Uring;

/// A file descriptor, or the simulated network's stand-in for one. Closed by [`Op::Close`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fd(pub i32);

/// A kernel error number (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

/// The time of one loop turn. Read once per turn, so that everything in a turn happens at the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds on a clock that never steps; its zero is arbitrary.
    pub monotonic_ns: u64,
    /// Milliseconds since the Unix epoch; may step.
    pub unix_ms: u64,
}

impl Now {
    /// The monotonic clock in whole milliseconds.
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_ns / 1_000_000
    }
}

/// One piece of outgoing bytes.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes of one connection.
    Owned(Vec<u8>),
    /// Bytes that many connections send (a broadcast), kept once.
    Shared(Arc<[u8]>),
}

impl Chunk {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// What one send op carries: chunks in order, of which the first `sent` bytes have already gone.
#[derive(Debug, Default)]
pub struct Chunks {
    /// In sending order; at most [`crate::limits::SEND_CHUNKS_MAX`].
    pub list: Vec<Chunk>,
    /// Bytes of `list[0]` that are already sent; less than its length.
    pub sent: usize,
}

/// Which directions of a socket to close (`shutdown(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The peer sees the end of our stream; we still read.
    Write,
    /// Both directions.
    Both,
}

/// A request to the kernel.
#[derive(Debug)]
pub enum Op {
    /// Accept connections until told otherwise (multishot where the kernel has it): one [`Completion::Accepted`] each.
    Accept { fd: Fd, token: Token },
    /// Make a socket (TCP_NODELAY, close-on-exec) and connect it. The fd comes with the completion.
    Connect { address: Address, token: Token },
    /// Make a datagram socket, bound to `local` and fixed to `peer` where they are given: [`Completion::Connected`].
    Datagram { local: Option<SocketAddr>, peer: Option<SocketAddr>, token: Token },
    /// Receive into pool buffers until the completion says `more == false`.
    Receive { fd: Fd, token: Token },
    /// The same for datagrams, with their sources: one [`Completion::ReceivedFrom`] each.
    ReceiveFrom { fd: Fd, token: Token },
    /// Send all chunks in one gathered write. At most one in flight for a token's owner. May be cut short.
    Send { fd: Fd, chunks: Chunks, token: Token },
    /// Send datagrams (at least one), each whole or not at all, in any order. At most one such op in flight for a token's
    /// owner; it can't be cancelled, a socket's send buffer empties by itself.
    SendTo { fd: Fd, datagrams: Vec<Datagram>, token: Token },
    /// `shutdown(2)`.
    Shutdown { fd: Fd, how: How, token: Token },
    /// `close(2)`. Nothing else may be in flight on the fd.
    Close { fd: Fd, token: Token },
    /// Cancel the op named `target`; that op's own completion still comes (`ECANCELED` if the cancel won).
    Cancel { target: Token, token: Token },
    /// Report readability of an fd that isn't a socket of ours (signalfd, inotify) until told otherwise.
    Watch { fd: Fd, token: Token },
}

/// Bytes that the kernel put into a pool buffer. Read with [`Driver::received`], then give back with [`Driver::recycle`].
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// Which buffer of the pool.
    pub buffer: u16,
    /// Where in it they begin.
    pub start: u32,
    /// How many bytes of it are valid.
    pub bytes: u32,
}

/// The kernel's answer to an [`Op`].
#[derive(Debug)]
pub enum Completion {
    /// A new connection (or an error: `EMFILE`, `ECANCELED`, ...). `more == false`: the accept has ended, re-arm it;
    /// after `EMFILE` or `ENFILE` not before a descriptor was closed or some time has passed, or it spins.
    Accepted { token: Token, result: Result<Fd, Errno>, more: bool },
    /// The dial's outcome; on an error the driver has already closed the socket.
    Connected { token: Token, result: Result<Fd, Errno> },
    /// Bytes, `Ok(None)` for the end of the peer's stream, or an error (`ENOBUFS`: no pool buffer was free; re-arm
    /// when [`Driver::buffers_free`] isn't 0, which may be now). `more == false`: the receive has ended.
    Received { token: Token, result: Result<Option<Received>, Errno>, more: bool },
    /// A datagram, or an error as with [`Completion::Received`]; one of the network's (`ECONNREFUSED`) ends the receive,
    /// not the socket. `more == false`: the receive has ended.
    ReceivedFrom { token: Token, result: Result<Arrived, Errno>, more: bool },
    /// A batch of datagrams is gone.
    SentTo { token: Token, outcome: Outcome },
    /// The chunks come home with the number of bytes that were sent now (not counting `chunks.sent`).
    Sent { token: Token, result: Result<usize, Errno>, chunks: Chunks },
    /// The end of a `Shutdown`, `Close` or `Cancel`.
    Done { token: Token, result: Result<(), Errno> },
    /// A watched fd is readable. `more == false`: watch again.
    Ready { token: Token, more: bool },
    /// Somebody called [`Wake::wake`] since the last turn.
    Woken,
}

/// Ends another thread's wait in [`Driver::turn`].
pub trait Wake: Send + Sync {
    /// Makes the current or next turn return at once with [`Completion::Woken`]. Cheap when already pending.
    fn wake(&self);
}

/// How long a turn may wait for its first completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is work left.
    No,
    /// Until this [`Now::monotonic_ns`].
    Until(u64),
    /// Until something happens.
    Forever,
}

/// One thread's ring. Not `Send`: it is made on the thread that turns it.
pub trait Driver {
    /// The time of the last turn.
    fn now(&self) -> Now;

    /// Nanoseconds on the monotonic clock at this very moment, for measuring a piece of a turn.
    fn precise_ns(&self) -> u64 {
        self.now().monotonic_ns
    }

    /// Submits and drains `ops`, waits for at least one completion or `wait`, and appends what came to `completions`.
    ///
    /// # Errors
    /// Only when the ring itself is broken; errors of single ops are completions.
    fn turn(
        &mut self,
        ops: &mut Vec<Op>,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> std::io::Result<()>;

    /// The bytes of a received buffer. Valid until it is recycled.
    fn received(&self, received: &Received) -> &[u8];

    /// Gives a buffer back to the pool.
    fn recycle(&mut self, received: Received);

    /// How many buffers of the pool are free, of how many: when few are left, copy and recycle at once.
    fn buffers_free(&self) -> (usize, usize);

    /// A handle for other threads.
    fn waker(&self) -> Arc<dyn Wake>;

    /// The peer's address of an accepted socket (`getpeername(2)`).
    fn peer(&self, fd: Fd) -> Result<Address, Errno>;

    /// An IP socket's own address (`getsockname(2)`).
    fn local(&self, fd: Fd) -> Result<SocketAddr, Errno>;

    /// Sets TCP_NODELAY on an accepted socket; a unix socket ignores it.
    fn set_nodelay(&self, fd: Fd);
}

#[cfg(test)]
mod tests;
