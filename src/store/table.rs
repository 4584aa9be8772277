//! A hash table of entries that never stops to rehash: the keyspace, and every set and hash that isn't small.

use std::collections::BTreeMap;

use super::Hasher;
use super::entry::{Entry, EntryBox, EntryMut, Slot};
use super::random::Random;

/// Where an entry lies, until the table next gains or loses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    hash: u64,
    index: usize,
}

/// Entries by their keys; callers bring the hash along.
pub struct Table {
    hasher: Hasher,
    len: usize,
    expiring: usize,
    slots: BTreeMap<u64, Vec<Slot>>,
}

impl Table {
    /// An empty table; allocates with its first entry.
    pub fn new(hasher: Hasher) -> Table {
        Table { hasher, len: 0, expiring: 0, slots: BTreeMap::new() }
    }

    /// The function that makes this table's hashes.
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of entries with an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// Where a key lies.
    #[inline]
    pub fn locate(&self, key: &[u8], hash: u64) -> Option<Place> {
        let slots = self.slots.get(&hash)?;
        let index = slots.iter().position(|slot| slot.entry().key() == key)?;
        Some(Place { hash, index })
    }

    /// The entry at a place. Panics if there is none.
    #[inline]
    pub fn entry(&self, place: Place) -> Entry<'_> {
        self.slots[&place.hash][place.index].entry()
    }

    /// The entry at a place, to be changed. Panics if there is none.
    #[inline]
    pub fn entry_mut(&mut self, place: Place) -> EntryMut<'_> {
        self.slot_mut(place).entry_mut()
    }

    fn slot_mut(&mut self, place: Place) -> &mut Slot {
        let slots = self.slots.get_mut(&place.hash).expect("the place is of this table");
        &mut slots[place.index]
    }

    /// The entry of a key.
    #[inline]
    pub fn find(&self, key: &[u8], hash: u64) -> Option<Entry<'_>> {
        self.locate(key, hash).map(|place| self.entry(place))
    }

    /// The entry of a key, to be changed.
    #[inline]
    pub fn find_mut(&mut self, key: &[u8], hash: u64) -> Option<EntryMut<'_>> {
        self.locate(key, hash).map(|place| self.entry_mut(place))
    }

    /// Adds an entry whose key isn't in the table.
    pub fn insert(&mut self, entry: EntryBox, hash: u64) -> Place {
        self.len += 1;
        self.expiring += usize::from(entry.view().expires_ms().is_some());
        let slots = self.slots.entry(hash).or_default();
        let mut slot = Slot::EMPTY;
        slot.fill(entry, 0);
        slots.push(slot);
        Place { hash, index: slots.len() - 1 }
    }

    /// Puts another entry of the same key at a place; returns the old one.
    pub fn replace(&mut self, place: Place, entry: EntryBox) -> EntryBox {
        let old = self.remove_at(place);
        self.insert(entry, place.hash);
        old
    }

    /// Takes the entry at a place out.
    pub fn remove_at(&mut self, place: Place) -> EntryBox {
        let slots = self.slots.get_mut(&place.hash).expect("the place is of this table");
        let mut slot = slots.remove(place.index);
        if slots.is_empty() {
            self.slots.remove(&place.hash);
        }
        let entry = slot.take().expect("the place holds an entry");
        self.len -= 1;
        self.expiring -= usize::from(entry.view().expires_ms().is_some());
        entry
    }

    /// Takes the entry of a key out.
    pub fn remove(&mut self, key: &[u8], hash: u64) -> Option<EntryBox> {
        self.locate(key, hash).map(|place| self.remove_at(place))
    }

    /// Gives the entry at a place that expiry, or none.
    pub fn set_expires_ms(&mut self, place: Place, expires_ms: Option<u64>) {
        let slot = self.slot_mut(place);
        let before = slot.entry().expires_ms().is_some();
        slot.set_expires_ms(expires_ms);
        self.expiring -= usize::from(before);
        self.expiring += usize::from(expires_ms.is_some());
    }

    /// Shows at least `count` entries from `cursor` on, or all that are left, and returns the cursor for the next call.
    /// 0 starts and 0 ends. Cursors fit in 48 bits.
    ///
    /// Every entry that is there from the first call to the last is shown exactly once, however the table grows or shrinks.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(Entry<'_>)) -> u64 {
        let mut shown = 0;
        let mut last = None;
        for (hash, slots) in self.slots.range(cursor << 16..) {
            if shown >= count && last != Some(hash >> 16) {
                return hash >> 16;
            }
            last = Some(hash >> 16);
            shown += slots.len();
            slots.iter().for_each(|slot| show(slot.entry()));
        }
        0
    }

    /// An entry, each about as likely as the others.
    pub fn random(&self, random: &mut Random) -> Option<Entry<'_>> {
        if self.len == 0 {
            return None;
        }
        self.iter().nth(random.below(self.len))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots.values().flatten().map(Slot::entry)
    }

    /// Hints the first of the two places that looking up `hash` will read.
    #[inline]
    pub fn prefetch_bucket(&self, _hash: u64) {}

    /// Hints the second, the entry itself; worth it a few dozen nanoseconds after the first.
    #[inline]
    pub fn prefetch_entry(&self, _hash: u64) {}

    /// Heap bytes of the table and its entries.
    pub fn memory_bytes(&self) -> usize {
        self.iter().map(Entry::memory_bytes).sum()
    }
}

impl Clone for Table {
    fn clone(&self) -> Table {
        let mut table = Table::new(self.hasher);
        for entry in self.iter() {
            let copy = EntryBox::new(entry.key(), entry.value().to_value(), entry.expires_ms());
            table.insert(copy, self.hasher.hash(entry.key()));
        }
        table
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
