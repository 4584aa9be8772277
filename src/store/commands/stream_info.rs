//! XINFO: what is told about a stream, its groups and their consumers.

use super::collection::{READ, Run, database, integer, is, row};
use super::stream::{id_bulk, show, show_all};
use super::stream_group::{SECOND, no_such_group, subcommand_syntax};
use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::store::Reply;
use crate::store::call::CommandError;
use crate::store::stream::{Consumer, Group, Stream};

/// What XINFO STREAM FULL shows of each list, if not told otherwise.
const SHOWN: i64 = 10;

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[Command {
    subcommands: &[
        info_row(("consumers", 4), READ, "Returns the consumers of a group", consumers),
        info_row(("groups", 3), READ, "Returns the consumer groups of a stream", groups),
        Command { keys: Keys::NONE, ..info_row(("help", 2), Flags::LOADING.and(Flags::STALE), "Explains the subcommands", usage) },
        info_row(("stream", -3), READ, "Returns details about a stream", stream),
    ],
    keys: Keys::NONE,
    ..info_row(("xinfo", -2), Flags(0), "A container for commands that describe streams", usage)
}];

const fn info_row(
    usage: (&'static str, i16),
    flags: Flags,
    summary: &'static str,
    run: Run,
) -> Command {
    row("stream", usage, flags, SECOND, ("5.0.0", summary), run)
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "XINFO",
        &[
            ("CONSUMERS <key> <groupname>", "Show consumers of <groupname>."),
            ("GROUPS <key>", "Show the stream consumer groups."),
            ("STREAM <key> [FULL [COUNT <count>]", "Show information about the stream."),
        ],
    );
    Ok(())
}

/// The stream at argument 2 and the reply.
fn looked_up<'c, 'a>(
    call: &'c mut Call<'a>,
) -> Result<(&'c mut Stream, &'c mut Reply<'a>), CommandError> {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let stream = keyspace.database(session.database).stream(args.at(2), *hash, *now_ms)?;
    Ok((stream.ok_or(CommandError::NoSuchKey)?, reply))
}

fn consumers(call: &mut Call<'_>) -> CommandResult {
    let (args, now_ms) = (call.args, call.now_ms as i64);
    let (stream, reply) = looked_up(call)?;
    let group = stream.groups.get(args.at(3));
    let group = group.ok_or_else(|| no_such_group(args.at(2), args.at(3)))?;
    reply.array(group.consumers.len());
    for (name, consumer) in &group.consumers {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"pending");
        reply.integer(consumer.pending.len() as i64);
        reply.bulk(b"idle");
        reply.integer((now_ms.saturating_sub(consumer.seen_ms)).max(0));
        reply.bulk(b"inactive");
        reply.integer(consumer.active_ms.map_or(-1, |at| now_ms.saturating_sub(at)));
    }
    Ok(())
}

fn groups(call: &mut Call<'_>) -> CommandResult {
    let (stream, reply) = looked_up(call)?;
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumers.len() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending.len() as i64);
        progress(reply, stream, group);
    }
    Ok(())
}

/// How far a group is.
fn progress(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    reply.bulk(b"last-delivered-id");
    id_bulk(reply, group.last_id);
    for (name, value) in [("entries-read", group.entries_read), ("lag", stream.lag(group))] {
        reply.bulk(name.as_bytes());
        match value {
            Some(value) => reply.integer(value),
            None => reply.null(),
        }
    }
}

fn stream(call: &mut Call<'_>) -> CommandResult {
    let options = call.args.from(3);
    let refusal = subcommand_syntax(call, "XINFO");
    // Whether there is such a stream is asked first.
    database(call);
    let (stream, reply) = looked_up(call)?;
    let count = match options.len() {
        0 => None,
        1 if is(options.at(0), "full") => Some(SHOWN),
        3 if is(options.at(0), "full") && is(options.at(1), "count") => {
            Some(integer(options.at(2))?)
        }
        _ => return Err(refusal),
    };
    let count = count.map(|count| if count < 0 { SHOWN } else { count } as usize);
    reply.map(if count.is_some() { 9 } else { 10 });
    counters(reply, stream);
    match count {
        Some(count) => full(reply, stream, count),
        None => edges(reply, stream),
    }
    Ok(())
}

fn counters(reply: &mut Reply<'_>, stream: &Stream) {
    reply.bulk(b"length");
    reply.integer(stream.len() as i64);
    reply.bulk(b"radix-tree-keys");
    reply.integer(stream.nodes() as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.integer(stream.radix_nodes() as i64);
    reply.bulk(b"last-generated-id");
    id_bulk(reply, stream.last_id);
    reply.bulk(b"max-deleted-entry-id");
    id_bulk(reply, stream.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.integer(stream.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    id_bulk(reply, stream.first_id);
}

fn edges(reply: &mut Reply<'_>, stream: &Stream) {
    use crate::store::stream::StreamId;
    reply.bulk(b"groups");
    reply.integer(stream.groups.len() as i64);
    for (name, reverse) in [("first-entry", false), ("last-entry", true)] {
        reply.bulk(name.as_bytes());
        match stream.range(StreamId::MIN, StreamId::MAX, reverse).next() {
            Some(entry) => show(reply, entry),
            None => reply.null(),
        }
    }
}

fn full(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    reply.bulk(b"entries");
    show_all(reply, stream.iter(), count);
    reply.bulk(b"groups");
    reply.array(stream.groups.len());
    let count = if count == 0 { usize::MAX } else { count };
    for (name, group) in &stream.groups {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        progress(reply, stream, group);
        reply.bulk(b"pel-count");
        reply.integer(group.pending.len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending.len().min(count));
        for (id, pending) in group.pending.iter().take(count) {
            reply.array(4);
            id_bulk(reply, *id);
            reply.bulk(&pending.consumer);
            reply.integer(pending.delivered_ms);
            reply.integer(pending.deliveries);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers.len());
        for (name, consumer) in &group.consumers {
            full_consumer(reply, group, (name, consumer), count);
        }
    }
}

fn full_consumer(
    reply: &mut Reply<'_>,
    group: &Group,
    (name, consumer): (&[u8], &Consumer),
    count: usize,
) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(name);
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms);
    reply.bulk(b"active-time");
    reply.integer(consumer.active_ms.unwrap_or(-1));
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending.len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending.len().min(count));
    for id in consumer.pending.iter().take(count) {
        let pending = group.pending.get(id);
        reply.array(3);
        id_bulk(reply, *id);
        reply.integer(pending.map_or(0, |pending| pending.delivered_ms));
        reply.integer(pending.map_or(0, |pending| pending.deliveries));
    }
}
