//! Names of things that several layers speak of: connections, runtimes, apps.
//!
//! Plain numbers and words; must not know what they name.

use std::fmt;

/// Names a connection for its whole life: worker (8 bits), slot (20 bits), generation (24 bits).
///
/// It fits a Lua number exactly. A slot's generation grows with each use and the slot retires at the wrap, so a late
/// send never reaches someone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Puts the parts together.
    pub fn new(worker: u8, slot: u32, generation: u32) -> ConnectionId {
        assert!(slot < 1 << 20 && generation < 1 << 24, "a connection id's parts fit their bits");
        ConnectionId(u64::from(worker) << 44 | u64::from(slot) << 24 | u64::from(generation))
    }

    /// From its 52 bits; nothing if there are more.
    pub fn from_bits(bits: u64) -> Option<ConnectionId> {
        (bits < 1 << 52).then_some(ConnectionId(bits))
    }

    /// The 52 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The worker that owns the connection.
    pub fn worker(self) -> u8 {
        (self.0 >> 44) as u8
    }

    /// The slot in that worker's table.
    pub fn slot(self) -> u32 {
        (self.0 >> 24) as u32 & 0xf_ffff
    }

    /// Which use of the slot.
    pub fn generation(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }
}

/// The four types of runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuntimeKind {
    /// Accepts connections and talks to them.
    Server,
    /// Keeps one connection to a peer, reconnecting.
    Client,
    /// Passes connections on to backends.
    Proxy,
    /// A Redis-compatible store with its RESP front.
    Cache,
}

impl RuntimeKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [RuntimeKind; 4] =
        [RuntimeKind::Server, RuntimeKind::Client, RuntimeKind::Proxy, RuntimeKind::Cache];

    /// `server`, `client`, `proxy` or `cache`.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Server => "server",
            RuntimeKind::Client => "client",
            RuntimeKind::Proxy => "proxy",
            RuntimeKind::Cache => "cache",
        }
    }

    /// The reverse of [`RuntimeKind::name`].
    pub fn parse(name: &str) -> Option<RuntimeKind> {
        RuntimeKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A runtime's number in this daemon; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeId(pub u32);

/// An app's number in this daemon; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(pub u32);
