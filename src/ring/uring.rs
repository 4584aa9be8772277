//! The real driver: one io_uring per thread.
//!
//! A turn is one system call: all new ops go in, the thread waits, all completions come out. What the kernel reads
//! (chunks, addresses) or writes (pool buffers) is owned by the driver while an op is in flight and dropped after the
//! ring; if at the end the kernel doesn't let go of it, it is leaked rather than freed.
//!
//! The completion queue is four times the submission queue, and the kernel keeps what doesn't fit (NODROP): an
//! overflow ends multishot ops (`more == false`) and is flushed by the next turn's system call, so nothing is lost.

#![allow(unsafe_code, reason = "submitting to the kernel")]

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;

use io_uring::types::{self, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::buffers::{self, BufferPool};
use super::features::Features;
use super::lent::{Dials, Gather, Sends};
use super::lent_datagrams::{Batches, Sources};
use super::setup::{self, Options};
use super::socket::RawAddress;
use super::wake::EventWake;
use super::{
    Address, Arrived, Completion, Driver, Errno, Fd, How, Now, Op, OpKind, Received, Token, Wait,
    Wake, clock, socket,
};
use crate::error::OperatorError;

/// `user_data` of the driver's own ops: kind 0 is no [`OpKind`].
const WAKE: u64 = 0;
const CANCEL_ALL: u64 = 1;
/// A datagram of a batch: its index is in the lower half.
const DATAGRAM: u64 = 1 << 32;

/// One thread's io_uring.
pub struct Uring {
    /// First, so that it is dropped before the memory below.
    ring: IoUring,
    lent: Lent,
    waker: Arc<EventWake>,
    features: Features,
    now: Now,
    /// Ops that the kernel hasn't finished: a multishot op counts until its last completion.
    in_flight: usize,
    /// Completions as the kernel wrote them; kept for its memory.
    reaped: Vec<cqueue::Entry>,
    /// SINGLE_ISSUER: only the thread that made the ring may use it.
    not_send: PhantomData<*const ()>,
}

/// What the kernel may touch while ops are in flight.
struct Lent {
    buffers: BufferPool,
    sends: Sends,
    dials: Dials,
    sources: Sources,
    batches: Batches,
}

impl Lent {
    /// The kernel may still use all of it: never free it.
    fn leak(&mut self) {
        self.buffers.leak();
        std::mem::forget(std::mem::take(&mut self.sends));
        std::mem::forget(std::mem::take(&mut self.dials));
        std::mem::forget(std::mem::take(&mut self.sources));
        std::mem::forget(std::mem::take(&mut self.batches));
    }
}

impl Uring {
    /// A ring for this thread.
    ///
    /// # Errors
    /// io_uring is denied, missing or out of memory: which, and what to do about it.
    pub fn new(options: &Options) -> Result<Uring, OperatorError> {
        let (ring, features) = setup::build(options)?;
        let explain = |error: io::Error| setup::explain(&error, &setup::Machine::this());
        let buffers = BufferPool::register(&ring, options.buffers).map_err(explain)?;
        let waker = EventWake::new().map_err(|error| {
            OperatorError::failed(format!("can't make an eventfd: {error}"))
                .hint("raise the limit of open files: ulimit -n 65536")
        })?;
        let mut uring = Uring {
            ring,
            lent: Lent {
                buffers,
                sends: Sends::default(),
                dials: Dials::default(),
                sources: Sources::default(),
                batches: Batches::default(),
            },
            waker: Arc::new(waker),
            features,
            now: clock::now(),
            in_flight: 0,
            reaped: Vec::new(),
            not_send: PhantomData,
        };
        uring.watch_waker().map_err(explain)?;
        Ok(uring)
    }

    /// The optional kernel features in use.
    pub fn features(&self) -> Features {
        self.features
    }

    fn watch_waker(&mut self) -> io::Result<()> {
        let poll = poll(self.waker.fd()).user_data(WAKE);
        self.push(poll)
    }

    fn start(&mut self, op: Op, completions: &mut Vec<Completion>) -> io::Result<()> {
        let (entry, token) = match op {
            Op::Accept { fd, token } => (self.accept(fd), token),
            Op::Receive { fd, token } => (self.receive(fd), token),
            Op::ReceiveFrom { fd, token } => (self.receive_from(fd, token), token),
            Op::SendTo { fd, datagrams, token } => return self.send_to(fd, datagrams, token),
            Op::Datagram { local, peer, token } => {
                let made = socket::datagram_for(local, peer);
                let result = made.map(|socket| Fd(socket.into_raw_fd()));
                completions.push(Completion::Connected { token, result });
                return Ok(());
            }
            Op::Send { fd, chunks, token } => (self.send(fd, chunks, token), token),
            Op::Connect { address: Address::Udp(peer), token } => {
                let made = socket::datagram_for(None, Some(peer));
                let result = made.map(|socket| Fd(socket.into_raw_fd()));
                completions.push(Completion::Connected { token, result });
                return Ok(());
            }
            Op::Connect { address, token } => match self.connect(&address, token) {
                Ok(entry) => (entry, token),
                Err(errno) => {
                    completions.push(Completion::Connected { token, result: Err(errno) });
                    return Ok(());
                }
            },
            Op::Shutdown { fd, how, token } => {
                let how = match how {
                    How::Write => libc::SHUT_WR,
                    How::Both => libc::SHUT_RDWR,
                };
                (opcode::Shutdown::new(types::Fd(fd.0), how).build(), token)
            }
            Op::Close { fd, token } => (opcode::Close::new(types::Fd(fd.0)).build(), token),
            Op::Cancel { target, token } => {
                (opcode::AsyncCancel::new(target.bits()).build(), token)
            }
            Op::Watch { fd, token } => (poll(fd), token),
        };
        self.push(entry.user_data(token.bits()))
    }

    fn accept(&self, fd: Fd) -> squeue::Entry {
        let fd = types::Fd(fd.0);
        if self.features.has(Features::MULTISHOT_ACCEPT) {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        } else {
            let nowhere = std::ptr::null_mut();
            opcode::Accept::new(fd, nowhere, nowhere.cast()).flags(libc::SOCK_CLOEXEC).build()
        }
    }

    fn receive(&self, fd: Fd) -> squeue::Entry {
        let fd = types::Fd(fd.0);
        if self.features.has(Features::MULTISHOT_RECEIVE) {
            opcode::RecvMulti::new(fd, buffers::GROUP).build()
        } else {
            let receive = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(buffers::GROUP);
            receive.build().flags(squeue::Flags::BUFFER_SELECT)
        }
    }

    fn receive_from(&mut self, fd: Fd, token: Token) -> squeue::Entry {
        let fd = types::Fd(fd.0);
        let header = self.lent.sources.lend(token);
        if self.features.has(Features::MULTISHOT_RECEIVE) {
            opcode::RecvMsgMulti::new(fd, header, buffers::GROUP).build()
        } else {
            let receive = opcode::RecvMsg::new(fd, header).buf_group(buffers::GROUP);
            receive.build().flags(squeue::Flags::BUFFER_SELECT)
        }
    }

    fn send_to(&mut self, fd: Fd, datagrams: Vec<super::Datagram>, token: Token) -> io::Result<()> {
        let mut batches = std::mem::take(&mut self.lent.batches);
        let fd = types::Fd(fd.0);
        let pushed = batches.lend(token, datagrams, |index, header| {
            let send = opcode::SendMsg::new(fd, header).flags(libc::MSG_NOSIGNAL as u32);
            self.push(send.build().user_data(DATAGRAM | index as u64))
        });
        self.lent.batches = batches;
        pushed
    }

    fn send(&mut self, fd: Fd, chunks: super::Chunks, token: Token) -> squeue::Entry {
        let fd = types::Fd(fd.0);
        match self.lent.sends.lend(token, chunks) {
            Gather::One(start, bytes) => {
                // The kernel caps one send at about 2 GB; the completion says how much went.
                let bytes = bytes.min(i32::MAX as usize) as u32;
                opcode::Send::new(fd, start, bytes).flags(libc::MSG_NOSIGNAL).build()
            }
            Gather::Many(message) => {
                opcode::SendMsg::new(fd, message).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        }
    }

    fn connect(&mut self, address: &Address, token: Token) -> Result<squeue::Entry, Errno> {
        let socket = socket::stream_for(address)?;
        let fd = types::Fd(socket.as_raw_fd());
        let (raw, bytes) = self.lent.dials.lend(token, socket, RawAddress::from(address));
        Ok(opcode::Connect::new(fd, raw, bytes).build())
    }

    /// Queues an op; a full queue is submitted first.
    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            let mut queue = self.ring.submission();
            // SAFETY: what the entry points to is in `self.lent` until the op's last completion.
            if unsafe { queue.push(&entry) }.is_ok() {
                self.in_flight += 1;
                return Ok(());
            }
            drop(queue);
            tolerate(self.ring.submit())?;
            if self.features.has(Features::SQPOLL) {
                tolerate(self.ring.submitter().squeue_wait())?;
            }
            // EBUSY until overflowed completions are taken: make room for them.
            self.reaped.extend(self.ring.completion());
        }
    }

    fn submit_and_wait(&mut self, wait: Wait) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let submitted = match wait {
            Wait::Forever => submitter.submit_and_wait(1),
            Wait::Until(deadline_ns) => {
                let left_ns = deadline_ns.saturating_sub(clock::now().monotonic_ns);
                let left = Timespec::new()
                    .sec(left_ns / 1_000_000_000)
                    .nsec((left_ns % 1_000_000_000) as u32);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&left))
            }
            Wait::No if self.features.has(Features::SQPOLL) => submitter.submit(),
            Wait::No => {
                let count = self.ring.submission().len() as u32;
                let flags = EnterFlags::GETEVENTS.bits();
                let submitter = self.ring.submitter();
                // SAFETY: no argument is passed, and `count` entries are in the queue. GETEVENTS without waiting runs
                // the deferred work, which `submit` would leave alone.
                unsafe { submitter.enter::<libc::sigset_t>(count, 0, flags, None) }
            }
        };
        tolerate(submitted)
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(self.ring.completion());
        for entry in reaped.drain(..) {
            let more = cqueue::more(entry.flags());
            self.in_flight -= usize::from(!more);
            match entry.user_data() {
                WAKE if !more => self.watch_waker()?,
                WAKE | CANCEL_ALL => {}
                bits if bits >> 32 == 1 => completions.extend(self.datagram_done(&entry)),
                bits => completions.push(self.complete(Token::from_bits(bits), &entry)),
            }
        }
        reaped.append(&mut self.reaped);
        self.reaped = reaped;
        Ok(())
    }

    fn datagram_done(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let index = (entry.user_data() & u64::from(u32::MAX)) as usize;
        let (token, outcome) = self.lent.batches.done(index, outcome(entry))?;
        Some(Completion::SentTo { token, outcome })
    }

    /// What a receive of datagrams has put into a buffer.
    fn arrived(&mut self, token: Token, entry: &cqueue::Entry) -> Result<Arrived, Errno> {
        let buffer = cqueue::buffer_select(entry.flags());
        let bytes = outcome(entry);
        let received = buffer
            .and_then(|buffer| self.lent.buffers.take(buffer, bytes.as_ref().map_or(0, |it| *it)));
        let bytes = bytes?;
        let is_multishot = self.features.has(Features::MULTISHOT_RECEIVE);
        let found = match &received {
            Some(received) if is_multishot => {
                self.lent.sources.multishot(token, self.lent.buffers.bytes(received))
            }
            _ => Some(self.lent.sources.single(token, bytes)),
        };
        let whole = found.and_then(|found| Some((found.source?, found)));
        let Some((source, found)) = whole else {
            received.into_iter().for_each(|received| self.lent.buffers.recycle(received));
            return Err(Errno(libc::EAFNOSUPPORT));
        };
        let received = match received {
            Some(Received { buffer, .. }) if found.bytes > 0 => {
                Some(Received { buffer, start: found.start, bytes: found.bytes })
            }
            Some(empty) => {
                self.lent.buffers.recycle(empty);
                None
            }
            None => None,
        };
        Ok(Arrived { source, received, is_cut: found.is_cut })
    }

    fn complete(&mut self, token: Token, entry: &cqueue::Entry) -> Completion {
        let result = outcome(entry);
        let more = cqueue::more(entry.flags());
        match token.kind().expect("the kernel returns the user_data that it was given") {
            OpKind::Accept => {
                Completion::Accepted { token, result: result.map(|fd| Fd(fd as i32)), more }
            }
            OpKind::Connect => {
                // On an error the socket is dropped, and so closed, here.
                let socket = self.lent.dials.take(token);
                Completion::Connected { token, result: result.map(|_| Fd(socket.into_raw_fd())) }
            }
            OpKind::Receive => {
                let buffer = cqueue::buffer_select(entry.flags());
                let bytes = result.unwrap_or(0);
                if result == Err(Errno(libc::ENOBUFS)) {
                    self.lent.buffers.grow();
                }
                let received = buffer.and_then(|buffer| self.lent.buffers.take(buffer, bytes));
                Completion::Received { token, result: result.map(|_| received), more }
            }
            OpKind::ReceiveFrom => {
                let result = self.arrived(token, entry);
                if !more {
                    self.lent.sources.end(token);
                }
                Completion::ReceivedFrom { token, result, more }
            }
            OpKind::SendTo | OpKind::Datagram => {
                unreachable!("the driver answers these itself")
            }
            OpKind::Send => {
                let chunks = self.lent.sends.take(token);
                Completion::Sent { token, result: result.map(|bytes| bytes as usize), chunks }
            }
            OpKind::Shutdown | OpKind::Close | OpKind::Cancel => {
                Completion::Done { token, result: result.map(|_| ()) }
            }
            OpKind::Watch => Completion::Ready { token, more },
        }
    }

    /// Cancels everything and waits until the kernel holds nothing of ours. False: it still does.
    fn quiesce(&mut self) -> io::Result<bool> {
        const PATIENCE_NS: u64 = 2_000_000_000;
        let deadline_ns = clock::now().monotonic_ns + PATIENCE_NS;
        let all = types::CancelBuilder::any();
        self.push(opcode::AsyncCancel2::new(all).build().user_data(CANCEL_ALL))?;
        let mut completions = Vec::new();
        while self.in_flight > 0 && clock::now().monotonic_ns < deadline_ns {
            self.submit_and_wait(Wait::Until(deadline_ns))?;
            self.reap_last(&mut completions);
            for completion in completions.drain(..) {
                discard(completion);
            }
        }
        Ok(self.in_flight == 0)
    }

    /// Like [`Uring::reap`], without starting anything new.
    fn reap_last(&mut self, completions: &mut Vec<Completion>) {
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(self.ring.completion());
        for entry in reaped {
            self.in_flight -= usize::from(!cqueue::more(entry.flags()));
            let bits = entry.user_data();
            if bits >> 32 == 1 {
                completions.extend(self.datagram_done(&entry));
            } else if bits > CANCEL_ALL {
                completions.push(self.complete(Token::from_bits(entry.user_data()), &entry));
            }
        }
    }
}

