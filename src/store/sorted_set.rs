//! The sorted set value. It knows nothing of keys, clients or replies.

use super::Hasher;

/// A sorted set.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {}

impl SortedSet {
    /// An empty one.
    pub fn new(_hasher: Hasher) -> SortedSet {
        SortedSet {}
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there are none; such a key is removed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        "listpack"
    }

    /// Heap bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        0
    }
}
