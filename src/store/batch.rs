//! One loop turn's commands over all connections: parsed and hashed outside of the lock, executed under it in groups.
//!
//! A lookup in a large keyspace waits for memory twice, for the bucket and for the entry. In groups of 32 the buckets of
//! all commands are asked for first, then the entries, then the commands run: the waits overlap, and a lookup falls from
//! 200 to 30 ns at a million keys. A write within the group may move what was asked for; that only wastes the hint.
//!
//! A client's commands run in their order. A hold ends after [`STORE_HOLD_COMMANDS_MAX`] commands so that others get the
//! lock. A client that closes or whose replies pile up stops inside the batch; the rest of its commands aren't executed.

use super::clients::Delivery;
use super::commands::{CommandId, Shape, Table, Words, table};
use super::instance::{Attention, Instance};
use super::observe;
use super::session::State;
use super::shared::Held;
use super::table as segments;
use super::value::ValueRef;
use super::{Args, Hasher, Outcome, Session, Span, Store, meter};
use crate::limits::{STORE_HOLD_COMMANDS_MAX, STORE_PREFETCH_COMMANDS};
use crate::proto::resp::{Parsed, ProtocolError, RequestParser};

/// The commands of one turn; its memory is reused from turn to turn.
pub struct Batch {
    requests: Vec<Request>,
    spans: Vec<Span>,
    /// The words of inline commands with quotes.
    rewritten: Vec<u8>,
    errors: Vec<ProtocolError>,
    /// Requests before this one have been executed or skipped.
    next: usize,
    /// What the last run executed, for [`Batch::account`].
    last_run: std::ops::Range<usize>,
    /// Clients that execute nothing more in this batch.
    stopped: Vec<u32>,
    /// Bytes of requests, and the reads that brought them, not yet counted.
    input: (u64, u64),
    table: &'static Table,
    /// The last command without subcommands that was looked up: pipelines repeat themselves.
    recent: Recent,
}

/// A command's name as it was sent, and what it means.
#[derive(Clone, Copy)]
struct Recent {
    /// None before the first.
    name: Option<Words>,
    command: CommandId,
    shape: Shape,
}

/// One command.
#[derive(Clone, Copy, Debug)]
struct Request {
    client: u32,
    source: u32,
    /// Where it starts in its source.
    start: u32,
    first_span: u32,
    span_count: u32,
    command: CommandId,
    database: u8,
    way: Way,
    /// Of its first key, also of a script's; 0 without keys.
    hash: u64,
    /// Of the member it looks up in the set or hash at that key; 0 if there is none.
    member_hash: u64,
}

/// How a request is run, and what its spans are places in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Like nearly all. Its spans lie in the source, from the request's start.
    Plain,
    /// The same, but it may take long. This way and the next ones are timed by themselves.
    Timed,
    /// Its spans lie in the batch's own bytes.
    Rewritten,
    /// Not at all: a protocol error, by its index.
    Error,
}

/// Where a batch finds its clients; the worker's connections.
pub trait Clients {
    /// A client by the index that was given to [`Batch::parse`], with the bytes of one of its sources.
    fn client(&mut self, client: u32, source: u32) -> Turn<'_>;
    /// A client executes nothing more in this batch.
    fn stop(&mut self, client: u32, stop: Stop);
    /// Does what a command did to some connection; gives it back if that isn't one of this worker's.
    fn deliver(&mut self, delivery: Delivery) -> Option<Delivery>;
}

/// A client while one of its commands runs.
pub struct Turn<'a> {
    /// Its state.
    pub session: &'a mut Session,
    /// Where its replies go.
    pub out: &'a mut Vec<u8>,
    /// It stops when `out` holds more than this many bytes.
    pub out_bytes_max: usize,
    /// The bytes that were given to [`Batch::parse`] for this source.
    pub bytes: &'a [u8],
}

