--- `socketley logs`: what the daemon, the runtimes and their scripts wrote.

local socketley = require "socketley"

local function line(record, all)
  local seconds = math.floor(record.time_ms / 1000)
  local time = ("%s.%03d"):format(os.date("%H:%M:%S", seconds), record.time_ms % 1000)
  local source = all and record.source ~= "" and record.source and record.source .. ": " or ""
  return ("%s %-5s %s%s"):format(time, record.level:upper(), source, record.text)
end

--- New records; those that `logs` has just given are not given again.
local function follow(a, out, last)
  for kind, record in control.next_item do
    if kind == "event" and record.dropped then
      out:note(("%d lines were dropped: this terminal is too slow"):format(record.dropped))
    elseif kind == "event" and record.number > last then
      out:record(record, line(record, not a.name))
    end
  end
end

return {
  name = "logs",
  summary = "Show log lines of the daemon, a runtime or an app",
  args = {
    {
      name = "name",
      optional = true,
      help = "A runtime or app (default: all)",
      complete = "runtime",
    },
  },
  flags = {
    { name = "follow", short = "f", type = "boolean", help = "Go on with new lines until Ctrl-C" },
    {
      name = "tail",
      short = "n",
      type = "integer",
      value = "N",
      default = 100,
      help = "The last N lines",
    },
    {
      name = "since",
      type = "duration",
      value = "TIME",
      help = "Only lines of the last TIME: 10m, 2h",
    },
    {
      name = "level",
      value = "LEVEL",
      values = { "debug", "info", "warn", "error" },
      help = "Only lines of at least this importance",
    },
  },
  format = true,
  examples = {
    { "socketley logs chat", "the last 100 lines about chat" },
    { "socketley logs -f --tail 0", "everything from now on" },
    { "socketley logs --since 10m --format jsonl", "for programs" },
  },
  run = function(a, out)
    if a.follow and a.format == "json" then
      return out:error {
        message = "--format json ends with the last line, and --follow has none",
        hint = "use --format jsonl",
        exit_code = 2,
      }
    end
    if a.follow then
      local _, err = control.subscribe("logs", { name = a.name, level = a.level })
      if err then
        return out:error(err)
      end
    end
    local since_ms = a.since and os.time() * 1000 - a.since
    local records, err =
      socketley.logs { name = a.name, tail = a.tail, since_ms = since_ms, level = a.level }
    if not records then
      return out:error(err)
    end
    local last = 0
    for _, record in ipairs(records) do
      last = record.number
      out:record(record, line(record, not a.name))
    end
    if a.follow then
      follow(a, out, last)
    end
  end,
}
