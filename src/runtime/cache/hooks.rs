//! A cache's hooks on the worker where its app is at home: events out of the store into the app's VM, one batch after
//! the other, and what comes back.
//!
//! The store's queue is what is bounded: the app takes the next events when the handlers of the last ones have ended,
//! however long they waited. Misses don't queue behind them. A batch of changes that failed is tried again after a pause
//! that grows.

use std::sync::Arc;

use crate::id::{AppId, RuntimeId, RuntimeKind};
use crate::limits::{BEHIND_BATCH_KEYS, BEHIND_EVERY_MS, BEHIND_PAUSE_MAX_MS, HOOK_BATCH_EVENTS};
use crate::log::LogLevel;
use crate::lua::Handlers;
use crate::ring::timers::TimerId;
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::message::ToWorker;
use crate::store::SharedStore;
use crate::store::hooks::{Batch, Taken, Wanted};

/// How changes are written behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBehind {
    /// How long changes wait at most, in milliseconds.
    pub every_ms: u64,
    /// Keys of one batch.
    pub batch_keys: usize,
}

impl Default for WriteBehind {
    fn default() -> WriteBehind {
        WriteBehind { every_ms: BEHIND_EVERY_MS, batch_keys: BEHIND_BATCH_KEYS }
    }
}

/// What one worker keeps for one cache's hooks.
#[derive(Default)]
pub(super) struct HookState {
    /// It takes the store's events.
    attached: bool,
    settings: WriteBehind,
    /// The generation whose handlers run over the last events.
    running: Option<u32>,
    /// The generation that writes the last batch of changes.
    writing: Option<u32>,
    /// The timer of the next batch.
    timer: Option<TimerId>,
    /// Its time has come.
    due: bool,
    /// The pause after a batch that failed, in milliseconds; 0 after one that didn't.
    pause_ms: u64,
    /// A batch failed while the runtime stops: it isn't tried again.
    gave_up: bool,
    /// What was dropped and forgotten when that was last logged.
    told: (u64, u64),
}

impl HookState {
    /// The runtime ends on this worker.
    pub(super) fn leave(&self, store: &SharedStore, worker: u8) {
        if self.attached {
            store.lock(0).detach_hooks(worker);
        }
    }
}

/// What the callbacks of a definition want to hear.
fn wanted(handlers: Handlers) -> Wanted {
    let pairs = [
        (Handlers::ON_EXPIRE, Wanted::EXPIRE),
        (Handlers::ON_EVICT, Wanted::EVICT),
        (Handlers::ON_WRITE, Wanted::WRITE),
        (Handlers::ON_DELETE, Wanted::DELETE),
        (Handlers::ON_MISS, Wanted::MISS),
        (Handlers::WRITE_BEHIND, Wanted::BEHIND),
    ];
    let has = pairs.into_iter().filter(|(handler, _)| handlers.has(*handler));
    has.fold(Wanted::default(), |all, (_, one)| all.with(one))
}

/// The runtime was placed, or its app has other handlers now: the store is told what to tell.
pub fn attach(local: &mut Local, index: usize) {
    let (worker, now_ms) = (local.worker, local.now.unix_ms);
    let inbox = Arc::clone(&local.workers[usize::from(worker)]);
    let instance = local.instance_at(index);
    let (runtime, app, handlers) = (instance.placement.id, instance.app(), instance.handlers);
    if instance.config().kind != RuntimeKind::Cache {
        return;
    }
    let settings = instance.config().write_behind;
    let home = app.is_some_and(|app| local.apps.is_home(app, runtime));
    let wanted = if home { wanted(handlers) } else { Wanted::default() };
    let Some(state) = local.instance_at(index).cache.as_mut() else { return };
    if wanted.is_empty() && !state.hooks.attached {
        return;
    }
    state.hooks.attached = !wanted.is_empty();
    state.hooks.settings = settings;
    let tell = Arc::new(move || inbox.send(ToWorker::CacheHooks { runtime }));
    state.store.lock(now_ms).attach_hooks(worker, wanted, settings.batch_keys, tell);
}

