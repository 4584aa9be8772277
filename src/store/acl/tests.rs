//! Users as clients meet them; the rules' texts and refusals are Redis's.

use super::super::commands::testing::Client;
use crate::store::clients;

/// A client of a store behind whose `default` user others can be tried.
struct World(Client);

impl World {
    fn new(setup: &[&str]) -> World {
        let mut client = Client::resp2();
        for line in setup {
            assert_eq!(client.run(line), "+OK", "{line}");
        }
        World(client)
    }

    /// Runs a line as a fresh connection of that user, password `pw`.
    fn run_as(&mut self, user: &str, line: &str) -> String {
        let mut session = self.0.store.instance.clients.add(clients::Client::default());
        self.0.store.instance.acl.begin(&mut session);
        let before = std::mem::replace(&mut self.0.session, session);
        assert_eq!(self.0.run(&format!("AUTH {user} pw")), "+OK", "{user}");
        let reply = self.0.run(line);
        let mut session = std::mem::replace(&mut self.0.session, before);
        self.0.store.instance.clients.remove(&mut session);
        reply
    }
}

/// That a client tracks keys and that a user has less than all rights were once the same bit: who turned tracking off, which
/// every such user seemed to do, could run everything.
#[test]
fn turning_tracking_off_gives_no_rights() {
    let World(mut client) = World::new(&["ACL SETUSER u on >pw ~a* +get +client"]);
    client.check(&[
        ("AUTH u pw", "+OK"),
        ("CLIENT TRACKING OFF", "+OK"),
        ("GET b", "-NOPERM No permissions to access a key"),
    ]);
}

#[test]
fn rules_read_back() {
    let mut client = Client::resp2();
    for (rules, text) in [
        ("", "off sanitize-payload resetchannels -@all"),
        ("on nopass", "on nopass sanitize-payload resetchannels -@all"),
        ("~a* %R~r* %W~w* +get", "off sanitize-payload ~a* %R~r* %W~w* resetchannels -@all +get"),
        ("%RW~* &c* &d", "off sanitize-payload ~* resetchannels &c* &d -@all"),
        ("%R~a %W~a", "off sanitize-payload ~a resetchannels -@all"),
        ("+@all -@dangerous +info", "off sanitize-payload resetchannels +@all -@dangerous +info"),
        ("allkeys allchannels allcommands", "off sanitize-payload ~* &* +@all"),
        ("-config +config|get", "off sanitize-payload resetchannels -@all -config +config|get"),
        ("+config|get -config", "off sanitize-payload resetchannels -@all -config"),
        ("+select|0", "off sanitize-payload resetchannels -@all +select|0"),
        ("(+get ~x) (+set ~y", "?"),
        ("(+get ~x)", "off sanitize-payload resetchannels -@all (~x resetchannels -@all +get)"),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
    ] {
        client.run("ACL DELUSER u");
        let reply = client.run(&format!("ACL SETUSER u reset {rules}"));
        if text == "?" {
            assert_eq!(reply, "-ERR Unmatched parenthesis in acl selector starting at '(+set'.");
            continue;
        }
        assert_eq!(reply, "+OK", "{rules}");
        let list = client.run("ACL LIST");
        assert!(list.ends_with(&format!(" user u {text}")), "{rules}: {list}");
    }
}

