--- A client that stays connected: it greets a server, answers its questions and keeps what it said in a cache.
---
---     socketley run examples/client.lua
---     redis-cli -p 6379 LRANGE heard 0 -1

cache "memory" { port = 6379 }

server "oracle" {
  port = 9000,
  on_message = function(conn, line)
    conn:send("you said " .. line)
  end,
}

-- It reconnects by itself, waiting longer each time, until the server is there.
client "visitor" {
  target = "127.0.0.1:9000",
  on_connect = function(conn)
    conn:send "hello"
  end,
  on_message = function(_, line)
    cache.memory:rpush("heard", line)
  end,
}
