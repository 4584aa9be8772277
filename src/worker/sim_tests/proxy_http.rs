//! HTTP proxies: whatever backends and the network do, each answer reaches the client whose request it is for, in the
//! order of its requests, and nothing that isn't safe to repeat reaches backends twice.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Peer, Runtime, World, config, story};
use crate::id::RuntimeKind;
use crate::proto::http1::{
    Body, Event, Field, HeadScan, RequestReader, ResponseBody, Step, parse_response,
};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::{Backend, Protocol, RuntimeConfig};

fn backend_address(index: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1 + index as u8], 80))
}

/// A request's bytes, and the body of its answer.
fn request(random: &mut Random, client: u64, number: u64) -> (Vec<u8>, String) {
    let bound = if random.chance(50) { 60_000 } else { 200 };
    let body = "b".repeat(random.below(bound) as usize);
    let head = format!("/c{client}/r{number} HTTP/1.1\r\nHost: c{client}\r\n");
    match random.below(3) {
        0 => (format!("GET {head}\r\n").into_bytes(), format!("GET /c{client}/r{number} 0")),
        1 => {
            let text = format!("POST {head}Content-Length: {}\r\n\r\n{body}", body.len());
            (text.into_bytes(), format!("POST /c{client}/r{number} {}", body.len()))
        }
        _ => {
            let mut text = format!("POST {head}Transfer-Encoding: chunked\r\n\r\n");
            let mut left = body.len();
            while left > 0 {
                let take = 1 + random.below(left as u64) as usize;
                text.push_str(&format!("{take:x}\r\n{}\r\n", "b".repeat(take)));
                left -= take;
            }
            text.push_str("0\r\nX-Sum: 1\r\n\r\n");
            (text.into_bytes(), format!("POST /c{client}/r{number} {}", body.len()))
        }
    }
}

/// A backend's end of a connection.
struct Served {
    peer: Peer,
    input: Vec<u8>,
    reader: RequestReader,
    /// Of the request that is being read: method and path, the body's bytes.
    asked: Option<String>,
    body: usize,
    /// It closes when all is sent.
    closes: bool,
    /// It has been cut.
    is_dead: bool,
}

/// What all backends have seen of requests that aren't safe to repeat.
type Seen = BTreeSet<String>;

impl Served {
    fn new(peer: Peer) -> Served {
        Served {
            peer,
            input: Vec::new(),
            reader: RequestReader::default(),
            asked: None,
            body: 0,
            closes: false,
            is_dead: false,
        }
    }

    /// Reads what has come; the requests that are whole.
    fn read(&mut self, world: &World, seen: &mut Seen) -> Vec<String> {
        self.peer.pull(&world.sim);
        self.input.append(&mut self.peer.received);
        let mut fields: Vec<Field> = Vec::new();
        let (mut used, mut whole) = (0, Vec::new());
        while used < self.input.len() {
            let rest = &self.input[used..];
            match self.reader.next(rest, &mut fields).expect("proxies send what can be read") {
                None if self.reader.is_in_body() => used = self.input.len(),
                None => break,
                Some(Event::Head { request, end }) => {
                    let method = String::from_utf8_lossy(request.method.of(rest)).into_owned();
                    let target = String::from_utf8_lossy(request.target.of(rest)).into_owned();
                    let asked = format!("{method} {target}");
                    if method == "POST" {
                        assert!(seen.insert(asked.clone()), "{asked} came twice");
                    }
                    (self.asked, self.body) = (Some(asked), 0);
                    used += end;
                }
                Some(Event::Data(range)) => {
                    self.body += range.len();
                    used += range.end;
                }
                Some(Event::End(count)) => used += count,
            }
            if !self.reader.is_in_body()
                && let Some(asked) = self.asked.take()
            {
                whole.push(format!("{asked} {}", self.body));
            }
        }
        self.input.drain(..used);
        whole
    }

    /// Answers a request, in one of the ways that there are; with `cuts` also in none.
    fn answer(&mut self, world: &mut World, text: &str, cuts: bool) {
        let random = &mut world.random;
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let mut out = if random.chance(200) { early.to_owned() } else { String::new() };
        match random.below(if cuts { 7 } else { 4 }) {
            0 => out.push_str(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )),
            1 => {
                let (first, second) = text.split_at(text.len() / 2);
                out.push_str(&format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:X};a=b\r\n{second}\r\n0\r\nX-T: 1\r\n\r\n",
                    first.len(),
                    second.len(),
                ));
            }
            2 => {
                out.push_str(&format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                ));
                self.closes = true;
            }
            3 => {
                out.push_str(&format!("HTTP/1.1 200 OK\r\n\r\n{text}"));
                self.closes = true;
            }
            4 => {
                out.push_str(&format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{text}"));
                self.closes = true;
            }
            5 => {
                out.push_str("what?\r\n\r\n");
                self.closes = true;
            }
            _ => self.is_dead = true,
        }
        self.peer.to_send.extend_from_slice(out.as_bytes());
    }

    fn step(&mut self, world: &mut World, seen: &mut Seen, cuts: bool) {
        if self.is_dead || self.peer.is_over(&world.sim) && self.peer.has_sent_all() {
            self.peer.shut(&world.sim);
            return;
        }
        for text in self.read(world, seen) {
            if !self.closes && !self.is_dead {
                self.answer(world, &text, cuts);
            }
        }
        if self.is_dead {
            return world.sim.peer_reset(self.peer.id);
        }
        self.peer.push(&world.sim, &mut world.random);
        // Some end while nobody uses them.
        if self.peer.has_sent_all() && (self.closes || cuts && world.random.chance(3)) {
            self.peer.shut(&world.sim);
        }
    }
}