/// There is something to take: it is, at the end of this turn's commands.
pub fn on_told(local: &mut Local, runtime: RuntimeId) {
    if let Some(&index) = local.index.get(&runtime) {
        soon(local, index);
    }
}

fn soon(local: &mut Local, index: usize) {
    if !local.cache.hooked.contains(&index) {
        local.cache.hooked.push(index);
    }
}

/// The next batch of changes is due.
pub fn on_timer(local: &mut Local, runtime: RuntimeId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.hooks.timer = None;
        state.hooks.due = true;
    }
    soon(local, index);
}

/// Takes what the stores have for the apps here. One that is held is asked again in the next turn.
pub fn run(local: &mut Local) {
    for index in std::mem::take(&mut local.cache.hooked) {
        if local.instances.get(index).is_some_and(Option::is_some) {
            step(local, index);
        }
    }
}

fn step(local: &mut Local, index: usize) {
    let (worker, now_ms) = (local.worker, local.now.unix_ms);
    let instance = local.instance_at(index);
    let is_stopping = instance.stopping.is_some();
    let (runtime, app) = (instance.placement.id, instance.app());
    let Some(state) = instance.cache.as_mut().filter(|state| state.hooks.attached) else { return };
    let store: Arc<SharedStore> = Arc::clone(&state.store);
    let hooks = &state.hooks;
    let count = if hooks.running.is_some() { 0 } else { HOOK_BATCH_EVENTS };
    let may_write = hooks.writing.is_none();
    let (due, in_pause) = (hooks.due || is_stopping, hooks.pause_ms > 0);
    let gave_up = hooks.gave_up;
    let Some(app) = app else { return };
    if local.apps.serving_vm(app, runtime).is_none() {
        return;
    }
    let Some(mut held) = store.try_lock(now_ms) else { return soon(local, index) };
    let taken = held.take_hooks(worker, count);
    let full = taken.behind == Some(true) && !in_pause;
    let may_start = may_write && !gave_up && (due || full);
    let batch = if may_start { held.start_behind() } else { None };
    let is_written_out = may_write && batch.is_none() && (gave_up || !held.has_behind());
    drop(held);
    let waits = taken.behind.is_some() && batch.is_none() && may_write && !is_stopping;
    tell_lost(local, index, taken.dropped);
    hand_over(local, index, (app, runtime), (taken, batch));
    if waits {
        wait(local, index);
    }
    if is_stopping && is_written_out {
        written_out(local, index);
    }
}

/// Pushes what was taken into the VM.
fn hand_over(
    local: &mut Local,
    index: usize,
    (app, runtime): (AppId, RuntimeId),
    (taken, batch): (Taken, Option<Batch>),
) {
    let Some(vm) = local.apps.serving_vm(app, runtime) else { return };
    let generation = vm.generation();
    for asked in &taken.asked {
        vm.on_miss(runtime, asked);
    }
    for event in &taken.events {
        vm.on_hook(runtime, event);
    }
    if !taken.events.is_empty() {
        vm.on_hooks_end(runtime);
    }
    if let Some(batch) = &batch {
        vm.on_behind(runtime, batch);
    }
    let timers = &mut local.timers;
    let Some(state) = local.instances[index].as_mut().and_then(|i| i.cache.as_mut()) else {
        return;
    };
    let hooks = &mut state.hooks;
    if !taken.events.is_empty() {
        hooks.running = Some(generation);
    }
    if batch.is_some() {
        hooks.writing = Some(generation);
        hooks.due = false;
        if let Some(timer) = hooks.timer.take() {
            timers.cancel(timer);
        }
    }
}

/// Changes wait: sets the time of their batch.
fn wait(local: &mut Local, index: usize) {
    let now = local.now;
    let instance = local.instance_at(index);
    let runtime = instance.placement.id;
    let Some(state) = instance.cache.as_mut().filter(|state| state.hooks.timer.is_none()) else {
        return;
    };
    let hooks = &state.hooks;
    let pause_ms = hooks.settings.every_ms.max(hooks.pause_ms);
    let timer = local.timers.insert(now, pause_ms, TimerEvent::WriteBehind { runtime });
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.hooks.timer = Some(timer);
    }
}

