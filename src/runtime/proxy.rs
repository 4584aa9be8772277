//! The TCP proxy on one worker: pairs of connections whose bytes go across, ends included.
//!
//! A client is read only when its backend is there; each half is paused while the other's outbox is full. A half-close
//! goes across after the bytes before it. Before any byte has gone, a failed dial tries the next backend.

use std::net::SocketAddr;

use crate::id::ConnectionId;
use crate::limits;
use crate::log::LogLevel;
use crate::lua::Handlers;
use crate::lua::Route;
use crate::net::dial::Target;
use crate::ring::{Errno, Fd, How, Op, OpKind, Token};

use super::config::backend_parts;
use super::connection::{Layer, Pause, Phase, Role};
use super::local::Local;
use super::stats::StatsCell;
use super::{Strategy, client, opening};

/// One half's view of a proxied pair.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// The other half, while there is one.
    pub other: Option<ConnectionId>,
    /// Dials that failed for this client.
    failures: usize,
    /// The backend that was chosen or tried last.
    backend: usize,
    /// Which of that backend's addresses.
    address: usize,
    /// A route to one address outside of the list: no other backend may stand in for it.
    fixed: bool,
    /// The write side is shut.
    shut: bool,
}

/// A client that has just come.
pub fn front_role() -> Role {
    Role::Front(Link::default())
}

fn link(local: &mut Local, slot: u32) -> Option<&mut Link> {
    match &mut local.connections.get_mut(slot)?.role {
        Role::Front(link) | Role::Back(link) => Some(link),
        _ => None,
    }
}

/// A client came: ask the script where it goes, or decide.
pub fn on_open(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let index = connection.instance;
    local.pause(slot, Pause::ROUTING);
    let instance = local.instance_at(index);
    if instance.handlers.has(Handlers::ON_ROUTE) {
        local.tell_app_route(slot);
    } else {
        on_route(local, slot, Route::Default);
    }
}

/// The decision for a client.
pub fn on_route(local: &mut Local, slot: u32, route: Route) {
    let Some(connection) = local.connections.get(slot) else { return };
    let waits = connection.phase == Phase::Open && connection.paused & Pause::ROUTING != 0;
    if !waits || link(local, slot).is_none_or(|link| link.other.is_some()) {
        return;
    }
    let index = local.connections.at(slot).instance;
    let chosen = match route {
        Route::Refused => return refuse(local, slot, "on_route failed"),
        Route::Default => choose(local, index),
        Route::Index(at) => {
            if at >= local.instance_at(index).placement.backends.len() {
                return refuse(local, slot, &format!("on_route answered {at}: no such backend"));
            }
            at
        }
        Route::Name(name) => {
            let backends = &local.instance_at(index).placement.backends;
            match backends.iter().position(|backend| backend.name == name) {
                Some(at) => at,
                None => match name.parse::<SocketAddr>() {
                    Ok(address) => return dial_fixed(local, slot, address),
                    Err(_) => {
                        let why = format!("on_route answered \"{name}\": no such backend");
                        return refuse(local, slot, &why);
                    }
                },
            }
        }
    };
    if let Some(link) = link(local, slot) {
        link.backend = chosen;
    }
    dial_backend(local, slot);
}

fn choose(local: &mut Local, index: usize) -> usize {
    let mut random = local.random.clone();
    let instance = local.instance_at(index);
    let count = instance.placement.backends.len().max(1);
    let chosen = match instance.config().strategy {
        Strategy::Random => random.below(count as u64) as usize,
        Strategy::RoundRobin | Strategy::Lua => {
            instance.next_backend = (instance.next_backend + 1) % count;
            (instance.next_backend + count - 1) % count
        }
    };
    local.random = random;
    chosen
}

/// Dials the link's backend; one without addresses counts as a failed dial.
fn dial_backend(local: &mut Local, front: u32) {
    let index = local.connections.at(front).instance;
    let Some(&mut Link { backend, address, .. }) = link(local, front) else { return };
    let found = local.instance_at(index).placement.backends.get(backend);
    match found.and_then(|backend| backend.addresses.get(address)).copied() {
        Some(address) => dial(local, front, address),
        None => on_dial_failed(local, front, "its name doesn't resolve"),
    }
}

