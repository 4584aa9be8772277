//! Commands on ranges of a sorted set, by index, score or member: reading, counting, storing and removing them.

use std::ops::ControlFlow;

use super::collection::{READ, READ_FAST, REMOVE, WRITE, bulk, found, integer, is, span, wrote};
use super::sorted_set::sorted_set;
use super::{Call, Command, CommandResult, Keys};
use crate::store::call::CommandError;
use crate::store::database::{Database, Expiry};
use crate::store::sorted_set::{Cut, SortedSet};
use crate::store::value::Value;
use crate::store::{Args, Reply};

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    sorted_set(("zcount", 4), READ_FAST, Keys::ONE, ("2.0.0", "Counts members within a range of scores"), zcount),
    sorted_set(("zlexcount", 4), READ_FAST, Keys::ONE, ("2.8.9", "Counts members within a range of names"), zlexcount),
    sorted_set(("zrange", -4), READ, Keys::ONE, ("1.2.0", "Returns members within a range of indexes, scores or names"), zrange),
    sorted_set(("zrangestore", -5), WRITE, Keys::TWO, ("6.2.0", "Stores members within a range of another sorted set"), zrangestore),
    sorted_set(("zrevrange", -4), READ, Keys::ONE, ("1.2.0", "Returns members within a range of indexes, highest score first"), zrevrange),
    sorted_set(("zrangebyscore", -4), READ, Keys::ONE, ("1.0.5", "Returns members within a range of scores"), zrangebyscore),
    sorted_set(("zrevrangebyscore", -4), READ, Keys::ONE, ("2.2.0", "Returns members within a range of scores, highest first"), zrevrangebyscore),
    sorted_set(("zrangebylex", -4), READ, Keys::ONE, ("2.8.9", "Returns members within a range of names"), zrangebylex),
    sorted_set(("zrevrangebylex", -4), READ, Keys::ONE, ("2.8.9", "Returns members within a range of names, highest first"), zrevrangebylex),
    sorted_set(("zremrangebyrank", 4), REMOVE, Keys::ONE, ("2.0.0", "Removes members within a range of indexes"), zremrangebyrank),
    sorted_set(("zremrangebyscore", 4), REMOVE, Keys::ONE, ("1.2.0", "Removes members within a range of scores"), zremrangebyscore),
    sorted_set(("zremrangebylex", 4), REMOVE, Keys::ONE, ("2.8.9", "Removes members within a range of names"), zremrangebylex),
];

/// What a range's ends are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Index,
    Score,
    Name,
}

/// The ends of a range.
#[derive(Clone, Copy)]
enum Ends<'a> {
    /// First and last index; negative ones count from the end.
    Indexes(i64, i64),
    /// From the first cut to the second.
    Cuts(Cut<'a>, Cut<'a>),
}

impl<'a> Ends<'a> {
    /// `low` and `high` in their text.
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Ends<'a>, CommandError> {
        match by {
            By::Index => Ok(Ends::Indexes(integer(low)?, integer(high)?)),
            By::Score => {
                let refusal = CommandError::Text("ERR min or max is not a float");
                let (low, low_open) = score_end(low).ok_or(refusal.clone())?;
                let (high, high_open) = score_end(high).ok_or(refusal)?;
                let low = if low_open { Cut::AfterScore(low) } else { Cut::Score(low) };
                let high = if high_open { Cut::Score(high) } else { Cut::AfterScore(high) };
                Ok(Ends::Cuts(low, high))
            }
            By::Name => {
                let refusal = CommandError::Text("ERR min or max not valid string range item");
                let low = name_end(low, false).ok_or(refusal.clone())?;
                Ok(Ends::Cuts(low, name_end(high, true).ok_or(refusal)?))
            }
        }
    }

    /// How many members of the set lie before the range (in the walk's direction), and how many in it.
    fn resolve(&self, set: &SortedSet, reverse: bool) -> (usize, usize) {
        match *self {
            Ends::Indexes(start, stop) => span(start, stop, set.len()).unwrap_or((0, 0)),
            Ends::Cuts(low, high) => {
                let (below, end) = (set.rank(low), set.rank(high));
                let skip = if reverse { set.len() - end.max(below) } else { below };
                (skip, end.saturating_sub(below))
            }
        }
    }
}

