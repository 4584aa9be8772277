//! Keyspace notifications: which events a command's changes are, and their messages on channels.
//!
//! Commands don't know of events. When somebody wants them, the keys that a command writes are looked at before and after
//! it, and this table says what its change of each is called; what follows from it (a key that is new, the `del` after a
//! last element) is seen from the keys themselves. Names and classes are Redis 7.4's.

use super::Args;
use super::commands::Command;
use super::instance::Instance;
use super::pubsub::Scope;

/// A set of classes of events, and of the two kinds of channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

/// Letters of `notify-keyspace-events`, in the order in which they are shown.
const LETTERS: &[(u8, Classes)] = &[
    (b'g', Classes::GENERIC),
    (b'$', Classes::STRING),
    (b'l', Classes::LIST),
    (b's', Classes::SET),
    (b'h', Classes::HASH),
    (b'z', Classes::SORTED_SET),
    (b'x', Classes::EXPIRED),
    (b'e', Classes::EVICTED),
    (b't', Classes::STREAM),
    (b'd', Classes::MODULE),
    (b'n', Classes::NEW),
    (b'K', Classes::KEYSPACE),
    (b'E', Classes::KEYEVENT),
    (b'm', Classes::MISS),
];

impl Classes {
    /// `g`
    pub const GENERIC: Classes = Classes(1);
    /// `$`
    pub const STRING: Classes = Classes(1 << 1);
    /// `l`
    pub const LIST: Classes = Classes(1 << 2);
    /// `s`
    pub const SET: Classes = Classes(1 << 3);
    /// `h`
    pub const HASH: Classes = Classes(1 << 4);
    /// `z`
    pub const SORTED_SET: Classes = Classes(1 << 5);
    /// `x`
    pub const EXPIRED: Classes = Classes(1 << 6);
    /// `e`
    pub const EVICTED: Classes = Classes(1 << 7);
    /// `t`
    pub const STREAM: Classes = Classes(1 << 8);
    /// `d`
    pub const MODULE: Classes = Classes(1 << 9);
    /// `n`
    pub const NEW: Classes = Classes(1 << 10);
    /// `m`
    pub const MISS: Classes = Classes(1 << 11);
    /// `K`
    pub const KEYSPACE: Classes = Classes(1 << 12);
    /// `E`
    pub const KEYEVENT: Classes = Classes(1 << 13);
    /// `A`
    const ALL: Classes = Classes((1 << 10) - 1);

    /// Whether all of `other` are in here.
    pub fn has(self, other: Classes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any message can come of them.
    pub fn is_on(self) -> bool {
        let channels = Classes::KEYSPACE.0 | Classes::KEYEVENT.0;
        self.0 & channels != 0 && self.0 & !channels != 0
    }

    /// Reads `notify-keyspace-events`.
    pub fn parse(text: &[u8]) -> Option<Classes> {
        let mut sum = 0;
        for letter in text {
            sum |= match letter {
                b'A' => Classes::ALL.0,
                _ => LETTERS.iter().find(|(known, _)| known == letter)?.1.0,
            };
        }
        Some(Classes(sum))
    }

    /// The reverse.
    pub fn text(self) -> Vec<u8> {
        let mut text = Vec::new();
        let all = self.has(Classes::ALL);
        if all {
            text.push(b'A');
        }
        let shown = LETTERS
            .iter()
            .filter(|(_, class)| self.has(*class) && !(all && Classes::ALL.has(*class)));
        text.extend(shown.map(|(letter, _)| *letter));
        text
    }
}

/// What became of one key of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Which of the keys that the command writes.
    pub(super) index: usize,
    pub(super) before: bool,
    pub(super) after: bool,
    /// A stream's group has a consumer more.
    pub(super) has_new_consumer: bool,
}

/// The events of one changed key, in order.
pub(super) fn of(row: &Command, args: Args<'_>, change: Change) -> Vec<(Classes, &'static str)> {
    let Change { index, before, after, has_new_consumer } = change;
    let mut events = Vec::new();
    if !before && after {
        events.push((Classes::NEW, "new"));
    }
    if matches!(row.name, "xack" | "xreadgroup" | "xclaim" | "xautoclaim") {
        // What they change in a group is told to nobody.
        if has_new_consumer {
            events.push((Classes::STREAM, "xgroup-createconsumer"));
        }
    } else if after || before && !only_removes(row.name) {
        let event = named(row, args, index);
        events.push(event);
        if after && event == (Classes::STRING, "set") && sets_expiry(row.name, args) {
            events.push((Classes::GENERIC, "expire"));
        }
    }
    if before && !after && !matches!(events.last(), Some((_, "rename_from" | "move_from"))) {
        events.push((Classes::GENERIC, "del"));
    }
    events
}

/// A key that is gone afterwards is only that, for the command has no event of its own for it.
fn only_removes(name: &str) -> bool {
    matches!(
        name,
        "del"
            | "unlink"
            | "getdel"
            | "getex"
            | "bitop"
            | "sort"
            | "georadius"
            | "georadiusbymember"
    ) || name.ends_with("store")
        || name.starts_with("expire")
        || name.starts_with("pexpire")
}

