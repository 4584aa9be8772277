//! DEBUG RELOAD and DEBUG LOADAOF.
//!
//! What Redis's own tests want of them is that nothing is lost on the way through the files. A cache that is kept on disk
//! does it by those (`store/reloading.rs`); without a disk, every key becomes the bytes that a snapshot has of it and is made
//! anew from them, and functions, texts in a snapshot, stay as they are.

use super::collection::is;
use super::{Call, CommandResult};
use crate::store::blocked::Waiting;
use crate::store::persistence::Load;
use crate::store::rdb::{self, Builder};
use crate::store::reloading::{Reload, Source};
use crate::store::session::State;
use crate::store::{CommandError, Expiry, Keyspace};

const LOADING: CommandError =
    CommandError::Text("ERR Error trying to load the RDB dump, check server logs.");

/// A key on its way: database, name, value's bytes, expiry.
type Saved = (u8, Vec<u8>, Vec<u8>, Option<u64>);

/// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`
pub(super) fn reload(call: &mut Call<'_>) -> CommandResult {
    let mut reload =
        Reload { source: Source::Snapshot, saves: true, flushes: true, merges: false, waiter: 0 };
    for option in call.args.from(2).iter() {
        match option {
            word if is(word, "merge") => reload.merges = true,
            word if is(word, "noflush") => reload.flushes = false,
            word if is(word, "nosave") => reload.saves = false,
            _ => {
                let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
                return Err(CommandError::Text(text));
            }
        }
    }
    if goes_by_files(call) {
        return by_files(call, reload);
    }
    if !reload.saves {
        let text = "ERR DEBUG RELOAD NOSAVE needs a saved file: there is none without --persist, and none is read in a \
                    transaction";
        return Err(CommandError::Text(text));
    }
    let saved = save(call.keyspace);
    let has_functions = call.instance.scripting.functions.libraries().len() > 0;
    if !reload.flushes && !reload.merges && (!saved.is_empty() || has_functions) {
        // What is loaded is there already.
        return Err(LOADING);
    }
    if reload.flushes {
        call.keyspace.flush();
    }
    load(call.keyspace, saved, call.now_ms)?;
    call.reply.ok();
    Ok(())
}

/// `DEBUG LOADAOF`
pub(super) fn loadaof(call: &mut Call<'_>) -> CommandResult {
    if !goes_by_files(call) {
        let text = "ERR DEBUG LOADAOF needs an append log: there is none without --persist, and none is read in a \
                    transaction";
        return Err(CommandError::Text(text));
    }
    let (source, saves, flushes, merges, waiter) = (Source::Log, false, true, true, 0);
    by_files(call, Reload { source, saves, flushes, merges, waiter })
}

/// Whether somebody has files to load from, and the command may wait until that is done.
fn goes_by_files(call: &Call<'_>) -> bool {
    let may_wait = call.session.row.is_some() && !call.session.state.has(State::NO_WAIT);
    call.instance.persistence.is_kept() && may_wait
}

fn by_files(call: &mut Call<'_>, reload: Reload) -> CommandResult {
    if call.instance.persistence.load != Load::Done {
        return Err(CommandError::Text("LOADING Redis is loading the dataset in memory"));
    }
    let (keys, kind, timeout_ms, again, or_gone) = (call.args.first(0), None, None, None, false);
    let at_once = |reply: &mut crate::store::Reply<'_>| reply.ok();
    let too_late = at_once;
    call.wait(Waiting { keys, kind, or_gone, timeout_ms, at_once, too_late, again })?;
    let Some(ticket) = call.session.wait else { return Ok(()) };
    call.instance.want_reload(Reload { waiter: ticket.number, ..reload });
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
