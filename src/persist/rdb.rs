//! Whole RDB files, written and read piece by piece: no file is ever held in memory, only the value at hand.
//!
//! ```text
//! REDIS0010 | FA name text ... | FE database | FB keys expiring |
//!     [FC expiry, milliseconds u64] [F8 idle seconds | F9 frequency] type key value ... | FF | CRC-64 of all before
//! ```
//! [`Writer`] appends to a buffer that its owner empties as it likes; [`Reader`] is fed chunks of any size and gives one
//! [`Item`] at a time. Values are `store::rdb`'s business. Read is what Redis wrote since 2.6; what a file says of modules
//! is refused, of cluster slots skipped. Source: Redis 7.4's `rdb.c`.

use crate::limits::RDB_ITEM_BYTES_MAX;
use crate::store::entry::Entry;
use crate::store::rdb::crc64::crc64;
use crate::store::rdb::{
    Builder, Damage, Input, VERSION_READ_MAX, read_value_of, type_of, write_number, write_string,
    write_value,
};
use crate::store::value::Value;

const MAGIC: &[u8] = b"REDIS";
const HEADER_BYTES: usize = 9;
const SUM_BYTES: usize = 8;

/// What stands where a value's type could.
mod section {
    pub const SLOT: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUXILIARY: u8 = 250;
    pub const SIZES: u8 = 251;
    pub const EXPIRY_MS: u8 = 252;
    pub const EXPIRY_SECONDS: u8 = 253;
    pub const DATABASE: u8 = 254;
    pub const END: u8 = 255;
}

/// Which Redis is to read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 7.0 and later: no deadlines of members.
    Redis70 = 10,
    /// 7.4 and later.
    Redis74 = 12,
}

/// A file in the making.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    /// Of what has been taken.
    sum: u64,
}

impl Writer {
    /// Begins a file; `auxiliary` are names and texts that readers may know (`redis-ver`, `ctime`, ...).
    pub fn new(version: Version, auxiliary: &[(&str, &str)]) -> Writer {
        let mut writer = Writer { out: Vec::new(), sum: 0 };
        writer.out.extend_from_slice(format!("REDIS{:04}", version as u16).as_bytes());
        for (name, text) in auxiliary {
            writer.out.push(section::AUXILIARY);
            write_string(&mut writer.out, name.as_bytes());
            write_string(&mut writer.out, text.as_bytes());
        }
        writer
    }

    /// A library of functions, before all databases.
    pub fn function(&mut self, code: &[u8]) {
        self.out.push(section::FUNCTION);
        write_string(&mut self.out, code);
    }

    /// The keys that follow are of that database, which has about so many.
    pub fn database(&mut self, index: u8, keys: usize, expiring: usize) {
        self.out.push(section::DATABASE);
        write_number(&mut self.out, u64::from(index));
        self.out.push(section::SIZES);
        write_number(&mut self.out, keys as u64);
        write_number(&mut self.out, expiring as u64);
    }

    /// The keys that follow are of that database, of which the file has said how much it has.
    pub fn select(&mut self, index: u8) {
        self.out.push(section::DATABASE);
        write_number(&mut self.out, u64::from(index));
    }

    /// A key with its value and expiry.
    pub fn entry(&mut self, entry: Entry<'_>) {
        let out = &mut self.out;
        if let Some(at_ms) = entry.expires_ms() {
            out.push(section::EXPIRY_MS);
            out.extend_from_slice(&at_ms.to_le_bytes());
        }
        out.push(type_of(entry.value()));
        write_string(out, entry.key());
        write_value(out, entry.value());
    }

    /// Ends the file.
    pub fn finish(&mut self) {
        self.out.push(section::END);
        let sum = crc64(self.sum, &self.out);
        self.out.extend_from_slice(&sum.to_le_bytes());
    }

    /// Bytes that have been written and not taken.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// Hands over what has been written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        self.sum = crc64(self.sum, &self.out);
        std::mem::take(&mut self.out)
    }
}

/// One thing that a file says.
#[derive(Debug)]
pub enum Item {
    /// A name and a text about the file.
    Auxiliary(Vec<u8>, Vec<u8>),
    /// A library of functions.
    Function(Vec<u8>),
    /// The keys that follow are of this database.
    Database(u64),
    /// A key. It may have expired long ago: that is for who has a clock.
    Key(Key),
    /// The file is whole.
    End,
}

