//! When files change: which apps to load again, and when.
//!
//! Must not know: how changes are noticed (`control::reload`), how an app is loaded.

use std::path::PathBuf;

use super::{Manager, Then};
use crate::limits::RELOAD_QUIET_MS;

impl Manager {
    /// These files may have changed: their apps are loaded again when it has been quiet for a moment.
    pub fn on_files_changed(&mut self, changed: &[PathBuf]) {
        let concerned = |files: &[PathBuf]| files.iter().any(|file| changed.contains(file));
        let names = self.apps.iter().filter(|(_, app)| concerned(&app.files));
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.reload_soon(&name);
        }
    }

    /// Loads every app again whose files have changed, and all certificates (SIGHUP, or after changes were missed).
    pub fn reload_all(&mut self) {
        let names: Vec<String> = self.apps.keys().cloned().collect();
        for name in names {
            self.reload_now(name);
        }
        let runtimes: Vec<String> = self.runtimes.keys().cloned().collect();
        for name in runtimes {
            self.renew_or_tell(&name);
        }
    }

    fn reload_soon(&mut self, name: &str) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.changes += 1;
        let (seen, name) = (app.changes, name.to_owned());
        self.after(RELOAD_QUIET_MS, move |manager| {
            // Another change came meanwhile: its own timer loads it.
            if manager.apps.get(&name).is_some_and(|app| app.changes == seen) {
                manager.reload_now(name);
            }
        });
    }

    fn reload_now(&mut self, name: String) {
        if self.is_ending() {
            return;
        }
        self.lock(&name.clone(), move |manager| {
            let key = name.clone();
            let done: Then = Box::new(move |manager, _| manager.unlock(&key));
            manager.reload_app(&name, false, done);
        });
    }
}
