//! The in-process way into stores: arguments one by one, the command, its reply as a simple value or kept as a whole.
//!
//! A cache is found again in every turn, so that a store that went away is not kept alive by a script that named it.
//! Must not know: Lua.

use std::rc::Rc;
use std::sync::Arc;

use super::Stores;
use crate::proto::resp::{ReplyReader, Value};
use crate::store::hooks::{Landing, OnLanded};
use crate::store::session::State;
use crate::store::{Session, SharedStore};

/// The caches that a VM's scripts have named.
pub(super) struct Caches {
    stores: Rc<dyn Stores>,
    named: Vec<Named>,
    /// The next command: its arguments' bytes, and where each ends.
    arguments: Vec<u8>,
    ends: Vec<usize>,
    reply: Vec<u8>,
    value: Option<Value>,
}

struct Named {
    name: String,
    /// Its session, for the store it was made in.
    session: Option<Session>,
    /// The store, for the rest of this turn.
    store: Option<Arc<SharedStore>>,
}

/// A reply as the FFI carries it.
#[derive(Debug, PartialEq)]
pub(super) enum Answer<'a> {
    Nil,
    Bytes(&'a [u8]),
    Number(f64),
    Boolean(bool),
    Error(&'a [u8]),
    /// An aggregate: [`Caches::take_value`] has it.
    Table,
    /// No such cache runs.
    Absent,
    /// Its app may have what is missing: [`Caches::ask`].
    Missed,
}

/// How a command runs, as `lua/app/cache.lua` numbers it: hooks don't hear of what it writes.
const QUIET: u32 = 1;
/// It may wait for what is missing.
const ASKS: u32 = 2;

impl Caches {
    /// Over the worker's stores.
    pub(super) fn new(stores: Rc<dyn Stores>) -> Caches {
        Caches {
            stores,
            named: Vec::new(),
            arguments: Vec::new(),
            ends: Vec::new(),
            reply: Vec::new(),
            value: None,
        }
    }

    /// The number of a cache's name.
    pub(super) fn index(&mut self, name: &str) -> usize {
        if let Some(index) = self.named.iter().position(|named| named.name == name) {
            return index;
        }
        self.named.push(Named { name: name.to_owned(), session: None, store: None });
        self.named.len() - 1
    }

    /// Whether it runs.
    pub(super) fn has(&self, name: &str) -> bool {
        self.stores.find(name).is_some()
    }

    /// All that run.
    pub(super) fn names(&self) -> Vec<String> {
        self.stores.names()
    }

    /// The name that was probably meant.
    pub(super) fn nearest(&self, name: &str) -> Option<String> {
        let names = self.stores.names();
        crate::suggest::nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
    }

    /// Adds an argument of the next command.
    pub(super) fn argument(&mut self, bytes: &[u8]) {
        self.arguments.extend_from_slice(bytes);
        self.ends.push(self.arguments.len());
    }

    /// Forgets the arguments.
    pub(super) fn reset(&mut self) {
        self.arguments.clear();
        self.ends.clear();
    }

    /// Runs the command on cache `index`.
    pub(super) fn execute(&mut self, index: usize, flags: u32, now_ms: u64) -> Answer<'_> {
        let Caches { stores, named, arguments, ends, reply, value } = self;
        let Some(named) = named.get_mut(index) else {
            return Answer::Absent;
        };
        if named.store.is_none() {
            named.store = stores.find(&named.name);
        }
        let Some(store) = &named.store else {
            arguments.clear();
            ends.clear();
            named.session = None;
            return Answer::Absent;
        };
        let session = named.session.get_or_insert_with(|| {
            let mut session = store.session(now_ms);
            session.resp3 = true;
            session
        });
        reply.clear();
        session.state.set(State::QUIET, flags & QUIET != 0);
        session.state.set(State::ASKS, flags & ASKS != 0);
        store.call(session, &list(arguments, ends), now_ms, reply);
        arguments.clear();
        ends.clear();
        if session.state.has(State::MISSED) {
            session.state.set(State::MISSED, false);
            return Answer::Missed;
        }
        answer(reply, value)
    }

    /// Asks the app of cache `index` for the keys among the arguments that are missing.
    pub(super) fn ask(&mut self, index: usize, now_ms: u64, on_landed: OnLanded) {
        let Caches { stores, named, arguments, ends, .. } = self;
        let store = named.get(index).and_then(|named| stores.find(&named.name));
        match store {
            Some(store) => {
                let database = named[index].session.as_ref().map_or(0, |session| session.database);
                store.lock(now_ms).ask_for(database, &list(arguments, ends), on_landed);
            }
            // The command that comes again finds out.
            None => on_landed(Ok(())),
        }
        self.reset();
    }

    /// What `on_miss` of cache `index` says of the key of a flight: nothing (0), the string (1) or hash (2) that the
    /// arguments are, or that it failed (3), for which they are the reason.
    pub(super) fn land(
        &mut self,
        (index, number): (usize, u64),
        form: u32,
        ttl_ms: Option<u64>,
        now_ms: u64,
    ) {
        let Caches { stores, named, arguments, ends, .. } = self;
        let words = list(arguments, ends);
        let first = || words.first().copied().unwrap_or_default().to_vec();
        let landing = match form {
            0 => Landing::Nothing,
            1 => Landing::Text(first()),
            2 => Landing::Hash(words.iter().map(|word| word.to_vec()).collect()),
            _ => Landing::Failed(first()),
        };
        let store = named.get(index).and_then(|named| stores.find(&named.name));
        if let Some(store) = store {
            store.lock(now_ms).land(number, landing, ttl_ms);
        }
        self.reset();
    }

    /// The aggregate of the last reply.
    pub(super) fn take_value(&mut self) -> Option<Value> {
        self.value.take()
    }

    /// The turn is over: stores are looked up again.
    pub(super) fn end_turn(&mut self) {
        for named in &mut self.named {
            named.store = None;
        }
    }
}

