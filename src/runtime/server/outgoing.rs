//! Messages for many connections: gathered, encoded once in each form that a receiver needs, appended to each outbox.
//!
//! A run of messages to the same receivers is one append per receiver. Other workers get the messages as they are, and
//! encode them for their own connections. Must not know: why something is sent.

use std::sync::Arc;

use super::{backlog, detect, websocket};
use crate::limits;
use crate::proto::websocket::{Deflate, Kind};
use crate::ring::Chunk;
use crate::runtime::Framing;
use crate::runtime::connection::{Phase, ProtocolState, Role};
use crate::runtime::local::Local;
use crate::runtime::message::{Recipients, ToWorker};
use crate::runtime::stats::StatsCell;
use crate::runtime::{client, datagrams};

/// Messages of a run, and whom they are for.
#[derive(Default)]
pub struct Gathered {
    /// The instance and the receivers; nothing if there are no messages.
    receivers: Option<(usize, Recipients)>,
    messages: Messages,
}

/// Messages one behind the other: a byte for the kind, four for the length, the bytes.
#[derive(Default)]
pub struct Messages(Vec<u8>);

impl Messages {
    fn push(&mut self, message: &[u8], kind: Option<Kind>) {
        let kind = kind.map_or(0, |kind| if kind == Kind::Text { 1 } else { 2 });
        self.0.push(kind);
        self.0.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.0.extend_from_slice(message);
    }

    /// The messages that `bytes` hold, as another worker wrote them.
    fn read(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<Kind>)> {
        std::iter::from_fn(move || {
            let (&kind, rest) = bytes.split_first()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (message, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            bytes = rest;
            let kind = [None, Some(Kind::Text), Some(Kind::Binary)][usize::from(kind)];
            Some((message, kind))
        })
    }
}

/// The messages as one kind of receiver gets them.
struct Form {
    bytes: Vec<u8>,
    /// Large ones are shared by all outboxes.
    shared: Option<Arc<[u8]>>,
}

/// The forms made so far: framed messages first, then those of [`websocket::WebSocket::form`].
struct Forms<'a> {
    messages: &'a [u8],
    framing: Framing,
    made: [Option<Form>; 1 + websocket::FORMS],
}

impl Forms<'_> {
    fn get(&mut self, which: usize, deflate: &mut Deflate) -> &Form {
        let (messages, framing) = (self.messages, self.framing);
        self.made[which].get_or_insert_with(|| {
            let mut bytes = Vec::with_capacity(messages.len() + messages.len() / 16 + 16);
            for (message, kind) in Messages::read(messages) {
                match which.checked_sub(1) {
                    None => framed(framing, message, &mut bytes),
                    Some(form) => websocket::write_form(form, deflate, message, kind, &mut bytes),
                }
            }
            let is_large = bytes.len() >= limits::OUTBOX_SHARE_BYTES_MIN;
            Form { shared: is_large.then(|| bytes.as_slice().into()), bytes }
        })
    }
}

/// Nothing is written of a message that the framing can't hold.
fn framed(framing: Framing, message: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if !framing.write(message, out) {
        out.truncate(start);
    }
}

impl Local {
    /// Sends a message to a runtime's connections on this worker and, by relay at the end of the turn, on the others.
    /// It leaves with [`Local::deliver_gathered`], together with others to the same receivers.
    pub fn broadcast(&mut self, index: usize, to: Recipients, message: &[u8], kind: Option<Kind>) {
        if self.gathered.receivers.is_some_and(|receivers| receivers != (index, to)) {
            self.deliver_gathered();
        }
        self.gathered.receivers = Some((index, to));
        self.gathered.messages.push(message, kind);
        if self.gathered.messages.0.len() > limits::BROADCAST_GATHERED_BYTES_MAX {
            self.deliver_gathered();
        }
    }

    /// Delivers what [`Local::broadcast`] has gathered; before anything else is sent.
    pub fn deliver_gathered(&mut self) {
        let Some((index, to)) = self.gathered.receivers.take() else { return };
        let mut messages = std::mem::take(&mut self.gathered.messages);
        let instance = self.instance_at(index);
        if instance.placement.workers.len() > 1 {
            instance.relay.extend_from_slice(&messages.0);
            self.relaying.push(index);
        }
        self.deliver(index, to, &messages.0);
        messages.0.clear();
        if messages.0.capacity() <= limits::BROADCAST_GATHERED_BYTES_MAX {
            self.gathered.messages = messages;
        }
    }

