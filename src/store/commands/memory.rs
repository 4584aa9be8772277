//! MEMORY: what a key costs, and what the process uses.

use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::proto::resp::strict_integer;
use crate::store::{CommandError, meter};

/// This file's rows.
pub const COMMANDS: &[Command] = &[Command {
    flags: Flags(0),
    subcommands: &[
        row("doctor", 2, "Says what is wrong with the memory in use", "4.0.0", doctor),
        row("help", 2, "Lists the subcommands", "4.0.0", usage),
        row("purge", 2, "Gives free memory back to the system", "4.0.0", purge),
        row("stats", 2, "Returns figures about memory", "4.0.0", stats),
        Command {
            flags: Flags::READONLY,
            keys: Keys { first: 2, last: 2, step: 1 },
            ..row("usage", -3, "Returns the bytes of a key and its value", "4.0.0", key_usage)
        },
    ],
    ..row("memory", -2, "A container for commands about memory", "4.0.0", usage)
}];

const fn row(
    name: &'static str,
    arity: i16,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (flags, keys) = (Flags::LOADING.and(Flags::STALE), Keys::NONE);
    Command { name, arity, flags, keys, group: "server", summary, since, run, subcommands: &[] }
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "MEMORY",
        &[
            ("DOCTOR", "Return memory problems reports."),
            ("PURGE", "Attempt to purge dirty pages for reclamation by the allocator."),
            ("STATS", "Return information about the memory usage of the server."),
            (
                "USAGE <key> [SAMPLES <count>]",
                "Return memory in bytes used by <key> and its value; all of it is counted.",
            ),
        ],
    );
    Ok(())
}

fn key_usage(call: &mut Call<'_>) -> CommandResult {
    match call.args.len() {
        3 => {}
        5 if call.args.at(3).eq_ignore_ascii_case(b"samples") => {
            let samples = strict_integer(call.args.at(4)).ok_or(CommandError::NotInteger)?;
            if samples < 0 {
                return Err(CommandError::Syntax);
            }
        }
        _ => return Err(CommandError::Syntax),
    }
    let database = call.keyspace.database(call.session.database);
    match database.peek(call.args.at(2), call.hash, call.now_ms) {
        Some(entry) => call.reply.integer(entry.memory_bytes() as i64),
        None => call.reply.null(),
    }
    Ok(())
}

fn doctor(call: &mut Call<'_>) -> CommandResult {
    let process = &call.instance.process;
    let text = match process.fragmentation() {
        Some(ratio) if ratio > 1.5 && process.resident_bytes > 100 << 20 => format!(
            "The process holds {ratio:.2} times the memory that is in use. After a large deletion that is normal; the \
             allocator gives it back within seconds.\n"
        ),
        _ => "Nothing wrong was found with the memory in use.\n".to_owned(),
    };
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// As soon as the store isn't held any more.
fn purge(call: &mut Call<'_>) -> CommandResult {
    call.instance.nudges.push(Box::new(meter::purge));
    call.reply.ok();
    Ok(())
}

fn stats(call: &mut Call<'_>) -> CommandResult {
    let process = call.instance.process;
    let keys: usize = call.keyspace.databases().iter().map(|database| database.len()).sum();
    let figures = [
        ("peak.allocated", process.peak_bytes),
        ("total.allocated", process.allocated_bytes),
        ("keys.count", keys as u64),
        (
            "keys.bytes-per-key",
            process.allocated_bytes.checked_div(keys as u64).unwrap_or_default(),
        ),
        ("allocator.allocated", process.allocated_bytes),
        ("allocator.active", process.active_bytes),
        ("allocator.resident", process.resident_bytes),
    ];
    call.reply.map(figures.len() + 1);
    for (name, value) in figures {
        call.reply.bulk(name.as_bytes());
        call.reply.integer(value as i64);
    }
    call.reply.bulk(b"fragmentation");
    call.reply.double(process.fragmentation().unwrap_or_default());
    Ok(())
}