fn sets_expiry(name: &str, args: Args<'_>) -> bool {
    let options = ["ex", "px", "exat", "pxat"];
    let is_option = |argument: &[u8]| {
        options.iter().any(|option| argument.eq_ignore_ascii_case(option.as_bytes()))
    };
    matches!(name, "setex" | "psetex") || (name == "set" && args.from(3).iter().any(is_option))
}

fn named(row: &Command, args: Args<'_>, index: usize) -> (Classes, &'static str) {
    let has =
        |word: &str| args.iter().any(|argument| argument.eq_ignore_ascii_case(word.as_bytes()));
    let generic = |name| (Classes::GENERIC, name);
    let list = |name| (Classes::LIST, name);
    match row.name {
        "rename" | "renamenx" => generic(["rename_from", "rename_to"][index.min(1)]),
        "move" => generic(["move_from", "move_to"][index.min(1)]),
        "copy" => generic("copy_to"),
        "getex" if has("persist") => generic("persist"),
        "getex" | "expire" | "pexpire" | "expireat" | "pexpireat" => generic("expire"),
        "del" | "unlink" | "getdel" => generic("del"),
        "sort" => list("sortstore"),
        "lmove" | "blmove" => {
            let left = args.get(3 + index).is_some_and(|side| side.eq_ignore_ascii_case(b"left"));
            list([["rpop", "lpop"], ["rpush", "lpush"]][index.min(1)][usize::from(left)])
        }
        "rpoplpush" | "brpoplpush" => list(["rpop", "lpush"][index.min(1)]),
        "lmpop" | "blmpop" => list(if has("left") { "lpop" } else { "rpop" }),
        "blpop" | "lpop" => list("lpop"),
        "brpop" | "rpop" => list("rpop"),
        "lpushx" => list("lpush"),
        "rpushx" => list("rpush"),
        "smove" => (Classes::SET, ["srem", "sadd"][index.min(1)]),
        "zmpop" | "bzmpop" => (Classes::SORTED_SET, if has("min") { "zpopmin" } else { "zpopmax" }),
        "bzpopmin" => (Classes::SORTED_SET, "zpopmin"),
        "bzpopmax" => (Classes::SORTED_SET, "zpopmax"),
        "zincrby" => (Classes::SORTED_SET, "zincr"),
        "zadd" if has("incr") => (Classes::SORTED_SET, "zincr"),
        "geoadd" => (Classes::SORTED_SET, "zadd"),
        "georadius" | "georadiusbymember" => (Classes::SORTED_SET, "georadiusstore"),
        name => same_name(row.group, name),
    }
}

/// Commands whose events are called as they are, or as one of their kind.
fn same_name(group: &str, name: &'static str) -> (Classes, &'static str) {
    match (group, name) {
        ("string" | "bitmap" | "hyperloglog", _) => (Classes::STRING, string(name)),
        ("list", _) => (Classes::LIST, name),
        ("set", _) => (Classes::SET, name),
        ("hash", _) => (Classes::HASH, hash(name)),
        ("sorted-set" | "geo", _) => (Classes::SORTED_SET, name),
        ("stream", "create") => (Classes::STREAM, "xgroup-create"),
        ("stream", "setid") => (Classes::STREAM, "xgroup-setid"),
        ("stream", "destroy") => (Classes::STREAM, "xgroup-destroy"),
        ("stream", "createconsumer") => (Classes::STREAM, "xgroup-createconsumer"),
        ("stream", "delconsumer") => (Classes::STREAM, "xgroup-delconsumer"),
        ("stream", _) => (Classes::STREAM, name),
        _ => (Classes::GENERIC, name),
    }
}

fn string(name: &'static str) -> &'static str {
    match name {
        "incr" | "decr" | "incrby" | "decrby" => "incrby",
        "append" | "setrange" | "incrbyfloat" | "setbit" | "pfadd" => name,
        "bitfield" => "setbit",
        "pfmerge" => "pfadd",
        _ => "set",
    }
}

fn hash(name: &'static str) -> &'static str {
    match name {
        "hmset" | "hsetnx" | "hsetex" => "hset",
        "hgetdel" => "hdel",
        "hpexpire" | "hexpireat" | "hpexpireat" | "hgetex" => "hexpire",
        _ => name,
    }
}

impl Instance {
    /// Tells who listens that a key had an event.
    pub(super) fn notify(&mut self, class: Classes, event: &str, database: u8, key: &[u8]) {
        let wanted = self.config.notify;
        if !wanted.has(class) {
            return;
        }
        let Instance { pubsub, clients, nudges, .. } = self;
        if wanted.has(Classes::KEYSPACE) {
            let channel = [format!("__keyspace@{database}__:").as_bytes(), key].concat();
            pubsub.publish((clients, nudges), Scope::Channel, &channel, event.as_bytes());
        }
        if wanted.has(Classes::KEYEVENT) {
            let channel = format!("__keyevent@{database}__:{event}");
            pubsub.publish((clients, nudges), Scope::Channel, channel.as_bytes(), key);
        }
    }
}

#[cfg(test)]
mod tests;
