//! One generation of an app: a Lua state, the events waiting for it and what it asked for.
//!
//! The host pushes events ([`AppVm::on_message`] and its kin), enters once ([`AppVm::run`]), carries out
//! [`AppVm::take_actions`] and ends the turn. Must not know: sockets, workers, the control thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Action, AppSource, Binding, Definitions, Handlers, Host, Reply, StateSnapshot};
use crate::error::ScriptError;
use crate::id::{ConnectionId, RuntimeId};
use crate::ring::Now;

/// An app's Lua state on one worker. Made, used and dropped on that worker's thread.
pub struct AppVm {
    definitions: Definitions,
    actions: Vec<Action>,
}

impl AppVm {
    /// Evaluates a file within its budget. What it starts while loading (timers, tasks, sends) waits for
    /// [`AppVm::commit`]. Beside the result: the files read, the main one first, also when it failed.
    pub fn load(
        source: Arc<AppSource>,
        _host: Host,
        _now: Now,
    ) -> (Result<AppVm, ScriptError>, Vec<PathBuf>) {
        let error =
            ScriptError { message: "the VM isn't there yet".to_owned(), ..Default::default() };
        (Err(error), vec![source.path.clone()])
    }

    /// What the file defines.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The texts of the file and of all modules it has loaded, for the last good source.
    pub fn sources(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }

    /// Makes it the running generation: binds definitions to runtimes, takes the old generation's `state` over and starts
    /// what the file asked for while loading. Connections follow by [`AppVm::on_adopt`], the parked ones when their
    /// handler in the old generation has ended.
    pub fn commit(
        &mut self,
        _bindings: &[Binding],
        _state: Option<StateSnapshot>,
        _now: Now,
    ) -> Result<(), ScriptError> {
        Ok(())
    }

    /// Copies the `state` tables out; an error names the path of what can't be carried over.
    pub fn export_state(&mut self) -> Result<StateSnapshot, ScriptError> {
        Ok(StateSnapshot::default())
    }

    /// Another generation has taken over: ends timers and what hasn't started; what waits may finish. Drop the VM when
    /// [`AppVm::waiting`] is 0, or at a deadline.
    pub fn retire(&mut self) {}

    /// The events that a runtime has handlers for.
    pub fn handlers(&self, _runtime: RuntimeId) -> Handlers {
        Handlers::default()
    }

    /// The runtime starts.
    pub fn on_start(&mut self, _runtime: RuntimeId) {}

    /// The runtime stops; [`Action::StopEnded`] follows when its `on_stop` has ended, also if it has none.
    pub fn on_stop(&mut self, _runtime: RuntimeId) {}

    /// A connection is open: a server's accepted one, a client's to its target.
    pub fn on_open(&mut self, _runtime: RuntimeId, _connection: ConnectionId, _peer: SocketAddr) {}

    /// A connection of an older generation is now this one's: like [`AppVm::on_open`], without `on_connect`.
    pub fn on_adopt(&mut self, _runtime: RuntimeId, _connection: ConnectionId, _peer: SocketAddr) {}

    /// A message; its bytes are copied.
    pub fn on_message(&mut self, _runtime: RuntimeId, _connection: ConnectionId, _bytes: &[u8]) {}

    /// The connection is gone; also of a parked one.
    pub fn on_close(&mut self, _connection: ConnectionId) {}

    /// Where shall this proxied connection go? [`Action::Route`] answers.
    pub fn on_route(
        &mut self,
        _runtime: RuntimeId,
        _connection: ConnectionId,
        _peer: SocketAddr,
        _local: SocketAddr,
    ) {
    }

    /// The time of an [`Action::Timer`] has come.
    pub fn on_timer(&mut self, _timer: u64) {}

    /// The answer to an [`Action::Daemon`].
    pub fn on_answer(&mut self, _task: u64, _reply: Reply) {}

    /// Evaluates a console line; [`Action::Evaluated`] answers.
    pub fn evaluate(&mut self, _request: u64, _code: &str) {}

    /// The names that could stand at the end of `line`; [`Action::Evaluated`] answers. Runs none of the app's code.
    pub fn complete(&mut self, _request: u64, _line: &str) {}

    /// Ends an evaluation or command that waits.
    pub fn cancel(&mut self, _request: u64) {}

    /// Runs a CLI command of the app; [`Action::Evaluated`] answers, [`Action::Output`] comes before.
    pub fn command(&mut self, _request: u64, _name: &str, _arguments: serde_json::Value) {}

    /// Runs the handlers of all events pushed so far.
    pub fn run(&mut self, _now: Now) {}

    /// Whether [`AppVm::run`] has something to do: events, or tasks that are ready.
    pub fn has_work(&self) -> bool {
        false
    }

    /// What the handlers asked for, in order. Give the vector back with [`AppVm::end_turn`].
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Bytes of an [`Action::Send`] or [`Action::Broadcast`]; valid until [`AppVm::end_turn`].
    pub fn bytes(&self, _start: usize, _len: usize) -> &[u8] {
        &[]
    }

    /// The actions are carried out: their memory and their bytes are used again.
    pub fn end_turn(&mut self, mut actions: Vec<Action>) {
        actions.clear();
        self.actions = actions;
    }

    /// How many handlers and tasks wait.
    pub fn waiting(&self) -> usize {
        0
    }

    /// The VM's heap.
    pub fn memory_bytes(&self) -> usize {
        0
    }
}
