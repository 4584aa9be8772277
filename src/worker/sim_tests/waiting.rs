//! Caches' clients that wait for what clients of other workers do.

use super::world::{self, World};
use super::{Peer, Runtime, config, story};
use crate::id::RuntimeKind;
use crate::proto::resp::{ReplyReader, Value};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::store::SharedStore;

const QUEUES: u64 = 3;

/// Replies in order.
fn replies(mut bytes: &[u8]) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some((value, len)) = ReplyReader::default().read(bytes).expect("well-formed replies")
    {
        all.push(value);
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty(), "half a reply is left");
    all
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no byte string: {other:?}"),
    }
}

/// Pops from one or more queues, the last command ends the connection.
fn consumer(random: &mut Random, pops: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..pops {
        let timeout = ["0.01", "0.3", "2"][random.below(3) as usize];
        let (first, second) = (random.below(QUEUES), random.below(QUEUES));
        let line = match random.below(4) {
            0 => format!("BLPOP q{first} {timeout}\r\n"),
            1 => format!("BLPOP q{first} q{second} {timeout}\r\n"),
            2 => format!("BRPOP q{first} q{second} {timeout}\r\n"),
            _ => format!("BLMPOP {timeout} 2 q{first} q{second} LEFT\r\n"),
        };
        bytes.extend(line.bytes());
    }
    bytes.extend(b"QUIT\r\n");
    bytes
}

/// Pushes elements that nobody else pushes.
fn producer(random: &mut Random, number: u64, pushes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..pushes {
        let queue = random.below(QUEUES);
        let element = format!("e{number}-{at}");
        let line = match random.below(4) {
            0 => format!("MULTI\r\nLPUSH q{queue} {element}\r\nEXEC\r\n"),
            1 => {
                format!("RPUSH own{number} {element}\r\nLMOVE own{number} q{queue} LEFT RIGHT\r\n")
            }
            _ => format!("RPUSH q{queue} {element}\r\n"),
        };
        bytes.extend(line.bytes());
    }
    bytes.extend(b"QUIT\r\n");
    bytes
}

fn run_peers(world: &mut World, runtime: &Runtime, scripts: Vec<Vec<u8>>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = scripts
        .into_iter()
        .map(|script| Peer::new(world.sim.connect(runtime.address), script))
        .collect();
    let count = peers.len() as u64;
    world.run("the clients' commands", |world| {
        let index = world.random.below(count) as usize;
        peers[index].push(&world.sim, &mut world.random);
        let mut all = true;
        for peer in &mut peers {
            peer.pull(&world.sim);
            let over = peer.has_sent_all() && peer.is_over(&world.sim);
            if over {
                peer.shut(&world.sim);
            }
            all &= over;
        }
        all
    });
    peers
}

/// What is left in the queues.
fn left(store: &SharedStore) -> Vec<String> {
    let mut session = store.session(0);
    let mut all = Vec::new();
    for queue in 0..QUEUES {
        let mut out = Vec::new();
        let key = format!("q{queue}");
        store.call(&mut session, &[b"LRANGE", key.as_bytes(), b"0", b"-1"], 0, &mut out);
        if let [Value::Array(elements)] = replies(&out).as_slice() {
            all.extend(elements.iter().map(text));
        }
    }
    all
}

