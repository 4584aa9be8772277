//! From a request to a connection that carries it: the backend, a kept connection or a dial, and what follows when
//! either fails.

use crate::id::RuntimeId;
use crate::limits;
use crate::log::LogLevel;
use crate::lua::Route;
use crate::net::dial::Target;
use crate::proto::http1::Request;
use crate::ring::{Address, Errno, Fd};
use crate::runtime::connection::{Pause, Phase, Role};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::proxy::balance::Nobody;
use crate::runtime::proxy::settings::Host;
use crate::runtime::stats::StatsCell;
use crate::runtime::{client, opening};

use super::choice::{chosen, read_fields};
use super::fields::{self, Facts};
use super::{
    Back, Reply, Stage, back_at, back_of, front, front_at, front_of, is_tls, requests, time,
};

/// Where the request under way goes.
pub fn on_route(local: &mut Local, slot: u32, route: Route) {
    if front_at(local, slot).is_none_or(|front| front.stage != Stage::Routing) {
        return;
    }
    let index = local.connections.at(slot).instance;
    match route {
        Route::Refused => requests::fail(local, slot, 500),
        Route::Default => by_host(local, slot),
        Route::Index(at) if at < local.instance_at(index).proxy.members().len() => {
            to_backend(local, slot, at);
        }
        Route::Index(at) => no_such(local, slot, &at.to_string()),
        Route::Name(name) => to_name(local, slot, name),
        Route::Changes(changes) => {
            if let Some(front) = front_at(local, slot) {
                front.exchange.changes = Some(changes);
            }
        }
    }
}

/// The upstream of the request's host, if the proxy's fields name one.
fn by_host(local: &mut Local, slot: u32) {
    let index = local.connections.at(slot).instance;
    if local.instance_at(index).config().proxy.hosts.is_empty() {
        return next_backend(local, slot);
    }
    let config = local.instance_at(index).config_arc();
    let Some(front) = front_at(local, slot) else { return };
    let host = front.exchange.request.and_then(|request| request.host);
    let host = host.map_or(&b""[..], |host| host.of(&front.exchange.head));
    match config.proxy.hosts.find(host).map(str::to_owned) {
        Some(name) => to_name(local, slot, name),
        None => requests::fail(local, slot, 421),
    }
}

fn to_name(local: &mut Local, slot: u32, name: String) {
    let index = local.connections.at(slot).instance;
    let members = local.instance_at(index).proxy.members();
    if members.iter().any(|member| member.backend.name == name) {
        if let Some(front) = front_at(local, slot) {
            front.exchange.group = Some(name);
        }
        return next_backend(local, slot);
    }
    if let Some(at) = members.iter().position(|member| member.backend.address == name) {
        return to_backend(local, slot, at);
    }
    match name.parse::<Address>() {
        Ok(address) => dial(local, slot, 0, address),
        Err(_) => no_such(local, slot, &format!("\"{name}\"")),
    }
}

fn no_such(local: &mut Local, slot: u32, what: &str) {
    warn(local, slot, format!("on_route answered {what}: no such backend"));
    requests::fail(local, slot, 500);
}

fn warn(local: &mut Local, slot: u32, text: String) {
    let index = local.connections.at(slot).instance;
    let source = local.instance_at(index).config_arc();
    local.log(LogLevel::Warn, &source.name, text);
}

/// Sends the request to a backend that hasn't failed it.
fn next_backend(local: &mut Local, slot: u32) {
    match chosen(local, slot) {
        Ok(at) => to_backend(local, slot, at),
        Err(Nobody::Full) => queue(local, slot),
        Err(Nobody::None) => nobody(local, slot),
    }
}

fn nobody(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let index = local.connections.at(slot).instance;
    StatsCell::add(&local.instance_at(index).cell(worker).refused, 1);
    let has_failed = front_at(local, slot).is_some_and(|front| !front.exchange.tried.is_empty());
    requests::fail(local, slot, if has_failed { 502 } else { 503 });
}

