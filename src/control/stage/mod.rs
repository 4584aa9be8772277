//! `socketley test`: a file of tests and the app it is about, on one real worker over a simulated network and clock.
//!
//! The tests' VM is an app of that worker too: its connections, requests and pauses are the ones that scripts have,
//! in virtual time. This module places what the app under test defines, and answers the few questions that only
//! the stage can (`stdlib/test.lua` asks them). Must not know: the daemon, real sockets.

mod stubs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{manager, validate};
use crate::error::OperatorError;
use crate::id::{AppId, RuntimeId, RuntimeKind};
use crate::limits::{STAGE_BUDGET_MS, STAGE_TURNS_MAX, STAGE_VIRTUAL_MS_MAX};
use crate::lua::{AppSource, Definitions, Owner, Reply, Stores, Watchdog};
use crate::ring::sim::{Faults, Sim};
use crate::ring::{Address, Fd, Wait};
use crate::runtime::config::backend_of;
use crate::runtime::errands::Errands;
use crate::runtime::message::{FromWorker, Inbox, ToWorker};
use crate::runtime::stores::StoreMap;
use crate::runtime::{Access, Backend, Placement, RuntimeConfig, RuntimeStats};
use crate::store::{Settings, SharedStore};
use crate::worker::{Parts, Worker};
use stubs::Stubs;

/// The tests' own VM; the apps under test count on from here.
const TESTS: AppId = AppId(0);
/// The evaluation that runs the cases.
const RUN: u64 = 1;

/// One case and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// All its names.
    pub name: String,
    /// Nothing: it passed; else why not.
    pub failure: Option<String>,
}

/// Runs the cases of a file whose names contain the filter.
///
/// # Errors
/// The file can't be read or loaded, or has no cases.
pub fn run(
    file: &Path,
    filter: Option<&str>,
    watchdog: &Watchdog,
) -> Result<Vec<Case>, OperatorError> {
    let mut source = manager::source_to_check(file)?;
    source.limits.budget_ms = STAGE_BUDGET_MS;
    let folder = source.path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut stage = Stage::new(folder, watchdog);
    stage.load_tests(source)?;
    let filter = filter.map_or("nil".to_owned(), |text| Value::from(text).to_string());
    let code = format!(
        "require('socketley.test').run(function(name, ok, text) \
         require('socketley.control').call('test.report', {{ name = name, ok = ok, text = text }}) end, {filter})"
    );
    stage.tell(ToWorker::Evaluate { request: RUN, app: TESTS, code });
    stage.turn_until("the tests", |stage| stage.ended.is_some())?;
    match stage.ended.take() {
        Some(Err(text)) => Err(OperatorError::failed(format!("{}: {text}", file.display()))),
        _ => Ok(stage.cases),
    }
}

struct Known(Rc<StoreMap>);

