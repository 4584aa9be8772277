//! A leaf of a big sorted set's order: pairs of score and member, sorted by score, then member. The scores lie apart from
//! the members, so that a search reads scores alone, and members only where scores are equal. It knows nothing of its tree.

use std::ops::ControlFlow;

use super::super::element::Element;
use super::super::segment::prefetch;
use super::leaf::{Cut, Visit};

/// What a pair takes besides its member's bytes.
const PAIR_BYTES: usize = size_of::<f64>() + size_of::<u32>();

/// Pairs in order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    scores: Vec<f64>,
    /// Where each member ends in `text`; it begins where the one before it ends.
    ends: Vec<u32>,
    text: Vec<u8>,
}

impl Page {
    /// How many pairs.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Bytes that the pairs take.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.len() * PAIR_BYTES
    }

    /// Bytes of memory held outside of it.
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.scores.capacity() * size_of::<f64>() + self.ends.capacity() * 4
    }

    /// The first pair's score; 0 if there is none.
    pub fn low(&self) -> f64 {
        self.scores.first().copied().unwrap_or_default()
    }

    /// The first pair's member.
    pub fn first_member(&self) -> Option<Element<'_>> {
        (!self.scores.is_empty()).then(|| Element::Bytes(self.member(0)))
    }

    /// Asks for its memory: nearly always a cache miss, and several at once take no longer than one.
    pub fn hint(&self) {
        const LINE: usize = 64;
        let scores = self.scores.as_ptr().cast::<u8>();
        let ends = self.ends.as_ptr().cast::<u8>();
        let text = self.text.as_ptr().wrapping_add(self.text.len() / 2);
        for line in 0..4 {
            prefetch(scores.wrapping_add(line * LINE));
        }
        for line in 0..2 {
            prefetch(ends.wrapping_add(line * LINE));
            prefetch(text.wrapping_add(line * LINE));
        }
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }

    fn member(&self, index: usize) -> &[u8] {
        &self.text[self.start(index)..self.ends[index] as usize]
    }

    /// How many pairs lie before the cut.
    pub fn partition(&self, cut: Cut<'_>) -> usize {
        let (mut low, mut high) = match cut {
            Cut::Pair(score, _) | Cut::AfterPair(score, _) => equal(&self.scores, score),
            _ => (0, self.len()),
        };
        while low < high {
            let middle = (low + high) / 2;
            let member = || Some(Element::Bytes(self.member(middle)));
            if cut.is_behind(self.scores[middle], member) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Adds a pair whose member isn't there; how many pairs are before it.
    pub fn insert(&mut self, score: f64, member: &[u8]) -> usize {
        let index = self.partition(Cut::Pair(score, member));
        self.put(index, score, member);
        index
    }

    fn put(&mut self, index: usize, score: f64, member: &[u8]) {
        // Of a zero the sign goes, as in a small sorted set.
        let score = score + 0.0;
        let at = self.start(index);
        make_room(&mut self.scores, 1);
        self.scores.insert(index, score);
        make_room(&mut self.ends, 1);
        self.ends.insert(index, at as u32);
        let bytes = u32::try_from(member.len()).expect("a bulk is at most 512 MB");
        for end in &mut self.ends[index..] {
            *end += bytes;
        }
        make_room(&mut self.text, member.len());
        let end = self.text.len();
        self.text.extend_from_slice(member);
        if at < end {
            self.text.copy_within(at..end, at + member.len());
            self.text[at..at + member.len()].copy_from_slice(member);
        }
    }

    /// Removes the pair of exactly that score and member; whether it was there.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let index = self.partition(Cut::Pair(score, member));
        if index == self.len() || self.member(index) != member {
            return false;
        }
        let at = self.start(index);
        self.scores.remove(index);
        self.ends.remove(index);
        for end in &mut self.ends[index..] {
            *end -= member.len() as u32;
        }
        self.text.copy_within(at + member.len().., at);
        self.text.truncate(self.text.len() - member.len());
        self.shrink();
        true
    }

    /// Cuts the pairs from an index on off.
    pub fn split_off(&mut self, index: usize) -> Page {
        let at = self.start(index);
        let scores = self.scores.split_off(index);
        let mut ends = self.ends.split_off(index);
        ends.iter_mut().for_each(|end| *end -= at as u32);
        let text = self.text.split_off(at);
        self.shrink();
        Page { scores, ends, text }
    }

    /// Puts all of `next`'s pairs behind its own.
    pub fn append(&mut self, next: &Page) {
        let before = self.text.len() as u32;
        self.scores.extend_from_slice(&next.scores);
        self.ends.extend(next.ends.iter().map(|end| end + before));
        self.text.extend_from_slice(&next.text);
    }

    /// Shows up to `left` pairs from the `skip`-th on, from either end, and counts them off.
    pub fn walk(
        &self,
        skip: usize,
        left: &mut usize,
        reverse: bool,
        visit: Visit<'_>,
    ) -> ControlFlow<()> {
        for step in skip..self.len() {
            if *left == 0 {
                break;
            }
            let index = if reverse { self.len() - 1 - step } else { step };
            *left -= 1;
            visit(Element::Bytes(self.member(index)), self.scores[index])?;
        }
        ControlFlow::Continue(())
    }

    /// Gives memory back if less than half of it is used.
    fn shrink(&mut self) {
        shrink(&mut self.scores);
        shrink(&mut self.ends);
        shrink(&mut self.text);
    }
}

