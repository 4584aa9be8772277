//! Runtimes: named servers, clients, proxies and caches, and what is common to them.
//!
//! `config` is the one table of their fields; the folders hold the behaviour of each type on one worker.
//! Must not know: the control thread, the command line.

pub mod apps;
pub mod cache;
pub mod client;
mod commands;
pub mod config;
pub mod connection;
pub mod datagrams;
pub mod errands;
pub mod flow;
pub mod instance;
pub mod keeper;
pub mod limiter;
pub mod listening;
pub mod local;
pub mod message;
pub mod opening;
pub mod place;
pub mod process;
pub mod proxy;
pub mod server;
pub mod sockets;
pub mod stats;
mod stopping;
pub mod stores;

use std::sync::Arc;

pub use stats::RuntimeStats;

pub use crate::id::{AppId, RuntimeId, RuntimeKind};
pub use crate::proto::framing::Framing;
pub use crate::ring::Address;

/// Who may speak on a server or client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Messages come in and go out; without a handler a server relays each to all other clients.
    InOut,
    /// Receive only.
    In,
    /// Send only: what peers say is read and dropped.
    Out,
    /// Without a handler each message goes back to whoever sent it.
    Echo,
    /// server: one client, which has the password, speaks to all others.
    Master,
}

/// What a server's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Told from each connection's first bytes.
    Auto,
    /// Messages in the runtime's framing, and nothing else.
    Messages,
    /// HTTP/1, and nothing else.
    Http,
    /// WebSocket, and nothing else.
    WebSocket,
}

/// What a server or client agrees to and keeps to on its WebSockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The subprotocols it speaks, the dearest first.
    pub subprotocols: Vec<String>,
    /// client: the path and query to ask for.
    pub path: String,
    /// server: the pages that may connect; empty for all.
    pub origins: Vec<String>,
    /// Whether to agree on compression.
    pub deflate: bool,
    /// A message's bytes at most, inflated.
    pub message_bytes_max: usize,
    /// After how much silence a peer is pinged, in milliseconds; 0 for never.
    pub ping_ms: u64,
    /// How long it may take to answer, in milliseconds.
    pub ping_timeout_ms: u64,
}

impl Default for WebSocketSettings {
    fn default() -> WebSocketSettings {
        WebSocketSettings {
            subprotocols: Vec::new(),
            path: "/".to_owned(),
            origins: Vec::new(),
            deflate: true,
            message_bytes_max: crate::limits::WEBSOCKET_MESSAGE_BYTES_MAX,
            ping_ms: crate::limits::WEBSOCKET_PING_MS,
            ping_timeout_ms: crate::limits::WEBSOCKET_PING_TIMEOUT_MS,
        }
    }
}

/// What a server answers over HTTP, beside its app's `on_http_request`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// By method and path.
    pub routes: Option<Arc<server::http::routes::Routes>>,
    /// A folder of files.
    pub files: Option<server::http::files::StaticFiles>,
    /// The app has functions round all handlers.
    pub middleware: bool,
    /// The largest body that is collected.
    pub max_body_bytes: usize,
    /// A log line for each request.
    pub access_log: bool,
    /// How long peers may take.
    pub times: HttpTimes,
}

/// How long an HTTP peer may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTimes {
    /// Between requests.
    pub idle_ms: u64,
    /// For a request's head.
    pub head_ms: u64,
    /// For some progress of its body.
    pub body_ms: u64,
    /// To take some of its answer.
    pub write_ms: u64,
}

impl Default for HttpTimes {
    fn default() -> HttpTimes {
        use crate::limits;
        HttpTimes {
            idle_ms: limits::HTTP_IDLE_MS,
            head_ms: limits::HTTP_HEAD_MS,
            body_ms: limits::HTTP_BODY_CHECK_MS,
            write_ms: limits::HTTP_WRITE_STALL_MS,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            routes: None,
            files: None,
            middleware: false,
            max_body_bytes: crate::limits::HTTP_BODY_BYTES,
            access_log: false,
            times: HttpTimes::default(),
        }
    }
}

impl HttpConfig {
    /// A folder that was named from where the definition is.
    pub fn anchor(&mut self, folder: &std::path::Path) {
        if let Some(files) = &mut self.files {
            files.folder = folder.join(&files.folder);
        }
    }

    /// Whether the folder can be served.
    ///
    /// # Errors
    /// Why it can't.
    pub fn check_files(&self) -> Result<(), String> {
        let Some(files) = &self.files else { return Ok(()) };
        server::http::files::check(&files.folder).map_err(|problem| format!("static: {problem}"))
    }
}

/// How a proxy chooses a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One after the other.
    RoundRobin,
    /// By chance.
    Random,
    /// The less loaded of two by chance.
    TwoChoices,
    /// The least loaded.
    LeastConnections,
    /// What is alike meets the same one.
    Hash,
    /// The one whose answers begin soonest, its load considered.
    Latency,
    /// `on_route` says.
    Lua,
}

/// What clients of a cache may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No write commands.
    ReadOnly,
    /// Everything but administration.
    ReadWrite,
    /// Everything.
    Admin,
}

/// How many workers serve a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerCount {
    /// One with handlers, all without.
    Default,
    /// So many, or all if there are fewer.
    Count(u16),
    /// All.
    All,
}

