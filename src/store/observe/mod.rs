//! What is remembered of slow commands: the slow log, the latency monitor's events, and histograms of times.
//!
//! Time comes from the caller of a batch, once around it and around those commands alone that can be slow (their row says
//! so, or they brought much). So an ordinary command is never timed by itself; its share of the batch goes into its
//! histogram.

pub mod histogram;
pub mod latency;
pub mod slow_log;

use super::commands::CommandId;
use super::instance::Instance;
use super::{Args, Session};
pub use histogram::Histogram;
pub use latency::Latency;
pub use slow_log::SlowLog;

/// A command that brought more arguments than this is timed whatever it is.
pub const ARGUMENTS_TIMED: usize = 64;
/// The same for the bytes of its last argument.
pub const ARGUMENT_BYTES_TIMED: u32 = 64 * 1024;
/// Below this threshold of the slow log, in microseconds, every command is timed.
const EVERY_BELOW_US: i64 = 1000;

/// All of it.
#[derive(Debug, Default)]
pub struct Observed {
    /// SLOWLOG.
    pub slow_log: SlowLog,
    /// LATENCY.
    pub latency: Latency,
    /// By the command's index; made when it first ran.
    pub histograms: Vec<Option<Box<Histogram>>>,
    /// Of the running batch: nanoseconds of commands that were timed by themselves, and how many they were.
    pub timed: (u64, u64),
}

impl Observed {
    /// Adds `count` runs of a command that took `nanoseconds` each.
    pub fn count(&mut self, id: CommandId, nanoseconds: u64, count: u64) {
        if self.histograms.len() <= id.index() {
            self.histograms.resize_with(id.index() + 1, || None);
        }
        self.histograms[id.index()].get_or_insert_default().add(nanoseconds, count);
    }
}

impl Instance {
    /// Whether every command is to be timed.
    #[inline]
    pub fn times_all(&self) -> bool {
        (0..EVERY_BELOW_US).contains(&self.config.slowlog_slower_than_us)
    }

    /// A command was timed.
    pub fn on_timed(
        &mut self,
        session: &Session,
        id: CommandId,
        args: Args<'_>,
        (nanoseconds, now_ms): (u64, u64),
    ) {
        let Some(counter) = self.statistics.commands.get_mut(id.index()) else { return };
        counter.nanoseconds += nanoseconds;
        self.observed.timed.0 += nanoseconds;
        self.observed.timed.1 += 1;
        if self.config.latency_tracking {
            self.observed.count(id, nanoseconds, 1);
        }
        // What it executes is logged, each command by itself.
        if super::table().row(id).name != "exec" {
            self.on_slow(session, id, args, (nanoseconds, now_ms));
        }
    }

    /// A command of a transaction was timed.
    pub fn on_timed_inside(
        &mut self,
        session: &Session,
        id: CommandId,
        args: Args<'_>,
        (nanoseconds, now_ms): (u64, u64),
    ) {
        let Some(counter) = self.statistics.commands.get_mut(id.index()) else { return };
        counter.nanoseconds += nanoseconds;
        if self.config.latency_tracking {
            self.observed.count(id, nanoseconds, 1);
        }
        self.on_slow(session, id, args, (nanoseconds, now_ms));
    }

    /// Puts a command that took long into the slow log and among the latency monitor's events.
    pub fn on_slow(
        &mut self,
        session: &Session,
        id: CommandId,
        args: Args<'_>,
        (nanoseconds, now_ms): (u64, u64),
    ) {
        let us = nanoseconds / 1000;
        let slow_us = self.config.slowlog_slower_than_us;
        if slow_us >= 0 && us >= slow_us as u64 {
            let address = self.clients.of(session).map_or("", |client| &client.address);
            let limit = self.config.slowlog_len;
            self.observed.slow_log.add((id, args), us, (address, &session.name), (now_ms, limit));
        }
        let threshold_ms = self.config.latency_threshold_ms;
        if threshold_ms > 0 && us / 1000 >= threshold_ms {
            let fast = super::table().row(id).flags.has(super::commands::Flags::FAST);
            let event = if fast { "fast-command" } else { "command" };
            self.observed.latency.add(event, us / 1000, now_ms);
        }
    }
}
