//! Batches over made-up clients.

use super::*;
use crate::store::{Settings, SharedStore};

/// Clients with one source each.
struct Peers {
    peers: Vec<Peer>,
    stops: Vec<(u32, Stop)>,
}

struct Peer {
    session: Session,
    input: Vec<u8>,
    out: Vec<u8>,
    out_bytes_max: usize,
    parser: RequestParser,
}

impl Clients for Peers {
    fn client(&mut self, client: u32, source: u32) -> Turn<'_> {
        assert_eq!(source, client + 100);
        let peer = &mut self.peers[client as usize];
        let (session, out) = (&mut peer.session, &mut peer.out);
        Turn { session, out, out_bytes_max: peer.out_bytes_max, bytes: &peer.input }
    }

    fn stop(&mut self, client: u32, stop: Stop) {
        self.stops.push((client, stop));
    }

    fn deliver(&mut self, delivery: Delivery) -> Option<Delivery> {
        Some(delivery)
    }
}

fn peers(store: &SharedStore, inputs: &[&str]) -> Peers {
    let peer = |input: &&str| Peer {
        session: store.connect(Default::default(), 1_000),
        input: input.replace('~', "\r\n").into_bytes(),
        out: Vec::new(),
        out_bytes_max: usize::MAX,
        parser: RequestParser::default(),
    };
    Peers { peers: inputs.iter().map(peer).collect(), stops: Vec::new() }
}

fn store(password: Option<&str>) -> std::sync::Arc<SharedStore> {
    let password = password.map(|password| password.as_bytes().to_vec());
    SharedStore::new(&Settings { password, seed: 7, now_ms: 1_000, ..Settings::default() })
}

/// Parses all inputs and runs the batch; returns each client's progress.
fn turn(store: &SharedStore, batch: &mut Batch, peers: &mut Peers) -> Vec<Progress> {
    let parsed = (0..)
        .zip(&mut peers.peers)
        .map(|(client, peer)| {
            let numbers = (client, client + 100);
            batch.parse(&mut peer.parser, &peer.input, numbers, &peer.session, &store.hasher())
        })
        .collect();
    while !batch.run(&mut store.lock(1_000), peers) {}
    batch.clear();
    parsed
}

fn output(peers: &Peers, client: usize) -> String {
    String::from_utf8(peers.peers[client].out.clone())
        .expect("replies here are text")
        .replace("\r\n", "~")
}

#[test]
fn clients_get_their_own_replies_in_order() {
    let store = store(None);
    let mut peers = peers(&store, &["PING~echo \"a b\"~*1~$4~PI", "echo 'c d'~echo x~~PING~", ""]);
    let parsed = turn(&store, &mut Batch::default(), &mut peers);
    assert_eq!(output(&peers, 0), "+PONG~$3~a b~");
    assert_eq!(output(&peers, 1), "$3~c d~$1~x~+PONG~");
    assert_eq!(output(&peers, 2), "");
    let consumed: Vec<usize> = parsed.iter().map(|progress| progress.consumed).collect();
    assert_eq!(consumed, [18, 28, 0]);
    let snapshot = store.snapshot(1_000);
    assert_eq!((snapshot.commands, snapshot.input_bytes, snapshot.output_bytes), (5, 46, 39));
}

#[test]
fn a_broken_stream_is_answered_after_its_good_commands_and_ends() {
    let store = store(None);
    let mut peers = peers(&store, &["PING~*1~:1~PING~", "PING~"]);
    let parsed = turn(&store, &mut Batch::default(), &mut peers);
    assert!(parsed[0].broken && !parsed[1].broken);
    assert_eq!(output(&peers, 0), "+PONG~-ERR Protocol error: expected '$', got ':'~");
    assert_eq!(output(&peers, 1), "+PONG~");
    assert_eq!(peers.stops, [(0, Stop::Close)]);
}

/// A name that comes twice was taken for the same command, whatever subcommand it named.
#[test]
fn subcommands_of_one_container_follow_each_other() {
    let store = store(None);
    let mut peers =
        peers(&store, &["CLIENT ID~CLIENT GETNAME~client getname~CONFIG GET save~CONFIG NONE~"]);
    turn(&store, &mut Batch::default(), &mut peers);
    let unknown = "-ERR unknown subcommand 'NONE'. Try CONFIG HELP.~";
    let expected = format!(":1~$-1~$-1~*2~$4~save~$0~~{unknown}");
    assert_eq!(output(&peers, 0), expected);
}

#[test]
fn nothing_runs_after_quit() {
    let store = store(None);
    let mut peers = peers(&store, &["QUIT~PING~", "POST / HTTP/1.1~Host: x~PING~"]);
    turn(&store, &mut Batch::default(), &mut peers);
    assert_eq!(output(&peers, 0), "+OK~");
    assert_eq!(output(&peers, 1), "");
    assert_eq!(peers.stops, [(0, Stop::Close), (1, Stop::Close)]);
}

#[test]
fn a_client_whose_replies_pile_up_stops_where_it_can_go_on() {
    let store = store(None);
    let mut peers = peers(&store, &["echo 12345678~echo 'second'~PING~", "PING~"]);
    peers.peers[0].out_bytes_max = 10;
    turn(&store, &mut Batch::default(), &mut peers);
    assert_eq!(output(&peers, 0), "$8~12345678~");
    assert_eq!(peers.stops, [(0, Stop::Full { source: 100, offset: 15 })]);
    assert_eq!(output(&peers, 1), "+PONG~");
}

#[test]
fn a_hold_is_bounded() {
    let store = store(None);
    let mut peers = peers(&store, &["PING~".repeat(STORE_HOLD_COMMANDS_MAX + 1).as_str()]);
    let mut batch = Batch::default();
    let peer = &mut peers.peers[0];
    batch.parse(&mut peer.parser, &peer.input, (0, 100), &peer.session, &store.hasher());
    assert!(!batch.run(&mut store.lock(1_000), &mut peers));
    assert_eq!(batch.len(), 1);
    batch.account(&mut store.lock(1_000), 512_000);
    let ping = table().lookup(b"ping").expect("ping is a command");
    assert_eq!(store.lock(1_000).instance.statistics.commands[ping.index()].nanoseconds, 512_000);
    assert!(batch.run(&mut store.lock(1_000), &mut peers));
    assert_eq!(peers.peers[0].out.len(), 7 * (STORE_HOLD_COMMANDS_MAX + 1));
}

#[test]
fn strangers_are_parsed_one_command_at_a_time() {
    let store = store(Some("secret"));
    let mut peers = peers(&store, &["PING~PING~"]);
    let parsed = turn(&store, &mut Batch::default(), &mut peers);
    assert_eq!(parsed[0], Progress { consumed: 6, paused: true, broken: false });
    assert_eq!(output(&peers, 0), "-NOAUTH Authentication required.~");
}
