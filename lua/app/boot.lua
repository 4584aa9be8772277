--- The first trusted chunk of an app VM: opens the FFI, declares what Lua and Rust share, and gives the trusted chunks
--- globals of their own, so that nothing a script does to its globals reaches them.

local sk = ...
local ffi = require "ffi"

-- LuaJIT's recorder keeps a raw pointer into the ffi library; without a reference the library would be collected.
debug.getregistry()["socketley.ffi"] = ffi

local own = {}
for name, value in next, _G do
  if type(value) == "table" and name ~= "_G" then
    local library = {}
    for key, member in next, value do
      library[key] = member
    end
    value = library
  end
  own[name] = value
end
own._G = own
own.ffi = ffi
sk.env = own
sk.string_buffer = require "string.buffer"
sk.table_new, sk.table_clear = require "table.new", require "table.clear"

ffi.cdef [[
typedef struct { const char *bytes; double id; uint32_t len, slot, code, arg; } sk_event;
typedef struct { uint32_t number, text; } sk_request;
typedef struct { uint32_t in_user, killing; } sk_control;
typedef struct { const char *bytes; double number; uint32_t len, kind; } sk_answer;
]]

local function pointer(kind, light)
  return ffi.cast(kind, ffi.cast("void *", light))
end

local raw = sk.pointers
sk.events = pointer("sk_event *", raw.events)
sk.control = pointer("sk_control *", raw.control)
sk.host = ffi.cast("void *", raw.host)
sk.leaf = {
  send = pointer("void (*)(void *, double, const char *, size_t, bool)", raw.send),
  broadcast = pointer("void (*)(void *, uint32_t, double, const char *, size_t, bool)", raw.broadcast),
  close = pointer("void (*)(void *, double, uint32_t, const char *, size_t)", raw.close),
  park = pointer("void (*)(void *, double, bool)", raw.park),
  verify = pointer("void (*)(void *, double)", raw.verify),
  master = pointer("void (*)(void *, double, bool)", raw.master),
  timer = pointer("void (*)(void *, double, double)", raw.timer),
  cancel_timer = pointer("void (*)(void *, double)", raw.cancel_timer),
  route = pointer("void (*)(void *, double, uint32_t, double, const char *, size_t)", raw.route),
  http = pointer("void (*)(void *, double, uint32_t, uint32_t, uint32_t, const char *, size_t, const char *, size_t, "
    .. "double)", raw.http),
  stop_ended = pointer("void (*)(void *, uint32_t)", raw.stop_ended),
  argument = pointer("void (*)(void *, const char *, size_t)", raw.argument),
  execute = pointer("void (*)(void *, uint32_t, uint32_t, sk_answer *)", raw.execute),
  ask = pointer("void (*)(void *, uint32_t, double)", raw.ask),
  land = pointer("void (*)(void *, uint32_t, double, uint32_t, double)", raw.land),
  done = pointer("void (*)(void *, uint32_t, double, bool)", raw.done),
  socket_send = pointer("double (*)(void *, double, const char *, size_t)", raw.socket_send),
  socket_take = pointer("void (*)(void *, double, uint32_t, double, const char *, size_t, double, sk_answer *)",
    raw.socket_take),
  socket_drain = pointer("void (*)(void *, double, double)", raw.socket_drain),
  socket_close = pointer("void (*)(void *, double, bool)", raw.socket_close),
}
sk.pointers = nil
sk.answer = ffi.new "sk_answer"
-- The first is 1 while the message that is handled is a binary one of a WebSocket: what is sent meanwhile is of its
-- kind. The second is 1 while a cache's hook runs: no hook hears of what it writes, and it doesn't wait for a hook.
sk.kind = ffi.new "uint32_t[2]"

-- The connection and timer ids are doubles: a 52-bit id is exact, and no cdata is boxed.
sk.MESSAGE, sk.OPEN, sk.CLOSE, sk.ADOPT, sk.ROUTE, sk.START, sk.STOP = 0, 1, 2, 3, 4, 5, 6
sk.TIMER, sk.ANSWER, sk.EVALUATE, sk.COMPLETE, sk.CANCEL, sk.COMMAND = 7, 8, 9, 10, 11, 12
sk.REQUEST, sk.BODY, sk.VISIT, sk.WEBSOCKET, sk.SOCKET, sk.ROUTE_REQUEST = 13, 14, 15, 16, 17, 18
sk.HOOK, sk.MISS, sk.BEHIND, sk.CHANNEL, sk.LANDED, sk.END = 24, 25, 26, 27, 28, 29
sk.MASTER = 20
sk.KINDS = 32
