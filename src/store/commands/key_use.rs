//! What a command does with each of its keys: for COMMAND GETKEYS and for users who may read or write some keys only.
//!
//! Most follow from the row (its key positions, and whether it reads or writes); this file lists those that don't.

use super::collection::is;
use super::introspection::{counted_keys, is_movable, keys};
use super::{Command, Flags};
use crate::store::Args;

/// What is done with one key; the names are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse(u8);

impl KeyUse {
    /// Its value is told, or decides about other keys.
    pub const ACCESS: KeyUse = KeyUse(1);
    /// It is overwritten or changed.
    pub const UPDATE: KeyUse = KeyUse(1 << 1);
    /// Something is added to it.
    pub const INSERT: KeyUse = KeyUse(1 << 2);
    /// Something of it is removed, or all of it.
    pub const DELETE: KeyUse = KeyUse(1 << 3);
    const RO: KeyUse = KeyUse(1 << 4);
    const RW: KeyUse = KeyUse(1 << 5);
    const OW: KeyUse = KeyUse(1 << 6);
    const RM: KeyUse = KeyUse(1 << 7);
    const NAMES: [(KeyUse, &'static str); 8] = [
        (KeyUse::RO, "RO"),
        (KeyUse::RW, "RW"),
        (KeyUse::OW, "OW"),
        (KeyUse::RM, "RM"),
        (KeyUse::ACCESS, "access"),
        (KeyUse::UPDATE, "update"),
        (KeyUse::INSERT, "insert"),
        (KeyUse::DELETE, "delete"),
    ];

    const fn and(self, other: KeyUse) -> KeyUse {
        KeyUse(self.0 | other.0)
    }

    /// Redis's names of its flags.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        KeyUse::NAMES.iter().filter(move |(flag, _)| self.0 & flag.0 != 0).map(|(_, name)| *name)
    }

    /// Whether the key's value must be readable.
    pub fn reads(self) -> bool {
        self.0 & KeyUse::ACCESS.0 != 0
    }

    /// Whether the key must be writable.
    pub fn writes(self) -> bool {
        self.0 & (KeyUse::UPDATE.0 | KeyUse::INSERT.0 | KeyUse::DELETE.0) != 0
    }
}

const LOOK: KeyUse = KeyUse::RO;
const READ: KeyUse = KeyUse::RO.and(KeyUse::ACCESS);
const TAKE: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE);
const CHANGE: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE);
const UPDATE: KeyUse = KeyUse::RW.and(KeyUse::UPDATE);
const ADD: KeyUse = KeyUse::RW.and(KeyUse::INSERT);
const CUT: KeyUse = KeyUse::RW.and(KeyUse::DELETE);
const REPLACE: KeyUse = KeyUse::OW.and(KeyUse::UPDATE);
const REMOVE: KeyUse = KeyUse::RM.and(KeyUse::DELETE);

