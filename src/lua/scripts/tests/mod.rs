//! Scripts on a store, as tables: a script, its keys and arguments, its reply.

mod codecs;
mod commands;
mod interrupting;

use super::*;
use crate::store::{Session, Settings, Store, table};

/// A client of a store that runs scripts.
pub(super) struct Client {
    pub(super) store: Store,
    pub(super) session: Session,
    pub(super) now_ms: u64,
}

impl Client {
    pub(super) fn new() -> Client {
        let settings = Settings { seed: 1, scripting: Some(make), ..Settings::default() };
        Client { store: Store::new(&settings), session: Session::new(1), now_ms: 1_000_000 }
    }

    /// Runs a command; its reply with a space for each line end.
    pub(super) fn run(&mut self, words: &[&str]) -> String {
        let mut buffer = crate::store::ArgsBuffer::default();
        words.iter().for_each(|word| buffer.push(word.as_bytes()));
        let args = buffer.args();
        let id = table().resolve(args);
        let hash = table().key_hash(id, args, &self.store.keyspace.hasher());
        let mut out = Vec::new();
        self.store.execute(&mut self.session, id, args, hash, self.now_ms, &mut out);
        String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_owned()
    }

    pub(super) fn eval(&mut self, script: &str) -> String {
        self.run(&["EVAL", script, "0"])
    }
}

/// The reply of each script, with its name left out of errors.
fn check(rows: &[(&str, &str)]) {
    let mut client = Client::new();
    for (script, expected) in rows {
        // Twice and again: a script that is compiled answers the same.
        for _ in 0..3 {
            client.run(&["FLUSHALL"]);
            let reply = client.eval(script);
            let reply = reply.split(" script: ").next().unwrap();
            assert_eq!(reply, *expected, "{script}");
        }
    }
}

#[test]
fn values_become_replies() {
    check(&[
        ("return 1", ":1"),
        ("return 3.99", ":3"),
        ("return -3.99", ":-3"),
        ("return 1e300", ":-9223372036854775808"),
        ("return 'a\\r\\nb'", "$4 a b"),
        ("return true", ":1"),
        ("return false", "$-1"),
        ("return nil", "$-1"),
        ("", "$-1"),
        (
            "return print",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'print'",
        ),
        ("return {1,'a',true,false,nil,5}", "*4 :1 $1 a :1 $-1"),
        ("return {}", "*0"),
        ("return {ok='fine'}", "+fine"),
        ("return {err='FOO bar\\nx'}", "-FOO bar x"),
        ("return {err=1}", "*0"),
        ("return {double=3.5}", "$3 3.5"),
        ("return {map={a=1}}", "*2 $1 a :1"),
        ("return {set={a=true}}", "*1 $1 a"),
        ("return {big_number='123'}", "$3 123"),
        ("return {verbatim_string={format='txt',string='x'}}", "$1 x"),
        ("return function() end", "$-1"),
        ("return redis.status_reply('hi')", "+hi"),
        ("return redis.error_reply('My Err')", "-My Err"),
        ("return redis.error_reply('-MYERR other')", "-MYERR other"),
        ("return redis.error_reply()", "-ERR wrong number or type of arguments"),
    ]);
}

