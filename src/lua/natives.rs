//! The functions that trusted Lua calls where speed doesn't matter: reports, questions, files, conversions.
//!
//! They never call Lua back. Must not know: what the scripts do.

mod sockets;

use std::rc::Rc;

use mlua::{LightUserData, Lua, LuaString, Table, Value};

use super::api::json::{self, to_lua};
use super::context::Context;
use super::convert::{Reader, reply_to_lua};
use super::report::{Telling, script_error};
use super::{Action, bundle};
use crate::id::RuntimeId;
use crate::limits::SCRIPT_ERROR_REPEAT_MS;
use crate::log::LogLevel;
use crate::proto::resp::ReplyReader;

/// The timer that tells the repeats of errors; tasks and timers of scripts count from 1.
pub(super) const REPORT_TIMER: u64 = 0;

/// The table of all functions. `runtimes` is the dispatcher's table of runtimes by object.
pub(super) fn table(lua: &Lua, context: &Rc<Context>, runtimes: &Table) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    add_reports(lua, context, &native)?;
    add_requests(lua, context, runtimes, &native)?;
    add_files(lua, context, &native)?;
    add_caches(lua, context, &native)?;
    sockets::add(lua, context, &native)?;
    native.raw_set("json", json::module(lua)?)?;
    let api = |lua: &Lua, name: String| match name.strip_prefix("socketley.") {
        Some(name) => super::api::native_module(lua, name),
        None => Ok(None),
    };
    native.raw_set("api_module", lua.create_function(api)?)?;
    native.raw_set("null", LightUserData(std::ptr::null_mut()))?;
    Ok(native)
}

fn runtime(id: f64) -> Option<RuntimeId> {
    (id >= 0.0).then_some(RuntimeId(id as u32))
}

/// Tells an error of a handler, or counts it.
pub(super) fn report(context: &Context, runtime: Option<RuntimeId>, event: &str, text: &str) {
    let error = script_error(text, &context.sources.borrow());
    let now_ms = context.now.get().monotonic_ms();
    let telling = context.reports.borrow_mut().happened(&error, now_ms);
    context.push(Action::Failed { runtime });
    match telling {
        Telling::Tell { repeats } => {
            let mut text =
                format!("error in {event}, generation {}\n{error}", context.app.generation);
            if repeats > 0 {
                text.push_str(&format!("\n  the same error {repeats} times before"));
            }
            context.push(Action::Log { level: LogLevel::Error, runtime, text });
        }
        Telling::Count { first: true } => {
            context.push(Action::Timer { timer: REPORT_TIMER, delay_ms: SCRIPT_ERROR_REPEAT_MS });
        }
        Telling::Count { first: false } => {}
    }
}

/// Tells how often errors came again.
pub(super) fn report_repeats(context: &Context) {
    let now_ms = context.now.get().monotonic_ms();
    let overdue = context.reports.borrow_mut().overdue(now_ms);
    for (place, count) in overdue {
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let text = format!("{place}: the same error {times} more");
        context.push(Action::Log { level: LogLevel::Error, runtime: None, text });
    }
    if let Some(due) = context.reports.borrow().next_due_ms() {
        let delay_ms = due.saturating_sub(now_ms);
        context.push(Action::Timer { timer: REPORT_TIMER, delay_ms });
    }
}

fn add_reports(lua: &Lua, context: &Rc<Context>, native: &Table) -> mlua::Result<()> {
    let shared = Rc::clone(context);
    let tell = move |_: &Lua, (id, event, text): (f64, LuaString, LuaString)| {
        report(&shared, runtime(id), &event.to_string_lossy(), &text.to_string_lossy());
        Ok(())
    };
    native.raw_set("report", lua.create_function(tell)?)?;
    let shared = Rc::clone(context);
    let log = move |_: &Lua, (level, id, text): (u8, f64, LuaString)| {
        let levels = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
        let level = levels[usize::from(level).min(3)];
        let text = text.to_string_lossy();
        shared.push(Action::Log { level, runtime: runtime(id), text });
        Ok(())
    };
    native.raw_set("log", lua.create_function(log)?)
}

fn add_requests(
    lua: &Lua,
    context: &Rc<Context>,
    runtimes: &Table,
    native: &Table,
) -> mlua::Result<()> {
    let (shared, known) = (Rc::clone(context), runtimes.clone());
    let prepare = move |_: &Lua, arguments: Value| {
        let reader = Reader { runtimes: Some(known.clone()), lenient: false };
        Ok(match reader.json(&arguments) {
            Ok(json) => {
                shared.prepared.set(json);
                (true, None)
            }
            Err(problem) => (false, Some(problem)),
        })
    };
    native.raw_set("prepare", lua.create_function(prepare)?)?;
    let shared = Rc::clone(context);
    let daemon = move |_: &Lua, (task, verb): (f64, String)| {
        let arguments = shared.prepared.take();
        shared.push(Action::Daemon { task: task as u64, verb, arguments });
        Ok(())
    };
    native.raw_set("daemon", lua.create_function(daemon)?)?;
    let shared = Rc::clone(context);
    let take_answer = move |lua: &Lua, task: f64| {
        let answer = shared.answers.borrow_mut().remove(&(task as u64));
        match answer {
            Some(Ok(value)) => Ok((true, to_lua(lua, &value)?)),
            Some(Err(text)) => Ok((false, Value::String(lua.create_string(text)?))),
            None => Ok((true, Value::Nil)),
        }
    };
    native.raw_set("take_answer", lua.create_function(take_answer)?)?;
    let shared = Rc::clone(context);
    let take_arguments = move |lua: &Lua, request: f64| {
        let arguments = shared.arguments.borrow_mut().remove(&(request as u64));
        to_lua(lua, &arguments.unwrap_or_default())
    };
    native.raw_set("take_arguments", lua.create_function(take_arguments)?)?;
    add_replies(lua, context, runtimes, native)
}

