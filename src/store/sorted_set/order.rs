//! The order of a big sorted set: a counted B-tree whose leaves are packed pairs of member and score. Knows nothing of
//! tables or keys.
//!
//! Each child is kept with the number of pairs below it and the score of the first of them: so a rank is the sum of the
//! counts passed on the way down, and a search reads members only where scores are equal. A pair costs little more than
//! its member, as small sorted sets do; a node-based tree or skip list takes two pointers, a level and an allocation more.
//! All is O(log n), with a walk of one leaf (a kilobyte) at the end.

use std::ops::ControlFlow;

use super::super::element::Element;
use super::super::packed::Packed;
use super::leaf::{self, Cut, Visit};

/// A leaf past this is split.
const LEAF_BYTES_MAX: usize = if cfg!(test) { 100 } else { 1024 };
/// A node with more children is split.
const CHILDREN_MAX: usize = if cfg!(test) { 4 } else { 32 };

/// Pairs of score and member in order.
#[derive(Clone, Debug)]
pub struct Order {
    root: Node,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Packed),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    /// Pairs below.
    count: usize,
    /// The first pair's score.
    low: f64,
    node: Node,
}

impl Order {
    /// Takes a leaf's pairs over.
    pub fn of(pairs: Packed) -> Order {
        Order { root: Node::Leaf(pairs) }
    }

