//! Socketley: network runtimes (servers, clients, proxies, caches) on io_uring, scripted in LuaJIT.
//!
//! This page is the living map: where things are, what each part must not know, and the way of a byte.
//!
//! # The picture
//!
//! ```text
//!  socketley CLI / console ──unix socket──►  control thread                      redis-cli, netcat, TCP peers, backends
//!    cli: clap from the commands' specs        control VM (lua/commands, console)            │
//!                                              manager: name → runtime, apps, state files    │
//!                                              inotify, signals, timers                      │
//!                                                   │  runtime::message: place, prepare, commit, stop
//!                            ┌──────────────────────┼──────────────────────┐                 │
//!                         worker 0               worker 1    ...        worker N-1  ◄────────┘
//!                         ring: ops in, completions out; the only clock
//!                         runtime::local: connections, runtimes, timers of one worker
//!                         lua: the VMs of the apps placed here
//!                            │                      │
//!                            └──────► store: one lock each, taken once per batch ◄──┘
//! ```
//!
//! # Layers, lowest first
//!
//! | part | what it is | must not know |
//! |---|---|---|
//! | [`id`], [`log`], [`error`], [`limits`], [`suggest`] | names, log lines, errors for people, every bound | anything else |
//! | [`proto`] | protocols as bytes and values: RESP, HTTP/1, WebSocket, framing, control frames | sockets, clocks, stores |
//! | [`ring`] | the kernel door: [`ring::Driver`], io_uring, the simulated network, timers, clocks | protocols, runtimes |
//! | [`store`] | the keyspace and its commands; [`store::batch`] is the hot path, [`store::feed`] what they changed | sockets, clocks, Lua |
//! | [`persist`] | what is on disk, as bytes: whole RDB files, logs' manifests, snapshots in the making | files, clocks |
//! | [`net`] | outboxes, listening and dialling, TLS | protocols, runtimes |
//! | [`replication`] | what a replica and its primary say to each other | sockets, timers |
//! | [`lua`] | app VMs: events in, actions out | sockets, workers, the control thread |
//! | [`runtime`] | what servers, clients, proxies and caches do on one worker | the control thread, the command line |
//! | [`worker`] | the loop that moves [`runtime::local::Local`] over a driver | the manager |
//! | [`control`] | the control thread: manager, state, reload, sessions, the control VM | connections' bytes |
//! | [`cli`] | what a person types and sees | everything but frames and specs |
//!
//! A test reads the `crate::` paths and fails on one that points up.
//!
//! # The way of a byte
//!
//! 1. [`ring::uring`](ring) receives into a pool buffer; the completion names the connection by its id, never by its fd.
//! 2. [`worker::Worker::turn`] finds the connection. A cache's bytes are parsed where they lie and become requests of the
//!    turn's [`store::Batch`]; a server's client is told by its first bytes ([`proto::detect`]), its messages and requests
//!    become events of its app's VM, or go to the other clients, or are answered from constants and files; a proxy's
//!    bytes go to the other half.
//!    Where TLS is spoken, [`runtime::opening`] stands in between: records become bytes in the worker's scratch, and until
//!    the handshake is over the runtime hasn't met the connection. A plain one pays one test for that.
//! 3. After all completions: each cache's batch runs under one lock, replies going straight into outboxes; each VM runs
//!    once over its events and asks for [`lua::Action`]s.
//! 4. What was appended to an outbox becomes one gathered send per connection and turn, its chunks moved into the op and
//!    back out of the completion. Then one submit-and-wait.
//!
//! A cache that is kept on disk has a thread of its own for that ([`runtime::keeper`]): it takes the changes as commands
//! ([`store::feed`]), writes and syncs them, and takes pictures of the data ([`store::saving`]) in short holds. Its files aren't
//! the ring's: an fsync through io_uring waits on a kernel's thread all the same, and a thread that may wait is plainer.
//!
//! # Rules that everything rests on
//!
//! - **Pressure**: a connection whose outbox is over its high-water mark isn't read, nor is the half of a pair that fills
//!   the other, nor one whose handler waits with a full input. A peer that doesn't read what it is sent is closed at
//!   [`limits::OUTBOX_MAX_BYTES`]; a cache's client stops executing at the high-water mark instead.
//! - **Ends**: an fd is closed only when the kernel holds nothing of its connection ([`runtime::flow`]); a runtime hears
//!   of each end once; a half-close is served to the last byte.
//! - **Waiting**: a handler that waits parks its connection; nothing more of it is parsed until the handler has ended. A
//!   reload leaves it in its generation until then ([`runtime::apps`]).
//! - **The store's lock** is taken for at most [`limits::STORE_HOLD_COMMANDS_MAX`] commands and never across a wait or a
//!   system call. A batch that can't have it soon waits for the next turn. A panic under it ends the process.
//! - **The control thread never waits** for a worker: requests carry numbers, answers come as messages.
//! - **Time and chance** are arguments below [`worker`]: a run in the simulated network replays from its seed.
//!
//! # Where this differs from the first plan
//!
//! - A message's bytes are copied once, from the receive buffer into the VM's arena of the turn, instead of being lent:
//!   the buffer goes back to the kernel at once and no lifetime crosses into Lua. 64 bytes cost some 5 ns.
//! - A large broadcast is shared between connections by reference, a small one
//!   (below [`limits::OUTBOX_SHARE_BYTES_MIN`]) is copied into each outbox: that is cheaper than a chunk of its own.
//! - What names things across layers ([`id`]) stands at the bottom, so that `lua` needn't know `runtime`.

pub mod cli;
pub mod control;
pub mod error;
pub mod id;
pub mod limits;
pub mod log;
pub mod lua;
pub mod net;
pub mod persist;
pub mod proto;
pub mod replication;
pub mod ring;
pub mod runtime;
pub mod store;
pub mod suggest;
pub mod worker;

/// Tests account for memory as the program does.
#[cfg(all(test, not(miri)))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
