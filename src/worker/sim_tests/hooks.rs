//! Hooks of a cache that several workers serve: whichever worker a client is on, the app at home hears of everything
//! once, a missing key is asked for once, and changes are written behind.

use std::collections::BTreeMap;

use super::apps;
use super::world::{self, World};
use super::{Peer, Runtime, story};
use crate::ring::random::Random;
use crate::ring::sim::Faults;

const APP: &str = r#"
local tries = 0
cache "db" {
  on_miss = function(key)
    log.info("asked %s", key)
    sleep(tonumber(key:match("%d+$")) / 1000)
    if key:find("none", 1, true) then return nil end
    return "value of " .. key
  end,
  on_write = function(key, value) log.info("written %s %s", key, value) end,
  on_delete = function(key)
    if key:find("slow", 1, true) then sleep(0.02) end
    log.info("deleted %s", key)
  end,
  write_behind = { every = "20ms", max = 4, run = function(batch)
    tries = tries + 1
    sleep(0.005)
    if tries % 3 == 1 then error("the disk is full") end
    for _, row in ipairs(batch) do
      log.info("behind %s %s", row.key, row.deleted and "deleted" or row.value)
    end
  end },
}
"#;

fn start(seed: u64, random: Random) -> (World, Runtime) {
    let mut random = random;
    let faults = Faults::lossless(&mut random);
    let workers = 1 + random.below(3) as u8;
    let mut world = World::new(seed, random, workers, faults);
    let store = world::store(seed, None);
    world.name_store("db", std::sync::Arc::clone(&store));
    apps::load_cache(&mut world, APP, store);
    let runtime = world.runtimes[0].clone();
    (world, runtime)
}

/// Sends commands, each as one line, and waits for so many lines of replies.
fn talk(
    world: &mut World,
    runtime: &Runtime,
    clients: &[Vec<String>],
    lines: &[usize],
) -> Vec<String> {
    let mut peers: Vec<Peer> = clients
        .iter()
        .map(|commands| {
            let text = commands.iter().map(|command| format!("{command}\r\n")).collect::<String>();
            Peer::new(world.sim.connect(runtime.address), text.into_bytes())
        })
        .collect();
    let count = |peer: &Peer| peer.received.iter().filter(|byte| **byte == b'\n').count();
    world.run("the replies", |world| {
        for peer in &mut peers {
            peer.push(&world.sim, &mut world.random);
            peer.pull(&world.sim);
        }
        peers.iter().zip(lines).all(|(peer, lines)| count(peer) >= *lines)
    });
    peers.iter().for_each(|peer| world.sim.peer_shutdown(peer.id));
    let text = |peer: &Peer| String::from_utf8_lossy(&peer.received).into_owned();
    peers.iter().map(text).collect()
}

#[test]
fn a_missing_key_is_asked_for_once_whoever_wants_it() {
    story(31, 0..30, |seed, random| {
        let (mut world, runtime) = start(seed, random);
        let count = 2 + world.random.below(6) as usize;
        let keys: Vec<String> = (0..3).map(|key| format!("k{key}:{}", 5 + 10 * key)).collect();
        let pick = |random: &mut Random| keys[random.below(3) as usize].clone();
        let clients: Vec<Vec<String>> = (0..count)
            .map(|_| (0..3).map(|_| format!("GET {}", pick(&mut world.random))).collect())
            .collect();
        let replies = talk(&mut world, &runtime, &clients, &vec![6; count]);
        for (commands, reply) in clients.iter().zip(replies) {
            let value = |command: &String| format!("value of {}", &command[4..]);
            let expected: Vec<String> = commands.iter().map(value).collect();
            let got: Vec<&str> = reply.lines().skip(1).step_by(2).collect();
            assert_eq!(got, expected);
        }
        let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
        world.logs.iter().filter_map(|line| line.strip_prefix("asked ")).for_each(|key| {
            *asked.entry(key).or_default() += 1;
        });
        assert!(asked.values().all(|times| *times == 1), "{asked:?}");
        world.finish()
    });
}

#[test]
fn the_app_hears_of_each_change_once_and_in_order() {
    story(32, 0..30, |seed, random| {
        let (mut world, runtime) = start(seed, random);
        let count = 1 + world.random.below(3) as usize;
        let each = 1 + world.random.below(20) as usize;
        let clients: Vec<Vec<String>> = (0..count)
            .map(|client| {
                let mut commands = Vec::new();
                for number in 0..each {
                    commands.push(format!("SET c{client} {number}"));
                }
                commands.push(format!("DEL c{client}"));
                commands
            })
            .collect();
        talk(&mut world, &runtime, &clients, &vec![each + 1; count]);
        let done = |world: &World| world.logs.iter().filter(|l| l.starts_with("deleted")).count();
        world.run("the hooks", |world| done(world) == count);
        for client in 0..count {
            let key = format!(" c{client}");
            let own = |line: &&String| {
                line.contains(&key) && (line.starts_with("written") || line.starts_with("deleted"))
            };
            let heard: Vec<&String> = world.logs.iter().filter(own).collect();
            let mut expected: Vec<String> =
                (0..each).map(|number| format!("written c{client} {number}")).collect();
            expected.push(format!("deleted c{client}"));
            assert_eq!(heard, expected.iter().collect::<Vec<_>>());
        }
        world.finish()
    });
}

/// Every third batch or so fails; what is written at last is what the keys hold, before the stop has ended.
#[test]
fn changes_reach_the_other_side_although_batches_fail() {
    story(33, 0..30, |seed, random| {
        let (mut world, runtime) = start(seed, random);
        let count = 5 + world.random.below(20) as usize;
        let commands: Vec<String> =
            (0..count).map(|number| format!("SET k{} {number}", number % 7)).collect();
        talk(&mut world, &runtime, std::slice::from_ref(&commands), &[count]);
        let last: BTreeMap<String, String> = commands
            .iter()
            .map(|command| {
                let (key, value) = command[4..].split_once(' ').expect("a key and a value");
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let written = |world: &World| {
            let rows = world.logs.iter().filter_map(|line| line.strip_prefix("behind "));
            let pairs = rows.filter_map(|row| row.split_once(' '));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        world.run("the batches", |world| written(world) == last);
        world.finish()
    });
}
