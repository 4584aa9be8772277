//! Every snippet of Lua in the library's heads and in the README runs as it is printed, in the test command.
//!
//! A snippet leaves out what a reader has anyway: each has a frame here that supplies it and judges what came of it. A
//! snippet without a frame, a frame without a snippet, and an output that isn't as its `-->` says fail.

use std::path::Path;

use super::{Folder, failures};

/// What a snippet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// Lines of a handler: the body of a case, between `before` and `after`.
    Handler,
    /// The end of an app's file; `after` is the case.
    App,
    /// A file of tests about the app.
    Tests,
    /// One about the daemon itself: `tests/e2e/examples.rs` runs it there.
    Daemon,
}

struct Frame {
    /// The file, and which of its snippets.
    of: (&'static str, usize),
    is: As,
    /// The app, or its beginning.
    app: &'static str,
    before: &'static str,
    after: &'static str,
}

const fn frame(file: &'static str, number: usize, is: As) -> Frame {
    Frame { of: (file, number), is, app: "", before: "", after: "" }
}

const CACHE: &str = "cache 'db' { port = 6379 }\n";

/// A handler's `http` whose https is answered by stubs, which don't speak it.
const PLAIN_HTTP: &str = "
local real = http
local http = setmetatable({ get = function(to, options) return real.get((to:gsub('^https', 'http')), options) end },
  { __index = real })
t.stub('http://example.org/users/7', { json = { name = 'ada' } })
";

const TEST_APP: &str = "
local chat = server 'chat' { port = 9000, on_connect = function(conn) conn:send 'hi' end,
  on_message = function(conn, line) conn:send('ann: ' .. line) end }
server 'web' { port = 8000, routes = { ['GET /health'] = 'ok' } }
every('30s', function() chat:broadcast 'tick' end)
";

fn frames() -> Vec<Frame> {
    let mut all = library();
    all.extend(library_of_the_web());
    all.extend(readme());
    all
}

fn library() -> Vec<Frame> {
    vec![
        Frame {
            before: "os.getenv = function(name) return name == 'SESSION_SECRET' and 'hush' or nil end",
            after: "t.expect({ port, secret }):equals { 9000, 'hush' }",
            ..frame("stdlib/env.lua", 0, As::Handler)
        },
        Frame {
            after: "t.expect(printed[2]):equals 'ID\\n1\\n2'",
            ..frame("stdlib/inspect.lua", 0, As::Handler)
        },
        frame("stdlib/regex.lua", 0, As::Handler),
        Frame {
            before: "t.stub('http://up.example/', { body = 'up' })
              local address, db = 'http://up.example/', { get = function(_, key) return key end }",
            after: "t.expect(res.body):equals 'up' t.expect({ reply, problem }):equals { 'key' }",
            ..frame("stdlib/retry.lua", 0, As::Handler)
        },
        frame("stdlib/socketley.lua", 0, As::Daemon),
        Frame {
            app: "cache 'db' { port = 6379 }
              server 'pages' { port = 8081, routes = { ['GET /a'] = 'page a', ['GET /b'] = 'page b' } }",
            before: "local done = {}
              local function slow() sleep '1s' return 'slow' end
              local function work(job) done[#done + 1] = job end",
            after: "t.expect(pages):equals { 'page a', 'page b' } t.expect(answer):equals 'slow'
              jobs:send 'one' jobs:send 'two' sleep '1ms'
              t.expect(#done):equals(2) t.expect(cache.db:get 'n'):equals '1' jobs:close()",
            ..frame("stdlib/task.lua", 0, As::Handler)
        },
        Frame { app: TEST_APP, ..frame("stdlib/test.lua", 0, As::Tests) },
        frame("stdlib/time.lua", 0, As::Handler),
        Frame {
            before: "local wrote, fs = {}, {}
              function fs.write(path, text) wrote[#wrote + 1] = path .. ' ' .. text end",
            after: "save 'a' save 'b' t.advance '60s'
              t.expect(wrote):equals { 'draft.txt b' }
              local count = 0
              for _, line in ipairs(t.logs()) do if line:find 'tick' then count = count + 1 end end
              t.expect(count >= 9 and count <= 10, 'ticks: ' .. count):equals(true)",
            ..frame("stdlib/timer.lua", 0, As::Handler)
        },
        frame("stdlib/url.lua", 0, As::Handler),
        Frame {
            after: "for _, id in ipairs(printed) do t.expect(id):matches '^%x+%-%x+%-%x+%-%x+%-%x+$' end
              t.expect({ #printed, #printed[1], printed[1]:sub(15, 15), printed[2]:sub(15, 15) })
                :equals { 2, 36, '4', '7' }",
            ..frame("stdlib/uuid.lua", 0, As::Handler)
        },
    ]
}

fn library_of_the_web() -> Vec<Frame> {
    vec![
        Frame {
            after: "local res = t.request('web', 'GET', '/users/7')
              t.expect({ res:json().id, res.headers['x-served-by'] }):equals { '7', 'socketley' }",
            ..frame("stdlib/http.lua", 0, As::App)
        },
        Frame {
            before: "t.stub('http://pieces.example/', { body = ('x'):rep(100) })
              local address = 'http://pieces.example/'",
            after: "t.expect(printed[1]):equals '200  application/json  ada'
              local sum = 0
              for index = 2, #printed do sum = sum + tonumber(printed[index]) end
              t.expect(sum):equals(100)",
            ..frame("stdlib/http/client.lua", 0, As::Handler)
        },
        Frame {
            after: "local text = t.request('web', 'GET', '/metrics').body
              t.expect(text):contains 'app_requests_total{path=\"/\"} 1'
              t.expect(text):contains 'app_seconds_count 1'",
            ..frame("stdlib/metrics.lua", 0, As::App)
        },
        Frame {
            after: "t.expect(t.request('api', 'GET', '/').status):equals(401)
              local headers = { Authorization = 'Basic ' .. base64.encode 'ada:secret',
                Origin = 'https://example.org' }
              local res = t.request('api', 'GET', '/', { headers = headers })
              t.expect(res.body):equals 'hello'
              t.expect(res.headers['x-request-id']):is_truthy()
              t.expect(res.headers['access-control-allow-origin']):equals 'https://example.org'",
            ..frame("stdlib/middleware.lua", 0, As::App)
        },
        Frame {
            app: CACHE,
            before: "spawn(function() sleep '1s' redis.connect():publish('news', 'extra') end)",
            after: "t.expect({ value, replies[1], replies[2], channel, message })
                :equals { 'hello', 1, 'hello', 'news', 'extra' }",
            ..frame("stdlib/redis.lua", 0, As::Handler)
        },
        Frame {
            after: "local first = t.request('web', 'GET', '/')
              t.expect(first.body):equals 'visit 1'
              local cookie = first.headers['set-cookie']:match '^[^;]+'
              t.expect(t.request('web', 'GET', '/', { headers = { Cookie = cookie } }).body):equals 'visit 2'
              t.expect(t.request('web', 'GET', '/').body):equals 'visit 1'",
            ..frame("stdlib/session.lua", 0, As::App)
        },
    ]
}

fn readme() -> Vec<Frame> {
    vec![
        Frame {
            after: "local ann = t.connect 'visits' ann:send 'ann' ann:send 'bob' ann:send 'ann'
              t.expect(ann:messages()):equals { 'ann: visit 1', 'bob: visit 1', 'ann: visit 2' }",
            ..frame("README.md", 0, As::App)
        },
        Frame {
            app: "local function seen(req) return { json = { path = req.path, gate = req:header 'x-gate',
                ip = req:header 'x-ip' } } end
              for index = 1, 2 do server('api' .. index) { port = 9000 + index, routes = {
                ['GET /health'] = 'ok', ['/*'] = seen } } end
              server 'web' { port = 9003, routes = { ['GET /health'] = 'ok', ['/*'] = 'web' } }\n",
            after: "local api = t.request('gate', 'GET', '/api/x')
              t.expect(api:json()):equals { path = '/x', gate = '1', ip = '127.0.0.1' }
              t.expect(api.headers.server):is_nil()
              local old = t.request('gate', 'GET', '/old')
              t.expect({ old.status, old.headers.location }):equals { 302, '/' }
              t.expect(t.request('gate', 'GET', '/x').body):equals 'web'",
            ..frame("README.md", 1, As::App)
        },
        Frame {
            app: CACHE,
            after: "cache.db:hset('user:7', 'name', 'ada')
              t.expect(t.request('web', 'GET', '/health').body):equals 'ok'
              t.expect(t.request('web', 'GET', '/users/7'):json()):equals { name = 'ada' }
              local put = t.request('web', 'PUT', '/upload', { body = ('x'):rep(100000) })
              t.expect({ put.status, put:json() }):equals { 201, { bytes = 100000 } }
              local other = t.request('web', 'GET', '/none')
              t.expect({ other.status, other.body, other.headers['x-a'] })
                :equals { 418, 'short and stout', 'b' }",
            ..frame("README.md", 2, As::App)
        },
        Frame {
            app: "server 'far' { port = 9000, on_message = function(conn) conn:send 'PONG' end }",
            before: "local real, asked = tcp, nil
              local tcp = { connect = function(host, port, options)
                asked = { host, port, options }
                return real.connect('127.0.0.1', 9000, { timeout = options.timeout })
              end }",
            after: "t.expect(asked):equals { 'example.org', 443, { tls = true, timeout = '5s' } }
              t.expect(line):equals 'PONG'",
            ..frame("README.md", 3, As::Handler)
        },
        Frame {
            app: CACHE,
            before: "cache.db:set('greeting', 'hello')",
            after: "t.expect(printed[1]):equals '200  application/json  ada' t.expect(value):equals 'hello'",
            ..frame("README.md", 4, As::Handler)
        },
        Frame { app: TEST_APP, ..frame("README.md", 5, As::Tests) },
    ]
}

/// The fenced blocks of Lua in a text; those of a Lua file stand in its comments.
fn snippets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let plain =
        |line| str::strip_prefix(line, "---").map_or(line, |it| it.strip_prefix(' ').unwrap_or(it));
    let mut lines = text.lines().map(plain);
    while let Some(line) = lines.next() {
        if line == "```lua" {
            let block = lines.by_ref().take_while(|line| *line != "```");
            found.push(block.flat_map(|line| [line, "\n"]).collect());
        }
    }
    found
}

/// What each `print` of a snippet shows, where its line says so.
fn shown(snippet: &str) -> String {
    let prints = snippet.lines().filter(|line| line.contains("print("));
    prints
        .enumerate()
        .filter_map(|(index, line)| {
            let (_, shown) = line.split_once("--> ")?;
            Some(format!("t.expect(printed[{}]):equals {:?}\n", index + 1, shown.trim()))
        })
        .collect()
}

const HEAD: &str = "local t = require 'socketley.test'
local printed = {}
local function print(...)
  local words = { ... }
  for index = 1, select('#', ...) do words[index] = tostring(words[index]) end
  printed[#printed + 1] = table.concat(words, '  ')
end
";

impl Frame {
    /// The files of a run of its snippet: the app, and the tests.
    fn files(&self, snippet: &str) -> (String, String) {
        let load =
            if self.app.is_empty() && self.is != As::App { "" } else { "t.load 'chat.lua'\n" };
        let case = |body: &str| format!("{HEAD}{load}t.it('runs', function()\n{body}\nend)\n");
        match self.is {
            As::Handler => {
                let plain = if snippet.contains("https://") { PLAIN_HTTP } else { "" };
                let (before, after) = (self.before, self.after);
                (
                    self.app.to_owned(),
                    case(&format!("{plain}{before}\n{snippet}\n{}{after}", shown(snippet))),
                )
            }
            As::App => (format!("{}{snippet}", self.app), case(self.after)),
            As::Tests => (self.app.to_owned(), snippet.to_owned()),
            As::Daemon => Default::default(),
        }
    }
}

/// The files that may have snippets.
fn documented() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = vec!["README.md".to_owned()];
    for folder in ["stdlib", "stdlib/http"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().flatten();
        let files =
            entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy()));
        names.extend(files.filter(|name| name.ends_with(".lua")));
    }
    names.sort();
    names
}

#[test]
fn every_snippet_runs_as_it_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut frames = frames();
    let mut problems = Vec::new();
    for file in documented() {
        let text = std::fs::read_to_string(root.join(&file)).unwrap();
        let found = snippets(&text);
        assert_eq!(found.len(), text.matches("```lua").count(), "{file}: a block isn't closed");
        if found.is_empty() {
            problems.push(format!("{file} opens without an example"));
        }
        for (number, snippet) in found.iter().enumerate() {
            let Some(at) = frames.iter().position(|frame| frame.of == (file.as_str(), number))
            else {
                problems.push(format!("{file}: snippet {number} has no frame here"));
                continue;
            };
            let frame = frames.swap_remove(at);
            let (app, tests) = frame.files(snippet);
            if frame.is == As::Daemon {
                continue;
            }
            let name = format!("snippet-{}-{number}", file.replace(['/', '.'], "-"));
            let folder = Folder::new(&name, &[("chat.lua", &app), ("runs_test.lua", &tests)]);
            std::fs::create_dir(folder.0.join("public")).unwrap();
            match failures(&folder.0.join("runs_test.lua")) {
                Ok((0, _)) => problems.push(format!("{file}: snippet {number}: no case")),
                Ok((_, failed)) => problems.extend(
                    failed.into_iter().map(|text| format!("{file}: snippet {number}: {text}")),
                ),
                Err(error) => problems.push(format!("{file}: snippet {number}: {error}")),
            }
        }
    }
    let unused = frames.iter().map(|frame| format!("{:?} has a frame, but isn't there", frame.of));
    problems.extend(unused);
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn snippets_and_what_they_show_are_found() {
    let text = "--- x\n---\n--- ```lua\n--- local a = 1\n---\n---   print(a)   --> 1\n--- ```\n";
    assert_eq!(snippets(text), ["local a = 1\n\n  print(a)   --> 1\n"]);
    assert_eq!(shown(&snippets(text)[0]), "t.expect(printed[1]):equals \"1\"\n");
}
