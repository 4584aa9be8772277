//! Servers: what each client sends reaches every other one once and in order, whatever the kernel does to the bytes.

use super::{Peer, Runtime, World, config, story};
use crate::id::{ConnectionId, RuntimeKind};
use crate::limits;
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::message::{FromWorker, Recipients, ToWorker};
use crate::runtime::{Framing, Mode, RuntimeConfig};

fn server(framing: Framing, mode: Mode) -> RuntimeConfig {
    RuntimeConfig { framing, mode, ..config(RuntimeKind::Server) }
}

/// Message `number` of a client: who, which, and some bytes.
fn message(random: &mut Random, client: u64, number: u64) -> Vec<u8> {
    let bound = if random.chance(50) { 20_000 } else { 40 };
    let filler = random.below(bound) as usize;
    format!("{client}:{number}:{}", "x".repeat(filler)).into_bytes()
}

/// Peers that are known to be served.
fn connect(world: &mut World, runtime: &Runtime, count: u64) -> Vec<Peer> {
    let before = runtime.connections();
    let peers =
        (0..count).map(|_| Peer::new(world.sim.connect(runtime.address), Vec::new())).collect();
    world.run("the connects", |_| runtime.connections() == before + count);
    peers
}

/// The whole messages of a stream.
fn messages(framing: Framing, mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(frame) = framing.next(bytes, 0).expect("nothing is too long") {
        found.push(bytes[frame.message].to_vec());
        bytes = &bytes[frame.consumed..];
    }
    assert!(bytes.is_empty(), "a stream that ends inside a message: {bytes:?}");
    found
}

/// Asserts that `got` is every message of the other clients once, each client's in its order.
fn check_relay(sent: &[Vec<Vec<u8>>], to: usize, got: &[Vec<u8>], whole: bool) {
    let mut next = vec![0; sent.len()];
    for message in got {
        let from: usize = String::from_utf8_lossy(message)
            .split(':')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("messages begin with their sender");
        assert_ne!(from, to, "a client's own message came back");
        assert_eq!(message, &sent[from][next[from]], "{from} to {to}: lost, twice or reordered");
        next[from] += 1;
    }
    for (from, next) in next.into_iter().enumerate().filter(|(from, _)| *from != to && whole) {
        assert_eq!(next, sent[from].len(), "messages from {from} to {to}");
    }
}

fn relay_story(seed: u64, mut random: Random) -> u64 {
    let mut faults = Faults::lossless(&mut random);
    faults.window_bytes = faults.window_bytes.max(1024);
    let framing = [Framing::Lines, Framing::Lines, Framing::Length(2), Framing::Length(4)]
        [random.below(4) as usize];
    let workers = 1 + random.below(3) as u8;
    let mut world = World::new(seed, random, workers, faults);
    let runtime = world.place(server(framing, Mode::InOut), Vec::new(), None);
    let count = 2 + world.random.below(4);
    let mut peers = connect(&mut world, &runtime, count);
    let mut sent = Vec::new();
    for (client, peer) in (0..).zip(&mut peers) {
        let random = &mut world.random;
        let own: Vec<_> = (0..random.below(12)).map(|it| message(random, client, it)).collect();
        for message in &own {
            assert!(framing.write(message, &mut peer.to_send));
        }
        // The last line of the last client comes without its newline, before its end.
        if client == count - 1 && framing == Framing::Lines {
            peer.to_send.pop();
        }
        sent.push(own);
    }
    let total = |sent: &[Vec<Vec<u8>>]| sent.iter().map(Vec::len).sum::<usize>();
    let all = total(&sent);
    world.run("the messages", |world| {
        let (sim, random) = (&world.sim, &mut world.random);
        let index = random.below(count) as usize;
        let peer = &mut peers[index];
        peer.push(sim, random);
        if random.chance(700) {
            peer.pull(sim);
        }
        sim.peer_pause(peer.id, random.chance(200));
        if index as u64 == count - 1 && peer.has_sent_all() && !sent[index].is_empty() {
            peer.shut(sim);
        }
        runtime.stats().sum(|cell| &cell.messages) as usize == all
    });
    for peer in &mut peers {
        world.sim.peer_pause(peer.id, false);
    }
    let last = peers.len() - 1;
    world.run("the relay", |world| {
        peers.iter_mut().enumerate().all(|(to, peer)| {
            peer.pull(&world.sim);
            let bytes = |from: &[Vec<u8>]| -> usize {
                let mut framed = Vec::new();
                from.iter().for_each(|message| assert!(framing.write(message, &mut framed)));
                framed.len()
            };
            let others = sent.iter().enumerate().filter(|(from, _)| *from != to);
            let expected: usize = others.map(|(_, messages)| bytes(messages)).sum();
            peer.received.len() >= expected || peer.is_over(&world.sim)
        })
    });
    for (to, peer) in peers.iter().enumerate() {
        let ended_early = to == last && peer.is_over(&world.sim);
        check_relay(&sent, to, &messages(framing, &peer.received), !ended_early);
    }
    world.finish()
}

