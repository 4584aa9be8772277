//! Datagrams in the simulated network: lost, doubled and overtaken as the faults say, never cut.
//!
//! A test plays a peer by its address alone: it sends from there and reads what was sent there.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::network::{Event, Id, Network, Ready};
use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::ring::{Arrived, Completion, Datagram, Errno, Fd, Outcome, Received, Token};

/// What the kernel puts before a payload in a receive buffer.
const HEADER_BYTES: usize = 44;

/// A socket for datagrams.
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    /// It receives from there only, and sends there.
    peer: Option<SocketAddr>,
    incoming: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) receive: Option<(usize, Token)>,
}

impl Network {
    /// A socket that receives at `local`, or at a free address.
    pub(super) fn bind_datagram(
        &mut self,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    ) -> Result<Id, Errno> {
        let id = self.new_id();
        let ip = local.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
        let port = local.map_or(0, |address| address.port());
        let port = if port == 0 { 30_000 + (id % 30_000) as u16 } else { port };
        let address = SocketAddr::new(ip, port);
        if self.datagrams.values().any(|other| other.address == address) {
            return Err(Errno(libc::EADDRINUSE));
        }
        let socket = Socket { address, peer, incoming: VecDeque::new(), receive: None };
        self.datagrams.insert(id, socket);
        Ok(id)
    }

    /// A datagram sets out: perhaps nowhere, perhaps twice.
    pub(super) fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.random.chance(self.faults.lose) {
            return;
        }
        let copies = if self.random.chance(self.faults.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let time_ns = self.arrival_ns();
            self.schedule(time_ns, Event::Datagram { from, to, bytes: bytes.to_vec() });
        }
    }

    pub(super) fn on_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let socket = self.datagrams.iter_mut().find(|(_, socket)| socket.address == to);
        let Some((&id, socket)) = socket else {
            return self.mailboxes.entry(to).or_default().push((from, bytes));
        };
        let unread: usize = socket.incoming.iter().map(|(_, bytes)| bytes.len()).sum();
        let is_heard = socket.peer.is_none_or(|peer| peer == from);
        if is_heard && unread + bytes.len() <= self.faults.window_bytes {
            socket.incoming.push_back((from, bytes));
        }
        self.pump_datagrams(id);
    }

    pub(super) fn receive_from(&mut self, driver: usize, id: Id, token: Token) {
        self.begin(id);
        let Some(socket) = self.datagrams.get_mut(&id) else {
            let result = Err(Errno(libc::EBADF));
            let completion = Completion::ReceivedFrom { token, result, more: false };
            return self.complete(driver, Some(id), completion, true);
        };
        assert!(socket.receive.is_none(), "one receive at a time for a socket");
        socket.receive = Some((driver, token));
        self.pump_datagrams(id);
    }

    /// Hands over what has come, as long as somebody receives.
    fn pump_datagrams(&mut self, id: Id) {
        while let Some(socket) = self.datagrams.get_mut(&id)
            && let Some((driver, token)) = socket.receive
            && !socket.incoming.is_empty()
        {
            let has_none = self.drivers[driver].buffers_free == 0;
            if has_none || self.random.chance(self.faults.no_buffers) {
                return self.end_receive_from(id, Errno(libc::ENOBUFS));
            }
            let Some((source, mut bytes)) = socket.incoming.pop_front() else { return };
            let room = RECEIVE_BUFFER_BYTES - HEADER_BYTES;
            let is_cut = bytes.len() > room;
            bytes.truncate(room);
            let more = !self.random.chance(self.faults.end_multishot);
            if !more {
                socket.receive = None;
            }
            let received = (!bytes.is_empty()).then(|| {
                self.drivers[driver].buffers_free -= 1;
                Received { buffer: 0, start: 0, bytes: bytes.len() as u32 }
            });
            let result = Ok(Arrived { source, received, is_cut });
            let completion = Completion::ReceivedFrom { token, result, more };
            self.push_ready(driver, Ready { completion, bytes, socket: Some(id), is_last: !more });
        }
    }

    /// The receive ends with an error.
    pub(super) fn end_receive_from(&mut self, id: Id, error: Errno) {
        let receive = self.datagrams.get_mut(&id).and_then(|socket| socket.receive.take());
        if let Some((driver, token)) = receive {
            let completion = Completion::ReceivedFrom { token, result: Err(error), more: false };
            self.complete(driver, Some(id), completion, true);
        }
    }

    pub(super) fn send_to(
        &mut self,
        driver: usize,
        id: Id,
        datagrams: Vec<Datagram>,
        token: Token,
    ) {
        self.begin(id);
        assert!(!datagrams.is_empty(), "a batch has at least one datagram");
        let mut outcome = Outcome::default();
        let from = self.datagrams.get(&id).map(|socket| (socket.address, socket.peer));
        for datagram in &datagrams {
            let bytes = datagram.bytes.bytes();
            self.fold_bytes(bytes);
            match from.and_then(|(from, peer)| Some((from, datagram.to.or(peer)?))) {
                Some((from, to)) => {
                    self.send_datagram(from, to, bytes);
                    outcome.sent += 1;
                    outcome.bytes += bytes.len() as u64;
                }
                None => outcome.error = Some(Errno(libc::EDESTADDRREQ)),
            }
        }
        outcome.datagrams = datagrams;
        self.complete(driver, Some(id), Completion::SentTo { token, outcome }, true);
    }

    pub(super) fn make_datagram(
        &mut self,
        driver: usize,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
        token: Token,
    ) {
        let result = self.bind_datagram(local, peer).map(Fd);
        self.complete(driver, None, Completion::Connected { token, result }, true);
    }
}
