//! DUMP and RESTORE: a value as bytes that any Redis understands, and back. MIGRATE, which would need a connection of the
//! store's own, says what to do instead.

use super::collection::{READ, Run, WRITE, integer, is, row};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::rdb::{self, Builder, Damage};
use crate::store::{Args, CommandError, Expiry};

const fn keys(
    usage: (&'static str, i16),
    flags: Flags,
    keys: Keys,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("generic", usage, flags, keys, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    keys(("dump", 2), READ, Keys::ONE, ("2.6.0", "Returns a value as bytes for RESTORE"), dump),
    keys(("restore", -4), WRITE, Keys::ONE, ("2.6.0", "Makes a key from what DUMP returned"), restore),
    keys(("migrate", -6), WRITE, Keys::NONE, ("2.6.0", "Refused: use DUMP and RESTORE from the client"), migrate),
];

fn dump(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    match keyspace.database(session.database).find(args.at(1), *hash, *now_ms) {
        Some(entry) => reply.bulk(&rdb::dump(entry.value())),
        None => reply.null(),
    }
    Ok(())
}

/// RESTORE's options.
#[derive(Clone, Copy, Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            let measured = options.idle_seconds.is_some() || options.frequency.is_some();
            if is(option, "replace") {
                options.replace = true;
            } else if is(option, "absttl") {
                options.absolute = true;
            } else if is(option, "idletime") && !measured {
                let seconds = integer(rest.next().ok_or(CommandError::Syntax)?)?;
                const NEGATIVE: &str = "ERR Invalid IDLETIME value, must be >= 0";
                let seconds = u64::try_from(seconds).map_err(|_| CommandError::Text(NEGATIVE))?;
                options.idle_seconds = Some(seconds);
            } else if is(option, "freq") && !measured {
                let frequency = integer(rest.next().ok_or(CommandError::Syntax)?)?;
                const RANGE: &str = "ERR Invalid FREQ value, must be >= 0 and <= 255";
                let frequency = u8::try_from(frequency).map_err(|_| CommandError::Text(RANGE))?;
                options.frequency = Some(frequency);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

fn restore(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, instance, session, args, hash, now_ms, reply } = call;
    let options = Options::parse(args.from(4))?;
    let (key, hash) = (args.at(1), *hash);
    let (hasher, limits) = (keyspace.hasher(), keyspace.thresholds);
    let database = keyspace.database(session.database);
    if !options.replace && database.contains(key, hash, *now_ms) {
        return Err(CommandError::Text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = u64::try_from(integer(args.at(2))?)
        .map_err(|_| CommandError::Text("ERR Invalid TTL value, must be >= 0"))?;
    let builder = Builder { hasher, thresholds: &limits };
    instance.statistics.payloads += 1;
    let value = rdb::restore(args.at(3), &builder).map_err(|damage| {
        CommandError::Text(match damage {
            Damage::Footer => "ERR DUMP payload version or checksum are wrong",
            _ => "ERR Bad data format",
        })
    })?;
    let expires_ms = match ttl_ms {
        0 => None,
        _ if options.absolute => Some(ttl_ms),
        _ => Some(ttl_ms.saturating_add(*now_ms)),
    };
    if expires_ms.is_some_and(|at_ms| at_ms <= *now_ms) {
        let deleted = database.delete(key, hash, *now_ms);
        keyspace.dirty += u64::from(deleted);
        reply.ok();
        return Ok(());
    }
    database.insert_value(key, hash, value, Expiry::from(expires_ms));
    if let Some(seconds) = options.idle_seconds {
        database.set_idle(key, hash, seconds);
    }
    if let Some(counter) = options.frequency {
        database.set_frequency(key, hash, counter);
    }
    keyspace.dirty += 1;
    reply.ok();
    Ok(())
}

fn migrate(_call: &mut Call<'_>) -> CommandResult {
    const REFUSED: &str = "ERR MIGRATE isn't supported: a cache opens no connections. Move keys from the client with DUMP \
                           and RESTORE, whose payloads are Redis's";
    Err(CommandError::Text(REFUSED))
}

#[cfg(test)]
mod tests;
