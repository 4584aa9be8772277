//! The loop of a worker, one turn at a time, over any [`Driver`].

use std::rc::Rc;
use std::sync::Arc;

use crate::id::ConnectionId;
use crate::limits;
use crate::log::LogLevel;
use crate::lua::{Stores, WatchSlot};
use crate::ring::random::Random;
use crate::ring::timers::Timers;
use crate::ring::{Arrived, Completion, Driver, Errno, OpKind, Token, Wait};
use crate::runtime::apps::Apps;
use crate::runtime::cache::{self, CacheTurn};
use crate::runtime::connection::{Connections, Layer, Role};
use crate::runtime::errands::Errands;
use crate::runtime::local::{Local, TimerEvent};
use crate::runtime::message::{FromWorker, Inbox, Recipients, ToWorker};
use crate::runtime::sockets::{self, Sockets};
use crate::runtime::{client, datagrams, limiter, opening, place, proxy, server};

/// A worker: its world and the ring that moves it.
pub struct Worker {
    driver: Box<dyn Driver>,
    local: Local,
    completions: Vec<Completion>,
    expired: Vec<TimerEvent>,
}

/// What a worker is made of.
pub struct Parts {
    /// Its index.
    pub index: u8,
    /// Its ring.
    pub driver: Box<dyn Driver>,
    /// To the control thread.
    pub control: Arc<Inbox<FromWorker>>,
    /// Of all workers, its own at its index.
    pub inboxes: Arc<[Arc<Inbox<ToWorker>>]>,
    /// The caches that scripts may call in process.
    pub stores: Rc<dyn Stores>,
    /// The worker's slot at the watchdog.
    pub watch: Arc<WatchSlot>,
    /// Where work goes that would block it.
    pub errands: Errands,
    /// Seeds its choices.
    pub seed: u64,
}

impl Worker {
    /// Puts a worker together and attaches its inbox to its ring.
    pub fn new(parts: Parts) -> Worker {
        let Parts { index, driver, control, inboxes, stores, watch, errands, seed } = parts;
        inboxes[usize::from(index)].attach(driver.waker());
        let local = Local {
            worker: index,
            now: driver.now(),
            ops: Vec::new(),
            connections: Connections::new(index),
            instances: Vec::new(),
            index: std::collections::BTreeMap::new(),
            apps: Apps::new(stores, watch),
            sockets: Sockets::new(errands),
            timers: Timers::new(),
            random: Random::new(seed),
            dirty: Vec::new(),
            starved: Vec::new(),
            half_closed: Vec::new(),
            half_closed_again: Vec::new(),
            connected: Vec::new(),
            dirty_datagrams: Vec::new(),
            starved_sockets: Vec::new(),
            relaying: Vec::new(),
            room: crate::net::tls::Room::default(),
            gathered: server::outgoing::Gathered::default(),
            websocket: crate::proto::websocket::Workspace::default(),
            deflate: crate::proto::websocket::Deflate::default(),
            cache: CacheTurn::default(),
            http: server::http::HttpTurn::default(),
            proxy: proxy::http::ProxyTurn::default(),
            control,
            workers: inboxes,
            ending: false,
        };
        Worker { driver, local, completions: Vec::new(), expired: Vec::new() }
    }

    /// The worker's world, for tests that look at it.
    pub fn local(&mut self) -> &mut Local {
        &mut self.local
    }

