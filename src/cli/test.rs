//! `socketley test`: finds files of tests, has them run, and prints what came out.
//!
//! Must not know: how a file of tests is run.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Invocation, TestCase, print};
use crate::error::OperatorError;

/// Runs the files and folders named; 1 if a case failed.
///
/// # Errors
/// A file can't be read or loaded, or there is none.
pub(super) fn run(
    invocation: &Invocation,
    arguments: &Map<String, Value>,
) -> Result<u8, OperatorError> {
    let named: Vec<&str> = arguments
        .get("path")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let named = if named.is_empty() { vec!["."] } else { named };
    let mut files = Vec::new();
    for path in named {
        find(Path::new(path), &mut files)?;
    }
    if files.is_empty() {
        return Err(OperatorError::failed("there are no tests").hint(
            "a file of tests is called NAME_test.lua; `socketley init` writes one to start from",
        ));
    }
    let filter = arguments.get("filter").and_then(Value::as_str);
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let cases = invocation.program.test(&file, filter)?;
        for case in &cases {
            print(&shown(&file, case));
            match case.failure {
                None => passed += 1,
                Some(_) => failed += 1,
            }
        }
    }
    print(&format!("\n{passed} passed, {failed} failed\n"));
    Ok(u8::from(failed > 0))
}

fn find(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), OperatorError> {
    let unreadable = |error: std::io::Error| {
        OperatorError::failed(format!("can't read {}: {error}", path.display()))
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_link = std::fs::symlink_metadata(&entry).is_ok_and(|it| it.is_symlink());
        if entry.is_dir() && !name.starts_with('.') && !is_link {
            find(&entry, files)?;
        } else if name.ends_with("_test.lua") {
            files.push(entry);
        }
    }
    Ok(())
}

fn shown(file: &Path, case: &TestCase) -> String {
    match &case.failure {
        None => format!("ok    {}\n", case.name),
        Some(text) => {
            let lines: String = text.lines().map(|line| format!("      {line}\n")).collect();
            format!("FAIL  {} ({})\n{lines}", case.name, file.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_tests_are_found_in_order() {
        let folder = std::env::temp_dir().join(format!("socketley-find-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b/.hidden")).unwrap();
        for name in ["z_test.lua", "b/a_test.lua", "b/app.lua", "b/.hidden/c_test.lua"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let mut files = Vec::new();
        find(&folder, &mut files).unwrap();
        let names: Vec<_> = files.iter().map(|it| it.strip_prefix(&folder).unwrap()).collect();
        assert_eq!(names, [Path::new("b/a_test.lua"), Path::new("z_test.lua")]);
        assert!(find(&folder.join("nope"), &mut files).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_failure_is_shown_with_its_file() {
        let case = TestCase { name: "chat greets".to_owned(), failure: Some("a\nb".to_owned()) };
        assert_eq!(
            shown(Path::new("x_test.lua"), &case),
            "FAIL  chat greets (x_test.lua)\n      a\n      b\n"
        );
    }
}
