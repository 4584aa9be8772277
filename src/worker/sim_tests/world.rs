//! Workers, a simulated network under them, and a control thread that asks and counts the answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use super::super::turn::{Parts, Worker};
use crate::id::{RuntimeId, RuntimeKind};
use crate::lua::{Stores, WatchSlot, Watchdog};
use crate::ring::random::Random;
use crate::ring::sim::{Faults, Sim};
use crate::ring::{Fd, Wait};
use crate::runtime::message::{FromWorker, Inbox, ToWorker};
use crate::runtime::stores::StoreMap;
use crate::runtime::{Backend, Placement, Protocol, RuntimeConfig, RuntimeStats, WorkerCount};
use crate::store::{Hasher, Settings, SharedStore};

/// Turns after which a story that doesn't end has failed.
const TURNS_MAX: usize = 400_000;

pub struct World {
    pub sim: Sim,
    pub random: Random,
    /// Nothing in the place of one that has ended.
    pub workers: Vec<Option<Worker>>,
    pub inboxes: Arc<[Arc<Inbox<ToWorker>>]>,
    control: Arc<Inbox<FromWorker>>,
    /// What the workers have said, but for answers and log lines.
    pub heard: Vec<FromWorker>,
    /// Log lines, for the message of a failure.
    pub logs: Vec<String>,
    /// How often each request was answered, and with which count if it has one.
    pub answers: BTreeMap<u64, (usize, u64)>,
    pub runtimes: Vec<Runtime>,
    /// The caches that scripts find by name.
    named: Rc<NamedStores>,
    /// Of the runtimes to come.
    pub tls: crate::net::tls::Tls,
    requests: u64,
    turns: usize,
}

/// A placed runtime.
#[derive(Clone)]
pub struct Runtime {
    pub placement: Placement,
    pub address: SocketAddr,
    /// Nothing when it isn't listened for.
    pub listener: Option<Fd>,
}

impl Runtime {
    pub fn id(&self) -> RuntimeId {
        self.placement.id
    }

    pub fn stats(&self) -> &RuntimeStats {
        &self.placement.stats
    }

    pub fn connections(&self) -> u64 {
        self.stats().sum(|cell| &cell.connections)
    }
}

struct NamedStores(StoreMap);

