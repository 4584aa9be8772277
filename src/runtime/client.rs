//! The client runtime: one connection to its target, dialled again with backoff and jitter when it is lost.
//! Connected means connected: handlers and counters hear of it when the kernel says so.

use crate::limits;
use crate::log::LogLevel;
use crate::net::dial::Backoff;
use crate::ring::{Errno, Fd, Op, OpKind, Token};

use super::connection::{Phase, ProtocolState, Role};
use super::datagrams::Credit;
use super::local::{Local, TimerEvent};
use super::message::FromWorker;
use super::stats::StatsCell;
use super::{Protocol, opening};

/// What a client runtime remembers between its connections.
pub struct Dialler {
    backoff: Backoff,
    /// Failed attempts since the last connection.
    failures: u32,
    /// Which of the target's addresses comes next.
    next_address: usize,
}

impl Default for Dialler {
    fn default() -> Self {
        Dialler {
            backoff: Backoff::new(limits::RECONNECT_MIN_MS, limits::RECONNECT_MAX_MS),
            failures: 0,
            next_address: 0,
        }
    }
}

/// Starts a dial.
pub fn dial(local: &mut Local, index: usize) {
    let instance = local.instance_at(index);
    if instance.stopping.is_some() {
        return;
    }
    let addresses = instance.placement.backends.first().map_or(&[][..], |b| &b.addresses[..]);
    let next = instance.dialler.next_address % addresses.len().max(1);
    let Some(address) = addresses.get(next).cloned() else {
        let reason = "its name doesn't resolve".to_owned();
        return on_failure(local, index, reason);
    };
    instance.dialler.next_address += 1;
    let Some(slot) = local.insert_connection(index, None, address, Role::Client) else {
        return on_failure(local, index, "the worker holds too many connections".to_owned());
    };
    start_connect(local, slot, limits::DIAL_TIMEOUT_MS);
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
    let index = connection.instance;
    match result {
        Ok(fd) => {
            connection.fd = Some(fd);
            connection.phase = Phase::Open;
            connection.role = Role::Guest;
            if connection.peer.is_udp() {
                connection.protocol = ProtocolState::Datagrams(Credit::of_target());
            }
            let target = local.instance_at(index).config().target.clone().unwrap_or_default();
            let (host, _) = target.rsplit_once(':').unwrap_or((&target, ""));
            if !opening::dial_tls(local, slot, host.trim_matches(['[', ']'])) {
                opened(local, slot);
            }
        }
        Err(error) => {
            let peer = connection.peer.clone();
            local.close_now(slot);
            on_failure(local, index, format!("{peer}: {error}"));
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
    instance.dialler.next_address = 0;
    let cell = instance.cell(worker);
    StatsCell::add(&cell.connections, 1);
    StatsCell::add(&cell.connections_total, 1);
    StatsCell::add(&cell.upstream_connections, 1);
    super::limiter::begin(local, slot);
    super::server::on_open(local, slot);
    local.read_on(slot);
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
