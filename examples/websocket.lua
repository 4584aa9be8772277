--- A chat over WebSocket: who sends a text reaches everyone else, who sends bytes gets them back.
---
---     socketley run examples/websocket.lua
---     new WebSocket("ws://127.0.0.1:9000/?name=ada", "chat")       in a browser's console

server "chat" {
  port = 9000,
  websocket = true,
  subprotocols = { "chat" },

  on_websocket = function(conn, headers, request)
    local name = request.query:match "name=(%w+)"
    if not name then
      return false -- turned away: the connection closes with 1008
    end
    self.set_data(conn, "name", name)
    conn:send("welcome, " .. name)
  end,

  on_message = function(conn, message, binary)
    if binary then
      conn:send(message) -- of the kind of what it answers
    else
      self.broadcast(self.get_data(conn, "name") .. ": " .. message, { except = conn })
    end
  end,

  on_disconnect = function(conn, code, reason)
    log.info("connection %.0f left with %d %s", conn.id, code, reason)
  end,
}
