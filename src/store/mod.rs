//! The keyspace behind a cache runtime and the commands on it, usable without any network.
//!
//! One way in: [`Store::execute`] serves RESP clients, Lua, scripts and replay alike. A command sees the store, its
//! arguments and a reply writer, never a connection. Bytes and values only: no fd, no clock (time is an argument), no
//! global. `unsafe` stands in `segment.rs` and `entry/raw.rs` alone.

pub mod access;
pub mod acl;
pub mod args;
pub mod batch;
pub mod blocked;
mod bucket;
pub mod call;
pub mod client_bounds;
pub mod clients;
mod collection;
pub mod commands;
pub mod config;
pub mod copies;
#[cfg(test)]
pub mod crowd;
pub mod database;
mod deadlines;
pub mod element;
pub mod entry;
mod events;
pub mod eviction;
mod execute;
mod expiry;
pub mod feed;
pub mod feeds;
pub mod geohash;
pub mod glob;
pub mod hash;
pub mod hasher;
pub mod hooks;
pub mod hyperloglog;
pub mod instance;
pub mod keyspace;
pub mod list;
pub mod long_double;
pub mod mail;
pub mod meter;
mod monitor;
pub mod number;
pub mod observe;
mod observers;
pub mod output_limits;
pub mod packed;
pub mod persistence;
pub mod pubsub;
pub mod random;
pub mod rdb;
pub mod reloading;
pub mod replay;
pub mod replicas;
pub mod replication;
pub mod reply;
pub mod saving;
pub mod scripting;
mod segment;
pub mod session;
pub mod set;
pub mod shared;
pub mod small;
pub mod sorted_set;
pub mod statistics;
pub mod stream;
pub mod table;
pub mod thresholds;
pub mod tracking;
pub mod transaction;
pub mod value;

pub use args::{Args, ArgsBuffer, Span};
pub use batch::Batch;
pub use call::{Call, CommandError, CommandResult};
pub use commands::{CommandId, table};
pub use database::{Database, Expiry};
pub use execute::Outcome;
pub use hasher::Hasher;
pub use instance::Settings;
pub use keyspace::Keyspace;
pub use reply::Reply;
pub use session::Session;
pub use shared::SharedStore;
pub use value::{Kind, Text, Value};

use std::sync::Arc;

use commands::Table;
use feed::Subscription;
use instance::Instance;
use meter::Meter;

/// A keyspace, the clients on it and the commands: all of a cache but its sockets.
pub struct Store {
    /// The data.
    pub keyspace: Keyspace,
    /// Everything else.
    pub instance: Instance,
    /// The commands.
    table: &'static Table,
    /// For callers whose arguments lie apart.
    scratch: ArgsBuffer,
    /// The latest time any caller brought.
    now_ms: u64,
}

impl Store {
    /// An empty store.
    pub fn new(settings: &Settings) -> Store {
        let hasher = settings.hasher.unwrap_or_else(Hasher::random);
        let mut meter = Meter::default();
        meter.start();
        let mut store = Store {
            keyspace: Keyspace::new(hasher, settings.seed),
            instance: Instance { meter, ..Instance::new(settings) },
            table: table(),
            scratch: ArgsBuffer::default(),
            now_ms: 0,
        };
        store.advance(settings.now_ms);
        store.instance.apply_config(&mut store.keyspace);
        let Store { keyspace, instance, .. } = &mut store;
        instance.follow(keyspace, settings.primary.clone(), settings.now_ms);
        store.instance.overhead_bytes = store.instance.meter.bytes();
        store
    }

    /// From now on somebody wants to know all changes: [`feed`]. `bytes_max` bounds what may wait for them; `nudge` is
    /// called when something does, without the store.
    pub fn subscribe(
        &mut self,
        bytes_max: usize,
        nudge: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Subscription> {
        let subscription = self.instance.feed.subscribe(bytes_max, nudge);
        self.instance.look_for_observers(&mut self.keyspace);
        subscription
    }

    /// Somebody doesn't want to know any more.
    pub fn unsubscribe(&mut self, subscription: &Arc<Subscription>) {
        self.instance.feed.unsubscribe(subscription);
        self.instance.look_for_observers(&mut self.keyspace);
    }

    /// The store's time when a caller's clock says `now_ms`: it never runs backwards.
    fn advance(&mut self, now_ms: u64) -> u64 {
        if now_ms / 1000 > self.now_ms / 1000 {
            self.keyspace.for_each_clock(|clock| clock.set_time(now_ms));
        }
        self.now_ms = self.now_ms.max(now_ms);
        self.instance.slept_ms = 0;
        self.now_ms
    }
}
