//! A runtime's counters: one cell per worker, written by that worker only, summed by whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::limiter::{Addresses, SharedBucket};
use super::proxy::shared::Shared;

/// What one worker counts for one runtime. On its own cache lines, so that workers don't slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct StatsCell {
    /// Open connections now.
    pub connections: AtomicU64,
    /// Connections ever.
    pub connections_total: AtomicU64,
    /// Messages or commands that came in.
    pub messages: AtomicU64,
    /// Bytes read from peers.
    pub bytes_in: AtomicU64,
    /// Bytes written to peers.
    pub bytes_out: AtomicU64,
    /// Connections turned away (limits, no backend).
    pub refused: AtomicU64,
    /// Connections ended by an error of the peer's protocol.
    pub protocol_errors: AtomicU64,
    /// Handshakes that failed or took too long.
    pub handshake_errors: AtomicU64,
    /// How often a connection was over its rate and had to wait.
    pub throttled: AtomicU64,
    /// Connections closed because they were silent for too long.
    pub idle_closed: AtomicU64,
    /// Connections closed because they didn't read.
    pub slow_closed: AtomicU64,
    /// Messages, or runs of them, that a slow connection didn't get.
    pub dropped: AtomicU64,
    /// UDP: messages that unverified peers weren't sent, for they would have been sent more than they sent.
    pub withheld: AtomicU64,
    /// WebSockets closed because they didn't answer a ping.
    pub silent_closed: AtomicU64,
    /// Errors of the runtime's handlers.
    pub script_errors: AtomicU64,
    /// Accepted connections on their way to this worker; the one counter that others write too, see [`Arrival`].
    arriving: AtomicU64,
    /// client: connected now (0 or 1); proxy: backend connections open now.
    pub upstream_connections: AtomicU64,
    /// client, proxy: failed dials.
    pub dial_errors: AtomicU64,
}

impl StatsCell {
    /// Adds without a locked instruction: only one thread writes a cell.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// The reverse of [`StatsCell::add`].
    pub fn subtract(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }
}

/// An accepted connection on its way to a worker: it counts there as one until it has arrived, or was lost.
#[derive(Debug)]
pub struct Arrival {
    stats: Arc<RuntimeStats>,
    worker: u8,
}

impl Arrival {
    /// A connection sets out.
    pub fn new(stats: &Arc<RuntimeStats>, worker: u8) -> Arrival {
        stats.cell(worker).arriving.fetch_add(1, Ordering::Relaxed);
        Arrival { stats: Arc::clone(stats), worker }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.stats.cell(self.worker).arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The cells of one runtime.
#[derive(Debug)]
pub struct RuntimeStats {
    cells: Box<[StatsCell]>,
    /// What all its connections together may still send.
    pub messages_bucket: SharedBucket,
    /// Its connections by address, where they are limited.
    pub addresses: Arc<Addresses>,
    /// proxy: what is known of its backends, by their keys.
    backends: Mutex<BTreeMap<String, Arc<Shared>>>,
    /// server, mode master: who that is.
    pub master: super::server::master::Master,
}

impl RuntimeStats {
    /// Zeroes for `workers` workers.
    pub fn new(workers: usize) -> RuntimeStats {
        RuntimeStats {
            cells: (0..workers).map(|_| StatsCell::default()).collect(),
            messages_bucket: SharedBucket::default(),
            addresses: Arc::default(),
            backends: Mutex::default(),
            master: super::server::master::Master::default(),
        }
    }

    /// What is known of a backend.
    pub fn backend(&self, key: &str) -> Arc<Shared> {
        let mut backends = self.backends.lock();
        if let Some(known) = backends.get(key) {
            return Arc::clone(known);
        }
        let new = Arc::new(Shared::default());
        backends.insert(key.to_owned(), Arc::clone(&new));
        new
    }

    /// Forgets backends that aren't among these.
    pub fn retain_backends(&self, keys: &[String]) {
        self.backends.lock().retain(|key, _| keys.contains(key));
    }

    /// The cell that worker `index` writes.
    pub fn cell(&self, index: u8) -> &StatsCell {
        &self.cells[usize::from(index)]
    }

    /// The connections that worker `index` has or is about to have.
    pub fn load(&self, index: u8) -> u64 {
        let cell = self.cell(index);
        cell.connections.load(Ordering::Relaxed) + cell.arriving.load(Ordering::Relaxed)
    }

    /// A counter summed over the workers: `stats.sum(|cell| &cell.messages)`.
    pub fn sum(&self, counter: impl Fn(&StatsCell) -> &AtomicU64) -> u64 {
        self.cells
            .iter()
            .map(|cell| counter(cell).load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}
