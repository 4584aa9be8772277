//! Cache-line buckets of slots, and the segment of them that a table grows by.
//!
//! ```text
//! hash      | segment's prefix (its depth) | home bucket bits | ...            | low byte: tag |
//! segment   home buckets (a power of two) | stash buckets | expiring keys, earliest expiry, spilled slots
//! bucket    7 tags | keys of mine in the buddy (3 bits), in stash and spill (5 bits) | 7 slots of 8 bytes
//! ```
//!
//! A key lies in its home bucket, else in the buddy (the other bucket of the same 128 bytes), else in the stash, else, when
//! the table won't split further, in the spill. A lookup reads one bucket line; its overflow byte says whether to look
//! elsewhere. There are no tombstones: a removal clears the tag and lowers its home's count.
//!
//! Buckets never read entries but to compare keys: a slot carries 16 more hash bits (40 to 55) that filter false tags and
//! let a split move it. It knows nothing of values, databases or time.

use std::mem;
use std::num::NonZeroU64;
use std::ptr;

use super::Hasher;
use super::entry::{EntryBox, Slot};

/// Slots of a bucket.
pub const SLOTS: usize = 7;

const TAGS: u64 = 0x00ff_ffff_ffff_ffff;
const TAG_LOWS: u64 = 0x0001_0101_0101_0101;
const TAG_HIGHS: u64 = 0x0080_8080_8080_8080;
const BUDDY_ONE: u64 = 1 << 56;
const BUDDY_MASK: u64 = 7 << 56;
const STASH_SHIFT: u32 = 59;
const STASH_ONE: u64 = 1 << STASH_SHIFT;
/// A stash count that has come here isn't known any more and stays until the segment is dealt anew.
const STASH_STUCK: u64 = 31;
/// The lowest of the hash bits in a slot, and the first above them.
const SLOT_BITS: std::ops::Range<u32> = 40..56;

/// The hash bits that a slot carries.
#[inline]
pub fn slot_bits(hash: u64) -> u16 {
    (hash >> SLOT_BITS.start) as u16
}

/// A tag; 0 means an empty slot.
#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// Where a slot lies in its segment, the home bucket of its key, and whether its entry expires.
///
/// One word on purpose: as a struct of small fields it is written in pieces and read back whole, and a load that can't be
/// forwarded from those stores waits for all cache misses before it. That alone made lookups 2-3 times slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot(NonZeroU64);

impl Spot {
    /// Makes the word never 0.
    const SET: NonZeroU64 = NonZeroU64::MIN.saturating_add((1 << 63) - 1);
    const EXPIRES: u64 = 1 << 62;

    /// One past the last bucket is the spill.
    #[inline]
    fn new(home: usize, bucket: usize, slot: usize, expires: bool) -> Spot {
        let expires = if expires { Spot::EXPIRES } else { 0 };
        Spot(Spot::SET | slot as u64 | (bucket as u64) << 32 | (home as u64) << 40 | expires)
    }

    #[inline]
    fn slot(self) -> usize {
        self.0.get() as u32 as usize
    }

    #[inline]
    fn bucket(self) -> usize {
        usize::from((self.0.get() >> 32) as u8)
    }

    #[inline]
    fn home(self) -> usize {
        usize::from((self.0.get() >> 40) as u8)
    }

    /// Whether the entry had an expiry when the spot was found.
    #[inline]
    pub fn expires(self) -> bool {
        self.0.get() & Spot::EXPIRES != 0
    }
}

/// One cache line of slots.
#[repr(C, align(64))]
struct Bucket {
    /// Seven tags and the overflow byte.
    control: u64,
    slots: [Slot; SLOTS],
}

impl Bucket {
    const EMPTY: Bucket = Bucket { control: 0, slots: [Slot::EMPTY; SLOTS] };

