--- `socketley remove`: one runtime.

local socketley = require "socketley"

return {
  name = "remove",
  aliases = { "rm" },
  summary = "Stop runtimes and forget them",
  description = "A runtime that an app's file defines is removed there; the error says where.",
  flags = {
    {
      name = "force",
      short = "f",
      type = "boolean",
      help = "No error for names that there aren't",
    },
  },
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = {
    { "socketley remove chat", "one runtime" },
    { 'socketley remove "api-*"', "all whose name begins with api-" },
    { "socketley remove -f chat", "whether it is there or not" },
  },
  run = function(a, out)
    local names = {}
    for _, name in ipairs(a.name) do
      if not a.force or #(socketley.match(name) or {}) > 0 then
        names[#names + 1] = name
      end
    end
    each(names, out, socketley.remove)
  end,
}