/// The scores equal to one, as a range. They are few and in order, but all are compared: that is faster than a binary search,
/// whose every step would wait for the memory that the step before chose.
#[inline]
pub fn equal(scores: &[f64], score: f64) -> (usize, usize) {
    let low = scores.iter().filter(|other| **other < score).count();
    let same = scores[low..].iter().take_while(|other| **other == score);
    (low, low + same.count())
}

/// Makes room for that many more; grows by a quarter, not to twice, for there are many pages.
fn make_room<T>(vector: &mut Vec<T>, more: usize) {
    if vector.capacity() - vector.len() < more {
        vector.reserve_exact(more.max(vector.len() / 4).max(4));
    }
}

fn shrink<T>(vector: &mut Vec<T>) {
    if vector.len() * 2 + 8 <= vector.capacity() {
        vector.shrink_to(vector.len() + vector.len() / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(page: &Page) -> Vec<(f64, Vec<u8>)> {
        let (mut pairs, mut left) = (Vec::new(), usize::MAX);
        assert!(
            page.walk(0, &mut left, false, &mut |member, score| {
                pairs.push((score, member.to_vec()));
                ControlFlow::Continue(())
            })
            .is_continue()
        );
        pairs
    }

    #[test]
    fn pairs_keep_their_members_wherever_they_are_cut_and_joined() {
        let mut page = Page::default();
        let mut model = Vec::new();
        for number in 0..60_u32 {
            let member = vec![b'a' + (number * 7 % 26) as u8; (number % 9) as usize + 1];
            let score = f64::from(number * 37 % 11);
            page.insert(score, &member);
            model.push((score, member));
            model.sort_by(|one, other| one.partial_cmp(other).expect("no NaN"));
            assert_eq!(pairs(&page), model);
        }
        for index in 0..=model.len() {
            let mut left = page.clone();
            let right = left.split_off(index);
            assert_eq!(
                (pairs(&left), pairs(&right)),
                (model[..index].to_vec(), model[index..].to_vec())
            );
            left.append(&right);
            assert_eq!(pairs(&left), model);
        }
        while let Some((score, member)) = (!model.is_empty()).then(|| model.remove(model.len() / 3))
        {
            assert!(!page.remove(score + 0.5, &member));
            assert!(page.remove(score, &member));
            assert!(!page.remove(score, &member));
            assert_eq!(pairs(&page), model);
        }
        assert_eq!((page.bytes(), page.first_member()), (0, None));
    }
}
