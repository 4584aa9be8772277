//! XREAD and XREADGROUP: entries above given ids, for a reader or for a consumer of a group.

use super::blocking::milliseconds;
use super::collection::{READ, integer, is};
use super::stream::{id, id_bulk, show, show_all, stream};
use super::stream_group::no_group;
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::blocked::Waiting;
use crate::store::call::CommandError;
use crate::store::feed::{Feed, GroupAt};
use crate::store::stream::{Stream, StreamId};
use crate::store::{Args, ArgsBuffer, Kind, Reply};

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    stream(("xread", -4), READ.and(Flags::BLOCKING), Keys::NONE, ("5.0.0", "Returns entries above given ids of several streams"), xread),
    stream(("xreadgroup", -7), WRITE_BLOCKING, Keys::NONE, ("5.0.0", "Returns entries for a consumer of a group"), xreadgroup),
];

const WRITE_BLOCKING: Flags = Flags::WRITE.and(Flags::BLOCKING);

/// Where the keys of XREAD and XREADGROUP stand: first and number.
pub(in crate::store) fn stream_keys(args: Args<'_>) -> Option<(usize, usize)> {
    let mut index = 1;
    while let Some(option) = args.get(index) {
        index += match option {
            _ if is(option, "streams") => {
                let rest = args.len() - index - 1;
                return (rest > 0 && rest.is_multiple_of(2)).then_some((index + 1, rest / 2));
            }
            _ if is(option, "block") || is(option, "count") => 2,
            _ if is(option, "group") => 3,
            _ if is(option, "noack") => 1,
            _ => return None,
        };
    }
    None
}

/// What to read.
struct Request<'a> {
    count: usize,
    /// Whether to wait for entries, and for how many milliseconds; none of them: for ever.
    block: Option<Option<u64>>,
    /// Group and consumer.
    reader: Option<(&'a [u8], &'a [u8])>,
    /// Entries needn't be acknowledged.
    no_acknowledge: bool,
    keys: Args<'a>,
    ids: Args<'a>,
}

/// From where to read a stream.
#[derive(Clone, Copy)]
enum From {
    /// What the group hasn't been given yet.
    New,
    /// What is above the id; for a consumer, of what it has and hasn't acknowledged.
    Above(StreamId),
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>, name: &str, grouped: bool) -> Result<Request<'a>, CommandError> {
        let mut request = Request {
            count: 0,
            block: None,
            reader: None,
            no_acknowledge: false,
            keys: args.first(0),
            ids: args.first(0),
        };
        let mut index = 1;
        let mut complete = false;
        while let (Some(option), false) = (args.get(index), complete) {
            let rest = args.len() - index - 1;
            index += 1;
            if is(option, "block") && rest > 0 {
                request.block = Some(milliseconds(args.at(index))?);
                index += 1;
            } else if is(option, "count") && rest > 0 {
                request.count = integer(args.at(index))?.max(0) as usize;
                index += 1;
            } else if is(option, "streams") && rest > 0 {
                if rest % 2 == 1 {
                    return Err(unbalanced(name, grouped));
                }
                request.keys = args.from(index).first(rest / 2);
                request.ids = args.from(index + rest / 2);
                complete = true;
            } else if is(option, "group") && rest > 1 {
                only_for_groups(grouped, "GROUP")?;
                request.reader = Some((args.at(index), args.at(index + 1)));
                index += 2;
            } else if is(option, "noack") {
                only_for_groups(grouped, "NOACK")?;
                request.no_acknowledge = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if !complete {
            return Err(CommandError::Syntax);
        }
        if grouped && request.reader.is_none() {
            return Err(CommandError::Text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(request)
    }
}

fn unbalanced(name: &str, grouped: bool) -> CommandError {
    let symbol = if grouped { '>' } else { '$' };
    let text = format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be specified."
    );
    CommandError::Owned(text.into_bytes())
}

fn only_for_groups(grouped: bool, option: &str) -> CommandResult {
    if grouped {
        return Ok(());
    }
    let text = format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    );
    Err(CommandError::Owned(text.into_bytes()))
}

fn xread(call: &mut Call<'_>) -> CommandResult {
    let request = Request::parse(call.args, "xread", false)?;
    serve_or_wait(call, &request)
}

fn xreadgroup(call: &mut Call<'_>) -> CommandResult {
    let request = Request::parse(call.args, "xreadgroup", true)?;
    serve_or_wait(call, &request)
}

