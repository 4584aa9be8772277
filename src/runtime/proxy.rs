//! The proxy on one worker: clients on one side, backends on the other.
//!
//! `tcp` passes streams on as pairs, `http` passes requests on one at a time over kept connections; what both need of
//! backends (which there are, who is next, how each fares) is in `backends`. This page only says which of the two a
//! connection's event is for. Must not know: what an app's handlers say.

pub mod backends;
pub mod balance;
pub mod health;
pub mod http;
pub mod settings;
pub mod shared;
pub mod tcp;

use std::net::SocketAddr;

pub use settings::Settings;
pub use tcp::Link;

use crate::log::LogLevel;
use crate::lua::Route;
use crate::ring::{Address, Errno, Fd};

use balance::{Ask, Nobody, Rules};
use shared::Seat;

use super::Protocol;
use super::connection::Role;
use super::local::Local;

/// The backend that is next, by the proxy's strategy or that of the name asked for.
fn choose(local: &mut Local, index: usize, ask: &Ask<'_>) -> Result<usize, Nobody> {
    let now_ms = local.now.monotonic_ms();
    let mut random = local.random.clone();
    let instance = local.instance_at(index);
    let config = instance.config();
    let (most, slow_start_ms) = (config.proxy.most, config.proxy.slow_start_ms);
    let own = ask.group.and_then(|group| {
        let members = instance.proxy.members().iter();
        members.filter(|member| member.backend.name == group).find_map(|it| it.backend.strategy)
    });
    let strategy = own.unwrap_or(config.strategy);
    let rules = Rules { strategy, most, slow_start_ms, now_ms };
    let chosen = balance::choose(&mut instance.proxy, ask, &rules, &mut random);
    local.random = random;
    chosen
}

/// Begins a backend's connection with the PROXY header about a client, if its fields say so.
fn introduce(local: &mut Local, front: u32, back: u32) {
    let connection = local.connections.at(front);
    // Who comes by a path has no port, and is on this machine.
    let socket =
        |address: &Address| address.socket().unwrap_or(SocketAddr::new(address.ip_or_local(), 0));
    let (index, source) = (connection.instance, socket(&connection.peer));
    let config = local.instance_at(index).config();
    let listen = config.listen.as_ref().map(socket);
    let (Some(version), Some(listen)) = (config.proxy.send_proxy, listen) else { return };
    let out = local.connections.at(back).outbox.tail();
    crate::proto::proxy_protocol::write(out, version, source, listen);
    local.mark_dirty(back);
}

/// Says why a backend has failed, unless that was said lately.
fn warn_of(local: &mut Local, index: usize, serial: u32, why: &str) {
    let now_ms = local.now.monotonic_ms();
    let instance = local.instance_at(index);
    let mut name = "an address".to_owned();
    if let Some(at) = instance.proxy.find(serial) {
        let member = &mut instance.proxy.members[at];
        if !member.is_news(why, now_ms) {
            return;
        }
        name = member.backend.key();
    }
    let source = instance.config_arc();
    local.log(LogLevel::Warn, &source.name, format!("backend {name}: {why}"));
}

/// A backend has failed what it was asked; said once when that has opened its circuit.
fn note_failure(local: &mut Local, index: usize, name: &str, seat: Option<Seat>) {
    let Some(seat) = seat else { return };
    let now_ms = local.now.monotonic_ms();
    let config = local.instance_at(index).config_arc();
    let circuit = config.proxy.circuit;
    if seat.shared().failed(circuit, now_ms) {
        let seconds = circuit.open_ms / 1000;
        let text = format!(
            "backend {name} has failed {} times in a row: it isn't asked for {seconds} s",
            circuit.failures
        );
        local.log(LogLevel::Warn, &config.name, text);
    }
}

/// What a client that has just come is.
pub fn front_role(protocol: Protocol) -> Role {
    match protocol {
        Protocol::Http => Role::HttpFront(Box::default()),
        _ => Role::Front(Box::default()),
    }
}

/// A client came.
pub fn on_open(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpFront(_) => http::on_open(local, slot),
        _ => tcp::on_open(local, slot),
    }
}

/// The app's decision for a client, or for its request.
pub fn on_route(local: &mut Local, slot: u32, route: Route) {
    match local.connections.get(slot).map(|connection| &connection.role) {
        Some(Role::HttpFront(_)) => http::on_route(local, slot, route),
        Some(_) => tcp::on_route(local, slot, route),
        None => {}
    }
}

/// A client may have taken too long.
pub fn on_timer(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpFront(_) => http::on_timer(local, slot),
        _ => tcp::on_timer(local, slot),
    }
}

/// A backend's dial has ended.
pub fn on_connected(local: &mut Local, slot: u32, result: Result<Fd, Errno>) {
    match local.connections.at(slot).role {
        Role::HttpBack(_) => http::on_connected(local, slot, result),
        Role::Probe(_) => health::on_connected(local, slot, result),
        _ => tcp::on_connected(local, slot, result),
    }
}

/// A backend's handshake is over.
pub fn opened(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpBack(_) => http::opened(local, slot),
        Role::Probe(_) => health::opened(local, slot),
        _ => tcp::opened(local, slot),
    }
}

/// A backend's handshake failed, or it went away in it.
pub fn on_refused(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpBack(_) => http::on_refused(local, slot),
        Role::Probe(_) => health::on_gone(local, slot),
        _ => tcp::on_refused(local, slot),
    }
}

/// A stream was cut off where TLS would have said its end.
pub fn on_cut(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpFront(_) | Role::HttpBack(_) => http::on_cut(local, slot),
        _ => tcp::on_cut(local, slot),
    }
}

/// Bytes, not empty.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    match local.connections.at(slot).role {
        Role::HttpFront(_) => http::on_request_bytes(local, slot, bytes),
        Role::HttpBack(_) => http::on_answer_bytes(local, slot, bytes),
        Role::Probe(_) => health::on_bytes(local, slot, bytes),
        _ => tcp::on_bytes(local, slot, bytes),
    }
}

/// An outbox is low again.
pub fn on_outbox_low(local: &mut Local, slot: u32) {
    match local.connections.get(slot).map(|connection| &connection.role) {
        Some(Role::HttpFront(_) | Role::HttpBack(_)) => http::on_outbox_low(local, slot),
        Some(Role::Front(_) | Role::Back(_)) => tcp::on_outbox_low(local, slot),
        _ => {}
    }
}

/// A side has ended its stream.
pub fn on_end(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpFront(_) => http::on_client_end(local, slot),
        Role::HttpBack(_) => http::on_backend_end(local, slot),
        Role::Probe(_) => health::on_end(local, slot),
        _ => tcp::on_end(local, slot),
    }
}

/// Nothing is left to send.
pub fn on_flushed(local: &mut Local, slot: u32) {
    if let Role::Front(_) | Role::Back(_) = local.connections.at(slot).role {
        tcp::on_flushed(local, slot);
    }
}

/// A connection is gone.
pub fn on_close(local: &mut Local, slot: u32) {
    match local.connections.at(slot).role {
        Role::HttpFront(_) => http::on_client_gone(local, slot),
        Role::HttpBack(_) => http::on_backend_gone(local, slot),
        Role::Probe(_) => health::on_gone(local, slot),
        _ => tcp::on_close(local, slot),
    }
}
