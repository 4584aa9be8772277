//! A store that threads share: one lock, taken once per batch.
//!
//! The lock is never held across a wait, a system call or a kernel operation. Its time never runs backwards, whatever
//! the workers' clocks say. A panic while it is held may have left the data half changed, so it ends the process; who
//! supervises it starts it again from disk.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::client_bounds::Buffers;
use super::clients::{Client, Delivery};
use super::commands::table;
use super::eviction::Policy;
use super::feed::{self, Subscription};
use super::instance::Attention;
use super::keyspace::{self, Garbage};
use super::mail::{self, Mailbox, PostOffice};
use super::statistics::Process;
use super::{Args, Hasher, Outcome, Session, Settings, Store, meter};
use crate::limits::STORE_LOCK_WAIT_US;

/// Entries that one step of active expiry looks at.
const EXPIRE_BUDGET: usize = 200;
/// Steps of active expiry in one hold.
const EXPIRE_STEPS: usize = 16;

/// One cache's store behind its lock.
pub struct SharedStore {
    name: String,
    hasher: Hasher,
    store: Mutex<Store>,
    garbage: Mutex<Vec<Garbage>>,
    post: PostOffice,
    /// About what `garbage` holds.
    garbage_bytes: AtomicU64,
    /// How many values and tables were freed so since the last hold.
    freed_count: AtomicU64,
    /// What was freed of the store since the last hold, without it.
    freed_bytes: AtomicI64,
    /// Of the feed: where it ended at the end of the last hold, and what is safe on disk.
    feed_end: AtomicU64,
    safe: AtomicU64,
    /// A client waits until its writes are elsewhere (WAIT, WAITAOF).
    copies_awaited: AtomicBool,
    /// Replies leave when what they tell is safe.
    waits_for_disk: AtomicBool,
    /// The disk fails at the moment, so nothing is written to the store.
    disk_fails: AtomicBool,
}

/// The store while its lock is held.
pub struct Held<'a> {
    /// There until the drop.
    store: Option<MutexGuard<'a, Store>>,
    shared: &'a SharedStore,
    /// The store's time in milliseconds since the epoch: now, or what it was when some worker's clock was ahead.
    pub now_ms: u64,
    was_panicking: bool,
}

/// What [`SharedStore::maintain`] leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing was done: somebody held the store.
    Held,
    /// There is more to do soon.
    More,
    /// Some keys will expire.
    Expiries,
    /// Nothing.
    Done,
}

/// A store's figures at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Keys in each database.
    pub keys: Vec<usize>,
    /// Keys with an expiry in each database.
    pub expiring: Vec<usize>,
    /// What lookups met.
    pub lookups: keyspace::Statistics,
    /// Clients connected.
    pub clients: usize,
    /// Connections in all.
    pub connections: u64,
    /// Commands in all.
    pub commands: u64,
    /// Commands of the last second.
    pub commands_per_second: u64,
    /// Error replies in all.
    pub errors: u64,
    /// Bytes of requests.
    pub input_bytes: u64,
    /// Bytes of replies.
    pub output_bytes: u64,
    /// Bytes that the store has.
    pub memory_bytes: u64,
    /// What it may have; 0: no limit.
    pub maxmemory: u64,
    /// What happens then, as Redis calls it.
    pub eviction: &'static str,
    /// What its app's hooks have had to do; nothing if it has none.
    pub hooks: Option<super::hooks::Figures>,
    /// When it was last saved, in milliseconds since the epoch.
    pub last_save_ms: Option<u64>,
    /// Why it isn't served, or not written to disk.
    pub disk_error: Option<String>,
}

