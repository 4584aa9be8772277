//! The apps that live on a worker: which generation of each runs, and the way of events in and actions out.
//!
//! A connection belongs to the generation that has seen it last. It meets a newer one at its next event, unless its
//! handler waits in the older one: then it stays there until that handler has ended.

mod acting;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::id::{AppId, ConnectionId, RuntimeId};
use crate::limits;
use crate::lua::vm::AppVm;
use crate::lua::{AppSource, Binding, Handlers, Host, Stores, WatchSlot};
use crate::proto::websocket::Kind;
use crate::ring::Address;
use crate::ring::timers::TimerId;
use crate::store::SharedStore;
use crate::store::hooks::OnLanded;

use super::connection::{ProtocolState, Role};
use super::listening::Listenings;
use super::local::Local;
use super::message::{FromWorker, ToWorker};
use super::{Placement, cache, proxy, server, sockets};

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Evaluated, not yet serving.
    Prepared,
    /// Serving.
    Running,
    /// Finishing what waits in it; ends at the latest when the monotonic clock says so, in milliseconds.
    Draining { until_ms: u64 },
}

/// One generation of an app.
pub struct Hosted {
    app: AppId,
    generation: u32,
    name: String,
    stage: Stage,
    /// What happens once per app happens here.
    is_home: bool,
    pub(super) vm: AppVm,
    timers: BTreeMap<u64, TimerId>,
    pub(super) listenings: Listenings,
}

impl Hosted {
    /// The app's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The app and the generation.
    pub(super) fn key(&self) -> (AppId, u32) {
        (self.app, self.generation)
    }
}

/// All generations on one worker.
pub struct Apps {
    slots: Vec<Option<Hosted>>,
    /// The generation whose VM is out of its slot while its actions are carried out.
    busy: Option<(AppId, u32)>,
    /// Connections of the busy VM that have closed meanwhile.
    late_closes: Vec<(ConnectionId, u16, Box<str>)>,
    /// Connections whose handler has just ended.
    unparked: Vec<u32>,
    stores: Rc<dyn Stores>,
    watch: Arc<WatchSlot>,
}

impl Apps {
    /// No apps yet.
    pub fn new(stores: Rc<dyn Stores>, watch: Arc<WatchSlot>) -> Apps {
        Apps {
            slots: Vec::new(),
            busy: None,
            late_closes: Vec::new(),
            unparked: Vec::new(),
            stores,
            watch,
        }
    }

    fn find(&self, wanted: impl Fn(&Hosted) -> bool) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(&wanted))
    }

    fn running(&self, app: AppId) -> Option<usize> {
        self.find(|hosted| hosted.app == app && hosted.stage == Stage::Running)
    }

    fn generation(&self, app: AppId, generation: u32) -> Option<usize> {
        self.find(|hosted| hosted.app == app && hosted.generation == generation)
    }

    /// The running VM of an app.
    pub fn running_vm(&mut self, app: AppId) -> Option<&mut AppVm> {
        let index = self.running(app)?;
        self.slots[index].as_mut().map(|hosted| &mut hosted.vm)
    }

    /// The generation that serves a runtime: the running one, or an older one whose definition of it is gone from the
    /// file, until the runtime has stopped.
    fn serving(&self, app: AppId, runtime: RuntimeId) -> Option<usize> {
        let bound = |hosted: &Hosted| hosted.app == app && hosted.vm.is_bound(runtime);
        self.find(|hosted| bound(hosted) && hosted.stage == Stage::Running)
            .or_else(|| self.find(|hosted| bound(hosted) && hosted.stage != Stage::Prepared))
    }

    /// The VM of the generation that serves a runtime.
    pub fn serving_vm(&mut self, app: AppId, runtime: RuntimeId) -> Option<&mut AppVm> {
        let index = self.serving(app, runtime)?;
        self.slots[index].as_mut().map(|hosted| &mut hosted.vm)
    }

    /// A certain generation's VM.
    pub fn vm(&mut self, app: AppId, generation: u32) -> Option<&mut AppVm> {
        let index = self.generation(app, generation)?;
        self.slots[index].as_mut().map(|hosted| &mut hosted.vm)
    }

    /// A certain generation.
    pub fn hosted(&mut self, app: AppId, generation: u32) -> Option<&mut Hosted> {
        let index = self.generation(app, generation)?;
        self.slots[index].as_mut()
    }

    /// Whether a runtime's app is at home on this worker.
    pub fn is_home(&self, app: AppId, runtime: RuntimeId) -> bool {
        let serving = self.serving(app, runtime).and_then(|index| self.slots[index].as_ref());
        serving.is_some_and(|hosted| hosted.is_home)
    }

    /// The store of a cache.
    pub fn store(&self, name: &str) -> Option<Arc<SharedStore>> {
        self.stores.find(name)
    }

    /// Caches have come or gone.
    pub fn join_listeners(&mut self) {
        for hosted in self.slots.iter_mut().flatten() {
            hosted.listenings.join(|name| self.stores.find(name));
        }
    }

    /// Whether this generation's VM is out of its place while its actions are carried out.
    pub fn is_busy(&self, app: AppId, generation: u32) -> bool {
        self.busy == Some((app, generation))
    }

    /// Whether some VM has events or ready tasks.
    pub fn have_work(&self) -> bool {
        self.slots.iter().flatten().any(|hosted| hosted.vm.has_work())
    }
}

