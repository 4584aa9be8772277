//! The command line: argv in, exit code out.
//!
//! Words are parsed by a parser built from the commands' specs; most commands run in the daemon and this process shows
//! what they answer. What needs more of the program than `proto` and `lua` comes in through [`Program`].
//! Must not know: the daemon's inside, the ring, runtimes.

pub mod args;
pub mod client;
pub mod console;
pub mod local;
pub mod paint;
pub mod render;
pub mod spec;
mod test;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use serde_json::{Map, Value};

use crate::error::OperatorError;
use crate::limits::CONTROL_FRAME_BYTES_MAX;
use crate::log::LogLevel;
use crate::proto::control::Output;
use args::Parsed;
use client::{Client, Interrupts};
use render::{Format, Renderer, Style};
use spec::{CommandSpec, Place};

/// The exit code of a command that Ctrl-C ended, as a shell gives it.
pub const EXIT_CANCELLED: u8 = 130;
/// The exit code when nobody reads the output any more (`socketley ls | head -1`), as a shell gives it for SIGPIPE.
const EXIT_BROKEN_PIPE: u8 = 141;

/// Where a daemon's things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The control socket.
    pub socket: PathBuf,
    /// The console's history.
    pub history: PathBuf,
}

/// How to run a daemon in this process.
#[derive(Clone, Debug)]
pub struct DaemonOrder {
    /// Worker threads; nothing: one per core.
    pub workers: Option<u16>,
    /// Let a kernel thread poll the rings.
    pub sqpoll: bool,
    /// Restart it when it crashes.
    pub supervise: bool,
    /// The control socket, if not the usual one.
    pub socket: Option<PathBuf>,
    /// Serve this file only, and keep nothing.
    pub foreground: Option<PathBuf>,
    /// What to log.
    pub log_level: LogLevel,
    /// Log lines in colour.
    pub colour: bool,
}

/// Something that is wrong in an app's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As the user named it.
    pub file: PathBuf,
    /// 1-based; 0 if unknown.
    pub line: u32,
    /// What.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// The rest of the program, as the command line needs it.
pub trait Program {
    /// The flags of the runtimes' fields, as the field table exports them.
    fn flag_specs(&self) -> Value;
    /// Where the daemon's things are.
    fn places(&self, socket: Option<&Path>) -> Places;
    /// Runs a daemon to its end.
    ///
    /// # Errors
    /// When it can't start.
    fn daemon(&self, order: DaemonOrder) -> Result<u8, OperatorError>;
    /// Finds what is wrong in a file.
    ///
    /// # Errors
    /// When it can't be read.
    fn check(&self, file: &Path) -> Result<Vec<Problem>, OperatorError>;
    /// Makes a certificate for development in a folder; answers what to tell.
    ///
    /// # Errors
    /// When it can't be made or written.
    fn certificate(
        &self,
        names: Vec<String>,
        folder: &Path,
        days: u64,
    ) -> Result<String, OperatorError>;
    /// Runs the cases of a file of tests whose names contain the filter.
    ///
    /// # Errors
    /// When it can't be read or loaded.
    fn test(&self, file: &Path, filter: Option<&str>) -> Result<Vec<TestCase>, OperatorError>;
    /// Milliseconds since the epoch.
    fn unix_ms(&self) -> u64;
}

/// A case of a file of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// What it is called.
    pub name: String,
    /// Why it failed; nothing if it passed.
    pub failure: Option<String>,
}

/// One call of the program.
pub struct Invocation<'a> {
    program: &'a dyn Program,
    specs: Vec<CommandSpec>,
    /// As given with `--socket`.
    socket: Option<PathBuf>,
    style: Style,
}

/// Runs a command line (without the program's name) and answers the exit code.
pub fn run(arguments: Vec<OsString>, program: &dyn Program) -> u8 {
    let style = style(program);
    let result = Invocation::new(&arguments, program, style)
        .and_then(|mut invocation| invocation.run(&arguments));
    match result {
        Ok(exit) => exit,
        Err(error) => {
            // With nowhere to write to, the exit code still tells.
            renderer(Format::Table, style).operator_error(&error).ok();
            error.exit_code
        }
    }
}

fn style(program: &dyn Program) -> Style {
    let terminal = io::stdout().is_terminal();
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let colour = !refused && (forced || (terminal && !dumb));
    Style { terminal, colour, unix_ms: program.unix_ms() }
}

type Terminal = Renderer<io::Stdout, io::Stderr>;

fn renderer(format: Format, style: Style) -> Terminal {
    Renderer::new(io::stdout(), io::stderr(), format, style)
}

/// A failed write as an exit code: a reader that went away is no error.
fn written(result: io::Result<()>) -> Result<(), u8> {
    result.map_err(
        |error| if error.kind() == io::ErrorKind::BrokenPipe { EXIT_BROKEN_PIPE } else { 1 },
    )
}

