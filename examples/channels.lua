--- Channels: what anyone publishes in the cache reaches every browser, and what a browser says reaches everyone who has
--- subscribed.
---
---     socketley run examples/channels.lua
---     new WebSocket("ws://127.0.0.1:9000")                    in a browser's console
---     redis-cli -p 6379 PUBLISH news "hello, browsers"
---     redis-cli -p 6379 SUBSCRIBE said

cache "db" { port = 6379 }

local page = server "page" {
  port = 9000,
  websocket = true,
  on_message = function(_, message)
    publish("said", message)
  end,
}

pubsub.on("news", function(message) page:broadcast(message) end)

-- A pattern hears all channels that fit it; the second argument says which one it was.
pubsub.on("alert:*", function(message, channel)
  page:broadcast(channel:upper() .. "! " .. message)
end)
