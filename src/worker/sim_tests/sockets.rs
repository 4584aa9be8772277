//! Scripts that make connections of their own while they serve: every answer comes whole, and nothing is left open.

use std::net::SocketAddr;

use super::apps::{drop_app, load};
use super::{Peer, World, story};
use crate::id::RuntimeKind;
use crate::ring::random::Random;
use crate::ring::sim::Faults;

/// Passes each line on, `xN` times over, and answers when the same has come back.
const RELAY: &str = r#"
server "s" {
  on_message = function(conn, line)
    local upstream, err = tcp.connect("10.0.0.9", 7000, { timeout = "1h" })
    if not upstream then return conn:send("failed " .. err.code) end
    local ok, answer = pcall(function()
      local payload = string.rep(line, tonumber(line:match("^x(%d+)")) or 1)
      local sent, problem = upstream:send(payload .. "\n")
      if not sent then return "failed " .. problem.code end
      local half, rest
      half, problem = upstream:receive(math.floor(#payload / 2))
      if half then rest, problem = upstream:receive("*l") end
      if not rest then return "failed " .. problem.code end
      return half .. rest == payload and line or "garbled"
    end)
    upstream:close()
    if not ok then error(answer, 0) end
    conn:send(answer)
  end,
}
"#;

fn upstream() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 7000))
}

fn line(random: &mut Random, number: u64) -> String {
    match random.below(4) {
        0 => format!("x{} line {number}", 1 + random.below(300)),
        _ => format!("line {number}"),
    }
}

/// The far end of the scripts' connections: what comes goes back.
struct Echo(Vec<Peer>);

impl Echo {
    fn step(&mut self, world: &mut World, breaks: bool) {
        while let Some(id) = world.sim.accepted(upstream()) {
            self.0.push(Peer::new(id, Vec::new()));
        }
        let (sim, random) = (&world.sim, &mut world.random);
        for peer in &mut self.0 {
            if random.chance(300) {
                sim.peer_pause(peer.id, random.chance(200));
                peer.pull(sim);
                peer.to_send.append(&mut peer.received);
            }
            peer.push(sim, random);
            if breaks && random.chance(3) {
                sim.peer_reset(peer.id);
            }
            if sim.peer_has_ended(peer.id) && peer.has_sent_all() {
                peer.shut(sim);
            }
        }
    }
}

fn relay_story(seed: u64, mut random: Random, lossless: bool) -> u64 {
    let faults = if lossless { Faults::lossless(&mut random) } else { Faults::all(&mut random) };
    relay(seed, random, faults, lossless, line)
}

fn relay(
    seed: u64,
    random: Random,
    faults: Faults,
    lossless: bool,
    line: fn(&mut Random, u64) -> String,
) -> u64 {
    let mut world = World::new(seed, random, 1, faults);
    world.sim.serve(upstream());
    load(&mut world, RELAY, &[RuntimeKind::Server], &[]);
    let runtime = world.runtimes[0].clone();
    let count = 1 + world.random.below(3);
    let mut clients: Vec<(Peer, Vec<String>)> = Vec::new();
    for _ in 0..count {
        let total = 1 + world.random.below(4);
        let lines: Vec<String> = (0..total).map(|at| line(&mut world.random, at)).collect();
        let text = format!("{}\n", lines.join("\n")).into_bytes();
        clients.push((Peer::new(world.sim.connect(runtime.address), text), lines));
    }
    let mut echo = Echo(Vec::new());
    world.run("the relayed lines", |world| {
        echo.step(world, !lossless);
        let mut all = true;
        for (peer, lines) in &mut clients {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
            if !lossless && world.random.chance(2) {
                world.sim.peer_reset(peer.id);
            }
            let answers = peer.received.iter().filter(|byte| **byte == b'\n').count();
            let over = answers == lines.len() || peer.is_over(&world.sim);
            if over {
                peer.shut(&world.sim);
            }
            all &= over;
        }
        all
    });
    for (peer, lines) in &clients {
        let text = String::from_utf8_lossy(&peer.received).into_owned();
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        for (answer, line) in text[..end].lines().zip(lines) {
            let is_right = answer == line || !lossless && answer.starts_with("failed ");
            assert!(is_right, "{answer:?} for {line:?}");
        }
    }
    drop_app(&mut world);
    world.run("the sockets' ends", |world| {
        echo.step(world, false);
        world.workers[0].as_mut().is_some_and(|worker| worker.local().sockets.is_empty())
    });
    world.finish()
}

