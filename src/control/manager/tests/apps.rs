//! Apps: files with definitions, scripts of runtimes, and what a reload keeps.

use super::*;

fn apply(world: &mut World, text: &str) -> Outcome {
    let path = world.write("app.lua", text);
    world.ask("apply", json!({"path": path}))
}

/// Saves the file and waits until it has been quiet.
fn save(world: &mut World, text: &str) {
    let path = world.write("app.lua", text);
    world.manager.on_files_changed(&[path]);
    world.pass(crate::limits::RELOAD_QUIET_MS);
}

#[test]
fn a_file_is_applied_as_a_whole() {
    let mut world = World::new(2);
    let text = "server chat on_message port=0\nserver relay port=0\nproxy gw port=0 protocol=\"tcp\" backends=[\"chat\"]";
    let changes = apply(&mut world, text).unwrap();
    let ops: Vec<&Value> =
        changes["changes"].as_array().unwrap().iter().map(|c| &c["op"]).collect();
    assert_eq!(ops, ["+", "+", "+"]);
    let told = world.told();
    assert_eq!(told[..2], ["0: prepare 1", "0: commit 1 with 3"]);
    assert!(told.contains(&"1: place relay".to_owned()), "without handlers: on all workers");
    assert!(!told.contains(&"1: place chat".to_owned()), "with handlers: on the app's worker");
    let row = world.row("chat");
    assert_eq!(
        (&row["status"], &row["app"], &row["generation"]),
        (&json!("running"), &json!("app"), &json!(1))
    );
    let gateway = world.placed.values().find(|placement| placement.config.name == "gw").unwrap();
    assert_eq!(gateway.backends[0].addresses.len(), 1);
    for verb in ["remove", "edit"] {
        let error = world.bad(verb, json!({"name": "chat", "fields": {"mode": "in"}}));
        assert!(error.contains("app.lua:1"), "{error}");
    }
}

#[test]
fn an_error_leaves_nothing_of_a_new_file() {
    let mut world = World::new(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let cases = [
        ("error!".to_owned(), "app.lua:3: unexpected symbol"),
        ("server a prot=1".to_owned(), "app.lua:1: server \"a\": prot"),
        ("server a port=1\nserver b port=1".to_owned(), "app.lua:2"),
        (format!("server a port=0\nserver b port={port}"), "app.lua:2: can't listen"),
        ("server a port=0 on_mesage".to_owned(), "did you mean \"on_message\"?"),
        ("server a port=0 state!".to_owned(), "there is no callback state!"),
    ];
    for (text, expected) in cases {
        let error = apply(&mut world, &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert_eq!(world.good("list", json!({})), json!([]), "{text}");
        assert_eq!(world.good("apps", json!({})), json!([]), "{text}");
    }
}

#[test]
fn a_saved_file_changes_what_runs_and_keeps_the_rest() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0\nserver b port=0\nserver c port=0").unwrap();
    let (a, b) = (world.row("a"), world.row("b"));
    world.told();
    save(
        &mut world,
        "server a port=0 max_connections=5\nserver d port=0\nserver b port=\"0.0.0.0:0\"",
    );
    let (a_now, b_now) = (world.row("a"), world.row("b"));
    assert_eq!(
        (&a["id"], &a["listen"]),
        (&a_now["id"], &a_now["listen"]),
        "kept with its listener"
    );
    assert_eq!(b["id"], b_now["id"], "kept, listening elsewhere");
    assert_ne!(b["listen"], b_now["listen"]);
    assert_eq!(world.status("d"), "running");
    assert!(world.bad("show", json!({"name": "c"})).contains("no such runtime"));
    assert_eq!(a_now["generation"], 2);
    assert_eq!(world.placed[&(0, 1)].config.max_connections, 5);
    let told = world.told();
    assert!(
        !told.iter().any(|line| ["stop 1", "stop 2", "leave 1", "leave 2"]
            .iter()
            .any(|it| line.contains(it))),
        "{told:?}"
    );
    assert!(told.contains(&"0: unlisten 2".to_owned()) && told.contains(&"0: listen 2".to_owned()));
}

#[test]
fn a_broken_save_leaves_the_generation_and_is_loud() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0").unwrap();
    let before = world.row("a");
    for broken in ["error!", "server a port=true", "server a port=0\n-- state!"] {
        save(&mut world, broken);
        let row = world.row("a");
        assert_eq!((&row["id"], &row["status"]), (&before["id"], &before["status"]));
        assert_eq!(row["generation"], 1);
        let degraded = row["degraded"].as_str().unwrap();
        assert!(
            degraded.starts_with("generation 1 goes on: ") && degraded.contains("app.lua:"),
            "{degraded}"
        );
        assert!(world.logged().contains(degraded));
    }
    std::fs::remove_file(world.folder.join("app.lua")).unwrap();
    world.manager.on_files_changed(&[world.folder.join("app.lua")]);
    world.pass(crate::limits::RELOAD_QUIET_MS);
    assert!(world.row("a")["degraded"].as_str().unwrap().contains("no such file"));
    save(&mut world, "server a port=0");
    assert_eq!(world.row("a").get("degraded"), None, "what runs is what the file says again");
}

