//! Commands whose effect depends on chance, the clock or where they run, said so that it doesn't.
//!
//! Each is looked at after it has run and has changed something: what to say is read from the data as it is now, or from
//! the reply. Commands that aren't here are told as they came. Streams' groups say themselves what they did (`streams.rs`).

use super::super::call::Call;
use super::super::commands::Command;
use super::super::entry::Entry;
use super::super::number::parse_integer;
use super::super::rdb;
use super::super::value::ValueRef;
use super::super::{Args, Keyspace};
use super::Feed;

/// A key where it is.
#[derive(Clone, Copy)]
struct At<'a> {
    database: u8,
    key: &'a [u8],
}

/// Says what a command did, if it can't be told as it came.
pub(super) fn say(call: &mut Call<'_>, row: &Command, (database, mark): (u8, usize)) {
    let Some(key) = call.args.get(1) else { return };
    let at = At { database, key };
    let args = call.args;
    match row.name {
        "set" if args.len() == 3 => {}
        "set" => say_string(call, at),
        "setex" | "psetex" | "increx" | "cl.throttle" | "gcra" => say_string(call, at),
        "incrbyfloat" => say_kept(call, at),
        "msetex" => say_strings(call, at),
        "getex" | "expire" | "pexpire" | "expireat" | "pexpireat" => say_expiry(call, at),
        "getdel" | "delex" | "delifeq" => call.instance.feed.say(database, &[b"DEL", key]),
        "restore" if row.group != "scripting" => say_restored(call, at),
        "sort" => say_sorted(call, database),
        "hincrbyfloat" => say_fields(call, at, args.from(2).first(1)),
        "hsetex" => say_fields(call, at, behind(args, b"fields")),
        "hgetex" | "hgetdel" => say_deadlines(call, at, behind(args, b"fields")),
        "expiremember" | "expirememberat" | "pexpirememberat" => {
            say_deadlines(call, at, args.from(2).first(1));
        }
        "hexpire" | "hpexpire" | "hexpireat" | "hpexpireat" => {
            say_deadlines(call, at, behind(args, b"fields"));
        }
        "sexpire" | "spexpire" | "sexpireat" | "spexpireat" | "zexpire" | "zpexpire"
        | "zexpireat" | "zpexpireat" => say_deadlines(call, at, behind(args, b"members")),
        "spop" => say_popped(call, at, mark),
        "lmpop" | "blmpop" | "zmpop" | "bzmpop" | "blpop" | "brpop" | "bzpopmin" | "bzpopmax" => {
            say_pop(call, row.name, database, mark);
        }
        "blmove" => say_words(call, database, &[b"LMOVE", key, args.at(2), args.at(3), args.at(4)]),
        "brpoplpush" => say_words(call, database, &[b"RPOPLPUSH", key, args.at(2)]),
        "xadd" => super::streams::say_added(call, (database, key), mark),
        "xtrim" => super::streams::say_trimmed(call, (database, key)),
        _ => {}
    }
}

pub(super) fn say_words(call: &mut Call<'_>, database: u8, words: &[&[u8]]) {
    call.instance.feed.say(database, words);
}

/// A key as it is now, expired or not.
pub(super) fn entry<'a>(keyspace: &'a Keyspace, database: u8, key: &[u8]) -> Option<Entry<'a>> {
    keyspace.databases()[usize::from(database)].table().find(key, keyspace.hash(key))
}

fn say_string(call: &mut Call<'_>, at: At<'_>) {
    let Call { keyspace, instance, .. } = call;
    string(&mut instance.feed, keyspace, at);
}

fn string(feed: &mut Feed, keyspace: &Keyspace, At { database, key }: At<'_>) {
    let Some(entry) = entry(keyspace, database, key) else { return };
    let Some(text) = entry.text() else { return };
    match entry.expires_ms() {
        Some(at_ms) => {
            let at_ms = at_ms.to_string();
            feed.say(database, &[b"SET", key, &text, b"PXAT", at_ms.as_bytes()]);
        }
        None => feed.say(database, &[b"SET", key, &text]),
    }
}

fn say_kept(call: &mut Call<'_>, At { database, key }: At<'_>) {
    let Call { keyspace, instance, .. } = call;
    if let Some(text) = entry(keyspace, database, key).and_then(Entry::text) {
        instance.feed.say(database, &[b"SET", key, &text, b"KEEPTTL"]);
    }
}

