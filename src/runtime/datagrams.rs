//! UDP: a server's peers, each a connection without a socket of its own, and a client's one target.
//!
//! A datagram is a message, as it is. A peer begins with its first datagram and ends after a time of silence.
//!
//! Whose address a datagram bears is no proof of who sent it, so by default a peer is sent at most as many bytes as have
//! come from it: nobody can have a server throw more at a third party than they could themselves. A handler that has
//! seen something that only the true owner of the address can know says `conn:verify()`; peers on this machine, whose
//! addresses can't be forged from elsewhere, and those of a runtime with `amplification = 0` are never held back.
//!
//! Must not know: the kernel's headers, what messages say.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::id::ConnectionId;
use crate::limits;
use crate::log::LogLevel;
use crate::ring::{Address, Chunk, Datagram, Errno, Fd, Op, OpKind, Outcome, Token};

use super::connection::{Phase, ProtocolState, Role};
use super::limiter::{self, Seat};
use super::local::Local;
use super::server;
use super::stats::StatsCell;

/// What has come from a peer and gone to it.
#[derive(Debug, Default)]
pub struct Credit {
    received_bytes: u64,
    sent_bytes: u64,
    datagrams: u64,
    /// It is who it says, or nobody cares.
    pub verified: bool,
}

impl Credit {
    /// A client's target was named by whoever made the client.
    pub fn of_target() -> Credit {
        Credit { verified: true, ..Credit::default() }
    }
}

/// An instance's datagrams: on a server's bound socket, or on a client's connected one.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// server: the slots of its peers.
    peers: BTreeMap<SocketAddr, u32>,
    /// server: those that have sent one datagram only, oldest first; ids that are no more may be among them.
    fresh: VecDeque<ConnectionId>,
    queue: Vec<Datagram>,
    queued_bytes: usize,
    /// A batch is under way.
    sending: bool,
    /// It is in the worker's list of those to flush.
    dirty: bool,
}

impl Datagrams {
    /// Whether something is under way or waits to be.
    pub fn is_busy(&self) -> bool {
        self.sending || !self.queue.is_empty()
    }

    fn push(&mut self, datagram: Datagram) -> bool {
        let bytes = datagram.bytes.bytes().len();
        let fits = self.queue.len() < limits::DATAGRAMS_QUEUED_MAX
            && self.queued_bytes + bytes <= limits::DATAGRAM_QUEUE_BYTES_MAX;
        if fits {
            self.queued_bytes += bytes;
            self.queue.push(datagram);
        }
        fits
    }
}

/// A datagram has come to a server's socket, not a cut one.
pub fn on_server_datagram(local: &mut Local, index: usize, source: SocketAddr, bytes: &[u8]) {
    let worker = local.worker;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).bytes_in, bytes.len() as u64);
    // Nobody can be answered at port 0, and our own address can only be forged: a loop.
    let is_ours = instance.config().listen == Some(Address::Udp(source));
    if source.port() == 0 || is_ours || instance.stopping.is_some() {
        return StatsCell::add(&instance.cell(worker).refused, 1);
    }
    let known = instance.datagrams.peers.get(&source).copied();
    if let Some(slot) = known.or_else(|| meet(local, index, source)) {
        on_datagram(local, slot, bytes);
    }
}

/// A peer's first datagram: there may be no place for it.
fn meet(local: &mut Local, index: usize, source: SocketAddr) -> Option<u32> {
    let worker = local.worker;
    let instance = local.instance_at(index);
    let config = instance.config_arc();
    let most = match config.max_connections {
        0 => limits::UDP_PEERS_MAX,
        most => most as usize,
    };
    if instance.datagrams.peers.len() >= most && !give_way(local, index) {
        StatsCell::add(&local.instance_at(index).cell(worker).refused, 1);
        return None;
    }
    let per_address = config.limits.per_address;
    let addresses = &local.instance_at(index).placement.stats.addresses;
    let seat = match per_address {
        0 => None,
        most => match Seat::take(addresses, source.ip().to_canonical(), most) {
            None => {
                StatsCell::add(&local.instance_at(index).cell(worker).refused, 1);
                return None;
            }
            seat => seat,
        },
    };
    let peer = Address::Udp(source);
    let verified = config.amplification == 0 || peer.is_local();
    let slot = local.insert_connection(index, None, peer, Role::Server)?;
    let connection = local.connections.at(slot);
    connection.phase = Phase::Open;
    connection.seat = seat;
    connection.protocol = ProtocolState::Datagrams(Credit { verified, ..Credit::default() });
    let id = connection.id;
    let instance = local.instance_at(index);
    instance.datagrams.peers.insert(source, slot);
    instance.datagrams.fresh.push_back(id);
    let cell = instance.cell(worker);
    StatsCell::add(&cell.connections, 1);
    StatsCell::add(&cell.connections_total, 1);
    trim_fresh(local, index, most);
    limiter::begin(local, slot);
    local.tell_app_open(slot);
    Some(slot)
}

