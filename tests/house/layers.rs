//! Layers: a part of the program may use what lies below it, never what lies beside or above.

use crate::source::{self, Source};

/// Usable from everywhere, and using only each other.
const BOTTOM: &[&str] = &["limits", "error", "id", "log", "suggest"];

/// Each part and what it stands on directly; what those stand on may be used as well.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("ring", &[]),
    ("store", &["proto"]),
    ("persist", &["store", "proto"]),
    ("net", &["ring"]),
    ("lua", &["store", "proto"]),
    ("replication", &["persist", "store", "net"]),
    ("runtime", &["replication", "net", "lua", "store", "proto"]),
    ("worker", &["runtime"]),
    ("control", &["worker"]),
    ("cli", &["proto", "lua"]),
];

/// Plain values of a part that everyone may use: time is an argument, and `ring` reads the clock; so are addresses.
const VALUES: &[&str] = &["crate::ring::Now", "crate::ring::Address"];

/// The roots: they put the parts together.
const ROOTS: &[&str] = &["src/lib.rs", "src/main.rs"];

#[test]
fn no_path_points_up() {
    let sources: Vec<Source> = source::of_type("rs")
        .into_iter()
        .filter(|s| s.path.starts_with("src/") && !s.is_test())
        .collect();
    assert!(sources.len() > 20, "only {} files found", sources.len());
    let problems: Vec<String> = sources.iter().flat_map(problems_of).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_test_sees_every_form_of_a_path() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("src/ring/uring.rs", "use crate::limits::A;\nuse super::Fd;", &[]),
        ("src/ring/uring.rs", "use crate::net::Outbox;", &["net"]),
        (
            "src/store/mod.rs",
            "use crate::{\n    error::E,\n    lua::{Vm, api},\n    net,\n};",
            &["lua", "net"],
        ),
        ("src/id.rs", "fn f() -> crate::worker::X { todo() }", &["worker"]),
        (
            "src/worker/mod.rs",
            "use crate::ring::Fd; use crate::lua::X; use crate::control::Y;",
            &["control"],
        ),
        ("src/proto/mod.rs", "//! As [`crate::cli`] does.\nuse crate::unheard::X;", &["unheard"]),
        ("src/net/mod.rs", "use super::worker::X;", &["super"]),
    ];
    for (path, text, expected) in cases {
        let source = Source { path: (*path).to_string(), text: (*text).to_string() };
        let problems = problems_of(&source);
        assert_eq!(problems.len(), expected.len(), "{path}: {problems:?}");
        for (problem, word) in problems.iter().zip(*expected) {
            assert!(problem.contains(word), "{problem} should name {word}");
        }
    }
}

/// The part of the program that a file belongs to.
fn part_of(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap_or(path);
    below.split(['/', '.']).next().unwrap_or(below)
}

/// Whether `part` may use `used`.
fn may_use(part: &str, used: &str) -> bool {
    if used == part || BOTTOM.contains(&used) {
        return true;
    }
    let below = LAYERS.iter().find(|(name, _)| *name == part).map_or(&[][..], |(_, below)| below);
    below.iter().any(|lower| may_use(lower, used))
}

fn problems_of(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    if ROOTS.contains(&path.as_str()) {
        return Vec::new();
    }
    let part = part_of(path);
    let mut problems = Vec::new();
    if !BOTTOM.contains(&part) && !LAYERS.iter().any(|(name, _)| *name == part) {
        problems.push(format!(
            "{path}: `{part}` has no place among the layers of tests/house/layers.rs"
        ));
    }
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|l| [l, "\n"])
        .collect();
    let code = VALUES.iter().fold(code, |code, value| code.replace(value, "value"));
    for used in used_parts(&code) {
        if !may_use(part, &used) {
            problems.push(format!("{path}: `{part}` must not use crate::{used}"));
        }
    }
    let is_top = path.matches('/').count() == 1
        || path.ends_with("/mod.rs") && path.matches('/').count() == 2;
    if is_top && code.lines().any(|line| line.starts_with("use super::")) {
        problems.push(format!(
            "{path}: write `crate::` for `super::` here, so that layers can be checked"
        ));
    }
    problems
}

/// The first names of all `crate::` paths, grouped ones included.
fn used_parts(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.extend(head(rest)),
        }
    }
    used.sort();
    used.dedup();
    used
}

/// The first names of `a::b, c::{d, e}, f}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut item = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(&std::mem::take(&mut item))),
            _ if depth == 0 => item.push(character),
            _ => {}
        }
    }
    heads.extend(head(&item));
    heads
}

fn head(path: &str) -> Option<String> {
    let name: String =
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
