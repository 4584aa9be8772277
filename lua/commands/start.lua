--- `socketley start`: runtimes, and with -i a terminal attached to one.

local socketley = require "socketley"

--- Messages of the runtime go out, the caller's lines go in, until either ends.
local function attach(name, out)
  local ok, err = control.subscribe("messages", { name = name })
  if err then
    return out:error(err)
  end
  if out.tty then
    out:note(("attached to %s: lines are sent, Ctrl-D detaches"):format(name))
  end
  for kind, value in control.next_item do
    if kind == "end" then
      return
    elseif kind == "line" then
      local sent, send_err = socketley.send(name, value)
      if not sent then
        out:error(send_err)
      end
    elseif value.dropped then
      out:note(("%d messages were dropped: this terminal is too slow"):format(value.dropped))
    elseif value.ended then
      return out:note(name .. " has ended")
    else
      out:record(value, value.text)
    end
  end
end

return {
  name = "start",
  summary = "Start runtimes, or attach to one with -i",
  description = [[
With -i the runtime's messages are printed and the lines you type are sent: by a server to all its
clients, by a client to its peer. A running one is attached to as it is. Ctrl-D (the end of the
input) detaches, the runtime goes on.]],
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  flags = {
    {
      name = "interactive",
      short = "i",
      type = "boolean",
      help = "Attach: messages out, lines in",
      input = true,
    },
  },
  format = true,
  examples = {
    { "socketley start chat", "one runtime" },
    { 'socketley start "api-*"', "all whose name begins with api-" },
    { "socketley start -i chat", "and talk to its clients" },
  },
  run = function(a, out)
    if not a.interactive then
      return each(a.name, out, socketley.start)
    end
    local names, err = socketley.match(a.name)
    if not names then
      return out:error(err)
    elseif #names ~= 1 then
      return out:error { message = "-i attaches to one runtime, not " .. #names, exit_code = 2 }
    end
    local row, row_err = socketley.get(names[1])
    if not row then
      return out:error(row_err)
    end
    if row.status ~= "running" then
      local started, start_err = socketley.start(row.name)
      if not started then
        return out:error(start_err)
      end
    end
    attach(row.name, out)
  end,
}
