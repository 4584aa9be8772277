//! The set value: sorted integers, else one packed blob while it is small, then a table of members. Knows nothing of
//! keys, clients or replies.

pub(super) mod integers;

use std::collections::BTreeSet;

use super::Hasher;
use super::element::Element;
use super::entry::{Entry, EntryBox};
use super::packed::Packed;
use super::random::{Random, selection};
use super::small::{NEVER, Small};
use super::table::Table;
use super::thresholds::Thresholds;
use integers::Integers;

/// A set.
#[derive(Clone, Debug, Default)]
pub struct Set {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Integers(Integers),
    Packed(Small),
    Table(Box<Table>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Integers(Integers::default())
    }
}

impl Set {
    /// An empty one.
    pub fn new() -> Set {
        Set::default()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Integers(integers) => integers.len(),
            Form::Packed(packed) => packed.len(),
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
            Form::Integers(_) => "intset",
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Heap bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Integers(integers) => integers.memory_bytes(),
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Table(table) => table.memory_bytes(),
        }
    }

    /// The members of a set of integers only.
    pub(super) fn integers(&self) -> Option<&Integers> {
        match &self.form {
            Form::Integers(integers) => Some(integers),
            _ => None,
        }
    }

    /// Whether any member has a deadline.
    pub fn is_timed(&self) -> bool {
        match &self.form {
            Form::Integers(_) => false,
            Form::Packed(packed) => packed.is_timed(),
            Form::Table(table) => table.expiring() > 0,
        }
    }

    /// No member ends before this; it rises only by [`Set::take_due`].
    #[inline]
    pub fn earliest_ms(&self) -> u64 {
        match &self.form {
            Form::Integers(_) => NEVER,
            Form::Packed(packed) => packed.earliest_ms(),
            Form::Table(table) => table.earliest_ms(),
        }
    }

    /// When a member ends; the outer `None` if there is no such member.
    pub fn deadline(&self, text: &[u8]) -> Option<Option<u64>> {
        match &self.form {
            Form::Integers(_) => self.contains(text).then_some(None),
            Form::Packed(packed) => {
                packed.find(Element::of(text), 1).map(|_| packed.deadline(text))
            }
            Form::Table(table) => {
                table.find(text, table.hasher().hash(text)).map(Entry::expires_ms)
            }
        }
    }

    /// Gives a member that is there a deadline, or none. A set of integers is kept as text from then on.
    pub fn set_deadline(
        &mut self,
        text: &[u8],
        at_ms: Option<u64>,
        hasher: Hasher,
        thresholds: &Thresholds,
    ) {
        if let Form::Integers(integers) = &self.form {
            if at_ms.is_none() {
                return;
            }
            if integers.len() <= thresholds.set_entries {
                self.make_packed();
            } else {
                self.make_table(hasher);
            }
        }
        match &mut self.form {
            Form::Integers(_) => {}
            Form::Packed(packed) => packed.set_deadline(text, at_ms),
            Form::Table(table) => table.set_deadline(text, at_ms),
        }
    }

    /// Removes members that have ended, looking at about `budget` of them; how many, and whether there may be more.
    pub fn take_due(
        &mut self,
        now_ms: u64,
        budget: usize,
        gone: &mut dyn FnMut(&[u8]),
    ) -> (usize, bool) {
        match &mut self.form {
            Form::Integers(_) => (0, false),
            Form::Packed(packed) => (packed.take_due(now_ms, 1, gone), false),
            Form::Table(table) => {
                let before = table.len();
                let more = table.take_expired(now_ms, budget, |entry| gone(entry.view().key()));
                (before - table.len(), more)
            }
        }
    }

    /// The table of a big set, for prefetching.
    pub fn table(&self) -> Option<&Table> {
        match &self.form {
            Form::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Adds a member; whether it is new.
    #[inline]
    pub fn insert(&mut self, text: &[u8], hasher: Hasher, thresholds: &Thresholds) -> bool {
        match &mut self.form {
            Form::Table(table) => {
                let hash = table.hasher().hash(text);
                if table.locate(text, hash).is_some() {
                    return false;
                }
                table.insert(EntryBox::member(text), hash);
                true
            }
            _ => self.insert_small(Element::of(text), hasher, thresholds),
        }
    }

    fn insert_small(
        &mut self,
        element: Element<'_>,
        hasher: Hasher,
        thresholds: &Thresholds,
    ) -> bool {
        match (&mut self.form, element) {
            (Form::Integers(integers), Element::Integer(value)) => {
                let new = integers.insert(value);
                if integers.len() > thresholds.set_integers {
                    self.make_table(hasher);
                }
                return new;
            }
            (Form::Packed(packed), _) if packed.find(element, 1).is_some() => return false,
            _ => {}
        }
        let short = element.text_bytes() <= thresholds.set_value_bytes;
        if !short || self.len() >= thresholds.set_entries {
            self.make_table(hasher);
            return self.insert(&element.to_vec(), hasher, thresholds);
        }
        self.make_packed().push_back(element);
        true
    }

    /// Removes a member; whether it was there.
    #[inline]
    pub fn remove(&mut self, text: &[u8]) -> bool {
        match &mut self.form {
            Form::Integers(integers) => match Element::of(text) {
                Element::Integer(value) => integers.remove(value),
                Element::Bytes(_) => false,
            },
            Form::Packed(packed) => {
                let Some(at) = packed.find(Element::of(text), 1) else { return false };
                packed.remove(at, 1);
                packed.forget(text);
                packed.shrink();
                true
            }
            Form::Table(table) => table.remove(text, table.hasher().hash(text)).is_some(),
        }
    }

    /// Whether it has that member.
    #[inline]
    pub fn contains(&self, text: &[u8]) -> bool {
        match &self.form {
            Form::Table(table) => table.locate(text, table.hasher().hash(text)).is_some(),
            _ => self.contains_small(Element::of(text)),
        }
    }

    /// Whether it has the member that another set's walk showed.
    pub fn contains_element(&self, element: Element<'_>) -> bool {
        match (&self.form, element) {
            (Form::Table(_), Element::Integer(value)) => {
                self.contains(itoa::Buffer::new().format(value).as_bytes())
            }
            (_, Element::Bytes(text)) => self.contains(text),
            _ => self.contains_small(element),
        }
    }

    fn contains_small(&self, element: Element<'_>) -> bool {
        match (&self.form, element) {
            (Form::Integers(integers), Element::Integer(value)) => integers.contains(value),
            (Form::Packed(packed), _) => packed.find(element, 1).is_some(),
            _ => false,
        }
    }

    /// All members in the order of SMEMBERS. Their texts are what counts: a table shows integers as bytes.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let (integers, packed, table) = match &self.form {
            Form::Integers(integers) => (Some(integers), None, None),
            Form::Packed(packed) => (None, Some(packed), None),
            Form::Table(table) => (None, None, Some(table)),
        };
        let integers = integers.into_iter().flat_map(Integers::iter).map(Element::Integer);
        let packed = packed.into_iter().flat_map(|packed| packed.iter());
        let table = table.into_iter().flat_map(|table| table.iter()).map(member);
        integers.chain(packed).chain(table)
    }

    /// A member, each about as likely as the others.
    pub fn random(&self, random: &mut Random) -> Option<Element<'_>> {
        if self.is_empty() {
            return None;
        }
        match &self.form {
            Form::Integers(integers) => {
                integers.at(random.below(integers.len())).map(Element::Integer)
            }
            Form::Packed(packed) => {
                let at = packed.seek(random.below(packed.len()))?;
                packed.next(at).map(|(element, _)| element)
            }
            Form::Table(table) => table.random(random).map(member),
        }
    }

    /// `count` different members, or all; each set of so many about as likely as any other.
    pub fn sample(&self, count: usize, random: &mut Random) -> Vec<Element<'_>> {
        match &self.form {
            // Few of many: drawn, and drawn again when drawn before.
            Form::Table(table) if count < self.len() / 3 => {
                let mut drawn = BTreeSet::new();
                while drawn.len() < count {
                    drawn.extend(table.random(random).map(Entry::key));
                }
                drawn.into_iter().map(Element::Bytes).collect()
            }
            _ => selection(self.iter(), self.len(), count, random).collect(),
        }
    }

    /// Shows members from `cursor` on and returns the next cursor; small sets are shown at once.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(Element<'_>)) -> u64 {
        if let Form::Table(table) = &self.form {
            return table.scan(cursor, count, |entry| show(member(entry)));
        }
        self.iter().for_each(show);
        0
    }

    fn make_packed(&mut self) -> &mut Packed {
        if let Form::Integers(integers) = &self.form {
            let mut packed = Packed::new();
            integers.iter().for_each(|value| packed.push_back(Element::Integer(value)));
            self.form = Form::Packed(Small::Plain(packed));
        }
        match &mut self.form {
            Form::Packed(packed) => packed,
            _ => unreachable!("a table is never made smaller"),
        }
    }

    fn make_table(&mut self, hasher: Hasher) {
        let mut table = Table::new(hasher);
        for element in self.iter() {
            let mut digits = itoa::Buffer::new();
            let text = element.text(&mut digits);
            table.insert(EntryBox::member(text), hasher.hash(text));
        }
        if let Form::Packed(packed) = &self.form {
            table.adopt_deadlines(packed);
        }
        self.form = Form::Table(Box::new(table));
    }
}

