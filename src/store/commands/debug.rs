//! DEBUG, as far as Redis's own tests use it. From this machine only, unless the cache's mode is `admin`.

use super::{Call, Command, CommandResult, Flags, Keys, debug_reload, help, object};
use crate::proto::resp::strict_integer;
use crate::store::entry::Entry;
use crate::store::number::parse_double;
use crate::store::value::ValueRef;
use crate::store::{CommandError, glob, rdb};

/// What DEBUG SLEEP takes at most.
const SLEEP_S_MAX: f64 = 60.0;
const REFUSED: CommandError = CommandError::Text(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
     connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);

/// This file's row.
pub const COMMANDS: &[Command] = &[Command {
    name: "debug",
    arity: -2,
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
    keys: Keys::NONE,
    group: "server",
    summary: "A container for commands for tests",
    since: "1.0.0",
    run: debug,
    subcommands: &[],
}];

fn debug(call: &mut Call<'_>) -> CommandResult {
    if !is_allowed(call) {
        return Err(REFUSED);
    }
    let name = call.args.at(1).to_ascii_lowercase();
    let count = call.args.len();
    match (name.as_slice(), count) {
        (b"sleep", 3) => sleep(call),
        (b"object", 3..) => describe(call),
        (b"set-active-expire", 3) => {
            call.instance.expires_actively = call.args.at(2) != b"0";
            ok(call)
        }
        (b"set-disable-deny-scripts", 3) => {
            call.instance.scripting.denies_nothing = call.args.at(2) != b"0";
            ok(call)
        }
        (b"jmap", _) => ok(call),
        (b"quicklist-packed-threshold" | b"listpack-entry-limit" | b"dict-resizing", 3)
        | (b"replybuffer" | b"pause-cron" | b"client-enforce-reply-list", _) => ok(call),
        (b"change-repl-id", 2) => ok(call),
        (b"listpack" | b"ziplist", 3) => structure(call),
        (b"stringmatch-len", 4) => stringmatch(call),
        (b"protocol", 3) => protocol(call),
        (b"digest", 2) => digest_all(call),
        (b"digest-value", 3..) => digest_values(call),
        (b"htstats", 3..) => statistics(call),
        (b"htstats-key", 3..) => structure(call),
        (b"error", 3) => Err(CommandError::Owned(call.args.at(2).to_vec())),
        (b"log", 3) => ok(call),
        (b"reload", _) => debug_reload::reload(call),
        (b"loadaof", 2) => debug_reload::loadaof(call),
        (b"help", 2) => usage(call),
        _ => {
            let shown = String::from_utf8_lossy(call.args.at(1)).into_owned();
            let text = format!(
                "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try DEBUG HELP."
            );
            Err(CommandError::Owned(text.into_bytes()))
        }
    }
}

fn ok(call: &mut Call<'_>) -> CommandResult {
    call.reply.ok();
    Ok(())
}

fn is_allowed(call: &Call<'_>) -> bool {
    let address = call.instance.clients.of(call.session).map(|client| client.address.as_str());
    let local = |address: &str| address.starts_with("127.") || address.starts_with("[::1]");
    call.instance.config.admin || address.is_none_or(|address| address.is_empty() || local(address))
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    let lines = [
        ("DIGEST", "Output a hex signature representing the current DB content."),
        (
            "DIGEST-VALUE <key> [<key> ...]",
            "Output a hex signature of the values of all the specified keys.",
        ),
        ("ERROR <string>", "Return a protocol error with <string> as message."),
        ("HTSTATS <dbid>", "Return statistics about the table of the specified database."),
        ("OBJECT <key>", "Show low level info about <key> and its value."),
        ("PROTOCOL <type>", "Reply with a test value of the specified type."),
        ("LOADAOF", "Write the append log to the end and load the data from it."),
        (
            "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
            "Save a snapshot and load the data from it; without a disk, through the bytes of one in memory.",
        ),
        (
            "SET-ACTIVE-EXPIRE <0|1>",
            "Setting it to 0 disables expiring keys in background when they are not accessed.",
        ),
        (
            "SET-DISABLE-DENY-SCRIPTS <0|1>",
            "Setting it to 1 lets scripts call what they otherwise may not.",
        ),
        ("SLEEP <seconds>", "Stop the server for <seconds>. Decimals allowed."),
        (
            "STRINGMATCH-LEN <len> <pattern>",
            "Run the pattern matcher against a string of that length.",
        ),
    ];
    help(&mut call.reply, "DEBUG", &lines);
    Ok(())
}

