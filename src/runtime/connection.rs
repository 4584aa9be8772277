//! One worker's connections: their state, and the table that names them.
//!
//! Must not know: what the bytes mean.

use crate::id::ConnectionId;
use crate::limits;
use crate::net::Outbox;
use crate::net::tls::Session;
use crate::proto::http1::RequestReader;
use crate::proto::websocket::handshake::Offer;
use crate::ring::{Address, Fd};

use super::cache::CacheClient;
use super::datagrams::Credit;
use super::limiter::{Limiter, Seat};
use super::proxy::Link;
use super::proxy::health::Probe;
use super::proxy::http::{Back as HttpBack, Front as HttpFront};
use super::server::backlog::Backlog;
use super::server::detect::Detecting;
use super::server::http::Http;
use super::server::websocket::WebSocket;

/// How far a connection's life has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Being dialled; there is no fd yet.
    Dialling,
    /// Bytes flow.
    Open,
    /// Nothing is read any more; closes when the outbox is empty.
    Flushing,
    /// Our side is shut; what the peer still sends is dropped until it ends too, so that it can read our last bytes.
    Lingering,
    /// Waits for the ops in flight.
    Closing,
    /// The close op is in flight.
    Closed,
}

/// What stands between a connection's socket and its runtime.
pub enum Layer {
    /// Nothing: bytes go as they come.
    Plain,
    /// A PROXY header comes first; its start is in the connection's input.
    ProxyHeader,
    /// The first byte will say whether this is TLS.
    FirstByte,
    /// Records, after their handshake.
    Tls(Box<Session>),
}

/// What a connection is to its runtime.
pub enum Role {
    /// Nothing yet: a handshake comes first.
    Guest,
    /// A client of a server runtime.
    Server,
    /// A client runtime's connection to its target.
    Client,
    /// A proxy's connection to a client.
    Front(Box<Link>),
    /// A proxy's connection to a backend.
    Back(Box<Link>),
    /// A proxy's connection to a client that speaks HTTP.
    HttpFront(Box<HttpFront>),
    /// A proxy's connection to a backend that speaks HTTP.
    HttpBack(Box<HttpBack>),
    /// A proxy asks a backend whether it is well.
    Probe(Box<Probe>),
    /// A client of a cache.
    Cache(Box<CacheClient>),
    /// A cache's connection to its primary.
    Upstream,
}

impl Role {
    /// Whether it is a proxy's, to a client or a backend.
    pub fn is_proxied(&self) -> bool {
        matches!(
            self,
            Role::Front(_)
                | Role::Back(_)
                | Role::HttpFront(_)
                | Role::HttpBack(_)
                | Role::Probe(_)
        )
    }
}

/// What a server's or client's connection speaks; proxies and caches have one protocol each.
#[derive(Debug)]
pub enum ProtocolState {
    /// Not known yet.
    Detecting(Detecting),
    /// Messages in the runtime's framing.
    Messages,
    /// HTTP/1.
    Http(Box<Http>),
    /// HTTP/1, one request that must become a WebSocket.
    Upgrading(RequestReader),
    /// HTTP/1, the answer to our own such request.
    Connecting(Box<Offer>),
    /// WebSocket.
    WebSocket(Box<WebSocket>),
    /// UDP.
    Datagrams(Credit),
}

/// One socket with its protocol state.
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// Nothing while it is being dialled.
    pub fd: Option<Fd>,
    /// Index in the worker's instances; valid as long as the connection is.
    pub instance: usize,
    /// The other end.
    pub peer: Address,
    /// How far it is.
    pub phase: Phase,
    /// What it is to its runtime.
    pub role: Role,
    /// What it speaks, to a server or client runtime.
    pub protocol: ProtocolState,
    /// What stands before that.
    pub layer: Layer,
    /// What it may do in how much time; nothing without limits.
    pub limiter: Option<Box<Limiter>>,
    /// Its place among the connections of its address, where they are limited.
    pub seat: Option<Seat>,
    /// Why it never came to be one of its runtime's.
    pub failure: Option<Box<str>>,
    /// Bytes read and not yet understood: the start of a message, or all that came while parked.
    pub input: Vec<u8>,
    /// Bytes to send.
    pub outbox: Outbox,
    /// Bytes that may wait for the peer to take them.
    pub backlog_bytes_max: usize,
    /// Messages behind the outbox's, if the oldest are dropped beyond that; else the connection closes.
    pub backlog: Option<Box<Backlog>>,
    /// Ops that the kernel still holds for it.
    pub in_flight: u16,
    /// A receive is in flight.
    pub receiving: bool,
    /// The receive is being cancelled.
    pub cancelling: bool,
    /// Why nothing is read: the bits of [`Pause`].
    pub paused: u8,
    /// Its handler waits: nothing more of it is parsed.
    pub parked: bool,
    /// The peer has ended its stream.
    pub read_ended: bool,
    /// The runtime has been told that it ended.
    pub ended: bool,
    /// Wrong master passwords that it has said.
    pub master_tries: u8,
    /// It is in the worker's list of connections to flush.
    pub dirty: bool,
    /// Its output waits until a cache's changes up to there are on disk; 0: it doesn't.
    pub disk_offset: u64,
    /// The generation of the app that knows it; 0 for none.
    pub generation: u32,
    /// Its place in the instance's list of members.
    pub member: u32,
}

