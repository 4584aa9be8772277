//! Requests that become WebSockets: on any port that speaks HTTP, and on ports that take nothing else.

use crate::log::LogLevel;
use crate::proto::http1::{Event, Field, Request, RequestError, RequestReader, Version, reason};
use crate::proto::websocket::Side;
use crate::proto::websocket::handshake::{Accepted, Policy, accept};
use crate::runtime::connection::ProtocolState;
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::server;
use crate::runtime::stats::StatsCell;

/// A new connection where nothing but WebSocket is spoken.
pub fn begin_pinned(local: &mut Local, slot: u32) {
    let index = local.connections.at(slot).instance;
    let head_ms = local.instance_at(index).config().http.times.head_ms;
    let connection = local.connections.at(slot);
    connection.protocol = ProtocolState::Upgrading(RequestReader::default());
    let event = TimerEvent::Upgrade { connection: connection.id };
    local.timers.insert(local.now, head_ms, event);
}

/// The handshake has had its time.
pub fn on_head_timer(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    match connection.protocol {
        _ if !connection.is_open() => {}
        ProtocolState::Upgrading(_) => turn_away(local, slot, 408, "no request came in time"),
        ProtocolState::Connecting(_) => super::failed(local, slot, "no answer came in time"),
        _ => {}
    }
}

/// Bytes of its request.
pub fn on_head_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    let ProtocolState::Upgrading(reader) = &mut connection.protocol else { return };
    let mut input = std::mem::take(&mut connection.input);
    input.extend_from_slice(bytes);
    let mut fields = Vec::new();
    match reader.next(&input, &mut fields) {
        Ok(Some(Event::Head { request, end })) => {
            upgrade_http(local, slot, &input[..end], &request, &fields, &input[end..]);
        }
        Ok(_) => connection.input = input,
        Err(error) => refuse_request(local, slot, error),
    }
}

/// Makes a connection a WebSocket if its request, with which `head` begins and ends, is right, and answers it either
/// way. `rest` came behind it.
pub fn upgrade_http(
    local: &mut Local,
    slot: u32,
    head: &[u8],
    request: &Request,
    fields: &[Field],
    rest: &[u8],
) {
    let pair = |field: &Field| (field.name.of(head), field.value.of(head));
    let fields: Vec<(&[u8], &[u8])> = fields.iter().map(pair).collect();
    let head = Head {
        method: request.method.of(head),
        target: request.path_and_query.of(head),
        is_http_1_1: request.version == Version::Http11,
        fields: &fields,
    };
    upgrade(local, slot, &head, rest);
}

fn refuse_request(local: &mut Local, slot: u32, error: RequestError) {
    let (worker, index) = (local.worker, local.connections.at(slot).instance);
    StatsCell::add(&local.instance_at(index).cell(worker).protocol_errors, 1);
    turn_away(local, slot, error.status(), "it isn't a request that can become a WebSocket");
}

fn turn_away(local: &mut Local, slot: u32, status: u16, why: &str) {
    let connection = local.connections.at(slot);
    let (id, index) = (connection.id.bits(), connection.instance);
    let config = local.instance_at(index).config_arc();
    local.log(LogLevel::Warn, &config.name, format!("connection {id} closed: {why}"));
    let reason = reason(status);
    let answer =
        format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    local.send(slot, answer.as_bytes());
    local.close_after_flush(slot);
}

/// An upgrade request's head.
struct Head<'a> {
    /// GET, to become a WebSocket.
    method: &'a [u8],
    /// The path and the query.
    target: &'a [u8],
    /// Whether it is of HTTP/1.1.
    is_http_1_1: bool,
    /// The fields as they came.
    fields: &'a [(&'a [u8], &'a [u8])],
}

fn upgrade(local: &mut Local, slot: u32, head: &Head<'_>, rest: &[u8]) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let policy = Policy {
        subprotocols: config.websocket.subprotocols.clone(),
        origins: config.websocket.origins.clone(),
        compression: config.websocket.deflate,
    };
    let fields = head.fields.iter().copied();
    match accept(head.method, head.is_http_1_1, fields, &policy) {
        Err(refusal) => {
            let worker = local.worker;
            StatsCell::add(&local.instance_at(index).cell(worker).refused, 1);
            local.send(slot, refusal.answer().as_bytes());
            local.close_after_flush(slot);
        }
        Ok(accepted) => {
            local.send(slot, accepted.answer().as_bytes());
            let compression = accepted.compression;
            super::begin(
                local,
                slot,
                Side::Server,
                compression,
                config.websocket.message_bytes_max,
            );
            // Until now it was a visitor of the app's, if that has met it at all.
            local.connections.at(slot).generation = 0;
            local.tell_app_open(slot);
            tell_app_request(local, slot, head, &accepted);
            local.connections.at(slot).input = Vec::new();
            server::on_bytes(local, slot, rest);
        }
    }
}

/// What a script may want to know of the request: the target, the subprotocol, and each field's name and value, all
/// ended by zero bytes, which no valid request has.
fn tell_app_request(local: &mut Local, slot: u32, head: &Head<'_>, accepted: &Accepted) {
    let mut text = Vec::with_capacity(512);
    let subprotocol = accepted.subprotocol.as_deref().unwrap_or_default();
    for part in [head.target, subprotocol.as_bytes()] {
        text.extend_from_slice(part);
        text.push(0);
    }
    for (name, value) in head.fields {
        text.extend(name.iter().map(u8::to_ascii_lowercase));
        text.push(0);
        text.extend_from_slice(value);
        text.push(0);
    }
    local.tell_app_websocket(slot, &text);
}
