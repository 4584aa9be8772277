//! One connection's TLS: records in, bytes out, and back; the handshake on the way.
//!
//! It runs rustls's unbuffered interface: records are decrypted where the caller's scratch holds them, so that a
//! connection without half a record keeps no buffer at all. What is to be sent goes into [`Session::take_send`]'s
//! outbox of records, at most [`TLS_SEND_BYTES`] of plain bytes ahead of the socket.
//! Must not know: sockets, timers, what the bytes mean.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use crate::limits::{TLS_KEEP_BYTES, TLS_SEND_BYTES};
use crate::net::Outbox;
use crate::ring::{Chunks, Errno};

/// A thread's scratch: no connection keeps buffers between turns.
#[derive(Default)]
pub struct Room {
    /// Received records, decrypted in place.
    records: Vec<u8>,
    /// What they say.
    pub plain: Vec<u8>,
}

/// What a piece of the peer's stream brought beside bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The handshake has just ended.
    pub opened: bool,
    /// The peer has said that nothing more comes.
    pub ended: bool,
}

/// One side of a connection.
pub struct Session {
    side: Side,
    /// The start of a record that hasn't come whole.
    pub(super) incoming: Vec<u8>,
    /// Records to send.
    pub(super) wire: Outbox,
    /// The handshake is over.
    established: bool,
    /// Our last word is said, or there won't be one.
    closing: bool,
    /// The peer's last word was heard.
    ended: bool,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What to do once records can be written.
enum Ask<'a> {
    Nothing,
    /// The first so many bytes of these.
    Send(&'a Chunks, usize),
    Close,
}

impl Session {
    /// Waits for a client's first record.
    ///
    /// # Errors
    /// The configuration is no good.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, Error> {
        Ok(Session::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    /// Has a first record to send.
    ///
    /// # Errors
    /// The configuration is no good.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, Error> {
        let side = Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?));
        let mut session = Session::new(side);
        session.advance(&mut [], &mut Vec::new(), &Ask::Nothing).1?;
        Ok(session)
    }

    fn new(side: Side) -> Session {
        Session {
            side,
            incoming: Vec::new(),
            wire: Outbox::new(),
            established: false,
            closing: false,
            ended: false,
        }
    }

    /// Whether bytes may flow.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether there are records to send.
    pub fn has_records(&self) -> bool {
        !self.wire.is_empty()
    }

    /// Bytes of records that aren't known to be sent.
    pub fn wire_bytes(&self) -> usize {
        self.wire.bytes()
    }

    /// Version, cipher suite, protocol and certificates, as far as they are agreed.
    pub fn agreed(&self) -> &CommonState {
        match &self.side {
            Side::Server(side) => side,
            Side::Client(side) => side,
        }
    }

    /// Takes bytes of the peer; what they say is in `room.plain` afterwards, also after an error.
    ///
    /// # Errors
    /// The peer breaks the protocol or isn't who it must be; the alert that tells it so is among the records to send.
    pub fn receive(&mut self, bytes: &[u8], room: &mut Room) -> Result<Progress, Error> {
        let (was_established, had_ended) = (self.established, self.ended);
        let is_whole = self.incoming.is_empty();
        let kept = if is_whole { &mut room.records } else { &mut self.incoming };
        let mut records = std::mem::take(kept);
        if is_whole {
            records.clear();
        }
        records.extend_from_slice(bytes);
        room.plain.clear();
        let (used, outcome) = self.advance(&mut records, &mut room.plain, &Ask::Nothing);
        if let Err(error) = outcome {
            self.closing = true;
            self.take_alert(&mut records[used..]);
            return Err(error);
        }
        if is_whole {
            self.incoming = records[used..].to_vec();
            room.records = records;
        } else if used < records.len() {
            records.drain(..used);
            self.incoming = records;
        }
        Ok(Progress {
            opened: self.established && !was_established,
            ended: self.ended && !had_ended,
        })
    }

    /// After an error: the alert that says so. rustls gives it at the next step, and must not be asked for another one:
    /// it would meet the same records, and asserts that it says only one last word.
    fn take_alert(&mut self, rest: &mut [u8]) {
        let (wire, plain) = (&mut self.wire, &mut Vec::new());
        let outcome = match &mut self.side {
            Side::Server(side) => step(side.process_tls_records(rest), wire, plain, &Ask::Nothing),
            Side::Client(side) => step(side.process_tls_records(rest), wire, plain, &Ask::Nothing),
        };
        // Without an alert it is the same error again.
        drop(outcome);
    }

    /// The next send, if none is in flight: some of `outbox`'s bytes leave it as records. Ends with
    /// [`Session::on_sent`].
    ///
    /// # Errors
    /// The session can't send any more.
    pub fn take_send(&mut self, outbox: &mut Outbox) -> Result<Option<Chunks>, Error> {
        if self.wire.is_sending() {
            return Ok(None);
        }
        if self.established && !self.closing && self.wire.bytes() < TLS_SEND_BYTES {
            self.encrypt(outbox)?;
        }
        Ok(self.wire.take_send())
    }

    fn encrypt(&mut self, outbox: &mut Outbox) -> Result<(), Error> {
        let Some(chunks) = outbox.take_send() else { return Ok(()) };
        let count = chunk_bytes(&chunks).min(TLS_SEND_BYTES);
        let outcome = self.ask(&Ask::Send(&chunks, count));
        let settled = outbox.on_sent(Ok(count), chunks);
        debug_assert!(settled.is_ok(), "nothing failed");
        outcome
    }

    /// A send has come back.
    ///
    /// # Errors
    /// The send's own error, when sending again makes no sense.
    pub fn on_sent(&mut self, result: Result<usize, Errno>, chunks: Chunks) -> Result<(), Errno> {
        let kept = self.wire.on_sent(result, chunks);
        self.wire.shrink_above(TLS_KEEP_BYTES);
        kept
    }

    /// Says that nothing more comes from here. Whether there is something to send for that: only the first time.
    pub fn close(&mut self) -> bool {
        if !self.established || self.closing {
            return false;
        }
        let said = self.ask(&Ask::Close).is_ok();
        self.closing = true;
        said
    }

    /// Goes without a last word: the peer can tell that the stream was cut.
    pub fn abandon(&mut self) {
        self.closing = true;
    }

    fn ask(&mut self, ask: &Ask<'_>) -> Result<(), Error> {
        // rustls wants to see the same half a record each time.
        let mut incoming = std::mem::take(&mut self.incoming);
        let (used, outcome) = self.advance(&mut incoming, &mut Vec::new(), ask);
        incoming.drain(..used);
        self.incoming = incoming;
        outcome
    }

    /// Lets rustls go as far as it can with `records`: how many bytes of them are done with, and how it went.
    fn advance(
        &mut self,
        records: &mut [u8],
        plain: &mut Vec<u8>,
        ask: &Ask<'_>,
    ) -> (usize, Result<(), Error>) {
        let mut used = 0;
        loop {
            let (wire, rest) = (&mut self.wire, &mut records[used..]);
            let (discard, step) = match &mut self.side {
                Side::Server(side) => step(side.process_tls_records(rest), wire, plain, ask),
                Side::Client(side) => step(side.process_tls_records(rest), wire, plain, ask),
            };
            used += discard;
            match step {
                Ok(Step::More) => {}
                Ok(Step::Ended) => self.ended = true,
                Ok(Step::Done) => break,
                Err(error) => return (used, Err(error)),
            }
        }
        self.established = !self.agreed().is_handshaking();
        (used, Ok(()))
    }
}

