//! The append log: a base, increments and the manifest that names them, as Redis 7 lays them out.
//!
//! ```text
//! appendonlydir/appendonly.aof.manifest
//!               appendonly.aof.2.base.rdb     the data when increment 4 began
//!               appendonly.aof.4.incr.aof     all changes since
//! ```
//! A rewrite opens a new increment at the moment of which the new base is the picture, and names it in the manifest at once: so
//! until the base is whole, the old base and both increments stand for the data. The manifest is replaced by a rename.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::limits::{FEED_WAITING_BYTES_MAX, LOG_WRITE_BYTES_MAX};
use crate::persist::manifest::{Line, Manifest, Part};
use crate::ring::disk::{Disk, Handle};
use crate::store::SharedStore;
use crate::store::feed::{Piece, Subscription};
use crate::store::persistence::Sync;

/// The folder of the log's files.
pub const FOLDER: &str = "appendonlydir";
/// What their names begin with.
pub const STEM: &str = "appendonly.aof";
const FSYNC_MS: u64 = 1_000;

/// The log while it is written.
pub struct Log {
    folder: PathBuf,
    manifest: Manifest,
    subscription: Arc<Subscription>,
    sync: Sync,
    /// The increment that is written; none before the first base.
    file: Option<(Handle, PathBuf)>,
    /// Its bytes that are whole.
    len: u64,
    /// Bytes of base and increments.
    older_bytes: u64,
    base_bytes: u64,
    /// Not written yet.
    pieces: VecDeque<Piece>,
    /// Of the feed: what is written, what is safe.
    written: u64,
    safe: u64,
    synced_ms: u64,
    /// The file is in the manifest on disk, behind a base that is whole.
    is_listed: bool,
    /// Bytes behind `len` may be in the file.
    is_torn: bool,
    /// The file can't be trusted any more: only a new base helps.
    is_broken: bool,
    error: Option<String>,
}

/// The manifest's path.
pub fn manifest_path(folder: &Path) -> PathBuf {
    folder.join(FOLDER).join(format!("{STEM}.manifest"))
}

impl Log {
    /// Listens to the store from now on. There is no file before the first base.
    pub fn begin(store: &Arc<SharedStore>, folder: &Path, sync: Sync, now_ms: u64) -> Log {
        let mut held = store.lock(now_ms);
        let nudge = super::thread::nudge_of(&held);
        let subscription = held.subscribe(FEED_WAITING_BYTES_MAX, nudge);
        let offset = held.instance.feed.offset();
        held.instance.persistence.logs = true;
        drop(held);
        Log {
            folder: folder.join(FOLDER),
            manifest: Manifest::default(),
            subscription,
            sync,
            file: None,
            len: 0,
            older_bytes: 0,
            base_bytes: 0,
            pieces: VecDeque::new(),
            written: offset,
            safe: offset,
            synced_ms: 0,
            is_listed: false,
            is_torn: false,
            is_broken: false,
            error: None,
        }
    }

    /// Goes on with the files that were loaded.
    pub fn resume(&mut self, manifest: Manifest, disk: &mut dyn Disk) -> Result<(), String> {
        let mut bytes = 0;
        for line in manifest.lines.iter().filter(|line| line.part != Part::History) {
            let path = self.folder.join(&line.name);
            let len = disk.bytes(&path).map_err(|error| at(&path, &error))?.unwrap_or(0);
            bytes += len;
            if line.part == Part::Base {
                self.base_bytes = len;
            }
        }
        let Some(last) = manifest.of(Part::Increment).last() else {
            (self.manifest, self.older_bytes) = (manifest, bytes);
            return Ok(());
        };
        let path = self.folder.join(&last.name);
        let handle = disk.open(&path, false).map_err(|error| at(&path, &error))?;
        self.len = disk.bytes(&path).map_err(|error| at(&path, &error))?.unwrap_or(0);
        self.older_bytes = bytes - self.len;
        self.file = Some((handle, path));
        self.is_listed = manifest.of(Part::Base).next().is_some();
        self.manifest = manifest;
        Ok(())
    }

