//! System calls of the whole process: signals as readable descriptors, watched folders, who a peer is, limits.
//!
//! Small safe functions for the control thread. Must not know: what a signal or a changed file means.

#![allow(unsafe_code, reason = "system calls that neither std nor io_uring has")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::Fd;

/// A signal's number.
pub type Signal = i32;

/// Signals that become readable instead of interrupting: blocked in this thread and those it starts later.
#[derive(Debug)]
pub struct Signals {
    file: File,
}

impl Signals {
    /// Blocks `signals` and makes them readable. Before other threads start: they inherit the mask.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn block(signals: &[Signal]) -> io::Result<Signals> {
        let set = signal_set(signals)?;
        // SAFETY: `set` is initialised; no old set is asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        Ok(Signals { file: File::from(owned(fd)?) })
    }

    /// To watch with [`super::Op::Watch`].
    pub fn fd(&self) -> Fd {
        Fd(self.file.as_raw_fd())
    }

    /// The signals that came since the last call.
    pub fn take(&mut self) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        while self.file.read(&mut record).is_ok_and(|bytes| bytes == record.len()) {
            let number = [record[0], record[1], record[2], record[3]];
            signals.push(Signal::from_ne_bytes(number));
        }
        signals
    }

    /// Sleeps until a signal comes or `timeout_ms` is over (-1: for ever).
    pub fn wait(&mut self, timeout_ms: i32) -> Vec<Signal> {
        let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd; an interruption or error is the same as a timeout here.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        self.take()
    }
}

fn signal_set(signals: &[Signal]) -> io::Result<libc::sigset_t> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: `set` is initialised; a wrong number is an error, not undefined.
        if unsafe { libc::sigaddset(&raw mut set, *signal) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

/// Sends a signal to a process.
///
/// # Errors
/// It is gone, or isn't ours.
pub fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::kill(pid as i32, signal) })
}

/// Asks the kernel to send this process `signal` when the process that started it ends.
///
/// # Errors
/// What the kernel says.
pub fn end_with_parent(signal: Signal) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) })
}

/// Raises the bound of open descriptors to the highest this process may have; answers that bound.
///
/// # Errors
/// What the kernel says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// The user at the other end of a unix socket (`SO_PEERCRED`): who it was when it connected.
///
/// # Errors
/// It isn't a unix socket.
pub fn peer_user(socket: Fd) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `bytes` are valid places for the answer and its length.
    check(unsafe {
        libc::getsockopt(
            socket.0,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut bytes,
        )
    })?;
    Ok(peer.uid)
}

/// The user that this process acts as.
pub fn user() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// Folders whose changes are readable (`inotify(7)`).
#[derive(Debug)]
pub struct FolderWatch {
    file: File,
}

/// Names one watched folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(i32);

/// What changed in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderEvent {
    /// A file of this name was written, made, moved here or away, or deleted.
    Changed(WatchId, OsString),
    /// The folder itself has gone; its watch has ended.
    Gone(WatchId),
    /// More happened than the kernel could keep: look at everything.
    Overflow,
}

impl FolderWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The user has no inotify instances left.
    pub fn new() -> io::Result<FolderWatch> {
        // SAFETY: plain flags.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        Ok(FolderWatch { file: File::from(owned(fd)?) })
    }

    /// To watch with [`super::Op::Watch`].
    pub fn fd(&self) -> Fd {
        Fd(self.file.as_raw_fd())
    }

    /// Watches a folder; the same folder has the same number.
    ///
    /// # Errors
    /// It doesn't exist or can't be read, or the user has no watches left.
    pub fn add(&self, folder: &Path) -> io::Result<WatchId> {
        let path = CString::new(folder.as_os_str().as_bytes())?;
        let mask = libc::IN_CLOSE_WRITE
            | libc::IN_CREATE
            | libc::IN_MOVED_TO
            | libc::IN_MOVED_FROM
            | libc::IN_DELETE
            | libc::IN_DELETE_SELF
            | libc::IN_MOVE_SELF
            | libc::IN_ONLYDIR;
        // SAFETY: `path` is a C string that lives through the call.
        let watch = unsafe { libc::inotify_add_watch(self.file.as_raw_fd(), path.as_ptr(), mask) };
        check(watch).map(|()| WatchId(watch))
    }

    /// Watches a folder no longer.
    pub fn remove(&self, watch: WatchId) {
        // SAFETY: plain integers; a watch that is gone already is an error that changes nothing.
        unsafe { libc::inotify_rm_watch(self.file.as_raw_fd(), watch.0) };
    }

    /// What happened since the last call.
    pub fn take(&mut self) -> Vec<FolderEvent> {
        let mut events = Vec::new();
        let mut buffer = [0u8; 16 * 1024];
        while let Ok(bytes) = self.file.read(&mut buffer) {
            if bytes == 0 {
                break;
            }
            read_events(&buffer[..bytes], &mut events);
        }
        events
    }
}

/// The layout of `struct inotify_event`: watch, mask, cookie and length of the name, 4 bytes each; the name, padded
/// with zeroes.
fn read_events(mut bytes: &[u8], events: &mut Vec<FolderEvent>) {
    const HEADER: usize = 16;
    while bytes.len() >= HEADER {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let watch = WatchId(i32::from_ne_bytes(word(0)));
        let mask = u32::from_ne_bytes(word(4));
        let name_bytes = u32::from_ne_bytes(word(12)) as usize;
        let name = &bytes[HEADER..HEADER + name_bytes];
        let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
        bytes = &bytes[HEADER + name_bytes..];
        if mask & libc::IN_Q_OVERFLOW != 0 {
            events.push(FolderEvent::Overflow);
        } else if mask & (libc::IN_IGNORED | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF) != 0 {
            events.push(FolderEvent::Gone(watch));
        } else if !name.is_empty() {
            let name = OsString::from_vec(name.to_vec());
            events.push(FolderEvent::Changed(watch, name));
        }
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the caller has just got `fd` from the kernel; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_signal_to_this_thread_is_readable() {
        // In a thread of its own: the mask belongs to the thread.
        std::thread::spawn(|| {
            let mut signals = Signals::block(&[libc::SIGUSR2]).unwrap();
            assert!(signals.take().is_empty());
            // SAFETY: always succeeds.
            let this = unsafe { libc::pthread_self() };
            // SAFETY: to this thread, which lives and where the signal is blocked.
            unsafe { libc::pthread_kill(this, libc::SIGUSR2) };
            assert_eq!(signals.wait(10_000), [libc::SIGUSR2]);
            assert!(signals.wait(0).is_empty());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_renamed_file_is_a_change() {
        let folder = std::env::temp_dir().join(format!("socketley-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut watch = FolderWatch::new().unwrap();
        let id = watch.add(&folder).unwrap();
        assert_eq!(watch.add(&folder).unwrap(), id);
        std::fs::write(folder.join(".app.lua.swp"), "x").unwrap();
        std::fs::rename(folder.join(".app.lua.swp"), folder.join("app.lua")).unwrap();
        let events = watch.take();
        assert!(events.contains(&FolderEvent::Changed(id, "app.lua".into())), "{events:?}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(watch.take().contains(&FolderEvent::Gone(id)));
        assert!(watch.add(&folder).is_err());
    }

    #[test]
    fn the_peer_of_a_pair_is_this_user() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert_eq!(peer_user(Fd(left.as_raw_fd())).unwrap(), user());
    }

    #[test]
    fn the_descriptor_limit_is_at_its_bound() {
        let bound = raise_descriptor_limit().unwrap();
        assert_eq!(raise_descriptor_limit().unwrap(), bound);
        assert!(bound > 0);
    }
}
