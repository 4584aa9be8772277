//! Rate limiting by the generic cell rate algorithm (GCRA): CL.THROTTLE as redis-cell has it, and GCRA with the same reply.
//!
//! The key's string is the theoretical arrival time, in nanoseconds since the epoch, of the next request if all came evenly;
//! it lies ahead of the clock by as much as has been used, and the key expires when it is no longer ahead. A request moves
//! it on by one interval, and is refused when it would lie further ahead than the burst allows. So a limiter is one small
//! string, whatever the rate. Time is the store's, in milliseconds.

use super::collection::{Run, integer, is, row};
use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::number::{parse_double, parse_integer};
use crate::store::{CommandError, Expiry};

const fn limit(usage: (&'static str, i16), summary: &'static str, run: Run) -> Command {
    let flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);
    row("string", usage, flags, Keys::ONE, ("0.1.0", summary), run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    limit(("cl.throttle", -5), "Takes from a rate limit with bursts, as redis-cell does", cl_throttle),
    limit(("gcra", -5), "Takes from a rate limit with bursts", gcra),
];

const SECOND_NS: f64 = 1e9;
const MILLISECOND_NS: i128 = 1_000_000;

/// A rate with bursts, and how much a request takes of it.
#[derive(Clone, Copy)]
struct Rate {
    /// Requests at once: the burst and one more.
    limit: i128,
    interval_ns: i128,
    quantity: i128,
}

/// What became of a request.
struct Verdict {
    limited: bool,
    remaining: i128,
    retry_after_ns: Option<i128>,
    reset_after_ns: i128,
    /// The time to store, unless nothing was taken.
    arrival_ns: Option<i128>,
}

fn cl_throttle(call: &mut Call<'_>) -> CommandResult {
    if call.args.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let quantity = call.args.get(5).map_or(Ok(1), integer)?;
    throttle(call, quantity)
}

fn gcra(call: &mut Call<'_>) -> CommandResult {
    let quantity = match call.args.len() {
        5 => 1,
        7 if is(call.args.at(5), "num_requests") => integer(call.args.at(6))?,
        _ => return Err(CommandError::Syntax),
    };
    throttle(call, quantity)
}

fn throttle(call: &mut Call<'_>, quantity: i64) -> CommandResult {
    let rate = Rate::parse(call, quantity)?;
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let (key, now_ns) = (args.at(1), i128::from(*now_ms) * MILLISECOND_NS);
    let database = keyspace.database(session.database);
    let arrival = match database.string(key, *hash, *now_ms)? {
        Some(text) => Some(parse_integer(&text).ok_or(CommandError::NotInteger)?),
        None => None,
    };
    let verdict = rate.judge(arrival.map_or(now_ns, i128::from), now_ns);
    if let Some(arrival_ns) = verdict.arrival_ns {
        let text = i64::try_from(arrival_ns).map_err(|_| TOO_LONG)?.to_string();
        let expires_ms = ((arrival_ns + MILLISECOND_NS - 1) / MILLISECOND_NS) as u64;
        database.set_string(key, *hash, text.as_bytes(), Expiry::At(expires_ms));
        keyspace.dirty += 1;
    }
    reply.array(5);
    reply.integer(i64::from(verdict.limited));
    reply.integer(rate.limit as i64);
    reply.integer(verdict.remaining as i64);
    reply.integer(verdict.retry_after_ns.map_or(-1, seconds));
    reply.integer(seconds(verdict.reset_after_ns));
    Ok(())
}

const TOO_LONG: CommandError = CommandError::Text("ERR the limit spans too long a time");

impl Rate {
    fn parse(call: &Call<'_>, quantity: i64) -> Result<Rate, CommandError> {
        let args = call.args;
        let (burst, count) = (integer(args.at(2))?, integer(args.at(3))?);
        let period = parse_double(args.at(4)).ok_or(CommandError::NotFloat)?;
        if burst < 0 || count < 1 || quantity < 0 || !(period > 0.0 && period < 1e9) {
            const RANGE: &str =
                "ERR burst and quantity can't be negative, count and period must be positive";
            return Err(CommandError::Text(RANGE));
        }
        let interval_ns = ((period * SECOND_NS) as i128 / i128::from(count)).max(1);
        let limit = i128::from(burst) + 1;
        if limit * interval_ns > i128::from(i64::MAX) {
            return Err(TOO_LONG);
        }
        Ok(Rate { limit, interval_ns, quantity: i128::from(quantity) })
    }

    fn judge(&self, stored_ns: i128, now_ns: i128) -> Verdict {
        let (tolerance, taken) = (self.interval_ns * self.limit, self.interval_ns * self.quantity);
        let arrival_ns = stored_ns.max(now_ns) + taken;
        let over_ns = arrival_ns - tolerance - now_ns;
        let limited = over_ns > 0;
        let ahead_ns = if limited { stored_ns.max(now_ns) } else { arrival_ns } - now_ns;
        Verdict {
            limited,
            remaining: (tolerance - ahead_ns).max(0) / self.interval_ns,
            // What asks for more than the whole limit can never be served.
            retry_after_ns: (limited && taken <= tolerance).then_some(over_ns),
            reset_after_ns: ahead_ns,
            arrival_ns: (!limited && taken > 0).then_some(arrival_ns),
        }
    }
}

/// Whole seconds, rounded up: after so many the time has come.
fn seconds(nanoseconds: i128) -> i64 {
    let second = SECOND_NS as i128;
    ((nanoseconds + second - 1) / second) as i64
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn a_burst_is_served_and_then_one_request_per_interval() {
        let mut client = Client::resp2();
        // Thirty a minute: one every two seconds, three at once.
        client.check(&[
            ("cl.throttle k 2 30 60", "*5 :0 :3 :2 :-1 :2"),
            ("cl.throttle k 2 30 60", "*5 :0 :3 :1 :-1 :4"),
            ("cl.throttle k 2 30 60 0", "*5 :0 :3 :1 :-1 :4"),
            ("gcra k 2 30 60", "*5 :0 :3 :0 :-1 :6"),
            ("cl.throttle k 2 30 60", "*5 :1 :3 :0 :2 :6"),
            ("cl.throttle k 2 30 60 4", "*5 :1 :3 :0 :-1 :6"),
            ("pttl k", ":6000"),
        ]);
        client.now_ms += 1999;
        client.check(&[("cl.throttle k 2 30 60", "*5 :1 :3 :0 :1 :5")]);
        client.now_ms += 1;
        client.check(&[("cl.throttle k 2 30 60", "*5 :0 :3 :0 :-1 :6")]);
        client.now_ms += 6000;
        client
            .check(&[("exists k", ":0"), ("gcra k 2 30 60 num_requests 3", "*5 :0 :3 :0 :-1 :6")]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        const RANGE: &str =
            "-ERR burst and quantity can't be negative, count and period must be positive";
        check(&[
            ("cl.throttle k -1 1 1", RANGE),
            ("cl.throttle k 1 0 1", RANGE),
            ("cl.throttle k 1 1 0", RANGE),
            ("cl.throttle k 1 1 1 -1", RANGE),
            ("cl.throttle k x 1 1", "-ERR value is not an integer or out of range"),
            ("cl.throttle k 1 1 1 1 1", "-ERR syntax error"),
            ("gcra k 1 1 1 what 1", "-ERR syntax error"),
            ("cl.throttle k 9223372036854775807 1 60", "-ERR the limit spans too long a time"),
            ("set s text", "+OK"),
            ("cl.throttle s 1 1 1", "-ERR value is not an integer or out of range"),
            ("rpush l a", ":1"),
            (
                "cl.throttle l 1 1 1",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }
}
