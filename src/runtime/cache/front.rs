//! Where a running batch finds its clients, and where what commands do to other connections arrives.

use crate::id::ConnectionId;
use crate::limits;
use crate::ring::Driver;
use crate::store::batch::{Clients, Stop, Turn};
use crate::store::clients::Delivery;

use super::{CacheTurn, HeldBuffer, INPUT};
use crate::runtime::connection::{Connection, Connections, Phase, Role};

/// The worker's connections while a batch runs or letters are opened.
pub(super) struct Front<'a> {
    pub(super) connections: &'a mut Connections,
    pub(super) driver: &'a dyn Driver,
    pub(super) held: &'a [HeldBuffer],
    pub(super) effects: &'a mut Effects,
    pub(super) worker: u8,
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
}

impl<'a> Front<'a> {
    pub(super) fn new(
        connections: &'a mut Connections,
        driver: &'a dyn Driver,
        turn: &'a mut CacheTurn,
        worker: u8,
    ) -> Front<'a> {
        let CacheTurn { held, effects, .. } = turn;
        Front { connections, driver, held, effects, worker }
    }

    fn resume(&mut self, slot: u32, wait: u64, reply: &[u8]) {
        let connection = self.connections.at(slot);
        if connection.phase == Phase::Open {
            connection.outbox.append(reply);
            self.effects.resumed.push((slot, wait));
        }
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
            Delivery::Resume { wait, reply, .. } => self.resume(slot, wait, &reply),
        }
        None
    }
}
