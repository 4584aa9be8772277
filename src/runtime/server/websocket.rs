//! WebSocket on a server's connections and on a client runtime's: messages and control frames between the wire and the
//! runtime, keep-alive, and the closing handshake.
//!
//! `upgrade` makes connections WebSockets, `keep_alive` finds those whose peer is gone without a word.
//! Must not know: how frames look (`proto::websocket`), what messages are for.

mod connect;
mod keep_alive;
mod upgrade;

pub use connect::{connect, failed, on_answer_bytes};
pub use keep_alive::on_ping_timer;
pub use upgrade::{begin_pinned, on_head_bytes, on_head_timer, upgrade_http};

use crate::limits;
use crate::log::LogLevel;
use crate::proto::websocket::frame::{self, Opcode};
use crate::proto::websocket::{
    CloseCode, Compression, Deflate, Event, Kind, Reader, Side, Violation,
};
use crate::ring::Chunk;
use crate::ring::random::Random;
use crate::runtime::connection::{Connection, Pause, Phase, ProtocolState};
use crate::runtime::local::Local;
use crate::runtime::stats::StatsCell;

/// A connection that speaks WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    reader: Reader,
    side: Side,
    compression: Option<Compression>,
    /// When something was last heard, in monotonic milliseconds.
    heard_ms: u64,
    /// When a ping was sent that nothing has been heard since; 0 for none.
    pinged_ms: u64,
    /// A Close frame was sent.
    said_close: bool,
    /// What to say in it once the handlers of what came before have run: the peer has closed, or broken the protocol.
    farewell: Option<(CloseCode, &'static str)>,
    /// How it ended, as far as is known.
    close: CloseCode,
    reason: Box<str>,
}

/// Uncompressed, and compressed for windows of 9 to 15 bits.
pub const FORMS: usize = 8;
const PLAIN_FORM: usize = 0;

impl WebSocket {
    /// Whether the peer has said all it may say.
    pub fn has_ended(&self) -> bool {
        self.farewell.is_some()
    }

    /// Which of the forms of a broadcast it takes; nothing if its frames are masked.
    pub fn form(&self) -> Option<usize> {
        let bits = |compression: Compression| usize::from(compression.window_bits) - 8;
        (self.side == Side::Server).then(|| self.compression.map_or(PLAIN_FORM, bits))
    }

    fn key(&self, random: &mut Random) -> Option<[u8; 4]> {
        // The mask protects proxies from bytes that a page chooses; nothing here is as untrusted as a page.
        (self.side == Side::Client).then(|| (random.next_u64() as u32).to_ne_bytes())
    }
}

/// The code and reason that a connection ended with; 0 for one that isn't a WebSocket.
pub fn ending(connection: &Connection) -> (u16, &str) {
    match &connection.protocol {
        ProtocolState::WebSocket(socket) => (socket.close.0, &socket.reason),
        _ => (0, ""),
    }
}

/// A message in one of the forms.
pub fn write_form(
    form: usize,
    deflate: &mut Deflate,
    message: &[u8],
    kind: Option<Kind>,
    out: &mut Vec<u8>,
) {
    let bits = (form != PLAIN_FORM).then_some(form as u8 + 8);
    write_message(deflate, message, kind, bits, None, out);
}

/// `kind` nothing: text if it can be. A script's text that isn't UTF-8 goes as binary.
fn write_message(
    deflate: &mut Deflate,
    message: &[u8],
    kind: Option<Kind>,
    window_bits: Option<u8>,
    key: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    let opcode = Opcode::Data(kind.unwrap_or_else(|| Kind::of(message)));
    if let Some(bits) = window_bits.filter(|_| message.len() >= limits::WEBSOCKET_DEFLATE_BYTES_MIN)
    {
        let compressed = deflate.compress(message, bits);
        if compressed.len() < message.len() {
            return frame::write(out, opcode, true, compressed, key);
        }
    }
    frame::write(out, opcode, false, message, key);
}

/// From here on the connection speaks WebSocket.
fn begin(
    local: &mut Local,
    slot: u32,
    side: Side,
    compression: Option<Compression>,
    message_bytes_max: usize,
) {
    let heard_ms = local.now.monotonic_ms();
    let connection = local.connections.at(slot);
    connection.protocol = ProtocolState::WebSocket(Box::new(WebSocket {
        reader: Reader::new(side, compression.is_some(), message_bytes_max),
        side,
        compression,
        heard_ms,
        pinged_ms: 0,
        said_close: false,
        farewell: None,
        close: CloseCode::ABNORMAL,
        reason: Box::default(),
    }));
    let index = connection.instance;
    keep_alive::keep_alive(local, index);
}

/// Bytes of a WebSocket that isn't parked.
pub fn on_bytes(local: &mut Local, slot: u32, mut bytes: &[u8]) {
    let now_ms = local.now.monotonic_ms();
    let ProtocolState::WebSocket(socket) = &mut local.connections.at(slot).protocol else { return };
    (socket.heard_ms, socket.pinged_ms) = (now_ms, 0);
    // The reader is out of its connection while the bytes of its events are in use.
    let blank = Reader::new(socket.side, false, 0);
    let mut reader = std::mem::replace(&mut socket.reader, blank);
    let mut work = std::mem::take(&mut local.websocket);
    while is_served(local, slot) && take_event(local, slot, reader.next(&mut bytes, &mut work)) {}
    local.websocket = work;
    local.deliver_gathered();
    let Some(connection) = local.connections.get_mut(slot) else { return };
    if let ProtocolState::WebSocket(socket) = &mut connection.protocol {
        socket.reader = reader;
    }
    if connection.phase == Phase::Open && connection.parked {
        connection.input.extend_from_slice(bytes);
        if connection.input.len() > limits::INPUT_HIGH_BYTES {
            local.pause(slot, Pause::PARKED);
        }
    }
}

