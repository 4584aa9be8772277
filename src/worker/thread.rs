//! A worker's thread: makes its ring, turns it until it is told to end.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::lua::{Stores, Watchdog};
use crate::ring::{Options, Uring, Wait};
use crate::runtime::errands::Errands;
use crate::runtime::message::{FromWorker, Inbox, ToWorker};
use crate::runtime::stores::StoreMap;

use super::turn::{Parts, Worker};

/// What all workers of a daemon share.
#[derive(Clone)]
pub struct WorkerSetup {
    /// Of all workers, in order.
    pub inboxes: Arc<[Arc<Inbox<ToWorker>>]>,
    /// To the control thread.
    pub control: Arc<Inbox<FromWorker>>,
    /// The caches.
    pub stores: Arc<StoreMap>,
    /// Ends handlers that run too long.
    pub watchdog: Arc<Watchdog>,
    /// Does what would block a worker.
    pub errands: Errands,
    /// How to make the ring.
    pub ring: Options,
    /// Seeds the worker's choices; the index is added.
    pub seed: u64,
}

struct SharedStores(Arc<StoreMap>);

impl Stores for SharedStores {
    fn find(&self, name: &str) -> Option<Arc<crate::store::SharedStore>> {
        self.0.find(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

/// Starts worker `index`. The thread ends after [`ToWorker::Shutdown`], having sent [`FromWorker::Ended`].
///
/// # Errors
/// The system refuses a thread.
pub fn spawn(index: u8, setup: WorkerSetup) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker {index}")).spawn(move || run(index, &setup))
}

/// A broken ring ends the process: the supervisor starts it again from its state.
fn run(index: u8, setup: &WorkerSetup) {
    let driver = match Uring::new(&setup.ring) {
        Ok(driver) => driver,
        Err(error) => die(setup, index, &error.to_string()),
    };
    let mut worker = Worker::new(Parts {
        index,
        driver: Box::new(driver),
        control: Arc::clone(&setup.control),
        inboxes: Arc::clone(&setup.inboxes),
        stores: Rc::new(SharedStores(Arc::clone(&setup.stores))),
        watch: setup.watchdog.register(),
        errands: setup.errands.clone(),
        seed: setup.seed.wrapping_add(u64::from(index)),
    });
    // A panic outside of a connection's own step leaves the worker's world in an unknown state.
    let turned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        loop {
            match worker.turn(Wait::Forever) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(error.to_string()),
            }
        }
    }));
    match turned {
        Ok(None) => setup.control.send(FromWorker::Ended { worker: index }),
        Ok(Some(error)) => die(setup, index, &error),
        Err(_) => std::process::abort(),
    }
}

#[allow(clippy::print_stderr, reason = "the last words of a process that can't go on")]
fn die(_: &WorkerSetup, index: u8, why: &str) -> ! {
    eprintln!("socketley: worker {index} can't go on: {why}");
    std::process::abort()
}
