//! What happens to messages for a peer that doesn't read fast enough: the connection closes at its bound (the outbox
//! sees to that), or, if its runtime wants that, the oldest messages are dropped.
//!
//! Bytes in an outbox can't be dropped any more: a frame may be half sent. So a connection that drops keeps most of its
//! messages here, each by itself, and its outbox is fed from here as it empties.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits;
use crate::ring::Chunk;
use crate::runtime::connection::Phase;
use crate::runtime::local::Local;
use crate::runtime::stats::StatsCell;

/// Messages behind those in the outbox, oldest first.
#[derive(Debug, Default)]
pub struct Backlog {
    messages: VecDeque<Chunk>,
    bytes: usize,
}

impl Local {
    /// Sends framed messages over a connection that has a backlog; older ones may go for them.
    pub fn send_droppable(&mut self, slot: u32, message: Chunk) {
        let worker = self.worker;
        let connection = self.connections.at(slot);
        let (queued, most) = (connection.outbox.bytes(), connection.backlog_bytes_max);
        let Some(backlog) = &mut connection.backlog else { return };
        backlog.bytes += message.bytes().len();
        backlog.messages.push_back(message);
        let mut dropped = 0;
        // The newest stays whatever its size.
        while backlog.bytes + queued > most
            && backlog.messages.len() > 1
            && let Some(oldest) = backlog.messages.pop_front()
        {
            backlog.bytes -= oldest.bytes().len();
            dropped += 1;
        }
        let index = connection.instance;
        StatsCell::add(&self.instance_at(index).cell(worker).dropped, dropped);
        self.feed(slot, false);
    }

    /// Moves messages into the outbox until it has enough to send, or all of them.
    pub fn feed(&mut self, slot: u32, all: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let enough = limits::BACKLOG_FEED_BYTES.min(connection.backlog_bytes_max / 2);
        let wanted = if all { usize::MAX } else { enough };
        let Some(backlog) = &mut connection.backlog else { return };
        if backlog.messages.is_empty() || connection.phase != Phase::Open {
            return;
        }
        while connection.outbox.bytes() < wanted
            && let Some(message) = backlog.messages.pop_front()
        {
            backlog.bytes -= message.bytes().len();
            match message {
                Chunk::Owned(bytes) => connection.outbox.append_owned(bytes),
                Chunk::Shared(bytes) => connection.outbox.append_shared(&bytes),
            }
        }
        self.mark_dirty(slot);
    }
}

/// A copy of bytes that are many connections', or a share of them.
pub fn chunk(bytes: &[u8], shared: Option<&Arc<[u8]>>) -> Chunk {
    shared.map_or_else(|| Chunk::Owned(bytes.to_vec()), |bytes| Chunk::Shared(Arc::clone(bytes)))
}
