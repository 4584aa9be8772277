//! Random commands from templates.
//!
//! `{kind}` is a random word, `(a|b)` one of several, `[a|b]` one of several or none, `+` behind any of them repeats it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::template::{alternatives, part_len};
use crate::vocabulary;

/// What every round of commands is made from.
const TEMPLATES: &[&str] = &[
    // Strings
    "SET {k} {v} [NX|XX] [GET] [EX {ttl}|PX {ms}|EXAT {at}|PXAT {atms}|KEEPTTL]",
    "SET {k} {n}",
    "SET {k} {v}",
    "GET {k}",
    "GETSET {k} {v}",
    "GETDEL {k}",
    "GETEX {k} [EX {ttl}|PX {ms}|EXAT {at}|PXAT {atms}|PERSIST]",
    "SETNX {k} {v}",
    "SETEX {k} {ttl} {v}",
    "PSETEX {k} {ms} {v}",
    "MSET ({k} {v})+",
    "MSETNX ({k} {v})+",
    "MGET {k}+",
    "APPEND {w} {v}",
    "STRLEN {k}",
    "INCR {k}",
    "DECR {k}",
    "INCRBY {k} {n}",
    "DECRBY {k} {n}",
    "INCRBYFLOAT {k} {f}",
    "GETRANGE {k} {i} {i}",
    "SUBSTR {k} {i} {i}",
    "SETRANGE {w} {o} {v}",
    "LCS {k} {k} [LEN|IDX] [MINMATCHLEN {c}] [WITHMATCHLEN]",
    // Bits
    "SETBIT {w} {o} (0|1)",
    "GETBIT {k} {o}",
    "BITCOUNT {k} [{i} {i} [BYTE|BIT]]",
    "BITPOS {k} (0|1) [{i} [{i} [BYTE|BIT]]]",
    "BITOP (AND|OR|XOR|NOT) {w} {w}+",
    // Keys
    "DEL {k}+",
    "UNLINK {k}+",
    "EXISTS {k}+",
    "TOUCH {k}+",
    "TYPE {k}",
    "EXPIRE {k} {ttl} [NX|XX|GT|LT]",
    "PEXPIRE {k} {ms} [NX|XX|GT|LT]",
    "EXPIREAT {k} {at} [NX|XX|GT|LT]",
    "PEXPIREAT {k} {atms} [NX|XX|GT|LT]",
    "TTL {k}",
    "PTTL {k}",
    "EXPIRETIME {k}",
    "PEXPIRETIME {k}",
    "PERSIST {k}",
    "RENAME {k} {k}",
    "RENAMENX {k} {k}",
    "COPY {k} {k} [DB (0|1)] [REPLACE]",
    "MOVE {k} (0|1)",
    "KEYS {pat}",
    "RANDOMKEY",
    "DBSIZE",
    "SCAN 0 [MATCH {pat}] [COUNT {c}] [TYPE (string|list|set|hash|zset)]",
    "OBJECT ENCODING {k}",
    "OBJECT REFCOUNT nokey",
    "SELECT (0|1)",
    "SWAPDB (0|1) (0|1)",
    "FLUSHDB [SYNC|ASYNC]",
    // Lists
    "LPUSH {l} {v}+",
    "RPUSH {l} {v}+",
    "LPUSHX {l} {v}+",
    "RPUSHX {l} {v}+",
    "LPOP {l} [{c}]",
    "RPOP {l} [{c}]",
    "LLEN {l}",
    "LRANGE {l} {i} {i}",
    "LINDEX {l} {i}",
    "LSET {l} {i} {v}",
    "LREM {l} {i} {v}",
    "LTRIM {l} {i} {i}",
    "LINSERT {l} (BEFORE|AFTER) {v} {v}",
    "LPOS {l} {v} [RANK {i}] [COUNT {c}] [MAXLEN {c}]",
    "LMOVE {l} {l} (LEFT|RIGHT) (LEFT|RIGHT)",
    "RPOPLPUSH {l} {l}",
    "LMPOP 1 {l} (LEFT|RIGHT) [COUNT {c}]",
    "LMPOP 2 {l} {l} (LEFT|RIGHT) [COUNT {c}]",
    // Sets
    "SADD {s} {v}+",
    "SADD {s} {n}+",
    "SREM {s} {v}+",
    "SISMEMBER {s} {v}",
    "SMISMEMBER {s} {v}+",
    "SCARD {s}",
    "SMEMBERS {s}",
    "SPOP {s} [{c}]",
    "SRANDMEMBER {s} [{i}]",
    "SMOVE {s} {s} {v}",
    "SINTER {s}+",
    "SUNION {s}+",
    "SDIFF {s}+",
    "SINTERSTORE {s} {s}+",
    "SUNIONSTORE {s} {s}+",
    "SDIFFSTORE {s} {s}+",
    "SINTERCARD 1 {s} [LIMIT {c}]",
    "SINTERCARD 2 {s} {s} [LIMIT {c}]",
    "SSCAN {s} 0 [MATCH {pat}] [COUNT {c}]",
    // Hashes
    "HSET {h} ({v} {v})+",
    "HSET {h} ({v} {n})+",
    "HMSET {h} ({v} {v})+",
    "HSETNX {h} {v} {v}",
    "HGET {h} {v}",
    "HMGET {h} {v}+",
    "HDEL {h} {v}+",
    "HLEN {h}",
    "HSTRLEN {h} {v}",
    "HEXISTS {h} {v}",
    "HKEYS {h}",
    "HVALS {h}",
    "HGETALL {h}",
    "HINCRBY {h} {v} {n}",
    "HINCRBYFLOAT {h} {v} {f}",
    "HRANDFIELD {h} [{i} [WITHVALUES]]",
    "HSCAN {h} 0 [MATCH {pat}] [COUNT {c}]",
    // Sorted sets
    "ZADD {z} [NX|XX|GT|LT] [CH] ({f} {v})+",
    "ZADD {z} ({f} {v})+",
    "ZADD {z} [NX|XX|GT|LT] INCR {f} {v}",
    "ZADD {y} (0 {v})+",
    "ZREM {z} {v}+",
    "ZSCORE {z} {v}",
    "ZMSCORE {z} {v}+",
    "ZINCRBY {z} {f} {v}",
    "ZCARD {z}",
    "ZCOUNT {z} {b} {b}",
    "ZLEXCOUNT {y} {x} {x}",
    "ZRANK {z} {v}",
    "ZREVRANK {z} {v}",
    "ZRANGE {z} {i} {i} [REV] [WITHSCORES]",
    "ZRANGE {z} {b} {b} BYSCORE [REV] [LIMIT {i} {i}] [WITHSCORES]",
    "ZRANGE {y} {x} {x} BYLEX [REV] [LIMIT {i} {i}]",
    "ZREVRANGE {z} {i} {i} [WITHSCORES]",
    "ZRANGEBYSCORE {z} {b} {b} [WITHSCORES] [LIMIT {i} {i}]",
    "ZREVRANGEBYSCORE {z} {b} {b} [WITHSCORES] [LIMIT {i} {i}]",
    "ZRANGEBYLEX {y} {x} {x} [LIMIT {i} {i}]",
    "ZREVRANGEBYLEX {y} {x} {x} [LIMIT {i} {i}]",
    "ZRANGESTORE {z} {z} {i} {i} [REV]",
    "ZRANGESTORE {z} {z} {b} {b} BYSCORE [REV] [LIMIT {i} {i}]",
    "ZREMRANGEBYRANK {z} {i} {i}",
    "ZREMRANGEBYSCORE {z} {b} {b}",
    "ZREMRANGEBYLEX {y} {x} {x}",
    "ZPOPMIN {z} [{c}]",
    "ZPOPMAX {z} [{c}]",
    "ZMPOP 2 {z} {z} (MIN|MAX) [COUNT {c}]",
    "ZUNION 2 {z} {z} [WEIGHTS {n} {n}] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]",
    "ZINTER 2 {z} {z} [WEIGHTS {n} {n}] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]",
    "ZDIFF 2 {z} {z} [WITHSCORES]",
    "ZUNIONSTORE {z} 2 {z} {z} [WEIGHTS {n} {n}] [AGGREGATE (SUM|MIN|MAX)]",
    "ZINTERSTORE {z} 2 {z} {z} [WEIGHTS {n} {n}] [AGGREGATE (SUM|MIN|MAX)]",
    "ZDIFFSTORE {z} 2 {z} {z}",
    "ZINTERCARD 2 {z} {z} [LIMIT {c}]",
    "ZRANDMEMBER {z} [{i} [WITHSCORES]]",
    "ZSCAN {z} 0 [MATCH {pat}] [COUNT {c}]",
    // Streams
    "XADD {t} {new} {v} {v}",
    "XADD {t} {new} ({v} {v})+",
    "XADD {t} [NOMKSTREAM] [MAXLEN [~|=] {c}|MINID [~|=] {id}] [LIMIT {c}] {new} a {v} b {n}",
    "XLEN {t}",
    "XRANGE {t} {end} {end} [COUNT {c}]",
    "XREVRANGE {t} {end} {end} [COUNT {c}]",
    "XDEL {t} {id}+",
    "XTRIM {t} MAXLEN [~|=] {c} [LIMIT {c}]",
    "XTRIM {t} MINID [~|=] {id} [LIMIT {c}]",
    "XSETID {t} {new} [ENTRIESADDED {c}] [MAXDELETEDID {id}]",
    "XREAD [COUNT {c}] STREAMS {t} ({id}|$|0)",
    "XREAD [COUNT {c}] STREAMS {t} {t} {id} {id}",
    "XGROUP CREATE {t} {g} ({id}|$|0) [MKSTREAM] [ENTRIESREAD {i}]",
    "XGROUP CREATE {t} {g} ({id}|$|0) MKSTREAM",
    "XGROUP CREATECONSUMER {t} {g} {g}",
    "XGROUP DELCONSUMER {t} {g} {g}",
    "XGROUP DESTROY {t} {g}",
    "XGROUP SETID {t} {g} ({id}|$) [ENTRIESREAD {i}]",
    "XGROUP (HELP|NOTHING {t} {g})",
    "XREADGROUP GROUP {g} {g} [COUNT {c}] [NOACK] STREAMS {t} >",
    "XREADGROUP GROUP {g} {g} [COUNT {c}] STREAMS {t} >",
    "XREADGROUP GROUP {g} {g} [COUNT {c}] [NOACK] STREAMS {t} ({id}|0)",
    "XREADGROUP GROUP {g} {g} [COUNT {c}] STREAMS {t} {t} > (>|0)",
    "XACK {t} {g} {id}+",
    "XPENDING {t} {g}",
    "XPENDING {t} {g} [IDLE (0|1000000)] {end} {end} {c} [{g}]",
    "XCLAIM {t} {g} {g} (0|1000000) {id}+ [IDLE {ms}|TIME {n}] [RETRYCOUNT {n}] [FORCE] [JUSTID] [LASTID {id}]",
    "XAUTOCLAIM {t} {g} {g} (0|1000000) {end} [COUNT {c}] [JUSTID]",
    "XINFO STREAM {t} [FULL [COUNT {i}]]",
    "XINFO GROUPS {t}",
    "XINFO CONSUMERS {t} {g}",
    "XINFO (HELP|NOTHING {t})",
    // HyperLogLogs
    "PFADD {p} {v}+",
    "PFADD {p} [{v}+]",
    "PFCOUNT {p}",
    "PFCOUNT {p}+",
    "PFMERGE {p} [{p}+]",
    "PFDEBUG (ENCODING|DECODE|TODENSE) {p}",
    "PFDEBUG GETREG {p}",
    "GET {p}",
    "SETRANGE {p} (4|8|15) (0|1|z)",
    // Positions
    "GEOADD {e} [NX|XX] [CH] ({lon} {lat} {v})+",
    "GEOADD {e} ({lon} {lat} {v})+",
    "GEODIST {e} {v} {v} [M|KM|FT|MI]",
    "GEOHASH {e} {v}+",
    "GEOPOS {e} {v}+",
    "GEOSEARCH {e} (FROMMEMBER {v}|FROMLONLAT {lon} {lat}) (BYRADIUS {len} {unit}|BYBOX {len} {len} {unit}) [ASC|DESC] [COUNT {c} [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
    "GEOSEARCH {e} FROMLONLAT {lon} {lat} BYBOX {len} {len} {unit} [WITHDIST]",
    "GEOSEARCHSTORE {e} {e} (FROMMEMBER {v}|FROMLONLAT {lon} {lat}) (BYRADIUS {len} {unit}|BYBOX {len} {len} {unit}) [ASC|DESC] [COUNT {c} [ANY]] [STOREDIST]",
    "GEORADIUS {e} {lon} {lat} {len} {unit} [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT {c} [ANY]] [ASC|DESC] [STORE {e}|STOREDIST {e}]",
    "GEORADIUS_RO {e} {lon} {lat} {len} {unit} [WITHDIST] [ASC|DESC]",
    "GEORADIUSBYMEMBER {e} {v} {len} {unit} [WITHDIST] [COUNT {c} [ANY]] [ASC|DESC] [STORE {e}|STOREDIST {e}]",
    "GEORADIUSBYMEMBER_RO {e} {v} {len} {unit} [WITHDIST] [ASC|DESC]",
    // Sorting
    "SORT {k} [BY nosort|BY w_*|BY h*->a] [LIMIT {i} {c}] [GET #|GET k*|GET h*->b] [ASC|DESC] [STORE {k}]",
    "SORT {k} [LIMIT {i} {c}] [GET #|GET k*|GET h*->b] [ASC|DESC] [ALPHA] [STORE {k}]",
    "SORT_RO (l0|s0|z0) [BY nosort|BY k*|BY h*->a] [GET #|GET k*] [ASC|DESC] ALPHA",
    "SORT (l1|s1|z1) [BY k*|BY h*->a] [GET #] [ASC|DESC] [LIMIT {i} {c}]",
    // Connection and server
    "PING [{v}]",
    "ECHO {v}",
    "WAIT 0 {i}",
    "ROLE",
    "AUTH {v}",
    "CLIENT GETNAME",
    "CLIENT SETNAME (a|b|)",
    "CLIENT NO-EVICT (ON|OFF|MAYBE)",
    "CLIENT GETREDIR",
    "CLIENT KILL ID {i}",
    "CLIENT (TRACKINGINFO|NOTHING|CACHING YES)",
    "CONFIG GET (databases|save|appendonly|maxmemory|*-max-listpack-value|nothing) [port]",
    "CONFIG SET (databases 3|nothing x|requirepass)",
    "COMMAND GETKEYS (LMPOP 2 {l} {l} LEFT|PING x|NOTHING x|SUNIONSTORE {k} {k}|SINTERCARD 1 {s}|LLEN {l})",
    "COMMAND GETKEYS GET {k}",
    "COMMAND GETKEYS SET {k} x",
    "COMMAND GETKEYS MSET ({k} {v})+",
    "COMMAND GETKEYS DEL {k}+",
    "CLUSTER (INFO|NOTHING|KEYSLOT {k}|SLOTS)",
    "READONLY",
    "ACL WHOAMI",
    "MODULE LIST",
    "HELLO (4|x|3 x)",
    "NOTHING {v} {v}",
    "OBJECT (NOTHING {k}|FREQ|HELP x y)",
    // Transactions
    "MULTI",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH {k}+",
    "UNWATCH",
];

