//! Write-behind: which keys have changed since the app last wrote them elsewhere.
//!
//! A key that changes often is written once, with what it holds when its batch is made: so the memory is bounded by the
//! number of changed keys, not of changes. Only what goes by itself meanwhile (expired, evicted) has its last value
//! kept. A batch that fails comes back in front of the others.

use std::collections::{BTreeMap, VecDeque};

use super::super::{Keyspace, Reply, Store, meter};
use super::HookValue;
use crate::limits::{BEHIND_BATCH_BYTES_MAX, BEHIND_KEYS_MAX};

/// A database's number and a key in it.
type Place = (u8, Vec<u8>);

/// The changed keys.
#[derive(Default)]
pub(super) struct Behind {
    /// Each with its last value, if it has gone by itself.
    changed: BTreeMap<Place, Option<HookValue>>,
    /// The same keys, in the order of their first change.
    order: VecDeque<Place>,
    /// Those of the batch that the app is writing.
    running: Vec<(Place, Option<HookValue>)>,
    /// Keys of one batch at most; 0 if nothing is written behind.
    pub(super) batch_keys: usize,
}

/// A batch for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many keys.
    pub keys: usize,
    /// An array of maps, as RESP3: `key`, `database`, and `value`, `ttl` (seconds), `deleted`, `too_large` where they
    /// apply.
    pub rows: Vec<u8>,
}

impl Behind {
    pub(super) fn len(&self) -> usize {
        self.changed.len()
    }

    /// Forgets everything; how many keys that is.
    pub(super) fn clear(&mut self) -> usize {
        let keys = self.changed.len();
        self.changed.clear();
        self.order.clear();
        keys
    }

    /// Whether a batch is full.
    pub(super) fn is_due(&self) -> bool {
        self.batch_keys > 0 && self.changed.len() >= self.batch_keys
    }

    /// A key has changed; false if it can't be noted.
    pub(super) fn mark(&mut self, database: u8, key: &[u8]) -> bool {
        let place = (database, key.to_vec());
        if let Some(kept) = self.changed.get_mut(&place) {
            *kept = None;
            return true;
        }
        if self.changed.len() >= BEHIND_KEYS_MAX {
            return false;
        }
        self.order.push_back(place.clone());
        self.changed.insert(place, None);
        true
    }

    /// A key has gone by itself; if it has a change that wasn't written, its last value is.
    pub(super) fn keep(&mut self, database: u8, key: &[u8], value: &HookValue) {
        if let Some(kept) = self.changed.get_mut(&(database, key.to_vec())) {
            *kept = Some(value.clone());
        }
    }

    /// The first keys become the running batch; what they hold.
    fn start(&mut self, keyspace: &mut Keyspace, now_ms: u64) -> Option<Batch> {
        if !self.running.is_empty() {
            return None;
        }
        let (mut body, mut buffer) = (Vec::new(), Vec::new());
        while self.running.len() < self.batch_keys && body.len() < BEHIND_BATCH_BYTES_MAX {
            let Some(place) = self.order.pop_front() else { break };
            let Some(kept) = self.changed.remove(&place) else { continue };
            buffer.clear();
            write_row(keyspace, &place, kept.as_ref(), now_ms, &mut buffer);
            body.extend_from_slice(&buffer);
            self.running.push((place, kept));
        }
        let keys = self.running.len();
        if keys == 0 {
            return None;
        }
        let mut rows = Vec::with_capacity(body.len() + 16);
        Reply::new(&mut rows, true).array(keys);
        rows.extend_from_slice(&body);
        Some(Batch { keys, rows })
    }

    /// The running batch has been written, or not: then its keys wait again, in front. How many there were.
    fn finish(&mut self, is_written: bool) -> usize {
        let running = std::mem::take(&mut self.running);
        let keys = running.len();
        if !is_written {
            for (place, kept) in running.into_iter().rev() {
                // One that has changed again waits already, with a newer value.
                if let std::collections::btree_map::Entry::Vacant(free) =
                    self.changed.entry(place.clone())
                {
                    free.insert(kept);
                    self.order.push_front(place);
                }
            }
        }
        keys
    }
}

fn write_row(
    keyspace: &mut Keyspace,
    (database, key): &Place,
    kept: Option<&HookValue>,
    now_ms: u64,
    out: &mut Vec<u8>,
) {
    let hash = keyspace.hash(key);
    let entry = keyspace.database(*database).peek(key, hash, now_ms);
    let ttl_ms = entry.as_ref().and_then(|entry| entry.expires_ms());
    let present = entry.map(|entry| HookValue::of(entry.value()));
    let value = present.as_ref().or(kept);
    let pairs = 3 + usize::from(ttl_ms.is_some());
    let mut reply = Reply::new(out, true);
    reply.map(pairs);
    reply.bulk(b"key");
    reply.bulk(key);
    reply.bulk(b"database");
    reply.integer(i64::from(*database));
    if let Some(at_ms) = ttl_ms {
        reply.bulk(b"ttl");
        reply.double(at_ms.saturating_sub(now_ms) as f64 / 1000.0);
    }
    match value {
        Some(HookValue::Text(text)) => {
            reply.bulk(b"value");
            reply.bulk(text);
        }
        Some(HookValue::Collection(rows)) => {
            reply.bulk(b"value");
            reply.raw(rows);
        }
        Some(HookValue::TooLarge) => {
            reply.bulk(b"too_large");
            reply.boolean(true);
        }
        Some(HookValue::Absent) | None => {
            reply.bulk(b"deleted");
            reply.boolean(true);
        }
    }
}

impl Store {
    /// The next changes for the app to write; nothing if there are none, or it is still writing.
    pub fn start_behind(&mut self) -> Option<Batch> {
        let (keyspace, hooks, now_ms) = (&mut self.keyspace, &mut self.instance.hooks, self.now_ms);
        let batch = hooks.behind.start(keyspace, now_ms)?;
        meter::exclude(meter::allocation_bytes(batch.rows.capacity()));
        Some(batch)
    }

    /// Whether changes wait.
    pub fn has_behind(&self) -> bool {
        self.instance.hooks.behind.len() > 0
    }

    /// The app has written its batch, or it hasn't: then the same changes come again. How many changes wait.
    pub fn finish_behind(&mut self, is_written: bool) -> usize {
        let hooks = &mut self.instance.hooks;
        let keys = hooks.behind.finish(is_written) as u64;
        match is_written {
            true => hooks.figures.written += keys,
            false => hooks.figures.retried += u64::from(keys > 0),
        }
        hooks.behind.len()
    }
}
