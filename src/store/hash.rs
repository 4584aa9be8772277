//! The hash value: fields and values in one packed blob while it is small, then a table. Knows nothing of keys, clients
//! or replies.

use std::collections::BTreeMap;

use super::element::Element;
use super::entry::{Entry, EntryBox};
use super::packed::Packed;
use super::random::{Random, selection};
use super::small::Small;
use super::table::Table;
use super::thresholds::Thresholds;
use super::value::ValueRef;
use super::{Expiry, Hasher};

/// A hash.
#[derive(Clone, Debug, Default)]
pub struct Hash {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Field, value, field, value.
    Packed(Small),
    Table(Box<Table>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Packed(Small::default())
    }
}

impl Hash {
    /// An empty one.
    pub fn new() -> Hash {
        Hash::default()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len() / 2,
            Form::Table(table) => table.len(),
        }
    }

    /// Whether there are none; such a key is removed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Packed(Small::Timed(_)) => "listpackex",
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Heap bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Table(table) => table.memory_bytes(),
        }
    }

    /// The blob of a small hash: field, value, field, value.
    pub(super) fn packed(&self) -> Option<&Packed> {
        match &self.form {
            Form::Packed(packed) => Some(packed),
            Form::Table(_) => None,
        }
    }

    /// Whether any field has a deadline.
    pub fn is_timed(&self) -> bool {
        match &self.form {
            Form::Packed(packed) => packed.is_timed(),
            Form::Table(table) => table.expiring() > 0,
        }
    }

    /// No field ends before this; it rises only by [`Hash::take_due`].
    #[inline]
    pub fn earliest_ms(&self) -> u64 {
        match &self.form {
            Form::Packed(packed) => packed.earliest_ms(),
            Form::Table(table) => table.earliest_ms(),
        }
    }

    /// When a field ends; the outer `None` if there is no such field.
    pub fn deadline(&self, field: &[u8]) -> Option<Option<u64>> {
        match &self.form {
            Form::Packed(packed) => {
                packed.find(Element::of(field), 2).map(|_| packed.deadline(field))
            }
            Form::Table(table) => {
                table.find(field, table.hasher().hash(field)).map(Entry::expires_ms)
            }
        }
    }

    /// Gives a field that is there a deadline, or none.
    pub fn set_deadline(&mut self, field: &[u8], at_ms: Option<u64>) {
        match &mut self.form {
            Form::Packed(packed) => packed.set_deadline(field, at_ms),
            Form::Table(table) => table.set_deadline(field, at_ms),
        }
    }

    /// Removes fields that have ended, looking at about `budget` of them; how many, and whether there may be more.
    pub fn take_due(
        &mut self,
        now_ms: u64,
        budget: usize,
        gone: &mut dyn FnMut(&[u8]),
    ) -> (usize, bool) {
        match &mut self.form {
            Form::Packed(packed) => (packed.take_due(now_ms, 2, gone), false),
            Form::Table(table) => {
                let before = table.len();
                let more = table.take_expired(now_ms, budget, |entry| gone(entry.view().key()));
                (before - table.len(), more)
            }
        }
    }

    /// The table of a big hash, for prefetching.
    pub fn table(&self) -> Option<&Table> {
        match &self.form {
            Form::Packed(_) => None,
            Form::Table(table) => Some(table),
        }
    }

    /// The value of a field.
    #[inline]
    pub fn at(&self, field: &[u8]) -> Option<Element<'_>> {
        match &self.form {
            Form::Packed(packed) => {
                packed.next(value_place(packed, field)?).map(|(value, _)| value)
            }
            Form::Table(table) => table.find(field, table.hasher().hash(field)).map(value_of),
        }
    }

    /// Gives a field its value and takes its deadline away; whether the field is new.
    #[inline]
    pub fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        hasher: Hasher,
        thresholds: &Thresholds,
    ) -> bool {
        if let Form::Packed(packed) = &mut self.form {
            packed.forget(field);
        }
        self.put(field, value, (hasher, thresholds), Expiry::Clear)
    }

    /// Gives a field another value and leaves its deadline; whether the field is new.
    pub fn update(
        &mut self,
        field: &[u8],
        value: &[u8],
        hasher: Hasher,
        thresholds: &Thresholds,
    ) -> bool {
        self.put(field, value, (hasher, thresholds), Expiry::Keep)
    }

    #[inline]
    fn put(
        &mut self,
        field: &[u8],
        value: &[u8],
        (hasher, thresholds): (Hasher, &Thresholds),
        deadline: Expiry,
    ) -> bool {
        let long = field.len().max(value.len()) > thresholds.hash_value_bytes;
        if long && let Form::Packed(_) = self.form {
            self.make_table(hasher);
        }
        let new = match &mut self.form {
            Form::Packed(packed) => set_packed(packed, field, value),
            Form::Table(table) => return set_in_table(table, field, value, deadline),
        };
        if self.len() > thresholds.hash_entries {
            self.make_table(hasher);
        }
        new
    }

    /// Removes a field; whether it was there.
    #[inline]
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(packed) => {
                let Some(at) = packed.find(Element::of(field), 2) else { return false };
                packed.remove(at, 2);
                packed.forget(field);
                packed.shrink();
                true
            }
            Form::Table(table) => table.remove(field, table.hasher().hash(field)).is_some(),
        }
    }

    /// All fields with their values. Their texts are what counts: a table shows integers as bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
        let (packed, table) = match &self.form {
            Form::Packed(packed) => (Some(packed), None),
            Form::Table(table) => (None, Some(table)),
        };
        let table = table.into_iter().flat_map(|table| table.iter());
        packed.into_iter().flat_map(|packed| pairs(packed)).chain(table.map(pair_of))
    }

    /// A field with its value, each about as likely as the others.
    pub fn random(&self, random: &mut Random) -> Option<(Element<'_>, Element<'_>)> {
        if self.is_empty() {
            return None;
        }
        match &self.form {
            Form::Packed(packed) => {
                let at = packed.seek(random.below(self.len()) * 2)?;
                let (field, after) = packed.next(at)?;
                Some((field, packed.next(after)?.0))
            }
            Form::Table(table) => table.random(random).map(pair_of),
        }
    }

    /// `count` different fields with their values, or all; each choice about as likely as any other.
    pub fn sample(&self, count: usize, random: &mut Random) -> Vec<(Element<'_>, Element<'_>)> {
        match &self.form {
            // Few of many: drawn, and drawn again when drawn before.
            Form::Table(table) if count < self.len() / 3 => {
                let mut drawn = BTreeMap::new();
                while drawn.len() < count {
                    drawn.extend(table.random(random).map(|entry| (entry.key(), entry)));
                }
                drawn.into_values().map(pair_of).collect()
            }
            _ => selection(self.iter(), self.len(), count, random).collect(),
        }
    }

    /// Shows fields and values from `cursor` on and returns the next cursor; small hashes are shown at once.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(Element<'_>, Element<'_>),
    ) -> u64 {
        match &self.form {
            Form::Packed(packed) => {
                pairs(packed).for_each(|(field, value)| show(field, value));
                0
            }
            Form::Table(table) => table.scan(cursor, count, |entry| {
                show(Element::Bytes(entry.key()), value_of(entry));
            }),
        }
    }

    fn make_table(&mut self, hasher: Hasher) {
        let mut table = Table::new(hasher);
        for (field, value) in self.iter() {
            let (mut digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
            let (field, value) = (field.text(&mut digits), value.text(&mut value_digits));
            table.insert(EntryBox::string(field, value, None), hasher.hash(field));
        }
        if let Form::Packed(packed) = &self.form {
            table.adopt_deadlines(packed);
        }
        self.form = Form::Table(Box::new(table));
    }
}