impl Stores for Known {
    fn find(&self, name: &str) -> Option<Arc<SharedStore>> {
        self.0.find(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

/// A runtime of the app under test.
struct Placed {
    id: RuntimeId,
    name: String,
    address: Option<SocketAddr>,
    listener: Option<Fd>,
}

struct Stage {
    folder: PathBuf,
    sim: Sim,
    worker: Worker,
    inbox: Arc<Inbox<ToWorker>>,
    control: Arc<Inbox<FromWorker>>,
    stores: Rc<StoreMap>,
    requests: u64,
    answered: BTreeMap<u64, Result<Option<Definitions>, String>>,
    app: AppId,
    runtimes: Vec<Placed>,
    next_runtime: u32,
    stubs: Stubs,
    logs: Vec<String>,
    cases: Vec<Case>,
    ended: Option<Reply>,
}

impl Stage {
    fn new(folder: PathBuf, watchdog: &Watchdog) -> Stage {
        let sim = Sim::new(1);
        sim.set_faults(Faults::NONE);
        let inboxes: Arc<[_]> = Arc::new([Arc::new(Inbox::default())]);
        let (control, stores) = (Arc::new(Inbox::default()), Rc::new(StoreMap::default()));
        let mut worker = Worker::new(Parts {
            index: 0,
            driver: Box::new(sim.driver()),
            control: Arc::clone(&control),
            inboxes: Arc::clone(&inboxes),
            stores: Rc::new(Known(Rc::clone(&stores))),
            watch: watchdog.register(),
            errands: Errands::default(),
            seed: 1,
        });
        worker.local().sockets.know_no_hosts();
        Stage {
            folder,
            sim,
            worker,
            inbox: Arc::clone(&inboxes[0]),
            control,
            stores,
            requests: RUN,
            answered: BTreeMap::new(),
            app: TESTS,
            runtimes: Vec::new(),
            next_runtime: 1,
            stubs: Stubs::default(),
            logs: Vec::new(),
            cases: Vec::new(),
            ended: None,
        }
    }

    fn tell(&self, message: ToWorker) {
        self.inbox.send(message);
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn turn_until(
        &mut self,
        what: &str,
        until: impl Fn(&Stage) -> bool,
    ) -> Result<(), OperatorError> {
        let start_ms = self.sim.now().monotonic_ms();
        for _ in 0..STAGE_TURNS_MAX {
            if until(self) {
                return Ok(());
            }
            let passed_ms = self.sim.now().monotonic_ms() - start_ms;
            if passed_ms > STAGE_VIRTUAL_MS_MAX {
                break;
            }
            let wait = Wait::Until(self.sim.now().monotonic_ns + 1_000_000_000);
            self.worker.turn(wait).map_err(|error| OperatorError::failed(error.to_string()))?;
            self.stubs.serve(&self.sim);
            for message in self.control.take() {
                self.hear(message);
            }
        }
        Err(OperatorError::failed(format!("{what} wait for something that never comes")).hint(
            "a receive without a message, a request that nobody answers, or a loop of timers",
        ))
    }

    fn hear(&mut self, message: FromWorker) {
        match message {
            FromWorker::Prepared { request, result, .. } => {
                let result = result.map(Some).map_err(|error| error.to_string());
                self.answered.insert(request, result);
            }
            FromWorker::Committed { request, result } => {
                let result = result.map(|()| None).map_err(|error| error.to_string());
                self.answered.insert(request, result);
            }
            FromWorker::Unlistened { request } | FromWorker::Stopped { request } => {
                self.answered.insert(request, Ok(None));
            }
            FromWorker::Evaluated { request: RUN, reply } => self.ended = Some(reply),
            FromWorker::Log(record) => {
                self.logs.push(format!("{}: {}", record.source, record.text))
            }
            FromWorker::Daemon { app, generation, task, verb, arguments, .. } => {
                let reply = match (app, verb.strip_prefix("test.")) {
                    (TESTS, Some(verb)) => self.verb(verb, &arguments),
                    _ => Err(format!("{verb}: there is no daemon in a test")),
                };
                self.tell(ToWorker::Answer { app, generation, task, reply });
            }
            _ => {}
        }
    }

    /// Waits for the answer to a request.
    fn answer(&mut self, request: u64) -> Result<Option<Definitions>, String> {
        let came = |stage: &Stage| stage.answered.contains_key(&request);
        self.turn_until("the app", came).map_err(|error| error.message)?;
        self.answered.remove(&request).unwrap_or(Ok(None))
    }

    fn load_tests(&mut self, source: AppSource) -> Result<(), OperatorError> {
        let name = source.path.display().to_string();
        let request = self.request();
        self.tell(ToWorker::Prepare { request, app: TESTS, source: Arc::new(source) });
        let defined = self.answer(request).map_err(OperatorError::failed)?;
        if defined.is_some_and(|defined| !defined.runtimes.is_empty()) {
            return Err(OperatorError::failed(format!(
                "{name}: a file of tests defines no runtimes"
            ))
            .hint("put them into a file of their own, and name it with t.load"));
        }
        let request = self.request();
        let commit = ToWorker::Commit {
            request,
            app: TESTS,
            generation: 1,
            placements: Vec::new(),
            is_home: true,
        };
        self.tell(commit);
        self.answer(request).map(drop).map_err(OperatorError::failed)
    }

    /// What the tests ask for.
    fn verb(&mut self, verb: &str, arguments: &Value) -> Reply {
        let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        match verb {
            "report" => {
                let failure = (arguments["ok"] != true).then(|| text("text"));
                self.cases.push(Case { name: text("name"), failure });
                Ok(Value::Null)
            }
            "load" => self.load(arguments),
            "place" => self.place_of(&text("runtime")),
            "logs" => Ok(json!(self.logs)),
            "stub" => {
                let ip = self.stubs.add(&self.sim, arguments)?;
                if let Some((host, ip)) = ip {
                    self.worker.local().sockets.call_host(&host, ip);
                }
                Ok(Value::Null)
            }
            "requests" => Ok(self.stubs.requests()),
            other => Err(format!("no question is called {other}")),
        }
    }

    /// Where a runtime is reached.
    fn place_of(&self, name: &str) -> Reply {
        let found = self.runtimes.iter().find(|runtime| runtime.name == name);
        match found.and_then(|runtime| runtime.address) {
            Some(address) => {
                Ok(json!({ "host": address.ip().to_string(), "port": address.port() }))
            }
            None => {
                let names: Vec<&str> = self.runtimes.iter().map(|it| it.name.as_str()).collect();
                let names = names.join(", ");
                Err(format!("no runtime called \"{name}\" listens here; there are: {names}"))
            }
        }
    }

    // The app under test --------------------------------------------------------------------------------------------

    /// Ends the app under test, and puts a fresh one in its place.
    fn load(&mut self, arguments: &Value) -> Reply {
        self.unload()?;
        self.stubs.forget_requests();
        self.logs.clear();
        let path = self.folder.join(arguments["path"].as_str().unwrap_or_default());
        let mut source = manager::source_to_check(&path).map_err(|error| error.message)?;
        let script = arguments["script"].as_object();
        if let Some(script) = script {
            let kind = script.get("type").and_then(Value::as_str).unwrap_or("server");
            source.owner = Some(Owner {
                kind: RuntimeKind::parse(kind).ok_or_else(|| format!("{kind} is no type"))?,
                name: script.get("name").and_then(Value::as_str).unwrap_or("main").to_owned(),
                port: script.get("port").and_then(Value::as_u64).unwrap_or(9000) as u16,
            });
        }
        let owner = source.owner.clone();
        self.app = AppId(self.app.0 + 1);
        let (request, app) = (self.request(), self.app);
        self.tell(ToWorker::Prepare { request, app, source: Arc::new(source) });
        let defined = self.answer(request)?.unwrap_or_default();
        let configs = match owner {
            None => validate::check(&defined, &validate::World::default()).map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(validate::Problem::short).collect();
                lines.join("\n")
            })?,
            Some(owner) => vec![script_config(&owner)],
        };
        self.commit(configs)
    }

    fn commit(&mut self, configs: Vec<RuntimeConfig>) -> Reply {
        let mut placements = Vec::new();
        let mut placed = Vec::new();
        let known =
            configs.iter().filter_map(|it| Some((it.name.clone(), it.listen.as_ref()?.socket()?)));
        let known: BTreeMap<String, SocketAddr> = known.collect();
        for (index, mut config) in configs.into_iter().enumerate() {
            // Silent clients are met at once: a test needn't wait for them.
            config.detect_ms = config.detect_ms.min(1);
            // A port that the system would choose: one that nobody else has here.
            if let Some(Address::Ip(listen) | Address::Udp(listen)) = &mut config.listen
                && listen.port() == 0
            {
                listen.set_port(40_000 + index as u16);
            }
            let id = RuntimeId(self.next_runtime);
            self.next_runtime += 1;
            let address = config.listen.as_ref().and_then(Address::socket);
            let address = address.map(|listen| match listen.ip().is_unspecified() {
                true => SocketAddr::from(([127, 0, 0, 1], listen.port())),
                false => listen,
            });
            let (name, runs) = (config.name.clone(), config.autostart.unwrap_or(true));
            placed.push((Placed { id, name, address, listener: None }, runs));
            let placement = self.placement(index, id, config, &known);
            if runs {
                placements.push(placement);
            }
        }
        let (request, app) = (self.request(), self.app);
        self.tell(ToWorker::Commit { request, app, generation: 1, placements, is_home: true });
        self.answer(request)?;
        for (mut runtime, runs) in placed {
            if let (Some(address), true) = (runtime.address, runs) {
                let fd = self.sim.listen(address);
                runtime.listener = Some(fd);
                self.tell(ToWorker::Listen { runtime: runtime.id, fd });
            }
            self.runtimes.push(runtime);
        }
        Ok(Value::Null)
    }

    fn placement(
        &self,
        index: usize,
        id: RuntimeId,
        config: RuntimeConfig,
        known: &BTreeMap<String, SocketAddr>,
    ) -> Placement {
        let store = (config.kind == RuntimeKind::Cache).then(|| self.store(&config));
        let names = config.backends.iter().chain(&config.target);
        let backends = names
            .map(|name| {
                let backend = backend_of(name);
                let found = known.get(&backend.address).copied();
                let found = found.or_else(|| backend.address.parse().ok()).map(Address::Ip);
                Backend { addresses: found.into_iter().collect(), ..backend }
            })
            .collect();
        Placement {
            id,
            stats: Arc::new(RuntimeStats::new(1)),
            store,
            backends,
            app: Some((self.app, index)),
            tls: crate::net::tls::Tls::default(),
            workers: vec![0],
            config: Arc::new(config),
        }
    }

    fn store(&self, config: &RuntimeConfig) -> Arc<SharedStore> {
        let store = SharedStore::new(&Settings {
            name: config.name.clone(),
            password: config.password.clone().map(String::into_bytes),
            readonly: config.access == Access::ReadOnly,
            admin: config.access == Access::Admin,
            maxmemory: config.maxmemory,
            policy: config.eviction,
            seed: 1,
            now_ms: self.sim.now().unix_ms,
            scripting: Some(crate::lua::scripts::make),
            ..Settings::default()
        });
        self.stores.insert(&config.name, Arc::clone(&store));
        store
    }

    fn unload(&mut self) -> Result<(), String> {
        for runtime in std::mem::take(&mut self.runtimes) {
            if let Some(fd) = runtime.listener {
                let request = self.request();
                self.tell(ToWorker::Unlisten { request, runtime: runtime.id });
                self.answer(request)?;
                self.sim.close_listener(fd);
            }
            let request = self.request();
            self.tell(ToWorker::Stop { request, runtime: runtime.id, drain_ms: 1 });
            self.answer(request)?;
            self.stores.remove(&runtime.name);
        }
        if self.app != TESTS {
            self.tell(ToWorker::DropApp { app: self.app });
        }
        Ok(())
    }
}

fn script_config(owner: &Owner) -> RuntimeConfig {
    let mut config = RuntimeConfig::new(owner.kind, &owner.name);
    config.listen = Some(Address::Ip(SocketAddr::from(([127, 0, 0, 1], owner.port))));
    config
}
