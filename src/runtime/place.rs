//! How runtimes begin and end on a worker.

use crate::id::RuntimeId;
use crate::log::LogLevel;
use crate::lua::Handlers;
use crate::proto::websocket::Kind;
use crate::ring::{Errno, Fd, Op, OpKind, Token};

use super::instance::{Instance, Listener, Stopping};
use super::local::{Local, TimerEvent};
use super::message::{FromWorker, Recipients};
use super::{Placement, Protocol, RuntimeKind, client};

impl Local {
    /// Serves a runtime, or takes its changed fields and its app's new handlers. Its connections stay.
    pub fn place(&mut self, placement: Placement) {
        let id = placement.id;
        if self.ending {
            return;
        }
        let app = placement.app.map(|(app, _)| app);
        let kind = placement.config.kind;
        let handlers = self.handlers_of(app, id);
        self.come_back(id);
        if let Some(instance) = self.instance(id) {
            let same_app = instance.app() == app;
            let kept = match placement.config.kind {
                RuntimeKind::Proxy => instance.proxy.take(&placement.backends, &placement.stats),
                _ => Vec::new(),
            };
            instance.placement = placement;
            instance.handlers = handlers;
            super::proxy::http::drop_kept(self, kept);
            if let Some(&index) = self.index.get(&id) {
                super::cache::hooks::attach(self, index);
                if kind == RuntimeKind::Proxy {
                    super::proxy::health::begin(self, index);
                }
            }
            if !same_app {
                self.start(id, app, handlers);
            }
            return;
        }
        self.install_commands(&placement);
        let mut instance = Instance::new(placement);
        instance.handlers = handlers;
        if kind == RuntimeKind::Proxy {
            let (backends, stats) = (&instance.placement.backends, &instance.placement.stats);
            instance.proxy.take(backends, stats);
        }
        let index = match self.instances.iter().position(Option::is_none) {
            Some(free) => {
                self.instances[free] = Some(instance);
                free
            }
            None => {
                self.instances.push(Some(instance));
                self.instances.len() - 1
            }
        };
        self.index.insert(id, index);
        super::cache::waiting::attach(self, index);
        super::cache::hooks::attach(self, index);
        self.start(id, app, handlers);
        match kind {
            RuntimeKind::Client => client::dial(self, index),
            RuntimeKind::Proxy => super::proxy::health::begin(self, index),
            RuntimeKind::Cache => super::cache::replica::look_at_store(self, id),
            RuntimeKind::Server => {}
        }
    }

    /// A runtime that was about to leave stays: those who are still there needn't go.
    fn come_back(&mut self, id: RuntimeId) {
        let Some(instance) = self.instance(id) else { return };
        if let Some(stopping) = instance.stopping.take_if(|it| it.leaves && it.drains)
            && let Some(timer) = stopping.timer
        {
            self.timers.cancel(timer);
        }
    }

    /// A cache that starts again has an empty store: its definition's commands come back from the running version.
    fn install_commands(&mut self, placement: &Placement) {
        let Some((app, _)) = placement.app else { return };
        let now_ms = self.now.unix_ms;
        let Some(vm) = self.apps.running_vm(app) else { return };
        if let Err(error) = super::commands::install(placement, app, vm, now_ms) {
            self.log(LogLevel::Error, &placement.config.name, error.to_string());
        }
    }

    fn start(&mut self, id: RuntimeId, app: Option<crate::id::AppId>, handlers: Handlers) {
        if handlers.has(Handlers::ON_START)
            && let Some(vm) = app.and_then(|app| self.apps.running_vm(app))
        {
            vm.on_start(id);
        }
    }

    /// Accepts for a runtime from a listening fd.
    pub fn listen(&mut self, runtime: RuntimeId, fd: Fd) {
        let Some(instance) = self.instance(runtime) else {
            return self.log(
                LogLevel::Error,
                "",
                format!("a listener for runtime {} that isn't here", runtime.0),
            );
        };
        let udp = instance.config().udp;
        instance.listeners.push(Listener {
            fd,
            udp,
            accepting: true,
            ending: false,
            unlistens: Vec::new(),
        });
        self.accept_on(runtime, fd, udp);
    }

    fn accept_on(&mut self, runtime: RuntimeId, fd: Fd, udp: bool) {
        let token = Token::new(accept_kind(udp), accept_owner(runtime, fd));
        self.ops.push(if udp { Op::ReceiveFrom { fd, token } } else { Op::Accept { fd, token } });
    }

