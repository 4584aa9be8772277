--- The first trusted chunk of a store VM: opens the FFI, declares what Lua and Rust share, and gives the trusted chunks
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

ffi.cdef [[
typedef struct { uint32_t suspending, killing; } sk_machine;
typedef struct { const char *bytes; double number; uint32_t len, kind; } sk_store_answer;
]]

local function pointer(kind, light)
  return ffi.cast(kind, ffi.cast("void *", light))
end

local raw = sk.pointers
sk.control = pointer("sk_machine *", raw.machine)
sk.machine = ffi.cast("void *", raw.machine)
sk.answer = pointer("sk_store_answer *", raw.answer)
sk.leaf = {
  reset = pointer("void (*)(void *)", raw.reset),
  argument = pointer("void (*)(void *, const char *, size_t)", raw.argument),
  number = pointer("void (*)(void *, double)", raw.number),
  execute = pointer("uint32_t (*)(void *)", raw.execute),
  execute2 = pointer("uint32_t (*)(void *, const char *, size_t, const char *, size_t)", raw.execute2),
  execute3 = pointer("uint32_t (*)(void *, const char *, size_t, const char *, size_t, const char *, size_t)",
    raw.execute3),
}
sk.pointers = nil
