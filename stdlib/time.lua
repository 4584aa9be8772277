--- Times and durations. The present is that of the batch of events that runs: it doesn't move inside a handler.
---
--- ```lua
--- local time = require "socketley.time"
--- print(time.ms(), time.iso())                       --> 1767229200000  2026-01-01T01:00:00.000Z
--- print(time.seconds "5m")                           --> 300
--- print(time.parse "2023-11-14T22:13:20Z")           --> 1700000000000
--- ```

local clock = require "socketley.clock"

local M = {}

local UNITS = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }

--- Milliseconds since 1970.
---@return integer
function M.ms()
  return clock.unix_ms()
end

--- Seconds since 1970, with their fraction.
---@return number
function M.now()
  return clock.unix_ms() / 1000
end

--- Seconds on a clock that never steps.
---@return number
function M.monotonic()
  return clock.monotonic_ms() / 1000
end

--- The seconds of a duration such as `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"` or a number of seconds.
---@param duration number|string
---@return number
function M.seconds(duration)
  if type(duration) == "number" then
    return duration
  elseif type(duration) == "string" then
    local amount, unit = duration:match("^%s*([%d%.]+)%s*(%a+)%s*$")
    if amount and UNITS[unit] and tonumber(amount) then
      return tonumber(amount) * UNITS[unit]
    end
  end
  error(('time.seconds: expected seconds or a duration such as "500ms" or "30s", got %s'):format(tostring(duration)), 2)
end

--- A duration as people read it: `1h 2m`, `3.5s`, `20ms`.
---@param seconds number
---@return string
function M.human(seconds)
  if seconds < 1 then
    return ("%dms"):format(seconds * 1000)
  elseif seconds < 60 then
    return ("%.3gs"):format(seconds)
  end
  local whole = math.floor(seconds)
  for _, pair in ipairs { { 86400, "d", 3600, "h" }, { 3600, "h", 60, "m" }, { 60, "m", 1, "s" } } do
    if whole >= pair[1] then
      local rest = math.floor(whole % pair[1] / pair[3])
      return math.floor(whole / pair[1]) .. pair[2] .. (rest > 0 and " " .. rest .. pair[4] or "")
    end
  end
end

--- A time as ISO 8601 in UTC.
---@param ms? integer (default: now)
---@return string
function M.iso(ms)
  ms = ms or clock.unix_ms()
  return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(ms / 1000)) .. (".%03dZ"):format(ms % 1000)
end

--- Days from 1970 to a date of the Gregorian calendar.
local function days(year, month, day)
  year = month <= 2 and year - 1 or year
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

--- The milliseconds of an ISO 8601 time with a zone (`Z` or `+01:00`); nil if it is none.
---@param text string
---@return integer?
function M.parse(text)
  local year, month, day, hour, minute, second, rest =
    tostring(text):match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
  if not year then
    return nil
  end
  local fraction, zone = rest:match("^%.(%d+)(.*)$")
  zone = zone or rest
  local sign, zone_hour, zone_minute = zone:match("^([+-])(%d%d):?(%d%d)$")
  if not sign and zone ~= "Z" and zone ~= "z" then
    return nil
  end
  month, day, hour, minute, second = tonumber(month), tonumber(day), tonumber(hour), tonumber(minute), tonumber(second)
  if month < 1 or month > 12 or day < 1 or day > 31 or hour > 23 or minute > 59 or second > 60 then
    return nil
  end
  local total = days(tonumber(year), month, day) * 86400 + hour * 3600 + minute * 60 + second
  if sign then
    total = total - (sign == "-" and -1 or 1) * (tonumber(zone_hour) * 3600 + tonumber(zone_minute) * 60)
  end
  return total * 1000 + (fraction and math.floor(tonumber("0." .. fraction) * 1000) or 0)
end

--- A time as HTTP's headers have it.
---@param ms? integer (default: now)
---@return string
function M.http(ms)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor((ms or clock.unix_ms()) / 1000))
end

return M
