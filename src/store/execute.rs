//! The one way into a store: from a command's arguments to its reply.
//!
//! Nearly every command meets nothing that concerns it: one test of the store's conditions and one of the session's, and
//! it runs. All others take the long way, where each condition is looked for.
//!
//! The order of the checks is Redis 7's `processCommand` (clients see it): known, arity, authentication, write access.

use super::acl::Entry;
use super::call::{Call, CommandError, CommandResult};
use super::commands::client::line_of;
use super::commands::pubsub::while_listening;
use super::commands::{Command, CommandId, Flags, table};
use super::instance::{Attention, Instance};
use super::session::State;
use super::{Args, Reply, Session, Store, feed, hooks, meter, monitor, observers, saving};
use crate::limits::RESP_REQUEST_BYTES_MAX;

/// Argument bytes that the answer to an unknown command repeats.
const UNKNOWN_BYTES_MAX: usize = 128;

/// `min-replicas-to-write` asks for more replicas than there are.
pub(super) const NO_REPLICAS: CommandError =
    CommandError::Text("NOREPLICAS Not enough good replicas to write.");

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command was answered; go on.
    Done,
    /// Close the connection when the replies so far are sent.
    Close,
    /// The command waits; its reply is delivered later.
    Wait,
    /// The command hasn't begun; it is given again later.
    Postponed,
}

impl Store {
    /// Runs one command and appends its reply to `out`.
    ///
    /// `id` is what [`table`]'s lookup found for the first argument, `hash` that of the first key under the keyspace's
    /// hasher (0 if the command has none). `args` holds at least the command's name.
    // Inlined so that the arguments stay in registers: passed in memory, they are written in pieces and read back whole,
    // which waits for the writes.
    #[inline(always)]
    pub fn execute(
        &mut self,
        session: &mut Session,
        id: CommandId,
        args: Args<'_>,
        hash: u64,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let (mut start, capacity, dirty) = (out.len(), out.capacity(), self.keyspace.dirty);
        let result = match self.ordinary(session, id, args) {
            Some(row) => self.run_ordinary(session, (id, row), args, hash, now_ms, out),
            None => self.dispatch(session, id, (args.apart(), hash), now_ms, (out, &mut start)),
        };
        if let Err(error) = result {
            self.answer_error(session, &error, start, out);
        }
        if out.capacity() != capacity {
            on_moved(capacity, out);
        }
        if self.instance.attention.any(Attention::BLOCKED) && self.keyspace.dirty != dirty {
            self.serve();
        }
        if session.state.is_empty() {
            return Outcome::Done;
        }
        let told = subscribes(id) && out.get(start) != Some(&b'-');
        settle(session, if told { out.len() } else { start }, out)
    }