    /// Accepting ended, by an error or a cancel: again, later, or never.
    pub fn on_accept_ended(&mut self, token: Token, error: Option<Errno>) {
        let (runtime, fd) = accept_parts(token.owner());
        let now = self.now;
        let Some(instance) = self.instance(runtime) else { return };
        let name = instance.config_arc();
        let Some(at) = instance.listeners.iter().position(|listener| listener.fd == fd) else {
            return;
        };
        instance.listeners[at].accepting = false;
        let udp = instance.listeners[at].udp;
        if instance.listeners[at].ending {
            let index = self.index[&runtime];
            return self.end_quiet_listeners(index);
        }
        match error {
            None | Some(Errno(libc::ECANCELED | libc::ECONNABORTED | libc::EINTR)) => {
                instance.listeners[at].accepting = true;
                self.accept_on(runtime, fd, udp);
            }
            Some(error) => {
                self.timers.insert(
                    now,
                    crate::limits::ACCEPT_PAUSE_MS,
                    TimerEvent::AcceptAgain { runtime },
                );
                let pause_ms = crate::limits::ACCEPT_PAUSE_MS;
                let text = format!("can't accept: {error}; trying again in {pause_ms} ms");
                self.log(LogLevel::Warn, &name.name, text);
            }
        }
    }

    /// Accepts again after a pause.
    pub fn accept_again(&mut self, runtime: RuntimeId) {
        let Some(instance) = self.instance(runtime) else { return };
        let mut again = Vec::new();
        for listener in instance.listeners.iter_mut().filter(|listener| !listener.accepting) {
            listener.accepting = true;
            again.push((listener.fd, listener.udp));
        }
        for (fd, udp) in again {
            self.accept_on(runtime, fd, udp);
        }
    }

    /// Ends the listeners that are to end and that the kernel doesn't use any more. One for datagrams has sent what waits,
    /// and what `on_stop` still says.
    pub fn end_quiet_listeners(&mut self, index: usize) {
        let Some(instance) = self.instances[index].as_ref() else { return };
        let speaks = instance.datagrams.is_busy()
            || instance.stopping.as_ref().is_some_and(|stopping| stopping.handler);
        let is_quiet = |it: &Listener| it.ending && !it.accepting && !(it.udp && speaks);
        let runtime = instance.placement.id;
        if let Some(at) = instance.listeners.iter().position(is_quiet) {
            self.listener_ended(runtime, at);
            self.end_quiet_listeners(index);
        }
    }

    /// Nothing accepts from a listener any more: whoever waited for its runtime's last one is told.
    fn listener_ended(&mut self, runtime: RuntimeId, at: usize) {
        let Some(&index) = self.index.get(&runtime) else { return };
        let listeners = &mut self.instance_at(index).listeners;
        let ended = listeners.remove(at);
        let waits = |request: &u64| listeners.iter().any(|other| other.unlistens.contains(request));
        let answers: Vec<u64> =
            ended.unlistens.into_iter().filter(|request| !waits(request)).collect();
        for request in answers {
            self.control.send(FromWorker::Unlistened { request });
        }
        self.check_stopped(index);
    }

    /// Stops accepting; answers when the kernel doesn't use the listeners any more.
    pub fn unlisten(&mut self, request: u64, runtime: RuntimeId) {
        if !self.end_listeners(runtime, Some(request)) {
            self.control.send(FromWorker::Unlistened { request });
        }
    }

    /// Cancels a runtime's accepts. Tells whether there is something to wait for.
    fn end_listeners(&mut self, runtime: RuntimeId, request: Option<u64>) -> bool {
        let mut cancels = Vec::new();
        let Some(instance) = self.instance(runtime) else { return false };
        instance.listeners.retain(|listener| listener.accepting);
        for listener in &mut instance.listeners {
            listener.unlistens.extend(request);
            if !std::mem::replace(&mut listener.ending, true) {
                cancels.push((accept_kind(listener.udp), accept_owner(runtime, listener.fd)));
            }
        }
        let waits = !instance.listeners.is_empty();
        for (kind, owner) in cancels {
            self.ops.push(Op::Cancel {
                target: Token::new(kind, owner),
                token: Token::new(OpKind::Cancel, owner),
            });
        }
        waits
    }

    /// Stops a runtime: accepting at once, then `on_stop`, then its connections, each after its last bytes. A second
    /// stop of the same runtime can only shorten the first one's time.
    pub fn stop(&mut self, request: u64, runtime: RuntimeId, drain_ms: u64) {
        self.stop_as(request, runtime, drain_ms, false);
    }

    /// Other workers serve a runtime from now on.
    pub fn leave(&mut self, runtime: RuntimeId, drain_ms: u64) {
        self.stop_as(0, runtime, drain_ms, true);
    }