/// All places are taken: the oldest peer that has sent one datagram only gives way, so that made-up addresses don't
/// keep real ones out. False if there is none.
fn give_way(local: &mut Local, index: usize) -> bool {
    while let Some(id) = local.instance_at(index).datagrams.fresh.pop_front() {
        if let Some(slot) = local.connections.slot_of(id)
            && is_fresh(local, slot)
        {
            local.close_now(slot);
            return true;
        }
    }
    false
}

fn is_fresh(local: &mut Local, slot: u32) -> bool {
    matches!(&local.connections.at(slot).protocol,
        ProtocolState::Datagrams(credit) if credit.datagrams <= 1)
}

/// The list of fresh peers stays a list of peers.
fn trim_fresh(local: &mut Local, index: usize, most: usize) {
    if local.instance_at(index).datagrams.fresh.len() <= 2 * most {
        return;
    }
    let mut fresh = std::mem::take(&mut local.instance_at(index).datagrams.fresh);
    fresh.retain(|id| local.connections.slot_of(*id).is_some_and(|slot| is_fresh(local, slot)));
    local.instance_at(index).datagrams.fresh = fresh;
}

/// A datagram of a peer that is known.
fn on_datagram(local: &mut Local, slot: u32, bytes: &[u8]) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let index = connection.instance;
    if let ProtocolState::Datagrams(credit) = &mut connection.protocol {
        credit.received_bytes += bytes.len() as u64;
        credit.datagrams += 1;
    }
    let is_throttled = connection.is_throttled();
    if connection.phase != Phase::Open || is_throttled {
        return StatsCell::add(&local.instance_at(index).cell(worker).dropped, 1);
    }
    if connection.parked {
        return hold(local, slot, bytes);
    }
    if connection.limiter.is_some() {
        limiter::spent(local, slot, bytes.len() as u64, 0);
    }
    server::on_message(local, slot, index, bytes, None);
    local.deliver_gathered();
}

/// The peer's handler waits: the datagram, with its length before it, waits in the connection's input.
fn hold(local: &mut Local, slot: u32, bytes: &[u8]) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    if connection.input.len() + bytes.len() > limits::INPUT_HIGH_BYTES {
        let index = connection.instance;
        return StatsCell::add(&local.instance_at(index).cell(worker).dropped, 1);
    }
    connection.input.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    connection.input.extend_from_slice(bytes);
}

/// The handler has ended: what waited is handled, until the next one waits.
pub fn on_input(local: &mut Local, slot: u32) {
    let input = std::mem::take(&mut local.connections.at(slot).input);
    let mut rest = input.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let goes_on = local.connections.get(slot).is_some_and(|c| c.is_open() && !c.parked);
        if !goes_on {
            break;
        }
        let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        let index = local.connections.at(slot).instance;
        server::on_message(local, slot, index, bytes, None);
        rest = after;
    }
    local.deliver_gathered();
    if let Some(connection) = local.connections.get_mut(slot) {
        connection.input.splice(..0, rest.iter().copied());
    }
}

/// A datagram has come to a client's socket.
pub fn on_client_datagram(local: &mut Local, slot: u32, bytes: &[u8]) {
    let (worker, index) = (local.worker, local.connections.at(slot).instance);
    StatsCell::add(&local.instance_at(index).cell(worker).bytes_in, bytes.len() as u64);
    on_datagram(local, slot, bytes);
}

/// A datagram that a buffer couldn't take is none.
pub fn on_cut(local: &mut Local, index: usize) {
    let worker = local.worker;
    StatsCell::add(&local.instance_at(index).cell(worker).protocol_errors, 1);
}

/// A receive has ended in an error that isn't one of the socket: whether to receive again at once.
pub fn is_passing(error: Errno) -> bool {
    matches!(error.0, libc::ECONNREFUSED | libc::EINTR | libc::EAGAIN | libc::ECANCELED)
}

/// Sends a message to a peer or a client's target. Whether it is on its way.
pub fn send(local: &mut Local, slot: u32, bytes: &[u8]) -> bool {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let (index, is_open) = (connection.instance, connection.is_open());
    let to = connection.peer.socket().filter(|_| connection.fd.is_none());
    let ProtocolState::Datagrams(credit) = &mut connection.protocol else { return false };
    if !is_open {
        return false;
    }
    let instance = local.instances[index].as_mut().expect("an instance outlives its connections");
    let factor = u64::from(instance.config().amplification);
    let allowance = credit.received_bytes.saturating_mul(factor);
    if !credit.verified && credit.sent_bytes + bytes.len() as u64 > allowance {
        StatsCell::add(&instance.cell(worker).withheld, 1);
        return false;
    }
    let fits = bytes.len() <= limits::DATAGRAM_BYTES_MAX;
    let datagram = Datagram { to, bytes: Chunk::Owned(bytes.to_vec()) };
    if !fits || !instance.datagrams.push(datagram) {
        StatsCell::add(&instance.cell(worker).dropped, 1);
        return false;
    }
    credit.sent_bytes += bytes.len() as u64;
    if !std::mem::replace(&mut instance.datagrams.dirty, true) {
        local.dirty_datagrams.push(index);
    }
    true
}

