//! One key with its value in one allocation, and the eight-byte slot that owns it.
//!
//! ```text
//! header                                                              flagged     if key length = 65535
//! encoding 4 bits | flags 4 | access clock 24 | key 16 | value 16     expiry u64  key length u64         key   value
//! ```
//!
//! The value is its bytes when it is a short string, eight bytes when it is a number, and one pointer for long strings
//! and collections. Allocations have the sizes of jemalloc's classes, so that a value can be overwritten in place by any
//! other that needs the same class. Raw memory stays in `entry/raw.rs`: what is handed out here are views that borrow the slot.
//! It knows nothing of tables, hashes or databases.

mod raw;

use std::fmt;
use std::marker::PhantomData;
use std::ptr;

use raw::{
    ADDRESS_BITS, ADDRESS_MASK, EDITED, EXPIRES, Encoding, FLOAT, Header, Raw, WORD, expose,
    short_len,
};

use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::stream::Stream;
use super::value::{Kind, Text, Value, ValueMut, ValueRef};
use crate::limits::STORE_INLINE_BYTES_MAX;

pub use raw::{CLOCK_BITS, class_bytes};

/// In a slot, below the address: the entry has an expiry.
const SLOT_EXPIRES: u64 = 1;

/// An owned entry outside of any table.
pub struct EntryBox(Raw);

impl EntryBox {
    /// A member without a value.
    pub fn member(key: &[u8]) -> EntryBox {
        EntryBox(Raw::build(key, None, Encoding::Nothing, &[]))
    }

    /// A string; expires at that time in milliseconds since the epoch.
    pub fn string(key: &[u8], value: &[u8], expires_ms: Option<u64>) -> EntryBox {
        if value.len() > STORE_INLINE_BYTES_MAX {
            return EntryBox::new(key, Value::String(value.to_vec()), expires_ms);
        }
        EntryBox(Raw::build(key, expires_ms, Encoding::Inline, value))
    }

    /// Any value.
    pub fn new(key: &[u8], value: Value, expires_ms: Option<u64>) -> EntryBox {
        let (encoding, word) = match value {
            Value::Nothing => return EntryBox(Raw::build(key, expires_ms, Encoding::Nothing, &[])),
            Value::String(bytes) if bytes.len() <= STORE_INLINE_BYTES_MAX => {
                return EntryBox(Raw::build(key, expires_ms, Encoding::Inline, &bytes));
            }
            Value::String(bytes) => (Encoding::Long, expose(Box::new(bytes))),
            Value::Integer(value) => (Encoding::Integer, value as u64),
            Value::List(list) => (Encoding::List, expose(list)),
            Value::Set(set) => (Encoding::Set, expose(set)),
            Value::Hash(hash) => (Encoding::Hash, expose(hash)),
            Value::SortedSet(set) => (Encoding::SortedSet, expose(set)),
            Value::Stream(stream) => (Encoding::Stream, expose(stream)),
        };
        EntryBox(Raw::build(key, expires_ms, encoding, &word.to_ne_bytes()))
    }

    /// A look at it.
    pub fn view(&self) -> Entry<'_> {
        Entry { raw: self.0, owner: PhantomData }
    }

    /// The same entry under another key.
    pub fn with_key(self, key: &[u8]) -> EntryBox {
        let header = self.0.header();
        let header = Header { key_len: short_len(key), ..header };
        let value = self.0.value(self.0.header());
        let entry = EntryBox(Raw::allocate(header, key, self.0.expires_ms(), value));
        // The value, if it is a pointer, has moved.
        self.0.free();
        std::mem::forget(self);
        entry
    }

    /// The value without its key.
    pub fn into_value(self) -> Value {
        let value = self.0.take_value();
        self.0.free();
        std::mem::forget(self);
        value
    }
}

impl Drop for EntryBox {
    fn drop(&mut self) {
        if self.0.header().encoding.is_outside() {
            drop(self.0.take_value());
        }
        self.0.free();
    }
}

/// An entry seen in its place.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    raw: Raw,
    owner: PhantomData<&'a Slot>,
}

