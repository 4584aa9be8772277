//! Keeps one cache's store on disk: its append log, its snapshots, and the load at its start.
//!
//! A keeper is a state machine over a [`Disk`] that waits for it, so each lives on a thread of its own ([`thread`]); tests
//! turn it by hand over a disk in memory. It holds the store for short steps only and never while the disk works.
//!
//! - **Log** (`log.rs`): what the feed says is appended; with `always` in one write and one fsync for everything that has come
//!   meanwhile, and replies leave when the offset that is safe ([`SharedStore::safe_offset`]) has passed theirs.
//! - **Snapshot** (`save.rs`): a picture of the store, taken step by step ([`crate::store::saving`]), into a file beside, which is
//!   synced, renamed, and its folder synced. The base of a rewritten log is the same.
//! - **Load** (`load.rs`): before anything else. Until it is done, clients are answered that the data are loading.
//!
//! Must not know: connections, workers.

mod load;
mod log;
mod reload;
mod save;
#[cfg(test)]
mod tests;
pub mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::LogLevel;
use crate::ring::Now;
use crate::ring::disk::Disk;
use crate::store::SharedStore;
use crate::store::persistence::{Load, Sync};

use load::Loading;
use log::Log;
use save::Save;

/// A store's data on disk.
pub struct Keeper {
    store: Arc<SharedStore>,
    disk: Box<dyn Disk>,
    folder: PathBuf,
    report: Box<dyn Fn(LogLevel, String) + Send>,
    stage: Stage,
    log: Option<Log>,
    save: Option<Save>,
    /// When a failed save or rewrite may be tried again, in monotonic milliseconds.
    retry_ms: u64,
    /// The store isn't served any more.
    is_finishing: bool,
}

/// What a keeper is at.
enum Stage {
    Loading(Box<Loading>),
    /// What is on disk can't be loaded: nothing is served and nothing written.
    Failed,
    Keeping,
}

/// When a keeper is to be turned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// At once.
    No,
    /// When it is nudged, or after so many milliseconds.
    Milliseconds(u64),
    /// After so many milliseconds, nudged or not: meanwhile more comes.
    Gather(u64),
}

/// What the store says of itself in one look.
struct Look {
    wants_log: bool,
    sync: Sync,
    save_due: bool,
    rewrite_due: bool,
}

/// How often the save rules are looked at.
const LOOK_MS: u64 = 200;
/// How long what comes in is gathered for one write, unless replies wait for it.
const GATHER_MS: u64 = 5;
/// When something that failed is tried again: Redis's.
const RETRY_MS: u64 = 5_000;

impl Keeper {
    /// Begins with the load of what is in the folder. The store answers that it is loading from now on.
    pub fn new(
        store: Arc<SharedStore>,
        disk: Box<dyn Disk>,
        folder: &Path,
        report: Box<dyn Fn(LogLevel, String) + Send>,
    ) -> Keeper {
        store.lock(0).set_load(Load::Running { read: 0, total: 0 });
        Keeper {
            store,
            disk,
            folder: folder.to_path_buf(),
            report,
            stage: Stage::Loading(Box::default()),
            log: None,
            save: None,
            retry_ms: 0,
            is_finishing: false,
        }
    }

    /// Does a piece of what there is to do.
    pub fn turn(&mut self, now: Now) -> Rest {
        match &mut self.stage {
            Stage::Failed => Rest::Milliseconds(LOOK_MS * 10),
            Stage::Loading(_) => self.load(now),
            Stage::Keeping => self.keep(now),
        }
    }

    /// Whether the load is over and the data are served.
    pub fn is_keeping(&self) -> bool {
        matches!(self.stage, Stage::Keeping)
    }

