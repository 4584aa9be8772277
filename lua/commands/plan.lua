--- `socketley plan`: what `apply` would do.

local socketley = require "socketley"

local COLUMNS = { { key = "op", title = "" }, "type", "name", "detail" }

return {
  name = "plan",
  summary = "Show what applying an app's file would change",
  description = [[
Every line is a runtime: + is made, ~ is changed, - is removed. Nothing is touched.]],
  args = { { name = "file", type = "path", help = "The app's Lua file" } },
  format = true,
  examples = { { "socketley plan chat.lua", "+ ~ - against the daemon" } },
  run = function(a, out)
    local plan, err = socketley.plan(a.file)
    if not plan then
      return out:error(err)
    end
    if #plan.changes == 0 and out.tty then
      return out:note "nothing would change"
    end
    out:table(plan.changes, COLUMNS)
  end,
}
