--- Loaded once for each script, function and command: the JIT's traces begin here and belong to it alone.
---
--- `xpcall` isn't tail-called: the JIT can't compile a trace whose first frame is the protected one.

local kind, fn, handler, base, db = ...
local xpcall = xpcall

if kind == "script" then
  return function(keys, argv)
    base.KEYS, base.ARGV = keys, argv
    local ok, result = xpcall(fn, handler)
    return ok, result
  end
elseif kind == "function" then
  return function(keys, argv)
    local ok, result = xpcall(fn, handler, keys, argv)
    return ok, result
  end
end
return function(...)
  local ok, result = xpcall(fn, handler, db, ...)
  return ok, result
end
