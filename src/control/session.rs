//! Connected command lines and consoles: frames in, runs of commands, frames out.
//!
//! A client asks for one command at a time. What it doesn't read stays here, bounded: a command that has put out
//! [`CONTROL_OUTPUT_HIGH_BYTES`] isn't resumed until some of it has gone, and its stream's items stay with the manager,
//! which drops the oldest and says so.
//! Must not know: sockets, what commands do.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use mlua::Table;
use serde_json::Value;

use super::answer::{Answer, Outcome};
use super::ipc::{ClientId, Clients};
use super::manager::{CallId, Manager, SubscriptionId};
use super::vm::{Context, ControlVm, Effect, Item, RunId};
use crate::error::OperatorError;
use crate::limits::{CONTROL_ITEMS_MAX, CONTROL_OUTPUT_HIGH_BYTES, CONTROL_OUTPUT_MAX_BYTES};
use crate::proto::control::{self, FromClient, Input, Output, Reader, Request};
use crate::ring::Now;

/// Bytes handed out in one go.
const SEND_BYTES: usize = 64 * 1024;
/// Answers that one turn passes on in sequence, so that a command that asks without end shares the thread.
const ROUNDS_PER_TURN: usize = 16;
/// A cancelled command's exit code, as a shell gives it.
const EXIT_CANCELLED: u8 = 130;

/// What sessions ask for: the manager, or a test's stand-in.
pub trait Calls {
    /// See [`Manager::call`].
    fn call(&mut self, verb: &str, arguments: Value, answer: Answer) -> CallId;
    /// See [`Manager::cancel`].
    fn cancel(&mut self, call: CallId);
    /// See [`Manager::subscribe`].
    ///
    /// # Errors
    /// An unknown kind or name.
    fn subscribe(&mut self, kind: &str, filter: &Value) -> Result<SubscriptionId, OperatorError>;
    /// See [`Manager::take_published`].
    fn take_published(&mut self, subscription: SubscriptionId) -> Vec<Value>;
    /// See [`Manager::unsubscribe`].
    fn unsubscribe(&mut self, subscription: SubscriptionId);
}

impl Calls for Manager {
    fn call(&mut self, verb: &str, arguments: Value, answer: Answer) -> CallId {
        Manager::call(self, verb, arguments, answer)
    }
    fn cancel(&mut self, call: CallId) {
        Manager::cancel(self, call);
    }
    fn subscribe(&mut self, kind: &str, filter: &Value) -> Result<SubscriptionId, OperatorError> {
        Manager::subscribe(self, kind, filter)
    }
    fn take_published(&mut self, subscription: SubscriptionId) -> Vec<Value> {
        Manager::take_published(self, subscription)
    }
    fn unsubscribe(&mut self, subscription: SubscriptionId) {
        Manager::unsubscribe(self, subscription);
    }
}

/// What an [`Answer`] notes for the next turn.
enum Note {
    Output(Value),
    Done(Outcome),
}

/// What a run waits for.
enum Waiting {
    /// Nothing: it is being resumed, or its note lies in the mailbox.
    Nothing,
    Call(CallId),
    Item,
    Drain,
}

struct Run {
    id: RunId,
    waiting: Waiting,
    items: VecDeque<Item>,
    subscription: Option<SubscriptionId>,
    /// A verb that was called without the VM; its answer is the command's.
    direct: bool,
}

#[derive(Default)]
struct Client {
    reader: Reader,
    /// The control VM's table for this caller.
    table: Option<Table>,
    run: Option<Run>,
    output: Vec<u8>,
    done: bool,
}

impl Client {
    fn put(&mut self, frame: &Output) {
        let written = control::write(frame, &mut self.output);
        if let Err(error) = written {
            let error = OperatorError::failed(format!("the answer can't be sent: {error}"));
            control::write(&Output::error(&error), &mut self.output).expect("an error is short");
        }
    }
}

