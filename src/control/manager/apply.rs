//! Loading a version of an app: evaluate it beside the running one, check it, say what would change.
//!
//! Everything up to here touches nothing that serves; `commit` makes it the running one.
//! Must not know: how runtimes are served.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::app::{App, Degraded, read_source, vm_limits};
use super::ask::Replies;
use super::start::no_answer;
use super::{Manager, Origin, Then};
use crate::control::state::SavedSource;
use crate::control::validate::{self, Problem, World};
use crate::error::OperatorError;
use crate::id::AppId;
use crate::log::LogLevel;
use crate::lua::{AppSource, Definition, Definitions, Owner};
use crate::runtime::RuntimeConfig;
use crate::runtime::message::{FromWorker, ToWorker};

/// A version of an app to load.
pub(super) struct Load {
    /// The app's name.
    pub app: String,
    /// The main file.
    pub path: PathBuf,
    /// Its text, and texts of modules to use instead of the files.
    pub source: SavedSource,
    /// For a callback-style script: the runtime it belongs to.
    pub owner: Option<String>,
    /// Only check it and say what would change.
    pub look: bool,
    /// Also start runtimes that were stopped by hand.
    pub start_stopped: bool,
}

/// What loading came to: the changes, or what is wrong.
pub(super) type Loaded = Result<Vec<Change>, Vec<Problem>>;
pub(super) type OnLoaded = Box<dyn FnOnce(&mut Manager, Loaded)>;

/// What a new version changes about one runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `+`, `~` or `-`.
    pub op: char,
    /// Its type.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// In words.
    pub detail: String,
}

impl Change {
    /// As the verbs `plan` and `apply` answer it.
    pub fn to_json(&self) -> Value {
        json!({ "op": self.op, "type": self.kind, "name": self.name, "detail": self.detail })
    }
}

/// A version that was evaluated and found good.
pub(super) struct Generation {
    pub load: Load,
    pub id: AppId,
    pub number: u32,
    pub source: Arc<AppSource>,
    /// The home first.
    pub workers: Vec<u8>,
    pub definitions: Definitions,
    /// One for each definition.
    pub configs: Vec<Arc<RuntimeConfig>>,
    pub files: Vec<PathBuf>,
    pub changes: Vec<Change>,
}

impl Manager {
    /// Loads a version. The app's lock is held by the caller, unless it only looks.
    pub(super) fn load(&mut self, load: Load, then: OnLoaded) {
        let existing = self.apps.get_mut(&load.app).map(|app| {
            app.last_generation += 1;
            (app.id, app.last_generation, app.workers.first().copied())
        });
        let (id, number, home) = match existing {
            Some((id, number, home)) if !load.look => (id, number, home),
            // A version that is only looked at is an app of its own, so that it can't be taken for the real one.
            _ => (self.next_app_id(), 1, None),
        };
        let home = home.unwrap_or_else(|| self.choose_workers(1, &[])[0]);
        let source = Arc::new(AppSource {
            name: load.app.clone(),
            path: load.path.clone(),
            text: load.source.text.clone(),
            generation: number,
            owner: self.owner_of(&load),
            modules: load.source.modules.clone(),
            limits: vm_limits(),
        });
        let generation = Generation {
            load,
            id,
            number,
            source: Arc::clone(&source),
            workers: vec![home],
            definitions: Definitions::default(),
            configs: Vec::new(),
            files: Vec::new(),
            changes: Vec::new(),
        };
        self.ask(
            &[home],
            move |request, _| ToWorker::Prepare { request, app: id, source: Arc::clone(&source) },
            move |manager, replies| manager.on_prepared(generation, replies, then),
        );
    }

    /// What a callback-style script takes for `self`.
    fn owner_of(&self, load: &Load) -> Option<Owner> {
        let runtime = self.runtimes.get(load.owner.as_deref()?)?;
        let bound = self.listeners.of(runtime.name()).map(|(address, _)| address);
        Some(Owner {
            kind: runtime.config.kind,
            name: runtime.name().to_owned(),
            port: bound.or(runtime.config.listen.clone()).map_or(0, |address| address.port()),
        })
    }

