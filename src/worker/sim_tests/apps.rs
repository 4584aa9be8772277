//! Apps: handlers that answer, wait, close and are replaced, under the same traffic and faults as everything else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Peer, Runtime, World, config, story};
use crate::id::{AppId, RuntimeKind};
use crate::lua::{AppSource, Definitions, VmLimits};
use crate::ring::random::Random;
use crate::ring::sim::Faults;
use crate::runtime::message::{FromWorker, ToWorker};
use crate::runtime::{Backend, Placement, Protocol};

const APP: AppId = AppId(1);

/// Answers each line with the generation's number and the line; `wNN` waits so many milliseconds before, `bye` closes.
const ECHO: &str = r#"
local generation = GENERATION
local s
s = server "s" {
  state = { lines = 0 },
  on_connect = function(conn) socketley.log("connect " .. conn.id) end,
  on_disconnect = function(conn) socketley.log("disconnect " .. conn.id) end,
  on_message = function(conn, msg)
    local ms = msg:match("^w(%d+)")
    if ms then sleep(ms / 1000) end
    if msg == "count" then
      s.state.lines = s.state.lines + 1
      msg = msg .. s.state.lines
    end
    conn:send(generation .. ":" .. msg)
    if msg == "bye" then conn:close() end
  end,
}
"#;

fn source(text: &str, generation: u32) -> Arc<AppSource> {
    Arc::new(AppSource {
        name: "app".to_owned(),
        path: PathBuf::from("/nowhere/app.lua"),
        text: text.replace("GENERATION", &generation.to_string()),
        generation,
        owner: None,
        modules: Vec::new(),
        limits: VmLimits { budget_ms: 10_000, memory_bytes: 64 << 20, restricted: false },
    })
}

/// Asks the first worker for a generation; the request that [`prepared`] answers.
fn prepare(world: &mut World, text: &str, generation: u32) -> u64 {
    let (request, source) = (world.request(), source(text, generation));
    world.tell(0, ToWorker::Prepare { request, app: APP, source });
    request
}

/// The answer to a preparation, once it has come: what the file defines, or nothing if it is wrong.
fn prepared(world: &World, wanted: u64) -> Option<Option<&Definitions>> {
    world.heard.iter().find_map(|message| match message {
        FromWorker::Prepared { request, result, .. } if *request == wanted => {
            Some(result.as_ref().ok())
        }
        _ => None,
    })
}

/// Commits a generation for the first `count` runtimes of the world; the request.
fn commit(world: &mut World, generation: u32, count: usize) -> u64 {
    let request = world.request();
    let placements: Vec<Placement> =
        world.runtimes[..count].iter().map(|runtime| runtime.placement.clone()).collect();
    world.tell(0, ToWorker::Commit { request, app: APP, generation, is_home: true, placements });
    request
}

/// Loads a file as generation 1, with runtimes of these kinds.
pub fn load(world: &mut World, text: &str, kinds: &[RuntimeKind], backends: &[Backend]) {
    let request = prepare(world, text, 1);
    world.run("the load", |world| prepared(world, request).is_some());
    let definitions = prepared(world, request).flatten().expect("the file is right");
    assert_eq!(definitions.runtimes.len(), kinds.len());
    for (at, kind) in kinds.iter().enumerate() {
        let mut config = config(*kind);
        config.name = ["s", "t", "u"][at].to_owned();
        if *kind == RuntimeKind::Server && world.random.chance(500) {
            config.protocol = Protocol::Auto;
        }
        let index = world.add(config, backends.to_vec(), None, 1);
        world.runtimes[index].placement.app = Some((APP, at));
    }
    let request = commit(world, 1, kinds.len());
    world.run("the first commit", |world| world.answers.contains_key(&request));
    (0..kinds.len()).for_each(|index| world.listen(index));
}

