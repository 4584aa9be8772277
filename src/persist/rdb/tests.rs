//! Tests of whole files: written and read again in pieces of every size, cut, bent, and of other versions.

use std::collections::BTreeMap;

use super::*;
use crate::store::{Hasher, Settings, SharedStore, thresholds};

fn builder() -> Builder<'static> {
    Builder { hasher: Hasher::seeded(1), thresholds: &thresholds::REDIS }
}

/// A file of two databases with values of all types.
fn file() -> Vec<u8> {
    let store = SharedStore::new(&Settings { now_ms: 1000, ..Settings::default() });
    let mut session = store.session(1000);
    for line in [
        "set string text",
        "set number 12 px 5000",
        "rpush list a b 3",
        "sadd set a b",
        "sadd integers 1 2",
        "hset hash f v",
        "zadd sorted 1.5 a",
        "xadd stream 1-1 f v",
        "select 3",
        "set string other",
        "hset timed f v g w",
        "hpexpire timed 700 fields 1 g",
    ] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        store.call(&mut session, &words, 1000, &mut out);
        assert_ne!(out[0], b'-', "{line}: {}", String::from_utf8_lossy(&out));
    }
    let held = store.lock(1000);
    let mut writer = Writer::new(Version::Redis74, &[("redis-ver", "7.4.0")]);
    writer.function(b"#!lua name=lib\n");
    let mut file = Vec::new();
    for index in [0, 3] {
        let database = &held.keyspace.databases()[index];
        writer.database(index as u8, database.len(), database.expiring());
        for entry in database.table().iter() {
            writer.entry(entry);
            if writer.pending() > 20 {
                file.extend(writer.take());
            }
        }
    }
    writer.finish();
    file.extend(writer.take());
    file
}

/// All that a file says, in an order of its own, read in pieces of that many bytes.
fn read(file: &[u8], piece: usize) -> Result<BTreeMap<String, String>, Damage> {
    let (mut reader, mut said, mut database) = (Reader::new(), BTreeMap::new(), 0);
    let mut pieces = file.chunks(piece);
    loop {
        let Some(item) = reader.next(&builder())? else {
            match pieces.next() {
                Some(piece) => reader.feed(piece),
                None if reader.complete => return Err(Damage::Truncated),
                None => reader.complete(),
            }
            continue;
        };
        match item {
            Item::End => return Ok(said),
            Item::Database(index) => database = index,
            Item::Auxiliary(name, text) => {
                said.insert(String::from_utf8_lossy(&name).into(), format!("{text:?}"));
            }
            Item::Function(code) => drop(said.insert("function".into(), format!("{code:?}"))),
            Item::Key(key) => {
                let name = format!("{database} {}", String::from_utf8_lossy(&key.key));
                said.insert(name, format!("{:?} {:?}", key.expires_ms, key.value.view().kind()));
            }
        }
    }
}

#[test]
fn a_file_is_read_in_pieces_of_any_size() {
    let file = file();
    let whole = read(&file, file.len()).expect("our own file");
    assert_eq!(whole.len(), 12, "{whole:?}");
    assert_eq!(whole["0 number"], "Some(6000) String");
    assert_eq!(whole["3 timed"], "None Hash");
    for piece in 1..200 {
        assert_eq!(read(&file, piece).as_ref(), Ok(&whole), "pieces of {piece}");
    }
}

#[test]
fn a_cut_or_bent_file_is_never_whole() {
    let file = file();
    for end in 0..file.len() {
        assert!(read(&file[..end], 64).is_err(), "cut at {end}");
    }
    for at in 0..file.len() {
        let mut bent = file.clone();
        bent[at] ^= 0x10;
        assert!(read(&bent, 64).is_err(), "byte {at} of {}", file.len());
    }
}

#[test]
fn files_of_other_versions_are_read() {
    for (text, expected) in [
        // Version 3: seconds, and no sum at all but zeros.
        (
            &b"REDIS0003\xfe\x00\xfd\x0a\x00\x00\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0"[..],
            "Some(10000) String",
        ),
        (b"REDIS0012\xf4\x01\x02\x03\xf8\x07\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0", "None String"),
        (
            b"REDIS0011\xf9\x07\xfc\x0a\0\0\0\0\0\0\0\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0",
            "Some(10) String",
        ),
    ] {
        let said = read(text, 5).expect("a file without a sum");
        assert_eq!(said["0 k"], expected);
    }
    for text in [
        &b"REDIS9999\xff\0\0\0\0\0\0\0\0"[..],
        b"RODIS0010\xff\0\0\0\0\0\0\0\0",
        b"REDIS0010\xf7\x01\xff",
    ] {
        assert!(read(text, 100).is_err());
    }
}
