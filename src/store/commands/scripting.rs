//! EVAL, EVALSHA, FCALL and SCRIPT.
//!
//! The engine is taken out of the store while it runs; a script can't call what would run another one.

use std::sync::Arc;

use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::limits::{SCRIPT_BUDGET_MS, SCRIPT_SLICE_MS};
use crate::store::execute::NO_REPLICAS;
use crate::store::scripting::commands::{READING, WRITING};
use crate::store::scripting::scripts::{hex, sha1};
use crate::store::scripting::{
    Counted, Counter, Run, RunKind, ScriptFlags, Start, Step, Suspended,
};
use crate::store::scripting::{Handle, World, busy};
use crate::store::session::State;
use crate::store::{Args, CommandError, Session, number};

const RUNS: Flags = Flags::NOSCRIPT.and(Flags::STALE);
/// What the hidden rows stand for.
const OWN: &str = "Runs a command of the cache's definition";
const HIDDEN: Flags = Flags::NOSCRIPT.and(Flags::HIDDEN);
const ABOUT: Flags = Flags::NOSCRIPT;

/// This file's rows.
pub const COMMANDS: &[Command] = &[
    row("eval", -3, RUNS, "Runs a Lua script", "2.6.0", eval),
    row(
        "eval_ro",
        -3,
        RUNS.and(Flags::READONLY),
        "Runs a Lua script that only reads",
        "7.0.0",
        eval,
    ),
    row("evalsha", -3, RUNS, "Runs a loaded Lua script", "2.6.0", evalsha),
    row(
        "evalsha_ro",
        -3,
        RUNS.and(Flags::READONLY),
        "Runs a loaded Lua script that only reads",
        "7.0.0",
        evalsha,
    ),
    Command {
        group: "generic",
        ..row(WRITING, -1, Flags::WRITE.and(Flags::DENYOOM).and(HIDDEN), OWN, "1.0.0", lua_command)
    },
    Command {
        group: "generic",
        ..row(READING, -1, Flags::READONLY.and(HIDDEN), OWN, "1.0.0", lua_command)
    },
    row("fcall", -3, RUNS, "Calls a function", "7.0.0", fcall),
    row(
        "fcall_ro",
        -3,
        RUNS.and(Flags::READONLY),
        "Calls a function that only reads",
        "7.0.0",
        fcall,
    ),
    Command {
        subcommands: &[
            row("debug", 3, ABOUT, "Sets the debug mode of scripts", "3.2.0", debug),
            row("exists", -3, ABOUT, "Tells which scripts are loaded", "2.6.0", exists),
            row("flush", -2, ABOUT, "Forgets all scripts", "2.6.0", flush),
            row(
                "help",
                2,
                ABOUT.and(Flags::LOADING).and(Flags::STALE),
                "Lists the subcommands",
                "5.0.0",
                usage,
            ),
            row("kill", 2, ABOUT, "Ends the script that runs", "2.6.0", kill),
            row("load", 3, ABOUT.and(Flags::STALE), "Loads a script", "2.6.0", load),
            row("stats", 2, ABOUT, "Tells the calls and times of the scripts", "7.4.0", stats),
        ],
        ..row("script", -2, Flags(0), "Manages the loaded scripts", "2.6.0", nothing)
    },
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (keys, group) = (Keys::NONE, "scripting");
    Command { name, arity, flags, keys, group, summary, since, run, subcommands: &[] }
}

/// A container's row runs only when no subcommand was named, which its arity forbids.
fn nothing(_: &mut Call<'_>) -> CommandResult {
    Err(CommandError::Syntax)
}

fn owned(line: Vec<u8>) -> CommandError {
    CommandError::Owned(line)
}

/// Whether the command's own name is a read-only one.
fn is_read_only(call: &Call<'_>) -> bool {
    let name = call.args.at(0);
    name.len() > 3 && name[name.len() - 3..].eq_ignore_ascii_case(b"_ro")
}

/// KEYS and ARGV after the number of keys at the second argument.
fn split<'a>(
    args: Args<'a>,
    not_a_number: &'static str,
) -> Result<(Args<'a>, Args<'a>), CommandError> {
    let count = number::parse_integer(args.at(2)).ok_or(CommandError::Text(not_a_number))?;
    if count > args.len() as i64 - 3 {
        return Err(CommandError::Text("ERR Number of keys can't be greater than number of args"));
    }
    if count < 0 {
        return Err(CommandError::Text("ERR Number of keys can't be negative"));
    }
    let rest = args.from(3);
    Ok((rest.first(count as usize), rest.from(count as usize)))
}

