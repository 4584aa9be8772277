//! Limits of a runtime and of each of its connections: messages and bytes a second, silence, connections per address.
//!
//! Rates are token buckets that hold one second's worth. Who is over its rate isn't read until it is due again, so
//! nothing is lost and the peer feels it as a slow reader; it is counted as `throttled`. A connection without limits has
//! no [`Limiter`] and pays one test.
//! Must not know: what a message is.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::id::ConnectionId;
use crate::log::LogLevel;

use super::connection::{Pause, ProtocolState, Role};
use super::local::{Local, TimerEvent};
use super::stats::StatsCell;
use super::{cache, server};

/// What a user may limit; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Messages or commands of one connection a second.
    pub messages: u64,
    /// Those of all its connections together.
    pub messages_total: u64,
    /// Bytes read of one connection a second.
    pub bytes: u64,
    /// A connection is closed after so many seconds in which nothing came or went.
    pub idle_s: u64,
    /// Connections from one address.
    pub per_address: u32,
}

/// An address, or those that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any of its addresses.
    pub ip: IpAddr,
    /// How many leading bits count; at most as many as the address has.
    pub prefix: u8,
}

impl Network {
    /// Whether an address is of it. An IPv4 address that came over an IPv6 socket is an IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let differ = u32::from(own) ^ u32::from(ip);
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let differ = u128::from(own) ^ u128::from(ip);
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.ip.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            all if all == bits => write!(f, "{}", self.ip),
            prefix => write!(f, "{}/{prefix}", self.ip),
        }
    }
}

impl Limits {
    fn needs_limiter(&self) -> bool {
        self.messages > 0 || self.messages_total > 0 || self.bytes > 0 || self.idle_s > 0
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// The moment until which a bucket's tokens are spent: one is left while that is less than a second ahead.
fn spend(spent_until_ns: u64, now_ns: u64, count: u64, rate: u64) -> u64 {
    spent_until_ns.max(now_ns).saturating_add(count.saturating_mul(SECOND_NS) / rate)
}

/// How long until a bucket has a token again.
fn wait_ns(spent_until_ns: u64, now_ns: u64) -> u64 {
    spent_until_ns.saturating_sub(now_ns + SECOND_NS)
}

/// A bucket that all workers take from.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

impl SharedBucket {
    fn spend(&self, now_ns: u64, count: u64, rate: u64) -> u64 {
        let spent = |until| Some(spend(until, now_ns, count, rate));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
        wait_ns(spend(before.unwrap_or(0), now_ns, count, rate), now_ns)
    }

    fn wait_ns(&self, now_ns: u64) -> u64 {
        wait_ns(self.0.load(Ordering::Relaxed), now_ns)
    }
}

/// Connections per address, over all workers.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<IpAddr, u32>>);

/// One connection's place among those of its address.
#[derive(Debug)]
pub struct Seat {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

impl Seat {
    /// A place, if there is one left.
    pub fn take(addresses: &Arc<Addresses>, ip: IpAddr, most: u32) -> Option<Seat> {
        let mut taken = addresses.0.lock();
        let count = taken.entry(ip).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat { addresses: Arc::clone(addresses), ip })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.addresses.0.lock();
        if let Some(count) = taken.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.ip);
            }
        }
    }
}

/// The limits of one connection.
#[derive(Debug)]
pub struct Limiter {
    messages_ns: u64,
    bytes_ns: u64,
    active_ns: u64,
    /// It isn't read until its time comes.
    pub throttled: bool,
}

/// A connection that has just begun gets its limits, as its runtime has them now.
pub fn begin(local: &mut Local, slot: u32) {
    let now = local.now;
    let connection = local.connections.at(slot);
    let (id, index) = (connection.id, connection.instance);
    let config = local.instance_at(index).config();
    let (limits, idle_s) = (config.limits, config.idle_s());
    if !limits.needs_limiter() && idle_s == 0 {
        return;
    }
    let active_ns = now.monotonic_ns;
    let limiter = Limiter { messages_ns: 0, bytes_ns: 0, active_ns, throttled: false };
    local.connections.at(slot).limiter = Some(Box::new(limiter));
    if idle_s > 0 {
        local.timers.insert(now, idle_s * 1000, TimerEvent::Idle { connection: id });
    }
}

/// Bytes came or went on a limited connection, and so many messages among them.
pub fn spent(local: &mut Local, slot: u32, bytes: u64, messages: u64) {
    let now_ns = local.now.monotonic_ns;
    let Some(connection) = local.connections.get_mut(slot) else { return };
    let (id, index, is_open) = (connection.id, connection.instance, connection.is_open());
    let Some(limiter) = &mut connection.limiter else { return };
    limiter.active_ns = now_ns;
    if bytes == 0 && messages == 0 {
        return;
    }
    let Some(instance) = local.instances[index].as_ref() else { return };
    let limits = instance.config().limits;
    let mut pause_ns = 0;
    if limits.bytes > 0 {
        limiter.bytes_ns = spend(limiter.bytes_ns, now_ns, bytes, limits.bytes);
        pause_ns = wait_ns(limiter.bytes_ns, now_ns);
    }
    if limits.messages > 0 {
        limiter.messages_ns = spend(limiter.messages_ns, now_ns, messages, limits.messages);
        pause_ns = pause_ns.max(wait_ns(limiter.messages_ns, now_ns));
    }
    if limits.messages_total > 0 {
        let bucket = &instance.placement.stats.messages_bucket;
        pause_ns = pause_ns.max(bucket.spend(now_ns, messages, limits.messages_total));
    }
    if pause_ns > 0 && !limiter.throttled && is_open {
        limiter.throttled = true;
        StatsCell::add(&instance.cell(local.worker).throttled, 1);
        local.pause(slot, Pause::RATE);
        let event = TimerEvent::Throttled { connection: id };
        local.timers.insert(local.now, pause_ns.div_ceil(1_000_000), event);
    }
}