fn serve_or_wait(call: &mut Call<'_>, request: &Request<'_>) -> CommandResult {
    let from = starts(call, request)?;
    if serve(call, request, &from) {
        return Ok(());
    }
    let Some(timeout_ms) = request.block else {
        call.reply.null_array();
        return Ok(());
    };
    let again = with_ids(call.args, request, &from);
    call.wait(Waiting {
        keys: request.keys,
        kind: Some(Kind::Stream),
        or_gone: request.reader.is_some(),
        timeout_ms,
        at_once: |reply| reply.null_array(),
        too_late: |reply| reply.null_array(),
        again: Some(again),
    })
}

/// The command with the ids for which `$` stands now, because it means something else later.
fn with_ids(args: Args<'_>, request: &Request<'_>, from: &[From]) -> ArgsBuffer {
    let mut again = ArgsBuffer::default();
    again.extend(args.first(args.len() - request.ids.len()).iter());
    for (text, from) in request.ids.iter().zip(from) {
        match from {
            From::Above(id) if text == b"$" => {
                let (text, len) = id.text();
                again.push(&text[..len]);
            }
            _ => again.push(text),
        }
    }
    again
}

/// Where to begin in each stream; refuses what can't be read.
fn starts(call: &mut Call<'_>, request: &Request<'_>) -> Result<Vec<From>, CommandError> {
    let Call { keyspace, session, now_ms, .. } = call;
    let hasher = keyspace.hasher();
    let database = keyspace.database(session.database);
    let mut from = Vec::with_capacity(request.keys.len());
    for (key, text) in request.keys.iter().zip(request.ids.iter()) {
        let stream = database.stream(key, hasher.hash(key), *now_ms)?;
        let stream = stream.map(|stream| &*stream);
        from.push(match request.reader {
            None => read_start(stream, text)?,
            Some((group, _)) => {
                if !stream.is_some_and(|stream| stream.groups.contains_key(group)) {
                    return Err(no_group(key, group, " in XREADGROUP with GROUP option"));
                }
                group_start(text)?
            }
        });
    }
    Ok(from)
}

fn read_start(stream: Option<&Stream>, text: &[u8]) -> Result<From, CommandError> {
    Ok(From::Above(match text {
        b"$" => stream.map_or(StreamId::MIN, |stream| stream.last_id),
        b"+" => {
            stream.and_then(|stream| stream.last_entry_id()?.previous()).unwrap_or(StreamId::MIN)
        }
        b">" => {
            return Err(CommandError::Text(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            ));
        }
        _ => id(text, 0)?,
    }))
}

fn group_start(text: &[u8]) -> Result<From, CommandError> {
    match text {
        b">" => Ok(From::New),
        b"$" | b"+" => {
            let symbol = char::from(text[0]);
            let text = format!(
                "ERR The {symbol} ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The {symbol} ID would just \
                 return an empty result set."
            );
            Err(CommandError::Owned(text.into_bytes()))
        }
        // Redis keeps `>` as the highest id.
        _ => Ok(match id(text, 0)? {
            StreamId::MAX => From::New,
            id => From::Above(id),
        }),
    }
}

/// Answers with what there is; whether there is anything.
fn serve(call: &mut Call<'_>, request: &Request<'_>, from: &[From]) -> bool {
    let Call { keyspace, instance, session, now_ms, reply, .. } = call;
    let feed = &mut instance.feed;
    if request.reader.is_some() {
        feed.says_itself();
    }
    let hasher = keyspace.hasher();
    let mark = reply.mark();
    let (mut served, mut changes) = (0, 0);
    let number = session.database;
    let database = keyspace.database(number);
    for (key, from) in request.keys.iter().zip(from) {
        let Ok(Some(stream)) = database.stream(key, hasher.hash(key), *now_ms) else { continue };
        let before = reply.mark();
        if !reply.is_resp3() {
            reply.array(2);
        }
        reply.bulk(key);
        let shown = match (request.reader, *from) {
            (None, From::Above(id)) => above(reply, stream, id, request.count),
            (None, From::New) => false,
            (Some(reader), From::Above(id)) => {
                let at = GroupAt { database: number, key, group: reader.0 };
                changes += seen(stream, reader, (feed, at), *now_ms);
                let given = history(reply, stream, reader, (id, request.count), *now_ms);
                changes += given.len() as u64;
                tell_given(stream, reader, &given, (feed, at));
                true
            }
            (Some(reader), From::New) => {
                let at = GroupAt { database: number, key, group: reader.0 };
                changes += seen(stream, reader, (feed, at), *now_ms);
                let given = deliver(reply, stream, reader, request, *now_ms);
                changes += given.len() as u64;
                tell_given(stream, reader, &given, (feed, at));
                !given.is_empty()
            }
        };
        if shown {
            served += 1;
        } else {
            reply.rewind(before);
        }
    }
    keyspace.dirty += changes;
    if served > 0 && reply.is_resp3() {
        reply.prefix(mark, |reply| reply.map(served));
    } else if served > 0 {
        reply.array_at(mark, served);
    }
    served > 0
}

