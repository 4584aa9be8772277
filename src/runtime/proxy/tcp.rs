//! Streams: pairs of connections whose bytes go across, ends included.
//!
//! A client is read only when its backend is there; each half is paused while the other's outbox is full. A half-close
//! goes across after the bytes before it. Before any byte has gone, a failed dial tries the next backend.

use crate::id::ConnectionId;
use crate::limits;
use crate::log::LogLevel;
use crate::lua::Handlers;
use crate::lua::Route;
use crate::net::dial::Target;
use crate::proto::client_hello::{self, Hello};
use crate::ring::{Address, Errno, Fd, How, Op, OpKind, Token};

use super::balance::{self, Ask, Nobody};
use super::shared::Seat;
use crate::runtime::connection::{Layer, Pause, Phase, Role};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::stats::StatsCell;
use crate::runtime::{client, opening};

/// One half's view of a proxied pair.
#[derive(Debug, Default)]
pub struct Link {
    /// The other half, while there is one.
    pub other: Option<ConnectionId>,
    /// Backends that have failed this client.
    tried: Vec<u32>,
    /// The number of the backend that was chosen last; 0 for an address outside of the list, for which no other stands in.
    serial: u32,
    /// Which of that backend's addresses.
    address: usize,
    /// The name that its backends share, if the app has said one.
    group: Option<String>,
    /// Its place at its backend.
    seat: Option<Seat>,
    /// When the dial began, on the monotonic clock in nanoseconds.
    dialled_ns: u64,
    /// Its first bytes shall say which name it asks for.
    awaits_name: bool,
    /// That name.
    name: String,
    /// The write side is shut.
    shut: bool,
}

impl Link {
    /// One half of a pair that both know already.
    pub fn to(other: ConnectionId, seat: Option<Seat>) -> Link {
        Link { other: Some(other), seat, ..Link::default() }
    }
}

fn link(local: &mut Local, slot: u32) -> Option<&mut Link> {
    match &mut local.connections.get_mut(slot)?.role {
        Role::Front(link) | Role::Back(link) => Some(&mut **link),
        _ => None,
    }
}

/// A client came: ask the script where it goes, or decide.
pub fn on_open(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, id) = (connection.instance, connection.id);
    if !local.instance_at(index).config().proxy.hosts.is_empty() {
        // Its first bytes say which name it asks for; it isn't read further.
        if let Some(link) = link(local, slot) {
            link.awaits_name = true;
        }
        local.timers.insert(local.now, limits::HANDSHAKE_MS, TimerEvent::Proxy { connection: id });
        return local.read_on(slot);
    }
    ask(local, slot);
}

/// Where a client goes: the app says, or the proxy's fields.
fn ask(local: &mut Local, slot: u32) {
    local.pause(slot, Pause::ROUTING);
    let index = local.connections.at(slot).instance;
    let instance = local.instance_at(index);
    if instance.handlers.has(Handlers::ON_ROUTE) {
        local.tell_app_route(slot);
    } else {
        on_route(local, slot, Route::Default);
    }
}

/// Bytes of a client that hasn't said yet which name it asks for.
fn on_hello(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    connection.input.extend_from_slice(bytes);
    let name = match client_hello::server_name(&connection.input) {
        Hello::More => return,
        Hello::Name(name) => name,
        Hello::Nameless | Hello::Other => String::new(),
    };
    if let Some(link) = link(local, slot) {
        (link.awaits_name, link.name) = (false, name);
    }
    ask(local, slot);
}

/// A client has had its time to say which name it asks for.
pub fn on_timer(local: &mut Local, slot: u32) {
    if link(local, slot).is_some_and(|link| link.awaits_name) {
        refuse(local, slot, "it doesn't say which name it asks for");
    }
}

