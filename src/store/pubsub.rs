//! Who listens to which channels, and what a message looks like to them.
//!
//! A message is written once for each protocol version and shared by all that hear it. Subscribers are named by their
//! row in the list of clients. Must not know: connections, how a message travels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clients::{Clients, Delivery};
use super::feeds::{Feed, Message};
use super::hooks::Nudge;
use super::{Reply, glob, meter};

/// Rows from here on are listeners in this process.
const FIRST_FEED: u32 = 1 << 31;

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// SUBSCRIBE
    Channel,
    /// PSUBSCRIBE
    Pattern,
    /// SSUBSCRIBE
    Shard,
}

/// All subscriptions of a store.
#[derive(Default)]
pub struct PubSub {
    scopes: [Subscriptions; 3],
    /// Listeners in this process, by row.
    feeds: BTreeMap<u32, Arc<Feed>>,
    /// How many there have been.
    last_feed: u32,
}

/// Subscriptions of one kind, by name and by client.
#[derive(Default)]
struct Subscriptions {
    rows: BTreeMap<Vec<u8>, BTreeSet<u32>>,
    names: BTreeMap<u32, BTreeSet<Vec<u8>>>,
}

impl PubSub {
    /// Adds a subscription; false if it was there.
    pub fn subscribe(&mut self, scope: Scope, row: u32, name: &[u8]) -> bool {
        let Subscriptions { rows, names } = &mut self.scopes[scope as usize];
        let fresh = names.entry(row).or_default().insert(name.to_vec());
        if fresh {
            rows.entry(name.to_vec()).or_default().insert(row);
        }
        fresh
    }

    /// Ends a subscription; false if there was none.
    pub fn unsubscribe(&mut self, scope: Scope, row: u32, name: &[u8]) -> bool {
        let Subscriptions { rows, names } = &mut self.scopes[scope as usize];
        let Some(own) = names.get_mut(&row) else { return false };
        if !own.remove(name) {
            return false;
        }
        if own.is_empty() {
            names.remove(&row);
        }
        if let Some(all) = rows.get_mut(name) {
            all.remove(&row);
            if all.is_empty() {
                rows.remove(name);
            }
        }
        true
    }

    /// Adds a listener in this process; its row.
    pub fn listen(&mut self, scope: Scope, name: &[u8], feed: Arc<Feed>) -> u32 {
        self.last_feed = (self.last_feed + 1) % FIRST_FEED;
        let row = FIRST_FEED + self.last_feed;
        self.feeds.insert(row, feed);
        self.subscribe(scope, row, name);
        row
    }

    /// Ends one.
    pub fn unlisten(&mut self, row: u32) {
        self.feeds.remove(&row);
        self.forget(row);
    }

    /// Ends all subscriptions of a client.
    pub fn forget(&mut self, row: u32) {
        for scope in [Scope::Channel, Scope::Pattern, Scope::Shard] {
            for name in self.names(scope, row) {
                self.unsubscribe(scope, row, &name);
            }
        }
    }

    /// A client's subscriptions of one kind.
    pub fn names(&self, scope: Scope, row: u32) -> Vec<Vec<u8>> {
        let own = self.scopes[scope as usize].names.get(&row);
        own.map(|names| names.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many subscriptions of one kind a client has.
    pub fn count(&self, scope: Scope, row: u32) -> usize {
        self.scopes[scope as usize].names.get(&row).map_or(0, BTreeSet::len)
    }

    /// All names of one kind that somebody listens to.
    pub fn active(&self, scope: Scope) -> impl ExactSizeIterator<Item = &[u8]> {
        self.scopes[scope as usize].rows.keys().map(Vec::as_slice)
    }

    /// How many listen to a name.
    pub fn listeners(&self, scope: Scope, name: &[u8]) -> usize {
        self.scopes[scope as usize].rows.get(name).map_or(0, BTreeSet::len)
    }

    /// Sends a message to all that listen to its channel; how often it is heard.
    pub fn publish(
        &self,
        (clients, nudges): (&mut Clients, &mut Vec<Nudge>),
        scope: Scope,
        channel: &[u8],
        message: &[u8],
    ) -> usize {
        let mut copy = None;
        let word: &[u8] = if scope == Scope::Shard { b"smessage" } else { b"message" };
        let mut heard = 0;
        if let Some(rows) = self.scopes[scope as usize].rows.get(channel) {
            heard += push(clients, rows, &[word, channel, message]);
            self.feed(rows, &mut copy, (channel, message), nudges);
        }
        if scope == Scope::Channel {
            for (pattern, rows) in &self.scopes[Scope::Pattern as usize].rows {
                if glob::matches(pattern, channel) {
                    heard += push(clients, rows, &[b"pmessage", pattern, channel, message]);
                    self.feed(rows, &mut copy, (channel, message), nudges);
                }
            }
        }
        heard
    }
}

impl PubSub {
    /// Puts a message into the queues of those listeners that are in this process; they are the last rows.
    #[inline]
    fn feed(
        &self,
        rows: &BTreeSet<u32>,
        copy: &mut Option<Arc<Message>>,
        (channel, text): (&[u8], &[u8]),
        nudges: &mut Vec<Nudge>,
    ) {
        if self.feeds.is_empty() {
            return;
        }
        for feed in rows.range(FIRST_FEED..).filter_map(|row| self.feeds.get(row)) {
            let message = copy.get_or_insert_with(|| {
                meter::outside(|| Arc::new(Message { channel: channel.into(), text: text.into() }))
            });
            feed.put(message, nudges);
        }
    }
}

fn message(words: &[&[u8]], resp3: bool) -> Arc<[u8]> {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, resp3);
    reply.push(words.len());
    words.iter().for_each(|word| reply.bulk(word));
    out.into()
}

/// Delivers an out-of-band message to clients, each in its protocol version; how many there are.
fn push(clients: &mut Clients, rows: &BTreeSet<u32>, words: &[&[u8]]) -> usize {
    let mut written: [Option<Arc<[u8]>>; 2] = [None, None];
    for row in rows.range(..FIRST_FEED) {
        let Some((connection, resp3)) = clients.address(*row) else { continue };
        let bytes = written[usize::from(resp3)]
            .get_or_insert_with(|| meter::outside(|| message(words, resp3)));
        clients.deliver(Delivery::Push { connection, bytes: Arc::clone(bytes) });
    }
    rows.len()
}
