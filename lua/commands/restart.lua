--- `socketley restart`: one runtime.

local socketley = require "socketley"

return {
  name = "restart",
  summary = "Stop and start runtimes",
  description = "Connections are closed; to load changed code without that, use reload-lua.",
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = {
    { "socketley restart chat", "one runtime" },
    { 'socketley restart "api-*"', "all whose name begins with api-" },
  },
  run = function(a, out)
    each(a.name, out, socketley.restart)
  end,
}
