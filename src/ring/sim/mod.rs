//! A network in memory with virtual time, driven by a seed: the same seed makes the same run, byte for byte.
//!
//! [`Sim`] is the world: listening addresses, peers that a test plays, faults, the clock. Each worker under test gets a
//! [`SimDriver`]. All live on one thread; the test turns the workers in an order of its own (best from its own
//! [`Random`]) and plays the peers in between. Time stands still while anybody has something to do and jumps to the next
//! event otherwise; a driver never jumps past another one's deadline, so every driver must be turned again and again.
//!
//! What a kernel may do, this one does, at the rates in [`Faults`]: cut reads and sends anywhere, delay completions and
//! reorder those of different ops (one op's own stay in order), end multishot ops, run out of buffers, let a cancel
//! come too late, fail an accept, refuse or reset connections. What a kernel must not be asked (a close with ops in
//! flight, two receives on one socket) is an assertion. A run's [`Sim::digest`] covers every op, completion and byte.
//!
//! Must not know: protocols, workers. No real I/O, no clock.

mod datagrams;
pub mod disk;
mod driver;
mod network;
mod ops;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

pub use driver::SimDriver;
use network::{Event, Network, Segment};

use super::random::Random;
use super::{Address, Fd, Now};
use crate::limits::RECEIVE_BUFFERS;

/// How rough the simulated kernel and network are. Rates are per mille of the occasions.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Reads and transmissions that are cut at a random byte.
    pub split: u32,
    /// Sends that take only a part.
    pub short_send: u32,
    /// Completions that come later than they could.
    pub delay: u32,
    /// How much later at most.
    pub delay_ns_max: u64,
    /// A transmission's time on the way at most.
    pub latency_ns_max: u64,
    /// Receives that end with `ENOBUFS` although buffers are free (they came back just now).
    pub no_buffers: u32,
    /// Accepts and receives that end (`more == false`) without a reason. 1000 is a kernel without multishot.
    pub end_multishot: u32,
    /// Cancels that come too late, where the kernel allows that.
    pub late_cancel: u32,
    /// Accepts that fail with `EMFILE`.
    pub accept_failure: u32,
    /// Connects that are refused although somebody listens.
    pub refuse: u32,
    /// Arrivals at which the connection breaks.
    pub reset: u32,
    /// Datagrams that get lost.
    pub lose: u32,
    /// Datagrams that arrive twice.
    pub duplicate: u32,
    /// Receive buffers of each driver made from now on.
    pub buffers: usize,
    /// Bytes that may be on the way or unread in one direction of a connection.
    pub window_bytes: usize,
}

impl Faults {
    /// A perfect kernel and network: everything at once and whole.
    pub const NONE: Faults = Faults {
        split: 0,
        short_send: 0,
        delay: 0,
        delay_ns_max: 0,
        latency_ns_max: 0,
        no_buffers: 0,
        end_multishot: 0,
        late_cancel: 0,
        accept_failure: 0,
        refuse: 0,
        reset: 0,
        lose: 0,
        duplicate: 0,
        buffers: RECEIVE_BUFFERS,
        window_bytes: 256 * 1024,
    };

    /// Everything that loses no connection, each at a random rate, often 0.
    pub fn lossless(random: &mut Random) -> Faults {
        let mut rate = |most: u64| if random.chance(300) { 0 } else { random.below(most) as u32 };
        Faults {
            split: rate(1000),
            short_send: rate(1000),
            delay: rate(1000),
            delay_ns_max: 2_000_000,
            latency_ns_max: 500_000,
            no_buffers: rate(200),
            end_multishot: rate(1001),
            late_cancel: rate(1001),
            accept_failure: rate(300),
            refuse: 0,
            reset: 0,
            lose: 0,
            duplicate: 0,
            buffers: 1 << (2 + rate(8)),
            window_bytes: 1 << (6 + rate(12)),
        }
    }

    /// All faults, each at a random rate, often 0.
    pub fn all(random: &mut Random) -> Faults {
        let lossless = Faults::lossless(random);
        let mut rate = |most: u64| if random.chance(300) { 0 } else { random.below(most) as u32 };
        Faults {
            refuse: rate(500),
            reset: rate(30),
            lose: rate(300),
            duplicate: rate(300),
            ..lossless
        }
    }
}

/// One end of a connection that the test plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(i32);

/// The simulated world. Clones are handles to the same one.
#[derive(Clone)]
pub struct Sim {
    network: Rc<RefCell<Network>>,
}

impl Sim {
    /// A world without faults; what chance is left comes from `seed`.
    pub fn new(seed: u64) -> Sim {
        Sim { network: Rc::new(RefCell::new(Network::new(seed))) }
    }

