//! The project's own text files, read once per test.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the project.
pub struct Source {
    /// From the project's folder, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Whether all of it is tests.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests")
    }
}

/// Folders of the project that hold what people wrote.
const FOLDERS: &[&str] = &["src", "lua", "stdlib", "examples", "tests", "benches", ".ci"];
/// Files beside them.
const FILES: &[&str] = &["build.rs", "Cargo.toml", ".clippy.toml", "README.md", "CHANGELOG.md"];

/// All files of the project that people wrote, in order of their paths.
pub fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = FILES.iter().map(|file| root.join(file)).collect();
    for folder in FOLDERS {
        walk(&root.join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(root).expect("the walk began there");
        Some(Source { path: path.to_string_lossy().into_owned(), text })
    };
    paths.into_iter().filter_map(read).collect()
}

/// The files whose names end in `.extension`.
pub fn of_type(extension: &str) -> Vec<Source> {
    let ending = format!(".{extension}");
    all().into_iter().filter(|source| source.path.ends_with(&ending)).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, paths);
        } else {
            paths.push(path);
        }
    }
}