const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";

fn eval(call: &mut Call<'_>) -> CommandResult {
    let (keys, arguments) = split(call.args, NOT_A_NUMBER)?;
    let index = match call.instance.scripting.scripts.find_text(call.args.at(1)) {
        Ok(index) => index,
        Err(sha) => add(call, sha, false)?,
    };
    run_script(call, index, keys, arguments)
}

fn evalsha(call: &mut Call<'_>) -> CommandResult {
    let found = call.instance.scripting.scripts.find_hex(call.args.at(1));
    let no_script = "NOSCRIPT No matching script. Please use EVAL.";
    if found.is_none() && call.args.at(1).len() != 40 {
        return Err(CommandError::Text(no_script));
    }
    let (keys, arguments) = split(call.args, NOT_A_NUMBER)?;
    let index = found.ok_or(CommandError::Text(no_script))?;
    run_script(call, index, keys, arguments)
}

/// Compiles the text at the first (or `SCRIPT LOAD`'s) argument.
fn add(call: &mut Call<'_>, sha: [u8; 20], pinned: bool) -> Result<u32, CommandError> {
    let text = call.args.at(if pinned { 2 } else { 1 });
    let scripting = &mut call.instance.scripting;
    let mut engine = scripting.take_engine().map_err(owned)?;
    let added = scripting.scripts.add(&mut *engine, text, sha, pinned);
    scripting.give_back(engine);
    added.map_err(owned)
}

fn run_script(
    call: &mut Call<'_>,
    index: u32,
    keys: Args<'_>,
    arguments: Args<'_>,
) -> CommandResult {
    let script = call.instance.scripting.scripts.use_at(index);
    let script = script.expect("the place was found a moment ago, under the same lock");
    let (handle, flags, name) = (script.handle, script.flags, Arc::clone(&script.name));
    let is_measured = script.counter.measures();
    let read_only = check_flags(is_read_only(call), flags)?;
    let lacks_memory = check_memory(call, flags)?;
    let what = What {
        handle,
        kind: RunKind::Script,
        lacks_memory,
        name,
        read_only,
        is_measured,
        counted: Counted::Script(index),
        budget_ms: 0,
    };
    run(call, what, keys, arguments)
}

fn fcall(call: &mut Call<'_>) -> CommandResult {
    let function = call.instance.scripting.functions.find(call.args.at(1));
    let function = function.ok_or(CommandError::Text("ERR Function not found"))?;
    let (handle, flags) = (function.handle, function.flags);
    let (name, lower) = function.names.clone();
    let is_measured = function.counter.measures();
    let (keys, arguments) = split(call.args, "ERR Bad number of keys provided")?;
    let read_only = check_flags(is_read_only(call), flags)?;
    let (kind, counted) = (RunKind::Function, Counted::Function(lower));
    let lacks_memory = check_memory(call, flags)?;
    let what =
        What { handle, kind, name, read_only, lacks_memory, is_measured, counted, budget_ms: 0 };
    run(call, what, keys, arguments)
}

/// A command of the cache's definition: the hidden rows run it by its own name.
fn lua_command(call: &mut Call<'_>) -> CommandResult {
    let Some(command) = call.instance.scripting.commands.find(call.args.at(0)) else {
        // It went with a reload between MULTI and EXEC.
        let name = call.args.at(0).to_ascii_lowercase();
        return Err(CommandError::Owned(
            [b"ERR unknown command '", name.as_slice(), b"'"].concat(),
        ));
    };
    let (name, lower) = command.names.clone();
    let what = What {
        handle: command.handle,
        kind: RunKind::Command,
        name,
        read_only: command.spec.read_only,
        // The hidden row that stands for it has been refused already.
        lacks_memory: false,
        is_measured: command.counter.measures(),
        counted: Counted::Command(lower),
        budget_ms: SCRIPT_BUDGET_MS,
    };
    run(call, what, call.args.first(0), call.args.from(1))
}

/// Whether the run may not write.
fn check_flags(read_only: bool, flags: ScriptFlags) -> Result<bool, CommandError> {
    let may_write = !flags.has(ScriptFlags::NO_WRITES) && !flags.has(ScriptFlags::COMPATIBLE);
    if read_only && may_write {
        let text = "ERR Can not execute a script with write flag using *_ro command.";
        return Err(CommandError::Text(text));
    }
    Ok(read_only || flags.has(ScriptFlags::NO_WRITES))
}

