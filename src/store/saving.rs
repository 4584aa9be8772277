//! A picture of all data as it is at one moment, taken while commands go on: without a copy of the process, without a pause.
//!
//! A walker shows every database to a [`Sink`], some entries in each hold, in hash order. A command that may write keys which
//! the walker hasn't reached has them shown first, as they still are, and the walker passes over them later; so does a
//! key that is made meanwhile, which isn't in the picture at all. Whether the walker has been at a key is one comparison
//! with its hash. So the memory this takes is that of the keys written meanwhile and of what the sink's owner hasn't
//! written down yet. Keys whose time comes before they are shown are left out: in the picture they would have ended, too.
//!
//! What isn't bounded: a value is shown as a whole, so a hold is as long as the largest collection takes. FLUSHALL, FLUSHDB
//! and SWAPDB take from under the walker what it walks through; they end the picture, and its owner begins a new one.
//!
//! Must not know: files, formats.

use std::collections::BTreeSet;

use super::call::Call;
use super::commands::Command;
use super::commands::introspection::keys;
use super::entry::Entry;
use super::instance::Attention;
use super::number::parse_integer;
use super::transaction::written;
use super::{Instance, Keyspace, Store, meter};
use crate::limits::DATABASES;

/// What takes the picture's entries.
pub trait Sink: Send {
    /// An entry of a database.
    fn entry(&mut self, database: u8, entry: Entry<'_>);
    /// All have been shown.
    fn finish(&mut self);
    /// Bytes that wait to be taken.
    fn pending(&self) -> usize;
    /// Takes them.
    fn take(&mut self) -> Vec<u8>;
}

/// How far the picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to show.
    More,
    /// All is shown.
    Done,
    /// A command has ended it; its name.
    Ended(&'static str),
}

/// A picture being taken.
pub struct Saving {
    sink: Box<dyn Sink>,
    /// Where the walker is: a database, and the cursor in it.
    database: u8,
    cursor: u64,
    /// Keys that the walker must pass over.
    passed: BTreeSet<(u8, Vec<u8>)>,
    passed_bytes: u64,
    ended: Option<&'static str>,
}

impl Saving {
    /// Whether the walker has been there.
    fn is_behind(&self, database: u8, hash: u64) -> bool {
        database < self.database || (database == self.database && hash < self.cursor << 16)
    }

    /// Shows a key as it is, unless it has been shown.
    fn keep(&mut self, keyspace: &Keyspace, database: u8, key: &[u8]) {
        let hash = keyspace.hash(key);
        let place = (database, key.to_vec());
        if self.is_behind(database, hash) || !self.passed.insert(place) {
            return;
        }
        self.passed_bytes += key.len() as u64 + 64;
        let table = keyspace.databases()[usize::from(database)].table();
        if let Some(entry) = table.find(key, hash) {
            self.sink.entry(database, entry);
        }
    }

    /// Shows what comes next, until it is that many entries or bytes.
    fn walk(&mut self, keyspace: &Keyspace, entries_max: usize, bytes_max: usize) -> bool {
        /// Entries between two looks at the bytes.
        const STRIDE: usize = 16;
        let mut left = entries_max;
        while left > 0 && self.sink.pending() < bytes_max {
            if usize::from(self.database) == DATABASES {
                return false;
            }
            let (number, sink, passed) = (self.database, &mut self.sink, &self.passed);
            let mut shown = 0;
            let database = &keyspace.databases()[usize::from(number)];
            self.cursor = database.scan(self.cursor, STRIDE, |entry| {
                shown += 1;
                let is_passed = || passed.contains(&(number, entry.key().to_vec()));
                if passed.is_empty() || !is_passed() {
                    sink.entry(number, entry);
                }
            });
            self.database += u8::from(self.cursor == 0);
            left = left.saturating_sub(shown.max(1));
        }
        usize::from(self.database) < DATABASES
    }
}

impl Store {
    /// Begins a picture of the data as they are now.
    pub fn begin_saving(&mut self, sink: Box<dyn Sink>) {
        assert!(self.instance.saving.is_none(), "one picture at a time");
        let (passed, ended) = (BTreeSet::new(), None);
        let saving = Saving { sink, database: 0, cursor: 0, passed, passed_bytes: 0, ended };
        meter::outside(|| self.instance.saving = Some(Box::new(saving)));
        self.instance.attention.set(Attention::SAVING, true);
    }

    /// Goes on with it for about so many entries, or until so many bytes wait to be taken.
    pub fn save_step(&mut self, entries_max: usize, bytes_max: usize) -> Progress {
        let Store { keyspace, instance, .. } = self;
        let Some(saving) = &mut instance.saving else { return Progress::Done };
        if let Some(name) = saving.ended {
            return Progress::Ended(name);
        }
        let more = meter::outside(|| {
            let more = saving.walk(keyspace, entries_max, bytes_max);
            if !more {
                saving.sink.finish();
            }
            more
        });
        if more {
            return Progress::More;
        }
        instance.attention.set(Attention::SAVING, false);
        Progress::Done
    }

    /// What has been shown and not been taken.
    pub fn take_saved(&mut self) -> Vec<u8> {
        let saving = self.instance.saving.as_mut();
        meter::outside(|| saving.map(|saving| saving.sink.take()).unwrap_or_default())
    }

    /// Ends the picture, at its end or before.
    pub fn end_saving(&mut self) {
        self.instance.attention.set(Attention::SAVING, false);
        let saving = self.instance.saving.take();
        meter::outside(|| drop(saving));
    }
}

impl Instance {
    /// Bytes that a picture being taken needs besides the data.
    pub fn saving_bytes(&self) -> u64 {
        let bytes = |saving: &Saving| saving.passed_bytes + saving.sink.pending() as u64;
        self.saving.as_deref().map_or(0, bytes)
    }

    /// A key is about to go for want of memory.
    pub(super) fn keep_for_saving(&mut self, keyspace: &Keyspace, database: u8, key: &[u8]) {
        if let Some(saving) = self.saving.as_mut().filter(|saving| saving.ended.is_none()) {
            meter::outside(|| saving.keep(keyspace, database, key));
        }
    }
}

/// Shows what a command is about to write.
#[cold]
pub(super) fn before(call: &mut Call<'_>, row: &Command) {
    let Call { keyspace, instance, args, session, .. } = call;
    let Some(saving) = &mut instance.saving else { return };
    if row.group != "scripting" && matches!(row.name, "flushall" | "flushdb" | "swapdb") {
        saving.ended = Some(row.name);
        instance.attention.set(Attention::SAVING, false);
        return;
    }
    let mut indexes = keys(row, *args).unwrap_or_default();
    indexes.extend(written(row, *args));
    let own = session.database;
    meter::outside(|| {
        for index in indexes {
            saving.keep(keyspace, own, args.at(index));
        }
        // Two commands reach into other databases, and name them.
        if matches!(row.name, "move" | "copy") {
            let key = args.at(if row.name == "move" { 1 } else { 2 });
            for word in args.from(2).iter() {
                let number = parse_integer(word).and_then(|number| u8::try_from(number).ok());
                if let Some(number) = number.filter(|number| usize::from(*number) < DATABASES) {
                    saving.keep(keyspace, number, key);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
