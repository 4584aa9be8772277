//! A cache that is a replica: its connection to the primary on the first of its workers, dialled again when it is lost.
//!
//! Which primary is wanted stands in the store (REPLICAOF); each worker looks after its batches whether that has changed,
//! and tells the first one. What is said over the connection is [`crate::replication::replica`]'s business.

use std::sync::Arc;

use crate::id::RuntimeId;
use crate::limits;
use crate::log::LogLevel;
use crate::net::dial::{Backoff, Target};
use crate::replication::replica::{History, Link, Settings};
use crate::ring::timers::TimerId;
use crate::ring::{Address, Driver, Errno, Fd};
use crate::runtime::client::start_connect;
use crate::runtime::connection::{Pause, Phase, Role};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::message::ToWorker;
use crate::store::instance::Attention;
use crate::store::replication::LinkState;
use crate::store::shared::Held;
use crate::store::{SharedStore, batch, meter};

use super::waiting;

/// The primary that the first worker of a replica keeps a connection to.
pub struct Upstream {
    address: Address,
    /// The connection: being dialled while there is no link.
    slot: Option<u32>,
    link: Option<Link>,
    history: Option<History>,
    backoff: Backoff,
    /// Of the next attempt, or of the next acknowledgement.
    timer: Option<TimerId>,
    /// When something last came, in monotonic milliseconds.
    heard_ms: u64,
    /// Attempts since the link last stood.
    failures: u32,
}

/// What is wanted may have changed: on the first worker the link is made anew, or ended.
pub fn look(local: &mut Local, index: usize, epoch: u64) {
    let worker = local.worker;
    let instance = local.instance_at(index);
    let runtime = instance.placement.id;
    let first = instance.placement.workers.first().copied().unwrap_or(worker);
    let Some(state) = instance.cache.as_mut() else { return };
    if std::mem::replace(&mut state.epoch, epoch) == epoch {
        return;
    }
    if first == worker {
        follow(local, index);
    } else {
        local.workers[usize::from(first)].send(ToWorker::Upstream { runtime });
    }
}

/// Looks at the store; for the first worker, when the runtime begins and when another worker says so.
pub fn look_at_store(local: &mut Local, runtime: RuntimeId) {
    let now_ms = local.now.unix_ms;
    let Some(&index) = local.index.get(&runtime) else { return };
    let Some(store) = store(local, index) else { return };
    let epoch = store.lock_now(now_ms).map(|held| held.instance.replication.epoch());
    match epoch {
        Some(epoch) => look(local, index, epoch),
        None => look_again(local, index, runtime),
    }
}

/// Somebody holds the store: a timer looks at it.
fn look_again(local: &mut Local, index: usize, runtime: RuntimeId) {
    let Some(state) = local.instance_at(index).cache.as_mut() else { return };
    if !std::mem::replace(&mut state.looks_again, true) {
        let event = TimerEvent::Upstream { runtime };
        local.timers.insert(local.now, limits::REPLICA_LOOK_MS, event);
    }
}

fn upstream(local: &mut Local, index: usize) -> Option<&mut Upstream> {
    local.instances[index].as_mut()?.cache.as_mut()?.upstream.as_deref_mut()
}

fn store(local: &mut Local, index: usize) -> Option<Arc<SharedStore>> {
    Some(Arc::clone(&local.instances[index].as_ref()?.cache.as_ref()?.store))
}

/// Lets go of the link there was and begins the one that is wanted.
fn follow(local: &mut Local, index: usize) {
    let now_ms = local.now.unix_ms;
    if let Some(state) = local.instance_at(index).cache.as_mut()
        && let Some(old) = state.upstream.take()
    {
        if let Some(timer) = old.timer {
            local.timers.cancel(timer);
        }
        if let Some(slot) = old.slot {
            local.close_now(slot);
        }
    }
    let Some(store) = store(local, index) else { return };
    let wanted = {
        let held = store.lock(now_ms);
        held.instance.replication.upstream().map(|upstream| (upstream.host.clone(), upstream.port))
    };
    let Some((host, port)) = wanted else { return };
    let Some(address) = (Target { host, port, path: None }).literal() else { return };
    let backoff = Backoff::new(limits::REPLICA_RETRY_MIN_MS, limits::REPLICA_RETRY_MAX_MS);
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.upstream = Some(Box::new(Upstream {
            address,
            slot: None,
            link: None,
            history: None,
            backoff,
            timer: None,
            heard_ms: 0,
            failures: 0,
        }));
    }
    dial(local, index);
}

