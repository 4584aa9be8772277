//! The memory of a table's segments: the pool they come from and the directory that finds one by hash prefix.
//!
//! Extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979): a full segment is split by the next bit of the hash,
//! and half of the directory's words that point to it are pointed to the new one. A word holds the segment's depth beside
//! its address, so that a lookup reads one word and one bucket line and never the segment's counters. (Directory, home
//! bucket) order is hash order at every depth, which SCAN rests on.
//!
//! It knows nothing of keys, values or time; how a segment keeps its slots is `bucket.rs`'s business.

#![allow(
    unsafe_code,
    reason = "a directory word is a segment's address: one dependent load less per lookup"
)]

use std::mem;
use std::ptr::{self, NonNull};

use super::Hasher;
use super::bucket::{Segment, place_of};
use super::entry::Slot;

/// The directory's depth never exceeds this, whatever the hashes: indices fit 32 bits, home buckets lie above bit 16.
pub const DEPTH_MAX: u32 = 32;

/// Finds segments by the top bits of a hash. Several words share a segment whose depth is below the directory's.
pub struct Directory<const BUCKETS: usize> {
    /// 2^depth words, or none before the first entry.
    words: Vec<Word>,
    depth: u32,
    pool: Pool<BUCKETS>,
}

/// A live segment of the directory's pool in the low 56 bits and its depth in the top 8.
#[derive(Clone, Copy)]
struct Word(u64);

const WORD_DEPTH_SHIFT: u32 = 56;
const WORD_ADDRESS: u64 = (1 << WORD_DEPTH_SHIFT) - 1;

impl Word {
    fn new<const BUCKETS: usize>(segment: NonNull<Segment<BUCKETS>>, depth: u32) -> Word {
        let address = segment.as_ptr().expose_provenance() as u64;
        assert!(address >> WORD_DEPTH_SHIFT == 0, "an address above 56 bits");
        Word(address | u64::from(depth) << WORD_DEPTH_SHIFT)
    }

    #[inline]
    fn depth(self) -> u32 {
        (self.0 >> WORD_DEPTH_SHIFT) as u32
    }

    #[inline]
    fn pointer<const BUCKETS: usize>(self) -> *mut Segment<BUCKETS> {
        ptr::with_exposed_provenance_mut((self.0 & WORD_ADDRESS) as usize)
    }
}

impl<const BUCKETS: usize> Directory<BUCKETS> {
    /// No segment yet.
    pub const fn new() -> Directory<BUCKETS> {
        Directory { words: Vec::new(), depth: 0, pool: Pool::new() }
    }

    /// Makes the first segment, if there is none.
    pub fn start(&mut self) {
        if self.words.is_empty() {
            self.words.push(Word::new(self.pool.take(), 0));
        }
    }

    /// Number of words; 0 before the first segment.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Segments in use.
    pub fn segments(&self) -> usize {
        self.pool.taken
    }

    /// Bytes of segments and words.
    pub fn memory_bytes(&self) -> usize {
        self.pool.made * size_of::<Segment<BUCKETS>>() + self.words.capacity() * size_of::<Word>()
    }

    /// The word of a hash.
    #[inline]
    pub fn index(&self, hash: u64) -> usize {
        ((hash >> 1) >> (63 - self.depth)) as usize
    }

    /// The depth of the segment at a word.
    #[inline]
    pub fn depth(&self, index: usize) -> u32 {
        self.words[index].depth()
    }

    /// The first hash of the segment at a word.
    pub fn first_hash(&self, index: usize) -> u64 {
        let depth = self.depth(index);
        let prefix = index as u64 >> (self.depth - depth);
        if depth == 0 { 0 } else { prefix << (64 - depth) }
    }

    /// The first word of the next segment.
    pub fn next(&self, index: usize) -> usize {
        let span = self.depth - self.depth(index);
        ((index >> span) + 1) << span
    }

