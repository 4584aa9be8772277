//! What a stranger's payload becomes is used: a value that was read is put into a store, and commands change and read it.
//!
//! A reader that lets something odd pass is found here, by the code that trusted it. It must not know files or networks.

use std::cell::RefCell;
use std::sync::Arc;

use socketley::store::random::Random;
use socketley::store::rdb::{self, Builder, Input};
use socketley::store::{Expiry, Hasher, Session, Settings, SharedStore, thresholds};

/// Commands tried on each value; the first two bytes of the input choose them.
const TRIED: usize = 12;
const NOW_MS: u64 = 1_000_000;

/// Of every group; most answer WRONGTYPE, which is cheap.
const COMMANDS: &[&str] = &[
    "APPEND k zz",
    "SETRANGE k 3 zz",
    "GETRANGE k 1 -2",
    "BITCOUNT k 1 -2",
    "BITPOS k 1",
    "SETBIT k 9 1",
    "BITFIELD k INCRBY u7 3 5 GET i13 2",
    "INCR k",
    "INCRBYFLOAT k 1.5",
    "PFADD k a b c",
    "PFCOUNT k",
    "PFMERGE j k k",
    "LPUSH k a 12 bbb",
    "RPUSH k c",
    "LPOP k 2",
    "RPOP k 3",
    "LINSERT k BEFORE a 300",
    "LINSERT k AFTER 1 x",
    "LSET k 1 another",
    "LREM k -1 a",
    "LTRIM k 1 -2",
    "LPOS k a RANK -1 COUNT 0",
    "LRANGE k 0 -1",
    "LMOVE k k LEFT RIGHT",
    "SADD k 1 a 99999999999",
    "SREM k a 1",
    "SPOP k 2",
    "SRANDMEMBER k -5",
    "SINTER k k",
    "SUNIONSTORE j k",
    "SDIFF k j",
    "SPEXPIRE k 5 MEMBERS 2 a 1",
    "HSET k a 1 f 2 zz 3",
    "HDEL k a f",
    "HINCRBY k a 4",
    "HGETALL k",
    "HRANDFIELD k -4 WITHVALUES",
    "HPEXPIRE k 5 FIELDS 2 a f",
    "HPTTL k FIELDS 2 a f",
    "HPERSIST k FIELDS 1 a",
    "ZADD k 1 a 2.5 b -inf c",
    "ZADD k GT CH 9 a",
    "ZREM k a",
    "ZINCRBY k -3 b",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZRANGE k (1 +inf BYSCORE LIMIT 1 3",
    "ZRANGE k - + BYLEX",
    "ZREVRANK k b",
    "ZCOUNT k -inf (3",
    "ZPOPMIN k 2",
    "ZPOPMAX k",
    "ZREMRANGEBYRANK k 1 2",
    "ZUNIONSTORE j 2 k k",
    "ZPEXPIRE k 5 MEMBERS 1 a",
    "GEOSEARCH k FROMLONLAT 1 1 BYRADIUS 20000 km ASC WITHDIST",
    "XADD k * f v g w",
    "XADD k 18446744073709551615-3 f v",
    "XRANGE k - + COUNT 50",
    "XREVRANGE k + -",
    "XDEL k 1-1 2-1",
    "XTRIM k MAXLEN 1",
    "XTRIM k MINID ~ 2",
    "XINFO STREAM k FULL",
    "XINFO CONSUMERS k g",
    "XPENDING k g - + 10",
    "XREADGROUP GROUP g d COUNT 5 STREAMS k >",
    "XREADGROUP GROUP g c STREAMS k 0",
    "XACK k g 1-1",
    "XAUTOCLAIM k g e 0 0",
    "XCLAIM k g e 0 1-1 2-1 FORCE",
    "XGROUP DELCONSUMER k g c",
    "XGROUP CREATE k g2 0",
    "XGROUP SETID k g 1-1",
    "XSETID k 9-9",
    "SORT k ALPHA LIMIT 0 9",
    "SORT k",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "SCAN 0 COUNT 50",
    "SSCAN k 0",
    "HSCAN k 0 COUNT 3",
    "ZSCAN k 0",
    "COPY k j REPLACE",
    "RENAME k j",
    "RENAME j k",
    "EXPIRE k 100",
    "DEL k",
];

thread_local! {
    /// One for all inputs: making one costs more than a run.
    static STORE: RefCell<Option<(Arc<SharedStore>, Session)>> = const { RefCell::new(None) };
}

fn made() -> (Arc<SharedStore>, Session) {
    let hasher = Some(Hasher::seeded(1));
    let store =
        SharedStore::new(&Settings { now_ms: NOW_MS, hasher, seed: 1, ..Settings::default() });
    let session = store.session(NOW_MS);
    (store, session)
}

/// Whatever was done with it, what is left can be dumped, and read again.
pub fn restored(bytes: &[u8]) {
    let Some((choice, value)) = bytes.split_first_chunk::<2>() else { return };
    let builder = Builder { hasher: Hasher::seeded(1), thresholds: &thresholds::REDIS };
    let Ok(value) = rdb::read_value(&mut Input::new(value), &builder) else { return };
    STORE.with_borrow_mut(|held| {
        let (store, session) = held.get_or_insert_with(made);
        let mut out = Vec::new();
        let mut run = |words: &[&[u8]], now_ms: u64, out: &mut Vec<u8>| {
            out.clear();
            store.call(session, words, now_ms, out);
        };
        run(&[b"DEL", b"k", b"j"], NOW_MS, &mut out);
        {
            let mut held = store.lock(NOW_MS);
            let hash = held.keyspace.hasher().hash(b"k");
            held.keyspace.database(0).insert_value(b"k", hash, value, Expiry::from(None));
        }
        let mut random = Random::new(u64::from(u16::from_be_bytes(*choice)));
        for step in 0..TRIED as u64 {
            let line = COMMANDS[random.below(COMMANDS.len())];
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            run(&words, NOW_MS + step, &mut out);
        }
        for key in [&b"k"[..], b"j"] {
            run(&[b"DUMP", key], NOW_MS + TRIED as u64, &mut out);
            if out.first() == Some(&b'$') && !out.starts_with(b"$-1") {
                let start = out.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
                let payload = out[start..out.len() - 2].to_vec();
                run(&[b"RESTORE", key, b"0", &payload, b"REPLACE"], NOW_MS, &mut out);
                assert_eq!(
                    out.escape_ascii().to_string(),
                    "+OK\\r\\n",
                    "what was dumped is well made"
                );
            }
        }
    });
}
