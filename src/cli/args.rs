//! The parser of the command line, built from the commands' specs, and what it parsed as a command's arguments.
//!
//! Must not know: what commands do, where they run.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use serde_json::{Map, Value};

use super::spec::{ArgSpec, CommandSpec, Complete, FieldsOf, FlagSpec, Kind, Place};
use crate::error::OperatorError;

const ABOUT: &str =
    "Servers, clients, proxies and Redis-compatible caches on io_uring, scripted in Lua";

const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\nCommands:\n{subcommands}\n\nOptions:\n{options}{after-help}";

/// The whole parser.
pub fn command(specs: &[CommandSpec]) -> Command {
    Command::new("socketley")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .help_template(TEMPLATE)
        .after_help(
            "Patterns stand for several runtimes: socketley stop \"api-*\".\n\
             `socketley help COMMAND` describes a command, with examples.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .arg(
            Arg::new("socket")
                .long("socket")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .global(true)
                .help("The daemon's control socket (default: by SOCKETLEY_HOME or the user's folders)"),
        )
        .subcommands(specs.iter().map(subcommand))
}

fn subcommand(spec: &CommandSpec) -> Command {
    let mut command = Command::new(spec.name.clone())
        .about(spec.summary.clone())
        .visible_aliases(spec.aliases.clone())
        .hide(spec.hidden)
        .args(spec.args.iter().map(positional))
        .args(spec.flags.iter().map(flag))
        .after_help(examples(spec));
    if !spec.description.is_empty() {
        command = command.long_about(format!("{}\n\n{}", spec.summary, reflow(&spec.description)));
    }
    if spec.format {
        command = command.arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(PossibleValuesParser::new(["table", "json", "jsonl"]))
                .default_value("table")
                .help("How to print: for people, as one JSON value, as one JSON value per line"),
        );
    }
    command
}

/// Paragraphs without their line ends, so that the terminal's width breaks them.
fn reflow(text: &str) -> String {
    let paragraphs = text.trim().split("\n\n");
    paragraphs.map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

fn examples(spec: &CommandSpec) -> String {
    let width = spec.examples.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = spec
        .examples
        .iter()
        .map(|(line, meaning)| format!("  {line:width$}  # {meaning}"))
        .collect();
    if lines.is_empty() { String::new() } else { format!("Examples:\n{}", lines.join("\n")) }
}

fn positional(spec: &ArgSpec) -> Arg {
    let mut arg = Arg::new(spec.name.clone())
        .value_name(spec.name.clone())
        .help(spec.help.clone())
        .required(!spec.optional)
        .action(if spec.many { ArgAction::Append } else { ArgAction::Set });
    if spec.many {
        arg = arg.num_args(1..);
    }
    if spec.raw {
        arg = arg.allow_hyphen_values(true).trailing_var_arg(true);
    }
    if !spec.values.is_empty() {
        arg = arg.value_parser(PossibleValuesParser::new(spec.values.clone()));
    }
    hinted(arg, spec.kind, spec.complete)
}

fn flag(spec: &FlagSpec) -> Arg {
    let mut arg = Arg::new(spec.name.clone())
        .long(spec.name.clone())
        .visible_aliases(spec.aliases.clone())
        .help(spec.help.clone())
        .hide(spec.hidden);
    if let Some(short) = spec.short {
        arg = arg.short(short);
    }
    if spec.field.is_some() {
        arg = arg.help_heading("Fields");
    }
    let kind = spec.kind();
    if kind == Kind::Boolean {
        return arg.action(ArgAction::SetTrue);
    }
    let word = match kind {
        Kind::Integer => "N",
        Kind::Path => "FILE",
        Kind::Duration => "TIME",
        Kind::List => "A,B",
        Kind::Paths => "FILE,FILE",
        Kind::Switch => "HOW",
        Kind::String | Kind::Boolean => "TEXT",
    };
    arg = arg.value_name(spec.value.clone().unwrap_or_else(|| word.to_string()));
    arg = match kind {
        Kind::Integer => arg.value_parser(value_parser!(i64)).allow_negative_numbers(true),
        Kind::List | Kind::Paths => arg.action(ArgAction::Append).value_delimiter(','),
        Kind::Switch => {
            let first = spec.values.first().cloned().unwrap_or_default();
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value(first)
                .value_parser(Suggested(spec.values.clone()))
        }
        // What a field may be is the daemon's to say: it knows the reasons.
        _ if spec.field.is_some() => arg.value_parser(Suggested(spec.values.clone())),
        _ if !spec.values.is_empty() => {
            arg.value_parser(PossibleValuesParser::new(spec.values.clone()))
        }
        _ => arg,
    };
    if let Some(default) = &spec.default {
        let text = default.as_str().map_or_else(|| default.to_string(), str::to_string);
        arg = arg.default_value(text);
    }
    hinted(arg, kind, spec.complete)
}

/// Takes any text; help and completion show some.
#[derive(Clone)]
struct Suggested(Vec<String>);

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.0.is_empty() {
            return None;
        }
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

fn hinted(arg: Arg, kind: Kind, complete: Option<Complete>) -> Arg {
    match (kind, complete) {
        (Kind::Path | Kind::Paths, _) => arg.value_hint(ValueHint::FilePath),
        (_, Some(_)) => arg.value_hint(ValueHint::Other),
        _ => arg,
    }
}

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The command's own name, aliases resolved.
    pub name: String,
    /// For `run`: by name, fields of runtimes under `fields`. What wasn't given isn't there.
    pub arguments: Map<String, Value>,
    /// The name of the argument that the standard input stands for.
    pub stdin: Option<String>,
    /// The caller's lines go to the command.
    pub input: bool,
    /// Where it runs.
    pub place: Place,
}

