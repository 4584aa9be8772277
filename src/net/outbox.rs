//! What a connection still has to send: chunks in order, at most one gathered send in flight, bytes counted.
//!
//! Replies are written into `tail`, a plain vector that becomes an owned chunk when a send takes it; broadcasts join as
//! shared chunks. Steady state allocates nothing: the vector that a completed send brings back is the next tail, and the
//! list of chunks is reused too. Invariant: `queue` comes before `tail`; what is in flight comes before both.
//!
//! Must not know: sockets, drivers, why bytes are sent.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::{
    OUTBOX_COALESCE_BYTES, OUTBOX_HIGH_BYTES, OUTBOX_LOW_BYTES, OUTBOX_MAX_BYTES,
    OUTBOX_SHARE_BYTES_MIN, SEND_CHUNKS_MAX,
};
use crate::ring::{Chunk, Chunks, Errno};

/// The unsent bytes of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The newest bytes; still growing.
    tail: Vec<u8>,
    /// Finished chunks before `tail`.
    queue: VecDeque<Chunk>,
    /// Bytes of `queue`, without the `sent` ones.
    queued_bytes: usize,
    /// Bytes of `queue[0]` that have already gone.
    sent: usize,
    /// Bytes that the send in flight carries; 0 if none is.
    in_flight_bytes: usize,
    /// An empty list from the last send, for the next one.
    list: Vec<Chunk>,
}

