//! What a store is apart from its data: its name, parameters, clients and counters.
//!
//! Commands about the server (INFO, CONFIG, CLIENT) read and change it; commands on data never look here.

use super::acl::Acl;
use super::blocked::Blocked;
use super::clients::Clients;
use super::config::Config;
use super::copies::Copies;
use super::events::Classes;
use super::eviction::{Eviction, Policy};
use super::feed::Feed;
use super::hasher::Hasher;
use super::hooks::{HookKind, HookValue, Hooks, Nudge};
use super::meter::Meter;
use super::monitor::Monitors;
use super::observe::Observed;
use super::persistence::{Persist, Persistence, Sync};
use super::pubsub::PubSub;
use super::replicas::Replicas;
use super::replication::Replication;
use super::saving::Saving;
use super::scripting::{MakeEngine, Scripting};
use super::statistics::{Process, Statistics};
use super::tracking::Tracking;
use super::transaction::Watches;
use super::{Keyspace, Session};

/// The Redis whose behaviour and replies these are; clients choose features by it.
pub const REDIS_VERSION: &str = "7.4.0";

/// Everything of a store that isn't data.
pub struct Instance {
    /// The cache runtime's name.
    pub name: String,
    /// 40 hexadecimal digits, new with every start.
    pub run_id: String,
    /// When it was made, in milliseconds since the epoch.
    pub started_ms: u64,
    /// CONFIG's parameters.
    pub config: Config,
    /// Who may do what.
    pub acl: Acl,
    /// Who is connected.
    pub clients: Clients,
    /// What has been counted.
    pub statistics: Statistics,
    /// What the store costs in memory.
    pub meter: Meter,
    /// What it did when it was made.
    pub overhead_bytes: u64,
    /// The most it did, as seen now and then.
    pub peak_bytes: u64,
    /// Slow commands and the times of all.
    pub observed: Observed,
    /// Expired keys are looked for (DEBUG SET-ACTIVE-EXPIRE).
    pub expires_actively: bool,
    /// What eviction remembers.
    pub eviction: Eviction,
    /// What clients watch.
    pub watches: Watches,
    /// Whose commands wait.
    pub blocked: Blocked,
    /// Who waits for replicas and the disk.
    pub copies: Copies,
    /// Who listens to which channels.
    pub pubsub: PubSub,
    /// Who caches keys.
    pub tracking: Tracking,
    /// All changes as commands, while somebody wants to know.
    pub feed: Feed,
    /// A picture of the data that is being taken.
    pub(super) saving: Option<Box<Saving>>,
    /// What is known of the data on disk.
    pub persistence: Persistence,
    /// Who sees all commands.
    pub(super) monitors: Monitors,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// What makes commands differ from ordinary ones; mostly empty.
    pub attention: Attention,
    /// The process's own figures, as last told by whoever runs the store.
    pub process: Process,
    /// Whose copy it is.
    pub replication: Replication,
    /// Who has copies of it.
    pub replicas: Replicas,
    /// Scripts, functions and what runs them.
    pub scripting: Scripting,
    /// What the cache's app hears of.
    pub(super) hooks: Hooks,
    /// What is to be done when the store is released.
    pub(super) nudges: Vec<Nudge>,
    /// How long DEBUG SLEEP has held the store, by which its clock is late.
    pub(super) slept_ms: u64,
}

/// CLIENT PAUSE: which commands wait, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// In milliseconds since the epoch; in the past if there is no pause.
    pub until_ms: u64,
    /// Reading commands too.
    pub all: bool,
}

/// A set of conditions that concern the commands of all clients, asked for with one test: while it is empty, a command of
/// an ordinary session runs without looking for any of them ([`super::Store::execute`]). What is to be looked for by every
/// command gets a bit here and its code on the other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attention(u32);

impl Attention {
    /// Somebody waits in a command.
    pub const BLOCKED: Attention = Attention(1);
    /// CLIENT PAUSE is on.
    pub const PAUSED: Attention = Attention(1 << 1);
    /// The keys that commands read and write are of interest to somebody.
    pub const OBSERVED: Attention = Attention(1 << 2);
    /// Somebody watches all commands.
    pub const MONITORED: Attention = Attention(1 << 3);
    /// Somebody watches keys for a transaction.
    pub const WATCHED: Attention = Attention(1 << 4);
    /// There is a limit to the store's memory.
    pub const LIMITED: Attention = Attention(1 << 5);
    /// Every command is timed.
    pub const TIMED: Attention = Attention(1 << 6);
    /// Readers may wait for keys that the app is asked for.
    pub const MISSES: Attention = Attention(1 << 9);
    /// Somebody wants to know all changes.
    pub const FED: Attention = Attention(1 << 10);
    /// A picture of the data is being taken.
    pub const SAVING: Attention = Attention(1 << 11);
    /// The data are being loaded, or couldn't be.
    pub const LOADING: Attention = Attention(1 << 12);
    /// The data can't be written to disk.
    pub const MISCONF: Attention = Attention(1 << 13);
    /// The store is a replica.
    pub const REPLICA: Attention = Attention(1 << 14);
    /// Commands that write need some replicas (`min-replicas-to-write`).
    pub const NEEDS_REPLICAS: Attention = Attention(1 << 7);
    /// A script is suspended.
    pub const SCRIPT: Attention = Attention(1 << 8);

    /// Whether nothing is special.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `others` is in here.
    #[inline]
    pub fn any(self, others: Attention) -> bool {
        self.0 & others.0 != 0
    }

