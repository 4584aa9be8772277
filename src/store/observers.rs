//! Who wants to know which keys commands read and write: watching transactions, caching clients, listeners to events.
//!
//! Only when one of the latter two is there do commands come through here; the keys that a command may write are looked
//! at before and after it. Keys that go by themselves (expired, evicted) are noted by their databases.

use super::call::{Call, CommandResult};
use super::commands::introspection::keys;
use super::commands::{Command, Flags};
use super::database::Gone;
use super::events::{self, Change, Classes};
use super::hooks::{HookKind, Wanted};
use super::instance::{Attention, Instance};
use super::session::State;
use super::transaction::written;
use super::value::{Kind, ValueRef};
use super::{Keyspace, tracking};
use crate::limits::DATABASES;

/// A key that a command may write.
struct Touched {
    database: u8,
    key: Vec<u8>,
    before: bool,
    /// The consumers of a stream's groups, if the command may make one.
    consumers: usize,
}

/// Runs a command and tells everybody what it did to keys.
#[cold]
pub(super) fn observe(call: &mut Call<'_>, row: &Command) -> CommandResult {
    let dirty = call.keyspace.dirty;
    let writes = row.flags.has(Flags::WRITE);
    let touched = if writes { touched(call, row) } else { Vec::new() };
    let missed = missed(call, row);
    let watched = (writes && !call.instance.watches.is_empty()).then(|| {
        let database = call.session.database;
        call.instance.watches.written(call.keyspace, (row, call.args, database), call.now_ms)
    });
    let result = (row.run)(call);
    let changed = call.keyspace.dirty != dirty;
    if let Some(written) = watched.filter(|_| changed) {
        call.instance.watches.on_write(call.keyspace, &written, call.now_ms);
    }
    call.instance.tell_lost(call.keyspace);
    // Whoever has read a key that wasn't there is told of a flush, too.
    if changed || (row.name.starts_with("flush") && row.group == "generic") {
        tell_changes(call, row, &touched);
    }
    for key in missed {
        call.instance.notify(Classes::MISS, "keymiss", call.session.database, &key);
    }
    if call.session.state.has(State::TRACKING) {
        tracking::after_command(call, row);
    }
    result
}

fn tell_changes(call: &mut Call<'_>, row: &Command, touched: &[Touched]) {
    let by = call.session.id;
    if row.name.starts_with("flush") || row.name == "swapdb" {
        return call.instance.invalidate_all();
    }
    let wanted = Wanted::WRITE.with(Wanted::DELETE).with(Wanted::BEHIND);
    let hooked = call.instance.hooks.wants(wanted) && !call.session.state.has(State::QUIET);
    let mut changes: Vec<(usize, &Touched)> = touched.iter().enumerate().collect();
    if matches!(row.name, "lmove" | "blmove" | "rpoplpush" | "brpoplpush") {
        // Redis tells of the list that got the element first.
        changes.reverse();
    }
    for (index, one) in changes {
        let after = exists(call.keyspace, one.database, &one.key, call.now_ms);
        let has_new_consumer =
            makes_consumers(row) && consumers(call.keyspace, one) > one.consumers;
        let change = Change { index, before: one.before, after, has_new_consumer };
        if one.before || after {
            call.instance.invalidate(&one.key, by);
        }
        let events = events::of(row, call.args, change);
        for (class, event) in events {
            call.instance.notify(class, event, one.database, &one.key);
        }
        if hooked && (one.before || after) {
            let place = (one.database, one.key.as_slice());
            call.instance.hook_changed(call.keyspace, place, (after, row.name), call.now_ms);
        }
    }
}

/// The keys that a command may write, as they are before it.
fn touched(call: &mut Call<'_>, row: &Command) -> Vec<Touched> {
    let (args, own, now_ms) = (call.args, call.session.database, call.now_ms);
    let number = |text: &[u8]| {
        let number: Option<u8> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.filter(|number| usize::from(*number) < DATABASES)
    };
    let mut places: Vec<(u8, Vec<u8>)> = match row.name {
        "move" => {
            let databases = [Some(own), number(args.at(2))];
            databases.into_iter().flatten().map(|index| (index, args.at(1).to_vec())).collect()
        }
        "copy" => {
            let at = args.iter().skip(3).position(|option| option.eq_ignore_ascii_case(b"db"));
            let target = at.and_then(|at| number(args.get(at + 4)?)).unwrap_or(own);
            vec![(target, args.at(2).to_vec())]
        }
        _ if row.group == "stream" => {
            let indexes = keys(row, args).unwrap_or_default();
            indexes.into_iter().map(|index| (own, args.at(index).to_vec())).collect()
        }
        _ => written(row, args).into_iter().map(|index| (own, args.at(index).to_vec())).collect(),
    };
    // These take from the first key that there is.
    if row.name.ends_with("mpop") || matches!(row.name, "blpop" | "brpop" | "bzpopmin" | "bzpopmax")
    {
        places.retain(|(database, key)| exists(call.keyspace, *database, key, now_ms));
        places.truncate(1);
    }
    let touched = places.into_iter().map(|(database, key)| {
        let before = exists(call.keyspace, database, &key, now_ms);
        let mut touched = Touched { database, key, before, consumers: 0 };
        if makes_consumers(row) {
            touched.consumers = consumers(call.keyspace, &touched);
        }
        touched
    });
    touched.collect()
}

