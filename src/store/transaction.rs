//! MULTI's queue and WATCH's versions: what a transaction needs besides the lock that makes it atomic anyway.
//!
//! A watched key has a version that grows with every command that changed it. EXEC compares: a newer version, or a key
//! that was there and has expired since, and nothing is executed.

use std::collections::BTreeMap;

use super::commands::introspection::keys;
use super::commands::{Command, CommandId};
use super::{Args, ArgsBuffer, Keyspace};
use crate::limits::DATABASES;

/// Commands between MULTI and EXEC; their arguments are owned copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In the order they came.
    pub queued: Vec<Queued>,
    /// A command was refused: EXEC will refuse all.
    pub failed: bool,
    /// Bytes of all arguments.
    pub bytes: usize,
}

/// One command that waits for EXEC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its row.
    pub command: CommandId,
    /// Its name and arguments.
    pub args: ArgsBuffer,
    /// The hash of its first key.
    pub hash: u64,
}

/// A key as a session saw it at WATCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    database: u8,
    key: Vec<u8>,
    version: u64,
    existed: bool,
}

/// All watched keys of a store.
#[derive(Debug, Default)]
pub struct Watches {
    databases: [BTreeMap<Vec<u8>, Watch>; DATABASES],
    count: usize,
    version: u64,
}

#[derive(Debug)]
struct Watch {
    version: u64,
    watchers: usize,
    exists: bool,
}

impl Transaction {
    /// Appends a command.
    pub fn queue(&mut self, command: CommandId, arguments: Args<'_>, hash: u64) {
        let mut args = ArgsBuffer::default();
        args.extend(arguments.iter());
        self.bytes += args.memory_bytes();
        self.queued.push(Queued { command, args, hash });
    }
}

impl Watches {
    /// Whether nobody watches anything; asked after every write.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Notes the key as it is now.
    pub fn watch(
        &mut self,
        keyspace: &mut Keyspace,
        database: u8,
        key: &[u8],
        now_ms: u64,
    ) -> Watched {
        let existed = exists(keyspace, database, key, now_ms);
        self.version += 1;
        let fresh = Watch { version: self.version, watchers: 0, exists: existed };
        let watch = self.databases[usize::from(database)].entry(key.to_vec()).or_insert(fresh);
        watch.watchers += 1;
        self.count += 1;
        Watched { database, key: key.to_vec(), version: watch.version, existed }
    }

    /// Whether a session watches that key already.
    pub fn is_watched(watched: &[Watched], database: u8, key: &[u8]) -> bool {
        watched.iter().any(|watched| watched.database == database && watched.key == key)
    }

    /// Forgets what a session watched.
    pub fn unwatch(&mut self, watched: &mut Vec<Watched>) {
        for one in watched.drain(..) {
            let database = &mut self.databases[usize::from(one.database)];
            let Some(watch) = database.get_mut(&one.key) else { continue };
            watch.watchers -= 1;
            self.count -= 1;
            if watch.watchers == 0 {
                database.remove(&one.key);
            }
        }
    }

    /// Whether any of a session's keys has changed or expired since.
    pub fn changed(&self, keyspace: &mut Keyspace, watched: &[Watched], now_ms: u64) -> bool {
        watched.iter().any(|one| {
            let version =
                self.databases[usize::from(one.database)].get(&one.key).map(|watch| watch.version);
            let mut expired = || one.existed && !exists(keyspace, one.database, &one.key, now_ms);
            version != Some(one.version) || expired()
        })
    }

    /// The keys that a command is about to write, if it changes anything; with the databases they are in.
    pub fn written(
        &self,
        keyspace: &mut Keyspace,
        call: (&Command, Args<'_>, u8),
        now_ms: u64,
    ) -> Vec<(u8, Vec<u8>)> {
        let (row, args, database) = call;
        if row.name == "swapdb" {
            return self.swapped(args);
        }
        let mut keys: Vec<Vec<u8>> =
            written(row, args).into_iter().map(|index| args.at(index).to_vec()).collect();
        if row.name.ends_with("mpop")
            || matches!(row.name, "blpop" | "brpop" | "bzpopmin" | "bzpopmax")
        {
            keys.retain(|key| exists(keyspace, database, key, now_ms));
            keys.truncate(1);
        }
        if row.name == "smove" && keys.len() == 2 {
            let hash = keyspace.hash(&keys[1]);
            let target = keyspace.database(database).set(&keys[1], hash, now_ms);
            if matches!(target, Ok(Some(set)) if set.contains(args.at(3))) {
                keys.truncate(1);
            }
        }
        // The other database is an argument; all that hold the name are close enough.
        let everywhere = matches!(row.name, "move" | "copy");
        let databases = if everywhere { 0..DATABASES as u8 } else { database..database + 1 };
        databases.flat_map(|database| keys.iter().map(move |key| (database, key.clone()))).collect()
    }

    /// The watched keys of two databases that change places.
    fn swapped(&self, args: Args<'_>) -> Vec<(u8, Vec<u8>)> {
        let (left, right) = (args.at(1), args.at(2));
        let databases = [left, right].into_iter().filter(|_| left != right);
        databases
            .filter_map(|index| std::str::from_utf8(index).ok()?.parse::<u8>().ok())
            .filter(|index| usize::from(*index) < DATABASES)
            .flat_map(|index| {
                self.databases[usize::from(index)].keys().map(move |key| (index, key.clone()))
            })
            .collect()
    }

    /// Notes that a command changed something: the keys it wrote get a new version.
    pub fn on_write(&mut self, keyspace: &mut Keyspace, written: &[(u8, Vec<u8>)], now_ms: u64) {
        for (database, key) in written {
            self.touch(keyspace, *database, key, now_ms);
        }
    }

    fn touch(&mut self, keyspace: &mut Keyspace, database: u8, key: &[u8], now_ms: u64) {
        let Some(watch) = self.databases[usize::from(database)].get_mut(key) else { return };
        let exists = exists(keyspace, database, key, now_ms);
        // A key that was missing and still is hasn't changed (`DEL missing present`).
        if exists || watch.exists {
            self.version += 1;
            watch.version = self.version;
            watch.exists = exists;
        }
    }
}

fn exists(keyspace: &mut Keyspace, database: u8, key: &[u8], now_ms: u64) -> bool {
    let hash = keyspace.hash(key);
    keyspace.database(database).contains(key, hash, now_ms)
}

/// The indexes of the keys that a command writes, of those that it has.
pub(super) fn written(row: &Command, args: Args<'_>) -> Vec<usize> {
    let mut keys = keys(row, args).unwrap_or_default();
    match row.name {
        // As in Redis, what happens to groups isn't a change of the key.
        name if row.group == "stream" && !matches!(name, "xadd" | "xdel" | "xtrim") => keys.clear(),
        "copy" => drop(keys.drain(..1)),
        name if name.ends_with("store") || name == "bitop" => keys.truncate(1),
        _ => {}
    }
    if matches!(row.name, "sort" | "georadius" | "georadiusbymember") {
        let names: [&[u8]; 2] = [b"store", b"storedist"];
        let store = args
            .iter()
            .enumerate()
            .filter(|(_, argument)| names.iter().any(|name| argument.eq_ignore_ascii_case(name)))
            .last();
        keys = store.map(|(at, _)| at + 1).filter(|at| *at < args.len()).into_iter().collect();
    }
    keys
}
