//! Caches: what each client reads is, byte for byte, what a store in this process answers to the same commands.

use super::world::{self, World};
use super::{Peer, Runtime, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::proto::resp::{Parsed, ProtocolError, RequestParser};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::cache;
use crate::runtime::connection::Role;
use crate::store::clients::Client as StoreClient;
use crate::store::session::State;
use crate::store::{Session, SharedStore};

const PASSWORD: &str = "sesame";

/// How a client's stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// It ends its side; the cache answers everything and then ends the other.
    HalfClose,
    /// QUIT, and commands behind it that nobody runs.
    Quit,
    /// Bytes that are no command, and commands behind them that nobody runs.
    Error,
    /// It breaks the connection somewhere.
    Reset,
}

struct Client {
    peer: Peer,
    expected: Vec<u8>,
    ending: Ending,
    paused: bool,
}

type Command = Vec<Vec<u8>>;

fn words(line: &str) -> Command {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn value(random: &mut Random) -> Vec<u8> {
    let bound = match random.below(20) {
        0 => 40_000,
        1..4 => 5_000,
        _ => 30,
    };
    (0..random.below(bound)).map(|_| random.next_u64() as u8).collect()
}

/// A command on keys of client `number` only, whose reply no other client can change.
fn command(random: &mut Random, number: u64) -> Command {
    let pick = |random: &mut Random, kind: char| format!("c{number}:{kind}{}", random.below(4));
    let (text, list) = (pick(random, 's'), pick(random, 'l'));
    let mut command = match random.below(24) {
        0..4 => words(&format!("SET {text}")),
        4..7 => return words(&format!("GET {text}")),
        7 => words(&format!("APPEND {text}")),
        8 => return words(&format!("INCR {}", pick(random, 'n'))),
        9 => return words(&format!("DEL {text} {list}")),
        10 | 11 => words(&format!("RPUSH {list}")),
        12 => return words(&format!("LRANGE {list} 0 -1")),
        13 => return words(&format!("LPOP {list}")),
        14 => words(&format!("HSET {} f{}", pick(random, 'h'), random.below(5))),
        15 => return words(&format!("HGETALL {}", pick(random, 'h'))),
        16 => return words("PING"),
        17 => words("ECHO"),
        18 => return words(&format!("SELECT {}", random.below(3))),
        19 => return words(&format!("STRLEN {text}")),
        20 => return words("NOSUCH thing"),
        21 => return words(&format!("GET {text} {list}")),
        22 => return words(&format!("INCR {list}")),
        _ => return words(&format!("MGET {text} {} nothing", pick(random, 's'))),
    };
    command.push(value(random));
    command
}

/// Writes a command as one of the forms that clients use.
fn encode(command: &Command, random: &mut Random, out: &mut Vec<u8>) {
    if random.chance(100) {
        out.extend_from_slice([&b"\r\n"[..], b"*0\r\n", b"*-1\r\n"][random.below(3) as usize]);
    }
    let is_plain = |word: &Vec<u8>| !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric);
    let bytes: usize = command.iter().map(Vec::len).sum();
    if random.chance(300) && command.iter().all(is_plain) && !command[0].starts_with(b"*") {
        out.extend_from_slice(&command.join(&b"  "[..]));
        out.extend_from_slice(if random.chance(500) { b"\r\n" } else { b"\n" });
    } else if random.chance(150) && bytes < 5_000 {
        for word in command {
            out.push(b'"');
            word.iter().for_each(|byte| out.extend(format!("\\x{byte:02x}").bytes()));
            out.extend_from_slice(b"\" ");
        }
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend(format!("*{}\r\n", command.len()).bytes());
        for word in command {
            out.extend(format!("${}\r\n", word.len()).bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn protocol_error(random: &mut Random, session: &Session) -> (&'static [u8], ProtocolError) {
    let broken: [&[u8]; 5] =
        [b"*x\r\n", b"*1\r\n%5\r\n", b"*1\r\n$-5\r\n", b"SET \"a\r\n", b"*1\r\n$999999999999\r\n"];
    let bytes = broken[random.below(5) as usize];
    let mut parser = RequestParser::default();
    parser.unauthenticated = session.state.has(State::UNAUTHENTICATED);
    match parser.parse(bytes, &mut Vec::new()) {
        Err(error) => (bytes, error),
        Ok(Parsed::Command { .. } | Parsed::Skip { .. } | Parsed::Incomplete) => unreachable!(),
    }
}

/// What a client sends, and what the model answers.
struct Script<'a> {
    model: &'a SharedStore,
    session: Session,
    bytes: Vec<u8>,
    expected: Vec<u8>,
}

impl Script<'_> {
    fn add(&mut self, command: &Command, random: &mut Random) {
        let is_stranger = self.session.state.has(State::UNAUTHENTICATED);
        if is_stranger && command.iter().any(|word| word.len() > 5_000) {
            // A protocol error of its own; see `protocol_error`.
            return;
        }
        encode(command, random, &mut self.bytes);
        let arguments: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        self.model.call(&mut self.session, &arguments, 0, &mut self.expected);
    }
}

fn client(
    world: &mut World,
    runtime: &Runtime,
    (model, password): (&SharedStore, bool),
    number: u64,
    endings: &[Ending],
) -> Client {
    let ending = endings[world.random.below(endings.len() as u64) as usize];
    let random = &mut world.random;
    let session = model.connect(StoreClient::default(), 0);
    let mut script = Script { model, session, bytes: Vec::new(), expected: Vec::new() };
    if password {
        for _ in 0..random.below(3) {
            script.add(&command(random, number), random);
        }
        if random.chance(300) {
            script.add(&words("AUTH wrong"), random);
        }
        if random.chance(900) {
            script.add(&words(&format!("AUTH {PASSWORD}")), random);
        }
    }
    let exponent = random.below(8);
    for _ in 0..random.below(1 << exponent) {
        script.add(&command(random, number), random);
    }
    match ending {
        Ending::HalfClose | Ending::Reset => {}
        Ending::Quit => script.add(&words("QUIT"), random),
        Ending::Error => {
            let (bytes, error) = protocol_error(random, &script.session);
            script.bytes.extend_from_slice(bytes);
            error.write(&mut script.expected);
        }
    }
    if matches!(ending, Ending::Quit | Ending::Error) {
        for _ in 0..random.below(4) {
            script.bytes.extend_from_slice(b"PING\r\n");
        }
    }
    let Script { bytes, expected, .. } = script;
    let id = world.sim.connect(runtime.address);
    Client { peer: Peer::new(id, bytes), expected, ending, paused: false }
}

impl Client {
    fn step(&mut self, world: &mut World) {
        let (sim, random) = (&world.sim, &mut world.random);
        if self.paused {
            self.paused = random.chance(900);
        } else {
            self.peer.pull(sim);
            self.paused = random.chance(50);
        }
        sim.peer_pause(self.peer.id, self.paused);
        if self.ending == Ending::Reset && random.chance(20) {
            sim.peer_reset(self.peer.id);
        }
        self.peer.push(sim, random);
        let over = self.peer.is_over(sim);
        if self.peer.has_sent_all() && (self.ending == Ending::HalfClose || over) {
            self.peer.shut(sim);
        }
    }

    /// Whether it has nothing more to do.
    fn is_over(&self, world: &World) -> bool {
        self.peer.has_sent_all() && self.peer.is_over(&world.sim)
    }

    fn check(&mut self, world: &World, lossless: bool) {
        self.peer.pull(&world.sim);
        let got = &self.peer.received;
        if lossless && self.ending != Ending::Reset {
            assert_eq!(
                (got.len(), first_difference(got, &self.expected)),
                (self.expected.len(), None),
                "{:?}, {:?}, reset {}: {}\n{}",
                self.ending,
                world.logs,
                world.sim.peer_is_reset(self.peer.id),
                String::from_utf8_lossy(&got[got.len().saturating_sub(100)..]),
                String::from_utf8_lossy(&self.expected[self.expected.len().saturating_sub(100)..]),
            );
        } else {
            assert!(self.expected.starts_with(got), "{:?}: replies changed", self.ending);
        }
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

fn cache_story(seed: u64, mut random: Random, lossless: bool) -> u64 {
    let faults = if lossless { Faults::lossless(&mut random) } else { Faults::all(&mut random) };
    let (workers, password) = (1 + random.below(3) as u8, random.chance(250));
    let mut world = World::new(seed, random, workers, faults);
    let set = password.then_some(PASSWORD);
    let (store, model) = (world::store(seed, set), world::store(seed, set));
    let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store));
    let all = [Ending::HalfClose, Ending::Quit, Ending::Error, Ending::Reset];
    let endings = if lossless { &all[..3] } else { &all[..] };
    let count = 1 + world.random.below(4);
    let mut clients: Vec<Client> = (0..count)
        .map(|number| client(&mut world, &runtime, (&model, password), number, endings))
        .collect();
    world.run("the clients' commands", |world| {
        let index = world.random.below(count) as usize;
        clients[index].step(world);
        clients.iter().all(|client| client.is_over(world))
    });
    for client in &mut clients {
        client.check(&world, lossless);
    }
    if lossless {
        let refused = runtime.stats().sum(|cell| &cell.refused);
        let total = runtime.stats().sum(|cell| &cell.connections_total);
        assert_eq!((total, refused), (count, 0));
    }
    world.finish()
}

#[test]
fn every_reply_is_the_models_whatever_the_seed() {
    story(1, 0..200, |seed, random| cache_story(seed, random, true));
}

#[test]
fn broken_connections_lose_their_rest_only() {
    story(2, 0..150, |seed, random| cache_story(seed, random, false));
}

/// A client that pipelines reads of large values and doesn't read: what waits for it is bounded by the marks, and when it
/// reads again nothing is missing.
#[test]
fn replies_that_nobody_reads_are_bounded_and_come_in_the_end() {
    story(3, 0..12, |seed, mut random| {
        let faults = Faults { window_bytes: 1 << 16, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 1, faults);
        let (store, size) = (world::store(seed, None), 1 + world.random.below(60_000) as usize);
        let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store));
        let mut text = format!("SET k {}\r\n", "x".repeat(size)).into_bytes();
        let count = 2_500_000 / size.max(2_000);
        (0..count).for_each(|at| text.extend(format!("GET k\r\nECHO {at}\r\n").bytes()));
        let mut peer = Peer::new(world.sim.connect(runtime.address), text);
        world.sim.peer_pause(peer.id, true);
        let mut calm = 0;
        world.run("a client that doesn't read", |world| {
            peer.push(&world.sim, &mut world.random);
            let mut bytes = (0, 0);
            world.each_connection(|it| bytes = (it.outbox.bytes(), it.input.len()));
            let most = limits::OUTBOX_HIGH_BYTES + size + 64;
            assert!(bytes.0 <= most, "{} bytes wait for a peer that doesn't read", bytes.0);
            calm = if peer.has_sent_all() { calm + 1 } else { 0 };
            calm > 500
        });
        world.sim.peer_pause(peer.id, false);
        peer.shut(&world.sim);
        world.run("a client that reads again", |world| {
            peer.pull(&world.sim);
            peer.is_over(&world.sim)
        });
        peer.pull(&world.sim);
        let mut expected = b"+OK\r\n".to_vec();
        let big = format!("${size}\r\n{}\r\n", "x".repeat(size));
        for at in 0..count {
            let text = at.to_string();
            expected.extend(format!("{big}${}\r\n{text}\r\n", text.len()).bytes());
        }
        let got = &peer.received;
        assert_eq!(first_difference(got, &expected), None, "{:?}", &got[..got.len().min(40)]);
        assert_eq!(peer.received.len(), expected.len());
        world.finish()
    });
}

