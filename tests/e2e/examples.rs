//! Every example does what its first lines say.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::support::{Daemon, Peer, Process, free_port, has_judge, project, run, until};

/// Applies an example, its ports moved to free ones.
fn example(name: &str) -> Daemon {
    let daemon = Daemon::start();
    let mut text = fs::read_to_string(project(&format!("examples/{name}.lua"))).unwrap();
    for port in ["9000", "6379", "8080"] {
        let free = free_port().to_string();
        text = text.replace(&format!("port = {port}"), &format!("port = {free}"));
        text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
    }
    let path = daemon.folder.write(&format!("{name}.lua"), &text);
    daemon.cli_words(&["apply", &path]).ok();
    daemon
}

#[test]
fn each_example_has_its_test_and_passes_check() {
    let mut names: Vec<String> = fs::read_dir(project("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let tested = [
        "channels",
        "client",
        "command",
        "commands",
        "echo",
        "example",
        "gateway",
        "hooks",
        "quickstart",
        "rooms",
        "routing",
        "timers",
        "web",
        "websocket",
    ];
    assert_eq!(names, tested.map(|name| format!("{name}.lua")));
    let folder = crate::support::Folder::new();
    for name in tested.iter().filter(|name| **name != "example") {
        let mut command = crate::support::in_home(&folder);
        command.arg("check").arg(project(&format!("examples/{name}.lua")));
        run(command, "").ok();
    }
}

/// The example at the head of the module that needs a daemon; the others run in `socketley test`.
#[test]
fn the_module_socketley() {
    let daemon = Daemon::start();
    daemon.folder.write("app.lua", "server 'host' { port = 0 }");
    daemon.cli("apply app.lua").ok();
    let text = fs::read_to_string(project("stdlib/socketley.lua")).unwrap();
    let lines = text.lines().skip_while(|line| *line != "--- ```lua").skip(1);
    let lines = lines.take_while(|line| *line != "--- ```");
    let snippet: String = lines.flat_map(|line| [&line[4..], "\n"]).collect();
    let port = free_port();
    let snippet = snippet.replace("9000", &port.to_string());
    let said = daemon.cli_words(&["eval", "--app", "app", &snippet]).ok();
    assert!(said.contains("chat") && said.contains("host"), "{said}");
    assert_eq!(daemon.port("chat"), port);
    let again = daemon.cli_words(&["eval", "--app", "app", &snippet]).ok();
    assert!(again.contains("chat"), "the reason why it can't be made twice: {again}");
}

/// A PUBLISH from redis-cli reaches a browser's WebSocket, and the other way round.
#[test]
fn channels() {
    if !["python3", "redis-cli"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let daemon = example("channels");
    let cache = daemon.port("db").to_string();
    let redis_cli = |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &cache]).args(words);
        command
    };
    let mut command = Command::new("python3");
    command.arg(project("tests/e2e/websocket.py")).arg(daemon.port("page").to_string());
    let mut browser = Process::spawn(command);
    let mut steps = browser.input();
    steps.write_all(b"[\"open\", \"ada\", \"/\", {}]\n").unwrap();
    browser.until_printed("ada 101");
    let mut subscriber = Process::spawn(redis_cli(&["SUBSCRIBE", "said"]));
    subscriber.until_printed("subscribe");
    run(redis_cli(&["PUBLISH", "news", "hello, browsers"]), "").ok();
    run(redis_cli(&["PUBLISH", "alert:fire", "run"]), "").ok();
    for text in ["ada text hello, browsers", "ada text ALERT:FIRE! run"] {
        steps.write_all(b"[\"hear\", \"ada\"]\n").unwrap();
        browser.until_printed(text);
    }
    steps.write_all(b"[\"text\", \"ada\", \"from a page\"]\n").unwrap();
    subscriber.until_printed("from a page");
    drop(steps);
    browser.wait().ok();
}

