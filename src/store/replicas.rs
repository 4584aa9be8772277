//! The replicas of a store: who they are, what they have acknowledged, and the last bytes of the feed for those whose link
//! was cut.
//!
//! What the feed seals is pushed to the connection of each, shared between them; a snapshot goes out as the reply to
//! their PSYNC. Must not know: sockets, what a snapshot is made of.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::clients::Delivery;
use super::feed::Piece;
use super::instance::Instance;
use super::{Keyspace, Session, meter};
use crate::limits::{REPLICA_BACKLOG_BYTES, REPLICA_PING_MS};

/// Writes all data and these libraries of functions as an RDB file.
pub type MakeSnapshot = fn(&Keyspace, &[&[u8]]) -> Vec<u8>;

/// All replicas of a store.
#[derive(Default)]
pub struct Replicas {
    /// By [`Session::id`].
    known: BTreeMap<u64, Replica>,
    backlog: VecDeque<Piece>,
    backlog_bytes: usize,
    pinged_ms: u64,
    /// Makes what a new one begins with; nothing if nobody can.
    pub make_snapshot: Option<MakeSnapshot>,
    /// Times that one got all data.
    pub full: u64,
    /// Times that one got what it had missed.
    pub partial: u64,
    /// Times that this wasn't possible.
    pub refused: u64,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    row: u32,
    /// The port that it says it listens on.
    pub port: u16,
    /// The address that it says it has; empty for that of its connection.
    pub address: String,
    /// It gets changes, those from this offset on.
    pub from: Option<u64>,
    /// What it has acknowledged.
    pub acknowledged: u64,
    /// What of it is in its append log, on disk.
    pub saved: u64,
    /// When it last acknowledged something, in milliseconds since the epoch.
    pub acknowledged_ms: u64,
}

impl Instance {
    /// Whether fewer replicas than `min-replicas-to-write` asks for have lately acknowledged what they got.
    pub(super) fn lacks_replicas(&self, now_ms: u64) -> bool {
        let (least, lag_s) = (self.config.replicas_min, self.config.replicas_lag_s);
        if least == 0 || lag_s == 0 {
            return false;
        }
        let is_good = |replica: &&Replica| {
            now_ms.saturating_sub(replica.acknowledged_ms) <= u64::from(lag_s) * 1000
        };
        (self.replicas.online().filter(is_good).count() as u64) < u64::from(least)
    }
}

impl Replicas {
    /// None yet.
    pub fn new(make_snapshot: Option<MakeSnapshot>) -> Replicas {
        Replicas { make_snapshot, ..Replicas::default() }
    }

    /// Whether there is none that gets changes.
    pub fn is_empty(&self) -> bool {
        self.online().next().is_none()
    }

    /// Those that get changes.
    pub fn online(&self) -> impl Iterator<Item = &Replica> {
        self.known.values().filter(|replica| replica.from.is_some())
    }

    /// The row of a client that is one, or is about to be.
    pub fn of(&mut self, session: &Session) -> Option<&mut Replica> {
        let fresh = Replica { row: session.row?, ..Replica::default() };
        Some(self.known.entry(session.id).or_insert(fresh))
    }

    /// They have just been sent something: a ping isn't due for a while.
    pub fn heard(&mut self, now_ms: u64) {
        self.pinged_ms = self.pinged_ms.max(now_ms);
    }

    /// A client has gone.
    pub fn forget(&mut self, session: &Session) {
        self.known.remove(&session.id);
    }

    /// Bytes kept for those who come back, and the offset of the first.
    pub fn backlog(&self) -> (usize, u64) {
        (self.backlog_bytes, self.backlog.front().map_or(0, |piece| piece.offset))
    }

    /// What the feed has sealed from an offset up to `end`; nothing if that isn't all here.
    pub fn missed(&self, from: u64, end: u64) -> Option<Vec<u8>> {
        let begins = self.backlog.front().map_or(end, |piece| piece.offset);
        if from < begins || from > end {
            return None;
        }
        let mut bytes = Vec::new();
        self.backlog.iter().for_each(|piece| bytes.extend_from_slice(rest(piece, from)));
        Some(bytes)
    }

    fn keep(&mut self, piece: Piece) {
        self.backlog_bytes += piece.bytes.len();
        self.backlog.push_back(piece);
        while self.backlog_bytes > REPLICA_BACKLOG_BYTES
            && let Some(oldest) = self.backlog.pop_front()
        {
            self.backlog_bytes -= oldest.bytes.len();
        }
    }
}

/// A piece's bytes from an offset on.
fn rest(piece: &Piece, from: u64) -> &[u8] {
    let before = from.saturating_sub(piece.offset).min(piece.bytes.len() as u64);
    &piece.bytes[before as usize..]
}

impl Instance {
    /// Sends what the feed has sealed to all replicas, and keeps it for a while.
    pub(super) fn replicate(&mut self, piece: Piece) {
        for replica in self.replicas.known.values() {
            let Some(from) = replica.from else { continue };
            let bytes = rest(&piece, from);
            let Some((connection, _)) = self.clients.address(replica.row) else { continue };
            if bytes.is_empty() {
                continue;
            }
            let whole = bytes.len() == piece.bytes.len();
            let bytes = if whole { Arc::clone(&piece.bytes) } else { Arc::from(bytes) };
            self.clients.deliver_elsewhere(Delivery::Push { connection, bytes });
        }
        self.replicas.keep(piece);
    }

    /// Lets replicas hear something now and then: silence means a lost link to them.
    pub(super) fn ping_replicas(&mut self, now_ms: u64) {
        if self.replicas.is_empty() || now_ms < self.replicas.pinged_ms + REPLICA_PING_MS {
            return;
        }
        self.replicas.pinged_ms = now_ms;
        self.feed.ping();
    }

    /// Replicas of a store that becomes one itself begin anew, with its primary or here.
    pub(super) fn end_replicas(&mut self) {
        for replica in std::mem::take(&mut self.replicas.known).into_values() {
            if let Some((connection, _)) = self.clients.address(replica.row) {
                self.clients.deliver(Delivery::Close { connection });
            }
        }
        meter::outside(|| self.replicas.backlog.clear());
        self.replicas.backlog_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use crate::store::crowd::Crowd;

    /// `b` stands for a replica that gets changes and acknowledges them.
    #[test]
    fn nothing_is_written_without_the_replicas_that_are_asked_for() {
        let refused = "-NOREPLICAS Not enough good replicas to write.";
        let mut crowd = Crowd::new(2);
        crowd.check(&[
            ("a set k v", "+OK", ""),
            ("a config set min-replicas-to-write 1", "+OK", ""),
            ("a set k w", refused, ""),
            ("a get k", "$1 v", ""),
        ]);
        let now_ms = crowd.now_ms;
        let replica = crowd.store.instance.replicas.of(&crowd.sessions[1]).expect("it has a row");
        (replica.from, replica.acknowledged_ms) = (Some(0), now_ms);
        crowd.check(&[("a set k w", "+OK", ""), ("+10001", "", ""), ("a set k x", refused, "")]);
        crowd.check(&[
            ("a config set min-replicas-max-lag 0", "+OK", ""),
            ("a set k x", "+OK", ""),
            ("a config set min-replicas-max-lag 10 min-replicas-to-write 0", "+OK", ""),
            ("a set k y", "+OK", ""),
        ]);
    }
}
