//! Chance for RANDOMKEY, SPOP and eviction samples: small, seeded, so that a simulated run replays. Not for secrets.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and a mix per number.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias is below 2^-32 for every bound a table can have.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a number below zero was asked for");
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A generator of its own, for code that can't keep this one borrowed.
    pub fn fork(&mut self) -> Random {
        Random::new(self.bits())
    }
}

/// `count` of `len` items in their order, each choice as likely as any other: every item is taken with the probability
/// that fills what is still wanted (Knuth's algorithm S).
pub fn selection<T>(
    items: impl Iterator<Item = T>,
    len: usize,
    count: usize,
    random: &mut Random,
) -> impl Iterator<Item = T> {
    let mut wanted = count.min(len);
    let mut left = len;
    items.filter(move |_| {
        let take = left > 0 && random.below(left) < wanted;
        left = left.saturating_sub(1);
        wanted -= usize::from(take);
        take
    })
}
