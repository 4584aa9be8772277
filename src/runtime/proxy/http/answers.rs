//! Backends: an answer's head and body go to the client as they come; then the connection waits for the next request.

use crate::limits;
use crate::proto::http1::{Body, Field, Response, ResponseBody, Step, Version, parse_response};
use crate::runtime::connection::{Pause, Phase, Role};
use crate::runtime::local::Local;
use crate::runtime::proxy::tcp::{self, Link};
use crate::runtime::stats::StatsCell;

use super::fields::{self, Framing};
use super::{Reply, Stage, back_at, dispatch, front_at, front_of, requests};

/// Bytes of a backend.
pub fn on_answer_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    if connection.input.is_empty() {
        let used = read(local, slot, bytes);
        if used < bytes.len() {
            keep(local, slot, bytes[used..].to_vec());
        }
    } else {
        let mut input = std::mem::take(&mut connection.input);
        input.extend_from_slice(bytes);
        let used = read(local, slot, &input);
        input.drain(..used);
        keep(local, slot, input);
    }
}

/// Half a head waits for its rest.
fn keep(local: &mut Local, slot: u32, rest: Vec<u8>) {
    if let Some(connection) = local.connections.get_mut(slot)
        && connection.phase == Phase::Open
    {
        connection.input = rest;
    }
}

fn read(local: &mut Local, slot: u32, bytes: &[u8]) -> usize {
    let mut used = 0;
    while used < bytes.len() {
        let connection = local.connections.at(slot);
        if connection.phase != Phase::Open {
            return bytes.len();
        }
        if matches!(connection.role, Role::Back(_)) {
            // It has become a tunnel with the head before.
            tcp::on_bytes(local, slot, &bytes[used..]);
            return bytes.len();
        }
        let Some(back) = back_at(local, slot) else { return bytes.len() };
        let piece = match back.reply {
            Reply::None => {
                // Nobody has asked.
                local.close_now(slot);
                return bytes.len();
            }
            Reply::Head => {
                let Some(count) = read_head(local, slot, &bytes[used..]) else {
                    return used;
                };
                count
            }
            Reply::Body { .. } => read_body(local, slot, &bytes[used..]),
        };
        used += piece;
    }
    used
}

/// A backend's answer can't be passed on.
fn broken(local: &mut Local, slot: u32, why: &str) {
    let front = detach(local, slot);
    local.close_now(slot);
    if let Some(front) = front {
        dispatch::lost(local, front, false, why);
    }
}

/// Its client, which it has nothing to do with any more.
fn detach(local: &mut Local, slot: u32) -> Option<u32> {
    let front = front_of(local, slot);
    if let Some(back) = back_at(local, slot) {
        back.front = None;
        back.reply = Reply::None;
    }
    if let Some(front) = front {
        local.resume(front, Pause::LINK);
    }
    front
}

/// A head, if it is whole: the bytes that it takes.
fn read_head(local: &mut Local, slot: u32, bytes: &[u8]) -> Option<usize> {
    let mut fields = std::mem::take(&mut local.proxy.fields);
    local.proxy.fields_of = None;
    let Some(back) = back_at(local, slot) else { return Some(bytes.len()) };
    let outcome = parse_response(bytes, &mut back.scan, back.is_head, &mut fields);
    let used = match outcome {
        Ok(None) => None,
        Ok(Some((response, end))) => {
            on_head(local, slot, &bytes[..end], &response, &fields);
            Some(end)
        }
        Err(_) => {
            broken(local, slot, "its answer can't be understood");
            Some(bytes.len())
        }
    };
    // What was done meanwhile may have read others.
    (local.proxy.fields, local.proxy.fields_of) = (fields, None);
    used
}

