//! The cache runtime's front: RESP connections of one worker, their commands of a turn run as one batch under the
//! store's lock.
//!
//! Commands are parsed where the kernel put them; such a buffer is held until its batch has run. The start of a command
//! that isn't complete moves to the connection's input, and so does what waits: behind AUTH, or behind replies that the
//! peer doesn't take.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::ConnectionId;
use crate::limits;
use crate::proto::resp::RequestParser;
use crate::ring::timers::TimerId;
use crate::ring::{Address, Driver, Received};
use crate::store::batch::{self, Batch, Progress, Stop};
use crate::store::client_bounds::Buffers;
use crate::store::clients::Client;
use crate::store::mail::Mailbox;
use crate::store::output_limits::OutputLimits;
use crate::store::{Session, SharedStore, meter};

use super::RuntimeKind;
use super::connection::{Connection, Pause, Phase, Role};
use super::limiter;
use super::local::Local;
use super::stats::StatsCell;

mod durable;
mod front;
pub mod hooks;
pub mod replica;
mod scripts;
mod upkeep;
pub mod waiting;

use front::{Effects, Front};
use scripts::Left;
pub use upkeep::{all_left, maintain, on_close};
use upkeep::{leave, maintain_soon};

/// One client of a cache.
pub struct CacheClient {
    session: Session,
    parser: RequestParser,
    /// Bytes of the connection's input that are commands of the batch.
    parsed: usize,
    /// It has commands in the batch.
    in_batch: bool,
    /// It must be parsed again when the batch has run (it had to authenticate first).
    again: bool,
    /// Its replies piled up: its input waits until they are gone.
    full: bool,
    /// Ends the wait of its command ([`Session::wait`]).
    wait_timer: Option<TimerId>,
    /// It is in the list of those that got messages.
    touched: bool,
    /// It doesn't read what it is sent, and is about to be closed.
    slow: bool,
    /// Since when more waits for it than its class allows for long, in milliseconds since the epoch.
    over_soft_since_ms: Option<u64>,
    /// What the store was last told of its buffers.
    told: Buffers,
}

/// What one worker keeps for one cache.
pub struct CacheState {
    store: Arc<SharedStore>,
    batch: Batch,
    /// The slots with commands in the batch.
    clients: Vec<u32>,
    /// Commands ran since the last maintenance.
    active: bool,
    /// The maintenance timer is set.
    timed: bool,
    /// Clients that went away while somebody held the store.
    leaving: Vec<Session>,
    /// Where its letters come to, once they do.
    worker: Option<u8>,
    /// Letters from other workers for the clients here.
    mailbox: Option<Arc<Mailbox>>,
    /// How much may wait for a client, as of the last hold.
    limits: OutputLimits,
    /// Clients for which more waits than their class allows for long.
    slow: Vec<u32>,
    /// The numbers of waits whose time is up.
    timed_out: Vec<u64>,
    /// What its app hears of it, if that is at home here.
    hooks: hooks::HookState,
    /// Replies that wait for the disk: up to which offset of the feed, and whose.
    unsafe_replies: VecDeque<(u64, Vec<ConnectionId>)>,
    /// When the store was last told the process's figures, in monotonic milliseconds.
    figures_ms: u64,
    /// What the store wanted of its role when this worker last looked.
    epoch: u64,
    /// It was held then: a timer looks again.
    looks_again: bool,
    /// The link to the primary, on the first worker of a replica.
    upstream: Option<Box<replica::Upstream>>,
}

/// The turn's commands on one worker.
#[derive(Default)]
pub struct CacheTurn {
    /// Kernel buffers whose commands haven't run.
    held: Vec<HeldBuffer>,
    /// Instances with a batch to run.
    waiting: Vec<usize>,
    /// What the running batch does to connections.
    effects: Effects,
    /// Instances whose script isn't at its end.
    scripts: Vec<usize>,
    /// Instances whose store has something for an app's hooks.
    hooked: Vec<usize>,
    /// Replicas for which something has come from their primary.
    upstreams: Vec<usize>,
}