#[test]
fn several_writes_are_one_reload() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0").unwrap();
    world.told();
    let path = world.write("app.lua", "server a port=0 max_connections=1");
    for _ in 0..5 {
        world.manager.on_files_changed(&[path.clone(), "/elsewhere".into()]);
        world.pass(crate::limits::RELOAD_QUIET_MS - 1);
    }
    assert_eq!(world.told(), Told::new());
    world.pass(1);
    assert_eq!(world.told(), ["0: prepare 2", "0: commit 2 with 1"]);
    world.manager.on_files_changed(&[path]);
    world.pass(crate::limits::RELOAD_QUIET_MS);
    assert_eq!(world.told(), Told::new(), "nothing has changed");
}

#[test]
fn an_address_moves_within_a_file() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0").unwrap();
    let port = world.row("a")["listen"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    save(&mut world, &format!("server a port={port}"));
    save(&mut world, &format!("server b port={port}"));
    assert!(world.row("b")["listen"].as_str().unwrap().ends_with(&port), "taken over from a");
    save(&mut world, &format!("server b port=\"0.0.0.0:{port}\""));
    assert_eq!(world.row("b")["listen"], format!("0.0.0.0:{port}"), "widened");
    assert!(world.logged().contains("closes its listener to make room"));
    assert_eq!(world.row("b").get("degraded"), None);
}

#[test]
fn plan_and_check_touch_nothing() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0\nserver b port=0").unwrap();
    world.told();
    let path = world.write("app.lua", "server a port=0 mode=\"in\"\nserver c port=0");
    let plan = world.good("plan", json!({"path": path}));
    let changes: Vec<String> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| format!("{} {} {}", change["op"], change["name"], change["detail"]))
        .collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(
        changes[0].contains("mode: default -> \\\"in\\\"") || changes[0].contains("mode"),
        "{changes:?}"
    );
    assert_eq!(world.told(), ["0: prepare 1", "0: discard 1"]);
    let problems = world.good("check", json!({"path": path, "text": "error!"}));
    assert_eq!(problems["problems"][0]["line"], 3);
    assert_eq!(world.good("check", json!({"path": path})), json!({"problems": []}));
    assert_eq!(world.row("a")["generation"], 1);
    assert_eq!(world.good("apps", json!({}))[0]["degraded"], Value::Null);
}

#[test]
fn a_rollback_goes_back_and_forth() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0").unwrap();
    assert!(world.bad("rollback", json!({"app": "app"})).contains("no earlier generation"));
    save(&mut world, "server a port=0\nserver b port=0");
    assert_eq!(world.good("rollback", json!({"app": "app"}))["generation"], 3);
    assert!(world.bad("show", json!({"name": "b"})).contains("no such"));
    assert_eq!(world.good("rollback", json!({"app": "app"}))["generation"], 4);
    assert_eq!(world.status("b"), "running");
}