impl Local {
    /// Builds a generation beside the running one and answers what it defines.
    pub fn prepare_app(&mut self, request: u64, app: AppId, source: Arc<AppSource>) {
        let host = Host {
            worker: self.worker,
            stores: Rc::clone(&self.apps.stores),
            seed: self.random.next_u64(),
            watch: Arc::clone(&self.apps.watch),
            on_landed: self.on_landed(app, source.generation),
        };
        let (result, modules) = AppVm::load(Arc::clone(&source), host, self.now);
        let result = result.map(|vm| {
            let definitions = vm.definitions().clone();
            let hosted = Hosted {
                app,
                generation: source.generation,
                name: source.name.clone(),
                stage: Stage::Prepared,
                is_home: false,
                vm,
                timers: BTreeMap::new(),
                listenings: Listenings::default(),
            };
            match self.apps.slots.iter().position(Option::is_none) {
                Some(free) => self.apps.slots[free] = Some(hosted),
                None => self.apps.slots.push(Some(hosted)),
            }
            definitions
        });
        self.control.send(FromWorker::Prepared { request, result, modules });
    }

    /// How a VM's task is told that the keys it waits for are there.
    fn on_landed(&self, app: AppId, generation: u32) -> Rc<dyn Fn(u64) -> OnLanded> {
        let inbox = Arc::clone(&self.workers[usize::from(self.worker)]);
        Rc::new(move |task| {
            let inbox = Arc::clone(&inbox);
            Box::new(move |outcome| {
                inbox.send(ToWorker::Landed { app, generation, task, outcome });
            })
        })
    }

    /// Makes a prepared generation the running one.
    pub fn commit_app(
        &mut self,
        request: u64,
        (app, generation): (AppId, u32),
        is_home: bool,
        placements: Vec<Placement>,
    ) {
        let result = self.try_commit(app, generation, is_home, placements);
        if result.is_err() {
            self.discard_app(app, generation);
        }
        self.control.send(FromWorker::Committed { request, result });
    }

    fn try_commit(
        &mut self,
        app: AppId,
        generation: u32,
        is_home: bool,
        placements: Vec<Placement>,
    ) -> Result<(), crate::error::ScriptError> {
        let gone = || crate::error::ScriptError {
            message: format!("generation {generation} was never prepared on this worker"),
            ..Default::default()
        };
        // Between two batches: what this turn brought for the old generation is part of the state that moves over.
        self.run_apps();
        let new = self.apps.generation(app, generation).ok_or_else(gone)?;
        let old = self.apps.running(app).filter(|old| *old != new);
        let state = match old.and_then(|old| self.apps.slots[old].as_mut()) {
            Some(old) => Some(old.vm.export_state()?),
            None => None,
        };
        let bindings: Vec<Binding> = placements
            .iter()
            .filter_map(|placement| {
                let (_, definition) = placement.app.filter(|(owner, _)| *owner == app)?;
                Some(Binding {
                    definition,
                    runtime: placement.id,
                    name: placement.config.name.clone(),
                    port: placement.config.listen.as_ref().map_or(0, Address::port),
                })
            })
            .collect();
        let now = self.now;
        let hosted = self.apps.slots[new].as_mut().ok_or_else(gone)?;
        for placement in &placements {
            super::commands::install(placement, app, &hosted.vm, now.unix_ms)?;
        }
        hosted.vm.commit(&bindings, state, now)?;
        hosted.stage = Stage::Running;
        hosted.is_home = is_home;
        if let Some(old) = old.and_then(|old| self.apps.slots[old].as_mut()) {
            old.vm.retire();
            old.listenings = Listenings::default();
            old.stage =
                Stage::Draining { until_ms: now.monotonic_ms() + limits::GENERATION_DRAIN_MS };
        }
        for placement in placements {
            self.place(placement);
        }
        self.adopt_connections(app);
        Ok(())
    }