fn say_strings(call: &mut Call<'_>, at: At<'_>) {
    let Call { keyspace, instance, args, .. } = call;
    let count = parse_integer(at.key).unwrap_or(0) as usize;
    for key in args.from(2).first(2 * count).iter().step_by(2) {
        string(&mut instance.feed, keyspace, At { key, ..at });
    }
}

/// EXPIRE and GETEX: a time, none, or the key's end.
fn say_expiry(call: &mut Call<'_>, At { database, key }: At<'_>) {
    let Call { keyspace, instance, .. } = call;
    match entry(keyspace, database, key).map(Entry::expires_ms) {
        Some(Some(at_ms)) => {
            instance.feed.say(database, &[b"PEXPIREAT", key, at_ms.to_string().as_bytes()]);
        }
        Some(None) => instance.feed.say(database, &[b"PERSIST", key]),
        None => instance.feed.say(database, &[b"DEL", key]),
    }
}

fn say_restored(call: &mut Call<'_>, At { database, key }: At<'_>) {
    let Call { keyspace, instance, args, .. } = call;
    let Some(entry) = entry(keyspace, database, key) else {
        return instance.feed.say(database, &[b"DEL", key]);
    };
    let at_ms = entry.expires_ms().unwrap_or(0).to_string();
    let words: [&[u8]; 6] = [b"RESTORE", key, at_ms.as_bytes(), args.at(3), b"REPLACE", b"ABSTTL"];
    instance.feed.say(database, &words);
}

/// SORT ... STORE: what it stores may depend on the order in which a set is kept.
fn say_sorted(call: &mut Call<'_>, database: u8) {
    let Call { keyspace, instance, args, .. } = call;
    let words = args.iter().enumerate().skip(2);
    let store = words.filter(|(_, word)| word.eq_ignore_ascii_case(b"store")).last();
    let Some(key) = store.and_then(|(at, _)| args.get(at + 1)) else { return };
    match entry(keyspace, database, key) {
        Some(entry) => {
            let dump = rdb::dump(entry.value());
            instance.feed.say(database, &[b"RESTORE", key, b"0", &dump, b"REPLACE"]);
        }
        None => instance.feed.say(database, &[b"DEL", key]),
    }
}

/// The arguments behind `FIELDS count`.
fn behind<'a>(args: Args<'a>, keyword: &[u8]) -> Args<'a> {
    let at = args.iter().skip(2).position(|word| word.eq_ignore_ascii_case(keyword));
    at.map_or(args.first(0), |at| args.from(at + 4))
}

