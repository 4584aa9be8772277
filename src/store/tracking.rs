//! Client-side caching: which clients have read which keys, and telling them when those change.
//!
//! The table of keys is bounded by `tracking-table-max-keys`: beyond it some key's clients are told that it changed,
//! which costs them a read. As in Redis, keys of different databases with the same name are the same here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::call::Call;
use super::clients::Delivery;
use super::commands::introspection::keys;
use super::commands::{Command, Flags};
use super::instance::Instance;
use super::session::State;
use super::{Reply, meter};
use crate::limits::TRACKING_CHANGES_MAX;

/// The channel by which clients that speak RESP2 are told through another connection.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Which reads are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All.
    Default,
    /// After CLIENT CACHING YES.
    OptIn,
    /// But after CLIENT CACHING NO.
    OptOut,
    /// None: keys are told by their prefixes.
    Broadcast,
}

/// How one client tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    /// Its row in the list of clients.
    pub row: u32,
    /// Which reads are noted.
    pub mode: Mode,
    /// It isn't told of its own writes.
    pub no_loop: bool,
    /// The client that is told instead.
    pub redirect: Option<u64>,
    /// Broadcast: of keys that start with one of these; empty: of all.
    pub prefixes: BTreeSet<Vec<u8>>,
    /// CLIENT CACHING was called for the next command.
    pub caching: bool,
    /// The client that is told instead has gone.
    pub broken: bool,
}

impl Tracker {
    /// The prefixes that it has, the empty one if it has none.
    fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.prefixes.is_empty().then_some(&b""[..]);
        self.prefixes.iter().map(Vec::as_slice).chain(all)
    }
}

/// All clients that track, by their numbers, and what they have read.
#[derive(Default)]
pub struct Tracking {
    trackers: BTreeMap<u64, Tracker>,
    readers: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    /// Keys that have changed since broadcasts were told last, by prefix, with who changed them last (0: nobody).
    changed: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, u64>>,
    /// How many those are.
    changed_count: usize,
}

impl Tracking {
    /// Whether nobody tracks.
    pub fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }

    /// How many clients track.
    pub fn len(&self) -> usize {
        self.trackers.len()
    }

    /// Whether broadcasts have something to be told.
    #[inline]
    pub fn has_changes(&self) -> bool {
        self.changed_count > 0
    }

    /// How many keys are noted.
    pub fn key_count(&self) -> usize {
        self.readers.len()
    }

    /// How many pairs of a key and a client that has read it are noted.
    pub fn reader_count(&self) -> usize {
        self.readers.values().map(BTreeSet::len).sum()
    }

    /// How many prefixes clients wait for, each counted once.
    pub fn prefix_count(&self) -> usize {
        let all = self.trackers.values().flat_map(|tracker| &tracker.prefixes);
        all.collect::<BTreeSet<_>>().len()
    }

    /// How a client tracks.
    pub fn of(&mut self, client: u64) -> Option<&mut Tracker> {
        self.trackers.get_mut(&client)
    }

    /// The same, to look at.
    pub fn tracker(&self, client: u64) -> Option<&Tracker> {
        self.trackers.get(&client)
    }

    /// A client tracks from now on, or in another way.
    pub fn start(&mut self, client: u64, tracker: Tracker) {
        self.trackers.insert(client, tracker);
    }

    /// A client doesn't track any more. What it has read is forgotten when it changes.
    pub fn end(&mut self, client: u64) {
        self.trackers.remove(&client);
        if self.trackers.is_empty() {
            self.readers.clear();
            self.changed.clear();
            self.changed_count = 0;
        }
    }
}

/// After a command of a client that tracks: notes what it has read.
pub(super) fn after_command(call: &mut Call<'_>, row: &Command) {
    let id = call.session.id;
    let in_transaction = call.session.state.has(State::NO_WAIT);
    let Some(tracker) = call.instance.tracking.trackers.get_mut(&id) else { return };
    let notes = match tracker.mode {
        Mode::Default => true,
        Mode::OptIn => tracker.caching,
        Mode::OptOut => !tracker.caching,
        Mode::Broadcast => false,
    };
    if !in_transaction && !matches!(row.name, "caching" | "multi") {
        tracker.caching = false;
    }
    // A script is noted with the keys that it was given, when it has read any.
    let reads = match row.group {
        "scripting" => call.instance.scripting.read,
        _ => row.flags.has(Flags::READONLY),
    };
    if !notes || !reads {
        return;
    }
    for index in keys(row, call.args).unwrap_or_default() {
        let readers = &mut call.instance.tracking.readers;
        readers.entry(call.args.at(index).to_vec()).or_default().insert(id);
    }
    call.instance.trim_readers();
}

