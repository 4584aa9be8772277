--- url, regex, time, timer, retry, task, metrics, env, inspect.

local t = require "socketley.test"
local it, expect = t.it, t.expect
local url, regex, time = require "socketley.url", require "socketley.regex", require "socketley.time"
local retry, metrics = require "socketley.retry", require "socketley.metrics"
local task, timer = require "socketley.task", require "socketley.timer"

t.describe("url", function()
  it("takes URLs apart and puts them together", function()
    for _, text in ipairs { "http://example.org", "https://a:b@example.org:8443/p/a?q=1&r#f", "http://[::1]:80/x",
      "redis://h/0", "http://example.org/?", "http://user@h/" } do
      expect(url.format(assert(url.parse(text)))):equals(text)
    end
    local parts = url.parse "HTTP://Ann:s%20c@EXAMPLE.org:81/a?b=c#d"
    expect(parts):equals { scheme = "http", user = "Ann", password = "s c", host = "example.org", port = 81,
      path = "/a", query = "b=c", fragment = "d" }
    expect(url.port(url.parse "https://a")):equals(443)
  end)
  it("refuses what is none", function()
    for _, text in ipairs { "", "example.org", "http://", "http://a b", "http://h:0", "http://h:99999",
      "http://h\n" } do
      local value, err = url.parse(text)
      expect(value, text):is_nil()
      expect(err.code):equals "invalid"
    end
  end)
  it("resolves references as RFC 3986 does", function()
    local base = "http://a/b/c/d?q"
    for reference, wanted in pairs { g = "http://a/b/c/g", ["./g"] = "http://a/b/c/g", ["g/"] = "http://a/b/c/g/",
      ["/g"] = "http://a/g", ["//g"] = "http://g", ["?y"] = "http://a/b/c/d?y", ["g?y"] = "http://a/b/c/g?y",
      ["#s"] = "http://a/b/c/d?q#s", [""] = "http://a/b/c/d?q", ["."] = "http://a/b/c/", [".."] = "http://a/b/",
      ["../g"] = "http://a/b/g", ["../../g"] = "http://a/g", ["../../../g"] = "http://a/g",
      ["https://x/y"] = "https://x/y" } do
      expect(url.join(base, reference), reference):equals(wanted)
    end
  end)
  it("encodes", function()
    expect(url.encode "a b/ä"):equals "a%20b%2F%C3%A4"
    expect(url.decode "a%20b+c"):equals "a b+c"
    expect(url.query { b = { 1, 2 }, a = "x y" }):equals "a=x%20y&b=1&b=2"
    expect(url.parse_query "a=x+y&b=%31&c"):equals { a = "x y", b = "1", c = "" }
  end)
end)

