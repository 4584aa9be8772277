//! The io_uring driver against real loopback sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::echo::Echo;
use super::{ring, turn_until};
use crate::limits::{RECEIVE_BUFFER_BYTES, SEND_CHUNKS_MAX};
use crate::net::ConnectionId;
use crate::ring::random::Random;
use crate::ring::{
    Chunk, Chunks, Completion, Driver, Errno, Fd, Features, Op, OpKind, Options, Token, Uring,
    Wait, clock,
};

fn token(kind: OpKind, slot: u32) -> Token {
    Token::new(kind, ConnectionId::new(0, slot, 1).bits())
}

fn owned(bytes: &[u8]) -> Chunks {
    Chunks { list: vec![Chunk::Owned(bytes.to_vec())], sent: 0 }
}

/// Two ends of a loopback connection; the driver is to use the second.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

fn fd_of(socket: &impl AsRawFd) -> Fd {
    Fd(socket.as_raw_fd())
}

/// Runs an echo server on a ring with `options` while `clients` runs; false if io_uring is denied.
fn with_echo(options: Options, clients: impl FnOnce(SocketAddr)) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (send_waker, waker) = std::sync::mpsc::channel();
    let server = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let Some(uring) = ring(&options) else { return };
            send_waker.send(uring.waker()).unwrap();
            drop(send_waker);
            let mut echo = Echo::new(uring, fd_of(&listener));
            while !stop.load(Ordering::SeqCst) {
                echo.step(Wait::Forever);
            }
        }
    });
    let waker = waker.recv().ok();
    if let Some(waker) = &waker {
        clients(address);
        stop.store(true, Ordering::SeqCst);
        waker.wake();
    }
    server.join().unwrap();
    waker.is_some()
}

/// Sends `bytes` in pieces while reading them back.
fn expect_echo(address: SocketAddr, bytes: &[u8], seed: u64) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut reader = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = Random::new(seed);
            let mut rest = bytes;
            while !rest.is_empty() {
                let exponent = random.below(18);
                let count = rest.len().min(1 + random.below(1 << exponent) as usize);
                stream.write_all(&rest[..count]).unwrap();
                rest = &rest[count..];
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert!(back == bytes, "{} bytes came back of {}", back.len(), bytes.len());
    });
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..bytes).map(|_| random.next_u64() as u8).collect()
}

#[test]
fn echoes_on_every_feature_path() {
    let all = Features::ALL;
    let masks = [
        all,
        all.without(Features::DEFER_TASKRUN),
        all.without(Features::DEFER_TASKRUN).without(Features::SINGLE_ISSUER),
        all.without(Features::MULTISHOT_RECEIVE),
        all.without(Features::MULTISHOT_ACCEPT),
        Features::NONE,
    ];
    for allowed in masks {
        with_echo(Options { allowed, ..Options::default() }, |address| {
            expect_echo(address, b"hello\n", 1);
            expect_echo(address, &noise(3 << 20, 2), 3);
        });
    }
}

#[test]
fn echoes_with_submission_polling() {
    with_echo(Options { sqpoll: true, ..Options::default() }, |address| {
        expect_echo(address, &noise(100_000, 4), 5);
    });
}

#[test]
fn echoes_with_a_tiny_pool_and_tiny_queues() {
    with_echo(Options { buffers: 4, entries: 4, ..Options::default() }, |address| {
        let bytes = noise(1 << 20, 6);
        thread::scope(|scope| {
            for seed in 0..8 {
                let bytes = &bytes;
                scope.spawn(move || expect_echo(address, bytes, seed));
            }
        });
    });
}

#[test]
fn many_connections_at_once() {
    with_echo(Options::default(), |address| {
        let streams: Vec<TcpStream> =
            (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect();
        for round in 0..3 {
            for (index, mut stream) in streams.iter().enumerate() {
                stream.write_all(format!("{round}:{index:05}").as_bytes()).unwrap();
            }
            for (index, mut stream) in streams.iter().enumerate() {
                let mut back = [0; 7];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, format!("{round}:{index:05}").as_bytes());
            }
        }
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_reading() {
    with_echo(Options::default(), |address| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let block = [7_u8; 1 << 16];
        let mut written = 0_usize;
        let mut stuck = 0;
        // The kernel's socket buffers and one outbox take some megabytes, then no more.
        while stuck < 2000 && written < 256 << 20 {
            match stream.write(&block) {
                Ok(count) => (written, stuck) = (written + count, 0),
                Err(_) => {
                    stuck += 1;
                    thread::yield_now();
                }
            }
        }
        assert!(written < 256 << 20, "the server took everything");
        stream.set_nonblocking(false).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), written);
    });
}

