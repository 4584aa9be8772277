--- HTTP requests for handlers: the request and response objects, and what a handler's answer becomes.
---
--- A request's head comes as one text (`src/lua/vm/http.rs`): the lengths of method, path and query, the places of the
--- route's parameters, then these, then the fields, one a line. Nothing of it is taken apart before it is asked for.
--- The daemon frames bodies, writes dates and keeps the order of pipelined answers; what a script says of those fields
--- is left out.

local sk = ...
local host, leaf = sk.host, sk.leaf
local records, str, format = sk.records, ffi.string, string.format
local byte, sub, find, lower, gsub = string.byte, string.sub, string.find, string.lower, string.gsub
local concat, rawget, type, tostring = table.concat, rawget, type, tostring
local cast, cursor = ffi.cast, ffi.typeof "const sk_request *"
local http = leaf.http

local RESPOND, BEGIN, WRITE, END, FAIL, PASS, DETACH, READ, DRAIN = 0, 1, 2, 3, 4, 5, 6, 7, 8
local WAITING, STREAMING, DONE = 0, 1, 2
local TEXT = "Content-Type: text/plain; charset=utf-8\r\n"
local HTML = "Content-Type: text/html; charset=utf-8\r\n"
local JSON = "Content-Type: application/json\r\n"
local UNDRAINED_BYTES = 256 * 1024 -- what a stream may write before it waits for the client to read

-- The daemon's own fields: it knows better.
local OWN = { ["content-length"] = true, ["transfer-encoding"] = true, date = true, connection = true,
  ["keep-alive"] = true }

-- What a request keeps in its array part.
local BLOB, RECORD, NUMBER, STAGE, HANDLER, RESPONSE, BODY, NAMES, WAS_READ = 1, 2, 3, 4, 5, 6, 7, 8, 9

-- Requests ----------------------------------------------------------------------------------------------------------

local function lengths(blob)
  local a, b, c, d, e, f, g, h, i = byte(blob, 1, 9)
  local count = g + 256 * h
  return a + 256 * b, c + 256 * d, e + 256 * f, count, i, 10 + 4 * count
end

