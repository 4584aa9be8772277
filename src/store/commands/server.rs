//! Commands about the server: INFO, CONFIG, COMMAND, TIME and their kin.

use super::{Call, Command, CommandResult, Flags, Keys};

/// This file's rows.
pub const COMMANDS: &[Command] = &[Command {
    name: "time",
    arity: 1,
    flags: Flags::FAST.and(Flags::LOADING).and(Flags::STALE),
    keys: Keys::NONE,
    group: "server",
    summary: "Returns the server's time",
    since: "2.6.0",
    run: time,
    subcommands: &[],
}];

/// Seconds and microseconds; the store's time has milliseconds and stands still while a batch runs.
fn time(call: &mut Call<'_>) -> CommandResult {
    call.reply.array(2);
    call.reply.bulk_integer((call.now_ms / 1000) as i64);
    call.reply.bulk_integer((call.now_ms % 1000 * 1000) as i64);
    Ok(())
}