fn dial_fixed(local: &mut Local, front: u32, address: SocketAddr) {
    if let Some(link) = link(local, front) {
        link.fixed = true;
    }
    dial(local, front, address);
}

fn dial(local: &mut Local, front: u32, address: SocketAddr) {
    let (index, front_id) = (local.connections.at(front).instance, local.connections.at(front).id);
    let role = Role::Back(Link { other: Some(front_id), ..Link::default() });
    let Some(back) = local.insert_connection(index, None, address, role) else {
        return refuse(local, front, "the worker holds too many connections");
    };
    let back_id = local.connections.at(back).id;
    if let Some(link) = link(local, front) {
        link.other = Some(back_id);
    }
    client::start_connect(local, back);
}

/// A backend's dial has ended.
pub fn on_connected(local: &mut Local, back: u32, result: Result<Fd, Errno>) {
    let front = other(local, back);
    match result {
        Ok(fd) => {
            let connection = local.connections.at(back);
            connection.fd = Some(fd);
            connection.phase = Phase::Open;
            let host = server_host(local, back, front);
            if !opening::dial_tls(local, back, &host) {
                opened(local, back);
            }
        }
        Err(error) => {
            unlink(local, back);
            local.close_now(back);
            if let Some(front) = front {
                unlink(local, front);
                on_dial_failed(local, front, &error.to_string());
            }
        }
    }
}

/// The name that a backend's certificate must have: the one it was dialled by.
fn server_host(local: &mut Local, back: u32, front: Option<u32>) -> String {
    let connection = local.connections.at(back);
    let (index, ip) = (connection.instance, connection.peer.ip().to_string());
    let chosen = front.and_then(|front| link(local, front)).filter(|link| !link.fixed);
    let backend = chosen.map(|link| link.backend);
    let backends = &local.instance_at(index).config().backends;
    let address = backend.and_then(|at| backends.get(at)).map(|backend| backend_parts(backend).1);
    let target = address.and_then(|address| address.parse::<Target>().ok());
    target.map_or(ip, |target| target.host)
}

/// A backend is connected, and its handshake is over: the client is read.
pub fn opened(local: &mut Local, back: u32) {
    let worker = local.worker;
    let index = local.connections.at(back).instance;
    StatsCell::add(&local.instance_at(index).cell(worker).upstream_connections, 1);
    let Some(front) = other(local, back) else { return local.close_now(back) };
    local.read_on(back);
    local.resume(front, Pause::ROUTING);
    let early = std::mem::take(&mut local.connections.at(front).input);
    if !early.is_empty() {
        on_bytes(local, front, &early);
    }
    on_flushed(local, back);
}

/// A backend's handshake failed, or it went away in it.
pub fn on_refused(local: &mut Local, back: u32) {
    let why = local.connections.at(back).failure.take();
    let front = other(local, back);
    unlink(local, back);
    if let Some(front) = front {
        unlink(local, front);
        on_dial_failed(local, front, why.as_deref().unwrap_or("the connection broke"));
    }
}

/// A half's stream was cut off: the other half must not take it for whole.
pub fn on_cut(local: &mut Local, slot: u32) {
    if let Some(to) = other(local, slot)
        && let Layer::Tls(session) = &mut local.connections.at(to).layer
    {
        session.abandon();
    }
}

/// Tries the backend's next address, then the next backends, each once.
fn on_dial_failed(local: &mut Local, front: u32, why: &str) {
    let worker = local.worker;
    let index = local.connections.at(front).instance;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).dial_errors, 1);
    let backends = instance.placement.backends.len();
    let Some(&mut Link { backend, .. }) = link(local, front) else { return };
    let instance = local.instance_at(index);
    let addresses = instance.placement.backends.get(backend).map_or(0, |b| b.addresses.len());
    let name =
        instance.placement.backends.get(backend).map_or_else(String::new, |b| b.name.clone());
    let source = instance.config_arc();
    local.log(LogLevel::Warn, &source.name, format!("backend {name}: {why}"));
    let Some(link) = link(local, front) else { return };
    if link.fixed {
        return refuse(local, front, "the routed address doesn't answer");
    }
    if link.address + 1 < addresses {
        link.address += 1;
        return dial_backend(local, front);
    }
    link.failures += 1;
    if link.failures >= backends {
        return refuse(local, front, "no backend answers");
    }
    link.address = 0;
    link.backend = (link.backend + 1) % backends;
    dial_backend(local, front);
}

