//! Memory that the kernel uses for datagrams in flight: message headers, addresses, payloads being sent.
//!
//! io_uring sends one datagram an op, so a batch is several kernel ops and one completion. As with the chunks of streams
//! all of it is moved in here before and comes out after; `Uring` drops its ring before these tables.

#![allow(unsafe_code, reason = "structures that the kernel reads and writes")]

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use io_uring::types::RecvMsgOut;

use super::datagram::{Datagram, Outcome};
use super::socket::RawAddress;
use super::{Errno, Token};
use crate::limits::{RECEIVE_BUFFER_BYTES, SPARE_MESSAGES_MAX};

/// The largest address that a source may have: `sockaddr_in6`.
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// All receives of datagrams in flight, by token.
#[derive(Default)]
pub(super) struct Sources(BTreeMap<u64, Box<Source>>);

struct Source {
    header: libc::msghdr,
    vector: libc::iovec,
    name: [u8; NAME_BYTES],
}

/// A datagram in a receive buffer: where its payload lies, whose it is.
pub(super) struct Found {
    pub(super) source: Option<SocketAddr>,
    pub(super) start: u32,
    pub(super) bytes: u32,
    pub(super) is_cut: bool,
}

impl Sources {
    /// A header for a receive; valid until [`Sources::end`].
    pub(super) fn lend(&mut self, token: Token) -> *mut libc::msghdr {
        let zeroed = MaybeUninit::<Source>::zeroed();
        // SAFETY: integers and nullable pointers only, for which all bits zero is a value.
        let mut source = Box::new(unsafe { zeroed.assume_init() });
        source.vector.iov_len = RECEIVE_BUFFER_BYTES;
        source.header.msg_name = source.name.as_mut_ptr().cast();
        source.header.msg_namelen = NAME_BYTES as libc::socklen_t;
        source.header.msg_iov = &raw mut source.vector;
        source.header.msg_iovlen = 1;
        let header = &raw mut source.header;
        let before = self.0.insert(token.bits(), source);
        assert!(before.is_none(), "one receive at a time for a token's owner");
        header
    }

    /// The receive of `token` is over.
    pub(super) fn end(&mut self, token: Token) {
        self.0.remove(&token.bits()).expect("a receive ends once");
    }

    /// A single receive has put a payload of this size into its buffer.
    pub(super) fn single(&self, token: Token, bytes: u32) -> Found {
        let source = &self.0[&token.bits()];
        let name = &source.name[..NAME_BYTES.min(source.header.msg_namelen as usize)];
        let is_cut = source.header.msg_flags & libc::MSG_TRUNC != 0;
        Found { source: address(name), start: 0, bytes, is_cut }
    }

    /// A multishot receive has put a header, the source and the payload into this buffer.
    pub(super) fn multishot(&self, token: Token, buffer: &[u8]) -> Option<Found> {
        let out = RecvMsgOut::parse(buffer, &self.0[&token.bits()].header).ok()?;
        let payload = out.payload_data();
        Some(Found {
            source: address(out.name_data()),
            start: (buffer.len() - payload.len()) as u32,
            bytes: payload.len() as u32,
            is_cut: out.is_payload_truncated(),
        })
    }
}

/// Reads an address as the kernel writes it.
fn address(raw: &[u8]) -> Option<SocketAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes([*raw.first()?, *raw.get(1)?]));
    let port = u16::from_be_bytes([*raw.get(2)?, *raw.get(3)?]);
    if family == libc::AF_INET {
        let ip: [u8; 4] = raw.get(4..8)?.try_into().ok()?;
        return Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into());
    }
    let flow: [u8; 4] = raw.get(4..8)?.try_into().ok()?;
    let ip: [u8; 16] = raw.get(8..24)?.try_into().ok()?;
    let scope: [u8; 4] = raw.get(24..28)?.try_into().ok()?;
    let (ip, flow) = (Ipv6Addr::from(ip), u32::from_ne_bytes(flow));
    (family == libc::AF_INET6)
        .then(|| SocketAddrV6::new(ip, port, flow, u32::from_ne_bytes(scope)).into())
}

/// All batches of datagrams being sent.
#[derive(Default)]
pub(super) struct Batches {
    batches: Vec<Option<Batch>>,
    /// One for each kernel op; its index is in the op's user data.
    messages: Vec<Option<(usize, Box<Message>)>>,
    free: Vec<usize>,
    #[allow(clippy::vec_box, reason = "a message must not move while the kernel reads it")]
    spare: Vec<Box<Message>>,
}

