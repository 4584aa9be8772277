--- What a cache's app hears of it: its hooks' events, keys that readers miss, and changes to write behind.
---
--- The events of one cache are handled one after the other, also when a handler waits (a *lane*); misses run beside
--- them. What a hook itself does to its cache no hook hears of: `kind[1]` says so to the store, across waits.

local sk = ...
local host, leaf, kind = sk.host, sk.leaf, sk.kind
local on_event, call, str = sk.on_event, sk.call, ffi.string
local argument = leaf.argument
local floor, sub = math.floor, string.sub
local band, rshift = bit.band, bit.rshift

local NAMES = { [0] = "on_expire", "on_evict", "on_write", "on_delete" }
local EXPIRED, EVICTED, WRITTEN = 0, 1, 2
local ABSENT, TEXT, COLLECTION = 0, 1, 2
local BEHIND = 1 -- of `leaf.done`
local NOTHING, STRING, HASH, FAILED = 0, 1, 2, 3 -- of `leaf.land`

--- Calls a hook from a loop's body, as `sk.call`.
local function hook(runtime, event, fn, ...)
  local function quietly(...)
    kind[1] = 1
    return fn(...)
  end
  local ok, result = call(nil, event, runtime, nil, quietly, ...)
  kind[1] = 0
  return ok, result
end

-- Lanes -------------------------------------------------------------------------------------------------------------

local lane_of = {} -- by coroutine: the lane that it runs

--- A queue of functions that run one after the other; a full one can't be, as the host bounds what it hands out.
function sk.new_lane()
  return { first = 1, last = 0 }
end

--- Adds a job to a lane and runs what is in it, unless that happens already. From a loop's body.
function sk.run_lane(lane, job)
  lane.last = lane.last + 1
  lane[lane.last] = job
  if lane.running then
    return
  end
  local me = coroutine.running()
  lane.running, lane_of[me] = true, lane
  while lane.first <= lane.last do
    local next_job = lane[lane.first]
    lane[lane.first] = nil
    lane.first = lane.first + 1
    next_job()
  end
  lane.first, lane.last = 1, 0
  lane.running, lane_of[me] = nil, nil
end

--- A coroutine died in trusted code: its lane goes on without the job that it was at.
function sk.lane_died(co)
  local lane = lane_of[co]
  lane_of[co] = nil
  if lane then
    lane.running = nil
    sk.queue { event = "the dispatcher", fn = function() sk.run_lane(lane, function() end) end }
  end
end

--- The host gave its events; it gives more when their handlers have ended.
on_event[sk.END] = function(loop, event)
  local what, id = event.arg, event.id
  local lane = what == 0 and loop.runtime.lane or sk.listen_lane(id)
  local function ended() leaf.done(host, what, id, true) end
  if lane then
    sk.run_lane(lane, ended)
  else
    ended()
  end
end

-- Events ------------------------------------------------------------------------------------------------------------

local function value_of(form, bytes)
  if form == TEXT then
    return bytes
  elseif form == COLLECTION then
    return sk.native.read_reply(bytes)
  end
end

on_event[sk.HOOK] = function(loop, event)
  local runtime, arg, key_len = loop.runtime, event.arg, event.slot
  local what, form = band(arg, 3), band(rshift(arg, 2), 3)
  local database, command_len = band(rshift(arg, 4), 15), rshift(arg, 8)
  local ttl_ms, bytes = event.id, str(event.bytes, event.len)
  local name = NAMES[what]
  local handler = runtime.handlers[name]
  if not handler then
    return
  end
  local lane = runtime.lane
  if not lane then
    lane = sk.new_lane()
    runtime.lane = lane
  end
  local key, command = sub(bytes, 1, key_len), sub(bytes, key_len + 1, key_len + command_len)
  sk.run_lane(lane, function()
    local value = value_of(form, sub(bytes, key_len + command_len + 1))
    if what == WRITTEN then
      hook(runtime, name, handler, key, value, ttl_ms >= 0 and ttl_ms / 1000 or nil, command, database)
    elseif what == EXPIRED or what == EVICTED then
      hook(runtime, name, handler, key, value, database)
    else
      hook(runtime, name, handler, key, database)
    end
  end)
