//! Sessions with a manager that a test plays: what a caller sends and what it gets.

use serde_json::json;

use super::*;
use crate::control::logs::Entry;
use crate::log::{LogLevel, LogRecord};
use crate::proto::control::{Stream, VERSION};

/// Answers as told; keeps those that shall come later.
#[derive(Default)]
struct Fake {
    next: u64,
    called: Vec<(String, Value)>,
    later: Vec<(CallId, Answer)>,
    cancelled: Vec<CallId>,
    published: VecDeque<Value>,
    subscribed: i32,
}

impl Calls for Fake {
    fn call(&mut self, verb: &str, arguments: Value, answer: Answer) -> CallId {
        self.next += 1;
        let call = CallId(self.next);
        let name = arguments["name"].as_str().unwrap_or_default().to_string();
        self.called.push((verb.to_string(), arguments.clone()));
        match verb {
            "ping" => answer.give(Ok(json!({"pong": null}))),
            "match" => {
                answer.give(match arguments["patterns"][0].as_str() {
                    Some("api-*") => Ok(json!(["api-1", "api-2"])),
                    Some("chta") => Err(OperatorError::failed("no such runtime: chta")
                        .hint("did you mean \"chat\"?")),
                    Some(name) => Ok(json!([name])),
                    None => Ok(json!([])),
                })
            }
            "stop" if name == "api-1" => answer.give(Err(OperatorError::failed("api-1 is stuck"))),
            "stop" => answer.give(Ok(Value::Null)),
            "logs" => answer.give(Ok(json!([log_entry(7, "hello").to_json()]))),
            "get" => answer.give(Ok(json!({"name": name, "status": "running"}))),
            "send" => answer.give(Ok(json!({"count": 3}))),
            "list" => answer.give(Ok(json!([
                {"id": 1, "name": "chat", "type": "server", "status": "running", "connections": 2,
                 "listen": "127.0.0.1:9000", "created_ms": 5},
                {"id": 2, "name": "up", "type": "client", "status": "running", "connections": 0,
                 "degraded": "127.0.0.1:1 refuses", "created_ms": 6},
            ]))),
            "eval" => self.later.push((call, answer)),
            "command" => {
                let mut answer = answer;
                answer.put_out(json!({"text": "kicking", "to": "out"}));
                answer.put_out(json!({"exit": 9}));
                answer.put_out(json!({"nonsense": 1}));
                answer.give(Ok(json!({"code": 3})));
            }
            _ => answer.give(Err(OperatorError::usage(format!("unknown verb: {verb}")))),
        }
        call
    }
    fn cancel(&mut self, call: CallId) {
        self.cancelled.push(call);
    }
    fn subscribe(&mut self, kind: &str, _: &Value) -> Result<SubscriptionId, OperatorError> {
        if !["messages", "logs"].contains(&kind) {
            return Err(OperatorError::usage("unknown stream"));
        }
        self.subscribed += 1;
        Ok(SubscriptionId(1))
    }
    fn take_published(&mut self, _: SubscriptionId) -> Vec<Value> {
        self.published.drain(..).collect()
    }
    fn unsubscribe(&mut self, _: SubscriptionId) {
        self.subscribed -= 1;
    }
}

/// A record as the manager has it, so that its names and the command's stay the same.
fn log_entry(number: u64, text: &str) -> Entry {
    let (level, source, text) = (LogLevel::Warn, "chat".to_string(), text.to_string());
    Entry { number, record: LogRecord { unix_ms: 3_600_000 * 24 + 5, level, source, text } }
}

const CALLER: ClientId = ClientId(7);

struct Bench {
    sessions: Sessions,
    fake: Fake,
    reader: Reader,
}

impl Bench {
    fn new() -> Bench {
        Bench::over(ControlVm::new())
    }

    fn over(vm: Result<ControlVm, OperatorError>) -> Bench {
        let mut sessions = Sessions::new(vm);
        sessions.clients.insert(CALLER, Client::default());
        Bench { sessions, fake: Fake::default(), reader: Reader::default() }
    }

    fn send(&mut self, frame: &Value) {
        let mut bytes = Vec::new();
        control::write(frame, &mut bytes).unwrap();
        self.sessions.bytes(CALLER, &bytes, &mut self.fake);
    }

    fn request(&mut self, command: &str, arguments: Value) -> Vec<Output> {
        self.send(&json!({"v": VERSION, "command": command, "arguments": arguments}));
        self.outputs()
    }

    /// Turns until nothing more comes.
    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            self.sessions.turn(&mut self.fake);
            if self.sessions.take_ready().is_empty() {
                return outputs;
            }
            let bytes = self.sessions.take_output(CALLER);
            self.reader.push(&bytes);
            while let Some(frame) = self.reader.next_frame().unwrap() {
                outputs.push(serde_json::from_value(frame).unwrap());
            }
        }
    }
}