    /// The high bit of each byte whose tag is that.
    #[inline]
    fn matches(&self, tag: u8) -> u64 {
        let differs = (self.control & TAGS) ^ (TAG_LOWS * u64::from(tag));
        // Exact for every byte: the addition never carries out of one.
        !(((differs & !TAG_HIGHS) + (TAG_HIGHS - TAG_LOWS)) | differs) & TAG_HIGHS
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mut matches = self.matches(tag(hash));
        while matches != 0 {
            let index = (matches.trailing_zeros() / 8) as usize;
            let slot = &self.slots[index];
            if slot.hash_bits() == slot_bits(hash) && slot.entry().has_key(key) {
                return Some(index);
            }
            matches &= matches - 1;
        }
        None
    }

    /// The first slot whose hash bits are those of a hash.
    #[inline]
    fn candidate(&self, hash: u64) -> Option<&Slot> {
        let mut matches = self.matches(tag(hash));
        while matches != 0 {
            let slot = &self.slots[(matches.trailing_zeros() / 8) as usize];
            if slot.hash_bits() == slot_bits(hash) {
                return Some(slot);
            }
            matches &= matches - 1;
        }
        None
    }

    /// Keys whose home this is and that lie elsewhere?
    #[inline]
    fn overflows(&self) -> bool {
        self.control & !TAGS != 0
    }

    fn in_buddy(&self) -> bool {
        self.control & BUDDY_MASK != 0
    }

    fn in_stash(&self) -> bool {
        self.control >> STASH_SHIFT != 0
    }

    fn tag(&self, index: usize) -> u8 {
        (self.control >> (index * 8)) as u8
    }

    fn put(&mut self, tag: u8, slot: Slot) -> Result<usize, Slot> {
        let free = self.matches(0);
        if free == 0 {
            return Err(slot);
        }
        let index = (free.trailing_zeros() / 8) as usize;
        self.control |= u64::from(tag) << (index * 8);
        self.slots[index] = slot;
        Ok(index)
    }

    fn take(&mut self, index: usize) -> Slot {
        self.control &= !(0xff << (index * 8));
        mem::take(&mut self.slots[index])
    }

    fn stash_more(&mut self) {
        if self.control >> STASH_SHIFT != STASH_STUCK {
            self.control += STASH_ONE;
        }
    }

    fn stash_less(&mut self) {
        if self.control >> STASH_SHIFT != STASH_STUCK {
            self.control -= STASH_ONE;
        }
    }

    fn len(&self) -> usize {
        SLOTS - self.matches(0).count_ones() as usize
    }
}

/// `BUCKETS` buckets: the largest power of two below it are homes, the rest is the stash.
#[repr(C, align(64))]
pub struct Segment<const BUCKETS: usize> {
    buckets: [Bucket; BUCKETS],
    /// Entries with an expiry.
    expiring: u32,
    /// No entry expires before this; meaningless while none expires.
    earliest_ms: u64,
    /// What found no slot in a table that won't split further.
    spill: Vec<Slot>,
}

impl<const BUCKETS: usize> Segment<BUCKETS> {
    /// Bits of a hash that choose the home bucket.
    pub const HOME_BITS: u32 = (BUCKETS - 1).ilog2();
    const HOMES: usize = {
        assert!(BUCKETS < 256, "bucket numbers fit a byte of a spot");
        1 << Self::HOME_BITS
    };
    /// Slots of its buckets.
    pub const CAPACITY: usize = BUCKETS * SLOTS;
    /// Without an entry.
    pub const EMPTY: Segment<BUCKETS> = Segment {
        buckets: [const { Bucket::EMPTY }; BUCKETS],
        expiring: 0,
        earliest_ms: 0,
        spill: Vec::new(),
    };

    /// The home bucket of a hash in a segment of that depth.
    #[inline]
    pub fn home(hash: u64, depth: u32) -> usize {
        ((hash << depth) >> (64 - Self::HOME_BITS)) as usize
    }

    /// Whether the slots' bits hold all of the hash from `depth` on down to the home bucket's last bit.
    pub fn bits_suffice(depth: u32) -> bool {
        64 - depth <= SLOT_BITS.end && 64 - depth - Self::HOME_BITS >= SLOT_BITS.start
    }