/// Every backend that could be asked has as many requests as it may: this one waits for a place.
fn queue(local: &mut Local, slot: u32) {
    let now = local.now;
    let connection = local.connections.at(slot);
    let (id, index) = (connection.id, connection.instance);
    let instance = local.instance_at(index);
    let may_wait = instance.config().proxy.queue_ms > 0
        && instance.proxy.queue.len() < limits::PROXY_QUEUE_MAX;
    if !may_wait {
        return nobody(local, slot);
    }
    instance.proxy.queue.push_back(id);
    let needs_timer = !std::mem::replace(&mut instance.proxy.queue_timer, true);
    let runtime = instance.placement.id;
    if needs_timer {
        let event = TimerEvent::Queue { runtime };
        local.timers.insert(now, limits::PROXY_QUEUE_LOOK_MS, event);
    }
    if let Some(front) = front_at(local, slot) {
        front.stage = Stage::Queued;
        front.moved_ms = now.monotonic_ms();
    }
    time::watch(local, slot);
}

/// Gives free places to the requests that have waited longest.
pub(super) fn serve_queue(local: &mut Local, index: usize) {
    loop {
        let Some(instance) = local.instances[index].as_mut() else { return };
        let Some(id) = instance.proxy.queue.pop_front() else { return };
        let Some(slot) = local.connections.slot_of(id) else { continue };
        let is_queued = front_at(local, slot).is_some_and(|front| front.stage == Stage::Queued);
        if !is_queued {
            continue;
        }
        match chosen(local, slot) {
            Ok(at) => to_backend(local, slot, at),
            Err(Nobody::Full) => {
                return local.instance_at(index).proxy.queue.push_front(id);
            }
            Err(Nobody::None) => nobody(local, slot),
        }
    }
}

/// Places that other workers gave back are found by looking.
pub fn on_queue_timer(local: &mut Local, runtime: RuntimeId) {
    let now = local.now;
    let Some(&index) = local.index.get(&runtime) else { return };
    serve_queue(local, index);
    let proxy = &mut local.instance_at(index).proxy;
    proxy.queue_timer = !proxy.queue.is_empty();
    if proxy.queue_timer {
        let event = TimerEvent::Queue { runtime };
        local.timers.insert(now, limits::PROXY_QUEUE_LOOK_MS, event);
    }
}

/// Sends the request to a backend, over a kept connection if there is one.
fn to_backend(local: &mut Local, slot: u32, at: usize) {
    let index = local.connections.at(slot).instance;
    let instance = local.instance_at(index);
    let most = instance.config().proxy.most;
    let member = &instance.proxy.members()[at];
    let (serial, seat) = (member.serial, member.shared.take(most));
    let Some(front) = front_at(local, slot) else { return };
    if seat.is_none() {
        return queue(local, slot);
    }
    let exchange = &mut front.exchange;
    (exchange.serial, exchange.address, exchange.seat) = (serial, 0, seat);
    while let Some(kept) = local.instance_at(index).proxy.reuse(at) {
        if let Some(back) = local.connections.slot_of(kept)
            && local.connections.at(back).phase == Phase::Open
        {
            return attach(local, slot, back);
        }
    }
    dial_member(local, slot, at);
}

/// The backend has failed the request under way: its place is given back.
pub(super) fn failed(local: &mut Local, slot: u32, why: &str) {
    let index = local.connections.at(slot).instance;
    let Some(front) = front_at(local, slot) else { return };
    let (serial, seat) = (front.exchange.serial, front.exchange.seat.take());
    let member = local.instance_at(index).proxy.get(serial);
    let name = member.map_or_else(|| "an address".to_owned(), |it| it.backend.key());
    crate::runtime::proxy::warn_of(local, index, serial, why);
    crate::runtime::proxy::note_failure(local, index, &name, seat);
    freed(local, index);
}

