//! Commands about the connection itself: greeting, authentication, database, protocol version.

use super::{Call, Command, CommandResult, Flags, Keys};
use crate::limits::DATABASES;
use crate::proto::resp::strict_integer;
use crate::store::acl::{Entry, Reason};
use crate::store::execute::until_nul;
use crate::store::instance::REDIS_VERSION;
use crate::store::session::{Session, State};
use crate::store::{CommandError, Reply};

const ANY_TIME: Flags = Flags::FAST.and(Flags::LOADING).and(Flags::STALE);
const STRANGERS: Flags = ANY_TIME.and(Flags::NO_AUTH).and(Flags::NOSCRIPT);
const WRONG_PASSWORD: CommandError =
    CommandError::Text("WRONGPASS invalid username-password pair or user is disabled.");

/// This file's rows.
pub const COMMANDS: &[Command] = &[
    row("auth", -2, STRANGERS, "Authenticates the connection", "1.0.0", auth),
    row("echo", 2, ANY_TIME, "Returns the given string", "1.0.0", echo),
    row(
        "hello",
        -1,
        STRANGERS,
        "Greets the server and chooses the protocol version",
        "6.0.0",
        hello,
    ),
    row("ping", -1, ANY_TIME, "Returns PONG, or the argument if one is given", "1.0.0", ping),
    row("quit", -1, STRANGERS.and(Flags::DIRECT), "Closes the connection", "1.0.0", quit),
    row("reset", 1, STRANGERS.and(Flags::DIRECT), "Makes the connection as new", "6.2.0", reset),
    row("select", 2, ANY_TIME, "Chooses the database", "1.0.0", select),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys: Keys::NONE,
        group: "connection",
        summary,
        since,
        run,
        subcommands: &[],
    }
}

fn echo(call: &mut Call<'_>) -> CommandResult {
    call.reply.bulk(call.args.at(1));
    Ok(())
}

fn ping(call: &mut Call<'_>) -> CommandResult {
    if call.session.state.has(State::SUBSCRIBED) && !call.session.resp3 && call.args.len() < 3 {
        call.reply.array(2);
        call.reply.bulk(b"pong");
        call.reply.bulk(call.args.get(1).unwrap_or_default());
        return Ok(());
    }
    match call.args.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(call.args.at(1)),
        _ => return Err(CommandError::Text("ERR wrong number of arguments for 'ping' command")),
    }
    Ok(())
}

fn quit(call: &mut Call<'_>) -> CommandResult {
    call.session.state.set(State::CLOSING, true);
    call.reply.ok();
    Ok(())
}