/// Why a client stopped inside a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Close it when its replies are sent; what it sent besides is dropped.
    Close,
    /// Its replies pile up. Its unexecuted bytes start there: keep them, and parse them again when there is room.
    Full {
        /// Of its sources.
        source: u32,
        /// Offset in that source; all of its later sources are unexecuted too.
        offset: usize,
    },
    /// Its command waits ([`Session::wait`]).
    Wait {
        /// Source and offset of what comes next, if it is in the batch, to be kept as for `Full`.
        next: Option<(u32, usize)>,
    },
}

/// Why the commands of a client don't go on.
enum Ending {
    Stop(Stop),
    /// It waits; `from` is the first request that may be left of it.
    Wait {
        from: usize,
    },
}

/// How far [`Batch::parse`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of whole commands; what follows is part of one, or waits (`paused`).
    pub consumed: usize,
    /// The client must authenticate first: parse on after the batch has run.
    pub paused: bool,
    /// The stream is broken from here on; the batch holds the error's reply and will stop the client.
    pub broken: bool,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            requests: Vec::new(),
            spans: Vec::new(),
            rewritten: Vec::new(),
            errors: Vec::new(),
            next: 0,
            last_run: 0..0,
            stopped: Vec::new(),
            input: (0, 0),
            table: table(),
            recent: Recent { name: None, command: CommandId::UNKNOWN, shape: Shape::default() },
        }
    }
}

impl Batch {
    /// Adds the commands in `bytes`, which start at the client's first unconsumed byte.
    ///
    /// `client` and `source` are the caller's own numbers; [`Clients::client`] must give the same bytes for them while
    /// the batch runs. `session` is the client's as it is now.
    pub fn parse(
        &mut self,
        parser: &mut RequestParser,
        bytes: &[u8],
        (client, source): (u32, u32),
        session: &Session,
        hasher: &Hasher,
    ) -> Progress {
        parser.unauthenticated = session.state.has(State::UNAUTHENTICATED);
        let mut at = 0;
        let mut progress = Progress { consumed: 0, paused: false, broken: false };
        loop {
            let first_span = self.spans.len();
            let request = Request {
                client,
                source,
                start: at as u32,
                first_span: first_span as u32,
                span_count: 0,
                command: CommandId::UNKNOWN,
                database: session.database,
                way: Way::Plain,
                hash: 0,
                member_hash: 0,
            };
            match parser.parse(&bytes[at..], &mut self.spans) {
                Ok(Parsed::Command { consumed, rewritten }) => {
                    if rewritten {
                        self.push_rewritten(request, parser.rewritten(), hasher);
                    } else {
                        self.push(request, &bytes[at..], hasher);
                    }
                    at += consumed;
                    if parser.unauthenticated {
                        progress.paused = true;
                        break;
                    }
                }
                Ok(Parsed::Skip { consumed }) => at += consumed,
                Ok(Parsed::Incomplete) => break,
                Err(error) => {
                    let hash = self.errors.len() as u64;
                    self.errors.push(error);
                    self.requests.push(Request { way: Way::Error, hash, ..request });
                    at = bytes.len();
                    progress.broken = true;
                    break;
                }
            }
        }
        self.input.0 += at as u64;
        self.input.1 += 1;
        Progress { consumed: at, ..progress }
    }

    fn push(&mut self, request: Request, base: &[u8], hasher: &Hasher) {
        let spans = &self.spans[request.first_span as usize..];
        let args = Args::new(base, spans);
        let (command, shape) = self.recent.resolve(self.table, args);
        let hash = shape.key_hash(args, hasher);
        let member_hash = shape.member_hash(args, hasher);
        let span_count = spans.len() as u32;
        let is_timed = request.way == Way::Plain && may_be_slow(shape, spans);
        let way = if is_timed { Way::Timed } else { request.way };
        self.requests.push(Request { span_count, command, way, hash, member_hash, ..request });
    }

