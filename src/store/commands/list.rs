//! Commands on lists.

use super::collection::{
    READ, READ_FAST, REMOVE, REMOVE_FAST, Run, WRITE, WRITE_FAST, at_least, bulk, created_within,
    database, found, found_within, inside, integer, is, positive, row, signed_count, span, wrote,
};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::call::CommandError;
use crate::store::database::Database;
use crate::store::list::{End, List};
use crate::store::thresholds::Thresholds;
use crate::store::{Args, Reply};

const fn list(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("list", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    list(("lpush", -3), WRITE_FAST, Keys::ONE, ("1.0.0", "Prepends elements to a list"), lpush),
    list(("rpush", -3), WRITE_FAST, Keys::ONE, ("1.0.0", "Appends elements to a list"), rpush),
    list(("lpushx", -3), WRITE_FAST, Keys::ONE, ("2.2.0", "Prepends elements to a list that exists"), lpushx),
    list(("rpushx", -3), WRITE_FAST, Keys::ONE, ("2.2.0", "Appends elements to a list that exists"), rpushx),
    list(("lpop", -2), REMOVE_FAST, Keys::ONE, ("1.0.0", "Removes and returns a list's first elements"), lpop),
    list(("rpop", -2), REMOVE_FAST, Keys::ONE, ("1.0.0", "Removes and returns a list's last elements"), rpop),
    list(("llen", 2), READ_FAST, Keys::ONE, ("1.0.0", "Returns the length of a list"), llen),
    list(("lrange", 4), READ, Keys::ONE, ("1.0.0", "Returns a range of elements from a list"), lrange),
    list(("lindex", 3), READ, Keys::ONE, ("1.0.0", "Returns an element by its index"), lindex),
    list(("lset", 4), WRITE, Keys::ONE, ("1.0.0", "Sets the value of an element by its index"), lset),
    list(("lrem", 4), REMOVE, Keys::ONE, ("1.0.0", "Removes elements that equal a value"), lrem),
    list(("ltrim", 4), REMOVE, Keys::ONE, ("1.0.0", "Keeps only a range of a list's elements"), ltrim),
    list(("linsert", 5), WRITE, Keys::ONE, ("2.2.0", "Inserts an element before or after another"), linsert),
    list(("lpos", -3), READ, Keys::ONE, ("6.0.6", "Returns the indexes of elements that equal a value"), lpos),
    list(("lmove", 5), WRITE, Keys::TWO, ("6.2.0", "Moves an element from one list's end to another's"), lmove),
    list(("rpoplpush", 3), WRITE, Keys::TWO, ("1.2.0", "Moves the last element of a list to the front of another"), rpoplpush),
    list(("lmpop", -4), REMOVE, Keys::NONE, ("7.0.0", "Removes and returns elements of the first list that isn't empty"), lmpop),
];

fn lpush(call: &mut Call<'_>) -> CommandResult {
    push(call, End::Front)
}

fn rpush(call: &mut Call<'_>) -> CommandResult {
    push(call, End::Back)
}

fn push(call: &mut Call<'_>, end: End) -> CommandResult {
    let (list, args, reply, limits) = created_within(call, Database::list_or_create)?;
    let elements = args.from(2);
    list.expect(elements.iter().map(<[u8]>::len).sum(), limits);
    elements.iter().for_each(|element| list.push(end, element, limits));
    reply.integer(list.len() as i64);
    wrote(call, elements.len(), false);
    Ok(())
}

fn lpushx(call: &mut Call<'_>) -> CommandResult {
    push_to_existing(call, End::Front)
}

fn rpushx(call: &mut Call<'_>) -> CommandResult {
    push_to_existing(call, End::Back)
}

fn push_to_existing(call: &mut Call<'_>, end: End) -> CommandResult {
    let (list, _, reply) = found(call, Database::list)?;
    if list.is_none() {
        reply.integer(0);
        return Ok(());
    }
    push(call, end)
}

fn lpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, End::Front)
}

fn rpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, End::Back)
}

fn pop(call: &mut Call<'_>, end: End) -> CommandResult {
    let count = match call.args.len() {
        2 => None,
        3 => Some(positive(call.args.at(2))?),
        _ => return Err(wrong_arity(end)),
    };
    let (list, _, reply, limits) = found_within(call, Database::list)?;
    let (removed, empty) = match (list, count) {
        (None, None) => {
            reply.null();
            return Ok(());
        }
        (None, Some(_)) => {
            reply.null_array();
            return Ok(());
        }
        (Some(list), None) => {
            list.pop(end, |element| bulk(reply, element));
            list.settle(limits);
            (1, list.is_empty())
        }
        (Some(list), Some(count)) => (pop_many(list, end, count, reply, limits), list.is_empty()),
    };
    wrote(call, removed, empty);
    Ok(())
}

