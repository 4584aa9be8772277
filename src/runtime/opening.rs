//! What comes before a runtime's bytes: the PROXY header, a first byte that tells TLS from plain, and the handshake; and
//! how TLS stands between a connection's socket and its runtime from then on.
//!
//! Until it is over the connection is a guest: its runtime hasn't met it, and a failure is counted and told to nobody
//! else. Must not know: what records look like (`net::tls`), what the bytes say.

use crate::id::{ConnectionId, RuntimeId};
use crate::limits;
use crate::log::LogLevel;
use crate::net::Outbox;
use crate::net::tls::{Progress, Session};
use crate::proto::proxy_protocol;
use crate::ring::{Address, Fd};

use super::cache::Join;
use super::connection::{Connection, Layer, Role};
use super::instance::Instance;
use super::limiter::{self, Seat};
use super::local::{Local, TimerEvent};
use super::message::ToWorker;
use super::stats::StatsCell;
use super::{Protocol, RuntimeKind, cache, client, proxy, server};

/// The first byte of a TLS record that opens a handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// What a cache's client is told when there are too many, in Redis's words.
const CACHE_FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// What a client is told where only HTTP is spoken, or WebSocket, which begins as HTTP.
const HTTP_FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
Content-Length: 0\r\n\r\n";

/// The words for a client for whom there is no room; nothing where it isn't known what it speaks, or only after a
/// handshake.
fn full_words(instance: &Instance) -> Option<&'static [u8]> {
    if instance.placement.tls.accept.is_some() {
        return None;
    }
    match (instance.config().kind, instance.config().protocol) {
        (RuntimeKind::Cache, _) => Some(CACHE_FULL),
        (RuntimeKind::Server, Protocol::Http | Protocol::WebSocket) => Some(HTTP_FULL),
        _ => None,
    }
}

/// A runtime has as many connections as it may: whoever comes is told so where its protocol can, and closed.
pub fn refuse_full(local: &mut Local, runtime: RuntimeId, fd: Fd, peer: Address) {
    let worker = local.worker;
    let Some(&index) = local.index.get(&runtime) else { return local.close_unowned(fd) };
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).refused, 1);
    let words = full_words(instance);
    let slot = words.and_then(|_| local.insert_connection(index, Some(fd), peer, Role::Guest));
    let (Some(slot), Some(words)) = (slot, words) else { return local.close_unowned(fd) };
    let cell = local.instance_at(index).cell(worker);
    StatsCell::add(&cell.connections, 1);
    say_full(local, slot, words);
}

fn say_full(local: &mut Local, slot: u32, words: &[u8]) {
    local.connections.at(slot).outbox.append(words);
    local.close_after_flush(slot);
}

/// A connection was accepted.
pub fn accepted(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, ip) = (connection.instance, connection.peer.ip());
    let sources = &local.instance_at(index).config().proxy_protocol;
    if !ip.is_some_and(|ip| sources.iter().any(|network| network.contains(ip))) {
        return welcome(local, slot);
    }
    let connection = local.connections.at(slot);
    connection.layer = Layer::ProxyHeader;
    let event = TimerEvent::Handshake { connection: connection.id };
    local.timers.insert(local.now, limits::HANDSHAKE_MS, event);
    local.read_on(slot);
}

/// It is known who it is: whether there is room for it, and whether it speaks TLS.
fn welcome(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let (index, ip) = (connection.instance, connection.peer.ip());
    let instance = local.instance_at(index);
    let most = instance.config().limits.per_address;
    // Clients of a Unix socket have no address to tell them apart by.
    if let Some(ip) = ip.map(|ip| ip.to_canonical()).filter(|_| most > 0) {
        let Some(seat) = Seat::take(&instance.placement.stats.addresses, ip, most) else {
            StatsCell::add(&instance.cell(worker).refused, 1);
            return match full_words(instance) {
                Some(words) => say_full(local, slot, words),
                None => local.close_now(slot),
            };
        };
        local.connections.at(slot).seat = Some(seat);
    }
    let tls = &local.instance_at(index).placement.tls;
    match (tls.accept.is_some(), tls.optional) {
        (false, _) => local.opened(slot),
        (true, true) => {
            let connection = local.connections.at(slot);
            connection.layer = Layer::FirstByte;
            let event = TimerEvent::FirstByte { connection: connection.id };
            local.timers.insert(local.now, limits::DETECT_MS, event);
            local.read_on(slot);
        }
        (true, false) => accept_tls(local, slot),
    }
}

