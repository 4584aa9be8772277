//! What a key can hold, as commands see it. How it lies in memory is `entry.rs`'s business.

use std::ops::Deref;

use super::entry::class_bytes;
use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::stream::Stream;

/// A type of value, in Redis's sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
}

impl Kind {
    /// What TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Hash => "hash",
            Kind::SortedSet => "zset",
            Kind::Stream => "stream",
        }
    }
}

/// A value by itself: on its way into or out of an entry.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value: a member of a set.
    Nothing,
    String(Vec<u8>),
    /// A string that is an integer's canonical text.
    Integer(i64),
    List(Box<List>),
    Set(Box<Set>),
    Hash(Box<Hash>),
    SortedSet(Box<SortedSet>),
    Stream(Box<Stream>),
}

impl Value {
    /// The same value, looked at.
    pub fn view(&self) -> ValueRef<'_> {
        match self {
            Value::Nothing => ValueRef::Nothing,
            Value::String(bytes) => ValueRef::String(bytes),
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::List(list) => ValueRef::List(list),
            Value::Set(set) => ValueRef::Set(set),
            Value::Hash(hash) => ValueRef::Hash(hash),
            Value::SortedSet(set) => ValueRef::SortedSet(set),
            Value::Stream(stream) => ValueRef::Stream(stream),
        }
    }

    /// Whether it is a collection without elements.
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// Whether freeing it may take long enough to be left to someone without the store's lock.
    pub fn is_big(&self) -> bool {
        self.view().is_big()
    }

    /// Heap bytes of it, if it is a long string or a collection.
    pub fn memory_bytes(&self) -> usize {
        self.view().memory_bytes()
    }
}

/// A look at the value of an entry.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// No value: a member of a set.
    Nothing,
    String(&'a [u8]),
    /// A string kept as a number.
    Integer(i64),
    List(&'a List),
    Set(&'a Set),
    Hash(&'a Hash),
    SortedSet(&'a SortedSet),
    Stream(&'a Stream),
}

impl<'a> ValueRef<'a> {
    /// The type; a member without a value counts as a string.
    pub fn kind(self) -> Kind {
        match self {
            ValueRef::Nothing | ValueRef::String(_) | ValueRef::Integer(_) => Kind::String,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::Hash(_) => Kind::Hash,
            ValueRef::SortedSet(_) => Kind::SortedSet,
            ValueRef::Stream(_) => Kind::Stream,
        }
    }

    /// The bytes, if it is a string.
    pub fn text(self) -> Option<Text<'a>> {
        match self {
            ValueRef::Nothing => Some(Text::Bytes(b"")),
            ValueRef::String(bytes) => Some(Text::Bytes(bytes)),
            ValueRef::Integer(value) => Some(Text::of_integer(value)),
            _ => None,
        }
    }

    /// Whether it is a collection without elements.
    pub fn is_empty(self) -> bool {
        match self {
            // A stream stays when it has no entries.
            ValueRef::Nothing
            | ValueRef::String(_)
            | ValueRef::Integer(_)
            | ValueRef::Stream(_) => false,
            ValueRef::List(list) => list.is_empty(),
            ValueRef::Set(set) => set.is_empty(),
            ValueRef::Hash(hash) => hash.is_empty(),
            ValueRef::SortedSet(set) => set.is_empty(),
        }
    }

    /// As [`Value::is_big`].
    pub fn is_big(self) -> bool {
        const ELEMENTS: usize = 64;
        const BYTES: usize = 256 * 1024;
        match self {
            ValueRef::Nothing | ValueRef::Integer(_) => false,
            ValueRef::String(bytes) => bytes.len() > BYTES,
            ValueRef::List(list) => list.len() > ELEMENTS,
            ValueRef::Set(set) => set.len() > ELEMENTS,
            ValueRef::Hash(hash) => hash.len() > ELEMENTS,
            ValueRef::SortedSet(set) => set.len() > ELEMENTS,
            ValueRef::Stream(stream) => stream.is_big(),
        }
    }

    /// Heap bytes of a value outside of its entry.
    pub fn memory_bytes(self) -> usize {
        match self {
            ValueRef::Nothing | ValueRef::Integer(_) => 0,
            ValueRef::String(bytes) => size_of::<Vec<u8>>() + class_bytes(bytes.len()),
            ValueRef::List(list) => size_of::<List>() + list.memory_bytes(),
            ValueRef::Set(set) => size_of::<Set>() + set.memory_bytes(),
            ValueRef::Hash(hash) => size_of::<Hash>() + hash.memory_bytes(),
            ValueRef::SortedSet(set) => size_of::<SortedSet>() + set.memory_bytes(),
            ValueRef::Stream(stream) => size_of::<Stream>() + stream.memory_bytes(),
        }
    }

    /// A copy of its own.
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Nothing => Value::Nothing,
            ValueRef::String(bytes) => Value::String(bytes.to_vec()),
            ValueRef::Integer(value) => Value::Integer(value),
            ValueRef::List(list) => Value::List(Box::new(list.clone())),
            ValueRef::Set(set) => Value::Set(Box::new(set.clone())),
            ValueRef::Hash(hash) => Value::Hash(Box::new(hash.clone())),
            ValueRef::SortedSet(set) => Value::SortedSet(Box::new(set.clone())),
            ValueRef::Stream(stream) => Value::Stream(Box::new(stream.clone())),
        }
    }
}

/// A collection or long string to be changed in place.
#[derive(Debug)]
pub enum ValueMut<'a> {
    /// A string, or nothing; see [`super::entry::EntryMut`] for changing strings.
    Other,
    List(&'a mut List),
    Set(&'a mut Set),
    Hash(&'a mut Hash),
    SortedSet(&'a mut SortedSet),
    Stream(&'a mut Stream),
}

/// The bytes of a string value; numbers are printed here, without allocating.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    Bytes(&'a [u8]),
    /// Digits at the front of the array, and how many.
    Digits([u8; 20], u8),
}

impl Text<'_> {
    /// The decimal form.
    pub fn of_integer(value: i64) -> Text<'static> {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        let mut array = [0; 20];
        array[..digits.len()].copy_from_slice(digits);
        Text::Digits(array, digits.len() as u8)
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Text::Bytes(bytes) => bytes,
            Text::Digits(array, len) => &array[..usize::from(*len)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_read_as_their_text() {
        for value in [0, -1, 42, i64::MIN, i64::MAX] {
            assert_eq!(&*Text::of_integer(value), value.to_string().as_bytes());
        }
    }
}
