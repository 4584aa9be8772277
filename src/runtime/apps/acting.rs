//! Running the VMs of a worker, and carrying out what their handlers ask for.

use crate::id::{AppId, ConnectionId};
use crate::limits;
use crate::log::LogLevel;
use crate::lua::{Action, Done, HttpAct};
use crate::proto::websocket::{CloseCode, Kind};

use super::Hosted;
use crate::runtime::connection::{Pause, Phase, Role};
use crate::runtime::listening::Listen;
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::message::{FromWorker, Recipients, ToWorker};
use crate::runtime::server::http;
use crate::runtime::stats::StatsCell;
use crate::runtime::{cache, datagrams, proxy, server, sockets};

impl Local {
    /// Runs all VMs that have something to do and carries out what they ask for, until nothing is left or the turn has
    /// had its share.
    pub fn run_apps(&mut self) {
        for _ in 0..limits::APP_ROUNDS_PER_TURN {
            let mut worked = false;
            for index in 0..self.apps.slots.len() {
                let busy = self.apps.slots[index].as_ref().is_some_and(|h| h.vm.has_work());
                if busy {
                    worked = true;
                    self.run_app(index);
                }
            }
            if !worked {
                break;
            }
        }
    }

    fn run_app(&mut self, index: usize) {
        let Some(mut hosted) = self.apps.slots[index].take() else { return };
        self.apps.busy = Some((hosted.app, hosted.generation));
        hosted.vm.run(self.now);
        let mut actions = hosted.vm.take_actions();
        for action in actions.drain(..) {
            if !matches!(action, Action::Broadcast { .. }) {
                self.deliver_gathered();
            }
            self.carry_out(&mut hosted, action);
        }
        self.deliver_gathered();
        hosted.vm.end_turn(actions);
        let mut late = std::mem::take(&mut self.apps.late_closes);
        for (connection, code, reason) in late.drain(..) {
            hosted.vm.on_close(connection, code, &reason);
        }
        self.apps.late_closes = late;
        self.apps.busy = None;
        self.apps.slots[index] = Some(hosted);
        sockets::deliver_late(self);
        let mut unparked = std::mem::take(&mut self.apps.unparked);
        unparked.sort_unstable();
        unparked.dedup();
        for slot in unparked.drain(..) {
            self.unpark(slot);
        }
        self.apps.unparked = unparked;
        http::go_on(self);
    }

    fn carry_out(&mut self, hosted: &mut Hosted, action: Action) {
        match action {
            Action::Send { connection, start, len, binary } => {
                let kind = binary.then_some(Kind::Binary);
                if let Some(slot) = self.own_connection(hosted.app, connection) {
                    self.send_message(slot, hosted.vm.bytes(start, len), kind);
                } else if connection.worker() != self.worker {
                    self.send_abroad(hosted.app, connection, hosted.vm.bytes(start, len), kind);
                }
            }
            Action::Broadcast { runtime, except, start, len, binary } => {
                let kind = binary.then_some(Kind::Binary);
                let to = except.map_or(Recipients::All, Recipients::AllBut);
                if let Some(&index) = self.index.get(&runtime) {
                    self.broadcast(index, to, hosted.vm.bytes(start, len), kind);
                }
            }
            Action::Close { connection, code, start, len } => {
                if let Some(slot) = self.own_connection(hosted.app, connection) {
                    let reason = String::from_utf8_lossy(hosted.vm.bytes(start, len));
                    server::websocket::close(self, slot, code.map(CloseCode), &reason);
                }
            }
            Action::Park { connection, parked } => self.park(hosted.app, connection, parked),
            Action::Verify { connection } => {
                if let Some(slot) = self.own_connection(hosted.app, connection) {
                    datagrams::verify(self, slot);
                }
            }
            Action::Master { connection, granted } => {
                self.decide_master(hosted.app, connection, granted);
            }
            Action::Timer { timer, delay_ms } => {
                let (app, generation) = (hosted.app, hosted.generation);
                let event = TimerEvent::Script { app, generation, timer };
                hosted.timers.insert(timer, self.timers.insert(self.now, delay_ms, event));
            }
            Action::CancelTimer { timer } => {
                if let Some(timer) = hosted.timers.remove(&timer) {
                    self.timers.cancel(timer);
                }
            }
            Action::Http { connection, number, act } => {
                self.act(hosted, connection, number, &act);
            }
            Action::Route { connection, route } => {
                if let Some(slot) = self.own_connection(hosted.app, connection) {
                    proxy::on_route(self, slot, route);
                }
            }
            Action::Listen { id, cache, is_pattern, once, name } => {
                if hosted.is_home || !once {
                    self.on_listen(hosted, Listen { id, cache, is_pattern, name });
                }
            }
            Action::Unlisten { id } => self.on_unlisten(hosted, id),
            Action::Done { what: Done::Messages { listen } } => {
                if let Some(text) = hosted.hear(listen, true) {
                    self.log(LogLevel::Error, &hosted.name, text);
                }
            }
            Action::Done { what: Done::Events { runtime } } => {
                cache::hooks::on_events_done(self, runtime);
            }
            Action::Done { what: Done::Behind { runtime, is_written } } => {
                cache::hooks::on_behind_done(self, runtime, is_written);
            }
            other => self.go_out(hosted, other),
        }
    }