impl<'a> Entry<'a> {
    /// The key, member or field.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        self.raw.key()
    }

    /// Whether that is its key.
    #[inline]
    pub fn has_key(self, key: &[u8]) -> bool {
        same_bytes(self.key(), key)
    }

    /// The type of the value.
    #[inline]
    pub fn kind(self) -> Kind {
        self.raw.header().encoding.kind()
    }

    /// When it ends, in milliseconds since the epoch.
    #[inline]
    pub fn expires_ms(self) -> Option<u64> {
        self.raw.expires_ms()
    }

    /// Whether it has ended.
    #[inline]
    pub fn is_expired(self, now_ms: u64) -> bool {
        self.expires_ms().is_some_and(|at| at <= now_ms)
    }

    /// The access clock, as last set.
    pub fn clock(self) -> u32 {
        self.raw.clock()
    }

    /// The value.
    #[inline]
    pub fn value(self) -> ValueRef<'a> {
        let header = self.raw.header();
        if header.encoding == Encoding::Inline {
            return ValueRef::String(self.raw.value(header));
        }
        self.uncommon_value(header)
    }

    fn uncommon_value(self, header: Header) -> ValueRef<'a> {
        match header.encoding {
            Encoding::Nothing => ValueRef::Nothing,
            Encoding::Inline => ValueRef::String(self.raw.value(header)),
            Encoding::Integer => ValueRef::Integer(self.raw.word(header) as i64),
            Encoding::Long => ValueRef::String(self.raw.boxed::<Vec<u8>>(header)),
            Encoding::List => ValueRef::List(self.raw.boxed::<List>(header)),
            Encoding::Set => ValueRef::Set(self.raw.boxed::<Set>(header)),
            Encoding::Hash => ValueRef::Hash(self.raw.boxed::<Hash>(header)),
            Encoding::SortedSet => ValueRef::SortedSet(self.raw.boxed::<SortedSet>(header)),
            Encoding::Stream => ValueRef::Stream(self.raw.boxed::<Stream>(header)),
        }
    }

    /// The value's bytes, if it is a string (empty for a member).
    #[inline]
    pub fn text(self) -> Option<Text<'a>> {
        self.value().text()
    }

    /// Whether the string was changed in place since it was set.
    pub fn is_edited(self) -> bool {
        self.raw.header().flags & EDITED != 0
    }

    /// Whether the string was computed as a float.
    pub fn is_float(self) -> bool {
        self.raw.header().flags & FLOAT != 0
    }

    /// A copy under another key, with the expiry and a copy of the value.
    pub fn copy_as(self, key: &[u8]) -> EntryBox {
        let header = self.raw.header();
        if header.encoding.is_outside() {
            return EntryBox::new(key, self.value().to_value(), self.expires_ms());
        }
        let value = self.raw.value(header);
        let header = Header { key_len: short_len(key), ..header };
        EntryBox(Raw::allocate(header, key, self.expires_ms(), value))
    }

    /// Whether freeing it takes long; see [`Value::is_big`].
    pub fn is_big(self) -> bool {
        self.raw.header().encoding.is_outside() && self.value().is_big()
    }

    /// Heap bytes of the entry and what it points to.
    pub fn memory_bytes(self) -> usize {
        let outside = self.raw.header().encoding.is_outside();
        let heap = if outside { self.value().memory_bytes() } else { 0 };
        class_bytes(self.raw.bytes(self.raw.header())) + heap
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key()).field("value", &self.value()).finish()
    }
}

/// Whether two keys are equal: word by word, for they are short and a call of `memcmp` costs more than comparing them.
#[inline]
fn same_bytes(left: &[u8], right: &[u8]) -> bool {
    const LONG: usize = 64;
    if left.len() != right.len() {
        return false;
    }
    if left.len() > LONG {
        return left == right;
    }
    let (left_words, left_rest) = left.as_chunks::<WORD>();
    let (right_words, right_rest) = right.as_chunks::<WORD>();
    if left_words.iter().zip(right_words).any(|(left, right)| left != right) {
        return false;
    }
    // The last word overlaps the one before.
    match (left.last_chunk::<WORD>(), right.last_chunk::<WORD>()) {
        (Some(left), Some(right)) => left == right,
        _ => left_rest.iter().zip(right_rest).all(|(left, right)| left == right),
    }
}

