//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! The store's lock is held for a whole batch, so EXEC is atomic without doing anything about it.

use super::{Call, Command, CommandResult, Flags, Keys, table};
use crate::store::CommandError;
use crate::store::execute::invoke;
use crate::store::session::State;
use crate::store::transaction::Transaction;

const QUEUED: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST);
/// Runs at once, also between MULTI and EXEC.
const DIRECT: Flags = QUEUED.and(Flags::DIRECT);

/// This file's rows.
pub const COMMANDS: &[Command] = &[
    row("discard", 1, DIRECT, "Forgets the queued commands", "2.0.0", discard),
    row("exec", 1, DIRECT, "Executes the queued commands", "1.2.0", exec),
    row("multi", 1, DIRECT, "Queues the commands from here on", "1.2.0", multi),
    row("unwatch", 1, QUEUED, "Forgets the watched keys", "2.2.0", unwatch),
    Command {
        keys: Keys::ALL,
        ..row("watch", -2, DIRECT, "Makes EXEC depend on keys that don't change", "2.2.0", watch)
    },
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
        group: "transactions",
        summary,
        since,
        run,
        subcommands: &[],
    }
}

fn multi(call: &mut Call<'_>) -> CommandResult {
    if call.session.state.has(State::TRANSACTION) {
        return Err(CommandError::Text("ERR MULTI calls can not be nested"));
    }
    call.session.state.set(State::TRANSACTION, true);
    call.session.transaction = Some(Box::default());
    call.reply.ok();
    Ok(())
}

fn discard(call: &mut Call<'_>) -> CommandResult {
    take(call, "ERR DISCARD without MULTI")?;
    call.instance.unwatch(call.session);
    call.reply.ok();
    Ok(())
}

fn watch(call: &mut Call<'_>) -> CommandResult {
    if call.session.state.has(State::TRANSACTION) {
        return Err(CommandError::Text("ERR WATCH inside MULTI is not allowed"));
    }
    let Call { keyspace, instance, session, args, now_ms, .. } = call;
    for key in args.from(1).iter() {
        instance.watch(keyspace, session, key, *now_ms);
    }
    call.reply.ok();
    Ok(())
}

fn unwatch(call: &mut Call<'_>) -> CommandResult {
    call.instance.unwatch(call.session);
    call.reply.ok();
    Ok(())
}

