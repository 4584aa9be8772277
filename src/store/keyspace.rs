//! The databases of a store.

/// All databases of one store.
pub struct Keyspace {}
