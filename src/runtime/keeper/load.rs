//! What is on disk becomes the store again: the append log's base and increments, or the snapshot.
//!
//! A log that ends inside a command or transaction is cut there: that was being written when the power went. Anything else
//! that isn't as it should be stops the load with the place, and nothing is served or written: the files stay as they
//! are until somebody has decided.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::log::{FOLDER, Log, at, manifest_path};
use super::save::FILE;
use super::{Keeper, Rest, Stage};
use crate::limits::{LOAD_READ_BYTES, STORE_HOLD_COMMANDS_MAX};
use crate::log::LogLevel;
use crate::persist::manifest::{Manifest, Part};
use crate::persist::rdb::{Item, Reader};
use crate::ring::Now;
use crate::store::entry::EntryBox;
use crate::store::persistence::Load;
use crate::store::rdb::Builder;
use crate::store::reloading::{Reload, Source};
use crate::store::replay::Replay;
use crate::store::shared::Held;

/// A load under way.
#[derive(Default)]
pub struct Loading {
    begun: bool,
    files: VecDeque<PathBuf>,
    manifest: Option<Manifest>,
    current: Option<Current>,
    read: u64,
    total: u64,
    keys: u64,
    expired: u64,
    /// A client wants it, of a store that is there.
    reload: Option<Reload>,
}

impl Loading {
    /// As a client wants it.
    pub fn again(reload: Reload) -> Loading {
        Loading { reload: Some(reload), ..Loading::default() }
    }

    /// Whether what is there may be replaced.
    fn replaces(&self) -> bool {
        self.reload.is_none_or(|reload| reload.merges)
    }
}

/// A file being read.
struct Current {
    path: PathBuf,
    /// Where the next piece is read.
    offset: u64,
    content: Content,
}

enum Content {
    Snapshot { reader: Box<Reader>, database: u8, ended: bool },
    Commands { replay: Box<Replay>, unread: Vec<u8>, start: u64 },
}

impl Keeper {
    pub(super) fn load(&mut self, now: Now) -> Rest {
        let Stage::Loading(loading) = &mut self.stage else { return Rest::No };
        let mut loading = std::mem::take(loading);
        let result = self.load_step(&mut loading, now);
        match result {
            Ok(true) => {
                let (read, total) = (loading.read, loading.total);
                self.store.lock(now.unix_ms).set_load(Load::Running { read, total });
                self.stage = Stage::Loading(loading);
                Rest::No
            }
            Ok(false) => self.loaded(&loading, now),
            Err(reason) => {
                (self.report)(LogLevel::Error, format!("the data can't be loaded: {reason}"));
                if let Some(reload) = loading.reload {
                    return self.reload_failed(reload, now);
                }
                self.store.lock(now.unix_ms).set_load(Load::Failed(reason));
                self.stage = Stage::Failed;
                Rest::No
            }
        }
    }

    /// As Redis answers; what is there goes on.
    fn reload_failed(&mut self, reload: Reload, now: Now) -> Rest {
        let kind = match reload.source {
            Source::Snapshot => "RDB dump",
            Source::Log => "AOF file",
        };
        let reason = format!("Error trying to load the {kind}, check server logs.");
        self.stage = Stage::Keeping;
        self.store.lock(now.unix_ms).reload_ends(reload.waiter, Err(reason));
        Rest::No
    }

    /// Loads a piece; whether there is more.
    fn load_step(&mut self, loading: &mut Loading, now: Now) -> Result<bool, String> {
        if !std::mem::replace(&mut loading.begun, true) {
            self.find_files(loading, now)?;
        }
        if loading.current.is_none() {
            let Some(path) = loading.files.pop_front() else { return Ok(false) };
            let first = self.disk.read(&path, 0, 5).map_err(|error| at(&path, &error))?;
            let content = if first == b"REDIS" {
                Content::Snapshot { reader: Box::default(), database: 0, ended: false }
            } else {
                Content::Commands { replay: Box::default(), unread: Vec::new(), start: 0 }
            };
            loading.current = Some(Current { path, offset: 0, content });
        }
        let Some(mut current) = loading.current.take() else { return Ok(true) };
        let bytes = self.disk.read(&current.path, current.offset, LOAD_READ_BYTES);
        let bytes = bytes.map_err(|error| at(&current.path, &error))?;
        (current.offset, loading.read) =
            (current.offset + bytes.len() as u64, loading.read + bytes.len() as u64);
        let is_end = bytes.is_empty();
        if self.feed_in(&mut current, &bytes, loading, now)? && !is_end {
            loading.current = Some(current);
        } else if is_end {
            self.end_of_file(current, loading.files.is_empty())?;
        }
        Ok(true)
    }

