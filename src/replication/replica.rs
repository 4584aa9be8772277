//! A replica's side of its link to a primary (Redis 7's `replication.c`).
//!
//! ```text
//! PING, AUTH, REPLCONF listening-port, REPLCONF capa eof capa psync2, PSYNC id offset     each waits for its answer
//!   +FULLRESYNC id offset    a snapshot follows, then changes
//!   +CONTINUE [id]           changes follow from where the last link was cut
//! $len CR LF bytes           a snapshot of that length
//! $EOF:mark CR LF ... mark   one that ends with 40 bytes which stand for nothing else
//! ```
//! Changes are applied as they come, each command once, and every byte of them counts for the offset that is acknowledged.
//! A [`History`] outlives the link: by it the next one asks for the rest alone.

use std::collections::VecDeque;

use crate::persist::rdb::{Item, Reader};
use crate::store::feed::write_command;
use crate::store::rdb::Builder;
use crate::store::replay::Replay;
use crate::store::replication::LinkState;
use crate::store::{Expiry, Store};

/// Acknowledgements whose bytes aren't on disk yet.
const SAVED_MARKS_MAX: usize = 1024;
/// Commands and keys applied in one hold of the store.
const HOLD_MAX: usize = crate::limits::STORE_HOLD_COMMANDS_MAX;
/// Bytes of a snapshot that are given to its reader at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes of a line of the handshake; nobody sends more than some hundred.
const LINE_BYTES_MAX: usize = 4096;
/// What ends a snapshot of unknown length.
const MARK_BYTES: usize = 40;
/// Asks for an acknowledgement now.
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Who this replica is, and as whom it comes.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The port it is served on itself.
    pub port: u16,
    /// `masteruser`; empty for the default user.
    pub user: Vec<u8>,
    /// `masterauth`; empty for none.
    pub password: Vec<u8>,
}

/// What the data is a state of, and all that is needed to go on from there.
pub struct History {
    id: String,
    offset: u64,
    replay: Replay,
}

/// One connection to a primary.
pub struct Link {
    settings: Settings,
    stage: Stage,
    history: Option<History>,
    /// Received bytes; those before `at` are done with.
    buffer: Vec<u8>,
    at: usize,
    saved: Saved,
}

/// How much of the primary's feed is in this replica's own append log. Its own feed counts other bytes: what it was when
/// something was acknowledged says which of them belong together.
#[derive(Default)]
struct Saved {
    /// Ends of the own feed, and the primary's offsets that they stand for.
    marks: VecDeque<(u64, u64)>,
    offset: Option<u64>,
}

impl Saved {
    /// Up to `end` the own feed says what the primary's does up to `offset`; up to `safe` it is on disk.
    fn note(&mut self, (end, safe): (u64, u64), offset: u64) {
        if self.marks.back().is_none_or(|(_, last)| *last < offset) {
            self.marks.push_back((end, offset));
        }
        // Of many that wait, those in the middle are the ones to lose: the first comes next, the last says most.
        if self.marks.len() > SAVED_MARKS_MAX {
            self.marks.remove(SAVED_MARKS_MAX / 2);
        }
        while self.marks.front().is_some_and(|(end, _)| *end <= safe) {
            self.offset = self.marks.pop_front().map(|(_, offset)| offset);
        }
    }
}

enum Stage {
    Ping,
    Auth,
    Port,
    Capabilities,
    Psync,
    /// The snapshot's first line.
    Length,
    Snapshot(Box<Snapshot>),
    Changes,
}

struct Snapshot {
    reader: Reader,
    end: End,
    /// Its bytes so far.
    read: u64,
    database: u8,
    /// Its last byte was given to the reader.
    complete: bool,
}

/// The end of the store's own feed and what of it is safe, if there is an append log.
fn own_log(store: &Store) -> Option<(u64, u64)> {
    Some((store.instance.feed.offset(), store.instance.copies.safe_offset()?))
}

enum End {
    /// After so many more bytes.
    After(u64),
    Mark([u8; MARK_BYTES]),
}

