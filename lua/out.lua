--- `out`: what a command answers with. One object per run, handed to the command's `run(arguments, out)`.
---
--- Values go out raw with a kind per column; the command line makes tables for people and JSON for programs of them.
--- The host gives `emit(frame)`, which may wait while the reader is slow, and `null`, JSON's null.

local emit, null = ...

---@class socketley.Out
---@field code integer the exit code so far
---@field session table lives as long as the caller's connection
local Out = {}
Out.__index = Out

---@alias socketley.Column string|{ key: string, title?: string, kind?: "bytes"|"duration"|"ago"|"list"|"hidden" }

local function as_column(column)
  if type(column) == "string" then
    return { key = column, title = column:upper() }
  end
  return { key = column.key, title = column.title or column.key:upper(), kind = column.kind }
end

--- The columns of rows that nobody described: `id` and `name` first, the rest sorted.
local function columns_of(rows)
  local seen, columns = {}, {}
  for _, row in ipairs(rows) do
    for key in pairs(row) do
      if type(key) == "string" and not seen[key] then
        seen[key] = true
        columns[#columns + 1] = key
      end
    end
  end
  local first = { id = 1, name = 2 }
  table.sort(columns, function(a, b)
    local rank_a, rank_b = first[a] or 3, first[b] or 3
    if rank_a ~= rank_b then
      return rank_a < rank_b
    end
    return a < b
  end)
  return columns
end

--- A table of rows. A single row may come bare; nothing prints nothing.
---@param rows table[]|table|nil
---@param columns? socketley.Column[]
function Out:table(rows, columns)
  if rows == nil then
    return
  elseif type(rows) ~= "table" then
    return self:print(tostring(rows))
  elseif rows[1] == nil and next(rows) ~= nil then
    rows = { rows }
  end
  if rows[1] ~= nil and type(rows[1]) ~= "table" then
    for _, value in ipairs(rows) do
      self:print(tostring(value))
    end
    return
  end
  local described, cells = {}, {}
  for index, column in ipairs(columns or columns_of(rows)) do
    described[index] = as_column(column)
  end
  for number, row in ipairs(rows) do
    cells[number] = {}
    for index, column in ipairs(described) do
      local cell = row[column.key]
      cells[number][index] = cell == nil and null or cell
    end
  end
  emit { table = { columns = described, rows = cells } }
end

--- A line of text.
function Out:print(...)
  local parts = { ... }
  for index = 1, select("#", ...) do
    parts[index] = tostring((select(index, ...)))
  end
  emit { text = table.concat(parts, "\t"), to = "out" }
end

--- A line of text beside the answer (standard error).
function Out:note(text)
  emit { text = tostring(text), to = "err" }
end

--- What stands on the terminal goes, what follows replaces it; nothing where none is.
function Out:clear()
  emit { clear = true }
end

--- A value as JSON.
function Out:json(value)
  emit { json = value == nil and null or value }
end

--- A line for people that is a record for programs.
function Out:record(record, text)
  emit { record = record, text = text }
end

--- Says that something failed; the exit code becomes 1 (or the error's own), the run goes on.
---@param err string|socketley.Error
function Out:error(err)
  if type(err) ~= "table" or err.message == nil then
    err = { message = tostring(err) }
  end
  self.code = math.max(self.code, err.exit_code or 1)
  emit { error = { message = err.message, hint = err.hint } }
end

--- Sets the exit code.
function Out:exit(code)
  self.code = code
end

--- A new `out`.
return function(session)
  return setmetatable({ code = 0, session = session or {} }, Out)
end