    /// The log if it is wanted or all there is, else the snapshot.
    fn find_files(&mut self, loading: &mut Loading, now: Now) -> Result<(), String> {
        let (manifest, snapshot) = (manifest_path(&self.folder), self.folder.join(FILE));
        let mut bytes = |path: &PathBuf| self.disk.bytes(path).map_err(|error| at(path, &error));
        let (has_log, has_snapshot) = (bytes(&manifest)?, bytes(&snapshot)?);
        let wants_log = match loading.reload.map(|reload| reload.source) {
            None => self.store.lock(now.unix_ms).instance.config.append_only,
            Some(source) => source == Source::Log,
        };
        if has_log.is_some() && (wants_log || (has_snapshot.is_none() && loading.reload.is_none()))
        {
            let text = self.disk.read(&manifest, 0, LOAD_READ_BYTES);
            let text = text.map_err(|error| at(&manifest, &error))?;
            let parsed = Manifest::parse(&String::from_utf8_lossy(&text));
            let parsed = parsed.map_err(|error| format!("{}: {error}", manifest.display()))?;
            let lines = parsed.of(Part::Base).chain(parsed.of(Part::Increment));
            loading.files = lines.map(|it| self.folder.join(FOLDER).join(&it.name)).collect();
            loading.manifest = Some(parsed);
        } else if has_snapshot.is_some() {
            if has_log.is_some() && loading.reload.is_none() {
                let text = format!("{} is there, too, and isn't loaded", manifest.display());
                (self.report)(LogLevel::Warn, text);
            }
            loading.files.push_back(snapshot);
        }
        for path in &loading.files {
            let bytes = self.disk.bytes(path).map_err(|error| at(path, &error))?;
            loading.total += bytes.ok_or_else(|| {
                format!(
                    "{} is named in {} and isn't there: put it back, or take its line out and lose what was in it",
                    path.display(),
                    manifest.display()
                )
            })?;
        }
        Ok(())
    }

    /// Gives the next bytes to the store, in short holds; whether the file goes on.
    fn feed_in(
        &mut self,
        current: &mut Current,
        bytes: &[u8],
        loading: &mut Loading,
        now: Now,
    ) -> Result<bool, String> {
        let path = current.path.clone();
        match &mut current.content {
            Content::Snapshot { reader, database, ended } => {
                if bytes.is_empty() {
                    reader.complete();
                } else {
                    reader.feed(bytes);
                }
                let drops_expired = loading.manifest.is_none();
                while !*ended {
                    let mut held = self.store.lock(now.unix_ms);
                    let progress =
                        load_items(&mut held, reader, database, (loading, drops_expired));
                    match progress {
                        Ok(Loaded::Some) => {}
                        Ok(Loaded::Starved) => break,
                        Ok(Loaded::End) => *ended = true,
                        Err(reason) => {
                            return Err(format!(
                                "{}: {reason}, about byte {}: `redis-check-rdb` says more; put a backup in its place, or \
                                 move it away to start empty",
                                path.display(),
                                current.offset
                            ));
                        }
                    }
                }
            }
            Content::Commands { replay, unread, start } => {
                unread.extend_from_slice(bytes);
                let mut used = 0;
                loop {
                    let mut held = self.store.lock(now.unix_ms);
                    let applied = replay.apply(&mut held, &unread[used..], STORE_HOLD_COMMANDS_MAX);
                    drop(held);
                    match applied {
                        Ok((bytes, more)) => {
                            used += bytes;
                            if !more {
                                break;
                            }
                        }
                        Err(fault) => {
                            used = (fault.offset - *start) as usize;
                            let is_last = loading.files.is_empty();
                            if is_last && self.is_blank(&path, fault.offset)? {
                                break;
                            }
                            return Err(format!(
                                "{}: at byte {}: {}; `redis-check-aof --fix` cuts the file there and loses what follows, a backup \
                                 doesn't",
                                path.display(),
                                fault.offset,
                                fault.reason
                            ));
                        }
                    }
                }
                unread.drain(..used);
                *start += used as u64;
            }
        }
        Ok(true)
    }

    /// Whether a file is zeroes from there to its end: what file systems make of bytes that never reached the disk.
    fn is_blank(&mut self, path: &Path, offset: u64) -> Result<bool, String> {
        let mut offset = offset;
        loop {
            let bytes = self.disk.read(path, offset, LOAD_READ_BYTES);
            let bytes = bytes.map_err(|error| at(path, &error))?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += bytes.len() as u64;
        }
    }

