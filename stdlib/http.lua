--- HTTP for servers: a router with groups and middleware, and small helpers for answers.
---
--- ```lua
--- local http = require "socketley.http"
--- local app = http.router()
--- app:use(function(req, res, next)
---   res:header("X-Served-By", "socketley")
---   return next()
--- end)
--- app:get("/users/:id", function(req) return { json = { id = req.params.id } } end)
--- server "web" { port = 8000, routes = app:routes() }
--- ```
--- A handler gets the request and the response and answers a string, a table (`status`, `headers`, and `body`, `json`,
--- `html` or `redirect`), a status, or uses the response: `res:send`, `res:write`, `res:events`. Any handler may wait.

---@alias http.Handler fun(req: table, res: table): any
---@alias http.Middleware fun(req: table, res: table, next: fun(): any): any

---@class http.CookieOptions
---@field path? string (default: "/")
---@field domain? string
---@field max_age? integer seconds; 0 removes the cookie (default: until the browser ends)
---@field http_only? boolean out of scripts' reach (default: true)
---@field secure? boolean over TLS only (default: false)
---@field same_site? "Lax"|"Strict"|"None" (default: "Lax")

local M = {}

--- Requests to other servers are in `stdlib/http/client.lua`, which is loaded with the first one.
local function client(name)
  return function(...)
    return require("socketley.http.client")[name](...)
  end
end

--- `http.get(url, options)`, and its kin: see `socketley.http.client`. All wait, and answer a response or `nil, err`.
M.request, M.get, M.head, M.delete = client "request", client "get", client "head", client "delete"
M.post, M.put, M.patch = client "post", client "put", client "patch"

local Router = {}
Router.__index = Router

local METHODS = { get = "GET", post = "POST", put = "PUT", patch = "PATCH", delete = "DELETE",
  head = "HEAD", options = "OPTIONS" }

local function check(name, value, wanted, level)
  if type(value) ~= wanted then
    error(name .. ": expected a " .. wanted .. ", got " .. type(value), (level or 2) + 1)
  end
end

--- The handler with the middleware round it, the first one outermost.
local function wrap(list, handler)
  for index = #list, 1, -1 do
    local outer, inner = list[index], handler
    handler = function(req, res)
      return outer(req, res, function() return inner(req, res) end)
    end
  end
  return handler
end

local function chain(router)
  local list = router.parent and chain(router.parent) or {}
  for _, middleware in ipairs(router.middleware) do
    list[#list + 1] = middleware
  end
  return list
end

--- Adds a route: `"GET"`, or `"*"` for any method; a path such as `/users/:id` or `/files/*path`; a handler.
function Router:add(method, path, handler)
  check("router:add: method", method, "string")
  check("router:add: path", path, "string")
  local stream = type(handler) == "table" and handler.stream == true
  local run = stream and handler.handler or handler
  check("router:add: handler", run, "function")
  if string.sub(path, 1, 1) ~= "/" then
    error("router:add: path: expected one that begins with a slash, got " .. path, 2)
  end
  local pattern = self.prefix .. (path == "/" and self.prefix ~= "" and "" or path)
  local key = method == "*" and pattern or method .. " " .. pattern
  if self.table[key] then
    error("router:add: " .. key .. " is there already", 2)
  end
  self.table[key] = { router = self, run = run, stream = stream }
  return self
end

for name, method in pairs(METHODS) do
  Router[name] = function(self, path, handler) return self:add(method, path, handler) end
end

--- A route for any method.
function Router:any(path, handler)
  return self:add("*", path, handler)
end

--- Runs `middleware(req, res, next)` round every handler of this router and its groups.
function Router:use(middleware)
  check("router:use", middleware, "function")
  self.middleware[#self.middleware + 1] = middleware
  return self
end

--- A router for the paths below `prefix`, with middleware of its own inside this one's.
function Router:group(prefix)
  check("router:group", prefix, "string")
  local below = self.prefix .. string.gsub(prefix, "/$", "")
  return setmetatable({ prefix = below, parent = self, table = self.table, middleware = {} }, Router)
end

--- The table for a server's field `routes`.
function Router:routes()
  local routes = {}
  for key, route in pairs(self.table) do
    local handler = wrap(chain(route.router), route.run)
    routes[key] = route.stream and { stream = true, handler = handler } or handler
  end
  return routes
end

--- A new router.
function M.router()
  return setmetatable({ prefix = "", table = {}, middleware = {} }, Router)
end

--- Marks a handler that reads its request's body piece by piece: `req:read()` or `req:chunks()`.
---@param handler http.Handler
function M.stream(handler)
  check("http.stream", handler, "function")
  return { stream = true, handler = handler }
end

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

--- Text for the inside of HTML.
function M.escape(text)
  return (string.gsub(tostring(text), "[&<>\"']", ESCAPES))
end

--- The value of a Set-Cookie header.
---@param name string
---@param value string
---@param options? http.CookieOptions
function M.cookie(name, value, options)
  options = options or {}
  check("http.cookie: name", name, "string")
  check("http.cookie: options", options, "table")
  value = tostring(value)
  if string.find(name, "[^%w!#$%%&'*+%-.^_`|~]") or string.find(value, '[%c%s",;\\]') then
    error("http.cookie: " .. name .. ": the name or value has characters that cookies can't have", 2)
  end
  local parts = { name .. "=" .. value, "Path=" .. (options.path or "/") }
  local function add(text, condition)
    if condition then
      parts[#parts + 1] = text
    end
  end
  add("Domain=" .. tostring(options.domain), options.domain)
  add("Max-Age=" .. tostring(options.max_age), options.max_age)
  add("HttpOnly", options.http_only ~= false)
  add("Secure", options.secure)
  add("SameSite=" .. (options.same_site or "Lax"), true)
  return table.concat(parts, "; ")
end

return M