    /// The segment at a word.
    #[inline]
    pub fn segment(&self, index: usize) -> &Segment<BUCKETS> {
        // SAFETY: words point to live segments of the pool, which `self` owns and nobody changes while it is borrowed.
        unsafe { &*self.words[index].pointer() }
    }

    /// The segment at a word, to be changed.
    #[inline]
    pub fn segment_mut(&mut self, index: usize) -> &mut Segment<BUCKETS> {
        // SAFETY: as in `segment`; `self` is borrowed mutably and gives out one segment at a time.
        unsafe { &mut *self.words[index].pointer() }
    }

    /// Splits the segment at a word by its next hash bit. The directory doubles if the segment has its depth already.
    pub fn split(&mut self, index: usize, hasher: Hasher) {
        let depth = self.depth(index);
        let first_hash = self.first_hash(index);
        let index = if depth == self.depth { self.double(index) } else { index };
        let right = self.pool.take();
        let half = 1 << (self.depth - depth - 1);
        let start = self.index(first_hash);
        let left = self.words[start].pointer::<BUCKETS>();
        let left_word = Word(self.words[index].0 + (1 << WORD_DEPTH_SHIFT));
        self.words[start..start + half].fill(left_word);
        self.words[start + half..start + 2 * half].fill(Word::new(right, depth + 1));
        // SAFETY: a block that the pool just gave out is in no other word, so it is neither `left` nor borrowed.
        let right = unsafe { &mut *right.as_ptr() };
        // SAFETY: as in `segment_mut`.
        let left = unsafe { &mut *left };
        divide(left, right, depth, first_hash, hasher);
    }

    fn double(&mut self, index: usize) -> usize {
        self.words = self.words.iter().flat_map(|word| [*word, *word]).collect();
        self.depth += 1;
        index * 2
    }

    /// Joins the segment at a word with its sibling, if both together hold at most `limit` entries; whether it did.
    pub fn merge(&mut self, index: usize, limit: usize, hasher: Hasher) -> bool {
        let depth = self.depth(index);
        if depth == 0 {
            return false;
        }
        let width = 1 << (self.depth - depth);
        let start = index & !(2 * width - 1);
        let (left, right) = (self.words[start], self.words[start + width]);
        if left.depth() != right.depth() || !self.may_join(start, start + width, limit) {
            return false;
        }
        let word = Word(left.0 - (1 << WORD_DEPTH_SHIFT));
        self.words[start..start + 2 * width].fill(word);
        let pointer = right.pointer::<BUCKETS>();
        // SAFETY: no word points to it any more, and it isn't back in the pool yet.
        let right = unsafe { &mut *pointer };
        let first_hash = self.first_hash(start);
        unite(self.segment_mut(start), right, depth - 1, first_hash, hasher);
        self.pool.give(right);
        true
    }

    fn may_join(&self, left: usize, right: usize, limit: usize) -> bool {
        let (left, right) = (self.segment(left), self.segment(right));
        let count = left.count(limit);
        count <= limit
            && count + right.count(limit) <= limit
            && !left.has_spilled()
            && !right.has_spilled()
    }

    /// Halves the directory, if no segment needs its full depth; whether it did. Costs a walk over all words.
    pub fn halve(&mut self) -> bool {
        if self.depth == 0 || self.words.iter().any(|word| word.depth() == self.depth) {
            return false;
        }
        self.words = self.words.iter().step_by(2).copied().collect();
        self.depth -= 1;
        true
    }

    /// Hints the bucket of a hash.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        let Some(word) = self.words.get(self.index(hash)) else { return };
        let home = Segment::<BUCKETS>::home(hash, word.depth());
        prefetch(Segment::<BUCKETS>::line(word.pointer(), home));
    }

    /// Hints what a lookup of the hash reads after its home bucket.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        let index = self.index(hash);
        if index >= self.words.len() {
            return;
        }
        let home = Segment::<BUCKETS>::home(hash, self.depth(index));
        self.segment(index).hint(home, hash, prefetch);
    }
}

