//! Commands on strings: setting and getting. What changes a string is in `string_edit.rs`, bits in `bitmap.rs`.

use super::collection::{
    READ, READ_FAST, REMOVE_FAST, Run, WRITE, WRITE_FAST, for_each_key, is, row,
};
use super::expire_time::{MILLISECONDS, SECONDS, Unit, expire_unit};
use super::string_conditions::Condition;
use super::{
    Call, Command, CommandResult, Flags, Keys, string_conditions, string_counted, string_edit,
};
use crate::store::entry::Entry;
use crate::store::value::ValueRef;
use crate::store::{Args, CommandError, Expiry};

const fn string(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("string", usage, flags, keys, about, run)
}

/// Every second argument is a key.
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };

/// This file's rows and those of `string_edit.rs`.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    string(("get", 2), READ_FAST, Keys::ONE, ("1.0.0", "Returns the string value of a key"), get),
    string(("set", -3), WRITE, Keys::ONE, ("1.0.0", "Sets the string value of a key, whatever its type"), set),
    string(("setnx", 3), WRITE_FAST, Keys::ONE, ("1.0.0", "Sets a string value if the key isn't there"), setnx),
    string(("setex", 4), WRITE, Keys::ONE, ("2.0.0", "Sets a string value and its expiry in seconds"), setex),
    string(("psetex", 4), WRITE, Keys::ONE, ("2.6.0", "Sets a string value and its expiry in milliseconds"), psetex),
    string(("getset", 3), WRITE_FAST, Keys::ONE, ("1.0.0", "Sets a string value and returns the previous one"), getset),
    string(("getdel", 2), REMOVE_FAST, Keys::ONE, ("6.2.0", "Returns a string value and deletes the key"), getdel),
    string(("getex", -2), REMOVE_FAST, Keys::ONE, ("6.2.0", "Returns a string value after changing its expiry"), getex),
    string(("mget", -2), READ_FAST, Keys::ALL, ("1.0.0", "Returns the string values of several keys"), mget),
    string(("mset", -3), WRITE, PAIRS, ("1.0.1", "Sets several string values"), mset),
    string(("msetnx", -3), WRITE, PAIRS, ("1.0.1", "Sets several string values if none of the keys is there"), msetnx),
    string(("msetex", -4), WRITE, Keys::NONE, ("8.4.0", "Sets several string values with one expiry, if none or all of the keys are there"), string_counted::msetex),
    string(("increx", -2), WRITE_FAST, Keys::ONE, ("8.8.0", "Adds to a number within bounds and sets the key's expiry"), string_counted::increx),
    string(("digest", 2), READ_FAST, Keys::ONE, ("8.4.0", "Returns the XXH3 hash of a string value"), string_conditions::digest),
    string(("delex", -2), REMOVE_FAST, Keys::ONE, ("8.4.0", "Deletes a key if its value is, or isn't, what is expected"), string_conditions::delex),
    string(("delifeq", 3), REMOVE_FAST, Keys::ONE, ("8.4.0", "Deletes a key if its value is what is expected; as Valkey's"), string_conditions::delifeq),
    string(("strlen", 2), READ_FAST, Keys::ONE, ("2.2.0", "Returns the length of a string value"), strlen),
    string(("getrange", 4), READ, Keys::ONE, ("2.4.0", "Returns a part of a string value"), getrange),
    string(("substr", 4), READ, Keys::ONE, ("1.0.0", "Returns a part of a string value (GETRANGE's old name)"), getrange),
    string(("append", 3), WRITE_FAST, Keys::ONE, ("2.0.0", "Appends to a string value, made if there is none"), string_edit::append),
    string(("setrange", 4), WRITE, Keys::ONE, ("2.2.0", "Overwrites a part of a string value"), string_edit::setrange),
    string(("incr", 2), WRITE_FAST, Keys::ONE, ("1.0.0", "Adds one to an integer value, 0 if there is none"), string_edit::incr),
    string(("decr", 2), WRITE_FAST, Keys::ONE, ("1.0.0", "Subtracts one from an integer value"), string_edit::decr),
    string(("incrby", 3), WRITE_FAST, Keys::ONE, ("1.0.0", "Adds to an integer value"), string_edit::incrby),
    string(("decrby", 3), WRITE_FAST, Keys::ONE, ("1.0.0", "Subtracts from an integer value"), string_edit::decrby),
    string(("incrbyfloat", 3), WRITE_FAST, Keys::ONE, ("2.6.0", "Adds to a value that is a number"), string_edit::incrbyfloat),
    string(("lcs", -3), READ, Keys::TWO, ("7.0.0", "Finds the longest common subsequence of two strings"), super::lcs::lcs),
];

