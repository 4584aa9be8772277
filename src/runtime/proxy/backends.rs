//! A proxy's backends as one worker sees them: which there are, and the connections kept open to each.
//!
//! A member is named by a number that is never used twice, so that what is under way at a backend that has left the
//! list meets nobody else. Kept connections are used last in, first out: the youngest is the least likely to have been
//! closed by the other side meanwhile, and the others grow old enough to be closed here.
//! Must not know: what is spoken, who is chosen (`balance`).

use std::collections::VecDeque;
use std::sync::Arc;

use super::shared::Shared;
use crate::id::ConnectionId;
use crate::limits;
use crate::ring::Address;
use crate::runtime::{Backend, RuntimeStats};

/// One backend.
pub struct Member {
    /// Its number.
    pub serial: u32,
    /// What it is and where, as it was placed.
    pub backend: Backend,
    /// What everybody knows of it.
    pub shared: Arc<Shared>,
    /// Names it for clients that stick to it and keys that belong to it: the same in every worker and daemon.
    pub mark: u64,
    /// Weighted round-robin: what it has saved up.
    pub(super) credit: i64,
    /// Connections that wait for a request, the oldest first.
    idle: Vec<Idle>,
    /// What was last logged of it, and when.
    warned: Option<(String, u64)>,
}

impl Member {
    /// Whether this is to be logged of it: the same is, at most every [`limits::PROXY_WARN_MS`].
    pub(super) fn is_news(&mut self, why: &str, now_ms: u64) -> bool {
        let known = self.warned.as_ref();
        let is_known =
            |(last, at): &(String, u64)| last == why && now_ms < at + limits::PROXY_WARN_MS;
        if known.is_some_and(is_known) {
            return false;
        }
        self.warned = Some((why.to_owned(), now_ms));
        true
    }
}

/// A connection that waits for a request.
#[derive(Clone, Copy)]
struct Idle {
    connection: ConnectionId,
    since_ms: u64,
}

/// All of a proxy's backends, in the order of its fields.
#[derive(Default)]
pub struct Backends {
    pub(super) members: Vec<Member>,
    serials: u32,
    /// Those that may be chosen; kept for its memory.
    pub(super) candidates: Vec<usize>,
    /// Where ties begin to be looked through.
    pub(super) turn: usize,
    /// What requests sent again cost, in tenths of a request.
    pub(super) budget: u32,
    /// Clients whose request waits for a place at a backend.
    pub queue: VecDeque<ConnectionId>,
    /// A timer runs that looks after the queue.
    pub queue_timer: bool,
    /// Checks run.
    pub checks: bool,
    /// A timer runs that looks after kept connections.
    pub tends: bool,
}

impl Backends {
    /// Takes the list of a new placement over: those that stay keep what is known of them. The connections kept to those
    /// that don't.
    pub fn take(&mut self, placed: &[Backend], stats: &RuntimeStats) -> Vec<ConnectionId> {
        let mut old = std::mem::take(&mut self.members);
        for backend in placed {
            let same = |member: &Member| {
                member.backend.name == backend.name && member.backend.address == backend.address
            };
            let member = match old.iter().position(same) {
                Some(at) => {
                    let mut member = old.swap_remove(at);
                    member.backend = backend.clone();
                    member
                }
                None => self.member(backend, stats),
            };
            self.members.push(member);
        }
        let left = old.into_iter().flat_map(|member| member.idle);
        left.map(|idle| idle.connection).collect()
    }

    fn member(&mut self, backend: &Backend, stats: &RuntimeStats) -> Member {
        self.serials += 1;
        self.budget = limits::PROXY_RETRY_BUDGET_TENTHS;
        Member {
            serial: self.serials,
            shared: stats.backend(&backend.key()),
            mark: super::balance::hash(backend.key().as_bytes()),
            backend: backend.clone(),
            credit: 0,
            idle: Vec::new(),
            warned: None,
        }
    }

    /// All of them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where in the list the one of that number is.
    pub fn find(&self, serial: u32) -> Option<usize> {
        self.members.iter().position(|member| member.serial == serial)
    }

    /// The one of that number, if it is still there.
    pub fn get(&self, serial: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.serial == serial)
    }

    /// The address to dial of a backend, of those that it has.
    pub fn address(&self, at: usize, which: usize) -> Option<Address> {
        self.members.get(at)?.backend.addresses.get(which).cloned()
    }

    /// Whether a request may be sent again: one in five may, and some at once.
    pub fn may_retry(&mut self) -> bool {
        let may = self.budget >= 10;
        if may {
            self.budget -= 10;
        }
        may
    }

    /// A request has come: it pays a fifth of another's second try.
    pub fn paid(&mut self) {
        self.budget = (self.budget + 2).min(limits::PROXY_RETRY_BUDGET_TENTHS);
    }

    /// Keeps a connection that waits for a request. What must be closed instead, if there are too many: the oldest.
    pub fn keep(
        &mut self,
        serial: u32,
        connection: ConnectionId,
        now_ms: u64,
    ) -> Option<ConnectionId> {
        let Some(at) = self.find(serial) else { return Some(connection) };
        let idle = &mut self.members[at].idle;
        let is_full = idle.len() >= limits::PROXY_KEPT_MAX;
        let oldest = is_full.then(|| idle.remove(0).connection);
        idle.push(Idle { connection, since_ms: now_ms });
        oldest
    }

    /// The youngest kept connection to a backend.
    pub fn reuse(&mut self, at: usize) -> Option<ConnectionId> {
        self.members.get_mut(at)?.idle.pop().map(|idle| idle.connection)
    }

    /// A kept connection is gone.
    pub fn forget(&mut self, serial: u32, connection: ConnectionId) {
        if let Some(at) = self.find(serial) {
            self.members[at].idle.retain(|idle| idle.connection != connection);
        }
    }

    /// Kept connections that have waited since before `since_ms`; all of them are no longer kept.
    pub fn take_older(&mut self, since_ms: u64) -> Vec<ConnectionId> {
        let mut old = Vec::new();
        for member in &mut self.members {
            let count = member.idle.iter().take_while(|idle| idle.since_ms < since_ms).count();
            old.extend(member.idle.drain(..count).map(|idle| idle.connection));
        }
        old
    }

    /// Whether connections are kept.
    pub fn has_kept(&self) -> bool {
        self.members.iter().any(|member| !member.idle.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backend whose name didn't resolve was logged once per request.
    #[test]
    fn the_same_is_not_said_again_for_a_while() {
        let mut backends = Backends::default();
        backends.take(&[Backend::default()], &RuntimeStats::new(1));
        let member = &mut backends.members[0];
        assert!(member.is_news("refused", 1_000));
        assert!(!member.is_news("refused", 1_001));
        assert!(member.is_news("timed out", 1_002), "something else");
        assert!(!member.is_news("timed out", 1_001 + limits::PROXY_WARN_MS));
        assert!(member.is_news("timed out", 1_002 + limits::PROXY_WARN_MS));
    }
}
