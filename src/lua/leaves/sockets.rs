//! The leaves of the scripts' own sockets: send, take what has come, close.

use std::ffi::{c_char, c_void};

use super::{StoreAnswer, context, slice};
use crate::lua::streams::{Taken, Want};
use crate::lua::{Action, SocketAct};

/// Names and addresses, for `lua/app/boot.lua`.
pub(super) fn addresses() -> [(&'static str, *const ()); 4] {
    [
        ("socket_send", send as *const ()),
        ("socket_take", take as *const ()),
        ("socket_drain", drain as *const ()),
        ("socket_close", close as *const ()),
    ]
}

/// Answers how many bytes aren't known to be sent, or -1 if nothing can be sent.
unsafe extern "C" fn send(host: *mut c_void, number: f64, bytes: *const c_char, len: usize) -> f64 {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length.
    let bytes = unsafe { slice(bytes, len) };
    let socket = number as u64;
    let mut streams = context.streams.borrow_mut();
    let Some(stream) = streams.get_mut(&socket).filter(|stream| !stream.broken) else {
        return -1.0;
    };
    stream.unsent_bytes += len;
    let mut outgoing = context.outgoing.borrow_mut();
    let (start, len) = outgoing.keep(bytes);
    outgoing.actions.push(Action::Socket { socket, act: SocketAct::Send { start, len } });
    stream.unsent_bytes as f64
}

/// What is wanted, as `lua/app/sockets.lua` numbers it.
fn want(kind: u32, count: f64, end: &[u8]) -> Want {
    match kind {
        0 => Want::Some((count as usize).max(1)),
        1 => Want::Exactly(count as usize),
        2 => Want::Line,
        3 if !end.is_empty() => Want::Until(end.into()),
        _ => Want::All,
    }
}

/// Takes bytes, or registers a task that wants them (0: none). The answer's kinds are those of `lua/app/sockets.lua`.
#[allow(
    clippy::too_many_arguments,
    reason = "one leaf for all readers: they share their arguments"
)]
unsafe extern "C" fn take(
    host: *mut c_void,
    number: f64,
    kind: u32,
    count: f64,
    end: *const c_char,
    end_len: usize,
    task: f64,
    answer: *mut StoreAnswer,
) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    // SAFETY: the dispatcher passes a string and its length.
    let want = want(kind, count, unsafe { slice(end, end_len) });
    let socket = number as u64;
    let mut streams = context.streams.borrow_mut();
    let nothing = StoreAnswer { bytes: std::ptr::null(), number: 0.0, len: 0, kind: 4 };
    let filled = match streams.get_mut(&socket) {
        None => nothing,
        Some(stream) => {
            let taken = stream.take(&want);
            if taken == Taken::Wait && task > 0.0 {
                stream.wait(task as u64, want);
            }
            if stream.resumes() {
                context.push(Action::Socket { socket, act: SocketAct::Resume });
            }
            let (range, kind) = match taken {
                Taken::Wait => (0..0, 0),
                Taken::Bytes(range) => (range, 1),
                Taken::Ended(range) => (range, 2),
                Taken::TooLong => (0..0, 3),
            };
            let bytes = &stream.bytes()[range];
            StoreAnswer { bytes: bytes.as_ptr(), number: 0.0, len: bytes.len() as u32, kind }
        }
    };
    // SAFETY: the dispatcher's own struct, which lives as long as the VM. The bytes it points to stay until the stream
    // changes; the dispatcher copies them before anything else runs.
    unsafe { answer.write(filled) };
}

unsafe extern "C" fn drain(host: *mut c_void, number: f64, task: f64) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let act = SocketAct::Drain { task: task as u64 };
    context.push(Action::Socket { socket: number as u64, act });
}

unsafe extern "C" fn close(host: *mut c_void, number: f64, at_once: bool) {
    // SAFETY: the dispatcher passes its own host pointer.
    let context = unsafe { context(host) };
    let socket = number as u64;
    context.streams.borrow_mut().remove(&socket);
    context.push(Action::Socket { socket, act: SocketAct::Close { at_once } });
}