#[test]
fn connects_or_says_why_not() {
    connects_on("127.0.0.1:0");
    if TcpListener::bind("[::1]:0").is_ok() {
        connects_on("[::1]:0");
    } else {
        eprintln!("skipped: this machine has no IPv6");
    }
}

fn connects_on(loopback: &str) {
    let Some(mut uring) = ring(&Options::default()) else { return };
    let listener = TcpListener::bind(loopback).unwrap();
    let address = listener.local_addr().unwrap();
    // The port of a connection's first end: taken, so that nobody else listens there.
    let taken = TcpStream::connect(address).unwrap();
    listener.accept().unwrap();
    let vacant = taken.local_addr().unwrap();
    let (good, bad) = (token(OpKind::Connect, 1), token(OpKind::Connect, 2));
    let ops = vec![
        Op::Connect { address: address.into(), token: good },
        Op::Connect { address: vacant.into(), token: bad },
    ];
    let mut fd = None;
    for completion in turn_until(&mut uring, ops, |completions| completions.len() == 2) {
        match completion {
            Completion::Connected { token, result: Ok(made) } if token == good => fd = Some(made),
            Completion::Connected { token, result: Err(errno) } if token == bad => {
                assert_eq!(errno, Errno(libc::ECONNREFUSED));
            }
            other => panic!("{other:?}"),
        }
    }
    let fd = fd.unwrap();
    assert_eq!(uring.peer(fd).unwrap(), address.into());
    let (mut accepted, from) = listener.accept().unwrap();
    assert!(from.ip().is_loopback());
    let send = token(OpKind::Send, 1);
    let ops = vec![Op::Send { fd, chunks: owned(b"ping"), token: send }];
    turn_until(&mut uring, ops, |completions| completions.len() == 1);
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    let close = token(OpKind::Close, 1);
    turn_until(&mut uring, vec![Op::Close { fd, token: close }], |c| c.len() == 1);
    assert_eq!(accepted.read(&mut bytes).unwrap(), 0);
    assert!(uring.peer(fd).is_err());
}

#[test]
fn a_connect_without_an_address_family_fails_as_a_completion() {
    let Some(mut uring) = ring(&Options::default()) else { return };
    let address: SocketAddr = "255.255.255.255:9".parse().unwrap();
    let ops = vec![Op::Connect { address: address.into(), token: token(OpKind::Connect, 1) }];
    let completions = turn_until(&mut uring, ops, |completions| completions.len() == 1);
    assert!(matches!(&completions[0], Completion::Connected { result: Err(_), .. }));
}