struct Batch {
    token: Token,
    outcome: Outcome,
    left: usize,
}

struct Message {
    header: libc::msghdr,
    vector: libc::iovec,
    name: Option<RawAddress>,
}

impl Batches {
    /// Keeps the datagrams until their outcome and hands `each` the index and header of every one.
    pub(super) fn lend<E>(
        &mut self,
        token: Token,
        datagrams: Vec<Datagram>,
        mut each: impl FnMut(usize, *const libc::msghdr) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(!datagrams.is_empty(), "a batch has at least one datagram");
        let batch = self.batches.iter().position(Option::is_none).unwrap_or_else(|| {
            self.batches.push(None);
            self.batches.len() - 1
        });
        for datagram in &datagrams {
            let mut message = self.spare.pop().unwrap_or_else(Message::new);
            message.point_to(datagram);
            let header = &raw const message.header;
            let index = self.free.pop().unwrap_or_else(|| {
                self.messages.push(None);
                self.messages.len() - 1
            });
            self.messages[index] = Some((batch, message));
            each(index, header)?;
        }
        let left = datagrams.len();
        let outcome = Outcome { datagrams, ..Outcome::default() };
        self.batches[batch] = Some(Batch { token, outcome, left });
        Ok(())
    }

    /// One of them is done; the last one of a batch brings its outcome.
    pub(super) fn done(
        &mut self,
        index: usize,
        result: Result<u32, Errno>,
    ) -> Option<(Token, Outcome)> {
        let (at, message) = self.messages[index].take().expect("a datagram is done once");
        self.free.push(index);
        if self.spare.len() < SPARE_MESSAGES_MAX {
            self.spare.push(message);
        }
        let batch = self.batches[at].as_mut().expect("its batch isn't over");
        match result {
            Ok(bytes) => {
                batch.outcome.sent += 1;
                batch.outcome.bytes += u64::from(bytes);
            }
            Err(error) => batch.outcome.error = Some(error),
        }
        batch.left -= 1;
        if batch.left > 0 {
            return None;
        }
        self.batches[at].take().map(|batch| (batch.token, batch.outcome))
    }
}

impl Message {
    fn new() -> Box<Message> {
        let header = MaybeUninit::<libc::msghdr>::zeroed();
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: integers and nullable pointers only, for which all bits zero is a value.
        Box::new(Message { header: unsafe { header.assume_init() }, vector, name: None })
    }

    fn point_to(&mut self, datagram: &Datagram) {
        let bytes = datagram.bytes.bytes();
        self.vector.iov_base = bytes.as_ptr().cast_mut().cast();
        self.vector.iov_len = bytes.len();
        self.name = datagram.to.as_ref().map(RawAddress::from);
        let (name, name_bytes) =
            self.name.as_ref().map_or((std::ptr::null(), 0), RawAddress::as_raw);
        self.header.msg_name = name.cast_mut().cast();
        self.header.msg_namelen = name_bytes;
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Chunk;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["192.0.2.7:53", "[2001:db8::1]:9000", "[fe80::1%3]:1"] {
            let wanted: SocketAddr = text.parse().unwrap();
            let raw = RawAddress::from(&wanted);
            let (start, bytes) = raw.as_raw();
            // SAFETY: `raw` lives and is that long.
            let raw = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), bytes as usize) };
            assert_eq!(address(raw), Some(wanted));
            assert_eq!(address(&raw[..7]), None);
        }
        assert_eq!(address(&[0; 28]), None);
    }

    #[test]
    fn a_batch_ends_with_its_last_datagram_and_its_messages_are_used_again() {
        let token = Token::new(crate::ring::OpKind::SendTo, 7);
        let datagram = |bytes: &[u8]| Datagram { to: None, bytes: Chunk::Owned(bytes.to_vec()) };
        let mut batches = Batches::default();
        for _ in 0..3 {
            let mut indexes = Vec::new();
            let note = |index, _| {
                indexes.push(index);
                Ok::<(), ()>(())
            };
            batches.lend(token, vec![datagram(b"one"), datagram(b"three")], note).unwrap();
            assert!(batches.done(indexes[1], Err(Errno(libc::EPERM))).is_none());
            let (ended, outcome) = batches.done(indexes[0], Ok(3)).unwrap();
            assert_eq!((ended, outcome.sent, outcome.bytes), (token, 1, 3));
            assert_eq!((outcome.error, outcome.datagrams.len()), (Some(Errno(libc::EPERM)), 2));
            assert_eq!((batches.messages.len(), batches.batches.len()), (2, 1));
        }
    }
}
