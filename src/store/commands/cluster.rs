//! What cluster clients ask first: this is a standalone server, said in the words they look for.

use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::store::CommandError;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[
    Command {
        arity: -2,
        subcommands: &[
            row("countkeysinslot", 3, "Returns the number of keys in a slot", "3.0.0", disabled),
            row("getkeysinslot", 4, "Returns keys of a slot", "3.0.0", disabled),
            row("help", 2, "Lists the subcommands", "5.0.0", usage),
            row("info", 2, "Returns the state of the node", "3.0.0", disabled),
            row("keyslot", 3, "Returns a key's slot", "3.0.0", disabled),
            row("myid", 2, "Returns the node's name", "3.0.0", disabled),
            row("nodes", 2, "Returns the cluster's nodes", "3.0.0", disabled),
            Command {
                flags: FLAGS.and(Flags::ADMIN).and(Flags::NOSCRIPT),
                ..row("reset", -2, "Makes a node new", "3.0.0", disabled)
            },
            row("shards", 2, "Returns the slots by shard", "7.0.0", disabled),
            row("slots", 2, "Returns the slots by node", "3.0.0", disabled),
        ],
        ..row("cluster", -2, "A container for cluster commands", "3.0.0", usage)
    },
    row("readonly", 1, "Allows reads from a cluster's replica", "3.0.0", disabled),
    row("readwrite", 1, "Ends READONLY", "3.0.0", disabled),
];

const fn row(
    name: &'static str,
    arity: i16,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (flags, keys) = (FLAGS, Keys::NONE);
    Command { name, arity, flags, keys, group: "cluster", summary, since, run, subcommands: &[] }
}

/// The answer by which clients know a standalone Redis.
fn disabled(_: &mut Call<'_>) -> CommandResult {
    Err(CommandError::Text("ERR This instance has cluster support disabled"))
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "CLUSTER",
        &[(
            "INFO, KEYSLOT, MYID, NODES, SHARDS, SLOTS",
            "This server is no cluster; these answer so.",
        )],
    );
    Ok(())
}