    /// One turn; waits at most `wait_max`. `false` when the worker has ended.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn turn(&mut self, wait_max: Wait) -> std::io::Result<bool> {
        let wait = self.wait(wait_max);
        self.driver.turn(&mut self.local.ops, wait, &mut self.completions)?;
        self.local.now = self.driver.now();
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.on_completion(completion);
        }
        self.completions = completions;
        self.on_messages();
        self.on_timers();
        cache::run(&mut self.local, &mut *self.driver);
        cache::hooks::run(&mut self.local);
        self.local.run_apps();
        client::send_waiting(&mut self.local);
        server::http::go_on(&mut self.local);
        proxy::http::go_on(&mut self.local);
        self.local.close_half_closed();
        if !self.local.half_closed_again.is_empty() {
            self.local.run_apps();
            let again = std::mem::take(&mut self.local.half_closed_again);
            self.local.half_closed.extend(again);
            self.local.close_half_closed();
        }
        self.local.relay();
        self.local.flush();
        sockets::flush(&mut self.local);
        self.local.flush_datagrams();
        self.rearm_starved();
        self.local.rearm_sockets();
        self.local.close_drained();
        if self.local.ending && self.local.instances.iter().all(Option::is_none) {
            sockets::end_all(&mut self.local);
        }
        Ok(!self.local.has_ended())
    }

    /// How long the next wait may last.
    fn wait(&self, wait_max: Wait) -> Wait {
        let local = &self.local;
        let is_left = !local.dirty.is_empty() || !local.half_closed.is_empty();
        if local.apps.have_work() || local.cache.has_work() || is_left || local.sockets.have_work()
        {
            return Wait::No;
        }
        let limit = if let Wait::Until(limit) = wait_max { Some(limit) } else { None };
        let deadlines = [self.local.timers.next_deadline_ns(), self.local.next_drain_ns(), limit];
        match (wait_max, deadlines.into_iter().flatten().min()) {
            (Wait::No, _) => Wait::No,
            (_, Some(deadline)) => Wait::Until(deadline),
            (_, None) => Wait::Forever,
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        if sockets::owns(&completion) {
            return sockets::on_completion(&mut self.local, &mut *self.driver, completion);
        }
        let local = &mut self.local;
        match completion {
            Completion::Accepted { token, result, more } => {
                let runtime = place::accept_runtime(token);
                let error = result.as_ref().err().copied();
                if let Ok(fd) = result {
                    self.driver.set_nodelay(fd);
                    match self.driver.peer(fd) {
                        Ok(peer) => local.on_accepted(runtime, fd, peer),
                        Err(_) => local.close_unowned(fd),
                    }
                }
                if !more {
                    local.on_accept_ended(token, error);
                }
            }
            Completion::Received { token, result, more } => self.on_received(token, result, more),
            Completion::Sent { token, result, chunks } => {
                if let Some(slot) = ended_op(local, token) {
                    local.on_sent(slot, result, chunks);
                    local.finish(slot);
                }
            }
            Completion::Connected { token, result } => match ended_op(local, token) {
                Some(slot) => {
                    if let Ok(fd) = result
                        && local.connections.at(slot).fd.is_none()
                        && local.connections.at(slot).ended
                    {
                        // It connected after all, but nobody wants it any more.
                        local.close_unowned(fd);
                    } else if !local.connections.at(slot).ended {
                        match local.connections.at(slot).role {
                            Role::Client => client::on_connected(local, slot, result),
                            Role::Upstream => cache::replica::on_connected(local, slot, result),
                            _ => proxy::on_connected(local, slot, result),
                        }
                    }
                    local.finish(slot);
                }
                None => {
                    if let Ok(fd) = result {
                        local.close_unowned(fd);
                    }
                }
            },
            Completion::Done { token, .. } => self.on_done(token),
            Completion::ReceivedFrom { token, result, more } => {
                self.on_received_from(token, result, more);
            }
            Completion::SentTo { token, outcome } => local.on_sent_to(token, outcome),
            Completion::Ready { .. } | Completion::Woken => {}
        }
    }

    fn on_received(
        &mut self,
        token: Token,
        result: Result<Option<crate::ring::Received>, Errno>,
        more: bool,
    ) {
        let local = &mut self.local;
        let Some(slot) = local.slot_of_token(token) else {
            if let Ok(Some(received)) = result {
                self.driver.recycle(received);
            }
            return;
        };
        if !more {
            let connection = local.connections.at(slot);
            connection.in_flight -= 1;
            connection.receiving = false;
            connection.cancelling = false;
        }
        match result {
            Ok(Some(received)) => {
                let bytes = u64::from(received.bytes);
                let connection = local.connections.at(slot);
                if matches!((&connection.role, &connection.layer), (Role::Cache(_), Layer::Plain)) {
                    cache::on_received(local, &mut *self.driver, slot, received);
                } else {
                    local.on_bytes(slot, self.driver.received(&received));
                    self.driver.recycle(received);
                }
                if local.connections.get(slot).is_some_and(|it| it.limiter.is_some()) {
                    limiter::spent(local, slot, bytes, 0);
                }
                if !more {
                    local.read_on(slot);
                }
            }
            Ok(None) => local.on_socket_end(slot),
            Err(error) => local.on_receive_error(slot, error),
        }
        local.finish(slot);
    }

    fn on_received_from(&mut self, token: Token, result: Result<Arrived, Errno>, more: bool) {
        let local = &mut self.local;
        let slot = local.slot_of_token(token);
        let index = match slot {
            Some(slot) => Some(local.connections.at(slot).instance),
            None => place::listener_runtime(token).and_then(|it| local.index.get(&it).copied()),
        };
        if let Some(slot) = slot.filter(|_| !more) {
            let connection = local.connections.at(slot);
            connection.in_flight -= 1;
            connection.receiving = false;
            connection.cancelling = false;
        }
        if let (Ok(arrived), Some(index)) = (&result, index) {
            let received = arrived.received.as_ref();
            let bytes = received.map_or(&[][..], |received| self.driver.received(received));
            match slot {
                _ if arrived.is_cut => datagrams::on_cut(local, index),
                Some(slot) => datagrams::on_client_datagram(local, slot, bytes),
                None => datagrams::on_server_datagram(local, index, arrived.source, bytes),
            }
        }
        let error = match result {
            Ok(arrived) => {
                arrived.received.into_iter().for_each(|received| self.driver.recycle(received));
                None
            }
            Err(error) => Some(error),
        };
        if !more {
            local.on_receive_from_ended(token, error);
        }
        if let Some(slot) = slot {
            local.finish(slot);
        }
    }

    fn on_done(&mut self, token: Token) {
        let local = &mut self.local;
        if token.kind() == Some(OpKind::Close) {
            if let Some(slot) = local.slot_of_token(token) {
                local.forget(slot);
            }
        } else if let Some(slot) = ended_op(local, token) {
            local.finish(slot);
        }
    }

    /// Receives that found no free buffer: all buffers are back by the end of a turn.
    fn rearm_starved(&mut self) {
        let mut starved = std::mem::take(&mut self.local.starved);
        for slot in starved.drain(..) {
            self.local.read_on(slot);
        }
        self.local.starved = starved;
    }

    fn on_timers(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.local.timers.expire(self.local.now.monotonic_ms(), &mut expired);
        for event in expired.drain(..) {
            self.on_timer(event);
        }
        self.expired = expired;
    }

    fn on_timer(&mut self, event: TimerEvent) {
        let local = &mut self.local;
        match event {
            TimerEvent::Script { app, generation, timer } => {
                local.on_script_timer(app, generation, timer);
            }
            TimerEvent::Reconnect { runtime } => {
                if let Some(&index) = local.index.get(&runtime) {
                    client::dial(local, index);
                }
            }
            TimerEvent::DialTimeout { connection } => on_dial_timeout(local, connection),
            TimerEvent::NextAddress { runtime, after } => client::on_stagger(local, runtime, after),
            TimerEvent::Throttled { connection } => limiter::on_due(local, connection),
            TimerEvent::Idle { connection } => limiter::on_idle(local, connection),
            TimerEvent::Handshake { connection } => opening::on_timeout(local, connection),
            TimerEvent::FirstByte { connection } => opening::on_silence(local, connection),
            TimerEvent::Upgrade { connection } => {
                if let Some(slot) = local.connections.slot_of(connection) {
                    server::websocket::on_head_timer(local, slot);
                }
            }
            TimerEvent::Ping { runtime } => server::websocket::on_ping_timer(local, runtime),
            TimerEvent::Linger { connection } => {
                if let Some(slot) = local.connections.slot_of(connection) {
                    local.close_now(slot);
                }
            }
            TimerEvent::Detect { connection } => {
                if let Some(slot) = local.connections.slot_of(connection) {
                    server::detect::on_timer(local, slot);
                }
            }
            TimerEvent::Http { connection } => {
                if let Some(slot) = local.connections.slot_of(connection) {
                    server::http::on_timer(local, slot);
                }
            }
            TimerEvent::Proxy { connection } => {
                if let Some(slot) = local.connections.slot_of(connection) {
                    proxy::on_timer(local, slot);
                }
            }
            TimerEvent::Queue { runtime } => proxy::http::on_queue_timer(local, runtime),
            TimerEvent::Health { runtime } => proxy::health::on_timer(local, runtime),
            TimerEvent::Probe { connection } => proxy::health::on_late(local, connection),
            TimerEvent::Tend { runtime } => proxy::http::tend(local, runtime),
            TimerEvent::Flush { connection, left } => local.on_flush_timer(connection, left),
            TimerEvent::DrainEnds { runtime } => local.on_drain_end(runtime),
            TimerEvent::WriteBehind { runtime } => cache::hooks::on_timer(local, runtime),
            TimerEvent::CacheWait { connection } => cache::waiting::on_timer(local, connection),
            TimerEvent::Maintain { runtime } => cache::maintain(local, runtime),
            TimerEvent::Upstream { runtime } => cache::replica::on_timer(local, runtime),
            TimerEvent::AcceptAgain { runtime } => local.accept_again(runtime),
            TimerEvent::Socket { id } => sockets::on_timer(local, id),
            TimerEvent::Deadline => {
                let slots: Vec<u32> = local.connections.slots().collect();
                for slot in slots {
                    local.close_now(slot);
                }
            }
        }
    }

    fn on_messages(&mut self) {
        let local = &mut self.local;
        let inbox = Arc::clone(&local.workers[usize::from(local.worker)]);
        let lost = inbox.take_lost();
        if lost > 0 {
            let text =
                format!("{lost} messages of other threads were dropped: this worker was busy");
            local.log(LogLevel::Warn, "", text);
        }
        for message in inbox.take() {
            if let ToWorker::CacheLetters { runtime } = message {
                cache::waiting::on_letters(local, &*self.driver, runtime);
            } else if let ToWorker::Upstream { runtime } = message {
                cache::replica::look_at_store(local, runtime);
            } else {
                on_message(local, message);
            }
        }
        debug_assert!(local.dirty.len() <= limits::CONNECTIONS_PER_WORKER_MAX);
    }
}

