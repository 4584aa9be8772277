//! Bytes out: heads and bodies of answers, each in its request's turn.

use crate::limits;
use crate::log::LogLevel;
use crate::proto::http1::reason;
use crate::runtime::connection::{Connection, Phase};
use crate::runtime::local::Local;

use super::files::{Part, Source};
use super::{Exchange, HttpTurn, Stage, app, intake, state};

/// An answer that is whole.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    /// Field lines, each with its CRLF.
    pub(super) fields: &'a [u8],
    pub(super) body: &'a [u8],
}

/// How a body's end is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Length(u64),
    Chunked,
    Close,
}

/// Answers an exchange as a whole.
pub(super) fn whole(local: &mut Local, slot: u32, number: u32, reply: &Reply<'_>) {
    let ending = Ending::Length(reply.body.len() as u64);
    let wrote = write(local, slot, number, Stage::Waiting, |turn, exchange, closes, out| {
        head(turn, exchange, closes, out, reply.status, reply.fields, ending);
        if !exchange.is_head && has_body(reply.status) {
            out.extend_from_slice(reply.body);
        }
        exchange.stage = Stage::Done;
        note(exchange, reply.status, reply.body.len());
    });
    if wrote {
        advance(local, slot);
    }
}

/// Answers with a status and its name.
pub(super) fn status(local: &mut Local, slot: u32, number: u32, status: u16) {
    let (body, fields) = intake::status_body(status);
    whole(local, slot, number, &Reply { status, fields, body: &body });
}

/// There are routes for the path, but not for the method.
pub(super) fn other_methods(local: &mut Local, slot: u32, number: u32, method: &[u8], path: &[u8]) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let allowed = config.http.routes.as_ref().map(|routes| routes.allowed(path));
    let fields = format!("Allow: {}\r\n", allowed.unwrap_or_default());
    let status = if method == b"OPTIONS" { 204 } else { 405 };
    whole(local, slot, number, &Reply { status, fields: fields.as_bytes(), body: b"" });
}

/// A folder is there to be read.
pub(super) fn read_only(local: &mut Local, slot: u32, number: u32, method: &[u8]) {
    let status = if method == b"OPTIONS" { 204 } else { 405 };
    let fields = b"Allow: GET, HEAD, OPTIONS\r\n";
    whole(local, slot, number, &Reply { status, fields, body: b"" });
}

/// Answers with a part of a file: what is in memory at once, the rest as the client takes it.
pub(super) fn part(
    local: &mut Local,
    slot: u32,
    number: u32,
    (status, fields): (u16, &[u8]),
    part: Part,
) {
    let ending = Ending::Length(part.length);
    let wrote = write(local, slot, number, Stage::Waiting, |turn, exchange, closes, out| {
        head(turn, exchange, closes, out, status, fields, ending);
        note(exchange, status, part.length as usize);
        exchange.stage = Stage::Done;
        match part.in_memory() {
            _ if exchange.is_head || part.length == 0 => {}
            Some(bytes) if bytes.len() < limits::OUTBOX_COALESCE_BYTES => {
                out.extend_from_slice(bytes);
            }
            _ => {
                exchange.file = Some(Box::new(part));
                exchange.stage = Stage::Sending;
            }
        }
    });
    if wrote {
        advance(local, slot);
    }
}

/// Sends on of the file whose turn it is. Tells whether it is through.
fn send_on(local: &mut Local, slot: u32) -> bool {
    loop {
        let Connection { protocol, outbox, .. } = local.connections.at(slot);
        let crate::runtime::connection::ProtocolState::Http(http) = protocol else { return false };
        let Some(front) = http.pending.front_mut() else { return false };
        let Some(part) = &mut front.file else { return true };
        if let Source::Memory(bytes) = &part.source
            && part.length == bytes.len() as u64
        {
            outbox.append_shared(bytes);
            part.length = 0;
        } else if let Some(bytes) = part.in_memory() {
            outbox.append(bytes);
            part.length = 0;
        } else if outbox.bytes() > limits::OUTBOX_LOW_BYTES {
            return false;
        } else {
            let Some(bytes) = part.read(limits::HTTP_FILE_PIECE_BYTES) else {
                // The length is promised already: only the end of the connection can say that it was wrong.
                local.close_now(slot);
                return false;
            };
            outbox.append_owned(bytes);
        }
        if part.length == 0 {
            front.file = None;
            front.stage = Stage::Done;
        }
        local.mark_dirty(slot);
    }
}

