--- Runtimes as scripts see them: definitions (`server "chat" { ... }`), their objects, and the original's globals.
---
--- A handler that is a field of a definition gets the connection (or the runtime's object) first. A handler that is a
--- global function, in a script that one runtime names, has the original's signature.

local sk = ...
local host, leaf = sk.host, sk.leaf
local broadcast, send, close = leaf.broadcast, leaf.send, leaf.close
local is_binary, close_words = sk.is_binary, sk.close_words
local message_text, record_named, closed = sk.message_text, sk.record_named, sk.closed

local KINDS = { "server", "client", "cache", "proxy" }
local FIELDS = { name = true, port = true, type = true, state = true, protocol = true }

local definitions = {} -- in the order of the file
local by_name = {}
local commands = {}
local runtime_of = sk.runtime_of -- by object
sk.definitions, sk.commands = definitions, commands

--- A value for an error message.
function sk.show(value)
  if type(value) == "string" then
    local text = #value > 40 and string.sub(value, 1, 40) .. "..." or value
    return string.format("%q", text)
  elseif type(value) == "number" or type(value) == "boolean" then
    return tostring(value)
  end
  return type(value)
end

-- What every object can do ------------------------------------------------------------------------------------------

local methods = { server = {}, client = {}, cache = {}, proxy = {} }

--- Sends to all connections, `{ except = conn }` left out; to WebSockets as binary if `{ binary = true }` says so.
function methods.server.broadcast(runtime, message, options)
  if type(message) ~= "string" then
    message = message_text("broadcast", message, 2)
  end
  local except = -1
  local binary = is_binary("broadcast", options, 2)
  if options ~= nil and options.except ~= nil then
    local record = record_named("broadcast: except", options.except, 2)
    except = record and record.id or -1
  end
  if runtime.id then
    broadcast(host, runtime.id, except, message, #message, binary)
  end
  return true
end

--- Sends to one connection.
function methods.server.send(runtime, to, message, options)
  if type(message) ~= "string" then
    message = message_text("send: message", message, 2)
  end
  local record = record_named("send", to, 2)
  if not record or record.runtime ~= runtime then
    return nil, closed
  end
  send(host, record.id, message, #message, is_binary("send", options, 2))
  return true
end

--- Sends to several connections.
function methods.server.multicast(runtime, list, message, options)
  if type(list) ~= "table" then
    error("multicast: expected a table of connections, got " .. type(list), 2)
  end
  message = message_text("multicast: message", message, 2)
  local binary = is_binary("multicast", options, 2)
  for index = 1, #list do
    local record = record_named("multicast", list[index], 2)
    if record and record.runtime == runtime then
      send(host, record.id, message, #message, binary)
    end
  end
  return true
end

function methods.server.close(runtime, which, code, reason)
  local record = record_named("close", which, 2)
  code, reason = close_words("close", code, reason, 2)
  if not record or record.runtime ~= runtime then
    return nil, closed
  end
  close(host, record.id, code, reason, #reason)
  return true
end
methods.server.disconnect = methods.server.close

--- How many connections there are.
function methods.server.connections(runtime)
  return runtime.count
end

--- The connections: objects, or ids in the original's style.
function methods.server.clients(runtime)
  local list = {}
  for record in pairs(runtime.members) do
    list[#list + 1] = runtime == sk.owner and record.id or record.object
  end
  table.sort(list, function(a, b)
    return (type(a) == "number" and a or a.id) < (type(b) == "number" and b or b.id)
  end)
  return list
end

function methods.server.peer_ip(_, which)
  local record = record_named("peer_ip", which, 2)
  return record and record.ip
end

--- The headers of the request that became a WebSocket, by name in lower case; nil for other connections.
function methods.server.ws_headers(_, which)
  local record = record_named("ws_headers", which, 2)
  local request = record and sk.request_of(record)
  return request and request.headers
end

local function connection_data(name, which)
  local record = record_named(name, which, 3)
  if not record then
    return nil
  end
  record.data = record.data or {}
  return record.data
end

--- Keeps a value with a connection, until it closes.
function methods.server.set_data(_, which, key, value)
  local data = connection_data("set_data", which)
  if not data then
    return nil, closed
  end
  data[key] = value
  return true
end

function methods.server.get_data(_, which, key)
  local data = connection_data("get_data", which)
  return data and data[key]
end

--- Sends to the peer that the client is connected to.
function methods.client.send(runtime, message, options)
  if type(message) ~= "string" then
    message = message_text("send", message, 2)
  end
  local binary = is_binary("send", options, 2)
  local record = runtime.last
  if record and not record.closed then
    send(host, record.id, message, #message, binary)
    return true
  end
  local queue = runtime.fields and tonumber(runtime.fields.send_queue) or 0
  if queue < #message or queue == 0 then
    return nil, closed
  end
  broadcast(host, runtime.id, -1, message, #message, binary)
  return true
end

function methods.client.close(runtime, code, reason)
  local record = runtime.last
  code, reason = close_words("close", code, reason, 2)
  if not record or record.closed then
    return nil, closed
  end
  close(host, record.id, code, reason, #reason)
  return true
end
methods.client.disconnect = methods.client.close
methods.client.connections = methods.server.connections

for _, name in ipairs { "connections", "clients", "peer_ip", "close", "disconnect" } do
  methods.proxy[name] = methods.server[name]
end
methods.proxy.close_client = methods.server.close

--- `self`, `server` and their kin: what stands for the present runtime may be the receiver of a colon call too.
local stand_ins = {}

--- The object of a runtime: methods take dot and colon, and a script may add its own.
local function make_object(runtime)
  local bound, object = {}, {}
  for name, method in pairs(methods[runtime.kind]) do
    bound[name] = function(first, ...)
      if first == object or type(first) == "table" and stand_ins[first] then
        return method(runtime, ...)
      end
      return method(runtime, first, ...)
    end
  end
  if runtime.kind == "cache" then
    setmetatable(bound, {
      __index = function(_, key)
        -- The original's hooks don't hear of what their own script writes.
        local made = sk.cache_method(object, runtime.name, key, runtime == sk.owner)
        bound[key] = made
        return made
      end,
    })
  end
  runtime.bound = bound
  bound.name, bound.port, bound.type = runtime.name, runtime.port, runtime.kind
  bound.state, bound.protocol = runtime.state_table, "tcp"
  runtime_of[object] = runtime
  return setmetatable(object, {
    __index = bound,
    __metatable = "runtime",
    __tostring = function() return runtime.kind .. ' "' .. runtime.name .. '"' end,
  })
end

local function new_runtime(kind, name)
  local runtime = {
    kind = kind, name = name, port = 0, state = "created",
    handlers = {}, members = {}, count = 0, index = #definitions + 1,
  }
  definitions[runtime.index] = runtime
  by_name[kind .. "/" .. name] = runtime
  return runtime
end

-- Definitions -------------------------------------------------------------------------------------------------------

--- Where the script's line stands that made the call.
local function place(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info and info.source or "?", info and info.currentline or 0
end

local function check_name(kind, name, level)
  if type(name) ~= "string" then
    error(kind .. ": expected a name (string), got " .. type(name), level + 1)
  end
  if FIELDS[name] or methods[kind][name] then
    error(kind .. " " .. sk.show(name) .. ": a runtime can't be called so, " .. kind .. "." .. name
      .. " means a field or method", level + 1)
  end
  local same = by_name[kind .. "/" .. name]
  if same then
    error(string.format("%s %q is defined twice, first in line %d", kind, name, same.line), level + 1)
  end
end

local function define(kind, name, fields, source, line)
  if type(fields) ~= "table" then
    error(string.format("%s %q: expected a table of fields, got %s", kind, name, type(fields)), 2)
  end
  if fields.state ~= nil and type(fields.state) ~= "table" then
    error(string.format("%s %q: state: expected a table, got %s", kind, name, type(fields.state)), 2)
  end
  local runtime = new_runtime(kind, name)
  runtime.source, runtime.line, runtime.fields = source, line, fields
  runtime.state_table = fields.state or {}
  runtime.port = type(fields.port) == "number" and fields.port or 0
  for key, value in next, fields do
    if type(value) == "function" and type(key) == "string" then
      runtime.handlers[key] = value
    end
  end
  local behind = rawget(fields, "write_behind")
  if type(behind) == "table" and type(rawget(behind, "run")) == "function" then
    runtime.handlers.write_behind = rawget(behind, "run")
  end
  runtime.tick_ms = function() return rawget(fields, "tick_ms") end
  runtime.raw = rawget(fields, "raw") == true
  runtime.object = make_object(runtime)
  return runtime.object
end

local function constructor(kind)
  return function(_, name, fields)
    if sk.owner then
      error(kind .. ": a script that a runtime names (--lua) can't define runtimes: use `socketley apply`", 2)
    elseif sk.loaded then
      error(kind .. ": runtimes are defined while the file loads; socketley.create makes one later", 2)
    end
    check_name(kind, name, 2)
    local source, line = place(2)
    if fields ~= nil then
      return define(kind, name, fields, source, line)
    end
    return function(table_of_fields)
      return define(kind, name, table_of_fields, source, line)
    end
  end
end

--- What `self` and its aliases stand for now.
local function present_object()
  local runtime = sk.owner or sk.current_runtime()
  return runtime and runtime.object
end

local function make_global(kind)
  local stand_in = {}
  stand_ins[stand_in] = true
  return setmetatable(stand_in, {
    __call = constructor(kind),
    __index = function(_, key)
      local object = present_object()
      local own = object and runtime_of[object].bound
      if kind == "cache" then
        local is_own = own and runtime_of[object].kind == "cache"
        if is_own and (FIELDS[key] or rawget(own, key) ~= nil or not sk.is_cache(key)) then
          return object[key]
        end
        return sk.cache_handle(key)
      end
      local value = object and object[key]
      if value == nil then
        local named = by_name[kind .. "/" .. tostring(key)]
        value = named and named.object
      end
      return value
    end,
    __newindex = function(_, key, value)
      local object = present_object()
      if not object then
        error(kind .. "." .. tostring(key) .. ": no runtime's handler runs here", 2)
      end
      object[key] = value
    end,
    __metatable = kind,
  })
end

--- `self`, when the script has no runtime of its own: the runtime whose handler runs.
local function make_self()
  local stand_in = {}
  stand_ins[stand_in] = true
  return setmetatable(stand_in, {
    __index = function(_, key)
      local object = present_object()
      if not object then
        error("self." .. tostring(key) .. ": no runtime's handler runs here", 2)
      end
      return object[key]
    end,
    __metatable = "runtime",
  })
end

local function define_command(_, name, spec)
  local source, line = place(2)
  local function add(fields)
    if type(fields) ~= "table" then
      error(string.format("command %q: expected a table, got %s", name, type(fields)), 2)
    end
    if type(rawget(fields, "run")) ~= "function" then
      error(string.format("command %q: run: expected a function, got %s", name, type(rawget(fields, "run"))), 2)
    end
    local copy = { name = name }
    for key, value in next, fields do
      if type(value) ~= "function" then
        copy[key] = value
      end
    end
    commands[#commands + 1] = { name = name, spec = copy, run = fields.run, source = source, line = line }
    commands[name] = commands[#commands]
  end
  if type(name) ~= "string" then
    error("command: expected a name (string), got " .. type(name), 2)
  elseif sk.loaded then
    error("command: commands are defined while the file loads", 2)
  elseif commands[name] then
    error(string.format("command %q is defined twice, first in line %d", name, commands[name].line), 2)
  end
  if spec ~= nil then
    return add(spec)
  end
  return add
end

--- Puts the definitions' globals into a script's.
function sk.install_runtimes(globals, owner)
  for _, kind in ipairs(KINDS) do
    globals[kind] = make_global(kind)
  end
  globals.command = setmetatable({}, { __call = define_command, __metatable = "command" })
  if owner then
    local runtime = new_runtime(owner.kind, owner.name)
    runtime.port, runtime.state_table = owner.port, "created"
    runtime.source, runtime.line, runtime.fields = sk.main_chunk, 1, {}
    runtime.object = make_object(runtime)
    sk.owner = runtime
    globals.self = runtime.object
  else
    globals.self = make_self()
  end
end

-- After the load ----------------------------------------------------------------------------------------------------

--- The original's callbacks, with what their own signature takes from (connection, ...) or (runtime, ...).
local ORIGINAL = {
  on_start = function(fn) return function() return fn() end end,
  on_stop = function(fn) return function() return fn() end end,
  on_connect = function(fn) return function(conn) return fn(conn.id) end end,
  on_disconnect = function(fn) return function(conn) return fn(conn.id) end end,
  on_message = function(fn) return function(_, message) return fn(message) end end,
  on_client_message = function(fn) return function(conn, message) return fn(conn.id, message) end end,
  on_websocket = function(fn) return function(conn, headers) return fn(conn.id, headers) end end,
  on_master_auth = function(fn) return function(conn, password) return fn(conn.id, password) end end,
  on_tick = function(fn) return function(_, passed) return fn(passed) end end,
  on_route = function(fn) return function(req) return fn(req.method, req.path) end end,
  on_http_request = function(fn) return function(req) return fn(sk.original_request(req)) end end,
  on_write = function(fn) return function(key, value, ttl) return fn(key, value, math.ceil(ttl or 0)) end end,
  on_delete = function(fn) return function(key) return fn(key) end end,
  on_expire = function(fn) return function(key) return fn(key) end end,
  on_miss = function(fn)
    return function(key)
      local value, ttl = fn(key)
      if value == "" then
        return nil
      end
      return value, ttl
    end
  end,
}

--- Makes definitions global under their names, where that is free and unambiguous: `local chat = server "chat" { ... }`
--- isn't in scope inside its own braces, so that handlers there find `chat` as a global.
local function name_definitions(globals)
  local count = {}
  for _, runtime in ipairs(definitions) do
    count[runtime.name] = (count[runtime.name] or 0) + 1
  end
  for _, runtime in ipairs(definitions) do
    if count[runtime.name] == 1 and rawget(globals, runtime.name) == nil then
      rawset(globals, runtime.name, runtime.object)
    end
  end
end

--- Global functions that look like callbacks: the handlers of the owner, or worth a warning.
function sk.collect_globals(globals)
  sk.loaded = true
  local found = {}
  for name, value in next, globals do
    if type(name) == "string" and type(value) == "function" and string.match(name, "^on_%l[%l_]*$") then
      found[#found + 1] = name
      if sk.owner and ORIGINAL[name] then
        sk.owner.handlers[name] = ORIGINAL[name](value)
      elseif sk.owner then
        sk.owner.handlers[name] = value
      end
    end
  end
  table.sort(found)
  if sk.owner then
    sk.owner.tick_ms = function() return rawget(globals, "tick_ms") end
    return {}
  end
  name_definitions(globals)
  return found
end

--- Binds a definition to its runtime and loads a loop for it.
function sk.bind(index, id, name, port)
  local runtime = definitions[index]
  runtime.id, runtime.name = id, name
  runtime.port = port ~= 0 and port or runtime.port
  local bound = runtime.bound
  bound.name, bound.port = runtime.name, runtime.port
  runtime.state = "running"
  if runtime == sk.owner then
    bound.state = "running"
  end
  local handlers = runtime.handlers
  -- The original calls the one with the id, if there are both.
  runtime.on_message = handlers.on_client_message or handlers.on_message or function() end
  sk.bind_routes(runtime)
  local loop = { index = index, runtime = runtime, on_message = runtime.on_message, pool = {}, raw = runtime.raw }
  sk.load_loop(loop)
  runtime.loop = loop
  sk.loops[index] = loop
end

--- The `state` tables by runtime name; a callback-style script has none.
function sk.state_tables()
  local tables = {}
  for _, runtime in ipairs(definitions) do
    if type(runtime.state_table) == "table" then
      tables[runtime.name] = runtime.state_table
    end
  end
  return tables
end

-- The file `require "socketley.x"` names is public; what follows is what the daemon alone may answer.
sk.loops[0] = { index = 0, pool = {}, on_message = function() end }
