//! What a VM's Rust side shares with its Lua side: the outgoing queues, caches, answers, sources.
//!
//! One per VM. The FFI leaves see it by pointer, the native functions by `Rc`; both only append and look up.
//! Must not know: Lua values.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::caches::Caches;
use super::report::Reports;
use super::source::Sources;
use super::streams::Streams;
use super::{Action, AppSource, Host, Outcome, Reply};
use crate::ring::Now;
use crate::store::hooks::OnLanded;

/// See the module.
pub(super) struct Context {
    /// The app's file and bounds.
    pub(super) app: Arc<AppSource>,
    /// The time of the present turn.
    pub(super) now: Cell<Now>,
    /// What the handlers asked for.
    pub(super) outgoing: RefCell<Outgoing>,
    /// In-process stores.
    pub(super) caches: RefCell<Caches>,
    /// Answers that wait for their event, by task.
    pub(super) answers: RefCell<HashMap<u64, Reply>>,
    /// Arguments of commands that wait for their event, by request.
    pub(super) arguments: RefCell<HashMap<u64, serde_json::Value>>,
    /// A question's arguments, between their check and the question.
    pub(super) prepared: Cell<serde_json::Value>,
    /// Its own sockets.
    pub(super) streams: RefCell<Streams>,
    /// Outcomes of errands that wait for their event, by task.
    pub(super) outcomes: RefCell<BTreeMap<u64, Outcome>>,
    /// The files read.
    pub(super) sources: RefCell<Sources>,
    /// How a task is told that the keys it waits for are there.
    pub(super) on_landed: Rc<dyn Fn(u64) -> OnLanded>,
    /// The errors told.
    pub(super) reports: RefCell<Reports>,
}

/// Actions in order and the bytes of their messages.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) actions: Vec<Action>,
    pub(super) arena: Vec<u8>,
}

impl Context {
    /// A file as the app names it: relative to the folder of its own file.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.app.path.parent().unwrap_or(Path::new("/")).join(text)
    }

    /// For one VM.
    pub(super) fn new(app: Arc<AppSource>, host: &Host, now: Now) -> Rc<Context> {
        let sources = Sources::new(&app);
        Rc::new(Context {
            app,
            now: Cell::new(now),
            outgoing: RefCell::default(),
            caches: RefCell::new(Caches::new(Rc::clone(&host.stores))),
            answers: RefCell::default(),
            arguments: RefCell::default(),
            prepared: Cell::default(),
            streams: RefCell::default(),
            outcomes: RefCell::default(),
            sources: RefCell::new(sources),
            on_landed: Rc::clone(&host.on_landed),
            reports: RefCell::default(),
        })
    }

    /// Appends an action.
    pub(super) fn push(&self, action: Action) {
        self.outgoing.borrow_mut().actions.push(action);
    }
}

impl Outgoing {
    /// Keeps a message's bytes: where they start, and how many.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        (start, bytes.len())
    }
}
