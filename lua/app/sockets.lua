--- `tcp`: the script's own connections. Everything here waits for the network and holds nobody else up.
---
--- What comes is kept by Rust (`src/lua/streams.rs`) and taken through the FFI: a read that finds enough costs no wait.
--- A socket that nothing refers to any more is closed when it is collected; all are when the VM ends.

local sk = ...
local host, leaf, native = sk.host, sk.leaf, sk.native
local socket_take, socket_send, answer = leaf.socket_take, leaf.socket_send, sk.answer
local str = ffi.string
local real_metatable = debug.getmetatable

local TIMEOUT_MS = 10000 -- of a dial and of each read or write, unless the script says otherwise
local UNSENT_BYTES = 256 * 1024 -- a sender waits above this until the peer has taken most of it
local RECEIVE_BYTES_MAX = 64 * 1024 * 1024

local SOME, EXACTLY, LINE, UNTIL, ALL = 0, 1, 2, 3, 4
local WAIT, BYTES, ENDED, TOO_LONG = 0, 1, 2, 3

local OPTIONS = { timeout = true, tls = true, ca = true, cert = true, key = true, server_name = true, insecure = true,
  alpn = true }
local TLS_OPTIONS = { "ca", "cert", "key", "server_name", "insecure", "alpn" }
local TYPES = { ca = "string", cert = "string", key = "string", server_name = "string", insecure = "boolean",
  alpn = "table" }

local tcp, Socket = {}, {}
local state_of = setmetatable({}, { __mode = "k" }) -- by object
local metatable = {
  __index = Socket,
  __metatable = "socket",
  __tostring = function(object)
    local state = state_of[object]
    return state and string.format("socket (%s:%d)", state.host, state.port) or "socket"
  end,
}

--- What a guard's collection ends; the leaf only appends.
local function collected(guard)
  leaf.socket_close(host, guard[0], false)
end

local function state_from(object, name)
  local state = state_of[object]
  if not state then
    error("socket:" .. name .. ": expected a socket before the colon, got " .. type(object), 3)
  end
  return state
end

local function timeout_ms(name, value, default)
  if value == nil then
    return default
  end
  return sk.milliseconds(name, value, 3)
end

local function gone(state)
  local code, text = native.socket_end(state.number)
  return sk.no(code or "closed", text or "the socket is closed")
end

local function timed_out(what, state)
  return sk.no("timeout", string.format("%s %s:%d takes too long", what, state.host, state.port))
end

-- Connecting ----------------------------------------------------------------------------------------------------------

local function check_options(options)
  for key, value in next, options do
    if not OPTIONS[key] then
      error("tcp.connect: " .. tostring(key) .. " is no option of it: timeout, tls, ca, cert, key, server_name, "
        .. "insecure or alpn", 3)
    end
    local wanted = TYPES[key]
    if wanted and type(value) ~= wanted then
      error("tcp.connect: " .. key .. ": expected a " .. wanted .. ", got " .. type(value), 3)
    end
  end
  if options.tls ~= nil and type(options.tls) ~= "boolean" then
    error("tcp.connect: tls: expected true or false, got " .. type(options.tls), 3)
  end
  if sk.restricted and (options.ca or options.cert or options.key) then
    error("tcp.connect: ca, cert and key name files, which the restricted profile doesn't open", 3)
  end
end

--- The options of TLS, if it is to be spoken.
local function tls_of(options)
  local found
  for _, key in ipairs(TLS_OPTIONS) do
    if options[key] ~= nil then
      found = found or {}
      found[key] = options[key]
    end
  end
  if found and options.tls == nil or options.tls then
    return found or {}
  elseif found then
    error("tcp.connect: tls = false, but there are options of TLS", 3)
  end
end

local function make(number, name, port, ms)
  local object = setmetatable({}, metatable)
  local guard = ffi.gc(ffi.new("double[1]", number), collected)
  state_of[object] = { number = number, host = name, port = port, timeout_ms = ms, guard = guard }
  return object
end

