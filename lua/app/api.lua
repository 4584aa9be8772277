--- The functions that scripts call without a `require`: log, timers, tasks, and `socketley` with the original's names.

local sk, globals = ...
local native, current_runtime = sk.native, sk.current_runtime

local function runtime_id()
  local runtime = current_runtime() or sk.owner
  return runtime and runtime.id or -1
end

--- One value as text; a table as `inspect` shows it.
local function text_of(value)
  if type(value) == "table" and debug.getmetatable(value) == nil then
    return sk.inspect(value)
  end
  return tostring(value)
end

local function line_of(...)
  local parts = {}
  for index = 1, select("#", ...) do
    parts[index] = text_of((select(index, ...)))
  end
  return table.concat(parts, "\t")
end

--- The bundled `inspect`, which runs as any other module does.
function sk.inspect(value, options)
  return sk.user_require "socketley.inspect"(value, options)
end

local function logger(level)
  return function(message, ...)
    if select("#", ...) > 0 and type(message) == "string" then
      local ok, text = pcall(string.format, message, ...)
      message = ok and text or line_of(message, ...)
    end
    native.log(level, runtime_id(), text_of(message))
  end
end

local log = { debug = logger(0), info = logger(1), warn = logger(2), error = logger(3) }
setmetatable(log, { __call = function(_, ...) return log.info(...) end })

--- To the console whose line runs, else to the log.
function globals.print(...)
  local text = line_of(...)
  local job = sk.current_job()
  if job and job.request then
    native.output(job.request, { text = text, to = "out" })
  else
    native.log(1, runtime_id(), text)
  end
end

globals.log = log
globals.pubsub, globals.publish = sk.pubsub, sk.pubsub.publish
globals.sleep, globals.after, globals.every, globals.spawn = sk.sleep, sk.after, sk.every, sk.spawn

sk.user_package.loaded["socketley.pubsub"] = sk.pubsub
sk.user_package.preload["socketley.control"] = function()
  return {
    call = function(verb, arguments) return sk.ask(verb, arguments) end,
  }
end

sk.user_package.loaded["socketley.json"], globals.json = native.json, native.json

local function install(name, library)
  sk.user_package.loaded["socketley." .. name], globals[name] = library, library
end
install("tcp", sk.tcp)
install("dns", sk.dns)
install("fs", sk.fs)
sk.user_package.loaded["socketley.log"] = log
sk.user_package.loaded["socketley.clock"] = {
  unix_ms = function() return sk.unix_ms end,
  monotonic_ms = function() return sk.now_ms end,
}
for name, fn in pairs(sk.sync) do
  globals[name] = fn
end

--- Modules that are globals too, loaded when they are first named.
local LAZY = { base64 = true, compress = true, crypto = true, hash = true, hex = true, hmac = true, http = true,
  inspect = true, metrics = true, msgpack = true, redis = true, regex = true, time = true, url = true, uuid = true }
setmetatable(globals, { __index = function(_, name)
  if LAZY[name] then
    local module = sk.user_require("socketley." .. name)
    if rawget(globals, name) == nil then
      rawset(globals, name, module)
    end
    return module
  end
end })

local socketley = sk.user_require "socketley"
socketley.log = log
socketley.set_timeout, socketley.set_interval = sk.set_timeout, sk.set_interval
socketley.clear_timeout, socketley.clear_interval = sk.clear_timer, sk.clear_timer
socketley.subscribe = sk.subscribe
socketley.json_encode, socketley.json_decode = native.json.encode, native.json.decode
globals.socketley = socketley
