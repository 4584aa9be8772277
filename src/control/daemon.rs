//! The life of the process: places, lock, socket, workers, state; then the loop; then the end.
//!
//! Must not know: the command line's words, what clients say.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};

use super::foreground;
use super::homes::{Home, make_private};
use super::ipc::Clients;
use super::logs::Logs;
use super::manager::{Manager, ManagerSetup, Resolved};
use super::reload::Watcher;
use super::state::StateFolder;
use super::supervise;
use super::turn::{ControlLoop, Parts};
use crate::error::OperatorError;
use crate::limits::{CONTROL_RECEIVE_BUFFERS, CONTROL_RING_ENTRIES, WORKERS_MAX};
use crate::log::LogLevel;
use crate::lua::Watchdog;
use crate::ring::process::{self, Signals};
use crate::ring::{Driver, Fd, Features, Options, Uring, clock};
use crate::runtime::message::{FromWorker, Inbox};
use crate::runtime::stores::StoreMap;
use crate::worker::{self, WorkerSetup};

/// How to run a daemon.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Worker threads; nothing: one per core.
    pub workers: Option<u16>,
    /// Let a kernel thread poll the rings.
    pub sqpoll: bool,
    /// Run as a child of a small process that restarts it when it crashes.
    pub supervise: bool,
    /// The control socket, if not the one in `home`.
    pub socket: Option<PathBuf>,
    /// The folder of socket, state and logs, if not the usual ones (`SOCKETLEY_HOME`).
    pub home: Option<PathBuf>,
    /// Apply this file, save nothing, end when it can't be applied.
    pub foreground: Option<PathBuf>,
    /// What to log.
    pub log_level: LogLevel,
    /// Log lines in colour on standard error.
    pub colour: bool,
}

