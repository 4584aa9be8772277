--- Connections: the record that the daemon keeps of each, and the object that scripts hold.
---
--- The two are apart, so that whatever a script writes into its object can't name someone else's connection. A
--- record is
--- found by its slot; ids carry the slot's generation, so a late send never reaches the slot's next user.

local sk = ...
local host, leaf, kind = sk.host, sk.leaf, sk.kind
local send, close = leaf.send, leaf.close
local floor, str = math.floor, ffi.string
local real_metatable = debug.getmetatable

local records = {} -- by slot: the live connection's record
local record_of = {} -- by object, until it is closed
sk.records, sk.record_of = records, record_of

local Closed = { __tostring = function(err) return err.message end, __metatable = "error" }

--- An error as functions answer it beside nil: `err.code`, `err.message`, readable by `tostring`.
function sk.no(code, message)
  return setmetatable({ code = code, message = message }, Closed)
end

local closed = sk.no("closed", "the connection is closed")
sk.closed = closed

--- Bytes of a message: a string, or a number as text.
local function message_text(name, value, level)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" then
    return tostring(value)
  elseif kind == "cdata" and sk.buffer_text then
    local text = sk.buffer_text(value)
    if text then
      return text
    end
  end
  error(name .. ": expected a string, got " .. kind, (level or 2) + 1)
end
sk.message_text = message_text

--- Whether to send to a WebSocket as binary: as the options say, else as the message that is handled came. A text that
--- isn't UTF-8 goes as binary in any case.
local function is_binary(name, options, level)
  if options == nil then
    return kind[0] == 1
  elseif type(options) ~= "table" then
    error(name .. ": options: expected a table, got " .. type(options), (level or 2) + 1)
  end
  local binary = options.binary
  if binary == nil then
    return kind[0] == 1
  elseif type(binary) ~= "boolean" then
    error(name .. ": binary: expected true or false, got " .. type(binary), (level or 2) + 1)
  end
  return binary
end
sk.is_binary = is_binary

--- A close code and reason as the host wants them; 0 for no code of the script's.
local function close_words(name, code, reason, level)
  if code == nil and reason == nil then
    return 0, ""
  end
  code = code or 1000
  local fits = type(code) == "number" and code % 1 == 0
    and (code >= 3000 and code < 5000 or code >= 1000 and code <= 1014 and not (code >= 1004 and code <= 1006))
  if not fits then
    error(name .. ": code: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999, got " .. tostring(code), level + 1)
  elseif reason ~= nil and type(reason) ~= "string" then
    error(name .. ": reason: expected a string, got " .. type(reason), level + 1)
  end
  return code, reason or ""
end
sk.close_words = close_words

local Connection = {}
local connection_metatable = {
  __index = Connection,
  __metatable = "connection",
  __tostring = function(object)
    local record = record_of[object]
    return record and string.format("connection %.0f (%s)", record.id, record.ip or "?") or "connection (closed)"
  end,
}
sk.connection_metatable = connection_metatable

--- The record of a connection object; nil if it is closed, an error if it is something else.
local function record_from(object, name)
  local record = record_of[object]
  if record or real_metatable(object) == connection_metatable then
    return record
  end
  error("conn:" .. name .. ": expected a connection before the colon, got " .. type(object), 3)
end