fn value_place(packed: &Packed, field: &[u8]) -> Option<usize> {
    let at = packed.find(Element::of(field), 2)?;
    packed.next(at).map(|(_, after)| after)
}

fn set_packed(packed: &mut Packed, field: &[u8], value: &[u8]) -> bool {
    match value_place(packed, field) {
        Some(at) => {
            packed.replace(at, Element::of(value));
            false
        }
        None => {
            packed.insert(packed.bytes(), [Element::of(field), Element::of(value)]);
            true
        }
    }
}

#[inline]
fn set_in_table(table: &mut Table, field: &[u8], value: &[u8], deadline: Expiry) -> bool {
    let hash = table.hasher().hash(field);
    match table.locate(field, hash) {
        Some(place) => {
            if place.expires() && deadline == Expiry::Clear {
                table.set_expires_ms(place, None);
            }
            drop(table.entry_mut(place).set_string(value));
            false
        }
        None => {
            table.insert(EntryBox::string(field, value, None), hash);
            true
        }
    }
}

fn pairs(packed: &Packed) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
    let mut elements = packed.iter();
    std::iter::from_fn(move || Some((elements.next()?, elements.next()?)))
}

fn pair_of(entry: Entry<'_>) -> (Element<'_>, Element<'_>) {
    (Element::Bytes(entry.key()), value_of(entry))
}