/// Loads a file that defines one cache, which all workers serve; its app is at home on the first one.
pub fn load_cache(world: &mut World, text: &str, store: Arc<crate::store::SharedStore>) {
    let request = prepare(world, text, 1);
    world.run("the load", |world| prepared(world, request).is_some());
    let definitions = prepared(world, request).flatten().expect("the file is right");
    let fields = definitions.runtimes[0].fields.clone();
    let workers = world.worker_count();
    let mut fields = crate::runtime::RuntimeConfig::parse(RuntimeKind::Cache, "db", &fields)
        .expect("the fields are right");
    fields.listen = None;
    let index = world.add(fields, Vec::new(), Some(store), workers);
    world.runtimes[index].placement.app = Some((APP, 0));
    let request = commit(world, 1, 1);
    world.run("the first commit", |world| world.answers.contains_key(&request));
    for worker in 1..workers {
        let request = world.request();
        let placement = world.runtimes[index].placement.clone();
        world.tell(worker, ToWorker::Place { request, placement });
    }
    world.listen(index);
}

/// Ends the app on its worker.
pub fn drop_app(world: &mut World) {
    world.tell(0, ToWorker::DropApp { app: APP });
}

/// Lines for a client, and what each is answered with, without the generation.
fn lines(random: &mut Random) -> Vec<String> {
    let count = random.below(12);
    (0..count)
        .map(|number| match random.below(5) {
            0 => format!("w{} {number}", random.below(40)),
            _ => format!("line {number}"),
        })
        .collect()
}

struct Client {
    peer: Peer,
    lines: Vec<String>,
    bye: bool,
}

impl Client {
    fn new(world: &mut World, runtime: &Runtime) -> Client {
        let mut lines = lines(&mut world.random);
        let bye = world.random.chance(200);
        if bye {
            lines.push("bye".to_owned());
        }
        let mut text = lines.join("\n");
        if bye {
            text.push_str("\nafter\nthe end");
        } else if !lines.is_empty() && world.random.chance(500) {
            text.push('\n');
        }
        let peer = Peer::new(world.sim.connect(runtime.address), text.into_bytes());
        Client { peer, lines, bye }
    }

    fn step(&mut self, world: &mut World, breaks: bool) {
        let (sim, random) = (&world.sim, &mut world.random);
        if random.chance(700) {
            self.peer.pull(sim);
        }
        sim.peer_pause(self.peer.id, random.chance(100));
        self.peer.push(sim, random);
        if breaks && random.chance(30) {
            sim.peer_reset(self.peer.id);
        }
        if self.peer.has_sent_all() {
            self.peer.shut(sim);
        }
    }

    /// Every line is answered once, in order, by generations that never go back.
    fn check(&mut self, world: &World, whole: bool) {
        self.peer.pull(&world.sim);
        let text = String::from_utf8_lossy(&self.peer.received).into_owned();
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        let mut newest = 0;
        let mut answers = Vec::new();
        for line in text[..end].lines() {
            let (generation, answer) = line.split_once(':').expect("a generation and a line");
            let generation: u32 = generation.parse().expect("a number");
            assert!(generation >= newest, "generation {generation} after {newest}");
            newest = generation;
            answers.push(answer.to_owned());
        }
        if whole {
            assert_eq!(answers, self.lines, "bye {}, {:?}", self.bye, world.logs);
        } else {
            assert!(self.lines.starts_with(&answers), "{answers:?} of {:?}", self.lines);
        }
    }
}

/// Each connection that was announced has ended, once, and none ended that wasn't.
fn check_announced(logs: &[String], at_least: usize) {
    let mut open: BTreeMap<&str, bool> = BTreeMap::new();
    for text in logs {
        if let Some(id) = text.strip_prefix("connect ") {
            assert!(open.insert(id, true).is_none(), "{id} is announced twice");
        } else if let Some(id) = text.strip_prefix("disconnect ") {
            assert_eq!(open.insert(id, false), Some(true), "{id} ended without being open");
        }
    }
    assert!(open.values().all(|is_open| !is_open), "never ended: {open:?} {logs:?}");
    assert!(open.len() >= at_least, "{} connections were announced", open.len());
}

