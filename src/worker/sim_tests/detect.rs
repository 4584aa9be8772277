//! What a client speaks is told from its first bytes, however they are cut, and silence is a kind of speech too.

use super::apps::load;
use super::{Peer, World, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::message::ToWorker;
use crate::runtime::{Placement, Protocol};

const APP: &str = r#"
server "s" {
  on_connect = function(conn) socketley.log("connect") WELCOME end,
  on_disconnect = function() socketley.log("disconnect") end,
  on_message = function(conn, msg) conn:send("got " .. msg) end,
}
"#;

fn start(seed: u64, mut random: Random, protocol: Protocol, welcomes: bool) -> World {
    let faults = Faults::lossless(&mut random);
    let mut world = World::new(seed, random, 1, faults);
    let welcome = if welcomes { "conn:send('welcome')" } else { "" };
    load(&mut world, &APP.replace("WELCOME", welcome), &[RuntimeKind::Server], &[]);
    place_as(&mut world, protocol);
    world
}

/// The app's runtime, with another protocol.
fn place_as(world: &mut World, protocol: Protocol) {
    let placement = &mut world.runtimes[0].placement;
    let config = crate::runtime::RuntimeConfig { protocol, ..(*placement.config).clone() };
    placement.config = std::sync::Arc::new(config);
    let placement: Placement = placement.clone();
    let request = world.request();
    world.tell(0, ToWorker::Place { request, placement });
    world.run("the placement", |world| world.answers.contains_key(&request));
}

fn connect(world: &World, text: &[u8]) -> Peer {
    Peer::new(world.sim.connect(world.runtimes[0].address), text.to_vec())
}

fn hear(world: &mut World, peer: &mut Peer, wanted: &str) {
    world.run("an answer", |world| {
        peer.push(&world.sim, &mut world.random);
        peer.pull(&world.sim);
        peer.received.ends_with(wanted.as_bytes()) || peer.is_over(&world.sim)
    });
    assert_eq!(String::from_utf8_lossy(&peer.received), wanted);
}

fn count(world: &World, text: &str) -> usize {
    world.logs.iter().filter(|line| line.as_str() == text).count()
}

/// The original accepted a client that only listens after a second, and lost what was sent to it before.
#[test]
fn a_client_that_only_listens_is_met_after_a_short_silence() {
    story(40, 0..30, |seed, random| {
        let mut world = start(seed, random, Protocol::Auto, true);
        let mut peer = connect(&world, b"");
        let runtime = world.runtimes[0].clone();
        world.run("the connect", |_| runtime.connections() == 1);
        let before_ms = world.sim.now().monotonic_ms();
        let request = world.send(0, runtime.id(), b"news");
        world.run("a broadcast", |world| world.answers.contains_key(&request));
        assert_eq!(world.answers[&request].1, 1);
        hear(&mut world, &mut peer, "news\nwelcome\n");
        let waited_ms = world.sim.now().monotonic_ms() - before_ms;
        assert!(waited_ms <= limits::DETECT_MS + 2000, "{waited_ms} ms");
        peer.to_send = b"hello\n".to_vec();
        hear(&mut world, &mut peer, "news\nwelcome\ngot hello\n");
        peer.shut(&world.sim);
        world.run("the goodbye", |world| count(world, "disconnect") == 1);
        assert_eq!(count(&world, "connect"), 1);
        world.finish()
    });
}

/// A browser connects in advance and speaks later.
#[test]
fn http_after_a_silence_is_http_unless_messages_were_sent() {
    story(41, 0..40, |seed, random| {
        let welcomes = seed.is_multiple_of(2);
        let mut world = start(seed, random, Protocol::Auto, welcomes);
        let mut peer = connect(&world, b"");
        world.run("the announcement", |world| count(world, "connect") == 1);
        peer.to_send = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        world.run("an answer or an end", |world| {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            peer.received.ends_with(b"\r\n\r\n") || peer.is_over(&world.sim)
        });
        let text = String::from_utf8_lossy(&peer.received).into_owned();
        assert!(text.starts_with(if welcomes { "welcome\n" } else { "HTTP/1.1 404 " }), "{text}");
        assert_eq!(text.contains("HTTP/"), !welcomes, "{text}");
        peer.shut(&world.sim);
        world.run("the end", |world| world.runtimes[0].connections() == 0);
        world.run("the goodbye", |world| count(world, "disconnect") == 1);
        world.finish()
    });
}

/// A page in a browser can make it send any body to any port.
#[test]
fn http_never_reaches_pinned_lines() {
    story(42, 0..40, |seed, random| {
        let mut world = start(seed, random, Protocol::Messages, false);
        let body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nrm -rf *\n";
        let mut peer = connect(&world, body);
        world.run("the end", |world| {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            peer.is_over(&world.sim)
        });
        assert_eq!(String::from_utf8_lossy(&peer.received), "");
        let errors = world.runtimes[0].stats().sum(|cell| &cell.protocol_errors);
        assert_eq!(errors, 1);
        world.finish()
    });
}

/// Lines on `auto`: whole, cut anywhere, without a newline before the end.
#[test]
fn lines_are_lines_however_they_are_cut() {
    story(43, 0..40, |seed, random| {
        let mut world = start(seed, random, Protocol::Auto, false);
        let mut peer = connect(&world, b"GET up stand up\nGET /\nlast");
        let runtime = world.runtimes[0].clone();
        world.run("the lines", |world| {
            peer.push(&world.sim, &mut world.random);
            if peer.has_sent_all() {
                peer.shut(&world.sim);
            }
            peer.pull(&world.sim);
            peer.is_over(&world.sim)
        });
        let text = String::from_utf8_lossy(&peer.received).into_owned();
        assert_eq!(text, "got GET up stand up\ngot GET /\ngot last\n");
        world.run("the end", |_| runtime.connections() == 0);
        world.finish()
    });
}