/// An entry to be changed in its place. Its expiry is the table's to change.
pub struct EntryMut<'a> {
    slot: &'a mut Slot,
}

impl<'a> EntryMut<'a> {
    /// A look at it.
    pub fn view(&self) -> Entry<'_> {
        self.slot.entry()
    }

    /// A look at it for as long as the slot is borrowed.
    #[inline]
    pub fn into_view(self) -> Entry<'a> {
        self.slot.entry()
    }

    /// Notes an access: the clock's low 24 bits are kept.
    #[inline]
    pub fn touch(&mut self, clock: u32) {
        self.raw().set_clock(clock);
    }

    /// The collection in it.
    #[inline]
    pub fn into_value(self) -> ValueMut<'a> {
        let raw = self.raw();
        let header = raw.header();
        match header.encoding {
            Encoding::List => ValueMut::List(raw.boxed_mut(header)),
            Encoding::Set => ValueMut::Set(raw.boxed_mut(header)),
            Encoding::Hash => ValueMut::Hash(raw.boxed_mut(header)),
            Encoding::SortedSet => ValueMut::SortedSet(raw.boxed_mut(header)),
            Encoding::Stream => ValueMut::Stream(raw.boxed_mut(header)),
            _ => ValueMut::Other,
        }
    }

    /// Makes the value that string; in place if it needs the same allocation class. Returns the old value if it lay
    /// outside of the entry.
    #[inline]
    pub fn set_string(&mut self, value: &[u8]) -> Option<Value> {
        let header = self.raw().header();
        let same_form = header.encoding == Encoding::Inline && header.flags & !EXPIRES == 0;
        if same_form && usize::from(header.value_len) == value.len() {
            self.raw().value_mut(header).copy_from_slice(value);
            return None;
        }
        self.set_string_anew(value)
    }

    fn set_string_anew(&mut self, value: &[u8]) -> Option<Value> {
        if value.len() > STORE_INLINE_BYTES_MAX {
            return self.set_long(value.to_vec());
        }
        let old = self.take_outside();
        self.reshape(Encoding::Inline, value.len()).copy_from_slice(value);
        old
    }

    /// Notes that the string is a float's text.
    pub fn mark_float(&mut self) {
        self.raw().add_flags(FLOAT);
    }

    /// Makes the value that number. Returns the old value if it lay outside of the entry.
    #[inline]
    pub fn set_integer(&mut self, value: i64) -> Option<Value> {
        let header = self.raw().header();
        if header.encoding == Encoding::Integer && header.flags & !EXPIRES == 0 {
            self.raw().value_mut(header).copy_from_slice(&value.to_ne_bytes());
            return None;
        }
        self.set_integer_anew(value)
    }

    fn set_integer_anew(&mut self, value: i64) -> Option<Value> {
        let old = self.take_outside();
        self.reshape(Encoding::Integer, WORD).copy_from_slice(&value.to_ne_bytes());
        old
    }

    /// The bytes of a string value, made `len` long by zeros at the end if they are fewer.
    ///
    /// # Panics
    /// If the value is a collection.
    pub fn grow(&mut self, len: usize) -> &mut [u8] {
        match self.raw().header().encoding {
            Encoding::Long => {}
            Encoding::Nothing | Encoding::Inline | Encoding::Integer => {
                let text = self.view().text().expect("these encodings are strings").to_vec();
                if len.max(text.len()) <= STORE_INLINE_BYTES_MAX {
                    return self.grow_inline(&text, len);
                }
                self.set_long(text);
            }
            _ => panic!("only strings grow"),
        }
        let raw = self.raw();
        raw.add_flags(EDITED);
        let bytes: &mut Vec<u8> = raw.boxed_mut(raw.header());
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        bytes
    }

    fn grow_inline(&mut self, text: &[u8], len: usize) -> &mut [u8] {
        self.reshape(Encoding::Inline, len.max(text.len()));
        self.raw().add_flags(EDITED);
        let value = self.raw().value_mut(self.raw().header());
        let (front, back) = value.split_at_mut(text.len());
        front.copy_from_slice(text);
        back.fill(0);
        value
    }

    fn set_long(&mut self, bytes: Vec<u8>) -> Option<Value> {
        let old = self.take_outside();
        let word = expose(Box::new(bytes));
        self.reshape(Encoding::Long, WORD).copy_from_slice(&word.to_ne_bytes());
        old
    }

    #[inline]
    fn raw(&self) -> Raw {
        self.slot.raw()
    }

    /// Takes a boxed value out and leaves nothing.
    fn take_outside(&mut self) -> Option<Value> {
        let raw = self.raw();
        let header = raw.header();
        if !header.encoding.is_outside() {
            return None;
        }
        let value = raw.take_value();
        raw.set_header(Header { encoding: Encoding::Nothing, ..header });
        Some(value)
    }

    fn reshape(&mut self, encoding: Encoding, value_len: usize) -> &mut [u8] {
        let raw = self.raw().reshape(self.raw().expires_ms(), encoding, value_len);
        self.slot.set_address(raw);
        raw.value_mut(raw.header())
    }
}

