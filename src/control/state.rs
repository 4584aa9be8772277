//! What survives the daemon: runtimes made on the command line, apps and their last good source.
//!
//! ```text
//! runtimes/NAME.json   {"version":1, "type":.., "name":.., "fields":{..}, "was_running":.., "created_ms":..}
//! apps/NAME/app.json   {"version":1, "path":.., "generation":.., "good":{"text":.., "modules":[[path, text]..]}, ..}
//! ```
//!
//! A file is written beside its place, synced, renamed, and its folder synced: a cut at any moment leaves the old one
//! or the new one. One that can't be read is renamed to `.damaged` and reported, never fatal, never deleted.
//! Must not know: what the manager makes of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The format's number; a file with a higher one is from a newer Socketley and set aside like a damaged one.
const VERSION: u32 = 1;

/// A runtime that was made on the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRuntime {
    /// The format's number.
    pub version: u32,
    /// `server`, `client`, `proxy` or `cache`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name, which is also the file's.
    pub name: String,
    /// The fields that aren't at their default.
    pub fields: Map<String, Value>,
    /// Whether it runs and shall run again after a restart.
    pub was_running: bool,
    /// When it was made.
    pub created_ms: u64,
    /// The last source of its script that worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<SavedSource>,
}

/// An app that a file defines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedApp {
    /// The format's number.
    pub version: u32,
    /// Its name, which is also the folder's.
    pub name: String,
    /// The main file.
    pub path: PathBuf,
    /// The number of the running generation.
    pub generation: u32,
    /// What runs.
    pub good: SavedSource,
    /// What ran before it, for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<SavedSource>,
    /// Its runtimes that were stopped by hand and shall stay so.
    #[serde(default)]
    pub stopped: Vec<String>,
}

/// The texts of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSource {
    /// Of the main file.
    pub text: String,
    /// Of the modules it required, by absolute path.
    pub modules: Vec<(PathBuf, String)>,
}

impl SavedRuntime {
    /// With today's format number.
    pub const VERSION: u32 = VERSION;
}

/// The folder that holds all of it.
#[derive(Clone, Debug)]
pub struct StateFolder {
    folder: PathBuf,
}

/// Everything that could be read, and what couldn't.
#[derive(Debug, Default)]
pub struct Restored {
    /// By name.
    pub runtimes: Vec<SavedRuntime>,
    /// By name.
    pub apps: Vec<SavedApp>,
    /// One sentence for each file that was set aside or can't be read.
    pub problems: Vec<String>,
}

impl StateFolder {
    /// In `folder`, which exists.
    pub fn new(folder: &Path) -> StateFolder {
        StateFolder { folder: folder.to_path_buf() }
    }

    /// Where a cache's keys are kept.
    pub fn cache(&self, name: &str) -> PathBuf {
        self.folder.join("caches").join(name)
    }

    /// Keeps a runtime.
    ///
    /// # Errors
    /// The disk is full, the folder isn't writable, ...
    pub fn save_runtime(&self, runtime: &SavedRuntime) -> io::Result<()> {
        replace(&self.runtime_path(&runtime.name), runtime)
    }

    /// Forgets a runtime; one that isn't kept is forgotten already.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove_runtime(&self, name: &str) -> io::Result<()> {
        remove(&self.runtime_path(name))
    }

    /// Keeps an app.
    ///
    /// # Errors
    /// As [`StateFolder::save_runtime`].
    pub fn save_app(&self, app: &SavedApp) -> io::Result<()> {
        replace(&self.app_path(&app.name), app)
    }

    /// Forgets an app.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove_app(&self, name: &str) -> io::Result<()> {
        remove(&self.app_path(name))?;
        match fs::remove_dir(self.folder.join("apps").join(name)) {
            // A damaged file of the user's may still be in there.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Reads everything and sets aside what is damaged.
    pub fn restore(&self) -> Restored {
        let mut restored = Restored::default();
        for path in files(&self.folder.join("runtimes"), &mut restored.problems) {
            let Some(stem) = name_of(&path, ".json") else { continue };
            let saved = read::<SavedRuntime>(&path, &mut restored.problems, |saved| {
                (saved.version, saved.name == stem)
            });
            restored.runtimes.extend(saved);
        }
        for folder in files(&self.folder.join("apps"), &mut restored.problems) {
            let path = folder.join("app.json");
            let Some(stem) = name_of(&folder, "").filter(|_| path.exists()) else { continue };
            let saved = read::<SavedApp>(&path, &mut restored.problems, |saved| {
                (saved.version, saved.name == stem)
            });
            restored.apps.extend(saved);
        }
        restored
    }

    fn runtime_path(&self, name: &str) -> PathBuf {
        self.folder.join("runtimes").join(format!("{name}.json"))
    }

    fn app_path(&self, name: &str) -> PathBuf {
        self.folder.join("apps").join(name).join("app.json")
    }
}

/// The name in a path's last part; nothing for half-written and set-aside files.
fn name_of(path: &Path, suffix: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(suffix).filter(|name| !name.starts_with('.')).map(str::to_owned)
}

fn files(folder: &Path, problems: &mut Vec<String>) -> Vec<PathBuf> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut paths: Vec<PathBuf> =
                entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            paths
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems.push(format!("can't read {}: {error}", folder.display()));
            Vec::new()
        }
    }
}