fn is_served(local: &Local, slot: u32) -> bool {
    local.connections.get(slot).is_some_and(|c| c.phase == Phase::Open && !c.parked)
}

/// Handles what the reader has found. Tells whether there may be more.
fn take_event(local: &mut Local, slot: u32, event: Result<Option<Event<'_>>, Violation>) -> bool {
    match event {
        Ok(None) => return false,
        Ok(Some(Event::Message(kind, message))) => {
            let index = local.connections.at(slot).instance;
            super::on_message(local, slot, index, message, Some(kind));
        }
        Ok(Some(Event::Ping(payload))) => send_control(local, slot, Opcode::Pong, payload),
        Ok(Some(Event::Pong(_))) => {}
        Ok(Some(Event::Close(code, reason))) => on_close_frame(local, slot, code, reason),
        Err(violation) => fail(local, slot, violation),
    }
    true
}

fn send_control(local: &mut Local, slot: u32, opcode: Opcode, payload: &[u8]) {
    let connection = local.connections.at(slot);
    let ProtocolState::WebSocket(socket) = &connection.protocol else { return };
    if connection.phase == Phase::Open {
        let key = socket.key(&mut local.random);
        frame::write(connection.outbox.tail(), opcode, false, payload, key);
        local.mark_dirty(slot);
    }
}

/// The peer closes: its code goes back, when what it asked before is answered.
fn on_close_frame(local: &mut Local, slot: u32, code: CloseCode, reason: &str) {
    let ProtocolState::WebSocket(socket) = &mut local.connections.at(slot).protocol else { return };
    (socket.close, socket.reason) = (code, reason.into());
    socket.farewell = Some((code, ""));
    local.half_closed.push(slot);
}

/// The peer broke the protocol.
fn fail(local: &mut Local, slot: u32, violation: Violation) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let (index, id) = (connection.instance, connection.id.bits());
    if let ProtocolState::WebSocket(socket) = &mut connection.protocol {
        (socket.close, socket.reason) = (violation.code(), violation.reason().into());
        socket.farewell = Some((violation.code(), violation.reason()));
    }
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).protocol_errors, 1);
    let config = instance.config_arc();
    let text = format!("connection {id} closed: {}", violation.reason());
    local.log(LogLevel::Warn, &config.name, text);
    local.half_closed.push(slot);
}

/// Closes a connection of any protocol; a WebSocket with this code and reason.
pub fn close(local: &mut Local, slot: u32, code: Option<CloseCode>, reason: &str) {
    if let Some(code) = code
        && let ProtocolState::WebSocket(socket) = &mut local.connections.at(slot).protocol
        && !socket.said_close
    {
        (socket.close, socket.reason) = (code, reason.into());
        say_close(local, slot, code, reason);
    }
    local.close_after_flush(slot);
}

/// The last frame to the peer, unless it was sent already.
fn say_close(local: &mut Local, slot: u32, code: CloseCode, reason: &str) {
    let connection = local.connections.at(slot);
    let ProtocolState::WebSocket(socket) = &mut connection.protocol else { return };
    if connection.phase == Phase::Open && !std::mem::replace(&mut socket.said_close, true) {
        let key = socket.key(&mut local.random);
        frame::write_close(connection.outbox.tail(), code, reason, key);
        local.mark_dirty(slot);
    }
}

/// The connection is about to close without a word from the peer: it is told, if there is still someone to tell.
pub fn on_closing(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, read_ended) = (connection.instance, connection.read_ended);
    let ProtocolState::WebSocket(socket) = &connection.protocol else { return };
    if let Some((code, reason)) = socket.farewell {
        return say_close(local, slot, code, reason);
    } else if read_ended {
        return;
    }
    let is_stopping = local.instance_at(index).stopping.is_some();
    let code = if is_stopping { CloseCode::GOING_AWAY } else { CloseCode::NORMAL };
    if let ProtocolState::WebSocket(socket) = &mut local.connections.at(slot).protocol
        && !socket.said_close
    {
        socket.close = code;
        say_close(local, slot, code, "");
    }
}

/// Sends one message.
pub fn send(local: &mut Local, slot: u32, message: &[u8], kind: Option<Kind>) -> bool {
    let connection = local.connections.at(slot);
    let ProtocolState::WebSocket(socket) = &connection.protocol else { return false };
    let key = socket.key(&mut local.random);
    let bits = socket.compression.map(|compression| compression.window_bits);
    if connection.backlog.is_some() {
        let mut bytes = Vec::new();
        write_message(&mut local.deflate, message, kind, bits, key, &mut bytes);
        local.send_droppable(slot, Chunk::Owned(bytes));
    } else {
        let out = connection.outbox.tail();
        write_message(&mut local.deflate, message, kind, bits, key, out);
        local.mark_dirty(slot);
    }
    true
}
