//! The store VM: one Lua state per store for EVAL, FUNCTION and the commands of a cache's definition.
//!
//! It moves between threads with the store's lock and is entered by nobody else. Each script has a copy of a small
//! function of its own that calls it, so that one that can't be compiled spoils no other; scripts run in a coroutine,
//! which the hook may pause. Must not know: connections, workers, how scripts are cached.
#![allow(
    unsafe_code,
    reason = "raw calls into Lua; the state moves between threads with the store's lock"
)]

mod cjson;
mod cjson_settings;
mod interrupt;
mod machine;
mod msgpack;
mod pack;
mod reply;
mod stack;
#[cfg(test)]
mod tests;

use std::ffi::c_int;

use mlua::{Function, LightUserData, Lua, LuaOptions, StdLib, Table};
use mlua_sys as lua;

use super::bundle;
use super::watchdog::{self, Entry, raw_state};
use crate::limits::{FUNCTION_LOAD_MS, LUA_COMMAND_ARGUMENTS_MAX, SCRIPT_SLICE_MS};
use crate::log::LogLevel;
use crate::store::scripting::commands::CommandFile;
use crate::store::scripting::scripts::{hex, sha1};
use crate::store::scripting::{
    Engine, EngineSettings, Handle, Registered, RunKind, Start, Step, World,
};
use crate::store::{Args, Reply};
use interrupt::{arm, disarm, on_interrupt, set_running};
use machine::{Interrupt, Kill, Machine};
use reply::{Names, Style};
use stack::Stack;

/// The trusted chunks after `boot`, in order.
const CHUNKS: [&str; 5] = ["redis", "sandbox", "run", "libraries", "commands"];

/// The bundled modules that commands may require: those that reach nothing outside.
const PURE_MODULES: [&str; 1] = ["socketley.inspect"];

/// How often a suspended run that can't pause where it is may use up its slice.
const STUCK_SLICE_MS: u32 = 5;

/// One store's Lua state.
pub struct StoreVm {
    // The order matters: the state is closed before what its functions point to.
    functions: Functions,
    lua: Lua,
    /// The coroutine that scripts run in.
    thread: Coroutine,
    main: Stack,
    /// [`push_job`], made once: a protected call of a bare C function makes a new one each time.
    pusher: c_int,
    names: Names,
    machine: Shared,
}

