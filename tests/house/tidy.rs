//! How files look: a `//!` at the top, bounded length, no words that mean "later", unsafe code in named places only.

use crate::source::{self, Source};

/// Lines of a Rust file without its inline tests.
const FILE_LINES_MAX: usize = 600;
/// Columns of a Lua file: code keeps to 100, comments and tables of names may be wider.
const LUA_COLUMNS_MAX: usize = 120;

/// Where unsafe code may stand: the kernel's door, raw memory behind a safe interface, LuaJIT's C interface.
const UNSAFE: &[&str] =
    &["src/ring/", "src/lua/", "src/store/segment.rs", "src/store/entry/raw.rs"];

/// Words that don't belong in finished code. Written in two halves, or this file would hold them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tod", "o!("),
    ("unimplemen", "ted!("),
    ("db", "g!("),
    ("FIX", "ME"),
    ("TO", "DO:"),
    ("XX", "X"),
    ("#[ign", "ore"),
    // Paths of the machine that it was written on.
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/fa", "rm/"),
];

fn check(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// What comes before the inline tests of a Rust file.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn rust_files_say_first_what_they_are() {
    let problems: Vec<String> = source::of_type("rs")
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: the first line isn't //!", source.path))
        .collect();
    check(&problems);
}

#[test]
fn rust_files_are_short() {
    let lines = |source: &Source| without_tests(&source.text).lines().count();
    let problems: Vec<String> = source::of_type("rs")
        .iter()
        .filter(|source| lines(source) > FILE_LINES_MAX)
        .map(|source| format!("{}: {} lines, split it by idea", source.path, lines(source)))
        .collect();
    check(&problems);
}

#[test]
fn nothing_is_left_for_later() {
    let mut problems = Vec::new();
    for source in source::all() {
        for (number, line) in source.text.lines().enumerate() {
            for (start, end) in FORBIDDEN {
                if line.contains(&format!("{start}{end}")) {
                    problems.push(format!("{}:{}: {start}{end}", source.path, number + 1));
                }
            }
        }
    }
    check(&problems);
}

#[test]
fn unwrap_is_for_tests() {
    let problems: Vec<String> = source::of_type("rs")
        .iter()
        .filter(|source| !source.is_test() && without_tests(&source.text).contains(".unwrap()"))
        .map(|source| format!("{}: .unwrap() outside tests", source.path))
        .collect();
    check(&problems);
}

#[test]
fn unsafe_code_stands_in_named_files() {
    let mut problems = Vec::new();
    for source in source::of_type("rs") {
        let allowed = UNSAFE.iter().any(|place| source.path.starts_with(place));
        let lifted = ["allow(unsafe_code", "expect(unsafe_code"]
            .iter()
            .any(|word| source.path != "tests/house/tidy.rs" && source.text.contains(word));
        if lifted && !allowed {
            problems.push(format!("{}: unsafe code is not allowed here", source.path));
        }
    }
    check(&problems);
}

#[test]
fn lints_are_lifted_with_a_reason() {
    let mut problems = Vec::new();
    for source in source::of_type("rs") {
        for start in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in source.text.match_indices(&format!("\n{start}")) {
                let attribute = source.text[at..].split(")]").next().unwrap_or_default();
                if !attribute.contains("reason = ") {
                    problems.push(format!(
                        "{}: {} without a reason",
                        source.path,
                        attribute.trim()
                    ));
                }
            }
        }
    }
    check(&problems);
}

#[test]
fn lua_files_are_tidy() {
    let mut problems = Vec::new();
    for source in source::of_type("lua") {
        // The original's script stands as it was written.
        if source.path == "examples/example.lua" {
            continue;
        }
        if !source.text.starts_with("---") {
            problems.push(format!("{}: the first line isn't ---", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            let place = format!("{}:{}", source.path, number + 1);
            if line.contains('\t') || line.ends_with(' ') {
                problems.push(format!("{place}: a tab, or a space at the end"));
            }
            if line.chars().count() > LUA_COLUMNS_MAX {
                problems.push(format!("{place}: more than {LUA_COLUMNS_MAX} columns"));
            }
        }
    }
    check(&problems);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = source::all().into_iter().find(|source| source.path == "Cargo.toml");
    let text = manifest.expect("the manifest is listed").text;
    let (mut in_dependencies, mut explained) = (false, false);
    let mut problems = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') {
            if !explained {
                problems.push(format!("Cargo.toml: {line}: say above it why"));
            }
            // The next one may share the comment only if it follows at once and is of the same family.
            continue;
        }
        explained = line.starts_with('#');
    }
    check(&problems);
}
