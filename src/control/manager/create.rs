//! Making and changing runtimes on request: `create` and `edit`.
//!
//! Must not know: what a definition file says.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::app::{main_file, read_source};
use super::apply::{Load, problems_error};
use super::start::no_answer;
use super::verbs::Request;
use super::{Caller, Manager, Origin, Then};
use crate::control::answer::Outcome;
use crate::control::state::SavedSource;
use crate::error::OperatorError;
use crate::id::RuntimeKind;
use crate::limits::RUNTIMES_MAX;
use crate::log::LogLevel;
use crate::runtime::config::{FieldError, check_name};
use crate::runtime::message::ToWorker;
use crate::runtime::{Mode, RuntimeConfig};
use crate::suggest::did_you_mean;

/// What `create` was asked for, checked.
struct Wanted {
    config: RuntimeConfig,
    origin: Origin,
    start: bool,
    /// Only check it.
    test: bool,
}

type Done = Box<dyn FnOnce(&mut Manager, Outcome)>;

impl Manager {
    /// `create {type, name, fields?, lua?, start?, test?, cwd?}`: all of it or nothing.
    pub(super) fn verb_create(&mut self, request: Request) {
        let wanted = match self.wanted(&request) {
            Ok(wanted) => wanted,
            Err(error) => return request.answer.give(Err(error)),
        };
        let name = wanted.config.name.clone();
        // The name's lock: of two clients that make the same name, the second finds it taken.
        self.lock(&name.clone(), move |manager| {
            let done = move |manager: &mut Manager, outcome: Outcome| {
                request.answer.give(outcome);
                manager.unlock(&name);
            };
            manager.create(wanted, Box::new(done));
        });
    }

    fn wanted(&self, request: &Request) -> Result<Wanted, OperatorError> {
        let arguments = &request.arguments;
        let kind_name = arguments.text("type")?;
        let kind = RuntimeKind::parse(kind_name).ok_or_else(|| {
            let mut error = OperatorError::usage(format!("there is no type \"{kind_name}\""));
            let names = RuntimeKind::ALL.map(RuntimeKind::name);
            error.hint = did_you_mean(kind_name, names)
                .or_else(|| Some(format!("the types are {}", names.join(", "))));
            error
        })?;
        let name = arguments.text("name")?;
        check_name(name)?;
        let mut fields = arguments.fields("fields")?;
        if let Some(path) = arguments.maybe_text("lua")? {
            fields.insert("lua".to_owned(), json!(path));
        }
        let origin = match &request.caller {
            Caller::Operator => Origin::Operator,
            Caller::App(owner) => {
                let remove = fields.remove("on_parent_stop") == Some(json!("remove"));
                Origin::Script { owner: owner.clone(), remove }
            }
        };
        let mut config = RuntimeConfig::parse(kind, name, &fields)
            .map_err(|errors| FieldError::into_operator_error(kind, name, &errors))?;
        if let Some(folder) = arguments.folder()? {
            config.tls.anchor(&folder);
        }
        let path = config.lua.take().filter(|path| !path.as_os_str().is_empty());
        config.lua =
            path.map(|path| main_file(&path, arguments.folder()?.as_deref())).transpose()?;
        let start = arguments.flag("start")? || config.autostart.unwrap_or(false);
        config.autostart = None;
        Ok(Wanted { config, origin, start, test: arguments.flag("test")? })
    }

    fn create(&mut self, wanted: Wanted, done: Done) {
        let Wanted { config, origin, start, test } = wanted;
        let (name, lua) = (config.name.clone(), config.lua.clone());
        if let Err(error) = self.check_new(&config) {
            return done(self, Err(error));
        }
        let runtime = self.new_runtime(config, origin);
        self.runtimes.insert(name.clone(), runtime);
        let made: Then = {
            let name = name.clone();
            Box::new(move |manager, result| {
                let row = manager.runtimes.get(&name).map(|runtime| manager.row(runtime));
                if test || result.is_err() {
                    manager.runtimes.remove(&name);
                    manager.forget_runtime(&name);
                } else {
                    manager.save(&name);
                }
                done(manager, result.map(|()| row.unwrap_or_default()));
            })
        };
        match lua {
            _ if start && !test => self.start_runtime(&name, made),
            Some(path) => self.look_at_script(&name, &path, made),
            None => made(self, Ok(())),
        }
    }

    fn check_new(&self, config: &RuntimeConfig) -> Result<(), OperatorError> {
        let name = &config.name;
        if let Some(runtime) = self.runtimes.get(name) {
            let kind = runtime.config.kind;
            return Err(OperatorError::failed(format!("the name \"{name}\" is taken by a {kind}"))
                .hint(format!(
                    "`socketley show {name}` shows it, `socketley edit {name}` changes it"
                )));
        }
        if config.lua.is_some() && self.apps.contains_key(name) {
            return Err(OperatorError::failed(format!("the name \"{name}\" is taken by an app"))
                .hint("a script's app has the runtime's name: choose another one"));
        }
        if self.runtimes.len() >= RUNTIMES_MAX {
            return Err(OperatorError::failed(format!(
                "there are {RUNTIMES_MAX} runtimes already"
            )));
        }
        if config.kind == RuntimeKind::Proxy && config.backends.is_empty() && config.lua.is_none() {
            return Err(OperatorError::usage(format!("proxy \"{name}\" has no backends"))
                .hint("name them with --backend HOST:PORT, or give it a script with on_route"));
        }
        let has_password = config.master_password.is_some() || config.lua.is_some();
        if config.mode == Mode::Master && !has_password {
            return Err(OperatorError::usage(format!("server \"{name}\" has no master password"))
                .hint("name it with --master-pw, or give it a script with on_master_auth"));
        }
        check_files(config)
    }

