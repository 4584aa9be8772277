//! The workers: a thread each with its own ring, connections and Lua VMs; they share stores and queues only.

pub use crate::runtime::message::{self, FromWorker, Inbox, Recipients, ToWorker};