fn on_head(local: &mut Local, slot: u32, head: &[u8], response: &Response, fields: &[Field]) {
    let now_ms = local.now.monotonic_ms();
    let Some(front) = front_of(local, slot) else { return local.close_now(slot) };
    let index = local.connections.at(slot).instance;
    let is_stopping = local.instance_at(index).stopping.is_some();
    let source = local.instance_at(index).config_arc();
    let Some(back) = back_at(local, slot) else { return };
    let is_interim = response.status < 200 && !response.upgrade;
    if is_interim {
        back.interim += 1;
        if back.interim > limits::PROXY_INTERIM_MAX {
            return broken(local, slot, "it answers and answers before its answer");
        }
    } else if response.upgrade && !back.may_upgrade {
        return broken(local, slot, "it changes to a protocol that nobody asked for");
    }
    back.keep_alive = response.keep_alive && back.is_request_sent;
    let now_ns = local.now.monotonic_ns;
    let Some(it) = front_at(local, front) else { return };
    it.moved_ms = now_ms;
    let is_http10 = it.exchange.request.is_some_and(|request| request.version == Version::Http10);
    if is_interim && is_http10 {
        return;
    }
    let is_bodiless = response.body == ResponseBody::Framed(Body::None);
    let is_until_close = response.body == ResponseBody::UntilClose;
    let is_chunked = matches!(response.body, ResponseBody::Framed(Body::Chunked(_)));
    let chunked = (is_until_close || is_chunked) && !is_http10;
    it.exchange.is_answered = true;
    if !is_interim && let Some(seat) = &it.exchange.seat {
        seat.shared().answered(now_ns.saturating_sub(it.exchange.sent_ns) / 1000);
    }
    let cookie = it.exchange.new_mark.take().zip(source.proxy.sticky.as_ref());
    let cookie = cookie.filter(|_| !is_interim).map(|(mark, name)| {
        format!("Set-Cookie: {name}={mark:016x}; Path=/; HttpOnly; SameSite=Lax\r\n")
    });
    if let Some(record) = &mut it.exchange.record {
        record.status = response.status;
    }
    if !is_interim {
        it.exchange.closes |=
            it.is_closing || is_stopping || is_http10 && (is_until_close || is_chunked);
    }
    let framing = Framing { chunked, is_bodiless, closes: it.exchange.closes, is_http10 };
    let changes = [&source.proxy.response_headers[..]];
    let out = local.connections.at(front).outbox.tail();
    let extra = cookie.as_deref().unwrap_or_default();
    fields::answer(out, head, response, fields, &framing, &changes, extra);
    local.mark_dirty(front);
    if response.upgrade {
        tunnel(local, front, slot);
    } else if is_bodiless && !is_interim {
        end(local, slot);
    } else if !is_interim && let Some(back) = back_at(local, slot) {
        back.reply = Reply::Body { body: response.body, chunked };
    }
}

/// A piece of the body; how many bytes it takes.
fn read_body(local: &mut Local, slot: u32, bytes: &[u8]) -> usize {
    let Some(front) = front_of(local, slot) else {
        local.close_now(slot);
        return bytes.len();
    };
    let Some(back) = back_at(local, slot) else { return bytes.len() };
    let Reply::Body { body: mut kind, chunked } = back.reply else { return bytes.len() };
    let mut trailers = front_at(local, front).map(|it| std::mem::take(&mut it.exchange.trailers));
    let step = match &mut kind {
        ResponseBody::UntilClose => Ok(Step::Data(0..bytes.len())),
        ResponseBody::Framed(body) => body.next_keeping(bytes, trailers.get_or_insert_default()),
    };
    if let (Some(it), Some(trailers)) = (front_at(local, front), trailers) {
        it.exchange.trailers = trailers;
    }
    if let Some(back) = back_at(local, slot) {
        back.reply = Reply::Body { body: kind, chunked };
    }
    let used = match step {
        Ok(Step::Data(range)) => {
            let used = range.end;
            pass(local, slot, front, chunked, &bytes[range]);
            used
        }
        Ok(Step::More) => bytes.len(),
        Ok(Step::End(used)) => {
            finish_chunks(local, front, chunked);
            end(local, slot);
            return used;
        }
        Err(_) => {
            broken(local, slot, "its answer can't be understood");
            return bytes.len();
        }
    };
    // A body of a known length ends with its last byte.
    if kind == ResponseBody::Framed(Body::None) {
        end(local, slot);
    }
    used
}