fn wrong_arity(end: End) -> CommandError {
    CommandError::Text(match end {
        End::Front => "ERR wrong number of arguments for 'lpop' command",
        End::Back => "ERR wrong number of arguments for 'rpop' command",
    })
}

/// Writes an array of up to `count` elements and removes them; how many they were.
fn pop_many(
    list: &mut List,
    end: End,
    count: usize,
    reply: &mut Reply<'_>,
    limits: &Thresholds,
) -> usize {
    let count = count.min(list.len());
    reply.array(count);
    for _ in 0..count {
        list.pop(end, |element| bulk(reply, element));
    }
    list.settle(limits);
    count
}

fn llen(call: &mut Call<'_>) -> CommandResult {
    let (list, _, reply) = found(call, Database::list)?;
    reply.integer(list.map_or(0, |list| list.len()) as i64);
    Ok(())
}

fn lrange(call: &mut Call<'_>) -> CommandResult {
    let (start, stop) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
    let (list, _, reply) = found(call, Database::list)?;
    let wanted = list.and_then(|list| span(start, stop, list.len()).map(|span| (list, span)));
    let Some((list, (from, count))) = wanted else {
        reply.array(0);
        return Ok(());
    };
    reply.array(count);
    list.range(from, count).for_each(|element| bulk(reply, element));
    Ok(())
}

fn lindex(call: &mut Call<'_>) -> CommandResult {
    let (list, args, reply) = found(call, Database::list)?;
    let Some(list) = list else {
        reply.null();
        return Ok(());
    };
    let index = inside(integer(args.at(2))?, list.len());
    match index.and_then(|index| list.at(index)) {
        Some(element) => bulk(reply, element),
        None => reply.null(),
    }
    Ok(())
}

fn lset(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let (list, args, reply) = found(call, Database::list)?;
    let list = list.ok_or(CommandError::NoSuchKey)?;
    let index = inside(integer(args.at(2))?, list.len()).ok_or(CommandError::IndexOutOfRange)?;
    list.set(index, args.at(3), &limits);
    reply.ok();
    wrote(call, 1, false);
    Ok(())
}

fn lrem(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let count = signed_count(call.args.at(2))?;
    let (list, args, reply) = found(call, Database::list)?;
    let Some(list) = list else {
        reply.integer(0);
        return Ok(());
    };
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let end = if count < 0 { End::Back } else { End::Front };
    let removed = list.remove_equal(end, args.at(3), limit);
    list.settle(&limits);
    reply.integer(removed as i64);
    let empty = list.is_empty();
    wrote(call, removed, empty);
    Ok(())
}

fn ltrim(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let (start, stop) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
    let (list, _, reply) = found(call, Database::list)?;
    reply.ok();
    let Some(list) = list else { return Ok(()) };
    let before = list.len();
    let (from, keep) = span(start, stop, before).unwrap_or((0, 0));
    list.trim(from, keep);
    list.settle(&limits);
    let removed = before - list.len();
    wrote(call, removed, keep == 0);
    Ok(())
}

fn linsert(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let after = match call.args.at(2) {
        place if is(place, "before") => 0,
        place if is(place, "after") => 1,
        _ => return Err(CommandError::Syntax),
    };
    let (list, args, reply) = found(call, Database::list)?;
    let Some(list) = list else {
        reply.integer(0);
        return Ok(());
    };
    let Some(pivot) = list.position(args.at(3)) else {
        reply.integer(-1);
        return Ok(());
    };
    list.insert(pivot + after, args.at(4), &limits);
    reply.integer(list.len() as i64);
    wrote(call, 1, false);
    Ok(())
}

/// LPOS's options.
struct Search {
    /// Matches to pass over.
    skip: usize,
    backwards: bool,
    /// How many indexes to answer, as an array; without COUNT the first alone.
    count: Option<usize>,
    /// Elements to look at.
    looks_max: usize,
}

