//! The verbs: what may be asked, with which arguments, by whom.
//!
//! Must not know: how a verb is done.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::app::{app_name, main_file, read_source};
use super::apply::{Load, problems_error};
use super::{CallId, Caller, Manager, Runtime, Then};
use crate::control::answer::{Answer, Outcome};
use crate::control::state::SavedSource;
use crate::control::validate::Problem;
use crate::error::OperatorError;
use crate::id::AppId;
use crate::limits::{DRAIN_MS, DRAIN_MS_MAX};
use crate::runtime::message::ToWorker;
use crate::suggest::did_you_mean;

/// One call.
pub(super) struct Request {
    pub id: CallId,
    pub caller: Caller,
    pub arguments: Arguments,
    pub answer: Answer,
}

/// What a verb does.
enum Verb {
    /// Answers at once.
    Ask(fn(&Manager, &Arguments) -> Outcome),
    /// Answers when it is done.
    Do(fn(&mut Manager, Request)),
}

use Verb::{Ask, Do};

static VERBS: &[(&str, Verb)] = &[
    ("ping", Ask(|_, arguments| Ok(json!({ "pong": arguments.0.get("message") })))),
    ("info", Ask(Manager::verb_info)),
    ("match", Ask(Manager::verb_match)),
    ("list", Ask(Manager::verb_list)),
    ("get", Ask(Manager::verb_get)),
    ("show", Ask(Manager::verb_show)),
    ("stats", Ask(Manager::verb_stats)),
    ("backends", Ask(Manager::verb_backends)),
    ("backend", Ask(Manager::verb_backend)),
    ("logs", Ask(Manager::verb_logs)),
    ("apps", Ask(Manager::verb_apps)),
    ("commands", Ask(Manager::verb_commands)),
    ("create", Do(Manager::verb_create)),
    ("edit", Do(Manager::verb_edit)),
    ("start", Do(|manager, request| manager.on_each(request, Manager::start_runtime))),
    ("stop", Do(|manager, request| manager.on_each(request, Manager::stop_runtime))),
    ("restart", Do(|manager, request| manager.on_each(request, Manager::restart_runtime))),
    ("reload", Do(|manager, request| manager.on_each(request, Manager::restart_runtime))),
    ("remove", Do(Manager::verb_remove)),
    ("remove_app", Do(Manager::verb_remove_app)),
    ("reload_lua", Do(Manager::verb_reload_lua)),
    ("send", Do(Manager::verb_send)),
    ("check", Do(Manager::verb_check)),
    ("plan", Do(Manager::verb_plan)),
    ("apply", Do(Manager::verb_apply)),
    ("rollback", Do(Manager::verb_rollback)),
    ("wait", Do(Manager::verb_wait)),
    ("eval", Do(Manager::verb_eval)),
    ("complete", Do(Manager::verb_complete)),
    ("command", Do(Manager::verb_command)),
    ("shutdown", Do(Manager::verb_shutdown)),
];

/// What a script may not ask for: it would wait for itself, or end everything.
const NOT_FOR_SCRIPTS: &[&str] = &["wait", "eval", "complete", "command", "shutdown"];

/// A verb's arguments.
pub(super) struct Arguments(pub Map<String, Value>);

impl Arguments {
    pub fn maybe_text(&self, name: &str) -> Result<Option<&str>, OperatorError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(OperatorError::usage(format!("{name}: expected a text, got {other}")))
            }
        }
    }

    pub fn text(&self, name: &str) -> Result<&str, OperatorError> {
        self.maybe_text(name)?.ok_or_else(|| OperatorError::usage(format!("{name} is missing")))
    }

    pub fn flag(&self, name: &str) -> Result<bool, OperatorError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(other) => {
                Err(OperatorError::usage(format!("{name}: expected true or false, got {other}")))
            }
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, OperatorError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0) {
                Some(number) => Ok(Some(value.as_u64().unwrap_or(number as u64))),
                None => {
                    Err(OperatorError::usage(format!("{name}: expected a number, got {value}")))
                }
            },
        }
    }

    /// A table; Lua's empty one may come as a list.
    pub fn fields(&self, name: &str) -> Result<Map<String, Value>, OperatorError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(fields)) => Ok(fields.clone()),
            Some(Value::Array(list)) if list.is_empty() => Ok(Map::new()),
            Some(other) => {
                Err(OperatorError::usage(format!("{name}: expected a table, got {other}")))
            }
        }
    }

    /// The folder that relative paths start from.
    pub fn folder(&self) -> Result<Option<PathBuf>, OperatorError> {
        Ok(self.maybe_text("cwd")?.map(PathBuf::from))
    }

    pub fn path(&self) -> Result<PathBuf, OperatorError> {
        main_file(self.text("path")?.as_ref(), self.folder()?.as_deref())
    }
}

