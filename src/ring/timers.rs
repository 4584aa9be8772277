//! Many timers behind the one deadline that a loop turn waits for: a hierarchical wheel of milliseconds.
//!
//! Level L has 64 slots of 64^L ms. A timer sits on the level of the highest base-64 digit in which its deadline
//! differs from the wheel's time, in the slot of that digit: so the lowest occupied slot of the lowest occupied level
//! holds the earliest timers, and no slot ever wraps round. When the wheel's time reaches a slot of a higher level, its
//! timers are dealt again, each at least one level lower. Insert and cancel are O(1); a timer is dealt at most once
//! per level (11 in all, in practice three or four). Ids carry a generation, so a stale cancel hits nothing.
//!
//! Must not know: whose timers they are. Reads no clock.

use super::Now;

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Enough digits for any u64.
const LEVELS: usize = 64_usize.div_ceil(DIGIT_BITS as usize);
const NONE: u32 = u32::MAX;
const NS_PER_MS: u64 = 1_000_000;

/// Names one timer, for [`Timers::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

impl TimerId {
    /// As one number.
    pub fn bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`TimerId::bits`]; any number is safe to cancel.
    pub fn from_bits(bits: u64) -> TimerId {
        TimerId { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A set of timers, each with a value that [`Timers::expire`] hands back.
pub struct Timers<T> {
    entries: Vec<Entry<T>>,
    /// First entry of the list of unused ones.
    unused: u32,
    levels: Box<[Level; LEVELS]>,
    /// Bit L: level L holds something.
    occupied: u32,
    /// The wheel's time: everything due up to here (exclusive) has been handed out.
    elapsed_ms: u64,
    count: usize,
}

#[derive(Clone, Copy)]
struct Level {
    /// Bit S: slot S holds something.
    occupied: u64,
    slots: [Slot; SLOTS],
}

/// A doubly linked list of entries.
#[derive(Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
}

struct Entry<T> {
    /// Nothing while unused.
    value: Option<T>,
    deadline_ms: u64,
    generation: u32,
    previous: u32,
    next: u32,
    level: u8,
    slot: u8,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers::new()
    }
}

impl<T> Timers<T> {
    /// No timers.
    pub fn new() -> Timers<T> {
        let level = Level { occupied: 0, slots: [Slot { first: NONE, last: NONE }; SLOTS] };
        Timers {
            entries: Vec::new(),
            unused: NONE,
            levels: Box::new([level; LEVELS]),
            occupied: 0,
            elapsed_ms: 0,
            count: 0,
        }
    }

    /// How many timers are waiting.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a timer that expires `delay_ms` after `now`: never early, and less than a millisecond late.
    pub fn insert(&mut self, now: Now, delay_ms: u64, value: T) -> TimerId {
        let deadline_ms = now.monotonic_ns.div_ceil(NS_PER_MS).saturating_add(delay_ms);
        let index = self.allocate(deadline_ms.max(self.elapsed_ms), value);
        self.link(index);
        self.count += 1;
        TimerId { index, generation: self.entries[index as usize].generation }
    }

