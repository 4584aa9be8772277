//! Where commands run while somebody wants to know their effects.

use super::super::call::{Call, CommandResult};
use super::super::commands::{Command, Flags};
use super::super::instance::Instance;
use super::super::scripting::commands::{READING, WRITING};
use super::effects;

/// Commands that are what they execute.
const CONTAINERS: &[&str] =
    &["exec", "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro", WRITING, READING];

/// Runs a command as `look` does and appends what it changed.
pub(in crate::store) fn run(
    call: &mut Call<'_>,
    row: &Command,
    look: fn(&mut Call<'_>, &Command) -> CommandResult,
) -> CommandResult {
    if CONTAINERS.contains(&row.name) {
        return contain(call, row, look);
    }
    let (dirty, mark) = (call.keyspace.dirty, call.reply.mark());
    let database = call.session.database;
    // What has gone in a database must be told while the database has its number and its keys.
    let reaches_far = matches!(row.name, "move" | "copy" | "swapdb" | "flushall");
    if reaches_far {
        call.instance.tell_lost(call.keyspace);
    }
    let result = look(call, row);
    // What SWAPDB's watchers lose they lose where it has come to.
    let swaps = row.name == "swapdb";
    if !swaps && (reaches_far || call.keyspace.has_lost(database)) {
        call.instance.tell_lost(call.keyspace);
    }
    // PFCOUNT keeps what it counted with the value, though it only reads.
    let writes = row.flags.has(Flags::WRITE) || row.name == "pfcount";
    // Redis tells of every FLUSHALL: a copy may hold what isn't here.
    let empties = matches!(row.name, "flushall" | "flushdb") && result.is_ok();
    if (call.keyspace.dirty != dirty && writes) || empties {
        tell(call, row, (database, mark));
        call.session.written = call.instance.feed.offset();
    }
    if swaps {
        call.instance.tell_lost(call.keyspace);
    }
    call.instance.feed.is_said = false;
    call.instance.feed.said.clear();
    result
}

fn tell(call: &mut Call<'_>, row: &Command, (database, mark): (u8, usize)) {
    if !call.instance.feed.is_said {
        effects::say(call, row, (database, mark));
    }
    let feed = &mut call.instance.feed;
    if !feed.is_said {
        return feed.emit(database, call.args.iter());
    }
    let said = std::mem::take(&mut feed.said);
    feed.open();
    for (database, words) in &said {
        feed.emit(*database, words.iter().map(Vec::as_slice));
    }
    feed.close();
}

/// Transactions and scripts: what is inside tells of itself.
fn contain(
    call: &mut Call<'_>,
    row: &Command,
    look: fn(&mut Call<'_>, &Command) -> CommandResult,
) -> CommandResult {
    let before = call.instance.feed.offset();
    call.instance.feed.open();
    let result = look(call, row);
    call.instance.tell_lost(call.keyspace);
    // A script that isn't at its end goes on later, and nothing else changes data until then.
    if call.instance.scripting.suspended.is_none() {
        call.instance.feed.close();
    }
    let end = call.instance.feed.offset();
    if end != before {
        call.session.written = end;
    }
    result
}

/// A script that had been suspended is at its end.
pub(in crate::store) fn close_script(instance: &mut Instance) {
    instance.feed.close();
}
