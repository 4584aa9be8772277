--- `socketley stats`: counters.

local socketley = require "socketley"

local function human(key, value)
  if type(value) == "table" then
    return table.concat(value, ", ")
  elseif type(value) ~= "number" then
    return tostring(value)
  elseif key:find "bytes" or key:find "memory" then
    return bytes_text(value)
  end
  return value == math.floor(value) and ("%d"):format(value) or ("%.3f"):format(value)
end

--- One runtime as `name` and an indented line per counter.
local function block(name, stats)
  local keys, width = {}, 0
  for key in pairs(stats) do
    if key ~= "name" then
      keys[#keys + 1] = key
      width = math.max(width, #key)
    end
  end
  table.sort(keys)
  local lines = { name }
  for index, key in ipairs(keys) do
    lines[index + 1] = ("  %s%s  %s"):format(key, (" "):rep(width - #key), human(key, stats[key]))
  end
  return table.concat(lines, "\n")
end

return {
  name = "stats",
  summary = "Show runtimes' counters",
  args = {
    {
      name = "name",
      many = true,
      optional = true,
      help = "Names or patterns (default: all)",
      complete = "runtime",
    },
  },
  format = true,
  examples = {
    { "socketley stats chat", "connections, messages, bytes, errors" },
    { "socketley stats --format json", "all runtimes, for programs" },
  },
  run = function(a, out)
    local names = a.name or { "*" }
    if not a.name and #(socketley.list() or {}) == 0 then
      return
    end
    each(names, out, function(name)
      local stats, err = socketley.stats(name)
      if not stats then
        return nil, err
      end
      stats.name = stats.name or name
      out:record(stats, block(name, stats))
      return stats
    end, true)
  end,
}
