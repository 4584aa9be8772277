//! HTTP/1 between clients and backends: each request of a client's connection goes to a backend over a connection that
//! is kept for the next ones, and its answer comes back as it is read.
//!
//! Nothing is gathered: heads are rewritten from the bytes they came in, bodies pass piece by piece, framed anew, and
//! either side stops being read while the other's outbox is full. A client's requests are served one after the other;
//! what it sends ahead waits in its input. A request's head is kept until its answer has begun, so that it can be sent
//! again to another backend as long as nothing of its body has gone.
//!
//! `requests` reads clients, `app` asks the app where a request goes, `choice` and `dispatch` find the connection to a
//! backend, `answers` reads backends, `fields` rewrites heads, `time` bounds how long anyone may take. Must not know:
//! which backend is best (`balance`).

mod answers;
mod app;
mod choice;
mod dispatch;
mod fields;
mod requests;
mod time;

pub use answers::{on_answer_bytes, on_backend_end, on_backend_gone};
pub use app::{ask_app, on_act};
pub use dispatch::{drop_kept, on_connected, on_queue_timer, on_refused, on_route, opened};
pub use requests::{on_client_end, on_client_gone, on_request_bytes};
pub use time::{on_timer, tend};

use crate::id::ConnectionId;
use crate::limits;
use crate::lua::RouteChanges;
use crate::proto::http1::{Field, HeadScan, Request, RequestReader, ResponseBody};
use crate::ring::timers::TimerId;
use crate::runtime::connection::{Connection, Layer, Pause, Role};
use crate::runtime::local::Local;
use crate::runtime::proxy::shared::Seat;

/// A client's connection.
#[derive(Default)]
pub struct Front {
    reader: RequestReader,
    stage: Stage,
    exchange: Exchange,
    /// No request is read any more: the connection closes behind the answer.
    is_closing: bool,
    /// It is in the worker's list of those that read on.
    is_again: bool,
    /// When something last moved that its stage waits for, on the monotonic clock in milliseconds.
    moved_ms: u64,
    /// When the head began that isn't complete; 0 if none has.
    head_since_ms: u64,
    timer: Option<(TimerId, u64)>,
}

/// What a client's connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// A request.
    #[default]
    Idle,
    /// The app's decision about its request.
    Routing,
    /// A place at a backend.
    Queued,
    /// A connection to a backend.
    Connecting,
    /// The rest of the request, and the answer.
    Exchanging,
}

/// The request under way; between requests only its memory is of use.
#[derive(Default)]
struct Exchange {
    /// Its head, until the answer has begun.
    head: Vec<u8>,
    request: Option<Request>,
    /// The connection to the backend, dialled or standing.
    back: Option<ConnectionId>,
    /// The backend's number; 0 for an address that is none.
    serial: u32,
    /// Which of the backend's addresses was dialled last.
    address: usize,
    /// Its place at its backend.
    seat: Option<Seat>,
    /// The name that its backends share, if the app has said one.
    group: Option<String>,
    /// What the app changes about it.
    changes: Option<Box<RouteChanges>>,
    /// The backend that the client sticks to from now on.
    new_mark: Option<u64>,
    /// When it was sent last, on the monotonic clock in nanoseconds.
    sent_ns: u64,
    /// Backends that have failed it.
    tried: Vec<u32>,
    /// Something of its body has gone to a backend.
    has_sent_body: bool,
    /// Something of an answer has gone to the client.
    is_answered: bool,
    /// The client's connection closes behind the answer.
    closes: bool,
    /// When it began, on the monotonic clock in nanoseconds.
    start_ns: u64,
    /// For the access log.
    record: Option<Box<Record>>,
    /// Trailers of its body, or of the answer's.
    trailers: Vec<u8>,
}

/// What the access log says of an exchange.
#[derive(Default)]
struct Record {
    request: String,
    status: u16,
    bytes: u64,
}

/// A connection to a backend.
pub struct Back {
    /// The client whose request it carries; nothing while it is kept for the next one.
    front: Option<ConnectionId>,
    /// The backend's number.
    serial: u32,
    scan: HeadScan,
    reply: Reply,
    /// It answers a HEAD.
    is_head: bool,
    /// The request offers another protocol.
    may_upgrade: bool,
    /// The request has gone to it completely.
    is_request_sent: bool,
    /// It has carried a request before.
    is_reused: bool,
    /// Answers before the answer.
    interim: u8,
    /// It can carry another request.
    keep_alive: bool,
    /// It is counted among the open ones.
    is_counted: bool,
    /// Its stream was cut, not ended.
    is_cut: bool,
}