#[inline]
fn get(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let entry = keyspace.database(session.database).find(args.at(1), *hash, *now_ms);
    match entry.map(Entry::value) {
        Some(ValueRef::String(bytes)) => reply.bulk(bytes),
        Some(ValueRef::Integer(value)) => reply.bulk_integer(value),
        Some(_) => return Err(CommandError::WrongType),
        None => reply.null(),
    }
    Ok(())
}

/// SET's and GETEX's options.
#[derive(Clone, Copy, Default)]
struct Options<'a> {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep: bool,
    persist: bool,
    expire: Option<(Unit, &'a [u8])>,
    condition: Option<Condition<'a>>,
}

impl<'a> Options<'a> {
    /// The options from `args` on; `getex` has some of its own and lacks others.
    fn parse(args: Args<'a>, getex: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            let lifetime_free = options.expire.is_none() && !options.keep && !options.persist;
            let unconditional = options.condition.is_none();
            if is(option, "nx") && !getex && !options.if_present && unconditional {
                options.if_absent = true;
            } else if is(option, "xx") && !getex && !options.if_absent && unconditional {
                options.if_present = true;
            } else if is(option, "get") && !getex {
                options.get = true;
            } else if is(option, "keepttl") && !getex && (lifetime_free || options.keep) {
                options.keep = true;
            } else if is(option, "persist") && getex && (lifetime_free || options.persist) {
                options.persist = true;
            } else if let Some(condition) = Condition::parse(option, rest.clone().next())? {
                let taken = options.if_absent || options.if_present || !unconditional;
                if getex || taken {
                    return Err(CommandError::Syntax);
                }
                options.condition = Some(condition);
                rest.next();
            } else {
                let unit = expire_unit(option).filter(|_| lifetime_free);
                let value = rest.next().ok_or(CommandError::Syntax)?;
                options.expire = Some((unit.ok_or(CommandError::Syntax)?, value));
            }
        }
        Ok(options)
    }
}

#[inline]
fn set(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 3 {
        return set_with_options(call);
    }
    let Call { keyspace, session, args, hash, reply, .. } = call;
    keyspace.database(session.database).set_string(args.at(1), *hash, args.at(2), Expiry::Clear);
    keyspace.dirty += 1;
    reply.ok();
    Ok(())
}

fn set_with_options(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let options = Options::parse(args.from(3), false)?;
    let mut expiry = if options.keep { Expiry::Keep } else { Expiry::Clear };
    if let Some((unit, text)) = options.expire {
        expiry = Expiry::At(unit.positive(text, *now_ms, "set")?);
    }
    let (key, hash) = (args.at(1), *hash);
    let database = keyspace.database(session.database);
    let holds = match options.condition {
        Some(condition) => condition.holds(database, (key, hash), *now_ms)?,
        None => true,
    };
    let found = if options.get {
        match database.string(key, hash, *now_ms)? {
            Some(text) => {
                reply.bulk(&text);
                true
            }
            None => {
                reply.null();
                false
            }
        }
    } else {
        database.contains(key, hash, *now_ms)
    };
    if !holds || (options.if_absent && found) || (options.if_present && !found) {
        if !options.get {
            reply.null();
        }
        return Ok(());
    }
    database.set_string(key, hash, args.at(2), expiry);
    keyspace.dirty += 1;
    if !options.get {
        reply.ok();
    }
    Ok(())
}

fn setnx(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let absent = !database.contains(args.at(1), *hash, *now_ms);
    if absent {
        database.set_string(args.at(1), *hash, args.at(2), Expiry::Clear);
        keyspace.dirty += 1;
    }
    reply.integer(i64::from(absent));
    Ok(())
}

fn setex(call: &mut Call<'_>) -> CommandResult {
    set_expiring(call, SECONDS, "setex")
}

fn psetex(call: &mut Call<'_>) -> CommandResult {
    set_expiring(call, MILLISECONDS, "psetex")
}

fn set_expiring(call: &mut Call<'_>, unit: Unit, name: &str) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let expiry = Expiry::At(unit.positive(args.at(2), *now_ms, name)?);
    keyspace.database(session.database).set_string(args.at(1), *hash, args.at(3), expiry);
    keyspace.dirty += 1;
    reply.ok();
    Ok(())
}

