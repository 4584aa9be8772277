//! The stream value: entries in the order of their ids, and the consumer groups that read them.
//!
//! Entries lie packed in nodes of up to `stream-node-max-entries` entries or [`STREAM_NODE_BYTES_MAX`] bytes, cut where
//! Redis cuts them: trimming with `~` removes whole nodes, so clients see the cuts. A deque of nodes makes appending and
//! trimming constant; a search halves the deque and then walks one node. Knows nothing of keys, clients or replies.

mod group;
mod id;
mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::element::Element;
use crate::limits::{STREAM_ENTRY_BYTES_MAX, STREAM_NODE_BYTES_MAX};
pub use group::{Consumer, Group, Pending};
pub use id::StreamId;
use node::Node;
pub use node::StreamEntry;

/// A stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    nodes: VecDeque<Node>,
    len: u64,
    /// The id of the newest entry there ever was.
    pub last_id: StreamId,
    /// The id of the oldest entry; zero if there is none.
    pub first_id: StreamId,
    /// The highest id that XDEL removed.
    pub max_deleted_id: StreamId,
    /// How many entries there ever were.
    pub entries_added: u64,
    /// By name.
    pub groups: BTreeMap<Vec<u8>, Group>,
}

/// Why an entry wasn't appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its id isn't above the last one.
    NotAbove,
    /// It has too many bytes.
    TooLarge,
}

/// What a new entry's id is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The present time, or one above the last id.
    Automatic,
    /// That time; the sequence is the next one.
    At(u64),
    /// That id.
    Exactly(StreamId),
}

/// Which entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All but the newest so many.
    Newest(u64),
    /// Those below the id.
    From(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// What stays.
    pub keep: Keep,
    /// Only whole nodes go.
    pub approximately: bool,
    /// At most so many entries go; 0: as many as need be.
    pub limit: u64,
}

impl Stream {
    /// An empty one.
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none; such a key stays.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether freeing it takes long.
    pub fn is_big(&self) -> bool {
        let pending: usize = self.groups.values().map(|group| group.pending.len()).sum();
        self.nodes.len() + pending > 64
    }

