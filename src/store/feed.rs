//! What commands do to the data, as commands that do the same wherever and whenever they run: for append logs and replicas.
//!
//! While somebody subscribes ([`Attention::FED`]), every change is appended to [`Feed`] as RESP commands, in the order in
//! which it happened under the store's lock. What depends on chance, on the clock or on the rest of the world is said in
//! other words (`effects.rs`): SPOP as SREM, expiries as milliseconds since the epoch, INCRBYFLOAT as SET, XADD's `*` as the id that
//! was made, a blocking pop as the pop that it became. Keys and members whose time has come, and evicted keys, are DEL,
//! HDEL, SREM and ZREM in front of what met them. SELECT stands where the database changes. Transactions, scripts, functions
//! and commands written in Lua are their effects, between MULTI and EXEC if there are several.
//!
//! # For consumers
//!
//! - [`SharedStore::subscribe`](super::SharedStore::subscribe) (or [`Store::subscribe`](super::Store::subscribe) under a hold, at a moment that belongs to a snapshot)
//!   gives a [`Subscription`]. From the next change on, which begins with a SELECT, bytes come as [`Piece`]s: shared
//!   bytes and the offset of the first of them. They are put there at the end of each hold, and `nudge` is called, on the
//!   thread of whoever held the store, when there is something after there was nothing.
//! - A piece never ends inside a command or between MULTI and EXEC.
//! - [`Feed::offset`] counts all bytes since the store was made. At the end of a hold it is the end of the last piece; a
//!   reply that must not leave before its changes are safe waits for that offset.
//! - A subscription whose consumer doesn't take what is there is *overrun* at its bound: its bytes are dropped, it gets
//!   nothing more, and [`Subscription::is_overrun`] says so. It has to begin anew, from a snapshot.
//! - Applying: [`super::replay`]. At the time [`REPLAY_MS`](super::replay::REPLAY_MS) nothing expires: whoever writes the feed decides that.
//!
//! Must not know: files, sockets, what consumers do.

mod effects;
mod run;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::database::Gone;
use super::meter;
use super::value::Kind;

pub(super) use run::{close_script, run};
pub use streams::GroupAt;

/// Changes as commands.
#[derive(Default)]
pub struct Feed {
    /// Of this hold, not sealed yet.
    bytes: Vec<u8>,
    /// Of all bytes ever, up to the end of `bytes`.
    offset: u64,
    /// The database that the next command runs in; none: a SELECT is needed.
    database: Option<u8>,
    /// The open transaction, script or command.
    scope: Option<Scope>,
    /// What the running command said instead of itself.
    said: Vec<Effect>,
    /// The running command has said what is to be said, perhaps nothing.
    is_said: bool,
    subscribers: Vec<Arc<Subscription>>,
    /// There are replicas, or were.
    is_replicated: bool,
    /// What was sealed last, for them.
    sealed: Option<Piece>,
}

/// Effects that belong together.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// Where the first begins in the hold's bytes.
    start: usize,
    count: usize,
    /// Transactions and scripts inside each other.
    depth: usize,
}

/// One command.
type Effect = (u8, Vec<Vec<u8>>);

/// Bytes of the feed that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of the first byte, counted from the store's beginning.
    pub offset: u64,
    /// Whole commands.
    pub bytes: Arc<[u8]>,
}

/// A consumer's place in the feed.
pub struct Subscription {
    pieces: Mutex<Pieces>,
    /// There is something, and the consumer has been told.
    told: AtomicBool,
    overrun: AtomicBool,
    bytes_max: usize,
    nudge: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Pieces {
    list: VecDeque<Piece>,
    bytes: usize,
}

impl Subscription {
    /// Takes what has come, oldest first.
    pub fn take(&self) -> VecDeque<Piece> {
        if !self.told.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        std::mem::take(&mut *self.pieces.lock()).list
    }

    /// Bytes that wait to be taken.
    pub fn waiting_bytes(&self) -> usize {
        self.pieces.lock().bytes
    }

    /// It fell too far behind and has lost its place.
    pub fn is_overrun(&self) -> bool {
        self.overrun.load(Ordering::Acquire)
    }

    fn put(&self, piece: &Piece) {
        let mut pieces = self.pieces.lock();
        pieces.bytes += piece.bytes.len();
        if pieces.bytes > self.bytes_max {
            *pieces = Pieces::default();
            self.overrun.store(true, Ordering::Release);
        } else {
            pieces.list.push_back(piece.clone());
        }
    }
}

impl Feed {
    /// Whether anybody wants to know.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_replicated || !self.subscribers.is_empty()
    }

    /// From now on there are replicas, which get what is sealed by [`Feed::take_sealed`].
    pub(super) fn replicate(&mut self) {
        self.is_replicated = true;
    }

    /// What was sealed since the last time, if there are replicas.
    pub(super) fn take_sealed(&mut self) -> Option<Piece> {
        self.sealed.take()
    }

    /// Says that the store still lives.
    pub(super) fn ping(&mut self) {
        self.append(|out| write_command(out, [&b"PING"[..]].into_iter()));
    }

    /// Asks the replicas how far they are. In an append log it stands for nothing.
    pub(super) fn ask_for_acknowledgements(&mut self) {
        self.append(|out| write_command(out, [&b"REPLCONF"[..], b"GETACK", b"*"].into_iter()));
    }

    /// A transaction or script isn't at its end.
    pub(super) fn is_open(&self) -> bool {
        self.scope.is_some()
    }

    /// Bytes since the store was made.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The end of the last piece.
    pub fn sealed_offset(&self) -> u64 {
        self.offset - self.bytes.len() as u64
    }