/// The handler knows who a peer is.
pub fn verify(local: &mut Local, slot: u32) {
    if let ProtocolState::Datagrams(credit) = &mut local.connections.at(slot).protocol {
        credit.verified = true;
    }
}

/// A peer is gone.
pub fn on_close(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, peer) = (connection.instance, connection.peer.socket());
    if let Some(peer) = peer {
        local.instance_at(index).datagrams.peers.remove(&peer);
    }
}

impl Local {
    /// Turns what was said in this turn into one batch for each socket.
    pub fn flush_datagrams(&mut self) {
        for index in std::mem::take(&mut self.dirty_datagrams) {
            if let Some(instance) = self.instances[index].as_mut() {
                instance.datagrams.dirty = false;
                self.send_datagrams(index);
            }
        }
    }

    /// Sends what waits, unless a batch is under way.
    pub fn send_datagrams(&mut self, index: usize) {
        let Some(instance) = self.instances[index].as_mut() else { return };
        let waits = &mut instance.datagrams;
        if waits.sending || waits.queue.is_empty() {
            return;
        }
        let bound = instance.listeners.iter().rev().find(|listener| listener.udp);
        let bound =
            bound.map(|it| (it.fd, super::place::accept_owner(instance.placement.id, it.fd)));
        let Some((fd, owner)) = bound.or_else(|| self.connected_socket(index)) else {
            // The socket is gone: so is what waited for it.
            self.instance_at(index).datagrams.queue.clear();
            self.instance_at(index).datagrams.queued_bytes = 0;
            return;
        };
        let waits = &mut self.instance_at(index).datagrams;
        let rest = waits.queue.len().min(limits::DATAGRAMS_PER_SEND);
        let rest = waits.queue.split_off(rest);
        let datagrams = std::mem::replace(&mut waits.queue, rest);
        waits.queued_bytes = waits.queue.iter().map(|it| it.bytes.bytes().len()).sum();
        waits.sending = true;
        let token = Token::new(OpKind::SendTo, owner);
        self.ops.push(Op::SendTo { fd, datagrams, token });
    }

    /// A client's socket, with an op more in flight.
    fn connected_socket(&mut self, index: usize) -> Option<(Fd, u64)> {
        let members = self.instance_at(index).members.clone();
        members.into_iter().find_map(|slot| {
            let connection = self.connections.at(slot);
            let fd = connection.fd.filter(|_| connection.phase == Phase::Open)?;
            connection.in_flight += 1;
            Some((fd, connection.id.bits()))
        })
    }

    /// A batch has gone.
    pub fn on_sent_to(&mut self, token: Token, outcome: Outcome) {
        let worker = self.worker;
        let slot = self.slot_of_token(token);
        let index = match slot {
            Some(slot) => Some(self.connections.at(slot).instance),
            None => super::place::listener_runtime(token)
                .and_then(|runtime| self.index.get(&runtime).copied()),
        };
        let Some(index) = index else { return };
        let instance = self.instance_at(index);
        instance.datagrams.sending = false;
        let cell = instance.cell(worker);
        StatsCell::add(&cell.bytes_out, outcome.bytes);
        StatsCell::add(&cell.dropped, (outcome.datagrams.len() - outcome.sent) as u64);
        self.send_datagrams(index);
        match slot {
            Some(slot) => {
                self.connections.at(slot).in_flight -= 1;
                self.finish(slot);
            }
            None => self.end_quiet_listeners(index),
        }
    }

    /// A receive of datagrams has ended: it begins anew, unless its socket or its connection ends.
    pub fn on_receive_from_ended(&mut self, token: Token, error: Option<Errno>) {
        let error = error.filter(|error| !is_passing(*error));
        let is_starved = error == Some(Errno(libc::ENOBUFS));
        let Some(slot) = self.slot_of_token(token) else {
            if is_starved {
                self.starved_sockets.push(token);
            } else {
                self.on_accept_ended(token, error);
            }
            return;
        };
        match error {
            None => self.read_on(slot),
            Some(_) if is_starved => self.starved.push(slot),
            Some(_) => self.close_now(slot),
        }
    }

    /// Receives that found no free buffer go on.
    pub fn rearm_sockets(&mut self) {
        for token in std::mem::take(&mut self.starved_sockets) {
            self.on_accept_ended(token, None);
        }
    }

    /// Says once in a while what becomes of messages that are too long for a datagram.
    pub fn complain_of_length(&mut self, slot: u32, bytes: usize) {
        let now_ms = self.now.monotonic_ms();
        let index = self.connections.at(slot).instance;
        let instance = self.instance_at(index);
        if bytes <= limits::DATAGRAM_BYTES_MAX
            || now_ms < instance.handshake_logged_ms + limits::HANDSHAKE_LOG_MS
        {
            return;
        }
        instance.handshake_logged_ms = now_ms;
        let (name, most) = (instance.config_arc(), limits::DATAGRAM_BYTES_MAX);
        let text = format!("a message of {bytes} bytes is dropped: a datagram takes {most}");
        self.log(LogLevel::Warn, &name.name, text);
    }
}