    /// Both sets.
    pub const fn and(self, other: Attention) -> Attention {
        Attention(self.0 | other.0)
    }

    /// Adds or removes `other`.
    pub fn set(&mut self, other: Attention, on: bool) {
        self.0 = if on { self.0 | other.0 } else { self.0 & !other.0 };
    }
}

/// What a store is made with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The cache runtime's name.
    pub name: String,
    /// The port it is served on; 0 if it isn't.
    pub port: u16,
    /// What AUTH wants; none: everyone may.
    pub password: Option<Vec<u8>>,
    /// Clients that connect may only read.
    pub readonly: bool,
    /// DEBUG is for clients of other machines, too.
    pub admin: bool,
    /// Bytes that the store may have; 0: no limit.
    pub maxmemory: u64,
    /// Which keys go when they are reached.
    pub policy: Policy,
    /// Makes the run id and the choices of SPOP, RANDOMKEY and their kin; different at every start, kept in a replayed run.
    pub seed: u64,
    /// The keys' hash function; none: one that nobody can predict. Given in a replayed run.
    pub hasher: Option<Hasher>,
    /// Now, in milliseconds since the epoch.
    pub now_ms: u64,
    /// Makes snapshots for replicas; none: it can have no replicas.
    pub snapshot: Option<super::replicas::MakeSnapshot>,
    /// The primary whose replica it begins as.
    pub primary: Option<(String, u16)>,
    /// What runs scripts; none: there are none.
    pub scripting: Option<MakeEngine>,
    /// How it is kept on disk.
    pub persist: Persist,
    /// When its append log is forced to the disk.
    pub sync: Sync,
    /// The folder where it is.
    pub folder: String,
    /// Reads a clock in nanoseconds, for the scripts' times; none: they aren't measured.
    pub clock: Option<fn() -> u64>,
}

impl Instance {
    /// A new one without clients.
    pub fn new(settings: &Settings) -> Instance {
        Instance {
            name: settings.name.clone(),
            run_id: run_id(settings.seed, settings.now_ms),
            started_ms: settings.now_ms,
            config: Config::new(settings),
            acl: Acl::new(settings.password.as_deref().filter(|password| !password.is_empty())),
            clients: Clients::default(),
            statistics: Statistics::new(settings.now_ms),
            meter: Meter::default(),
            overhead_bytes: 0,
            peak_bytes: 0,
            observed: Observed::default(),
            expires_actively: true,
            eviction: Eviction::default(),
            watches: Watches::default(),
            blocked: Blocked::default(),
            copies: Copies::default(),
            pubsub: PubSub::default(),
            tracking: Tracking::default(),
            feed: Feed::default(),
            saving: None,
            persistence: Persistence::default(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            attention: Attention::default(),
            process: Process::default(),
            replicas: Replicas::new(settings.snapshot),
            replication: Replication::new(run_id(!settings.seed, settings.now_ms)),
            scripting: Scripting::new(settings),
            hooks: Hooks::default(),
            nudges: Vec::new(),
            slept_ms: 0,
        }
    }

    /// Decides anew what the parameters ask of every command; whoever changes them calls this.
    pub fn apply_config(&mut self, keyspace: &mut Keyspace) {
        self.config.apply(keyspace);
        self.attention.set(Attention::LIMITED, self.config.maxmemory > 0);
        self.attention.set(Attention::TIMED, self.times_all());
        self.look_for_observers(keyspace);
        self.trim_readers();
    }

    /// A session depends on a key from now on.
    pub fn watch(
        &mut self,
        keyspace: &mut Keyspace,
        session: &mut Session,
        key: &[u8],
        now_ms: u64,
    ) {
        if Watches::is_watched(&session.watched, session.database, key) {
            return;
        }
        session.watched.push(self.watches.watch(keyspace, session.database, key, now_ms));
        self.attention.set(Attention::WATCHED, true);
    }

    /// A session depends on no key any more.
    pub fn unwatch(&mut self, session: &mut Session) {
        self.watches.unwatch(&mut session.watched);
        self.attention.set(Attention::WATCHED, !self.watches.is_empty());
    }

    /// The store's bytes, its clients' buffers included.
    pub fn used_bytes(&self) -> u64 {
        self.meter.bytes() + self.clients.buffer_bytes()
    }

    /// CLIENT PAUSE has ended: what has expired meanwhile may go, unless this is a replica.
    pub(super) fn end_pause(&mut self, keyspace: &mut Keyspace) {
        self.attention.set(Attention::PAUSED, false);
        keyspace.keep_expired(self.attention.any(Attention::REPLICA));
    }

    /// A key was removed for want of memory.
    pub(super) fn on_evicted(
        &mut self,
        keyspace: &mut Keyspace,
        database: u8,
        (key, value): (&[u8], Option<HookValue>),
        now_ms: u64,
    ) {
        self.feed.key_gone(database, key);
        self.hook_lost(HookKind::Evicted, database, key, value);
        self.watches.on_write(keyspace, &[(database, key.to_vec())], now_ms);
        self.invalidate(key, 0);
        self.notify(Classes::EVICTED, "evicted", database, key);
    }
}

/// 160 bits that differ between starts, spread by splitmix64.
pub(super) fn run_id(seed: u64, now_ms: u64) -> String {
    let mut state = seed ^ now_ms.rotate_left(32);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    format!("{:016x}{:016x}{:08x}", next(), next(), next() as u32)
}