    /// The running generation meets the app's connections, so that it can count and find them; those whose handler waits
    /// in an older one follow when that has ended.
    fn adopt_connections(&mut self, app: AppId) {
        let slots: Vec<u32> = self.connections.slots().collect();
        for slot in slots {
            let connection = self.connections.at(slot);
            let (index, known) = (connection.instance, connection.generation != 0);
            if !known || connection.parked || self.instance_at(index).app() != Some(app) {
                continue;
            }
            match &self.connections.at(slot).protocol {
                // A stream of the old generation's has lost its writer; its client comes again.
                ProtocolState::Http(http) if http.has_detached() => self.close_after_flush(slot),
                _ => drop(self.vm_of(slot)),
            }
        }
    }

    /// Forgets a generation that never served.
    pub fn discard_app(&mut self, app: AppId, generation: u32) {
        if let Some(index) = self.apps.generation(app, generation)
            && self.apps.slots[index].as_ref().is_some_and(|h| h.stage == Stage::Prepared)
        {
            self.apps.slots[index] = None;
        }
    }

    /// The app ends: what still waits in it has the drain time.
    pub fn drop_app(&mut self, app: AppId) {
        let until_ms = self.now.monotonic_ms() + limits::GENERATION_DRAIN_MS;
        for hosted in self.apps.slots.iter_mut().flatten().filter(|hosted| hosted.app == app) {
            if !matches!(hosted.stage, Stage::Draining { .. }) {
                hosted.vm.retire();
                hosted.listenings = Listenings::default();
                hosted.stage = Stage::Draining { until_ms };
            }
        }
    }

    /// Closes generations in which nothing waits any more.
    pub fn close_drained(&mut self) {
        let now_ms = self.now.monotonic_ms();
        for index in 0..self.apps.slots.len() {
            let Some(hosted) = &self.apps.slots[index] else { continue };
            let Stage::Draining { until_ms } = hosted.stage else { continue };
            let idle = hosted.vm.waiting() == 0 && !hosted.vm.has_work() && !self.serves(index);
            if !idle && now_ms < until_ms {
                continue;
            }
            let (app, generation) = (hosted.app, hosted.generation);
            self.release_parked(app, generation);
            sockets::end_all_of(self, (app, generation));
            if let Some(hosted) = self.apps.slots[index].take() {
                for timer in hosted.timers.into_values() {
                    self.timers.cancel(timer);
                }
            }
            cache::hooks::on_generation_end(self, app, generation);
            self.control.send(FromWorker::GenerationEnded { app, generation });
        }
    }

    /// Whether a runtime that hasn't stopped yet has its handlers in this generation only.
    fn serves(&self, hosted: usize) -> bool {
        self.instances.iter().flatten().any(|instance| {
            let app = instance.app();
            app.and_then(|app| self.apps.serving(app, instance.placement.id)) == Some(hosted)
        })
    }

    /// When a draining generation must end although something still waits in it.
    pub fn next_drain_ns(&self) -> Option<u64> {
        let deadlines = self.apps.slots.iter().flatten().filter_map(|hosted| match hosted.stage {
            Stage::Draining { until_ms } => Some(until_ms * 1_000_000),
            _ => None,
        });
        deadlines.min()
    }

    fn release_parked(&mut self, app: AppId, generation: u32) {
        let slots: Vec<u32> = self.connections.slots().collect();
        for slot in slots {
            let connection = self.connections.at(slot);
            let (index, here) = (connection.instance, connection.generation == generation);
            if connection.parked && here && self.instance_at(index).app() == Some(app) {
                self.unpark(slot);
            }
        }
    }

