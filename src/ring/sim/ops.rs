//! What each op does to the simulated network when it is submitted.

use super::network::{Event, Id, Network, Segment};
use crate::ring::{Address, Chunks, Completion, Errno, Fd, How, Op, Token};

const CANCELLED: Errno = Errno(libc::ECANCELED);
const NOT_FOUND: Errno = Errno(libc::ENOENT);
const TOO_LATE: Errno = Errno(libc::EALREADY);
const NO_SUCH_SOCKET: Errno = Errno(libc::EBADF);

impl Network {
    pub(super) fn submit(&mut self, driver: usize, op: Op) {
        self.fold_op(driver, &op);
        match op {
            Op::Accept { fd, token } => self.accept(driver, fd.0, token),
            Op::Connect { address: Address::Udp(peer), token } => {
                self.make_datagram(driver, None, Some(peer), token);
            }
            Op::Connect { address, token } => {
                let time_ns = self.arrival_ns();
                self.schedule(time_ns, Event::Connect { driver, token, address });
            }
            Op::Receive { fd, token } => self.receive(driver, fd.0, token),
            Op::Send { fd, chunks, token } => self.send(driver, fd.0, chunks, token),
            Op::Datagram { local, peer, token } => self.make_datagram(driver, local, peer, token),
            Op::ReceiveFrom { fd, token } => self.receive_from(driver, fd.0, token),
            Op::SendTo { fd, datagrams, token } => self.send_to(driver, fd.0, datagrams, token),
            Op::Shutdown { fd, how, token } => {
                self.begin(fd.0);
                let result = self.shutdown(fd.0, how);
                self.complete(driver, Some(fd.0), Completion::Done { token, result }, true);
            }
            Op::Close { fd, token } => {
                let result = self.close(fd.0);
                self.complete(driver, None, Completion::Done { token, result }, true);
            }
            Op::Cancel { target, token } => {
                let result = self.cancel(driver, target);
                self.complete(driver, None, Completion::Done { token, result }, true);
            }
            Op::Watch { fd, token } => self.watch(driver, fd.0, token),
        }
    }

    fn fold_op(&mut self, driver: usize, op: &Op) {
        let (fd, token, more) = match op {
            Op::Accept { fd, token }
            | Op::Receive { fd, token }
            | Op::ReceiveFrom { fd, token }
            | Op::Close { fd, token }
            | Op::Watch { fd, token } => (fd.0, token, 0),
            Op::Connect { address, token } => (0, token, u64::from(address.port())),
            Op::Send { fd, chunks, token } => (fd.0, token, chunks.list.len() as u64),
            Op::SendTo { fd, datagrams, token } => (fd.0, token, datagrams.len() as u64),
            Op::Datagram { peer, token, .. } => {
                (0, token, peer.map_or(0, |peer| u64::from(peer.port())))
            }
            Op::Shutdown { fd, how, token } => (fd.0, token, *how as u64),
            Op::Cancel { target, token } => (0, token, target.bits()),
        };
        for value in [self.now_ns, driver as u64, token.bits(), fd as u64, more] {
            self.fold(value);
        }
    }

    /// An op begins on a socket; it ends with the delivery of its last completion.
    pub(super) fn begin(&mut self, id: Id) {
        *self.in_flight.entry(id).or_default() += 1;
    }

    fn accept(&mut self, driver: usize, id: Id, token: Token) {
        self.begin(id);
        let Some(listener) = self.listeners.get_mut(&id) else {
            let result = Err(NO_SUCH_SOCKET);
            let completion = Completion::Accepted { token, result, more: false };
            return self.complete(driver, Some(id), completion, true);
        };
        let twice = listener.accepts.iter().any(|(other, _)| *other == driver);
        assert!(!twice, "one accept at a time for a driver and a listening socket");
        listener.accepts.push((driver, token));
        self.pump_accept(id);
    }

    fn receive(&mut self, driver: usize, id: Id, token: Token) {
        self.begin(id);
        let Some(end) = self.ends.get_mut(&id) else {
            let result = Err(NO_SUCH_SOCKET);
            let completion = Completion::Received { token, result, more: false };
            return self.complete(driver, Some(id), completion, true);
        };
        assert!(end.receive.is_none(), "one receive at a time for a socket");
        end.receive = Some((driver, token));
        self.pump(id);
    }

    fn send(&mut self, driver: usize, id: Id, chunks: Chunks, token: Token) {
        self.begin(id);
        for chunk in &chunks.list {
            self.fold_bytes(chunk.bytes());
        }
        self.fold(chunks.sent as u64);
        let Some(end) = self.ends.get_mut(&id) else {
            let completion = Completion::Sent { token, result: Err(NO_SUCH_SOCKET), chunks };
            return self.complete(driver, Some(id), completion, true);
        };
        assert!(end.send.is_none(), "one send at a time for a socket");
        end.send = Some((driver, token, chunks));
        self.try_send(id);
    }

    fn shutdown(&mut self, id: Id, how: How) -> Result<(), Errno> {
        if self.datagrams.contains_key(&id) {
            // Wakes a receive, as the kernel does; a socket without a peer isn't connected.
            self.end_receive_from(id, CANCELLED);
            return Err(Errno(libc::ENOTCONN));
        }
        let end = self.ends.get_mut(&id).ok_or(NO_SUCH_SOCKET)?;
        if end.reset {
            return Err(Errno(libc::ENOTCONN));
        }
        let other = end.other;
        let was_closed = std::mem::replace(&mut end.write_closed, true);
        if how == How::Both {
            end.ended = true;
            end.incoming.clear();
        }
        if !was_closed {
            self.transmit(other, Segment::End);
        }
        self.pump(id);
        Ok(())
    }