    /// Adds a pair whose member isn't there.
    pub fn insert(&mut self, score: f64, text: &[u8]) {
        if let Some(right) = self.root.insert(score, text) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Vec::new()));
            self.root = Node::Inner(vec![Child::of(left), Child::of(right)]);
        }
    }

    /// Removes the pair of exactly that score and member; whether it was there.
    pub fn remove(&mut self, score: f64, text: &[u8]) -> bool {
        let removed = self.root.remove(score, text);
        while let Node::Inner(children) = &mut self.root
            && children.len() == 1
            && let Some(only) = children.pop()
        {
            self.root = only.node;
        }
        removed
    }

    /// How many pairs lie before the cut.
    pub fn rank(&self, cut: Cut<'_>) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(packed) => return rank + leaf::partition(packed, cut).0,
                Node::Inner(children) => {
                    let index = descend(children, cut);
                    rank += children[..index].iter().map(|child| child.count).sum::<usize>();
                    node = &children[index].node;
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

/// The child that the cut runs through: the last whose first pair lies before it, or the first.
fn descend(children: &[Child], cut: Cut<'_>) -> usize {
    children
        .partition_point(|child| cut.is_behind(child.low, || child.node.first_member()))
        .saturating_sub(1)
}

impl Child {
    fn of(node: Node) -> Child {
        let mut child = Child { count: 0, low: 0.0, node };
        child.refresh();
        child
    }

    fn refresh(&mut self) {
        self.count = self.node.len();
        self.low = self.node.low();
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(packed) => leaf::len(packed),
            Node::Inner(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    fn low(&self) -> f64 {
        match self {
            Node::Leaf(packed) => leaf::first(packed).map_or(0.0, |(_, score)| score),
            Node::Inner(children) => children.first().map_or(0.0, |child| child.low),
        }
    }

    fn first_member(&self) -> Option<Element<'_>> {
        match self {
            Node::Leaf(packed) => leaf::first(packed).map(|(member, _)| member),
            Node::Inner(children) => children.first()?.node.first_member(),
        }
    }

    /// Adds a pair; what the node was split into, if it was too full.
    fn insert(&mut self, score: f64, text: &[u8]) -> Option<Node> {
        match self {
            Node::Leaf(packed) => {
                let index = leaf::insert(packed, score, text);
                split_leaf(packed, index)
            }
            Node::Inner(children) => {
                let index = descend(children, Cut::Pair(score, text));
                let split = children[index].node.insert(score, text);
                match split {
                    Some(right) => {
                        children[index].refresh();
                        children.insert(index + 1, Child::of(right));
                    }
                    None => {
                        children[index].count += 1;
                        children[index].low = children[index].low.min(score);
                    }
                }
                split_children(children, index + 1)
            }
        }
    }

    fn remove(&mut self, score: f64, text: &[u8]) -> bool {
        match self {
            Node::Leaf(packed) => {
                let removed = leaf::remove(packed, score, text);
                packed.shrink();
                removed
            }
            Node::Inner(children) => {
                let index = descend(children, Cut::AfterPair(score, text));
                let removed = children[index].node.remove(score, text);
                if removed {
                    children[index].refresh();
                    if children[index].count == 0 {
                        children.remove(index);
                    } else {
                        join_neighbours(children, index);
                    }
                }
                removed
            }
        }
    }

    /// Puts `next`'s contents behind its own if both together are at most half full, or gives `next` back.
    fn join(&mut self, next: Node) -> Option<Node> {
        match (&mut *self, next) {
            (Node::Leaf(left), Node::Leaf(right))
                if left.bytes() + right.bytes() <= LEAF_BYTES_MAX / 2 =>
            {
                left.append(&right);
                None
            }
            (Node::Inner(left), Node::Inner(right))
                if left.len() + right.len() <= CHILDREN_MAX / 2 =>
            {
                left.extend(right);
                None
            }
            (_, next) => Some(next),
        }
    }

    fn walk(
        &self,
        skip: usize,
        left: &mut usize,
        reverse: bool,
        visit: Visit<'_>,
    ) -> ControlFlow<()> {
        let children = match self {
            Node::Leaf(packed) => return leaf::walk(packed, skip, left, reverse, visit),
            Node::Inner(children) => children,
        };
        let mut skip = skip;
        for index in 0..children.len() {
            let child = &children[if reverse { children.len() - 1 - index } else { index }];
            if skip >= child.count {
                skip -= child.count;
                continue;
            }
            child.node.walk(skip, left, reverse, visit)?;
            skip = 0;
            if *left == 0 {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Node::Leaf(packed) => packed.memory_bytes(),
            Node::Inner(children) => {
                let below: usize = children.iter().map(|child| child.node.memory_bytes()).sum();
                children.capacity() * size_of::<Child>() + below
            }
        }
    }
}

/// Cuts a leaf that is too full in two; one that grew at its end stays full, as growing scores never come back to it.
fn split_leaf(packed: &mut Packed, inserted: usize) -> Option<Node> {
    let pairs = leaf::len(packed);
    if packed.bytes() <= LEAF_BYTES_MAX || pairs < 2 {
        return None;
    }
    let kept = if inserted == pairs - 1 { pairs - 1 } else { pairs / 2 };
    let at = packed.seek(kept * 2)?;
    let tail = packed.split_off(at, (pairs - kept) * 2);
    packed.shrink();
    Some(Node::Leaf(tail))
}

fn split_children(children: &mut Vec<Child>, inserted: usize) -> Option<Node> {
    let count = children.len();
    if count <= CHILDREN_MAX {
        return None;
    }
    let kept = if inserted == count - 1 { count - 1 } else { count / 2 };
    Some(Node::Inner(children.split_off(kept)))
}

/// Joins the child at `index` with the next or the one before, if they fit in half a node.
fn join_neighbours(children: &mut Vec<Child>, index: usize) {
    for left in [index, index.wrapping_sub(1)] {
        if left >= children.len() || left + 1 >= children.len() {
            continue;
        }
        let mut right = children.remove(left + 1);
        match children[left].node.join(right.node) {
            None => return children[left].refresh(),
            Some(node) => {
                right.node = node;
                children.insert(left + 1, right);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::*;

    /// Depth, pairs and first score are what the parents say; nothing is empty or too full.
    fn check(node: &Node, depth: usize, is_root: bool) -> usize {
        match node {
            Node::Leaf(packed) => {
                assert!(is_root || !packed.is_empty());
                assert!(packed.bytes() <= LEAF_BYTES_MAX || leaf::len(packed) < 2);
                depth
            }
            Node::Inner(children) => {
                assert!(!children.is_empty() && children.len() <= CHILDREN_MAX);
                let mut depths = Vec::new();
                for child in children {
                    assert_eq!((child.count, child.low), (child.node.len(), child.node.low()));
                    depths.push(check(&child.node, depth + 1, false));
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
            let (mut order, mut model) = (Order::of(Packed::new()), Vec::<(f64, Vec<u8>)>::new());
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
            Node::Leaf(packed) => bytes.push(packed.bytes()),
            Node::Inner(children) => {
                children.iter().for_each(|child| leaf_bytes(&child.node, bytes));
            }
        }
    }

    #[test]
    fn growing_scores_fill_their_leaves() {
        let mut order = Order::of(Packed::new());
        for number in 0..400 {
            order.insert(f64::from(number), format!("member-{number}").as_bytes());
        }
        check(&order.root, 0, true);
        let mut leaves = Vec::new();
        leaf_bytes(&order.root, &mut leaves);
        let bytes: usize = leaves.iter().sum();
        assert!(bytes / leaves.len() > LEAF_BYTES_MAX * 3 / 4, "{leaves:?}");
    }
}