/// The machine, which Lua's functions point to: freed after the state.
struct Shared(*mut Machine);

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`; the state that pointed to it is closed.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The trusted functions that Rust calls.
struct Functions {
    compile: Function,
    load_library: Function,
    load_commands: Function,
}

/// A coroutine, anchored in the registry.
#[derive(Clone, Copy)]
struct Coroutine {
    stack: Stack,
    reference: c_int,
}

// SAFETY: a Lua state may move between threads while it is at rest; all of what it shares by reference count or pointer
// is inside this value, which one thread at a time has (the holder of the store's lock).
unsafe impl Send for StoreVm {}

/// Makes a store's engine.
///
/// # Errors
/// When there is no memory for a Lua state.
pub fn make(settings: EngineSettings) -> Result<Box<dyn Engine>, String> {
    Ok(Box::new(StoreVm::new(settings).map_err(|error| error.to_string())?))
}

impl StoreVm {
    /// A fresh state.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(settings: EngineSettings) -> mlua::Result<StoreVm> {
        let machine = Shared(Box::into_raw(Box::new(Machine::at_rest())));
        // SAFETY: the libraries that break memory safety are out of every script's reach (`lua/store/sandbox.lua`).
        let lua = unsafe { Lua::unsafe_new_with(StdLib::ALL, LuaOptions::new()) };
        let (functions, names) = StoreVm::fill(&lua, machine.0, settings)?;
        // SAFETY: the state lives as long as `lua`, which the value owns.
        let main = unsafe { Stack::new(raw_state(&lua)) };
        let thread = new_coroutine(&lua)?;
        let mut pusher = 0;
        let note = |state| {
            // SAFETY: a valid state in a protected call.
            let stack = unsafe { Stack::new(state) };
            stack.push_function(push_job, std::ptr::null_mut());
            pusher = stack.reference();
        };
        // SAFETY: the closure leaves the stack as it was.
        unsafe { lua.exec_raw::<()>((), note) }?;
        lua.set_memory_limit(settings.memory_bytes)?;
        Ok(StoreVm { functions, lua, thread, main, pusher, names, machine })
    }

    fn fill(
        lua: &Lua,
        machine: *mut Machine,
        settings: EngineSettings,
    ) -> mlua::Result<(Functions, Names)> {
        let sk = lua.create_table()?;
        let pointers = lua.create_table()?;
        pointers.raw_set("machine", LightUserData(machine.cast()))?;
        pointers.raw_set("answer", LightUserData(machine::answer_of(machine)))?;
        for (name, address) in machine::addresses() {
            pointers.raw_set(name, LightUserData(address.cast_mut().cast()))?;
        }
        sk.raw_set("pointers", pointers)?;
        sk.raw_set("native", natives(lua, machine)?)?;
        sk.raw_set("version", crate::store::instance::REDIS_VERSION)?;
        sk.raw_set("main_text", text("main"))?;
        sk.raw_set("null", LightUserData(std::ptr::null_mut()))?;
        for (name, functions) in [
            ("cjson", &[cjson::FUNCTIONS, cjson_settings::FUNCTIONS][..]),
            ("cmsgpack", &[msgpack::FUNCTIONS]),
            ("struct", &[pack::FUNCTIONS]),
        ] {
            sk.raw_set(name, library(lua, functions, machine)?)?;
        }
        let globals = lua.globals();
        lua.load(text("boot")).set_name("=[sk boot]").call::<()>(&sk)?;
        let own: Table = sk.raw_get("env")?;
        for name in CHUNKS {
            let chunk = lua.load(text(name)).set_name(format!("=[sk {name}]"));
            chunk.set_environment(own.clone()).call::<()>((&sk, &globals))?;
        }
        let randomseed: Function = own.raw_get::<Table>("math")?.raw_get("randomseed")?;
        randomseed.call::<()>((settings.seed >> 11) as f64)?;
        let mut names = None;
        let note = |state| {
            // SAFETY: mlua's protected call passes a valid state.
            names = Some(Names::new(unsafe { Stack::new(state) }));
        };
        // SAFETY: the closure leaves the stack as it was.
        unsafe { lua.exec_raw::<()>((), note) }?;
        let functions = Functions {
            compile: sk.raw_get("compile")?,
            load_library: sk.raw_get("load_library")?,
            load_commands: sk.raw_get("load_commands")?,
        };
        Ok((functions, names.expect("the protected call has run")))
    }

    fn machine(&mut self) -> &mut Machine {
        // SAFETY: the machine lives as long as this value; Lua isn't running, so nothing else uses it.
        unsafe { &mut *self.machine.0 }
    }

    /// Enters Lua on this thread: from here on the hook finds the machine.
    fn enter(&mut self, budget_ms: u32) -> Option<Entry<'static>> {
        set_running(self.machine.0);
        let slot = watchdog::current()?;
        let entry = slot.enter_with(self.main.state(), budget_ms, on_interrupt);
        entry.begin();
        Some(entry)
    }

    fn leave(&mut self, entry: Option<Entry<'static>>) {
        drop(entry);
        disarm(self.main);
        set_running(std::ptr::null_mut());
        let machine = self.machine();
        (machine.killing, machine.suspending) = (0, 0);
    }

    /// Resumes the coroutine, in which a function and `arguments` are, or a paused run.
    fn resume_thread(&mut self, world: &mut World<'_>, arguments: c_int, budget_ms: u32) -> c_int {
        self.machine().world = std::ptr::from_mut(world).cast();
        let killed = self.machine().interrupt.kill.is_some();
        let entry = self.enter(budget_ms);
        if killed {
            arm(self.main);
        }
        // SAFETY: a coroutine of this VM at rest, with a function and its arguments, or paused by the hook.
        let status = unsafe { lua::lua_resume_(self.thread.stack.state(), arguments) };
        self.leave(entry);
        self.machine().world = std::ptr::null_mut();
        status
    }

    /// What the coroutine's state after a resume means.
    fn step(&mut self, world: &mut World<'_>, status: c_int, reply: &mut Reply<'_>) -> Step {
        let stack = self.thread.stack;
        if status == lua::LUA_YIELD {
            return Step::Suspended;
        }
        let resp3 = self.machine().resp3;
        if status == lua::LUA_OK && stack.top() >= 1 && stack.boolean(1) {
            stack.set_top(2);
            // A reply is in the protocol of its reader, booleans in that of the script.
            let mut errors = reply::Errors::new();
            reply::write(stack, (&self.names, &mut errors), reply, resp3, 0);
            errors.iter().for_each(|line| world.instance.statistics.count_error(line));
            stack.set_top(0);
            return Step::Done;
        }
        let mut text = stack.bytes(-1).unwrap_or(b"execution failure").to_vec();
        if memchr::memchr(0, &text).is_none() {
            // Not through the handler: in practice it ran out of memory.
            text.splice(..0, *b"ERR ");
            self.collect();
        }
        if status == lua::LUA_OK {
            stack.set_top(0);
        } else {
            self.replace_thread();
        }
        self.fail(world, &text)
    }

    /// A definition's command answers without the place, which is for its author: it goes to the log.
    fn fail(&mut self, world: &mut World<'_>, text: &[u8]) -> Step {
        if world.run.kind != RunKind::Command {
            return Step::Failed(error_line(text, &world.run.name));
        }
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        let place = text.get(end + 2..).unwrap_or_default();
        let (said, place) = (String::from_utf8_lossy(&text[..end]), String::from_utf8_lossy(place));
        let line = format!("command {}: {said} ({place})", world.run.name);
        world.instance.scripting.log(LogLevel::Error, line);
        Step::Failed(error_line(&text[..end], ""))
    }

    /// A coroutine that an error has left can't be used again; in practice it ran out of memory.
    fn replace_thread(&mut self) {
        self.collect();
        self.main.unreference(self.thread.reference);
        // Without memory for an empty coroutine nothing can go on.
        self.thread = new_coroutine(&self.lua).expect("memory was collected a moment ago");
    }

    fn collect(&self) {
        // LuaJIT has no emergency collection. Finalizers run in the first, what they referred to goes in the second.
        drop(self.lua.gc_collect().and_then(|()| self.lua.gc_collect()));
    }

    /// Pushes the function with its arguments into the coroutine; how many arguments.
    fn prepare(&mut self, start: &Start<'_>) -> Result<c_int, ()> {
        let job = Job { start, thread: self.thread.stack, pushed: 0 };
        let mut job = job;
        self.main.push_reference(self.pusher);
        self.main.push_light(std::ptr::from_mut(&mut job).cast());
        // SAFETY: the function gets the job, which outlives the call, as its only argument, and answers nothing.
        let status = unsafe { lua::lua_pcall(self.main.state(), 1, 0, 0) };
        if status == lua::LUA_OK {
            return Ok(job.pushed);
        }
        self.main.set_top(0);
        self.replace_thread();
        Err(())
    }
}

/// What [`push_job`] pushes.
struct Job<'a> {
    start: &'a Start<'a>,
    thread: Stack,
    pushed: c_int,
}

/// In protected mode: the script's own main function, KEYS and ARGV, moved into the coroutine.
unsafe extern "C-unwind" fn push_job(state: *mut lua::lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: `prepare` passed a job that outlives the call.
    let job = unsafe { &mut *stack.pointer(1).cast::<Job<'_>>() };
    let Start { handle, kind, keys, arguments, .. } = job.start;
    job.pushed = match kind {
        RunKind::Command => arguments.len() as c_int,
        _ => 2,
    };
    let room = job.pushed + SPARE_SLOTS;
    if !stack.reserve(room) || !job.thread.reserve(room) {
        stack.push_bytes(b"too many arguments for a command in Lua, or not enough memory");
        stack.raise();
    }
    stack.push_reference(*handle as c_int);
    match kind {
        RunKind::Command => {
            // Of its main functions the one for so many arguments, in place of their table.
            stack.raw_get_index(-1, (job.pushed + 1).min(COMMAND_MAINS));
            stack.insert(-2);
            stack.pop(1);
            arguments.iter().for_each(|argument| stack.push_bytes(argument));
        }
        _ => {
            push_all(stack, *keys);
            push_all(stack, *arguments);
        }
    }
    // SAFETY: both states are of one VM, so many values are there, and there is room for them.
    unsafe { lua::lua_xmove(state, job.thread.state(), job.pushed + 1) };
    0
}

/// How many main functions a command has, by its number of arguments (`lua/store/main.lua`).
const COMMAND_MAINS: c_int = 6;

/// Places on a stack besides the arguments.
const SPARE_SLOTS: c_int = 8;

fn push_all(stack: Stack, values: Args<'_>) {
    stack.create_table(values.len(), 0);
    for (index, value) in values.iter().enumerate() {
        stack.push_bytes(value);
        stack.raw_set_index(-2, index as c_int + 1);
    }
}

/// A script's error as Redis words it: the handler put the place behind a zero byte.
fn error_line(text: &[u8], name: &str) -> Vec<u8> {
    match memchr::memchr(0, text) {
        Some(end) => {
            [&text[..end], b" script: ", name.as_bytes(), b", on ", &text[end + 1..], b"."].concat()
        }
        None => text.to_vec(),
    }
}

fn new_coroutine(lua: &Lua) -> mlua::Result<Coroutine> {
    let mut made = None;
    let make = |state| {
        // SAFETY: a valid state in a protected call.
        let thread = unsafe { lua::lua_newthread(state) };
        // SAFETY: as above.
        let stack = unsafe { Stack::new(state) };
        // SAFETY: the thread lives while it is referenced.
        let thread = unsafe { Stack::new(thread) };
        made = Some(Coroutine { stack: thread, reference: stack.reference() });
    };
    // SAFETY: the closure leaves the stack as it was.
    unsafe { lua.exec_raw::<()>((), make) }?;
    Ok(made.expect("the protected call has run"))
}

/// A trusted chunk's text.
fn text(name: &str) -> &'static str {
    let path = format!("lua/store/{name}.lua");
    bundle::find(&path).expect("the bundle's test compares its rows with the folder").text
}

fn library(
    lua: &Lua,
    functions: &[&[(&str, stack::Function)]],
    machine: *mut Machine,
) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, function) in functions.iter().copied().flatten() {
        let push = |state| {
            // SAFETY: a valid state in a protected call.
            unsafe { Stack::new(state) }.push_function(*function, machine.cast());
        };
        // SAFETY: the closure leaves one value.
        let value: Function = unsafe { lua.exec_raw((), push) }?;
        table.raw_set(*name, value)?;
    }
    Ok(table)
}

/// What trusted Lua calls besides the leaves.
fn natives(lua: &Lua, machine: *mut Machine) -> mlua::Result<Table> {
    let table = library(
        lua,
        &[&[("take", take), ("take_plain", take_plain), ("allowed", allowed)]],
        machine,
    )?;
    let sha = |lua: &Lua, text: mlua::LuaString| lua.create_string(hex(&sha1(&text.as_bytes())));
    table.raw_set("sha1hex", lua.create_function(sha)?)?;
    let log = move |_: &Lua, (level, text): (f64, mlua::LuaString)| {
        let levels = [LogLevel::Debug, LogLevel::Debug, LogLevel::Info, LogLevel::Warn];
        // SAFETY: the machine outlives the VM; nothing else uses it while a C function runs.
        let machine = unsafe { &mut *machine };
        machine.log(levels[level as usize & 3], text.to_string_lossy());
        Ok(())
    };
    table.raw_set("log", lua.create_function(log)?)?;
    let pure = |_: &Lua, name: String| {
        let file = bundle::module(&name).filter(|_| PURE_MODULES.contains(&name.as_str()));
        Ok(file.map_or((None, None), |file| (Some(file.text), Some(file.chunk_name()))))
    };
    table.raw_set("pure_module", lua.create_function(pure)?)?;
    let setresp = move |_: &Lua, resp3: bool| {
        // SAFETY: as above.
        let machine = unsafe { &mut *machine };
        machine.resp3 = resp3;
        if let Some(world) = machine.world() {
            world.run.session.resp3 = resp3;
        }
        Ok(())
    };
    table.raw_set("setresp", lua.create_function(setresp)?)?;
    Ok(table)
}

/// The value of the last command's reply.
unsafe extern "C-unwind" fn take(state: *mut lua::lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: the upvalue is the machine, which outlives its VM; nothing else uses it while a C function runs.
    let machine = unsafe { &mut *stack.upvalue().cast::<Machine>() };
    let style = if machine.resp3 { Style::Resp3 } else { Style::Resp2 };
    reply::push(stack, &machine.reply, style);
    1
}

/// The same as plain values: how a definition's commands see replies.
unsafe extern "C-unwind" fn take_plain(state: *mut lua::lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: as above.
    let machine = unsafe { &mut *stack.upvalue().cast::<Machine>() };
    reply::push(stack, &machine.reply, Style::Plain);
    1
}

/// Whether the caller may run the command that was pushed, or nil: for `redis.acl_check_cmd`.
unsafe extern "C-unwind" fn allowed(state: *mut lua::lua_State) -> c_int {
    // SAFETY: what Lua passed.
    let stack = unsafe { Stack::new(state) };
    // SAFETY: as above.
    let machine = unsafe { &mut *stack.upvalue().cast::<Machine>() };
    match machine.allowed() {
        Some(allowed) => stack.push_boolean(allowed),
        None => stack.push_nil(),
    }
    1
}

impl Engine for StoreVm {
    fn compile(&mut self, text: &[u8]) -> Result<Handle, Vec<u8>> {
        let text = self.lua.create_string(text).map_err(|error| error.to_string().into_bytes())?;
        let compiled =
            self.functions.compile.call::<(Option<Function>, Option<mlua::LuaString>)>(&text);
        match compiled {
            Ok((Some(function), _)) => self.keep(&function),
            Ok((None, message)) => {
                Err(message.map_or_else(Vec::new, |message| message.as_bytes().to_vec()))
            }
            Err(error) => {
                self.collect();
                Err(error.to_string().into_bytes())
            }
        }
    }

    fn load_library(&mut self, text: &[u8]) -> Result<Vec<Registered>, Vec<u8>> {
        let failed = |error: mlua::Error| format!("ERR {error}").into_bytes();
        let text = self.lua.create_string(text).map_err(failed)?;
        let budget_ms = FUNCTION_LOAD_MS;
        self.machine().interrupt = Interrupt { budget_ms, ..Interrupt::default() };
        let entry = self.enter(budget_ms);
        let loaded =
            self.functions.load_library.call::<(Option<Table>, Option<mlua::LuaString>)>(&text);
        let timed_out = self.machine().interrupt.kill == Some(Kill::Budget);
        self.leave(entry);
        if timed_out {
            return Err(b"ERR Error registering functions: ERR FUNCTION LOAD timeout".to_vec());
        }
        match loaded {
            Ok((Some(rows), _)) => self.registered(&rows).map_err(failed),
            Ok((None, message)) => {
                Err(message.map_or_else(Vec::new, |message| message.as_bytes().to_vec()))
            }
            Err(error) => {
                self.collect();
                Err(failed(error))
            }
        }
    }

    fn load_commands(&mut self, file: &CommandFile) -> Result<Vec<(String, Handle)>, String> {
        let budget_ms = FUNCTION_LOAD_MS;
        // A script may be suspended; it goes on as it was.
        let suspended = self.machine().interrupt;
        self.machine().interrupt = Interrupt { budget_ms, ..Interrupt::default() };
        let files: Vec<Vec<&str>> =
            file.files.iter().map(|(path, text)| vec![path.as_str(), text.as_str()]).collect();
        let entry = self.enter(budget_ms);
        let loaded = self
            .functions
            .load_commands
            .call::<(Option<Table>, Option<mlua::LuaString>)>((file.cache.as_str(), files));
        self.leave(entry);
        self.machine().interrupt = suspended;
        let (rows, problem) = loaded.map_err(|error| error.to_string())?;
        let Some(rows) = rows else {
            return Err(problem.map_or_else(String::new, |text| text.to_string_lossy()));
        };
        let mut all = Vec::new();
        for row in rows.sequence_values::<Table>() {
            let read = |row: Table| Ok((row.raw_get::<String>("name")?, row.raw_get("run")?));
            let read: mlua::Result<(String, Table)> = row.and_then(read);
            let (name, run) = read.map_err(|error| error.to_string())?;
            let handle = self.keep(&run);
            let handle = handle.map_err(|text| String::from_utf8_lossy(&text).into_owned())?;
            all.push((name, handle));
        }
        Ok(all)
    }

    fn release(&mut self, handle: Handle) {
        self.main.unreference(handle as c_int);
    }

    fn start(&mut self, world: &mut World<'_>, start: &Start<'_>, reply: &mut Reply<'_>) -> Step {
        let machine = self.machine();
        machine.resp3 = false;
        machine.interrupt = Interrupt {
            may_suspend: start.may_suspend,
            kill: None,
            stuck: 0,
            stuck_max: start.budget_ms / STUCK_SLICE_MS,
            budget_ms: start.budget_ms,
        };
        if start.kind == RunKind::Command && start.arguments.len() > LUA_COMMAND_ARGUMENTS_MAX {
            let text = format!(
                "ERR too many arguments for a command in Lua: at most {LUA_COMMAND_ARGUMENTS_MAX}"
            );
            return Step::Failed(text.into_bytes());
        }
        let Ok(arguments) = self.prepare(start) else {
            return Step::Failed(b"ERR not enough memory for the script".to_vec());
        };
        let budget_ms = if start.may_suspend { SCRIPT_SLICE_MS } else { start.budget_ms };
        let status = self.resume_thread(world, arguments, budget_ms);
        self.step(world, status, reply)
    }

    fn resume(&mut self, world: &mut World<'_>, reply: &mut Reply<'_>) -> Step {
        if world.run.killed {
            self.machine().interrupt.kill = Some(Kill::Asked);
        }
        let status = self.resume_thread(world, 0, SCRIPT_SLICE_MS);
        self.step(world, status, reply)
    }

    fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }
}

impl StoreVm {
    /// Anchors a main function, or a command's table of them.
    fn keep(&self, function: impl mlua::IntoLuaMulti) -> Result<Handle, Vec<u8>> {
        let mut reference = 0;
        let note = |state| {
            // SAFETY: a valid state in a protected call, with the function on top.
            reference = unsafe { Stack::new(state) }.reference();
        };
        // SAFETY: the closure takes the one value and leaves none.
        let kept = unsafe { self.lua.exec_raw::<()>(function, note) };
        kept.map_err(|error| error.to_string().into_bytes())?;
        Ok(reference as Handle)
    }

    fn registered(&self, rows: &Table) -> mlua::Result<Vec<Registered>> {
        let mut all = Vec::new();
        for row in rows.sequence_values::<Table>() {
            let row = row?;
            let bytes = |text: mlua::LuaString| text.as_bytes().to_vec();
            let flags: Vec<mlua::LuaString> = row.raw_get("flags")?;
            let run: Function = row.raw_get("run")?;
            let handle = self.keep(&run).map_err(|text| {
                mlua::Error::runtime(String::from_utf8_lossy(&text).into_owned())
            })?;
            all.push(Registered {
                name: bytes(row.raw_get("name")?),
                description: row.raw_get::<Option<mlua::LuaString>>("description")?.map(bytes),
                flags: flags.into_iter().map(bytes).collect(),
                handle,
            });
        }
        Ok(all)
    }
}