/// The backend of the name that a client asks for, if the proxy's fields say one.
fn by_host(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let config = local.instance_at(index).config_arc();
    if config.proxy.hosts.is_empty() {
        return next_backend(local, slot);
    }
    let name = link(local, slot).map(|link| std::mem::take(&mut link.name));
    match config.proxy.hosts.find(name.unwrap_or_default().as_bytes()).map(str::to_owned) {
        Some(upstream) => to_name(local, slot, upstream),
        None => refuse(local, slot, "it asks for a name that nobody serves"),
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
    match route {
        Route::Refused => refuse(local, slot, "on_route failed"),
        Route::Default => by_host(local, slot),
        Route::Index(at) if at < local.instance_at(index).proxy.members().len() => {
            to_backend(local, slot, at);
        }
        Route::Index(at) => {
            refuse(local, slot, &format!("on_route answered {at}: no such backend"))
        }
        Route::Name(name) => to_name(local, slot, name),
        // There is no request to change.
        Route::Changes(_) => {}
    }
}

fn to_name(local: &mut Local, slot: u32, name: String) {
    let index = local.connections.at(slot).instance;
    let members = local.instance_at(index).proxy.members();
    if members.iter().any(|member| member.backend.name == name) {
        if let Some(link) = link(local, slot) {
            link.group = Some(name);
        }
        return next_backend(local, slot);
    }
    if let Some(at) = members.iter().position(|member| member.backend.address == name) {
        return to_backend(local, slot, at);
    }
    match name.parse::<Address>() {
        Ok(address) => dial(local, slot, address),
        Err(_) => refuse(local, slot, &format!("on_route answered \"{name}\": no such backend")),
    }
}

/// Dials a backend that hasn't failed this client.
fn next_backend(local: &mut Local, front: u32) {
    let worker = local.worker;
    let connection = local.connections.at(front);
    let (index, ip) = (connection.instance, connection.peer.ip_or_local());
    let Some(own) = link(local, front) else { return };
    let (tried, group) = (std::mem::take(&mut own.tried), own.group.take());
    let hash = balance::hash(ip.to_canonical().to_string().as_bytes());
    let ask = Ask { group: group.as_deref(), tried: &tried, hash, mark: None };
    let chosen = super::choose(local, index, &ask);
    let is_first = tried.is_empty();
    if let Some(own) = link(local, front) {
        (own.tried, own.group) = (tried, group);
    }
    match chosen {
        Ok(at) => to_backend(local, front, at),
        Err(Nobody::Full) => refuse(local, front, "every backend has as many as it may"),
        Err(Nobody::None) => {
            if is_first {
                StatsCell::add(&local.instance_at(index).cell(worker).dial_errors, 1);
            }
            refuse(local, front, "no backend answers");
        }
    }
}

/// Dials a backend; one without addresses counts as a failed dial.
fn to_backend(local: &mut Local, front: u32, at: usize) {
    let index = local.connections.at(front).instance;
    let instance = local.instance_at(index);
    let most = instance.config().proxy.most;
    let member = &instance.proxy.members()[at];
    let (serial, seat) = (member.serial, member.shared.take(most));
    let Some(own) = link(local, front) else { return };
    (own.serial, own.address, own.seat) = (serial, 0, seat);
    if own.seat.is_none() {
        return refuse(local, front, "the backend has as many as it may");
    }
    dial_address(local, front, at);
}

fn dial_address(local: &mut Local, front: u32, at: usize) {
    let index = local.connections.at(front).instance;
    let which = link(local, front).map_or(0, |own| own.address);
    match local.instance_at(index).proxy.address(at, which) {
        Some(address) => dial(local, front, address),
        None => {
            // That is no fault of whoever will be at the address.
            if let Some(own) = link(local, front) {
                own.seat = None;
            }
            on_dial_failed(local, front, "its name doesn't resolve");
        }
    }
}

fn dial(local: &mut Local, front: u32, address: Address) {
    let (index, front_id) = (local.connections.at(front).instance, local.connections.at(front).id);
    let role = Role::Back(Box::new(Link::to(front_id, None)));
    let Some(back) = local.insert_connection(index, None, address, role) else {
        return refuse(local, front, "the worker holds too many connections");
    };
    let back_id = local.connections.at(back).id;
    let now_ns = local.now.monotonic_ns;
    if let Some(link) = link(local, front) {
        link.other = Some(back_id);
        link.dialled_ns = now_ns;
    }
    let connect_ms = local.instance_at(index).config().proxy.connect_ms;
    client::start_connect(local, back, connect_ms);
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
    let (index, ip) = (connection.instance, connection.peer.host());
    let serial = front.and_then(|front| link(local, front)).map_or(0, |link| link.serial);
    let member = local.instance_at(index).proxy.get(serial);
    let target = member.and_then(|member| member.backend.address.parse::<Target>().ok());
    target.map_or(ip, |target| target.host)
}

/// A backend is connected, and its handshake is over: the client is read.
pub fn opened(local: &mut Local, back: u32) {
    let worker = local.worker;
    let index = local.connections.at(back).instance;
    StatsCell::add(&local.instance_at(index).cell(worker).upstream_connections, 1);
    let Some(front) = other(local, back) else { return local.close_now(back) };
    let now_ns = local.now.monotonic_ns;
    if let Some(own) = link(local, front)
        && let Some(seat) = &own.seat
    {
        seat.shared().answered(now_ns.saturating_sub(own.dialled_ns) / 1000);
    }
    super::introduce(local, front, back);
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
    let Some(own) = link(local, front) else { return };
    let (serial, address) = (own.serial, own.address);
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).dial_errors, 1);
    let at = instance.proxy.find(serial);
    let backend = at.map(|at| &instance.proxy.members()[at].backend);
    let has_more = backend.is_some_and(|backend| address + 1 < backend.addresses.len());
    let name = backend.map_or_else(String::new, crate::runtime::Backend::key);
    super::warn_of(local, index, serial, why);
    if serial == 0 {
        return refuse(local, front, "the routed address doesn't answer");
    }
    let Some(own) = link(local, front) else { return };
    match at {
        Some(at) if has_more => {
            own.address += 1;
            dial_address(local, front, at);
        }
        _ => {
            let seat = own.seat.take();
            own.tried.push(serial);
            super::note_failure(local, index, &name, seat);
            next_backend(local, front);
        }
    }
}

fn refuse(local: &mut Local, front: u32, why: &str) {
    let worker = local.worker;
    let index = local.connections.at(front).instance;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).refused, 1);
    let source = instance.config_arc();
    let peer = local.connections.at(front).peer.clone();
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
    if link(local, slot).is_some_and(|link| link.awaits_name) {
        return on_hello(local, slot, bytes);
    }
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
        None if link(local, slot).is_some_and(|link| link.awaits_name) => {
            refuse(local, slot, "it ends before it says which name it asks for");
        }
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
    if let Some(own) = link(local, slot) {
        own.seat = None;
    }
    if let Some(partner) = partner {
        unlink(local, partner);
        local.close_after_flush(partner);
    }
    if !is_back {
        local.tell_app_close(slot);
    }
}
