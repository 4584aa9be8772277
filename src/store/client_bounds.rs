//! Bounds of clients: who sends nothing for long (`timeout`), and buffers that take too much together (`maxmemory-clients`).
//!
//! What a connection holds its worker knows; it tells what has changed when it does its regular work. So both bounds hold to
//! within that pace.

use super::clients::{Client, Delivery};
use super::number::{memory_size, parse_integer};
use super::session::State;
use super::transaction::Watched;
use super::{Session, Store};

/// What a worker says of one client's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// [`super::Session::row`].
    pub row: u32,
    /// [`super::Session::id`]: the row may be another's by now.
    pub id: u64,
    /// Bytes that it has sent and that haven't run.
    pub input: usize,
    /// Bytes that wait for it.
    pub output: usize,
    /// Bytes of its commands that wait for EXEC.
    pub queued: usize,
}

impl Buffers {
    /// All of them.
    pub fn sum(&self) -> u64 {
        (self.input + self.output + self.queued) as u64
    }
}

/// `maxmemory-clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientsLimit {
    /// Bytes; 0: no limit.
    Bytes(u64),
    /// A share of maxmemory.
    Percent(u64),
}

impl ClientsLimit {
    /// Bytes with or without a unit, or a share with `%`.
    pub fn parse(text: &[u8]) -> Result<ClientsLimit, &'static str> {
        const WRONG: &str = "argument must be a memory or percent value";
        let Some(share) = text.strip_suffix(b"%") else {
            return memory_size(text).map(ClientsLimit::Bytes).ok_or(WRONG);
        };
        let share = parse_integer(share).and_then(|share| u64::try_from(share).ok());
        match share.ok_or(WRONG)? {
            share @ 0..=100 => Ok(ClientsLimit::Percent(share)),
            _ => Err("percentage argument must be less or equal to 100"),
        }
    }

    /// As CONFIG GET shows it.
    pub fn text(self) -> String {
        match self {
            ClientsLimit::Bytes(bytes) => bytes.to_string(),
            ClientsLimit::Percent(share) => format!("{share}%"),
        }
    }

    /// The bytes; 0: no limit.
    fn bytes(self, maxmemory: u64) -> u64 {
        match self {
            ClientsLimit::Bytes(bytes) => bytes,
            ClientsLimit::Percent(share) => {
                (u128::from(maxmemory) * u128::from(share) / 100) as u64
            }
        }
    }
}

/// Bytes that a client takes with all that waits for it.
pub fn client_bytes(client: &Client, buffers: Buffers) -> u64 {
    let of_session = client
        .session
        .as_ref()
        .map_or(0, |session| session.name.len() + session.watched.len() * size_of::<Watched>());
    let own = size_of::<Client>() + 2 * size_of::<Session>() + of_session;
    own as u64 + buffers.sum()
}

impl Store {
    /// Takes what a worker says of its clients.
    pub(super) fn tell_buffers(&mut self, told: &[Buffers]) {
        told.iter().for_each(|buffers| self.instance.clients.set_buffers(*buffers));
    }

    /// Whether somebody has to look at the clients regularly.
    pub(super) fn bounds_clients(&self) -> bool {
        let config = &self.instance.config;
        let limit = config.clients_limit.bytes(config.maxmemory);
        (config.idle_s > 0 || limit > 0) && !self.instance.clients.is_empty()
    }

    /// Ends the clients that are beyond their bounds.
    pub(super) fn end_excessive_clients(&mut self) {
        if !self.bounds_clients() {
            return;
        }
        self.end_idle_clients();
        self.evict_clients();
    }

    /// Who waits in a command, listens to channels or is a replica has reason to be silent.
    fn end_idle_clients(&mut self) {
        let idle_ms = u64::from(self.instance.config.idle_s) * 1000;
        if idle_ms == 0 {
            return;
        }
        let now_ms = self.now_ms;
        const SILENT: State = State::SUBSCRIBED.and(State::REPLICA).and(State::MONITOR);
        let is_idle = |client: &&Client| {
            let session = client.session.as_ref();
            let waits = session.is_some_and(|it| it.wait.is_some() || it.state.any(SILENT));
            !waits && !client.is_ending && now_ms.saturating_sub(client.active_ms) > idle_ms
        };
        let idle: Vec<u32> = self.instance.clients.rows_of(is_idle);
        for row in idle {
            if let Some(connection) = self.instance.clients.end(row) {
                self.instance.clients.deliver(Delivery::Close { connection });
            }
        }
    }

