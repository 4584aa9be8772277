//! Snapshots, and the bases of the append log: a picture of the store, written while it is taken.

use std::io;
use std::path::{Path, PathBuf};

use super::log::{FOLDER, at};
use super::{Keeper, RETRY_MS};
use crate::limits::{SAVE_STEP_BYTES, SAVE_STEP_ENTRIES, SAVE_SYNC_BYTES};
use crate::log::LogLevel;
use crate::persist::snapshot::Snapshot;
use crate::ring::Now;
use crate::ring::disk::Handle;
use crate::store::persistence::Saved;
use crate::store::saving::Progress;

/// The snapshot's name.
pub const FILE: &str = "dump.rdb";

/// A picture being written.
pub struct Save {
    /// The base of the append log, and its number; none: a snapshot.
    base: Option<(String, u64)>,
    file: Handle,
    /// Where it is written, and what it is called in the end.
    beside: PathBuf,
    target: PathBuf,
    /// The feed's offset of the picture.
    offset: u64,
    began: Now,
    /// Changes before it.
    dirty: u64,
    bytes: u64,
    unsynced_bytes: usize,
    extra_bytes: u64,
}

impl Save {
    pub fn is_base(&self) -> bool {
        self.base.is_some()
    }
}

impl Keeper {
    /// Begins a snapshot, or a new base for the log.
    pub(super) fn begin_save(&mut self, is_base: bool, now: Now) {
        let (beside, target, base) = match self.log.as_ref().filter(|_| is_base) {
            Some(log) => {
                let (beside, name, number) = log.base_name();
                (beside, self.folder.join(FOLDER).join(&name), Some((name, number)))
            }
            None => (self.folder.join(format!("temp-{FILE}")), self.folder.join(FILE), None),
        };
        let folder = target.parent().map_or_else(|| self.folder.clone(), PathBuf::from);
        let opened = self.make_folder(&folder).and_then(|()| self.disk.open(&beside, true));
        let file = match opened {
            Ok(file) => file,
            Err(error) => return self.failed(is_base, &at(&beside, &error), now),
        };
        let mut held = self.store.lock(now.unix_ms);
        if held.instance.scripting.suspended.is_some() && !self.is_finishing {
            // Half of a script is no moment for a picture.
            drop(held);
            return self.disk.close(file);
        }
        if let Some(log) = self.log.as_mut().filter(|_| is_base) {
            log.listen_again(&mut held);
        }
        let sink = Snapshot::new(&held, is_base, now.unix_ms);
        held.begin_saving(Box::new(sink));
        held.instance.feed.reselect();
        let (offset, dirty) = (held.instance.feed.offset(), held.keyspace.dirty);
        held.save_begins(is_base, now.unix_ms);
        drop(held);
        let (bytes, unsynced_bytes, extra_bytes) = (0, 0, 0);
        let began = now;
        self.save = Some(Save {
            base,
            file,
            beside,
            target,
            offset,
            began,
            dirty,
            bytes,
            unsynced_bytes,
            extra_bytes,
        });
        if let Some(log) = self.log.as_mut().filter(|_| is_base)
            && let Err(error) = log.split(offset, &mut *self.disk, now.monotonic_ms())
        {
            self.end_save(Some(error), now);
        }
    }

    /// Makes a folder that survives.
    fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.disk.make_folder(folder)?;
        let above = folder.parent().filter(|_| folder != self.folder);
        above.map_or(Ok(()), |above| self.disk.sync_folder(above))
    }

    /// Takes and writes a piece of the picture.
    pub(super) fn save_on(&mut self, now: Now) {
        let Some(save) = &mut self.save else { return };
        let mut held = self.store.lock(now.unix_ms);
        let progress = held.save_step(SAVE_STEP_ENTRIES, SAVE_STEP_BYTES);
        save.extra_bytes = save.extra_bytes.max(held.instance.saving_bytes());
        let bytes = held.take_saved();
        drop(held);
        if let Progress::Ended(name) = progress {
            let kind = if save.is_base() { "rewrite of the log" } else { "snapshot" };
            (self.report)(LogLevel::Info, format!("{name} ends the {kind}; it begins anew"));
            return self.end_save(None, now);
        }
        save.bytes += bytes.len() as u64;
        save.unsynced_bytes += bytes.len();
        let mut written = self.disk.write(save.file, &bytes);
        if written.is_ok() && save.unsynced_bytes >= SAVE_SYNC_BYTES {
            // Little by little, so that the last sync isn't long.
            save.unsynced_bytes = 0;
            written = self.disk.sync(save.file);
        }
        match (written, progress) {
            (Err(error), _) => {
                let error = at(&save.beside, &error);
                self.end_save(Some(error), now);
            }
            (Ok(()), Progress::Done) => self.complete(now),
            (Ok(()), _) => {}
        }
    }

    /// All is written: it gets its name.
    fn complete(&mut self, now: Now) {
        let Some(save) = &mut self.save else { return };
        let named = self.disk.sync(save.file).and_then(|()| {
            self.disk.rename(&save.beside, &save.target)?;
            let folder = save.target.parent().ok_or(io::ErrorKind::InvalidInput)?;
            self.disk.sync_folder(folder)
        });
        let named = named.map_err(|error| at(&save.target, &error));
        let adopted = named.and_then(|()| match (&mut self.log, &save.base) {
            (Some(log), Some((name, number))) => {
                log.adopt_base((name.clone(), *number, save.bytes), save.offset, &mut *self.disk)
            }
            _ => Ok(()),
        });
        match adopted {
            Ok(()) => self.succeeded(now),
            Err(error) => self.end_save(Some(error), now),
        }
    }

    /// Ends a picture that isn't complete; without an error it begins anew.
    pub(super) fn end_save(&mut self, error: Option<String>, now: Now) {
        let Some(save) = self.save.take() else { return };
        self.disk.close(save.file);
        // What is left of it is overwritten by the next one.
        self.disk.remove(&save.beside).ok();
        let is_base = save.is_base();
        match error {
            Some(error) => self.failed(is_base, &error, now),
            None => {
                let mut held = self.store.lock(now.unix_ms);
                held.end_saving();
                held.save_begins_anew(is_base);
            }
        }
    }

    fn failed(&mut self, is_base: bool, error: &str, now: Now) {
        let what = if is_base { "rewriting the append log" } else { "the snapshot" };
        (self.report)(LogLevel::Error, format!("{what} failed: {error}"));
        self.retry_ms = now.monotonic_ms() + RETRY_MS;
        self.save = None;
        let mut held = self.store.lock(now.unix_ms);
        held.end_saving();
        held.save_ends(is_base, Err(error.to_owned()), now.unix_ms);
        held.post_deliveries();
    }

    fn succeeded(&mut self, now: Now) {
        let Some(save) = self.save.take() else { return };
        self.disk.close(save.file);
        let took_ms = now.monotonic_ms().saturating_sub(save.began.monotonic_ms());
        let (dirty, extra_bytes, bytes) = (save.dirty, save.extra_bytes, save.bytes);
        let saved = Saved { dirty, extra_bytes, took_ms };
        let what = if save.is_base() { "append log rewritten" } else { "snapshot written" };
        (self.report)(LogLevel::Info, format!("{what}: {bytes} bytes in {took_ms} ms"));
        let mut held = self.store.lock(now.unix_ms);
        held.end_saving();
        held.save_ends(save.is_base(), Ok(saved), now.unix_ms);
        held.post_deliveries();
    }
}