#[test]
fn a_script_belongs_to_its_runtime() {
    let mut world = World::new(2);
    let path = world.write("echo.lua", "fine");
    let fields = json!({"port": 0, "lua": path});
    let made = json!({"type": "server", "name": "one", "fields": fields, "start": true});
    world.good("create", made.clone());
    assert_eq!(world.told(), ["0: prepare 1", "0: commit 1 with 1", "0: listen 1"]);
    let mut second = made;
    second["name"] = json!("two");
    world.good("create", second);
    assert_eq!(world.told()[0], "1: prepare 1", "an app of its own, on the least loaded worker");
    world.write("echo.lua", "error!");
    let error = world.bad("reload_lua", json!({"name": "one"}));
    assert!(error.contains("app.lua:3: unexpected symbol"), "{error}");
    assert!(world.row("one")["degraded"].is_string());
    assert_eq!(world.row("two").get("degraded"), None);
    world.write("echo.lua", "better");
    world.told();
    world.good("reload_lua", json!({"name": "one"}));
    assert_eq!(world.row("one")["generation"], 3);
    assert_eq!(world.told(), ["0: prepare 3", "0: commit 3 with 1"]);
    world.good("stop", json!({"name": "one"}));
    assert!(world.told().contains(&"0: drop".to_owned()));
    assert!(world.bad("reload_lua", json!({"name": "one"})).contains("no Lua that runs"));
    world.write("echo.lua", "error!");
    assert!(world.bad("start", json!({"name": "one"})).contains("unexpected symbol"));
    assert_eq!(world.status("one"), "failed");
    let third = json!({"type": "server", "name": "three", "fields": {"port": 0, "lua": path}});
    assert!(world.bad("create", third).contains("unexpected symbol"), "seen where it is named");
}

#[test]
fn several_workers_switch_together() {
    let mut world = World::new(3);
    apply(&mut world, "server a port=0 on_message workers=2\nserver b port=0 on_message").unwrap();
    let told = world.told();
    assert_eq!(told.iter().filter(|line| line.contains("prepare")).count(), 2);
    assert!(told.contains(&"0: commit 1 with 2".to_owned()), "{told:?}");
    assert!(told.contains(&"1: commit 1 with 1".to_owned()), "{told:?}");
    save(&mut world, "server a port=0 on_message workers=1\nserver b port=0 on_message");
    let told = world.told();
    assert!(
        told.contains(&"1: drop".to_owned()) && told.contains(&"1: leave 1".to_owned()),
        "{told:?}"
    );
    assert_eq!(world.status("a"), "running");
}

#[test]
fn an_app_is_removed_with_its_runtimes() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0\nserver b port=0").unwrap();
    world.good("remove", json!({"name": "app"}));
    assert_eq!(world.good("list", json!({})), json!([]));
    assert_eq!(world.good("apps", json!({})), json!([]));
    world.restart();
    assert_eq!(world.good("list", json!({})), json!([]));
}

#[test]
fn what_a_script_makes_ends_with_it() {
    let mut world = World::new(1);
    apply(&mut world, "server a port=0 on_message").unwrap();
    let id = world.manager.apps["app"].id;
    world.told();
    for (name, policy) in [("kept", "stop"), ("lost", "remove")] {
        let fields = json!({"port": 0, "on_parent_stop": policy});
        let arguments = json!({"type": "server", "name": name, "fields": fields, "start": true});
        world.manager.on_script_call((0, id, 1, 7), "create", arguments);
        world.settle();
    }
    world.manager.on_script_call((0, id, 1, 8), "shutdown", json!({}));
    world.settle();
    let told = world.told();
    assert!(told.iter().any(|line| line.contains("answer Ok")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("shutdown is for people")), "{told:?}");
    assert_eq!(world.row("kept")["owner"], "app");
    world.good("remove", json!({"name": "app"}));
    assert_eq!(world.status("kept"), "stopped");
    assert!(world.bad("show", json!({"name": "lost"})).contains("no such"));
}
