//! The latency monitor: the worst time of each event in each second it happened in, the last 160 of them.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept of an event.
const SAMPLES_MAX: usize = 160;

/// One event's samples.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Second since the epoch, and the worst milliseconds in it; the oldest first.
    pub samples: VecDeque<(u64, u64)>,
    /// The worst ever.
    pub max_ms: u64,
}

/// All events by name.
#[derive(Debug, Default)]
pub struct Latency {
    events: BTreeMap<&'static str, Event>,
}

impl Latency {
    /// Notes that an event took so long.
    pub fn add(&mut self, name: &'static str, ms: u64, now_ms: u64) {
        let event = self.events.entry(name).or_default();
        event.max_ms = event.max_ms.max(ms);
        let second = now_ms / 1000;
        match event.samples.back_mut() {
            Some((at, worst)) if *at == second => *worst = (*worst).max(ms),
            _ => event.samples.push_back((second, ms)),
        }
        if event.samples.len() > SAMPLES_MAX {
            event.samples.pop_front();
        }
    }

    /// One event.
    pub fn event(&self, name: &[u8]) -> Option<&Event> {
        let mut all = self.events.iter();
        all.find(|(known, _)| known.as_bytes() == name).map(|(_, event)| event)
    }

    /// All that happened.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (&'static str, &Event)> {
        self.events.iter().map(|(name, event)| (*name, event))
    }

    /// Forgets those events, or all; how many there were.
    pub fn reset(&mut self, names: &[&[u8]]) -> usize {
        let before = self.events.len();
        self.events.retain(|name, _| !names.is_empty() && !names.contains(&name.as_bytes()));
        before - self.events.len()
    }
}