fn refuse(local: &mut Local, front: u32, why: &str) {
    let worker = local.worker;
    let index = local.connections.at(front).instance;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).refused, 1);
    let source = instance.config_arc();
    let peer = local.connections.at(front).peer;
    local.log(LogLevel::Warn, &source.name, format!("connection of {peer} closed: {why}"));
    local.close_now(front);
}

fn other(local: &mut Local, slot: u32) -> Option<u32> {
    let id = link(local, slot)?.other?;
    local.connections.slot_of(id)
}

fn unlink(local: &mut Local, slot: u32) {
    if let Some(link) = link(local, slot) {
        link.other = None;
    }
}

/// Bytes of one half go to the other.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    if connection.paused & Pause::ROUTING != 0 {
        // They came with its handshake.
        return connection.input.extend_from_slice(bytes);
    }
    let index = connection.instance;
    StatsCell::add(&local.instance_at(index).cell(worker).messages, 1);
    let Some(to) = other(local, slot) else { return local.close_now(slot) };
    if !local.send(to, bytes) {
        return;
    }
    if local.connections.get(to).is_some_and(|to| to.outbox.bytes() > limits::OUTBOX_HIGH_BYTES) {
        local.pause(slot, Pause::LINK);
    }
}

/// A half's outbox is low again: the other half is read again.
pub fn on_outbox_low(local: &mut Local, slot: u32) {
    if let Some(from) = other(local, slot) {
        local.resume(from, Pause::LINK);
    }
}

/// A half has ended its stream: the other half hears of it after the bytes before it.
pub fn on_end(local: &mut Local, slot: u32) {
    match other(local, slot) {
        Some(to) => on_flushed(local, to),
        None if local.connections.at(slot).paused & Pause::ROUTING != 0 => {}
        None => local.close_now(slot),
    }
}

/// A half has nothing left to send: if the other half has ended, it is told; when both have ended, the pair closes.
pub fn on_flushed(local: &mut Local, slot: u32) {
    let Some(from) = other(local, slot) else { return };
    let ended = local.connections.at(from).read_ended;
    let connection = local.connections.at(slot);
    let is_ready = connection.phase == Phase::Open && !connection.is_opening();
    if !ended || connection.unsent_bytes() > 0 || !is_ready || local.say_goodbye(slot) {
        return;
    }
    let connection = local.connections.at(slot);
    let (id, fd, read_ended) = (connection.id, connection.fd, connection.read_ended);
    let (Some(fd), Some(own)) = (fd, link(local, slot)) else { return };
    if !std::mem::replace(&mut own.shut, true) {
        let connection = local.connections.at(slot);
        connection.in_flight += 1;
        let token = Token::new(OpKind::Shutdown, id.bits());
        local.ops.push(Op::Shutdown { fd, how: How::Write, token });
    }
    let other_shut = link(local, from).is_some_and(|link| link.shut);
    if read_ended && other_shut {
        local.close_now(slot);
    }
}

/// A half is gone: the other gets what is left for it, then closes too.
pub fn on_close(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let connected = connection.fd.is_some();
    let (index, is_back) = (connection.instance, matches!(connection.role, Role::Back(_)));
    let partner = other(local, slot);
    unlink(local, slot);
    if is_back && connected {
        StatsCell::subtract(&local.instance_at(index).cell(worker).upstream_connections, 1);
    }
    if let Some(partner) = partner {
        unlink(local, partner);
        local.close_after_flush(partner);
    }
    if !is_back {
        local.tell_app_close(slot);
    }
}
