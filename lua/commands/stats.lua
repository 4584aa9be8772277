--- `socketley stats`: counters.

local socketley = require "socketley"

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
      out:record(stats, name .. "\n" .. human(stats, "  ", "name"))
      return stats
    end, true)
  end,
}
