//! What a store remembers about one client: its database, protocol version and name.
//!
//! A session belongs to a connection, an app's in-process cache handle or a replay; it holds no socket.

/// One client's state inside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The client's number in CLIENT LIST; unique in its store.
    pub id: u64,
    /// The selected database, below 16.
    pub database: u8,
    /// Answers in RESP3 (after `HELLO 3`).
    pub resp3: bool,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME and LIB-VER.
    pub library: (Vec<u8>, Vec<u8>),
    /// May write: false on a readonly cache.
    pub may_write: bool,
}

impl Session {
    /// A fresh client in database 0 that speaks RESP2.
    pub fn new(id: u64) -> Session {
        Session {
            id,
            database: 0,
            resp3: false,
            name: Vec::new(),
            library: (Vec::new(), Vec::new()),
            may_write: true,
        }
    }
}
