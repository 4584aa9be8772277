//! When a collection leaves its packed form: Redis 7.4's defaults, in one place, because OBJECT ENCODING shows them.

use crate::limits::STREAM_NODE_ENTRIES_MAX;

/// The limits of the packed forms. Tests shrink them so that conversions happen early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `list-max-listpack-size -2`: bytes of a packed list, and of one node of a longer list.
    pub list_bytes: usize,
    /// `list-max-listpack-size` above 0: elements of the same.
    pub list_elements: usize,
    /// `set-max-intset-entries`
    pub set_integers: usize,
    /// `set-max-listpack-entries`
    pub set_entries: usize,
    /// `set-max-listpack-value`: bytes of one member.
    pub set_value_bytes: usize,
    /// `hash-max-listpack-entries`: fields.
    pub hash_entries: usize,
    /// `hash-max-listpack-value`: bytes of one field or value.
    pub hash_value_bytes: usize,
    /// `zset-max-listpack-entries`: members.
    pub sorted_set_entries: usize,
    /// `zset-max-listpack-value`: bytes of one member.
    pub sorted_set_value_bytes: usize,
    /// `stream-node-max-entries`: entries of one node; it is as much as an approximate trim leaves.
    pub stream_node_entries: usize,
}

/// Bytes of `list-max-listpack-size` -1 to -5.
const LIST_BYTES: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];

impl Thresholds {
    /// `list-max-listpack-size`: how many elements, or -1 to -5 for bytes.
    pub fn list_size(&self) -> i64 {
        match LIST_BYTES.iter().position(|bytes| *bytes == self.list_bytes) {
            Some(index) if self.list_elements == usize::MAX => -1 - index as i64,
            _ => self.list_elements as i64,
        }
    }

    /// The same, to be changed; what is out of its range is the nearest in it.
    pub fn set_list_size(&mut self, size: i64) {
        let size = size.max(-(LIST_BYTES.len() as i64));
        if size < 0 {
            (self.list_bytes, self.list_elements) = (LIST_BYTES[(-1 - size) as usize], usize::MAX);
        } else {
            // As in Redis, elements alone don't bound a node's bytes below this.
            (self.list_bytes, self.list_elements) = (8192, size.max(1) as usize);
        }
    }
}

/// Redis 7.4's defaults.
pub const REDIS: Thresholds = Thresholds {
    list_bytes: 8192,
    list_elements: usize::MAX,
    set_integers: 512,
    set_entries: 128,
    set_value_bytes: 64,
    hash_entries: 512,
    hash_value_bytes: 64,
    sorted_set_entries: 128,
    sorted_set_value_bytes: 64,
    stream_node_entries: STREAM_NODE_ENTRIES_MAX,
};
