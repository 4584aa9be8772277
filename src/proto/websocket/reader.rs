//! Received bytes to messages and control frames, whatever the reads were.
//!
//! The common case, a whole unfragmented message inside one read, is unmasked into the worker's shared scratch: the
//! connection itself holds nothing. What is split is gathered in the connection until it is complete. Text is checked
//! as it comes, so that a wrong byte fails the connection at once; a compressed message when it is inflated, at its end.
//!
//! Must not know: sockets, who hears the messages.

use super::frame::{self, HEADER_BYTES_MAX, Header, Opcode};
use super::utf8::Utf8;
use super::{CloseCode, Kind, Side, Violation, Workspace};
use crate::limits::WEBSOCKET_KEEP_BYTES;

/// What a peer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message.
    Message(Kind, &'a [u8]),
    /// To be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    /// The answer to a ping, or said unasked.
    Pong(&'a [u8]),
    /// The peer closes; what comes after is dropped. The code is [`CloseCode::NONE`] if it gave none.
    Close(CloseCode, &'a str),
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Reader {
    side: Side,
    /// Compression is agreed.
    compression: bool,
    /// The peer has closed, or broken the protocol.
    ended: bool,
    /// The frame whose payload isn't complete.
    frame: Option<Frame>,
    /// The message that is being received.
    message: Option<Message>,
    /// A begun header.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    message_bytes_max: usize,
    /// The message so far.
    gathered: Vec<u8>,
    /// The control frame so far.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    left: u64,
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug)]
struct Message {
    kind: Kind,
    compressed: bool,
    utf8: Utf8,
}

impl Reader {
    /// For one connection. A message, inflated or not, may have `message_bytes_max` bytes.
    pub fn new(side: Side, compression: bool, message_bytes_max: usize) -> Reader {
        Reader {
            side,
            compression,
            ended: false,
            frame: None,
            message: None,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            message_bytes_max,
            gathered: Vec::new(),
            control: Vec::new(),
        }
    }

    /// The next event in `bytes`, whose front is consumed; nothing when all of it is.
    ///
    /// # Errors
    /// The peer broke the protocol: close with the violation's code. All that follows is dropped.
    pub fn next<'a>(
        &'a mut self,
        bytes: &mut &[u8],
        work: &'a mut Workspace,
    ) -> Result<Option<Event<'a>>, Violation> {
        self.forget_told();
        work.scratch.clear();
        match self.advance(bytes, work) {
            Ok(Some(complete)) => self.event(complete, work),
            Ok(None) => Ok(None),
            Err(violation) => {
                self.ended = true;
                Err(violation)
            }
        }
    }

    /// The memory that it holds.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.gathered.capacity() + self.control.capacity()
    }

    /// The bytes of the message before this one may go.
    fn forget_told(&mut self) {
        if self.message.is_none() && self.gathered.capacity() > 0 {
            self.gathered.clear();
            if self.gathered.capacity() > WEBSOCKET_KEEP_BYTES {
                self.gathered = Vec::new();
            }
        }
    }

    /// Consumes bytes until a message or control frame is complete or they are used up.
    fn advance(
        &mut self,
        bytes: &mut &[u8],
        work: &mut Workspace,
    ) -> Result<Option<Complete>, Violation> {
        while !self.ended {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.take_header(bytes)? {
                    Some(header) => self.begin(&header)?,
                    None => return Ok(None),
                },
            };
            let left = self.take_payload(frame, bytes, work)?;
            if left.left > 0 {
                self.frame = Some(left);
                return Ok(None);
            }
            if frame.opcode.is_control() {
                return Ok(Some(Complete::Control(frame.opcode)));
            }
            if frame.fin {
                let message = self.message.take();
                return Ok(message.map(Complete::Message));
            }
        }
        *bytes = &[];
        Ok(None)
    }

    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<Option<Header>, Violation> {
        if self.header_len == 0
            && let Some(header) = Header::parse(bytes, self.side)?
        {
            *bytes = &bytes[header.bytes..];
            return Ok(Some(header));
        }
        while let Some((&first, rest)) = bytes.split_first() {
            self.header[usize::from(self.header_len)] = first;
            self.header_len += 1;
            *bytes = rest;
            let so_far = &self.header[..usize::from(self.header_len)];
            if let Some(header) = Header::parse(so_far, self.side)? {
                self.header_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Whether a frame with this header may come now; a first one begins its message.
    fn begin(&mut self, header: &Header) -> Result<Frame, Violation> {
        let Header { fin, rsv1, opcode, mask, length, .. } = *header;
        if rsv1 && !(self.compression && matches!(opcode, Opcode::Data(_))) {
            return Err(Violation::ReservedBits);
        }
        match opcode {
            Opcode::Data(_) if self.message.is_some() => return Err(Violation::Interrupted),
            Opcode::Data(kind) => {
                self.message = Some(Message { kind, compressed: rsv1, utf8: Utf8::default() });
            }
            Opcode::Continuation if self.message.is_none() => return Err(Violation::Continuation),
            Opcode::Continuation => {}
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control.clear(),
        }
        let room = self.message_bytes_max - self.gathered.len();
        if !opcode.is_control() && length > room as u64 {
            return Err(Violation::TooBig);
        }
        Ok(Frame { fin, opcode, left: length, mask })
    }

    /// Takes what there is of the frame's payload; what is left of the frame.
    fn take_payload(
        &mut self,
        frame: Frame,
        bytes: &mut &[u8],
        work: &mut Workspace,
    ) -> Result<Frame, Violation> {
        let count = frame.left.min(bytes.len() as u64) as usize;
        let (payload, rest) = bytes.split_at(count);
        *bytes = rest;
        let left = frame.left - count as u64;
        let is_control = frame.opcode.is_control();
        let target = if is_control {
            &mut self.control
        } else if left == 0 && frame.fin && self.gathered.is_empty() {
            &mut work.scratch
        } else {
            &mut self.gathered
        };
        let start = target.len();
        target.extend_from_slice(payload);
        if self.side == Side::Server {
            frame::mask(&mut target[start..], frame.mask);
        }
        let message = self.message.as_mut().filter(|_| !is_control);
        if let Some(Message { kind: Kind::Text, compressed: false, utf8 }) = message {
            let goes_on = left > 0 || !frame.fin;
            if !utf8.push(&target[start..]) || !(goes_on || utf8.is_complete()) {
                return Err(Violation::Utf8);
            }
        }
        Ok(Frame { left, mask: frame::advance_key(frame.mask, count), ..frame })
    }

    fn event<'a>(
        &'a mut self,
        complete: Complete,
        work: &'a mut Workspace,
    ) -> Result<Option<Event<'a>>, Violation> {
        let message = match complete {
            Complete::Control(opcode) => return self.control_event(opcode).map(Some),
            Complete::Message(message) => message,
        };
        let Workspace { scratch, deflate } = work;
        let bytes = if self.gathered.is_empty() { scratch } else { &mut self.gathered };
        if !message.compressed {
            return Ok(Some(Event::Message(message.kind, bytes)));
        }
        // What follows a message that fails here is dropped.
        self.ended = true;
        let inflated = deflate.inflate(bytes, self.message_bytes_max)?;
        if message.kind == Kind::Text && std::str::from_utf8(inflated).is_err() {
            return Err(Violation::Utf8);
        }
        self.ended = false;
        Ok(Some(Event::Message(message.kind, inflated)))
    }

    fn control_event(&mut self, opcode: Opcode) -> Result<Event<'_>, Violation> {
        match opcode {
            Opcode::Ping => return Ok(Event::Ping(&self.control)),
            Opcode::Pong => return Ok(Event::Pong(&self.control)),
            _ => self.ended = true,
        }
        match self.control[..] {
            [] => Ok(Event::Close(CloseCode::NONE, "")),
            [_] => Err(Violation::CloseCode),
            [high, low, ref reason @ ..] => {
                let code = CloseCode(u16::from_be_bytes([high, low]));
                if !code.may_be_sent() {
                    return Err(Violation::CloseCode);
                }
                let reason = std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
                Ok(Event::Close(code, reason))
            }
        }
    }
}

/// What [`Reader::advance`] has found.
enum Complete {
    Message(Message),
    Control(Opcode),
}
