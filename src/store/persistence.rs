//! What a store knows of its being kept on disk: what is wanted, how the last attempts went, what INFO says.
//!
//! Commands ask here (BGSAVE sets a wish), whoever keeps the store on disk looks here under the lock and writes down how
//! it went. Must not know: files.

use std::sync::Arc;

use super::commands::{Command, Flags};
use super::feed::write_command;
use super::instance::{Attention, Instance};
use super::reloading::Reload;
use super::replay::Replay;
use super::{CommandError, Store};

/// When the append log is forced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before each reply.
    Always,
    /// Once a second.
    #[default]
    EverySecond,
    /// When the kernel likes.
    Never,
}

impl Sync {
    /// As CONFIG spells them.
    pub const NAMES: [&'static str; 3] = ["everysec", "always", "no"];

    /// All with their names.
    pub const WORDS: [(&'static str, Sync); 3] =
        [("everysec", Sync::EverySecond), ("always", Sync::Always), ("no", Sync::Never)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Sync::EverySecond => "everysec",
            Sync::Always => "always",
            Sync::Never => "no",
        }
    }

    /// The one of that place in [`Sync::NAMES`].
    pub fn of_index(index: usize) -> Sync {
        [Sync::EverySecond, Sync::Always, Sync::Never][index]
    }
}

/// How a cache is kept on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persist {
    /// Not at all.
    #[default]
    None,
    /// As a snapshot now and then, and when it stops.
    Snapshot,
    /// As a log of all changes.
    Aof,
}

impl Persist {
    /// All with their names.
    pub const NAMES: [(&'static str, Persist); 3] =
        [("none", Persist::None), ("snapshot", Persist::Snapshot), ("aof", Persist::Aof)];
}

/// Save if that many changes were made and that many seconds have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveRule {
    pub seconds: u64,
    pub changes: u64,
}

/// How far the data are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// There is nothing to load, or all is.
    #[default]
    Done,
    /// So many bytes of so many are read.
    Running { read: u64, total: u64 },
    /// It failed, and nothing is served; what is wrong, and what to do.
    Failed(String),
}

/// A store's state on disk.
#[derive(Default)]
pub struct Persistence {
    /// Somebody keeps it on disk: called, without the store, when there is something to do.
    pub keeper: Option<Arc<dyn Fn() + Send + std::marker::Sync>>,
    /// The keeper is to be called at the end of the hold.
    pub(super) is_called: bool,
    /// Loading.
    pub load: Load,
    /// Keys of the last load, and those that had expired.
    pub loaded: (u64, u64),
    /// A snapshot is wanted.
    pub save_wanted: bool,
    /// Who waits for a snapshot to be written (SAVE).
    pub(super) savers: Vec<u64>,
    /// The data are to be loaded again (DEBUG RELOAD, DEBUG LOADAOF).
    pub reload: Option<Reload>,
    /// The append log is to be written anew.
    pub rewrite_wanted: bool,
    /// A snapshot is being written since then.
    pub saving_since_ms: Option<u64>,
    /// The log is being rewritten since then.
    pub rewriting_since_ms: Option<u64>,
    /// When the data were last saved, in milliseconds since the epoch.
    pub last_save_ms: Option<u64>,
    /// Snapshots written.
    pub saves: u64,
    /// What `dirty` was then.
    pub dirty_at_save: u64,
    /// How long the last one took, in milliseconds, and the most memory that it needed.
    pub last_save_took_ms: Option<u64>,
    pub last_save_extra_bytes: u64,
    /// Why the last snapshot failed.
    pub save_error: Option<String>,
    /// The same of rewrites.
    pub last_rewrite_took_ms: Option<u64>,
    pub last_rewrite_extra_bytes: u64,
    pub rewrite_error: Option<String>,
    pub rewrites: u64,
    /// The log is written.
    pub logs: bool,
    /// Why it can't be written at the moment.
    pub log_error: Option<String>,
    /// Its bytes in all, and after the last rewrite.
    pub log_bytes: u64,
    pub log_base_bytes: u64,
    /// Bytes that wait to be written.
    pub log_buffer_bytes: u64,
}

impl Persistence {
    /// Somebody keeps the store on disk.
    pub fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    /// Has the keeper look when the store isn't held any more.
    pub fn call(&mut self) {
        self.is_called = self.keeper.is_some();
    }

    /// The keeper, if it is to be called now.
    pub(super) fn take_call(&mut self) -> Option<Arc<dyn Fn() + Send + std::marker::Sync>> {
        std::mem::take(&mut self.is_called).then(|| self.keeper.clone()).flatten()
    }

