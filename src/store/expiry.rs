//! The cycle that removes expired keys nobody asks for.
//!
//! Each segment counts its expiring entries and keeps a time before which none of them ends, the table keeps the earliest
//! of those: so a table with nothing due costs one comparison, a segment with nothing due another, and only expiring
//! entries of the others are read. A sweep goes through the table in hash order and can stop after any segment.

use super::entry::EntryBox;
use super::table::{ExpiryBounds, SegmentedTable};

/// What looking at a segment without reading its entries costs, in entries.
const SEGMENT_COST: usize = 1;

impl<const BUCKETS: usize> SegmentedTable<BUCKETS> {
    /// Takes entries that have expired at `now_ms` out, reading about `budget` expiring entries; true if there may be more.
    pub fn take_expired(
        &mut self,
        now_ms: u64,
        budget: usize,
        mut taken: impl FnMut(EntryBox),
    ) -> bool {
        let mut left = budget;
        while self.expiry.count > 0 && self.expiry.earliest_ms <= now_ms {
            if left == 0 {
                return true;
            }
            let cost = self.sweep_segment(now_ms, &mut taken);
            left = left.saturating_sub(cost + SEGMENT_COST);
        }
        if self.expiry.count == 0 {
            self.expiry = ExpiryBounds::new();
        }
        false
    }

    /// Does one segment and moves on; how many entries it read.
    fn sweep_segment(&mut self, now_ms: u64, taken: &mut impl FnMut(EntryBox)) -> usize {
        let (index, segment) = self.segment_at(self.expiry.sweep_at);
        let mut read = 0;
        if let Some(earliest_ms) = segment.earliest_ms() {
            let mut remaining_ms = earliest_ms;
            if earliest_ms <= now_ms {
                (read, remaining_ms) = self.expire_segment(index, now_ms, taken);
                self.set_segment_earliest(index, remaining_ms);
            }
            self.expiry.sweep_earliest_ms = self.expiry.sweep_earliest_ms.min(remaining_ms);
        }
        match self.hash_after(index) {
            Some(hash) => self.expiry.sweep_at = hash,
            None => {
                self.expiry.sweep_at = 0;
                self.expiry.earliest_ms = self.expiry.sweep_earliest_ms;
                self.expiry.sweep_earliest_ms = u64::MAX;
            }
        }
        read
    }

    /// Removes a segment's expired entries; how many it read, and when the next one expires.
    fn expire_segment(
        &mut self,
        index: usize,
        now_ms: u64,
        taken: &mut impl FnMut(EntryBox),
    ) -> (usize, u64) {
        let (mut read, mut next_ms) = (0, u64::MAX);
        let due = self.places(index, |slot| {
            if !slot.expires() {
                return false;
            }
            read += 1;
            let at_ms = slot.entry().expires_ms().unwrap_or(u64::MAX);
            if at_ms > now_ms {
                next_ms = next_ms.min(at_ms);
            }
            at_ms <= now_ms
        });
        // Backwards: a removal moves only what lies behind it.
        due.into_iter().rev().for_each(|place| taken(self.remove_at(place)));
        (read, next_ms)
    }
}