/// Another worker or a script holds the store: the batch waits, its connections may end meanwhile, and nothing of it is
/// lost or run twice.
#[test]
fn a_store_that_is_held_delays_its_commands_only() {
    story(4, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let (store, model) = (world::store(seed, None), world::store(seed, None));
        let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store.clone()));
        let endings = [Ending::HalfClose, Ending::Quit, Ending::Error];
        let count = 1 + world.random.below(3);
        let mut clients: Vec<Client> = (0..count)
            .map(|number| client(&mut world, &runtime, (&model, false), number, &endings))
            .collect();
        world.run("commands for a store that is held", |world| {
            let index = world.random.below(count) as usize;
            clients[index].step(world);
            let held = world.random.chance(300).then(|| store.lock(0));
            for _ in 0..1 + world.random.below(3) {
                world.turn();
            }
            drop(held);
            clients.iter().all(|client| client.is_over(world))
        });
        for client in &mut clients {
            client.check(&world, true);
        }
        world.finish()
    });
}

/// A peer that sends commands and breaks the connection at once: they have been read, so they run, as in Redis.
#[test]
fn commands_that_were_read_before_a_reset_run() {
    story(5, 0..40, |seed, mut random| {
        let faults = Faults { window_bytes: 1 << 16, ..Faults::lossless(&mut random) };
        let faults = Faults { no_buffers: 0, latency_ns_max: 0, ..faults };
        let mut world = World::new(seed, random, 1, faults);
        let store = world::store(seed, None);
        let runtime = world.place(config(RuntimeKind::Cache), Vec::new(), Some(store.clone()));
        let peer = world.sim.connect(runtime.address);
        world.run("the connect", |_| runtime.connections() == 1);
        world.sim.peer_send(peer, b"INCR n\r\nINCR n\r\nIN");
        let held = world.random.chance(500).then(|| store.lock(0));
        let mut turns = world.random.below(6);
        world.run("the commands' arrival", |_| {
            turns = turns.saturating_sub(1);
            turns == 0
        });
        let mut unrun = false;
        world.each_connection(|it| unrun |= cache::has_unrun(it));
        world.sim.peer_reset(peer);
        for _ in 0..4 {
            world.turn();
        }
        drop(held);
        world.run("the reset", |_| runtime.connections() == 0 && store.snapshot(0).clients == 0);
        let mut out = Vec::new();
        let mut session = store.session(0);
        store.call(&mut session, &[b"GET", b"n"], 0, &mut out);
        assert!(!unrun || out != b"$-1\r\n", "what was read was dropped");
        world.each_connection(|it| assert!(matches!(it.role, Role::Cache(_))));
        world.finish()
    });
}
