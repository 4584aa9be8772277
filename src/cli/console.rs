//! The console: lines edited here, evaluated in the daemon.
//!
//! The daemon says when a line isn't complete and which names could follow; Ctrl-C cancels what runs. Lines may come
//! from a pipe. Must not know: Lua's grammar, where a target's VM is.

use std::cell::RefCell;
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::rc::Rc;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use serde_json::{Map, Value};

use super::client::{Client, Interrupts};
use super::render::Format;
use super::{Invocation, Terminal, renderer, written};
use crate::error::OperatorError;
use crate::lua::bundle;
use crate::proto::control::{Output, Stream};

const HELP: &str = "\
Expressions print what they come to; locals persist; an incomplete line goes on at the next prompt.
  .help [NAME]   this, or what is written about socketley.create and the like
  .exit          leave (or Ctrl-D)
  Tab            complete a name
  Ctrl-C         cancel what runs, or forget the line
Try: socketley.list()   inspect(x)   json.encode(x)";

/// Runs it to its end; the exit code tells whether a piped line failed.
///
/// # Errors
/// When there is no daemon, or it goes away.
pub fn run(invocation: &Invocation, target: Option<&str>) -> Result<u8, OperatorError> {
    let client = invocation.connect()?;
    let interrupts = Interrupts::install()
        .map_err(|error| OperatorError::failed(format!("Ctrl-C can't be caught: {error}")))?;
    let mut console = Console {
        session: Rc::new(Session {
            client: RefCell::new(client),
            target: target.map(str::to_string),
        }),
        interrupts,
        output: renderer(Format::Table, invocation.style),
        degraded: None,
        failed: false,
    };
    // An empty line tells whether the target exists, and its state.
    console.evaluate("")?;
    if console.failed {
        return Ok(1);
    }
    if io::stdin().is_terminal() {
        console.interactive(&invocation.places().history)?;
        return Ok(0);
    }
    console.piped()?;
    Ok(u8::from(console.failed))
}

/// The connection, shared with the line editor's Tab.
struct Session {
    client: RefCell<Client>,
    target: Option<String>,
}

impl Session {
    fn arguments(&self) -> Map<String, Value> {
        let target =
            self.target.iter().map(|target| ("app".to_string(), Value::from(target.as_str())));
        target.collect()
    }

    fn complete(&self, line: &str) -> Vec<String> {
        let mut arguments = self.arguments();
        arguments.insert("line".to_string(), Value::from(line));
        // A Tab that can't be answered completes nothing; the next line will say what is wrong.
        let names = self.client.borrow_mut().ask("complete", arguments).unwrap_or_default();
        let texts = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_string).collect()
    }
}

struct Console {
    session: Rc<Session>,
    interrupts: Interrupts,
    output: Terminal,
    degraded: Option<String>,
    failed: bool,
}

/// What became of a line.
#[derive(PartialEq)]
enum Line {
    Done,
    Incomplete,
}

impl Console {
    /// Evaluates one piece of code and prints what it comes to.
    fn evaluate(&mut self, code: &str) -> Result<Line, OperatorError> {
        let mut arguments = self.session.arguments();
        arguments.insert("code".to_string(), Value::Array(vec![Value::from(code)]));
        arguments.insert("console".to_string(), Value::Bool(true));
        let session = Rc::clone(&self.session);
        let mut client = session.client.borrow_mut();
        self.interrupts.cancel_with(Some(client.sender()?));
        client.request("eval", arguments)?;
        let mut line = Line::Done;
        loop {
            let result = match client.next_frame()? {
                Output::Exit { exit } => {
                    self.interrupts.cancel_with(None);
                    self.failed |= exit != 0;
                    if exit == super::EXIT_CANCELLED {
                        self.note("cancelled")?;
                    }
                    return Ok(line);
                }
                Output::Json { json } => {
                    self.degraded = json["degraded"].as_str().map(str::to_string);
                    if json["incomplete"] == Value::Bool(true) {
                        line = Line::Incomplete;
                    }
                    match json["text"].as_str() {
                        None | Some("") => Ok(()),
                        Some(text) => self.output.value(text),
                    }
                }
                frame => self.output.frame(frame),
            };
            checked(result)?;
        }
    }

    fn note(&mut self, text: &str) -> Result<(), OperatorError> {
        let to = Stream::Err;
        checked(self.output.frame(Output::Text { text: text.to_string(), to }))
    }

    fn print(&mut self, text: &str) -> Result<(), OperatorError> {
        let to = Stream::Out;
        checked(self.output.frame(Output::Text { text: text.to_string(), to }))
    }

