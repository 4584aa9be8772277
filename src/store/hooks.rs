//! What a cache's app hears of: keys that were written, deleted, expired or evicted, keys that are missing, and the
//! changes that it writes behind.
//!
//! Under the store's lock an event is a copy in a bounded queue; the app's worker takes it from there and runs the
//! handler later, without the lock. So a slow handler never holds a command up: when the queue is full the newest event
//! is dropped and counted. Nothing here costs anything while no app wants to hear: commands come here through the one
//! test that keyspace notifications have too ([`super::instance::Attention`]).
//! Must not know: Lua, workers beyond their number, how an event travels.

mod behind;
mod flights;
mod value;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::instance::{Attention, Instance};
use super::{Keyspace, Store, meter};
use crate::limits::{HOOK_EVENTS_MAX, HOOK_QUEUE_BYTES_MAX};

pub use behind::Batch;
use behind::Behind;
use flights::Flights;
pub(super) use flights::asks;
pub use flights::{Asked, Landing, OnLanded};
pub use value::HookValue;

/// What an app has hooks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted(u8);

impl Wanted {
    /// Keys that have expired.
    pub const EXPIRE: Wanted = Wanted(1);
    /// Keys that were removed for want of memory.
    pub const EVICT: Wanted = Wanted(1 << 1);
    /// Keys that were written.
    pub const WRITE: Wanted = Wanted(1 << 2);
    /// Keys that were deleted.
    pub const DELETE: Wanted = Wanted(1 << 3);
    /// Keys that a reader misses.
    pub const MISS: Wanted = Wanted(1 << 4);
    /// Changes to write behind.
    pub const BEHIND: Wanted = Wanted(1 << 5);

    /// Both sets.
    pub const fn with(self, other: Wanted) -> Wanted {
        Wanted(self.0 | other.0)
    }

    /// The set without `other`.
    pub const fn without(self, other: Wanted) -> Wanted {
        Wanted(self.0 & !other.0)
    }

    /// Whether any of `others` is in here.
    pub fn any(self, others: Wanted) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Those that wait in the queue.
const EVENTS: Wanted = Wanted::EXPIRE;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Its time was up.
    Expired,
    /// It was removed for want of memory.
    Evicted,
    /// A command wrote it.
    Written,
    /// A command deleted it.
    Deleted,
}

/// One event for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookEvent {
    /// What happened.
    pub kind: HookKind,
    /// Where.
    pub database: u8,
    /// To which key.
    pub key: Vec<u8>,
    /// What it held, or holds since a write; of a write only strings.
    pub value: HookValue,
    /// What is left of its time after a write, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// The command, where it was one.
    pub command: &'static str,
}

/// Tells a worker, on any thread, that there is something for it to take.
pub type Tell = Arc<dyn Fn() + Send + Sync>;

/// What is to be done when the store is released: telling workers is a system call.
pub type Nudge = Box<dyn FnOnce() + Send>;

/// A worker that runs an app's hooks.
struct Consumer {
    wanted: Wanted,
    batch_keys: usize,
    tell: Tell,
}

/// A store's hooks.
#[derive(Default)]
pub struct Hooks {
    /// By worker; the first one hears.
    consumers: BTreeMap<u8, Consumer>,
    wanted: Wanted,
    queue: VecDeque<HookEvent>,
    queue_bytes: usize,
    /// What the consumer has been told of and hasn't taken since.
    told: Wanted,
    figures: Figures,
    flights: Flights,
    behind: Behind,
}

/// What hooks have had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events that wait for the app.
    pub queued: u64,
    /// Events that the app has taken.
    pub told: u64,
    /// Events that were dropped because too many waited.
    pub dropped: u64,
    /// Keys that `on_miss` was asked for.
    pub asked: u64,
    /// Keys that it is being asked for.
    pub asking: u64,
    /// Commands that were refused because it had too much to do.
    pub refused: u64,
    /// Changed keys that wait to be written behind.
    pub behind: u64,
    /// Keys that were written behind.
    pub written: u64,
    /// Batches that failed and were tried again.
    pub retried: u64,
    /// Changed keys that were forgotten because too many waited.
    pub lost: u64,
}

