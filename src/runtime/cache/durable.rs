//! Replies that leave only when what they tell is on disk (`appendfsync always`).
//!
//! After each batch its clients' output waits for the feed's end at that moment; so does what other workers' commands bring.
//! One fsync lets all go whose offset it has passed. A client that is waiting and sends more waits for the later offset, until
//! its output is so much that its commands wait, too.

use crate::runtime::connection::Phase;
use crate::runtime::local::Local;

/// Holds back the output of the batch that has run; while the disk fails only if it wrote.
pub(super) fn hold_batch(local: &mut Local, index: usize, wrote: bool) {
    let Some(state) = local.instance_at(index).cache.as_ref() else { return };
    if state.store.disk_fails() && !wrote {
        return;
    }
    let slots = state.clients.clone();
    slots.into_iter().for_each(|slot| hold(local, slot));
    release(local, index);
}

/// Holds back a client's output until all changes up to now are on disk.
pub(super) fn hold(local: &mut Local, slot: u32) {
    let Some(connection) = local.connections.get_mut(slot) else { return };
    let (index, id) = (connection.instance, connection.id);
    let Some(state) = local.instances[index].as_mut().and_then(|it| it.cache.as_mut()) else {
        return;
    };
    let offset = state.store.feed_end();
    if !state.store.waits_for_disk() || state.store.safe_offset() >= offset {
        return;
    }
    connection.disk_offset = offset;
    match state.unsafe_replies.back_mut() {
        Some((last, ids)) if *last == offset => ids.push(id),
        _ => state.unsafe_replies.push_back((offset, vec![id])),
    }
}

/// The same for a message that the client didn't ask for; it goes out while the disk fails.
pub(super) fn hold_message(local: &mut Local, slot: u32) {
    let Some(connection) = local.connections.get(slot) else { return };
    let state = local.instances[connection.instance].as_ref().and_then(|it| it.cache.as_ref());
    if state.is_some_and(|state| !state.store.disk_fails()) {
        hold(local, slot);
    }
}

/// Lets the output go that waited for what is on disk now.
pub(super) fn release(local: &mut Local, index: usize) {
    let Some(state) = local.instance_at(index).cache.as_mut() else { return };
    let waits = state.store.waits_for_disk();
    let safe = if waits { state.store.safe_offset() } else { u64::MAX };
    let mut free = Vec::new();
    while state.unsafe_replies.front().is_some_and(|(offset, _)| *offset <= safe) {
        free.extend(state.unsafe_replies.pop_front().map(|(_, ids)| ids).unwrap_or_default());
    }
    for id in free {
        let Some(slot) = local.connections.slot_of(id) else { continue };
        let connection = local.connections.at(slot);
        if connection.disk_offset > safe {
            continue;
        }
        connection.disk_offset = 0;
        let has_output = connection.unsent_bytes() > 0 || connection.phase == Phase::Flushing;
        if has_output && !connection.dirty {
            connection.dirty = true;
            local.dirty.push(slot);
        }
    }
}
