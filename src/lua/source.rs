//! The files of an app: the main one, and the modules it required.
//!
//! A chunk is named by its path relative to the app's folder, which is what messages and tracebacks show. Must not
//! know: Lua.

use std::path::{Path, PathBuf};

use super::AppSource;

/// The files read so far.
pub(super) struct Sources {
    folder: PathBuf,
    /// Texts to use instead of files.
    given: Vec<(PathBuf, String)>,
    files: Vec<File>,
}

struct File {
    path: PathBuf,
    /// As messages show it.
    shown: String,
    text: String,
}

impl Sources {
    /// With the main file.
    pub(super) fn new(app: &AppSource) -> Sources {
        let folder = app.path.parent().unwrap_or(Path::new("")).to_owned();
        let mut sources = Sources { folder, given: app.modules.clone(), files: Vec::new() };
        sources.add(app.path.clone(), app.text.clone());
        sources
    }

    /// Adds a file; answers its chunk's name.
    fn add(&mut self, path: PathBuf, text: String) -> String {
        let shown = path.strip_prefix(&self.folder).unwrap_or(&path).to_string_lossy().into_owned();
        let chunk_name = format!("@{shown}");
        self.files.retain(|file| file.path != path);
        self.files.push(File { path, shown, text });
        chunk_name
    }

    /// The main file as LuaJIT compiles it, and its chunk's name.
    pub(super) fn main(&self) -> (String, String) {
        let main = &self.files[0];
        (without_shebang(&main.text), format!("@{}", main.shown))
    }

    /// Finds a module in the app's folder, then by the templates of `search` (`package.path`). Answers its text and its
    /// chunk's name, or the places tried.
    pub(super) fn module(&mut self, name: &str, search: &str) -> Result<(String, String), String> {
        let is_word = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
        };
        if !name.split(['.', '/']).all(is_word) {
            return Err("\n\ta name is words with dots between".to_owned());
        }
        let below = name.replace('.', "/");
        let beside = |end: &str| self.folder.join(format!("{below}{end}"));
        let mut places = vec![beside(".lua"), beside("/init.lua")];
        let templates = search.split(';').filter(|template| template.contains('?'));
        places.extend(templates.map(|template| self.folder.join(template.replace('?', &below))));
        for place in &places {
            if let Some(text) = self.read(place) {
                let compiled = without_shebang(&text);
                return Ok((compiled, self.add(place.clone(), text)));
            }
        }
        Err(places.iter().map(|place| format!("\n\tno file '{}'", place.display())).collect())
    }

    fn read(&self, path: &Path) -> Option<String> {
        let given = self.given.iter().find(|(given, _)| given == path);
        given.map(|(_, text)| text.clone()).or_else(|| std::fs::read_to_string(path).ok())
    }

    /// The paths of all files, the main one first.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// The texts of all files, the main one first.
    pub(super) fn texts(&self) -> Vec<(PathBuf, String)> {
        self.files.iter().map(|file| (file.path.clone(), file.text.clone())).collect()
    }

    /// The text of a file by the name that messages show, which LuaJIT cuts at the front if it is long.
    pub(super) fn text(&self, shown: &str) -> Option<&str> {
        let matches = |file: &&File| match shown.strip_prefix("...") {
            Some(end) => file.shown.ends_with(end),
            None => file.shown == shown,
        };
        self.files.iter().find(matches).map(|file| file.text.as_str())
    }

    /// The path of a chunk by its name.
    pub(super) fn path(&self, chunk_name: &str) -> PathBuf {
        let shown = chunk_name.strip_prefix('@').unwrap_or(chunk_name);
        let found = self.files.iter().find(|file| file.shown == shown);
        found.map_or_else(|| PathBuf::from(shown), |file| file.path.clone())
    }
}

/// A first line `#!...` becomes a comment.
fn without_shebang(text: &str) -> String {
    if text.starts_with('#') { format!("--{text}") } else { text.to_owned() }
}
