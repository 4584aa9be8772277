//! HyperLogLog: how many different elements there were, within a percent, in at most 12 KB. The value is a string in
//! Redis's own form, byte for byte, so that it can be read, written and moved like any string. Knows nothing of keys.
//!
//! ```text
//! "HYLL" | encoding u8 | 3 bytes | estimate u64, top bit set: out of date | registers
//! ```
//!
//! An element's hash chooses one of 16,384 registers, which keeps the longest run of zeros seen in the rest of the
//! hashes. Dense registers have six bits each, the first lowest; sparse ones are runs (`sparse.rs`). The estimate is Otmar
//! Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches", 2017), as in `hyperloglog.c`.

mod sparse;
#[cfg(test)]
mod tests;

pub use sparse::Runs;

/// Registers of a value.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// The highest register that a hash gives.
const COUNT_MAX: usize = 64 - INDEX_BITS as usize + 1;
const REGISTER_BITS: usize = 6;
const REGISTER_MAX: u8 = 63;
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;
const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// Where the estimate's top byte is.
const VALID_AT: usize = 15;
const OUT_OF_DATE: u8 = 0x80;
/// Redis's hll-sparse-max-bytes: longer ones become dense.
const SPARSE_BYTES_MAX: usize = 3000;

/// The registers contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// All registers, a byte each.
pub type Registers = Box<[u8; REGISTERS]>;

/// Whether a string is a HyperLogLog, as far as its header and length say.
pub fn is_valid(value: &[u8]) -> bool {
    value.len() >= HEADER_BYTES
        && value.starts_with(b"HYLL")
        && match value[ENCODING_AT] {
            DENSE => value.len() == DENSE_BYTES,
            SPARSE => true,
            _ => false,
        }
}

/// One that has seen nothing.
pub fn empty() -> Vec<u8> {
    let mut value = vec![0; HEADER_BYTES];
    value[..ENCODING_AT].copy_from_slice(b"HYLL");
    value[ENCODING_AT] = SPARSE;
    sparse::write_zeros(&mut value, REGISTERS);
    value
}

/// Whether the registers are dense.
pub fn is_dense(value: &[u8]) -> bool {
    value[ENCODING_AT] == DENSE
}

/// The register that an element raises, and to what.
pub fn position(element: &[u8]) -> (usize, u8) {
    const SEED: u64 = 0xadc8_3b19;
    let hash = murmur(element, SEED);
    let rest = hash >> INDEX_BITS | 1 << (64 - INDEX_BITS);
    (hash as usize & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// Raises a register to at least `count`; whether it was lower. A dense value keeps its length.
pub fn raise(value: &mut Vec<u8>, index: usize, count: u8) -> Result<bool, Corrupt> {
    if is_dense(value) {
        return Ok(raise_dense(value, index, count));
    }
    if let Some(raised) = sparse::raise(value, index, count, SPARSE_BYTES_MAX)? {
        return Ok(raised);
    }
    make_dense(value)?;
    Ok(raise_dense(value, index, count))
}

/// The same for a value that is dense.
pub fn raise_dense(value: &mut [u8], index: usize, count: u8) -> bool {
    let registers = &mut value[HEADER_BYTES..];
    if dense(registers, index) >= count {
        return false;
    }
    set_dense(registers, index, count);
    true
}

/// Notes that the kept estimate is out of date.
pub fn invalidate(value: &mut [u8]) {
    value[VALID_AT] |= OUT_OF_DATE;
}

/// The kept estimate, if it isn't out of date.
pub fn kept_estimate(value: &[u8]) -> Option<u64> {
    let bytes = value[HEADER_BYTES - 8..HEADER_BYTES].try_into().ok()?;
    (value[VALID_AT] & OUT_OF_DATE == 0).then_some(u64::from_le_bytes(bytes))
}

/// Keeps an estimate.
pub fn keep_estimate(value: &mut [u8], estimate: u64) {
    value[HEADER_BYTES - 8..HEADER_BYTES].copy_from_slice(&estimate.to_le_bytes());
}

/// Makes the registers dense, if they aren't.
pub fn make_dense(value: &mut Vec<u8>) -> Result<(), Corrupt> {
    if is_dense(value) {
        return Ok(());
    }
    let mut wide = vec![0; DENSE_BYTES];
    wide[..HEADER_BYTES].copy_from_slice(&value[..HEADER_BYTES]);
    wide[ENCODING_AT] = DENSE;
    for run in runs(value).checked()? {
        for index in run.first..run.first + run.len {
            set_dense(&mut wide[HEADER_BYTES..], index, run.count);
        }
    }
    *value = wide;
    Ok(())
}

/// The runs of a sparse value.
pub fn runs(value: &[u8]) -> Runs<'_> {
    Runs::new(&value[HEADER_BYTES..])
}

/// All registers at zero.
pub fn no_registers() -> Registers {
    vec![0; REGISTERS].try_into().expect("the length is the array's")
}

/// Raises `registers` to those of a value.
pub fn merge(registers: &mut Registers, value: &[u8]) -> Result<(), Corrupt> {
    if is_dense(value) {
        for (index, register) in registers.iter_mut().enumerate() {
            *register = (*register).max(dense(&value[HEADER_BYTES..], index));
        }
        return Ok(());
    }
    for run in runs(value).checked()? {
        for register in &mut registers[run.first..run.first + run.len] {
            *register = (*register).max(run.count);
        }
    }
    Ok(())
}

/// How many different elements raised these registers, probably.
pub fn estimate(registers: &Registers) -> u64 {
    /// `1 / (2 ln 2)`
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let mut histogram = [0u32; REGISTER_MAX as usize + 1];
    for register in registers.iter() {
        histogram[usize::from(*register & REGISTER_MAX)] += 1;
    }
    let all = REGISTERS as f64;
    let full = (all - f64::from(histogram[COUNT_MAX])) / all;
    let mut sum = all * tau(full);
    for count in histogram[1..COUNT_MAX].iter().rev() {
        sum += f64::from(*count);
        sum *= 0.5;
    }
    sum += all * sigma(f64::from(histogram[0]) / all);
    (ALPHA * all * all / sum).round() as u64
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// Register `index` of the bytes behind a dense value's header.
fn dense(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let next = registers.get(byte + 1).copied().unwrap_or_default();
    let pair = u16::from(registers[byte]) | u16::from(next) << 8;
    (pair >> shift) as u8 & REGISTER_MAX
}

fn set_dense(registers: &mut [u8], index: usize, count: u8) {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let (mask, bits) = (u16::from(REGISTER_MAX) << shift, u16::from(count) << shift);
    registers[byte] = registers[byte] & !(mask as u8) | bits as u8;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = *next & !((mask >> 8) as u8) | (bits >> 8) as u8;
    }
}

/// MurmurHash64A, little-endian.
fn murmur(text: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (text.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}
