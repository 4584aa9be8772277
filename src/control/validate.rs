//! Checks what a file defines against the table of fields, itself, and what runs already.
//!
//! It only reads: `socketley check` uses it without a daemon, the manager before it touches anything.
//! Must not know: workers, listeners, how a file is read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::{OperatorError, ScriptError};
use crate::id::RuntimeKind;
use crate::lua::{Definition, Definitions};
use crate::runtime::config::{backend_parts, check_name};
use crate::runtime::{Address, Mode, RuntimeConfig, Strategy};
use crate::suggest::did_you_mean;

/// Something wrong in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// 1-based; 0 if unknown.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Source lines and traceback, if a script failed.
    pub detail: String,
}

impl Problem {
    fn of(definition: &Definition, message: impl Into<String>, hint: Option<String>) -> Problem {
        let (file, line) = (definition.file.clone(), definition.line);
        Problem { file, line, message: message.into(), hint, detail: String::new() }
    }

    /// `file:line: message`, in one line.
    pub fn short(&self) -> String {
        match (self.file.as_os_str().is_empty(), self.line) {
            (true, _) => self.message.clone(),
            (false, 0) => format!("{}: {}", self.file.display(), self.message),
            (false, line) => format!("{}:{line}: {}", self.file.display(), self.message),
        }
    }

    /// As the verb `check` answers it.
    pub fn to_json(&self) -> Value {
        json!({
            "file": self.file, "line": self.line, "message": self.message, "hint": self.hint,
            "detail": self.detail,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())?;
        if !self.detail.is_empty() {
            write!(f, "\n{}", self.detail.trim_end())?;
        }
        Ok(())
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Problem {
        Problem { message: error.message, hint: error.hint, ..Problem::default() }
    }
}

impl From<ScriptError> for Problem {
    fn from(error: ScriptError) -> Problem {
        let parts = [error.excerpt.trim_end(), error.traceback.trim_end()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Problem {
            file: error.file.into(),
            line: error.line,
            message: error.message,
            hint: None,
            detail: parts.join("\n"),
        }
    }
}

/// What there is beside the file.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Other runtimes by name: their type, and who made them in words.
    pub runtimes: BTreeMap<String, (RuntimeKind, String)>,
    /// Addresses that others listen on, with the runtime's name.
    pub addresses: Vec<(Address, String)>,
}

/// The callbacks that runtimes of a type may have.
pub fn callbacks(kind: RuntimeKind) -> &'static [&'static str] {
    match kind {
        RuntimeKind::Server => &[
            "on_start",
            "on_stop",
            "on_connect",
            "on_disconnect",
            "on_websocket",
            "on_message",
            "on_client_message",
            "on_http_request",
            "on_master_auth",
            "on_tick",
        ],
        RuntimeKind::Client => {
            &["on_start", "on_stop", "on_connect", "on_disconnect", "on_message", "on_tick"]
        }
        RuntimeKind::Proxy => {
            &["on_start", "on_stop", "on_connect", "on_disconnect", "on_route", "on_tick"]
        }
        RuntimeKind::Cache => &[
            "on_start",
            "on_stop",
            "on_connect",
            "on_disconnect",
            "on_tick",
            "on_miss",
            "on_write",
            "on_delete",
            "on_expire",
            "on_evict",
            "write_behind",
        ],
    }
}

/// Callbacks of the original that this version doesn't call.
const CALLBACKS_LATER: &[&str] = &[
    "on_auth",
    "on_send",
    "on_websocket",
    "on_proxy_request",
    "on_proxy_response",
    "on_upstream",
    "on_upstream_connect",
    "on_upstream_disconnect",
];

/// Checks everything and answers the runtimes' fields, in the order of the file.
///
/// # Errors
/// All that is wrong, in the order of the file.
pub fn check(definitions: &Definitions, world: &World) -> Result<Vec<RuntimeConfig>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut configs: Vec<RuntimeConfig> = Vec::new();
    for (index, definition) in definitions.runtimes.iter().enumerate() {
        check_names(definition, &definitions.runtimes[..index], world, &mut problems);
        check_callbacks(definition, &mut problems);
        match RuntimeConfig::parse(definition.kind, &definition.name, &definition.fields) {
            Ok(mut config) => {
                // Files are named from where the definition is.
                if let Some(folder) = definition.file.parent() {
                    config.tls.anchor(folder);
                    config.http.anchor(folder);
                }
                check_tls(definition, &config, &mut problems);
                if let Err(problem) = config.http.check_files() {
                    let owner = format!("{} \"{}\"", definition.kind, definition.name);
                    problems.push(Problem::of(definition, format!("{owner}: {problem}"), None));
                }
                check_address(definition, &config, &configs, world, &mut problems);
                check_backends(definition, &config, definitions, world, &mut problems);
                check_master(definition, &config, &mut problems);
                configs.push(config);
            }
            Err(errors) => problems.extend(errors.into_iter().map(|error| {
                Problem::of(
                    definition,
                    format!("{} \"{}\": {error}", definition.kind, definition.name),
                    error.hint,
                )
            })),
        }
    }
    if problems.is_empty() { Ok(configs) } else { Err(problems) }
}

