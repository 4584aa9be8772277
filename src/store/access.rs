//! What an entry remembers of its uses: 24 bits, either when it was last used (LRU) or how often lately (LFU).
//!
//! LRU: seconds, which wrap after 194 days; idle times up to that are right. LFU, as in Redis: 16 bits of minutes since
//! the counter was last looked at and 8 bits of a counter whose growth gets less likely as it grows, so that 255 stands for
//! a million uses; it loses one for every `decay_minutes` without a look.

use super::entry::{CLOCK_BITS, EntryMut};
use super::random::Random;

const CLOCK_MASK: u32 = (1 << CLOCK_BITS) - 1;
const COUNTER_BITS: u32 = 8;
const COUNTER_MAX: u32 = 255;
/// A new key's counter: not the first to go before it had a chance.
const COUNTER_NEW: u32 = 5;
const MINUTES_MASK: u32 = 0xffff;

/// How uses of keys are noted.
#[derive(Clone, Debug)]
pub struct AccessClock {
    now_ms: u64,
    /// The LRU clock of now.
    seconds: u32,
    /// LFU, or nothing is to be noted: not the usual way.
    special: bool,
    frequencies: bool,
    frozen: bool,
    log_factor: u32,
    decay_minutes: u32,
    random: Random,
}

impl AccessClock {
    /// LRU, at the epoch.
    pub fn new(seed: u64) -> AccessClock {
        AccessClock {
            now_ms: 0,
            seconds: 0,
            special: false,
            frequencies: false,
            frozen: false,
            log_factor: 10,
            decay_minutes: 1,
            random: Random::new(seed),
        }
    }

