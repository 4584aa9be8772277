//! Proxies: the bytes and the ends of both directions cross unchanged, and a pair ends as one.

use std::net::SocketAddr;

use super::{Peer, Runtime, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::random::Random;
use crate::ring::sim::{Faults, PeerId};
use crate::runtime::connection::Role;
use crate::runtime::{Address, Backend, RuntimeConfig, Strategy};

/// A client sends its number in so many bytes first, so that its backend's end can be told.
const NAME_BYTES: usize = 8;

fn backend_address(index: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + index as u8], 80))
}

/// Backends of which `served` answer; some have an address that doesn't.
fn backends(world: &mut World, count: u64, served: u64) -> Vec<Backend> {
    let first = world.random.below(count);
    (0..count)
        .map(|index| {
            let at = backend_address(index);
            let mut addresses = vec![Address::Ip(at)];
            if (index + first) % count < served {
                world.sim.serve(at);
                if world.random.chance(300) {
                    addresses.insert(0, backend_address(100 + index).into());
                }
            } else if world.random.chance(300) {
                addresses.clear();
            }
            Backend { name: format!("b{index}"), addresses, ..Backend::default() }
        })
        .collect()
}

/// A client, its backend's end once that is known, and what each shall send.
struct Pair {
    client: Peer,
    backend: Option<Peer>,
    answer: Vec<u8>,
}

fn bytes(random: &mut Random) -> Vec<u8> {
    let exponent = random.below(15);
    (0..random.below(1 << exponent)).map(|_| random.next_u64() as u8).collect()
}

fn pairs(world: &mut World, runtime: &Runtime, count: u64) -> Vec<Pair> {
    (0..count)
        .map(|number| {
            let mut request = number.to_be_bytes().to_vec();
            request.extend(bytes(&mut world.random));
            let client = Peer::new(world.sim.connect(runtime.address), request);
            Pair { client, backend: None, answer: bytes(&mut world.random) }
        })
        .collect()
}

/// Backend ends whose client isn't known yet.
#[derive(Default)]
struct Strangers(Vec<Peer>);

impl Strangers {
    /// Takes new ends in, and gives those that have read a name to their pair.
    fn meet(&mut self, world: &World, count: u64, pairs: &mut [Pair]) {
        for index in 0..count {
            while let Some(id) = world.sim.accepted(backend_address(index)) {
                self.0.push(Peer::new(id, Vec::new()));
            }
        }
        let mut at = 0;
        while at < self.0.len() {
            self.0[at].pull(&world.sim);
            let Some(name) = self.0[at].received.first_chunk::<NAME_BYTES>() else {
                if self.0[at].is_over(&world.sim) {
                    // Its client broke before it had said its name.
                    self.0[at].shut(&world.sim);
                }
                at += 1;
                continue;
            };
            let number = u64::from_be_bytes(*name) as usize;
            let mut peer = self.0.swap_remove(at);
            peer.to_send = std::mem::take(&mut pairs[number].answer);
            assert!(pairs[number].backend.replace(peer).is_none(), "two backends for a client");
        }
    }
}

/// One side's random step: read, send, pause; end its side when all is sent.
fn step(world: &mut World, peer: &mut Peer) {
    let (sim, random) = (&world.sim, &mut world.random);
    if random.chance(600) {
        peer.pull(sim);
    }
    sim.peer_pause(peer.id, random.chance(200));
    peer.push(sim, random);
    if peer.has_sent_all() && random.chance(200) {
        peer.shut(sim);
    }
}

fn proxy(strategy: Strategy) -> RuntimeConfig {
    RuntimeConfig { strategy, ..config(RuntimeKind::Proxy) }
}

fn proxy_story(seed: u64, mut random: Random, lossless: bool) -> u64 {
    let faults = if lossless { Faults::lossless(&mut random) } else { Faults::all(&mut random) };
    let workers = 1 + random.below(2) as u8;
    let mut world = World::new(seed, random, workers, faults);
    let count = 1 + world.random.below(3);
    let served = 1 + world.random.below(count);
    let backends = backends(&mut world, count, served);
    let strategy = [Strategy::RoundRobin, Strategy::Random][world.random.below(2) as usize];
    let runtime = world.place(proxy(strategy), backends, None);
    let clients = 1 + world.random.below(4);
    let mut pairs = pairs(&mut world, &runtime, clients);
    let mut strangers = Strangers::default();
    world.run("the proxied streams", |world| {
        let at = world.random.below(clients) as usize;
        step(world, &mut pairs[at].client);
        if let Some(backend) = &mut pairs[at].backend {
            step(world, backend);
        }
        strangers.meet(world, count, &mut pairs);
        let is_over = |pair: &Pair| {
            let backend = pair.backend.as_ref();
            pair.client.is_over(&world.sim)
                && (backend.is_some_and(|peer| peer.is_over(&world.sim))
                    || (!lossless && backend.is_none()))
        };
        pairs.iter().all(is_over) && runtime.connections() == 0
    });
    for pair in &mut pairs {
        pair.client.pull(&world.sim);
        let Some(backend) = &mut pair.backend else { continue };
        backend.pull(&world.sim);
        if lossless {
            assert!(backend.received == pair.client.to_send, "bytes to the backend");
            let (got, sent) = (&pair.client.received, &backend.to_send);
            assert!(got == sent, "{} of {}: {:?}", got.len(), sent.len(), world.logs);
        } else {
            assert!(pair.client.to_send.starts_with(&backend.received), "to the backend");
            assert!(backend.to_send.starts_with(&pair.client.received), "to the client");
        }
    }
    world.finish()
}

