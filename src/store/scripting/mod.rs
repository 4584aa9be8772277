//! Scripts, functions and commands written in Lua, as far as a store knows them: names, flags, counters and what runs.
//!
//! Compiling and running them is an [`Engine`]'s, which whoever makes the store puts in. One script runs at a time, by
//! whoever holds the store's lock. A script that takes long is *suspended*: the lock is given back, the store executes
//! nothing but the few commands that Redis allows beside a busy script, and its worker resumes it slice by slice.

pub mod commands;
pub mod functions;
pub mod payload;
pub mod scripts;
mod shebang;
mod suspended;
pub mod world;

use std::fmt;
use std::sync::Arc;

use super::commands::Command;
use super::{Args, Reply, Session, Settings};
use crate::limits::{SCRIPT_LOGS_MAX, STORE_VM_MEMORY_BYTES};
use crate::log::LogLevel;
use commands::{CommandFile, LuaCommands};
use functions::Functions;
use scripts::Scripts;
pub use shebang::ScriptFlags;
pub(super) use suspended::busy;
pub use world::World;

/// A compiled script, function or command of an [`Engine`].
pub type Handle = u32;

/// Makes a store's engine when its first script comes.
pub type MakeEngine = fn(EngineSettings) -> Result<Box<dyn Engine>, String>;

/// What an engine is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Seeds the scripts' chance.
    pub seed: u64,
    /// Its heap.
    pub memory_bytes: usize,
}

/// What runs scripts. Entered only by whoever holds the store's lock, which moves between threads.
pub trait Engine: Send {
    /// Compiles a script's text; or the compiler's message.
    ///
    /// # Errors
    /// The compiler's message.
    fn compile(&mut self, text: &[u8]) -> Result<Handle, Vec<u8>>;
    /// Evaluates a library of functions; nothing stays of one that fails.
    ///
    /// # Errors
    /// What went wrong, as FUNCTION LOAD answers it.
    fn load_library(&mut self, text: &[u8]) -> Result<Vec<Registered>, Vec<u8>>;
    /// Evaluates an app's file for the commands of one of its caches: their names and handles.
    ///
    /// # Errors
    /// What went wrong, for the person who wrote the file.
    fn load_commands(&mut self, file: &CommandFile) -> Result<Vec<(String, Handle)>, String>;
    /// Forgets something compiled.
    fn release(&mut self, handle: Handle);
    /// Begins a run. The reply is written when the step is [`Step::Done`].
    fn start(&mut self, world: &mut World<'_>, start: &Start<'_>, reply: &mut Reply<'_>) -> Step;
    /// Goes on with the suspended one.
    fn resume(&mut self, world: &mut World<'_>, reply: &mut Reply<'_>) -> Step;
    /// Its heap in use.
    fn memory_bytes(&self) -> usize;
}

/// A function that a library registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: Vec<u8>,
    /// What it does, for FUNCTION LIST.
    pub description: Option<Vec<u8>>,
    /// Its flags' names.
    pub flags: Vec<Vec<u8>>,
    /// To run it.
    pub handle: Handle,
}

/// What to run.
pub struct Start<'a> {
    /// The compiled function.
    pub handle: Handle,
    /// How it gets its keys and arguments.
    pub kind: RunKind,
    /// KEYS.
    pub keys: Args<'a>,
    /// ARGV.
    pub arguments: Args<'a>,
    /// It may be interrupted and gone on with later; else it ends with an error when it takes too long.
    pub may_suspend: bool,
    /// Time after which it is ended if it can't be suspended, in milliseconds.
    pub budget_ms: u32,
}

/// How far a run got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has ended, and the reply is written.
    Done,
    /// It has failed with this error line.
    Failed(Vec<u8>),
    /// It wants to go on later.
    Suspended,
}

/// What kind of thing runs; messages and arguments differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunKind {
    /// EVAL and EVALSHA.
    #[default]
    Script,
    /// FCALL.
    Function,
    /// A command of the cache's definition.
    Command,
}

/// A run from its start to its end.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its kind.
    pub kind: RunKind,
    /// The script's SHA1, or the function's or command's name.
    pub name: Arc<str>,
    /// May not write.
    pub read_only: bool,
    /// There was no memory when it began: until it has written it may call nothing that needs some.
    pub lacks_memory: bool,
    /// Has called a command that writes.
    pub wrote: bool,
    /// SCRIPT KILL or FUNCTION KILL came.
    pub killed: bool,
    /// The error of the last command that failed; it has been counted.
    pub failure: Vec<u8>,
    /// When it began, in milliseconds since the epoch. Its time stands still there.
    pub started_ms: u64,
    /// What its commands run as.
    pub session: Session,
    /// Its caller speaks RESP3.
    pub resp3: bool,
    /// The caller's command line, for FUNCTION STATS.
    pub command: Vec<Vec<u8>>,
}

/// Runs and time of one script, function or command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Times it ran.
    pub calls: u64,
    /// Times it failed.
    pub failed: u64,
    /// Time in all; of short runs only some are measured, for the others too. 0 if nobody gave the store a clock.
    pub nanoseconds: u64,
    /// The longest run that was measured.
    pub longest_ns: u64,
    /// Runs since the last one that was measured.
    unmeasured: u32,
    /// The last one that was measured took long: the next one is measured.
    is_long: bool,
}