fn echo_story(seed: u64, mut random: Random, lossless: bool, reloads: bool) -> u64 {
    let faults = if lossless { Faults::lossless(&mut random) } else { Faults::all(&mut random) };
    let mut world = World::new(seed, random, 1, faults);
    load(&mut world, ECHO, &[RuntimeKind::Server], &[]);
    let runtime = world.runtimes[0].clone();
    let protocol = runtime.placement.config.protocol;
    let count = 1 + world.random.below(4);
    let mut clients: Vec<Client> = (0..count).map(|_| Client::new(&mut world, &runtime)).collect();
    let mut reload = Reload { generation: 1, asked: None, is_broken: false };
    world.run("the clients' lines", |world| {
        clients[world.random.below(count) as usize].step(world, !lossless);
        if reloads {
            reload.step(world);
        }
        clients.iter().all(|it| it.peer.has_sent_all() && it.peer.is_over(&world.sim))
    });
    for client in &mut clients {
        client.check(&world, lossless);
    }
    world.run("the ends", |_| runtime.connections() == 0);
    // Lines that were read before the end are still handled, waits and all.
    world.run_for_ms(1_000);
    // On `auto` the app never meets a client that says nothing before its end.
    let met = |client: &&Client| protocol == Protocol::Messages || !client.peer.to_send.is_empty();
    let met = clients.iter().filter(met).count();
    check_announced(&world.logs, if lossless { met } else { 0 });
    world.finish()
}

/// Replaces the app again and again; sometimes by a file that is wrong, which changes nothing.
struct Reload {
    generation: u32,
    asked: Option<u64>,
    is_broken: bool,
}

impl Reload {
    fn step(&mut self, world: &mut World) {
        match self.asked {
            None if world.random.chance(100) => {
                self.generation += 1;
                self.is_broken = world.random.chance(300);
                let text = if self.is_broken { "server = = nothing" } else { ECHO };
                self.asked = Some(prepare(world, text, self.generation));
            }
            Some(request) if world.random.chance(300) => {
                let Some(answer) = prepared(world, request) else { return };
                assert_eq!(answer.is_none(), self.is_broken);
                if !self.is_broken && world.random.chance(800) {
                    commit(world, self.generation, 1);
                } else {
                    let generation = self.generation;
                    world.tell(0, ToWorker::Discard { app: APP, generation });
                }
                self.asked = None;
            }
            _ => {}
        }
    }
}

#[test]
fn lines_are_answered_in_order_though_handlers_wait() {
    story(51, 0..100, |seed, random| echo_story(seed, random, true, false));
}

#[test]
fn connections_that_break_while_handlers_wait_end_once() {
    story(52, 0..100, |seed, random| echo_story(seed, random, false, false));
}

#[test]
fn a_reload_under_traffic_loses_doubles_and_reorders_nothing() {
    story(53, 0..100, |seed, random| echo_story(seed, random, true, true));
}

#[test]
fn connections_that_break_during_reloads_end_once() {
    story(54, 0..60, |seed, random| echo_story(seed, random, false, true));
}

/// Lines that the old generation has read but not yet handled count in the state that moves over.
#[test]
fn the_state_counts_every_line_across_reloads() {
    story(55, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        load(&mut world, ECHO, &[RuntimeKind::Server], &[]);
        let total = 40;
        let text = "count\n".repeat(total).into_bytes();
        let mut peer = Peer::new(world.sim.connect(world.runtimes[0].address), text);
        let mut reload = Reload { generation: 1, asked: None, is_broken: false };
        world.run("the counted lines", |world| {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            reload.step(world);
            peer.received.iter().filter(|byte| **byte == b'\n').count() == total
        });
        let text = String::from_utf8_lossy(&peer.received).into_owned();
        for (at, line) in text.lines().enumerate() {
            assert!(line.ends_with(&format!(":count{}", at + 1)), "{line} is answer {}", at + 1);
        }
        world.finish()
    });
}

/// `on_stop` runs, and may wait, before the connections are closed; the stop is answered after it.
#[test]
fn a_stop_lets_its_handler_finish() {
    const TEXT: &str = r#"
server "s" {
  on_message = function(conn, msg) conn:send(msg) end,
  on_stop = function() sleep(0.02) self.broadcast("last words") sleep(0.02) socketley.log("stopped") end,
}
"#;
    story(56, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        load(&mut world, TEXT, &[RuntimeKind::Server], &[]);
        let runtime = world.runtimes[0].clone();
        let mut peer = Peer::new(world.sim.connect(runtime.address), b"hello\n".to_vec());
        world.run("the echo", |world| {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            peer.received.len() == 6
        });
        world.unlisten(0);
        world.stop(0, 20_000);
        assert!(world.logs.iter().any(|text| text == "stopped"), "{:?}", world.logs);
        peer.pull(&world.sim);
        assert_eq!(peer.received, b"hello\nlast words\n");
        world.finish()
    });
}

