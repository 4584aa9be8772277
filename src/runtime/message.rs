//! What the control thread and the workers say to each other.
//!
//! A worker never waits for an answer; the control thread waits for one with a deadline. Requests carry a number that
//! the answer repeats.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::ScriptError;
use crate::id::{AppId, ConnectionId, RuntimeId};
use crate::limits;
use crate::log::LogRecord;
use crate::lua::{AppSource, Definitions, Outcome, Reply, SocketFailure};
use crate::proto::websocket::Kind;
use crate::ring::{Address, Fd, Wake};

use super::Placement;
use super::sockets::{Found, Owner};
use super::stats::Arrival;

/// From the control thread (or another worker) to a worker.
pub enum ToWorker {
    /// Build a generation of an app beside the running one, evaluate it and answer [`FromWorker::Prepared`].
    Prepare { request: u64, app: AppId, source: Arc<AppSource> },
    /// Make the prepared generation the running one: `placements` are the runtimes it now serves (new and kept ones; a
    /// kept one has the id it had). Connections stay. Answer [`FromWorker::Committed`].
    /// `is_home`: of the app's workers this is the one where what happens once per app happens.
    Commit { request: u64, app: AppId, generation: u32, is_home: bool, placements: Vec<Placement> },
    /// Forget a prepared generation.
    Discard { app: AppId, generation: u32 },
    /// The app ends: its VM is closed after its runtimes' connections are.
    DropApp { app: AppId },
    /// Serve a runtime, or take its changed fields. Answer [`FromWorker::Placed`].
    Place { request: u64, placement: Placement },
    /// Accept for a runtime that is placed here. The fd stays the control thread's.
    Listen { runtime: RuntimeId, fd: Fd },
    /// Stop accepting from this fd; answer [`FromWorker::Unlistened`] when nothing is in flight on it.
    Unlisten { request: u64, runtime: RuntimeId },
    /// An accepted connection, handed over by the accepting worker.
    Adopt { runtime: RuntimeId, fd: Fd, peer: Address, arrival: Arrival },
    /// Other workers' commands have something to tell the clients of a cache here.
    CacheLetters { runtime: RuntimeId },
    /// A cache has something for the hooks of its app here.
    CacheHooks { runtime: RuntimeId },
    /// Caches have come or gone: listeners join them.
    CachesChanged,
    /// There are messages for one of a VM's listeners.
    Heard { app: AppId, generation: u32, listen: u64 },
    /// The keys that a handler waits for are there, or why they aren't.
    Landed { app: AppId, generation: u32, task: u64, outcome: Result<(), Vec<u8>> },
    /// Another primary may be wanted for a cache.
    Upstream { runtime: RuntimeId },
    /// Its cache was busy when a connection's turn to join it came: try again.
    Open { connection: ConnectionId },
    /// Close the runtime's connections after at most `drain_ms`, run `on_stop`, answer [`FromWorker::Stopped`].
    Stop { request: u64, runtime: RuntimeId, drain_ms: u64 },
    /// The runtime is served by other workers from now on: as [`ToWorker::Stop`] without an answer, but a proxy's clients
    /// here are served until they pause or the time is over. [`ToWorker::Place`] and `Commit` take it back.
    Leave { runtime: RuntimeId, drain_ms: u64 },
    /// Send a message to one of the runtime's connections or to all of them. `request` 0 wants no answer;
    /// else [`FromWorker::SentTo`] tells how many got it. `kind`: what it is to a WebSocket, if that is known.
    Send { request: u64, runtime: RuntimeId, to: Recipients, bytes: Arc<[u8]>, kind: Option<Kind> },
    /// Messages as `server::outgoing` writes them, for every connection of the runtime on this worker.
    Relay { runtime: RuntimeId, bytes: Arc<[u8]> },
    /// Stream the runtime's messages as [`FromWorker::Message`] (interactive mode), or stop doing so.
    Observe { runtime: RuntimeId, on: bool },
    /// Evaluate a console line in the app's VM; answer [`FromWorker::Evaluated`].
    Evaluate { request: u64, app: AppId, code: String },
    /// The names that could follow `line` in that VM; answer [`FromWorker::Evaluated`].
    Complete { request: u64, app: AppId, line: String },
    /// End an evaluation or command that still runs or waits.
    Cancel { request: u64, app: AppId },
    /// Run the app's own CLI command; answer [`FromWorker::Evaluated`].
    Command { request: u64, app: AppId, name: String, arguments: serde_json::Value },
    /// The control thread's answer to [`FromWorker::Daemon`].
    Answer { app: AppId, generation: u32, task: u64, reply: Reply },
    /// An errand of a script is done.
    ErrandDone { owner: Owner, task: u64, outcome: Outcome },
    /// A script's dial knows its addresses, or that there are none.
    Found { id: u64, found: Result<Found, SocketFailure> },
    /// Close everything after at most `drain_ms` and end the thread.
    Shutdown { drain_ms: u64 },
}

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Every connection of the runtime on this worker.
    All,
    /// Every one but this.
    AllBut(ConnectionId),
    /// One.
    One(ConnectionId),
}

