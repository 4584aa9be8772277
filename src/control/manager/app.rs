//! One app as the manager knows it: its file, its generations, what it is wrong with.
//!
//! Must not know: how a generation is built and committed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Manager;
use crate::control::state::SavedSource;
use crate::control::validate::Problem;
use crate::error::OperatorError;
use crate::id::AppId;
use crate::limits::{SCRIPT_BUDGET_MS, SCRIPT_MEMORY_BYTES, SOURCE_BYTES_MAX};
use crate::lua::{AppSource, VmLimits};
use crate::runtime::config::check_name;
use crate::suggest::did_you_mean;

/// An app: a definition file, or the callback-style script of one runtime, whose name it then has.
pub struct App {
    /// Its number.
    pub id: AppId,
    /// The main file, absolute.
    pub path: PathBuf,
    /// Whether it is a runtime's script.
    pub is_script: bool,
    /// The number of the generation that runs; 0: none does.
    pub generation: u32,
    /// The last number given out.
    pub last_generation: u32,
    /// The source that runs.
    pub good: Option<Arc<SavedSource>>,
    /// The source that ran before.
    pub previous: Option<Arc<SavedSource>>,
    /// The workers it lives on, its home first.
    pub workers: Vec<u8>,
    /// The files whose change loads it again.
    pub files: Vec<PathBuf>,
    /// Its own commands, as their specs.
    pub commands: Vec<Value>,
    /// Why its file isn't what runs.
    pub degraded: Option<Degraded>,
    /// After a restart: its runtimes that had been stopped by hand, until it has started.
    pub stopped: Vec<String>,
    /// Changes of its files so far.
    pub changes: u64,
}

/// Why an app's newest source doesn't run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What is wrong, most important first.
    pub problems: Vec<Problem>,
    /// The generation that serves meanwhile; 0: none.
    pub serving: u32,
}

impl Degraded {
    /// In one line.
    pub fn text(&self) -> String {
        let problem = self.problems.first().map_or_else(String::new, Problem::short);
        match self.serving {
            0 => format!("nothing of it runs: {problem}"),
            serving => format!("generation {serving} goes on: {problem}"),
        }
    }
}

impl App {
    /// One of which nothing runs yet.
    pub(super) fn new(id: AppId, path: PathBuf, is_script: bool) -> App {
        App {
            id,
            files: vec![path.clone()],
            path,
            is_script,
            generation: 0,
            last_generation: 0,
            good: None,
            previous: None,
            workers: Vec::new(),
            commands: Vec::new(),
            degraded: None,
            stopped: Vec::new(),
            changes: 0,
        }
    }

    /// The verb `apps`' row.
    pub(super) fn row(&self, name: &str) -> Value {
        let problems = |degraded: &Degraded| -> Vec<Value> {
            degraded.problems.iter().map(Problem::to_json).collect()
        };
        json!({
            "name": name,
            "path": self.path,
            "script": self.is_script,
            "generation": self.generation,
            "workers": self.workers,
            "files": self.files,
            "commands": self.commands,
            "degraded": self.degraded.as_ref().map(Degraded::text),
            "problems": self.degraded.as_ref().map(problems).unwrap_or_default(),
            "rollback": self.previous.is_some(),
        })
    }
}

impl Manager {
    /// An app by its own name or that of a runtime whose handlers live in it.
    pub(super) fn find_app(&self, name: &str) -> Result<(&str, &App), OperatorError> {
        let of_runtime = || self.runtimes.get(name)?.app();
        let found = if self.apps.contains_key(name) { Some(name) } else { of_runtime() };
        if let Some((name, app)) = found.and_then(|name| self.apps.get_key_value(name)) {
            return Ok((name, app));
        }
        if self.runtimes.contains_key(name) {
            let error = OperatorError::failed(format!("\"{name}\" has no Lua that runs"));
            return Err(error.hint("give it a script with --lua, or start it"));
        }
        let mut error = OperatorError::failed(format!("no such app or runtime: {name}"));
        let known = self.apps.keys().chain(self.runtimes.keys());
        error.hint = did_you_mean(name, known.map(String::as_str));
        Err(error)
    }

    pub(super) fn next_app_id(&mut self) -> AppId {
        self.ids.app += 1;
        AppId(self.ids.app)
    }

    /// The files to watch, of all apps.
    pub fn watched_files(&self) -> impl Iterator<Item = &Path> {
        self.apps.values().flat_map(|app| app.files.iter().map(PathBuf::as_path))
    }

    /// Grows when [`Manager::watched_files`] may have changed.
    pub fn files_version(&self) -> u64 {
        self.files_version
    }
}

/// The app's name in a path: the file's stem, or the folder's name.
///
/// # Errors
/// It isn't a name.
pub(super) fn app_name(path: &Path) -> Result<String, OperatorError> {
    let named = if path.file_name().is_some_and(|name| name == "init.lua") {
        path.parent().unwrap_or(path)
    } else {
        path
    };
    let name = named.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    check_name(&name)?;
    Ok(name)
}

/// The main file of what the user named: the file itself, or `init.lua` in a folder. Absolute, symbolic links followed,
/// so that the same file is the same app however it is named.
///
/// # Errors
/// There is no such file.
pub(super) fn main_file(path: &Path, folder: Option<&Path>) -> Result<PathBuf, OperatorError> {
    let path = folder.map_or_else(|| path.to_path_buf(), |folder| folder.join(path));
    let main = if path.is_dir() { path.join("init.lua") } else { path.clone() };
    main.canonicalize().map_err(|error| {
        OperatorError::failed(format!("can't read {}: {}", main.display(), reason(&error)))
    })
}

/// A source file's text.
///
/// # Errors
/// It can't be read, is too long, or isn't text.
pub(super) fn read_source(path: &Path) -> Result<String, OperatorError> {
    let failed =
        |reason: String| OperatorError::failed(format!("can't read {}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| failed(reason(&error)))?;
    let mut bytes = Vec::new();
    file.take(SOURCE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(reason(&error)))?;
    if bytes.len() as u64 > SOURCE_BYTES_MAX {
        return Err(failed(format!("it is longer than {SOURCE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed("it isn't UTF-8 text".to_owned()))
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// The bounds of every app's VM.
pub(super) fn vm_limits() -> VmLimits {
    VmLimits { budget_ms: SCRIPT_BUDGET_MS, memory_bytes: SCRIPT_MEMORY_BYTES, restricted: false }
}

/// A file as `check` evaluates it without a daemon.
///
/// # Errors
/// It can't be read, or has no name.
pub fn source_to_check(path: &Path) -> Result<AppSource, OperatorError> {
    let path = main_file(path, None)?;
    Ok(AppSource {
        name: app_name(&path)?,
        text: read_source(&path)?,
        path,
        generation: 1,
        owner: None,
        modules: Vec::new(),
        limits: vm_limits(),
    })
}
