//! UDP: peers that come, speak, are relayed to and expire, over a network that loses, doubles and reorders.

use std::net::SocketAddr;

use super::{Runtime, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::sim::Faults;
use crate::runtime::message::{FromWorker, ToWorker};
use crate::runtime::{Address, Backend, RuntimeConfig};

fn server() -> RuntimeConfig {
    RuntimeConfig { udp: true, amplification: 0, ..config(RuntimeKind::Server) }
}

fn peer(number: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 1000 + number))
}

fn place(world: &mut World, config: RuntimeConfig) -> Runtime {
    let runtime = world.place(config, Vec::new(), None);
    let listens = RuntimeConfig {
        listen: Some(Address::Udp(runtime.address)),
        ..(*runtime.placement.config).clone()
    };
    world.runtimes[0].placement.config = listens.into();
    let placement = world.runtimes[0].placement.clone();
    world.tell(0, ToWorker::Place { request: 0, placement });
    world.run_for_ms(1);
    runtime
}

/// What has come to a peer.
fn heard(world: &World, at: SocketAddr) -> Vec<Vec<u8>> {
    world.sim.datagrams_received(at).into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_datagram_goes_to_all_other_peers_and_never_back() {
    story(211, 0..60, |seed, mut random| {
        let window_bytes = 1 << 20;
        let faults = Faults { lose: 0, duplicate: 0, window_bytes, ..Faults::all(&mut random) };
        let mut world = World::new(seed, random, 1, faults);
        let runtime = place(&mut world, server());
        let count = 2 + world.random.below(6) as u16;
        for number in 0..count {
            world.sim.datagram_send(peer(number), runtime.address, b"hello");
            world.run("meeting a peer", |_| runtime.connections() == u64::from(number) + 1);
        }
        world.run_for_ms(50);
        (0..count).for_each(|number| drop(heard(&world, peer(number))));
        let mut largest = vec![b'x'; 16_000];
        largest[0] = b'y';
        world.sim.datagram_send(peer(0), runtime.address, &largest);
        let mut got = Vec::new();
        world.run("the relay", |world| {
            got.extend((1..count).flat_map(|number| heard(world, peer(number))));
            got.len() == usize::from(count) - 1
        });
        assert!(got.iter().all(|bytes| *bytes == largest));
        world.run_for_ms(50);
        assert!(heard(&world, peer(0)).is_empty(), "it is told what it said");
        world.finish()
    });
}

/// The original remembered every peer for ever and sent each datagram to ten thousand of them, itself included.
#[test]
fn silent_peers_end_and_their_places_are_free_again() {
    story(212, 0..20, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        let runtime = place(&mut world, RuntimeConfig { max_connections: 3, ..server() });
        let met = |world: &mut World, number| {
            world.sim.datagram_send(peer(number), runtime.address, b"hi");
            world.run_for_ms(20);
        };
        for number in [0, 0, 1, 1, 2] {
            met(&mut world, number);
        }
        assert_eq!(runtime.connections(), 3);
        // One that was heard once gives way; those that go on speaking don't.
        met(&mut world, 3);
        met(&mut world, 3);
        let refused = |runtime: &Runtime| runtime.stats().sum(|cell| &cell.refused);
        assert_eq!((runtime.connections(), refused(&runtime)), (3, 0));
        met(&mut world, 4);
        assert_eq!((runtime.connections(), refused(&runtime)), (3, 1));
        world.run_for_ms(1000 * limits::UDP_PEER_IDLE_S + 1000);
        assert_eq!(runtime.connections(), 0);
        assert_eq!(runtime.stats().sum(|cell| &cell.idle_closed), 3);
        met(&mut world, 4);
        assert_eq!(runtime.connections(), 1);
        world.finish()
    });
}

/// A datagram's source may be a lie: whoever is named there must not be flooded by us.
#[test]
fn a_peer_elsewhere_is_sent_no_more_than_it_has_sent() {
    story(213, 0..20, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        let config = RuntimeConfig { amplification: 1, ..server() };
        let runtime = place(&mut world, config);
        let here = SocketAddr::from(([127, 0, 0, 9], 99));
        world.sim.datagram_send(peer(0), runtime.address, b"12345");
        world.sim.datagram_send(here, runtime.address, b"1");
        world.run("the peers", |_| runtime.connections() == 2);
        drop((heard(&world, peer(0)), heard(&world, here)));
        for _ in 0..3 {
            world.send(0, runtime.id(), b"abc");
            world.run_for_ms(20);
        }
        // The first peer has room for one of them (and none for the second's datagram beside); this machine's for all.
        assert!(heard(&world, peer(0)).concat().len() <= 5);
        assert_eq!(heard(&world, here).len(), 3);
        assert!(runtime.stats().sum(|cell| &cell.withheld) >= 2);
        // It goes on speaking: it may be spoken to.
        world.sim.datagram_send(peer(0), runtime.address, &[b'x'; 100]);
        world.run_for_ms(20);
        world.send(0, runtime.id(), b"abc");
        world.run_for_ms(20);
        assert_eq!(heard(&world, peer(0)), [b"abc"]);
        world.finish()
    });
}