    /// Where the key lies.
    #[inline]
    pub fn find(&self, home: usize, hash: u64, key: &[u8]) -> Option<Spot> {
        let bucket = &self.buckets[home];
        if let Some(slot) = bucket.find(hash, key) {
            return Some(Spot::new(home, home, slot, bucket.slots[slot].expires()));
        }
        if bucket.overflows() { self.find_elsewhere(home, hash, key) } else { None }
    }

    /// Some keys of nearly every full bucket lie in its buddy, and few elsewhere.
    #[inline(never)]
    fn find_elsewhere(&self, home: usize, hash: u64, key: &[u8]) -> Option<Spot> {
        let bucket = &self.buckets[home];
        let within = |index: usize| {
            let bucket = &self.buckets[index];
            let slot = bucket.find(hash, key)?;
            Some(Spot::new(home, index, slot, bucket.slots[slot].expires()))
        };
        if bucket.in_buddy()
            && let Some(spot) = within(home ^ 1)
        {
            return Some(spot);
        }
        if !bucket.in_stash() {
            return None;
        }
        (Self::HOMES..BUCKETS).find_map(within).or_else(|| self.find_spilled(home, hash, key))
    }

    fn find_spilled(&self, home: usize, hash: u64, key: &[u8]) -> Option<Spot> {
        let bits = slot_bits(hash);
        let same = |slot: &Slot| slot.hash_bits() == bits && slot.entry().has_key(key);
        let index = self.spill.iter().position(same)?;
        Some(Spot::new(home, BUCKETS, index, self.spill[index].expires()))
    }

    /// Puts an entry in; gives it back if there is no room.
    pub fn insert(&mut self, home: usize, hash: u64, entry: EntryBox) -> Result<Spot, EntryBox> {
        let mut slot = Slot::EMPTY;
        slot.fill(entry, slot_bits(hash));
        let inserted = self.put(home, tag(hash), slot);
        inserted.map_err(|mut slot| slot.take().expect("the slot was just filled"))
    }

    /// Puts an entry where there is always room.
    pub fn spill(&mut self, home: usize, hash: u64, entry: EntryBox) -> Spot {
        let mut slot = Slot::EMPTY;
        slot.fill(entry, slot_bits(hash));
        self.put_spilled(home, slot)
    }

    /// Whether anything found no slot.
    pub fn has_spilled(&self) -> bool {
        !self.spill.is_empty()
    }

    fn put(&mut self, home: usize, tag: u8, slot: Slot) -> Result<Spot, Slot> {
        let expires = slot.expires();
        let slot = match self.buckets[home].put(tag, slot) {
            Ok(index) => return Ok(self.entered(Spot::new(home, home, index, expires))),
            Err(slot) => slot,
        };
        let mut slot = match self.buckets[home ^ 1].put(tag, slot) {
            Ok(index) => {
                self.buckets[home].control += BUDDY_ONE;
                return Ok(self.entered(Spot::new(home, home ^ 1, index, expires)));
            }
            Err(slot) => slot,
        };
        for stash in Self::HOMES..BUCKETS {
            slot = match self.buckets[stash].put(tag, slot) {
                Ok(index) => {
                    self.buckets[home].stash_more();
                    return Ok(self.entered(Spot::new(home, stash, index, expires)));
                }
                Err(slot) => slot,
            };
        }
        Err(slot)
    }

    fn put_spilled(&mut self, home: usize, slot: Slot) -> Spot {
        let expires = slot.expires();
        self.buckets[home].stash_more();
        self.spill.push(slot);
        self.entered(Spot::new(home, BUCKETS, self.spill.len() - 1, expires))
    }

    fn entered(&mut self, spot: Spot) -> Spot {
        if spot.expires() {
            self.expiring += 1;
        }
        spot
    }