t.describe("regex", function()
  it("matches with groups and names", function()
    local date = regex.new [[(?P<year>\d{4})-(\d\d)(x)?]]
    local m = date:match "on 2024-05-17"
    expect(m[0]):equals "2024-05"
    expect(m[1]):equals "2024"
    expect(m.year):equals "2024"
    expect(m[3]):equals(false)
    expect({ m.first, m.last }):equals { 4, 10 }
    expect(date:test "none"):equals(false)
    expect(date:match "none"):is_nil()
    expect({ date:find("2024-05 2025-06", 2) }):equals { 9, 15 }
  end)
  it("replaces, splits and walks", function()
    expect({ regex.new([[(\w)(\w)]]):gsub("ab cd", "$2${1}$$") }):equals { "ba$ dc$", 2 }
    expect((regex.new("a*"):gsub("baac", "-"))):equals "-b-c-"
    expect((regex.new("[a-z]+"):gsub("one two", function(m)
      sleep "1ms"
      return m[0]:upper()
    end))):equals "ONE TWO"
    expect(regex.new([[\s*,\s*]]):split "a , b,c"):equals { "a", "b", "c" }
    local all = {}
    for m in regex.new("ä."):gmatch "äb äc" do
      all[#all + 1] = m[0]
    end
    expect(all):equals { "äb", "äc" }
    expect(regex.new(regex.escape "a.b*"):test "xa.b*"):equals(true)
    expect(regex.new("^A", "im"):test "b\na"):equals(true)
  end)
  it("takes linear time where others take for ever", function()
    local evil = regex.new "^(a+)+$"
    expect(evil:test(("a"):rep(30000) .. "b")):equals(false)
  end)
  it("says what is wrong with a pattern", function()
    expect(select(2, regex.try_new "(").code):equals "invalid"
    expect(function() regex.new("a", "q") end):fails "no flag"
    expect(select(2, regex.try_new(("a{1000}"):rep(1000))).code):equals "invalid"
  end)
end)

t.describe("time", function()
  it("formats and reads", function()
    expect(time.seconds "5m"):equals(300)
    expect(time.seconds(2)):equals(2)
    expect(function() time.seconds "soon" end):fails "duration"
    expect(time.iso(1700000000123)):equals "2023-11-14T22:13:20.123Z"
    expect(time.parse "2023-11-14T22:13:20.123Z"):equals(1700000000123)
    expect(time.parse "2023-11-14T23:13:20+01:00"):equals(1700000000000)
    expect(time.parse "2000-02-29T00:00:00Z"):equals(951782400000)
    expect(time.parse "yesterday"):is_nil()
    expect(time.http(1700000000000)):equals "Tue, 14 Nov 2023 22:13:20 GMT"
    expect({ time.human(0.02), time.human(3.5), time.human(3720), time.human(60) })
      :equals { "20ms", "3.5s", "1h 2m", "1m" }
  end)
  it("moves with the clock", function()
    local before = time.ms()
    sleep "1h"
    local passed_ms = time.ms() - before                  -- timers go by whole milliseconds, and never early
    expect(passed_ms == 3600000 or passed_ms == 3600001):equals(true)
    expect(time.monotonic() > 3600):equals(true)
  end)
end)

t.describe("timer", function()
  it("debounces and throttles", function()
    local calls = {}
    local late = timer.debounce("100ms", function(value) calls[#calls + 1] = value end)
    late(1)
    sleep "50ms"
    late(2)
    sleep "200ms"
    expect(calls):equals { 2 }
    local count = 0
    local rare = timer.throttle("1s", function() count = count + 1 end)
    expect({ rare(), rare() }):equals { true, false }
    sleep "1100ms"
    expect({ rare(), count }):equals { true, 2 }
  end)
end)

t.describe("retry", function()
  it("tries again with growing pauses", function()
    local start, tries = time.monotonic(), 0
    local value = retry.call(function(attempt)
      tries = attempt
      if attempt < 4 then
        return nil, "not yet"
      end
      return "done"
    end, { attempts = 5, base = "1s" })
    expect({ value, tries }):equals { "done", 4 }
    local took = time.monotonic() - start
    expect(took >= 3.5 and took <= 7.1, "took " .. took):equals(true)
    expect({ retry.call(function() return nil, "no" end, { attempts = 2 }) }):equals { [2] = "no" }
    expect(function() retry.call(function() error("broken", 0) end, { attempts = 2 }) end):fails "broken"
    local _, err = retry.call(function() return nil, "stop" end, { retry_if = function() return false end })
    expect(err):equals "stop"
  end)
  it("breaks the circuit", function()
    local breaker, tried = retry.breaker { failures = 2, cooldown = "10s" }, 0
    local function call(ok)
      return breaker:call(function()
        tried = tried + 1
        return ok or nil, "no"
      end)
    end
    call(false)
    call(false)
    expect(select(2, call(true)).code):equals "open"
    expect(tried):equals(2)
    sleep "11s"
    call(false)
    expect(select(2, call(true)).code):equals "open"
    sleep "11s"
    expect((call(true))):equals(true)
    expect((call(true))):equals(true)
  end)
end)

t.describe("task", function()
  it("runs all and races", function()
    local start = time.monotonic()
    expect(task.all(function() sleep(2) return "a" end, function() sleep(1) return "b" end)):equals { "a", "b" }
    local passed = time.monotonic() - start
    expect(passed >= 2 and passed < 2.01):equals(true)
    local ended = false
    local first = task.race(function() sleep(5) ended = true return "slow" end, function() sleep(1) return "fast" end)
    expect(first):equals "fast"
    sleep(10)
    expect(ended, "the slower one is cancelled"):equals(false)
    local results, err = task.all(function() sleep(9) end, function() error("broken", 0) end)
    expect(results):is_nil()
    expect(tostring(err)):contains "broken"
  end)
  it("ends what takes too long, and what that started", function()
    local reached = false
    local value, err = task.timeout("1s", function()
      task.timeout("1h", function() sleep(100) end)
      reached = true
    end)
    expect(value):is_nil()
    expect(err.code):equals "timeout"
    sleep(200)
    expect(reached):equals(false)
    expect(task.timeout("1s", function(a) return a + 1 end, 1)):equals(2)
    expect(select(2, task.timeout("1s", function() return nil, "no" end))):equals "no"
  end)
  it("passes values through channels in order", function()
    local jobs, seen = task.channel(2), {}
    local worker = task.spawn(function()
      for job in jobs:values() do
        seen[#seen + 1] = job
        sleep "10ms"
      end
    end)
    for number = 1, 10 do
      expect((jobs:send(number))):equals(true)
    end
    jobs:close()
    worker:join()
    expect(seen):equals { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }
    expect(select(2, jobs:send(1)).code):equals "closed"
    expect(select(2, jobs:receive()).code):equals "closed"
  end)
  it("meets at a channel without room", function()
    local meeting, order = task.channel(), {}
    local sender = task.spawn(function()
      meeting:send "value"
      order[#order + 1] = "sent"
    end)
    sleep(1)
    expect(order):equals {}
    expect((meeting:receive())):equals "value"
    sender:join()
    expect(order):equals { "sent" }
    expect(select(2, meeting:receive("1s")).code):equals "timeout"
    expect(select(2, meeting:send("x", "1s")).code):equals "timeout"
    expect(select(2, meeting:receive("1s")).code):equals "timeout"
  end)
  it("loses no value to a receiver that is cancelled", function()
    local queue = task.channel(10)
    local waiter = task.spawn(function() queue:receive() end)
    sleep "1ms"
    queue:send "kept"
    waiter:cancel()
    local got = queue:receive "1s"
    expect(got == "kept" or got == nil):equals(true)
    queue:send "next"
    expect((queue:receive "1s")):equals "next"
  end)
  it("bounds with semaphores and locks", function()
    local places, now, most = task.semaphore(2), 0, 0
    local list = {}
    for index = 1, 6 do
      list[index] = function()
        return places:with(function()
          now = now + 1
          most = math.max(most, now)
          sleep "10ms"
          now = now - 1
          return index
        end)
      end
    end
    expect(task.all(list)):equals { 1, 2, 3, 4, 5, 6 }
    expect(most):equals(2)
    expect(function() places:release() end):fails "nobody"
    local log = {}
    local function step(name)
      return function()
        return task.lock("key", function()
          log[#log + 1] = name .. " in"
          sleep "10ms"
          log[#log + 1] = name .. " out"
        end)
      end
    end
    task.all(step "a", step "b")
    expect(log):equals { "a in", "a out", "b in", "b out" }
    task.spawn(function() task.lock("slow", function() sleep(10) end) end)
    sleep "1ms"
    expect(select(2, task.lock("slow", function() end, "1s")).code):equals "timeout"
    expect(function() task.lock("bad", function() error("inside", 0) end) end):fails "inside"
    expect(task.lock("bad", function() return "free again" end)):equals "free again"
  end)
end)

t.describe("metrics", function()
  it("shows what Prometheus reads", function()
    local requests = metrics.counter("t_requests_total", "Requests", { "path" })
    local open = metrics.gauge("t_open")
    local seconds = metrics.histogram("t_seconds", "Times", nil, { 0.1, 1 })
    requests:inc { path = '/"a"' }
    requests:inc({ path = "/" }, 2)
    open:set(5)
    open:dec()
    seconds:observe(0.05)
    seconds:observe(3)
    local text = metrics.text()
    for _, line in ipairs { '# TYPE t_requests_total counter', 't_requests_total{path="/\\"a\\""} 1',
      't_requests_total{path="/"} 2',
      "t_open 4", 't_seconds_bucket{le="0.1"} 1', 't_seconds_bucket{le="1"} 1', 't_seconds_bucket{le="+Inf"} 2',
      "t_seconds_count 2" } do
      expect(text):contains(line .. "\n")
    end
    expect(function() requests:inc() end):fails "path"
    expect(function() requests:inc({ path = "/" }, -1) end):fails "grows"
    expect(function() metrics.counter "t_open" end):fails "already"
    expect(function() metrics.counter "no name" end):fails "name"
  end)
end)

t.describe("env", function()
  it("reads the environment", function()
    local env = require "socketley.env"
    expect(env.get "PATH"):is_truthy()
    expect(env.get("SOCKETLEY_NOT_SET", "x")):equals "x"
    expect(env.number("SOCKETLEY_NOT_SET", 5)):equals(5)
    expect(env.boolean("SOCKETLEY_NOT_SET", true)):equals(true)
    expect(function() env.require "SOCKETLEY_NOT_SET" end):fails "isn't set"
    expect(function() env.number "PATH" end):fails "expected a number"
  end)
end)

t.describe("fs and dns", function()
  it("reads and writes beside the file", function()
    local path = os.tmpname()
    expect((fs.write(path, "one"))):equals(true)
    expect((fs.append(path, " two"))):equals(true)
    expect((fs.read(path))):equals "one two"
    expect(fs.stat(path).size):equals(7)
    expect((fs.exists(path))):equals(true)
    expect((fs.rename(path, path .. ".new"))):equals(true)
    expect((fs.exists(path))):equals(false)
    expect((fs.remove(path .. ".new"))):equals(true)
    expect(select(2, fs.read(path)).code):equals "not_found"
    expect((fs.read "modules_test.lua")):contains "beside the file"
    expect(dns.resolve "127.0.0.1"):equals { "127.0.0.1" }
  end)
end)
