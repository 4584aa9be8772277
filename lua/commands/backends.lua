--- `socketley backends`: how a proxy's backends fare.

local socketley = require "socketley"

return {
  name = "backends",
  summary = "Show a proxy's backends",
  description = [[
States: up, drain and maintenance as an operator says; down by health checks; failing after failures
in a row, until one request finds it well again; unresolved while its name has no address.]],
  args = { { name = "name", help = "The proxy", complete = "runtime" } },
  format = true,
  examples = {
    { "socketley backends gw", "states, weights, requests under way, errors, latencies" },
    { "socketley backends gw --format json", "for programs" },
  },
  run = function(a, out)
    local rows, err = socketley.backends(a.name)
    if not rows then
      return out:error(err)
    end
    for _, row in ipairs(rows) do
      row.latency = row.latency_us > 0 and ("%.2f ms"):format(row.latency_us / 1000) or "-"
      row.backup = row.backup and "yes" or "-"
    end
    out:table(rows, {
      "name",
      "address",
      "state",
      "weight",
      "backup",
      { key = "in_flight", title = "IN FLIGHT" },
      "requests",
      "errors",
      "retries",
      "latency",
    })
  end,
}
