//! ACL: the users, their rights, and what was refused.

use super::introspection::categories;
use super::{Call, Command, CommandResult, Flags, Keys, help, table};
use crate::proto::resp::strict_integer;
use crate::store::acl::{CATEGORIES, User, hexadecimal};
use crate::store::clients::Delivery;
use crate::store::session::State;
use crate::store::{CommandError, Reply};

const PLAIN: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = PLAIN.and(Flags::ADMIN);
const NO_FILE: CommandError = CommandError::Text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
     command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users \
     in the Redis configuration.",
);
const GENPASS_BITS: CommandError = CommandError::Text(
    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
);

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[Command {
    subcommands: &[
        row("cat", -2, PLAIN, "Lists the categories, or a category's commands", "6.0.0", cat),
        row("deluser", -3, ADMIN, "Deletes users and closes their connections", "6.0.0", deluser),
        row("dryrun", -4, ADMIN, "Tells whether a user may run a command", "7.0.0", dryrun),
        row("genpass", -2, PLAIN, "Returns a random password", "6.0.0", genpass),
        row("getuser", 3, ADMIN, "Returns a user's rules", "6.0.0", getuser),
        row("help", 2, Flags::LOADING.and(Flags::STALE), "Lists the subcommands", "6.0.0", usage),
        row("list", 2, ADMIN, "Returns all users' rules", "6.0.0", list),
        row("load", 2, ADMIN, "Reads the users from their file", "6.0.0", no_file),
        row("log", -2, ADMIN, "Returns what was refused lately", "6.0.0", log),
        row("save", 2, ADMIN, "Writes the users to their file", "6.0.0", no_file),
        row("setuser", -3, ADMIN, "Creates or changes a user", "6.0.0", setuser),
        row("users", 2, ADMIN, "Returns the names of all users", "6.0.0", users),
        row("whoami", 2, PLAIN, "Returns the name of this connection's user", "6.0.0", whoami),
    ],
    ..row("acl", -2, Flags(0), "A container for commands about users", "6.0.0", usage)
}];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let keys = Keys::NONE;
    Command { name, arity, flags, keys, group: "server", summary, since, run, subcommands: &[] }
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "ACL",
        &[
            ("CAT [<category>]", "List all commands of <category>, or all categories."),
            ("DELUSER <username> [<username> ...]", "Delete a list of users."),
            (
                "DRYRUN <username> <command> [<arg> ...]",
                "Returns whether the user can execute the given command without executing the command.",
            ),
            ("GETUSER <username>", "Get the user's details."),
            ("GENPASS [<bits>]", "Generate a secure password of 256 or so many bits."),
            ("LIST", "Show users details in config file format."),
            ("LOAD", "Reload users from the ACL file."),
            ("LOG [<count> | RESET]", "Show the ACL log entries."),
            ("SAVE", "Save the current config to the ACL file."),
            (
                "SETUSER <username> <attribute> [<attribute> ...]",
                "Create or modify a user with the specified attributes.",
            ),
            ("USERS", "List all the registered usernames."),
            ("WHOAMI", "Return the current connection username."),
        ],
    );
    Ok(())
}

fn no_file(_: &mut Call<'_>) -> CommandResult {
    Err(NO_FILE)
}

fn whoami(call: &mut Call<'_>) -> CommandResult {
    call.reply.bulk(call.session.user_name());
    Ok(())
}

fn users(call: &mut Call<'_>) -> CommandResult {
    let users = call.instance.acl.users();
    call.reply.array(users.len());
    users.for_each(|user| call.reply.bulk(&user.name));
    Ok(())
}

fn list(call: &mut Call<'_>) -> CommandResult {
    let users = call.instance.acl.users();
    call.reply.array(users.len());
    users.for_each(|user| call.reply.bulk(&user.text()));
    Ok(())
}

