//! COMMAND: the table of commands, told to clients.

use super::key_use::{KeyUse, has_keys, key_uses};
use super::{Call, Command, CommandId, CommandResult, Flags, Keys, help, table};
use crate::store::instance::Instance;
use crate::store::scripting::commands::LuaCommand;
use crate::store::{Args, CommandError, Reply, glob};

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[Command {
    subcommands: &[
        row("count", 2, "Returns the number of commands", "2.8.13", count),
        row("docs", -2, "Returns documentation about commands", "7.0.0", docs),
        row("getkeys", -3, "Returns the keys of a command", "2.8.13", getkeys),
        row(
            "getkeysandflags",
            -3,
            "Returns the keys of a command and what it does to them",
            "7.0.0",
            getkeysandflags,
        ),
        row("help", 2, "Lists the subcommands", "5.0.0", usage),
        row("info", -2, "Returns details about commands", "2.8.13", info),
        row("list", -2, "Returns the names of commands", "7.0.0", list),
    ],
    ..row("command", -1, "Returns details about all commands", "2.8.13", all)
}];

/// Flags' names in COMMAND's replies.
const FLAG_NAMES: &[(Flags, &str)] = &[
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::NO_MULTI, "no_multi"),
];

const fn row(
    name: &'static str,
    arity: i16,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (flags, keys) = (FLAGS, Keys::NONE);
    Command { name, arity, flags, keys, group: "server", summary, since, run, subcommands: &[] }
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "COMMAND",
        &[
            ("(no subcommand)", "Return details about all commands."),
            ("COUNT", "Return the total number of commands in this server."),
            (
                "DOCS [<command-name> ...]",
                "Return documentation of commands, of all if none are given.",
            ),
            ("GETKEYS <full-command>", "Return the keys from a full command."),
            (
                "GETKEYSANDFLAGS <full-command>",
                "Return the keys and the access flags from a full command.",
            ),
            (
                "INFO [<command-name> ...]",
                "Return details about commands, of all if none are given.",
            ),
            ("LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <value>]", "Return a list of commands."),
        ],
    );
    Ok(())
}

/// The rows that clients may know of.
fn shown() -> impl Iterator<Item = CommandId> {
    table().top_level().filter(|id| !table().row(*id).flags.has(Flags::HIDDEN))
}

/// Those and their subcommands.
fn named() -> impl Iterator<Item = CommandId> {
    table().ids().filter(|id| !table().row(*id).flags.has(Flags::HIDDEN))
}

fn all(call: &mut Call<'_>) -> CommandResult {
    let ids: Vec<CommandId> = shown().collect();
    let own = &call.instance.scripting.commands;
    call.reply.array(ids.len() + own.iter().len());
    ids.into_iter().for_each(|id| detail(&mut call.reply, &Described::row(id)));
    own.iter().for_each(|command| detail(&mut call.reply, &Described::own(command)));
    Ok(())
}

fn count(call: &mut Call<'_>) -> CommandResult {
    let own = call.instance.scripting.commands.iter().len();
    call.reply.integer((shown().count() + own) as i64);
    Ok(())
}

fn info(call: &mut Call<'_>) -> CommandResult {
    let names = call.args.from(2);
    if names.is_empty() {
        return all(call);
    }
    call.reply.array(names.len());
    for name in names.iter() {
        match described(call.instance, name) {
            Some(found) => detail(&mut call.reply, &found),
            None => call.reply.null_array(),
        }
    }
    Ok(())
}

fn docs(call: &mut Call<'_>) -> CommandResult {
    let names = call.args.from(2);
    let found: Vec<Described<'_>> = match names.len() {
        0 => {
            let own = call.instance.scripting.commands.iter().map(Described::own);
            shown().map(Described::row).chain(own).collect()
        }
        _ => names.iter().filter_map(|name| described(call.instance, name)).collect(),
    };
    call.reply.map(found.len());
    found.iter().for_each(|command| document(&mut call.reply, command));
    Ok(())
}

