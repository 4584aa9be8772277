--- What scripts see: a keep-list of Lua's own globals, with whatever breaks memory safety or the kill switch closed in
--- every profile, and files, processes and environment closed in the restricted one.
---
--- Kept by name and everything else dropped: a list of what to remove always misses something.

local sk, globals = ...
local control, native = sk.control, sk.native
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local running, isyieldable, status = coroutine.running, coroutine.isyieldable, coroutine.status
local WAIT, dispatchers, blocked = sk.WAIT, sk.dispatchers, sk.blocked
local builtin_load, builtin_xpcall = load, xpcall
local floor = math.floor

local restricted = sk.restricted

local BASE = { "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen", "rawset",
  "select", "setmetatable", "getmetatable", "tonumber", "tostring", "type", "unpack", "_VERSION" }
local JIT = { "version", "version_num", "os", "arch", "status" }
local OS = { "date", "difftime", "time", "clock" }
local OS_TRUSTED = { "getenv", "remove", "rename", "tmpname", "execute" }
local COROUTINE = { "status", "running", "isyieldable" }
local STRING_DROPPED = { dump = true }

local function pick(from, names, into)
  into = into or {}
  for _, name in ipairs(names) do
    into[name] = from[name]
  end
  return into
end

local function copy(library)
  return pick(library, (function()
    local names = {}
    for name in next, library do
      names[#names + 1] = name
    end
    return names
  end)())
end

-- Calls and coroutines ----------------------------------------------------------------------------------------------

--- An error that the kill switch raises calls message handlers with hooks off: a script's own would be unkillable.
local function user_xpcall(fn, handler, ...)
  return builtin_xpcall(fn, function(err)
    if control.killing ~= 0 then
      return err
    end
    return handler(err)
  end, ...)
end

--- Hands a wait of the inner coroutine up to the dispatcher, and what wakes it down again.
local function pass(co, ok, first, ...)
  if ok and first == WAIT then
    return pass(co, resume(co, yield(WAIT)))
  end
  return ok, first, ...
end

local function user_resume(co, ...)
  if type(co) ~= "thread" then
    error("coroutine.resume: expected a coroutine, got " .. type(co), 2)
  elseif dispatchers[co] then
    return false, "a handler's own coroutine can't be resumed"
  end
  blocked[co] = not isyieldable() or blocked[running()] or nil
  return pass(co, resume(co, ...))
end

local function unwrap(ok, first, ...)
  if not ok then
    error(first, 0)
  end
  return first, ...
end

local function user_wrap(fn)
  local co = create(fn)
  return function(...)
    return unwrap(user_resume(co, ...))
  end
end

local function user_yield(...)
  if dispatchers[running()] then
    error("coroutine.yield: a handler can't yield, it can wait: sleep(...), task:join()", 2)
  end
  return yield(...)
end

-- Chunks ------------------------------------------------------------------------------------------------------------

local function read_all(reader)
  local parts = {}
  while true do
    local part = reader()
    if part == nil or part == "" then
      return table.concat(parts)
    elseif type(part) ~= "string" then
      error("load: the reader function must answer strings", 3)
    end
    parts[#parts + 1] = part
  end
end

--- Text only, and never under a name that the kill switch trusts.
local function user_load(chunk, name, _, ...)
  if type(chunk) == "function" then
    chunk = read_all(chunk)
  elseif type(chunk) ~= "string" then
    error("load: expected text or a function, got " .. type(chunk), 2)
  end
  local shown = type(name) == "string" and string.gsub(string.sub(name, 1, 60), "^[=@]", "") or "string"
  local env = globals
  if select("#", ...) > 0 then
    env = ...
  end
  return builtin_load(chunk, "=(load) " .. shown, "t", env)
end

local function user_loadfile(path, _, ...)
  local text, err = native.read_file(path)
  if not text then
    return nil, err
  end
  return user_load(text, "@" .. path, "t", ...)
end

-- require -----------------------------------------------------------------------------------------------------------

local LOADING = {}
local package = { loaded = {}, preload = {}, path = sk.package_path, cpath = "", config = "/\n;\n?\n!\n-\n" }

local function compile(text, chunk_name, env)
  local chunk, err = builtin_load(text, chunk_name, "t", env)
  if not chunk then
    error(err, 0)
  end
  return chunk
end

local function find_module(name)
  local preload = package.preload[name]
  if preload then
    return preload
  end
  local made = native.api_module(name)
  if made then
    return function() return made end
  end
  local text, chunk_name = native.bundled_module(name)
  if not text then
    text, chunk_name = native.read_module(name, type(package.path) == "string" and package.path or "")
  end
  if not text then
    error("module '" .. name .. "' not found:" .. chunk_name, 3)
  end
  return compile(text, chunk_name, globals)
end

--- Written in Lua, so that a module's top level may wait when a handler requires it.
local function require(name)
  if type(name) ~= "string" then
    error("require: expected a module's name, got " .. type(name), 2)
  end
  local loaded = package.loaded
  local value = loaded[name]
  if value == LOADING then
    error("require: '" .. name .. "' requires itself, directly or through another module", 2)
  elseif value ~= nil then
    return value
  end
  local chunk = find_module(name)
  loaded[name] = LOADING
  local ok, result = pcall(chunk, name)
  if not ok then
    loaded[name] = nil
    error(result, 0)
  end
  if result ~= nil then
    loaded[name] = result
  elseif loaded[name] == LOADING then
    loaded[name] = true
  end
  return loaded[name]
end

-- Libraries ---------------------------------------------------------------------------------------------------------

local function user_os()
  local library = pick(os, OS)
  local time, date = os.time, os.date
  library.time = function(fields)
    if fields ~= nil then
      return time(fields)
    end
    return floor(sk.unix_ms / 1000)
  end
  library.date = function(format, when)
    return date(format, when or floor(sk.unix_ms / 1000))
  end
  library.clock = function() return sk.now_ms / 1000 end
  if not restricted then
    pick(os, OS_TRUSTED, library)
  end
  return library
end

--- `debug` without what reaches into functions: a traceback, and where a function stands.
local function user_debug()
  local getinfo, traceback = debug.getinfo, debug.traceback
  return {
    traceback = function(message, level)
      if message ~= nil and type(message) ~= "string" and type(message) ~= "number" then
        return message
      end
      local text = traceback(message, (level or 1) + 1)
      return text
    end,
    getinfo = function(what)
      local info
      if type(what) == "number" then
        info = getinfo(what + 1, "nSl")
      elseif type(what) == "function" then
        info = getinfo(what, "S")
      end
      return info and pick(info, { "name", "namewhat", "short_src", "source", "what", "currentline", "linedefined",
        "lastlinedefined" })
    end,
  }
end

--- `string.buffer` without raw pointers.
local function user_buffer()
  local buffer = sk.string_buffer
  local metatable = debug.getmetatable(buffer.new())
  for _, name in ipairs { "ref", "reserve", "commit", "set" } do
    metatable.__index[name] = nil
  end
  metatable.__metatable = "buffer"
  return buffer
end


local function install(name, library)
  globals[name] = library
  package.loaded[name] = library
end

for name in next, globals do
  globals[name] = nil
end
pick(_G, BASE, globals)
globals._G = globals
globals.xpcall, globals.load, globals.loadstring, globals.require = user_xpcall, user_load, user_load, require
globals.collectgarbage = function(what)
  if what == nil or what == "collect" or what == "count" then
    return collectgarbage(what)
  end
  error("collectgarbage: only \"collect\" and \"count\" are open to scripts", 2)
end
globals.package = package
package.loaded._G, package.loaded.package = globals, package

-- The strings' metatable points to the real library, which is therefore the script's.
local strings = debug.getmetatable("").__index
for name in next, strings do
  if STRING_DROPPED[name] then
    strings[name] = nil
  end
end
debug.getmetatable("").__metatable = "string"

--- Whether a text begins with another.
function strings.starts(text, with)
  return string.sub(text, 1, #with) == with
end

--- Whether a text ends with another.
function strings.ends(text, with)
  return with == "" or string.sub(text, -#with) == with
end
install("string", strings)
install("table", copy(table))
install("math", copy(math))
install("bit", copy(bit))
install("os", user_os())
install("debug", user_debug())
install("jit", pick(jit, JIT))
install("coroutine", pick(coroutine, COROUTINE, {
  create = create, resume = user_resume, wrap = user_wrap, yield = user_yield,
}))
package.loaded["string.buffer"] = user_buffer()
package.loaded["table.new"], package.loaded["table.clear"] = sk.table_new, sk.table_clear
if not restricted then
  install("io", copy(io))
  globals.loadfile = user_loadfile
  globals.dofile = function(path)
    local chunk, err = user_loadfile(path)
    if not chunk then
      error(err, 2)
    end
    return chunk()
  end
end
sk.user_require, sk.user_package, sk.compile = require, package, compile
