//! Commands on several sets: intersections, unions and differences.

use super::collection::{READ, WRITE, at_least, bulk, is};
use super::set::set;
use super::{Call, Command, CommandResult, Keys};
use crate::store::call::CommandError;
use crate::store::database::{Database, Expiry};
use crate::store::element::Element;
use crate::store::set::Set;
use crate::store::thresholds::Thresholds;
use crate::store::value::{Value, ValueRef};
use crate::store::{Args, Hasher};

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    set(("sinter", -2), READ, Keys::ALL, ("1.0.0", "Returns the members that all sets have"), sinter),
    set(("sinterstore", -3), WRITE, Keys::ALL, ("1.0.0", "Stores the members that all sets have"), sinterstore),
    set(("sintercard", -3), READ, Keys::NONE, ("7.0.0", "Counts the members that all sets have"), sintercard),
    set(("sunioncard", -3), READ, Keys::NONE, ("8.10.0", "Counts the members of any set, up to a limit"), sunioncard),
    set(("sdiffcard", -3), READ, Keys::NONE, ("8.10.0", "Counts the first set's members that no other has, up to a limit"), sdiffcard),
    set(("sunion", -2), READ, Keys::ALL, ("1.0.0", "Returns the members of any set"), sunion),
    set(("sunionstore", -3), WRITE, Keys::ALL, ("1.0.0", "Stores the members of any set"), sunionstore),
    set(("sdiff", -2), READ, Keys::ALL, ("1.0.0", "Returns the first set's members that no other has"), sdiff),
    set(("sdiffstore", -3), WRITE, Keys::ALL, ("1.0.0", "Stores the first set's members that no other has"), sdiffstore),
];

#[derive(Clone, Copy)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

fn sinter(call: &mut Call<'_>) -> CommandResult {
    answer(call, Operation::Intersection)
}

fn sunion(call: &mut Call<'_>) -> CommandResult {
    answer(call, Operation::Union)
}

fn sdiff(call: &mut Call<'_>) -> CommandResult {
    answer(call, Operation::Difference)
}

fn sinterstore(call: &mut Call<'_>) -> CommandResult {
    store(call, Operation::Intersection)
}

fn sunionstore(call: &mut Call<'_>) -> CommandResult {
    store(call, Operation::Union)
}

fn sdiffstore(call: &mut Call<'_>) -> CommandResult {
    store(call, Operation::Difference)
}

fn answer(call: &mut Call<'_>, operation: Operation) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    let (hasher, limits) = (keyspace.hasher(), keyspace.thresholds);
    let sets = sets(keyspace.database(session.database), hasher, args.from(1), *now_ms)?;
    let mark = reply.mark();
    let mut count = 0;
    let mut show = |member: Element<'_>| {
        bulk(reply, member);
        count += 1;
    };
    match operation {
        Operation::Intersection => intersect(&sets, usize::MAX, show),
        Operation::Difference => subtract(&sets, show),
        Operation::Union => unite(&sets, hasher, &limits).iter().for_each(&mut show),
    }
    reply.prefix(mark, |reply| reply.set(count));
    Ok(())
}

fn store(call: &mut Call<'_>, operation: Operation) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let hasher = call.keyspace.hasher();
    let (target, hash) = (call.args.at(1), call.hash);
    let database = call.keyspace.database(call.session.database);
    let sets = sets(database, hasher, call.args.from(2), call.now_ms)?;
    let mut result = Set::new();
    let mut add = |member: Element<'_>| {
        let mut digits = itoa::Buffer::new();
        result.insert(member.text(&mut digits), hasher, &limits);
    };
    match operation {
        Operation::Intersection => intersect(&sets, usize::MAX, add),
        Operation::Difference => subtract(&sets, &mut add),
        Operation::Union => result = unite(&sets, hasher, &limits),
    }
    let count = result.len();
    let changed = if count == 0 {
        database.contains(target, hash, call.now_ms) && database.remove(target, hash)
    } else {
        database.insert_value(target, hash, Value::Set(Box::new(result)), Expiry::Clear);
        true
    };
    call.keyspace.dirty += u64::from(changed);
    call.reply.integer(count as i64);
    Ok(())
}

fn sintercard(call: &mut Call<'_>) -> CommandResult {
    cardinality(call, Operation::Intersection)
}

fn sunioncard(call: &mut Call<'_>) -> CommandResult {
    cardinality(call, Operation::Union)
}

fn sdiffcard(call: &mut Call<'_>) -> CommandResult {
    cardinality(call, Operation::Difference)
}

fn cardinality(call: &mut Call<'_>, operation: Operation) -> CommandResult {
    let Call { keyspace, session, args, now_ms, reply, .. } = call;
    let keys = at_least(args.get(1), 1, "ERR numkeys should be greater than 0")?;
    if keys > args.len() - 2 {
        return Err(CommandError::Text("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = usize::MAX;
    let mut options = args.from(keys + 2).iter();
    while let Some(option) = options.next() {
        let value = options.next().filter(|_| is(option, "limit")).ok_or(CommandError::Syntax)?;
        let most = at_least(Some(value), 0, "ERR LIMIT can't be negative")?;
        limit = if most == 0 { usize::MAX } else { most };
    }
    let (hasher, limits) = (keyspace.hasher(), keyspace.thresholds);
    let database = keyspace.database(session.database);
    let sets = sets(database, hasher, args.from(2).first(keys), *now_ms)?;
    let mut count = 0;
    match operation {
        Operation::Intersection => intersect(&sets, limit, |_| count += 1),
        Operation::Difference => subtract(&sets, |_| count += 1),
        Operation::Union => count = unite(&sets, hasher, &limits).len(),
    }
    reply.integer(count.min(limit) as i64);
    Ok(())
}

/// The sets at `keys`; all of them are checked before any is used.
fn sets<'d>(
    database: &'d mut Database,
    hasher: Hasher,
    keys: Args<'_>,
    now_ms: u64,
) -> Result<Vec<Option<&'d Set>>, CommandError> {
    for key in keys.iter() {
        database.set(key, hasher.hash(key), now_ms)?;
    }
    let table = database.table();
    let value = |key: &[u8]| table.find(key, hasher.hash(key)).map(|entry| entry.value());
    Ok(keys
        .iter()
        .map(|key| match value(key) {
            Some(ValueRef::Set(set)) => Some(set),
            _ => None,
        })
        .collect())
}

/// Shows up to `limit` members that all sets have: walks the smallest and asks the others.
fn intersect(sets: &[Option<&Set>], limit: usize, mut show: impl FnMut(Element<'_>)) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    smallest
        .iter()
        .filter(|member| others.iter().all(|set| set.contains_element(*member)))
        .take(limit)
        .for_each(&mut show);
}

fn subtract(sets: &[Option<&Set>], show: impl FnMut(Element<'_>)) {
    let Some((Some(first), others)) = sets.split_first() else { return };
    let others: Vec<&Set> = others.iter().copied().flatten().collect();
    first
        .iter()
        .filter(|member| !others.iter().any(|set| set.contains_element(*member)))
        .for_each(show);
}

fn unite(sets: &[Option<&Set>], hasher: Hasher, limits: &Thresholds) -> Set {
    let mut union = Set::new();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        let mut digits = itoa::Buffer::new();
        union.insert(member.text(&mut digits), hasher, limits);
    }
    union
}
