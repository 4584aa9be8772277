//! Waiting without blocking: questions to workers with a deadline, timers, and one operation at a time per name.
//!
//! Must not know: what is asked.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::Manager;
use super::verbs::Request;
use crate::limits::{COMMAND_WAIT_MS_MAX, OPERATIONS_PER_NAME_MAX, WORKER_ANSWER_MS};
use crate::runtime::message::{FromWorker, ToWorker};

/// What came of a question.
pub(super) struct Replies {
    /// In the order of arrival.
    pub list: Vec<FromWorker>,
    /// Workers that didn't answer in time.
    pub missing: usize,
}

type Continue = Box<dyn FnOnce(&mut Manager, Replies)>;
type Operation = Box<dyn FnOnce(&mut Manager)>;

struct Wait {
    left: usize,
    deadline_ms: u64,
    replies: Vec<FromWorker>,
    then: Continue,
}

/// Everything that waits.
#[derive(Default)]
pub(super) struct Asked {
    last_request: u64,
    waits: BTreeMap<u64, Wait>,
    timers: Vec<(u64, Operation)>,
    /// Names that an operation works on, and the operations that wait for them.
    locks: BTreeMap<String, VecDeque<Operation>>,
}

impl Asked {
    /// A number for a request, never used before.
    pub fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// The earliest deadline.
    pub fn deadline_ms(&self) -> Option<u64> {
        let waits = self.waits.values().map(|wait| wait.deadline_ms);
        waits.chain(self.timers.iter().map(|(at_ms, _)| *at_ms)).min()
    }
}

impl Manager {
    /// Sends a message to each of `workers` and goes on when all have answered or [`WORKER_ANSWER_MS`] are over.
    pub(super) fn ask(
        &mut self,
        workers: &[u8],
        message: impl Fn(u64, u8) -> ToWorker,
        then: impl FnOnce(&mut Manager, Replies) + 'static,
    ) {
        self.ask_for(WORKER_ANSWER_MS, workers, message, then);
    }

    /// The same with another deadline.
    pub(super) fn ask_for(
        &mut self,
        wait_ms: u64,
        workers: &[u8],
        message: impl Fn(u64, u8) -> ToWorker,
        then: impl FnOnce(&mut Manager, Replies) + 'static,
    ) {
        let request = self.expect_replies(wait_ms, workers.len(), then);
        for worker in workers {
            self.tell(*worker, message(request, *worker));
        }
    }

    /// Goes on when `count` replies with the answered number have come, at once if none are wanted.
    pub(super) fn expect_replies(
        &mut self,
        wait_ms: u64,
        count: usize,
        then: impl FnOnce(&mut Manager, Replies) + 'static,
    ) -> u64 {
        let request = self.asked.next_request();
        if count == 0 {
            then(self, Replies { list: Vec::new(), missing: 0 });
            return request;
        }
        let deadline_ms = self.setup.now.monotonic_ms() + wait_ms;
        let wait = Wait { left: count, deadline_ms, replies: Vec::new(), then: Box::new(then) };
        self.asked.waits.insert(request, wait);
        request
    }

    /// A reply; one that comes after its deadline is dropped.
    pub(super) fn on_reply(&mut self, request: u64, reply: Option<FromWorker>) {
        let Some(wait) = self.asked.waits.get_mut(&request) else { return };
        wait.replies.extend(reply);
        wait.left -= 1;
        if wait.left == 0
            && let Some(wait) = self.asked.waits.remove(&request)
        {
            (wait.then)(self, Replies { list: wait.replies, missing: 0 });
        }
    }

    /// Runs `operation` after `delay_ms`.
    pub(super) fn after(&mut self, delay_ms: u64, operation: impl FnOnce(&mut Manager) + 'static) {
        let at_ms = self.setup.now.monotonic_ms() + delay_ms;
        self.asked.timers.push((at_ms, Box::new(operation)));
    }

    /// `wait {ms}`: answers null when that time is over. For commands that go on: a script has `sleep`.
    pub(super) fn verb_wait(&mut self, request: Request) {
        match request.arguments.number("ms") {
            Err(error) => request.answer.give(Err(error)),
            Ok(ms) => self.after(ms.unwrap_or(0).min(COMMAND_WAIT_MS_MAX), move |_| {
                request.answer.give(Ok(Value::Null));
            }),
        }
    }

    /// Goes on with everything whose deadline is over.
    pub(super) fn end_waits(&mut self) {
        let now_ms = self.setup.now.monotonic_ms();
        let late: Vec<u64> = self
            .asked
            .waits
            .iter()
            .filter(|(_, wait)| wait.deadline_ms <= now_ms)
            .map(|(request, _)| *request)
            .collect();
        for request in late {
            if let Some(wait) = self.asked.waits.remove(&request) {
                (wait.then)(self, Replies { list: wait.replies, missing: wait.left });
            }
        }
        let timers = std::mem::take(&mut self.asked.timers);
        let (due, later): (Vec<_>, Vec<_>) =
            timers.into_iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.asked.timers = later;
        for (_, operation) in due {
            operation(self);
        }
    }

    /// Runs `operation` when no other one works on `key`. It must end in [`Manager::unlock`].
    ///
    /// An operation beyond [`OPERATIONS_PER_NAME_MAX`] is dropped, whereby its answer is an error.
    pub(super) fn lock(&mut self, key: &str, operation: impl FnOnce(&mut Manager) + 'static) {
        match self.asked.locks.get_mut(key) {
            None => {
                self.asked.locks.insert(key.to_owned(), VecDeque::new());
                operation(self);
            }
            Some(waiting) if waiting.len() < OPERATIONS_PER_NAME_MAX => {
                waiting.push_back(Box::new(operation));
            }
            Some(_) => {}
        }
    }

    /// The operation on `key` has ended; the next one may begin.
    pub(super) fn unlock(&mut self, key: &str) {
        match self.asked.locks.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(next)) => next(self),
            Some(None) => {
                self.asked.locks.remove(key);
            }
            None => debug_assert!(false, "{key} was unlocked twice"),
        }
    }
}