/// Of a script's short runs every so many is measured: reading the clock twice costs a quarter of what they do.
const MEASURED_EVERY: u32 = 16;
/// The first runs are all measured.
const MEASURED_FIRST: u64 = 16;
/// A run that takes longer isn't short.
const LONG_NS: u64 = 50_000;

impl Counter {
    /// Whether the next run is to be measured.
    pub fn measures(&self) -> bool {
        self.is_long || self.calls < MEASURED_FIRST || self.unmeasured + 1 >= MEASURED_EVERY
    }

    /// Notes a run, and how long it took if that was measured.
    pub fn count(&mut self, nanoseconds: Option<u64>, failed: bool) {
        self.calls += 1;
        self.failed += u64::from(failed);
        let Some(nanoseconds) = nanoseconds else {
            self.unmeasured += 1;
            return;
        };
        // A long one stands for itself only: those before it weren't.
        let runs = if nanoseconds >= LONG_NS { 1 } else { 1 + u64::from(self.unmeasured) };
        self.nanoseconds += nanoseconds * runs;
        self.longest_ns = self.longest_ns.max(nanoseconds);
        (self.unmeasured, self.is_long) = (0, nanoseconds >= LONG_NS);
    }
}

/// What a counter belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A script, by its place.
    Script(u32),
    /// A function, by its name in lower case.
    Function(Arc<str>),
    /// A command, by its name.
    Command(Arc<str>),
}

/// A suspended run.
#[derive(Debug)]
pub struct Suspended {
    /// The run.
    pub run: Run,
    /// Where its time counts.
    pub counted: Counted,
    /// Its time so far.
    pub nanoseconds: u64,
    /// The wait that its end answers.
    pub wait: u64,
    /// The caller's connection; its worker resumes the run.
    pub connection: u64,
}

/// All of a store's scripting.
#[derive(Default)]
pub struct Scripting {
    /// How to make the engine; nothing if this store runs no scripts.
    pub make: Option<MakeEngine>,
    /// Its seed.
    pub seed: u64,
    /// Reads a clock in nanoseconds, for the counters.
    pub clock: Option<fn() -> u64>,
    /// Made for the first script; away while it runs.
    pub engine: Option<Box<dyn Engine>>,
    /// EVAL's cache.
    pub scripts: Scripts,
    /// FUNCTION's libraries.
    pub functions: Functions,
    /// The definition's commands.
    pub commands: LuaCommands,
    /// The script that has taken long and isn't at its end; while there is one, hardly any command is executed.
    pub suspended: Option<Box<Suspended>>,
    /// The last run has read keys.
    pub read: bool,
    /// Scripts may call what they otherwise may not (DEBUG SET-DISABLE-DENY-SCRIPTS).
    pub denies_nothing: bool,
    /// What scripts wrote to the log.
    pub logs: Vec<(LogLevel, String)>,
}

impl Scripting {
    /// Nothing loaded.
    pub fn new(settings: &Settings) -> Scripting {
        let (make, seed, clock) = (settings.scripting, settings.seed, settings.clock);
        Scripting { make, seed, clock, ..Scripting::default() }
    }

    /// Keeps a script's log line until somebody takes it; what is too much is dropped.
    pub fn log(&mut self, level: LogLevel, text: String) {
        if self.logs.len() < SCRIPT_LOGS_MAX {
            self.logs.push((level, text));
        }
    }

    /// Whether a command runs something that says of itself that it doesn't write.
    pub fn only_reads(&self, row: &Command, args: Args<'_>) -> bool {
        let Some(what) = args.get(1) else { return false };
        let flags = match row.name {
            "eval" => shebang::script(what).map(|(flags, _)| flags).ok(),
            "evalsha" => self.scripts.flags_of(what),
            "fcall" => self.functions.find(what).map(|function| function.flags),
            _ => None,
        };
        flags.is_some_and(|flags| flags.has(ScriptFlags::NO_WRITES))
    }

    /// The engine, made if need be; give it back with [`Scripting::give_back`].
    ///
    /// # Errors
    /// There is none, with the reason.
    pub fn take_engine(&mut self) -> Result<Box<dyn Engine>, Vec<u8>> {
        if let Some(engine) = self.engine.take() {
            return Ok(engine);
        }
        let Some(make) = self.make else {
            return Err(b"ERR this cache runs no scripts".to_vec());
        };
        let settings = EngineSettings { seed: self.seed, memory_bytes: STORE_VM_MEMORY_BYTES };
        make(settings).map_err(|problem| format!("ERR no Lua state: {problem}").into_bytes())
    }

    /// After [`Scripting::take_engine`].
    pub fn give_back(&mut self, engine: Box<dyn Engine>) {
        self.engine = Some(engine);
    }

    /// The clock; 0 without one.
    pub fn now_ns(&self) -> u64 {
        self.clock.map_or(0, |clock| clock())
    }

    /// Counts a run that has ended.
    pub fn count(&mut self, counted: &Counted, nanoseconds: Option<u64>, failed: bool) {
        let counter = match counted {
            Counted::Script(index) => self.scripts.counter(*index),
            Counted::Function(name) => self.functions.counter(name.as_bytes()),
            Counted::Command(name) => self.commands.counter(name.as_bytes()),
        };
        if let Some(counter) = counter {
            counter.count(nanoseconds, failed);
        }
    }

    /// Bytes of the engine's heap.
    pub fn memory_bytes(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.memory_bytes())
    }
}

impl fmt::Debug for Scripting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripting").field("suspended", &self.suspended).finish_non_exhaustive()
    }
}
