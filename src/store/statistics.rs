//! What a store counts: commands, errors, bytes, and the process's figures that INFO repeats.

use super::acl::Reason;
use super::commands::table;
use super::keyspace;

/// Kinds of errors told apart in INFO errorstats; more share the last row, as in Redis.
const ERROR_KINDS_MAX: usize = 128;

/// The counters of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCounter {
    /// Times it ran.
    pub calls: u64,
    /// Time spent, in nanoseconds: the batch's time shared out evenly over its commands.
    pub nanoseconds: u64,
    /// Refused before running (arity, authentication, readonly).
    pub rejected: u64,
    /// Ran and answered an error.
    pub failed: u64,
}

/// All counters of a store.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// By the command's index in the table.
    pub commands: Vec<CommandCounter>,
    /// Commands executed in all.
    pub total_commands: u64,
    /// Connections accepted in all.
    pub connections: u64,
    /// Bytes of requests.
    pub input_bytes: u64,
    /// Bytes of replies.
    pub output_bytes: u64,
    /// Pieces of requests that came from sockets.
    pub reads: u64,
    /// Runs of replies handed to sockets.
    pub writes: u64,
    /// Values that RESTORE has read, each checked to its last byte.
    pub payloads: u64,
    /// Error replies sent, in all.
    pub errors: u64,
    /// Error replies by their first word.
    pub error_kinds: Vec<(Vec<u8>, u64)>,
    /// Times that this replica has got all data, or only what it had missed.
    pub syncs: Syncs,
    /// What users weren't allowed.
    pub acl_denied: AclDenied,
    /// Commands of the last second, as [`Statistics::sample`] saw them.
    pub commands_per_second: u64,
    /// Kilobytes of requests in the last second.
    pub input_kbps: f64,
    /// Kilobytes of replies in the last second.
    pub output_kbps: f64,
    /// When the counters were last reset, in milliseconds since the epoch.
    pub reset_ms: u64,
    sampled: (u64, u64),
    sampled_bytes: (u64, u64),
    /// The keyspace's counters at the last reset; it counts on.
    lookups_before: keyspace::Statistics,
    /// Clients that were closed because all of them took too much memory.
    pub evicted_clients: u64,
    /// Values and tables that were freed without the store.
    pub freed_aside: u64,
}

/// How a replica has caught up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syncs {
    /// With a snapshot.
    pub full: u64,
    /// With the rest of the changes.
    pub partial: u64,
}

/// What users weren't allowed, by what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclDenied {
    /// Wrong passwords and names.
    pub authentication: u64,
    /// Commands.
    pub commands: u64,
    /// Keys.
    pub keys: u64,
    /// Channels.
    pub channels: u64,
}

impl AclDenied {
    /// One more.
    pub fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::Authentication => &mut self.authentication,
            Reason::Command => &mut self.commands,
            Reason::Key => &mut self.keys,
            Reason::Channel => &mut self.channels,
        } += 1;
    }
}

/// Figures of the whole process that the store itself can't know; zero until told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Bytes the allocator has handed out.
    pub allocated_bytes: u64,
    /// Bytes in active pages of the allocator.
    pub active_bytes: u64,
    /// Bytes of the process in memory.
    pub resident_bytes: u64,
    /// The largest `allocated_bytes` seen.
    pub peak_bytes: u64,
    /// The machine's memory.
    pub system_bytes: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// CPU time outside the kernel, in microseconds.
    pub user_us: u64,
    /// The process's number.
    pub id: u32,
}

impl Process {
    /// Memory of the process by memory in use; nothing while that isn't known.
    pub fn fragmentation(&self) -> Option<f64> {
        (self.allocated_bytes > 0).then(|| self.resident_bytes as f64 / self.allocated_bytes as f64)
    }
}

impl Statistics {
    /// All zero.
    pub fn new(now_ms: u64) -> Statistics {
        Statistics {
            commands: vec![CommandCounter::default(); table().len()],
            reset_ms: now_ms,
            sampled: (now_ms, 0),
            ..Statistics::default()
        }
    }

