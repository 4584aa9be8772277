//! The table against std's HashMap, with segments so small that every mechanism runs, and with hashes that collide.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;

type Model = HashMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// Hash masks: all bits; a few top bits, so that most hashes are equal; low bits only; none.
const MASKS: [u64; 5] = [u64::MAX, 0xff00_0000_0000_0000, 0x0000_0fff_ffff_ffff, 0xffff, 0];

fn key_of(number: usize) -> Vec<u8> {
    format!("key:{number:0width$}", width = number % 40).into_bytes()
}

fn same<const B: usize>(table: &SegmentedTable<B>, model: &Model) {
    assert_eq!(table.len(), model.len());
    assert_eq!(table.expiring(), model.values().filter(|(_, at)| at.is_some()).count());
    let seen: Model = table
        .iter()
        .map(|entry| {
            let text = entry.text().expect("all values are strings").to_vec();
            (entry.key().to_vec(), (text, entry.expires_ms()))
        })
        .collect();
    assert_eq!(&seen, model);
}

/// A thousand random changes; the table must always answer as the model does.
fn change<const B: usize>(
    table: &mut SegmentedTable<B>,
    model: &mut Model,
    random: &mut Random,
    keys: usize,
    growing: bool,
) {
    let hasher = table.hasher();
    for _ in 0..1000 {
        let key = key_of(random.below(keys));
        let hash = hasher.hash(&key);
        let place = table.locate(&key, hash);
        assert_eq!(place.is_some(), model.contains_key(&key));
        let at = (random.below(3) == 0).then(|| random.below(1000) as u64);
        let value = vec![b'v'; random.below(200)];
        match random.below(10) {
            0..=4 if growing => {
                let entry = EntryBox::string(&key, &value, at);
                match place {
                    Some(place) => drop(table.replace(place, entry)),
                    None => drop(table.insert(entry, hash)),
                }
                model.insert(key, (value, at));
            }
            5 => {
                let Some(place) = place else { continue };
                table.set_expires_ms(place, at);
                model.get_mut(&key).expect("both have it").1 = at;
            }
            6 => {
                let Some(place) = place else { continue };
                table.entry_mut(place).set_string(&value);
                model.get_mut(&key).expect("both have it").0 = value;
            }
            7 => drop(table.merge_step()),
            _ => {
                let removed = table.remove(&key, hash);
                let expected = model.remove(&key).map(|(value, _)| value);
                assert_eq!(removed.and_then(|entry| Some(entry.view().text()?.to_vec())), expected);
            }
        }
    }
}

fn against_model<const B: usize>(seed: u64, mask: u64, keys: usize) {
    let mut table = SegmentedTable::<B>::new(Hasher::masked(seed, mask));
    let mut model = Model::new();
    let mut random = Random::new(seed);
    for round in 0..12 {
        change(&mut table, &mut model, &mut random, keys, round % 4 != 3);
        same(&table, &model);
    }
    let now = 500;
    let mut taken = HashSet::new();
    while table.take_expired(now, 7, |entry| {
        assert!(taken.insert(entry.view().key().to_vec()));
    }) {}
    model.retain(|key, (_, at)| {
        let due = at.is_some_and(|at| at <= now);
        assert_eq!(taken.contains(key), due);
        !due
    });
    same(&table, &model);
    same(&table.clone(), &model);
}

#[test]
fn it_answers_as_a_map_does() {
    for seed in 0..4 {
        for mask in MASKS {
            against_model::<3>(seed, mask, 300);
            against_model::<5>(seed, mask, 1000);
            against_model::<68>(seed, mask, 3000);
        }
    }
    against_model::<3>(9, u64::MAX, 20_000);
}

/// 500 keys under one hash would double the directory to death if a full segment always split.
#[test]
fn one_hash_for_all_keys_costs_time_but_no_memory() {
    for mask in [0, 1 << 63, 0xff] {
        let mut table = Table::new(Hasher::masked(1, mask));
        let hasher = table.hasher();
        for number in 0..2000 {
            let key = key_of(number);
            table.insert(EntryBox::member(&key), hasher.hash(&key));
        }
        assert!(table.segments() <= 32, "{} segments", table.segments());
        assert!(table.directory.len() <= 1 << 11, "{} words", table.directory.len());
        for number in 0..2000 {
            let key = key_of(number);
            assert!(table.find(&key, hasher.hash(&key)).is_some());
            assert!(table.remove(&key, hasher.hash(&key)).is_some());
            assert!(table.find(&key, hasher.hash(&key)).is_none());
        }
        assert!(table.is_empty());
    }
}

