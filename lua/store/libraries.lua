--- FUNCTION's libraries: evaluated once with little more than `redis.register_function`, then called by FCALL.

local sk = ...
local refuse, native = sk.refuse, sk.native
local xpcall, load, type, next, select = xpcall, load, type, next, select
local match = string.match

local FLAGS = { ["no-writes"] = true, ["allow-oom"] = true, ["allow-stale"] = true, ["no-cluster"] = true,
  ["allow-cross-slot-keys"] = true }
local NAMES = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character "
  .. "long"

local rows -- of the library that is loaded

local function flags_of(flags)
  if type(flags) ~= "table" then
    refuse("flags argument to redis.register_function must be a table representing function flags")
  end
  local list = {}
  for index = 1, #flags do
    if not FLAGS[flags[index]] then
      refuse("unknown flag given")
    end
    list[index] = flags[index]
  end
  return list
end

--- The named form: `{ function_name =, callback =, flags =, description = }`.
local function named(arguments)
  local name, callback, flags, description
  for key, value in next, arguments do
    if key == "function_name" then
      if type(value) ~= "string" then
        refuse("function_name argument given to redis.register_function must be a string")
      end
      name = value
    elseif key == "description" then
      if type(value) ~= "string" then
        refuse("description argument given to redis.register_function must be a string")
      end
      description = value
    elseif key == "callback" then
      if type(value) ~= "function" then
        refuse("callback argument given to redis.register_function must be a function")
      end
      callback = value
    elseif key == "flags" then
      flags = flags_of(value)
    else
      refuse("unknown argument given to redis.register_function")
    end
  end
  if not name then
    refuse("redis.register_function must get a function name argument")
  elseif not callback then
    refuse("redis.register_function must get a callback argument")
  end
  return name, callback, flags, description
end

local function register_function(...)
  if not rows then
    refuse("redis.register_function can only be called on FUNCTION LOAD command")
  end
  local count = select("#", ...)
  local name, callback, flags, description = ...
  if count < 1 or count > 2 then
    refuse("wrong number of arguments to redis.register_function")
  elseif count == 1 then
    if type(name) ~= "table" then
      refuse("calling redis.register_function with a single argument is only applicable to Lua table (representing "
        .. "named arguments).")
    end
    name, callback, flags, description = named(name)
  else
    if type(name) ~= "string" then
      refuse("first argument to redis.register_function must be a string")
    elseif type(callback) ~= "function" then
      refuse("second argument to redis.register_function must be a function")
    end
    flags, description = nil, nil
  end
  if not match(name, "^[%w_]+$") then
    refuse(NAMES)
  end
  for index = 1, #rows do
    if rows[index].name == name then
      refuse("Function already exists in the library")
    end
  end
  local run = sk.main("function", callback, sk.place_of(callback))
  rows[#rows + 1] = { name = name, description = description, flags = flags or {}, run = run }
end

--- While a library is evaluated there is nothing but this: what it needs, its functions find when they run.
local loading = { register_function = register_function }
for name, member in next, sk.common do
  if match(name, "^log$") or match(name, "^LOG_") or match(name, "^REDIS_") then
    loading[name] = member
  end
end
setmetatable(loading, { __index = sk.no_such_global })
local only_loading = setmetatable({ redis = sk.readonly(loading) }, { __index = sk.no_such_global })
only_loading.server = only_loading.redis

local base, env = sk.environment(sk.readonly(sk.redis))
local env_metatable = debug.getmetatable(env)

local function load_error(err)
  if type(err) == "table" then
    err = rawget(err, "err")
  else
    err = "ERR " .. tostring(err)
  end
  return type(err) == "string" and err or "ERR unknown error"
end

--- Evaluates a library. Its functions' rows, or nil and the error line.
function sk.load_library(text)
  local fn, message = load(text, "@user_function", "t", env)
  if not fn then
    return nil, "ERR Error compiling function: " .. message
  end
  rows = {}
  env_metatable.__index = only_loading
  local ok, err = xpcall(fn, load_error)
  env_metatable.__index = base
  local registered = rows
  rows = nil
  if not ok then
    return nil, "ERR Error registering functions: " .. err
  end
  return registered
end
