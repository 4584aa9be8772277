--- How a script, function or command is called: in a small function of its own, whose copy of the code is its own too.

local sk = ...
local getinfo, sub, find, gmatch = debug.getinfo, string.sub, string.find, string.gmatch
local rawget, type, tostring, load = rawget, type, tostring, load

--- Where the script is: its innermost frame, or where its last `return` is: LuaJIT keeps no frame of a tail call.
local function place(last)
  for level = 3, 250 do
    local info = getinfo(level, "Sl")
    if not info then
      return last
    elseif info.what ~= "C" and sub(info.source, 1, 4) ~= "=[sk" then
      return info.source .. ":" .. info.currentline
    end
  end
end

--- An error as Redis tells it: its text, a zero byte and the place.
local function tell(err, last)
  local text
  if type(err) == "table" then
    local own = rawget(err, "err")
    text = type(own) == "string" and own or "ERR unknown error"
  elseif type(err) == "string" or type(err) == "number" then
    text = "ERR " .. err
  elseif err == nil or type(err) == "boolean" then
    text = "ERR " .. tostring(err)
  else
    text = "ERR an error of type " .. type(err)
  end
  return text .. "\0" .. place(last)
end

--- The line of the last `return` from `first` on.
local function last_return(text, first)
  local line, found = first, first
  for row in gmatch(text .. "\n", "(.-)\n") do
    if find(row, "%f[%w_]return%f[^%w_]") then
      found = line
    end
    line = line + 1
  end
  return found
end

--- The main function of something that is run: of a "script", a "function" or a "command". `last` is where it is when
--- it isn't known better.
function sk.main(kind, fn, last, db)
  local function handler(err)
    return tell(err, last)
  end
  return load(sk.main_text, "=[sk main]", "t", sk.env)(kind, fn, handler, sk.eval_base, db)
end

--- The place of a function, as text.
function sk.place_of(fn)
  local info = getinfo(fn, "S")
  return info.source .. ":" .. info.linedefined
end

--- A script's main function, or nil and the compiler's message.
function sk.compile(text)
  local fn, message = load(text, "@user_script", "t", sk.eval_env)
  if not fn then
    return nil, message
  end
  return sk.main("script", fn, "@user_script:" .. last_return(text, 1))
end