/// The answers that a client has got whole: status and body.
fn answers(mut bytes: &[u8]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let mut scan = HeadScan::default();
        let head = parse_response(bytes, &mut scan, false, &mut fields).expect("an answer");
        let Some((response, end)) = head else { return found };
        bytes = &bytes[end..];
        if response.status < 200 {
            continue;
        }
        let ResponseBody::Framed(mut body) = response.body else {
            panic!("an answer whose end can't be told from a cut")
        };
        let mut text = String::new();
        while body != Body::None {
            let used = match body.next(bytes).expect("a body") {
                Step::Data(range) => {
                    text.push_str(&String::from_utf8_lossy(&bytes[range.clone()]));
                    range.end
                }
                Step::End(used) => used,
                Step::More => return found,
            };
            bytes = &bytes[used..];
        }
        found.push((response.status, text));
    }
}

struct Client {
    peer: Peer,
    expected: Vec<String>,
}

/// `spoils`: some send at last what can't be understood.
fn clients(world: &mut World, runtime: &Runtime, count: u64, spoils: bool) -> Vec<Client> {
    (0..count)
        .map(|client| {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for number in 0..1 + world.random.below(8) {
                let (request, answer) = request(&mut world.random, client, number);
                bytes.extend(request);
                expected.push(answer);
            }
            if spoils && world.random.chance(300) {
                // Read while the heads of others wait for their dials.
                bytes.extend(b"GET /x HTTP/1.1\r\nX-A: a\r\nX-B: b\r\nbad line\r\n\r\n");
            }
            Client { peer: Peer::new(world.sim.connect(runtime.address), bytes), expected }
        })
        .collect()
}

fn story_of(seed: u64, mut random: Random, cuts: bool) -> u64 {
    let faults = if cuts { Faults::all(&mut random) } else { Faults::lossless(&mut random) };
    let workers = 1 + random.below(2) as u8;
    let mut world = World::new(seed, random, workers, faults);
    let count = 1 + world.random.below(3);
    let backends: Vec<Backend> = (0..count)
        .map(|index| {
            world.sim.serve(backend_address(index));
            Backend {
                name: format!("b{index}"),
                addresses: vec![backend_address(index).into()],
                ..Backend::default()
            }
        })
        .collect();
    let http = RuntimeConfig { protocol: Protocol::Http, ..config(RuntimeKind::Proxy) };
    let runtime = world.place(http, backends, None);
    let wanted = 1 + world.random.below(6);
    let mut clients = clients(&mut world, &runtime, wanted, cuts);
    let (mut served, mut seen): (Vec<Served>, Seen) = (Vec::new(), Seen::new());
    world.run("the requests", |world| {
        for index in 0..count {
            while let Some(id) = world.sim.accepted(backend_address(index)) {
                served.push(Served::new(Peer::new(id, Vec::new())));
            }
        }
        for it in &mut served {
            if world.random.chance(600) {
                it.step(world, &mut seen, cuts);
            }
        }
        let mut is_done = true;
        for it in &mut clients {
            it.peer.push(&world.sim, &mut world.random);
            it.peer.pull(&world.sim);
            // Some say that they are through as soon as they have asked for all.
            if it.peer.has_sent_all() && world.random.chance(50) {
                it.peer.shut(&world.sim);
            }
            let has_all = answers(&it.peer.received).len() >= it.expected.len();
            is_done &= it.peer.is_over(&world.sim) || has_all && world.random.chance(300);
        }
        is_done
    });
    for it in &mut clients {
        it.peer.pull(&world.sim);
        let got = answers(&it.peer.received);
        if !cuts {
            assert_eq!(got.len(), it.expected.len(), "{:?}: {:?}", got, world.logs);
        }
        for ((status, text), expected) in got.iter().zip(&it.expected) {
            match status {
                200 => assert_eq!(text, expected),
                502..=504 if cuts => {}
                other => panic!("{other} {text}: {:?}", world.logs),
            }
        }
        it.peer.shut(&world.sim);
    }
    served.iter_mut().for_each(|it| it.peer.shut(&world.sim));
    world.finish()
}

#[test]
fn every_answer_reaches_its_client() {
    story(61, 0..120, |seed, random| story_of(seed, random, false));
}

#[test]
fn no_answer_reaches_another_client() {
    story(62, 0..200, |seed, random| story_of(seed, random, true));
}
