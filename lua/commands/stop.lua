--- `socketley stop`: one runtime.

local socketley = require "socketley"

return {
  name = "stop",
  summary = "Stop runtimes",
  description = [[
Connections get a moment to end. A stopped runtime stays stopped after a restart of the daemon.]],
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = {
    { "socketley stop chat", "one runtime" },
    { 'socketley stop "api-*"', "all whose name begins with api-" },
  },
  run = function(a, out)
    each(a.name, out, socketley.stop)
  end,
}