/// Whether a command makes the consumer that it is for, which is all that it tells of itself.
fn makes_consumers(row: &Command) -> bool {
    matches!(row.name, "xreadgroup" | "xclaim" | "xautoclaim")
}

fn consumers(keyspace: &Keyspace, of: &Touched) -> usize {
    let table = keyspace.databases()[usize::from(of.database)].table();
    match table.find(&of.key, keyspace.hash(&of.key)).map(|entry| entry.value()) {
        Some(ValueRef::Stream(stream)) => {
            stream.groups.values().map(|group| group.consumers.len()).sum()
        }
        _ => 0,
    }
}

/// The keys that a command reads and that aren't there, if anybody wants to know.
fn missed(call: &mut Call<'_>, row: &Command) -> Vec<Vec<u8>> {
    if !call.instance.config.notify.has(Classes::MISS) || !row.flags.has(Flags::READONLY) {
        return Vec::new();
    }
    let (database, now_ms) = (call.session.database, call.now_ms);
    let keys = keys(row, call.args).unwrap_or_default().into_iter();
    let mut keys: Vec<Vec<u8>> = keys.map(|index| call.args.at(index).to_vec()).collect();
    keys.retain(|key| !exists(call.keyspace, database, key, now_ms));
    keys
}

fn exists(keyspace: &mut Keyspace, database: u8, key: &[u8], now_ms: u64) -> bool {
    let hash = keyspace.hash(key);
    keyspace.database(database).contains(key, hash, now_ms)
}

impl Instance {
    /// Tells what has expired since the last time.
    pub(super) fn tell_lost(&mut self, keyspace: &mut Keyspace) {
        // Members of one collection that go together are one event.
        let mut told: Option<(u8, Vec<u8>)> = None;
        for (database, gone) in keyspace.take_lost() {
            self.feed.lost(database, &gone);
            match gone {
                Gone::Key(key, value) => {
                    self.invalidate(&key, 0);
                    self.notify(Classes::EXPIRED, "expired", database, &key);
                    self.hook_lost(HookKind::Expired, database, &key, value);
                    told = None;
                }
                Gone::Member(kind, key, _) => {
                    if told.as_ref().is_some_and(|(of, last)| *of == database && *last == key) {
                        continue;
                    }
                    self.tell_members_lost(keyspace, database, (kind, &key));
                    told = Some((database, key));
                }
            }
        }
    }

    /// Redis's `hexpired`, and the like of sets and sorted sets.
    fn tell_members_lost(&mut self, keyspace: &Keyspace, database: u8, (kind, key): (Kind, &[u8])) {
        let (class, event) = match kind {
            Kind::Set => (Classes::SET, "sexpired"),
            Kind::SortedSet => (Classes::SORTED_SET, "zexpired"),
            _ => (Classes::HASH, "hexpired"),
        };
        self.invalidate(key, 0);
        self.notify(class, event, database, key);
        let table = keyspace.databases()[usize::from(database)].table();
        if table.find(key, keyspace.hash(key)).is_none() {
            self.notify(Classes::GENERIC, "del", database, key);
        }
    }

    /// Decides anew whether commands' keys are of interest to anybody.
    pub(super) fn look_for_observers(&mut self, keyspace: &mut Keyspace) {
        let hooked = self.hooks.looks_at_keys();
        let wanted = self.config.notify.is_on() || !self.tracking.is_empty() || hooked;
        self.attention.set(Attention::OBSERVED, wanted);
        self.attention.set(Attention::FED, self.feed.is_on());
        self.tell_lost(keyspace);
        keyspace.note_lost(wanted || self.feed.is_on(), self.keeps_lost_values());
    }
}