struct HeldBuffer {
    received: Received,
    client: u32,
    /// Bytes of whole commands; what followed was copied to the input.
    consumed: usize,
}

impl CacheClient {
    /// Its input isn't parsed for now.
    fn waits(&self) -> bool {
        self.full || self.again || self.session.wait.is_some()
    }
}

impl Drop for CacheState {
    fn drop(&mut self) {
        if let Some(worker) = self.worker {
            self.store.detach(worker);
            self.hooks.leave(&self.store, worker);
        }
    }
}

impl CacheTurn {
    /// Whether a batch couldn't get its lock and waits for the next turn, a script wants to go on, or an app is to hear
    /// something.
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty()
            || !self.scripts.is_empty()
            || !self.hooked.is_empty()
            || !self.upstreams.is_empty()
    }
}

/// Sources at or above this are places in the connection's input.
const INPUT: u32 = 1 << 31;

/// The answer to a client that has just connected.
pub enum Join {
    /// It is one of the store's.
    Role(Role),
    /// Somebody holds the store: ask again.
    Later,
    /// The worker is full.
    Refused,
}

/// A client has just connected.
pub fn join(local: &mut Local, slot: u32, index: usize, id: ConnectionId) -> Join {
    let now_ms = local.now.unix_ms;
    let connection = id.bits();
    let address = redis_address(&local.connections.at(slot).peer);
    let instance = local.instance_at(index);
    let local_address = instance.config().listen.as_ref().map_or_else(String::new, redis_address);
    let Some(state) = instance.cache.as_mut() else { return Join::Refused };
    let Some(mut held) = state.store.lock_now(now_ms) else { return Join::Later };
    let client = Client { connection, address, local_address, ..Client::default() };
    let session = held.connect(client);
    drop(held);
    Join::Role(Role::Cache(Box::new(CacheClient {
        session,
        parser: RequestParser::default(),
        parsed: 0,
        in_batch: false,
        again: false,
        full: false,
        wait_timer: None,
        touched: false,
        slow: false,
        over_soft_since_ms: None,
        told: Buffers::default(),
    })))
}

/// An address as CLIENT LIST has it.
fn redis_address(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("{}:0", path.path().display()),
        address => address.to_string(),
    }
}

/// What an instance of a cache starts with.
pub fn state(placement: &super::Placement) -> Option<Box<CacheState>> {
    let store = placement.store.clone().filter(|_| placement.config.kind == RuntimeKind::Cache)?;
    Some(Box::new(CacheState {
        store,
        batch: Batch::default(),
        clients: Vec::new(),
        active: false,
        timed: false,
        leaving: Vec::new(),
        worker: None,
        mailbox: None,
        timed_out: Vec::new(),
        limits: OutputLimits::default(),
        slow: Vec::new(),
        hooks: hooks::HookState::default(),
        unsafe_replies: VecDeque::new(),
        figures_ms: 0,
        epoch: 0,
        looks_again: false,
        upstream: None,
    }))
}

/// Whether commands of a connection have been read and not run.
pub fn has_unrun(connection: &Connection) -> bool {
    match &connection.role {
        Role::Cache(client) => client.in_batch || client.full,
        _ => false,
    }
}

/// Whether the batch has commands of a connection: then its bytes and its slot must stay.
pub fn in_batch(connection: &Connection) -> bool {
    matches!(&connection.role, Role::Cache(client) if client.in_batch)
}

/// Forgets what a connection that closes has read; commands that are in the batch still run.
pub fn drop_input(connection: &mut Connection) {
    if !in_batch(connection) {
        connection.input = Vec::new();
    }
}

