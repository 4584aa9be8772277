--- `http` as a client, `redis`, `session`, `middleware`: against servers and a cache of an app.

local t = require "socketley.test"
local it, expect = t.it, t.expect
local time, task = require "socketley.time", require "socketley.task"
t.load "web_app.lua"

local WEB, ODD = "http://127.0.0.1:8080", "http://odd.example"

t.describe("http", function()
  it("gets and posts", function()
    local res = assert(http.get(WEB .. "/plain"))
    expect({ res.status, res.body, res.headers["Content-Type"] }):equals { 200, "hello", "text/plain; charset=utf-8" }
    res = assert(http.post(WEB .. "/echo?x=1", { json = { a = 1 }, query = { y = "z z" } }))
    local seen = res:json()
    expect(seen.method):equals "POST"
    expect(seen.body):equals '{"a":1}'
    expect(seen.type):equals "application/json"
    expect(seen.query):equals { x = "1", y = "z z" }
    expect(http.put(WEB .. "/echo", "text"):json().body):equals "text"
    expect(http.post(WEB .. "/echo", { form = { a = "b c" } }):json().body):equals "a=b%20c"
    expect(http.delete(WEB .. "/echo"):json().method):equals "DELETE"
    expect(http.head(WEB .. "/plain").body):equals ""
    expect(http.get("http://ada:pw@127.0.0.1:8080/echo"):json().token):equals "Basic YWRhOnB3"
    expect(http.get(WEB .. "/nothing").status):equals(404)
  end)
  it("sends and receives in pieces", function()
    local count = 0
    local res = assert(http.request { url = WEB .. "/echo", method = "POST", body = function()
      count = count + 1
      return count <= 3 and "piece" .. count or nil
    end })
    expect(res:json().body):equals "piece1piece2piece3"
    local start, pieces = time.monotonic(), {}
    res = assert(http.get(WEB .. "/pieces", { stream = true, timeout = "2s" }))
    for piece in res:chunks() do
      pieces[#pieces + 1] = piece
    end
    expect(table.concat(pieces)):equals "piece 1\npiece 2\npiece 3\n"
    expect(#pieces >= 3 and time.monotonic() - start >= 3):equals(true)
  end)
  it("undoes gzip and bounds bodies", function()
    expect(#http.get(WEB .. "/gzip").body):equals(250000)
    expect(#http.get(WEB .. "/gzip", { decompress = false }).body < 10000):equals(true)
    expect(select(2, http.get(WEB .. "/gzip", { max_body = 1000 })).code):equals "too_long"
    expect(#http.get(WEB .. "/large").body):equals(400000)
    expect(select(2, http.get(WEB .. "/large", { max_body = 1000 })).code):equals "too_long"
  end)
  it("follows redirects as it should", function()
    local res = http.get(WEB .. "/redirect")
    expect({ res.status, res.body, res.url }):equals { 200, "hello", WEB .. "/plain" }
    expect(http.get(WEB .. "/redirect", { redirects = 0 }).status):equals(302)
    expect(select(2, http.get(WEB .. "/loop")).code):equals "redirects"
    local seen = http.post(WEB .. "/redirect", "body"):json()
    expect({ seen.method, seen.body }):equals { "GET", "" }
    seen = http.post(WEB .. "/again", "body"):json()
    expect({ seen.method, seen.body }):equals { "POST", "body" }
    local away = http.get(WEB .. "/away", { headers = { Authorization = "secret" } }):json()
    expect(away.token, "nobody else sees it"):is_nil()
  end)
  it("keeps its time", function()
    local start = time.monotonic()
    local res, err = http.get(WEB .. "/slow", { timeout = "2s" })
    expect(res):is_nil()
    expect(err.code):equals "timeout"
    expect(time.monotonic() - start <= 2.1):equals(true)
    expect(select(2, task.timeout("1s", http.get, WEB .. "/slow")).code):equals "timeout"
    expect(select(2, http.get "http://127.0.0.1:1/").code):equals "refused"
  end)
  it("understands and refuses odd answers", function()
    for path, raw in pairs {
      ["/close"] = "HTTP/1.0 200 OK\r\n\r\nuntil the end",
      ["/early"] = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
      ["/cut"] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
      ["/chunk"] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
      ["/not"] = "SSH-2.0-OpenSSH\r\n\r\n",
      ["/twice"] = "HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: t\r\n\r\n",
    } do
      t.stub(ODD .. path, { raw = raw })
    end
    expect(http.get(ODD .. "/close").body):contains "until the end"
    expect(http.get(ODD .. "/early").body):equals "ok"
    expect(select(2, http.get(ODD .. "/cut")).code):equals "closed"
    expect(select(2, http.get(ODD .. "/chunk")).code):equals "protocol"
    expect(select(2, http.get(ODD .. "/not")).code):equals "protocol"
    local res = http.get(ODD .. "/twice")
    expect({ res.body, res.headers["X-A"] }):equals { "Wikipedia", "1, 2" }
  end)
  it("says what a script does wrong", function()
    expect(function() http.get(WEB, { tiemout = 1 }) end):fails "tiemout is no option"
    expect(function() http.get(5) end):fails "expected a string"
    expect(function() http.get(WEB, { headers = { ["a b"] = "c" } }) end):fails "header's name"
    expect(function() http.get(WEB, { headers = { a = "b\r\nc" } }) end):fails "line break"
    expect(select(2, http.get "ftp://x/").code):equals "invalid"
    expect(select(2, http.get "nonsense").code):equals "invalid"
  end)
  it("uses connections again, also many at once", function()
    local list = {}
    for index = 1, 20 do
      list[index] = function() return http.get(WEB .. "/plain").body end
    end
    for _ = 1, 3 do
      expect(#assert(task.all(list))):equals(20)
    end
  end)
  it("is answered by stubs", function()
    t.stub("http://api.example/users", { json = { name = "ada" } })
    expect(http.get("http://api.example/users/7"):json().name):equals "ada"
    expect(http.get("http://api.example/else").status):equals(404)
    expect(select(2, http.get "http://unknown.example/").code):equals "not_found"
    expect(t.requests()[1].path):equals "/users/7"
  end)
end)

t.describe("redis", function()
  it("speaks commands", function()
    local db = redis.connect "redis://127.0.0.1:6379"
    expect((db:set("k", "v"))):equals "OK"
    expect((db:get "k")):equals "v"
    expect((db:get "none")):is_nil()
    expect((db:incrby("n", 5))):equals(5)
    expect((db:hset("h", "a", 1.5, "b", "x\r\ny"))):equals(2)
    expect((db:hget("h", "b"))):equals "x\r\ny"
    expect(db:mget("k", "none", "n")):equals { "v", [3] = "5", n = 3 }
    expect((db:call("ECHO", "hi"))):equals "hi"
    local value, err = db:lpush("k", "x")
    expect(value):is_nil()
    expect(err.code):equals "WRONGTYPE"
    expect(function() db:set("k", {}) end):fails "argument"
  end)
  it("pipelines", function()
    local db = redis.connect()
    local replies = db:pipeline(function(p)
      p:set("p", 1)
      p:incr "p"
      p:lpush("p", "x")
      p:get "p"
    end)
    expect({ replies[1], replies[2], redis.is_error(replies[3]), replies[4] }):equals { "OK", 2, true, "2" }
  end)
  it("is a pool", function()
    local db = redis.connect { pool = 3 }
    local list = {}
    for index = 1, 12 do
      list[index] = function() return (db:blpop("queue", 1)) == nil and db:incr "done" end
    end
    local start = time.monotonic()
    assert(task.all(list))
    expect(tonumber((db:get "done"))):equals(12)
    expect(time.monotonic() - start >= 4, "three at a time"):equals(true)
  end)
  it("listens", function()
    local db = redis.connect()
    local sub = assert(db:subscribe("news", "more"))
    local patterns = assert(db:psubscribe "n*")
    expect((db:publish("news", "hello"))):equals(2)
    expect({ sub:receive() }):equals { "news", "hello" }
    expect({ patterns:receive() }):equals { "news", "hello", "n*" }
    expect(select(2, sub:receive "1s").code):equals "timeout"
    sub:close()
    sleep "10ms"
    expect((db:publish("news", "again"))):equals(1)
  end)
  it("says when nobody is there", function()
    expect(select(2, redis.connect("redis://127.0.0.1:1"):get "x").code):equals "refused"
    expect(function() redis.connect "http://x" end):fails "redis://"
    expect(function() redis.connect { prot = 1 } end):fails "no option"
  end)
end)

t.describe("session and middleware", function()
  local function ask(path, headers)
    headers = headers or {}
    headers.Authorization = headers.Authorization or "Basic YWRhOnNlY3JldA=="
    return t.request("guarded", "GET", path, { headers = headers })
  end
  local function cookie_of(res)
    return res.headers["set-cookie"]:match "sid=%x+"
  end
  it("counts visits by cookie, renews and ends", function()
    local first = ask "/"
    expect(first.body):equals "ada 1"
    local cookie = cookie_of(first)
    expect(ask("/", { Cookie = cookie }).body):equals "ada 2"
    expect(ask("/").body):equals "ada 1"
    expect(ask("/", { Cookie = "sid=0000000000000000000000000000000000000000" }).body):equals "ada 1"
    local renewed = ask("/renew", { Cookie = cookie })
    local all = {}
    for _, field in ipairs(renewed.fields) do
      if field[1]:lower() == "set-cookie" then
        all[#all + 1] = field[2]:match "sid=%x+"
      end
    end
    expect(ask("/", { Cookie = all[#all] }).body):equals "ada 3"
    expect(ask("/", { Cookie = cookie }).body, "the old id"):equals "ada 1"
    ask("/end", { Cookie = all[#all] })
    expect(ask("/", { Cookie = all[#all] }).body):equals "ada 1"
  end)
  it("forgets after its time", function()
    local cookie = cookie_of(ask "/")
    t.advance "2h"
    expect(ask("/", { Cookie = cookie }).body):equals "ada 1"
  end)
  it("guards", function()
    expect(ask("/", { Authorization = "Basic " .. require("socketley.base64").encode "ada:wrong" }).status):equals(401)
    expect(ask("/", { Authorization = "Bearer x" }).headers["www-authenticate"]):contains "Basic"
    local res = ask("/", { Origin = "https://good.example", ["X-Request-Id"] = "my-id" })
    expect(res.headers["access-control-allow-origin"]):equals "https://good.example"
    expect(res.headers["x-request-id"]):equals "my-id"
    expect(res.headers["x-content-type-options"]):equals "nosniff"
    expect(ask("/", { Origin = "https://bad.example" }).headers["access-control-allow-origin"]):is_nil()
    local asked = t.request("guarded", "OPTIONS", "/", { headers = { Origin = "https://good.example",
      ["Access-Control-Request-Method"] = "PUT" } })
    expect(asked.status):equals(204)
    expect(asked.headers["access-control-allow-methods"]):contains "PUT"
  end)
end)
