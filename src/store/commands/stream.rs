//! Commands on a stream's entries. Reading for consumers stands in `stream_read.rs`, their groups in `stream_group.rs`
//! and `stream_claim.rs`, what is told about a stream in `stream_info.rs`.

use super::collection::{
    READ, READ_FAST, REMOVE, REMOVE_FAST, Run, WRITE_FAST, bulk, created, database, found, integer,
    is, row, wrote,
};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::stream::{Entries, Keep, NewId, Refusal, Stream, StreamEntry, StreamId, Trim};
use crate::store::{Args, Reply};

/// Nodes that trimming with `~` looks at, if LIMIT doesn't say how many entries.
const TRIM_NODES: usize = 100;
/// Entries that it removes at most, whatever the nodes hold.
const TRIM_ENTRIES_MAX: usize = 1_000_000;

pub(super) const fn stream(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("stream", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    stream(("xadd", -5), WRITE_FAST, Keys::ONE, ("5.0.0", "Appends an entry, and makes the stream if there is none"), xadd),
    stream(("xlen", 2), READ_FAST, Keys::ONE, ("5.0.0", "Returns the number of entries"), xlen),
    stream(("xrange", -4), READ, Keys::ONE, ("5.0.0", "Returns the entries between two ids"), xrange),
    stream(("xrevrange", -4), READ, Keys::ONE, ("5.0.0", "Returns the entries between two ids, newest first"), xrevrange),
    stream(("xdel", -3), REMOVE_FAST, Keys::ONE, ("5.0.0", "Removes entries by id"), xdel),
    stream(("xtrim", -4), REMOVE, Keys::ONE, ("5.0.0", "Removes the oldest entries"), xtrim),
    stream(("xsetid", -3), WRITE_FAST, Keys::ONE, ("5.0.0", "Sets a stream's last id"), xsetid),
];

/// An id in an argument; `missing` is the sequence of one that is only a time.
pub(super) fn id(text: &[u8], missing: u64) -> Result<StreamId, CommandError> {
    StreamId::parse(text, missing).ok_or(INVALID_ID)
}

/// All arguments as ids.
pub(super) fn ids(args: Args<'_>) -> Result<Vec<StreamId>, CommandError> {
    args.iter().map(|text| id(text, 0)).collect()
}

const INVALID_ID: CommandError =
    CommandError::Text("ERR Invalid stream ID specified as stream command argument");

/// The low end of a range: an id, `-`, `+`, or an id that is excluded by a `(`.
pub(super) fn low_end(text: &[u8]) -> Result<StreamId, CommandError> {
    let refusal = CommandError::Text("ERR invalid start ID for the interval");
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => id(rest, 0)?.next().ok_or(refusal),
        _ => end(text, 0),
    }
}

/// The high end of a range.
pub(super) fn high_end(text: &[u8]) -> Result<StreamId, CommandError> {
    let refusal = CommandError::Text("ERR invalid end ID for the interval");
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => id(rest, u64::MAX)?.previous().ok_or(refusal),
        _ => end(text, u64::MAX),
    }
}

pub(super) fn end(text: &[u8], missing: u64) -> Result<StreamId, CommandError> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => id(text, missing),
    }
}

/// Writes an id.
pub(super) fn id_bulk(reply: &mut Reply<'_>, id: StreamId) {
    let (text, len) = id.text();
    reply.bulk(&text[..len]);
}

/// Writes an entry: its id, its fields and values.
pub(super) fn show(reply: &mut Reply<'_>, entry: StreamEntry<'_>) {
    reply.array(2);
    id_bulk(reply, entry.id);
    reply.array(entry.len() * 2);
    for (field, value) in entry.pairs() {
        bulk(reply, field);
        bulk(reply, value);
    }
}

/// Writes up to `count` entries (0: all).
pub(super) fn show_all(reply: &mut Reply<'_>, entries: Entries<'_>, count: usize) {
    let mark = reply.mark();
    let count = if count == 0 { usize::MAX } else { count };
    let mut shown = 0;
    for entry in entries.take(count) {
        show(reply, entry);
        shown += 1;
    }
    reply.array_at(mark, shown);
}

