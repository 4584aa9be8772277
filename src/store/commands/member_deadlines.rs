//! Deadlines of single members: Redis 7.4's HEXPIRE family on hash fields, the same on members of sets (SEXPIRE ...) and
//! sorted sets (ZEXPIRE ...), and KeyDB's EXPIREMEMBER on any of them.
//!
//! A member that has ended is gone for every command; a key whose last member has ended is gone too. Adding a member that
//! is there, or giving it another score, leaves its deadline; HSET takes it away. What reads and sets fields along with
//! their deadlines is in `hash_deadlines.rs`.

use super::collection::{READ_FAST, REMOVE_FAST, Run, is, row};
use super::expire::Condition;
use super::expire_time::{EPOCH_MILLISECONDS, EPOCH_SECONDS, MILLISECONDS, SECONDS, Unit};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::number::parse_integer;
use crate::store::thresholds::Thresholds;
use crate::store::value::{Kind, ValueMut};
use crate::store::{Args, CommandError, Hasher, Keyspace, Reply};

const fn of(
    group: &'static str,
    usage: (&'static str, i16),
    flags: Flags,
    summary: &'static str,
    run: Run,
) -> Command {
    // Redis has these on hashes since 7.4; on the other types they are this cache's own.
    let since = if group.len() == 4 { "7.4.0" } else { "0.1.0" };
    row(group, usage, flags, Keys::ONE, (since, summary), run)
}

const fn any(usage: (&'static str, i16), summary: &'static str, run: Run) -> Command {
    row("generic", usage, WRITE, Keys::ONE, ("0.1.0", summary), run)
}

const READ: Flags = READ_FAST;
const WRITE: Flags = REMOVE_FAST.and(Flags::DENYOOM);
const KEEP: Flags = REMOVE_FAST;

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    of("hash", ("hexpire", -6), WRITE, "Sets when fields end, in seconds from now", |call| expire(call, HASH, SECONDS, "hexpire")),
    of("hash", ("hpexpire", -6), WRITE, "Sets when fields end, in milliseconds from now", |call| expire(call, HASH, MILLISECONDS, "hpexpire")),
    of("hash", ("hexpireat", -6), WRITE, "Sets when fields end, in seconds since the epoch", |call| expire(call, HASH, EPOCH_SECONDS, "hexpireat")),
    of("hash", ("hpexpireat", -6), WRITE, "Sets when fields end, in milliseconds since the epoch", |call| expire(call, HASH, EPOCH_MILLISECONDS, "hpexpireat")),
    of("hash", ("hpersist", -5), KEEP, "Takes the deadlines of fields away", |call| persist(call, HASH)),
    of("hash", ("httl", -5), READ, "Returns how long fields still live, in seconds", |call| show(call, HASH, seconds_left)),
    of("hash", ("hpttl", -5), READ, "Returns how long fields still live, in milliseconds", |call| show(call, HASH, milliseconds_left)),
    of("hash", ("hexpiretime", -5), READ, "Returns when fields end, in seconds since the epoch", |call| show(call, HASH, seconds)),
    of("hash", ("hpexpiretime", -5), READ, "Returns when fields end, in milliseconds since the epoch", |call| show(call, HASH, milliseconds)),
    of("set", ("sexpire", -6), WRITE, "Sets when members of a set end, in seconds from now", |call| expire(call, SET, SECONDS, "sexpire")),
    of("set", ("spexpire", -6), WRITE, "Sets when members of a set end, in milliseconds from now", |call| expire(call, SET, MILLISECONDS, "spexpire")),
    of("set", ("sexpireat", -6), WRITE, "Sets when members of a set end, in seconds since the epoch", |call| expire(call, SET, EPOCH_SECONDS, "sexpireat")),
    of("set", ("spexpireat", -6), WRITE, "Sets when members of a set end, in milliseconds since the epoch", |call| expire(call, SET, EPOCH_MILLISECONDS, "spexpireat")),
    of("set", ("spersist", -5), KEEP, "Takes the deadlines of members of a set away", |call| persist(call, SET)),
    of("set", ("sttl", -5), READ, "Returns how long members of a set still live, in seconds", |call| show(call, SET, seconds_left)),
    of("set", ("spttl", -5), READ, "Returns how long members of a set still live, in milliseconds", |call| show(call, SET, milliseconds_left)),
    of("set", ("sexpiretime", -5), READ, "Returns when members of a set end, in seconds since the epoch", |call| show(call, SET, seconds)),
    of("set", ("spexpiretime", -5), READ, "Returns when members of a set end, in milliseconds since the epoch", |call| show(call, SET, milliseconds)),
    of("sorted-set", ("zexpire", -6), WRITE, "Sets when members of a sorted set end, in seconds from now", |call| expire(call, SORTED_SET, SECONDS, "zexpire")),
    of("sorted-set", ("zpexpire", -6), WRITE, "Sets when members of a sorted set end, in milliseconds from now", |call| expire(call, SORTED_SET, MILLISECONDS, "zpexpire")),
    of("sorted-set", ("zexpireat", -6), WRITE, "Sets when members of a sorted set end, in seconds since the epoch", |call| expire(call, SORTED_SET, EPOCH_SECONDS, "zexpireat")),
    of("sorted-set", ("zpexpireat", -6), WRITE, "Sets when members of a sorted set end, in milliseconds since the epoch", |call| expire(call, SORTED_SET, EPOCH_MILLISECONDS, "zpexpireat")),
    of("sorted-set", ("zpersist", -5), KEEP, "Takes the deadlines of members of a sorted set away", |call| persist(call, SORTED_SET)),
    of("sorted-set", ("zttl", -5), READ, "Returns how long members of a sorted set still live, in seconds", |call| show(call, SORTED_SET, seconds_left)),
    of("sorted-set", ("zpttl", -5), READ, "Returns how long members of a sorted set still live, in milliseconds", |call| show(call, SORTED_SET, milliseconds_left)),
    of("sorted-set", ("zexpiretime", -5), READ, "Returns when members of a sorted set end, in seconds since the epoch", |call| show(call, SORTED_SET, seconds)),
    of("sorted-set", ("zpexpiretime", -5), READ, "Returns when members of a sorted set end, in milliseconds since the epoch", |call| show(call, SORTED_SET, milliseconds)),
    any(("expiremember", -4), "Sets when a member ends, in seconds (or `ms`) from now; as KeyDB's", expiremember),
    any(("expirememberat", 4), "Sets when a member ends, in seconds since the epoch; as KeyDB's", |call| expire_one(call, EPOCH_SECONDS, "expirememberat")),
    any(("pexpirememberat", 4), "Sets when a member ends, in milliseconds since the epoch; as KeyDB's", |call| expire_one(call, EPOCH_MILLISECONDS, "pexpirememberat")),
];

/// A type of collection and how its commands name what it holds.
#[derive(Clone, Copy)]
pub struct Family {
    kind: Kind,
    keyword: &'static str,
    missing: &'static str,
}

pub const HASH: Family = Family {
    kind: Kind::Hash,
    keyword: "fields",
    missing: "ERR Mandatory argument FIELDS is missing or not at the right position",
};
const SET: Family = Family { kind: Kind::Set, ..MEMBERS };
const SORTED_SET: Family = Family { kind: Kind::SortedSet, ..MEMBERS };
const MEMBERS: Family = Family {
    kind: Kind::Set,
    keyword: "members",
    missing: "ERR Mandatory argument MEMBERS is missing or not at the right position",
};

/// What HEXPIRE and kin answer for each member.
const NO_MEMBER: i64 = -2;
const NO_DEADLINE: i64 = -1;
const REFUSED: i64 = 0;
const DONE: i64 = 1;
const ENDED: i64 = 2;

/// What changing a deadline takes besides the value.
#[derive(Clone, Copy)]
pub struct Surroundings {
    hasher: Hasher,
    limits: Thresholds,
    now_ms: u64,
}

impl Surroundings {
    pub fn of(keyspace: &Keyspace, now_ms: u64) -> Surroundings {
        Surroundings { hasher: keyspace.hasher(), limits: keyspace.thresholds, now_ms }
    }
}

impl Family {
    /// The members behind `FIELDS count` at argument `at`; `width` arguments each.
    pub fn members<'a>(
        self,
        args: Args<'a>,
        at: usize,
        width: usize,
        not_positive: &'static str,
    ) -> Result<Args<'a>, CommandError> {
        if !args.get(at).is_some_and(|word| is(word, self.keyword)) {
            return Err(CommandError::Text(self.missing));
        }
        let count = args.get(at + 1).and_then(parse_integer).filter(|count| *count > 0);
        let count = count.ok_or(CommandError::Text(not_positive))?;
        let members = args.from(at + 2);
        if count.checked_mul(width as i64) != Some(members.len() as i64) {
            const MISMATCH: &str =
                "ERR The `numfields` parameter must match the number of arguments";
            return Err(CommandError::Text(MISMATCH));
        }
        Ok(members)
    }

    /// Refuses a key of another type.
    pub fn check(self, call: &mut Call<'_>) -> CommandResult {
        let database = call.keyspace.database(call.session.database);
        let entry = database.peek(call.args.at(1), call.hash, call.now_ms);
        match entry.map(|entry| entry.kind()) {
            Some(kind) if kind != self.kind => Err(CommandError::WrongType),
            _ => Ok(()),
        }
    }
}

