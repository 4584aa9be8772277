//! TLS in front of runtimes on a network that splits and delays: every byte once, ends that are ends, cuts that are cuts.
//!
//! What TLS draws by chance isn't the seed's, so these runs don't repeat byte by byte: their digest is left out.

use super::{Peer, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::net::Outbox;
use crate::net::tls::tests::Certificates;
use crate::net::tls::{Room, Session, Tls};
use crate::ring::random::Random;
use crate::ring::sim::{Faults, PeerId, Sim};
use crate::runtime::{Backend, Framing, RuntimeConfig};

/// A client that speaks TLS over a simulated socket.
struct Client {
    peer: Peer,
    session: Session,
    outbox: Outbox,
    room: Room,
    heard: Vec<u8>,
    ended: bool,
}

impl Client {
    fn connect(world: &World, address: std::net::SocketAddr, tls: &Tls) -> Client {
        Client {
            peer: Peer::new(world.sim.connect(address), Vec::new()),
            session: tls.dial("localhost").expect("it works in a story"),
            outbox: Outbox::new(),
            room: Room::default(),
            heard: Vec::new(),
            ended: false,
        }
    }

    fn id(&self) -> PeerId {
        self.peer.id
    }

    /// Sends a random piece of what it has to say, and hears what there is.
    fn turn(&mut self, sim: &Sim, random: &mut Random) {
        while let Some(chunks) =
            self.session.take_send(&mut self.outbox).expect("it works in a story")
        {
            let all: Vec<u8> = chunks.list.iter().flat_map(|c| c.bytes().to_vec()).collect();
            self.peer.to_send.extend_from_slice(&all[chunks.sent..]);
            self.session.on_sent(Ok(all.len() - chunks.sent), chunks).expect("it works in a story");
        }
        self.peer.push(sim, random);
        let received = sim.peer_received(self.peer.id);
        if !received.is_empty() {
            let progress =
                self.session.receive(&received, &mut self.room).expect("it works in a story");
            self.heard.extend_from_slice(&self.room.plain);
            self.ended |= progress.ended;
        }
    }

    /// Says that nothing more comes, as TLS says it.
    fn close(&mut self) {
        self.session.close();
    }
}

fn certificates() -> (Certificates, Tls, Tls) {
    let files = Certificates::make();
    let server = files.server("localhost").load(false, None).expect("it works in a story");
    let client = files.client().load(true, None).expect("it works in a story");
    (files, server, client)
}

#[test]
fn lines_cross_a_server_whole_and_a_cut_one_is_none() {
    let (_files, tls, client) = certificates();
    story(101, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        world.tls = tls.clone();
        let runtime = world.place(config(RuntimeKind::Server), Vec::new(), None);
        let mut one = Client::connect(&world, runtime.address, &client);
        let mut other = Client::connect(&world, runtime.address, &client);
        world.run("the handshakes", |world| {
            one.turn(&world.sim, &mut world.random);
            other.turn(&world.sim, &mut world.random);
            let both = one.session.is_established() && other.session.is_established();
            let mut open = 0;
            world.each_connection(|it| open += usize::from(!it.is_opening()));
            both && open == 2
        });
        let lines: String =
            (0..1 + world.random.below(300)).map(|n| format!("line {n}\n")).collect();
        one.outbox.append(lines.as_bytes());
        one.outbox.append(b"half a l");
        let is_closed = world.random.chance(500);
        let whole = if is_closed { lines.clone() + "half a l\n" } else { lines.clone() };
        if is_closed {
            while !one.outbox.is_empty() {
                one.turn(&world.sim, &mut world.random);
            }
            one.close();
        }
        world.run("the lines", |world| {
            one.turn(&world.sim, &mut world.random);
            other.turn(&world.sim, &mut world.random);
            other.heard.len() >= lines.len() && one.peer.has_sent_all()
        });
        one.peer.shut(&world.sim);
        world.run("its end", |world| {
            one.turn(&world.sim, &mut world.random);
            other.turn(&world.sim, &mut world.random);
            runtime.connections() == 1
        });
        world.run("our goodbye", |world| {
            one.turn(&world.sim, &mut world.random);
            one.ended
        });
        other.close();
        world.run("the other's end", |world| {
            other.turn(&world.sim, &mut world.random);
            other.ended
        });
        assert_eq!(String::from_utf8_lossy(&other.heard), whole);
        other.peer.shut(&world.sim);
        assert_eq!(runtime.stats().sum(|cell| &cell.handshake_errors), 0);
        world.finish();
        0
    });
}

