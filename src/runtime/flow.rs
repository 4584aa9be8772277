//! How connections begin, flow, pause and end; the same for every type of runtime.
//!
//! The rules: reading stops while an outbox is over its high-water mark; a connection is closed for good only when the
//! kernel holds nothing of it; a runtime hears of each end exactly once.

use std::sync::Arc;

use crate::id::{ConnectionId, RuntimeId};
use crate::limits;
use crate::log::LogLevel;
use crate::net::Outbox;
use crate::ring::{Address, Chunks, Errno, Fd, How, Op, OpKind, Token};

use super::connection::{Connection, Layer, Pause, Phase, ProtocolState, Role};
use super::local::{Local, TimerEvent};
use super::message::ToWorker;
use super::stats::{Arrival, StatsCell};
use super::{Placement, RuntimeKind, cache, client, limiter, opening, proxy, server};

impl Local {
    /// A connection in `phase`; nothing if the worker is full.
    pub fn insert_connection(
        &mut self,
        instance: usize,
        fd: Option<Fd>,
        peer: Address,
        role: Role,
    ) -> Option<u32> {
        let phase = if fd.is_some() { Phase::Open } else { Phase::Dialling };
        let config = self.instance_at(instance).config();
        let backlog_bytes_max = config.backlog_bytes_max;
        let backlog = config.drops_oldest.then(Box::default);
        let slot = self.connections.insert(|id| Connection {
            id,
            fd,
            instance,
            peer,
            phase,
            role,
            protocol: ProtocolState::Messages,
            layer: Layer::Plain,
            limiter: None,
            seat: None,
            failure: None,
            input: Vec::new(),
            outbox: Outbox::new(),
            backlog_bytes_max,
            backlog,
            in_flight: 0,
            receiving: false,
            cancelling: false,
            paused: 0,
            parked: false,
            read_ended: false,
            ended: false,
            master_tries: 0,
            dirty: false,
            disk_offset: 0,
            generation: 0,
            member: u32::MAX,
        })?;
        let instance = self.instance_at(instance);
        let member = instance.members.len() as u32;
        instance.members.push(slot);
        self.connections.at(slot).member = member;
        Some(slot)
    }

    /// A connection was accepted here: keep it, or hand it to the least loaded worker of the runtime.
    pub fn on_accepted(&mut self, runtime: RuntimeId, fd: Fd, peer: Address) {
        let worker = self.worker;
        let Some(instance) = self.instance(runtime).filter(|i| i.stopping.is_none()) else {
            return self.close_unowned(fd);
        };
        let Placement { stats, workers, .. } = &instance.placement;
        let all: u64 = workers.iter().map(|index| stats.load(*index)).sum();
        let limit = u64::from(instance.config().max_connections);
        if limit > 0 && all >= limit {
            return opening::refuse_full(self, runtime, fd, peer);
        }
        let target = workers.iter().copied().min_by_key(|index| stats.load(*index));
        let target = target.unwrap_or(worker);
        let arrival = Arrival::new(stats, target);
        if target == worker {
            self.adopt(runtime, fd, peer, arrival);
        } else {
            self.workers[usize::from(target)].send(ToWorker::Adopt { runtime, fd, peer, arrival });
        }
    }

    /// Starts serving an accepted socket.
    pub fn adopt(&mut self, runtime: RuntimeId, fd: Fd, peer: Address, arrival: Arrival) {
        let index = self.index.get(&runtime).copied();
        let Some(index) = index.filter(|index| self.instance_at(*index).stopping.is_none()) else {
            return self.close_unowned(fd);
        };
        let worker = self.worker;
        let Some(slot) = self.insert_connection(index, Some(fd), peer, Role::Guest) else {
            StatsCell::add(&self.instance_at(index).cell(worker).refused, 1);
            return self.close_unowned(fd);
        };
        let cell = self.instance_at(index).cell(worker);
        StatsCell::add(&cell.connections, 1);
        StatsCell::add(&cell.connections_total, 1);
        drop(arrival);
        opening::accepted(self, slot);
    }

