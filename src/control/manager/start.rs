//! Starting a runtime: what it needs, its workers, its listener.
//!
//! Must not know: what an app's file says.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Manager, Status, Then};
use crate::error::OperatorError;
use crate::id::RuntimeKind;
use crate::log::{LogLevel, LogRecord};
use crate::runtime::keeper::thread::KeeperThread;
use crate::runtime::message::{FromWorker, ToWorker};
use crate::runtime::{Access, RuntimeConfig};
use crate::store::persistence::Persist;
use crate::store::{Settings, SharedStore};

impl Manager {
    /// Starts a runtime; one that runs is left alone. Its lock is held by the caller.
    pub(super) fn start_runtime(&mut self, name: &str, then: Then) {
        let runtime = match self.find_mut(name) {
            Ok(runtime) => runtime,
            Err(error) => return then(self, Err(error)),
        };
        if runtime.is_running() {
            return then(self, Ok(()));
        }
        runtime.wanted = true;
        runtime.status = Status::Starting;
        let (script, name) = (runtime.has_script(), name.to_owned());
        let started = {
            let name = name.clone();
            move |manager: &mut Manager, result: Result<(), OperatorError>| {
                if let Err(error) = &result {
                    manager.start_failed(&name, error);
                }
                manager.save(&name);
                then(manager, result);
            }
        };
        if script {
            self.load_script(&name, Box::new(started));
        } else {
            self.place_runtime(&name, Box::new(started));
        }
    }

    fn start_failed(&mut self, name: &str, error: &OperatorError) {
        self.release(name);
        if let Some(runtime) = self.runtimes.get_mut(name) {
            runtime.status = Status::Failed;
            runtime.workers.clear();
            runtime.degraded = Some(error.message.clone());
            self.log(LogLevel::Error, name, format!("can't start: {}", error.message));
        }
    }

    /// Starts a runtime whose app, if it has one, runs already.
    fn place_runtime(&mut self, name: &str, then: Then) {
        if let Err(error) = self.acquire(name) {
            return then(self, Err(error));
        }
        let Some(runtime) = self.runtimes.get(name) else { return };
        let app_workers = runtime.app().and_then(|app| Some(self.apps.get(app)?.workers.clone()));
        let handlers = Self::lives_with_app(runtime.config.kind, &runtime.handlers);
        let config = Arc::clone(&runtime.config);
        let workers = self.workers_for(&config, handlers, app_workers.as_deref());
        if let Some(runtime) = self.runtimes.get_mut(name) {
            runtime.workers = workers;
        }
        let name = name.to_owned();
        self.resolve(&[config], move |manager| {
            let Some(runtime) = manager.runtimes.get(&name) else { return };
            let (placement, workers) = (manager.placement(runtime), runtime.workers.clone());
            manager.ask(
                &workers,
                move |request, _| ToWorker::Place { request, placement: placement.clone() },
                move |manager, replies| {
                    if replies.missing > 0 {
                        manager.withdraw(&name);
                        return then(manager, Err(no_answer(replies.missing)));
                    }
                    manager.begin(&name);
                    then(manager, Ok(()));
                },
            );
        });
    }

    /// The workers for a runtime: with handlers among its app's; an app's others include its home, so that the app's
    /// code reaches them.
    pub(super) fn workers_for(
        &self,
        config: &RuntimeConfig,
        handlers: bool,
        app: Option<&[u8]>,
    ) -> Vec<u8> {
        let count = self.workers_wanted(config, handlers);
        match app {
            Some(app) if handlers => {
                let mut workers = app[..count.min(app.len())].to_vec();
                workers.sort_unstable();
                workers
            }
            Some(app) => self.choose_workers(count, &app[..1]),
            None => self.choose_workers(count, &[]),
        }
    }

    /// Binds a runtime's address and makes its store.
    ///
    /// # Errors
    /// The address can't be bound.
    pub(super) fn acquire(&mut self, name: &str) -> Result<(), OperatorError> {
        let Some(runtime) = self.runtimes.get(name) else { return Ok(()) };
        let config = Arc::clone(&runtime.config);
        let tls = config.load_tls(Some(&runtime.tls))?;
        if let Some(runtime) = self.runtimes.get_mut(name) {
            runtime.tls = tls;
        }
        let mut port = 0;
        if let Some(listen) = &config.listen {
            port = self.listeners.bind(name, listen, &config.socket)?.port();
        }
        if config.kind == RuntimeKind::Cache {
            self.make_store(&config, port);
        }
        Ok(())
    }

