//! The simulated driver: the echo loop over many seeds, and each promise of the simulation by itself.

use std::net::SocketAddr;

use super::echo::Echo;
use crate::net::ConnectionId;
use crate::ring::random::Random;
use crate::ring::sim::{Faults, PeerId, Sim, SimDriver};
use crate::ring::{
    Chunk, Chunks, Completion, Driver, Errno, Fd, How, Op, OpKind, Received, Token, Wait,
};

const SEEDS: u64 = 1000;

fn address() -> SocketAddr {
    "127.0.0.1:9000".parse().unwrap()
}

fn token(kind: OpKind, slot: u32) -> Token {
    Token::new(kind, ConnectionId::new(0, slot, 1).bits())
}

struct Client {
    peer: PeerId,
    to_send: Vec<u8>,
    sent: Vec<u8>,
    received: Vec<u8>,
    is_shut: bool,
}

impl Client {
    fn new(sim: &Sim, random: &mut Random) -> Client {
        let exponent = random.below(15);
        let length = random.below(1 << exponent) as usize;
        Client {
            peer: sim.connect(address()),
            to_send: (0..length).map(|_| random.next_u64() as u8).collect(),
            sent: Vec::new(),
            received: Vec::new(),
            is_shut: false,
        }
    }

    /// One random step.
    fn step(&mut self, sim: &Sim, random: &mut Random) {
        self.received.extend(sim.peer_received(self.peer));
        if !self.to_send.is_empty() {
            let count = 1 + random.below(self.to_send.len() as u64) as usize;
            let bytes: Vec<u8> = self.to_send.drain(..count).collect();
            sim.peer_send(self.peer, &bytes);
            self.sent.extend(bytes);
            sim.peer_pause(self.peer, random.chance(300));
        } else if !self.is_shut {
            self.is_shut = true;
            sim.peer_pause(self.peer, false);
            sim.peer_shutdown(self.peer);
        }
    }

    fn is_over(&self, sim: &Sim) -> bool {
        self.is_shut && (sim.peer_has_ended(self.peer) || sim.peer_is_reset(self.peer))
    }
}

/// A whole run; the digest, and how many connections broke.
fn run_echo(seed: u64, faults: fn(&mut Random) -> Faults) -> (u64, usize) {
    let sim = Sim::new(seed);
    let mut random = Random::new(!seed);
    sim.set_faults(faults(&mut random));
    let mut echo = Echo::new(sim.driver(), sim.listen(address()));
    let count = 1 + random.below(6);
    let mut clients: Vec<Client> = (0..count).map(|_| Client::new(&sim, &mut random)).collect();
    let mut steps = 0;
    while !clients.iter().all(|client| client.is_over(&sim)) || sim.open_sockets() > 0 {
        let victim = random.below(count) as usize;
        clients[victim].step(&sim, &mut random);
        echo.step(Wait::Until(sim.now().monotonic_ns + 100_000));
        steps += 1;
        assert!(steps < 200_000, "seed {seed}: it never ends");
    }
    let mut broken = 0;
    for client in &mut clients {
        client.received.extend(sim.peer_received(client.peer));
        if sim.peer_is_reset(client.peer) {
            broken += 1;
            assert!(client.sent.starts_with(&client.received), "seed {seed}: bytes changed");
        } else {
            assert!(client.sent == client.received, "seed {seed}: bytes lost");
        }
    }
    (sim.digest(), broken)
}

#[test]
fn every_byte_comes_back_whatever_the_seed() {
    for seed in 0..SEEDS {
        let (digest, broken) = run_echo(seed, Faults::lossless);
        assert_eq!(broken, 0, "seed {seed}");
        assert_eq!(run_echo(seed, Faults::lossless), (digest, 0), "seed {seed}: not repeatable");
    }
    assert_ne!(run_echo(1, Faults::lossless).0, run_echo(2, Faults::lossless).0);
}

#[test]
fn a_broken_connection_loses_nothing_but_its_rest() {
    let mut broken_in_all = 0;
    for seed in 0..SEEDS {
        let run = run_echo(seed, Faults::all);
        assert_eq!(run_echo(seed, Faults::all), run, "seed {seed}: not repeatable");
        broken_in_all += run.1;
    }
    assert!(broken_in_all > 100, "{broken_in_all}");
}

