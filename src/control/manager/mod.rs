//! What runs under which name: every request of the command line, the console and scripts ends here.
//!
//! What takes time (a worker's answer, a drain, a name's lookup) is a continuation that waits for a message or a
//! deadline; operations on one name run one after the other ([`Manager::lock`]). Nothing blocks.
//! Must not know: sockets of clients, frames, how answers are drawn.

mod app;
mod apply;
mod ask;
mod backends;
mod certificates;
mod commit;
mod create;
mod listeners;
mod proxies;
mod queries;
mod reload;
mod restore;
mod runtime;
mod start;
mod stop;
mod streams;
#[cfg(test)]
mod tests;
mod verbs;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use app::{App, Degraded, source_to_check};
pub use apply::Change;
pub use backends::Resolved;
pub use runtime::{Origin, Runtime, Status};
pub use streams::SubscriptionId;

use super::answer::Answer;
use super::logs::Logs;
use super::state::StateFolder;
use crate::error::OperatorError;
use crate::id::{AppId, RuntimeId};
use crate::log::{LogLevel, LogRecord};
use crate::ring::Now;
use crate::runtime::keeper::thread::KeeperThread;
use crate::runtime::message::{FromWorker, Inbox, ToWorker};
use crate::runtime::stores::StoreMap;

/// Names one call that may still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A person, at the command line or console.
    Operator,
    /// A script of this app.
    App(String),
}

/// What a manager is made of.
pub struct ManagerSetup {
    /// The workers' inboxes, in order.
    pub workers: Arc<[Arc<Inbox<ToWorker>>]>,
    /// The caches.
    pub stores: Arc<StoreMap>,
    /// Where addresses of looked-up names arrive; the control loop's ring is woken by it.
    pub resolved: Arc<Inbox<Resolved>>,
    /// Where the threads that keep caches on disk report to.
    pub reports: Arc<Inbox<FromWorker>>,
    /// The log.
    pub logs: Logs,
    /// Where to keep what must survive; nothing is kept without.
    pub state: Option<StateFolder>,
    /// What `info` answers beside what changes.
    pub facts: serde_json::Map<String, Value>,
    /// The time.
    pub now: Now,
    /// Seeds the stores.
    pub seed: u64,
}

/// Continues an operation that may have failed.
type Then = Box<dyn FnOnce(&mut Manager, Result<(), OperatorError>)>;

/// Runtimes, apps and who asks about them.
pub struct Manager {
    setup: ManagerSetup,
    runtimes: BTreeMap<String, Runtime>,
    apps: BTreeMap<String, App>,
    listeners: listeners::Listeners,
    names: backends::Names,
    certificates: certificates::Certificates,
    asked: ask::Asked,
    streams: streams::Streams,
    ids: Ids,
    shutdown: Option<Shutdown>,
    /// Threads that still write down what a stopped cache held.
    finishing: BTreeMap<String, KeeperThread>,
    files_version: u64,
    started_ms: u64,
}

/// The last number given out of each sort.
#[derive(Default)]
struct Ids {
    call: u64,
    runtime: u32,
    app: u32,
}

/// The daemon is ending.
struct Shutdown {
    /// Workers that haven't ended.
    left: usize,
    /// When it ends anyway.
    deadline_ms: u64,
}

impl Manager {
    /// Nothing runs yet.
    pub fn new(setup: ManagerSetup) -> Manager {
        Manager {
            started_ms: setup.now.unix_ms,
            setup,
            runtimes: BTreeMap::new(),
            apps: BTreeMap::new(),
            listeners: listeners::Listeners::default(),
            names: backends::Names::default(),
            certificates: certificates::Certificates::default(),
            asked: ask::Asked::default(),
            streams: streams::Streams::default(),
            ids: Ids::default(),
            shutdown: None,
            finishing: BTreeMap::new(),
            files_version: 0,
        }
    }

    /// Does `verb` for a person. The answer comes now or later; the number is for [`Manager::cancel`].
    pub fn call(&mut self, verb: &str, arguments: Value, answer: Answer) -> CallId {
        self.call_as(Caller::Operator, verb, arguments, answer)
    }