    fn park(&mut self, app: AppId, connection: ConnectionId, parked: bool) {
        match self.own_connection(app, connection) {
            Some(slot) if parked => self.connections.at(slot).parked = true,
            Some(slot) => self.apps.unparked.push(slot),
            None => {}
        }
    }

    fn decide_master(&mut self, app: AppId, connection: ConnectionId, granted: bool) {
        if let Some(slot) = self.own_connection(app, connection) {
            server::master::decide(self, slot, granted);
            self.apps.unparked.push(slot);
        }
    }

    /// What a script's own sockets and errands need, and then the rest.
    fn go_out(&mut self, hosted: &Hosted, action: Action) {
        let owner = (hosted.app, hosted.generation);
        if let Some(news) = sockets::carry_out(self, &hosted.vm, owner, action) {
            self.report(hosted, news);
        }
    }

    /// What a handler does with its request: a server's, or one that a proxy asks about.
    fn act(&mut self, hosted: &mut Hosted, connection: ConnectionId, number: u32, act: &HttpAct) {
        let Some(slot) = self.own_connection(hosted.app, connection) else { return };
        if matches!(self.connections.at(slot).role, Role::HttpFront(_)) {
            proxy::http::on_act(self, &hosted.vm, slot, act);
        } else {
            http::on_act(self, &mut hosted.vm, slot, number, act);
        }
    }

    /// Actions that are news for the control thread.
    fn report(&mut self, hosted: &Hosted, action: Action) {
        let (worker, app, generation) = (self.worker, hosted.app, hosted.generation);
        match action {
            Action::Daemon { task, verb, arguments } => self.control.send(FromWorker::Daemon {
                worker,
                app,
                generation,
                task,
                verb,
                arguments,
            }),
            Action::Evaluated { request, reply } => {
                self.control.send(FromWorker::Evaluated { request, reply });
            }
            Action::Output { request, frame } => {
                self.control.send(FromWorker::Output { request, frame });
            }
            Action::Log { level, runtime, text } => {
                let name = runtime.and_then(|id| Some(self.instance(id)?.config().name.clone()));
                self.log(level, name.as_deref().unwrap_or(&hosted.name), text);
            }
            Action::Failed { runtime } => {
                if let Some(instance) = runtime.and_then(|runtime| self.instance(runtime)) {
                    StatsCell::add(&instance.cell(worker).script_errors, 1);
                }
            }
            Action::StopEnded { runtime } => {
                if let Some(&index) = self.index.get(&runtime) {
                    if let Some(stopping) = &mut self.instance_at(index).stopping {
                        stopping.handler = false;
                    }
                    self.close_members(index, false);
                    self.send_datagrams(index);
                    self.end_quiet_listeners(index);
                    self.check_stopped(index);
                }
            }
            // The others are carried out on this worker.
            _ => {}
        }
    }

    /// The slot of a connection that belongs to a runtime of this app: scripts can't name any other.
    fn own_connection(&mut self, app: AppId, connection: ConnectionId) -> Option<u32> {
        let slot = self.connections.slot_of(connection)?;
        let index = self.connections.at(slot).instance;
        (self.instance_at(index).app() == Some(app)).then_some(slot)
    }

    fn send_abroad(
        &mut self,
        app: AppId,
        connection: ConnectionId,
        bytes: &[u8],
        kind: Option<Kind>,
    ) {
        let Some(inbox) = self.workers.get(usize::from(connection.worker())) else { return };
        let runtimes = self.instances.iter().flatten().filter(|i| i.app() == Some(app));
        for instance in runtimes {
            inbox.send(ToWorker::Send {
                request: 0,
                runtime: instance.placement.id,
                to: Recipients::One(connection),
                bytes: bytes.into(),
                kind,
            });
        }
    }

    /// A connection's handler has ended: what came meanwhile is parsed now.
    pub fn unpark(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.parked = false;
        if connection.phase != Phase::Open {
            return;
        }
        let has_heard_all = connection.has_heard_all();
        // A newer generation may have been waiting for it.
        self.vm_of(slot);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if matches!(connection.role, Role::Server | Role::Client) && !connection.input.is_empty() {
            server::parse_input(self, slot, 0);
        }
        self.resume(slot, Pause::PARKED);
        if has_heard_all
            && self
                .connections
                .get(slot)
                .is_some_and(|c| !(c.parked || cache::has_unrun(c) || c.role.is_proxied()))
        {
            self.half_closed.push(slot);
        }
    }
}
