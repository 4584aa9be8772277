--- A client for Redis and what speaks like it: a pool of connections that may be kept at module level and used by any
--- handler at the same time.
---
--- ```lua
--- local db = redis.connect "redis://127.0.0.1:6379/0"
--- db:set("greeting", "hello", "EX", 60)
--- local value, err = db:get "greeting"
--- local replies = db:pipeline(function(p) p:incr "n" p:get "greeting" end)
--- local sub = db:subscribe("news")
--- local channel, message = sub:receive()
--- ```
--- A command answers its reply (nil for none), or `nil, err`: `err.code` is the first word of what Redis says ("ERR",
--- "WRONGTYPE", ...) or the network's ("refused", "timeout", "closed").

local task = require "socketley.task"
local tcp = require "socketley.tcp"
local url = require "socketley.url"

---@class redis.Options
---@field host? string (default: "127.0.0.1")
---@field port? integer (default: 6379)
---@field username? string
---@field password? string
---@field db? integer (default: 0)
---@field timeout? number|string of a dial and of each reply (default: "5s")
---@field pool? integer connections at most (default: 16)
---@field tls? boolean (default: false)
---@field ca? string
---@field insecure? boolean

local M = {}

local IDLE_SECONDS = 60
local REPLY_DEPTH_MAX = 32
local PIPELINE_MAX = 100000

local Error = { __tostring = function(err) return err.message end }

local function problem(code, message)
  return setmetatable({ code = code, message = message }, Error)
end

--- Whether a value of a reply is an error.
function M.is_error(value)
  return getmetatable(value) == Error
end

-- The protocol ------------------------------------------------------------------------------------------------------

local function argument(value, position)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    local whole = value % 1 == 0 and value > -1e15 and value < 1e15
    return (whole and "%d" or "%.17g"):format(value)
  end
  error(("redis: argument %d: expected a string or number, got %s"):format(position, kind), 0)
end

