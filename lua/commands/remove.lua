--- `socketley remove`: one runtime.

local socketley = require "socketley"

return {
  name = "remove",
  aliases = { "rm" },
  summary = "Stop runtimes and forget them",
  description = "A runtime that an app's file defines is removed there; the error says where.",
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = {
    { "socketley remove chat", "one runtime" },
    { 'socketley remove "api-*"', "all whose name begins with api-" },
  },
  run = function(a, out)
    each(a.name, out, socketley.remove)
  end,
}