    /// Removes a timer and returns its value; nothing if it has expired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(id.index);
        self.count -= 1;
        Some(self.release(id.index))
    }

    /// Moves the values of all timers that are due at `now_ms` to `expired`, earlier deadlines first.
    pub fn expire(&mut self, now_ms: u64, expired: &mut Vec<T>) {
        while let Some((level, slot, start_ms)) = self.earliest() {
            if start_ms > now_ms {
                break;
            }
            self.elapsed_ms = start_ms;
            let mut index = self.take_slot(level, slot);
            while index != NONE {
                let next = self.entries[index as usize].next;
                if level == 0 {
                    self.count -= 1;
                    expired.push(self.release(index));
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.elapsed_ms = self.elapsed_ms.max(now_ms);
    }

    /// When to call [`Timers::expire`] next ([`Now::monotonic_ns`]): never after the earliest deadline, perhaps before it
    /// (then nothing expires and the next answer is nearer). Nothing if there are no timers.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.earliest().map(|(_, _, start_ms)| start_ms.saturating_mul(NS_PER_MS))
    }

    /// The slot that holds the earliest timer, and when that slot begins.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        if self.occupied == 0 {
            return None;
        }
        let level = self.occupied.trailing_zeros() as usize;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        let shift = level as u32 * DIGIT_BITS;
        let above = self.elapsed_ms.checked_shr(shift + DIGIT_BITS).unwrap_or(0);
        let above = above.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
        Some((level, slot, (above | (slot as u64) << shift).max(self.elapsed_ms)))
    }

    fn allocate(&mut self, deadline_ms: u64, value: T) -> u32 {
        if self.unused == NONE {
            let index =
                u32::try_from(self.entries.len()).expect("fewer than 2^32 timers fit in memory");
            self.entries.push(Entry {
                value: Some(value),
                deadline_ms,
                generation: 0,
                previous: NONE,
                next: NONE,
                level: 0,
                slot: 0,
            });
            return index;
        }
        let index = self.unused;
        let entry = &mut self.entries[index as usize];
        self.unused = entry.next;
        entry.value = Some(value);
        entry.deadline_ms = deadline_ms;
        index
    }

    fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.unused;
        self.unused = index;
        entry.value.take().expect("only waiting timers are released")
    }

    fn link(&mut self, index: u32) {
        let deadline_ms = self.entries[index as usize].deadline_ms;
        let differing = deadline_ms ^ self.elapsed_ms;
        let level = ((differing | 1).ilog2() / DIGIT_BITS) as usize;
        let slot = (deadline_ms >> (level as u32 * DIGIT_BITS)) as usize % SLOTS;
        let list = &mut self.levels[level].slots[slot];
        let previous = std::mem::replace(&mut list.last, index);
        if previous == NONE {
            list.first = index;
        } else {
            self.entries[previous as usize].next = index;
        }
        self.levels[level].occupied |= 1 << slot;
        self.occupied |= 1 << level;
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next) = (previous, NONE);
        (entry.level, entry.slot) = (level as u8, slot as u8);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { previous, next, level, slot, .. } = self.entries[index as usize];
        let (level, slot) = (usize::from(level), usize::from(slot));
        let list = &mut self.levels[level].slots[slot];
        if previous == NONE {
            list.first = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next == NONE {
            list.last = previous;
        } else {
            self.entries[next as usize].previous = previous;
        }
        if self.levels[level].slots[slot].first == NONE {
            self.take_slot(level, slot);
        }
    }

    /// Empties a slot and returns the first entry of what was its list.
    fn take_slot(&mut self, level: usize, slot: usize) -> u32 {
        let wheel = &mut self.levels[level];
        wheel.occupied &= !(1 << slot);
        if wheel.occupied == 0 {
            self.occupied &= !(1 << level);
        }
        std::mem::replace(&mut wheel.slots[slot], Slot { first: NONE, last: NONE }).first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::random::Random;
    use std::collections::BTreeMap;

    fn at(ms: u64) -> Now {
        Now { monotonic_ns: ms * NS_PER_MS, unix_ms: 0 }
    }

    #[test]
    fn a_timer_is_never_early() {
        let mut timers = Timers::new();
        let mut expired = Vec::new();
        timers.insert(Now { monotonic_ns: 1_500_000, unix_ms: 0 }, 10, "late");
        assert_eq!(timers.next_deadline_ns(), Some(12 * NS_PER_MS));
        timers.expire(11, &mut expired);
        assert!(expired.is_empty());
        timers.expire(12, &mut expired);
        assert_eq!(expired, ["late"]);
        assert_eq!((timers.len(), timers.next_deadline_ns()), (0, None));
    }

    #[test]
    fn zero_delay_expires_at_once_even_at_the_wheels_own_time() {
        let mut timers = Timers::new();
        let mut expired = Vec::new();
        timers.expire(1000, &mut expired);
        timers.insert(at(1000), 0, 1);
        timers.insert(at(5), 0, 2);
        assert_eq!(timers.next_deadline_ns(), Some(1000 * NS_PER_MS));
        timers.expire(1000, &mut expired);
        assert_eq!(expired, [1, 2]);
    }

    #[test]
    fn a_stale_id_cancels_nothing() {
        let mut timers = Timers::new();
        let old = timers.insert(at(0), 5, "old");
        assert_eq!(timers.cancel(old), Some("old"));
        let new = timers.insert(at(0), 5, "new");
        assert_eq!(timers.cancel(old), None);
        assert_eq!(timers.cancel(TimerId::from_bits(u64::MAX)), None);
        assert_eq!(timers.cancel(TimerId::from_bits(new.bits())), Some("new"));
        assert_eq!(timers.cancel(new), None);
    }

    #[test]
    fn the_farthest_delay_is_kept() {
        let mut timers = Timers::new();
        let mut expired = Vec::new();
        timers.insert(at(7), u64::MAX, "never");
        timers.expire(1 << 50, &mut expired);
        assert!(expired.is_empty() && timers.len() == 1);
        timers.expire(u64::MAX, &mut expired);
        assert_eq!(expired, ["never"]);
    }

    /// The same random history in the wheel and in a sorted map.
    #[test]
    fn behaves_like_a_sorted_map() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut timers = Timers::new();
            let mut model: BTreeMap<u64, (u64, TimerId)> = BTreeMap::new();
            let mut now_ms = random.below(1 << 40);
            for serial in 0..400 {
                match random.below(4) {
                    0 | 1 => {
                        let bits = random.below(30);
                        let delay_ms = random.below(1 << bits);
                        let id = timers.insert(at(now_ms), delay_ms, serial);
                        model.insert(serial, (now_ms + delay_ms, id));
                    }
                    2 => {
                        let victim = random.below(serial + 1);
                        let expected = model.remove(&victim);
                        if let Some((_, id)) = expected {
                            assert_eq!(timers.cancel(id), Some(victim), "seed {seed}");
                        }
                    }
                    _ => {
                        now_ms = advance(&mut random, &timers, now_ms);
                        expire_both(seed, now_ms, &mut timers, &mut model);
                    }
                }
                check_deadline(seed, &timers, &model);
                assert_eq!(timers.len(), model.len(), "seed {seed}");
            }
        }
    }

    fn advance(random: &mut Random, timers: &Timers<u64>, now_ms: u64) -> u64 {
        match timers.next_deadline_ns() {
            Some(deadline_ns) if random.chance(500) => now_ms.max(deadline_ns / NS_PER_MS),
            _ => now_ms + random.below(1 << 20),
        }
    }

    fn expire_both(
        seed: u64,
        now_ms: u64,
        timers: &mut Timers<u64>,
        model: &mut BTreeMap<u64, (u64, TimerId)>,
    ) {
        let mut expired = Vec::new();
        timers.expire(now_ms, &mut expired);
        let deadlines: Vec<u64> = expired.iter().map(|serial| model[serial].0).collect();
        assert!(deadlines.is_sorted(), "seed {seed}: {deadlines:?}");
        let mut due: Vec<u64> = Vec::new();
        model.retain(|serial, (deadline_ms, _)| {
            let waits = *deadline_ms > now_ms;
            if !waits {
                due.push(*serial);
            }
            waits
        });
        expired.sort_unstable();
        assert_eq!(expired, due, "seed {seed}");
    }

    fn check_deadline(seed: u64, timers: &Timers<u64>, model: &BTreeMap<u64, (u64, TimerId)>) {
        let earliest = model.values().map(|(deadline_ms, _)| *deadline_ms).min();
        match (timers.next_deadline_ns(), earliest) {
            (None, None) => {}
            (Some(deadline_ns), Some(earliest_ms)) => {
                assert!(deadline_ns <= earliest_ms * NS_PER_MS, "seed {seed}");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}
