//! The list value: one packed blob while it is small, then a deque of packed nodes. Knows nothing of keys, clients or
//! replies.
//!
//! The nodes' memory is allocated whole. A node made for pushes to the front fills backwards, so LPUSH and LPOP at the
//! head, and RPUSH and RPOP at the tail, move no memory; a node that is popped empty is kept for the next one that is
//! needed. Everything by index walks the nodes' counts from the nearer end, as Redis's quicklist does.

use std::collections::VecDeque;

use super::element::{Element, Encoded};
use super::packed::Packed;
use super::thresholds::Thresholds;

/// Bytes of a listpack's header and end, which Redis counts when it compares a list with its threshold.
const LISTPACK_BYTES: usize = 7;

/// A list.
#[derive(Clone, Debug, Default)]
pub struct List {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Small(Packed),
    Big(Box<Nodes>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Small(Packed::new())
    }
}

/// One end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

impl List {
    /// An empty one.
    pub fn new() -> List {
        List::default()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(packed) => packed.len(),
            Form::Big(nodes) => nodes.len,
        }
    }

    /// How many packed nodes it has.
    pub fn nodes(&self) -> usize {
        match &self.form {
            Form::Small(_) => 1,
            Form::Big(nodes) => nodes.nodes.len(),
        }
    }

    /// Whether there are none; such a key is removed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Small(_) => "listpack",
            Form::Big(_) => "quicklist",
        }
    }

    /// Heap bytes held, roughly.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Small(packed) => packed.memory_bytes(),
            Form::Big(nodes) => {
                let blobs: usize = nodes.nodes.iter().map(Packed::memory_bytes).sum();
                size_of::<Nodes>() + nodes.nodes.capacity() * size_of::<Packed>() + blobs
            }
        }
    }

    /// Makes the list ready for elements of `text_bytes` in all: past the threshold it becomes a deque of nodes.
    #[inline]
    pub fn expect(&mut self, text_bytes: usize, thresholds: &Thresholds) {
        if let Form::Small(packed) = &mut self.form
            && (packed.bytes() + LISTPACK_BYTES + text_bytes > thresholds.list_bytes
                || packed.len() >= thresholds.list_elements)
        {
            self.form = Form::Big(Box::new(Nodes::of(std::mem::take(packed))));
        }
    }

    /// After removals: a single node at most half full is a small list again.
    #[inline]
    pub fn settle(&mut self, thresholds: &Thresholds) {
        match &mut self.form {
            Form::Small(packed) => packed.shrink(),
            Form::Big(nodes) => {
                if nodes.nodes.len() == 1
                    && nodes.nodes[0].bytes() + LISTPACK_BYTES <= thresholds.list_bytes / 2
                    && nodes.nodes[0].len() <= thresholds.list_elements / 2
                {
                    let mut packed = std::mem::take(&mut nodes.nodes[0]);
                    packed.shrink();
                    self.form = Form::Small(packed);
                }
            }
        }
    }

    /// Adds an element at one end. The caller has called [`List::expect`].
    #[inline]
    pub fn push(&mut self, end: End, text: &[u8], thresholds: &Thresholds) {
        let element = Element::of(text);
        if self.len() >= thresholds.list_elements {
            self.expect(text.len(), thresholds);
        }
        match (&mut self.form, end) {
            (Form::Small(packed), End::Front) => packed.push_front(element),
            (Form::Small(packed), End::Back) => packed.push_back(element),
            (Form::Big(nodes), _) => nodes.push(end, element, thresholds.list_bytes),
        }
    }

    /// Removes the element at one end after `look` has seen it. [`List::settle`] follows the last removal of a command.
    #[inline]
    pub fn pop<R>(&mut self, end: End, look: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        match (&mut self.form, end) {
            (Form::Small(packed), End::Front) => packed.pop_front(look),
            (Form::Small(packed), End::Back) => packed.pop_back(look),
            (Form::Big(nodes), _) => nodes.pop(end, look),
        }
    }

    /// The element at an index.
    pub fn at(&self, index: usize) -> Option<Element<'_>> {
        let (packed, inner) = match &self.form {
            Form::Small(packed) => (packed, index),
            Form::Big(nodes) => {
                let (node, inner) = nodes.locate(index)?;
                (&nodes.nodes[node], inner)
            }
        };
        packed.next(packed.seek(inner)?).map(|(element, _)| element)
    }

    /// Overwrites the element at an index, which must exist.
    pub fn set(&mut self, index: usize, text: &[u8], thresholds: &Thresholds) {
        self.expect(text.len(), thresholds);
        match &mut self.form {
            Form::Small(packed) => replace(packed, index, text),
            Form::Big(nodes) => {
                if let Some((node, inner)) = nodes.locate(index) {
                    replace(&mut nodes.nodes[node], inner, text);
                    nodes.halve_if_over(node, thresholds.list_bytes);
                }
            }
        }
        self.settle(thresholds);
    }

    /// Puts an element before the one at an index, or at the end.
    pub fn insert(&mut self, index: usize, text: &[u8], thresholds: &Thresholds) {
        self.expect(text.len(), thresholds);
        let element = Element::of(text);
        match &mut self.form {
            Form::Small(packed) => {
                let at = packed.seek(index).unwrap_or(packed.bytes());
                packed.insert(at, [element]);
            }
            Form::Big(nodes) => nodes.insert(index, element, thresholds.list_bytes),
        }
    }

    /// Removes up to `limit` elements that equal `text`, searching from one end. Answers how many.
    pub fn remove_equal(&mut self, from: End, text: &[u8], limit: usize) -> usize {
        let needle = Element::of(text);
        let (first, second) = match &mut self.form {
            Form::Small(packed) => (std::slice::from_mut(packed), &mut [][..]),
            Form::Big(nodes) => nodes.nodes.as_mut_slices(),
        };
        let blobs = first.iter_mut().chain(second);
        let removed = match from {
            End::Front => remove_from_front(blobs, needle, limit),
            End::Back => remove_from_back(blobs, needle, limit),
        };
        if let Form::Big(nodes) = &mut self.form {
            nodes.len -= removed;
            nodes.nodes.retain(|node| !node.is_empty());
        }
        removed
    }

    /// Keeps `keep` elements from index `from` on.
    pub fn trim(&mut self, from: usize, keep: usize) {
        let len = self.len();
        self.drop_ends(from.min(len), len.saturating_sub(from.saturating_add(keep)));
    }

    fn drop_ends(&mut self, front: usize, back: usize) {
        match &mut self.form {
            Form::Small(packed) => {
                packed.remove(0, front);
                truncate(packed, back);
            }
            Form::Big(nodes) => {
                nodes.drop_front(front);
                nodes.drop_back(back);
            }
        }
    }

    /// All elements in order; double-ended.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Element<'_>> {
        let (first, second) = self.blobs();
        first.iter().chain(second).flat_map(Packed::iter)
    }

    /// `count` elements from index `from` on.
    pub fn range(&self, from: usize, count: usize) -> impl Iterator<Item = Element<'_>> {
        let (first, second) = self.blobs();
        let mut skip = from;
        let mut blobs = first.iter().chain(second);
        let head = blobs.find(|blob| {
            let here = skip < blob.len();
            skip -= if here { 0 } else { blob.len() };
            here
        });
        let head = head.and_then(|blob| Some(blob.iter_between(blob.seek(skip)?, blob.bytes())));
        head.into_iter().flatten().chain(blobs.flat_map(Packed::iter)).take(count)
    }

    /// The index of the first element that equals `text`.
    pub fn position(&self, text: &[u8]) -> Option<usize> {
        self.positions(text, false).next().map(|(index, _)| index)
    }

    /// The elements that equal `text`, each with its distance from the end where the search began.
    pub fn positions<'a>(
        &'a self,
        text: &'a [u8],
        backwards: bool,
    ) -> impl Iterator<Item = (usize, Element<'a>)> {
        let needle = Element::of(text);
        let (forwards, backwards) =
            if backwards { (None, Some(self.iter().rev())) } else { (Some(self.iter()), None) };
        let elements = forwards.into_iter().flatten().chain(backwards.into_iter().flatten());
        elements.enumerate().filter(move |(_, element)| *element == needle)
    }

    /// The nodes of the list in order, in two runs.
    pub(super) fn blobs(&self) -> (&[Packed], &[Packed]) {
        match &self.form {
            Form::Small(packed) => (std::slice::from_ref(packed), &[]),
            Form::Big(nodes) => nodes.nodes.as_slices(),
        }
    }
}