    /// CONFIG RESETSTAT; `lookups` are the keyspace's counters now.
    pub fn reset(&mut self, lookups: keyspace::Statistics, now_ms: u64) {
        *self = Statistics { lookups_before: lookups, ..Statistics::new(now_ms) };
    }

    /// What the keyspace counted since the last reset, when it has counted `now` in all.
    pub fn lookups_since_reset(&self, now: keyspace::Statistics) -> keyspace::Statistics {
        let before = self.lookups_before;
        keyspace::Statistics {
            hits: now.hits - before.hits,
            misses: now.misses - before.misses,
            expired: now.expired - before.expired,
            expired_members: now.expired_members - before.expired_members,
            evicted: now.evicted - before.evicted,
        }
    }

    /// A command begins.
    #[inline]
    pub fn count_call(&mut self, id: super::CommandId) {
        self.commands[id.index()].calls += 1;
        self.total_commands += 1;
    }

    /// Counts bytes of requests and the reads that brought them.
    pub fn count_input(&mut self, (bytes, reads): (u64, u64)) {
        self.input_bytes += bytes;
        self.reads += reads;
    }

    /// Counts the replies that one send takes along.
    pub fn count_output(&mut self, bytes: usize) {
        self.output_bytes += bytes as u64;
        self.writes += u64::from(bytes > 0);
    }

    /// Counts an error reply by its first word.
    pub fn count_error(&mut self, line: &[u8]) {
        self.errors += 1;
        let kind = line.split(|b| *b == b' ').next().unwrap_or_default();
        match self.error_kinds.iter().position(|(known, _)| known == kind) {
            Some(row) => self.error_kinds[row].1 += 1,
            None if self.error_kinds.len() < ERROR_KINDS_MAX => {
                self.error_kinds.push((kind.to_vec(), 1));
            }
            None => {}
        }
    }

    /// Takes back what [`Statistics::count_error`] counted.
    pub fn discount_error(&mut self, line: &[u8]) {
        self.errors = self.errors.saturating_sub(1);
        let kind = line.split(|b| *b == b' ').next().unwrap_or_default();
        if let Some((_, count)) = self.error_kinds.iter_mut().find(|(known, _)| known == kind) {
            *count = count.saturating_sub(1);
        }
    }

    /// Works out the rate of commands; called a few times a second.
    pub fn sample(&mut self, now_ms: u64) {
        let (then_ms, then_count) = self.sampled;
        let passed = now_ms.saturating_sub(then_ms);
        if passed < 1000 {
            return;
        }
        self.commands_per_second = (self.total_commands - then_count) * 1000 / passed;
        let rate = |bytes: u64| bytes as f64 / 1024.0 * 1000.0 / passed as f64;
        self.input_kbps = rate(self.input_bytes.saturating_sub(self.sampled_bytes.0));
        self.output_kbps = rate(self.output_bytes.saturating_sub(self.sampled_bytes.1));
        self.sampled_bytes = (self.input_bytes, self.output_bytes);
        self.sampled = (now_ms, self.total_commands);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_their_first_word_and_bounded() {
        let mut statistics = Statistics::new(0);
        statistics.count_error(b"ERR a");
        statistics.count_error(b"ERR b");
        statistics.count_error(b"WRONGTYPE c");
        assert_eq!(statistics.error_kinds, vec![(b"ERR".to_vec(), 2), (b"WRONGTYPE".to_vec(), 1)]);
        for kind in 0..1000 {
            statistics.count_error(format!("K{kind} x").as_bytes());
        }
        assert_eq!(statistics.error_kinds.len(), ERROR_KINDS_MAX);
        assert_eq!(statistics.errors, 1003);
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let mut statistics = Statistics::new(1_000);
        statistics.total_commands = 500;
        statistics.sample(1_500);
        assert_eq!(statistics.commands_per_second, 0);
        statistics.sample(2_000);
        assert_eq!(statistics.commands_per_second, 500);
        statistics.sample(4_000);
        assert_eq!(statistics.commands_per_second, 0);
    }
}
