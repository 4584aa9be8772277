//! What a person sees of the command line without a daemon: help, usage errors, words that aren't commands.

use serde_json::json;

use super::*;

/// Help of every command, at a width of 100.
fn all_help(rows: &Value) -> String {
    let specs = spec::built_in(rows).unwrap();
    let mut command = args::command(&specs).term_width(100);
    command.build();
    let mut text = command.render_long_help().to_string();
    for spec in specs.iter().filter(|spec| !spec.hidden) {
        let described = command.find_subcommand_mut(&spec.name).unwrap();
        text.push_str(&format!("\n======== socketley {} --help\n", spec.name));
        text.push_str(&described.render_long_help().to_string());
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

#[test]
fn help_looks_as_it_did() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/tests/help.txt");
    let now = all_help(&json!([]));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let before = std::fs::read_to_string(path).unwrap();
    for (number, (left, right)) in before.lines().zip(now.lines()).enumerate() {
        assert_eq!(left, right, "line {} (UPDATE_SNAPSHOTS=1 accepts)", number + 1);
    }
    assert_eq!(before.len(), now.len());
}

struct Nothing {
    folder: PathBuf,
}

impl Program for Nothing {
    fn flag_specs(&self) -> Value {
        json!([])
    }
    fn places(&self, socket: Option<&Path>) -> Places {
        let socket = socket.map_or_else(|| self.folder.join("none.sock"), Path::to_path_buf);
        Places { socket, history: self.folder.join("history") }
    }
    fn daemon(&self, order: DaemonOrder) -> Result<u8, OperatorError> {
        Err(OperatorError::failed(format!("{order:?}")))
    }
    fn check(&self, file: &Path) -> Result<Vec<Problem>, OperatorError> {
        let file = file.to_path_buf();
        let message = "unknown field prot".to_string();
        let hint = Some("did you mean \"port\"?".to_string());
        Ok(vec![Problem { file, line: 3, message, hint }])
    }
    fn certificate(
        &self,
        names: Vec<String>,
        folder: &Path,
        days: u64,
    ) -> Result<String, OperatorError> {
        Err(OperatorError::failed(format!("{names:?} {} {days}", folder.display())))
    }
    fn test(&self, file: &Path, _: Option<&str>) -> Result<Vec<TestCase>, OperatorError> {
        Err(OperatorError::failed(format!("tests of {}", file.display())))
    }
    fn unix_ms(&self) -> u64 {
        0
    }
}

/// The result of a line of words, without printing its error.
fn outcome(line: &str) -> Result<u8, OperatorError> {
    let folder = std::env::temp_dir().join("socketley-nothing-here");
    let program = Nothing { folder };
    let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let mut invocation = Invocation::new(&arguments, &program, Style::default()).unwrap();
    invocation.run(&arguments)
}

#[test]
fn lines_end_with_the_right_code() {
    for (line, exit) in [
        ("version", 0),
        ("--version", 0),
        ("--help", 0),
        ("help", 0),
        ("help create", 0),
        ("create --help", 0),
        ("completion bash", 0),
        ("completion zsh", 0),
        ("completion fish", 0),
        ("check x.lua", 1),
        ("check --format json x.lua", 1),
        ("", 2),
        ("lss", 2),
        ("ls --frmat json", 2),
        ("create server", 2),
        ("logs --tail many", 2),
    ] {
        assert_eq!(outcome(line), Ok(exit), "{line}");
    }
}

#[test]
fn errors_say_what_and_what_next() {
    for (line, message, hint, exit) in [
        ("ls", "none.sock: is it running?", "start it with `socketley daemon &`", 1),
        ("ping", "none.sock: is it running?", "start it with `socketley daemon &`", 1),
        ("console", "none.sock: is it running?", "start it with `socketley daemon &`", 1),
        ("daemon stop", "none.sock: is it running?", "start it with `socketley daemon &`", 1),
        ("--socket /no/s ls", "at /no/s: is it running?", "start it with `socketley daemon &`", 1),
        ("ls --socket=/no/s", "at /no/s: is it running?", "start it with `socketley daemon &`", 1),
        ("help creat", "no such command: creat", "did you mean \"create\"?", 2),
        ("daemon --workers 0", "--workers: 0 is no number of threads", "", 2),
        ("daemon --drain 5s", "--drain belongs to `socketley daemon stop`", "", 2),
        ("daemon stop --sqpoll", "--sqpoll is for starting a daemon", "", 2),
        ("logs --since ages", "since: \"ages\" is no time", "write a number and ms", 2),
    ] {
        let error = outcome(line).unwrap_err();
        assert!(error.message.contains(message), "{line}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{line}: {error}");
        assert_eq!(error.hint.is_some(), !hint.is_empty(), "{line}: {error}");
        assert_eq!(error.exit_code, exit, "{line}");
    }
}

#[test]
fn daemons_are_ordered_as_the_flags_say() {
    for (line, parts) in [
        ("daemon", ["workers: None", "supervise: false", "foreground: None", "log_level: Info"]),
        (
            "daemon --supervise --workers 3 --log-level warn",
            ["workers: Some(3)", "supervise: true", "foreground: None", "log_level: Warn"],
        ),
        (
            "run /x/y.lua --sqpoll --socket /s",
            [
                "sqpoll: true",
                "foreground: Some(\"/x/y.lua\")",
                "socket: Some(\"/s\")",
                "log_level: Info",
            ],
        ),
    ] {
        let order = outcome(line).unwrap_err().message;
        for part in parts {
            assert!(order.contains(part), "{line}: {order}");
        }
    }
}

#[test]
fn init_writes_once() {
    let folder = std::env::temp_dir().join(format!("socketley-init-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let line = format!("init {}/app.lua", folder.display());
    assert_eq!(outcome(&line), Ok(0));
    assert!(std::fs::read_to_string(folder.join("app.lua")).unwrap().contains("server \"chat\""));
    assert!(outcome(&line).unwrap_err().message.ends_with("is there already"));
    let none = format!("init {}/none/app.lua", folder.display());
    assert!(outcome(&none).unwrap_err().message.contains("can't write"));
    std::fs::remove_dir_all(&folder).unwrap();
}
