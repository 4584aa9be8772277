//! One worker with one runtime on a fixed port and no control thread, to load from outside.
//!
//! `cargo bench --bench serve -- cache 7379`, `-- server 7379` or `-- server 7379 echo.lua` (a script in the callback
//! style); ends when its standard input does.
//! What it measures against: `redis-benchmark`, or any load generator, with the process's CPU time per request.

#![allow(clippy::print_stdout, reason = "a bench prints what to do and what it measured")]

use std::io::Read;
use std::sync::Arc;

use socketley::id::{AppId, RuntimeId, RuntimeKind};
use socketley::lua::{AppSource, Owner, VmLimits, Watchdog};
use socketley::net::listener::{Listener, SocketOptions};
use socketley::ring::{Address, Options};
use socketley::runtime::stores::StoreMap;
use socketley::runtime::{Placement, RuntimeConfig, RuntimeStats};
use socketley::store::{Settings, SharedStore};
use socketley::worker::{FromWorker, Inbox, ToWorker, WorkerSetup, spawn};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(kind), Some(port)) = (arguments.next(), arguments.next()) else {
        println!("usage: cargo bench --bench serve -- cache|server PORT");
        return;
    };
    let script = arguments.next();
    let kind = RuntimeKind::parse(&kind).expect("cache or server");
    let port: u16 = port.parse().expect("a port");
    let setup = WorkerSetup {
        errands: socketley::runtime::errands::Errands::threaded(),
        inboxes: Arc::new([Arc::new(Inbox::default())]),
        control: Arc::new(Inbox::default()),
        stores: Arc::new(StoreMap::default()),
        watchdog: Arc::new(Watchdog::start()),
        ring: Options::default(),
        seed: 1,
    };
    let thread = spawn(0, setup.clone()).expect("a thread");
    let address = Address::Ip(([127, 0, 0, 1], port).into());
    let listener = Listener::bind(&address, &SocketOptions::default()).expect("the port is free");
    let config = RuntimeConfig::new(kind, "bench");
    let store = (kind == RuntimeKind::Cache).then(|| SharedStore::new(&Settings::default()));
    let mut placement = Placement {
        id: RuntimeId(1),
        config: Arc::new(config),
        stats: Arc::new(RuntimeStats::new(1)),
        store,
        backends: Vec::new(),
        app: None,
        tls: socketley::net::tls::Tls::default(),
        workers: vec![0],
    };
    match script {
        None => setup.inboxes[0].send(ToWorker::Place { request: 1, placement }),
        Some(path) => {
            let app = AppId(1);
            placement.app = Some((app, 0));
            let source = Arc::new(app_source(&path, kind, port));
            setup.inboxes[0].send(ToWorker::Prepare { request: 1, app, source });
            let placements = vec![placement];
            setup.inboxes[0].send(ToWorker::Commit {
                request: 2,
                app,
                generation: 1,
                is_home: true,
                placements,
            });
        }
    }
    setup.inboxes[0].send(ToWorker::Listen { runtime: RuntimeId(1), fd: listener.fd() });
    println!("{} on 127.0.0.1:{port}, pid {}", kind.name(), std::process::id());
    std::io::stdin().read_to_end(&mut Vec::new()).expect("standard input");
    setup.inboxes[0].send(ToWorker::Shutdown { drain_ms: 0 });
    thread.join().expect("the worker ends well");
    for message in setup.control.take() {
        match message {
            FromWorker::Prepared { result: Err(error), .. }
            | FromWorker::Committed { result: Err(error), .. } => println!("{error}"),
            FromWorker::Log(record) => println!("{}", record.text),
            _ => {}
        }
    }
}

fn app_source(path: &str, kind: RuntimeKind, port: u16) -> AppSource {
    AppSource {
        name: "bench".to_owned(),
        path: path.into(),
        text: std::fs::read_to_string(path).expect("the script is there"),
        generation: 1,
        owner: Some(Owner { kind, name: "bench".to_owned(), port }),
        modules: Vec::new(),
        limits: VmLimits { budget_ms: 1000, memory_bytes: 256 << 20, restricted: false },
    }
}