/// Holds the store, as a slow command would: that is what it is for.
fn sleep(call: &mut Call<'_>) -> CommandResult {
    let seconds = parse_double(call.args.at(2)).ok_or(CommandError::NotFloat)?;
    let time = std::time::Duration::from_secs_f64(seconds.clamp(0.0, SLEEP_S_MAX));
    #[allow(clippy::disallowed_methods, reason = "DEBUG SLEEP stops the server on purpose")]
    std::thread::sleep(time);
    call.instance.slept_ms += time.as_millis() as u64;
    ok(call)
}

/// What `look` makes of the entry at argument 2.
fn at_key<T>(
    call: &mut Call<'_>,
    look: impl FnOnce(Entry<'_>, u32) -> T,
) -> Result<T, CommandError> {
    let key = call.args.at(2);
    let hash = call.keyspace.hash(key);
    let database = call.keyspace.database(call.session.database);
    let access = database.access.clone();
    // One that has expired is there as long as nobody has removed it.
    let entry = database.table().find(key, hash).ok_or(CommandError::NoSuchKey)?;
    Ok(look(entry, access.idle_seconds(entry.clock())))
}

fn describe(call: &mut Call<'_>) -> CommandResult {
    let text = at_key(call, |entry, idle| {
        let encoding = object::encoding_name(entry);
        let bytes = rdb::dump(entry.value()).len();
        let more = match entry.value() {
            ValueRef::List(list) if encoding == "quicklist" => {
                format!(" ql_nodes:{} ql_listpack_max:-2 ql_compressed:0", list.nodes())
            }
            _ => String::new(),
        };
        format!(
            "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{bytes} lru:{} lru_seconds_idle:{idle}{more}",
            entry.clock()
        )
    })?;
    call.reply.simple(&text);
    Ok(())
}

fn structure(call: &mut Call<'_>) -> CommandResult {
    let encoding = at_key(call, |entry, _| object::encoding_name(entry))?;
    match (call.args.at(1).to_ascii_lowercase().as_slice(), encoding) {
        (b"htstats-key", "hashtable" | "skiplist") => {
            call.reply.verbatim("txt", b"[Table] extendible hashing: nothing is rehashed\n");
            Ok(())
        }
        (b"htstats-key", _) => Err(CommandError::Text(
            "ERR The value stored at the specified key is not represented using an hash table",
        )),
        (_, "listpack") => {
            call.reply.simple("Listpack structure printed on stdout");
            Ok(())
        }
        _ => Err(CommandError::Text("ERR Not a listpack encoded object.")),
    }
}

fn stringmatch(call: &mut Call<'_>) -> CommandResult {
    const BYTES_MAX: i64 = 1 << 20;
    let count = strict_integer(call.args.at(2)).ok_or(CommandError::NotInteger)?;
    let text = vec![b'a'; count.clamp(0, BYTES_MAX) as usize];
    call.reply.integer(i64::from(glob::matches(call.args.at(3), &text)));
    Ok(())
}

fn protocol(call: &mut Call<'_>) -> CommandResult {
    let kind = call.args.at(2).to_ascii_lowercase();
    let reply = &mut call.reply;
    match kind.as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12_345),
        b"double" => reply.double(3141.0 / 1000.0),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.raw(b"|1\r\n");
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !reply.is_resp3() => {
            return Err(CommandError::Text("ERR RESP2 is not supported by this command"));
        }
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        _ => {
            return Err(CommandError::Text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|\
                 attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

/// A value's digest: the same for the same contents, whatever their order in a table.
fn digest_of(entry: Entry<'_>) -> [u8; 20] {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let mut parts: Vec<Vec<u8>> = Vec::new();
    match entry.value() {
        ValueRef::Set(set) => parts.extend(set.iter().map(|member| member.to_vec())),
        ValueRef::Hash(hash) => parts.extend(hash.iter().map(|(field, value)| {
            [&(field.to_vec().len() as u64).to_le_bytes()[..], &field.to_vec(), &value.to_vec()]
                .concat()
        })),
        ValueRef::SortedSet(set) => set.for_each(|member, score| {
            parts.push([&score.to_le_bytes()[..], &member.to_vec()].concat());
        }),
        ValueRef::List(list) => {
            let order = list.iter().enumerate();
            parts.extend(
                order.map(|(at, one)| [&(at as u64).to_le_bytes()[..], &one.to_vec()].concat()),
            );
        }
        value => match value.text() {
            Some(text) => parts.push(text.to_vec()),
            None => parts.push(rdb::dump(value)),
        },
    }
    let kind = entry.kind().name().as_bytes();
    let mut sum = [0; 20];
    for part in parts {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[kind, b":", &part[..]].concat());
        sum.iter_mut().zip(hash.as_ref()).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

fn digest_values(call: &mut Call<'_>) -> CommandResult {
    let keys = call.args.from(2);
    call.reply.array(keys.len());
    for key in keys.iter() {
        let hash = call.keyspace.hash(key);
        let database = call.keyspace.database(call.session.database);
        let sum = database.peek(key, hash, call.now_ms).map(digest_of).unwrap_or_default();
        call.reply.bulk(crate::store::acl::hexadecimal(&sum).as_bytes());
    }
    Ok(())
}

fn digest_all(call: &mut Call<'_>) -> CommandResult {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let mut sum = [0; 20];
    for (index, database) in call.keyspace.databases().iter().enumerate() {
        for entry in database.table().iter().filter(|entry| !entry.is_expired(call.now_ms)) {
            let expiry = if entry.expires_ms().is_some() { b"!expire!" } else { b"" as &[u8] };
            let whole = [&[index as u8][..], entry.key(), b":", &digest_of(entry), expiry].concat();
            let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole);
            sum.iter_mut().zip(hash.as_ref()).for_each(|(sum, byte)| *sum ^= byte);
        }
    }
    call.reply.simple(&crate::store::acl::hexadecimal(&sum));
    Ok(())
}

fn statistics(call: &mut Call<'_>) -> CommandResult {
    let index = strict_integer(call.args.at(2)).ok_or(CommandError::NotInteger)?;
    let databases = call.keyspace.databases();
    let database = usize::try_from(index).ok().and_then(|index| databases.get(index));
    let database = database.ok_or(CommandError::Text("ERR Out of range database"))?;
    let text = format!(
        "[Dictionary HT]\nHash table 0 stats (main hash table):\n table size: {}\n number of elements: {}\n\
         [Expires HT]\n number of elements: {}\n",
        database.table().segments() * 476,
        database.len(),
        database.expiring(),
    );
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::Client;

    #[test]
    fn digests_follow_contents_and_not_their_order() {
        let (mut one, mut two) = (Client::resp2(), Client::resp2());
        for (client, lines) in [
            (&mut one, ["SADD s a b c", "HSET h a 1 b 2", "SET k v EX 10", "RPUSH l a b"]),
            (&mut two, ["RPUSH l a b", "SADD s c b a", "SET k v EX 10", "HSET h b 2 a 1"]),
        ] {
            lines.iter().for_each(|line| drop(client.run(line)));
        }
        assert_eq!(one.run("DEBUG DIGEST"), two.run("DEBUG DIGEST"));
        assert_eq!(one.run("DEBUG DIGEST-VALUE s h"), two.run("DEBUG DIGEST-VALUE s h"));
        two.run("LSET l 0 b");
        assert_ne!(one.run("DEBUG DIGEST"), two.run("DEBUG DIGEST"));
        one.run("FLUSHALL");
        assert_eq!(one.run("DEBUG DIGEST"), format!("+{}", "0".repeat(40)));
    }

    #[test]
    fn objects_and_protocol() {
        let mut client = Client::resp2();
        client.check(&[
            ("DEBUG OBJECT none", "-ERR no such key"),
            ("DEBUG SLEEP 0", "+OK"),
            ("DEBUG SET-ACTIVE-EXPIRE 0", "+OK"),
            ("DEBUG STRINGMATCH-LEN 10 a*", ":1"),
            ("DEBUG PROTOCOL integer", ":12345"),
            ("SET k 12", "+OK"),
        ]);
        assert!(client.run("DEBUG OBJECT k").contains(" encoding:int serializedlength:"));
        assert!(client.run("DEBUG NOTHING").starts_with("-ERR unknown subcommand or wrong number"));
    }
}