    /// Takes what the store has changed; whether it was too much to be kept.
    pub fn take(&mut self) -> bool {
        if self.subscription.is_overrun() {
            self.is_broken = true;
            return true;
        }
        // Before the first base, what comes is in the base.
        self.pieces.extend(self.subscription.take());
        false
    }

    /// Writes, and syncs if it is time; whether there was anything to write.
    pub fn step(&mut self, disk: &mut dyn Disk, now_ms: u64) -> Result<bool, String> {
        if self.is_broken {
            return Err(self
                .error
                .clone()
                .unwrap_or_else(|| "it is being written anew".to_owned()));
        }
        let writes = !self.pieces.is_empty();
        self.write(disk)?;
        let is_due = match self.sync {
            Sync::Always => true,
            Sync::EverySecond => now_ms >= self.synced_ms + FSYNC_MS,
            Sync::Never => false,
        };
        if is_due {
            self.sync(disk, now_ms)?;
        }
        Ok(writes)
    }

    /// Writes all that was taken.
    pub fn write(&mut self, disk: &mut dyn Disk) -> Result<(), String> {
        let Some((file, path)) = self.file.clone() else { return Ok(()) };
        while !self.pieces.is_empty() {
            if self.is_torn {
                disk.cut(&path, self.len).map_err(|error| at(&path, &error))?;
                self.is_torn = false;
            }
            let mut bytes = Vec::new();
            let mut count = 0;
            for piece in &self.pieces {
                if count > 0 && bytes.len() + piece.bytes.len() > LOG_WRITE_BYTES_MAX {
                    break;
                }
                bytes.extend_from_slice(&piece.bytes);
                count += 1;
            }
            if let Err(error) = disk.write(file, &bytes) {
                self.is_torn = true;
                return Err(at(&path, &error));
            }
            self.len += bytes.len() as u64;
            for piece in self.pieces.drain(..count) {
                self.written = piece.offset + piece.bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Makes what is written safe.
    pub fn sync(&mut self, disk: &mut dyn Disk, now_ms: u64) -> Result<(), String> {
        let Some((file, path)) = &self.file else { return Ok(()) };
        // Without its base it is worth nothing.
        if self.safe == self.written || !self.is_listed {
            return Ok(());
        }
        self.synced_ms = now_ms;
        if let Err(error) = disk.sync(*file) {
            // What the kernel had of the file may be gone, whatever a later sync says.
            self.is_broken = true;
            return Err(at(path, &error));
        }
        self.safe = self.written;
        Ok(())
    }

    /// Begins a new increment at `offset` of the feed, for a base that is the picture of that moment.
    pub fn split(&mut self, offset: u64, disk: &mut dyn Disk, now_ms: u64) -> Result<(), String> {
        self.take();
        let behind = self.pieces.iter().position(|piece| piece.offset >= offset);
        let later = self.pieces.split_off(behind.unwrap_or(self.pieces.len()));
        let is_usable = !self.is_broken && self.is_listed;
        let finished = match is_usable {
            true => self.write(disk).and_then(|()| self.sync(disk, now_ms)),
            false => Ok(()),
        };
        if let Err(error) = finished {
            let earlier = std::mem::replace(&mut self.pieces, later);
            self.pieces = earlier.into_iter().chain(self.pieces.drain(..)).collect();
            return Err(error);
        }
        // What came before is in the base, or in a file that the base replaces.
        self.pieces = later;
        let number = self.manifest.next_number(Part::Increment);
        let name = format!("{STEM}.{number}.incr.aof");
        let path = self.folder.join(&name);
        let handle = disk.open(&path, true).map_err(|error| at(&path, &error))?;
        // An older file of that name must be empty for good before the manifest names it.
        if let Err(error) = disk.sync(handle) {
            disk.close(handle);
            return Err(at(&path, &error));
        }
        let line = Line { name, number, part: Part::Increment };
        if is_usable {
            // The base that there is and all increments stand for the data until the new base is whole.
            let mut manifest = self.manifest.clone();
            manifest.lines.push(line);
            if let Err(error) = self.write_manifest(&manifest, disk) {
                disk.close(handle);
                return Err(error);
            }
            self.manifest = manifest;
        } else {
            self.manifest.lines.push(line);
            self.is_listed = false;
        }
        self.older_bytes += self.len;
        if let Some((old, _)) = self.file.replace((handle, path)) {
            disk.close(old);
        }
        (self.len, self.is_torn, self.is_broken) = (0, false, false);
        (self.written, self.safe) = (offset, if is_usable { offset } else { self.safe });
        Ok(())
    }

    /// Where the next base is written, and under which name.
    pub fn base_name(&self) -> (PathBuf, String, u64) {
        let number = self.manifest.next_number(Part::Base);
        let name = format!("{STEM}.{number}.base.rdb");
        (self.folder.join(format!("temp-{name}")), name, number)
    }

    /// The base is whole and has its name: from now on it and the last increment are the log. It has all of the feed up to
    /// `offset`.
    pub fn adopt_base(
        &mut self,
        (name, number, bytes): (String, u64, u64),
        offset: u64,
        disk: &mut dyn Disk,
    ) -> Result<(), String> {
        let last = self.manifest.of(Part::Increment).last().cloned();
        let mut lines = vec![Line { name, number, part: Part::Base }];
        lines.extend(last);
        let fresh = Manifest { lines };
        self.write_manifest(&fresh, disk)?;
        let old = std::mem::replace(&mut self.manifest, fresh);
        for line in old.lines.iter().filter(|line| !self.manifest.lines.contains(line)) {
            // A file that stays only takes room.
            disk.remove(&self.folder.join(&line.name)).ok();
        }
        (self.older_bytes, self.base_bytes) = (bytes, bytes);
        self.is_listed = true;
        self.safe = self.safe.max(offset);
        Ok(())
    }

    fn write_manifest(&self, manifest: &Manifest, disk: &mut dyn Disk) -> Result<(), String> {
        let path = self.folder.join(format!("{STEM}.manifest"));
        let beside = self.folder.join(format!("temp-{STEM}.manifest"));
        let error = |error: std::io::Error| at(&path, &error);
        let file = disk.open(&beside, true).map_err(error)?;
        let written = disk.write(file, manifest.text().as_bytes()).and_then(|()| disk.sync(file));
        disk.close(file);
        written.map_err(error)?;
        disk.rename(&beside, &path).map_err(error)?;
        disk.sync_folder(&self.folder).map_err(error)
    }

    /// Nobody listens any more.
    pub fn end(self, store: &SharedStore, disk: &mut dyn Disk, now_ms: u64) {
        if let Some((file, _)) = self.file {
            disk.close(file);
        }
        let mut held = store.lock(now_ms);
        held.unsubscribe(&self.subscription);
        held.instance.persistence.logs = false;
        held.set_log_error(None);
    }

    /// Begins to listen anew, after it fell behind.
    pub fn listen_again(&mut self, held: &mut crate::store::shared::Held<'_>) {
        if self.subscription.is_overrun() {
            held.unsubscribe(&self.subscription);
            let nudge = super::thread::nudge_of(held);
            self.subscription = held.subscribe(FEED_WAITING_BYTES_MAX, nudge);
            self.pieces.clear();
        }
    }

    /// Whether there is no base, or none that can be trusted.
    pub fn needs_base(&self) -> bool {
        self.is_broken || !self.is_listed
    }

    /// Whether the files hold all that was taken.
    pub fn is_whole(&self) -> bool {
        !self.needs_base() && self.pieces.is_empty()
    }

    /// Of the feed: all before is safe.
    pub fn safe_offset(&self) -> u64 {
        self.safe
    }

    pub fn bytes(&self) -> u64 {
        self.older_bytes + self.len
    }

    pub fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    pub fn waiting_bytes(&self) -> u64 {
        let taken: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        (taken + self.subscription.waiting_bytes()) as u64
    }

    pub fn set_sync(&mut self, sync: Sync) {
        self.sync = sync;
    }

    pub fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    pub fn set_error(&mut self, error: Option<String>) {
        self.error = error;
    }
}

/// An error with the file's name.
pub fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
