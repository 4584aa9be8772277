//! Streams to and from RDB bytes. Nodes are written as they lie and read entry by entry. Knows nothing of keys.
//!
//! ```text
//! count | (first id, 16 bytes big-endian, as a string | listpack) ...
//! entries | last id | first id | highest deleted id | entries ever added          an id: two numbers
//! count | (name | last id | entries read
//!          count | (id, 16 bytes | delivered i64 | deliveries) ...
//!          count | (name | seen i64 | [active i64] | count | id, 16 bytes ...) ...) ...
//! ```
//! Type 15 ends its second line after the last id and has no `entries read`; type 21 alone has `active`.

use std::collections::BTreeMap;

use super::input::Input;
use super::output::{number, string};
use super::packs::listpack;
use super::{Damage, kind};
use crate::store::stream::{Group, Stream, StreamId};

const ENTRIES: Damage = Damage::Malformed("a stream's entries");
const PENDING: Damage = Damage::Malformed("a consumer group's pending entries");
/// `entries read` when it isn't known.
const UNKNOWN: u64 = u64::MAX;

/// Writes a stream without its type, which is [`kind::STREAM_2`].
pub fn write_stream(out: &mut Vec<u8>, stream: &Stream) {
    number(out, stream.nodes() as u64);
    for (first, blob) in stream.blobs() {
        string(out, &first.to_bytes());
        string(out, &blob);
    }
    number(out, stream.len());
    for id in [stream.last_id, stream.first_id, stream.max_deleted_id] {
        write_id(out, id);
    }
    number(out, stream.entries_added);
    number(out, stream.groups.len() as u64);
    for (name, group) in &stream.groups {
        string(out, name);
        write_group(out, group);
    }
}

fn write_id(out: &mut Vec<u8>, id: StreamId) {
    number(out, id.ms);
    number(out, id.seq);
}

fn write_group(out: &mut Vec<u8>, group: &Group) {
    write_id(out, group.last_id);
    number(out, group.entries_read.map_or(UNKNOWN, |read| read as u64));
    number(out, group.pending.len() as u64);
    for (id, pending) in &group.pending {
        out.extend_from_slice(&id.to_bytes());
        out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
        number(out, pending.deliveries as u64);
    }
    number(out, group.consumers.len() as u64);
    for (name, consumer) in &group.consumers {
        string(out, name);
        out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
        number(out, consumer.pending.len() as u64);
        consumer.pending.iter().for_each(|id| out.extend_from_slice(&id.to_bytes()));
    }
}

/// Reads a stream of that type.
pub fn read_stream(kind: u8, input: &mut Input<'_>) -> Result<Stream, Damage> {
    let mut stream = Stream::new();
    for _ in 0..input.count()? {
        let first = input.string()?;
        let first = StreamId::from_bytes(first.as_ref().try_into().map_err(|_| ENTRIES)?);
        let blob = input.string()?;
        stream.push_node(first, &listpack(&blob)?).ok_or(ENTRIES)?;
    }
    if input.number()? != stream.len() {
        return Err(ENTRIES);
    }
    let last_id = read_id(input)?;
    if last_id < stream.last_id {
        return Err(ENTRIES);
    }
    stream.last_id = last_id;
    stream.entries_added = stream.len();
    if kind != kind::STREAM {
        // Which entry is the first is seen from the entries.
        read_id(input)?;
        stream.max_deleted_id = read_id(input)?;
        stream.entries_added = input.number()?;
    }
    for _ in 0..input.count()? {
        let name = input.string()?.into_owned();
        let group = read_group(kind, input, &stream)?;
        if stream.groups.insert(name, group).is_some() {
            return Err(Damage::Malformed("a consumer group twice"));
        }
    }
    Ok(stream)
}

fn read_id(input: &mut Input<'_>) -> Result<StreamId, Damage> {
    Ok(StreamId { ms: input.number()?, seq: input.number()? })
}

fn read_group(kind: u8, input: &mut Input<'_>, stream: &Stream) -> Result<Group, Damage> {
    let last_id = read_id(input)?;
    let read = match kind {
        kind::STREAM => stream.added_until(last_id),
        _ => Some(input.number()?).filter(|read| *read != UNKNOWN).map(|read| read as i64),
    };
    let mut group = Group::new(last_id, read);
    let mut ownerless = BTreeMap::new();
    for _ in 0..input.count()? {
        let id = StreamId::from_bytes(input.array()?);
        let delivered_ms = input.milliseconds()? as i64;
        let deliveries = input.number()? as i64;
        if ownerless.insert(id, (delivered_ms, deliveries)).is_some() {
            return Err(PENDING);
        }
    }
    for _ in 0..input.count()? {
        let name = input.string()?;
        let seen_ms = input.milliseconds()?;
        let active_ms = match kind {
            kind::STREAM_3 => Some(input.milliseconds()? as i64).filter(|at| *at != -1),
            _ => Some(seen_ms as i64),
        };
        if !group.create_consumer(&name, seen_ms) {
            return Err(Damage::Malformed("a consumer twice"));
        }
        for _ in 0..input.count()? {
            let id = StreamId::from_bytes(input.array()?);
            let (delivered_ms, deliveries) = ownerless.remove(&id).ok_or(PENDING)?;
            group.assign(id, &name, delivered_ms, deliveries);
        }
        if let Some(at) = active_ms {
            group.active(&name, at as u64);
        }
    }
    if ownerless.is_empty() { Ok(group) } else { Err(PENDING) }
}