fn pass(local: &mut Local, slot: u32, front: u32, chunked: bool, bytes: &[u8]) {
    let now_ms = local.now.monotonic_ms();
    if let Some(it) = front_at(local, front) {
        it.moved_ms = now_ms;
        if let Some(record) = &mut it.exchange.record {
            record.bytes += bytes.len() as u64;
        }
    }
    let outbox = &mut local.connections.at(front).outbox;
    if chunked {
        fields::chunk(outbox.tail(), bytes);
    } else {
        outbox.append(bytes);
    }
    local.mark_dirty(front);
    let is_full =
        |it: &crate::runtime::connection::Connection| it.outbox.bytes() > limits::OUTBOX_HIGH_BYTES;
    if local.connections.get(front).is_some_and(is_full) {
        local.pause(slot, Pause::LINK);
    }
}

fn finish_chunks(local: &mut Local, front: u32, chunked: bool) {
    let Some(it) = front_at(local, front) else { return };
    let trailers = std::mem::take(&mut it.exchange.trailers);
    if chunked {
        fields::last_chunk(local.connections.at(front).outbox.tail(), &trailers);
        local.mark_dirty(front);
    }
}

/// An answer is complete.
fn end(local: &mut Local, slot: u32) {
    let Some(front) = front_of(local, slot) else { return local.close_now(slot) };
    let is_reusable =
        back_at(local, slot).is_some_and(|back| back.keep_alive && back.is_request_sent);
    dispatch::release(local, front, is_reusable);
    requests::finish(local, front);
}

/// Both sides have agreed on another protocol: from now on they are a pair of streams.
fn tunnel(local: &mut Local, front: u32, slot: u32) {
    let [front_id, back_id] = [front, slot].map(|slot| local.connections.at(slot).id);
    if let Some(it) = front_at(local, front) {
        let (timer, head) = (it.timer.take(), std::mem::take(&mut it.exchange.head));
        local.proxy.give_back(head);
        if let Some((timer, _)) = timer {
            local.timers.cancel(timer);
        }
    }
    requests::log(local, front);
    let seat = front_at(local, front).and_then(|it| it.exchange.seat.take());
    local.connections.at(front).role = Role::Front(Box::new(Link::to(back_id, seat)));
    local.connections.at(slot).role = Role::Back(Box::new(Link::to(front_id, None)));
    for slot in [front, slot] {
        local.resume(slot, Pause::LINK);
        local.resume(slot, Pause::ROUTING);
    }
    let early = std::mem::take(&mut local.connections.at(front).input);
    if !early.is_empty() {
        tcp::on_bytes(local, front, &early);
    }
    if local.connections.get(front).is_some_and(|it| it.read_ended) {
        tcp::on_end(local, front);
    }
}

/// A backend has ended its stream.
pub fn on_backend_end(local: &mut Local, slot: u32) {
    let Some(back) = back_at(local, slot) else { return };
    let is_whole = matches!(back.reply, Reply::Body { body: ResponseBody::UntilClose, .. });
    let chunked = matches!(back.reply, Reply::Body { chunked: true, .. });
    if is_whole
        && !back.is_cut
        && let Some(front) = front_of(local, slot)
    {
        finish_chunks(local, front, chunked);
        return end(local, slot);
    }
    local.close_now(slot);
}

/// A backend's connection is gone.
pub fn on_backend_gone(local: &mut Local, slot: u32) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    let (id, index) = (connection.id, connection.instance);
    let Some(back) = back_at(local, slot) else { return };
    let (serial, was_reused, is_counted) = (back.serial, back.is_reused, back.is_counted);
    let instance = local.instance_at(index);
    if is_counted {
        StatsCell::subtract(&instance.cell(worker).upstream_connections, 1);
    }
    instance.proxy.forget(serial, id);
    let front = detach(local, slot);
    if let Some(front) = front
        && front_at(local, front).is_some_and(|it| it.stage != Stage::Idle)
    {
        dispatch::lost(local, front, was_reused, "it closed the connection within an answer");
    }
}
