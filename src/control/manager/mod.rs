//! What runs under which name: every request of the command line, the console and scripts ends here.
//!
//! Must not know: sockets of clients, frames, how answers are drawn.

use serde_json::{Value, json};

use super::answer::Answer;
use crate::error::OperatorError;

/// Names one call that may still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Names one stream of log lines or messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

/// Runtimes, apps and who asks about them.
#[derive(Default)]
pub struct Manager {
    next: u64,
}

impl Manager {
    /// Does `verb`. The answer comes now or later; the number is for [`Manager::cancel`].
    pub fn call(&mut self, verb: &str, arguments: Value, answer: Answer) -> CallId {
        self.next += 1;
        answer.give(match verb {
            "ping" => Ok(json!({ "pong": arguments.get("message") })),
            _ => Err(OperatorError::usage(format!("unknown verb: {verb}"))),
        });
        CallId(self.next)
    }

    /// Ends a call that still runs or waits (an evaluation, an app's command); it answers with an error.
    pub fn cancel(&mut self, _call: CallId) {}

    /// Streams what `filter` asks for: `"logs"` `{name?, level?}` gives records as the verb `logs` does, `"messages"`
    /// `{name}` gives `{connection, text}` of a server's or client's messages.
    ///
    /// # Errors
    /// An unknown kind or name.
    pub fn subscribe(
        &mut self,
        kind: &str,
        _filter: &Value,
    ) -> Result<SubscriptionId, OperatorError> {
        Err(OperatorError::usage(format!("unknown stream: {kind}")))
    }

    /// What came since the last time; bounded, a record `{"dropped": n}` says how many were lost.
    pub fn take_published(&mut self, _subscription: SubscriptionId) -> Vec<Value> {
        Vec::new()
    }

    /// Ends a stream.
    pub fn unsubscribe(&mut self, _subscription: SubscriptionId) {}
}
