//! A [`Driver`] on the simulated network.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::network::{Kernel, Network, Ready};
use crate::ring::{Address, Arrived, Completion, Driver, Errno, Fd, Now, Op, Received, Wait, Wake};

/// What a turn costs at most, so that time passes even for a worker that never waits.
const TURN_NS_MAX: u64 = 1000;

/// One simulated worker's kernel. Dropping it drops its ops; its sockets stay open.
pub struct SimDriver {
    network: Rc<RefCell<Network>>,
    index: usize,
    now: Now,
    wake: Arc<SimWake>,
    buffers: Vec<Buffer>,
    /// Indices of buffers that nobody holds.
    free: Vec<u16>,
}

#[derive(Clone, Default)]
struct Buffer {
    bytes: Vec<u8>,
    is_lent: bool,
}

#[derive(Default)]
pub(super) struct SimWake(AtomicBool);

impl SimWake {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for SimWake {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl SimDriver {
    pub(super) fn new(network: Rc<RefCell<Network>>) -> SimDriver {
        let wake = Arc::new(SimWake::default());
        let mut world = network.borrow_mut();
        let count = world.faults.buffers;
        world.drivers.push(Kernel {
            ready: Default::default(),
            buffers_free: count,
            wake: Arc::clone(&wake),
            deadline_ns: None,
        });
        let (index, now) = (world.drivers.len() - 1, world.now());
        drop(world);
        SimDriver {
            network,
            index,
            now,
            wake,
            buffers: vec![Buffer::default(); count],
            free: (0..count as u16).rev().collect(),
        }
    }

    /// Moves what is due to `completions`; mostly all of it, in the order of the due times.
    fn take_due(&mut self, world: &mut Network, completions: &mut Vec<Completion>) {
        if self.wake.0.swap(false, Ordering::SeqCst) {
            world.fold(1);
            completions.push(Completion::Woken);
        }
        let due = world.drivers[self.index].ready.range(..=(world.now_ns, u64::MAX)).count();
        let mut count = due;
        if due > 1 && world.random.chance(world.faults.delay) {
            count = 1 + world.random.below(due as u64) as usize;
        }
        for _ in 0..count {
            let (_, ready) = world.drivers[self.index].ready.pop_first().expect("counted");
            if let Some(socket) = ready.socket.filter(|_| ready.is_last)
                && let Some(in_flight) = world.in_flight.get_mut(&socket)
            {
                *in_flight -= 1;
            }
            let completion = self.fill_buffer(ready);
            self.fold(world, &completion);
            completions.push(completion);
        }
    }

    fn fill_buffer(&mut self, mut ready: Ready) -> Completion {
        if let Completion::Received { result: Ok(Some(received)), .. }
        | Completion::ReceivedFrom {
            result: Ok(Arrived { received: Some(received), .. }),
            ..
        } = &mut ready.completion
        {
            let buffer = self.free.pop().expect("the network counts free buffers");
            self.buffers[usize::from(buffer)] = Buffer { bytes: ready.bytes, is_lent: true };
            received.buffer = buffer;
        }
        ready.completion
    }

    fn fold(&self, world: &mut Network, completion: &Completion) {
        let errno = |errno: Errno| u64::from(errno.0 as u32) << 32;
        let (token, value) = match completion {
            Completion::Accepted { token, result, more } => {
                (token, result.map_or_else(errno, |fd| fd.0 as u64) << 1 | u64::from(*more))
            }
            Completion::Connected { token, result } => {
                (token, result.map_or_else(errno, |fd| fd.0 as u64))
            }
            Completion::Received { token, result, more } => {
                if let Ok(Some(received)) = result {
                    world.fold_bytes(self.received(received));
                }
                (token, result.as_ref().map_or_else(|e| errno(*e), |_| u64::from(*more)))
            }
            Completion::ReceivedFrom { token, result, more } => {
                if let Ok(Arrived { received: Some(received), .. }) = result {
                    world.fold_bytes(self.received(received));
                }
                (token, result.as_ref().map_or_else(|e| errno(*e), |_| u64::from(*more)))
            }
            Completion::SentTo { token, outcome } => (token, outcome.bytes),
            Completion::Sent { token, result, .. } => {
                (token, result.map_or_else(errno, |bytes| bytes as u64))
            }
            Completion::Done { token, result } => (token, result.map_or_else(errno, |()| 0)),
            Completion::Ready { token, more } => (token, u64::from(*more)),
            Completion::Woken => return,
        };
        for part in [world.now_ns, self.index as u64, token.bits(), value] {
            world.fold(part);
        }
    }

