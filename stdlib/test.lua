--- Tests of scripts: `socketley test FOLDER` runs every `*_test.lua` in it, each in a VM of its own with virtual
--- connections and a clock that moves when it is told to. No port is opened.
---
--- ```lua
--- local t = require "socketley.test"
--- t.load "chat.lua"                                   -- beside this file
--- t.describe("chat", function()
---   t.it("greets and echoes", function()
---     local ann = t.connect("chat")
---     t.expect(ann:receive()):equals "hi"
---     ann:send "hello"
---     t.expect(ann:receive()):equals "ann: hello"
---     t.advance "30s"
---     t.expect(ann:receive()):equals "tick"
---     t.expect(t.request("web", "GET", "/health").body):equals "ok"
---   end)
--- end)
--- ```
--- What `it` is given runs as a handler does: it may wait.

local control = require "socketley.control"
local inspect = require "socketley.inspect"
local json = require "socketley.json"
local tcp = require "socketley.tcp"

local M = {}

local cases, prefix, before, after = {}, {}, {}, {}

-- Describing --------------------------------------------------------------------------------------------------------

--- Groups cases under a name.
---@param name string
---@param fn fun()
function M.describe(name, fn)
  prefix[#prefix + 1] = name
  local befores, afters = #before, #after
  fn()
  for index = #before, befores + 1, -1 do
    before[index] = nil
  end
  for index = #after, afters + 1, -1 do
    after[index] = nil
  end
  prefix[#prefix] = nil
end

local function copy(list)
  local new = {}
  for index, item in ipairs(list) do
    new[index] = item
  end
  return new
end

--- A case: it fails with its first error.
---@param name string
---@param fn fun()
function M.it(name, fn)
  local words = copy(prefix)
  words[#words + 1] = name
  cases[#cases + 1] = { name = table.concat(words, " "), fn = fn, before = copy(before), after = copy(after) }
end

--- Runs before each of the cases that follow in this group.
function M.before_each(fn)
  before[#before + 1] = fn
end

--- Runs after each of the cases that follow in this group, also after one that fails.
function M.after_each(fn)
  after[#after + 1] = fn
end

-- Expecting ---------------------------------------------------------------------------------------------------------

local function equal(a, b, depth)
  if a == b then
    return true
  elseif type(a) ~= "table" or type(b) ~= "table" or depth > 64 then
    return false
  end
  for key, value in pairs(a) do
    if not equal(value, b[key], depth + 1) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

local Expectation = {}
Expectation.__index = Expectation

local function fail(self, text)
  error((self.what and self.what .. ": " or "") .. text, 3)
end

--- What a value must be.
---@param value any
---@param what? string for the message
function M.expect(value, what)
  return setmetatable({ value = value, what = what }, Expectation)
end

--- The same; tables by what is in them.
function Expectation:equals(wanted)
  if not equal(self.value, wanted, 0) then
    fail(self, "expected " .. inspect(wanted) .. ", got " .. inspect(self.value))
  end
  return self
end

--- Anything but this.
function Expectation:differs(unwanted)
  if equal(self.value, unwanted, 0) then
    fail(self, "expected anything but " .. inspect(unwanted))
  end
  return self
end

--- Neither nil nor false.
function Expectation:is_truthy()
  if not self.value then
    fail(self, "expected something, got " .. inspect(self.value))
  end
  return self
end

--- nil.
function Expectation:is_nil()
  if self.value ~= nil then
    fail(self, "expected nil, got " .. inspect(self.value))
  end
  return self
end

--- A text with this in it (no pattern), or a list with this item.
function Expectation:contains(part)
  local value, found = self.value, false
  if type(value) == "string" then
    found = value:find(part, 1, true) ~= nil
  elseif type(value) == "table" then
    for _, item in ipairs(value) do
      found = found or equal(item, part, 0)
    end
  end
  if not found then
    fail(self, "expected " .. inspect(part) .. " in " .. inspect(value))
  end
  return self
end

--- A text that fits a Lua pattern.
function Expectation:matches(pattern)
  if type(self.value) ~= "string" or not self.value:find(pattern) then
    fail(self, "expected something like " .. inspect(pattern) .. ", got " .. inspect(self.value))
  end
  return self
end

--- A function that raises an error, whose text has this in it.
function Expectation:fails(part)
  local ok, err = pcall(self.value)
  if ok then
    fail(self, "expected an error")
  elseif part and not tostring(err):find(part, 1, true) then
    fail(self, "expected an error with " .. inspect(part) .. ", got " .. inspect(tostring(err)))
  end
  return self
end

-- The virtual daemon ------------------------------------------------------------------------------------------------

local function ask(verb, arguments)
  local value, err = control.call("test." .. verb, arguments or {})
  if err ~= nil then
    error(type(err) == "table" and err.message or tostring(err), 3)
  end
  return value
end

--- The app that the cases are about, from beside the test file; each case gets it fresh. `script`: the file is a script
--- in the original's style, for a runtime `{ type = "server", name = "main", port = 9000 }`.
---@param path string
---@param script? { type?: string, name?: string, port?: integer }
function M.load(path, script)
  M.app = { path = path, script = script }
end

local Peer = {}
Peer.__index = Peer

--- A client of a runtime of the app that speaks lines.
---@param runtime string
---@return table
function M.connect(runtime)
  local place = ask("place", { runtime = runtime })
  local socket, err = tcp.connect(place.host, place.port)
  if not socket then
    error("t.connect: " .. runtime .. ": " .. tostring(err), 2)
  end
  return setmetatable({ socket = socket }, Peer)
end

--- Sends a line to the app.
function Peer:send(message)
  local ok, err = self.socket:send(message .. "\n")
  if not ok then
    error("peer:send: " .. tostring(err), 2)
  end
end

--- The next line of the app; nil if none comes within a while of virtual time (10 ms).
---@param timeout? number|string (default: "10ms")
---@return string?
function Peer:receive(timeout)
  return (self.socket:receive("*l", timeout or "10ms"))
end

--- All lines that are there.
---@return string[]
function Peer:messages()
  local all = {}
  for line in function() return self:receive() end do
    all[#all + 1] = line
  end
  return all
end

--- Goes away.
function Peer:close()
  self.socket:close()
  sleep "1ms"
end

--- Whether the app has closed it. What it still sent is dropped.
---@return boolean
function Peer:is_closed()
  while true do
    local piece, err = self.socket:receive_some(65536, "10ms")
    if not piece then
      return err.code ~= "timeout"
    end
  end
end

--- Moves the clock; timers fire on the way, in their order.
---@param duration number|string
function M.advance(duration)
  sleep(duration)
end

--- A request to a server of the app: `request("web", "POST", "/users", { json = { name = "ada" } })`. Options
--- and answer
--- are those of `http.request`; redirects aren't followed.
---@param runtime string
---@param method string
---@param path string
---@param options? http.Options
---@return http.ClientResponse
function M.request(runtime, method, path, options)
  local place = ask("place", { runtime = runtime })
  local all = { method = method, redirects = 0 }
  for name, value in pairs(options or {}) do
    all[name] = value
  end
  local response, err = require("socketley.http").request("http://" .. place.host .. ":" .. place.port .. path, all)
  if not response then
    error("t.request: " .. tostring(err), 2)
  end
  return response
end

--- What `http` gets for addresses that begin so: `stub("http://api.example/users", { status =, headers =, body = })` or
--- `json =`. The longest address counts, of two the last. Names without a stub aren't found, https can't be stubbed.
--- `raw =` are all the bytes that come, whatever they are; the connection ends after them.
---@param address string
---@param answer { status?: integer, headers?: table<string, string>, body?: string, json?: any, raw?: string }
function M.stub(address, answer)
  local body = answer.body or answer.json ~= nil and json.encode(answer.json) or ""
  local headers = answer.json ~= nil and { ["Content-Type"] = "application/json" } or {}
  for name, value in pairs(answer.headers or {}) do
    headers[name] = value
  end
  ask("stub", {
    address = address,
    status = answer.status or 200,
    headers = headers,
    body = body,
    raw = answer.raw,
  })
end

--- The requests that came to stubs in this case, in order: `method`, `host`, `path`, `headers`, `body`.
---@return table[]
function M.requests()
  return ask "requests"
end

--- The log lines of this case so far, each with its source: `chat: hello`.
---@return string[]
function M.logs()
  return ask "logs"
end

-- Running -----------------------------------------------------------------------------------------------------------

local function run_case(case)
  local ok, err = true, nil
  if M.app then
    ask("load", M.app)
  end
  for _, fn in ipairs(case.before) do
    fn()
  end
  ok, err = xpcall(case.fn, function(problem) return debug.traceback(tostring(problem), 2) end)
  for _, fn in ipairs(case.after) do
    local ran, problem = pcall(fn)
    if ok and not ran then
      ok, err = false, tostring(problem)
    end
  end
  return ok, err
end

--- Runs the cases of this VM; for the command. `report(name, ok, text)` is called for each.
---@param report fun(name: string, ok: boolean, text?: string)
---@param filter? string a part of the names to run
function M.run(report, filter)
  for _, case in ipairs(cases) do
    if not filter or case.name:find(filter, 1, true) then
      local ran, ok, text = pcall(run_case, case)
      if not ran then
        ok, text = false, tostring(ok)
      end
      report(case.name, ok, text)
    end
  end
end

return M
