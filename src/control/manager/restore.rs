//! What is kept on disk follows what runs, and comes back at the next start.
//!
//! A script or file that is broken at the start is served from its last good source, and says so.
//! Must not know: the files' format (`control::state`).

use std::sync::Arc;

use super::app::{App, main_file, read_source};
use super::apply::{Load, OnLoaded};
use super::{Manager, Origin, Runtime, Then};
use crate::control::state::{Restored, SavedApp, SavedRuntime, SavedSource};
use crate::error::OperatorError;
use crate::id::RuntimeKind;
use crate::log::LogLevel;
use crate::runtime::RuntimeConfig;
use crate::runtime::config::{FieldError, check_name};

impl Manager {
    /// Keeps a runtime or app as it is now. What can't be kept is logged: it runs, but won't survive.
    pub(super) fn save(&mut self, name: &str) {
        let Some(state) = &self.setup.state else { return };
        let runtime = self.runtimes.get(name).filter(|runtime| runtime.origin == Origin::Operator);
        let of_file = self.runtimes.get(name).and_then(Runtime::app).unwrap_or(name);
        let app = self.apps.get(of_file).filter(|app| !app.is_script);
        let kept = [
            runtime.map(|runtime| state.save_runtime(&self.saved_runtime(runtime))),
            app.and_then(|app| Some(state.save_app(&self.saved_app(of_file, app)?))),
        ];
        for result in kept.into_iter().flatten() {
            if let Err(error) = result {
                self.log(LogLevel::Error, name, format!("can't keep its state: {error}"));
            }
        }
    }

    pub(super) fn forget_runtime(&mut self, name: &str) {
        let result = self.setup.state.as_ref().map(|state| state.remove_runtime(name));
        self.log_state_error(name, result);
    }

    pub(super) fn forget_app(&mut self, name: &str) {
        let result = self.setup.state.as_ref().map(|state| state.remove_app(name));
        self.log_state_error(name, result);
    }

    fn log_state_error(&mut self, name: &str, result: Option<std::io::Result<()>>) {
        if let Some(Err(error)) = result {
            self.log(LogLevel::Error, name, format!("can't remove its state: {error}"));
        }
    }

    fn saved_runtime(&self, runtime: &Runtime) -> SavedRuntime {
        let script = self.apps.get(runtime.name()).filter(|app| app.is_script);
        let good = script.and_then(|app| app.good.as_deref()).or(runtime.good_script.as_deref());
        SavedRuntime {
            version: SavedRuntime::VERSION,
            kind: runtime.config.kind.name().to_owned(),
            name: runtime.name().to_owned(),
            fields: runtime.config.to_fields(),
            was_running: runtime.wanted,
            created_ms: runtime.created_ms,
            good: good.cloned().filter(|_| runtime.config.lua.is_some()),
        }
    }

    fn saved_app(&self, name: &str, app: &App) -> Option<SavedApp> {
        let stopped = self.runtimes_of(name).filter(|runtime| !runtime.wanted);
        Some(SavedApp {
            version: SavedRuntime::VERSION,
            name: name.to_owned(),
            path: app.path.clone(),
            generation: app.generation,
            good: (**app.good.as_ref()?).clone(),
            previous: app.previous.as_deref().cloned(),
            stopped: stopped.map(|runtime| runtime.name().to_owned()).collect(),
        })
    }

    /// Makes everything that was kept, and starts what ran.
    pub fn restore(&mut self, restored: Restored) {
        for problem in restored.problems {
            self.log(LogLevel::Error, "", problem);
        }
        let mut start = Vec::new();
        for saved in restored.runtimes {
            let (name, was_running) = (saved.name.clone(), saved.was_running);
            match self.restore_runtime(saved) {
                Ok(()) if was_running => start.push(name),
                Ok(()) => {}
                Err(error) => {
                    let text = format!("can't be restored: {}", error.message);
                    self.log(LogLevel::Error, &name, text);
                }
            }
        }
        for saved in restored.apps {
            self.restore_app(saved);
        }
        for name in start {
            self.lock(&name.clone(), move |manager| {
                let key = name.clone();
                let done: Then = Box::new(move |manager, _| manager.unlock(&key));
                manager.start_runtime(&name, done);
            });
        }
    }

