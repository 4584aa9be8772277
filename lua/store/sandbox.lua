--- What scripts see: Redis's globals, all of them read-only, and nothing that reaches files, processes, raw memory or
--- the kill switch.
---
--- LuaJIT has no read-only tables, so a script gets an empty table in front of each of ours; what writes to tables
--- without looking at metatables refuses those.

local sk, globals = ...
local control = sk.control
local create, resume, yield, running = coroutine.create, coroutine.resume, coroutine.yield, coroutine.running
local builtin_load, builtin_xpcall, builtin_pcall = load, xpcall, pcall
local rawget, rawset, setmetatable, type, error = rawget, rawset, setmetatable, type, error

local READONLY = "Attempt to modify a readonly table"

local protected = setmetatable({}, { __mode = "k" })

local function refuse_write()
  error(READONLY, 2)
end

--- A table that shows another one and can't be changed.
local function readonly(target)
  local view = setmetatable({}, {
    __index = target,
    __newindex = refuse_write,
    __pairs = function() return next, target, nil end,
    __len = function() return #target end,
    __metatable = sk.no_metatable,
  })
  protected[view] = true
  return view
end
sk.no_metatable = setmetatable({}, { __newindex = refuse_write, __metatable = false })
protected[sk.no_metatable] = true
sk.readonly = readonly

--- Wraps a function that writes to its first argument.
local function guarded(write)
  return function(target, ...)
    if protected[target or false] then
      error(READONLY, 0)
    end
    return write(target, ...)
  end
end

-- Calls and coroutines ----------------------------------------------------------------------------------------------

--- As Redis has it: the error of a command arrives as its text.
local function settle(ok, first, ...)
  if not ok and type(first) == "table" then
    local text = rawget(first, "err")
    if type(text) == "string" then
      return false, text
    end
  end
  return ok, first, ...
end

local function user_pcall(...)
  return settle(builtin_pcall(...))
end

--- An error that a kill raises calls message handlers with hooks off: a script's own would be unkillable.
local function user_xpcall(fn, handler, ...)
  return builtin_xpcall(fn, function(err)
    if control.killing ~= 0 then
      return err
    end
    return handler(err)
  end, ...)
end

local inner = setmetatable({}, { __mode = "k" })

--- The end of a slice inside a coroutine of the script goes up to the host, and down again when it goes on.
local function pass(co, ok, ...)
  if control.suspending ~= 0 then
    yield()
    return pass(co, resume(co))
  end
  return ok, ...
end

local function user_create(fn)
  local co = create(fn)
  inner[co] = true
  return co
end

local function user_resume(co, ...)
  if type(co) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected)", 2)
  elseif not inner[co] then
    return false, "cannot resume non-suspended coroutine"
  end
  return pass(co, resume(co, ...))
end

local function unwrap(ok, first, ...)
  if not ok then
    error(first, 0)
  end
  return first, ...
end

local function user_wrap(fn)
  local co = user_create(fn)
  return function(...)
    return unwrap(pass(co, resume(co, ...)))
  end
end

local function user_yield(...)
  if not inner[running() or false] then
    error("attempt to yield across metamethod/C-call boundary", 0)
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
      error("reader function must return a string", 3)
    end
    parts[#parts + 1] = part
  end
end

--- Text only, and never under a name that the kill switch trusts.
local function make_load(env)
  return function(chunk)
    if type(chunk) == "function" then
      chunk = read_all(chunk)
    elseif type(chunk) ~= "string" then
      error("bad argument #1 to 'load' (function expected, got " .. type(chunk) .. ")", 2)
    end
    return builtin_load(chunk, "=(load)", "t", env())
  end
end

-- Libraries ---------------------------------------------------------------------------------------------------------

local BASE = { "assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "select", "tonumber",
  "tostring", "type", "unpack", "_VERSION" }
local STRING = { "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub",
  "upper" }
local MATH = { "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp",
  "huge", "ldexp", "log", "log10", "max", "min", "modf", "pi", "pow", "rad", "random", "randomseed", "sin", "sinh",
  "sqrt", "tan", "tanh" }
local BIT = { "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit", "tohex" }

local function pick(from, names)
  local into = {}
  for _, name in ipairs(names) do
    into[name] = from[name]
  end
  return into
end

local function tables()
  return {
    concat = table.concat,
    insert = guarded(table.insert),
    remove = guarded(table.remove),
    sort = guarded(table.sort),
    maxn = table.maxn,
    getn = function(t) return #t end,
    setn = function() error("'setn' is obsolete", 2) end,
    foreach = function(t, fn)
      for key, value in pairs(t) do
        local result = fn(key, value)
        if result ~= nil then
          return result
        end
      end
    end,
    foreachi = function(t, fn)
      for index = 1, #t do
        local result = fn(index, t[index])
        if result ~= nil then
          return result
        end
      end
    end,
  }
end

local function collect(what)
  if what == nil or what == "collect" or what == "count" or what == "step" then
    return collectgarbage(what)
  end
  error("collectgarbage: only \"collect\", \"count\" and \"step\" are open to scripts", 2)
end

--- Unknown names are mistakes: the most frequent one is a forgotten `local`.
local function no_such_global(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

local strings, maths = pick(string, STRING), pick(math, MATH)
strings.gfind, maths.mod = string.gmatch, math.fmod

--- Globals and the table in front of them.
local function environment(redis)
  local base, env = pick(_G, BASE), {}
  base.pcall, base.xpcall = user_pcall, user_xpcall
  base.rawset, base.setmetatable = guarded(rawset), guarded(setmetatable)
  base.load = make_load(function() return env end)
  base.loadstring = base.load
  base.collectgarbage, base.gcinfo = collect, function() return collectgarbage("count") end
  base.string, base.math, base.bit = readonly(strings), readonly(maths), readonly(pick(bit, BIT))
  base.table = readonly(tables())
  base.cjson, base.cmsgpack, base.struct = readonly(sk.cjson), readonly(sk.cmsgpack), readonly(sk.struct)
  base.coroutine = readonly {
    create = user_create, resume = user_resume, wrap = user_wrap, yield = user_yield,
    running = running, status = coroutine.status,
  }
  base.redis, base.server = redis, redis
  base._G = env
  setmetatable(base, { __index = no_such_global })
  setmetatable(env, {
    __index = base,
    __newindex = refuse_write,
    __pairs = function() return next, base, nil end,
    __metatable = sk.no_metatable,
  })
  protected[env] = true
  return base, env
end
sk.environment, sk.no_such_global = environment, no_such_global

sk.cjson.null, sk.cjson._NAME, sk.cjson._VERSION = sk.null, "cjson", "2.1.0"
sk.cjson.new = function() return sk.readonly(sk.cjson) end
sk.cmsgpack._NAME, sk.cmsgpack._VERSION = "cmsgpack", "lua-cmsgpack 0.4.0"
sk.cmsgpack._COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo"
sk.cmsgpack._DESCRIPTION = "MessagePack C implementation for Lua"

-- The strings' metatable points to the real library, which is therefore the scripts'.
local library = debug.getmetatable("").__index
for name in next, library do
  library[name] = strings[name]
end
debug.getmetatable("").__metatable = sk.no_metatable
for name in next, globals do
  globals[name] = nil
end

sk.eval_base, sk.eval_env = environment(readonly(sk.eval_redis))
