//! What scripts ask of the world beside the hot path: dials, and errands that a helper thread runs.

use std::path::PathBuf;
use std::rc::Rc;

use mlua::{Lua, LuaString, Table, Value};

use crate::limits::SCRIPT_FILE_BYTES_MAX;
use crate::lua::context::Context;
use crate::lua::streams::Stream;
use crate::lua::{Action, Dial, DialTls, Errand, Outcome, SocketAct};

/// Adds the functions.
pub(super) fn add(lua: &Lua, context: &Rc<Context>, native: &Table) -> mlua::Result<()> {
    let shared = Rc::clone(context);
    let dial = move |_: &Lua, (socket, task, host, port, tls): DialArguments| {
        let socket = socket as u64;
        shared.streams.borrow_mut().insert(socket, Stream::default());
        let tls = tls.map(|options| dial_tls(&shared, &options)).transpose()?.map(Box::new);
        let dial = Dial { host, port, task: task as u64, tls };
        shared.push(Action::Socket { socket, act: SocketAct::Dial(Box::new(dial)) });
        Ok(())
    };
    native.raw_set("dial", lua.create_function(dial)?)?;
    let shared = Rc::clone(context);
    let end = move |_: &Lua, socket: f64| {
        let streams = shared.streams.borrow();
        let end = streams.get(&(socket as u64)).and_then(Stream::end);
        Ok(end.map_or((None, None), |end| (Some(end.code), Some(end.text.clone()))))
    };
    native.raw_set("socket_end", lua.create_function(end)?)?;
    let shared = Rc::clone(context);
    let idle = move |_: &Lua, socket: f64| {
        Ok(shared.streams.borrow().get(&(socket as u64)).is_some_and(Stream::is_idle))
    };
    native.raw_set("socket_idle", lua.create_function(idle)?)?;
    let shared = Rc::clone(context);
    let errand = move |_: &Lua, (task, kind, words): (f64, String, Table)| {
        let errand = errand_of(&shared, &kind, &words)?;
        shared.push(Action::Errand { task: task as u64, errand });
        Ok(())
    };
    native.raw_set("errand", lua.create_function(errand)?)?;
    let shared = Rc::clone(context);
    let take = move |lua: &Lua, task: f64| {
        let outcome = shared.outcomes.borrow_mut().remove(&(task as u64));
        outcome_to_lua(lua, outcome)
    };
    native.raw_set("take_outcome", lua.create_function(take)?)
}

type DialArguments = (f64, f64, String, u16, Option<Table>);

fn dial_tls(context: &Context, options: &Table) -> mlua::Result<DialTls> {
    let path = |name: &str| -> mlua::Result<Option<PathBuf>> {
        Ok(options.raw_get::<Option<String>>(name)?.map(|text| context.path(&text)))
    };
    Ok(DialTls {
        authorities: path("ca")?,
        certificate: path("cert")?,
        key: path("key")?,
        server_name: options.raw_get("server_name")?,
        insecure: options.raw_get::<Option<bool>>("insecure")?.unwrap_or(false),
        protocols: options.raw_get::<Option<Vec<String>>>("alpn")?.unwrap_or_default(),
    })
}

fn errand_of(context: &Context, kind: &str, words: &Table) -> mlua::Result<Errand> {
    let path = |index: i64| -> mlua::Result<PathBuf> {
        Ok(context.path(&words.raw_get::<String>(index)?))
    };
    Ok(match kind {
        "resolve" => Errand::Resolve { host: words.raw_get(1)? },
        "read" => Errand::Read { path: path(1)?, bytes_max: SCRIPT_FILE_BYTES_MAX },
        "write" | "append" => Errand::Write {
            path: path(1)?,
            bytes: words.raw_get::<LuaString>(2)?.as_bytes().to_vec(),
            appends: kind == "append",
        },
        "list" => Errand::List { path: path(1)? },
        "stat" => Errand::Stat { path: path(1)? },
        "remove" => Errand::Remove { path: path(1)? },
        "rename" => Errand::Rename { from: path(1)?, to: path(2)? },
        "mkdir" => Errand::MakeFolder { path: path(1)? },
        other => return Err(mlua::Error::runtime(format!("no errand is called {other}"))),
    })
}

/// `value`, or nil, code and text.
fn outcome_to_lua(
    lua: &Lua,
    outcome: Option<Outcome>,
) -> mlua::Result<(Value, Option<&'static str>, Option<String>)> {
    let value = match outcome {
        Some(Outcome::Bytes(bytes)) => Value::String(lua.create_string(bytes)?),
        Some(Outcome::Names(names)) => Value::Table(lua.create_sequence_from(names)?),
        Some(Outcome::Stat { kind, bytes, modified_ms }) => {
            let table = lua.create_table()?;
            table.raw_set("type", kind)?;
            table.raw_set("size", bytes as f64)?;
            table.raw_set("modified_ms", modified_ms as f64)?;
            Value::Table(table)
        }
        Some(Outcome::Done) => Value::Boolean(true),
        Some(Outcome::Failed { code, text }) => return Ok((Value::Nil, Some(code), Some(text))),
        None => Value::Nil,
    };
    Ok((value, None, None))
}
