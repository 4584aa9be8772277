//! The thread that a keeper lives on.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Keeper, Rest};
use crate::log::LogLevel;
use crate::ring::clock;
use crate::ring::disk::RealDisk;
use crate::store::SharedStore;
use crate::store::shared::Held;

/// A keeper at work; dropped, it writes down what isn't, and ends.
pub struct KeeperThread {
    signal: Arc<Signal>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    nudged: bool,
    ends: bool,
}

impl Signal {
    fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_one();
    }

    /// Waits as a keeper wants to; whether it shall end.
    fn wait(&self, rest: Rest) -> bool {
        let (milliseconds, hears) = match rest {
            Rest::No => return self.state.lock().ends,
            Rest::Milliseconds(milliseconds) => (milliseconds, true),
            Rest::Gather(milliseconds) => (milliseconds, false),
        };
        let mut state = self.state.lock();
        let mut waits = true;
        while waits && !state.ends && !(hears && state.nudged) {
            let waited = self.changed.wait_for(&mut state, Duration::from_millis(milliseconds));
            waits = !hears && !waited.timed_out();
        }
        state.nudged = false;
        state.ends
    }
}

/// What wakes a store's keeper.
pub(super) fn nudge_of(held: &Held<'_>) -> Box<dyn Fn() + Send + Sync> {
    let keeper = held.instance.persistence.keeper.clone();
    Box::new(move || {
        if let Some(nudge) = &keeper {
            nudge();
        }
    })
}

/// A keeper that panics would leave a cache that seems to be kept.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl KeeperThread {
    /// Keeps a store in a folder from now on.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        store: Arc<SharedStore>,
        folder: PathBuf,
        report: Box<dyn Fn(LogLevel, String) + Send>,
    ) -> std::io::Result<KeeperThread> {
        let signal = Arc::new(Signal::default());
        let nudged = Arc::clone(&signal);
        store.lock(0).instance.persistence.keeper = Some(Arc::new(move || nudged.nudge()));
        let mut keeper = Keeper::new(store, Box::new(RealDisk::default()), &folder, report);
        let heard = Arc::clone(&signal);
        let work = move || {
            let _guard = AbortOnPanic;
            while !heard.wait(keeper.turn(clock::now())) {}
            keeper.finish(clock::now());
        };
        let handle = std::thread::Builder::new().name("keeper".to_owned()).spawn(work)?;
        Ok(KeeperThread { signal, handle: Some(handle) })
    }
}

impl KeeperThread {
    /// Has it end, without waiting for that.
    pub fn end_soon(&self) {
        self.signal.state.lock().ends = true;
        self.signal.changed.notify_one();
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        self.end_soon();
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            // It was writing the data down, and nobody knows how far.
            std::process::abort();
        }
    }
}
