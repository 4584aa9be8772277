//! Commands on one set, and SMOVE; those on several are in `set_algebra.rs`.

use super::collection::{
    READ, READ_FAST, REMOVE_FAST, Run, WRITE_FAST, bulk, created_within, database, found, positive,
    random_count, row, wrote,
};
use super::element_scan::Scan;
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::call::CommandError;
use crate::store::database::Database;

pub(super) const fn set(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("set", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    set(("sadd", -3), WRITE_FAST, Keys::ONE, ("1.0.0", "Adds members to a set"), sadd),
    set(("srem", -3), REMOVE_FAST, Keys::ONE, ("1.0.0", "Removes members from a set"), srem),
    set(("sismember", 3), READ_FAST, Keys::ONE, ("1.0.0", "Tells whether a set has a member"), sismember),
    set(("smismember", -3), READ_FAST, Keys::ONE, ("6.2.0", "Tells of several members whether a set has them"), smismember),
    set(("scard", 2), READ_FAST, Keys::ONE, ("1.0.0", "Returns the number of members"), scard),
    set(("smembers", 2), READ, Keys::ONE, ("1.0.0", "Returns all members of a set"), smembers),
    set(("spop", -2), REMOVE_FAST, Keys::ONE, ("1.0.0", "Removes and returns random members"), spop),
    set(("srandmember", -2), READ, Keys::ONE, ("1.0.0", "Returns random members"), srandmember),
    set(("smove", 4), REMOVE_FAST, Keys::TWO, ("1.0.0", "Moves a member from one set to another"), smove),
    set(("sscan", -3), READ, Keys::ONE, ("2.8.0", "Iterates over a set's members"), sscan),
];

fn sadd(call: &mut Call<'_>) -> CommandResult {
    let hasher = call.keyspace.hasher();
    let (set, args, reply, limits) = created_within(call, Database::set_or_create)?;
    let mut added = 0;
    for member in args.from(2).iter() {
        added += usize::from(set.insert(member, hasher, limits));
    }
    reply.integer(added as i64);
    wrote(call, added, false);
    Ok(())
}

fn srem(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::set)?;
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

fn sismember(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::set)?;
    reply.integer(i64::from(set.is_some_and(|set| set.contains(args.at(2)))));
    Ok(())
}

fn smismember(call: &mut Call<'_>) -> CommandResult {
    let (set, args, reply) = found(call, Database::set)?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        reply.integer(i64::from(set.as_ref().is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

fn scard(call: &mut Call<'_>) -> CommandResult {
    let (set, _, reply) = found(call, Database::set)?;
    reply.integer(set.map_or(0, |set| set.len()) as i64);
    Ok(())
}

fn smembers(call: &mut Call<'_>) -> CommandResult {
    let (set, _, reply) = found(call, Database::set)?;
    let Some(set) = set else {
        reply.set(0);
        return Ok(());
    };
    reply.set(set.len());
    set.iter().for_each(|member| bulk(reply, member));
    Ok(())
}

fn spop(call: &mut Call<'_>) -> CommandResult {
    let mut random = call.keyspace.random();
    match call.args.len() {
        2 => {}
        3 => return spop_many(call),
        _ => return Err(CommandError::Syntax),
    }
    let (set, _, reply) = found(call, Database::set)?;
    let Some((set, member)) =
        set.and_then(|set| set.random(&mut random).map(|member| member.to_vec()).map(|m| (set, m)))
    else {
        reply.null();
        return Ok(());
    };
    set.remove(&member);
    reply.bulk(&member);
    let empty = set.is_empty();
    wrote(call, 1, empty);
    Ok(())
}

fn spop_many(call: &mut Call<'_>) -> CommandResult {
    let count = positive(call.args.at(2))?;
    let mut random = call.keyspace.random();
    let (set, _, reply) = found(call, Database::set)?;
    let Some(set) = set.filter(|_| count > 0) else {
        reply.set(0);
        return Ok(());
    };
    if count >= set.len() {
        let len = set.len();
        reply.set(len);
        set.iter().for_each(|member| bulk(reply, member));
        call.keyspace.dirty += len as u64;
        let (key, hash) = (call.args.at(1), call.hash);
        database(call).remove(key, hash);
        return Ok(());
    }
    let members: Vec<Vec<u8>> =
        set.sample(count, &mut random).iter().map(|member| member.to_vec()).collect();
    reply.set(members.len());
    for member in &members {
        set.remove(member);
        reply.bulk(member);
    }
    wrote(call, members.len(), false);
    Ok(())
}

fn srandmember(call: &mut Call<'_>) -> CommandResult {
    let mut random = call.keyspace.random();
    let count = match call.args.len() {
        2 => None,
        3 => Some(random_count(call.args.at(2))?),
        _ => return Err(CommandError::Syntax),
    };
    let (set, _, reply) = found(call, Database::set)?;
    let Some(set) = set else {
        match count {
            None => reply.null(),
            Some(_) => reply.array(0),
        }
        return Ok(());
    };
    match count {
        None => match set.random(&mut random) {
            Some(member) => bulk(reply, member),
            None => reply.null(),
        },
        Some(count) if count < 0 => {
            reply.array(count.unsigned_abs() as usize);
            for _ in 0..count.unsigned_abs() {
                let member = set.random(&mut random).expect("a stored set isn't empty");
                bulk(reply, member);
            }
        }
        Some(count) => {
            let members = set.sample(count as usize, &mut random);
            reply.array(members.len());
            members.into_iter().for_each(|member| bulk(reply, member));
        }
    }
    Ok(())
}

fn smove(call: &mut Call<'_>) -> CommandResult {
    let limits = call.keyspace.thresholds;
    let hasher = call.keyspace.hasher();
    let (key, target, member) = (call.args.at(1), call.args.at(2), call.args.at(3));
    let (hash, target_hash, now_ms) = (call.hash, hasher.hash(target), call.now_ms);
    let database = database(call);
    if database.set(key, hash, now_ms)?.is_none() {
        call.reply.integer(0);
        return Ok(());
    }
    // The target's type is checked before anything moves.
    database.set(target, target_hash, now_ms)?;
    let source = database.set(key, hash, now_ms)?;
    let moved = source.is_some_and(|set| match key == target {
        true => set.contains(member),
        false => set.remove(member),
    });
    if moved && key != target {
        let set = database.set_or_create(target, target_hash, now_ms)?;
        set.insert(member, hasher, &limits);
        database.remove_if_empty(key, hash);
        call.keyspace.dirty += 1;
    }
    call.reply.integer(i64::from(moved));
    Ok(())
}

fn sscan(call: &mut Call<'_>) -> CommandResult {
    Scan::cursor(call.args.at(2))?;
    let (set, args, reply) = found(call, Database::set)?;
    let Some(set) = set else {
        Scan::nothing(reply);
        return Ok(());
    };
    let scan = Scan::parse(args, false)?;
    Scan::answer(reply, |reply| {
        let mut shown = 0;
        let next = set.scan(scan.cursor, scan.count, |member| {
            if scan.wants(member) {
                bulk(reply, member);
                shown += 1;
            }
        });
        (next, shown)
    });
    Ok(())
}

#[cfg(test)]
mod tests;
