//! XCLAIM and XAUTOCLAIM: entries that a consumer didn't acknowledge go to another one.

use super::collection::{REMOVE_FAST, integer, is};
use super::stream::{id, id_bulk, low_end, show, stream};
use super::stream_group::no_group;
use super::{Call, Command, CommandResult, Keys};
use crate::store::Args;
use crate::store::Reply;
use crate::store::call::CommandError;
use crate::store::execute::until_nul;
use crate::store::feed::{Feed, GroupAt};
use crate::store::replay::REPLAY_MS;
use crate::store::stream::{Stream, StreamId};

/// Pending entries that XAUTOCLAIM looks at for each that it may answer with.
const ATTEMPTS_PER_ENTRY: i64 = 10;

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    stream(("xclaim", -6), REMOVE_FAST, Keys::ONE, ("5.0.0", "Gives unacknowledged entries to another consumer"), xclaim),
    stream(("xautoclaim", -6), REMOVE_FAST, Keys::ONE, ("6.2.0", "Gives entries that nobody acknowledged for long to another consumer"), xautoclaim),
];

/// XCLAIM's arguments.
struct Claim {
    ids: Vec<StreamId>,
    least_idle_ms: i64,
    delivered_ms: Option<i64>,
    deliveries: Option<i64>,
    force: bool,
    only_ids: bool,
    last_id: StreamId,
}

impl Claim {
    fn parse(args: Args<'_>, now_ms: i64) -> Result<Claim, CommandError> {
        let least_idle_ms = number(args.at(4), "min-idle-time argument")?.max(0);
        let ids: Vec<StreamId> =
            args.from(5).iter().map_while(|text| StreamId::parse(text, 0)).collect();
        let mut claim = Claim {
            least_idle_ms,
            delivered_ms: None,
            deliveries: None,
            force: false,
            only_ids: false,
            last_id: StreamId::MIN,
            ids,
        };
        let mut index = 5 + claim.ids.len();
        while let Some(option) = args.get(index) {
            index += 1;
            if is(option, "force") {
                claim.force = true;
                continue;
            } else if is(option, "justid") {
                claim.only_ids = true;
                continue;
            }
            let refusal = || {
                let option = until_nul(option, option.len());
                let parts: [&[u8]; 3] = [b"ERR Unrecognized XCLAIM option '", option, b"'"];
                CommandError::Owned(parts.concat())
            };
            let value = args.get(index).ok_or_else(refusal)?;
            index += 1;
            if is(option, "idle") {
                let idle_ms = number(value, "IDLE option argument")?;
                claim.delivered_ms = Some(now_ms.wrapping_sub(idle_ms));
            } else if is(option, "time") {
                claim.delivered_ms = Some(number(value, "TIME option argument")?);
            } else if is(option, "retrycount") {
                claim.deliveries = Some(number(value, "RETRYCOUNT option argument")?);
            } else if is(option, "lastid") {
                claim.last_id = id(value, 0)?;
            } else {
                return Err(refusal());
            }
        }
        claim.deliveries = claim.deliveries.filter(|count| *count >= 0);
        let may_be = |at: &i64| (0..=now_ms).contains(at) || now_ms == REPLAY_MS as i64;
        claim.delivered_ms = claim.delivered_ms.filter(may_be);
        Ok(claim)
    }
}

fn number(text: &[u8], what: &str) -> Result<i64, CommandError> {
    integer(text)
        .map_err(|_| CommandError::Owned(format!("ERR Invalid {what} for XCLAIM").into_bytes()))
}

/// The stream at the first key, with what besides it a claim needs.
fn stream_at<'c, 'r>(
    call: &'c mut Call<'r>,
) -> Result<(Option<&'c mut Stream>, &'c mut Feed, &'c mut Reply<'r>), CommandError> {
    let Call { keyspace, instance, session, args, hash, now_ms, reply } = call;
    instance.feed.says_itself();
    let database = keyspace.database(session.database);
    Ok((database.stream(args.at(1), *hash, *now_ms)?, &mut instance.feed, reply))
}

fn xclaim(call: &mut Call<'_>) -> CommandResult {
    let (now_ms, args, database) = (call.now_ms, call.args, call.session.database);
    let (stream, feed, reply) = stream_at(call)?;
    let (name, consumer) = (args.at(2), args.at(3));
    let stream = stream.filter(|stream| stream.groups.contains_key(name));
    let stream = stream.ok_or_else(|| no_group(args.at(1), name, ""))?;
    let claim = Claim::parse(args, now_ms as i64)?;
    let Some(group) = stream.groups.get_mut(name) else { return Ok(()) };
    let at = GroupAt { database, key: args.at(1), group: name };
    let moves = claim.last_id > group.last_id;
    group.last_id = group.last_id.max(claim.last_id);
    if moves {
        feed.group_moved(at, group);
    }
    let created = group.seen(consumer, now_ms);
    if created {
        feed.consumer_made(at, consumer);
    }
    let mark = reply.mark();
    let (mut claimed, mut removed) = (0, 0);
    for id in &claim.ids {
        match take(stream, (feed, at), consumer, *id, &claim, now_ms) {
            Taken::Claimed => {
                answer(reply, stream, *id, claim.only_ids);
                claimed += 1;
            }
            Taken::Gone => removed += 1,
            Taken::Not => {}
        }
    }
    reply.array_at(mark, claimed);
    call.keyspace.dirty += (claimed + removed) as u64 + u64::from(created || moves);
    Ok(())
}

