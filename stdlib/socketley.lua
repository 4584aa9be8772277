--- Runtimes and apps of this daemon: make, start, stop, look at and talk to them.
---
--- ```lua
--- local socketley = require "socketley"
--- local made, err = socketley.create { type = "server", name = "chat", port = 9000, start = true }
--- if not made then print(err.message, err.hint) end
--- for _, row in ipairs(socketley.list()) do print(row.name, row.status) end
--- ```
--- Every function waits for the answer without holding anything up, and answers `nil, err` when the daemon says
--- no: `err.message`, `err.hint` (or nil) and `tostring(err)` with both.

local control = require "socketley.control"

---@class socketley.Error
---@field message string what failed, and on which name
---@field hint? string what to do next
---@field exit_code? integer 1 it failed, 2 it was asked wrongly

---@class socketley.Row
---@field id integer
---@field name string
---@field type "server"|"client"|"proxy"|"cache"
---@field status string
---@field listen? string
---@field connections integer
---@field app? string
---@field created_ms integer
---@field uptime_ms? integer
---@field degraded? string why it isn't doing its job

---@class socketley.CreateOptions
---@field type "server"|"client"|"proxy"|"cache"
---@field name string
---@field lua? string a script in the callback style
---@field start? boolean start it at once (default: false)
---@field test? boolean check everything and make nothing (default: false)

local M = {}

local Error = {}

function Error.__tostring(err)
  return err.hint and (err.message .. "\n  hint: " .. err.hint) or err.message
end

local function call(verb, arguments)
  local value, err = control.call(verb, arguments or {})
  if err == nil then
    return value == nil and true or value
  end
  return nil, setmetatable(type(err) == "table" and err or { message = tostring(err) }, Error)
end

local function expect(name, value, kind, level)
  if type(value) ~= kind then
    error(("%s: expected a %s, got %s"):format(name, kind, type(value)), (level or 2) + 1)
  end
end

--- What `create` takes beside the runtime's fields.
local OPTIONS = { type = true, name = true, test = true }

--- Makes a runtime: `create { type =, name =, ... }` with the runtime's fields beside, or `create(type, name, fields)`.
---@param options socketley.CreateOptions|string
---@param name? string
---@param fields? table
function M.create(options, name, fields)
  if type(options) == "string" then
    local all = { type = options, name = name }
    for key, value in pairs(fields or {}) do
      -- The original's scripts say `config` for the script's path.
      all[key == "config" and "lua" or key] = value
    end
    options = all
  end
  expect("options", options, "table")
  expect("options.type", options.type, "string")
  expect("options.name", options.name, "string")
  local arguments = { fields = {} }
  for key, value in pairs(options.fields or {}) do
    arguments.fields[key] = value
  end
  for key, value in pairs(options) do
    if OPTIONS[key] then
      arguments[key] = value
    elseif key ~= "fields" then
      arguments.fields[key] = value
    end
  end
  return call("create", arguments)
end

local function on_name(verb)
  return function(name)
    expect("name", name, "string")
    return call(verb, { name = name })
  end
end

--- Starts a runtime.
M.start = on_name "start"
--- Stops a runtime; its connections have a moment to end.
M.stop = on_name "stop"
--- Stops and starts a runtime.
M.restart = on_name "restart"
--- Stops a runtime and forgets it.
M.remove = on_name "remove"
--- The same as `restart`, as in the original.
M.reload = on_name "reload"
--- Loads the runtime's script again; its connections stay.
M.reload_lua = on_name "reload_lua"
--- A runtime's row of `list`.
M.get = on_name "get"
--- The whole configuration of a runtime.
M.show = on_name "show"
--- The counters of a runtime.
M.stats = on_name "stats"

--- A proxy's backends: a row each, with `state`, `weight`, `in_flight`, `requests`, `errors`, `latency_us`.
M.backends = on_name "backends"

--- Says something of one of a proxy's backends, or of all that share a name: its `state` ("up", "drain",
--- "maintenance"), its `weight` (0 as in the proxy's fields). Takes effect at once; answers their rows.
---@param name string
---@param backend string
---@param changes { state?: string, weight?: integer }
function M.backend(name, backend, changes)
  expect("name", name, "string")
  expect("backend", backend, "string")
  expect("changes", changes, "table")
  return call("backend", { name = name, backend = backend, state = changes.state, weight = changes.weight })
end

--- Changes fields of a runtime.
---@param name string
---@param fields table
function M.edit(name, fields)
  expect("name", name, "string")
  expect("fields", fields, "table")
  return call("edit", { name = name, fields = fields })
end

--- Sends a message to a runtime's connections; answers how many got it.
---@param name string
---@param message string
---@param to? integer one connection's id (default: all)
function M.send(name, message, to)
  expect("name", name, "string")
  expect("message", message, "string")
  local answer, err = call("send", { name = name, message = message, to = to })
  if not answer then
    return nil, err
  end
  return type(answer) == "table" and answer.count or answer
end

--- All runtimes.
---@return socketley.Row[]
function M.list()
  return call "list"
end

--- The names that patterns stand for, in order: `match { "api-*", "db" }`.
---@param patterns string|string[]
---@return string[]
function M.match(patterns)
  return call("match", { patterns = type(patterns) == "table" and patterns or { patterns } })
end

--- Records of the log: `logs { name =, tail =, since_ms =, level = }`.
---@param options? { name?: string, tail?: integer, since_ms?: integer, level?: string }
function M.logs(options)
  return call("logs", options)
end

--- The apps: name, path, generation, what is wrong with them.
function M.apps()
  return call "apps"
end

--- What is wrong in a definition file: `{ problems = { { file =, line =, message =, hint = } } }`.
---@param path string
function M.check(path)
  expect("path", path, "string")
  return call("check", { path = path })
end

--- What `apply` would change.
---@param path string
function M.plan(path)
  expect("path", path, "string")
  return call("plan", { path = path })
end

--- Makes the daemon's runtimes what the file says.
---@param path string
function M.apply(path)
  expect("path", path, "string")
  return call("apply", { path = path })
end

--- Goes back to an app's previous generation.
---@param app string
function M.rollback(app)
  expect("app", app, "string")
  return call("rollback", { app = app })
end

--- The daemon: version, pid, workers, kernel features, paths.
function M.info()
  return call "info"
end

return M