    /// Notes the time.
    pub fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.seconds = (now_ms / 1000) as u32 & CLOCK_MASK;
    }

    /// Chooses between LFU and LRU. What entries have noted so far is taken for the other kind until they are used again.
    pub fn set_frequencies(&mut self, on: bool, log_factor: u32, decay_minutes: u32) {
        self.frequencies = on;
        self.special = on || self.frozen;
        self.log_factor = log_factor;
        self.decay_minutes = decay_minutes;
    }

    /// Uses leave no trace while it is on (CLIENT NO-TOUCH).
    pub fn freeze(&mut self, on: bool) {
        self.frozen = on;
        self.special = on || self.frequencies;
    }

    /// Notes a use of an entry.
    #[inline]
    pub fn touch(&mut self, entry: &mut EntryMut<'_>) {
        if !self.special {
            return entry.touch(self.seconds);
        }
        self.touch_specially(entry);
    }

    #[cold]
    fn touch_specially(&mut self, entry: &mut EntryMut<'_>) {
        if !self.frozen {
            let counter = self.grown(self.frequency(entry.view().clock()));
            entry.touch(self.packed(counter));
        }
    }

    /// Notes that an entry is new.
    #[inline]
    pub fn begin(&self, entry: &mut EntryMut<'_>) {
        entry.touch(if self.frequencies { self.packed(COUNTER_NEW) } else { self.seconds });
    }

    /// Whether uses are counted (LFU), not timed (LRU).
    pub fn counts_uses(&self) -> bool {
        self.frequencies
    }

    /// Seconds since the use that `clock` notes.
    pub fn idle_seconds(&self, clock: u32) -> u32 {
        self.seconds.wrapping_sub(clock) & CLOCK_MASK
    }

    /// The clock of an entry that was last used so many seconds ago.
    pub fn clock_of_idle(&self, seconds: u64) -> u32 {
        self.seconds.wrapping_sub(seconds.min(u64::from(CLOCK_MASK)) as u32) & CLOCK_MASK
    }

    /// The clock of an entry with that LFU counter.
    pub fn clock_of_frequency(&self, counter: u8) -> u32 {
        self.packed(u32::from(counter))
    }

    /// The LFU counter in `clock`, with what it has lost since.
    pub fn frequency(&self, clock: u32) -> u32 {
        let counter = clock & COUNTER_MAX;
        let passed = self.minutes().wrapping_sub(clock >> COUNTER_BITS) & MINUTES_MASK;
        counter.saturating_sub(passed.checked_div(self.decay_minutes).unwrap_or(0))
    }

    fn grown(&mut self, counter: u32) -> u32 {
        let above = u64::from(counter.saturating_sub(COUNTER_NEW));
        let odds = above * u64::from(self.log_factor) + 1;
        let grows = counter < COUNTER_MAX && self.random.bits() <= u64::MAX / odds;
        counter + u32::from(grows)
    }

    fn packed(&self, counter: u32) -> u32 {
        self.minutes() << COUNTER_BITS | counter
    }

    fn minutes(&self) -> u32 {
        (self.now_ms / 60_000) as u32 & MINUTES_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::{EntryBox, Slot};

    const MINUTE: u64 = 60_000;

    fn used(clock: &mut AccessClock, slot: &mut Slot, times: usize) -> u32 {
        (0..times).for_each(|_| clock.touch(&mut slot.entry_mut()));
        clock.frequency(slot.entry().clock())
    }

    #[test]
    fn idle_times_are_right_for_months() {
        let mut clock = AccessClock::new(1);
        let day = 86_400_000;
        for start in [0, 12_345_000, u64::from(CLOCK_MASK) * 1000, 1_790_000_000_000] {
            clock.set_time(start);
            let mut slot = Slot::EMPTY;
            slot.fill(EntryBox::string(b"k", b"v", None), 0);
            clock.begin(&mut slot.entry_mut());
            for days in [0, 1, 7, 30, 190] {
                clock.set_time(start + days * day);
                let idle = clock.idle_seconds(slot.entry().clock());
                assert_eq!(u64::from(idle), days * 86_400, "{days} days after {start}");
            }
            assert_eq!(clock.idle_seconds(clock.clock_of_idle(1000)), 1000);
        }
    }

    /// The table in redis.conf: a factor of 10 reaches some 10 after 100 uses, 18 after 1,000, 142 after 100,000.
    #[test]
    fn the_counter_grows_like_a_logarithm_and_decays() {
        let mut clock = AccessClock::new(7);
        clock.set_time(1_790_000_000_000);
        clock.set_frequencies(true, 10, 1);
        let mut slot = Slot::EMPTY;
        slot.fill(EntryBox::string(b"k", b"v", None), 0);
        clock.begin(&mut slot.entry_mut());
        assert_eq!(used(&mut clock, &mut slot, 0), 5);
        for (times, expected) in [(100, 8..14), (900, 15..23), (99_000, 130..155)] {
            let counter = used(&mut clock, &mut slot, times);
            assert!(expected.contains(&counter), "{counter} after {times} more");
        }
        let counter = used(&mut clock, &mut slot, 0);
        clock.set_time(1_790_000_000_000 + 10 * MINUTE);
        assert_eq!(used(&mut clock, &mut slot, 0), counter - 10);
        clock.set_time(1_790_000_000_000 + 1000 * MINUTE);
        assert_eq!(used(&mut clock, &mut slot, 0), 0);
        clock.set_frequencies(true, 10, 0);
        assert_eq!(used(&mut clock, &mut slot, 0), counter, "no decay");
    }

    #[test]
    fn a_frozen_clock_notes_nothing() {
        let mut clock = AccessClock::new(1);
        let mut slot = Slot::EMPTY;
        slot.fill(EntryBox::string(b"k", b"v", None), 0);
        clock.set_time(5_000);
        clock.freeze(true);
        clock.touch(&mut slot.entry_mut());
        assert_eq!(slot.entry().clock(), 0);
        clock.freeze(false);
        clock.touch(&mut slot.entry_mut());
        assert_eq!(slot.entry().clock(), 5);
    }
}