    pub(super) fn close(&mut self, id: Id) -> Result<(), Errno> {
        let in_flight = self.in_flight.remove(&id).unwrap_or(0);
        assert_eq!(in_flight, 0, "a socket is closed when nothing is in flight on it");
        if let Some(listener) = self.listeners.remove(&id) {
            for end in listener.backlog {
                self.close_end(end, true);
            }
            return Ok(());
        }
        if self.datagrams.remove(&id).is_some() {
            return Ok(());
        }
        if !self.ends.contains_key(&id) {
            return Err(NO_SUCH_SOCKET);
        }
        self.close_end(id, false);
        Ok(())
    }

    fn watch(&mut self, driver: usize, id: Id, token: Token) {
        self.begin(id);
        let Some(signal) = self.signals.get_mut(&id) else {
            let completion = Completion::Ready { token, more: false };
            return self.complete(driver, Some(id), completion, true);
        };
        assert!(signal.watch.is_none(), "one watch at a time");
        signal.watch = Some((driver, token));
        self.pump_watch(id);
    }

    fn cancel(&mut self, driver: usize, target: Token) -> Result<(), Errno> {
        let is_late = self.random.chance(self.faults.late_cancel);
        let is_it = |op: &(usize, Token)| *op == (driver, target);
        let receiving = self.ends.iter().find(|(_, end)| end.receive.as_ref().is_some_and(is_it));
        if let Some((id, _)) = receiving {
            return self.cancel_receive(*id, driver, target, is_late);
        }
        let sends = |send: &(usize, Token, Chunks)| (send.0, send.1) == (driver, target);
        let sending = self.ends.iter().find(|(_, end)| end.send.as_ref().is_some_and(sends));
        if let Some((id, _)) = sending {
            return self.cancel_send(*id, is_late);
        }
        let accepting = self.listeners.iter().find(|(_, it)| it.accepts.iter().any(is_it));
        if let Some((&id, _)) = accepting {
            self.listeners.entry(id).and_modify(|it| it.accepts.retain(|op| !is_it(op)));
            let completion =
                Completion::Accepted { token: target, result: Err(CANCELLED), more: false };
            self.complete(driver, Some(id), completion, true);
            return Ok(());
        }
        let hearing = self.datagrams.iter().find(|(_, it)| it.receive.as_ref().is_some_and(is_it));
        if let Some((&id, _)) = hearing {
            self.end_receive_from(id, CANCELLED);
            return Ok(());
        }
        let watching = self.signals.iter().find(|(_, it)| it.watch.as_ref().is_some_and(is_it));
        if let Some((&id, _)) = watching {
            self.signals.entry(id).and_modify(|it| it.watch = None);
            let completion = Completion::Ready { token: target, more: false };
            self.complete(driver, Some(id), completion, true);
            return Ok(());
        }
        self.cancel_connect(driver, target, is_late)
    }

    /// Too late: the receive ended by itself just before, with bytes if there were any.
    fn cancel_receive(
        &mut self,
        id: Id,
        driver: usize,
        token: Token,
        is_late: bool,
    ) -> Result<(), Errno> {
        let outcome = if is_late { self.receive_outcome(id, driver) } else { None };
        let is_cancelled = outcome.is_none();
        let (result, bytes) = outcome.unwrap_or((Err(CANCELLED), Vec::new()));
        let completion = Completion::Received { token, result, more: false };
        self.deliver(id, driver, completion, bytes);
        if is_cancelled { Ok(()) } else { Err(NOT_FOUND) }
    }

    /// Too late: the send is running and ends as it would have.
    fn cancel_send(&mut self, id: Id, is_late: bool) -> Result<(), Errno> {
        if is_late {
            return Err(TOO_LATE);
        }
        let send = self.ends.get_mut(&id).and_then(|end| end.send.take());
        let (driver, token, chunks) = send.ok_or(NOT_FOUND)?;
        let completion = Completion::Sent { token, result: Err(CANCELLED), chunks };
        self.complete(driver, Some(id), completion, true);
        Ok(())
    }

    fn cancel_connect(&mut self, driver: usize, target: Token, is_late: bool) -> Result<(), Errno> {
        let connect = self.events.iter().find(|(_, event)| {
            matches!(event, Event::Connect { driver: by, token, .. } if (*by, *token) == (driver, target))
        });
        let key = *connect.ok_or(NOT_FOUND)?.0;
        if is_late {
            return Err(TOO_LATE);
        }
        self.events.remove(&key);
        let completion = Completion::Connected { token: target, result: Err(CANCELLED) };
        self.complete(driver, None, completion, true);
        Ok(())
    }

    /// A driver is gone: its ops end unseen, sockets that it hasn't heard of are closed.
    pub(super) fn forget_driver(&mut self, driver: usize) {
        for end in self.ends.values_mut() {
            end.receive.take_if(|(by, _)| *by == driver);
            end.send.take_if(|(by, _, _)| *by == driver);
        }
        for listener in self.listeners.values_mut() {
            listener.accepts.retain(|(by, _)| *by != driver);
        }
        for socket in self.datagrams.values_mut() {
            socket.receive.take_if(|(by, _)| *by == driver);
        }
        for signal in self.signals.values_mut() {
            signal.watch.take_if(|(by, _)| *by == driver);
        }
        self.events.retain(
            |_, event| !matches!(event, Event::Connect { driver: by, .. } if *by == driver),
        );
        self.drivers[driver].deadline_ns = None;
        self.drivers[driver].wake = Default::default();
        for ready in std::mem::take(&mut self.drivers[driver].ready).into_values() {
            match ready.completion {
                Completion::Accepted { result: Ok(Fd(id)), .. }
                | Completion::Connected { result: Ok(Fd(id)), .. } => self.close_end(id, true),
                _ => {}
            }
        }
    }
}
