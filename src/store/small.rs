//! A packed collection some of whose members may end by themselves. Sets pack members, hashes and sorted sets pairs;
//! which, it's told as a stride. Knows nothing of keys or clients.
//!
//! As long as no member has a deadline it is the packed blob and nothing more. Deadlines stand in a blob of their own,
//! member and milliseconds in turn: such a collection is small, so finding one is a walk.

use std::ops::{Deref, DerefMut};

use super::element::Element;
use super::packed::Packed;
use super::table::Table;

/// No member ends.
pub const NEVER: u64 = u64::MAX;

/// The latest time a member's deadline can be, in milliseconds since the epoch; Redis's limit.
pub const MEMBER_DEADLINE_MAX: u64 = (1 << 48) - 1;

/// Packed members.
#[derive(Clone, Debug)]
pub enum Small {
    Plain(Packed),
    Timed(Box<Timed>),
}

/// Packed members, some with deadlines.
#[derive(Clone, Debug)]
pub struct Timed {
    packed: Packed,
    /// Member, milliseconds since the epoch.
    deadlines: Packed,
    /// No member ends before this. It rises only in [`Small::take_due`], so that an index over collections can rely on it.
    earliest_ms: u64,
}

impl Default for Small {
    fn default() -> Small {
        Small::Plain(Packed::new())
    }
}

impl Deref for Small {
    type Target = Packed;

    #[inline]
    fn deref(&self) -> &Packed {
        match self {
            Small::Plain(packed) => packed,
            Small::Timed(timed) => &timed.packed,
        }
    }
}

impl DerefMut for Small {
    #[inline]
    fn deref_mut(&mut self) -> &mut Packed {
        match self {
            Small::Plain(packed) => packed,
            Small::Timed(timed) => &mut timed.packed,
        }
    }
}

impl Small {
    /// Whether any member has, or lately had, a deadline.
    pub fn is_timed(&self) -> bool {
        matches!(self, Small::Timed(_))
    }

    /// The members without their deadlines.
    pub fn into_packed(self) -> Packed {
        match self {
            Small::Plain(packed) => packed,
            Small::Timed(timed) => timed.packed,
        }
    }

    /// Heap bytes held.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Small::Plain(packed) => packed.memory_bytes(),
            Small::Timed(timed) => {
                size_of::<Timed>() + timed.packed.memory_bytes() + timed.deadlines.memory_bytes()
            }
        }
    }

    /// When a member ends, if it does; the member is there.
    pub fn deadline(&self, member: &[u8]) -> Option<u64> {
        let Small::Timed(timed) = self else { return None };
        let at = timed.deadlines.find(Element::of(member), 2)?;
        timed.deadlines.next(at).and_then(|(_, after)| milliseconds(&timed.deadlines, after))
    }

    /// All deadlines with their members.
    pub fn deadlines(&self) -> impl Iterator<Item = (Element<'_>, u64)> {
        let deadlines = match self {
            Small::Plain(_) => None,
            Small::Timed(timed) => Some(&timed.deadlines),
        };
        let mut elements = deadlines.into_iter().flat_map(Packed::iter);
        std::iter::from_fn(move || {
            let member = elements.next()?;
            Some((member, elements.next()?.integer()? as u64))
        })
    }

    /// Gives a member that is there a deadline, or none.
    pub fn set_deadline(&mut self, member: &[u8], at_ms: Option<u64>) {
        self.forget(member);
        let Some(at_ms) = at_ms else { return };
        let timed = self.timed();
        timed.earliest_ms = timed.earliest_ms.min(at_ms);
        timed.deadlines.push_back(Element::of(member));
        timed.deadlines.push_back(Element::Integer(at_ms as i64));
    }

    /// Takes a member's deadline away, because the member is gone or shall stay.
    #[inline]
    pub fn forget(&mut self, member: &[u8]) {
        if let Small::Timed(timed) = self {
            timed.forget(member);
        }
    }

    /// No member ends before this; [`NEVER`] if none does.
    #[inline]
    pub fn earliest_ms(&self) -> u64 {
        match self {
            Small::Plain(_) => NEVER,
            Small::Timed(timed) => timed.earliest_ms,
        }
    }

    /// Removes the members that have ended at `now_ms`, each with what follows it in its stride, and tells which; how many.
    pub fn take_due(&mut self, now_ms: u64, stride: usize, gone: &mut dyn FnMut(&[u8])) -> usize {
        let due: Vec<Vec<u8>> = self
            .deadlines()
            .filter(|(_, at_ms)| *at_ms <= now_ms)
            .map(|(member, _)| member.to_vec())
            .collect();
        for member in &due {
            gone(member);
            if let Some(at) = self.find(Element::of(member), stride) {
                self.remove(at, stride);
            }
            self.forget(member);
        }
        self.shrink();
        let earliest_ms = self.deadlines().map(|(_, at_ms)| at_ms).min().unwrap_or(NEVER);
        if let Small::Timed(timed) = self {
            timed.earliest_ms = earliest_ms;
            if earliest_ms == NEVER {
                *self = Small::Plain(std::mem::take(&mut timed.packed));
            }
        }
        due.len()
    }

    fn timed(&mut self) -> &mut Timed {
        if let Small::Plain(packed) = self {
            let (packed, deadlines) = (std::mem::take(packed), Packed::new());
            *self = Small::Timed(Box::new(Timed { packed, deadlines, earliest_ms: NEVER }));
        }
        match self {
            Small::Timed(timed) => timed,
            Small::Plain(_) => unreachable!("it was just made timed"),
        }
    }
}

impl Timed {
    fn forget(&mut self, member: &[u8]) {
        if let Some(at) = self.deadlines.find(Element::of(member), 2) {
            self.deadlines.remove(at, 2);
        }
    }
}

fn milliseconds(deadlines: &Packed, at: usize) -> Option<u64> {
    let (element, _) = deadlines.next(at)?;
    element.integer().map(|value| value as u64)
}

impl Table {
    /// Gives a member that is there a deadline, or none.
    pub fn set_deadline(&mut self, member: &[u8], at_ms: Option<u64>) {
        if let Some(place) = self.locate(member, self.hasher().hash(member)) {
            self.set_expires_ms(place, at_ms);
        }
    }

    /// Takes over the deadlines of a small collection that has grown into this table, and its bound.
    pub fn adopt_deadlines(&mut self, small: &Small) {
        for (member, at_ms) in small.deadlines() {
            self.set_deadline(member.text(&mut itoa::Buffer::new()), Some(at_ms));
        }
        if small.is_timed() {
            self.lower_earliest(small.earliest_ms());
        }
    }
}