#[test]
fn wrong_modifiers_change_nothing() {
    let mut client = Client::resp2();
    let unknown = "Unknown command or category name in ACL";
    for (modifier, reason) in [
        ("foo", "Syntax error"),
        ("+foo", unknown),
        ("+@foo", unknown),
        ("-get|x", unknown),
        ("+config|nothing", unknown),
        ("%X~a", "Syntax error"),
        ("<x", "The password you are trying to remove from the user does not exist"),
        ("(+get +foo)", unknown),
        (
            "#12",
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
    ] {
        let expected = format!("-ERR Error in ACL SETUSER modifier '{modifier}': {reason}");
        assert_eq!(client.run(&format!("ACL SETUSER u on {modifier}")), expected);
    }
    client.check(&[
        ("ACL USERS", "*1 $7 default"),
        ("ACL GETUSER u", "$-1"),
        ("ACL DELUSER default", "-ERR The 'default' user cannot be removed"),
        ("ACL CAT nothing", "-ERR Unknown category 'nothing'"),
        ("ACL WHOAMI", "$7 default"),
        ("ACL SETUSER a allkeys", "+OK"),
    ]);
    assert!(client.run("ACL SETUSER a ~x").contains("Adding a pattern after the * pattern"));
    assert_eq!(client.run("ACL GENPASS 5").len(), "$2 ab".len());
    assert_eq!(client.run("ACL GENPASS").len(), "$64 ".len() + 64);
    assert_eq!(client.run("ACL GENPASS x"), "-ERR value is not an integer or out of range");
    assert!(client.run("ACL GENPASS 4097").starts_with("-ERR ACL GENPASS argument must be"));
}

#[test]
fn what_users_may() {
    let mut world = World::new(&[
        "ACL SETUSER reader on >pw +@read +@connection ~cache:* %R~shared:*",
        "ACL SETUSER writer on >pw +@all -flushall ~w:* %R~r:*",
        "ACL SETUSER split on >pw +@connection (+get ~a) (+set %W~b)",
        "ACL SETUSER one on >pw +config|get +select|1",
    ]);
    let command = |user: &str, name: &str| {
        format!("-NOPERM User {user} has no permissions to run the '{name}' command")
    };
    let key = "-NOPERM No permissions to access a key".to_owned();
    for (user, line, reply) in [
        ("reader", "GET cache:1", "$-1".to_owned()),
        ("reader", "GET shared:1", "$-1".to_owned()),
        ("reader", "GET other", key.clone()),
        ("reader", "SET cache:1 x", command("reader", "set")),
        ("reader", "MGET cache:1 other", key.clone()),
        ("reader", "PING", "+PONG".to_owned()),
        ("reader", "CONFIG GET save", command("reader", "config|get")),
        ("writer", "SET w:1 x", "+OK".to_owned()),
        ("writer", "SET r:1 x", key.clone()),
        ("writer", "SET w:1 x GET", "$1 x".to_owned()),
        ("writer", "COPY r:1 w:2", ":0".to_owned()),
        ("writer", "COPY w:1 r:2", key.clone()),
        ("writer", "RENAME r:1 w:3", key.clone()),
        ("writer", "EXISTS r:1", ":0".to_owned()),
        ("writer", "ZUNIONSTORE w:9 2 w:8 x", key.clone()),
        ("writer", "FLUSHALL", command("writer", "flushall")),
        ("split", "GET a", "$-1".to_owned()),
        ("split", "SET b 1", "+OK".to_owned()),
        ("split", "SET a 1", key.clone()),
        ("split", "GET b", key.clone()),
        ("split", "DEL a", command("split", "del")),
        ("one", "CONFIG GET save", "*2 $4 save $0".to_owned()),
        ("one", "CONFIG SET save x", command("one", "config|set")),
        ("one", "SELECT 1", "+OK".to_owned()),
        ("one", "SELECT 2", command("one", "select")),
    ] {
        assert_eq!(world.run_as(user, line), reply, "{user}: {line}");
    }
    world.0.check(&[
        ("ACL DRYRUN reader GET cache:1", "+OK"),
        ("ACL DRYRUN nobody GET a", "-ERR User 'nobody' not found"),
        ("ACL DRYRUN reader FOO", "-ERR Command 'FOO' not found"),
        ("ACL DRYRUN reader OBJECT FOO x", "-ERR Command 'OBJECT' not found"),
        ("ACL DRYRUN reader GET", "-ERR wrong number of arguments for 'get' command"),
        ("ACL DRYRUN reader GET x", "$52 User reader has no permissions to access the 'x' key"),
    ]);
}

#[test]
fn changes_reach_those_who_are_connected() {
    let mut client = Client::resp2();
    client.check(&[
        ("ACL SETUSER u on >pw +get ~*", "+OK"),
        ("AUTH u wrong", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH u pw", "+OK"),
        ("GET a", "$-1"),
        ("SET a b", "-NOPERM User u has no permissions to run the 'set' command"),
    ]);
    let mut admin = crate::store::Session::new(99);
    std::mem::swap(&mut client.session, &mut admin);
    client.check(&[("ACL SETUSER u +set", "+OK"), ("SET b c", "+OK")]);
    std::mem::swap(&mut client.session, &mut admin);
    client.check(&[("SET a b", "+OK"), ("GET a", "$1 b")]);
    std::mem::swap(&mut client.session, &mut admin);
    client.check(&[("ACL DELUSER u nobody", ":1")]);
    std::mem::swap(&mut client.session, &mut admin);
    client.check(&[("GET a", "-NOAUTH Authentication required.")]);
}

#[test]
fn queued_commands_are_checked_again_at_exec() {
    let mut client = Client::resp2();
    client.check(&[
        ("ACL SETUSER u on >pw +@all ~*", "+OK"),
        ("AUTH u pw", "+OK"),
        ("MULTI", "+OK"),
        ("SET a b", "+QUEUED"),
    ]);
    let mut admin = crate::store::Session::new(99);
    std::mem::swap(&mut client.session, &mut admin);
    client.check(&[("ACL SETUSER u -set", "+OK")]);
    std::mem::swap(&mut client.session, &mut admin);
    client.check(&[
        ("EXEC", "*1 -NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
             command is no longer allowed for the following reason: no permission to execute the command or subcommand"),
        ("GET a", "$-1"),
    ]);
}

#[test]
fn refusals_are_logged_and_grouped() {
    let mut client = Client::resp2();
    client.check(&[
        ("ACL SETUSER u on >pw +get ~a", "+OK"),
        ("AUTH u nope", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH u pw", "+OK"),
        ("GET b", "-NOPERM No permissions to access a key"),
        ("GET b", "-NOPERM No permissions to access a key"),
        ("SET a b", "-NOPERM User u has no permissions to run the 'set' command"),
    ]);
    client.session = crate::store::Session::new(99);
    let log = client.run("ACL LOG");
    let reasons: Vec<&str> = log.split("reason $").skip(1).map(|rest| &rest[..9]).collect();
    assert_eq!(reasons, ["7 command", "3 key $7 ", "4 auth $7"]);
    assert!(log.contains("count :2 $6 reason $3 key"), "{log}");
    client.check(&[("ACL LOG RESET", "+OK"), ("ACL LOG", "*0")]);
}

/// "Tracks keys" and "may not do everything" were once the same bit: CLIENT TRACKING OFF set a restricted user free, and
/// the first change of rules ended a client's tracking.
#[test]
fn tracking_neither_frees_a_user_nor_ends_with_a_change_of_rules() {
    let mut world = World::new(&["ACL SETUSER u on >pw ~a +client +get +auth +set"]);
    let mut session = world.0.store.instance.clients.add(clients::Client::default());
    world.0.store.instance.acl.begin(&mut session);
    let admin = std::mem::replace(&mut world.0.session, session);
    for line in ["AUTH u pw", "CLIENT TRACKING ON", "CLIENT TRACKING OFF"] {
        assert_eq!(world.0.run(line), "+OK", "{line}");
    }
    assert!(world.0.run("SET b 1").starts_with("-NOPERM"));
    assert_eq!(world.0.run("CLIENT TRACKING ON"), "+OK");
    let tracker = std::mem::replace(&mut world.0.session, admin);
    assert_eq!(world.0.run("ACL SETUSER u allkeys"), "+OK");
    let admin = std::mem::replace(&mut world.0.session, tracker);
    world.0.run("GET a");
    assert!(world.0.session.state.has(crate::store::session::State::TRACKING));
    let mut tracker = std::mem::replace(&mut world.0.session, admin);
    world.0.store.instance.clients.remove(&mut tracker);
}
