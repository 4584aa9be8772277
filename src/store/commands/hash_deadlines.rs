//! Commands that read or set fields of a hash together with their deadlines: HGETEX, HSETEX and HGETDEL of Redis 8.

use super::collection::{Run, bulk, created, is, row, wrote};
use super::expire_time::expire_unit;
use super::member_deadlines::{HASH, NOT_POSITIVE, Surroundings, nulls, set_or_end};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::hash::Hash;
use crate::store::value::ValueMut;
use crate::store::{Args, CommandError, Database, Reply};

const fn hash(
    usage: (&'static str, i16),
    flags: Flags,
    summary: &'static str,
    run: Run,
) -> Command {
    row("hash", usage, flags, Keys::ONE, ("8.0.0", summary), run)
}

const WRITE: Flags = Flags::WRITE.and(Flags::FAST);

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    hash(("hgetex", -5), WRITE, "Returns the values of fields after changing when they end", hgetex),
    hash(("hgetdel", -5), WRITE, "Returns the values of fields and removes them", hgetdel),
    hash(("hsetex", -6), WRITE.and(Flags::DENYOOM), "Sets fields to values together with when they end", hsetex),
];

/// What becomes of the fields' deadlines.
#[derive(Clone, Copy)]
enum Deadline {
    Unchanged,
    None,
    At(u64),
}

/// What stands between the key and FIELDS, and where that is.
struct Options {
    deadline: Deadline,
    if_absent: bool,
    if_present: bool,
    end: usize,
}

impl Options {
    /// `keep` is the word that leaves (HSETEX) or takes away (HGETEX) deadlines; conditions are HSETEX's.
    fn parse(call: &Call<'_>, name: &str, keep: (&str, Deadline)) -> Result<Options, CommandError> {
        let args = call.args;
        let setting = name == "hsetex";
        let mut options =
            Options { deadline: Deadline::Unchanged, if_absent: false, if_present: false, end: 2 };
        if setting {
            options.deadline = Deadline::None;
        }
        let mut chosen = false;
        while let Some(word) = args.get(options.end).filter(|word| !is(word, "fields")) {
            let conditional = options.if_absent || options.if_present;
            if setting && !conditional && (is(word, "fnx") || is(word, "fxx")) {
                options.if_absent = is(word, "fnx");
                options.if_present = !options.if_absent;
            } else if is(word, keep.0) && !chosen {
                chosen = true;
                options.deadline = keep.1;
            } else if let Some(unit) = expire_unit(word).filter(|_| !chosen) {
                chosen = true;
                options.end += 1;
                let text = args.get(options.end).ok_or(CommandError::Syntax)?;
                options.deadline = Deadline::At(unit.of_member(text, call.now_ms, name)?);
            } else {
                return Err(CommandError::Syntax);
            }
            options.end += 1;
        }
        Ok(options)
    }
}

fn hgetex(call: &mut Call<'_>) -> CommandResult {
    HASH.check(call)?;
    let options = Options::parse(call, "hgetex", ("persist", Deadline::None))?;
    let fields = HASH.members(call.args, options.end, 1, NOT_POSITIVE)?;
    let around = Surroundings::of(call.keyspace, call.now_ms);
    read(call, fields, |hash, field| match options.deadline {
        Deadline::Unchanged => false,
        Deadline::None => {
            let timed = hash.deadline(field).flatten().is_some();
            hash.set_deadline(field, None);
            timed
        }
        Deadline::At(at_ms) => {
            set_or_end(&mut ValueMut::Hash(hash), field, at_ms, around);
            true
        }
    })
}

fn hgetdel(call: &mut Call<'_>) -> CommandResult {
    HASH.check(call)?;
    let fields = HASH.members(call.args, 2, 1, NOT_POSITIVE)?;
    read(call, fields, |hash, field| hash.remove(field))
}

/// Answers the fields' values; `then` does something with each field that is there, and says whether that was a change.
fn read(
    call: &mut Call<'_>,
    fields: Args<'_>,
    mut then: impl FnMut(&mut Hash, &[u8]) -> bool,
) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let changes = database.change_deadlines(args.at(1), *hash, *now_ms, |value| {
        let ValueMut::Hash(hash) = value else { return Err(CommandError::WrongType) };
        reply.array(fields.len());
        Ok(fields.iter().filter(|field| read_one(hash, field, reply, &mut then)).count())
    })?;
    match changes {
        Some(changes) => keyspace.dirty += changes as u64,
        None => nulls(reply, fields.len()),
    }
    Ok(())
}

fn read_one(
    hash: &mut Hash,
    field: &[u8],
    reply: &mut Reply<'_>,
    then: &mut impl FnMut(&mut Hash, &[u8]) -> bool,
) -> bool {
    let Some(value) = hash.at(field) else {
        reply.null();
        return false;
    };
    bulk(reply, value);
    then(hash, field)
}

fn hsetex(call: &mut Call<'_>) -> CommandResult {
    HASH.check(call)?;
    let options = Options::parse(call, "hsetex", ("keepttl", Deadline::Unchanged))?;
    let pairs = HASH.members(call.args, options.end, 2, NOT_POSITIVE)?;
    if !holds(call, pairs, &options)? {
        call.reply.integer(0);
        return Ok(());
    }
    let (hasher, limits) = (call.keyspace.hasher(), call.keyspace.thresholds);
    let around = Surroundings::of(call.keyspace, call.now_ms);
    let (hash, _, _) = created(call, Database::hash_or_create)?;
    for index in (0..pairs.len()).step_by(2) {
        let (field, value) = (pairs.at(index), pairs.at(index + 1));
        match options.deadline {
            Deadline::Unchanged => hash.update(field, value, hasher, &limits),
            _ => hash.set(field, value, hasher, &limits),
        };
    }
    if let Deadline::At(at_ms) = options.deadline {
        let Call { keyspace, session, args, hash, now_ms, .. } = call;
        let database = keyspace.database(session.database);
        database.change_deadlines(args.at(1), *hash, *now_ms, |mut value| {
            for field in pairs.iter().step_by(2) {
                set_or_end(&mut value, field, at_ms, around);
            }
            Ok(())
        })?;
    }
    wrote(call, pairs.len() / 2, false);
    call.reply.integer(1);
    Ok(())
}

/// Whether FNX or FXX lets the fields be set.
fn holds(call: &mut Call<'_>, pairs: Args<'_>, options: &Options) -> Result<bool, CommandError> {
    let Call { keyspace, session, args, hash, now_ms, .. } = call;
    let database = keyspace.database(session.database);
    let hash = database.hash(args.at(1), *hash, *now_ms)?;
    let mut there = pairs
        .iter()
        .step_by(2)
        .map(|field| hash.as_ref().is_some_and(|hash| hash.at(field).is_some()));
    Ok(match (options.if_absent, options.if_present) {
        (true, _) => !there.any(|there| there),
        (_, true) => there.all(|there| there),
        _ => true,
    })
}