#[test]
fn every_message_reaches_every_other_client_once_and_in_order() {
    story(11, 0..200, relay_story);
}

/// Connections that break, come and go while others speak: what arrives is in order and nothing is left over.
#[test]
fn broken_connections_disturb_no_other() {
    story(12, 0..120, |seed, mut random| {
        let faults = Faults::all(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let runtime = world.place(server(Framing::Lines, Mode::InOut), Vec::new(), None);
        let count = 2 + world.random.below(4);
        let mut sent = Vec::new();
        let mut peers: Vec<Peer> = Vec::new();
        for client in 0..count {
            let random = &mut world.random;
            let own: Vec<_> = (0..random.below(12)).map(|it| message(random, client, it)).collect();
            let mut bytes = own.join(&b'\n');
            bytes.push(b'\n');
            sent.push(own);
            peers.push(Peer::new(world.sim.connect(runtime.address), bytes));
        }
        world.run("the messages", |world| {
            let (sim, random) = (&world.sim, &mut world.random);
            let peer = &mut peers[random.below(count) as usize];
            peer.push(sim, random);
            peer.pull(sim);
            sim.peer_pause(peer.id, random.chance(200));
            if peer.has_sent_all() && random.chance(100) {
                if random.chance(300) { sim.peer_reset(peer.id) } else { peer.shut(sim) }
            }
            peers.iter().all(|peer| peer.has_sent_all() && peer.is_over(sim))
        });
        for peer in &mut peers {
            peer.pull(&world.sim);
            let end = peer.received.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut next = vec![0; peers_of(&sent)];
            for line in messages(Framing::Lines, &peer.received[..end]) {
                let text = String::from_utf8_lossy(&line).into_owned();
                let mut parts = text.split(':').map(|part| part.parse::<usize>());
                let (Some(Ok(from)), Some(Ok(number))) = (parts.next(), parts.next()) else {
                    // The last line of a stream that was cut by its own client's end.
                    continue;
                };
                assert!(number >= next[from], "{from}: {number} after {}", next[from]);
                next[from] = number + 1;
            }
        }
        world.finish()
    });
}

fn peers_of(sent: &[Vec<Vec<u8>>]) -> usize {
    sent.len()
}

#[test]
fn raw_bytes_go_to_the_others_as_they_come() {
    story(13, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let workers = 1 + random.below(2) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let runtime = world.place(server(Framing::Raw, Mode::InOut), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 2);
        for peer in &mut peers {
            let count = world.random.below(3_000);
            peer.to_send = (0..count).map(|_| world.random.next_u64() as u8).collect();
        }
        world.run("raw bytes", |world| {
            for peer in &mut peers {
                peer.push(&world.sim, &mut world.random);
                peer.pull(&world.sim);
            }
            peers[0].received.len() >= peers[1].to_send.len()
                && peers[1].received.len() >= peers[0].to_send.len()
        });
        assert!(peers[0].received == peers[1].to_send && peers[1].received == peers[0].to_send);
        world.finish()
    });
}

/// `echo` answers each client with its own messages, nobody else's, whatever the network does to them.
#[test]
fn echo_gives_back_what_came() {
    story(114, 0..20, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        let runtime = world.place(server(Framing::Lines, Mode::Echo), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 3);
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.to_send = (0..50).flat_map(|n| format!("{index}: {n}\n").into_bytes()).collect();
        }
        let expected: Vec<Vec<u8>> = peers.iter().map(|peer| peer.to_send.clone()).collect();
        world.run("the echoes", |world| {
            for peer in &mut peers {
                peer.push(&world.sim, &mut world.random);
                peer.pull(&world.sim);
            }
            peers.iter().zip(&expected).all(|(peer, lines)| peer.received.len() >= lines.len())
        });
        assert!(peers.iter().zip(&expected).all(|(peer, lines)| peer.received == *lines));
        world.finish()
    });
}