/// Takes bytes for a cache's connection. Gives the buffer back when its commands must stay in it until they have run.
pub fn on_received(local: &mut Local, driver: &mut dyn Driver, slot: u32, received: Received) {
    let worker = local.worker;
    let connection = local.connections.at(slot);
    if connection.phase != Phase::Open {
        return driver.recycle(received);
    }
    let index = connection.instance;
    let cell = local.instance_at(index).cell(worker);
    StatsCell::add(&cell.bytes_in, u64::from(received.bytes));
    let (free, of) = driver.buffers_free();
    let connection = local.connections.at(slot);
    let Connection { role: Role::Cache(client), input, .. } = connection else {
        return driver.recycle(received);
    };
    let waits = client.waits();
    let in_place = input.is_empty() && !waits && free * 4 > of;
    if !in_place {
        on_bytes(local, slot, driver.received(&received));
        return driver.recycle(received);
    }
    let source = local.cache.held.len() as u32;
    let bytes = driver.received(&received);
    let progress = parse(local, slot, source, bytes);
    let consumed = progress.consumed;
    let connection = local.connections.at(slot);
    connection.input.extend_from_slice(&bytes[consumed..]);
    if has_unrun(connection) {
        local.cache.held.push(HeldBuffer { received, client: slot, consumed });
    } else {
        driver.recycle(received);
    }
}

/// Takes bytes for a cache's connection into its input.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    let Connection { role: Role::Cache(client), input, .. } = connection else { return };
    let expected = client.parser.bytes_expected() + client.parsed;
    input.reserve(expected.saturating_sub(input.len()).max(bytes.len()));
    input.extend_from_slice(bytes);
    let waits = client.waits();
    if !waits {
        parse_input(local, slot);
    }
    let connection = local.connections.at(slot);
    let unrun = if waits { connection.input.len() } else { parsed(connection) };
    if unrun > limits::INPUT_HIGH_BYTES {
        local.pause(slot, Pause::BATCH);
    }
}

/// Adds what the connection's input holds to the batch.
fn parse_input(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let Role::Cache(client) = &connection.role else { return };
    let offset = client.parsed;
    let input = std::mem::take(&mut connection.input);
    let progress = parse(local, slot, INPUT | offset as u32, &input[offset..]);
    let connection = local.connections.at(slot);
    connection.input = input;
    if let Role::Cache(client) = &mut connection.role {
        client.parsed = offset + progress.consumed;
        if !client.in_batch {
            drop_parsed(connection);
        }
    }
}

/// Parses bytes of a client into its cache's batch.
fn parse(local: &mut Local, slot: u32, source: u32, bytes: &[u8]) -> Progress {
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let Role::Cache(client) = &mut connection.role else {
        return Progress { consumed: bytes.len(), paused: false, broken: true };
    };
    let Some(state) = local.instances[index].as_mut().and_then(|instance| instance.cache.as_mut())
    else {
        return Progress { consumed: bytes.len(), paused: false, broken: true };
    };
    let before = state.batch.len();
    let hasher = state.store.hasher();
    let CacheClient { parser, session, .. } = &mut **client;
    let progress = state.batch.parse(parser, bytes, (slot, source), session, &hasher);
    let added = state.batch.len() - before;
    if added > 0 {
        client.again = progress.paused;
        if !std::mem::replace(&mut client.in_batch, true) {
            state.clients.push(slot);
        }
        if before == 0 && !local.cache.waiting.contains(&index) {
            local.cache.waiting.push(index);
        }
        let worker = local.worker;
        let cell = local.instance_at(index).cell(worker);
        StatsCell::add(&cell.messages, added as u64);
        if local.connections.at(slot).limiter.is_some() {
            limiter::spent(local, slot, 0, added as u64);
        }
    }
    progress
}

/// Bytes of the input that are commands of the batch.
fn parsed(connection: &Connection) -> usize {
    if let Role::Cache(client) = &connection.role { client.parsed } else { 0 }
}

