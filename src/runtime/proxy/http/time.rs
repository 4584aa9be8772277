//! How long clients and backends may take.
//!
//! One timer a client's connection, armed for what comes soonest when a wait begins and looked at again when it fires:
//! a request that is answered at once touches no timer.

use crate::id::RuntimeId;
use crate::limits;
use crate::runtime::connection::Phase;
use crate::runtime::local::{Local, TimerEvent};

use super::{Front, Stage, back_of, dispatch, front, front_at, requests};

/// What is waited for, and until when, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The next request.
    Idle(u64),
    /// The rest of a head.
    Head(u64),
    /// The app's decision, which has a limit of its own.
    Route,
    /// A backend's connection, its answer, or the next bytes of either side.
    Backend(u64),
}

fn wait_of(front: &Front, settings: &crate::runtime::proxy::Settings) -> Wait {
    let changed_ms = front.exchange.changes.as_ref().and_then(|changes| changes.timeout_ms);
    let total = match changed_ms.unwrap_or(settings.total_ms) {
        0 => u64::MAX,
        ms => front.exchange.start_ns / 1_000_000 + ms,
    };
    match front.stage {
        Stage::Idle if front.head_since_ms > 0 => {
            Wait::Head(front.head_since_ms + limits::HTTP_HEAD_MS)
        }
        Stage::Idle => Wait::Idle(front.moved_ms + limits::HTTP_IDLE_MS),
        Stage::Routing => Wait::Route,
        Stage::Queued => Wait::Backend(total.min(front.moved_ms + settings.queue_ms)),
        // The dial has a limit of its own.
        Stage::Connecting => {
            Wait::Backend(total.min(front.moved_ms + settings.connect_ms + settings.response_ms))
        }
        Stage::Exchanging if front.exchange.is_answered || front.reader.is_in_body() => {
            Wait::Backend(total.min(front.moved_ms + settings.idle_ms))
        }
        Stage::Exchanging => Wait::Backend(total.min(front.moved_ms + settings.response_ms)),
    }
}

/// Sees to it that what is waited for now has its time.
pub(super) fn watch(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    let index = local.connections.at(slot).instance;
    let source = local.instance_at(index).config_arc();
    let Some(front) = front_at(local, slot) else { return };
    if front.stage == Stage::Idle && front.reader.has_begun_head() && front.head_since_ms == 0 {
        front.head_since_ms = now_ms;
    }
    match wait_of(front, &source.proxy) {
        Wait::Idle(at_ms) | Wait::Head(at_ms) | Wait::Backend(at_ms) => arm(local, slot, at_ms),
        Wait::Route => {}
    }
}

/// Sees to it that the timer fires at `deadline_ms` or before.
pub(super) fn arm(local: &mut Local, slot: u32, deadline_ms: u64) {
    let now = local.now;
    let connection = local.connections.at(slot);
    let event = TimerEvent::Proxy { connection: connection.id };
    let Some(front) = front(connection) else { return };
    if front.timer.is_some_and(|(_, at_ms)| at_ms <= deadline_ms) {
        return;
    }
    let old = front.timer.take();
    let delay_ms = deadline_ms.saturating_sub(now.monotonic_ms()).max(1);
    let new = local.timers.insert(now, delay_ms, event);
    if let Some((old, _)) = old {
        local.timers.cancel(old);
    }
    if let Some(front) = front_at(local, slot) {
        front.timer = Some((new, deadline_ms));
    }
}

/// The timer has fired.
pub fn on_timer(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    let connection = local.connections.at(slot);
    if connection.phase != Phase::Open {
        return;
    }
    let index = connection.instance;
    let source = local.instance_at(index).config_arc();
    let Some(front) = front_at(local, slot) else { return };
    front.timer = None;
    match wait_of(front, &source.proxy) {
        Wait::Idle(at_ms) if now_ms >= at_ms => {
            front.is_closing = true;
            local.close_after_flush(slot);
        }
        Wait::Head(at_ms) if now_ms >= at_ms => requests::refuse(local, slot, 408),
        Wait::Backend(at_ms) if now_ms >= at_ms => late(local, slot),
        Wait::Idle(at_ms) | Wait::Head(at_ms) | Wait::Backend(at_ms) => arm(local, slot, at_ms),
        Wait::Route => arm(local, slot, now_ms + source.proxy.response_ms),
    }
}

/// One side hasn't moved for too long: the client, if its body is what is waited for and it could be sent on.
fn late(local: &mut Local, slot: u32) {
    let is_backend_full = back_of(local, slot)
        .is_some_and(|back| local.connections.at(back).outbox.bytes() > limits::OUTBOX_LOW_BYTES);
    let Some(front) = front_at(local, slot) else { return };
    if front.stage == Stage::Queued {
        return requests::refuse(local, slot, 503);
    }
    let is_client = front.stage == Stage::Exchanging
        && front.reader.is_in_body()
        && !front.exchange.is_answered
        && !is_backend_full;
    if !is_client && !front.exchange.is_answered {
        dispatch::failed(local, slot, "it doesn't answer in time");
    }
    dispatch::release(local, slot, false);
    requests::refuse(local, slot, if is_client { 408 } else { 504 });
}

/// Has a runtime's kept connections looked through from time to time.
pub(super) fn tend_later(local: &mut Local, index: usize) {
    let now = local.now;
    let instance = local.instance_at(index);
    if std::mem::replace(&mut instance.proxy.tends, true) {
        return;
    }
    let runtime = instance.placement.id;
    local.timers.insert(now, limits::PROXY_TEND_MS, TimerEvent::Tend { runtime });
}

/// Closes what has been kept for long.
pub fn tend(local: &mut Local, runtime: RuntimeId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    let since_ms = local.now.monotonic_ms().saturating_sub(limits::PROXY_KEPT_MS);
    let instance = local.instance_at(index);
    instance.proxy.tends = false;
    let old = instance.proxy.take_older(since_ms);
    let goes_on = instance.proxy.has_kept();
    dispatch::drop_kept(local, old);
    if goes_on {
        tend_later(local, index);
    }
}
