//! What commands on streams did: the ids that were made, how much was trimmed, who got which entries.

use super::super::call::Call;
use super::super::stream::{Group, Stream, StreamId};
use super::super::value::ValueRef;
use super::Feed;
use super::effects::{Texts, entry, say_words};

fn stream<'a>(call: &'a Call<'_>, (database, key): (u8, &[u8])) -> Option<&'a Stream> {
    match entry(call.keyspace, database, key)?.value() {
        ValueRef::Stream(stream) => Some(stream),
        _ => None,
    }
}

/// XADD with the id that it made, trimmed to exactly the length that it left.
pub(super) fn say_added(call: &mut Call<'_>, at: (u8, &[u8]), mark: usize) {
    let Some(id) = Texts(call.reply.written_since(mark)).next().map(<[u8]>::to_vec) else { return };
    let Some(stream) = stream(call, at) else { return };
    let len = stream.len().to_string();
    let args = call.args;
    let mut words: Vec<&[u8]> = vec![b"XADD", at.1];
    let options = options(args.iter().skip(2));
    if options.trims {
        words.extend([&b"MAXLEN"[..], b"=", len.as_bytes()]);
    }
    words.push(&id);
    words.extend(args.from(2 + options.count + 1).iter());
    say_words(call, at.0, &words);
}

/// What stands before XADD's id.
struct Options {
    count: usize,
    trims: bool,
}

fn options<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Options {
    let mut options = Options { count: 0, trims: false };
    while let Some(word) = words.next() {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let more = if is(b"nomkstream") {
            1
        } else if is(b"limit") {
            words.next();
            2
        } else if is(b"maxlen") || is(b"minid") {
            options.trims = true;
            let is_sign = words.next().is_some_and(|word| matches!(word, b"~" | b"="));
            if is_sign {
                words.next();
            }
            2 + usize::from(is_sign)
        } else {
            break;
        };
        options.count += more;
    }
    options
}

/// XTRIM to exactly the length that it left.
pub(super) fn say_trimmed(call: &mut Call<'_>, at: (u8, &[u8])) {
    let Some(stream) = stream(call, at) else { return };
    let len = stream.len().to_string();
    say_words(call, at.0, &[b"XTRIM", at.1, b"MAXLEN", b"=", len.as_bytes()]);
}

/// Where a group is.
#[derive(Clone, Copy)]
pub struct GroupAt<'a> {
    pub database: u8,
    pub key: &'a [u8],
    pub group: &'a [u8],
}

impl Feed {
    /// A group has a consumer more.
    pub fn consumer_made(&mut self, at: GroupAt<'_>, consumer: &[u8]) {
        let GroupAt { database, key, group } = at;
        self.say(database, &[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
    }

    /// A consumer has been given an entry, or has asked for it again.
    pub fn entry_given(&mut self, at: GroupAt<'_>, consumer: &[u8], id: StreamId, state: &Group) {
        let Some(pending) = state.pending.get(&id).filter(|_| self.is_on()) else { return };
        let GroupAt { database, key, group } = at;
        let (time, count) = (pending.delivered_ms.to_string(), pending.deliveries.to_string());
        let (text, len) = id.text();
        let words: [&[u8]; 12] = [
            b"XCLAIM",
            key,
            group,
            consumer,
            b"0",
            &text[..len],
            b"TIME",
            time.as_bytes(),
            b"RETRYCOUNT",
            count.as_bytes(),
            b"FORCE",
            b"JUSTID",
        ];
        self.say(database, &words);
    }

    /// An entry is no longer pending.
    pub fn entry_gone(&mut self, at: GroupAt<'_>, id: StreamId) {
        let (text, len) = id.text();
        self.say(at.database, &[b"XACK", at.key, at.group, &text[..len]]);
    }

    /// A group has moved on.
    pub fn group_moved(&mut self, at: GroupAt<'_>, state: &Group) {
        let GroupAt { database, key, group } = at;
        let (text, len) = state.last_id.text();
        // Redis writes -1 for a number that isn't known.
        let read = state.entries_read.unwrap_or(-1).to_string();
        let words: [&[u8]; 7] =
            [b"XGROUP", b"SETID", key, group, &text[..len], b"ENTRIESREAD", read.as_bytes()];
        self.say(database, &words);
    }
}