local function packed(...)
  local count = select("#", ...)
  local parts = { "*" .. count .. "\r\n" }
  for position = 1, count do
    local text = argument((select(position, ...)), position)
    parts[#parts + 1] = "$" .. #text .. "\r\n" .. text .. "\r\n"
  end
  return table.concat(parts)
end

--- One reply: ok, value. Not ok: the connection can't go on, and why.
local function read(socket, timeout, depth)
  local line, err = socket:receive("*l", timeout)
  if not line then
    return false, err
  end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "+" then
    return true, rest
  elseif kind == ":" then
    return true, tonumber(rest)
  elseif kind == "-" then
    return true, problem(rest:match("^%u+") or "ERR", rest)
  end
  local count = tonumber(rest)
  if kind == "$" and count == -1 or kind == "*" and count == -1 or kind == "_" then
    return true, nil
  elseif kind == "$" and count then
    local text
    text, err = socket:receive(count + 2, timeout)
    if not text then
      return false, err
    end
    return true, text:sub(1, -3)
  elseif kind == "*" and count and depth < REPLY_DEPTH_MAX then
    local items, has_gaps = {}, false
    for index = 1, count do
      local ok, item = read(socket, timeout, depth + 1)
      if not ok then
        return false, item
      end
      items[index] = item
      has_gaps = has_gaps or item == nil
    end
    items.n = has_gaps and count or nil
    return true, items
  end
  return false, problem("protocol", "the other side doesn't speak RESP")
end

-- The pool ----------------------------------------------------------------------------------------------------------

local Client = {}

local function command_on(socket, timeout, ...)
  local ok, err = socket:send(packed(...), timeout)
  if not ok then
    return false, err
  end
  return read(socket, timeout, 0)
end

local function greet(options, socket)
  local function say(...)
    local ok, reply = command_on(socket, options.timeout, ...)
    if not ok then
      return nil, reply
    elseif M.is_error(reply) then
      return nil, reply
    end
    return true
  end
  local ok, err = true, nil
  if options.password and options.username then
    ok, err = say("AUTH", options.username, options.password)
  elseif options.password then
    ok, err = say("AUTH", options.password)
  end
  if ok and options.db ~= 0 then
    ok, err = say("SELECT", options.db)
  end
  return ok, err
end

local function dial(options)
  local socket, err = tcp.connect(options.host, options.port, { timeout = options.timeout, tls = options.tls or nil,
    ca = options.ca, insecure = options.insecure })
  if not socket then
    return nil, err
  end
  local ok
  ok, err = greet(options, socket)
  if not ok then
    socket:abort()
    return nil, err
  end
  return socket
end

local function take(pool)
  while #pool.idle > 0 do
    local kept = table.remove(pool.idle)
    if kept.socket:is_idle() and os.clock() - kept.since < IDLE_SECONDS then
      return kept.socket
    end
    kept.socket:close()
  end
  return dial(pool.options)
end

--- Runs `fn(socket)` with a connection of the pool, which is kept if `fn` answers that it is well.
local function with_socket(pool, fn)
  return pool.places:with(function()
    local socket, err = take(pool)
    if not socket then
      return { false, err }
    end
    local ran, ok, value = pcall(fn, socket)
    if ran and ok then
      pool.idle[#pool.idle + 1] = { socket = socket, since = os.clock() }
    else
      socket:abort()
    end
    if not ran then
      error(ok, 0)
    end
    return { ok, value }
  end)
end

local pools = setmetatable({}, { __mode = "k" }) -- by client

local function pool_of(client, name)
  local pool = pools[client]
  if not pool then
    error("redis:" .. name .. ": expected a client before the colon, got " .. type(client), 3)
  end
  return pool
end

--- Sends a command: `db:call("SET", "key", "value")`.
function Client:call(...)
  local pool = pool_of(self, "call")
  local text = packed(...)
  local answer, err = with_socket(pool, function(socket)
    local ok, problem_ = socket:send(text, pool.options.timeout)
    if not ok then
      return false, problem_
    end
    return read(socket, pool.options.timeout, 0)
  end)
  if not answer then
    return nil, err
  elseif not answer[1] or M.is_error(answer[2]) then
    return nil, answer[2]
  end
  return answer[2]
end

--- Sends many commands at once: `fn(p)` calls them as methods of `p`. Answers the list of replies, in which errors are
--- values (`redis.is_error`) and `n` is their count, or `nil, err`.
function Client:pipeline(fn)
  local pool = pool_of(self, "pipeline")
  local parts = {}
  local collector = setmetatable({}, { __index = function(_, name)
    return function(_, ...)
      if #parts >= PIPELINE_MAX then
        error("redis:pipeline: more than " .. PIPELINE_MAX .. " commands", 2)
      end
      parts[#parts + 1] = packed(name:upper(), ...)
    end
  end })
  fn(collector)
  local answer, err = with_socket(pool, function(socket)
    local ok, problem_ = socket:send(table.concat(parts), pool.options.timeout)
    if not ok then
      return false, problem_
    end
    local replies = { n = #parts }
    for index = 1, #parts do
      ok, replies[index] = read(socket, pool.options.timeout, 0)
      if not ok then
        return false, replies[index]
      end
    end
    return true, replies
  end)
  if not answer then
    return nil, err
  elseif not answer[1] then
    return nil, answer[2]
  end
  return answer[2]
end

--- Closes the connections that nobody uses; later commands open new ones.
function Client:close()
  local pool = pool_of(self, "close")
  for _, kept in ipairs(pool.idle) do
    kept.socket:close()
  end
  pool.idle = {}
end

-- Subscriptions -----------------------------------------------------------------------------------------------------

local Subscription = {}
Subscription.__index = Subscription

--- The next message: its channel, the message and, for a pattern, the pattern. Waits without end unless there is a
--- timeout. Answers `nil, err` when the connection breaks.
---@param timeout? number|string
function Subscription:receive(timeout)
  while true do
    local ok, item = read(self.socket, timeout or "300d", 0)
    if not ok then
      return nil, item
    elseif type(item) == "table" and item[1] == "message" then
      return item[2], item[3]
    elseif type(item) == "table" and item[1] == "pmessage" then
      return item[3], item[4], item[2]
    end
  end
end

--- Ends the subscription.
function Subscription:close()
  self.socket:close()
end

local function subscriber(verb)
  return function(self, ...)
    local pool = pool_of(self, verb:lower())
    local socket, err = dial(pool.options)
    if not socket then
      return nil, err
    end
    for index = 1, select("#", ...) do
      local ok, reply = command_on(socket, pool.options.timeout, verb, (select(index, ...)))
      if not ok or M.is_error(reply) then
        socket:abort()
        return nil, reply
      end
    end
    return setmetatable({ socket = socket }, Subscription)
  end
end

--- Listens to channels on a connection of its own.
Client.subscribe = subscriber "SUBSCRIBE"
--- Listens to patterns of channels.
Client.psubscribe = subscriber "PSUBSCRIBE"

--- Any other name is a command: `db:hgetall "key"`.
local client_metatable = {
  __index = function(_, name)
    local own = Client[name]
    if own or type(name) ~= "string" or not name:match("^%l[%l%d_]*$") then
      return own
    end
    local command = name:upper()
    local function method(self, ...)
      return Client.call(self, command, ...)
    end
    return method
  end,
}

-- Connecting --------------------------------------------------------------------------------------------------------

local OPTIONS = { host = "string", port = "number", username = "string", password = "string", db = "number",
  pool = "number", tls = "boolean", ca = "string", insecure = "boolean", timeout = true }

local function from_url(text)
  local parts, err = url.parse(text)
  if not parts then
    error("redis.connect: " .. tostring(err), 3)
  elseif parts.scheme ~= "redis" and parts.scheme ~= "rediss" then
    error("redis.connect: expected redis://host:port/db or rediss://..., got " .. text, 3)
  end
  local username = parts.user ~= "" and parts.user or nil
  return { host = parts.host, port = parts.port, username = parts.password and username,
    password = parts.password or username, db = tonumber(parts.path:sub(2)), tls = parts.scheme == "rediss" or nil }
end

--- A client; nothing is dialled before its first command. `address`: `redis://user:password@host:port/db`, or options.
---@param address? string|redis.Options
---@param options? redis.Options
function M.connect(address, options)
  if type(address) == "table" then
    options, address = address, nil
  end
  local all = address and from_url(address) or {}
  for name, value in pairs(options or {}) do
    local wanted = OPTIONS[name]
    if not wanted then
      error("redis.connect: " .. tostring(name) .. " is no option of it", 2)
    elseif wanted ~= true and type(value) ~= wanted then
      error(("redis.connect: %s: expected a %s, got %s"):format(name, wanted, type(value)), 2)
    end
    all[name] = value
  end
  all.host, all.port, all.db = all.host or "127.0.0.1", all.port or 6379, all.db or 0
  all.timeout = all.timeout or "5s"
  local client = setmetatable({}, client_metatable)
  pools[client] = { options = all, idle = {}, places = task.semaphore(all.pool or 16) }
  return client
end

return M