    /// Sends a message as the connection takes it: framed, or as a WebSocket's of this kind.
    pub fn send_message(&mut self, slot: u32, message: &[u8], kind: Option<Kind>) -> bool {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return false;
        }
        match &connection.protocol {
            ProtocolState::Messages => {}
            ProtocolState::WebSocket(_) => return websocket::send(self, slot, message, kind),
            ProtocolState::Detecting(_) => {
                let mut framed = Vec::with_capacity(message.len() + 1);
                return Framing::Lines.write(message, &mut framed)
                    && detect::send(self, slot, &framed);
            }
            ProtocolState::Datagrams(_) => {
                let sent = datagrams::send(self, slot, message);
                if !sent {
                    self.complain_of_length(slot, message.len());
                }
                return sent;
            }
            ProtocolState::Http(_) | ProtocolState::Upgrading(_) | ProtocolState::Connecting(_) => {
                return false;
            }
        }
        let index = connection.instance;
        let framing = self.instances[index].as_ref().map_or(Framing::Raw, |i| i.config().framing);
        if self.connections.at(slot).backlog.is_some() {
            let mut bytes = Vec::with_capacity(message.len() + 4);
            let written = framing.write(message, &mut bytes);
            if written {
                self.send_droppable(slot, Chunk::Owned(bytes));
            }
            return written;
        }
        let written = framing.write(message, self.connections.at(slot).outbox.tail());
        self.mark_dirty(slot);
        written
    }

    fn send_chunk(&mut self, slot: u32, chunk: Chunk) -> bool {
        let is_open = self.connections.at(slot).phase == Phase::Open;
        if is_open {
            self.send_droppable(slot, chunk);
        }
        is_open
    }

    /// One message for a runtime's connections on this worker; how many take it.
    pub fn deliver_one(
        &mut self,
        index: usize,
        to: Recipients,
        message: &[u8],
        kind: Option<Kind>,
    ) -> u64 {
        if let Recipients::One(id) = to {
            let slot = self.connections.slot_of(id);
            let slot = slot.filter(|slot| self.is_addressed(*slot, index));
            return slot.map_or(0, |slot| u64::from(self.send_message(slot, message, kind)));
        }
        let mut messages = Messages::default();
        messages.push(message, kind);
        self.deliver(index, to, &messages.0)
    }

    fn is_addressed(&mut self, slot: u32, index: usize) -> bool {
        let connection = self.connections.at(slot);
        connection.instance == index && matches!(connection.role, Role::Server | Role::Client)
    }

    /// Appends [`Messages`] to the runtime's connections here.
    pub fn deliver(&mut self, index: usize, to: Recipients, messages: &[u8]) -> u64 {
        let except = if let Recipients::AllBut(id) = to { Some(id) } else { None };
        let framing = self.instance_at(index).config().framing;
        let mut forms = Forms { messages, framing, made: [const { None }; 1 + websocket::FORMS] };
        let members = std::mem::take(&mut self.instance_at(index).members);
        let mut count = 0;
        for &slot in &members {
            if self.is_addressed(slot, index) && Some(self.connections.at(slot).id) != except {
                count += u64::from(self.deliver_to(slot, &mut forms));
            }
        }
        // A slow connection may have begun to close meanwhile, but none leaves the list before its close op is done.
        self.instance_at(index).members = members;
        if count == 0 && except.is_none() && self.instance_at(index).config().send_queue_bytes > 0 {
            return Messages::read(messages)
                .map(|(message, kind)| u64::from(client::keep(self, index, message, kind)))
                .max()
                .unwrap_or(0);
        }
        count
    }

    fn deliver_to(&mut self, slot: u32, forms: &mut Forms<'_>) -> bool {
        let connection = self.connections.at(slot);
        let which = match &connection.protocol {
            ProtocolState::Messages => 0,
            ProtocolState::WebSocket(socket) => match socket.form() {
                Some(form) => 1 + form,
                // Each frame of a client has a mask of its own.
                None => {
                    return Messages::read(forms.messages)
                        .all(|(message, kind)| self.send_message(slot, message, kind));
                }
            },
            ProtocolState::Detecting(_) => {
                let form = forms.get(0, &mut self.deflate);
                return detect::send(self, slot, &form.bytes);
            }
            ProtocolState::Datagrams(_) => {
                return Messages::read(forms.messages)
                    .all(|(message, kind)| self.send_message(slot, message, kind));
            }
            ProtocolState::Http(_) | ProtocolState::Upgrading(_) | ProtocolState::Connecting(_) => {
                return false;
            }
        };
        let drops = connection.backlog.is_some();
        match forms.get(which, &mut self.deflate) {
            Form { bytes, shared } if drops => {
                let chunk = backlog::chunk(bytes, shared.as_ref());
                self.send_chunk(slot, chunk)
            }
            Form { shared: Some(bytes), .. } => self.send_shared(slot, bytes),
            Form { bytes, .. } => self.send(slot, bytes),
        }
    }

    /// Hands this turn's broadcasts to the runtime's other workers.
    pub fn relay(&mut self) {
        let mut relaying = std::mem::take(&mut self.relaying);
        for index in relaying.drain(..) {
            let worker = self.worker;
            let Some(instance) = self.instances[index].as_mut() else { continue };
            if instance.relay.is_empty() {
                continue;
            }
            let bytes: Arc<[u8]> = instance.relay.as_slice().into();
            instance.relay.clear();
            let runtime = instance.placement.id;
            let mut lost = 0;
            for &other in instance.placement.workers.iter().filter(|other| **other != worker) {
                let letter = ToWorker::Relay { runtime, bytes: Arc::clone(&bytes) };
                lost += u64::from(!self.workers[usize::from(other)].try_send(letter));
            }
            StatsCell::add(&instance.cell(worker).dropped, lost);
        }
        self.relaying = relaying;
    }
}
