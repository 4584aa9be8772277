//! The collections of a database whose members end by themselves, in the order in which the first of them do: so the
//! cycle that removes such members looks at nothing else, and a database without any pays one comparison.
//!
//! A key stands here with the bound that its collection keeps ([`earliest_of`]). Only [`Database`] changes such a bound,
//! here, and it moves the key along.

use std::collections::BTreeSet;

use super::CommandError;
use super::database::{Database, Gone};
use super::small::NEVER;
use super::table::Place;
use super::value::{Kind, ValueMut, ValueRef};

/// Keys by when their first member may end.
#[derive(Debug, Default)]
pub struct Deadlines {
    keys: BTreeSet<(u64, Box<[u8]>)>,
    /// When the first of all may end; [`NEVER`] if none does.
    next_ms: Next,
}

#[derive(Clone, Copy, Debug)]
struct Next(u64);

impl Default for Next {
    fn default() -> Next {
        Next(NEVER)
    }
}

/// No member of the collection ends before this; [`NEVER`] if none does or it's no collection with such members.
pub fn earliest_of(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Set(set) => set.earliest_ms(),
        ValueRef::Hash(hash) => hash.earliest_ms(),
        ValueRef::SortedSet(set) => set.earliest_ms(),
        _ => NEVER,
    }
}

impl Deadlines {
    /// When the first member of all may end.
    #[inline]
    pub fn next_ms(&self) -> u64 {
        self.next_ms.0
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no collection has members that end.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key whose member may end first, with its bound, if that may have happened at `now_ms`.
    pub fn due(&self, now_ms: u64) -> Option<(u64, &[u8])> {
        let (at_ms, key) = self.keys.first()?;
        (*at_ms <= now_ms).then_some((*at_ms, key))
    }

    /// Moves a key from one bound to another; [`NEVER`] is not to stand here.
    pub fn change(&mut self, key: &[u8], before_ms: u64, after_ms: u64) {
        if before_ms == after_ms {
            return;
        }
        if before_ms != NEVER {
            self.keys.remove(&(before_ms, Box::from(key)));
        }
        if after_ms != NEVER {
            self.keys.insert((after_ms, Box::from(key)));
        }
        self.next_ms = Next(self.keys.first().map_or(NEVER, |(at_ms, _)| *at_ms));
    }
}

impl Database {
    /// The place of a key whose members that have ended are removed; none if nothing is left.
    #[cold]
    pub(super) fn without_ended_members(&mut self, place: Place, now_ms: u64) -> Option<Place> {
        self.take_due_members(place, now_ms, usize::MAX);
        if self.remove_emptied(place) { None } else { Some(place) }
    }

    /// Removes members of a key that have ended, looking at about `budget` of them.
    fn take_due_members(&mut self, place: Place, now_ms: u64, budget: usize) {
        let before_ms = earliest_of(self.table.entry(place).value());
        if before_ms > now_ms {
            return;
        }
        let (key, kind) = match self.lost {
            Some(_) => (self.table.entry(place).key().to_vec(), self.table.entry(place).kind()),
            None => (Vec::new(), Kind::String),
        };
        let lost = &mut self.lost;
        let mut gone = |member: &[u8]| {
            if let Some(lost) = lost {
                lost.list.push(Gone::Member(kind, key.clone(), member.to_vec()));
            }
        };
        let (count, _more) = match self.table.entry_mut(place).into_value() {
            ValueMut::Set(set) => set.take_due(now_ms, budget, &mut gone),
            ValueMut::Hash(hash) => hash.take_due(now_ms, budget, &mut gone),
            ValueMut::SortedSet(set) => set.take_due(now_ms, budget, &mut gone),
            ValueMut::Other | ValueMut::List(_) | ValueMut::Stream(_) => (0, false),
        };
        self.statistics.expired_members += count as u64;
        let entry = self.table.entry(place);
        self.deadlines.change(entry.key(), before_ms, earliest_of(entry.value()));
    }

    /// Changes the deadlines of a collection's members; nothing without the key.
    pub fn change_deadlines<R>(
        &mut self,
        key: &[u8],
        hash: u64,
        now_ms: u64,
        change: impl FnOnce(ValueMut<'_>) -> Result<R, CommandError>,
    ) -> Result<Option<R>, CommandError> {
        let Some(place) = self.locate(key, hash, now_ms) else { return Ok(None) };
        let before_ms = earliest_of(self.table.entry(place).value());
        let result = change(self.table.entry_mut(place).into_value());
        let after_ms = earliest_of(self.table.entry(place).value());
        self.deadlines.change(key, before_ms, after_ms);
        self.remove_emptied(place);
        result.map(Some)
    }

    /// Removes members that have ended from the collections whose turn it is; true if there may be more to remove now.
    pub(super) fn expire_members(&mut self, now_ms: u64, budget: usize) -> bool {
        /// What looking at a collection costs, in members.
        const COLLECTION_COST: usize = 4;
        let mut left = budget;
        while let Some((at_ms, key)) = self.deadlines.due(now_ms) {
            if left == 0 {
                return true;
            }
            let key = key.to_vec();
            let place = self.table.locate(&key, self.table.hasher().hash(&key));
            let bound_ms =
                place.map_or(NEVER, |place| earliest_of(self.table.entry(place).value()));
            debug_assert_eq!(bound_ms, at_ms, "a key stands here with its collection's bound");
            // Were it otherwise, the cycle would still have to get past the key.
            self.deadlines.change(&key, at_ms, bound_ms);
            let before = self.statistics.expired_members;
            if let Some(place) = place {
                self.take_due_members(place, now_ms, left);
                self.remove_emptied(place);
            }
            let taken = (self.statistics.expired_members - before) as usize;
            left = left.saturating_sub(taken + COLLECTION_COST);
        }
        false
    }

    /// Notes that a key's collection goes away, to its end or to another key.
    #[inline]
    pub(super) fn forget_deadlines(&mut self, key: &[u8], value: ValueRef<'_>) {
        if !self.deadlines.is_empty() {
            self.deadlines.change(key, earliest_of(value), NEVER);
        }
    }
}