    fn restore_runtime(&mut self, saved: SavedRuntime) -> Result<(), OperatorError> {
        let kind = RuntimeKind::parse(&saved.kind)
            .ok_or_else(|| OperatorError::failed(format!("there is no type \"{}\"", saved.kind)))?;
        check_name(&saved.name)?;
        let config = RuntimeConfig::parse(kind, &saved.name, &saved.fields)
            .map_err(|errors| FieldError::into_operator_error(kind, &saved.name, &errors))?;
        let mut runtime = self.new_runtime(config, Origin::Operator);
        runtime.created_ms = saved.created_ms;
        runtime.wanted = saved.was_running;
        runtime.good_script = saved.good.map(Arc::new);
        self.runtimes.insert(saved.name, runtime);
        Ok(())
    }

    fn restore_app(&mut self, saved: SavedApp) {
        let SavedApp { name, path, generation, good, previous, stopped, .. } = saved;
        let id = self.next_app_id();
        let mut app = App::new(id, path.clone(), false);
        app.last_generation = generation.saturating_sub(1);
        app.good = Some(Arc::new(good.clone()));
        app.previous = previous.map(Arc::new);
        app.stopped = stopped;
        self.apps.insert(name.clone(), app);
        self.files_version += 1;
        self.lock(&name.clone(), move |manager| {
            let text = main_file(&path, None).and_then(|path| read_source(&path));
            let load = move |text: String, modules| Load {
                app: name.clone(),
                path: path.clone(),
                source: SavedSource { text, modules },
                owner: None,
                look: false,
                start_stopped: false,
            };
            manager.load_or_last_good(load, text, Some(good), |manager, app, _| {
                manager.unlock(&app);
            });
        });
    }

    /// Starts a runtime with a callback-style script. Its lock is held by the caller.
    pub(super) fn load_script(&mut self, name: &str, then: Then) {
        if let Err(error) = self.acquire(name) {
            return then(self, Err(error));
        }
        let Some(runtime) = self.runtimes.get(name) else { return };
        let Some(path) = runtime.config.lua.clone() else { return };
        // Only what ran before a restart may be replaced by its last good source: a person who starts it sees the error.
        let good = runtime.good_script.as_deref().cloned();
        let text = read_source(&path);
        let name = name.to_owned();
        let load = move |text: String, modules| Load {
            app: name.clone(),
            path: path.clone(),
            source: SavedSource { text, modules },
            owner: Some(name.clone()),
            look: false,
            start_stopped: false,
        };
        self.load_or_last_good(load, text, good, |manager, name, result| {
            if let Some(runtime) = manager.runtimes.get_mut(&name) {
                runtime.good_script = None;
            }
            then(manager, result);
        });
    }

    /// Loads a file; if it is broken and there is a last good source, that, saying so. `then` gets the app's name.
    fn load_or_last_good(
        &mut self,
        load: impl Fn(String, Vec<(std::path::PathBuf, String)>) -> Load + 'static,
        text: Result<String, OperatorError>,
        good: Option<SavedSource>,
        then: impl FnOnce(&mut Manager, String, Result<(), OperatorError>) + 'static,
    ) {
        let first = match (text, &good) {
            (Ok(text), _) => load(text, Vec::new()),
            (Err(error), Some(good)) => {
                let mut load = load(good.text.clone(), good.modules.clone());
                load.start_stopped = false;
                let name = load.app.clone();
                return self.load(
                    load,
                    Box::new(move |manager, loaded| {
                        let result = manager.conclude(&name, loaded).map(|_| ());
                        if result.is_ok() {
                            manager.degrade(&name, vec![error.into()]);
                        }
                        then(manager, name, result);
                    }),
                );
            }
            (Err(error), None) => {
                let name = load(String::new(), Vec::new()).app;
                return then(self, name, Err(error));
            }
        };
        let name = first.app.clone();
        let on_loaded: OnLoaded = Box::new(move |manager, loaded| {
            let (problems, good) = match (loaded, good) {
                (Err(problems), Some(good)) => (problems, good),
                (loaded, _) => {
                    let result = manager.conclude(&name, loaded).map(|_| ());
                    return then(manager, name, result);
                }
            };
            let last_good = load(good.text, good.modules);
            manager.load(
                last_good,
                Box::new(move |manager, loaded| {
                    // The same error from both (a taken port, say) is not the file's: the first one tells it.
                    let result = loaded.map(|_| ());
                    let failed = result.is_err();
                    let shown = super::apply::problems_error(&problems);
                    manager.degrade(&name, problems);
                    then(manager, name, if failed { Err(shown) } else { Ok(()) });
                }),
            );
        });
        self.load(first, on_loaded);
    }
}