impl Search {
    fn parse(call: &Call<'_>) -> Result<Search, CommandError> {
        let mut search = Search { skip: 0, backwards: false, count: None, looks_max: usize::MAX };
        let mut options = call.args.from(3).iter();
        while let Some(option) = options.next() {
            let value = options.next().ok_or(CommandError::Syntax)?;
            if is(option, "rank") {
                let rank = signed_count(value)?;
                if rank == 0 {
                    return Err(CommandError::Text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                         or use negative to start from the end of the list",
                    ));
                }
                search.skip = rank.unsigned_abs() as usize - 1;
                search.backwards = rank < 0;
            } else if is(option, "count") {
                let count = at_least(Some(value), 0, "ERR COUNT can't be negative")?;
                search.count = Some(if count == 0 { usize::MAX } else { count });
            } else if is(option, "maxlen") {
                let looks = at_least(Some(value), 0, "ERR MAXLEN can't be negative")?;
                search.looks_max = if looks == 0 { usize::MAX } else { looks };
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(search)
    }

    fn run(&self, list: &List, text: &[u8]) -> Vec<usize> {
        let count = self.count.unwrap_or(1);
        let last = list.len() - 1;
        let found =
            list.positions(text, self.backwards).take_while(|(look, _)| *look < self.looks_max);
        let indexes = found.map(|(look, _)| if self.backwards { last - look } else { look });
        indexes.skip(self.skip).take(count).collect()
    }
}

fn lpos(call: &mut Call<'_>) -> CommandResult {
    let search = Search::parse(call)?;
    let (list, args, reply) = found(call, Database::list)?;
    let indexes = list.map(|list| search.run(list, args.at(2))).unwrap_or_default();
    match (search.count, indexes.first()) {
        (Some(_), _) => {
            reply.array(indexes.len());
            indexes.iter().for_each(|index| reply.integer(*index as i64));
        }
        (None, Some(index)) => reply.integer(*index as i64),
        (None, None) => reply.null(),
    }
    Ok(())
}

pub(super) fn end(argument: &[u8]) -> Result<End, CommandError> {
    match argument {
        side if is(side, "left") => Ok(End::Front),
        side if is(side, "right") => Ok(End::Back),
        _ => Err(CommandError::Syntax),
    }
}

fn lmove(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (end(call.args.at(3))?, end(call.args.at(4))?);
    if !move_one(call, from, to)? {
        call.reply.null();
    }
    Ok(())
}

fn rpoplpush(call: &mut Call<'_>) -> CommandResult {
    if !move_one(call, End::Back, End::Front)? {
        call.reply.null();
    }
    Ok(())
}

/// Moves an element and answers it; false, and nothing answered, if there is none.
pub(super) fn move_one(call: &mut Call<'_>, from: End, to: End) -> Result<bool, CommandError> {
    let limits = call.keyspace.thresholds;
    let (key, target, now_ms) = (call.args.at(1), call.args.at(2), call.now_ms);
    let (hash, target_hash) = (call.hash, call.keyspace.hash(target));
    if found(call, Database::list)?.0.is_none() {
        return Ok(false);
    }
    // The target's type is checked before anything moves.
    database(call).list(target, target_hash, now_ms)?;
    let source = database(call).list(key, hash, now_ms)?;
    let Some((element, left)) =
        source.and_then(|list| Some((list.pop(from, |element| element.to_vec())?, list.len())))
    else {
        return Ok(false);
    };
    let list = database(call).list_or_create(target, target_hash, now_ms)?;
    list.expect(element.len(), &limits);
    list.push(to, &element, &limits);
    if let Some(list) = database(call).list(key, hash, now_ms)? {
        list.settle(&limits);
    }
    call.reply.bulk(&element);
    wrote(call, 1, left == 0);
    Ok(true)
}

fn lmpop(call: &mut Call<'_>) -> CommandResult {
    if !pop_from_first(call, call.args)? {
        call.reply.null_array();
    }
    Ok(())
}

/// Pops from the first list that isn't empty and answers it; false, and nothing answered, if there is none. `args` are
/// LMPOP's, with anything as the name.
pub(super) fn pop_from_first(call: &mut Call<'_>, args: Args<'_>) -> Result<bool, CommandError> {
    let keys = at_least(args.get(1), 1, "ERR numkeys should be greater than 0")?;
    let side = keys.checked_add(2).and_then(|index| args.get(index));
    let end = end(side.ok_or(CommandError::Syntax)?)?;
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
    let limits = call.keyspace.thresholds;
    for index in 2..keys + 2 {
        let (key, hash, now_ms) = (args.at(index), call.keyspace.hash(args.at(index)), call.now_ms);
        let database = call.keyspace.database(call.session.database);
        let Some(list) = database.list(key, hash, now_ms)? else { continue };
        call.reply.array(2);
        call.reply.bulk(key);
        let removed = pop_many(list, end, count, &mut call.reply, &limits);
        database.remove_if_empty(key, hash);
        call.keyspace.dirty += removed as u64;
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
