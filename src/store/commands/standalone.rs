//! What SHUTDOWN answers, and LOLWUT.

use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::CommandError;

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row("lolwut", -1, Flags::READONLY.and(Flags::FAST), "Shows some art and the version", "5.0.0", lolwut),
    row("shutdown", -1, ADMIN.and(Flags::NO_MULTI), "Ends the server", "1.0.0", shutdown),
];

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

/// A cache is one of many runtimes of its daemon; a client of it doesn't end it.
fn shutdown(call: &mut Call<'_>) -> CommandResult {
    if call.args.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"abort")) {
        return Err(CommandError::Text("ERR No shutdown in progress."));
    }
    let name = &call.instance.name;
    let text = format!("ERR a client can't end the cache; on its machine: socketley stop {name}");
    Err(CommandError::Owned(text.into_bytes()))
}

fn lolwut(call: &mut Call<'_>) -> CommandResult {
    const LINES: [&str; 3] = ["  __o_o_o_o_o__  ", " /  sockets  \\ ", "<_____________> "];
    let version = crate::store::instance::REDIS_VERSION;
    let name = concat!("Socketley ", env!("CARGO_PKG_VERSION"));
    let text = format!("{}\n{name}, Redis ver. {version}\n", LINES.join("\n"));
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::check;

    #[test]
    fn nothing_is_promised() {
        check(&[("SHUTDOWN ABORT", "-ERR No shutdown in progress.")]);
    }
}