/// Forgets the part of the input that has run.
fn drop_parsed(connection: &mut Connection) {
    let Connection { role: Role::Cache(client), input, .. } = connection else { return };
    let parsed = std::mem::take(&mut client.parsed);
    if parsed >= input.len() {
        input.clear();
        if input.capacity() > limits::INPUT_KEEP_BYTES {
            *input = Vec::new();
        }
    } else if parsed > 0 {
        input.drain(..parsed);
    }
}

/// Runs the batches of this turn. One that doesn't get its store's lock soon waits for the next turn.
pub fn run(local: &mut Local, driver: &mut dyn Driver) {
    if !local.cache.scripts.is_empty() {
        scripts::resume(local, driver);
    }
    if !local.cache.upstreams.is_empty() {
        replica::run(local, driver);
    }
    let mut rounds = 0;
    while !local.cache.waiting.is_empty() && rounds < limits::CACHE_ROUNDS_PER_TURN {
        rounds += 1;
        let waiting = std::mem::take(&mut local.cache.waiting);
        for &index in &waiting {
            let done = run_one(local, driver, index);
            if !done && !local.cache.waiting.contains(&index) {
                local.cache.waiting.push(index);
            }
        }
    }
    if local.cache.waiting.is_empty() {
        for held in local.cache.held.drain(..) {
            driver.recycle(held.received);
        }
    }
}

fn run_one(local: &mut Local, driver: &mut dyn Driver, index: usize) -> bool {
    let now_ms = local.now.unix_ms;
    let Some(store) = local.instances[index].as_ref().and_then(|i| i.cache.as_ref()) else {
        return true;
    };
    let store = Arc::clone(&store.store);
    let (mut done, mut wrote) = (false, false);
    let mut left = Left::default();
    while !done {
        let Some(mut held) = store.try_lock(now_ms) else { break };
        // What others did before comes before what is done now.
        meter::outside(|| waiting::open_letters(local, driver, index));
        let (worker, now_ms) = (local.worker, local.now.unix_ms);
        let Some(state) = local.instances[index].as_mut().and_then(|i| i.cache.as_mut()) else {
            return true;
        };
        let clock: &dyn Driver = driver;
        let started_ns = clock.precise_ns();
        let limits = held.instance.config.output_limits;
        state.limits = limits;
        let CacheTurn { held: buffers, effects, .. } = &mut local.cache;
        let connections = &mut local.connections;
        let mut front =
            Front { connections, driver, held: buffers, effects, worker, limits, now_ms };
        if !state.timed_out.is_empty() {
            state.timed_out.drain(..).for_each(|wait| held.time_out(wait));
            batch::hand_out(&mut held, &mut front);
        }
        let offset = held.instance.feed.offset();
        done = state.batch.run_timed(&mut held, &mut front, &|| clock.precise_ns());
        state.batch.account(&mut held, driver.precise_ns() - started_ns);
        state.leaving.drain(..).for_each(|mut session| held.disconnect(&mut session));
        wrote |= held.instance.feed.offset() != offset;
        left.look(&mut held, worker);
    }
    left.settle(local, index);
    if store.waits_for_disk() {
        durable::hold_batch(local, index, wrote);
    }
    let Some(state) = local.instance_at(index).cache.as_mut() else { return true };
    state.active = true;
    let clients = if done {
        state.batch.clear();
        std::mem::take(&mut state.clients)
    } else {
        Vec::new()
    };
    maintain_soon(local, index);
    let mut stops = std::mem::take(&mut local.cache.effects.stops);
    for (slot, stop) in stops.drain(..) {
        on_stop(local, driver, slot, stop);
    }
    local.cache.effects.stops = stops;
    settle(local, index, clients);
    waiting::apply(local);
    done
}

