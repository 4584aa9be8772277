//! Commands on keys of any type and on whole databases. Expiry is in `expire.rs`, OBJECT in `object.rs`.

use super::collection::{
    READ, READ_FAST, REMOVE, REMOVE_FAST, Run, WRITE, WRITE_FAST, for_each_key, is, row,
};
use super::element_scan::Scan;
use super::{Call, Command, CommandResult, Flags, Keys, collection, expire, object};
use crate::limits::DATABASES;
use crate::store::number::parse_integer;
use crate::store::session::State;
use crate::store::{Args, CommandError, Database, glob};

const fn keys(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("generic", usage, flags, keys, about, run)
}

const fn server(
    usage: (&'static str, i16),
    flags: Flags,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("server", usage, flags, Keys::NONE, about, run)
}

/// This file's rows and those of `expire.rs` and `object.rs`.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    keys(("del", -2), REMOVE, Keys::ALL, ("1.0.0", "Deletes keys"), del),
    keys(("unlink", -2), REMOVE_FAST, Keys::ALL, ("4.0.0", "Deletes keys; large values are always freed aside"), del),
    keys(("exists", -2), READ_FAST, Keys::ALL, ("1.0.0", "Counts which of the keys are there"), exists),
    keys(("touch", -2), READ_FAST, Keys::ALL, ("3.2.1", "Notes an access to keys and counts which are there"), touch),
    keys(("type", 2), READ_FAST, Keys::ONE, ("1.0.0", "Returns the type of a key's value"), type_of),
    keys(("rename", 3), WRITE, Keys::TWO, ("1.0.0", "Renames a key, overwriting the new name"), rename),
    keys(("renamenx", 3), WRITE_FAST, Keys::TWO, ("1.0.0", "Renames a key if the new name is free"), renamenx),
    keys(("copy", -3), WRITE, Keys::TWO, ("6.2.0", "Copies a key's value to another key"), copy),
    keys(("move", 3), WRITE_FAST, Keys::ONE, ("1.0.0", "Moves a key to another database"), move_key),
    keys(("keys", 2), READ, Keys::NONE, ("1.0.0", "Returns all keys that fit a pattern"), keys_command),
    keys(("scan", -2), READ, Keys::NONE, ("2.8.0", "Returns the keys a piece at a time"), scan),
    keys(("randomkey", 1), READ, Keys::NONE, ("1.0.0", "Returns any key"), randomkey),
    keys(("expire", -3), WRITE_FAST, Keys::ONE, ("1.0.0", "Sets a key's expiry in seconds from now"), expire::expire),
    keys(("pexpire", -3), WRITE_FAST, Keys::ONE, ("2.6.0", "Sets a key's expiry in milliseconds from now"), expire::pexpire),
    keys(("expireat", -3), WRITE_FAST, Keys::ONE, ("1.2.0", "Sets a key's expiry in seconds since the epoch"), expire::expireat),
    keys(("pexpireat", -3), WRITE_FAST, Keys::ONE, ("2.6.0", "Sets a key's expiry in milliseconds since the epoch"), expire::pexpireat),
    keys(("ttl", 2), READ_FAST, Keys::ONE, ("1.0.0", "Returns a key's time to live in seconds"), expire::ttl),
    keys(("pttl", 2), READ_FAST, Keys::ONE, ("2.6.0", "Returns a key's time to live in milliseconds"), expire::pttl),
    keys(("expiretime", 2), READ_FAST, Keys::ONE, ("7.0.0", "Returns when a key expires in seconds since the epoch"), expire::expiretime),
    keys(("pexpiretime", 2), READ_FAST, Keys::ONE, ("7.0.0", "Returns when a key expires in milliseconds since the epoch"), expire::pexpiretime),
    keys(("persist", 2), WRITE_FAST, Keys::ONE, ("2.2.0", "Removes a key's expiry"), expire::persist),
    Command { subcommands: object::SUBCOMMANDS, ..keys(("object", -2), READ, Keys::NONE, ("2.2.3", "Tells how a value is kept"), object::help) },
    server(("dbsize", 1), READ_FAST, ("1.0.0", "Returns the number of keys"), dbsize),
    server(("flushdb", -1), REMOVE, ("1.0.0", "Deletes all keys of the database"), flushdb),
    server(("flushall", -1), REMOVE, ("1.0.0", "Deletes all keys of all databases"), flushall),
    server(("swapdb", 3), WRITE_FAST, ("4.0.0", "Exchanges the contents of two databases"), swapdb),
];

fn del(call: &mut Call<'_>) -> CommandResult {
    let deleted = count(call, |database, key, hash, now_ms| database.delete(key, hash, now_ms));
    call.keyspace.dirty += deleted;
    call.reply.integer(deleted as i64);
    Ok(())
}

