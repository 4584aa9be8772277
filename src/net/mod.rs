//! Sockets as values: connection ids, outboxes with their water marks, listeners and dialling.
//!
//! Must not know: protocols, runtimes, Lua, stores.

pub mod dial;
pub mod holder;
pub mod listener;
pub mod multicast;
pub mod outbox;
pub mod tls;

pub use crate::id::ConnectionId;
pub use outbox::Outbox;
