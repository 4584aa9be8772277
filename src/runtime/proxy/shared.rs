//! What all workers and the control thread know of one backend: its state, and figures that choices rest on.
//!
//! Atomics, read and written without order between them: a choice may rest on figures that are a moment old. It lives
//! with the runtime's counters, so that a new placement, a reload or a reader from outside find the same one.
//! Must not know: connections, who writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::settings::Circuit;

/// What an operator has said of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// It serves.
    Up,
    /// It keeps what it has, and clients that stick to it; nobody else comes.
    Drain,
    /// Nothing new goes there.
    Maintenance,
}

impl Admin {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Admin::Up => "up",
            Admin::Drain => "drain",
            Admin::Maintenance => "maintenance",
        }
    }

    /// The reverse of [`Admin::name`].
    pub fn parse(name: &str) -> Option<Admin> {
        [Admin::Up, Admin::Drain, Admin::Maintenance].into_iter().find(|it| it.name() == name)
    }
}

/// One backend of one runtime, for all who ask.
#[derive(Debug, Default)]
pub struct Shared {
    admin: AtomicU8,
    /// Set from outside; 0 for the one that its fields give it.
    weight: AtomicU32,
    /// Active checks find it down.
    is_down: AtomicBool,
    /// Checks in a row that contradict that.
    contrary: AtomicU32,
    /// Failures in a row of what was sent there.
    failures: AtomicU32,
    /// It isn't asked until then, on the monotonic clock in milliseconds; 0 while it is.
    open_until_ms: AtomicU64,
    /// One request finds out whether it is back.
    is_probed: AtomicBool,
    /// Since when it has been back, for its slow start; 0 if it always was.
    since_ms: AtomicU64,
    in_flight: AtomicU32,
    requests: AtomicU64,
    errors: AtomicU64,
    retries: AtomicU64,
    /// How long its answers took to begin: the last ones weigh most, and a slow one at once.
    latency_us: AtomicU64,
}

/// A request or stream at a backend: counted there until it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Seat {
    /// Whose it is.
    pub fn shared(&self) -> &Shared {
        &self.0
    }
}

/// Whether a backend may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Good,
    /// Its circuit is open: it has failed too often.
    Open,
    /// By an operator or its checks it may not.
    Out,
}