    /// The command's row, if nothing that [`Store::dispatch`] looks for is there: no condition of the store, none of the
    /// session, the number of arguments is right and it may be run by this client.
    #[inline(always)]
    fn ordinary(
        &self,
        session: &Session,
        id: CommandId,
        args: Args<'_>,
    ) -> Option<&'static Command> {
        if !self.instance.attention.is_empty() || !session.is_ordinary(self.instance.acl.epoch()) {
            return None;
        }
        let row = self.table.ordinary(id)?;
        let may_run = session.may_write || !row.flags.has(Flags::WRITE);
        (row.takes(args.len()) && may_run).then_some(row)
    }

    /// Runs and counts it: what is left of [`Store::dispatch`] then.
    #[inline(always)]
    fn run_ordinary(
        &mut self,
        session: &mut Session,
        (id, row): (CommandId, &'static Command),
        args: Args<'_>,
        hash: u64,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> CommandResult {
        let Store { keyspace, instance, .. } = self;
        instance.clients.touch(session.row, id, now_ms);
        instance.statistics.count_call(id);
        let reply = Reply::new(out, session.resp3);
        (row.run)(&mut Call { keyspace, instance, session, args, hash, now_ms, reply })
            .inspect_err(|_| self.instance.statistics.commands[id.index()].failed += 1)
    }

    /// Writes an error in place of whatever stands behind `start`.
    #[cold]
    fn answer_error(
        &mut self,
        session: &Session,
        error: &CommandError,
        start: usize,
        out: &mut Vec<u8>,
    ) {
        out.truncate(start);
        self.instance.statistics.count_error(error.line());
        Reply::new(out, session.resp3).error(error.line());
    }

    /// Finds the row, checks and runs or queues it. The reply begins at `start`, behind what the client is told first.
    #[inline(never)]
    fn dispatch(
        &mut self,
        session: &mut Session,
        id: CommandId,
        (args, hash): (Args<'_>, u64),
        now_ms: u64,
        (out, start): (&mut Vec<u8>, &mut usize),
    ) -> CommandResult {
        let admitted = self.admit(session, id, args, now_ms);
        if self.instance.attention.any(Attention::LIMITED) && self.instance.clients.has_deliveries()
        {
            self.instance.clients.deliver_first(session, out);
            *start = out.len();
        }
        let (id, row) = match admitted {
            Ok(found) => found,
            Err(error) => return Err(self.refuse(session, args, error)),
        };
        if !self.instance.attention.is_empty() {
            match self.before(session, id, (args, hash), now_ms) {
                Ok(false) => {}
                Ok(true) => return Ok(()),
                Err(error) => return Err(self.refuse(session, args, error)),
            }
        }
        self.instance.clients.touch(session.row, id, now_ms);
        let mut reply = Reply::new(out, session.resp3);
        if session.state.has(State::TRANSACTION) && !row.flags.has(Flags::DIRECT) {
            return queue(session, id, args, hash, &mut reply);
        }
        // TOUCH is there to leave a trace.
        let leaves_no_trace = session.state.has(State::NO_TOUCH) && row.name != "touch";
        if leaves_no_trace {
            self.keyspace.for_each_clock(|clock| clock.freeze(true));
        }
        let Store { keyspace, instance, .. } = &mut *self;
        let call = &mut Call { keyspace, instance, session, args, hash, now_ms, reply };
        let result = invoke(call, id);
        if leaves_no_trace {
            self.keyspace.for_each_clock(|clock| clock.freeze(false));
        }
        result
    }

    /// What concerns every command, when there is something; true if it waits before it begins.
    #[cold]
    fn before(
        &mut self,
        session: &mut Session,
        id: CommandId,
        (args, hash): (Args<'_>, u64),
        now_ms: u64,
    ) -> Result<bool, CommandError> {
        let attention = self.instance.attention;
        if attention.any(Attention::REPLICA) {
            self.instance.check_replica(table().row(id))?;
        }
        const DISK: Attention = Attention::LOADING.and(Attention::MISCONF);
        if attention.any(DISK)
            && let Some(refusal) = self.instance.refused_by_disk(table().row(id))
        {
            return Err(refusal);
        }
        if attention.any(Attention::SCRIPT)
            && self.instance.waits_for_script(session, id, now_ms)?
        {
            return Ok(true);
        }
        if attention.any(Attention::NEEDS_REPLICAS)
            && table().row(id).flags.has(Flags::WRITE)
            && self.instance.lacks_replicas(now_ms)
        {
            return Err(NO_REPLICAS);
        }
        if attention.any(Attention::PAUSED) && self.paused(session, (id, args), now_ms) {
            return Ok(true);
        }
        Ok(attention.any(Attention::MISSES)
            && hooks::asks(table().row(id))
            && !session.state.has(State::TRANSACTION)
            && (session.row.is_some() || session.state.has(State::ASKS))
            && self.ask(session, id, args, hash)?)
    }

    fn paused(
        &mut self,
        session: &mut Session,
        (id, args): (CommandId, Args<'_>),
        now_ms: u64,
    ) -> bool {
        let pause = self.instance.pause;
        if pause.until_ms <= now_ms {
            self.instance.end_pause(&mut self.keyspace);
            return false;
        }
        let row = table().row(id);
        let queued = session.transaction.as_ref().is_some_and(|transaction| {
            transaction.queued.iter().any(|queued| {
                let row = table().row(queued.command);
                may_write(row) && !self.instance.scripting.only_reads(row, queued.args.args())
            })
        });
        let writes = may_write(row) && !self.instance.scripting.only_reads(row, args);
        let waits = pause.all || writes || (queued && row.name == "exec");
        waits && self.instance.postpone(session, pause.until_ms - now_ms)
    }

    /// Ends CLIENT PAUSE when its time is up and nobody asks.
    pub(super) fn end_due_pause(&mut self) {
        let is_paused = self.instance.attention.any(Attention::PAUSED);
        if is_paused && self.instance.pause.until_ms <= self.now_ms {
            self.instance.end_pause(&mut self.keyspace);
        }
    }

    /// A refused command makes its transaction fail; a refused EXEC ends it.
    #[cold]
    fn refuse(
        &mut self,
        session: &mut Session,
        args: Args<'_>,
        error: CommandError,
    ) -> CommandError {
        if let Some(transaction) = &mut session.transaction {
            transaction.failed = true;
        }
        if !args.at(0).eq_ignore_ascii_case(b"exec") {
            return error;
        }
        session.transaction = None;
        session.state.set(State::TRANSACTION, false);
        self.instance.unwatch(session);
        let reason = error.line().strip_prefix(b"ERR ").unwrap_or(error.line());
        CommandError::Owned([b"EXECABORT Transaction discarded because of: ", reason].concat())
    }

    /// The command's row, or its subcommand's, if this client may run it so.
    fn admit(
        &mut self,
        session: &mut Session,
        id: CommandId,
        args: Args<'_>,
        now_ms: u64,
    ) -> Result<(CommandId, &'static Command), CommandError> {
        let id = match id {
            CommandId::UNKNOWN => self.lua_command(session, args)?,
            id => id,
        };
        let row = table().row(id);
        if !row.subcommands.is_empty() && args.len() > 1 {
            return Err(unknown_subcommand(row, args));
        }
        let admitted = self
            .check(session, (id, row), args, now_ms)
            .and_then(|()| self.check_memory(session, id, now_ms));
        match admitted {
            Ok(()) => Ok((id, row)),
            Err(error) => {
                self.instance.statistics.commands[id.index()].rejected += 1;
                Err(error)
            }
        }
    }
}

impl Store {
    /// What stands between a known command and its run.
    #[inline]
    fn check(
        &mut self,
        session: &mut Session,
        (id, row): (CommandId, &'static Command),
        args: Args<'_>,
        now_ms: u64,
    ) -> CommandResult {
        if !row.takes(args.len()) {
            return Err(wrong_arity(id));
        }
        if self.instance.acl.has_changed(session) {
            self.instance.acl.refresh(session);
        }
        const UNUSUAL: State = State::UNAUTHENTICATED.and(State::SUBSCRIBED).and(State::RESTRICTED);
        if session.state.any(UNUSUAL) {
            self.check_state(session, (id, row), args, now_ms)?;
        }
        if !session.may_write && row.flags.has(Flags::WRITE) {
            return Err(CommandError::Text("READONLY You can't write against a read only cache."));
        }
        Ok(())
    }

    /// What a client may send before it has authenticated, as a user with less than all rights, and while it listens in
    /// RESP2.
    #[cold]
    fn check_state(
        &mut self,
        session: &Session,
        (id, row): (CommandId, &'static Command),
        args: Args<'_>,
        now_ms: u64,
    ) -> CommandResult {
        if session.state.has(State::UNAUTHENTICATED) && !row.flags.has(Flags::NO_AUTH) {
            return Err(CommandError::Text("NOAUTH Authentication required."));
        }
        if session.state.has(State::RESTRICTED) {
            self.instance.check_rights(session, (id, row), args, now_ms)?;
        }
        if session.state.has(State::SUBSCRIBED) && !session.resp3 && !while_listening(row) {
            let name = table().full_name(id);
            let text = format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context"
            );
            return Err(CommandError::Owned(text.into_bytes()));
        }
        Ok(())
    }

    /// The row that stands for a command of the cache's definition.
    #[cold]
    fn lua_command(
        &mut self,
        session: &mut Session,
        args: Args<'_>,
    ) -> Result<CommandId, CommandError> {
        let found = self.instance.scripting.commands.resolve(args)?;
        found.ok_or_else(|| unknown(session, args))
    }

    /// Removes keys if there are too many bytes; a command that needs memory is refused if that doesn't help.
    #[inline]
    fn check_memory(&mut self, session: &Session, id: CommandId, now_ms: u64) -> CommandResult {
        if self.has_room(now_ms) || !needs_memory(session, table().row(id)) {
            return Ok(());
        }
        Err(CommandError::Text(NO_MEMORY))
    }
}

impl Instance {
    /// Whether a restricted session may run a command; what it may not is logged and counted.
    #[cold]
    pub(super) fn check_rights(
        &mut self,
        session: &Session,
        (id, row): (CommandId, &'static Command),
        args: Args<'_>,
        now_ms: u64,
    ) -> CommandResult {
        let denied = session.user.as_ref().and_then(|user| user.denies(id, row, args));
        let (Some(denied), Some(user)) = (denied, &session.user) else { return Ok(()) };
        let line = line_of(self, session, now_ms).into_bytes();
        let (reason, object) = denied.logged(id, args);
        let entry = Entry::new(reason, object, user.name.clone(), (session, line));
        self.statistics.acl_denied.count(reason);
        self.acl.log.add(entry, now_ms, self.config.acl_log_len);
        Err(CommandError::Owned([b"NOPERM ", &denied.text(user, id)[..]].concat()))
    }

    /// The same for a command that was queued before the rules changed.
    pub(super) fn check_queued(
        &mut self,
        session: &mut Session,
        id: CommandId,
        args: Args<'_>,
        now_ms: u64,
    ) -> CommandResult {
        if self.acl.has_changed(session) {
            self.acl.refresh(session);
        }
        if !session.state.has(State::RESTRICTED) {
            return Ok(());
        }
        let denied = session.user.as_ref().and_then(|user| user.denies(id, table().row(id), args));
        let Some(denied) = denied else { return Ok(()) };
        self.check_rights(session, (id, table().row(id)), args, now_ms).err();
        let text = format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
             command is no longer allowed for the following reason: {}",
            denied.reason()
        );
        Err(CommandError::Owned(text.into_bytes()))
    }
}

/// What a command that needs memory is told when there is none.
pub(super) const NO_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// EXEC needs memory if a command in it does.
fn needs_memory(session: &Session, row: &Command) -> bool {
    let queued = session.transaction.iter().flat_map(|transaction| &transaction.queued);
    let needs = |id: CommandId| table().row(id).flags.has(Flags::DENYOOM);
    row.flags.has(Flags::DENYOOM)
        || row.name == "exec" && queued.map(|queued| queued.command).any(needs)
}

/// Runs a command that has been admitted, and counts it.
pub(super) fn invoke(call: &mut Call<'_>, id: CommandId) -> CommandResult {
    let row = table().row(id);
    call.instance.statistics.count_call(id);
    let monitored = call.instance.attention.any(Attention::MONITORED);
    // Shown behind what they execute, or to those that still watch.
    let late = monitored && matches!(row.name, "exec" | "reset");
    if monitored && !late {
        monitor::feed(call, row);
    }
    let result = observe(call, row);
    if late {
        monitor::feed(call, row);
    }
    if result.is_err() {
        call.instance.statistics.commands[id.index()].failed += 1;
    }
    result
}

/// Runs a command and tells everybody what it did.
pub(super) fn observe(call: &mut Call<'_>, row: &Command) -> CommandResult {
    if call.instance.attention.any(Attention::FED) {
        return feed::run(call, row, look);
    }
    look(call, row)
}

/// Runs a command and tells those who look at keys what it wrote.
fn look(call: &mut Call<'_>, row: &Command) -> CommandResult {
    if call.instance.attention.any(Attention::SAVING) && row.flags.has(Flags::WRITE) {
        saving::before(call, row);
    }
    if call.instance.attention.any(Attention::OBSERVED) {
        return observers::observe(call, row);
    }
    let dirty = call.keyspace.dirty;
    let written = match call.instance.watches.is_empty() || !row.flags.has(Flags::WRITE) {
        true => None,
        false => Some(call.instance.watches.written(
            call.keyspace,
            (row, call.args, call.session.database),
            call.now_ms,
        )),
    };
    let result = (row.run)(call);
    if let Some(written) = written.filter(|_| call.keyspace.dirty != dirty) {
        call.instance.watches.on_write(call.keyspace, &written, call.now_ms);
    }
    result
}

/// Whether CLIENT PAUSE WRITE holds the command, and a script that only reads may not run it: it changes data or goes to
/// replicas.
pub(super) fn may_write(row: &Command) -> bool {
    const OTHERS: &[&str] = &["eval", "evalsha", "fcall", "pfcount", "publish", "spublish"];
    row.flags.has(Flags::WRITE) || OTHERS.contains(&row.name)
}

/// Keeps a copy of the command for EXEC.
fn queue(
    session: &mut Session,
    id: CommandId,
    args: Args<'_>,
    hash: u64,
    reply: &mut Reply<'_>,
) -> CommandResult {
    if let Some(transaction) = &mut session.transaction {
        if table().row(id).flags.has(Flags::NO_MULTI) {
            transaction.failed = true;
            return Err(CommandError::Text("ERR Command not allowed inside a transaction"));
        }
        if transaction.bytes > RESP_REQUEST_BYTES_MAX {
            transaction.failed = true;
            return Err(CommandError::Text("ERR the transaction is too large"));
        }
        transaction.queue(id, args, hash);
    }
    reply.simple("QUEUED");
    Ok(())
}

fn wrong_arity(id: CommandId) -> CommandError {
    let name = table().full_name(id);
    let text = format!("ERR wrong number of arguments for '{name}' command");
    CommandError::Owned(text.into_bytes())
}

/// A name that no row has. Names from HTTP close the connection: a browser was tricked into talking to us.
fn unknown(session: &mut Session, args: Args<'_>) -> CommandError {
    let name = args.get(0).unwrap_or_default();
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        session.state.set(State::CLOSING, true);
        session.state.set(State::REPLY_OFF, true);
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
    CommandError::Owned(text)
}

fn unknown_subcommand(row: &Command, args: Args<'_>) -> CommandError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(until_nul(args.at(1), UNKNOWN_BYTES_MAX));
    text.extend_from_slice(format!("'. Try {} HELP.", row.name.to_uppercase()).as_bytes());
    CommandError::Owned(text)
}

/// What C's `%.*s` prints.
pub(super) fn until_nul(bytes: &[u8], limit: usize) -> &[u8] {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    &bytes[..end.min(limit)]
}

/// A reply's memory isn't the store's: its growth doesn't count.
#[cold]
fn on_moved(before: usize, out: &Vec<u8>) {
    let bytes = meter::allocation_bytes;
    meter::exclude(bytes(out.capacity()) - bytes(before));
}

/// What it answers are messages about channels, which CLIENT REPLY doesn't silence.
fn subscribes(id: CommandId) -> bool {
    const NAMES: [&str; 6] =
        ["subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"];
    id != CommandId::UNKNOWN && NAMES.contains(&table().row(id).name)
}

/// What the session's state does to a reply that has just been written after `start`.
#[cold]
fn settle(session: &mut Session, start: usize, out: &mut Vec<u8>) -> Outcome {
    if session.wait.is_some_and(|ticket| ticket.postponed) {
        return Outcome::Postponed;
    }
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
    match session.state {
        state if state.has(State::CLOSING) => Outcome::Close,
        state if state.has(State::WAITING) => Outcome::Wait,
        _ => Outcome::Done,
    }
}