fn accept_tls(local: &mut Local, slot: u32) {
    let index = local.connections.at(slot).instance;
    match local.instance_at(index).placement.tls.accept() {
        Some(session) => begin(local, slot, session),
        None => failed(local, slot, "TLS can't be set up"),
    }
}

/// Speaks TLS as the client on a connection that has just come about. `false` if that isn't configured.
pub fn dial_tls(local: &mut Local, slot: u32, host: &str) -> bool {
    let index = local.connections.at(slot).instance;
    let tls = &local.instance_at(index).placement.tls;
    if tls.dial.is_none() {
        return false;
    }
    match tls.dial(host) {
        Some(session) => begin(local, slot, session),
        None => failed(local, slot, &format!("\"{host}\" can't be a server's name")),
    }
    true
}

fn begin(local: &mut Local, slot: u32, session: Session) {
    let connection = local.connections.at(slot);
    connection.layer = Layer::Tls(Box::new(session));
    let event = TimerEvent::Handshake { connection: connection.id };
    local.timers.insert(local.now, limits::HANDSHAKE_MS, event);
    local.flush_soon(slot);
    local.read_on(slot);
}

/// A client has been silent for a while on a port that speaks both: it waits for a plain greeting.
pub fn on_silence(local: &mut Local, id: ConnectionId) {
    let Some(slot) = local.connections.slot_of(id) else { return };
    let connection = local.connections.at(slot);
    if matches!(connection.layer, Layer::FirstByte) && connection.is_open() {
        connection.layer = Layer::Plain;
        local.opened(slot);
    }
}

/// A handshake has had its time.
pub fn on_timeout(local: &mut Local, id: ConnectionId) {
    let Some(slot) = local.connections.slot_of(id) else { return };
    let connection = local.connections.at(slot);
    if connection.is_opening() && connection.is_open() {
        failed(local, slot, "the handshake takes too long");
    }
}

/// Bytes of a connection that isn't plain.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    match &mut connection.layer {
        Layer::Plain => local.on_plain_bytes(slot, bytes),
        Layer::ProxyHeader => on_header(local, slot, bytes),
        Layer::FirstByte => {
            if bytes[0] == HANDSHAKE_RECORD {
                accept_tls(local, slot);
                on_bytes(local, slot, bytes);
            } else {
                connection.layer = Layer::Plain;
                local.opened(slot);
                local.on_bytes_again(slot, bytes);
            }
        }
        Layer::Tls(_) => on_records(local, slot, bytes),
    }
}

/// A piece of the header that says whom a proxy speaks for.
fn on_header(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    connection.input.extend_from_slice(bytes);
    match proxy_protocol::parse(&connection.input) {
        Ok(None) => {}
        Err(_) => failed(local, slot, "it doesn't begin with a PROXY header"),
        Ok(Some(header)) => {
            let rest = std::mem::take(&mut connection.input).split_off(header.consumed);
            if let Some(source) = header.source {
                connection.peer = source.into();
            }
            connection.layer = Layer::Plain;
            welcome(local, slot);
            let is_open = local.connections.get(slot).is_some_and(Connection::is_open);
            if is_open && !rest.is_empty() {
                on_bytes(local, slot, &rest);
            }
        }
    }
}

fn on_records(local: &mut Local, slot: u32, bytes: &[u8]) {
    let mut room = std::mem::take(&mut local.room);
    let Layer::Tls(session) = &mut local.connections.at(slot).layer else { return };
    let outcome = session.receive(bytes, &mut room);
    let (has_records, wire_bytes) = (session.has_records(), session.wire_bytes());
    if has_records {
        local.flush_soon(slot);
    }
    match outcome {
        _ if wire_bytes > limits::OUTBOX_HIGH_BYTES => {
            failed(local, slot, "it makes us answer and doesn't read");
        }
        Ok(Progress { opened, ended }) => {
            if opened {
                established(local, slot);
            }
            if !room.plain.is_empty() {
                local.on_bytes_again(slot, &room.plain);
            }
            if ended && local.connections.get(slot).is_some_and(Connection::is_open) {
                local.on_end(slot);
            }
        }
        Err(error) => failed(local, slot, &error.to_string()),
    }
    local.room = room;
}

