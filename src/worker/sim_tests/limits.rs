//! Rates, silence, places per address and PROXY headers: what limits cost those who pass them, and nobody else.

use super::{Peer, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::sim::Faults;
use crate::runtime::limiter::{Limits, Network};
use crate::runtime::message::{FromWorker, ToWorker};
use crate::runtime::{Mode, RuntimeConfig};

fn server(limits: Limits) -> RuntimeConfig {
    RuntimeConfig { mode: Mode::In, limits, ..config(RuntimeKind::Server) }
}

/// One second's worth at once, then the rate; every message arrives, also those before the end of the stream.
#[test]
fn a_fast_sender_is_slowed_down_and_loses_nothing() {
    story(111, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let rate = 10 + world.random.below(50);
        let total = world.random.chance(500);
        let limits = match total {
            true => Limits { messages_total: rate, ..Limits::default() },
            false => Limits { messages: rate, ..Limits::default() },
        };
        let runtime = world.place(server(limits), Vec::new(), None);
        world.tell(0, ToWorker::Observe { runtime: runtime.id(), on: true });
        let count = rate + world.random.below(4 * rate);
        let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
        let mut peer = Peer::new(world.sim.connect(runtime.address), lines.into_bytes());
        let started_ms = world.sim.now().monotonic_ms();
        world.heard.clear();
        world.run("all messages", |world| {
            peer.push(&world.sim, &mut world.random);
            if peer.has_sent_all() {
                peer.shut(&world.sim);
            }
            let heard = world.heard.iter().filter(|it| matches!(it, FromWorker::Message { .. }));
            let heard = heard.count() as u64;
            let passed_ms = world.sim.now().monotonic_ms() - started_ms;
            let due = rate + rate * (passed_ms + 50) / 1000 + 2;
            assert!(heard <= due, "{heard} of {due} after {passed_ms} ms at {rate} a second");
            heard == count
        });
        let heard: Vec<String> = world
            .heard
            .iter()
            .filter_map(|message| match message {
                FromWorker::Message { bytes, .. } => {
                    Some(String::from_utf8(bytes.clone()).expect("it works in a story"))
                }
                _ => None,
            })
            .collect();
        let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(heard, expected);
        let is_over = count > rate + 1 + rate / 10 * 10;
        assert!(!is_over || runtime.stats().sum(|cell| &cell.throttled) > 0);
        world.run("its end", |_| runtime.connections() == 0);
        world.finish()
    });
}

#[test]
fn the_silent_are_closed_and_the_busy_stay() {
    story(112, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let limits = Limits { idle_s: 5, ..Limits::default() };
        let runtime = world.place(server(limits), Vec::new(), None);
        let mut silent = Peer::new(world.sim.connect(runtime.address), b"one\n".to_vec());
        let busy = Peer::new(world.sim.connect(runtime.address), Vec::new());
        silent.push(&world.sim, &mut world.random);
        for _ in 0..5 {
            world.sim.peer_send(busy.id, b"x\n");
            world.run_for_ms(2_000);
        }
        assert!(silent.is_over(&world.sim) && !busy.is_over(&world.sim));
        assert_eq!(runtime.stats().sum(|cell| &cell.idle_closed), 1);
        silent.shut(&world.sim);
        world.finish()
    });
}

/// Places are counted by the address that the PROXY header tells, whichever way the header is cut.
#[test]
fn headers_of_listed_sources_say_who_it_is() {
    story(113, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        let fields = RuntimeConfig {
            mode: Mode::InOut,
            proxy_protocol: vec![Network {
                ip: "0.0.0.0".parse().expect("it works in a story"),
                prefix: 0,
            }],
            ..server(Limits { per_address: 1, ..Limits::default() })
        };
        let runtime = world.place(fields, Vec::new(), None);
        let connect = |world: &World, text: &str| {
            Peer::new(world.sim.connect(runtime.address), text.as_bytes().to_vec())
        };
        let mut one = connect(&world, "PROXY TCP4 192.0.2.1 10.0.0.1 1000 80\r\n");
        let mut listener = connect(&world, "PROXY TCP4 192.0.2.2 10.0.0.1 1001 80\r\n");
        world.run("both headers", |world| {
            one.push(&world.sim, &mut world.random);
            listener.push(&world.sim, &mut world.random);
            let mut met = 0;
            world.each_connection(|it| met += usize::from(it.peer.host().starts_with("192.0.2.")));
            met == 2
        });
        // The address has its place: a second one is turned away. So is one without a header.
        let mut again = connect(&world, "PROXY TCP4 192.0.2.1 10.0.0.1 1002 80\r\nhello\n");
        let mut rude = connect(&world, "hello, no header\n");
        world.run("two refusals", |world| {
            again.push(&world.sim, &mut world.random);
            rude.push(&world.sim, &mut world.random);
            again.is_over(&world.sim) && rude.is_over(&world.sim)
        });
        assert_eq!(runtime.stats().sum(|cell| &cell.refused), 1);
        assert_eq!(runtime.stats().sum(|cell| &cell.handshake_errors), 1);
        // Its place is free again when it has gone.
        [&mut one, &mut again, &mut rude].into_iter().for_each(|peer| peer.shut(&world.sim));
        world.run("the first one's end", |_| runtime.connections() == 1);
        let mut next = connect(&world, "PROXY TCP4 192.0.2.1 10.0.0.1 1003 80\r\nhello\n");
        world.run("its message", |world| {
            next.push(&world.sim, &mut world.random);
            listener.pull(&world.sim);
            listener.received == b"hello\n"
        });
        // And one that never says who it is costs a bounded time.
        let mute = world.sim.connect(runtime.address);
        world.run_for_ms(limits::HANDSHAKE_MS + 2 * limits::LINGER_MS);
        assert!(world.sim.peer_has_ended(mute) || world.sim.peer_is_reset(mute));
        world.sim.peer_shutdown(mute);
        world.finish()
    });
}