/// Tells the client to send the body that it announced.
pub(super) fn interim(local: &mut Local, slot: u32) {
    local.send(slot, b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Begins an answer whose body comes in pieces.
pub(super) fn begin(local: &mut Local, slot: u32, number: u32, status: u16, fields: &[u8]) {
    write(local, slot, number, Stage::Waiting, |turn, exchange, closes, out| {
        let chunked = !exchange.is_http10;
        let ending = if chunked { Ending::Chunked } else { Ending::Close };
        exchange.keep_alive &= chunked;
        head(turn, exchange, closes || !chunked, out, status, fields, ending);
        exchange.stage = Stage::Streaming { chunked };
        note(exchange, status, 0);
    });
}

/// A piece of such a body.
pub(super) fn piece(local: &mut Local, slot: u32, number: u32, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    for chunked in [true, false] {
        let stage = Stage::Streaming { chunked };
        write(local, slot, number, stage, |_, exchange, _, out| {
            if exchange.is_head {
                return;
            }
            if chunked {
                out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            }
            out.extend_from_slice(bytes);
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
            let status = exchange.record.as_ref().map_or(0, |record| record.status);
            note(exchange, status, bytes.len());
        });
    }
}

/// The end of such a body.
pub(super) fn end(local: &mut Local, slot: u32, number: u32) {
    for chunked in [true, false] {
        let stage = Stage::Streaming { chunked };
        let wrote = write(local, slot, number, stage, |_, exchange, _, out| {
            if chunked && !exchange.is_head {
                out.extend_from_slice(b"0\r\n\r\n");
            }
            exchange.stage = Stage::Done;
        });
        if wrote {
            return advance(local, slot);
        }
    }
}

/// A handler has failed: the status says so, or the body is cut so that the client can tell.
pub(super) fn fail(local: &mut Local, slot: u32, number: u32) {
    let Some(http) = state(local.connections.at(slot)) else { return };
    let Some((exchange, _)) = http.exchange(number) else { return };
    match exchange.stage {
        Stage::Waiting => status(local, slot, number, 500),
        Stage::Streaming { .. } => {
            exchange.keep_alive = false;
            exchange.stage = Stage::Done;
            advance(local, slot);
        }
        Stage::Sending | Stage::Done => {}
    }
}

/// Lets `fill` append to what an exchange at a stage sends. Tells whether it is there and at that stage.
fn write(
    local: &mut Local,
    slot: u32,
    number: u32,
    stage: Stage,
    fill: impl FnOnce(&mut HttpTurn, &mut Exchange, bool, &mut Vec<u8>),
) -> bool {
    let now = local.now;
    let Local { connections, http: turn, .. } = local;
    let connection = connections.at(slot);
    if connection.phase != Phase::Open {
        return false;
    }
    let Connection { protocol, outbox, .. } = connection;
    let crate::runtime::connection::ProtocolState::Http(http) = protocol else { return false };
    let is_last = http.next == number.wrapping_add(1);
    let closes = http.is_closing && is_last;
    let Some((exchange, is_oldest)) = http.exchange(number) else { return false };
    if exchange.stage != stage {
        return false;
    }
    turn.date(now);
    if is_oldest {
        fill(turn, exchange, closes, outbox.tail());
        local.mark_dirty(slot);
        return true;
    }
    let mut ready = std::mem::take(&mut exchange.ready);
    fill(turn, exchange, closes, &mut ready);
    let is_too_much = ready.len() > limits::OUTBOX_MAX_BYTES;
    exchange.ready = ready;
    if is_too_much {
        local.close_now(slot);
    }
    true
}

fn head(
    turn: &HttpTurn,
    exchange: &mut Exchange,
    closes: bool,
    out: &mut Vec<u8>,
    status: u16,
    fields: &[u8],
    ending: Ending,
) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(&turn.date);
    out.extend_from_slice(fields);
    match ending {
        Ending::Length(length) if has_body(status) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Ending::Chunked if has_body(status) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        _ => {}
    }
    if closes || !exchange.keep_alive {
        exchange.keep_alive = false;
        out.extend_from_slice(b"Connection: close\r\n");
    } else if exchange.is_http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 6.4.1: these have none.
fn has_body(status: u16) -> bool {
    status != 204 && status != 304
}

/// For the access log.
fn note(exchange: &mut Exchange, status: u16, bytes: usize) {
    if let Some(record) = &mut exchange.record {
        record.status = status;
        record.bytes += if exchange.is_head { 0 } else { bytes as u64 };
    }
}

/// Answers that are complete leave the line; the next one's bytes follow.
pub(super) fn advance(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    loop {
        let connection = local.connections.at(slot);
        if connection.phase != Phase::Open {
            return;
        }
        let Connection { protocol, outbox, .. } = connection;
        let crate::runtime::connection::ProtocolState::Http(http) = protocol else { return };
        let first = http.next.wrapping_sub(http.pending.len() as u32);
        let Some(front) = http.pending.front_mut() else { break };
        if !front.ready.is_empty() {
            outbox.append_owned(std::mem::take(&mut front.ready));
            local.mark_dirty(slot);
            continue;
        }
        if front.stage == Stage::Sending {
            if send_on(local, slot) {
                continue;
            }
            break;
        }
        if front.stage != Stage::Done {
            break;
        }
        let keep_alive = front.keep_alive;
        let record = front.record.take();
        http.pending.pop_front();
        http.since_ms = now_ms;
        intake::drop_stream(http, first);
        if let Some(record) = record {
            log(local, slot, &record);
        }
        if !keep_alive {
            return local.close_after_flush(slot);
        }
    }
    let connection = local.connections.at(slot);
    let (read_ended, parked) = (connection.read_ended, connection.parked);
    let Some(http) = state(connection) else { return };
    if http.is_closing && http.pending.is_empty() {
        return local.close_after_flush(slot);
    }
    if http.is_blocked {
        local.http.again.push(slot);
    } else if read_ended && !parked && http.pending.is_empty() {
        local.half_closed.push(slot);
    }
}

fn log(local: &mut Local, slot: u32, record: &super::Record) {
    let connection = local.connections.at(slot);
    let (index, peer) = (connection.instance, connection.peer.host());
    let config = local.instance_at(index).config_arc();
    let micros = (local.now.monotonic_ns - record.start_ns) / 1000;
    let text = format!(
        "{peer} \"{}\" {} {} {}.{:03}ms",
        record.request.escape_debug(),
        record.status,
        record.bytes,
        micros / 1000,
        micros % 1000,
    );
    local.log(LogLevel::Info, &config.name, text);
}

/// Connections whose answers have left, or whose outbox has room, read on.
pub fn go_on(local: &mut Local) {
    while let Some(slot) = local.http.again.pop() {
        let Some(connection) = local.connections.get_mut(slot) else { continue };
        if connection.phase != Phase::Open || connection.parked {
            continue;
        }
        let Some(http) = state(connection) else { continue };
        if std::mem::take(&mut http.is_blocked) {
            intake::on_input(local, slot);
        }
        let Some(connection) = local.connections.get_mut(slot) else { continue };
        let read_ended = connection.read_ended && connection.phase == Phase::Open;
        let is_idle = state(connection).is_some_and(|http| !http.is_answering());
        if read_ended && is_idle {
            local.half_closed.push(slot);
        }
    }
}

/// The peer has taken most of what was sent.
pub fn on_outbox_low(local: &mut Local, slot: u32) {
    let Some(http) = local.connections.get_mut(slot).and_then(state) else { return };
    if let Some(task) = http.draining.take() {
        app::wake_writer(local, slot, task);
    }
    let Some(http) = local.connections.get_mut(slot).and_then(state) else { return };
    if http.pending.front().is_some_and(|front| front.stage == Stage::Sending) {
        return advance(local, slot);
    }
    if http.is_blocked {
        local.http.again.push(slot);
    }
}