/// Whether a run finds no memory and may therefore not begin to write what needs some. One with a first line that says
/// what it does (`#!lua`) doesn't even start then, unless it says `allow-oom` or `no-writes`; nor does one that may write
/// while replicas are missing.
fn check_memory(call: &Call<'_>, flags: ScriptFlags) -> Result<bool, CommandError> {
    let instance = &call.instance;
    let writes = !flags.has(ScriptFlags::COMPATIBLE) && !flags.has(ScriptFlags::NO_WRITES);
    if writes && instance.lacks_replicas(call.now_ms) {
        return Err(NO_REPLICAS);
    }
    let is_full = instance.config.maxmemory > 0 && instance.eviction.exhausted;
    if !is_full || flags.has(ScriptFlags::ALLOW_OOM) {
        return Ok(false);
    }
    if flags.has(ScriptFlags::COMPATIBLE) || flags.has(ScriptFlags::NO_WRITES) {
        return Ok(true);
    }
    Err(CommandError::Text(
        "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
    ))
}

/// What [`run`] runs.
pub(super) struct What {
    pub(super) handle: Handle,
    pub(super) kind: RunKind,
    pub(super) name: Arc<str>,
    pub(super) read_only: bool,
    pub(super) lacks_memory: bool,
    /// Its time is of interest.
    pub(super) is_measured: bool,
    pub(super) counted: Counted,
    /// Time after which it is ended; 0: when it has to, that is after the busy threshold.
    pub(super) budget_ms: u32,
}

/// Runs something compiled; its reply is the command's, now or when it is resumed to its end.
pub(super) fn run(
    call: &mut Call<'_>,
    what: What,
    keys: Args<'_>,
    arguments: Args<'_>,
) -> CommandResult {
    let What { handle, kind, name, read_only, lacks_memory, is_measured, counted, budget_ms } =
        what;
    let threshold_ms = call.instance.config.busy_reply_threshold_ms;
    let mut run = Run {
        kind,
        name,
        read_only,
        lacks_memory,
        wrote: false,
        killed: false,
        failure: Vec::new(),
        started_ms: call.now_ms,
        session: Session { resp3: kind == RunKind::Command, ..session(call.session) },
        resp3: call.session.resp3,
        command: Vec::new(),
    };
    let start = Start {
        handle,
        kind,
        keys,
        arguments,
        may_suspend: budget_ms == 0 && call.waitable().is_some(),
        budget_ms: if budget_ms == 0 { threshold_ms.max(SCRIPT_BUDGET_MS) } else { budget_ms },
    };
    let mut engine = call.instance.scripting.take_engine().map_err(owned)?;
    let began_ns = is_measured.then(|| call.instance.scripting.now_ns());
    call.instance.scripting.read = false;
    let mark = call.reply.mark();
    let Call { keyspace, instance, reply, .. } = call;
    let step = engine.start(&mut World { keyspace, instance, run: &mut run }, &start, reply);
    let scripting = &mut call.instance.scripting;
    scripting.give_back(engine);
    let nanoseconds = began_ns.map(|began_ns| scripting.now_ns() - began_ns);
    match step {
        Step::Done => {
            let answers_error = call.reply.written_since(mark).first() == Some(&b'-');
            scripting.count(&counted, nanoseconds, answers_error);
            if answers_error {
                let id = super::table().resolve(call.args);
                call.instance.statistics.commands[id.index()].failed += 1;
            }
        }
        Step::Failed(line) => {
            scripting.count(&counted, nanoseconds, true);
            if !run.failure.is_empty() && line.starts_with(&run.failure) {
                // It was a command's, which is counted again with the script's.
                call.instance.statistics.discount_error(&run.failure);
            }
            return Err(CommandError::Owned(line));
        }
        Step::Suspended => {
            run.command = call.args.iter().map(<[u8]>::to_vec).collect();
            let connection = call.waitable().unwrap_or_default();
            let wait = call.wait_for_script().unwrap_or_default();
            // One that wasn't measured from its beginning had a whole slice until here.
            let slice_ns = u64::from(SCRIPT_SLICE_MS) * 1_000_000;
            let nanoseconds = nanoseconds.unwrap_or(slice_ns);
            let suspended = Suspended { run, counted, nanoseconds, wait, connection };
            call.instance.suspend(suspended);
        }
    }
    Ok(())
}

/// What a script's commands run as: the caller's rights, a database of its own choice, RESP2.
fn session(caller: &Session) -> Session {
    let mut session = Session {
        database: caller.database,
        may_write: caller.may_write,
        user: caller.user.clone(),
        acl_epoch: caller.acl_epoch,
        ..Session::new(caller.id)
    };
    session.state.set(State::NO_WAIT, true);
    session.state.set(State::RESTRICTED, caller.state.has(State::RESTRICTED));
    session
}

