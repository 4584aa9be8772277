//! Entries of a stream packed one after the other, in the form of Redis's stream nodes (`t_stream.c`): elements of a
//! listpack, so that DUMP can hand them over.
//!
//! ```text
//! fields of the first entry:  count | field ... | 0
//! then each entry:            flags | ms, seq above the node's first id | [count] | [field] value ... | elements of it
//! ```
//!
//! An entry with the first one's fields has only values. A deleted entry is marked; the node goes with its last entry.
//! How many there are, which Redis has in front, are fields of [`Node`].

use super::StreamId;
use crate::store::element::{Element, Encoded, decode, decode_back};

/// The entry is deleted.
const DELETED: i64 = 1;
/// The entry has the fields of the node's first one.
const SAME_FIELDS: i64 = 2;
/// Bytes of Redis's node around the elements here: a listpack's header and end.
const FRAME_BYTES: usize = 7;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The id of its first entry when it was made.
    pub first: StreamId,
    live: u32,
    deleted: u32,
    /// How many fields the first entry had.
    fields: u32,
    /// Where the entries begin.
    entries_at: u32,
    bytes: Vec<u8>,
}

/// An entry where it lies.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    /// Its id.
    pub id: StreamId,
    node: &'a Node,
    flags: i64,
    fields: usize,
    /// Where it begins.
    start: usize,
    /// Where its fields or values begin.
    body: usize,
    /// Where the next one begins.
    end: usize,
}

