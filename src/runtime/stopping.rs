//! How a runtime stops on one worker: its connections close, and when nothing of it is left the control thread hears.
//! It knows no protocol but what may still be answered.

use super::connection::ProtocolState;
use super::instance::Stopping;
use super::local::Local;
use super::message::FromWorker;
use super::{cache, proxy};

impl Local {
    /// Closes all connections of an instance, each after its last bytes or at once.
    pub fn close_members(&mut self, index: usize, now: bool) {
        let members = self.instance_at(index).members.clone();
        for slot in members {
            if !now && proxy::http::stops_later(self, slot) {
                continue;
            }
            match &mut self.connections.at(slot).protocol {
                _ if now => self.close_now(slot),
                ProtocolState::Http(http) if http.is_answering() && !http.has_detached() => {
                    http.stop();
                }
                _ => self.close_after_flush(slot),
            }
        }
    }

    /// Answers a stop when nothing is accepted, the last connection is gone and `on_stop` has ended.
    pub fn check_stopped(&mut self, index: usize) {
        let Some(instance) = self.instances[index].as_ref() else { return };
        let Some(stopping) = &instance.stopping else { return };
        if !instance.members.is_empty()
            || !instance.listeners.is_empty()
            || stopping.handler
            || stopping.behind
        {
            return;
        }
        if !cache::all_left(self, index) {
            return;
        }
        let Some(instance) = self.instances[index].take() else { return };
        self.index.remove(&instance.placement.id);
        let Some(Stopping { requests, timer, .. }) = instance.stopping else { return };
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        for request in requests.into_iter().filter(|request| *request != 0) {
            self.control.send(FromWorker::Stopped { request });
        }
    }
}