fn dial_member(local: &mut Local, slot: u32, at: usize) {
    let index = local.connections.at(slot).instance;
    let Some(front) = front_at(local, slot) else { return };
    let (serial, which) = (front.exchange.serial, front.exchange.address);
    match local.instance_at(index).proxy.address(at, which) {
        Some(address) => dial(local, slot, serial, address),
        None => {
            // That is no fault of whoever will be at the address.
            if let Some(front) = front_at(local, slot) {
                front.exchange.seat = None;
            }
            on_dial_failed(local, slot, "its name doesn't resolve");
        }
    }
}

fn dial(local: &mut Local, slot: u32, serial: u32, address: Address) {
    let connection = local.connections.at(slot);
    let (index, id) = (connection.instance, connection.id);
    let connect_ms = local.instance_at(index).config().proxy.connect_ms;
    let role = Role::HttpBack(Box::new(Back::new(id, serial)));
    let Some(back) = local.insert_connection(index, None, address, role) else {
        warn(local, slot, "the worker holds too many connections".to_owned());
        return requests::fail(local, slot, 503);
    };
    let back_id = local.connections.at(back).id;
    let now_ms = local.now.monotonic_ms();
    if let Some(front) = front_at(local, slot) {
        front.stage = Stage::Connecting;
        front.moved_ms = now_ms;
        front.exchange.back = Some(back_id);
        front.exchange.serial = serial;
    }
    client::start_connect(local, back, connect_ms);
}

/// A backend's dial has ended.
pub fn on_connected(local: &mut Local, slot: u32, result: Result<Fd, Errno>) {
    let front = front_of(local, slot);
    match result {
        Ok(fd) => {
            let connection = local.connections.at(slot);
            connection.fd = Some(fd);
            connection.phase = Phase::Open;
            let host = host_name(local, slot);
            if !opening::dial_tls(local, slot, &host) {
                opened(local, slot);
            }
        }
        Err(error) => {
            if let Some(back) = back_at(local, slot) {
                back.front = None;
            }
            local.close_now(slot);
            if let Some(front) = front {
                on_dial_failed(local, front, &error.to_string());
            }
        }
    }
}

/// The name that a backend's certificate must have: the one it was dialled by.
fn host_name(local: &mut Local, slot: u32) -> String {
    let connection = local.connections.at(slot);
    let (index, ip) = (connection.instance, connection.peer.host());
    let serial = back_at(local, slot).map_or(0, |back| back.serial);
    let member = local.instance_at(index).proxy.get(serial);
    let target = member.and_then(|member| member.backend.address.parse::<Target>().ok());
    target.map_or(ip, |target| target.host)
}

/// A backend is connected, and its handshake is over.
pub fn opened(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let index = local.connections.at(slot).instance;
    StatsCell::add(&local.instance_at(index).cell(worker).upstream_connections, 1);
    if let Some(back) = back_at(local, slot) {
        back.is_counted = true;
    }
    local.read_on(slot);
    match front_of(local, slot) {
        Some(front) => {
            crate::runtime::proxy::introduce(local, front, slot);
            attach(local, front, slot);
        }
        None => local.close_now(slot),
    }
}

/// A backend's handshake failed, or it went away in it.
pub fn on_refused(local: &mut Local, slot: u32) {
    let why = local.connections.at(slot).failure.take();
    let front = front_of(local, slot);
    if let Some(back) = back_at(local, slot) {
        back.front = None;
    }
    if let Some(front) = front {
        on_dial_failed(local, front, why.as_deref().unwrap_or("the connection broke"));
    }
}

/// Tries the backend's next address, then another backend: nothing has been sent yet.
fn on_dial_failed(local: &mut Local, slot: u32, why: &str) {
    let worker = local.worker;
    let index = local.connections.at(slot).instance;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).dial_errors, 1);
    let Some(front) = front_at(local, slot) else { return };
    front.exchange.back = None;
    let (serial, address) = (front.exchange.serial, front.exchange.address);
    let proxy = &local.instance_at(index).proxy;
    let at = proxy.find(serial);
    let member = at.map(|at| &proxy.members()[at].backend);
    let has_more = member.is_some_and(|member| address + 1 < member.addresses.len());
    let Some(front) = front_at(local, slot) else { return };
    match at {
        Some(at) if has_more => {
            front.exchange.address += 1;
            dial_member(local, slot, at);
        }
        _ => {
            front.exchange.tried.push(serial);
            failed(local, slot, why);
            if serial == 0 {
                requests::fail(local, slot, 502);
            } else {
                next_backend(local, slot);
            }
        }
    }
}