/// Words that find what ordinary ones don't.
const ODD_WORDS: &[&[u8]] = &[
    b"",
    b"-1",
    b"0",
    b"abc",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"1e400",
    b" 1",
    b"01",
    b"+1",
    b"1.5",
    b"nan",
    b"inf",
    b"-0",
    b"\xff\r\n",
    b"NX",
    b"XX",
    b"COUNT",
    b"WITHSCORES",
    b"1 ",
];

/// What EXEC can't be compared with.
const NOT_QUEUED: &[&str] = &[
    "SPOP",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "RANDOMKEY",
    "XREADGROUP",
    "XCLAIM",
    "XAUTOCLAIM",
];

/// Random commands from a seed.
pub struct Generator {
    state: u64,
    templates: Vec<&'static str>,
    /// Between MULTI and EXEC only what doesn't depend on chance or the clock is asked for.
    queueing: bool,
    /// The time of the last id of a stream's entry.
    newest_id: usize,
    /// Commands that have templates and aren't known.
    pub skipped: Vec<&'static str>,
}

impl Generator {
    /// Leaves out what isn't known.
    pub fn new(seed: u64, knows: &dyn Fn(&str) -> bool) -> Generator {
        let name = |template: &&'static str| {
            let rest =
                template.strip_prefix("COMMAND GETKEYS ").filter(|rest| !rest.starts_with('('));
            rest.unwrap_or(template).split(' ').next().unwrap_or_default()
        };
        let usable =
            |template: &&'static str| *template == "NOTHING {v} {v}" || knows(name(template));
        let (templates, others): (Vec<_>, Vec<_>) = TEMPLATES
            .iter()
            .chain(vocabulary::TEMPLATES)
            .copied()
            .partition(|template| usable(template));
        let mut skipped: Vec<&str> = others.iter().map(name).collect();
        skipped.dedup();
        Generator {
            state: seed ^ 0x5851_f42d_4c95_7f2d,
            templates,
            queueing: false,
            newest_id: 50,
            skipped,
        }
    }

    /// How many templates there are.
    pub fn kinds(&self) -> usize {
        self.templates.len()
    }

    /// The next command.
    pub fn next(&mut self) -> Vec<Vec<u8>> {
        let index = self.below(self.templates.len());
        let template = self.templates[index];
        let name = template.split(' ').next().unwrap_or_default();
        if self.queueing && (NOT_QUEUED.contains(&name) || name.ends_with("SCAN")) {
            return self.next();
        }
        let mut words = Vec::new();
        self.expand(template.as_bytes(), &mut words);
        // 7.4 lets ZRANK have one word more, which would make transactions differ.
        let ranks = matches!(name, "ZRANK" | "ZREVRANK");
        let odd = if words.len() > 1 && words[1].starts_with(b"y") { 9 } else { self.below(40) };
        match odd {
            1 if ranks => {}
            // Since 7.2 COMMAND GETKEYS takes one word less.
            0 if words.len() > 1 && name != "COMMAND" => drop(words.pop()),
            1 => words.push(b"x".to_vec()),
            2 | 3 if words.len() > 1 => {
                let at = 1 + self.below(words.len() - 1);
                words[at] = ODD_WORDS[self.below(ODD_WORDS.len())].to_vec();
            }
            _ => {}
        }
        // A DISCARD with too many words discards nothing, an EXEC does.
        let ends = name == "EXEC" || (name == "DISCARD" && words.len() == 1);
        self.queueing = (self.queueing && !ends) || name == "MULTI";
        words
    }

    /// A command from another template.
    pub fn fill(&mut self, template: &str) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        self.expand(template.as_bytes(), &mut words);
        words
    }

    /// A number below a bound.
    pub fn chance(&mut self, bound: usize) -> usize {
        self.below(bound)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state =
            self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.state >> 33) as usize) % bound
    }

    /// Writes the words of a template.
    fn expand(&mut self, template: &[u8], words: &mut Vec<Vec<u8>>) {
        let mut rest = template;
        while !rest.is_empty() {
            if rest[0] == b' ' {
                rest = &rest[1..];
                continue;
            }
            let len = part_len(rest);
            let part = &rest[..len];
            rest = &rest[len..];
            let mut times = 1;
            if rest.first() == Some(&b'+') {
                rest = &rest[1..];
                times = 1 + self.below(3);
            }
            for _ in 0..times {
                self.part(part, words);
            }
        }
    }

    fn part(&mut self, part: &[u8], words: &mut Vec<Vec<u8>>) {
        match part[0] {
            b'{' if part == b"{command}" => self.nested(words),
            b'{' => words.push(self.word(&part[1..part.len() - 1])),
            b'[' if self.below(2) == 0 => {}
            b'[' | b'(' => {
                let choices = alternatives(&part[1..part.len() - 1]);
                let choice = choices[self.below(choices.len())];
                if choice.is_empty() {
                    words.push(Vec::new());
                }
                self.expand(choice, words);
            }
            _ => words.push(part.to_vec()),
        }
    }

    /// A whole command as further words.
    fn nested(&mut self, words: &mut Vec<Vec<u8>>) {
        let template = loop {
            let index = self.below(self.templates.len());
            let template = self.templates[index];
            let name = template.split(' ').next().unwrap_or_default();
            let lists = [vocabulary::NOT_NESTED, NOT_QUEUED];
            if !name.ends_with("SCAN") && !lists.iter().any(|list| list.contains(&name)) {
                break template;
            }
        };
        self.expand(template.as_bytes(), words);
    }

    fn word(&mut self, kind: &[u8]) -> Vec<u8> {
        let mut one_of = |list: &[&str]| list[self.below(list.len())].as_bytes().to_vec();
        match kind {
            b"script" => one_of(vocabulary::SCRIPTS),
            b"sha" => {
                let script = one_of(vocabulary::SCRIPTS);
                let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, &script);
                sum.as_ref().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
            }
            b"library" => one_of(vocabulary::LIBRARIES),
            b"copy" => one_of(vocabulary::COPIES),
            b"literal" => one_of(vocabulary::LITERALS),
            b"rule" => one_of(vocabulary::RULES),
            b"k" => self.key(b"slhzktpe"),
            // No HyperLogLogs: Redis reads past the end of those that others changed.
            b"w" => self.key(b"slhzkte"),
            // Members of these keys have the same score, so that ranges by name mean something.
            b"y" => self.key(kind),
            b"l" | b"s" | b"h" | b"z" | b"t" | b"p" | b"e" => match self.below(30) {
                0 => self.key(b"slhzktpe"),
                _ => self.key(kind),
            },
            b"v" => self.value(),
            b"n" => (self.below(200) as i64 - 100).to_string().into_bytes(),
            b"i" => (self.below(14) as i64 - 6).to_string().into_bytes(),
            b"c" => self.below(8).to_string().into_bytes(),
            b"o" => self.below(40).to_string().into_bytes(),
            b"f" => self.float(),
            b"ttl" => {
                if self.below(6) == 0 {
                    b"-1".to_vec()
                } else {
                    (1_000 + self.below(9_000)).to_string().into_bytes()
                }
            }
            b"ms" => (1_000_000 + self.below(9_000_000)).to_string().into_bytes(),
            b"at" => (4_000_000_000 + self.below(1_000_000)).to_string().into_bytes(),
            b"atms" => (4_000_000_000_000 + self.below(1_000_000)).to_string().into_bytes(),
            b"pat" => self.choose(&[b"*", b"k?", b"[a-l]*", b"*1*", b"\\k*", b"[^k]*", b"nothing"]),
            b"b" => self.choose(&[b"-inf", b"+inf", b"0", b"(1", b"2.5", b"-3", b"(7", b"10"]),
            b"lon" => self.degrees(181),
            b"lat" => self.degrees(86),
            b"len" => (self.below(5_000) * [1, 10, 1_000][self.below(3)]).to_string().into_bytes(),
            b"unit" => self.choose(&[b"m", b"km", b"FT", b"mi"]),
            b"new" => self.new_id(),
            b"id" => self.id(),
            b"end" => match self.below(4) {
                0 => b"-".to_vec(),
                1 => b"+".to_vec(),
                2 => [b"(".to_vec(), self.id()].concat(),
                _ => self.id(),
            },
            b"g" => self.choose(&[b"g1", b"g2"]),
            b"x" => self.choose(&[b"-", b"+", b"[a", b"(b", b"[c", b"(1", b"[zz", b"bad"]),
            _ => unreachable!("every kind of word is listed"),
        }
    }

    /// Mostly above all ids before.
    fn new_id(&mut self) -> Vec<u8> {
        if self.below(12) == 0 {
            return self.id();
        }
        self.newest_id += self.below(3);
        let (ms, seq) = (self.newest_id, self.below(5));
        match self.below(6) {
            0 => format!("{ms}-*"),
            1 => ms.to_string(),
            _ => format!("{ms}-{seq}"),
        }
        .into_bytes()
    }

    /// Now and then the same place, and out of bounds.
    fn degrees(&mut self, limit: usize) -> Vec<u8> {
        let whole = self.below(2 * limit) as i64 - limit as i64;
        match self.below(4) {
            0 => (whole / 20).to_string(),
            1 => whole.to_string(),
            _ => format!("{}.{}", whole / 10, self.below(1_000_000)),
        }
        .into_bytes()
    }

    fn id(&mut self) -> Vec<u8> {
        let ms = self.newest_id.saturating_sub(self.below(40));
        if self.below(3) == 0 {
            return ms.to_string().into_bytes();
        }
        format!("{ms}-{}", self.below(5)).into_bytes()
    }

    fn choose(&mut self, words: &[&[u8]]) -> Vec<u8> {
        words[self.below(words.len())].to_vec()
    }

    fn key(&mut self, kinds: &[u8]) -> Vec<u8> {
        let kind = kinds[self.below(kinds.len())];
        vec![kind, b'0' + self.below(4) as u8]
    }

    fn float(&mut self) -> Vec<u8> {
        let whole = self.below(40) as i64 - 20;
        match self.below(4) {
            0 => whole.to_string(),
            1 => format!("{whole}.5"),
            2 => format!("{whole}.25"),
            _ => format!("{whole}.{}", self.below(1000)),
        }
        .into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => self.below(100_000).to_string().into_bytes(),
            1 => vec![b'x'; self.below(100)],
            2 => (0..self.below(20)).map(|_| self.below(256) as u8).collect(),
            3 if self.below(20) == 0 => vec![b'y'; 9_000],
            _ => vec![b'a' + self.below(8) as u8],
        }
    }
}

/// Where a command of the SCAN family has its cursor.
pub fn cursor_index(command: &[Vec<u8>]) -> Option<usize> {
    let at = match command[0].as_slice() {
        b"SCAN" => 1,
        b"HSCAN" | b"SSCAN" | b"ZSCAN" => 2,
        _ => return None,
    };
    (command.get(at).map(Vec::as_slice) == Some(b"0")).then_some(at)
}
