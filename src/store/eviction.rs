//! Removing keys when the store has more bytes than it may have, by Redis's eight policies and its way of choosing.
//!
//! No order of all keys is kept. Each time some keys (`maxmemory-samples`) are drawn from every database and the best
//! candidates seen lately stay in a pool of 16; the best of the pool goes. With 5 samples that comes close to true LRU,
//! because the pool remembers good candidates from one drawing to the next.
//!
//! Whether there is too much is asked before every command while a limit is set: two loads and a comparison. What was
//! removed and isn't freed yet (`Garbage`) doesn't count, and one command removes at most [`EVICT_PER_COMMAND`] keys, so
//! that lowering the limit by gigabytes doesn't stop everything.

use super::database::Database;
use super::entry::Entry;
use super::hooks::HookValue;
use super::instance::Attention;
use super::random::Random;
use super::{Keyspace, Store};
use crate::limits::{DATABASES, EVICT_PER_COMMAND};

/// Candidates remembered.
const POOL: usize = 16;

/// Which keys go when memory runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// None: what needs memory is refused.
    #[default]
    NoEviction,
    /// The longest unused.
    AllKeysLru,
    /// The least often used.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// The longest unused of those with an expiry.
    VolatileLru,
    /// The least often used of those with an expiry.
    VolatileLfu,
    /// Any of those with an expiry.
    VolatileRandom,
    /// The next to expire.
    VolatileTtl,
}

impl Policy {
    /// All with their names, as Redis spells them.
    pub const NAMES: [(&'static str, Policy); 8] = [
        ("volatile-lru", Policy::VolatileLru),
        ("volatile-lfu", Policy::VolatileLfu),
        ("volatile-random", Policy::VolatileRandom),
        ("volatile-ttl", Policy::VolatileTtl),
        ("allkeys-lru", Policy::AllKeysLru),
        ("allkeys-lfu", Policy::AllKeysLfu),
        ("allkeys-random", Policy::AllKeysRandom),
        ("noeviction", Policy::NoEviction),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let mut names = Policy::NAMES.iter();
        names.find(|(_, policy)| *policy == self).map_or("noeviction", |(name, _)| name)
    }

    /// Whether entries note how often they are used instead of when.
    pub fn counts_uses(self) -> bool {
        matches!(self, Policy::AllKeysLfu | Policy::VolatileLfu)
    }

    /// Whether only keys with an expiry may go.
    fn is_volatile(self) -> bool {
        use Policy::{VolatileLfu, VolatileLru, VolatileRandom, VolatileTtl};
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }

    fn is_random(self) -> bool {
        matches!(self, Policy::AllKeysRandom | Policy::VolatileRandom)
    }

    /// How good a candidate a key is; the highest goes first.
    fn score(self, entry: Entry<'_>, database: &Database) -> u64 {
        let access = &database.access;
        match self {
            Policy::VolatileTtl => u64::MAX - entry.expires_ms().unwrap_or(u64::MAX),
            _ if self.counts_uses() => u64::from(255 - access.frequency(entry.clock())),
            _ => u64::from(access.idle_seconds(entry.clock())),
        }
    }
}

/// What eviction remembers.
#[derive(Debug, Default)]
pub struct Eviction {
    /// Candidates, the best last.
    pool: Vec<Candidate>,
    /// The policy they were drawn under.
    policy: Policy,
    /// The database that the random policies look into next.
    next_database: usize,
    /// The last command met the limit and nothing could be removed.
    pub exhausted: bool,
    /// How often the limit was met, and since when it is, for INFO.
    pub exceeded: Exceeded,
}

/// Time above the limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exceeded {
    /// In milliseconds since the epoch; none while below.
    pub since_ms: Option<u64>,
    /// In all, in milliseconds.
    pub total_ms: u64,
}

#[derive(Debug)]
struct Candidate {
    score: u64,
    database: u8,
    key: Vec<u8>,
}

impl Store {
    /// Makes room if there is a limit and it is exceeded; false if that can't be done.
    #[inline]
    pub(super) fn has_room(&mut self, now_ms: u64) -> bool {
        let limit = self.instance.config.maxmemory;
        // What a replica holds is its primary's to decide.
        if limit > 0 && self.instance.attention.any(Attention::REPLICA) {
            return true;
        }
        if limit == 0 || self.instance.used_bytes() <= limit {
            return limit == 0 || self.below_limit(now_ms);
        }
        self.make_room(now_ms)
    }

    #[inline]
    fn below_limit(&mut self, now_ms: u64) -> bool {
        if self.instance.eviction.exceeded.since_ms.is_some() {
            self.instance.eviction.note(false, now_ms);
        }
        self.instance.eviction.exhausted = false;
        true
    }

    /// Bytes above the limit, without what is removed already and waits to be freed.
    fn excess(&self) -> u64 {
        let garbage = self.keyspace.garbage_bytes() as u64 + self.instance.meter.garbage_bytes;
        let used = self.instance.used_bytes();
        used.saturating_sub(garbage).saturating_sub(self.instance.config.maxmemory)
    }

