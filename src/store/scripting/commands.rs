//! Commands written in Lua: what a cache's definition says of them, and how they are found.
//!
//! Two hidden rows of the command table stand for all of them, one for those that write and one for those that only read:
//! so transactions, checks of rights and counters treat them like any other command.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::commands::{CommandId, table};
use super::super::{Args, CommandError, Store};
use super::{Counter, Engine, Handle};
use crate::limits::LUA_COMMAND_NAME_BYTES_MAX;

/// The hidden rows' names; the blank keeps clients from calling them.
pub const WRITING: &str = "lua command";
/// As above, of those that only read.
pub const READING: &str = "lua reader";

/// One command of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandSpec {
    /// As the definition has it.
    pub name: String,
    /// How many of the first arguments are keys.
    pub keys: u16,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i16,
    /// Changes nothing.
    pub read_only: bool,
    /// Constant or logarithmic time, as it says itself.
    pub fast: bool,
    /// One line for people.
    pub summary: String,
}

impl CommandSpec {
    /// The name of the hidden row that stands for it.
    pub fn row(&self) -> &'static str {
        if self.read_only { READING } else { WRITING }
    }

    /// Whether it may be called with that many arguments, the name included.
    pub fn takes(&self, count: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity > 0 { count == least } else { count >= least }
    }
}

/// The file that commands come from, with the modules it has loaded; the main one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFile {
    /// The app's version.
    pub generation: u32,
    /// The cache's name in the file.
    pub cache: String,
    /// Paths and texts.
    pub files: Vec<(String, String)>,
}

/// One command that can be called.
#[derive(Clone, Debug)]
pub struct LuaCommand {
    /// What the definition says.
    pub spec: CommandSpec,
    /// Its name, and the same in lower case.
    pub names: (Arc<str>, Arc<str>),
    /// The hidden row that stands for it.
    pub row: CommandId,
    /// To run it.
    pub handle: Handle,
    /// Its runs.
    pub counter: Counter,
}

/// All commands of a store that are written in Lua.
#[derive(Debug, Default)]
pub struct LuaCommands {
    /// By name in lower case.
    by_name: BTreeMap<Vec<u8>, LuaCommand>,
    /// The app's version that they are of; 0: none was ever installed.
    generation: u32,
}

impl LuaCommands {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The command called `name`, in any case.
    pub fn find(&self, name: &[u8]) -> Option<&LuaCommand> {
        let mut lower = [0; LUA_COMMAND_NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower)
    }

    /// All in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &LuaCommand> {
        self.by_name.values()
    }

    /// The row that stands for the command `args`, if there is such a command.
    ///
    /// # Errors
    /// There is, and it doesn't take so many arguments.
    pub(in crate::store) fn resolve(
        &self,
        args: Args<'_>,
    ) -> Result<Option<CommandId>, CommandError> {
        let Some(command) = args.get(0).and_then(|name| self.find(name)) else { return Ok(None) };
        if !command.spec.takes(args.len()) {
            let name = command.spec.name.to_lowercase();
            let text = format!("ERR wrong number of arguments for '{name}' command");
            return Err(CommandError::Owned(text.into_bytes()));
        }
        Ok(Some(command.row))
    }

    pub(super) fn counter(&mut self, name: &[u8]) -> Option<&mut Counter> {
        self.by_name.get_mut(name).map(|command| &mut command.counter)
    }

    fn replace(&mut self, engine: &mut dyn Engine, fresh: Vec<LuaCommand>) {
        let mut old = std::mem::take(&mut self.by_name);
        for mut command in fresh {
            let key = command.spec.name.to_ascii_lowercase().into_bytes();
            if let Some(before) = old.get(&key) {
                command.counter = before.counter;
            }
            self.by_name.insert(key, command);
        }
        old.values_mut().for_each(|command| engine.release(command.handle));
    }
}

impl Store {
    /// Makes the commands of a definition those of this store, all or none; none of `specs` takes all away.
    ///
    /// # Errors
    /// The file doesn't work here, or a command has a name that is taken; the ones before stay.
    pub fn install_commands(
        &mut self,
        file: &CommandFile,
        specs: &[CommandSpec],
    ) -> Result<(), String> {
        let scripting = &mut self.instance.scripting;
        if specs.is_empty() && scripting.commands.is_empty()
            || scripting.commands.generation == file.generation
        {
            return Ok(());
        }
        if let Some(spec) = specs.iter().find(|spec| table().lookup(spec.name.as_bytes()).is_some())
        {
            return Err(format!("commands: \"{}\" is a command already", spec.name));
        }
        let mut engine =
            scripting.take_engine().map_err(|line| String::from_utf8_lossy(&line).into_owned())?;
        let loaded = if specs.is_empty() { Ok(Vec::new()) } else { engine.load_commands(file) };
        let installed = loaded.and_then(|loaded| {
            let mut fresh = Vec::new();
            for spec in specs {
                let found = loaded.iter().find(|(name, _)| *name == spec.name);
                let (_, handle) = found.ok_or_else(|| {
                    format!(
                        "commands: \"{}\" isn't defined when the file is read for its commands",
                        spec.name
                    )
                })?;
                let counter = Counter::default();
                let names = (Arc::from(&*spec.name), Arc::from(spec.name.to_ascii_lowercase()));
                let row = table().lookup(spec.row().as_bytes()).expect("a row of this table");
                let (spec, handle) = (spec.clone(), *handle);
                fresh.push(LuaCommand { spec, names, row, handle, counter });
            }
            Ok(fresh)
        });
        let result = installed.map(|fresh| {
            scripting.commands.replace(&mut *engine, fresh);
            scripting.commands.generation = file.generation;
        });
        scripting.give_back(engine);
        result
    }
}