/// Turns matches into a command's arguments.
///
/// # Errors
/// A duration that is none.
pub fn parsed(spec: &CommandSpec, matches: &ArgMatches) -> Result<Parsed, OperatorError> {
    let mut arguments = Map::new();
    let mut fields = Map::new();
    let mut stdin = None;
    for arg in &spec.args {
        let mut values = Vec::new();
        for text in matches.get_many::<String>(&arg.name).into_iter().flatten() {
            values.push(value_of(text, arg.kind, &arg.name, spec.place)?);
        }
        if values.is_empty() {
            stdin = stdin.or_else(|| arg.stdin.then(|| arg.name.clone()));
        } else if arg.many {
            arguments.insert(arg.name.clone(), Value::Array(values));
        } else {
            arguments.insert(arg.name.clone(), values.swap_remove(0));
        }
    }
    let mut input = false;
    for flag in &spec.flags {
        let Some(value) = flag_value(flag, matches, spec.place)? else { continue };
        input |= flag.input;
        match &flag.field {
            Some(field) => fields.insert(field.clone(), value),
            None => arguments.insert(flag.name.replace('-', "_"), value),
        };
    }
    if spec.format
        && let Some(format) = matches.get_one::<String>("format")
    {
        arguments.insert("format".to_string(), Value::from(format.as_str()));
    }
    if spec.fields.is_some_and(|of| matches!(of, FieldsOf::Create | FieldsOf::Edit)) {
        arguments.insert("fields".to_string(), Value::Object(fields));
    }
    Ok(Parsed { name: spec.name.clone(), arguments, stdin, input, place: spec.place })
}

fn flag_value(
    flag: &FlagSpec,
    matches: &ArgMatches,
    place: Place,
) -> Result<Option<Value>, OperatorError> {
    let kind = flag.kind();
    Ok(match kind {
        Kind::Boolean => matches.get_flag(&flag.name).then_some(Value::Bool(true)),
        Kind::Integer => matches.get_one::<i64>(&flag.name).map(|number| Value::from(*number)),
        Kind::List => matches
            .get_many::<String>(&flag.name)
            .map(|texts| Value::Array(texts.map(|text| Value::from(text.trim())).collect())),
        Kind::Paths => matches
            .get_many::<String>(&flag.name)
            .map(|texts| {
                let path = |text: &String| value_of(text.trim(), Kind::Path, &flag.name, place);
                texts.map(path).collect::<Result<Vec<Value>, _>>().map(Value::Array)
            })
            .transpose()?,
        Kind::String | Kind::Switch | Kind::Path | Kind::Duration => matches
            .get_one::<String>(&flag.name)
            .map(|text| value_of(text, kind, &flag.name, place))
            .transpose()?,
    })
}