fn add_replies(
    lua: &Lua,
    context: &Rc<Context>,
    runtimes: &Table,
    native: &Table,
) -> mlua::Result<()> {
    let (shared, known) = (Rc::clone(context), runtimes.clone());
    let evaluated = move |_: &Lua, (request, ok, value): (f64, bool, Value)| {
        let reader = Reader { runtimes: Some(known.clone()), lenient: true };
        let reply = match (ok, &value) {
            (true, value) => reader.json(value),
            (false, Value::String(text)) => Err(text.to_string_lossy()),
            (false, other) => Err(format!("an error of type {}", other.type_name())),
        };
        shared.push(Action::Evaluated { request: request as u64, reply });
        Ok(())
    };
    native.raw_set("evaluated", lua.create_function(evaluated)?)?;
    let shared = Rc::clone(context);
    let words = move |_: &Lua, (request, words): (f64, Vec<String>)| {
        shared.push(Action::Evaluated { request: request as u64, reply: Ok(words.into()) });
        Ok(())
    };
    native.raw_set("words", lua.create_function(words)?)?;
    let (shared, known) = (Rc::clone(context), runtimes.clone());
    let output = move |_: &Lua, (request, frame): (f64, Value)| {
        let reader = Reader { runtimes: Some(known.clone()), lenient: true };
        match reader.json(&frame) {
            Ok(frame) => shared.push(Action::Output { request: request as u64, frame }),
            Err(problem) => return Err(mlua::Error::runtime(format!("output: {problem}"))),
        }
        Ok(())
    };
    native.raw_set("output", lua.create_function(output)?)
}

/// A bundled file's text and chunk name, or nil.
fn found(file: Option<&bundle::Bundled>) -> (Option<&str>, Option<String>) {
    file.map_or((None, None), |file| (Some(file.text), Some(file.chunk_name())))
}

fn add_files(lua: &Lua, context: &Rc<Context>, native: &Table) -> mlua::Result<()> {
    let module = |_: &Lua, name: String| Ok(found(bundle::module(&name)));
    native.raw_set("bundled_module", lua.create_function(module)?)?;
    let file = |_: &Lua, path: String| Ok(found(bundle::find(&path)));
    native.raw_set("bundled_file", lua.create_function(file)?)?;
    let shared = Rc::clone(context);
    let read_module = move |_: &Lua, (name, search): (String, String)| {
        let search = if shared.app.limits.restricted { "" } else { search.as_str() };
        Ok(match shared.sources.borrow_mut().module(&name, search) {
            Ok((text, chunk_name)) => (Some(text), chunk_name),
            Err(tried) => (None, tried),
        })
    };
    native.raw_set("read_module", lua.create_function(read_module)?)?;
    let read_file = |_: &Lua, path: String| {
        Ok(match std::fs::read_to_string(&path) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(format!("{path}: {error}"))),
        })
    };
    native.raw_set("read_file", lua.create_function(read_file)?)
}

fn add_caches(lua: &Lua, context: &Rc<Context>, native: &Table) -> mlua::Result<()> {
    let shared = Rc::clone(context);
    let index = move |_: &Lua, name: String| Ok(shared.caches.borrow_mut().index(&name) as f64);
    native.raw_set("cache_index", lua.create_function(index)?)?;
    let shared = Rc::clone(context);
    let has = move |_: &Lua, name: String| Ok(shared.caches.borrow().has(&name));
    native.raw_set("has_cache", lua.create_function(has)?)?;
    let shared = Rc::clone(context);
    let nearest = move |_: &Lua, name: String| Ok(shared.caches.borrow().nearest(&name));
    native.raw_set("nearest_cache", lua.create_function(nearest)?)?;
    let shared = Rc::clone(context);
    let take_reply = move |lua: &Lua, (): ()| {
        let value = shared.caches.borrow_mut().take_value();
        value.map_or(Ok(Value::Nil), |value| reply_to_lua(lua, &value))
    };
    native.raw_set("take_reply", lua.create_function(take_reply)?)?;
    let read_reply = |lua: &Lua, bytes: LuaString| {
        let value = ReplyReader::default().read(&bytes.as_bytes()).ok().flatten();
        value.map_or(Ok(Value::Nil), |(value, _)| reply_to_lua(lua, &value))
    };
    native.raw_set("read_reply", lua.create_function(read_reply)?)?;
    let shared = Rc::clone(context);
    let cache_names = move |_: &Lua, (): ()| Ok(shared.caches.borrow().names());
    native.raw_set("cache_names", lua.create_function(cache_names)?)?;
    let shared = Rc::clone(context);
    let listen = move |_: &Lua, row: (f64, String, bool, bool, LuaString)| {
        let (id, cache, is_pattern, once, name) = row;
        let name = name.as_bytes().to_vec();
        shared.push(Action::Listen { id: id as u64, cache, is_pattern, once, name });
        Ok(())
    };
    native.raw_set("listen", lua.create_function(listen)?)?;
    let shared = Rc::clone(context);
    let unlisten = move |_: &Lua, id: f64| {
        shared.push(Action::Unlisten { id: id as u64 });
        Ok(())
    };
    native.raw_set("unlisten", lua.create_function(unlisten)?)
}