/// What XADD and XTRIM have in front of their ids.
struct Options {
    trim: Option<Trim>,
    only_existing: bool,
    /// XADD's id.
    id: NewId,
    /// The argument behind the id.
    next: usize,
}

/// The options while they are read.
#[derive(Default)]
struct Parser {
    keep: Option<Keep>,
    approximately: bool,
    limit: Option<i64>,
    only_existing: bool,
    id: Option<NewId>,
    next: usize,
}

impl Options {
    fn parse(call: &Call<'_>, adds: bool) -> Result<Options, CommandError> {
        let (args, node_entries) = (call.args, call.keyspace.thresholds.stream_node_entries);
        let mut parser = Parser { next: 2, ..Parser::default() };
        while parser.next < args.len() && parser.id.is_none() {
            parser.option(args, adds)?;
        }
        if adds && parser.id.is_none() {
            // Behind all arguments, so that there are too few.
            parser.next = args.len() + 1;
        }
        parser.finish(adds, node_entries)
    }
}

impl Parser {
    fn option(&mut self, args: Args<'_>, adds: bool) -> CommandResult {
        let option = args.at(self.next);
        let has_more = self.next + 1 < args.len();
        self.next += 1;
        if adds && option == b"*" {
            self.id = Some(NewId::Automatic);
        } else if has_more && (is(option, "maxlen") || is(option, "minid")) {
            self.strategy(args, is(option, "maxlen"))?;
        } else if has_more && is(option, "limit") {
            self.limit = Some(integer(args.at(self.next))?);
            self.next += 1;
            if self.limit < Some(0) {
                return Err(CommandError::Text("ERR The LIMIT argument must be >= 0."));
            }
        } else if adds && is(option, "nomkstream") {
            self.only_existing = true;
        } else if adds {
            let (ms, seq) = StreamId::parse_new(option).ok_or(INVALID_ID)?;
            self.id = Some(seq.map_or(NewId::At(ms), |seq| NewId::Exactly(StreamId { ms, seq })));
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(())
    }

    fn strategy(&mut self, args: Args<'_>, by_length: bool) -> CommandResult {
        if self.keep.is_some() {
            return Err(CommandError::Text(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let has_more = self.next + 1 < args.len();
        self.approximately = has_more && args.at(self.next) == b"~";
        if has_more && matches!(args.at(self.next), b"~" | b"=") {
            self.next += 1;
        }
        let text = args.at(self.next);
        self.next += 1;
        self.keep = Some(match by_length {
            false => Keep::From(id(text, 0)?),
            true => Keep::Newest(
                u64::try_from(integer(text)?)
                    .map_err(|_| CommandError::Text("ERR The MAXLEN argument must be >= 0."))?,
            ),
        });
        Ok(())
    }

    fn finish(self, adds: bool, node_entries: usize) -> Result<Options, CommandError> {
        if self.keep.is_none() && self.limit.is_some_and(|limit| limit > 0) {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if self.keep.is_none() && !adds {
            return Err(CommandError::Text(
                "ERR syntax error, XTRIM must be called with a trimming strategy",
            ));
        }
        if self.limit.is_some() && !self.approximately {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        let default = match self.approximately {
            true => node_entries.saturating_mul(TRIM_NODES).min(TRIM_ENTRIES_MAX),
            false => 0,
        };
        let limit = self.limit.map_or(default as u64, |limit| limit as u64);
        let approximately = self.approximately;
        Ok(Options {
            trim: self.keep.map(|keep| Trim { keep, approximately, limit }),
            only_existing: self.only_existing,
            id: self.id.unwrap_or(NewId::Automatic),
            next: self.next,
        })
    }
}

fn xadd(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(call, true)?;
    let pairs = call.args.from(options.next);
    if options.next > call.args.len() || pairs.len() < 2 || pairs.len() % 2 == 1 {
        return Err(CommandError::Text("ERR wrong number of arguments for 'xadd' command"));
    }
    if options.id == NewId::Exactly(StreamId::MIN) {
        return Err(CommandError::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let existing = found(call, Database::stream)?.0;
    if existing.is_none() && options.only_existing {
        call.reply.null();
        return Ok(());
    }
    let is_new = existing.is_none();
    let node = (call.now_ms, call.keyspace.thresholds.stream_node_entries);
    let (stream, _, reply) = created(call, Database::stream_or_create)?;
    if stream.last_id == StreamId::MAX {
        return Err(CommandError::Text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    match stream.append(options.id, pairs.iter(), node) {
        Ok(id) => id_bulk(reply, id),
        Err(refusal) => {
            if is_new {
                let key = call.args.at(1);
                call.keyspace.database(call.session.database).remove(key, call.hash);
            }
            return Err(refused(refusal));
        }
    }
    if let Some(trim) = &options.trim {
        stream.trim(trim);
    }
    let key = call.args.at(1);
    database(call).waited.touch(key);
    wrote(call, 1, false);
    Ok(())
}

fn refused(refusal: Refusal) -> CommandError {
    CommandError::Text(match refusal {
        Refusal::NotAbove => {
            "ERR The ID specified in XADD is equal or smaller than the target stream top item"
        }
        Refusal::TooLarge => "ERR Elements are too large to be stored",
    })
}

fn xlen(call: &mut Call<'_>) -> CommandResult {
    let (stream, _, reply) = found(call, Database::stream)?;
    reply.integer(stream.map_or(0, |stream| stream.len()) as i64);
    Ok(())
}

fn xrange(call: &mut Call<'_>) -> CommandResult {
    range(call, false)
}

fn xrevrange(call: &mut Call<'_>) -> CommandResult {
    range(call, true)
}

fn range(call: &mut Call<'_>, reverse: bool) -> CommandResult {
    let args = call.args;
    let (low, high) = if reverse { (3, 2) } else { (2, 3) };
    // Redis reads the start first, so its error comes first.
    let (low, high) = (low_end(args.at(low))?, high_end(args.at(high))?);
    let mut count = None;
    let mut index = 4;
    while index < args.len() {
        if !is(args.at(index), "count") || index + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        count = Some(integer(args.at(index + 1))?.max(0) as usize);
        index += 2;
    }
    let (stream, _, reply) = found(call, Database::stream)?;
    match (stream, count) {
        (None, _) => reply.array(0),
        (Some(_), Some(0)) => reply.null_array(),
        (Some(stream), count) => {
            show_all(reply, stream.range(low, high, reverse), count.unwrap_or(0));
        }
    }
    Ok(())
}

fn xdel(call: &mut Call<'_>) -> CommandResult {
    let (stream, args, reply) = found(call, Database::stream)?;
    let deleted = match stream {
        Some(stream) => stream.delete(&ids(args.from(2))?),
        None => 0,
    };
    reply.integer(deleted as i64);
    wrote(call, deleted as usize, false);
    Ok(())
}

fn xtrim(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(call, false)?;
    let (stream, _, reply) = found(call, Database::stream)?;
    let trimmed = match (stream, &options.trim) {
        (Some(stream), Some(trim)) => stream.trim(trim),
        _ => 0,
    };
    reply.integer(trimmed as i64);
    wrote(call, trimmed as usize, false);
    Ok(())
}

fn xsetid(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let last_id = id(args.at(2), 0)?;
    let (mut added, mut deleted) = (None, StreamId::MIN);
    let mut index = 3;
    while let Some(option) = args.get(index) {
        let value = args.get(index + 1).ok_or(CommandError::Syntax)?;
        if is(option, "entriesadded") {
            let count = u64::try_from(integer(value)?);
            added =
                Some(count.map_err(|_| CommandError::Text("ERR entries_added must be positive"))?);
        } else if is(option, "maxdeletedid") {
            deleted = id(value, 0)?;
            if last_id < deleted {
                return Err(smaller("the provided max_deleted_entry_id"));
            }
        } else {
            return Err(CommandError::Syntax);
        }
        index += 2;
    }
    let (stream, _, reply) = found(call, Database::stream)?;
    let stream = stream.ok_or(CommandError::NoSuchKey)?;
    set_id(stream, last_id, added, deleted)?;
    reply.ok();
    wrote(call, 1, false);
    Ok(())
}

fn set_id(
    stream: &mut Stream,
    last_id: StreamId,
    added: Option<u64>,
    deleted: StreamId,
) -> CommandResult {
    if last_id < stream.max_deleted_id {
        return Err(smaller("current max_deleted_entry_id"));
    }
    if stream.last_entry_id().is_some_and(|top| last_id < top) {
        return Err(smaller("the target stream top item"));
    }
    if !stream.is_empty() && added.is_some_and(|added| added < stream.len()) {
        return Err(CommandError::Text(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    stream.last_id = last_id;
    stream.entries_added = added.unwrap_or(stream.entries_added);
    if deleted != StreamId::MIN {
        stream.max_deleted_id = deleted;
    }
    Ok(())
}

fn smaller(than: &str) -> CommandError {
    let text = format!("ERR The ID specified in XSETID is smaller than {than}");
    CommandError::Owned(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check, check_resp3};

    #[test]
    fn entries() {
        check(&[
            ("XADD s NOMKSTREAM * a 1", "$-1"),
            ("XADD s * a", "-ERR wrong number of arguments for 'xadd' command"),
            ("XADD s * a 1 b", "-ERR wrong number of arguments for 'xadd' command"),
            ("XADD s 0-0 a 1", "-ERR The ID specified in XADD must be greater than 0-0"),
            ("XADD s x a 1", "-ERR Invalid stream ID specified as stream command argument"),
            ("EXISTS s", ":0"),
            ("XADD s * a 1", "$9 1000000-0"),
            ("XADD s * a 2 b 3", "$9 1000000-1"),
            (
                "XADD s 5 a 1",
                "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
            ),
            ("XADD s 1000001-* a 4", "$9 1000001-0"),
            ("XLEN s", ":3"),
            ("TYPE s", "+stream"),
            ("OBJECT ENCODING s", "$6 stream"),
            ("XRANGE s - + COUNT 1", "*1 *2 $9 1000000-0 *2 $1 a $1 1"),
            ("XRANGE s (1000000-0 1000000", "*1 *2 $9 1000000-1 *4 $1 a $1 2 $1 b $1 3"),
            ("XREVRANGE s + (1000000-1", "*1 *2 $9 1000001-0 *2 $1 a $1 4"),
            ("XRANGE s - + COUNT 0", "*-1"),
            ("XRANGE none - +", "*0"),
            ("XDEL s 1000000-0 1000000-0 7", ":1"),
            ("COPY s copy", ":1"),
            ("XTRIM copy MAXLEN 1", ":1"),
            ("XLEN copy", ":1"),
            ("XLEN s", ":2"),
            ("XADD s MAXLEN = 1 2000000 a 5", "$9 2000000-0"),
            ("XLEN s", ":1"),
            ("XDEL s 2000000", ":1"),
            ("EXISTS s", ":1"),
            ("XSETID s 18446744073709551615-18446744073709551615", "+OK"),
            (
                "XADD s * a 1",
                "-ERR The stream has exhausted the last possible ID, unable to add more items",
            ),
            ("SET k v", "+OK"),
            ("XADD k * a 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn groups() {
        let mut client = Client::resp2();
        client.check(&[
            ("XGROUP CREATE s g $ MKSTREAM", "+OK"),
            ("XGROUP CREATE s g $", "-BUSYGROUP Consumer Group name already exists"),
            ("XADD s 1-1 a 1", "$3 1-1"),
            ("XADD s 2-1 b 2", "$3 2-1"),
            ("XREADGROUP GROUP g me COUNT 1 STREAMS s >", "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 a $1 1"),
            ("XPENDING s g", "*4 :1 $3 1-1 $3 1-1 *1 *2 $2 me $1 1"),
        ]);
        client.now_ms += 50;
        client.check(&[
            ("XPENDING s g - + 10", "*1 *4 $3 1-1 $2 me :50 :1"),
            ("XPENDING s g IDLE 60 - + 10", "*0"),
            ("XAUTOCLAIM s g you 40 0", "*3 $3 0-0 *1 *2 $3 1-1 *2 $1 a $1 1 *0"),
            ("XREADGROUP GROUP g me STREAMS s 0", "*1 *2 $1 s *0"),
            ("XREADGROUP GROUP g you STREAMS s 0", "*1 *2 $1 s *1 *2 $3 1-1 *2 $1 a $1 1"),
            ("XPENDING s g - + 10", "*1 *4 $3 1-1 $3 you :0 :3"),
            ("XCLAIM s g me 0 1-1 2-1 JUSTID", "*1 $3 1-1"),
            ("XCLAIM s g me 0 2-1 FORCE JUSTID RETRYCOUNT 7", "*1 $3 2-1"),
            ("XPENDING s g 2 + 10", "*1 *4 $3 2-1 $2 me :0 :7"),
            ("XACK s g 1-1 3-3", ":1"),
            ("XDEL s 2-1", ":1"),
            ("XREADGROUP GROUP g me STREAMS s 0", "*1 *2 $1 s *1 *2 $3 2-1 *-1"),
            ("XAUTOCLAIM s g me 0 -", "*3 $3 0-0 *0 *1 $3 2-1"),
            ("XPENDING s g", "*4 :0 $-1 $-1 *-1"),
            ("XREADGROUP GROUP g me STREAMS s >", "*-1"),
            (
                "XINFO CONSUMERS s g",
                "*2 *8 $4 name $2 me $7 pending :0 $4 idle :0 $8 inactive :0 \
                 *8 $4 name $3 you $7 pending :0 $4 idle :0 $8 inactive :0",
            ),
            ("XGROUP DELCONSUMER s g you", ":0"),
            ("XGROUP DESTROY s g", ":1"),
            (
                "XREADGROUP GROUP g me STREAMS s >",
                "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
            ),
        ]);
    }

    /// 7.4 knows a group's lag in more cases than 7.0, whose answers the differential test compares.
    #[test]
    fn lag() {
        let mut client = Client::resp2();
        let lag = |client: &mut Client| {
            let reply = client.run("XINFO GROUPS s");
            reply.split_once("entries-read ").map(|(_, rest)| rest.to_owned())
        };
        for seq in 1..=5 {
            client.run(&format!("XADD s {seq}-0 a 1"));
        }
        client.run("XGROUP CREATE s g 0");
        assert_eq!(lag(&mut client).as_deref(), Some("$-1 $3 lag :5"));
        client.run("XREADGROUP GROUP g me COUNT 1 STREAMS s >");
        assert_eq!(lag(&mut client).as_deref(), Some(":1 $3 lag :4"));
        client.run("XDEL s 3-0");
        assert_eq!(lag(&mut client).as_deref(), Some(":1 $3 lag $-1"));
        client.run("XREADGROUP GROUP g me COUNT 2 STREAMS s >");
        assert_eq!(lag(&mut client).as_deref(), Some("$-1 $3 lag $-1"));
        client.run("XTRIM s MINID 5");
        assert_eq!(lag(&mut client).as_deref(), Some("$-1 $3 lag :1"));
        client.run("XREADGROUP GROUP g me STREAMS s >");
        assert_eq!(lag(&mut client).as_deref(), Some(":5 $3 lag :0"));
        client.run("XDEL s 5-0");
        assert_eq!(lag(&mut client).as_deref(), Some(":5 $3 lag :0"));
    }

    #[test]
    fn maps_in_resp3() {
        check_resp3(&[
            ("XADD s 1-1 a 1", "$3 1-1"),
            ("XREAD COUNT 1 STREAMS s none 0 0", "%1 $1 s *1 *2 $3 1-1 *2 $1 a $1 1"),
            ("XREAD STREAMS s $", "_"),
            ("XREAD STREAMS s +", "%1 $1 s *1 *2 $3 1-1 *2 $1 a $1 1"),
            (
                "XREAD STREAMS s >",
                "-ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            ),
            ("XREAD STREAMS s", "-ERR wrong number of arguments for 'xread' command"),
            ("COMMAND GETKEYS XREAD COUNT 1 STREAMS a b 0 0", "*2 $1 a $1 b"),
        ]);
    }
}