fn exists(call: &mut Call<'_>) -> CommandResult {
    // Asking whether a key is there isn't using it.
    let (database, frozen) = (call.session.database, call.session.state.has(State::NO_TOUCH));
    call.keyspace.database(database).access.freeze(true);
    let found =
        count(call, |database, key, hash, now_ms| database.find(key, hash, now_ms).is_some());
    call.keyspace.database(database).access.freeze(frozen);
    call.reply.integer(found as i64);
    Ok(())
}

fn touch(call: &mut Call<'_>) -> CommandResult {
    let found =
        count(call, |database, key, hash, now_ms| database.find(key, hash, now_ms).is_some());
    call.reply.integer(found as i64);
    Ok(())
}

/// For how many of the arguments `test` holds.
fn count(call: &mut Call<'_>, mut test: impl FnMut(&mut Database, &[u8], u64, u64) -> bool) -> u64 {
    let Call { keyspace, session, args, hash, now_ms, .. } = call;
    let database = keyspace.database(session.database);
    let mut count = u64::from(test(database, args.at(1), *hash, *now_ms));
    let others = args.from(2);
    for_each_key(database, others, 1, |database, index, hash| {
        count += u64::from(test(database, others.at(index), hash, *now_ms));
    });
    count
}

fn type_of(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let entry = keyspace.database(session.database).peek(args.at(1), *hash, *now_ms);
    reply.simple(entry.map_or("none", |entry| entry.kind().name()));
    Ok(())
}

fn rename(call: &mut Call<'_>) -> CommandResult {
    rename_to(call, true)?;
    call.reply.ok();
    Ok(())
}

fn renamenx(call: &mut Call<'_>) -> CommandResult {
    let renamed = rename_to(call, false)?;
    call.reply.integer(i64::from(renamed));
    Ok(())
}

fn rename_to(call: &mut Call<'_>, overwrite: bool) -> Result<bool, CommandError> {
    let Call { keyspace, session, args, hash, now_ms, .. } = call;
    let (from, to) = (args.at(1), args.at(2));
    let to_hash = keyspace.hash(to);
    let database = keyspace.database(session.database);
    if !database.contains(from, *hash, *now_ms) {
        return Err(CommandError::NoSuchKey);
    }
    if from == to || (!overwrite && database.contains(to, to_hash, *now_ms)) {
        return Ok(false);
    }
    if let Some(entry) = database.take(from, *hash, *now_ms) {
        database.put(entry.with_key(to), to_hash);
    }
    keyspace.dirty += 1;
    Ok(true)
}

fn copy(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (target, replace) = copy_options(args.from(3), session.database)?;
    let (from, to) = (args.at(1), args.at(2));
    if from == to && target == session.database {
        return Err(SAME_OBJECT);
    }
    let to_hash = keyspace.hash(to);
    let found = keyspace.database(session.database).find(from, *hash, *now_ms);
    let Some(copied) = found.map(|entry| entry.copy_as(to)) else {
        reply.integer(0);
        return Ok(());
    };
    let database = keyspace.database(target);
    let inserted = replace || !database.contains(to, to_hash, *now_ms);
    if inserted {
        database.put(copied, to_hash);
    }
    keyspace.dirty += u64::from(inserted);
    reply.integer(i64::from(inserted));
    Ok(())
}

const SAME_OBJECT: CommandError =
    CommandError::Text("ERR source and destination objects are the same");