    /// Heap bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        let nodes: usize = self.nodes.iter().map(Node::memory_bytes).sum();
        let groups: usize =
            self.groups.iter().map(|(name, group)| name.len() + group.memory_bytes()).sum();
        self.nodes.capacity() * size_of::<Node>() + nodes + groups
    }

    /// How many nodes.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Each node's first id and its listpack.
    pub fn blobs(&self) -> impl Iterator<Item = (StreamId, Vec<u8>)> + '_ {
        self.nodes.iter().map(|node| (node.first, node.to_listpack()))
    }

    /// Appends a node of somebody else's making: its first id and the elements of its listpack. `None` if they make no
    /// sense there.
    pub fn push_node(&mut self, first: StreamId, elements: &[Element<'_>]) -> Option<()> {
        let node = Node::from_elements(first, elements)?;
        let start = node.at(node.start())?.id;
        let grows = self.nodes.back().is_none_or(|last| last.last_id() < first);
        if !grows || start < first {
            return None;
        }
        self.len += node.live() as u64;
        self.last_id = node.last_id();
        self.nodes.push_back(node);
        self.find_first();
        Some(())
    }

    /// How many nodes Redis's radix tree would have over our nodes' first ids.
    pub fn radix_nodes(&self) -> usize {
        let keys: Vec<[u8; 16]> = self.nodes.iter().map(|node| node.first.to_bytes()).collect();
        if keys.is_empty() { 1 } else { radix_nodes(&keys, 0) }
    }

    /// Appends an entry of fields and values in turn, and returns its id. A node that has so many entries is followed by a
    /// new one.
    pub fn append<'a>(
        &mut self,
        id: NewId,
        pairs: impl Iterator<Item = &'a [u8]> + Clone,
        (now_ms, node_entries): (u64, usize),
    ) -> Result<StreamId, Refusal> {
        let id = self.next_id(id, now_ms)?;
        let bytes: usize = pairs.clone().map(<[u8]>::len).sum();
        if bytes > STREAM_ENTRY_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        if let Some(last) = self.nodes.back_mut()
            && (last.packed_bytes() + bytes >= STREAM_NODE_BYTES_MAX
                || last.entries() >= node_entries)
        {
            last.close();
            self.nodes.push_back(Node::new(id, pairs.clone().step_by(2)));
        } else if self.nodes.is_empty() {
            self.nodes.push_back(Node::new(id, pairs.clone().step_by(2)));
        }
        let node = self.nodes.back_mut().expect("a node was pushed if there was none");
        node.append(id, pairs);
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
        Ok(id)
    }

    fn next_id(&self, id: NewId, now_ms: u64) -> Result<StreamId, Refusal> {
        let last = self.last_id;
        let next = match id {
            NewId::Exactly(id) => Some(id),
            NewId::Automatic if now_ms > last.ms => Some(StreamId { ms: now_ms, seq: 0 }),
            NewId::Automatic => last.next(),
            NewId::At(ms) if ms == last.ms => {
                last.seq.checked_add(1).map(|seq| StreamId { ms, seq })
            }
            NewId::At(ms) => Some(StreamId { ms, seq: 0 }),
        };
        next.filter(|next| *next > last).ok_or(Refusal::NotAbove)
    }

    /// The entries from `low` to `high`, both included, from either end.
    pub fn range(&self, low: StreamId, high: StreamId, reverse: bool) -> Entries<'_> {
        let from = if reverse { high } else { low };
        let after = self.nodes.partition_point(|node| node.first <= from);
        let (index, at) = match reverse {
            true => (after.wrapping_sub(1), self.end_of(after.wrapping_sub(1))),
            false => (after.saturating_sub(1), self.start_of(after.saturating_sub(1))),
        };
        Entries { stream: self, low, high, reverse, index, at }
    }

    /// All entries.
    pub fn iter(&self) -> Entries<'_> {
        self.range(StreamId::MIN, StreamId::MAX, false)
    }

    /// The entry with that id.
    pub fn entry(&self, id: StreamId) -> Option<StreamEntry<'_>> {
        self.range(id, id, false).next()
    }

    /// The id of the newest entry that is there.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        self.range(StreamId::MIN, StreamId::MAX, true).next().map(|entry| entry.id)
    }

    fn start_of(&self, index: usize) -> usize {
        self.nodes.get(index).map_or(0, Node::start)
    }

    fn end_of(&self, index: usize) -> usize {
        self.nodes.get(index).map_or(0, Node::end)
    }

    /// Removes entries by id; returns how many there were.
    pub fn delete(&mut self, ids: &[StreamId]) -> u64 {
        let mut deleted = 0;
        let mut first_is_gone = false;
        for id in ids.iter().copied() {
            if self.delete_one(id) {
                first_is_gone |= id == self.first_id;
                self.max_deleted_id = self.max_deleted_id.max(id);
                deleted += 1;
            }
        }
        if first_is_gone || (deleted > 0 && self.len == 0) {
            self.find_first();
        }
        deleted
    }

    fn delete_one(&mut self, id: StreamId) -> bool {
        let Some(index) = self.nodes.partition_point(|node| node.first <= id).checked_sub(1) else {
            return false;
        };
        let node = &mut self.nodes[index];
        if !node.delete(id) {
            return false;
        }
        if node.live() == 0 {
            self.nodes.remove(index);
        }
        self.len -= 1;
        true
    }

    fn find_first(&mut self) {
        self.first_id = self.iter().next().map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Removes old entries; returns how many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let before = self.len;
        while let Some(node) = self.nodes.front_mut() {
            let live = node.live() as u64;
            let enough = match trim.keep {
                Keep::Newest(count) => self.len <= count,
                Keep::From(_) => false,
            };
            if enough || (trim.limit > 0 && before - self.len + live > trim.limit) {
                break;
            }
            let whole = match trim.keep {
                Keep::Newest(count) => self.len - live >= count,
                Keep::From(id) => node.last_id() < id,
            };
            if whole {
                self.len -= live;
                self.nodes.pop_front();
                continue;
            }
            if !trim.approximately {
                self.len -= match trim.keep {
                    Keep::Newest(count) => node.delete_oldest(self.len - count),
                    Keep::From(id) => node.delete_below(id),
                };
            }
            break;
        }
        if self.len < before || self.len == 0 {
            self.find_first();
        }
        before - self.len
    }

    /// Whether an entry at `from` or above was deleted, as far as is remembered.
    pub fn has_deleted_from(&self, from: StreamId) -> bool {
        self.len > 0 && self.max_deleted_id != StreamId::MIN && from <= self.max_deleted_id
    }

    /// How many entries were ever added up to `id`, if that can be said without counting: see Redis's documentation of
    /// XINFO GROUPS.
    pub fn added_until(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 || (self.len == 0 && id <= self.last_id) {
            return Some(added);
        }
        if id != StreamId::MIN && id < self.max_deleted_id {
            return None;
        }
        if id == self.last_id {
            return Some(added);
        }
        let whole = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id;
        if id > self.last_id || !whole {
            return None;
        }
        let before_first = added.wrapping_sub(self.len as i64);
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// How many entries a group hasn't been given yet, if that can be said without counting.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 || self.len == 0 {
            return Some(0);
        }
        if group.last_id < self.first_id && self.max_deleted_id < self.first_id {
            return Some(self.len as i64);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_deleted_from(group.last_id) => Some(read),
            _ => self.added_until(group.last_id),
        };
        read.map(|read| (self.entries_added as i64).wrapping_sub(read))
    }

    /// Notes that the group was given the entry with that id, if it is above all before.
    pub fn deliver(&mut self, name: &[u8], id: StreamId) {
        let Some(group) = self.groups.get(name) else { return };
        if id <= group.last_id {
            return;
        }
        let counted = group.last_id >= self.first_id && !self.has_deleted_from(group.last_id);
        let read = match group.entries_read {
            Some(read) if counted => Some(read.wrapping_add(1)),
            _ if self.entries_added > 0 => self.added_until(id),
            read => read,
        };
        let group = self.groups.get_mut(name).expect("it was found above");
        group.entries_read = read;
        group.last_id = id;
    }
}

