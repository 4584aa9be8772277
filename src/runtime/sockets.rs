//! The connections that scripts make themselves: dialled, encrypted, read and written beside the runtimes' own.
//!
//! Each belongs to one generation of an app and ends with it. It has an id of the worker's connections, so that its ops
//! can't be taken for another's, and no runtime. The same rules hold as for those: one send in flight, reading stops when
//! the script has enough, an fd is closed when the kernel holds nothing of it.

mod dial;

use std::collections::BTreeMap;

use crate::id::{AppId, ConnectionId};
use crate::limits;
use crate::lua::vm::AppVm;
use crate::lua::{Action, Errand, Outcome, SocketAct, SocketFailure};
use crate::net::Outbox;
use crate::net::tls::Session;
use crate::ring::{Chunks, Completion, Driver, Errno, Fd, How, Op, OpKind, Received, Token};

use dial::Dialling;
pub use dial::{Found, on_found};

use super::errands::{self, Errands};
use super::local::{Local, TimerEvent};
use super::message::ToWorker;

/// A generation of an app.
pub type Owner = (AppId, u32);

/// Set in the owners of these sockets' ops: no connection's id has it.
const SOCKET: u64 = 1 << 53;

/// How far a socket's life has gone.
enum Phase {
    /// On its way to being open: looked up, connected, shaking hands.
    Dialling(Box<Dialling>),
    /// Bytes flow.
    Open,
    /// Closes when everything is sent.
    Flushing,
    /// Our side is shut; what still comes is dropped.
    Lingering,
    /// Waits for the ops in flight.
    Closing,
}

/// One of them.
struct Socket {
    owner: Owner,
    /// The VM's name for it.
    number: u64,
    phase: Phase,
    fd: Option<Fd>,
    session: Option<Box<Session>>,
    outbox: Outbox,
    /// The task that waits for room in it.
    drain: Option<u64>,
    in_flight: u16,
    receiving: bool,
    cancelling: bool,
    /// The script has enough for now.
    paused: bool,
    read_ended: bool,
    /// The VM knows nothing of it any more.
    forgotten: bool,
}

/// News for a VM that is out of its place while its actions are carried out.
enum News {
    Dialled(u64, u64, Result<(), SocketFailure>),
    End(u64, SocketFailure, bool),
    Sent(u64, usize, Option<u64>),
    Errand(u64, Outcome),
}

/// A worker's.
#[derive(Default)]
pub struct Sockets {
    /// By the bits of their ids.
    all: BTreeMap<u64, Socket>,
    numbers: BTreeMap<(Owner, u64), u64>,
    dirty: Vec<u64>,
    starved: Vec<u64>,
    late: Vec<(Owner, News)>,
    errands: Errands,
    /// Names that are never looked up, and whether there are no others.
    hosts: BTreeMap<String, std::net::IpAddr>,
    hosts_only: bool,
}

impl Sockets {
    /// None yet.
    pub fn new(errands: Errands) -> Sockets {
        Sockets { errands, ..Sockets::default() }
    }

    /// From now on no name is looked up but those that [`Sockets::call_host`] gives: for a simulated network.
    pub fn know_no_hosts(&mut self) {
        self.hosts_only = true;
    }

    /// Gives a name an address.
    pub fn call_host(&mut self, name: &str, address: std::net::IpAddr) {
        self.hosts.insert(name.to_owned(), address);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether something is to be sent.
    pub fn have_work(&self) -> bool {
        !self.dirty.is_empty()
    }
}

impl Socket {
    fn unsent_bytes(&self) -> usize {
        self.outbox.bytes() + self.session.as_ref().map_or(0, |session| session.wire_bytes())
    }

