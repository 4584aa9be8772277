--- `socketley reload`: one runtime.

local socketley = require "socketley"

return {
  name = "reload",
  summary = "Restart runtimes (the same as restart)",
  description = "Connections are closed; to load changed code without that, use reload-lua.",
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = {
    { "socketley reload chat", "one runtime" },
    { 'socketley reload "api-*"', "all whose name begins with api-" },
  },
  run = function(a, out)
    each(a.name, out, socketley.reload)
  end,
}
