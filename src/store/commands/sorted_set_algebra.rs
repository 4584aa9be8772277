//! Commands on several sorted sets (or sets, whose members score 1): unions, intersections and differences.

use std::collections::BTreeMap;

use super::collection::{READ, WRITE, at_least, integer, is};
use super::sorted_set::{sorted_set, write_pairs};
use super::sorted_set_range::store;
use super::{Call, Command, CommandResult, Keys};
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::element::Element;
use crate::store::number::parse_double;
use crate::store::set::Set;
use crate::store::sorted_set::{Pairs, SortedSet};
use crate::store::value::ValueRef;
use crate::store::{Args, Hasher};

/// The target and the number of keys stand first; the other keys follow that number.
const STORE_KEYS: Keys = Keys::ONE;

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    sorted_set(("zunion", -3), READ, Keys::NONE, ("6.2.0", "Returns the members of any sorted set"), zunion),
    sorted_set(("zunionstore", -4), WRITE, STORE_KEYS, ("2.0.0", "Stores the members of any sorted set"), zunionstore),
    sorted_set(("zinter", -3), READ, Keys::NONE, ("6.2.0", "Returns the members that all sorted sets have"), zinter),
    sorted_set(("zinterstore", -4), WRITE, STORE_KEYS, ("2.0.0", "Stores the members that all sorted sets have"), zinterstore),
    sorted_set(("zintercard", -3), READ, Keys::NONE, ("7.0.0", "Counts the members that all sorted sets have"), zintercard),
    sorted_set(("zdiff", -3), READ, Keys::NONE, ("6.2.0", "Returns the first sorted set's members that no other has"), zdiff),
    sorted_set(("zdiffstore", -4), WRITE, STORE_KEYS, ("6.2.0", "Stores the first sorted set's members that no other has"), zdiffstore),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// How scores of one member become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Least,
    Greatest,
}

impl Aggregate {
    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            // Infinities of both signs sum to nothing rather than to NaN.
            Aggregate::Sum => number(left + right),
            Aggregate::Least => left.min(right),
            Aggregate::Greatest => left.max(right),
        }
    }
}

/// NaN counts as 0.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One of the keys.
#[derive(Clone, Copy)]
enum Source<'d> {
    Nothing,
    Set(&'d Set),
    SortedSet(&'d SortedSet),
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::Nothing => 0,
            Source::Set(set) => set.len(),
            Source::SortedSet(set) => set.len(),
        }
    }

    fn score(&self, text: &[u8]) -> Option<f64> {
        match self {
            Source::Nothing => None,
            Source::Set(set) => set.contains(text).then_some(1.0),
            Source::SortedSet(set) => set.score(text),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(Element<'_>, f64)) {
        match self {
            Source::Nothing => {}
            Source::Set(set) => set.iter().for_each(|member| visit(member, 1.0)),
            Source::SortedSet(set) => set.for_each(visit),
        }
    }
}

/// What stands behind the keys.
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: bool,
}

impl Options {
    fn parse(
        args: Args<'_>,
        keys: usize,
        operation: Operation,
        stores: bool,
    ) -> Result<Options, CommandError> {
        let mut options =
            Options { weights: vec![1.0; keys], aggregate: Aggregate::Sum, scores: false };
        let weighs = operation != Operation::Difference;
        let mut index = 0;
        while let Some(option) = args.get(index) {
            let left = args.len() - index;
            if weighs && left > keys && is(option, "weights") {
                let refusal = CommandError::Text("ERR weight value is not a float");
                for (weight, text) in options.weights.iter_mut().zip(args.from(index + 1).iter()) {
                    *weight = parse_double(text).ok_or(refusal.clone())?;
                }
                index += keys;
            } else if weighs && left >= 2 && is(option, "aggregate") {
                options.aggregate = match args.at(index + 1) {
                    name if is(name, "sum") => Aggregate::Sum,
                    name if is(name, "min") => Aggregate::Least,
                    name if is(name, "max") => Aggregate::Greatest,
                    _ => return Err(CommandError::Syntax),
                };
                index += 1;
            } else if !stores && is(option, "withscores") {
                options.scores = true;
            } else {
                return Err(CommandError::Syntax);
            }
            index += 1;
        }
        Ok(options)
    }
}

fn zunion(call: &mut Call<'_>) -> CommandResult {
    answer(call, "zunion", Operation::Union)
}

fn zinter(call: &mut Call<'_>) -> CommandResult {
    answer(call, "zinter", Operation::Intersection)
}

fn zdiff(call: &mut Call<'_>) -> CommandResult {
    answer(call, "zdiff", Operation::Difference)
}

fn zunionstore(call: &mut Call<'_>) -> CommandResult {
    keep(call, "zunionstore", Operation::Union)
}

fn zinterstore(call: &mut Call<'_>) -> CommandResult {
    keep(call, "zinterstore", Operation::Intersection)
}

fn zdiffstore(call: &mut Call<'_>) -> CommandResult {
    keep(call, "zdiffstore", Operation::Difference)
}

fn answer(call: &mut Call<'_>, name: &str, operation: Operation) -> CommandResult {
    let (scores, pairs) = compute(call, 1, name, operation, false)?;
    let reply = &mut call.reply;
    let nested = scores && reply.is_resp3();
    reply.array(if scores && !nested { pairs.len() * 2 } else { pairs.len() });
    match scores {
        true => write_pairs(reply, &pairs, nested),
        false => pairs.iter().for_each(|(text, _)| reply.bulk(text)),
    }
    Ok(())
}

