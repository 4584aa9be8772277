//! Stopping and removing runtimes and apps, and what ends with them.
//!
//! Must not know: why.

use super::start::no_answer;
use super::{Manager, Origin, Status, Then};
use crate::error::OperatorError;
use crate::id::RuntimeKind;
use crate::limits::{DRAIN_MS, WORKER_ANSWER_MS};
use crate::log::LogLevel;
use crate::runtime::message::ToWorker;
use crate::store::persistence::Persist;

impl Manager {
    /// Stops a runtime; one that doesn't run is left alone. Its lock is held by the caller.
    pub(super) fn stop_runtime(&mut self, name: &str, then: Then) {
        let runtime = match self.find_mut(name) {
            Ok(runtime) => runtime,
            Err(error) => return then(self, Err(error)),
        };
        if !runtime.is_running() {
            // One that failed to start isn't wanted any more either.
            runtime.wanted = false;
            if runtime.status == Status::Failed {
                runtime.status = Status::Stopped;
                runtime.degraded = None;
            }
            self.save(name);
            return then(self, Ok(()));
        }
        runtime.status = Status::Stopping;
        // Who goes there by its group's name goes elsewhere from now on.
        self.refresh_dependents(name);
        let name = name.to_owned();
        self.unlisten(&name.clone(), move |manager| {
            manager.listeners.close(&name);
            manager.drain(&name, then);
        });
    }

    /// Ends accepting; goes on when nobody uses the listener's fd. If a worker doesn't say so, the fd is given up.
    pub(super) fn unlisten(&mut self, name: &str, then: impl FnOnce(&mut Manager) + 'static) {
        let runtime = self.runtimes.get(name).filter(|_| self.listeners.of(name).is_some());
        let first = runtime.and_then(|runtime| Some((*runtime.workers.first()?, runtime.id)));
        let Some((worker, id)) = first else { return then(self) };
        let name = name.to_owned();
        self.ask(
            &[worker],
            move |request, _| ToWorker::Unlisten { request, runtime: id },
            move |manager, replies| {
                if replies.missing > 0 {
                    manager.listeners.abandon(&name);
                }
                then(manager);
            },
        );
    }

    fn drain(&mut self, name: &str, then: Then) {
        let Some(runtime) = self.runtimes.get(name) else { return then(self, Ok(())) };
        let (id, workers, name) = (runtime.id, runtime.workers.clone(), name.to_owned());
        self.ask_for(
            DRAIN_MS + WORKER_ANSWER_MS,
            &workers,
            move |request, _| ToWorker::Stop { request, runtime: id, drain_ms: DRAIN_MS },
            move |manager, replies| {
                manager.stopped(&name);
                manager.end_owned(&name, move |manager| {
                    let missing = replies.missing;
                    then(manager, if missing > 0 { Err(no_answer(missing)) } else { Ok(()) });
                });
            },
        );
    }

    /// Its workers have let go of it.
    fn stopped(&mut self, name: &str) {
        self.release(name);
        let Some(runtime) = self.runtimes.get_mut(name) else { return };
        runtime.status = Status::Stopped;
        runtime.wanted = false;
        runtime.workers.clear();
        runtime.degraded = None;
        self.streams.publish_end(runtime.id);
        let lost = match (runtime.config.kind, runtime.config.persist) {
            (RuntimeKind::Cache, Persist::None) => "; its keys are gone",
            (RuntimeKind::Cache, _) => "; its keys are kept on disk",
            _ => "",
        };
        if runtime.has_script() {
            self.drop_app(name);
        }
        self.log(LogLevel::Info, name, format!("stopped{lost}"));
        self.save(name);
    }

    /// Closes an app's VMs.
    pub(super) fn drop_app(&mut self, name: &str) {
        if let Some(app) = self.apps.remove(name) {
            for worker in &app.workers {
                self.tell(*worker, ToWorker::DropApp { app: app.id });
            }
            self.end_running(app.id);
            self.files_version += 1;
        }
    }

