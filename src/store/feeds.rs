//! Listeners in this process: an app's `pubsub.on` as a bounded queue, beside the clients that subscribed.
//!
//! A message is copied once for all listeners. When a queue is full the newest message is dropped and counted: what is
//! published never waits for an app. Must not know: Lua, workers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::hooks::{Nudge, Tell};
use super::pubsub::Scope;
use super::{Store, meter};
use crate::limits::{FEED_BYTES_MAX, FEED_MESSAGES_MAX};

/// What was published.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// On which channel.
    pub channel: Box<[u8]>,
    /// What.
    pub text: Box<[u8]>,
}

/// One listener's queue.
pub struct Feed {
    queue: Mutex<Queue>,
    dropped: AtomicU64,
    tell: Tell,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    /// The listener has been told and hasn't emptied the queue since.
    told: bool,
}

impl Feed {
    /// An empty queue; `tell` says, on any thread, that there is something in it.
    pub fn new(tell: Tell) -> Arc<Feed> {
        Arc::new(Feed { queue: Mutex::default(), dropped: AtomicU64::new(0), tell })
    }

    /// Takes the first messages, at most so many. The listener is told of new ones when it has taken all; whether it has.
    pub fn take(&self, count_max: usize) -> (Vec<Arc<Message>>, bool) {
        let mut queue = self.queue.lock();
        let count = queue.messages.len().min(count_max);
        let taken: Vec<Arc<Message>> = queue.messages.drain(..count).collect();
        queue.bytes -= taken.iter().map(|message| message.bytes()).sum::<usize>();
        let is_empty = queue.messages.is_empty();
        queue.told = !is_empty;
        (taken, is_empty)
    }

    /// Messages that found no room so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn put(&self, message: &Arc<Message>, nudges: &mut Vec<Nudge>) {
        let mut queue = self.queue.lock();
        let full = queue.messages.len() >= FEED_MESSAGES_MAX
            || queue.bytes + message.bytes() > FEED_BYTES_MAX;
        if full {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        meter::outside(|| {
            queue.bytes += message.bytes();
            queue.messages.push_back(Arc::clone(message));
            if !std::mem::replace(&mut queue.told, true) {
                let tell = Arc::clone(&self.tell);
                nudges.push(Box::new(move || tell()));
            }
        });
    }
}

impl Store {
    /// An app listens to a channel, or to all that fit a pattern; the row to end it by.
    pub fn listen(&mut self, scope: Scope, name: &[u8], feed: Arc<Feed>) -> u32 {
        self.instance.pubsub.listen(scope, name, feed)
    }

    /// It listens no more.
    pub fn unlisten(&mut self, row: u32) {
        self.instance.pubsub.unlisten(row);
    }
}

impl Message {
    fn bytes(&self) -> usize {
        size_of::<Message>() + self.channel.len() + self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_the_newest_and_counts() {
        let feed = Feed::new(Arc::new(|| {}));
        let message = |text: &str| {
            let (channel, text) = (b"c"[..].into(), text.as_bytes().into());
            Arc::new(Message { channel, text })
        };
        let mut nudges = Vec::new();
        for index in 0..FEED_MESSAGES_MAX + 3 {
            feed.put(&message(&index.to_string()), &mut nudges);
        }
        assert_eq!((feed.dropped(), nudges.len()), (3, 1), "told once");
        let (taken, is_empty) = feed.take(2);
        assert_eq!((&*taken[0].text, &*taken[1].text, is_empty), (&b"0"[..], &b"1"[..], false));
        feed.put(&message("more"), &mut nudges);
        assert_eq!(nudges.len(), 1, "whoever has more to take isn't told");
        let (rest, is_empty) = feed.take(usize::MAX);
        assert_eq!((rest.len(), is_empty), (FEED_MESSAGES_MAX - 1, true));
        feed.put(&message("again"), &mut nudges);
        assert_eq!(nudges.len(), 2);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let feed = Feed::new(Arc::new(|| {}));
        let large = Arc::new(Message {
            channel: b"c"[..].into(),
            text: vec![0; FEED_BYTES_MAX / 2].into(),
        });
        let mut nudges = Vec::new();
        (0..4).for_each(|_| feed.put(&large, &mut nudges));
        assert_eq!(feed.dropped(), 3);
    }
}