    /// The handlers of a runtime in the generation that runs.
    pub fn handlers_of(&mut self, app: Option<AppId>, runtime: RuntimeId) -> Handlers {
        let vm = app.and_then(|app| self.apps.serving_vm(app, runtime));
        vm.map_or(Handlers::default(), |vm| vm.handlers(runtime))
    }

    /// The VM for an event of a connection: that of the generation that serves its runtime, introduced to the connection
    /// if it is new to it.
    pub fn vm_of(&mut self, slot: u32) -> Option<(&mut AppVm, RuntimeId, ConnectionId)> {
        let connection = self.connections.at(slot);
        let (id, seen) = (connection.id, connection.generation);
        let is_http = matches!(connection.protocol, ProtocolState::Http(_));
        let instance = self.instances[connection.instance].as_ref()?;
        let (app, runtime) = (instance.app()?, instance.placement.id);
        let index = self.apps.serving(app, runtime)?;
        let hosted = self.apps.slots[index].as_mut()?;
        if seen != hosted.generation {
            let connection = self.connections.at(slot);
            let peer = &connection.peer;
            if is_http {
                hosted.vm.on_visit(runtime, id, peer);
            } else if seen == 0 {
                hosted.vm.on_open(runtime, id, peer);
            } else {
                hosted.vm.on_adopt(runtime, id, peer);
            }
            connection.generation = hosted.generation;
        }
        Some((&mut hosted.vm, runtime, id))
    }

    /// A connection has opened: its app meets it.
    pub fn tell_app_open(&mut self, slot: u32) {
        self.vm_of(slot);
    }

    /// A message came; its kind if it came over a WebSocket.
    pub fn tell_app_message(&mut self, slot: u32, message: &[u8], kind: Option<Kind>) {
        if let Some((vm, runtime, id)) = self.vm_of(slot) {
            vm.on_message(runtime, id, message, kind == Some(Kind::Binary));
        }
    }

    /// The connection is a WebSocket; `request` is what its request said.
    pub fn tell_app_websocket(&mut self, slot: u32, request: &[u8]) {
        if let Some((vm, runtime, id)) = self.vm_of(slot) {
            vm.on_websocket(runtime, id, request);
        }
    }

    /// A client has said a password to become the master.
    pub fn tell_app_master(&mut self, slot: u32, password: &[u8]) {
        match self.vm_of(slot) {
            Some((vm, runtime, id)) => vm.on_master(runtime, id, password),
            None => {
                self.connections.at(slot).parked = false;
                server::master::decide(self, slot, false);
            }
        }
    }

    /// Where shall a proxied client go?
    pub fn tell_app_route(&mut self, slot: u32) {
        if matches!(self.connections.at(slot).role, Role::HttpFront(_)) {
            return proxy::http::ask_app(self, slot);
        }
        let index = self.connections.at(slot).instance;
        let peer = self.connections.at(slot).peer.clone();
        let listen = self.instance_at(index).config().listen.clone();
        match self.vm_of(slot) {
            Some((vm, runtime, id)) => {
                vm.on_route(runtime, id, &peer, listen.as_ref().unwrap_or(&peer));
            }
            None => proxy::on_route(self, slot, crate::lua::Route::Refused),
        }
    }

    /// A connection has ended. The generation that knows it hears of it; one that never met it doesn't.
    pub fn tell_app_close(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let (id, generation, index) = (connection.id, connection.generation, connection.instance);
        if generation == 0 {
            return;
        }
        let Some(app) = self.instance_at(index).app() else { return };
        if self.apps.busy == Some((app, generation)) {
            let (code, reason) = server::websocket::ending(self.connections.at(slot));
            let reason = reason.into();
            self.apps.late_closes.push((id, code, reason));
        } else if let Some(vm) = self.apps.vm(app, generation) {
            let (code, reason) = server::websocket::ending(self.connections.at(slot));
            vm.on_close(id, code, reason);
        }
    }

    /// A script's timer is due.
    pub fn on_script_timer(&mut self, app: AppId, generation: u32, timer: u64) {
        if let Some(index) = self.apps.generation(app, generation)
            && let Some(hosted) = self.apps.slots[index].as_mut()
        {
            hosted.timers.remove(&timer);
            hosted.vm.on_timer(timer);
        }
    }
}