fn keep(call: &mut Call<'_>, name: &str, operation: Operation) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let hasher = call.keyspace.hasher();
    let (_, pairs) = compute(call, 2, name, operation, true)?;
    let mut set = SortedSet::new();
    for (text, score) in &pairs {
        set.insert(text, *score, hasher, &limits);
    }
    let target = call.args.at(1);
    store(call, target, set);
    Ok(())
}

/// Whether scores are asked for, and the result in its order. The number of keys is argument `first`.
fn compute(
    call: &mut Call<'_>,
    first: usize,
    name: &str,
    operation: Operation,
    stores: bool,
) -> Result<(bool, Pairs), CommandError> {
    let hasher = call.keyspace.hasher();
    let args = call.args;
    let keys = key_count(args, first, name)?;
    let database = call.keyspace.database(call.session.database);
    let sources = sources(database, hasher, args.from(first + 1).first(keys), call.now_ms)?;
    let options = Options::parse(args.from(first + 1 + keys), keys, operation, stores)?;
    let mut weighted: Vec<(Source<'_>, f64)> =
        sources.into_iter().zip(options.weights.iter().copied()).collect();
    if operation != Operation::Difference {
        // Sums of floats depend on their order: Redis's is by size.
        weighted.sort_by_key(|(source, _)| source.len());
    }
    let scores = match operation {
        Operation::Union => unite(&weighted, options.aggregate),
        Operation::Intersection => intersect(&weighted, options.aggregate),
        Operation::Difference => subtract(&weighted),
    };
    let mut pairs: Pairs = scores.into_iter().collect();
    // The map's order by name stays where scores are equal.
    pairs.sort_by(|left, right| left.1.partial_cmp(&right.1).expect("no score is NaN"));
    Ok((options.scores, pairs))
}

fn key_count(args: Args<'_>, first: usize, name: &str) -> Result<usize, CommandError> {
    let keys = integer(args.at(first))?;
    let Some(keys) = usize::try_from(keys).ok().filter(|keys| *keys > 0) else {
        let text = format!("ERR at least 1 input key is needed for '{name}' command");
        return Err(CommandError::Owned(text.into_bytes()));
    };
    if keys > args.len() - first - 1 {
        return Err(CommandError::Syntax);
    }
    Ok(keys)
}

/// The values at `keys`; all of them are checked before any is used.
fn sources<'d>(
    database: &'d mut Database,
    hasher: Hasher,
    keys: Args<'_>,
    now_ms: u64,
) -> Result<Vec<Source<'d>>, CommandError> {
    for key in keys.iter() {
        let entry = database.find(key, hasher.hash(key), now_ms);
        match entry.map(|entry| entry.value()) {
            None | Some(ValueRef::Set(_) | ValueRef::SortedSet(_)) => {}
            Some(_) => return Err(CommandError::WrongType),
        }
    }
    let table = database.table();
    let value = |key: &[u8]| table.find(key, hasher.hash(key)).map(|entry| entry.value());
    Ok(keys
        .iter()
        .map(|key| match value(key) {
            Some(ValueRef::Set(set)) => Source::Set(set),
            Some(ValueRef::SortedSet(set)) => Source::SortedSet(set),
            _ => Source::Nothing,
        })
        .collect())
}

type Scores = BTreeMap<Vec<u8>, f64>;

fn unite(sources: &[(Source<'_>, f64)], aggregate: Aggregate) -> Scores {
    let mut scores = Scores::new();
    for (source, weight) in sources {
        source.for_each(|member, score| {
            let score = number(score * weight);
            scores
                .entry(member.to_vec())
                .and_modify(|before| *before = aggregate.of(*before, score))
                .or_insert(score);
        });
    }
    scores
}

fn intersect(sources: &[(Source<'_>, f64)], aggregate: Aggregate) -> Scores {
    let mut scores = Scores::new();
    let Some(((smallest, weight), others)) = sources.split_first() else { return scores };
    smallest.for_each(|member, score| {
        let text = member.to_vec();
        let sum = others.iter().try_fold(number(score * weight), |sum, (source, weight)| {
            // Not made a number before, as in Redis: the least and the greatest ignore NaN.
            Some(aggregate.of(sum, source.score(&text)? * weight))
        });
        scores.extend(sum.map(|sum| (text, sum)));
    });
    scores
}

fn subtract(sources: &[(Source<'_>, f64)]) -> Scores {
    let mut scores = Scores::new();
    let Some(((first, _), others)) = sources.split_first() else { return scores };
    first.for_each(|member, score| {
        let text = member.to_vec();
        if others.iter().all(|(source, _)| source.score(&text).is_none()) {
            scores.insert(text, score);
        }
    });
    scores
}

fn zintercard(call: &mut Call<'_>) -> CommandResult {
    let hasher = call.keyspace.hasher();
    let args = call.args;
    let keys = key_count(args, 1, "zintercard")?;
    let database = call.keyspace.database(call.session.database);
    let mut sources = sources(database, hasher, args.from(2).first(keys), call.now_ms)?;
    let mut limit = usize::MAX;
    let mut options = args.from(2 + keys).iter();
    while let Some(option) = options.next() {
        let value = options.next().filter(|_| is(option, "limit")).ok_or(CommandError::Syntax)?;
        let most = at_least(Some(value), 0, "ERR LIMIT can't be negative")?;
        limit = if most == 0 { usize::MAX } else { most };
    }
    sources.sort_by_key(Source::len);
    let mut count = 0;
    if let Some((smallest, others)) = sources.split_first() {
        smallest.for_each(|member, _| {
            let mut digits = itoa::Buffer::new();
            let text = member.text(&mut digits);
            if count < limit && others.iter().all(|source| source.score(text).is_some()) {
                count += 1;
            }
        });
    }
    call.reply.integer(count as i64);
    Ok(())
}