    fn failure(error: Errno) -> SocketFailure {
        let code = match error.0 {
            libc::ECONNREFUSED => "refused",
            libc::ETIMEDOUT => "timeout",
            libc::ECONNRESET | libc::EPIPE => "reset",
            libc::ENETUNREACH | libc::EHOSTUNREACH => "unreachable",
            _ => "failed",
        };
        SocketFailure { code, text: error.to_string() }
    }
}

/// Whether a completion is one of these sockets'.
pub fn owns(completion: &Completion) -> bool {
    let (Completion::Connected { token, .. }
    | Completion::Received { token, .. }
    | Completion::Sent { token, .. }
    | Completion::Done { token, .. }) = completion
    else {
        return false;
    };
    token.owner() & SOCKET != 0
}

fn token(kind: OpKind, id: u64) -> Token {
    Token::new(kind, SOCKET | id)
}

/// Carries out what the script asks for. Its VM is out of its place.
pub fn on_act(local: &mut Local, vm: &AppVm, owner: Owner, number: u64, act: SocketAct) {
    if let SocketAct::Dial(dial) = act {
        return dial::begin(local, owner, number, *dial);
    }
    let Some(&id) = local.sockets.numbers.get(&(owner, number)) else { return };
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    match act {
        SocketAct::Dial(_) => {}
        SocketAct::Send { start, len } => {
            socket.outbox.append(vm.bytes(start, len));
            local.sockets.dirty.push(id);
        }
        SocketAct::Drain { task } => {
            socket.drain = Some(task);
            if socket.unsent_bytes() < limits::OUTBOX_LOW_BYTES
                || !matches!(socket.phase, Phase::Open)
            {
                sent(local, id);
            }
        }
        SocketAct::Resume => {
            socket.paused = false;
            read_on(local, id);
        }
        SocketAct::Close { at_once } => {
            forget_number(local, id);
            if at_once { close_now(local, id) } else { close_after_flush(local, id) }
        }
    }
}

/// Work for a thread. Its VM is out of its place.
pub fn on_errand(local: &mut Local, owner: Owner, task: u64, errand: Errand) {
    let inbox = std::sync::Arc::clone(&local.workers[usize::from(local.worker)]);
    let job = move || {
        let outcome = errands::perform(errand);
        inbox.send(ToWorker::ErrandDone { owner, task, outcome });
    };
    if !local.sockets.errands.run(job) {
        let text = format!("{} lookups and files wait already", limits::ERRANDS_MAX);
        let outcome = Outcome::Failed { code: "limit", text };
        local.sockets.late.push((owner, News::Errand(task, outcome)));
    }
}

/// An errand is done.
pub fn on_errand_done(local: &mut Local, owner: Owner, task: u64, outcome: Outcome) {
    tell(local, owner, News::Errand(task, outcome));
}

/// An action's owner is back in its place: what happened meanwhile.
pub fn deliver_late(local: &mut Local) {
    for (owner, news) in std::mem::take(&mut local.sockets.late) {
        tell(local, owner, news);
    }
}

fn tell(local: &mut Local, owner: Owner, news: News) {
    let Some(vm) = local.apps.vm(owner.0, owner.1) else {
        if local.apps.is_busy(owner.0, owner.1) {
            local.sockets.late.push((owner, news));
        }
        return;
    };
    match news {
        News::Dialled(number, task, result) => vm.on_dialled(number, task, result),
        News::End(number, why, is_broken) => vm.on_socket_end(number, why, is_broken),
        News::Sent(number, unsent, task) => vm.on_socket_sent(number, unsent, task),
        News::Errand(task, outcome) => vm.on_errand(task, outcome),
    }
}

/// A completion that [`owns`] has told.
pub fn on_completion(local: &mut Local, driver: &mut dyn Driver, completion: Completion) {
    match completion {
        Completion::Connected { token, result } => dial::on_connected(local, token, result),
        Completion::Received { token, result, more } => {
            on_received(local, driver, token, result, more);
        }
        Completion::Sent { token, result, chunks } => {
            if let Some(id) = ended_op(local, token) {
                on_sent(local, id, result, chunks);
                finish(local, id);
            }
        }
        Completion::Done { token, .. } if token.kind() == Some(OpKind::Close) => {
            forget(local, token.owner() & !SOCKET);
        }
        Completion::Done { token, .. } => {
            if let Some(id) = ended_op(local, token) {
                finish(local, id);
            }
        }
        _ => {}
    }
}

fn ended_op(local: &mut Local, token: Token) -> Option<u64> {
    let id = token.owner() & !SOCKET;
    let socket = local.sockets.all.get_mut(&id)?;
    socket.in_flight -= 1;
    Some(id)
}

// Reading ---------------------------------------------------------------------------------------------------------------

fn read_on(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let wanted = !matches!(socket.phase, Phase::Closing | Phase::Flushing)
        && !socket.paused
        && !socket.read_ended
        && !socket.receiving;
    let (true, Some(fd)) = (wanted, socket.fd) else { return };
    socket.receiving = true;
    socket.in_flight += 1;
    local.ops.push(Op::Receive { fd, token: token(OpKind::Receive, id) });
}

fn cancel_receive(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if socket.receiving && !socket.cancelling {
        socket.cancelling = true;
        socket.in_flight += 1;
        let target = token(OpKind::Receive, id);
        local.ops.push(Op::Cancel { target, token: token(OpKind::Cancel, id) });
    }
}

fn on_received(
    local: &mut Local,
    driver: &mut dyn Driver,
    token: Token,
    result: Result<Option<Received>, Errno>,
    more: bool,
) {
    let id = token.owner() & !SOCKET;
    if let Some(socket) = local.sockets.all.get_mut(&id)
        && !more
    {
        socket.in_flight -= 1;
        socket.receiving = false;
        socket.cancelling = false;
    }
    match result {
        Ok(Some(received)) => {
            on_bytes(local, id, driver.received(&received));
            driver.recycle(received);
            if !more {
                read_on(local, id);
            }
        }
        Ok(None) => on_end(local, id),
        Err(error) => match error.0 {
            libc::ENOBUFS => local.sockets.starved.push(id),
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => read_on(local, id),
            _ => fail(local, id, Socket::failure(error)),
        },
    }
    finish(local, id);
}

fn on_bytes(local: &mut Local, id: u64, bytes: &[u8]) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if !matches!(socket.phase, Phase::Dialling(_) | Phase::Open) {
        return;
    }
    let Some(session) = &mut socket.session else { return deliver(local, id, bytes) };
    let mut room = std::mem::take(&mut local.room);
    let outcome = session.receive(bytes, &mut room);
    if session.has_records() {
        local.sockets.dirty.push(id);
    }
    match outcome {
        Ok(progress) => {
            if progress.opened {
                dial::opened(local, id);
            }
            if !room.plain.is_empty() {
                deliver(local, id, &room.plain);
            }
            if progress.ended {
                ended(local, id);
            }
        }
        Err(error) => fail(local, id, SocketFailure { code: "tls", text: error.to_string() }),
    }
    local.room = room;
}