/// The signals that the loop reads.
pub(super) const SIGNALS: [process::Signal; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Runs a daemon until it is told to end. `clients` are the sessions of connected command lines.
///
/// # Errors
/// It can't start: another one runs, io_uring is denied, a folder isn't writable, the file in the foreground is wrong.
pub fn run<C: Clients>(options: &DaemonOptions, clients: C) -> Result<(), OperatorError> {
    if options.supervise && !supervise::is_child() {
        return supervise::run();
    }
    supervise::follow_parent();
    // Before any thread starts: all inherit the mask.
    let signals = Signals::block(&SIGNALS)
        .map_err(|error| OperatorError::failed(format!("can't take signals: {error}")))?;
    let home = Home::of_process(options.home.as_deref(), options.socket.as_deref());
    home.make(options.foreground.is_none())?;
    let _lock = lock(&home, options.foreground.as_deref())?;
    let descriptors = process::raise_descriptor_limit().unwrap_or(0);
    let ring = Options {
        buffers: CONTROL_RECEIVE_BUFFERS,
        entries: CONTROL_RING_ENTRIES,
        ..Options::default()
    };
    let driver = Uring::new(&ring)?;
    let socket = bind(&home.socket)?;
    let mut daemon = Daemon::start(options, &home, driver.features())?;
    daemon.facts.insert("descriptors".to_owned(), json!(descriptors));
    let mut turns =
        daemon.control_loop(options, &home, driver, clients, signals, Fd(socket.as_raw_fd()))?;
    let result = turn_until_end(&mut turns, options);
    turns.manager().end_keepers();
    // Clients that come now find nobody, rather than a socket that doesn't answer.
    drop(socket);
    if let Err(error) = fs::remove_file(&home.socket) {
        turns.manager().log(LogLevel::Warn, "", format!("can't remove the socket: {error}"));
    }
    daemon.join();
    result
}

fn turn_until_end<C: Clients>(
    turns: &mut ControlLoop<C>,
    options: &DaemonOptions,
) -> Result<(), OperatorError> {
    let started = options.foreground.as_ref().map(|path| foreground::start(turns.manager(), path));
    let broken =
        |error: io::Error| OperatorError::failed(format!("the control ring broke: {error}"));
    loop {
        // Before the turn: a file that isn't there is known at once, and nothing else would end the wait.
        if let Some(failed) = started.as_ref().and_then(foreground::Started::take_failure) {
            turns.manager().shut_down(0);
            while turns.turn().map_err(broken)? {}
            return Err(failed);
        }
        if let Some(started) = &started {
            started.show(turns.manager());
        }
        if !turns.turn().map_err(broken)? {
            return Ok(());
        }
    }
}

/// What lives beside the loop.
struct Daemon {
    setup: WorkerSetup,
    resolved: Arc<Inbox<Resolved>>,
    facts: Map<String, Value>,
    threads: Vec<JoinHandle<()>>,
}

impl Daemon {
    fn start(
        options: &DaemonOptions,
        home: &Home,
        features: Features,
    ) -> Result<Daemon, OperatorError> {
        let count = worker_count(options.workers)?;
        let watchdog = Arc::new(Watchdog::start());
        let kill_switch = watchdog.self_test();
        let facts = facts(options, home, features, kill_switch);
        let setup = WorkerSetup {
            inboxes: (0..count).map(|_| Arc::new(Inbox::default())).collect(),
            control: Arc::new(Inbox::<FromWorker>::default()),
            stores: Arc::new(StoreMap::default()),
            watchdog,
            errands: crate::runtime::errands::Errands::threaded(),
            ring: Options { sqpoll: options.sqpoll, ..Options::default() },
            seed: seed(),
        };
        let mut threads = Vec::new();
        for index in 0..count {
            let thread = worker::spawn(index as u8, setup.clone()).map_err(|error| {
                OperatorError::failed(format!("can't start worker {index}: {error}"))
            })?;
            threads.push(thread);
        }
        Ok(Daemon { setup, resolved: Arc::new(Inbox::default()), facts, threads })
    }

    fn control_loop<C: Clients>(
        &mut self,
        options: &DaemonOptions,
        home: &Home,
        driver: Uring,
        clients: C,
        signals: Signals,
        socket: Fd,
    ) -> Result<ControlLoop<C>, OperatorError> {
        let kept = options.foreground.is_none();
        let state = kept.then(|| StateFolder::new(&home.state));
        let mut manager = Manager::new(ManagerSetup {
            workers: Arc::clone(&self.setup.inboxes),
            stores: Arc::clone(&self.setup.stores),
            resolved: Arc::clone(&self.resolved),
            reports: Arc::clone(&self.setup.control),
            logs: open_logs(options, home),
            state: state.clone(),
            facts: std::mem::take(&mut self.facts),
            now: clock::now(),
            seed: self.setup.seed,
        });
        let watcher = Watcher::new();
        if let Err(error) = &watcher {
            let text = format!("saved files aren't noticed ({error}): use socketley reload-lua");
            manager.log(LogLevel::Warn, "", text);
        }
        self.greet(&mut manager, home);
        if let Some(state) = state {
            manager.restore(state.restore());
        }
        Ok(ControlLoop::new(Parts {
            driver: Box::new(driver) as Box<dyn Driver>,
            clients,
            manager,
            socket,
            workers: Arc::clone(&self.setup.control),
            resolved: Arc::clone(&self.resolved),
            signals,
            watcher: watcher.ok(),
        }))
    }

    fn greet(&self, manager: &mut Manager, home: &Home) {
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        let text = format!(
            "socketley {version} runs as process {pid} with {} workers; commands come by {}",
            self.threads.len(),
            home.socket.display()
        );
        manager.log(LogLevel::Info, "", text);
        if !self.setup.watchdog.self_test() {
            let text = "the kill switch is missing: a script with an endless loop would hold its worker for ever";
            manager.log(LogLevel::Warn, "", text);
        }
    }

    /// Waits for the workers that have ended; one that hangs ends with the process.
    fn join(self) {
        for thread in self.threads {
            if thread.is_finished() && thread.join().is_err() {
                std::process::abort();
            }
        }
    }
}

fn worker_count(wanted: Option<u16>) -> Result<usize, OperatorError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = wanted.map_or(cores, usize::from);
    if count == 0 || count > WORKERS_MAX {
        return Err(OperatorError::usage(format!(
            "workers: expected 1 to {WORKERS_MAX}, got {count}"
        )));
    }
    Ok(count.min(WORKERS_MAX))
}

/// Not a secret: it spreads choices. What must not be guessed has its own source.
fn seed() -> u64 {
    let now = clock::now();
    now.unix_ms << 20 ^ now.monotonic_ns ^ u64::from(std::process::id()) << 44
}