/// Deals `left` to `left` and `right` by the hash bit after `depth` bits. `first_hash` is the first of their common range.
fn divide<const BUCKETS: usize>(
    left: &mut Segment<BUCKETS>,
    right: &mut Segment<BUCKETS>,
    depth: u32,
    first_hash: u64,
    hasher: Hasher,
) {
    let mut old = mem::replace(left, Segment::EMPTY);
    let earliest_ms = old.earliest_ms().unwrap_or(0);
    left.set_earliest(earliest_ms);
    right.set_earliest(earliest_ms);
    let known =
        Segment::<BUCKETS>::bits_suffice(depth + 1) && Segment::<BUCKETS>::bits_suffice(depth);
    old.deal(|tag, slot| {
        let (hash, tag) = place_of(&slot, tag, known, first_hash, hasher);
        let side = if (hash << depth) >> 63 == 0 { &mut *left } else { &mut *right };
        side.settle(hash, depth + 1, tag, slot);
    });
}

/// Moves all of `left` and `right` into `left`, whose depth is to be `depth`.
fn unite<const BUCKETS: usize>(
    left: &mut Segment<BUCKETS>,
    right: &mut Segment<BUCKETS>,
    depth: u32,
    first_hash: u64,
    hasher: Hasher,
) {
    let known = Segment::<BUCKETS>::bits_suffice(depth);
    let mut old = mem::replace(left, Segment::EMPTY);
    let earliest = [&old, &*right].into_iter().filter_map(|side| side.earliest_ms()).min();
    left.set_earliest(earliest.unwrap_or(0));
    let mut place = |tag, slot: Slot| {
        let (hash, tag) = place_of(&slot, tag, known, first_hash, hasher);
        left.settle(hash, depth, tag, slot);
    };
    old.deal(&mut place);
    right.deal(&mut place);
}

/// Asks for the cache line of an address, whatever is there.
#[inline]
pub fn prefetch(pointer: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; the processor ignores addresses that can't be read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _unused = pointer;
}

/// Blocks for segments, never given back before the table ends. All blocks are valid segments at any time.
struct Pool<const BUCKETS: usize> {
    chunks: Vec<NonNull<[Segment<BUCKETS>]>>,
    free: Vec<NonNull<Segment<BUCKETS>>>,
    made: usize,
    taken: usize,
}

/// Segments of a full chunk: 29 fill a class of 128 KB to 98 %.
const CHUNK_SEGMENTS: usize = 29;

impl<const BUCKETS: usize> Pool<BUCKETS> {
    const fn new() -> Pool<BUCKETS> {
        Pool { chunks: Vec::new(), free: Vec::new(), made: 0, taken: 0 }
    }

    /// An empty segment that no one else has.
    fn take(&mut self) -> NonNull<Segment<BUCKETS>> {
        self.taken += 1;
        if let Some(block) = self.free.pop() {
            return block;
        }
        let count = (self.made / 4).clamp(1, CHUNK_SEGMENTS);
        let chunk: Box<[Segment<BUCKETS>]> = (0..count).map(|_| Segment::EMPTY).collect();
        let chunk = NonNull::from(Box::leak(chunk));
        self.chunks.push(chunk);
        self.made += count;
        let first = chunk.cast::<Segment<BUCKETS>>();
        let block = |index| NonNull::new(first.as_ptr().wrapping_add(index));
        self.free.extend((1..count).rev().filter_map(block));
        first
    }

    /// Takes an emptied segment of this pool back, to which nothing else points.
    fn give(&mut self, segment: &mut Segment<BUCKETS>) {
        self.taken -= 1;
        self.free.push(NonNull::from(segment));
    }
}

impl<const BUCKETS: usize> Drop for Pool<BUCKETS> {
    fn drop(&mut self) {
        for chunk in self.chunks.drain(..) {
            // SAFETY: leaked by `take`; the directory that lent its segments out is going away with the pool.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

// SAFETY: the pool owns its segments, which are `Send`: their slots own entries of `Send` values.
unsafe impl<const BUCKETS: usize> Send for Pool<BUCKETS> {}