/// Shows entries above `id`; whether there are any.
fn above(reply: &mut Reply<'_>, stream: &Stream, id: StreamId, count: usize) -> bool {
    if stream.last_entry_id().is_none_or(|last| last <= id) {
        return false;
    }
    let low = id.next().unwrap_or(StreamId::MAX);
    show_all(reply, stream.range(low, StreamId::MAX, false), count);
    true
}

/// Notes that a consumer asks; how many consumers that made.
fn seen(
    stream: &mut Stream,
    (group, consumer): (&[u8], &[u8]),
    (feed, at): (&mut Feed, GroupAt<'_>),
    now_ms: u64,
) -> u64 {
    let made = stream.groups.get_mut(group).is_some_and(|group| group.seen(consumer, now_ms));
    if made {
        feed.consumer_made(at, consumer);
    }
    u64::from(made)
}

/// Tells which entries a consumer was given; without acknowledgements the group only moves on.
fn tell_given(
    stream: &Stream,
    (group, consumer): (&[u8], &[u8]),
    given: &[StreamId],
    (feed, at): (&mut Feed, GroupAt<'_>),
) {
    let Some(group) = stream.groups.get(group).filter(|_| feed.is_on()) else { return };
    let of_consumer = |id: &&StreamId| {
        group.consumers.get(consumer).is_some_and(|consumer| consumer.pending.contains(id))
    };
    given.iter().filter(of_consumer).for_each(|id| feed.entry_given(at, consumer, *id, group));
    if !given.is_empty() {
        feed.group_moved(at, group);
    }
}

/// Shows what a consumer has above `id` and hasn't acknowledged; returns what of that was given again.
fn history(
    reply: &mut Reply<'_>,
    stream: &mut Stream,
    (group, consumer): (&[u8], &[u8]),
    (id, count): (StreamId, usize),
    now_ms: u64,
) -> Vec<StreamId> {
    let low = id.next().unwrap_or(StreamId::MIN);
    let count = if count == 0 { usize::MAX } else { count };
    let ids: Vec<StreamId> = stream
        .groups
        .get(group)
        .and_then(|group| group.consumers.get(consumer))
        .map(|consumer| consumer.pending.range(low..).copied().take(count).collect())
        .unwrap_or_default();
    reply.array(ids.len());
    let mut redelivered = Vec::new();
    for id in ids {
        match stream.entry(id) {
            Some(entry) => {
                show(reply, entry);
                redelivered.push(id);
            }
            None => {
                reply.array(2);
                id_bulk(reply, id);
                reply.null_array();
            }
        }
    }
    let Some(group) = stream.groups.get_mut(group) else { return redelivered };
    for id in &redelivered {
        if let Some(pending) = group.pending.get_mut(id) {
            pending.delivered_ms = now_ms as i64;
            pending.deliveries = pending.deliveries.wrapping_add(1);
        }
    }
    redelivered
}

/// Shows a consumer what its group hasn't been given yet; returns which entries that were.
fn deliver(
    reply: &mut Reply<'_>,
    stream: &mut Stream,
    (group, consumer): (&[u8], &[u8]),
    request: &Request<'_>,
    now_ms: u64,
) -> Vec<StreamId> {
    let Some(last_id) = stream.groups.get(group).map(|group| group.last_id) else {
        return Vec::new();
    };
    if stream.last_entry_id().is_none_or(|last| last <= last_id) {
        return Vec::new();
    }
    let count = if request.count == 0 { usize::MAX } else { request.count };
    let low = last_id.next().unwrap_or(StreamId::MAX);
    let mark = reply.mark();
    let mut ids = Vec::new();
    for entry in stream.range(low, StreamId::MAX, false).take(count) {
        show(reply, entry);
        ids.push(entry.id);
    }
    reply.array_at(mark, ids.len());
    for id in &ids {
        stream.deliver(group, *id);
    }
    if let Some(group) = stream.groups.get_mut(group)
        && !request.no_acknowledge
    {
        for id in &ids {
            group.assign(*id, consumer, now_ms as i64, 1);
        }
        group.active(consumer, now_ms);
    }
    ids
}
