//! What a running script sees of its store: one way to execute a command, with a script's restrictions.

use super::super::call::{Call, CommandError};
use super::super::commands::{Command, CommandId, Flags, Keys, table};
use super::super::execute::{NO_MEMORY, NO_REPLICAS, invoke, may_write};
use super::super::instance::Instance;
use super::super::session::State;
use super::super::{Args, Keyspace, Reply};
use super::Run;

/// The store while one of its scripts runs.
pub struct World<'a> {
    /// The data.
    pub keyspace: &'a mut Keyspace,
    /// The rest of the store. Its engine is away: it runs.
    pub instance: &'a mut Instance,
    /// The run.
    pub run: &'a mut Run,
}

impl World<'_> {
    /// Executes one command and appends its reply to `out`.
    pub fn call(&mut self, args: Args<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let id = table().resolve(args);
        if let Err(error) = self.run_command(id, args, out) {
            out.truncate(start);
            self.instance.statistics.count_error(error.line());
            Reply::new(out, false).error(error.line());
            self.run.failure = error.line().to_vec();
        }
    }

    fn run_command(
        &mut self,
        id: CommandId,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let row = match self.admit(id, args) {
            Ok(row) => row,
            Err(error) => {
                if id != CommandId::UNKNOWN {
                    self.instance.statistics.commands[id.index()].rejected += 1;
                }
                return Err(error);
            }
        };
        if self.run.session.state.has(State::RESTRICTED) {
            self.check_rights(id, row, args)?;
        }
        let hash = table().key_hash(id, args, &self.keyspace.hasher());
        self.run.wrote |= row.flags.has(Flags::WRITE);
        self.instance.scripting.read |= row.flags.has(Flags::READONLY) && row.keys != Keys::NONE;
        let now_ms = self.run.started_ms;
        let session = &mut self.run.session;
        let reply = Reply::new(out, session.resp3);
        let World { keyspace, instance, .. } = self;
        invoke(&mut Call { keyspace, instance, session, args, hash, now_ms, reply }, id)
    }

    /// Redis's checks in its order.
    fn admit(&self, id: CommandId, args: Args<'_>) -> Result<&'static Command, CommandError> {
        if id == CommandId::UNKNOWN {
            return Err(CommandError::Text("ERR Unknown Redis command called from script"));
        }
        let row = table().row(id);
        if !row.subcommands.is_empty() && args.len() > 1 {
            return Err(CommandError::Text("ERR Unknown Redis command called from script"));
        }
        if !row.takes(args.len()) {
            let text = "ERR Wrong number of args calling Redis command from script";
            return Err(CommandError::Text(text));
        }
        if row.flags.has(Flags::NOSCRIPT) && !self.instance.scripting.denies_nothing {
            return Err(CommandError::Text("ERR This Redis command is not allowed from script"));
        }
        if self.run.lacks_memory && !self.run.wrote && row.flags.has(Flags::DENYOOM) {
            return Err(CommandError::Text(NO_MEMORY));
        }
        if self.run.read_only && may_write(row) {
            let text = "ERR Write commands are not allowed from read-only scripts.";
            return Err(CommandError::Text(text));
        }
        if row.flags.has(Flags::WRITE) {
            self.instance.check_replica(row)?;
            if self.instance.lacks_replicas(self.run.started_ms) {
                return Err(NO_REPLICAS);
            }
            if !self.run.session.may_write {
                let text = "READONLY You can't write against a read only cache.";
                return Err(CommandError::Text(text));
            }
            if let Some(refusal) = self.instance.refused_by_disk(row) {
                return Err(refusal);
            }
        }
        Ok(row)
    }

    #[cold]
    fn check_rights(
        &mut self,
        id: CommandId,
        row: &'static Command,
        args: Args<'_>,
    ) -> Result<(), CommandError> {
        let World { instance, run, .. } = self;
        let refused = instance.check_rights(&run.session, (id, row), args, run.started_ms);
        refused.map_err(|error| {
            let line = error.line();
            let reason = line.strip_prefix(b"NOPERM ").unwrap_or(line);
            CommandError::Owned([b"NOPERM ACL failure in script: ", reason].concat())
        })
    }

    /// Whether the caller may run this command; nothing if there is no such command.
    pub fn allowed(&self, args: Args<'_>) -> Option<bool> {
        let id = table().resolve(args);
        if id == CommandId::UNKNOWN || !table().row(id).takes(args.len()) {
            return None;
        }
        let session = &self.run.session;
        let denied = session.user.as_ref().and_then(|user| user.denies(id, table().row(id), args));
        Some(!session.state.has(State::RESTRICTED) || denied.is_none())
    }
}
