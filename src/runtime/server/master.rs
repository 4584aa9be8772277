//! Mode `master`: one client, which has said the password, speaks to all others.
//!
//! A client says `master PASSWORD` as a message of its own, over lines, WebSocket or TLS, and hears `master: ok` or
//! `master: denied`. The last one that has the password is the master; the one before hears `master: replaced`. What the
//! others say is dropped, or goes to the master. The password is never passed on to handlers, observers or logs.
//!
//! Wrong passwords are counted by connection and by address, and compared in constant time; an address that has been
//! wrong too often is refused unseen for a while. Must not know: how messages are framed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::id::ConnectionId;
use crate::limits;
use crate::log::LogLevel;
use crate::lua::Handlers;
use crate::proto::websocket::Kind;
use crate::runtime::connection::Phase;
use crate::runtime::local::Local;
use crate::runtime::message::{Recipients, ToWorker};
use crate::runtime::stats::StatsCell;

/// What the password follows.
const WORD: &[u8] = b"master ";

/// Who the master of a runtime is, and who has tried to be: the same for all its workers.
#[derive(Debug, Default)]
pub struct Master {
    /// A connection's bits; 0 for nobody.
    holder: AtomicU64,
    failures: Mutex<BTreeMap<IpAddr, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    since_ms: u64,
    count: u32,
}

impl Master {
    /// The master's connection.
    pub fn holder(&self) -> Option<ConnectionId> {
        named(self.holder.load(Ordering::Relaxed))
    }