/// A list past its threshold. No node is empty.
#[derive(Clone, Debug)]
struct Nodes {
    nodes: VecDeque<Packed>,
    /// Elements in all nodes.
    len: usize,
    /// The last node that was popped empty.
    spare: Option<Packed>,
}

impl Nodes {
    fn of(packed: Packed) -> Nodes {
        let len = packed.len();
        let nodes = if packed.is_empty() { VecDeque::new() } else { VecDeque::from([packed]) };
        Nodes { nodes, len, spare: None }
    }

    #[inline]
    fn push(&mut self, end: End, element: Element<'_>, node_bytes: usize) {
        let encoded = Encoded::new(element);
        let bytes = encoded.total();
        self.len += 1;
        match end {
            End::Front => {
                if !self.nodes.front().is_some_and(|node| node.has_front_room(bytes)) {
                    let node = self.fresh(end, bytes.max(node_bytes));
                    self.nodes.push_front(node);
                }
                self.nodes[0].put_front(&encoded);
            }
            End::Back => {
                if !self.nodes.back().is_some_and(|node| node.has_back_room(bytes)) {
                    let node = self.fresh(end, bytes.max(node_bytes));
                    self.nodes.push_back(node);
                }
                let last = self.nodes.len() - 1;
                let node = &mut self.nodes[last];
                node.insert_encoded(node.bytes(), &[encoded]);
            }
        }
    }