impl Driver for Uring {
    fn precise_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn now(&self) -> Now {
        self.now
    }

    fn turn(
        &mut self,
        ops: &mut Vec<Op>,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let before = completions.len();
        for op in ops.drain(..) {
            self.start(op, completions)?;
        }
        let has_something = completions.len() > before || !self.reaped.is_empty();
        let wait =
            if has_something || wait == Wait::No || !self.waker.sleep() { Wait::No } else { wait };
        self.submit_and_wait(wait)?;
        self.now = clock::now();
        if self.waker.run() {
            completions.push(Completion::Woken);
        }
        self.reap(completions)
    }

    fn received(&self, received: &Received) -> &[u8] {
        self.lent.buffers.bytes(received)
    }

    fn recycle(&mut self, received: Received) {
        self.lent.buffers.recycle(received);
    }

    fn buffers_free(&self) -> (usize, usize) {
        self.lent.buffers.counts()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }

    fn peer(&self, fd: Fd) -> Result<Address, Errno> {
        socket::peer(fd)
    }

    fn local(&self, fd: Fd) -> Result<SocketAddr, Errno> {
        socket::local(fd)
    }

    fn set_nodelay(&self, fd: Fd) {
        socket::set_nodelay(fd);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if !matches!(self.quiesce(), Ok(true)) {
            self.lent.leak();
        }
    }
}

/// What the kernel returned.
fn outcome(entry: &cqueue::Entry) -> Result<u32, Errno> {
    match entry.result() {
        value @ 0.. => Ok(value as u32),
        error => Err(Errno(-error)),
    }
}

/// `POLLIN`, again and again.
fn poll(fd: Fd) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd.0), libc::POLLIN as u32).multi(true).build()
}

/// Nobody will see this completion: close what it brought.
fn discard(completion: Completion) {
    match completion {
        Completion::Accepted { result: Ok(fd), .. }
        | Completion::Connected { result: Ok(fd), .. } => socket::close(fd),
        _ => {}
    }
}

/// Wakes that are no failures: the time is up, a signal came, or completions must be taken before the kernel accepts
/// more ops (which stay queued for the next turn).
fn tolerate(outcome: io::Result<usize>) -> io::Result<()> {
    match outcome {
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
        Ok(_) => Ok(()),
    }
}
