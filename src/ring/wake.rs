//! Ends a ring's wait from another thread: an eventfd that the ring polls.
//!
//! Three states keep system calls rare: only a wake that finds the ring *asleep* writes to the eventfd. A wake while
//! it runs only leaves a note, which the ring reads before it would sleep; a second wake finds the note and does
//! nothing. The eventfd is never read: its poll reports each write, and 2^64 of them are out of reach.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Fd, Wake, socket};

const RUNNING: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

pub(super) struct EventWake {
    event: File,
    state: AtomicU8,
}

impl EventWake {
    pub(super) fn new() -> io::Result<EventWake> {
        Ok(EventWake { event: socket::event()?, state: AtomicU8::new(RUNNING) })
    }

    /// For the ring's poll.
    pub(super) fn fd(&self) -> Fd {
        Fd(self.event.as_raw_fd())
    }

    /// The ring is about to wait. False: don't, a wake is there.
    pub(super) fn sleep(&self) -> bool {
        let order = Ordering::SeqCst;
        self.state.compare_exchange(RUNNING, ASLEEP, order, order).is_ok()
    }

    /// The ring runs again. True: somebody called `wake` since the last time.
    pub(super) fn run(&self) -> bool {
        self.state.swap(RUNNING, Ordering::SeqCst) == WOKEN
    }
}

impl Wake for EventWake {
    fn wake(&self) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            let written = (&self.event).write_all(&1_u64.to_ne_bytes());
            debug_assert!(written.is_ok(), "an eventfd takes 2^64 wakes");
        }
    }
}
