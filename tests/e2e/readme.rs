//! The README's tour, run as it is printed: every command, and what it shows.

use std::fs;

use crate::support::{Folder, has_judge, project, tell};

/// One fenced block of the tour: commands, and what they print if the README shows it.
struct Chapter {
    commands: String,
    shown: Option<String>,
}

/// The fenced blocks of a section: `bash` ones are commands, a `text` one is what the commands before it print.
fn chapters(readme: &str, section: &str) -> Vec<Chapter> {
    let start = readme.find(section).unwrap_or_else(|| panic!("no {section} in the README"));
    let rest = &readme[start + section.len()..];
    let section = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let mut chapters: Vec<Chapter> = Vec::new();
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: String =
            lines.by_ref().take_while(|line| *line != "```").flat_map(|l| [l, "\n"]).collect();
        match language {
            "bash" => chapters.push(Chapter { commands: block, shown: None }),
            "text" => chapters.last_mut().expect("commands come first").shown = Some(block),
            _ => {}
        }
    }
    chapters
}

/// Whether a line is as shown; `...` stands for anything.
fn matches(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        None => rest.is_empty(),
        Some("") => true,
        Some(part) => rest.is_empty() || printed.ends_with(part),
    }
}

#[test]
fn the_tour_runs_word_for_word() {
    if !["redis-cli", "nc"].iter().all(|judge| has_judge(judge)) {
        return;
    }
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let tour = chapters(&readme, "## A tour of five minutes");
    assert!(tour.len() >= 5, "only {} chapters", tour.len());
    let folder = Folder::new();
    for entry in fs::read_dir(project("examples")).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        folder.write(&format!("examples/{}", entry.file_name().to_string_lossy()), &text);
    }
    let commands: Vec<&str> = tour.iter().map(|chapter| chapter.commands.as_str()).collect();
    let Some(printed) = tell(&folder, &commands) else { return };
    for (chapter, printed) in tour.iter().zip(&printed) {
        let Some(shown) = &chapter.shown else { continue };
        let (shown, printed): (Vec<_>, Vec<_>) =
            (shown.trim_end().lines().collect(), printed.trim_end().lines().collect());
        let same = shown.len() == printed.len()
            && shown.iter().zip(&printed).all(|(s, p)| matches(s, p.trim_end()));
        assert!(
            same,
            "{}\nthe README shows:\n{}\nit prints:\n{}",
            chapter.commands,
            shown.join("\n"),
            printed.join("\n")
        );
    }
}

#[test]
fn the_two_commands_are_named() {
    let readme = fs::read_to_string(project("README.md")).unwrap();
    for command in ["cargo run --release -- run examples/quickstart.lua", "bash tests/run"] {
        assert!(readme.contains(command), "no {command:?} in the README");
    }
}

#[test]
fn dots_stand_for_anything() {
    for (shown, printed, same) in [
        ("a ... c", "a b c", true),
        ("a...", "a", true),
        ("a...", "b", false),
        ("a", "a b", false),
        ("a ... c", "a b c d", false),
        ("1  x  ...  y", "1  x  2 s ago  y", true),
    ] {
        assert_eq!(matches(shown, printed), same, "{shown} {printed}");
    }
}
