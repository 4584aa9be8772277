//! A cache as a replica of a real Redis: under load, over cut links, behind a password, and promoted by Sentinel.

use std::process::Command;

use crate::support::{Daemon, Folder, Process, free_port, has_judge, run, until};

/// What a data set holds, key by key in order, whatever server it is on.
const DIGEST: &str = r#"
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local held
  if kind == 'string' then held = { redis.call('GET', key) }
  elseif kind == 'list' then held = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then held = redis.call('SMEMBERS', key) table.sort(held)
  elseif kind == 'zset' then held = redis.call('ZRANGE', key, 0, -1)
  elseif kind == 'hash' then
    held = redis.call('HKEYS', key)
    table.sort(held)
    for at, field in ipairs(held) do held[at] = field .. '=' .. redis.call('HGET', key, field) end
  else
    held = { redis.sha1hex(cjson.encode(redis.call('XRANGE', key, '-', '+'))) }
  end
  if kind == 'zset' then
    for at, member in ipairs(held) do held[at] = member .. '=' .. redis.call('ZSCORE', key, member) end
  end
  table.insert(all, kind .. ' ' .. key .. ' ' .. redis.call('PEXPIRETIME', key) .. ' ' .. redis.sha1hex(table.concat(held, ',')))
end
table.sort(all)
return #all .. ' keys, ' .. redis.sha1hex(table.concat(all, '\n'))
"#;

pub fn cli(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words);
    run(command, "").ok().trim_end().to_owned()
}

pub fn digest(port: u16, database: &str) -> String {
    cli(port, &["-n", database, "EVAL", DIGEST, "0"])
}

pub fn field(port: u16, section: &str, name: &str) -> String {
    let info = cli(port, &["INFO", section]);
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim_end().to_owned()
}

pub fn redis(options: &[&str]) -> (Process, u16) {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16mb"]).args(options);
    let folder = std::env::temp_dir();
    command.arg("--dir").arg(&folder).args(["--dbfilename", &format!("replica-{port}.rdb")]);
    let process = Process::spawn(command);
    until("redis-server", || (run(ping(port), "").out.contains('P')).then_some(()));
    (process, port)
}

fn ping(port: u16) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string(), "-a", "secret", "--no-auth-warning", "PING"]);
    command
}

/// Keys of every type in two databases, some that expire, and a function.
pub fn fill(port: u16) {
    let mut lines = String::new();
    for n in 0..500 {
        lines.push_str(&format!(
            "SET s:{n} {}\nRPUSH l:{} {n}\nSADD t:{} m{n} {n}\n",
            "x".repeat(n + 1),
            n % 9,
            n % 5
        ));
        lines.push_str(&format!(
            "ZADD z:{} {n}.5 m{n}\nHSET h:{} f{n} {n}\nXADD x:{} * n {n}\n",
            n % 3,
            n % 4,
            n % 2
        ));
    }
    lines.push_str("PEXPIREAT s:1 99999999999999\nPFADD p a b c\nSELECT 5\nSET five 5 EX 10000\nXGROUP CREATE g g $ MKSTREAM\n");
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]);
    run(command, &lines).ok();
}

fn until_same(primary: u16, replica: u16) {
    until("the replica's offset to be the primary's", || {
        let theirs = field(primary, "replication", "master_repl_offset");
        let is_up = field(replica, "replication", "master_link_status") == "up";
        (is_up && field(replica, "replication", "slave_repl_offset") == theirs).then_some(())
    });
}

/// Cuts the link again and again while ten clients write; answers how often.
fn cut_under_load(primary: u16, replica: u16) -> u32 {
    let mut load = Command::new("redis-benchmark");
    load.args([
        "-p",
        &primary.to_string(),
        "-t",
        "set,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin",
    ]);
    load.args(["-n", "5000", "-r", "300", "-c", "10", "-P", "4", "-q"]);
    let mut load = Process::spawn(load);
    let mut cuts = 0;
    while load.ended().is_none() {
        until("a link to cut", || {
            let is_up = field(replica, "replication", "master_link_status") == "up";
            (is_up || load.ended().is_some()).then_some(())
        });
        cli(primary, &["CLIENT", "KILL", "TYPE", "replica"]);
        cuts += 1;
    }
    cuts
}

