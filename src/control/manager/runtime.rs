//! One runtime as the manager knows it, and where it is placed.
//!
//! Must not know: how it is started and stopped.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Manager;
use crate::control::state::SavedSource;
use crate::error::OperatorError;
use crate::id::{RuntimeId, RuntimeKind};
use crate::net::tls::Tls;
use crate::runtime::keeper::thread::KeeperThread;
use crate::runtime::{Placement, RuntimeConfig, RuntimeStats, WorkerCount};
use crate::store::SharedStore;
use crate::suggest::did_you_mean;

/// What a runtime is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its workers are told.
    Starting,
    /// Its workers serve it.
    Running,
    /// Its connections are ending.
    Stopping,
    /// Stopped.
    Stopped,
    /// It was to run and couldn't start.
    Failed,
}

impl Status {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Starting => "starting",
            Status::Running => "running",
            Status::Stopping => "stopping",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
        }
    }
}

/// Who made a runtime, and thereby who may change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A person.
    Operator,
    /// A script; it ends as its owner ends.
    Script {
        /// The runtime or app whose script made it.
        owner: String,
        /// Whether it is removed, not only stopped, when its owner stops.
        remove: bool,
    },
    /// A definition in an app's file.
    File {
        /// The app.
        app: String,
        /// Which of its definitions.
        definition: usize,
        /// Where.
        file: PathBuf,
        /// 1-based.
        line: u32,
    },
}

/// One runtime.
pub struct Runtime {
    /// Its number.
    pub id: RuntimeId,
    /// Its fields.
    pub config: Arc<RuntimeConfig>,
    /// Where its workers count.
    pub stats: Arc<RuntimeStats>,
    /// What it is doing.
    pub status: Status,
    /// Who made it.
    pub origin: Origin,
    /// The callbacks that its app has for it.
    pub handlers: Vec<String>,
    /// The workers that serve it, lowest first; empty unless it is placed.
    pub workers: Vec<u8>,
    /// cache: its store while it runs.
    pub store: Option<Arc<SharedStore>>,
    /// cache: who keeps it on disk while it runs.
    pub keeper: Option<KeeperThread>,
    /// Its certificates as last read, while it runs.
    pub tls: Tls,
    /// Whether it shall run: also true for one that couldn't start.
    pub wanted: bool,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// When it last started.
    pub started_ms: Option<u64>,
    /// Why it isn't doing its job as it should.
    pub degraded: Option<String>,
    /// After a restart: the last source of its script that worked, until it has started.
    pub good_script: Option<Arc<SavedSource>>,
}

impl Runtime {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Takes another configuration; a cache's store follows in what may change while it runs.
    pub fn set_config(&mut self, config: Arc<RuntimeConfig>, now_ms: u64) {
        let limit = |config: &RuntimeConfig| (config.maxmemory, config.eviction);
        let (maxmemory, eviction) = limit(&config);
        let changed = limit(&self.config) != (maxmemory, eviction);
        self.config = config;
        if let Some(store) = self.store.as_ref().filter(|_| changed) {
            store.set_limit(maxmemory, eviction, now_ms);
        }
    }

    /// Whether workers serve it.
    pub fn is_running(&self) -> bool {
        self.status == Status::Running
    }

    /// Whether it has a script of its own in the callback style.
    pub fn has_script(&self) -> bool {
        self.config.lua.is_some() && !matches!(self.origin, Origin::File { .. })
    }

    /// The app that its handlers live in, if it has one.
    pub fn app(&self) -> Option<&str> {
        match &self.origin {
            Origin::File { app, .. } => Some(app),
            _ if self.has_script() => Some(self.name()),
            _ => None,
        }
    }

    /// Which of its app's definitions it is.
    pub fn definition(&self) -> usize {
        if let Origin::File { definition, .. } = self.origin { definition } else { 0 }
    }

    /// The name that operations on it take turns for: its app's, or its own.
    pub fn lock_key(&self) -> String {
        self.app().unwrap_or(self.name()).to_owned()
    }

