//! A cache's clients: users kept in a file, and bounds of those who send nothing or hold too much.

use crate::support::{Daemon, Peer};

const USERS: &str = "# staff\nuser ann on >secret ~* +get\nuser default on nopass ~* &* +@all\n";

/// Lines of RESP.
fn hears(peer: &mut Peer, lines: &[&str]) {
    for line in lines {
        assert_eq!(peer.hear().trim_end(), *line);
    }
}

fn config_set(peer: &mut Peer, parameter: &str) {
    peer.say(&format!("CONFIG SET {parameter}"));
    hears(peer, &["+OK"]);
}

#[test]
fn users_are_read_and_written_in_their_file() {
    let daemon = Daemon::start();
    let path = daemon.folder.write("users.acl", USERS);
    let create = ["create", "cache", "db", "-p", "0", "--aclfile", &path, "-s"];
    daemon.cli_words(&create).ok();
    let mut admin = Peer::connect(daemon.port("db"));
    admin.say("ACL USERS");
    hears(&mut admin, &["*2", "$3", "ann", "$7", "default"]);
    admin.say("ACL SETUSER bob on >pw ~b* +@all");
    hears(&mut admin, &["+OK"]);
    admin.say("ACL SAVE");
    hears(&mut admin, &["+OK"]);
    let saved = std::fs::read_to_string(&path).expect("the file is there");
    assert!(saved.contains("user bob on ") && saved.contains("user ann on "), "{saved}");
    assert!(!saved.contains("secret"), "only hashes of passwords: {saved}");
    // Whoever is gone or has other rules is closed; the others stay.
    let mut ann = Peer::connect(daemon.port("db"));
    ann.say("AUTH ann secret");
    hears(&mut ann, &["+OK"]);
    let mut bob = Peer::connect(daemon.port("db"));
    bob.say("AUTH bob pw");
    hears(&mut bob, &["+OK"]);
    let fewer: Vec<&str> = saved.lines().filter(|line| !line.contains(" bob ")).collect();
    std::fs::write(&path, fewer.join("\n")).expect("the file can be written");
    admin.say("ACL LOAD");
    hears(&mut admin, &["+OK"]);
    assert_eq!(bob.rest(), "");
    ann.say("GET k");
    hears(&mut ann, &["$-1"]);
    // A wrong file changes nothing.
    std::fs::write(&path, "user ann on\nbanana\n").expect("the file can be written");
    admin.say("ACL LOAD");
    let refusal = admin.hear();
    assert!(refusal.contains("users.acl:2: line should start with user keyword"), "{refusal}");
    ann.say("GET k");
    hears(&mut ann, &["$-1"]);
    daemon.cli("stop db").ok();
    daemon.cli("start db").fails(1, &["aclfile", "users.acl:2"]);
}

#[test]
fn a_cache_has_a_password_or_a_file_of_users() {
    let daemon = Daemon::start();
    let path = daemon.folder.write("users.acl", USERS);
    let create = ["create", "cache", "db", "-p", "0", "--password", "x", "--aclfile", &path, "-s"];
    daemon.cli_words(&create).fails(1, &["password", "aclfile", "default"]);
    daemon.cli("create cache other -p 0 --aclfile nowhere.acl -s").fails(1, &["nowhere.acl"]);
    daemon.cli("create cache plain -p 0 -s").ok();
    let mut peer = Peer::connect(daemon.port("plain"));
    peer.say("ACL SAVE");
    assert!(peer.hear().contains("not configured to use an ACL file"));
}

#[test]
fn clients_that_hold_too_much_or_send_nothing_are_closed() {
    let daemon = Daemon::start();
    daemon.cli("create cache db -p 0 -s").ok();
    let mut large = Peer::connect(daemon.port("db"));
    large.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8000000\r\n");
    large.send(&vec![b'x'; 4_000_000]);
    let mut admin = Peer::connect(daemon.port("db"));
    config_set(&mut admin, "maxmemory-clients 1mb");
    assert_eq!(large.rest(), "", "it is closed without an answer");
    admin.say("GET k");
    hears(&mut admin, &["$-1"]);
    let mut silent = Peer::connect(daemon.port("db"));
    let mut listener = Peer::connect(daemon.port("db"));
    listener.say("SUBSCRIBE news");
    hears(&mut listener, &["*3", "$9", "subscribe", "$4", "news", ":1"]);
    config_set(&mut admin, "timeout 1");
    assert_eq!(silent.rest(), "", "it is closed");
    let mut teller = Peer::connect(daemon.port("db"));
    teller.say("PUBLISH news x");
    hears(&mut teller, &[":1"]);
}