/// All of them, and the VM they share.
pub struct Sessions {
    vm: Result<ControlVm, OperatorError>,
    clients: HashMap<ClientId, Client>,
    /// Whose run it is.
    owners: HashMap<RunId, ClientId>,
    next_run: u64,
    mailbox: Rc<RefCell<VecDeque<(RunId, Note)>>>,
    ready: BTreeSet<ClientId>,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions::new(ControlVm::new())
    }
}

impl Sessions {
    /// Sessions over a VM. Without one, `ping`, `info` and `shutdown` still work.
    pub fn new(vm: Result<ControlVm, OperatorError>) -> Sessions {
        Sessions {
            vm,
            clients: HashMap::new(),
            owners: HashMap::new(),
            next_run: 0,
            mailbox: Rc::default(),
            ready: BTreeSet::new(),
        }
    }

    /// Why commands don't work, if they don't.
    pub fn vm_error(&self) -> Option<&OperatorError> {
        self.vm.as_ref().err()
    }

    fn bytes(&mut self, id: ClientId, bytes: &[u8], calls: &mut impl Calls) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.reader.push(bytes);
        while let Some(client) = self.clients.get_mut(&id)
            && !client.done
        {
            let frame = match client.reader.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => FromClient::parse(frame),
                Err(error) => Err(error),
            };
            match frame {
                Ok(FromClient::Request(_)) if client.run.is_some() => {
                    self.refuse(id, "one command at a time on a connection", calls);
                }
                Ok(FromClient::Request(request)) => self.request(id, request, calls),
                Ok(FromClient::Input(input)) => self.input(id, input, calls),
                Err(error) => self.refuse(id, &error.to_string(), calls),
            }
        }
        self.settle(calls);
    }

    /// Ends a connection that doesn't keep to the protocol.
    fn refuse(&mut self, id: ClientId, reason: &str, calls: &mut impl Calls) {
        self.end_run(id, calls);
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.put(&Output::error(&OperatorError::usage(reason)));
        client.put(&Output::Exit { exit: 2 });
        client.done = true;
        self.ready.insert(id);
    }

    fn request(&mut self, id: ClientId, request: Request, calls: &mut impl Calls) {
        self.next_run += 1;
        let run = RunId(self.next_run);
        self.owners.insert(run, id);
        let arguments = Value::Object(request.arguments);
        let direct = is_rescue(&request.command, self.vm.is_err());
        let waiting = Waiting::Nothing;
        let state = Run { id: run, waiting, items: VecDeque::new(), subscription: None, direct };
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.run = Some(state);
        if direct {
            return self.call(run, &request.command, arguments, calls);
        }
        let vm = match &mut self.vm {
            Ok(vm) => vm,
            Err(error) => {
                let error = error.clone().hint("ping, info and `socketley daemon stop` still work");
                client.put(&Output::error(&error));
                return self.finish(run, 1, calls);
            }
        };
        if client.table.is_none() {
            client.table = vm.new_session().ok();
        }
        let Some(table) = client.table.clone() else {
            client.put(&Output::error(&OperatorError::failed("the control VM is out of memory")));
            return self.finish(run, 1, calls);
        };
        let context = Context { tty: request.tty, cwd: request.cwd };
        vm.start(run, &request.command, &arguments, &context, &table);
    }

    fn input(&mut self, id: ClientId, input: Input, calls: &mut impl Calls) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // A line or cancel that crosses the command's end is about nothing any more.
        let Some(run) = &mut client.run else { return };
        let item = match input {
            Input::Cancel => {
                let run = run.id;
                return self.finish(run, EXIT_CANCELLED, calls);
            }
            Input::Line(line) => Item::Line(line),
            Input::End => Item::End,
        };
        if run.items.len() >= CONTROL_ITEMS_MAX {
            return self.refuse(id, "lines come faster than the command takes them", calls);
        }
        run.items.push_back(item);
    }

    fn call(&mut self, run: RunId, verb: &str, arguments: Value, calls: &mut impl Calls) {
        let (done, output) = (Rc::clone(&self.mailbox), Rc::clone(&self.mailbox));
        let answer =
            Answer::new(move |outcome| done.borrow_mut().push_back((run, Note::Done(outcome))))
                .with_output(move |frame| {
                    output.borrow_mut().push_back((run, Note::Output(frame)))
                });
        let call = calls.call(verb, arguments, answer);
        if let Some(run) = self.run_mut(run) {
            run.waiting = Waiting::Call(call);
        }
    }

    fn run_mut(&mut self, run: RunId) -> Option<&mut Run> {
        let client = self.owners.get(&run)?;
        self.clients.get_mut(client)?.run.as_mut().filter(|state| state.id == run)
    }

    /// Does what the runs ask for. What is answered at once lies in the mailbox afterwards.
    fn settle(&mut self, calls: &mut impl Calls) {
        let Ok(vm) = &mut self.vm else { return };
        for effect in vm.take_effects() {
            match effect {
                Effect::Frames { run, bytes } => self.frames(run, &bytes, calls),
                Effect::Call { run, verb, arguments } => self.call(run, &verb, arguments, calls),
                Effect::Subscribe { run, kind, filter } => {
                    self.subscribe(run, &kind, &filter, calls);
                }
                Effect::Next { run } => self.set_waiting(run, Waiting::Item),
                Effect::Drain { run } => self.set_waiting(run, Waiting::Drain),
                Effect::Ended { run, exit } => self.finish(run, exit, calls),
            }
        }
    }

    fn set_waiting(&mut self, run: RunId, waiting: Waiting) {
        if let Some(run) = self.run_mut(run) {
            run.waiting = waiting;
        }
    }

    fn subscribe(&mut self, run: RunId, kind: &str, filter: &Value, calls: &mut impl Calls) {
        let result = calls.subscribe(kind, filter);
        let Some(state) = self.run_mut(run) else { return };
        let outcome = result.map(|subscription| {
            if let Some(before) = state.subscription.replace(subscription) {
                calls.unsubscribe(before);
            }
            Value::Null
        });
        self.mailbox.borrow_mut().push_back((run, Note::Done(outcome)));
    }

    fn frames(&mut self, run: RunId, bytes: &[u8], calls: &mut impl Calls) {
        let Some(&id) = self.owners.get(&run) else { return };
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.output.extend_from_slice(bytes);
        self.ready.insert(id);
        if client.output.len() > CONTROL_OUTPUT_MAX_BYTES {
            client.output.clear();
            client.done = true;
            self.end_run(id, calls);
        }
    }

    /// Passes on what was answered since the last turn.
    fn deliver(&mut self, calls: &mut impl Calls) {
        for _ in 0..ROUNDS_PER_TURN {
            let notes = std::mem::take(&mut *self.mailbox.borrow_mut());
            if notes.is_empty() {
                return;
            }
            for (run, note) in notes {
                self.note(run, note, calls);
            }
            self.settle(calls);
        }
    }

    fn note(&mut self, run: RunId, note: Note, calls: &mut impl Calls) {
        let Some(state) = self.run_mut(run) else { return };
        let direct = state.direct;
        match note {
            Note::Output(frame) => match serde_json::from_value::<Output>(frame) {
                Ok(frame) if !matches!(frame, Output::Exit { .. }) => self.put(run, &frame, calls),
                _ => {}
            },
            Note::Done(outcome) if direct => {
                let exit = outcome.as_ref().map_or_else(|error| error.exit_code, |_| 0);
                let frame = match outcome {
                    Ok(json) => Output::Json { json },
                    Err(error) => Output::error(&error),
                };
                self.put(run, &frame, calls);
                self.finish(run, exit, calls);
            }
            Note::Done(outcome) => {
                state.waiting = Waiting::Nothing;
                if let Ok(vm) = &mut self.vm {
                    vm.on_answer(run, &outcome);
                }
            }
        }
    }

    fn put(&mut self, run: RunId, frame: &Output, calls: &mut impl Calls) {
        let mut bytes = Vec::new();
        if control::write(frame, &mut bytes).is_ok() {
            self.frames(run, &bytes, calls);
        }
    }

    /// Gives waiting runs their next item, or the word that their output has gone.
    fn pump(&mut self, calls: &mut impl Calls) {
        let Ok(vm) = &mut self.vm else { return };
        for client in self.clients.values_mut() {
            let Some(run) = &mut client.run else { continue };
            if client.output.len() >= CONTROL_OUTPUT_HIGH_BYTES {
                continue;
            }
            match run.waiting {
                Waiting::Drain => {
                    run.waiting = Waiting::Nothing;
                    vm.on_drained(run.id);
                }
                Waiting::Item => {
                    if run.items.is_empty()
                        && let Some(subscription) = run.subscription
                    {
                        let published = calls.take_published(subscription);
                        run.items.extend(published.into_iter().map(Item::Event));
                    }
                    if let Some(item) = run.items.pop_front() {
                        run.waiting = Waiting::Nothing;
                        vm.on_item(run.id, &item);
                    }
                }
                Waiting::Nothing | Waiting::Call(_) => {}
            }
        }
        self.settle(calls);
    }

    /// Whether a run could go on without anything happening.
    fn has_work(&self) -> bool {
        !self.mailbox.borrow().is_empty()
            || self.clients.values().any(|client| {
                client.output.len() < CONTROL_OUTPUT_HIGH_BYTES
                    && client.run.as_ref().is_some_and(|run| match run.waiting {
                        Waiting::Item => !run.items.is_empty(),
                        Waiting::Drain => true,
                        Waiting::Nothing | Waiting::Call(_) => false,
                    })
            })
    }

    fn turn(&mut self, calls: &mut impl Calls) {
        for _ in 0..ROUNDS_PER_TURN {
            self.deliver(calls);
            self.pump(calls);
            if !self.has_work() {
                return;
            }
        }
    }

    /// Ends a run with its exit frame.
    fn finish(&mut self, run: RunId, exit: u8, calls: &mut impl Calls) {
        let Some(&id) = self.owners.get(&run) else { return };
        self.end_run(id, calls);
        if let Some(client) = self.clients.get_mut(&id) {
            client.put(&Output::Exit { exit });
            self.ready.insert(id);
        }
    }

    /// Forgets a client's run and all it has open.
    fn end_run(&mut self, id: ClientId, calls: &mut impl Calls) {
        let Some(run) = self.clients.get_mut(&id).and_then(|client| client.run.take()) else {
            return;
        };
        self.owners.remove(&run.id);
        if let Ok(vm) = &mut self.vm {
            vm.cancel(run.id);
        }
        if let Waiting::Call(call) = run.waiting {
            calls.cancel(call);
        }
        if let Some(subscription) = run.subscription {
            calls.unsubscribe(subscription);
        }
    }
}

