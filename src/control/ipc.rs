//! The border between the control loop, which moves a client's bytes, and the sessions, which understand them.
//!
//! Must not know: frames, commands, the control VM.

use super::manager::Manager;
use crate::ring::Now;

/// One connected command line or console; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// All connected clients: bytes in, bytes out, calls to the manager between.
///
/// The loop calls `on_*` as things happen, then [`Clients::on_turn`] once per turn, then asks [`Clients::take_ready`]
/// who has something to send. It asks a client for bytes only when its last ones have gone: what a client doesn't read
/// stays in its session, which bounds it.
pub trait Clients {
    /// Someone connected; who it is has been checked.
    fn on_open(&mut self, client: ClientId, manager: &mut Manager);
    /// Bytes came.
    fn on_bytes(&mut self, client: ClientId, bytes: &[u8], manager: &mut Manager);
    /// The client has gone; what runs for it is cancelled.
    fn on_close(&mut self, client: ClientId, manager: &mut Manager);
    /// Resumes what was answered, moves what was published. After all events of a turn.
    fn on_turn(&mut self, now: Now, manager: &mut Manager);
    /// Clients that have bytes to send or want to be closed, each once until it has more.
    fn take_ready(&mut self) -> Vec<ClientId>;
    /// The bytes to send now, at most about 64 KB.
    fn take_output(&mut self, client: ClientId) -> Vec<u8>;
    /// Nothing more comes for this client: close it when its bytes have gone.
    fn is_done(&self, client: ClientId) -> bool;
    /// When `on_turn` must run although nothing happens ([`Now::monotonic_ms`]).
    fn deadline_ms(&self) -> Option<u64>;
}