fn dial(local: &mut Local, index: usize) {
    let now_ms = local.now.unix_ms;
    let Some(address) = upstream(local, index).map(|upstream| upstream.address.clone()) else {
        return;
    };
    let is_loading = |held: Held<'_>| held.instance.attention.any(Attention::LOADING);
    if store(local, index).is_some_and(|store| is_loading(store.lock(now_ms))) {
        // What was kept on disk comes first: the primary's data take its place.
        return arm(local, index, limits::REPLICA_RETRY_MIN_MS);
    }
    let Some(slot) = local.insert_connection(index, None, address, Role::Upstream) else {
        return lost(local, index, "the worker holds too many connections");
    };
    if let Some(upstream) = upstream(local, index) {
        upstream.slot = Some(slot);
    }
    note(local, index, LinkState::Connecting);
    start_connect(local, slot, limits::DIAL_TIMEOUT_MS);
}

/// The dial has ended.
pub fn on_connected(local: &mut Local, slot: u32, result: Result<Fd, Errno>) {
    let index = local.connections.at(slot).instance;
    let fd = match result {
        Ok(fd) => fd,
        Err(error) => {
            let reason = error.to_string();
            return end(local, slot, &reason);
        }
    };
    let now_ms = local.now.monotonic_ms();
    let unix_ms = local.now.unix_ms;
    let connection = local.connections.at(slot);
    (connection.fd, connection.phase) = (Some(fd), Phase::Open);
    let Some(store) = store(local, index) else { return };
    let settings = {
        let held = store.lock(unix_ms);
        let config = &held.instance.config;
        let text = |name| config.text(name).to_vec();
        Settings { port: config.port, user: text("masteruser"), password: text("masterauth") }
    };
    let mut out = Vec::new();
    let Some(upstream) = upstream(local, index) else { return };
    upstream.link = Some(Link::new(settings, upstream.history.take(), &mut out));
    upstream.heard_ms = now_ms;
    note(local, index, LinkState::Handshake);
    local.send(slot, &out);
    local.read_on(slot);
    arm(local, index, limits::REPLICA_ACK_MS);
}

/// Bytes of the primary.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let now_ms = local.now.monotonic_ms();
    let index = local.connections.at(slot).instance;
    let Some(upstream) = upstream(local, index).filter(|it| it.slot == Some(slot)) else { return };
    let Some(link) = &mut upstream.link else { return };
    link.on_bytes(bytes);
    upstream.heard_ms = now_ms;
    if !local.cache.upstreams.contains(&index) {
        local.cache.upstreams.push(index);
    }
}

/// Applies what came, as long as a turn may take; what is left waits for the next.
pub(super) fn run(local: &mut Local, driver: &dyn Driver) {
    for index in std::mem::take(&mut local.cache.upstreams) {
        if local.instances.get(index).is_some_and(Option::is_some) && run_one(local, driver, index)
        {
            local.cache.upstreams.push(index);
        }
    }
}

/// True if there is more to do.
fn run_one(local: &mut Local, driver: &dyn Driver, index: usize) -> bool {
    let now_ms = local.now.unix_ms;
    let Some(store) = store(local, index) else { return false };
    let mut out = Vec::new();
    let mut result = Ok(true);
    for _ in 0..limits::CACHE_ROUNDS_PER_TURN {
        let Some(mut held) = store.try_lock(now_ms) else { break };
        let epoch = held.instance.replication.epoch();
        if local.instance_at(index).cache.as_ref().is_some_and(|state| state.epoch != epoch) {
            // Another primary is wanted, or none: nothing more of this one's is applied.
            drop(held);
            look(local, index, epoch);
            return false;
        }
        meter::outside(|| waiting::open_letters(local, driver, index));
        let Some(link) = upstream(local, index).and_then(|it| it.link.as_mut()) else {
            return false;
        };
        result = link.step(&mut held, &mut out);
        let replication = &mut held.instance.replication;
        replication.on_link(link.state(), now_ms);
        replication.on_heard(link.snapshot_bytes(), now_ms);
        let limits = held.instance.config.output_limits;
        batch::hand_out(&mut held, &mut waiting::front(local, driver, limits));
        if result != Ok(true) {
            break;
        }
    }
    waiting::apply(local);
    super::maintain_soon(local, index);
    let Some(slot) = upstream(local, index).and_then(|it| it.slot) else { return false };
    if !out.is_empty() {
        local.send(slot, &out);
    }
    match result {
        Ok(more) => {
            press(local, index, slot, more);
            more
        }
        Err(reason) => {
            // What is here may be part of something: only a snapshot makes it whole.
            if let Some(upstream) = upstream(local, index) {
                upstream.link = None;
            }
            end(local, slot, &reason);
            false
        }
    }
}

