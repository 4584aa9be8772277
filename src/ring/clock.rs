//! The only place that reads clocks. Everything else gets a [`Now`] as an argument.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Now;

static START: LazyLock<Instant> = LazyLock::new(instant);

/// Reads both clocks. The monotonic one is the same for all threads of the process and starts near an hour, so that
/// "an hour ago" is still a valid time.
pub fn now() -> Now {
    const START_NS: u64 = 3_600_000_000_000;
    Now {
        monotonic_ns: START_NS + instant().duration_since(*START).as_nanos() as u64,
        unix_ms: unix_ms(),
    }
}

/// The monotonic clock alone, for measuring: half of [`now`]'s cost.
pub fn monotonic_ns() -> u64 {
    instant().duration_since(*START).as_nanos() as u64
}

#[allow(clippy::disallowed_methods, reason = "this module is where clocks are read")]
fn instant() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "this module is where clocks are read")]
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward_and_agrees_between_threads() {
        let first = now();
        let second = std::thread::spawn(now).join().unwrap();
        let third = now();
        assert!(first.monotonic_ns <= second.monotonic_ns);
        assert!(second.monotonic_ns <= third.monotonic_ns);
        assert!(first.unix_ms > 1_700_000_000_000, "{first:?}");
    }
}