    /// Arms the receive if nothing speaks against it.
    pub fn read_on(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let wanted = matches!(connection.phase, Phase::Open | Phase::Lingering)
            && connection.paused == 0
            && !connection.read_ended
            && !connection.receiving;
        let (true, Some(fd)) = (wanted, connection.fd) else { return };
        connection.receiving = true;
        connection.in_flight += 1;
        let token = Token::new(receive_kind(connection), connection.id.bits());
        self.ops.push(match token.kind() {
            Some(OpKind::ReceiveFrom) => Op::ReceiveFrom { fd, token },
            _ => Op::Receive { fd, token },
        });
    }

    /// Stops reading for a reason; bytes that are under way still come.
    pub fn pause(&mut self, slot: u32, reason: u8) {
        let connection = self.connections.at(slot);
        connection.paused |= reason;
        self.cancel_receive(slot);
    }

    /// Takes a reason back, and reads again if it was the last.
    pub fn resume(&mut self, slot: u32, reason: u8) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.paused & reason != 0 {
            connection.paused &= !reason;
            self.read_on(slot);
        }
    }

    fn cancel_receive(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.receiving && !connection.cancelling {
            connection.cancelling = true;
            connection.in_flight += 1;
            let owner = connection.id.bits();
            self.ops.push(Op::Cancel {
                target: Token::new(receive_kind(connection), owner),
                token: Token::new(OpKind::Cancel, owner),
            });
        }
    }

    /// Bytes of a peer, not empty.
    pub fn on_bytes(&mut self, slot: u32, bytes: &[u8]) {
        let worker = self.worker;
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return;
        }
        let (index, is_plain) = (connection.instance, matches!(connection.layer, Layer::Plain));
        StatsCell::add(&self.instance_at(index).cell(worker).bytes_in, bytes.len() as u64);
        if is_plain {
            self.on_plain_bytes(slot, bytes);
        } else {
            opening::on_bytes(self, slot, bytes);
        }
    }

    /// Bytes for the runtime of an open connection, not empty.
    pub fn on_plain_bytes(&mut self, slot: u32, bytes: &[u8]) {
        let connection = self.connections.at(slot);
        match connection.role {
            Role::Server | Role::Client => server::on_bytes(self, slot, bytes),
            // Without TLS a cache takes its bytes where they are; see `cache::on_received`.
            Role::Cache(_) => cache::on_bytes(self, slot, bytes),
            Role::Upstream => cache::replica::on_bytes(self, slot, bytes),
            Role::Guest if matches!(connection.protocol, ProtocolState::Connecting(_)) => {
                server::websocket::on_answer_bytes(self, slot, bytes);
            }
            // Its cache is busy: they wait.
            Role::Guest => connection.input.extend_from_slice(bytes),
            // A proxy's, on either side.
            _ => proxy::on_bytes(self, slot, bytes),
        }
    }

    /// The peer ended its stream: its last messages are served before the connection is closed.
    pub fn on_end(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        connection.read_ended = true;
        match connection.phase {
            Phase::Lingering => self.close_now(slot),
            Phase::Open if connection.is_opening() => {
                connection.failure = Some("the other side closed it".into());
                self.close_now(slot);
            }
            Phase::Open => match connection.role {
                _ if connection.role.is_proxied() => proxy::on_end(self, slot),
                Role::Guest if matches!(connection.protocol, ProtocolState::Connecting(_)) => {
                    server::websocket::failed(self, slot, "the other side closed it");
                }
                Role::Guest => {}
                Role::Upstream => self.close_now(slot),
                _ => {
                    server::http::on_parked_bytes(self, slot);
                    self.half_closed.push(slot);
                }
            },
            _ => {}
        }
    }

    /// The peer's socket has no more bytes. TLS has an end of its own, which came before or should have.
    pub fn on_socket_end(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let is_tls = matches!(connection.layer, Layer::Tls(_)) && connection.is_open();
        if !is_tls || connection.is_opening() {
            return self.on_end(slot);
        }
        if connection.read_ended {
            return;
        }
        // Someone in between may have cut it: a message that isn't whole is none, and a stream isn't passed on as whole.
        match connection.role {
            _ if connection.role.is_proxied() => proxy::on_cut(self, slot),
            Role::Server | Role::Client if !connection.parked => connection.input = Vec::new(),
            _ => {}
        }
        self.on_end(slot);
    }

    /// After the turn's handlers and commands: whoever has ended its stream and waits for nothing is closed.
    pub fn close_half_closed(&mut self) {
        for slot in std::mem::take(&mut self.half_closed) {
            let Some(connection) = self.connections.get(slot) else { continue };
            let waits =
                connection.parked || connection.is_throttled() || cache::has_unrun(connection);
            if connection.phase == Phase::Open && connection.has_heard_all() && !waits {
                server::on_last_bytes(self, slot);
            }
        }
    }

    /// A receive failed; `ENOBUFS` and a won cancel are not failures.
    pub fn on_receive_error(&mut self, slot: u32, error: Errno) {
        match error.0 {
            libc::ENOBUFS => self.starved.push(slot),
            libc::ECANCELED => self.read_on(slot),
            libc::EINTR | libc::EAGAIN => self.read_on(slot),
            _ => self.close_now(slot),
        }
    }

    /// Appends bytes for the peer and marks the connection for the flush at the end of the turn.
    /// Tells whether the connection takes bytes at all.
    pub fn send(&mut self, slot: u32, bytes: &[u8]) -> bool {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return false;
        }
        connection.outbox.append(bytes);
        self.mark_dirty(slot);
        true
    }

    /// The same for bytes that many connections send.
    pub fn send_shared(&mut self, slot: u32, bytes: &Arc<[u8]>) -> bool {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return false;
        }
        connection.outbox.append_shared(bytes);
        self.mark_dirty(slot);
        true
    }

    /// Puts a connection on the list to flush; one that doesn't read is closed here, for its outbox has a bound.
    pub fn mark_dirty(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let bytes = connection.outbox.bytes();
        if bytes > connection.backlog_bytes_max {
            return self.close_slow(slot);
        }
        // A proxied half is read on: if its peer waits for us to read before it reads itself, both would wait forever.
        let is_paused = connection.role.is_proxied() || connection.paused & Pause::OUTBOX != 0;
        if bytes > limits::OUTBOX_HIGH_BYTES && !is_paused {
            self.pause(slot, Pause::OUTBOX);
        }
        let connection = self.connections.at(slot);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Closes a connection whose peer doesn't read.
    pub(super) fn close_slow(&mut self, slot: u32) {
        let worker = self.worker;
        let connection = self.connections.at(slot);
        let (index, id, bytes) = (connection.instance, connection.id, connection.outbox.bytes());
        let instance = self.instance_at(index);
        StatsCell::add(&instance.cell(worker).slow_closed, 1);
        let config = instance.config_arc();
        let text = format!("connection {} closed: it doesn't read ({bytes} bytes wait)", id.bits());
        self.log(LogLevel::Warn, &config.name, text);
        self.close_now(slot);
    }

    /// Turns what the turn appended into one send op per connection.
    pub fn flush(&mut self) {
        // Closing a connection may mark another (the other half of a proxied pair): until none is left.
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            for slot in dirty.drain(..) {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.dirty = false;
                    self.flush_one(slot);
                }
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
            }
        }
    }

    fn flush_one(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let Some(fd) = connection.fd else { return };
        if !matches!(connection.phase, Phase::Open | Phase::Flushing) || connection.disk_offset > 0
        {
            return;
        }
        let chunks = match connection.layer {
            Layer::Plain => connection.outbox.take_send(),
            _ => self.take_send(slot),
        };
        let connection = self.connections.at(slot);
        if let Some(chunks) = chunks {
            connection.in_flight += 1;
            let token = Token::new(OpKind::Send, connection.id.bits());
            self.ops.push(Op::Send { fd, chunks, token });
        } else if connection.phase == Phase::Flushing && connection.unsent_bytes() == 0 {
            self.linger(slot);
        }
    }

    /// A send has come back.
    pub fn on_sent(&mut self, slot: u32, result: Result<usize, Errno>, chunks: Chunks) {
        let worker = self.worker;
        let connection = self.connections.at(slot);
        let kept = match &mut connection.layer {
            Layer::Tls(session) => session.on_sent(result, chunks),
            _ => connection.outbox.on_sent(result, chunks),
        };
        let (index, left) = (connection.instance, connection.unsent_bytes());
        StatsCell::add(&self.instance_at(index).cell(worker).bytes_out, result.unwrap_or(0) as u64);
        if kept.is_err() {
            return self.close_now(slot);
        }
        if self.connections.at(slot).limiter.is_some() {
            limiter::spent(self, slot, 0, 0);
        }
        if left < limits::OUTBOX_LOW_BYTES {
            self.resume(slot, Pause::OUTBOX);
            cache::on_outbox_low(self, slot);
            proxy::on_outbox_low(self, slot);
            server::http::on_outbox_low(self, slot);
        }
        self.feed(slot, false);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if left > 0 {
            if !connection.dirty {
                connection.dirty = true;
                self.dirty.push(slot);
            }
        } else if connection.phase == Phase::Flushing {
            self.linger(slot);
        } else {
            proxy::on_flushed(self, slot);
        }
    }

    /// Closes when what was sent has gone out.
    pub fn close_after_flush(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if matches!(connection.protocol, ProtocolState::Datagrams(_)) {
            // What was sent has been handed over, or is now.
            let index = connection.instance;
            self.send_datagrams(index);
            return self.close_now(slot);
        }
        match connection.phase {
            Phase::Open => {
                self.feed(slot, true);
                server::websocket::on_closing(self, slot);
                let connection = self.connections.at(slot);
                if connection.phase != Phase::Open {
                    return;
                }
                connection.phase = Phase::Flushing;
                cache::drop_input(connection);
                let (id, left) = (connection.id, connection.unsent_bytes());
                if left > 0 {
                    let event = TimerEvent::Flush { connection: id, left };
                    self.timers.insert(self.now, limits::FLUSH_STALL_MS, event);
                }
                self.end(slot);
                if !self.connections.at(slot).dirty {
                    self.connections.at(slot).dirty = true;
                    self.dirty.push(slot);
                }
            }
            Phase::Dialling => self.close_now(slot),
            _ => {}
        }
    }

    /// Some time of closing has passed: a peer that has taken nothing of what was left is given up.
    pub fn on_flush_timer(&mut self, id: ConnectionId, left: usize) {
        let Some(slot) = self.connections.slot_of(id) else { return };
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Flushing {
            return;
        }
        let still = connection.unsent_bytes();
        if still >= left {
            return self.close_slow(slot);
        }
        let event = TimerEvent::Flush { connection: id, left: still };
        self.timers.insert(self.now, limits::FLUSH_STALL_MS, event);
    }

    /// Shuts our side, and waits a bounded time for the peer to end its own.
    fn linger(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let Some(fd) = connection.fd else { return self.close_now(slot) };
        if cache::in_batch(connection) {
            // There are replies to come.
            return;
        }
        if self.say_goodbye(slot) {
            return;
        }
        let connection = self.connections.at(slot);
        if connection.read_ended {
            return self.close_now(slot);
        }
        connection.phase = Phase::Lingering;
        connection.in_flight += 1;
        connection.paused = 0;
        let id = connection.id;
        self.ops.push(Op::Shutdown {
            fd,
            how: How::Write,
            token: Token::new(OpKind::Shutdown, id.bits()),
        });
        self.timers.insert(self.now, limits::LINGER_MS, TimerEvent::Linger { connection: id });
        self.read_on(slot);
    }

    /// Closes at once; what wasn't sent is lost.
    pub fn close_now(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match connection.phase {
            Phase::Closing | Phase::Closed => return,
            Phase::Dialling => {
                let owner = connection.id.bits();
                connection.phase = Phase::Closing;
                connection.in_flight += 1;
                self.ops.push(Op::Cancel {
                    target: Token::new(OpKind::Connect, owner),
                    token: Token::new(OpKind::Cancel, owner),
                });
                return self.end(slot);
            }
            _ => {}
        }
        connection.phase = Phase::Closing;
        cache::drop_input(connection);
        let id = connection.id;
        if connection.in_flight > 0
            && let Some(fd) = connection.fd
        {
            connection.in_flight += 1;
            self.ops.push(Op::Shutdown {
                fd,
                how: How::Both,
                token: Token::new(OpKind::Shutdown, id.bits()),
            });
            self.cancel_receive(slot);
        }
        self.end(slot);
        self.finish(slot);
    }

    /// Closes the fd when nothing is in flight any more and no batch holds the connection.
    pub fn finish(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let is_used = connection.in_flight > 0 || cache::in_batch(connection);
        if connection.phase != Phase::Closing || is_used {
            return;
        }
        connection.phase = Phase::Closed;
        match connection.fd {
            Some(fd) => {
                let token = Token::new(OpKind::Close, connection.id.bits());
                self.ops.push(Op::Close { fd, token });
            }
            None => self.forget(slot),
        }
    }

    /// The close is done: the slot is free, and a runtime that stops may be done with it.
    pub fn forget(&mut self, slot: u32) {
        let Some(connection) = self.connections.remove(slot) else { return };
        let index = connection.instance;
        let instance = self.instance_at(index);
        let member = connection.member as usize;
        instance.members.swap_remove(member);
        if let Some(&moved) = instance.members.get(member) {
            self.connections.at(moved).member = member as u32;
        }
        self.check_stopped(index);
    }

    /// Tells the runtime, once, that a connection has ended.
    fn end(&mut self, slot: u32) {
        let worker = self.worker;
        let connection = self.connections.at(slot);
        if std::mem::replace(&mut connection.ended, true) {
            return;
        }
        connection.seat = None;
        let (index, is_opening) = (connection.instance, connection.is_opening());
        let is_client = self.instance_at(index).config().kind == RuntimeKind::Client;
        let is_counted = match self.connections.at(slot).role {
            Role::Guest => !is_client,
            Role::Server | Role::Front(_) | Role::HttpFront(_) | Role::Cache(_) => true,
            _ => false,
        };
        if is_counted {
            StatsCell::subtract(&self.instance_at(index).cell(worker).connections, 1);
        }
        match self.connections.at(slot).role {
            Role::Guest if is_client => client::on_refused(self, slot),
            Role::Guest => {}
            Role::Back(_) | Role::HttpBack(_) | Role::Probe(_) if is_opening => {
                proxy::on_refused(self, slot)
            }
            Role::Back(_) | Role::HttpBack(_) | Role::Probe(_) => proxy::on_close(self, slot),
            Role::Front(_) | Role::HttpFront(_) => proxy::on_close(self, slot),
            Role::Server => server::on_close(self, slot),
            Role::Client => client::on_close(self, slot),
            Role::Upstream => cache::replica::on_close(self, slot),
            Role::Cache(_) => cache::on_close(self, slot),
        }
    }

    /// The connection of a completion, if it still lives.
    pub fn slot_of_token(&self, token: Token) -> Option<u32> {
        self.connections.slot_of(ConnectionId::from_bits(token.owner())?)
    }
}

/// How what a connection is sent is received.
fn receive_kind(connection: &Connection) -> OpKind {
    match connection.protocol {
        ProtocolState::Datagrams(_) => OpKind::ReceiveFrom,
        _ => OpKind::Receive,
    }
}