fn getset(call: &mut Call<'_>) -> CommandResult {
    get(call)?;
    let Call { keyspace, session, args, hash, .. } = call;
    keyspace.database(session.database).set_string(args.at(1), *hash, args.at(2), Expiry::Clear);
    keyspace.dirty += 1;
    Ok(())
}

fn getdel(call: &mut Call<'_>) -> CommandResult {
    get(call)?;
    let Call { keyspace, session, args, hash, .. } = call;
    let removed = keyspace.database(session.database).remove(args.at(1), *hash);
    keyspace.dirty += u64::from(removed);
    Ok(())
}

fn getex(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let options = Options::parse(args.from(2), true)?;
    let (key, hash) = (args.at(1), *hash);
    let database = keyspace.database(session.database);
    let Some(text) = database.string(key, hash, *now_ms)? else {
        reply.null();
        return Ok(());
    };
    let expire = options.expire.map(|(unit, text)| (unit, unit.positive(text, *now_ms, "getex")));
    let expire = match expire {
        Some((unit, at_ms)) => Some((unit, at_ms?)),
        None => None,
    };
    reply.bulk(&text);
    match expire {
        Some((unit, at_ms)) if unit.is_absolute() && at_ms <= *now_ms => {
            database.remove(key, hash);
        }
        Some((_, at_ms)) => drop(database.expire_at(key, hash, Some(at_ms))),
        None if options.persist => drop(database.expire_at(key, hash, None)),
        None => return Ok(()),
    }
    keyspace.dirty += 1;
    Ok(())
}

fn mget(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let keys = args.from(1);
    reply.array(keys.len());
    for_each_key(database, keys, 1, |database, index, hash| {
        match database.string(keys.at(index), hash, *now_ms) {
            Ok(Some(text)) => reply.bulk(&text),
            _ => reply.null(),
        }
    });
    Ok(())
}

fn mset(call: &mut Call<'_>) -> CommandResult {
    check_pairs(call.args, "mset")?;
    set_pairs(call);
    call.reply.ok();
    Ok(())
}

fn msetnx(call: &mut Call<'_>) -> CommandResult {
    check_pairs(call.args, "msetnx")?;
    let hasher = call.keyspace.hasher();
    let database = call.keyspace.database(call.session.database);
    let mut keys = call.args.from(1).iter().step_by(2);
    let absent = keys.all(|key| !database.contains(key, hasher.hash(key), call.now_ms));
    if absent {
        set_pairs(call);
    }
    call.reply.integer(i64::from(absent));
    Ok(())
}

fn check_pairs(args: Args<'_>, name: &str) -> CommandResult {
    if args.len() % 2 == 1 {
        return Ok(());
    }
    let text = format!("ERR wrong number of arguments for '{name}' command");
    Err(CommandError::Owned(text.into_bytes()))
}

fn set_pairs(call: &mut Call<'_>) {
    let database = call.keyspace.database(call.session.database);
    let arguments = call.args.from(1);
    for_each_key(database, arguments, 2, |database, index, hash| {
        database.set_string(arguments.at(index), hash, arguments.at(index + 1), Expiry::Clear);
    });
    call.keyspace.dirty += arguments.len() as u64 / 2;
}

fn strlen(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let text = keyspace.database(session.database).string(args.at(1), *hash, *now_ms)?;
    reply.integer(text.map_or(0, |text| text.len() as i64));
    Ok(())
}

fn getrange(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let start = super::collection::integer(args.at(2))?;
    let end = super::collection::integer(args.at(3))?;
    let text = keyspace.database(session.database).string(args.at(1), *hash, *now_ms)?;
    match text {
        Some(text) => reply.bulk(part(&text, start, end)),
        None => reply.bulk(b""),
    }
    Ok(())
}

