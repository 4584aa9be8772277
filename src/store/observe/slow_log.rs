//! The slow log: commands that took long, with their arguments cut short.

use std::collections::VecDeque;

use crate::store::Args;
use crate::store::commands::{CommandId, table};

/// Arguments that an entry keeps.
const ARGUMENTS_MAX: usize = 32;
/// Bytes of an argument that it keeps.
const ARGUMENT_BYTES_MAX: usize = 128;
const REDACTED: &[u8] = b"(redacted)";

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unique while the store lives.
    pub id: u64,
    /// When it ran, in seconds since the epoch.
    pub at_s: u64,
    /// How long.
    pub us: u64,
    /// The command and its arguments.
    pub args: Vec<Vec<u8>>,
    /// `host:port` of the client.
    pub address: String,
    /// Its name.
    pub name: Vec<u8>,
}

/// All entries, the newest first.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds a command and keeps the newest `limit`. AUTH is left out: it holds a password.
    pub fn add(
        &mut self,
        (command, args): (CommandId, Args<'_>),
        us: u64,
        (address, name): (&str, &[u8]),
        (now_ms, limit): (u64, usize),
    ) {
        let row = table().row(command);
        if row.name == "auth" {
            return;
        }
        let entry = Entry {
            id: self.next_id,
            at_s: now_ms / 1000,
            us,
            args: kept(command, args),
            address: address.to_owned(),
            name: name.to_vec(),
        };
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries.truncate(limit);
    }

    /// The newest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

fn kept(command: CommandId, args: Args<'_>) -> Vec<Vec<u8>> {
    let shown = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    let secret = first_secret(command, args);
    let mut list: Vec<Vec<u8>> = Vec::with_capacity(shown + 1);
    for (index, argument) in args.iter().take(shown).enumerate() {
        list.push(if secret.is_some_and(|first| index >= first) {
            REDACTED.to_vec()
        } else if argument.len() > ARGUMENT_BYTES_MAX {
            let more = format!("... ({} more bytes)", argument.len() - ARGUMENT_BYTES_MAX);
            [&argument[..ARGUMENT_BYTES_MAX], more.as_bytes()].concat()
        } else {
            argument.to_vec()
        });
    }
    if args.len() > shown {
        list.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
    }
    list
}

/// From which argument on passwords may stand.
fn first_secret(command: CommandId, args: Args<'_>) -> Option<usize> {
    let is = |index: usize, word: &[u8]| {
        args.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
    };
    match table().full_name(command).as_str() {
        "acl|setuser" | "acl|getuser" | "acl|deluser" => Some(2),
        "hello" => (0..args.len()).find(|index| is(*index, b"auth")).map(|index| index + 1),
        "config|set" => {
            let secret = |index: &usize| is(*index, b"requirepass") || is(*index, b"masterauth");
            (2..args.len()).step_by(2).find(secret).map(|index| index + 1)
        }
        _ => None,
    }
}