pub const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

fn expire(call: &mut Call<'_>, family: Family, unit: Unit, name: &str) -> CommandResult {
    family.check(call)?;
    let args = call.args;
    let at_ms = unit.of_member(args.at(2), call.now_ms, name)?;
    let has_condition = !is(args.at(3), family.keyword);
    let condition = match Condition::parse(args.from(3).first(usize::from(has_condition))) {
        Ok(condition) => condition,
        Err(_) => return Err(CommandError::Text(family.missing)),
    };
    const NOT_POSITIVE: &str = "ERR Parameter `numFields` should be greater than 0";
    let members = family.members(args, 3 + usize::from(has_condition), 1, NOT_POSITIVE)?;
    change(call, members, |value, member, around| {
        let Some(before_ms) = deadline(value, member) else { return NO_MEMBER };
        if !condition.holds(before_ms, at_ms as i64) {
            return REFUSED;
        }
        set_or_end(value, member, at_ms, around)
    })
}

fn persist(call: &mut Call<'_>, family: Family) -> CommandResult {
    family.check(call)?;
    let members = family.members(call.args, 2, 1, NOT_POSITIVE)?;
    change(call, members, |value, member, around| match deadline(value, member) {
        None => NO_MEMBER,
        Some(None) => NO_DEADLINE,
        Some(Some(_)) => {
            set_deadline(value, member, None, around);
            DONE
        }
    })
}

