//! Foreign judges: programs that others wrote. Without one its tests say so and pass, unless judges are required.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Whether `program` is here. If not, the calling test has nothing to judge by: it says so on standard error.
///
/// # Panics
/// When `SOCKETLEY_JUDGES=required` and it isn't here.
pub fn has_judge(program: &str) -> bool {
    let here = std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
    });
    here || missing(program)
}

/// A Python with the client libraries that `tests/run` installs; nothing if it hasn't.
///
/// # Panics
/// When `SOCKETLEY_JUDGES=required` and it hasn't.
pub fn python_with_clients() -> Option<Command> {
    let program = installed("python/bin/python")?;
    Some(Command::new(program))
}

/// Node.js with the client libraries that `tests/run` installs; nothing if it hasn't.
///
/// # Panics
/// When `SOCKETLEY_JUDGES=required` and it hasn't.
pub fn node_with_clients() -> Option<Command> {
    let modules = installed("node/node_modules")?;
    if !has_judge("node") {
        return None;
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules);
    Some(command)
}

/// Where `tests/run` puts what isn't of Debian.
fn installed(path: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let found = cache.or_else(home).map(|cache| cache.join("socketley-judges").join(path));
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        missing(&format!("{path} (bash tests/run installs it)"));
    }
    found
}

/// The words before a command that give it a network of its own, where every port is free; nothing if that can't be had.
///
/// # Panics
/// When `SOCKETLEY_JUDGES=required` and it can't be had.
pub fn network_of_its_own() -> Option<&'static [&'static str]> {
    const WAYS: &[&[&str]] = &[&["unshare", "-n"], &["unshare", "-rn"]];
    let works = |way: &&&[&str]| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["ip", "link", "set", "lo", "up"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = WAYS.iter().find(works).copied();
    if found.is_none() {
        missing("a network namespace (unshare and ip)");
    }
    found
}

/// Not through `eprintln!`: the test runner would swallow it.
fn missing(what: &str) -> bool {
    let required = std::env::var("SOCKETLEY_JUDGES").is_ok_and(|value| value == "required");
    assert!(!required, "{what} is missing, and SOCKETLEY_JUDGES=required");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("skipped: {test}: {what} is missing\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}