fn value_of(text: &str, kind: Kind, name: &str, place: Place) -> Result<Value, OperatorError> {
    match kind {
        // The daemon has another working directory.
        Kind::Path if place == Place::Daemon && !text.is_empty() => {
            let path = std::path::absolute(text).map_err(|error| {
                OperatorError::usage(format!("{name}: \"{text}\" is no path: {error}"))
            })?;
            Ok(Value::from(path.to_string_lossy()))
        }
        Kind::Duration => duration_ms(text).map(Value::from).ok_or_else(|| {
            OperatorError::usage(format!("{name}: \"{text}\" is no time"))
                .hint("write a number and ms, s, m, h or d, as in 30s")
        }),
        _ => Ok(Value::from(text)),
    }
}

/// `30s` and its like in milliseconds; a bare number is seconds.
fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::spec::built_in;
    use super::*;

    /// Some rows as the field table exports them.
    fn rows() -> Value {
        json!([
            {"field": "port", "long": "port", "short": "p", "aliases": ["listen"], "type": "address",
             "kinds": ["server"], "choices": [], "default": "8000", "help": "where to listen"},
            {"field": "mode", "long": "mode", "type": "choice", "choices": ["inout", "in"], "help": "who"},
            {"field": "mode", "long": "mode", "type": "choice", "choices": ["readonly"], "help": "what"},
            {"field": "reconnect", "long": "reconnect", "type": "integer", "help": "attempts"},
            {"field": "backends", "long": "backend", "type": "list", "help": "where to"},
            {"field": "lua", "long": "lua", "type": "string", "help": "a script"},
            {"field": "autostart", "long": "start", "short": "s", "type": "boolean", "help": "start"},
        ])
    }

    fn parse(line: &str) -> Result<Parsed, String> {
        let specs = built_in(&rows()).unwrap();
        let words = std::iter::once("socketley").chain(line.split(' '));
        let matches =
            command(&specs).try_get_matches_from(words).map_err(|error| error.to_string())?;
        let (name, matches) = matches.subcommand().unwrap();
        let spec = specs.iter().find(|spec| spec.name == name).unwrap();
        parsed(spec, matches).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_become_arguments() {
        let here = std::env::current_dir().unwrap();
        let file = here.join("x.lua").to_string_lossy().into_owned();
        for (line, name, arguments) in [
            ("ls", "ls", json!({"format": "table"})),
            ("ls -q --format jsonl", "ls", json!({"quiet": true, "format": "jsonl"})),
            ("rm a b*", "remove", json!({"name": ["a", "b*"]})),
            (
                "send chat -n --to x",
                "send",
                json!({"name": "chat", "message": ["-n", "--to", "x"]}),
            ),
            (
                "send --to 5 chat hi you",
                "send",
                json!({"name": "chat", "message": ["hi", "you"], "to": 5}),
            ),
            (
                "create server a -p 0.0.0.0:9000 --mode readonly -s --lua x.lua",
                "create",
                json!({"type": "server", "name": "a", "fields":
                    {"port": "0.0.0.0:9000", "mode": "readonly", "autostart": true, "lua": file}}),
            ),
            (
                "edit a --backend b:1,c:2 --backend d:3 --reconnect -1",
                "edit",
                json!({"name": "a", "fields": {"backends": ["b:1", "c:2", "d:3"], "reconnect": -1}}),
            ),
            (
                "logs -f -n 5 --since 2m",
                "logs",
                json!({"follow": true, "tail": 5, "since": 120_000, "format": "table"}),
            ),
            ("repl chat", "console", json!({"target": "chat"})),
            (
                "daemon stop --drain 500ms",
                "daemon",
                json!({"action": "stop", "drain": 500, "log_level": "info"}),
            ),
            ("run x.lua", "run", json!({"file": "x.lua", "log_level": "info"})),
        ] {
            let parsed = parse(line).unwrap();
            assert_eq!(parsed.name, name, "{line}");
            assert_eq!(Value::Object(parsed.arguments), arguments, "{line}");
        }
        assert_eq!(parse("send chat").unwrap().stdin.as_deref(), Some("message"));
        assert!(parse("start -i chat").unwrap().input);
    }

    #[test]
    fn wrong_lines_are_refused_with_a_suggestion() {
        for (line, expected) in [
            ("strat a", "'start'"),
            ("ls --fromat json", "'--format'"),
            ("ls --format xml", "[possible values: table, json, jsonl]"),
            ("create sever a", "'server'"),
            ("create server", "<name>"),
            ("logs --tail x", "invalid value 'x'"),
            ("logs --since soon", "\"soon\" is no time"),
            ("stop", "<name>..."),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
