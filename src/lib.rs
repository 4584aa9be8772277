//! Socketley: network runtimes (servers, clients, proxies, caches) on io_uring, scripted in LuaJIT.

pub mod cli;
pub mod control;
pub mod error;
pub mod id;
pub mod limits;
pub mod log;
pub mod lua;
pub mod net;
pub mod proto;
pub mod ring;
pub mod runtime;
pub mod store;
pub mod suggest;
pub mod worker;
