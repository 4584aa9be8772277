//! A worker on a real ring, spoken to over loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{FromWorker, Inbox, ToWorker, WorkerSetup, spawn};
use crate::id::{RuntimeId, RuntimeKind};
use crate::lua::Watchdog;
use crate::net::listener::{Listener, SocketOptions};
use crate::ring::Options;
use crate::runtime::stores::StoreMap;
use crate::runtime::{Address, Backend, Placement, Protocol, RuntimeConfig, RuntimeStats};
use crate::store::{Settings, SharedStore};

/// Any on this machine.
fn free_port() -> Address {
    std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()
}

struct Rig {
    setup: WorkerSetup,
    threads: Vec<JoinHandle<()>>,
    listeners: Vec<Listener>,
}

impl Rig {
    /// Nothing where the kernel denies io_uring.
    fn new(workers: u8) -> Option<Rig> {
        let setup = WorkerSetup {
            inboxes: (0..workers).map(|_| Arc::new(Inbox::default())).collect(),
            control: Arc::new(Inbox::default()),
            stores: Arc::new(StoreMap::default()),
            watchdog: Arc::new(Watchdog::start()),
            errands: crate::runtime::errands::Errands::threaded(),
            ring: Options::default(),
            seed: 7,
        };
        if let Err(error) = crate::ring::Uring::new(&setup.ring) {
            println!("skipped: {error}");
            return None;
        }
        let threads =
            (0..workers).map(|index| spawn(index, setup.clone()).expect("a thread")).collect();
        Some(Rig { setup, threads, listeners: Vec::new() })
    }

    fn place(&mut self, config: RuntimeConfig, backends: Vec<Backend>) -> SocketAddr {
        let workers = self.setup.inboxes.len();
        let id = RuntimeId(self.listeners.len() as u32 + 1);
        let store = (config.kind == RuntimeKind::Cache).then(|| {
            SharedStore::new(&Settings { name: config.name.clone(), ..Default::default() })
        });
        let placement = Placement {
            id,
            config: Arc::new(config),
            stats: Arc::new(RuntimeStats::new(workers)),
            store,
            backends,
            app: None,
            tls: crate::net::tls::Tls::default(),
            workers: (0..workers as u8).collect(),
        };
        for inbox in self.setup.inboxes.iter() {
            inbox.send(ToWorker::Place { request: 1, placement: placement.clone() });
        }
        let listener =
            Listener::bind(&free_port(), &SocketOptions::default()).expect("a free port");
        let address = listener.address().socket().expect("it has one");
        self.setup.inboxes[0].send(ToWorker::Listen { runtime: id, fd: listener.fd() });
        self.listeners.push(listener);
        address
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for inbox in self.setup.inboxes.iter() {
            inbox.send(ToWorker::Shutdown { drain_ms: 100 });
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("the worker ends well");
        }
        let ended = self.setup.control.take();
        assert!(ended.iter().any(|message| matches!(message, FromWorker::Ended { .. })));
    }
}

fn config(kind: RuntimeKind) -> RuntimeConfig {
    RuntimeConfig {
        listen: None,
        target: None,
        reconnect: None,
        ..RuntimeConfig::new(kind, kind.name())
    }
}

fn exchange(address: SocketAddr, send: &[u8], want: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the listener is there");
    stream.write_all(send).expect("the peer reads");
    let mut got = vec![0; want.len()];
    stream.read_exact(&mut got).expect("the peer answers");
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(want));
}

#[test]
fn a_cache_answers_pipelined_commands_on_every_worker() {
    let Some(mut rig) = Rig::new(2) else { return };
    let address = rig.place(config(RuntimeKind::Cache), Vec::new());
    for _ in 0..4 {
        exchange(address, b"SET k v\r\nGET k\r\nPING\r\n", b"+OK\r\n$1\r\nv\r\n+PONG\r\n");
    }
    let mut many = Vec::new();
    let mut want = Vec::new();
    for number in 1..=20_000 {
        many.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
        want.extend_from_slice(format!(":{number}\r\n").as_bytes());
    }
    exchange(address, &many, &want);
}

#[test]
fn replies_that_are_not_read_stop_their_connection_and_lose_nothing() {
    let Some(mut rig) = Rig::new(1) else { return };
    let address = rig.place(config(RuntimeKind::Cache), Vec::new());
    let value = vec![b'x'; 100_000];
    let set = [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n", &value[..], b"\r\n"].concat();
    exchange(address, &set, b"+OK\r\n");
    let mut stream = TcpStream::connect(address).expect("the listener is there");
    let count = 500;
    for number in 0..count {
        stream.write_all(format!("GET k\r\nECHO {number}\r\n").as_bytes()).expect("small requests");
    }
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    for number in 0..count {
        let mut got = vec![0; b"$100000\r\n".len() + 100_002];
        reader.read_exact(&mut got).expect("the value");
        assert!(got.starts_with(b"$100000\r\n"));
        let text = number.to_string();
        for want in [format!("${}\r\n", text.len()), format!("{text}\r\n")] {
            line.clear();
            reader.read_line(&mut line).expect("the echo");
            assert_eq!(line, want);
        }
    }
}

#[test]
fn a_server_relays_between_its_clients_on_all_workers() {
    let Some(mut rig) = Rig::new(2) else { return };
    let address = rig.place(config(RuntimeKind::Server), Vec::new());
    let mut clients: Vec<_> = (0..6)
        .map(|_| BufReader::new(TcpStream::connect(address).expect("the listener is there")))
        .collect();
    // A client that got a message is known to be served; the first one asks until all have one.
    let mut line = String::new();
    for client in clients.iter().skip(1) {
        let timeout = Some(std::time::Duration::from_millis(200));
        client.get_ref().set_read_timeout(timeout).expect("a timeout");
    }
    let (first, others) = clients.split_at_mut(1);
    for other in others {
        line.clear();
        while line.is_empty() {
            first[0].get_mut().write_all(b"hello\n").expect("the server reads");
            if other.read_line(&mut line).is_err() {
                line.clear();
            }
        }
        assert_eq!(line, "hello\n");
    }
}

#[test]
fn a_proxy_keeps_half_closes_and_tries_the_next_backend() {
    let Some(mut rig) = Rig::new(1) else { return };
    let cache = rig.place(config(RuntimeKind::Cache), Vec::new());
    let closed =
        Listener::bind(&free_port(), &SocketOptions::default()).expect("a free port").address();
    let backends = vec![
        Backend { name: "closed".to_owned(), addresses: vec![closed], ..Backend::default() },
        Backend { name: "cache".to_owned(), addresses: vec![cache.into()], ..Backend::default() },
    ];
    let tcp = RuntimeConfig { protocol: Protocol::Messages, ..config(RuntimeKind::Proxy) };
    let address = rig.place(tcp, backends);
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).expect("the listener is there");
        stream.write_all(b"PING\r\nECHO abc\r\n").expect("the proxy reads");
        stream.shutdown(std::net::Shutdown::Write).expect("half a close");
        let mut got = String::new();
        stream.read_to_string(&mut got).expect("the answer and the end");
        assert_eq!(got, "+PONG\r\n$3\r\nabc\r\n");
    }
}
