//! The control VM: the Lua state in which the built-in commands and the nameless console run.
//!
//! Every command is a coroutine. It yields an operation ([`Effect`]), the host answers later ([`ControlVm::on_answer`],
//! [`ControlVm::on_item`], [`ControlVm::on_drained`]); between two yields it may run [`CONTROL_INSTRUCTIONS_MAX`]
//! instructions. Nothing is compiled to machine code here, so a count hook stops any loop.
//! Must not know: clients' connections, the manager, apps' VMs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Thread, Value as LuaValue};
use serde_json::Value;

use crate::error::OperatorError;
use crate::limits::{CONTROL_HEAP_BYTES_MAX, CONTROL_INSTRUCTIONS_MAX, CONTROL_RUN_OUTPUT_BYTES};
use crate::lua::api::json;
use crate::lua::{bundle, trusted};
use crate::proto::control::{self, Output};

/// Names one run of a command; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// What a run asks of its host. Each but the first and last makes the run wait for an answer.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Frames for the caller, ready to send.
    Frames { run: RunId, bytes: Vec<u8> },
    /// Do a verb of the manager; answer with [`ControlVm::on_answer`].
    Call { run: RunId, verb: String, arguments: Value },
    /// Open a stream; answer with [`ControlVm::on_answer`].
    Subscribe { run: RunId, kind: String, filter: Value },
    /// Give the next item by [`ControlVm::on_item`] when there is one.
    Next { run: RunId },
    /// Go on by [`ControlVm::on_drained`] when the caller has read enough.
    Drain { run: RunId },
    /// It is over.
    Ended { run: RunId, exit: u8 },
}

/// What a run that asked for [`Effect::Next`] gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// From its stream.
    Event(Value),
    /// The caller typed it.
    Line(String),
    /// The caller types no more.
    End,
}

/// Where a command was called.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// A person's terminal shows the answer.
    pub tty: bool,
    /// The caller's working directory.
    pub cwd: String,
}

/// Instructions the current entry may still run; shared with the hook.
#[derive(Default)]
struct Meter {
    left: Cell<u64>,
}

/// Instructions between two looks at the meter.
const HOOK_INSTRUCTIONS: u32 = 10_000;

/// The state and its runs.
pub struct ControlVm {
    lua: Lua,
    run: Function,
    tag: Table,
    meter: Rc<Meter>,
    /// Frames that the current entry has put out.
    output: Rc<RefCell<Vec<u8>>>,
    runs: HashMap<RunId, Thread>,
    effects: Vec<Effect>,
}

impl ControlVm {
    /// Makes the state and loads the daemon's own Lua.
    ///
    /// # Errors
    /// When a bundled file doesn't load: a bug, but one that must not take the daemon down.
    pub fn new() -> Result<ControlVm, OperatorError> {
        ControlVm::build()
            .map_err(|error| OperatorError::failed(format!("the control VM doesn't load: {error}")))
    }

    fn build() -> mlua::Result<ControlVm> {
        let lua = trusted::state();
        lua.set_memory_limit(CONTROL_HEAP_BYTES_MAX)?;
        let meter = Rc::new(Meter::default());
        meter.left.set(CONTROL_INSTRUCTIONS_MAX);
        arm(&lua, HOOK_INSTRUCTIONS, &meter)?;
        let output = Rc::new(RefCell::new(Vec::new()));
        let tag = lua.create_table()?;
        let host = host_table(&lua, &tag, &output)?;
        let boot = bundle::find("lua/control.lua").expect("the boot file is bundled");
        let module: Table = lua.load(boot.text).set_name(boot.chunk_name()).call(host)?;
        let run = module.get("run")?;
        Ok(ControlVm { lua, run, tag, meter, output, runs: HashMap::new(), effects: Vec::new() })
    }

    /// A table that lives as long as a caller's connection.
    ///
    /// # Errors
    /// When the state is out of memory.
    pub fn new_session(&self) -> Result<Table, OperatorError> {
        self.lua.create_table().map_err(|error| OperatorError::failed(error.to_string()))
    }