    pub(super) fn make_store(&mut self, config: &RuntimeConfig, port: u16) {
        let Some(runtime) = self.runtimes.get_mut(&config.name) else { return };
        if runtime.store.is_some() {
            return;
        }
        // Whoever still writes down what it held before must have done so.
        self.finishing.remove(&config.name);
        let folder = self.setup.state.as_ref().map(|state| state.cache(&config.name));
        let folder = folder.filter(|_| config.persist != Persist::None);
        let settings = Settings {
            name: config.name.clone(),
            sync: config.appendfsync,
            persist: if folder.is_some() { config.persist } else { Persist::None },
            folder: folder.as_ref().map(|it| it.display().to_string()).unwrap_or_default(),
            port,
            password: config.password.clone().map(String::into_bytes),
            readonly: config.access == Access::ReadOnly,
            admin: config.access == Access::Admin,
            maxmemory: config.maxmemory,
            policy: config.eviction,
            primary: config.replicate.clone(),
            snapshot: Some(crate::replication::primary::snapshot),
            seed: self.setup.seed ^ u64::from(runtime.id.0) << 32,
            now_ms: self.setup.now.unix_ms,
            scripting: Some(crate::lua::scripts::make),
            clock: Some(crate::ring::clock::monotonic_ns),
            ..Settings::default()
        };
        let store = SharedStore::new(&settings);
        self.setup.stores.insert(&config.name, Arc::clone(&store));
        runtime.store = Some(Arc::clone(&store));
        for worker in 0..self.worker_count() as u8 {
            self.tell(worker, ToWorker::CachesChanged);
        }
        match folder {
            Some(folder) => self.keep(&config.name, store, folder),
            None if config.persist != Persist::None => {
                let text = "isn't kept on disk: `socketley run` keeps nothing; use `socketley daemon` and `apply`";
                self.log(LogLevel::Warn, &config.name, text);
            }
            None => {}
        }
    }

    /// Keeps a cache's keys in a folder from now on, after loading what is there.
    fn keep(&mut self, name: &str, store: Arc<SharedStore>, folder: PathBuf) {
        let (reports, source) = (Arc::clone(&self.setup.reports), name.to_owned());
        let report = move |level, text| {
            let (unix_ms, source) = (crate::ring::clock::now().unix_ms, source.clone());
            reports.send(FromWorker::Log(LogRecord { unix_ms, level, source, text }));
        };
        match KeeperThread::start(store, folder, Box::new(report)) {
            Ok(keeper) => {
                if let Some(runtime) = self.runtimes.get_mut(name) {
                    runtime.keeper = Some(keeper);
                }
            }
            Err(error) => {
                self.log(
                    LogLevel::Error,
                    name,
                    format!("isn't kept on disk: no thread for that: {error}"),
                );
            }
        }
    }

    /// Gives back what [`Manager::acquire`] took. Nothing may accept any more.
    pub(super) fn release(&mut self, name: &str) {
        self.listeners.close(name);
        if let Some(runtime) = self.runtimes.get_mut(name)
            && runtime.store.take().is_some()
        {
            self.setup.stores.remove(name);
            if let Some(keeper) = runtime.keeper.take() {
                keeper.end_soon();
                self.finishing.insert(name.to_owned(), keeper);
            }
        }
    }

    /// Its workers have it: from now on it runs and accepts.
    pub(super) fn begin(&mut self, name: &str) {
        let now_ms = self.setup.now.unix_ms;
        let Some(runtime) = self.runtimes.get_mut(name) else { return };
        runtime.status = Status::Running;
        runtime.started_ms = Some(now_ms);
        runtime.degraded = None;
        let kind = runtime.config.kind;
        let target = runtime.config.target.clone();
        self.listen(name);
        let text = match (self.listeners.of(name), target) {
            (Some((address, _)), _) => format!("{kind} listens on {address}"),
            (None, Some(target)) => format!("{kind} connects to {target}"),
            (None, None) => format!("{kind} runs"),
        };
        self.log(LogLevel::Info, name, text);
        self.follow_certificates(name);
        self.refresh_dependents(name);
    }

    /// Lets the first worker of a runtime accept.
    pub(super) fn listen(&mut self, name: &str) {
        let Some((_, fd)) = self.listeners.of(name) else { return };
        let Some(runtime) = self.runtimes.get(name) else { return };
        if let Some(first) = runtime.workers.first() {
            self.tell(*first, ToWorker::Listen { runtime: runtime.id, fd });
        }
    }

    /// Takes a runtime back from workers of which one doesn't answer.
    fn withdraw(&mut self, name: &str) {
        let Some(runtime) = self.runtimes.get(name) else { return };
        for worker in &runtime.workers {
            self.tell(*worker, ToWorker::Stop { request: 0, runtime: runtime.id, drain_ms: 0 });
        }
    }
}

/// A worker that is too busy, or stuck in a script, to answer.
pub(super) fn no_answer(missing: usize) -> OperatorError {
    let who = if missing == 1 { "a worker doesn't" } else { "some workers don't" };
    OperatorError::failed(format!("{who} answer in time"))
        .hint("`socketley logs` may say what keeps it; the request may still take effect")
}
