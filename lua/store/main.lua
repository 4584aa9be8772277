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

-- By the number of arguments: the JIT begins no trace in a function with a variable number of them. The last one takes
-- what is more.
return {
  function()
    local ok, result = xpcall(fn, handler, db)
    return ok, result
  end,
  function(a)
    local ok, result = xpcall(fn, handler, db, a)
    return ok, result
  end,
  function(a, b)
    local ok, result = xpcall(fn, handler, db, a, b)
    return ok, result
  end,
  function(a, b, c)
    local ok, result = xpcall(fn, handler, db, a, b, c)
    return ok, result
  end,
  function(a, b, c, d)
    local ok, result = xpcall(fn, handler, db, a, b, c, d)
    return ok, result
  end,
  function(...)
    local ok, result = xpcall(fn, handler, db, ...)
    return ok, result
  end,
}
