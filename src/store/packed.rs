//! A small collection in one blob of bytes: elements one after the other, walked in both directions. Lists are packed
//! whole or in nodes; small sets, hashes and sorted sets are packed members, pairs of field and value, pairs of member
//! and score. Knows nothing of which.
//!
//! The blob may have free bytes at both ends, so that a push or pop at either end moves nothing; an edit in the middle
//! moves the shorter side. Capacities are the allocator's size classes: room that was paid for is used.
//!
//! A *place* is the offset of an element in the blob; every edit makes the places behind it void.

use super::element::{Element, Encoded, decode, decode_back};
use super::segment::prefetch;

/// Elements in one blob.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// The elements are `buffer[start..]`.
    buffer: Vec<u8>,
    start: u32,
    count: u32,
}

impl Packed {
    /// An empty blob that owns no memory yet.
    pub fn new() -> Packed {
        Packed::default()
    }

    /// An empty blob with `bytes` of room for pushes to the front.
    pub fn for_front(bytes: usize) -> Packed {
        Packed { buffer: vec![0; bytes], start: offset(bytes), count: 0 }
    }

    /// An empty blob with `bytes` of room for pushes to the back.
    pub fn for_back(bytes: usize) -> Packed {
        Packed { buffer: Vec::with_capacity(bytes), start: 0, count: 0 }
    }

