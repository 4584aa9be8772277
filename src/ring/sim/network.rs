//! The simulated network: ends of connections, listening sockets, segments on their way, completions to come.
//!
//! Everything is found by id in ordered maps, so that the order of all steps depends on the seed alone. Ids are the
//! descriptors too and are never used twice: a stale one is an error, not somebody else's socket.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Faults;
use super::datagrams::Socket;
use super::driver::SimWake;
use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::ring::random::{Random, mix};
use crate::ring::{Address, Chunks, Completion, Errno, Fd, Now, Received, Token};

pub(super) type Id = i32;

/// A receive's result, and the bytes that go into its buffer.
type Read = (Result<Option<Received>, Errno>, Vec<u8>);

const FIRST_ID: Id = 1000;
/// 2026-01-01; a fixed date, so that runs repeat.
const UNIX_START_MS: u64 = 1_767_225_600_000;
const START_NS: u64 = 3_600_000_000_000;

pub(super) struct Network {
    pub(super) now_ns: u64,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) digest: u64,
    pub(super) ends: BTreeMap<Id, End>,
    pub(super) listeners: BTreeMap<Id, Listener>,
    pub(super) signals: BTreeMap<Id, Signal>,
    pub(super) datagrams: BTreeMap<Id, Socket>,
    /// Datagrams for addresses that no driver's socket has, with their sources.
    pub(super) mailboxes: BTreeMap<SocketAddr, Vec<(SocketAddr, Vec<u8>)>>,
    /// Addresses where peers accept, with those not yet taken by the test.
    pub(super) servers: BTreeMap<Address, VecDeque<Id>>,
    pub(super) drivers: Vec<Kernel>,
    /// By time and serial number.
    pub(super) events: BTreeMap<(u64, u64), Event>,
    /// Per socket: ops whose last completion isn't delivered.
    pub(super) in_flight: BTreeMap<Id, u32>,
    /// Per socket: when the last completion of its multishot op comes; the next one can't come earlier.
    order: BTreeMap<Id, u64>,
    serial: u64,
    next_id: Id,
}

/// One end of a connection: a driver's socket or a test's peer.
pub(super) struct End {
    pub(super) other: Id,
    pub(super) address: Address,
    pub(super) remote: Address,
    pub(super) is_peer: bool,
    /// On the way to this end, with the time of arrival.
    arriving: VecDeque<(u64, Segment)>,
    /// Arrived and unread.
    pub(super) incoming: VecDeque<u8>,
    /// The other end's stream is over.
    pub(super) ended: bool,
    /// The connection is broken.
    pub(super) reset: bool,
    /// The break has been reported to a receive.
    reset_seen: bool,
    pub(super) write_closed: bool,
    /// A peer that doesn't read.
    pub(super) paused: bool,
    pub(super) receive: Option<(usize, Token)>,
    /// A send that waits for room.
    pub(super) send: Option<(usize, Token, Chunks)>,
}

pub(super) enum Segment {
    Bytes(Vec<u8>),
    End,
    Reset,
}

pub(super) struct Listener {
    pub(super) address: Address,
    pub(super) backlog: VecDeque<Id>,
    pub(super) accepts: Vec<(usize, Token)>,
}

#[derive(Default)]
pub(super) struct Signal {
    pub(super) pending: bool,
    pub(super) watch: Option<(usize, Token)>,
}

pub(super) enum Event {
    Arrive(Id),
    /// A new connection's end reaches its listener.
    Queue {
        listener: Id,
        end: Id,
    },
    Connect {
        driver: usize,
        token: Token,
        address: Address,
    },
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
}

/// What the network knows of one driver.
pub(super) struct Kernel {
    /// Completions by due time and serial number.
    pub(super) ready: BTreeMap<(u64, u64), Ready>,
    pub(super) buffers_free: usize,
    pub(super) wake: Arc<SimWake>,
    /// Until when its last turn may wait; nothing: for ever.
    pub(super) deadline_ns: Option<u64>,
}