impl Link {
    /// A link that has just been made; says what to send first.
    pub fn new(settings: Settings, history: Option<History>, out: &mut Vec<u8>) -> Link {
        say(out, &[b"PING"]);
        Link {
            settings,
            stage: Stage::Ping,
            history,
            buffer: Vec::new(),
            at: 0,
            saved: Saved::default(),
        }
    }

    /// What the next link can go on from.
    pub fn into_history(self) -> Option<History> {
        self.history
    }

    /// How far it is.
    pub fn state(&self) -> LinkState {
        match self.stage {
            Stage::Length | Stage::Snapshot(_) => LinkState::Sync,
            Stage::Changes => LinkState::Connected,
            _ => LinkState::Handshake,
        }
    }

    /// Takes bytes of the primary; [`Link::step`] does something with them.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.at));
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// How much of a snapshot has come: all of its bytes (0: not known), and those read.
    pub fn snapshot_bytes(&self) -> (u64, u64) {
        match &self.stage {
            Stage::Snapshot(snapshot) => {
                let total =
                    if let End::After(left) = snapshot.end { snapshot.read + left } else { 0 };
                (total, snapshot.read)
            }
            _ => (0, 0),
        }
    }

    /// Says how far the changes are applied and, with an append log, how far they are on disk. `log`: the end of the own
    /// feed when they had been applied, and its offset that is safe.
    pub fn acknowledge(&mut self, log: Option<(u64, u64)>, out: &mut Vec<u8>) {
        let (Stage::Changes, Some(history)) = (&self.stage, &self.history) else { return };
        let applied = history.offset.to_string();
        if let Some(log) = log {
            self.saved.note(log, history.offset);
        }
        match self.saved.offset.filter(|_| log.is_some()) {
            None => say(out, &[b"REPLCONF", b"ACK", applied.as_bytes()]),
            Some(saved) => {
                let saved = saved.to_string();
                say(out, &[b"REPLCONF", b"ACK", applied.as_bytes(), b"FACK", saved.as_bytes()]);
            }
        }
    }

    /// Does as much as one hold of the store allows with what has come; true if there is more to do.
    ///
    /// # Errors
    /// The link can't go on, and why.
    pub fn step(&mut self, store: &mut Store, out: &mut Vec<u8>) -> Result<bool, String> {
        loop {
            match &mut self.stage {
                Stage::Snapshot(_) => {
                    let more = self.snapshot(store, out)?;
                    if more || matches!(self.stage, Stage::Snapshot(_)) {
                        return Ok(more);
                    }
                }
                Stage::Changes => return self.changes(store, out),
                _ => {
                    let Some(line) = self.line()? else { return Ok(false) };
                    self.on_line(&line, store, out)?;
                }
            }
        }
    }