/// A score and whether the range excludes it.
fn score_end(text: &[u8]) -> Option<(f64, bool)> {
    let (score, open) = match text {
        [b'(', score @ ..] => (score, true),
        score => (score, false),
    };
    // C reads no digits as 0, passes spaces over and takes too much for infinite; Redis lets all that pass here.
    let text = std::str::from_utf8(score).ok()?.trim_ascii_start();
    let score: f64 = if score.is_empty() { 0.0 } else { text.parse().ok()? };
    (!score.is_nan()).then_some((score, open))
}

fn name_end(text: &[u8], is_high: bool) -> Option<Cut<'_>> {
    match (text, is_high) {
        (b"-", _) => Some(Cut::Start),
        (b"+", _) => Some(Cut::End),
        ([b'[', name @ ..], true) | ([b'(', name @ ..], false) => Some(Cut::AfterText(name)),
        ([b'[', name @ ..], false) | ([b'(', name @ ..], true) => Some(Cut::Text(name)),
        _ => None,
    }
}

/// What to read of a sorted set.
struct Range<'a> {
    ends: Ends<'a>,
    reverse: bool,
    scores: bool,
    /// Members to pass over in the range; `None`: all of them.
    offset: Option<usize>,
    limit: usize,
}

impl<'a> Range<'a> {
    /// Reads the two ends at `first` and the options behind them. `by` and `reverse` are given where the command's name
    /// says them; ZRANGE's own options may not repeat that.
    fn parse(
        args: Args<'a>,
        first: usize,
        given: (Option<By>, Option<bool>),
        stores: bool,
    ) -> Result<Range<'a>, CommandError> {
        let (mut by, mut reverse) = given;
        let (mut scores, mut window) = (false, None);
        let mut index = first + 2;
        while let Some(option) = args.get(index) {
            match option {
                _ if !stores && is(option, "withscores") => scores = true,
                _ if is(option, "limit") && index + 2 < args.len() => {
                    window = Some((integer(args.at(index + 1))?, integer(args.at(index + 2))?));
                    index += 2;
                }
                _ if is(option, "rev") && reverse.is_none() => reverse = Some(true),
                _ if is(option, "bylex") && by.is_none() => by = Some(By::Name),
                _ if is(option, "byscore") && by.is_none() => by = Some(By::Score),
                _ => return Err(CommandError::Syntax),
            }
            index += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Index), reverse.unwrap_or(false));
        if by == By::Index && window.is_some() {
            return Err(CommandError::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Name && scores {
            return Err(CommandError::Text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (mut low, mut high) = (args.at(first), args.at(first + 1));
        if reverse && by != By::Index {
            std::mem::swap(&mut low, &mut high);
        }
        let (offset, limit) = window.unwrap_or((0, -1));
        Ok(Range {
            ends: Ends::parse(by, low, high)?,
            reverse,
            scores,
            offset: usize::try_from(offset).ok(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    /// Members to pass over and to read, in the walk's direction.
    fn resolve(&self, set: &SortedSet) -> (usize, usize) {
        let (skip, count) = self.ends.resolve(set, self.reverse);
        let offset = self.offset.unwrap_or(count).min(count);
        (skip + offset, (count - offset).min(self.limit))
    }
}

fn zrange(call: &mut Call<'_>) -> CommandResult {
    answer(call, None, None)
}

fn zrevrange(call: &mut Call<'_>) -> CommandResult {
    answer(call, Some(By::Index), Some(true))
}

fn zrangebyscore(call: &mut Call<'_>) -> CommandResult {
    answer(call, Some(By::Score), Some(false))
}

fn zrevrangebyscore(call: &mut Call<'_>) -> CommandResult {
    answer(call, Some(By::Score), Some(true))
}

fn zrangebylex(call: &mut Call<'_>) -> CommandResult {
    answer(call, Some(By::Name), Some(false))
}

fn zrevrangebylex(call: &mut Call<'_>) -> CommandResult {
    answer(call, Some(By::Name), Some(true))
}

fn answer(call: &mut Call<'_>, by: Option<By>, reverse: Option<bool>) -> CommandResult {
    let range = Range::parse(call.args, 2, (by, reverse), false)?;
    let (set, _, reply) = found(call, Database::sorted_set)?;
    match set {
        Some(set) => write_range(reply, set, &range),
        None => reply.array(0),
    }
    Ok(())
}

fn write_range(reply: &mut Reply<'_>, set: &SortedSet, range: &Range<'_>) {
    let (skip, count) = range.resolve(set);
    let nested = range.scores && reply.is_resp3();
    reply.array(if range.scores && !nested { count * 2 } else { count });
    set.walk(skip, count, range.reverse, |member, score| {
        if nested {
            reply.array(2);
        }
        bulk(reply, member);
        if range.scores {
            reply.double(score);
        }
        ControlFlow::Continue(())
    });
}

fn zrangestore(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let hasher = call.keyspace.hasher();
    let range = Range::parse(call.args, 3, (None, None), true)?;
    let (target, source) = (call.args.at(1), call.args.at(2));
    let now_ms = call.now_ms;
    let database = call.keyspace.database(call.session.database);
    let set = database.sorted_set(source, hasher.hash(source), now_ms)?;
    let mut stored = SortedSet::new();
    if let Some(set) = set {
        let (skip, count) = range.resolve(set);
        for (text, score) in set.range(skip, count, range.reverse) {
            stored.insert(&text, score, hasher, &limits);
        }
    }
    store(call, target, stored);
    Ok(())
}

/// Makes the first key that sorted set, or removes it, and answers with its length.
pub(super) fn store(call: &mut Call<'_>, target: &[u8], set: SortedSet) {
    let (hash, now_ms) = (call.hash, call.now_ms);
    let database = call.keyspace.database(call.session.database);
    let count = set.len();
    let changed = if count == 0 {
        database.contains(target, hash, now_ms) && database.remove(target, hash)
    } else {
        database.insert_value(target, hash, Value::SortedSet(Box::new(set)), Expiry::Clear);
        true
    };
    call.keyspace.dirty += u64::from(changed);
    call.reply.integer(count as i64);
}

fn zcount(call: &mut Call<'_>) -> CommandResult {
    count(call, By::Score)
}

fn zlexcount(call: &mut Call<'_>) -> CommandResult {
    count(call, By::Name)
}

fn count(call: &mut Call<'_>, by: By) -> CommandResult {
    let ends = Ends::parse(by, call.args.at(2), call.args.at(3))?;
    let (set, _, reply) = found(call, Database::sorted_set)?;
    reply.integer(set.map_or(0, |set| ends.resolve(set, false).1) as i64);
    Ok(())
}

fn zremrangebyrank(call: &mut Call<'_>) -> CommandResult {
    remove(call, By::Index)
}

fn zremrangebyscore(call: &mut Call<'_>) -> CommandResult {
    remove(call, By::Score)
}

fn zremrangebylex(call: &mut Call<'_>) -> CommandResult {
    remove(call, By::Name)
}

fn remove(call: &mut Call<'_>, by: By) -> CommandResult {
    let ends = Ends::parse(by, call.args.at(2), call.args.at(3))?;
    let (set, _, reply) = found(call, Database::sorted_set)?;
    let Some(set) = set else {
        reply.integer(0);
        return Ok(());
    };
    let (skip, count) = ends.resolve(set, false);
    set.remove_range(skip, count);
    reply.integer(count as i64);
    let empty = set.is_empty();
    wrote(call, count, empty);
    Ok(())
}
