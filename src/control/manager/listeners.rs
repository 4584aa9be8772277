//! Listening sockets by address: bound here, lent to workers, kept across reloads.
//!
//! Must not know: who accepts.

use std::collections::BTreeMap;

use crate::error::OperatorError;
use crate::net::listener::{Listener, SocketOptions};
use crate::ring::{Address, Fd};

/// A bound address and the runtime that listens on it.
struct Held {
    listener: Listener,
    /// What the runtime asked for; its port may be 0.
    wanted: Address,
}

/// All of them, by the runtime's name.
#[derive(Default)]
pub(super) struct Listeners {
    held: BTreeMap<String, Held>,
}

impl Listeners {
    /// Binds `wanted` for a runtime, or keeps what it has already.
    ///
    /// # Errors
    /// Another runtime has it, or the system refuses it.
    pub fn bind(
        &mut self,
        owner: &str,
        wanted: &Address,
        options: &SocketOptions,
    ) -> Result<Address, OperatorError> {
        if let Some(held) = self.held.get(owner)
            && self.has(owner, wanted)
        {
            return Ok(held.listener.address());
        }
        let taken = self.held.iter().find(|(_, held)| held.listener.address().overlaps(wanted));
        if let Some((name, held)) = taken {
            return Err(OperatorError::failed(format!(
                "can't listen on {wanted}: \"{name}\" listens on {} already",
                held.listener.address()
            ))
            .hint(format!("stop it (socketley stop {name}) or choose another port")));
        }
        let listener = Listener::bind(wanted, options)?;
        let address = listener.address();
        self.held.insert(owner.to_owned(), Held { listener, wanted: wanted.clone() });
        Ok(address)
    }

    /// Binds beside what the runtime has, to take over later.
    ///
    /// # Errors
    /// As [`Listeners::bind`].
    pub fn reserve(
        &self,
        owner: &str,
        wanted: &Address,
        options: &SocketOptions,
    ) -> Result<Reserved, OperatorError> {
        let mut others = self.held.iter().filter(|(name, _)| *name != owner);
        if let Some((name, _)) = others.find(|(_, held)| held.listener.address().overlaps(wanted)) {
            return Err(OperatorError::failed(format!(
                "can't listen on {wanted}: \"{name}\" does already"
            )));
        }
        Ok(Reserved { wanted: wanted.clone(), listener: Listener::bind(wanted, options)? })
    }

    /// Makes a reserved listener the runtime's; the old one is closed: nothing may accept from it any more.
    pub fn take_over(&mut self, owner: &str, reserved: Reserved) {
        let Reserved { wanted, listener } = reserved;
        self.held.insert(owner.to_owned(), Held { listener, wanted });
    }

    /// The listener passes to another runtime.
    pub fn hand_over(&mut self, from: &str, to: &str) {
        if let Some(held) = self.held.remove(from) {
            self.held.insert(to.to_owned(), held);
        }
    }

    /// Closes a runtime's listener and answers its address: nothing may accept from it any more.
    pub fn close(&mut self, owner: &str) -> Option<Address> {
        self.held.remove(owner).map(|held| held.listener.address())
    }

    /// Whether a runtime has just this.
    pub fn has(&self, owner: &str, wanted: &Address) -> bool {
        let fits = |held: &Held| held.wanted == *wanted || held.listener.address() == *wanted;
        self.held.get(owner).is_some_and(fits)
    }

    /// Gives a listener up without closing it: a worker that doesn't answer may still accept from its fd, whose number
    /// must not be used again.
    pub fn abandon(&mut self, owner: &str) {
        if let Some(held) = self.held.remove(owner) {
            std::mem::forget(held.listener);
        }
    }

    /// The real address and the fd of a runtime's listener.
    pub fn of(&self, owner: &str) -> Option<(Address, Fd)> {
        self.held.get(owner).map(|held| (held.listener.address(), held.listener.fd()))
    }

    /// Which runtime listens on something that overlaps, and where.
    pub fn owner_of(&self, address: &Address) -> Option<(&str, Address)> {
        let mut held =
            self.held.iter().map(|(name, held)| (name.as_str(), held.listener.address()));
        held.find(|(_, bound)| bound.overlaps(address))
    }
}

/// A bound address that waits to be taken over; closed when dropped.
pub(super) struct Reserved {
    wanted: Address,
    listener: Listener,
}

impl Reserved {
    /// The real address.
    pub fn address(&self) -> Address {
        self.listener.address()
    }
}
