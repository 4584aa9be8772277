//! The control thread's loop: clients' bytes, workers' messages, signals, changed files and deadlines, one turn at a time.
//!
//! Must not know: what bytes mean, what verbs do.

use std::io;
use std::sync::Arc;

use super::ipc::{ClientId, Clients};
use super::manager::{Manager, Resolved};
use super::reload::Watcher;
use crate::id::ConnectionId;
use crate::limits::{ACCEPT_PAUSE_MS, CONTROL_CLIENTS_MAX, DRAIN_MS};
use crate::log::LogLevel;
use crate::ring::process::{self, Signals};
use crate::ring::{
    Chunk, Chunks, Completion, Driver, Errno, Fd, Op, OpKind, Received, Token, Wait,
};
use crate::runtime::message::{FromWorker, Inbox};

/// What a loop is made of.
pub struct Parts<C> {
    /// This thread's ring.
    pub driver: Box<dyn Driver>,
    /// The sessions.
    pub clients: C,
    /// Everything else.
    pub manager: Manager,
    /// Where clients connect.
    pub socket: Fd,
    /// What the workers say.
    pub workers: Arc<Inbox<FromWorker>>,
    /// What lookups find.
    pub resolved: Arc<Inbox<Resolved>>,
    /// Asked to end or to reload.
    pub signals: Signals,
    /// Changed files; without it a reload must be asked for.
    pub watcher: Option<Watcher>,
}

/// The control thread's world.
pub struct ControlLoop<C> {
    parts: Parts<C>,
    ops: Vec<Op>,
    completions: Vec<Completion>,
    slots: Vec<Slot>,
    last_client: u64,
    files_version: u64,
    /// Accepting goes on at this time.
    accept_at_ms: Option<u64>,
    /// When the loop ends although a client hasn't read its last bytes.
    last_bytes_ms: Option<u64>,
}

/// A place for one client's socket.
#[derive(Default)]
struct Slot {
    generation: u32,
    socket: Option<Socket>,
}

struct Socket {
    client: ClientId,
    fd: Fd,
    receiving: bool,
    sending: bool,
    /// A shutdown is in flight: the kernel does it in a thread of its own, which looks the fd up late.
    shutting: bool,
    /// Nothing more is read or sent: it is closed when nothing is in flight.
    closing: bool,
    closed: bool,
}

const SIGNALFD: u64 = 1;
const WATCHER: u64 = 2;
/// The worker's bits of the owners of clients' ops: no worker of ours.
const WORKER: u8 = u8::MAX;
/// For the last answer, which says that the daemon ends.
const LAST_BYTES_MS: u64 = 300;

impl<C: Clients> ControlLoop<C> {
    /// Puts a loop together; it accepts from its first turn on.
    pub fn new(parts: Parts<C>) -> ControlLoop<C> {
        parts.workers.attach(parts.driver.waker());
        parts.resolved.attach(parts.driver.waker());
        let mut ops = vec![
            accept(parts.socket),
            Op::Watch { fd: parts.signals.fd(), token: Token::new(OpKind::Watch, SIGNALFD) },
        ];
        if let Some(watcher) = &parts.watcher {
            ops.push(Op::Watch { fd: watcher.fd(), token: Token::new(OpKind::Watch, WATCHER) });
        }
        ControlLoop {
            parts,
            ops,
            completions: Vec::new(),
            slots: Vec::new(),
            last_client: 0,
            files_version: 0,
            accept_at_ms: None,
            last_bytes_ms: None,
        }
    }

    /// The manager, to ask it for something between two turns.
    pub fn manager(&mut self) -> &mut Manager {
        &mut self.parts.manager
    }

