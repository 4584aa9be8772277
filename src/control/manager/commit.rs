//! Making a checked version of an app the running one.
//!
//! In this order: other workers prepare it too; names are looked up; new addresses are bound; then all workers switch,
//! each between two of its batches. Until the switch every error leaves the old version untouched. After it: listeners
//! move, runtimes that the file doesn't define any more end.
//! Must not know: how a file is evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::app::{App, read_source};
use super::apply::{Generation, OnLoaded};
use super::listeners::Reserved;
use super::start::no_answer;
use super::{Manager, Origin, Runtime, Status};
use crate::control::state::SavedSource;
use crate::control::validate::Problem;
use crate::error::OperatorError;
use crate::log::LogLevel;
use crate::net::tls::Tls;
use crate::runtime::message::{FromWorker, ToWorker};
use crate::runtime::{Address, Placement, RuntimeConfig};

/// A version on its way to be the running one.
struct Commit {
    generation: Generation,
    /// One for each definition.
    steps: Vec<Step>,
    then: OnLoaded,
}

/// What happens to one runtime.
struct Step {
    config: Arc<RuntimeConfig>,
    /// It is served after the switch.
    runs: bool,
    /// It was served before.
    ran: bool,
    /// It was stopped by hand before a restart.
    was_stopped: bool,
    workers: Vec<u8>,
    tls: Tls,
    listener: NewListener,
}

/// Where a runtime's listener comes from.
enum NewListener {
    /// It keeps what it has, or has none.
    Same,
    /// Bound already, to take over.
    Reserved(Reserved),
    /// That of another runtime of this app, which lets go of it.
    From(String),
}

impl Manager {
    /// Goes on with a version that was prepared at home and checked.
    pub(super) fn commit(&mut self, mut generation: Generation, then: OnLoaded) {
        generation.workers = self.app_workers(&generation);
        let others = generation.workers[1..].to_vec();
        let (id, source) = (generation.id, Arc::clone(&generation.source));
        self.ask(
            &others,
            move |request, _| ToWorker::Prepare { request, app: id, source: Arc::clone(&source) },
            move |manager, replies| {
                let failed = replies.list.into_iter().find_map(|reply| match reply {
                    FromWorker::Prepared { result: Err(error), .. } => Some(error.into()),
                    _ => None,
                });
                let late = (replies.missing > 0).then(|| Problem::from(no_answer(replies.missing)));
                match failed.or(late) {
                    Some(problem) => manager.give_up(&generation, vec![problem], then),
                    None => {
                        let configs = generation.configs.clone();
                        manager.resolve(&configs, move |manager| manager.widen(generation, then));
                    }
                }
            },
        );
    }

    fn give_up(&mut self, generation: &Generation, problems: Vec<Problem>, then: OnLoaded) {
        self.discard(generation);
        then(self, Err(problems));
    }

    /// The workers an app lives on: its home, and as many more as a runtime with handlers wants.
    fn app_workers(&self, generation: &Generation) -> Vec<u8> {
        let home = generation.workers[0];
        let present = self.apps.get(&generation.load.app).map(|app| app.workers.as_slice());
        let definitions = generation.definitions.runtimes.iter().zip(&generation.configs);
        let wanted = definitions
            .filter(|(definition, _)| Self::lives_with_app(definition.kind, &definition.handlers))
            .map(|(_, config)| self.workers_wanted(config, true))
            .max()
            .unwrap_or(1);
        let keep = present.filter(|workers| !workers.is_empty()).unwrap_or(&generation.workers);
        let mut workers = self.choose_workers(wanted, keep);
        workers.retain(|worker| *worker != home);
        workers.insert(0, home);
        workers
    }

    /// An address that overlaps one of the app's own can only be bound when that one is closed: 127.0.0.1:80 that
    /// becomes 0.0.0.0:80. Those are closed here, before anything is bound, and bound again if the new one fails.
    fn widen(&mut self, generation: Generation, then: OnLoaded) {
        let closing = generation.configs.iter().find_map(|config| {
            let wanted = config.listen.clone()?;
            let (owner, bound) = self.listeners.owner_of(&wanted)?;
            let own = self.runtimes.get(owner)?.app() == Some(generation.load.app.as_str());
            (own && bound != wanted && bound.overlaps(&wanted))
                .then(|| (owner.to_owned(), wanted, config.socket.clone()))
        });
        let Some((owner, wanted, options)) = closing else { return self.reserve(generation, then) };
        self.log(LogLevel::Info, &owner, format!("closes its listener to make room for {wanted}"));
        self.unlisten(&owner.clone(), move |manager| {
            let old = manager.listeners.close(&owner);
            match manager.listeners.bind(&owner, &wanted, &options) {
                Ok(_) => {
                    manager.listen(&owner);
                    manager.widen(generation, then);
                }
                Err(error) => {
                    let again = old.map(|old| manager.listeners.bind(&owner, &old, &options));
                    if let Some(Err(error)) = again {
                        manager.log(LogLevel::Error, &owner, error.message);
                    }
                    manager.listen(&owner);
                    manager.give_up(&generation, vec![Problem::from(error)], then);
                }
            }
        });
    }

