//! The order of a big sorted set: a counted B-tree whose leaves are pages of scores and members. Knows nothing of
//! tables or keys.
//!
//! Each child is kept with the number of pairs below it and the score of the first of them: so a rank is the sum of the
//! counts passed on the way down, and a search reads members only where scores are equal. The scores of a node's children
//! lie side by side, so a step down reads three cache lines. A pair costs 12 bytes and its member; a node-based tree or
//! skip list takes two pointers, a level and an allocation more. All is O(log n), with a binary search of one page (a
//! kilobyte and a half) at the end.

use std::ops::ControlFlow;

use super::super::element::Element;
use super::super::packed::Packed;
use super::leaf::{self, Cut, Visit};
use super::page::{self, Page};

/// A page past this is split.
const PAGE_BYTES_MAX: usize = if cfg!(test) { 150 } else { 1536 };
/// A node with more children is split.
const CHILDREN_MAX: usize = if cfg!(test) { 4 } else { 32 };

/// Pairs of score and member in order.
#[derive(Clone, Debug)]
pub struct Order {
    root: Node,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Page),
    Inner(Box<Inner>),
}

/// Children in order, each with the score of its first pair and the number of its pairs.
#[derive(Clone, Debug, Default)]
struct Inner {
    lows: Vec<f64>,
    counts: Vec<usize>,
    nodes: Vec<Node>,
}

impl Order {
    /// The pairs of a small sorted set.
    pub fn of(pairs: &Packed) -> Order {
        let mut order = Order { root: Node::Leaf(Page::default()) };
        let mut left = usize::MAX;
        // Nothing ends it early.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
            leaf::walk(pairs, 0, &mut left, false, &mut |member, score| {
                order.insert(score, member.text(&mut itoa::Buffer::new()));
                ControlFlow::Continue(())
            });
        order
    }

    /// Adds a pair whose member isn't there.
    pub fn insert(&mut self, score: f64, text: &[u8]) {
        if let Some(right) = self.root.insert(score, text) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Box::default()));
            let mut inner = Inner::default();
            inner.put(0, left);
            inner.put(1, right);
            self.root = Node::Inner(Box::new(inner));
        }
    }

    /// Asks for the memory that an insert of that score will need.
    pub fn hint(&self, score: f64) {
        let mut node = &self.root;
        while let Node::Inner(inner) = node {
            node = &inner.nodes[page::equal(&inner.lows, score).0.saturating_sub(1)];
        }
        if let Node::Leaf(page) = node {
            page.hint();
        }
    }

    /// Removes the pair of exactly that score and member; whether it was there.
    pub fn remove(&mut self, score: f64, text: &[u8]) -> bool {
        let removed = self.root.remove(score, text);
        while let Node::Inner(inner) = &mut self.root
            && inner.nodes.len() == 1
            && let Some(only) = inner.nodes.pop()
        {
            self.root = only;
        }
        removed
    }

    /// How many pairs lie before the cut.
    pub fn rank(&self, cut: Cut<'_>) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(page) => return rank + page.partition(cut),
                Node::Inner(inner) => {
                    let index = inner.descend(cut);
                    rank += inner.counts[..index].iter().sum::<usize>();
                    node = &inner.nodes[index];
                }
            }
        }
    }

    /// Shows up to `count` pairs from the `skip`-th on, from either end.
    pub fn walk(&self, skip: usize, count: usize, reverse: bool, visit: Visit<'_>) {
        let mut left = count;
        // Whether it was ended early is the visitor's own knowledge.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
            self.root.walk(skip, &mut left, reverse, visit);
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
    }
}