#[test]
fn hooks() {
    if !has_judge("redis-cli") {
        return;
    }
    let mut daemon = example("hooks");
    let cache = daemon.port("db").to_string();
    let redis_cli = |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &cache]).args(words);
        run(command, "").ok().trim_end().to_owned()
    };
    assert_eq!(redis_cli(&["GET", "user:7"]), "ada");
    assert_eq!(redis_cli(&["TTL", "user:7"]), "600");
    redis_cli(&["SET", "user:8", "grace"]);
    redis_cli(&["SET", "user:9", "short", "PX", "1"]);
    until("the batch", || daemon.cli("table").ok().contains("grace").then_some(()));
    daemon.until_logged("user:9 has expired, it was short");
    redis_cli(&["DEL", "user:7"]);
    daemon.until_logged("user:7 was deleted");
    assert!(daemon.cli("stats db").ok().contains("misses_asked"));
}

#[test]
fn echo() {
    let daemon = example("echo");
    let mut peer = Peer::connect(daemon.port("echo"));
    peer.say("hello");
    peer.hears(&["hello"]);
}

#[test]
fn websocket() {
    if !has_judge("python3") {
        return;
    }
    let mut daemon = example("websocket");
    let steps = concat!(
        r#"["open", "ada", "/?name=ada", {"subprotocol": "chat"}]"#,
        "\n",
        r#"["hear", "ada"]"#,
        "\n",
        r#"["open", "ben", "/?name=ben", {}]"#,
        "\n",
        r#"["hear", "ben"]"#,
        "\n",
        r#"["text", "ada", "hello"]"#,
        "\n",
        r#"["hear", "ben"]"#,
        "\n",
        r#"["binary", "ben", "00ff"]"#,
        "\n",
        r#"["hear", "ben"]"#,
        "\n",
        r#"["open", "eve", "/", {}]"#,
        "\n",
        r#"["hear", "eve"]"#,
    );
    let mut command = Command::new("python3");
    command.arg(project("tests/e2e/websocket.py")).arg(daemon.port("chat").to_string());
    let wanted = [
        "ada 101 chat",
        "ada text welcome, ada",
        "ben 101",
        "ben text welcome, ben",
        "ben text ada: hello",
        "ben binary 00ff",
        "eve 101",
        "eve close 1008 refused",
    ];
    let heard = run(command, steps).ok();
    assert_eq!(heard.lines().collect::<Vec<_>>(), wanted);
    daemon.until_logged("left with 1008 refused");
}

#[test]
fn rooms() {
    let daemon = example("rooms");
    let port = daemon.port("rooms");
    let [mut ada, mut ben, mut eve] =
        [Peer::connect(port), Peer::connect(port), Peer::connect(port)];
    for (peer, room) in [(&mut ada, "kitchen"), (&mut ben, "kitchen"), (&mut eve, "garden")] {
        peer.hears(&["/join ROOM to enter a room"]);
        peer.say("early");
        peer.hears(&["/join ROOM first"]);
        peer.say(&format!("/join {room}"));
        peer.hears(&[&format!("you are in {room}")]);
    }
    ada.say("anyone?");
    ben.hears(&["[kitchen] anyone?"]);
    // The state and the connections in it survive a reload.
    let path = daemon.folder.join("rooms.lua");
    let text = fs::read_to_string(path).unwrap();
    daemon.folder.write("rooms.lua", &text.replace("\"] \" .. line", "\"] \" .. line:upper()"));
    daemon.until_row("rooms", |row| row["generation"] == 2);
    ada.say("louder");
    ben.hears(&["[kitchen] LOUDER"]);
    eve.say("/join kitchen");
    eve.hears(&["you are in kitchen"]);
    ben.say("hello eve");
    eve.hears(&["[kitchen] HELLO EVE"]);
    ada.hears(&["[kitchen] HELLO EVE"]);
}

#[test]
fn routing() {
    let daemon = example("routing");
    let port = daemon.port("gate");
    let ask = || {
        let mut peer = Peer::connect(port);
        peer.say("x");
        peer.hear()
    };
    let first = ask();
    assert!(["red got x", "blue got x"].contains(&first.as_str()), "{first}");
    for _ in 0..4 {
        assert_eq!(ask(), first, "one address, one backend");
    }
}