impl Manager {
    /// Does `verb` for someone.
    pub(super) fn call_as(
        &mut self,
        caller: Caller,
        verb: &str,
        arguments: Value,
        answer: Answer,
    ) -> CallId {
        self.ids.call += 1;
        let id = CallId(self.ids.call);
        let arguments = match arguments {
            Value::Object(arguments) => Arguments(arguments),
            Value::Array(list) if list.is_empty() => Arguments(Map::new()),
            Value::Null => Arguments(Map::new()),
            other => {
                let error = OperatorError::usage(format!("{verb}: expected a table, got {other}"));
                answer.give(Err(error));
                return id;
            }
        };
        match VERBS.iter().find(|(name, _)| *name == verb) {
            None => {
                let mut error = OperatorError::usage(format!("unknown verb: {verb}"));
                error.hint = did_you_mean(verb, VERBS.iter().map(|(name, _)| *name));
                answer.give(Err(error));
            }
            Some((_, Ask(ask))) => answer.give(ask(self, &arguments)),
            Some((_, Do(act))) => match self.check_not_ending() {
                Err(error) if verb != "shutdown" => answer.give(Err(error)),
                _ => act(self, Request { id, caller, arguments, answer }),
            },
        }
        id
    }

    /// A script asks; `from`: its worker, app, generation and task.
    pub(super) fn on_script_call(
        &mut self,
        from: (u8, AppId, u32, u64),
        verb: &str,
        mut arguments: Value,
    ) {
        let (worker, app, generation, task) = from;
        let inbox = Arc::clone(&self.setup.workers[usize::from(worker)]);
        let answer = Answer::new(move |outcome: Outcome| {
            let reply = outcome.map_err(|error| error.to_string());
            inbox.send(ToWorker::Answer { app, generation, task, reply });
        });
        let Some(name) = self.app_name(app) else {
            return answer.give(Err(OperatorError::failed("the app has ended")));
        };
        if NOT_FOR_SCRIPTS.contains(&verb) {
            let text = format!("{verb} is for people, not for scripts");
            return answer.give(Err(OperatorError::failed(text)));
        }
        if let (Some(table), Some(folder)) =
            (arguments.as_object_mut(), self.apps[&name].path.parent())
        {
            table.entry("cwd").or_insert_with(|| json!(folder));
        }
        self.call_as(Caller::App(name), verb, arguments, answer);
    }

    /// The runtimes that a name means: itself, or those of an app.
    fn meant(&self, name: &str) -> Result<Vec<String>, OperatorError> {
        if !self.runtimes.contains_key(name) && self.apps.contains_key(name) {
            return Ok(self.runtimes_of(name).map(|runtime| runtime.name().to_owned()).collect());
        }
        self.find(name).map(|runtime| vec![runtime.name().to_owned()])
    }

    /// What operations on a name take turns for.
    fn lock_key(&self, name: &str) -> String {
        self.runtimes.get(name).map_or_else(|| name.to_owned(), Runtime::lock_key)
    }

