//! A disk in memory that keeps its promises and no others: a crash may lose, cut or keep whatever wasn't synced.
//!
//! Data and names are apart, as on a real file system: a file's bytes survive after a sync of the file, its name and renames after a sync
//! of the folder. At [`SimDisk::crash`] each file keeps some of its unsynced bytes (cut anywhere; before that, what
//! was lost may be zeroes), and the folder some of its unsynced changes, in their order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ring::disk::{Disk, Handle};
use crate::ring::random::Random;

/// A handle to the disk; clones are the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// Which errors it makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// Bytes left; a write beyond them stops in the middle with `ENOSPC`.
    pub space_left: Option<u64>,
    /// Syncs fail with `EIO`, and what they were for is lost.
    pub sync_fails: bool,
    /// The operation after so many ends everything: it and all later ones fail, as in a process that was killed.
    pub operations_left: Option<u64>,
}

struct State {
    random: Random,
    /// By number: a name is a link to one.
    files: Vec<Contents>,
    /// Names as running programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// Names as they survive.
    durable: BTreeMap<PathBuf, usize>,
    /// Changes of names since.
    changes: Vec<Change>,
    faults: DiskFaults,
    operations: u64,
    /// The last operation there is has been: the process is dead.
    is_dead: bool,
}

/// Names that change together: what each stands for afterwards.
type Change = Vec<(PathBuf, Option<usize>)>;

#[derive(Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

impl SimDisk {
    /// An empty one.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            changes: Vec::new(),
            faults: DiskFaults::default(),
            operations: 0,
            is_dead: false,
        })))
    }

    /// Makes errors from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.0.lock().faults = faults;
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// The names and bytes that there are.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.0.lock();
        state
            .names
            .iter()
            .map(|(path, file)| (path.clone(), state.files[*file].bytes.clone()))
            .collect()
    }

    /// Replaces a file's bytes, as somebody else might, durably.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let state = &mut *self.0.lock();
        state.files.push(Contents { synced: bytes.clone(), bytes });
        let file = state.files.len() - 1;
        state.names.insert(path.to_path_buf(), file);
        state.durable.insert(path.to_path_buf(), file);
    }

    /// The power is cut: what wasn't synced is there, in part or not at all. Afterwards there are no faults.
    pub fn crash(&self) {
        let state = &mut *self.0.lock();
        let kept = state.random.below(state.changes.len() as u64 + 1) as usize;
        let changes = std::mem::take(&mut state.changes);
        let mut names = std::mem::take(&mut state.durable);
        for (path, file) in changes.into_iter().take(kept).flatten() {
            match file {
                Some(file) => names.insert(path, file),
                None => names.remove(&path),
            };
        }
        for file in 0..state.files.len() {
            let contents = state.files[file].clone();
            let bytes = match contents.bytes.strip_prefix(contents.synced.as_slice()) {
                Some(unsynced) => {
                    let kept = state.random.below(unsynced.len() as u64 + 1) as usize;
                    [contents.synced.as_slice(), &unsynced[..kept]].concat()
                }
                None => contents.synced,
            };
            state.files[file] = Contents { synced: bytes.clone(), bytes };
        }
        (state.durable, state.names) = (names.clone(), names);
        (state.faults, state.is_dead) = (DiskFaults::default(), false);
    }
}

impl State {
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.faults.operations_left {
            Some(0) => {
                self.is_dead = true;
                Err(error(libc::EIO))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| error(libc::ENOENT))
    }

    fn name(&mut self, change: &[(&Path, Option<usize>)]) {
        for (path, file) in change {
            match file {
                Some(file) => self.names.insert(path.to_path_buf(), *file),
                None => self.names.remove(*path),
            };
        }
        self.changes.push(change.iter().map(|(path, file)| (path.to_path_buf(), *file)).collect());
    }
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Disk for SimDisk {
    fn make_folder(&mut self, _path: &Path) -> io::Result<()> {
        self.0.lock().operation()
    }

    fn open(&mut self, path: &Path, empty: bool) -> io::Result<Handle> {
        let state = &mut *self.0.lock();
        state.operation()?;
        if let Some(file) = state.names.get(path).copied() {
            if empty {
                state.files[file].bytes.clear();
            }
            return Ok(Handle(file));
        }
        state.files.push(Contents::default());
        let file = state.files.len() - 1;
        state.name(&[(path, Some(file))]);
        Ok(Handle(file))
    }

    fn write(&mut self, Handle(file): Handle, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.lock();
        let ends = state.faults.operations_left == Some(0) && !state.is_dead;
        if ends {
            // The process dies in the middle of the write.
            let kept = state.random.below(bytes.len() as u64 + 1) as usize;
            state.files[file].bytes.extend_from_slice(&bytes[..kept]);
        }
        state.operation()?;
        let room =
            state.faults.space_left.map_or(bytes.len(), |left| bytes.len().min(left as usize));
        state.files[file].bytes.extend_from_slice(&bytes[..room]);
        if let Some(left) = &mut state.faults.space_left {
            *left -= room as u64;
        }
        if room < bytes.len() { Err(error(libc::ENOSPC)) } else { Ok(()) }
    }

    fn sync(&mut self, Handle(file): Handle) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.operation()?;
        if state.faults.sync_fails {
            // The kernel has dropped the pages, and reads show what the disk has.
            let synced = state.files[file].synced.clone();
            state.files[file].bytes = synced;
            return Err(error(libc::EIO));
        }
        let bytes = state.files[file].bytes.clone();
        state.files[file].synced = bytes;
        Ok(())
    }

    fn close(&mut self, _file: Handle) {}

    fn bytes(&mut self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.0.lock();
        Ok(state.names.get(path).map(|file| state.files[*file].bytes.len() as u64))
    }

    fn read(&mut self, path: &Path, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        let bytes = &state.files[state.find(path)?].bytes;
        let from = (offset as usize).min(bytes.len());
        Ok(bytes[from..].iter().take(bytes_max).copied().collect())
    }

    fn cut(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.operation()?;
        let file = state.find(path)?;
        state.files[file].bytes.truncate(bytes as usize);
        let bytes = state.files[file].bytes.clone();
        state.files[file].synced = bytes;
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.operation()?;
        let file = state.find(from)?;
        state.name(&[(to, Some(file)), (from, None)]);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.operation()?;
        if state.names.contains_key(path) {
            state.name(&[(path, None)]);
        }
        Ok(())
    }

    fn sync_folder(&mut self, _path: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.operation()?;
        state.durable = state.names.clone();
        state.changes.clear();
        Ok(())
    }
}
