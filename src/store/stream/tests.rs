//! The stream against a plain vector, and what its nodes look like.

use super::*;
use crate::store::random::Random;

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

fn append(stream: &mut Stream, at: StreamId, texts: &[&str]) {
    let added =
        stream.append(NewId::Exactly(at), texts.iter().map(|text| text.as_bytes()), (0, 100));
    assert_eq!(added, Ok(at));
}

fn read(entries: Entries<'_>) -> Vec<(StreamId, Vec<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("tests write text");
    entries
        .map(|entry| {
            let pairs = entry.pairs().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]);
            (entry.id, pairs.map(text).collect())
        })
        .collect()
}

#[test]
fn ids_grow() {
    let mut stream = Stream::new();
    let mut add =
        |new_id, now_ms| stream.append(new_id, [&b"f"[..], b"v"].into_iter(), (now_ms, 100));
    assert_eq!(add(NewId::Automatic, 5), Ok(id(5, 0)));
    assert_eq!(add(NewId::Automatic, 5), Ok(id(5, 1)));
    assert_eq!(add(NewId::Automatic, 4), Ok(id(5, 2)));
    assert_eq!(add(NewId::At(5), 0), Ok(id(5, 3)));
    assert_eq!(add(NewId::At(6), 0), Ok(id(6, 0)));
    assert_eq!(add(NewId::At(5), 0), Err(Refusal::NotAbove));
    assert_eq!(add(NewId::Exactly(id(6, 0)), 0), Err(Refusal::NotAbove));
    assert_eq!(add(NewId::Exactly(id(6, u64::MAX)), 0), Ok(id(6, u64::MAX)));
    assert_eq!(add(NewId::At(6), 0), Err(Refusal::NotAbove));
    assert_eq!(add(NewId::Automatic, 0), Ok(id(7, 0)));
}

#[test]
fn nodes_are_cut_by_entries_and_bytes() {
    let mut stream = Stream::new();
    for ms in 1..=101 {
        append(&mut stream, id(ms, 0), &["field", "value"]);
    }
    assert_eq!((stream.nodes(), stream.nodes[0].entries()), (2, 100));
    let long = "x".repeat(4000);
    append(&mut stream, id(200, 0), &["field", &long]);
    append(&mut stream, id(201, 0), &["field", "y".repeat(100).as_str()]);
    assert_eq!(stream.nodes(), 3);
    assert_eq!(Stream::new().radix_nodes(), 1);
}

#[test]
fn a_stream_is_a_vector_of_entries() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut stream = Stream::new();
        let mut model: Vec<(StreamId, Vec<String>)> = Vec::new();
        let mut next = id(1, 0);
        for _ in 0..600 {
            match random.below(10) {
                0 => {
                    let doomed: Vec<StreamId> =
                        (0..3).map(|_| id(random.below(next.ms as usize + 2) as u64, 0)).collect();
                    let before = model.len();
                    model.retain(|(id, _)| !doomed.contains(id));
                    assert_eq!(stream.delete(&doomed), (before - model.len()) as u64);
                }
                1 if random.below(8) == 0 => {
                    let count = random.below(300);
                    let keep = Keep::Newest(count as u64);
                    let trimmed = stream.trim(&Trim { keep, approximately: false, limit: 0 });
                    let over = model.len().saturating_sub(count);
                    assert_eq!(trimmed, over as u64);
                    model.drain(..over);
                }
                2 if random.below(8) == 0 => {
                    let from = id(random.below(next.ms as usize) as u64, 0);
                    let keep = Keep::From(from);
                    let trimmed = stream.trim(&Trim { keep, approximately: false, limit: 0 });
                    let below = model.partition_point(|(id, _)| *id < from);
                    assert_eq!(trimmed, below as u64);
                    model.drain(..below);
                }
                kind => {
                    next.ms += random.below(2) as u64;
                    next = if next.ms == stream.last_id.ms {
                        id(next.ms, next.seq + 1)
                    } else {
                        id(next.ms, 0)
                    };
                    let mut texts = vec!["field".to_owned(), format!("{}", random.below(100_000))];
                    if kind == 3 {
                        texts.extend(["other".to_owned(), "z".repeat(random.below(300))]);
                    }
                    append(
                        &mut stream,
                        next,
                        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
                    );
                    model.push((next, texts));
                }
            }
            assert_eq!(stream.len(), model.len() as u64);
            let first = model.first().map_or(StreamId::MIN, |(id, _)| *id);
            assert!(stream.first_id == first || stream.is_empty());
        }
        assert_eq!(read(stream.iter()), model);
        let (low, high) = (id(next.ms / 4, 0), id(next.ms / 2, 3));
        let mut part: Vec<_> =
            model.iter().filter(|(id, _)| (low..=high).contains(id)).cloned().collect();
        assert_eq!(read(stream.range(low, high, false)), part);
        part.reverse();
        assert_eq!(read(stream.range(low, high, true)), part);
        assert_eq!(stream.last_entry_id(), model.last().map(|(id, _)| *id));
    }
}

#[test]
fn approximate_trimming_takes_whole_nodes() {
    let mut stream = Stream::new();
    for ms in 1..=250 {
        append(&mut stream, id(ms, 0), &["f", "v"]);
    }
    let trim = |keep, limit| Trim { keep, approximately: true, limit };
    assert_eq!(stream.trim(&trim(Keep::Newest(200), 0)), 0);
    assert_eq!(stream.trim(&trim(Keep::Newest(120), 50)), 0);
    assert_eq!(stream.trim(&trim(Keep::Newest(120), 0)), 100);
    assert_eq!(stream.trim(&trim(Keep::From(id(201, 0)), 0)), 100);
    assert_eq!((stream.len(), stream.first_id), (50, id(201, 0)));
}

#[test]
fn groups_own_what_is_pending_once() {
    let mut group = Group::new(StreamId::MIN, None);
    assert!(group.create_consumer(b"a", 1) && !group.create_consumer(b"a", 2));
    assert!(group.seen(b"b", 3));
    group.assign(id(1, 0), b"a", 5, 1);
    group.assign(id(1, 0), b"b", 6, 2);
    assert!(group.consumers[&b"a"[..]].pending.is_empty());
    assert_eq!(group.pending[&id(1, 0)].deliveries, 2);
    assert!(group.acknowledge(id(1, 0)) && !group.acknowledge(id(1, 0)));
    group.assign(id(2, 0), b"b", 6, 1);
    assert_eq!(group.delete_consumer(b"b"), Some(1));
    assert!(group.pending.is_empty());
}
