//! Certificates that change while they are used: read again without dropping anyone.
//!
//! Files are looked at every few seconds, through whatever links lead to them, as renewal tools replace files, links
//! and folders alike. Connections that stand keep what they began with. What can't be read leaves the old certificates in use.
//! Must not know: what TLS does with them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Manager;
use super::start::no_answer;
use crate::error::OperatorError;
use crate::limits::CERTIFICATE_CHECK_MS;
use crate::log::LogLevel;
use crate::net::tls::Tls;
use crate::runtime::message::ToWorker;

/// What tells one content of a file from another: its inode, size and times; nothing if it isn't there.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The state of the files that running runtimes use.
#[derive(Default)]
pub(super) struct Certificates {
    seen: std::collections::BTreeMap<String, Vec<(PathBuf, Stamp)>>,
    watching: bool,
}

impl Manager {
    /// Looks after the certificates of a runtime that has begun.
    pub(super) fn follow_certificates(&mut self, name: &str) {
        let Some(runtime) = self.runtimes.get(name) else { return };
        if runtime.config.tls.files().next().is_none() {
            return;
        }
        let stamps = stamps(runtime.config.tls.files());
        self.certificates.seen.insert(name.to_owned(), stamps);
        self.watch_certificates();
    }

    fn watch_certificates(&mut self) {
        if std::mem::replace(&mut self.certificates.watching, true) {
            return;
        }
        self.after(CERTIFICATE_CHECK_MS, |manager| {
            manager.certificates.watching = false;
            manager.look_at_certificates();
        });
    }

    fn look_at_certificates(&mut self) {
        let names: Vec<String> = self.certificates.seen.keys().cloned().collect();
        for name in names {
            let running = self.runtimes.get(&name).filter(|runtime| runtime.is_running());
            let Some(runtime) = running else {
                self.certificates.seen.remove(&name);
                continue;
            };
            let now = stamps(runtime.config.tls.files());
            if self.certificates.seen.get(&name) != Some(&now) {
                self.certificates.seen.insert(name.clone(), now);
                self.renew_or_tell(&name);
            }
        }
        if !self.certificates.seen.is_empty() && !self.is_ending() {
            self.watch_certificates();
        }
    }

    /// Reads a running runtime's certificates again and hands them to its workers. Nothing if it has none.
    pub(super) fn renew_certificates(&mut self, name: &str) -> Option<Result<(), OperatorError>> {
        let running = self.runtimes.get(name).filter(|runtime| runtime.is_running());
        let runtime = running.filter(|it| it.config.tls.files().next().is_some())?;
        let outcome = runtime.config.load_tls(Some(&runtime.tls)).map_err(|mut error| {
            error.message = format!("{}; the old certificates stay in use", error.message);
            error
        });
        Some(outcome.map(|tls| self.hand_out(name, tls)))
    }

    /// The same, and what goes wrong into the log.
    pub(super) fn renew_or_tell(&mut self, name: &str) {
        if let Some(Err(error)) = self.renew_certificates(name) {
            self.log(LogLevel::Error, name, error.message);
        }
    }

    fn hand_out(&mut self, name: &str, tls: Tls) {
        let Some(runtime) = self.runtimes.get_mut(name) else { return };
        runtime.tls = tls;
        let Some(runtime) = self.runtimes.get(name) else { return };
        let (placement, workers) = (self.placement(runtime), runtime.workers.clone());
        let name = name.to_owned();
        self.ask(
            &workers,
            move |request, _| ToWorker::Place { request, placement: placement.clone() },
            move |manager, replies| match replies.missing {
                0 => manager.log(LogLevel::Info, &name, "certificates are read again"),
                missing => manager.log(LogLevel::Warn, &name, no_answer(missing).message),
            },
        );
    }
}

fn stamps<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    files.map(|path| (path.clone(), stamp(path))).collect()
}
