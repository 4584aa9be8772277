//! Pings for WebSockets that are silent, and the end of those that don't answer.
//!
//! One timer for each runtime and worker looks at all its WebSockets: an idle one costs no timer of its own.

use super::send_control;
use crate::id::RuntimeId;
use crate::limits;
use crate::log::LogLevel;
use crate::proto::websocket::frame::Opcode;
use crate::runtime::connection::{Phase, ProtocolState};
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::stats::StatsCell;

/// Has the runtime's WebSockets on this worker looked after, if they aren't already.
pub(super) fn keep_alive(local: &mut Local, index: usize) {
    let now = local.now;
    let instance = local.instance_at(index);
    let (ping_ms, runtime) = (instance.config().websocket.ping_ms, instance.placement.id);
    if ping_ms > 0 && !std::mem::replace(&mut instance.pings, true) {
        let period_ms = period_ms(ping_ms, instance.config().websocket.ping_timeout_ms);
        local.timers.insert(now, period_ms, TimerEvent::Ping { runtime });
    }
}

/// Fine enough for both times, and never often.
fn period_ms(ping_ms: u64, timeout_ms: u64) -> u64 {
    (ping_ms.min(timeout_ms) / 4).max(limits::WEBSOCKET_PING_PERIOD_MS_MIN)
}

/// Pings who has been silent for long, and closes who hasn't answered one.
pub fn on_ping_timer(local: &mut Local, runtime: RuntimeId) {
    let now_ms = local.now.monotonic_ms();
    let Some(&index) = local.index.get(&runtime) else { return };
    let instance = local.instance_at(index);
    instance.pings = false;
    let settings = &instance.config().websocket;
    let (ping_ms, timeout_ms) = (settings.ping_ms, settings.ping_timeout_ms);
    let members = std::mem::take(&mut instance.members);
    let mut some = false;
    for &slot in &members {
        let connection = local.connections.at(slot);
        let is_open = connection.phase == Phase::Open;
        let ProtocolState::WebSocket(socket) = &mut connection.protocol else { continue };
        some = true;
        if !is_open || ping_ms == 0 {
            continue;
        }
        if socket.pinged_ms > 0 && now_ms - socket.pinged_ms >= timeout_ms {
            local.close_silent(slot);
        } else if socket.pinged_ms == 0 && now_ms - socket.heard_ms >= ping_ms {
            socket.pinged_ms = now_ms.max(1);
            send_control(local, slot, Opcode::Ping, b"");
        }
    }
    local.instance_at(index).members = members;
    if some {
        keep_alive(local, index);
    }
}

impl Local {
    /// Closes a connection whose peer doesn't answer.
    fn close_silent(&mut self, slot: u32) {
        let worker = self.worker;
        let connection = self.connections.at(slot);
        let (index, id) = (connection.instance, connection.id.bits());
        let instance = self.instance_at(index);
        StatsCell::add(&instance.cell(worker).silent_closed, 1);
        let config = instance.config_arc();
        self.log(LogLevel::Warn, &config.name, format!("connection {id} closed: no pong"));
        self.close_now(slot);
    }
}
