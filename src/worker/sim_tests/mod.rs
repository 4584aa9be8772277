//! Workers on the simulated network: many short runs, each named by its seed, each the same every time.
//!
//! A [`World`] holds the workers and plays the control thread; the stories play the peers. Every story ends with
//! [`World::finish`]: all that was opened is closed, all that was asked is answered once.

mod apps;
mod cache;
mod client;
mod control;
mod datagrams;
mod detect;
mod hooks;
mod http;
mod limits;
mod modes;
mod proxy;
mod proxy_http;
mod pubsub;
mod server;
mod sockets;
mod tls;
mod waiting;
mod websocket;
mod world;

use crate::ring::random::Random;
use crate::ring::sim::Sim;
pub use world::{Runtime, World, config};

/// Runs a story for every seed of a range, every fourth one twice: a seed's digest must repeat. The seeds of different
/// stories are different numbers' worth of chance: `salt` keeps them apart.
fn story(salt: u64, seeds: std::ops::Range<u64>, run: impl Fn(u64, Random) -> u64) {
    let only = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in seeds.filter(|seed| only.is_none_or(|only: u64| only == *seed)) {
        let _named = Named(seed);
        let random = || Random::new(seed << 8 | salt);
        let digest = run(seed, random());
        if seed.is_multiple_of(4) {
            assert_eq!(run(seed, random()), digest, "the run doesn't repeat");
        }
    }
}

/// Names the seed of a run that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the failing seed is {0}; SIM_SEED={0} runs it alone", self.0);
        }
    }
}

/// The far end of a connection, played by a test.
struct Peer {
    id: crate::ring::sim::PeerId,
    to_send: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    shut: bool,
}

impl Peer {
    fn new(id: crate::ring::sim::PeerId, to_send: Vec<u8>) -> Peer {
        Peer { id, to_send, sent: 0, received: Vec::new(), shut: false }
    }

    /// Sends a random piece of what is left to send.
    fn push(&mut self, sim: &Sim, random: &mut Random) {
        let left = self.to_send.len() - self.sent;
        if left > 0 {
            let count = match random.below(3) {
                0 => left,
                1 => 1 + random.below(left.min(20) as u64) as usize,
                _ => 1 + random.below(left as u64) as usize,
            };
            sim.peer_send(self.id, &self.to_send[self.sent..self.sent + count]);
            self.sent += count;
        }
    }

    fn has_sent_all(&self) -> bool {
        self.sent == self.to_send.len()
    }

    fn pull(&mut self, sim: &Sim) {
        self.received.extend(sim.peer_received(self.id));
    }

    fn shut(&mut self, sim: &Sim) {
        if !std::mem::replace(&mut self.shut, true) {
            sim.peer_shutdown(self.id);
        }
    }

    fn is_over(&self, sim: &Sim) -> bool {
        sim.peer_has_ended(self.id) || sim.peer_is_reset(self.id)
    }
}
