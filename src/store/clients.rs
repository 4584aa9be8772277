//! The clients of a store, for CLIENT LIST and CLIENT KILL: one row each, changed only when something about it changes.

use std::sync::Arc;

use super::client_bounds::Buffers;
use super::{CommandId, Session, meter};

/// One connected client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// [`Session::id`].
    pub id: u64,
    /// The connection's bits, as the worker that serves it told them; what a [`Delivery`] names.
    pub connection: u64,
    /// `host:port` of the peer.
    pub address: String,
    /// `host:port` of this side.
    pub local_address: String,
    /// When it connected, in milliseconds since the epoch.
    pub connected_ms: u64,
    /// When it last sent a command.
    pub active_ms: u64,
    /// The last command's index in the table, once it sent one.
    pub command: Option<CommandId>,
    /// A copy of the session's last state.
    pub session: Option<Session>,
    /// What its connection holds, as its worker told last.
    pub buffers: Buffers,
    /// Its worker has been told to end it.
    pub is_ending: bool,
}

/// Something that a connection's worker has to do because of another client's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// End this connection (CLIENT KILL).
    Close {
        /// [`Client::connection`].
        connection: u64,
    },
    /// End this connection at once, whatever waits for it: clients take too much memory.
    Evict {
        /// [`Client::connection`].
        connection: u64,
    },
    /// Something that the client hasn't asked for just now (a message of a channel).
    Push {
        /// [`Client::connection`].
        connection: u64,
        /// In its protocol version.
        bytes: Arc<[u8]>,
    },
    /// The wait of its command is over: send the reply and go on with its commands.
    Resume {
        /// [`Client::connection`].
        connection: u64,
        /// The number of the wait.
        wait: u64,
        /// Empty if the command hasn't begun or isn't answered.
        reply: Vec<u8>,
    },
}

impl Delivery {
    /// Whom it is for.
    pub fn connection(&self) -> u64 {
        match self {
            Delivery::Close { connection }
            | Delivery::Evict { connection }
            | Delivery::Push { connection, .. }
            | Delivery::Resume { connection, .. } => *connection,
        }
    }
}

/// All clients and what is to be delivered to them.
#[derive(Default)]
pub struct Clients {
    rows: Vec<Option<Client>>,
    free: Vec<u32>,
    connected: usize,
    last_id: u64,
    /// What was noted last: nearly every command says the same again.
    touched: Touch,
    deliveries: Vec<Delivery>,
    /// Those of them that are for other workers than the one that holds the store.
    elsewhere: Vec<Delivery>,
    buffer_bytes: u64,
}

/// A row, a command and a time in two words, to be compared with every command's.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Touch {
    /// 0: nobody and nothing.
    who: u64,
    now_ms: u64,
}

impl Touch {
    const SOME: u64 = 1 << 63;
}

impl Clients {
    /// A number for a session that has no row (in-process callers).
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds a row for a fresh session.
    pub fn add(&mut self, client: Client) -> Session {
        let mut session = Session::new(self.next_id());
        let row = match self.free.pop() {
            Some(row) => row,
            None => {
                self.rows.push(None);
                self.rows.len() as u32 - 1
            }
        };
        session.row = Some(row);
        self.touched = Touch::default();
        self.connected += 1;
        self.rows[row as usize] =
            Some(Client { id: session.id, session: Some(session.clone()), ..client });
        session
    }

    /// Drops the row of a session that ends.
    pub fn remove(&mut self, session: &mut Session) {
        if let Some(row) = session.row.take()
            && let Some(client) = self.rows[row as usize].take()
        {
            self.buffer_bytes -= client.buffers.sum();
            self.connected -= 1;
            self.free.push(row);
        }
    }

    /// Copies what CLIENT LIST shows after a command changed it.
    pub fn update(&mut self, session: &Session) {
        if let Some(client) = session.row.and_then(|row| self.rows[row as usize].as_mut()) {
            client.session = Some(session.clone());
        }
    }

    /// Notes that a client's command waits, or waits no more.
    pub fn set_wait(&mut self, row: Option<u32>, wait: Option<super::blocked::Ticket>) {
        let client = row.and_then(|row| self.rows.get_mut(row as usize)?.as_mut());
        if let Some(session) = client.and_then(|client| client.session.as_mut()) {
            session.wait = wait;
        }
    }

    /// Notes that a client sent `command`.
    #[inline]
    pub fn touch(&mut self, row: Option<u32>, command: CommandId, now_ms: u64) {
        let Some(row) = row else { return };
        let touch =
            Touch { who: u64::from(row) << 16 | u64::from(command.0) | Touch::SOME, now_ms };
        if self.touched != touch {
            self.touched = touch;
            self.note(row, command, now_ms);
        }
    }

    #[inline(never)]
    fn note(&mut self, row: u32, command: CommandId, now_ms: u64) {
        if let Some(client) = &mut self.rows[row as usize] {
            client.command = Some(command);
            client.active_ms = now_ms;
        }
    }