#[test]
fn bytes_and_ends_cross_unchanged() {
    story(21, 0..200, |seed, random| proxy_story(seed, random, true));
}

#[test]
fn a_pair_that_breaks_leaves_nothing_behind() {
    story(22, 0..150, |seed, random| proxy_story(seed, random, false));
}

/// A pair in which both know each other.
fn pair(world: &mut World, runtime: &Runtime) -> (Peer, Peer) {
    let client = world.sim.connect(runtime.address);
    let mut backend = None;
    world.run("the pair", |world| {
        backend = backend.or(world.sim.accepted(backend_address(0)));
        backend.is_some()
            && runtime.stats().sum(|cell| &cell.upstream_connections) == runtime.connections()
    });
    let backend: PeerId = backend.expect("it has just come");
    (Peer::new(client, Vec::new()), Peer::new(backend, Vec::new()))
}

fn one_backend(world: &World) -> Vec<Backend> {
    world.sim.serve(backend_address(0));
    vec![Backend {
        name: "b".to_owned(),
        addresses: vec![backend_address(0).into()],
        ..Backend::default()
    }]
}

/// A backend that writes before it reads (an echo with full buffers) hung together with its client: the proxy had
/// stopped reading it because it didn't read.
#[test]
fn a_side_that_does_not_read_is_still_heard() {
    story(23, 0..20, |seed, mut random| {
        let faults = Faults { window_bytes: 1 << 16, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 1, faults);
        let backends = one_backend(&world);
        let runtime = world.place(proxy(Strategy::RoundRobin), backends, None);
        let (mut client, mut backend) = pair(&mut world, &runtime);
        world.sim.peer_pause(backend.id, true);
        client.to_send = vec![7; 3 * limits::OUTBOX_HIGH_BYTES];
        let mut calm = 0;
        world.run("a backend that doesn't read", |world| {
            client.push(&world.sim, &mut world.random);
            let mut most = 0;
            world.each_connection(|it| most = most.max(it.outbox.bytes()));
            assert!(most < 2 * limits::OUTBOX_HIGH_BYTES, "{most} bytes wait");
            calm = if client.has_sent_all() { calm + 1 } else { 0 };
            calm > 300
        });
        world.sim.peer_send(backend.id, b"hello");
        world.run("its word", |world| {
            client.pull(&world.sim);
            client.received == b"hello"
        });
        world.sim.peer_pause(backend.id, false);
        client.shut(&world.sim);
        world.run("what it hasn't read", |world| {
            backend.pull(&world.sim);
            world.sim.peer_has_ended(backend.id)
        });
        backend.pull(&world.sim);
        assert!(backend.received == client.to_send);
        world.finish()
    });
}

#[test]
fn a_break_on_one_side_ends_the_other() {
    story(24, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let backends = one_backend(&world);
        let runtime = world.place(proxy(Strategy::RoundRobin), backends, None);
        let (client, backend) = pair(&mut world, &runtime);
        let (breaks, mut stays) =
            if world.random.chance(500) { (client, backend) } else { (backend, client) };
        world.sim.peer_send(breaks.id, b"last words");
        if world.random.chance(300) {
            world.sim.peer_send(stays.id, b"unheard");
        }
        for _ in 0..world.random.below(4) {
            world.turn();
        }
        world.sim.peer_reset(breaks.id);
        world.run("the other side's end", |world| stays.is_over(&world.sim));
        stays.shut(&world.sim);
        stays.pull(&world.sim);
        assert!(b"last words".starts_with(&stays.received[..]));
        world.run("the pair's end", |_| runtime.connections() == 0);
        world.finish()
    });
}

/// Nobody answers, or nobody resolves: the client is turned away, counted, after every backend was tried once.
#[test]
fn without_a_backend_the_client_is_turned_away() {
    story(25, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let count = world.random.below(4);
        let backends = if count == 0 { Vec::new() } else { backends(&mut world, count, 0) };
        let dials: usize = backends.iter().map(|backend| backend.addresses.len().max(1)).sum();
        let runtime = world.place(proxy(Strategy::RoundRobin), backends, None);
        let mut client = Peer::new(world.sim.connect(runtime.address), b"hello".to_vec());
        world.run("the refusal", |world| {
            client.push(&world.sim, &mut world.random);
            client.is_over(&world.sim)
        });
        let stats = runtime.stats();
        assert_eq!(stats.sum(|cell| &cell.refused), 1);
        assert_eq!(stats.sum(|cell| &cell.dial_errors), dials.max(1) as u64);
        world.finish()
    });
}

/// Clients that go away while their backend is being dialled; dials that end too late.
#[test]
fn a_stop_during_a_dial_leaves_nothing_behind() {
    story(26, 0..60, |seed, mut random| {
        let latency_ns_max = 1 << (20 + random.below(14));
        let faults = Faults { latency_ns_max, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 1, faults);
        let backends = one_backend(&world);
        let runtime = world.place(proxy(Strategy::RoundRobin), backends, None);
        for _ in 0..1 + world.random.below(3) {
            world.sim.connect(runtime.address);
        }
        let turns = world.random.below(40);
        (0..turns).for_each(|_| world.turn());
        let mut backs = 0;
        world.each_connection(|it| backs += u64::from(matches!(it.role, Role::Back(_))));
        assert!(backs <= 3);
        world.finish()
    });
}
