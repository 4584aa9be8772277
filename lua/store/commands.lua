--- `commands` of a cache's definition: the app's file is evaluated here once more, with nothing but pure libraries, and
--- the functions that its `cache "name" { commands = ... }` has are run on the store that holds them.
---
--- What belongs to the app (servers, timers, other caches, requests) is there by name while the file is read and does
--- nothing; a command that touches it is wrong.

local sk = ...
local answer, native, readonly = sk.answer, sk.native, sk.readonly
local run, take_plain = sk.run, native.take_plain
local str, upper, match, find, sub, gsub = ffi.string, string.upper, string.match, string.find, string.sub, string.gsub
local type, next, select, error, load, xpcall = type, next, select, error, load, xpcall
local setmetatable, rawset = setmetatable, rawset

local NIL, STRING, NUMBER, STATUS, ERROR = 0, 1, 2, 3, 4
local FOREIGN = "a command may touch only its own cache"
local APP = { "server", "client", "proxy", "command", "every", "after", "spawn", "sleep", "http", "tcp", "udp", "tls",
  "dns", "fs", "redis", "pubsub", "publish", "shared", "workers", "all", "race", "channel", "semaphore", "lock",
  "timeout", "socketley", "self", "runtimes", "io", "os", "package" }

local loading = false

-- The db object -----------------------------------------------------------------------------------------------------

local function value(kind)
  if kind == STRING or kind == STATUS then
    return str(answer.bytes, answer.len)
  elseif kind == NUMBER then
    return answer.number
  elseif kind == NIL then
    return nil
  end
  return take_plain()
end

local function execute(command, ...)
  local kind, text = run(select("#", ...) + 1, command, ...)
  if kind == ERROR then
    error({ err = text or str(answer.bytes, answer.len) }, 0)
  end
  return value(kind)
end

local function make_method(key)
  local command = upper(key)
  return function(_, ...)
    return execute(command, ...)
  end
end

local methods = {
  --- Any command by its name.
  call = function(_, ...)
    return execute(...)
  end,
}
local db = setmetatable({}, {
  __index = setmetatable(methods, {
    __index = function(_, key)
      if type(key) ~= "string" or not match(key, "^%l[%l%d_]*$") then
        return nil
      end
      local method = make_method(key)
      rawset(methods, key, method)
      return method
    end,
  }),
  __newindex = function() error("db can't be changed", 2) end,
  __metatable = "db",
})

-- What isn't here ---------------------------------------------------------------------------------------------------

local absent = {}
local function touch()
  if not loading then
    error(FOREIGN, 2)
  end
  return absent
end
local function compare()
  if not loading then
    error(FOREIGN, 2)
  end
  return false
end
setmetatable(absent, {
  __index = touch, __call = touch, __concat = touch, __unm = touch, __add = touch, __sub = touch, __mul = touch,
  __div = touch, __mod = touch, __pow = touch, __lt = compare, __le = compare,
  __newindex = function() touch() end, __metatable = "absent",
})

-- Reading a file ----------------------------------------------------------------------------------------------------

local wanted, found -- the cache's name, and its definition

local function define(name, fields)
  if name == wanted and type(fields) == "table" then
    found = fields
  end
  return absent
end

local cache = setmetatable({}, {
  __call = function(_, name, fields)
    if not loading then
      error(FOREIGN, 2)
    elseif fields ~= nil then
      return define(name, fields)
    end
    return function(later) return define(name, later) end
  end,
  __index = touch,
  __newindex = function() touch() end,
  __metatable = "cache",
})

local function words(...)
  local list = {}
  for index = 1, select("#", ...) do
    list[index] = tostring((select(index, ...)))
  end
  return table.concat(list, " ")
end

local function logger(level)
  return function(...) native.log(level, words(...)) end
end

local log = readonly { debug = logger(0), info = logger(2), warn = logger(3), error = logger(3) }

local function module_text(files, name)
  local path = gsub(name, "%.", "/")
  for index = 2, #files do
    local file = files[index][1]
    for _, ending in ipairs { "/" .. path .. ".lua", "/" .. path .. "/init.lua" } do
      if sub("/" .. file, -#ending) == ending then
        return files[index][2], "@" .. file
      end
    end
  end
end

local function make_require(files, env)
  local loaded = {}
  return function(name)
    if loaded[name] ~= nil then
      return loaded[name]
    end
    local text, chunk = native.pure_module(name)
    if not text then
      text, chunk = module_text(files, name)
    end
    if not text then
      return touch()
    end
    local fn, problem = load(text, chunk, "t", env)
    if not fn then
      error(problem, 0)
    end
    loaded[name] = true
    local result = fn(name)
    if result ~= nil then
      loaded[name] = result
    end
    return loaded[name]
  end
end

local function environment(files)
  local base, view = sk.environment(absent)
  setmetatable(base, nil)
  local env = setmetatable({}, { __index = base })
  for _, name in ipairs(APP) do
    base[name] = absent
  end
  base.server, base.redis, base._G, base.cache, base.log = absent, absent, env, cache, log
  base.load = function(chunk, _, _, other)
    return load(chunk, "=(load)", "t", other or env)
  end
  base.loadstring = base.load
  base.require = make_require(files, env)
  base.print = logger(2)
  base.setmetatable, base.rawset = view.setmetatable, view.rawset
  return env
end

local function told(err)
  if type(err) == "table" and type(rawget(err, "err")) == "string" then
    return rawget(err, "err")
  end
  return tostring(err)
end

local function read(files, name)
  wanted, found, loading = name, nil, true
  local fn, problem = load(files[1][2], "@" .. files[1][1], "t", environment(files))
  local ok = fn ~= nil
  if fn then
    ok, problem = xpcall(fn, told)
  end
  loading = false
  local definition = found
  wanted, found = nil, nil
  return ok and (definition or {}), problem
end

--- The commands of cache `name` in the file: rows of name and main function; or nil and what is wrong.
function sk.load_commands(name, files)
  local definition, problem = read(files, name)
  if not definition then
    return nil, problem
  end
  local rows = {}
  for key, command in next, type(definition.commands) == "table" and definition.commands or {} do
    local fn = type(command) == "table" and command.run or command
    if type(key) == "string" and type(fn) == "function" then
      rows[#rows + 1] = { name = key, run = sk.main("command", fn, sk.place_of(fn), db) }
    end
  end
  return rows
end
