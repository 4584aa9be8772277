//! The one way into a store: from a command's arguments to its reply.
//!
//! The order of the checks is Redis 7's `processCommand` (clients see it): known, arity, authentication, write access.

use super::call::{Call, CommandError};
use super::commands::{Command, CommandId, Flags, table};
use super::session::State;
use super::{Args, Reply, Session, Store};

/// Argument bytes that the answer to an unknown command repeats.
const UNKNOWN_BYTES_MAX: usize = 128;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command was answered; go on.
    Done,
    /// Close the connection when the replies so far are sent.
    Close,
}

impl Store {
    /// Runs one command and appends its reply to `out`.
    ///
    /// `id` is what [`table`]'s lookup found for the first argument, `hash` that of the first key under the keyspace's
    /// hasher (0 if the command has none). `args` holds at least the command's name.
    pub fn execute(
        &mut self,
        session: &mut Session,
        id: CommandId,
        args: Args<'_>,
        hash: u64,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let start = out.len();
        if let Err(error) = self.dispatch(session, id, args, hash, now_ms, out) {
            out.truncate(start);
            self.instance.statistics.count_error(error.line());
            Reply::new(out, session.resp3).error(error.line());
        }
        if session.state.is_empty() { Outcome::Done } else { settle(session, start, out) }
    }

    /// Finds the row, checks and runs it.
    fn dispatch(
        &mut self,
        session: &mut Session,
        id: CommandId,
        args: Args<'_>,
        hash: u64,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        if id == CommandId::UNKNOWN {
            return unknown(session, args);
        }
        let mut id = id;
        let mut row = table().row(id);
        if !row.subcommands.is_empty() && args.len() > 1 {
            id = table().subcommand(id, args.at(1)).ok_or_else(|| unknown_subcommand(row, args))?;
            row = table().row(id);
        }
        if let Err(error) = check(session, id, row, args) {
            self.instance.statistics.commands[id.index()].rejected += 1;
            return Err(error);
        }
        self.instance.clients.touch(session.row, id, now_ms);
        let statistics = &mut self.instance.statistics;
        statistics.commands[id.index()].calls += 1;
        statistics.total_commands += 1;
        let reply = Reply::new(out, session.resp3);
        let Store { keyspace, instance, .. } = self;
        let result =
            (row.run)(&mut Call { keyspace, instance, session, args, hash, now_ms, reply });
        if result.is_err() {
            self.instance.statistics.commands[id.index()].failed += 1;
        }
        result
    }
}

/// What stands between a known command and its run.
fn check(
    session: &Session,
    id: CommandId,
    row: &Command,
    args: Args<'_>,
) -> Result<(), CommandError> {
    if !row.takes(args.len()) {
        let name = table().full_name(id);
        let text = format!("ERR wrong number of arguments for '{name}' command");
        return Err(CommandError::Owned(text.into_bytes()));
    }
    if session.state.has(State::UNAUTHENTICATED) && !row.flags.has(Flags::NO_AUTH) {
        return Err(CommandError::Text("NOAUTH Authentication required."));
    }
    if !session.may_write && row.flags.has(Flags::WRITE) {
        return Err(CommandError::Text("READONLY You can't write against a read only cache."));
    }
    Ok(())
}

/// A name that no row has. Names from HTTP close the connection: a browser was tricked into talking to us.
fn unknown(session: &mut Session, args: Args<'_>) -> Result<(), CommandError> {
    let name = args.get(0).unwrap_or_default();
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        session.state.set(State::CLOSING, true);
        return Ok(());
    }
    let mut listed = Vec::new();
    for argument in args.from(1).iter() {
        if listed.len() >= UNKNOWN_BYTES_MAX {
            break;
        }
        let shown = until_nul(argument, UNKNOWN_BYTES_MAX - listed.len());
        listed.push(b'\'');
        listed.extend_from_slice(shown);
        listed.extend_from_slice(b"' ");
    }
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(until_nul(name, UNKNOWN_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    text.extend_from_slice(&listed);
    Err(CommandError::Owned(text))
}

fn unknown_subcommand(row: &Command, args: Args<'_>) -> CommandError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(until_nul(args.at(1), UNKNOWN_BYTES_MAX));
    text.extend_from_slice(format!("'. Try {} HELP.", row.name.to_uppercase()).as_bytes());
    CommandError::Owned(text)
}

/// What C's `%.*s` prints.
fn until_nul(bytes: &[u8], limit: usize) -> &[u8] {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    &bytes[..end.min(limit)]
}

/// What the session's state does to a reply that has just been written after `start`.
fn settle(session: &mut Session, start: usize, out: &mut Vec<u8>) -> Outcome {
    if session.state.has(State::REPLY_OFF) {
        out.truncate(start);
    } else if session.state.has(State::SKIPPING) {
        out.truncate(start);
        session.state.set(State::SKIPPING, false);
    } else if session.state.has(State::SKIP_NEXT) {
        out.truncate(start);
        session.state.set(State::SKIP_NEXT, false);
        session.state.set(State::SKIPPING, true);
    }
    if session.state.has(State::CLOSING) { Outcome::Close } else { Outcome::Done }
}
