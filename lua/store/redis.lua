--- `redis`: what scripts call.
---
--- A command's arguments go to Rust through the FFI, the command runs on the store that is held anyway, and simple
--- replies come back through one struct; only arrays, maps and their kin are made by a C function.

local sk = ...
local machine, answer, leaf, native = sk.machine, sk.answer, sk.leaf, sk.native
local argument, number, execute = leaf.argument, leaf.number, leaf.execute
local execute2, execute3, reset = leaf.execute2, leaf.execute3, leaf.reset
local str, take = ffi.string, native.take
local type, select, error = type, select, error

local NIL, STRING, NUMBER, STATUS, ERROR = 0, 1, 2, 3, 4

local function push(value)
  local kind = type(value)
  if kind == "string" then
    argument(machine, value, #value)
  elseif kind == "number" then
    number(machine, value)
  else
    reset(machine)
    return false
  end
  return true
end

--- Up to six arguments without a table or a loop that the JIT couldn't compile.
local function push_all(count, a, b, c, d, e, f, ...)
  if not push(a) or count > 1 and not push(b) or count > 2 and not push(c) or count > 3 and not push(d)
    or count > 4 and not push(e) or count > 5 and not push(f) then
    return false
  end
  if count > 6 then
    local rest = { ... }
    for index = 1, count - 6 do
      if not push(rest[index]) then
        return false
      end
    end
  end
  return true
end

--- Runs a command; the kind of its reply, or ERROR and a text of our own. No tail calls: the JIT can't compile a trace
--- that begins in a function and tail-calls an FFI function, and gives the function up after some tries.
local function run(count, ...)
  if count == 2 then
    local name, first = ...
    if type(name) == "string" and type(first) == "string" then
      local kind = execute2(machine, name, #name, first, #first)
      return kind
    end
  elseif count == 3 then
    local name, first, second = ...
    if type(name) == "string" and type(first) == "string" and type(second) == "string" then
      local kind = execute3(machine, name, #name, first, #first, second, #second)
      return kind
    end
  elseif count == 0 then
    return ERROR, "ERR Please specify at least one argument for this redis lib call"
  end
  if not push_all(count, ...) then
    return ERROR, "ERR Lua redis lib command arguments must be strings or integers"
  end
  local kind = execute(machine)
  return kind
end

sk.run = run

local function value(kind)
  if kind == STRING then
    return str(answer.bytes, answer.len)
  elseif kind == NUMBER then
    return answer.number
  elseif kind == NIL then
    return false
  elseif kind == STATUS then
    return { ok = str(answer.bytes, answer.len) }
  end
  return take()
end

local function failure(text)
  return { err = text or str(answer.bytes, answer.len), ignore_error_stats_update = true }
end

local function call(...)
  local kind, text = run(select("#", ...), ...)
  if kind == ERROR then
    error(failure(text), 0)
  end
  return value(kind)
end

local function pcall(...)
  local kind, text = run(select("#", ...), ...)
  if kind == ERROR then
    return failure(text)
  end
  return value(kind)
end

--- Raises an error that has no place in the script, as Redis's own functions do.
local function refuse(text)
  error({ err = "ERR " .. text }, 0)
end
sk.refuse = refuse

local function error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  if string.sub(text, 1, 1) == "-" then
    text = string.sub(text, 2)
  end
  if not string.find(text, " ", 1, true) then
    text = "ERR " .. text
  end
  return { err = text }
end

local function status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = text }
end

local function sha1hex(...)
  local text = ...
  if select("#", ...) ~= 1 then
    refuse("wrong number of arguments")
  elseif type(text) == "number" then
    text = tostring(text)
  elseif type(text) ~= "string" then
    text = ""
  end
  return native.sha1hex(text)
end

local function log(...)
  local level = ...
  if select("#", ...) < 2 then
    refuse("redis.log() requires two arguments or more.")
  elseif type(level) ~= "number" then
    refuse("First argument must be a number (log level).")
  elseif level < 0 or level > 3 then
    refuse("Invalid debug level.")
  end
  local words = {}
  for index = 2, select("#", ...) do
    local word = select(index, ...)
    if type(word) == "string" or type(word) == "number" then
      words[#words + 1] = tostring(word)
    end
  end
  native.log(level, table.concat(words, " "))
end

local function setresp(...)
  local version = ...
  if select("#", ...) ~= 1 then
    refuse("redis.setresp() requires one argument.")
  elseif version ~= 2 and version ~= 3 then
    refuse("RESP version must be 2 or 3.")
  end
  native.setresp(version == 3)
end

--- What a script changes is always passed on: it can't choose.
local function set_repl(...)
  local flags = ...
  if select("#", ...) ~= 1 then
    refuse("redis.set_repl() requires two arguments.")
  elseif type(flags) ~= "number" or flags < 0 or flags > 3 then
    refuse("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

local function acl_check_cmd(...)
  local count = select("#", ...)
  if count == 0 then
    refuse("Please specify at least one argument for this redis.acl_check_cmd() call")
  elseif not push_all(count, ...) then
    refuse("redis.acl_check_cmd() require all arguments to be strings or integers")
  end
  local allowed = native.allowed()
  if allowed == nil then
    refuse("Invalid command passed to redis.acl_check_cmd()")
  end
  return allowed
end

local version = {}
for part in string.gmatch(sk.version, "%d+") do
  version[#version + 1] = tonumber(part)
end

--- What every script and library may use.
sk.common = {
  error_reply = error_reply,
  status_reply = status_reply,
  sha1hex = sha1hex,
  log = log,
  setresp = setresp,
  set_repl = set_repl,
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
  REDIS_VERSION = sk.version,
  REDIS_VERSION_NUM = version[1] * 65536 + version[2] * 256 + version[3],
}

--- Those of functions at work.
sk.redis = setmetatable({ call = call, pcall = pcall, acl_check_cmd = acl_check_cmd }, nil)
for name, member in next, sk.common do
  sk.redis[name] = member
end

--- Those of EVAL alone.
sk.eval_redis = {
  breakpoint = function() return false end,
  debug = function() end,
  replicate_commands = function() return true end,
}
for name, member in next, sk.redis do
  sk.eval_redis[name] = member
end
