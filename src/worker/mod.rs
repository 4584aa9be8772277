//! The workers: a thread each with its own ring, connections and Lua VMs; they share stores and queues only.
//!
//! One turn: messages, timers and completions in; handlers and cache commands; one send per connection out; then one
//! submit-and-wait. Must not know: the control thread's manager, the command line.

mod thread;
mod turn;

#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tests;

pub use crate::runtime::message::{self, FromWorker, Inbox, Recipients, ToWorker};
pub use thread::{WorkerSetup, spawn};
pub use turn::{Parts, Worker};
