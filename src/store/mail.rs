//! How what a command does to other connections reaches the workers that serve them.
//!
//! Letters are written while the store is held, so their order is the order of the commands. A worker takes its letters
//! before it runs commands of its own in the same store: what a connection is told fits between its replies as if there
//! were one thread. Must not know: sockets, what a worker is beyond its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::clients::Delivery;
use crate::id::ConnectionId;
use crate::limits::MAILBOX_BYTES_MAX;

/// The letters for one worker.
pub struct Mailbox {
    /// There may be letters.
    full: AtomicBool,
    letters: Mutex<Letters>,
    /// Tells the worker that there are letters.
    nudge: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Letters {
    list: Vec<Delivery>,
    /// Of messages, however many share them.
    bytes: usize,
}

/// All mailboxes of a store, by worker.
#[derive(Default)]
pub(super) struct PostOffice {
    boxes: Mutex<Vec<Option<Arc<Mailbox>>>>,
}

impl Mailbox {
    /// Takes all letters, oldest first.
    pub fn take(&self) -> Vec<Delivery> {
        if !self.full.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.letters.lock()).list
    }

    /// Adds letters; whether the worker must be told.
    fn put(&self, delivery: Delivery) -> bool {
        self.letters.lock().add(delivery, MAILBOX_BYTES_MAX);
        !self.full.swap(true, Ordering::AcqRel)
    }
}

impl Letters {
    /// Beyond the bound a message becomes the end of its connection, as in an outbox that nobody empties.
    fn add(&mut self, delivery: Delivery, bytes_max: usize) {
        let delivery = match delivery {
            Delivery::Push { connection, .. } if self.bytes > bytes_max => {
                Delivery::Close { connection }
            }
            Delivery::Push { connection, bytes } => {
                self.bytes += bytes.len();
                Delivery::Push { connection, bytes }
            }
            other => other,
        };
        self.list.push(delivery);
    }
}

impl PostOffice {
    pub(super) fn attach(&self, worker: u8, nudge: Box<dyn Fn() + Send + Sync>) -> Arc<Mailbox> {
        let mailbox =
            Arc::new(Mailbox { full: AtomicBool::new(false), letters: Mutex::default(), nudge });
        let mut boxes = self.boxes.lock();
        let index = usize::from(worker);
        if boxes.len() <= index {
            boxes.resize(index + 1, None);
        }
        boxes[index] = Some(Arc::clone(&mailbox));
        mailbox
    }

    /// Tells all workers that there may be something for their clients.
    pub(super) fn nudge_all(&self) {
        self.boxes.lock().iter().flatten().for_each(|mailbox| (mailbox.nudge)());
    }

    pub(super) fn detach(&self, worker: u8) {
        if let Some(place) = self.boxes.lock().get_mut(usize::from(worker)) {
            *place = None;
        }
    }

    /// Whether nobody takes letters here: then they stay where they are.
    pub(super) fn is_closed(&self) -> bool {
        self.boxes.lock().iter().all(Option::is_none)
    }

    /// Puts letters into the boxes of their workers; the boxes whose workers must be told. A letter to a worker that
    /// doesn't serve the store any more is for a connection that is gone.
    pub(super) fn post(&self, deliveries: Vec<Delivery>) -> Vec<Arc<Mailbox>> {
        let boxes = self.boxes.lock();
        let mut fresh = Vec::new();
        for delivery in deliveries {
            let worker = ConnectionId::from_bits(delivery.connection()).map(ConnectionId::worker);
            let mailbox = worker.and_then(|worker| boxes.get(usize::from(worker))?.as_ref());
            if let Some(mailbox) = mailbox
                && mailbox.put(delivery)
            {
                fresh.push(Arc::clone(mailbox));
            }
        }
        fresh
    }
}

/// Tells the workers of these boxes; not while the store is held.
pub(super) fn nudge(boxes: &[Arc<Mailbox>]) {
    boxes.iter().for_each(|mailbox| (mailbox.nudge)());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_nobody_takes_are_bounded() {
        let mut letters = Letters::default();
        let push = |connection| Delivery::Push { connection, bytes: Arc::from(&b"12345"[..]) };
        (1..=4).for_each(|connection| letters.add(push(connection), 9));
        let close = |connection| Delivery::Close { connection };
        assert_eq!(letters.list, [push(1), push(2), close(3), close(4)]);
        assert_eq!(letters.bytes, 10);
    }
}