    /// The next line of the handshake. An empty one says that the primary still lives.
    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            let rest = &self.buffer[self.at..];
            let Some(end) = memchr::memchr(b'\n', rest) else {
                let fits = rest.len() <= LINE_BYTES_MAX;
                return if fits {
                    Ok(None)
                } else {
                    Err("it doesn't speak Redis's protocol".to_owned())
                };
            };
            let line = String::from_utf8_lossy(rest[..end].trim_ascii_end()).into_owned();
            self.at += end + 1;
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn on_line(&mut self, line: &str, store: &mut Store, out: &mut Vec<u8>) -> Result<(), String> {
        match self.stage {
            Stage::Ping => {
                // Without a password nothing else is answered, and that is enough to see who it is.
                let asks = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
                if !line.starts_with('+') && !asks.iter().any(|ask| line.starts_with(ask)) {
                    return Err(format!("it answers PING with {line}"));
                }
                self.authenticate(out);
            }
            Stage::Auth if !line.starts_with('+') => {
                return Err(format!("AUTH is refused: {line}"));
            }
            Stage::Auth => self.tell_port(out),
            // Who doesn't know these does without them.
            Stage::Port => {
                say(out, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]);
                self.stage = Stage::Capabilities;
            }
            Stage::Capabilities => {
                let (id, offset) = match &self.history {
                    Some(history) => (history.id.as_str(), (history.offset + 1).to_string()),
                    None => ("?", "-1".to_owned()),
                };
                say(out, &[b"PSYNC", id.as_bytes(), offset.as_bytes()]);
                self.stage = Stage::Psync;
            }
            Stage::Psync => return self.on_psync(line, store),
            Stage::Length => return self.on_length(line, store),
            Stage::Snapshot(_) | Stage::Changes => unreachable!("these have no lines"),
        }
        Ok(())
    }

    fn authenticate(&mut self, out: &mut Vec<u8>) {
        let Settings { user, password, .. } = &self.settings;
        match (user.is_empty(), password.is_empty()) {
            (_, true) => return self.tell_port(out),
            (true, _) => say(out, &[b"AUTH", password]),
            (false, _) => say(out, &[b"AUTH", user, password]),
        }
        self.stage = Stage::Auth;
    }

    fn tell_port(&mut self, out: &mut Vec<u8>) {
        say(out, &[b"REPLCONF", b"listening-port", self.settings.port.to_string().as_bytes()]);
        self.stage = Stage::Port;
    }

    fn on_psync(&mut self, line: &str, store: &mut Store) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["+FULLRESYNC", id, offset] => {
                let offset = offset.parse().map_err(|_| format!("it answers PSYNC with {line}"))?;
                self.history =
                    Some(History { id: id.to_owned(), offset, replay: Replay::default() });
                self.stage = Stage::Length;
                store.instance.statistics.syncs.full += 1;
            }
            ["+CONTINUE", ..] => {
                let Some(history) = &mut self.history else {
                    return Err("it goes on where nothing has begun".to_owned());
                };
                if let Some(id) = words.get(1).filter(|id| **id != history.id) {
                    let before = std::mem::replace(&mut history.id, (*id).to_owned());
                    store.instance.replication.before = Some((before, history.offset));
                }
                store.instance.replication.begin(&history.id, history.offset);
                store.instance.statistics.syncs.partial += 1;
                self.stage = Stage::Changes;
            }
            _ => return Err(format!("it answers PSYNC with {line}")),
        }
        Ok(())
    }

    fn on_length(&mut self, line: &str, store: &mut Store) -> Result<(), String> {
        let wrong = || format!("a snapshot was to come, not {line}");
        let text = line.strip_prefix('$').ok_or_else(wrong)?;
        let end = match text.strip_prefix("EOF:") {
            Some(mark) => End::Mark(mark.as_bytes().try_into().map_err(|_| wrong())?),
            None => End::After(text.parse().map_err(|_| wrong())?),
        };
        // What was here goes: until the snapshot is whole, clients are told that it is loaded.
        let mut gone = Vec::new();
        say(&mut gone, &[b"FLUSHALL"]);
        say(&mut gone, &[b"FUNCTION", b"FLUSH"]);
        Replay::default().apply(store, &gone, 2).map_err(|fault| fault.reason)?;
        let reader = Reader::new();
        let snapshot = Snapshot { reader, end, read: 0, database: 0, complete: false };
        self.stage = Stage::Snapshot(Box::new(snapshot));
        Ok(())
    }

    /// Takes keys over; true if there are more now.
    fn snapshot(&mut self, store: &mut Store, out: &mut Vec<u8>) -> Result<bool, String> {
        let Link { stage: Stage::Snapshot(snapshot), buffer, at, .. } = self else {
            return Ok(false);
        };
        for _ in 0..HOLD_MAX {
            let (hasher, thresholds) = (store.keyspace.hasher(), store.keyspace.thresholds);
            let builder = Builder { hasher, thresholds: &thresholds };
            let item = snapshot.reader.next(&builder);
            match item.map_err(|damage| format!("its snapshot is damaged: {damage:?}"))? {
                Some(Item::End) if !snapshot.complete => {
                    // The mark, or what its length promised, has still to come; nothing else may.
                    let fed = snapshot.feed(&buffer[*at..])?;
                    *at += fed;
                    if !snapshot.complete {
                        return Ok(false);
                    }
                    return self.snapshot_ended(store, out);
                }
                Some(Item::End) => return self.snapshot_ended(store, out),
                Some(item) => snapshot.take(item, store)?,
                None if snapshot.complete && snapshot.reader.has_ended() => {
                    return self.snapshot_ended(store, out);
                }
                None if snapshot.complete => return Err("its snapshot isn't whole".to_owned()),
                None => {
                    let fed = snapshot.feed(&buffer[*at..])?;
                    *at += fed;
                    if fed == 0 && !snapshot.complete {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn snapshot_ended(&mut self, store: &mut Store, out: &mut Vec<u8>) -> Result<bool, String> {
        let Some(history) = &self.history else { return Err("no history".to_owned()) };
        store.instance.replication.begin(&history.id, history.offset);
        if store.instance.config.append_only {
            // The snapshot isn't in the append log: it is written anew.
            store.instance.persistence.rewrite_wanted = true;
            store.instance.persistence.call();
        }
        self.stage = Stage::Changes;
        self.acknowledge(own_log(store), out);
        Ok(false)
    }

    /// Applies changes; true if there are more now.
    fn changes(&mut self, store: &mut Store, out: &mut Vec<u8>) -> Result<bool, String> {
        let Some(history) = &mut self.history else { return Err("no history".to_owned()) };
        let mut asked = false;
        let mut more = false;
        for _ in 0..HOLD_MAX {
            let rest = &self.buffer[self.at..];
            let same = rest.len().min(GETACK.len());
            more = !rest.is_empty();
            let done = match rest[..same] == GETACK[..same] {
                true if same == GETACK.len() => {
                    asked = true;
                    GETACK.len()
                }
                true => 0,
                false => history.replay.apply(store, rest, 1).map_err(|fault| fault.reason)?.0,
            };
            if done == 0 {
                more = false;
                break;
            }
            self.at += done;
            history.offset += done as u64;
        }
        store.instance.replication.offset = history.offset;
        if asked {
            self.acknowledge(own_log(store), out);
        }
        Ok(more)
    }
}

impl Snapshot {
    /// Gives the reader the next of the received bytes; how many they are.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let (taken, used) = match &mut self.end {
            End::After(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let taken = bytes.len().min(most).min(PIECE_BYTES);
                *left -= taken as u64;
                self.complete = *left == 0;
                (taken, taken)
            }
            // Nothing follows the mark until it is acknowledged, so what isn't at the end isn't it.
            End::Mark(mark) => {
                self.complete = bytes.ends_with(mark);
                let taken = bytes.len().saturating_sub(MARK_BYTES);
                (taken, if self.complete { bytes.len() } else { taken })
            }
        };
        self.reader.feed(&bytes[..taken]);
        self.read += taken as u64;
        if self.complete {
            self.reader.complete();
        }
        Ok(used)
    }

    fn take(&mut self, item: Item, store: &mut Store) -> Result<(), String> {
        match item {
            Item::Database(number) => {
                let number = u8::try_from(number)
                    .ok()
                    .filter(|number| usize::from(*number) < crate::limits::DATABASES);
                self.database = number.ok_or("it has more databases than there are here")?;
            }
            Item::Key(key) => {
                let hash = store.keyspace.hash(&key.key);
                let database = store.keyspace.database(self.database);
                database.insert_value(&key.key, hash, key.value, Expiry::from(key.expires_ms));
                store.keyspace.dirty += 1;
            }
            Item::Function(text) => {
                let mut load = Vec::new();
                say(&mut load, &[b"FUNCTION", b"LOAD", b"REPLACE", &text]);
                Replay::default().apply(store, &load, 1).map_err(|fault| fault.reason)?;
            }
            Item::Auxiliary(..) | Item::End => {}
        }
        Ok(())
    }
}

fn say(out: &mut Vec<u8>, words: &[&[u8]]) {
    write_command(out, words.iter().copied());
}

#[cfg(test)]
mod tests;
