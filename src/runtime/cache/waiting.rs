//! Clients whose command waits, on their worker: stopping, time-outs, going on; and the letters from other workers.

use std::sync::Arc;

use crate::id::{ConnectionId, RuntimeId};
use crate::ring::Driver;
use crate::runtime::connection::{Connection, Role};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::message::ToWorker;
use crate::store::batch::Clients;
use crate::store::output_limits::OutputLimits;

use super::durable;
use super::front::Front;
use super::{CacheTurn, go_on, maintain_soon, mark_dirty, parse_input};

/// From now on the worker gets letters of the instance's store.
pub fn attach(local: &mut Local, index: usize) {
    let (worker, inbox) = (local.worker, Arc::clone(&local.workers[usize::from(local.worker)]));
    let instance = local.instance_at(index);
    let runtime = instance.placement.id;
    if let Some(state) = instance.cache.as_mut() {
        let nudge = Box::new(move || inbox.send(ToWorker::CacheLetters { runtime }));
        state.worker = Some(worker);
        state.mailbox = Some(state.store.attach(worker, nudge));
    }
}

/// There are letters: they are opened now, or by the batch that runs next.
pub fn on_letters(local: &mut Local, driver: &dyn Driver, runtime: RuntimeId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    open_letters(local, driver, index);
    apply(local);
    durable::release(local, index);
}

/// Does what the letters say to the connections' outboxes; [`apply`] does the rest.
pub(super) fn open_letters(local: &mut Local, driver: &dyn Driver, index: usize) {
    let Some(state) = local.instance_at(index).cache.as_ref() else { return };
    let Some(mailbox) = state.mailbox.clone() else { return };
    let limits = state.limits;
    let mut front = front(local, driver, limits);
    for letter in mailbox.take() {
        front.deliver(letter);
    }
}

/// Does what deliveries left to do, when no batch holds the clients' commands any more.
pub(super) fn apply(local: &mut Local) {
    let effects = &mut local.cache.effects;
    let touched = std::mem::take(&mut effects.touched);
    let resumed = std::mem::take(&mut effects.resumed);
    let killed = std::mem::take(&mut effects.killed);
    let slow = std::mem::take(&mut effects.slow);
    let evicted = std::mem::take(&mut effects.evicted);
    for slot in touched {
        let Some(connection) = local.connections.get_mut(slot) else { continue };
        let Role::Cache(client) = &mut connection.role else { continue };
        client.touched = false;
        if client.over_soft_since_ms.is_some() {
            watch_slow(local, slot);
        }
        durable::hold_message(local, slot);
        mark_dirty(local, slot);
    }
    for (slot, wait) in resumed {
        durable::hold(local, slot);
        resume(local, slot, wait);
    }
    for slot in slow {
        if local.connections.get(slot).is_some() {
            local.close_slow(slot);
        }
    }
    for slot in evicted {
        if local.connections.get(slot).is_some() {
            local.close_now(slot);
        }
    }
    for slot in killed {
        if local.connections.get(slot).is_some() {
            local.close_after_flush(slot);
        }
    }
}

/// Closes a client whose replies pile up beyond its class's limit; whether it did.
pub(super) fn is_slow(local: &mut Local, slot: u32, limits: &OutputLimits) -> bool {
    let now_ms = local.now.unix_ms;
    let connection = local.connections.at(slot);
    let Connection { role: Role::Cache(client), outbox, .. } = connection else { return false };
    if client.is_too_slow(outbox.bytes() as u64, limits, now_ms) {
        local.close_slow(slot);
        return true;
    }
    if client.over_soft_since_ms.is_some() {
        watch_slow(local, slot);
    }
    false
}

/// Looks at a client again that has had too much waiting for it for a while, and closes it when it was too long.
fn watch_slow(local: &mut Local, slot: u32) {
    let index = local.connections.at(slot).instance;
    if let Some(state) = local.instance_at(index).cache.as_mut()
        && !state.slow.contains(&slot)
    {
        state.slow.push(slot);
    }
    maintain_soon(local, index);
}

/// Closes the clients that still don't read; whether some are watched on.
pub(super) fn close_slow(local: &mut Local, index: usize) -> bool {
    let now_ms = local.now.unix_ms;
    let Some(state) = local.instance_at(index).cache.as_mut() else { return false };
    let (watched, limits) = (std::mem::take(&mut state.slow), state.limits);
    let mut left = Vec::new();
    for slot in watched {
        let Some(connection) = local.connections.get_mut(slot) else { continue };
        let bytes = connection.outbox.bytes() as u64;
        let is_here = connection.instance == index && connection.is_open();
        let Role::Cache(client) = &mut connection.role else { continue };
        if is_here && client.is_too_slow(bytes, &limits, now_ms) {
            local.close_slow(slot);
        } else if is_here && client.over_soft_since_ms.is_some() {
            left.push(slot);
        }
    }
    let more = !left.is_empty();
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.slow = left;
    }
    more
}

/// The worker's connections, for deliveries.
pub(super) fn front<'a>(
    local: &'a mut Local,
    driver: &'a dyn Driver,
    limits: OutputLimits,
) -> Front<'a> {
    let CacheTurn { held, effects, .. } = &mut local.cache;
    let (worker, now_ms) = (local.worker, local.now.unix_ms);
    Front { connections: &mut local.connections, driver, held, effects, worker, limits, now_ms }
}

/// A client's command waits; the rest of its bytes stay in its input.
pub(super) fn start(local: &mut Local, slot: u32) {
    let now = local.now;
    let connection = local.connections.at(slot);
    let id = connection.id;
    let Role::Cache(client) = &mut connection.role else { return };
    let Some(ticket) = client.session.wait else { return };
    let timer = ticket
        .timeout_ms
        .map(|ms| local.timers.insert(now, ms, TimerEvent::CacheWait { connection: id }));
    client.wait_timer = timer;
}

/// The time of a wait is up; under the store's lock it turns out whether it had ended before.
pub fn on_timer(local: &mut Local, id: ConnectionId) {
    let Some(slot) = local.connections.slot_of(id) else { return };
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let Role::Cache(client) = &mut connection.role else { return };
    client.wait_timer = None;
    let Some(ticket) = client.session.wait else { return };
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.timed_out.push(ticket.number);
    }
    if !local.cache.waiting.contains(&index) {
        local.cache.waiting.push(index);
    }
}

/// A client's wait is over and its reply is in its outbox: its next commands run.
fn resume(local: &mut Local, slot: u32, wait: u64) {
    let Some(connection) = local.connections.get_mut(slot) else { return };
    let Role::Cache(client) = &mut connection.role else { return };
    if client.session.wait.is_none_or(|ticket| ticket.number != wait) {
        return;
    }
    client.session.end_wait();
    if let Some(timer) = client.wait_timer.take() {
        local.timers.cancel(timer);
    }
    // A batch that still knows the client as stopped would pass over its commands.
    client.again |= client.in_batch;
    let may_parse = !client.in_batch && !connection.input.is_empty();
    mark_dirty(local, slot);
    if may_parse {
        parse_input(local, slot);
    }
    local.resume(slot, crate::runtime::connection::Pause::BATCH);
    go_on(local, slot);
}
