//! The server runtime on one worker: messages from its connections go to a handler, or to all other connections.
//! A client runtime's one connection speaks in the same way.
//!
//! `backlog` keeps what a slow peer hasn't taken. `detect` finds out what a new client speaks; `http` and `websocket` serve those that speak that; `outgoing` sends to
//! many.

pub mod backlog;
pub mod detect;
pub mod http;
pub mod master;
pub mod outgoing;
pub mod websocket;

use crate::limits;
use crate::log::LogLevel;
use crate::lua::Handlers;
use crate::proto::websocket::Kind;

use super::connection::{Pause, Phase, ProtocolState, Role};
use super::local::Local;
use super::message::{FromWorker, Recipients};
use super::stats::StatsCell;
use super::{Framing, Mode, Protocol};
use super::{datagrams, limiter};

/// A connection is served from now on.
pub fn on_open(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, is_client) = (connection.instance, matches!(connection.role, Role::Client));
    let config = local.instance_at(index).config();
    match config.protocol {
        _ if is_client => local.tell_app_open(slot),
        Protocol::Auto => {
            let detect_ms = config.detect_ms;
            detect::begin(local, slot, detect_ms);
        }
        Protocol::Messages if config.framing == Framing::Lines => detect::begin_pinned(local, slot),
        Protocol::Messages => local.tell_app_open(slot),
        Protocol::Http => http::begin(local, slot),
        Protocol::WebSocket => websocket::begin_pinned(local, slot),
    }
}

/// Bytes came: whole messages are handled, the rest waits in the connection's input.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    if connection.parked {
        connection.input.extend_from_slice(bytes);
        if connection.input.len() > limits::INPUT_HIGH_BYTES {
            local.pause(slot, Pause::PARKED);
        }
        return http::on_parked_bytes(local, slot);
    }
    match connection.protocol {
        ProtocolState::Messages => {}
        ProtocolState::Detecting(_) => return detect::on_bytes(local, slot, bytes),
        ProtocolState::Http(_) => return http::on_bytes(local, slot, bytes),
        ProtocolState::WebSocket(_) => return websocket::on_bytes(local, slot, bytes),
        ProtocolState::Upgrading(_) => return websocket::on_head_bytes(local, slot, bytes),
        ProtocolState::Connecting(_) | ProtocolState::Datagrams(_) => return,
    }
    if connection.input.is_empty() {
        let used = handle_messages(local, slot, bytes, 0);
        if let Some(connection) = local.connections.get_mut(slot)
            && connection.phase == Phase::Open
        {
            connection.input.extend_from_slice(&bytes[used..]);
        }
    } else {
        let searched = connection.input.len();
        connection.input.extend_from_slice(bytes);
        parse_input(local, slot, searched);
    }
}

/// Handles what a connection's input holds, after new bytes or when its handler has ended.
pub fn parse_input(local: &mut Local, slot: u32, searched: usize) {
    match local.connections.at(slot).protocol {
        ProtocolState::Messages | ProtocolState::WebSocket(_) => {}
        ProtocolState::Detecting(_) => return detect::on_input(local, slot),
        ProtocolState::Http(_) => return http::on_input(local, slot),
        ProtocolState::Datagrams(_) => return datagrams::on_input(local, slot),
        ProtocolState::Upgrading(_) | ProtocolState::Connecting(_) => return,
    }
    let mut input = std::mem::take(&mut local.connections.at(slot).input);
    if matches!(local.connections.at(slot).protocol, ProtocolState::WebSocket(_)) {
        return websocket::on_bytes(local, slot, &input);
    }
    let used = handle_messages(local, slot, &input, searched);
    if let Some(connection) = local.connections.get_mut(slot)
        && connection.phase == Phase::Open
    {
        input.drain(..used);
        if input.is_empty() && input.capacity() > limits::INPUT_KEEP_BYTES {
            input = Vec::new();
        }
        connection.input = input;
    }
}