/// The time of a throttled connection has come, unless others have used up what all share.
pub fn on_due(local: &mut Local, id: ConnectionId) {
    let now_ns = local.now.monotonic_ns;
    let Some(slot) = local.connections.slot_of(id) else { return };
    let connection = local.connections.at(slot);
    let index = connection.instance;
    let is_open = connection.is_open();
    let Some(limiter) = connection.limiter.as_mut().filter(|_| is_open) else { return };
    let instance = local.instances[index].as_ref();
    let shared = instance.filter(|instance| instance.config().limits.messages_total > 0);
    let left_ns = shared.map_or(0, |it| it.placement.stats.messages_bucket.wait_ns(now_ns));
    if left_ns > 0 {
        let event = TimerEvent::Throttled { connection: id };
        local.timers.insert(local.now, left_ns.div_ceil(1_000_000), event);
        return;
    }
    limiter.throttled = false;
    local.resume(slot, Pause::RATE);
    let connection = local.connections.at(slot);
    let has_messages = matches!(connection.role, Role::Server | Role::Client)
        && matches!(connection.protocol, ProtocolState::Messages);
    if has_messages && !connection.parked && !connection.input.is_empty() {
        server::parse_input(local, slot, 0);
    }
    let Some(connection) = local.connections.get(slot) else { return };
    // A proxy ends its pairs by itself.
    let waits = connection.parked || cache::has_unrun(connection) || connection.role.is_proxied();
    if connection.read_ended && !waits {
        local.half_closed.push(slot);
    }
}

/// A connection may have been silent for too long.
pub fn on_idle(local: &mut Local, id: ConnectionId) {
    let (now, worker) = (local.now, local.worker);
    let Some(slot) = local.connections.slot_of(id) else { return };
    let connection = local.connections.at(slot);
    let (index, is_open) = (connection.instance, connection.is_open());
    let busy = connection.parked || cache::has_unrun(connection);
    let Some(limiter) = connection.limiter.as_ref().filter(|_| is_open) else { return };
    let active_ns = if busy { now.monotonic_ns } else { limiter.active_ns };
    let instance = local.instance_at(index);
    let idle_ms = instance.config().idle_s() * 1000;
    if idle_ms == 0 {
        return;
    }
    let silent_ms = (now.monotonic_ns - active_ns) / 1_000_000;
    if silent_ms < idle_ms {
        local.timers.insert(now, idle_ms - silent_ms, TimerEvent::Idle { connection: id });
        return;
    }
    StatsCell::add(&instance.cell(worker).idle_closed, 1);
    let source = instance.config_arc();
    let text = format!("connection {} closed: silent for {} s", id.bits(), idle_ms / 1000);
    local.log(LogLevel::Debug, &source.name, text);
    local.close_after_flush(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_second_and_fills_at_its_rate() {
        let (mut until, mut now, mut taken) = (0, 50 * SECOND_NS, 0);
        let end = now + 10 * SECOND_NS;
        while now < end {
            while wait_ns(until, now) == 0 {
                until = spend(until, now, 1, 100);
                taken += 1;
            }
            now += wait_ns(until, now);
        }
        // One second's worth at once, then the rate; the last one may overdraw by itself.
        assert!((1098..=1102).contains(&taken), "{taken}");
        let overdrawn = spend(0, now, 1_000_000, 100);
        assert_eq!(wait_ns(overdrawn, now), (10_000 - 1) * SECOND_NS);
        assert_eq!(spend(u64::MAX, 0, u64::MAX, 1), u64::MAX, "no wrap");
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (ip, prefix, address, holds) in [
            ("10.0.0.0", 8, "10.255.1.2", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.7", 32, "10.0.0.7", true),
            ("10.0.0.7", 32, "10.0.0.6", false),
            ("0.0.0.0", 0, "203.0.113.1", true),
            ("10.0.0.0", 8, "::ffff:10.1.1.1", true),
            ("2001:db8::", 32, "2001:db8:1::5", true),
            ("2001:db8::", 32, "2001:db9::5", false),
            ("::", 0, "::1", true),
            ("::", 0, "10.0.0.1", false),
        ] {
            let network = Network { ip: ip.parse().unwrap(), prefix };
            assert_eq!(network.contains(address.parse().unwrap()), holds, "{network} {address}");
        }
    }

    #[test]
    fn seats_of_an_address_come_back() {
        let addresses = Arc::new(Addresses::default());
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let seats: Vec<Seat> = (0..2).map(|_| Seat::take(&addresses, one, 2).unwrap()).collect();
        assert!(Seat::take(&addresses, one, 2).is_none());
        assert!(Seat::take(&addresses, other, 2).is_some());
        drop(seats);
        assert!(addresses.0.lock().is_empty());
        assert!(Seat::take(&addresses, one, 1).is_some());
    }
}
