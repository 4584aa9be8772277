//! Scripts that take long: one slice a turn on the worker of their client, between everything else that it does.

use std::sync::Arc;

use crate::log::{LogLevel, LogRecord};
use crate::ring::Driver;
use crate::runtime::local::Local;
use crate::runtime::message::FromWorker;
use crate::store::shared::Held;
use crate::store::{batch, meter};

use super::waiting;

/// What scripts left to do when a batch has run.
#[derive(Default)]
pub(super) struct Left {
    /// One of this worker's clients has a script that isn't at its end.
    suspended: bool,
    /// What is wanted of the store's role, counted.
    epoch: u64,
    /// What scripts wrote to the log.
    logs: Vec<(LogLevel, String)>,
}

impl Left {
    /// Looks while the store is held.
    pub(super) fn look(&mut self, held: &mut Held<'_>, worker: u8) {
        self.suspended = held.has_script_of(worker);
        self.epoch = self.epoch.max(held.instance.replication.epoch());
        if !held.instance.scripting.logs.is_empty() {
            self.logs.append(&mut held.instance.scripting.logs);
        }
    }

    /// Afterwards.
    pub(super) fn settle(self, local: &mut Local, index: usize) {
        if self.suspended && !local.cache.scripts.contains(&index) {
            local.cache.scripts.push(index);
        }
        super::replica::look(local, index, self.epoch);
        if self.logs.is_empty() {
            return;
        }
        let (unix_ms, control) = (local.now.unix_ms, Arc::clone(&local.control));
        let source = local.instance_at(index).config().name.clone();
        for (level, text) in self.logs {
            let source = source.clone();
            control.send(FromWorker::Log(LogRecord { unix_ms, level, source, text }));
        }
    }
}

/// Runs the next slice of each script that waits for one.
pub(super) fn resume(local: &mut Local, driver: &mut dyn Driver) {
    for index in std::mem::take(&mut local.cache.scripts) {
        if local.instances.get(index).is_some_and(Option::is_some) {
            slice(local, driver, index);
        }
    }
}

fn slice(local: &mut Local, driver: &mut dyn Driver, index: usize) {
    let (now_ms, worker) = (local.now.unix_ms, local.worker);
    let Some(state) = local.instance_at(index).cache.as_ref() else { return };
    let store = Arc::clone(&state.store);
    let Some(mut held) = store.try_lock(now_ms) else { return local.cache.scripts.push(index) };
    meter::outside(|| waiting::open_letters(local, driver, index));
    if held.has_script_of(worker) {
        held.resume_script();
    }
    let limits = held.instance.config.output_limits;
    let mut front = waiting::front(local, driver, limits);
    batch::hand_out(&mut held, &mut front);
    let mut left = Left::default();
    left.look(&mut held, worker);
    drop(held);
    left.settle(local, index);
    waiting::apply(local);
}