#[test]
fn gateway() {
    if !has_judge("curl") {
        return;
    }
    let daemon = example("gateway");
    let url = format!("http://127.0.0.1:{}", daemon.port("gate"));
    let curl = |words: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20"]).args(words);
        run(command, "").ok()
    };
    assert_eq!(curl(&[&format!("{url}/a")]), "the page /a");
    let sent_away = curl(&["-i", &format!("{url}/api/hello")]);
    assert!(
        sent_away.contains("302 Found") && sent_away.contains("Location: /login"),
        "{sent_away}"
    );
    let key = curl(&[&format!("{url}/login?name=ada")]);
    for _ in 0..4 {
        let greeting = curl(&["-H", &format!("X-Key: {key}"), &format!("{url}/api/hello")]);
        assert!(["red greets ada", "blue greets ada"].contains(&greeting.as_str()), "{greeting}");
    }
}

#[test]
fn web() {
    let daemon = example("web");
    let port = daemon.port("web");
    let ask = |request: &str| {
        let mut peer = Peer::connect(port);
        peer.send(format!("{request}Connection: close\r\nHost: a\r\n\r\n").as_bytes());
        peer
    };
    let page = ask("GET / HTTP/1.1\r\n").rest();
    assert!(page.contains("text/html") && page.contains("Guest book"), "{page}");
    let mut live = ask("GET /live HTTP/1.1\r\n");
    while live.hear() != "\r" {}
    let mut peer = Peer::connect(port);
    let entry = r#"{"name":"ada","text":"hello"}"#;
    let head = "POST /api/entries HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    peer.send(format!("{head}Content-Length: {}\r\n\r\n{entry}", entry.len()).as_bytes());
    let made = peer.rest();
    assert!(
        made.starts_with("HTTP/1.1 201 Created") && made.contains("X-Request-Number"),
        "{made}"
    );
    let event = format!("data: {entry}");
    while live.hear() != event {}
    let list = ask("GET /api/entries HTTP/1.1\r\n").rest();
    assert!(list.ends_with(&format!("[{entry}]")), "{list}");
    let wrong = ask("POST /api/entries HTTP/1.1\r\nContent-Length: 0\r\n").rest();
    assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
}

#[test]
fn client() {
    let daemon = example("client");
    let mut redis = Peer::connect(daemon.port("memory"));
    crate::support::until("what the visitor heard", || {
        redis.send(b"LLEN heard\r\n");
        (redis.hear() == ":1\r").then_some(())
    });
    redis.send(b"LINDEX heard 0\r\n");
    redis.hears(&["$14\r", "you said hello\r"]);
}

#[test]
fn command() {
    let daemon = example("command");
    let mut peer = Peer::connect(daemon.port("door"));
    peer.hears(&["who are you?"]);
    peer.say("ada");
    peer.hears(&["welcome, ada"]);
    let help = daemon.cli("kick --help").ok();
    assert!(help.contains("Drop a user") && help.contains("--reason"), "{help}");
    daemon.cli("kick ben").fails(1, &["nobody here is called ben"]);
    daemon.cli("kick").fails(2, &["<user>"]);
    assert_eq!(daemon.cli_words(&["kick", "ada", "--reason", "too late"]).ok(), "dropped ada\n");
    assert_eq!(peer.rest(), "too late\n");
}

#[test]
fn timers() {
    let daemon = example("timers");
    let mut peer = Peer::connect(daemon.port("clock"));
    let hears = |peer: &mut Peer, wanted: &str| while peer.hear() != wanted {};
    peer.say("remind 0.05 tea");
    hears(&mut peer, "noted");
    hears(&mut peer, "reminder: tea");
    peer.say("slow");
    let mut other = Peer::connect(daemon.port("clock"));
    other.say("?");
    hears(&mut other, "remind SECONDS TEXT, or slow");
    hears(&mut peer, "done");
    assert!(peer.hear().starts_with("tick "));
}

#[test]
fn commands() {
    let daemon = example("commands");
    let mut client = Peer::connect(daemon.port("db"));
    for (line, reply) in [
        ("VISIT ann", ":1"),
        ("VISIT ann", ":2"),
        ("VISITS ann", ":2"),
        ("VISITS bob", ":0"),
        ("TAKE limit 2 10", ":1"),
        ("TAKE limit 2 10", ":1"),
        ("TAKE limit 2 10", ":0"),
        ("TAKE limit", "-ERR wrong number of arguments for 'take' command"),
    ] {
        client.say(line);
        assert_eq!(client.hear().trim_end(), reply, "{line}");
    }
}
