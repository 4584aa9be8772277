//! A folder that lives as long as the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new folder, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one; its path is short, for the sockets in it.
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sly-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder takes folders");
        Folder(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file's path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file as editors do: beside, then renamed. Answers its path as text.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.join(name);
        let beside = self.join(&format!("{name}.new"));
        fs::create_dir_all(path.parent().expect("it is in a folder")).unwrap();
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &path).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// Copies a file of the project into it, under the same last name.
    pub fn copy(&self, project_path: &str) -> String {
        let from = super::project(project_path);
        let name = from.file_name().expect("a file has a name").to_string_lossy().into_owned();
        self.write(&name, &fs::read_to_string(&from).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that is just ending may still write: what stays is in the temporary folder.
        drop(fs::remove_dir_all(&self.0));
    }
}
