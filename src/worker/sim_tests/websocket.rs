//! WebSockets on the simulated network: messages keep their kind, order and bytes, and every connection ends by the book.

use super::apps::load;
use super::{Peer, World, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::proto::websocket::frame::{self, Opcode};
use crate::proto::websocket::handshake::Offer;
use crate::proto::websocket::{CloseCode, Deflate, Event, Kind, Reader, Side, Workspace};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::{Placement, Protocol, RuntimeConfig, WebSocketSettings};

/// What a client has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
}

/// A client of another make, as far as the codec is.
struct Client {
    peer: Peer,
    offer: Offer,
    reader: Option<Reader>,
    compressed: bool,
    work: Workspace,
    deflate: Deflate,
    /// Answers to ordinary requests before that.
    answers_before: usize,
    /// Bytes of `peer.received` that were looked at.
    looked: usize,
    seen: Vec<Seen>,
}

impl Client {
    fn new(world: &mut World, compressed: bool) -> Client {
        let offer = Offer::new([world.random.below(256) as u8; 16], &[], compressed);
        let request = offer.request("h", "/chat?room=1");
        let peer = Peer::new(world.sim.connect(world.runtimes[0].address), request.into_bytes());
        let (work, deflate) = (Workspace::default(), Deflate::default());
        Client {
            peer,
            offer,
            reader: None,
            compressed,
            work,
            deflate,
            answers_before: 0,
            looked: 0,
            seen: Vec::new(),
        }
    }

    /// Has ordinary requests on the connection first.
    fn ask_before(&mut self, request: &[u8]) {
        self.peer.to_send.splice(..0, request.iter().copied());
        self.answers_before = 1;
    }

    /// Puts a message into what is to be sent, in fragments and with pings between them as chance has it.
    fn say(&mut self, random: &mut Random, kind: Kind, message: &[u8]) {
        let key = Some((random.next_u64() as u32).to_ne_bytes());
        let out = &mut self.peer.to_send;
        let compressed = self.compressed && random.chance(500);
        let payload =
            if compressed { self.deflate.compress(message, 15).to_vec() } else { message.to_vec() };
        let width = 1 + random.below(payload.len() as u64 + 1) as usize;
        let mut pieces: Vec<&[u8]> = payload.chunks(width).collect();
        if pieces.is_empty() {
            pieces.push(b"");
        }
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            let opcode = if index == 0 { Opcode::Data(kind) } else { Opcode::Continuation };
            let start = out.len();
            frame::write(out, opcode, compressed && index == 0, piece, key);
            if index < last {
                out[start] &= 0x7f;
                if random.chance(200) {
                    frame::write(out, Opcode::Ping, false, b"between", key);
                }
            }
        }
    }

    fn close(&mut self, code: u16) {
        frame::write_close(&mut self.peer.to_send, CloseCode(code), "bye", Some([1, 2, 3, 4]));
    }

    fn step(&mut self, world: &mut World) {
        let (sim, random) = (&world.sim, &mut world.random);
        self.peer.push(sim, random);
        self.peer.pull(sim);
        let mut bytes = &self.peer.received[self.looked..];
        let reader = match &mut self.reader {
            Some(reader) => reader,
            _ if self.answers_before > 0 => {
                let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return };
                let head = String::from_utf8_lossy(&bytes[..end]);
                assert!(head.starts_with("HTTP/1.1 404") && head.contains("Content-Length: "));
                let length = head.split("Content-Length: ").nth(1).and_then(|rest| {
                    rest.split("\r\n").next().and_then(|length| length.parse::<usize>().ok())
                });
                let whole = end + 4 + length.expect("a length");
                if bytes.len() < whole {
                    return;
                }
                self.peer.received.drain(..whole);
                self.answers_before -= 1;
                return;
            }
            none => {
                let answer = self.offer.judge(bytes).expect("a right answer");
                let Some(established) = answer else { return };
                self.looked = established.bytes;
                bytes = &self.peer.received[self.looked..];
                assert_eq!(established.compression.is_some(), self.compressed);
                none.insert(Reader::new(Side::Client, self.compressed, 1 << 24))
            }
        };
        loop {
            let seen = match reader.next(&mut bytes, &mut self.work).expect("right frames") {
                None => break,
                Some(Event::Message(kind, message)) => Seen::Message(kind, message.to_vec()),
                Some(Event::Ping(_)) => Seen::Ping,
                Some(Event::Pong(payload)) => Seen::Pong(payload.to_vec()),
                Some(Event::Close(code, reason)) => Seen::Close(code.0, reason.to_owned()),
            };
            self.seen.push(seen);
        }
        self.looked = self.peer.received.len();
    }

    fn messages(&self) -> Vec<(Kind, Vec<u8>)> {
        let message = |seen: &Seen| match seen {
            Seen::Message(kind, message) => Some((*kind, message.clone())),
            _ => None,
        };
        self.seen.iter().filter_map(message).collect()
    }
}

