//! The sorted set value: pairs of member and score in one packed blob while it is small, then a table of scores and an
//! order with ranks. Knows nothing of keys, clients or replies.

mod leaf;
mod order;
mod page;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Hasher;
use super::element::Element;
use super::entry::{Entry, EntryBox};
use super::packed::Packed;
use super::random::{Random, selection};
use super::small::Small;
use super::table::Table;
use super::thresholds::Thresholds;
use super::value::{Value, ValueRef};
pub use leaf::{Cut, Visit};
use order::Order;

/// A sorted set.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Packed(Small),
    Big(Box<Big>),
}

/// Both halves hold the same members; a table's value is the score's bits.
#[derive(Clone, Debug)]
struct Big {
    table: Table,
    order: Order,
}

impl Default for Form {
    fn default() -> Form {
        Form::Packed(Small::default())
    }
}

/// Members with their scores, copied out of a sorted set.
pub type Pairs = Vec<(Vec<u8>, f64)>;

/// What [`SortedSet::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The member is new.
    Added,
    /// It was there with another score.
    Moved,
    /// It was there with that score.
    Same,
}

impl SortedSet {
    /// An empty one.
    pub fn new() -> SortedSet {
        SortedSet::default()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => leaf::len(packed),
            Form::Big(big) => big.table.len(),
        }
    }

    /// Whether there are none; such a key is removed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) => "listpack",
            Form::Big(_) => "skiplist",
        }
    }

    /// Heap bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Big(big) => {
                size_of::<Big>() + big.table.memory_bytes() + big.order.memory_bytes()
            }
        }
    }

    /// Whether it is one packed blob.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.form, Form::Packed(_))
    }

    /// Whether any member has a deadline.
    pub fn is_timed(&self) -> bool {
        match &self.form {
            Form::Packed(packed) => packed.is_timed(),
            Form::Big(big) => big.table.expiring() > 0,
        }
    }

    /// No member ends before this; it rises only by [`SortedSet::take_due`].
    #[inline]
    pub fn earliest_ms(&self) -> u64 {
        match &self.form {
            Form::Packed(packed) => packed.earliest_ms(),
            Form::Big(big) => big.table.earliest_ms(),
        }
    }

    /// When a member ends; the outer `None` if there is no such member.
    pub fn deadline(&self, text: &[u8]) -> Option<Option<u64>> {
        match &self.form {
            Form::Packed(packed) => {
                packed.find(Element::of(text), 2).map(|_| packed.deadline(text))
            }
            Form::Big(big) => {
                big.table.find(text, big.table.hasher().hash(text)).map(Entry::expires_ms)
            }
        }
    }

    /// Gives a member that is there a deadline, or none.
    pub fn set_deadline(&mut self, text: &[u8], at_ms: Option<u64>) {
        match &mut self.form {
            Form::Packed(packed) => packed.set_deadline(text, at_ms),
            Form::Big(big) => big.table.set_deadline(text, at_ms),
        }
    }

    /// Removes members that have ended, looking at about `budget` of them; how many, and whether there may be more.
    pub fn take_due(
        &mut self,
        now_ms: u64,
        budget: usize,
        gone: &mut dyn FnMut(&[u8]),
    ) -> (usize, bool) {
        match &mut self.form {
            Form::Packed(packed) => (packed.take_due(now_ms, 2, gone), false),
            Form::Big(big) => {
                let Big { table, order } = &mut **big;
                let before = table.len();
                let more = table.take_expired(now_ms, budget, |entry| {
                    let entry = entry.view();
                    gone(entry.key());
                    order.remove(score_in(entry), entry.key());
                });
                (before - table.len(), more)
            }
        }
    }

    /// The table of a big sorted set, for prefetching.
    pub fn table(&self) -> Option<&Table> {
        match &self.form {
            Form::Packed(_) => None,
            Form::Big(big) => Some(&big.table),
        }
    }

    /// The score of a member.
    #[inline]
    pub fn score(&self, text: &[u8]) -> Option<f64> {
        match &self.form {
            Form::Packed(packed) => {
                let at = packed.find(Element::of(text), 2)?;
                score_behind(packed, at)
            }
            Form::Big(big) => big.table.find(text, big.table.hasher().hash(text)).map(score_in),
        }
    }

    /// Gives a member that score, which isn't NaN.
    pub fn insert(
        &mut self,
        text: &[u8],
        score: f64,
        hasher: Hasher,
        thresholds: &Thresholds,
    ) -> Change {
        let packed = match &mut self.form {
            Form::Big(big) => return big.insert(text, score),
            Form::Packed(packed) => packed,
        };
        if let Some(at) = packed.find(Element::of(text), 2) {
            if score_behind(packed, at) == Some(score) {
                return Change::Same;
            }
            packed.remove(at, 2);
            leaf::insert(packed, score, text);
            return Change::Moved;
        }
        let long = text.len() > thresholds.sorted_set_value_bytes;
        if !long && leaf::len(packed) < thresholds.sorted_set_entries {
            leaf::insert(packed, score, text);
            return Change::Added;
        }
        let mut big = Big::of(std::mem::take(packed), hasher);
        let change = big.insert(text, score);
        self.form = Form::Big(Box::new(big));
        change
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, text: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(packed) => {
                let Some(at) = packed.find(Element::of(text), 2) else { return false };
                packed.remove(at, 2);
                packed.forget(text);
                packed.shrink();
                true
            }
            Form::Big(big) => big.remove(text),
        }
    }

    /// How many members lie before the cut.
    pub fn rank(&self, cut: Cut<'_>) -> usize {
        match &self.form {
            Form::Packed(packed) => leaf::partition(packed, cut).0,
            Form::Big(big) => big.order.rank(cut),
        }
    }

    /// Shows up to `count` members from the `skip`-th on, from either end.
    pub fn walk(
        &self,
        skip: usize,
        count: usize,
        reverse: bool,
        mut visit: impl FnMut(Element<'_>, f64) -> ControlFlow<()>,
    ) {
        match &self.form {
            Form::Packed(packed) => {
                let mut left = count;
                // Whether it was ended early is the visitor's own knowledge.
                let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
                    leaf::walk(packed, skip, &mut left, reverse, &mut visit);
            }
            Form::Big(big) => big.order.walk(skip, count, reverse, &mut visit),
        }
    }

    /// Shows all members in their order.
    pub fn for_each(&self, mut visit: impl FnMut(Element<'_>, f64)) {
        self.walk(0, usize::MAX, false, |member, score| {
            visit(member, score);
            ControlFlow::Continue(())
        });
    }

    /// A copy of up to `count` members from the `skip`-th on, from either end.
    pub fn range(&self, skip: usize, count: usize, reverse: bool) -> Pairs {
        let mut pairs = Vec::new();
        self.walk(skip, count, reverse, |member, score| {
            pairs.push((member.to_vec(), score));
            ControlFlow::Continue(())
        });
        pairs
    }

    /// Removes `count` members from the `skip`-th on.
    pub fn remove_range(&mut self, skip: usize, count: usize) {
        let doomed = match &mut self.form {
            Form::Packed(packed) if !packed.is_timed() => {
                if let Some(at) = packed.seek(skip * 2) {
                    packed.remove(at, count * 2);
                    packed.shrink();
                }
                return;
            }
            Form::Packed(_) | Form::Big(_) => self.range(skip, count, false),
        };
        for (text, _) in &doomed {
            self.remove(text);
        }
    }

    /// A member with its score, each as likely as the others.
    pub fn random(&self, random: &mut Random) -> Option<(Vec<u8>, f64)> {
        if self.is_empty() {
            return None;
        }
        self.range(random.below(self.len()), 1, false).pop()
    }

    /// `count` different members with their scores, or all; each choice about as likely as any other.
    pub fn sample(&self, count: usize, random: &mut Random) -> Pairs {
        // Few of many: drawn, and drawn again when drawn before.
        if count < self.len() / 3 {
            let mut drawn = BTreeMap::new();
            while drawn.len() < count {
                drawn.extend(self.random(random));
            }
            return drawn.into_iter().collect();
        }
        selection(self.range(0, usize::MAX, false).into_iter(), self.len(), count, random).collect()
    }

    /// Shows members and scores from `cursor` on and returns the next cursor; small sorted sets are shown at once.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(Element<'_>, f64)) -> u64 {
        match &self.form {
            Form::Packed(_) => {
                self.for_each(show);
                0
            }
            Form::Big(big) => big.table.scan(cursor, count, |entry| {
                show(Element::Bytes(entry.key()), score_in(entry));
            }),
        }
    }
}