/// Stable keys must be shown once each while others come and go between the calls.
fn scan_while_changing<const B: usize>(seed: u64, stable: usize, churn: usize, mask: u64) {
    let mut table = SegmentedTable::<B>::new(Hasher::masked(seed, mask));
    let hasher = table.hasher();
    let mut random = Random::new(seed);
    for number in 0..stable {
        let key = format!("stable:{number}").into_bytes();
        table.insert(EntryBox::member(&key), hasher.hash(&key));
    }
    let mut seen = BTreeMap::<Vec<u8>, usize>::new();
    let mut guests: Vec<Vec<u8>> = Vec::new();
    let (mut cursor, mut made) = (0, 0);
    loop {
        let count = 1 + random.below(20);
        cursor = table.scan(cursor, count, |entry| {
            *seen.entry(entry.key().to_vec()).or_default() += 1;
        });
        assert!(cursor < 1 << 48);
        if cursor == 0 {
            break;
        }
        let grows = random.below(100) < 60 && made < churn;
        for _ in 0..random.below(100) {
            if grows {
                made += 1;
                guests.push(format!("guest:{made}").into_bytes());
                let key = guests.last().expect("just pushed");
                table.insert(EntryBox::member(key), hasher.hash(key));
            } else if !guests.is_empty() {
                let key = guests.swap_remove(random.below(guests.len()));
                assert!(table.remove(&key, hasher.hash(&key)).is_some());
            }
        }
        for _ in 0..random.below(4) {
            table.merge_step();
        }
    }
    let stable_seen: Vec<_> = seen.iter().filter(|(key, _)| key.starts_with(b"stable")).collect();
    assert_eq!(stable_seen.len(), stable, "seed {seed}: some were missed");
    assert!(stable_seen.iter().all(|(_, times)| **times == 1), "seed {seed}: some came twice");
}

#[test]
fn a_scan_shows_every_lasting_key_exactly_once() {
    for seed in 0..100 {
        scan_while_changing::<3>(seed, 1 + seed as usize * 7, 5000, u64::MAX);
        scan_while_changing::<5>(seed, 200, 5000, 0xffff_ff00_0000_0000);
    }
    for seed in 0..20 {
        scan_while_changing::<68>(seed, 3000, 30_000, u64::MAX);
    }
}

#[test]
fn sparse_segments_are_merged_and_the_directory_halves() {
    let mut table = SegmentedTable::<5>::new(Hasher::seeded(3));
    let hasher = table.hasher();
    let keys: Vec<_> = (0..20_000).map(key_of).collect();
    for key in &keys {
        table.insert(EntryBox::member(key), hasher.hash(key));
    }
    let (segments, words) = (table.segments(), table.directory.len());
    for key in &keys[50..] {
        table.remove(key, hasher.hash(key));
    }
    while table.merge_step() {}
    assert!(table.segments() * 50 < segments, "{} of {segments} segments", table.segments());
    assert!(table.directory.len() * 50 < words, "{} of {words} words", table.directory.len());
    assert!(keys[..50].iter().all(|key| table.find(key, hasher.hash(key)).is_some()));
}

#[test]
fn random_entries_come_from_all_over() {
    let mut random = Random::new(5);
    for (count, mask) in [(1, u64::MAX), (100, u64::MAX), (3000, u64::MAX), (600, 0)] {
        let mut table = Table::new(Hasher::masked(5, mask));
        assert!(table.random(&mut random).is_none());
        let hasher = table.hasher();
        for number in 0..count {
            let key = format!("{number}").into_bytes();
            table.insert(EntryBox::member(&key), hasher.hash(&key));
        }
        let mut draw = || table.random(&mut random).expect("not empty").key().to_vec();
        let seen: HashSet<Vec<u8>> = (0..count * 20).map(|_| draw()).collect();
        assert!(seen.len() > count * 9 / 10, "{} of {count}", seen.len());
    }
}

#[test]
fn a_sweep_stops_at_its_budget_and_goes_on() {
    let mut table = Table::new(Hasher::seeded(1));
    let hasher = table.hasher();
    for number in 0..5000 {
        let key = key_of(number);
        table.insert(
            EntryBox::string(&key, b"", Some(10 + number as u64 % 2 * 90)),
            hasher.hash(&key),
        );
    }
    let mut taken = 0;
    assert!(!table.take_expired(9, 100, |_| taken += 1), "nothing is due");
    assert!(table.take_expired(10, 100, |_| taken += 1));
    assert!(taken > 0 && taken < 1000, "{taken} in the first step");
    while table.take_expired(10, 100, |_| taken += 1) {}
    assert_eq!(taken, 2500);
    assert!(!table.take_expired(99, 100, |_| taken += 1));
    while table.take_expired(100, 100, |_| taken += 1) {}
    assert_eq!((taken, table.len(), table.expiring()), (5000, 0, 0));
}
