//! Runtimes made on the command line.

use super::*;

#[test]
fn a_runtime_lives_and_ends() {
    let mut world = World::new(2);
    let made = world.good("create", json!({"type": "server", "name": "a", "fields": {"port": 0}}));
    assert_eq!((made["status"].as_str(), made["type"].as_str()), (Some("created"), Some("server")));
    assert_eq!(world.told(), Told::new());
    let started = world.good("start", json!({"name": "a"}));
    assert_eq!(started["status"], "running");
    let port = started["listen"].as_str().unwrap().parse::<std::net::SocketAddr>().unwrap().port();
    assert!(port > 0, "port 0 picks one");
    assert_eq!(world.told(), ["0: place a", "1: place a", "0: listen 1"]);
    let placement = &world.placed[&(1, 1)];
    assert_eq!(placement.config.listen.as_ref().unwrap().port(), port, "workers know the real one");
    assert_eq!(placement.workers, [0, 1]);
    world.good("start", json!({"name": "a"}));
    assert_eq!(world.told(), Told::new(), "it runs already");
    assert_eq!(world.good("stop", json!({"name": "a"}))["status"], "stopped");
    let mut told = world.told();
    assert_eq!(told.remove(0), "0: unlisten 1", "first of all");
    told.sort();
    assert_eq!(told, ["0: stop 1", "1: stop 1"]);
    drop(std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free again"));
    world.good("remove", json!({"name": "a"}));
    assert!(world.bad("start", json!({"name": "a"})).contains("no such runtime: a"));
}

#[test]
fn wrong_requests_are_named() {
    let mut world = World::new(1);
    world.good("create", json!({"type": "server", "name": "chat", "fields": {"port": 0}}));
    let cases = [
        ("create", json!({"type": "sever", "name": "x"}), "did you mean \"server\"?"),
        ("create", json!({"type": "server", "name": "a b"}), "is not a name"),
        ("create", json!({"type": "server", "name": ".a"}), "begins with a dot"),
        ("create", json!({"type": "server"}), "name is missing"),
        ("create", json!({"type": "server", "name": "chat"}), "is taken by a server"),
        (
            "create",
            json!({"type": "server", "name": "x", "fields": {"prot": 1}}),
            "did you mean \"port\"?",
        ),
        (
            "create",
            json!({"type": "server", "name": "x", "lua": "/none.lua"}),
            "can't read /none.lua: no such file",
        ),
        (
            "create",
            json!({"type": "proxy", "name": "x", "fields": {"protocol": "tcp"}}),
            "has no backends",
        ),
        ("start", json!({"name": "chta"}), "did you mean \"chat\"?"),
        ("start", json!({}), "name is missing"),
        ("start", json!({"name": 5}), "expected a text, got 5"),
        ("strat", json!({"name": "chat"}), "unknown verb: strat\n  hint: did you mean \"start\"?"),
        ("edit", json!({"name": "chat", "fields": {}}), "nothing to change"),
        ("edit", json!({"name": "chat", "fields": {"mode": "x"}}), "expected inout, in, out"),
        ("match", json!({"patterns": ["x*"]}), "nothing matches \"x*\""),
        ("match", json!({"patterns": ["["]}), "is not a pattern"),
        ("send", json!({"name": "chat", "message": "x"}), "isn't running"),
        ("reload_lua", json!({"name": "chat"}), "has no Lua"),
        ("eval", json!({"target": "nobody", "code": "1"}), "no such app or runtime"),
        ("rollback", json!({"app": "nobody"}), "no such app or runtime"),
        ("apply", json!({"path": "/none.lua"}), "can't read /none.lua"),
        ("logs", json!({"name": "nobody"}), "no such runtime"),
        ("logs", json!({"level": "loud"}), "there is no log level \"loud\""),
    ];
    for (verb, arguments, expected) in cases {
        let error = world.bad(verb, arguments.clone());
        assert!(error.contains(expected), "{verb} {arguments}: {error}");
    }
    let rows = world.good("list", json!({}));
    assert_eq!(rows.as_array().unwrap().len(), 1, "nothing was left behind");
}

#[test]
fn names_are_matched() {
    let mut world = World::new(1);
    for name in ["api-1", "api-2", "db"] {
        world.good("create", json!({"type": "server", "name": name, "fields": {"port": 0}}));
    }
    let cases = [
        (json!(["api-*"]), json!(["api-1", "api-2"])),
        (json!(["db", "api-?", "db"]), json!(["db", "api-1", "api-2"])),
        (json!(["{db,api-1}"]), json!(["api-1", "db"])),
        (json!(["*"]), json!(["api-1", "api-2", "db"])),
    ];
    for (patterns, names) in cases {
        assert_eq!(world.good("match", json!({"patterns": patterns})), names);
    }
}

#[test]
fn a_taken_port_names_who_has_it_and_leaves_nothing() {
    let mut world = World::new(1);
    let made = world.good(
        "create",
        json!({"type": "server", "name": "a", "start": true, "fields": {"port": 0}}),
    );
    let listen = made["listen"].as_str().unwrap().to_owned();
    let second = json!({"type": "server", "name": "b", "start": true, "fields": {"port": listen}});
    let error = world.bad("create", second.clone());
    assert!(error.contains("\"a\" listens on") && error.contains("socketley stop a"), "{error}");
    assert!(world.bad("show", json!({"name": "b"})).contains("no such runtime"));
    world.good("stop", json!({"name": "a"}));
    assert_eq!(world.good("create", second)["status"], "running");
    assert_eq!(
        world.good("start", json!({"name": "a"}))["status"],
        "running",
        "on another free port"
    );
}

#[test]
fn fields_change_at_once_where_they_can() {
    let mut world = World::new(1);
    world.good(
        "create",
        json!({"type": "server", "name": "a", "start": true, "fields": {"port": 0}}),
    );
    world.told();
    let shown = world.good("edit", json!({"name": "a", "fields": {"max_connections": 7}}));
    assert_eq!(shown["fields"]["max_connections"], 7);
    assert_eq!(world.told(), ["0: place a"]);
    assert_eq!(world.placed[&(0, 1)].config.max_connections, 7);
    let error = world.bad("edit", json!({"name": "a", "fields": {"port": 1, "mode": "in"}}));
    assert!(error.contains("port of server \"a\" can't change while it runs"), "{error}");
    assert!(error.contains("socketley stop a"), "{error}");
    world.good("stop", json!({"name": "a"}));
    let shown = world.good("edit", json!({"name": "a", "fields": {"port": 1, "mode": "in"}}));
    assert_eq!((&shown["fields"]["port"], &shown["fields"]["mode"]), (&json!(1), &json!("in")));
}

#[test]
fn a_proxy_follows_the_runtimes_it_names() {
    let mut world = World::new(1);
    world.good(
        "create",
        json!({"type": "server", "name": "web", "start": true, "fields": {"port": 0}}),
    );
    let fields = json!({"port": 0, "protocol": "tcp", "backends": ["web", "x=127.0.0.1:9"]});
    world.good("create", json!({"type": "proxy", "name": "gw", "start": true, "fields": fields}));
    let before = world.placed[&(0, 2)].backends.clone();
    assert_eq!((before[0].name.as_str(), before[1].name.as_str()), ("web", "x"));
    assert_eq!(before[1].addresses, ["127.0.0.1:9".parse().unwrap()]);
    world.good("restart", json!({"name": "web"}));
    let listen = world.row("web")["listen"].as_str().unwrap().to_owned();
    let after = &world.placed[&(0, 2)].backends[0];
    assert_eq!(after.addresses, [listen.parse().unwrap()]);
}

#[test]
fn a_cache_has_a_store_while_it_runs() {
    let mut world = World::new(2);
    world.good(
        "create",
        json!({"type": "cache", "name": "db", "start": true, "fields": {"port": 0}}),
    );
    assert!(world.placed[&(0, 1)].store.is_some());
    assert!(world.manager.setup.stores.find("db").is_some());
    assert_eq!(world.good("stats", json!({"name": "db"}))["keys"], 0);
    world.good("stop", json!({"name": "db"}));
    assert!(world.manager.setup.stores.find("db").is_none());
}

#[test]
fn a_client_has_one_worker() {
    let mut world = World::new(4);
    let fields = json!({"target": "127.0.0.1:9"});
    world.good("create", json!({"type": "client", "name": "up", "start": true, "fields": fields}));
    assert_eq!(world.placed.len(), 1);
    let placement = world.placed.values().next().unwrap();
    assert_eq!(placement.backends[0].addresses, ["127.0.0.1:9".parse().unwrap()]);
}

#[test]
fn messages_are_counted_over_all_workers() {
    let mut world = World::new(2);
    world.good(
        "create",
        json!({"type": "server", "name": "a", "start": true, "fields": {"port": 0}}),
    );
    world.told();
    let message = "two words\nand a line";
    assert_eq!(world.good("send", json!({"name": "a", "message": message})), json!({"count": 4}));
    assert_eq!(world.told(), [format!("0: send {message}"), format!("1: send {message}")]);
    world.good("edit", json!({"name": "a", "fields": {"mode": "in"}}));
    assert!(world.bad("send", json!({"name": "a", "message": "x"})).contains("only receives"));
    world.good("create", json!({"type": "cache", "name": "db", "fields": {"port": 0}}));
    assert!(world.bad("send", json!({"name": "db", "message": "x"})).contains("takes no messages"));
}
