//! One generation of an app: a Lua state, the events waiting for it and what it asked for.
//!
//! The host pushes events ([`AppVm::on_message`] and its kin), enters once ([`AppVm::run`]), carries out
//! [`AppVm::take_actions`] and ends the turn. A payload is copied into the turn's arena, so that the kernel's buffer can
//! go back at once. Must not know: sockets, workers, the control thread.

mod hooks;
mod http;
mod sockets;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mlua::Lua;

pub use sockets::SocketFailure;

use super::context::Context;
use super::definitions::{definitions, handlers_of};
use super::kernel::{self, Kernel};
use super::leaves::{Event, KINDS, kind};
use super::report::script_error;
use super::{
    Action, AppSource, Binding, Definitions, Handlers, Host, Reply, StateSnapshot, WatchSlot,
    natives, snapshot,
};
use crate::error::ScriptError;
use crate::id::{ConnectionId, RuntimeId};
use crate::limits::{VM_EVENTS_MAX, VM_RETRIES_MAX};
use crate::ring::Address;
use crate::ring::Now;

/// An app's Lua state on one worker. Made, used and dropped on that worker's thread.
pub struct AppVm {
    // The order matters: the state is closed before what its leaves point to.
    kernel: Kernel,
    lua: Lua,
    context: Rc<Context>,
    watch: Arc<WatchSlot>,
    definitions: Definitions,
    runtimes: Vec<Bound>,
    /// Where the last event's runtime stands in `runtimes`.
    last: usize,
    /// Read by the dispatcher, which has its address: never grows, never moves.
    events: Box<[Event]>,
    count: usize,
    /// The payloads of the events.
    payload: Vec<u8>,
    committed: bool,
    waiting: usize,
    ready: usize,
    repeats_due: bool,
    /// The arena of the actions taken last.
    taken: Vec<u8>,
}

/// A runtime that this generation serves.
struct Bound {
    id: RuntimeId,
    /// Of its loop.
    index: u32,
    handlers: Handlers,
}

impl AppVm {
    /// Evaluates a file within its budget. What it starts while loading (timers, tasks, sends) waits for
    /// [`AppVm::commit`]. Beside the result: the files read, the main one first, also when it failed.
    pub fn load(
        source: Arc<AppSource>,
        host: Host,
        now: Now,
    ) -> (Result<AppVm, ScriptError>, Vec<PathBuf>) {
        let context = Context::new(source, &host, now);
        let result = AppVm::evaluate_file(&context, &host, now);
        let files = context.sources.borrow().paths();
        (result, files)
    }

    fn evaluate_file(context: &Rc<Context>, host: &Host, now: Now) -> Result<AppVm, ScriptError> {
        let blank = Event { bytes: std::ptr::null(), id: 0.0, len: 0, slot: 0, code: 0, arg: 0 };
        let events = vec![blank; VM_EVENTS_MAX].into_boxed_slice();
        let made = kernel::make(&context.app, context, &host.watch, events.as_ptr(), host.seed);
        let (lua, kernel) = made.map_err(|error| plain_error(&error))?;
        let (text, chunk_name) = context.sources.borrow().main();
        kernel.set_time(now.monotonic_ms(), now.unix_ms).map_err(|error| plain_error(&error))?;
        let entry = host.watch.enter(kernel.drive.state(), context.app.limits.budget_ms);
        let failure = kernel.load_main.call::<Option<mlua::LuaString>>((text, chunk_name));
        drop(entry);
        let sources = context.sources.borrow();
        match failure {
            Ok(None) => {}
            Ok(Some(text)) => return Err(script_error(&text.to_string_lossy(), &sources)),
            Err(error) => return Err(plain_error(&error)),
        }
        let definitions = definitions(&kernel, &sources, &context.app)?;
        drop(sources);
        Ok(AppVm {
            kernel,
            lua,
            context: Rc::clone(context),
            watch: Arc::clone(&host.watch),
            definitions,
            runtimes: Vec::new(),
            last: 0,
            events,
            count: 0,
            payload: Vec::new(),
            committed: false,
            waiting: 0,
            ready: 0,
            repeats_due: false,
            taken: Vec::new(),
        })
    }

    /// What the file defines.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The texts of the file and of all modules it has loaded, for the last good source.
    pub fn sources(&self) -> Vec<(PathBuf, String)> {
        self.context.sources.borrow().texts()
    }

