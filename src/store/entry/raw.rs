//! The memory of an entry, as its owners in `entry.rs` see it: made, read, reshaped, freed.
//!
//! A [`Raw`] is an address and borrows nothing; only the owners hand its parts out, under their own lifetimes.

#![allow(unsafe_code, reason = "header, key and value share one allocation of variable size")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::slice;

use crate::limits::STORE_INLINE_BYTES_MAX;
use crate::store::value::{Kind, Value};

/// Bits of an entry's address; the lowest three are 0.
pub const ADDRESS_BITS: u32 = 48;
pub const ADDRESS_MASK: u64 = ((1 << ADDRESS_BITS) - 1) & !7;

/// How the value lies in the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// A member: no value.
    Nothing,
    /// The string's bytes.
    Inline,
    /// An `i64`.
    Integer,
    /// `Box<Vec<u8>>`.
    Long,
    /// `Box<List>` and so on.
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
}

/// The first word of an entry, taken apart: 4 bits of encoding, 4 of flags, 24 of clock, 16 each for the lengths.
#[derive(Clone, Copy)]
pub struct Header {
    pub encoding: Encoding,
    /// Four bits.
    pub flags: u8,
    /// What the owner of the store counts accesses in; 24 bits.
    pub clock: u32,
    /// [`LONG_KEY`]: the length stands in eight bytes of its own.
    pub key_len: u16,
    pub value_len: u16,
}

pub const EXPIRES: u8 = 1;
/// The string was changed in place (APPEND, SETRANGE): OBJECT ENCODING answers `raw` for it, whatever its length.
pub const EDITED: u8 = 2;
/// The string is a float's text (INCRBYFLOAT): OBJECT ENCODING doesn't answer `int` for it.
pub const FLOAT: u8 = 4;
const LONG_KEY: u16 = u16::MAX;
pub const WORD: usize = 8;

const FLAGS_SHIFT: u32 = 4;
const CLOCK_SHIFT: u32 = 8;
/// An access clock has so many bits.
pub const CLOCK_BITS: u32 = 24;
const CLOCK_MASK: u64 = ((1 << CLOCK_BITS) - 1) << CLOCK_SHIFT;
const KEY_SHIFT: u32 = 32;
const VALUE_SHIFT: u32 = 48;

const _: () = assert!(STORE_INLINE_BYTES_MAX < u16::MAX as usize);

/// The allocation class for so many bytes: jemalloc's small and large classes, four to a doubling.
pub fn class_bytes(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.next_multiple_of(16).max(16);
    }
    let step = 1 << ((bytes - 1).ilog2() - 2);
    bytes.next_multiple_of(step)
}

impl Encoding {
    /// The encoding that [`Header::pack`] wrote.
    #[inline]
    fn unpack(bits: u64) -> Encoding {
        match bits & 15 {
            1 => Encoding::Inline,
            2 => Encoding::Integer,
            3 => Encoding::Long,
            4 => Encoding::List,
            5 => Encoding::Set,
            6 => Encoding::Hash,
            7 => Encoding::SortedSet,
            8 => Encoding::Stream,
            _ => Encoding::Nothing,
        }
    }

    /// Whether the value is a pointer.
    pub fn is_outside(self) -> bool {
        !matches!(self, Encoding::Nothing | Encoding::Inline | Encoding::Integer)
    }

    pub fn kind(self) -> Kind {
        match self {
            Encoding::Nothing | Encoding::Inline | Encoding::Integer | Encoding::Long => {
                Kind::String
            }
            Encoding::List => Kind::List,
            Encoding::Set => Kind::Set,
            Encoding::Hash => Kind::Hash,
            Encoding::SortedSet => Kind::SortedSet,
            Encoding::Stream => Kind::Stream,
        }
    }
}

/// Gives a boxed value's ownership to the word that an entry keeps.
pub fn expose<T: Send>(value: Box<T>) -> u64 {
    Box::into_raw(value).expose_provenance() as u64
}

/// The address of a live entry. Only the owners in `entry.rs` make and end them, and a view can't outlive its owner.
#[derive(Clone, Copy)]
pub struct Raw(NonNull<u8>);

// SAFETY: a Raw is only an address; the entry behind it has one owner at a time and holds only `Send` values (`expose`).
unsafe impl Send for Raw {}

impl Raw {
    /// The entry at an address that [`Raw::address`] gave; its owner vouches for it being live.
    ///
    /// # Panics
    /// If the address is 0.
    #[inline]
    pub fn at_address(address: u64) -> Raw {
        let pointer = ptr::with_exposed_provenance_mut(address as usize);
        Raw(NonNull::new(pointer).expect("the slot owns an entry"))
    }

