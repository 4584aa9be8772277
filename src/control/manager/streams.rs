//! What goes on for a while: subscriptions, evaluations, apps' commands, messages to connections.
//!
//! Must not know: who listens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::verbs::{Arguments, Request};
use super::{CallId, Manager};
use crate::control::answer::Answer;
use crate::control::logs::{Entry, LogFilter};
use crate::error::OperatorError;
use crate::id::{AppId, ConnectionId, RuntimeId, RuntimeKind};
use crate::limits::SUBSCRIPTION_FRAMES_MAX;
use crate::lua::Reply;
use crate::runtime::Mode;
use crate::runtime::message::{FromWorker, Recipients, ToWorker};

use super::start::no_answer;

/// Names one stream of log lines or messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

enum Stream {
    Logs(LogFilter),
    Messages(RuntimeId),
}

struct Subscription {
    stream: Stream,
    queue: VecDeque<Value>,
    dropped: u64,
}

/// An evaluation or command that runs in an app's VM.
struct Running {
    call: CallId,
    answer: Answer,
    worker: u8,
    app: AppId,
}

/// A message on its way to connections.
struct Outgoing {
    runtime: RuntimeId,
    workers: Vec<u8>,
    to: Recipients,
    bytes: Arc<[u8]>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Streams {
    last: u64,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    running: BTreeMap<u64, Running>,
}

impl Streams {
    /// Passes a log record on to who wants it.
    pub fn publish_log(&mut self, entry: &Entry) {
        for subscription in self.subscriptions.values_mut() {
            if let Stream::Logs(filter) = &subscription.stream
                && filter.wants(&entry.record)
            {
                subscription.push(entry.to_json());
            }
        }
    }

    /// Passes a message on to who is attached to the runtime.
    pub fn publish_message(&mut self, runtime: RuntimeId, connection: ConnectionId, bytes: &[u8]) {
        for subscription in self.subscriptions.values_mut() {
            if matches!(subscription.stream, Stream::Messages(of) if of == runtime) {
                let text = String::from_utf8_lossy(bytes);
                subscription.push(json!({ "connection": connection.bits(), "text": text }));
            }
        }
    }

    /// The runtime has stopped: who is attached to it is told.
    pub fn publish_end(&mut self, runtime: RuntimeId) {
        for subscription in self.subscriptions.values_mut() {
            if matches!(subscription.stream, Stream::Messages(of) if of == runtime) {
                subscription.push(json!({ "ended": true }));
            }
        }
    }

    fn is_observed(&self, runtime: RuntimeId) -> bool {
        let mut streams = self.subscriptions.values().map(|subscription| &subscription.stream);
        streams.any(|stream| matches!(stream, Stream::Messages(of) if *of == runtime))
    }
}

impl Subscription {
    fn push(&mut self, value: Value) {
        if self.queue.len() == SUBSCRIPTION_FRAMES_MAX {
            self.queue.pop_front();
            self.dropped += 1;
        }
        self.queue.push_back(value);
    }
}

impl Manager {
    /// Streams what `filter` asks for: `"logs"` `{name?, level?}` gives records as the verb `logs` does, `"messages"`
    /// `{name}` gives `{connection, text}` of a server's or client's messages and at its end `{"ended": true}`.
    ///
    /// # Errors
    /// An unknown kind or name, or a runtime that has no messages.
    pub fn subscribe(
        &mut self,
        kind: &str,
        filter: &Value,
    ) -> Result<SubscriptionId, OperatorError> {
        let arguments = Arguments(filter.as_object().cloned().unwrap_or_default());
        let stream = match kind {
            "logs" => Stream::Logs(self.log_filter(&arguments)?),
            "messages" => Stream::Messages(self.observe(arguments.text("name")?)?),
            _ => return Err(OperatorError::usage(format!("there is no stream \"{kind}\""))),
        };
        self.streams.last += 1;
        let id = SubscriptionId(self.streams.last);
        let subscription = Subscription { stream, queue: VecDeque::new(), dropped: 0 };
        self.streams.subscriptions.insert(id, subscription);
        Ok(id)
    }

