--- A server with a command of its own: while it runs, `socketley kick NAME --reason TEXT` drops a user.
---
---     socketley apply examples/command.lua
---     nc 127.0.0.1 9000        the first line is your name
---     socketley kick --help

local users = server "door" {
  port = 9000,
  state = { conn_of = {} }, -- name to connection
  on_connect = function(conn)
    conn:send "who are you?"
  end,
  on_message = function(conn, name)
    self.state.conn_of[name] = conn
    conn:send("welcome, " .. name)
  end,
}

command "kick" {
  summary = "Drop a user",
  args = { { name = "user", help = "The name that was given at the door" } },
  flags = { { name = "reason", default = "bye", help = "What the user is told" } },
  run = function(a, out)
    local conn = users.state.conn_of[a.user]
    if not conn then
      return out:error("nobody here is called " .. a.user)
    end
    users.state.conn_of[a.user] = nil
    conn:send(a.reason)
    conn:close()
    out:print("dropped " .. a.user)
  end,
}