--- Sends a message; on lines, the newline is added. A WebSocket's is text or binary as the message that is handled, or
--- as `{ binary = true }` says. Answers true, or `nil, err` if the connection is closed.
function Connection.send(object, message, options)
  local record = record_of[object] or record_from(object, "send")
  if type(message) ~= "string" then
    message = message_text("message", message, 2)
  end
  if not record or record.closed then
    return nil, closed
  end
  send(host, record.id, message, #message, is_binary("send", options, 2))
  return true
end

--- Closes the connection after what was sent has gone out; a WebSocket with a code (1000) and a reason.
function Connection.close(object, code, reason)
  local record = record_from(object, "close")
  code, reason = close_words("close", code, reason, 2)
  if not record or record.closed then
    return nil, closed
  end
  close(host, record.id, code, reason, #reason)
  return true
end

--- Says that a UDP peer is who its address says, for it has shown what only that one can know: from now on it is sent
--- as much as there is to send. Other connections are verified by their transport.
function Connection.verify(object)
  local record = record_from(object, "verify")
  if not record or record.closed then
    return nil, closed
  end
  sk.leaf.verify(host, record.id)
  return true
end

--- The request that became a WebSocket, from what the host says of it: `target`, `path`, `query`, `headers` by name in
--- lower case, `subprotocol`.
local function parse_request(text)
  local target, subprotocol, rest = string.match(text, "^(%Z*)%z(%Z*)%z(.*)$")
  local headers = {}
  for name, value in string.gmatch(rest, "(%Z*)%z(%Z*)%z") do
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  -- The original's names for two of them.
  headers.protocol = headers.protocol or headers["sec-websocket-protocol"]
  headers.auth = headers.auth or headers.authorization
  local path, query = string.match(target, "^([^?]*)%??(.*)$")
  return {
    target = target, path = path, query = query, headers = headers,
    subprotocol = subprotocol ~= "" and subprotocol or nil,
  }
end

--- The request of a connection that is a WebSocket, made anew with each call; nil for others.
function sk.request_of(record)
  return record.request and parse_request(record.request)
end

--- What the client of a WebSocket asked for; nil for other connections.
function Connection.request(object)
  local record = record_from(object, "request")
  return record and sk.request_of(record)
end

local function new_record(id, slot, runtime)
  local object = setmetatable({ id = id }, connection_metatable)
  local record = { id = id, slot = slot, object = object, runtime = runtime }
  record_of[object] = record
  records[slot] = record
  return record
end

local function join(record, runtime)
  record.runtime = runtime
  if not runtime.members[record] then
    runtime.members[record] = true
    runtime.count = runtime.count + 1
  end
  runtime.last = record
end

--- The record for an event on a connection that wasn't announced.
function sk.placeholder(loop, event)
  local record = new_record(event.id, event.slot, loop.runtime)
  join(record, loop.runtime)
  return record
end

--- The object of a connection in an imported `state`; the connection itself follows by ADOPT, if it still lives.
function sk.connection_for(id)
  local slot = floor(id / 0x1000000) % 0x100000
  local record = records[slot]
  if not record or record.id ~= id then
    record = new_record(id, slot, nil)
  end
  return record.object
end

--- The id of a connection object; nil for anything else, false for a closed one.
function sk.connection_id(object)
  local record = record_of[object]
  if record then
    return record.id
  end
  return real_metatable(object) == connection_metatable and false or nil
end

--- A connection begins here (OPEN, ADOPT, ROUTE): its peer's address is the event's text.
function sk.join(runtime, event, ip)
  local slot, id = event.slot, event.id
  local record = records[slot]
  if not record or record.id ~= id or record.is_http then
    record = new_record(id, slot, runtime)
  end
  ip = ip or str(event.bytes, event.len)
  record.ip, record.port = ip, event.arg
  record.object.ip, record.object.port = ip, event.arg
  join(record, runtime)
  return record
end

--- The connection is gone: its slot is free for the next.
function sk.leave(record)
  record.closed = true
  if records[record.slot] == record then
    records[record.slot] = nil
  end
  local runtime = record.runtime
  if runtime and runtime.members[record] then
    runtime.members[record] = nil
    runtime.count = runtime.count - 1
    if runtime.last == record then
      runtime.last = nil
    end
  end
end

--- Everything about a closed connection is done.
function sk.forget(record)
  if record.object then
    record_of[record.object] = nil
  end
end

--- The record that an argument names: an id or a connection object of this app; nil if it is closed.
function sk.record_named(name, value, level)
  local record
  if type(value) == "number" then
    if value ~= value or value < 0 or value >= 2 ^ 52 then
      return nil
    end
    record = records[floor(value / 0x1000000) % 0x100000]
    if record and (record.id ~= value or record.is_http) then
      record = nil
    end
  else
    record = record_of[value]
    if not record and real_metatable(value) ~= connection_metatable then
      error(name .. ": expected a connection or its id, got " .. type(value), (level or 2) + 1)
    end
  end
  if record and record.closed then
    return nil
  end
  return record
end