#[test]
fn without_faults_everything_comes_whole() {
    let sim = Sim::new(1);
    let mut driver = sim.driver();
    let listener = sim.listen(address());
    let peer = sim.connect(address());
    sim.peer_send(peer, b"hello");
    let fd = accept_one(&mut driver, listener);
    assert_eq!(driver.peer(fd), Ok(sim.peer_address(peer)));
    let receive = token(OpKind::Receive, 1);
    let completions = turn(&mut driver, vec![Op::Receive { fd, token: receive }]);
    let [Completion::Received { result: Ok(Some(received)), more: true, .. }] = &completions[..]
    else {
        panic!("{completions:?}")
    };
    assert_eq!(driver.received(received), b"hello");
    let again = Received { buffer: received.buffer, start: 0, bytes: received.bytes };
    driver.recycle(again);
    sim.peer_shutdown(peer);
    let completions = turn(&mut driver, Vec::new());
    assert!(matches!(completions[..], [Completion::Received { result: Ok(None), .. }]));
    let send = token(OpKind::Send, 1);
    let list = vec![Chunk::Owned(b"xgood ".to_vec()), Chunk::Owned(b"bye".to_vec())];
    let chunks = Chunks { list, sent: 1 };
    let completions = turn(&mut driver, vec![Op::Send { fd, chunks, token: send }]);
    assert!(matches!(completions[..], [Completion::Sent { result: Ok(8), .. }]));
    turn(&mut driver, vec![Op::Close { fd, token: token(OpKind::Close, 1) }]);
    assert!(turn(&mut driver, Vec::new()).is_empty());
    assert_eq!(sim.peer_received(peer), b"good bye");
    assert!(sim.peer_has_ended(peer) && !sim.peer_is_reset(peer) && sim.is_idle());
    assert_eq!(driver.peer(fd), Err(Errno(libc::EBADF)));
}

#[test]
fn connects_reach_peers_or_are_refused() {
    let sim = Sim::new(1);
    let mut driver = sim.driver();
    sim.serve(address());
    let vacant: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let ops = vec![
        Op::Connect { address: address().into(), token: token(OpKind::Connect, 1) },
        Op::Connect { address: vacant.into(), token: token(OpKind::Connect, 2) },
    ];
    let completions = turn(&mut driver, ops);
    let [
        Completion::Connected { result: Ok(fd), .. },
        Completion::Connected { result: Err(Errno(libc::ECONNREFUSED)), .. },
    ] = &completions[..]
    else {
        panic!("{completions:?}")
    };
    let peer = sim.accepted(address()).unwrap();
    assert_eq!((sim.accepted(address()), driver.peer(*fd)), (None, Ok(address().into())));
    sim.peer_reset(peer);
    let ops = vec![Op::Receive { fd: *fd, token: token(OpKind::Receive, 1) }];
    let completions = turn(&mut driver, ops);
    let reset = Err(Errno(libc::ECONNRESET));
    assert!(
        matches!(&completions[..], [Completion::Received { result, more: false, .. }] if *result == reset)
    );
    sim.stop_serving(address());
    let ops = vec![Op::Connect { address: address().into(), token: token(OpKind::Connect, 3) }];
    assert!(matches!(turn(&mut driver, ops)[..], [Completion::Connected { result: Err(_), .. }]));
    assert!(sim.peer_is_reset(sim.connect(address())));
}

#[test]
fn two_drivers_talk_and_wake_each_other() {
    let sim = Sim::new(3);
    let (mut server, mut client) = (sim.driver(), sim.driver());
    let listener = sim.listen(address());
    let ops = vec![Op::Connect { address: address().into(), token: token(OpKind::Connect, 1) }];
    let completions = turn(&mut client, ops);
    let [Completion::Connected { result: Ok(client_fd), .. }] = completions[..] else { panic!() };
    let server_fd = accept_one(&mut server, listener);
    let shutdown = token(OpKind::Shutdown, 1);
    let ops = vec![Op::Shutdown { fd: client_fd, how: How::Write, token: shutdown }];
    turn(&mut client, ops);
    let ops = vec![Op::Receive { fd: server_fd, token: token(OpKind::Receive, 1) }];
    let completions = turn(&mut server, ops);
    assert!(matches!(completions[..], [Completion::Received { result: Ok(None), .. }]));
    let waker = client.waker();
    waker.wake();
    waker.wake();
    assert!(matches!(turn(&mut client, Vec::new())[..], [Completion::Woken]));
    assert!(turn(&mut client, Vec::new()).is_empty());
}