    /// Runs an operation under a name's lock and answers with the rows of what it was about.
    fn on_each(&mut self, request: Request, operation: fn(&mut Manager, &str, Then)) {
        let name = match request.arguments.text("name") {
            Ok(name) => name.to_owned(),
            Err(error) => return request.answer.give(Err(error)),
        };
        let key = self.lock_key(&name);
        self.lock(&key.clone(), move |manager| {
            let done = move |manager: &mut Manager, outcome: Outcome| {
                request.answer.give(outcome);
                manager.unlock(&key);
            };
            match manager.meant(&name) {
                Err(error) => done(manager, Err(error)),
                Ok(names) => {
                    let left = names.clone();
                    manager.one_by_one(
                        left,
                        operation,
                        Box::new(move |manager, result| {
                            let row =
                                |name: &String| Some(manager.row(manager.runtimes.get(name)?));
                            let mut rows: Vec<Value> = names.iter().filter_map(row).collect();
                            let value = if rows.len() == 1 { rows.remove(0) } else { json!(rows) };
                            done(manager, result.map(|()| value));
                        }),
                    );
                }
            }
        });
    }

    /// Does something to several runtimes in turn; the first error is the result.
    fn one_by_one(
        &mut self,
        mut names: Vec<String>,
        operation: fn(&mut Manager, &str, Then),
        then: Then,
    ) {
        if names.is_empty() {
            return then(self, Ok(()));
        }
        let name = names.remove(0);
        operation(
            self,
            &name,
            Box::new(move |manager, result| {
                let then: Then = match result {
                    Ok(()) => then,
                    Err(error) => Box::new(move |manager, _| then(manager, Err(error))),
                };
                manager.one_by_one(names, operation, then);
            }),
        );
    }

    fn restart_runtime(&mut self, name: &str, then: Then) {
        let name = name.to_owned();
        self.stop_runtime(
            &name.clone(),
            Box::new(move |manager, result| match result {
                Ok(()) => manager.start_runtime(&name, then),
                Err(error) => then(manager, Err(error)),
            }),
        );
    }

    /// `remove {name}`: a runtime, or an app with all its runtimes.
    fn verb_remove(&mut self, request: Request) {
        let check = request.arguments.text("name").and_then(|name| match self.runtimes.get(name) {
            None if self.apps.contains_key(name) => Ok(true),
            None => self.find(name).map(|_| false),
            Some(runtime) => runtime.check_editable().map(|()| false),
        });
        match check {
            Err(error) => request.answer.give(Err(error)),
            Ok(true) => self.verb_remove_app(request),
            Ok(false) => self.on_each(request, Manager::remove_runtime),
        }
    }

    /// `remove_app {name}`
    fn verb_remove_app(&mut self, request: Request) {
        let name = match request.arguments.text("name") {
            Ok(name) => name.to_owned(),
            Err(error) => return request.answer.give(Err(error)),
        };
        self.lock(&name.clone(), move |manager| {
            let key = name.clone();
            let done: Then = Box::new(move |manager, result| {
                request.answer.give(result.map(|()| json!({ "name": key })));
                manager.unlock(&key);
            });
            match manager.apps.get(&name) {
                Some(app) if !app.is_script => manager.remove_app(&name, done),
                _ => {
                    let error = OperatorError::failed(format!("no such app: {name}"));
                    done(manager, Err(error));
                }
            }
        });
    }

    /// `reload_lua {name}`: of a runtime's app, or of an app; certificates are read again too.
    fn verb_reload_lua(&mut self, request: Request) {
        let runtime = request.arguments.text("name").unwrap_or_default().to_owned();
        if self.find_app(&runtime).is_err()
            && let Some(renewed) = self.renew_certificates(&runtime)
        {
            return request.answer.give(renewed.map(|()| json!({ "name": runtime })));
        }
        let found = request.arguments.text("name").and_then(|name| self.find_app(name));
        let name = match found {
            Ok((name, _)) => name.to_owned(),
            Err(error) => return request.answer.give(Err(error)),
        };
        self.lock(&name.clone(), move |manager| {
            manager.reload_app(
                &name.clone(),
                true,
                Box::new(move |manager, result| {
                    let generation = manager.apps.get(&name).map(|app| app.generation);
                    let value = json!({ "name": name, "generation": generation });
                    request.answer.give(result.map(|()| value));
                    manager.unlock(&name);
                }),
            );
        });
    }

