//! Sparse against dense, estimates against counts, and bytes of anybody's making.

use super::*;
use crate::store::random::Random;

fn add(value: &mut Vec<u8>, element: &[u8]) -> bool {
    let (index, count) = position(element);
    raise(value, index, count).expect("it is sound")
}

fn estimated(value: &[u8]) -> u64 {
    let mut registers = no_registers();
    merge(&mut registers, value).expect("it is sound");
    estimate(&registers)
}

/// What redis-server 7.0.15 says after `PFADD h a b c`.
#[test]
fn bytes_are_those_of_redis() {
    let mut value = empty();
    for element in ["a", "b", "c"] {
        assert!(add(&mut value, element.as_bytes()));
        assert!(!add(&mut value, element.as_bytes()));
    }
    let runs: Vec<(usize, u8)> = runs(&value).map(|run| (run.len, run.count)).collect();
    assert_eq!(runs, [(8436, 0), (1, 1), (4274, 0), (1, 2), (3068, 0), (1, 1), (603, 0)]);
    assert_eq!(estimated(&value), 3);
    assert_eq!(kept_estimate(&empty()), Some(0));
}

#[test]
fn sparse_and_dense_agree_and_are_near() {
    let (mut sparse, mut dense) = (empty(), empty());
    make_dense(&mut dense).expect("it is sound");
    let mut forms = Vec::new();
    for number in 1..=100_000u64 {
        let element = number.to_le_bytes();
        assert_eq!(add(&mut sparse, &element), add(&mut dense, &element));
        if number.is_power_of_two() || number == 100_000 {
            let estimate = estimated(&sparse);
            assert_eq!(estimate, estimated(&dense));
            let error = estimate.abs_diff(number) as f64;
            assert!(error <= 1.0 + number as f64 * 0.03, "{estimate} for {number}");
            forms.push(is_dense(&sparse));
        }
    }
    assert!(!forms[0] && forms[forms.len() - 1]);
}

#[test]
fn whatever_the_bytes_are_nothing_breaks() {
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let mut value = empty();
        let (index, count) = (random.below(REGISTERS), random.below(51) as u8 + 1);
        assert!(raise(&mut value, index, count).is_ok());
        for _ in 0..random.below(4) {
            let at = HEADER_BYTES + random.below(value.len() - HEADER_BYTES);
            value[at] = random.below(256) as u8;
        }
        value.truncate(HEADER_BYTES + random.below(value.len() - HEADER_BYTES + 1));
        if is_dense(&value) || !is_valid(&value) {
            continue;
        }
        let sound = runs(&value).checked().is_ok();
        let (index, count) = (random.below(REGISTERS), random.below(51) as u8 + 1);
        let mut other = value.clone();
        if let Ok(true) = raise(&mut other, index, count) {
            assert!(!sound || is_dense(&other) || runs(&other).checked().is_ok());
        }
        assert_eq!(merge(&mut no_registers(), &value).is_ok(), sound);
        assert_eq!(make_dense(&mut value).is_ok(), sound);
    }
}
