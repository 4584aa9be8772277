//! How many bytes a store has: the allocator's own sum of what its thread allocates and frees while it holds the store.
//!
//! jemalloc counts, per thread, every byte of every class it hands out and takes back; reading both numbers costs two
//! loads. The difference between the end and the start of a hold is what the hold added to the store, whatever it was:
//! entries, tables, collections, clients' rows, scripts. So nothing else needs to count, and nothing can be forgotten.
//! What is allocated in a hold and freed by others must be said: [`outside`]. Without jemalloc all figures are 0.

use std::cell::Cell;

use super::entry::class_bytes;
use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};
use tikv_jemalloc_ctl::{Access, AsName, arenas};

thread_local! {
    static COUNTERS: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> = counters();
    /// What was allocated in holds for somebody else.
    static OUTSIDE: Cell<i64> = const { Cell::new(0) };
}

fn counters() -> Option<(ThreadLocal<u64>, ThreadLocal<u64>)> {
    if cfg!(miri) {
        return None;
    }
    Some((allocatedp::read().ok()?, deallocatedp::read().ok()?))
}

/// Bytes that this thread has allocated and not freed; below zero where it frees what others allocated.
#[inline]
pub fn balance() -> i64 {
    COUNTERS.with(|counters| {
        counters.map_or(0, |(allocated, freed)| allocated.get().wrapping_sub(freed.get()) as i64)
    })
}

/// Runs `work`; what it allocates or frees isn't the held store's: replies, messages for other threads.
pub fn outside<R>(work: impl FnOnce() -> R) -> R {
    let before = balance();
    let result = work();
    exclude(balance() - before);
    result
}

/// Says that so many of the bytes allocated since the hold began aren't the store's.
#[inline]
pub fn exclude(bytes: i64) {
    OUTSIDE.with(|sum| sum.set(sum.get() + bytes));
}

/// The bytes that an allocation of so many takes: classes of [`class_bytes`] up to 14 KB, then whole pages.
#[inline]
pub fn allocation_bytes(bytes: usize) -> i64 {
    const SMALL_MAX: usize = 14 * 1024;
    const PAGE: usize = 4096;
    match bytes {
        0 => 0,
        1..=SMALL_MAX => class_bytes(bytes) as i64,
        _ => bytes.next_multiple_of(PAGE) as i64,
    }
}

#[inline]
fn own_balance() -> i64 {
    balance() - OUTSIDE.with(Cell::get)
}

/// Gives pages that hold nothing back to the kernel at once, of all arenas. It takes time: not while a store is held.
///
/// An arena's `purge` takes no value, which the safe interface can't say; a decay time of none, for a moment, does the same.
pub fn purge() {
    let name = |arena: u32| format!("arena.{arena}.dirty_decay_ms\0").into_bytes();
    for arena in 0..arenas::narenas::read().unwrap_or_default() {
        let name = name(arena);
        // An arena that nobody has used yet has none.
        if let Ok(decay_ms) = Access::<isize>::read(name.name()) {
            name.name().write(0_isize).ok();
            name.name().write(decay_ms).ok();
        }
    }
}

/// One store's sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Of all holds that ended.
    settled: i64,
    /// The thread's balance when the present hold began.
    start: i64,
    /// What others still have to free; it counts as used until they have.
    pub garbage_bytes: u64,
}

impl Meter {
    /// A hold begins on this thread.
    pub fn start(&mut self) {
        self.start = own_balance();
    }

    /// It ends.
    pub fn settle(&mut self) {
        self.settled += own_balance() - self.start;
        self.start = own_balance();
    }

    /// The store's bytes now. Only between [`Meter::start`] and [`Meter::settle`], on that thread.
    #[inline]
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.settled + own_balance() - self.start).unwrap_or(0)
    }

    /// Somebody without the store freed (below zero) or allocated so many of its bytes.
    pub fn add(&mut self, bytes: i64) {
        self.settled += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_in_holds_counts_but_for_what_is_excluded() {
        let mut meter = Meter::default();
        let foreign = vec![0_u8; 5000];
        meter.start();
        let kept = vec![0_u8; 100_000];
        assert_eq!(meter.bytes(), 102_400, "whole pages for 100,000 bytes");
        let reply = outside(|| vec![0_u8; 1 << 20]);
        assert_eq!(meter.bytes(), 102_400);
        meter.settle();
        drop((foreign, reply));
        meter.start();
        assert_eq!(meter.bytes(), 102_400);
        drop(kept);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn free_pages_are_given_back() {
        // An arena of its own, whose pages wait for ever: no other test and no time takes part.
        let arena = Access::<u32>::read(b"arenas.create\0".name()).expect("an arena is made");
        b"thread.arena\0".name().write(arena).expect("it is this thread's");
        let decay_ms = format!("arena.{arena}.dirty_decay_ms\0").into_bytes();
        decay_ms.name().write(-1_isize).expect("its pages wait");
        let dirty_pages = || -> usize {
            tikv_jemalloc_ctl::epoch::advance().expect("figures are gathered");
            let name = format!("stats.arenas.{arena}.pdirty\0").into_bytes();
            Access::<usize>::read(name.name()).expect("it counts")
        };
        drop(std::hint::black_box(vec![vec![1_u8; 1 << 20]; 64]));
        assert!(dirty_pages() > 8_000, "{} pages wait", dirty_pages());
        purge();
        assert!(dirty_pages() < 100, "{} pages are left", dirty_pages());
    }

    #[test]
    fn the_allocators_classes_are_known() {
        let sizes = (1..4000).chain((4000..3_000_000).step_by(977)).chain([14_336, 14_337, 16_384]);
        for bytes in sizes {
            let before = balance();
            let block: Vec<u8> = Vec::with_capacity(bytes);
            let taken = balance() - before;
            // Blocks of 8 bytes have a class of their own.
            assert!(taken == allocation_bytes(bytes) || bytes <= 8, "{bytes}: {taken}");
            drop(block);
        }
    }

    #[test]
    fn threads_add_up() {
        let mut meter = Meter::default();
        let blocks: Vec<Vec<u8>> = (0..4)
            .map(|_| {
                let spawned = std::thread::spawn(move || {
                    meter.start();
                    let block = vec![1_u8; 4096];
                    meter.settle();
                    (meter, block)
                });
                let (after, block) = spawned.join().expect("the thread only allocates");
                meter = after;
                block
            })
            .collect();
        meter.start();
        assert_eq!((meter.bytes(), blocks.len()), (4 * 4096, 4));
    }
}
