--- One console: evaluates lines, keeps their locals, and knows which names could follow.
---
--- The host gives what scripts don't have: `host.getlocal` (debug.getlocal), `host.load` (text only), `host.traceback`,
--- `host.inspect`, `host.globals`. Nothing here knows where the lines come from.
---
--- Locals persist so: each chunk gets one more line at its end, which hands the locals alive there over to `names`; the
--- next chunk reads them through its environment. A function that closed over such a local keeps its own.

local host = ...

local Console = {}
Console.__index = Console

local function pass(...)
  return ...
end

local function is_incomplete(message)
  return message:find("near '<eof>'", 1, true) ~= nil
    or message:find("unfinished long string", 1, true) ~= nil
    or message:find("unfinished long comment", 1, true) ~= nil
end

local CHUNK = "=console"
local CAPTURE = "__console_capture"
local PASS = "__console_pass"

--- The locals alive where the chunk ends; inner blocks have gone, so only the outermost remain.
local function capture(names)
  return function()
    local index = 1
    while true do
      local name, value = host.getlocal(2, index)
      if not name then
        return
      end
      if name:sub(1, 1) ~= "(" then
        names[name] = { value = value }
      end
      index = index + 1
    end
  end
end

--- Compiles a line: as an expression if it is one, else as statements. Answers a function, or nil and why not.
local function compile(self, code)
  local expression, no_expression = host.load("return " .. code, CHUNK, self.env)
  if expression then
    -- Not `return f()`: a tail call would hide this line from errors.
    return host.load("return " .. PASS .. "(" .. code .. "\n)", CHUNK, self.env) or expression
  end
  local statements, message = host.load(code, CHUNK, self.env)
  if not statements then
    return nil, is_incomplete(no_expression) and no_expression or message
  end
  -- A chunk that ends with `return` or a comment without a newline can't be appended to in the first way.
  return host.load(code .. "\n" .. CAPTURE .. "()", CHUNK, self.env) or statements
end

local function results_text(results, count)
  if count == 0 then
    return ""
  end
  local texts = {}
  for index = 1, count do
    texts[index] = host.inspect(results[index], { grid = count == 1 })
  end
  return table.concat(texts, "\t")
end

local function pack(...)
  return select("#", ...), { ... }
end

--- The traceback's lines up to the first of ours.
local function trim(traceback)
  local lines = {}
  for line in traceback:gmatch("[^\n]+") do
    if line:find("[socketley]/lua/", 1, true) or line:find("in function 'xpcall'", 1, true) then
      break
    end
    if not line:find "^%s*%[builtin" then
      lines[#lines + 1] = line
    end
  end
  if lines[#lines] == "stack traceback:" then
    lines[#lines] = nil
  end
  return table.concat(lines, "\n")
end

local function on_error(message)
  if type(message) ~= "string" then
    local ok, text = pcall(tostring, message)
    message = ok and type(text) == "string" and text or "(an error that isn't text)"
  end
  return trim(host.traceback(message, 2))
end

--- Runs code. Answers `{ text =, incomplete = true? }`, or nil and the error with its traceback. May wait.
function Console:evaluate(code)
  local run, message = compile(self, code)
  if not run then
    if is_incomplete(message) then
      return { text = "", incomplete = true }
    end
    return nil, "syntax error: " .. message
  end
  local count, results = pack(xpcall(run, on_error))
  if not results[1] then
    return nil, results[2]
  end
  return { text = results_text({ select(2, unpack(results, 1, count)) }, count - 1) }
end

local function raw_index(value, key)
  for _ = 1, 16 do
    if type(value) == "string" then
      value = string
    end
    if type(value) ~= "table" then
      return nil
    end
    local found = rawget(value, key)
    if found ~= nil then
      return found
    end
    local meta = getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index")
  end
end

local function add_names(value, prefix, start, into)
  for _ = 1, 16 do
    if type(value) == "string" then
      value = string
    end
    if type(value) ~= "table" then
      return
    end
    for key in next, value do
      local is_name = type(key) == "string" and key:find "^[%a_][%w_]*$"
      if is_name and key:sub(1, #prefix) == prefix then
        into[start .. key] = true
      end
    end
    local meta = getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index")
  end
end

--- The words that could stand in place of the line's last one, sorted. Runs nothing: only plain tables are walked.
function Console:complete(line)
  local word = line:match "[%w_%.:]*$"
  local path, prefix = word:match "^(.-)([%w_]*)$"
  local found = {}
  if path == "" then
    add_names(host.globals, prefix, "", found)
    for name in pairs(self.names) do
      if name:sub(1, #prefix) == prefix then
        found[name] = true
      end
    end
  else
    local value
    for part in path:gmatch "[%w_]+" do
      if value == nil then
        local own = self.names[part]
        value = own and own.value
        if value == nil then
          value = raw_index(host.globals, part)
        end
      else
        value = raw_index(value, part)
      end
      if value == nil then
        return {}
      end
    end
    add_names(value, prefix, path, found)
  end
  local words = {}
  for name in pairs(found) do
    words[#words + 1] = name
  end
  table.sort(words)
  return words
end

--- A new console over `host.globals`.
return function()
  local names = {}
  local capture_names = capture(names)
  local env = setmetatable({}, {
    __index = function(_, key)
      local own = names[key]
      if own then
        return own.value
      elseif key == CAPTURE then
        return capture_names
      elseif key == PASS then
        return pass
      end
      return host.globals[key]
    end,
    __newindex = function(_, key, value)
      if names[key] then
        names[key].value = value
      else
        host.globals[key] = value
      end
    end,
  })
  return setmetatable({ names = names, env = env }, Console)
end
