--- `pubsub.on(channel, fn)` and `publish(channel, message)`: the channels that a cache's clients subscribe to.
---
--- ```lua
--- pubsub.on("news", function(message) chat:broadcast(message) end)
--- pubsub.on("room:*", function(message, channel) log.info("%s: %s", channel, message) end)
--- publish("news", "hello")
--- ```
--- The messages of one listener are handled in their order, one after the other. When the handler is too slow the host
--- drops the newest ones, counts them and says so in the log.

local sk = ...
local native, on_event, call, str = sk.native, sk.on_event, sk.call, ffi.string
local next_id, format = sk.next_id, string.format

local listeners = {} -- by number

local Listener = {}
local listener_metatable = { __index = Listener, __metatable = "listener" }
local listener_of = setmetatable({}, { __mode = "k" })

--- The lane of a listener, if it still listens.
function sk.listen_lane(id)
  local listener = listeners[id]
  return listener and listener.lane
end

on_event[sk.CHANNEL] = function(_, event)
  local listener, channel_len = listeners[event.id], event.slot
  if not listener then
    return
  end
  local bytes = str(event.bytes, event.len)
  sk.run_lane(listener.lane, function()
    if listeners[listener.id] then
      local channel, message = string.sub(bytes, 1, channel_len), string.sub(bytes, channel_len + 1)
      call(nil, listener.event, listener.runtime, nil, listener.fn, message, channel)
    end
  end)
end

--- Listens no more; a handler that runs goes on.
function Listener.cancel(object)
  local listener = listener_of[object]
  if not listener then
    error("listener:cancel: expected a listener before the colon, got " .. type(object), 2)
  end
  if listeners[listener.id] then
    listeners[listener.id] = nil
    sk.when_committed(function() native.unlisten(listener.id) end)
  end
end

--- The cache whose channels are meant when nobody says which: the app's only one, else the daemon's only one.
local function the_cache()
  local own = {}
  for _, runtime in ipairs(sk.definitions) do
    if runtime.kind == "cache" then
      own[#own + 1] = runtime.name
    end
  end
  local names = #own > 0 and own or native.cache_names()
  if #names == 1 then
    return names[1]
  elseif #names == 0 then
    return nil, "no cache runs here, and channels are a cache's"
  end
  return nil, 'there are several caches: say which, with { cache = "' .. names[1] .. '" }'
end

local function read_options(name, options, level)
  if options == nil then
    return {}
  elseif type(options) ~= "table" then
    error(name .. ": options: expected a table, got " .. type(options), level + 1)
  end
  local cache = options.cache
  if cache ~= nil and type(cache) ~= "string" then
    local runtime = sk.runtime_of[cache]
    cache = runtime and runtime.kind == "cache" and runtime.name
    if not cache then
      error(name .. ": cache: expected a cache or its name, got " .. sk.show(options.cache), level + 1)
    end
  end
  return { cache = cache, pattern = options.pattern, workers = options.workers }
end

local function listen(name, channel, fn, options, level)
  if type(channel) ~= "string" then
    error(name .. ": channel: expected a string, got " .. type(channel), level + 1)
  elseif type(fn) ~= "function" then
    error(name .. ": expected a function, got " .. type(fn), level + 1)
  end
  local is_pattern = options.pattern
  if is_pattern == nil then
    is_pattern = string.find(channel, "[%*%?%[]") ~= nil
  end
  local listener = {
    id = next_id(), fn = fn, lane = sk.new_lane(), event = name .. " " .. sk.show(channel),
    runtime = sk.current_runtime() or sk.owner,
  }
  listeners[listener.id] = listener
  sk.when_committed(function()
    local cache, problem = options.cache, nil
    if not cache then
      cache, problem = the_cache()
    end
    if not listeners[listener.id] then
      return -- cancelled before the commit
    elseif cache then
      native.listen(listener.id, cache, is_pattern == true, options.workers ~= "all", channel)
    else
      native.log(3, -1, name .. " " .. sk.show(channel) .. ": " .. problem)
    end
  end)
  local object = setmetatable({}, listener_metatable)
  listener_of[object] = listener
  return object
end

local pubsub = {}

--- Calls `fn(message, channel)` for each message of a channel, or of all channels that fit a pattern (`*`, `?`, `[ab]`;
--- `{ pattern = false }` takes the name as it is). `{ cache = "db" }` says whose channels, where there are several. An
--- app that lives on several workers hears each message once, with `{ workers = "all" }` on each of them.
function pubsub.on(channel, fn, options)
  local listener = listen("pubsub.on", channel, fn, read_options("pubsub.on", options, 2), 2)
  return listener -- no tail call: an error's level counts this frame
end

--- Sends a message to all who listen to a channel: clients of the cache and apps. Answers how many there are.
function pubsub.publish(channel, message, options)
  options = read_options("publish", options, 2)
  if type(channel) ~= "string" then
    error("publish: channel: expected a string, got " .. type(channel), 2)
  end
  message = sk.message_text("publish: message", message, 2)
  local cache, problem = options.cache, nil
  if not cache then
    cache, problem = the_cache()
    if not cache then
      error("publish: " .. problem, 2)
    end
  end
  return sk.cache_handle(cache):publish(channel, message)
end

sk.pubsub = pubsub

--- The original's way to listen: one channel of one cache.
function sk.subscribe(cache, channel, fn)
  if type(cache) ~= "string" then
    error("socketley.subscribe: cache: expected a name, got " .. type(cache), 2)
  end
  local listener = listen("socketley.subscribe", channel, fn, { cache = cache, pattern = false }, 2)
  return listener
end