fn member(entry: Entry<'_>) -> Element<'_> {
    Element::Bytes(entry.key())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::super::thresholds;
    use super::*;

    const SMALL: Thresholds =
        Thresholds { set_integers: 12, set_entries: 10, set_value_bytes: 8, ..thresholds::REDIS };

    fn texts(set: &Set) -> BTreeSet<Vec<u8>> {
        set.iter().map(|element| element.to_vec()).collect()
    }

    fn text(random: &mut Random, integers_only: bool) -> Vec<u8> {
        match random.below(if integers_only { 1 } else { 12 }) {
            0 => (random.bits() as i64 % 8 * (1 << (8 * random.below(6)))).to_string(),
            1 => "a-long-member".to_owned() + &random.below(3).to_string(),
            _ => format!("m{}", random.below(30)),
        }
        .into_bytes()
    }

    #[test]
    fn random_members_agree_with_a_set_through_all_forms() {
        let hasher = Hasher::seeded(7);
        let mut encodings = HashSet::new();
        for seed in 0..80 {
            let mut random = Random::new(seed);
            let (mut set, mut model) = (Set::new(), BTreeSet::new());
            for step in 0..120 {
                let text = text(&mut random, step < seed / 2);
                assert_eq!(set.contains(&text), model.contains(&text));
                assert_eq!(set.contains_element(Element::of(&text)), model.contains(&text));
                if random.below(3) == 0 {
                    assert_eq!(set.remove(&text), model.remove(&text));
                } else {
                    assert_eq!(set.insert(&text, hasher, &SMALL), model.insert(text));
                }
                assert_eq!((set.len(), texts(&set)), (model.len(), model.clone()));
                let one = set.random(&mut random).map(|element| element.to_vec());
                assert!(one.is_none_or(|one| model.contains(&one)));
                encodings.insert(set.encoding());
            }
            let mut seen = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = set.scan(cursor, 3, |element| assert!(seen.insert(element.to_vec())));
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, model);
        }
        assert_eq!(encodings.len(), 3);
    }

    #[test]
    fn the_form_follows_redis_thresholds() {
        let (hasher, redis) = (Hasher::seeded(1), &thresholds::REDIS);
        let numbers = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        let words = |count: usize| (0..count).map(|n| format!("w{n}")).collect::<Vec<_>>();
        for (members, encoding) in [
            (numbers(512), "intset"),
            (numbers(513), "hashtable"),
            (words(128), "listpack"),
            (words(129), "hashtable"),
            (vec!["x".repeat(64)], "listpack"),
            (vec!["x".repeat(65)], "hashtable"),
            ([numbers(127), words(1)].concat(), "listpack"),
            ([numbers(128), words(1)].concat(), "hashtable"),
        ] {
            let mut set = Set::new();
            for member in &members {
                assert!(set.insert(member.as_bytes(), hasher, redis));
            }
            assert_eq!(set.encoding(), encoding, "{} members", members.len());
            assert_eq!(set.len(), members.len());
        }
    }

    #[test]
    fn small_sets_are_no_larger_than_redis_keeps_them() {
        assert!(size_of::<Set>() <= 32);
        let mut set = Set::new();
        for number in 0..10 {
            set.insert(
                format!("member-{number}").as_bytes(),
                Hasher::seeded(1),
                &thresholds::REDIS,
            );
        }
        assert_eq!(set.memory_bytes(), 112);
    }
}