/// Every element goes to exactly one consumer, or is still there; every command has its reply.
#[test]
fn elements_are_popped_once_wherever_the_clients_are() {
    story(6, 0..120, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let store = world::store(seed, None);
        let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store.clone()));
        let random = &mut world.random;
        let pops: Vec<u64> = (0..1 + random.below(5)).map(|_| random.below(8)).collect();
        let pushes: Vec<u64> = (0..1 + random.below(3)).map(|_| random.below(8)).collect();
        let mut scripts: Vec<Vec<u8>> = pops.iter().map(|count| consumer(random, *count)).collect();
        scripts.extend((0..).zip(&pushes).map(|(number, count)| producer(random, number, *count)));
        let peers = run_peers(&mut world, &runtime, scripts);
        let mut popped = left(&store);
        for (peer, count) in peers.iter().zip(&pops) {
            let replies = replies(&peer.received);
            assert_eq!(replies.len() as u64, count + 1, "a reply for every command");
            for reply in &replies[..*count as usize] {
                match reply {
                    Value::Null => {}
                    Value::Array(pair) => match &pair[1] {
                        Value::Array(elements) => popped.extend(elements.iter().map(text)),
                        element => popped.push(text(element)),
                    },
                    other => panic!("not a popped element: {other:?}"),
                }
            }
        }
        popped.sort_unstable();
        let mut pushed: Vec<String> = (0..)
            .zip(&pushes)
            .flat_map(|(number, count)| (0..*count).map(move |at| format!("e{number}-{at}")))
            .collect();
        pushed.sort_unstable();
        assert_eq!(popped, pushed);
        assert!(store.lock(0).instance.blocked.is_empty());
        world.finish()
    });
}

/// A client that waits and goes away, in any way, waits no more, and what comes later is somebody else's.
#[test]
fn who_goes_away_waits_no_more() {
    story(7, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let store = world::store(seed, None);
        let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store.clone()));
        let waiting = |count: usize| {
            let store = store.clone();
            move |_: &mut World| store.lock(0).instance.blocked.len() == count
        };
        let first = world.sim.connect(runtime.address);
        world.sim.peer_send(first, b"BLPOP q0 0\r\nPING\r\n");
        world.run("the first waits", waiting(1));
        let mut second =
            Peer::new(world.sim.connect(runtime.address), b"BLPOP q0 0\r\nPING\r\n".to_vec());
        world.run("the second waits", |world| {
            second.push(&world.sim, &mut world.random);
            store.lock(0).instance.blocked.len() == 2
        });
        match world.random.below(2) {
            0 => world.sim.peer_reset(first),
            _ => world.sim.peer_shutdown(first),
        }
        world.run("the first goes", waiting(1));
        let third = world.sim.connect(runtime.address);
        world.sim.peer_send(third, b"RPUSH q0 x\r\n");
        let expected = b"*2\r\n$2\r\nq0\r\n$1\r\nx\r\n+PONG\r\n";
        world.run("the element's arrival", |world| {
            second.pull(&world.sim);
            second.received.len() >= expected.len()
        });
        assert_eq!(second.received, expected);
        world.finish()
    });
}

/// CLIENT PAUSE and UNPAUSE from one worker to the clients of another; nothing is executed twice.
#[test]
fn a_pause_delays_commands_of_all_workers() {
    story(8, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let store = world::store(seed, None);
        let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store.clone()));
        let random = &mut world.random;
        let mut scripts = Vec::new();
        let mut count = 0;
        for _ in 0..1 + random.below(4) {
            let mut script = Vec::new();
            for _ in 0..random.below(10) {
                script.extend(b"INCR n\r\n");
                count += 1;
                if random.chance(300) {
                    let mode = ["", " WRITE", " ALL"][random.below(3) as usize];
                    script.extend(format!("CLIENT PAUSE {}{mode}\r\n", random.below(300)).bytes());
                }
                if random.chance(200) {
                    script.extend(b"CLIENT UNPAUSE\r\n");
                }
            }
            script.extend(b"QUIT\r\n");
            scripts.push(script);
        }
        let lines: Vec<usize> =
            scripts.iter().map(|script| script.split(|byte| *byte == b'\n').count() - 1).collect();
        let peers = run_peers(&mut world, &runtime, scripts);
        for (peer, lines) in peers.iter().zip(lines) {
            assert_eq!(replies(&peer.received).len(), lines);
        }
        let mut out = Vec::new();
        let mut session = store.session(0);
        store.call(&mut session, &[b"INCRBY", b"n", b"0"], 0, &mut out);
        assert_eq!(out, format!(":{count}\r\n").into_bytes());
        world.finish()
    });
}