    /// The number of this version of the app.
    pub fn generation(&self) -> u32 {
        self.context.app.generation
    }

    /// Makes it the running generation: binds definitions to runtimes, takes the old generation's `state` over and starts
    /// what the file asked for while loading. Connections follow by [`AppVm::on_adopt`], the parked ones when their
    /// handler in the old generation has ended.
    pub fn commit(
        &mut self,
        bindings: &[Binding],
        state: Option<StateSnapshot>,
        now: Now,
    ) -> Result<(), ScriptError> {
        self.context.now.set(now);
        self.try_commit(bindings, state.as_ref(), now).map_err(|error| plain_error(&error))
    }

    fn try_commit(
        &mut self,
        bindings: &[Binding],
        state: Option<&StateSnapshot>,
        now: Now,
    ) -> mlua::Result<()> {
        self.kernel.set_time(now.monotonic_ms(), now.unix_ms)?;
        for binding in bindings {
            let Binding { definition, runtime, name, port } = binding;
            let index = definition + 1;
            self.kernel.bind.call::<()>((index, runtime.0, name.as_str(), *port))?;
            let handlers = handlers_of(&self.definitions.runtimes[*definition].handlers);
            self.runtimes.push(Bound { id: *runtime, index: index as u32, handlers });
        }
        if let Some(state) = state {
            let tables = self.kernel.state_tables.call(())?;
            snapshot::import(&self.lua, state, &tables, &self.kernel.connections)?;
        }
        self.kernel.start_deferred.call::<()>(())?;
        self.committed = true;
        self.refresh()
    }

    fn refresh(&mut self) -> mlua::Result<()> {
        (self.waiting, self.ready) = self.kernel.load_figures.call(())?;
        Ok(())
    }

    /// Copies the `state` tables out; an error names the path of what can't be carried over.
    pub fn export_state(&mut self) -> Result<StateSnapshot, ScriptError> {
        let tables = self.kernel.state_tables.call(()).map_err(|error| plain_error(&error))?;
        snapshot::export(&self.lua, &tables, &self.kernel.connections)
            .map_err(|message| ScriptError { message, ..Default::default() })
    }

    /// Another generation has taken over: ends timers and what hasn't started; what waits may finish. Drop the VM when
    /// [`AppVm::waiting`] is 0, or at a deadline.
    pub fn retire(&mut self) {
        let retired = self.kernel.retire.call::<()>(()).and_then(|()| self.refresh());
        if let Err(error) = retired {
            self.complain(&error.to_string());
        }
    }

    /// The events that a runtime has handlers for.
    pub fn handlers(&self, runtime: RuntimeId) -> Handlers {
        let found = self.runtimes.iter().find(|bound| bound.id == runtime);
        found.map_or_else(Handlers::default, |bound| bound.handlers)
    }

    /// Whether one of its definitions is this runtime; no other runtime's events may be passed to it.
    pub fn is_bound(&self, runtime: RuntimeId) -> bool {
        self.runtimes.iter().any(|bound| bound.id == runtime)
    }

    /// The runtime starts.
    pub fn on_start(&mut self, runtime: RuntimeId) {
        self.push_for(runtime, kind::START, 0.0, 0, 0, &[]);
    }

    /// The runtime stops; [`Action::StopEnded`] follows when its `on_stop` has ended, also if it has none.
    pub fn on_stop(&mut self, runtime: RuntimeId) {
        self.push_for(runtime, kind::STOP, 0.0, 0, 0, &[]);
    }

    /// A connection is open: a server's accepted one, a client's to its target. Told also without an `on_connect`: the
    /// runtime's object counts and finds its connections.
    pub fn on_open(&mut self, runtime: RuntimeId, connection: ConnectionId, peer: &Address) {
        self.push_peer(runtime, kind::OPEN, connection, peer);
    }

    /// A connection of an older generation is now this one's: like [`AppVm::on_open`], without `on_connect`.
    pub fn on_adopt(&mut self, runtime: RuntimeId, connection: ConnectionId, peer: &Address) {
        self.push_peer(runtime, kind::ADOPT, connection, peer);
    }

    /// A connection that speaks HTTP is new here: no handler hears of it before its first request.
    pub fn on_visit(&mut self, runtime: RuntimeId, connection: ConnectionId, peer: &Address) {
        self.push_peer(runtime, kind::VISIT, connection, peer);
    }