    /// The store isn't served any more: writes what isn't written, and a snapshot if there are changes since the last one.
    pub fn finish(&mut self, now: Now) {
        self.is_finishing = true;
        while matches!(self.stage, Stage::Loading(_)) {
            self.turn(now);
        }
        if matches!(self.stage, Stage::Failed) {
            return;
        }
        self.end_save(None, now);
        let is_logged = self.log.as_mut().is_some_and(|log| {
            log.take();
            log.write(&mut *self.disk).is_ok()
                && log.sync(&mut *self.disk, now.monotonic_ms()).is_ok()
                && log.is_whole()
        });
        let changed = self.store.lock(now.unix_ms).has_unsaved_changes();
        if is_logged || !changed {
            return;
        }
        self.begin_save(false, now);
        while self.save.is_some() {
            self.save_on(now);
        }
    }

    fn keep(&mut self, now: Now) -> Rest {
        let look = self.look(now);
        self.follow(&look, now);
        let waits = self.write_log(&look, now);
        let retries = now.monotonic_ms() >= self.retry_ms;
        if self.save.is_none() && retries {
            let rewrites = look.rewrite_due || self.log.as_ref().is_some_and(Log::needs_base);
            if rewrites && self.log.is_some() {
                self.begin_save(true, now);
            } else if look.save_due {
                self.begin_save(false, now);
            }
        }
        if self.save.is_some() {
            self.save_on(now);
            return Rest::No;
        }
        if self.begin_reload(now) {
            return Rest::No;
        }
        waits
    }

    /// What the store wants.
    fn look(&mut self, now: Now) -> Look {
        let log = self.log.as_ref().map(|log| (log.bytes(), log.base_bytes(), log.waiting_bytes()));
        let mut held = self.store.lock(now.unix_ms);
        if let Some((bytes, base, waiting)) = log {
            let persistence = &mut held.instance.persistence;
            (persistence.log_bytes, persistence.log_base_bytes) = (bytes, base);
            persistence.log_buffer_bytes = waiting;
        }
        Look {
            wants_log: held.wants_log(),
            sync: held.instance.config.sync,
            save_due: held.is_save_due(),
            rewrite_due: held.is_rewrite_due(),
        }
    }

    /// Begins or ends the log as CONFIG SET appendonly says; BGREWRITEAOF has one for as long as it takes.
    fn follow(&mut self, look: &Look, now: Now) {
        match (look.wants_log, self.log.is_some()) {
            (true, false) => {
                let log = Log::begin(&self.store, &self.folder, look.sync, now.unix_ms);
                self.log = Some(log);
            }
            (false, true) => {
                let is_base = self.save.as_ref().is_some_and(Save::is_base);
                if is_base {
                    self.end_save(None, now);
                }
                if let Err(error) = self.end_log(now) {
                    (self.report)(LogLevel::Error, format!("the append log's end: {error}"));
                }
                self.store.set_safe_offset(u64::MAX);
            }
            _ => {}
        }
    }

    /// Writes and syncs what has come.
    fn write_log(&mut self, look: &Look, now: Now) -> Rest {
        let Some(log) = &mut self.log else { return Rest::Milliseconds(LOOK_MS) };
        log.set_sync(look.sync);
        let result = match log.take() {
            true => Err("it fell too far behind and is written anew".to_owned()),
            false => log.step(&mut *self.disk, now.monotonic_ms()),
        };
        self.store.set_safe_offset(log.safe_offset());
        self.store.serve_copies(now.unix_ms);
        let wrote = result.as_ref().is_ok_and(|wrote| *wrote);
        self.note_log_error(result.err(), now);
        if wrote && look.sync != Sync::Always {
            Rest::Gather(GATHER_MS)
        } else {
            Rest::Milliseconds(LOOK_MS)
        }
    }

    fn note_log_error(&mut self, error: Option<String>, now: Now) {
        let Some(log) = self.log.as_mut().filter(|log| log.error() != error.as_ref()) else {
            return;
        };
        match &error {
            Some(error) => {
                (self.report)(LogLevel::Error, format!("the append log can't be written: {error}"));
            }
            None => (self.report)(LogLevel::Info, "the append log is written again".to_owned()),
        }
        log.set_error(error.clone());
        let fails = error.is_some();
        self.store.lock(now.unix_ms).set_log_error(error);
        self.store.set_disk_fails(fails);
    }
}
