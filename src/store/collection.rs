//! What lists, sets, hashes, sorted sets and streams have in common to a database: they are made empty and changed in place.
//! It knows no key.

use super::Hasher;
use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::stream::Stream;
use super::value::{Value, ValueMut};

/// A value type that commands change in place.
pub(super) trait Collection: Sized {
    /// An empty one.
    fn create(hasher: Hasher) -> Value;
    /// The value, if it is one of this type.
    fn of(value: ValueMut<'_>) -> Option<&mut Self>;
}

macro_rules! collection {
    ($type:ident, |$hasher:pat_param| $create:expr) => {
        impl Collection for $type {
            fn create($hasher: Hasher) -> Value {
                Value::$type(Box::new($create))
            }

            #[inline]
            fn of(value: ValueMut<'_>) -> Option<&mut $type> {
                match value {
                    ValueMut::$type(value) => Some(value),
                    _ => None,
                }
            }
        }
    };
}

collection!(List, |_| List::new());
collection!(Set, |_| Set::new());
collection!(Hash, |_| Hash::new());
collection!(SortedSet, |_| SortedSet::new());
collection!(Stream, |_| Stream::new());