/// The indexes of a command's keys with what is done to them; nothing if it has none or their number makes no sense.
pub fn key_uses(row: &Command, args: Args<'_>) -> Option<Vec<(usize, KeyUse)>> {
    let find = |word: &str| args.iter().position(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let counted = |at: usize| counted_keys(args, at, 1);
    let each = |keys: Vec<usize>, used: KeyUse| keys.into_iter().map(move |at| (at, used));
    let uses = match row.name {
        "zunionstore" | "zinterstore" | "zdiffstore" => {
            [(1, REPLACE)].into_iter().chain(each(counted(2)?, READ)).collect()
        }
        "sort" | "sort_ro" | "georadius" | "georadiusbymember" => {
            let names = |arg: &[u8]| is(arg, "store") || is(arg, "storedist");
            let stored = (2..args.len() - 1).rfind(|at| names(args.at(*at)));
            let stored = stored.map(|at| (at + 1, REPLACE));
            [(1, READ)].into_iter().chain(stored).collect()
        }
        "migrate" if args.get(3).is_some_and(<[u8]>::is_empty) => {
            each((find("keys")? + 1..args.len()).collect(), TAKE).collect()
        }
        "migrate" => vec![(3, TAKE)],
        "set" if (3..args.len()).any(|at| args.at(at).eq_ignore_ascii_case(b"get")) => {
            vec![(1, CHANGE)]
        }
        _ => {
            let found = keys(row, args)?;
            let uses = found.iter().enumerate();
            uses.map(|(order, at)| (*at, use_of(row, order))).collect()
        }
    };
    Some(uses)
}

/// Whether it ever has keys.
pub fn has_keys(row: &Command) -> bool {
    row.keys.first != 0 || is_movable(row)
}

/// What is done to the `order`-th key.
fn use_of(row: &Command, order: usize) -> KeyUse {
    let first = order == 0;
    match row.name {
        "sinterstore" | "sunionstore" | "sdiffstore" | "zrangestore" | "geosearchstore"
        | "bitop" => {
            if first {
                REPLACE
            } else {
                READ
            }
        }
        "lmove" | "blmove" | "rpoplpush" | "brpoplpush" | "smove" => {
            if first {
                TAKE
            } else {
                ADD
            }
        }
        "rename" | "renamenx" => {
            if first {
                TAKE
            } else {
                REPLACE
            }
        }
        "copy" => {
            if first {
                READ
            } else {
                REPLACE
            }
        }
        "pfmerge" => {
            if first {
                KeyUse::ACCESS.and(ADD)
            } else {
                READ
            }
        }
        "del" | "unlink" => REMOVE,
        "set" | "setex" | "psetex" | "mset" | "msetex" | "restore" => REPLACE,
        "setnx" | "msetnx" => KeyUse::OW.and(KeyUse::INSERT),
        "incr" | "decr" | "incrby" | "decrby" | "incrbyfloat" | "hincrby" | "hincrbyfloat"
        | "zincrby" | "getset" | "getex" | "setbit" | "bitfield" | "eval" | "evalsha" | "fcall" => {
            CHANGE
        }
        "lpop" | "rpop" | "lmpop" | "blpop" | "brpop" | "blmpop" | "spop" | "zpopmin"
        | "zpopmax" | "bzpopmin" | "bzpopmax" | "zmpop" | "bzmpop" | "getdel" | "hgetdel"
        | "move" => TAKE,
        "lpush" | "rpush" | "lpushx" | "rpushx" | "linsert" | "sadd" | "append" | "pfadd"
        | "xgroup" => ADD,
        "lrem" | "ltrim" | "srem" | "zrem" | "zremrangebyrank" | "zremrangebyscore"
        | "zremrangebylex" | "hdel" | "xdel" | "xtrim" => CUT,
        "exists" | "type" | "ttl" | "pttl" | "expiretime" | "pexpiretime" | "touch" | "strlen"
        | "llen" | "scard" | "zcard" | "hlen" | "hstrlen" | "xlen" | "watch" | "encoding"
        | "freq" | "idletime" | "refcount" | "usage" => LOOK,
        _ if row.flags.has(Flags::WRITE) => UPDATE,
        _ => READ,
    }
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::check;

    #[test]
    fn keys_with_their_uses() {
        check(&[
            ("COMMAND GETKEYSANDFLAGS SET a b", "*1 *2 $1 a *2 +OW +update"),
            ("COMMAND GETKEYSANDFLAGS SET a b GET", "*1 *2 $1 a *3 +RW +access +update"),
            (
                "COMMAND GETKEYSANDFLAGS LMOVE a b LEFT RIGHT",
                "*2 *2 $1 a *3 +RW +access +delete *2 $1 b *2 +RW +insert",
            ),
            ("COMMAND GETKEYS ZUNIONSTORE d 2 a b", "*3 $1 d $1 a $1 b"),
            ("COMMAND GETKEYSANDFLAGS EXISTS a", "*1 *2 $1 a *1 +RO"),
        ]);
    }
}
