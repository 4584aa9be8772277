--- A chat server, a Redis-compatible cache and a proxy in front, in one file:
---
---     socketley run examples/quickstart.lua
---
--- Then, in other terminals:
---
---     nc 127.0.0.1 9000                             chat: type lines, or /name YOURS
---     nc 127.0.0.1 8080                             the same, through the proxy
---     redis-cli -p 6379 LRANGE chat:history 0 -1    what was said, straight from the cache
---
--- Edit this file while people are connected: what you save runs at once, and nobody is disconnected.

local HISTORY = 100 -- lines kept
local SHOWN = 10 -- lines shown to those who come

-- A cache is a keyspace: Redis clients reach it by its port, the handlers below as `cache.db`, in process.
cache "db" { port = 6379 }

-- A server's handlers get the connection first. Each message is one line.
local chat = server "chat" {
  port = 9000,

  on_connect = function(conn)
    local name = "guest" .. cache.db:incr("chat:guests")
    cache.db:hset("chat:names", conn.id, name)
    conn:send("Welcome, " .. name .. "! Say something, or /name YOURS.")
    for _, line in ipairs(cache.db:lrange("chat:history", -SHOWN, -1)) do
      conn:send(line)
    end
  end,

  on_message = function(conn, line)
    local name = line:match "^/name (%w+)$"
    if name then
      cache.db:hset("chat:names", conn.id, name)
      conn:send("You are " .. name .. ".")
      return
    end
    local said = (cache.db:hget("chat:names", conn.id) or "someone") .. ": " .. line
    cache.db:rpush("chat:history", said)
    cache.db:ltrim("chat:history", -HISTORY, -1)
    self:broadcast(said)
  end,

  on_disconnect = function(conn)
    cache.db:hdel("chat:names", conn.id)
  end,
}

-- A proxy passes connections on, to addresses or to runtimes of this file.
proxy "gw" {
  port = 8080,
  protocol = "tcp",
  backends = { chat },
}