#[test]
fn our_own_address_and_port_0_are_no_peers() {
    story(214, 0..4, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        let runtime = place(&mut world, server());
        for source in [runtime.address, SocketAddr::from(([198, 51, 100, 7], 0))] {
            world.sim.datagram_send(source, runtime.address, b"loop");
        }
        world.run("both", |_| runtime.stats().sum(|cell| &cell.refused) == 2);
        assert_eq!(runtime.connections(), 0);
        world.finish()
    });
}

#[test]
fn a_flood_is_bounded_and_counted() {
    story(215, 0..4, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        let runtime = place(&mut world, server());
        world.sim.datagram_send(peer(0), runtime.address, b"hi");
        world.run("the peer", |_| runtime.connections() == 1);
        let large = vec![1; 60_000];
        let count = 2 * limits::DATAGRAM_QUEUE_BYTES_MAX / large.len();
        for _ in 0..count {
            world.send(0, runtime.id(), &large);
        }
        world.send(0, runtime.id(), &vec![1; limits::DATAGRAM_BYTES_MAX + 1]);
        world.run_for_ms(200);
        let got = heard(&world, peer(0)).len();
        let dropped = runtime.stats().sum(|cell| &cell.dropped);
        assert_eq!(got as u64 + dropped, count as u64 + 1);
        assert!(got * large.len() <= limits::DATAGRAM_QUEUE_BYTES_MAX + large.len());
        assert!(world.logs.iter().any(|line| line.contains("a datagram takes 65507")));
        world.finish()
    });
}

#[test]
fn over_its_rate_a_peer_is_not_heard() {
    story(216, 0..10, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        let mut config = server();
        config.limits.messages = 10;
        let runtime = place(&mut world, config);
        for _ in 0..100 {
            world.sim.datagram_send(peer(0), runtime.address, b"again");
        }
        world.run_for_ms(100);
        let count = |runtime: &Runtime| {
            let stats = runtime.stats();
            (stats.sum(|cell| &cell.messages), stats.sum(|cell| &cell.dropped))
        };
        let (messages, dropped) = count(&runtime);
        assert!((10..=12).contains(&messages) && messages + dropped == 100, "{messages} {dropped}");
        world.run_for_ms(2000);
        world.sim.datagram_send(peer(0), runtime.address, b"later");
        world.run_for_ms(100);
        assert_eq!(count(&runtime).0, messages + 1);
        world.finish()
    });
}

#[test]
fn a_client_speaks_and_is_spoken_to() {
    story(217, 0..40, |seed, mut random| {
        let faults = Faults { lose: 0, duplicate: 0, ..Faults::all(&mut random) };
        let mut world = World::new(seed, random, 2, faults);
        let target = SocketAddr::from(([10, 0, 0, 9], 53));
        let address = Address::Udp(target);
        let backends = vec![Backend {
            name: target.to_string(),
            addresses: vec![address],
            ..Backend::default()
        }];
        let config = RuntimeConfig {
            udp: true,
            target: Some(target.to_string()),
            ..config(RuntimeKind::Client)
        };
        let runtime = world.place(config, backends, None);
        world.tell(0, ToWorker::Observe { runtime: runtime.id(), on: true });
        world.run("being ready", |_| runtime.connections() == 1);
        world.send(0, runtime.id(), b"ping");
        let mut source = None;
        world.run("the ping", |world| {
            let got = world.sim.datagrams_received(target);
            source = got.first().map(|(source, _)| *source);
            got.iter().any(|(_, bytes)| bytes == b"ping")
        });
        world.heard.clear();
        world.sim.datagram_send(target, source.expect("it came from somewhere"), b"pong");
        // Others aren't heard on a socket that has a peer.
        world.sim.datagram_send(peer(0), source.expect("as above"), b"no");
        world.run("the pong", |world| !world.heard.is_empty());
        world.run_for_ms(50);
        let heard: Vec<&[u8]> = world
            .heard
            .iter()
            .filter_map(|it| match it {
                FromWorker::Message { bytes, .. } => Some(bytes.as_slice()),
                _ => None,
            })
            .collect();
        assert_eq!(heard, [b"pong"]);
        world.finish()
    });
}