/// Reads one file; `check` gives its version and whether it is what its place says.
fn read<T: for<'a> Deserialize<'a>>(
    path: &Path,
    problems: &mut Vec<String>,
    check: impl Fn(&T) -> (u32, bool),
) -> Option<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("can't read {}: {error}", path.display()));
            return None;
        }
    };
    let reason = match serde_json::from_slice::<T>(&text) {
        Ok(saved) => match check(&saved) {
            (VERSION, true) => return Some(saved),
            (VERSION, false) => "it is about something else than its name says".to_owned(),
            (version, _) => format!("its format is {version}, this version reads {VERSION}"),
        },
        Err(error) => error.to_string(),
    };
    problems.push(set_aside(path, &reason));
    None
}

/// Renames a damaged file, beside earlier ones, and says so.
fn set_aside(path: &Path, reason: &str) -> String {
    let named = |count: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(if count == 0 { ".damaged".to_owned() } else { format!(".damaged.{count}") });
        PathBuf::from(name)
    };
    let aside = (0..1000).map(named).find(|aside| !aside.exists());
    let Some(aside) = aside else {
        return format!("the state file {} is damaged: {reason}", path.display());
    };
    match fs::rename(path, &aside) {
        Ok(()) => format!(
            "the state file {} is damaged ({reason}); set aside as {}",
            path.display(),
            aside.display()
        ),
        Err(error) => format!(
            "the state file {} is damaged ({reason}) and can't be set aside: {error}",
            path.display()
        ),
    }
}

/// Writes beside, syncs, renames, syncs the folder.
fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a state file is in a folder"))?;
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if let Some(above) = folder.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(name: &str) -> (PathBuf, StateFolder) {
        let path =
            std::env::temp_dir().join(format!("socketley-state-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let state = StateFolder::new(&path);
        (path, state)
    }

    fn runtime(name: &str) -> SavedRuntime {
        SavedRuntime {
            version: VERSION,
            kind: "server".to_owned(),
            name: name.to_owned(),
            fields: json!({"port": 9000, "lua": "/a b/\"x\".lua"}).as_object().unwrap().clone(),
            was_running: true,
            created_ms: 5,
            good: Some(SavedSource { text: "print(1)\n".to_owned(), modules: Vec::new() }),
        }
    }

    fn app(name: &str) -> SavedApp {
        SavedApp {
            version: VERSION,
            name: name.to_owned(),
            path: "/x/chat.lua".into(),
            generation: 3,
            good: SavedSource {
                text: "server 'a' {}".to_owned(),
                modules: vec![("/x/m.lua".into(), "return 1".to_owned())],
            },
            previous: None,
            stopped: vec!["a".to_owned()],
        }
    }

    #[test]
    fn what_is_saved_is_restored() {
        let (path, state) = folder("saved");
        state.save_runtime(&runtime("a")).unwrap();
        state.save_runtime(&SavedRuntime { was_running: false, ..runtime("a") }).unwrap();
        state.save_runtime(&runtime("b.c")).unwrap();
        state.save_app(&app("chat")).unwrap();
        state.save_runtime(&runtime("gone")).unwrap();
        state.remove_runtime("gone").unwrap();
        state.remove_runtime("gone").unwrap();
        state.save_app(&app("old")).unwrap();
        state.remove_app("old").unwrap();
        state.remove_app("old").unwrap();
        let restored = state.restore();
        assert_eq!(
            restored.runtimes,
            [SavedRuntime { was_running: false, ..runtime("a") }, runtime("b.c")]
        );
        assert_eq!(restored.apps, [app("chat")]);
        assert_eq!(restored.problems, Vec::<String>::new());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_file_cut_anywhere_is_set_aside_and_the_others_live() {
        let (path, state) = folder("cut");
        state.save_runtime(&runtime("good")).unwrap();
        state.save_runtime(&runtime("bad")).unwrap();
        let file = path.join("runtimes/bad.json");
        let whole = fs::read(&file).unwrap();
        // The last byte is the newline: without it the file is still whole.
        for cut in 0..whole.len() - 1 {
            fs::write(&file, &whole[..cut]).unwrap();
            let restored = state.restore();
            assert_eq!(restored.runtimes, [runtime("good")], "cut at {cut}");
            assert_eq!(restored.problems.len(), 1, "cut at {cut}");
            let aside = path.join("runtimes/bad.json.damaged");
            assert_eq!(fs::read(&aside).unwrap(), &whole[..cut], "nothing is lost");
            fs::remove_file(aside).unwrap();
        }
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn wrong_content_is_set_aside_without_overwriting_earlier_ones() {
        let (path, state) = folder("wrong");
        state.save_runtime(&runtime("a")).unwrap();
        let file = path.join("runtimes/a.json");
        let contents: [&[u8]; 5] = [
            b"\xff\xfe",
            b"[]",
            b"{\"version\":1}",
            br#"{"version":9,"type":"server","name":"a","fields":{},"was_running":true,"created_ms":1}"#,
            br#"{"version":1,"type":"server","name":"b","fields":{},"was_running":true,"created_ms":1}"#,
        ];
        for (count, content) in contents.into_iter().enumerate() {
            fs::write(&file, content).unwrap();
            let restored = state.restore();
            assert!(restored.runtimes.is_empty());
            let name = if count == 0 { String::new() } else { format!(".{count}") };
            let aside = path.join(format!("runtimes/a.json.damaged{name}"));
            assert_eq!(fs::read(&aside).unwrap(), content);
            assert!(restored.problems[0].contains(&aside.display().to_string()));
        }
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn half_written_files_are_not_read() {
        let (path, state) = folder("half");
        state.save_runtime(&runtime("a")).unwrap();
        fs::write(path.join("runtimes/.a.json.new"), b"{").unwrap();
        fs::create_dir_all(path.join("apps/empty")).unwrap();
        let restored = state.restore();
        assert_eq!(restored.runtimes.len(), 1);
        assert_eq!(restored.problems, Vec::<String>::new());
        fs::remove_dir_all(&path).unwrap();
    }
}
