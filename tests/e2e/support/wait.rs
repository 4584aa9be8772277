//! The one place where tests wait: for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take to come true; generous, for machines with little to give.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `probe` finds something.
///
/// # Panics
/// When it takes longer than anyone would wait; `what` names it.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, probe).unwrap_or_else(|| panic!("waited {PATIENCE:?} for: {what}"))
}

/// Looks until `probe` finds something, or nothing if it doesn't in time.
#[allow(
    clippy::disallowed_methods,
    reason = "tests stand outside the program: the clock is theirs"
)]
pub fn until_within<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() > patience {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}
