//! Commands on the members of one sorted set; ranges stand in `sorted_set_range.rs`, unions and kin in
//! `sorted_set_algebra.rs`.

use super::collection::{
    READ, READ_FAST, REMOVE_FAST, Run, WRITE_FAST, at_least, bulk, created_within, found, is,
    positive, random_count, row, wrote,
};
use super::element_scan::Scan;
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::number::parse_double;
use crate::store::reply::format_double;
use crate::store::sorted_set::{Change, Cut, Pairs, SortedSet};
use crate::store::{Args, Reply};

pub(super) const fn sorted_set(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("sorted-set", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    sorted_set(("zadd", -4), WRITE_FAST, Keys::ONE, ("1.2.0", "Adds members or changes their scores"), zadd),
    sorted_set(("zincrby", 4), WRITE_FAST, Keys::ONE, ("1.2.0", "Adds to the score of a member"), zincrby),
    sorted_set(("zrem", -3), REMOVE_FAST, Keys::ONE, ("1.2.0", "Removes members"), zrem),
    sorted_set(("zscore", 3), READ_FAST, Keys::ONE, ("1.2.0", "Returns the score of a member"), zscore),
    sorted_set(("zmscore", -3), READ_FAST, Keys::ONE, ("6.2.0", "Returns the scores of members"), zmscore),
    sorted_set(("zcard", 2), READ_FAST, Keys::ONE, ("1.2.0", "Returns the number of members"), zcard),
    sorted_set(("zrank", -3), READ_FAST, Keys::ONE, ("2.0.0", "Returns the index of a member by ascending score"), zrank),
    sorted_set(("zrevrank", -3), READ_FAST, Keys::ONE, ("2.0.0", "Returns the index of a member by descending score"), zrevrank),
    sorted_set(("zpopmin", -2), REMOVE_FAST, Keys::ONE, ("5.0.0", "Removes and returns the members with the lowest scores"), zpopmin),
    sorted_set(("zpopmax", -2), REMOVE_FAST, Keys::ONE, ("5.0.0", "Removes and returns the members with the highest scores"), zpopmax),
    sorted_set(("zmpop", -4), Flags::WRITE, Keys::NONE, ("7.0.0", "Removes and returns members of the first sorted set that isn't empty"), zmpop),
    sorted_set(("zrandmember", -2), READ, Keys::ONE, ("6.2.0", "Returns random members"), zrandmember),
    sorted_set(("zscan", -3), READ, Keys::ONE, ("2.8.0", "Iterates over members and scores"), zscan),
];

/// ZADD's options.
#[derive(Clone, Copy, Default)]
struct AddOptions {
    /// Only members that are new.
    only_new: bool,
    /// Only members that are there.
    only_existing: bool,
    /// Only scores that grow.
    only_greater: bool,
    /// Only scores that shrink.
    only_less: bool,
    /// Answer with the changed ones too.
    count_changed: bool,
    /// Add to the score and answer with it.
    increment: bool,
}

impl AddOptions {
    /// The options and the index of the first score.
    fn parse(args: Args<'_>) -> Result<(AddOptions, usize), CommandError> {
        let mut options = AddOptions::default();
        let mut index = 2;
        while let Some(argument) = args.get(index) {
            match argument {
                option if is(option, "nx") => options.only_new = true,
                option if is(option, "xx") => options.only_existing = true,
                option if is(option, "gt") => options.only_greater = true,
                option if is(option, "lt") => options.only_less = true,
                option if is(option, "ch") => options.count_changed = true,
                option if is(option, "incr") => options.increment = true,
                _ => break,
            }
            index += 1;
        }
        let pairs = args.len() - index;
        if pairs == 0 || pairs % 2 == 1 {
            return Err(CommandError::Syntax);
        }
        options.check(pairs / 2)?;
        Ok((options, index))
    }

    fn check(&self, pairs: usize) -> CommandResult {
        let AddOptions { only_new, only_existing, only_greater, only_less, increment, .. } = *self;
        if only_new && only_existing {
            return Err(CommandError::Text(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if (only_greater && (only_new || only_less)) || (only_less && only_new) {
            return Err(CommandError::Text(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if increment && pairs > 1 {
            return Err(CommandError::Text(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }

    /// Whether the score of any member becomes the given one.
    fn sets_any(&self) -> bool {
        let only = self.only_new || self.only_existing || self.only_greater || self.only_less;
        !(only || self.increment)
    }

    /// The score that a member gets, if the options let it.
    fn score(&self, before: Option<f64>, given: f64) -> Result<Option<f64>, CommandError> {
        let Some(before) = before else {
            return Ok((!self.only_existing).then_some(given));
        };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increment { before + given } else { given };
        if score.is_nan() {
            return Err(CommandError::Text("ERR resulting score is not a number (NaN)"));
        }
        let refused = (self.only_greater && score <= before) || (self.only_less && score >= before);
        Ok((!refused).then_some(score))
    }
}

/// Also GEOADD's way in.
pub(super) fn zadd(call: &mut Call<'_>) -> CommandResult {
    let (options, first) = AddOptions::parse(call.args)?;
    add(call, options, first)
}

fn zincrby(call: &mut Call<'_>) -> CommandResult {
    add(call, AddOptions { increment: true, ..AddOptions::default() }, 2)
}

/// Adds the pairs from argument `first` on.
fn add(call: &mut Call<'_>, options: AddOptions, first: usize) -> CommandResult {
    let args = call.args;
    let mut first_given = None;
    for index in (first..args.len()).step_by(2) {
        let given = parse_double(args.at(index)).ok_or(CommandError::NotFloat)?;
        first_given = first_given.or(Some(given));
    }
    let hasher = call.keyspace.hasher();
    if options.only_existing && found(call, Database::sorted_set)?.0.is_none() {
        match options.increment {
            true => call.reply.null(),
            false => call.reply.integer(0),
        }
        return Ok(());
    }
    let (set, _, reply, limits) = created_within(call, Database::sorted_set_or_create)?;
    let (mut added, mut moved, mut score) = (0, 0, None);
    for index in (first..args.len()).step_by(2) {
        let text = args.at(index + 1);
        let given = match first_given.take() {
            Some(given) => given,
            None => parse_double(args.at(index)).ok_or(CommandError::NotFloat)?,
        };
        score = match options.sets_any() {
            true => Some(given),
            false => options.score(set.score(text), given)?,
        };
        let Some(score) = score else { continue };
        match set.insert(text, score, hasher, limits) {
            Change::Added => added += 1,
            Change::Moved => moved += 1,
            Change::Same => {}
        }
    }
    match score {
        Some(score) if options.increment => reply.double(score),
        None if options.increment => reply.null(),
        _ => reply.integer(if options.count_changed { added + moved } else { added }),
    }
    wrote(call, (added + moved) as usize, false);
    Ok(())
}

fn zrem(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let Some(set) = set else {
        reply.integer(0);
        return Ok(());
    };
    let removed = args.from(2).iter().filter(|member| set.remove(member)).count();
    reply.integer(removed as i64);
    let empty = set.is_empty();
    wrote(call, removed, empty);
    Ok(())
}

fn score_or_null(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::sorted_set)?;
    score_or_null(reply, set.and_then(|set| set.score(args.at(2))));
    Ok(())
}

fn zmscore(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        score_or_null(reply, set.as_ref().and_then(|set| set.score(member)));
    }
    Ok(())
}

fn zcard(call: &mut Call<'_>) -> CommandResult {
    let (set, _, reply) = found(call, Database::sorted_set)?;
    reply.integer(set.map_or(0, |set| set.len()) as i64);
    Ok(())
}

fn zrank(call: &mut Call<'_>) -> CommandResult {
    rank(call, "zrank", false)
}

fn zrevrank(call: &mut Call<'_>) -> CommandResult {
    rank(call, "zrevrank", true)
}

fn rank(call: &mut Call<'_>, name: &str, reverse: bool) -> CommandResult {
    let with_score = match call.args.len() {
        3 => false,
        4 if is(call.args.at(3), "withscore") => true,
        4 => return Err(CommandError::Syntax),
        _ => {
            let text = format!("ERR wrong number of arguments for '{name}' command");
            return Err(CommandError::Owned(text.into_bytes()));
        }
    };
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let text = args.at(2);
    let Some((set, score)) = set.and_then(|set| set.score(text).map(|score| (set, score))) else {
        match with_score {
            true => reply.null_array(),
            false => reply.null(),
        }
        return Ok(());
    };
    let below = set.rank(Cut::Pair(score, text));
    let rank = if reverse { set.len() - 1 - below } else { below };
    if with_score {
        reply.array(2);
    }
    reply.integer(rank as i64);
    if with_score {
        reply.double(score);
    }
    Ok(())
}

fn zpopmin(call: &mut Call<'_>) -> CommandResult {
    pop(call, false)
}

fn zpopmax(call: &mut Call<'_>) -> CommandResult {
    pop(call, true)
}

fn pop(call: &mut Call<'_>, highest: bool) -> CommandResult {
    let count = match call.args.len() {
        2 => None,
        3 => Some(positive(call.args.at(2))?),
        _ => return Err(CommandError::Syntax),
    };
    let (set, _, reply) = found(call, Database::sorted_set)?;
    let Some(set) = set else {
        reply.array(0);
        return Ok(());
    };
    let pairs = take(set, count.unwrap_or(1), highest);
    // One pair is never an array of its own, and RESP2 knows none.
    let nested = count.is_some() && reply.is_resp3();
    reply.array(if nested { pairs.len() } else { pairs.len() * 2 });
    write_pairs(reply, &pairs, nested);
    let empty = set.is_empty();
    wrote(call, pairs.len(), empty);
    Ok(())
}

/// Removes up to `count` members from one end.
pub(super) fn take(set: &mut SortedSet, count: usize, highest: bool) -> Pairs {
    let pairs = set.range(0, count, highest);
    match pairs.as_slice() {
        [(text, _)] => drop(set.remove(text)),
        _ => set.remove_range(if highest { set.len() - pairs.len() } else { 0 }, pairs.len()),
    }
    pairs
}

/// Writes members and scores, each pair in an array of its own if `nested`.
pub(super) fn write_pairs(reply: &mut Reply<'_>, pairs: &[(Vec<u8>, f64)], nested: bool) {
    for (text, score) in pairs {
        if nested {
            reply.array(2);
        }
        reply.bulk(text);
        reply.double(*score);
    }
}

fn zmpop(call: &mut Call<'_>) -> CommandResult {
    if !pop_from_first(call, call.args)? {
        call.reply.null_array();
    }
    Ok(())
}

/// Pops from the first sorted set that isn't empty and answers it; false, and nothing answered, if there is none. `args`
/// are ZMPOP's, with anything as the name.
pub(super) fn pop_from_first(call: &mut Call<'_>, args: Args<'_>) -> Result<bool, CommandError> {
    let keys = at_least(args.get(1), 1, "ERR numkeys should be greater than 0")?;
    let side = keys.checked_add(2).and_then(|index| args.get(index));
    let highest = match side.ok_or(CommandError::Syntax)? {
        side if is(side, "min") => false,
        side if is(side, "max") => true,
        _ => return Err(CommandError::Syntax),
    };
    let count = match args.len() - keys - 3 {
        0 => 1,
        // A wrong count is told before what is too much.
        2.. if is(args.at(keys + 3), "count") => {
            at_least(args.get(keys + 4), 1, "ERR count should be greater than 0")?
        }
        _ => return Err(CommandError::Syntax),
    };
    if args.len() > keys + 5 {
        return Err(CommandError::Syntax);
    }
    for key in args.from(2).first(keys).iter() {
        let (hash, now_ms) = (call.keyspace.hash(key), call.now_ms);
        let database = call.keyspace.database(call.session.database);
        let Some(set) = database.sorted_set(key, hash, now_ms)? else { continue };
        let pairs = take(set, count, highest);
        database.remove_if_empty(key, hash);
        call.keyspace.dirty += pairs.len() as u64;
        call.reply.array(2);
        call.reply.bulk(key);
        call.reply.array(pairs.len());
        write_pairs(&mut call.reply, &pairs, true);
        return Ok(true);
    }
    Ok(false)
}

fn zrandmember(call: &mut Call<'_>) -> CommandResult {
    let mut random = call.keyspace.random();
    let args = call.args;
    let (count, scores) = match args.len() {
        2 => (None, false),
        3 => (Some(random_count(args.at(2))?), false),
        4 if is(args.at(3), "withscores") => (Some(random_count(args.at(2))?), true),
        _ => return Err(CommandError::Syntax),
    };
    if scores && count.is_some_and(|count| count > i64::MAX / 2) {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    let (set, _, reply) = found(call, Database::sorted_set)?;
    let (set, count) = match (set, count) {
        (None, None) => {
            reply.null();
            return Ok(());
        }
        (None, Some(_)) => {
            reply.array(0);
            return Ok(());
        }
        (Some(set), None) => {
            let pair = set.random(&mut random).expect("a stored sorted set isn't empty");
            reply.bulk(&pair.0);
            return Ok(());
        }
        (Some(set), Some(count)) => (set, count),
    };
    let drawn = if count < 0 {
        (0..count.unsigned_abs()).map_while(|_| set.random(&mut random)).collect()
    } else {
        set.sample(count as usize, &mut random)
    };
    let nested = scores && reply.is_resp3();
    reply.array(if scores && !nested { drawn.len() * 2 } else { drawn.len() });
    match scores {
        true => write_pairs(reply, &drawn, nested),
        false => drawn.iter().for_each(|(text, _)| reply.bulk(text)),
    }
    Ok(())
}

fn zscan(call: &mut Call<'_>) -> CommandResult {
    Scan::cursor(call.args.at(2))?;
    let (set, args, reply) = found(call, Database::sorted_set)?;
    let Some(set) = set else {
        Scan::nothing(reply);
        return Ok(());
    };
    let scan = Scan::parse(args, false)?;
    Scan::answer(reply, |reply| {
        let mut shown = 0;
        let next = set.scan(scan.cursor, scan.count, |member, score| {
            if scan.wants(member) {
                bulk(reply, member);
                // A byte string in both protocols, unlike other scores.
                reply.bulk(format_double(score).as_bytes());
                shown += 2;
            }
        });
        (next, shown)
    });
    Ok(())
}

#[cfg(test)]
mod tests;