fn deliver(local: &mut Local, id: u64, bytes: &[u8]) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let (owner, number) = (socket.owner, socket.number);
    let Some(vm) = local.apps.vm(owner.0, owner.1) else { return };
    if vm.on_socket_bytes(number, bytes) {
        socket.paused = true;
        cancel_receive(local, id);
    }
}

/// The peer's socket has no more bytes; TLS has an end of its own, without which someone may have cut it.
fn on_end(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    match socket.phase {
        Phase::Lingering => close_now(local, id),
        Phase::Open if socket.session.is_some() && !socket.read_ended => {
            let text = "the other side broke off without TLS's own end".to_owned();
            fail(local, id, SocketFailure { code: "cut", text });
        }
        Phase::Open => ended(local, id),
        Phase::Dialling(_) => {
            let text = "the other side closed it during the handshake".to_owned();
            fail(local, id, SocketFailure { code: "closed", text });
        }
        Phase::Flushing | Phase::Closing => socket.read_ended = true,
    }
}

/// The peer says that nothing more comes; we may still send.
fn ended(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if std::mem::replace(&mut socket.read_ended, true) || !matches!(socket.phase, Phase::Open) {
        return;
    }
    let (owner, number) = (socket.owner, socket.number);
    let text = "the other side closed the connection".to_owned();
    tell(local, owner, News::End(number, SocketFailure { code: "closed", text }, false));
}

/// It can't go on.
fn fail(local: &mut Local, id: u64, why: SocketFailure) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if matches!(socket.phase, Phase::Dialling(_)) {
        return dial::failed(local, id, why);
    }
    let (owner, number, drain) = (socket.owner, socket.number, socket.drain.take());
    if !socket.forgotten {
        tell(local, owner, News::End(number, why, true));
        if drain.is_some() {
            tell(local, owner, News::Sent(number, 0, drain));
        }
    }
    close_now(local, id);
}

// Writing and ending ----------------------------------------------------------------------------------------------------

/// Turns what was appended into one send per socket.
pub fn flush(local: &mut Local) {
    for id in std::mem::take(&mut local.sockets.dirty) {
        let Some(socket) = local.sockets.all.get_mut(&id) else { continue };
        if matches!(socket.phase, Phase::Closing) {
            continue;
        }
        let Some(fd) = socket.fd else { continue };
        let chunks = match &mut socket.session {
            None => socket.outbox.take_send(),
            Some(session) => match session.take_send(&mut socket.outbox) {
                Ok(chunks) => chunks,
                Err(error) => {
                    fail(local, id, SocketFailure { code: "tls", text: error.to_string() });
                    continue;
                }
            },
        };
        if let Some(chunks) = chunks {
            socket.in_flight += 1;
            local.ops.push(Op::Send { fd, chunks, token: token(OpKind::Send, id) });
        } else if matches!(socket.phase, Phase::Flushing) && socket.unsent_bytes() == 0 {
            linger(local, id);
        }
    }
    for id in std::mem::take(&mut local.sockets.starved) {
        read_on(local, id);
    }
}

fn on_sent(local: &mut Local, id: u64, result: Result<usize, Errno>, chunks: Chunks) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    let kept = match &mut socket.session {
        Some(session) => session.on_sent(result, chunks),
        None => socket.outbox.on_sent(result, chunks),
    };
    if let Err(error) = kept {
        return fail(local, id, Socket::failure(error));
    }
    local.sockets.dirty.push(id);
    sent(local, id);
}