end

-- Reading through -----------------------------------------------------------------------------------------------------

local function text_of(value)
  if type(value) == "string" then
    return value
  elseif type(value) == "number" then
    return sk.number_text(value)
  end
end

--- Milliseconds of what `on_miss` says beside a value: seconds or a duration; 0 for none.
local function ttl_of(ttl)
  if ttl == nil or ttl == 0 then
    return 0
  end
  return math.max(sk.milliseconds("on_miss: the time to live", ttl), 1)
end

--- The fields and values of a table as texts.
local function pairs_of(value)
  local list = {}
  for field, item in next, value do
    local field_text, item_text = text_of(field), text_of(item)
    if not field_text or not item_text then
      error("on_miss: a hash's fields and values are strings or numbers, got " .. type(item), 0)
    end
    list[#list + 1] = field_text
    list[#list + 1] = item_text
  end
  return list
end

--- Form, arguments and time to live of what `on_miss` answered.
local function landing(value, ttl)
  if value == nil then
    return NOTHING, {}, 0
  elseif type(value) == "table" then
    local list = pairs_of(value)
    return #list > 0 and HASH or NOTHING, list, ttl_of(ttl)
  end
  local text = text_of(value)
  if not text then
    error("on_miss: expected a string, a number, a table of fields or nil, got " .. type(value), 0)
  end
  return STRING, { text }, ttl_of(ttl)
end

on_event[sk.MISS] = function(loop, event)
  local runtime, number, database = loop.runtime, event.id, event.arg
  local key = str(event.bytes, event.len)
  local form, list, ttl_ms = FAILED, nil, 0
  local handler = runtime.handlers.on_miss
  if handler then
    hook(runtime, "on_miss", function()
      form, list, ttl_ms = landing(handler(key, database))
    end)
  else
    form, list = NOTHING, {} -- the new version of the app has none
  end
  for _, text in ipairs(list or { "ERR on_miss failed: the log of the cache says why" }) do
    argument(host, text, #text)
  end
  leaf.land(host, sk.native.cache_index(runtime.name), number, form, ttl_ms)
end

-- Writing behind ------------------------------------------------------------------------------------------------------

on_event[sk.BEHIND] = function(loop, event)
  local runtime = loop.runtime
  local batch = sk.native.read_reply(str(event.bytes, event.len))
  local handler = runtime.handlers.write_behind
  local is_written = handler == nil
  if handler then
    hook(runtime, "write_behind", function()
      local answer, err = handler(batch)
      if answer == false or answer == nil and err ~= nil then
        error("write_behind: " .. tostring(err == nil and "it answered false" or err), 0)
      end
      is_written = true
    end)
  end
  leaf.done(host, BEHIND, runtime.id, is_written)
end

-- Waiting for a key ---------------------------------------------------------------------------------------------------

--- Waits until the cache's app has said what the keys are; `push` gives them to the host. Answers nothing, or an error.
function sk.wait_for_keys(name, index, push, level)
  local task = sk.begin_wait(name, level + 1)
  push()
  leaf.ask(host, index, task.wait)
  leaf.timer(host, task.wait, sk.miss_wait_ms)
  local answer, err = sk.suspend()
  if answer == true then
    return sk.no("timeout", name .. ": on_miss took too long")
  end
  return err
end

on_event[sk.LANDED] = function(_, event)
  local task = sk.waits[event.id]
  if not task then
    return
  end
  leaf.cancel_timer(host, event.id)
  if event.arg == 0 then
    sk.wake(task, "landed")
  else
    local line = str(event.bytes, event.len)
    sk.wake(task, nil, sk.no(string.match(line, "^%u+") or "ERR", line))
  end
end
