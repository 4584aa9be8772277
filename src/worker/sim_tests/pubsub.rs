//! Caches' channels between clients of several workers.

use super::world::{self, World};
use super::{Peer, Runtime, config, story};
use crate::id::RuntimeKind;
use crate::proto::resp::{ReplyReader, Value};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::store::pubsub::Scope;

fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((value, len)) = ReplyReader::default().read(bytes).expect("well-formed messages")
    {
        let (Value::Array(parts) | Value::Push(parts)) = &value else { panic!("{value:?}") };
        if parts[0] == Value::Bulk(b"message".to_vec()) {
            let Value::Bulk(text) = &parts[2] else { panic!("{value:?}") };
            all.push(String::from_utf8_lossy(text).into_owned());
        }
        bytes = &bytes[len..];
    }
    all
}

fn start(random: Random, seed: u64, window_bytes: Option<usize>) -> (World, Runtime) {
    let mut random = random;
    let mut faults = Faults::lossless(&mut random);
    if let Some(window_bytes) = window_bytes {
        faults.window_bytes = window_bytes;
    }
    let workers = 1 + random.below(3) as u8;
    let mut world = World::new(seed, random, workers, faults);
    let runtime =
        world.place(config(RuntimeKind::Cache), Vec::new(), Some(world::store(seed, None)));
    (world, runtime)
}

/// Clients that have subscribed.
fn listeners(world: &mut World, runtime: &Runtime, count: usize) -> Vec<Peer> {
    let store = runtime.placement.store.clone().expect("a cache has a store");
    let peers: Vec<Peer> =
        (0..count).map(|_| Peer::new(world.sim.connect(runtime.address), Vec::new())).collect();
    for peer in &peers {
        let greeting: &[u8] = if world.random.chance(500) { b"HELLO 3\r\n" } else { b"" };
        world.sim.peer_send(peer.id, &[greeting, b"SUBSCRIBE c\r\n"].concat());
    }
    world.run("the subscriptions", |_| {
        store.lock(0).instance.pubsub.listeners(Scope::Channel, b"c") == count
    });
    peers
}

const CONFIRMED: &[u8] = b"subscribe\r\n$1\r\nc\r\n:1\r\n";

/// What came after the confirmation, once it is there.
fn after_confirmation(bytes: &[u8]) -> Option<&[u8]> {
    let head = &bytes[..bytes.len().min(400)];
    let at = head.windows(CONFIRMED.len()).position(|window| window == CONFIRMED)?;
    Some(&bytes[at + CONFIRMED.len()..])
}

/// A message of channel `c` has the same length in both protocol versions.
fn message_bytes(text: &str) -> usize {
    format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{text}\r\n", text.len()).len()
}

/// All listeners hear everything, in the same order, each publisher's messages in theirs.
#[test]
fn everybody_hears_the_same_in_the_same_order() {
    story(9, 0..40, |seed, random| {
        let (mut world, runtime) = start(random, seed, None);
        let count = 1 + world.random.below(4) as usize;
        let mut listening = listeners(&mut world, &runtime, count);
        let (publishers, each) = (1 + world.random.below(3), world.random.below(10));
        let size = if world.random.chance(300) { 700 } else { 1 };
        let text = |number: u64, at: u64| format!("{number}.{at}.{}", "x".repeat(size));
        let mut expected = 0;
        let mut speaking = Vec::new();
        for number in 0..publishers {
            let texts: Vec<String> = (0..each).map(|at| text(number, at)).collect();
            expected += texts.iter().map(|text| message_bytes(text)).sum::<usize>();
            let lines: String = texts.iter().map(|text| format!("PUBLISH c {text}\r\n")).collect();
            speaking.push(Peer::new(world.sim.connect(runtime.address), lines.into_bytes()));
        }
        world.run("the messages", |world| {
            for peer in &mut speaking {
                peer.push(&world.sim, &mut world.random);
            }
            listening.iter_mut().for_each(|peer| peer.pull(&world.sim));
            let all = |peer: &Peer| {
                after_confirmation(&peer.received).is_some_and(|rest| rest.len() >= expected)
            };
            listening.iter().all(all)
        });
        world.run_for_ms(10);
        let heard: Vec<Vec<String>> = listening
            .iter_mut()
            .map(|peer| {
                peer.pull(&world.sim);
                messages(after_confirmation(&peer.received).expect("a confirmation"))
            })
            .collect();
        for one in &heard {
            assert_eq!(one, &heard[0]);
            assert_eq!(one.len() as u64, publishers * each);
        }
        for number in 0..publishers {
            let start = format!("{number}.");
            let own = heard[0].iter().filter(|message| message.starts_with(&start));
            assert!(own.cloned().eq((0..each).map(|at| text(number, at))), "in their order");
        }
        world.finish()
    });
}

/// A listener that doesn't read is closed at its class's limit; the others hear everything.
#[test]
fn who_does_not_read_is_closed_and_nobody_else_waits() {
    story(10, 0..12, |seed, random| {
        let (mut world, runtime) = start(random, seed, Some(1 << 14));
        let store = runtime.placement.store.clone().expect("a cache has a store");
        let soft = world.random.chance(500);
        let limits: &[u8] = if soft { b"pubsub 0 100kb 1" } else { b"pubsub 200kb 0 0" };
        let mut session = store.session(0);
        let mut out = Vec::new();
        let set = [b"CONFIG".as_slice(), b"SET", b"client-output-buffer-limit", limits];
        store.call(&mut session, &set, 0, &mut out);
        assert_eq!(out, b"+OK\r\n");
        let mut listening = listeners(&mut world, &runtime, 2);
        let lazy = listening.remove(0);
        world.sim.peer_pause(lazy.id, true);
        let count = 30;
        let text = "x".repeat(10_000);
        let line = format!("PUBLISH c {text}\r\n");
        let speaking = world.sim.connect(runtime.address);
        // One at a time: who reads is never behind by more than one.
        let mut sent = 0;
        world.run("the messages and the close", |world| {
            listening[0].pull(&world.sim);
            world.sim.peer_received(speaking);
            let rest = after_confirmation(&listening[0].received).map_or(0, <[u8]>::len);
            if sent < count && rest == sent * message_bytes(&text) {
                world.sim.peer_send(speaking, line.as_bytes());
                sent += 1;
            }
            rest == count * message_bytes(&text) && runtime.connections() == 2
        });
        let mut heard = 0;
        world.each_connection(|it| heard = heard.max(it.outbox.bytes()));
        assert!(heard < 1 << 20, "{heard} bytes wait");
        world.finish()
    });
}