    /// Changes the rates from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.network.borrow_mut().faults = faults;
    }

    /// A kernel for one more worker.
    pub fn driver(&self) -> SimDriver {
        SimDriver::new(Rc::clone(&self.network))
    }

    /// The world's time.
    pub fn now(&self) -> Now {
        self.network.borrow().now()
    }

    /// A number that stands for all ops, completions, bytes and times so far.
    pub fn digest(&self) -> u64 {
        self.network.borrow().digest
    }

    /// Whether nothing more happens unless somebody does something.
    pub fn is_idle(&self) -> bool {
        self.network.borrow().is_idle()
    }

    /// How many sockets the drivers' side has open, listening ones not counted.
    pub fn open_sockets(&self) -> usize {
        self.network.borrow().ends.values().filter(|end| !end.is_peer).count()
    }

    /// A listening socket for [`super::Op::Accept`].
    pub fn listen(&self, address: impl Into<Address>) -> Fd {
        Fd(self.network.borrow_mut().listen(address.into()))
    }

    /// Closes a listening socket; connections that nobody has accepted break. No accept may be in flight on it.
    pub fn close_listener(&self, fd: Fd) {
        let closed = self.network.borrow_mut().close(fd.0);
        assert_eq!(closed, Ok(()), "it listens");
    }

    /// How many ops the drivers have in flight: those whose last completion hasn't been delivered.
    pub fn ops_in_flight(&self) -> usize {
        let network = self.network.borrow();
        let connects = network.events.values().filter(|it| matches!(it, Event::Connect { .. }));
        network.in_flight.values().map(|count| *count as usize).sum::<usize>() + connects.count()
    }

    /// A peer connects to a listening socket. If nobody listens, the peer is reset at once.
    pub fn connect(&self, address: impl Into<Address>) -> PeerId {
        PeerId(self.network.borrow_mut().connect_peer(address.into()))
    }

    /// From now on connects of the drivers to `address` reach a peer: see [`Sim::accepted`].
    pub fn serve(&self, address: impl Into<Address>) {
        self.network.borrow_mut().servers.entry(address.into()).or_default();
    }

    /// Connects to `address` are refused again.
    pub fn stop_serving(&self, address: impl Into<Address>) {
        self.network.borrow_mut().servers.remove(&address.into());
    }

    /// The next peer that a driver's connect to a served address has made.
    pub fn accepted(&self, address: impl Into<Address>) -> Option<PeerId> {
        self.network.borrow_mut().servers.get_mut(&address.into())?.pop_front().map(PeerId)
    }

    /// Sends without limit; nothing after the peer's own shutdown or a reset.
    pub fn peer_send(&self, peer: PeerId, bytes: &[u8]) {
        let mut network = self.network.borrow_mut();
        let end = network.end(peer.0);
        if !end.write_closed && !end.reset {
            let other = end.other;
            network.transmit_bytes(other, bytes.to_vec());
        }
    }

    /// What has arrived since the last call.
    pub fn peer_received(&self, peer: PeerId) -> Vec<u8> {
        let mut network = self.network.borrow_mut();
        let bytes = std::mem::take(&mut network.end(peer.0).incoming).into();
        let other = network.end(peer.0).other;
        network.try_send(other);
        bytes
    }

    /// A paused peer doesn't read: its window fills until [`Sim::peer_received`] or the end of the pause.
    pub fn peer_pause(&self, peer: PeerId, paused: bool) {
        let mut network = self.network.borrow_mut();
        network.end(peer.0).paused = paused;
        let other = network.end(peer.0).other;
        network.try_send(other);
    }

    /// The peer ends its stream and goes on reading.
    pub fn peer_shutdown(&self, peer: PeerId) {
        let mut network = self.network.borrow_mut();
        let end = network.end(peer.0);
        if !std::mem::replace(&mut end.write_closed, true) && !end.reset {
            let other = end.other;
            network.transmit(other, Segment::End);
        }
    }

    /// The peer breaks the connection.
    pub fn peer_reset(&self, peer: PeerId) {
        let mut network = self.network.borrow_mut();
        let end = network.end(peer.0);
        end.reset = true;
        let other = end.other;
        network.transmit(other, Segment::Reset);
    }

    /// Whether the driver's side has ended its stream, and all of it has arrived.
    pub fn peer_has_ended(&self, peer: PeerId) -> bool {
        self.network.borrow_mut().end(peer.0).ended
    }

    /// Whether the connection is broken (or was refused).
    pub fn peer_is_reset(&self, peer: PeerId) -> bool {
        self.network.borrow_mut().end(peer.0).reset
    }

    /// The peer's own address, as the driver's side sees it.
    pub fn peer_address(&self, peer: PeerId) -> Address {
        self.network.borrow_mut().end(peer.0).address.clone()
    }

    /// A socket for [`super::Op::ReceiveFrom`] that receives at `address`.
    pub fn datagram(&self, address: SocketAddr) -> Fd {
        let bound = self.network.borrow_mut().bind_datagram(Some(address), None);
        Fd(bound.expect("the address is free"))
    }

    /// A peer at `from` sends a datagram.
    pub fn datagram_send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.network.borrow_mut().send_datagram(from, to, bytes);
    }

    /// What has arrived at a peer's address since the last call, with the senders.
    pub fn datagrams_received(&self, at: SocketAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        self.network.borrow_mut().mailboxes.remove(&at).unwrap_or_default()
    }

    /// Something for [`super::Op::Watch`].
    pub fn watchable(&self) -> Fd {
        Fd(self.network.borrow_mut().watchable())
    }

    /// Makes a watchable readable.
    pub fn signal(&self, fd: Fd) {
        self.network.borrow_mut().signal(fd.0);
    }
}
