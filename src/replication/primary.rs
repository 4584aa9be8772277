//! A primary's side: the snapshot that a new replica begins with.

use crate::persist::rdb::{Version, Writer};
use crate::store::Keyspace;

/// All keys and libraries of functions as an RDB file that Redis 7.0 and later read, in one piece: as much memory again as
/// the packed values need, until the replica has taken it.
pub fn snapshot(keyspace: &Keyspace, libraries: &[&[u8]]) -> Vec<u8> {
    let mut writer = Writer::new(Version::Redis70, &[("redis-ver", "7.0.0"), ("redis-bits", "64")]);
    libraries.iter().for_each(|code| writer.function(code));
    for (index, database) in (0..).zip(keyspace.databases()) {
        if !database.is_empty() {
            writer.database(index, database.len(), database.expiring());
            database.table().iter().for_each(|entry| writer.entry(entry));
        }
    }
    writer.finish();
    writer.take()
}