    #[cold]
    pub(super) fn make_room(&mut self, now_ms: u64) -> bool {
        for removed in 0..EVICT_PER_COMMAND {
            if self.excess() == 0 {
                self.instance.eviction.note(removed > 0, now_ms);
                return self.below_limit(now_ms);
            }
            if !self.evict_one(now_ms) {
                self.instance.eviction.note(true, now_ms);
                self.instance.eviction.exhausted = true;
                return false;
            }
        }
        self.instance.eviction.note(true, now_ms);
        true
    }

    /// Removes the best candidate; false if there is none.
    fn evict_one(&mut self, now_ms: u64) -> bool {
        let policy = self.instance.config.policy;
        if policy == Policy::NoEviction {
            return false;
        }
        let samples = self.instance.config.maxmemory_samples as usize;
        let mut random = self.keyspace.random();
        let eviction = &mut self.instance.eviction;
        let chosen = if policy.is_random() {
            eviction.any(&self.keyspace, policy, &mut random)
        } else {
            eviction.best(&self.keyspace, (policy, samples), &mut random)
        };
        let Some((database, key)) = chosen else { return false };
        let hash = self.keyspace.hash(&key);
        self.instance.keep_for_saving(&self.keyspace, database, &key);
        let place = self.keyspace.database(database);
        place.statistics.evicted += 1;
        let value = match self.instance.keeps_lost_values() {
            true => place.table().find(&key, hash).map(|entry| HookValue::of(entry.value())),
            false => None,
        };
        place.remove(&key, hash);
        self.instance.on_evicted(&mut self.keyspace, database, (&key, value), now_ms);
        true
    }
}

impl Eviction {
    fn note(&mut self, above: bool, now_ms: u64) {
        let Exceeded { since_ms, total_ms } = &mut self.exceeded;
        match (above, *since_ms) {
            (true, None) => *since_ms = Some(now_ms),
            (false, Some(since)) => {
                *total_ms += now_ms.saturating_sub(since);
                *since_ms = None;
            }
            _ => {}
        }
    }

    /// Any key of the next database that has one.
    fn any(
        &mut self,
        keyspace: &Keyspace,
        policy: Policy,
        random: &mut Random,
    ) -> Option<(u8, Vec<u8>)> {
        for _ in 0..DATABASES {
            let index = self.next_database;
            self.next_database = (index + 1) % DATABASES;
            if let Some(entry) = draw(&keyspace.databases()[index], policy, random) {
                return Some((index as u8, entry.key().to_vec()));
            }
        }
        None
    }

    /// The best of what was drawn lately and is still there.
    fn best(
        &mut self,
        keyspace: &Keyspace,
        (policy, samples): (Policy, usize),
        random: &mut Random,
    ) -> Option<(u8, Vec<u8>)> {
        /// Rounds in which every candidate drawn is gone already.
        const ROUNDS: usize = 64;
        if std::mem::replace(&mut self.policy, policy) != policy {
            self.pool.clear();
        }
        for _ in 0..ROUNDS {
            let drawn = self.fill(keyspace, policy, samples, random);
            while let Some(Candidate { database, key, .. }) = self.pool.pop() {
                let hash = keyspace.hash(&key);
                let found = keyspace.databases()[usize::from(database)].table().find(&key, hash);
                let expires = |entry: Entry<'_>| entry.expires_ms().is_some();
                if found.is_some_and(|entry| !policy.is_volatile() || expires(entry)) {
                    return Some((database, key));
                }
            }
            if !drawn {
                return None;
            }
        }
        None
    }

    /// Draws samples from every database; whether there was anything to draw from.
    fn fill(
        &mut self,
        keyspace: &Keyspace,
        policy: Policy,
        samples: usize,
        random: &mut Random,
    ) -> bool {
        let mut drawn = false;
        for (index, database) in keyspace.databases().iter().enumerate() {
            let there = if policy.is_volatile() { database.expiring() } else { database.len() };
            for _ in 0..samples.min(there) {
                let Some(entry) = draw(database, policy, random) else { break };
                drawn = true;
                self.offer(index as u8, entry, policy.score(entry, database));
            }
        }
        drawn
    }

    /// Takes a key into the pool, if it is better than the worst there or there is room.
    fn offer(&mut self, database: u8, entry: Entry<'_>, score: u64) {
        if self.pool.len() == POOL && self.pool[0].score >= score {
            return;
        }
        let same =
            |candidate: &Candidate| candidate.database == database && candidate.key == entry.key();
        self.pool.retain(|candidate| !same(candidate));
        if self.pool.len() == POOL {
            self.pool.remove(0);
        }
        let at = self.pool.partition_point(|candidate| candidate.score < score);
        self.pool.insert(at, Candidate { score, database, key: entry.key().to_vec() });
    }
}

/// A key that the policy may remove, each about as likely as the others.
fn draw<'a>(database: &'a Database, policy: Policy, random: &mut Random) -> Option<Entry<'a>> {
    if policy.is_volatile() {
        database.table().random_expiring(random)
    } else {
        database.table().random(random)
    }
}

#[cfg(test)]
mod tests;
