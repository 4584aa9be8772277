//! Commands about the connection itself: greeting, database, protocol version, name.

use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::CommandError;
use crate::store::session::State;

const ANY_TIME: Flags = Flags::FAST.and(Flags::LOADING).and(Flags::STALE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "echo",
        arity: 2,
        flags: ANY_TIME,
        keys: Keys::NONE,
        group: "connection",
        summary: "Returns the given string",
        since: "1.0.0",
        run: echo,
        subcommands: &[],
    },
    Command {
        name: "ping",
        arity: -1,
        flags: ANY_TIME,
        keys: Keys::NONE,
        group: "connection",
        summary: "Returns PONG, or the argument if one is given",
        since: "1.0.0",
        run: ping,
        subcommands: &[],
    },
    Command {
        name: "quit",
        arity: -1,
        flags: ANY_TIME.and(Flags::NO_AUTH).and(Flags::NOSCRIPT),
        keys: Keys::NONE,
        group: "connection",
        summary: "Closes the connection",
        since: "1.0.0",
        run: quit,
        subcommands: &[],
    },
];

fn echo(call: &mut Call<'_>) -> CommandResult {
    call.reply.bulk(call.args.at(1));
    Ok(())
}

fn ping(call: &mut Call<'_>) -> CommandResult {
    match call.args.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(call.args.at(1)),
        _ => {
            return Err(CommandError::Text("ERR wrong number of arguments for 'ping' command"));
        }
    }
    Ok(())
}

fn quit(call: &mut Call<'_>) -> CommandResult {
    call.session.state.set(State::CLOSING, true);
    call.reply.ok();
    Ok(())
}