    /// One turn; `false` when the daemon has ended.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn turn(&mut self) -> io::Result<bool> {
        let wait = self.wait();
        let mut completions = std::mem::take(&mut self.completions);
        self.parts.driver.turn(&mut self.ops, wait, &mut completions)?;
        let now = self.parts.driver.now();
        self.parts.manager.on_time(now);
        for completion in completions.drain(..) {
            self.on_completion(completion);
        }
        self.completions = completions;
        for message in self.parts.workers.take() {
            self.parts.manager.on_message(message);
        }
        let lost = self.parts.workers.take_lost();
        if lost > 0 {
            self.parts.manager.on_lost(lost);
        }
        self.parts.clients.on_turn(now, &mut self.parts.manager);
        self.send_ready();
        self.follow_files();
        if self.accept_at_ms.is_some_and(|at_ms| at_ms <= now.monotonic_ms()) {
            self.accept_at_ms = None;
            self.ops.push(accept(self.parts.socket));
        }
        Ok(!self.is_ended())
    }

    fn wait(&self) -> Wait {
        let deadlines = [
            self.parts.manager.deadline_ms(),
            self.parts.clients.deadline_ms(),
            self.accept_at_ms,
            self.last_bytes_ms,
        ];
        let earliest = deadlines.into_iter().flatten().min();
        earliest.map_or(Wait::Forever, |deadline_ms| Wait::Until(deadline_ms * 1_000_000))
    }

    fn is_ended(&mut self) -> bool {
        if !self.parts.manager.is_ended() {
            return false;
        }
        let now_ms = self.parts.driver.now().monotonic_ms();
        let until_ms = *self.last_bytes_ms.get_or_insert(now_ms + LAST_BYTES_MS);
        let sending = |slot: &Slot| slot.socket.as_ref().is_some_and(|socket| socket.sending);
        now_ms >= until_ms || !self.slots.iter().any(sending)
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { result, more, .. } => self.on_accepted(result, more),
            Completion::Received { token, result, more } => self.on_received(token, result, more),
            Completion::Sent { token, result, chunks } => self.on_sent(token, result, chunks),
            Completion::Done { token, .. } => self.on_done(token),
            Completion::Ready { token, more } => self.on_ready(token, more),
            Completion::Connected { .. }
            | Completion::ReceivedFrom { .. }
            | Completion::SentTo { .. }
            | Completion::Woken => {}
        }
    }

    fn on_done(&mut self, token: Token) {
        let Some(index) = self.slot_of(token) else { return };
        match token.kind() {
            Some(OpKind::Close) => self.slots[index].socket = None,
            Some(OpKind::Shutdown) => {
                if let Some(socket) = &mut self.slots[index].socket {
                    socket.shutting = false;
                }
                self.close(index);
            }
            _ => {}
        }
    }

    fn on_ready(&mut self, token: Token, more: bool) {
        let fd = if token.owner() == SIGNALFD {
            self.on_signals();
            self.parts.signals.fd()
        } else if let Some(watcher) = &mut self.parts.watcher {
            let changes = watcher.take();
            self.parts.manager.on_files_changed(&changes.files);
            if changes.missed {
                self.parts.manager.reload_all();
                self.files_version = 0;
            }
            watcher.fd()
        } else {
            return;
        };
        if !more {
            self.ops.push(Op::Watch { fd, token });
        }
    }

    fn on_signals(&mut self) {
        for signal in self.parts.signals.take() {
            let manager = &mut self.parts.manager;
            match signal {
                libc::SIGHUP => {
                    manager.log(LogLevel::Info, "", "asked to reload (SIGHUP)");
                    manager.reload_all();
                }
                _ => manager.shut_down(DRAIN_MS),
            }
        }
    }

    /// Watches what the apps read now.
    fn follow_files(&mut self) {
        let Parts { manager, watcher: Some(watcher), .. } = &mut self.parts else { return };
        let version = manager.files_version();
        if self.files_version != version {
            self.files_version = version;
            for problem in watcher.follow(manager.watched_files()) {
                manager.log(LogLevel::Warn, "", problem);
            }
        }
    }

    fn on_accepted(&mut self, result: Result<Fd, Errno>, more: bool) {
        match result {
            Ok(fd) => self.open(fd),
            Err(Errno(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) if !more => {
                let now_ms = self.parts.driver.now().monotonic_ms();
                self.accept_at_ms = Some(now_ms + ACCEPT_PAUSE_MS);
                return;
            }
            Err(_) => {}
        }
        if !more {
            self.ops.push(accept(self.parts.socket));
        }
    }

    /// Takes a client in, if it is this user or root and there is room.
    fn open(&mut self, fd: Fd) {
        let peer = process::peer_user(fd);
        let trusted = peer.is_ok_and(|user| user == 0 || user == process::user());
        let index = self.free_slot().filter(|_| trusted);
        let Some(index) = index else {
            let why = if trusted { "too many clients" } else { "a client of another user" };
            let text = format!("refused a connection to the control socket: {why}");
            self.parts.manager.log(LogLevel::Warn, "", text);
            let nobody = Token::new(OpKind::Close, u64::MAX >> 8);
            return self.ops.push(Op::Close { fd, token: nobody });
        };
        self.last_client += 1;
        let client = ClientId(self.last_client);
        let slot = &mut self.slots[index];
        slot.generation = (slot.generation + 1) & 0xff_ffff;
        slot.socket = Some(Socket {
            client,
            fd,
            receiving: true,
            sending: false,
            shutting: false,
            closing: false,
            closed: false,
        });
        let token = self.token(OpKind::Receive, index);
        self.ops.push(Op::Receive { fd, token });
        self.parts.clients.on_open(client, &mut self.parts.manager);
    }

    fn free_slot(&mut self) -> Option<usize> {
        let free = self.slots.iter().position(|slot| slot.socket.is_none());
        free.or_else(|| {
            (self.slots.len() < CONTROL_CLIENTS_MAX).then(|| {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            })
        })
    }

    fn token(&self, kind: OpKind, index: usize) -> Token {
        let generation = self.slots[index].generation;
        Token::new(kind, ConnectionId::new(WORKER, index as u32, generation).bits())
    }

    /// The slot of an op, if the client it was for is still the one.
    fn slot_of(&self, token: Token) -> Option<usize> {
        let id = ConnectionId::from_bits(token.owner())?;
        let slot = self.slots.get(id.slot() as usize)?;
        (slot.generation == id.generation() && slot.socket.is_some()).then(|| id.slot() as usize)
    }

    fn on_received(&mut self, token: Token, result: Result<Option<Received>, Errno>, more: bool) {
        let Some(index) = self.slot_of(token) else {
            if let Ok(Some(received)) = result {
                self.parts.driver.recycle(received);
            }
            return;
        };
        let Some(socket) = &mut self.slots[index].socket else { return };
        socket.receiving = more;
        let (client, closing, fd) = (socket.client, socket.closing, socket.fd);
        let mut ended = false;
        match result {
            Ok(Some(received)) => {
                if !closing {
                    let bytes = self.parts.driver.received(&received);
                    self.parts.clients.on_bytes(client, bytes, &mut self.parts.manager);
                }
                self.parts.driver.recycle(received);
            }
            Err(Errno(libc::ENOBUFS | libc::EINTR)) => {}
            Ok(None) | Err(_) => ended = true,
        }
        if ended || closing {
            return self.close(index);
        }
        if !more && let Some(socket) = &mut self.slots[index].socket {
            socket.receiving = true;
            self.ops.push(Op::Receive { fd, token });
        }
    }

    fn send_ready(&mut self) {
        for client in self.parts.clients.take_ready() {
            let of = |slot: &Slot| slot.socket.as_ref().is_some_and(|s| s.client == client);
            if let Some(index) = self.slots.iter().position(of) {
                self.send_more(index);
            }
        }
    }

    /// Sends what a client's session has, one send at a time; closes when it is done.
    fn send_more(&mut self, index: usize) {
        let token = self.token(OpKind::Send, index);
        let Some(socket) = &mut self.slots[index].socket else { return };
        if socket.sending || socket.closing {
            return;
        }
        let bytes = self.parts.clients.take_output(socket.client);
        if !bytes.is_empty() {
            socket.sending = true;
            let chunks = Chunks { list: vec![Chunk::Owned(bytes)], sent: 0 };
            self.ops.push(Op::Send { fd: socket.fd, chunks, token });
        } else if self.parts.clients.is_done(socket.client) {
            self.close(index);
        }
    }

    fn on_sent(&mut self, token: Token, result: Result<usize, Errno>, mut chunks: Chunks) {
        let Some(index) = self.slot_of(token) else { return };
        let Some(socket) = &mut self.slots[index].socket else { return };
        socket.sending = false;
        let Ok(bytes) = result else { return self.close(index) };
        chunks.sent += bytes;
        let whole = chunks.list.first().map_or(0, |chunk| chunk.bytes().len());
        if socket.closing {
            self.close(index);
        } else if chunks.sent < whole {
            socket.sending = true;
            self.ops.push(Op::Send { fd: socket.fd, chunks, token });
        } else {
            self.send_more(index);
        }
    }

    /// Begins or goes on to close a client: its ops end first.
    fn close(&mut self, index: usize) {
        let (receive, cancel) =
            (self.token(OpKind::Receive, index), self.token(OpKind::Cancel, index));
        let close = self.token(OpKind::Close, index);
        let Some(socket) = &mut self.slots[index].socket else { return };
        if !socket.closing {
            socket.closing = true;
            if socket.receiving {
                self.ops.push(Op::Cancel { target: receive, token: cancel });
            }
            if socket.sending {
                // A peer that doesn't read would hold the send for ever.
                let token = Token::new(OpKind::Shutdown, close.owner());
                let how = crate::ring::How::Both;
                socket.shutting = true;
                self.ops.push(Op::Shutdown { fd: socket.fd, how, token });
            }
            self.parts.clients.on_close(socket.client, &mut self.parts.manager);
        }
        if !(socket.receiving || socket.sending || socket.shutting || socket.closed) {
            socket.closed = true;
            self.ops.push(Op::Close { fd: socket.fd, token: close });
        }
    }
}

