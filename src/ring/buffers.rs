//! The receive buffers that the kernel picks from: a ring-mapped pool (`io_uring_register_buf_ring(3)`).
//!
//! The kernel owns a buffer from [`BufferPool::recycle`] until a completion names it; then the holder of the
//! [`Received`] owns it. Which of the two is written down per buffer and asserted, so safe code can't read memory
//! that the kernel is writing.
//!
//! The kernel takes buffers in the order in which they came back, so all that it has are used in turn: with many, each
//! read lands in memory that no cache holds any more. So it has only as many as lately were needed: twice as many when
//! they run low, half as many when half of them weren't touched for a while. The rest is withheld.

#![allow(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::Received;
use crate::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS_MIN, RECEIVE_BUFFERS_START};

/// The only buffer group.
pub(super) const GROUP: u16 = 0;

/// Must outlive the ring it is registered with.
pub(super) struct BufferPool {
    memory: Mapping,
    /// The kernel's ring of [`BufRingEntry`], as many as buffers.
    entries: Mapping,
    /// Where the next returned buffer goes; the kernel sees it as the ring's tail.
    tail: u16,
    /// Per buffer: bytes lent to a holder of a [`Received`], 0 while the kernel owns it.
    lent: Vec<u32>,
    /// Buffers that are with the kernel or withheld.
    free: usize,
    /// Buffers that aren't lent and that the kernel doesn't have.
    withheld: Vec<u16>,
    /// How many buffers aren't to be withheld.
    wanted: usize,
    /// The fewest that the kernel had since the count of [`BufferPool::returns`] began.
    fewest: usize,
    /// Buffers that came back in this period.
    returns: usize,
}

/// Buffers that come back, per wanted one, before it is decided whether fewer will do.
const PERIOD: usize = 64;