/// Handles the whole messages of `bytes` and tells how many bytes they took.
fn handle_messages(local: &mut Local, slot: u32, bytes: &[u8], mut searched: usize) -> usize {
    let index = local.connections.at(slot).instance;
    let framing = local.instance_at(index).config().framing;
    let mut used = 0;
    if local.connections.at(slot).is_throttled() {
        return 0;
    }
    while used < bytes.len() {
        match framing.next(&bytes[used..], searched) {
            Ok(Some(frame)) => {
                let start = used + frame.message.start;
                let end = used + frame.message.end;
                used += frame.consumed;
                searched = 0;
                on_message(local, slot, index, &bytes[start..end], None);
                let going_on = local
                    .connections
                    .get(slot)
                    .is_some_and(|c| c.phase == Phase::Open && !c.parked && !c.is_throttled());
                if !going_on {
                    break;
                }
            }
            Ok(None) => break,
            Err(_) => {
                let worker = local.worker;
                let instance = local.instance_at(index);
                StatsCell::add(&instance.cell(worker).protocol_errors, 1);
                let config = instance.config_arc();
                let id = local.connections.at(slot).id.bits();
                let text = format!(
                    "connection {id} closed: a message of more than {} bytes",
                    limits::LINE_BYTES_MAX
                );
                local.log(LogLevel::Warn, &config.name, text);
                local.close_now(slot);
                return bytes.len();
            }
        }
    }
    local.deliver_gathered();
    used
}

/// A whole message; its kind if it came over a WebSocket.
pub fn on_message(local: &mut Local, slot: u32, index: usize, message: &[u8], kind: Option<Kind>) {
    let worker = local.worker;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).messages, 1);
    let mode = instance.config().mode;
    if local.connections.at(slot).limiter.is_some() {
        limiter::spent(local, slot, 0, 1);
    }
    if mode == Mode::Out
        || (mode == Mode::Master && !master::on_message(local, slot, index, message))
    {
        return;
    }
    let instance = local.instance_at(index);
    let (observed, handlers) = (instance.observed, instance.handlers);
    if observed {
        let (runtime, connection) = (instance.placement.id, local.connections.at(slot).id);
        let bytes = message.to_vec();
        local.control.send(FromWorker::Message { runtime, connection, bytes });
    }
    if handlers.has(Handlers::ON_MESSAGE) {
        local.tell_app_message(slot, message, kind);
    } else if matches!(mode, Mode::InOut | Mode::Master)
        && matches!(local.connections.at(slot).role, Role::Server)
    {
        // An empty line says nothing to the others.
        let id = local.connections.at(slot).id;
        if !message.is_empty() || kind.is_some() {
            local.broadcast(index, Recipients::AllBut(id), message, kind);
        }
    } else if mode == Mode::Echo {
        local.send_message(slot, message, kind);
    }
}

/// The peer has ended its stream and nothing waits: a last line without its newline is a message too; then close.
pub fn on_last_bytes(local: &mut Local, slot: u32) {
    if matches!(local.connections.at(slot).protocol, ProtocolState::Http(_)) {
        return http::on_last_bytes(local, slot);
    }
    if matches!(local.connections.at(slot).protocol, ProtocolState::Detecting(_))
        && !local.connections.at(slot).input.is_empty()
    {
        detect::settle_as_messages(local, slot);
    }
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let last = std::mem::take(&mut connection.input);
    let lines = matches!(connection.role, Role::Server | Role::Client)
        && matches!(connection.protocol, ProtocolState::Messages)
        && local.instance_at(index).config().framing == Framing::Lines;
    if lines && !last.is_empty() {
        on_message(local, slot, index, &last, None);
        local.deliver_gathered();
        // Its handler runs first; the connection is looked at again after that.
        local.half_closed_again.push(slot);
    } else {
        local.close_after_flush(slot);
    }
}

/// A connection has ended.
pub fn on_close(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (id, index) = (connection.id, connection.instance);
    local.instance_at(index).placement.stats.master.leave(id);
    if matches!(local.connections.at(slot).protocol, ProtocolState::Datagrams(_)) {
        datagrams::on_close(local, slot);
    }
    http::on_close(local, slot);
    local.tell_app_close(slot);
}