impl Stores for NamedStores {
    fn find(&self, name: &str) -> Option<Arc<SharedStore>> {
        self.0.find(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

/// A runtime's fields at their defaults.
pub fn config(kind: RuntimeKind) -> RuntimeConfig {
    RuntimeConfig {
        listen: None,
        target: None,
        protocol: Protocol::Messages,
        workers: WorkerCount::All,
        ..RuntimeConfig::new(kind, kind.name())
    }
}

pub fn store(seed: u64, password: Option<&str>) -> Arc<SharedStore> {
    SharedStore::new(&Settings {
        name: "db".to_owned(),
        password: password.map(|password| password.as_bytes().to_vec()),
        seed,
        hasher: Some(Hasher::seeded(seed)),
        ..Settings::default()
    })
}

/// This thread's place at the watchdog; its workers take turns.
fn watch_slot() -> Arc<WatchSlot> {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    thread_local! {
        static SLOT: Arc<WatchSlot> = WATCHDOG.get_or_init(Watchdog::start).register();
    }
    SLOT.with(Arc::clone)
}

impl World {
    pub fn new(seed: u64, mut random: Random, workers: u8, faults: Faults) -> World {
        let sim = Sim::new(random.next_u64());
        sim.set_faults(faults);
        let inboxes: Arc<[_]> = (0..workers).map(|_| Arc::new(Inbox::default())).collect();
        let control = Arc::new(Inbox::default());
        let named = Rc::new(NamedStores(StoreMap::default()));
        let stores: Rc<dyn Stores> = Rc::clone(&named) as _;
        let worker = |index| {
            Some(Worker::new(Parts {
                index,
                driver: Box::new(sim.driver()),
                control: Arc::clone(&control),
                inboxes: Arc::clone(&inboxes),
                stores: Rc::clone(&stores),
                watch: watch_slot(),
                errands: crate::runtime::errands::Errands::default(),
                seed: seed ^ u64::from(index) << 32,
            }))
        };
        let workers = (0..workers).map(worker).collect();
        World {
            sim,
            random,
            workers,
            inboxes,
            control,
            heard: Vec::new(),
            logs: Vec::new(),
            answers: BTreeMap::new(),
            runtimes: Vec::new(),
            named,
            tls: crate::net::tls::Tls::default(),
            requests: 0,
            turns: 0,
        }
    }

    /// Scripts find a cache, and what listens joins it.
    pub fn name_store(&mut self, name: &str, store: Arc<SharedStore>) {
        self.named.0.insert(name, store);
        (0..self.workers.len() as u8).for_each(|worker| self.tell(worker, ToWorker::CachesChanged));
    }

    pub fn worker_count(&self) -> u8 {
        self.workers.len() as u8
    }

    pub fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Places a runtime on all workers and listens for it on the first one, unless it is a client.
    pub fn place(
        &mut self,
        config: RuntimeConfig,
        backends: Vec<Backend>,
        store: Option<Arc<SharedStore>>,
    ) -> Runtime {
        let listens = config.kind != RuntimeKind::Client;
        let workers = if listens { self.workers.len() as u8 } else { 1 };
        let index = self.add(config, backends, store, workers);
        for worker in 0..workers {
            let request = self.request();
            let placement = self.runtimes[index].placement.clone();
            self.tell(worker, ToWorker::Place { request, placement });
        }
        if listens {
            self.listen(index);
        }
        self.runtimes[index].clone()
    }

    /// A runtime's entry, which no worker knows yet: its index.
    pub fn add(
        &mut self,
        config: RuntimeConfig,
        backends: Vec<Backend>,
        store: Option<Arc<SharedStore>>,
        workers: u8,
    ) -> usize {
        let index = self.runtimes.len();
        let address = SocketAddr::from(([127, 0, 0, 1], 9000 + index as u16));
        let placement = Placement {
            id: RuntimeId(index as u32 + 1),
            config: Arc::new(config),
            stats: Arc::new(RuntimeStats::new(self.workers.len())),
            store,
            backends,
            app: None,
            tls: self.tls.clone(),
            workers: (0..workers).collect(),
        };
        self.runtimes.push(Runtime { placement, address, listener: None });
        index
    }

    pub fn tell(&self, worker: u8, message: ToWorker) {
        self.inboxes[usize::from(worker)].send(message);
    }

    pub fn listen(&mut self, index: usize) {
        let runtime = &self.runtimes[index];
        let fd = match runtime.placement.config.udp {
            true => self.sim.datagram(runtime.address),
            false => self.sim.listen(runtime.address),
        };
        self.runtimes[index].listener = Some(fd);
        self.tell(0, ToWorker::Listen { runtime: self.runtimes[index].id(), fd });
    }

    /// Asks the first worker to stop accepting, and closes the listener when it says so.
    pub fn unlisten(&mut self, index: usize) {
        let Some(fd) = self.runtimes[index].listener.take() else { return };
        let request = self.request();
        self.tell(0, ToWorker::Unlisten { request, runtime: self.runtimes[index].id() });
        self.run("unlistening", |world| world.answers.contains_key(&request));
        self.sim.close_listener(fd);
    }

    /// Sends a message to connections of a runtime; the request, for [`World::answers`].
    pub fn send(&mut self, worker: u8, runtime: RuntimeId, bytes: &[u8]) -> u64 {
        let request = self.request();
        let to = crate::runtime::message::Recipients::All;
        self.tell(worker, ToWorker::Send { request, runtime, to, bytes: bytes.into(), kind: None });
        request
    }

    /// One turn of one worker.
    pub fn turn(&mut self) {
        self.turns += 1;
        let count = self.workers.len() as u64;
        let index = self.random.below(count) as usize;
        let span_ns = self.random.below(1 << self.random.clone().below(27));
        let Some(worker) = &mut self.workers[index] else { return };
        // Never for ever: a peer's pause would last until the next timer, however far that is.
        let wait = Wait::Until(self.sim.now().monotonic_ns + span_ns);
        if !worker.turn(wait).expect("the simulated ring never breaks") {
            self.workers[index] = None;
        }
        for message in self.control.take() {
            self.hear(message);
        }
    }

    fn hear(&mut self, message: FromWorker) {
        let (request, count) = match message {
            FromWorker::Log(record) => return self.logs.push(record.text),
            FromWorker::Placed { request }
            | FromWorker::Unlistened { request }
            | FromWorker::Stopped { request } => (request, 0),
            FromWorker::SentTo { request, count } => (request, count),
            FromWorker::Committed { request, result: Ok(()) } => (request, 0),
            other => return self.heard.push(other),
        };
        let answer = self.answers.entry(request).or_default();
        *answer = (answer.0 + 1, count);
    }

    /// Turns until a condition holds.
    pub fn run(&mut self, what: &str, mut until: impl FnMut(&mut World) -> bool) {
        let start = self.turns;
        while !until(self) {
            self.turn();
            if self.turns - start > TURNS_MAX {
                let last = self.logs.len().saturating_sub(20);
                panic!("{what} never ends; the last log lines: {:#?}", &self.logs[last..]);
            }
        }
    }

    /// Lets some virtual time pass.
    pub fn run_for_ms(&mut self, ms: u64) {
        let end_ns = self.sim.now().monotonic_ns + ms * 1_000_000;
        self.run("waiting", |world| world.sim.now().monotonic_ns >= end_ns);
    }

    /// Looks at every worker's connections.
    pub fn each_connection(
        &mut self,
        mut look: impl FnMut(&crate::runtime::connection::Connection),
    ) {
        for worker in self.workers.iter_mut().flatten() {
            let connections = &worker.local().connections;
            connections.slots().filter_map(|slot| connections.get(slot)).for_each(&mut look);
        }
    }

    /// Stops a runtime on all its workers and waits for the answers.
    pub fn stop(&mut self, index: usize, drain_ms: u64) {
        let workers = self.runtimes[index].placement.workers.clone();
        let runtime = self.runtimes[index].id();
        let mut requests = Vec::new();
        for worker in workers {
            requests.push(self.request());
            let request = self.requests;
            self.tell(worker, ToWorker::Stop { request, runtime, drain_ms });
        }
        self.run("stopping", |world| {
            requests.iter().all(|request| world.answers.contains_key(request))
        });
    }

    /// Ends everything as the control thread does, and checks that nothing is left. The run's digest.
    pub fn finish(mut self) -> u64 {
        for index in 0..self.runtimes.len() {
            self.unlisten(index);
            let drain_ms = 1 + self.random.below(3000);
            self.stop(index, drain_ms);
        }
        let (sim, runtimes) = (self.sim.clone(), self.runtimes.clone());
        for worker in self.workers.iter_mut().flatten() {
            let local = worker.local();
            let adopting = local.connections.len();
            assert_eq!(adopting, 0, "connections are left of stopped runtimes");
            assert!(local.index.is_empty() && local.instances.iter().all(Option::is_none));
        }
        self.run("closing", |_| sim.open_sockets() == 0 && sim.ops_in_flight() == 0);
        for runtime in runtimes {
            let stats = runtime.stats();
            assert_eq!(runtime.connections(), 0, "the connections' counter");
            assert_eq!(stats.sum(|cell| &cell.upstream_connections), 0, "the upstream counter");
            if let Some(store) = &runtime.placement.store {
                assert_eq!(store.snapshot(0).clients, 0, "clients are left in the store");
            }
        }
        self.shut_down(1000)
    }

    /// Ends the workers and checks that nothing is open and nothing was answered twice. The run's digest.
    pub fn shut_down(mut self, drain_ms: u64) -> u64 {
        for worker in 0..self.workers.len() as u8 {
            self.tell(worker, ToWorker::Shutdown { drain_ms });
        }
        self.run("the shutdown", |world| world.workers.iter().all(Option::is_none));
        assert_eq!(self.sim.ops_in_flight(), 0, "ops of workers that have ended");
        for (request, (times, _)) in &self.answers {
            assert_eq!(*times, 1, "request {request} was answered {times} times");
        }
        self.sim.digest()
    }
}