    /// What is wrong, if anything is.
    pub fn error(&self) -> Option<String> {
        match &self.load {
            Load::Failed(reason) => Some(reason.clone()),
            _ => self.log_error.clone().or_else(|| self.save_error.clone()),
        }
    }

    /// Why writing commands are refused, if they are.
    pub fn refusal(&self, stop_on_save_error: bool) -> Option<String> {
        let failed = match (&self.log_error, &self.save_error) {
            (Some(error), _) => {
                format!("MISCONF Errors writing to the AOF file: {error}")
            }
            (None, Some(_)) if stop_on_save_error => {
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands \
                 that may modify the data set are disabled, because this instance is configured to report errors during \
                 writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
                 details about the RDB error."
                    .to_owned()
            }
            _ => return None,
        };
        Some(failed)
    }
}

/// Redis's `save` parameter: pairs of seconds and changes.
pub fn parse_rules(text: &[u8]) -> Option<Vec<SaveRule>> {
    let text = std::str::from_utf8(text).ok()?;
    let numbers: Option<Vec<u64>> =
        text.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0)?;
    let pairs = numbers.chunks(2);
    let rules: Vec<SaveRule> =
        pairs.map(|pair| SaveRule { seconds: pair[0], changes: pair[1] }).collect();
    rules.iter().all(|rule| rule.seconds > 0).then_some(rules)
}

/// The same as text.
pub fn rules_text(rules: &[SaveRule]) -> String {
    let pairs = rules.iter().map(|rule| format!("{} {}", rule.seconds, rule.changes));
    pairs.collect::<Vec<_>>().join(" ")
}

/// How a snapshot or rewrite went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Changes there were before its picture.
    pub dirty: u64,
    pub took_ms: u64,
    /// Memory that it needed besides the data.
    pub extra_bytes: u64,
}

impl Store {
    /// How far the data are loaded; until they are, commands that don't say so are refused.
    pub fn set_load(&mut self, load: Load) {
        self.instance.attention.set(Attention::LOADING, load != Load::Done);
        self.instance.persistence.load = load;
    }

    /// Why the append log can't be written; writing commands are refused meanwhile.
    pub fn set_log_error(&mut self, error: Option<String>) {
        self.instance.persistence.log_error = error;
        self.instance.note_refusal();
    }

    /// Whether a snapshot is wanted, by a client or by a rule.
    pub fn is_save_due(&self) -> bool {
        let (persistence, now_ms) = (&self.instance.persistence, self.now_ms);
        let since_ms = persistence.last_save_ms.unwrap_or(self.instance.started_ms);
        let passed_ms = now_ms.saturating_sub(since_ms);
        let changes = self.keyspace.dirty.saturating_sub(persistence.dirty_at_save);
        let is_due = |rule: &SaveRule| {
            changes > 0 && changes >= rule.changes && passed_ms >= rule.seconds.saturating_mul(1000)
        };
        persistence.save_wanted || self.instance.config.save_rules.iter().any(is_due)
    }

    /// Whether there has to be a log: always, or while it is rewritten for somebody.
    pub fn wants_log(&self) -> bool {
        let persistence = &self.instance.persistence;
        let is_rewritten = persistence.rewrite_wanted || persistence.rewriting_since_ms.is_some();
        self.instance.config.append_only || is_rewritten
    }

    /// Whether the log is to be written anew, because somebody wants it or because it has grown.
    pub fn is_rewrite_due(&self) -> bool {
        let (persistence, config) = (&self.instance.persistence, &self.instance.config);
        let percentage = u128::from(config.rewrite_percentage);
        let grown = u128::from(persistence.log_base_bytes.max(1)) * (100 + percentage);
        let bytes = persistence.log_bytes;
        let is_long =
            percentage > 0 && bytes >= config.rewrite_bytes_min && u128::from(bytes) * 100 >= grown;
        persistence.logs && (persistence.rewrite_wanted || is_long)
    }

    /// Whether something has changed since the last snapshot, and snapshots are wanted at all.
    pub fn has_unsaved_changes(&self) -> bool {
        let changed = self.keyspace.dirty != self.instance.persistence.dirty_at_save;
        let wanted =
            !self.instance.config.append_only || !self.instance.config.save_rules.is_empty();
        changed && wanted
    }

