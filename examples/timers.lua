--- Time: a clock for everyone, a reminder for one, and a handler that waits without holding anyone up.
---
---     socketley run examples/timers.lua
---     nc 127.0.0.1 9000        then: remind SECONDS TEXT, or slow

local clock = server "clock" {
  port = 9000,
  on_message = function(conn, line)
    local seconds, text = line:match "^remind ([%d.]+) (.+)$"
    if seconds then
      after(seconds .. "s", function()
        conn:send("reminder: " .. text)
      end)
      conn:send "noted"
    elseif line == "slow" then
      sleep "200ms" -- only this connection waits
      conn:send "done"
    else
      conn:send "remind SECONDS TEXT, or slow"
    end
  end,
}

local ticks = 0
every("1s", function()
  ticks = ticks + 1
  clock:broadcast("tick " .. ticks)
end)