/// Reasons to stop reading.
pub struct Pause;

impl Pause {
    /// Its own outbox is over the high-water mark.
    pub const OUTBOX: u8 = 1;
    /// The other half of a proxied pair can't take more.
    pub const LINK: u8 = 2;
    /// It is parked and its input is full.
    pub const PARKED: u8 = 4;
    /// A proxied client whose backend isn't there yet.
    pub const ROUTING: u8 = 8;
    /// The cache hasn't run its commands yet.
    pub const BATCH: u8 = 16;
    /// It is over its rate.
    pub const RATE: u8 = 32;
}

impl Connection {
    /// Whether messages may still be handed to it and taken from it.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether a handshake must end before its runtime hears of it.
    pub fn is_opening(&self) -> bool {
        match &self.layer {
            Layer::Plain => false,
            Layer::ProxyHeader | Layer::FirstByte => true,
            Layer::Tls(session) => !session.is_established(),
        }
    }

    /// Whether it is over its rate.
    pub fn is_throttled(&self) -> bool {
        self.limiter.as_ref().is_some_and(|limiter| limiter.throttled)
    }

    /// Bytes that aren't known to be sent.
    pub fn unsent_bytes(&self) -> usize {
        match &self.layer {
            Layer::Tls(session) => self.outbox.bytes() + session.wire_bytes(),
            _ => self.outbox.bytes(),
        }
    }

    /// Whether nothing more is to come of the peer: it has ended its stream, or its protocol says so.
    pub fn has_heard_all(&self) -> bool {
        self.read_ended
            || matches!(&self.protocol, ProtocolState::WebSocket(socket) if socket.has_ended())
    }
}

/// The connections of a worker by slot.
pub struct Connections {
    worker: u8,
    /// In blocks of [`BLOCK`], all but the last full: growing moves none of them and holds no memory twice.
    blocks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    open: usize,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

const GENERATION_MAX: u32 = (1 << 24) - 1;

const BLOCK: usize = 64;

impl Connections {
    /// An empty table.
    pub fn new(worker: u8) -> Connections {
        Connections { worker, blocks: Vec::new(), free: Vec::new(), open: 0 }
    }

    /// How many there are, closing ones included.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Takes a slot. Nothing if the worker holds as many as an id can name.
    pub fn insert(&mut self, make: impl FnOnce(ConnectionId) -> Connection) -> Option<u32> {
        let slot = self.free.pop().or_else(|| self.add_slot())?;
        let place = self.place_mut(slot)?;
        place.generation += 1;
        let generation = place.generation;
        let connection = make(ConnectionId::new(self.worker, slot, generation));
        self.place_mut(slot)?.connection = Some(connection);
        self.open += 1;
        Some(slot)
    }

    fn add_slot(&mut self) -> Option<u32> {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            if self.blocks.len() * BLOCK >= limits::CONNECTIONS_PER_WORKER_MAX {
                return None;
            }
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let block = self.blocks.last_mut()?;
        block.push(Slot { generation: 0, connection: None });
        Some((before + block.len() - 1) as u32)
    }

    fn place(&self, slot: u32) -> Option<&Slot> {
        self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.blocks.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)
    }

    /// Takes a slot for something that isn't a runtime's connection: its id is nobody else's until it is released.
    pub fn reserve(&mut self) -> Option<ConnectionId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.add_slot()?,
        };
        let worker = self.worker;
        let place = self.place_mut(slot)?;
        place.generation += 1;
        Some(ConnectionId::new(worker, slot, place.generation))
    }

    /// Frees a reserved slot.
    pub fn release(&mut self, id: ConnectionId) {
        let Some(place) = self.place(id.slot()) else { return };
        debug_assert!(place.connection.is_none() && place.generation == id.generation());
        if place.generation < GENERATION_MAX {
            self.free.push(id.slot());
        }
    }

    /// Frees a slot; it retires when its generations are used up.
    pub fn remove(&mut self, slot: u32) -> Option<Connection> {
        let place = self.place_mut(slot)?;
        let connection = place.connection.take()?;
        let is_worn_out = place.generation >= GENERATION_MAX;
        self.open -= 1;
        if !is_worn_out {
            self.free.push(slot);
        }
        Some(connection)
    }

    /// The slot of a connection, if it is still this one.
    pub fn slot_of(&self, id: ConnectionId) -> Option<u32> {
        let slot = id.slot();
        let here = id.worker() == self.worker
            && self.place(slot).is_some_and(|place| {
                place.generation == id.generation() && place.connection.is_some()
            });
        here.then_some(slot)
    }

    /// The connection in a slot.
    pub fn get(&self, slot: u32) -> Option<&Connection> {
        self.place(slot)?.connection.as_ref()
    }

    /// The connection in a slot.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.place_mut(slot)?.connection.as_mut()
    }

    /// The connection in a slot that is known to be taken.
    pub fn at(&mut self, slot: u32) -> &mut Connection {
        self.get_mut(slot).expect("the slot of a live connection")
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.blocks.iter_mut().flatten().filter_map(|place| place.connection.as_mut())
    }

    /// All taken slots.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..)
            .zip(self.blocks.iter().flatten())
            .filter(|(_, place)| place.connection.is_some())
            .map(|(i, _)| i)
    }
}
