--- `socketley send`: a message to a runtime's connections.

local socketley = require "socketley"

return {
  name = "send",
  summary = "Send a message: to all clients of a server, or to a client's peer",
  description = [[
The message is sent as it was typed, with all its spaces and newlines; several words are one
message. Without a message it is read from the standard input. On the line protocol the final
newline is added if it is missing.]],
  args = {
    { name = "name", help = "The runtime", complete = "runtime" },
    {
      name = "message",
      many = true,
      optional = true,
      stdin = true,
      raw = true,
      help = "The message (default: standard input)",
    },
  },
  flags = {
    { name = "to", type = "integer", value = "ID", help = "Only to the connection with this id" },
  },
  examples = {
    { 'socketley send chat "Hello, world!"', "to everyone connected to chat" },
    { "date | socketley send chat", "the standard input" },
  },
  run = function(a, out)
    local count, err = socketley.send(a.name, table.concat(a.message, " "), a.to)
    if not count then
      return out:error(err)
    end
    if out.tty then
      out:note(count == 1 and "sent to 1 connection" or ("sent to %d connections"):format(count))
    end
  end,
}
