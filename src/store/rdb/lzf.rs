//! LZF, the compression of strings in RDB data: literal runs and references at most 8 KB back. Knows nothing of RDB.
//!
//! ```text
//! 000lllll                              l + 1 literal bytes follow
//! lllooooo oooooooo, l of 1 to 6        l + 2 bytes from o + 1 bytes back
//! 111ooooo llllllll oooooooo            l + 9 bytes from o + 1 bytes back
//! ```

const LITERALS_MAX: usize = 32;
const REFERENCE_MAX: usize = 264;
const DISTANCE_MAX: usize = 8192;
const HASH_BITS: u32 = 13;

/// The original, if `packed` is one of exactly `len` bytes. The memory it takes grows with what was really unpacked.
pub fn decompress(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    // Three bytes make at most 264.
    if len > packed.len().saturating_mul(REFERENCE_MAX / 3) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = packed;
    while let Some((&control, after)) = rest.split_first() {
        let count = usize::from(control >> 5);
        if count == 0 {
            let (literals, after) = after.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(literals);
            rest = after;
        } else {
            let (extra, after) = if count == 7 { take(after)? } else { (0, after) };
            let (low, after) = take(after)?;
            let distance = (usize::from(control & 0x1f) << 8 | low) + 1;
            let from = out.len().checked_sub(distance)?;
            repeat(&mut out, from, count + extra + 2);
            rest = after;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

fn take(bytes: &[u8]) -> Option<(usize, &[u8])> {
    bytes.split_first().map(|(byte, rest)| (usize::from(*byte), rest))
}

/// Appends `count` bytes from `from` on, which may reach into what is being appended.
fn repeat(out: &mut Vec<u8>, from: usize, count: usize) {
    let distance = out.len() - from;
    let mut left = count;
    while left > 0 {
        let step = left.min(out.len() - from).min(distance.max(1));
        let start = out.len() - distance;
        out.extend_from_within(start..start + step);
        left -= step;
    }
}

/// The packed form, if it is shorter than the original by at least four bytes.
pub fn compress(text: &[u8]) -> Option<Vec<u8>> {
    let budget = text.len().checked_sub(4)?;
    // The last place where three bytes of that hash began, plus one.
    let mut seen = vec![0u32; 1 << HASH_BITS];
    let mut out = Vec::with_capacity(budget);
    let (mut at, mut literals_from) = (0, 0);
    while at + 2 < text.len() && out.len() < budget {
        let slot = &mut seen[hash(&text[at..at + 3])];
        let before = std::mem::replace(slot, at as u32 + 1) as usize;
        let found = before > 0
            && at - (before - 1) <= DISTANCE_MAX
            && text[before - 1..before + 2] == text[at..at + 3];
        if !found {
            at += 1;
            continue;
        }
        let from = before - 1;
        let limit = REFERENCE_MAX.min(text.len() - at);
        let same = text[from..].iter().zip(&text[at..]).take(limit);
        let count = same.take_while(|(old, new)| old == new).count();
        put_literals(&mut out, &text[literals_from..at]);
        put_reference(&mut out, at - from - 1, count - 2);
        at += count;
        literals_from = at;
    }
    put_literals(&mut out, &text[literals_from..]);
    (out.len() <= budget).then_some(out)
}

fn hash(three: &[u8]) -> usize {
    let word = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
    (word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn put_reference(out: &mut Vec<u8>, distance: usize, count: usize) {
    let high = (distance >> 8) as u8;
    if count < 7 {
        out.push((count as u8) << 5 | high);
    } else {
        out.extend_from_slice(&[7 << 5 | high, (count - 7) as u8]);
    }
    out.push(distance as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::random::Random;

    #[test]
    fn texts_come_back() {
        let mut random = Random::new(5);
        for round in 0..400 {
            let letters = 1 + random.below(if round % 2 == 0 { 3 } else { 200 });
            let len = random.below(20_000);
            let text: Vec<u8> = (0..len).map(|_| random.below(letters) as u8).collect();
            if let Some(packed) = compress(&text) {
                assert!(packed.len() + 4 <= text.len());
                assert_eq!(decompress(&packed, text.len()).as_deref(), Some(&text[..]), "{round}");
            } else {
                assert!(letters > 3 || len < 64, "{len} bytes of {letters} letters weren't packed");
            }
        }
    }

    #[test]
    fn what_lies_about_its_length_is_refused() {
        let packed = compress(&[b'a'; 1000]).expect("one letter packs well");
        for len in [0, 999, 1001, usize::MAX] {
            assert_eq!(decompress(&packed, len), None, "{len}");
        }
        for end in 0..packed.len() {
            assert_eq!(decompress(&packed[..end], 1000), None, "{end}");
        }
        assert_eq!(decompress(&[0x20, 0], 3), None, "a reference before the start");
    }
}