fn load(call: &mut Call<'_>) -> CommandResult {
    let sha = sha1(call.args.at(2));
    match call.instance.scripting.scripts.find(&sha) {
        Some(index) => call.instance.scripting.scripts.pin(index),
        None => drop(add(call, sha, true)?),
    }
    call.reply.bulk(hex(&sha).as_bytes());
    Ok(())
}

fn exists(call: &mut Call<'_>) -> CommandResult {
    let shas = call.args.from(2);
    call.reply.array(shas.len());
    for sha in shas.iter() {
        let known = call.instance.scripting.scripts.find_hex(sha).is_some();
        call.reply.integer(i64::from(known));
    }
    Ok(())
}

fn flush(call: &mut Call<'_>) -> CommandResult {
    if !is_flush_mode(call.args) {
        return Err(CommandError::Text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    let scripting = &mut call.instance.scripting;
    let handles = scripting.scripts.flush();
    if let Some(engine) = &mut scripting.engine {
        handles.into_iter().for_each(|handle| engine.release(handle));
    }
    call.reply.ok();
    Ok(())
}

/// Whether there is no third argument or one that FLUSH knows.
pub(super) fn is_flush_mode(args: Args<'_>) -> bool {
    let known =
        |mode: &[u8]| mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async");
    args.len() == 2 || args.len() == 3 && known(args.at(2))
}

fn kill(call: &mut Call<'_>) -> CommandResult {
    end_running(call, RunKind::Script)
}

/// SCRIPT KILL and FUNCTION KILL.
pub(super) fn end_running(call: &mut Call<'_>, kind: RunKind) -> CommandResult {
    let Some(suspended) = &mut call.instance.scripting.suspended else {
        return Err(CommandError::Text("NOTBUSY No scripts in execution right now."));
    };
    let run = &mut suspended.run;
    if (run.kind == RunKind::Script) != (kind == RunKind::Script) {
        return Err(busy(run.kind));
    }
    if run.wrote {
        return Err(CommandError::Text(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ));
    }
    run.killed = true;
    call.reply.ok();
    Ok(())
}

fn debug(call: &mut Call<'_>) -> CommandResult {
    let mode = call.args.at(2).to_ascii_lowercase();
    match mode.as_slice() {
        b"no" => {
            call.reply.ok();
            Ok(())
        }
        b"yes" | b"sync" => Err(CommandError::Text("ERR the Lua debugger isn't supported")),
        _ => Err(CommandError::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    }
}

/// Not in Redis: calls and times of each function and script, the costliest first.
fn stats(call: &mut Call<'_>) -> CommandResult {
    let scripts = &call.instance.scripting.scripts;
    let mut rows: Vec<_> = scripts.iter().filter(|script| script.counter.calls > 0).collect();
    rows.sort_by_key(|script| std::cmp::Reverse(script.counter.nanoseconds));
    let functions = call.instance.scripting.functions.iter();
    let mut functions: Vec<_> = functions.filter(|function| function.counter.calls > 0).collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.counter.nanoseconds));
    call.reply.array(rows.len() + functions.len());
    for function in functions {
        call.reply.map(5);
        call.reply.bulk(b"function");
        call.reply.bulk(&function.name);
        figures(&mut call.reply, &function.counter);
    }
    for script in rows {
        call.reply.map(5);
        call.reply.bulk(b"sha1");
        call.reply.bulk(hex(&script.sha).as_bytes());
        figures(&mut call.reply, &script.counter);
    }
    Ok(())
}

/// The four figures of a counter as pairs of a map.
pub(super) fn figures(reply: &mut crate::store::Reply<'_>, counter: &Counter) {
    for (name, value) in [
        ("calls", counter.calls),
        ("failed_calls", counter.failed),
        ("usec", counter.nanoseconds / 1000),
        ("longest_usec", counter.longest_ns / 1000),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(value as i64);
    }
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "SCRIPT",
        &[
            ("DEBUG (YES|SYNC|NO)", "Set the debug mode for subsequent scripts executed."),
            (
                "EXISTS <sha1> [<sha1> ...]",
                "Return information about the existence of the scripts in the script cache.",
            ),
            ("FLUSH [ASYNC|SYNC]", "Flush the Lua scripts cache."),
            ("KILL", "Kill the currently executing Lua script."),
            ("LOAD <script>", "Load a script into the scripts cache without executing it."),
            ("STATS", "Return the calls and times of each function and script."),
        ],
    );
    Ok(())
}