    /// Says that the feed goes on from there: a replica's is its primary's.
    pub fn set_offset(&mut self, offset: u64) {
        assert!(self.bytes.is_empty(), "nothing waits to be sealed");
        self.offset = offset;
    }

    /// The next change begins with a SELECT.
    pub fn reselect(&mut self) {
        self.database = None;
    }

    /// Adds bytes that are whole commands already, from a primary.
    pub fn relay(&mut self, bytes: &[u8]) {
        self.append(|out| out.extend_from_slice(bytes));
        self.database = None;
    }

    pub(super) fn subscribe(
        &mut self,
        bytes_max: usize,
        nudge: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Subscription> {
        let subscription = Arc::new(Subscription {
            pieces: Mutex::default(),
            told: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
            bytes_max,
            nudge,
        });
        self.subscribers.push(Arc::clone(&subscription));
        self.database = None;
        subscription
    }

    pub(super) fn unsubscribe(&mut self, subscription: &Arc<Subscription>) {
        self.subscribers.retain(|other| !Arc::ptr_eq(other, subscription));
    }

    /// One command more.
    fn emit<'a>(&mut self, database: u8, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        let selected = self.database.replace(database) == Some(database);
        self.append(|out| {
            if !selected {
                let number = database.to_string();
                write_command(out, [&b"SELECT"[..], number.as_bytes()].into_iter());
            }
            write_command(out, words);
        });
        if let Some(scope) = &mut self.scope {
            scope.count += 1;
        }
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        write(&mut self.bytes);
        self.offset += (self.bytes.len() - len) as u64;
        if self.bytes.capacity() != capacity {
            let bytes = meter::allocation_bytes;
            meter::exclude(bytes(self.bytes.capacity()) - bytes(capacity));
        }
    }

    /// What the running command does, instead of itself.
    pub(super) fn say(&mut self, database: u8, words: &[&[u8]]) {
        if self.is_on() {
            self.is_said = true;
            self.said.push((database, words.iter().map(|word| word.to_vec()).collect()));
        }
    }

    /// The running command is not to be told of unless it says something.
    pub(super) fn says_itself(&mut self) {
        self.is_said = self.is_on();
    }

    /// A key or member whose time has come.
    pub(super) fn lost(&mut self, database: u8, gone: &Gone) {
        match gone {
            Gone::Key(key, _) => self.key_gone(database, key),
            Gone::Member(..) if !self.is_on() => {}
            Gone::Member(kind, key, member) => {
                let name: &[u8] = match kind {
                    Kind::Set => b"SREM",
                    Kind::SortedSet => b"ZREM",
                    _ => b"HDEL",
                };
                self.emit(database, [name, key, member].into_iter());
            }
        }
    }

    /// A key that has expired or was evicted.
    pub(super) fn key_gone(&mut self, database: u8, key: &[u8]) {
        if self.is_on() {
            self.emit(database, [&b"DEL"[..], key].into_iter());
        }
    }

    fn open(&mut self) {
        let fresh = Scope { start: self.bytes.len(), count: 0, depth: 0 };
        self.scope.get_or_insert(fresh).depth += 1;
    }

    /// Ends the innermost scope; the outermost becomes a transaction if it has several effects.
    fn close(&mut self) {
        const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
        const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
        let Some(scope) = &mut self.scope else { return };
        scope.depth -= 1;
        if scope.depth > 0 {
            return;
        }
        let Scope { start, count, .. } = *scope;
        self.scope = None;
        if count > 1 {
            self.append(|out| {
                out.extend_from_slice(EXEC);
                out.splice(start..start, MULTI.iter().copied());
            });
        }
    }

    /// Hands what came since the last time to the subscribers; who is to be told, once the store isn't held any more.
    pub(super) fn seal(&mut self) -> Vec<Arc<Subscription>> {
        let end = self.scope.map_or(self.bytes.len(), |scope| scope.start);
        if end == 0 {
            return Vec::new();
        }
        let offset = self.offset - self.bytes.len() as u64;
        let piece = meter::outside(|| Piece { offset, bytes: Arc::from(&self.bytes[..end]) });
        self.bytes.drain(..end);
        if let Some(scope) = &mut self.scope {
            scope.start = 0;
        }
        self.give_memory_back();
        self.sealed = self.is_replicated.then(|| piece.clone());
        meter::outside(|| self.hand_out(&piece))
    }

    fn hand_out(&self, piece: &Piece) -> Vec<Arc<Subscription>> {
        let mut fresh = Vec::new();
        for subscription in &self.subscribers {
            if subscription.is_overrun() {
                continue;
            }
            subscription.put(piece);
            if !subscription.told.swap(true, Ordering::AcqRel) {
                fresh.push(Arc::clone(subscription));
            }
        }
        fresh
    }

    fn give_memory_back(&mut self) {
        const KEPT: usize = 256 * 1024;
        let capacity = self.bytes.capacity();
        self.bytes.shrink_to(KEPT);
        if self.bytes.capacity() != capacity {
            let bytes = meter::allocation_bytes;
            meter::exclude(bytes(self.bytes.capacity()) - bytes(capacity));
        }
    }
}

/// Tells consumers that there is something; not while the store is held.
pub(super) fn nudge(fresh: &[Arc<Subscription>]) {
    fresh.iter().for_each(|subscription| (subscription.nudge)());
}

/// A command as clients send it.
pub fn write_command<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut number = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(number.format(words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(b"\r\n$");
        out.extend_from_slice(number.format(word.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
