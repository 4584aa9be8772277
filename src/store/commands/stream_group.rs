//! Consumer groups of streams: making and ending them, acknowledging, and what is pending.

use super::collection::{
    READ, REMOVE, REMOVE_FAST, Run, WRITE, database, found, integer, is, row, wrote,
};
use super::stream::{end, high_end, id, id_bulk, ids, low_end, stream};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::Args;
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::execute::until_nul;
use crate::store::stream::{Group, Stream, StreamId};

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command {
        subcommands: &[
            group_row(("create", -5), WRITE, "Creates a consumer group", create),
            group_row(("createconsumer", 5), WRITE, "Creates a consumer in a group", create_consumer),
            group_row(("delconsumer", 5), REMOVE, "Removes a consumer from a group", delete_consumer),
            group_row(("destroy", 4), REMOVE, "Removes a consumer group", destroy),
            Command { keys: Keys::NONE, ..group_row(("help", 2), Flags::LOADING.and(Flags::STALE), "Explains the subcommands", usage) },
            group_row(("setid", -5), REMOVE, "Sets the last id that a group was given", set_id),
        ],
        flags: Flags(0),
        keys: Keys::NONE,
        ..group_row(("xgroup", -2), Flags(0), "A container for commands about consumer groups", usage)
    },
    stream(("xack", -4), REMOVE_FAST, Keys::ONE, ("5.0.0", "Acknowledges entries of a consumer group"), xack),
    stream(("xpending", -3), READ, Keys::ONE, ("5.0.0", "Returns what a consumer group hasn't acknowledged"), xpending),
];

pub(super) const SECOND: Keys = Keys { first: 2, last: 2, step: 1 };

const fn group_row(
    usage: (&'static str, i16),
    flags: Flags,
    summary: &'static str,
    run: Run,
) -> Command {
    row("stream", usage, flags, SECOND, ("5.0.0", summary), run)
}

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Print this help.",
];

