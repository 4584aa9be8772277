//! Client runtimes: connected means connected, lost connections are dialled again, each pause within its bound.

use std::net::SocketAddr;

use super::{Peer, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::sim::Faults;
use crate::runtime::message::{FromWorker, ToWorker};
use crate::runtime::{Address, Backend, RuntimeConfig};

fn target() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 7000))
}

fn backends() -> Vec<Backend> {
    vec![Backend {
        name: target().to_string(),
        addresses: vec![target().into()],
        ..Backend::default()
    }]
}

fn client(reconnect: Option<u32>) -> RuntimeConfig {
    let target = Some(target().to_string());
    RuntimeConfig { target, reconnect, ..config(RuntimeKind::Client) }
}

#[test]
fn messages_go_both_ways_over_every_new_connection() {
    story(31, 0..100, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        let runtime = world.place(client(Some(0)), backends(), None);
        world.tell(0, ToWorker::Observe { runtime: runtime.id(), on: true });
        if world.random.chance(500) {
            world.run_for_ms(1_000);
            assert!(runtime.stats().sum(|cell| &cell.dial_errors) > 0);
            assert_eq!(runtime.connections(), 0, "nobody listens");
            let request = world.send(0, runtime.id(), b"lost");
            world.run("the message to nobody", |world| world.answers.contains_key(&request));
            assert_eq!(world.answers[&request].1, 0);
        }
        world.sim.serve(target());
        for round in 0..1 + world.random.below(4) {
            let mut accepted = None;
            world.run("the connect", |world| {
                accepted = accepted.or(world.sim.accepted(target()));
                accepted.is_some() && runtime.connections() == 1
            });
            let lines = format!("hello {round}\nand more\n").into_bytes();
            let mut peer = Peer::new(accepted.expect("it has come"), lines);
            let request = world.send(0, runtime.id(), b"a message");
            world.heard.clear();
            world.run("the messages", |world| {
                peer.push(&world.sim, &mut world.random);
                peer.pull(&world.sim);
                peer.received == b"a message\n" && world.heard.len() == 2
            });
            assert_eq!(world.answers[&request].1, 1);
            let heard: Vec<&[u8]> = world
                .heard
                .iter()
                .filter_map(|message| match message {
                    FromWorker::Message { bytes, .. } => Some(bytes.as_slice()),
                    _ => None,
                })
                .collect();
            assert_eq!(heard, [format!("hello {round}").as_bytes(), b"and more"]);
            if world.random.chance(500) {
                world.sim.peer_reset(peer.id);
            } else {
                peer.shut(&world.sim);
            }
            world.run("the loss", |_| runtime.connections() == 0);
        }
        world.finish()
    });
}

/// Pauses between dials grow to their bound and no further; a stop ends them.
#[test]
fn dials_are_repeated_within_their_bounds() {
    story(32, 0..60, |seed, mut random| {
        let faults = Faults::all(&mut random);
        let mut world = World::new(seed, random, 1, Faults { reset: 0, ..faults });
        let runtime = world.place(client(Some(0)), backends(), None);
        let errors = || runtime.stats().sum(|cell| &cell.dial_errors);
        let mut last_ms = world.sim.now().monotonic_ms();
        let mut bound_ms = limits::RECONNECT_MIN_MS;
        for attempt in 1..=1 + world.random.below(12) {
            world.run("a failed dial", |_| errors() == attempt);
            let now_ms = world.sim.now().monotonic_ms();
            let slack_ms = 600;
            if attempt > 1 {
                let pause_ms = now_ms - last_ms;
                assert!(pause_ms + 1 >= limits::RECONNECT_MIN_MS, "{pause_ms} ms");
                assert!(pause_ms <= bound_ms + slack_ms, "{pause_ms} of {bound_ms} ms");
                bound_ms = (bound_ms * 2).min(limits::RECONNECT_MAX_MS);
            }
            last_ms = now_ms;
        }
        world.finish()
    });
}

#[test]
fn a_client_gives_up_after_its_attempts() {
    story(33, 0..20, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let limit = random.below(4) as u32;
        let reconnect = (limit > 0).then_some(limit);
        let mut world = World::new(seed, random, 1, faults);
        let runtime = world.place(client(reconnect), backends(), None);
        let degraded = |heard: &[FromWorker]| {
            heard.iter().filter(|it| matches!(it, FromWorker::Degraded { .. })).count()
        };
        world.run("giving up", |world| degraded(&world.heard) > 0);
        world.run_for_ms(40_000);
        assert_eq!(degraded(&world.heard), 1);
        assert_eq!(runtime.stats().sum(|cell| &cell.dial_errors), u64::from(limit) + 1);
        world.finish()
    });
}