/// Fields with the values and deadlines that they have now.
fn say_fields(call: &mut Call<'_>, at: At<'_>, pairs: Args<'_>) {
    let Call { keyspace, instance, .. } = call;
    let At { database, key } = at;
    for field in pairs.iter().step_by(2) {
        let found = entry(keyspace, database, key);
        let Some(ValueRef::Hash(hash)) = found.map(Entry::value) else {
            instance.feed.say(database, &[b"HDEL", key, field]);
            continue;
        };
        let deadline = hash.deadline(field).flatten();
        match hash.at(field) {
            Some(value) => {
                let value = value.to_vec();
                instance.feed.say(database, &[b"HSET", key, field, &value]);
            }
            None => instance.feed.say(database, &[b"HDEL", key, field]),
        }
        if let Some(at_ms) = deadline {
            let at_ms = at_ms.to_string();
            let words: [&[u8]; 6] = [b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", field];
            instance.feed.say(database, &words);
        }
    }
}

/// When members end now; those that are gone have ended.
fn say_deadlines(call: &mut Call<'_>, at: At<'_>, members: Args<'_>) {
    let Call { keyspace, instance, .. } = call;
    let At { database, key } = at;
    let Some(value) = entry(keyspace, database, key).map(Entry::value) else {
        // The last member went, and the key with it.
        return instance.feed.say(database, &[b"DEL", key]);
    };
    let (remove, expire, persist, keyword): (&[u8], &[u8], &[u8], &[u8]) = match value {
        ValueRef::Set(_) => (b"SREM", b"SPEXPIREAT", b"SPERSIST", b"MEMBERS"),
        ValueRef::SortedSet(_) => (b"ZREM", b"ZPEXPIREAT", b"ZPERSIST", b"MEMBERS"),
        _ => (b"HDEL", b"HPEXPIREAT", b"HPERSIST", b"FIELDS"),
    };
    instance.feed.says_itself();
    for member in members.iter() {
        let deadline = match value {
            ValueRef::Set(set) => set.deadline(member),
            ValueRef::SortedSet(set) => set.deadline(member),
            ValueRef::Hash(hash) => hash.deadline(member),
            _ => None,
        };
        match deadline {
            None => instance.feed.say(database, &[remove, key, member]),
            Some(None) => instance.feed.say(database, &[persist, key, keyword, b"1", member]),
            Some(Some(at_ms)) => {
                let at_ms = at_ms.to_string();
                let words = [expire, key, at_ms.as_bytes(), keyword, b"1", member];
                instance.feed.say(database, &words);
            }
        }
    }
}

/// SPOP: the members that went are in the reply.
fn say_popped(call: &mut Call<'_>, At { database, key }: At<'_>, mark: usize) {
    let Call { keyspace, instance, reply, .. } = call;
    if entry(keyspace, database, key).is_none() {
        return instance.feed.say(database, &[b"DEL", key]);
    }
    let mut words: Vec<&[u8]> = vec![b"SREM", key];
    let mut texts = Texts(reply.written_since(mark));
    words.extend(&mut texts);
    instance.feed.say(database, &words);
}

/// Pops from the first key that has something: the reply says which, and how many it were.
fn say_pop(call: &mut Call<'_>, name: &str, database: u8, mark: usize) {
    let Call { instance, args, reply, .. } = call;
    let reply = reply.written_since(mark);
    let Some(key) = Texts(reply).next() else { return };
    let pop: &[u8] = match (name, direction(name, *args)) {
        ("blpop", _) | ("lmpop" | "blmpop", b'l' | b'L') => b"LPOP",
        ("brpop" | "lmpop" | "blmpop", _) => b"RPOP",
        ("bzpopmin", _) => b"ZPOPMIN",
        ("bzpopmax", _) => b"ZPOPMAX",
        // MIN and MAX differ in their second letter.
        (_, b'i' | b'I') => b"ZPOPMIN",
        _ => b"ZPOPMAX",
    };
    if name.ends_with("mpop") {
        let count = second_count(reply).to_string();
        instance.feed.say(database, &[pop, key, count.as_bytes()]);
    } else {
        instance.feed.say(database, &[pop, key]);
    }
}

/// What tells an *MPOP's LEFT from RIGHT or MIN from MAX: a letter of the word behind the keys.
fn direction(name: &str, args: Args<'_>) -> u8 {
    let count_at = if name.starts_with('b') { 2 } else { 1 };
    let count = args.get(count_at).and_then(parse_integer).unwrap_or(0) as usize;
    let word = args.get(count_at + 1 + count).unwrap_or_default();
    let letter = usize::from(name.contains("zm"));
    word.get(letter).copied().unwrap_or_default()
}

/// The byte strings in a reply.
pub(super) struct Texts<'a>(pub &'a [u8]);

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (kind, number, rest) = line(self.0)?;
            self.0 = rest;
            if kind == b'$'
                && let Some(len) = number.and_then(|len| usize::try_from(len).ok())
            {
                let text = rest.get(..len)?;
                self.0 = rest.get(len + 2..)?;
                return Some(text);
            }
        }
    }
}

/// How many items the second array of a reply has, the first being around it.
fn second_count(reply: &[u8]) -> i64 {
    let mut rest = reply;
    let mut arrays = 0;
    while let Some((kind, number, after)) = line(rest) {
        rest = after;
        arrays += u8::from(kind == b'*');
        if arrays == 2 {
            return number.unwrap_or(0);
        }
        if kind == b'$' {
            rest = rest.get(number.unwrap_or(0).max(0) as usize + 2..).unwrap_or_default();
        }
    }
    0
}

/// The first line of a reply: its kind, the number behind it, and what follows.
fn line(reply: &[u8]) -> Option<(u8, Option<i64>, &[u8])> {
    let end = memchr::memchr(b'\n', reply)?;
    let (first, rest) = reply.split_at(end + 1);
    Some((first[0], parse_integer(first.get(1..end.checked_sub(1)?)?), rest))
}