fn list(call: &mut Call<'_>) -> CommandResult {
    let filter: Box<dyn Fn(&Described<'_>) -> bool> = match call.args.len() {
        2 => Box::new(|_| true),
        5 if call.args.at(2).eq_ignore_ascii_case(b"filterby") => {
            let value = call.args.at(4).to_ascii_lowercase();
            match call.args.at(3).to_ascii_lowercase().as_slice() {
                b"module" => Box::new(|_| false),
                b"aclcat" => Box::new(move |command| {
                    command.categories.iter().any(|category| category.as_bytes()[1..] == value)
                }),
                b"pattern" => {
                    Box::new(move |command| glob::matches(&value, command.name.as_bytes()))
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        _ => return Err(CommandError::Syntax),
    };
    let own = call.instance.scripting.commands.iter().map(Described::own);
    let found: Vec<Described<'_>> =
        named().map(Described::row).chain(own).filter(|command| filter(command)).collect();
    call.reply.array(found.len());
    found.iter().for_each(|command| call.reply.bulk(command.name.as_bytes()));
    Ok(())
}

fn getkeys(call: &mut Call<'_>) -> CommandResult {
    let args = call.args.from(2);
    let keys = keys_asked_for(args)?;
    call.reply.array(keys.len());
    keys.into_iter().for_each(|(key, _)| call.reply.bulk(args.at(key)));
    Ok(())
}

fn getkeysandflags(call: &mut Call<'_>) -> CommandResult {
    let args = call.args.from(2);
    let keys = keys_asked_for(args)?;
    call.reply.array(keys.len());
    for (key, used) in keys {
        call.reply.array(2);
        call.reply.bulk(args.at(key));
        call.reply.set(used.names().count());
        used.names().for_each(|name| call.reply.simple(name));
    }
    Ok(())
}

fn keys_asked_for(args: Args<'_>) -> Result<Vec<(usize, KeyUse)>, CommandError> {
    let id = table().resolve(args);
    if id == CommandId::UNKNOWN {
        return Err(CommandError::Text("ERR Invalid command specified"));
    }
    let row = table().row(id);
    if !has_keys(row) {
        return Err(CommandError::Text("ERR The command has no key arguments"));
    }
    if !row.takes(args.len()) {
        return Err(CommandError::Text("ERR Invalid number of arguments specified for command"));
    }
    const MAYBE_NONE: [&str; 6] = ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];
    let keys = key_uses(row, args);
    let keys = keys.filter(|keys| !keys.is_empty() || MAYBE_NONE.contains(&row.name));
    keys.ok_or(CommandError::Text("ERR Invalid arguments specified for command"))
}

/// The indexes of a command's keys; nothing if it never has any, or if their number makes no sense.
pub(in crate::store) fn keys(row: &Command, args: Args<'_>) -> Option<Vec<usize>> {
    if let Some(count_at) = key_count_index(row) {
        let step = if row.name == "msetex" { 2 } else { 1 };
        return counted_keys(args, count_at, step);
    }
    if matches!(row.name, "xread" | "xreadgroup") {
        let (first, count) = super::stream_read::stream_keys(args)?;
        return Some((first..first + count).collect());
    }
    let Keys { first, last, step } = row.keys;
    if first == 0 {
        return None;
    }
    let last = if last < 0 { args.len() as i64 + i64::from(last) } else { i64::from(last) };
    Some((first as usize..=last.max(0) as usize).step_by(step as usize).collect())
}

/// Whether the arguments say where the keys are.
pub(super) fn is_movable(row: &Command) -> bool {
    const OTHERS: &[&str] = &[
        "xread",
        "xreadgroup",
        "zunionstore",
        "zinterstore",
        "zdiffstore",
        "sort",
        "sort_ro",
        "migrate",
        "georadius",
        "georadiusbymember",
    ];
    key_count_index(row).is_some() || OTHERS.contains(&row.name)
}

/// The keys behind their count in argument `count_at`, every `step`-th argument.
pub(super) fn counted_keys(args: Args<'_>, count_at: usize, step: usize) -> Option<Vec<usize>> {
    let count = leading_number(args.get(count_at)?);
    let last = count_at.checked_add(count * step).filter(|last| *last < args.len())?;
    Some((count_at + 1..=last).step_by(step).collect())
}

/// What C's `atoi` reads; Redis looks for keys before it checks the number.
fn leading_number(text: &[u8]) -> usize {
    let digits = text.trim_ascii_start();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).take(9);
    digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

/// Where commands whose keys are counted by an argument have that count.
pub(super) fn key_count_index(row: &Command) -> Option<usize> {
    match row.name {
        "msetex" | "sunioncard" | "sdiffcard" | "lmpop" | "zmpop" | "sintercard" | "zintercard"
        | "zunion" | "zinter" | "zdiff" => Some(1),
        "blmpop" | "bzmpop" | "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall"
        | "fcall_ro" => Some(2),
        _ => None,
    }
}

/// A command as COMMAND tells it: a row of the table, or one of the cache's definition.
struct Described<'a> {
    name: String,
    arity: i16,
    flags: Flags,
    keys: Keys,
    group: &'static str,
    summary: &'a str,
    since: &'static str,
    movable: bool,
    categories: Vec<&'static str>,
    subcommands: Vec<CommandId>,
}

impl<'a> Described<'a> {
    fn row(id: CommandId) -> Described<'a> {
        let row = table().row(id);
        Described {
            name: table().full_name(id),
            arity: row.arity,
            flags: row.flags,
            keys: row.keys,
            group: row.group,
            summary: row.summary,
            since: row.since,
            movable: is_movable(row),
            categories: categories(id),
            subcommands: subcommands(id),
        }
    }

    fn own(command: &'a LuaCommand) -> Described<'a> {
        let spec = &command.spec;
        let writes =
            if spec.read_only { Flags::READONLY } else { Flags::WRITE.and(Flags::DENYOOM) };
        let fast = if spec.fast { Flags::FAST } else { Flags(0) };
        let last = spec.keys as i16;
        let keys = if last > 0 { Keys { first: 1, last, step: 1 } } else { Keys::NONE };
        Described {
            name: spec.name.to_lowercase(),
            arity: spec.arity,
            flags: writes.and(fast).and(Flags::NOSCRIPT),
            keys,
            group: "generic",
            summary: &spec.summary,
            since: env!("CARGO_PKG_VERSION"),
            movable: false,
            categories: table().lookup(spec.row().as_bytes()).map(categories).unwrap_or_default(),
            subcommands: Vec::new(),
        }
    }
}

/// A command by `name` or `name|subcommand`.
pub(super) fn find(name: &[u8]) -> Option<CommandId> {
    match memchr::memchr(b'|', name) {
        None => table().lookup(name),
        Some(bar) => {
            let parent = table().lookup(&name[..bar])?;
            table().subcommand(parent, &name[bar + 1..])
        }
    }
}

/// The same for what clients may know of, the definition's commands too.
fn described<'a>(instance: &'a Instance, name: &[u8]) -> Option<Described<'a>> {
    if let Some(command) = instance.scripting.commands.find(name) {
        return Some(Described::own(command));
    }
    let id = find(name)?;
    (!table().row(id).flags.has(Flags::HIDDEN)).then(|| Described::row(id))
}