#[test]
fn a_cancel_ends_its_target() {
    for allowed in [Features::ALL, Features::NONE] {
        let Some(mut uring) = ring(&Options { allowed, ..Options::default() }) else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_peer, socket) = pair();
        let (accept, receive) = (token(OpKind::Accept, 1), token(OpKind::Receive, 2));
        let missing = token(OpKind::Send, 3);
        let mut ops = vec![
            Op::Accept { fd: fd_of(&listener), token: accept },
            Op::Receive { fd: fd_of(&socket), token: receive },
        ];
        for (slot, target) in [(11, accept), (12, receive), (13, missing)] {
            ops.push(Op::Cancel { target, token: token(OpKind::Cancel, slot) });
        }
        let completions = turn_until(&mut uring, ops, |completions| completions.len() == 5);
        let cancelled = Errno(libc::ECANCELED);
        for completion in completions {
            match completion {
                Completion::Accepted { result, more, .. } => {
                    assert_eq!((result, more), (Err(cancelled), false));
                }
                Completion::Received { result, more, .. } => {
                    assert_eq!((result, more), (Err(cancelled), false));
                }
                Completion::Done { token: done, result } if done == token(OpKind::Cancel, 13) => {
                    assert_eq!(result, Err(Errno(libc::ENOENT)));
                }
                Completion::Done { result, .. } => assert_eq!(result, Ok(())),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn end_of_stream_and_reset_are_told_apart() {
    let Some(mut uring) = ring(&Options::default()) else { return };
    let (ended, socket) = pair();
    drop(ended);
    let ops = vec![Op::Receive { fd: fd_of(&socket), token: token(OpKind::Receive, 1) }];
    let completions = turn_until(&mut uring, ops, |completions| completions.len() == 1);
    assert!(matches!(&completions[0], Completion::Received { result: Ok(None), more: false, .. }));
    assert_eq!(uring.buffers_free().0, uring.buffers_free().1);

    let (unread, mut socket) = pair();
    socket.write_all(b"never read").unwrap();
    let mut first = [0];
    unread.peek(&mut first).unwrap();
    // Closing with unread bytes sends a reset.
    drop(unread);
    let ops = vec![Op::Receive { fd: fd_of(&socket), token: token(OpKind::Receive, 2) }];
    let completions = turn_until(&mut uring, ops, |completions| completions.len() == 1);
    assert!(matches!(
        &completions[0],
        Completion::Received { result: Err(Errno(libc::ECONNRESET)), more: false, .. }
    ));
    let ops = vec![Op::Send {
        fd: fd_of(&socket),
        chunks: owned(b"late"),
        token: token(OpKind::Send, 2),
    }];
    let completions = turn_until(&mut uring, ops, |completions| completions.len() == 1);
    let Completion::Sent { result: Err(Errno(libc::EPIPE)), chunks, .. } = &completions[0] else {
        panic!("{completions:?}")
    };
    assert_eq!(chunks.list[0].bytes(), b"late");
}

#[test]
fn an_empty_pool_ends_the_receive_until_buffers_come_back() {
    for allowed in [Features::ALL, Features::NONE] {
        let options = Options { buffers: 4, allowed, ..Options::default() };
        let Some(mut uring) = ring(&options) else { return };
        let (mut peer, socket) = pair();
        let sent = noise(6 * RECEIVE_BUFFER_BYTES, 9);
        let writer = thread::spawn({
            let sent = sent.clone();
            move || peer.write_all(&sent).map(|()| peer).unwrap()
        });
        let fd = fd_of(&socket);
        let (mut got, mut held, mut starved) = (Vec::new(), Vec::new(), 0);
        let mut ops = vec![Op::Receive { fd, token: token(OpKind::Receive, 1) }];
        while got.len() < sent.len() {
            let completions = turn_until(&mut uring, std::mem::take(&mut ops), |c| !c.is_empty());
            for completion in completions {
                let Completion::Received { result, more, token } = completion else { panic!() };
                match result {
                    Ok(Some(received)) => {
                        got.extend_from_slice(uring.received(&received));
                        held.push(received);
                    }
                    Err(Errno(libc::ENOBUFS)) => {
                        assert!(!more);
                        assert_eq!(uring.buffers_free(), (0, 4));
                        starved += 1;
                        held.drain(..).for_each(|received| uring.recycle(received));
                        assert_eq!(uring.buffers_free(), (4, 4));
                    }
                    other => panic!("{other:?}"),
                }
                if !more {
                    ops.push(Op::Receive { fd, token });
                }
            }
        }
        assert!(got == sent && starved > 0);
        writer.join().unwrap();
    }
}

#[test]
#[should_panic(expected = "recycled")]
fn a_recycled_buffer_cannot_be_read() {
    let Some(mut uring) = ring(&Options::default()) else { panic!("skipped, recycled or not") };
    let (mut peer, socket) = pair();
    peer.write_all(b"x").unwrap();
    let ops = vec![Op::Receive { fd: fd_of(&socket), token: token(OpKind::Receive, 1) }];
    let mut completions = turn_until(&mut uring, ops, |completions| completions.len() == 1);
    let Some(Completion::Received { result: Ok(Some(received)), .. }) = completions.pop() else {
        panic!("nothing came")
    };
    let copy = crate::ring::Received { ..received };
    uring.recycle(received);
    uring.received(&copy);
}

#[test]
fn gathers_many_chunks_and_reports_short_sends() {
    let Some(mut uring) = ring(&Options::default()) else { return };
    let (mut peer, socket) = pair();
    let shared: Arc<[u8]> = noise(300_000, 1).into();
    let mut list = vec![Chunk::Shared(Arc::clone(&shared)); SEND_CHUNKS_MAX - 1];
    list.push(Chunk::Owned(b"end".to_vec()));
    let mut chunks = Chunks { list, sent: 100 };
    let expected: Vec<u8> =
        chunks.list.iter().flat_map(|chunk| chunk.bytes().to_vec()).skip(100).collect();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let fd = fd_of(&socket);
    while !chunks.list.is_empty() {
        let ops = vec![Op::Send { fd, chunks, token: token(OpKind::Send, 7) }];
        let mut completions = turn_until(&mut uring, ops, |completions| completions.len() == 1);
        let Some(Completion::Sent { result, chunks: home, .. }) = completions.pop() else {
            panic!("not a send")
        };
        chunks = home;
        chunks.sent += result.unwrap();
        while !chunks.list.is_empty() && chunks.sent >= chunks.list[0].bytes().len() {
            chunks.sent -= chunks.list.remove(0).bytes().len();
        }
    }
    let how = crate::ring::How::Write;
    let ops = vec![Op::Shutdown { fd, how, token: token(OpKind::Shutdown, 7) }];
    turn_until(&mut uring, ops, |completions| completions.len() == 1);
    assert!(reader.join().unwrap() == expected);
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn full_queues_lose_nothing() {
    let Some(mut uring) = ring(&Options { entries: 4, ..Options::default() }) else { return };
    let ops = (0..500)
        .map(|slot| Op::Cancel {
            target: token(OpKind::Send, slot),
            token: token(OpKind::Cancel, slot),
        })
        .collect();
    let completions = turn_until(&mut uring, ops, |completions| completions.len() >= 500);
    let mut slots: Vec<u64> = completions
        .iter()
        .map(|completion| match completion {
            Completion::Done { token, result: Err(Errno(libc::ENOENT)) } => token.owner() >> 24,
            other => panic!("{other:?}"),
        })
        .collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..500).collect::<Vec<u64>>());
}

#[test]
fn a_deadline_ends_the_wait_and_not_before() {
    let Some(mut uring) = ring(&Options::default()) else { return };
    let mut completions = Vec::new();
    for wait_ns in [0, 1_000_000, 20_000_000] {
        let deadline_ns = clock::now().monotonic_ns + wait_ns;
        uring.turn(&mut Vec::new(), Wait::Until(deadline_ns), &mut completions).unwrap();
        assert!(uring.now().monotonic_ns >= deadline_ns);
    }
    uring.turn(&mut Vec::new(), Wait::No, &mut completions).unwrap();
    assert!(completions.is_empty());
}

/// Two threads take turns; a lost wake would stop them for ever.
#[test]
fn no_wake_is_lost() {
    const ROUNDS: u32 = 20_000;
    let Some(mut uring) = ring(&Options::default()) else { return };
    let (waker, inbox) = (uring.waker(), Arc::new(AtomicU32::new(0)));
    let sender = thread::spawn({
        let inbox = Arc::clone(&inbox);
        move || {
            for round in 0..ROUNDS {
                while inbox.load(Ordering::SeqCst) != round {
                    thread::yield_now();
                }
                inbox.store(round + (1 << 31), Ordering::SeqCst);
                waker.wake();
            }
        }
    });
    let mut handled = 0;
    while handled < ROUNDS {
        turn_until(&mut uring, Vec::new(), |c| matches!(c, [.., Completion::Woken]));
        let letter = inbox.load(Ordering::SeqCst);
        if letter >= 1 << 31 {
            handled += 1;
            inbox.store(letter - (1 << 31) + 1, Ordering::SeqCst);
        }
    }
    sender.join().unwrap();
}

#[test]
fn a_watch_reports_each_arrival_until_cancelled() {
    let Some(mut uring) = ring(&Options::default()) else { return };
    let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let watch = token(OpKind::Watch, 1);
    let mut ops = vec![Op::Watch { fd: fd_of(&theirs), token: watch }];
    for _ in 0..3 {
        ours.write_all(b"x").unwrap();
        let completions = turn_until(&mut uring, std::mem::take(&mut ops), |c| !c.is_empty());
        assert!(matches!(&completions[0], Completion::Ready { more: true, .. }));
        theirs.read_exact(&mut [0]).unwrap();
    }
    let ops = vec![Op::Cancel { target: watch, token: token(OpKind::Cancel, 1) }];
    let completions = turn_until(&mut uring, ops, |completions| completions.len() == 2);
    assert!(completions.iter().any(|c| matches!(c, Completion::Ready { more: false, .. })));
}

/// The kernel must have let go of buffers and chunks before they are freed.
#[test]
fn a_dropped_ring_ends_what_is_in_flight() {
    for allowed in [Features::ALL, Features::NONE] {
        let Some(mut uring) = ring(&Options { allowed, ..Options::default() }) else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut peer, socket) = pair();
        let fd = fd_of(&socket);
        let shared: Arc<[u8]> = vec![0; 64 << 20].into();
        let chunks = Chunks { list: vec![Chunk::Shared(Arc::clone(&shared))], sent: 0 };
        let mut ops = vec![
            Op::Accept { fd: fd_of(&listener), token: token(OpKind::Accept, 1) },
            Op::Receive { fd, token: token(OpKind::Receive, 2) },
            Op::Send { fd, chunks, token: token(OpKind::Send, 2) },
        ];
        uring.turn(&mut ops, Wait::No, &mut Vec::new()).unwrap();
        drop(uring);
        assert_eq!(Arc::strong_count(&shared), 1, "leaked: the kernel didn't let go");
        peer.write_all(b"still connected").unwrap();
    }
}

#[test]
fn the_features_found_are_within_the_mask() {
    let Some(uring) = ring(&Options::default()) else { return };
    assert!(!uring.features().has(Features::SQPOLL), "{}", uring.features());
    let allowed = Features::ALL.without(Features::DEFER_TASKRUN);
    let lower = Uring::new(&Options { allowed, ..Options::default() }).unwrap();
    assert!(!lower.features().has(Features::DEFER_TASKRUN));
    let none = Uring::new(&Options { allowed: Features::NONE, ..Options::default() }).unwrap();
    assert_eq!(none.features(), Features::NONE);
}