impl Node {
    /// A node for entries from `first` on with those fields.
    pub fn new<'a>(first: StreamId, fields: impl Iterator<Item = &'a [u8]>) -> Node {
        let fields: Vec<Element<'_>> = fields.map(Element::of).collect();
        Node::with_fields(first, &fields)
    }

    fn with_fields(first: StreamId, fields: &[Element<'_>]) -> Node {
        let count = fields.len();
        let mut node = Node {
            first,
            live: 0,
            deleted: 0,
            fields: count as u32,
            entries_at: 0,
            bytes: Vec::new(),
        };
        node.push_integer(count as i64);
        fields.iter().for_each(|field| node.push(*field));
        node.push_integer(0);
        node.entries_at = node.bytes.len() as u32;
        node
    }

    /// A node of these elements of a listpack, if they make a sound one.
    pub fn from_elements(first: StreamId, elements: &[Element<'_>]) -> Option<Node> {
        let mut rest = elements.iter().copied();
        let mut count = || usize::try_from(rest.next()?.integer()?).ok();
        let (live, deleted, fields) = (count()?, count()?, count()?);
        let fields: Vec<Element<'_>> = rest.by_ref().take(fields).collect();
        if live == 0 || rest.next()?.integer()? != 0 {
            return None;
        }
        let mut node = Node::with_fields(first, &fields);
        let mut last_id = None;
        for _ in 0..live.checked_add(deleted)? {
            let start = node.bytes.len();
            node.push_entry(&mut rest, fields.len())?;
            let id = Some(node.at(start)?.id);
            if id <= last_id {
                return None;
            }
            last_id = id;
        }
        let sound =
            rest.next().is_none() && node.live() == live && node.entries() == live + deleted;
        sound.then_some(node)
    }

    /// Takes the elements of one entry in, if they make one.
    fn push_entry<'e>(
        &mut self,
        rest: &mut impl Iterator<Item = Element<'e>>,
        fields: usize,
    ) -> Option<()> {
        let mut integer = || rest.next()?.integer();
        let (flags, ms, seq) = (integer()?, integer()?, integer()?);
        if !(0..=DELETED | SAME_FIELDS).contains(&flags) {
            return None;
        }
        [flags, ms, seq].into_iter().for_each(|number| self.push_integer(number));
        let mut elements = fields;
        if flags & SAME_FIELDS == 0 {
            let count = rest.next()?.integer()?;
            self.push_integer(count);
            elements = usize::try_from(count).ok()?.checked_mul(2)?;
        }
        for _ in 0..elements {
            self.push(rest.next()?);
        }
        let extra = if flags & SAME_FIELDS == 0 { 4 } else { 3 };
        let size = rest.next()?.integer()?;
        if usize::try_from(size).ok()? != elements + extra {
            return None;
        }
        self.push_integer(size);
        match flags & DELETED {
            0 => self.live += 1,
            _ => self.deleted += 1,
        }
        Some(())
    }

    /// The node as Redis has it.
    pub fn to_listpack(&self) -> Vec<u8> {
        let mut counts = Vec::new();
        push(&mut counts, Element::Integer(i64::from(self.live)));
        push(&mut counts, Element::Integer(i64::from(self.deleted)));
        let (mut elements, mut at) = (2, 0);
        while at < self.bytes.len() {
            at = self.element(at).1;
            elements += 1;
        }
        let bytes = FRAME_BYTES + counts.len() + self.bytes.len();
        let mut blob = Vec::with_capacity(bytes);
        blob.extend_from_slice(&(bytes as u32).to_le_bytes());
        // All ones: more than the field can say, count them.
        blob.extend_from_slice(&u16::try_from(elements).unwrap_or(u16::MAX).to_le_bytes());
        blob.extend_from_slice(&counts);
        blob.extend_from_slice(&self.bytes);
        blob.push(0xff);
        blob
    }

    /// Entries that are there.
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// Entries that are there or were.
    pub fn entries(&self) -> usize {
        (self.live + self.deleted) as usize
    }

    /// Bytes of Redis's node.
    pub fn packed_bytes(&self) -> usize {
        let count = |value: u32| Encoded::new(Element::Integer(i64::from(value))).total();
        FRAME_BYTES + count(self.live) + count(self.deleted) + self.bytes.len()
    }

    /// Heap bytes held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives room back that no entry will need.
    pub fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// The place of the first entry.
    pub fn start(&self) -> usize {
        self.entries_at as usize
    }

    /// The place behind the last entry.
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// Appends an entry of fields and values in turn.
    pub fn append<'a>(&mut self, id: StreamId, pairs: impl Iterator<Item = &'a [u8]> + Clone) {
        let count = pairs.clone().count() / 2;
        let same = count == self.fields as usize && self.has_fields(pairs.clone().step_by(2));
        self.push_integer(if same { SAME_FIELDS } else { 0 });
        self.push_integer(id.ms.wrapping_sub(self.first.ms) as i64);
        self.push_integer(id.seq.wrapping_sub(self.first.seq) as i64);
        if same {
            pairs.skip(1).step_by(2).for_each(|value| self.push(Element::of(value)));
            self.push_integer(count as i64 + 3);
        } else {
            self.push_integer(count as i64);
            pairs.for_each(|text| self.push(Element::of(text)));
            self.push_integer(2 * count as i64 + 4);
        }
        self.live += 1;
    }

    fn has_fields<'a>(&self, fields: impl Iterator<Item = &'a [u8]>) -> bool {
        let (_, mut at) = self.element(0);
        for field in fields {
            let (element, after) = self.element(at);
            if element != Element::of(field) {
                return false;
            }
            at = after;
        }
        true
    }

    fn push(&mut self, element: Element<'_>) {
        push(&mut self.bytes, element);
    }

    fn push_integer(&mut self, value: i64) {
        self.push(Element::Integer(value));
    }

    fn element(&self, at: usize) -> (Element<'_>, usize) {
        decode(&self.bytes, at).expect("a node holds whole entries")
    }

    fn integer(&self, at: usize) -> (i64, usize) {
        let (element, after) = self.element(at);
        (element.integer().expect("counts and ids are integers"), after)
    }

    /// The entry at a place, if it isn't the end.
    pub fn at(&self, start: usize) -> Option<StreamEntry<'_>> {
        if start >= self.end() {
            return None;
        }
        let (flags, at) = self.integer(start);
        let (ms, at) = self.integer(at);
        let (seq, at) = self.integer(at);
        let id = StreamId {
            ms: self.first.ms.wrapping_add_signed(ms),
            seq: self.first.seq.wrapping_add_signed(seq),
        };
        let (fields, body, elements) = if flags & SAME_FIELDS != 0 {
            (self.fields as usize, at, self.fields as usize)
        } else {
            let (count, at) = self.integer(at);
            (count as usize, at, count as usize * 2)
        };
        // One more: the count of elements at its end.
        let end = (0..=elements).fold(body, |at, _| self.element(at).1);
        Some(StreamEntry { id, node: self, flags, fields, start, body, end })
    }

    /// The entry that ends at a place, if that isn't the start.
    pub fn before(&self, end: usize) -> Option<StreamEntry<'_>> {
        if end <= self.start() {
            return None;
        }
        let back = |at: usize| decode_back(&self.bytes, at).expect("a node holds whole entries");
        let at = back(end);
        let (elements, _) = self.integer(at);
        self.at((0..elements).fold(at, |at, _| back(at)))
    }

    /// The id of the last entry, deleted or not.
    pub fn last_id(&self) -> StreamId {
        self.before(self.end()).map_or(self.first, |entry| entry.id)
    }

    fn walk(&self) -> impl Iterator<Item = StreamEntry<'_>> {
        std::iter::successors(self.at(self.start()), |entry| self.at(entry.end))
    }

    /// Marks the entry with that id; whether it was there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let found = self.walk().find(|entry| entry.id >= id && !entry.is_deleted());
        match found.filter(|entry| entry.id == id).map(|entry| entry.start) {
            Some(start) => {
                self.mark(start);
                true
            }
            None => false,
        }
    }

    /// Marks the oldest `count`; returns how many that were.
    pub fn delete_oldest(&mut self, count: u64) -> u64 {
        let live = self.walk().filter(|entry| !entry.is_deleted());
        let doomed = live.take(count as usize).map(|entry| entry.start).collect();
        self.mark_all(doomed)
    }

    /// Marks those below the id; returns how many that were.
    pub fn delete_below(&mut self, id: StreamId) -> u64 {
        let below = self.walk().take_while(|entry| entry.id < id);
        let doomed = below.filter(|entry| !entry.is_deleted()).map(|entry| entry.start).collect();
        self.mark_all(doomed)
    }

    fn mark_all(&mut self, places: Vec<usize>) -> u64 {
        places.iter().for_each(|start| self.mark(*start));
        places.len() as u64
    }

    /// Sets the bit in the flags, which are a small integer of one byte.
    fn mark(&mut self, start: usize) {
        self.bytes[start] |= DELETED as u8;
        self.live -= 1;
        self.deleted += 1;
    }
}

fn push(bytes: &mut Vec<u8>, element: Element<'_>) {
    let encoded = Encoded::new(element);
    let start = bytes.len();
    bytes.resize(start + encoded.total(), 0);
    encoded.write(&mut bytes[start..]);
}

impl<'a> StreamEntry<'a> {
    /// How many pairs of field and value.
    pub fn len(&self) -> usize {
        self.fields
    }

    /// Whether it has no fields; XADD makes none such.
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// Whether it only marks where an entry was.
    pub fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// Its place in its node.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The place behind it.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Its fields and values.
    pub fn pairs(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> + use<'a> {
        let node = self.node;
        let same = self.flags & SAME_FIELDS != 0;
        let mut field_at = if same { node.element(0).1 } else { 0 };
        let mut at = self.body;
        (0..self.fields).map(move |_| {
            let (field, after) = node.element(if same { field_at } else { at });
            if same {
                field_at = after;
            } else {
                at = after;
            }
            let (value, after) = node.element(at);
            at = after;
            (field, value)
        })
    }
}