    pub fn build(key: &[u8], expires_ms: Option<u64>, encoding: Encoding, value: &[u8]) -> Raw {
        let header = Header {
            encoding,
            flags: if expires_ms.is_some() { EXPIRES } else { 0 },
            clock: 0,
            key_len: short_len(key),
            value_len: value.len() as u16,
        };
        Raw::allocate(header, key, expires_ms, value)
    }

    /// An entry with that header, whose value begins with `value` and goes on with zeros.
    pub fn allocate(header: Header, key: &[u8], expires_ms: Option<u64>, value: &[u8]) -> Raw {
        let key_offset = header.key_offset();
        let layout = layout(key_offset + key.len() + usize::from(header.value_len));
        // SAFETY: the layout's size is at least 16.
        let memory = unsafe { alloc(layout) };
        let Some(pointer) = NonNull::new(memory) else { handle_alloc_error(layout) };
        let address = memory.expose_provenance() as u64;
        assert!(address & !ADDRESS_MASK == 0, "an address above 48 bits");
        let raw = Raw(pointer);
        raw.set_header(header);
        if header.key_len == LONG_KEY {
            raw.write(key_offset - WORD, &(key.len() as u64).to_ne_bytes());
        }
        if let Some(at) = expires_ms {
            raw.write(WORD, &at.to_ne_bytes());
        }
        raw.write(key_offset, key);
        let value_offset = key_offset + key.len();
        raw.write(value_offset, value);
        // All of the class, so that a longer value in place finds initialised bytes.
        let written = value_offset + value.len();
        raw.zero(written, layout.size() - written);
        raw
    }

    /// The same entry, unedited, with another expiry, encoding and value length; in place if the class stays. As many of the value's
    /// bytes are kept as fit, so a boxed value must have been taken out unless the encoding stays.
    pub fn reshape(self, expires_ms: Option<u64>, encoding: Encoding, value_len: usize) -> Raw {
        let old = self.header();
        let bytes = self.bytes(old) - usize::from(old.value_len) + value_len;
        let same_class = class_bytes(bytes) == class_bytes(self.bytes(old));
        if expires_ms.is_some() == old.expires() && same_class {
            let flags = old.flags & EXPIRES;
            self.set_header(Header { encoding, flags, value_len: value_len as u16, ..old });
            if let Some(at) = expires_ms {
                self.write(WORD, &at.to_ne_bytes());
            }
            return self;
        }
        let flags = if expires_ms.is_some() { EXPIRES } else { 0 };
        let header = Header { encoding, flags, value_len: value_len as u16, ..old };
        let kept = usize::from(old.value_len).min(value_len);
        let raw = Raw::allocate(header, self.key(), expires_ms, &self.value(old)[..kept]);
        self.free();
        raw
    }