/// A runtime's fields, checked. What is for one type only is at its default for the others.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeConfig {
    /// The runtime's name.
    pub name: String,
    /// Its type.
    pub kind: RuntimeKind,
    /// The address to listen on (server, proxy, cache), as the user wrote it and resolved.
    pub listen: Option<Address>,
    /// What else its listening socket is.
    pub socket: crate::net::listener::SocketOptions,
    /// server, client: datagrams instead of streams; `listen` says so too.
    pub udp: bool,
    /// UDP server: how many times what a peer has sent it is sent at most, until it is verified; 0: no limit.
    pub amplification: u32,
    /// client: bytes of messages that are kept while nobody is connected.
    pub send_queue_bytes: usize,
    /// server, mode master: what makes a client the master.
    pub master_password: Option<String>,
    /// server, mode master: whether the master gets what others say.
    pub master_forward: bool,
    /// server, client: who may speak.
    pub mode: Mode,
    /// server, client: what makes a message.
    pub framing: Framing,
    /// server: what its clients speak; proxy: messages for any stream, or HTTP.
    pub protocol: Protocol,
    /// Bytes that may wait for a connection that doesn't read.
    pub backlog_bytes_max: usize,
    /// server: beyond that the oldest messages are dropped; else the connection closes.
    pub drops_oldest: bool,
    /// server, client: what holds of its WebSockets.
    pub websocket: WebSocketSettings,
    /// server: how long `auto` waits for a client's first bytes before its app meets it, in milliseconds.
    pub detect_ms: u64,
    /// server: what it answers over HTTP.
    pub http: HttpConfig,
    /// server, proxy, cache: accepted connections at a time; 0 for no limit of its own.
    pub max_connections: u32,
    /// client: `host:port` to dial.
    pub target: Option<String>,
    /// client: reconnect attempts in a row before giving up; 0 for never give up, nothing for no reconnecting.
    pub reconnect: Option<u32>,
    /// What it and others are called together.
    pub group: Option<String>,
    /// proxy: `host:port`, names of runtimes or `@group`s, in order.
    pub backends: Vec<String>,
    /// proxy: how to choose.
    pub strategy: Strategy,
    /// proxy: how HTTP is passed on.
    pub proxy: proxy::Settings,
    /// cache: what clients may do.
    pub access: Access,
    /// cache: AUTH's password.
    pub password: Option<String>,
    /// cache: its own commands.
    pub commands: Arc<[crate::store::scripting::commands::CommandSpec]>,
    /// cache: how changes are written behind, if its app does that.
    pub write_behind: cache::hooks::WriteBehind,
    /// cache: the primary whose replica it is from its start.
    pub replicate: Option<(String, u16)>,
    /// cache: bytes that it may take; 0: no limit.
    pub maxmemory: u64,
    /// cache: how it is kept on disk.
    pub persist: crate::store::persistence::Persist,
    /// cache: when its append log is forced to the disk.
    pub appendfsync: crate::store::persistence::Sync,
    /// cache: what happens then.
    pub eviction: crate::store::eviction::Policy,
    /// What peers may do.
    pub limits: limiter::Limits,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<limiter::Network>,
    /// TLS towards clients, targets and backends.
    pub tls: crate::net::tls::Settings,
    /// How many workers serve it.
    pub workers: WorkerCount,
    /// A callback-style script, as the user named it.
    pub lua: Option<std::path::PathBuf>,
    /// Whether it starts as soon as it is made; nothing: in a file yes, on the command line no.
    pub autostart: Option<bool>,
}

/// A proxy's backend as the workers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name, which others may share; its address if it has none.
    pub name: String,
    /// Its address as the user wrote it.
    pub address: String,
    /// How much of the whole it gets beside others.
    pub weight: u32,
    /// It serves only if the others can't.
    pub backup: bool,
    /// How to choose among those of its name, if that isn't the proxy's own way.
    pub strategy: Option<Strategy>,
    /// Where to dial, in order of preference; empty while the name doesn't resolve.
    pub addresses: Vec<Address>,
}

impl Default for Backend {
    fn default() -> Backend {
        let (name, address) = (String::new(), String::new());
        Backend { name, address, weight: 1, backup: false, strategy: None, addresses: Vec::new() }
    }
}

impl Backend {
    /// What it is known by in its runtime.
    pub fn key(&self) -> String {
        if self.name == self.address || self.address.is_empty() {
            self.name.clone()
        } else {
            format!("{}={}", self.name, self.address)
        }
    }
}

/// A runtime as a worker receives it.
#[derive(Clone)]
pub struct Placement {
    /// Its number.
    pub id: RuntimeId,
    /// Its fields.
    pub config: Arc<RuntimeConfig>,
    /// Where to count, one cell per worker.
    pub stats: Arc<RuntimeStats>,
    /// cache: the store.
    pub store: Option<Arc<crate::store::SharedStore>>,
    /// proxy: the backends; client: one, its target.
    pub backends: Vec<Backend>,
    /// The app whose handlers it runs, and which of the app's definitions it is.
    pub app: Option<(AppId, usize)>,
    /// Its certificates and what else TLS needs.
    pub tls: crate::net::tls::Tls,
    /// The workers that serve it, lowest first; the first one accepts.
    pub workers: Vec<u8>,
}