impl Shared {
    /// Takes a place there; nothing if `most` are taken (0: no limit).
    pub fn take(self: &Arc<Shared>, most: u32) -> Option<Seat> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        let seat = Seat(Arc::clone(self));
        if most > 0 && before >= most {
            return None;
        }
        self.requests.fetch_add(1, Relaxed);
        Some(seat)
    }

    /// Requests and streams that are there now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Those ever, those that failed, those that were sent again elsewhere.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.requests.load(Relaxed), self.errors.load(Relaxed), self.retries.load(Relaxed))
    }

    /// A request is sent again elsewhere.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// How long its answers take to begin, in microseconds; 0 if there was none.
    pub fn latency_us(&self) -> u64 {
        self.latency_us.load(Relaxed)
    }

    /// What an operator has said.
    pub fn admin(&self) -> Admin {
        match self.admin.load(Relaxed) {
            0 => Admin::Up,
            1 => Admin::Drain,
            _ => Admin::Maintenance,
        }
    }

    /// An operator says.
    pub fn set_admin(&self, admin: Admin, now_ms: u64) {
        if admin == Admin::Up && self.admin() != Admin::Up {
            self.since_ms.store(now_ms, Relaxed);
            self.closed();
        }
        self.admin.store(admin as u8, Relaxed);
    }

    /// Its weight, if that isn't what its fields say.
    pub fn weight(&self) -> Option<u32> {
        Some(self.weight.load(Relaxed)).filter(|weight| *weight > 0)
    }

    /// Sets its weight; 0 for what its fields say.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether checks find it down.
    pub fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    /// Whether its circuit is open.
    pub fn is_open(&self) -> bool {
        self.open_until_ms.load(Relaxed) > 0
    }

    /// Since when it has been back.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Relaxed)
    }

    /// Whether it may be asked now.
    pub fn standing(&self, now_ms: u64) -> Standing {
        if self.admin() != Admin::Up || self.is_down() {
            return Standing::Out;
        }
        match self.open_until_ms.load(Relaxed) {
            0 => Standing::Good,
            until if now_ms >= until && !self.is_probed.load(Relaxed) => Standing::Good,
            _ => Standing::Open,
        }
    }

    /// It is asked: if its circuit was open, this request is the one that finds out.
    pub fn asked(&self, now_ms: u64) {
        let until = self.open_until_ms.load(Relaxed);
        if until > 0 && now_ms >= until {
            self.is_probed.store(true, Relaxed);
        }
    }

    /// It has answered.
    pub fn answered(&self, latency_us: u64) {
        if self.failures.load(Relaxed) > 0 || self.is_open() {
            self.closed();
        }
        let before = self.latency_us.load(Relaxed);
        let after = if latency_us >= before {
            latency_us
        } else {
            before - (before - latency_us).div_ceil(8)
        };
        self.latency_us.store(after.max(1), Relaxed);
    }

    fn closed(&self) {
        self.failures.store(0, Relaxed);
        self.open_until_ms.store(0, Relaxed);
        self.is_probed.store(false, Relaxed);
    }

    /// It has failed. Whether that has opened its circuit.
    pub fn failed(&self, circuit: Circuit, now_ms: u64) -> bool {
        self.errors.fetch_add(1, Relaxed);
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if circuit.failures == 0 {
            return false;
        }
        let was_open = self.is_open();
        if failures < circuit.failures && !was_open {
            return false;
        }
        self.open_until_ms.store(now_ms + circuit.open_ms, Relaxed);
        self.is_probed.store(false, Relaxed);
        !was_open
    }

    /// What a request that should find out whether it is back has come to nothing by itself (its client went away).
    pub fn unasked(&self) {
        self.is_probed.store(false, Relaxed);
    }

    /// A check has ended. `Some` if that changes what is known: whether it is up now.
    pub fn checked(&self, is_good: bool, rise: u32, fall: u32, now_ms: u64) -> Option<bool> {
        let is_down = self.is_down();
        if is_good != is_down {
            self.contrary.store(0, Relaxed);
            return None;
        }
        let contrary = self.contrary.fetch_add(1, Relaxed) + 1;
        if contrary < if is_good { rise } else { fall } {
            return None;
        }
        self.contrary.store(0, Relaxed);
        self.is_down.store(!is_good, Relaxed);
        if is_good {
            self.since_ms.store(now_ms, Relaxed);
            self.closed();
        }
        Some(is_good)
    }

    /// There are no checks any more: nothing is known against it.
    pub fn unchecked(&self) {
        self.is_down.store(false, Relaxed);
        self.contrary.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIRCUIT: Circuit = Circuit { failures: 3, open_ms: 1000 };

    /// The original's circuit opened after five good requests.
    #[test]
    fn a_circuit_opens_by_failures_in_a_row_and_one_request_closes_it() {
        let shared = Arc::new(Shared::default());
        for _ in 0..10 {
            shared.failed(CIRCUIT, 0);
            shared.failed(CIRCUIT, 0);
            shared.answered(5);
        }
        assert_eq!(shared.standing(0), Standing::Good);
        assert!(!shared.failed(CIRCUIT, 10) && !shared.failed(CIRCUIT, 10));
        assert!(shared.failed(CIRCUIT, 10));
        assert_eq!(shared.standing(1009), Standing::Open);
        assert_eq!(shared.standing(1010), Standing::Good);
        shared.asked(1010);
        assert_eq!(shared.standing(1010), Standing::Open, "one at a time finds out");
        assert!(!shared.failed(CIRCUIT, 1020), "it was open already");
        assert_eq!(shared.standing(2019), Standing::Open);
        shared.asked(2020);
        shared.answered(5);
        assert_eq!(shared.standing(2020), Standing::Good);
        let off = Circuit { failures: 0, open_ms: 1000 };
        assert!((0..100).all(|_| !shared.failed(off, 0)));
        assert_eq!(shared.standing(0), Standing::Good);
    }

    #[test]
    fn checks_change_their_mind_by_rise_and_fall() {
        let shared = Shared::default();
        let said: Vec<Option<bool>> =
            [false, false, true, false, false, false, true, false, true, true]
                .into_iter()
                .map(|good| shared.checked(good, 2, 3, 7))
                .collect();
        let mut expected = vec![None; 10];
        (expected[5], expected[9]) = (Some(false), Some(true));
        assert_eq!(said, expected);
        assert_eq!(shared.since_ms(), 7);
    }

    #[test]
    fn places_are_limited_and_come_back() {
        let shared = Arc::new(Shared::default());
        let seats = (shared.take(2), shared.take(2));
        assert!(seats.0.is_some() && seats.1.is_some() && shared.take(2).is_none());
        assert_eq!(shared.in_flight(), 2);
        drop(seats.0);
        assert!(shared.take(2).is_some());
        drop(seats.1);
        assert_eq!((shared.in_flight(), shared.counts().0), (0, 3));
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_fast_ones_by_and_by() {
        let shared = Shared::default();
        shared.answered(800);
        assert_eq!(shared.latency_us(), 800);
        shared.answered(0);
        assert_eq!(shared.latency_us(), 700);
        shared.answered(2000);
        assert_eq!(shared.latency_us(), 2000);
    }
}
