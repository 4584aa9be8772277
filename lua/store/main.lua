--- Loaded once for each script, function and command: the JIT's traces begin here and belong to it alone.

local kind, fn, handler, base, db = ...
local xpcall, unpack = xpcall, unpack

if kind == "script" then
  return function(keys, argv)
    base.KEYS, base.ARGV = keys, argv
    return xpcall(fn, handler)
  end
elseif kind == "function" then
  return function(keys, argv)
    return xpcall(fn, handler, keys, argv)
  end
end
return function(argv, count)
  return xpcall(fn, handler, db, unpack(argv, 1, count))
end
