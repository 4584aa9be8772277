//! The databases of a store and what the whole store counts. It knows no command and no client.

use super::Hasher;
use super::access::AccessClock;
use super::database::{Database, Gone, Lost};
use super::random::Random;
use super::table::Table;
use super::thresholds::{self, Thresholds};
use super::value::Value;
use crate::limits::DATABASES;

/// All databases of one store.
pub struct Keyspace {
    databases: Vec<Database>,
    hasher: Hasher,
    random: Random,
    /// Changes made; commands add to it what they changed, as Redis's `server.dirty`.
    pub dirty: u64,
    /// When collections leave their packed forms.
    pub thresholds: Thresholds,
}

/// What lookups met, summed over all databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that didn't.
    pub misses: u64,
    /// Keys removed because their time had come.
    pub expired: u64,
    /// Members of collections removed because their time had come.
    pub expired_members: u64,
    /// Keys removed for want of memory.
    pub evicted: u64,
}

/// What is no longer in the store but takes long to free: drop it where no lock is held.
#[derive(Debug)]
pub enum Garbage {
    Value(Value),
    Table(Table),
}

impl Keyspace {
    /// Empty databases. `seed` decides what RANDOMKEY and kin answer.
    pub fn new(hasher: Hasher, seed: u64) -> Keyspace {
        Keyspace {
            databases: (0..DATABASES).map(|at| Database::new(hasher, seed + at as u64)).collect(),
            hasher,
            random: Random::new(seed),
            dirty: 0,
            thresholds: thresholds::REDIS,
        }
    }

    /// The hash function of keys, members and fields.
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// The hash of a key, member or field.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash(bytes)
    }

    /// A source of chance of its own for one command.
    pub fn random(&mut self) -> Random {
        self.random.fork()
    }

    /// A database. Panics above the last, SELECT checks.
    #[inline]
    pub fn database(&mut self, index: u8) -> &mut Database {
        &mut self.databases[usize::from(index)]
    }

    /// The same, with the limits of packed forms.
    #[inline]
    pub fn database_within(&mut self, index: u8) -> (&mut Database, &Thresholds) {
        (&mut self.databases[usize::from(index)], &self.thresholds)
    }

    /// All databases in order.
    #[inline]
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// Exchanges the contents of two databases.
    pub fn swap(&mut self, left: u8, right: u8) {
        let (left, right) = (usize::from(left), usize::from(right));
        self.databases.swap(left, right);
        if left == right {
            return;
        }
        // Whoever waits for a key waits in a database by its number.
        let waited = std::mem::take(&mut self.databases[left].waited);
        self.databases[left].waited = std::mem::replace(&mut self.databases[right].waited, waited);
        self.databases[left].waited.touch_all();
        self.databases[right].waited.touch_all();
    }

    /// Empties all databases; returns how many keys there were.
    pub fn flush(&mut self) -> usize {
        self.databases.iter_mut().map(Database::flush).sum()
    }

    /// Whether what has expired stays until somebody says that it goes.
    pub(super) fn keep_expired(&mut self, on: bool) {
        self.databases.iter_mut().for_each(|database| database.keeps_expired = on);
    }

    /// Whether databases note what has expired, and keys with what they held.
    pub(super) fn note_lost(&mut self, on: bool, with_values: bool) {
        for database in &mut self.databases {
            database.lost = on.then(|| Lost { list: Vec::new(), with_values });
        }
    }

    /// Whether something in that database has expired since the last time.
    #[inline]
    pub(super) fn has_lost(&self, database: u8) -> bool {
        let lost = &self.databases[usize::from(database)].lost;
        lost.as_ref().is_some_and(|lost| !lost.list.is_empty())
    }

    /// What has expired since the last time.
    pub(super) fn take_lost(&mut self) -> Vec<(u8, Gone)> {
        let mut all = Vec::new();
        for (index, database) in (0..).zip(&mut self.databases) {
            let lost = database.lost.iter_mut().flat_map(|lost| lost.list.drain(..));
            all.extend(lost.map(|gone| (index, gone)));
        }
        all
    }

    /// The next key that somebody waits for and that has changed.
    pub(super) fn take_ready(&mut self) -> Option<(u8, Vec<u8>)> {
        (0..)
            .zip(&mut self.databases)
            .find_map(|(index, database)| database.waited.take_ready().map(|key| (index, key)))
    }

    /// What lookups met so far.
    pub fn statistics(&self) -> Statistics {
        self.databases.iter().fold(Statistics::default(), |sum, database| {
            let one = database.statistics;
            Statistics {
                hits: sum.hits + one.hits,
                misses: sum.misses + one.misses,
                expired: sum.expired + one.expired,
                expired_members: sum.expired_members + one.expired_members,
                evicted: sum.evicted + one.evicted,
            }
        })
    }

    /// Removes expired keys, looking at about `budget` entries; true if there may be more to remove now.
    pub fn expire_step(&mut self, now_ms: u64, budget: usize) -> bool {
        let mut more = false;
        for database in &mut self.databases {
            more |= database.expire_step(now_ms, budget);
        }
        more
    }

    /// Gives memory of emptied databases back, a little at a time; true if there is more to do.
    pub fn idle_step(&mut self) -> bool {
        self.databases.iter_mut().any(Database::idle_step)
    }

    /// About how much must be.
    pub fn garbage_bytes(&self) -> usize {
        self.databases.iter().map(Database::garbage_bytes).sum()
    }

    /// Tells the access clocks of all databases something.
    pub fn for_each_clock(&mut self, mut tell: impl FnMut(&mut AccessClock)) {
        self.databases.iter_mut().for_each(|database| tell(&mut database.access));
    }

    /// What must be dropped once the lock is released.
    pub fn take_garbage(&mut self) -> Vec<Garbage> {
        self.databases.iter_mut().flat_map(Database::take_garbage).collect()
    }
}