    #[cold]
    fn push_rewritten(&mut self, request: Request, words: &[u8], hasher: &Hasher) {
        self.push(Request { way: Way::Rewritten, ..request }, words, hasher);
        let offset = self.rewritten.len() as u32;
        self.rewritten.extend_from_slice(words);
        for span in &mut self.spans[request.first_span as usize..] {
            span.start += offset;
        }
    }

    /// Executes the next commands, as many as one hold allows; true when the batch is done.
    pub fn run(&mut self, held: &mut Held<'_>, clients: &mut impl Clients) -> bool {
        self.run_timed(held, clients, &|| 0)
    }

    /// The same with a clock, in nanoseconds, for commands that may be slow.
    pub fn run_timed(
        &mut self,
        held: &mut Held<'_>,
        clients: &mut impl Clients,
        clock: &dyn Fn() -> u64,
    ) -> bool {
        let end = self.requests.len().min(self.next + STORE_HOLD_COMMANDS_MAX);
        self.last_run = self.next..end;
        held.instance.statistics.count_input(std::mem::take(&mut self.input));
        while self.next < end {
            let group = self.next..end.min(self.next + STORE_PREFETCH_COMMANDS);
            self.prefetch(held, &self.requests[group.clone()]);
            self.prefetch_members(held, group.clone(), clients);
            let mut index = group.start;
            while index < group.end {
                index = self.execute_client(index..group.end, held, clients, clock);
            }
            self.next = group.end;
        }
        if held.instance.tracking.has_changes() {
            held.instance.broadcast();
            hand_out(held, clients);
        }
        self.next == self.requests.len()
    }

    fn prefetch(&self, held: &mut Held<'_>, group: &[Request]) {
        let keyspace = &held.keyspace;
        if group.len() < 2 {
            return;
        }
        // Once for a run of commands on the same key.
        let with_keys = || {
            let mut previous = 0;
            group.iter().filter(move |request| {
                let seen = std::mem::replace(&mut previous, request.hash);
                request.hash != 0 && request.hash != seen && request.way != Way::Error
            })
        };
        for request in with_keys() {
            keyspace.databases()[usize::from(request.database)]
                .table()
                .prefetch_bucket(request.hash);
        }
        for request in with_keys() {
            keyspace.databases()[usize::from(request.database)]
                .table()
                .prefetch_entry(request.hash);
        }
    }

    /// The same two steps inside the big sets, hashes and sorted sets that the group's commands look into. A collection is found once
    /// for a run of commands on the same key; the keys' entries are on their way already.
    fn prefetch_members(
        &self,
        held: &Held<'_>,
        group: std::ops::Range<usize>,
        clients: &mut impl Clients,
    ) {
        let mut inner: [Option<&segments::Table>; STORE_PREFETCH_COMMANDS] =
            [None; STORE_PREFETCH_COMMANDS];
        let mut previous = (0, 0, None);
        let mut found = false;
        for (place, request) in inner.iter_mut().zip(&self.requests[group.clone()]) {
            if request.member_hash == 0 || request.way == Way::Rewritten {
                continue;
            }
            let key = (request.hash, request.database);
            if (previous.0, previous.1) != key {
                previous = (key.0, key.1, self.big_collection(held, request, clients));
            }
            if let Some(table) = previous.2 {
                table.prefetch_bucket(request.member_hash);
                *place = Some(table);
                found = true;
            }
        }
        if !found {
            return;
        }
        for (table, request) in inner.iter().zip(&self.requests[group]) {
            if let Some(table) = table {
                table.prefetch_entry(request.member_hash);
            }
        }
    }