fn copy_options(args: Args<'_>, current: u8) -> Result<(u8, bool), CommandError> {
    let (mut target, mut replace) = (current, false);
    let mut rest = args.iter();
    while let Some(option) = rest.next() {
        if is(option, "replace") {
            replace = true;
        } else if is(option, "db") {
            target = database_index(rest.next().ok_or(CommandError::Syntax)?)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok((target, replace))
}

/// An argument that names a database.
fn database_index(text: &[u8]) -> Result<u8, CommandError> {
    let index = collection::integer(text)?;
    if i32::try_from(index).is_err() {
        const RANGE: &str =
            "ERR value is out of range, value must between -2147483648 and 2147483647";
        return Err(CommandError::Text(RANGE));
    }
    existing(index)
}

fn existing(index: i64) -> Result<u8, CommandError> {
    u8::try_from(index)
        .ok()
        .filter(|index| usize::from(*index) < DATABASES)
        .ok_or(CommandError::Text("ERR DB index is out of range"))
}

fn move_key(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let target = database_index(args.at(2))?;
    if target == session.database {
        return Err(SAME_OBJECT);
    }
    let key = args.at(1);
    let free = !keyspace.database(target).contains(key, *hash, *now_ms);
    let source = keyspace.database(session.database);
    let taken = if free { source.take(key, *hash, *now_ms) } else { None };
    let moved = taken.is_some();
    if let Some(entry) = taken {
        keyspace.database(target).put(entry, *hash);
        keyspace.dirty += 1;
    }
    reply.integer(i64::from(moved));
    Ok(())
}

fn keys_command(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    let pattern = args.at(1);
    let mark = reply.mark();
    let mut count = 0;
    for entry in keyspace.database(session.database).table().iter() {
        if !entry.is_expired(*now_ms) && (pattern == b"*" || glob::matches(pattern, entry.key())) {
            count += 1;
            reply.bulk(entry.key());
        }
    }
    reply.array_at(mark, count);
    Ok(())
}

/// SCAN's options.
struct ScanOptions<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    fn parse(args: Args<'a>) -> Result<ScanOptions<'a>, CommandError> {
        let mut options = ScanOptions { count: 10, pattern: None, kind: None };
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or(CommandError::Syntax)?;
            if is(option, "count") {
                let count = collection::integer(value)?;
                options.count = usize::try_from(count).unwrap_or(0);
                if options.count == 0 {
                    return Err(CommandError::Syntax);
                }
            } else if is(option, "match") {
                options.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if is(option, "type") {
                options.kind = Some(value);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

fn scan(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    let cursor = Scan::cursor(args.at(1))?;
    let options = ScanOptions::parse(args.from(2))?;
    let database = keyspace.database(session.database);
    let mut expired: Vec<Vec<u8>> = Vec::new();
    Scan::answer(reply, |reply| {
        let mut count = 0;
        let next = database.scan(cursor, options.count, |entry| {
            if entry.is_expired(*now_ms) {
                return expired.push(entry.key().to_vec());
            }
            let kind_fits = options.kind.is_none_or(|kind| is(kind, entry.kind().name()));
            let fits = options.pattern.is_none_or(|pattern| glob::matches(pattern, entry.key()));
            if kind_fits && fits {
                count += 1;
                reply.bulk(entry.key());
            }
        });
        (next, count)
    });
    expire_met(call, &expired);
    Ok(())
}

/// Keys that a look at many has met and that have expired go now.
fn expire_met(call: &mut Call<'_>, keys: &[Vec<u8>]) {
    for key in keys {
        let hash = call.keyspace.hash(key);
        call.keyspace.database(call.session.database).contains(key, hash, call.now_ms);
    }
}

fn randomkey(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, now_ms, reply, .. } = call;
    let mut random = keyspace.random();
    let mut expired = Vec::new();
    match keyspace.database(session.database).random_key(&mut random, *now_ms, &mut expired) {
        Some(key) => reply.bulk(key),
        None => reply.null(),
    }
    expire_met(call, &expired);
    Ok(())
}

fn dbsize(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, reply, .. } = call;
    reply.integer(keyspace.database(session.database).len() as i64);
    Ok(())
}

fn flushdb(call: &mut Call<'_>) -> CommandResult {
    check_flush(call.args)?;
    let removed = call.keyspace.database(call.session.database).flush();
    call.keyspace.dirty += removed as u64;
    call.reply.ok();
    Ok(())
}

fn flushall(call: &mut Call<'_>) -> CommandResult {
    check_flush(call.args)?;
    let removed = call.keyspace.flush();
    call.keyspace.dirty += removed as u64;
    call.reply.ok();
    Ok(())
}

/// ASYNC and SYNC mean the same here: the memory is always freed aside.
fn check_flush(args: Args<'_>) -> CommandResult {
    match args.get(1) {
        None => Ok(()),
        Some(mode) if args.len() == 2 && (is(mode, "async") || is(mode, "sync")) => Ok(()),
        Some(_) => Err(CommandError::Syntax),
    }
}

fn swapdb(call: &mut Call<'_>) -> CommandResult {
    let index = |text, refusal| {
        let index = parse_integer(text).filter(|index| i32::try_from(*index).is_ok());
        index.ok_or(CommandError::Text(refusal))
    };
    let left = index(call.args.at(1), "ERR invalid first DB index")?;
    let right = index(call.args.at(2), "ERR invalid second DB index")?;
    let (left, right) = (existing(left)?, existing(right)?);
    call.keyspace.swap(left, right);
    call.keyspace.dirty += 1;
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn presence() {
        check(&[
            ("mset a 1 b 2", "+OK"),
            ("exists a b a none", ":3"),
            ("touch a none", ":1"),
            ("type a", "+string"),
            ("type none", "+none"),
            ("rpush l x", ":1"),
            ("type l", "+list"),
            ("dbsize", ":3"),
            ("del a none a", ":1"),
            ("unlink b l", ":2"),
            ("dbsize", ":0"),
            ("randomkey", "$-1"),
            ("set only v", "+OK"),
            ("randomkey", "$4 only"),
        ]);
    }

    #[test]
    fn renaming_takes_the_expiry_along() {
        check(&[
            ("rename a b", "-ERR no such key"),
            ("set a 1 ex 10", "+OK"),
            ("set b 2 ex 99", "+OK"),
            ("rename a b", "+OK"),
            ("get b", "$1 1"),
            ("ttl b", ":10"),
            ("exists a", ":0"),
            ("set a 3", "+OK"),
            ("renamenx a b", ":0"),
            ("renamenx b c", ":1"),
            ("ttl c", ":10"),
            ("rename a a", "+OK"),
            ("renamenx a a", ":0"),
            ("rename a c", "+OK"),
            ("ttl c", ":-1"),
            ("append c 4", ":2"),
            ("rename c d", "+OK"),
            ("object encoding d", "$3 raw"),
            ("copy d e", ":1"),
            ("object encoding e", "$3 raw"),
        ]);
    }

    #[test]
    fn copying_and_moving() {
        check(&[
            ("copy a b", ":0"),
            ("set a 1 ex 10", "+OK"),
            ("copy a b", ":1"),
            ("ttl b", ":10"),
            ("set a 2", "+OK"),
            ("copy a b", ":0"),
            ("copy a b replace", ":1"),
            ("get b", "$1 2"),
            ("ttl b", ":-1"),
            ("copy a a", "-ERR source and destination objects are the same"),
            ("copy a a db 1", ":1"),
            ("copy a b db 16", "-ERR DB index is out of range"),
            ("copy a b db x", "-ERR value is not an integer or out of range"),
            ("copy a b what", "-ERR syntax error"),
            ("rpush l 1 2 3", ":3"),
            ("copy l m", ":1"),
            ("rpush m 4", ":4"),
            ("llen l", ":3"),
            ("move a 1", ":0"),
            ("move b 1", ":1"),
            ("move b 1", ":0"),
            ("move a 0", "-ERR source and destination objects are the same"),
            ("move a 99", "-ERR DB index is out of range"),
            ("swapdb 0 1", "+OK"),
            ("get b", "$1 2"),
            ("swapdb 0 x", "-ERR invalid second DB index"),
            ("swapdb 0 16", "-ERR DB index is out of range"),
        ]);
    }

    #[test]
    fn scans() {
        let mut client = Client::resp2();
        for number in 0..1000 {
            client.run(&format!("set key:{number} v"));
        }
        client.check(&[("rpush list a", ":1"), ("set gone v px 1", "+OK")]);
        client.now_ms += 1;
        let mut seen = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = client.run(&format!("scan {cursor} match key:* type string count 7"));
            let words: Vec<&str> = reply.split(' ').collect();
            cursor = words[2].to_owned();
            seen.extend(words[4..].iter().skip(1).step_by(2).map(|word| (*word).to_owned()));
            if cursor == "0" {
                break;
            }
        }
        seen.sort();
        let mut expected: Vec<String> = (0..1000).map(|number| format!("key:{number}")).collect();
        expected.sort();
        assert_eq!(seen, expected);
        client.check(&[
            ("scan 0 type list count 10000", "*2 $1 0 *1 $4 list"),
            ("scan 0 match gone count 10000", "*2 $1 0 *0"),
            ("scan 0 type nothing count 10000", "*2 $1 0 *0"),
            ("keys l*", "*1 $4 list"),
            ("keys gone", "*0"),
            ("scan x", "-ERR invalid cursor"),
            ("scan 0 count 0", "-ERR syntax error"),
            ("scan 0 count", "-ERR syntax error"),
            ("scan 0 count x", "-ERR value is not an integer or out of range"),
        ]);
    }

    #[test]
    fn flushing() {
        let mut client = Client::resp2();
        client.check(&[("set a 1", "+OK"), ("flushdb what", "-ERR syntax error")]);
        client.session.database = 1;
        client.check(&[
            ("set a 1", "+OK"),
            ("flushdb async", "+OK"),
            ("dbsize", ":0"),
            ("set a 1", "+OK"),
        ]);
        client.check(&[("flushall", "+OK"), ("dbsize", ":0")]);
        client.session.database = 0;
        client.check(&[("dbsize", ":0")]);
        assert_eq!(client.store.keyspace.take_garbage().len(), 3);
    }
}