/// Changes each of the members and answers what came of it.
fn change(
    call: &mut Call<'_>,
    members: Args<'_>,
    one: impl FnMut(&mut ValueMut<'_>, &[u8], Surroundings) -> i64,
) -> CommandResult {
    let changes = each(call, members, one)?;
    call.keyspace.dirty += changes;
    Ok(())
}

/// Answers what `one` says of each of the members; how many of them it changed, if it changes any.
fn each(
    call: &mut Call<'_>,
    members: Args<'_>,
    mut one: impl FnMut(&mut ValueMut<'_>, &[u8], Surroundings) -> i64,
) -> Result<u64, CommandError> {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let around = Surroundings::of(keyspace, *now_ms);
    let database = keyspace.database(session.database);
    reply.array(members.len());
    let changes = database.change_deadlines(args.at(1), *hash, *now_ms, |mut value| {
        let mut changes = 0;
        for member in members.iter() {
            let result = one(&mut value, member, around);
            changes += u64::from(matches!(result, DONE | ENDED));
            reply.integer(result);
        }
        Ok(changes)
    })?;
    if changes.is_none() {
        members.iter().for_each(|_| reply.integer(NO_MEMBER));
    }
    Ok(changes.unwrap_or_default())
}

fn show(call: &mut Call<'_>, family: Family, form: fn(u64, u64) -> u64) -> CommandResult {
    family.check(call)?;
    let members = family.members(call.args, 2, 1, NOT_POSITIVE)?;
    let now_ms = call.now_ms;
    each(call, members, |value, member, _| match deadline(value, member) {
        None => NO_MEMBER,
        Some(None) => NO_DEADLINE,
        Some(Some(at_ms)) => form(at_ms, now_ms) as i64,
    })
    .map(|_looked_at| ())
}

fn seconds_left(at_ms: u64, now_ms: u64) -> u64 {
    (at_ms - now_ms).div_ceil(1000)
}

fn milliseconds_left(at_ms: u64, now_ms: u64) -> u64 {
    at_ms - now_ms
}

fn seconds(at_ms: u64, _now_ms: u64) -> u64 {
    at_ms.div_ceil(1000)
}

fn milliseconds(at_ms: u64, _now_ms: u64) -> u64 {
    at_ms
}

fn expiremember(call: &mut Call<'_>) -> CommandResult {
    let unit = match call.args.get(4) {
        None => SECONDS,
        Some(unit) if is(unit, "s") && call.args.len() == 5 => SECONDS,
        Some(unit) if is(unit, "ms") && call.args.len() == 5 => MILLISECONDS,
        Some(_) => return Err(CommandError::Syntax),
    };
    expire_one(call, unit, "expiremember")
}

fn expire_one(call: &mut Call<'_>, unit: Unit, name: &str) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let at_ms = unit.of_member(args.at(3), *now_ms, name)?;
    let (member, around) = (args.at(2), Surroundings::of(keyspace, *now_ms));
    let database = keyspace.database(session.database);
    let found = database.change_deadlines(args.at(1), *hash, *now_ms, |mut value| {
        if matches!(value, ValueMut::Other | ValueMut::List(_) | ValueMut::Stream(_)) {
            return Err(CommandError::WrongType);
        }
        let is_there = deadline(&value, member).is_some();
        if is_there {
            set_or_end(&mut value, member, at_ms, around);
        }
        Ok(is_there)
    })?;
    let found = found.unwrap_or(false);
    keyspace.dirty += u64::from(found);
    reply.integer(i64::from(found));
    Ok(())
}

/// When a member ends; the outer `None` if it isn't there.
pub fn deadline(value: &ValueMut<'_>, member: &[u8]) -> Option<Option<u64>> {
    match value {
        ValueMut::Hash(hash) => hash.deadline(member),
        ValueMut::Set(set) => set.deadline(member),
        ValueMut::SortedSet(set) => set.deadline(member),
        ValueMut::Other | ValueMut::List(_) | ValueMut::Stream(_) => None,
    }
}

fn set_deadline(value: &mut ValueMut<'_>, member: &[u8], at_ms: Option<u64>, around: Surroundings) {
    match value {
        ValueMut::Hash(hash) => hash.set_deadline(member, at_ms),
        ValueMut::Set(set) => set.set_deadline(member, at_ms, around.hasher, &around.limits),
        ValueMut::SortedSet(set) => set.set_deadline(member, at_ms),
        ValueMut::Other | ValueMut::List(_) | ValueMut::Stream(_) => {}
    }
}

/// Gives a member that is there a deadline, or removes it if that has passed.
pub fn set_or_end(
    value: &mut ValueMut<'_>,
    member: &[u8],
    at_ms: u64,
    around: Surroundings,
) -> i64 {
    if at_ms > around.now_ms {
        set_deadline(value, member, Some(at_ms), around);
        return DONE;
    }
    match value {
        ValueMut::Hash(hash) => hash.remove(member),
        ValueMut::Set(set) => set.remove(member),
        ValueMut::SortedSet(set) => set.remove(member),
        ValueMut::Other | ValueMut::List(_) | ValueMut::Stream(_) => false,
    };
    ENDED
}

/// A null for each member of a key that isn't there.
pub fn nulls(reply: &mut Reply<'_>, count: usize) {
    reply.array(count);
    (0..count).for_each(|_| reply.null());
}

#[cfg(test)]
mod tests;
