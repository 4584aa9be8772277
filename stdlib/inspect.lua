--- Turns any value into text that a person can read: keys sorted, cycles named, a list of rows as a grid.
---
--- ```lua
--- local inspect = require "socketley.inspect"
--- print(inspect({ name = "chat", port = 9000 }))          --> { name = "chat", port = 9000 }
--- print(inspect({ { id = 1 }, { id = 2 } }, { grid = true }))
--- ```
--- It runs no code of the value but `__tostring` (protected), and its output is bounded.

---@class socketley.inspect.Options
---@field width? integer longest line before a table is broken up (default: 80)
---@field depth? integer levels shown, deeper tables are `{...}` (default: 8)
---@field items? integer entries shown of one table (default: 200)
---@field bytes? integer bytes shown of one string (default: 4096)
---@field grid? boolean a list of flat rows becomes a table with a header (default: false)

local M = {}

local KEYWORDS = {}
for word in
  ([[and break do else elseif end false for function goto if in local nil not or repeat return
  then true until while]]):gmatch("%a+")
do
  KEYWORDS[word] = true
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function escape(character)
  return ESCAPES[character] or ("\\%03d"):format(character:byte())
end

local function quote(text, bytes_max)
  local rest = ""
  if #text > bytes_max then
    rest = (" ... %d bytes more"):format(#text - bytes_max)
    text = text:sub(1, bytes_max)
  end
  return '"' .. text:gsub('[%c"\\\127]', escape) .. '"' .. rest
end

local function number(value)
  if value ~= value then
    return "nan"
  elseif value == math.huge or value == -math.huge then
    return value > 0 and "inf" or "-inf"
  elseif value == math.floor(value) and math.abs(value) <= 2 ^ 53 then
    return ("%d"):format(value)
  end
  return ("%.14g"):format(value)
end

--- The text of anything but a plain table.
local function scalar(value, options)
  local kind = type(value)
  if kind == "string" then
    return quote(value, options.bytes)
  elseif kind == "number" then
    return number(value)
  elseif kind == "nil" or kind == "boolean" then
    return tostring(value)
  end
  local ok, text = pcall(tostring, value)
  if not ok or type(text) ~= "string" then
    text = kind
  end
  return "<" .. text:gsub(": 0x%x+$", ""):gsub(": builtin#%d+$", "") .. ">"
end

local RANKS = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local kind_a, kind_b = type(a), type(b)
  if kind_a ~= kind_b then
    return (RANKS[kind_a] or 4) < (RANKS[kind_b] or 4)
  elseif RANKS[kind_a] and kind_a ~= "boolean" then
    return a < b
  end
  return tostring(a) < tostring(b)
end

--- The length of the sequence part and the other keys, sorted.
local function shape(value)
  local length = 0
  while rawget(value, length + 1) ~= nil do
    length = length + 1
  end
  local keys = {}
  for key in next, value do
    local in_sequence = type(key) == "number"
      and key >= 1
      and key <= length
      and key == math.floor(key)
    if not in_sequence then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, before)
  return length, keys
end

local function key_text(key, options)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") and not KEYWORDS[key] then
    return key
  elseif type(key) == "table" then
    return "[<table>]"
  end
  return "[" .. scalar(key, options) .. "]"
end

local function has_tostring(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and rawget(meta, "__tostring") ~= nil
end

local render

--- A table's entries as texts, cut at `options.items`.
local function entries(value, options, open, level)
  local length, keys = shape(value)
  local parts = {}
  for index = 1, math.min(length, options.items) do
    parts[index] = render(rawget(value, index), options, open, level)
  end
  for index = 1, math.min(#keys, options.items - #parts) do
    local key = keys[index]
    parts[#parts + 1] = key_text(key, options)
      .. " = "
      .. render(rawget(value, key), options, open, level)
  end
  local left = length + #keys - #parts
  if left > 0 then
    parts[#parts + 1] = ("... %d more"):format(left)
  end
  return parts
end

function render(value, options, open, level)
  if type(value) ~= "table" or has_tostring(value) then
    return scalar(value, options)
  elseif open[value] then
    return "<cycle>"
  elseif next(value) == nil then
    return "{}"
  elseif level >= options.depth then
    return "{...}"
  end
  open[value] = true
  local parts = entries(value, options, open, level + 1)
  open[value] = nil
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #line + 2 * level <= options.width and not line:find("\n", 1, true) then
    return line
  end
  local indent = ("  "):rep(level + 1)
  return "{\n"
    .. indent
    .. table.concat(parts, ",\n" .. indent)
    .. ",\n"
    .. ("  "):rep(level)
    .. "}"
end

--- The sorted columns of a list of flat rows, nothing if it isn't one.
local function grid_columns(value, items_max)
  local length, keys = shape(value)
  if length < 1 or length > items_max or #keys > 0 then
    return nil
  end
  local seen, columns = {}, {}
  for index = 1, length do
    local row = rawget(value, index)
    if type(row) ~= "table" or has_tostring(row) or next(row) == nil then
      return nil
    end
    for key, cell in next, row do
      if type(key) ~= "string" or (type(cell) == "table" and not has_tostring(cell)) then
        return nil
      end
      if not seen[key] then
        seen[key] = true
        columns[#columns + 1] = key
      end
    end
  end
  table.sort(columns)
  return columns
end

local function grid(value, columns, options)
  local widths, lines = {}, { {} }
  for index, column in ipairs(columns) do
    lines[1][index] = column:upper()
    widths[index] = #column
  end
  for _, row in ipairs(value) do
    local line = {}
    for index, column in ipairs(columns) do
      local cell = row[column]
      local text = cell == nil and "-" or type(cell) == "string" and cell:gsub("%c", escape)
        or scalar(cell, options)
      line[index] = text
      widths[index] = math.max(widths[index], #text)
    end
    lines[#lines + 1] = line
  end
  for number_of_line, line in ipairs(lines) do
    for index = 1, #line - 1 do
      line[index] = line[index] .. (" "):rep(widths[index] - #line[index])
    end
    lines[number_of_line] = table.concat(line, "  ")
  end
  return table.concat(lines, "\n")
end

local DEFAULTS = { width = 80, depth = 8, items = 200, bytes = 4096, grid = false }

--- The text of `value`.
---@param value any
---@param options? socketley.inspect.Options
---@return string
function M.inspect(value, options)
  if options ~= nil and type(options) ~= "table" then
    error("options: expected a table, got " .. type(options), 2)
  end
  options = setmetatable({}, { __index = options or DEFAULTS })
  for name, default in pairs(DEFAULTS) do
    if options[name] == nil then
      rawset(options, name, default)
    end
  end
  if options.grid and type(value) == "table" and not has_tostring(value) then
    local columns = grid_columns(value, options.items)
    if columns then
      return grid(value, columns, options)
    end
  end
  return render(value, options, {}, 0)
end

return setmetatable(M, {
  __call = function(_, value, options)
    return M.inspect(value, options)
  end,
})
