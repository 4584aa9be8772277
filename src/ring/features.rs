//! What the running kernel's io_uring can do beyond the floor (5.19), found once at start.
//!
//! Asked of the kernel itself, not of its version: distributions carry features back. Every feature has a lower path,
//! and tests take it by masking what was found.

use std::fmt;

use io_uring::{IoUring, Probe, opcode};

/// A set of optional kernel features.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u8);

struct Row {
    feature: Features,
    name: &'static str,
    since: &'static str,
}

const ROWS: [Row; 6] = [
    Row { feature: Features::MULTISHOT_ACCEPT, name: "multishot accept", since: "5.19" },
    Row { feature: Features::COOP_TASKRUN, name: "cooperative task running", since: "5.19" },
    Row { feature: Features::MULTISHOT_RECEIVE, name: "multishot receive", since: "6.0" },
    Row { feature: Features::SINGLE_ISSUER, name: "single issuer", since: "6.0" },
    Row { feature: Features::DEFER_TASKRUN, name: "deferred task running", since: "6.1" },
    Row { feature: Features::SQPOLL, name: "submission polling", since: "5.11" },
];

impl Features {
    /// One accept op reports many connections; without: one op each.
    pub const MULTISHOT_ACCEPT: Features = Features(1);
    /// One receive op reports many reads; without: one op each.
    pub const MULTISHOT_RECEIVE: Features = Features(2);
    /// `IORING_SETUP_COOP_TASKRUN`: completions don't interrupt the thread.
    pub const COOP_TASKRUN: Features = Features(4);
    /// `IORING_SETUP_SINGLE_ISSUER`: the kernel skips locks.
    pub const SINGLE_ISSUER: Features = Features(8);
    /// `IORING_SETUP_DEFER_TASKRUN`: completions are worked off in the turn's own wait.
    pub const DEFER_TASKRUN: Features = Features(16);
    /// A kernel thread takes submissions; only when asked for.
    pub const SQPOLL: Features = Features(32);
    /// None of them.
    pub const NONE: Features = Features(0);
    /// All of them.
    pub const ALL: Features = Features(63);

    /// Whether all of `other` is here.
    pub const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    pub const fn with(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// This set without `other`.
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// What is in both.
    pub const fn and(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// Every feature with its name, the kernel that brought it, and whether it is here: for `socketley info`.
    pub fn table(self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        ROWS.iter().map(move |row| (row.name, row.since, self.has(row.feature)))
    }

    /// The operations' features, by an op code that came with the same kernel version.
    pub(super) fn probe(ring: &IoUring) -> Features {
        let mut probe = Probe::new();
        if ring.submitter().register_probe(&mut probe).is_err() {
            return Features::NONE;
        }
        let mut found = Features::NONE;
        if probe.is_supported(opcode::Socket::CODE) {
            found = found.with(Features::MULTISHOT_ACCEPT);
        }
        if probe.is_supported(opcode::SendZc::CODE) {
            found = found.with(Features::MULTISHOT_RECEIVE);
        }
        found
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            self.table().filter(|(_, _, here)| *here).map(|(name, _, _)| name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_prints_its_names() {
        let two = Features::MULTISHOT_ACCEPT.with(Features::DEFER_TASKRUN);
        assert_eq!(two.to_string(), "multishot accept, deferred task running");
        assert_eq!(Features::NONE.to_string(), "none");
        assert_eq!(Features::ALL.without(two).and(two), Features::NONE);
        assert_eq!(Features::ALL.table().filter(|(_, _, here)| *here).count(), ROWS.len());
    }
}
