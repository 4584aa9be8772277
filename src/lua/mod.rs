//! App VMs: LuaJIT states that run a user's handlers over batches of events.
//!
//! A VM takes events in ([`vm::AppVm`]'s `on_*`), runs them in one entry, and puts out [`Action`]s. It does no I/O and
//! reads no clock; it reaches stores through [`Stores`] and everything else through actions.
//! Must not know: sockets, workers, the control thread.

pub mod api;
pub mod bundle;
mod caches;
mod context;
mod convert;
mod definitions;
mod entry;
mod kernel;
mod leaves;
mod natives;
mod report;
pub mod scripts;
mod snapshot;
mod source;
mod streams;
#[cfg(test)]
mod tests;
pub mod trusted;
pub mod vm;
pub mod watchdog;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

pub use vm::{AppVm, SocketFailure};
pub use watchdog::{WatchSlot, Watchdog};

use crate::id::{ConnectionId, RuntimeId, RuntimeKind};
use crate::log::LogLevel;
use crate::store::SharedStore;
use crate::store::hooks::OnLanded;

/// A version of an app's source, as the control thread read it.
#[derive(Clone, Debug, PartialEq)]
pub struct AppSource {
    /// The app's name: the file's stem, or the runtime's name for the callback style.
    pub name: String,
    /// The main file, absolute.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The number of this version, from 1.
    pub generation: u32,
    /// For a script in the original's callback style that a runtime names (`--lua`): that runtime, which is `self`.
    pub owner: Option<Owner>,
    /// Texts of modules to use instead of the files (a restart from the last good source), by absolute path.
    pub modules: Vec<(PathBuf, String)>,
    /// Bounds of the VM.
    pub limits: VmLimits,
}

/// The runtime that a callback-style script belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// Its type.
    pub kind: RuntimeKind,
    /// Its name.
    pub name: String,
    /// Its port, 0 if it has none.
    pub port: u16,
}

/// What a VM may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmLimits {
    /// CPU time of one handler.
    pub budget_ms: u32,
    /// The VM's heap.
    pub memory_bytes: usize,
    /// Without files, processes and environment.
    pub restricted: bool,
}

/// What an app's file defines, as data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// Its runtimes, in the order of the file. A callback-style script has exactly one: its owner.
    pub runtimes: Vec<Definition>,
    /// Its CLI commands: the specs, as the commands' own files have them.
    pub commands: Vec<serde_json::Value>,
}

/// One runtime of an app's file.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its type.
    pub kind: RuntimeKind,
    /// Its name.
    pub name: String,
    /// Where `server "name" {` stands.
    pub file: PathBuf,
    /// 1-based.
    pub line: u32,
    /// The fields that are data, unchecked; without `state`, which stays in the VM. A runtime object becomes its name, a
    /// function inside a table `"<function>"`.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The callbacks it has, by name (`on_message`, ...).
    pub handlers: Vec<String>,
}

/// What stands among the callbacks' names for functions in `routes` and `middleware`: they need the app's workers too.
pub const ROUTES: &str = "routes";

/// A value that crosses between a script and the daemon: a result, or why not.
pub type Reply = Result<serde_json::Value, String>;

/// `state` tables of an app, copied out of one generation for the next. Plain data: shared and cyclic tables keep
/// their identity by their index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateSnapshot {
    /// By runtime name: the index of its `state` in `tables`.
    pub roots: Vec<(String, usize)>,
    /// The keys and values of each table.
    pub tables: Vec<Vec<(StateValue, StateValue)>>,
}

/// A key or value inside a `state` table.
#[derive(Clone, Debug, PartialEq)]
pub enum StateValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// Any bytes.
    String(Vec<u8>),
    /// The index of a table of the snapshot.
    Table(usize),
    /// A connection object.
    Connection(ConnectionId),
}

/// What an [`AppVm`] gets from the worker it lives on.
pub struct Host {
    /// That worker.
    pub worker: u8,
    /// The caches it may call in process.
    pub stores: Rc<dyn Stores>,
    /// Seeds `math.random`.
    pub seed: u64,
    /// The worker's slot at the watchdog; see [`Watchdog::register`].
    pub watch: Arc<WatchSlot>,
    /// How a task is told that the keys it waits for are there: ends in [`AppVm::on_landed`].
    pub on_landed: Rc<dyn Fn(u64) -> OnLanded>,
}

/// Joins a definition of an app to the runtime that was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Index into [`Definitions::runtimes`].
    pub definition: usize,
    /// Its number in this daemon.
    pub runtime: RuntimeId,
    /// Its name.
    pub name: String,
    /// The port it really listens on or dials, 0 if none.
    pub port: u16,
}

/// The events a runtime has handlers for: what has no handler needn't be passed to the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handlers(u32);