/// Nodes of the tree over sorted keys that are equal before `depth`: a run of bytes without a choice is one node, so is
/// a choice, and so is the end of a key.
fn radix_nodes(keys: &[[u8; 16]], depth: usize) -> usize {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return 0 };
    let common = (depth..16).take_while(|at| first[*at] == last[*at]).count();
    let run = usize::from(common > 0);
    let depth = depth + common;
    if depth == 16 {
        return run + 1;
    }
    let children = keys.chunk_by(|left, right| left[depth] == right[depth]);
    run + 1 + children.map(|keys| radix_nodes(keys, depth + 1)).sum::<usize>()
}

/// A walk over a range of entries.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    stream: &'a Stream,
    low: StreamId,
    high: StreamId,
    reverse: bool,
    /// The node, which isn't there at the end.
    index: usize,
    /// The place in it of the next entry, or behind it when walking backwards.
    at: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        loop {
            let node = self.stream.nodes.get(self.index)?;
            let found = match self.reverse {
                true => node.before(self.at),
                false => node.at(self.at),
            };
            let Some(entry) = found else {
                self.turn_page();
                continue;
            };
            self.at = if self.reverse { entry.start() } else { entry.end() };
            let past = if self.reverse { entry.id < self.low } else { entry.id > self.high };
            if past {
                self.index = usize::MAX;
                return None;
            }
            let early = if self.reverse { entry.id > self.high } else { entry.id < self.low };
            if !early && !entry.is_deleted() {
                return Some(entry);
            }
        }
    }
}

impl Entries<'_> {
    fn turn_page(&mut self) {
        if self.reverse {
            self.index = self.index.wrapping_sub(1);
            self.at = self.stream.end_of(self.index);
        } else {
            self.index += 1;
            self.at = self.stream.start_of(self.index);
        }
    }
}
