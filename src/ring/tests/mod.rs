//! Tests that drive a whole [`Driver`]: the kernel's, and the simulated one with the same echo loop.

mod datagrams;
mod echo;
mod sim;
mod uring;

use super::{Completion, Driver, Op, Options, Uring, Wait, clock};

/// A ring, or nothing (with the reason printed) where io_uring is denied.
/// Under `tests/run` (`SOCKETLEY_JUDGES=required`) a denial fails the test.
fn ring(options: &Options) -> Option<Uring> {
    match Uring::new(options) {
        Ok(uring) => Some(uring),
        Err(error) => {
            let denied = ["denies", "no io_uring", "switched off", "reserved"];
            let is_denied = denied.iter().any(|word| error.message.contains(word));
            let may_skip = std::env::var_os("SOCKETLEY_JUDGES").is_none_or(|it| it != "required");
            assert!(is_denied && may_skip, "{error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Turns until `done` says so about all completions so far, ten seconds at most.
fn turn_until(
    driver: &mut dyn Driver,
    mut ops: Vec<Op>,
    mut done: impl FnMut(&[Completion]) -> bool,
) -> Vec<Completion> {
    let deadline_ns = clock::now().monotonic_ns + 10_000_000_000;
    let mut completions = Vec::new();
    while !done(&completions) {
        driver.turn(&mut ops, Wait::Until(deadline_ns), &mut completions).unwrap();
        let in_time = clock::now().monotonic_ns < deadline_ns;
        assert!(in_time || done(&completions), "nothing came: {completions:?}");
    }
    completions
}