#[test]
fn time_jumps_to_a_deadline_but_not_past_anothers() {
    let sim = Sim::new(4);
    let (mut first, mut second) = (sim.driver(), sim.driver());
    let start_ns = sim.now().monotonic_ns;
    let (early, late) = (start_ns + 1_000_000, start_ns + 9_000_000_000);
    let mut completions = Vec::new();
    second.turn(&mut Vec::new(), Wait::No, &mut completions).unwrap();
    first.turn(&mut Vec::new(), Wait::Until(late), &mut completions).unwrap();
    assert!(sim.now().monotonic_ns < early, "the second one runs");
    second.turn(&mut Vec::new(), Wait::Until(early), &mut completions).unwrap();
    assert_eq!(second.now().monotonic_ns, early);
    second.turn(&mut Vec::new(), Wait::Forever, &mut completions).unwrap();
    while first.now().monotonic_ns < late {
        first.turn(&mut Vec::new(), Wait::Until(late), &mut completions).unwrap();
    }
    assert_eq!(first.now().unix_ms, sim.now().unix_ms);
    drop(second);
    assert!(completions.is_empty() && sim.is_idle());
}

#[test]
fn a_watch_reports_signals() {
    let sim = Sim::new(5);
    let mut driver = sim.driver();
    let fd = sim.watchable();
    sim.signal(fd);
    let watch = token(OpKind::Watch, 1);
    let completions = turn(&mut driver, vec![Op::Watch { fd, token: watch }]);
    assert!(matches!(completions[..], [Completion::Ready { more: true, .. }]));
    let ops = vec![Op::Cancel { target: watch, token: token(OpKind::Cancel, 1) }];
    let completions = turn(&mut driver, ops);
    assert!(matches!(
        completions[..],
        [Completion::Ready { more: false, .. }, Completion::Done { result: Ok(()), .. }]
    ));
}

#[test]
fn a_full_window_holds_the_send_until_the_peer_reads() {
    let sim = Sim::new(6);
    sim.set_faults(Faults { window_bytes: 10, ..Faults::NONE });
    let mut driver = sim.driver();
    let listener = sim.listen(address());
    let peer = sim.connect(address());
    let fd = accept_one(&mut driver, listener);
    sim.peer_pause(peer, true);
    let send = |byte: u8| {
        let chunks = Chunks { list: vec![Chunk::Owned(vec![byte; 15])], sent: 0 };
        vec![Op::Send { fd, chunks, token: token(OpKind::Send, 1) }]
    };
    let completions = turn(&mut driver, send(b'a'));
    assert!(matches!(completions[..], [Completion::Sent { result: Ok(10), .. }]));
    assert!(turn(&mut driver, send(b'b')).is_empty());
    assert_eq!(sim.peer_received(peer), b"aaaaaaaaaa");
    let completions = turn(&mut driver, Vec::new());
    assert!(matches!(completions[..], [Completion::Sent { result: Ok(10), .. }]));
}

/// Every fault can really happen: otherwise the seeds prove nothing.
#[test]
fn all_faults_occur() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let sim = Sim::new(seed);
        sim.set_faults(Faults { window_bytes: 64, ..Faults::all(&mut Random::new(seed)) });
        let mut driver = sim.driver();
        let listener = sim.listen(address());
        let peers: Vec<PeerId> = (0..4).map(|_| sim.connect(address())).collect();
        for peer in peers {
            sim.peer_pause(peer, true);
            sim.peer_send(peer, &[1; 100]);
        }
        let accept = token(OpKind::Accept, 0);
        let mut ops = vec![Op::Accept { fd: listener, token: accept }];
        for round in 1..40 {
            for completion in turn(&mut driver, std::mem::take(&mut ops)) {
                note(&mut seen, &completion);
                match completion {
                    Completion::Accepted { result, more, .. } => {
                        if !more {
                            ops.push(Op::Accept { fd: listener, token: accept });
                        }
                        if let Ok(fd) = result {
                            ops.push(receive_of(fd));
                            ops.push(send_to(fd));
                            ops.push(cancel(OpKind::Receive, fd));
                        }
                    }
                    Completion::Received { result: Ok(Some(received)), .. } if round % 2 == 0 => {
                        driver.recycle(received);
                    }
                    // The window is full now: the next send waits.
                    Completion::Sent { token, result: Ok(_), .. } => {
                        let fd = Fd((token.owner() >> 24) as i32);
                        ops.push(send_to(fd));
                        ops.push(cancel(OpKind::Send, fd));
                    }
                    _ => {}
                }
            }
        }
    }
    let expected = [
        "accept failed",
        "accept ended",
        "cut read",
        "whole read",
        "receive ended",
        "no buffers",
        "reset",
        "cancelled receive",
        "late cancel",
        "short send",
        "cancelled send",
        "running send",
    ];
    for fault in expected {
        assert!(seen.contains(fault), "{fault} never happened: {seen:?}");
    }
}

