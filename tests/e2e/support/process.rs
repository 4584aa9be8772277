//! A child process that ends with the test, in a process group of its own; what it prints goes to files.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use super::folder::Folder;
use super::wait::until;

/// A running child.
pub struct Process {
    what: String,
    child: Child,
    printed: Folder,
}

/// How a child ended.
#[derive(Debug)]
pub struct Run {
    what: String,
    /// Its exit code; 128 and the signal's number if one ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Process {
    /// Starts it; its input is what [`Process::input`] writes.
    pub fn spawn(mut command: Command) -> Process {
        let printed = Folder::new();
        let file = |name: &str| File::create(printed.join(name)).unwrap();
        let what = format!("{command:?}");
        let child = command
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("err"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Process { what, child, printed }
    }

    /// Its input, to be taken once; dropping it is the end of the input.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("the input is taken once")
    }

    /// What it has printed on standard output until now.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.printed.join("out")).unwrap()).into_owned()
    }

    /// What it has printed on standard error until now.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.printed.join("err")).unwrap()).into_owned()
    }

    /// Waits until it has printed `text`, on either stream.
    pub fn until_printed(&mut self, text: &str) {
        until(&format!("{:?} from {}", text, self.what), || {
            let printed = self.out() + &self.err();
            if printed.contains(text) {
                return Some(());
            }
            let status = self.ended();
            assert!(
                status.is_none(),
                "{} ended ({status:?}) before it said {text:?}: {printed}",
                self.what
            );
            None
        });
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `INT`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        signal(name, &self.id().to_string());
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Run {
        drop(self.child.stdin.take());
        let status = until(&format!("the end of {}", self.what), || self.ended());
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Run { what: self.what.clone(), code, out: self.out(), err: self.err() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group: what it started ends with it.
        signal("KILL", &format!("-{}", self.id()));
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process, or with a minus to a group; it may have ended.
pub fn signal(name: &str, target: &str) {
    let script = format!("kill -s {name} -- {target} 2>/dev/null");
    drop(Command::new("sh").args(["-c", &script]).status());
}

impl Run {
    /// What it printed.
    ///
    /// # Panics
    /// When it didn't succeed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{} failed: {}{}", self.what, self.out, self.err);
        self.out
    }

    /// What it said when it failed.
    ///
    /// # Panics
    /// When it didn't end with `code`, or said nothing of one of `words`.
    pub fn fails(self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, code, "{}: {}{}", self.what, self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{}: no {word:?} in {:?}", self.what, self.err);
        }
        self.err
    }
}

/// Runs a command to its end with `input` as its standard input.
pub fn run(command: Command, input: &str) -> Run {
    let mut process = Process::spawn(command);
    // A command that ends without reading all of it is no failure of ours.
    drop(process.input().write_all(input.as_bytes()));
    process.wait()
}