/// Commands that work without the VM: `ping` and `shutdown` always take this way, `info` when the VM is broken.
fn is_rescue(command: &str, vm_broken: bool) -> bool {
    matches!(command, "ping" | "shutdown") || (vm_broken && command == "info")
}

impl Clients for Sessions {
    fn on_open(&mut self, client: ClientId, _manager: &mut Manager) {
        self.clients.insert(client, Client::default());
    }

    fn on_bytes(&mut self, client: ClientId, bytes: &[u8], manager: &mut Manager) {
        self.bytes(client, bytes, manager);
    }

    fn on_close(&mut self, client: ClientId, manager: &mut Manager) {
        self.end_run(client, manager);
        self.clients.remove(&client);
        self.ready.remove(&client);
    }

    fn on_turn(&mut self, _now: Now, manager: &mut Manager) {
        self.turn(manager);
    }

    fn take_ready(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.ready).into_iter().collect()
    }

    fn take_output(&mut self, id: ClientId) -> Vec<u8> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let rest = client.output.split_off(client.output.len().min(SEND_BYTES));
        let bytes = std::mem::replace(&mut client.output, rest);
        if !client.output.is_empty() {
            self.ready.insert(id);
        }
        bytes
    }

    fn is_done(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_none_or(|client| client.done)
    }

    fn deadline_ms(&self) -> Option<u64> {
        self.has_work().then_some(0)
    }
}

#[cfg(test)]
mod tests;