    /// Takes the entry at a spot out.
    pub fn remove(&mut self, spot: Spot) -> EntryBox {
        let (bucket, home, index) = (spot.bucket(), spot.home(), spot.slot());
        let mut slot = match self.buckets.get_mut(bucket) {
            Some(bucket) => bucket.take(index),
            None => self.spill.swap_remove(index),
        };
        if bucket >= Self::HOMES {
            self.buckets[home].stash_less();
        } else if bucket != home {
            self.buckets[home].control -= BUDDY_ONE;
        }
        self.expiring -= u32::from(slot.expires());
        slot.take().expect("the spot holds an entry")
    }

    /// The slot at a spot.
    #[inline]
    pub fn slot(&self, spot: Spot) -> &Slot {
        match self.buckets.get(spot.bucket()) {
            Some(bucket) => &bucket.slots[spot.slot()],
            None => &self.spill[spot.slot()],
        }
    }

    /// The slot at a spot, to be changed; its expiry with [`Segment::set_expires_ms`] only.
    #[inline]
    pub fn slot_mut(&mut self, spot: Spot) -> &mut Slot {
        match self.buckets.get_mut(spot.bucket()) {
            Some(bucket) => &mut bucket.slots[spot.slot()],
            None => &mut self.spill[spot.slot()],
        }
    }

    /// Gives the entry at a spot that expiry, or none.
    pub fn set_expires_ms(&mut self, spot: Spot, expires_ms: Option<u64>) {
        let slot = self.slot_mut(spot);
        let before = slot.expires();
        slot.set_expires_ms(expires_ms);
        self.expiring -= u32::from(before);
        if let Some(at) = expires_ms {
            self.expiring += 1;
            self.lower_earliest(at);
        }
    }

    /// Puts another entry of the same key at a spot; returns the old one.
    pub fn replace(&mut self, spot: Spot, entry: EntryBox) -> EntryBox {
        let slot = self.slot_mut(spot);
        let (before, bits) = (slot.expires(), slot.hash_bits());
        let old = slot.take().expect("the spot holds an entry");
        slot.fill(entry, bits);
        let after = slot.expires();
        self.expiring = self.expiring + u32::from(after) - u32::from(before);
        old
    }

    /// No entry expires before this; `None` while none expires at all.
    pub fn earliest_ms(&self) -> Option<u64> {
        (self.expiring > 0).then_some(self.earliest_ms)
    }

    /// Lowers the bound for a new expiry; after the entry was counted.
    pub fn lower_earliest(&mut self, at_ms: u64) {
        let alone = self.expiring <= 1;
        self.earliest_ms = if alone { at_ms } else { self.earliest_ms.min(at_ms) };
    }

    /// Sets the bound, when all entries have been looked at.
    pub fn set_earliest(&mut self, at_ms: u64) {
        self.earliest_ms = at_ms;
    }

