//! Who may speak: masters of servers, over several workers.

use super::{Peer, Runtime, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::sim::Faults;
use crate::runtime::{Mode, RuntimeConfig};

fn server(forward: bool) -> RuntimeConfig {
    RuntimeConfig {
        mode: Mode::Master,
        master_password: Some("open sesame".to_owned()),
        master_forward: forward,
        ..config(RuntimeKind::Server)
    }
}

fn connect(world: &mut World, runtime: &Runtime, count: usize) -> Vec<Peer> {
    let peers: Vec<Peer> =
        (0..count).map(|_| Peer::new(world.sim.connect(runtime.address), Vec::new())).collect();
    world.run("connecting", |_| runtime.connections() == count as u64);
    peers
}

fn say(world: &mut World, peer: &mut Peer, line: &str) {
    peer.to_send.extend(line.bytes());
    peer.to_send.push(b'\n');
    world.run("saying", |world| {
        peer.push(&world.sim, &mut world.random);
        peer.has_sent_all()
    });
}

/// Waits until a peer has heard just this.
fn hears(world: &mut World, peer: &mut Peer, text: &str) {
    world.run(text, |world| {
        peer.pull(&world.sim);
        peer.received.len() >= text.len()
    });
    assert_eq!(String::from_utf8_lossy(&std::mem::take(&mut peer.received)), text);
}

#[test]
fn only_the_master_speaks_and_the_last_with_the_password_is_it() {
    story(221, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 3, faults);
        let runtime = world.place(server(false), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 4);
        say(&mut world, &mut peers[1], "nobody hears this");
        world.run("dropping", |_| runtime.stats().sum(|cell| &cell.dropped) == 1);
        say(&mut world, &mut peers[0], "master open sesame");
        hears(&mut world, &mut peers[0], "master: ok\n");
        say(&mut world, &mut peers[0], "all listen");
        for peer in &mut peers[1..] {
            hears(&mut world, peer, "all listen\n");
        }
        say(&mut world, &mut peers[1], "nor this");
        say(&mut world, &mut peers[2], "master open sesame");
        hears(&mut world, &mut peers[2], "master: ok\n");
        hears(&mut world, &mut peers[0], "master: replaced\n");
        say(&mut world, &mut peers[0], "I am nobody now");
        world.run("dropping", |_| runtime.stats().sum(|cell| &cell.dropped) == 3);
        // A master that leaves leaves nobody in its place.
        peers[2].shut(&world.sim);
        world.run("leaving", |_| runtime.connections() == 3);
        assert_eq!(runtime.stats().master.holder(), None);
        world.run_for_ms(100);
        for peer in &mut peers {
            peer.pull(&world.sim);
            assert!(peer.received.is_empty(), "{:?}", String::from_utf8_lossy(&peer.received));
        }
        world.finish()
    });
}

#[test]
fn what_others_say_reaches_the_master_if_it_shall() {
    story(222, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        let runtime = world.place(server(true), Vec::new(), None);
        let mut peers = connect(&mut world, &runtime, 3);
        say(&mut world, &mut peers[2], "master open sesame");
        hears(&mut world, &mut peers[2], "master: ok\n");
        say(&mut world, &mut peers[0], "help");
        let master = &mut peers[2];
        world.run("forwarding", |world| {
            master.pull(&world.sim);
            master.received.ends_with(b"\n")
        });
        let got = String::from_utf8(std::mem::take(&mut master.received)).expect("it is text");
        let id = got.strip_prefix('[').and_then(|rest| rest.strip_suffix("] help\n"));
        assert!(id.is_some_and(|id| id.parse::<u64>().is_ok()), "{got}");
        peers[1].pull(&world.sim);
        assert!(peers[1].received.is_empty(), "it is for the master only");
        world.finish()
    });
}

/// The original's password was gone after a restart, and N zero bytes opened; here nothing but the password does.
#[test]
fn guessing_is_slow_for_a_connection_and_for_an_address() {
    story(223, 0..20, |seed, random| {
        let mut world = World::new(seed, random, 2, Faults::NONE);
        let runtime = world.place(server(false), Vec::new(), None);
        let wrong = ["", "open", "open sesame ", "\0\0\0\0\0\0\0\0\0\0\0", "OPEN SESAME"];
        let mut peers = connect(&mut world, &runtime, 3);
        for (number, peer) in peers[..2].iter_mut().enumerate() {
            for password in wrong {
                say(&mut world, peer, &format!("master {password}"));
                hears(&mut world, peer, "master: denied\n");
            }
            world.run("being closed", |world| peer.is_over(&world.sim));
            assert_eq!(runtime.stats().master.holder(), None, "round {number}");
        }
        // All peers of a story have one address: it has had its tries, even the right word isn't looked at.
        say(&mut world, &mut peers[2], "master open sesame");
        hears(&mut world, &mut peers[2], "master: denied\n");
        let last = &mut peers[2];
        world.run("being closed", |world| last.is_over(&world.sim));
        world.run_for_ms(limits::MASTER_TRIES_MS);
        let mut late = connect(&mut world, &runtime, 1);
        say(&mut world, &mut late[0], "master open sesame");
        hears(&mut world, &mut late[0], "master: ok\n");
        world.finish()
    });
}