    fn observe(&self, name: &str) -> Result<RuntimeId, OperatorError> {
        let runtime = self.find(name)?;
        let kind = runtime.config.kind;
        if !matches!(kind, RuntimeKind::Server | RuntimeKind::Client) {
            return Err(OperatorError::failed(format!("a {kind} has no messages to attach to")));
        }
        if !runtime.is_running() {
            return Err(OperatorError::failed(format!("\"{name}\" isn't running"))
                .hint(format!("socketley start {name}")));
        }
        for worker in &runtime.workers {
            self.tell(*worker, ToWorker::Observe { runtime: runtime.id, on: true });
        }
        Ok(runtime.id)
    }

    /// What came since the last time; bounded: `{"dropped": n}` says how many of the oldest were lost.
    pub fn take_published(&mut self, subscription: SubscriptionId) -> Vec<Value> {
        let Some(subscription) = self.streams.subscriptions.get_mut(&subscription) else {
            return Vec::new();
        };
        let dropped = std::mem::take(&mut subscription.dropped);
        let lost = (dropped > 0).then(|| json!({ "dropped": dropped }));
        lost.into_iter().chain(subscription.queue.drain(..)).collect()
    }

    /// Ends a stream.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        let Some(ended) = self.streams.subscriptions.remove(&subscription) else { return };
        let Stream::Messages(id) = ended.stream else { return };
        if self.streams.is_observed(id) {
            return;
        }
        let Some(runtime) = self.runtimes.values().find(|runtime| runtime.id == id) else { return };
        for worker in &runtime.workers {
            self.tell(*worker, ToWorker::Observe { runtime: id, on: false });
        }
    }

    /// `send {name, message, to?}`: to all connections of a server, to a client's peer.
    pub(super) fn verb_send(&mut self, request: Request) {
        match self.to_send(&request.arguments) {
            Err(error) => request.answer.give(Err(error)),
            Ok(Outgoing { runtime, workers, to, bytes }) => self.ask(
                &workers,
                move |number, _| ToWorker::Send {
                    request: number,
                    runtime,
                    to,
                    bytes: Arc::clone(&bytes),
                    kind: None,
                },
                move |_, replies| {
                    if replies.missing > 0 {
                        return request.answer.give(Err(no_answer(replies.missing)));
                    }
                    let counts = replies.list.iter().map(|reply| match reply {
                        FromWorker::SentTo { count, .. } => *count,
                        _ => 0,
                    });
                    request.answer.give(Ok(json!({ "count": counts.sum::<u64>() })));
                },
            ),
        }
    }

    fn to_send(&self, arguments: &Arguments) -> Result<Outgoing, OperatorError> {
        let name = arguments.text("name")?;
        let runtime = self.find(name)?;
        let kind = runtime.config.kind;
        if !matches!(kind, RuntimeKind::Server | RuntimeKind::Client) {
            return Err(OperatorError::failed(format!("a {kind} takes no messages")).hint(
                "messages go to servers (to all their clients) and clients (to their peer)",
            ));
        }
        if runtime.config.mode == Mode::In {
            return Err(OperatorError::failed(format!(
                "\"{name}\" only receives (its mode is in)"
            ))
            .hint(format!("socketley edit {name} --mode inout")));
        }
        if !runtime.is_running() {
            return Err(OperatorError::failed(format!("\"{name}\" isn't running"))
                .hint(format!("socketley start {name}")));
        }
        let to =
            match arguments.number("to")? {
                None => Recipients::All,
                Some(bits) => Recipients::One(ConnectionId::from_bits(bits).ok_or_else(|| {
                    OperatorError::usage(format!("to: {bits} is not a connection"))
                })?),
            };
        let bytes: Arc<[u8]> = arguments.text("message")?.as_bytes().into();
        Ok(Outgoing { runtime: runtime.id, workers: runtime.workers.clone(), to, bytes })
    }

    /// `eval {target, code}` in an app's VM.
    pub(super) fn verb_eval(&mut self, request: Request) {
        let code = request.arguments.text("code").map(str::to_owned);
        self.in_vm(request, code, |request, app, code| ToWorker::Evaluate { request, app, code });
    }