impl Handlers {
    /// `on_start`, or a tick that starts with it.
    pub const ON_START: Handlers = Handlers(1);
    /// `on_stop`.
    pub const ON_STOP: Handlers = Handlers(1 << 1);
    /// `on_connect`.
    pub const ON_CONNECT: Handlers = Handlers(1 << 2);
    /// `on_disconnect`.
    pub const ON_DISCONNECT: Handlers = Handlers(1 << 3);
    /// `on_message` or `on_client_message`: the automatic relay is off.
    pub const ON_MESSAGE: Handlers = Handlers(1 << 4);
    /// `on_route`.
    pub const ON_ROUTE: Handlers = Handlers(1 << 5);
    /// `on_http_request`.
    pub const ON_HTTP: Handlers = Handlers(1 << 6);
    /// `on_master_auth`.
    pub const ON_MASTER_AUTH: Handlers = Handlers(1 << 24);

    /// cache: `on_expire`.
    pub const ON_EXPIRE: Handlers = Handlers(1 << 7);
    /// cache: `on_evict`.
    pub const ON_EVICT: Handlers = Handlers(1 << 8);
    /// cache: `on_write`.
    pub const ON_WRITE: Handlers = Handlers(1 << 9);
    /// cache: `on_delete`.
    pub const ON_DELETE: Handlers = Handlers(1 << 10);
    /// cache: `on_miss`.
    pub const ON_MISS: Handlers = Handlers(1 << 11);
    /// cache: `write_behind`.
    pub const WRITE_BEHIND: Handlers = Handlers(1 << 12);

    /// Whether all of `other` are among these.
    pub fn has(self, other: Handlers) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    pub fn with(self, other: Handlers) -> Handlers {
        Handlers(self.0 | other.0)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Finds stores by the name of their cache runtime.
pub trait Stores {
    /// The store, if such a cache runs.
    fn find(&self, name: &str) -> Option<Arc<SharedStore>>;
    /// All names, for suggestions and completion.
    fn names(&self) -> Vec<String>;
}

/// What a script asked for while its handlers ran, in order.
#[derive(Debug)]
pub enum Action {
    /// Send a message to one connection; the bytes are in the VM's arena. `binary`: to a WebSocket as such, not as text.
    Send { connection: ConnectionId, start: usize, len: usize, binary: bool },
    /// Send to all connections of a runtime of this app.
    Broadcast {
        runtime: RuntimeId,
        except: Option<ConnectionId>,
        start: usize,
        len: usize,
        binary: bool,
    },
    /// Close after what was sent has gone out; a WebSocket with a code and a reason, which is in the VM's arena.
    Close { connection: ConnectionId, code: Option<u16>, start: usize, len: usize },
    /// The handler knows that a UDP peer is who its address says.
    Verify { connection: ConnectionId },
    /// `on_master_auth` has decided about a client.
    Master { connection: ConnectionId, granted: bool },
    /// The connection's handler waits (`true`): parse nothing more of it; or has ended (`false`).
    Park { connection: ConnectionId, parked: bool },
    /// Wake `timer` after `delay_ms`; the host answers with the VM's `on_timer`.
    Timer { timer: u64, delay_ms: u64 },
    /// That timer isn't wanted any more.
    CancelTimer { timer: u64 },
    /// Where a proxied connection goes.
    Route { connection: ConnectionId, route: Route },
    /// What a handler of an HTTP request does, which is the connection's request of that number.
    Http { connection: ConnectionId, number: u32, act: HttpAct },
    /// Ask the control thread; the answer comes back by `on_answer`.
    Daemon { task: u64, verb: String, arguments: serde_json::Value },
    /// An evaluation, completion or command ended. Evaluation: `{"text": ...}`, or `{"incomplete": true}` for an input
    /// that goes on. Completion: the words that could stand in place of the line's last one. Command: `{"code": ...}`.
    Evaluated { request: u64, reply: Reply },
    /// Output of a command that still runs.
    Output { request: u64, frame: serde_json::Value },
    /// A log line. `runtime`: whose handler wrote it, if one did.
    Log { level: LogLevel, runtime: Option<RuntimeId>, text: String },
    /// A handler failed; for counting. Its text comes as a log line beside.
    Failed { runtime: Option<RuntimeId> },
    /// `on_stop` of a runtime has ended.
    StopEnded { runtime: RuntimeId },
    /// Listen to a channel of a cache, or to all that fit a pattern; [`AppVm::on_channel`] brings its messages. `once`: on
    /// one of the app's workers only.
    Listen { id: u64, cache: String, is_pattern: bool, once: bool, name: Vec<u8> },
    /// Listen no more.
    Unlisten { id: u64 },
    /// Handlers have ended with what they were given.
    Done { what: Done },
    /// What the script does with one of its own sockets, by the number that the VM gave it.
    Socket { socket: u64, act: SocketAct },
    /// Work that would block: [`AppVm::on_errand`] answers.
    Errand { task: u64, errand: Errand },
}

/// What handlers have ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A cache's events, up to [`AppVm::on_hooks_end`].
    Events { runtime: RuntimeId },
    /// Its changes, of [`AppVm::on_behind`].
    Behind { runtime: RuntimeId, is_written: bool },
    /// A channel's messages, up to [`AppVm::on_channel_end`].
    Messages { listen: u64 },
}

/// What a script asks of its own socket; ranges of bytes are in the VM's arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAct {
    /// Connect; [`AppVm::on_dialled`] answers.
    Dial(Box<Dial>),
    /// Append to what is sent.
    Send { start: usize, len: usize },
    /// Wake the task by [`AppVm::on_socket_sent`] when most of what was sent has gone.
    Drain { task: u64 },
    /// Read on: there is room again.
    Resume,
    /// End it, after what was sent has gone or at once. Nothing more is told of it.
    Close { at_once: bool },
}

