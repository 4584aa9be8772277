//! The client runtime: one connection to its target, dialled again with backoff and jitter when it is lost.
//! Connected means connected: handlers and counters hear of it when the kernel says so.
//!
//! A target with several addresses is dialled as RFC 8305 has it ("happy eyeballs"): IPv6 and IPv4 by turns, the next one
//! when the one before has failed or a quarter of a second has passed; the first that connects is the connection, the
//! others are given up. What is said while nobody is connected is kept, if the runtime wants that, up to its bound: then
//! the oldest goes, and is counted.

use std::collections::VecDeque;

use crate::id::{ConnectionId, RuntimeId};
use crate::limits;
use crate::log::LogLevel;
use crate::net::dial::Backoff;
use crate::proto::websocket::Kind;
use crate::ring::{Address, Errno, Fd, Op, OpKind, Token};

use super::connection::{Phase, ProtocolState, Role};
use super::datagrams::Credit;
use super::local::{Local, TimerEvent};
use super::message::FromWorker;
use super::stats::StatsCell;
use super::{Protocol, opening};

/// What a client runtime remembers between its connections.
pub struct Dialler {
    backoff: Backoff,
    /// Rounds over all addresses that have failed since the last connection.
    failures: u32,
    /// The addresses of this round that haven't been tried, the next one last.
    left: Vec<Address>,
    /// Its dials under way.
    dialling: Vec<ConnectionId>,
    waiting: Waiting,
}

/// Messages for whom nobody is connected yet, oldest first.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<(Vec<u8>, Option<Kind>)>,
    bytes: usize,
}

impl Default for Dialler {
    fn default() -> Self {
        Dialler {
            backoff: Backoff::new(limits::RECONNECT_MIN_MS, limits::RECONNECT_MAX_MS),
            failures: 0,
            left: Vec::new(),
            dialling: Vec::new(),
            waiting: Waiting::default(),
        }
    }
}

/// Starts a round of dials.
pub fn dial(local: &mut Local, index: usize) {
    let instance = local.instance_at(index);
    if instance.stopping.is_some() {
        return;
    }
    let addresses = instance.placement.backends.first().map_or(&[][..], |b| &b.addresses[..]);
    let mut order = by_turns(addresses);
    let resolves = !order.is_empty();
    order.truncate(limits::DIAL_ADDRESSES_MAX);
    order.reverse();
    instance.dialler.left = order;
    let why = match resolves {
        true => "the worker holds too many connections",
        false => "its name doesn't resolve",
    };
    if !dial_next(local, index) {
        on_failure(local, index, why.to_owned());
    }
}