    /// `complete {target, line}`
    pub(super) fn verb_complete(&mut self, request: Request) {
        let line = request.arguments.text("line").map(str::to_owned);
        self.in_vm(request, line, |request, app, line| ToWorker::Complete { request, app, line });
    }

    fn in_vm(
        &mut self,
        request: Request,
        text: Result<String, OperatorError>,
        message: fn(u64, AppId, String) -> ToWorker,
    ) {
        let target = request.arguments.text("target");
        let found =
            target.and_then(|target| self.running_app(target)).and_then(|app| Ok((app, text?)));
        match found {
            Err(error) => request.answer.give(Err(error)),
            Ok(((app, worker), text)) => {
                self.run_in_vm((app, worker), request, move |number| message(number, app, text))
            }
        }
    }

    fn running_app(&self, target: &str) -> Result<(AppId, u8), OperatorError> {
        let (name, app) = self.find_app(target)?;
        let home = app.workers.first().copied();
        home.map(|home| (app.id, home)).ok_or_else(|| {
            let why = app.degraded.as_ref().map(super::Degraded::text).unwrap_or_default();
            OperatorError::failed(format!("the app \"{name}\" doesn't run: {why}"))
        })
    }

    fn run_in_vm(
        &mut self,
        (app, worker): (AppId, u8),
        request: Request,
        message: impl FnOnce(u64) -> ToWorker,
    ) {
        let number = self.asked.next_request();
        let running = Running { call: request.id, answer: request.answer, worker, app };
        self.streams.running.insert(number, running);
        self.tell(worker, message(number));
    }

    /// `command {name, arguments}`: a command that an app defines.
    pub(super) fn verb_command(&mut self, request: Request) {
        let found = request.arguments.text("name").and_then(|name| {
            let has = |spec: &&Value| spec.get("name").and_then(Value::as_str) == Some(name);
            let mut apps = self.apps.values();
            let app = apps.find(|app| app.commands.iter().any(|spec| has(&spec)));
            let home = app.and_then(|app| Some((app.id, *app.workers.first()?)));
            let missing = || OperatorError::usage(format!("no app has a command \"{name}\""));
            home.map(|home| (home, name.to_owned())).ok_or_else(missing)
        });
        match found {
            Err(error) => request.answer.give(Err(error)),
            Ok(((app, worker), name)) => {
                let arguments = request.arguments.0.get("arguments").cloned().unwrap_or_default();
                self.run_in_vm((app, worker), request, move |request| ToWorker::Command {
                    request,
                    app,
                    name,
                    arguments,
                });
            }
        }
    }

    /// An evaluation or command has ended.
    pub(super) fn on_evaluated(&mut self, request: u64, reply: Reply) {
        if let Some(running) = self.streams.running.remove(&request) {
            running.answer.give(reply.map_err(OperatorError::failed));
        }
    }

    /// A command prints.
    pub(super) fn on_output(&mut self, request: u64, frame: Value) {
        if let Some(running) = self.streams.running.get_mut(&request) {
            running.answer.put_out(frame);
        }
    }

    /// Ends a call that still runs in a VM; it answers at once. Other calls end by themselves.
    pub fn cancel(&mut self, call: CallId) {
        let mut running = self.streams.running.iter();
        let Some(request) =
            running.find(|(_, running)| running.call == call).map(|(request, _)| *request)
        else {
            return;
        };
        if let Some(Running { answer, worker, app, .. }) = self.streams.running.remove(&request) {
            self.tell(worker, ToWorker::Cancel { request, app });
            answer.give(Err(OperatorError::failed("cancelled")));
        }
    }

    /// The app's VMs are gone: what ran in them has no answer.
    pub(super) fn end_running(&mut self, app: AppId) {
        let gone = |running: &Running| running.app == app;
        let requests: Vec<u64> = self
            .streams
            .running
            .iter()
            .filter(|(_, running)| gone(running))
            .map(|(request, _)| *request)
            .collect();
        for request in requests {
            self.on_evaluated(request, Err("the app has ended".to_owned()));
        }
    }
}

#[cfg(test)]
impl Manager {
    /// The numbers of what runs in VMs.
    pub(super) fn streams_running(&self) -> Vec<u64> {
        self.streams.running.keys().copied().collect()
    }
}
