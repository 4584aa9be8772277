//! What an app's file defined, as data.
//!
//! Must not know: what the fields mean; the control thread checks them against the schema.

use mlua::{Table, Value};

use super::convert::Reader;
use super::kernel::Kernel;
use super::source::Sources;
use super::{AppSource, Definition, Definitions, Handlers, ROUTES};
use crate::error::ScriptError;
use crate::id::RuntimeKind;

/// Reads the definitions and commands that the file has collected.
pub(super) fn definitions(
    kernel: &Kernel,
    sources: &Sources,
    app: &AppSource,
) -> Result<Definitions, ScriptError> {
    let reader = Reader { runtimes: Some(kernel.runtimes.clone()), lenient: true };
    let mut found = Definitions::default();
    let rows: Vec<Table> = kernel.definitions.call(()).map_err(|error| internal(&error))?;
    for row in &rows {
        found.runtimes.push(definition(row, &reader, sources)?);
    }
    let specs: Vec<Value> = kernel.commands.call(()).map_err(|error| internal(&error))?;
    for spec in &specs {
        let file = app.path.display().to_string();
        let refused = |message| ScriptError { message, file, ..Default::default() };
        found.commands.push(reader.json(spec).map_err(refused)?);
    }
    Ok(found)
}

fn internal(error: &mlua::Error) -> ScriptError {
    ScriptError { message: error.to_string(), ..Default::default() }
}

fn definition(row: &Table, reader: &Reader, sources: &Sources) -> Result<Definition, ScriptError> {
    let read = || -> mlua::Result<(String, String, String, u32, Table, Vec<String>)> {
        Ok((
            row.raw_get("kind")?,
            row.raw_get("name")?,
            row.raw_get("source")?,
            row.raw_get("line")?,
            row.raw_get("fields")?,
            row.raw_get("handlers")?,
        ))
    };
    let (kind, name, chunk_name, line, fields, handlers) =
        read().map_err(|error| internal(&error))?;
    let file = sources.path(&chunk_name);
    let refused = |message: String| ScriptError {
        message: format!("{kind} \"{name}\": {message}"),
        file: file.display().to_string(),
        line,
        ..Default::default()
    };
    let fields = match reader.json(&Value::Table(fields)).map_err(refused)? {
        serde_json::Value::Object(fields) => fields,
        _ => return Err(refused("expected fields with names, got a list".to_owned())),
    };
    let mut handlers = handlers;
    if fields.get("middleware").is_some() || fields.get("routes").is_some_and(has_function) {
        handlers.push(ROUTES.to_owned());
    }
    let kind = RuntimeKind::parse(&kind).expect("the dispatcher makes the four kinds only");
    Ok(Definition { kind, name, file, line, fields, handlers })
}

/// Whether some route is answered by a function.
fn has_function(routes: &serde_json::Value) -> bool {
    let is_function = |value: &serde_json::Value| value == "<function>";
    let answers = routes.as_object().into_iter().flatten().map(|(_, answer)| answer);
    answers
        .into_iter()
        .any(|answer| is_function(answer) || answer.get("handler").is_some_and(is_function))
}

/// The events that the named callbacks want.
pub(super) fn handlers_of(names: &[String]) -> Handlers {
    names.iter().fold(Handlers::default(), |all, name| {
        all.with(match name.as_str() {
            "on_start" => Handlers::ON_START,
            "on_stop" => Handlers::ON_STOP,
            "on_tick" => Handlers::ON_START.with(Handlers::ON_STOP),
            "on_connect" => Handlers::ON_CONNECT,
            "on_disconnect" => Handlers::ON_DISCONNECT,
            "on_message" | "on_client_message" => Handlers::ON_MESSAGE,
            "on_route" => Handlers::ON_ROUTE,
            "on_http_request" => Handlers::ON_HTTP,
            "on_expire" => Handlers::ON_EXPIRE,
            "on_evict" => Handlers::ON_EVICT,
            "on_write" => Handlers::ON_WRITE,
            "on_delete" => Handlers::ON_DELETE,
            "on_miss" => Handlers::ON_MISS,
            "write_behind" => Handlers::WRITE_BEHIND,
            "on_master_auth" => Handlers::ON_MASTER_AUTH,
            _ => Handlers::default(),
        })
    })
}