    /// Takes what a worker says of a client's connection.
    pub(super) fn set_buffers(&mut self, buffers: Buffers) {
        let client = self.rows.get_mut(buffers.row as usize).and_then(Option::as_mut);
        if let Some(client) = client.filter(|client| client.id == buffers.id) {
            let before = std::mem::replace(&mut client.buffers, buffers);
            self.buffer_bytes = self.buffer_bytes - before.sum() + buffers.sum();
        }
    }

    /// All rows with their numbers.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, &Client)> {
        (0..).zip(&self.rows).filter_map(|(row, client)| Some((row, client.as_ref()?)))
    }

    /// The rows of some clients.
    pub(super) fn rows_of(&self, is_one: impl Fn(&&Client) -> bool) -> Vec<u32> {
        self.rows().filter(|(_, client)| is_one(client)).map(|(row, _)| row).collect()
    }

    /// Notes that a client is to be ended, and tells its connection; nothing if that is noted already.
    pub(super) fn end(&mut self, row: u32) -> Option<u64> {
        let client = self.rows.get_mut(row as usize)?.as_mut()?;
        (!std::mem::replace(&mut client.is_ending, true)).then_some(client.connection)
    }

    /// Bytes in the buffers of all connections, as their workers told last.
    pub fn buffer_bytes(&self) -> u64 {
        self.buffer_bytes
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.connected
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.connected == 0
    }

    /// All rows, oldest first.
    pub fn sorted(&self) -> Vec<&Client> {
        let mut all: Vec<&Client> = self.rows.iter().flatten().collect();
        all.sort_by_key(|client| client.id);
        all
    }

    /// The row of `session`, if it has one.
    pub fn of(&self, session: &Session) -> Option<&Client> {
        session.row.and_then(|row| self.rows[row as usize].as_ref())
    }

    /// The connection of a row and whether it speaks RESP3.
    pub fn address(&self, row: u32) -> Option<(u64, bool)> {
        let client = self.rows.get(row as usize)?.as_ref()?;
        Some((client.connection, client.session.as_ref().is_some_and(|session| session.resp3)))
    }

    /// The row of a client by its number.
    pub fn row_of(&self, id: u64) -> Option<u32> {
        let is_it = |client: &Option<Client>| client.as_ref().is_some_and(|client| client.id == id);
        self.rows.iter().position(is_it).map(|row| row as u32)
    }

    /// Whether the client of a row listens to channels.
    pub fn listens(&self, row: u32) -> bool {
        let client = self.rows.get(row as usize).and_then(Option::as_ref);
        let session = client.and_then(|client| client.session.as_ref());
        session.is_some_and(|session| session.state.has(super::session::State::SUBSCRIBED))
    }

    /// Asks a connection's worker to do something.
    pub fn deliver(&mut self, delivery: Delivery) {
        // Whoever takes it doesn't hold the store.
        meter::outside(|| self.deliveries.push(delivery));
    }

    /// Writes what is to be pushed to a client in front of its reply: keys that had to go before its command could run.
    #[cold]
    pub fn deliver_first(&mut self, session: &Session, out: &mut Vec<u8>) {
        let Some(own) = self.of(session).map(|client| client.connection) else { return };
        self.deliveries.retain(|delivery| match delivery {
            Delivery::Push { connection, bytes } if *connection == own => {
                out.extend_from_slice(bytes);
                false
            }
            _ => true,
        });
    }

    /// How much is to be delivered so far.
    pub(super) fn deliveries(&self) -> usize {
        self.deliveries.len()
    }

    /// Puts the last delivery, a reply, before what its client was pushed while the command ran.
    pub(super) fn answer_before(&mut self, pushed_from: usize) {
        let Some(reply) = self.deliveries.pop() else { return };
        let connection = reply.connection();
        let since = self.deliveries.split_off(pushed_from.min(self.deliveries.len()));
        let (own, others): (Vec<Delivery>, Vec<Delivery>) =
            since.into_iter().partition(|delivery| delivery.connection() == connection);
        meter::outside(|| self.deliveries.extend(others.into_iter().chain([reply]).chain(own)));
    }

    /// Whether something is to be delivered that nobody has looked at.
    #[inline]
    pub fn has_deliveries(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// What has to be done since the last call, in order.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// Keeps what the holder of the store can't deliver itself; not counted as the store's bytes by the caller.
    pub fn deliver_elsewhere(&mut self, delivery: Delivery) {
        self.elsewhere.push(delivery);
    }

    /// All that is left to deliver when the store is released.
    pub(super) fn take_letters(&mut self) -> Vec<Delivery> {
        let mut letters = std::mem::take(&mut self.elsewhere);
        letters.append(&mut self.deliveries);
        letters
    }

    /// Whether there is any.
    pub(super) fn has_letters(&self) -> bool {
        !self.deliveries.is_empty() || !self.elsewhere.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_reused_and_ids_are_not() {
        let mut clients = Clients::default();
        let mut first = clients.add(Client::default());
        let second = clients.add(Client::default());
        clients.remove(&mut first);
        clients.remove(&mut first);
        let third = clients.add(Client::default());
        assert_eq!((third.id, third.row), (3, Some(0)));
        assert_eq!(clients.len(), 2);
        let ids: Vec<u64> = clients.sorted().iter().map(|client| client.id).collect();
        assert_eq!(ids, [second.id, third.id]);
    }
}