    /// Lines from a pipe; an incomplete one waits for the next.
    fn piped(&mut self) -> Result<(), OperatorError> {
        let mut pending = String::new();
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|error| {
                OperatorError::failed(format!("can't read the standard input: {error}"))
            })?;
            if pending.is_empty() && line.trim() == ".exit" {
                return Ok(());
            }
            pending.push_str(&line);
            if self.evaluate(&pending)? == Line::Incomplete {
                pending.push('\n');
            } else {
                pending.clear();
            }
        }
        if !pending.trim().is_empty() {
            return Err(OperatorError::usage(format!(
                "the input ends in the middle of: {}",
                pending.trim()
            )));
        }
        Ok(())
    }

    fn interactive(&mut self, history: &Path) -> Result<(), OperatorError> {
        let failed = |error: ReadlineError| OperatorError::failed(format!("the terminal: {error}"));
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .max_history_size(1000)
            .map_err(failed)?
            .build();
        let mut editor: Editor<Tab, FileHistory> = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Tab { session: Rc::clone(&self.session) }));
        // No history yet, or none that can be read: the console works without.
        editor.load_history(history).ok();
        if let Some(reason) = self.degraded.clone() {
            self.note(&format!("degraded: {reason}"))?;
        }
        let result = self.read_lines(&mut editor);
        if let Some(folder) = history.parent() {
            let saved = std::fs::create_dir_all(folder).map_err(ReadlineError::from);
            if let Err(error) = saved.and_then(|()| editor.save_history(history)) {
                self.note(&format!("the history isn't saved: {}: {error}", history.display()))?;
            }
        }
        result
    }

    fn read_lines(&mut self, editor: &mut Editor<Tab, FileHistory>) -> Result<(), OperatorError> {
        let mut pending = String::new();
        loop {
            let prompt = self.prompt(!pending.is_empty());
            let line = match editor.readline(&prompt) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    pending.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(OperatorError::failed(format!("the terminal: {error}"))),
            };
            if pending.is_empty() && line.trim_start().starts_with('.') {
                if line.trim() == ".exit" {
                    return Ok(());
                }
                self.print(&dot_command(line.trim()))?;
                continue;
            }
            pending.push_str(&line);
            if !pending.trim().is_empty() && self.evaluate(&pending)? == Line::Incomplete {
                pending.push('\n');
                continue;
            }
            // A history that is full or refuses a line is no reason to stop.
            editor.add_history_entry(pending.trim_end()).ok();
            pending.clear();
        }
    }

    fn prompt(&self, goes_on: bool) -> String {
        let name = self.session.target.as_deref().unwrap_or("socketley");
        match (&self.degraded, goes_on) {
            (_, true) => format!("{:width$}> ", "", width = name.len()),
            (Some(_), _) => format!("{name} (degraded)> "),
            (None, _) => format!("{name}> "),
        }
    }
}

fn checked(result: io::Result<()>) -> Result<(), OperatorError> {
    written(result).map_err(|exit| {
        let mut error = OperatorError::failed("nobody reads the output any more");
        error.exit_code = exit;
        error
    })
}

/// `.help` and what else begins with a dot.
fn dot_command(line: &str) -> String {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (word, rest.trim()) {
        (".help", "") => HELP.to_string(),
        (".help", name) => {
            written_about(name).unwrap_or_else(|| format!("nothing is written about {name}"))
        }
        _ => format!("no such console command: {word} (.help lists them)"),
    }
}

/// The comment above a public module or one of its functions: `inspect`, `socketley.create`.
fn written_about(name: &str) -> Option<String> {
    let (module, function) = match name.rsplit_once('.') {
        Some((module, function)) => (module, Some(function)),
        None => (name, None),
    };
    let find = |module: &str| {
        bundle::module(module).or_else(|| bundle::module(&format!("socketley.{module}")))
    };
    let (file, function) = match find(name) {
        Some(file) => (file, None),
        None => (find(module)?, function),
    };
    let lines: Vec<&str> = file.text.lines().collect();
    let is_comment = |line: &&&str| line.starts_with("---");
    let comment: Vec<&str> = match function {
        None => lines.iter().take_while(is_comment).copied().collect(),
        Some(function) => {
            let starts = [format!("function M.{function}("), format!("M.{function} = ")];
            let at =
                lines.iter().position(|line| starts.iter().any(|start| line.starts_with(start)))?;
            let above = lines[..at].iter().rev().take_while(is_comment).count();
            lines[at - above..=at].to_vec()
        }
    };
    let text = |line: &&str| line.trim_start_matches('-').trim_start_matches(' ').to_string();
    Some(comment.iter().map(text).collect::<Vec<_>>().join("\n"))
}

/// What Tab knows.
struct Tab {
    session: Rc<Session>,
}

impl Completer for Tab {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let head = &line[..position];
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':');
        let start = head.trim_end_matches(is_word).len();
        Ok((start, self.session.complete(head)))
    }
}

impl Hinter for Tab {
    type Hint = String;
}
impl Highlighter for Tab {}
impl Validator for Tab {}
impl Helper for Tab {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_tells_what_is_written_about_a_name() {
        for (line, expected) in [
            (".help", "Tab            complete a name"),
            (".help socketley.send", "Sends a message to a runtime's connections"),
            (".help socketley.stop", "Stops a runtime; its connections have a moment to end."),
            (".help inspect", "keys sorted, cycles named"),
            (".help socketley.inspect", "keys sorted, cycles named"),
            (".help nope.nope", "nothing is written about nope.nope"),
            (".what", "no such console command: .what"),
        ] {
            let text = dot_command(line);
            assert!(text.contains(expected), "{line}: {text}");
        }
    }
}