--- Text with `%XX` decoded; `+` is a blank in queries and forms.
local function decode(text, plus)
  if plus then
    text = gsub(text, "+", " ")
  end
  if not find(text, "%", 1, true) then
    return text
  end
  return (gsub(text, "%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

--- `a=1&b=2` as a table; of a name that comes twice the last value counts.
local function parse_pairs(text)
  local values = {}
  for pair in string.gmatch(text, "[^&]+") do
    local at = find(pair, "=", 1, true)
    if at then
      values[decode(sub(pair, 1, at - 1), true)] = decode(sub(pair, at + 1), true)
    else
      values[decode(pair, true)] = ""
    end
  end
  return values
end

local getters = {}

function getters.method(req)
  local blob = req[BLOB]
  local method, _, _, _, _, start = lengths(blob)
  return sub(blob, start + 1, start + method)
end

function getters.path(req)
  local blob = req[BLOB]
  local method, path, _, _, _, start = lengths(blob)
  return sub(blob, start + method + 1, start + method + path)
end

function getters.query_string(req)
  local blob = req[BLOB]
  local method, path, query, _, _, start = lengths(blob)
  local from = start + method + path
  return sub(blob, from + 1, from + query)
end

function getters.query(req)
  return parse_pairs(req.query_string)
end

function getters.version(req)
  local _, _, _, _, flags = lengths(req[BLOB])
  return flags % 2 == 1 and "1.0" or "1.1"
end

--- What the client speaks: "https" or "http".
function getters.scheme(req)
  local _, _, _, _, flags = lengths(req[BLOB])
  return flags >= 2 and "https" or "http"
end

function getters.params(req)
  local blob, names, params = req[BLOB], req[NAMES], {}
  local method, _, _, count, _, start = lengths(blob)
  for index = 1, count do
    local a, b, c, d = byte(blob, 7 + 4 * index, 10 + 4 * index)
    local from = start + method + a + 256 * b
    params[names[index]] = decode(sub(blob, from + 1, from + c + 256 * d))
  end
  return params
end

--- All fields by lower-case name; of a name that comes twice the values joined by commas (cookies: by semicolons).
function getters.headers(req)
  local blob, headers = req[BLOB], {}
  local method, path, query, _, _, start = lengths(blob)
  for name, value in string.gmatch(sub(blob, start + method + path + query + 1), "\n([^:\n]+):([^\n]*)") do
    local before = headers[name]
    headers[name] = before and before .. (name == "cookie" and "; " or ", ") .. value or value
  end
  return headers
end

function getters.cookies(req)
  local cookies = {}
  for name, value in string.gmatch(req:header "cookie" or "", "([^=;%s]+)=([^;]*)") do
    cookies[name] = value
  end
  return cookies
end

function getters.host(req)
  return req:header "host"
end

function getters.ip(req)
  return req[RECORD].ip
end

function getters.port(req)
  return req[RECORD].port
end

function getters.client_id(req)
  return req[RECORD].id
end

function getters.body(req)
  return req[BODY] or ""
end

local Request = {}
local request_metatable = {
  __index = function(req, key)
    local method = Request[key]
    if method then
      return method
    end
    local getter = getters[key]
    if getter then
      local value = getter(req)
      req[key] = value
      return value
    end
  end,
  __metatable = "request",
  __tostring = function(req) return req.method .. " " .. req.path end,
}

--- One field by its name, whatever its letters' case; nil if it isn't there.
function Request.header(req, name)
  local blob = req[BLOB]
  local method, path, query, _, _, start = lengths(blob)
  local key = "\n" .. lower(name) .. ":"
  local _, last = find(blob, key, start + method + path + query + 1, true)
  if last then
    local stop = find(blob, "\n", last + 1, true)
    return sub(blob, last + 1, stop - 1)
  end
  return nil
end

--- The body as JSON: the value, or nil and what is wrong.
function Request.json(req)
  local ok, value, problem = pcall(sk.native.json.decode, req.body)
  if not ok then
    return nil, value
  end
  return value, problem
end

--- The body as a form's fields (application/x-www-form-urlencoded).
function Request.form(req)
  return parse_pairs(req.body)
end

--- The next piece of the body of a streaming route: a string, nil at its end, or `nil, err`. Waits.
function Request.read(req)
  local body = req[BODY]
  if body then
    -- It came whole: one piece.
    local was_read = req[WAS_READ]
    req[WAS_READ] = true
    return not was_read and body ~= "" and body or nil
  end
  local record = req[RECORD]
  if record.closed then
    return nil, sk.closed
  elseif req[STAGE] == DONE then
    return nil
  end
  local task = sk.begin_wait "req:read"
  http(host, record.id, req[NUMBER], READ, 0, nil, 0, nil, 0, task.wait)
  return sk.suspend()
end

--- The pieces of the body, for a loop: `for piece in req:chunks() do`.
function Request.chunks(req)
  return function() return (req:read()) end
end

-- Responses ---------------------------------------------------------------------------------------------------------

local lines = {} -- by name: the last value that was seen, and its line

--- A field's line, or nil and what is wrong. A field that is the daemon's own has none.
local function line_of(name, value)
  local known = lines[name]
  if known and known.value == value then
    return known.line
  elseif type(name) ~= "string" or find(name, "[^%w!#$%%&'*+%-.^_`|~]") or name == "" then
    return nil, "a header's name: expected letters, digits and hyphens, got " .. sk.show(name)
  elseif type(value) ~= "string" and type(value) ~= "number" then
    return nil, "header " .. name .. ": expected a string or number, got " .. type(value)
  end
  local text = tostring(value)
  if find(text, "[%z\1-\8\10-\31\127]") then
    return nil, "header " .. name .. ": its value has a line end or another control character"
  end
  local line = OWN[lower(name)] and "" or name .. ": " .. text .. "\r\n"
  lines[name] = { value = value, line = line }
  return line
end

--- The lines of a table of headers, a value may be a list of values; whether a type is among them; or nil and what is
--- wrong.
local function lines_of(headers)
  local list, has_type = {}, false
  for name, value in next, headers do
    if type(name) ~= "string" then
      return nil, nil, "headers: expected names as keys, got " .. sk.show(name)
    end
    local values = type(value) == "table" and value or { value }
    for index = 1, #values do
      local line, problem = line_of(name, rawget(values, index))
      if not line then
        return nil, nil, problem
      end
      list[#list + 1] = line
    end
    has_type = has_type or lower(name) == "content-type"
  end
  return concat(list), has_type
end

local function check_status(status)
  if type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 599 then
    return "status: expected 200 to 599, got " .. sk.show(status)
  end
end

local function json_of(value)
  local ok, text = pcall(sk.native.json.encode, value)
  if not ok then
    return nil, nil, "the answer as JSON: " .. tostring(text)
  end
  return text, JSON
end

--- A body's text and the line of its type; or nil, nil and what is wrong.
local function body_of(value)
  local kind = type(value)
  if kind == "string" then
    return value, TEXT
  elseif value == nil then
    return "", ""
  elseif kind == "table" then
    return json_of(value)
  elseif kind == "number" or kind == "boolean" then
    return tostring(value), TEXT
  end
  return nil, nil, "expected a string or table as the body, got " .. kind
end

-- What a response keeps: its request, the status, the lines of its fields, whether a type is among them, what a stream
-- has written since it last waited, and whether it goes on without its handler.
local REQUEST, STATUS, FIELDS, TYPED, WRITTEN, DETACHED = 1, 2, 3, 4, 5, 6

local nothing = {}

--- What `res:status` and `res:header` have set before a handler answers with a value: the status if any, the lines, and
--- whether a type is among them.
local function set_before(req)
  local res = req[RESPONSE] or nothing
  return res[STATUS] or nil, res[FIELDS] or "", res[TYPED]
end

local function respond(req, status, fields, body)
  req[STAGE] = DONE
  http(host, req[RECORD].id, req[NUMBER], RESPOND, status, fields, #fields, body, #body, 0)
end

--- A table that a handler answered: `status`, `headers`, and one of `body`, `json`, `html`, `redirect`.
local function respond_table(req, answer)
  local status, headers = rawget(answer, "status"), rawget(answer, "headers")
  local redirect, html, json = rawget(answer, "redirect"), rawget(answer, "html"), rawget(answer, "json")
  local body, kind, problem
  if json ~= nil then
    body, kind, problem = json_of(json)
  elseif type(html) == "string" then
    body, kind = html, HTML
  elseif html ~= nil then
    return "html: expected a string, got " .. type(html)
  else
    body, kind, problem = body_of(rawget(answer, "body"))
  end
  if not body then
    return problem
  end
  local status_before, fields_before, typed_before = set_before(req)
  status = status or redirect and 302 or status_before or 200
  problem = check_status(status)
  if problem then
    return problem
  end
  local fields, has_type = "", false
  if headers ~= nil then
    if type(headers) ~= "table" then
      return "headers: expected a table, got " .. type(headers)
    end
    fields, has_type, problem = lines_of(headers)
    if not fields then
      return problem
    end
  end
  if redirect ~= nil then
    local line
    line, problem = line_of("Location", redirect)
    if not line then
      return problem
    end
    fields = fields .. line
  end
  fields = fields_before .. fields
  respond(req, status, (has_type or typed_before) and fields or fields .. kind, body)
end

local Response = {}
local response_metatable = { __index = Response, __metatable = "response" }

local function waiting(res, name)
  local req = res[REQUEST]
  if req[STAGE] ~= WAITING then
    error("res:" .. name .. ": the answer has begun", 3)
  end
  return req
end

--- Sets the status.
function Response.status(res, status)
  waiting(res, "status")
  local problem = check_status(status)
  if problem then
    error("res:" .. problem, 2)
  end
  res[STATUS] = status
  return res
end

--- Adds a header.
function Response.header(res, name, value)
  waiting(res, "header")
  local line, problem = line_of(name, value)
  if not line then
    error("res:header: " .. problem, 2)
  end
  res[FIELDS] = (res[FIELDS] or "") .. line
  res[TYPED] = res[TYPED] or lower(name) == "content-type"
  return res
end

local function send(res, name, body, kind)
  local req = waiting(res, name)
  local fields = res[FIELDS] or ""
  respond(req, res[STATUS] or 200, res[TYPED] and fields or fields .. kind, body)
  return true
end

--- Answers with a text, or with a table as JSON.
function Response.send(res, body)
  local text, kind, problem = body_of(body)
  if not text then
    error("res:send: " .. problem, 2)
  end
  return send(res, "send", text, kind)
end

--- Answers with a value as JSON.
function Response.json(res, value)
  return send(res, "json", sk.native.json.encode(value), JSON)
end

--- Answers with HTML.
function Response.html(res, text)
  return send(res, "html", sk.message_text("res:html", text, 2), HTML)
end

--- Sends the client elsewhere (302 unless a status is given).
function Response.redirect(res, where, status)
  res:header("Location", where)
  res[STATUS] = status or 302
  return send(res, "redirect", "", "")
end

local function begin(res, kind)
  local req = res[REQUEST]
  local fields = res[FIELDS] or ""
  fields = res[TYPED] and fields or fields .. kind
  req[STAGE], res[WRITTEN] = STREAMING, 0
  http(host, req[RECORD].id, req[NUMBER], BEGIN, res[STATUS] or 200, fields, #fields, nil, 0, 0)
end

local function write(res, text)
  local req = res[REQUEST]
  local record = req[RECORD]
  http(host, record.id, req[NUMBER], WRITE, 0, nil, 0, text, #text, 0)
  local written = res[WRITTEN] + #text
  res[WRITTEN] = written
  if written > UNDRAINED_BYTES and not res[DETACHED] and sk.can_wait() then
    res[WRITTEN] = 0
    local task = sk.begin_wait "res:write"
    http(host, record.id, req[NUMBER], DRAIN, 0, nil, 0, nil, 0, task.wait)
    return sk.suspend()
  end
  return true
end

--- Sends a piece of the answer at once; the first one begins it. Waits while the client is slow to read. Answers true,
--- or `nil, err` if the client is gone.
function Response.write(res, text)
  local req = res[REQUEST]
  text = sk.message_text("res:write", text, 2)
  if req[RECORD].closed then
    return nil, sk.closed
  elseif req[STAGE] == WAITING then
    begin(res, TEXT)
  elseif req[STAGE] == DONE then
    error("res:write: the answer is complete", 2)
  end
  return write(res, text)
end

--- Ends an answer that was written in pieces; the handler's end does the same.
function Response.finish(res)
  local req = res[REQUEST]
  if req[STAGE] == WAITING then
    return send(res, "finish", "", "")
  elseif req[STAGE] == STREAMING then
    req[STAGE] = DONE
    http(host, req[RECORD].id, req[NUMBER], END, 0, nil, 0, nil, 0, 0)
  end
  return true
end

--- Lets an answer that has begun go on after its handler: `res:write` from anywhere, until `res:finish()`.
function Response.detach(res, is_event_stream)
  local req = res[REQUEST]
  if req[STAGE] == WAITING then
    begin(res, TEXT)
  end
  res[DETACHED] = true
  http(host, req[RECORD].id, req[NUMBER], DETACH, is_event_stream == true and 1 or 0, nil, 0, nil, 0, 0)
  return res
end

-- Server-sent events ------------------------------------------------------------------------------------------------

local Events = {}
local events_metatable = {
  __metatable = "events",
  __index = function(events, key)
    if key == "closed" then
      local req = events[1][REQUEST]
      return req[RECORD].closed == true or req[STAGE] ~= STREAMING
    end
    return Events[key]
  end,
}

--- Answers with a stream of server-sent events that stays open until `events:close()` or until the client goes.
function Response.events(res)
  waiting(res, "events")
  if not res[TYPED] then
    res:header("Content-Type", "text/event-stream")
  end
  res:header("Cache-Control", "no-cache")
  begin(res, "")
  Response.detach(res, true)
  return setmetatable({ res }, events_metatable)
end

local function event_line(name, value)
  if value == nil then
    return ""
  end
  value = tostring(value)
  if find(value, "[\r\n%z]") then
    error("events:send: " .. name .. ": expected one line", 3)
  end
  return name .. ": " .. value .. "\n"
end

--- Sends an event: its data, or a table with `data`, `event`, `id`, `retry` (milliseconds). A table as data goes as
--- JSON. Answers true, or `nil, err` if the client is gone.
function Events.send(events, what)
  if events.closed then
    return nil, sk.closed
  end
  local data, head = what, ""
  if type(what) == "table" and what.data ~= nil then
    data = what.data
    head = event_line("event", what.event) .. event_line("id", what.id) .. event_line("retry", what.retry)
  end
  local text, _, problem = body_of(data)
  if not text then
    error("events:send: " .. problem, 2)
  end
  text = gsub(gsub(text, "\r\n?", "\n"), "\n", "\ndata: ")
  return write(events[1], head .. "data: " .. text .. "\n\n")
end

--- Sends a comment, which clients ignore: it keeps idle streams alive through proxies.
function Events.comment(events, text)
  if events.closed then
    return nil, sk.closed
  end
  return write(events[1], ": " .. gsub(text or "", "[\r\n]", " ") .. "\n\n")
end

--- Ends the stream.
function Events.close(events)
  return events[1]:finish()
end

-- The handler's answer ----------------------------------------------------------------------------------------------

--- Turns what a handler has answered into the answer. Runs no code of the script's.
local function reply(req, value)
  local kind = type(value)
  if kind == "string" then
    local status, fields, has_type = set_before(req)
    respond(req, status or 200, has_type and fields or fields .. TEXT, value)
  elseif kind == "nil" then
    req[STAGE] = DONE
    http(host, req[RECORD].id, req[NUMBER], PASS, 0, nil, 0, nil, 0, 0)
  elseif kind == "table" then
    if rawequal(value, req[RESPONSE]) then
      value:finish()
      return
    end
    return respond_table(req, value)
  elseif kind == "number" then
    local problem = check_status(value)
    if problem then
      return problem
    end
    local _, fields = set_before(req)
    respond(req, value, fields, "")
  else
    return "expected a string, a table, a status or nil as the answer, got " .. kind
  end
end

--- The handler has ended.
function sk.answer(req, ok, value)
  local record = req[RECORD]
  if not ok then
    sk.failed(record.runtime, record, "on_http_request", value)
  end
  local stage = req[STAGE]
  if stage == DONE or record.closed then
    return
  elseif ok and stage == STREAMING then
    if not req[RESPONSE][DETACHED] then
      req[RESPONSE]:finish()
    end
    return
  end
  local problem = ok and reply(req, value)
  if problem then
    sk.failed(record.runtime, record, "on_http_request", problem)
  end
  if problem or not ok then
    req[STAGE] = DONE
    http(host, record.id, req[NUMBER], FAIL, 0, nil, 0, nil, 0, 0)
  end
end

--- Serves a request whose connection's handler was waiting when it came.
function sk.serve_later(record, req)
  local ok, value = sk.call(record, "on_http_request", record.runtime, nil, req[HANDLER], req, req[RESPONSE])
  sk.answer(req, ok, value, ok)
end

--- The objects of a request event; the connection gets a record if it has none.
function sk.new_request(runtime, event)
  local slot = event.slot
  local record = records[slot]
  if not record or record.id ~= event.id then
    record = { id = event.id, slot = slot, runtime = runtime, is_http = true } -- its VISIT was lost
    records[slot] = record
  end
  local raw = cast(cursor, event.bytes)
  local length = raw.text
  local blob = str(event.bytes + 8, length)
  local rest = event.len - 8 - length
  local route = event.arg
  local target = route == 0 and runtime.fallback or runtime.routes[route]
  local req = setmetatable({
    blob, record, raw.number, WAITING, target.handler, false,
    not target.stream and (rest > 0 and str(event.bytes + 8 + length, rest) or "") or false, target.names,
  }, request_metatable)
  req[RESPONSE] = setmetatable({ req, false, false, false, 0, false }, response_metatable)
  return req, record
end

-- Proxied requests --------------------------------------------------------------------------------------------------

--- The object of a proxied request whose way is asked for. It has no body: that goes where the request goes.
function sk.proxied_request(record, event)
  local raw = cast(cursor, event.bytes)
  local blob = str(event.bytes + 8, raw.text)
  local req = setmetatable({ blob, record, raw.number, WAITING, false, false, "", false }, request_metatable)
  return req
end

--- Answers a proxied request as a server's handler would; or says what is wrong.
function sk.answer_proxied(req, answer)
  if type(answer) == "number" then
    return check_status(answer) or respond(req, answer, "", "")
  end
  return respond_table(req, answer)
end

--- What a route's table changes, as the host reads it: a letter and a value each, ended by zero bytes. Or nil and what
--- is wrong.
function sk.route_changes(answer)
  local parts = {}
  local path, timeout, headers = rawget(answer, "path"), rawget(answer, "timeout"), rawget(answer, "headers")
  if path ~= nil then
    if type(path) ~= "string" or sub(path, 1, 1) ~= "/" or find(path, "[%z\1-\32\127-\255#]") then
      return nil, "path: expected a path such as \"/a?b=c\", got " .. sk.show(path)
    end
    parts[#parts + 1] = "p" .. path
  end
  if timeout ~= nil then
    local ms = sk.duration_ms(timeout)
    if not ms or ms < 1 then
      return nil, "timeout: expected a time such as \"2s\", got " .. sk.show(timeout)
    end
    parts[#parts + 1] = "t" .. format("%.0f", ms)
  end
  if headers ~= nil then
    if type(headers) ~= "table" then
      return nil, "headers: expected a table, got " .. type(headers)
    end
    for name, value in next, headers do
      local line, problem = line_of(name, value == false and "" or value)
      if not line or OWN[lower(name)] or lower(name) == "host" then
        return nil, problem or "headers: " .. name .. " is the proxy's own business"
      end
      parts[#parts + 1] = value == false and "d" .. name or "h" .. name .. ":" .. tostring(value)
    end
  end
  parts[#parts + 1] = ""
  return concat(parts, "\0")
end

-- Routes ------------------------------------------------------------------------------------------------------------

local function wrap(middleware, handler)
  for index = #middleware, 1, -1 do
    local outer, inner = middleware[index], handler
    handler = function(req, res)
      return outer(req, res, function() return inner(req, res) end)
    end
  end
  return handler
end

local function names_of(pattern)
  local names = {}
  for part in string.gmatch(pattern, "[^/]+") do
    local kind = sub(part, 1, 1)
    if kind == ":" or kind == "*" then
      names[#names + 1] = #part > 1 and sub(part, 2) or part
    end
  end
  return names
end

--- The runtime's routes in the daemon's order (the bytes of their patterns), and what serves the other requests.
function sk.bind_routes(runtime)
  local fields = runtime.fields
  local middleware = fields and rawget(fields, "middleware") or {}
  local routes, patterns = {}, {}
  local source = fields and rawget(fields, "routes") or {}
  for pattern in next, source do
    patterns[#patterns + 1] = pattern
  end
  table.sort(patterns)
  for index, pattern in ipairs(patterns) do
    local value = rawget(source, pattern)
    local handler, stream = value, false
    if type(value) == "table" and type(rawget(value, "handler")) == "function" then
      handler, stream = value.handler, rawget(value, "stream") == true
    elseif type(value) ~= "function" then
      handler = function() return value end
    end
    routes[index] = { handler = wrap(middleware, handler), stream = stream, names = names_of(pattern) }
  end
  local last = runtime.handlers.on_http_request or function() end
  runtime.routes, runtime.fallback = routes, { handler = wrap(middleware, last), names = {} }
end

--- The original's `on_http_request(req)`: a plain table, its query a text.
function sk.original_request(req)
  return {
    method = req.method, path = req.path, query = req.query_string, body = req.body,
    client_id = req.client_id, version = req.version, headers = req.headers,
  }
end
