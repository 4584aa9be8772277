//! A cache's events, channels' messages and answers of `on_miss` on their way into a VM.

use super::AppVm;
use crate::id::RuntimeId;
use crate::lua::leaves::{done, kind};
use crate::store::hooks::{Asked, Batch, HookEvent, HookKind, HookValue};

impl AppVm {
    /// Something happened to a key of a cache.
    pub fn on_hook(&mut self, runtime: RuntimeId, event: &HookEvent) {
        let what = match event.kind {
            HookKind::Expired => 0,
            HookKind::Evicted => 1,
            HookKind::Written => 2,
            HookKind::Deleted => 3,
        };
        let (form, value): (u32, &[u8]) = match &event.value {
            HookValue::Absent => (0, &[]),
            HookValue::Text(text) => (1, text),
            HookValue::Collection(reply) => (2, reply),
            HookValue::TooLarge => (3, &[]),
        };
        let ttl_ms = event.ttl_ms.map_or(-1.0, |ttl_ms| ttl_ms as f64);
        let command_len = event.command.len() as u32;
        let arg = what | form << 2 | u32::from(event.database) << 4 | command_len << 8;
        let Some(index) = self.index_of(runtime) else { return };
        self.make_room();
        let start = self.payload.len();
        self.payload.extend_from_slice(&event.key);
        self.payload.extend_from_slice(event.command.as_bytes());
        self.payload.extend_from_slice(value);
        self.push_written(index, kind::HOOK, ttl_ms, event.key.len() as u32, arg, start);
    }

    /// These were the events for now; [`Done::Events`](crate::lua::Done) says that their handlers have ended.
    pub fn on_hooks_end(&mut self, runtime: RuntimeId) {
        self.push_for(runtime, kind::END, f64::from(runtime.0), 0, done::EVENTS, &[]);
    }

    /// A reader misses a key: its `on_miss` is asked.
    pub fn on_miss(&mut self, runtime: RuntimeId, asked: &Asked) {
        let (number, database) = (asked.number as f64, u32::from(asked.database));
        self.push_for(runtime, kind::MISS, number, 0, database, &asked.key);
    }

    /// Changes to write behind; [`Done::Behind`](crate::lua::Done) says what became of them.
    pub fn on_behind(&mut self, runtime: RuntimeId, batch: &Batch) {
        self.push_for(runtime, kind::BEHIND, 0.0, 0, 0, &batch.rows);
    }

    /// A message of a channel that a script listens to.
    pub fn on_channel(&mut self, listen: u64, channel: &[u8], text: &[u8]) {
        self.make_room();
        let start = self.payload.len();
        self.payload.extend_from_slice(channel);
        self.payload.extend_from_slice(text);
        self.push_written(0, kind::CHANNEL, listen as f64, channel.len() as u32, 0, start);
    }

    /// These were the messages for now; [`Done::Messages`](crate::lua::Done) says that the handler has ended with them.
    pub fn on_channel_end(&mut self, listen: u64) {
        self.push(0, kind::END, listen as f64, 0, done::MESSAGES, &[]);
    }

    /// The keys that a task waits for are there, or why they aren't.
    pub fn on_landed(&mut self, task: u64, outcome: &Result<(), Vec<u8>>) {
        let (failed, line) = match outcome {
            Ok(()) => (0, &[][..]),
            Err(line) => (1, line.as_slice()),
        };
        self.push(0, kind::LANDED, task as f64, 0, failed, line);
    }
}
