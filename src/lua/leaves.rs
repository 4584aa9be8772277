//! The functions that compiled Lua calls without leaving its trace, and the structs that both sides read.
//!
//! A leaf gets a pointer to its VM's [`Context`] and plain numbers and bytes. It never calls Lua, never fails and never
//! unwinds (a panic in an `extern "C"` function ends the process); it appends to queues. Whatever a script could have
//! made up (an id, a length) was checked by the trusted Lua that calls, or is checked here.
#![allow(unsafe_code, reason = "the functions' arguments are pointers that LuaJIT's FFI passes")]

mod sockets;

use std::ffi::{c_char, c_void};

use super::caches::Answer;
use super::context::Context;
use super::{Action, Done, HttpAct, Route, RouteChanges};
use crate::id::{ConnectionId, RuntimeId};

/// An event as the dispatcher reads it: `sk_event` in `lua/app/boot.lua`. 32 bytes: two to a cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// The payload; until the entry, its offset in the arena.
    pub(super) bytes: *const u8,
    /// A connection's 52 bits, a timer, a task or a request: exact in a double, which the JIT needn't box.
    pub(super) id: f64,
    pub(super) len: u32,
    /// The connection's slot.
    pub(super) slot: u32,
    /// The kind and [`KINDS`] times the loop's index.
    pub(super) code: u32,
    /// The peer's port; of a message whether it is binary; of a close its code.
    pub(super) arg: u32,
}

/// What `code` is a multiple of, for a loop: `sk.KINDS` in `lua/app/boot.lua`.
pub(super) const KINDS: u32 = 32;

/// The kinds, as `lua/app/boot.lua` numbers them.
pub(super) mod kind {
    pub(in crate::lua) const MESSAGE: u32 = 0;
    pub(in crate::lua) const OPEN: u32 = 1;
    pub(in crate::lua) const CLOSE: u32 = 2;
    pub(in crate::lua) const ADOPT: u32 = 3;
    pub(in crate::lua) const ROUTE: u32 = 4;
    pub(in crate::lua) const START: u32 = 5;
    pub(in crate::lua) const STOP: u32 = 6;
    pub(in crate::lua) const TIMER: u32 = 7;
    pub(in crate::lua) const ANSWER: u32 = 8;
    pub(in crate::lua) const EVALUATE: u32 = 9;
    pub(in crate::lua) const COMPLETE: u32 = 10;
    pub(in crate::lua) const CANCEL: u32 = 11;
    pub(in crate::lua) const COMMAND: u32 = 12;
    pub(in crate::lua) const REQUEST: u32 = 13;
    pub(in crate::lua) const BODY: u32 = 14;
    pub(in crate::lua) const VISIT: u32 = 15;
    pub(in crate::lua) const WEBSOCKET: u32 = 16;
    pub(in crate::lua) const SOCKET: u32 = 17;
    pub(in crate::lua) const ROUTE_REQUEST: u32 = 18;
    pub(in crate::lua) const MASTER: u32 = 20;
    pub(in crate::lua) const HOOK: u32 = 24;
    pub(in crate::lua) const MISS: u32 = 25;
    pub(in crate::lua) const BEHIND: u32 = 26;
    pub(in crate::lua) const CHANNEL: u32 = 27;
    pub(in crate::lua) const LANDED: u32 = 28;
    pub(in crate::lua) const END: u32 = 29;
}

/// What handlers have ended with, as `lua/app/hooks.lua` numbers it.
pub(super) mod done {
    pub(in crate::lua) const EVENTS: u32 = 0;
    pub(in crate::lua) const BEHIND: u32 = 1;
    pub(in crate::lua) const MESSAGES: u32 = 2;
}

/// A store's reply: `sk_answer` in `lua/app/boot.lua`; the kinds are those of `lua/app/cache.lua`.
#[repr(C)]
struct StoreAnswer {
    bytes: *const u8,
    number: f64,
    len: u32,
    kind: u32,
}

