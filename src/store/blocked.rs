//! Commands that wait: who waits for which keys, and who is served when one of them changes.
//!
//! A command that finds nothing says [`Call::wait`] and writes no reply. Its arguments and its session's state are kept,
//! the connection stops. Whenever a key that somebody waits for appears, changes its type or goes, the database notes it
//! ([`Waited`], at the places where keys are made and removed, so no command has to think of it). After the whole
//! command, transaction or script, [`Store::serve`] runs the waiting commands again, the longest waiting first: one that
//! finds something now has its reply delivered, the others go on waiting. So it is decided under the lock who gets an
//! element, wherever the clients' connections live.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::call::{Call, CommandResult};
use super::clients::Delivery;
use super::commands::{CommandId, table};
use super::execute::{invoke, observe};
use super::instance::{Attention, Instance};
use super::session::State;
use super::{Args, ArgsBuffer, CommandError, Keyspace, Kind, Reply, Session, Store, meter};
use crate::limits::DATABASES;

/// What a command that found nothing waits for.
pub struct Waiting<'a> {
    /// The keys; any of them may end the wait.
    pub keys: Args<'a>,
    /// Of which type a key must be to be of use; none: nothing but time ends the wait.
    pub kind: Option<Kind>,
    /// A key that goes, or becomes another type, is of interest too (XREADGROUP answers with an error).
    pub or_gone: bool,
    /// How long; none: for ever.
    pub timeout_ms: Option<u64>,
    /// What is answered where nothing may wait: in transactions, scripts and in process.
    pub at_once: fn(&mut Reply<'_>),
    /// What is answered when the time is up.
    pub too_late: fn(&mut Reply<'_>),
    /// The command as it shall run again, if not as it was given (XREAD's `$`).
    pub again: Option<ArgsBuffer>,
}

/// A session's place among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Grows with every wait of the store.
    pub number: u64,
    /// From the beginning of the wait; none: for ever.
    pub timeout_ms: Option<u64>,
    /// The command hasn't begun (CLIENT PAUSE): it is given again when the wait is over.
    pub postponed: bool,
}

/// All commands that wait.
#[derive(Default)]
pub struct Blocked {
    waits: BTreeMap<u64, Wait>,
    /// The numbers that wait for a key; the smallest has waited longest.
    keys: [BTreeMap<Vec<u8>, BTreeSet<u64>>; DATABASES],
    last: u64,
}

struct Wait {
    connection: u64,
    session: Session,
    command: CommandId,
    args: ArgsBuffer,
    hash: u64,
    keys: Vec<Vec<u8>>,
    kind: Option<Kind>,
    or_gone: bool,
    too_late: fn(&mut Reply<'_>),
    /// Its client doesn't want the reply.
    silent: bool,
    postponed: bool,
}

/// The keys of one database that somebody waits for.
#[derive(Default)]
pub struct Waited {
    /// Whether it has changed since the last look.
    keys: BTreeMap<Vec<u8>, bool>,
    ready: Vec<Vec<u8>>,
}

/// How CLIENT UNBLOCK ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    /// As if the time were up.
    Timeout,
    /// With an error.
    Error,
}

impl Waited {
    /// A key has been made, changed or removed.
    #[inline]
    pub fn touch(&mut self, key: &[u8]) {
        if !self.keys.is_empty() {
            self.mark(key);
        }
    }

    /// Any key may have changed.
    pub fn touch_all(&mut self) {
        for (key, ready) in &mut self.keys {
            if !std::mem::replace(ready, true) {
                self.ready.push(key.clone());
            }
        }
    }

    /// Somebody waits for a key from now on.
    fn note(&mut self, key: &[u8]) {
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_vec(), false);
        }
    }

    fn forget(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    #[cold]
    fn mark(&mut self, key: &[u8]) {
        if let Some(ready) = self.keys.get_mut(key)
            && !std::mem::replace(ready, true)
        {
            self.ready.push(key.to_vec());
        }
    }

    /// The next key that has changed; the one that changed first comes first.
    pub(super) fn take_ready(&mut self) -> Option<Vec<u8>> {
        if self.ready.is_empty() {
            return None;
        }
        let key = self.ready.remove(0);
        if let Some(ready) = self.keys.get_mut(&key) {
            *ready = false;
        }
        Some(key)
    }
}