    fn big_collection<'a>(
        &self,
        held: &'a Held<'_>,
        request: &Request,
        clients: &mut impl Clients,
    ) -> Option<&'a segments::Table> {
        let spans = self.spans_of(request);
        let turn = clients.client(request.client, request.source);
        let key = Args::new(&turn.bytes[request.start as usize..], spans).get(1)?;
        let keys = held.keyspace.databases()[usize::from(request.database)].table();
        match keys.find(key, request.hash)?.value() {
            ValueRef::Set(set) => set.table(),
            ValueRef::Hash(hash) => hash.table(),
            ValueRef::SortedSet(set) => set.table(),
            _ => None,
        }
    }

    /// Executes the requests at the start of `range` that came in one piece from one client; where the next one's begin.
    fn execute_client(
        &mut self,
        range: std::ops::Range<usize>,
        held: &mut Held<'_>,
        clients: &mut impl Clients,
        clock: &dyn Fn() -> u64,
    ) -> usize {
        let Request { client, source, .. } = self.requests[range.start];
        let same = |request: &Request| request.client == client && request.source == source;
        let count = self.requests[range.clone()].iter().take_while(|request| same(request)).count();
        let end = range.start + count;
        if !self.stopped.is_empty() && self.stopped.contains(&client) {
            return end;
        }
        let mut turn = clients.client(client, source);
        let before = turn.out.len();
        let mut ending = None;
        let mut next = range.start;
        // What a command does to others is handed out before the next one runs.
        let now_ms = held.now_ms;
        let store: &mut Store = held;
        while next < end && ending.is_none() && !store.instance.clients.has_deliveries() {
            ending = self.execute(next, (store, now_ms), &mut turn, clock);
            next += 1;
        }
        store.instance.statistics.count_output(turn.out.len() - before);
        match ending {
            Some(Ending::Stop(stop)) => self.stop(client, stop, clients),
            Some(Ending::Wait { from }) => self.wait(client, from, clients),
            None => {}
        }
        if held.instance.clients.has_deliveries() {
            hand_out(held, clients);
        }
        next
    }

    #[inline]
    fn execute(
        &self,
        index: usize,
        (store, now_ms): (&mut Store, u64),
        turn: &mut Turn<'_>,
        clock: &dyn Fn() -> u64,
    ) -> Option<Ending> {
        let request = &self.requests[index];
        if turn.out.len() > turn.out_bytes_max {
            let offset = request.start as usize;
            return Some(Ending::Stop(Stop::Full { source: request.source, offset }));
        }
        let outcome =
            if request.way == Way::Plain && !store.instance.attention.any(Attention::TIMED) {
                let args = Args::new(&turn.bytes[request.start as usize..], self.spans_of(request));
                let Request { command, hash, .. } = *request;
                store.execute(turn.session, command, args, hash, now_ms, turn.out)
            } else {
                self.execute_timed(request, (store, now_ms), turn, clock)
            };
        match outcome {
            Outcome::Done => None,
            Outcome::Close => Some(Ending::Stop(Stop::Close)),
            Outcome::Wait => Some(Ending::Wait { from: index + 1 }),
            Outcome::Postponed => Some(Ending::Wait { from: index }),
        }
    }

    #[inline(never)]
    fn execute_timed(
        &self,
        request: &Request,
        (store, now_ms): (&mut Store, u64),
        turn: &mut Turn<'_>,
        clock: &dyn Fn() -> u64,
    ) -> Outcome {
        let spans = self.spans_of(request);
        let args = match request.way {
            Way::Plain | Way::Timed => Args::new(&turn.bytes[request.start as usize..], spans),
            Way::Rewritten => Args::new(&self.rewritten, spans),
            Way::Error => {
                store.instance.statistics.count_error(b"ERR");
                self.errors[request.hash as usize].write(turn.out);
                return Outcome::Close;
            }
        };
        let (command, hash) = (request.command, request.hash);
        let started_ns = clock();
        let outcome = store.execute(turn.session, command, args, hash, now_ms, turn.out);
        let taken_ns = clock().saturating_sub(started_ns);
        store.instance.on_timed(turn.session, command, args, (taken_ns, now_ms));
        outcome
    }

    #[inline]
    fn spans_of(&self, request: &Request) -> &[Span] {
        &self.spans[request.first_span as usize..][..request.span_count as usize]
    }

    /// The client waits; `from` is the first of the commands that may be left of it.
    #[cold]
    fn wait(&mut self, client: u32, from: usize, clients: &mut impl Clients) {
        let next = self.requests[from..].iter().find(|request| request.client == client);
        let next = next.map(|request| (request.source, request.start as usize));
        self.stop(client, Stop::Wait { next }, clients);
    }

    #[cold]
    fn stop(&mut self, client: u32, stop: Stop, clients: &mut impl Clients) {
        self.stopped.push(client);
        clients.stop(client, stop);
    }

    /// Shares the time of the last run out over those of its commands that weren't timed by themselves.
    pub fn account(&mut self, held: &mut Held<'_>, nanoseconds: u64) {
        let run = std::mem::take(&mut self.last_run);
        let (timed_ns, timed) = std::mem::take(&mut held.instance.observed.timed);
        let others = (run.len() as u64).saturating_sub(timed);
        let share = nanoseconds.saturating_sub(timed_ns).checked_div(others).unwrap_or_default();
        if others == 0 {
            return;
        }
        let Instance { statistics, observed, config, .. } = &mut held.instance;
        for same in self.requests[run].chunk_by(|one, next| one.command == next.command) {
            let command = same[0].command;
            let count = same.iter().filter(|request| request.way == Way::Plain).count() as u64;
            let Some(counter) = statistics.commands.get_mut(command.index()) else { continue };
            if count == 0 {
                continue;
            }
            counter.nanoseconds += share * count;
            if config.latency_tracking {
                observed.count(command, share, count);
            }
        }
    }

    /// How many commands wait to be executed.
    pub fn len(&self) -> usize {
        self.requests.len() - self.next
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all commands and keeps the memory, up to a bound.
    pub fn clear(&mut self) {
        const KEPT: usize = 64 * 1024;
        self.requests.clear();
        self.requests.shrink_to(KEPT);
        self.spans.clear();
        self.spans.shrink_to(4 * KEPT);
        self.rewritten.clear();
        self.rewritten.shrink_to(KEPT);
        self.errors.clear();
        self.stopped.clear();
        self.next = 0;
        self.last_run = 0..0;
    }
}

