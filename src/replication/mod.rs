//! Redis's replication protocol, as bytes and a store: what is said to a primary, and what is done with what it says.
//!
//! Must not know: sockets, timers, who is connected.

pub mod primary;
pub mod replica;