fn usage(call: &mut Call<'_>) -> CommandResult {
    call.reply.array(HELP.len());
    HELP.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// `-NOGROUP No such key ...`
pub(super) fn no_group(key: &[u8], group: &[u8], context: &str) -> CommandError {
    let (key, group) = (until_nul(key, key.len()), until_nul(group, group.len()));
    let parts: [&[u8]; 6] =
        [b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'", context.as_bytes()];
    CommandError::Owned(parts.concat())
}

/// `-NOGROUP No such consumer group ...`
pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (until_nul(key, key.len()), until_nul(group, group.len()));
    let parts: [&[u8]; 5] =
        [b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"];
    CommandError::Owned(parts.concat())
}

/// The answer to options that a subcommand doesn't have.
pub(super) fn subcommand_syntax(call: &Call<'_>, container: &str) -> CommandError {
    const SHOWN_BYTES: usize = 128;
    let name = until_nul(call.args.at(1), SHOWN_BYTES);
    let parts: [&[u8]; 5] = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        name,
        b"'. Try ",
        container.as_bytes(),
        b" HELP.",
    ];
    CommandError::Owned(parts.concat())
}

/// The stream at argument 2; the hash is that of the first key.
fn stream_of<'c>(call: &'c mut Call<'_>) -> Result<&'c mut Stream, CommandError> {
    let (key, hash, now_ms) = (call.args.at(2), call.hash, call.now_ms);
    database(call).stream(key, hash, now_ms)?.ok_or(CommandError::Text(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
         option to create an empty stream automatically.",
    ))
}

/// The group that arguments 2 and 3 name.
fn group_of<'c>(call: &'c mut Call<'_>) -> Result<&'c mut Group, CommandError> {
    let args = call.args;
    let group = stream_of(call)?.groups.get_mut(args.at(3));
    group.ok_or_else(|| no_such_group(args.at(2), args.at(3)))
}

/// MKSTREAM and ENTRIESREAD from argument 5 on.
fn options(call: &Call<'_>, creates: bool) -> Result<(bool, Option<i64>), CommandError> {
    let (mut make, mut read) = (false, None);
    let mut index = 5;
    while let Some(option) = call.args.get(index) {
        match call.args.get(index + 1) {
            _ if creates && is(option, "mkstream") => make = true,
            Some(value) if is(option, "entriesread") => {
                let count = integer(value)?;
                if count < -1 {
                    return Err(CommandError::Text(
                        "ERR value for ENTRIESREAD must be positive or -1",
                    ));
                }
                read = (count != -1).then_some(count);
                index += 1;
            }
            _ => return Err(subcommand_syntax(call, "XGROUP")),
        }
        index += 1;
    }
    Ok((make, read))
}

fn create(call: &mut Call<'_>) -> CommandResult {
    let (make, read) = options(call, true)?;
    let (key, group, text) = (call.args.at(2), call.args.at(3), call.args.at(4));
    let exists = match stream_of(call) {
        Ok(stream) if text == b"$" => Some(stream.last_id),
        Ok(_) => Some(StreamId::MIN),
        Err(CommandError::Text(_)) if make => None,
        Err(error) => return Err(error),
    };
    if call.args.len() > 8 {
        return Err(subcommand_syntax(call, "XGROUP"));
    }
    let last_id = match text {
        b"$" => exists.unwrap_or_default(),
        text => id(text, 0)?,
    };
    let (hash, now_ms) = (call.hash, call.now_ms);
    let stream = database(call).stream_or_create(key, hash, now_ms)?;
    if stream.groups.contains_key(group) {
        return Err(CommandError::Text("BUSYGROUP Consumer Group name already exists"));
    }
    stream.groups.insert(group.to_vec(), Group::new(last_id, read));
    call.keyspace.dirty += 1;
    if exists.is_none() {
        // Only a key that is made counts as written for WATCH.
        let written = [(call.session.database, key.to_vec())];
        call.instance.watches.on_write(call.keyspace, &written, now_ms);
    }
    call.reply.ok();
    Ok(())
}

fn set_id(call: &mut Call<'_>) -> CommandResult {
    let (_, read) = options(call, false)?;
    let text = call.args.at(4);
    let newest = stream_of(call)?.last_id;
    let too_many = call.args.len() > 7;
    let refusal = subcommand_syntax(call, "XGROUP");
    let group = group_of(call)?;
    if too_many {
        return Err(refusal);
    }
    group.last_id = if text == b"$" { newest } else { end(text, 0)? };
    group.entries_read = read;
    call.keyspace.dirty += 1;
    call.reply.ok();
    Ok(())
}

fn destroy(call: &mut Call<'_>) -> CommandResult {
    let name = call.args.at(3);
    let removed = stream_of(call)?.groups.remove(name).is_some();
    if removed {
        let key = call.args.at(2);
        database(call).waited.touch(key);
    }
    call.keyspace.dirty += u64::from(removed);
    call.reply.integer(i64::from(removed));
    Ok(())
}

fn create_consumer(call: &mut Call<'_>) -> CommandResult {
    let (name, now_ms) = (call.args.at(4), call.now_ms);
    let made = group_of(call)?.create_consumer(name, now_ms);
    call.keyspace.dirty += u64::from(made);
    call.reply.integer(i64::from(made));
    Ok(())
}

fn delete_consumer(call: &mut Call<'_>) -> CommandResult {
    let name = call.args.at(4);
    let pending = group_of(call)?.delete_consumer(name);
    call.keyspace.dirty += u64::from(pending.is_some());
    call.reply.integer(pending.unwrap_or_default() as i64);
    Ok(())
}

fn xack(call: &mut Call<'_>) -> CommandResult {
    let (stream, args, reply) = found(call, Database::stream)?;
    let Some(group) = stream.and_then(|stream| stream.groups.get_mut(args.at(2))) else {
        reply.integer(0);
        return Ok(());
    };
    let ids = ids(args.from(3))?;
    let count = ids.into_iter().filter(|id| group.acknowledge(*id)).count();
    reply.integer(count as i64);
    wrote(call, count, false);
    Ok(())
}

/// XPENDING's longer form.
struct Window<'a> {
    idle_ms: i64,
    low: StreamId,
    high: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Window<'a> {
    fn parse(args: Args<'a>) -> Result<Option<Window<'a>>, CommandError> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(CommandError::Syntax);
        }
        let (mut first, mut idle_ms) = (3, 0);
        if is(args.at(3), "idle") {
            idle_ms = integer(args.at(4))?;
            if args.len() < 8 {
                return Err(CommandError::Syntax);
            }
            first = 5;
        }
        let count = integer(args.at(first + 2))?.max(0) as usize;
        let (low, high) = (low_end(args.at(first))?, high_end(args.at(first + 1))?);
        Ok(Some(Window { idle_ms, low, high, count, consumer: args.get(first + 3) }))
    }
}

fn xpending(call: &mut Call<'_>) -> CommandResult {
    let window = Window::parse(call.args)?;
    let now_ms = call.now_ms as i64;
    let (stream, args, reply) = found(call, Database::stream)?;
    let (key, name) = (args.at(1), args.at(2));
    let group = stream.and_then(|stream| stream.groups.get(name));
    let group = group.ok_or_else(|| no_group(key, name, ""))?;
    let Some(window) = window else {
        summary(reply, group);
        return Ok(());
    };
    let mark = reply.mark();
    let mut shown = 0;
    if window.low <= window.high {
        for (id, pending) in group.pending.range(window.low..=window.high) {
            let idle_ms = now_ms.saturating_sub(pending.delivered_ms);
            let others = window.consumer.is_some_and(|consumer| *pending.consumer != *consumer);
            if others || (window.idle_ms != 0 && idle_ms < window.idle_ms) {
                continue;
            }
            if shown == window.count {
                break;
            }
            reply.array(4);
            id_bulk(reply, *id);
            reply.bulk(&pending.consumer);
            reply.integer(idle_ms.max(0));
            reply.integer(pending.deliveries);
            shown += 1;
        }
    }
    reply.array_at(mark, shown);
    Ok(())
}

fn summary(reply: &mut crate::store::Reply<'_>, group: &Group) {
    reply.array(4);
    reply.integer(group.pending.len() as i64);
    let ends = group.pending.first_key_value().zip(group.pending.last_key_value());
    let Some(((first, _), (last, _))) = ends else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    id_bulk(reply, *first);
    id_bulk(reply, *last);
    let busy = || group.consumers.iter().filter(|(_, consumer)| !consumer.pending.is_empty());
    reply.array(busy().count());
    for (name, consumer) in busy() {
        reply.array(2);
        reply.bulk(name);
        reply.bulk_integer(consumer.pending.len() as i64);
    }
}
