//! Socketley: network runtimes (servers, clients, proxies, caches) on io_uring, scripted in LuaJIT.

pub mod error;
pub mod limits;
pub mod net;
pub mod ring;
pub mod store;
