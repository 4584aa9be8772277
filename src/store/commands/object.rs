//! OBJECT: how a value is kept. The row is in `keys.rs`.

use super::collection::{READ, row};
use super::{Call, Command, CommandResult, Keys};
use crate::store::CommandError;
use crate::store::access::AccessClock;
use crate::store::entry::Entry;
use crate::store::number::parse_integer;
use crate::store::value::ValueRef;

/// Strings up to here are `embstr` in Redis.
const EMBEDDED_BYTES_MAX: usize = 44;
/// The longest text of an integer.
const INTEGER_BYTES_MAX: usize = 20;
const SECOND: Keys = Keys { first: 2, last: 2, step: 1 };

/// OBJECT's subcommands.
#[rustfmt::skip]
pub const SUBCOMMANDS: &[Command] = &[
    row("generic", ("encoding", 3), READ, SECOND, ("2.2.3", "Returns the name of a value's encoding"), encoding),
    row("generic", ("freq", 3), READ, SECOND, ("4.0.0", "Returns how often a value was used (LFU)"), frequency),
    row("generic", ("help", 2), READ, Keys::NONE, ("6.2.0", "Explains the subcommands"), help),
    row("generic", ("idletime", 3), READ, SECOND, ("2.2.3", "Returns the seconds since a value was last used"), idle_time),
    row("generic", ("refcount", 3), READ, SECOND, ("2.2.3", "Returns the number of references to a value"), reference_count),
];

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(call: &mut Call<'_>) -> CommandResult {
    call.reply.array(HELP.len());
    HELP.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

fn encoding(call: &mut Call<'_>) -> CommandResult {
    match lookup(call, |entry, _| encoding_name(entry)) {
        Some(name) => call.reply.bulk(name.as_bytes()),
        None => call.reply.null(),
    }
    Ok(())
}

pub(super) fn encoding_name(entry: Entry<'_>) -> &'static str {
    match entry.value() {
        ValueRef::Integer(_) => "int",
        ValueRef::Nothing => "embstr",
        ValueRef::String(_) if entry.is_edited() => "raw",
        ValueRef::String(text) if !entry.is_float() && integer_of(text).is_some() => "int",
        ValueRef::String(text) if text.len() <= EMBEDDED_BYTES_MAX => "embstr",
        ValueRef::String(_) => "raw",
        ValueRef::List(list) => list.encoding(),
        ValueRef::Set(set) => set.encoding(),
        ValueRef::Hash(hash) => hash.encoding(),
        ValueRef::SortedSet(set) => set.encoding(),
        ValueRef::Stream(_) => "stream",
    }
}

/// The number that Redis would keep instead of this text.
fn integer_of(text: &[u8]) -> Option<i64> {
    if text.len() <= INTEGER_BYTES_MAX { parse_integer(text) } else { None }
}

fn frequency(call: &mut Call<'_>) -> CommandResult {
    const NO_LFU: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
        when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    let counted = call.instance.config.policy.counts_uses();
    match lookup(call, |entry, access| access.frequency(entry.clock())) {
        Some(_) if !counted => return Err(CommandError::Text(NO_LFU)),
        Some(frequency) => call.reply.integer(i64::from(frequency)),
        None => call.reply.null(),
    }
    Ok(())
}

fn idle_time(call: &mut Call<'_>) -> CommandResult {
    const NO_LRU: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
        between policies at runtime LRU and LFU data will take some time to adjust.";
    let counted = call.instance.config.policy.counts_uses();
    match lookup(call, |entry, access| access.idle_seconds(entry.clock())) {
        Some(_) if counted => return Err(CommandError::Text(NO_LRU)),
        Some(seconds) => call.reply.integer(i64::from(seconds)),
        None => call.reply.null(),
    }
    Ok(())
}

fn reference_count(call: &mut Call<'_>) -> CommandResult {
    match lookup(call, |entry, _| is_shared(entry)) {
        Some(true) => call.reply.integer(i64::from(i32::MAX)),
        Some(false) => call.reply.integer(1),
        None => call.reply.null(),
    }
    Ok(())
}

/// Whether Redis would keep the value as one of its shared small integers.
fn is_shared(entry: Entry<'_>) -> bool {
    let number = match entry.value() {
        ValueRef::Integer(value) => Some(value),
        ValueRef::String(text) if !entry.is_edited() && !entry.is_float() => integer_of(text),
        _ => None,
    };
    number.is_some_and(|number| (0..10_000).contains(&number))
}

/// What `look` sees at the key in argument 2 and the access clock, which OBJECT doesn't touch.
fn lookup<T>(call: &mut Call<'_>, look: impl FnOnce(Entry<'_>, &AccessClock) -> T) -> Option<T> {
    let Call { keyspace, session, args, now_ms, .. } = call;
    let hash = keyspace.hash(args.at(2));
    let database = keyspace.database(session.database);
    let access = database.access.clone();
    database.peek(args.at(2), hash, *now_ms).map(|entry| look(entry, &access))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn encodings() {
        let (embedded, raw) = ("x".repeat(44), "x".repeat(45));
        check(&[
            ("object encoding k", "$-1"),
            ("set k 123", "+OK"),
            ("object encoding k", "$3 int"),
            ("append k 4", ":4"),
            ("object encoding k", "$3 raw"),
            ("expire k 100", ":1"),
            ("object encoding k", "$3 raw"),
            ("set k 01", "+OK"),
            ("object encoding k", "$6 embstr"),
            ("incr n", ":1"),
            ("object encoding n", "$3 int"),
            ("object refcount n", ":2147483647"),
            ("incrbyfloat n 1", "$1 2"),
            ("object encoding n", "$6 embstr"),
            ("object refcount n", ":1"),
            ("set n 2", "+OK"),
            ("object encoding n", "$3 int"),
            (&format!("set k {embedded}"), "+OK"),
            ("object encoding k", "$6 embstr"),
            (&format!("set k {raw}"), "+OK"),
            ("object encoding k", "$3 raw"),
            ("rpush l a", ":1"),
            ("object encoding l", "$8 listpack"),
            ("object refcount l", ":1"),
            ("object what l", "-ERR unknown subcommand 'what'. Try OBJECT HELP."),
        ]);
    }

    #[test]
    fn idle_time_is_since_the_last_use() {
        let mut client = Client::resp2();
        client.check(&[("set k v", "+OK")]);
        client.store.keyspace.database(0).access.set_time(client.now_ms);
        client.check(&[("get k", "$1 v"), ("object idletime k", ":0")]);
        client.now_ms += 3000;
        client.store.keyspace.database(0).access.set_time(client.now_ms);
        client.check(&[
            ("object idletime k", ":3"),
            ("ttl k", ":-1"),
            ("object idletime k", ":3"),
            ("get k", "$1 v"),
            ("object idletime k", ":0"),
        ]);
        assert!(client.run("object freq k").starts_with("-ERR An LFU maxmemory policy"));
    }
}
