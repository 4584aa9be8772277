//! How long a command's runs took: counts by time, eight steps to a doubling, from 8 nanoseconds to an hour.

/// Steps to a doubling, as a power of two.
const STEP_BITS: u32 = 3;
const STEPS: usize = 1 << STEP_BITS;
/// Doublings: 2^42 ns is over an hour.
const DOUBLINGS: usize = 42;

/// The counts.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: [u64; DOUBLINGS * STEPS],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; DOUBLINGS * STEPS], total: 0 }
    }
}

impl Histogram {
    /// Adds `count` runs of so many nanoseconds each.
    pub fn add(&mut self, nanoseconds: u64, count: u64) {
        self.counts[bucket(nanoseconds)] += count;
        self.total += count;
    }

    /// All runs.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The time within which that share (in percent) of the runs were, in nanoseconds: at most an eighth too high.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = (self.total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bound(index);
            }
        }
        0
    }

    /// For each power of two of microseconds in which runs ended: it, and how many runs took at most that long.
    pub fn doublings(&self) -> Vec<(u64, u64)> {
        let mut list = Vec::new();
        let mut seen = 0;
        let mut index = 0;
        let mut limit_ns = 1024;
        while seen < self.total {
            let before = seen;
            while index < self.counts.len() && bound(index) <= limit_ns {
                seen += self.counts[index];
                index += 1;
            }
            if seen > before {
                // As Redis's histograms, whose buckets are 1/128 wide.
                list.push(((limit_ns + limit_ns / 128) / 1000, seen));
            }
            limit_ns *= 2;
        }
        list
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds.max(STEPS as u64);
    let doubling = value.ilog2();
    let step = if doubling >= STEP_BITS {
        (value >> (doubling - STEP_BITS)) as usize & (STEPS - 1)
    } else {
        0
    };
    (doubling as usize * STEPS + step).min(DOUBLINGS * STEPS - 1)
}

/// The highest time of a bucket.
fn bound(index: usize) -> u64 {
    let (doubling, step) = (index / STEPS, index % STEPS);
    let width = (1_u64 << doubling) as f64 / STEPS as f64;
    ((1_u64 << doubling) as f64 + width * (step + 1) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_again_within_an_eighth() {
        for time in [8, 9, 100, 1023, 1024, 1025, 99_999, 1_000_000, 3_600_000_000_000] {
            let found = bound(bucket(time));
            assert!(found >= time && found as f64 <= time as f64 * 1.15 + 2.0, "{time}: {found}");
        }
        let mut histogram = Histogram::default();
        histogram.add(1_000, 90);
        histogram.add(50_000, 9);
        histogram.add(2_000_000, 1);
        assert_eq!(histogram.total(), 100);
        for (percent, low, high) in
            [(50.0, 1_000, 1_130), (99.0, 50_000, 57_000), (100.0, 2_000_000, 2_260_000)]
        {
            let found = histogram.percentile(percent);
            assert!((low..=high).contains(&found), "{percent}: {found}");
        }
        assert_eq!(histogram.doublings(), [(1, 90), (66, 99), (2113, 100)]);
    }
}