#[test]
fn a_replica_of_redis_under_load_and_over_cut_links() {
    if !["redis-server", "redis-cli", "redis-benchmark"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let (_redis, primary) = redis(&[]);
    fill(primary);
    cli(
        primary,
        &[
            "FUNCTION",
            "LOAD",
            "#!lua name=lib\nredis.register_function('f', function() return 7 end)",
        ],
    );
    let daemon = Daemon::start();
    let mut create = vec!["create", "cache", "copy", "-p", "0", "-s", "--replicate"];
    let address = format!("127.0.0.1:{primary}");
    create.push(&address);
    daemon.cli_words(&create).ok();
    let replica = daemon.port("copy");
    until_same(primary, replica);
    for database in ["0", "5"] {
        assert_eq!(digest(replica, database), digest(primary, database), "after the snapshot");
    }
    assert!(cli(replica, &["FUNCTION", "LIST"]).contains("lib"));
    assert_eq!(
        cli(replica, &["ROLE"]),
        format!(
            "slave\n127.0.0.1\n{primary}\nconnected\n{}",
            field(replica, "replication", "slave_repl_offset")
        )
    );
    assert!(cli(replica, &["SET", "s:1", "mine"]).starts_with("READONLY"));
    assert_eq!(field(primary, "replication", "connected_slaves"), "1");
    let cuts = cut_under_load(primary, replica);
    let script = "for i = 1, 200 do redis.call('INCRBYFLOAT', 'f', 0.5) redis.call('XADD', 'x:0', '*', 'i', i) end return 1";
    cli(primary, &["EVAL", script, "0"]);
    cli(primary, &["SET", "short", "x", "PX", "50"]);
    until("the primary to expire a key", || {
        (cli(primary, &["EXISTS", "short"]) == "0").then_some(())
    });
    until_same(primary, replica);
    for database in ["0", "5"] {
        assert_eq!(digest(replica, database), digest(primary, database), "after {cuts} cuts");
    }
    assert_eq!(
        field(replica, "replication", "replica_syncs_full"),
        "1",
        "the rest came from the backlog"
    );
    assert!(field(replica, "replication", "replica_syncs_partial").parse::<u32>().unwrap() >= 1);
    // Promoted, it goes on with its data.
    assert_eq!(cli(replica, &["REPLICAOF", "NO", "ONE"]), "OK");
    assert_eq!(cli(replica, &["SET", "s:1", "mine"]), "OK");
    assert_eq!(field(replica, "replication", "role"), "master");
    until("the primary to miss its replica", || {
        (field(primary, "replication", "connected_slaves") == "0").then_some(())
    });
}

#[test]
fn a_replica_with_a_password_and_a_snapshot_from_disk() {
    if !["redis-server", "redis-cli"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let (_redis, primary) = redis(&["--repl-diskless-sync", "no"]);
    fill(primary);
    let (keys, kept) = (digest(primary, "0"), digest(primary, "5"));
    cli(primary, &["CONFIG", "SET", "requirepass", "secret"]);
    let mut daemon = Daemon::start();
    daemon.cli("create cache copy -p 0 -s").ok();
    let replica = daemon.port("copy");
    cli(replica, &["SET", "old", "data"]);
    assert_eq!(cli(replica, &["REPLICAOF", "127.0.0.1", &primary.to_string()]), "OK");
    daemon.until_logged("no link to the primary");
    assert_eq!(
        cli(replica, &["GET", "old"]),
        "data",
        "nothing is lost before there is something new"
    );
    cli(replica, &["CONFIG", "SET", "masterauth", "secret"]);
    until("a link", || (field(replica, "replication", "master_link_status") == "up").then_some(()));
    assert_eq!((digest(replica, "0"), digest(replica, "5")), (keys, kept));
    assert_eq!(cli(replica, &["EXISTS", "old"]), "0");
}

#[test]
fn sentinel_promotes_a_replica_when_redis_dies() {
    if !["redis-server", "redis-cli", "redis-sentinel"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let (redis, primary) = redis(&[]);
    fill(primary);
    let keys = digest(primary, "0");
    let daemon = Daemon::start();
    let address = format!("127.0.0.1:{primary}");
    daemon.cli_words(&["create", "cache", "copy", "-p", "0", "-s", "--replicate", &address]).ok();
    let replica = daemon.port("copy");
    let folder = Folder::new();
    let port = free_port();
    let config = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor it 127.0.0.1 {primary} 1\nsentinel down-after-milliseconds it 500\n\
         sentinel failover-timeout it 5000\n"
    );
    let mut command = Command::new("redis-sentinel");
    command.arg(folder.write("sentinel.conf", &config)).current_dir(folder.path());
    let _sentinel = Process::spawn(command);
    until_same(primary, replica);
    until("Sentinel to see the replica as one that may be promoted", || {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port.to_string(), "SENTINEL", "REPLICAS", "it"]);
        let seen = run(command, "").out;
        let is_seen =
            seen.contains(&replica.to_string()) && seen.contains("master-link-status\nok");
        is_seen.then_some(())
    });
    redis.signal("KILL");
    until("Sentinel to promote the replica", || {
        (field(replica, "replication", "role") == "master").then_some(())
    });
    assert_eq!(digest(replica, "0"), keys);
    until("Sentinel to name the new primary", || {
        let named = cli(port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "it"]);
        named.ends_with(&replica.to_string()).then_some(())
    });
    assert_eq!(cli(replica, &["SET", "s:1", "new"]), "OK");
}
