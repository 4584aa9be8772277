//! Log lines as values: who says what, and how much it matters. Where they go is the control thread's business.

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For developers of a script.
    Debug,
    /// What happened.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Milliseconds since the epoch.
    pub unix_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The runtime or app it is about; empty for the daemon.
    pub source: String,
    /// The text; may have several lines (a traceback).
    pub text: String,
}