    /// A blob of somebody else's making, if it's whole: it can be walked from end to end in both directions.
    pub fn from_bytes(buffer: Vec<u8>) -> Option<Packed> {
        let (mut at, mut count) = (0, 0u32);
        while at < buffer.len() {
            let (_, after) = decode(&buffer, at)?;
            if decode_back(&buffer, after)? != at {
                return None;
            }
            at = after;
            count = count.checked_add(1)?;
        }
        Some(Packed { buffer, start: 0, count })
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start as usize..]
    }

    /// Bytes that the elements take; also the place after the last one.
    pub fn bytes(&self) -> usize {
        self.buffer.len() - self.start as usize
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Whether `bytes` more fit in front without moving or allocating.
    pub fn has_front_room(&self, bytes: usize) -> bool {
        self.start as usize >= bytes
    }

    /// Whether `bytes` more fit behind without moving or allocating.
    pub fn has_back_room(&self, bytes: usize) -> bool {
        self.buffer.capacity() - self.buffer.len() >= bytes
    }

    /// The element at a place and the place after it.
    #[inline]
    pub fn next(&self, at: usize) -> Option<(Element<'_>, usize)> {
        decode(self.as_bytes(), at)
    }

    /// The element that ends at a place and its own place.
    #[inline]
    pub fn previous(&self, end: usize) -> Option<(Element<'_>, usize)> {
        let at = decode_back(self.as_bytes(), end)?;
        let (element, _) = decode(self.as_bytes(), at)?;
        Some((element, at))
    }

    /// All elements in order; double-ended.
    pub fn iter(&self) -> Iter<'_> {
        Iter { blob: self.as_bytes(), front: 0, back: self.bytes() }
    }

    /// The elements before `end`, double-ended.
    pub fn iter_between(&self, from: usize, end: usize) -> Iter<'_> {
        Iter { blob: self.as_bytes(), front: from, back: end.min(self.bytes()) }
    }

    /// The place of element `index`, from the nearer end; the end's place for `index == len`.
    pub fn seek(&self, index: usize) -> Option<usize> {
        let count = self.len();
        if index > count {
            return None;
        }
        if index <= count / 2 {
            (0..index).try_fold(0, |at, _| Some(self.next(at)?.1))
        } else {
            (index..count).try_fold(self.bytes(), |end, _| decode_back(self.as_bytes(), end))
        }
    }

    /// The place of the first element that equals `needle`, looking at every `stride`-th from the first.
    pub fn find(&self, needle: Element<'_>, stride: usize) -> Option<usize> {
        let blob = self.as_bytes();
        let needle = Encoded::new(needle);
        let mut at = 0;
        while at < blob.len() {
            if needle.matches(&blob[at..]) {
                return Some(at);
            }
            for _ in 0..stride {
                at = decode(blob, at)?.1;
            }
        }
        None
    }

    /// Adds an element behind the last.
    pub fn push_back(&mut self, element: Element<'_>) {
        self.insert(self.bytes(), [element]);
    }

    /// Adds an element before the first.
    pub fn push_front(&mut self, element: Element<'_>) {
        self.insert(0, [element]);
    }

    /// Puts `elements`, in their order, before the one at a place.
    #[inline]
    pub fn insert<const N: usize>(&mut self, at: usize, elements: [Element<'_>; N]) {
        self.insert_encoded(at, &elements.map(Encoded::new));
    }

    /// The same for elements that were encoded before.
    #[inline]
    pub fn insert_encoded(&mut self, at: usize, elements: &[Encoded<'_>]) {
        let mut room = self.resize_span(at, 0, elements.iter().map(Encoded::total).sum());
        for encoded in elements {
            let (here, rest) = room.split_at_mut(encoded.total());
            encoded.write(here);
            room = rest;
        }
        self.count += elements.len() as u32;
    }

    /// Adds an element before the first, where there is room ([`Packed::has_front_room`]).
    #[inline]
    pub fn put_front(&mut self, encoded: &Encoded<'_>) {
        let end = self.start as usize;
        let start = end - encoded.total();
        encoded.write(&mut self.buffer[start..end]);
        self.start = offset(start);
        self.count += 1;
    }

    /// Puts `element` in the place of the one at `at`.
    pub fn replace(&mut self, at: usize, element: Element<'_>) {
        let Some((_, after)) = self.next(at) else { return };
        let encoded = Encoded::new(element);
        encoded.write(self.resize_span(at, after - at, encoded.total()));
    }

    /// Removes `elements` elements that lie between two places.
    pub fn remove_span(&mut self, from: usize, to: usize, elements: usize) {
        self.resize_span(from, to - from, 0);
        self.count -= elements as u32;
    }

    /// Removes the element at a place and those behind it, `elements` in all. Answers whether there were so many.
    pub fn remove(&mut self, at: usize, elements: usize) -> bool {
        let end = (0..elements).try_fold(at, |place, _| Some(self.next(place)?.1));
        if let Some(end) = end {
            self.remove_span(at, end, elements);
        }
        end.is_some()
    }

    /// How many elements equal `needle`.
    pub fn count_equal(&self, needle: Element<'_>) -> usize {
        self.iter().filter(|element| *element == needle).count()
    }

    /// Removes up to `limit` elements that equal `needle`, but for the first `skip` of them; answers how many it removed.
    pub fn remove_equal(&mut self, needle: Element<'_>, skip: usize, limit: usize) -> usize {
        let encoded = Encoded::new(needle);
        let start = self.start as usize;
        let (mut read, mut write, mut seen) = (0, 0, 0);
        while let Some((_, after)) = self.next(read) {
            let equal = encoded.matches(&self.as_bytes()[read..]);
            seen += usize::from(equal);
            if !equal || seen <= skip || seen > skip + limit {
                self.buffer.copy_within(start + read..start + after, start + write);
                write += after - read;
            }
            read = after;
        }
        let removed = seen.saturating_sub(skip).min(limit);
        self.remove_span(write, read, removed);
        removed
    }

    /// Removes the first element after `look` has seen it.
    #[inline]
    pub fn pop_front<R>(&mut self, look: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        // What the next pops will read comes meanwhile.
        const AHEAD_BYTES: usize = 512;
        prefetch(self.buffer.as_ptr().wrapping_add(self.start as usize + AHEAD_BYTES));
        let (element, after) = self.next(0)?;
        let seen = look(element);
        if after < self.bytes() {
            self.start += offset(after);
            self.count -= 1;
        } else {
            self.remove_span(0, after, 1);
        }
        Some(seen)
    }

    /// Removes the last element after `look` has seen it.
    pub fn pop_back<R>(&mut self, look: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let end = self.bytes();
        let (element, at) = self.previous(end)?;
        let seen = look(element);
        self.remove_span(at, end, 1);
        Some(seen)
    }

    /// Cuts the blob: the elements from a place on, `elements` of them, move to a blob of their own.
    pub fn split_off(&mut self, at: usize, elements: usize) -> Packed {
        let mut tail = Packed::for_back(size_class(self.bytes() - at));
        tail.buffer.extend_from_slice(&self.as_bytes()[at..]);
        tail.count = elements as u32;
        self.remove_span(at, self.bytes(), elements);
        tail
    }

    /// Takes over all of `other`'s elements behind the last.
    pub fn append(&mut self, other: &Packed) {
        let at = self.bytes();
        self.resize_span(at, 0, other.bytes()).copy_from_slice(other.as_bytes());
        self.count += other.count;
    }

    /// Empties the blob and makes all of its memory room for pushes to the front.
    pub fn clear_for_front(&mut self) {
        self.buffer.resize(self.buffer.capacity(), 0);
        self.start = offset(self.buffer.len());
        self.count = 0;
    }

    /// Empties the blob and makes all of its memory room for pushes to the back.
    pub fn clear_for_back(&mut self) {
        self.buffer.clear();
        self.start = 0;
        self.count = 0;
    }

    /// Gives memory back if less than half of it is used.
    pub fn shrink(&mut self) {
        let wanted = size_class(self.bytes());
        if wanted * 2 <= self.buffer.capacity() {
            self.move_to_start(wanted);
        }
    }

    /// Makes the `old` bytes at a place `new` bytes, which the caller then writes.
    #[inline]
    fn resize_span(&mut self, at: usize, old: usize, new: usize) -> &mut [u8] {
        if new > old {
            self.grow_span(at, old, new - old);
        } else if new < old {
            self.close_span(at + new, old - new);
        }
        let from = self.start as usize + at;
        &mut self.buffer[from..from + new]
    }

    #[inline]
    fn grow_span(&mut self, at: usize, old: usize, more: usize) {
        if at == 0 && old == 0 && (self.has_front_room(more) || !self.is_empty()) {
            self.make_front_room(more);
            self.start -= offset(more);
            return;
        }
        self.make_back_room(more);
        let end = self.buffer.len();
        self.buffer.resize(end + more, 0);
        let from = self.start as usize + at + old;
        if from < end {
            self.buffer.copy_within(from..end, from + more);
        }
    }

    /// Takes `gone` bytes at a place out, moving the shorter side.
    fn close_span(&mut self, at: usize, gone: usize) {
        let start = self.start as usize;
        let from = start + at;
        let end = self.buffer.len();
        if at < end - from - gone {
            self.buffer.copy_within(start..from, start + gone);
            self.start += offset(gone);
        } else {
            self.buffer.copy_within(from + gone..end, from);
            self.buffer.truncate(end - gone);
        }
    }

    #[inline]
    fn make_back_room(&mut self, more: usize) {
        if self.buffer.capacity() - self.buffer.len() < more {
            let wanted = size_class(self.bytes() + more + slack(self.bytes()));
            self.move_to_start(wanted);
        }
    }

    #[inline]
    fn make_front_room(&mut self, more: usize) {
        if !self.has_front_room(more) {
            let wanted = size_class(self.bytes() + more + slack(self.bytes()));
            self.move_to_end(wanted);
        }
    }

    /// Puts the elements at the start of at least `wanted` bytes.
    fn move_to_start(&mut self, wanted: usize) {
        let live = self.bytes();
        let capacity = self.buffer.capacity();
        if wanted > capacity && self.start == 0 {
            self.buffer.reserve_exact(wanted - live);
        } else if wanted > capacity || wanted * 2 <= capacity {
            let mut buffer = Vec::with_capacity(wanted);
            buffer.extend_from_slice(self.as_bytes());
            self.buffer = buffer;
        } else {
            self.buffer.copy_within(self.start as usize.., 0);
            self.buffer.truncate(live);
        }
        self.start = 0;
    }

    /// Puts the elements at the end of at least `wanted` bytes.
    fn move_to_end(&mut self, wanted: usize) {
        let live = self.bytes();
        let from = self.start as usize;
        if wanted > self.buffer.capacity() {
            let mut buffer = vec![0; wanted];
            buffer[wanted - live..].copy_from_slice(self.as_bytes());
            self.buffer = buffer;
        } else {
            let end = self.buffer.capacity();
            self.buffer.resize(end, 0);
            self.buffer.copy_within(from..from + live, end - live);
        }
        self.start = offset(self.buffer.len() - live);
    }
}

/// The elements of a [`Packed`]. On bytes that make no sense it ends.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    blob: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let decoded = decode(self.blob, self.front);
        self.front = decoded.map_or(self.back, |(_, after)| after);
        decoded.map(|(element, _)| element)
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let at = decode_back(self.blob, self.back);
        self.back = at.unwrap_or(self.front);
        decode(self.blob, at?).map(|(element, _)| element)
    }
}

/// Room beyond what is needed now: an eighth for big blobs, so that pushes are cheap in the mean; small ones grow by
/// their size classes alone, to stay small.
fn slack(bytes: usize) -> usize {
    if bytes > 512 { bytes / 8 } else { 0 }
}

/// The allocator's size class (jemalloc's: steps of 16 bytes to 128, then four to each doubling).
pub fn size_class(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.next_multiple_of(16);
    }
    let step = 1 << ((bytes - 1).ilog2() - 2);
    bytes.next_multiple_of(step)
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes)
        .expect("a blob is far below 4 GB: one element of at most 512 MB, or a node")
}

#[cfg(test)]
mod tests;