    /// The largest go first, without getting what waits for them, until the rest fit.
    fn evict_clients(&mut self) {
        let config = &self.instance.config;
        let limit = config.clients_limit.bytes(config.maxmemory);
        if limit == 0 {
            return;
        }
        let state = |client: &Client, of: State| {
            client.session.as_ref().is_some_and(|session| session.state.has(of))
        };
        let mut sum = 0;
        let mut may_go: Vec<(u64, u32)> = Vec::new();
        for (row, client) in self.instance.clients.rows() {
            if client.is_ending || state(client, State::REPLICA) {
                continue;
            }
            let bytes = client_bytes(client, client.buffers);
            sum += bytes;
            if !state(client, State::NO_EVICT) {
                may_go.push((bytes, row));
            }
        }
        may_go.sort_unstable();
        while sum >= limit
            && let Some((bytes, row)) = may_go.pop()
        {
            sum -= bytes;
            if let Some(connection) = self.instance.clients.end(row) {
                self.instance.statistics.evicted_clients += 1;
                self.instance.clients.deliver(Delivery::Evict { connection });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::crowd::Crowd;

    fn told(crowd: &Crowd, client: usize, input: usize) -> Buffers {
        let session = &crowd.sessions[client];
        let row = session.row.expect("a connection");
        Buffers { row, id: session.id, input, output: 0, queued: 0 }
    }

    #[test]
    fn limits_are_bytes_or_shares() {
        assert_eq!(ClientsLimit::parse(b"1kb"), Ok(ClientsLimit::Bytes(1024)));
        assert_eq!(ClientsLimit::parse(b"5%"), Ok(ClientsLimit::Percent(5)));
        assert_eq!(ClientsLimit::Percent(5).bytes(2000), 100);
        assert_eq!(ClientsLimit::Percent(5).text(), "5%");
        for wrong in [&b"101%"[..], b"x%", b"-1%", b"x"] {
            assert!(ClientsLimit::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_largest_clients_go_until_the_rest_fit() {
        let mut crowd = Crowd::new(4);
        crowd.check(&[
            ("d client no-evict on", "+OK", ""),
            ("a config set maxmemory-clients 100kb", "+OK", ""),
        ]);
        let sizes = [1_000, 60_000, 70_000, 80_000];
        let all: Vec<Buffers> = (0..4).map(|client| told(&crowd, client, sizes[client])).collect();
        crowd.store.tell_buffers(&all);
        assert_eq!(crowd.store.instance.clients.buffer_bytes(), 211_000);
        crowd.store.end_excessive_clients();
        assert_eq!(crowd.heard(), ["c evicted", "b evicted"], "d isn't evicted, a is small");
        crowd.store.end_excessive_clients();
        assert!(crowd.heard().is_empty(), "once");
        let evicted = crowd.run(0, "info stats");
        assert!(evicted.contains("evicted_clients:2"), "{evicted}");
    }

    #[test]
    fn idle_clients_are_closed_unless_they_have_reason_to_be_silent() {
        let mut crowd = Crowd::new(4);
        crowd.check(&[
            ("a config set timeout 10", "+OK", ""),
            ("b subscribe x", "*3 $9 subscribe $1 x :1", ""),
            ("c blpop list 0", "", ""),
            ("d ping", "+PONG", ""),
        ]);
        crowd.store.now_ms += 9_000;
        crowd.store.end_excessive_clients();
        assert!(crowd.heard().is_empty());
        crowd.store.now_ms += 2_000;
        crowd.store.end_excessive_clients();
        assert_eq!(crowd.heard(), ["a closed", "d closed"]);
    }
}