    fn push_peer(&mut self, runtime: RuntimeId, kind: u32, id: ConnectionId, peer: &Address) {
        let ip = peer.host();
        let port = u32::from(peer.port());
        self.push_for(runtime, kind, id.bits() as f64, id.slot(), port, ip.as_bytes());
    }

    /// A message; its bytes are copied. `binary`: it isn't text, as a WebSocket says.
    pub fn on_message(
        &mut self,
        runtime: RuntimeId,
        connection: ConnectionId,
        bytes: &[u8],
        binary: bool,
    ) {
        let id = connection.bits() as f64;
        let arg = u32::from(binary);
        self.push_for(runtime, kind::MESSAGE, id, connection.slot(), arg, bytes);
    }

    /// The connection, which is open, is a WebSocket. `request`: its target, its subprotocol, and each header's name and
    /// value, every one ended by a zero byte.
    pub fn on_websocket(&mut self, runtime: RuntimeId, connection: ConnectionId, request: &[u8]) {
        let id = connection.bits() as f64;
        self.push_for(runtime, kind::WEBSOCKET, id, connection.slot(), 0, request);
    }

    /// A client has said `master PASSWORD`; [`Action::Master`] answers.
    pub fn on_master(&mut self, runtime: RuntimeId, connection: ConnectionId, password: &[u8]) {
        let id = connection.bits() as f64;
        self.push_for(runtime, kind::MASTER, id, connection.slot(), 0, password);
    }

    /// The connection is gone; also of a parked one. A WebSocket ends with a code and a reason.
    pub fn on_close(&mut self, connection: ConnectionId, code: u16, reason: &str) {
        let (id, code) = (connection.bits() as f64, u32::from(code));
        self.push(0, kind::CLOSE, id, connection.slot(), code, reason.as_bytes());
    }

    /// Where shall this proxied connection go? [`Action::Route`] answers.
    pub fn on_route(
        &mut self,
        runtime: RuntimeId,
        connection: ConnectionId,
        peer: &Address,
        local: &Address,
    ) {
        let addresses = format!("{} {} {}", peer.host(), local.host(), local.port());
        let (id, port) = (connection.bits() as f64, u32::from(peer.port()));
        self.push_for(runtime, kind::ROUTE, id, connection.slot(), port, addresses.as_bytes());
    }

    /// The time of an [`Action::Timer`] has come.
    pub fn on_timer(&mut self, timer: u64) {
        if timer == natives::REPORT_TIMER {
            self.repeats_due = true;
        } else {
            self.push(0, kind::TIMER, timer as f64, 0, 0, &[]);
        }
    }

    /// The answer to an [`Action::Daemon`].
    pub fn on_answer(&mut self, task: u64, reply: Reply) {
        self.context.answers.borrow_mut().insert(task, reply);
        self.push(0, kind::ANSWER, task as f64, 0, 0, &[]);
    }

    /// Evaluates a console line; [`Action::Evaluated`] answers.
    pub fn evaluate(&mut self, request: u64, code: &str) {
        self.push(0, kind::EVALUATE, request as f64, 0, 0, code.as_bytes());
    }

    /// The words that could stand at the end of `line`; [`Action::Evaluated`] answers. Runs none of the app's code.
    pub fn complete(&mut self, request: u64, line: &str) {
        self.push(0, kind::COMPLETE, request as f64, 0, 0, line.as_bytes());
    }

    /// Ends an evaluation or command that waits.
    pub fn cancel(&mut self, request: u64) {
        self.push(0, kind::CANCEL, request as f64, 0, 0, &[]);
    }

    /// Runs a CLI command of the app; [`Action::Evaluated`] answers with `{"code": ...}`, [`Action::Output`] comes before.
    pub fn command(&mut self, request: u64, name: &str, arguments: serde_json::Value) {
        self.context.arguments.borrow_mut().insert(request, arguments);
        self.push(0, kind::COMMAND, request as f64, 0, 0, name.as_bytes());
    }

    fn push_for(
        &mut self,
        runtime: RuntimeId,
        kind: u32,
        id: f64,
        slot: u32,
        arg: u32,
        bytes: &[u8],
    ) {
        if let Some(index) = self.index_of(runtime) {
            self.push(index, kind, id, slot, arg, bytes);
        }
    }