    /// Stops or removes what a runtime's or app's script has made.
    fn end_owned(&mut self, owner: &str, then: impl FnOnce(&mut Manager) + 'static) {
        let owned: Vec<(String, bool)> = self
            .runtimes
            .values()
            .filter_map(|runtime| match &runtime.origin {
                Origin::Script { owner: by, remove } if by == owner => {
                    Some((runtime.name().to_owned(), *remove))
                }
                _ => None,
            })
            .collect();
        for (name, remove) in owned {
            self.log(LogLevel::Info, &name, format!("ends with its owner, \"{owner}\""));
            let key = name.clone();
            self.lock(&key.clone(), move |manager| {
                let done: Then = Box::new(move |manager, _| manager.unlock(&key));
                if remove {
                    manager.remove_runtime(&name, done);
                } else {
                    manager.stop_runtime(&name, done);
                }
            });
        }
        then(self);
    }

    /// Stops a runtime and forgets it. Its lock is held by the caller.
    pub(super) fn remove_runtime(&mut self, name: &str, then: Then) {
        let name = name.to_owned();
        self.stop_runtime(
            &name.clone(),
            Box::new(move |manager, result| {
                if let Some(runtime) = manager.runtimes.remove(&name) {
                    if runtime.origin == Origin::Operator {
                        manager.forget_runtime(&name);
                    }
                    manager.log(LogLevel::Info, &name, "removed");
                }
                then(manager, result);
            }),
        );
    }

    /// Stops and removes several runtimes, one after the other; the first error is the result.
    pub(super) fn remove_each(&mut self, mut names: Vec<String>, then: Then) {
        let Some(name) = names.pop() else { return then(self, Ok(())) };
        self.remove_runtime(
            &name,
            Box::new(move |manager, result| {
                let then: Then = match result {
                    Ok(()) => then,
                    Err(error) => Box::new(move |manager, _| then(manager, Err(error))),
                };
                manager.remove_each(names, then);
            }),
        );
    }

    /// Ends an app: its runtimes, its VMs, its state file. Its lock is held by the caller.
    pub(super) fn remove_app(&mut self, name: &str, then: Then) {
        let owned = |origin: &Origin| matches!(origin, Origin::File { app, .. } if app == name);
        let runtimes = self.runtimes.values().filter(|runtime| owned(&runtime.origin));
        let names: Vec<String> = runtimes.map(|runtime| runtime.name().to_owned()).collect();
        let name = name.to_owned();
        self.remove_each(
            names,
            Box::new(move |manager, result| {
                manager.drop_app(&name);
                manager.forget_app(&name);
                manager.log(LogLevel::Info, &name, "app removed");
                manager.end_owned(&name.clone(), move |manager| then(manager, result));
            }),
        );
    }

    /// Ends everything: workers close what they have within `drain_ms`. A second call ends it now.
    pub fn shut_down(&mut self, drain_ms: u64) {
        let now_ms = self.setup.now.monotonic_ms();
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.deadline_ms = now_ms;
            return;
        }
        let left = self.worker_count();
        let deadline_ms = now_ms + drain_ms + 1_000;
        self.shutdown = Some(super::Shutdown { left, deadline_ms });
        self.log(LogLevel::Info, "", "ending");
        // The ports are free as soon as nobody accepts, long before the last connection has ended.
        let names: Vec<String> = self.runtimes.keys().cloned().collect();
        for name in names {
            self.unlisten(&name.clone(), move |manager| {
                manager.listeners.close(&name);
            });
        }
        for worker in 0..left as u8 {
            self.tell(worker, ToWorker::Shutdown { drain_ms });
        }
    }

    /// Refuses what makes no sense while the daemon ends.
    pub(super) fn check_not_ending(&self) -> Result<(), OperatorError> {
        if self.shutdown.is_some() {
            return Err(OperatorError::failed("the daemon is ending"));
        }
        Ok(())
    }
}
