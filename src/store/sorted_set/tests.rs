//! Sorted sets against a map of scores and a sorted vector, across the conversion.

use std::collections::{BTreeMap, BTreeSet};

use super::super::thresholds;
use super::*;

const SMALL: Thresholds =
    Thresholds { sorted_set_entries: 12, sorted_set_value_bytes: 8, ..thresholds::REDIS };

fn in_order(model: &BTreeMap<Vec<u8>, f64>) -> Vec<(Vec<u8>, f64)> {
    let mut pairs: Vec<_> = model.iter().map(|(text, score)| (text.clone(), *score)).collect();
    pairs.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    pairs
}

fn check(set: &SortedSet, model: &BTreeMap<Vec<u8>, f64>) {
    let pairs = in_order(model);
    assert_eq!(set.len(), pairs.len());
    assert_eq!(set.range(0, usize::MAX, false), pairs);
    let mut seen = BTreeSet::new();
    let mut cursor = 0;
    loop {
        cursor = set.scan(cursor, 3, |member, score| {
            assert_eq!(model.get(&member.to_vec()), Some(&score));
            assert!(seen.insert(member.to_vec()));
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), model.len());
}

fn step(random: &mut Random, set: &mut SortedSet, model: &mut BTreeMap<Vec<u8>, f64>) {
    let text = format!("{}{}", ["m", "", "long-member-"][random.below(3)], random.below(40));
    let text = text.into_bytes();
    let score = (random.below(20) as f64 - 5.0) / [1.0, 3.0][random.below(2)];
    assert_eq!(set.score(&text), model.get(&text).copied());
    match random.below(8) {
        0..=4 => {
            let change = set.insert(&text, score, Hasher::seeded(5), &SMALL);
            let expected = match model.insert(text, score) {
                None => Change::Added,
                Some(before) if before == score => Change::Same,
                Some(_) => Change::Moved,
            };
            assert_eq!(change, expected);
        }
        5 | 6 => assert_eq!(set.remove(&text), model.remove(&text).is_some()),
        _ if random.below(5) == 0 => {
            let (skip, count) = (random.below(model.len() + 1), random.below(4));
            let count = count.min(model.len() - skip);
            let doomed: Vec<_> = in_order(model).into_iter().skip(skip).take(count).collect();
            set.remove_range(skip, count);
            for (text, _) in doomed {
                model.remove(&text);
            }
        }
        _ => {
            let below = in_order(model).iter().take_while(|(_, other)| *other < score).count();
            assert_eq!(set.rank(Cut::Score(score)), below);
        }
    }
}

#[test]
fn random_changes_agree_with_a_map_through_both_forms() {
    let mut encodings = BTreeSet::new();
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut set, mut model) = (SortedSet::new(), BTreeMap::new());
        for _ in 0..300 {
            step(&mut random, &mut set, &mut model);
            check(&set, &model);
            encodings.insert(set.encoding());
        }
        let sample = set.sample(model.len() / 2, &mut random);
        let distinct: BTreeSet<_> = sample.iter().map(|(text, _)| text.clone()).collect();
        assert_eq!(distinct.len(), model.len() / 2);
        assert!(sample.iter().all(|(text, score)| model.get(text) == Some(score)));
    }
    assert_eq!(encodings.len(), 2);
}

#[test]
fn the_form_follows_redis_thresholds() {
    for (members, bytes, encoding) in
        [(128, 10, "listpack"), (129, 10, "skiplist"), (1, 64, "listpack"), (1, 65, "skiplist")]
    {
        let mut set = SortedSet::new();
        for number in 0..members {
            let text = format!("{number:0>bytes$}");
            set.insert(text.as_bytes(), f64::from(number), Hasher::seeded(1), &thresholds::REDIS);
        }
        assert_eq!((set.encoding(), set.len()), (encoding, members as usize));
    }
}

#[test]
fn small_sorted_sets_are_no_larger_than_redis_keeps_them() {
    assert!(size_of::<SortedSet>() <= 32);
    let mut set = SortedSet::new();
    for number in 0..10 {
        let text = format!("member-{number}");
        set.insert(text.as_bytes(), f64::from(number), Hasher::seeded(1), &thresholds::REDIS);
    }
    // 120 bytes of pairs; Redis's listpack takes 127.
    assert_eq!(set.memory_bytes(), 128);
}