impl SharedStore {
    /// An empty store.
    pub fn new(settings: &Settings) -> Arc<SharedStore> {
        let mut store = Store::new(settings);
        store.instance.meter.settle();
        Arc::new(SharedStore {
            name: settings.name.clone(),
            hasher: store.keyspace.hasher(),
            store: Mutex::new(store),
            garbage: Mutex::new(Vec::new()),
            post: PostOffice::default(),
            garbage_bytes: AtomicU64::new(0),
            freed_count: AtomicU64::new(0),
            freed_bytes: AtomicI64::new(0),
            feed_end: AtomicU64::new(0),
            safe: AtomicU64::new(super::copies::NO_LOG),
            copies_awaited: AtomicBool::new(false),
            waits_for_disk: AtomicBool::new(false),
            disk_fails: AtomicBool::new(false),
        })
    }

    /// The cache runtime's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hashes keys without the lock.
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// From now on a worker takes the letters for its connections; `nudge` tells it, on any thread, that there are some.
    pub fn attach(&self, worker: u8, nudge: Box<dyn Fn() + Send + Sync>) -> Arc<Mailbox> {
        self.post.attach(worker, nudge)
    }

    /// A worker serves the store no more.
    pub fn detach(&self, worker: u8) {
        self.post.detach(worker);
    }

