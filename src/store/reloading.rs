//! DEBUG RELOAD and DEBUG LOADAOF of a store that is kept on disk: what is wanted, and how it went.
//!
//! Whoever keeps the store does it, as at a start; until it is done clients are answered that the data are loading. Must
//! not know: files.

use super::Store;
use super::instance::{Attention, Instance, run_id};
use super::persistence::Load;

/// From which files the data are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The snapshot.
    Snapshot,
    /// The append log.
    Log,
}

/// A load of a running store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    pub source: Source,
    /// A snapshot is written before.
    pub saves: bool,
    /// What is there goes before.
    pub flushes: bool,
    /// What is there is replaced; without it a key or library that is there is an error.
    pub merges: bool,
    /// The wait of the command.
    pub waiter: u64,
}

impl Instance {
    /// Asks for a load. Nothing else runs from now on until it is over.
    pub(super) fn want_reload(&mut self, reload: Reload) {
        self.attention.set(Attention::LOADING, true);
        self.persistence.load = Load::Running { read: 0, total: 0 };
        self.persistence.save_wanted |= reload.saves;
        self.persistence.reload = Some(reload);
        self.persistence.call();
    }
}

impl Store {
    /// The load that is wanted, once the snapshot that comes before it is written.
    pub fn due_reload(&self) -> Option<Reload> {
        let persistence = &self.instance.persistence;
        let waits = persistence.save_wanted || persistence.saving_since_ms.is_some();
        persistence.reload.filter(|_| !waits)
    }

    /// The same, begun: what has to go is gone.
    pub fn take_reload(&mut self) -> Option<Reload> {
        let persistence = &mut self.instance.persistence;
        let reload = persistence.reload.take()?;
        if let Some(error) = persistence.save_error.clone().filter(|_| reload.saves) {
            self.reload_ends(reload.waiter, Err(error));
            return None;
        }
        if reload.flushes {
            self.keyspace.flush();
            let scripting = &mut self.instance.scripting;
            let handles = scripting.functions.flush();
            if let Some(engine) = &mut scripting.engine {
                handles.into_iter().for_each(|handle| engine.release(handle));
            }
        }
        self.instance.invalidate_all();
        // Copies don't hear of what is loaded, so they begin anew.
        self.instance.end_replicas();
        let seed = self.keyspace.random().bits();
        self.instance.replication.id = run_id(seed, self.now_ms);
        self.instance.replication.before = None;
        Some(reload)
    }

    /// It is over; whoever waits is told.
    pub fn reload_ends(&mut self, waiter: u64, result: Result<(), String>) {
        self.set_load(Load::Done);
        let reply = match result {
            Ok(()) => "+OK\r\n".to_owned(),
            Err(reason) => format!("-ERR {}\r\n", reason.replace(['\r', '\n'], " ")),
        };
        self.answer_wait(waiter, reply.into_bytes());
        self.post_deliveries();
    }
}