impl Hooks {
    /// Whether the app wants any of these.
    pub(super) fn wants(&self, any: Wanted) -> bool {
        self.wanted.any(any)
    }

    /// Whether commands' keys are of interest.
    pub(super) fn looks_at_keys(&self) -> bool {
        !self.wanted.without(Wanted::MISS).is_empty()
    }

    /// Whether values of keys that go must be kept for a moment.
    fn keeps_values(&self) -> bool {
        self.wants(Wanted::EXPIRE.with(Wanted::EVICT).with(Wanted::BEHIND))
    }

    fn push(&mut self, nudges: &mut Vec<Nudge>, event: HookEvent) {
        let bytes = event.bytes();
        if self.queue.len() >= HOOK_EVENTS_MAX || self.queue_bytes + bytes > HOOK_QUEUE_BYTES_MAX {
            self.figures.dropped += 1;
            return;
        }
        self.queue_bytes += bytes;
        self.queue.push_back(event);
        self.tell(EVENTS, nudges);
    }

    /// Has the consumer told that there is something of a kind, once until it takes it.
    fn tell(&mut self, kind: Wanted, nudges: &mut Vec<Nudge>) {
        if self.told.any(kind) {
            return;
        }
        self.told = self.told.with(kind);
        let Some(consumer) = self.consumers.values().next() else { return };
        let tell = Arc::clone(&consumer.tell);
        nudges.push(Box::new(move || tell()));
    }

    /// Takes the first events, at most so many.
    fn take(&mut self, count_max: usize) -> Vec<HookEvent> {
        let count = self.queue.len().min(count_max);
        let taken: Vec<HookEvent> = self.queue.drain(..count).collect();
        self.queue_bytes -= taken.iter().map(HookEvent::bytes).sum::<usize>();
        // Whoever leaves events behind comes back for them by itself.
        self.told = if self.queue.is_empty() { Wanted::default() } else { EVENTS };
        self.figures.told += count as u64;
        taken
    }

    /// How things stand; nothing if no app has hooks here.
    pub(super) fn figures(&self) -> Option<Figures> {
        if self.consumers.is_empty() {
            return None;
        }
        Some(Figures {
            queued: self.queue.len() as u64,
            asking: self.flights.len() as u64,
            behind: self.behind.len() as u64,
            ..self.figures
        })
    }
}

impl HookEvent {
    fn bytes(&self) -> usize {
        size_of::<HookEvent>() + self.key.len() + self.value.bytes()
    }
}

/// What a worker takes for its app.
#[derive(Debug, Default)]
pub struct Taken {
    /// In their order.
    pub events: Vec<HookEvent>,
    /// Keys that `on_miss` is asked for.
    pub asked: Vec<Asked>,
    /// Changes wait to be written behind; whether they are a batch already.
    pub behind: Option<bool>,
    /// Events dropped so far, and changes forgotten.
    pub dropped: (u64, u64),
}

impl Store {
    /// From now on a worker's app hears of what it wants; with nothing wanted it doesn't any more. Of several workers of
    /// one app the first one hears.
    pub fn attach_hooks(&mut self, worker: u8, wanted: Wanted, batch_keys: usize, tell: Tell) {
        if wanted.is_empty() {
            return self.detach_hooks(worker);
        }
        let consumer = Consumer { wanted, batch_keys, tell };
        self.instance.hooks.consumers.insert(worker, consumer);
        self.choose_consumer();
    }

    /// A worker's app hears nothing any more.
    pub fn detach_hooks(&mut self, worker: u8) {
        if self.instance.hooks.consumers.remove(&worker).is_some() {
            self.choose_consumer();
        }
    }