    /// Workers had more to tell than could be taken: messages that someone watches, and log lines.
    pub fn on_lost(&mut self, count: u64) {
        let text =
            format!("{count} watched messages and log lines of workers were dropped: too many");
        self.log(LogLevel::Warn, "", text);
    }

    /// A new turn of the control loop: time passes, deadlines end.
    pub fn on_time(&mut self, now: Now) {
        self.setup.now = now;
        self.end_waits();
        let resolved = self.setup.resolved.take();
        for found in resolved {
            self.on_resolved(found);
        }
    }

    /// When [`Manager::on_time`] must be called although nothing happens.
    pub fn deadline_ms(&self) -> Option<u64> {
        let shutdown = self.shutdown.as_ref().map(|shutdown| shutdown.deadline_ms);
        self.asked.deadline_ms().into_iter().chain(shutdown).min()
    }

    /// A worker says something.
    pub fn on_message(&mut self, message: FromWorker) {
        match message {
            FromWorker::Prepared { request, .. }
            | FromWorker::Committed { request, .. }
            | FromWorker::Placed { request }
            | FromWorker::Unlistened { request }
            | FromWorker::Stopped { request }
            | FromWorker::SentTo { request, .. } => self.on_reply(request, Some(message)),
            FromWorker::Message { runtime, connection, bytes } => {
                self.streams.publish_message(runtime, connection, &bytes);
            }
            FromWorker::Evaluated { request, reply } => self.on_evaluated(request, reply),
            FromWorker::Output { request, frame } => self.on_output(request, frame),
            FromWorker::Daemon { worker, app, generation, task, verb, arguments } => {
                self.on_script_call((worker, app, generation, task), &verb, arguments);
            }
            FromWorker::Log(record) => self.on_log(record),
            FromWorker::GenerationEnded { app, generation } => {
                let text =
                    format!("generation {generation} has ended: nothing of it waits any more");
                let name = self.app_name(app).unwrap_or_default();
                self.log(LogLevel::Debug, &name, text);
            }
            FromWorker::Degraded { runtime, reason } => self.on_degraded(runtime, reason),
            FromWorker::Ended { .. } => {
                if let Some(shutdown) = &mut self.shutdown {
                    shutdown.left = shutdown.left.saturating_sub(1);
                }
            }
        }
    }

    /// Whether the daemon shall end: everything is closed, or the time for it is over.
    pub fn is_ended(&self) -> bool {
        self.shutdown.as_ref().is_some_and(|shutdown| {
            shutdown.left == 0 || self.setup.now.monotonic_ms() >= shutdown.deadline_ms
        })
    }

    /// Waits until all that caches hold is on disk, if it is kept there.
    pub fn end_keepers(&mut self) {
        let keepers = self.runtimes.values_mut().filter_map(|runtime| runtime.keeper.take());
        let keepers: Vec<KeeperThread> = keepers.collect();
        // All end at the same time; each drop waits for one.
        keepers.iter().for_each(KeeperThread::end_soon);
        drop(keepers);
        self.finishing.clear();
    }

    /// Whether the daemon is ending.
    pub fn is_ending(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Writes a line about a runtime, an app, or (with an empty `source`) the daemon.
    pub fn log(&mut self, level: LogLevel, source: &str, text: impl Into<String>) {
        let unix_ms = self.setup.now.unix_ms;
        self.on_log(LogRecord { unix_ms, level, source: source.to_owned(), text: text.into() });
    }

    fn on_log(&mut self, record: LogRecord) {
        if let Some(entry) = self.setup.logs.add(record) {
            self.streams.publish_log(entry);
        }
    }

    fn on_degraded(&mut self, id: RuntimeId, reason: String) {
        let Some(runtime) = self.runtimes.values_mut().find(|runtime| runtime.id == id) else {
            return;
        };
        runtime.degraded = Some(reason.clone());
        let name = runtime.name().to_owned();
        self.log(LogLevel::Warn, &name, reason);
    }

    fn app_name(&self, id: AppId) -> Option<String> {
        self.apps.iter().find(|(_, app)| app.id == id).map(|(name, _)| name.clone())
    }

    fn tell(&self, worker: u8, message: ToWorker) {
        self.setup.workers[usize::from(worker)].send(message);
    }

    fn worker_count(&self) -> usize {
        self.setup.workers.len()
    }
}