pub(super) struct Ready {
    pub(super) completion: Completion,
    /// What goes into a buffer at delivery.
    pub(super) bytes: Vec<u8>,
    pub(super) socket: Option<Id>,
    /// Whether the op is over.
    pub(super) is_last: bool,
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        Network {
            now_ns: START_NS,
            random: Random::new(seed),
            faults: Faults::NONE,
            digest: 0,
            ends: BTreeMap::new(),
            listeners: BTreeMap::new(),
            signals: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            servers: BTreeMap::new(),
            drivers: Vec::new(),
            events: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            order: BTreeMap::new(),
            serial: 0,
            next_id: FIRST_ID,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic_ns: self.now_ns, unix_ms: UNIX_START_MS + self.now_ns / 1_000_000 }
    }

    pub(super) fn is_idle(&self) -> bool {
        let is_quiet = |kernel: &Kernel| kernel.ready.is_empty() && !kernel.wake.is_set();
        self.events.is_empty() && self.drivers.iter().all(is_quiet)
    }

    pub(super) fn fold(&mut self, value: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ value);
    }

    pub(super) fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.fold(u64::from_le_bytes(word));
        }
    }

    /// A peer's end, which lives as long as the world.
    pub(super) fn end(&mut self, id: Id) -> &mut End {
        self.ends.get_mut(&id).expect("a peer is never removed")
    }

    pub(super) fn listen(&mut self, address: Address) -> Id {
        assert!(self.listener_at(&address).is_none(), "{address} is in use");
        let id = self.new_id();
        let listener = Listener { address, backlog: VecDeque::new(), accepts: Vec::new() };
        self.listeners.insert(id, listener);
        id
    }

    pub(super) fn listener_at(&self, address: &Address) -> Option<Id> {
        self.listeners.iter().find(|(_, listener)| listener.address == *address).map(|(id, _)| *id)
    }

    pub(super) fn watchable(&mut self) -> Id {
        let id = self.new_id();
        self.signals.insert(id, Signal::default());
        id
    }

    pub(super) fn signal(&mut self, id: Id) {
        self.signals.get_mut(&id).expect("a watchable is never removed").pending = true;
        self.pump_watch(id);
    }

    pub(super) fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn connect_peer(&mut self, address: Address) -> Id {
        let listener = self.listener_at(&address);
        let (peer, end) = self.new_pair(address, true, false);
        match listener {
            Some(listener) => {
                let time_ns = self.arrival_ns();
                self.schedule(time_ns, Event::Queue { listener, end });
            }
            None => {
                self.ends.remove(&end);
                self.end(peer).reset = true;
            }
        }
        peer
    }

    /// Two connected ends: the one that connects and the one that listens.
    pub(super) fn new_pair(&mut self, to: Address, from_peer: bool, to_peer: bool) -> (Id, Id) {
        let (first, second) = (self.new_id(), self.new_id());
        let network = if from_peer { [198, 51, 100, 7] } else { [127, 0, 0, 1] };
        let port = 30_000 + (first % 30_000) as u16;
        let from = match &to {
            Address::Unix(_) => to.clone(),
            _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::from(network)), port).into(),
        };
        self.ends.insert(first, End::new(second, from.clone(), to.clone(), from_peer));
        self.ends.insert(second, End::new(first, to, from, to_peer));
        (first, second)
    }

    pub(super) fn schedule(&mut self, time_ns: u64, event: Event) {
        self.serial += 1;
        self.events.insert((time_ns, self.serial), event);
    }

    /// When something that leaves now gets there.
    pub(super) fn arrival_ns(&mut self) -> u64 {
        self.now_ns + self.random.below(self.faults.latency_ns_max + 1)
    }

    /// Sends a segment to an end; it arrives after all earlier ones.
    pub(super) fn transmit(&mut self, to: Id, segment: Segment) {
        let time_ns = self.arrival_ns();
        let Some(end) = self.ends.get_mut(&to) else { return };
        let time_ns = end.arriving.back().map_or(time_ns, |(earlier, _)| time_ns.max(*earlier));
        end.arriving.push_back((time_ns, segment));
        self.schedule(time_ns, Event::Arrive(to));
    }

    /// Sends bytes to an end, perhaps in several segments.
    pub(super) fn transmit_bytes(&mut self, to: Id, mut bytes: Vec<u8>) {
        while bytes.len() > 1 && self.random.chance(self.faults.split) {
            let rest = bytes.split_off(1 + self.random.below(bytes.len() as u64 - 1) as usize);
            self.transmit(to, Segment::Bytes(std::mem::replace(&mut bytes, rest)));
        }
        if !bytes.is_empty() {
            self.transmit(to, Segment::Bytes(bytes));
        }
    }

    /// Runs all events whose time has come.
    pub(super) fn run_events(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now_ns {
                return;
            }
            match entry.remove() {
                Event::Arrive(id) => self.on_arrive(id),
                Event::Queue { listener, end } => self.on_queue(listener, end),
                Event::Connect { driver, token, address } => {
                    self.on_connect(driver, token, address)
                }
                Event::Datagram { from, to, bytes } => self.on_datagram(from, to, bytes),
            }
        }
    }

    fn on_arrive(&mut self, id: Id) {
        let breaks = self.random.chance(self.faults.reset);
        let now_ns = self.now_ns;
        let Some(end) = self.ends.get_mut(&id) else { return };
        while end.arriving.front().is_some_and(|(time_ns, _)| *time_ns <= now_ns) {
            match end.arriving.pop_front().expect("just seen").1 {
                // Nothing arrives behind bytes that a break has lost.
                Segment::Bytes(_) if end.reset => {}
                Segment::Bytes(bytes) => end.incoming.extend(bytes),
                Segment::End => end.ended = true,
                Segment::Reset => end.reset = true,
            }
        }
        let other = end.other;
        if breaks {
            end.reset = true;
        }
        if end.reset {
            end.arriving.clear();
            if let Some(other) = self.ends.get_mut(&other).filter(|_| breaks) {
                other.reset = true;
                other.arriving.clear();
            }
        }
        self.pump(id);
        self.pump(other);
    }

    fn on_queue(&mut self, listener: Id, end: Id) {
        match self.listeners.get_mut(&listener) {
            Some(listener) => listener.backlog.push_back(end),
            None => return self.close_end(end, true),
        }
        self.pump_accept(listener);
    }

    fn on_connect(&mut self, driver: usize, token: Token, address: Address) {
        let listener = self.listener_at(&address);
        let is_served = self.servers.contains_key(&address);
        let is_refused = self.random.chance(self.faults.refuse);
        let result = if is_refused || (listener.is_none() && !is_served) {
            Err(Errno(libc::ECONNREFUSED))
        } else {
            let (fd, other) = self.new_pair(address.clone(), false, is_served);
            match (self.servers.get_mut(&address), listener) {
                (Some(server), _) => server.push_back(other),
                (None, Some(listener)) => self.on_queue(listener, other),
                (None, None) => {}
            }
            Ok(Fd(fd))
        };
        self.complete(driver, None, Completion::Connected { token, result }, true);
    }

    /// Serves the receive and the send that wait on an end, if they can go on.
    pub(super) fn pump(&mut self, id: Id) {
        let mut other = None;
        while let Some(end) = self.ends.get(&id) {
            other = Some(end.other);
            let Some((driver, token)) = end.receive else { break };
            let Some((result, bytes)) = self.receive_outcome(id, driver) else { break };
            let has_bytes = matches!(result, Ok(Some(_)));
            let more = has_bytes && !self.random.chance(self.faults.end_multishot);
            self.deliver(id, driver, Completion::Received { token, result, more }, bytes);
        }
        self.try_send(id);
        // What was read here makes room for the other end's send.
        if let Some(other) = other {
            self.try_send(other);
        }
    }

    /// Hands a receive's result over; one without `more` ends the receive.
    pub(super) fn deliver(
        &mut self,
        id: Id,
        driver: usize,
        completion: Completion,
        bytes: Vec<u8>,
    ) {
        let is_last = !matches!(completion, Completion::Received { more: true, .. });
        if let Some(end) = self.ends.get_mut(&id).filter(|_| is_last) {
            end.receive = None;
        }
        self.push_ready(driver, Ready { completion, bytes, socket: Some(id), is_last });
    }

    /// What a receive on this end gives now; nothing: it waits.
    pub(super) fn receive_outcome(&mut self, id: Id, driver: usize) -> Option<Read> {
        let end = self.ends.get_mut(&id)?;
        if end.incoming.is_empty() {
            if end.reset && !std::mem::replace(&mut end.reset_seen, true) {
                return Some((Err(Errno(libc::ECONNRESET)), Vec::new()));
            }
            return (end.ended || end.reset).then(|| (Ok(None), Vec::new()));
        }
        let kernel = &mut self.drivers[driver];
        if kernel.buffers_free == 0 || self.random.chance(self.faults.no_buffers) {
            return Some((Err(Errno(libc::ENOBUFS)), Vec::new()));
        }
        kernel.buffers_free -= 1;
        let mut count = end.incoming.len().min(RECEIVE_BUFFER_BYTES);
        if self.random.chance(self.faults.split) {
            count = 1 + self.random.below(count as u64) as usize;
        }
        let bytes: Vec<u8> = end.incoming.drain(..count).collect();
        // The buffer is chosen at delivery.
        Some((Ok(Some(Received { buffer: 0, start: 0, bytes: count as u32 })), bytes))
    }

    /// Goes on with a send that waits for room.
    pub(super) fn try_send(&mut self, id: Id) {
        let Some(result) = self.send_outcome(id) else { return };
        let end = self.ends.get_mut(&id).expect("it has an outcome");
        let other = end.other;
        let (driver, token, chunks) = end.send.take().expect("it has an outcome");
        if let Ok(count) = result {
            let unsent = chunks.list.iter().flat_map(|chunk| chunk.bytes()).skip(chunks.sent);
            let bytes = unsent.take(count).copied().collect();
            self.transmit_bytes(other, bytes);
        }
        self.complete(driver, Some(id), Completion::Sent { token, result, chunks }, true);
    }

    fn send_outcome(&mut self, id: Id) -> Option<Result<usize, Errno>> {
        let end = self.ends.get(&id)?;
        let (_, _, chunks) = end.send.as_ref()?;
        let bytes: usize = chunks.list.iter().map(|chunk| chunk.bytes().len()).sum();
        let Some(other) = self.ends.get(&end.other).filter(|_| !end.reset && !end.write_closed)
        else {
            return Some(Err(Errno(libc::EPIPE)));
        };
        let unsent = bytes - chunks.sent;
        let room = self.faults.window_bytes.saturating_sub(other.unread_bytes());
        if unsent > 0 && room == 0 {
            return None;
        }
        let count = unsent.min(room);
        if count > 1 && self.random.chance(self.faults.short_send) {
            return Some(Ok(1 + self.random.below(count as u64) as usize));
        }
        Some(Ok(count))
    }

    pub(super) fn pump_accept(&mut self, id: Id) {
        while let Some(listener) = self.listeners.get_mut(&id) {
            if listener.backlog.is_empty() || listener.accepts.is_empty() {
                return;
            }
            let index = self.random.below(listener.accepts.len() as u64) as usize;
            let (driver, token) = listener.accepts[index];
            let (result, more) = if self.random.chance(self.faults.accept_failure) {
                (Err(Errno(libc::EMFILE)), false)
            } else {
                let fd = listener.backlog.pop_front().expect("just seen");
                (Ok(Fd(fd)), !self.random.chance(self.faults.end_multishot))
            };
            if !more {
                listener.accepts.remove(index);
            }
            self.complete(driver, Some(id), Completion::Accepted { token, result, more }, !more);
        }
    }

    pub(super) fn pump_watch(&mut self, id: Id) {
        let Some(signal) = self.signals.get_mut(&id).filter(|signal| signal.pending) else {
            return;
        };
        let Some((driver, token)) = signal.watch else { return };
        signal.pending = false;
        let more = !self.random.chance(self.faults.end_multishot);
        if !more {
            signal.watch = None;
        }
        self.complete(driver, Some(id), Completion::Ready { token, more }, !more);
    }

    /// Removes a driver's end; the other one sees the end of the stream, or a reset if bytes were lost.
    pub(super) fn close_end(&mut self, id: Id, with_reset: bool) {
        let Some(end) = self.ends.remove(&id) else { return };
        self.order.remove(&id);
        let loses = with_reset || end.unread_bytes() > 0;
        if loses && !end.reset {
            self.transmit(end.other, Segment::Reset);
        } else if !end.write_closed && !end.reset {
            self.transmit(end.other, Segment::End);
        }
        // A send of the other end that waited for room can't go on.
        self.try_send(end.other);
    }

    pub(super) fn complete(
        &mut self,
        driver: usize,
        socket: Option<Id>,
        completion: Completion,
        is_last: bool,
    ) {
        self.push_ready(driver, Ready { completion, bytes: Vec::new(), socket, is_last });
    }

    pub(super) fn push_ready(&mut self, driver: usize, ready: Ready) {
        let mut due_ns = self.now_ns;
        if self.random.chance(self.faults.delay) {
            due_ns += self.random.below(self.faults.delay_ns_max + 1);
        }
        let is_ordered = matches!(
            ready.completion,
            Completion::Accepted { .. }
                | Completion::Received { .. }
                | Completion::ReceivedFrom { .. }
                | Completion::Ready { .. }
        );
        if let Some(socket) = ready.socket.filter(|_| is_ordered) {
            let latest_ns = self.order.entry(socket).or_default();
            due_ns = due_ns.max(*latest_ns);
            *latest_ns = due_ns;
        }
        self.serial += 1;
        self.drivers[driver].ready.insert((due_ns, self.serial), ready);
    }
}

impl End {
    fn new(other: Id, address: Address, remote: Address, is_peer: bool) -> End {
        End {
            other,
            address,
            remote,
            is_peer,
            arriving: VecDeque::new(),
            incoming: VecDeque::new(),
            ended: false,
            reset: false,
            reset_seen: false,
            write_closed: false,
            paused: false,
            receive: None,
            send: None,
        }
    }

    /// What counts against the window: a peer that isn't paused reads at once.
    fn unread_bytes(&self) -> usize {
        let arriving = self.arriving.iter().map(|(_, segment)| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::End | Segment::Reset => 0,
        });
        let reads_at_once = self.is_peer && !self.paused;
        arriving.sum::<usize>() + if reads_at_once { 0 } else { self.incoming.len() }
    }
}
