//! Clients: heads become exchanges, bodies go to the exchange's backend.

use crate::limits;
use crate::log::LogLevel;
use crate::lua::{Handlers, Route};
use crate::proto::http1::{Event, Request, RequestError, Version, reason};
use crate::runtime::connection::{Layer, Pause, Phase};
use crate::runtime::limiter;
use crate::runtime::local::Local;
use crate::runtime::stats::StatsCell;

use super::{Reply, Stage, again, back_at, back_of, dispatch, fields, front, front_at, time};

/// Bytes of a client.
pub fn on_request_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    if !connection.input.is_empty() {
        connection.input.extend_from_slice(bytes);
        return on_input(local, slot);
    }
    let used = read(local, slot, bytes);
    keep(local, slot, &bytes[used..]);
    after(local, slot);
}

/// Goes on with what a client has sent ahead.
pub(super) fn on_input(local: &mut Local, slot: u32) {
    let Some(connection) = local.connections.get_mut(slot) else { return };
    let mut input = std::mem::take(&mut connection.input);
    let used = read(local, slot, &input);
    if let Some(connection) = local.connections.get_mut(slot)
        && connection.phase == Phase::Open
    {
        input.drain(..used);
        if input.is_empty() && input.capacity() > limits::INPUT_KEEP_BYTES {
            input = Vec::new();
        }
        connection.input = input;
    }
    after(local, slot);
}

/// Puts what can't be read yet aside.
fn keep(local: &mut Local, slot: u32, bytes: &[u8]) {
    if let Some(connection) = local.connections.get_mut(slot)
        && connection.phase == Phase::Open
    {
        connection.input.extend_from_slice(bytes);
    }
}

/// What is read ahead has a bound; a client that has ended its stream and waits for nothing is let go.
fn after(local: &mut Local, slot: u32) {
    let Some(connection) = local.connections.get_mut(slot) else { return };
    if connection.phase != Phase::Open {
        return;
    }
    let waiting = connection.input.len();
    let read_ended = connection.read_ended;
    let Some(front) = front(connection) else { return };
    let is_idle = front.stage == Stage::Idle;
    if read_ended && front.stage == Stage::Exchanging && front.reader.is_in_body() {
        // The rest of the body won't come.
        dispatch::release(local, slot, false);
        return local.close_now(slot);
    }
    if waiting > limits::PROXY_AHEAD_BYTES && !is_idle {
        local.pause(slot, Pause::ROUTING);
    } else {
        local.resume(slot, Pause::ROUTING);
    }
    if read_ended && is_idle {
        local.close_after_flush(slot);
    } else {
        time::watch(local, slot);
    }
}

/// Reads what can be read of `bytes`; how many are used up.
fn read(local: &mut Local, slot: u32, bytes: &[u8]) -> usize {
    let mut used = 0;
    while used < bytes.len() {
        let connection = local.connections.at(slot);
        let is_open = connection.phase == Phase::Open;
        let Some(front) = front(connection) else { return bytes.len() };
        if !is_open || front.is_closing && front.stage == Stage::Idle {
            return bytes.len();
        }
        let event = match front.stage {
            Stage::Idle => {
                // Also if it can't be read: half of its fields are nobody's.
                local.proxy.fields_of = None;
                front.reader.next(&bytes[used..], &mut local.proxy.fields)
            }
            Stage::Exchanging if front.reader.is_in_body() => {
                front.reader.next_of_body(&bytes[used..], &mut front.exchange.trailers)
            }
            _ => break,
        };
        match event {
            Ok(Some(Event::Head { request, end })) => {
                on_head(local, slot, &bytes[used..used + end], request);
                used += end;
            }
            Ok(Some(Event::Data(range))) => {
                let (start, end) = (used + range.start, used + range.end);
                used = end;
                on_body(local, slot, &bytes[start..end]);
            }
            Ok(Some(Event::End(count))) => {
                used += count;
                on_body_end(local, slot);
            }
            Ok(None) => {
                let in_body = front_at(local, slot).is_some_and(|f| f.reader.is_in_body());
                return if in_body { bytes.len() } else { used };
            }
            Err(error) => {
                broken(local, slot, error);
                return bytes.len();
            }
        }
    }
    used
}

/// A client's bytes can't be understood: it is told so, unless an answer is under way, and closed.
fn broken(local: &mut Local, slot: u32, error: RequestError) {
    let worker = local.worker;
    let index = local.connections.at(slot).instance;
    StatsCell::add(&local.instance_at(index).cell(worker).protocol_errors, 1);
    dispatch::release(local, slot, false);
    refuse(local, slot, error.status());
}

