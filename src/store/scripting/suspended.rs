//! A script that takes long: who must wait for it, and how it goes on.

use super::super::commands::{CommandId, table};
use super::super::instance::{Attention, Instance};
use super::super::{CommandError, Reply, Session, Store, feed};
use super::{RunKind, Step, Suspended, World};
use crate::id::ConnectionId;

/// What Redis allows beside a busy script.
const BESIDE: &[&str] = &[
    "auth",
    "discard",
    "function|kill",
    "function|stats",
    "hello",
    "multi",
    "quit",
    "replconf",
    "reset",
    "script|kill",
    "shutdown",
    "unwatch",
    "watch",
];

impl Instance {
    /// A run pauses; from now on its worker is to resume it.
    pub(in crate::store) fn suspend(&mut self, suspended: Suspended) {
        self.scripting.suspended = Some(Box::new(suspended));
        self.attention.set(Attention::SCRIPT, true);
    }

    /// Whether the command waits for the end of the suspended script; after a time it is refused instead.
    pub(in crate::store) fn waits_for_script(
        &mut self,
        session: &mut Session,
        id: CommandId,
        now_ms: u64,
    ) -> Result<bool, CommandError> {
        let Some(suspended) = &self.scripting.suspended else { return Ok(false) };
        if BESIDE.contains(&table().full_name(id).as_str()) {
            return Ok(false);
        }
        let kind = suspended.run.kind;
        let passed_ms = now_ms.saturating_sub(suspended.run.started_ms);
        let threshold_ms = u64::from(self.config.busy_reply_threshold_ms);
        if passed_ms < threshold_ms && self.postpone(session, threshold_ms - passed_ms) {
            return Ok(true);
        }
        Err(busy(kind))
    }
}

/// How a command is refused while something of that kind runs.
pub(in crate::store) fn busy(kind: RunKind) -> CommandError {
    CommandError::Text(if kind == RunKind::Script {
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    } else {
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    })
}

impl Store {
    /// Whether a suspended script is for that worker to resume.
    pub fn has_script_of(&self, worker: u8) -> bool {
        self.instance.scripting.suspended.as_ref().is_some_and(|suspended| {
            let connection = ConnectionId::from_bits(suspended.connection);
            connection.is_some_and(|connection| connection.worker() == worker)
        })
    }

    /// Runs the suspended script for another slice; whether there is more of it.
    pub fn resume_script(&mut self) -> bool {
        let Some(mut suspended) = self.instance.scripting.suspended.take() else { return false };
        let dirty = self.keyspace.dirty;
        let mut out = Vec::new();
        let step = self.slice(&mut suspended, &mut out);
        let resp3 = suspended.run.resp3;
        let failed = match step {
            Step::Suspended => {
                self.instance.scripting.suspended = Some(suspended);
                return true;
            }
            Step::Done => false,
            Step::Failed(line) => {
                out.clear();
                self.instance.statistics.count_error(&line);
                Reply::new(&mut out, resp3).error(&line);
                true
            }
        };
        let Suspended { counted, nanoseconds, wait, .. } = *suspended;
        self.instance.scripting.count(&counted, Some(nanoseconds), failed);
        self.instance.attention.set(Attention::SCRIPT, false);
        self.instance.tell_lost(&mut self.keyspace);
        feed::close_script(&mut self.instance);
        self.script_ended(wait, out);
        if self.instance.attention.any(Attention::BLOCKED) && self.keyspace.dirty != dirty {
            self.serve();
        }
        false
    }

    fn slice(&mut self, suspended: &mut Suspended, out: &mut Vec<u8>) -> Step {
        let mut engine = match self.instance.scripting.take_engine() {
            Ok(engine) => engine,
            Err(line) => return Step::Failed(line),
        };
        let began_ns = self.instance.scripting.now_ns();
        let Store { keyspace, instance, .. } = self;
        let run = &mut suspended.run;
        let mut reply = Reply::new(out, run.resp3);
        let step = engine.resume(&mut World { keyspace, instance, run }, &mut reply);
        self.instance.scripting.give_back(engine);
        suspended.nanoseconds += self.instance.scripting.now_ns() - began_ns;
        step
    }
}
