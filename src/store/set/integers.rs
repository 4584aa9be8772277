//! A sorted set of integers in the narrowest of three widths that holds them all. Knows nothing but integers.

use super::super::packed::size_class;

/// Sorted integers, each once: one byte with the width (2, 4 or 8), then the values, little-endian. One vector, so that
/// a set of any form takes four words.
#[derive(Clone, Debug, Default)]
pub struct Integers(Vec<u8>);

impl Integers {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len().saturating_sub(1) / self.width()
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Adds a value; whether it is new.
    pub fn insert(&mut self, value: i64) -> bool {
        let needed = width_of(value);
        if self.0.is_empty() || needed > self.width() {
            self.widen(needed);
        }
        let Err(index) = self.search(value) else { return false };
        let width = self.width();
        let at = 1 + index * width;
        let end = self.0.len();
        self.reserve(width);
        self.0.resize(end + width, 0);
        self.0.copy_within(at..end, at + width);
        self.0[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        true
    }

    /// Removes a value; whether it was there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(index) = self.search(value) else { return false };
        let width = self.width();
        let at = 1 + index * width;
        self.0.drain(at..at + width);
        true
    }

    /// Whether it holds that value.
    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// The value at an index of the order.
    #[inline]
    pub fn at(&self, index: usize) -> Option<i64> {
        let width = self.width();
        let at = 1 + index * width;
        let bytes = self.0.get(at..at + width)?;
        Some(match width {
            2 => i64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
            4 => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
            _ => i64::from_le_bytes(bytes.try_into().ok()?),
        })
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map_while(|index| self.at(index))
    }

    /// The values as Redis keeps them: `width u32 | count u32 | values`.
    pub fn to_intset(&self) -> Vec<u8> {
        let mut blob = Vec::with_capacity(2 * size_of::<u32>() + self.0.len());
        blob.extend_from_slice(&(self.width() as u32).to_le_bytes());
        blob.extend_from_slice(&(self.len() as u32).to_le_bytes());
        blob.extend_from_slice(self.0.get(1..).unwrap_or_default());
        blob
    }

    fn width(&self) -> usize {
        self.0.first().map_or(2, |width| usize::from(*width))
    }

    /// Where the value is, or where it would stand.
    fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.at(middle) {
                Some(here) if here < value => low = middle + 1,
                Some(here) if here == value => return Ok(middle),
                _ => high = middle,
            }
        }
        Err(low)
    }

    fn reserve(&mut self, more: usize) {
        if self.0.capacity() - self.0.len() < more {
            let wanted = size_class(self.0.len() + more);
            self.0.reserve_exact(wanted - self.0.len());
        }
    }

    fn widen(&mut self, width: usize) {
        let mut wide = Vec::with_capacity(size_class(1 + (self.len() + 1) * width));
        wide.push(width as u8);
        for value in self.iter() {
            wide.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        self.0 = wide;
    }
}

fn width_of(value: i64) -> usize {
    match value {
        -0x8000..0x8000 => 2,
        -0x8000_0000..0x8000_0000 => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_widen_as_they_need_and_stay_sorted() {
        let mut integers = Integers::default();
        for (value, bytes) in
            [(5, 3), (-3, 5), (40_000, 13), (5, 13), (i64::MIN, 33), (0, 41), (-40_000, 49)]
        {
            integers.insert(value);
            assert_eq!(integers.0.len(), bytes, "after {value}");
        }
        assert!(integers.iter().eq([i64::MIN, -40_000, -3, 0, 5, 40_000]));
        assert!(integers.contains(40_000) && !integers.contains(1));
        assert!(integers.remove(5) && !integers.remove(5));
    }

    #[test]
    fn a_value_too_wide_for_the_set_is_not_in_it() {
        let mut integers = Integers::default();
        assert!(!integers.contains(0));
        integers.insert(1);
        assert!(!integers.contains(65_537) && !integers.remove(65_537));
    }
}