    /// Refuses what would contradict a file.
    ///
    /// # Errors
    /// A file defines it.
    pub fn check_editable(&self) -> Result<(), OperatorError> {
        let Origin::File { file, line, .. } = &self.origin else { return Ok(()) };
        let (kind, name, file) = (self.config.kind, self.name(), file.display());
        Err(OperatorError::failed(format!("{kind} \"{name}\" is defined in {file}:{line}"))
            .hint("change it there: a saved file takes effect at once"))
    }
}

impl Manager {
    /// A runtime by its exact name.
    pub(super) fn find(&self, name: &str) -> Result<&Runtime, OperatorError> {
        self.runtimes.get(name).ok_or_else(|| self.no_such_runtime(name))
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Result<&mut Runtime, OperatorError> {
        if !self.runtimes.contains_key(name) {
            return Err(self.no_such_runtime(name));
        }
        Ok(self.runtimes.get_mut(name).expect("checked above"))
    }

    fn no_such_runtime(&self, name: &str) -> OperatorError {
        let mut error = OperatorError::failed(format!("no such runtime: {name}"));
        error.hint = did_you_mean(name, self.runtimes.keys().map(String::as_str))
            .or_else(|| Some("`socketley ls` shows all of them".to_owned()));
        error
    }

    /// A runtime that nothing is known of yet.
    pub(super) fn new_runtime(&mut self, config: RuntimeConfig, origin: Origin) -> Runtime {
        self.ids.runtime += 1;
        Runtime {
            id: RuntimeId(self.ids.runtime),
            config: Arc::new(config),
            stats: Arc::new(RuntimeStats::new(self.worker_count())),
            status: Status::Created,
            origin,
            handlers: Vec::new(),
            workers: Vec::new(),
            store: None,
            keeper: None,
            tls: Tls::default(),
            wanted: false,
            created_ms: self.setup.now.unix_ms,
            started_ms: None,
            degraded: None,
            good_script: None,
        }
    }

    /// Whether a runtime with these callbacks lives where its app does. A cache's hooks run at its app's home, whichever
    /// workers serve the clients.
    pub(super) fn lives_with_app(kind: RuntimeKind, callbacks: &[String]) -> bool {
        match kind {
            RuntimeKind::Cache => {
                callbacks.iter().any(|name| matches!(name.as_str(), "on_connect" | "on_disconnect"))
            }
            _ => !callbacks.is_empty(),
        }
    }

    /// How many workers shall serve a runtime: a client has one connection; handlers' file-level locals mean what they
    /// look like only on one worker.
    pub(super) fn workers_wanted(&self, config: &RuntimeConfig, handlers: bool) -> usize {
        let all = self.worker_count();
        match config.workers {
            // One socket brings all datagrams of a UDP server, and knows all its peers.
            _ if config.kind == RuntimeKind::Client || config.udp => 1,
            WorkerCount::Default if handlers => 1,
            WorkerCount::Default | WorkerCount::All => all,
            WorkerCount::Count(count) => usize::from(count).min(all),
        }
    }

    /// The `count` least loaded workers, lowest first; `keep` are taken first, in their order.
    pub(super) fn choose_workers(&self, count: usize, keep: &[u8]) -> Vec<u8> {
        let mut load = vec![0usize; self.worker_count()];
        let narrow = |workers: &&Vec<u8>| workers.len() < self.worker_count();
        let placed = self.runtimes.values().map(|runtime| &runtime.workers);
        let apps = self.apps.values().map(|app| &app.workers);
        for worker in placed.chain(apps).filter(narrow).flatten() {
            load[usize::from(*worker)] += 1;
        }
        let mut others: Vec<u8> = (0..self.worker_count() as u8).collect();
        others.retain(|worker| !keep.contains(worker));
        others.sort_by_key(|worker| load[usize::from(*worker)]);
        let mut chosen: Vec<u8> = keep.iter().copied().chain(others).take(count).collect();
        chosen.sort_unstable();
        chosen
    }

    /// A runtime as its workers receive it, with the address that is really bound.
    pub(super) fn placement(&self, runtime: &Runtime) -> Placement {
        let mut config = (*runtime.config).clone();
        if let Some((address, _)) = self.listeners.of(runtime.name()) {
            config.listen = Some(address);
        }
        let app = runtime.app().and_then(|app| self.apps.get(app));
        Placement {
            id: runtime.id,
            backends: self.backends(&config),
            config: Arc::new(config),
            stats: Arc::clone(&runtime.stats),
            store: runtime.store.clone(),
            app: app.map(|app| (app.id, runtime.definition())),
            tls: runtime.tls.clone(),
            workers: runtime.workers.clone(),
        }
    }

    /// The verb `list`'s row of a runtime.
    pub(super) fn row(&self, runtime: &Runtime) -> Value {
        let listening = self.listeners.of(runtime.name()).map(|(address, _)| address);
        let listen = listening.or(runtime.config.listen.clone()).map(|address| address.to_string());
        let app = runtime.app().and_then(|app| Some((app, self.apps.get(app)?)));
        let owner = match &runtime.origin {
            Origin::Script { owner, .. } => Some(owner),
            Origin::File { app, .. } => Some(app),
            Origin::Operator => None,
        };
        let app_degraded = app.and_then(|(_, app)| Some(app.degraded.as_ref()?.text()));
        let uptime = runtime.started_ms.filter(|_| runtime.is_running());
        let mut row = json!({
            "id": runtime.id.0,
            "name": runtime.name(),
            "type": runtime.config.kind.name(),
            "status": runtime.status.name(),
            "listen": listen,
            "target": runtime.config.target,
            "connections": runtime.stats.sum(|cell| &cell.connections),
            "app": app.map(|(name, _)| name),
            "generation": app.map(|(_, app)| app.generation),
            "owner": owner,
            "created_ms": runtime.created_ms,
            "uptime_ms": uptime.map(|since| self.setup.now.unix_ms.saturating_sub(since)),
            "degraded": runtime.degraded.clone().or(app_degraded),
        });
        if let Some(row) = row.as_object_mut() {
            row.retain(|_, value| !value.is_null());
        }
        row
    }

    /// The verb `show`'s answer: the configuration first, as `create` takes it, then what it is doing.
    pub(super) fn shown(&self, runtime: &Runtime) -> Value {
        let mut shown = Map::new();
        shown.insert("type".to_owned(), json!(runtime.config.kind.name()));
        shown.insert("name".to_owned(), json!(runtime.name()));
        let mut fields = runtime.config.to_fields();
        for secret in ["password", "master_pw"] {
            if fields.contains_key(secret) {
                fields.insert(secret.to_owned(), json!("(hidden)"));
            }
        }
        shown.insert("fields".to_owned(), Value::Object(fields));
        if let Origin::File { file, line, .. } = &runtime.origin {
            shown.insert("defined".to_owned(), json!(format!("{}:{line}", file.display())));
        }
        if !runtime.handlers.is_empty() {
            shown.insert("handlers".to_owned(), json!(runtime.handlers));
        }
        let backends = self.backends(&runtime.config).into_iter().map(|backend| {
            let addresses: Vec<String> =
                backend.addresses.iter().map(ToString::to_string).collect();
            json!({ "name": backend.name, "addresses": addresses })
        });
        let backends: Vec<Value> = backends.collect();
        if !backends.is_empty() {
            shown.insert("backends".to_owned(), Value::Array(backends));
        }
        shown.insert("workers".to_owned(), json!(runtime.workers));
        if let Value::Object(row) = self.row(runtime) {
            let known =
                row.into_iter().filter(|(name, _)| !matches!(name.as_str(), "name" | "type"));
            shown.extend(known);
        }
        Value::Object(shown)
    }
}