/// Where a script connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// A name or an address.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// Who waits.
    pub task: u64,
    /// How it speaks TLS, if it does.
    pub tls: Option<Box<DialTls>>,
}

/// TLS of one dial.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialTls {
    /// Whom to trust instead of the system's authorities.
    pub authorities: Option<PathBuf>,
    /// The certificate to show.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The server's name, if it isn't the host.
    pub server_name: Option<String>,
    /// Trust anyone.
    pub insecure: bool,
    /// ALPN, the best first.
    pub protocols: Vec<String>,
}

/// Work that would block a worker: names and files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A name's addresses.
    Resolve { host: String },
    /// A file's bytes.
    Read { path: PathBuf, bytes_max: u64 },
    /// Replace a file's bytes, as a whole or not at all, or add to them.
    Write { path: PathBuf, bytes: Vec<u8>, appends: bool },
    /// The names in a folder, sorted.
    List { path: PathBuf },
    /// What something is.
    Stat { path: PathBuf },
    /// Remove a file or an empty folder.
    Remove { path: PathBuf },
    /// Give it another name.
    Rename { from: PathBuf, to: PathBuf },
    /// Make a folder and those above it.
    MakeFolder { path: PathBuf },
}

/// What an errand has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes of a file.
    Bytes(Vec<u8>),
    /// Names or addresses.
    Names(Vec<String>),
    /// `file`, `folder` or `other`.
    Stat { kind: &'static str, bytes: u64, modified_ms: u64 },
    /// It is done.
    Done,
    /// The world said no.
    Failed { code: &'static str, text: String },
}

/// What a handler does with its HTTP request; ranges of bytes (start, length) are in the VM's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpAct {
    /// Answers. `fields`: field lines, each with its CRLF.
    Respond { status: u16, fields: (usize, usize), body: (usize, usize) },
    /// Begins an answer in pieces.
    Begin { status: u16, fields: (usize, usize) },
    /// A piece of it.
    Write { start: usize, len: usize },
    /// Its end.
    End,
    /// The handler has failed.
    Fail,
    /// The handler doesn't want it: a file, or nothing is there.
    Pass,
    /// The answer that has begun goes on after the handler's end.
    Detach { is_event_stream: bool },
    /// The next piece of the request's body, for this task: [`AppVm::on_body`].
    Read { task: u64 },
    /// Wakes the task by [`AppVm::on_timer`] when most of what was written has been sent.
    Drain { task: u64 },
}

/// A request as [`AppVm::on_request`] takes it.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// Its number on its connection.
    pub number: u32,
    /// The route's place among the runtime's patterns; nothing for `on_http_request`.
    pub route: Option<u32>,
    /// Its head.
    pub head: &'a [u8],
    /// What was read of it.
    pub request: &'a crate::proto::http1::Request,
    /// Its fields.
    pub fields: &'a [crate::proto::http1::Field],
    /// Where in the path the pattern's names are: start and length.
    pub parameters: &'a [(u16, u16)],
    /// Its body; empty if the handler reads it piece by piece.
    pub body: &'a [u8],
    /// It came over TLS.
    pub tls: bool,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub enum BodyPiece<'a> {
    /// Some bytes.
    Data(&'a [u8]),
    /// There is no more.
    End,
    /// It can't be read on.
    Broken,
}

/// `on_route`'s answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The index of a backend, from 0.
    Index(usize),
    /// A backend or address by name.
    Name(String),
    /// The proxy's strategy decides.
    Default,
    /// The handler failed: the connection is closed.
    Refused,
    /// What to change about the request; where it goes follows.
    Changes(Box<RouteChanges>),
}

/// What `on_route` changes about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteChanges {
    /// The path and query to ask for.
    pub path: Option<String>,
    /// Headers to set, or to leave out.
    pub headers: Vec<(String, Option<String>)>,
    /// How long it may take in all, in milliseconds.
    pub timeout_ms: Option<u64>,
}
