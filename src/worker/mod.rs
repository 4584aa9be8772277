//! The workers: a thread each with its own ring, connections and Lua VMs; they share stores and queues only.

pub mod message;

pub use message::{FromWorker, Inbox, ToWorker};