    /// Takes the lock if that is possible soon; if not, serve something else first.
    pub fn try_lock(&self, now_ms: u64) -> Option<Held<'_>> {
        let guard = self.store.try_lock_for(Duration::from_micros(STORE_LOCK_WAIT_US))?;
        Some(self.hold(guard, now_ms))
    }

    /// Takes the lock if nobody has it: for work that can as well be done later.
    pub fn lock_now(&self, now_ms: u64) -> Option<Held<'_>> {
        Some(self.hold(self.store.try_lock()?, now_ms))
    }

    /// Takes the lock.
    pub fn lock(&self, now_ms: u64) -> Held<'_> {
        self.hold(self.store.lock(), now_ms)
    }

    fn hold<'a>(&'a self, mut store: MutexGuard<'a, Store>, now_ms: u64) -> Held<'a> {
        let now_ms = store.advance(now_ms);
        store.instance.meter.add(-self.freed_bytes.swap(0, Ordering::Relaxed));
        store.instance.meter.garbage_bytes = self.garbage_bytes.load(Ordering::Relaxed);
        store.instance.statistics.freed_aside += self.freed_count.swap(0, Ordering::Relaxed);
        store.instance.meter.start();
        store.instance.copies.note_safe(self.safe.load(Ordering::Acquire));
        Held { store: Some(store), shared: self, now_ms, was_panicking: std::thread::panicking() }
    }

    /// Runs one command in process: arguments in, RESP out.
    pub fn call(
        &self,
        session: &mut Session,
        arguments: &[&[u8]],
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        self.lock(now_ms).call(session, arguments, out)
    }

    /// The same if the lock can be had soon.
    pub fn try_call(
        &self,
        session: &mut Session,
        arguments: &[&[u8]],
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        Some(self.try_lock(now_ms)?.call(session, arguments, out))
    }

    /// A session for callers in this process; it isn't listed as a client.
    pub fn session(&self, now_ms: u64) -> Session {
        Session::new(self.lock(now_ms).instance.clients.next_id())
    }

    /// Adds a client that connected.
    pub fn connect(&self, client: Client, now_ms: u64) -> Session {
        self.lock(now_ms).connect(client)
    }

    /// Forgets a client that went away.
    pub fn disconnect(&self, session: &mut Session, now_ms: u64) {
        self.lock(now_ms).disconnect(session);
    }

    /// Housekeeping, to be called some ten times a second by one worker: expiry, memory, rates. Nothing is done while
    /// somebody holds the store. `process` is what INFO says about memory and CPU time.
    /// `buffers` is what has changed of the worker's clients.
    pub fn maintain(&self, now_ms: u64, process: Option<Process>, buffers: &[Buffers]) -> Upkeep {
        let Some(mut held) = self.lock_now(now_ms) else { return Upkeep::Held };
        held.tell_buffers(buffers);
        if held.instance.scripting.suspended.is_some() {
            return Upkeep::Held;
        }
        let more = held.maintain(process);
        let expires = held
            .keyspace
            .databases()
            .iter()
            .any(|database| database.expiring() + database.timed_collections() > 0)
            || !held.instance.replicas.is_empty()
            || held.bounds_clients();
        drop(held);
        self.free_garbage();
        match (more, expires) {
            (true, _) => Upkeep::More,
            (false, true) => Upkeep::Expiries,
            (false, false) => Upkeep::Done,
        }
    }

    /// Frees what commands removed and is slow to free. It may take seconds after a large FLUSHALL, so whoever has a
    /// thread for that may do it before [`SharedStore::maintain`] does.
    pub fn free_garbage(&self) {
        let mut shared = self.garbage.lock();
        let garbage = std::mem::take(&mut *shared);
        let garbage_bytes = self.garbage_bytes.load(Ordering::Relaxed);
        drop(shared);
        if garbage.is_empty() {
            return;
        }
        let before = meter::balance();
        self.freed_count.fetch_add(garbage.len() as u64, Ordering::Relaxed);
        drop(garbage);
        self.freed_bytes.fetch_add(before - meter::balance(), Ordering::Relaxed);
        self.garbage_bytes.fetch_sub(garbage_bytes, Ordering::Relaxed);
    }

    /// Bytes that it may have (0: no limit) and what happens then; what CONFIG SET said before is overruled.
    pub fn set_limit(&self, maxmemory: u64, policy: Policy, now_ms: u64) {
        let mut held = self.lock(now_ms);
        let Store { keyspace, instance, .. } = &mut *held;
        (instance.config.maxmemory, instance.config.policy) = (maxmemory, policy);
        instance.apply_config(keyspace);
    }

    /// Whether replies leave only when what they tell is safe on disk.
    #[inline]
    pub fn waits_for_disk(&self) -> bool {
        self.waits_for_disk.load(Ordering::Acquire)
    }

    /// Whether nothing can be made safe at the moment; writing commands are refused, so only replies to those before have to wait.
    pub fn disk_fails(&self) -> bool {
        self.disk_fails.load(Ordering::Acquire)
    }

    /// Says whether that is so.
    pub fn set_disk_fails(&self, fails: bool) {
        self.disk_fails.store(fails, Ordering::Release);
    }

    /// Where the feed ended when the store was last held.
    pub fn feed_end(&self) -> u64 {
        self.feed_end.load(Ordering::Acquire)
    }

    /// All of the feed before it is on disk.
    pub fn safe_offset(&self) -> u64 {
        self.safe.load(Ordering::Acquire)
    }

    /// The same, if there is an append log.
    pub fn own_log_offset(&self) -> Option<u64> {
        Some(self.safe_offset()).filter(|offset| *offset != super::copies::NO_LOG)
    }

    /// Says what is on disk; workers whose replies wait for that are told.
    pub fn set_safe_offset(&self, offset: u64) {
        let before = self.safe.swap(offset, Ordering::AcqRel);
        if before != offset && self.waits_for_disk() {
            self.post.nudge_all();
        }
    }

    /// Serves clients that wait for their writes to come to disk, if there are some.
    pub fn serve_copies(&self, now_ms: u64) {
        if self.copies_awaited.load(Ordering::Acquire) {
            drop(self.lock(now_ms));
        }
    }

    /// From now on somebody wants to know all changes: [`feed`].
    pub fn subscribe(
        &self,
        bytes_max: usize,
        nudge: Box<dyn Fn() + Send + Sync>,
        now_ms: u64,
    ) -> Arc<Subscription> {
        self.lock(now_ms).subscribe(bytes_max, nudge)
    }

    /// Somebody doesn't want to know any more.
    pub fn unsubscribe(&self, subscription: &Arc<Subscription>, now_ms: u64) {
        self.lock(now_ms).unsubscribe(subscription);
    }

    /// The figures of now.
    pub fn snapshot(&self, now_ms: u64) -> Snapshot {
        self.lock(now_ms).snapshot()
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Held<'_> {
    /// Runs one command whose arguments lie apart.
    pub fn call(
        &mut self,
        session: &mut Session,
        arguments: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Outcome {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend(arguments.iter().copied());
        let outcome = self.run(session, scratch.args(), out);
        self.scratch = scratch;
        outcome
    }

    /// Runs one command, finding its row and its key's hash.
    pub fn run(&mut self, session: &mut Session, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
        let id = table().resolve(args);
        let hash = table().key_hash(id, args, &self.keyspace.hasher());
        let now_ms = self.now_ms;
        self.execute(session, id, args, hash, now_ms, out)
    }

    /// Adds a client that connected.
    pub fn connect(&mut self, client: Client) -> Session {
        let now_ms = self.now_ms;
        let instance = &mut self.instance;
        instance.statistics.connections += 1;
        let client = Client { connected_ms: now_ms, active_ms: now_ms, ..client };
        let mut session = instance.clients.add(client);
        session.may_write = !instance.config.readonly;
        instance.acl.begin(&mut session);
        session
    }

    /// Forgets a client that went away.
    pub fn disconnect(&mut self, session: &mut Session) {
        self.instance.unwatch(session);
        self.abandon(session);
        if let Some(row) = session.row {
            self.instance.pubsub.forget(row);
            self.instance.replicas.forget(session);
            self.instance.end_monitor(Some(row));
        }
        if session.state.has(super::session::State::TRACKING) {
            self.instance.tracking.end(session.id);
            let Store { keyspace, instance, .. } = &mut **self;
            instance.look_for_observers(keyspace);
        }
        self.instance.clients.remove(session);
    }

    /// What other connections have to be told because of the commands that ran.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        self.instance.clients.take_deliveries()
    }

    fn maintain(&mut self, process: Option<Process>) -> bool {
        let now_ms = self.now_ms;
        let mut steps = 0;
        self.end_due_pause();
        const KEEPS: Attention = Attention::REPLICA.and(Attention::PAUSED);
        let expires = self.instance.expires_actively && !self.instance.attention.any(KEEPS);
        while expires && steps < EXPIRE_STEPS && self.keyspace.expire_step(now_ms, EXPIRE_BUDGET) {
            steps += 1;
        }
        if !self.instance.attention.is_empty() {
            let Store { keyspace, instance, .. } = &mut **self;
            instance.tell_lost(keyspace);
        }
        self.instance.ping_replicas(now_ms);
        let full = !self.has_room(now_ms);
        self.end_overdue_flights();
        self.end_excessive_clients();
        let more = self.keyspace.idle_step() || steps == EXPIRE_STEPS || full;
        self.instance.statistics.sample(now_ms);
        self.instance.peak_bytes = self.instance.peak_bytes.max(self.instance.used_bytes());
        if let Some(process) = process {
            let peak_bytes = process.allocated_bytes.max(self.instance.process.peak_bytes);
            self.instance.process = Process { peak_bytes, ..process };
        }
        more
    }

    fn snapshot(&self) -> Snapshot {
        let databases = self.keyspace.databases();
        let statistics = &self.instance.statistics;
        Snapshot {
            keys: databases.iter().map(|database| database.len()).collect(),
            expiring: databases.iter().map(|database| database.expiring()).collect(),
            lookups: self.keyspace.statistics(),
            clients: self.instance.clients.len(),
            connections: statistics.connections,
            commands: statistics.total_commands,
            commands_per_second: statistics.commands_per_second,
            errors: statistics.errors,
            input_bytes: statistics.input_bytes,
            output_bytes: statistics.output_bytes,
            memory_bytes: self.instance.used_bytes(),
            maxmemory: self.instance.config.maxmemory,
            eviction: self.instance.config.policy.name(),
            hooks: self.instance.hooks.figures(),
            last_save_ms: self.instance.persistence.last_save_ms,
            disk_error: self.instance.persistence.error(),
        }
    }
}

