//! DEBUG RELOAD: every key becomes the bytes that a snapshot has of it, and is made anew from them.
//!
//! What Redis's own tests want of it is that nothing is lost on the way through RDB: it finds what a value's bytes don't
//! say. It writes no file. Functions are texts in a snapshot and stay as they are.

use super::collection::is;
use super::{Call, CommandResult};
use crate::store::rdb::{self, Builder};
use crate::store::{CommandError, Expiry, Keyspace};

const LOADING: CommandError =
    CommandError::Text("ERR Error trying to load the RDB dump, check server logs.");

/// A key on its way: database, name, value's bytes, expiry.
type Saved = (u8, Vec<u8>, Vec<u8>, Option<u64>);

/// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`
pub(super) fn reload(call: &mut Call<'_>) -> CommandResult {
    let (mut merge, mut keep) = (false, false);
    for option in call.args.from(2).iter() {
        match option {
            word if is(word, "merge") => merge = true,
            word if is(word, "noflush") => keep = true,
            word if is(word, "nosave") => {
                let text = "ERR DEBUG RELOAD NOSAVE needs a saved file, and this cache has none";
                return Err(CommandError::Text(text));
            }
            _ => {
                let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
                return Err(CommandError::Text(text));
            }
        }
    }
    let saved = save(call.keyspace);
    let has_functions = call.instance.scripting.functions.libraries().len() > 0;
    if keep && !merge && (!saved.is_empty() || has_functions) {
        // What is loaded is there already.
        return Err(LOADING);
    }
    if !keep {
        call.keyspace.flush();
    }
    load(call.keyspace, saved, call.now_ms)?;
    call.reply.ok();
    Ok(())
}

fn save(keyspace: &Keyspace) -> Vec<Saved> {
    let mut saved = Vec::new();
    for (index, database) in (0u8..).zip(keyspace.databases()) {
        let entries = database.table().iter();
        saved.extend(entries.map(|entry| {
            (index, entry.key().to_vec(), rdb::dump(entry.value()), entry.expires_ms())
        }));
    }
    saved
}

/// As from a file: what has expired meanwhile isn't loaded.
fn load(keyspace: &mut Keyspace, saved: Vec<Saved>, now_ms: u64) -> CommandResult {
    let (hasher, limits) = (keyspace.hasher(), keyspace.thresholds);
    let builder = Builder { hasher, thresholds: &limits };
    for (index, key, bytes, expires_ms) in saved {
        if expires_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            continue;
        }
        let value = rdb::restore(&bytes, &builder).map_err(|_| LOADING)?;
        let database = keyspace.database(index);
        database.insert_value(&key, hasher.hash(&key), value, Expiry::from(expires_ms));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::Client;

    #[test]
    fn every_kind_of_value_comes_through() {
        let mut client = Client::resp2();
        for line in [
            "SET s text EX 100",
            "SET n 12",
            "RPUSH l a b 3",
            "SADD i 1 2 3",
            "SADD m a b",
            "HSET h f v g w",
            "HEXPIRE h 50 FIELDS 1 f",
            "ZADD z 1.5 a 2 b",
            "XADD x 1-1 a b",
            "XGROUP CREATE x g 0",
        ] {
            assert!(!client.run(line).starts_with('-'), "{line}");
        }
        let reads = [
            "DEBUG DIGEST",
            "TTL s",
            "HTTL h FIELDS 2 f g",
            "XINFO GROUPS x",
            "OBJECT ENCODING i",
            "OBJECT ENCODING m",
            "LRANGE l 0 -1",
            "DBSIZE",
        ];
        let before = reads.map(|line| client.run(line));
        assert_eq!(client.run("DEBUG RELOAD"), "+OK");
        assert_eq!(reads.map(|line| client.run(line)), before);
        assert!(client.run("DEBUG RELOAD NOFLUSH").starts_with("-ERR Error trying to load"));
        assert_eq!(client.run("DEBUG RELOAD NOFLUSH MERGE"), "+OK");
        assert_eq!(reads.map(|line| client.run(line)), before);
        assert!(client.run("DEBUG RELOAD NOSAVE").starts_with("-ERR DEBUG RELOAD NOSAVE needs"));
        assert!(client.run("DEBUG RELOAD WHAT").starts_with("-ERR DEBUG RELOAD only"));
    }

    #[test]
    fn what_has_expired_is_not_loaded() {
        let mut client = Client::resp2();
        client.check(&[("DEBUG SET-ACTIVE-EXPIRE 0", "+OK"), ("SET k v PX 10", "+OK")]);
        client.now_ms += 11;
        client.check(&[("DEBUG RELOAD", "+OK"), ("DBSIZE", ":0")]);
    }
}
