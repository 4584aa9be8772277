//! Where a running batch finds its clients, and where what commands do to other connections arrives.

use std::sync::Arc;

use crate::id::ConnectionId;
use crate::limits;
use crate::ring::Driver;
use crate::store::batch::{Clients, Stop, Turn};
use crate::store::clients::Delivery;
use crate::store::output_limits::OutputLimits;
use crate::store::session::State;

use super::{CacheClient, HeldBuffer, INPUT};
use crate::runtime::connection::{Connection, Connections, Phase, Role};

/// The worker's connections while a batch runs or letters are opened.
pub(super) struct Front<'a> {
    pub(super) connections: &'a mut Connections,
    pub(super) driver: &'a dyn Driver,
    pub(super) held: &'a [HeldBuffer],
    pub(super) effects: &'a mut Effects,
    pub(super) worker: u8,
    pub(super) limits: OutputLimits,
    pub(super) now_ms: u64,
}

/// What is to be done to connections when the batch has run.
#[derive(Default)]
pub(super) struct Effects {
    /// Clients that stopped.
    pub(super) stops: Vec<(u32, Stop)>,
    /// Connections that got bytes from elsewhere.
    pub(super) touched: Vec<u32>,
    /// Clients whose wait is over, by its number.
    pub(super) resumed: Vec<(u32, u64)>,
    /// Connections that somebody ended.
    pub(super) killed: Vec<u32>,
    /// Connections that end at once for want of memory.
    pub(super) evicted: Vec<u32>,
    /// Connections that don't read what they are sent.
    pub(super) slow: Vec<u32>,
}

impl<'a> Front<'a> {
    /// Appends a message that the client didn't ask for just now; one that reads too slowly gets no more.
    fn push(&mut self, slot: u32, bytes: &Arc<[u8]>) {
        let connection = self.connections.at(slot);
        let Connection { role: Role::Cache(client), outbox, phase, .. } = connection else {
            return;
        };
        if *phase != Phase::Open || client.slow {
            return;
        }
        outbox.append_shared(bytes);
        let bytes = outbox.bytes();
        if bytes > limits::OUTBOX_PUSH_MAX_BYTES
            || client.is_too_slow(bytes as u64, &self.limits, self.now_ms)
        {
            client.slow = true;
            self.effects.slow.push(slot);
        } else if !std::mem::replace(&mut client.touched, true) {
            self.effects.touched.push(slot);
        }
    }

    fn resume(&mut self, slot: u32, wait: u64, reply: &[u8]) {
        let connection = self.connections.at(slot);
        if connection.phase == Phase::Open {
            connection.outbox.append(reply);
            self.effects.resumed.push((slot, wait));
        }
    }
}

impl CacheClient {
    /// Whether so many waiting bytes are too many for the client's class.
    pub(super) fn is_too_slow(&mut self, bytes: u64, limits: &OutputLimits, now_ms: u64) -> bool {
        let limit = match self.session.state {
            state if state.has(State::REPLICA) => limits.replica,
            state if state.has(State::SUBSCRIBED) => limits.pubsub,
            _ => limits.normal,
        };
        let over_soft = limit.soft_bytes > 0 && bytes > limit.soft_bytes;
        let since_ms = match (over_soft, self.over_soft_since_ms) {
            (true, None) => Some(now_ms),
            (true, since_ms) => since_ms,
            (false, _) => None,
        };
        self.over_soft_since_ms = since_ms;
        let waited_ms = since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        (over_soft && waited_ms > limit.soft_seconds.saturating_mul(1000))
            || (limit.hard_bytes > 0 && bytes > limit.hard_bytes)
    }
}

impl Clients for Front<'_> {
    fn client(&mut self, client: u32, source: u32) -> Turn<'_> {
        let connection = self.connections.at(client);
        let Connection { role: Role::Cache(client), outbox, input, .. } = connection else {
            unreachable!("only a cache's connections are in its batch");
        };
        let bytes = if source < INPUT {
            self.driver.received(&self.held[source as usize].received)
        } else {
            &input[(source - INPUT) as usize..]
        };
        let total = outbox.bytes();
        let out = outbox.tail();
        let out_bytes_max = limits::OUTBOX_HIGH_BYTES.saturating_sub(total - out.len());
        Turn { session: &mut client.session, out, out_bytes_max, bytes }
    }

    fn stop(&mut self, client: u32, stop: Stop) {
        self.effects.stops.push((client, stop));
    }

    fn deliver(&mut self, delivery: Delivery) -> Option<Delivery> {
        let id = ConnectionId::from_bits(delivery.connection())?;
        if id.worker() != self.worker {
            return Some(delivery);
        }
        let slot = self.connections.slot_of(id)?;
        match delivery {
            Delivery::Close { .. } => self.effects.killed.push(slot),
            Delivery::Evict { .. } => self.effects.evicted.push(slot),
            Delivery::Push { bytes, .. } => self.push(slot, &bytes),
            Delivery::Resume { wait, reply, .. } => self.resume(slot, wait, &reply),
        }
        None
    }
}
