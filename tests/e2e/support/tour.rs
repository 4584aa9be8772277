//! Stories told in shell commands, run word for word in a network of their own, where every port is free.

use std::process::Command;

use super::folder::Folder;
use super::process::run;
use super::{SOCKETLEY, network_of_its_own};

/// Between what two chapters print.
const SEPARATOR: &str = "-- end of a chapter --";

/// Runs the chapters in one bash, each command of which must succeed; `socketley` is the program under test, and it
/// finds the files of `folder`. Answers what each chapter prints on standard output, or nothing without a network.
pub fn tell(folder: &Folder, chapters: &[&str]) -> Option<Vec<String>> {
    let network = network_of_its_own()?;
    let script = folder.write("tour.sh", &script(chapters));
    let mut command = Command::new(network[0]);
    command.args(&network[1..]).args(["bash", &script]).current_dir(folder.path());
    let programs = std::path::Path::new(SOCKETLEY).parent().expect("it is in a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{programs}:{path}:/usr/sbin:/sbin"));
    command.env("SOCKETLEY_HOME", folder.join("home")).env("HOME", folder.path());
    let told = run(command, "");
    let (code, out, err) = (told.code, told.out, told.err);
    assert_eq!(code, 0, "the tour stopped after:\n{out}\n{err}");
    Some(out.split(SEPARATOR).map(|part| part.trim_start_matches('\n').to_owned()).collect())
}

fn script(chapters: &[&str]) -> String {
    let mut script = String::from(
        "set -euo pipefail\nip link set lo up\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n",
    );
    for chapter in chapters {
        for line in chapter.lines() {
            script.push_str(line);
            script.push('\n');
            if line.trim_end().ends_with('&') {
                // A person types more slowly than a daemon starts.
                script.push_str(
                    "for _ in $(seq 1000); do socketley ping >/dev/null 2>&1 && break; done\n",
                );
            }
        }
        script.push_str(&format!("echo; echo '{SEPARATOR}'\n"));
    }
    script
}
