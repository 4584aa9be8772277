//! Where a daemon keeps its things: socket, state, logs, history.
//!
//! `SOCKETLEY_HOME` puts all of it in one folder, so that two daemons never meet. Without it: `/run/socketley` and
//! `/var/lib/socketley` for root, else the folders of the XDG base directory specification.
//! Must not know: what is in the files.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::OperatorError;

/// The places of one daemon. Nothing of it need exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The control socket; its lock is beside it.
    pub socket: PathBuf,
    /// `runtimes/`, `apps/`.
    pub state: PathBuf,
    /// Log files.
    pub logs: PathBuf,
    /// The console's history.
    pub history: PathBuf,
}

/// `sun_path` of `unix(7)`, without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Home {
    /// The places that the environment names. `user` is the effective user's number.
    pub fn from_environment(read: impl Fn(&str) -> Option<OsString>, user: u32) -> Home {
        let folder = |name: &str| read(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(home) = read("SOCKETLEY_HOME").filter(|home| !home.is_empty()) {
            return Home::in_folder(Path::new(&home));
        }
        if user == 0 {
            return Home::split(Path::new("/run/socketley"), Path::new("/var/lib/socketley"));
        }
        let runtime = folder("XDG_RUNTIME_DIR").map_or_else(
            || std::env::temp_dir().join(format!("socketley-{user}")),
            |path| path.join("socketley"),
        );
        let state = folder("XDG_STATE_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
            .map_or_else(|| runtime.join("state"), |path| path.join("socketley"));
        Home::split(&runtime, &state)
    }

    /// The places of this process: `home` and `socket` as given on the command line win over the environment.
    pub fn of_process(home: Option<&Path>, socket: Option<&Path>) -> Home {
        let user = crate::ring::process::user();
        let mut found = match home {
            Some(home) => Home::in_folder(home),
            None => Home::from_environment(|name| std::env::var_os(name), user),
        };
        if let Some(socket) = socket.map(Path::to_path_buf).or_else(|| {
            let named = std::env::var_os("SOCKETLEY_SOCKET").filter(|path| !path.is_empty());
            named.filter(|_| home.is_none()).map(PathBuf::from)
        }) {
            found.socket = absolute(&socket);
        }
        found
    }

    /// Everything in one folder.
    pub fn in_folder(home: &Path) -> Home {
        let home = absolute(home);
        Home::split(&home, &home)
    }

    fn split(runtime: &Path, state: &Path) -> Home {
        Home {
            socket: runtime.join("socketley.sock"),
            state: state.to_path_buf(),
            logs: state.join("logs"),
            history: state.join("history"),
        }
    }

    /// The file whose lock means that a daemon lives.
    pub fn lock(&self) -> PathBuf {
        let mut name = self.socket.clone().into_os_string();
        name.push(".lock");
        name.into()
    }

    /// Makes the folders, for this user alone.
    ///
    /// # Errors
    /// One can't be made, or belongs to someone else, or the socket's path is too long.
    pub fn make(&self, with_state: bool) -> Result<(), OperatorError> {
        if self.socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(OperatorError::failed(format!(
                "the socket's path is longer than {SOCKET_PATH_BYTES_MAX} bytes: {}",
                self.socket.display()
            ))
            .hint("set SOCKETLEY_HOME to a shorter folder"));
        }
        if let Some(folder) = self.socket.parent() {
            private_folder(folder)?;
        }
        if with_state {
            private_folder(&self.state)?;
            private_folder(&self.logs)?;
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Makes a folder that only its owner enters. One that exists is used as it is, unless a stranger could have put it
/// there: then whoever owns it could swap the socket.
fn private_folder(folder: &Path) -> Result<(), OperatorError> {
    let failed = |error: &io::Error| {
        OperatorError::failed(format!("can't make the folder {}: {error}", folder.display()))
            .hint("set SOCKETLEY_HOME to a folder that you can write")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed(&e))?;
    let found = fs::metadata(folder).map_err(|error| failed(&error))?;
    let user = crate::ring::process::user();
    if found.uid() != user && user != 0 {
        return Err(OperatorError::failed(format!(
            "the folder {} belongs to another user ({})",
            folder.display(),
            found.uid()
        ))
        .hint("set SOCKETLEY_HOME to a folder of your own"));
    }
    Ok(())
}

/// Makes a file readable for its owner alone.
///
/// # Errors
/// What the kernel says.
pub fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_places() {
        type Case = (&'static [(&'static str, &'static str)], u32, &'static str, &'static str);
        let cases: [Case; 6] = [
            (&[("SOCKETLEY_HOME", "/x")], 7, "/x/socketley.sock", "/x"),
            (&[("SOCKETLEY_HOME", "/x")], 0, "/x/socketley.sock", "/x"),
            (&[], 0, "/run/socketley/socketley.sock", "/var/lib/socketley"),
            (
                &[("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/u")],
                7,
                "/run/user/7/socketley/socketley.sock",
                "/home/u/.local/state/socketley",
            ),
            (
                &[("XDG_RUNTIME_DIR", "/r"), ("XDG_STATE_HOME", "/s"), ("HOME", "/h")],
                7,
                "/r/socketley/socketley.sock",
                "/s/socketley",
            ),
            (
                &[("XDG_RUNTIME_DIR", "relative"), ("HOME", "/h")],
                7,
                "/tmp/socketley-7/socketley.sock",
                "/h/.local/state/socketley",
            ),
        ];
        for (environment, user, socket, state) in cases {
            let read = |name: &str| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
            };
            let home = Home::from_environment(read, user);
            let temp = std::env::temp_dir();
            let socket = socket.replace("/tmp/", &format!("{}/", temp.display()));
            assert_eq!(home.socket, Path::new(&socket), "{environment:?}");
            assert_eq!(home.state, Path::new(state), "{environment:?}");
        }
    }

    #[test]
    fn folders_are_private_and_long_paths_are_refused() {
        let base = std::env::temp_dir().join(format!("socketley-home-{}", std::process::id()));
        let home = Home::in_folder(&base);
        home.make(true).unwrap();
        assert_eq!(fs::metadata(&base).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(home.logs.is_dir());
        let long = Home::in_folder(&base.join("x".repeat(120)));
        assert!(long.make(true).unwrap_err().message.contains("longer than"));
        fs::remove_dir_all(&base).unwrap();
    }
}