/// What is expected of a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reply {
    /// Nothing.
    None,
    /// The head of an answer.
    Head,
    /// Its body. `chunked`: the client gets it in chunks.
    Body { body: ResponseBody, chunked: bool },
}

/// What a worker's HTTP proxies share.
#[derive(Default)]
pub struct ProxyTurn {
    /// The field lines of the head read last.
    fields: Vec<Field>,
    /// Whose request's they are; nothing if they are an answer's.
    fields_of: Option<ConnectionId>,
    /// Clients that may read on.
    again: Vec<u32>,
    /// Proxies at whose backends there may be places again.
    freed: Vec<usize>,
    /// Buffers for heads.
    spare: Vec<Vec<u8>>,
}

impl ProxyTurn {
    fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < limits::PROXY_SPARE_HEADS_MAX && buffer.capacity() > 0 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Back {
    fn new(front: ConnectionId, serial: u32) -> Back {
        Back {
            front: Some(front),
            serial,
            scan: HeadScan::default(),
            reply: Reply::None,
            is_head: false,
            may_upgrade: false,
            is_request_sent: false,
            is_reused: false,
            interim: 0,
            keep_alive: false,
            is_counted: false,
            is_cut: false,
        }
    }
}

fn front(connection: &mut Connection) -> Option<&mut Front> {
    match &mut connection.role {
        Role::HttpFront(front) => Some(front),
        _ => None,
    }
}

fn back(connection: &mut Connection) -> Option<&mut Back> {
    match &mut connection.role {
        Role::HttpBack(back) => Some(back),
        _ => None,
    }
}

fn front_at(local: &mut Local, slot: u32) -> Option<&mut Front> {
    local.connections.get_mut(slot).and_then(front)
}

fn back_at(local: &mut Local, slot: u32) -> Option<&mut Back> {
    local.connections.get_mut(slot).and_then(back)
}

/// The slot of the connection that carries a client's request.
fn back_of(local: &mut Local, slot: u32) -> Option<u32> {
    let id = front_at(local, slot)?.exchange.back?;
    local.connections.slot_of(id)
}

/// The slot of the client whose request a backend's connection carries.
fn front_of(local: &mut Local, slot: u32) -> Option<u32> {
    let id = back_at(local, slot)?.front?;
    local.connections.slot_of(id)
}

/// A client came.
pub fn on_open(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    if let Some(front) = front_at(local, slot) {
        front.moved_ms = now_ms;
    }
    time::arm(local, slot, now_ms + limits::HTTP_IDLE_MS);
    local.read_on(slot);
}

/// A TLS stream was cut off: what ends with it isn't whole.
pub fn on_cut(local: &mut Local, slot: u32) {
    if let Some(back) = back_at(local, slot) {
        back.is_cut = true;
    }
}

/// An outbox is low again: the other side is read again.
pub fn on_outbox_low(local: &mut Local, slot: u32) {
    let other = match local.connections.at(slot).role {
        Role::HttpFront(_) => back_of(local, slot),
        _ => front_of(local, slot),
    };
    if let Some(other) = other {
        local.resume(other, Pause::LINK);
    }
}

/// Whether a connection of a stopping runtime is left to end by itself: a request under way, or what became of one.
pub fn stops_later(local: &mut Local, slot: u32) -> bool {
    let connection = local.connections.at(slot);
    let index = connection.instance;
    match &mut connection.role {
        Role::HttpFront(front) => {
            front.is_closing = true;
            front.stage != Stage::Idle
        }
        Role::HttpBack(back) => {
            let is_used = back.front.is_some();
            if !is_used {
                local.close_now(slot);
            }
            true
        }
        Role::Front(_) | Role::Back(_) => {
            local.instance_at(index).config().protocol == crate::runtime::Protocol::Http
        }
        _ => false,
    }
}

/// Clients whose answer is complete read on; requests that wait for a place get those that were given back.
pub fn go_on(local: &mut Local) {
    while let Some(index) = local.proxy.freed.pop() {
        dispatch::serve_queue(local, index);
    }
    while let Some(slot) = local.proxy.again.pop() {
        if let Some(front) = front_at(local, slot) {
            front.is_again = false;
            requests::on_input(local, slot);
        }
    }
}

/// Has a client read on at the end of the turn.
fn again(local: &mut Local, slot: u32) {
    if let Some(front) = front_at(local, slot)
        && !std::mem::replace(&mut front.is_again, true)
    {
        local.proxy.again.push(slot);
    }
}

/// Whether a client's connection is encrypted.
fn is_tls(connection: &Connection) -> bool {
    matches!(connection.layer, Layer::Tls(_))
}