/// The arguments by themselves.
fn list<'a>(arguments: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let mut start = 0;
    let words = ends.iter().map(|end| {
        let argument = &arguments[start..*end];
        start = *end;
        argument
    });
    words.collect()
}

/// Reads the simple types in place, everything else through the reader.
fn answer<'a>(reply: &'a [u8], value: &mut Option<Value>) -> Answer<'a> {
    let Some(line_end) = memchr::memchr(b'\r', reply) else {
        return Answer::Nil;
    };
    let line = &reply[1..line_end];
    match reply[0] {
        b'+' => Answer::Bytes(line),
        b'-' => Answer::Error(line),
        b':' | b',' => match std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()) {
            Some(number) => Answer::Number(number),
            None => Answer::Bytes(line),
        },
        b'_' => Answer::Nil,
        b'#' => Answer::Boolean(line == b"t"),
        b'$' if line != b"-1" => Answer::Bytes(&reply[line_end + 2..reply.len() - 2]),
        b'$' => Answer::Nil,
        _ => {
            *value = ReplyReader::default().read(reply).ok().flatten().map(|(value, _)| value);
            Answer::Table
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_replies_are_read_in_place() {
        for (reply, expected) in [
            (&b"+OK\r\n"[..], Answer::Bytes(b"OK")),
            (b"-ERR no\r\n", Answer::Error(b"ERR no")),
            (b":-7\r\n", Answer::Number(-7.0)),
            (b",1.5\r\n", Answer::Number(1.5)),
            (b",inf\r\n", Answer::Number(f64::INFINITY)),
            (b"_\r\n", Answer::Nil),
            (b"$-1\r\n", Answer::Nil),
            (b"#t\r\n", Answer::Boolean(true)),
            (b"$3\r\na\rb\r\n", Answer::Bytes(b"a\rb")),
            (b"*0\r\n", Answer::Table),
            (b"", Answer::Nil),
        ] {
            assert_eq!(answer(reply, &mut None), expected, "{reply:?}");
        }
    }
}
