//! Parameters of Redis that mean nothing here. Tools and configuration scripts set them and read them back; a store that
//! forks nobody, rehashes nothing and has no disk has nothing to tune by them. What would promise something that isn't
//! there is refused with the reason.

use super::{Refusal, values};
use Check::{Boolean, Choice, Fixed, Integer, Memory, Only, Text};

/// One such parameter.
pub struct Kept {
    /// As CONFIG spells it.
    pub name: &'static str,
    /// Its value as text until it is set.
    pub default: &'static str,
    check: Check,
}

/// What it may be set to.
enum Check {
    /// Nothing: it says what is so.
    Fixed,
    /// Its default, the present state; the reason for refusing the rest.
    Only(&'static str),
    /// `yes` or `no`.
    Boolean,
    /// A number between two.
    Integer(i64, i64),
    /// Bytes.
    Memory,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Anything.
    Text,
}

const NO_DEFRAGMENTATION: &str =
    "there is no active defragmentation; MEMORY PURGE gives free pages back";
const FIXED_LIMIT: &str = "this limit can't be changed";
const OF_DAEMON: &str = "that is the daemon's business: see its command line";
const BOUND: &str = "a cache listens on the loopback address unless its port says otherwise";

const fn kept(name: &'static str, default: &'static str, check: Check) -> Kept {
    Kept { name, default, check }
}

impl Kept {
    /// The text that is kept for a value, if it may be set.
    pub fn check(&self, value: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = match &self.check {
            Fixed => return Err("can't set immutable config".into()),
            Only(_) if value.eq_ignore_ascii_case(self.default.as_bytes()) => value.to_vec(),
            Only(reason) => return Err((*reason).into()),
            Boolean => values::yes_or_no(values::boolean(value)?),
            Integer(least, most) => {
                values::integer(value, *least..=*most)?.to_string().into_bytes()
            }
            Memory => values::memory(value)?.to_string().into_bytes(),
            Choice(words) => words[values::choice(value, words)?].as_bytes().to_vec(),
            Text => value.to_vec(),
        };
        Ok(text)
    }
}

/// Those that only somebody who knows the name is shown, as in Redis.
pub const HIDDEN: &[&str] = &["key-load-delay", "rdb-key-save-delay"];

/// All of them, by name.
#[rustfmt::skip]
pub const KEPT: &[Kept] = &[
    kept("aclfile", "", Fixed),
    kept("active-defrag-cycle-max", "25", Integer(1, 99)),
    kept("active-defrag-cycle-min", "1", Integer(1, 99)),
    kept("active-defrag-ignore-bytes", "104857600", Memory),
    kept("active-defrag-max-scan-fields", "1000", Integer(1, i64::MAX)),
    kept("active-defrag-threshold-lower", "10", Integer(0, 1000)),
    kept("active-defrag-threshold-upper", "100", Integer(0, 1000)),
    kept("active-expire-effort", "1", Integer(1, 10)),
    kept("activedefrag", "no", Only(NO_DEFRAGMENTATION)),
    kept("activerehashing", "yes", Boolean),
    kept("always-show-logo", "no", Fixed),
    kept("aof-disable-auto-gc", "no", Boolean),
    kept("aof-load-truncated", "yes", Boolean),
    kept("aof-rewrite-incremental-fsync", "yes", Boolean),
    kept("aof-timestamp-enabled", "no", Boolean),
    kept("aof-use-rdb-preamble", "yes", Boolean),
    kept("appenddirname", "appendonlydir", Fixed),
    kept("appendfilename", "appendonly.aof", Fixed),
    kept("bind", "127.0.0.1", Only(BOUND)),
    kept("bind-source-addr", "", Only(BOUND)),
    kept("client-query-buffer-limit", "1073741824", Only(FIXED_LIMIT)),
    kept("cluster-allow-reads-when-down", "no", Boolean),
    kept("cluster-announce-ip", "", Text),
    kept("cluster-config-file", "nodes.conf", Fixed),
    kept("cluster-enabled", "no", Fixed),
    kept("cluster-migration-barrier", "1", Integer(0, i32::MAX as i64)),
    kept("cluster-node-timeout", "15000", Integer(0, i64::MAX)),
    kept("cluster-port", "0", Fixed),
    kept("cluster-require-full-coverage", "yes", Boolean),
    kept("crash-log-enabled", "yes", Only(OF_DAEMON)),
    kept("daemonize", "no", Fixed),
    kept("dbfilename", "dump.rdb", Fixed),
    kept("disable-thp", "yes", Fixed),
    kept("dynamic-hz", "yes", Boolean),
    kept("enable-module-command", "no", Fixed),
    kept("enable-protected-configs", "no", Fixed),
    kept("hll-sparse-max-bytes", "3000", Memory),
    kept("hz", "10", Integer(1, 500)),
    kept("io-threads", "1", Fixed),
    kept("io-threads-do-reads", "no", Fixed),
    kept("jemalloc-bg-thread", "yes", Boolean),
    kept("lazyfree-lazy-eviction", "yes", Boolean),
    kept("lazyfree-lazy-expire", "yes", Boolean),
    kept("lazyfree-lazy-server-del", "yes", Boolean),
    kept("lazyfree-lazy-user-del", "yes", Boolean),
    kept("lazyfree-lazy-user-flush", "yes", Boolean),
    kept("key-load-delay", "0", Integer(i32::MIN as i64, i32::MAX as i64)),
    kept("list-compress-depth", "0", Integer(0, i32::MAX as i64)),
    kept("logfile", "", Fixed),
    kept("loglevel", "notice", Choice(&["debug", "verbose", "notice", "warning", "nothing"])),
    kept("masterauth", "", Text),
    kept("masteruser", "", Text),
    kept("maxclients", "1048576", Only(FIXED_LIMIT)),
    kept("maxmemory-eviction-tenacity", "10", Integer(0, 100)),
    kept("no-appendfsync-on-rewrite", "no", Boolean),
    kept("oom-score-adj", "no", Fixed),
    kept("oom-score-adj-values", "0 200 800", Fixed),
    kept("pidfile", "", Fixed),
    kept("proc-title-template", "{title} {listen-addr} {server-mode}", Only(OF_DAEMON)),
    kept("propagation-error-behavior", "ignore", Choice(&["ignore", "panic", "panic-on-replicas"])),
    kept("protected-mode", "no", Only(BOUND)),
    kept("rdb-del-sync-files", "no", Boolean),
    kept("rdb-key-save-delay", "0", Integer(i32::MIN as i64, i32::MAX as i64)),
    kept("rdb-save-incremental-fsync", "yes", Boolean),
    kept("rdbchecksum", "yes", Fixed),
    kept("rdbcompression", "yes", Boolean),
    kept("repl-backlog-size", "1048576", Memory),
    kept("repl-backlog-ttl", "3600", Integer(0, i64::MAX)),
    kept("repl-disable-tcp-nodelay", "no", Boolean),
    kept("repl-diskless-load", "disabled", Choice(&["disabled", "on-empty-db", "swapdb"])),
    kept("repl-diskless-sync", "yes", Boolean),
    kept("repl-diskless-sync-delay", "5", Integer(0, i32::MAX as i64)),
    kept("repl-diskless-sync-max-replicas", "0", Integer(0, i32::MAX as i64)),
    kept("repl-ping-replica-period", "10", Integer(1, i32::MAX as i64)),
    kept("repl-ping-slave-period", "10", Integer(1, i32::MAX as i64)),
    kept("repl-timeout", "60", Integer(1, i32::MAX as i64)),
    kept("replica-announce-ip", "", Text),
    kept("replica-announce-port", "0", Integer(0, 65535)),
    kept("replica-announced", "yes", Boolean),
    kept("replica-ignore-disk-write-errors", "no", Boolean),
    kept("replica-ignore-maxmemory", "yes", Boolean),
    kept("replica-lazy-flush", "no", Boolean),
    kept("replica-priority", "100", Integer(0, i32::MAX as i64)),
    kept("replica-read-only", "yes", Boolean),
    kept("replica-serve-stale-data", "yes", Boolean),
    kept("replicaof", "", Fixed),
    kept("sanitize-dump-payload", "yes", Choice(&["no", "yes", "clients"])),
    kept("set-proc-title", "yes", Fixed),
    kept("shutdown-on-sigint", "default", Only(OF_DAEMON)),
    kept("shutdown-on-sigterm", "default", Only(OF_DAEMON)),
    kept("shutdown-timeout", "10", Integer(0, i32::MAX as i64)),
    kept("slave-ignore-maxmemory", "yes", Boolean),
    kept("slave-lazy-flush", "no", Boolean),
    kept("slave-priority", "100", Integer(0, i32::MAX as i64)),
    kept("slave-read-only", "yes", Boolean),
    kept("slave-serve-stale-data", "yes", Boolean),
    kept("slaveof", "", Fixed),
    kept("socket-mark-id", "0", Fixed),
    kept("stream-node-max-bytes", "4096", Memory),
    kept("supervised", "no", Fixed),
    kept("syslog-enabled", "no", Fixed),
    kept("syslog-facility", "local0", Fixed),
    kept("syslog-ident", "socketley", Fixed),
    kept("tcp-backlog", "4096", Fixed),
    kept("tcp-keepalive", "300", Only(FIXED_LIMIT)),
    kept("tls-port", "0", Fixed),
    kept("unixsocket", "", Fixed),
    kept("unixsocketperm", "0", Fixed),
];
