//! Work that would block a worker, done by a few threads: lookups of names, files of scripts, certificates for dials.
//!
//! A job is a closure that sends its own answer. Bounded in threads and in jobs that wait. In the simulated network a job
//! runs at once, on the worker that asks. Must not know: who asks, what the answer is for.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::limits::{ERRAND_THREADS_MAX, ERRANDS_MAX};
use crate::lua::{Errand, Outcome};
use crate::net::dial::Target;

type Job = Box<dyn FnOnce() + Send>;

/// Where to take jobs to. Clones share their threads, which end with the last of them.
#[derive(Clone, Default)]
pub struct Errands {
    /// Nothing: jobs run at once.
    crew: Option<Arc<Crew>>,
}

struct Crew(Arc<Board>);

#[derive(Default)]
struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Errands {
    /// With threads of its own, each started when it is needed.
    pub fn threaded() -> Errands {
        Errands { crew: Some(Arc::new(Crew(Arc::default()))) }
    }

    /// Has a job done. `false` if too many wait.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let Some(crew) = &self.crew else {
            job();
            return true;
        };
        let mut state = crew.0.state.lock();
        if state.jobs.len() >= ERRANDS_MAX {
            return false;
        }
        state.jobs.push_back(Box::new(job));
        if state.idle < state.jobs.len() && state.threads < ERRAND_THREADS_MAX {
            let board = Arc::clone(&crew.0);
            let spawned =
                std::thread::Builder::new().name("errands".to_owned()).spawn(move || work(&board));
            state.threads += usize::from(spawned.is_ok());
        }
        if state.threads == 0 {
            state.jobs.pop_back();
            return false;
        }
        drop(state);
        crew.0.changed.notify_one();
        true
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }
}

fn work(board: &Board) {
    let mut state = board.state.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            job();
            state = board.state.lock();
        } else if state.closed {
            return;
        } else {
            state.idle += 1;
            board.changed.wait(&mut state);
            state.idle -= 1;
        }
    }
}

/// Does what a script asked for. **Blocks.**
pub fn perform(errand: Errand) -> Outcome {
    match errand {
        Errand::Resolve { host } => resolve(&host),
        Errand::Read { path, bytes_max } => told(&path, read(&path, bytes_max)),
        Errand::Write { path, bytes, appends } => told(&path, write(&path, &bytes, appends)),
        Errand::List { path } => told(&path, list(&path)),
        Errand::Stat { path } => told(&path, stat(&path)),
        Errand::Remove { path } => told(&path, remove(&path)),
        Errand::Rename { from, to } => {
            told(&from, std::fs::rename(&from, &to).map(|()| Outcome::Done))
        }
        Errand::MakeFolder { path } => {
            told(&path, std::fs::create_dir_all(&path).map(|()| Outcome::Done))
        }
    }
}

fn resolve(host: &str) -> Outcome {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Outcome::Names(vec![ip.to_string()]);
    }
    let found = format!("{host}:1").parse::<Target>().and_then(|target| target.resolve());
    match found {
        Ok(addresses) => {
            let mut names: Vec<String> = Vec::new();
            for address in addresses {
                let name = address.host();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            Outcome::Names(names)
        }
        Err(error) => Outcome::Failed { code: "not_found", text: error.message },
    }
}

fn told(path: &Path, result: std::io::Result<Outcome>) -> Outcome {
    result.unwrap_or_else(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => "not_found",
            std::io::ErrorKind::PermissionDenied => "denied",
            std::io::ErrorKind::AlreadyExists => "exists",
            std::io::ErrorKind::FileTooLarge => "too_long",
            _ => "failed",
        };
        Outcome::Failed { code, text: format!("{}: {error}", path.display()) }
    })
}

fn read(path: &Path, bytes_max: u64) -> std::io::Result<Outcome> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("it is larger than {bytes_max} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text));
    }
    Ok(Outcome::Bytes(bytes))
}

fn write(path: &Path, bytes: &[u8], appends: bool) -> std::io::Result<Outcome> {
    use std::io::Write;
    if appends {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(bytes)?;
        return Ok(Outcome::Done);
    }
    // Beside it, under a name that no other writer of this process uses.
    static WRITES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = WRITES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.{number}.part", std::process::id()));
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        std::fs::remove_file(&beside).ok();
    }
    written.map(|()| Outcome::Done)
}

fn list(path: &Path) -> std::io::Result<Outcome> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(Outcome::Names(names))
}

fn stat(path: &Path) -> std::io::Result<Outcome> {
    let found = std::fs::metadata(path)?;
    let kind = match () {
        () if found.is_file() => "file",
        () if found.is_dir() => "folder",
        () => "other",
    };
    let modified = found.modified()?.duration_since(std::time::UNIX_EPOCH);
    let modified_ms = modified.map_or(0, |since| since.as_millis() as u64);
    Ok(Outcome::Stat { kind, bytes: found.len(), modified_ms })
}

fn remove(path: &Path) -> std::io::Result<Outcome> {
    let is_folder = std::fs::symlink_metadata(path)?.is_dir();
    let removed = if is_folder { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
    removed.map(|()| Outcome::Done)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn jobs_run_on_a_few_threads_and_in_bounds() {
        let errands = Errands::threaded();
        let (done, answers) = channel();
        let (go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut taken = 0;
        // Nobody goes on before all are there: the threads are busy, the others wait.
        for number in 0..ERRANDS_MAX + 100 {
            let (done, gate) = (done.clone(), Arc::clone(&gate));
            let job = move || {
                gate.lock().recv().ok();
                done.send((number, std::thread::current().id())).ok();
            };
            taken += usize::from(errands.run(job));
        }
        assert!((ERRANDS_MAX..=ERRANDS_MAX + ERRAND_THREADS_MAX).contains(&taken), "{taken}");
        drop(go);
        let finished: Vec<_> = answers.iter().take(taken).collect();
        let mut threads: Vec<_> =
            finished.iter().map(|(_, thread)| format!("{thread:?}")).collect();
        threads.sort();
        threads.dedup();
        assert!(threads.len() <= ERRAND_THREADS_MAX);
    }

    #[test]
    fn files_are_written_as_a_whole() {
        let folder = std::env::temp_dir().join(format!("socketley-errands-{}", std::process::id()));
        let path = folder.join("a/b");
        assert_eq!(perform(Errand::MakeFolder { path: folder.join("a") }), Outcome::Done);
        let write = |text: &str, appends| {
            perform(Errand::Write { path: path.clone(), bytes: text.into(), appends })
        };
        let read = |bytes_max| perform(Errand::Read { path: path.clone(), bytes_max });
        assert_eq!(write("one", false), Outcome::Done);
        assert_eq!(write(" two", true), Outcome::Done);
        assert_eq!(read(100), Outcome::Bytes(b"one two".to_vec()));
        assert!(matches!(read(3), Outcome::Failed { code: "too_long", .. }));
        let listed = perform(Errand::List { path: folder.join("a") });
        assert_eq!(listed, Outcome::Names(vec!["b".to_owned()]));
        let found = perform(Errand::Stat { path: path.clone() });
        assert!(matches!(found, Outcome::Stat { kind: "file", bytes: 7, .. }), "{found:?}");
        assert_eq!(perform(Errand::Remove { path: path.clone() }), Outcome::Done);
        assert!(matches!(read(3), Outcome::Failed { code: "not_found", .. }));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