    /// All its entries' slots.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        let buckets = self.buckets.iter().flat_map(|bucket| &bucket.slots);
        buckets.chain(&self.spill).filter(|slot| !slot.is_empty())
    }

    /// Slots in it, taken or not.
    pub fn capacity(&self) -> usize {
        Self::CAPACITY + self.spill.len()
    }

    /// The slot with that number below [`Segment::capacity`], if it holds an entry.
    pub fn numbered(&self, number: usize) -> Option<&Slot> {
        let slot = match self.buckets.get(number / SLOTS) {
            Some(bucket) => &bucket.slots[number % SLOTS],
            None => &self.spill[number - Self::CAPACITY],
        };
        (!slot.is_empty()).then_some(slot)
    }

    /// The address of a home bucket's line, from the segment's, as a hint for prefetching.
    #[inline]
    pub fn line(segment: *const Segment<BUCKETS>, home: usize) -> *const u8 {
        segment.cast::<Bucket>().wrapping_add(home).cast()
    }

    /// Hints what a lookup of the hash will read next: the entry's two lines, or the buckets where it may lie instead.
    #[inline]
    pub fn hint(&self, home: usize, hash: u64, mut prefetch: impl FnMut(*const u8)) {
        let bucket = &self.buckets[home];
        let mut slot = bucket.candidate(hash);
        if slot.is_none() && bucket.in_buddy() {
            slot = self.buckets[home ^ 1].candidate(hash);
        }
        if let Some(slot) = slot {
            prefetch(slot.hint());
            return prefetch(slot.hint().wrapping_add(64));
        }
        if bucket.in_stash() {
            self.buckets[Self::HOMES..]
                .iter()
                .for_each(|stash| prefetch(ptr::from_ref(stash).cast()));
        }
    }

    /// Counts its entries, up to about `limit`.
    pub fn count(&self, limit: usize) -> usize {
        let mut count = self.spill.len();
        for bucket in &self.buckets {
            if count > limit {
                break;
            }
            count += bucket.len();
        }
        count
    }

    /// Where the wanted ones of its slots lie, the spill last.
    pub fn spots(
        &self,
        depth: u32,
        hasher: Hasher,
        mut wanted: impl FnMut(&Slot) -> bool,
    ) -> Vec<Spot> {
        let mut spots = Vec::new();
        let lists = self.buckets.iter().map(|bucket| &bucket.slots[..]).chain([&self.spill[..]]);
        for (bucket, slots) in lists.enumerate() {
            for (index, slot) in slots.iter().enumerate() {
                if !slot.is_empty() && wanted(slot) {
                    let hash = hasher.hash(slot.entry().key());
                    let home = Self::home(hash, depth);
                    spots.push(Spot::new(home, bucket, index, slot.expires()));
                }
            }
        }
        spots
    }

    /// Shows the slots of the keys whose home that is.
    pub fn walk_home(&self, home: usize, depth: u32, hasher: Hasher, mut show: impl FnMut(&Slot)) {
        let bucket = &self.buckets[home];
        let buddy = &self.buckets[home ^ 1];
        let is_mine = |slot: &&Slot| {
            let hash = match Self::bits_suffice(depth) {
                true => u64::from(slot.hash_bits()) << SLOT_BITS.start,
                false => hasher.hash(slot.entry().key()),
            };
            Self::home(hash, depth) == home
        };
        let all_mine = !buddy.in_buddy();
        let held = bucket.slots.iter().filter(|slot| !slot.is_empty());
        held.filter(|slot| all_mine || is_mine(slot)).for_each(&mut show);
        let buddy = if bucket.in_buddy() { &buddy.slots[..] } else { &[] };
        let stash = if bucket.in_stash() { &self.buckets[Self::HOMES..] } else { &[] };
        let spill = if bucket.in_stash() { &self.spill[..] } else { &[] };
        let elsewhere = buddy.iter().chain(stash.iter().flat_map(|bucket| &bucket.slots));
        let elsewhere = elsewhere.chain(spill).filter(|slot| !slot.is_empty());
        elsewhere.filter(is_mine).for_each(show);
    }

    /// Deals its slots, with their tags, to `place`: homes and buddies first, so that each dealt pair has room for what
    /// came from one pair, then stash and spill. Leaves it empty.
    pub fn deal(&mut self, mut place: impl FnMut(u8, Slot)) {
        for bucket in &mut self.buckets {
            for index in 0..SLOTS {
                let tag = bucket.tag(index);
                if tag != 0 {
                    place(tag, bucket.take(index));
                }
            }
            bucket.control = 0;
        }
        for slot in self.spill.drain(..) {
            // A spilled slot has no tag at hand.
            place(0, slot);
        }
        self.expiring = 0;
    }

    /// Puts a dealt slot in, where there is always room.
    pub fn settle(&mut self, hash: u64, depth: u32, tag: u8, slot: Slot) {
        let home = Self::home(hash, depth);
        if let Err(slot) = self.put(home, tag, slot) {
            self.put_spilled(home, slot);
        }
    }
}

/// As much of a slot's hash as dealing needs, and its tag. `known`: the slot's bits suffice behind `first_hash`'s prefix.
pub fn place_of(slot: &Slot, tag: u8, known: bool, first_hash: u64, hasher: Hasher) -> (u64, u8) {
    if known && tag != 0 {
        return (first_hash | u64::from(slot.hash_bits()) << SLOT_BITS.start, tag);
    }
    let hash = hasher.hash(slot.entry().key());
    (hash, self::tag(hash))
}