    /// Lets time pass up to the next thing that happens anywhere, at most to the end of `wait`.
    /// False: this turn is over.
    fn pass_time(&self, world: &mut Network, wait: Wait) -> bool {
        let own_deadline_ns = match wait {
            Wait::No => return false,
            Wait::Until(deadline_ns) => Some(deadline_ns),
            Wait::Forever => None,
        };
        let mut next_ns = own_deadline_ns.unwrap_or(u64::MAX);
        for (index, kernel) in world.drivers.iter().enumerate() {
            let is_other = index != self.index;
            if is_other && kernel.wake.is_set() {
                return false;
            }
            let first_due = kernel.ready.first_key_value().map(|((due_ns, _), _)| *due_ns);
            let deadline = kernel.deadline_ns.filter(|_| is_other);
            next_ns = first_due.into_iter().chain(deadline).fold(next_ns, u64::min);
        }
        if let Some(((time_ns, _), _)) = world.events.first_key_value() {
            next_ns = next_ns.min(*time_ns);
        }
        if next_ns == u64::MAX || next_ns <= world.now_ns {
            return false;
        }
        world.now_ns = next_ns;
        true
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Now {
        self.now
    }

    fn turn(
        &mut self,
        ops: &mut Vec<Op>,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let network = Rc::clone(&self.network);
        let world = &mut *network.borrow_mut();
        world.now_ns += world.random.below(TURN_NS_MAX);
        world.drivers[self.index].deadline_ns = match wait {
            Wait::No => Some(world.now_ns),
            Wait::Until(deadline_ns) => Some(deadline_ns),
            Wait::Forever => None,
        };
        for op in ops.drain(..) {
            world.submit(self.index, op);
        }
        let before = completions.len();
        loop {
            world.run_events();
            self.take_due(world, completions);
            if completions.len() > before || !self.pass_time(world, wait) {
                break;
            }
        }
        if completions.len() > before {
            // It has something to do until it is turned again: nobody else may let time pass.
            world.drivers[self.index].deadline_ns = Some(world.now_ns);
        }
        self.now = world.now();
        Ok(())
    }

    fn received(&self, received: &Received) -> &[u8] {
        let buffer = &self.buffers[usize::from(received.buffer)];
        assert!(buffer.is_lent, "this buffer was recycled");
        &buffer.bytes[received.start as usize..][..received.bytes as usize]
    }

    fn recycle(&mut self, received: Received) {
        let buffer = &mut self.buffers[usize::from(received.buffer)];
        assert!(std::mem::take(&mut buffer.is_lent), "a buffer can be recycled once");
        buffer.bytes.clear();
        self.free.push(received.buffer);
        self.network.borrow_mut().drivers[self.index].buffers_free += 1;
    }

    fn buffers_free(&self) -> (usize, usize) {
        (self.network.borrow().drivers[self.index].buffers_free, self.buffers.len())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.wake) as Arc<dyn Wake>
    }

    fn peer(&self, fd: Fd) -> Result<Address, Errno> {
        let world = self.network.borrow();
        let end = world.ends.get(&fd.0).ok_or(Errno(libc::EBADF))?;
        if end.reset { Err(Errno(libc::ENOTCONN)) } else { Ok(end.remote.clone()) }
    }

    fn local(&self, fd: Fd) -> Result<SocketAddr, Errno> {
        let world = self.network.borrow();
        let end = world.ends.get(&fd.0).and_then(|end| end.address.socket());
        end.or_else(|| Some(world.datagrams.get(&fd.0)?.address)).ok_or(Errno(libc::EBADF))
    }

    fn set_nodelay(&self, _fd: Fd) {}
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        self.network.borrow_mut().forget_driver(self.index);
    }
}