#[test]
fn what_scripts_send_comes_back_whole() {
    story(91, 0..24, |seed, random| relay_story(seed, random, true));
}

#[test]
fn broken_connections_are_told_to_scripts_and_leave_nothing() {
    story(92, 0..24, |seed, random| relay_story(seed, random, false));
}

/// More than a socket takes at once: the sender waits until its peer has read most of it.
#[test]
fn a_slow_reader_makes_its_sender_wait() {
    let line = |_: &mut Random, number| format!("x30000 line {number}");
    story(95, 1..4, |seed, random| relay(seed, random, Faults::NONE, true, line));
}

/// A peer that accepts and says nothing, or isn't there: the handler goes on after its time, not later.
#[test]
fn a_timeout_ends_every_wait() {
    const PATIENT: &str = r#"
server "s" {
  on_message = function(conn, line)
    local upstream, err = tcp.connect("10.0.0.9", tonumber(line), { timeout = 5 })
    if not upstream then return conn:send(err.code) end
    local answer, problem = upstream:receive("*l", 2)
    upstream:close()
    conn:send(answer or problem.code)
  end,
}
"#;
    story(93, 0..8, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let mut world = World::new(seed, random, 1, faults);
        world.sim.serve(upstream());
        load(&mut world, PATIENT, &[RuntimeKind::Server], &[]);
        let address = world.runtimes[0].address;
        let mut client = Peer::new(world.sim.connect(address), b"7000\n7001\n".to_vec());
        let start_ms = world.sim.now().monotonic_ms();
        world.run("the timeouts", |world| {
            client.push(&world.sim, &mut world.random);
            client.pull(&world.sim);
            client.received.ends_with(b"refused\n")
        });
        assert_eq!(client.received, b"timeout\nrefused\n");
        let took_ms = world.sim.now().monotonic_ms() - start_ms;
        assert!((2_000..5_000).contains(&took_ms), "{took_ms} ms");
        client.shut(&world.sim);
        drop_app(&mut world);
        world.finish()
    });
}

/// A script that dials without end gets so many sockets and then an error that says so; they are closed when nothing
/// refers to them any more, and all with the app.
#[test]
fn a_flood_of_dials_is_bounded() {
    const FLOOD: &str = r#"
local kept = {}
server "s" {
  on_message = function(conn, line)
    local problem
    repeat
      local upstream, err = tcp.connect("10.0.0.9", 7000)
      kept[#kept + 1], problem = upstream, err
    until problem
    conn:send(problem.code .. " " .. #kept .. " " .. tostring(problem))
  end,
}
"#;
    story(94, 1..2, |seed, random| {
        let mut world = World::new(seed, random, 1, Faults::NONE);
        world.sim.serve(upstream());
        load(&mut world, FLOOD, &[RuntimeKind::Server], &[]);
        let address = world.runtimes[0].address;
        let mut client = Peer::new(world.sim.connect(address), b"go\n".to_vec());
        let mut echo = Echo(Vec::new());
        world.run("the flood", |world| {
            client.push(&world.sim, &mut world.random);
            client.pull(&world.sim);
            client.received.ends_with(b"\n")
        });
        let max = crate::limits::SCRIPT_SOCKETS_MAX;
        let expected = format!(
            "limit {max} the app has {max} sockets already; close some, or keep them in a pool\n"
        );
        assert_eq!(String::from_utf8_lossy(&client.received), expected);
        client.shut(&world.sim);
        drop_app(&mut world);
        world.run("the sockets' ends", |world| {
            echo.step(world, false);
            world.workers[0].as_mut().is_some_and(|worker| worker.local().sockets.is_empty())
        });
        world.finish()
    });
}