    #[inline]
    fn pop<R>(&mut self, end: End, look: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let seen = match end {
            End::Front => self.nodes.front_mut()?.pop_front(look),
            End::Back => self.nodes.back_mut()?.pop_back(look),
        };
        self.len -= usize::from(seen.is_some());
        let popped = match end {
            End::Front => self.nodes.pop_front_if(|node| node.is_empty()),
            End::Back => self.nodes.pop_back_if(|node| node.is_empty()),
        };
        if popped.is_some() {
            self.spare = popped;
        }
        seen
    }

    /// An empty node with that much room.
    fn fresh(&mut self, end: End, bytes: usize) -> Packed {
        // A longer spare would be wasted on short elements: those of other sizes are let go.
        match (self.spare.take().filter(|spare| spare.memory_bytes() == bytes), end) {
            (Some(mut spare), End::Front) => {
                spare.clear_for_front();
                spare
            }
            (Some(mut spare), End::Back) => {
                spare.clear_for_back();
                spare
            }
            (None, End::Front) => Packed::for_front(bytes),
            (None, End::Back) => Packed::for_back(bytes),
        }
    }

    /// The node that holds an index, and the index inside of it.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut rest = index;
            for (node, blob) in self.nodes.iter().enumerate() {
                if rest < blob.len() {
                    return Some((node, rest));
                }
                rest -= blob.len();
            }
            return None;
        }
        let mut end = self.len;
        for (node, blob) in self.nodes.iter().enumerate().rev() {
            end -= blob.len();
            if index >= end {
                return Some((node, index - end));
            }
        }
        None
    }

    fn insert(&mut self, index: usize, element: Element<'_>, node_bytes: usize) {
        let Some((node, inner)) = self.locate(index) else {
            return self.push(End::Back, element, node_bytes);
        };
        self.len += 1;
        let blob = &mut self.nodes[node];
        let at = blob.seek(inner).expect("locate answers an index inside of the node");
        if blob.bytes() + Encoded::new(element).total() <= node_bytes {
            return blob.insert(at, [element]);
        }
        let tail = blob.split_off(at, blob.len() - inner);
        let mut middle = Packed::new();
        middle.push_back(element);
        self.nodes.insert(node + 1, tail);
        self.nodes.insert(node + 1, middle);
        self.join(node + 1, node_bytes);
        self.join(node, node_bytes);
        self.nodes.retain(|node| !node.is_empty());
    }

    /// Puts a node and the next one together if they fit.
    fn join(&mut self, node: usize, node_bytes: usize) {
        if self.nodes[node].bytes() + self.nodes[node + 1].bytes() <= node_bytes
            && let Some(next) = self.nodes.remove(node + 1)
        {
            self.nodes[node].append(&next);
        }
    }

    fn halve_if_over(&mut self, node: usize, node_bytes: usize) {
        let blob = &mut self.nodes[node];
        if blob.bytes() > node_bytes && blob.len() > 1 {
            let half = blob.len() / 2;
            let at = blob.seek(half).expect("half of the node's own count");
            let tail = blob.split_off(at, blob.len() - half);
            self.nodes.insert(node + 1, tail);
        }
    }

    fn drop_front(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(node) = self.nodes.pop_front_if(|node| node.len() <= count) {
            count -= node.len();
        }
        if let Some(node) = self.nodes.front_mut() {
            node.remove(0, count);
        }
    }

    fn drop_back(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(node) = self.nodes.pop_back_if(|node| node.len() <= count) {
            count -= node.len();
        }
        if let Some(node) = self.nodes.back_mut() {
            truncate(node, count);
        }
    }
}

fn replace(packed: &mut Packed, index: usize, text: &[u8]) {
    if let Some(at) = packed.seek(index) {
        packed.replace(at, Element::of(text));
    }
}

/// Removes the last `count` elements.
fn truncate(packed: &mut Packed, count: usize) {
    if let Some(at) = packed.seek(packed.len().saturating_sub(count)) {
        packed.remove_span(at, packed.bytes(), count.min(packed.len()));
    }
}

fn remove_from_front<'a>(
    blobs: impl Iterator<Item = &'a mut Packed>,
    needle: Element<'_>,
    limit: usize,
) -> usize {
    let mut removed = 0;
    for blob in blobs {
        removed += blob.remove_equal(needle, 0, limit - removed);
        if removed == limit {
            break;
        }
    }
    removed
}

fn remove_from_back<'a>(
    blobs: impl DoubleEndedIterator<Item = &'a mut Packed>,
    needle: Element<'_>,
    limit: usize,
) -> usize {
    let mut removed = 0;
    for blob in blobs.rev() {
        let equal = blob.count_equal(needle);
        let take = equal.min(limit - removed);
        removed += blob.remove_equal(needle, equal - take, take);
        if removed == limit {
            break;
        }
    }
    removed
}

#[cfg(test)]
mod tests;
