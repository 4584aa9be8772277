//! Whose copy a store is: its role, the history that its data is a state of, and what is known of the link to its primary.
//!
//! Nothing is copied here: commands say what is wanted ([`Replication::follow`]), whoever runs the store makes the link and
//! says how it is. Must not know: sockets, what the primary sends.

use super::call::CommandError;
use super::commands::{Command, Flags};
use super::instance::{Attention, Instance};
use super::{Keyspace, blocked, instance};

/// The role of a store.
#[derive(Debug)]
pub struct Replication {
    /// The history of changes: 40 hexadecimal digits, of the primary while this is its replica.
    pub id: String,
    /// The history before, and the offset at which this one began: of a replica that became a primary.
    pub before: Option<(String, u64)>,
    /// Bytes of the history that the data is a state of.
    pub offset: u64,
    upstream: Option<Upstream>,
    epoch: u64,
}

/// The primary of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// As REPLICAOF named it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How far the link to it is.
    pub link: LinkState,
    /// When something last came, in milliseconds since the epoch; none before.
    pub heard_ms: Option<u64>,
    /// Since when the link is down, in milliseconds since the epoch.
    pub down_since_ms: u64,
    /// Bytes of the snapshot that is being received: all (0: not known), and those read.
    pub snapshot: (u64, u64),
}

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It isn't there.
    Connect,
    /// The primary is being dialled.
    Connecting,
    /// Both sides introduce themselves.
    Handshake,
    /// The data is being received: what is here is not whole.
    Sync,
    /// Changes come as they are made.
    Connected,
}

impl LinkState {
    /// As ROLE calls it.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

impl Replication {
    /// A primary's.
    pub fn new(id: String) -> Replication {
        Replication { id, before: None, offset: 0, upstream: None, epoch: 0 }
    }

    /// The primary, if this is a replica.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Counts what was wanted so far; a change means that the link isn't the one that is wanted.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes how the link is.
    pub fn on_link(&mut self, link: LinkState, now_ms: u64) {
        let Some(upstream) = &mut self.upstream else { return };
        let was_up = upstream.link == LinkState::Connected;
        if was_up && link != LinkState::Connected {
            upstream.down_since_ms = now_ms;
        }
        upstream.link = link;
    }

    /// Notes that something came, and how much of a snapshot of so many bytes that is.
    pub fn on_heard(&mut self, snapshot: (u64, u64), now_ms: u64) {
        if let Some(upstream) = &mut self.upstream {
            (upstream.heard_ms, upstream.snapshot) = (Some(now_ms), snapshot);
        }
    }

    /// The data is now a state of this history.
    pub fn begin(&mut self, id: &str, offset: u64) {
        if self.id != id {
            id.clone_into(&mut self.id);
        }
        self.offset = offset;
    }
}

impl Instance {
    /// Becomes the replica of a primary, or with none a primary of its own; false if it is that already.
    pub fn follow(
        &mut self,
        keyspace: &mut Keyspace,
        primary: Option<(String, u16)>,
        now_ms: u64,
    ) -> bool {
        let replication = &mut self.replication;
        let same = match (&replication.upstream, &primary) {
            (Some(upstream), Some((host, port))) => {
                upstream.host == *host && upstream.port == *port
            }
            (None, None) => true,
            _ => false,
        };
        if same {
            return false;
        }
        replication.epoch += 1;
        if primary.is_none() {
            // A history of its own from here on, which goes on from the one before.
            let id = instance::run_id(replication.epoch ^ self.started_ms, now_ms);
            let before = std::mem::replace(&mut replication.id, id);
            // With an append log the feed has counted bytes of its own: who knows the history before can't go on by them.
            let goes_on = !self.feed.is_on();
            replication.before = goes_on.then_some((before, replication.offset));
            if goes_on {
                self.feed.set_offset(replication.offset);
            }
        }
        replication.upstream = primary.map(|(host, port)| Upstream {
            host,
            port,
            link: LinkState::Connect,
            heard_ms: None,
            down_since_ms: now_ms,
            snapshot: (0, 0),
        });
        let is_replica = replication.upstream.is_some();
        self.end_replicas();
        if is_replica {
            blocked::end_waits_of_primary(keyspace, self);
        }
        self.attention.set(Attention::REPLICA, is_replica);
        keyspace.keep_expired(is_replica || self.attention.any(Attention::PAUSED));
        true
    }

    /// What a replica's clients may not do.
    pub(super) fn check_replica(&self, row: &Command) -> Result<(), CommandError> {
        let Some(upstream) = self.replication.upstream() else { return Ok(()) };
        if row.flags.has(Flags::WRITE) {
            const TEXT: &str = "READONLY You can't write against a read only replica.";
            return Err(CommandError::Text(TEXT));
        }
        if upstream.link == LinkState::Sync && !row.flags.has(Flags::LOADING) {
            return Err(CommandError::Text("LOADING Redis is loading the dataset in memory"));
        }
        Ok(())
    }
}