/// A head has come: where does its request go?
fn on_head(local: &mut Local, slot: u32, head: &[u8], request: Request) {
    let worker = local.worker;
    let now = local.now;
    let mut kept = local.proxy.spare.pop().unwrap_or_default();
    kept.clear();
    kept.extend_from_slice(head);
    let connection = local.connections.at(slot);
    let index = connection.instance;
    local.proxy.fields_of = Some(connection.id);
    let Some(front) = front(connection) else { return };
    front.head_since_ms = 0;
    front.moved_ms = now.monotonic_ms();
    front.stage = Stage::Routing;
    let exchange = &mut front.exchange;
    exchange.head = kept;
    exchange.request = Some(request);
    exchange.back = None;
    (exchange.serial, exchange.address) = (0, 0);
    exchange.tried.clear();
    (exchange.group, exchange.new_mark, exchange.changes) = (None, None, None);
    exchange.trailers.clear();
    (exchange.has_sent_body, exchange.is_answered) = (false, false);
    exchange.closes = !request.keep_alive || front.is_closing;
    exchange.start_ns = now.monotonic_ns;
    let instance = local.instance_at(index);
    if instance.stopping.is_some()
        && let Some(front) = front_at(local, slot)
    {
        front.exchange.closes = true;
    }
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).messages, 1);
    instance.proxy.paid();
    let asks = instance.handlers.has(Handlers::ON_ROUTE);
    if instance.config().http.access_log
        && let Some(front) = front_at(local, slot)
    {
        front.exchange.record = Some(Box::new(record(head, &request)));
    }
    if local.connections.at(slot).limiter.is_some() {
        limiter::spent(local, slot, 0, 1);
    }
    if let Some(status) = refusal(head, &request) {
        return fail(local, slot, status);
    }
    if asks {
        local.tell_app_route(slot);
    } else {
        dispatch::on_route(local, slot, Route::Default);
    }
}

fn record(head: &[u8], request: &Request) -> super::Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let version = if request.version == Version::Http10 { "1.0" } else { "1.1" };
    let (method, target) = (text(request.method.of(head)), text(request.target.of(head)));
    super::Record { request: format!("{method} {target} HTTP/{version}"), status: 0, bytes: 0 }
}

/// A line of the access log, if its runtime has one.
pub(super) fn log(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let (index, peer) = (connection.instance, connection.peer.host());
    let Some(front) = front(connection) else { return };
    let (serial, start_ns) = (front.exchange.serial, front.exchange.start_ns);
    let Some(record) = front.exchange.record.take() else { return };
    let micros = local.now.monotonic_ns.saturating_sub(start_ns) / 1000;
    let instance = local.instance_at(index);
    let at = instance.proxy.find(serial);
    let via = at.map_or("-", |at| instance.proxy.members()[at].backend.name.as_str());
    let text = format!(
        "{peer} \"{}\" {} {} {}.{:03}ms {via}",
        record.request.escape_debug(),
        record.status,
        record.bytes,
        micros / 1000,
        micros % 1000,
    );
    let config = instance.config_arc();
    local.log(LogLevel::Info, &config.name, text);
}

/// What no backend is asked: a tunnel to anywhere, and a target that says where in a page to look.
fn refusal(head: &[u8], request: &Request) -> Option<u16> {
    match request.method.of(head) {
        b"CONNECT" => Some(405),
        _ if request.target.of(head).contains(&b'#') => Some(400),
        _ => None,
    }
}

/// A piece of the body, not empty.
fn on_body(local: &mut Local, slot: u32, bytes: &[u8]) {
    let now_ms = local.now.monotonic_ms();
    let Some(front) = front_at(local, slot) else { return };
    front.moved_ms = now_ms;
    front.exchange.has_sent_body = true;
    let is_chunked = front.exchange.request.is_some_and(|request| is_chunked(&request));
    let is_last = !front.reader.is_in_body();
    let Some(to) = back_of(local, slot) else { return };
    let outbox = &mut local.connections.at(to).outbox;
    if is_chunked {
        fields::chunk(outbox.tail(), bytes);
    } else {
        outbox.append(bytes);
    }
    local.mark_dirty(to);
    if is_last {
        sent(local, to);
    }
    if local.connections.get(to).is_some_and(|to| to.outbox.bytes() > limits::OUTBOX_HIGH_BYTES) {
        local.pause(slot, Pause::LINK);
    }
}

fn is_chunked(request: &Request) -> bool {
    matches!(request.body, crate::proto::http1::Body::Chunked(_))
}

/// The end of a body in chunks.
fn on_body_end(local: &mut Local, slot: u32) {
    let Some(front) = front_at(local, slot) else { return };
    let trailers = std::mem::take(&mut front.exchange.trailers);
    if let Some(to) = back_of(local, slot) {
        fields::last_chunk(local.connections.at(to).outbox.tail(), &trailers);
        local.mark_dirty(to);
        sent(local, to);
    }
}

fn sent(local: &mut Local, back: u32) {
    if let Some(back) = back_at(local, back) {
        back.is_request_sent = true;
    }
}