/// `in` hears and says nothing by itself, `out` doesn't hear; both send what they are told to send.
#[test]
fn modes_bound_who_speaks() {
    story(14, 0..30, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mode = [Mode::In, Mode::Out][random.below(2) as usize];
        let mut world = World::new(seed, random, 2, faults);
        let runtime = world.place(server(Framing::Lines, mode), Vec::new(), None);
        for worker in 0..2 {
            world.tell(worker, ToWorker::Observe { runtime: runtime.id(), on: true });
        }
        let mut peers = connect(&mut world, &runtime, 3);
        peers[0].to_send = b"one\ntwo\n".to_vec();
        world.run("the messages", |world| {
            peers[0].push(&world.sim, &mut world.random);
            runtime.stats().sum(|cell| &cell.messages) == 2
        });
        let heard = |message: &FromWorker| matches!(message, FromWorker::Message { .. });
        let heard = world.heard.iter().filter(|message| heard(message)).count();
        assert_eq!(heard, if mode == Mode::In { 2 } else { 0 });
        let requests: Vec<u64> =
            (0..2).map(|worker| world.send(worker, runtime.id(), b"hello")).collect();
        world.run("the message to all", |world| {
            peers.iter_mut().for_each(|peer| peer.pull(&world.sim));
            peers.iter().all(|peer| peer.received.len() >= 6)
        });
        assert!(peers.iter().all(|peer| peer.received == b"hello\n"));
        let count: u64 = requests.iter().map(|request| world.answers[request].1).sum();
        assert_eq!(count, 3);
        world.finish()
    });
}

/// A line without end costs its sender the connection, the others nothing.
#[test]
fn an_overlong_line_closes_its_connection_only() {
    story(15, 0..6, |seed, mut random| {
        let faults = Faults { window_bytes: 1 << 18, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 2, faults);
        let runtime = world.place(server(Framing::Lines, Mode::InOut), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 3);
        let long = limits::LINE_BYTES_MAX + 1 + world.random.below(1000) as usize;
        peers[0].to_send = [&b"before\n"[..], &vec![b'x'; long], b"\nafter\n"].concat();
        world.run("the overlong line", |world| {
            peers[0].push(&world.sim, &mut world.random);
            peers[0].is_over(&world.sim)
        });
        peers[1].to_send = b"still here\n".to_vec();
        world.run("the line after it", |world| {
            peers[1].push(&world.sim, &mut world.random);
            peers[2].pull(&world.sim);
            peers[2].received.ends_with(b"here\n")
        });
        assert_eq!(peers[2].received, b"before\nstill here\n");
        assert_eq!(runtime.stats().sum(|cell| &cell.protocol_errors), 1);
        assert_eq!(runtime.connections(), 2);
        world.finish()
    });
}

/// A client that doesn't read is closed at the outbox's bound; one that does gets everything.
#[test]
fn a_client_that_never_reads_is_closed_at_the_bound() {
    story(16, 0..1, |seed, random| {
        let faults = Faults { window_bytes: 1 << 20, ..Faults::NONE };
        let mut world = World::new(seed, random, 1, faults);
        let runtime = world.place(server(Framing::Raw, Mode::InOut), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 2);
        world.sim.peer_pause(peers[0].id, true);
        let big = vec![b'y'; 4 << 20];
        let mut most = 0;
        for _ in 0..limits::OUTBOX_MAX_BYTES / big.len() + 3 {
            let request = world.send(0, runtime.id(), &big);
            world.run("the message", |world| world.answers.contains_key(&request));
            world.each_connection(|it| most = most.max(it.outbox.bytes()));
            peers[1].received.clear();
            let mut got = 0;
            world.run("the reader", |world| {
                got += world.sim.peer_received(peers[1].id).len();
                got == big.len()
            });
        }
        assert!(most <= limits::OUTBOX_MAX_BYTES + big.len(), "{most} bytes waited");
        assert_eq!(runtime.stats().sum(|cell| &cell.slow_closed), 1);
        assert_eq!(runtime.connections(), 1);
        world.finish()
    });
}