/// One command as COMMAND and COMMAND INFO describe it.
fn detail(reply: &mut Reply<'_>, command: &Described<'_>) {
    let Described { flags, keys, movable, .. } = command;
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(i64::from(command.arity));
    let names: Vec<&str> =
        FLAG_NAMES.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| *name).collect();
    reply.set(names.len() + usize::from(*movable));
    names.into_iter().for_each(|name| reply.simple(name));
    if *movable {
        reply.simple("movablekeys");
    }
    reply.integer(i64::from(keys.first));
    reply.integer(i64::from(keys.last));
    reply.integer(i64::from(keys.step));
    let categories = &command.categories;
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(category));
    reply.set(0);
    key_specification(reply, *keys, *flags);
    reply.set(command.subcommands.len());
    command.subcommands.iter().for_each(|id| detail(reply, &Described::row(*id)));
}

fn subcommands(parent: CommandId) -> Vec<CommandId> {
    let names = table().row(parent).subcommands.iter();
    names.filter_map(|row| table().subcommand(parent, row.name.as_bytes())).collect()
}

/// Where the keys are, in the form of Redis 7.
fn key_specification(reply: &mut Reply<'_>, keys: Keys, flags: Flags) {
    let Keys { first, last, step } = keys;
    if first == 0 {
        return reply.set(0);
    }
    reply.set(1);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.simple(if flags.has(Flags::WRITE) { "RW" } else { "RO" });
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(i64::from(first));
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    reply.integer(i64::from(if last < 0 { last } else { last - first }));
    reply.bulk(b"keystep");
    reply.integer(i64::from(step));
    reply.bulk(b"limit");
    reply.integer(0);
}

/// Commands that Redis calls dangerous although they aren't for administrators.
const DANGEROUS: &[&str] = &[
    "flushall", "flushdb", "info", "keys", "migrate", "restore", "role", "sort", "sort_ro",
    "swapdb",
];

