//! FUNCTION: libraries of functions that FCALL calls.

use super::scripting::{end_running, is_flush_mode};
use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::store::scripting::functions::{Function, Policy};
use crate::store::scripting::{Engine, RunKind, ScriptFlags, payload};
use crate::store::{CommandError, Reply, glob};

const ABOUT: Flags = Flags::NOSCRIPT;
const CHANGES: Flags = Flags::NOSCRIPT.and(Flags::WRITE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[Command {
    subcommands: &[
        row("delete", 3, CHANGES, "Deletes a library and its functions", delete),
        row("dump", 2, ABOUT, "Dumps all libraries into a payload", dump),
        row("flush", -2, CHANGES, "Deletes all libraries and functions", flush),
        row("help", 2, Flags::LOADING.and(Flags::STALE), "Lists the subcommands", usage),
        row("kill", 2, ABOUT, "Ends the function that runs", kill),
        row("list", -2, ABOUT, "Lists the libraries", list),
        row("load", -3, CHANGES.and(Flags::DENYOOM), "Creates a library", load),
        row(
            "restore",
            -3,
            CHANGES.and(Flags::DENYOOM),
            "Restores all libraries from a payload",
            restore,
        ),
        row("stats", 2, ABOUT, "Tells about the function that runs", stats),
    ],
    ..row("function", -2, Flags(0), "Manages functions", nothing)
}];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    summary: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (keys, group, since) = (Keys::NONE, "scripting", "7.0.0");
    Command { name, arity, flags, keys, group, summary, since, run, subcommands: &[] }
}

/// A container's row runs only when no subcommand was named, which its arity forbids.
fn nothing(_: &mut Call<'_>) -> CommandResult {
    Err(CommandError::Syntax)
}

/// Does something to the libraries that needs the engine.
fn with_engine<T>(
    call: &mut Call<'_>,
    act: impl FnOnce(&mut Call<'_>, &mut dyn Engine) -> Result<T, Vec<u8>>,
) -> Result<T, CommandError> {
    let mut engine = call.instance.scripting.take_engine().map_err(CommandError::Owned)?;
    let result = act(call, &mut *engine);
    call.instance.scripting.give_back(engine);
    result.map_err(CommandError::Owned)
}

fn load(call: &mut Call<'_>) -> CommandResult {
    let last = call.args.len() - 1;
    let mut replace = false;
    for index in 2..last {
        let option = call.args.at(index);
        if !option.eq_ignore_ascii_case(b"replace") {
            let text = [b"ERR Unknown option given: ", option].concat();
            return Err(CommandError::Owned(text));
        }
        replace = true;
    }
    let name = with_engine(call, |call, engine| {
        call.instance.scripting.functions.load(engine, call.args.at(last), replace)
    })?;
    call.keyspace.dirty += 1;
    call.reply.bulk(name.as_bytes());
    Ok(())
}

fn delete(call: &mut Call<'_>) -> CommandResult {
    let name = String::from_utf8_lossy(call.args.at(2)).into_owned();
    let existed = with_engine(call, |call, engine| {
        Ok(call.instance.scripting.functions.delete(engine, &name))
    })?;
    if !existed {
        return Err(CommandError::Text("ERR Library not found"));
    }
    call.keyspace.dirty += 1;
    call.reply.ok();
    Ok(())
}

fn wrong_count(name: &str) -> CommandError {
    let text = format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try FUNCTION HELP."
    );
    CommandError::Owned(text.into_bytes())
}

