//! A daemon in a folder of its own.

use std::process::Command;

use serde_json::Value;

use super::SOCKETLEY;
use super::folder::Folder;
use super::process::{Process, Run, run, signal};
use super::wait::until;

/// A daemon that ends with the test.
pub struct Daemon {
    process: Process,
    options: Vec<String>,
    /// The folder for the test's files, and the working directory of the daemon and of every command.
    pub folder: Folder,
}

impl Daemon {
    /// Starts one with two workers.
    pub fn start() -> Daemon {
        Daemon::with(&["--workers", "2"])
    }

    /// Starts one with these options of `socketley daemon`.
    pub fn with(options: &[&str]) -> Daemon {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Daemon::in_folder(Folder::new(), options)
    }

    fn in_folder(folder: Folder, options: Vec<String>) -> Daemon {
        let mut command = in_home(&folder);
        command.arg("daemon").args(&options);
        let mut daemon = Daemon { process: Process::spawn(command), options, folder };
        daemon.until_ready();
        daemon
    }

    /// Waits until it answers.
    pub fn until_ready(&mut self) {
        until("a daemon that answers", || {
            if let Some(status) = self.process.ended() {
                panic!("the daemon ended ({status}): {}", self.process.err());
            }
            (self.cli("ping").code == 0).then_some(())
        });
    }

    /// A `socketley` command, its words separated by blanks, run to its end.
    pub fn cli(&self, words: &str) -> Run {
        self.cli_words(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// A `socketley` command in words that may hold blanks.
    pub fn cli_words(&self, words: &[&str]) -> Run {
        run(self.command(words), "")
    }

    /// A `socketley` command, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = in_home(&self.folder);
        command.args(words);
        command
    }

    /// Rows of `ls`.
    pub fn rows(&self) -> Vec<Value> {
        let text = self.cli("ls --format json").ok();
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        value.as_array().unwrap_or_else(|| panic!("no list: {text}")).clone()
    }

    /// A runtime's row of `ls`; JSON's null if there is none.
    pub fn row(&self, name: &str) -> Value {
        self.rows().into_iter().find(|row| row["name"] == name).unwrap_or_default()
    }

    /// A runtime's configuration, without what changes by itself.
    pub fn fields(&self, name: &str) -> Value {
        let text = self.cli_words(&["show", name]).ok();
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert!(shown["fields"].is_object(), "{shown}");
        shown["fields"].clone()
    }

    /// The names of `ls`, in its order.
    pub fn names(&self) -> Vec<String> {
        self.rows().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The port that a runtime listens on.
    pub fn port(&self, name: &str) -> u16 {
        let row = self.row(name);
        let listen =
            row["listen"].as_str().unwrap_or_else(|| panic!("{name} doesn't listen: {row}"));
        listen.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Waits until a runtime's row is as wanted, and answers it.
    pub fn until_row(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = super::until_within(std::time::Duration::from_secs(30), || {
            last = self.row(name);
            wanted(&last).then_some(())
        });
        assert!(found.is_some(), "{name} stays so: {last}\n{}", self.log());
        last
    }

    /// What the daemon has logged on standard error.
    pub fn log(&self) -> String {
        self.process.err()
    }

    /// Waits for a piece of text in the log.
    pub fn until_logged(&mut self, text: &str) {
        self.process.until_printed(text);
    }

    /// The control socket.
    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.join("home/socketley.sock")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends a signal to another process of this daemon (a supervised one).
    pub fn signal_to(&self, process: u64, name: &str) {
        signal(name, &process.to_string());
    }

    /// Ends it as a power cut would; the folder stays.
    pub fn kill9(self) -> Stopped {
        self.process.signal("KILL");
        self.ended()
    }

    /// Ends it by SIGTERM, as a service manager does.
    pub fn stop(self) -> Stopped {
        self.process.signal("TERM");
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(self) -> Stopped {
        let Daemon { process, options, folder } = self;
        Stopped { run: process.wait(), options, folder }
    }
}

/// Why a row of `ls` says that the runtime isn't doing its job; empty if it does.
pub fn degraded(row: &Value) -> &str {
    row["degraded"].as_str().unwrap_or_default()
}

/// A daemon that has ended, with what it left behind.
pub struct Stopped {
    /// How it ended.
    pub run: Run,
    options: Vec<String>,
    /// Its folder.
    pub folder: Folder,
}

impl Stopped {
    /// Starts it again over what it left.
    pub fn restart(self) -> Daemon {
        Daemon::in_folder(self.folder, self.options)
    }
}

/// `socketley` with nothing of this machine's user around it.
pub fn in_home(folder: &Folder) -> Command {
    let mut command = Command::new(SOCKETLEY);
    command
        .current_dir(folder.path())
        .env("SOCKETLEY_HOME", folder.join("home"))
        .env("HOME", folder.path());
    for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "NO_COLOR", "COLUMNS"] {
        command.env_remove(name);
    }
    command
}