/// Access categories as Redis names them, derived from flags and group.
pub(in crate::store) fn categories(id: CommandId) -> Vec<&'static str> {
    let row = table().row(id);
    let several: &[&str] =
        if matches!(row.name, "sort" | "sort_ro") { &["@set", "@sortedset", "@list"] } else { &[] };
    let group = match row.group {
        _ if !several.is_empty() => None,
        _ if table().full_name(id).starts_with("command") => Some("@connection"),
        _ if matches!(row.name, "readonly" | "readwrite") => Some("@connection"),
        "string" => Some("@string"),
        "list" => Some("@list"),
        "set" => Some("@set"),
        "hash" => Some("@hash"),
        "sorted-set" | "sorted_set" => Some("@sortedset"),
        "bitmap" => Some("@bitmap"),
        "hyperloglog" => Some("@hyperloglog"),
        "geo" => Some("@geo"),
        "stream" => Some("@stream"),
        "generic" if row.name == "wait" => Some("@connection"),
        "generic" => Some("@keyspace"),
        "connection" => Some("@connection"),
        "transactions" => Some("@transaction"),
        "pubsub" => Some("@pubsub"),
        "scripting" => Some("@scripting"),
        "server" if matches!(row.name, "flushall" | "flushdb" | "swapdb" | "dbsize") => {
            Some("@keyspace")
        }
        _ => None,
    };
    let speed = if row.flags.has(Flags::FAST) { "@fast" } else { "@slow" };
    let top_level = table().is_top_level(id);
    let dangerous = row.flags.has(Flags::ADMIN) || top_level && DANGEROUS.contains(&row.name);
    let flags = [
        (row.flags.has(Flags::WRITE), "@write"),
        (row.flags.has(Flags::READONLY) && row.group != "scripting", "@read"),
        (row.flags.has(Flags::ADMIN), "@admin"),
        (dangerous, "@dangerous"),
        (row.flags.has(Flags::BLOCKING), "@blocking"),
    ];
    let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name);
    flags.chain([speed]).chain(group).chain(several.iter().copied()).collect()
}

fn document(reply: &mut Reply<'_>, command: &Described<'_>) {
    let subcommands = &command.subcommands;
    reply.bulk(command.name.as_bytes());
    reply.map(3 + usize::from(!subcommands.is_empty()));
    reply.bulk(b"summary");
    reply.bulk(command.summary.as_bytes());
    reply.bulk(b"since");
    reply.bulk(command.since.as_bytes());
    reply.bulk(b"group");
    reply.bulk(command.group.as_bytes());
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        subcommands.iter().for_each(|id| document(reply, &Described::row(*id)));
    }
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::{Client, check, check_resp3};

    #[test]
    fn keys_of_commands() {
        check(&[
            ("COMMAND GETKEYS LMOVE a b LEFT RIGHT", "*2 $1 a $1 b"),
            ("COMMAND GETKEYS LMPOP 2 a b LEFT", "*2 $1 a $1 b"),
            ("COMMAND GETKEYS LMPOP 9 a b LEFT", "-ERR Invalid arguments specified for command"),
            ("COMMAND GETKEYS MEMORY USAGE k", "*1 $1 k"),
            ("COMMAND GETKEYS foo a b", "-ERR Invalid command specified"),
            ("COMMAND GETKEYS lpush a", "-ERR Invalid number of arguments specified for command"),
            ("COMMAND GETKEYS ping a", "-ERR The command has no key arguments"),
        ]);
    }

    #[test]
    fn details() {
        let llen = "*10 $4 llen :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@fast +@list *0 *1 *6 $5 flags *1 +RO \
                    $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 $9 find_keys *4 $4 type $5 range $4 spec \
                    *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0";
        check(&[
            ("COMMAND INFO llen nothing", &format!("*2 {llen} *-1")),
            ("COMMAND LIST FILTERBY PATTERN config", "*1 $6 config"),
            ("COMMAND LIST FILTERBY foo x", "-ERR syntax error"),
            ("COMMAND DOCS nothing", "*0"),
        ]);
        check_resp3(&[(
            "COMMAND DOCS client|id nothing",
            "%1 $9 client|id %3 $7 summary $31 Returns the connection's number $5 since $5 5.0.0 $5 group $10 connection",
        )]);
    }

    #[test]
    fn every_command_can_be_described() {
        for line in ["COMMAND", "COMMAND DOCS", "COMMAND LIST", "COMMAND INFO"] {
            let mut client = Client::resp3();
            let mut reader = crate::proto::resp::ReplyReader::default();
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let reply = client.run_words(&words);
            let read = reader.read(&reply).expect("a well-formed reply");
            assert_eq!(read.map(|(_, len)| len), Some(reply.len()), "{line}");
        }
    }
}