    /// Evaluates a script that isn't started yet, so that its errors are seen where it is named.
    fn look_at_script(&mut self, name: &str, path: &Path, then: Then) {
        let text = match read_source(path) {
            Ok(text) => text,
            Err(error) => return then(self, Err(error)),
        };
        let load = Load {
            app: name.to_owned(),
            path: path.to_path_buf(),
            source: SavedSource { text, modules: Vec::new() },
            owner: Some(name.to_owned()),
            look: true,
            start_stopped: false,
        };
        self.load(
            load,
            Box::new(move |manager, loaded| {
                then(manager, loaded.map(|_| ()).map_err(|problems| problems_error(&problems)));
            }),
        );
    }

    /// `edit {name, fields, cwd?}`: at once where that is possible while it runs.
    pub(super) fn verb_edit(&mut self, request: Request) {
        let name = match request.arguments.text("name").map(str::to_owned) {
            Ok(name) => name,
            Err(error) => return request.answer.give(Err(error)),
        };
        let key = self.runtimes.get(&name).map_or(name.clone(), super::Runtime::lock_key);
        self.lock(&key.clone(), move |manager| {
            let edited = manager.edited(&name, &request);
            let (answer, done_key) = (request.answer, key);
            let done: Done = Box::new(move |manager, outcome| {
                answer.give(outcome);
                manager.unlock(&done_key);
            });
            match edited {
                Ok(config) => manager.take_edited(&name, config, done),
                Err(error) => done(manager, Err(error)),
            }
        });
    }

    fn edited(&self, name: &str, request: &Request) -> Result<RuntimeConfig, OperatorError> {
        let runtime = self.find(name)?;
        runtime.check_editable()?;
        let fields = request.arguments.fields("fields")?;
        if fields.is_empty() {
            return Err(OperatorError::usage("nothing to change")
                .hint("`socketley edit --help` lists the fields"));
        }
        let kind = runtime.config.kind;
        let mut config = runtime
            .config
            .edited(&fields)
            .map_err(|errors| FieldError::into_operator_error(kind, name, &errors))?;
        let path = config.lua.take().filter(|path| !path.as_os_str().is_empty());
        let folder = request.arguments.folder()?;
        if let Some(folder) = &folder {
            config.tls.anchor(folder);
        }
        check_files(&config)?;
        config.lua = path.map(|path| main_file(&path, folder.as_deref())).transpose()?;
        if config.lua.is_some() && runtime.config.lua.is_none() && self.apps.contains_key(name) {
            return Err(OperatorError::failed(format!("the name \"{name}\" is taken by an app")));
        }
        let stops = runtime.config.needs_stop(&config);
        if runtime.is_running() && !stops.is_empty() {
            return Err(OperatorError::failed(format!(
                "{} of {kind} \"{name}\" can't change while it runs",
                stops.join(", ")
            ))
            .hint(format!("stop it first: socketley stop {name}")));
        }
        Ok(config)
    }

    /// What is new serves the connections to come; the files were read a moment ago.
    fn renew_tls(&mut self, name: &str) {
        let Some(runtime) = self.runtimes.get_mut(name).filter(|it| it.is_running()) else {
            return;
        };
        match runtime.config.load_tls(Some(&runtime.tls)) {
            Ok(tls) => {
                runtime.tls = tls;
                self.follow_certificates(name);
            }
            Err(error) => self.log(LogLevel::Error, name, error.message),
        }
    }

    fn take_edited(&mut self, name: &str, config: RuntimeConfig, done: Done) {
        let Some(runtime) = self.runtimes.get_mut(name) else { return };
        let start = config.autostart == Some(true) && !runtime.is_running();
        runtime.set_config(
            Arc::new(RuntimeConfig { autostart: None, ..config }),
            self.setup.now.unix_ms,
        );
        let configs = [Arc::clone(&runtime.config)];
        self.renew_tls(name);
        self.save(name);
        self.log(LogLevel::Info, name, "edited");
        let name = name.to_owned();
        let shown = move |manager: &mut Manager, result: Result<(), OperatorError>, name: &str| {
            let row = manager.runtimes.get(name).map(|runtime| manager.shown(runtime));
            done(manager, result.map(|()| row.unwrap_or_default()));
        };
        if start {
            return self.start_runtime(
                &name.clone(),
                Box::new(move |manager, result| {
                    shown(manager, result, &name);
                }),
            );
        }
        self.resolve(&configs, move |manager| {
            let running = manager.runtimes.get(&name).filter(|runtime| runtime.is_running());
            let Some(runtime) = running else { return shown(manager, Ok(()), &name) };
            let (placement, workers) = (manager.placement(runtime), runtime.workers.clone());
            manager.ask(
                &workers,
                move |request, _| ToWorker::Place { request, placement: placement.clone() },
                move |manager, replies| {
                    let missing = replies.missing;
                    let result = if missing > 0 { Err(no_answer(missing)) } else { Ok(()) };
                    shown(manager, result, &name);
                },
            );
        });
    }
}

/// The files of TLS are there and fit, and the folder that is served is there.
fn check_files(config: &RuntimeConfig) -> Result<(), OperatorError> {
    config.http.check_files().map_err(|problem| {
        OperatorError::failed(format!("{} \"{}\": {problem}", config.kind, config.name))
    })?;
    config.load_tls(None).map(|_| ()).map_err(|mut error| {
        error.message = format!("{} \"{}\": {}", config.kind, config.name, error.message);
        error
    })
}
