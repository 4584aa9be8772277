--- HTTP requests that wait without holding anything up: `http.get`, `http.post`, `http.request`.
---
--- ```lua
--- local res, err = http.get("https://example.org/users/7", { timeout = "5s" })
--- if not res then return nil, err end
--- print(res.status, res.headers["content-type"], res:json().name)
---
--- for piece in http.get(address, { stream = true }):chunks() do print(#piece) end
--- ```
--- Connections are kept and used again, for the whole app. Redirects are followed, gzip is undone, bodies are bounded.

local compress = require "socketley.compress"
local json = require "socketley.json"
local tcp = require "socketley.tcp"
local url = require "socketley.url"

---@class http.Options
---@field method? string (default: "GET")
---@field headers? table<string, string|number>
---@field query? table<string, any> appended to the URL
---@field body? string|fun(): string? the bytes, or a function that answers them piece by piece and then nil
---@field json? any sent as JSON
---@field form? table<string, any> sent as a form
---@field timeout? number|string for all of it; with `stream` for all but the body, and for each piece (default: "30s")
---@field redirects? integer how many to follow; 0 for none (default: 5)
---@field stream? boolean the body is read with `res:read()` or `res:chunks()` (default: false)
---@field max_body? integer bytes, after decompression (default: 16777216)
---@field decompress? boolean (default: true)
---@field ca? string a file with the authority to trust
---@field cert? string a file with the certificate to show
---@field key? string its key
---@field server_name? string
---@field insecure? boolean trust anyone; only for tests

---@class http.ClientResponse
---@field status integer
---@field reason string
---@field headers table<string, string> by name in any case; what came twice is joined by commas
---@field fields string[][] names and values as they came
---@field url string where it came from, after redirects
---@field body string? nil with `stream`

local M = {}

local IDLE_PER_HOST_MAX = 16
local IDLE_SECONDS = 30
local BODY_BYTES_MAX = 16 * 1024 * 1024
local HEAD_BYTES_MAX = 64 * 1024
local PIECE_BYTES = 64 * 1024

local OPTIONS = { method = "string", headers = "table", query = "table", form = "table", redirects = "number",
  stream = "boolean", max_body = "number", decompress = "boolean", ca = "string", cert = "string", key = "string",
  server_name = "string", insecure = "boolean", body = true, json = true, timeout = true, url = "string" }
local DIAL = { "ca", "cert", "key", "server_name", "insecure" }
-- Requests that may be sent again when a kept connection turns out to be dead.
local REPEATABLE = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true, TRACE = true }
local OWN = { host = true, ["content-length"] = true, ["transfer-encoding"] = true, connection = true }

local Error = { __tostring = function(err) return err.message end }

local function no(code, message)
  return nil, setmetatable({ code = code, message = message }, Error)
end

-- Connections that are kept -----------------------------------------------------------------------------------------

local idle = {} -- by key: sockets, the latest last

