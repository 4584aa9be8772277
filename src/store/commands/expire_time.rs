//! Expiry times in arguments: seconds or milliseconds, from now or since the epoch, with Redis's refusals.

use super::collection::{integer, is};
use crate::store::CommandError;
use crate::store::small::MEMBER_DEADLINE_MAX;

/// How an argument says when something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    seconds: bool,
    absolute: bool,
}

/// Seconds from now: EX, EXPIRE, SETEX.
pub const SECONDS: Unit = Unit { seconds: true, absolute: false };
/// Milliseconds from now: PX, PEXPIRE, PSETEX.
pub const MILLISECONDS: Unit = Unit { seconds: false, absolute: false };
/// Seconds since the epoch: EXAT, EXPIREAT.
pub const EPOCH_SECONDS: Unit = Unit { seconds: true, absolute: true };
/// Milliseconds since the epoch: PXAT, PEXPIREAT.
pub const EPOCH_MILLISECONDS: Unit = Unit { seconds: false, absolute: true };

impl Unit {
    /// Whether it counts from the epoch.
    pub fn is_absolute(self) -> bool {
        self.absolute
    }

    /// The time in milliseconds since the epoch; what isn't positive is refused (SET, GETEX, SETEX).
    pub fn positive(self, text: &[u8], now_ms: u64, command: &str) -> Result<u64, CommandError> {
        let amount = integer(text)?;
        let at_ms = if amount > 0 { self.time(amount, now_ms) } else { None };
        at_ms.and_then(|at| u64::try_from(at).ok()).ok_or_else(|| invalid(command))
    }

    /// The time in milliseconds since the epoch, which may lie in the past or before it (EXPIRE and kin).
    pub fn any(self, text: &[u8], now_ms: u64, command: &str) -> Result<i64, CommandError> {
        self.time(integer(text)?, now_ms).ok_or_else(|| invalid(command))
    }

    /// The time in milliseconds since the epoch for a member of a collection, which may lie in the past (HEXPIRE and kin).
    pub fn of_member(self, text: &[u8], now_ms: u64, command: &str) -> Result<u64, CommandError> {
        let amount = integer(text)?;
        if amount < 0 {
            return Err(CommandError::Text("ERR invalid expire time, must be >= 0"));
        }
        let at_ms = self.time(amount, now_ms).and_then(|at_ms| u64::try_from(at_ms).ok());
        at_ms.filter(|at_ms| *at_ms <= MEMBER_DEADLINE_MAX).ok_or_else(|| invalid(command))
    }

    fn time(self, amount: i64, now_ms: u64) -> Option<i64> {
        let milliseconds = if self.seconds { amount.checked_mul(1000)? } else { amount };
        if self.absolute { Some(milliseconds) } else { milliseconds.checked_add(now_ms as i64) }
    }
}

/// The unit that SET's option of that name has.
pub fn expire_unit(option: &[u8]) -> Option<Unit> {
    let units = [
        ("ex", SECONDS),
        ("px", MILLISECONDS),
        ("exat", EPOCH_SECONDS),
        ("pxat", EPOCH_MILLISECONDS),
    ];
    units.into_iter().find(|(name, _)| is(option, name)).map(|(_, unit)| unit)
}

fn invalid(command: &str) -> CommandError {
    CommandError::Owned(format!("ERR invalid expire time in '{command}' command").into_bytes())
}