    /// A connection is gone: if it was the master, nobody is.
    pub fn leave(&self, id: ConnectionId) {
        // It fails where another has taken over: just as well.
        let _ended =
            self.holder.compare_exchange(id.bits(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether an address has been wrong too often.
    fn is_shut_out(&self, ip: IpAddr, now_ms: u64) -> bool {
        self.failures.lock().get(&ip).is_some_and(|failures| {
            failures.count >= limits::MASTER_TRIES_PER_ADDRESS_MAX
                && now_ms < failures.since_ms + limits::MASTER_TRIES_MS
        })
    }

    fn fail(&self, ip: IpAddr, now_ms: u64) {
        let mut failures = self.failures.lock();
        if failures.len() >= limits::MASTER_ADDRESSES_MAX && !failures.contains_key(&ip) {
            let oldest = failures.iter().min_by_key(|(_, it)| it.since_ms).map(|(ip, _)| *ip);
            oldest.map(|oldest| failures.remove(&oldest));
        }
        let entry = failures.entry(ip).or_insert(Failures { since_ms: now_ms, count: 0 });
        if now_ms >= entry.since_ms + limits::MASTER_TRIES_MS {
            *entry = Failures { since_ms: now_ms, count: 0 };
        }
        entry.count += 1;
    }
}

fn named(bits: u64) -> Option<ConnectionId> {
    ConnectionId::from_bits(bits).filter(|_| bits != 0)
}

/// A message to a server in this mode. Whether it is one for the handlers and the others.
pub fn on_message(local: &mut Local, slot: u32, index: usize, message: &[u8]) -> bool {
    let id = local.connections.at(slot).id;
    if let Some(password) = message.strip_prefix(WORD) {
        ask(local, slot, index, password);
        return false;
    }
    let instance = local.instance_at(index);
    let holder = instance.placement.stats.master.holder();
    if holder == Some(id) {
        return true;
    }
    match holder.filter(|_| instance.config().master_forward) {
        Some(master) => forward(local, index, id, master, message),
        None => {
            let worker = local.worker;
            StatsCell::add(&local.instance_at(index).cell(worker).dropped, 1);
        }
    }
    false
}

fn forward(
    local: &mut Local,
    index: usize,
    from: ConnectionId,
    master: ConnectionId,
    message: &[u8],
) {
    let mut bytes = format!("[{}] ", from.bits()).into_bytes();
    bytes.extend_from_slice(message);
    tell(local, index, master, &bytes);
}

/// Sends a message to a connection of the runtime on whichever worker.
fn tell(local: &mut Local, index: usize, to: ConnectionId, message: &[u8]) {
    if to.worker() == local.worker {
        local.deliver_one(index, Recipients::One(to), message, None);
    } else if let Some(inbox) = local.workers.get(usize::from(to.worker())) {
        let Some(instance) = &local.instances[index] else { return };
        inbox.send(ToWorker::Send {
            request: 0,
            runtime: instance.placement.id,
            to: Recipients::One(to),
            bytes: message.into(),
            kind: None,
        });
    }
}

/// A client wants to be the master.
fn ask(local: &mut Local, slot: u32, index: usize, password: &[u8]) {
    let now_ms = local.now.monotonic_ms();
    let ip = local.connections.at(slot).peer.ip();
    let instance = local.instance_at(index);
    let master = &instance.placement.stats.master;
    if ip.is_some_and(|ip| master.is_shut_out(ip.to_canonical(), now_ms)) {
        answer(local, slot, false);
        return local.close_after_flush(slot);
    }
    if instance.handlers.has(Handlers::ON_MASTER_AUTH) {
        // Nothing more of it is parsed before the handler has answered.
        local.connections.at(slot).parked = true;
        return local.tell_app_master(slot, password);
    }
    let known = instance.config().master_password.as_deref();
    let fits = known.is_some_and(|known| bool::from(known.as_bytes().ct_eq(password)));
    decide(local, slot, fits);
}

/// The password was right, or not.
pub fn decide(local: &mut Local, slot: u32, fits: bool) {
    let now_ms = local.now.monotonic_ms();
    let Some(connection) = local.connections.get_mut(slot) else { return };
    if connection.phase != Phase::Open {
        return;
    }
    let (id, index, ip) = (connection.id, connection.instance, connection.peer.ip());
    if fits {
        connection.master_tries = 0;
        let holder = &local.instance_at(index).placement.stats.master.holder;
        let before = named(holder.swap(id.bits(), Ordering::Relaxed));
        if let Some(before) = before.filter(|before| *before != id) {
            tell(local, index, before, b"master: replaced");
        }
        return answer(local, slot, true);
    }
    connection.master_tries += 1;
    let tries = u32::from(connection.master_tries);
    if let Some(ip) = ip {
        local.instance_at(index).placement.stats.master.fail(ip.to_canonical(), now_ms);
    }
    answer(local, slot, false);
    if tries >= limits::MASTER_TRIES_MAX {
        let (name, peer) =
            (local.instance_at(index).config_arc(), local.connections.at(slot).peer.clone());
        let text = format!("connection of {peer} closed: {tries} wrong master passwords");
        local.log(LogLevel::Warn, &name.name, text);
        local.close_after_flush(slot);
    }
}

fn answer(local: &mut Local, slot: u32, fits: bool) {
    let text: &[u8] = if fits { b"master: ok" } else { b"master: denied" };
    local.send_message(slot, text, Some(Kind::Text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_wrong_too_often_is_shut_out_for_a_while() {
        let master = Master::default();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for now_ms in 0..u64::from(limits::MASTER_TRIES_PER_ADDRESS_MAX) {
            assert!(!master.is_shut_out(one, now_ms));
            master.fail(one, now_ms);
        }
        assert!(master.is_shut_out(one, 20) && !master.is_shut_out(other, 20));
        assert!(!master.is_shut_out(one, limits::MASTER_TRIES_MS));
        master.fail(one, limits::MASTER_TRIES_MS);
        assert!(!master.is_shut_out(one, limits::MASTER_TRIES_MS), "counted anew");
    }

    #[test]
    fn no_more_addresses_are_remembered_than_allowed() {
        let master = Master::default();
        for number in 0..2 * limits::MASTER_ADDRESSES_MAX as u32 {
            master.fail(std::net::Ipv4Addr::from(number).into(), u64::from(number));
        }
        assert_eq!(master.failures.lock().len(), limits::MASTER_ADDRESSES_MAX);
        assert!(!master.failures.lock().contains_key(&IpAddr::from([0, 0, 0, 0])));
    }
}