fn facts(
    options: &DaemonOptions,
    home: &Home,
    features: Features,
    kill_switch: bool,
) -> Map<String, Value> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let features: Map<String, Value> =
        features.table().map(|(name, _, here)| (name.to_owned(), json!(here))).collect();
    let facts = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "kernel": kernel.trim(),
        "io_uring": features,
        "sqpoll": options.sqpoll,
        "kill_switch": kill_switch,
        "supervised": supervise::is_child(),
        "socket": home.socket,
        "state": options.foreground.is_none().then_some(&home.state),
        "logs": options.foreground.is_none().then_some(&home.logs),
    });
    facts.as_object().cloned().unwrap_or_default()
}

fn open_logs(options: &DaemonOptions, home: &Home) -> Logs {
    let mut logs = Logs::new(options.log_level);
    logs.echo_to(Box::new(io::stderr()), options.colour);
    if options.foreground.is_none()
        && let Err(error) = logs.write_to(&home.logs)
    {
        logs.add(crate::log::LogRecord {
            unix_ms: clock::now().unix_ms,
            level: LogLevel::Warn,
            source: String::new(),
            text: format!("no log file: {}: {error}", home.logs.display()),
        });
    }
    logs
}

/// Takes the lock that means "a daemon lives here", and writes the process's number into it. The kernel gives the lock
/// back when the process ends, however it ends.
fn lock(home: &Home, foreground: Option<&Path>) -> Result<File, OperatorError> {
    let path = home.lock();
    let failed =
        |error: io::Error| OperatorError::failed(format!("can't lock {}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let pid = file.read_to_string(&mut pid).map_or("?", |_| pid.trim());
            let hint = match foreground {
                Some(file) => format!(
                    "`socketley apply {}` gives it the file; SOCKETLEY_HOME=DIR makes a daemon of its own",
                    file.display()
                ),
                None => "`socketley daemon stop` ends it; SOCKETLEY_HOME=DIR makes a second one"
                    .to_owned(),
            };
            return Err(OperatorError::failed(format!(
                "a daemon runs already (process {pid}) on {}",
                home.socket.display()
            ))
            .hint(hint));
        }
    }
    let written = file.set_len(0).and_then(|()| file.rewind());
    written
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
        .map_err(failed)?;
    Ok(file)
}

/// Binds the control socket for this user alone. The lock is held: a socket that is there is a dead daemon's.
fn bind(path: &Path) -> Result<UnixListener, OperatorError> {
    let failed = |what: &str, error: io::Error| {
        OperatorError::failed(format!("can't {what} {}: {error}", path.display()))
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).map_err(|error| failed("remove the old socket", error))?;
        }
        Ok(_) => {
            return Err(OperatorError::failed(format!("{} is not a socket", path.display()))
                .hint("it is left alone: name another place with --socket or SOCKETLEY_HOME"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", error)),
    }
    let socket = UnixListener::bind(path).map_err(|error| failed("listen on", error))?;
    make_private(path).map_err(|error| failed("protect", error))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> (PathBuf, Home) {
        let folder =
            std::env::temp_dir().join(format!("socketley-daemon-{name}-{}", std::process::id()));
        let home = Home::in_folder(&folder);
        home.make(true).unwrap();
        (folder, home)
    }

    #[test]
    fn a_second_daemon_is_told_who_runs() {
        let (folder, home) = home("lock");
        let first = lock(&home, None).unwrap();
        let error = lock(&home, None).unwrap_err();
        assert!(error.message.contains(&format!("process {}", std::process::id())), "{error}");
        let error = lock(&home, Some(Path::new("a.lua"))).unwrap_err();
        assert!(error.hint.unwrap().contains("socketley apply a.lua"));
        drop(first);
        drop(lock(&home, None).unwrap());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_other_files_are_not() {
        let (folder, home) = home("bind");
        // Dropping a listener leaves its file, as a killed process does.
        drop(bind(&home.socket).unwrap());
        assert!(home.socket.exists());
        drop(bind(&home.socket).unwrap());
        fs::remove_file(&home.socket).unwrap();
        fs::write(&home.socket, "precious").unwrap();
        assert!(bind(&home.socket).unwrap_err().message.contains("is not a socket"));
        assert_eq!(fs::read_to_string(&home.socket).unwrap(), "precious");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn worker_counts_are_bounded() {
        assert_eq!(worker_count(Some(3)).unwrap(), 3);
        assert!(worker_count(None).unwrap() >= 1);
        for wrong in [0, 257, u16::MAX] {
            assert!(worker_count(Some(wrong)).is_err());
        }
    }
}
