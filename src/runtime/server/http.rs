//! HTTP/1 on a server's connections: requests are read, routed and handed out; answers leave in the requests' order.
//!
//! Each request is an [`Exchange`] until its answer is complete. The oldest one writes into the outbox, younger ones
//! into bytes of their own that follow when their turn has come, so that handlers, constants and files may finish in
//! any order. Nothing more is read while [`crate::limits::HTTP_PIPELINE_MAX`] exchanges are open or the peer doesn't take
//! its answers. `intake` reads, `respond` writes, `time` bounds how long a peer may take, `files` serves folders.

mod app;
pub mod files;
mod intake;
mod mime;
mod respond;
pub mod routes;
mod time;

use std::collections::VecDeque;

pub use app::{Act, on_act};
pub use intake::{on_bytes, on_input, on_last_bytes, on_parked_bytes};
pub use respond::{go_on, on_outbox_low};
pub use time::{on_close, on_timer};

use crate::proto::http1::{Field, RequestReader, write_date};
use crate::ring::Now;
use crate::ring::timers::TimerId;
use crate::runtime::connection::{Connection, ProtocolState};
use crate::runtime::local::Local;
use intake::Intake;

/// One connection's state.
#[derive(Debug, Default)]
pub struct Http {
    reader: RequestReader,
    /// The body that is being read.
    intake: Intake,
    /// Requests whose answers aren't complete, oldest first.
    pending: VecDeque<Exchange>,
    /// The number of the next request; the oldest pending one is `pending.len()` before it.
    next: u32,
    /// There are bytes that were not looked at, for want of room among the pending.
    is_blocked: bool,
    /// Nothing more is read: the connection closes behind the last answer.
    is_closing: bool,
    /// The task that waits until the outbox has room.
    draining: Option<u64>,
    /// When the last answer was complete, on the monotonic clock in milliseconds.
    since_ms: u64,
    /// When the head began that isn't complete; 0 if none has.
    head_since_ms: u64,
    /// When the body was looked at last, and how much of it had come.
    body_since_ms: u64,
    body_bytes: u64,
    /// Bytes of the body so far.
    seen_bytes: u64,
    /// Bytes in the outbox at the last look.
    unsent_bytes: u64,
    timer: Option<(TimerId, u64)>,
}

/// A request and its answer.
#[derive(Debug)]
struct Exchange {
    stage: Stage,
    /// It is answered without a body.
    is_head: bool,
    is_http10: bool,
    keep_alive: bool,
    /// Its stream goes on without the handler that began it.
    is_detached: bool,
    /// That stream has no end of its own: it ends when the client ends its side.
    is_event_stream: bool,
    /// What is to be sent when its turn comes.
    ready: Vec<u8>,
    /// Its head and the status if nothing answers, kept for a handler that may pass it on.
    passed: Option<Box<(Vec<u8>, u16)>>,
    /// What is left to send of a file.
    file: Option<Box<files::Part>>,
    /// For the access log.
    record: Option<Box<Record>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No answer yet.
    Waiting,
    /// A body of unknown length is under way; chunked, or until the end of the connection.
    Streaming { chunked: bool },
    /// A file is being sent.
    Sending,
    /// The answer is complete.
    Done,
}

/// What the access log says of an exchange.
#[derive(Debug)]
struct Record {
    request: String,
    status: u16,
    bytes: u64,
    start_ns: u64,
}

/// What a worker's HTTP connections share.
#[derive(Default)]
pub struct HttpTurn {
    /// The field lines of the head read last.
    fields: Vec<Field>,
    /// `Date: ...` with its line end, of this second.
    date: Vec<u8>,
    date_second: u64,
    /// Folders that are served.
    files: files::Files,
    /// Connections that may read on now that answers have left.
    again: Vec<u32>,
}

impl HttpTurn {
    /// The Date field's line.
    pub fn date(&mut self, now: Now) -> &[u8] {
        let second = now.unix_ms / 1000;
        if second != self.date_second || self.date.is_empty() {
            self.date_second = second;
            self.date.clear();
            self.date.extend_from_slice(b"Date: ");
            write_date(second, &mut self.date);
            self.date.extend_from_slice(b"\r\n");
        }
        &self.date
    }
}

/// A connection speaks HTTP from now on.
pub fn begin(local: &mut Local, slot: u32) {
    let since_ms = local.now.monotonic_ms();
    let http = Box::new(Http { since_ms, ..Http::default() });
    let index = local.connections.at(slot).instance;
    let idle_ms = local.instance_at(index).config().http.times.idle_ms;
    local.connections.at(slot).protocol = ProtocolState::Http(http);
    time::arm(local, slot, since_ms + idle_ms);
}

/// The state of a connection that speaks HTTP.
fn state(connection: &mut Connection) -> Option<&mut Http> {
    match &mut connection.protocol {
        ProtocolState::Http(http) => Some(http),
        _ => None,
    }
}

impl Http {
    /// The exchange of a number, and whether it is the oldest.
    fn exchange(&mut self, number: u32) -> Option<(&mut Exchange, bool)> {
        let first = self.next.wrapping_sub(self.pending.len() as u32);
        let index = number.wrapping_sub(first) as usize;
        self.pending.get_mut(index).map(|exchange| (exchange, index == 0))
    }

    /// A new exchange's number.
    fn open(&mut self, exchange: Exchange) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.pending.push_back(exchange);
        number
    }

    /// Whether a stream of the app's goes on without a handler.
    pub fn has_detached(&self) -> bool {
        self.pending.iter().any(|exchange| exchange.is_detached)
    }

    /// Whether the answer that is under way is an event stream.
    fn streams_events(&self) -> bool {
        self.pending.front().is_some_and(|exchange| exchange.is_event_stream)
    }

    /// Whether answers are due.
    pub fn is_answering(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The runtime stops: what is under way is answered, and nothing more is read.
    pub fn stop(&mut self) {
        self.is_closing = true;
    }
}