    fn stop_as(&mut self, request: u64, runtime: RuntimeId, drain_ms: u64, leaves: bool) {
        let now = self.now;
        let Some(&index) = self.index.get(&runtime) else {
            return self.control.send(FromWorker::Stopped { request });
        };
        let timer = self.timers.insert(now, drain_ms, TimerEvent::DrainEnds { runtime });
        if let Some(stopping) = &mut self.instance_at(index).stopping {
            stopping.requests.push(request);
            if stopping.leaves && !leaves {
                (stopping.leaves, stopping.drains) = (false, false);
                self.close_members(index, false);
                self.check_stopped(index);
            }
            return;
        }
        self.end_listeners(runtime, None);
        let behind = super::cache::hooks::write_out(self, index);
        let instance = self.instance_at(index);
        // Requests end by themselves; a stream doesn't say when. A client that doesn't know that its proxy leaves may
        // have sent a request already: it is told with an answer.
        let is_http = instance.config().protocol == Protocol::Http;
        let is_proxy = drain_ms > 0 && instance.config().kind == RuntimeKind::Proxy;
        let drains = is_proxy && (leaves || !is_http);
        let (requests, timer) = (vec![request], Some(timer));
        instance.stopping =
            Some(Stopping { requests, handler: false, behind, drains, leaves, timer });
        let kept = if drains { instance.proxy.take_older(u64::MAX) } else { Vec::new() };
        super::proxy::http::drop_kept(self, kept);
        if !behind {
            self.stop_handlers(index);
        }
    }

    /// The second step of a stop: `on_stop`, and where there is none the end of the connections.
    pub fn stop_handlers(&mut self, index: usize) {
        let instance = self.instance_at(index);
        let (runtime, app) = (instance.placement.id, instance.app());
        let handler = instance.handlers.has(Handlers::ON_STOP);
        let vm = app.and_then(|app| self.apps.serving_vm(app, runtime));
        let handler = match vm {
            Some(vm) if handler => {
                vm.on_stop(runtime);
                true
            }
            _ => false,
        };
        let Some(stopping) = &mut self.instance_at(index).stopping else { return };
        stopping.handler = handler;
        if !handler && !stopping.drains {
            self.close_members(index, false);
        }
        self.check_stopped(index);
    }

    /// The drain time of a stopping runtime is over.
    pub fn on_drain_end(&mut self, runtime: RuntimeId) {
        let Some(&index) = self.index.get(&runtime) else { return };
        if let Some(stopping) = &mut self.instance_at(index).stopping {
            (stopping.handler, stopping.behind) = (false, false);
            stopping.timer = None;
            self.close_members(index, true);
            self.end_quiet_listeners(index);
            self.check_stopped(index);
        }
    }

    /// A message from outside for a runtime's connections.
    pub fn send_to(
        &mut self,
        runtime: RuntimeId,
        to: Recipients,
        message: &[u8],
        kind: Option<Kind>,
    ) -> u64 {
        let Some(&index) = self.index.get(&runtime) else { return 0 };
        self.deliver_one(index, to, message, kind)
    }

    /// Everything ends after at most `drain_ms`.
    pub fn shutdown(&mut self, drain_ms: u64) {
        self.ending = true;
        let runtimes: Vec<RuntimeId> = self.index.keys().copied().collect();
        for runtime in runtimes {
            if self.instance(runtime).is_some_and(|instance| instance.stopping.is_none()) {
                self.stop(0, runtime, drain_ms);
            }
        }
        self.timers.insert(self.now, drain_ms, TimerEvent::Deadline);
    }
}

/// Set in the owners of accept ops: no connection's id has it, so that no completion of theirs finds a connection.
const LISTENER: u64 = 1 << 52;

/// An accept op's owner: the runtime and the listener's fd.
pub fn accept_owner(runtime: RuntimeId, fd: Fd) -> u64 {
    LISTENER | u64::from(runtime.0 & 0xfff_ffff) << 24 | u64::from(fd.0 as u32 & 0xff_ffff)
}

fn accept_parts(owner: u64) -> (RuntimeId, Fd) {
    (RuntimeId((owner >> 24) as u32 & 0xfff_ffff), Fd((owner & 0xff_ffff) as i32))
}

/// A socket for datagrams is received from instead.
fn accept_kind(udp: bool) -> OpKind {
    if udp { OpKind::ReceiveFrom } else { OpKind::Accept }
}

/// The same, or nothing for an op of a connection.
pub fn listener_runtime(token: Token) -> Option<RuntimeId> {
    (token.owner() & LISTENER != 0).then(|| accept_runtime(token))
}

/// The runtime that an accept op is for.
pub fn accept_runtime(token: Token) -> RuntimeId {
    accept_parts(token.owner()).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnectionId;

    /// The cancel of an accept on fd 9 of runtime 1 once ended an op of the connection in slot 1, generation 9: its ops
    /// in flight were counted one too low, and the worker died.
    #[test]
    fn an_accepts_owner_is_no_connection() {
        for (runtime, fd) in [(1, 9), (0, 0), (0xfff_ffff, 0xff_ffff)] {
            let owner = accept_owner(RuntimeId(runtime), Fd(fd));
            assert_eq!(ConnectionId::from_bits(owner), None);
            assert_eq!(accept_parts(owner), (RuntimeId(runtime), Fd(fd)));
        }
    }
}
