//! The first moments of a server's connection, while it isn't known what its client speaks.
//!
//! On `auto` the app meets the connection when the protocol is known, or as a connection of messages after a time of
//! silence. The silence decides nothing else: browsers open connections in advance, so the first bytes are looked at
//! whenever they come, and become HTTP if nothing was said to the client before. With pinned lines the app meets it at
//! once, and a client whose first line is HTTP's is closed: no page in a browser may speak to a line protocol.

use crate::limits;
use crate::log::LogLevel;
use crate::proto::detect::{Detected, detect};
use crate::runtime::connection::{Phase, ProtocolState};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::stats::StatsCell;

/// What a TLS client that can't be served is told: a fatal alert, handshake_failure (RFC 8446 section 6).
const TLS_REFUSAL: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28];

/// A connection whose first bytes haven't told its protocol yet.
#[derive(Debug, Default)]
pub struct Detecting {
    /// Only messages are served here: HTTP and TLS are turned away.
    pub is_pinned: bool,
    /// The app has met it, as a connection of messages.
    pub is_announced: bool,
    /// Something was sent to it.
    has_spoken: bool,
    /// The time of silence is over, and what came of a first line was kept.
    is_late: bool,
    /// Messages for it from before it was known, framed.
    held: Vec<u8>,
}

/// A new connection on `auto`.
pub fn begin(local: &mut Local, slot: u32, detect_ms: u64) {
    let connection = local.connections.at(slot);
    connection.protocol = ProtocolState::Detecting(Detecting::default());
    let event = TimerEvent::Detect { connection: connection.id };
    local.timers.insert(local.now, detect_ms, event);
}

/// A new connection on pinned lines.
pub fn begin_pinned(local: &mut Local, slot: u32) {
    let detecting = Detecting { is_pinned: true, is_announced: true, ..Detecting::default() };
    local.connections.at(slot).protocol = ProtocolState::Detecting(detecting);
    local.tell_app_open(slot);
}

/// Bytes of a connection whose protocol isn't known; its input holds what came before.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    if connection.input.is_empty() {
        let detected = detect(bytes);
        if detected == Detected::Unknown {
            connection.input.extend_from_slice(bytes);
        } else if settle(local, slot, detected) {
            super::on_bytes(local, slot, bytes);
        }
    } else {
        connection.input.extend_from_slice(bytes);
        on_input(local, slot);
    }
}

/// Looks at the input of such a connection.
pub fn on_input(local: &mut Local, slot: u32) {
    let detected = detect(&local.connections.at(slot).input);
    if detected != Detected::Unknown && settle(local, slot, detected) {
        super::parse_input(local, slot, 0);
    }
}

/// The peer has ended its stream, or its time is over: what came is a message.
pub fn settle_as_messages(local: &mut Local, slot: u32) {
    settle(local, slot, Detected::Messages);
}

/// The protocol is known. Tells whether the connection's bytes are to be handled now.
fn settle(local: &mut Local, slot: u32, detected: Detected) -> bool {
    let connection = local.connections.at(slot);
    let ProtocolState::Detecting(detecting) = &mut connection.protocol else { return false };
    let (pinned, spoken) = (detecting.is_pinned, detecting.has_spoken);
    match detected {
        Detected::Unknown => return false,
        Detected::Messages => {
            announce(local, slot);
            local.connections.at(slot).protocol = ProtocolState::Messages;
        }
        Detected::Http if pinned => {
            refuse(local, slot, "it speaks HTTP, and this runtime is pinned to messages");
        }
        Detected::Http if spoken => {
            refuse(local, slot, "it speaks HTTP, after a silence in which it was sent messages");
        }
        Detected::Http => {
            forget_messages(local, slot);
            super::http::begin(local, slot);
        }
        Detected::Tls => {
            local.send(slot, &TLS_REFUSAL);
            refuse(local, slot, "it speaks TLS, which this runtime doesn't");
        }
    }
    // The handler of `on_connect` has yet to run, and may wait: the first message is an event behind it.
    local.connections.get(slot).is_some_and(|c| c.phase == Phase::Open && !c.parked)
}

/// The app meets the connection, and what was kept for it goes out.
fn announce(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let ProtocolState::Detecting(detecting) = &mut connection.protocol else { return };
    if std::mem::replace(&mut detecting.is_announced, true) {
        return;
    }
    let held = std::mem::take(&mut detecting.held);
    detecting.has_spoken |= !held.is_empty();
    local.tell_app_open(slot);
    if !held.is_empty() {
        local.send(slot, &held);
    }
}

/// A connection that the silence made one of messages becomes another: for the app that one has ended.
fn forget_messages(local: &mut Local, slot: u32) {
    local.tell_app_close(slot);
    local.connections.at(slot).generation = 0;
}

/// A framed message for such a connection: sent if the app has met it, kept until then. Too much ends the detection.
pub fn send(local: &mut Local, slot: u32, framed: &[u8]) -> bool {
    let connection = local.connections.at(slot);
    let ProtocolState::Detecting(detecting) = &mut connection.protocol else { return false };
    if detecting.is_announced {
        detecting.has_spoken = true;
        return local.send(slot, framed);
    }
    detecting.held.extend_from_slice(framed);
    if detecting.held.len() > limits::DETECT_HELD_BYTES_MAX {
        announce(local, slot);
    }
    true
}

/// The time of silence is over. A first line that has begun has the time of an HTTP request's head.
pub fn on_timer(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let id = connection.id;
    let ProtocolState::Detecting(detecting) = &mut connection.protocol else { return };
    if detecting.is_announced {
        return;
    }
    if connection.input.is_empty() {
        announce(local, slot);
    } else if std::mem::replace(&mut detecting.is_late, true) {
        if settle(local, slot, Detected::Messages) {
            super::parse_input(local, slot, 0);
        }
    } else {
        let index = connection.instance;
        let head_ms = local.instance_at(index).config().http.times.head_ms;
        let event = TimerEvent::Detect { connection: id };
        local.timers.insert(local.now, head_ms, event);
    }
}

fn refuse(local: &mut Local, slot: u32, why: &str) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let (index, id) = (connection.instance, connection.id.bits());
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).protocol_errors, 1);
    let config = instance.config_arc();
    local.log(LogLevel::Warn, &config.name, format!("connection {id} closed: {why}"));
    local.close_after_flush(slot);
}
