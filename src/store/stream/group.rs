//! A stream's consumer group: how far it has read, and which entries its consumers haven't acknowledged yet.
//!
//! An unacknowledged entry stands in the group's list with its owner, and in its owner's set of ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::StreamId;

/// A consumer group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The highest id it was given.
    pub last_id: StreamId,
    /// How many of the stream's entries it was given, counted from the first there ever was; none: unknown.
    pub entries_read: Option<i64>,
    /// What isn't acknowledged.
    pub pending: BTreeMap<StreamId, Pending>,
    /// By name.
    pub consumers: BTreeMap<Arc<[u8]>, Consumer>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Whose it is.
    pub consumer: Arc<[u8]>,
    /// When it was last delivered, in milliseconds since the epoch.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: i64,
}

/// A member of a group.
#[derive(Clone, Debug, Default)]
pub struct Consumer {
    /// When it last asked for entries, in milliseconds since the epoch.
    pub seen_ms: i64,
    /// When it last got one; none: never.
    pub active_ms: Option<i64>,
    /// What isn't acknowledged of what it got.
    pub pending: BTreeSet<StreamId>,
}

impl Group {
    /// A group that has read up to `last_id`.
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    /// Makes a consumer if there is none of that name; whether there was none.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: u64) -> bool {
        if self.consumers.contains_key(name) {
            return false;
        }
        let consumer = Consumer { seen_ms: now_ms as i64, ..Consumer::default() };
        self.consumers.insert(Arc::from(name), consumer);
        true
    }

    /// Removes a consumer with what is pending for it; returns how much that was.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// Notes that a consumer asks; it is made if need be, which is answered with true.
    pub fn seen(&mut self, name: &[u8], now_ms: u64) -> bool {
        let created = self.create_consumer(name, now_ms);
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen_ms = now_ms as i64;
        }
        created
    }

    /// Makes the entry pending for that consumer, whoever had it before. There must be such a consumer.
    pub fn assign(&mut self, id: StreamId, name: &[u8], delivered_ms: i64, deliveries: i64) {
        let Some((name, _)) = self.consumers.get_key_value(name) else { return };
        let name = Arc::clone(name);
        let pending = Pending { consumer: Arc::clone(&name), delivered_ms, deliveries };
        if let Some(before) = self.pending.insert(id, pending) {
            self.disown(&before.consumer, id);
        }
        if let Some(consumer) = self.consumers.get_mut(&name) {
            consumer.pending.insert(id);
        }
    }

    /// Notes that a consumer got something.
    pub fn active(&mut self, name: &[u8], now_ms: u64) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.active_ms = Some(now_ms as i64);
        }
    }

    /// Ends the entry's being pending; whether it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.disown(&pending.consumer, id);
        true
    }

    fn disown(&mut self, name: &[u8], id: StreamId) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.pending.remove(&id);
        }
    }

    /// Heap bytes held, roughly: a tree's node of eleven is two thirds full.
    pub fn memory_bytes(&self) -> usize {
        let pending = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let consumer = size_of::<(Arc<[u8]>, Consumer)>();
        let names: usize = self.consumers.keys().map(|name| name.len() + 16).sum();
        let trees = self.pending.len() * pending + self.consumers.len() * consumer;
        size_of::<Group>() + trees + trees / 2 + names
    }
}
