--- `socketley eval`: one piece of Lua.

local socketley = require "socketley"

local function answer(a, code, out)
  if a.app then
    return control.call("eval", { target = a.app, code = code })
  end
  return out.console():evaluate(code)
end

--- What the console's prompt must not hide: why the target (or anything, without one) doesn't do its job.
local function degraded(target)
  for _, row in ipairs(socketley.list() or {}) do
    local is_meant = not target or row.name == target or row.app == target
    if is_meant and row.degraded and row.degraded ~= "" then
      return row.name .. ": " .. row.degraded
    end
  end
end

return {
  name = "eval",
  summary = "Evaluate Lua in the daemon and print what it comes to",
  description = [[
Without --app the code runs beside the commands, else in that app's VM. Without code it is read
from the standard input.]],
  args = {
    {
      name = "code",
      many = true,
      optional = true,
      stdin = true,
      raw = true,
      help = "Lua (default: standard input)",
    },
  },
  flags = {
    {
      name = "app",
      short = "a",
      value = "NAME",
      help = "An app or runtime to run it in",
      complete = "runtime",
    },
    { name = "console", type = "boolean", hidden = true, help = "Answer as the console needs it" },
  },
  examples = {
    { 'socketley eval "socketley.list()"', "an expression" },
    { "socketley eval --app chat 'server.connections()'", "in an app's VM" },
    { "echo '1 + 1' | socketley eval", "from a pipe" },
  },
  run = function(a, out)
    local code = table.concat(a.code, " ")
    local value, err = answer(a, code, out)
    if err then
      return out:error(err)
    end
    if a.console then
      return out:json {
        text = value.text,
        incomplete = value.incomplete,
        degraded = degraded(a.app),
      }
    elseif value.incomplete then
      return out:error { message = "the code isn't complete: " .. code, exit_code = 2 }
    elseif value.text ~= "" then
      out:print(value.text)
    end
  end,
}