/// A key with all that the file says of it.
#[derive(Debug)]
pub struct Key {
    pub key: Vec<u8>,
    pub value: Value,
    /// Milliseconds since the epoch.
    pub expires_ms: Option<u64>,
    /// Seconds since its last use when the file was written.
    pub idle_seconds: Option<u64>,
    /// Its LFU counter.
    pub frequency: Option<u8>,
}

/// A file being read.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes of the buffer that are read.
    at: usize,
    /// Of all that was read and dropped from the buffer.
    sum: u64,
    /// Don't try again before so many unread bytes are here: each try reads the item from its first byte.
    wanted: usize,
    begun: bool,
    ended: bool,
    /// No more bytes will come.
    complete: bool,
}

impl Reader {
    /// A reader at the file's first byte.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Adds the file's next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.sum = crc64(self.sum, &self.buffer[..self.at]);
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Says that all bytes have been fed: what is missing now is damage.
    pub fn complete(&mut self) {
        self.complete = true;
        self.wanted = 0;
    }

    /// Whether the file's end was read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next item; nothing if more bytes must be fed first, or after the end.
    pub fn next(&mut self, builder: &Builder<'_>) -> Result<Option<Item>, Damage> {
        let unread = &self.buffer[self.at..];
        if self.ended || unread.len() < self.wanted {
            return Ok(None);
        }
        let mut input = Input::new(unread);
        let read = self.read(&mut input, builder);
        match read {
            Ok(item) => {
                self.at = self.buffer.len() - input.left();
                self.wanted = 0;
                self.begun = true;
                self.ended = matches!(item, Item::End);
                Ok(Some(item))
            }
            Err(Damage::Truncated) if !self.complete => {
                // Twice as many, so that a large value costs its length in the mean, not its square.
                self.wanted = (unread.len() * 2).max(1);
                if unread.len() > RDB_ITEM_BYTES_MAX { Err(Damage::Truncated) } else { Ok(None) }
            }
            Err(damage) => Err(damage),
        }
    }

    fn read(&self, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Item, Damage> {
        if !self.begun {
            header(input)?;
        }
        loop {
            match input.byte()? {
                section::AUXILIARY => {
                    let name = input.string()?.into_owned();
                    return Ok(Item::Auxiliary(name, input.string()?.into_owned()));
                }
                section::FUNCTION => return Ok(Item::Function(input.string()?.into_owned())),
                section::DATABASE => return Ok(Item::Database(input.number()?)),
                section::SIZES => skip_numbers(input, 2)?,
                section::SLOT => skip_numbers(input, 3)?,
                section::END => {
                    self.check_sum(input)?;
                    return Ok(Item::End);
                }
                first => return key(first, input, builder).map(Item::Key),
            }
        }
    }

    /// Compares the sum of everything with the one at the end; files may have none.
    fn check_sum(&self, input: &mut Input<'_>) -> Result<(), Damage> {
        let before = self.buffer.len() - input.left();
        let said = u64::from_le_bytes(input.array::<SUM_BYTES>()?);
        let sum = crc64(self.sum, &self.buffer[..before]);
        if said == 0 || said == sum { Ok(()) } else { Err(Damage::Footer) }
    }
}

fn header(input: &mut Input<'_>) -> Result<(), Damage> {
    let header = input.bytes(HEADER_BYTES)?;
    let version = header.strip_prefix(MAGIC).and_then(|digits| std::str::from_utf8(digits).ok());
    let version: u16 =
        version.and_then(|digits| digits.parse().ok()).ok_or(Damage::Malformed("no RDB file"))?;
    if (1..=VERSION_READ_MAX).contains(&version) { Ok(()) } else { Err(Damage::Footer) }
}

fn skip_numbers(input: &mut Input<'_>, count: usize) -> Result<(), Damage> {
    (0..count).try_for_each(|_| input.number().map(drop))
}

fn key(first: u8, input: &mut Input<'_>, builder: &Builder<'_>) -> Result<Key, Damage> {
    let (mut expires_ms, mut idle_seconds, mut frequency) = (None, None, None);
    let mut kind = first;
    loop {
        match kind {
            section::EXPIRY_MS => expires_ms = Some(input.milliseconds()?),
            section::EXPIRY_SECONDS => {
                expires_ms = Some(u64::from(u32::from_le_bytes(input.array()?)) * 1000);
            }
            section::IDLE => idle_seconds = Some(input.number()?),
            section::FREQUENCY => frequency = Some(input.byte()?),
            _ => break,
        }
        kind = input.byte()?;
    }
    let key = input.string()?.into_owned();
    let value = read_value_of(kind, input, builder)?;
    Ok(Key { key, value, expires_ms, idle_seconds, frequency })
}

#[cfg(test)]
mod tests;