/// Says in the log that hooks missed something; once for each time that is seen.
fn tell_lost(local: &mut Local, index: usize, (dropped, forgotten): (u64, u64)) {
    let instance = local.instance_at(index);
    let name = instance.config().name.clone();
    let Some(state) = instance.cache.as_mut() else { return };
    let told = std::mem::replace(&mut state.hooks.told, (dropped, forgotten));
    if dropped > told.0 {
        let text = format!(
            "the hooks are too slow: {} events were dropped, because {} waited",
            dropped - told.0,
            crate::limits::HOOK_EVENTS_MAX
        );
        local.log(LogLevel::Error, &name, text);
    }
    if forgotten > told.1 {
        let text = format!(
            "write_behind is too slow: changes of keys were forgotten {} times, because {} keys waited",
            forgotten - told.1,
            crate::limits::BEHIND_KEYS_MAX
        );
        local.log(LogLevel::Error, &name, text);
    }
}

/// The handlers of a runtime's events have ended.
pub fn on_events_done(local: &mut Local, runtime: RuntimeId) {
    let Some(&index) = local.index.get(&runtime) else { return };
    if let Some(state) = local.instance_at(index).cache.as_mut() {
        state.hooks.running = None;
    }
    soon(local, index);
}

/// A batch of changes was written, or wasn't.
pub fn on_behind_done(local: &mut Local, runtime: RuntimeId, is_written: bool) {
    let Some(&index) = local.index.get(&runtime) else { return };
    let now_ms = local.now.unix_ms;
    let is_stopping = local.instance_at(index).stopping.is_some();
    let name = local.instance_at(index).config().name.clone();
    let Some(state) = local.instance_at(index).cache.as_mut() else { return };
    let hooks = &mut state.hooks;
    if hooks.writing.take().is_none() {
        return;
    }
    hooks.pause_ms = match is_written {
        true => 0,
        false => (hooks.pause_ms * 2).max(hooks.settings.every_ms).min(BEHIND_PAUSE_MAX_MS),
    };
    let pause_ms = hooks.pause_ms;
    let left = state.store.lock(now_ms).finish_behind(is_written);
    if is_stopping && (left == 0 || !is_written) {
        if left > 0 {
            let text = format!("stops although {left} changed keys couldn't be written behind");
            local.log(LogLevel::Error, &name, text);
        }
        if let Some(state) = local.instance_at(index).cache.as_mut() {
            state.hooks.gave_up = !is_written;
        }
        return soon(local, index);
    }
    if !is_written {
        let text =
            format!("write_behind failed: {left} changed keys wait {pause_ms} ms for the next try");
        local.log(LogLevel::Warn, &name, text);
    }
    if left > 0 {
        wait(local, index);
    }
    soon(local, index);
}

/// Whether a runtime that stops has changes to write first; they are being written then.
pub fn write_out(local: &mut Local, index: usize) -> bool {
    let now_ms = local.now.unix_ms;
    let Some(state) = local.instance_at(index).cache.as_ref() else { return false };
    let waits = state.hooks.attached
        && (state.hooks.writing.is_some() || state.store.lock(now_ms).has_behind());
    if waits {
        soon(local, index);
    }
    waits
}

/// They are written: the runtime goes on stopping.
fn written_out(local: &mut Local, index: usize) {
    let Some(stopping) = &mut local.instance_at(index).stopping else { return };
    if std::mem::replace(&mut stopping.behind, false) {
        local.stop_handlers(index);
    }
}

/// A generation has ended with whatever its handlers still waited for.
pub fn on_generation_end(local: &mut Local, app: AppId, generation: u32) {
    for index in 0..local.instances.len() {
        let Some(instance) = local.instances[index].as_mut() else { continue };
        let runtime = instance.placement.id;
        let is_its = instance.app() == Some(app);
        let Some(state) = instance.cache.as_mut().filter(|_| is_its) else { continue };
        if state.hooks.running == Some(generation) {
            on_events_done(local, runtime);
        }
        let state = local.instance_at(index).cache.as_ref();
        if state.is_some_and(|state| state.hooks.writing == Some(generation)) {
            on_behind_done(local, runtime, false);
        }
    }
}
