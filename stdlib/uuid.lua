--- Universally unique identifiers (RFC 9562).
---
--- ```lua
--- local uuid = require "socketley.uuid"
--- print(uuid.v4())       -- by chance
--- print(uuid.v7())       -- by time and chance: later ones sort after earlier ones
--- ```

local crypto = require "socketley.crypto"
local hex = require "socketley.hex"
local time = require "socketley.time"

local M = {}

local function dashed(digits)
  return digits:sub(1, 8) .. "-" .. digits:sub(9, 12) .. "-" .. digits:sub(13, 16) .. "-" .. digits:sub(17, 20) .. "-"
    .. digits:sub(21)
end

--- The variant's two bits and three hexadecimal digits by chance, as text.
local function variant(digits)
  local first = tonumber(digits:sub(1, 1), 16) % 4 + 8
  return ("%x"):format(first) .. digits:sub(2)
end

--- One made by chance.
---@return string
function M.v4()
  local digits = hex.encode(crypto.random(16))
  return dashed(digits:sub(1, 12) .. "4" .. digits:sub(14, 16) .. variant(digits:sub(17)))
end

local last_ms, last_count = 0, 0

--- One that sorts by the time it was made, to the millisecond and, in this VM, beyond.
---@return string
function M.v7()
  local ms = time.ms()
  if ms > last_ms then
    last_ms, last_count = ms, 0
  else
    last_count = last_count + 1
    if last_count > 0xfff then
      last_ms, last_count = last_ms + 1, 0
    end
  end
  local digits = hex.encode(crypto.random(8))
  local stamp = ("%04x%08x"):format(math.floor(last_ms / 2 ^ 32), last_ms % 2 ^ 32)
  return dashed(stamp .. ("7%03x"):format(last_count) .. variant(digits))
end

--- Whether a text is a UUID of any version.
---@param text string
function M.is(text)
  local h = "%x%x%x%x"
  return type(text) == "string"
    and text:match("^" .. h .. h .. "%-" .. h .. "%-" .. h .. "%-" .. h .. "%-" .. h .. h .. h .. "$") ~= nil
end

return M
