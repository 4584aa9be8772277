//! Tests with several clients of one store as tables: who says what, what the answer is, and what others hear of it.

use super::clients::{Client, Delivery};
use super::session::State;
use super::{Args, Hasher, Session, Settings, Span, Store, table};

/// A store and its clients, named `a`, `b`, `c`, ...
pub struct Crowd {
    pub store: Store,
    pub sessions: Vec<Session>,
    pub now_ms: u64,
}

/// One step: a client's name and its line (`+N` alone lets N milliseconds pass), its reply (nothing while it waits), and
/// what connections get told: `b: reply`, several joined by ` / `.
pub type Step<'a> = (&'a str, &'a str, &'a str);

impl Crowd {
    /// So many clients that speak RESP2.
    pub fn new(clients: u64) -> Crowd {
        let settings = Settings { hasher: Some(Hasher::seeded(1)), seed: 1, ..Settings::default() };
        let mut store = Store::new(&settings);
        let sessions = (0..clients)
            .map(|connection| {
                let address = format!("127.0.0.1:{}", 1000 + connection);
                store.instance.clients.add(Client { connection, address, ..Client::default() })
            })
            .collect();
        Crowd { store, sessions, now_ms: 1_000_000 }
    }

    /// Runs all steps and compares.
    pub fn check(&mut self, steps: &[Step<'_>]) {
        for (line, reply, told) in steps {
            let (got, heard) = self.step(line);
            assert_eq!((got.as_str(), heard.join(" / ").as_str()), (*reply, *told), "{line}");
        }
    }

    fn step(&mut self, line: &str) -> (String, Vec<String>) {
        let mut reply = String::new();
        if let Some(ms) = line.strip_prefix('+') {
            self.pass(ms.parse().expect("a number of milliseconds"));
        } else {
            let (name, line) = line.split_once(' ').expect("a client and its line");
            let client = usize::from(name.as_bytes()[0] - b'a');
            assert!(!self.sessions[client].state.has(State::WAITING), "{name} waits");
            reply = self.run(client, line);
        }
        (reply, self.heard())
    }

    /// Runs a line of a client; its reply with spaces for line ends.
    pub fn run(&mut self, client: usize, line: &str) -> String {
        let mut base = Vec::new();
        let mut spans = Vec::new();
        for word in line.split_whitespace().map(|word| word.replace('~', " ")) {
            spans.push(Span { start: base.len() as u32, len: word.len() as u32 });
            base.extend_from_slice(word.as_bytes());
        }
        let args = Args::new(&base, &spans);
        let id = table().resolve(args);
        let hash = table().key_hash(id, args, &self.store.keyspace.hasher());
        let mut out = Vec::new();
        self.store.now_ms = self.now_ms;
        let session = &mut self.sessions[client];
        self.store.execute(session, id, args, hash, self.now_ms, &mut out);
        text(&out)
    }

    /// Lets time pass: waits end.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.store.now_ms = self.now_ms;
        let tickets = self.sessions.iter().filter_map(|session| session.wait);
        let due: Vec<u64> = tickets
            .filter(|ticket| ticket.timeout_ms.is_some_and(|timeout_ms| timeout_ms <= ms))
            .map(|ticket| ticket.number)
            .collect();
        due.into_iter().for_each(|number| self.store.time_out(number));
    }

    /// What connections were told since the last time.
    pub fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        // As whoever held the store does at the end.
        self.store.look_at_copies();
        self.store.instance.broadcast();
        for delivery in self.store.instance.clients.take_deliveries() {
            let client = delivery.connection() as usize;
            let name = char::from(b'a' + client as u8);
            heard.push(match delivery {
                Delivery::Close { .. } => format!("{name} closed"),
                Delivery::Evict { .. } => format!("{name} evicted"),
                Delivery::Push { bytes, .. } => format!("{name}: {}", text(&bytes)),
                Delivery::Resume { wait, reply, .. } => {
                    let session = &mut self.sessions[client];
                    assert_eq!(session.wait.map(|ticket| ticket.number), Some(wait));
                    session.end_wait();
                    format!("{name}: {}", text(&reply)).trim_end().to_owned()
                }
            });
        }
        heard
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", " ").trim_end().to_owned()
}

/// Fresh clients run all steps.
pub fn check(steps: &[Step<'_>]) {
    Crowd::new(4).check(steps);
}
