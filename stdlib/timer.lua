--- Functions that run later.
---
--- ```lua
--- local timer = require "socketley.timer"
--- local tick = timer.every("1s", function() log.info "tick" end)
--- timer.after("10s", function() tick:cancel() end)
--- local save = timer.debounce("500ms", function(text) fs.write("draft.txt", text) end)
--- ```

local M = {}

--- Calls `fn` once.
M.after = after
--- Calls `fn` again and again; a turn is skipped while the last one still runs.
M.every = every
--- Waits.
M.sleep = sleep

--- A function that calls `fn` when it hasn't been called itself for a while, with the last arguments.
---@param duration number|string
---@param fn function
---@return function
function M.debounce(duration, fn)
  local waiting
  return function(...)
    local count, arguments = select("#", ...), { ... }
    if waiting then
      waiting:cancel()
    end
    waiting = after(duration, function()
      waiting = nil
      fn(unpack(arguments, 1, count))
    end)
  end
end

--- A function that calls `fn` at most once in a while; calls in between are dropped, and answer false.
---@param duration number|string
---@param fn function
---@return fun(...): boolean
function M.throttle(duration, fn)
  local open = true
  return function(...)
    if not open then
      return false
    end
    open = false
    after(duration, function() open = true end)
    fn(...)
    return true
  end
end

return M