fn established(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, is_guest) = (connection.instance, matches!(connection.role, Role::Guest));
    let is_client = local.instance_at(index).config().kind == RuntimeKind::Client;
    match (is_guest, is_client) {
        (true, true) => client::opened(local, slot),
        (true, false) => local.opened(slot),
        (false, _) => proxy::opened(local, slot),
    }
}

/// The other side breaks the rules, or isn't who it must be.
pub fn failed(local: &mut Local, slot: u32, why: &str) {
    let worker = local.worker;
    let now_ms = local.now.monotonic_ms();
    let connection = local.connections.at(slot);
    let (index, is_opening) = (connection.instance, connection.is_opening());
    let peer = connection.peer.clone();
    let instance = local.instance_at(index);
    let cell = instance.cell(worker);
    let counter = if is_opening { &cell.handshake_errors } else { &cell.protocol_errors };
    StatsCell::add(counter, 1);
    let due = now_ms >= instance.handshake_logged_ms + limits::HANDSHAKE_LOG_MS
        || instance.handshake_logged_ms == 0;
    if due {
        instance.handshake_logged_ms = now_ms.max(1);
        let name = instance.config_arc();
        local.log(LogLevel::Warn, &name.name, format!("connection of {peer} closed: {why}"));
    }
    let connection = local.connections.at(slot);
    if let Layer::Tls(session) = &mut connection.layer {
        session.abandon();
    }
    connection.failure = is_opening.then(|| why.into());
    // What was to be said is nobody's now; the alert still goes.
    connection.outbox = Outbox::new();
    local.close_after_flush(slot);
}

impl Local {
    /// Nothing stands before a connection's bytes any more: its runtime meets it.
    pub fn opened(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let (id, index) = (connection.id, connection.instance);
        let role = match self.instance_at(index).config().kind {
            RuntimeKind::Cache => match cache::join(self, slot, index, id) {
                Join::Role(role) => role,
                Join::Refused => return self.close_now(slot),
                Join::Later => {
                    let again = ToWorker::Open { connection: id };
                    return self.workers[usize::from(self.worker)].send(again);
                }
            },
            RuntimeKind::Proxy => proxy::front_role(self.instance_at(index).config().protocol),
            RuntimeKind::Server | RuntimeKind::Client => Role::Server,
        };
        self.connections.at(slot).role = role;
        limiter::begin(self, slot);
        let connection = self.connections.at(slot);
        let early = std::mem::take(&mut connection.input);
        match connection.role {
            Role::Front(_) | Role::HttpFront(_) => proxy::on_open(self, slot),
            Role::Server => {
                server::on_open(self, slot);
                self.read_on(slot);
            }
            _ => self.read_on(slot),
        }
        if !early.is_empty() {
            self.on_bytes_again(slot, &early);
        }
        if self.connections.get(slot).is_some_and(|c| c.is_open() && c.read_ended) {
            self.on_end(slot);
        }
    }

    /// Bytes of a peer that are counted already, after what stood before them.
    fn on_bytes_again(&mut self, slot: u32, bytes: &[u8]) {
        if self.connections.get(slot).is_some_and(Connection::is_open) {
            self.on_plain_bytes(slot, bytes);
        }
    }

    /// Has a connection flushed at the end of the turn.
    pub fn flush_soon(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The next send of a connection, if there is something to send and none is in flight.
    pub fn take_send(&mut self, slot: u32) -> Option<crate::ring::Chunks> {
        let Connection { layer, outbox, .. } = self.connections.at(slot);
        let Layer::Tls(session) = layer else { return outbox.take_send() };
        match session.take_send(outbox) {
            Ok(chunks) => chunks,
            Err(_) => {
                self.close_now(slot);
                None
            }
        }
    }

    /// Says in TLS that nothing more comes from here. Whether something is to be sent for that.
    pub fn say_goodbye(&mut self, slot: u32) -> bool {
        let Layer::Tls(session) = &mut self.connections.at(slot).layer else { return false };
        let said = session.close();
        if said {
            self.flush_soon(slot);
        }
        said
    }
}