fn exec(call: &mut Call<'_>) -> CommandResult {
    let transaction = take(call, "ERR EXEC without MULTI")?;
    let watched = &call.session.watched;
    let changed = call.instance.watches.changed(call.keyspace, watched, call.now_ms);
    call.instance.unwatch(call.session);
    if transaction.failed {
        return Err(CommandError::Text(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    if changed {
        call.reply.null_array();
        return Ok(());
    }
    call.reply.array(transaction.queued.len());
    call.session.state.set(State::NO_WAIT, true);
    for queued in &transaction.queued {
        let mark = call.reply.mark();
        call.reply.set_resp3(call.session.resp3);
        let mut inner = Call {
            keyspace: call.keyspace,
            instance: call.instance,
            session: call.session,
            args: queued.args.args(),
            hash: queued.hash,
            now_ms: call.now_ms,
            reply: call.reply.reborrow(),
        };
        let Call { instance, session, args, now_ms, .. } = &mut inner;
        let allowed = instance.check_queued(session, queued.command, *args, *now_ms);
        let timed = table().shape(queued.command).is_timed || instance.times_all();
        let began_ns = if timed { instance.scripting.now_ns() } else { 0 };
        let result = allowed.and_then(|()| invoke(&mut inner, queued.command));
        if timed {
            let Call { instance, session, args, now_ms, .. } = &mut inner;
            let taken_ns = instance.scripting.now_ns().saturating_sub(began_ns);
            instance.on_timed_inside(session, queued.command, *args, (taken_ns, *now_ms));
        }
        if let Err(error) = result {
            inner.instance.statistics.count_error(error.line());
            call.reply.rewind(mark);
            call.reply.error(error.line());
        }
    }
    call.session.state.set(State::NO_WAIT, false);
    Ok(())
}

/// Ends the transaction and hands it over.
fn take(call: &mut Call<'_>, without: &'static str) -> Result<Box<Transaction>, CommandError> {
    call.session.state.set(State::TRANSACTION, false);
    call.session.transaction.take().ok_or(CommandError::Text(without))
}

#[cfg(test)]
mod tests {
    use crate::store::Session;
    use crate::store::commands::testing::{Client, check, check_resp3};

    #[test]
    fn queued_commands_run_at_exec() {
        check(&[
            ("EXEC", "-ERR EXEC without MULTI"),
            ("DISCARD", "-ERR DISCARD without MULTI"),
            ("MULTI", "+OK"),
            ("MULTI", "-ERR MULTI calls can not be nested"),
            ("WATCH k", "-ERR WATCH inside MULTI is not allowed"),
            ("LPUSH l a", "+QUEUED"),
            ("SADD l a", "+QUEUED"),
            ("CLIENT GETNAME", "+QUEUED"),
            (
                "EXEC",
                "*3 :1 -WRONGTYPE Operation against a key holding the wrong kind of value $-1",
            ),
            ("LLEN l", ":1"),
            ("MULTI", "+OK"),
            ("EXEC", "*0"),
            ("MULTI", "+OK"),
            ("LPUSH l a", "+QUEUED"),
            ("DISCARD", "+OK"),
            ("LLEN l", ":1"),
        ]);
    }

    #[test]
    fn a_refused_command_aborts() {
        for refused in ["NOTHING", "LPUSH", "CLIENT NOTHING", "SAVE", "SHUTDOWN NOSAVE"] {
            let mut client = Client::resp2();
            client.check(&[("MULTI", "+OK"), ("LPUSH l a", "+QUEUED")]);
            assert!(client.run(refused).starts_with("-ERR"));
            let aborted = "-EXECABORT Transaction discarded because of previous errors.";
            client.check(&[
                ("EXEC", aborted),
                ("LLEN l", ":0"),
                ("EXEC", "-ERR EXEC without MULTI"),
            ]);
        }
    }

    #[test]
    fn protocol_changes_inside_count_from_there_on() {
        let mut client = Client::resp2();
        client.check(&[
            ("MULTI", "+OK"),
            ("CLIENT GETNAME", "+QUEUED"),
            ("HELLO 3", "+QUEUED"),
            ("CLIENT GETNAME", "+QUEUED"),
        ]);
        let reply = client.run("EXEC");
        assert!(reply.starts_with("*3 $-1 %7 ") && reply.ends_with(" _"), "{reply}");
        check_resp3(&[
            ("WATCH l", "+OK"),
            ("LPUSH l a", ":1"),
            ("MULTI", "+OK"),
            ("PING", "+QUEUED"),
            ("EXEC", "_"),
        ]);
    }

    /// What happens between WATCH and EXEC, and whether EXEC goes on.
    #[test]
    fn watched_keys() {
        for (before, between, runs) in [
            ("PING", "PING", true),
            ("LPUSH k a", "LLEN k", true),
            ("LPUSH k a", "LPUSH other a", true),
            ("LPUSH k a", "LPUSH k b", false),
            ("LPUSH k a", "LPOP k", false),
            ("LPUSH k a", "LREM k 0 nothing", true),
            ("LPUSH k a", "LMOVE k other LEFT LEFT", false),
            ("LPUSH other a", "LMOVE other k LEFT LEFT", false),
            ("SADD k a", "SINTERSTORE other k k", true),
            ("SADD other a", "SINTERSTORE k other other", false),
            ("PING", "SINTERSTORE k other other", true),
        ] {
            for own in [true, false] {
                let mut client = Client::resp2();
                client.run(before);
                client.run("WATCH k k");
                let watcher = client.session.clone();
                if !own {
                    client.session = Session::new(2);
                }
                client.run(between);
                if !own {
                    client.session = watcher;
                }
                client.run("MULTI");
                let expected = if runs { "*0" } else { "*-1" };
                assert_eq!(client.run("EXEC"), expected, "{before}, {between}");
                assert!(client.store.instance.watches.is_empty());
            }
        }
    }
}