/// A dial that nobody answers ends by its timeout, and its late success is closed.
#[test]
fn a_dial_that_takes_too_long_is_given_up() {
    story(34, 0..30, |seed, mut random| {
        let late_cancel = random.below(1001) as u32;
        let faults = Faults { latency_ns_max: 30_000_000_000, late_cancel, ..Faults::NONE };
        let mut world = World::new(seed, random, 1, faults);
        world.sim.serve(target());
        let runtime = world.place(client(Some(0)), backends(), None);
        let turns = 20 + world.random.below(400);
        for _ in 0..turns {
            world.turn();
            assert!(runtime.connections() <= 1);
        }
        world.finish()
    });
}

/// What is said while nobody is there goes out in order when somebody is, the newest of it if it is too much.
#[test]
fn what_is_said_while_nobody_is_there_waits_in_bounds() {
    story(35, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let config = RuntimeConfig { send_queue_bytes: 100, ..client(Some(0)) };
        let runtime = world.place(config, backends(), None);
        let count = world.random.below(40);
        for number in 0..count {
            let request = world.send(0, runtime.id(), format!("message {number:02}").as_bytes());
            world.run("being kept", |world| world.answers.contains_key(&request));
            assert_eq!(world.answers[&request].1, 1);
        }
        let request = world.send(0, runtime.id(), &[b'x'; 101]);
        world.run("being refused", |world| world.answers.contains_key(&request));
        assert_eq!(world.answers[&request].1, 0);
        assert_eq!(runtime.stats().sum(|cell| &cell.dropped), count.saturating_sub(10));
        world.sim.serve(target());
        let mut accepted = None;
        world.run("the connect", |world| {
            accepted = accepted.or(world.sim.accepted(target()));
            accepted.is_some() && runtime.connections() == 1
        });
        let mut peer = Peer::new(accepted.expect("it has come"), Vec::new());
        let kept = count.saturating_sub(10)..count;
        let expected: String = kept.map(|number| format!("message {number:02}\n")).collect();
        world.run("what waited", |world| {
            peer.pull(&world.sim);
            peer.received.len() >= expected.len()
        });
        assert_eq!(String::from_utf8_lossy(&peer.received), expected);
        world.finish()
    });
}

/// RFC 8305: the next address is dialled as soon as one has refused, without a pause between them.
#[test]
fn addresses_that_refuse_hardly_delay_one_that_doesnt() {
    story(36, 0..40, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        let address = |text: &str| -> Address { text.parse().expect("an address") };
        let dead = world.random.below(4);
        let mut addresses: Vec<Address> =
            (0..dead).map(|number| address(&format!("[2001:db8::{number}]:7000"))).collect();
        addresses.push(target().into());
        let backends =
            vec![Backend { name: target().to_string(), addresses, ..Backend::default() }];
        world.sim.serve(target());
        let runtime = world.place(client(Some(0)), backends, None);
        let started_ms = world.sim.now().monotonic_ms();
        world.run("a connection", |_| runtime.connections() == 1);
        let waited_ms = world.sim.now().monotonic_ms() - started_ms;
        assert!(waited_ms < limits::RECONNECT_MIN_MS, "{waited_ms} ms for {dead} dead ones");
        assert_eq!(runtime.stats().sum(|cell| &cell.connections_total), 1);
        assert_eq!(runtime.stats().sum(|cell| &cell.dial_errors), 0, "the round has won");
        world.finish()
    });
}

/// All dials of a round are slow; the first to connect is the connection, and none of the others is left open.
#[test]
fn of_many_dials_one_wins() {
    story(37, 0..60, |seed, mut random| {
        let late_cancel = random.below(1001) as u32;
        let faults = Faults { latency_ns_max: 2_000_000_000, late_cancel, ..Faults::NONE };
        let mut world = World::new(seed, random, 1, faults);
        let addresses: Vec<Address> =
            (1..6).map(|n| std::net::SocketAddr::from(([10, 0, 1, n], 7000)).into()).collect();
        addresses.iter().for_each(|address| world.sim.serve(address.clone()));
        let backends = vec![Backend { name: "many".to_owned(), addresses, ..Backend::default() }];
        let runtime = world.place(client(Some(0)), backends, None);
        world.run("a connection", |_| runtime.connections() == 1);
        world.run_for_ms(6000);
        assert_eq!(runtime.connections(), 1);
        assert_eq!(world.sim.open_sockets(), 1, "the losers are closed");
        world.finish()
    });
}