fn flush(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 3 {
        return Err(wrong_count("flush"));
    }
    if !is_flush_mode(call.args) {
        return Err(CommandError::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    let scripting = &mut call.instance.scripting;
    let handles = scripting.functions.flush();
    if let Some(engine) = &mut scripting.engine {
        handles.into_iter().for_each(|handle| engine.release(handle));
    }
    call.keyspace.dirty += 1;
    call.reply.ok();
    Ok(())
}

fn kill(call: &mut Call<'_>) -> CommandResult {
    end_running(call, RunKind::Function)
}

fn list(call: &mut Call<'_>) -> CommandResult {
    let (mut with_code, mut pattern) = (false, None);
    let mut index = 2;
    while index < call.args.len() {
        let option = call.args.at(index);
        if option.eq_ignore_ascii_case(b"withcode") && !with_code {
            with_code = true;
        } else if option.eq_ignore_ascii_case(b"libraryname") && pattern.is_none() {
            index += 1;
            let missing = CommandError::Text("ERR library name argument was not given");
            pattern = Some(call.args.get(index).ok_or(missing)?);
        } else {
            return Err(CommandError::Owned([b"ERR Unknown argument ", option].concat()));
        }
        index += 1;
    }
    let functions = &call.instance.scripting.functions;
    let shown: Vec<(&str, &[u8])> = functions
        .libraries()
        .filter(|(name, _)| pattern.is_none_or(|pattern| glob::matches(pattern, name.as_bytes())))
        .collect();
    call.reply.array(shown.len());
    for (name, text) in shown {
        call.reply.map(3 + usize::from(with_code));
        call.reply.bulk(b"library_name");
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(b"engine");
        call.reply.bulk(b"LUA");
        call.reply.bulk(b"functions");
        let of: Vec<&Function> = functions.of(name).collect();
        call.reply.array(of.len());
        of.into_iter().for_each(|function| describe(&mut call.reply, function));
        if with_code {
            call.reply.bulk(b"library_code");
            call.reply.bulk(text);
        }
    }
    Ok(())
}

fn describe(reply: &mut Reply<'_>, function: &Function) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(&function.name);
    reply.bulk(b"description");
    match &function.description {
        Some(text) => reply.bulk(text),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    let names: Vec<&str> = ScriptFlags::names(function.flags).collect();
    reply.set(names.len());
    names.into_iter().for_each(|name| reply.simple(name));
}

fn stats(call: &mut Call<'_>) -> CommandResult {
    let scripting = &call.instance.scripting;
    call.reply.map(2);
    call.reply.bulk(b"running_script");
    match scripting.suspended.as_ref().map(|suspended| &suspended.run) {
        Some(run) => {
            call.reply.map(3);
            call.reply.bulk(b"name");
            call.reply.bulk(run.name.as_bytes());
            call.reply.bulk(b"command");
            call.reply.array(run.command.len());
            run.command.iter().for_each(|word| call.reply.bulk(word));
            call.reply.bulk(b"duration_ms");
            call.reply.integer(call.now_ms.saturating_sub(run.started_ms) as i64);
        }
        None => call.reply.null(),
    }
    call.reply.bulk(b"engines");
    call.reply.map(1);
    call.reply.bulk(b"LUA");
    call.reply.map(2);
    call.reply.bulk(b"libraries_count");
    call.reply.integer(scripting.functions.libraries().len() as i64);
    call.reply.bulk(b"functions_count");
    call.reply.integer(scripting.functions.iter().len() as i64);
    Ok(())
}

fn dump(call: &mut Call<'_>) -> CommandResult {
    let texts = call.instance.scripting.functions.libraries().map(|(_, text)| text);
    let payload = payload::write(texts);
    call.reply.bulk(&payload);
    Ok(())
}

fn restore(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 4 {
        return Err(wrong_count("restore"));
    }
    let policy = match call.args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"append") => Policy::Append,
        Some(b"flush") => Policy::Flush,
        Some(b"replace") => Policy::Replace,
        Some(_) => {
            let text =
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
            return Err(CommandError::Text(text));
        }
    };
    let texts = payload::read(call.args.at(2)).map_err(CommandError::Text)?;
    with_engine(call, |call, engine| {
        call.instance.scripting.functions.restore(engine, &texts, policy)
    })?;
    call.keyspace.dirty += 1;
    call.reply.ok();
    Ok(())
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "FUNCTION",
        &[
            ("DELETE <LIBRARY NAME>", "Delete the given library."),
            (
                "DUMP",
                "Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
            ),
            ("FLUSH [ASYNC|SYNC]", "Delete all the libraries."),
            ("KILL", "Kill the current running function."),
            (
                "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
                "Return general information on all the libraries.",
            ),
            ("LOAD [REPLACE] <FUNCTION CODE>", "Create a new library with the given code."),
            (
                "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
                "Restore the libraries represented by the given payload; by default they are appended.",
            ),
            ("STATS", "Return information about the current function running and the engines."),
        ],
    );
    Ok(())
}