impl Deref for Held<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store.as_deref().expect("the guard is there until the drop")
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        self.store.as_deref_mut().expect("the guard is there until the drop")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            // The panic's message and backtrace are out already; the data can't be trusted any more.
            std::process::abort();
        }
        if self.has_news_of_copies() {
            self.look_at_copies();
        }
        let garbage_bytes = self.keyspace.garbage_bytes() as u64;
        if self.instance.feed.is_on() {
            let Store { keyspace, instance, .. } = &mut **self;
            instance.tell_lost(keyspace);
        }
        if self.instance.tracking.has_changes() {
            self.instance.broadcast();
        }
        let fed = self.instance.feed.seal();
        if let Some(piece) = self.instance.feed.take_sealed() {
            meter::outside(|| self.instance.replicate(piece));
        }
        let feed_end = self.instance.feed.sealed_offset();
        self.shared.feed_end.store(feed_end, Ordering::Release);
        let awaited = self.instance.copies.are_awaited();
        self.shared.copies_awaited.store(awaited, Ordering::Release);
        let keeper = self.instance.persistence.take_call();
        let waits = self.instance.waits_for_disk();
        let stopped = self.shared.waits_for_disk() && !waits;
        if waits != self.shared.waits_for_disk() {
            self.shared.waits_for_disk.store(waits, Ordering::Release);
        }
        self.instance.meter.settle();
        let garbage = self.keyspace.take_garbage();
        let mut told = Vec::new();
        if self.instance.clients.has_letters() && !self.shared.post.is_closed() {
            told = self.shared.post.post(self.instance.clients.take_letters());
        }
        let nudges = std::mem::take(&mut self.instance.nudges);
        self.store = None;
        mail::nudge(&told);
        nudges.into_iter().for_each(|nudge| nudge());
        feed::nudge(&fed);
        if stopped {
            self.shared.post.nudge_all();
        }
        if let Some(keeper) = keeper {
            keeper();
        }
        if !garbage.is_empty() {
            let mut shared = self.shared.garbage.lock();
            shared.extend(garbage);
            self.shared.garbage_bytes.fetch_add(garbage_bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Arc<SharedStore> {
        SharedStore::new(&Settings {
            name: "db".to_owned(),
            seed: 1,
            now_ms: 1_000,
            ..Settings::default()
        })
    }

    fn call(store: &SharedStore, session: &mut Session, line: &str) -> String {
        let (words, mut out): (Vec<&[u8]>, _) =
            (line.split(' ').map(str::as_bytes).collect(), Vec::new());
        store.call(session, &words, 1_000, &mut out);
        String::from_utf8(out).expect("replies of these commands are text")
    }

    #[test]
    fn time_never_runs_backwards() {
        let store = store();
        assert_eq!(store.lock(5_000).now_ms, 5_000);
        assert_eq!(store.lock(4_000).now_ms, 5_000);
        assert_eq!(store.lock(6_000).now_ms, 6_000);
    }

    #[test]
    fn a_held_store_is_not_waited_for_long() {
        let store = store();
        let held = store.lock(1_000);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(store.try_lock(1_000).is_none()));
        });
        drop(held);
        assert!(store.try_lock(1_000).is_some());
    }

    #[test]
    fn calls_in_process() {
        let store = store();
        let mut session = store.session(1_000);
        assert_eq!(call(&store, &mut session, "ping"), "+PONG\r\n");
        assert_eq!(call(&store, &mut session, "ECHO hello"), "$5\r\nhello\r\n");
        assert_eq!(
            call(&store, &mut session, "echo"),
            "-ERR wrong number of arguments for 'echo' command\r\n"
        );
        let unknown = "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n";
        assert_eq!(call(&store, &mut session, "foo a b"), unknown);
        let snapshot = store.snapshot(1_000);
        assert_eq!((snapshot.commands, snapshot.errors, snapshot.clients), (2, 2, 0));
    }
}