fn receive_of(fd: Fd) -> Op {
    Op::Receive { fd, token: token(OpKind::Receive, fd.0 as u32) }
}

fn send_to(fd: Fd) -> Op {
    let chunks = Chunks { list: vec![Chunk::Owned(vec![2; 70])], sent: 0 };
    Op::Send { fd, chunks, token: token(OpKind::Send, fd.0 as u32) }
}

fn cancel(kind: OpKind, fd: Fd) -> Op {
    let target = token(kind, fd.0 as u32);
    Op::Cancel { target, token: Token::new(OpKind::Cancel, u64::from(kind == OpKind::Send)) }
}

fn note(seen: &mut std::collections::BTreeSet<&'static str>, completion: &Completion) {
    seen.insert(match completion {
        Completion::Accepted { result: Err(_), .. } => "accept failed",
        Completion::Accepted { more: false, .. } => "accept ended",
        Completion::Received { result: Ok(Some(_)), more: false, .. } => "receive ended",
        Completion::Received { result: Ok(Some(read)), .. } if read.bytes < 100 => "cut read",
        Completion::Received { result: Ok(Some(_)), .. } => "whole read",
        Completion::Received { result: Err(Errno(libc::ENOBUFS)), .. } => "no buffers",
        Completion::Received { result: Err(Errno(libc::ECONNRESET)), .. } => "reset",
        Completion::Received { result: Err(Errno(libc::ECANCELED)), .. } => "cancelled receive",
        Completion::Sent { result: Ok(1..64), .. } => "short send",
        Completion::Sent { result: Err(Errno(libc::ECANCELED)), .. } => "cancelled send",
        Completion::Done { result: Err(Errno(libc::EALREADY)), .. } => "running send",
        Completion::Done { token, result: Err(Errno(libc::ENOENT)) } if token.owner() == 0 => {
            "late cancel"
        }
        _ => return,
    });
}

#[test]
#[should_panic(expected = "nothing is in flight")]
fn closing_under_a_receive_is_a_bug() {
    let sim = Sim::new(7);
    let mut driver = sim.driver();
    let listener = sim.listen(address());
    sim.connect(address());
    let fd = accept_one(&mut driver, listener);
    let ops = vec![
        Op::Receive { fd, token: token(OpKind::Receive, 1) },
        Op::Close { fd, token: token(OpKind::Close, 1) },
    ];
    turn(&mut driver, ops);
}

#[test]
fn a_dropped_driver_closes_what_it_never_saw() {
    let sim = Sim::new(8);
    sim.set_faults(Faults { delay: 1000, delay_ns_max: 1 << 40, ..Faults::NONE });
    let mut driver = sim.driver();
    let listener = sim.listen(address());
    let peer = sim.connect(address());
    let mut ops = vec![Op::Accept { fd: listener, token: token(OpKind::Accept, 1) }];
    driver.turn(&mut ops, Wait::No, &mut Vec::new()).unwrap();
    assert_eq!(sim.open_sockets(), 1);
    drop(driver);
    assert_eq!(sim.open_sockets(), 0);
    turn(&mut sim.driver(), Vec::new());
    assert!(sim.peer_is_reset(peer));
}

fn accept_one(driver: &mut SimDriver, listener: Fd) -> Fd {
    let ops = vec![Op::Accept { fd: listener, token: token(OpKind::Accept, 0) }];
    let completions = turn(driver, ops);
    let [Completion::Accepted { result: Ok(fd), .. }] = completions[..] else {
        panic!("{completions:?}")
    };
    fd
}

fn turn(driver: &mut SimDriver, mut ops: Vec<Op>) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver.turn(&mut ops, Wait::Forever, &mut completions).unwrap();
    completions
}