/// Checks a callback-style script's runtime, whose fields come from elsewhere.
///
/// # Errors
/// Unknown callbacks, or a proxy that has nowhere to go.
pub fn check_script(definition: &Definition, config: &RuntimeConfig) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    check_callbacks(definition, &mut problems);
    check_route(definition, config, &mut problems);
    check_master(definition, config, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_names(
    definition: &Definition,
    earlier: &[Definition],
    world: &World,
    problems: &mut Vec<Problem>,
) {
    let name = &definition.name;
    if let Err(error) = check_name(name) {
        problems.push(Problem::of(definition, error.message, error.hint));
    }
    if let Some(same) = earlier.iter().find(|other| other.name == *name) {
        let message = format!("\"{name}\" is defined twice, first in line {}", same.line);
        problems.push(Problem::of(definition, message, None));
    }
    if let Some((kind, whose)) = world.runtimes.get(name) {
        let message = format!("the name \"{name}\" is taken by a {kind} {whose}");
        let hint = format!("choose another name, or `socketley remove {name}`");
        problems.push(Problem::of(definition, message, Some(hint)));
    }
    if definition.fields.contains_key("lua") {
        let message =
            format!("{} \"{name}\": lua: a definition has its handlers beside", definition.kind);
        let hint = "write on_message = function(conn, msg) ... end into it".to_owned();
        problems.push(Problem::of(definition, message, Some(hint)));
    }
}

fn check_callbacks(definition: &Definition, problems: &mut Vec<Problem>) {
    let known = callbacks(definition.kind);
    for handler in &definition.handlers {
        if known.contains(&handler.as_str()) || handler == crate::lua::ROUTES {
            continue;
        }
        let owner = format!("{} \"{}\"", definition.kind, definition.name);
        let elsewhere =
            RuntimeKind::ALL.into_iter().find(|kind| callbacks(*kind).contains(&handler.as_str()));
        let (message, hint) = if CALLBACKS_LATER.contains(&handler.as_str()) {
            (format!("{owner}: {handler} isn't called in this version yet"), None)
        } else if let Some(kind) = elsewhere {
            (
                format!(
                    "{owner}: {handler} is a callback of a {kind}, not of a {}",
                    definition.kind
                ),
                None,
            )
        } else {
            let hint = did_you_mean(handler, known.iter().copied());
            (format!("{owner}: there is no callback {handler}"), hint)
        };
        problems.push(Problem::of(definition, message, hint));
    }
}

fn check_address(
    definition: &Definition,
    config: &RuntimeConfig,
    earlier: &[RuntimeConfig],
    world: &World,
    problems: &mut Vec<Problem>,
) {
    let Some(address) = &config.listen else { return };
    let here =
        earlier.iter().filter_map(|other| Some((other.listen.as_ref()?, other.name.as_str())));
    let there = world.addresses.iter().map(|(address, name)| (address, name.as_str()));
    if let Some((taken, name)) = here.chain(there).find(|(other, _)| other.overlaps(address)) {
        let message = format!(
            "{} \"{}\": port: {address} clashes with \"{name}\", which listens on {taken}",
            definition.kind, definition.name
        );
        problems.push(Problem::of(definition, message, Some("choose another port".to_owned())));
    }
}

fn check_tls(definition: &Definition, config: &RuntimeConfig, problems: &mut Vec<Problem>) {
    if let Err(error) = config.load_tls(None) {
        let message = format!("{} \"{}\": {}", definition.kind, definition.name, error.message);
        problems.push(Problem::of(definition, message, error.hint));
    }
}

fn check_backends(
    definition: &Definition,
    config: &RuntimeConfig,
    definitions: &Definitions,
    world: &World,
    problems: &mut Vec<Problem>,
) {
    check_route(definition, config, problems);
    for backend in &config.backends {
        let (_, address) = backend_parts(backend);
        if address.contains(':') || address.starts_with('@') {
            continue;
        }
        let here = definitions.runtimes.iter().find(|other| other.name == address);
        let kind = here.map(|other| other.kind);
        let kind = kind.or_else(|| world.runtimes.get(address).map(|(kind, _)| *kind));
        let owner = format!("proxy \"{}\": backends", definition.name);
        let (message, hint) = match kind {
            Some(_) if address == definition.name => (format!("{owner}: it names itself"), None),
            Some(RuntimeKind::Client) => {
                (format!("{owner}: \"{address}\" is a client, which doesn't listen"), None)
            }
            Some(_) => continue,
            None => {
                let here = definitions.runtimes.iter().map(|other| other.name.as_str());
                let known = here.chain(world.runtimes.keys().map(String::as_str));
                let hint = did_you_mean(address, known)
                    .unwrap_or_else(|| "write HOST:PORT for what isn't a runtime".to_owned());
                (format!("{owner}: there is no runtime \"{address}\""), Some(hint))
            }
        };
        problems.push(Problem::of(definition, message, hint));
    }
}

/// Somebody must be able to become the master.
fn check_master(definition: &Definition, config: &RuntimeConfig, problems: &mut Vec<Problem>) {
    let decides = definition.handlers.iter().any(|handler| handler == "on_master_auth");
    if config.mode == Mode::Master && !decides && config.master_password.is_none() {
        let message = format!("server \"{}\": mode master without a password", definition.name);
        let hint = "give it master_pw = \"...\" (--master-pw), or on_master_auth = function(conn, pw) ... end";
        problems.push(Problem::of(definition, message, Some(hint.to_owned())));
    }
}

/// A proxy needs somewhere to go.
fn check_route(definition: &Definition, config: &RuntimeConfig, problems: &mut Vec<Problem>) {
    let routes = definition.handlers.iter().any(|handler| handler == "on_route");
    if config.kind != RuntimeKind::Proxy || routes {
        return;
    }
    let message = if config.backends.is_empty() {
        "has neither backends nor on_route"
    } else if config.strategy == Strategy::Lua {
        "strategy \"lua\" wants an on_route"
    } else {
        return;
    };
    let message = format!("proxy \"{}\": {message}", definition.name);
    let hint =
        "give it backends = { \"HOST:PORT\" } (--backend), or on_route = function(req) ... end";
    problems.push(Problem::of(definition, message, Some(hint.to_owned())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(kind: RuntimeKind, name: &str, line: u32, fields: Value) -> Definition {
        Definition {
            kind,
            name: name.to_owned(),
            file: "/x/app.lua".into(),
            line,
            fields: fields.as_object().unwrap().clone(),
            handlers: Vec::new(),
        }
    }

    fn world() -> World {
        let by_hand = "made on the command line".to_owned();
        World {
            runtimes: [
                ("db".to_owned(), (RuntimeKind::Cache, by_hand.clone())),
                ("out".to_owned(), (RuntimeKind::Client, by_hand)),
            ]
            .into(),
            addresses: vec![("127.0.0.1:6379".parse().unwrap(), "db".to_owned())],
        }
    }

    fn problems(runtimes: Vec<Definition>) -> Vec<String> {
        let definitions = Definitions { runtimes, commands: Vec::new() };
        let problems = check(&definitions, &world()).err().unwrap_or_default();
        let shown =
            |p: &Problem| format!("{} {}", p.short(), p.hint.as_deref().unwrap_or_default());
        problems.iter().map(shown).collect()
    }

    #[test]
    fn a_good_file_gives_its_fields_in_order() {
        let runtimes = vec![
            definition(
                RuntimeKind::Proxy,
                "gw",
                1,
                json!({"protocol": "tcp", "backends": ["chat", "b=db"]}),
            ),
            definition(RuntimeKind::Server, "chat", 2, json!({"port": 9000})),
            definition(RuntimeKind::Server, "free", 3, json!({"port": 0})),
            definition(RuntimeKind::Server, "free2", 4, json!({"port": 0})),
        ];
        let definitions = Definitions { runtimes, commands: Vec::new() };
        let configs = check(&definitions, &world()).unwrap();
        let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
        assert_eq!(names, ["gw", "chat", "free", "free2"]);
    }

    #[test]
    fn wrong_definitions_are_named_with_their_line() {
        use RuntimeKind::*;
        let proxy = |backends: Value| json!({"protocol": "tcp", "backends": backends});
        let cases = [
            (definition(Server, "a b", 7, json!({})), "/x/app.lua:7: \"a b\" is not a name"),
            (
                definition(Server, "db", 7, json!({})),
                "the name \"db\" is taken by a cache made on the command line",
            ),
            (
                definition(Server, "s", 7, json!({"prot": 1})),
                "server \"s\": prot: a server has no such field did you mean \"port\"?",
            ),
            (
                definition(Server, "s", 7, json!({"port": 6379})),
                "clashes with \"db\", which listens on 127.0.0.1:6379",
            ),
            (definition(Server, "s", 7, json!({"port": "*:6379"})), "0.0.0.0:6379 clashes"),
            (
                definition(Server, "s", 7, json!({"lua": "a.lua"})),
                "a definition has its handlers beside",
            ),
            (
                definition(Proxy, "p", 7, proxy(json!(["dbb"]))),
                "there is no runtime \"dbb\" did you mean \"db\"?",
            ),
            (definition(Proxy, "p", 7, proxy(json!(["p"]))), "it names itself"),
            (definition(Proxy, "p", 7, proxy(json!(["out"]))), "\"out\" is a client"),
            (
                definition(Proxy, "p", 7, json!({"protocol": "tcp"})),
                "neither backends nor on_route",
            ),
            (definition(Proxy, "p", 7, json!({"protocol": "udp"})), "expected http, tcp"),
            (
                definition(
                    Proxy,
                    "p",
                    7,
                    json!({"protocol": "tcp", "backends": ["db"], "strategy": "lua"}),
                ),
                "strategy \"lua\" wants an on_route",
            ),
        ];
        for (definition, expected) in cases {
            let found = problems(vec![definition]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected) && found[0].contains("app.lua:7"), "{found:?}");
        }
    }

    #[test]
    fn definitions_are_checked_against_each_other() {
        let found = problems(vec![
            definition(RuntimeKind::Server, "a", 1, json!({"port": 9000})),
            definition(RuntimeKind::Server, "a", 2, json!({"port": 9001})),
            definition(RuntimeKind::Server, "b", 3, json!({"port": "0.0.0.0:9000"})),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("app.lua:2: \"a\" is defined twice, first in line 1"));
        assert!(found[1].contains("app.lua:3") && found[1].contains("clashes with \"a\""));
    }

    #[test]
    fn callbacks_are_checked() {
        let cases = [
            (RuntimeKind::Server, "on_mesage", "did you mean \"on_message\"?"),
            (RuntimeKind::Server, "on_route", "is a callback of a proxy, not of a server"),
            (RuntimeKind::Cache, "on_expired", "did you mean \"on_expire\"?"),
            (RuntimeKind::Server, "on_send", "isn't called in this version yet"),
            (RuntimeKind::Server, "on_miss", "is a callback of a cache, not of a server"),
        ];
        for (kind, handler, expected) in cases {
            let mut with = definition(kind, "x", 4, json!({"port": 1}));
            with.handlers = vec!["on_start".to_owned(), handler.to_owned()];
            let found = problems(vec![with]);
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }
}