/// Tells the VM how much is left, and wakes who waits for little.
fn sent(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if socket.forgotten {
        return;
    }
    let unsent = socket.unsent_bytes();
    let is_low = unsent < limits::OUTBOX_LOW_BYTES || !matches!(socket.phase, Phase::Open);
    let task = if is_low { socket.drain.take() } else { None };
    let (owner, number) = (socket.owner, socket.number);
    tell(local, owner, News::Sent(number, unsent, task));
}

fn forget_number(local: &mut Local, id: u64) {
    if let Some(socket) = local.sockets.all.get_mut(&id) {
        socket.forgotten = true;
        let key = (socket.owner, socket.number);
        local.sockets.numbers.remove(&key);
    }
}

fn close_after_flush(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    match socket.phase {
        Phase::Open => {
            socket.phase = Phase::Flushing;
            cancel_receive(local, id);
            local.sockets.dirty.push(id);
            let event = TimerEvent::Socket { id };
            local.timers.insert(local.now, limits::FLUSH_STALL_MS, event);
        }
        Phase::Dialling(_) => close_now(local, id),
        _ => {}
    }
}

/// Shuts our side, and waits a bounded time for the peer's: a close with unread bytes would reset what was sent.
fn linger(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if let Some(session) = &mut socket.session
        && session.close()
    {
        local.sockets.dirty.push(id);
        return;
    }
    let (Some(fd), false) = (socket.fd, socket.read_ended) else { return close_now(local, id) };
    socket.phase = Phase::Lingering;
    socket.paused = false;
    socket.in_flight += 1;
    local.ops.push(Op::Shutdown { fd, how: How::Write, token: token(OpKind::Shutdown, id) });
    local.timers.insert(local.now, limits::LINGER_MS, TimerEvent::Socket { id });
    read_on(local, id);
}

/// A closing socket has had its time.
pub fn on_timer(local: &mut Local, id: u64) {
    let closing = local.sockets.all.get(&id);
    if closing.is_some_and(|it| matches!(it.phase, Phase::Flushing | Phase::Lingering)) {
        close_now(local, id);
    }
}

fn close_now(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if matches!(socket.phase, Phase::Closing) {
        return;
    }
    let was_dialling = matches!(socket.phase, Phase::Dialling(_));
    socket.phase = Phase::Closing;
    if let Some(session) = &mut socket.session {
        session.abandon();
    }
    if socket.in_flight > 0 {
        match socket.fd {
            Some(fd) => {
                socket.in_flight += 1;
                let done = token(OpKind::Shutdown, id);
                local.ops.push(Op::Shutdown { fd, how: How::Both, token: done });
                cancel_receive(local, id);
            }
            None if was_dialling => {
                socket.in_flight += 1;
                let target = token(OpKind::Connect, id);
                local.ops.push(Op::Cancel { target, token: token(OpKind::Cancel, id) });
            }
            None => {}
        }
    }
    finish(local, id);
}

/// Closes the fd when nothing is in flight any more.
fn finish(local: &mut Local, id: u64) {
    let Some(socket) = local.sockets.all.get_mut(&id) else { return };
    if !matches!(socket.phase, Phase::Closing) || socket.in_flight > 0 {
        return;
    }
    match socket.fd.take() {
        Some(fd) => {
            // Until it is closed its id isn't anybody else's.
            socket.in_flight = u16::MAX;
            local.ops.push(Op::Close { fd, token: token(OpKind::Close, id) });
        }
        None => forget(local, id),
    }
}

fn forget(local: &mut Local, id: u64) {
    forget_number(local, id);
    if local.sockets.all.remove(&id).is_some()
        && let Some(id) = ConnectionId::from_bits(id)
    {
        local.connections.release(id);
    }
}

/// A generation has ended: its sockets do too.
pub fn end_all_of(local: &mut Local, owner: Owner) {
    let theirs = |(id, socket): (&u64, &Socket)| (socket.owner == owner).then_some(*id);
    let ids: Vec<u64> = local.sockets.all.iter().filter_map(theirs).collect();
    for id in ids {
        forget_number(local, id);
        close_after_flush(local, id);
    }
}

/// The worker ends: all end at once.
pub fn end_all(local: &mut Local) {
    let ids: Vec<u64> = local.sockets.all.keys().copied().collect();
    for id in ids {
        forget_number(local, id);
        close_now(local, id);
    }
}

/// Carries out an action of this part; the others are answered back.
pub fn carry_out(local: &mut Local, vm: &AppVm, owner: Owner, action: Action) -> Option<Action> {
    match action {
        Action::Socket { socket, act } => on_act(local, vm, owner, socket, act),
        Action::Errand { task, errand } => on_errand(local, owner, task, errand),
        other => return Some(other),
    }
    None
}