    /// `check {path, text?}`: what is wrong, as data.
    fn verb_check(&mut self, request: Request) {
        self.look(request, |loaded| {
            let problems = loaded.err().unwrap_or_default();
            Ok(json!({ "problems": problems.iter().map(Problem::to_json).collect::<Vec<_>>() }))
        });
    }

    /// `plan {path}`: what `apply` would change.
    fn verb_plan(&mut self, request: Request) {
        self.look(request, |loaded| match loaded {
            Ok(changes) => Ok(changes_json(&changes)),
            Err(problems) => Err(problems_error(&problems)),
        });
    }

    fn look(&mut self, request: Request, shown: fn(super::apply::Loaded) -> Outcome) {
        match self.new_load(&request.arguments, true) {
            Err(error) => request.answer.give(Err(error)),
            Ok(load) => {
                self.load(load, Box::new(move |_, loaded| request.answer.give(shown(loaded))));
            }
        }
    }

    fn new_load(&self, arguments: &Arguments, look: bool) -> Result<Load, OperatorError> {
        let path = arguments.path()?;
        let app = app_name(&path)?;
        if let Some(other) = self.apps.get(&app).filter(|other| other.path != path) {
            let what = if other.is_script { "a runtime's script" } else { "another file's app" };
            return Err(OperatorError::failed(format!(
                "the name \"{app}\" is taken by {what}, {}",
                other.path.display()
            ))
            .hint(format!(
                "an app has its file's name: rename the file, or `socketley remove {app}`"
            )));
        }
        let text = match arguments.maybe_text("text")? {
            Some(text) => text.to_owned(),
            None => read_source(&path)?,
        };
        let source = SavedSource { text, modules: Vec::new() };
        Ok(Load { app, path, source, owner: None, look, start_stopped: !look })
    }

    /// `apply {path}`: all of it or nothing.
    fn verb_apply(&mut self, request: Request) {
        let load = match self.new_load(&request.arguments, false) {
            Ok(load) => load,
            Err(error) => return request.answer.give(Err(error)),
        };
        let name = load.app.clone();
        self.lock(&name.clone(), move |manager| {
            manager.load(
                load,
                Box::new(move |manager, loaded| {
                    let outcome = manager.conclude(&name, loaded);
                    request.answer.give(outcome.map(|changes| changes_json(&changes)));
                    manager.unlock(&name);
                }),
            );
        });
    }

    /// `rollback {app}`
    fn verb_rollback(&mut self, request: Request) {
        let found = request.arguments.text("app").and_then(|name| self.find_app(name));
        let name = match found {
            Ok((name, _)) => name.to_owned(),
            Err(error) => return request.answer.give(Err(error)),
        };
        self.lock(&name.clone(), move |manager| {
            let previous = manager.apps.get(&name).and_then(|app| {
                Some((app.path.clone(), app.is_script, app.previous.as_deref()?.clone()))
            });
            let Some((path, is_script, source)) = previous else {
                let text = format!("the app \"{name}\" has no earlier generation");
                request.answer.give(Err(OperatorError::failed(text)));
                return manager.unlock(&name);
            };
            let owner = is_script.then(|| name.clone());
            let (look, start_stopped) = (false, false);
            let load = Load { app: name.clone(), path, source, owner, look, start_stopped };
            manager.load(
                load,
                Box::new(move |manager, loaded| {
                    let generation = manager.apps.get(&name).map(|app| app.generation);
                    let value = json!({ "name": name, "generation": generation });
                    let outcome = loaded.map_err(|problems| problems_error(&problems));
                    request.answer.give(outcome.map(|_| value));
                    manager.unlock(&name);
                }),
            );
        });
    }

    /// `shutdown {drain_ms?}`
    fn verb_shutdown(&mut self, request: Request) {
        match request.arguments.number("drain_ms") {
            Err(error) => request.answer.give(Err(error)),
            Ok(drain_ms) => {
                request.answer.give(Ok(json!({ "ending": true })));
                self.shut_down(drain_ms.unwrap_or(DRAIN_MS).min(DRAIN_MS_MAX));
            }
        }
    }
}

fn changes_json(changes: &[super::Change]) -> Value {
    json!({ "changes": changes.iter().map(super::Change::to_json).collect::<Vec<_>>() })
}
