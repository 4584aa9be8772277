//! App VMs driven without sockets: a small host plays the worker, in virtual time.

mod budget;
mod caches;
mod errors;
mod hooks;
mod http;
mod loading;
mod requests;
mod routing;
mod sandbox;
mod state;
mod styles;
mod waiting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use super::*;
use crate::error::ScriptError;
use crate::id::{ConnectionId, RuntimeId, RuntimeKind};
use crate::log::LogLevel;
use crate::ring::{Address, Now};
use crate::store::{Settings, SharedStore};

/// The stores that the test's worker serves.
#[derive(Default)]
pub struct TestStores(Vec<(String, Arc<SharedStore>)>);

impl Stores for TestStores {
    fn find(&self, name: &str) -> Option<Arc<SharedStore>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, store)| Arc::clone(store))
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Plays the worker for one VM.
pub struct TestHost {
    pub vm: AppVm,
    pub now: Now,
    /// By the time they are due, in the order they were asked for.
    timers: BTreeMap<(u64, u64), u64>,
    asked: u64,
    /// The numbers of its listeners.
    pub listens: Vec<u64>,
    /// What happened, as short lines: `send 1 text`, `park 1`, `log text`, ...
    pub seen: Vec<String>,
}

/// This thread's slot, as each worker has one.
fn slot() -> Arc<WatchSlot> {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    thread_local! {
        static SLOT: Arc<WatchSlot> = WATCHDOG.get_or_init(Watchdog::start).register();
    }
    SLOT.with(Arc::clone)
}

pub fn source(text: &str) -> AppSource {
    AppSource {
        name: "app".to_owned(),
        path: PathBuf::from("/nowhere/app.lua"),
        text: text.to_owned(),
        generation: 1,
        owner: None,
        modules: Vec::new(),
        limits: VmLimits { budget_ms: 500, memory_bytes: 64 << 20, restricted: false },
    }
}

pub fn store(name: &str) -> Arc<SharedStore> {
    SharedStore::new(&Settings { name: name.to_owned(), seed: 1, ..Default::default() })
}

pub fn load(source: AppSource) -> (Result<AppVm, ScriptError>, Vec<PathBuf>) {
    load_with(source, TestStores(vec![("db".to_owned(), store("db"))]))
}

pub fn load_with(
    source: AppSource,
    stores: TestStores,
) -> (Result<AppVm, ScriptError>, Vec<PathBuf>) {
    let host = Host {
        worker: 0,
        stores: Rc::new(stores),
        seed: 1,
        watch: slot(),
        on_landed: Rc::new(|_| Box::new(|_| {})),
    };
    AppVm::load(Arc::new(source), host, START)
}

pub const START: Now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_700_000_000_000 };

pub fn connection(number: u32) -> ConnectionId {
    ConnectionId::new(0, number, 7)
}

pub fn peer(number: u32) -> Address {
    SocketAddr::from(([10, 0, 0, number as u8], 4000)).into()
}

/// The runtime of the definition with this index.
pub fn runtime(index: usize) -> RuntimeId {
    RuntimeId(100 + index as u32)
}

impl TestHost {
    /// Loads, commits and starts an app of definitions.
    pub fn new(text: &str) -> TestHost {
        TestHost::with(source(text))
    }

    /// The same for a script in the original's style, as a server's.
    pub fn original(kind: RuntimeKind, text: &str) -> TestHost {
        let owner = Some(Owner { kind, name: "echo".to_owned(), port: 9000 });
        TestHost::with(AppSource { owner, ..source(text) })
    }

    pub fn with(source: AppSource) -> TestHost {
        let vm = load(source).0.unwrap_or_else(|error| panic!("the file loads: {error}"));
        let mut host = TestHost::over(vm);
        host.commit(None);
        host
    }

