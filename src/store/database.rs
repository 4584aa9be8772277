//! One database: keys, their values and their expiry, with Redis's rules for wrong types and expired keys.
//!
//! Expired keys are removed by the lookup that meets them (here) or by the cycle that looks for them (`expiry.rs`).
//! It knows no command and no client.

use super::access::AccessClock;
use super::blocked::Waited;
use super::collection::Collection;
use super::deadlines::{Deadlines, earliest_of};
use super::entry::{Entry, EntryBox, EntryMut};
use super::hash::Hash;
use super::hooks::HookValue;
use super::keyspace::{Garbage, Statistics};
use super::list::List;
use super::random::Random;
use super::set::Set;
use super::small::NEVER;
use super::sorted_set::SortedSet;
use super::stream::Stream;
use super::table::{Place, Table};
use super::value::{Kind, Text, Value};
use super::{CommandError, Hasher};

/// One of a store's databases.
pub struct Database {
    pub(super) table: Table,
    pub(super) garbage: Vec<Garbage>,
    /// What lookups here met.
    pub(super) statistics: Statistics,
    /// Collections whose members end by themselves.
    pub(super) deadlines: Deadlines,
    /// The keys that somebody waits for.
    pub(super) waited: Waited,
    /// What has gone because its time had come, while somebody wants to know; taken after each command.
    pub(super) lost: Option<Lost>,
    /// What is noted in entries when they are used.
    pub access: AccessClock,
    /// What has expired can't be found and stays: a replica's primary says when it goes.
    pub(super) keeps_expired: bool,
    /// About what is in `garbage`.
    garbage_bytes: usize,
}

/// What has gone because its time had come.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) list: Vec<Gone>,
    /// Keys with what they held.
    pub(super) with_values: bool,
}

/// A key or member that has gone.
pub(super) enum Gone {
    /// With what it held, if that is wanted.
    Key(Vec<u8>, Option<HookValue>),
    /// The type of the collection, its key, the member.
    Member(Kind, Vec<u8>, Vec<u8>),
}

impl Lost {
    fn note(&mut self, entry: Entry<'_>) {
        let value = self.with_values.then(|| HookValue::of(entry.value()));
        self.list.push(Gone::Key(entry.key().to_vec(), value));
    }
}

/// What a write does to a key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// None afterwards.
    Clear,
    /// As it was.
    Keep,
    /// That time, in milliseconds since the epoch.
    At(u64),
}

impl Database {
    pub(super) fn new(hasher: Hasher, seed: u64) -> Database {
        Database {
            table: Table::new(hasher),
            garbage: Vec::new(),
            statistics: Statistics::default(),
            deadlines: Deadlines::default(),
            keeps_expired: false,
            waited: Waited::default(),
            lost: None,
            access: AccessClock::new(seed),
            garbage_bytes: 0,
        }
    }

    /// Number of keys; expired ones count until they are removed.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Number of keys with an expiry.
    pub fn expiring(&self) -> usize {
        self.table.expiring()
    }

    /// Number of collections with members that end by themselves.
    pub fn timed_collections(&self) -> usize {
        self.deadlines.len()
    }