/// Names and addresses of all leaves, for `lua/app/boot.lua`.
pub(super) fn addresses() -> impl Iterator<Item = (&'static str, *const ())> {
    let own: [(&'static str, *const ()); 16] = [
        ("send", send as *const ()),
        ("broadcast", broadcast as *const ()),
        ("close", close as *const ()),
        ("park", park as *const ()),
        ("verify", verify as *const ()),
        ("master", master as *const ()),
        ("timer", timer as *const ()),
        ("cancel_timer", cancel_timer as *const ()),
        ("route", route as *const ()),
        ("http", http as *const ()),
        ("stop_ended", stop_ended as *const ()),
        ("argument", argument as *const ()),
        ("execute", execute as *const ()),
        ("ask", ask as *const ()),
        ("land", land as *const ()),
        ("done", done_with as *const ()),
    ];
    own.into_iter().chain(sockets::addresses())
}

/// # Safety
/// `host` is the context that the VM was made with; the VM, and so whoever calls, doesn't outlive it.
unsafe fn context<'a>(host: *mut c_void) -> &'a Context {
    // SAFETY: the caller's promise; a context is only ever used by shared reference.
    unsafe { &*host.cast::<Context>() }
}

/// # Safety
/// `bytes` points to `len` readable bytes, unless `len` is 0.
unsafe fn slice<'a>(bytes: *const c_char, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise; a Lua string doesn't move or change while it is an argument.
    unsafe { std::slice::from_raw_parts(bytes.cast(), len) }
}

fn connection(id: f64) -> Option<ConnectionId> {
    // A cast saturates and turns NaN into 0; from_bits refuses what has too many bits.
    if id >= 0.0 { ConnectionId::from_bits(id as u64) } else { None }
}

unsafe extern "C" fn send(
    host: *mut c_void,
    id: f64,
    bytes: *const c_char,
    len: usize,
    binary: bool,
) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length.
    let bytes = unsafe { slice(bytes, len) };
    if let Some(connection) = connection(id) {
        let mut outgoing = context.outgoing.borrow_mut();
        let (start, len) = outgoing.keep(bytes);
        outgoing.actions.push(Action::Send { connection, start, len, binary });
    }
}

unsafe extern "C" fn broadcast(
    host: *mut c_void,
    runtime: u32,
    except: f64,
    bytes: *const c_char,
    len: usize,
    binary: bool,
) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length.
    let bytes = unsafe { slice(bytes, len) };
    let mut outgoing = context.outgoing.borrow_mut();
    let (start, len) = outgoing.keep(bytes);
    let (runtime, except) = (RuntimeId(runtime), connection(except));
    outgoing.actions.push(Action::Broadcast { runtime, except, start, len, binary });
}

unsafe extern "C" fn close(
    host: *mut c_void,
    id: f64,
    code: u32,
    reason: *const c_char,
    len: usize,
) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length.
    let reason = unsafe { slice(reason, len) };
    if let Some(connection) = connection(id) {
        let mut outgoing = context.outgoing.borrow_mut();
        let (start, len) = outgoing.keep(reason);
        let code = u16::try_from(code).ok().filter(|code| *code != 0);
        outgoing.actions.push(Action::Close { connection, code, start, len });
    }
}

unsafe extern "C" fn park(host: *mut c_void, id: f64, parked: bool) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    if let Some(connection) = connection(id) {
        context.push(Action::Park { connection, parked });
    }
}

unsafe extern "C" fn verify(host: *mut c_void, id: f64) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    if let Some(connection) = connection(id) {
        context.push(Action::Verify { connection });
    }
}

unsafe extern "C" fn master(host: *mut c_void, id: f64, granted: bool) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    if let Some(connection) = connection(id) {
        context.push(Action::Master { connection, granted });
    }
}

unsafe extern "C" fn timer(host: *mut c_void, id: f64, delay_ms: f64) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    context.push(Action::Timer { timer: id as u64, delay_ms: delay_ms as u64 });
}

unsafe extern "C" fn cancel_timer(host: *mut c_void, id: f64) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    context.push(Action::CancelTimer { timer: id as u64 });
}

unsafe extern "C" fn route(
    host: *mut c_void,
    id: f64,
    kind: u32,
    index: f64,
    name: *const c_char,
    len: usize,
) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length.
    let name = unsafe { slice(name, len) };
    let route = match kind {
        0 => Route::Default,
        1 => Route::Index(index as usize),
        2 => Route::Name(String::from_utf8_lossy(name).into_owned()),
        4 => Route::Changes(changes(name)),
        _ => Route::Refused,
    };
    if let Some(connection) = connection(id) {
        context.push(Action::Route { connection, route });
    }
}

/// What a route changes, as `lua/app/http.lua` writes it.
fn changes(text: &[u8]) -> Box<RouteChanges> {
    let mut changes = RouteChanges::default();
    for part in text.split(|byte| *byte == 0) {
        let Some((kind, value)) = part.split_first() else { continue };
        let value = String::from_utf8_lossy(value).into_owned();
        match kind {
            b'p' => changes.path = Some(value),
            b't' => changes.timeout_ms = value.parse().ok(),
            b'd' => changes.headers.push((value, None)),
            _ => {
                let (name, value) = value.split_once(':').unwrap_or((&value, ""));
                changes.headers.push((name.to_owned(), Some(value.to_owned())));
            }
        }
    }
    Box::new(changes)
}

