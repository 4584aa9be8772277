//! Files, as whoever keeps data on disk uses them: few operations, each as durable as it says.
//!
//! [`RealDisk`] is the file system. It waits for it, so it belongs on a thread that may wait: an fsync takes milliseconds to
//! seconds, and io_uring would only hand it to a thread of the kernel's. `sim::disk` is one in memory that forgets what
//! wasn't synced. Must not know: what is in the files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub usize);

/// A disk.
pub trait Disk: Send {
    /// Makes a folder for this user alone, if it isn't there.
    ///
    /// # Errors
    /// The disk's, as for all that follows.
    fn make_folder(&mut self, path: &Path) -> io::Result<()>;
    /// Opens a file to write to its end; an empty one if `empty`, or if there is none.
    fn open(&mut self, path: &Path, empty: bool) -> io::Result<Handle>;
    /// Appends all bytes; after an error some of them may be there.
    fn write(&mut self, file: Handle, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what was written will survive. After an error nobody knows what will.
    fn sync(&mut self, file: Handle) -> io::Result<()>;
    /// Closes.
    fn close(&mut self, file: Handle);
    /// Bytes of a file; nothing if there is none.
    fn bytes(&mut self, path: &Path) -> io::Result<Option<u64>>;
    /// Bytes from an offset on, as many as there are up to a bound.
    fn read(&mut self, path: &Path, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// Cuts a file to that length, durably.
    fn cut(&mut self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Renames a file over another; durable after [`Disk::sync_folder`].
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file if it is there.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Returns when the folder's names will survive.
    fn sync_folder(&mut self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Default)]
pub struct RealDisk {
    files: Vec<Option<File>>,
}

impl RealDisk {
    fn file(&mut self, Handle(index): Handle) -> io::Result<&mut File> {
        let file = self.files.get_mut(index).and_then(Option::as_mut);
        file.ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    }
}

impl Disk for RealDisk {
    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn open(&mut self, path: &Path, empty: bool) -> io::Result<Handle> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        let file = options.open(path)?;
        if empty {
            file.set_len(0)?;
        }
        let free = self.files.iter().position(Option::is_none);
        let index = free.unwrap_or(self.files.len());
        if index == self.files.len() {
            self.files.push(None);
        }
        self.files[index] = Some(file);
        Ok(Handle(index))
    }

    fn write(&mut self, file: Handle, bytes: &[u8]) -> io::Result<()> {
        self.file(file)?.write_all(bytes)
    }

    fn sync(&mut self, file: Handle) -> io::Result<()> {
        self.file(file)?.sync_data()
    }

    fn close(&mut self, Handle(index): Handle) {
        if let Some(file) = self.files.get_mut(index) {
            *file = None;
        }
    }

    fn bytes(&mut self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, path: &Path, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn cut(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