fn accept(socket: Fd) -> Op {
    Op::Accept { fd: socket, token: Token::new(OpKind::Accept, 0) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::*;
    use crate::control::logs::Logs;
    use crate::control::manager::ManagerSetup;
    use crate::ring::{Now, Options, Uring, clock};

    /// Sends every byte back in upper case, a megabyte for each `!`, and ends after a `.`.
    #[derive(Default)]
    struct Shouting {
        output: BTreeMap<ClientId, Vec<u8>>,
        done: BTreeSet<ClientId>,
        ready: Vec<ClientId>,
        opened: usize,
        closed: usize,
    }

    impl Clients for Shouting {
        fn on_open(&mut self, client: ClientId, _: &mut Manager) {
            self.opened += 1;
            self.output.insert(client, Vec::new());
        }

        fn on_bytes(&mut self, client: ClientId, bytes: &[u8], _: &mut Manager) {
            let output = self.output.get_mut(&client).unwrap();
            for byte in bytes {
                match byte {
                    b'!' => output.resize(output.len() + (1 << 20), b'x'),
                    b'.' => {
                        self.done.insert(client);
                    }
                    other => output.push(other.to_ascii_uppercase()),
                }
            }
            self.ready.push(client);
        }

        fn on_close(&mut self, client: ClientId, _: &mut Manager) {
            self.closed += 1;
            self.output.remove(&client);
        }

        fn on_turn(&mut self, _: Now, _: &mut Manager) {}

        fn take_ready(&mut self) -> Vec<ClientId> {
            std::mem::take(&mut self.ready)
        }

        fn take_output(&mut self, client: ClientId) -> Vec<u8> {
            let output = self.output.get_mut(&client).unwrap();
            let rest = output.split_off(output.len().min(64 * 1024));
            std::mem::replace(output, rest)
        }

        fn is_done(&self, client: ClientId) -> bool {
            self.done.contains(&client)
        }

        fn deadline_ms(&self) -> Option<u64> {
            // The test looks at its client from time to time.
            Some(clock::now().monotonic_ms() + 5)
        }
    }

    struct Fixture {
        turns: ControlLoop<Shouting>,
        path: PathBuf,
        _socket: UnixListener,
    }

    /// Nothing if this machine denies io_uring.
    fn fixture(name: &str) -> Option<Fixture> {
        let options = Options { buffers: 4, entries: 32, ..Options::default() };
        let driver = Uring::new(&options).ok()?;
        let path = std::env::temp_dir().join(format!("socketley-{name}-{}", std::process::id()));
        let socket = UnixListener::bind(&path).unwrap();
        let manager = Manager::new(ManagerSetup {
            workers: Arc::new([]),
            stores: Arc::default(),
            resolved: Arc::default(),
            reports: Arc::default(),
            logs: Logs::default(),
            state: None,
            facts: serde_json::Map::new(),
            now: clock::now(),
            seed: 1,
        });
        let turns = ControlLoop::new(Parts {
            driver: Box::new(driver),
            clients: Shouting::default(),
            manager,
            socket: Fd(socket.as_raw_fd()),
            workers: Arc::default(),
            resolved: Arc::default(),
            signals: Signals::block(&[libc::SIGUSR1]).unwrap(),
            watcher: Some(Watcher::new().unwrap()),
        });
        Some(Fixture { turns, path, _socket: socket })
    }

    impl Fixture {
        /// Turns until a client's story, told in a thread of its own, has ended.
        fn run<T: Send + 'static>(
            &mut self,
            story: impl FnOnce(PathBuf) -> T + Send + 'static,
        ) -> T {
            let path = self.path.clone();
            let teller = std::thread::spawn(move || story(path));
            while !teller.is_finished() {
                assert!(self.turns.turn().unwrap(), "nobody has ended it");
            }
            teller.join().unwrap()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            std::fs::remove_file(&self.path).unwrap();
        }
    }

    #[test]
    fn clients_are_served_and_closed_when_they_are_done() {
        let Some(mut fixture) = fixture("turn-served") else { return };
        let text = fixture.run(|path| {
            let mut client = UnixStream::connect(path).unwrap();
            client.write_all(b"one ").unwrap();
            let mut first = [0; 4];
            client.read_exact(&mut first).unwrap();
            client.write_all(b"two!.").unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            (first, rest.len(), rest[..3].to_vec())
        });
        assert_eq!(text, (*b"ONE ", (1 << 20) + 3, b"TWO".to_vec()));
    }

    #[test]
    fn clients_that_vanish_leave_nothing() {
        let Some(mut fixture) = fixture("turn-vanish") else { return };
        fixture.run(|path| {
            for round in 0..CONTROL_CLIENTS_MAX + 20 {
                let mut client = UnixStream::connect(&path).unwrap();
                if round % 2 == 0 {
                    // Much output that it never reads.
                    client.write_all(b"!").unwrap();
                }
            }
        });
        for _ in 0..500 {
            let clients = &fixture.turns.parts.clients;
            if clients.opened >= CONTROL_CLIENTS_MAX && clients.opened == clients.closed {
                break;
            }
            fixture.turns.turn().unwrap();
        }
        let clients = &fixture.turns.parts.clients;
        assert_eq!(clients.opened, clients.closed);
        let last = fixture.run(|path| {
            let mut client = UnixStream::connect(path).unwrap();
            client.write_all(b"still here.").unwrap();
            let mut all = String::new();
            client.read_to_string(&mut all).unwrap();
            all
        });
        assert_eq!(last, "STILL HERE");
    }

    #[test]
    fn too_many_clients_are_refused_and_the_others_go_on() {
        let Some(mut fixture) = fixture("turn-many") else { return };
        let refused = fixture.run(|path| {
            let mut clients: Vec<UnixStream> =
                (0..CONTROL_CLIENTS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
            let mut byte = [0];
            for client in &mut clients {
                client.write_all(b"a").unwrap();
                client.read_exact(&mut byte).unwrap();
            }
            let mut one_more = UnixStream::connect(&path).unwrap();
            let refused = one_more.read(&mut byte);
            clients[0].write_all(b"b").unwrap();
            clients[0].read_exact(&mut byte).unwrap();
            assert_eq!(byte, *b"B");
            matches!(refused, Ok(0) | Err(_))
        });
        assert!(refused);
    }
}
