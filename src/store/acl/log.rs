//! ACL LOG: what was refused, the newest first; the same again within a minute only counts.

use std::collections::VecDeque;

use crate::store::Session;

/// How long the same refusal is the same entry, in milliseconds.
const SAME_MS: u64 = 60_000;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A name and password.
    Authentication,
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
}

impl Reason {
    /// As ACL LOG spells it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Authentication => "auth",
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
        }
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// How often.
    pub count: u64,
    /// What.
    pub reason: Reason,
    /// `toplevel`, or `multi` inside of a transaction.
    pub context: &'static str,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// Who.
    pub user: Vec<u8>,
    /// Its line of CLIENT LIST.
    pub client_info: Vec<u8>,
    /// The entry's own.
    pub id: u64,
    /// First, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Last.
    pub updated_ms: u64,
}

impl Entry {
    /// A refusal of now.
    pub fn new(
        reason: Reason,
        object: Vec<u8>,
        user: Vec<u8>,
        (session, client_info): (&Session, Vec<u8>),
    ) -> Entry {
        let context = if session.transaction.is_some() { "multi" } else { "toplevel" };
        let (id, created_ms, updated_ms) = (0, 0, 0);
        Entry { count: 1, reason, context, object, user, client_info, id, created_ms, updated_ms }
    }
}

/// All entries.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Adds a refusal and keeps the newest `limit`.
    pub fn add(&mut self, entry: Entry, now_ms: u64, limit: usize) {
        let same = |old: &Entry| {
            (old.reason, old.context, &old.object, &old.user)
                == (entry.reason, entry.context, &entry.object, &entry.user)
                && now_ms.saturating_sub(old.updated_ms) <= SAME_MS
        };
        let known = self.entries.iter().position(same);
        let entry = match known.and_then(|at| self.entries.remove(at)) {
            Some(old) => Entry { count: old.count + 1, updated_ms: now_ms, ..old },
            None => {
                self.next_id += 1;
                Entry { id: self.next_id - 1, created_ms: now_ms, updated_ms: now_ms, ..entry }
            }
        };
        self.entries.push_front(entry);
        self.entries.truncate(limit);
    }

    /// The newest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