    /// Binds what is new.
    fn reserve(&mut self, generation: Generation, then: OnLoaded) {
        let mut steps = Vec::new();
        for index in 0..generation.configs.len() {
            match self.step(&generation, index) {
                Ok(step) => steps.push(step),
                Err(error) => {
                    let definition = &generation.definitions.runtimes[index];
                    let mut problem = Problem::from(error);
                    problem.file = definition.file.clone();
                    problem.line = definition.line;
                    return self.give_up(&generation, vec![problem], then);
                }
            }
        }
        self.switch(Commit { generation, steps, then });
    }

    fn step(&self, generation: &Generation, index: usize) -> Result<Step, OperatorError> {
        let definition = &generation.definitions.runtimes[index];
        let config = Arc::clone(&generation.configs[index]);
        let old = self.runtimes.get(&config.name);
        let ran = old.is_some_and(Runtime::is_running);
        let app = self.apps.get(&generation.load.app);
        let was_stopped = app.is_some_and(|app| app.stopped.contains(&config.name));
        let stopped = (was_stopped || old.is_some_and(|old| !old.wanted))
            && !generation.load.start_stopped
            && generation.load.owner.is_none();
        let autostart = generation.load.owner.is_some() || config.autostart.unwrap_or(true);
        let runs = ran || (autostart && !stopped);
        let is_script =
            generation.load.owner.is_some() && config.kind != crate::id::RuntimeKind::Cache;
        let handlers = Self::lives_with_app(config.kind, &definition.handlers) || is_script;
        let workers = self.workers_for(&config, handlers, Some(&generation.workers));
        let listener =
            if runs { self.new_listener(generation, &config)? } else { NewListener::Same };
        let tls = config.load_tls(old.map(|old| &old.tls))?;
        Ok(Step { config, runs, ran, was_stopped, workers, tls, listener })
    }

    fn new_listener(
        &self,
        generation: &Generation,
        config: &RuntimeConfig,
    ) -> Result<NewListener, OperatorError> {
        let Some(wanted) = &config.listen else { return Ok(NewListener::Same) };
        if self.listeners.has(&config.name, wanted) {
            return Ok(NewListener::Same);
        }
        // Its owner is another runtime of this app that ends or moves away.
        let free = |owner: &str| {
            let runtime = self.runtimes.get(owner);
            let own = runtime.and_then(Runtime::app) == Some(generation.load.app.as_str());
            let after = generation.configs.iter().find(|other| other.name == owner);
            let stays = after.and_then(|other| other.listen.as_ref());
            let stays = stays.is_some_and(|address| self.listeners.has(owner, address));
            own && !stays
        };
        match self.listeners.owner_of(wanted) {
            Some((owner, bound)) if bound == *wanted && free(owner) => {
                Ok(NewListener::From(owner.to_owned()))
            }
            _ => self
                .listeners
                .reserve(&config.name, wanted, &config.socket)
                .map(NewListener::Reserved),
        }
    }

    /// Sends every worker of the app its runtimes and waits until all have switched.
    fn switch(&mut self, commit: Commit) {
        let mut placements: BTreeMap<u8, Vec<Placement>> = BTreeMap::new();
        let mut made = Vec::new();
        let soon = self.listening_soon(&commit.steps);
        for (index, step) in commit.steps.iter().enumerate().filter(|(_, step)| step.runs) {
            made.extend(self.ensure_runtime(&commit.generation, index));
            let placement = self.placement_of(&commit, index, &soon);
            for worker in &step.workers {
                placements.entry(*worker).or_default().push(placement.clone());
            }
        }
        let (id, number) = (commit.generation.id, commit.generation.number);
        let workers = commit.generation.workers.clone();
        let home = workers.first().copied();
        self.ask(
            &workers,
            move |request, worker| ToWorker::Commit {
                request,
                app: id,
                generation: number,
                is_home: Some(worker) == home,
                placements: placements.get(&worker).cloned().unwrap_or_default(),
            },
            move |manager, replies| {
                let failed = replies.list.into_iter().find_map(|reply| match reply {
                    FromWorker::Committed { result: Err(error), .. } => Some(error.into()),
                    _ => None,
                });
                let late = (replies.missing > 0).then(|| Problem::from(no_answer(replies.missing)));
                match failed.or(late) {
                    Some(problem) => {
                        for name in made {
                            manager.release(&name);
                            manager.runtimes.remove(&name);
                        }
                        manager.give_up(&commit.generation, vec![problem], commit.then);
                    }
                    None => manager.switched(commit),
                }
            },
        );
    }

