//! What a command takes, as its Lua file or an app's `command "x" {}` declares it.
//!
//! Built-in specs are read in a small VM in this process; apps' specs come from the daemon as JSON in the same form.
//! Must not know: how arguments are parsed, who runs the command.

use std::collections::BTreeMap;

use mlua::{Lua, Table, Value as LuaValue};
use serde::Deserialize;
use serde_json::Value;

use crate::error::OperatorError;
use crate::lua::{api::json, bundle};

/// A command.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// Its word.
    pub name: String,
    /// Other words for it.
    #[serde(default, deserialize_with = "list")]
    pub aliases: Vec<String>,
    /// One line of help.
    #[serde(default)]
    pub summary: String,
    /// More help, in paragraphs.
    #[serde(default)]
    pub description: String,
    /// Positional arguments, in order.
    #[serde(default, deserialize_with = "list")]
    pub args: Vec<ArgSpec>,
    /// Flags.
    #[serde(default, deserialize_with = "flags")]
    pub flags: Vec<FlagSpec>,
    /// A line to type and what it does.
    #[serde(default, deserialize_with = "list")]
    pub examples: Vec<(String, String)>,
    /// Where it runs.
    #[serde(default, rename = "where")]
    pub place: Place,
    /// Whether it has `--format table|json|jsonl`.
    #[serde(default)]
    pub format: bool,
    /// The fields of runtimes it takes as flags.
    #[serde(default)]
    pub fields: Option<FieldsOf>,
    /// Left out of help.
    #[serde(default)]
    pub hidden: bool,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the daemon.
    #[default]
    Daemon,
    /// In the command line's own process.
    Local,
}

/// Which fields of runtimes become flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldsOf {
    /// All.
    Create,
    /// All; what can't change while it runs says so itself.
    Edit,
}

/// A positional argument.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, from = "RawArg")]
pub struct ArgSpec {
    /// Its name in `run`'s arguments.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// Only these words.
    pub values: Vec<String>,
    /// One or more; in `run` a list.
    pub many: bool,
    /// May be left out.
    pub optional: bool,
    /// Read from the standard input when left out.
    pub stdin: bool,
    /// Everything after it belongs to it, hyphens included.
    pub raw: bool,
    /// What its text means.
    pub kind: Kind,
    /// What the shell completes it with.
    pub complete: Option<Complete>,
}

/// A flag.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagSpec {
    /// Its name, `--name`.
    #[serde(default)]
    pub name: String,
    /// Its letter.
    #[serde(default)]
    pub short: Option<char>,
    /// Other long names.
    #[serde(default, deserialize_with = "list")]
    pub aliases: Vec<String>,
    /// What its text means.
    #[serde(default, rename = "type")]
    pub kind: Option<Kind>,
    /// The word for its value in help.
    #[serde(default)]
    pub value: Option<String>,
    /// Only these words.
    #[serde(default, deserialize_with = "list")]
    pub values: Vec<String>,
    /// If it isn't given.
    #[serde(default)]
    pub default: Option<Value>,
    /// One line of help.
    #[serde(default)]
    pub help: String,
    /// What the shell completes it with.
    #[serde(default)]
    pub complete: Option<Complete>,
    /// The caller's lines go to the command while it runs.
    #[serde(default)]
    pub input: bool,
    /// Left out of help.
    #[serde(default)]
    pub hidden: bool,
    /// The runtime's field that it sets.
    #[serde(skip)]
    pub field: Option<String>,
}

impl FlagSpec {
    /// What its text means: as declared, else by its default.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or(match &self.default {
            Some(Value::Bool(_)) => Kind::Boolean,
            Some(Value::Number(_)) => Kind::Integer,
            _ => Kind::String,
        })
    }
}

/// What an argument's text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// A flag without a value.
    Boolean,
    /// Texts, separated by commas or by repeating the flag.
    List,
    /// A file; made absolute, for the daemon works elsewhere.
    Path,
    /// Files, as a list.
    Paths,
    /// A flag whose value may be left out: then it is its first one.
    Switch,
    /// `500ms`, `30s`, `10m`, `2h`, `1d`; milliseconds for the command.
    Duration,
}

