--- The control VM: runs the commands' files and the console without a name.
---
--- Every run is a coroutine. What takes time yields an operation to the host, which resumes it with the answer, so that
--- a slow answer holds nobody up. The host gives `emit`, `module`, `command`, `tag` and LuaJIT's own functions.

local host = ...

local TAG = host.tag
local raw_yield, raw_resume = coroutine.yield, coroutine.resume
local create, running, status = coroutine.create, coroutine.running, coroutine.status
local raw_load, getlocal, traceback = load, debug.getlocal, debug.traceback

--- Coroutines that the host resumes: nothing of a script may yield out of them.
local runs = setmetatable({}, { __mode = "k" })

local function wait(operation, ...)
  return raw_yield(TAG, operation, ...)
end

--- A wait inside a script's own coroutine goes out through it to the host, and the answer comes back the same way.
local function relay(thread, ok, tag, ...)
  if ok and tag == TAG then
    return relay(thread, raw_resume(thread, raw_yield(TAG, ...)))
  end
  return ok, tag, ...
end

local function resume(thread, ...)
  return relay(thread, raw_resume(thread, ...))
end

local function unwrap(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

local coroutines = {
  create = create,
  running = running,
  status = status,
  resume = resume,
  isyieldable = coroutine.isyieldable,
  wrap = function(body)
    local thread = create(body)
    return function(...)
      return unwrap(resume(thread, ...))
    end
  end,
  yield = function(...)
    if runs[running()] then
      error("attempt to yield from outside a coroutine", 2)
    end
    return raw_yield(...)
  end,
}

--- The answer of the manager to a verb, or nil and what it says.
local function call(verb, arguments)
  return wait("call", verb, arguments)
end

--- Opens a stream; its items come by `next_item`.
local function subscribe(kind, filter)
  return wait("subscribe", kind, filter)
end

--- What comes next: `"event", value`, `"line", text` or `"end"` (no more lines from the caller).
local function next_item()
  return wait "next"
end

local function emit(frame)
  if host.emit(frame) then
    wait "drain"
  end
end

local new_out = assert(raw_load(host.module "lua/out.lua"))(emit, host.null)

--- `require` over the bundled public modules.
local function new_require(globals)
  local loaded = {
    ["socketley.control"] = { call = call },
    ["socketley.json"] = host.json,
  }
  return function(name)
    if loaded[name] == nil then
      local text, chunk = host.public(name)
      if not text then
        error(("module %q not found: only socketley's own modules are here"):format(name), 2)
      end
      loaded[name] = assert(raw_load(text, chunk, "t", globals))(name)
    end
    return loaded[name]
  end
end

local function copy(from)
  local to = {}
  for key, value in pairs(from) do
    to[key] = value
  end
  return to
end

--- `xpcall` whose handler runs after unwinding, where the time budget holds.
local function guarded_xpcall(body, handler, ...)
  local results = { n = select("#", ...), ... }
  return (function(ok, ...)
    if ok then
      return true, ...
    end
    return false, handler((...))
  end)(pcall(body, unpack(results, 1, results.n)))
end

--- What a console's or a command's code sees: its own copies, so that no line can break another run.
local function new_globals()
  local globals = {}
  for _, name in ipairs {
    -- stylua: ignore
    "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
    "rawlen", "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "unpack",
    "_VERSION",
  } do
    globals[name] = _G[name]
  end
  for _, name in ipairs { "string", "table", "math", "bit" } do
    globals[name] = copy(_G[name])
  end
  globals.os = {
    time = os.time,
    date = os.date,
    clock = os.clock,
    difftime = os.difftime,
    getenv = os.getenv,
  }
  globals.coroutine = copy(coroutines)
  globals.xpcall = guarded_xpcall
  globals.load = function(text, chunk, _, env)
    if type(text) ~= "string" then
      error("load: expected a string, got " .. type(text), 2)
    end
    return raw_load(text, chunk, "t", env or globals)
  end
  globals.require = new_require(globals)
  globals.print = function(...)
    new_out():print(...)
  end
  globals.socketley = globals.require "socketley"
  globals.inspect = globals.require "socketley.inspect"
  globals.json = globals.require "socketley.json"
  globals._G = globals
  return globals
end

local function new_console()
  local globals = new_globals()
  local text, chunk = host.module "lua/console.lua"
  return assert(raw_load(text, chunk))({
    globals = globals,
    inspect = globals.inspect,
    getlocal = getlocal,
    traceback = traceback,
    load = function(code, name, env)
      return raw_load(code, name, "t", env)
    end,
  })()
end

-- A string's methods can't be changed from outside.
getmetatable("").__metatable = "protected"

local command_globals = new_globals()
command_globals.control = {
  call = call,
  subscribe = subscribe,
  next_item = next_item,
  json = host.json,
  --- Lets that many milliseconds go by.
  wait = function(ms)
    call("wait", { ms = ms })
  end,
}

command_globals.each, command_globals.list, command_globals.human, command_globals.chosen =
  assert(raw_load(host.module "lua/shared.lua"))(command_globals.socketley)

local commands = {}

--- The built-in command `name`, or nothing.
local function command(name)
  if not commands[name] then
    local text, chunk = host.command(name)
    if not text then
      return nil
    end
    commands[name] = assert(raw_load(text, chunk, "t", command_globals))()
  end
  return commands[name]
end

--- A command that an app defines. What it prints goes past here; its exit code comes as the answer.
local function app_command(name)
  return function(arguments, out)
    local value, err = call("command", { name = name, arguments = arguments })
    if err then
      out:error(err)
    elseif type(value) == "table" and value.code then
      out:exit(value.code)
    end
  end
end

local function on_error(err)
  if type(err) == "table" and err.message then
    return err
  end
  local message = tostring(err)
  return message:find("\nstack traceback:", 1, true) and message or traceback(message, 2)
end

local M = {}

--- Runs a command to its end; answers the exit code. `session` is the caller's table, kept while it is connected.
function M.run(name, arguments, context, session)
  runs[running()] = true
  local out = new_out(session)
  out.tty, out.cwd = context.tty, context.cwd
  function out.console()
    session.console = session.console or new_console()
    return session.console
  end
  local found = command(name)
  local ok, err = xpcall(found and found.run or app_command(name), on_error, arguments, out)
  if not ok then
    out:error(err)
  end
  return out.code
end

return M
