//! The smallest complete server on a [`Driver`]: sends back what it gets. Shows the rules that every owner of a
//! connection follows: re-arm what ended, stop reading when the outbox is full, close when nothing is in flight.

use std::collections::BTreeMap;

use crate::net::{ConnectionId, Outbox};
use crate::ring::{Completion, Driver, Errno, Fd, Op, OpKind, Token, Wait};

pub(super) struct Echo<D> {
    pub(super) driver: D,
    listener: Fd,
    accepting: bool,
    connections: BTreeMap<u64, Connection>,
    accepted: u32,
    pub(super) closed: u32,
    ops: Vec<Op>,
    completions: Vec<Completion>,
}

struct Connection {
    fd: Fd,
    outbox: Outbox,
    /// Ops whose last completion hasn't come.
    in_flight: u32,
    receiving: bool,
    cancelling: bool,
    /// The peer has ended its stream.
    ended: bool,
    failed: bool,
    closing: bool,
}

impl<D: Driver> Echo<D> {
    pub(super) fn new(driver: D, listener: Fd) -> Echo<D> {
        Echo {
            driver,
            listener,
            accepting: false,
            connections: BTreeMap::new(),
            accepted: 0,
            closed: 0,
            ops: Vec::new(),
            completions: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, wait: Wait) {
        if !self.accepting {
            self.accepting = true;
            let token = Token::new(OpKind::Accept, 0);
            self.ops.push(Op::Accept { fd: self.listener, token });
        }
        self.driver.turn(&mut self.ops, wait, &mut self.completions).unwrap();
        for completion in std::mem::take(&mut self.completions) {
            self.on_completion(completion);
        }
        for (id, connection) in &mut self.connections {
            connection.advance(*id, &mut self.ops);
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { result, more, .. } => {
                self.accepting = more;
                if let Ok(fd) = result {
                    self.driver.set_nodelay(fd);
                    self.accepted += 1;
                    let id = ConnectionId::new(0, self.accepted, 1).bits();
                    self.connections.insert(id, Connection::new(fd));
                }
            }
            Completion::Received { token, result, more } => {
                let connection = self.connections.get_mut(&token.owner()).unwrap();
                if !more {
                    connection.receiving = false;
                    connection.in_flight -= 1;
                }
                match result {
                    Ok(Some(received)) => {
                        connection.outbox.append(self.driver.received(&received));
                        self.driver.recycle(received);
                    }
                    Ok(None) => connection.ended = true,
                    Err(Errno(libc::ENOBUFS | libc::ECANCELED)) => {}
                    Err(_) => connection.failed = true,
                }
            }
            Completion::Sent { token, result, chunks } => {
                let connection = self.connections.get_mut(&token.owner()).unwrap();
                connection.in_flight -= 1;
                connection.failed |= connection.outbox.on_sent(result, chunks).is_err();
            }
            Completion::Done { token, .. } if token.kind() == Some(OpKind::Close) => {
                assert!(self.connections.remove(&token.owner()).is_some());
                self.closed += 1;
            }
            Completion::Done { token, .. } => {
                let connection = self.connections.get_mut(&token.owner()).unwrap();
                connection.cancelling = false;
                connection.in_flight -= 1;
            }
            Completion::Woken => {}
            other => panic!("an echo never asks for this: {other:?}"),
        }
    }
}

impl Connection {
    fn new(fd: Fd) -> Connection {
        Connection {
            fd,
            outbox: Outbox::new(),
            in_flight: 0,
            receiving: false,
            cancelling: false,
            ended: false,
            failed: false,
            closing: false,
        }
    }

    fn advance(&mut self, id: u64, ops: &mut Vec<Op>) {
        let fd = self.fd;
        let over = self.failed || (self.ended && self.outbox.is_empty());
        if self.receiving && !self.cancelling && (over || self.outbox.is_above_high()) {
            self.cancelling = true;
            self.in_flight += 1;
            let target = Token::new(OpKind::Receive, id);
            ops.push(Op::Cancel { target, token: Token::new(OpKind::Cancel, id) });
        }
        if over {
            if self.in_flight == 0 && !self.closing {
                self.closing = true;
                ops.push(Op::Close { fd, token: Token::new(OpKind::Close, id) });
            }
            return;
        }
        if let Some(chunks) = self.outbox.take_send() {
            self.in_flight += 1;
            ops.push(Op::Send { fd, chunks, token: Token::new(OpKind::Send, id) });
        }
        if !self.receiving && !self.ended && self.outbox.is_below_low() {
            self.receiving = true;
            self.in_flight += 1;
            ops.push(Op::Receive { fd, token: Token::new(OpKind::Receive, id) });
        }
    }
}
