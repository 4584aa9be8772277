//! Compare and set, compare and delete: the conditions of SET (Redis 8.4, Valkey 8.1), DELEX, DIGEST and Valkey's DELIFEQ.
//! So a lock is released, or a value replaced, without a script. Rows are in `string.rs`.

use xxhash_rust::xxh3::xxh3_64;

use super::collection::is;
use super::{Call, CommandResult};
use crate::store::{CommandError, Database};

/// What a string must or must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    operand: Operand<'a>,
    /// IFNE and IFDNE: the operand is what it must not be; no string at all will do then.
    negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand<'a> {
    Text(&'a [u8]),
    Digest(u64),
}

impl<'a> Condition<'a> {
    /// The condition that an option starts, whose operand is `operand`; nothing if the option starts none.
    pub fn parse(
        option: &[u8],
        operand: Option<&'a [u8]>,
    ) -> Result<Option<Condition<'a>>, CommandError> {
        let names = [
            ("ifeq", false, false),
            ("ifne", false, true),
            ("ifdeq", true, false),
            ("ifdne", true, true),
        ];
        let Some((_, digested, negated)) = names.into_iter().find(|(name, ..)| is(option, name))
        else {
            return Ok(None);
        };
        let text = operand.ok_or(CommandError::Syntax)?;
        let operand =
            if digested { Operand::Digest(parse_digest(text)?) } else { Operand::Text(text) };
        Ok(Some(Condition { operand, negated }))
    }

    /// Whether it holds for the string at a key; another type is refused.
    pub fn holds(
        self,
        database: &mut Database,
        (key, hash): (&[u8], u64),
        now_ms: u64,
    ) -> Result<bool, CommandError> {
        let Some(entry) = database.peek(key, hash, now_ms) else { return Ok(self.negated) };
        let text = entry.text().ok_or(CommandError::WrongType)?;
        let equal = match self.operand {
            Operand::Text(other) => *text == *other,
            Operand::Digest(digest) => xxh3_64(&text) == digest,
        };
        Ok(equal != self.negated)
    }
}

fn parse_digest(text: &[u8]) -> Result<u64, CommandError> {
    const WRONG: CommandError =
        CommandError::Text("ERR The digest must be exactly 16 hexadecimal characters");
    if text.len() != 16 || !text.iter().all(u8::is_ascii_hexdigit) {
        return Err(WRONG);
    }
    let text = std::str::from_utf8(text).map_err(|_| WRONG)?;
    u64::from_str_radix(text, 16).map_err(|_| WRONG)
}

pub(super) fn digest(call: &mut Call<'_>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    match keyspace.database(session.database).string(args.at(1), *hash, *now_ms)? {
        Some(text) => reply.bulk(format!("{:016x}", xxh3_64(&text)).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

pub(super) fn delex(call: &mut Call<'_>) -> CommandResult {
    let condition = match call.args.len() {
        2 => None,
        4 => Condition::parse(call.args.at(2), call.args.get(3))?,
        _ => return Err(CommandError::Syntax),
    };
    if condition.is_none() && call.args.len() == 4 {
        return Err(CommandError::Syntax);
    }
    delete_if(call, condition)
}

pub(super) fn delifeq(call: &mut Call<'_>) -> CommandResult {
    let operand = Operand::Text(call.args.at(2));
    delete_if(call, Some(Condition { operand, negated: false }))
}

fn delete_if(call: &mut Call<'_>, condition: Option<Condition<'_>>) -> CommandResult {
    let Call { keyspace, session, args, hash, now_ms, reply, .. } = call;
    let database = keyspace.database(session.database);
    let key = (args.at(1), *hash);
    let holds = match condition {
        Some(condition) => condition.holds(database, key, *now_ms)?,
        None => true,
    };
    let deleted = holds && database.delete(key.0, key.1, *now_ms);
    keyspace.dirty += u64::from(deleted);
    reply.integer(i64::from(deleted));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check};

    #[test]
    fn set_compares_before_it_writes() {
        check(&[
            ("set k v ifeq v", "$-1"),
            ("set k v ifne v", "+OK"),
            ("set k w ifeq x", "$-1"),
            ("set k w ifeq v get", "$1 v"),
            ("get k", "$1 w"),
            ("set k x ifne w", "$-1"),
            ("set k x ifne w get", "$1 w"),
            ("set k x ifne v ex 10", "+OK"),
            ("ttl k", ":10"),
            ("set k y ifeq x keepttl", "+OK"),
            ("ttl k", ":10"),
            ("set k v ifeq v nx", "-ERR syntax error"),
            ("set k v xx ifeq v", "-ERR syntax error"),
            ("set k v ifeq", "-ERR syntax error"),
            ("set k v ifeq a ifeq b", "-ERR syntax error"),
            ("rpush l a", ":1"),
            (
                "set l v ifeq a",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
            ("set n 42", "+OK"),
            ("set n 43 ifeq 42", "+OK"),
            ("incr n", ":44"),
            ("set n x ifeq 44", "+OK"),
        ]);
    }

    #[test]
    fn digests_stand_for_values() {
        let mut client = Client::resp2();
        client.run_words(&[b"set", b"k", b"Hello world"]);
        client.check(&[
            ("digest missing", "$-1"),
            ("digest k", "$16 b6acb9d84a38ff74"),
            ("set k v ifdeq 0123", "-ERR The digest must be exactly 16 hexadecimal characters"),
            ("set k v ifdeq 0000000000000000", "$-1"),
            ("set k v ifdne b6acb9d84a38ff74", "$-1"),
            ("set k v ifdeq B6ACB9D84A38FF74", "+OK"),
            ("delex k ifdeq b6acb9d84a38ff74", ":0"),
            ("delex k ifdne b6acb9d84a38ff74", ":1"),
            ("set k v ifdeq b6acb9d84a38ff74", "$-1"),
            ("set k v ifdne b6acb9d84a38ff74", "+OK"),
            ("rpush l a", ":1"),
            ("digest l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }

    #[test]
    fn keys_are_deleted_if_they_hold_what_is_expected() {
        check(&[
            ("delex k", ":0"),
            ("set k v", "+OK"),
            ("delex k ifeq w", ":0"),
            ("delex k ifne v", ":0"),
            ("delex k ifeq v", ":1"),
            ("delex k ifne v", ":0"),
            ("rpush l a", ":1"),
            (
                "delex l ifeq a",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
            ("delex l", ":1"),
            ("delex l what a", "-ERR syntax error"),
            ("delex l ifeq", "-ERR syntax error"),
            ("set k v", "+OK"),
            ("delifeq k w", ":0"),
            ("delifeq k v", ":1"),
            ("delifeq k v", ":0"),
        ]);
    }
}
