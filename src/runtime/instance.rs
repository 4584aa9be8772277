//! A runtime as one worker serves it.

use std::sync::Arc;

use crate::id::AppId;
use crate::lua::Handlers;
use crate::ring::Fd;
use crate::ring::timers::TimerId;

use super::cache::CacheState;
use super::client::Dialler;
use super::datagrams::Datagrams;
use super::proxy::backends::Backends;
use super::stats::StatsCell;
use super::{Placement, RuntimeConfig};

/// What a worker keeps for a runtime.
pub struct Instance {
    /// The runtime as it was placed.
    pub placement: Placement,
    /// The slots of its connections, in no order.
    pub members: Vec<u32>,
    /// Listeners it accepts from here.
    pub listeners: Vec<Listener>,
    /// The callbacks its app has for it.
    pub handlers: Handlers,
    /// Messages of this turn for its connections on other workers, as `server::outgoing` writes them.
    pub relay: Vec<u8>,
    /// Someone watches its messages.
    pub observed: bool,
    /// A timer runs that looks after its WebSockets.
    pub pings: bool,
    /// It is stopping.
    pub stopping: Option<Stopping>,
    /// client: its state.
    pub dialler: Dialler,
    /// When a failed handshake was last logged, in monotonic milliseconds; 0 for never.
    pub handshake_logged_ms: u64,
    /// proxy: its backends.
    pub proxy: Backends,
    /// UDP: its peers, and what waits to be sent.
    pub datagrams: Datagrams,
    /// cache: its store and the commands of the turn; away while its batch runs.
    pub cache: Option<Box<CacheState>>,
}

/// A listening socket that this worker accepts from.
pub struct Listener {
    /// The control thread's fd.
    pub fd: Fd,
    /// It receives datagrams, and sends them.
    pub udp: bool,
    /// An accept is in flight.
    pub accepting: bool,
    /// Nothing shall be accepted any more.
    pub ending: bool,
    /// The requests to answer when nothing is.
    pub unlistens: Vec<u64>,
}

/// A stop under way.
pub struct Stopping {
    /// The requests to answer.
    pub requests: Vec<u64>,
    /// `on_stop` still runs.
    pub handler: bool,
    /// Changes are written behind before that.
    pub behind: bool,
    /// Its connections may go on for the drain's time.
    pub drains: bool,
    /// Other workers serve it: it may come back before its time is over.
    pub leaves: bool,
    /// When to close by force.
    pub timer: Option<TimerId>,
}

impl Instance {
    /// For a placement on this worker.
    pub fn new(placement: Placement) -> Instance {
        let cache = super::cache::state(&placement);
        Instance {
            placement,
            members: Vec::new(),
            listeners: Vec::new(),
            handlers: Handlers::default(),
            relay: Vec::new(),
            observed: false,
            pings: false,
            stopping: None,
            dialler: Dialler::default(),
            handshake_logged_ms: 0,
            proxy: Backends::default(),
            datagrams: Datagrams::default(),
            cache,
        }
    }

    /// Its fields.
    pub fn config(&self) -> &RuntimeConfig {
        &self.placement.config
    }

    /// Its app's number.
    pub fn app(&self) -> Option<AppId> {
        self.placement.app.map(|(app, _)| app)
    }

    /// Its name, cheap to keep.
    pub fn config_arc(&self) -> Arc<RuntimeConfig> {
        Arc::clone(&self.placement.config)
    }

    /// Where this worker counts for it.
    pub fn cell(&self, worker: u8) -> &StatsCell {
        self.placement.stats.cell(worker)
    }
}