#[test]
fn more_clients_than_allowed_are_turned_away() {
    story(17, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let limit = 1 + world.random.below(3);
        let config =
            RuntimeConfig { max_connections: limit as u32, ..server(Framing::Lines, Mode::InOut) };
        let runtime = world.place(config, Vec::new(), None);
        for _ in 0..3 {
            let before = runtime.stats().sum(|cell| &cell.refused);
            let extra = 1 + world.random.below(3);
            let mut peers: Vec<Peer> = (0..limit + extra)
                .map(|_| Peer::new(world.sim.connect(runtime.address), Vec::new()))
                .collect();
            world.run("the refusals", |world| {
                assert!(runtime.connections() <= limit);
                let over = peers.iter().filter(|peer| peer.is_over(&world.sim)).count();
                runtime.connections() == limit && over as u64 == extra
            });
            assert_eq!(runtime.stats().sum(|cell| &cell.refused) - before, extra);
            for peer in &mut peers {
                peer.shut(&world.sim);
            }
            world.run("the ends", |_| runtime.connections() == 0);
        }
        world.finish()
    });
}

/// What was given to the server before a stop reaches its clients, also the slow ones that read within the drain time.
#[test]
fn a_stop_sends_what_was_given_before_it() {
    story(18, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        let runtime = world.place(server(Framing::Lines, Mode::InOut), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 3);
        for peer in &peers {
            world.sim.peer_pause(peer.id, world.random.chance(500));
        }
        let text = vec![b'z'; world.random.below(3_000) as usize + 1];
        for worker in 0..2 {
            world.send(worker, runtime.id(), &text);
        }
        let reading = peers.iter().map(|peer| peer.id).collect::<Vec<_>>();
        let sim = world.sim.clone();
        let mut stopped = Vec::new();
        for worker in 0..2 {
            let request = world.request();
            stopped.push(request);
            let runtime = runtime.id();
            world.tell(worker, ToWorker::Stop { request, runtime, drain_ms: 60_000 });
        }
        world.run("the stop", |world| {
            let peer = reading[world.random.below(3) as usize];
            sim.peer_pause(peer, false);
            for peer in &mut peers {
                peer.pull(&sim);
                if peer.is_over(&sim) && world.random.chance(100) {
                    peer.shut(&sim);
                }
            }
            stopped.iter().all(|request| world.answers.contains_key(request))
        });
        for peer in &mut peers {
            peer.pull(&sim);
            assert_eq!(peer.received.len(), text.len() + 1);
            assert!(sim.peer_has_ended(peer.id));
        }
        world.finish()
    });
}

/// The id of a connection that has ended names nobody, also when its slot is in use again.
#[test]
fn ids_of_closed_connections_name_nobody() {
    story(19, 0..30, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let runtime = world.place(server(Framing::Lines, Mode::InOut), Vec::new(), None);
        let mut ids: Vec<ConnectionId> = Vec::new();
        for round in 0..4 {
            let mut peers = connect(&mut world, &runtime, 1);
            let mut now = Vec::new();
            world.each_connection(|it| now.extend((!it.ended).then_some(it.id)));
            let [id] = now[..] else { panic!("one connection is open: {now:?}") };
            assert!(!ids.contains(&id), "an id is used again");
            let requests: Vec<(u64, u64)> = ids
                .iter()
                .map(|old| (*old, 0))
                .chain([(id, 1)])
                .map(|(id, count)| {
                    let (request, to) = (world.request(), Recipients::One(id));
                    let bytes = format!("round {round}").into_bytes().into();
                    world.tell(
                        0,
                        ToWorker::Send { request, runtime: runtime.id(), to, bytes, kind: None },
                    );
                    (request, count)
                })
                .collect();
            world.run("the answers", |world| {
                requests.iter().all(|(request, _)| world.answers.contains_key(request))
            });
            for (request, count) in requests {
                assert_eq!(world.answers[&request].1, count);
            }
            peers[0].shut(&world.sim);
            world.run("the end", |world| peers[0].is_over(&world.sim));
            peers[0].pull(&world.sim);
            assert_eq!(peers[0].received, format!("round {round}\n").into_bytes());
            ids.push(id);
        }
        world.finish()
    });
}
