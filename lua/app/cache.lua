--- `cache.name`: any store command as a method in lower case, in process.
---
--- The arguments go to Rust one by one through the FFI, the command runs under the store's lock, and simple replies
--- come
--- back through one struct. What the script did wrong is an error; what the store says no to is `nil, err`.

local sk = ...
local host, leaf = sk.host, sk.leaf
local argument, execute, answer = leaf.argument, leaf.execute, sk.answer
local str, floor, format = ffi.string, math.floor, string.format
local upper, match = string.upper, string.match

local kind = sk.kind
local bor = bit.bor

local NIL, STRING, NUMBER, TRUE, FALSE, ERROR, TABLE, ABSENT, MISSED = 0, 1, 2, 3, 4, 5, 6, 7, 8

-- How a command runs: hooks don't hear of it; the cache's app may be asked for what it misses.
local QUIET, MAY_ASK = 1, 2
local ASKING = { GET = true, GETEX = true, MGET = true, HGETALL = true }

local handles = {} -- by name

local function number_text(value)
  local whole = value == floor(value) and value > -1e15 and value < 1e15
  return whole and format("%d", value) or format("%.17g", value)
end
sk.number_text = number_text

local function push(value, position, name)
  local value_type = type(value)
  if value_type == "string" then
    return argument(host, value, #value)
  elseif value_type == "number" then
    local text = number_text(value)
    return argument(host, text, #text)
  end
  leaf.argument(host, nil, 0) -- forgets what was pushed
  error(format("%s: argument %d: expected a string or number, got %s", name, position, value_type), 3)
end

local function refused(text, cache_name, name)
  if match(text, "^ERR unknown command") then
    error(format("cache.%s:%s: the store has no such command", cache_name, name), 2)
  elseif match(text, "^ERR wrong number of arguments") then
    error(format("cache.%s:%s: wrong number of arguments", cache_name, name), 2)
  end
  return nil, sk.no(match(text, "^%u+") or "ERR", text)
end

local function absent(cache_name)
  local near = sk.native.nearest_cache(cache_name)
  error(format('no cache called "%s" runs here%s', cache_name, near and format('; did you mean "%s"?', near) or ""), 2)
end

local function result(cache_name, name)
  local form = answer.kind
  if form == STRING then
    return str(answer.bytes, answer.len)
  elseif form == NIL then
    return nil
  elseif form == NUMBER then
    return answer.number
  elseif form == TRUE then
    return true
  elseif form == FALSE then
    return false
  elseif form == TABLE then
    return sk.native.take_reply()
  elseif form == ABSENT then
    return absent(cache_name)
  end
  return refused(str(answer.bytes, answer.len), cache_name, name)
end

local run

--- The command missed a key that the cache's app may have: waits for it, then runs the command as it is.
local function wait_and_run(index, cache_name, name, command, flags, count, ...)
  local arguments = { ... }
  if sk.can_wait() then
    local err = sk.wait_for_keys("cache." .. cache_name .. ":" .. name, index, function()
      for position = 1, command == "MGET" and count or 1 do
        push(arguments[position], position, name)
      end
    end, 2)
    if err then
      return nil, err
    end
  end
  return run(index, cache_name, name, command, flags - MAY_ASK, count, ...)
end

--- The calls below are tail calls, so that an error's level 2 is the script's line.
--- Four arguments without a table or a loop that the JIT couldn't compile; more are rare.
function run(index, cache_name, name, command, flags, count, a, b, c, d, ...)
  argument(host, command, #command)
  if count > 0 then
    push(a, 1, name)
    if count > 1 then
      push(b, 2, name)
      if count > 2 then
        push(c, 3, name)
        if count > 3 then
          push(d, 4, name)
        end
      end
    end
  end
  if count > 4 then
    local rest = { ... }
    for position = 5, count do
      push(rest[position - 4], position, name)
    end
  end
  -- A hook that asked for what it is asked for would wait for itself.
  execute(host, index, kind[1] == 0 and flags or QUIET, answer)
  if answer.kind == MISSED then
    return wait_and_run(index, cache_name, name, command, flags, count, a, b, c, d, ...)
  end
  return result(cache_name, name)
end

local function make_method(object, index, cache_name, key, is_quiet)
  local command = upper(key)
  local flags = bor(is_quiet and QUIET or 0, ASKING[command] and MAY_ASK or 0)
  return function(first, ...)
    if first == object then
      return run(index, cache_name, key, command, flags, select("#", ...), ...)
    end
    if first == nil and select("#", ...) == 0 then
      return run(index, cache_name, key, command, flags, 0)
    end
    return run(index, cache_name, key, command, flags, select("#", ...) + 1, first, ...)
  end
end

--- A command of the cache `name` as a method of `object`; nil for what can't be a command. `is_quiet`: hooks don't hear
--- of it.
function sk.cache_method(object, name, key, is_quiet)
  if type(key) ~= "string" or not match(key, "^%l[%l%d_]*$") then
    return nil
  end
  return make_method(object, sk.native.cache_index(name), name, key, is_quiet)
end

-- Apart from `cache_handle`: the JIT can't compile a function whose exit closes upvalues.
local function make_handle(name)
  local handle = setmetatable({}, {
    __index = function(object, key)
      local method = sk.cache_method(object, name, key)
      if method then
        rawset(object, key, method)
      end
      return method
    end,
    __metatable = "cache",
    __tostring = function() return 'cache "' .. name .. '"' end,
  })
  handles[name] = handle
  return handle
end

--- The handle of a cache by name. It may be taken before the cache runs.
function sk.cache_handle(name)
  local handle = handles[name]
  if handle then
    return handle
  end
  return type(name) == "string" and make_handle(name) or nil
end

--- Whether a cache of that name runs.
function sk.is_cache(name)
  return type(name) == "string" and sk.native.has_cache(name)
end
