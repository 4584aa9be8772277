//! Unix sockets: their paths, and the files that dead listeners leave behind.
//!
//! A file whose listener is gone is replaced, one whose listener lives is never touched, and a listener removes no file
//! but its own. Must not know: who accepts.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::OperatorError;
use crate::limits::LISTEN_BACKLOG;
use crate::net::holder;
use crate::ring::address::{UNIX, UNIX_PATH_BYTES_MAX};
use crate::ring::{Address, UnixPath, socket};

/// The file of a listener: removed when that ends, if it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // Someone else may have removed it meanwhile: then there is nothing left to do.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Reads `unix:/PATH`.
pub(super) fn parse(text: &str) -> Result<Address, OperatorError> {
    let path = text.strip_prefix(UNIX).unwrap_or(text);
    let path = match path.trim_start_matches('/') {
        rest if rest.len() < path.len() && !rest.is_empty() => format!("/{rest}"),
        _ => path.to_owned(),
    };
    if !path.starts_with('/') || path.len() < 2 {
        return Err(OperatorError::usage(format!("\"{path}\" is not an absolute path"))
            .hint("write the whole path, for example unix:/run/app.sock"));
    }
    UnixPath::new(Path::new(&path)).map(Address::Unix).ok_or_else(|| {
        OperatorError::usage(format!("the path of a Unix socket is too long: {path}"))
            .hint(format!("the kernel takes at most {UNIX_PATH_BYTES_MAX} bytes"))
    })
}

/// Listens at a path; the file of a listener that is gone is replaced.
pub(super) fn bind(path: &UnixPath, mode: u32) -> Result<(OwnedFd, SocketFile), OperatorError> {
    let failed = |why: String| {
        OperatorError::failed(format!("can't listen on {UNIX}{}: {why}", path.path().display()))
    };
    let bound = match socket::listen_unix(path, mode, LISTEN_BACKLOG) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            clear(path)?;
            socket::listen_unix(path, mode, LISTEN_BACKLOG)
        }
        bound => bound,
    };
    let listener = bound.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed("its folder doesn't exist".to_owned())
            .hint("make the folder first, or choose another path"),
        _ => failed(error.to_string()),
    })?;
    let path = path.path().to_owned();
    match identity(&path) {
        Some(identity) => Ok((listener.into(), SocketFile { path, identity })),
        None => Err(failed("its file was removed at once".to_owned())),
    }
}

/// Removes a socket's file that nobody listens at.
fn clear(path: &UnixPath) -> Result<(), OperatorError> {
    let shown = path.path().display();
    let failed =
        |why: String| OperatorError::failed(format!("can't listen on {UNIX}{shown}: {why}"));
    let found = std::fs::symlink_metadata(path.path()).map_err(|e| failed(e.to_string()))?;
    if !found.file_type().is_socket() {
        return Err(failed("there is a file that isn't a socket".to_owned())
            .hint("it is left alone: choose another path, or move it away"));
    }
    match socket::is_live(path) {
        Ok(false) => std::fs::remove_file(path.path()).map_err(|error| failed(error.to_string())),
        Ok(true) => {
            let who = match holder::of_path(path.path()) {
                Some((name, process)) => format!("{name} (process {process}) listens there"),
                None => "another process listens there".to_owned(),
            };
            Err(failed("the address is in use".to_owned())
                .hint(format!("{who}; stop it or choose another path")))
        }
        Err(error) => Err(failed(format!(
            "there is a socket already, and it can't be told whether it is in use: {error}"
        ))
        .hint("remove its file if nothing uses it, or choose another path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::{Listener, SocketOptions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path =
                std::env::temp_dir().join(format!("socketley-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn address(&self) -> Address {
            parse(&format!("unix:{}", self.0.join("a.sock").display())).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_its_listener() {
        let folder = Folder::new("mode");
        let path = folder.0.join("a.sock");
        for mode in [0o600, 0o666] {
            let listener =
                Listener::bind(&folder.address(), &SocketOptions { mode, groups: Vec::new() })
                    .unwrap();
            UnixStream::connect(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            drop(listener);
            assert!(!path.exists());
        }
    }

    /// A daemon that was killed leaves its files behind: they must not keep the next one from starting.
    #[test]
    fn a_dead_listeners_file_is_replaced_and_a_living_ones_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = Listener::bind(&folder.address(), &SocketOptions::default()).unwrap();
        let error = Listener::bind(&folder.address(), &SocketOptions::default()).unwrap_err();
        assert!(error.message.contains("in use"), "{error}");
        let process = format!("(process {})", std::process::id());
        assert!(error.hint.unwrap().contains(&process));
        UnixStream::connect(&path).unwrap();
        // Somebody has put another in its place: that one stays.
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn what_isnt_a_socket_is_left_alone() {
        let folder = Folder::new("file");
        std::fs::write(folder.0.join("a.sock"), "precious").unwrap();
        let error = Listener::bind(&folder.address(), &SocketOptions::default()).unwrap_err();
        assert!(error.message.contains("isn't a socket"), "{error}");
        assert_eq!(std::fs::read(folder.0.join("a.sock")).unwrap(), b"precious");
        let nowhere = parse(&format!("unix:{}/no/a.sock", folder.0.display())).unwrap();
        assert!(
            Listener::bind(&nowhere, &SocketOptions::default())
                .unwrap_err()
                .message
                .contains("folder")
        );
    }
}