    /// The table of keys, for prefetching and for walks that change nothing.
    #[inline]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Looks a key up for use: counted as hit or miss, and its access noted.
    #[inline]
    pub fn find(&mut self, key: &[u8], hash: u64, now_ms: u64) -> Option<Entry<'_>> {
        let Some(place) = self.locate(key, hash, now_ms) else {
            self.statistics.misses += 1;
            return None;
        };
        self.statistics.hits += 1;
        let mut entry = self.table.entry_mut(place);
        self.access.touch(&mut entry);
        Some(entry.into_view())
    }

    /// Looks a key up without leaving a trace (TTL, TYPE, OBJECT), but for removing it when it has expired.
    pub fn peek(&mut self, key: &[u8], hash: u64, now_ms: u64) -> Option<Entry<'_>> {
        let place = self.locate(key, hash, now_ms)?;
        Some(self.table.entry(place))
    }

    /// Whether the key is there.
    pub fn contains(&mut self, key: &[u8], hash: u64, now_ms: u64) -> bool {
        self.locate(key, hash, now_ms).is_some()
    }

    /// The place of a live key; removes an expired one, and members that have ended.
    #[inline]
    pub(super) fn locate(&mut self, key: &[u8], hash: u64, now_ms: u64) -> Option<Place> {
        let place = self.table.locate(key, hash)?;
        if place.expires() && self.table.entry(place).is_expired(now_ms) {
            if !self.keeps_expired {
                self.expire_at_place(place);
            }
            return None;
        }
        if self.deadlines.next_ms() <= now_ms && !self.keeps_expired {
            return self.without_ended_members(place, now_ms);
        }
        Some(place)
    }

    #[cold]
    pub(super) fn expire_at_place(&mut self, place: Place) {
        self.statistics.expired += 1;
        let entry = self.table.remove_at(place);
        self.waited.touch(entry.view().key());
        if let Some(lost) = &mut self.lost {
            lost.note(entry.view());
        }
        self.discard(entry);
    }

    /// Removes a key whose collection is empty; whether it was.
    pub(super) fn remove_emptied(&mut self, place: Place) -> bool {
        let is_empty = self.table.entry(place).value().is_empty();
        if is_empty {
            let entry = self.table.remove_at(place);
            self.waited.touch(entry.view().key());
            self.discard(entry);
        }
        is_empty
    }

    /// The string at a key, for reading.
    #[inline]
    pub fn string(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<Text<'_>>, CommandError> {
        match self.find(key, hash, now_ms) {
            Some(entry) => entry.text().map(Some).ok_or(CommandError::WrongType),
            None => Ok(None),
        }
    }

    /// The string at a key, to be changed in place; not counted as a lookup.
    #[inline]
    pub fn string_mut(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<EntryMut<'_>>, CommandError> {
        let Some(place) = self.locate(key, hash, now_ms) else { return Ok(None) };
        if self.table.entry(place).kind() != Kind::String {
            return Err(CommandError::WrongType);
        }
        let mut entry = self.table.entry_mut(place);
        self.access.touch(&mut entry);
        Ok(Some(entry))
    }

    /// Makes the key that string, whatever it was.
    #[inline]
    pub fn set_string(&mut self, key: &[u8], hash: u64, value: &[u8], expiry: Expiry) {
        let Some(place) = self.table.locate(key, hash) else {
            let expires_ms = expiry.of(None);
            self.add(EntryBox::string(key, value, expires_ms), hash);
            return;
        };
        if place.expires() || expiry != Expiry::Clear {
            let before = self.table.entry(place).expires_ms();
            let expires_ms = expiry.of(before);
            if expires_ms != before {
                self.table.set_expires_ms(place, expires_ms);
            }
        }
        self.waited.touch(key);
        let mut entry = self.table.entry_mut(place);
        self.access.touch(&mut entry);
        let old = entry.set_string(value);
        self.discard_value(key, old);
    }

    /// Makes the key that value, whatever it was.
    pub fn insert_value(&mut self, key: &[u8], hash: u64, value: Value, expiry: Expiry) {
        let before = self.table.find(key, hash).and_then(Entry::expires_ms);
        self.put(EntryBox::new(key, value, expiry.of(before)), hash);
    }

    fn add(&mut self, entry: EntryBox, hash: u64) -> Place {
        self.waited.touch(entry.view().key());
        let place = self.table.insert(entry, hash);
        self.access.begin(&mut self.table.entry_mut(place));
        place
    }

    /// Removes a key; whether it was there. Ask for expired keys first where that matters.
    pub fn remove(&mut self, key: &[u8], hash: u64) -> bool {
        let Some(entry) = self.table.remove(key, hash) else { return false };
        self.waited.touch(key);
        self.discard(entry);
        true
    }

    /// Removes a key unless it has expired (then too, but it wasn't there); whether it was there.
    pub fn delete(&mut self, key: &[u8], hash: u64, now_ms: u64) -> bool {
        let Some(place) = self.locate(key, hash, now_ms) else { return false };
        let entry = self.table.remove_at(place);
        self.waited.touch(key);
        self.discard(entry);
        true
    }

    /// Takes a key out with its value and expiry (RENAME, MOVE).
    pub fn take(&mut self, key: &[u8], hash: u64, now_ms: u64) -> Option<EntryBox> {
        let place = self.locate(key, hash, now_ms)?;
        self.waited.touch(key);
        let entry = self.table.remove_at(place);
        self.forget_deadlines(key, entry.view().value());
        Some(entry)
    }

    /// Puts a key in with its value and expiry, whatever was there.
    pub fn put(&mut self, entry: EntryBox, hash: u64) {
        let place = match self.table.locate(entry.view().key(), hash) {
            Some(place) => {
                self.waited.touch(entry.view().key());
                let old = self.table.replace(place, entry);
                self.discard(old);
                place
            }
            None => self.add(entry, hash),
        };
        let entry = self.table.entry(place);
        self.deadlines.change(entry.key(), NEVER, earliest_of(entry.value()));
    }

    /// Gives a key that expiry in milliseconds since the epoch, or none; whether it was there.
    pub fn expire_at(&mut self, key: &[u8], hash: u64, expires_ms: Option<u64>) -> bool {
        let Some(place) = self.table.locate(key, hash) else { return false };
        self.table.set_expires_ms(place, expires_ms);
        true
    }

    /// Makes a key look as if it was last used that long ago, unless uses are counted.
    pub fn set_idle(&mut self, key: &[u8], hash: u64, seconds: u64) {
        if !self.access.counts_uses()
            && let Some(mut entry) = self.table.find_mut(key, hash)
        {
            entry.touch(self.access.clock_of_idle(seconds));
        }
    }

    /// Makes a key look as if it was used that often (its LFU counter), unless uses are timed.
    pub fn set_frequency(&mut self, key: &[u8], hash: u64, counter: u8) {
        if self.access.counts_uses()
            && let Some(mut entry) = self.table.find_mut(key, hash)
        {
            entry.touch(self.access.clock_of_frequency(counter));
        }
    }

    /// Removes a key whose collection has become empty; whether it did.
    pub fn remove_if_empty(&mut self, key: &[u8], hash: u64) -> bool {
        let Some(place) = self.table.locate(key, hash) else { return false };
        self.remove_emptied(place)
    }

    /// The list at a key.
    #[inline]
    pub fn list(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<&mut List>, CommandError> {
        self.collection(key, hash, now_ms)
    }

    /// The list at a key, made if there is nothing.
    #[inline]
    pub fn list_or_create(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<&mut List, CommandError> {
        self.collection_or_create(key, hash, now_ms)
    }

    /// The set at a key.
    #[inline]
    pub fn set(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<&mut Set>, CommandError> {
        self.collection(key, hash, now_ms)
    }

    /// The set at a key, made if there is nothing.
    #[inline]
    pub fn set_or_create(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<&mut Set, CommandError> {
        self.collection_or_create(key, hash, now_ms)
    }

    /// The hash at a key.
    #[inline]
    pub fn hash(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<&mut Hash>, CommandError> {
        self.collection(key, hash, now_ms)
    }

    /// The hash at a key, made if there is nothing.
    #[inline]
    pub fn hash_or_create(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<&mut Hash, CommandError> {
        self.collection_or_create(key, hash, now_ms)
    }

    /// The sorted set at a key.
    #[inline]
    pub fn sorted_set(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<&mut SortedSet>, CommandError> {
        self.collection(key, hash, now_ms)
    }

    /// The sorted set at a key, made if there is nothing.
    #[inline]
    pub fn sorted_set_or_create(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<&mut SortedSet, CommandError> {
        self.collection_or_create(key, hash, now_ms)
    }

    #[inline]
    fn collection<T: Collection>(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<&mut T>, CommandError> {
        let Some(place) = self.locate(key, hash, now_ms) else {
            self.statistics.misses += 1;
            return Ok(None);
        };
        self.statistics.hits += 1;
        self.collection_at(place).map(Some)
    }

    #[inline]
    fn collection_or_create<T: Collection>(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<&mut T, CommandError> {
        if let Some(place) = self.locate(key, hash, now_ms) {
            return self.collection_at(place);
        }
        self.create_collection(key, hash)
    }

    #[inline(never)]
    fn create_collection<T: Collection>(
        &mut self,
        key: &[u8],
        hash: u64,
    ) -> Result<&mut T, CommandError> {
        if self.keeps_expired
            && let Some(place) = self.table.locate(key, hash)
        {
            self.expire_at_place(place);
        }
        self.waited.touch(key);
        let value = T::create(self.table.hasher());
        let place = self.table.insert(EntryBox::new(key, value, None), hash);
        let mut entry = self.table.entry_mut(place);
        self.access.begin(&mut entry);
        T::of(entry.into_value()).ok_or(CommandError::WrongType)
    }

    #[inline]
    fn collection_at<T: Collection>(&mut self, place: Place) -> Result<&mut T, CommandError> {
        let mut entry = self.table.entry_mut(place);
        self.access.touch(&mut entry);
        T::of(entry.into_value()).ok_or(CommandError::WrongType)
    }

    /// The stream at the key.
    pub fn stream(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<Option<&mut Stream>, CommandError> {
        self.collection(key, hash, now_ms)
    }

    /// The stream at the key, made empty if there is none.
    pub fn stream_or_create(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
    ) -> Result<&mut Stream, CommandError> {
        self.collection_or_create(key, hash, now_ms)
    }

    /// Shows at least `count` keys from `cursor` on, expired ones included; see [`Table::scan`].
    pub fn scan(&self, cursor: u64, count: usize, show: impl FnMut(Entry<'_>)) -> u64 {
        self.table.scan(cursor, count, show)
    }

    /// A live key; those that were met before it and have expired are added to `expired`.
    pub fn random_key(
        &mut self,
        random: &mut Random,
        now_ms: u64,
        expired: &mut Vec<Vec<u8>>,
    ) -> Option<&[u8]> {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            let entry = self.table.random(random)?;
            if entry.is_expired(now_ms) {
                expired.push(entry.key().to_vec());
            }
            if !entry.is_expired(now_ms) {
                let (key, hasher) = (entry.key(), self.table.hasher());
                let place = self.table.locate(key, hasher.hash(key))?;
                return Some(self.table.entry(place).key());
            }
        }
        self.table.iter().find(|entry| !entry.is_expired(now_ms)).map(Entry::key)
    }

    /// Removes expired keys, looking at about `budget` entries; true if there may be more to remove now.
    pub fn expire_step(&mut self, now_ms: u64, budget: usize) -> bool {
        let Database { table, garbage, garbage_bytes, statistics, waited, lost, deadlines, .. } =
            self;
        let more = table.take_expired(now_ms, budget, |entry| {
            statistics.expired += 1;
            waited.touch(entry.view().key());
            if let Some(lost) = lost {
                lost.note(entry.view());
            }
            deadlines.change(entry.view().key(), earliest_of(entry.view().value()), NEVER);
            if entry.view().is_big() {
                *garbage_bytes += entry.view().memory_bytes();
                garbage.push(Garbage::Value(entry.into_value()));
            }
        });
        self.expire_members(now_ms, budget) || more
    }

    /// Gives memory of removed keys back, a little at a time; true if there is more to do.
    pub fn idle_step(&mut self) -> bool {
        if self.table.is_empty() && self.table.segments() > 1 {
            self.flush();
            return false;
        }
        self.table.merge_step()
    }

    /// Removes all keys; returns how many there were.
    pub fn flush(&mut self) -> usize {
        let hasher = self.table.hasher();
        let table = std::mem::replace(&mut self.table, Table::new(hasher));
        self.deadlines = Deadlines::default();
        let len = table.len();
        self.waited.touch_all();
        if table.segments() > 0 {
            self.garbage_bytes += table.memory_bytes();
            self.garbage.push(Garbage::Table(table));
        }
        len
    }

    /// Whoever waits for the key is to look again; for values that grow without being made (streams).
    pub fn touched(&mut self, key: &[u8]) {
        self.waited.touch(key);
    }

    pub(super) fn take_garbage(&mut self) -> impl Iterator<Item = Garbage> + '_ {
        self.garbage_bytes = 0;
        self.garbage.drain(..)
    }

    /// About how much there is to free.
    pub(super) fn garbage_bytes(&self) -> usize {
        self.garbage_bytes
    }

    pub(super) fn discard(&mut self, entry: EntryBox) {
        self.forget_deadlines(entry.view().key(), entry.view().value());
        if entry.view().is_big() {
            self.garbage_bytes += entry.view().memory_bytes();
            self.garbage.push(Garbage::Value(entry.into_value()));
        }
    }

    /// Lets go of what a string has overwritten.
    fn discard_value(&mut self, key: &[u8], value: Option<Value>) {
        let Some(value) = value else { return };
        self.forget_deadlines(key, value.view());
        if value.is_big() {
            self.garbage_bytes += value.memory_bytes();
            self.garbage.push(Garbage::Value(value));
        }
    }
}

impl From<Option<u64>> for Expiry {
    /// A time, or none.
    fn from(expires_ms: Option<u64>) -> Expiry {
        expires_ms.map_or(Expiry::Clear, Expiry::At)
    }
}

impl Expiry {
    fn of(self, before: Option<u64>) -> Option<u64> {
        match self {
            Expiry::Clear => None,
            Expiry::Keep => before,
            Expiry::At(at) => Some(at),
        }
    }
}