/// What the shell completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Complete {
    /// Names of runtimes.
    Runtime,
    /// Names of apps.
    App,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawArg {
    Name(String),
    Full(FullArg),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullArg {
    name: String,
    #[serde(default)]
    help: String,
    #[serde(default, deserialize_with = "list")]
    values: Vec<String>,
    #[serde(default)]
    many: bool,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    raw: bool,
    #[serde(default, rename = "type")]
    kind: Kind,
    #[serde(default)]
    complete: Option<Complete>,
}

impl From<RawArg> for ArgSpec {
    fn from(raw: RawArg) -> ArgSpec {
        let full = match raw {
            RawArg::Name(name) => return ArgSpec { name, ..ArgSpec::default() },
            RawArg::Full(full) => full,
        };
        let FullArg { name, help, values, many, optional, stdin, raw, kind, complete } = full;
        ArgSpec { name, help, values, many, optional, stdin, raw, kind, complete }
    }
}

/// A list; an empty Lua table is an empty object in JSON.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(Vec::new());
    }
    serde_json::from_value(value).map_err(serde::de::Error::custom)
}

/// Flags as a list, or by name as apps write them.
fn flags<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<FlagSpec>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_array() {
        return serde_json::from_value(value).map_err(serde::de::Error::custom);
    }
    let by_name: BTreeMap<String, FlagSpec> =
        serde_json::from_value(value).map_err(serde::de::Error::custom)?;
    Ok(by_name.into_iter().map(|(name, flag)| FlagSpec { name, ..flag }).collect())
}

impl CommandSpec {
    /// From JSON.
    ///
    /// # Errors
    /// Says what is wrong in the declaration.
    pub fn parse(value: Value) -> Result<CommandSpec, String> {
        let spec: CommandSpec = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let last = spec.args.len().saturating_sub(1);
        if spec.args.iter().take(last).any(|arg| arg.many || arg.optional) {
            return Err("only the last argument may be optional or many".to_string());
        }
        Ok(spec)
    }

    /// Adds the flags of the runtime fields to a command that takes them. `rows` is the field table's export.
    pub fn add_fields(&mut self, rows: &Value) {
        if self.fields.is_none() {
            return;
        }
        for row in rows.as_array().into_iter().flatten() {
            let flag = field_flag(row);
            match self.flags.iter_mut().find(|known| known.name == flag.name) {
                // Two types of runtime may use one word for different fields.
                Some(known) => {
                    known.values.extend(flag.values);
                    known.help = format!("{}; {}", known.help, flag.help);
                }
                None => self.flags.push(flag),
            }
        }
    }
}

