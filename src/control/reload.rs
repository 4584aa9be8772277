//! Notices when an app's files change.
//!
//! Folders are watched, not files: editors save by writing beside and renaming over, which ends the watch of a file.
//! Must not know: apps, what is done about a change.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::ring::Fd;
use crate::ring::process::{FolderEvent, FolderWatch, WatchId};

/// The folders of all watched files.
#[derive(Debug)]
pub struct Watcher {
    watch: FolderWatch,
    folders: BTreeMap<PathBuf, WatchId>,
}

/// What may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files in watched folders, also ones that nobody asked for.
    pub files: Vec<PathBuf>,
    /// Some changes were missed: any file may have changed.
    pub missed: bool,
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The user has no inotify instances left.
    pub fn new() -> io::Result<Watcher> {
        Ok(Watcher { watch: FolderWatch::new()?, folders: BTreeMap::new() })
    }

    /// Readable when something has changed.
    pub fn fd(&self) -> Fd {
        self.watch.fd()
    }

    /// Watches the folders of just these files; answers the folders that can't be watched, and why.
    pub fn follow<'a>(&mut self, files: impl Iterator<Item = &'a Path>) -> Vec<String> {
        let mut wanted: Vec<PathBuf> =
            files.filter_map(|file| file.parent()).map(Path::to_path_buf).collect();
        wanted.sort();
        wanted.dedup();
        let left: Vec<PathBuf> =
            self.folders.keys().filter(|folder| !wanted.contains(folder)).cloned().collect();
        for folder in left {
            if let Some(id) = self.folders.remove(&folder)
                && !self.folders.values().any(|other| *other == id)
            {
                self.watch.remove(id);
            }
        }
        let mut problems = Vec::new();
        for folder in wanted {
            if self.folders.contains_key(&folder) {
                continue;
            }
            match self.watch.add(&folder) {
                Ok(id) => {
                    self.folders.insert(folder, id);
                }
                Err(error) => {
                    problems
                        .push(format!("changes in {} aren't noticed: {error}", folder.display()));
                }
            }
        }
        problems
    }

    /// What has changed since the last call.
    pub fn take(&mut self) -> Changes {
        let mut changes = Changes::default();
        for event in self.watch.take() {
            match event {
                FolderEvent::Overflow => changes.missed = true,
                FolderEvent::Gone(id) => {
                    self.folders.retain(|_, watched| *watched != id);
                    changes.missed = true;
                }
                FolderEvent::Changed(id, name) => {
                    // Two paths may lead to one folder.
                    let folders = self.folders.iter().filter(|(_, watched)| **watched == id);
                    changes.files.extend(folders.map(|(folder, _)| folder.join(&name)));
                }
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_saved_as_editors_do_is_noticed_again_and_again() {
        let folder = std::env::temp_dir().join(format!("socketley-reload-{}", std::process::id()));
        fs::create_dir_all(folder.join("lib")).unwrap();
        let (app, module) = (folder.join("app.lua"), folder.join("lib/module.lua"));
        let mut watcher = Watcher::new().unwrap();
        let files = [app.as_path(), module.as_path()];
        assert_eq!(watcher.follow(files.into_iter()), Vec::<String>::new());
        for _ in 0..3 {
            fs::write(folder.join("app.lua~"), "x").unwrap();
            fs::rename(folder.join("app.lua~"), &app).unwrap();
            assert!(watcher.take().files.contains(&app));
        }
        fs::write(&module, "y").unwrap();
        assert!(watcher.take().files.contains(&module));
        assert_eq!(watcher.follow([app.as_path()].into_iter()), Vec::<String>::new());
        watcher.take();
        fs::write(&module, "z").unwrap();
        assert_eq!(watcher.take(), Changes::default(), "its folder isn't watched any more");
        let missing = folder.join("none/x.lua");
        assert_eq!(watcher.follow([missing.as_path()].into_iter()).len(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
