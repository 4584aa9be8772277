//! Changes that were written down are made again: the feed's commands, applied to another store.
//!
//! A replay has no clock: its commands run at [`REPLAY_MS`], where no expiry lies in the past, so nothing goes but by the
//! feed's own DEL. Nothing is checked that clients are checked for (rights, memory). What stands between MULTI and EXEC is
//! applied at EXEC, so that a feed that ends inside a transaction leaves nothing of it.

use super::call::Call;
use super::commands::table;
use super::execute::invoke;
use super::session::State;
use super::{Args, ArgsBuffer, Reply, Session, Store};
use crate::proto::resp::{Parsed, RequestParser, Span};

/// The time at which commands are replayed.
pub const REPLAY_MS: u64 = 0;

/// A feed being applied.
pub struct Replay {
    session: Session,
    /// Commands behind a MULTI.
    open: Option<Vec<ArgsBuffer>>,
    out: Vec<u8>,
    spans: Vec<Span>,
    /// Bytes of the feed that are applied, or stand in the open transaction.
    read: u64,
    /// Bytes of the feed that are applied: never inside of a transaction.
    applied: u64,
    parser: RequestParser,
}

/// What is wrong with a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the command begins that is wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay {
            session: Session { may_write: true, ..Session::new(0) },
            open: None,
            out: Vec::new(),
            spans: Vec::new(),
            read: 0,
            applied: 0,
            parser: RequestParser::default(),
        }
    }
}

impl Replay {
    /// Applies the whole commands at the start of `bytes`, at most `commands_max` of them; how many bytes they are, and
    /// whether there may be more. The rest is to be given again, with more behind it.
    ///
    /// # Errors
    /// What follows isn't a command, or not one that succeeds.
    pub fn apply(
        &mut self,
        store: &mut Store,
        bytes: &[u8],
        commands_max: usize,
    ) -> Result<(usize, bool), Fault> {
        let mut at = 0;
        for _ in 0..commands_max {
            self.spans.clear();
            let fault = |offset, reason| Fault { offset, reason };
            // Timestamps, as annotations.
            if bytes.get(at) == Some(&b'#') {
                let Some(end) = memchr::memchr(b'\n', &bytes[at..]) else { return Ok((at, false)) };
                (at, self.read) = (at + end + 1, self.read + end as u64 + 1);
                continue;
            }
            if bytes.get(at).is_some_and(|first| *first != b'*') {
                return Err(fault(self.read, "no command begins here".to_owned()));
            }
            self.parser = RequestParser::default();
            match self.parser.parse(&bytes[at..], &mut self.spans) {
                Ok(Parsed::Command { consumed, .. }) => {
                    let spans = std::mem::take(&mut self.spans);
                    let result = self.command(store, Args::new(&bytes[at..], &spans));
                    self.spans = spans;
                    result.map_err(|reason| fault(self.read, reason))?;
                    (at, self.read) = (at + consumed, self.read + consumed as u64);
                }
                Ok(Parsed::Skip { consumed }) => {
                    (at, self.read) = (at + consumed, self.read + consumed as u64);
                }
                Ok(Parsed::Incomplete) => return Ok((at, false)),
                Err(error) => {
                    let mut line = Vec::new();
                    error.write(&mut line);
                    let reason = String::from_utf8_lossy(&line).trim().to_owned();
                    return Err(fault(self.read, reason));
                }
            }
            if self.open.is_none() {
                self.applied = self.read;
            }
        }
        Ok((at, at < bytes.len()))
    }

    /// Bytes applied so far; a feed that ended after them is whole.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether a MULTI waits for its EXEC.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    fn command(&mut self, store: &mut Store, args: Args<'_>) -> Result<(), String> {
        let name = args.at(0);
        if name.eq_ignore_ascii_case(b"multi") {
            return match self.open.replace(Vec::new()) {
                None => Ok(()),
                Some(_) => Err("MULTI inside of MULTI".to_owned()),
            };
        }
        if name.eq_ignore_ascii_case(b"exec") {
            let commands = self.open.take().ok_or("EXEC without MULTI")?;
            return commands.iter().try_for_each(|args| self.run(store, args.args()));
        }
        // A question to replicas.
        if name.eq_ignore_ascii_case(b"replconf") {
            return Ok(());
        }
        match &mut self.open {
            Some(commands) => {
                let mut owned = ArgsBuffer::default();
                owned.extend(args.iter());
                commands.push(owned);
                Ok(())
            }
            None => self.run(store, args),
        }
    }

    fn run(&mut self, store: &mut Store, args: Args<'_>) -> Result<(), String> {
        let id = table().resolve(args);
        let shown = || String::from_utf8_lossy(args.at(0)).into_owned();
        if id == super::CommandId::UNKNOWN {
            return Err(format!("unknown command '{}'", shown()));
        }
        if !table().row(id).takes(args.len()) {
            return Err(format!("wrong number of arguments for '{}'", shown()));
        }
        let hash = table().key_hash(id, args, &store.keyspace.hasher());
        self.out.clear();
        let Store { keyspace, instance, .. } = &mut *store;
        let session = &mut self.session;
        session.state.set(State::NO_WAIT, true);
        let reply = Reply::new(&mut self.out, false);
        let now_ms = REPLAY_MS;
        let call = &mut Call { keyspace, instance, session, args, hash, now_ms, reply };
        let result = invoke(call, id);
        store.serve_waiting();
        result.map_err(|error| format!("{}: {}", shown(), String::from_utf8_lossy(error.line())))
    }
}
