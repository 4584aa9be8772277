//! A HyperLogLog's sparse registers: runs of equal ones, in Redis's form.
//!
//! ```text
//! 00llllll             l+1 registers at 0
//! 01llllll llllllll    l+1 registers at 0
//! 1vvvvvll             l+1 registers at v+1
//! ```
//!
//! Which runs there are after a register was raised is part of the form: it is done as Redis does it.

use super::{Corrupt, HEADER_BYTES, REGISTERS};

const SHORT_ZEROS_MAX: usize = 64;
const VALUE_MAX: u8 = 32;
const VALUES_MAX: usize = 4;
/// Runs that are looked at for neighbours that can be one.
const JOINS_MAX: usize = 5;

/// Registers that follow each other and are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first register.
    pub first: usize,
    /// How many.
    pub len: usize,
    /// What they are at.
    pub count: u8,
    /// Bytes it takes.
    pub bytes: usize,
}

/// The runs in order, as they are written.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    rest: &'a [u8],
    first: usize,
}

impl<'a> Runs<'a> {
    /// The runs in the bytes behind a header.
    pub fn new(rest: &'a [u8]) -> Runs<'a> {
        Runs { rest, first: 0 }
    }

    /// The same, if they are exactly as many registers as there must be.
    pub fn checked(self) -> Result<Runs<'a>, Corrupt> {
        let covers = self.map(|run| run.len).try_fold(0, |sum: usize, len| {
            let sum = sum + len;
            (sum <= REGISTERS).then_some(sum)
        });
        if covers == Some(REGISTERS) { Ok(self) } else { Err(Corrupt) }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let head = *self.rest.first()?;
        let low = usize::from(head & 0x3f);
        let (len, count, bytes) = match head >> 6 {
            0 => (low + 1, 0, 1),
            // A second byte that isn't there: no register more than the first byte says.
            1 => {
                ((low << 8 | usize::from(self.rest.get(1).copied().unwrap_or_default())) + 1, 0, 2)
            }
            _ => (usize::from(head & 3) + 1, (head >> 2 & 0x1f) + 1, 1),
        };
        let run = Run { first: self.first, len, count, bytes };
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        self.first += len;
        Some(run)
    }
}

/// Writes registers at zero.
pub fn write_zeros(out: &mut Vec<u8>, len: usize) {
    if len > SHORT_ZEROS_MAX {
        out.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
    } else if len > 0 {
        out.push((len - 1) as u8);
    }
}

fn write_values(out: &mut Vec<u8>, count: u8, len: usize) {
    if len > 0 {
        out.push(values(count, len));
    }
}

fn values(count: u8, len: usize) -> u8 {
    0x80 | (count - 1) << 2 | (len - 1) as u8
}

/// Raises a register of a sparse value; `None` if that takes the dense form.
pub fn raise(
    value: &mut Vec<u8>,
    index: usize,
    count: u8,
    bytes_max: usize,
) -> Result<Option<bool>, Corrupt> {
    if count > VALUE_MAX {
        return Ok(None);
    }
    // The run that holds the register, where it begins, and where the one before it begins.
    let (mut at, mut before) = (HEADER_BYTES, HEADER_BYTES);
    let mut found = None;
    for run in Runs::new(&value[HEADER_BYTES..]) {
        if index < run.first + run.len {
            found = Some(run);
            break;
        }
        before = at;
        at += run.bytes;
    }
    // The last run may lack its second byte.
    let run = found.filter(|run| at + run.bytes <= value.len()).ok_or(Corrupt)?;
    if run.count >= count {
        return Ok(Some(false));
    }
    if run.len == 1 && run.bytes == 1 {
        value[at] = values(count, 1);
    } else {
        let mut runs = Vec::new();
        let (head, tail) = (index - run.first, run.first + run.len - 1 - index);
        let write = |runs: &mut Vec<u8>, len| match run.count {
            0 => write_zeros(runs, len),
            count => write_values(runs, count, len),
        };
        write(&mut runs, head);
        write_values(&mut runs, count, 1);
        write(&mut runs, tail);
        if runs.len() > run.bytes && value.len() + runs.len() - run.bytes > bytes_max {
            return Ok(None);
        }
        value.splice(at..at + run.bytes, runs);
    }
    join(value, before);
    Ok(Some(true))
}

/// Makes neighbours with equal values one, in a few runs from a place on.
fn join(value: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINS_MAX {
        let Some(run) = value.get(at..).and_then(|rest| Runs::new(rest).next()) else { return };
        let next = value.get(at + run.bytes..).and_then(|rest| Runs::new(rest).next());
        let joined = next.filter(|next| run.count > 0 && next.count == run.count);
        match joined.map(|next| run.len + next.len).filter(|len| *len <= VALUES_MAX) {
            Some(len) => {
                value[at] = values(run.count, len);
                value.remove(at + 1);
            }
            None => at += run.bytes,
        }
    }
}