/// What a handler of a request asks for; the acts as `lua/app/http.lua` numbers them.
#[allow(
    clippy::too_many_arguments,
    reason = "one leaf for all acts: they share most of their arguments"
)]
unsafe extern "C" fn http(
    host: *mut c_void,
    id: f64,
    number: u32,
    act: u32,
    status: u32,
    fields: *const c_char,
    fields_len: usize,
    body: *const c_char,
    body_len: usize,
    task: f64,
) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length, or nothing and 0.
    let fields = unsafe { slice(fields, fields_len) };
    // SAFETY: as above.
    let body = unsafe { slice(body, body_len) };
    let Some(connection) = connection(id) else { return };
    let mut outgoing = context.outgoing.borrow_mut();
    let (status, task) = (status as u16, task as u64);
    let act = match act {
        0 => {
            let fields = outgoing.keep(fields);
            HttpAct::Respond { status, fields, body: outgoing.keep(body) }
        }
        1 => HttpAct::Begin { status, fields: outgoing.keep(fields) },
        2 => {
            let (start, len) = outgoing.keep(body);
            HttpAct::Write { start, len }
        }
        3 => HttpAct::End,
        5 => HttpAct::Pass,
        6 => HttpAct::Detach { is_event_stream: status == 1 },
        7 => HttpAct::Read { task },
        8 => HttpAct::Drain { task },
        _ => HttpAct::Fail,
    };
    outgoing.actions.push(Action::Http { connection, number, act });
}

unsafe extern "C" fn stop_ended(host: *mut c_void, runtime: u32) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    context.push(Action::StopEnded { runtime: RuntimeId(runtime) });
}

unsafe extern "C" fn argument(host: *mut c_void, bytes: *const c_char, len: usize) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let mut caches = context.caches.borrow_mut();
    if bytes.is_null() {
        return caches.reset();
    }
    // SAFETY: the dispatcher passes a string and its length.
    caches.argument(unsafe { slice(bytes, len) });
}

unsafe extern "C" fn execute(host: *mut c_void, cache: u32, flags: u32, answer: *mut StoreAnswer) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let mut caches = context.caches.borrow_mut();
    let (bytes, number, kind): (&[u8], f64, u32) =
        match caches.execute(cache as usize, flags, context.now.get().unix_ms) {
            Answer::Nil => (&[], 0.0, 0),
            Answer::Bytes(bytes) => (bytes, 0.0, 1),
            Answer::Number(number) => (&[], number, 2),
            Answer::Boolean(true) => (&[], 0.0, 3),
            Answer::Boolean(false) => (&[], 0.0, 4),
            Answer::Error(bytes) => (bytes, 0.0, 5),
            Answer::Table => (&[], 0.0, 6),
            Answer::Absent => (&[], 0.0, 7),
            Answer::Missed => (&[], 0.0, 8),
        };
    let filled = StoreAnswer { bytes: bytes.as_ptr(), number, len: bytes.len() as u32, kind };
    // SAFETY: the dispatcher's own struct, which lives as long as the VM. The bytes it points to stay until the next
    // command; the dispatcher copies them before anything else runs.
    unsafe { answer.write(filled) };
}

/// Asks a cache's app for the keys among the arguments that are missing; the task is told when they are there.
unsafe extern "C" fn ask(host: *mut c_void, cache: u32, task: f64) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let on_landed = (context.on_landed)(task as u64);
    context.caches.borrow_mut().ask(cache as usize, context.now.get().unix_ms, on_landed);
}

/// What `on_miss` says of a key; what it found is in the arguments.
unsafe extern "C" fn land(host: *mut c_void, cache: u32, number: f64, form: u32, ttl_ms: f64) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let ttl_ms = (ttl_ms > 0.0).then_some(ttl_ms as u64);
    let now_ms = context.now.get().unix_ms;
    context.caches.borrow_mut().land((cache as usize, number as u64), form, ttl_ms, now_ms);
}

unsafe extern "C" fn done_with(host: *mut c_void, what: u32, id: f64, is_written: bool) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let runtime = RuntimeId(id as u32);
    let what = match what {
        done::EVENTS => Done::Events { runtime },
        done::BEHIND => Done::Behind { runtime, is_written },
        _ => Done::Messages { listen: id as u64 },
    };
    context.push(Action::Done { what });
}