/// After a batch: what ran leaves the inputs, replies go out, and whoever had to wait goes on.
fn settle(local: &mut Local, index: usize, mut clients: Vec<u32>) {
    let limits = local.instance_at(index).cache.as_ref().map(|state| state.limits);
    let limits = limits.unwrap_or_default();
    for &slot in &clients {
        let connection = local.connections.at(slot);
        let Role::Cache(client) = &mut connection.role else { continue };
        client.in_batch = false;
        if connection.ended {
            leave(local, slot);
            continue;
        }
        let (again, full) = (std::mem::take(&mut client.again), client.full);
        let waits = client.waits();
        if !full {
            drop_parsed(connection);
        }
        if waiting::is_slow(local, slot, &limits) {
            continue;
        }
        mark_dirty(local, slot);
        if again && !waits && !local.connections.at(slot).input.is_empty() {
            parse_input(local, slot);
        }
        local.resume(slot, Pause::BATCH);
        go_on(local, slot);
    }
    // The list goes back for its memory; a client that was parsed again is on the new one.
    if let Some(state) = local.instance_at(index).cache.as_mut()
        && state.clients.is_empty()
    {
        clients.clear();
        state.clients = clients;
    }
}

/// Marks for the flush; replies have no bound but the one that stops their connection's commands.
fn mark_dirty(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    if connection.outbox.is_empty() {
        return;
    }
    let above = connection.outbox.is_above_high() && connection.paused & Pause::OUTBOX == 0;
    if !connection.dirty {
        connection.dirty = true;
        local.dirty.push(slot);
    }
    if above {
        local.pause(slot, Pause::OUTBOX);
    }
}

fn on_stop(local: &mut Local, driver: &dyn Driver, slot: u32, stop: Stop) {
    let Some(connection) = local.connections.get_mut(slot) else { return };
    match stop {
        Stop::Close => local.close_after_flush(slot),
        Stop::Full { source, offset } => {
            keep_unrun(connection, &local.cache.held, driver, (slot, source, offset));
            if let Role::Cache(client) = &mut connection.role {
                client.full = true;
            }
            local.pause(slot, Pause::OUTBOX);
        }
        Stop::Wait { next } => {
            if let Some((source, offset)) = next {
                keep_unrun(connection, &local.cache.held, driver, (slot, source, offset));
            }
            waiting::start(local, slot);
        }
    }
}

/// Moves a client's unexecuted bytes, which start at an offset in one of its sources, to its input.
fn keep_unrun(
    connection: &mut Connection,
    held: &[HeldBuffer],
    driver: &dyn Driver,
    (slot, source, offset): (u32, u32, usize),
) {
    let Connection { role: Role::Cache(client), input, .. } = connection else { return };
    let mut rest = Vec::new();
    if source < INPUT {
        let later = held.iter().enumerate().skip(source as usize);
        for (at, held) in later.filter(|(_, held)| held.client == slot) {
            let from = if at == source as usize { offset } else { 0 };
            rest.extend_from_slice(&driver.received(&held.received)[from..held.consumed]);
        }
        rest.extend_from_slice(input);
    } else {
        rest.extend_from_slice(&input[(source - INPUT) as usize + offset..]);
    }
    *input = rest;
    client.parsed = 0;
    client.parser = RequestParser::default();
}

/// Replies have gone out: commands that waited for that run in the next turn.
pub fn on_outbox_low(local: &mut Local, slot: u32) {
    if local.connections.get(slot).is_some_and(has_unrun) {
        go_on(local, slot);
    }
}

/// Commands that waited for room for their replies join the next batch when there is some, and a stream that has ended
/// is looked at again when all of it has run. While a batch still holds the client, the batch's end does this.
fn go_on(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let has_room = connection.outbox.is_below_low() && connection.phase == Phase::Open;
    let Role::Cache(client) = &mut connection.role else { return };
    if client.full && !client.in_batch && has_room {
        client.full = false;
        parse_input(local, slot);
    }
    let connection = local.connections.at(slot);
    if connection.read_ended && !has_unrun(connection) {
        local.half_closed.push(slot);
    }
}
