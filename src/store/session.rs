//! What a store remembers about one client: its database, protocol version and name.
//!
//! A session belongs to a connection, an app's in-process cache handle or a replay; it holds no socket.

use super::transaction::{Transaction, Watched};

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
    /// Its row in the store's client list; none for in-process sessions.
    pub row: Option<u32>,
    /// Commands that wait for EXEC.
    pub transaction: Option<Box<Transaction>>,
    /// Keys that EXEC depends on.
    pub watched: Vec<Watched>,
    /// What makes the next command differ from an ordinary one; mostly empty.
    pub state: State,
}

/// A set of conditions that the execution of a command asks for with one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(u16);

impl State {
    /// Close the connection when the replies so far are sent (QUIT, CLIENT KILL of oneself).
    pub const CLOSING: State = State(1);
    /// The store has a password and this client hasn't given it.
    pub const UNAUTHENTICATED: State = State(1 << 1);
    /// CLIENT REPLY OFF.
    pub const REPLY_OFF: State = State(1 << 2);
    /// CLIENT REPLY SKIP is running: the next command stays unanswered.
    pub const SKIP_NEXT: State = State(1 << 3);
    /// CLIENT REPLY SKIP was the last command: this one stays unanswered.
    pub const SKIPPING: State = State(1 << 6);
    /// Between MULTI and EXEC.
    pub const TRANSACTION: State = State(1 << 7);
    /// CLIENT NO-EVICT ON.
    pub const NO_EVICT: State = State(1 << 4);
    /// CLIENT NO-TOUCH ON.
    pub const NO_TOUCH: State = State(1 << 5);

    /// Whether nothing is special.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in here.
    pub fn has(self, other: State) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds or removes `other`.
    pub fn set(&mut self, other: State, on: bool) {
        self.0 = if on { self.0 | other.0 } else { self.0 & !other.0 };
    }
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
            row: None,
            transaction: None,
            watched: Vec::new(),
            state: State::default(),
        }
    }
}
