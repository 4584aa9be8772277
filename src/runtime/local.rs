//! All that lives on one worker: connections, runtimes, apps, timers, and the ops of the turn.
//!
//! The worker's loop feeds it completions and messages and submits what it asks for. It does no I/O itself: it reads
//! bytes that were received and appends to [`Local::ops`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{AppId, ConnectionId, RuntimeId};
use crate::log::{LogLevel, LogRecord};
use crate::proto::websocket::{Deflate, Workspace};
use crate::ring::random::Random;
use crate::ring::timers::Timers;
use crate::ring::{Fd, Now, Op, Token};

use super::apps::Apps;
use super::cache::CacheTurn;
use super::connection::Connections;
use super::instance::Instance;
use super::message::{FromWorker, Inbox, ToWorker};
use super::proxy::http::ProxyTurn;
use super::server::http::HttpTurn;
use super::server::outgoing::Gathered;
use super::sockets::Sockets;

/// What a worker's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerEvent {
    /// A script's timer.
    Script { app: AppId, generation: u32, timer: u64 },
    /// A client hasn't said anything for some time.
    Detect { connection: ConnectionId },
    /// An HTTP peer may have taken too long.
    Http { connection: ConnectionId },
    /// A client runtime dials its target's next address beside the one before.
    NextAddress { runtime: RuntimeId, after: ConnectionId },
    /// A client runtime dials again.
    Reconnect { runtime: RuntimeId },
    /// A request that should become a WebSocket hasn't come yet.
    Upgrade { connection: ConnectionId },
    /// A runtime's WebSockets are looked after.
    Ping { runtime: RuntimeId },
    /// A client or backend of an HTTP proxy may have taken too long.
    Proxy { connection: ConnectionId },
    /// Requests wait for a place at a proxy's backends.
    Queue { runtime: RuntimeId },
    /// A proxy's backends are asked whether they are well.
    Health { runtime: RuntimeId },
    /// A health check takes too long.
    Probe { connection: ConnectionId },
    /// A proxy's kept connections are looked through.
    Tend { runtime: RuntimeId },
    /// A dial takes too long.
    DialTimeout { connection: ConnectionId },
    /// A connection that was over its rate is due again.
    Throttled { connection: ConnectionId },
    /// A connection may have been silent for too long.
    Idle { connection: ConnectionId },
    /// A handshake takes too long.
    Handshake { connection: ConnectionId },
    /// A client is silent on a port that speaks both TLS and plain.
    FirstByte { connection: ConnectionId },
    /// A peer doesn't end its side after we ended ours.
    Linger { connection: ConnectionId },
    /// A connection that closes had so many bytes left to send.
    Flush { connection: ConnectionId, left: usize },
    /// A runtime that stops has waited long enough for its connections.
    DrainEnds { runtime: RuntimeId },
    /// A cache's regular work: expiry, merging, freeing.
    Maintain { runtime: RuntimeId },
    /// A cache's changes are to be written behind.
    WriteBehind { runtime: RuntimeId },
    /// A replica dials its primary again, or says how far it is.
    Upstream { runtime: RuntimeId },
    /// A cache's client has waited long enough.
    CacheWait { connection: ConnectionId },
    /// Accepting was paused for want of file descriptors.
    AcceptAgain { runtime: RuntimeId },
    /// A script's socket that closes takes too long.
    Socket { id: u64 },
    /// The worker ends, whoever is still connected.
    Deadline,
}

/// One worker's world.
pub struct Local {
    /// The worker's index.
    pub worker: u8,
    /// The time of this turn.
    pub now: Now,
    /// What to ask of the kernel at the end of the turn.
    pub ops: Vec<Op>,
    /// Its connections.
    pub connections: Connections,
    /// Its runtimes; a runtime's index stays until it is stopped.
    pub instances: Vec<Option<Instance>>,
    /// Where in `instances` a runtime is.
    pub index: BTreeMap<RuntimeId, usize>,
    /// Its apps.
    pub apps: Apps,
    /// The connections that scripts make.
    pub sockets: Sockets,
    /// Its timers.
    pub timers: Timers<TimerEvent>,
    /// Chance, seeded at the worker's start.
    pub random: Random,
    /// Connections with something to flush.
    pub dirty: Vec<u32>,
    /// Connections whose receive ended for want of a buffer.
    pub starved: Vec<u32>,
    /// Connections whose peer ended its stream in this turn.
    pub half_closed: Vec<u32>,
    /// Those of them whose last line has a handler that must run first.
    pub half_closed_again: Vec<u32>,
    /// Connections of client runtimes that have just come about, with messages that waited for them.
    pub connected: Vec<ConnectionId>,
    /// Instances with datagrams to send.
    pub dirty_datagrams: Vec<usize>,
    /// Sockets whose receive of datagrams ended for want of a buffer.
    pub starved_sockets: Vec<Token>,
    /// Instances with messages for their connections on other workers.
    pub relaying: Vec<usize>,
    /// For records of TLS and what they say.
    pub room: crate::net::tls::Room,
    /// Messages for many that are delivered together.
    pub gathered: Gathered,
    /// For reading WebSockets.
    pub websocket: Workspace,
    /// For compressing what is sent to them.
    pub deflate: Deflate,
    /// The commands that this turn brought to the caches here.
    pub cache: CacheTurn,
    /// What HTTP connections share.
    pub http: HttpTurn,
    /// What HTTP proxies share.
    pub proxy: ProxyTurn,
    /// To the control thread.
    pub control: Arc<Inbox<FromWorker>>,
    /// To every worker, this one included.
    pub workers: Arc<[Arc<Inbox<ToWorker>>]>,
    /// Set by a shutdown: the loop ends when nothing is open.
    pub ending: bool,
}

/// The owner bits of ops that belong to no connection (the close of a refused socket).
pub const NOBODY: u64 = (1 << 52) - 1;

impl Local {
    /// The instance of a runtime.
    pub fn instance(&mut self, runtime: RuntimeId) -> Option<&mut Instance> {
        let index = *self.index.get(&runtime)?;
        self.instances[index].as_mut()
    }

    /// The instance at an index that a live connection holds.
    pub fn instance_at(&mut self, index: usize) -> &mut Instance {
        self.instances[index].as_mut().expect("an instance outlives its connections")
    }

    /// Whether a shutdown is complete: every runtime has stopped and the last closes are submitted.
    pub fn has_ended(&self) -> bool {
        let is_empty = self.connections.is_empty() && self.instances.iter().all(Option::is_none);
        self.ending && is_empty && self.sockets.is_empty() && self.ops.is_empty()
    }

    /// Closes a socket that never became a connection.
    pub fn close_unowned(&mut self, fd: Fd) {
        self.ops.push(Op::Close {
            fd,
            token: crate::ring::Token::new(crate::ring::OpKind::Close, NOBODY),
        });
    }

    /// Writes a log line about a runtime or app.
    pub fn log(&self, level: LogLevel, source: &str, text: String) {
        self.control.send(FromWorker::Log(LogRecord {
            unix_ms: self.now.unix_ms,
            level,
            source: source.to_owned(),
            text,
        }));
    }
}
