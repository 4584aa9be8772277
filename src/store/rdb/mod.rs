//! Values as RDB bytes, Redis's own format: what DUMP gives, RESTORE takes, and snapshots are made of.
//!
//! Written is what Redis 7.0 reads (RDB version 10) wherever that can say it; read is everything from the first versions
//! to Redis 8. Bytes come from anywhere, so reading trusts nothing: every blob is walked whole, every value is built by
//! the same functions that commands use, a double member or field is refused, and memory grows only with bytes that are
//! there. Source: Redis 7.4's `rdb.c`, `listpack.c`, `ziplist.c`, `zipmap.c`, `intset.c`.
//!
//! ```text
//! DUMP     type u8 | value | version u16 | CRC-64 of all before
//! length   00llllll | 01llllll + 1 byte | 80 + u32 big-endian | 81 + u64 big-endian | 11eeeeee: an encoded string
//! string   length, bytes | C0 i8 | C1 i16 | C2 i32 | C3 packed length, length, LZF
//! ```
//!
//! Whole files, with keys, databases and expiries, are `persist::rdb`'s business. It knows no key, no file, no clock.

pub mod crc64;
mod input;
mod lzf;
mod output;
mod packs;
mod read;
mod stream;
mod write;

pub use input::{Input, Length};
pub use output::{number as write_number, string as write_string};
pub use read::{Builder, read_value, read_value_of};
pub use write::{type_of, write_value};

use super::value::{Value, ValueRef};
use crc64::crc64;

/// The newest version that is read: Redis 8's. Later ones may add types but don't change those that are known.
pub const VERSION_READ_MAX: u16 = 13;

/// Version and checksum at the end of a payload.
const FOOTER_BYTES: usize = 10;

/// The first byte of a value: its type and how it is laid out.
pub mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const SORTED_SET_TEXT: u8 = 3;
    pub const HASH: u8 = 4;
    pub const SORTED_SET: u8 = 5;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTEGERS: u8 = 11;
    pub const SORTED_SET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_ZIPLISTS: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const SORTED_SET_LISTPACK: u8 = 17;
    pub const LIST_LISTPACKS: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// 7.4's release candidates: deadlines as they are.
    pub const HASH_TIMED_EARLY: u8 = 22;
    pub const HASH_LISTPACK_TIMED_EARLY: u8 = 23;
    /// 7.4: the earliest deadline first, the others from there on.
    pub const HASH_TIMED: u8 = 24;
    /// 7.4: the earliest deadline, then field, value, deadline in one blob.
    pub const HASH_LISTPACK_TIMED: u8 = 25;
    /// Not Redis's: a set or sorted set, then the members that have deadlines with these.
    pub const MEMBERS_TIMED: u8 = 200;
}

/// Why bytes aren't a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They end too early, or a length says more than there is.
    Truncated,
    /// They contradict themselves; what was found.
    Malformed(&'static str),
    /// A type of value that isn't known here.
    UnknownType(u8),
    /// Wrong checksum, or a version that isn't known.
    Footer,
}

/// A value as DUMP answers it.
pub fn dump(value: ValueRef<'_>) -> Vec<u8> {
    let mut out = vec![type_of(value)];
    write_value(&mut out, value);
    out.extend_from_slice(&write::version_of(value).to_le_bytes());
    let sum = crc64(0, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The value in a payload that somebody's DUMP answered.
pub fn restore(payload: &[u8], builder: &Builder<'_>) -> Result<Value, Damage> {
    let body_bytes = payload.len().checked_sub(FOOTER_BYTES).ok_or(Damage::Footer)?;
    let (body, footer) = payload.split_at(body_bytes);
    let mut footer = Input::new(footer);
    let version = u16::from_le_bytes(footer.array()?);
    let sum = u64::from_le_bytes(footer.array()?);
    if version > VERSION_READ_MAX || crc64(0, &payload[..body_bytes + 2]) != sum {
        return Err(Damage::Footer);
    }
    let mut input = Input::new(body);
    let value = read_value(&mut input, builder)?;
    if input.left() > 0 {
        return Err(Damage::Malformed("bytes behind the value"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