/// Reads no more while whole commands wait, and on when they don't.
fn press(local: &mut Local, index: usize, slot: u32, more: bool) {
    let Some(upstream) = upstream(local, index) else { return };
    let waiting = upstream.link.as_ref().map_or(0, Link::waiting_bytes);
    if upstream.link.as_ref().is_some_and(|link| link.state() == LinkState::Connected)
        && upstream.failures > 0
    {
        upstream.failures = 0;
        upstream.backoff.reset();
    }
    if more && waiting > limits::INPUT_HIGH_BYTES {
        local.pause(slot, Pause::BATCH);
    } else if !more {
        local.resume(slot, Pause::BATCH);
    }
}

/// Ends the connection, and says why.
fn end(local: &mut Local, slot: u32, reason: &str) {
    let connection = local.connections.at(slot);
    connection.failure = Some(reason.into());
    local.close_now(slot);
}

/// The connection is gone.
pub fn on_close(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let reason =
        connection.failure.take().unwrap_or_else(|| "the primary closed the connection".into());
    let Some(upstream) = upstream(local, index).filter(|it| it.slot == Some(slot)) else { return };
    upstream.slot = None;
    if let Some(link) = upstream.link.take() {
        // In the middle of a snapshot there is nothing to go on from.
        upstream.history = match link.state() {
            LinkState::Sync => None,
            _ => link.into_history(),
        };
    }
    lost(local, index, &reason);
}

/// Tries again after a pause.
fn lost(local: &mut Local, index: usize, reason: &str) {
    if local.instance_at(index).stopping.is_some() {
        return;
    }
    let mut random = local.random.clone();
    let Some(upstream) = upstream(local, index) else { return };
    let pause_ms = upstream.backoff.next_ms(&mut random);
    let (first, address) = (upstream.failures == 0, upstream.address.clone());
    upstream.failures += 1;
    local.random = random;
    if first {
        let source = local.instance_at(index).config_arc();
        let text = format!("no link to the primary {address}: {reason}; trying again");
        local.log(LogLevel::Warn, &source.name, text);
    }
    note(local, index, LinkState::Connect);
    arm(local, index, pause_ms);
}

fn note(local: &mut Local, index: usize, link: LinkState) {
    let now_ms = local.now.unix_ms;
    if let Some(store) = store(local, index) {
        store.lock(now_ms).instance.replication.on_link(link, now_ms);
    }
}

fn arm(local: &mut Local, index: usize, pause_ms: u64) {
    let now = local.now;
    let runtime = local.instance_at(index).placement.id;
    let timer = local.timers.insert(now, pause_ms, TimerEvent::Upstream { runtime });
    if let Some(old) = upstream(local, index).and_then(|it| it.timer.replace(timer)) {
        local.timers.cancel(old);
    }
}

/// It is time to dial again, or to say how far this replica is.
pub fn on_timer(local: &mut Local, runtime: RuntimeId) {
    let now_ms = local.now.monotonic_ms();
    let Some(&index) = local.index.get(&runtime) else { return };
    let state = local.instance_at(index).cache.as_mut();
    if state.is_some_and(|state| std::mem::take(&mut state.looks_again)) {
        look_at_store(local, runtime);
    }
    let store = local.instance_at(index).cache.as_ref().map(|state| &state.store);
    let log = store.and_then(|store| Some((store.feed_end(), store.own_log_offset()?)));
    let Some(upstream) = upstream(local, index) else { return };
    upstream.timer = None;
    let Some(slot) = upstream.slot else { return dial(local, index) };
    let Some(link) = &mut upstream.link else { return };
    let mut out = Vec::new();
    link.acknowledge(log, &mut out);
    if now_ms.saturating_sub(upstream.heard_ms) > limits::REPLICA_SILENCE_MS {
        return end(local, slot, "nothing came for too long");
    }
    if !out.is_empty() {
        local.send(slot, &out);
    }
    arm(local, index, limits::REPLICA_ACK_MS);
}