/// Eight bytes that own an entry or nothing: 48 bits of address, whose lowest says whether the entry expires, and 16 bits
/// of the key's hash. So tables can be rearranged and expiring entries picked without reading the entries.
#[derive(Default)]
pub struct Slot(u64);

impl Slot {
    /// Owns nothing.
    pub const EMPTY: Slot = Slot(0);

    /// Takes an entry in.
    ///
    /// # Panics
    /// If it owns one already.
    pub fn fill(&mut self, entry: EntryBox, hash_bits: u16) {
        assert!(self.0 == 0, "the slot is taken");
        self.0 = u64::from(hash_bits) << ADDRESS_BITS;
        self.set_address(entry.0);
        std::mem::forget(entry);
    }

    /// Gives its entry out.
    pub fn take(&mut self) -> Option<EntryBox> {
        let taken = (self.0 != 0).then(|| EntryBox(self.raw()));
        self.0 = 0;
        taken
    }

    /// Whether it owns nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// The hash bits it was filled with.
    #[inline]
    pub fn hash_bits(&self) -> u16 {
        (self.0 >> ADDRESS_BITS) as u16
    }

    /// Whether its entry has an expiry.
    #[inline]
    pub fn expires(&self) -> bool {
        self.0 & SLOT_EXPIRES != 0
    }

    /// Its entry.
    ///
    /// # Panics
    /// If it owns none.
    #[inline]
    pub fn entry(&self) -> Entry<'_> {
        Entry { raw: self.raw(), owner: PhantomData }
    }

    /// Its entry, to be changed.
    ///
    /// # Panics
    /// If it owns none.
    #[inline]
    pub fn entry_mut(&mut self) -> EntryMut<'_> {
        assert!(self.0 != 0, "the slot owns no entry");
        EntryMut { slot: self }
    }

    /// Gives the entry that expiry, or none.
    ///
    /// # Panics
    /// If it owns no entry.
    pub fn set_expires_ms(&mut self, expires_ms: Option<u64>) {
        let raw = self.raw();
        let header = raw.header();
        let raw = raw.reshape(expires_ms, header.encoding, usize::from(header.value_len));
        raw.add_flags(header.flags & !EXPIRES);
        self.set_address(raw);
    }

    /// The address of the entry's first byte, as a hint for prefetching; null if it owns none.
    #[inline]
    pub fn hint(&self) -> *const u8 {
        ptr::without_provenance((self.0 & ADDRESS_MASK) as usize)
    }

    #[inline]
    fn raw(&self) -> Raw {
        Raw::at_address(self.0 & ADDRESS_MASK)
    }

    fn set_address(&mut self, raw: Raw) {
        let hash_bits = self.0 >> ADDRESS_BITS << ADDRESS_BITS;
        let expires = if raw.header().expires() { SLOT_EXPIRES } else { 0 };
        self.0 = hash_bits | raw.address() | expires;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("Slot(empty)") } else { self.entry().fmt(f) }
    }
}