impl<'a> Invocation<'a> {
    fn new(
        arguments: &[OsString],
        program: &'a dyn Program,
        style: Style,
    ) -> Result<Invocation<'a>, OperatorError> {
        let specs = spec::built_in(&program.flag_specs())?;
        Ok(Invocation { program, specs, socket: socket_of(arguments), style })
    }

    fn places(&self) -> Places {
        self.program.places(self.socket.as_deref())
    }

    fn connect(&self) -> Result<Client, OperatorError> {
        Client::connect(&self.places().socket, self.style.terminal)
    }

    fn run(&mut self, arguments: &[OsString]) -> Result<u8, OperatorError> {
        // Help shows the apps' commands too.
        if matches!(first_word(arguments).as_deref(), None | Some("help" | "completion")) {
            self.add_app_commands();
        }
        let mut result = self.parse(arguments);
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidSubcommand)
            && self.add_app_commands()
        {
            result = self.parse(arguments);
        }
        let matches = match result {
            Ok(matches) => matches,
            Err(error) => {
                let printed = written(error.print());
                return Ok(printed.err().unwrap_or(error.exit_code().try_into().unwrap_or(2)));
            }
        };
        let Some((name, matches)) = matches.subcommand() else {
            return Err(OperatorError::usage("a command is missing"));
        };
        let spec = self.specs.iter().find(|spec| spec.name == name);
        let spec = spec.ok_or_else(|| OperatorError::usage(format!("no such command: {name}")))?;
        let parsed = args::parsed(spec, matches)?;
        match parsed.place {
            Place::Local => local::run(self, parsed),
            Place::Daemon => self.run_in_daemon(parsed),
        }
    }

    fn parse(&self, arguments: &[OsString]) -> Result<clap::ArgMatches, clap::Error> {
        let program = OsString::from("socketley");
        let colour =
            if self.style.colour { clap::ColorChoice::Auto } else { clap::ColorChoice::Never };
        args::command(&self.specs)
            .color(colour)
            .try_get_matches_from(std::iter::once(&program).chain(arguments))
    }

    /// Learns the commands of the daemon's apps, if it runs; built-in ones win. Answers whether there are any.
    fn add_app_commands(&mut self) -> bool {
        let Ok(mut client) = self.connect() else { return false };
        let Ok(answer) = client.ask("commands", Map::new()) else { return false };
        let before = self.specs.len();
        for mut row in answer.as_array().cloned().unwrap_or_default() {
            // Whose it is doesn't matter here.
            if let Some(row) = row.as_object_mut() {
                row.remove("app");
            }
            // A spec that can't be understood is `check`'s to report; here it only isn't a command.
            let Ok(spec) = CommandSpec::parse(row) else { continue };
            let known =
                |other: &CommandSpec| other.name == spec.name || other.aliases.contains(&spec.name);
            if !self.specs.iter().any(known) {
                self.specs.push(spec);
            }
        }
        self.specs.len() > before
    }

    fn run_in_daemon(&self, mut parsed: Parsed) -> Result<u8, OperatorError> {
        if let Some(name) = parsed.stdin.take() {
            let text = read_stdin(&name)?;
            parsed.arguments.insert(name, Value::Array(vec![Value::from(text)]));
        }
        let format = Format::parse(parsed.arguments.get("format").and_then(Value::as_str));
        let mut client = self.connect()?;
        let interrupts = Interrupts::install()
            .map_err(|error| OperatorError::failed(format!("Ctrl-C can't be caught: {error}")))?;
        interrupts.cancel_with(Some(client.sender()?));
        client.request(&parsed.name, parsed.arguments)?;
        if parsed.input {
            client::forward_lines(client.sender()?)
                .map_err(|error| OperatorError::failed(format!("can't read the input: {error}")))?;
        }
        self.show(&mut client, format)
    }

    /// Shows frames until the command has ended.
    fn show(&self, client: &mut Client, format: Format) -> Result<u8, OperatorError> {
        let mut renderer = renderer(format, self.style);
        loop {
            let frame = match client.next_frame() {
                Ok(frame) => frame,
                Err(error) => {
                    // What has come is shown; the error follows from the caller.
                    renderer.finish().ok();
                    return Err(error);
                }
            };
            if let Output::Exit { exit } = frame {
                let end = written(renderer.finish());
                return Ok(end.err().unwrap_or(exit));
            }
            if let Err(exit) = written(renderer.frame(frame)) {
                return Ok(exit);
            }
        }
    }
}

/// The socket as `--socket` names it, read before the words are understood.
fn socket_of(arguments: &[OsString]) -> Option<PathBuf> {
    for (index, argument) in arguments.iter().enumerate() {
        let text = argument.to_string_lossy();
        if text == "--" {
            return None;
        } else if text == "--socket" {
            return arguments.get(index + 1).map(PathBuf::from);
        } else if let Some(path) = text.strip_prefix("--socket=") {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// The first word that is no flag and no flag's value.
fn first_word(arguments: &[OsString]) -> Option<String> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        if word == "--socket" {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word.into_owned());
        }
    }
    None
}

/// All of the standard input, which must be text and fit a frame.
fn read_stdin(what: &str) -> Result<String, OperatorError> {
    let mut bytes = Vec::new();
    let limit = CONTROL_FRAME_BYTES_MAX as u64 + 1;
    io::stdin().take(limit).read_to_end(&mut bytes).map_err(|error| {
        OperatorError::failed(format!("can't read the standard input: {error}"))
    })?;
    if bytes.len() > CONTROL_FRAME_BYTES_MAX {
        return Err(OperatorError::usage(format!(
            "the {what} on the standard input is longer than {CONTROL_FRAME_BYTES_MAX} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|_| {
        OperatorError::usage(format!("the {what} on the standard input isn't UTF-8 text"))
    })
}

/// Writes text to the standard output.
fn print(text: &str) -> u8 {
    let mut out = io::stdout();
    let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written(result).err().unwrap_or(0)
}

#[cfg(test)]
mod tests;
