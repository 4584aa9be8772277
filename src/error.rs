//! Errors for the person who runs Socketley: what failed, on which name, and what to do next.
//!
//! Peers' errors are small `Copy` enums beside their protocols; scripts' errors are [`ScriptError`]; bugs are asserts.

use std::fmt;

/// Something the operator asked for that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorError {
    /// What failed and on which name, in one sentence without a full stop.
    pub message: String,
    /// What to do next, if that is known.
    pub hint: Option<String>,
    /// The process's exit code: 1 it failed, 2 it was asked wrongly.
    pub exit_code: u8,
}

impl OperatorError {
    /// A failure (exit code 1).
    pub fn failed(message: impl Into<String>) -> OperatorError {
        OperatorError { message: message.into(), hint: None, exit_code: 1 }
    }

    /// A wrong request (exit code 2).
    pub fn usage(message: impl Into<String>) -> OperatorError {
        OperatorError { message: message.into(), hint: None, exit_code: 2 }
    }

    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> OperatorError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OperatorError {}

/// A script's failure: where, what and how it got there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptError {
    /// The message without its place.
    pub message: String,
    /// The file as the user named it.
    pub file: String,
    /// The line, 1-based; 0 if unknown.
    pub line: u32,
    /// Three lines of source around `line`, the culprit marked; empty if the source is unknown.
    pub excerpt: String,
    /// The traceback without the daemon's own frames.
    pub traceback: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}: ", self.file, self.line)?;
        }
        f.write_str(&self.message)?;
        if !self.excerpt.is_empty() {
            write!(f, "\n{}", self.excerpt.trim_end())?;
        }
        if !self.traceback.is_empty() {
            write!(f, "\n{}", self.traceback.trim_end())?;
        }
        Ok(())
    }
}

impl std::error::Error for ScriptError {}
