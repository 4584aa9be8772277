--- `socketley reload-lua`: one runtime's script.

local socketley = require "socketley"

return {
  name = "reload-lua",
  summary = "Load runtimes' scripts again, keeping connections",
  description = [[
The new version is built beside the running one; if it has an error, the running one goes on and
the error is shown. Certificates are read again too.]],
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = {
    { "socketley reload-lua chat", "one runtime's script" },
    { 'socketley reload-lua "api-*"', "all whose name begins with api-" },
  },
  run = function(a, out)
    each(a.name, out, socketley.reload_lua)
  end,
}
