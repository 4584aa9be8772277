//! What survives the daemon.

use super::*;

#[test]
fn what_ran_runs_again_and_what_was_stopped_does_not() {
    let mut world = World::new(1);
    for name in ["runs", "made", "stopped", "removed"] {
        world.good(
            "create",
            json!({"type": "server", "name": name, "fields": {"port": 0, "mode": "in"}}),
        );
    }
    for name in ["runs", "stopped", "removed"] {
        world.good("start", json!({"name": name}));
    }
    world.good("stop", json!({"name": "stopped"}));
    world.good("remove", json!({"name": "removed"}));
    let test = json!({"type": "server", "name": "tested", "fields": {"port": 0}, "test": true});
    world.good("create", test);
    world.restart();
    let rows = world.good("list", json!({}));
    let found: Vec<String> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row["name"], row["status"]))
        .collect();
    assert_eq!(found, ["\"made\" \"created\"", "\"runs\" \"running\"", "\"stopped\" \"created\""]);
    assert_eq!(world.good("show", json!({"name": "runs"}))["fields"]["mode"], "in");
}

#[test]
fn a_runtime_that_cannot_start_again_says_why_and_is_not_forgotten() {
    let mut world = World::new(1);
    let made = world.good(
        "create",
        json!({"type": "server", "name": "a", "start": true, "fields": {"port": 0}}),
    );
    let listen = made["listen"].as_str().unwrap().to_owned();
    world.good("stop", json!({"name": "a"}));
    world.good("edit", json!({"name": "a", "fields": {"port": listen}}));
    world.good("start", json!({"name": "a"}));
    world.manager = manager(1, &world.folder);
    let taken = std::net::TcpListener::bind(&listen).unwrap();
    world.restart();
    assert_eq!(world.status("a"), "failed");
    assert!(world.row("a")["degraded"].as_str().unwrap().contains("in use"));
    drop(taken);
    world.restart();
    assert_eq!(world.status("a"), "running", "it is still wanted");
}

#[test]
fn an_app_comes_back_with_its_stopped_runtimes() {
    let mut world = World::new(1);
    let path = world.write("app.lua", "server a port=0\nserver b port=0");
    world.good("apply", json!({"path": path}));
    world.good("stop", json!({"name": "b"}));
    world.restart();
    assert_eq!(
        (world.status("a"), world.status("b")),
        ("running".to_owned(), "stopped".to_owned())
    );
    world.write("app.lua", "server a port=0\nserver b port=0\nserver c port=0");
    world.manager.reload_all();
    world.settle();
    assert_eq!(
        (world.status("c"), world.status("b")),
        ("running".to_owned(), "stopped".to_owned())
    );
    world.good("start", json!({"name": "b"}));
    assert_eq!(world.status("b"), "running");
}

#[test]
fn a_file_that_is_broken_at_the_start_is_served_from_its_last_good_source() {
    let mut world = World::new(1);
    let path = world.write("app.lua", "server a port=0");
    world.good("apply", json!({"path": path}));
    let script = world.write("echo.lua", "fine");
    let fields = json!({"port": 0, "lua": script});
    world
        .good("create", json!({"type": "server", "name": "echo", "fields": fields, "start": true}));
    for broken in [Some("error!"), None] {
        for path in [&path, &script] {
            match broken {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        world.restart();
        for name in ["a", "echo"] {
            let row = world.row(name);
            assert_eq!(row["status"], "running", "{name} {broken:?}");
            assert!(row["degraded"].as_str().unwrap().contains("goes on"), "{row}");
        }
    }
    world.write("app.lua", "server a port=0");
    world.manager.reload_all();
    world.settle();
    assert_eq!(world.row("a").get("degraded"), None);
}

#[test]
fn damaged_files_are_set_aside_and_said() {
    let mut world = World::new(1);
    world.good("create", json!({"type": "server", "name": "good", "fields": {"port": 0}}));
    world.write("runtimes/bad.json", "{");
    let unknown = r#"{"version":1,"type":"toaster","name":"odd","fields":{},"was_running":true,"created_ms":1}"#;
    world.write("runtimes/odd.json", unknown);
    world.restart();
    assert_eq!(world.good("list", json!({})).as_array().unwrap().len(), 1);
    let logged = world.logged();
    assert!(logged.contains("bad.json.damaged") && logged.contains("toaster"), "{logged}");
    assert!(world.folder.join("runtimes/odd.json").exists(), "a newer version may know it");
}
