//! Sentinel and caches: three sentinels replace a cache that is killed by its replica while clients write.

use std::process::Command;

use serde_json::Value;

use super::replica::digest;
use crate::support::{
    Daemon, Folder, Process, free_port, has_judge, project, python_with_clients, run, until,
};

/// One that watches the primary of that port together with two others.
fn sentinel(primary: u16) -> (Process, u16, Folder) {
    // It looks every second, not every ten, and gives a server that comes back two seconds, not eight.
    const HASTE: [&str; 6] = ["SENTINEL", "DEBUG", "info-period", "1000", "publish-period", "500"];
    let (port, folder) = (free_port(), Folder::new());
    let config = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor it 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds it 700\nsentinel failover-timeout it 6000\n"
    );
    let mut command = Command::new("redis-sentinel");
    command.arg(folder.write("sentinel.conf", &config)).current_dir(folder.path());
    let process = Process::spawn(command);
    until("a sentinel", || (ask(port, &HASTE).trim() == "OK").then_some(()));
    (process, port, folder)
}

/// The answer of a server; empty while it doesn't answer. A sentinel that changes a server's role ends its connections.
fn ask(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(words);
    run(command, "").out
}

/// A field of INFO; empty while there is no answer.
fn field(port: u16, name: &str) -> String {
    let info = ask(port, &["INFO", "replication"]);
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim_end().to_owned()
}

/// All three know each other, and the replica as one that may be promoted.
fn until_watched(port: u16, replica: u16) {
    until("a sentinel to see the replica and two others", || {
        let seen = ask(port, &["SENTINEL", "REPLICAS", "it"]);
        let others = ask(port, &["SENTINEL", "SENTINELS", "it"]);
        let is_seen =
            seen.contains(&replica.to_string()) && seen.contains("master-link-status\nok");
        (is_seen && others.matches("runid").count() == 2).then_some(())
    });
}

/// redis-py's Sentinel client goes on writing, nothing that WAIT 1 acknowledged is lost, and the old primary, when it comes
/// back, is made a replica of the new one.
#[test]
fn three_sentinels_fail_over_a_cache_and_no_acknowledged_write_is_lost() {
    if !["redis-cli", "redis-sentinel"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let Some(mut python) = python_with_clients() else { return };
    let (first, second) = (Daemon::start(), Daemon::start());
    let (old, new) = (free_port(), free_port());
    first.cli(&format!("create cache db -p {old} -s")).ok();
    let address = format!("127.0.0.1:{old}");
    let port = new.to_string();
    let create = ["create", "cache", "copy", "-p", &port, "-s", "--replicate", &address];
    second.cli_words(&create).ok();
    until("a link", || (field(new, "master_link_status") == "up").then_some(()));
    let sentinels = [sentinel(old), sentinel(old), sentinel(old)];
    sentinels.iter().for_each(|(_, port, _)| until_watched(*port, new));
    let ports = sentinels.iter().map(|(_, port, _)| port.to_string()).collect::<Vec<_>>();
    python.arg(project("tests/e2e/clients/sentinel_client.py"));
    python.arg(ports.join(",")).arg(first.id().to_string());
    let writers = Process::spawn(python);
    let first = first.ended();
    until("the replica to be promoted", || (field(new, "role") == "master").then_some(()));
    // One that isn't kept on disk comes back empty. Before all sentinels know of the new primary, one that doesn't would
    // take the old one for it again, and make the new one a copy of nothing: so it is with Redis, too.
    until("all sentinels to name the new primary", || {
        let told = |(_, port, _): &(_, u16, _)| {
            ask(*port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "it"]).contains(&new.to_string())
        };
        sentinels.iter().all(told).then_some(())
    });
    let _first = first.restart();
    let told = writers.wait().ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["before"], &told["after"]), (&old.into(), &new.into()), "{told}");
    assert_eq!(told["lost"], Value::Array(Vec::new()), "{told}");
    assert!(told["acknowledged"].as_u64() >= Some(800), "{told}");
    until("the old primary to have all that the new one has", || {
        let offset = field(new, "master_repl_offset");
        (!offset.is_empty() && field(old, "slave_repl_offset") == offset).then_some(())
    });
    assert_eq!(digest(old, "0"), digest(new, "0"), "{told}");
}