impl Blocked {
    /// How many clients wait in a command.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Whether nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// How many keys are waited for.
    pub fn key_count(&self) -> usize {
        self.keys.iter().map(BTreeMap::len).sum()
    }

    fn add(&mut self, wait: Wait) -> u64 {
        self.last += 1;
        let keys = &mut self.keys[usize::from(wait.session.database)];
        for key in &wait.keys {
            keys.entry(key.clone()).or_default().insert(self.last);
        }
        self.waits.insert(self.last, wait);
        self.last
    }

    /// Takes a wait away; the keys that nobody waits for any more.
    fn remove(&mut self, number: u64) -> Option<(Wait, Vec<Vec<u8>>)> {
        let wait = self.waits.remove(&number)?;
        let keys = &mut self.keys[usize::from(wait.session.database)];
        let mut free = Vec::new();
        for key in &wait.keys {
            let Some(numbers) = keys.get_mut(key) else { continue };
            numbers.remove(&number);
            if numbers.is_empty() {
                keys.remove(key);
                free.push(key.clone());
            }
        }
        Some((wait, free))
    }

    /// Who waits for a key and came after `number`.
    fn after(&self, database: u8, key: &[u8], number: u64) -> Option<u64> {
        let numbers = self.keys[usize::from(database)].get(key)?;
        numbers.range((Bound::Excluded(number), Bound::Unbounded)).next().copied()
    }

    fn numbers(&self, chosen: impl Fn(&Wait) -> bool) -> Vec<u64> {
        let found = self.waits.iter().filter(|(_, wait)| chosen(wait));
        found.map(|(number, _)| *number).collect()
    }
}

