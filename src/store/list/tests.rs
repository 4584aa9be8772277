//! Lists against a deque of texts, across the conversions.

use std::collections::VecDeque;

use super::super::random::Random;
use super::super::thresholds::{self, Thresholds};
use super::*;

const SMALL: Thresholds = Thresholds { list_bytes: 120, ..thresholds::REDIS };

fn texts<'a>(elements: impl Iterator<Item = Element<'a>>) -> Vec<Vec<u8>> {
    elements.map(|element| element.to_vec()).collect()
}

fn check(list: &List, model: &VecDeque<Vec<u8>>) {
    assert_eq!(list.len(), model.len());
    assert!(texts(list.iter()).iter().eq(model.iter()));
    assert!(texts(list.iter().rev()).iter().eq(model.iter().rev()));
    if let Form::Big(nodes) = &list.form {
        assert!(nodes.nodes.iter().all(|node| !node.is_empty()));
    }
}

/// Few different texts, so that equal ones meet; some longer than a node.
fn text(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => vec![b'z'; 100 + random.below(100)],
        1..10 => random.below(5).to_string().into_bytes(),
        _ => format!("value-{}", random.below(5)).into_bytes(),
    }
}

fn push(list: &mut List, end: End, text: &[u8]) {
    list.expect(text.len(), &SMALL);
    list.push(end, text, &SMALL);
}

fn remove_from_model(model: &mut VecDeque<Vec<u8>>, from: End, text: &[u8], limit: usize) -> usize {
    let mut removed = 0;
    while removed < limit {
        let found = match from {
            End::Front => model.iter().position(|other| other == text),
            End::Back => model.iter().rposition(|other| other == text),
        };
        let Some(index) = found else { break };
        model.remove(index);
        removed += 1;
    }
    removed
}

fn step(random: &mut Random, list: &mut List, model: &mut VecDeque<Vec<u8>>) {
    let value = text(random);
    let index = random.below(model.len() + 1);
    let end = if random.below(2) == 0 { End::Front } else { End::Back };
    match random.below(16) {
        0..=4 => {
            push(list, End::Front, &value);
            model.push_front(value);
        }
        5..=8 => {
            push(list, End::Back, &value);
            model.push_back(value);
        }
        9 | 10 => assert_eq!(list.pop(End::Front, |e| e.to_vec()), model.pop_front()),
        11 => assert_eq!(list.pop(End::Back, |e| e.to_vec()), model.pop_back()),
        12 if index < model.len() => {
            list.set(index, &value, &SMALL);
            model[index] = value;
        }
        13 => {
            list.insert(index, &value, &SMALL);
            model.insert(index, value);
        }
        14 => {
            let limit = 1 + random.below(3);
            let expected = remove_from_model(model, end, &value, limit);
            assert_eq!(list.remove_equal(end, &value, limit), expected);
        }
        15 if random.below(10) == 0 => {
            let keep = random.below(model.len() + 1);
            list.trim(index, keep);
            *model = model.iter().skip(index).take(keep).cloned().collect();
        }
        _ => {
            let count = random.below(6);
            let expected: Vec<_> = model.iter().skip(index).take(count).cloned().collect();
            assert_eq!(texts(list.range(index, count)), expected);
            assert_eq!(list.at(index).map(|e| e.to_vec()), model.get(index).cloned());
        }
    }
    list.settle(&SMALL);
}

#[test]
fn random_commands_agree_with_a_deque() {
    let mut encodings = std::collections::BTreeSet::new();
    for seed in 1..60 {
        let mut random = Random::new(seed);
        let (mut list, mut model) = (List::new(), VecDeque::new());
        for _ in 0..600 {
            step(&mut random, &mut list, &mut model);
            check(&list, &model);
            encodings.insert(list.encoding());
        }
    }
    assert_eq!(encodings.len(), 2);
}

#[test]
fn pushes_and_pops_at_the_head_reuse_their_nodes() {
    let mut list = List::new();
    for number in 0..1000 {
        push(&mut list, End::Front, format!("value-{number}").as_bytes());
    }
    let Form::Big(nodes) = &list.form else { panic!("1000 elements are a quicklist") };
    let full = nodes.nodes.iter().filter(|node| node.bytes() > 100).count();
    assert!(full >= nodes.nodes.len() - 2, "{full} of {} nodes are full", nodes.nodes.len());
    for number in (0..1000).rev() {
        let text = list.pop(End::Front, |element| element.to_vec());
        assert_eq!(text, Some(format!("value-{number}").into_bytes()));
    }
    let Form::Big(nodes) = &list.form else { panic!("nothing settled it") };
    assert!(nodes.spare.is_some() && nodes.nodes.is_empty());
}

#[test]
fn the_form_follows_redis_thresholds() {
    let mut list = List::new();
    let redis = &thresholds::REDIS;
    for (bytes, encoding) in [(8000, "listpack"), (100, "listpack"), (100, "quicklist")] {
        list.expect(bytes, redis);
        list.push(End::Back, &vec![b'x'; bytes], redis);
        assert_eq!(list.encoding(), encoding);
    }
    list.trim(2, 1);
    list.settle(redis);
    assert_eq!((list.encoding(), list.len()), ("listpack", 1));
    assert!(list.memory_bytes() <= 320);
}

#[test]
fn a_list_is_no_larger_than_four_words() {
    assert!(size_of::<List>() <= 32);
}
