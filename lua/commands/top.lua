--- `socketley top`: what runs, second by second.

local socketley = require "socketley"

--- The counters that the table's rates come of; nothing if a name has gone.
local function read(names, out)
  local stats = {}
  for _, row in ipairs(chosen(names, out) or {}) do
    if row.status == "running" then
      stats[#stats + 1] = socketley.stats(row.name)
    end
  end
  return out.code == 0 and stats or nil
end

local function by_name(stats)
  local found = {}
  for _, row in ipairs(stats) do
    found[row.name] = row
  end
  return found
end

--- Counted things a second since `before`; nothing for a runtime that has begun meanwhile.
local function rates(now, before)
  local ms = before and now.uptime_ms and before.uptime_ms and now.uptime_ms - before.uptime_ms
  if not ms or ms <= 0 then
    return {}
  end
  local function rate(key)
    return math.floor(((now[key] or 0) - (before[key] or 0)) * 1000 / ms + 0.5)
  end
  return {
    messages = rate(now.commands and "commands" or "messages"),
    bytes_in = rate "bytes_in",
    bytes_out = rate "bytes_out",
  }
end

local COLUMNS = {
  "name",
  "type",
  "connections",
  { key = "messages", title = "MSG/S" },
  { key = "bytes_in", title = "IN/S", kind = "bytes" },
  { key = "bytes_out", title = "OUT/S", kind = "bytes" },
  { key = "memory", kind = "bytes" },
  { key = "uptime_ms", title = "UPTIME", kind = "duration" },
}

local function rows_of(stats, before)
  local rows = {}
  for index, now in ipairs(stats) do
    local rate = rates(now, before[now.name])
    rows[index] = {
      name = now.name,
      type = now.type,
      connections = now.connections,
      messages = rate.messages,
      bytes_in = rate.bytes_in,
      bytes_out = rate.bytes_out,
      memory = now.memory,
      uptime_ms = now.uptime_ms,
    }
  end
  return rows
end

return {
  name = "top",
  summary = "Show what runs, second by second, until Ctrl-C",
  description = [[
Messages of a server or client are what its handlers get, of a proxy requests, of a cache commands.
`socketley stats` has all counters, once.]],
  args = {
    {
      name = "name",
      many = true,
      optional = true,
      help = "Names or patterns (default: all)",
      complete = "runtime",
    },
  },
  flags = {
    {
      name = "interval",
      short = "i",
      type = "duration",
      value = "TIME",
      default = "1s",
      help = "From one table to the next",
    },
    { name = "count", short = "n", type = "integer", value = "N", help = "End after N tables" },
  },
  format = true,
  examples = {
    { "socketley top", "all that runs" },
    { 'socketley top "api-*" -i 5s', "some of it, every five seconds" },
    { "socketley top -n 1 --format json", "one table, for programs" },
  },
  run = function(a, out)
    if a.format == "json" and a.count ~= 1 then
      return out:error {
        message = "--format json is one value, and top goes on",
        hint = "use --format jsonl, or -n 1",
        exit_code = 2,
      }
    end
    local interval_ms = math.max(a.interval, 100)
    local last = read(a.name, out)
    local shown = 0
    while last and not (a.count and shown >= a.count) do
      control.wait(interval_ms)
      local stats = read(a.name, out)
      if not stats then
        return
      end
      if a.count ~= 1 then
        out:clear()
      end
      out:table(rows_of(stats, by_name(last)), COLUMNS)
      last, shown = stats, shown + 1
    end
  end,
}