impl Outbox {
    /// Nothing to send.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// The vector to append replies to. Only append: its earlier bytes may belong to others.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.len() >= OUTBOX_COALESCE_BYTES {
            self.seal_tail();
        }
        &mut self.tail
    }

    /// Appends a copy of `bytes`.
    pub fn append(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// Appends `bytes` without copying, unless they are few.
    pub fn append_owned(&mut self, bytes: Vec<u8>) {
        if bytes.len() < OUTBOX_SHARE_BYTES_MIN {
            self.append(&bytes);
        } else {
            self.push(Chunk::Owned(bytes));
        }
    }

    /// Appends bytes that other connections send too, without copying, unless they are few.
    pub fn append_shared(&mut self, bytes: &Arc<[u8]>) {
        if bytes.len() < OUTBOX_SHARE_BYTES_MIN {
            self.append(bytes);
        } else {
            self.push(Chunk::Shared(Arc::clone(bytes)));
        }
    }

    /// Bytes not yet known to be sent, in flight included.
    pub fn bytes(&self) -> usize {
        self.in_flight_bytes + self.queued_bytes + self.tail.len()
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Whether a send is in flight.
    pub fn is_sending(&self) -> bool {
        self.in_flight_bytes > 0
    }

    /// So full that the connection's reading must stop.
    pub fn is_above_high(&self) -> bool {
        self.bytes() > OUTBOX_HIGH_BYTES
    }

    /// So empty that reading may start again.
    pub fn is_below_low(&self) -> bool {
        self.bytes() < OUTBOX_LOW_BYTES
    }

    /// So full that the connection must be closed: its peer doesn't read.
    pub fn is_above_max(&self) -> bool {
        self.bytes() > OUTBOX_MAX_BYTES
    }

    /// The next send, if there is something to send and none is in flight. Ends with [`Outbox::on_sent`].
    pub fn take_send(&mut self) -> Option<Chunks> {
        if self.is_sending() || self.is_empty() {
            return None;
        }
        let mut list = std::mem::take(&mut self.list);
        let taken = self.queue.len().min(SEND_CHUNKS_MAX);
        list.extend(self.queue.drain(..taken));
        let sent = std::mem::take(&mut self.sent);
        let bytes = list.iter().map(|chunk| chunk.bytes().len()).sum::<usize>() - sent;
        self.queued_bytes -= bytes;
        self.in_flight_bytes = bytes;
        if taken < SEND_CHUNKS_MAX && !self.tail.is_empty() {
            self.in_flight_bytes += self.tail.len();
            list.push(Chunk::Owned(std::mem::take(&mut self.tail)));
        }
        Some(Chunks { list, sent })
    }

    /// The end of the send in flight: what it didn't send comes first again, also after an error.
    ///
    /// # Errors
    /// The send's own error, when sending again makes no sense.
    pub fn on_sent(&mut self, result: Result<usize, Errno>, chunks: Chunks) -> Result<(), Errno> {
        let Chunks { mut list, sent } = chunks;
        let bytes = result.unwrap_or(0);
        assert!(bytes <= self.in_flight_bytes, "a send can't send more than it carries");
        self.queued_bytes += self.in_flight_bytes - bytes;
        self.in_flight_bytes = 0;

        let mut gone = sent + bytes;
        let mut finished = 0;
        while finished < list.len() && list[finished].bytes().len() <= gone {
            gone -= list[finished].bytes().len();
            finished += 1;
        }
        for chunk in list.drain(finished..).rev() {
            self.queue.push_front(chunk);
        }
        self.sent = gone;
        for chunk in list.drain(..) {
            self.reuse(chunk);
        }
        self.list = list;
        match result {
            Err(Errno(libc::EAGAIN | libc::EINTR | libc::ENOBUFS)) | Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Gives memory back that an idle connection doesn't need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }

    /// Bytes that it could take without growing.
    pub fn capacity(&self) -> usize {
        self.tail.capacity()
    }

    /// The same, if what it holds is more than `bytes`.
    pub fn shrink_above(&mut self, bytes: usize) {
        if self.tail.capacity() > bytes {
            self.shrink();
        }
    }

    fn push(&mut self, chunk: Chunk) {
        self.seal_tail();
        self.queued_bytes += chunk.bytes().len();
        self.queue.push_back(chunk);
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queued_bytes += self.tail.len();
            self.queue.push_back(Chunk::Owned(std::mem::take(&mut self.tail)));
        }
    }

    /// Makes a sent chunk's memory the next tail, if there is none and it isn't too large to keep.
    fn reuse(&mut self, chunk: Chunk) {
        if let Chunk::Owned(mut bytes) = chunk
            && self.tail.capacity() == 0
            && bytes.capacity() <= OUTBOX_COALESCE_BYTES
        {
            bytes.clear();
            self.tail = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::random::Random;

    /// What the kernel would see of the chunks.
    fn flatten(chunks: &Chunks) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            chunks.list.iter().flat_map(|chunk| chunk.bytes().to_vec()).collect();
        bytes.drain(..chunks.sent);
        bytes
    }

    fn is_bounded(chunks: &Chunks) -> bool {
        chunks.list.len() <= SEND_CHUNKS_MAX && chunks.sent <= chunks.list[0].bytes().len()
    }

    #[test]
    fn small_appends_make_one_chunk_and_large_ones_keep_their_own() {
        let mut outbox = Outbox::new();
        let shared: Arc<[u8]> = vec![b's'; OUTBOX_SHARE_BYTES_MIN].into();
        outbox.append(b"one ");
        outbox.tail().extend_from_slice(b"two ");
        outbox.append_shared(&Arc::from(b"small".as_slice()));
        outbox.append_shared(&shared);
        outbox.append_owned(vec![b'o'; OUTBOX_SHARE_BYTES_MIN]);
        outbox.append_owned(b"end".to_vec());
        let chunks = outbox.take_send().unwrap();
        let sizes: Vec<usize> = chunks.list.iter().map(|chunk| chunk.bytes().len()).collect();
        assert_eq!(sizes, [13, OUTBOX_SHARE_BYTES_MIN, OUTBOX_SHARE_BYTES_MIN, 3]);
        assert!(matches!(&chunks.list[1], Chunk::Shared(bytes) if Arc::ptr_eq(bytes, &shared)));
    }

    #[test]
    fn one_send_at_a_time_and_an_error_keeps_the_bytes() {
        let mut outbox = Outbox::new();
        assert!(outbox.take_send().is_none() && outbox.is_empty());
        outbox.append(b"hello");
        let chunks = outbox.take_send().unwrap();
        outbox.append(b" there");
        assert!(outbox.take_send().is_none() && outbox.is_sending());
        assert_eq!(outbox.bytes(), 11);
        assert_eq!(outbox.on_sent(Err(Errno(libc::EPIPE)), chunks), Err(Errno(libc::EPIPE)));
        assert_eq!(outbox.bytes(), 11);
        let chunks = outbox.take_send().unwrap();
        assert_eq!(flatten(&chunks), b"hello there");
        assert_eq!(outbox.on_sent(Err(Errno(libc::EAGAIN)), chunks), Ok(()));
        let chunks = outbox.take_send().unwrap();
        assert_eq!(outbox.on_sent(Ok(11), chunks), Ok(()));
        assert!(outbox.is_empty() && !outbox.is_sending());
    }

    #[test]
    fn steady_state_reuses_its_memory() {
        let mut outbox = Outbox::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            outbox.append(b"+OK\r\n");
            let chunks = outbox.take_send().unwrap();
            seen.insert((chunks.list.as_ptr() as usize, chunks.list[0].bytes().as_ptr() as usize));
            outbox.on_sent(Ok(5), chunks).unwrap();
        }
        assert_eq!(seen.len(), 1);
        outbox.shrink();
        assert_eq!((outbox.tail.capacity(), outbox.list.capacity()), (0, 0));
    }

    #[test]
    fn water_marks_count_what_is_in_flight() {
        let mut outbox = Outbox::new();
        outbox.append_owned(vec![0; OUTBOX_HIGH_BYTES]);
        assert!(!outbox.is_above_high());
        outbox.append(b"x");
        assert!(outbox.is_above_high() && !outbox.is_below_low() && !outbox.is_above_max());
        let chunks = outbox.take_send().unwrap();
        assert!(outbox.is_above_high());
        outbox.on_sent(Ok(OUTBOX_HIGH_BYTES - OUTBOX_LOW_BYTES + 1), chunks).unwrap();
        assert!(!outbox.is_below_low());
        let chunks = outbox.take_send().unwrap();
        outbox.on_sent(Ok(1), chunks).unwrap();
        assert!(outbox.is_below_low());
        outbox.append_owned(vec![0; OUTBOX_MAX_BYTES]);
        assert!(outbox.is_above_max());
    }

    #[test]
    fn an_idle_outbox_is_small() {
        assert!(size_of::<Outbox>() <= 112, "{}", size_of::<Outbox>());
    }

    /// Random appends and random short sends against one flat vector.
    #[test]
    fn sends_every_byte_once_and_in_order() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut outbox = Outbox::new();
            let (mut model, mut sent) = (Vec::new(), Vec::new());
            let mut in_flight: Option<Chunks> = None;
            for _ in 0..200 {
                let exponent = random.below(17);
                let length = random.below(1 << exponent) as usize;
                let bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
                match random.below(6) {
                    0 => outbox.append(&bytes),
                    1 => outbox.append_owned(bytes.clone()),
                    2 => outbox.append_shared(&Arc::from(bytes.as_slice())),
                    3 => outbox.tail().extend_from_slice(&bytes),
                    4 => {
                        in_flight = in_flight.or_else(|| outbox.take_send());
                        continue;
                    }
                    _ => {
                        if let Some(chunks) = in_flight.take() {
                            assert!(is_bounded(&chunks), "seed {seed}");
                            finish(&mut random, &mut outbox, chunks, &mut sent);
                        }
                        continue;
                    }
                }
                model.extend_from_slice(&bytes);
                assert_eq!(outbox.bytes(), model.len() - sent.len(), "seed {seed}");
            }
            while let Some(chunks) = in_flight.take().or_else(|| outbox.take_send()) {
                finish(&mut random, &mut outbox, chunks, &mut sent);
            }
            assert!(outbox.is_empty() && sent == model, "seed {seed}");
        }
    }

    fn finish(random: &mut Random, outbox: &mut Outbox, chunks: Chunks, sent: &mut Vec<u8>) {
        let bytes = flatten(&chunks);
        if random.chance(100) {
            outbox.on_sent(Err(Errno(libc::ENOBUFS)), chunks).unwrap();
            return;
        }
        let most = bytes.len() as u64;
        let count = if random.chance(500) { most } else { random.below(most + 1) } as usize;
        sent.extend_from_slice(&bytes[..count]);
        outbox.on_sent(Ok(count), chunks).unwrap();
    }
}
