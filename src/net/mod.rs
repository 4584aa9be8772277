//! Sockets as values: connection ids, outboxes with their water marks, listeners and dialling.
//!
//! Must not know: protocols, runtimes, Lua, stores.

pub use crate::id::ConnectionId;