impl Inner {
    /// The child that the cut runs through: the last whose first pair lies before it, or the first.
    fn descend(&self, cut: Cut<'_>) -> usize {
        let (mut from, mut to) = match cut {
            Cut::Pair(score, _) | Cut::AfterPair(score, _) => page::equal(&self.lows, score),
            _ => (0, self.lows.len()),
        };
        while from < to {
            let middle = (from + to) / 2;
            if cut.is_behind(self.lows[middle], || self.nodes[middle].first_member()) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from.saturating_sub(1)
    }

    fn put(&mut self, index: usize, node: Node) {
        self.lows.insert(index, node.low());
        self.counts.insert(index, node.len());
        self.nodes.insert(index, node);
    }

    fn take(&mut self, index: usize) -> Node {
        self.lows.remove(index);
        self.counts.remove(index);
        self.nodes.remove(index)
    }

    fn refresh(&mut self, index: usize) {
        self.lows[index] = self.nodes[index].low();
        self.counts[index] = self.nodes[index].len();
    }

    fn insert(&mut self, score: f64, text: &[u8]) -> Option<Node> {
        let index = self.descend(Cut::Pair(score, text));
        match self.nodes[index].insert(score, text) {
            Some(right) => {
                self.refresh(index);
                self.put(index + 1, right);
            }
            None => {
                self.counts[index] += 1;
                self.lows[index] = self.lows[index].min(score);
            }
        }
        self.split(index + 1)
    }

    fn split(&mut self, inserted: usize) -> Option<Node> {
        let count = self.nodes.len();
        if count <= CHILDREN_MAX {
            return None;
        }
        let kept = if inserted == count - 1 { count - 1 } else { count / 2 };
        Some(Node::Inner(Box::new(Inner {
            lows: self.lows.split_off(kept),
            counts: self.counts.split_off(kept),
            nodes: self.nodes.split_off(kept),
        })))
    }

    fn remove(&mut self, score: f64, text: &[u8]) -> bool {
        let index = self.descend(Cut::AfterPair(score, text));
        if !self.nodes[index].remove(score, text) {
            return false;
        }
        self.counts[index] -= 1;
        if self.counts[index] == 0 {
            self.take(index);
        } else {
            self.lows[index] = self.nodes[index].low();
            self.join_neighbours(index);
        }
        true
    }

    /// Joins the child at `index` with the next or the one before, if they fit in half a node.
    fn join_neighbours(&mut self, index: usize) {
        for left in [index, index.wrapping_sub(1)] {
            if left >= self.nodes.len() || left + 1 >= self.nodes.len() {
                continue;
            }
            if self.nodes[left].fits_with(&self.nodes[left + 1]) {
                let right = self.take(left + 1);
                self.nodes[left].join(right);
                return self.refresh(left);
            }
        }
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(page) => page.len(),
            Node::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    fn low(&self) -> f64 {
        match self {
            Node::Leaf(page) => page.low(),
            Node::Inner(inner) => inner.lows.first().copied().unwrap_or_default(),
        }
    }

    fn first_member(&self) -> Option<Element<'_>> {
        match self {
            Node::Leaf(page) => page.first_member(),
            Node::Inner(inner) => inner.nodes.first()?.first_member(),
        }
    }

    /// Adds a pair; what the node was split into, if it was too full.
    fn insert(&mut self, score: f64, text: &[u8]) -> Option<Node> {
        match self {
            Node::Leaf(page) => {
                let index = page.insert(score, text);
                split_page(page, index)
            }
            Node::Inner(inner) => inner.insert(score, text),
        }
    }

    fn remove(&mut self, score: f64, text: &[u8]) -> bool {
        match self {
            Node::Leaf(page) => page.remove(score, text),
            Node::Inner(inner) => inner.remove(score, text),
        }
    }

    /// Whether both together are at most half full.
    fn fits_with(&self, next: &Node) -> bool {
        match (self, next) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.bytes() + right.bytes() <= PAGE_BYTES_MAX / 2
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.nodes.len() + right.nodes.len() <= CHILDREN_MAX / 2
            }
            _ => false,
        }
    }

    /// Puts `next`'s contents behind its own; both are of one depth.
    fn join(&mut self, next: Node) {
        match (self, next) {
            (Node::Leaf(left), Node::Leaf(right)) => left.append(&right),
            (Node::Inner(left), Node::Inner(right)) => {
                left.lows.extend(right.lows);
                left.counts.extend(right.counts);
                left.nodes.extend(right.nodes);
            }
            _ => unreachable!("neighbours are of one depth"),
        }
    }

    fn walk(
        &self,
        skip: usize,
        left: &mut usize,
        reverse: bool,
        visit: Visit<'_>,
    ) -> ControlFlow<()> {
        let inner = match self {
            Node::Leaf(page) => return page.walk(skip, left, reverse, visit),
            Node::Inner(inner) => inner,
        };
        let (mut skip, children) = (skip, inner.nodes.len());
        for step in 0..children {
            let index = if reverse { children - 1 - step } else { step };
            if skip >= inner.counts[index] {
                skip -= inner.counts[index];
                continue;
            }
            inner.nodes[index].walk(skip, left, reverse, visit)?;
            skip = 0;
            if *left == 0 {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Node::Leaf(page) => page.memory_bytes(),
            Node::Inner(inner) => {
                let below: usize = inner.nodes.iter().map(Node::memory_bytes).sum();
                let child = size_of::<f64>() + size_of::<usize>() + size_of::<Node>();
                size_of::<Inner>() + inner.nodes.capacity() * child + below
            }
        }
    }
}

