//! A cache's regular work on one worker: expiry and memory, clients that have gone, clients that don't read.

use std::sync::Arc;

use crate::id::RuntimeId;
use crate::limits;
use crate::runtime::connection::{Connection, Phase, Role};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::process;
use crate::store::Session;
use crate::store::client_bounds::Buffers;
use crate::store::shared::Upkeep;

use super::{in_batch, waiting};

/// A connection has ended. If it has commands in the batch, it leaves when they have run.
pub fn on_close(local: &mut Local, slot: u32) {
    if !in_batch(local.connections.at(slot)) {
        leave(local, slot);
    }
}

/// A connection that has ended leaves the store, and nothing here keeps it from closing any more.
pub(super) fn leave(local: &mut Local, slot: u32) {
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let Role::Cache(client) = &mut connection.role else { return };
    client.parsed = 0;
    connection.input = Vec::new();
    // The original: what the store's commands put into it must be freed under the store's lock.
    let session = std::mem::replace(&mut client.session, Session::new(0));
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.leaving.push(session);
    }
    all_left(local, index);
    let connection = local.connections.at(slot);
    if connection.phase == Phase::Flushing && !connection.dirty {
        connection.dirty = true;
        local.dirty.push(slot);
    }
    local.finish(slot);
}

/// Tells the store who has left. False, and tried again soon, while somebody holds it.
pub fn all_left(local: &mut Local, index: usize) -> bool {
    let now_ms = local.now.unix_ms;
    let Some(state) = local.instance_at(index).cache.as_mut() else { return true };
    if state.leaving.is_empty() {
        return true;
    }
    let Some(mut held) = state.store.lock_now(now_ms) else {
        maintain_soon(local, index);
        return false;
    };
    state.leaving.drain(..).for_each(|mut session| held.disconnect(&mut session));
    true
}

/// Sets the timer for the regular work.
pub(super) fn maintain_soon(local: &mut Local, index: usize) {
    let now = local.now;
    let instance = local.instance_at(index);
    let runtime = instance.placement.id;
    if let Some(state) = instance.cache.as_mut()
        && !std::mem::replace(&mut state.timed, true)
    {
        local.timers.insert(now, limits::CACHE_MAINTAIN_MS, TimerEvent::Maintain { runtime });
    }
}

/// Regular work: expiry, merging, freeing; more often while there is something to do.
pub fn maintain(local: &mut Local, runtime: RuntimeId) {
    let now = local.now;
    let Some(&index) = local.index.get(&runtime) else { return };
    let slow = waiting::close_slow(local, index);
    let Some(state) = local.instance_at(index).cache.as_mut() else { return };
    let due = now.monotonic_ms() >= state.figures_ms + limits::CACHE_FIGURES_MS;
    if due {
        state.figures_ms = now.monotonic_ms();
    }
    let store = Arc::clone(&state.store);
    let buffers = changed_buffers(local, index);
    let upkeep = store.maintain(now.unix_ms, due.then(process::figures), &buffers);
    if matches!(upkeep, Upkeep::Held) {
        forget_told(local, &buffers);
    }
    let Some(state) = local.instance_at(index).cache.as_mut() else { return };
    let active = std::mem::take(&mut state.active);
    let soon = active || matches!(upkeep, Upkeep::Held | Upkeep::More);
    state.timed = soon || slow || upkeep == Upkeep::Expiries;
    if state.timed {
        let pause_ms =
            if soon { limits::CACHE_MAINTAIN_MS } else { limits::CACHE_MAINTAIN_IDLE_MS };
        local.timers.insert(now, pause_ms, TimerEvent::Maintain { runtime });
    }
    if all_left(local, index) {
        local.check_stopped(index);
    }
}

/// What connections of the cache hold, of those of which that has changed since the store was told.
fn changed_buffers(local: &mut Local, index: usize) -> Vec<Buffers> {
    let mut changed = Vec::new();
    for connection in local.connections.iter_mut() {
        if connection.instance != index {
            continue;
        }
        let output = connection.unsent_bytes();
        let Connection { role: Role::Cache(client), input, .. } = connection else { continue };
        let Some(row) = client.session.row else { continue };
        let queued = client.session.transaction.as_ref().map_or(0, |it| it.bytes);
        let buffers = Buffers { row, id: client.session.id, input: input.len(), output, queued };
        if client.told != buffers {
            client.told = buffers;
            changed.push(buffers);
        }
    }
    changed
}

/// The store was held, so it wasn't told.
fn forget_told(local: &mut Local, buffers: &[Buffers]) {
    if buffers.is_empty() {
        return;
    }
    for connection in local.connections.iter_mut() {
        if let Role::Cache(client) = &mut connection.role {
            client.told = Buffers::default();
        }
    }
}