    /// The loop of a runtime.
    fn index_of(&mut self, runtime: RuntimeId) -> Option<u32> {
        if self.runtimes.get(self.last).is_none_or(|bound| bound.id != runtime) {
            let found = self.runtimes.iter().position(|bound| bound.id == runtime);
            debug_assert!(found.is_some(), "an event for {runtime:?}, which nothing is bound to");
            self.last = found?;
        }
        Some(self.runtimes[self.last].index)
    }

    /// Enters if there is no place for another event.
    fn make_room(&mut self) {
        if self.count == self.events.len() {
            self.run(self.context.now.get());
        }
    }

    fn push(&mut self, index: u32, kind: u32, id: f64, slot: u32, arg: u32, bytes: &[u8]) {
        self.make_room();
        let start = self.payload.len();
        self.payload.extend_from_slice(bytes);
        self.push_written(index, kind, id, slot, arg, start);
    }

    /// An event whose payload is what was appended from `start` on.
    fn push_written(&mut self, index: u32, kind: u32, id: f64, slot: u32, arg: u32, start: usize) {
        let len = self.payload.len() - start;
        self.events[self.count] = Event {
            // An offset until the entry: the payload may still move.
            bytes: std::ptr::without_provenance(start),
            id,
            len: len as u32,
            slot,
            code: index * KINDS + kind,
            arg,
        };
        self.count += 1;
    }

    /// Runs the handlers of all events pushed so far.
    pub fn run(&mut self, now: Now) {
        self.context.now.set(now);
        if std::mem::take(&mut self.repeats_due) {
            natives::report_repeats(&self.context);
        }
        for event in &mut self.events[..self.count] {
            event.bytes = self.payload[event.bytes.addr()..].as_ptr();
        }
        let mut count = Some(std::mem::take(&mut self.count));
        let watch = Arc::clone(&self.watch);
        let budget_ms = self.context.app.limits.budget_ms;
        let entry = watch.enter(self.kernel.drive.state(), budget_ms);
        for tried in 0..=VM_RETRIES_MAX {
            match self.kernel.drive.run(count, now.monotonic_ms(), now.unix_ms) {
                Ok((waiting, ready)) => {
                    (self.waiting, self.ready) = (waiting, ready);
                    break;
                }
                Err(problem) => self.recover(&problem, tried > 0),
            }
            count = None;
        }
        drop(entry);
        self.payload.clear();
    }

    /// The dispatcher itself failed, in practice for want of memory: LuaJIT has no emergency collection. Collect, then go
    /// on; if that didn't help once, without the event that can't be served.
    fn recover(&mut self, problem: &str, again: bool) {
        self.complain(problem);
        let collected = self.lua.gc_collect().and_then(|()| self.lua.gc_collect());
        let skipped = if again { self.kernel.skip.call::<()>(()) } else { Ok(()) };
        if let Err(error) = collected.and(skipped) {
            self.complain(&error.to_string());
        }
    }

    fn complain(&self, problem: &str) {
        natives::report(&self.context, None, "the dispatcher", problem);
    }

    /// Whether an entry is due: there are events, tasks that are ready, or actions from outside an entry. Never before the
    /// commit.
    pub fn has_work(&self) -> bool {
        let asked = !self.context.outgoing.borrow().actions.is_empty();
        self.committed && (self.count > 0 || self.ready > 0 || self.repeats_due || asked)
    }

    /// What the handlers asked for, in order. Give the vector back with [`AppVm::end_turn`].
    pub fn take_actions(&mut self) -> Vec<Action> {
        let mut outgoing = self.context.outgoing.borrow_mut();
        self.taken.clear();
        std::mem::swap(&mut self.taken, &mut outgoing.arena);
        std::mem::take(&mut outgoing.actions)
    }

    /// The bytes of an [`Action::Send`] or [`Action::Broadcast`] among those taken last; valid until
    /// [`AppVm::end_turn`].
    pub fn bytes(&self, start: usize, len: usize) -> &[u8] {
        &self.taken[start..start + len]
    }

    /// The actions are carried out: their memory and their bytes are used again.
    pub fn end_turn(&mut self, mut actions: Vec<Action>) {
        actions.clear();
        let mut outgoing = self.context.outgoing.borrow_mut();
        if outgoing.actions.is_empty() {
            outgoing.actions = actions;
        }
        self.context.caches.borrow_mut().end_turn();
    }

    /// How many handlers and tasks wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The VM's heap.
    pub fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }
}

/// An error of the kernel's own.
fn plain_error(error: &mlua::Error) -> ScriptError {
    ScriptError { message: error.to_string(), ..Default::default() }
}
