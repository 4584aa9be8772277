//! The stores of a daemon by the name of their cache runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::store::SharedStore;

/// Filled by the control thread, read by every worker's scripts.
#[derive(Default)]
pub struct StoreMap {
    stores: RwLock<BTreeMap<String, Arc<SharedStore>>>,
}

impl StoreMap {
    /// The store of a cache runtime.
    pub fn find(&self, name: &str) -> Option<Arc<SharedStore>> {
        self.stores.read().get(name).cloned()
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.stores.read().keys().cloned().collect()
    }

    /// Adds or replaces one.
    pub fn insert(&self, name: &str, store: Arc<SharedStore>) {
        self.stores.write().insert(name.to_owned(), store);
    }

    /// Takes one out; whoever still holds it may finish with it.
    pub fn remove(&self, name: &str) -> Option<Arc<SharedStore>> {
        self.stores.write().remove(name)
    }
}