fn text(text: &str) -> Output {
    Output::Text { text: text.to_string(), to: Stream::Out }
}

fn error(message: &str, hint: Option<&str>) -> Output {
    let mut error = OperatorError::failed(message);
    error.hint = hint.map(str::to_string);
    Output::error(&error)
}

fn exit(exit: u8) -> Output {
    Output::Exit { exit }
}

#[test]
fn several_names_are_all_acted_on() {
    let mut bench = Bench::new();
    let outputs = bench.request("stop", json!({"name": ["chta", "api-*", "db", "db"]}));
    let expected = [
        error("no such runtime: chta", Some("did you mean \"chat\"?")),
        error("api-1 is stuck", None),
        text("api-2"),
        text("db"),
        exit(1),
    ];
    assert_eq!(outputs, expected);
}

#[test]
fn a_message_arrives_as_it_was_typed() {
    let mut bench = Bench::new();
    let long = "word ".repeat(10_000) + "\nremove victim\n";
    assert_eq!(bench.request("send", json!({"name": "chat", "message": [long]})), [exit(0)]);
    let sent = json!({"name": "chat", "message": long});
    assert_eq!(bench.fake.called, [("send".to_string(), sent)]);
}

#[test]
fn lists_are_tables_with_raw_values() {
    let mut bench = Bench::new();
    let outputs = bench.request("ls", json!({}));
    let [Output::Table { table }, note, exit_frame] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    let keys: Vec<&str> = table.columns.iter().map(|column| column.key.as_str()).collect();
    let expected = [
        "id",
        "name",
        "type",
        "status",
        "listen",
        "connections",
        "app",
        "created_ms",
        "generation",
        "degraded",
    ];
    assert_eq!(keys, expected);
    assert_eq!(table.rows[1][3], "degraded");
    assert_eq!(table.rows[0][6], Value::Null);
    let reason = "up is degraded: 127.0.0.1:1 refuses".to_string();
    assert_eq!(*note, Output::Text { text: reason, to: Stream::Err });
    assert_eq!(*exit_frame, exit(0));
    let quiet = bench.request("ls", json!({"quiet": true}));
    assert_eq!(quiet, [text("chat"), text("up"), exit(0)]);
}

#[test]
fn what_runs_can_be_cancelled_and_the_next_command_runs() {
    let mut bench = Bench::new();
    assert_eq!(bench.request("eval", json!({"code": ["x"], "app": "chat"})), []);
    bench.send(&json!({"cancel": true}));
    assert_eq!(bench.outputs(), [exit(130)]);
    assert_eq!(bench.fake.cancelled, [CallId(1)]);
    let (_, late) = bench.fake.later.pop().unwrap();
    late.give(Ok(json!({"text": "too late"})));
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.request("eval", json!({"code": ["1 + 1"]})), [text("2"), exit(0)]);
}

#[test]
fn an_attached_terminal_gets_messages_and_sends_lines() {
    let mut bench = Bench::new();
    assert_eq!(bench.request("start", json!({"name": ["chat"], "interactive": true})), []);
    assert_eq!(bench.fake.subscribed, 1);
    bench.fake.published.push_back(json!({"connection": 5, "text": "hi"}));
    bench.fake.published.push_back(json!({"dropped": 2}));
    let outputs = bench.outputs();
    assert_eq!(outputs.len(), 2);
    assert!(matches!(&outputs[0], Output::Record { text, .. } if text == "hi"), "{outputs:?}");
    bench.send(&json!({"line": "hello\nthere"}));
    assert_eq!(bench.outputs(), []);
    let sent = json!({"name": "chat", "message": "hello\nthere"});
    assert_eq!(bench.fake.called.last().unwrap(), &("send".to_string(), sent));
    bench.send(&json!({"end": true}));
    assert_eq!(bench.outputs(), [exit(0)]);
    assert_eq!(bench.fake.subscribed, 0);
}

#[test]
fn log_lines_are_followed_without_saying_one_twice() {
    let mut bench = Bench::new();
    let shown = |outputs: &[Output]| -> Vec<String> {
        let text = |output: &Output| match output {
            Output::Record { text, .. } => text.split_once(' ').unwrap().1.to_string(),
            other => panic!("{other:?}"),
        };
        outputs.iter().map(text).collect()
    };
    let outputs = bench.request("logs", json!({"follow": true, "tail": 5}));
    assert_eq!(shown(&outputs), ["WARN  chat: hello"]);
    bench.fake.published.extend([log_entry(7, "hello"), log_entry(8, "more")].map(|e| e.to_json()));
    assert_eq!(shown(&bench.outputs()), ["WARN  chat: more"]);
    bench.send(&json!({"cancel": true}));
    assert_eq!(bench.outputs(), [exit(130)]);
    let refused = bench.request("logs", json!({"follow": true, "format": "json"}));
    assert!(matches!(refused[0], Output::Error { .. }) && refused[1] == exit(2), "{refused:?}");
}

