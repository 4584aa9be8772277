//! Protocols as bytes and values: parsers and writers without sockets, clocks or allocation per message.
//!
//! Must not know: connections, runtimes, stores, Lua.

pub mod client_hello;
pub mod control;
pub mod detect;
pub mod framing;
pub mod http1;
pub mod proxy_protocol;
pub mod resp;
pub mod websocket;