    fn on_prepared(&mut self, mut generation: Generation, replies: Replies, then: OnLoaded) {
        let prepared = replies.list.into_iter().next();
        let Some(FromWorker::Prepared { result, modules, .. }) = prepared else {
            self.discard(&generation);
            let error = no_answer(1);
            let problem =
                Problem { message: error.message, hint: error.hint, ..Problem::default() };
            return then(self, Err(vec![problem]));
        };
        // Also of a version that fails: its next save may be in a module.
        self.watch(&generation.load, &modules);
        generation.files = modules;
        let definitions = match result {
            Ok(definitions) => definitions,
            Err(error) => return then(self, Err(vec![error.into()])),
        };
        match self.checked(&generation.load, &definitions) {
            Ok(configs) => generation.configs = configs,
            Err(problems) => {
                self.discard(&generation);
                return then(self, Err(problems));
            }
        }
        generation.definitions = definitions;
        generation.changes = self.changes(&generation);
        if generation.load.look {
            self.discard(&generation);
            return then(self, Ok(generation.changes));
        }
        self.commit(generation, then);
    }

    /// The definitions' fields, if they are right and fit what runs.
    fn checked(
        &self,
        load: &Load,
        definitions: &Definitions,
    ) -> Result<Vec<Arc<RuntimeConfig>>, Vec<Problem>> {
        if let Some(owner) = &load.owner {
            let runtime = self.runtimes.get(owner);
            let (Some(runtime), [definition]) = (runtime, definitions.runtimes.as_slice()) else {
                let message = format!("a script of \"{owner}\" defines no runtimes of its own");
                let hint = Some("apply a file with definitions: socketley apply FILE".to_owned());
                return Err(vec![Problem { message, hint, ..Problem::default() }]);
            };
            validate::check_script(definition, &runtime.config)?;
            return Ok(vec![Arc::clone(&runtime.config)]);
        }
        let configs = validate::check(definitions, &self.world(&load.app))?;
        let other_kind = |definition: &&Definition| {
            let runtime = self.runtimes.get(&definition.name);
            runtime.is_some_and(|runtime| runtime.config.kind != definition.kind)
        };
        if let Some(definition) = definitions.runtimes.iter().find(other_kind) {
            return Err(vec![Problem {
                file: definition.file.clone(),
                line: definition.line,
                message: format!("\"{}\" runs with another type", definition.name),
                hint: Some("save the file without it first, or choose another name".to_owned()),
                detail: String::new(),
            }]);
        }
        Ok(configs.into_iter().map(Arc::new).collect())
    }

    /// What there is beside an app.
    pub(super) fn world(&self, app: &str) -> World {
        let mut world = World::default();
        for (name, runtime) in &self.runtimes {
            let whose = match &runtime.origin {
                Origin::File { app: own, .. } if own == app => continue,
                Origin::File { file, line, .. } => format!("of {}:{line}", file.display()),
                Origin::Script { owner, .. } => format!("that the script of \"{owner}\" made"),
                Origin::Operator => "made on the command line".to_owned(),
            };
            world.runtimes.insert(name.clone(), (runtime.config.kind, whose));
            if let Some((address, _)) = self.listeners.of(name) {
                world.addresses.push((address, name.clone()));
            }
        }
        world
    }

    /// Watches the files of a version, also of one that failed.
    fn watch(&mut self, load: &Load, files: &[PathBuf]) {
        let Some(app) = self.apps.get_mut(&load.app).filter(|_| !load.look) else { return };
        let mut watched = files.to_vec();
        watched.push(load.path.clone());
        watched.sort();
        watched.dedup();
        if app.files != watched {
            app.files = watched;
            self.files_version += 1;
        }
    }

    /// Forgets a version that was prepared.
    pub(super) fn discard(&self, generation: &Generation) {
        for worker in &generation.workers {
            self.tell(
                *worker,
                ToWorker::Discard { app: generation.id, generation: generation.number },
            );
        }
    }

    fn changes(&self, generation: &Generation) -> Vec<Change> {
        let app = self.apps.get(&generation.load.app);
        let good = app.and_then(|app| app.good.as_ref());
        let same_code = good.is_some_and(|good| good.text == generation.load.source.text);
        let mut changes: Vec<Change> =
            generation.configs.iter().filter_map(|config| self.change(config, same_code)).collect();
        for runtime in self.runtimes_of(&generation.load.app) {
            if !generation.configs.iter().any(|config| config.name == runtime.name()) {
                changes.push(Change {
                    op: '-',
                    kind: runtime.config.kind.name(),
                    name: runtime.name().to_owned(),
                    detail: "is removed; its connections end".to_owned(),
                });
            }
        }
        changes
    }

