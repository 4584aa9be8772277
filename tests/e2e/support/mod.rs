//! What the tests stand on: processes with an end, daemons in folders of their own, peers, judges, waiting.

mod daemon;
mod folder;
mod judge;
mod peer;
mod ports;
mod process;
mod tour;
mod wait;

pub use daemon::{Daemon, degraded, in_home};
pub use folder::Folder;
pub use judge::{has_judge, network_of_its_own, node_with_clients, python_with_clients};
pub use peer::Peer;
pub use ports::free_port;
pub use process::{Process, run};
pub use tour::tell;
pub use wait::{until, until_within};

/// The program under test.
pub const SOCKETLEY: &str = env!("CARGO_BIN_EXE_socketley");

/// A file of the project.
pub fn project(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