/// The families by turns, beginning with that of the first; within one the resolver's order.
fn by_turns(addresses: &[Address]) -> Vec<Address> {
    let is_v6 = |address: &Address| address.ip().is_some_and(|ip| ip.is_ipv6());
    let first = addresses.first().is_some_and(is_v6);
    let (mut ones, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().cloned().partition(|address| is_v6(address) == first);
    let mut order = Vec::with_capacity(addresses.len());
    while !ones.is_empty() || !others.is_empty() {
        order.extend(ones.pop_front());
        order.extend(others.pop_front());
    }
    order
}

/// Dials the round's next address. False if there is none.
fn dial_next(local: &mut Local, index: usize) -> bool {
    let instance = local.instance_at(index);
    let runtime = instance.placement.id;
    let Some(address) = instance.dialler.left.pop() else { return false };
    let is_last = instance.dialler.left.is_empty();
    let Some(slot) = local.insert_connection(index, None, address, Role::Client) else {
        return false;
    };
    let id = local.connections.at(slot).id;
    local.instance_at(index).dialler.dialling.push(id);
    start_connect(local, slot, limits::DIAL_TIMEOUT_MS);
    if !is_last {
        let event = TimerEvent::NextAddress { runtime, after: id };
        local.timers.insert(local.now, limits::DIAL_STAGGER_MS, event);
    }
    true
}

/// A dial has had its time alone: the next one begins beside it.
pub fn on_stagger(local: &mut Local, runtime: RuntimeId, after: ConnectionId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    let instance = local.instance_at(index);
    if instance.stopping.is_none() && instance.dialler.dialling.last() == Some(&after) {
        dial_next(local, index);
    }
}

/// Sends the connect op of a connection that is being dialled, and bounds its time.
pub fn start_connect(local: &mut Local, slot: u32, timeout_ms: u64) {
    let connection = local.connections.at(slot);
    connection.in_flight += 1;
    let (id, address) = (connection.id, connection.peer.clone());
    local.ops.push(Op::Connect { address, token: Token::new(OpKind::Connect, id.bits()) });
    let event = TimerEvent::DialTimeout { connection: id };
    local.timers.insert(local.now, timeout_ms, event);
}

/// The dial has ended.
pub fn on_connected(local: &mut Local, slot: u32, result: Result<Fd, Errno>) {
    let connection = local.connections.at(slot);
    let (index, id) = (connection.instance, connection.id);
    let dialler = &mut local.instance_at(index).dialler;
    dialler.dialling.retain(|other| *other != id);
    let connection = local.connections.at(slot);
    match result {
        Ok(fd) => {
            connection.fd = Some(fd);
            connection.phase = Phase::Open;
            connection.role = Role::Guest;
            if connection.peer.is_udp() {
                connection.protocol = ProtocolState::Datagrams(Credit::of_target());
            }
            give_up_others(local, index);
            let target = local.instance_at(index).config().target.clone().unwrap_or_default();
            let (host, _) = target.rsplit_once(':').unwrap_or((&target, ""));
            if !opening::dial_tls(local, slot, host.trim_matches(['[', ']'])) {
                opened(local, slot);
            }
        }
        Err(error) => {
            let peer = connection.peer.clone();
            local.close_now(slot);
            let goes_on =
                dial_next(local, index) || !local.instance_at(index).dialler.dialling.is_empty();
            if !goes_on {
                on_failure(local, index, format!("{peer}: {error}"));
            }
        }
    }
}

/// One dial has won its round.
fn give_up_others(local: &mut Local, index: usize) {
    let dialler = &mut local.instance_at(index).dialler;
    dialler.left.clear();
    for id in std::mem::take(&mut dialler.dialling) {
        if let Some(slot) = local.connections.slot_of(id) {
            local.close_now(slot);
        }
    }
}

/// Keeps a message until somebody is connected. Whether it was taken.
pub fn keep(local: &mut Local, index: usize, message: &[u8], kind: Option<Kind>) -> bool {
    let worker = local.worker;
    let instance = local.instance_at(index);
    let most = instance.config().send_queue_bytes;
    if message.len() > most || instance.stopping.is_some() {
        return false;
    }
    let waiting = &mut instance.dialler.waiting;
    waiting.bytes += message.len();
    waiting.messages.push_back((message.to_vec(), kind));
    let mut dropped = 0;
    while (waiting.bytes > most || waiting.messages.len() > limits::SEND_QUEUE_MESSAGES_MAX)
        && let Some((oldest, _)) = waiting.messages.pop_front()
    {
        waiting.bytes -= oldest.len();
        dropped += 1;
    }
    StatsCell::add(&instance.cell(worker).dropped, dropped);
    true
}

/// `on_connect` has had its first word: what was said before goes out.
pub fn send_waiting(local: &mut Local) {
    for id in std::mem::take(&mut local.connected) {
        let Some(slot) = local.connections.slot_of(id) else { continue };
        let index = local.connections.at(slot).instance;
        let waiting = std::mem::take(&mut local.instance_at(index).dialler.waiting);
        for (message, kind) in waiting.messages {
            local.send_message(slot, &message, kind);
        }
    }
}

/// Connected, and TLS is settled: a WebSocket asks for itself first, and comes here again when that is agreed.
pub fn opened(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let is_websocket = matches!(connection.protocol, ProtocolState::WebSocket(_));
    if local.instance_at(index).config().protocol == Protocol::WebSocket && !is_websocket {
        return super::server::websocket::connect(local, slot);
    }
    local.connections.at(slot).role = Role::Client;
    let instance = local.instance_at(index);
    instance.dialler.backoff.reset();
    instance.dialler.failures = 0;
    let waits = !instance.dialler.waiting.messages.is_empty();
    let cell = instance.cell(worker);
    StatsCell::add(&cell.connections, 1);
    StatsCell::add(&cell.connections_total, 1);
    StatsCell::add(&cell.upstream_connections, 1);
    super::limiter::begin(local, slot);
    super::server::on_open(local, slot);
    local.read_on(slot);
    if waits {
        let id = local.connections.at(slot).id;
        local.connected.push(id);
    }
}

/// The handshake failed, or the server went away in it.
pub fn on_refused(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, peer) = (connection.instance, connection.peer.clone());
    let why = connection.failure.take().unwrap_or_else(|| "the connection broke".into());
    if local.instance_at(index).stopping.is_none() {
        on_failure(local, index, format!("{peer}: {why}"));
    }
}

/// The connection is gone: dial again, unless the runtime stops or wasn't asked to.
pub fn on_close(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let was_connected = connection.fd.is_some();
    let index = connection.instance;
    if !was_connected {
        return;
    }
    let cell = local.instance_at(index).cell(worker);
    StatsCell::subtract(&cell.connections, 1);
    StatsCell::subtract(&cell.upstream_connections, 1);
    local.tell_app_close(slot);
    let instance = local.instance_at(index);
    if instance.stopping.is_none() && instance.config().reconnect.is_some() {
        schedule(local, index);
    }
}

fn on_failure(local: &mut Local, index: usize, reason: String) {
    let worker = local.worker;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).dial_errors, 1);
    instance.dialler.failures += 1;
    let failures = instance.dialler.failures;
    let attempts = instance.config().reconnect;
    let (config, runtime) = (instance.config_arc(), instance.placement.id);
    let target = config.target.as_deref().unwrap_or_default().to_owned();
    let text = format!("can't connect to {target}: {reason}");
    match attempts {
        Some(limit) if limit == 0 || failures <= limit => {
            if failures == 1 {
                local.log(LogLevel::Warn, &config.name, format!("{text}; trying again"));
            }
            schedule(local, index);
        }
        _ => {
            local.log(LogLevel::Error, &config.name, text.clone());
            local.control.send(FromWorker::Degraded { runtime, reason: text });
        }
    }
}

fn schedule(local: &mut Local, index: usize) {
    let mut random = local.random.clone();
    let instance = local.instance_at(index);
    let pause_ms = instance.dialler.backoff.next_ms(&mut random);
    let runtime = instance.placement.id;
    local.random = random;
    local.timers.insert(local.now, pause_ms, TimerEvent::Reconnect { runtime });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let address = |text: &str| -> Address { text.parse().expect("an address") };
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"].map(address);
        let order = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"].map(address);
        assert_eq!(by_turns(&all), order);
        let all = ["10.0.0.1:1", "[::1]:1", "unix:/a"].map(address);
        assert_eq!(by_turns(&all), ["10.0.0.1:1", "[::1]:1", "unix:/a"].map(address));
        assert!(by_turns(&[]).is_empty());
    }
}