/// A client has ended its stream: what it has asked for is still answered; half a request is none.
pub fn on_client_end(local: &mut Local, slot: u32) {
    let Some(front) = front_at(local, slot) else { return };
    if front.stage == Stage::Idle {
        return local.close_after_flush(slot);
    }
    // What lies in its input may be the rest of the body; only what was read is known.
    if front.stage == Stage::Exchanging && front.reader.is_in_body() {
        dispatch::release(local, slot, false);
        local.close_now(slot);
    }
}

/// A client is gone, and with it whatever is under way for it.
pub fn on_client_gone(local: &mut Local, slot: u32) {
    dispatch::release(local, slot, false);
    log(local, slot);
    if let Some(front) = front_at(local, slot) {
        let head = std::mem::take(&mut front.exchange.head);
        if let Some((timer, _)) = front.timer.take() {
            local.timers.cancel(timer);
        }
        local.proxy.give_back(head);
    }
    local.tell_app_close(slot);
}

/// An answer of the proxy's own to the request under way.
pub(super) fn fail(local: &mut Local, slot: u32, status: u16) {
    respond(local, slot, status, b"");
}

/// An answer of the proxy's own behind which the connection closes.
pub(super) fn refuse(local: &mut Local, slot: u32, status: u16) {
    let Some(front) = front_at(local, slot) else { return };
    front.is_closing = true;
    front.exchange.closes = true;
    if front.exchange.is_answered {
        // What has begun can't be told to be wrong but by its end.
        return cut(local, slot);
    }
    if front.stage == Stage::Idle {
        front.exchange.request = None;
    }
    fail(local, slot, status);
}

/// Ends a client's connection within an answer, so that it can't take it for whole.
pub(super) fn cut(local: &mut Local, slot: u32) {
    if let Layer::Tls(session) = &mut local.connections.at(slot).layer {
        session.abandon();
    }
    local.close_after_flush(slot);
}

fn respond(local: &mut Local, slot: u32, status: u16, extra: &[u8]) {
    let text = format!("{status} {}\n", reason(status));
    let fields = [b"Content-Type: text/plain; charset=utf-8\r\n", extra].concat();
    answer(local, slot, status, &fields, text.as_bytes());
}

/// An answer from here, whole. `fields`: lines, each with its end.
pub(super) fn answer(local: &mut Local, slot: u32, status: u16, fields: &[u8], body: &[u8]) {
    let connection = local.connections.at(slot);
    let Some(front) = front(connection) else { return };
    let exchange = &mut front.exchange;
    let request = exchange.request;
    let is_head = request.is_some_and(|it| it.method.of(&exchange.head) == b"HEAD");
    // Nobody takes the rest of its body any more.
    exchange.closes |= front.is_closing || front.reader.is_in_body();
    let (closes, is_http10) =
        (exchange.closes, request.is_some_and(|it| it.version == Version::Http10));
    let has_body = status != 204 && status != 304;
    if let Some(record) = &mut exchange.record {
        let bytes = if is_head || !has_body { 0 } else { body.len() as u64 };
        (record.status, record.bytes) = (status, bytes);
    }
    let connection_field = match (closes, is_http10) {
        (true, _) => "Connection: close\r\n",
        (false, true) => "Connection: keep-alive\r\n",
        (false, false) => "",
    };
    let length = match has_body {
        true => format!("Content-Length: {}\r\n", body.len()),
        false => String::new(),
    };
    let head = format!("HTTP/1.1 {status} {}\r\n{length}{connection_field}", reason(status));
    let Local { connections, http, now, .. } = &mut *local;
    let out = connections.at(slot).outbox.tail();
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(http.date(*now));
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
    if !is_head && has_body {
        out.extend_from_slice(body);
    }
    local.mark_dirty(slot);
    finish(local, slot);
}

/// The answer is complete and its connection let go: the next request, or the end.
pub(super) fn finish(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    log(local, slot);
    let connection = local.connections.at(slot);
    let (read_ended, has_input) = (connection.read_ended, !connection.input.is_empty());
    let Some(front) = front(connection) else { return };
    let closes = front.exchange.closes
        || front.is_closing
        || front.reader.is_in_body()
        || read_ended && !has_input;
    front.stage = Stage::Idle;
    front.moved_ms = now_ms;
    front.exchange.request = None;
    let head = std::mem::take(&mut front.exchange.head);
    local.proxy.give_back(head);
    if closes {
        if let Some(front) = front_at(local, slot) {
            front.is_closing = true;
        }
        return local.close_after_flush(slot);
    }
    if has_input {
        again(local, slot);
    }
}

/// The request's head has been written to a backend: what follows it.
pub(super) fn begin_exchange(local: &mut Local, slot: u32, to: u32) {
    let Some(front) = front_at(local, slot) else { return };
    front.stage = Stage::Exchanging;
    let is_complete = !front.reader.is_in_body();
    if let Some(back) = back_at(local, to) {
        back.reply = Reply::Head;
        back.is_request_sent = is_complete;
    }
    let connection = local.connections.at(slot);
    let has_more = !connection.input.is_empty() || connection.read_ended;
    if has_more && !is_complete {
        again(local, slot);
    }
}