impl Call<'_> {
    /// Ends the command without a reply: its client waits. Where waiting isn't possible, it is answered at once.
    pub fn wait(&mut self, waiting: Waiting<'_>) -> CommandResult {
        if self.session.state.has(State::RETRYING) {
            // It runs again because of something that isn't enough.
            self.session.state.set(State::WAITING, true);
            return Ok(());
        }
        let Some(connection) = self.waitable() else {
            (waiting.at_once)(&mut self.reply);
            return Ok(());
        };
        let mut keys: Vec<Vec<u8>> = waiting.keys.iter().map(<[u8]>::to_vec).collect();
        keys.sort_unstable();
        keys.dedup();
        let args = waiting.again.unwrap_or_else(|| {
            let mut args = ArgsBuffer::default();
            args.extend(self.args.iter());
            args
        });
        let silent =
            self.session.state.has(State::REPLY_OFF) || self.session.state.has(State::SKIPPING);
        for key in &keys {
            self.keyspace.database(self.session.database).waited.note(key);
        }
        let wait = Wait {
            connection,
            session: self.session.for_later(),
            command: table().resolve(args.args()),
            args,
            hash: self.hash,
            keys,
            kind: waiting.kind,
            or_gone: waiting.or_gone,
            too_late: waiting.too_late,
            silent,
            postponed: false,
        };
        self.instance.block(self.session, wait, waiting.timeout_ms);
        Ok(())
    }

    /// Makes the client of a script wait for its end; the wait's number.
    pub(super) fn wait_for_script(&mut self) -> Option<u64> {
        let silent = |_: &mut Reply<'_>| {};
        let (keys, kind, timeout_ms, again) = (self.args.first(0), None, None, None);
        let (or_gone, at_once, too_late) = (false, silent as fn(&mut Reply<'_>), silent as _);
        self.wait(Waiting { keys, kind, or_gone, timeout_ms, at_once, too_late, again }).ok()?;
        self.session.wait.map(|ticket| ticket.number)
    }

    /// The connection of the client, if it has one and may wait.
    pub(super) fn waitable(&self) -> Option<u64> {
        let connection = self.instance.clients.of(self.session)?.connection;
        (!self.session.state.has(State::NO_WAIT)).then_some(connection)
    }
}

impl Instance {
    fn block(&mut self, session: &mut Session, wait: Wait, timeout_ms: Option<u64>) {
        let postponed = wait.postponed;
        let number = self.blocked.add(wait);
        session.wait = Some(Ticket { number, timeout_ms, postponed });
        self.clients.set_wait(session.row, session.wait);
        session.state.set(State::WAITING, true);
        self.attention.set(Attention::BLOCKED, true);
    }

    /// Makes a client wait with a command that hasn't begun, for at most so long. False if it can't wait.
    pub(super) fn postpone(&mut self, session: &mut Session, timeout_ms: u64) -> bool {
        let Some(connection) = self.clients.of(session).map(|client| client.connection) else {
            return false;
        };
        let wait = Wait {
            connection,
            session: session.for_later(),
            command: CommandId::UNKNOWN,
            args: ArgsBuffer::default(),
            hash: 0,
            keys: Vec::new(),
            kind: None,
            or_gone: false,
            too_late: |_| {},
            silent: true,
            postponed: true,
        };
        self.block(session, wait, Some(timeout_ms));
        true
    }
}

impl Instance {
    /// Makes a client wait with a command until its app has said what it reads: the number of the wait. Nothing if it
    /// can't wait.
    pub(super) fn wait_for_app(
        &mut self,
        session: &mut Session,
        (command, args, hash): (CommandId, Args<'_>, u64),
        timeout_ms: u64,
    ) -> Option<u64> {
        let connection = self.clients.of(session)?.connection;
        let mut kept = ArgsBuffer::default();
        kept.extend(args.iter());
        let silent = session.state.has(State::REPLY_OFF) || session.state.has(State::SKIPPING);
        let wait = Wait {
            connection,
            session: session.for_later(),
            command,
            args: kept,
            hash,
            keys: Vec::new(),
            kind: None,
            or_gone: false,
            too_late: |reply| reply.error(b"TIMEOUT on_miss took too long"),
            silent,
            postponed: false,
        };
        self.block(session, wait, Some(timeout_ms));
        session.wait.map(|ticket| ticket.number)
    }
}

impl Store {
    /// Serves those that wait for keys that have changed; after each command that changed something.
    #[cold]
    pub(super) fn serve(&mut self) {
        self.now_ms += std::mem::take(&mut self.instance.slept_ms);
        while let Some((database, key)) = self.keyspace.take_ready() {
            let mut last = 0;
            while let Some(number) = self.instance.blocked.after(database, &key, last) {
                self.retry(number, database, &key);
                last = number;
            }
        }
    }

    /// The same if anybody waits.
    pub(super) fn serve_waiting(&mut self) {
        if self.instance.attention.any(Attention::BLOCKED) {
            self.serve();
        }
    }

    /// Runs a waiting command again if the key may be what it waits for.
    fn retry(&mut self, number: u64, database: u8, key: &[u8]) {
        let now_ms = self.now_ms;
        let hash = self.keyspace.hash(key);
        let found = self.keyspace.database(database).peek(key, hash, now_ms);
        let found = found.map(|entry| entry.kind());
        let Store { keyspace, instance, .. } = self;
        let Some(wait) = instance.blocked.waits.get(&number) else { return };
        if wait.kind.is_some() && (wait.or_gone || found == wait.kind) {
            rerun(keyspace, instance, now_ms, number);
        }
    }

    /// What a command waited for has been decided elsewhere: it runs, and its client gets the reply.
    pub(super) fn run_waiting(&mut self, number: u64) {
        let now_ms = self.now_ms;
        let Store { keyspace, instance, .. } = self;
        let Some(wait) = instance.blocked.waits.get_mut(&number) else { return };
        let mut session = std::mem::replace(&mut wait.session, Session::new(0));
        let args = std::mem::take(&mut wait.args);
        let (command, hash, resp3) = (wait.command, wait.hash, session.resp3);
        session.state.set(State::RETRYING, true);
        let mut out = Vec::new();
        let reply = Reply::new(&mut out, resp3);
        let row = session.row;
        let call = &mut Call {
            keyspace,
            instance,
            session: &mut session,
            args: args.args(),
            hash,
            now_ms,
            reply,
        };
        if let Err(error) = invoke(call, command) {
            out.clear();
            instance.statistics.count_error(error.line());
            Reply::new(&mut out, resp3).error(error.line());
        }
        if let Some(wait) = instance.blocked.waits.get_mut(&number) {
            wait.session.row = row;
        }
        meter::exclude(meter::allocation_bytes(out.capacity()));
        finish(keyspace, instance, number, |_, reply| *reply = out);
    }

    /// The same for a command that can't run: its client gets an error.
    pub(super) fn refuse_waiting(&mut self, number: u64, line: &[u8]) {
        self.instance.statistics.count_error(line);
        finish(&mut self.keyspace, &mut self.instance, number, |wait, out| {
            Reply::new(out, wait.session.resp3).error(line);
        });
    }

    /// A script has ended: its client gets the reply, and those that waited for its end go on.
    pub(super) fn script_ended(&mut self, wait: u64, reply: Vec<u8>) {
        let (keyspace, instance) = (&mut self.keyspace, &mut self.instance);
        finish(keyspace, instance, wait, |_, out| *out = reply);
        go_on(keyspace, instance);
    }

    /// What a wait was for has happened.
    pub(super) fn answer_wait(&mut self, number: u64, reply: Vec<u8>) {
        finish(&mut self.keyspace, &mut self.instance, number, |_, out| *out = reply);
    }

    /// The time of a wait is up; nothing happens if it has ended already.
    pub fn time_out(&mut self, number: u64) {
        end_late(&mut self.keyspace, &mut self.instance, self.now_ms, number);
    }

    /// A client that waited has gone.
    pub(super) fn abandon(&mut self, session: &mut Session) {
        if let Some(ticket) = session.wait.take() {
            remove(&mut self.keyspace, &mut self.instance, ticket.number);
        }
    }
}

/// CLIENT UNBLOCK: ends the wait of a client, if it waits in a command.
pub(super) fn unblock(call: &mut Call<'_>, client: u64, how: Unblock) -> bool {
    const ERROR: CommandError = CommandError::Text("UNBLOCKED client unblocked via CLIENT UNBLOCK");
    let of_script = call.instance.scripting.suspended.as_ref().map(|suspended| suspended.wait);
    let chosen = |wait: &Wait| wait.session.id == client && !wait.postponed;
    let Some(number) = call.instance.blocked.numbers(chosen).first().copied() else {
        return false;
    };
    if of_script == Some(number) {
        return false;
    }
    match how {
        Unblock::Timeout => end_late(call.keyspace, call.instance, call.now_ms, number),
        Unblock::Error => {
            call.instance.statistics.count_error(ERROR.line());
            finish(call.keyspace, call.instance, number, |wait, out| {
                Reply::new(out, wait.session.resp3).error(ERROR.line());
            });
        }
    }
    true
}

/// The store has become a replica: nobody waits for what only clients of a primary do.
pub(super) fn end_waits_of_primary(keyspace: &mut Keyspace, instance: &mut Instance) {
    const LINE: &[u8] = b"UNBLOCKED force unblock from blocking operation, instance state changed \
                          (master -> replica?)";
    let mut numbers = instance.blocked.numbers(|wait| wait.kind.is_some());
    numbers.extend(instance.copies.waiting());
    for number in numbers {
        instance.statistics.count_error(LINE);
        finish(keyspace, instance, number, |wait, out| {
            Reply::new(out, wait.session.resp3).error(LINE);
        });
    }
}

/// Lets all go on whose commands were postponed.
pub(super) fn end_pause(call: &mut Call<'_>) {
    go_on(call.keyspace, call.instance);
}

fn go_on(keyspace: &mut Keyspace, instance: &mut Instance) {
    for number in instance.blocked.numbers(|wait| wait.postponed) {
        finish(keyspace, instance, number, |_, _| {});
    }
}

/// Runs a waiting command again: it ends, or waits on.
pub(super) fn rerun(keyspace: &mut Keyspace, instance: &mut Instance, now_ms: u64, number: u64) {
    let Some(wait) = instance.blocked.waits.get_mut(&number) else { return };
    let mut session = std::mem::replace(&mut wait.session, Session::new(0));
    let args = std::mem::take(&mut wait.args);
    let (command, hash) = (wait.command, wait.hash);
    session.state.set(State::RETRYING, true);
    let began_ns = instance.scripting.now_ns();
    let pushed_from = instance.clients.deliveries();
    let mut out = Vec::new();
    let result = {
        let (session, args) = (&mut session, args.args());
        let reply = Reply::new(&mut out, session.resp3);
        observe(
            &mut Call { keyspace, instance, session, args, hash, now_ms, reply },
            table().row(command),
        )
    };
    let still = session.state.has(State::WAITING);
    session.state.set(State::WAITING, false);
    let resp3 = session.resp3;
    if !still {
        let taken_ns = instance.scripting.now_ns().saturating_sub(began_ns);
        instance.on_slow(&session, command, args.args(), (taken_ns, now_ms));
    }
    if let Some(wait) = instance.blocked.waits.get_mut(&number) {
        wait.session = session;
        wait.args = args;
    }
    if still {
        return;
    }
    if let Err(error) = result {
        instance.statistics.commands[command.index()].failed += 1;
        out.clear();
        instance.statistics.count_error(error.line());
        Reply::new(&mut out, resp3).error(error.line());
    }
    meter::exclude(meter::allocation_bytes(out.capacity()));
    finish(keyspace, instance, number, |_, reply| *reply = out);
    instance.clients.answer_before(pushed_from);
}

/// The time of a wait is up. A command that waits for copies says how many there are.
fn end_late(keyspace: &mut Keyspace, instance: &mut Instance, now_ms: u64, number: u64) {
    if instance.copies.awaits(number)
        && let Some(wait) = instance.blocked.waits.get_mut(&number)
    {
        wait.session.state.set(State::NO_WAIT, true);
        return rerun(keyspace, instance, now_ms, number);
    }
    finish(keyspace, instance, number, late);
}

fn late(wait: &Wait, out: &mut Vec<u8>) {
    (wait.too_late)(&mut Reply::new(out, wait.session.resp3));
}

/// Ends a wait, if it hasn't ended, with what `answer` writes.
fn finish(
    keyspace: &mut Keyspace,
    instance: &mut Instance,
    number: u64,
    answer: impl FnOnce(&Wait, &mut Vec<u8>),
) {
    let Some(wait) = remove(keyspace, instance, number) else { return };
    let mut reply = Vec::new();
    if !wait.silent {
        meter::outside(|| answer(&wait, &mut reply));
    }
    instance.statistics.count_output(reply.len());
    let connection = wait.connection;
    instance.clients.deliver(Delivery::Resume { connection, wait: number, reply });
}

fn remove(keyspace: &mut Keyspace, instance: &mut Instance, number: u64) -> Option<Wait> {
    let (wait, free) = instance.blocked.remove(number)?;
    instance.copies.forget(number);
    for key in free {
        keyspace.database(wait.session.database).waited.forget(&key);
    }
    instance.attention.set(Attention::BLOCKED, !instance.blocked.is_empty());
    instance.clients.set_wait(wait.session.row, None);
    Some(wait)
}

#[cfg(test)]
mod tests;