/// A backend without TLS behind a proxy with it: bytes and ends in both directions, more than outboxes hold.
#[test]
fn a_proxy_passes_everything_and_each_end_apart() {
    let (_files, tls, client) = certificates();
    story(102, 0..40, |seed, mut random| {
        let faults = Faults { window_bytes: 1 << 16, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 1, faults);
        let address = std::net::SocketAddr::from(([10, 0, 0, 7], 7000));
        world.sim.serve(address);
        world.tls = tls.clone();
        let backends = vec![Backend {
            name: "b".to_owned(),
            addresses: vec![address.into()],
            ..Backend::default()
        }];
        let fields = RuntimeConfig { framing: Framing::Raw, ..config(RuntimeKind::Proxy) };
        let runtime = world.place(fields, backends, None);
        let mut front = Client::connect(&world, runtime.address, &client);
        // Said before the backend is there.
        let length = world.random.below(2 * limits::OUTBOX_HIGH_BYTES as u64);
        let said: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        front.outbox.append_owned(said.clone());
        let mut backend = None;
        world.run("the backend's connection", |world| {
            front.turn(&world.sim, &mut world.random);
            backend = backend.or(world.sim.accepted(address));
            backend.is_some()
        });
        let mut backend =
            Peer::new(backend.expect("it works in a story"), said.iter().rev().copied().collect());
        world.run("the bytes both ways", |world| {
            front.turn(&world.sim, &mut world.random);
            backend.push(&world.sim, &mut world.random);
            backend.pull(&world.sim);
            backend.received.len() == said.len() && front.heard.len() == said.len()
        });
        assert!(backend.received == said && front.heard == backend.to_send);
        // The client ends its side, the backend still speaks, then ends too.
        front.close();
        world.run("the client's end at the backend", |world| {
            front.turn(&world.sim, &mut world.random);
            world.sim.peer_has_ended(backend.id)
        });
        world.sim.peer_send(backend.id, b"last words");
        backend.shut(&world.sim);
        world.run("the backend's end at the client", |world| {
            front.turn(&world.sim, &mut world.random);
            front.ended
        });
        assert!(front.heard.ends_with(b"last words"));
        front.peer.shut(&world.sim);
        world.run("the pair's end", |_| runtime.connections() == 0);
        world.finish();
        0
    });
}

/// A client that never finishes its handshake costs a bounded time, and one that breaks it is told.
#[test]
fn a_handshake_ends_in_time_or_with_an_alert() {
    let (_files, tls, client) = certificates();
    story(103, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        world.tls = tls.clone();
        let runtime = world.place(config(RuntimeKind::Server), Vec::new(), None);
        let silent = world.sim.connect(runtime.address);
        let rude = world.sim.connect(runtime.address);
        let fine = Client::connect(&world, runtime.address, &client);
        world.sim.peer_send(rude, b"GET / HTTP/1.1\r\n\r\n");
        let mut answer = Vec::new();
        world.run("the alert", |world| {
            answer.extend(world.sim.peer_received(rude));
            world.sim.peer_has_ended(rude) || world.sim.peer_is_reset(rude)
        });
        assert_eq!(answer.first(), Some(&21), "an alert record: {answer:?}");
        world.sim.peer_shutdown(rude);
        world.run_for_ms(limits::HANDSHAKE_MS + 2 * limits::LINGER_MS);
        assert!(world.sim.peer_has_ended(silent) || world.sim.peer_is_reset(silent));
        assert_eq!(runtime.stats().sum(|cell| &cell.handshake_errors), 3);
        assert_eq!(runtime.connections(), 0);
        world.sim.peer_shutdown(silent);
        world.sim.peer_shutdown(fine.id());
        world.finish();
        0
    });
}