    /// The entry of a runtime that is to run, with its store; answers its name if it is new.
    fn ensure_runtime(&mut self, generation: &Generation, index: usize) -> Option<String> {
        let config = &generation.configs[index];
        let mut made = None;
        if !self.runtimes.contains_key(&config.name) {
            let origin = origin(generation, index);
            let runtime = self.new_runtime((**config).clone(), origin);
            self.runtimes.insert(config.name.clone(), runtime);
            made = Some(config.name.clone());
        }
        if let Some(runtime) = self.runtimes.get_mut(&config.name).filter(|r| !r.is_running()) {
            runtime.status = Status::Starting;
        }
        if config.kind == crate::id::RuntimeKind::Cache {
            self.make_store(config, config.listen.as_ref().map_or(0, Address::port));
        }
        made
    }

    /// Where a runtime will listen.
    fn listens(&self, step: &Step) -> Option<Address> {
        let held = |owner: &str| self.listeners.of(owner).map(|(address, _)| address);
        match &step.listener {
            NewListener::Same => held(&step.config.name),
            NewListener::Reserved(reserved) => Some(reserved.address()),
            NewListener::From(owner) => held(owner),
        }
    }

    /// Where the runtimes of all steps will listen: one may be another's backend.
    fn listening_soon<'a>(&self, steps: &'a [Step]) -> Vec<(&'a str, Address)> {
        steps.iter().filter_map(|step| Some((&*step.config.name, self.listens(step)?))).collect()
    }

    fn placement_of(&self, commit: &Commit, index: usize, soon: &[(&str, Address)]) -> Placement {
        let step = &commit.steps[index];
        let mut config = (*step.config).clone();
        config.listen = self.listens(step);
        let runtime = &self.runtimes[&config.name];
        Placement {
            id: runtime.id,
            backends: self.backends_with(&config, soon),
            config: Arc::new(config),
            stats: Arc::clone(&runtime.stats),
            store: runtime.store.clone(),
            app: Some((commit.generation.id, index)),
            tls: step.tls.clone(),
            workers: step.workers.clone(),
        }
    }

    /// The workers have switched: what the manager knows follows.
    fn switched(&mut self, mut commit: Commit) {
        self.note_app(&commit.generation);
        let mut leaving = Vec::new();
        for (index, step) in commit.steps.iter().enumerate() {
            let name = &step.config.name;
            if !self.runtimes.contains_key(name) {
                let origin = origin(&commit.generation, index);
                let mut runtime = self.new_runtime((*step.config).clone(), origin);
                if step.was_stopped {
                    runtime.status = Status::Stopped;
                }
                self.runtimes.insert(name.clone(), runtime);
            }
            let Some(runtime) = self.runtimes.get_mut(name) else { continue };
            runtime.set_config(Arc::clone(&step.config), self.setup.now.unix_ms);
            runtime.tls = step.tls.clone();
            runtime.handlers = commit.generation.definitions.runtimes[index].handlers.clone();
            if commit.generation.load.owner.is_none() {
                runtime.origin = origin(&commit.generation, index);
            }
            if step.runs {
                runtime.wanted = true;
                let old = std::mem::replace(&mut runtime.workers, step.workers.clone());
                leaving.extend(
                    old.iter()
                        .filter(|worker| !step.workers.contains(worker))
                        .map(|worker| (*worker, runtime.id)),
                );
                let first_moves =
                    old.first().is_some_and(|first| step.workers.first() != Some(first));
                if first_moves && let Some(first) = old.first() {
                    let (first, id) = (*first, runtime.id);
                    self.tell(first, ToWorker::Unlisten { request: 0, runtime: id });
                    self.listen(name);
                }
            }
        }
        for (worker, runtime) in leaving {
            let drain_ms = crate::limits::DRAIN_MS;
            self.tell(worker, ToWorker::Leave { runtime, drain_ms });
        }
        let steps = std::mem::take(&mut commit.steps);
        let home = commit.generation.workers.clone();
        self.place_elsewhere(&home, steps, move |manager, steps| {
            manager.move_listeners(steps.into_iter().collect(), move |manager| {
                manager.end_undefined(commit);
            });
        });
    }

    /// Places runtimes on workers that the app doesn't live on.
    fn place_elsewhere(
        &mut self,
        present: &[u8],
        steps: Vec<Step>,
        then: impl FnOnce(&mut Manager, Vec<Step>) + 'static,
    ) {
        let mut messages = Vec::new();
        let soon = self.listening_soon(&steps);
        for step in steps.iter().filter(|step| step.runs) {
            let Some(runtime) = self.runtimes.get(&step.config.name) else { continue };
            let backends = self.backends_with(&runtime.config, &soon);
            let placement = Placement { backends, ..self.placement(runtime) };
            let elsewhere = step.workers.iter().filter(|w| !present.contains(w));
            messages.extend(elsewhere.map(|worker| (*worker, placement.clone())));
        }
        let request = self.expect_replies(
            crate::limits::WORKER_ANSWER_MS,
            messages.len(),
            move |manager, _| then(manager, steps),
        );
        for (worker, placement) in messages {
            self.tell(worker, ToWorker::Place { request, placement });
        }
    }

    /// Gives each runtime its listener, one after the other, and lets it begin.
    fn move_listeners(
        &mut self,
        mut steps: std::collections::VecDeque<Step>,
        then: impl FnOnce(&mut Manager) + 'static,
    ) {
        let Some(step) = steps.pop_front() else { return then(self) };
        let name = step.config.name.clone();
        let release_from = match &step.listener {
            NewListener::Same => None,
            NewListener::Reserved(_) => Some(name.clone()),
            NewListener::From(owner) => Some(owner.clone()),
        };
        let go_on = move |manager: &mut Manager| {
            let moved = !matches!(step.listener, NewListener::Same);
            match step.listener {
                NewListener::Same => {}
                NewListener::Reserved(reserved) => manager.listeners.take_over(&name, reserved),
                NewListener::From(owner) => manager.listeners.hand_over(&owner, &name),
            }
            if step.runs && step.ran {
                manager.follow_certificates(&name);
            }
            if step.runs && !step.ran {
                manager.begin(&name);
            } else if step.runs && moved {
                manager.listen(&name);
                let address = manager.listeners.of(&name).map(|(address, _)| address.to_string());
                let text = format!("now listens on {}", address.unwrap_or_default());
                manager.log(LogLevel::Info, &name, text);
                manager.refresh_dependents(&name);
            }
            manager.move_listeners(steps, then);
        };
        match release_from {
            Some(owner) => self.unlisten(&owner, go_on),
            None => go_on(self),
        }
    }

    /// Ends what the file doesn't define any more; then it is done.
    fn end_undefined(&mut self, commit: Commit) {
        let Commit { generation, then, .. } = commit;
        let gone: Vec<String> = self
            .runtimes_of(&generation.load.app)
            .filter(|runtime| !generation.configs.iter().any(|c| c.name == runtime.name()))
            .map(|runtime| runtime.name().to_owned())
            .collect();
        self.remove_each(
            gone,
            Box::new(move |manager, result| {
                if let Err(error) = result {
                    manager.log(LogLevel::Warn, &generation.load.app, error.message);
                }
                manager.save(&generation.load.app);
                let text = format!("generation {} runs", generation.number);
                manager.log(LogLevel::Info, &generation.load.app, text);
                then(manager, Ok(generation.changes));
            }),
        );
    }

    /// The app's entry follows the switch.
    fn note_app(&mut self, generation: &Generation) {
        let load = &generation.load;
        let given = load.source.modules.clone();
        let good = SavedSource {
            text: load.source.text.clone(),
            modules: if given.is_empty() { module_texts(generation) } else { given },
        };
        let is_script = load.owner.is_some();
        let app = self
            .apps
            .entry(load.app.clone())
            .or_insert_with(|| App::new(generation.id, load.path.clone(), is_script));
        let left: Vec<u8> =
            app.workers.iter().copied().filter(|w| !generation.workers.contains(w)).collect();
        let id = app.id;
        if app.good.as_deref() != Some(&good) {
            app.previous = app.good.replace(Arc::new(good));
        }
        app.path = load.path.clone();
        app.generation = generation.number;
        app.last_generation = app.last_generation.max(generation.number);
        app.workers = generation.workers.clone();
        app.commands = generation.definitions.commands.clone();
        app.degraded = None;
        app.stopped.clear();
        app.files = generation.files.clone();
        app.files.push(load.path.clone());
        app.files.sort();
        app.files.dedup();
        self.files_version += 1;
        for worker in left {
            self.tell(worker, ToWorker::DropApp { app: id });
        }
    }
}

/// The texts of the modules that a version has read.
fn module_texts(generation: &Generation) -> Vec<(std::path::PathBuf, String)> {
    let modules = generation.files.iter().filter(|path| **path != generation.load.path);
    modules.filter_map(|path| Some((path.clone(), read_source(path).ok()?))).collect()
}

fn origin(generation: &Generation, index: usize) -> Origin {
    let definition = &generation.definitions.runtimes[index];
    Origin::File {
        app: generation.load.app.clone(),
        definition: index,
        file: definition.file.clone(),
        line: definition.line,
    }
}
