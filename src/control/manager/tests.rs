//! The manager with workers that a test plays itself: it takes their messages out of the inboxes and answers them.

mod apps;
mod runtimes;
mod state;
mod waiting;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::control::answer::Outcome;
use crate::error::ScriptError;
use crate::lua::{Definition, Definitions};
use crate::runtime::Placement;

/// What the workers have been told, in words.
type Told = Vec<String>;

/// A manager, and what its workers know.
struct World {
    manager: Manager,
    folder: PathBuf,
    /// Placed runtimes by worker and number.
    placed: BTreeMap<(u8, u32), Placement>,
    /// What was told since the last look.
    told: Told,
    /// The file's text decides what a file defines: `name port` a line; `!` is a syntax error; `state!` refuses the switch.
    prepared: BTreeMap<(u8, u32, u32), String>,
    /// These workers don't answer.
    deaf: Vec<u8>,
}

impl World {
    fn new(workers: usize) -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("socketley-manager-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        World {
            manager: manager(workers, &folder),
            folder,
            placed: BTreeMap::new(),
            told: Vec::new(),
            prepared: BTreeMap::new(),
            deaf: Vec::new(),
        }
    }

    /// The daemon was killed and starts again.
    fn restart(&mut self) {
        let workers = self.manager.worker_count();
        self.manager = manager(workers, &self.folder);
        self.placed.clear();
        self.prepared.clear();
        let restored = StateFolder::new(&self.folder).restore();
        self.manager.restore(restored);
        self.settle();
        self.told.clear();
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Asks for a verb, lets the workers answer, and gives the outcome.
    fn ask(&mut self, verb: &str, arguments: Value) -> Outcome {
        let outcome = self.begin(verb, arguments);
        self.settle();
        outcome.take().unwrap_or_else(|| panic!("{verb} wasn't answered"))
    }

    fn begin(&mut self, verb: &str, arguments: Value) -> Rc<RefCell<Option<Outcome>>> {
        let outcome = Rc::new(RefCell::new(None));
        let place = Rc::clone(&outcome);
        let answer = Answer::new(move |given| *place.borrow_mut() = Some(given));
        self.manager.call(verb, arguments, answer);
        outcome
    }

    fn good(&mut self, verb: &str, arguments: Value) -> Value {
        self.ask(verb, arguments).unwrap_or_else(|error| panic!("{verb}: {error}"))
    }

    /// The error's message and hint in one text.
    fn bad(&mut self, verb: &str, arguments: Value) -> String {
        self.ask(verb, arguments).expect_err(verb).to_string()
    }

    fn row(&mut self, name: &str) -> Value {
        self.good("get", json!({ "name": name }))
    }

    fn status(&mut self, name: &str) -> String {
        self.row(name)["status"].as_str().unwrap().to_owned()
    }

    fn logged(&mut self) -> String {
        let records = self.good("logs", json!({}));
        let text =
            |record: &Value| format!("{}: {}", record["source"], record["text"].as_str().unwrap());
        records.as_array().unwrap().iter().map(text).collect::<Vec<_>>().join("\n")
    }

    fn told(&mut self) -> Told {
        std::mem::take(&mut self.told)
    }

    /// Time passes.
    fn pass(&mut self, milliseconds: u64) {
        let mut now = self.manager.setup.now;
        now.monotonic_ns += milliseconds * 1_000_000;
        now.unix_ms += milliseconds;
        self.manager.on_time(now);
        self.settle();
    }

    /// Workers answer until nobody says anything any more.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for worker in 0..self.manager.worker_count() as u8 {
                if self.deaf.contains(&worker) {
                    continue;
                }
                for message in self.manager.setup.workers[usize::from(worker)].take() {
                    quiet = false;
                    self.on_worker(worker, message);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn on_worker(&mut self, worker: u8, message: ToWorker) {
        let (line, reply) = match message {
            ToWorker::Prepare { request, app, source } => {
                self.prepared.insert((worker, app.0, source.generation), source.text.clone());
                let modules = vec![source.path.clone()];
                let result = defined(&source);
                let line = format!("prepare {}", source.generation);
                (line, Some(FromWorker::Prepared { request, result, modules }))
            }
            ToWorker::Commit { request, app, generation, placements, .. } => {
                let text = self.prepared.get(&(worker, app.0, generation));
                let result = match text.map(|text| text.contains("state!")) {
                    Some(false) => Ok(()),
                    Some(true) => Err(error("state.x can't be carried over")),
                    None => Err(error("never prepared here")),
                };
                let line = format!("commit {generation} with {}", placements.len());
                if result.is_ok() {
                    for placement in placements {
                        self.placed.insert((worker, placement.id.0), placement);
                    }
                }
                (line, Some(FromWorker::Committed { request, result }))
            }
            ToWorker::Discard { generation, .. } => (format!("discard {generation}"), None),
            ToWorker::DropApp { .. } => ("drop".to_owned(), None),
            ToWorker::Place { request, placement } => {
                let line = format!("place {}", placement.config.name);
                self.placed.insert((worker, placement.id.0), placement);
                (line, Some(FromWorker::Placed { request }))
            }
            ToWorker::Listen { runtime, .. } => (format!("listen {}", runtime.0), None),
            ToWorker::Unlisten { request, runtime } => {
                (format!("unlisten {}", runtime.0), Some(FromWorker::Unlistened { request }))
            }
            ToWorker::Stop { request, runtime, .. } => {
                self.placed.remove(&(worker, runtime.0));
                (format!("stop {}", runtime.0), Some(FromWorker::Stopped { request }))
            }
            ToWorker::Leave { runtime, .. } => {
                self.placed.remove(&(worker, runtime.0));
                (format!("leave {}", runtime.0), None)
            }
            ToWorker::Send { request, bytes, .. } => {
                let line = format!("send {}", String::from_utf8_lossy(&bytes));
                (line, Some(FromWorker::SentTo { request, count: 2 }))
            }
            ToWorker::Observe { on, .. } => (format!("observe {on}"), None),
            ToWorker::Evaluate { code, .. } => (format!("evaluate {code}"), None),
            ToWorker::Cancel { .. } => ("cancel".to_owned(), None),
            ToWorker::Answer { reply, .. } => (format!("answer {reply:?}"), None),
            ToWorker::Shutdown { .. } => {
                ("shutdown".to_owned(), Some(FromWorker::Ended { worker }))
            }
            _ => ("something else".to_owned(), None),
        };
        self.told.push(format!("{worker}: {line}"));
        if let Some(reply) = reply {
            self.manager.on_message(reply);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn manager(workers: usize, folder: &std::path::Path) -> Manager {
    Manager::new(ManagerSetup {
        workers: (0..workers).map(|_| Arc::default()).collect(),
        stores: Arc::default(),
        resolved: Arc::default(),
        reports: Arc::default(),
        logs: Logs::default(),
        state: Some(StateFolder::new(folder)),
        facts: serde_json::Map::new(),
        now: Now { monotonic_ns: 1_000_000_000, unix_ms: 1_000_000 },
        seed: 1,
    })
}

fn error(message: &str) -> ScriptError {
    ScriptError {
        message: message.to_owned(),
        file: "app.lua".to_owned(),
        line: 3,
        ..ScriptError::default()
    }
}

/// What a test's file defines: a line is `kind name port [handler] [field=json]`.
fn defined(source: &crate::lua::AppSource) -> Result<Definitions, ScriptError> {
    if source.text.contains("error!") {
        return Err(error("unexpected symbol"));
    }
    let mut definitions = Definitions::default();
    if let Some(owner) = &source.owner {
        definitions.runtimes.push(Definition {
            kind: owner.kind,
            name: owner.name.clone(),
            file: source.path.clone(),
            line: 1,
            fields: serde_json::Map::new(),
            handlers: vec!["on_message".to_owned()],
        });
        return Ok(definitions);
    }
    for (index, line) in source.text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(kind) = words.next().and_then(crate::id::RuntimeKind::parse) else { continue };
        let mut definition = Definition {
            kind,
            name: words.next().unwrap().to_owned(),
            file: source.path.clone(),
            line: index as u32 + 1,
            fields: serde_json::Map::new(),
            handlers: Vec::new(),
        };
        for word in words {
            match word.split_once('=') {
                Some((field, value)) => {
                    definition
                        .fields
                        .insert(field.to_owned(), serde_json::from_str(value).unwrap());
                }
                None => definition.handlers.push(word.to_owned()),
            }
        }
        definitions.runtimes.push(definition);
    }
    Ok(definitions)
}
