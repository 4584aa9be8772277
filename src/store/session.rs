//! What a store remembers about one client: its database, protocol version and name.
//!
//! A session belongs to a connection, an app's in-process cache handle or a replay; it holds no socket.

use super::blocked::Ticket;
use std::sync::Arc;

use super::acl::User;
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
    /// Whose rules hold; none for in-process sessions, which may do everything.
    pub user: Option<Arc<User>>,
    /// Of which state of all users those rules are.
    pub acl_epoch: u64,
    /// Commands that wait for EXEC.
    pub transaction: Option<Box<Transaction>>,
    /// Keys that EXEC depends on.
    pub watched: Vec<Watched>,
    /// How many channels, patterns and shard channels it listens to.
    pub subscriptions: [u32; 3],
    /// Of the feed: where its last write ends; 0 if it hasn't written, or nobody wanted to know.
    pub written: u64,
    /// Its command waits.
    pub wait: Option<Ticket>,
    /// What makes the next command differ from an ordinary one; mostly empty.
    pub state: State,
}

/// A set of conditions that the execution of a command asks for with one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(u32);

/// Each condition has a bit of its own, by its place.
macro_rules! conditions {
    ($($(#[$about:meta])* $name:ident,)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "they only number the constants")]
        enum Bit { $($name,)* }

        impl State {
            $($(#[$about])* pub const $name: State = State(1 << Bit::$name as u32);)*
        }
    };
}

conditions! {
    /// Close the connection when the replies so far are sent (QUIT, CLIENT KILL of oneself).
    CLOSING,
    /// The store has a password and this client hasn't given it.
    UNAUTHENTICATED,
    /// CLIENT REPLY OFF.
    REPLY_OFF,
    /// CLIENT REPLY SKIP is running: the next command stays unanswered.
    SKIP_NEXT,
    /// CLIENT NO-EVICT ON.
    NO_EVICT,
    /// CLIENT NO-TOUCH ON.
    NO_TOUCH,
    /// CLIENT REPLY SKIP was the last command: this one stays unanswered.
    SKIPPING,
    /// Between MULTI and EXEC.
    TRANSACTION,
    /// Its command waits: nothing more of it is executed.
    WAITING,
    /// Its command may not wait: it is one of a transaction or script.
    NO_WAIT,
    /// Its command has waited and is run again.
    RETRYING,
    /// It listens to channels.
    SUBSCRIBED,
    /// CLIENT TRACKING is on.
    TRACKING,
    /// MONITOR.
    MONITOR,
    /// The user may not do everything.
    RESTRICTED,
    /// PSYNC: what comes of it are acknowledgements.
    REPLICA,
    /// Hooks don't hear of what it writes: it is a hook, or the app's own store.
    QUIET,
    /// In process: a command that reads what is missing may ask the app for it, which answers later.
    ASKS,
    /// Its last command would have had to ask; it wasn't run.
    MISSED,
}

impl State {
    /// Both sets.
    pub const fn and(self, other: State) -> State {
        State(self.0 | other.0)
    }

    /// Whether any of `others` is in here.
    #[inline]
    pub fn any(self, others: State) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether nothing is special.
    #[inline]
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
    /// Its wait is over.
    pub fn end_wait(&mut self) {
        self.wait = None;
        self.state.set(State::WAITING, false);
    }

    /// A copy that its waiting command is run with later.
    pub fn for_later(&self) -> Session {
        let mut session = Session { name: self.name.clone(), ..Session::new(self.id) };
        (session.database, session.resp3) = (self.database, self.resp3);
        (session.may_write, session.row, session.state) = (self.may_write, self.row, self.state);
        session.written = self.written;
        session.state.set(State::WAITING, false);
        session
    }

    /// Whether nothing about it concerns the execution of a command, under the rules of that epoch.
    #[inline]
    pub fn is_ordinary(&self, acl_epoch: u64) -> bool {
        self.state.is_empty() && self.acl_epoch == acl_epoch
    }

    /// The name of its user.
    pub fn user_name(&self) -> &[u8] {
        self.user.as_ref().map_or(b"default", |user| &user.name)
    }

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
            user: None,
            acl_epoch: 0,
            transaction: None,
            watched: Vec::new(),
            subscriptions: [0; 3],
            written: 0,
            wait: None,
            state: State::default(),
        }
    }
}
