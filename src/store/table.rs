//! A hash table of entries that never stops to rehash: the keyspace, and every set and hash that isn't small.
//!
//! A full segment splits alone (microseconds), so no insert pays for the size of the table; only the directory, eight
//! bytes per ~300 entries, doubles. Keys whose hashes collide can't make it grow for ever: a segment that is already
//! [`SKEW`] levels deeper than the table's size explains spills instead, and its lookups slow down, nothing else.
//!
//! It knows entries and hashes, nothing of databases or commands. Time only as a number that expiries are compared with.

use super::Hasher;
use super::bucket::{SLOTS, Segment, Spot};
use super::entry::{Entry, EntryBox, EntryMut, Slot};
use super::random::Random;
use super::segment::{DEPTH_MAX, Directory};

/// Levels that a segment may be deeper than the number of entries explains.
const SKEW: u32 = 8;

/// The keyspace's and big collections' table: segments of 64 home buckets and 4 of stash, 68 cache lines.
pub type Table = SegmentedTable<68>;

/// Where an entry lies, until the table next gains or loses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: usize,
    spot: Spot,
}

impl Place {
    /// Whether the entry had an expiry when it was located; costs no look at the entry.
    #[inline]
    pub fn expires(self) -> bool {
        self.spot.expires()
    }
}

/// Entries by their keys; callers bring the hash along. `BUCKETS` is for tests, which shrink the segments.
pub struct SegmentedTable<const BUCKETS: usize> {
    directory: Directory<BUCKETS>,
    hasher: Hasher,
    len: usize,
    pub(super) expiry: ExpiryBounds,
    /// Where the sweep for segments to merge goes on.
    merge_at: u64,
}

/// What a table knows of its expiring entries; `expiry.rs` looks for those that are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpiryBounds {
    /// Entries with an expiry.
    pub count: usize,
    /// No entry expires before this.
    pub earliest_ms: u64,
    /// The first hash that the current sweep hasn't seen.
    pub sweep_at: u64,
    /// What `earliest_ms` will be when the sweep ends.
    pub sweep_earliest_ms: u64,
}

impl ExpiryBounds {
    pub(super) fn new() -> ExpiryBounds {
        ExpiryBounds { count: 0, earliest_ms: u64::MAX, sweep_at: 0, sweep_earliest_ms: u64::MAX }
    }

    fn lower(&mut self, at_ms: u64) {
        self.earliest_ms = self.earliest_ms.min(at_ms);
        self.sweep_earliest_ms = self.sweep_earliest_ms.min(at_ms);
    }
}

impl<const BUCKETS: usize> SegmentedTable<BUCKETS> {
    /// Entries that a segment holds at an ordinary load.
    const ORDINARY: usize = BUCKETS * SLOTS * 5 / 8;

    /// An empty table; allocates with its first entry.
    pub fn new(hasher: Hasher) -> Self {
        SegmentedTable {
            directory: Directory::new(),
            hasher,
            len: 0,
            expiry: ExpiryBounds::new(),
            merge_at: 0,
        }
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
        self.expiry.count
    }

    /// No entry expires before this; it rises only by [`SegmentedTable::take_expired`].
    #[inline]
    pub fn earliest_ms(&self) -> u64 {
        self.expiry.earliest_ms
    }

    /// Lowers that bound.
    pub fn lower_earliest(&mut self, at_ms: u64) {
        self.expiry.lower(at_ms);
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.directory.segments()
    }

    /// Where a key lies.
    #[inline]
    pub fn locate(&self, key: &[u8], hash: u64) -> Option<Place> {
        if self.len == 0 {
            return None;
        }
        let index = self.directory.index(hash);
        let home = Segment::<BUCKETS>::home(hash, self.directory.depth(index));
        let spot = self.directory.segment(index).find(home, hash, key)?;
        Some(Place { index, spot })
    }