/// Does what commands did to other connections, for those of this worker; the rest is posted when the store is released.
#[cold]
pub fn hand_out(held: &mut Held<'_>, clients: &mut impl Clients) {
    meter::outside(|| {
        for delivery in held.instance.clients.take_deliveries() {
            if let Some(delivery) = clients.deliver(delivery) {
                held.instance.clients.deliver_elsewhere(delivery);
            }
        }
    });
}

/// Whether a command is worth two looks at the clock: by its row, or by what it brought.
#[inline]
fn may_be_slow(shape: Shape, spans: &[Span]) -> bool {
    shape.is_timed
        || spans.len() > observe::ARGUMENTS_TIMED
        || spans.last().is_some_and(|span| span.len > observe::ARGUMENT_BYTES_TIMED)
}

impl Recent {
    /// [`Table::resolve`] and the command's shape, without a look at the table when the name is the last one again.
    #[inline]
    fn resolve(&mut self, table: &Table, args: Args<'_>) -> (CommandId, Shape) {
        let name = Words::exactly(args.get(0).unwrap_or_default());
        if self.name != Some(name) {
            return self.look_up(table, args, name);
        }
        (self.command, self.shape)
    }

    #[inline(never)]
    fn look_up(&mut self, table: &Table, args: Args<'_>, name: Words) -> (CommandId, Shape) {
        let command = table.resolve(args);
        let shape = table.shape(command);
        if name.is_whole() && (command == CommandId::UNKNOWN || table.is_plain(command)) {
            *self = Recent { name: Some(name), command, shape };
        }
        (command, shape)
    }
}

#[cfg(test)]
mod tests;