impl BufferPool {
    /// Maps and registers `wanted` buffers, or a half, a quarter ... of them when memory is short.
    pub(super) fn register(ring: &IoUring, wanted: usize) -> io::Result<BufferPool> {
        let mut count = wanted.next_power_of_two().clamp(RECEIVE_BUFFERS_MIN, 1 << 15);
        loop {
            match BufferPool::register_exactly(ring, count) {
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOMEM)
                        && count > RECEIVE_BUFFERS_MIN =>
                {
                    count /= 2;
                }
                outcome => return outcome,
            }
        }
    }

    fn register_exactly(ring: &IoUring, count: usize) -> io::Result<BufferPool> {
        let mut pool = BufferPool {
            memory: Mapping::new(count * RECEIVE_BUFFER_BYTES)?,
            entries: Mapping::new(count * size_of::<BufRingEntry>())?,
            tail: 0,
            lent: vec![0; count],
            free: count,
            withheld: (0..count as u16).rev().collect(),
            wanted: 0,
            fewest: 0,
            returns: 0,
        };
        let address = pool.entries.start.as_ptr() as u64;
        let submitter = ring.submitter();
        // SAFETY: `entries` is page-aligned, holds `count` entries, and stays mapped until the ring is gone: `Uring`
        // drops its ring first, and leaks the pool if the kernel may still use it.
        unsafe { submitter.register_buf_ring_with_flags(address, count as u16, GROUP, 0) }?;
        pool.want(count.min(RECEIVE_BUFFERS_START));
        Ok(pool)
    }

    /// How many buffers aren't lent, of how many.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.free, self.lent.len())
    }

    /// A completion named `buffer` with this many bytes in it; none: the buffer goes straight back.
    pub(super) fn take(&mut self, buffer: u16, bytes: u32) -> Option<Received> {
        assert_eq!(self.lent[usize::from(buffer)], 0, "the kernel filled a buffer it doesn't own");
        assert!(bytes as usize <= RECEIVE_BUFFER_BYTES, "the kernel wrote past a buffer");
        if bytes == 0 {
            self.provide(buffer);
            self.publish();
            return None;
        }
        self.lent[usize::from(buffer)] = bytes;
        self.free -= 1;
        let left = self.free - self.withheld.len();
        self.fewest = self.fewest.min(left);
        if left * 4 < self.wanted {
            self.grow();
        }
        Some(Received { buffer, start: 0, bytes })
    }

    /// The kernel has too few buffers.
    pub(super) fn grow(&mut self) {
        if self.wanted < self.lent.len() {
            self.want(self.wanted * 2);
        }
    }

    /// From now on `count` buffers are lent or with the kernel; those to spare are withheld when they come back.
    fn want(&mut self, count: usize) {
        while self.lent.len() - self.withheld.len() < count
            && let Some(buffer) = self.withheld.pop()
        {
            self.provide(buffer);
        }
        self.publish();
        (self.wanted, self.returns) = (count, 0);
        self.fewest = self.free - self.withheld.len();
    }

    /// What the kernel wrote.
    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        let lent = self.lent[usize::from(received.buffer)];
        let end = u64::from(received.start) + u64::from(received.bytes);
        assert!(end <= u64::from(lent), "this buffer was recycled");
        let offset = usize::from(received.buffer) * RECEIVE_BUFFER_BYTES + received.start as usize;
        // SAFETY: `lent` has an entry for this buffer and at most its size, so the offset is inside the mapping.
        let start = unsafe { self.memory.start.add(offset) };
        // SAFETY: the buffer is lent, so the kernel doesn't write to it until `recycle`, which needs `&mut self`; its
        // bytes were zeroed by mmap(2) or written by the kernel.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), received.bytes as usize) }
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn recycle(&mut self, received: Received) {
        let lent = std::mem::take(&mut self.lent[usize::from(received.buffer)]);
        assert!(lent > 0, "a buffer can be recycled once");
        self.free += 1;
        if self.lent.len() - self.withheld.len() > self.wanted {
            return self.withheld.push(received.buffer);
        }
        self.provide(received.buffer);
        self.publish();
        self.returns += 1;
        if self.returns >= self.wanted * PERIOD {
            let floor = self.lent.len().min(RECEIVE_BUFFERS_START);
            // Half of them must do without growing again at once.
            let halve = self.fewest * 8 > self.wanted * 5 && self.wanted > floor;
            self.want(if halve { self.wanted / 2 } else { self.wanted });
        }
    }

    /// Never unmaps the memory: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.memory.bytes = 0;
        self.entries.bytes = 0;
    }

    /// Puts a buffer at the ring's tail; the kernel sees it at the next [`BufferPool::publish`].
    fn provide(&mut self, buffer: u16) {
        let offset = usize::from(buffer) * RECEIVE_BUFFER_BYTES;
        let index = usize::from(self.tail) & (self.lent.len() - 1);
        // SAFETY: `index` is below the count of entries that were mapped.
        let slot = unsafe { self.entries.start.cast::<BufRingEntry>().add(index) };
        // SAFETY: the entry is mapped and aligned; the kernel doesn't read past the published tail, and no more than
        // `count` buffers are ever in the ring.
        let entry = unsafe { &mut *slot.as_ptr() };
        entry.set_addr(self.memory.start.as_ptr() as u64 + offset as u64);
        entry.set_len(RECEIVE_BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let first = self.entries.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: `first` is the first entry of the mapped ring; the tail lives in its reserved field.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: aligned, mapped as long as `self`, and from here on only accessed atomically by us and the kernel.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Private anonymous pages, zeroed.
struct Mapping {
    start: NonNull<u8>,
    /// 0: not to be unmapped.
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Mapping { start, bytes })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        // SAFETY: exactly what mmap(2) returned, and nobody keeps a pointer: the ring is gone (see `register_exactly`).
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(result, 0, "a mapping of ours can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does: it takes the next buffer and says how much it wrote.
    fn receive(pool: &mut BufferPool, turns: &mut u16) -> Received {
        let entries = pool.entries.start.cast::<BufRingEntry>();
        let index = usize::from(*turns) & (pool.lent.len() - 1);
        *turns = turns.wrapping_add(1);
        // SAFETY: `index` is below the count of mapped entries.
        let entry = unsafe { entries.add(index) };
        // SAFETY: mapped, aligned, and no kernel works on this ring meanwhile.
        let buffer = unsafe { entry.as_ref() }.bid();
        pool.take(buffer, 1).expect("a byte was written")
    }

    #[test]
    fn the_kernel_has_as_many_buffers_as_are_needed() {
        let Ok(ring) = IoUring::new(4) else { return };
        let mut pool = BufferPool::register(&ring, 1024).expect("16 MB of address space");
        let mut turns = 0;
        assert_eq!((pool.wanted, pool.counts()), (RECEIVE_BUFFERS_START, (1024, 1024)));
        // 200 connections at once: more are given before the last one is taken.
        let held: Vec<Received> = (0..200).map(|_| receive(&mut pool, &mut turns)).collect();
        assert_eq!((pool.wanted, pool.counts().0), (512, 824));
        assert_eq!(pool.free - pool.withheld.len(), 312);
        held.into_iter().for_each(|received| pool.recycle(received));
        // A few at a time again: half as many by and by, down to those of the start.
        for _ in 0..PERIOD * 2048 {
            let received = receive(&mut pool, &mut turns);
            pool.recycle(received);
        }
        assert_eq!((pool.wanted, pool.counts()), (RECEIVE_BUFFERS_START, (1024, 1024)));
        assert_eq!(pool.withheld.len(), 1024 - RECEIVE_BUFFERS_START);
        let mut seen: Vec<u16> = (0..1024).map(|_| receive(&mut pool, &mut turns).buffer).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((seen.len(), pool.counts().0), (1024, 0));
    }
}