local function key_of(parts, options)
  local words = { parts.scheme, parts.host, tostring(url.port(parts)) }
  for _, name in ipairs(DIAL) do
    words[#words + 1] = tostring(options[name])
  end
  return table.concat(words, "\0")
end

local function take(key)
  local list = idle[key]
  while list and #list > 0 do
    local kept = table.remove(list)
    if kept.socket:is_idle() and os.clock() - kept.since < IDLE_SECONDS then
      return kept.socket
    end
    kept.socket:close()
  end
end

local function give_back(key, socket)
  local list = idle[key] or {}
  idle[key] = list
  if #list >= IDLE_PER_HOST_MAX then
    table.remove(list, 1).socket:close()
  end
  list[#list + 1] = { socket = socket, since = os.clock() }
end

local function dial(parts, options, left)
  local dialling = { timeout = left() }
  if parts.scheme == "https" then
    dialling.tls = true
    for _, name in ipairs(DIAL) do
      dialling[name] = options[name]
    end
  end
  return tcp.connect(parts.host, url.port(parts), dialling)
end

-- What is sent ------------------------------------------------------------------------------------------------------

local function header_line(name, value)
  if type(name) ~= "string" or name:find("[^%w!#$%%&'*+%-.^_`|~]") or name == "" then
    error("http: headers: " .. tostring(name) .. " can't be a header's name", 0)
  end
  value = tostring(value)
  if value:find("[%z\r\n]") then
    error("http: headers: the value of " .. name .. " has a line break or a zero byte", 0)
  end
  return name .. ": " .. value .. "\r\n"
end

--- The body and what its header says of its type.
local function body_of(options)
  if options.json ~= nil then
    return json.encode(options.json), "application/json"
  elseif options.form then
    return url.query(options.form), "application/x-www-form-urlencoded"
  end
  return options.body
end

local function head_of(method, parts, options, body, kind)
  local target = (parts.path ~= "" and parts.path or "/") .. (parts.query and "?" .. parts.query or "")
  local host = parts.host:find(":", 1, true) and "[" .. parts.host .. "]" or parts.host
  local lines = { method .. " " .. target .. " HTTP/1.1\r\n",
    header_line("Host", parts.port and host .. ":" .. parts.port or host) }
  local has = {}
  for name, value in pairs(options.headers or {}) do
    local lower = tostring(name):lower()
    has[lower] = true
    if not OWN[lower] then
      lines[#lines + 1] = header_line(name, value)
    end
  end
  local function default(name, value)
    if value and not has[name:lower()] then
      lines[#lines + 1] = header_line(name, value)
    end
  end
  default("User-Agent", "socketley")
  default("Accept", "*/*")
  default("Accept-Encoding", options.decompress ~= false and "gzip")
  default("Content-Type", kind)
  if parts.user then
    local base64 = require "socketley.base64"
    default("Authorization", "Basic " .. base64.encode(parts.user .. ":" .. (parts.password or "")))
  end
  if type(body) == "string" then
    lines[#lines + 1] = "Content-Length: " .. #body .. "\r\n"
  elseif body then
    lines[#lines + 1] = "Transfer-Encoding: chunked\r\n"
  elseif method == "POST" or method == "PUT" or method == "PATCH" then
    lines[#lines + 1] = "Content-Length: 0\r\n"
  end
  lines[#lines + 1] = "\r\n"
  return table.concat(lines)
end

local function send(socket, head, body, left)
  if type(body) ~= "function" then
    return socket:send(head .. (body or ""), left())
  end
  local ok, err = socket:send(head, left())
  while ok do
    local piece = body()
    if piece == nil then
      return socket:send("0\r\n\r\n", left())
    elseif #piece > 0 then
      ok, err = socket:send(("%x\r\n"):format(#piece) .. piece .. "\r\n", left())
    end
  end
  return nil, err
end

-- What comes --------------------------------------------------------------------------------------------------------

local Headers = { __index = function(headers, name)
  return type(name) == "string" and rawget(headers, name:lower()) or nil
end }

local function parse_head(text)
  local version, status, reason, rest = text:match("^HTTP/1%.([01]) (%d%d%d) ?([^\r\n]*)\r?\n?(.*)$")
  if not version or #text > HEAD_BYTES_MAX then
    return nil
  end
  local headers, fields = setmetatable({}, Headers), {}
  for line in rest:gmatch("[^\r\n]+") do
    local name, value = line:match("^([%w!#$%%&'*+%-.^_`|~]+):[ \t]*(.-)[ \t]*$")
    if not name then
      return nil
    end
    fields[#fields + 1] = { name, value }
    name = name:lower()
    local before = rawget(headers, name)
    headers[name] = before and before .. ", " .. value or value
  end
  return { status = tonumber(status), reason = reason, version = version, headers = headers, fields = fields }
end

--- Reads heads until one that isn't an interim answer.
local function receive_head(socket, left)
  while true do
    local text, err, rest = socket:receive_until("\r\n\r\n", left())
    if not text then
      return nil, err, rest == "" or rest == nil
    end
    local head = parse_head(text)
    if not head then
      return no("protocol", "the answer isn't HTTP/1")
    elseif head.status >= 200 or head.status == 101 then
      return head
    end
  end
end

-- How a body ends, each as a function that answers the next piece, nil at the end, or `nil, err`.

local function until_close(socket, left)
  return function()
    local piece, err = socket:receive_some(PIECE_BYTES, left())
    if not piece and err.code == "closed" then
      return nil
    end
    return piece, err
  end
end

local function counted(socket, count, left)
  return function()
    if count == 0 then
      return nil
    end
    local piece, err = socket:receive_some(math.min(count, PIECE_BYTES), left())
    if not piece then
      return nil, err
    end
    count = count - #piece
    return piece
  end
end

local function chunked(socket, left)
  local count, over = 0, false
  return function()
    if over then
      return nil
    end
    if count == 0 then
      local line, err = socket:receive("*l", left())
      local digits = line and line:match("^(%x+)[ \t]*;?")
      count = digits and #digits <= 12 and tonumber(digits, 16)
      if not count then
        return nil, err or select(2, no("protocol", "a chunk's length can't be read"))
      end
    end
    if count == 0 then
      over = true
      repeat
        local line, err = socket:receive("*l", left()) -- trailers, and the empty line
        if not line then
          return nil, err
        end
      until line == ""
      return nil
    end
    local piece, err = socket:receive_some(math.min(count, PIECE_BYTES), left())
    if not piece then
      return nil, err
    end
    count = count - #piece
    if count == 0 then
      local ending
      ending, err = socket:receive("*l", left())
      if ending ~= "" then
        return nil, err or select(2, no("protocol", "a chunk is longer than it said"))
      end
    end
    return piece
  end
end

--- The body's pieces, and whether the connection can be used afterwards.
local function body_reader(socket, method, head, left)
  local length, coding = head.headers["content-length"], head.headers["transfer-encoding"]
  local keeps = head.version == "1"
  local connection = (head.headers.connection or ""):lower()
  if connection:find("close", 1, true) then
    keeps = false
  elseif connection:find("keep-alive", 1, true) then
    keeps = true
  end
  if method == "HEAD" or head.status == 204 or head.status == 304 then
    return function() return nil end, keeps
  elseif coding then
    if coding:lower() ~= "chunked" then
      return nil, false
    end
    return chunked(socket, left), keeps and not length
  elseif length then
    local count = length:match("^%d+$") and tonumber(length)
    return count and counted(socket, count, left), keeps
  end
  return until_close(socket, left), false
end

-- Responses ---------------------------------------------------------------------------------------------------------

local Response = {}
local streams = setmetatable({}, { __mode = "k" }) -- by response: how its body goes on
Response.__index = Response

--- The body as JSON; `nil, err` if it isn't.
function Response:json()
  local ok, value = pcall(json.decode, self.body or "")
  if not ok then
    return no("json", "the body isn't JSON: " .. tostring(value))
  end
  return value
end

--- The next piece of a streamed body; nil at its end; `nil, err` if it breaks off.
function Response:read()
  local stream = streams[self]
  if not stream then
    return nil
  end
  local piece, err = stream.next()
  if err then
    self:close()
  elseif piece == nil then
    streams[self] = nil
    stream.done()
  end
  return piece, err
end

--- The pieces of a streamed body; a break raises an error.
function Response:chunks()
  return function()
    local piece, err = self:read()
    if err then
      error(tostring(err), 2)
    end
    return piece
  end
end

--- Lets go of a streamed body that isn't read to its end.
function Response:close()
  local stream = streams[self]
  if stream then
    streams[self] = nil
    stream.close()
  end
end

--- Undoes a content coding piece by piece.
local function decoded(next_piece, decoder)
  local over = false
  return function()
    while not over do
      local piece, err = next_piece()
      if err then
        return nil, err
      end
      local bytes
      if piece then
        bytes, err = decoder:feed(piece)
      else
        over = true
        bytes, err = decoder:finish()
      end
      if not bytes then
        return nil, err
      elseif bytes ~= "" then
        return bytes
      end
    end
  end
end

local function collect(response, limit)
  local parts, size = {}, 0
  while true do
    local piece, err = response:read()
    if err then
      return nil, err
    elseif not piece then
      return table.concat(parts)
    end
    size = size + #piece
    if size > limit then
      response:close()
      return no("too_long", ("the body is longer than max_body, %d bytes"):format(limit))
    end
    parts[#parts + 1] = piece
  end
end

-- Requests ----------------------------------------------------------------------------------------------------------

--- What is left of the time, as a function.
local function clock(options)
  local total = options.timeout or 30
  if type(total) == "string" then
    total = require("socketley.time").seconds(total)
  end
  local ends = os.clock() + total
  return function() return math.max(ends - os.clock(), 0.001) end, function() ends = os.clock() + total end
end

--- Sends a request over a kept or new connection, and reads the head of its answer.
local function exchange(method, parts, options, body, kind, left)
  local key = key_of(parts, options)
  local head_text = head_of(method, parts, options, body, kind)
  while true do
    local socket = take(key)
    local was_kept = socket ~= nil
    local err
    if not socket then
      socket, err = dial(parts, options, left)
      if not socket then
        return nil, err
      end
    end
    local ok, head, untouched
    ok, err = send(socket, head_text, body, left)
    if ok then
      head, err, untouched = receive_head(socket, left)
    end
    if head then
      return head, nil, socket, key
    end
    socket:abort()
    local again = was_kept and (not ok or untouched) and err.code ~= "timeout" and REPEATABLE[method]
      and type(body) ~= "function"
    if not again then
      return nil, err
    end
  end
end

local function once(method, address, options, left, renew)
  local parts, err = url.parse(address)
  if not parts then
    return nil, err
  elseif parts.scheme ~= "http" and parts.scheme ~= "https" then
    return no("invalid", "http: " .. address .. ": the scheme must be http or https")
  end
  local body, kind = body_of(options)
  local head, socket, key
  head, err, socket, key = exchange(method, parts, options, body, kind, left)
  if not head then
    return nil, err
  end
  local next_piece, keeps = body_reader(socket, method, head, left)
  if not next_piece then
    socket:abort()
    return no("protocol", "the answer's body has a length or coding that isn't understood")
  end
  local coding = (head.headers["content-encoding"] or ""):lower()
  if options.decompress ~= false and (coding == "gzip" or coding == "x-gzip" or coding == "deflate") then
    next_piece = decoded(next_piece, compress.decoder(coding == "deflate" and "deflate" or "gzip"))
  end
  local response = setmetatable({ status = head.status, reason = head.reason, headers = head.headers,
    fields = head.fields, url = address }, Response)
  streams[response] = {
    next = function()
      if options.stream then
        renew()
      end
      return next_piece()
    end,
    done = function()
      if keeps then
        give_back(key, socket)
      else
        socket:close()
      end
    end,
    close = function() socket:abort() end,
  }
  return response
end

local function check_options(options, level)
  for name, value in pairs(options) do
    local wanted = OPTIONS[name]
    if not wanted then
      error("http.request: " .. tostring(name) .. " is no option of it", level + 1)
    elseif wanted ~= true and type(value) ~= wanted then
      error(("http.request: %s: expected a %s, got %s"):format(name, wanted, type(value)), level + 1)
    end
  end
  if options.body ~= nil and type(options.body) ~= "string" and type(options.body) ~= "function" then
    error("http.request: body: expected a string or a function, got " .. type(options.body), level + 1)
  end
end

local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

local function copy(table_, without)
  local new = {}
  for key, value in pairs(table_) do
    if not (without and without[type(key) == "string" and key:lower() or key]) then
      new[key] = value
    end
  end
  return new
end

--- The request that a redirect asks for; nothing if it isn't to be followed.
local function redirected(response, method, address, options)
  local location = response.headers.location
  if not REDIRECTS[response.status] or not location then
    return nil
  end
  local target = url.join(address, location)
  local parts = target and url.parse(target)
  if not parts or (parts.scheme ~= "http" and parts.scheme ~= "https") then
    return nil
  end
  options = copy(options)
  if response.status == 303 and method ~= "HEAD" or response.status <= 302 and method == "POST" then
    method, options.body, options.json, options.form = "GET", nil, nil, nil
    options.headers = options.headers and copy(options.headers, { ["content-type"] = true })
  elseif type(options.body) == "function" then
    return nil -- what was sent can't be sent again
  end
  local before = url.parse(address)
  if before.host ~= parts.host or before.scheme ~= parts.scheme or url.port(before) ~= url.port(parts) then
    options.headers = options.headers and copy(options.headers, { authorization = true, cookie = true })
  end
  return method, target, options
end

local function with_query(address, query)
  if not query then
    return address
  end
  local before, fragment = address:match("^([^#]*)(#.*)$")
  before = before or address
  return before .. (before:find("?", 1, true) and "&" or "?") .. url.query(query) .. (fragment or "")
end

local function run(method, address, options, level)
  check_options(options, level + 1)
  method = method:upper()
  address = with_query(address, options.query)
  local left, renew = clock(options)
  local follows = options.redirects or 5
  while true do
    local response, err = once(method, address, options, left, renew)
    if not response then
      return nil, err
    end
    local next_method, target, next_options
    if follows > 0 then
      next_method, target, next_options = redirected(response, method, address, options)
    elseif options.redirects ~= 0 and REDIRECTS[response.status] and response.headers.location then
      response:close()
      return no("redirects", "http: " .. address .. ": redirected too often")
    end
    if next_method then
      response:close()
      follows = follows - 1
      method, address, options = next_method, target, next_options
    else
      if not options.stream then
        response.body, err = collect(response, options.max_body or BODY_BYTES_MAX)
        if not response.body then
          return nil, err
        end
      end
      return response
    end
  end
end

--- Sends a request: `request { url =, method =, ... }` or `request(url, options)`. Answers the response, or `nil, err`
--- with `err.code`: "refused", "timeout", "not_found", "tls", "closed", "protocol", "too_long", "redirects", "invalid".
---@param address string|http.Options
---@param options? http.Options
---@return http.ClientResponse?
---@return table? err
function M.request(address, options)
  if type(address) == "table" then
    address, options = address.url, address
  end
  if type(address) ~= "string" then
    error("http.request: url: expected a string, got " .. type(address), 2)
  elseif options ~= nil and type(options) ~= "table" then
    error("http.request: options: expected a table, got " .. type(options), 2)
  end
  options = options or {}
  return run(options.method or "GET", address, options, 2)
end

local function without_body(method)
  return function(address, options)
    if type(address) ~= "string" then
      error(("http.%s: url: expected a string, got %s"):format(method:lower(), type(address)), 2)
    end
    return run(method, address, options or {}, 2)
  end
end

local function with_body(method)
  return function(address, body, options)
    if type(address) ~= "string" then
      error(("http.%s: url: expected a string, got %s"):format(method:lower(), type(address)), 2)
    elseif type(body) == "table" then
      options = body
    else
      options = copy(options or {})
      options.body = body
    end
    return run(method, address, options, 2)
  end
end

--- `get(url, options)`.
M.get = without_body "GET"
--- `head(url, options)`.
M.head = without_body "HEAD"
--- `delete(url, options)`.
M.delete = without_body "DELETE"
--- `post(url, body, options)` or `post(url, { json = ... })`.
M.post = with_body "POST"
--- `put(url, body, options)`.
M.put = with_body "PUT"
--- `patch(url, body, options)`.
M.patch = with_body "PATCH"

return M