fn select(call: &mut Call<'_>) -> CommandResult {
    let index = strict_integer(call.args.at(1)).ok_or(CommandError::NotInteger)?;
    if i32::try_from(index).is_err() {
        return Err(CommandError::Text(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    if !(0..DATABASES as i64).contains(&index) {
        return Err(CommandError::Text("ERR DB index is out of range"));
    }
    call.session.database = index as u8;
    call.instance.clients.update(call.session);
    call.reply.ok();
    Ok(())
}

fn auth(call: &mut Call<'_>) -> CommandResult {
    let (user, password) = match call.args.len() {
        2 if call.instance.acl.default_user().without_password => {
            return Err(CommandError::Text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        2 => (&b"default"[..], call.args.at(1)),
        3 => (call.args.at(1), call.args.at(2)),
        _ => return Err(CommandError::Syntax),
    };
    authenticate(call, user, password)?;
    call.reply.ok();
    Ok(())
}

/// Makes the session that user's; a wrong password is logged.
fn authenticate(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> CommandResult {
    if call.instance.acl.authenticate(call.session, user, password) {
        call.instance.clients.update(call.session);
        return Ok(());
    }
    let Call { instance, session, now_ms, .. } = call;
    let line = super::client::line_of(instance, session, *now_ms).into_bytes();
    let entry =
        Entry::new(Reason::Authentication, b"AUTH".to_vec(), user.to_vec(), (session, line));
    instance.statistics.acl_denied.count(Reason::Authentication);
    instance.acl.log.add(entry, *now_ms, instance.config.acl_log_len);
    Err(WRONG_PASSWORD)
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
fn hello(call: &mut Call<'_>) -> CommandResult {
    let version = match call.args.get(1).map(strict_integer) {
        None => None,
        Some(None) => {
            return Err(CommandError::Text(
                "ERR Protocol version is not an integer or out of range",
            ));
        }
        Some(Some(version @ 2..=3)) => Some(version),
        Some(Some(_)) => return Err(CommandError::Text("NOPROTO unsupported protocol version")),
    };
    let mut name = None;
    let mut next = 2;
    while let Some(option) = call.args.get(next) {
        let left = call.args.len() - next - 1;
        if option.eq_ignore_ascii_case(b"auth") && left >= 2 {
            let (user, password) = (call.args.at(next + 1), call.args.at(next + 2));
            authenticate(call, user, password)?;
            next += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
            name = Some(call.args.at(next + 1));
            super::client::check_name(call.args.at(next + 1))?;
            next += 2;
        } else {
            let text =
                [b"ERR Syntax error in HELLO option '", until_nul(option, option.len()), b"'"]
                    .concat();
            return Err(CommandError::Owned(text));
        }
    }
    if call.session.state.has(State::UNAUTHENTICATED) {
        return Err(CommandError::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.session.name = name.to_vec();
    }
    if let Some(version) = version {
        call.session.resp3 = version == 3;
        call.reply.set_resp3(call.session.resp3);
    }
    call.instance.clients.update(call.session);
    let is_replica = call.instance.replication.upstream().is_some();
    greet(&mut call.reply, call.session, if is_replica { b"replica" } else { b"master" });
    Ok(())
}

fn greet(reply: &mut Reply<'_>, session: &Session, role: &[u8]) {
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if session.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(role);
    reply.bulk(b"modules");
    reply.array(0);
}

fn reset(call: &mut Call<'_>) -> CommandResult {
    call.instance.unwatch(call.session);
    super::pubsub::forget(call);
    super::tracking::end(call);
    call.instance.end_monitor(call.session.row);
    let (id, row, may_write) = (call.session.id, call.session.row, call.session.may_write);
    *call.session = Session { row, may_write, ..Session::new(id) };
    call.instance.acl.begin(call.session);
    call.instance.clients.update(call.session);
    call.reply.set_resp3(false);
    call.reply.simple("RESET");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::clients::Client;
    use crate::store::commands::testing::{check, check_resp3};
    use crate::store::{Outcome, Settings, SharedStore};

    #[test]
    fn greetings() {
        let map = "$6 server $5 redis $7 version $5 7.4.0 $5 proto :3 $2 id :1 $4 mode $10 standalone $4 role $6 master \
                   $7 modules *0";
        check(&[
            ("HELLO a", "-ERR Protocol version is not an integer or out of range"),
            ("HELLO 4", "-NOPROTO unsupported protocol version"),
            ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'"),
            ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'"),
            (
                "HELLO 3 AUTH other x",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            ("CLIENT GETNAME", "$-1"),
            ("HELLO 3 AUTH default x SETNAME me", &format!("%7 {map}")),
            ("CLIENT GETNAME", "$2 me"),
            ("HELLO", &format!("%7 {map}")),
            ("RESET", "+RESET"),
            ("CLIENT GETNAME", "$-1"),
        ]);
        check_resp3(&[("HELLO 2", &format!("*14 {}", map.replace(":3", ":2")))]);
    }

    #[test]
    fn databases_and_echoes() {
        check(&[
            ("SELECT 15", "+OK"),
            ("SELECT 16", "-ERR DB index is out of range"),
            ("SELECT -1", "-ERR DB index is out of range"),
            ("SELECT +1", "-ERR value is not an integer or out of range"),
            (
                "SELECT 2147483648",
                "-ERR value is out of range, value must between -2147483648 and 2147483647",
            ),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
            ("PING a", "$1 a"),
            ("AUTH a b", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("AUTH default b", "+OK"),
            ("AUTH a b c", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn a_password_keeps_strangers_out() {
        let password = Some(b"secret".to_vec());
        let store = SharedStore::new(&Settings { password, ..Settings::default() });
        let mut session = store.connect(Client::default(), 1);
        let mut run = |line: &str| {
            let (words, mut out): (Vec<&[u8]>, _) =
                (line.split(' ').map(str::as_bytes).collect(), Vec::new());
            let outcome = store.call(&mut session, &words, 1, &mut out);
            (String::from_utf8(out).expect("replies of these commands are text"), outcome)
        };
        for (line, start) in [
            ("PING", "-NOAUTH Authentication required."),
            ("GET", "-ERR"),
            ("HELLO 3", "-NOAUTH HELLO must be called"),
            ("AUTH wrong", "-WRONGPASS"),
            ("AUTH secre", "-WRONGPASS"),
            ("AUTH secret", "+OK"),
            ("PING", "+PONG"),
            ("RESET", "+RESET"),
            ("PING", "-NOAUTH"),
            ("HELLO 3 AUTH default secret", "%7"),
            ("PING", "+PONG"),
        ] {
            let (reply, outcome) = run(line);
            assert!(reply.starts_with(start), "{line}: {reply}");
            assert_eq!(outcome, Outcome::Done);
        }
        assert_eq!(run("QUIT"), ("+OK\r\n".to_owned(), Outcome::Close));
    }
}