    fn change(&self, config: &RuntimeConfig, same_code: bool) -> Option<Change> {
        let change = |op, detail| {
            Some(Change { op, kind: config.kind.name(), name: config.name.clone(), detail })
        };
        let listen =
            || config.listen.as_ref().map_or_else(String::new, |a| format!("listens on {a}"));
        let Some(runtime) = self.runtimes.get(&config.name) else { return change('+', listen()) };
        let (old, new) = (runtime.config.to_fields(), config.to_fields());
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        let shown = |value: Option<&Value>| value.map_or("default".to_owned(), Value::to_string);
        let differ: Vec<String> = names
            .filter(|name| old.get(*name) != new.get(*name))
            .map(|name| format!("{name}: {} -> {}", shown(old.get(name)), shown(new.get(name))))
            .collect();
        match (differ.is_empty(), same_code, runtime.is_running()) {
            (false, _, _) => change('~', differ.join(", ")),
            (true, _, false) => change('~', "starts".to_owned()),
            (true, false, true) => change('~', "new code; connections stay".to_owned()),
            (true, true, true) => None,
        }
    }

    /// The runtimes that an app's file defines.
    pub(super) fn runtimes_of(&self, name: &str) -> impl Iterator<Item = &super::Runtime> {
        self.runtimes.values().filter(
            move |runtime| matches!(&runtime.origin, Origin::File { app, .. } if app == name),
        )
    }

    /// Loads a changed file again, or one that someone wants loaded. The app's lock is held by the caller.
    pub(super) fn reload_app(&mut self, name: &str, forced: bool, then: Then) {
        let Some(app) = self.apps.get(name) else {
            let error = OperatorError::failed(format!("no such app: {name}"));
            return then(self, Err(error));
        };
        let source = match self.sources_now(app) {
            Ok(source) => source,
            Err(error) => {
                let (file, message) = (app.path.clone(), error.message.clone());
                let problem = Problem { file, message, hint: error.hint, ..Problem::default() };
                self.degrade(name, vec![problem]);
                return then(self, Err(OperatorError::failed(error.message)));
            }
        };
        let unchanged = app.good.as_deref() == Some(&source);
        if unchanged && !forced {
            // A broken version was undone.
            if let Some(app) = self.apps.get_mut(name)
                && app.degraded.take().is_some()
            {
                self.log(LogLevel::Info, name, "the file is again what runs");
            }
            return then(self, Ok(()));
        }
        let load = Load {
            app: name.to_owned(),
            path: app.path.clone(),
            source: SavedSource { text: source.text, modules: Vec::new() },
            owner: app.is_script.then(|| name.to_owned()),
            look: false,
            start_stopped: false,
        };
        let name = name.to_owned();
        self.load(
            load,
            Box::new(move |manager, loaded| {
                let result = manager.conclude(&name, loaded).map(|_| ());
                then(manager, result);
            }),
        );
    }

    /// The texts of an app's files as they are now.
    fn sources_now(&self, app: &App) -> Result<SavedSource, OperatorError> {
        let text = read_source(&app.path)?;
        let modules = app.good.iter().flat_map(|good| good.modules.iter());
        let modules = modules.map(|(path, _)| Ok((path.clone(), read_source(path)?)));
        Ok(SavedSource { text, modules: modules.collect::<Result<_, OperatorError>>()? })
    }

    /// The end of loading: what went wrong is shown wherever the app is, and answered as one error.
    pub(super) fn conclude(
        &mut self,
        name: &str,
        loaded: Loaded,
    ) -> Result<Vec<Change>, OperatorError> {
        match loaded {
            Ok(changes) => Ok(changes),
            Err(problems) => {
                let error = problems_error(&problems);
                self.degrade(name, problems);
                Err(error)
            }
        }
    }

    pub(super) fn degrade(&mut self, name: &str, problems: Vec<Problem>) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let degraded = Degraded { problems, serving: app.generation };
        if app.degraded.as_ref() == Some(&degraded) {
            return;
        }
        let mut text = degraded.text();
        if let Some(problem) = degraded.problems.first().filter(|p| !p.detail.is_empty()) {
            text = format!("{text}\n{}", problem.detail);
        }
        let others =
            degraded.problems.iter().skip(1).map(|problem| format!("\n{}", problem.short()));
        text.extend(others);
        app.degraded = Some(degraded);
        self.log(LogLevel::Error, name, text);
    }
}

/// One error out of all that is wrong with a file.
pub(super) fn problems_error(problems: &[Problem]) -> OperatorError {
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let mut error = OperatorError::failed(texts.join("\n"));
    error.hint = problems.iter().find_map(|problem| problem.hint.clone());
    error
}
