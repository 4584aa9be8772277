//! Tests of commands as tables: run these lines, expect these replies.

use crate::store::table as commands;
use crate::store::{Args, Hasher, Session, Settings, Span, Store};

/// A client of a store of its own.
pub struct Client {
    pub store: Store,
    pub session: Session,
    pub now_ms: u64,
}

impl Client {
    /// A client that speaks RESP2.
    pub fn resp2() -> Client {
        let settings = Settings { hasher: Some(Hasher::seeded(1)), seed: 1, ..Settings::default() };
        Client { store: Store::new(&settings), session: Session::new(1), now_ms: 1_000_000 }
    }

    /// A client that speaks RESP3.
    pub fn resp3() -> Client {
        let mut client = Client::resp2();
        client.session.resp3 = true;
        client
    }

    /// Runs a line of words (`""` is an empty one) and answers the reply with a space for each line end.
    pub fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line
            .split_whitespace()
            .map(|word| if word == "\"\"" { &b""[..] } else { word.as_bytes() })
            .collect();
        let reply = String::from_utf8(self.run_words(&words)).expect("replies in tests are text");
        reply.replace("\r\n", " ").trim_end().to_owned()
    }

    /// Runs a command of any words; the reply as it is.
    pub fn run_words(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut base = Vec::new();
        let mut spans = Vec::new();
        for word in words {
            spans.push(Span { start: base.len() as u32, len: word.len() as u32 });
            base.extend_from_slice(word);
        }
        let args = Args::new(&base, &spans);
        let table = commands();
        let id = table.resolve(args);
        let hash = table.key_hash(id, args, &self.store.keyspace.hasher());
        let mut out = Vec::new();
        self.store.execute(&mut self.session, id, args, hash, self.now_ms, &mut out);
        out
    }

    /// Runs all lines and compares their replies.
    pub fn check(&mut self, lines: &[(&str, &str)]) {
        for (line, expected) in lines {
            assert_eq!(self.run(line), *expected, "{line}");
        }
    }

    /// The text of a single byte string reply.
    pub fn bulk(&mut self, line: &str) -> String {
        let reply = self.run(line);
        reply.split_once(' ').map(|(_, text)| text.to_owned()).unwrap_or_default()
    }
}

/// A fresh RESP2 client runs all lines.
pub fn check(lines: &[(&str, &str)]) {
    Client::resp2().check(lines);
}

/// A fresh RESP3 client runs all lines.
pub fn check_resp3(lines: &[(&str, &str)]) {
    Client::resp3().check(lines);
}
