//! News of the VM's own sockets and errands, for the tasks that wait for them.

use super::AppVm;
use crate::lua::Outcome;
use crate::lua::leaves::kind;
use crate::lua::streams::End;

/// The `arg` of a [`kind::SOCKET`] event.
const GOES_ON: u32 = 0;
const FAILED: u32 = 1;
const OUTCOME: u32 = 2;

/// Why a dial or a socket ended: a word for scripts (`refused`, `closed`, ...) and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFailure {
    /// See `err.code`.
    pub code: &'static str,
    /// See `err.message`.
    pub text: String,
}

impl AppVm {
    /// A dial has ended.
    pub fn on_dialled(&mut self, socket: u64, task: u64, result: Result<(), SocketFailure>) {
        match result {
            Ok(()) => self.push(0, kind::SOCKET, task as f64, 0, GOES_ON, &[]),
            Err(SocketFailure { code, text }) => {
                self.context.streams.borrow_mut().remove(&socket);
                let words = format!("{code}\0{text}");
                self.push(0, kind::SOCKET, task as f64, 0, FAILED, words.as_bytes());
            }
        }
    }

    /// Bytes of a socket. Whether to stop reading, until [`crate::lua::SocketAct::Resume`].
    pub fn on_socket_bytes(&mut self, socket: u64, bytes: &[u8]) -> bool {
        let mut streams = self.context.streams.borrow_mut();
        let Some(stream) = streams.get_mut(&socket) else { return false };
        let (woken, stop) = stream.append(bytes);
        drop(streams);
        self.wake_socket(woken);
        stop
    }

    /// Nothing more comes; `is_broken`: nothing more can be sent either.
    pub fn on_socket_end(&mut self, socket: u64, why: SocketFailure, is_broken: bool) {
        let mut streams = self.context.streams.borrow_mut();
        let Some(stream) = streams.get_mut(&socket) else { return };
        stream.broken |= is_broken;
        let woken = stream.finish(End { code: why.code, text: why.text });
        drop(streams);
        self.wake_socket(woken);
    }

    /// So many bytes are still to be sent; `task` waited for few of them.
    pub fn on_socket_sent(&mut self, socket: u64, unsent_bytes: usize, task: Option<u64>) {
        if let Some(stream) = self.context.streams.borrow_mut().get_mut(&socket) {
            stream.unsent_bytes = unsent_bytes;
        }
        self.wake_socket(task);
    }

    /// An [`crate::lua::Action::Errand`] is done.
    pub fn on_errand(&mut self, task: u64, outcome: Outcome) {
        self.context.outcomes.borrow_mut().insert(task, outcome);
        self.push(0, kind::SOCKET, task as f64, 0, OUTCOME, &[]);
    }

    fn wake_socket(&mut self, task: Option<u64>) {
        if let Some(task) = task {
            self.push(0, kind::SOCKET, task as f64, 0, GOES_ON, &[]);
        }
    }
}