--- Connects to `name` (a host's name or an address) and `port`. Answers a socket, or `nil, err`: `err.code` is
--- "refused", "timeout", "unreachable", "not_found" (the name), "tls" or "limit".
function tcp.connect(name, port, options)
  if type(name) ~= "string" then
    error("tcp.connect: host: expected a string, got " .. type(name), 2)
  elseif type(port) ~= "number" or port % 1 ~= 0 or port < 1 or port > 65535 then
    error("tcp.connect: port: expected a number from 1 to 65535, got " .. sk.show(port), 2)
  elseif options ~= nil and type(options) ~= "table" then
    error("tcp.connect: options: expected a table, got " .. type(options), 2)
  end
  options = options or {}
  check_options(options)
  local tls, ms = tls_of(options), timeout_ms("tcp.connect: timeout", options.timeout, TIMEOUT_MS)
  local task = sk.begin_wait("tcp.connect")
  local number = sk.next_id()
  -- Made first: whatever ends the wait, the socket is closed with its object.
  local object = make(number, name, port, ms)
  native.dial(number, task.wait, name, port, tls)
  local state = state_of[object]
  local ran, ok, err = pcall(sk.suspend_for, task, ms, timed_out("connecting to", state))
  if ran and ok then
    return object
  end
  Socket.abort(object)
  if not ran then
    error(ok, 0)
  end
  return nil, err
end

-- Reading -------------------------------------------------------------------------------------------------------------

--- Reads until there is what is wanted. After an error the third value is what came before the end.
local function receive(state, name, kind, count, ending, ms)
  local number = state.number
  if state.closed then
    return nil, sk.closed
  end
  socket_take(host, number, kind, count, ending, #ending, 0, answer)
  local found = answer.kind
  while found == WAIT do
    if state.reader and state.reader.wait == state.reads then
      error("socket:" .. name .. ": another task reads from this socket already", 3)
    end
    local task = sk.begin_wait("socket:" .. name, 3)
    state.reader, state.reads = task, task.wait
    socket_take(host, number, kind, count, ending, #ending, task.wait, answer)
    local ok, err = sk.suspend_for(task, ms, timed_out("reading from", state))
    if not ok then
      return nil, err
    elseif state.closed then
      return nil, sk.closed
    end
    socket_take(host, number, kind, count, ending, #ending, 0, answer)
    found = answer.kind
  end
  if found == BYTES then
    return str(answer.bytes, answer.len)
  elseif found == ENDED then
    local rest = str(answer.bytes, answer.len)
    return nil, gone(state), rest
  elseif found == TOO_LONG then
    return nil, sk.no("too_long", "what comes is longer than a script may keep")
  end
  return nil, sk.closed
end

--- Receives a line without its end (`"*l"`, which is what no argument means), all until the end (`"*a"`), or exactly so
--- many bytes. Answers `nil, err` and, third, what came before an end.
function Socket.receive(object, what, timeout)
  local state = state_from(object, "receive")
  local ms = timeout_ms("socket:receive: timeout", timeout, state.timeout_ms)
  if what == nil or what == "*l" or what == "l" then
    return receive(state, "receive", LINE, 0, "", ms)
  elseif what == "*a" or what == "a" then
    return receive(state, "receive", ALL, 0, "", ms)
  elseif type(what) == "number" and what >= 0 and what % 1 == 0 and what <= RECEIVE_BYTES_MAX then
    return receive(state, "receive", EXACTLY, what, "", ms)
  end
  error('socket:receive: expected "*l", "*a" or a number of bytes up to 67108864, got ' .. sk.show(what), 2)
end

--- Receives up to `ending`, which is taken but not part of the answer.
function Socket.receive_until(object, ending, timeout)
  local state = state_from(object, "receive_until")
  if type(ending) ~= "string" or ending == "" then
    error("socket:receive_until: expected some text, got " .. sk.show(ending), 2)
  end
  local ms = timeout_ms("socket:receive_until: timeout", timeout, state.timeout_ms)
  return receive(state, "receive_until", UNTIL, 0, ending, ms)
end

--- Receives whatever is there, at least a byte and at most `most` (65536).
function Socket.receive_some(object, most, timeout)
  local state = state_from(object, "receive_some")
  if most ~= nil and (type(most) ~= "number" or most < 1) then
    error("socket:receive_some: expected a number of bytes, got " .. sk.show(most), 2)
  end
  local ms = timeout_ms("socket:receive_some: timeout", timeout, state.timeout_ms)
  return receive(state, "receive_some", SOME, most or 65536, "", ms)
end

-- Writing and ending --------------------------------------------------------------------------------------------------

--- Sends a string, or the strings of a list. Waits only when the peer is slow to take what was sent before. Answers
--- true, or `nil, err`.
function Socket.send(object, message, timeout)
  local state = state_from(object, "send")
  if type(message) == "table" then
    message = table.concat(message)
  elseif type(message) ~= "string" then
    message = sk.message_text("socket:send", message, 2)
  end
  if state.closed then
    return nil, sk.closed
  end
  local unsent = socket_send(host, state.number, message, #message)
  if unsent < 0 then
    return nil, gone(state)
  elseif unsent > UNSENT_BYTES then
    local ms = timeout_ms("socket:send: timeout", timeout, state.timeout_ms)
    local task = sk.begin_wait("socket:send")
    leaf.socket_drain(host, state.number, task.wait)
    local ok, err = sk.suspend_for(task, ms, timed_out("writing to", state))
    if not ok then
      return nil, err
    elseif socket_send(host, state.number, "", 0) < 0 then
      return nil, gone(state)
    end
  end
  return true
end

local function finish(object, name, at_once)
  local state = state_from(object, name)
  if not state.closed then
    state.closed = true
    ffi.gc(state.guard, nil)
    leaf.socket_close(host, state.number, at_once)
    local reader = state.reader
    if reader and reader.wait == state.reads then
      sk.queue { fn = function() end, event = "close", done = function()
        if reader.wait == state.reads then
          leaf.cancel_timer(host, reader.wait)
          sk.wake(reader, nil, sk.closed)
        end
      end }
    end
  end
  return true
end

--- Ends the connection after what was sent has gone out. A task that reads from it gets `nil, closed`.
function Socket.close(object)
  return finish(object, "close", false)
end

--- Ends the connection at once; what wasn't sent is lost.
function Socket.abort(object)
  return finish(object, "abort", true)
end

--- Whether it is open, the peer hasn't ended it, and nothing has come that wasn't asked for: fit to be used again.
function Socket.is_idle(object)
  local state = state_from(object, "is_idle")
  return not state.closed and native.socket_idle(state.number)
end

--- Sets how long each read or write may take from now on.
function Socket.set_timeout(object, timeout)
  local state = state_from(object, "set_timeout")
  state.timeout_ms = timeout_ms("socket:set_timeout", timeout, TIMEOUT_MS)
end

--- Whether `object` is a socket of this module.
function tcp.is_socket(object)
  return real_metatable(object) == metatable
end

sk.tcp = tcp
