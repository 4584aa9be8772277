//! CLIENT PAUSE, UNPAUSE and UNBLOCK: making others wait and ending their waits. Rows are in `client.rs`.

use super::collection::is;
use super::{Call, CommandResult};
use crate::store::CommandError;
use crate::store::blocked::{self, Unblock};
use crate::store::instance::{Attention, Pause};
use crate::store::number::parse_integer;

/// `CLIENT PAUSE milliseconds [WRITE|ALL]`; a longer pause that runs isn't cut, WRITE doesn't weaken ALL.
pub(super) fn pause(call: &mut Call<'_>) -> CommandResult {
    let all = match call.args.len() {
        3 => true,
        4 if is(call.args.at(3), "write") => false,
        4 if is(call.args.at(3), "all") => true,
        _ => return Err(CommandError::Syntax),
    };
    let length_ms = parse_integer(call.args.at(2));
    let length_ms =
        length_ms.ok_or(CommandError::Text("ERR timeout is not an integer or out of range"))?;
    let length_ms =
        u64::try_from(length_ms).map_err(|_| CommandError::Text("ERR timeout is negative"))?;
    let until_ms = call
        .now_ms
        .checked_add(length_ms)
        .filter(|until_ms| *until_ms <= i64::MAX as u64)
        .ok_or(CommandError::Text("ERR timeout is out of range"))?;
    let before = Some(call.instance.pause).filter(|pause| pause.until_ms > call.now_ms);
    call.instance.pause = match before {
        Some(before) => Pause { until_ms: until_ms.max(before.until_ms), all: all || before.all },
        None => Pause { until_ms, all },
    };
    call.instance.attention.set(Attention::PAUSED, true);
    call.keyspace.keep_expired(true);
    call.reply.ok();
    Ok(())
}

pub(super) fn unpause(call: &mut Call<'_>) -> CommandResult {
    call.instance.pause = Pause::default();
    call.instance.end_pause(call.keyspace);
    blocked::end_pause(call);
    call.reply.ok();
    Ok(())
}

/// `CLIENT UNBLOCK client-id [TIMEOUT|ERROR]`
pub(super) fn unblock(call: &mut Call<'_>) -> CommandResult {
    let how = match call.args.len() {
        3 => Unblock::Timeout,
        4 if is(call.args.at(3), "timeout") => Unblock::Timeout,
        4 if is(call.args.at(3), "error") => Unblock::Error,
        4 => {
            return Err(CommandError::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
        _ => return Err(CommandError::Syntax),
    };
    let id = parse_integer(call.args.at(2)).ok_or(CommandError::NotInteger)?;
    let ended = u64::try_from(id).is_ok_and(|id| blocked::unblock(call, id, how));
    call.reply.integer(i64::from(ended));
    Ok(())
}
