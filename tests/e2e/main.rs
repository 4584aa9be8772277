//! The program as people meet it: real daemons, the command line, and foreign clients as judges.
//!
//! Each test starts its own daemon in a folder of its own and ends only what it started.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod support;

mod browser;
mod cache_cli;
mod cli;
mod clients;
mod console;
mod durable;
mod examples;
mod hooks;
mod http;
mod limits;
mod primary;
mod proxy;
mod proxy_backends;
mod quickstart;
mod readme;
mod reload;
mod replica;
mod restart;
mod runaway;
mod scripts;
mod seed;
mod sentinel;
mod sockets;
mod tls;
mod websocket;
