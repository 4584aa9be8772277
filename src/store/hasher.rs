//! The one hash function of a store: keys and members are hashed before the lock, tables only use the result.
//!
//! Bits are taken from both ends of the hash (`segment.rs`), so it is foldhash's `quality` form. The seed is random per
//! process, or given in simulated runs. No fast hash is proven against flooding: tables stay correct when hashes collide.

use std::fmt;
use std::hash::{BuildHasher, Hasher as _};

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, RandomState};

/// A keyed hash function; copies hash alike.
#[derive(Clone, Copy)]
pub struct Hasher {
    seed: u64,
    shared: &'static SharedSeed,
    /// Bits of the hash that stay as they are; tests clear some to make keys collide.
    #[cfg(test)]
    mask: u64,
}

impl Hasher {
    /// A function nobody outside of this process can predict.
    pub fn random() -> Hasher {
        Hasher::from_seeds(RandomState::default().hash_one(0), SharedSeed::global_random())
    }

    /// The same function for the same seed, in every run.
    pub fn seeded(seed: u64) -> Hasher {
        Hasher::from_seeds(seed, SharedSeed::global_fixed())
    }

    /// A function whose results only differ in `mask`.
    #[cfg(test)]
    pub fn masked(seed: u64, mask: u64) -> Hasher {
        Hasher { mask, ..Hasher::seeded(seed) }
    }

    fn from_seeds(seed: u64, shared: &'static SharedSeed) -> Hasher {
        Hasher {
            seed,
            shared,
            #[cfg(test)]
            mask: u64::MAX,
        }
    }

    /// The hash of a key, member or field.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = FoldHasher::with_seed(self.seed, self.shared);
        state.write(bytes);
        let hash = state.finish();
        #[cfg(test)]
        let hash = hash & self.mask;
        hash
    }
}

/// The seed is a secret.
impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_hash() {
        assert_eq!(Hasher::seeded(1).hash(b"key"), Hasher::seeded(1).hash(b"key"));
        assert_ne!(Hasher::seeded(1).hash(b"key"), Hasher::seeded(2).hash(b"key"));
        assert_ne!(Hasher::seeded(1).hash(b"key"), Hasher::seeded(1).hash(b"kez"));
    }
}
