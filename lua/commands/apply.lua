--- `socketley apply`: the daemon's runtimes become what the file says.

local socketley = require "socketley"

local COLUMNS = { { key = "op", title = "" }, "type", "name", "detail" }

return {
  name = "apply",
  summary = "Make the daemon's runtimes what an app's file says",
  description = [[
All or nothing: the file is loaded and validated against the machine first (ports, names).
Connections of runtimes that stay are kept. From then on the daemon watches the file and its
modules and applies them again when they are saved.]],
  args = { { name = "file", type = "path", many = true, help = "Apps' Lua files" } },
  format = true,
  examples = { { "socketley apply chat.lua", "start or update the app chat" } },
  run = function(a, out)
    for _, file in ipairs(a.file) do
      local done, err = socketley.apply(file)
      if not done then
        out:error(err)
      else
        out:table(done.changes or {}, COLUMNS)
        if #(done.changes or {}) == 0 and out.tty then
          out:note "nothing to change"
        end
      end
    end
  end,
}
