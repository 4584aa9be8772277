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
    if wanted[row.name] then
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
  out:table(kept, { "id", "name", "type", "status", "listen", "connections", "app", last, GENERATION, DEGRADED })
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

return each, list, bytes_text