    fn choose_consumer(&mut self) {
        let hooks = &mut self.instance.hooks;
        let first = hooks.consumers.values().next();
        hooks.wanted = first.map_or(Wanted::default(), |first| first.wanted);
        hooks.behind.batch_keys = first.map_or(0, |first| first.batch_keys);
        hooks.told = Wanted::default();
        if !hooks.wants(Wanted::BEHIND) {
            hooks.figures.lost += hooks.behind.clear() as u64;
        }
        meter::outside(|| hooks.tell(EVENTS, &mut self.instance.nudges));
        if !self.instance.hooks.wants(Wanted::MISS) {
            self.end_flights();
        }
        let misses = self.instance.hooks.wants(Wanted::MISS);
        self.instance.attention.set(Attention::MISSES, misses);
        self.instance.look_for_observers(&mut self.keyspace);
    }

    /// What the app of a worker has to hear, at most so many events; nothing if another worker's app hears.
    pub fn take_hooks(&mut self, worker: u8, count_max: usize) -> Taken {
        let hooks = &mut self.instance.hooks;
        if hooks.consumers.keys().next() != Some(&worker) {
            return Taken::default();
        }
        meter::outside(|| Taken {
            events: hooks.take(count_max),
            asked: hooks.flights.take_asked(),
            behind: (hooks.behind.len() > 0).then(|| hooks.behind.is_due()),
            dropped: (hooks.figures.dropped, hooks.figures.lost),
        })
    }
}

impl Instance {
    /// Whether databases must keep the values of keys that expire.
    pub(super) fn keeps_lost_values(&self) -> bool {
        self.hooks.keeps_values()
    }

    /// A key has gone by itself.
    pub(super) fn hook_lost(
        &mut self,
        kind: HookKind,
        database: u8,
        key: &[u8],
        value: Option<HookValue>,
    ) {
        let hooks = &mut self.hooks;
        let value = value.unwrap_or(HookValue::Absent);
        if hooks.wants(Wanted::BEHIND) {
            hooks.behind.keep(database, key, &value);
        }
        let wanted = if kind == HookKind::Expired { Wanted::EXPIRE } else { Wanted::EVICT };
        if !hooks.wants(wanted) {
            return;
        }
        // The copy of the value was made in this hold, and whoever takes the event frees it.
        let value_bytes = meter::allocation_bytes(value.bytes());
        meter::outside(|| {
            let (key, ttl_ms, command) = (key.to_vec(), None, "");
            let event = HookEvent { kind, database, key, value, ttl_ms, command };
            hooks.push(&mut self.nudges, event);
        });
        meter::exclude(value_bytes);
    }

    /// A command has written a key, or deleted it.
    pub(super) fn hook_changed(
        &mut self,
        keyspace: &mut Keyspace,
        (database, key): (u8, &[u8]),
        (exists, command): (bool, &'static str),
        now_ms: u64,
    ) {
        let hooks = &mut self.hooks;
        if hooks.wants(Wanted::BEHIND) {
            if !hooks.behind.mark(database, key) {
                hooks.figures.lost += 1;
            }
            if hooks.behind.len() == 1 || hooks.behind.is_due() {
                meter::outside(|| hooks.tell(Wanted::BEHIND, &mut self.nudges));
            }
        }
        let (kind, wanted) = match exists {
            true => (HookKind::Written, Wanted::WRITE),
            false => (HookKind::Deleted, Wanted::DELETE),
        };
        if !hooks.wants(wanted) {
            return;
        }
        meter::outside(|| {
            let (value, ttl_ms) = match exists {
                true => value::of_string(keyspace, database, key, now_ms),
                false => (HookValue::Absent, None),
            };
            let event = HookEvent { kind, database, key: key.to_vec(), value, ttl_ms, command };
            self.hooks.push(&mut self.nudges, event);
        });
    }
}

#[cfg(test)]
mod tests;
