//! The commands that run in the command line's own process.
//!
//! Must not know: frames, how the daemon is built.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::args::Parsed;
use super::render::Format;
use super::{DaemonOrder, Invocation, Problem, args, console, print, renderer, written};
use crate::error::OperatorError;
use crate::log::LogLevel;
use crate::lua::bundle;

/// Runs one.
///
/// # Errors
/// What the command says.
pub fn run(invocation: &Invocation, parsed: Parsed) -> Result<u8, OperatorError> {
    let arguments = &parsed.arguments;
    match parsed.name.as_str() {
        "daemon" if arguments.contains_key("action") => stop(invocation, arguments),
        "daemon" | "run" => invocation.program.daemon(order(invocation, arguments)?),
        "cert" => certificate(invocation, arguments),
        "check" => check(invocation, arguments),
        "console" => console::run(invocation, text(arguments, "target")),
        "init" => init(Path::new(text(arguments, "file").unwrap_or("app.lua"))),
        "test" => super::test::run(invocation, arguments),
        "ping" => invocation.connect()?.ask("ping", Map::new()).map(|_| print("pong\n")),
        "version" => Ok(print(&format!("socketley {}\n", env!("CARGO_PKG_VERSION")))),
        "completion" => completion(invocation, text(arguments, "shell").unwrap_or_default()),
        "man" => manual(invocation, Path::new(text(arguments, "folder").unwrap_or("."))),
        "help" => help(invocation, text(arguments, "command")),
        name => Err(OperatorError::failed(format!("{name} is declared local but isn't"))),
    }
}

fn text<'a>(arguments: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

fn order(
    invocation: &Invocation,
    arguments: &Map<String, Value>,
) -> Result<DaemonOrder, OperatorError> {
    let workers = match arguments.get("workers").and_then(Value::as_i64) {
        None => None,
        Some(count) => {
            Some(u16::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
                OperatorError::usage(format!("--workers: {count} is no number of threads"))
            })?)
        }
    };
    if arguments.contains_key("drain") {
        return Err(OperatorError::usage("--drain belongs to `socketley daemon stop`"));
    }
    let flag = |name: &str| arguments.get(name) == Some(&Value::Bool(true));
    Ok(DaemonOrder {
        workers,
        sqpoll: flag("sqpoll"),
        supervise: flag("supervise"),
        socket: invocation.socket.clone(),
        foreground: text(arguments, "file").map(absolute),
        log_level: match text(arguments, "log_level") {
            Some("debug") => LogLevel::Debug,
            Some("warn") => LogLevel::Warn,
            Some("error") => LogLevel::Error,
            _ => LogLevel::Info,
        },
        colour: invocation.style.colour,
    })
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

fn stop(invocation: &Invocation, arguments: &Map<String, Value>) -> Result<u8, OperatorError> {
    for flag in ["workers", "sqpoll", "supervise"] {
        if arguments.contains_key(flag) {
            return Err(OperatorError::usage(format!("--{flag} is for starting a daemon")));
        }
    }
    let mut client = invocation.connect()?;
    let mut request = Map::new();
    if let Some(drain) = arguments.get("drain") {
        request.insert("drain_ms".to_string(), drain.clone());
    }
    client.ask("shutdown", request)?;
    client.wait_for_end();
    Ok(print("stopped\n"))
}

fn check(invocation: &Invocation, arguments: &Map<String, Value>) -> Result<u8, OperatorError> {
    let format = Format::parse(text(arguments, "format"));
    let mut problems = Vec::new();
    for file in arguments.get("file").and_then(Value::as_array).into_iter().flatten() {
        problems.extend(invocation.program.check(Path::new(file.as_str().unwrap_or_default()))?);
    }
    let exit = u8::from(!problems.is_empty());
    let printed = match format {
        Format::Table if problems.is_empty() => print("ok\n"),
        Format::Table => {
            let mut renderer = renderer(format, invocation.style);
            let print = |problem: &Problem| renderer.operator_error(&as_error(problem));
            written(problems.iter().try_for_each(print)).err().unwrap_or(0)
        }
        Format::Json => {
            let all: Vec<Value> = problems.iter().map(as_json).collect();
            print(&format!("{:#}\n", Value::Array(all)))
        }
        Format::JsonLines => print(
            &problems.iter().map(|problem| format!("{}\n", as_json(problem))).collect::<String>(),
        ),
    };
    Ok(if printed == 0 { exit } else { printed })
}

fn as_error(problem: &Problem) -> OperatorError {
    let place = match problem.line {
        0 => problem.file.display().to_string(),
        line => format!("{}:{line}", problem.file.display()),
    };
    let mut error = OperatorError::failed(format!("{place}: {}", problem.message));
    error.hint.clone_from(&problem.hint);
    error
}

fn as_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file, "line": problem.line, "message": problem.message,
        "hint": problem.hint,
    })
}

fn certificate(
    invocation: &Invocation,
    arguments: &Map<String, Value>,
) -> Result<u8, OperatorError> {
    let given = arguments.get("name").and_then(Value::as_array);
    let given = given.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let mut names: Vec<String> = given.collect();
    if names.is_empty() {
        names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    }
    let days = arguments.get("days").and_then(Value::as_u64).unwrap_or(0);
    let folder = Path::new(text(arguments, "folder").unwrap_or("."));
    invocation.program.certificate(names, folder, days).map(|told| print(&told))
}

