//! What the control thread asks: listening, stopping and shutting down at any moment, each answered once.

use super::world::{self, World};
use super::{Peer, config, story};
use crate::id::RuntimeKind;
use crate::limits;
use crate::ring::sim::Faults;
use crate::runtime::message::ToWorker;
use crate::runtime::{Backend, RuntimeStats};

/// Descriptors run out and come back: accepting goes on after its pause, and no connection that came meanwhile is lost.
#[test]
fn accepting_survives_a_lack_of_descriptors() {
    story(41, 0..40, |seed, mut random| {
        let faults = Faults { accept_failure: 1000, ..Faults::lossless(&mut random) };
        let mut world = World::new(seed, random, 2, faults.clone());
        let runtime = world.place(config(RuntimeKind::Server), Vec::new(), None);
        for _ in 0..3 {
            world.sim.connect(runtime.address);
        }
        let pauses = 2 + world.random.below(3);
        world.run_for_ms(pauses * limits::ACCEPT_PAUSE_MS);
        assert_eq!(runtime.connections(), 0);
        let warnings = world.logs.iter().filter(|text| text.contains("can't accept")).count();
        assert!((1..=pauses as usize + 1).contains(&warnings), "{warnings} warnings");
        world.sim.set_faults(Faults { accept_failure: 0, ..faults });
        world.run("the accepts", |_| runtime.connections() == 3);
        world.finish()
    });
}

/// Listening stops and starts again under connects; what was accepted stays, every request is answered once.
#[test]
fn listening_stops_and_starts_at_any_moment() {
    story(42, 0..60, |seed, mut random| {
        let faults = Faults::lossless(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let runtime = world.place(config(RuntimeKind::Server), Vec::new(), None);
        let mut peers = Vec::new();
        for _ in 0..3 {
            for _ in 0..world.random.below(4) {
                peers.push(Peer::new(world.sim.connect(runtime.address), Vec::new()));
            }
            (0..world.random.below(30)).for_each(|_| world.turn());
            world.unlisten(0);
            let broken = |world: &World| {
                peers.iter().filter(|peer| world.sim.peer_is_reset(peer.id)).count() as u64
            };
            let count = peers.len() as u64;
            world.run("the accepted ones", |world| runtime.connections() + broken(world) == count);
            world.listen(0);
        }
        world.finish()
    });
}

/// Stop and unlisten in one breath, twice, while connections come and go.
#[test]
fn requests_are_answered_once_whatever_their_order() {
    story(43, 0..100, |seed, mut random| {
        let faults = Faults::all(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let runtime = world.place(config(RuntimeKind::Server), Vec::new(), None);
        let fd = world.runtimes[0].listener.take().expect("it listens");
        for _ in 0..world.random.below(6) {
            let peer = world.sim.connect(runtime.address);
            world.sim.peer_send(peer, b"some\nlines\n");
            world.sim.peer_pause(peer, world.random.chance(300));
        }
        (0..world.random.below(40)).for_each(|_| world.turn());
        let mut requests = Vec::new();
        for _ in 0..1 + world.random.below(6) {
            let (request, id) = (world.request(), runtime.id());
            requests.push(request);
            let worker = world.random.below(u64::from(workers)) as u8;
            if worker == 0 && world.random.chance(500) {
                world.tell(0, ToWorker::Unlisten { request, runtime: id });
            } else {
                let drain_ms = world.random.below(2_000);
                world.tell(worker, ToWorker::Stop { request, runtime: id, drain_ms });
            }
            (0..world.random.below(10)).for_each(|_| world.turn());
        }
        let request = world.request();
        requests.push(request);
        world.tell(0, ToWorker::Unlisten { request, runtime: runtime.id() });
        world.run("the answers", |world| requests.iter().all(|it| world.answers.contains_key(it)));
        world.sim.close_listener(fd);
        world.finish()
    });
}

/// The end of the process: from any state, every worker closes all it has and ends within its time.
#[test]
fn a_shutdown_closes_everything_from_any_state() {
    story(44, 0..120, |seed, mut random| {
        let faults = Faults::all(&mut random);
        let workers = 1 + random.below(3) as u8;
        let mut world = World::new(seed, random, workers, faults);
        let backend = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
        world.sim.serve(backend);
        let backends = vec![Backend {
            name: "b".to_owned(),
            addresses: vec![backend.into()],
            ..Backend::default()
        }];
        let store = world::store(seed, None);
        world.place(config(RuntimeKind::Server), Vec::new(), None);
        world.place(config(RuntimeKind::Cache), Vec::new(), Some(store.clone()));
        world.place(config(RuntimeKind::Proxy), backends.clone(), None);
        world.place(config(RuntimeKind::Client), backends, None);
        let runtimes = world.runtimes.clone();
        for _ in 0..world.random.below(8) {
            let at = world.random.below(3) as usize;
            let peer = world.sim.connect(runtimes[at].address);
            world.sim.peer_send(peer, b"PING\r\nSET k v\r\nGET");
            world.sim.peer_pause(peer, world.random.chance(500));
            (0..world.random.below(20)).for_each(|_| world.turn());
        }
        let listeners: Vec<_> = runtimes.iter().filter_map(|runtime| runtime.listener).collect();
        let (sim, drain_ms) = (world.sim.clone(), world.random.below(3_000));
        let start_ms = sim.now().monotonic_ms();
        let digest = world.shut_down(drain_ms);
        let took_ms = sim.now().monotonic_ms() - start_ms;
        assert!(took_ms <= drain_ms + 500, "{took_ms} ms for a drain of {drain_ms} ms");
        listeners.into_iter().for_each(|fd| sim.close_listener(fd));
        for runtime in runtimes {
            let upstream = |stats: &RuntimeStats| stats.sum(|cell| &cell.upstream_connections);
            assert_eq!((runtime.connections(), upstream(runtime.stats())), (0, 0));
        }
        assert_eq!(store.snapshot(0).clients, 0);
        digest
    });
}