    /// Starts a command.
    pub fn start(
        &mut self,
        run: RunId,
        command: &str,
        arguments: &Value,
        context: &Context,
        session: &Table,
    ) {
        match self.prepare(command, arguments, context, session) {
            Ok((thread, arguments)) => {
                self.runs.insert(run, thread);
                self.enter(run, arguments);
            }
            Err(error) => self.fail(run, &error),
        }
    }

    fn prepare(
        &self,
        command: &str,
        arguments: &Value,
        context: &Context,
        session: &Table,
    ) -> mlua::Result<(Thread, MultiValue)> {
        let place = self.lua.create_table()?;
        place.set("tty", context.tty)?;
        place.set("cwd", context.cwd.as_str())?;
        let values = [
            LuaValue::String(self.lua.create_string(command)?),
            json::to_lua(&self.lua, arguments)?,
            LuaValue::Table(place),
            LuaValue::Table(session.clone()),
        ];
        Ok((self.lua.create_thread(self.run.clone())?, MultiValue::from_iter(values)))
    }

    /// The manager's answer to [`Effect::Call`] or [`Effect::Subscribe`].
    pub fn on_answer(&mut self, run: RunId, outcome: &Result<Value, OperatorError>) {
        let values = match outcome {
            Ok(value) => json::to_lua(&self.lua, value).map(|value| vec![value]),
            Err(error) => self.error_values(error),
        };
        self.resume(run, values);
    }

    fn error_values(&self, error: &OperatorError) -> mlua::Result<Vec<LuaValue>> {
        let table = self.lua.create_table()?;
        table.set("message", error.message.as_str())?;
        table.set("hint", error.hint.as_deref())?;
        table.set("exit_code", error.exit_code)?;
        Ok(vec![LuaValue::Nil, LuaValue::Table(table)])
    }

    /// What [`Effect::Next`] asked for.
    pub fn on_item(&mut self, run: RunId, item: &Item) {
        let (kind, value) = match item {
            Item::Event(value) => ("event", json::to_lua(&self.lua, value)),
            Item::Line(line) => ("line", self.lua.create_string(line).map(LuaValue::String)),
            Item::End => ("end", Ok(LuaValue::Nil)),
        };
        let kind = self.lua.create_string(kind).map(LuaValue::String);
        let values = kind.and_then(|kind| Ok(vec![kind, value?]));
        self.resume(run, values);
    }

    /// The caller has read what [`Effect::Drain`] waited for.
    pub fn on_drained(&mut self, run: RunId) {
        self.resume(run, Ok(Vec::new()));
    }

    /// Forgets a run wherever it waits.
    pub fn cancel(&mut self, run: RunId) {
        self.runs.remove(&run);
    }

