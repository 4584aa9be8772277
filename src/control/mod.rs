//! The control thread: what runs under which name, and everyone who asks about it.
//!
//! One thread with a small ring of its own. [`manager::Manager`] holds runtimes and apps and speaks to the workers by
//! messages; `daemon` starts the process and turns the ring. Nothing here ever waits for a worker, a script or a
//! client: what takes time ends in an [`Answer`].
//! Must not know: a runtime's protocol, a connection's bytes, how the command line draws.

pub mod answer;
pub mod certificate;
pub mod daemon;
pub mod foreground;
pub mod homes;
pub mod ipc;
pub mod logs;
pub mod manager;
pub mod reload;
pub mod session;
pub mod stage;
pub mod state;
pub mod supervise;
pub mod turn;
pub mod validate;
pub mod vm;

pub use answer::{Answer, Outcome};
pub use daemon::DaemonOptions;
pub use ipc::{ClientId, Clients};
pub use manager::Manager;