/// Writes the request's head to the connection that shall carry it.
fn attach(local: &mut Local, slot: u32, to: u32) {
    let connection = local.connections.at(slot);
    let (id, index, ip, tls) =
        (connection.id, connection.instance, connection.peer.ip_or_local(), is_tls(connection));
    let Some(request) = front(connection).and_then(|front| front.exchange.request) else { return };
    // Others may have been read while this one waited.
    read_fields(local, slot);
    let Some(front) = front_at(local, slot) else { return };
    let head = std::mem::take(&mut front.exchange.head);
    let changes = front.exchange.changes.take();
    let fields = std::mem::take(&mut local.proxy.fields);
    let to_id = local.connections.at(to).id;
    let source = local.instance_at(index).config_arc();
    let settings = &source.proxy;
    let own_host =
        (settings.host == Host::Backend).then(|| backend_host(local, index, to)).flatten();
    let mut target = Vec::new();
    let facts = Facts {
        ip,
        is_trusted: settings.trusted.iter().any(|network| network.contains(ip)),
        is_tls: tls,
        host: match &settings.host {
            Host::Kept => None,
            Host::Fixed(name) => Some(name.as_bytes()),
            Host::Backend => own_host.as_deref().map(str::as_bytes),
        },
        target: match changes.as_ref().and_then(|it| it.path.as_ref()) {
            Some(path) => path.as_bytes(),
            None => target_of(&head, &request, settings, &mut target),
        },
        forwarded: settings.forwarded,
        via: settings.via.as_deref(),
        changes: &[&settings.request_headers, changes.as_ref().map_or(&[][..], |it| &it.headers)],
    };
    let is_head = request.method.of(&head) == b"HEAD";
    let may_upgrade = fields::upgrade_of(&head, &request, &fields).is_some();
    let outbox = &mut local.connections.at(to).outbox;
    fields::request(outbox.tail(), &head, &request, &fields, &facts);
    local.proxy.fields = fields;
    if let Some(back) = back_at(local, to) {
        back.front = Some(id);
        back.reply = Reply::Head;
        (back.is_head, back.may_upgrade, back.interim) = (is_head, may_upgrade, 0);
    }
    let now_ns = local.now.monotonic_ns;
    if let Some(front) = front_at(local, slot) {
        front.exchange.head = head;
        front.exchange.changes = changes;
        front.exchange.back = Some(to_id);
        front.exchange.sent_ns = now_ns;
    }
    local.mark_dirty(to);
    requests::begin_exchange(local, slot, to);
    time::watch(local, slot);
}

/// The Host field of a backend that is asked by its own name.
fn backend_host(local: &mut Local, index: usize, to: u32) -> Option<String> {
    let serial = back_at(local, to)?.serial;
    let peer = local.connections.at(to).peer.clone();
    let address = local.instance_at(index).proxy.get(serial).map(|it| it.backend.address.clone());
    // A runtime's name says nothing outside of this daemon.
    Some(address.filter(|address| address.contains(':')).unwrap_or_else(|| peer.to_string()))
}

/// The path and query that a backend is asked for.
fn target_of<'a>(
    head: &'a [u8],
    request: &Request,
    settings: &crate::runtime::proxy::Settings,
    room: &'a mut Vec<u8>,
) -> &'a [u8] {
    let asked = request.path_and_query.of(head);
    let is_changed = settings.strip_prefix.is_some() || settings.add_prefix.is_some();
    if asked.starts_with(b"/") && !is_changed {
        return asked;
    }
    if asked == b"*" {
        return asked;
    }
    let stripped = settings.strip_prefix.as_ref().and_then(|prefix| {
        let rest = asked.strip_prefix(prefix.as_bytes())?;
        matches!(rest.first(), None | Some(b'/' | b'?')).then_some(rest)
    });
    room.extend_from_slice(settings.add_prefix.as_deref().unwrap_or_default().as_bytes());
    let rest = stripped.unwrap_or(asked);
    if !rest.starts_with(b"/") {
        room.push(b'/');
    }
    room.extend_from_slice(rest);
    room
}

