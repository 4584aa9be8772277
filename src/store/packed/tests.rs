//! Packed blobs against a vector of texts, and walks over hostile bytes.

use super::super::random::Random;
use super::*;

fn text(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => (random.bits() as i64 >> random.below(60)).to_string().into_bytes(),
        1 => vec![b'y'; random.below(300)],
        _ => vec![b'a' + random.below(26) as u8; random.below(12)],
    }
}

fn texts(packed: &Packed) -> Vec<Vec<u8>> {
    packed.iter().map(|element| element.to_vec()).collect()
}

fn check(packed: &Packed, model: &[Vec<u8>]) {
    assert_eq!(packed.len(), model.len());
    assert_eq!(texts(packed), model);
    let backwards: Vec<_> = packed.iter().rev().map(|element| element.to_vec()).collect();
    assert!(backwards.iter().eq(model.iter().rev()));
    assert!(packed.bytes() <= packed.memory_bytes());
}

fn step(random: &mut Random, packed: &mut Packed, model: &mut Vec<Vec<u8>>) {
    let text = text(random);
    let index = random.below(model.len() + 1);
    let at = packed.seek(index).expect("within");
    match random.below(9) {
        0 | 1 => {
            packed.push_back(Element::of(&text));
            model.push(text);
        }
        2 | 3 => {
            packed.push_front(Element::of(&text));
            model.insert(0, text);
        }
        4 => {
            packed.insert(at, [Element::of(&text), Element::Integer(7)]);
            model.splice(index..index, [text, b"7".to_vec()]);
        }
        5 if index < model.len() => {
            packed.replace(at, Element::of(&text));
            model[index] = text;
        }
        6 if index < model.len() => {
            assert!(packed.remove(at, 1));
            model.remove(index);
            packed.shrink();
        }
        7 => {
            let first = packed.pop_front(|element| element.to_vec());
            assert_eq!(first, (!model.is_empty()).then(|| model.remove(0)));
        }
        _ => assert_eq!(packed.pop_back(|element| element.to_vec()), model.pop()),
    }
}

#[test]
fn random_edits_agree_with_a_vector() {
    for seed in 1..40 {
        let mut random = Random::new(seed);
        let (mut packed, mut model) = (Packed::new(), Vec::new());
        for _ in 0..400 {
            step(&mut random, &mut packed, &mut model);
            check(&packed, &model);
        }
        let probe = text(&mut random);
        let place = packed.find(Element::of(&probe), 1);
        let index = model.iter().position(|text| *text == probe);
        assert_eq!(place, index.and_then(|index| packed.seek(index)));
    }
}

#[test]
fn splitting_and_joining_keep_the_order() {
    let model: Vec<Vec<u8>> = (0..50).map(|n| format!("member-{n}").into_bytes()).collect();
    for cut in 0..=model.len() {
        let mut packed = Packed::new();
        for text in &model {
            packed.push_back(Element::of(text));
        }
        let at = packed.seek(cut).expect("within");
        let tail = packed.split_off(at, model.len() - cut);
        check(&packed, &model[..cut]);
        check(&tail, &model[cut..]);
        packed.append(&tail);
        check(&packed, &model);
    }
}

#[test]
fn pushes_to_a_prepared_front_move_nothing() {
    let mut packed = Packed::for_front(64);
    let memory = packed.buffer.as_ptr();
    for _ in 0..6 {
        packed.push_front(Element::Bytes(b"12345678"));
    }
    assert_eq!((packed.bytes(), packed.buffer.as_ptr()), (60, memory));
    packed.clear_for_front();
    assert!(packed.is_empty() && packed.has_front_room(64));
}

#[test]
fn ten_short_elements_take_a_byte_less_each_than_eleven() {
    let mut packed = Packed::new();
    for _ in 0..10 {
        packed.push_back(Element::Bytes(b"abcdefgh"));
    }
    // Redis's listpack takes 107 bytes for these.
    assert_eq!((packed.bytes(), packed.memory_bytes()), (100, 112));
    assert!(size_of::<Packed>() <= 32);
}

#[test]
fn a_walk_over_hostile_bytes_ends_without_harm() {
    let mut random = Random::new(88);
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
        if round % 2 == 0 {
            let mut packed = Packed::new();
            for _ in 0..4 {
                packed.push_back(Element::of(&text(&mut random)));
            }
            bytes = packed.as_bytes().to_vec();
            let index = random.below(bytes.len());
            bytes[index] ^= 1 << random.below(8);
        }
        let hostile = Packed { start: 0, count: 3, buffer: bytes.clone() };
        assert!(hostile.iter().count() <= bytes.len());
        assert!(hostile.iter().rev().count() <= bytes.len());
        assert!(hostile.find(Element::Integer(5), 2).is_none_or(|at| at < bytes.len()));
        for at in 0..bytes.len() + 2 {
            assert!(hostile.next(at).is_none_or(|(_, after)| after <= bytes.len()));
            assert!(hostile.previous(at).is_none_or(|(_, place)| place < at));
        }
        if let Some(whole) = Packed::from_bytes(bytes) {
            assert_eq!(whole.iter().count(), whole.len());
            assert_eq!(whole.iter().rev().count(), whole.len());
        }
    }
}

#[test]
fn size_classes_are_the_allocators() {
    for (bytes, class) in
        [(0, 0), (1, 16), (128, 128), (129, 160), (256, 256), (257, 320), (8192, 8192)]
    {
        assert_eq!(size_class(bytes), class);
    }
}
