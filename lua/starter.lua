--- A chat: everyone who connects hears what the others say. Run it with `socketley run` and this file's name, then
--- `nc 127.0.0.1 9000` in two terminals. Save the file while it runs: it reloads, connections stay.

local chat = server "chat" {
  port = 9000,

  on_connect = function(conn)
    conn:send "welcome"
  end,

  on_message = function(conn, msg)
    chat:broadcast(conn.id .. ": " .. msg, { except = conn })
  end,
}
