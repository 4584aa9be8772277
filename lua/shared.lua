--- What several commands do in the same way.

local socketley = ...

--- Does `act(name)` for every runtime that the patterns stand for, once each; prints the names as they are done (unless
--- `silent`) and the errors as they come. One failure doesn't stop the others.
local function each(patterns, out, act, silent)
  local seen = {}
  for _, pattern in ipairs(patterns) do
    local names, err = socketley.match(pattern)
    if not names then
      out:error(err)
    end
    for _, name in ipairs(names or {}) do
      if not seen[name] then
        seen[name] = true
        local done, act_err = act(name)
        if not done then
          out:error(act_err)
        elseif not silent then
          out:print(name)
        end
      end
    end
  end
end

--- The rows of `list`, only those of the patterns if there are some.
local function chosen(patterns, out)
  local rows, err = socketley.list()
  if not rows then
    return out:error(err)
  elseif not patterns then
    return rows
  end
  local wanted = {}
  for _, pattern in ipairs(patterns) do
    local names, match_err = socketley.match(pattern)
    if not names then
      out:error(match_err)
    end
    for _, name in ipairs(names or {}) do
      wanted[name] = true
    end
  end
  local found = {}
  for _, row in ipairs(rows) do
    if wanted[row.name] or wanted[row.app or ""] then
      found[#found + 1] = row
    end
  end
  return found
end

--- Only programs see these: people get the reason below the table.
local GENERATION = { key = "generation", kind = "hidden" }
local DEGRADED = { key = "degraded", kind = "hidden" }

--- `ls` and `ps`: a table of the rows that `keep` wants, the last column being `last`.
local function list(a, out, keep, last)
  local kept, degraded = {}, {}
  for _, row in ipairs(chosen(a.name, out) or {}) do
    if keep(row) then
      kept[#kept + 1] = row
      if row.degraded and row.degraded ~= "" then
        degraded[#degraded + 1] = ("%s is degraded: %s"):format(row.name, row.degraded)
        row.status = "degraded"
      end
    end
  end
  if a.quiet then
    for _, row in ipairs(kept) do
      out:print(row.name)
    end
    return
  end
  local columns = { "id", "name", "type", "status", "listen", "connections", "app", last }
  columns[#columns + 1] = GENERATION
  columns[#columns + 1] = DEGRADED
  out:table(kept, columns)
  for _, line in ipairs(degraded) do
    out:note(line)
  end
end

local UNITS = { "B", "KB", "MB", "GB", "TB" }

--- `1536` as `1.5 KB`.
local function bytes_text(bytes)
  local unit = 1
  while bytes >= 1024 and unit < #UNITS do
    bytes, unit = bytes / 1024, unit + 1
  end
  return (unit == 1 and "%d %s" or "%.1f %s"):format(bytes, UNITS[unit])
end

--- `192000` as `3m 12s`: the two largest units.
local function duration_text(ms)
  local seconds = math.floor(ms / 1000)
  local days, hours = math.floor(seconds / 86400), math.floor(seconds / 3600) % 24
  local minutes = math.floor(seconds / 60) % 60
  if seconds == 0 then
    return ("%dms"):format(ms)
  elseif seconds < 60 then
    return ("%ds"):format(seconds)
  elseif seconds < 3600 then
    return ("%dm %ds"):format(minutes, seconds % 60)
  elseif days == 0 then
    return ("%dh %dm"):format(hours, minutes)
  end
  return ("%dd %dh"):format(days, hours)
end

local value_text

--- A value of `stats` or `info` for a person; its name tells the unit.
function value_text(key, value)
  if type(value) == "table" then
    local parts = {}
    for _, item in ipairs(value) do
      parts[#parts + 1] = value_text(key, item)
    end
    if #parts == 0 then
      for name, item in pairs(value) do
        parts[#parts + 1] = item == true and name or name .. "=" .. value_text(name, item)
      end
      table.sort(parts)
    end
    return #parts > 0 and table.concat(parts, ", ") or "-"
  elseif type(value) ~= "number" then
    return tostring(value)
  elseif key:find "bytes" or key:find "memory" then
    return bytes_text(value)
  elseif key:find "_ms$" then
    return duration_text(value)
  end
  return ("%.14g"):format(value)
end

--- A table's entries for a person, one per line: sorted, aligned, units written out. `skip` is a key to leave out.
local function human(values, indent, skip)
  local keys, width, lines = {}, 0, {}
  for key in pairs(values) do
    if key ~= skip then
      keys[#keys + 1] = key
      width = math.max(width, #key:gsub("_ms$", ""))
    end
  end
  table.sort(keys)
  for index, key in ipairs(keys) do
    local name = key:gsub("_ms$", "")
    lines[index] = indent .. name .. (" "):rep(width - #name) .. "  " .. value_text(key, values[key])
  end
  return table.concat(lines, "\n")
end

return each, list, human, chosen