/// The connection of an op that has ended, with one op less in flight.
fn ended_op(local: &mut Local, token: Token) -> Option<u32> {
    let slot = local.slot_of_token(token)?;
    let connection = local.connections.at(slot);
    connection.in_flight -= 1;
    Some(slot)
}

fn on_message(local: &mut Local, message: ToWorker) {
    match message {
        ToWorker::Prepare { request, app, source } => local.prepare_app(request, app, source),
        ToWorker::Commit { request, app, generation, is_home, placements } => {
            local.commit_app(request, (app, generation), is_home, placements);
        }
        ToWorker::Discard { app, generation } => local.discard_app(app, generation),
        ToWorker::DropApp { app } => local.drop_app(app),
        ToWorker::Place { request, placement } => {
            local.place(placement);
            local.control.send(FromWorker::Placed { request });
        }
        ToWorker::CacheHooks { runtime } => cache::hooks::on_told(local, runtime),
        ToWorker::CachesChanged => local.join_caches(),
        ToWorker::Listen { runtime, fd } => local.listen(runtime, fd),
        ToWorker::Unlisten { request, runtime } => local.unlisten(request, runtime),
        ToWorker::Adopt { runtime, fd, peer, arrival } => {
            local.adopt(runtime, fd, peer, arrival);
        }
        ToWorker::Stop { request, runtime, drain_ms } => local.stop(request, runtime, drain_ms),
        ToWorker::Leave { runtime, drain_ms } => local.leave(runtime, drain_ms),
        ToWorker::Send { request, runtime, to, bytes, kind } => {
            let count = local.send_to(runtime, to, &bytes, kind);
            if request != 0 {
                local.control.send(FromWorker::SentTo { request, count });
            }
        }
        ToWorker::Relay { runtime, bytes } => {
            if let Some(&index) = local.index.get(&runtime) {
                local.deliver(index, Recipients::All, &bytes);
            }
        }
        ToWorker::Observe { runtime, on } => {
            if let Some(instance) = local.instance(runtime) {
                instance.observed = on;
            }
        }
        ToWorker::Open { connection } => {
            if let Some(slot) = local.connections.slot_of(connection)
                && local.connections.at(slot).is_open()
            {
                local.opened(slot);
            }
        }
        ToWorker::Shutdown { drain_ms } => local.shutdown(drain_ms),
        for_an_app => on_app_message(local, for_an_app),
    }
}