/// There may be a place for a request that waits.
fn freed(local: &mut Local, index: usize) {
    if !local.instance_at(index).proxy.queue.is_empty() {
        local.proxy.freed.push(index);
    }
}

/// Lets go of the connection that carries a client's request: kept for the next one, or closed.
pub(super) fn release(local: &mut Local, slot: u32, is_reusable: bool) {
    let to = back_of(local, slot);
    let index = local.connections.at(slot).instance;
    if let Some(front) = front_at(local, slot) {
        front.exchange.back = None;
        if let Some(seat) = front.exchange.seat.take() {
            if !front.exchange.is_answered {
                seat.shared().unasked();
            }
            drop(seat);
            freed(local, index);
        }
    }
    let Some(to) = to else { return };
    let now_ms = local.now.monotonic_ms();
    local.resume(slot, Pause::LINK);
    let connection = local.connections.at(to);
    let (id, index, peer) = (connection.id, connection.instance, connection.peer.clone());
    let is_good = connection.phase == Phase::Open && !connection.read_ended;
    let Some(back) = back_at(local, to) else { return };
    (back.front, back.reply, back.is_reused) = (None, Reply::None, true);
    let serial = back.serial;
    let instance = local.instance_at(index);
    // One that was introduced is its client's alone.
    let is_anyones = instance.config().proxy.send_proxy.is_none();
    let found = instance.proxy.find(serial).filter(|_| is_anyones);
    let is_placed =
        found.is_some_and(|at| instance.proxy.members()[at].backend.addresses.contains(&peer));
    if !(is_reusable && is_good && is_placed && instance.stopping.is_none()) {
        return local.close_now(to);
    }
    let surplus = instance.proxy.keep(serial, id, now_ms);
    time::tend_later(local, index);
    local.resume(to, Pause::LINK);
    if let Some(surplus) = surplus.and_then(|surplus| local.connections.slot_of(surplus)) {
        local.close_now(surplus);
    }
}

/// The connection that carried a request is gone before its answer was whole: another try, or the client is told.
pub(super) fn lost(local: &mut Local, slot: u32, was_reused: bool, why: &str) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let Some(front) = front_at(local, slot) else { return };
    let exchange = &mut front.exchange;
    exchange.back = None;
    let serial = exchange.serial;
    if exchange.is_answered {
        front.is_closing = true;
        exchange.closes = true;
        failed(local, slot, why);
        return requests::cut(local, slot);
    }
    let method = exchange.request.map(|request| request.method);
    let is_idempotent = method.is_some_and(|method| {
        matches!(
            method.of(&exchange.head),
            b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE"
        )
    });
    let may_repeat = (is_idempotent || config.proxy.retry_all) && !exchange.has_sent_body;
    let tries = exchange.tried.len() as u32;
    if may_repeat
        && was_reused
        && let Some(at) = local.instance_at(index).proxy.find(serial)
    {
        // It had been kept for too long: that says nothing about the backend.
        return dial_member(local, slot, at);
    }
    let may_repeat = may_repeat
        && serial != 0
        && tries < config.proxy.retries
        && local.instance_at(index).proxy.may_retry();
    if let Some(front) = front_at(local, slot) {
        if may_repeat && let Some(seat) = &front.exchange.seat {
            seat.shared().retried();
        }
        front.exchange.tried.push(serial);
    }
    failed(local, slot, why);
    if may_repeat {
        next_backend(local, slot);
    } else {
        requests::fail(local, slot, 502);
    }
}

/// A backend isn't asked any more: its kept connections close.
pub fn drop_kept(local: &mut Local, kept: Vec<crate::id::ConnectionId>) {
    for id in kept {
        if let Some(slot) = local.connections.slot_of(id) {
            local.close_now(slot);
        }
    }
}
