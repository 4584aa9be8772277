//! HTTP: pipelines of all kinds of requests, cut anywhere, are answered once each and in their order.

use super::apps::load;
use super::{Peer, World, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::proto::http1::{Body, Field, HeadScan, ResponseBody, Step, parse_response};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::message::ToWorker;
use crate::runtime::{Protocol, RuntimeConfig};

const APP: &str = r#"
server "s" {
  on_http_request = function(req, res)
    local path = req.path
    local ms = path:match("^/wait/(%d+)")
    if ms then sleep(ms / 1000) return "waited " .. ms end
    if path:match("^/stream/") then
      for piece = 1, 3 do res:write(piece .. ";") sleep(0.002) end
      return
    end
    if path:match("^/detached/") then
      res:detach()
      after("0.01s", function() res:write("later") res:finish() end)
      return
    end
    if path:match("^/echo/") then return req.method .. " " .. req.body end
    if path:match("^/fail/") then error("meant") end
    return "at " .. path
  end,
  routes = {
    ["GET /const"] = "constant",
    ["POST /sum/:n"] = { stream = true, handler = function(req)
      local bytes = 0
      for piece in req:chunks() do bytes = bytes + #piece end
      return req.params.n .. " " .. bytes
    end },
    ["POST /ignore"] = { stream = true, handler = function() return "ignored" end },
  },
}
"#;

/// The same routes as data, as the control thread would hand them over.
fn routes() -> serde_json::Value {
    let stream = serde_json::json!({"stream": true, "handler": "<function>"});
    serde_json::json!({"GET /const": "constant", "POST /sum/:n": stream, "POST /ignore": stream})
}

fn start(seed: u64, random: Random, faults: Faults, protocol: Protocol) -> World {
    let mut world = World::new(seed, random, 1, faults);
    load(&mut world, APP, &[RuntimeKind::Server], &[]);
    let placement = &mut world.runtimes[0].placement;
    let mut config = RuntimeConfig { protocol, ..(*placement.config).clone() };
    let table = routes().as_object().cloned().unwrap_or_default();
    let parsed =
        crate::runtime::server::http::routes::Routes::parse(&table).expect("the routes are right");
    config.http.routes = Some(std::sync::Arc::new(parsed));
    placement.config = std::sync::Arc::new(config);
    let placement = placement.clone();
    let request = world.request();
    world.tell(0, ToWorker::Place { request, placement });
    world.run("the placement", |world| world.answers.contains_key(&request));
    world
}

/// A request's bytes, and its answer: status and body.
fn request(random: &mut Random, number: u64) -> (Vec<u8>, String) {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let bound = if random.chance(100) { 40_000 } else { 60 };
    let count = random.below(bound) as usize;
    let body = "b".repeat(count);
    let fixed = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = |random: &mut Random| {
        let mut out = "Transfer-Encoding: chunked\r\n\r\n".to_owned();
        let mut left = count;
        while left > 0 {
            let take = 1 + random.below(left as u64) as usize;
            out.push_str(&format!("{take:x};x=y\r\n{}\r\n", "b".repeat(take)));
            left -= take;
        }
        out + "0\r\nX-Trailer: z\r\n\r\n"
    };
    let framed = if random.chance(500) { fixed } else { chunked(random) };
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framed}").into_bytes();
    match random.below(9) {
        0 => (get("/const"), "200 constant".to_owned()),
        1 => {
            let ms = random.below(30);
            (get(&format!("/wait/{ms}")), format!("200 waited {ms}"))
        }
        2 => (get(&format!("/stream/{number}")), "200 1;2;3;".to_owned()),
        3 => (post(&format!("/echo/{number}")), format!("200 POST {body}")),
        4 => (post(&format!("/sum/{number}")), format!("200 {number} {count}")),
        5 => (get(&format!("/detached/{number}")), "200 later".to_owned()),
        6 => (get(&format!("/fail/{number}")), "500 500 Internal Server Error\n".to_owned()),
        7 => (post("/ignore"), "200 ignored".to_owned()),
        _ => (get(&format!("/x/{number}")), format!("200 at /x/{number}")),
    }
}

/// The answers in a stream: status and body of each.
fn answers(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let mut scan = HeadScan::default();
        let head = parse_response(bytes, &mut scan, false, &mut fields).expect("a response");
        let Some((response, end)) = head else { break };
        bytes = &bytes[end..];
        let mut text = format!("{} ", response.status);
        let ResponseBody::Framed(mut body) = response.body else { panic!("no end: {text}") };
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
        if response.status != 100 {
            found.push(text);
        }
    }
    assert!(bytes.is_empty(), "bytes behind the answers: {:?}", String::from_utf8_lossy(bytes));
    found
}

struct Client {
    peer: Peer,
    expected: Vec<String>,
}

