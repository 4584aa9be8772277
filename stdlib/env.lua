--- The daemon's environment. Closed in the restricted profile.
---
--- ```lua
--- local env = require "socketley.env"
--- local port = env.number("PORT", 9000)
--- local secret = env.require "SESSION_SECRET"
--- ```

local M = {}

local TRUE = { ["1"] = true, ["true"] = true, yes = true, on = true }
local FALSE = { ["0"] = true, ["false"] = true, no = true, off = true, [""] = true }

--- A variable, or the default.
---@param name string
---@param default? string
---@return string?
function M.get(name, default)
  if not os.getenv then
    error("env: the restricted profile sees no environment", 2)
  elseif type(name) ~= "string" then
    error("env.get: expected a name, got " .. type(name), 2)
  end
  return os.getenv(name) or default
end

--- A variable that must be there.
---@param name string
---@return string
function M.require(name)
  local value = M.get(name)
  if not value then
    error("env: " .. name .. " isn't set in the daemon's environment", 2)
  end
  return value
end

--- A variable as a number, or the default.
---@param name string
---@param default? number
---@return number?
function M.number(name, default)
  local text = M.get(name)
  if not text then
    return default
  end
  local value = tonumber(text)
  if not value then
    error(("env: %s: expected a number, got %q"):format(name, text), 2)
  end
  return value
end

--- A variable as true or false (1, true, yes, on; 0, false, no, off), or the default.
---@param name string
---@param default? boolean
---@return boolean?
function M.boolean(name, default)
  local text = M.get(name)
  if not text then
    return default
  end
  local lower = text:lower()
  if not TRUE[lower] and not FALSE[lower] then
    error(("env: %s: expected true or false, got %q"):format(name, text), 2)
  end
  return TRUE[lower] or false
end

return M
