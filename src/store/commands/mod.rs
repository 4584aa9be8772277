//! The one table of commands: name, arity, flags, keys, handler and documentation, one row each.
//!
//! Parsing, COMMAND, COMMAND DOCS, arity checks, access control and the reference are derived from these rows.

mod acl;
mod bitfield;
pub mod bitmap;
pub(super) mod blocking;
pub mod client;
mod client_wait;
mod cluster;
mod collection;
mod configuration;
pub mod connection;
mod debug;
mod debug_reload;
mod dump;
mod element_scan;
mod expire;
mod expire_time;
mod function;
mod geo;
mod geo_search;
pub mod hash;
mod hash_deadlines;
mod hyperloglog;
mod info;
pub(super) mod introspection;
pub(super) mod key_use;
pub mod keys;
mod lcs;
pub mod list;
mod member_deadlines;
mod memory;
mod object;
mod persistence;
pub mod pubsub;
mod replication;
pub mod scripting;
pub mod server;
pub mod set;
pub mod set_algebra;
mod slow;
mod sort;
pub mod sorted_set;
pub mod sorted_set_algebra;
pub mod sorted_set_range;
mod standalone;
pub mod stream;
mod stream_claim;
mod stream_group;
mod stream_info;
pub(super) mod stream_read;
pub mod string;
mod string_conditions;
mod string_counted;
mod string_edit;
mod table;
#[cfg(test)]
pub mod testing;
mod throttle;
mod tracking;
mod transaction;

pub use table::{CommandId, Shape, Table, Words, table};

use super::Reply;
use super::call::{Call, CommandResult};

/// All rows by file; a new file of commands adds its line here.
const GROUPS: &[&[Command]] = &[
    acl::COMMANDS,
    bitfield::COMMANDS,
    bitmap::COMMANDS,
    blocking::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    configuration::COMMANDS,
    debug::COMMANDS,
    connection::COMMANDS,
    dump::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    introspection::COMMANDS,
    keys::COMMANDS,
    list::COMMANDS,
    member_deadlines::COMMANDS,
    hash_deadlines::COMMANDS,
    memory::COMMANDS,
    persistence::COMMANDS,
    function::COMMANDS,
    scripting::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    server::COMMANDS,
    slow::COMMANDS,
    standalone::COMMANDS,
    set::COMMANDS,
    set_algebra::COMMANDS,
    sort::COMMANDS,
    sorted_set::COMMANDS,
    sorted_set_algebra::COMMANDS,
    sorted_set_range::COMMANDS,
    stream::COMMANDS,
    stream_claim::COMMANDS,
    stream_group::COMMANDS,
    stream_info::COMMANDS,
    stream_read::COMMANDS,
    string::COMMANDS,
    throttle::COMMANDS,
    transaction::COMMANDS,
];

/// What a command does to the data; the names are Redis's COMMAND flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// Changes data.
    pub const WRITE: Flags = Flags(1);
    /// Reads data.
    pub const READONLY: Flags = Flags(1 << 1);
    /// May need memory.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// Is about the server.
    pub const ADMIN: Flags = Flags(1 << 3);
    /// Constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 4);
    /// May run while the data set loads.
    pub const LOADING: Flags = Flags(1 << 5);
    /// May run on a stale replica.
    pub const STALE: Flags = Flags(1 << 6);
    /// May wait for data.
    pub const BLOCKING: Flags = Flags(1 << 7);
    /// Not allowed in scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 8);
    /// Needs no authentication.
    pub const NO_AUTH: Flags = Flags(1 << 9);
    /// Not allowed between MULTI and EXEC.
    pub const NO_MULTI: Flags = Flags(1 << 12);
    /// Is about channels.
    pub const PUBSUB: Flags = Flags(1 << 11);
    /// Stands for commands that aren't in the table; not shown to clients.
    pub const HIDDEN: Flags = Flags(1 << 24);
    /// Runs at once between MULTI and EXEC, where others are queued; not shown to clients.
    pub const DIRECT: Flags = Flags(1 << 10);

    /// Both sets.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` is in here.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a command's keys stand: first and last argument (negative counts from the end) and the step; 0, 0, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Index of the first key; 0 if there are none.
    pub first: i16,
    /// Index of the last key; -1 is the last argument.
    pub last: i16,
    /// Distance between keys.
    pub step: i16,
}

impl Keys {
    /// No keys.
    pub const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
    /// One key, the first argument.
    pub const ONE: Keys = Keys { first: 1, last: 1, step: 1 };
    /// Every argument is a key.
    pub const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
    /// The first two arguments.
    pub const TWO: Keys = Keys { first: 1, last: 2, step: 1 };
}

/// One row of the command table.
pub struct Command {
    /// Lower case; subcommands are rows of their own in [`Command::subcommands`].
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i16,
    /// What it does to the data.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// Redis's group: `string`, `generic`, `list`, ...
    pub group: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
    /// Runs it.
    pub run: fn(&mut Call<'_>) -> CommandResult,
    /// `CONFIG GET` and kin; empty for most.
    pub subcommands: &'static [Command],
}

impl Command {
    /// Whether it may be called with that many arguments, the name included.
    #[inline]
    pub fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity > 0 { count == least } else { count >= least }
    }
}

/// Answers `CONTAINER HELP`: what there is, one line of usage and one of explanation each.
fn help(reply: &mut Reply<'_>, container: &str, subcommands: &[(&str, &str)]) {
    reply.array(3 + 2 * subcommands.len());
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (usage, explanation) in subcommands {
        reply.simple(usage);
        reply.simple(&format!("    {explanation}"));
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