    pub fn over(vm: AppVm) -> TestHost {
        TestHost {
            vm,
            now: START,
            timers: BTreeMap::new(),
            asked: 0,
            listens: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Commits all definitions as runtimes 100, 101, ... and starts them.
    pub fn commit(&mut self, state: Option<StateSnapshot>) {
        let definitions = &self.vm.definitions().runtimes;
        let bindings: Vec<Binding> = definitions
            .iter()
            .enumerate()
            .map(|(index, definition)| Binding {
                definition: index,
                runtime: runtime(index),
                name: definition.name.clone(),
                port: 9000 + index as u16,
            })
            .collect();
        let fresh = state.is_none();
        self.vm.commit(&bindings, state, self.now).unwrap();
        if fresh {
            bindings.iter().for_each(|binding| self.vm.on_start(binding.runtime));
        }
        self.turn();
    }

    /// Enters until nothing is left to do now, and carries the actions out.
    pub fn turn(&mut self) {
        loop {
            self.vm.run(self.now);
            let actions = self.vm.take_actions();
            for action in &actions {
                let line = self.carry_out(action);
                self.seen.extend(line);
            }
            self.vm.end_turn(actions);
            if !self.vm.has_work() {
                return;
            }
        }
    }

    fn text(&self, start: usize, len: usize) -> String {
        String::from_utf8_lossy(self.vm.bytes(start, len)).into_owned()
    }

    fn carry_out(&mut self, action: &Action) -> Option<String> {
        Some(match action {
            Action::Send { connection, start, len, .. } => {
                format!("send {} {}", connection.slot(), self.text(*start, *len))
            }
            Action::Broadcast { runtime, except, start, len, .. } => {
                let except = except.map_or(String::new(), |id| format!(" but {}", id.slot()));
                format!("broadcast {}{except} {}", runtime.0, self.text(*start, *len))
            }
            Action::Close { connection, .. } => format!("close {}", connection.slot()),
            Action::Park { connection, parked } => {
                format!("{} {}", if *parked { "park" } else { "unpark" }, connection.slot())
            }
            Action::Verify { connection } => format!("verify {}", connection.slot()),
            Action::Master { connection, granted } => {
                format!("master {} {granted}", connection.slot())
            }
            Action::Timer { timer, delay_ms } => {
                self.asked += 1;
                let due = self.now.monotonic_ms() + delay_ms;
                self.timers.insert((due, self.asked), *timer);
                return None;
            }
            Action::CancelTimer { timer } => {
                self.timers.retain(|_, known| known != timer);
                return None;
            }
            Action::Route { connection, route } => format!("route {} {route:?}", connection.slot()),
            Action::Daemon { task, verb, arguments } => format!("daemon {task} {verb} {arguments}"),
            Action::Evaluated { request, reply: Ok(value) } => {
                format!("evaluated {request} {value}")
            }
            Action::Evaluated { request, reply: Err(text) } => format!("refused {request} {text}"),
            Action::Output { request, frame } => format!("output {request} {frame}"),
            Action::Log { level: LogLevel::Info, text, .. } => format!("log {text}"),
            Action::Log { level, text, .. } => format!("log {level:?} {text}"),
            Action::Http { connection, number, act } => {
                let act = match *act {
                    HttpAct::Respond { status, fields, body } => {
                        let (fields, body) =
                            (self.text(fields.0, fields.1), self.text(body.0, body.1));
                        format!("{status} [{fields}] {body}")
                    }
                    other => format!("{other:?}"),
                };
                format!("http {} {number} {act}", connection.slot())
            }
            Action::Failed { runtime } => format!("failed {:?}", runtime.map(|id| id.0)),
            Action::StopEnded { runtime } => format!("stopped {}", runtime.0),
            Action::Listen { id, cache, is_pattern, once, name } => {
                self.listens.push(*id);
                let name = String::from_utf8_lossy(name);
                let pattern = if *is_pattern { " pattern" } else { "" };
                let each = if *once { "" } else { " each" };
                format!("listen {cache} {name}{pattern}{each}")
            }
            Action::Unlisten { id } => {
                let at = self.listens.iter().position(|known| known == id);
                format!("unlisten {}", at.expect("it listened"))
            }
            Action::Done { what } => format!("done {what:?}"),
            Action::Socket { socket, act } => format!("socket {socket} {act:?}"),
            Action::Errand { task, errand } => format!("errand {task} {errand:?}"),
        })
    }

    /// Lets time pass: timers fire in their order, each in a turn of its own.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.monotonic_ms() + ms;
        while let Some((&(due, asked), &timer)) = self.timers.first_key_value() {
            if due > end {
                break;
            }
            self.timers.remove(&(due, asked));
            self.set_time(due);
            self.vm.on_timer(timer);
            self.turn();
        }
        self.set_time(end);
    }

    fn set_time(&mut self, monotonic_ms: u64) {
        let passed = monotonic_ms - self.now.monotonic_ms();
        self.now.monotonic_ns += passed * 1_000_000;
        self.now.unix_ms += passed;
    }

    pub fn open(&mut self, number: u32) {
        self.vm.on_open(runtime(0), connection(number), &peer(number));
    }

    pub fn message(&mut self, number: u32, text: &str) {
        self.vm.on_message(runtime(0), connection(number), text.as_bytes(), false);
    }

    pub fn close(&mut self, number: u32) {
        self.vm.on_close(connection(number), 0, "");
    }

    /// What was seen since the last call, parks left out.
    pub fn take(&mut self) -> Vec<String> {
        let seen = std::mem::take(&mut self.seen);
        seen.into_iter()
            .filter(|line| !line.starts_with("park") && !line.starts_with("unpark"))
            .collect()
    }
}

/// Runs Lua in a handler and answers what it logs.
pub fn logs_of(code: &str) -> Vec<String> {
    let mut host =
        TestHost::new(&format!("server 's' {{ on_message = function(conn, msg) {code} end }}"));
    host.open(1);
    host.message(1, "go");
    host.turn();
    host.take()
}