fn text(message: &str) -> Seen {
    Seen::Message(Kind::Text, message.as_bytes().to_vec())
}

fn settings(deflate: bool) -> WebSocketSettings {
    WebSocketSettings { deflate, ping_ms: 0, ..WebSocketSettings::default() }
}

fn server(deflate: bool) -> RuntimeConfig {
    let websocket = settings(deflate);
    RuntimeConfig { protocol: Protocol::WebSocket, websocket, ..config(RuntimeKind::Server) }
}

/// Places the app's server anew.
fn place_as(world: &mut World, protocol: Protocol, websocket: WebSocketSettings) {
    let placement = &mut world.runtimes[0].placement;
    let config = RuntimeConfig { protocol, websocket, ..(*placement.config).clone() };
    placement.config = std::sync::Arc::new(config);
    let placement: Placement = placement.clone();
    let request = world.request();
    world.tell(0, crate::runtime::message::ToWorker::Place { request, placement });
    world.run("the placement", |world| world.answers.contains_key(&request));
}

fn until_open(world: &mut World, clients: &mut [Client]) {
    world.run("the handshakes", |world| {
        clients.iter_mut().for_each(|client| client.step(world));
        clients.iter().all(|client| client.reader.is_some())
    });
}

fn random_message(random: &mut Random, client: usize, number: u64) -> (Kind, Vec<u8>) {
    let bound = if random.chance(50) { 90_000 } else { 300 };
    let filler = random.below(bound) as usize;
    let mut message = format!("{client}:{number}:{}", "é".repeat(filler / 2)).into_bytes();
    if random.chance(300) {
        message.push(0xff);
        return (Kind::Binary, message);
    }
    (if random.chance(800) { Kind::Text } else { Kind::Binary }, message)
}

#[test]
fn a_server_without_handlers_relays_with_the_kind_kept() {
    story(60, 0..40, |seed, mut random| {
        let mut faults = Faults::lossless(&mut random);
        faults.window_bytes = faults.window_bytes.max(4096);
        let workers = 1 + random.below(3) as u8;
        let deflate = random.chance(500);
        let mut world = World::new(seed, random, workers, faults);
        let runtime = world.place(server(deflate), Vec::new(), None);
        let count = 2 + world.random.below(3) as usize;
        let mut clients = Vec::new();
        for _ in 0..count {
            let compressed = deflate && world.random.chance(500);
            clients.push(Client::new(&mut world, compressed));
        }
        until_open(&mut world, &mut clients);
        let mut said: Vec<Vec<(Kind, Vec<u8>)>> = Vec::new();
        for (index, client) in clients.iter_mut().enumerate() {
            let random = &mut world.random;
            let own: Vec<_> =
                (0..random.below(8)).map(|number| random_message(random, index, number)).collect();
            for (kind, message) in &own {
                client.say(random, *kind, message);
            }
            said.push(own);
        }
        let total: usize = said.iter().map(Vec::len).sum();
        world.run("the relay", |world| {
            clients.iter_mut().for_each(|client| client.step(world));
            let arrived = |(index, client): (usize, &Client)| {
                client.messages().len() == total - said[index].len()
            };
            clients.iter().enumerate().all(arrived)
        });
        for (to, client) in clients.iter().enumerate() {
            let got = client.messages();
            for (from, sent) in said.iter().enumerate().filter(|(from, _)| *from != to) {
                let prefix = format!("{from}:").into_bytes();
                let of: Vec<_> = got.iter().filter(|(_, it)| it.starts_with(&prefix)).collect();
                assert_eq!(of, sent.iter().collect::<Vec<_>>(), "from {from} to {to}");
            }
        }
        assert_eq!(runtime.stats().sum(|cell| &cell.protocol_errors), 0);
        world.finish()
    });
}

const ECHO: &str = r#"
server "s" {
  on_connect = function(conn) conn:send("welcome") end,
  on_websocket = function(conn, headers, request)
    socketley.log("at " .. request.path .. " " .. request.query .. " " .. headers.host)
    sleep(0.01)
  end,
  on_message = function(conn, msg)
    if msg == "wait" then sleep(0.02) end
    if msg == "close" then conn:close(4001, "as you like") end
    conn:send(msg)
    if msg == "both" then
      conn:send("b", { binary = true })
      conn:send("t", { binary = false })
    end
  end,
  on_disconnect = function(conn, code, reason)
    socketley.log("gone " .. code .. " " .. reason)
  end,
}
"#;

