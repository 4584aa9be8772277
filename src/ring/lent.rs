//! Memory that the kernel reads while an op is in flight: chunks being sent, addresses being dialled.
//!
//! It is moved in here before the op is submitted and comes out with the op's last completion; `Uring` drops its ring
//! before these tables. Sends are found by the slot in their token, so a send costs no hashing and no allocation.

#![allow(unsafe_code, reason = "structures that the kernel reads")]

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use super::socket::RawAddress;
use super::{Chunks, Token};
use crate::limits::{CONNECTIONS_PER_WORKER_MAX, SEND_CHUNKS_MAX, SPARE_MESSAGES_MAX};

/// All sends in flight.
#[derive(Default)]
pub(super) struct Sends {
    slots: Vec<Slot>,
    #[allow(clippy::vec_box, reason = "a message must not move while the kernel reads it")]
    spare: Vec<Box<Message>>,
}

#[derive(Default)]
struct Slot {
    chunks: Option<Chunks>,
    /// Only for a send of several chunks.
    message: Option<Box<Message>>,
}

/// `msghdr` and the vectors it points to: one allocation, so that the pointer stays right when the box moves.
struct Message {
    header: libc::msghdr,
    vectors: [libc::iovec; SEND_CHUNKS_MAX],
}

/// What the op is to read.
pub(super) enum Gather {
    /// One range, for `IORING_OP_SEND`.
    One(*const u8, usize),
    /// Several, for `IORING_OP_SENDMSG`.
    Many(*const libc::msghdr),
}

impl Sends {
    /// Keeps `chunks` until [`Sends::take`]. The pointers are valid until then.
    pub(super) fn lend(&mut self, token: Token, chunks: Chunks) -> Gather {
        let index = slot_of(token);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        assert!(slot.chunks.is_none(), "one send at a time for a token's owner");
        assert!(chunks.list.len() <= SEND_CHUNKS_MAX, "a send has at most SEND_CHUNKS_MAX chunks");
        let chunks = slot.chunks.insert(chunks);
        if let [only] = chunks.list.as_slice() {
            let rest = &only.bytes()[chunks.sent..];
            return Gather::One(rest.as_ptr(), rest.len());
        }
        let mut message = self.spare.pop().unwrap_or_else(Message::new);
        message.point_to(chunks);
        Gather::Many(&raw const slot.message.insert(message).header)
    }

    /// The send of `token` has completed: its chunks come home.
    pub(super) fn take(&mut self, token: Token) -> Chunks {
        let slot = &mut self.slots[slot_of(token)];
        if let Some(message) = slot.message.take()
            && self.spare.len() < SPARE_MESSAGES_MAX
        {
            self.spare.push(message);
        }
        slot.chunks.take().expect("a send completes once")
    }
}

fn slot_of(token: Token) -> usize {
    (token.owner() >> 24) as usize & (CONNECTIONS_PER_WORKER_MAX - 1)
}

impl Message {
    fn new() -> Box<Message> {
        let zeroed = MaybeUninit::<Message>::zeroed();
        // SAFETY: integers and nullable pointers only, for which all bits zero is a value.
        Box::new(unsafe { zeroed.assume_init() })
    }

    fn point_to(&mut self, chunks: &Chunks) {
        let mut skip = chunks.sent;
        for (vector, chunk) in self.vectors.iter_mut().zip(&chunks.list) {
            let rest = &chunk.bytes()[skip..];
            skip = 0;
            vector.iov_base = rest.as_ptr().cast_mut().cast();
            vector.iov_len = rest.len();
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = chunks.list.len() as _;
    }
}

/// All connects in flight, by token.
#[derive(Default)]
pub(super) struct Dials(BTreeMap<u64, Dial>);

struct Dial {
    socket: OwnedFd,
    /// Boxed: the map moves its values.
    address: Box<RawAddress>,
}

impl Dials {
    /// Keeps socket and address until [`Dials::take`]. The pointer is valid until then.
    pub(super) fn lend(
        &mut self,
        token: Token,
        socket: OwnedFd,
        address: RawAddress,
    ) -> (*const libc::sockaddr, libc::socklen_t) {
        let dial = Dial { socket, address: Box::new(address) };
        let raw = dial.address.as_raw();
        let before = self.0.insert(token.bits(), dial);
        assert!(before.is_none(), "one connect at a time for a token");
        raw
    }

    /// The connect of `token` has completed: here is its socket.
    pub(super) fn take(&mut self, token: Token) -> OwnedFd {
        self.0.remove(&token.bits()).expect("a connect completes once").socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Chunk, OpKind};

    fn token(slot: u64) -> Token {
        Token::new(OpKind::Send, slot << 24 | 5)
    }

    fn chunks(sizes: &[usize], sent: usize) -> Chunks {
        Chunks { list: sizes.iter().map(|size| Chunk::Owned(vec![7; *size])).collect(), sent }
    }

    #[test]
    fn one_chunk_needs_no_message() {
        let mut sends = Sends::default();
        let lent = chunks(&[10], 4);
        let start = lent.list[0].bytes().as_ptr() as usize;
        let Gather::One(pointer, bytes) = sends.lend(token(3), lent) else { panic!("gathered") };
        assert_eq!((pointer as usize, bytes), (start + 4, 6));
        assert_eq!(sends.take(token(3)).sent, 4);
        assert_eq!(sends.slots.len(), 4);
    }

    #[test]
    fn several_chunks_skip_what_is_sent_and_reuse_their_message() {
        let mut sends = Sends::default();
        for _ in 0..3 {
            let Gather::Many(_) = sends.lend(token(0), chunks(&[10, 20, 0], 9)) else {
                panic!("not gathered")
            };
            let message = sends.slots[0].message.as_ref().unwrap();
            let sizes: Vec<usize> = message.vectors[..3].iter().map(|v| v.iov_len).collect();
            assert_eq!((sizes, message.header.msg_iovlen), (vec![1, 20, 0], 3));
            assert_eq!(sends.take(token(0)).list.len(), 3);
            assert_eq!(sends.spare.len(), 1);
        }
    }

    #[test]
    #[should_panic(expected = "one send at a time")]
    fn a_second_send_of_the_same_owner_is_a_bug() {
        let mut sends = Sends::default();
        sends.lend(token(1), chunks(&[1], 0));
        sends.lend(token(1), chunks(&[1], 0));
    }
}