enum Step {
    /// There is more to do.
    More,
    /// The same, and the peer has ended its stream.
    Ended,
    /// Nothing more can be done now.
    Done,
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    wire: &mut Outbox,
    plain: &mut Vec<u8>,
    ask: &Ask<'_>,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::More),
            }
        },
        ConnectionState::EncodeTlsData(mut data) => {
            let Err(EncodeError::InsufficientSize(wanted)) = data.encode(&mut []) else {
                return (discard, Ok(Step::More));
            };
            let tail = wire.tail();
            let start = tail.len();
            tail.resize(start + wanted.required_size, 0);
            data.encode(&mut tail[start..]).map(|_| Step::More).map_err(|error| {
                Error::General(format!("a record doesn't fit where it was said to: {error}"))
            })
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Step::More)
        }
        ConnectionState::PeerClosed => Ok(Step::Ended),
        ConnectionState::WriteTraffic(mut traffic) => write(&mut traffic, wire, ask)
            .map(|()| Step::Done)
            .map_err(|error| Error::General(format!("nothing can be sent any more: {error}"))),
        ConnectionState::ReadEarlyData(_) => {
            Err(Error::General("early data comes uninvited".to_owned()))
        }
        _ => Ok(Step::Done),
    };
    (discard, step)
}

/// What a record costs beside its bytes, at most: header, nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;
/// Plain bytes of one record.
const RECORD_BYTES: usize = 16 * 1024;

fn write<Data>(
    traffic: &mut WriteTraffic<'_, Data>,
    wire: &mut Outbox,
    ask: &Ask<'_>,
) -> Result<(), EncryptError> {
    match ask {
        Ask::Nothing => Ok(()),
        Ask::Close => {
            let tail = wire.tail();
            let start = tail.len();
            // A key update may go before it.
            tail.resize(start + 4 * RECORD_OVERHEAD, 0);
            let written = traffic.queue_close_notify(&mut tail[start..]);
            tail.truncate(start + *written.as_ref().unwrap_or(&0));
            written.map(|_| ())
        }
        Ask::Send(chunks, count) => {
            let (mut skip, mut left) = (chunks.sent, *count);
            for chunk in &chunks.list {
                let bytes = &chunk.bytes()[skip..];
                let bytes = &bytes[..bytes.len().min(left)];
                skip = 0;
                left -= bytes.len();
                if bytes.is_empty() {
                    break;
                }
                let tail = wire.tail();
                let start = tail.len();
                let records = bytes.len().div_ceil(RECORD_BYTES) + 2;
                tail.resize(start + bytes.len() + records * RECORD_OVERHEAD, 0);
                let written = traffic.encrypt(bytes, &mut tail[start..]);
                tail.truncate(start + *written.as_ref().unwrap_or(&0));
                written?;
            }
            Ok(())
        }
    }
}

fn chunk_bytes(chunks: &Chunks) -> usize {
    chunks.list.iter().map(|chunk| chunk.bytes().len()).sum::<usize>() - chunks.sent
}
