--- `socketley edit`: a runtime's fields.

local socketley = require "socketley"

return {
  name = "edit",
  summary = "Change a runtime's fields",
  description = [[
Only what is named changes. A runtime that an app's file defines is edited in that file; the error
says where.]],
  args = { { name = "name", help = "The runtime", complete = "runtime" } },
  fields = "edit",
  examples = {
    { "socketley edit chat --max-connections 500", "takes effect at once" },
    { "socketley edit gw --backend 127.0.0.1:9001,127.0.0.1:9002", "other backends" },
  },
  run = function(a, out)
    if next(a.fields or {}) == nil then
      return out:error {
        message = "nothing to change",
        hint = "name a field, as in --max-connections 500; see `socketley edit --help`",
        exit_code = 2,
      }
    end
    local done, err = socketley.edit(a.name, a.fields)
    if not done then
      return out:error(err)
    end
    out:print(a.name)
  end,
}