fn field_flag(row: &Value) -> FlagSpec {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
    let texts = |key: &str| -> Vec<String> {
        row[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect()
    };
    let field = text("field");
    let kind = match row["type"].as_str() {
        Some("integer") => Kind::Integer,
        Some("boolean") => Kind::Boolean,
        Some("list") => Kind::List,
        Some("files") => Kind::Paths,
        Some("switch") => Kind::Switch,
        Some("file") => Kind::Path,
        _ if field == "lua" => Kind::Path,
        _ => Kind::String,
    };
    let value = match row["type"].as_str() {
        Some("address") => Some("[HOST:]PORT".to_string()),
        _ if field == "lua" => Some("FILE".to_string()),
        _ => None,
    };
    let kinds = texts("kinds").join(", ");
    FlagSpec {
        name: text("long"),
        short: row["short"].as_str().and_then(|short| short.chars().next()),
        aliases: texts("aliases"),
        kind: Some(kind),
        value,
        values: texts("choices"),
        help: format!("{} ({kinds}; default: {})", text("help"), text("default")),
        field: Some(field),
        ..FlagSpec::default()
    }
}

/// The built-in commands, in the order of the help.
///
/// # Errors
/// When a bundled file is broken: a bug.
pub fn built_in(field_rows: &Value) -> Result<Vec<CommandSpec>, OperatorError> {
    let lua = Lua::new();
    let load = |file: &bundle::Bundled| {
        let spec = read(&lua, file).map_err(|error| error.to_string())?;
        let mut spec = CommandSpec::parse(spec)?;
        spec.add_fields(field_rows);
        Ok(spec)
    };
    let failed = |path: &str, message: String| OperatorError::failed(format!("{path}: {message}"));
    let mut specs = Vec::new();
    for file in bundle::commands() {
        specs.push(load(file).map_err(|message| failed(file.path, message))?);
    }
    specs.sort_by_key(|spec| ORDER.iter().position(|name| *name == spec.name));
    Ok(specs)
}

/// The help's order: what one begins with, what one does daily, the rest.
pub const ORDER: &[&str] = &[
    "daemon",
    "run",
    "check",
    "test",
    "plan",
    "apply",
    "rollback",
    "create",
    "start",
    "stop",
    "restart",
    "remove",
    "send",
    "reload",
    "reload-lua",
    "show",
    "edit",
    "ls",
    "ps",
    "stats",
    "top",
    "backends",
    "backend",
    "logs",
    "console",
    "eval",
    "init",
    "cert",
    "info",
    "ping",
    "version",
    "completion",
    "man",
    "help",
    "complete",
    "commands",
];

/// Evaluates a command's file for its data. `require` gives empty tables: nothing is called here.
fn read(lua: &Lua, file: &bundle::Bundled) -> Result<Value, mlua::Error> {
    let environment = lua.create_table()?;
    environment.set("require", lua.create_function(|lua, _: LuaValue| lua.create_table())?)?;
    let spec: Table =
        lua.load(file.text).set_name(file.chunk_name()).set_environment(environment).eval()?;
    spec.raw_set("run", LuaValue::Nil)?;
    json::from_lua(lua, &LuaValue::Table(spec)).map_err(mlua::Error::runtime)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn apps_may_write_specs_briefly() {
        let spec = CommandSpec::parse(json!({
            "name": "kick", "summary": "drop a user", "args": ["user"],
            "flags": {"reason": {"default": "bye"}, "hard": {"default": false}, "n": {"default": 3}},
        }))
        .unwrap();
        assert_eq!(spec.args[0].name, "user");
        let flags: Vec<(&str, Kind)> =
            spec.flags.iter().map(|flag| (flag.name.as_str(), flag.kind())).collect();
        assert_eq!(
            flags,
            [("hard", Kind::Boolean), ("n", Kind::Integer), ("reason", Kind::String)]
        );
        assert!(CommandSpec::parse(json!({"name": "x", "args": {}, "flags": {}})).is_ok());
    }

    #[test]
    fn wrong_specs_say_what_is_wrong() {
        for (spec, message) in [
            (json!({"name": "x", "sumary": "y"}), "unknown field `sumary`"),
            (json!({"summary": "x"}), "missing field `name`"),
            (json!({"name": "x", "args": [{"name": "a", "many": true}, "b"]}), "only the last"),
            (json!({"name": "x", "flags": {"a": {"type": "colour"}}}), "unknown variant `colour`"),
        ] {
            let error = CommandSpec::parse(spec.clone()).unwrap_err();
            assert!(error.contains(message), "{spec}: {error}");
        }
    }

    #[test]
    fn every_command_is_described() {
        let specs = built_in(&Value::Null).unwrap();
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ORDER, "every command has its place in the help");
        for spec in &specs {
            let name = &spec.name;
            let path = format!("lua/commands/{name}.lua");
            assert!(bundle::find(&path).is_some(), "{name} stands in {path}");
            assert!(!spec.summary.is_empty() && !spec.summary.ends_with('.'), "{name}: summary");
            assert!(!spec.examples.is_empty(), "{name}: examples");
            for (line, meaning) in &spec.examples {
                assert!(line.contains(&format!("socketley {name}")), "{name}: {line}");
                assert!(!meaning.is_empty(), "{name}: {line} isn't explained");
            }
            for arg in &spec.args {
                assert!(!arg.help.is_empty(), "{name}: {} has no help", arg.name);
            }
            for flag in &spec.flags {
                assert!(!flag.help.is_empty(), "{name}: --{} has no help", flag.name);
            }
        }
    }
}
