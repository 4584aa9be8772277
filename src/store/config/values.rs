//! Values of parameters as CONFIG SET brings them, with Redis's words for what is wrong.

use std::ops::RangeInclusive;

use super::Refusal;
use crate::store::number::{memory_size, parse_double, parse_integer};

pub fn yes_or_no(on: bool) -> Vec<u8> {
    if on { b"yes".to_vec() } else { b"no".to_vec() }
}

pub fn boolean(value: &[u8]) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

pub fn integer(value: &[u8], bounds: RangeInclusive<i64>) -> Result<i64, Refusal> {
    let number = parse_integer(value).ok_or("argument couldn't be parsed into an integer")?;
    if bounds.contains(&number) {
        return Ok(number);
    }
    let (least, most) = bounds.into_inner();
    Err(format!("argument must be between {least} and {most} inclusive").into())
}

pub fn memory(value: &[u8]) -> Result<u64, Refusal> {
    memory_size(value).ok_or_else(|| "argument must be a memory value".into())
}

/// The index of a word.
pub fn choice(value: &[u8], words: &[&str]) -> Result<usize, Refusal> {
    let found = words.iter().position(|word| word.as_bytes().eq_ignore_ascii_case(value));
    let list = || format!("argument(s) must be one of the following: {}", words.join(", "));
    found.ok_or_else(|| list().into())
}

pub fn percentiles(value: &[u8]) -> Result<Vec<f64>, Refusal> {
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let percentile = |word| {
        let number = parse_double(word).filter(|number| (0.0..=100.0).contains(number));
        number.ok_or_else(|| {
            let wrong = "latency-tracking-info-percentiles should contain a numeric value between 0 and 100";
            wrong.into()
        })
    };
    words.map(percentile).collect()
}

pub fn percentiles_text(list: &[f64]) -> Vec<u8> {
    list.iter().map(f64::to_string).collect::<Vec<_>>().join(" ").into_bytes()
}
