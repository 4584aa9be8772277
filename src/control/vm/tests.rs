//! The control VM alone: runs, waits, budgets, the console.

use serde_json::json;

use super::*;
use crate::proto::control::Reader;

struct Bench {
    vm: ControlVm,
    session: Table,
    next: u64,
}

/// What became of a run: its frames and its exit code.
type Outputs = (Vec<Output>, Option<u8>);

impl Bench {
    fn new() -> Bench {
        let vm = ControlVm::new().unwrap();
        let session = vm.new_session().unwrap();
        Bench { vm, session, next: 0 }
    }

    fn start(&mut self, command: &str, arguments: Value) -> RunId {
        self.next += 1;
        let run = RunId(self.next);
        self.vm.start(run, command, &arguments, &Context::default(), &self.session);
        run
    }

    /// Runs to the end, answering calls with `answer`.
    fn run(
        &mut self,
        command: &str,
        arguments: Value,
        answer: impl Fn(&str, &Value) -> Result<Value, OperatorError>,
    ) -> Outputs {
        let run = self.start(command, arguments);
        let mut outputs = (Vec::new(), None);
        for _ in 0..1000 {
            let effects = self.vm.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Frames { bytes, .. } => outputs.0.extend(frames(&bytes)),
                    Effect::Call { verb, arguments, .. } => {
                        self.vm.on_answer(run, &answer(&verb, &arguments));
                    }
                    Effect::Drain { .. } => self.vm.on_drained(run),
                    Effect::Ended { exit, .. } => outputs.1 = Some(exit),
                    Effect::Subscribe { .. } => self.vm.on_answer(run, &Ok(Value::Null)),
                    Effect::Next { .. } => return outputs,
                }
            }
        }
        outputs
    }

    fn eval(&mut self, code: &str) -> (String, Option<u8>) {
        let answer = |_: &str, _: &Value| Ok(json!([{"name": "chat"}]));
        let (outputs, exit) = self.run("eval", json!({ "code": [code] }), answer);
        (texts(&outputs), exit)
    }
}

fn frames(bytes: &[u8]) -> Vec<Output> {
    let mut reader = Reader::default();
    reader.push(bytes);
    let mut outputs = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        outputs.push(serde_json::from_value(frame).unwrap());
    }
    outputs
}

fn texts(outputs: &[Output]) -> String {
    let lines: Vec<String> = outputs
        .iter()
        .map(|output| match output {
            Output::Text { text, .. } => text.clone(),
            Output::Error { error } => format!("error: {}", error.message),
            other => serde_json::to_string(other).unwrap(),
        })
        .collect();
    lines.join("\n")
}

#[test]
fn console_lines_print_what_they_come_to() {
    let mut bench = Bench::new();
    for (code, expected) in [
        ("1 + 1", "2"),
        ("'a', nil, {2}", "\"a\"\tnil\t{ 2 }"),
        ("local x = 5", ""),
        ("x * 2", "10"),
        ("x = x + 1", ""),
        ("x", "6"),
        ("do local hidden = 1 end", ""),
        ("hidden", "nil"),
        ("function double(n) return 2 * n end", ""),
        ("double(x)", "12"),
        ("local t = {} -- a comment", ""),
        ("t", "{}"),
        ("return 7", "7"),
        ("local y = 1 return y", "1"),
        ("print('hello', 1)", "hello\t1"),
        ("", ""),
        ("-- only a comment", ""),
        ("socketley.list()", "NAME\nchat"),
        ("coroutine.wrap(function() return #socketley.list() end)()", "1"),
        ("pcall(socketley.list)", "true\t{ { name = \"chat\" } }"),
        ("json.encode(socketley.list())", "\"[{\\\"name\\\":\\\"chat\\\"}]\""),
        ("debug", "nil"),
        ("io", "nil"),
        ("os.execute", "nil"),
        ("loadstring", "nil"),
        ("load(string.dump(function() end))", "nil\t\"attempt to load chunk with wrong mode\""),
        ("xpcall(error, function(e) return 'caught ' .. e end, 'it')", "false\t\"caught it\""),
    ] {
        assert_eq!(bench.eval(code), (expected.to_string(), Some(0)), "{code}");
    }
}