    /// A snapshot (or base) begins.
    pub fn save_begins(&mut self, is_base: bool, now_ms: u64) {
        let persistence = &mut self.instance.persistence;
        if is_base {
            persistence.rewriting_since_ms = Some(now_ms);
            persistence.rewrite_wanted = false;
        } else {
            persistence.saving_since_ms = Some(now_ms);
            persistence.save_wanted = false;
        }
    }

    /// It was ended by a command that took the data away, and is still wanted.
    pub fn save_begins_anew(&mut self, is_base: bool) {
        let persistence = &mut self.instance.persistence;
        if is_base {
            persistence.rewriting_since_ms = None;
            persistence.rewrite_wanted = true;
        } else {
            persistence.saving_since_ms = None;
            persistence.save_wanted = true;
        }
    }

    /// It is over. Whoever waits for a snapshot is told.
    pub fn save_ends(&mut self, is_base: bool, result: Result<Saved, String>, now_ms: u64) {
        let persistence = &mut self.instance.persistence;
        if is_base {
            persistence.rewriting_since_ms = None;
            persistence.rewrite_error = result.as_ref().err().cloned();
            if let Ok(saved) = result {
                persistence.rewrites += 1;
                persistence.last_rewrite_took_ms = Some(saved.took_ms);
                persistence.last_rewrite_extra_bytes = saved.extra_bytes;
            }
            return;
        }
        persistence.saving_since_ms = None;
        persistence.save_error = result.as_ref().err().cloned();
        let reply = match &result {
            Ok(saved) => {
                persistence.saves += 1;
                persistence.last_save_ms = Some(now_ms);
                persistence.dirty_at_save = saved.dirty;
                persistence.last_save_took_ms = Some(saved.took_ms);
                persistence.last_save_extra_bytes = saved.extra_bytes;
                b"+OK\r\n".to_vec()
            }
            Err(error) => format!("-ERR {}\r\n", error.replace(['\r', '\n'], " ")).into_bytes(),
        };
        for wait in std::mem::take(&mut self.instance.persistence.savers) {
            self.answer_wait(wait, reply.clone());
        }
        self.instance.note_refusal();
    }

    /// What commands and saves have to tell connections goes to their workers: for whoever serves none itself.
    pub fn post_deliveries(&mut self) {
        for delivery in self.instance.clients.take_deliveries() {
            self.instance.clients.deliver_elsewhere(delivery);
        }
    }

    /// A library of functions from a file.
    ///
    /// # Errors
    /// It can't be loaded; why.
    pub fn load_library(&mut self, code: &[u8], replaces: bool) -> Result<(), String> {
        let mut command = Vec::new();
        let words: &[&[u8]] = match replaces {
            true => &[b"FUNCTION", b"LOAD", b"REPLACE", code],
            false => &[b"FUNCTION", b"LOAD", code],
        };
        write_command(&mut command, words.iter().copied());
        let applied = Replay::default().apply(self, &command, 1);
        applied.map(drop).map_err(|fault| fault.reason)
    }
}

impl Instance {
    /// Whether replies leave only when what they tell is on disk.
    pub(super) fn waits_for_disk(&self) -> bool {
        let config = &self.config;
        config.append_only && config.sync == Sync::Always && self.persistence.is_kept()
    }

    /// Decides anew whether writing commands are refused.
    pub(super) fn note_refusal(&mut self) {
        let refused = self.persistence.refusal(self.config.stops_on_save_error).is_some();
        self.attention.set(Attention::MISCONF, refused);
    }

    /// Why a command is refused while data are loaded or can't be written.
    pub(super) fn refused_by_disk(&self, row: &Command) -> Option<CommandError> {
        let text = match &self.persistence.load {
            Load::Running { .. } if !row.flags.has(Flags::LOADING) => {
                "LOADING Redis is loading the dataset in memory".to_owned()
            }
            Load::Failed(reason) if !row.flags.has(Flags::LOADING) => {
                format!("MISCONF The data on disk can't be loaded, so nothing is served: {reason}")
            }
            _ if row.flags.has(Flags::WRITE) => {
                self.persistence.refusal(self.config.stops_on_save_error)?
            }
            _ => return None,
        };
        Some(CommandError::Owned(text.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_pairs() {
        let rules = parse_rules(b"3600 1 300 100").expect("two rules");
        assert_eq!(rules_text(&rules), "3600 1 300 100");
        assert_eq!(parse_rules(b""), Some(Vec::new()));
        for wrong in [&b"1"[..], b"0 1", b"a 1", b"1 2 3"] {
            assert_eq!(parse_rules(wrong), None, "{wrong:?}");
        }
    }
}
