--- Trying again: with growing pauses, and not at all while something is known to be broken.
---
--- ```lua
--- local retry = require "socketley.retry"
--- local res, err = retry.call(function() return http.get(address) end, { attempts = 5, base = "100ms" })
---
--- local breaker = retry.breaker { failures = 5, cooldown = "10s" }
--- local reply, problem = breaker:call(function() return db:get "key" end)   -- problem.code == "open": not tried
--- ```
--- What is tried answers a value, or `nil, err`, or raises an error.

local time = require "socketley.time"

---@class retry.Options
---@field attempts? integer (default: 3)
---@field base? number|string the first pause at most; it doubles (default: "100ms")
---@field max? number|string the longest pause (default: "10s")
---@field retry_if? fun(err: any): boolean whether to try again (default: always)

local M = {}

--- Calls `fn(attempt)` until it succeeds; between, a pause between half and all of a bound that doubles.
--- Answers what `fn`
--- answers, or its last `nil, err`; an error of the last attempt is raised.
---@param fn fun(attempt: integer): any, any
---@param options? retry.Options
function M.call(fn, options)
  options = options or {}
  local attempts = options.attempts or 3
  local bound, longest = time.seconds(options.base or "100ms"), time.seconds(options.max or "10s")
  for attempt = 1, attempts do
    local ran, value, err = pcall(fn, attempt)
    if ran and (value ~= nil or err == nil) then
      return value, err
    end
    local problem = ran and err or value
    if tostring(problem) == "cancelled" then
      error(problem, 0)
    elseif attempt == attempts or options.retry_if and not options.retry_if(problem) then
      if not ran then
        error(value, 0)
      end
      return nil, err
    end
    sleep(bound * (0.5 + math.random() / 2))
    bound = math.min(bound * 2, longest)
  end
end

local Breaker = {}
Breaker.__index = Breaker

--- A circuit breaker: after `failures` in a row nothing is tried for the `cooldown`, then one call is, alone.
---@param options? { failures?: integer, cooldown?: number|string }
function M.breaker(options)
  options = options or {}
  return setmetatable({ failures = options.failures or 5, cooldown = time.seconds(options.cooldown or "10s"), count = 0,
    state = "closed" }, Breaker)
end

local function settle(self, ok)
  if ok then
    self.count, self.state = 0, "closed"
  else
    self.count = self.count + 1
    if self.state == "half-open" or self.count >= self.failures then
      self.state, self.opened = "open", time.monotonic()
    end
  end
end

local OpenError = { __tostring = function(err) return err.message end }

--- Calls `fn`, unless the breaker is open: then `nil, err` with `err.code` "open".
function Breaker:call(fn, ...)
  if self.state == "open" and time.monotonic() - self.opened >= self.cooldown then
    self.state = "half-open"
  elseif self.state ~= "closed" then
    return nil, setmetatable({ code = "open", message = "not tried: it failed too often just now" }, OpenError)
  end
  local ran, value, err = pcall(fn, ...)
  settle(self, ran and (value ~= nil or err == nil))
  if not ran then
    error(value, 0)
  end
  return value, err
end

return M