#[test]
fn an_apps_command_prints_through() {
    let mut bench = Bench::new();
    let outputs = bench.request("kick", json!({"user": "bob"}));
    assert_eq!(outputs, [text("kicking"), exit(3)]);
}

#[test]
fn the_control_console_keeps_locals_per_caller() {
    let mut bench = Bench::new();
    assert_eq!(bench.request("eval", json!({"code": ["local x = 5"]})), [exit(0)]);
    assert_eq!(bench.request("eval", json!({"code": ["x"]})), [text("5"), exit(0)]);
    let more = bench.request("eval", json!({"code": ["for i = 1, 2 do"], "console": true}));
    assert_eq!(
        more[0],
        Output::Json {
            json: json!({"text": "", "incomplete": true, "degraded": "up: 127.0.0.1:1 refuses"})
        }
    );
}

#[test]
fn a_slow_reader_holds_the_command_not_the_memory() {
    let mut bench = Bench::new();
    let code = "for i = 1, 1000 do print(('x'):rep(10000)) end";
    bench.send(&json!({"v": VERSION, "command": "eval", "arguments": {"code": [code]}}));
    for _ in 0..100 {
        bench.sessions.turn(&mut bench.fake);
    }
    let held = bench.sessions.clients[&CALLER].output.len();
    assert!(held < CONTROL_OUTPUT_HIGH_BYTES + 2 * SEND_BYTES, "{held} bytes");
    assert_eq!(bench.outputs().len(), 1001);
}

#[test]
fn a_command_that_asks_without_end_shares_the_thread() {
    let mut bench = Bench::new();
    let code = "while true do socketley.list() end";
    bench.send(&json!({"v": VERSION, "command": "eval", "arguments": {"code": [code]}}));
    bench.sessions.turn(&mut bench.fake);
    assert!(bench.fake.called.len() <= ROUNDS_PER_TURN * (ROUNDS_PER_TURN + 1));
    assert!(bench.sessions.has_work());
    bench.send(&json!({"cancel": true}));
    assert_eq!(bench.outputs(), [exit(130)]);
}

#[test]
fn rescue_commands_work_without_the_vm() {
    let mut bench = Bench::over(Err(OperatorError::failed("broken")));
    let pong = Output::Json { json: json!({"pong": null}) };
    assert_eq!(bench.request("ping", json!({})), [pong, exit(0)]);
    let hint = Some("ping, info and `socketley daemon stop` still work");
    assert_eq!(bench.request("ls", json!({})), [error("broken", hint), exit(1)]);
    assert_eq!(bench.request("info", json!({})), [error("unknown verb: info", None), exit(2)]);
}

#[test]
fn what_is_no_frame_ends_the_connection_and_nothing_else() {
    let wrong_version = {
        let mut bytes = Vec::new();
        control::write(&json!({"v": 99, "command": "ls"}), &mut bytes).unwrap();
        bytes
    };
    for (bytes, message) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "a frame of 1195725856 bytes"),
        (vec![0, 0, 0, 1, b'x'], "isn't JSON"),
        (vec![0, 0, 0, 2, b'{', b'}'], "no request"),
        (wrong_version, "version is 1, yours is 99"),
    ] {
        let mut bench = Bench::new();
        bench.sessions.clients.insert(ClientId(8), Client::default());
        bench.sessions.bytes(CALLER, &bytes, &mut bench.fake);
        let outputs = bench.outputs();
        let [Output::Error { error }, Output::Exit { exit: 2 }] = outputs.as_slice() else {
            panic!("{outputs:?}")
        };
        assert!(error.message.contains(message), "{}", error.message);
        assert!(bench.sessions.is_done(CALLER) && !bench.sessions.is_done(ClientId(8)));
    }
}

#[test]
fn a_caller_that_goes_takes_its_run_along() {
    let mut bench = Bench::new();
    bench.request("start", json!({"name": ["chat"], "interactive": true}));
    bench.sessions.end_run(CALLER, &mut bench.fake);
    bench.sessions.clients.remove(&CALLER);
    assert_eq!(bench.fake.subscribed, 0);
    assert!(bench.sessions.owners.is_empty());
    assert!(bench.sessions.is_done(CALLER));
}