fn client(world: &mut World) -> Client {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    let count = match world.random.below(10) {
        0 => 3 * limits::HTTP_PIPELINE_MAX as u64,
        _ => world.random.below(12),
    };
    for number in 0..count {
        let (request, answer) = request(&mut world.random, number);
        bytes.extend(request);
        expected.push(answer);
    }
    match world.random.below(3) {
        0 => {}
        1 => {
            bytes.extend(b"GET /const HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /after");
            expected.push("200 constant".to_owned());
        }
        _ => {
            bytes.extend(b"GET / HTTP/1.1\nHost: a\n\nGET /after HTTP/1.1\r\n\r\n");
            expected.push("400 400 Bad Request\n".to_owned());
        }
    }
    let address = world.runtimes[0].address;
    Client { peer: Peer::new(world.sim.connect(address), bytes), expected }
}

/// The original answered the first request of a pipeline and forgot the others.
#[test]
fn pipelines_are_answered_once_and_in_order() {
    story(50, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let protocol = [Protocol::Auto, Protocol::Http][random.below(2) as usize];
        let mut world = start(seed, random, faults, protocol);
        let count = 1 + world.random.below(3);
        let mut clients: Vec<Client> = (0..count).map(|_| client(&mut world)).collect();
        world.run("the answers", |world| {
            for client in &mut clients {
                let peer = &mut client.peer;
                world.sim.peer_pause(peer.id, world.random.chance(100));
                peer.push(&world.sim, &mut world.random);
                peer.pull(&world.sim);
                if peer.has_sent_all() {
                    peer.shut(&world.sim);
                }
            }
            clients.iter().all(|it| it.peer.is_over(&world.sim))
        });
        for client in &mut clients {
            client.peer.pull(&world.sim);
            assert_eq!(answers(&client.peer.received), client.expected, "{:?}", world.logs);
        }
        world.finish()
    });
}

/// Peers that break in the middle of anything leave nothing behind.
#[test]
fn broken_peers_leave_nothing_behind() {
    story(51, 0..60, |seed, mut random| {
        let faults = Faults::all(&mut random);
        let mut world = start(seed, random, faults, Protocol::Http);
        let mut clients: Vec<Client> = (0..4).map(|_| client(&mut world)).collect();
        world.run("the breaks", |world| {
            for client in &mut clients {
                client.peer.push(&world.sim, &mut world.random);
                if world.random.chance(30) || client.peer.has_sent_all() {
                    world.sim.peer_reset(client.peer.id);
                }
                client.peer.pull(&world.sim);
            }
            clients.iter().all(|it| it.peer.is_over(&world.sim))
        });
        world.run("the ends", |world| world.runtimes[0].connections() == 0);
        world.run_for_ms(1000);
        world.finish()
    });
}

/// A stop lets the requests that are under way end, and says that no more are taken.
#[test]
fn a_stop_answers_what_is_under_way() {
    story(53, 0..20, |seed, random| {
        let mut world = start(seed, random, Faults::NONE, Protocol::Http);
        let address = world.runtimes[0].address;
        let bytes = b"GET /wait/30 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let mut peers: Vec<Peer> = [bytes, Vec::new()]
            .map(|bytes| Peer::new(world.sim.connect(address), bytes))
            .into_iter()
            .collect();
        world.run("the request", |world| {
            peers.iter_mut().for_each(|peer| peer.push(&world.sim, &mut world.random));
            let stats = world.runtimes[0].stats();
            stats.sum(|cell| &cell.messages) == 1 && world.runtimes[0].connections() == 2
        });
        world.unlisten(0);
        world.stop(0, 5000);
        peers.iter_mut().for_each(|peer| peer.pull(&world.sim));
        let text = String::from_utf8_lossy(&peers[0].received).into_owned();
        assert!(text.contains("Connection: close") && text.ends_with("waited 30"), "{text}");
        assert!(peers[1].received.is_empty() && peers[1].is_over(&world.sim));
        world.finish()
    });
}

/// What a peer sends, and how long it takes to be turned away.
#[test]
fn slow_peers_are_turned_away_in_time() {
    let cases: [(&[u8], u64, &str); 5] = [
        (b"", limits::HTTP_IDLE_MS, ""),
        (b"GET / HTTP/1.1\r\nHos", limits::HTTP_HEAD_MS, "408 408 Request Timeout\n"),
        (
            b"POST /echo/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow",
            limits::HTTP_BODY_CHECK_MS,
            "408 408 Request Timeout\n",
        ),
        (
            b"POST /sum/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow",
            limits::HTTP_BODY_CHECK_MS,
            "200 1 4",
        ),
        (b"GET /const HTTP/1.1\r\nHost: a\r\n\r\n", limits::HTTP_IDLE_MS, "200 constant"),
    ];
    story(52, 0..10, |seed, random| {
        let mut world = start(seed, random, Faults::NONE, Protocol::Http);
        let (bytes, limit_ms, expected) = cases[seed as usize % cases.len()];
        let address = world.runtimes[0].address;
        let mut peer = Peer::new(world.sim.connect(address), bytes.to_vec());
        let start_ms = world.sim.now().monotonic_ms();
        world.run("the end", |world| {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            peer.is_over(&world.sim)
        });
        let took_ms = world.sim.now().monotonic_ms() - start_ms;
        assert!((limit_ms..limit_ms + 3000).contains(&took_ms), "{took_ms} of {limit_ms} ms");
        let found = answers(&peer.received);
        assert!(found.last().map_or("", String::as_str).contains(expected), "{found:?}");
        world.finish()
    });
}