#[test]
fn commands_are_called() {
    check(&[
        ("return redis.call('set','a',1)", "+OK"),
        ("return redis.call('get','a')", "$-1"),
        ("return type(redis.call('get','a'))", "$7 boolean"),
        ("redis.call('set','n',10e10) return redis.call('get','n')", "$12 100000000000"),
        ("redis.call('set','n',0.1) return redis.call('get','n')", "$19 0.10000000000000001"),
        ("return redis.call('incr','s1')..redis.call('set','s1','a').ok", "$3 1OK"),
        (
            "redis.call('rpush','l','a','b','c','d','e','f','g',8) return redis.call('lrange','l',0,-1)",
            "*8 $1 a $1 b $1 c $1 d $1 e $1 f $1 g $1 8",
        ),
        ("redis.call('hset','h','f','v') return redis.call('hgetall','h')", "*2 $1 f $1 v"),
        (
            "redis.call('hset','h','f','v') redis.setresp(3) return redis.call('hgetall','h').map.f",
            "$1 v",
        ),
        ("redis.setresp(3) return redis.call('get','nokey') == nil", ":1"),
        (
            "redis.setresp(3) redis.call('zadd','z',1.5,'m') return redis.call('zscore','z','m').double * 2",
            ":3",
        ),
        (
            "redis.call('set','s','x') return redis.pcall('incr','s').err",
            "$43 ERR value is not an integer or out of range",
        ),
        (
            "redis.call('set','s','x') return redis.pcall('incr','s')",
            "-ERR value is not an integer or out of range",
        ),
        (
            "redis.call('set','s','x') local ok, e = pcall(redis.call,'incr','s') return {tostring(ok), e}",
            "*2 $5 false $43 ERR value is not an integer or out of range",
        ),
        ("return redis.call('select',3)", "+OK"),
        ("return redis.call('time')[1]", "$4 1000"),
        ("return redis.sha1hex('a')", "$40 86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
        ("return redis.acl_check_cmd('set','a','b')", ":1"),
        (
            "return {redis.breakpoint(), redis.replicate_commands(), redis.set_repl(redis.REPL_ALL)}",
            "*2 $-1 :1",
        ),
        ("return redis.call('zrange','nokey',0,-1)", "*0"),
    ]);
}

#[test]
fn mistakes_have_redis_texts() {
    check(&[
        ("return redis.call('nosuch')", "-ERR Unknown Redis command called from script"),
        ("return redis.call('get')", "-ERR Wrong number of args calling Redis command from script"),
        ("return redis.call('multi')", "-ERR This Redis command is not allowed from script"),
        (
            "return redis.call('eval','return 1',0)",
            "-ERR This Redis command is not allowed from script",
        ),
        ("return redis.call('object','nosuch')", "-ERR Unknown Redis command called from script"),
        (
            "return redis.call()",
            "-ERR Please specify at least one argument for this redis lib call",
        ),
        (
            "return redis.call({})",
            "-ERR Lua redis lib command arguments must be strings or integers",
        ),
        (
            "return redis.call('set','a',nil)",
            "-ERR Lua redis lib command arguments must be strings or integers",
        ),
        ("error('boom')", "-ERR user_script:1: boom"),
        ("error({err='My err'})", "-My err"),
        ("error({1})", "-ERR unknown error"),
        ("error()", "-ERR nil"),
        ("local x = nil; x()", "-ERR user_script:1: attempt to call local 'x' (a nil value)"),
        (
            "return {",
            "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'",
        ),
        ("return redis.setresp(4)", "-ERR RESP version must be 2 or 3."),
        ("return redis.log('a','b')", "-ERR First argument must be a number (log level)."),
        (
            "return redis.acl_check_cmd('setx','a')",
            "-ERR Invalid command passed to redis.acl_check_cmd()",
        ),
        ("coroutine.yield(1)", "-ERR attempt to yield across metamethod/C-call boundary"),
        ("local a = {} a[1]=a return a", &deep()),
        ("return string.rep('x', 1e9)", "-ERR not enough memory"),
        ("return 1", ":1"),
        (
            "#!lua flags=no-writes\nreturn redis.call('set','a',1)",
            "-ERR Write commands are not allowed from read-only scripts.",
        ),
        ("#!lua flags=foo\nreturn 1", "-ERR Unexpected flag in script shebang: foo"),
    ]);
    let mut client = Client::new();
    let reply = client.eval("local x = 1\nreturn redis.call('get')");
    assert!(reply.ends_with(", on @user_script:2."), "{reply}");
    assert!(reply.contains(" script: "), "{reply}");
}

/// What a table in itself becomes.
fn deep() -> String {
    format!("{}-ERR reached lua stack limit", "*1 ".repeat(1000))
}

#[test]
fn nothing_can_be_changed_or_reached() {
    let readonly = "-ERR Attempt to modify a readonly table";
    let placed = "-ERR user_script:1: Attempt to modify a readonly table";
    check(&[
        ("foo = 1", placed),
        ("_G.foo = 1", placed),
        ("_G = {}", placed),
        ("KEYS = 1", placed),
        ("redis = function() return 1 end", placed),
        ("redis.call = function() return 1 end", placed),
        ("cjson.encode = nil", placed),
        ("string.format = nil", placed),
        ("rawset(_G,'a',1)", readonly),
        ("setmetatable(_G,{})", readonly),
        ("table.insert(string, 1)", readonly),
        ("local g = getmetatable(_G) g.__index = {}", placed),
        ("getmetatable('').__index = 1", placed),
        ("return type(getmetatable(''))", "$5 table"),
        (
            "local t = {} table.insert(t, 5) rawset(t, 2, 6) setmetatable(t, {}) return t",
            "*2 :5 :6",
        ),
        ("return loadstring('return 5')()", ":5"),
        ("local f = loadstring('\\27LJ') return type(f)", "$3 nil"),
        ("return {type(rawget(_G, 'io')), type(string.dump)}", "*2 $3 nil $3 nil"),
        ("local n = 0 for k in pairs(redis) do n = n + 1 end return n > 10", ":1"),
        ("return ('x'):rep(2):upper()", "$2 XX"),
        (
            "return {math.mod(7,3), table.getn({1,2}), #string.format('%5s','a'), math.pow(2,3)}",
            "*4 :1 :2 :5 :8",
        ),
        (
            "local co = coroutine.wrap(function() coroutine.yield(1) return 2 end) return {co(), co()}",
            "*2 :1 :2",
        ),
        ("return xpcall(function() error('x') end, function(e) return e end)", "$-1"),
        (
            "return {bit.tohex(255), bit.band(7,3), bit.lshift(1,31)}",
            "*3 $8 000000ff :3 :-2147483648",
        ),
    ]);
    for name in [
        "io", "os", "ffi", "require", "dofile", "loadfile", "debug", "package", "jit", "print",
        "newproxy", "getfenv", "setfenv", "module",
    ] {
        check(&[(
            &format!("return {name}"),
            &format!(
                "-ERR user_script:1: Script attempted to access nonexistent global variable '{name}'"
            ),
        )]);
    }
}

const KEYS: &[(&[&str], &str)] = &[
    (&["EVAL", "return {KEYS[1],ARGV[1],#KEYS,#ARGV}", "1", "k", "a", "b"], "*4 $1 k $1 a :1 :2"),
    (&["EVAL", "KEYS[1]=5 return KEYS", "1", "a"], "*1 :5"),
    (&["EVAL", "return 1", "a"], "-ERR value is not an integer or out of range"),
    (&["EVAL", "return 1", "-1"], "-ERR Number of keys can't be negative"),
    (&["EVAL", "return 1", "2", "a"], "-ERR Number of keys can't be greater than number of args"),
    (&["EVALSHA", "abc", "0"], "-NOSCRIPT No matching script. Please use EVAL."),
    (&["SCRIPT", "LOAD", "return 7"], "$40 59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9"),
    (&["EVALSHA", "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9", "0"], ":7"),
    (&["EVALSHA", "59B6AB2FBE0EE4B25733DE0F62E6CDA4899EF8E9", "0"], ":7"),
    (&["EVALSHA_RO", "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9", "0"], ":7"),
    (&["SCRIPT", "EXISTS", "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9", "a"], "*2 :1 :0"),
    (
        &["EVAL_RO", "return redis.call('set','a',1)", "0"],
        "-ERR Write commands are not allowed from read-only \
          scripts. script: 6b86de92f2b4e8a1fa4cc6c8e6a0d1a3ea5d3b9b, on @user_script:1.",
    ),
    (
        &["EVAL_RO", "#!lua\nreturn 1", "0"],
        "-ERR Can not execute a script with write flag using *_ro command.",
    ),
    (&["SCRIPT", "KILL"], "-NOTBUSY No scripts in execution right now."),
    (&["SCRIPT", "FLUSH", "foo"], "-ERR SCRIPT FLUSH only support SYNC|ASYNC option"),
    (&["SCRIPT", "FLUSH"], "+OK"),
    (
        &["EVALSHA", "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9", "0"],
        "-NOSCRIPT No matching script. Please use EVAL.",
    ),
    (&["MULTI"], "+OK"),
    (&["EVAL", "return redis.call('incr','n')", "0"], "+QUEUED"),
    (&["EXEC"], "*1 :1"),
    (&["SELECT", "2"], "+OK"),
    (&["EVAL", "redis.call('select', 5) return redis.call('set','x',1)", "0"], "+OK"),
    (&["EXISTS", "x"], ":0"),
];

#[test]
fn keys_arguments_and_the_cache() {
    let mut client = Client::new();
    for (words, expected) in KEYS {
        let reply = client.run(words);
        let strip = |text: &str| text.split(" script: ").next().unwrap().to_owned();
        assert_eq!(strip(&reply), strip(expected), "{words:?}");
    }
}

const LIBRARY: &str = "#!lua name=b
redis.register_function('f1', function(keys, args) return {keys, args} end)
redis.register_function{function_name='f2', callback=function() return redis.call('set','x',1) end,
  flags={'no-writes'}, description='does'}
redis.register_function{function_name='f3', callback=function() return redis.register_function('x',1) end}
redis.register_function{function_name='f4', callback=function(k, a) return a[1] + 5 end}
redis.register_function{function_name='f5', callback=function() x = 1 end}
redis.register_function{function_name='f6', callback=function() return KEYS[1] end}
local count = 0
redis.register_function('f7', function() count = count + 1 return string.format('%03d', count) end)";

/// An error of a library's top level.
macro_rules! registering {
    ($text:literal $(,)?) => {
        concat!("-ERR Error registering functions: ERR ", $text)
    };
}

const FUNCTIONS: &[(&[&str], &str)] = &[
    (&["FUNCTION", "LOAD", LIBRARY], "$1 b"),
    (&["FUNCTION", "LOAD", LIBRARY], "-ERR Library 'b' already exists"),
    (&["FUNCTION", "LOAD", "REPLACE", LIBRARY], "$1 b"),
    (&["FCALL", "f1", "1", "a", "b"], "*2 *1 $1 a *1 $1 b"),
    (
        &["FCALL", "f2", "0"],
        "-ERR Write commands are not allowed from read-only scripts. script: f2, on \
          @user_function:3.",
    ),
    (&["FCALL_RO", "f1", "0"], "-ERR Can not execute a script with write flag using *_ro command."),
    (
        &["FCALL", "f3", "0"],
        "-ERR user_function:5: attempt to call field 'register_function' (a nil value) script: \
          f3, on @user_function:5.",
    ),
    (&["FCALL", "F4", "0", "3"], ":8"),
    (
        &["FCALL", "f5", "0"],
        "-ERR user_function:7: Attempt to modify a readonly table script: f5, on \
          @user_function:7.",
    ),
    (
        &["FCALL", "f6", "0"],
        "-ERR user_function:8: Script attempted to access nonexistent global variable 'KEYS' \
          script: f6, on @user_function:8.",
    ),
    (&["FCALL", "f7", "0"], "$3 001"),
    (&["FCALL", "f7", "0"], "$3 002"),
    (&["FCALL", "nope", "0"], "-ERR Function not found"),
    (&["FCALL", "f1", "x"], "-ERR Bad number of keys provided"),
    (&["FUNCTION", "DELETE", "c"], "-ERR Library not found"),
    (&["FUNCTION", "LIST", "foo"], "-ERR Unknown argument foo"),
    (&["FUNCTION", "LIST", "LIBRARYNAME", "z*"], "*0"),
    (&["FUNCTION", "RESTORE", "xxxx"], "-ERR DUMP payload version or checksum are wrong"),
    (&["FUNCTION", "FLUSH"], "+OK"),
    (&["FCALL", "f1", "0"], "-ERR Function not found"),
];

const LIBRARIES: &[(&str, &str)] = &[
    (
        "redis.call('ping')",
        registering!(
            "user_function:2: Script attempted to access nonexistent global variable 'call'"
        ),
    ),
    ("x", "-ERR Error compiling function: user_function:2: '=' expected near '<eof>'"),
    ("local x = 1", "-ERR No functions registered"),
    (
        "redis.register_function('f2')",
        registering!(
            "calling redis.register_function with a single argument is only \
          applicable to Lua table (representing named arguments).",
        ),
    ),
    (
        "redis.register_function{function_name='f2'}",
        registering!("redis.register_function must get a callback argument"),
    ),
    (
        "redis.register_function{callback=function() end}",
        registering!("redis.register_function must get a function name argument"),
    ),
    (
        "redis.register_function{function_name='f2', callback=function() end, flags={'foo'}}",
        registering!("unknown flag given"),
    ),
    (
        "redis.register_function{function_name='f2', callback=function() end, foo=1}",
        registering!("unknown argument given to redis.register_function"),
    ),
    (
        "redis.register_function()",
        registering!("wrong number of arguments to redis.register_function"),
    ),
    (
        "redis.register_function('x','y')",
        registering!("second argument to redis.register_function must be a function"),
    ),
    (
        "for i = 1, 2 do redis.register_function('f2', function() end) end",
        registering!("Function already exists in the library"),
    ),
    ("foo = 1", registering!("user_function:2: Attempt to modify a readonly table")),
];

#[test]
fn functions() {
    let mut client = Client::new();
    for (words, expected) in FUNCTIONS {
        assert_eq!(client.run(words), *expected, "{words:?}");
    }
    for (body, expected) in LIBRARIES {
        let library = format!("#!lua name=c\n{body}");
        assert_eq!(client.run(&["FUNCTION", "LOAD", &library]), *expected, "{body}");
    }
}

#[test]
fn functions_are_dumped_and_restored() {
    let mut client = Client::new();
    client.run(&["FUNCTION", "LOAD", LIBRARY]);
    let mut buffer = crate::store::ArgsBuffer::default();
    ["FUNCTION", "DUMP"].iter().for_each(|word| buffer.push(word.as_bytes()));
    let id = table().resolve(buffer.args());
    let mut out = Vec::new();
    client.store.execute(&mut client.session, id, buffer.args(), 0, 0, &mut out);
    let start = out.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let payload = out[start..out.len() - 2].to_vec();
    let restore = |client: &mut Client, policy: &str| {
        let mut buffer = crate::store::ArgsBuffer::default();
        ["FUNCTION", "RESTORE"].iter().for_each(|word| buffer.push(word.as_bytes()));
        buffer.push(&payload);
        buffer.push(policy.as_bytes());
        let id = table().resolve(buffer.args());
        let mut out = Vec::new();
        client.store.execute(&mut client.session, id, buffer.args(), 0, 0, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(restore(&mut client, "append"), "-ERR Library b already exists\r\n");
    assert_eq!(restore(&mut client, "replace"), "+OK\r\n");
    client.run(&["FUNCTION", "FLUSH"]);
    assert_eq!(restore(&mut client, "append"), "+OK\r\n");
    client.run(&["FUNCTION", "DELETE", "b"]);
    client.run(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=other\nredis.register_function('f1', function() end)",
    ]);
    assert_eq!(restore(&mut client, "append"), "-ERR Function f1 already exists\r\n");
    assert_eq!(restore(&mut client, "flush"), "+OK\r\n");
    assert_eq!(client.run(&["FCALL", "f1", "1", "a"]), "*2 *1 $1 a *0");
}

#[test]
fn compiled_scripts_answer_the_same() {
    let mut client = Client::new();
    client.run(&["SET", "k", "v"]);
    let sha = client.run(&["SCRIPT", "LOAD", "return redis.call('get', KEYS[1])"]);
    let sha = sha.split(' ').nth(1).unwrap().to_owned();
    for round in 0..1000 {
        let key = if round % 7 == 0 { "none" } else { "k" };
        let expected = if round % 7 == 0 { "$-1" } else { "$1 v" };
        assert_eq!(client.run(&["EVALSHA", &sha, "1", key]), expected);
    }
    assert_eq!(
        client.eval("for i = 1, 1000 do redis.call('incr', 'n') end return redis.call('get', 'n')"),
        "$4 1000"
    );
    assert_eq!(
        client.eval(
            "local s = 0 for i = 1, 1000 do s = s + redis.call('incrby', 'm', i) end return s"
        ),
        ":167167000"
    );
}

/// Redis's rules: what needs memory is refused unless the script has written already or says that it knows.
#[test]
fn without_memory_scripts_may_not_begin_to_write() {
    let mut client = Client::new();
    client.run(&["SET", "k", "v"]);
    client.run(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=l\nredis.register_function('f', function() return 1 end)",
    ]);
    client.run(&["CONFIG", "SET", "maxmemory", "1"]);
    if crate::store::meter::balance() == 0 {
        return;
    }
    let refused = "-OOM command not allowed when used memory > 'maxmemory'.";
    let not_started = "-OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
    for (script, expected) in [
        ("return redis.call('get', 'k')", "$1 v"),
        ("return redis.call('set', 'k', 'w')", refused),
        (
            "return redis.pcall('set', 'k', 'w').err",
            "$55 OOM command not allowed when used memory > 'maxmemory'.",
        ),
        ("redis.call('del', 'k') return redis.call('set', 'k', 'w')", "+OK"),
        ("#!lua\nreturn 1", not_started),
        ("#!lua flags=no-writes\nreturn redis.call('get', 'k')", "$1 w"),
        ("#!lua flags=allow-oom\nreturn redis.call('set', 'k', 'x')", "+OK"),
    ] {
        let reply = client.eval(script);
        assert_eq!(reply.split(" script: ").next().unwrap(), expected, "{script}");
    }
    assert_eq!(client.run(&["FCALL", "f", "0"]), not_started);
    client.run(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(client.eval("return redis.call('set', 'k', 'y')"), "+OK");
    assert_eq!(client.run(&["FCALL", "f", "0"]), ":1");
}

/// Of short runs only some are measured; the others count as those.
#[test]
fn times_of_scripts_are_told() {
    use std::sync::atomic::{AtomicU64, Ordering};
    fn clock() -> u64 {
        static READ: AtomicU64 = AtomicU64::new(0);
        READ.fetch_add(2000, Ordering::Relaxed)
    }
    let settings =
        Settings { seed: 1, scripting: Some(make), clock: Some(clock), ..Settings::default() };
    let mut client = Client { store: Store::new(&settings), ..Client::new() };
    for _ in 0..64 {
        client.eval("return 1");
    }
    client.eval("error('x')");
    let stats = client.run(&["SCRIPT", "STATS"]);
    let rows: Vec<&str> = stats.split("$4 sha1").skip(1).collect();
    let of = |row: &str| {
        row.split(' ').filter(|word| word.starts_with(':')).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(rows[0]), ":64 :0 :128 :2", "{stats}");
    assert_eq!(of(rows[1]), ":1 :1 :2 :2", "{stats}");
}