    /// The entry at a place. Panics if there is none.
    #[inline]
    pub fn entry(&self, place: Place) -> Entry<'_> {
        self.directory.segment(place.index).slot(place.spot).entry()
    }

    /// The entry at a place, to be changed. Panics if there is none.
    #[inline]
    pub fn entry_mut(&mut self, place: Place) -> EntryMut<'_> {
        self.directory.segment_mut(place.index).slot_mut(place.spot).entry_mut()
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
        debug_assert!(self.locate(entry.view().key(), hash).is_none(), "the key is there already");
        self.directory.start();
        let expires_ms = entry.view().expires_ms();
        let place = self.put(entry, hash);
        self.len += 1;
        if let Some(at) = expires_ms {
            self.expiry.count += 1;
            self.note_expiry(place.index, at);
        }
        place
    }

    fn put(&mut self, mut entry: EntryBox, hash: u64) -> Place {
        loop {
            let index = self.directory.index(hash);
            let depth = self.directory.depth(index);
            let home = Segment::<BUCKETS>::home(hash, depth);
            let may_split = depth < self.depth_max();
            let segment = self.directory.segment_mut(index);
            let refused = match segment.insert(home, hash, entry) {
                Ok(spot) => return Place { index, spot },
                Err(entry) => entry,
            };
            if !may_split {
                return Place { index, spot: segment.spill(home, hash, refused) };
            }
            self.directory.split(index, self.hasher);
            entry = refused;
        }
    }

    fn depth_max(&self) -> u32 {
        let levels = (self.len / Self::ORDINARY).checked_ilog2().unwrap_or(0);
        (levels + SKEW).min(DEPTH_MAX)
    }

    fn note_expiry(&mut self, index: usize, at_ms: u64) {
        self.directory.segment_mut(index).lower_earliest(at_ms);
        self.expiry.lower(at_ms);
    }

    /// Puts another entry of the same key at a place; returns the old one.
    pub fn replace(&mut self, place: Place, entry: EntryBox) -> EntryBox {
        let expires_ms = entry.view().expires_ms();
        let old = self.directory.segment_mut(place.index).replace(place.spot, entry);
        self.expiry.count -= usize::from(old.view().expires_ms().is_some());
        if let Some(at) = expires_ms {
            self.expiry.count += 1;
            self.note_expiry(place.index, at);
        }
        old
    }

    /// Takes the entry at a place out.
    pub fn remove_at(&mut self, place: Place) -> EntryBox {
        let entry = self.directory.segment_mut(place.index).remove(place.spot);
        self.len -= 1;
        self.expiry.count -= usize::from(entry.view().expires_ms().is_some());
        entry
    }

    /// Takes the entry of a key out.
    pub fn remove(&mut self, key: &[u8], hash: u64) -> Option<EntryBox> {
        self.locate(key, hash).map(|place| self.remove_at(place))
    }

    /// Gives the entry at a place that expiry, or none.
    pub fn set_expires_ms(&mut self, place: Place, expires_ms: Option<u64>) {
        let before = self.entry(place).expires_ms().is_some();
        self.directory.segment_mut(place.index).set_expires_ms(place.spot, expires_ms);
        self.expiry.count -= usize::from(before);
        if let Some(at) = expires_ms {
            self.expiry.count += 1;
            self.expiry.lower(at);
        }
    }

    /// Shows at least `count` entries from `cursor` on, or all that are left, or none when that many buckets in a row are
    /// empty; returns the cursor for the next call. 0 starts and 0 ends. Cursors fit in 48 bits.
    ///
    /// A cursor is the hash prefix of the first bucket not seen, and whole buckets are shown, so every entry that is there
    /// from the first call to the last is shown exactly once, however the table grows or shrinks: a split refines the
    /// buckets' boundaries, and where a merge makes a cursor fall into a bucket, what lies before it is left out.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(Entry<'_>)) -> u64 {
        if self.len == 0 {
            return 0;
        }
        const EMPTY_PER_ENTRY: usize = 10;
        let mut position = cursor << 16;
        let mut shown = 0;
        let mut patience = count.saturating_mul(EMPTY_PER_ENTRY);
        loop {
            let index = self.directory.index(position);
            let depth = self.directory.depth(index);
            let shift = 64 - depth - Segment::<BUCKETS>::HOME_BITS;
            let start = position >> shift << shift;
            let before =
                |slot: &Slot| position != start && self.hasher.hash(slot.entry().key()) < position;
            let home = Segment::<BUCKETS>::home(position, depth);
            self.directory.segment(index).walk_home(home, depth, self.hasher, |slot| {
                if !before(slot) {
                    shown += 1;
                    show(slot.entry());
                }
            });
            let Some(next) = start.checked_add(1 << shift) else { return 0 };
            position = next;
            patience = patience.saturating_sub(1);
            if shown >= count || patience == 0 {
                return position >> 16;
            }
        }
    }

    /// An entry, each about as likely as the others.
    pub fn random(&self, random: &mut Random) -> Option<Entry<'_>> {
        /// Draws before a table is taken for nearly empty.
        const TRIES: usize = 128;
        if self.len == 0 {
            return None;
        }
        for _ in 0..TRIES {
            let segment = self.directory.segment(self.directory.index(random.bits()));
            if let Some(slot) = segment.numbered(random.below(segment.capacity())) {
                return Some(slot.entry());
            }
        }
        let start = random.below(self.directory.len());
        let around = self.segments_from(start).chain(self.segments_from(0));
        let mut held = around.map(|segment| (segment, segment.slots().count()));
        let (segment, count) = held.find(|(_, count)| *count > 0)?;
        segment.slots().nth(random.below(count)).map(Slot::entry)
    }

    /// An entry with an expiry, each about as likely as the others while they aren't rare.
    pub fn random_expiring(&self, random: &mut Random) -> Option<Entry<'_>> {
        /// Draws before expiring entries are taken for rare.
        const TRIES: usize = 64;
        if self.expiry.count == 0 {
            return None;
        }
        for _ in 0..TRIES {
            let segment = self.directory.segment(self.directory.index(random.bits()));
            let slot = segment.numbered(random.below(segment.capacity()));
            if let Some(slot) = slot.filter(|slot| slot.expires()) {
                return Some(slot.entry());
            }
        }
        let start = random.below(self.directory.len());
        let mut around = self.segments_from(start).chain(self.segments_from(0));
        let segment = around.find(|segment| segment.earliest_ms().is_some())?;
        let expiring = || segment.slots().filter(|slot| slot.expires());
        expiring().nth(random.below(expiring().count())).map(Slot::entry)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.segments_from(0).flat_map(Segment::slots).map(Slot::entry)
    }

    fn segments_from(&self, index: usize) -> impl Iterator<Item = &Segment<BUCKETS>> {
        let within = |index: usize| (index < self.directory.len()).then_some(index);
        let next = move |index: &usize| within(self.directory.next(*index));
        std::iter::successors(within(index), next).map(|index| self.directory.segment(index))
    }

    /// Hints the first of the two places that looking up `hash` will read.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.directory.prefetch_bucket(hash);
    }

    /// Hints the second, the entry itself; worth it a few dozen nanoseconds after the first.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.directory.prefetch_entry(hash);
    }

    /// Heap bytes of the table and its entries; the entries' are taken from a sample, as Redis's MEMORY USAGE does.
    pub fn memory_bytes(&self) -> usize {
        const SAMPLES: usize = 16;
        let sampled = self.len.min(SAMPLES);
        let bytes: usize = self.iter().take(SAMPLES).map(Entry::memory_bytes).sum();
        let entries = (bytes * self.len).checked_div(sampled).unwrap_or(0);
        self.directory.memory_bytes() + entries
    }

    /// Merges sparse sibling segments, looking at a few; true if there is more to do now.
    pub fn merge_step(&mut self) -> bool {
        /// Segments looked at in one step: some tens of microseconds.
        const SEGMENTS: usize = 16;
        let capacity = self.directory.segments() * BUCKETS * SLOTS;
        if self.directory.segments() < 2 || self.len > capacity * 2 / 5 {
            return false;
        }
        for _ in 0..SEGMENTS {
            let index = self.directory.index(self.merge_at);
            let start = self.directory.first_hash(index);
            if self.directory.merge(index, BUCKETS * SLOTS / 4, self.hasher) {
                // The parent may merge again.
                self.merge_at = start;
                continue;
            }
            let next = self.directory.next(index);
            if next >= self.directory.len() {
                self.merge_at = 0;
                return self.directory.halve();
            }
            self.merge_at = self.directory.first_hash(next);
        }
        true
    }

    /// The segment that holds `hash`, with its place in the directory.
    pub(super) fn segment_at(&self, hash: u64) -> (usize, &Segment<BUCKETS>) {
        let index = self.directory.index(hash);
        (index, self.directory.segment(index))
    }

    /// The places of those entries of a segment that are wanted, in its order.
    pub(super) fn places(&self, index: usize, wanted: impl FnMut(&Slot) -> bool) -> Vec<Place> {
        let depth = self.directory.depth(index);
        let spots = self.directory.segment(index).spots(depth, self.hasher, wanted);
        spots.into_iter().map(|spot| Place { index, spot }).collect()
    }

    /// Lets a segment know when its first entry expires.
    pub(super) fn set_segment_earliest(&mut self, index: usize, at_ms: u64) {
        self.directory.segment_mut(index).set_earliest(at_ms);
    }

    /// The first hash behind a segment; none behind the last.
    pub(super) fn hash_after(&self, index: usize) -> Option<u64> {
        let next = self.directory.next(index);
        (next < self.directory.len()).then(|| self.directory.first_hash(next))
    }
}

impl<const BUCKETS: usize> Clone for SegmentedTable<BUCKETS> {
    fn clone(&self) -> Self {
        let mut table = SegmentedTable::new(self.hasher);
        for entry in self.iter() {
            let copy = EntryBox::new(entry.key(), entry.value().to_value(), entry.expires_ms());
            table.insert(copy, self.hasher.hash(entry.key()));
        }
        table
    }
}

impl<const BUCKETS: usize> std::fmt::Debug for SegmentedTable<BUCKETS> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