enum Taken {
    Claimed,
    /// It was pending, and there is no such entry any more.
    Gone,
    Not,
}

fn take(
    stream: &mut Stream,
    (feed, at): (&mut Feed, GroupAt<'_>),
    consumer: &[u8],
    id: StreamId,
    claim: &Claim,
    now_ms: u64,
) -> Taken {
    let exists = stream.entry(id).is_some();
    let Some(group) = stream.groups.get_mut(at.group) else { return Taken::Not };
    if !exists {
        if !group.acknowledge(id) {
            return Taken::Not;
        }
        feed.entry_gone(at, id);
        return Taken::Gone;
    }
    let now_ms = now_ms as i64;
    // One made by force counts as delivered once.
    let before = match group.pending.get(&id) {
        Some(pending) => {
            let idle_ms = now_ms.saturating_sub(pending.delivered_ms);
            if claim.least_idle_ms > 0 && idle_ms < claim.least_idle_ms {
                return Taken::Not;
            }
            pending.deliveries
        }
        None if claim.force => 1,
        None => return Taken::Not,
    };
    let more = i64::from(!claim.only_ids);
    let deliveries = claim.deliveries.unwrap_or(before.wrapping_add(more));
    let delivered_ms = claim.delivered_ms.unwrap_or(now_ms);
    group.assign(id, consumer, delivered_ms, deliveries);
    // A replay has no clock of its own.
    let active_ms = if now_ms == REPLAY_MS as i64 { delivered_ms } else { now_ms };
    group.active(consumer, active_ms as u64);
    feed.entry_given(at, consumer, id, group);
    Taken::Claimed
}

fn answer(reply: &mut Reply<'_>, stream: &Stream, id: StreamId, only_id: bool) {
    match stream.entry(id) {
        Some(entry) if !only_id => show(reply, entry),
        _ => id_bulk(reply, id),
    }
}

fn xautoclaim(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let least_idle_ms = integer(args.at(4))
        .map_err(|_| CommandError::Text("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?
        .max(0);
    let mut from = low_end(args.at(5))?;
    let (mut count, only_ids) = auto_options(args)?;
    let (now_ms, database) = (call.now_ms, call.session.database);
    let (stream, feed, reply) = stream_at(call)?;
    let (name, consumer) = (args.at(2), args.at(3));
    let stream = stream.filter(|stream| stream.groups.contains_key(name));
    let stream = stream.ok_or_else(|| no_group(args.at(1), name, ""))?;
    let at = GroupAt { database, key: args.at(1), group: name };
    let claim = Claim {
        ids: Vec::new(),
        least_idle_ms,
        delivered_ms: None,
        deliveries: None,
        force: false,
        only_ids,
        last_id: StreamId::MIN,
    };
    let created = stream.groups.get_mut(name).is_some_and(|group| group.seen(consumer, now_ms));
    if created {
        feed.consumer_made(at, consumer);
    }
    let mark = reply.mark();
    let (mut claimed, mut gone) = (0, Vec::new());
    let mut attempts = count * ATTEMPTS_PER_ENTRY;
    let mut next = next_pending(stream, name, Some(from));
    while let Some(id) = next.filter(|_| attempts > 0 && count > 0) {
        attempts -= 1;
        from = id;
        match take(stream, (feed, at), consumer, id, &claim, now_ms) {
            Taken::Claimed => {
                answer(reply, stream, id, only_ids);
                claimed += 1;
                count -= 1;
            }
            Taken::Gone => {
                gone.push(id);
                count -= 1;
            }
            Taken::Not => {}
        }
        next = next_pending(stream, name, from.next());
    }
    reply.array_at(mark, claimed);
    reply.prefix(mark, |reply| {
        reply.array(3);
        id_bulk(reply, next.unwrap_or_default());
    });
    reply.array(gone.len());
    gone.iter().for_each(|id| id_bulk(reply, *id));
    call.keyspace.dirty += (claimed + gone.len()) as u64 + u64::from(created);
    Ok(())
}

fn next_pending(stream: &Stream, name: &[u8], from: Option<StreamId>) -> Option<StreamId> {
    stream.groups.get(name)?.pending.range(from?..).next().map(|(id, _)| *id)
}

/// COUNT and JUSTID.
fn auto_options(args: Args<'_>) -> Result<(i64, bool), CommandError> {
    const COUNT: i64 = 100;
    const COUNT_MAX: i64 = i64::MAX / 16;
    let (mut count, mut only_ids) = (COUNT, false);
    let mut index = 6;
    while let Some(option) = args.get(index) {
        match args.get(index + 1) {
            Some(value) if is(option, "count") => {
                count = integer(value)
                    .ok()
                    .filter(|count| (1..=COUNT_MAX).contains(count))
                    .ok_or(CommandError::Text("ERR COUNT must be > 0"))?;
                index += 1;
            }
            _ if is(option, "justid") => only_ids = true,
            _ => return Err(CommandError::Syntax),
        }
        index += 1;
    }
    Ok((count, only_ids))
}