/// Answers are of the kind of what they answer, in order, also when the handler has waited; a Close frame that comes
/// behind a question doesn't overtake its answer.
#[test]
fn handlers_answer_in_the_kind_of_the_question() {
    story(61, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        load(&mut world, ECHO, &[RuntimeKind::Server], &[]);
        let deflate = world.random.chance(500);
        let protocol = if world.random.chance(500) { Protocol::Auto } else { Protocol::WebSocket };
        place_as(&mut world, protocol, settings(deflate));
        let mut client = Client::new(&mut world, deflate);
        if protocol == Protocol::Auto && world.random.chance(500) {
            client.ask_before(b"GET /before HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        let mut wanted = vec![text("welcome")];
        for number in 0..world.random.below(10) {
            let (kind, mut message) = random_message(&mut world.random, 0, number);
            if world.random.chance(300) {
                message = b"wait".to_vec();
            }
            client.say(&mut world.random, kind, &message);
            wanted.push(Seen::Message(kind, message));
        }
        client.say(&mut world.random, Kind::Binary, b"both");
        wanted.push(Seen::Message(Kind::Binary, b"both".to_vec()));
        wanted.extend([Seen::Message(Kind::Binary, b"b".to_vec()), text("t")]);
        let own = world.random.chance(500);
        if own {
            client.say(&mut world.random, Kind::Text, b"close");
            wanted.push(Seen::Close(4001, "as you like".to_owned()));
        } else {
            client.close(3000);
            wanted.push(Seen::Close(3000, String::new()));
        }
        world.run("the echo", |world| {
            client.step(world);
            client.peer.is_over(&world.sim)
        });
        client.seen.retain(|seen| !matches!(seen, Seen::Pong(_)));
        assert_eq!(client.seen, wanted);
        client.peer.shut(&world.sim);
        let gone = if own { "gone 4001 as you like" } else { "gone 3000 bye" };
        world.run("the goodbye", |world| world.logs.iter().any(|line| line == gone));
        assert!(world.logs.iter().any(|line| line == "at /chat room=1 h"), "{:?}", world.logs);
        world.finish()
    });
}

#[test]
fn a_stop_says_going_away() {
    story(62, 0..20, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 2, faults);
        world.place(server(false), Vec::new(), None);
        let mut clients = [Client::new(&mut world, false), Client::new(&mut world, false)];
        until_open(&mut world, &mut clients);
        world.unlisten(0);
        let runtime = world.runtimes[0].id();
        for worker in 0..2 {
            let request = world.request();
            let stop = crate::runtime::message::ToWorker::Stop { request, runtime, drain_ms: 5000 };
            world.tell(worker, stop);
        }
        world.run("the goodbyes", |world| {
            clients.iter_mut().for_each(|client| client.step(world));
            clients.iter().all(|client| client.peer.is_over(&world.sim))
        });
        for client in &mut clients {
            assert_eq!(client.seen, [Seen::Close(1001, String::new())]);
            client.peer.shut(&world.sim);
        }
        world.finish()
    });
}

/// A client that answers pings stays; one that is silent is closed, not before its time.
#[test]
fn the_silent_are_pinged_and_then_closed() {
    story(63, 0..30, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let websocket = WebSocketSettings {
            ping_ms: 2000,
            ping_timeout_ms: 1000,
            ..WebSocketSettings::default()
        };
        let protocol = Protocol::WebSocket;
        let runtime = RuntimeConfig { protocol, websocket, ..config(RuntimeKind::Server) };
        let runtime = world.place(runtime, Vec::new(), None);
        let mut clients = [Client::new(&mut world, false), Client::new(&mut world, false)];
        until_open(&mut world, &mut clients);
        let start_ms = world.sim.now().monotonic_ms();
        let mut pongs = 0;
        world.run("the end of the silent one", |world| {
            clients.iter_mut().for_each(|client| client.step(world));
            let pings = clients[0].seen.iter().filter(|seen| **seen == Seen::Ping).count();
            if pings > pongs {
                pongs = pings;
                let out = &mut clients[0].peer.to_send;
                frame::write(out, Opcode::Pong, false, b"", Some([9; 4]));
            }
            runtime.connections() == 1
        });
        let silent_ms = world.sim.now().monotonic_ms() - start_ms;
        assert!((2500..6000).contains(&silent_ms), "{silent_ms} ms");
        assert_eq!(clients[1].seen, [Seen::Ping]);
        assert_eq!(runtime.stats().sum(|cell| &cell.silent_closed), 1);
        world.run("a second ping", |world| {
            clients[0].step(world);
            clients[0].seen.len() > 1 || runtime.connections() == 0
        });
        assert_eq!(runtime.connections(), 1);
        world.finish()
    });
}