#[test]
fn console_errors_say_where() {
    let mut bench = Bench::new();
    for (code, expected) in [
        ("nope.x", "attempt to index global 'nope' (a nil value)"),
        ("error('boom')", "console:1: boom"),
        ("error({})", "table: "),
        ("x y", "'=' expected near 'y'"),
        ("coroutine.yield(1)", "attempt to yield from outside a coroutine"),
        ("require 'os'", "module \"os\" not found"),
    ] {
        let (text, exit) = bench.eval(code);
        assert!(text.contains(expected), "{code}: {text}");
        assert!(!text.contains("[socketley]"), "{code}: {text}");
        assert_eq!(exit, Some(1), "{code}");
    }
    for code in ["x =", "1 +", "for i = 1, 2 do", "f(", "[[", "--[[ never ends"] {
        assert_eq!(bench.eval(code), (format!("error: the code isn't complete: {code}"), Some(2)));
    }
    let (text, _) = bench.eval("function f() error('deep') end function g() f() end g()");
    assert!(text.contains("stack traceback:\n") && text.contains("in function 'f'"), "{text}");
}

#[test]
fn a_console_cannot_break_the_commands() {
    let mut bench = Bench::new();
    bench.eval("for k in pairs(string) do string[k] = nil end socketley.list = nil");
    assert_eq!(bench.eval("_G.type = nil").1, Some(0));
    assert!(bench.eval("getmetatable('').__index = nil").0.contains("attempt to index"));
    bench.session = bench.vm.new_session().unwrap();
    assert_eq!(bench.eval("('x'):rep(3)").0, "\"xxx\"");
    assert_eq!(bench.eval("#socketley.list()").0, "1");
}

#[test]
fn endless_loops_end() {
    let mut bench = Bench::new();
    for code in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(error, function() while true do end end) end",
        "local c = coroutine.wrap(function() while true do end end) while true do pcall(c) end",
        "setmetatable({}, { __index = function(t, k) return t[k] end }).x",
    ] {
        let (text, exit) = bench.eval(code);
        assert!(text.contains("time budget") || text.contains("overflow"), "{code}: {text}");
        assert_eq!(exit, Some(1), "{code}");
        assert_eq!(bench.eval("1 + 1").0, "2", "after {code}");
    }
}

#[test]
fn memory_is_bounded() {
    let mut bench = Bench::new();
    let (text, exit) =
        bench.eval("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end");
    assert!(text.contains("not enough memory"), "{text}");
    assert_eq!(exit, Some(1));
    assert_eq!(bench.eval("1 + 1").0, "2");
    assert!(bench.eval("('x'):rep(1e9)").0.contains("not enough memory"));
    assert_eq!(bench.eval("1 + 1").0, "2");
}

#[test]
fn long_output_waits_for_its_reader() {
    let mut bench = Bench::new();
    let run =
        bench.start("eval", json!({ "code": ["for i = 1, 1000 do print(('x'):rep(1000)) end"] }));
    let effects = bench.vm.take_effects();
    assert!(matches!(effects.last(), Some(Effect::Drain { .. })), "it waits");
    let Effect::Frames { bytes, .. } = &effects[0] else { panic!("frames come first") };
    assert!(bytes.len() < CONTROL_RUN_OUTPUT_BYTES + 2000);
    bench.vm.cancel(run);
    bench.vm.on_drained(run);
    assert!(bench.vm.take_effects().is_empty(), "a cancelled run never goes on");
}

#[test]
fn completion_walks_names_without_running_anything() {
    let mut bench = Bench::new();
    bench.eval("local account = { balance = 1, bank = {} }");
    bench.eval("trap = setmetatable({ plain = 1 }, { __index = function() error('ran') end })");
    for (line, expected) in [
        ("prin", json!(["print"])),
        ("x = account.ba", json!(["account.balance", "account.bank"])),
        ("acc", json!(["account"])),
        ("socketley.reload_", json!(["socketley.reload_lua"])),
        ("trap.pl", json!(["trap.plain"])),
        ("trap.nope.x", json!([])),
        ("string.re", json!(["string.rep", "string.reverse"])),
        ("nothing.at", json!([])),
    ] {
        let none = |_: &str, _: &Value| Ok(Value::Null);
        let (outputs, _) = bench.run("complete", json!({ "line": line }), none);
        assert_eq!(outputs, [Output::Json { json: expected }], "{line}");
    }
}
