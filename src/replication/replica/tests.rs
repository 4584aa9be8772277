//! A link and a primary made of text: the handshake at every split, both forms of snapshots, cuts.

use super::*;
use crate::persist::rdb::{Version, Writer};
use crate::store::{Settings as StoreSettings, Store};

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

fn store() -> Store {
    let mut store = Store::new(&StoreSettings { now_ms: 1_000, ..StoreSettings::default() });
    let primary = Some(("127.0.0.1".to_owned(), 6379));
    let Store { keyspace, instance, .. } = &mut store;
    assert!(instance.follow(keyspace, primary, 1_000));
    store
}

/// A snapshot with one key in database 3.
fn snapshot() -> Vec<u8> {
    let mut full = Store::new(&StoreSettings { now_ms: 1_000, ..StoreSettings::default() });
    let mut bytes = Vec::new();
    write_command(&mut bytes, [&b"SET"[..], b"key", b"value"].into_iter());
    Replay::default().apply(&mut full, &bytes, 1).unwrap();
    let mut writer = Writer::new(Version::Redis70, &[("redis-ver", "7.0.15")]);
    writer.database(3, 1, 0);
    full.keyspace.databases()[0].table().iter().for_each(|entry| writer.entry(entry));
    writer.finish();
    writer.take()
}

fn get(store: &mut Store, database: u8, key: &[u8]) -> Option<Vec<u8>> {
    let hash = store.keyspace.hash(key);
    let found = store.keyspace.database(database).string(key, hash, 1_000).expect("a string");
    found.map(|text| text.to_vec())
}

/// Gives bytes in pieces and steps until nothing more is to do; what was said.
fn hear(link: &mut Link, store: &mut Store, bytes: &[u8], piece: usize) -> Result<String, String> {
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        link.on_bytes(piece);
        while link.step(store, &mut out)? {}
    }
    Ok(String::from_utf8_lossy(&out).replace("\r\n", " "))
}

/// A link that waits for the answer to its PSYNC.
fn introduced(history: Option<History>, store: &mut Store, piece: usize) -> (Link, String) {
    let settings = Settings { port: 7000, user: Vec::new(), password: b"pw".to_vec() };
    let mut link = Link::new(settings, history, &mut Vec::new());
    let answers = b"-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n+OK\r\n";
    let said = hear(&mut link, store, answers, piece).unwrap();
    (link, said)
}

#[test]
fn both_forms_of_snapshots_and_changes_at_every_split() {
    let rdb = snapshot();
    let mark = "m".repeat(40);
    let changes = b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n\
        *1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
    let first = format!("+FULLRESYNC {ID} 100\r\n\n\n");
    let counted =
        [first.as_bytes(), format!("${}\r\n", rdb.len()).as_bytes(), &rdb, changes].concat();
    let marked =
        [first.as_bytes(), format!("$EOF:{mark}\r\n").as_bytes(), &rdb, mark.as_bytes()].concat();
    for piece in [1, 2, 3, 7, 41, 64, 100_000] {
        let mut store = store();
        let (mut link, said) = introduced(None, &mut store, piece);
        assert!(said.contains("AUTH $2 pw") && said.contains("listening-port $4 7000"), "{said}");
        assert!(said.ends_with("PSYNC $1 ? $2 -1 "), "{said}");
        let said = hear(&mut link, &mut store, &counted, piece).unwrap();
        let end = 100 + changes.len();
        assert!(said.ends_with(&format!("REPLCONF $3 ACK $3 {end} ")), "{piece}: {said}");
        assert_eq!(get(&mut store, 3, b"key").as_deref(), Some(&b"value"[..]));
        assert_eq!(get(&mut store, 3, b"k").as_deref(), Some(&b"2"[..]));
        assert_eq!(
            (store.instance.replication.id.as_str(), link.state()),
            (ID, LinkState::Connected)
        );

        let (mut link, _) = introduced(None, &mut store, piece);
        hear(&mut link, &mut store, &marked, piece).unwrap();
        assert_eq!(link.state(), LinkState::Connected);
        hear(&mut link, &mut store, changes, piece).unwrap();
        assert_eq!(get(&mut store, 3, b"k").as_deref(), Some(&b"2"[..]));
    }
}

/// A cut between MULTI and EXEC: the next link asks for the rest, and the transaction is applied once and whole.
#[test]
fn a_cut_link_goes_on_from_its_last_byte() {
    let rdb = snapshot();
    let first = format!("+FULLRESYNC {ID} 0\r\n${}\r\n", rdb.len());
    let changes: &[u8] =
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n\
        *2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*1\r\n$4\r\nEXEC\r\n";
    for cut in 0..changes.len() {
        let mut store = store();
        let (mut link, _) = introduced(None, &mut store, 100);
        hear(&mut link, &mut store, &[first.as_bytes(), &rdb, &changes[..cut]].concat(), 100)
            .unwrap();
        let (mut link, said) = introduced(link.into_history(), &mut store, 100);
        let asked: usize = said.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(said.contains(ID) && asked <= cut + 1, "{said}");
        let rest = [b"+CONTINUE\r\n", &changes[asked - 1..]].concat();
        hear(&mut link, &mut store, &rest, 100).unwrap();
        assert_eq!(get(&mut store, 5, b"n").as_deref(), Some(&b"2"[..]), "cut at {cut}");
    }
}

#[test]
fn what_isnt_a_primary_is_refused_with_the_reason() {
    let cases: &[(&[u8], &str)] = &[
        (b"HTTP/1.1 400 Bad Request\r\n", "it answers PING with HTTP"),
        (b"+PONG\r\n-WRONGPASS no\r\n", "AUTH is refused"),
        (b"+PONG\r\n+OK\r\n+OK\r\n-ERR what\r\n-NOMASTERLINK Can't SYNC\r\n", "NOMASTERLINK"),
        (b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE\r\n", "nothing has begun"),
        (b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC a 1\r\n$5\r\nHELLO", "damaged"),
        (b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC a 1\r\n$x\r\n", "a snapshot was to come"),
    ];
    for (bytes, reason) in cases {
        let mut store = store();
        let settings = Settings { password: b"pw".to_vec(), ..Settings::default() };
        let mut link = Link::new(settings, None, &mut Vec::new());
        let error = hear(&mut link, &mut store, bytes, 100).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let mut store = store();
    let mut link = Link::new(Settings::default(), None, &mut Vec::new());
    assert!(hear(&mut link, &mut store, &[b'x'; 5000], 5000).is_err(), "a line without end");
}