/// From a worker to the control thread.
pub enum FromWorker {
    /// A generation was evaluated: what it defines, or why it can't run. `modules` are the files to watch either way.
    Prepared { request: u64, result: Result<Definitions, ScriptError>, modules: Vec<PathBuf> },
    /// The switch is done, or refused (state that can't be carried over): then the old generation still runs.
    Committed { request: u64, result: Result<(), ScriptError> },
    /// The runtime is served.
    Placed { request: u64 },
    /// Nothing accepts from the listener any more.
    Unlistened { request: u64 },
    /// All connections of the runtime on this worker are closed.
    Stopped { request: u64 },
    /// So many connections got the message.
    SentTo { request: u64, count: u64 },
    /// A message of an observed runtime.
    Message { runtime: RuntimeId, connection: ConnectionId, bytes: Vec<u8> },
    /// An evaluation, completion or command ended.
    Evaluated { request: u64, reply: Reply },
    /// Output of a command that still runs.
    Output { request: u64, frame: serde_json::Value },
    /// A script asks for something that is the control thread's: `verb` and its arguments as in the manager's verbs.
    Daemon {
        worker: u8,
        app: AppId,
        generation: u32,
        task: u64,
        verb: String,
        arguments: serde_json::Value,
    },
    /// A line for the log.
    Log(LogRecord),
    /// A generation has ended: nothing of it waits any more.
    GenerationEnded { app: AppId, generation: u32 },
    /// A client runtime gave up, a script died, ...: the runtime isn't doing its job, and why.
    Degraded { runtime: RuntimeId, reason: String },
    /// The worker's thread ends.
    Ended { worker: u8 },
}

/// A message between threads: one of many may be lost rather than fill the memory while its reader is busy.
pub trait Letter {
    /// The bytes of one that may be lost. Requests, answers and sockets may not; there are no more of them than their
    /// senders have commands, connections and descriptors.
    fn loose_bytes(&self) -> Option<usize>;
}

impl Letter for ToWorker {
    fn loose_bytes(&self) -> Option<usize> {
        match self {
            ToWorker::Relay { bytes, .. } | ToWorker::Send { request: 0, bytes, .. } => {
                Some(bytes.len())
            }
            _ => None,
        }
    }
}

impl Letter for FromWorker {
    fn loose_bytes(&self) -> Option<usize> {
        match self {
            FromWorker::Message { bytes, .. } => Some(bytes.len()),
            FromWorker::Log(record) => Some(record.text.len()),
            _ => None,
        }
    }
}

/// A queue into a thread that sleeps in its ring. Loose letters have a bound, [`limits::INBOX_BYTES_MAX`].
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    wake: Mutex<Option<Arc<dyn Wake>>>,
}

struct Queue<T> {
    letters: VecDeque<T>,
    /// Of the loose ones among them.
    loose_bytes: usize,
    /// Loose ones that weren't taken since the reader last asked.
    lost: u64,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let queue = Queue { letters: VecDeque::new(), loose_bytes: 0, lost: 0 };
        Inbox { queue: Mutex::new(queue), wake: Mutex::new(None) }
    }
}

impl<T: Letter> Inbox<T> {
    /// Says how to wake the reader; messages sent before are seen at its first turn.
    pub fn attach(&self, wake: Arc<dyn Wake>) {
        *self.wake.lock() = Some(Arc::clone(&wake));
        if !self.queue.lock().letters.is_empty() {
            wake.wake();
        }
    }

    /// Appends a message and wakes the reader if the queue was empty.
    pub fn send(&self, message: T) {
        self.try_send(message);
    }

    /// The same; false if the message was a loose one and there is no room for it.
    pub fn try_send(&self, message: T) -> bool {
        let cost = message.loose_bytes().map(|bytes| bytes + limits::INBOX_MESSAGE_COST_BYTES);
        let was_empty = {
            let mut queue = self.queue.lock();
            if cost.is_some_and(|cost| queue.loose_bytes + cost > limits::INBOX_BYTES_MAX) {
                queue.lost += 1;
                return false;
            }
            queue.loose_bytes += cost.unwrap_or(0);
            queue.letters.push_back(message);
            queue.letters.len() == 1
        };
        if was_empty && let Some(wake) = self.wake.lock().as_ref() {
            wake.wake();
        }
        true
    }

    /// Takes all messages, in order.
    pub fn take(&self) -> VecDeque<T> {
        let mut queue = self.queue.lock();
        queue.loose_bytes = 0;
        std::mem::take(&mut queue.letters)
    }

    /// How many messages there was no room for since the last call.
    pub fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.queue.lock().lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> FromWorker {
        let connection = ConnectionId::new(0, 1, 1);
        FromWorker::Message { runtime: RuntimeId(1), connection, bytes: vec![0; bytes] }
    }

    /// A reader that was stuck for long once let a chatty runtime fill the memory.
    #[test]
    fn a_busy_reader_loses_what_may_be_lost_and_nothing_else() {
        let inbox = Inbox::default();
        let large = limits::INBOX_BYTES_MAX / 4;
        let taken = (0..8).filter(|_| inbox.try_send(message(large))).count();
        assert_eq!(taken, 3);
        for request in 0..100 {
            assert!(inbox.try_send(FromWorker::Stopped { request }));
        }
        assert_eq!((inbox.take().len(), inbox.take_lost(), inbox.take_lost()), (103, 5, 0));
        assert!(inbox.try_send(message(large)), "there is room again");
        let mut small = 1;
        while inbox.try_send(message(0)) {
            small += 1;
        }
        assert!(small * limits::INBOX_MESSAGE_COST_BYTES <= limits::INBOX_BYTES_MAX);
    }
}
