//! DEBUG RELOAD and DEBUG LOADAOF: the data are loaded from the files as at a start, while the store is there.

use super::log::{at, manifest_path};
use super::save::FILE;
use super::{Keeper, Loading, Stage};
use crate::ring::Now;
use crate::store::reloading::{Reload, Source};

impl Keeper {
    /// Begins a load that a client wants, unless something has to be written before; whether it has begun.
    pub(super) fn begin_reload(&mut self, now: Now) -> bool {
        if self.save.is_some() {
            return false;
        }
        let wanted = self.store.lock(now.unix_ms).due_reload();
        let Some(wanted) = wanted else { return false };
        // The log's files aren't the data before it has a base.
        if wanted.source == Source::Log && self.log.as_ref().is_some_and(|log| log.needs_base()) {
            return false;
        }
        let ended = self.check_files(&wanted).and_then(|()| self.end_log(now));
        let mut held = self.store.lock(now.unix_ms);
        if let Err(error) = ended {
            held.instance.persistence.reload = None;
            held.reload_ends(wanted.waiter, Err(error));
            return false;
        }
        let Some(reload) = held.take_reload() else { return false };
        drop(held);
        self.stage = Stage::Loading(Box::new(Loading::again(reload)));
        true
    }

    /// Whether there is anything to load: what is there shall not go for nothing. A snapshot may be about to be written.
    fn check_files(&mut self, wanted: &Reload) -> Result<(), String> {
        let path = match wanted.source {
            Source::Snapshot if wanted.saves => return Ok(()),
            Source::Snapshot => self.folder.join(FILE),
            Source::Log => manifest_path(&self.folder),
        };
        match self.disk.bytes(&path).map_err(|error| at(&path, &error))? {
            Some(_) => Ok(()),
            None => Err(format!("{} isn't there: nothing was written yet", path.display())),
        }
    }

    /// Writes down what the log still has to, and ends it.
    pub(super) fn end_log(&mut self, now: Now) -> Result<(), String> {
        let Some(mut log) = self.log.take() else { return Ok(()) };
        log.take();
        let written = log.write(&mut *self.disk);
        let synced = written.and_then(|()| log.sync(&mut *self.disk, now.monotonic_ms()));
        log.end(&self.store, &mut *self.disk, now.unix_ms);
        synced
    }
}