    /// What the runs ask for, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn resume(&mut self, run: RunId, values: mlua::Result<Vec<LuaValue>>) {
        if !self.runs.contains_key(&run) {
            return;
        }
        match values {
            Ok(values) => self.enter(run, MultiValue::from_iter(values)),
            Err(error) => self.fail(run, &error),
        }
    }

    fn enter(&mut self, run: RunId, values: MultiValue) {
        let thread = self.runs[&run].clone();
        self.meter.left.set(CONTROL_INSTRUCTIONS_MAX);
        let result = thread.resume::<MultiValue>(values);
        if self.meter.left.get() == 0
            && let Err(error) = arm(&self.lua, HOOK_INSTRUCTIONS, &self.meter)
        {
            return self.fail(run, &error);
        }
        let bytes = std::mem::take(&mut *self.output.borrow_mut());
        if !bytes.is_empty() {
            self.effects.push(Effect::Frames { run, bytes });
        }
        match result {
            Err(error) => self.fail(run, &error),
            Ok(values) if thread.is_finished() => {
                let exit: mlua::Result<u8> = self.lua.unpack_multi(values);
                self.end(run, exit.unwrap_or(1));
            }
            Ok(values) => match self.operation(run, values) {
                Ok(effect) => self.effects.push(effect),
                Err(error) => self.fail(run, &error),
            },
        }
    }

    /// Reads what a run yielded: the tag, the operation's name and its arguments.
    fn operation(&self, run: RunId, values: MultiValue) -> mlua::Result<Effect> {
        type Yielded = (LuaValue, String, Option<String>, LuaValue);
        let (tag, name, subject, value): Yielded = self.lua.unpack_multi(values)?;
        if tag.as_table() != Some(&self.tag) {
            return Err(mlua::Error::runtime("a command yielded outside of a coroutine"));
        }
        let value = json::from_lua(&self.lua, &value).map_err(mlua::Error::runtime)?;
        let subject = subject.unwrap_or_default();
        Ok(match name.as_str() {
            "call" => Effect::Call { run, verb: subject, arguments: value },
            "subscribe" => Effect::Subscribe { run, kind: subject, filter: value },
            "next" => Effect::Next { run },
            "drain" => Effect::Drain { run },
            _ => return Err(mlua::Error::runtime(format!("no such operation: {name}"))),
        })
    }

    fn fail(&mut self, run: RunId, error: &mlua::Error) {
        let error = Output::error(&OperatorError::failed(error_text(error)));
        let mut bytes = Vec::new();
        if control::write(&error, &mut bytes).is_ok() {
            self.effects.push(Effect::Frames { run, bytes });
        }
        self.end(run, 1);
        // After "not enough memory" the next run should find some; an error here changes nothing.
        self.lua.gc_collect().ok();
    }

    fn end(&mut self, run: RunId, exit: u8) {
        self.runs.remove(&run);
        self.effects.push(Effect::Ended { run, exit });
    }
}

/// The message of an error without mlua's wrapping.
pub fn error_text(error: &mlua::Error) -> String {
    match error {
        mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::CallbackError { cause, .. } => error_text(cause),
        mlua::Error::MemoryError(_) => "not enough memory".to_string(),
        other => other.to_string(),
    }
}

/// Looks at the meter every `instructions`. Once it is used up the hook fires at each instruction, so that no `pcall`
/// can go on.
fn arm(lua: &Lua, instructions: u32, meter: &Rc<Meter>) -> mlua::Result<()> {
    let meter = Rc::clone(meter);
    let triggers = HookTriggers::new().every_nth_instruction(instructions);
    lua.set_global_hook(triggers, move |lua, _| {
        let left = meter.left.get().saturating_sub(u64::from(instructions));
        meter.left.set(left);
        if left > 0 {
            return Ok(mlua::VmState::Continue);
        }
        if instructions > 1 {
            arm(lua, 1, &meter)?;
        }
        Err(mlua::Error::runtime("stopped: it ran longer than its time budget without waiting"))
    })
}

/// What `lua/control.lua` gets.
fn host_table(lua: &Lua, tag: &Table, output: &Rc<RefCell<Vec<u8>>>) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.set("tag", tag)?;
    host.set("json", json::module(lua)?)?;
    host.set("null", LuaValue::NULL)?;
    host.set("module", lua.create_function(|_, path: String| Ok(source(bundle::find(&path))))?)?;
    host.set("public", lua.create_function(|_, name: String| Ok(source(bundle::module(&name))))?)?;
    let command =
        |_: &Lua, name: String| Ok(source(bundle::find(&format!("lua/commands/{name}.lua"))));
    host.set("command", lua.create_function(command)?)?;
    let output = Rc::clone(output);
    let emit = move |lua: &Lua, frame: LuaValue| {
        let frame = json::from_lua(lua, &frame).map_err(mlua::Error::runtime)?;
        let frame: Output = serde_json::from_value(frame).map_err(mlua::Error::external)?;
        let mut output = output.borrow_mut();
        control::write(&frame, &mut output).map_err(mlua::Error::external)?;
        Ok(output.len() >= CONTROL_RUN_OUTPUT_BYTES)
    };
    host.set("emit", lua.create_function(emit)?)?;
    Ok(host)
}

fn source(file: Option<&'static bundle::Bundled>) -> (Option<&'static str>, Option<String>) {
    match file {
        Some(file) => (Some(file.text), Some(file.chunk_name())),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests;