    pub fn address(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    #[inline]
    pub fn header(self) -> Header {
        Header::unpack(self.word_of_header())
    }

    #[inline]
    fn word_of_header(self) -> u64 {
        // SAFETY: the entry is live and begins with its header, aligned to 8.
        unsafe { self.0.cast::<u64>().read() }
    }

    #[inline]
    pub fn set_header(self, header: Header) {
        self.set_word_of_header(header.pack());
    }

    #[inline]
    fn set_word_of_header(self, word: u64) {
        // SAFETY: the entry is live, at least 16 bytes long and aligned to 8; its owner is borrowed mutably or being built.
        unsafe { self.0.cast::<u64>().write(word) }
    }

    #[inline]
    pub fn clock(self) -> u32 {
        ((self.word_of_header() & CLOCK_MASK) >> CLOCK_SHIFT) as u32
    }

    #[inline]
    pub fn set_clock(self, clock: u32) {
        let clock = u64::from(clock) << CLOCK_SHIFT & CLOCK_MASK;
        self.set_word_of_header(self.word_of_header() & !CLOCK_MASK | clock);
    }

    pub fn add_flags(self, flags: u8) {
        let header = self.header();
        self.set_header(Header { flags: header.flags | flags, ..header });
    }

    #[inline]
    pub fn expires_ms(self) -> Option<u64> {
        self.header().expires().then(|| self.read_word(WORD))
    }

    #[inline]
    fn key_len(self, header: Header) -> usize {
        if header.key_len == LONG_KEY {
            return self.read_word(header.key_offset() - WORD) as usize;
        }
        usize::from(header.key_len)
    }

    #[inline]
    pub fn key<'a>(self) -> &'a [u8] {
        let header = self.header();
        let start = self.at(header.key_offset());
        // SAFETY: the key lies there, initialised; the view that asks borrows the entry's owner.
        unsafe { slice::from_raw_parts(start, self.key_len(header)) }
    }

    /// All bytes in use.
    pub fn bytes(self, header: Header) -> usize {
        header.key_offset() + self.key_len(header) + usize::from(header.value_len)
    }

    #[inline]
    pub fn value<'a>(self, header: Header) -> &'a [u8] {
        let start = self.at(header.key_offset() + self.key_len(header));
        // SAFETY: the value lies there, initialised (`allocate` initialises the whole class).
        unsafe { slice::from_raw_parts(start, usize::from(header.value_len)) }
    }

    #[inline]
    pub fn value_mut<'a>(self, header: Header) -> &'a mut [u8] {
        let offset = header.key_offset() + self.key_len(header);
        let len = usize::from(header.value_len);
        // SAFETY: the value lies there, and the caller holds the entry's only owner mutably.
        unsafe { slice::from_raw_parts_mut(self.at(offset), len) }
    }

    /// A value of eight bytes.
    #[inline]
    pub fn word(self, header: Header) -> u64 {
        self.read_word(header.key_offset() + self.key_len(header))
    }

    #[inline]
    pub fn boxed<'a, T>(self, header: Header) -> &'a T {
        let pointer: *const T = ptr::with_exposed_provenance(self.word(header) as usize);
        // SAFETY: the caller matched the encoding, so the word came from `expose::<T>` and the entry still owns it.
        unsafe { &*pointer }
    }

    #[inline]
    pub fn boxed_mut<'a, T>(self, header: Header) -> &'a mut T {
        let pointer: *mut T = ptr::with_exposed_provenance_mut(self.word(header) as usize);
        // SAFETY: as in `boxed`, and the caller holds the entry's only owner mutably.
        unsafe { &mut *pointer }
    }

    /// The value, which the entry then no longer owns: free it, or change its encoding, at once.
    pub fn take_value(self) -> Value {
        let header = self.header();
        match header.encoding {
            Encoding::Nothing => Value::Nothing,
            Encoding::Inline => Value::String(self.value(header).to_vec()),
            Encoding::Integer => Value::Integer(self.word(header) as i64),
            Encoding::Long => Value::String(*self.unbox(header)),
            Encoding::List => Value::List(self.unbox(header)),
            Encoding::Set => Value::Set(self.unbox(header)),
            Encoding::Hash => Value::Hash(self.unbox(header)),
            Encoding::SortedSet => Value::SortedSet(self.unbox(header)),
            Encoding::Stream => Value::Stream(self.unbox(header)),
        }
    }

    fn unbox<T>(self, header: Header) -> Box<T> {
        let pointer: *mut T = ptr::with_exposed_provenance_mut(self.word(header) as usize);
        // SAFETY: as in `boxed_mut`; `take_value`'s callers drop the entry's claim to it.
        unsafe { Box::from_raw(pointer) }
    }

    /// Gives the memory back, not the value.
    pub fn free(self) {
        let layout = layout(self.bytes(self.header()));
        // SAFETY: allocated with this layout: every change of length within a class keeps it.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }

    #[inline]
    fn at(self, offset: usize) -> *mut u8 {
        self.0.as_ptr().wrapping_add(offset)
    }

    #[inline]
    fn read_word(self, offset: usize) -> u64 {
        // SAFETY: callers ask for words that the header says are there.
        unsafe { self.at(offset).cast::<u64>().read_unaligned() }
    }

    fn write(self, offset: usize, bytes: &[u8]) {
        // SAFETY: callers write what the header they set has room for; `bytes` lies in another allocation.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), bytes.len()) }
    }

    fn zero(self, offset: usize, len: usize) {
        // SAFETY: the rest of an entry just allocated.
        unsafe { ptr::write_bytes(self.at(offset), 0, len) }
    }
}

impl Header {
    #[inline]
    fn pack(self) -> u64 {
        debug_assert!(self.flags < 16 && self.clock >> CLOCK_BITS == 0, "beyond its bits");
        debug_assert!(Encoding::unpack(self.encoding as u64) == self.encoding, "no way back");
        self.encoding as u64
            | u64::from(self.flags) << FLAGS_SHIFT
            | u64::from(self.clock) << CLOCK_SHIFT
            | u64::from(self.key_len) << KEY_SHIFT
            | u64::from(self.value_len) << VALUE_SHIFT
    }

    #[inline]
    fn unpack(word: u64) -> Header {
        Header {
            encoding: Encoding::unpack(word),
            flags: (word >> FLAGS_SHIFT) as u8 & 15,
            clock: ((word & CLOCK_MASK) >> CLOCK_SHIFT) as u32,
            key_len: (word >> KEY_SHIFT) as u16,
            value_len: (word >> VALUE_SHIFT) as u16,
        }
    }

    #[inline]
    pub fn expires(self) -> bool {
        self.flags & EXPIRES != 0
    }

    #[inline]
    fn key_offset(self) -> usize {
        let long = usize::from(self.key_len == LONG_KEY);
        WORD + WORD * (usize::from(self.flags & EXPIRES) + long)
    }
}

/// A key's length as the header has it.
pub fn short_len(key: &[u8]) -> u16 {
    key.len().min(usize::from(LONG_KEY)) as u16
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(class_bytes(bytes), WORD)
        .expect("keys are shorter than half the address space")
}
