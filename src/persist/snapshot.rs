//! A picture of a store as an RDB file in the making.

use super::rdb::{Version, Writer};
use crate::store::Store;
use crate::store::entry::Entry;
use crate::store::saving::Sink;

/// The file's bytes as the picture is taken.
pub struct Snapshot {
    writer: Writer,
    /// Keys and expiring ones of each database when it began, until its first entry.
    sizes: Vec<Option<(usize, usize)>>,
    database: Option<u8>,
}

impl Snapshot {
    /// Begins a file with what stands before all keys. `is_base`: of an append log.
    pub fn new(store: &Store, is_base: bool, now_ms: u64) -> Snapshot {
        let databases = store.keyspace.databases();
        let timed = databases.iter().any(|database| database.timed_collections() > 0);
        let version = if timed { Version::Redis74 } else { Version::Redis70 };
        let (time, used) = ((now_ms / 1000).to_string(), store.instance.used_bytes().to_string());
        let auxiliary = [
            ("redis-ver", crate::store::instance::REDIS_VERSION),
            ("redis-bits", "64"),
            ("ctime", time.as_str()),
            ("used-mem", used.as_str()),
            ("aof-base", if is_base { "1" } else { "0" }),
        ];
        let mut writer = Writer::new(version, &auxiliary);
        for (_, code) in store.instance.scripting.functions.libraries() {
            writer.function(code);
        }
        let sizes = databases.iter().map(|it| Some((it.len(), it.expiring()))).collect();
        Snapshot { writer, sizes, database: None }
    }
}

impl Sink for Snapshot {
    fn entry(&mut self, database: u8, entry: Entry<'_>) {
        if self.database.replace(database) != Some(database) {
            match self.sizes[usize::from(database)].take() {
                Some((keys, expiring)) => self.writer.database(database, keys, expiring),
                None => self.writer.select(database),
            }
        }
        self.writer.entry(entry);
    }

    fn finish(&mut self) {
        self.writer.finish();
    }

    fn pending(&self) -> usize {
        self.writer.pending()
    }

    fn take(&mut self) -> Vec<u8> {
        self.writer.take()
    }
}