/// Cuts a page that is too full in two; one that grew at its end stays full, as growing scores never come back to it.
fn split_page(page: &mut Page, inserted: usize) -> Option<Node> {
    let pairs = page.len();
    if page.bytes() <= PAGE_BYTES_MAX || pairs < 2 {
        return None;
    }
    let kept = if inserted == pairs - 1 { pairs - 1 } else { pairs / 2 };
    Some(Node::Leaf(page.split_off(kept)))
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::*;

    /// Depth, pairs and first score are what the parents say; nothing is empty or too full.
    fn check(node: &Node, depth: usize, is_root: bool) -> usize {
        match node {
            Node::Leaf(page) => {
                assert!(is_root || page.len() > 0);
                assert!(page.bytes() <= PAGE_BYTES_MAX || page.len() < 2);
                depth
            }
            Node::Inner(inner) => {
                let children = inner.nodes.len();
                assert!((1..=CHILDREN_MAX).contains(&children));
                assert_eq!((children, children), (inner.lows.len(), inner.counts.len()));
                let mut depths = Vec::new();
                for (index, child) in inner.nodes.iter().enumerate() {
                    let kept = (inner.counts[index], inner.lows[index]);
                    assert_eq!(kept, (child.len(), child.low()));
                    depths.push(check(child, depth + 1, false));
                }
                assert!(depths.windows(2).all(|pair| pair[0] == pair[1]), "{depths:?}");
                depths[0]
            }
        }
    }

    fn pairs(order: &Order, skip: usize, count: usize, reverse: bool) -> Vec<(f64, Vec<u8>)> {
        let mut pairs = Vec::new();
        order.walk(skip, count, reverse, &mut |member, score| {
            pairs.push((score, member.to_vec()));
            ControlFlow::Continue(())
        });
        pairs
    }

    fn rank_in(model: &[(f64, Vec<u8>)], cut: Cut<'_>) -> usize {
        model
            .iter()
            .take_while(|(score, text)| cut.is_behind(*score, || Some(Element::of(text))))
            .count()
    }

    #[test]
    fn random_pairs_agree_with_a_sorted_vector() {
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let (mut order, mut model) = (Order::of(&Packed::new()), Vec::<(f64, Vec<u8>)>::new());
            let scores = 1 + random.below(50);
            for step in 0..1200 {
                let grow = step % 600 < 400;
                let pair = (
                    random.below(scores) as f64 / 2.0,
                    format!("m{}", random.below(500)).into_bytes(),
                );
                let found =
                    model.binary_search_by(|other| other.partial_cmp(&pair).expect("no NaN"));
                match found {
                    Ok(index) if !grow || random.below(4) == 0 => {
                        assert!(order.remove(pair.0, &pair.1));
                        model.remove(index);
                    }
                    Err(index) if grow => {
                        order.insert(pair.0, &pair.1);
                        model.insert(index, pair.clone());
                    }
                    Err(_) => assert!(!order.remove(pair.0, &pair.1)),
                    Ok(_) => {}
                }
                if !grow && !model.is_empty() {
                    let (score, text) = model.remove(random.below(model.len()));
                    assert!(order.remove(score, &text));
                }
                if step % 20 == 0 {
                    check(&order.root, 0, true);
                    assert_eq!(pairs(&order, 0, usize::MAX, false), model);
                    let (skip, count) = (random.below(model.len() + 1), random.below(9));
                    let backwards: Vec<_> =
                        model.iter().rev().skip(skip).take(count).cloned().collect();
                    assert_eq!(pairs(&order, skip, count, true), backwards);
                }
                for cut in [
                    Cut::Score(pair.0),
                    Cut::AfterScore(pair.0),
                    Cut::Pair(pair.0, &pair.1),
                    Cut::AfterPair(pair.0, &pair.1),
                    Cut::Start,
                    Cut::End,
                ] {
                    assert_eq!(order.rank(cut), rank_in(&model, cut), "{cut:?}");
                }
            }
        }
    }

    fn leaf_bytes(node: &Node, bytes: &mut Vec<usize>) {
        match node {
            Node::Leaf(page) => bytes.push(page.bytes()),
            Node::Inner(inner) => inner.nodes.iter().for_each(|child| leaf_bytes(child, bytes)),
        }
    }

    #[test]
    fn growing_scores_fill_their_leaves() {
        let mut order = Order::of(&Packed::new());
        for number in 0..400 {
            order.insert(f64::from(number), format!("member-{number}").as_bytes());
        }
        check(&order.root, 0, true);
        let mut leaves = Vec::new();
        leaf_bytes(&order.root, &mut leaves);
        let bytes: usize = leaves.iter().sum();
        assert!(bytes / leaves.len() > PAGE_BYTES_MAX * 3 / 4, "{leaves:?}");
    }
}