/// The original's parser stalled on what it didn't understand, and the connection hung.
#[test]
fn a_client_that_breaks_the_protocol_is_told_how() {
    let cases: &[(&[u8], u16, &str)] = &[
        (b"\x81\x01x", 1002, "wrong masking"),
        (b"\x83\x80\0\0\0\0", 1002, "unknown opcode"),
        (b"\xc1\x80\0\0\0\0", 1002, "reserved bits are set"),
        (b"\x81\x81\0\0\0\0\xff", 1007, "invalid UTF-8"),
        (b"\x82\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0", 1009, "message too big"),
        (b"\x89\xfe\0\x80\0\0\0\0", 1002, "bad control frame"),
    ];
    story(64, 0..24, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let runtime = world.place(server(false), Vec::new(), None);
        let (bytes, code, reason) = cases[seed as usize % cases.len()];
        let mut client = Client::new(&mut world, false);
        client.peer.to_send.extend_from_slice(bytes);
        client.say(&mut world.random, Kind::Text, b"late");
        world.run("the end", |world| {
            client.step(world);
            client.peer.is_over(&world.sim)
        });
        assert_eq!(client.seen, [Seen::Close(code, reason.to_owned())]);
        assert_eq!(runtime.stats().sum(|cell| &cell.protocol_errors), 1);
        client.peer.shut(&world.sim);
        world.finish()
    });
}

#[test]
fn what_is_no_upgrade_is_turned_away() {
    let cases: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 426 "),
        (b"hello\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nHost: h", "HTTP/1.1 408 "),
        (b"", "HTTP/1.1 408 "),
    ];
    story(65, 0..16, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        world.place(server(false), Vec::new(), None);
        let (bytes, status) = cases[seed as usize % cases.len()];
        let mut peer = Peer::new(world.sim.connect(world.runtimes[0].address), bytes.to_vec());
        let start_ms = world.sim.now().monotonic_ms();
        world.run("the refusal", |world| {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            peer.is_over(&world.sim)
        });
        let answer = String::from_utf8_lossy(&peer.received);
        assert!(answer.starts_with(status), "{answer}");
        let waited_ms = world.sim.now().monotonic_ms() - start_ms;
        assert_eq!(status.contains("408"), waited_ms >= limits::HTTP_HEAD_MS, "{waited_ms} ms");
        peer.shut(&world.sim);
        world.finish()
    });
}

/// A reader that falls behind loses the oldest messages and nothing else: what it gets is whole, in order, and ends with
/// the newest. The others get all of it.
#[test]
fn a_slow_reader_loses_the_oldest_messages() {
    story(66, 0..16, |seed, mut random| {
        let faults = Faults { window_bytes: 8192, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 1, faults);
        let backlog_bytes_max = limits::BACKLOG_BYTES_MIN as usize;
        let slow = RuntimeConfig { backlog_bytes_max, drops_oldest: true, ..server(false) };
        let runtime = world.place(slow, Vec::new(), None);
        let mut clients = [Client::new(&mut world, false), Client::new(&mut world, false)];
        until_open(&mut world, &mut clients);
        let [slow, fast] = &mut clients;
        world.sim.peer_pause(slow.peer.id, true);
        let count = 400;
        for number in 0..count {
            let message = format!("{number}:{}", "x".repeat(1000));
            let request = world.send(0, runtime.id(), message.as_bytes());
            world.run("a broadcast", |world| {
                fast.step(world);
                world.answers.contains_key(&request) && fast.seen.len() > number
            });
        }
        let mut waiting = 0;
        world.each_connection(|it| waiting = waiting.max(it.outbox.bytes()));
        assert!(waiting <= backlog_bytes_max / 2 + 2000, "{waiting} bytes can't be dropped");
        world.sim.peer_pause(slow.peer.id, false);
        let last = format!("{}:", count - 1);
        let number = |seen: &Seen| match seen {
            Seen::Message(Kind::Text, message) => {
                let text = String::from_utf8_lossy(message).into_owned();
                assert!(text.ends_with("xxx") && text.len() > 1000);
                text.split(':').next().and_then(|number| number.parse::<usize>().ok())
            }
            _ => None,
        };
        world.run("the rest", |world| {
            slow.step(world);
            slow.seen.last().is_some_and(|seen| {
                matches!(seen, Seen::Message(_, message) if message.starts_with(last.as_bytes()))
            })
        });
        let numbers: Vec<usize> = slow.seen.iter().filter_map(number).collect();
        assert!(numbers.is_sorted() && numbers.len() < count, "{numbers:?}");
        let dropped = runtime.stats().sum(|cell| &cell.dropped) as usize;
        assert_eq!(numbers.len() + dropped, count);
        assert_eq!(runtime.stats().sum(|cell| &cell.slow_closed), 0);
        world.finish()
    });
}