impl Instance {
    /// Beyond `tracking-table-max-keys` readers are told of keys although they haven't changed.
    pub(super) fn trim_readers(&mut self) {
        let keys_max = self.config.tracking_keys_max;
        while keys_max > 0 && self.tracking.readers.len() > keys_max {
            let Some((key, _)) = self.tracking.readers.first_key_value() else { break };
            let key = key.clone();
            self.invalidate_readers(&key, 0);
        }
    }

    /// A key has changed because of a client's command (0: nobody's).
    pub(super) fn invalidate(&mut self, key: &[u8], by: u64) {
        if self.tracking.is_empty() {
            return;
        }
        self.invalidate_readers(key, by);
        let Tracking { trackers, changed, changed_count, .. } = &mut self.tracking;
        for tracker in trackers.values().filter(|tracker| tracker.mode == Mode::Broadcast) {
            for prefix in tracker.prefixes().filter(|prefix| key.starts_with(prefix)) {
                let keys = match changed.get_mut(prefix) {
                    Some(keys) => keys,
                    None => changed.entry(prefix.to_vec()).or_default(),
                };
                *changed_count += usize::from(keys.insert(key.to_vec(), by).is_none());
            }
        }
        if self.tracking.changed_count >= TRACKING_CHANGES_MAX {
            self.broadcast();
        }
    }

    /// Tells broadcasts what has changed: one message for all keys of a prefix.
    pub(super) fn broadcast(&mut self) {
        self.tracking.changed_count = 0;
        for (prefix, keys) in std::mem::take(&mut self.tracking.changed) {
            let trackers = self.tracking.trackers.iter();
            let listens = |tracker: &Tracker| {
                tracker.mode == Mode::Broadcast && tracker.prefixes().any(|one| one == prefix)
            };
            let told: Vec<(u64, bool)> = trackers
                .filter(|(_, tracker)| listens(tracker))
                .map(|(id, tracker)| (*id, tracker.no_loop))
                .collect();
            for (id, no_loop) in told {
                let others = keys.iter().filter(|(_, by)| !(no_loop && **by == id));
                let others: Vec<&[u8]> = others.map(|(key, _)| key.as_slice()).collect();
                if !others.is_empty() {
                    self.tell(id, Some(&others));
                }
            }
        }
    }

    fn invalidate_readers(&mut self, key: &[u8], by: u64) {
        for id in self.tracking.readers.remove(key).unwrap_or_default() {
            let Some(tracker) = self.tracking.trackers.get(&id) else { continue };
            if tracker.mode != Mode::Broadcast && !(tracker.no_loop && id == by) {
                self.tell(id, Some(&[key]));
            }
        }
    }

    /// All keys may have changed.
    pub(super) fn invalidate_all(&mut self) {
        self.tracking.readers.clear();
        self.tracking.changed.clear();
        self.tracking.changed_count = 0;
        let all: Vec<u64> = self.tracking.trackers.keys().copied().collect();
        all.into_iter().for_each(|id| self.tell(id, None));
    }

    /// Tells a client, or the one in its place, of keys (none: of all).
    fn tell(&mut self, id: u64, keys: Option<&[&[u8]]>) {
        let Some(tracker) = self.tracking.trackers.get_mut(&id) else { return };
        let mut target = Some(tracker.row);
        if let Some(redirect) = tracker.redirect {
            target = self.clients.row_of(redirect);
            if target.is_none() && !std::mem::replace(&mut tracker.broken, true) {
                let row = tracker.row;
                self.push_to(row, |reply| {
                    reply.push(1);
                    reply.bulk(b"tracking-redir-broken");
                });
            }
        }
        let redirected = self.tracking.trackers.get(&id).is_some_and(|it| it.redirect.is_some());
        let Some(target) = target else { return };
        let listens = self.clients.listens(target);
        self.push_to(target, |reply| {
            if reply.is_resp3() {
                reply.push(2);
                reply.bulk(b"invalidate");
            } else if redirected && listens {
                reply.push(3);
                reply.bulk(b"message");
                reply.bulk(CHANNEL);
            } else {
                return;
            }
            match keys {
                Some(keys) => {
                    reply.array(keys.len());
                    keys.iter().for_each(|key| reply.bulk(key));
                }
                None => reply.null_array(),
            }
        });
    }

    /// Delivers what `write` writes to a client, in its protocol version; a message to RESP2 is a message, or nothing.
    fn push_to(&mut self, row: u32, write: impl FnOnce(&mut Reply<'_>)) {
        let Some((connection, resp3)) = self.clients.address(row) else { return };
        let bytes: Arc<[u8]> = meter::outside(|| {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, resp3));
            out.into()
        });
        if !bytes.is_empty() {
            self.clients.deliver(Delivery::Push { connection, bytes });
        }
    }
}

#[cfg(test)]
mod tests;
