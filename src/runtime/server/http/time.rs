//! How long a peer may take: for a head, a body, between requests, and to read its answers.
//!
//! One timer a connection, armed for what comes soonest when a wait begins and looked at again when it fires, so that a
//! request that is read and answered at once touches no timer.

use crate::limits;
use crate::runtime::connection::Phase;
use crate::runtime::local::{Local, TimerEvent};

use super::intake::{self, Intake};
use super::state;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The app, or the peer that reads.
    Answer,
}

/// A body is waited for from now on.
pub(super) fn begin_body(http: &mut super::Http, now_ms: u64) {
    (http.body_since_ms, http.body_bytes) = (now_ms, http.seen_bytes);
}

fn wait_of(http: &super::Http) -> Wait {
    let is_read = match &http.intake {
        Intake::Stream(stream) => stream.task.is_some(),
        _ => true,
    };
    if http.reader.is_in_body() && is_read {
        Wait::Body
    } else if http.is_answering() {
        Wait::Answer
    } else if http.reader.has_begun_head() {
        Wait::Head
    } else {
        Wait::Idle
    }
}

/// After bytes were read: a head or body that isn't complete has its time.
pub(super) fn watch(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    let Some(index) = local.connections.get(slot).map(|connection| connection.instance) else {
        return;
    };
    let times = local.instance_at(index).config().http.times;
    let Some(http) = state(local.connections.at(slot)) else { return };
    let span_ms = match wait_of(http) {
        Wait::Idle => return,
        Wait::Head => {
            if http.head_since_ms == 0 {
                http.head_since_ms = now_ms;
            }
            times.head_ms
        }
        Wait::Body => times.body_ms,
        Wait::Answer => times.write_ms,
    };
    arm(local, slot, now_ms + span_ms);
}

/// Sees to it that the timer fires at `deadline_ms` or before.
pub(super) fn arm(local: &mut Local, slot: u32, deadline_ms: u64) {
    let now = local.now;
    let connection = local.connections.at(slot);
    let event = TimerEvent::Http { connection: connection.id };
    let Some(http) = state(connection) else { return };
    if http.timer.is_some_and(|(_, at_ms)| at_ms <= deadline_ms) {
        return;
    }
    let old = http.timer.take();
    let delay_ms = deadline_ms.saturating_sub(now.monotonic_ms());
    let new = local.timers.insert(now, delay_ms, event);
    if let Some((old, _)) = old {
        local.timers.cancel(old);
    }
    if let Some(http) = state(local.connections.at(slot)) {
        http.timer = Some((new, deadline_ms));
    }
}

/// The connection has ended: its timer isn't wanted any more.
pub fn on_close(local: &mut Local, slot: u32) {
    let http = state(local.connections.at(slot));
    if let Some((timer, _)) = http.and_then(|http| http.timer.take()) {
        local.timers.cancel(timer);
    }
}

/// The timer has fired.
pub fn on_timer(local: &mut Local, slot: u32) {
    let now_ms = local.now.monotonic_ms();
    let connection = local.connections.at(slot);
    if connection.phase != Phase::Open {
        return;
    }
    let (is_parked, index) = (connection.parked, connection.instance);
    let times = local.instance_at(index).config().http.times;
    let connection = local.connections.at(slot);
    let unsent = connection.outbox.bytes() as u64;
    let Some(http) = state(connection) else { return };
    http.timer = None;
    let mut wait = wait_of(http);
    if wait == Wait::Body && is_parked && !matches!(http.intake, Intake::Stream(_)) {
        // It isn't read because an earlier request's handler waits.
        wait = Wait::Answer;
    }
    let next_ms = match wait {
        Wait::Idle if now_ms >= http.since_ms + times.idle_ms => {
            return local.close_after_flush(slot);
        }
        Wait::Idle => http.since_ms + times.idle_ms,
        Wait::Head if now_ms >= http.head_since_ms + times.head_ms => {
            return intake::close_with(local, slot, 408);
        }
        Wait::Head => http.head_since_ms + times.head_ms,
        Wait::Body if now_ms < http.body_since_ms + times.body_ms => {
            http.body_since_ms + times.body_ms
        }
        Wait::Body if http.seen_bytes < http.body_bytes + limits::HTTP_BODY_CHECK_BYTES => {
            if intake::break_stream(local, slot) {
                return;
            }
            return intake::close_with(local, slot, 408);
        }
        Wait::Body => {
            (http.body_since_ms, http.body_bytes) = (now_ms, http.seen_bytes);
            now_ms + times.body_ms
        }
        Wait::Answer if unsent > 0 && unsent >= http.unsent_bytes && http.unsent_bytes > 0 => {
            return local.close_now(slot);
        }
        Wait::Answer => {
            http.unsent_bytes = unsent;
            now_ms + times.write_ms
        }
    };
    arm(local, slot, next_ms);
}
