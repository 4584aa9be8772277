--- Sessions of HTTP clients: a table per client, kept in a cache, found again by a cookie that says nothing.
---
--- ```lua
--- local session = require "socketley.session"
--- cache "db" { port = 6379 }
--- server "web" {
---   port = 8000,
---   middleware = { session.middleware { cache = "db", ttl = "1h" } },
---   routes = { ["GET /"] = function(req)
---     req.session.visits = (req.session.visits or 0) + 1
---     return "visit " .. req.session.visits
---   end },
--- }
--- ```
--- `req.session` is plain data (what JSON has) and saved when the handler has answered. `session.renew(req)`
--- gives it a new
--- id, which is due after a login; `session.destroy(req)` ends it.

local crypto = require "socketley.crypto"
local hex = require "socketley.hex"
local http = require "socketley.http"
local json = require "socketley.json"
local time = require "socketley.time"

---@class session.Options
---@field cache string the cache's name
---@field ttl? number|string after its last use (default: "1d")
---@field cookie? string the cookie's name (default: "sid")
---@field secure? boolean the cookie goes over TLS only (default: false)
---@field same_site? "Lax"|"Strict"|"None" (default: "Lax")
---@field prefix? string of the keys (default: "session:")

local M = {}

local states = setmetatable({}, { __mode = "k" }) -- by request

local function new_id()
  return hex.encode(crypto.random(20))
end

local function is_id(text)
  return type(text) == "string" and #text == 40 and not text:find("%X")
end

local function load(store, prefix, id)
  local text = is_id(id) and store:get(prefix .. id)
  if type(text) == "string" then
    local ok, data = pcall(json.decode, text)
    if ok and type(data) == "table" then
      return data, text
    end
  end
end

--- Middleware that gives each request its `req.session`.
---@param options session.Options
---@return http.Middleware
function M.middleware(options)
  if type(options) ~= "table" or type(options.cache) ~= "string" then
    error("session.middleware: cache: expected the name of a cache", 2)
  end
  local prefix, name = options.prefix or "session:", options.cookie or "sid"
  local ttl = math.ceil(time.seconds(options.ttl or "1d"))
  local attributes = { max_age = ttl, secure = options.secure, same_site = options.same_site }

  local function set_cookie(res, id)
    res:header("Set-Cookie", http.cookie(name, id, attributes))
  end

  return function(req, res, next)
    local store = cache[options.cache]
    local id = (req.cookies or {})[name]
    local data, before = load(store, prefix, id)
    local state = { id = data and id, store = store, prefix = prefix, saved = before }
    -- A header can't be changed once the answer has begun: the id is there before the handler.
    if not state.id then
      state.id = new_id()
    end
    set_cookie(res, state.id)
    function state.renew()
      store:del(prefix .. state.id)
      state.id, state.saved = new_id(), nil
      set_cookie(res, state.id)
    end
    states[req] = state
    req.session = data or {}
    local answer = next()
    if state.destroyed then
      return answer
    end
    local text = json.encode(req.session)
    if text ~= state.saved and not (state.saved == nil and text == "{}") then
      store:set(prefix .. state.id, text, "EX", ttl)
    elseif state.saved then
      store:expire(prefix .. state.id, ttl)
    end
    return answer
  end
end

local function state_of(req, name)
  local state = states[req]
  if not state then
    error("session." .. name .. ": the request has no session; is the middleware there?", 3)
  end
  return state
end

--- Gives the session a new id; its data stays.
function M.renew(req)
  state_of(req, "renew").renew()
end

--- Ends the session: its data is gone, its cookie finds nothing.
function M.destroy(req)
  local state = state_of(req, "destroy")
  state.store:del(state.prefix .. state.id)
  state.destroyed = true
  req.session = {}
end

return M