    fn end_of_file(&mut self, current: Current, is_last: bool) -> Result<(), String> {
        let Current { path, offset, content } = current;
        match content {
            Content::Snapshot { ended: true, .. } => Ok(()),
            Content::Snapshot { .. } => Err(format!("{} ends too early", path.display())),
            Content::Commands { replay, .. } if replay.applied() == offset => Ok(()),
            Content::Commands { replay, .. } if is_last => {
                let (whole, torn) = (replay.applied(), offset - replay.applied());
                let text = format!(
                    "{} ended inside a command or transaction: the last {torn} bytes, from {whole} on, were cut off",
                    path.display()
                );
                (self.report)(LogLevel::Warn, text);
                self.disk.cut(&path, whole).map_err(|error| at(&path, &error))
            }
            Content::Commands { replay, .. } => Err(format!(
                "{} ends inside a command that begins at byte {}, and files follow it: `redis-check-aof --fix` cuts it",
                path.display(),
                replay.applied()
            )),
        }
    }

    fn loaded(&mut self, loading: &Loading, now: Now) -> Rest {
        let mut held = self.store.lock(now.unix_ms);
        let (append_only, sync) = (held.instance.config.append_only, held.instance.config.sync);
        held.instance.persistence.loaded = (loading.keys, loading.expired);
        held.instance.persistence.dirty_at_save = held.keyspace.dirty;
        drop(held);
        if append_only {
            let mut log = Log::begin(&self.store, &self.folder, sync, now.unix_ms);
            let resumed = match &loading.manifest {
                Some(manifest) => log.resume(manifest.clone(), &mut *self.disk),
                None => Ok(()),
            };
            if let Err(error) = resumed {
                (self.report)(LogLevel::Error, format!("the append log: {error}"));
            }
            self.store.set_safe_offset(log.safe_offset());
            self.log = Some(log);
        }
        if loading.total > 0 {
            let keys: usize = {
                let held = self.store.lock(now.unix_ms);
                held.keyspace.databases().iter().map(|database| database.len()).sum()
            };
            (self.report)(
                LogLevel::Info,
                format!("loaded {keys} keys from {} bytes", loading.total),
            );
        }
        self.stage = Stage::Keeping;
        let look = self.look(now);
        self.follow(&look, now);
        let mut held = self.store.lock(now.unix_ms);
        match loading.reload {
            None => held.set_load(Load::Done),
            Some(reload) => held.reload_ends(reload.waiter, Ok(())),
        }
        Rest::No
    }
}

enum Loaded {
    /// As much as one hold allows.
    Some,
    /// More bytes are needed.
    Starved,
    End,
}

fn load_items(
    held: &mut Held<'_>,
    reader: &mut Reader,
    database: &mut u8,
    (loading, drops_expired): (&mut Loading, bool),
) -> Result<Loaded, String> {
    for _ in 0..STORE_HOLD_COMMANDS_MAX {
        let (hasher, thresholds) = (held.keyspace.hasher(), held.keyspace.thresholds);
        let item = reader.next(&Builder { hasher, thresholds: &thresholds });
        match item.map_err(|damage| format!("{damage:?}"))? {
            None => return Ok(Loaded::Starved),
            Some(Item::End) => return Ok(Loaded::End),
            Some(Item::Auxiliary(..)) => {}
            Some(Item::Function(code)) => held.load_library(&code, loading.replaces())?,
            Some(Item::Database(number)) => {
                let count = held.keyspace.databases().len() as u64;
                if number >= count {
                    return Err(format!("database {number}; there are {count}"));
                }
                *database = number as u8;
            }
            Some(Item::Key(key)) => {
                let now_ms = held.now_ms;
                if drops_expired && key.expires_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                    loading.expired += 1;
                    continue;
                }
                loading.keys += 1;
                let hash = held.keyspace.hash(&key.key);
                if !loading.replaces()
                    && held.keyspace.database(*database).contains(&key.key, hash, now_ms)
                {
                    let name = key.key.escape_ascii();
                    return Err(format!("key '{name}' of database {database} is there already"));
                }
                let place = held.keyspace.database(*database);
                place.put(EntryBox::new(&key.key, key.value, key.expires_ms), hash);
                if let Some(seconds) = key.idle_seconds {
                    place.set_idle(&key.key, hash, seconds);
                }
                if let Some(counter) = key.frequency {
                    place.set_frequency(&key.key, hash, counter);
                }
            }
        }
    }
    Ok(Loaded::Some)
}
