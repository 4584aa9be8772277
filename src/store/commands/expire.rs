//! Commands that set, remove and show a key's expiry. Rows are in `keys.rs`.

use super::collection::is;
use super::expire_time::{EPOCH_MILLISECONDS, EPOCH_SECONDS, MILLISECONDS, SECONDS, Unit};
use super::{Call, CommandResult};
use crate::store::{Args, CommandError};

pub(super) fn expire(call: &mut Call<'_>) -> CommandResult {
    set(call, SECONDS, "expire")
}

pub(super) fn pexpire(call: &mut Call<'_>) -> CommandResult {
    set(call, MILLISECONDS, "pexpire")
}

pub(super) fn expireat(call: &mut Call<'_>) -> CommandResult {
    set(call, EPOCH_SECONDS, "expireat")
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> CommandResult {
    set(call, EPOCH_MILLISECONDS, "pexpireat")
}

/// When a new expiry is taken.
#[derive(Clone, Copy, Default)]
pub(super) struct Condition {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl Condition {
    pub fn parse(args: Args<'_>) -> Result<Condition, CommandError> {
        let mut condition = Condition::default();
        for option in args.iter() {
            if is(option, "nx") {
                condition.if_none = true;
            } else if is(option, "xx") {
                condition.if_some = true;
            } else if is(option, "gt") {
                condition.if_later = true;
            } else if is(option, "lt") {
                condition.if_earlier = true;
            } else {
                let shown = option.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = [b"ERR Unsupported option ", shown].concat();
                return Err(CommandError::Owned(text));
            }
        }
        let Condition { if_none, if_some, if_later, if_earlier } = condition;
        if if_none && (if_some || if_later || if_earlier) {
            return Err(CommandError::Text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if if_later && if_earlier {
            return Err(CommandError::Text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(condition)
    }

    /// No expiry counts as infinitely late.
    pub fn holds(self, before_ms: Option<u64>, at_ms: i64) -> bool {
        let at_ms = i128::from(at_ms);
        let before = before_ms.map_or(i128::MAX, i128::from);
        !(self.if_none && before_ms.is_some()
            || self.if_some && before_ms.is_none()
            || self.if_later && at_ms <= before
            || self.if_earlier && at_ms >= before)
    }
}

fn set(call: &mut Call<'_>, unit: Unit, name: &str) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let condition = Condition::parse(args.from(3))?;
    let at_ms = unit.any(args.at(2), *now_ms, name)?;
    let (key, hash) = (args.at(1), *hash);
    let database = keyspace.database(session.database);
    let before = database.peek(key, hash, *now_ms).map(|entry| entry.expires_ms());
    let Some(before) = before.filter(|before| condition.holds(*before, at_ms)) else {
        reply.integer(0);
        return Ok(());
    };
    match u64::try_from(at_ms).ok().filter(|at_ms| at_ms > now_ms) {
        Some(at_ms) if before == Some(at_ms) => {}
        Some(at_ms) => drop(database.expire_at(key, hash, Some(at_ms))),
        None => drop(database.remove(key, hash)),
    }
    keyspace.dirty += 1;
    reply.integer(1);
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let expiry = database.peek(args.at(1), *hash, *now_ms).and_then(|entry| entry.expires_ms());
    if expiry.is_some() {
        database.expire_at(args.at(1), *hash, None);
        keyspace.dirty += 1;
    }
    reply.integer(i64::from(expiry.is_some()));
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_>) -> CommandResult {
    show(call, |at_ms, now_ms| rounded_seconds(at_ms - now_ms))
}

pub(super) fn pttl(call: &mut Call<'_>) -> CommandResult {
    show(call, |at_ms, now_ms| at_ms - now_ms)
}

pub(super) fn expiretime(call: &mut Call<'_>) -> CommandResult {
    show(call, |at_ms, _| rounded_seconds(at_ms))
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> CommandResult {
    show(call, |at_ms, _| at_ms)
}

fn rounded_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

/// -2 without the key, -1 without an expiry.
fn show(call: &mut Call<'_>, form: fn(u64, u64) -> u64) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let entry = keyspace.database(session.database).peek(args.at(1), *hash, *now_ms);
    reply.integer(match entry.map(|entry| entry.expires_ms()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => form(at_ms, *now_ms) as i64,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn expiries_are_set_shown_and_removed() {
        check(&[
            ("expire k 10", ":0"),
            ("ttl k", ":-2"),
            ("set k v", "+OK"),
            ("ttl k", ":-1"),
            ("pttl k", ":-1"),
            ("expiretime k", ":-1"),
            ("persist k", ":0"),
            ("expire k 10", ":1"),
            ("ttl k", ":10"),
            ("pttl k", ":10000"),
            ("expiretime k", ":1010"),
            ("pexpiretime k", ":1010000"),
            ("pexpire k 1499", ":1"),
            ("ttl k", ":1"),
            ("pexpire k 1500", ":1"),
            ("ttl k", ":2"),
            ("expireat k 1020", ":1"),
            ("ttl k", ":20"),
            ("pexpireat k 1030000", ":1"),
            ("ttl k", ":30"),
            ("get k", "$1 v"),
            ("persist k", ":1"),
            ("ttl k", ":-1"),
            ("expire k -1", ":1"),
            ("exists k", ":0"),
            ("set k v", "+OK"),
            ("pexpireat k 1000000", ":1"),
            ("exists k", ":0"),
        ]);
    }

    #[test]
    fn conditions() {
        check(&[
            ("set k v", "+OK"),
            ("expire k 10 xx", ":0"),
            ("expire k 10 gt", ":0"),
            ("expire k 10 nx", ":1"),
            ("expire k 20 nx", ":0"),
            ("expire k 5 gt", ":0"),
            ("expire k 10 gt", ":0"),
            ("expire k 20 gt", ":1"),
            ("expire k 20 lt", ":0"),
            ("expire k 15 lt xx", ":1"),
            ("ttl k", ":15"),
            ("persist k", ":1"),
            ("expire k 100 lt", ":1"),
            (
                "expire k 1 nx xx",
                "-ERR NX and XX, GT or LT options at the same time are not compatible",
            ),
            ("expire k 1 gt lt", "-ERR GT and LT options at the same time are not compatible"),
            ("expire k 1 what", "-ERR Unsupported option what"),
            ("expire k x", "-ERR value is not an integer or out of range"),
            ("expire k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("pexpire k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("expire k -9223372036854775808", "-ERR invalid expire time in 'expire' command"),
            ("pexpireat k 9223372036854775807", ":1"),
            ("pexpiretime k", ":9223372036854775807"),
        ]);
    }

    #[test]
    fn expired_keys_are_gone_for_all() {
        let mut client = Client::resp2();
        client.check(&[("set k v px 10", "+OK"), ("rpush l a", ":1"), ("pexpire l 10", ":1")]);
        client.now_ms += 10;
        client.check(&[
            ("llen l", ":0"),
            ("rpush l b", ":1"),
            ("ttl l", ":-1"),
            ("setnx k w", ":1"),
            ("ttl k", ":-1"),
        ]);
        assert_eq!(client.store.keyspace.statistics().expired, 2);
    }
}