fn value_of(entry: Entry<'_>) -> Element<'_> {
    match entry.value() {
        ValueRef::String(bytes) => Element::Bytes(bytes),
        ValueRef::Integer(value) => Element::Integer(value),
        _ => Element::Bytes(b""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::super::thresholds;
    use super::*;

    const SMALL: Thresholds =
        Thresholds { hash_entries: 8, hash_value_bytes: 8, ..thresholds::REDIS };

    fn contents(hash: &Hash) -> BTreeMap<Vec<u8>, Vec<u8>> {
        hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn random_fields_agree_with_a_map_through_both_forms() {
        let hasher = Hasher::seeded(3);
        let mut encodings = HashSet::new();
        for seed in 0..80 {
            let mut random = Random::new(seed);
            let (mut hash, mut model) = (Hash::new(), BTreeMap::new());
            for _ in 0..150 {
                let field = format!("{}{}", ["f", "", "-"][random.below(3)], random.below(20));
                let digits_max = 7 + random.below(4);
                let value = "9".repeat(random.below(digits_max));
                let (field, value) = (field.into_bytes(), value.into_bytes());
                assert_eq!(hash.at(&field).map(|value| value.to_vec()), model.get(&field).cloned());
                if random.below(5) < 2 {
                    assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let new = hash.set(&field, &value, hasher, &SMALL);
                    assert_eq!(new, model.insert(field, value).is_none());
                }
                assert_eq!((hash.len(), contents(&hash)), (model.len(), model.clone()));
                if let Some((field, value)) = hash.random(&mut random) {
                    assert_eq!(model.get(&field.to_vec()), Some(&value.to_vec()));
                }
                encodings.insert(hash.encoding());
            }
            let mut seen = BTreeMap::new();
            let mut cursor = 0;
            loop {
                cursor = hash.scan(cursor, 3, |field, value| {
                    assert_eq!(seen.insert(field.to_vec(), value.to_vec()), None);
                });
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, model);
        }
        assert_eq!(encodings.len(), 2);
    }

    #[test]
    fn the_form_follows_redis_thresholds() {
        let (hasher, redis) = (Hasher::seeded(1), &thresholds::REDIS);
        for (fields, value_bytes, encoding) in
            [(512, 64, "listpack"), (513, 1, "hashtable"), (1, 65, "hashtable")]
        {
            let mut hash = Hash::new();
            for number in 0..fields {
                let field = format!("f{number}");
                assert!(hash.set(field.as_bytes(), &vec![b'v'; value_bytes], hasher, redis));
            }
            assert_eq!((hash.encoding(), hash.len()), (encoding, fields));
        }
    }

    #[test]
    fn small_hashes_are_no_larger_than_redis_keeps_them() {
        assert!(size_of::<Hash>() <= 32);
        let mut hash = Hash::new();
        for number in 0..10 {
            let field = format!("fld-{number}");
            hash.set(field.as_bytes(), b"abcdefgh", Hasher::seeded(1), &thresholds::REDIS);
        }
        // 180 bytes of pairs; Redis's listpack takes 187.
        assert_eq!(hash.memory_bytes(), 192);
    }
}