/// The bytes from `start` to `end`, which is included; negative ones count from the end and stop at the first byte.
fn part(text: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let len = text.len() as i64;
    let from_end = |index: i64| if index < 0 { (index.saturating_add(len)).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end { b"" } else { &text[start as usize..=end as usize] }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn set_and_get() {
        check(&[
            ("get k", "$-1"),
            ("set k v", "+OK"),
            ("get k", "$1 v"),
            ("set k w nx", "$-1"),
            ("set k w xx", "+OK"),
            ("set n w xx", "$-1"),
            ("set k x get", "$1 w"),
            ("set n x nx get", "$-1"),
            ("set n y nx get", "$1 x"),
            ("set k v nx xx", "-ERR syntax error"),
            ("set k v ex", "-ERR syntax error"),
            ("set k v ex 10 px 10", "-ERR syntax error"),
            ("set k v ex 10 keepttl", "-ERR syntax error"),
            ("set k v persist", "-ERR syntax error"),
            ("set k v ex ten", "-ERR value is not an integer or out of range"),
            ("set k v ex 0", "-ERR invalid expire time in 'set' command"),
            ("set k v px -1", "-ERR invalid expire time in 'set' command"),
            ("set k v ex 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("set k v px 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("rpush list a", ":1"),
            ("get list", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            (
                "set list v get",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
            ("set list v", "+OK"),
            ("type list", "+string"),
        ]);
    }

    #[test]
    fn set_decides_about_the_expiry() {
        let mut client = Client::resp2();
        client.check(&[
            ("set k v ex 10", "+OK"),
            ("pttl k", ":10000"),
            ("set k w keepttl", "+OK"),
            ("pttl k", ":10000"),
            ("set k w", "+OK"),
            ("ttl k", ":-1"),
            ("set k v px 1500", "+OK"),
            ("set k v pxat 1002000", "+OK"),
            ("pttl k", ":2000"),
            ("set k v exat 1003", "+OK"),
            ("pttl k", ":3000"),
            ("setex k 5 v", "+OK"),
            ("pttl k", ":5000"),
            ("psetex k 7 v", "+OK"),
            ("pttl k", ":7"),
            ("setex k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("psetex k -1 v", "-ERR invalid expire time in 'psetex' command"),
        ]);
        client.now_ms += 6;
        client.check(&[("get k", "$1 v")]);
        client.now_ms += 1;
        client.check(&[
            ("get k", "$-1"),
            ("dbsize", ":0"),
            ("set k v exat 1", "+OK"),
            ("get k", "$-1"),
        ]);
    }

    #[test]
    fn the_older_ways_to_set() {
        check(&[
            ("setnx k v", ":1"),
            ("setnx k w", ":0"),
            ("getset k w", "$1 v"),
            ("getset n w", "$-1"),
            ("getdel n", "$1 w"),
            ("getdel n", "$-1"),
            ("mset a 1 b 2 a 3", "+OK"),
            ("mget a b c", "*3 $1 3 $1 2 $-1"),
            ("mset a", "-ERR wrong number of arguments for 'mset' command"),
            ("mset a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("msetnx c 1 a 2", ":0"),
            ("get c", "$-1"),
            ("msetnx c 1 d 2", ":1"),
            ("strlen k", ":1"),
            ("strlen none", ":0"),
        ]);
    }

    #[test]
    fn getex_changes_the_expiry() {
        check(&[
            ("getex k ex 10", "$-1"),
            ("set k v", "+OK"),
            ("getex k ex 10", "$1 v"),
            ("pttl k", ":10000"),
            ("getex k", "$1 v"),
            ("pttl k", ":10000"),
            ("getex k persist", "$1 v"),
            ("pttl k", ":-1"),
            ("getex k ex 0", "-ERR invalid expire time in 'getex' command"),
            ("getex k ex 1 persist", "-ERR syntax error"),
            ("getex k keepttl", "-ERR syntax error"),
            ("getex k pxat 1", "$1 v"),
            ("exists k", ":0"),
        ]);
    }

    #[test]
    fn parts() {
        check(&[
            ("set k abcdef", "+OK"),
            ("getrange k 0 -1", "$6 abcdef"),
            ("getrange k 1 2", "$2 bc"),
            ("getrange k -3 -2", "$2 de"),
            ("getrange k -100 1", "$2 ab"),
            ("getrange k 4 100", "$2 ef"),
            ("getrange k 3 1", "$0"),
            ("getrange k -1 -3", "$0"),
            ("substr k 0 0", "$1 a"),
            ("getrange none 0 -1", "$0"),
            ("getrange k a 1", "-ERR value is not an integer or out of range"),
        ]);
    }

    #[test]
    fn long_values_live_outside_of_the_entry() {
        let mut client = Client::resp2();
        let long = "x".repeat(100_000);
        client.run(&format!("set k {long}"));
        assert_eq!(client.bulk("get k"), long);
        client.check(&[("set k v ex 5", "+OK"), ("get k", "$1 v"), ("pttl k", ":5000")]);
        client.run(&format!("set k {long} keepttl"));
        client.check(&[("pttl k", ":5000"), ("strlen k", ":100000")]);
    }
}
