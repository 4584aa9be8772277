//! Pairs of member and score in one packed blob, sorted by score, then member: a small sorted set, which it knows nothing
//! of.
//!
//! A whole score below 2^53 is kept as an integer element, any other as the eight bytes of the double.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::super::element::Element;
use super::super::packed::Packed;

/// A point between two neighbours of the order. For the texts all scores are taken as equal, as in ZRANGEBYLEX.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut<'a> {
    /// Before all.
    Start,
    /// Behind all.
    End,
    /// Before that score.
    Score(f64),
    /// Behind that score.
    AfterScore(f64),
    /// Before that score and member.
    Pair(f64, &'a [u8]),
    /// Behind that score and member.
    AfterPair(f64, &'a [u8]),
    /// Before that member.
    Text(&'a [u8]),
    /// Behind that member.
    AfterText(&'a [u8]),
}

impl Cut<'_> {
    /// Whether a pair lies before the cut; the member is asked for only where it matters.
    #[inline]
    pub fn is_behind<'m>(&self, score: f64, member: impl FnOnce() -> Option<Element<'m>>) -> bool {
        let text = |other: &[u8]| {
            let mut digits = itoa::Buffer::new();
            member().map_or(Ordering::Equal, |member| member.text(&mut digits).cmp(other))
        };
        match *self {
            Cut::Start => false,
            Cut::End => true,
            Cut::Score(cut) => score < cut,
            Cut::AfterScore(cut) => score <= cut,
            Cut::Pair(cut, other) => score < cut || (score == cut && text(other).is_lt()),
            Cut::AfterPair(cut, other) => score < cut || (score == cut && text(other).is_le()),
            Cut::Text(other) => text(other).is_lt(),
            Cut::AfterText(other) => text(other).is_le(),
        }
    }
}

/// Sees a member and its score.
pub type Visit<'v> = &'v mut dyn FnMut(Element<'_>, f64) -> ControlFlow<()>;

/// How many pairs.
pub fn len(packed: &Packed) -> usize {
    packed.len() / 2
}

/// How many pairs lie before the cut, and the place of the first that doesn't.
pub fn partition(packed: &Packed, cut: Cut<'_>) -> (usize, usize) {
    if is_all_behind(packed, cut) {
        return (len(packed), packed.bytes());
    }
    let (mut count, mut at) = (0, 0);
    while let Some((member, after)) = packed.next(at) {
        let Some((score, next)) = packed.next(after) else { break };
        if !cut.is_behind(score_of(score), || Some(member)) {
            break;
        }
        count += 1;
        at = next;
    }
    (count, at)
}

/// Scores that only grow are added at the end: one look there instead of a walk.
fn is_all_behind(packed: &Packed, cut: Cut<'_>) -> bool {
    let Some((score, at)) = packed.previous(packed.bytes()) else { return true };
    cut.is_behind(score_of(score), || packed.previous(at).map(|(member, _)| member))
}

/// Adds a pair whose member isn't there; how many pairs are before it.
pub fn insert(packed: &mut Packed, score: f64, text: &[u8]) -> usize {
    let (index, at) = partition(packed, Cut::Pair(score, text));
    let mut bytes = [0; 8];
    packed.insert(at, [Element::of(text), score_element(score, &mut bytes)]);
    index
}

/// Shows up to `left` pairs from the `skip`-th on, from either end, and counts them off.
pub fn walk(
    packed: &Packed,
    skip: usize,
    left: &mut usize,
    reverse: bool,
    visit: Visit<'_>,
) -> ControlFlow<()> {
    let (mut forward, mut backward) =
        (packed.iter().skip(skip * 2), packed.iter().rev().skip(skip * 2));
    while *left > 0 {
        let pair = if reverse {
            backward.next().and_then(|score| Some((backward.next()?, score)))
        } else {
            forward.next().and_then(|member| Some((member, forward.next()?)))
        };
        let Some((member, score)) = pair else { break };
        *left -= 1;
        visit(member, score_of(score))?;
    }
    ControlFlow::Continue(())
}

/// The score that an element holds.
#[inline]
pub fn score_of(element: Element<'_>) -> f64 {
    match element {
        Element::Integer(value) => value as f64,
        Element::Bytes(bytes) => bytes.try_into().map_or(0.0, f64::from_le_bytes),
    }
}

fn score_element(score: f64, bytes: &mut [u8; 8]) -> Element<'_> {
    const EXACT: f64 = (1u64 << 53) as f64;
    if score == score.trunc() && score.abs() < EXACT {
        return Element::Integer(score as i64);
    }
    *bytes = score.to_le_bytes();
    Element::Bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_come_back() {
        for (score, total) in [
            (0.0, 2),
            (-1.0, 3),
            (0.1, 10),
            (1e300, 10),
            (f64::INFINITY, 10),
            (f64::NEG_INFINITY, 10),
            (9_007_199_254_740_992.0, 10),
            (9_007_199_254_740_991.0, 10),
        ] {
            let mut packed = Packed::new();
            insert(&mut packed, score, b"m");
            let mut left = 1;
            let seen = walk(&packed, 0, &mut left, false, &mut |member, found| {
                assert_eq!((member, found), (Element::Bytes(b"m"), score));
                ControlFlow::Continue(())
            });
            assert!(seen.is_continue() && left == 0);
            assert_eq!(packed.bytes(), 3 + total, "{score}");
        }
    }
}