/// A file that no longer defines a runtime: its connections live until control has stopped it, unheard, and disturb
/// nothing.
#[test]
fn a_runtime_that_its_file_drops_ends_quietly() {
    const BOTH: &str = r#"
server "s" { on_message = function(conn, msg) conn:send(msg) end }
server "t" { on_message = function(conn, msg) sleep(0.05) conn:send(msg) end }
"#;
    const ONE: &str =
        r#"server "s" { on_message = function(conn, msg) conn:send("2" .. msg) end }"#;
    story(57, 0..40, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        load(&mut world, BOTH, &[RuntimeKind::Server, RuntimeKind::Server], &[]);
        let runtimes = world.runtimes.clone();
        let mut peers: Vec<Peer> = [0, 1, 1]
            .map(|at: usize| world.sim.connect(runtimes[at].address))
            .into_iter()
            .map(|id| Peer::new(id, b"one\ntwo\nthree\nfour\n".to_vec()))
            .collect();
        world.run("the connects", |_| runtimes.iter().map(Runtime::connections).sum::<u64>() == 3);
        let request = prepare(&mut world, ONE, 2);
        world.run("the new file", |world| {
            peers.iter_mut().for_each(|peer| peer.push(&world.sim, &mut world.random));
            prepared(world, request).is_some()
        });
        let request = commit(&mut world, 2, 1);
        world.run("its commit", |world| world.answers.contains_key(&request));
        peers[0].to_send.extend(b"more\n");
        for peer in &mut peers[1..] {
            peer.push(&world.sim, &mut world.random);
            if world.random.chance(300) {
                peer.shut(&world.sim);
            }
        }
        (0..world.random.below(60)).for_each(|_| world.turn());
        world.unlisten(1);
        world.stop(1, 300);
        world.run("the answer", |world| {
            peers[0].push(&world.sim, &mut world.random);
            peers[0].pull(&world.sim);
            peers[0].received.ends_with(b"2more\n")
        });
        world.tell(0, ToWorker::DropApp { app: APP });
        world.finish()
    });
}

/// Routes that are decided after a wait: the bytes that came meanwhile cross, a client that leaves meanwhile is gone.
#[test]
fn a_route_may_wait() {
    const TEXT: &str = r#"
proxy "s" { backends = { "b0", "b1" }, on_route = function(req) sleep(0.01) return 1 end }
"#;
    story(58, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        let backends: Vec<Backend> = (0..2)
            .map(|index| Backend {
                name: format!("b{index}"),
                addresses: vec![std::net::SocketAddr::from(([10, 0, 0, index + 1], 80)).into()],
                ..Backend::default()
            })
            .collect();
        backends.iter().for_each(|backend| world.sim.serve(backend.addresses[0].clone()));
        load(&mut world, TEXT, &[RuntimeKind::Proxy], &backends);
        let runtime = world.runtimes[0].clone();
        let mut client = Peer::new(world.sim.connect(runtime.address), b"through".to_vec());
        let leaver = world.sim.connect(runtime.address);
        world.sim.peer_reset(leaver);
        let mut backs: Vec<Peer> = Vec::new();
        world.run("the routed bytes", |world| {
            client.push(&world.sim, &mut world.random);
            while let Some(id) = world.sim.accepted(backends[1].addresses[0].clone()) {
                backs.push(Peer::new(id, Vec::new()));
            }
            backs.iter_mut().for_each(|peer| peer.pull(&world.sim));
            backs.iter().any(|peer| peer.received == b"through")
        });
        assert!(
            world.sim.accepted(backends[0].addresses[0].clone()).is_none(),
            "route 1 is the second"
        );
        world.finish()
    });
}