fn cat(call: &mut Call<'_>) -> CommandResult {
    let Some(category) = call.args.get(2) else {
        call.reply.array(CATEGORIES.len());
        CATEGORIES.iter().for_each(|name| call.reply.bulk(&name.as_bytes()[1..]));
        return Ok(());
    };
    if call.args.len() > 3 {
        let text = "ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.";
        return Err(CommandError::Text(text));
    }
    let lower = category.to_ascii_lowercase();
    let unknown = || [b"ERR Unknown category '", category, b"'"].concat();
    let mut known = CATEGORIES.iter();
    let name = known
        .find(|name| name.as_bytes()[1..] == lower)
        .ok_or_else(|| CommandError::Owned(unknown()))?;
    let members = table().ids().filter(|id| categories(*id).contains(name));
    let names: Vec<String> = members.map(|id| table().full_name(id)).collect();
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name.as_bytes()));
    Ok(())
}

fn getuser(call: &mut Call<'_>) -> CommandResult {
    let Some(user) = call.instance.acl.user(call.args.at(2)) else {
        call.reply.null();
        return Ok(());
    };
    let reply = &mut call.reply;
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.into_iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords.len());
    user.passwords.iter().for_each(|hash| reply.bulk(hash.as_bytes()));
    describe_selector(reply, &user.selectors[0]);
    reply.bulk(b"selectors");
    reply.array(user.selectors.len() - 1);
    for selector in &user.selectors[1..] {
        reply.map(3);
        describe_selector(reply, selector);
    }
    Ok(())
}

fn describe_selector(reply: &mut Reply<'_>, selector: &crate::store::acl::Selector) {
    reply.bulk(b"commands");
    reply.bulk(selector.commands_text().as_bytes());
    reply.bulk(b"keys");
    reply.bulk(&selector.keys_text());
    reply.bulk(b"channels");
    reply.bulk(&selector.channels_text());
}

/// All modifiers or none.
fn setuser(call: &mut Call<'_>) -> CommandResult {
    let name = call.args.at(2);
    if name.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        let text = "ERR Usernames can't contain spaces or null characters";
        return Err(CommandError::Text(text));
    }
    let all_channels = call.instance.config.acl_all_channels;
    let acl = &mut call.instance.acl;
    let mut user =
        acl.user(name).map_or_else(|| User::new(name, all_channels), |user| (**user).clone());
    for modifier in merged(call.args.from(3).iter())? {
        user.modify(&modifier, all_channels).map_err(|reason| {
            let start = &b"ERR Error in ACL SETUSER modifier '"[..];
            CommandError::Owned([start, &modifier, b"': ", reason.as_bytes()].concat())
        })?;
    }
    acl.put(user);
    call.reply.ok();
    Ok(())
}

/// Puts selectors together that spaces have taken apart.
fn merged<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, CommandError> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for word in words {
        let part = match open.take() {
            Some(begun) => [&begun[..], b" ", word].concat(),
            None => word.to_vec(),
        };
        if part.starts_with(b"(") && !part.ends_with(b")") {
            open = Some(part);
        } else {
            all.push(part);
        }
    }
    match open {
        None => Ok(all),
        Some(begun) => {
            // Only the word that opened it is told.
            let first = begun.split(|byte| *byte == b' ').next().unwrap_or_default();
            let start = &b"ERR Unmatched parenthesis in acl selector starting at '"[..];
            Err(CommandError::Owned([start, first, b"'."].concat()))
        }
    }
}

fn deluser(call: &mut Call<'_>) -> CommandResult {
    let names = call.args.from(2);
    if names.iter().any(|name| name == b"default") {
        return Err(CommandError::Text("ERR The 'default' user cannot be removed"));
    }
    let mut deleted = 0;
    for name in names.iter() {
        if call.instance.acl.remove(name) {
            deleted += 1;
            close_connections(call, name);
        }
    }
    call.reply.integer(deleted);
    Ok(())
}