/// Messages for one VM; a VM that is gone answers that it is.
fn on_app_message(local: &mut Local, message: ToWorker) {
    let gone = || Err("the app isn't running on this worker".to_owned());
    match message {
        ToWorker::Evaluate { request, app, code } => match local.apps.running_vm(app) {
            Some(vm) => vm.evaluate(request, &code),
            None => local.control.send(FromWorker::Evaluated { request, reply: gone() }),
        },
        ToWorker::Complete { request, app, line } => match local.apps.running_vm(app) {
            Some(vm) => vm.complete(request, &line),
            None => local.control.send(FromWorker::Evaluated { request, reply: gone() }),
        },
        ToWorker::Command { request, app, name, arguments } => match local.apps.running_vm(app) {
            Some(vm) => vm.command(request, &name, arguments),
            None => local.control.send(FromWorker::Evaluated { request, reply: gone() }),
        },
        ToWorker::Cancel { request, app } => {
            if let Some(vm) = local.apps.running_vm(app) {
                vm.cancel(request);
            }
        }
        ToWorker::Heard { app, generation, listen } => {
            local.on_heard(app, generation, listen, false);
        }
        ToWorker::Landed { app, generation, task, outcome } => {
            if let Some(vm) = local.apps.vm(app, generation) {
                vm.on_landed(task, &outcome);
            }
        }
        ToWorker::Answer { app, generation, task, reply } => {
            if let Some(vm) = local.apps.vm(app, generation) {
                vm.on_answer(task, reply);
            }
        }
        ToWorker::ErrandDone { owner, task, outcome } => {
            sockets::on_errand_done(local, owner, task, outcome);
        }
        ToWorker::Found { id, found } => sockets::on_found(local, id, found),
        _ => {}
    }
}

/// A dial takes too long: it counts as failed, its connection closes when the kernel lets go of it.
fn on_dial_timeout(local: &mut Local, connection: ConnectionId) {
    let Some(slot) = local.connections.slot_of(connection) else { return };
    if local.connections.at(slot).fd.is_some() || local.connections.at(slot).ended {
        return;
    }
    let timed_out = Err(Errno(libc::ETIMEDOUT));
    match local.connections.at(slot).role {
        Role::Client => client::on_connected(local, slot, timed_out),
        Role::Upstream => cache::replica::on_connected(local, slot, timed_out),
        _ => proxy::on_connected(local, slot, timed_out),
    }
}
