//! A store that threads share: one lock, taken once per batch.

/// One cache's store behind its lock.
pub struct SharedStore {}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedStore")
    }
}
