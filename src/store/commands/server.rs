//! Commands about the server that need no file of their own: TIME, INFO, and what tools ask at first.

use super::{Call, Command, CommandResult, Flags, Keys, help, info};
use crate::store::CommandError;
use crate::store::session::State;

const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[
    row("info", -1, ANY_TIME, "Returns figures about the server by section", "1.0.0", info::info),
    Command {
        subcommands: &[
            row("help", 2, ANY_TIME, "Lists the subcommands", "5.0.0", module_usage),
            row(
                "list",
                2,
                Flags::ADMIN.and(Flags::NOSCRIPT),
                "Returns the loaded modules",
                "4.0.0",
                module_list,
            ),
        ],
        ..row(
            "module",
            -2,
            Flags(0),
            "A container for commands about modules",
            "4.0.0",
            module_usage,
        )
    },
    row(
        "monitor",
        1,
        Flags::ADMIN.and(Flags::NOSCRIPT).and(ANY_TIME),
        "Shows all commands that are executed",
        "1.0.0",
        monitor,
    ),
    row("time", 1, ANY_TIME.and(Flags::FAST), "Returns the server's time", "2.6.0", time),
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
        group: "server",
        summary,
        since,
        run,
        subcommands: &[],
    }
}

/// Seconds and microseconds; the store's time has milliseconds and stands still while a batch runs.
fn time(call: &mut Call<'_>) -> CommandResult {
    call.reply.array(2);
    call.reply.bulk_integer((call.now_ms / 1000) as i64);
    call.reply.bulk_integer((call.now_ms % 1000 * 1000) as i64);
    Ok(())
}

fn monitor(call: &mut Call<'_>) -> CommandResult {
    let Some(row) = call.session.row else {
        return Err(CommandError::Text("ERR only a connection can monitor"));
    };
    call.instance.start_monitor(row);
    call.session.state.set(State::MONITOR, true);
    call.instance.clients.update(call.session);
    call.reply.ok();
    Ok(())
}

fn module_list(call: &mut Call<'_>) -> CommandResult {
    call.reply.array(0);
    Ok(())
}

fn module_usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "MODULE",
        &[("LIST", "Return a list of loaded modules; there are none.")],
    );
    Ok(())
}
