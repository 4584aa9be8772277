//! Opening files below a folder, where no path leads out of it: not by dots, not by links, not by what changes meanwhile.
//!
//! Must not know: what the files are for.

#![allow(unsafe_code, reason = "openat2(2), which no library of ours wraps")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    handle: File,
    /// Its path without links, for kernels or sandboxes without openat2.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder.
    ///
    /// # Errors
    /// It isn't there, isn't a folder, or may not be read.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let path = path.canonicalize()?;
        let handle = File::open(&path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Folder { handle, path })
    }

    /// Opens a file or folder below it for reading; never waits for the other end of a pipe. An empty path is the folder
    /// itself.
    ///
    /// # Errors
    /// It isn't there, may not be read, or is outside.
    pub fn open_below(&self, path: &[u8]) -> io::Result<File> {
        let path = if path.is_empty() { b"." } else { path };
        let name = CString::new(path).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        match self.openat2(&name) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.open_checked(path)
            }
            result => result,
        }
    }

    fn openat2(&self, name: &CString) -> io::Result<File> {
        // SAFETY: a plain structure of integers, for which all zeros is valid.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
        let size = size_of::<libc::open_how>();
        let folder = self.handle.as_raw_fd();
        // SAFETY: the descriptor is open, the name ends with a zero byte, `how` is valid and `size` is its size.
        let fd = unsafe { libc::syscall(libc::SYS_openat2, folder, name.as_ptr(), &how, size) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: openat2(2) has just made the descriptor; nobody else owns it.
        Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// The way without openat2: what a link swaps between the look and the opening isn't seen.
    fn open_checked(&self, path: &[u8]) -> io::Result<File> {
        let full = self.path.join(std::ffi::OsStr::from_bytes(path)).canonicalize()?;
        if !full.starts_with(&self.path) {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        let is_plain = full.metadata().is_ok_and(|meta| meta.is_file() || meta.is_dir());
        if is_plain { File::open(full) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Whatever names something outside is refused, by both ways of opening.
    #[test]
    fn nothing_outside_is_opened() {
        let root = std::env::temp_dir().join(format!("socketley-folder-{}", std::process::id()));
        let inside = root.join("inside");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(root.join("secret"), "secret").unwrap();
        std::fs::write(inside.join("file"), "file").unwrap();
        for (name, target) in [
            ("out", "../secret"),
            ("absolute", "/etc/passwd"),
            ("up", ".."),
            ("in", "file"),
            ("around", "../inside/file"),
        ] {
            std::os::unix::fs::symlink(target, inside.join(name)).unwrap();
        }
        let folder = Folder::open(&inside).unwrap();
        let read = |file: io::Result<File>| {
            let mut text = String::new();
            file.and_then(|mut file| file.read_to_string(&mut text)).map(|_| text)
        };
        for name in ["file", "in", "sub/../file"] {
            assert_eq!(read(folder.open_below(name.as_bytes())).unwrap(), "file", "{name}");
            assert_eq!(read(folder.open_checked(name.as_bytes())).unwrap(), "file", "{name}");
        }
        for name in ["out", "absolute", "up/secret", "../secret", "/etc/passwd", "sub/../../secret"]
        {
            assert!(folder.open_below(name.as_bytes()).is_err(), "{name}");
            assert!(folder.open_checked(name.as_bytes()).is_err(), "{name}");
        }
        assert!(folder.open_below(b"file\0").is_err());
        assert!(folder.open_below(b"").unwrap().metadata().unwrap().is_dir());
        assert!(Folder::open(&inside.join("file")).is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