impl Big {
    fn of(pairs: Small, hasher: Hasher) -> Big {
        let mut table = Table::new(hasher);
        let mut elements = pairs.iter();
        while let Some((member, score)) =
            elements.next().and_then(|member| Some((member, elements.next()?)))
        {
            let mut digits = itoa::Buffer::new();
            let text = member.text(&mut digits);
            table.insert(entry_of(text, leaf::score_of(score)), hasher.hash(text));
        }
        table.adopt_deadlines(&pairs);
        Big { table, order: Order::of(&pairs.into_packed()) }
    }

    fn insert(&mut self, text: &[u8], score: f64) -> Change {
        let hash = self.table.hasher().hash(text);
        let Some(place) = self.table.locate(text, hash) else {
            self.table.insert(entry_of(text, score), hash);
            self.order.insert(score, text);
            return Change::Added;
        };
        let before = score_in(self.table.entry(place));
        if before == score {
            return Change::Same;
        }
        self.order.hint(score);
        drop(self.table.entry_mut(place).set_integer(bits(score)));
        self.order.remove(before, text);
        self.order.insert(score, text);
        Change::Moved
    }

    fn remove(&mut self, text: &[u8]) -> bool {
        let Some(entry) = self.table.remove(text, self.table.hasher().hash(text)) else {
            return false;
        };
        self.order.remove(score_in(entry.view()), text);
        true
    }
}

fn score_behind(packed: &Packed, at: usize) -> Option<f64> {
    let (_, after) = packed.next(at)?;
    packed.next(after).map(|(score, _)| leaf::score_of(score))
}

fn entry_of(text: &[u8], score: f64) -> EntryBox {
    EntryBox::new(text, Value::Integer(bits(score)), None)
}

fn bits(score: f64) -> i64 {
    score.to_bits() as i64
}

fn score_in(entry: Entry<'_>) -> f64 {
    match entry.value() {
        ValueRef::Integer(bits) => f64::from_bits(bits as u64),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
