//! A cache as the primary of real Redis, and of another cache.

use std::process::Command;

use super::replica::{cli, digest, field, fill, redis};
use crate::support::{Daemon, Process, has_judge, run, until};

fn until_same(primary: u16, replica: u16) {
    until("the replica to have all that the primary has", || {
        let offset = field(primary, "replication", "master_repl_offset");
        let is_up = field(replica, "replication", "master_link_status") == "up";
        (is_up && field(replica, "replication", "slave_repl_offset") == offset).then_some(())
    });
}

/// Redis and a cache follow a cache while ten clients write and the link of Redis is cut.
#[test]
fn redis_and_a_cache_are_replicas_of_a_cache() {
    if !["redis-server", "redis-cli", "redis-benchmark"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 -s").ok();
    let primary = daemon.port("db");
    fill(primary);
    let address = format!("127.0.0.1:{primary}");
    daemon.cli_words(&["create", "cache", "copy", "-p", "0", "-s", "--replicate", &address]).ok();
    let copy = daemon.port("copy");
    let (_redis, theirs) = redis(&["--replicaof", "127.0.0.1", &primary.to_string()]);
    for replica in [copy, theirs] {
        until_same(primary, replica);
        for database in ["0", "5"] {
            assert_eq!(digest(replica, database), digest(primary, database), "after the snapshot");
        }
    }
    assert_eq!(field(primary, "replication", "connected_slaves"), "2");
    let mut load = Command::new("redis-benchmark");
    load.args(["-p", &primary.to_string(), "-n", "5000", "-r", "300", "-c", "10", "-P", "4", "-q"]);
    load.args(["-t", "set,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin"]);
    let mut load = Process::spawn(load);
    let mut cuts = 0;
    while load.ended().is_none() {
        until("a link to cut", || {
            let is_up = field(theirs, "replication", "master_link_status") == "up";
            (is_up || load.ended().is_some()).then_some(())
        });
        cli(theirs, &["CLIENT", "KILL", "TYPE", "master"]);
        cuts += 1;
    }
    let script = "for i = 1, 100 do redis.call('INCRBYFLOAT', 'f', 0.5) redis.call('SPOP', 't:0') end return 1";
    cli(primary, &["EVAL", script, "0"]);
    cli(primary, &["SET", "short", "x", "PX", "20"]);
    until("a key to expire", || (cli(primary, &["EXISTS", "short"]) == "0").then_some(()));
    for replica in [copy, theirs] {
        until_same(primary, replica);
        for database in ["0", "5"] {
            let same = digest(replica, database) == digest(primary, database);
            assert!(same, "database {database} after {cuts} cuts");
        }
    }
    assert_eq!(field(primary, "stats", "sync_full"), "2", "the rest came from the backlog");
    assert!(field(primary, "stats", "sync_partial_ok").parse::<u32>().unwrap() >= 1);
    assert!(field(primary, "replication", "slave0").contains("state=online"));
}

/// What a connection writes, and what it then waits for, line by line.
fn writes_and_waits(port: u16, lines: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]);
    run(command, lines).ok()
}

/// WAIT counted nobody: with a replica it waited for ever, and WAITAOF said that there was no log though there was.
#[test]
fn wait_and_waitaof_count_replicas_and_disks() {
    if !["redis-server", "redis-cli"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 -s --persist aof").ok();
    let primary = daemon.port("db");
    let address = format!("127.0.0.1:{primary}");
    let create = ["create", "cache", "copy", "-p", "0", "-s", "--persist", "aof", "--replicate"];
    daemon.cli_words(&[&create[..], &[&address]].concat()).ok();
    let (_redis, theirs) = redis(&["--replicaof", "127.0.0.1", &primary.to_string()]);
    for replica in [daemon.port("copy"), theirs] {
        until_same(primary, replica);
    }
    let waits = |lines: &str| writes_and_waits(primary, lines);
    assert_eq!(waits("SET a 1\nWAIT 2 0\n"), "OK\n2\n");
    assert_eq!(
        waits("INCR a\nMULTI\nINCR a\nEXEC\nEVAL \"return redis.call('incr','a')\" 0\nWAIT 2 0\n"),
        "2\nOK\nQUEUED\n3\n4\n2\n"
    );
    // Redis 7.0 doesn't tell of its log: the other replica does.
    assert_eq!(waits("SET b 1\nWAITAOF 1 1 0\n"), "OK\n1\n1\n");
    assert_eq!(waits("SET b 2\nWAITAOF 1 2 3000\n"), "OK\n1\n1\n");
    assert_eq!(cli(theirs, &["WAIT", "0", "0"]).split(' ').next(), Some("ERR"));
    daemon.cli("stop copy").ok();
    assert_eq!(waits("SET a 5\nWAIT 2 100\n"), "OK\n1\n");
    // The questions to replicas stand in the log too, and say nothing when it is read.
    daemon.cli("restart db").ok();
    let primary = daemon.port("db");
    until("the log to be read", || (cli(primary, &["GET", "a"]) == "5").then_some(()));
}
