//! The start of the process: what it was asked to be.
//!
//! Must not know: the command line's words.

use std::path::PathBuf;

use crate::log::LogLevel;

/// How to run a daemon.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Worker threads; nothing: one per core.
    pub workers: Option<u16>,
    /// Let a kernel thread poll the rings.
    pub sqpoll: bool,
    /// Run as a child of a small process that restarts it when it crashes.
    pub supervise: bool,
    /// The control socket, if not the one in `home`.
    pub socket: Option<PathBuf>,
    /// The folder of socket, state and logs, if not the usual ones (`SOCKETLEY_HOME`).
    pub home: Option<PathBuf>,
    /// Apply this file, save nothing, end when it can't be applied.
    pub foreground: Option<PathBuf>,
    /// What to log.
    pub log_level: LogLevel,
    /// Log lines in colour on standard error.
    pub colour: bool,
}
