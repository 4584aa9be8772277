--- An echo server: each line goes back to whoever sent it.
---
---     socketley run examples/echo.lua
---     nc 127.0.0.1 9000

server "echo" {
  port = 9000,
  on_message = function(conn, line)
    conn:send(line)
  end,
}