fn init(file: &Path) -> Result<u8, OperatorError> {
    let shown = file.display();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => OperatorError::failed(format!("{shown} is there already"))
            .hint("name another file: socketley init FILE"),
        _ => OperatorError::failed(format!("can't write {shown}: {error}")),
    };
    let starter = bundle::find("lua/starter.lua").expect("the starter app is bundled");
    let test = bundle::find("lua/starter_test.lua").expect("the starter's test is bundled");
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let stem = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy();
    let beside = file.with_file_name(format!("{stem}_test.lua"));
    let loaded = format!("t.load {}", serde_json::Value::from(name.as_ref()));
    let create = |path: &Path, text: &str| {
        let mut opened = OpenOptions::new().write(true).create_new(true).open(path)?;
        opened.write_all(text.as_bytes())
    };
    create(file, starter.text).map_err(failed)?;
    let tests = create(&beside, &test.text.replace("t.load \"app.lua\"", &loaded));
    let told = match tests {
        Ok(()) => {
            format!("{shown}\n{}\nnow: socketley test, socketley run {name}\n", beside.display())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            format!("{shown}\n{} was there already\nnow: socketley run {name}\n", beside.display())
        }
        Err(error) => {
            let text = format!("can't write {}: {error}", beside.display());
            return Err(OperatorError::failed(text));
        }
    };
    Ok(print(&told))
}

fn help(invocation: &Invocation, name: Option<&str>) -> Result<u8, OperatorError> {
    let colour =
        if invocation.style.colour { clap::ColorChoice::Auto } else { clap::ColorChoice::Never };
    let mut command = args::command(&invocation.specs).color(colour);
    command.build();
    let described = match name {
        None => Some(&mut command),
        Some(name) => command.find_subcommand_mut(name),
    };
    let Some(described) = described else {
        let words = invocation.specs.iter().map(|spec| spec.name.as_str());
        let mut error =
            OperatorError::usage(format!("no such command: {}", name.unwrap_or_default()));
        error.hint = crate::suggest::did_you_mean(name.unwrap_or_default(), words);
        return Err(error);
    };
    Ok(written(described.print_long_help()).err().unwrap_or(0))
}

/// Writes `socketley.1` and a page for each command, as man(1) finds them in a folder `man1`.
fn manual(invocation: &Invocation, folder: &Path) -> Result<u8, OperatorError> {
    let failed = |error: std::io::Error| {
        OperatorError::failed(format!(
            "can't write manual pages into {}: {error}",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let command = args::command(&invocation.specs).color(clap::ColorChoice::Never);
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(print(&format!("{}\nnow: man {0}/socketley.1\n", folder.display())))
}

/// The commands whose arguments are names of runtimes.
fn with_names<'a>(invocation: &'a Invocation) -> Vec<&'a str> {
    let takes_names = |spec: &&super::CommandSpec| {
        spec.args.iter().any(|arg| arg.complete.is_some()) && !spec.hidden
    };
    invocation.specs.iter().filter(takes_names).map(|spec| spec.name.as_str()).collect()
}

fn completion(invocation: &Invocation, shell: &str) -> Result<u8, OperatorError> {
    let mut command = args::command(&invocation.specs);
    let mut script = Vec::new();
    let commands = with_names(invocation);
    let shell = match shell {
        "bash" => clap_complete::Shell::Bash,
        "zsh" => clap_complete::Shell::Zsh,
        _ => clap_complete::Shell::Fish,
    };
    clap_complete::generate(shell, &mut command, "socketley", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Ok(print(&with_live_names(shell, script, &commands)))
}

/// Adds what the static script can't know: the names of the runtimes that are there.
fn with_live_names(shell: clap_complete::Shell, script: String, commands: &[&str]) -> String {
    match shell {
        clap_complete::Shell::Bash => {
            let commands = commands.join("|");
            format!(
                "{script}
_socketley_live() {{
    _socketley \"$@\"
    local word=\"${{COMP_WORDS[COMP_CWORD]}}\"
    case \"${{COMP_WORDS[1]}}\" in
        {commands})
            [[ $word == -* || $COMP_CWORD -lt 2 ]] && return
            COMPREPLY+=($(compgen -W \"$(socketley ls -q 2>/dev/null)\" -- \"$word\"))
            ;;
    esac
}}
complete -F _socketley_live -o bashdefault -o default socketley
"
            )
        }
        clap_complete::Shell::Fish => {
            let commands = commands.join(" ");
            format!(
                "{script}complete -c socketley -n \"__fish_seen_subcommand_from {commands}\" \
                 -f -a \"(socketley ls -q 2>/dev/null)\"\n"
            )
        }
        _ => {
            // `( )` is what the generator writes for an argument of no known form: a runtime's name.
            let script = script.replace(":( )'", ":_socketley_names'");
            let names =
                "_socketley_names() { compadd -- ${(f)\"$(socketley ls -q 2>/dev/null)\"} }\n";
            script.replacen("\n_socketley()", &format!("\n{names}\n_socketley()"), 1)
        }
    }
}
