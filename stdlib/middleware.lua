--- Middleware for HTTP servers: what many of them need round their handlers.
---
--- ```lua
--- local middleware = require "socketley.middleware"
--- server "api" {
---   port = 8000,
---   middleware = {
---     middleware.request_id(),
---     middleware.cors { origins = { "https://example.org" } },
---     middleware.basic_auth { users = { ada = "secret" } },
---   },
---   routes = { ["GET /"] = "hello" },
--- }
--- ```

local base64 = require "socketley.base64"
local crypto = require "socketley.crypto"
local hash = require "socketley.hash"
local hex = require "socketley.hex"
local time = require "socketley.time"

local M = {}

--- Secrets of different lengths compared in the same time.
local function same(a, b)
  return crypto.equal(hash.sha256(a, true), hash.sha256(b, true))
end

--- A header that names the request: the client's, if it is a plain word, else a new one. Also `req.id`.
---@param options? { header?: string }
---@return http.Middleware
function M.request_id(options)
  local name = options and options.header or "X-Request-Id"
  return function(req, res, next)
    local given = req:header(name)
    local id = given and #given <= 64 and given:match("^[%w%-_]+$") or hex.encode(crypto.random(8))
    req.id = id
    res:header(name, id)
    return next()
  end
end

--- Says how long the handler took, in milliseconds, waits included: `Server-Timing: app;dur=12`.
---@return http.Middleware
function M.timing()
  return function(_, res, next)
    local start = time.monotonic()
    local answer = next()
    res:header("Server-Timing", ("app;dur=%d"):format((time.monotonic() - start) * 1000))
    return answer
  end
end

--- Headers that close what a page seldom needs. A value of false leaves one away.
---@param headers? table<string, string|false>
---@return http.Middleware
function M.secure_headers(headers)
  local all = { ["X-Content-Type-Options"] = "nosniff", ["X-Frame-Options"] = "DENY",
    ["Referrer-Policy"] = "no-referrer" }
  for name, value in pairs(headers or {}) do
    all[name] = value
  end
  return function(_, res, next)
    for name, value in pairs(all) do
      if value then
        res:header(name, value)
      end
    end
    return next()
  end
end

---@class middleware.CorsOptions
---@field origins? string[]|"*" pages that may ask (default: "*")
---@field methods? string[] (default: GET, HEAD, POST, PUT, PATCH, DELETE)
---@field headers? string[] what they may send (default: what they ask for)
---@field credentials? boolean with cookies; not together with "*" (default: false)
---@field max_age? integer seconds that an answer holds (default: 600)

--- Lets pages of other origins ask (the Fetch standard's CORS protocol), and answers their questions beforehand.
---@param options? middleware.CorsOptions
---@return http.Middleware
function M.cors(options)
  options = options or {}
  local origins = options.origins or "*"
  if origins == "*" and options.credentials then
    error('middleware.cors: credentials can\'t go together with origins = "*": name the origins', 2)
  end
  local known = {}
  for _, origin in ipairs(origins == "*" and {} or origins) do
    known[origin] = true
  end
  local methods = table.concat(options.methods or { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" }, ", ")
  return function(req, res, next)
    local origin = req:header("origin")
    if origins ~= "*" then
      res:header("Vary", "Origin")
    end
    if not origin or origins ~= "*" and not known[origin] then
      return next()
    end
    res:header("Access-Control-Allow-Origin", origins == "*" and "*" or origin)
    if options.credentials then
      res:header("Access-Control-Allow-Credentials", "true")
    end
    if req.method == "OPTIONS" and req:header("access-control-request-method") then
      res:header("Access-Control-Allow-Methods", methods)
      local wanted = options.headers and table.concat(options.headers, ", ")
        or req:header("access-control-request-headers")
      if wanted then
        res:header("Access-Control-Allow-Headers", wanted)
      end
      res:header("Access-Control-Max-Age", tostring(options.max_age or 600))
      return res:status(204):send()
    end
    return next()
  end
end

local function refused(res, challenge)
  res:header("WWW-Authenticate", challenge)
  return res:status(401):send("Unauthorized")
end

--- Asks for a name and password (RFC 7617). `users`: passwords by name, or a function(name, password) that
--- answers whether
--- they are right and may wait. `req.user` is the name.
---@param options { users: table<string, string>|fun(name: string, password: string): boolean, realm?: string }
---@return http.Middleware
function M.basic_auth(options)
  local users = options.users
  if type(users) ~= "table" and type(users) ~= "function" then
    error("middleware.basic_auth: users: expected a table or a function, got " .. type(users), 2)
  end
  local challenge = ('Basic realm="%s", charset="UTF-8"'):format((options.realm or "socketley"):gsub('["\\]', "\\%0"))
  return function(req, res, next)
    local given = (req:header("authorization") or ""):match("^[Bb]asic +(%S+)$")
    local text = given and base64.decode(given)
    local name, password = (text or ""):match("^([^:]*):(.*)$")
    local ok = false
    if name and type(users) == "function" then
      ok = users(name, password)
    elseif name then
      ok = same(users[name] or "", password) and users[name] ~= nil
    end
    if not ok then
      return refused(res, challenge)
    end
    req.user = name
    return next()
  end
end

--- Asks for a bearer token (RFC 6750). `tokens`: whose each is, by token, or a function(token) that answers
--- whose it is,
--- or nothing, and may wait. `req.user` is that.
---@param options { tokens: table<string, any>|fun(token: string): any }
---@return http.Middleware
function M.bearer_auth(options)
  local tokens = options.tokens
  if type(tokens) ~= "table" and type(tokens) ~= "function" then
    error("middleware.bearer_auth: tokens: expected a table or a function, got " .. type(tokens), 2)
  end
  return function(req, res, next)
    local given = (req:header("authorization") or ""):match("^[Bb]earer +(%S+)$")
    local user
    if given and type(tokens) == "function" then
      user = tokens(given)
    elseif given then
      for token, whose in pairs(tokens) do
        if same(token, given) then
          user = whose
        end
      end
    end
    if not user then
      return refused(res, "Bearer")
    end
    req.user = user
    return next()
  end
end

return M