fn close_connections(call: &mut Call<'_>, name: &[u8]) {
    let of_user = |session: &crate::store::Session| {
        session.user.as_ref().is_some_and(|user| user.name == name)
    };
    let clients = &mut call.instance.clients;
    let theirs = clients.sorted().into_iter();
    let theirs = theirs.filter(|client| client.session.as_ref().is_some_and(of_user));
    let theirs: Vec<(u64, u64)> = theirs.map(|client| (client.id, client.connection)).collect();
    for (id, connection) in theirs {
        if id == call.session.id {
            call.session.state.set(State::CLOSING, true);
        } else {
            clients.deliver(Delivery::Close { connection });
        }
    }
}

fn dryrun(call: &mut Call<'_>) -> CommandResult {
    let (name, args) = (call.args.at(2), call.args.from(3));
    let text = |parts: [&[u8]; 3]| CommandError::Owned(parts.concat());
    let user = call.instance.acl.user(name);
    let user = user.ok_or_else(|| text([b"ERR User '", name, b"' not found"]))?;
    let id = table().resolve(args);
    // A known command with a subcommand that isn't known is none either.
    let is_parent = || args.len() > 1 && !table().row(id).subcommands.is_empty();
    if id == super::CommandId::UNKNOWN || is_parent() {
        return Err(text([b"ERR Command '", args.at(0), b"' not found"]));
    }
    let row = table().row(id);
    if !row.takes(args.len()) {
        let name = table().full_name(id);
        let parts = [b"ERR wrong number of arguments for '", name.as_bytes(), b"' command"];
        return Err(text(parts));
    }
    match user.check(id, row, args) {
        Ok(()) => call.reply.ok(),
        Err(denied) => {
            use crate::store::acl::Denied;
            let argument = match denied {
                Denied::Command => &b""[..],
                Denied::Key(at) | Denied::Channel(at) => args.at(at),
            };
            call.reply.bulk(&denied.full_text(user, id, argument));
        }
    }
    Ok(())
}

fn genpass(call: &mut Call<'_>) -> CommandResult {
    let bits = match (call.args.len(), call.args.get(2)) {
        (2, _) => 256,
        (3, Some(bits)) => {
            let bits = strict_integer(bits).ok_or(CommandError::NotInteger)?;
            usize::try_from(bits)
                .ok()
                .filter(|bits| (1..=4096).contains(bits))
                .ok_or(GENPASS_BITS)?
        }
        _ => return Err(CommandError::Syntax),
    };
    let digits = bits.div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| CommandError::Text("ERR the system has no random bytes to give"))?;
    call.reply.bulk(&hexadecimal(&bytes).as_bytes()[..digits]);
    Ok(())
}

fn log(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 3 {
        const TEXT: &str =
            "ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.";
        return Err(CommandError::Text(TEXT));
    }
    let log = &mut call.instance.acl.log;
    let count = match call.args.get(2) {
        None => 10,
        Some(word) if word.eq_ignore_ascii_case(b"reset") => {
            log.clear();
            call.reply.ok();
            return Ok(());
        }
        Some(count) => {
            let count = strict_integer(count).ok_or(CommandError::NotInteger)?;
            usize::try_from(count).unwrap_or_default()
        }
    };
    let (reply, now_ms) = (&mut call.reply, call.now_ms);
    reply.array(count.min(log.entries().len()));
    for entry in log.entries().take(count) {
        reply.map(10);
        let integer = |reply: &mut Reply<'_>, name: &str, value: u64| {
            reply.bulk(name.as_bytes());
            reply.integer(value as i64);
        };
        let text = |reply: &mut Reply<'_>, name: &str, value: &[u8]| {
            reply.bulk(name.as_bytes());
            reply.bulk(value);
        };
        integer(reply, "count", entry.count);
        text(reply, "reason", entry.reason.name().as_bytes());
        text(reply, "context", entry.context.as_bytes());
        text(reply, "object", &entry.object);
        text(reply, "username", &entry.user);
        reply.bulk(b"age-seconds");
        reply.double(now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0);
        text(reply, "client-info", &entry.client_info);
        integer(reply, "entry-id", entry.id);
        integer(reply, "timestamp-created", entry.created_ms);
        integer(reply, "timestamp-last-updated", entry.updated_ms);
    }
    Ok(())
}
